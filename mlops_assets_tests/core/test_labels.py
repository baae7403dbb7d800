"""Windows without rows, or with one label for all, are refused before anything is trained."""

import math

import pytest

from mlops_assets.core.labels import LabelSummary, refuse_unlearnable
from mlops_assets.errors import WindowError

WINDOWS = {"train": "January", "holdout": "February"}
BOTH = LabelSummary.of([0, 0, 1])
GOOD = {"train": BOTH, "holdout": BOTH}


def test_no_rows_have_no_mean() -> None:
    empty = LabelSummary.of([])
    assert empty.rows == 0
    assert math.isnan(empty.mean)


@pytest.mark.parametrize("labels", [[0, 1], [1.5, -3.0, 1.5]])
def test_windows_with_labels_that_differ_are_accepted(labels: list[float]) -> None:
    found = dict.fromkeys(WINDOWS, LabelSummary.of(labels))
    assert refuse_unlearnable("returns", WINDOWS, found) is None


@pytest.mark.parametrize("found", [{"train": BOTH}, {**GOOD, "holdout": LabelSummary.of([])}])
def test_a_window_without_rows_is_refused(found: dict[str, LabelSummary]) -> None:
    with pytest.raises(WindowError, match=r"'holdout' of 'returns' \(February\) has no rows"):
        refuse_unlearnable("returns", WINDOWS, found)


@pytest.mark.parametrize("label", [0, 1, 2.5])
def test_a_window_with_one_label_for_all_is_refused(label: float) -> None:
    found = {**GOOD, "train": LabelSummary.of([label] * 5_000)}
    with pytest.raises(WindowError, match=f"is {label:g} in all 5,000 rows of the window 'train'"):
        refuse_unlearnable("returns", WINDOWS, found)


def test_windows_that_are_not_asked_for_may_be_empty() -> None:
    unasked = {**GOOD, "predict": LabelSummary.of([])}
    assert refuse_unlearnable("returns", WINDOWS, unasked) is None
