"""A champion that cannot be asked is told as such, and never taken for no champion."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_assets.core.evidence import Champion
from mlops_assets.core.shared_gates import Incomparable
from mlops_assets.defs.assets import report
from mlops_assets.errors import ArtifactError
from mlops_assets_tests.core.selection_world import rows_in_time
from mlops_assets_tests.core.test_tasks import MODELS

HOLDOUT = rows_in_time(pd.DataFrame({"told": np.zeros(240)}), np.zeros(240, dtype="int64"))


class Data:
    """A training set of which only the holdout is asked."""

    def rows(self, split: str) -> Any:
        return HOLDOUT


def asked(load: Any, *, start: str = "2023-01-01", end: str = "2023-02-01") -> Any:
    """What the report finds when the champion is version 3 and `load` gives its model."""
    days = {"start": start, "end": end}
    later = {"start": "2024-03-01", "end": "2024-03-02"}
    windows = {
        "train": days,
        "calibrate": {**later, "days": "even"},
        "conformalize": {**later, "days": "odd"},
        "holdout": {"start": "2024-04-01", "end": "2024-05-01"},
    }
    champion = SimpleNamespace(version="3", tags={"mlops.windows": json.dumps(windows)})
    registry = SimpleNamespace(alias=lambda *_: champion, load=load)
    spec = SimpleNamespace(name="returns", threshold=0.5)
    version = SimpleNamespace(version="4")
    return report._champion(SimpleNamespace(registry=registry), spec, version, Data())


def test_a_champion_is_scored_on_the_rows_of_the_holdout() -> None:
    found = asked(lambda _: MODELS["binary"])
    assert isinstance(found, Champion)
    assert (found.version, len(found.probabilities), found.overlap_rows) == ("3", 240, 0)


def test_rows_that_the_champion_has_learned_from_are_counted() -> None:
    found = asked(lambda _: MODELS["binary"], start="2024-01-01", end="2024-01-11")
    assert found.overlap_rows == 120


def test_a_champion_whose_files_are_damaged_cannot_be_compared() -> None:
    def damaged(_: Any) -> Any:
        raise ArtifactError("model.skops has another SHA-256", expected="the same", do="restore it")

    assert asked(damaged) == Incomparable("3", "model.skops has another SHA-256")


def test_a_champion_that_wants_other_inputs_cannot_be_compared() -> None:
    wants = SimpleNamespace(predict_proba=lambda inputs: inputs["gone"])
    found = asked(lambda _: replace(MODELS["binary"], classifier=wants))
    assert isinstance(found, Incomparable)
    assert "does not take these inputs: 'gone'" in found.reason


def test_an_error_that_is_not_about_the_inputs_is_not_hidden() -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError):
        asked(broken)
