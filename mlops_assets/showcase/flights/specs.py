"""The models of the flights showcase, and the rows that they predict."""

import datetime as dt
from typing import Any

from mlops_assets.showcase.flights.features import FLIGHT_FEATURES, flights_in_utc
from mlops_assets.showcase.flights.source import AIRPORTS, FLIGHTS
from mlops_assets.spec import FoldPolicy, Label, ModelSpec, Slice
from mlops_assets.tables import Column, EntityRows, Tables
from mlops_assets.windows import Windows

TRAIN_START = dt.date(2013, 1, 1)

LEAD_HOURS = 2


def scheduled_flights(tables: Tables) -> Any:
    """One row per scheduled flight, at the time of prediction: two hours before departure."""
    import ibis

    flights = flights_in_utc(tables)
    return flights.select(
        "flight_id",
        "carrier",
        "origin",
        "dest",
        "tailnum",
        "scheduled_departure_minute",
        "distance",
        scheduled_weekday=flights.weekday,
        event_timestamp=flights.scheduled_departure - ibis.interval(hours=LEAD_HOURS),
        arrives_late=flights.late.cast("int64"),
        outcome_known_at=flights.known_at,
    )


SCHEDULED_FLIGHTS = EntityRows(
    name="scheduled_flights",
    description="Every scheduled flight, two hours before departure, with its outcome.",
    row_id="flight_id",
    sources=(FLIGHTS, AIRPORTS),
    columns=(
        Column(name="flight_id", type="string", nullable=False),
        Column(name="carrier", type="string", nullable=False),
        Column(name="origin", type="string", nullable=False),
        Column(name="dest", type="string", nullable=False),
        Column(name="tailnum", type="string"),
        Column(name="scheduled_departure_minute", type="int", nullable=False),
        Column(name="distance", type="float", nullable=False),
        Column(name="scheduled_weekday", type="int", nullable=False),
        Column(name="event_timestamp", type="time", nullable=False),
        Column(name="arrives_late", type="int", nullable=False, minimum=0, maximum=1),
        Column(name="outcome_known_at", type="time", nullable=False),
    ),
    build=scheduled_flights,
)


CATEGORIES = ("carrier", "origin")


def gradient_boosting(seed: int) -> Any:
    """Histogram gradient boosting; the airline and the airport of departure as categories."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=float("nan"))
    columns = ColumnTransformer([("categories", encode, CATEGORIES)], remainder="passthrough")
    boosting = HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=200,
        min_samples_leaf=200,
        categorical_features=list(range(len(CATEGORIES))),
        early_stopping=False,
        random_state=seed,
    )
    return Pipeline([("columns", columns), ("boosting", boosting)])


def logistic_regression(seed: int) -> Any:
    """Logistic regression on standardized numbers; the unknown ones at their median."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    regression = LogisticRegression(C=0.1, solver="newton-cholesky", random_state=seed)
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


FLIGHT_DELAY = ModelSpec(
    name="flight_delay",
    description="Two hours before departure: will the flight arrive 15 minutes late or more, "
    "be cancelled or diverted?",
    rows=SCHEDULED_FLIGHTS,
    label=Label(column="arrives_late", known_at="outcome_known_at"),
    features=FLIGHT_FEATURES,
    categories=CATEGORIES,
    estimators={
        "logistic_regression": logistic_regression,
        "gradient_boosting": gradient_boosting,
        "random_forest": random_forest,
    },
    # Four months of flights: on fewer, models that need much data lose for no fault of theirs.
    folds=FoldPolicy(most_rows=120_000),
    slices=(
        Slice(name="carrier"),
        Slice(name="origin"),
        Slice(name="hour", column="departure_hour", edges=(9, 12, 15, 18)),
    ),
    windows=Windows.monthly(TRAIN_START, holdout="2013-11"),
    owners=("team:flight-operations",),
)
