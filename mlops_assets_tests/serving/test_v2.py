"""The Open Inference Protocol where the versions of a model do not answer alike."""

import json
import struct
from types import SimpleNamespace
from typing import Any

import pytest

from mlops_assets.serving import v2
from mlops_assets.serving.predictor import Answered
from mlops_assets.serving.served_model import VENN_ABERS

SETS = {"probability": 0.5, "negative_in_set": True, "positive_in_set": True}
INTERVAL = dict.fromkeys(VENN_ABERS, 0.25)


def answered(*outputs: dict[str, Any]) -> list[Answered]:
    by: Any = SimpleNamespace(version="1")
    return [Answered(f"p{at}", "champion", by, one, {}) for at, one in enumerate(outputs)]


@pytest.mark.parametrize("first", [True, False])
def test_an_output_that_one_version_lacks_is_null_for_its_rows(first: bool) -> None:
    rows = [{**SETS, **INTERVAL}, SETS]
    found = v2._answered(
        "m", {}, answered(*rows[:: 1 if first else -1]), dict.fromkeys((*SETS, *INTERVAL), False)
    )
    outputs = {one["name"]: one for one in json.loads(bytes(found.body))["outputs"]}
    for name in VENN_ABERS:
        assert outputs[name]["data"] == [0.25, None][:: 1 if first else -1]
        assert outputs[name]["datatype"] == "FP64"


def test_an_output_that_one_version_lacks_is_nan_in_raw_values() -> None:
    found = v2._answered("m", {}, answered(SETS, INTERVAL), {VENN_ABERS[0]: True})
    nan, value = struct.unpack("<dd", bytes(found.body)[-16:])
    assert (nan != nan, value) == (True, 0.25)


def test_an_output_that_the_champion_lacks_is_not_told() -> None:
    found = v2._answered("m", {}, answered({**SETS, **INTERVAL}), dict.fromkeys(SETS, False))
    assert [one["name"] for one in json.loads(bytes(found.body))["outputs"]] == [*SETS]
