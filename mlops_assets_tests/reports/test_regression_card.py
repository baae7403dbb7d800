"""The card of a regression says what its evidence says."""

from dataclasses import replace

import numpy as np
import pytest

from mlops_assets.core import model_card as cards
from mlops_assets.core.conformal_intervals import fit_absolute
from mlops_assets.core.predictive import fit_predictive_distribution
from mlops_assets.core.regression_evidence import RegressionEvidence
from mlops_assets.reports.regression_card import RegressionParts, regression_parts
from mlops_assets.spec import GatePolicy
from mlops_assets_tests.core.regression_world import evidence, sides

POLICY = GatePolicy(ece_limit=0.03, bin_limit=0.06, coverage_tolerance=0.04)
GOOD = evidence()
GOOD = replace(GOOD, slices=sides(GOOD))
INTENT = cards.Intent("How many?", ("team:sales",), "regression", "demand", "every shop")


def parts(of: RegressionEvidence = GOOD, unit: str = "crates") -> RegressionParts:
    return regression_parts(of, POLICY, unit)


def page(of: RegressionEvidence = GOOD, unit: str = "crates") -> str:
    return cards.render(cards.ModelCard("demand", "1", "today", INTENT, **parts(of, unit)))


def test_errors_are_those_of_the_report() -> None:
    metrics = GOOD.metrics(POLICY)
    mae, rmse, pinball = parts()["performance"].metrics.values()
    assert (mae.value, rmse.value) == pytest.approx((metrics["mae"], metrics["rmse"]))
    assert pinball == metrics["pinball"]
    assert mae.low < mae.value < mae.high
    assert rmse.low < rmse.value < rmse.high
    assert (parts()["performance"].n, parts()["performance"].unit) == (len(GOOD.labels), "crates")


def test_the_interval_of_the_rmse_is_that_of_the_mean_square() -> None:
    squares = (GOOD.labels - GOOD.points) ** 2
    half = 1.959964 * squares.std(ddof=1) / len(squares) ** 0.5
    rmse = parts()["performance"].metrics["Root mean squared error"]
    ends = squares.mean() - half, squares.mean() + half
    assert (rmse.low**2, rmse.high**2) == pytest.approx(ends)


def test_limits_are_those_of_the_policy() -> None:
    found = parts()
    assert (found["quantiles"].limit, found["quantiles"].qce_limit) == (0.06, 0.03)
    assert found["coverage"].tolerance == 0.04


def test_every_row_has_a_pit_and_those_of_a_right_model_are_flat() -> None:
    counts = np.array(parts()["quantiles"].pit_counts)
    assert counts.sum() == len(GOOD.labels)
    assert counts == pytest.approx(len(GOOD.labels) / len(counts), rel=0.15)


def test_pits_of_forecasts_that_are_too_high_are_low() -> None:
    counts = np.array(parts(evidence(bias=2.0))["quantiles"].pit_counts)
    half = len(counts) // 2
    assert counts[:half].sum() > 1.5 * counts[half:].sum()


def test_coverage_is_of_intervals_with_their_width_and_unit() -> None:
    found = parts()["coverage"]
    assert (found.kind, found.unit, found.stated) == ("intervals", "crates", 0.9)
    assert found.estimate == GOOD.coverage()
    assert found.size.value == np.diff(GOOD.intervals()).mean()


def test_coverage_is_told_by_the_first_slice() -> None:
    found = parts()["coverage"]
    assert found.grouped_by == "side"
    assert [group.group for group in found.groups] == ["calm", "wild"]
    wild = GOOD.spreads > 2
    assert found.groups[1].coverage.value == GOOD.covered()[wild].mean()


def test_without_slices_there_are_none_on_the_card() -> None:
    found = parts(evidence())
    assert found["slices"] is None
    assert found["coverage"].groups == ()


def test_the_choice_says_by_which_loss_and_how_a_forecast_becomes_a_distribution() -> None:
    known = evidence(seed=9)
    plain = replace(
        GOOD,
        spreads=None,
        law=fit_predictive_distribution(known.labels, known.points),
        rule=fit_absolute(known.labels, known.points),
    )
    assert parts()["choice"].loss == "squared error"
    told = [parts(of)["choice"].calibration for of in (GOOD, plain)]
    assert told == ["normalized residuals", "residuals"]


def test_a_page_can_be_drawn_and_says_the_unit() -> None:
    text = page()
    for words in (
        "Mean absolute error",
        "Quantile calibration error",
        "Mean width",
        "PIT histogram",
        "side = wild",
        "normalized residuals",
        " crates",
    ):
        assert words in text
    assert "crates" not in page(unit="")


def test_equal_evidence_gives_equal_pages() -> None:
    assert page() == page()
