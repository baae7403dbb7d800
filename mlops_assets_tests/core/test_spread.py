"""The spread tells difficult rows from easy ones, and is never near 0."""

import numpy as np
import pandas as pd
import pytest

from mlops_assets.core.spread import FLOOR, SpreadRegressor
from mlops_assets.errors import GateError
from mlops_assets_tests.core.regression_world import rows

ROWS = rows(4_000, 1)
RESIDUALS = ROWS.labels - 10 * ROWS.inputs["told"].to_numpy()
WILD = (ROWS.inputs["side"] == "wild").to_numpy()


def spreads(residuals: np.ndarray = RESIDUALS, inputs: pd.DataFrame = ROWS.inputs) -> np.ndarray:
    return SpreadRegressor().fit(inputs, residuals).predict(inputs)


def test_the_spread_is_the_mean_absolute_residual_of_rows_alike() -> None:
    found = spreads()
    for side in (WILD, ~WILD):
        assert found[side].mean() == pytest.approx(np.abs(RESIDUALS[side]).mean(), rel=0.1)
        assert found[side].std() < 0.2 * found[side].mean()


def test_errors_to_either_side_count_alike() -> None:
    np.testing.assert_array_equal(spreads(-RESIDUALS), spreads())


def test_no_spread_is_below_the_floor() -> None:
    """Trees add up to less than 0 where errors are 0 beside large ones."""
    errors = np.where(WILD, 1_000.0, 0.0) * (1 + np.sin(50 * ROWS.inputs["told"].to_numpy()))
    model = SpreadRegressor().fit(ROWS.inputs, errors)
    assert model.estimator_.predict(ROWS.inputs).min() < 0
    assert model.predict(ROWS.inputs).min() == model.floor_ == FLOOR * np.abs(errors).mean()


def test_the_floor_is_in_the_unit_of_the_target() -> None:
    np.testing.assert_allclose(spreads(60 * RESIDUALS), 60 * spreads())


def test_categories_may_be_many_missing_and_new() -> None:
    names = np.array([f"level {i % 400}" for i in range(len(RESIDUALS))], dtype=object)
    names[::7] = None
    model = SpreadRegressor().fit(ROWS.inputs.assign(name=names), RESIDUALS)
    found = model.predict(ROWS.inputs.assign(name="new"))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("nothing", [np.nan, None])
def test_a_column_without_a_value_tells_nothing(nothing: float | None) -> None:
    found = spreads(inputs=ROWS.inputs.assign(empty=nothing))
    np.testing.assert_array_equal(found, spreads())


def test_the_same_seed_gives_the_same_spread() -> None:
    np.testing.assert_array_equal(spreads(), spreads())


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_residuals_that_are_not_finite_are_refused(wrong: float) -> None:
    with pytest.raises(GateError, match="residuals"):
        spreads(np.r_[wrong, RESIDUALS[1:]])


def test_forecasts_without_any_error_are_refused() -> None:
    with pytest.raises(GateError, match="4,000 rows without any error"):
        spreads(np.zeros_like(RESIDUALS))
