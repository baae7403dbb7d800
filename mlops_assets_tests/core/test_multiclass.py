"""More than two classes: the reductions to bins, agreement for two, bad input."""

import numpy as np
import pytest

from mlops_assets.core.calibration import (
    debiased_ece,
    expected_calibration_error,
    maximum_bin_deviation,
    reliability_bins,
)
from mlops_assets.core.gates import ece_below_limit, reliability_bins_within_limit
from mlops_assets.core.multiclass import (
    classwise_bins,
    pooled,
    top_label,
    top_label_bins,
    validate_classes,
)
from mlops_assets.errors import GateError


def _world(n: int, k: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(k, 0.7), n)
    return (rng.random(n)[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(0, k - 1), p


def _sharper(p: np.ndarray, power: float = 2.0) -> np.ndarray:
    return p**power / (p**power).sum(axis=1, keepdims=True)


def test_the_top_label_is_binary_calibration_of_being_right() -> None:
    labels, p = _world(5_000)
    right, score = p.argmax(axis=1) == labels, p.max(axis=1)
    assert top_label_bins(labels, p) == reliability_bins(right, score)
    weights = np.random.default_rng(1).random(5_000)
    assert top_label_bins(labels, p, weights=weights, n_bins=7) == reliability_bins(
        right, score, weights=weights, n_bins=7
    )


def test_the_ece_of_the_top_label_is_near_that_of_mapie() -> None:
    from mapie.metrics.calibration import expected_calibration_error as mapie_ece

    labels, p = _world(5_000)
    table = top_label_bins(labels, _sharper(p), strategy="width", n_bins=20, min_rows=1)
    right, _ = top_label(labels, _sharper(p))
    theirs = mapie_ece(right, _sharper(p), num_bins=20)
    assert expected_calibration_error(table).value == pytest.approx(theirs, abs=5e-3)


def test_each_class_has_the_binary_table_of_its_own_probability() -> None:
    labels, p = _world(5_000)
    for one, table in enumerate(classwise_bins(labels, p)):
        alone = reliability_bins(labels == one, p[:, one], level=1 - 0.05 / 4)
        assert table == alone


def test_the_classwise_ece_is_the_mean_over_classes_as_in_mapie() -> None:
    from mapie.metrics.calibration import expected_calibration_error as mapie_ece

    labels, p = _world(8_000)
    tables = classwise_bins(labels, p)
    both = pooled(tables)
    each = [expected_calibration_error(table) for table in tables]
    found = expected_calibration_error(both)
    assert found.value == pytest.approx(np.mean([one.value for one in each]))
    assert debiased_ece(both) == pytest.approx(np.mean([debiased_ece(table) for table in tables]))
    wide = pooled(classwise_bins(labels, p, strategy="width", n_bins=20, min_rows=1))
    theirs = mapie_ece(
        labels, p, num_bins=20, classwise=True, class_labels=labels, split_strategy="uniform"
    )
    assert expected_calibration_error(wide).value == pytest.approx(theirs, abs=2e-3)


def test_pooled_intervals_are_those_of_all_bins_of_all_classes() -> None:
    tables = classwise_bins(*_world(8_000))
    both, worst = pooled(tables), [maximum_bin_deviation(table) for table in tables]
    found = maximum_bin_deviation(both)
    assert (found.n, found.level, both.level) == (8_000, 0.95, 0.95)
    assert found.value == max(one.value for one in worst)
    assert (found.low, found.high) == (max(w.low for w in worst), max(w.high for w in worst))


def test_the_pooled_interval_allows_for_tables_with_the_same_noise() -> None:
    """Three times one table is the extreme case: nothing averages out."""
    labels, p = _world(8_000, 2)
    moved = (p[:, 1] + 0.02).clip(0, 1)
    one = reliability_bins(labels, moved, level=1 - 0.05 / 3)
    alone = expected_calibration_error(reliability_bins(labels, moved))
    found = expected_calibration_error(pooled((one, one, one)))
    assert found.value == pytest.approx(alone.value)
    assert alone.high - 1e-9 <= found.high < alone.high + 0.1 * (alone.high - alone.low)
    assert alone.low - 0.2 * (alone.high - alone.low) < found.low < alone.low


def test_two_classes_give_the_binary_numbers() -> None:
    labels, p = _world(6_000, 2)
    binary = reliability_bins(labels, p[:, 1])
    tables = classwise_bins(labels, p)
    assert pooled(tables) == tables[1] == binary
    for one in (expected_calibration_error, maximum_bin_deviation):
        mirror, expected = one(tables[0]), one(binary)
        for name in ("value", "low", "high"):
            assert getattr(mirror, name) == pytest.approx(getattr(expected, name))
    first = reliability_bins(1 - labels, p[:, 0])
    assert tables[0].column("observed") == pytest.approx(first.column("observed"), abs=5e-3)


def test_the_gates_judge_pooled_tables_as_any_other() -> None:
    labels, p = _world(40_000)
    good, bad = (pooled(classwise_bins(labels, scores)) for scores in (p, _sharper(p)))
    for gate in (ece_below_limit, reliability_bins_within_limit):
        assert gate(good).outcome == "passed"
        assert gate(bad).outcome == "failed"
        assert gate(good).n == 40_000
    named = reliability_bins_within_limit(bad)
    assert f"class {dict(named.details)['worst_bin_class']}" in named.reason


def test_a_single_class_off_fails_the_bin_gate_and_is_named() -> None:
    labels, p = _world(40_000)
    moved = np.where(
        labels == 2, np.where(np.random.default_rng(1).random(40_000) < 0.4, 3, 2), labels
    )
    verdict = reliability_bins_within_limit(pooled(classwise_bins(moved, p)))
    assert verdict.outcome == "failed"
    assert dict(verdict.details)["worst_bin_class"] in (2, 3)


def test_too_few_rows_are_inconclusive_however_many_classes_repeat_them() -> None:
    verdict = ece_below_limit(pooled(classwise_bins(*_world(1_000))))
    assert (verdict.outcome, verdict.n) == ("inconclusive", 1_000)


@pytest.mark.parametrize(
    ("labels", "p", "said"),
    [
        ([], np.zeros((0, 3)), "shape"),
        ([0, 1], [[0.5, 0.5]], "shape"),
        ([0, 1], [0.5, 0.5], "shape"),
        ([0, 1], [["0.5", "0.5"]] * 2, "type"),
        ([0, 0], [[1.0], [1.0]], "1 columns"),
        ([0, 2], [[0.5, 0.5]] * 2, "2 columns"),
        ([0, -1], [[0.5, 0.5]] * 2, "2 columns"),
        ([0, 0.5], [[0.5, 0.5]] * 2, "2 columns"),
        ([0, float("nan")], [[0.5, 0.5]] * 2, "2 columns"),
        (["a", "b"], [[0.5, 0.5]] * 2, "2 columns"),
        ([1, 1], [[0.5, 0.5]] * 2, "all 2 labels are 1"),
        ([0, 1], [[0.5, 0.4]] * 2, "sum to"),
        ([0, 1], [[1.5, -0.5]] * 2, "range from"),
        ([0, 1], [[float("nan"), 1.0]] * 2, "nan"),
    ],
)
def test_rows_that_cannot_be_judged_are_refused(labels, p, said) -> None:
    with pytest.raises(GateError, match=said):
        validate_classes(labels, p)
    with pytest.raises(GateError):
        classwise_bins(labels, p)


def test_single_precision_softmax_and_whole_floats_are_accepted() -> None:
    labels, p = _world(100)
    classes, _ = validate_classes(labels.astype(float), p.astype(np.float32))
    assert classes.tolist() == labels.tolist()


def test_a_class_that_never_occurs_is_refused_and_named() -> None:
    labels, p = _world(1_000)
    with pytest.raises(GateError, match="of class 3"):
        classwise_bins(np.minimum(labels, 2), p)
    assert top_label_bins(np.minimum(labels, 2), p).n == 1_000


def test_tables_of_different_rows_are_not_pooled() -> None:
    one, two = classwise_bins(*_world(1_000)), classwise_bins(*_world(1_001))
    with pytest.raises(GateError, match="rows"):
        pooled((one[0], two[1]))
    with pytest.raises(GateError):
        pooled(one[:1])
