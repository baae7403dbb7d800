"""Trees on plain values are the trees of scikit-learn, to the last bit, or they are not used."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.core import tasks
from mlops_assets.core.calibrators import METHODS
from mlops_assets.core.training import fit
from mlops_assets.serving.quick import quick_model
from mlops_assets.serving.quick_trees import QuickTrees, Unsupported
from mlops_assets.serving.served_model import ServedModel, frame_of
from mlops_assets.spec import FoldPolicy
from mlops_assets.tables import Column
from mlops_assets_tests.core.selection_world import rows_in_time

NAMES = ("shop", "told", "rare")
COLUMNS = (
    Column(name="shop", type="string"),
    Column(name="told", type="float"),
    Column(name="rare", type="float"),
)
FRAME = partial(frame_of, COLUMNS)


def world(n: int = 400) -> tuple[pd.DataFrame, Any]:
    random = np.random.default_rng(3)
    told = random.normal(size=n).round(2)
    rare = np.where(random.random(n) < 0.3, np.nan, random.integers(0, 5, n))
    inputs = pd.DataFrame({"shop": random.choice(["a", "b", "c"], n), "told": told, "rare": rare})
    return inputs, (told + random.normal(size=n) > 0).astype("int64")


def boosted(seed: int, **change: Any) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = ColumnTransformer([("shop", encode, ["shop"])], remainder="passthrough")
    options = {"max_iter": 20, "random_state": seed, "categorical_features": [0], **change}
    return Pipeline([("columns", columns), ("boosting", HistGradientBoostingClassifier(**options))])


def fitted(build: Any, calibration: Any = "none") -> Any:
    inputs, labels = world()
    rows = rows_in_time(inputs, labels)
    parts = dict.fromkeys(("train", "calibrate", "conformalize"), rows)
    return fit(
        {"one": build},
        calibrations=(calibration,),
        folds=FoldPolicy(),
        confidence=0.9,
        seed=0,
        **parts,
    )


@pytest.mark.parametrize("calibration", METHODS)
def test_every_calibration_has_a_quick_way(calibration: Any) -> None:
    assert quick_model(fitted(boosted, calibration), NAMES, FRAME) is not None


@pytest.mark.parametrize("change", [{"categorical_features": None}, {"max_iter": 1}])
def test_other_trees_have_a_quick_way(change: dict[str, Any]) -> None:
    assert quick_model(fitted(partial(boosted, **change)), NAMES, FRAME) is not None


MODEL = fitted(boosted)
QUICK = quick_model(MODEL, NAMES, FRAME)
VALUES = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-5, 9))
ROWS = st.tuples(st.sampled_from([None, "a", "b", "c", "d", ""]), VALUES, VALUES)


@settings(max_examples=60)
@given(rows=st.lists(ROWS, min_size=1, max_size=5))
def test_any_rows_are_predicted_to_the_last_bit(rows: list[Any]) -> None:
    assert QUICK is not None
    slow, quick = tasks.predictions(MODEL, FRAME(rows)), tasks.predictions(QUICK, rows)  # type: ignore[arg-type]
    for name in slow:
        np.testing.assert_array_equal(slow[name], quick[name])


def test_trees_that_differ_in_one_bit_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = QuickTrees.raw
    monkeypatch.setattr(QuickTrees, "raw", lambda self, rows: np.nextafter(raw(self, rows), 9.0))
    assert quick_model(MODEL, NAMES, FRAME) is None


def forest(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    encode = OneHotEncoder(handle_unknown="ignore")
    return make_pipeline(encode, LogisticRegression(random_state=seed))


def test_an_estimator_without_a_quick_way_predicts_from_frames() -> None:
    model = fitted(forest)
    assert quick_model(model, NAMES, FRAME) is None
    with pytest.raises(Unsupported):
        QuickTrees(model.classifier, NAMES)


def test_many_rows_and_few_are_predicted_alike() -> None:
    class Spec:
        name, inputs = "m", NAMES

    served = ServedModel(Spec, "1", MODEL, QUICK)  # type: ignore[arg-type]
    rows = [["a", 0.5, None], ["d", -1.0, 3.0]]
    import mlops_assets.serving.served_model as module

    one = served.predict(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "input_columns", lambda spec: COLUMNS)
        many = served.predict(rows * 20)
    np.testing.assert_array_equal(many["probability"][:2], one["probability"])
