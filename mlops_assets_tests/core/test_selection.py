"""Estimators compete on rows after those they learned from; calibrations on rows left out."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core import selection
from mlops_assets.core.selection import Fold, Score, select, time_folds
from mlops_assets.core.selection_gates import not_overfitted, stable_across_folds
from mlops_assets.errors import GateError, TrainingError, WindowError

DAY = np.timedelta64(1, "D")
START = np.datetime64("2024-01-01", "us")


def hours(n: int, step: int = 6) -> Any:
    return START + np.arange(n) * np.timedelta64(step, "h")


@given(st.integers(40, 300), st.integers(1, 4), st.integers(0, 72))
def test_a_fold_learns_only_from_what_was_known_when_its_validation_begins(
    n: int, folds: int, late: int
) -> None:
    times = np.random.default_rng(n).permutation(hours(n))
    known = times + np.timedelta64(late, "h")
    cuts = time_folds(times, known, folds=folds)
    assert len(cuts) == folds
    for cut in cuts:
        assert (known[cut.train] < cut.starts).all()
        assert (times[cut.validation] >= cut.starts).all()
        assert not set(times[cut.train].astype("M8[D]")) & set(
            times[cut.validation].astype("M8[D]")
        )
    starts = [cut.starts for cut in cuts]
    assert starts == sorted(starts)
    covered = np.concatenate([cut.validation for cut in cuts])
    assert len(set(covered.tolist())) == len(covered)
    assert times[covered].max() == times.max()


def test_only_the_newest_rows_are_taken_when_there_are_many() -> None:
    times = hours(400)
    [cut] = time_folds(times, times, folds=1, most_rows=30)
    assert (len(cut.train), len(cut.validation)) == (30, 10)
    assert cut.train.max() < cut.validation.min()
    assert times[cut.train[-1]] == times[times < cut.starts].max()


def test_rows_of_one_day_cannot_be_cut() -> None:
    with pytest.raises(WindowError, match="cannot be cut into 2 folds"):
        time_folds(hours(4, 1), hours(4, 1), folds=2)


class Constant:
    """Forecasts one probability; remembers nothing."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def fit(self, inputs: pd.DataFrame, labels: Any) -> "Constant":
        self.rows = len(labels)
        return self


def losses(fitted: Any, inputs: pd.DataFrame, labels: Any) -> Any:
    return -np.log(np.where(labels == 1, fitted.rate, 1 - fitted.rate))


def rate_losses(labels: Any) -> Any:
    return losses(Constant(labels.mean()), pd.DataFrame(), labels)


def compete(**rates: float) -> selection.Selection:
    labels = np.tile([0, 0, 0, 1], 100)
    cuts = time_folds(hours(400), hours(400), folds=3)
    builders = {name: lambda seed, rate=rate: Constant(rate) for name, rate in rates.items()}
    return selection.select(
        builders,
        pd.DataFrame({"x": labels}),
        labels,
        cuts,
        seed=0,
        losses=losses,
        constant=rate_losses,
    )


def test_the_smallest_loss_after_the_training_rows_wins() -> None:
    found = compete(far=0.9, near=0.25, close=0.3)
    assert found.winner == "near"
    assert [fold.number for fold in found.of_winner] == [0, 1, 2]
    assert {fold.estimator for fold in found.folds if fold.number == 2} == {"far", "near", "close"}


def test_of_equal_ones_the_first_declared_wins() -> None:
    assert compete(one=0.25, other=0.25).winner == "one"


def test_skill_is_zero_for_the_constant_and_its_error_is_that_of_simulation() -> None:
    random = np.random.default_rng(0)
    found = []
    for _ in range(400):
        y = (random.random(500) < 0.3).astype(int)
        found.append(selection.score(losses(Constant(0.4), pd.DataFrame(), y), rate_losses(y)))
    assert np.std([s.skill for s in found]) == pytest.approx(
        np.mean([s.error for s in found]), rel=0.2
    )
    assert selection.score(np.ones(3), np.ones(3)).skill == 0


def test_a_row_is_never_scored_by_what_learned_from_its_group() -> None:
    groups = selection.day_groups(hours(80), 5)
    assert len({tuple(groups[i : i + 4]) for i in range(0, 80, 4)}) == 5  # days stay together

    def fit(learned: Any) -> Any:
        seen = set(groups[learned].tolist())
        return lambda rows: np.array([float(groups[row] in seen) for row in rows])

    assert selection.cross_fit_losses(fit, groups).tolist() == [0.0] * 80


def test_noise_alone_does_not_choose_the_more_flexible_method() -> None:
    random = np.random.default_rng(0)
    base = random.random(2_000)
    noise = base + random.normal(0, 0.5, 2_000) - 0.001
    assert selection.simplest_of_the_best({"none": base, "isotonic": noise}) == "none"
    assert selection.simplest_of_the_best({"none": base, "isotonic": base - 0.1}) == "isotonic"


def score(skill: float, error: float = 0.01, n: int = 5_000) -> Score:
    return Score(0.5, skill, error, n)


def fold(train: float, validation: float, error: float = 0.01, n: int = 5_000) -> Fold:
    return Fold("a", 0, "2024-01-01", score(train, error, n), score(validation, error, n))


@pytest.mark.parametrize(
    ("skills", "error", "outcome"),
    [
        ((0.2, 0.25, 0.3), 0.01, "passed"),
        ((0.1, 0.3, 0.5), 0.01, "failed"),
        ((0.1, 0.2, 0.3), 0.1, "inconclusive"),
    ],
)
def test_folds_far_apart_are_not_stable(skills: Any, error: float, outcome: str) -> None:
    found = stable_across_folds([fold(0.3, skill, error) for skill in skills], limit=0.15)
    assert found.outcome == outcome
    assert found.estimate == pytest.approx(max(skills) - min(skills))


@pytest.mark.parametrize(
    ("train", "error", "outcome"),
    [(0.3, 0.01, "passed"), (0.6, 0.01, "failed"), (0.38, 0.05, "inconclusive")],
)
def test_skill_that_is_lost_after_training_is_overfitting(
    train: float, error: float, outcome: str
) -> None:
    assert not_overfitted(fold(train, 0.2, error), limit=0.15).outcome == outcome


def test_short_folds_decide_nothing_and_a_skill_that_is_no_number_is_an_error() -> None:
    assert not_overfitted(fold(0.3, 0.2, n=100)).outcome == "inconclusive"
    assert stable_across_folds([fold(0.3, 0.2, n=100)] * 2).outcome == "inconclusive"
    with pytest.raises(GateError, match="nan"):
        not_overfitted(fold(float("nan"), 0.2))
    with pytest.raises(GateError, match="1 folds"):
        stable_across_folds([fold(0.3, 0.2)])


def test_an_estimator_that_cannot_be_fitted_is_named_with_its_fold() -> None:
    class Picky:
        def fit(self, inputs: pd.DataFrame, labels: np.ndarray) -> Any:
            raise ValueError("column 'a' has no values")

    days = np.arange("2024-01-01", "2024-01-21", dtype="datetime64[D]").astype("datetime64[us]")
    with pytest.raises(TrainingError, match=r"'picky' cannot .* the 18 train .* 'a' has"):
        select(
            {"picky": lambda _: Picky()},
            pd.DataFrame({"a": np.ones(20)}),
            np.arange(20) % 2,
            time_folds(days, days, folds=2),
            seed=0,
            losses=lambda *_: np.ones(20),
            constant=lambda labels: np.ones(len(labels)),
        )
