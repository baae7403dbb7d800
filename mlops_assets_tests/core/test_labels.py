"""Windows without rows, or with one class, are refused before anything is trained."""

import math

import pytest

from mlops_assets.core.labels import LabelCount, refuse_unlearnable
from mlops_assets.errors import WindowError

WINDOWS = {"train": "January", "holdout": "February"}
GOOD = {"train": LabelCount(10, 1), "holdout": LabelCount(10, 9)}


def test_the_rate_is_the_share_of_positives() -> None:
    assert LabelCount(rows=8, positives=2).rate == 0.25


def test_the_rate_of_no_rows_is_nan() -> None:
    assert math.isnan(LabelCount(0, 0).rate)


def test_windows_with_both_classes_are_accepted() -> None:
    assert refuse_unlearnable("returns", WINDOWS, GOOD) is None


@pytest.mark.parametrize("found", [{"train": GOOD["train"]}, {**GOOD, "holdout": LabelCount(0, 0)}])
def test_a_window_without_rows_is_refused(found: dict[str, LabelCount]) -> None:
    with pytest.raises(WindowError, match=r"'holdout' of 'returns' \(February\) has no rows"):
        refuse_unlearnable("returns", WINDOWS, found)


@pytest.mark.parametrize("positives", [0, 5_000])
def test_a_window_of_one_class_is_refused(positives: int) -> None:
    found = {**GOOD, "train": LabelCount(5_000, positives)}
    with pytest.raises(WindowError, match=f"{positives:,} of 5,000 rows are positive"):
        refuse_unlearnable("returns", WINDOWS, found)


def test_windows_that_are_not_asked_for_may_be_empty() -> None:
    unasked = {**GOOD, "predict": LabelCount(0, 0)}
    assert refuse_unlearnable("returns", WINDOWS, unasked) is None
