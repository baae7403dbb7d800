"""Every estimator of the showcase can be fitted, kept without pickle, and loaded bit for bit."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io

from mlops_assets.core.calibrators import METHODS, calibrated
from mlops_assets.core.forecaster import Forecaster
from mlops_assets.core.spread import SpreadRegressor
from mlops_assets.showcase.flights.specs import ARRIVAL_DELAY, FLIGHT_DELAY
from mlops_assets.stores.registry import TRUSTED_TYPES

RANDOM = np.random.default_rng(0)
N = 3_000


def frame() -> pd.DataFrame:
    """Inputs as a training set gives them: text, numbers, and numbers that are not known."""
    numbers = {name: RANDOM.normal(size=N) for name in FLIGHT_DELAY.inputs[2:]}
    found = pd.DataFrame(
        {
            "carrier": RANDOM.choice(["AA", "UA", "DL"], N),
            "origin": RANDOM.choice(["JFK", "LGA"], N),
            **numbers,
        }
    )
    return found.mask(RANDOM.random(found.shape) < 0.05).assign(
        carrier=found["carrier"], origin=found["origin"]
    )


INPUTS = frame()
MINUTES = RANDOM.normal(size=N) * 10
LATE = (MINUTES > 5).astype("int64")


def kept_and_loaded(estimator: Any) -> Any:
    data = skops.io.dumps(estimator)
    assert set(skops.io.get_untrusted_types(data=data)) <= set(TRUSTED_TYPES)
    return skops.io.loads(data, trusted=list(TRUSTED_TYPES))


@pytest.mark.parametrize(("name", "method"), [*product(FLIGHT_DELAY.estimators, METHODS)])
def test_a_calibrated_classifier_is_loaded_bit_for_bit(name: str, method: Any) -> None:
    fitted = FLIGHT_DELAY.estimators[name](0).fit(INPUTS, LATE)
    model = calibrated(method, fitted, INPUTS, LATE)
    again = kept_and_loaded(model).predict_proba(INPUTS)
    np.testing.assert_array_equal(again, model.predict_proba(INPUTS))


@pytest.mark.parametrize("name", ARRIVAL_DELAY.estimators)
def test_a_forecaster_is_loaded_bit_for_bit(name: str) -> None:
    fitted = ARRIVAL_DELAY.estimators[name](0).fit(INPUTS, MINUTES)
    spread = SpreadRegressor(0).fit(INPUTS, MINUTES - fitted.predict(INPUTS))
    again = kept_and_loaded(Forecaster(fitted, spread))
    np.testing.assert_array_equal(again.predict(INPUTS), fitted.predict(INPUTS))
    np.testing.assert_array_equal(again.spread.predict(INPUTS), spread.predict(INPUTS))


@pytest.mark.parametrize(
    ("spec", "label"), [(FLIGHT_DELAY, LATE), (ARRIVAL_DELAY, MINUTES)], ids=lambda one: ""
)
def test_the_same_seed_gives_the_same_model(spec: Any, label: Any) -> None:
    for build in spec.competitors.values():
        method = "predict_proba" if spec.task == "binary" else "predict"
        found = [getattr(build(3).fit(INPUTS, label), method)(INPUTS) for _ in range(2)]
        np.testing.assert_array_equal(*found)
