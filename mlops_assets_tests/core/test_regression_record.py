"""Law and rule of a regression can be kept as text and read back without loss."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.conformal_intervals import KINDS, IntervalRule
from mlops_assets.core.predictive import GRID, PredictiveDistribution, fit_predictive_distribution
from mlops_assets.core.regression_record import as_record, law_of, rule_of
from mlops_assets.errors import GateError, RegistryError

LAW = fit_predictive_distribution(np.random.default_rng(0).normal(size=500), np.zeros(500))
RULE = IntervalRule(0.9, 1.7, 500, "normalized")
WRITERS: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda record: record,
    "json": lambda record: json.loads(json.dumps(record)),
    "yaml": lambda record: yaml.safe_load(yaml.safe_dump(record)),
}


@pytest.mark.parametrize("written", WRITERS.values(), ids=WRITERS)
@given(
    numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
    quantile=st.floats(0, 1e300),
    kind=st.sampled_from(KINDS),
)
def test_what_is_read_back_is_what_was_kept(
    written: Callable[[Any], Any], numbers: list[float], quantile: float, kind: Any
) -> None:
    law = PredictiveDistribution(np.sort(np.resize(numbers, GRID.size)), 500)
    rule = IntervalRule(0.9, quantile, 500, kind)
    record = written(as_record(law, rule))
    assert rule_of(record) == rule
    np.testing.assert_array_equal(law_of(record).residuals, law.residuals)
    assert law_of(record).n_calibrate == 500


def test_numbers_of_numpy_become_plain_ones() -> None:
    law = PredictiveDistribution(LAW.residuals, np.int64(500))
    rule = IntervalRule(np.float64(0.9), np.float64(1.7), np.int64(500))
    record = json.loads(json.dumps(as_record(law, rule)))
    assert record["law"]["n_calibrate"] == 500
    assert rule_of(record) == rule


def test_whole_numbers_may_have_lost_their_point() -> None:
    record = as_record(LAW, RULE)
    record["rule"]["quantile"] = 2
    assert rule_of(record).quantile == 2.0
    record["law"]["residuals"] = list(range(GRID.size))
    assert law_of(record).residuals.dtype == np.float64


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("law", "residuals", None),
        ("law", "residuals", "1.0, 2.0"),
        ("law", "residuals", ["1.0"] * GRID.size),
        ("law", "residuals", [True] * GRID.size),
        ("law", "n_calibrate", 500.0),
        ("law", "more", 1),
        ("rule", "confidence", "0.9"),
        ("rule", "n_conformalize", True),
        ("rule", "kind", None),
    ],
)
def test_damaged_records_are_refused(part: str, field: str, value: object) -> None:
    record = as_record(LAW, RULE)
    record[part][field] = value
    with pytest.raises(RegistryError, match=f"has a {part} with"):
        (law_of if part == "law" else rule_of)(record)


@pytest.mark.parametrize(("part", "read"), [("law", law_of), ("rule", rule_of)])
@pytest.mark.parametrize("lost", [{}, {"law": None, "rule": None}, {"law": {}, "rule": {}}])
def test_records_without_a_part_are_refused(part: str, read: Any, lost: dict[str, Any]) -> None:
    with pytest.raises(RegistryError, match=f"has a {part} with"):
        read(lost)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("law", "residuals", [float("nan")] * GRID.size),
        ("law", "residuals", [1.0]),
        ("law", "n_calibrate", 3),
        ("rule", "quantile", float("nan")),
        ("rule", "kind", "other"),
    ],
)
def test_numbers_that_make_no_law_or_rule_are_refused(part: str, field: str, value: Any) -> None:
    record = as_record(LAW, RULE)
    record[part][field] = value
    with pytest.raises(GateError):
        (law_of if part == "law" else rule_of)(record)
