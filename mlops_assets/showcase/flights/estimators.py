"""The estimators that compete in the flights showcase.

Each gets the seed and returns an unfitted scikit-learn pipeline over the inputs of the models.
"""

from typing import Any

CATEGORIES = ("carrier", "origin")


def gradient_boosting(seed: int) -> Any:
    """Histogram gradient boosting; the airline and the airport of departure as categories."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return _boosted(HistGradientBoostingClassifier, seed, max_iter=200, min_samples_leaf=200)


def gradient_boosting_of_minutes(seed: int) -> Any:
    """The same for the mean of a number: fewer and smaller trees, for minutes are noisier."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    small = {"max_iter": 150, "max_leaf_nodes": 20, "min_samples_leaf": 300}
    return _boosted(HistGradientBoostingRegressor, seed, **small)


def _boosted(kind: Any, seed: int, **size: int) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=float("nan"))
    columns = ColumnTransformer([("categories", encode, CATEGORIES)], remainder="passthrough")
    boosting = kind(
        learning_rate=0.05,
        categorical_features=list(range(len(CATEGORIES))),
        early_stopping=False,
        random_state=seed,
        **size,
    )
    return Pipeline([("columns", columns), ("boosting", boosting)])


def logistic_regression(seed: int) -> Any:
    """Logistic regression on standardized numbers; the unknown ones at their median."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    regression = LogisticRegression(C=0.1, solver="newton-cholesky", random_state=seed)
    return Pipeline([("columns", _dense(scaled=True)), ("regression", regression)])


def ridge(seed: int) -> Any:
    """Linear regression with a penalty, on standardized numbers."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import Pipeline

    regression = Ridge(alpha=100.0, random_state=seed)
    return Pipeline([("columns", _dense(scaled=True)), ("regression", regression)])


def random_forest(seed: int) -> Any:
    """A forest of shallow trees, each grown on a tenth of the rows."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import Pipeline

    # One job: with several, the order in which the trees' votes are added changes the last bits.
    forest = RandomForestClassifier(
        n_estimators=50, max_depth=12, min_samples_leaf=20, max_samples=0.1, random_state=seed
    )
    return Pipeline([("columns", _dense(scaled=False)), ("forest", forest)])


def _dense(*, scaled: bool) -> Any:
    """All columns as numbers: categories one-hot, unknown numbers at the median and marked."""
    from sklearn.compose import ColumnTransformer, make_column_selector
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    fill = ("fill", SimpleImputer(strategy="median", add_indicator=True))
    scale = [("scale", StandardScaler())] if scaled else []
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer(
        [
            ("categories", encode, CATEGORIES),
            ("numbers", Pipeline([fill, *scale]), make_column_selector(dtype_include="number")),
        ]
    )
