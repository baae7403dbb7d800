"""Values from the future are found and named; features that give the label away, too."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mlops_assets.core.leakage import (
    MADE_UP,
    MIN_OF_CLASS,
    Difference,
    Plant,
    differences,
    leakage_free,
    no_label_in_features,
    plant,
    rates_of_levels,
    single_feature_auc,
)
from mlops_assets.errors import GateError

ROWS = ["o1", "o2", "o3"]
KNOWN = {"amount": [1.0, None, 3.0], "shop": ["a", "b", None]}
PLANTS = [Plant("amount", 2, 4.0)]
RANDOM = np.random.default_rng(0)
LABELS = np.repeat([0, 1], [600, 400])
NOISE = RANDOM.normal(size=1000)


def test_equal_columns_have_no_difference_and_nan_is_a_missing_value() -> None:
    assert not list(differences({**KNOWN, "amount": [1, math.nan, 3]}, KNOWN))


@pytest.mark.parametrize("wrong", [0.0, 2.0, "x"])
def test_a_value_where_none_was_known_is_a_difference(wrong: Any) -> None:
    found = {**KNOWN, "amount": [1.0, wrong, 3.0]}
    assert list(differences(found, KNOWN)) == [Difference("amount", 1, wrong, None)]


def test_a_sample_of_what_was_knowable_passes() -> None:
    verdict = leakage_free(ROWS, KNOWN, KNOWN, PLANTS)
    assert (verdict.outcome, verdict.estimate, verdict.n) == ("passed", 0.0, 3)
    assert dict(verdict.details) == {"values_compared": 6, "plants_found": 1}


def test_a_leak_names_feature_row_found_and_expected() -> None:
    verdict = leakage_free(ROWS, {**KNOWN, "shop": ["a", "c", None]}, KNOWN, PLANTS)
    assert verdict.outcome == "failed"
    assert "1 of 6 values" in verdict.reason
    assert "feature shop, row o2: found 'c', expected 'b'" in verdict.reason


def test_a_check_that_cannot_see_its_plant_fails() -> None:
    verdict = leakage_free(ROWS, KNOWN, KNOWN, [Plant("amount", 2, 3.0)])
    assert verdict.outcome == "failed"
    assert "the check is blind: 3.0" in verdict.reason
    assert "amount of row o3, was not found" in verdict.reason


@pytest.mark.parametrize(
    ("rows", "columns", "plants"),
    [([], {"amount": []}, PLANTS), (ROWS, {}, PLANTS), (ROWS, KNOWN, [])],
)
def test_nothing_to_judge_is_an_error(rows: Any, columns: Any, plants: Any) -> None:
    with pytest.raises(GateError, match="leakage_free"):
        leakage_free(rows, columns, columns, plants)


def test_the_plant_is_the_first_value_of_the_future_that_differs() -> None:
    assert plant(KNOWN, {"amount": [1.0, None], "shop": ["a", "c"]}) == Plant("shop", 1, "c")


def test_without_any_change_the_plant_is_made_up() -> None:
    assert plant(KNOWN, {"amount": [1.0, None, None]}) == Plant("amount", 0, MADE_UP)


@pytest.mark.parametrize("direction", [1, -1])
def test_the_auc_is_that_of_scikit_learn_with_ties_in_either_direction(direction: int) -> None:
    values = np.round(NOISE + LABELS, 1)
    expected = roc_auc_score(LABELS, values)
    assert single_feature_auc(direction * values, LABELS) == pytest.approx(expected)


def test_a_null_that_tells_the_label_is_found() -> None:
    assert single_feature_auc(np.where(LABELS == 1, np.nan, NOISE), LABELS) == 1.0


@pytest.mark.parametrize("direction", [1, -1])
def test_nulls_that_stand_at_the_end_where_the_positives_are_are_found(direction: int) -> None:
    values = direction * (LABELS + NOISE / 100)
    few_left = np.where((LABELS == 1) & (np.arange(1000) % 100 != 0), np.nan, values)
    assert single_feature_auc(few_left, LABELS) == 1.0


def test_the_label_behind_nulls_is_found_when_they_are_dropped() -> None:
    values = np.where(RANDOM.random(1000) < 0.5, np.nan, LABELS.astype(float))
    assert single_feature_auc(values, LABELS) == 1.0


def test_a_few_values_among_nulls_separate_by_chance_and_are_not_counted() -> None:
    values = np.full(1000, np.nan)
    values[[0, -1]] = 0.0, 1.0
    assert single_feature_auc(values, LABELS) < 0.51


@pytest.mark.parametrize("values", [np.zeros(1000), np.full(1000, np.nan)])
def test_a_column_of_one_value_or_of_none_tells_nothing(values: Any) -> None:
    assert single_feature_auc(values, LABELS) == 0.5


def test_levels_that_tell_the_label_do_so_in_rows_that_gave_no_rate() -> None:
    assert single_feature_auc(rates_of_levels(LABELS + 3, LABELS), LABELS) == 1.0


def test_levels_that_are_there_once_tell_nothing() -> None:
    shuffled = RANDOM.permutation(LABELS)
    found = single_feature_auc(rates_of_levels(np.arange(1000), shuffled), shuffled)
    assert found == pytest.approx(0.5, abs=0.05)


def test_a_feature_that_is_the_label_fails_with_its_name_and_only_its_own() -> None:
    features = {"noise": NOISE, "outcome": LABELS + NOISE / 100}
    verdict = no_label_in_features(features, LABELS, 0.95)
    assert verdict.outcome == "failed"
    assert "outcome (AUC 1.0000)" in verdict.reason
    assert "noise" not in verdict.reason


def test_honest_features_pass_and_the_best_is_named() -> None:
    features = {"noise": NOISE, "hint": LABELS + NOISE}
    verdict = no_label_in_features(features, LABELS, 0.95)
    assert verdict.outcome == "passed"
    assert "the best, hint" in verdict.reason
    assert no_label_in_features(features, LABELS, 0.6).outcome == "failed"


@pytest.mark.parametrize("ones", [0, MIN_OF_CLASS - 1])
def test_too_few_rows_of_a_class_do_not_pass(ones: int) -> None:
    labels = np.repeat([0, 1], [1000 - ones, ones])
    verdict = no_label_in_features({"noise": NOISE}, labels, 0.95)
    assert (verdict.outcome, verdict.estimate) == ("inconclusive", None)
    assert f"{ones} training rows of the rarer class" in verdict.reason


def test_no_features_are_an_error() -> None:
    with pytest.raises(GateError, match="no features"):
        no_label_in_features({}, LABELS, 0.95)
