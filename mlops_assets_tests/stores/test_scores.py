"""Evidence is kept by its content, and refused when it is not what its digest says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_assets.core.conformal import ConformalRule
from mlops_assets.core.conformal_intervals import IntervalRule
from mlops_assets.core.evidence import Champion, Evidence
from mlops_assets.core.predictive import fit_predictive_distribution
from mlops_assets.core.regression_evidence import RegressionChampion, RegressionEvidence
from mlops_assets.core.shared_gates import Incomparable
from mlops_assets.core.tasks import AnyEvidence
from mlops_assets.errors import DataError
from mlops_assets.stores.lake import Lake
from mlops_assets.stores.scores import Scores
from mlops_assets_tests.core.selection_world import steady

IDS = pa.array(["r1", "r2", "r3"])
ALONE = Evidence(
    labels=np.array([0, 1, 0]),
    probabilities=np.array([0.1, 0.1 + 0.2, 1 / 3]),
    rule=ConformalRule(0.9, 1 / 3, 100),
    champion=None,
    selection=steady(),
    slices={"shop": np.array(["a", "b", "a"])},
    threshold=0.4,
)
COMPARED = replace(ALONE, champion=Champion("3", np.array([0.2, 0.7, 0.0]), 5, threshold=0.6))

UNKNOWN = replace(ALONE, champion=Incomparable("3", "its files are gone"))
LAW = fit_predictive_distribution(np.arange(99.0) / 7, np.zeros(99))
FORECAST = RegressionEvidence(
    labels=np.array([0.1, 2.0, -1 / 3]),
    points=np.array([0.0, 1.5, 0.2]),
    spreads=None,
    rule=IntervalRule(0.9, 1 / 3, 100),
    law=LAW,
    champion=None,
    selection=steady(),
    slices={"shop": np.array(["a", "b", "a"])},
)
SPREAD = replace(
    FORECAST,
    spreads=np.array([0.5, 1 / 3, 2.0]),
    rule=IntervalRule(0.9, 1 / 3, 100, "normalized"),
    champion=RegressionChampion("3", np.array([1.0, 1.0, 1 / 7]), np.ones(3), LAW, 5),
)
ALL = {"alone": ALONE, "compared": COMPARED, "unknown": UNKNOWN, "one width": FORECAST,
       "spread": SPREAD}  # fmt: skip


@pytest.fixture
def scores(tmp_path: Path) -> Scores:
    return Scores(Lake(tmp_path))


def write(scores: Scores, evidence: AnyEvidence) -> str:
    return scores.write("returns", "4", IDS, evidence)


@pytest.mark.parametrize("evidence", ALL.values(), ids=ALL)
def test_evidence_is_read_as_it_was_written(evidence: AnyEvidence, scores: Scores) -> None:
    digest = write(scores, evidence)
    found = scores.read("returns", "4", digest)
    assert repr(found) == repr(evidence)
    assert write(scores, found) == digest


def test_scores_are_read_to_the_last_bit(scores: Scores) -> None:
    found = scores.read("returns", "4", write(scores, ALONE))
    np.testing.assert_array_equal(found.probabilities, ALONE.probabilities)


def test_forecasts_and_their_law_are_read_to_the_last_bit(scores: Scores) -> None:
    found = scores.read("returns", "4", write(scores, SPREAD))
    np.testing.assert_array_equal(found.points, SPREAD.points)
    np.testing.assert_array_equal(found.spreads, SPREAD.spreads)
    np.testing.assert_array_equal(found.law.residuals, LAW.residuals)
    np.testing.assert_array_equal(found.champion.law.residuals, LAW.residuals)


def test_the_champions_scores_are_read_as_they_were_written(scores: Scores) -> None:
    found = scores.read("returns", "4", write(scores, COMPARED)).champion
    np.testing.assert_array_equal(found.probabilities, COMPARED.champion.probabilities)


def test_two_reports_on_a_version_are_both_kept(scores: Scores) -> None:
    digests = [write(scores, evidence) for evidence in (ALONE, COMPARED)]
    found = [scores.read("returns", "4", digest).champion for digest in digests]
    assert found[0] is None is not found[1]


@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.array([0, 1, 1])},
        {"probabilities": np.array([0.1, 0.3, 0.3])},
        {"rule": ConformalRule(0.9, 0.5, 100)},
        {"threshold": 0.5},
        {"champion": COMPARED.champion},
        {"selection": steady(0.1, 0.2)},
        {"slices": {"shop": np.array(["a", "b", "b"])}},
        {"slices": {}},
    ],
    ids=str,
)
def test_other_evidence_has_another_digest(change: dict, scores: Scores) -> None:
    assert write(scores, ALONE) != write(scores, replace(ALONE, **change))


def test_other_rows_have_another_digest(scores: Scores) -> None:
    others = pa.array(["r1", "r2", "r4"])
    assert write(scores, ALONE) != scores.write("returns", "4", others, ALONE)


def test_changed_scores_are_refused(scores: Scores) -> None:
    digest = write(scores, ALONE)
    path = scores.file("returns", "4", digest)
    table = pq.read_table(path)
    better = table.set_column(2, "probability", pa.array([0.0, 1.0, 0.0]))
    pq.write_table(better, path)
    with pytest.raises(DataError, match="does not have the content that its digest says"):
        scores.read("returns", "4", digest)


def test_changed_notes_are_refused(scores: Scores) -> None:
    digest = write(scores, COMPARED)
    path = scores.file("returns", "4", digest)
    table = pq.read_table(path)
    notes = table.schema.metadata[b"notes"].replace(b'"overlap_rows": 5', b'"overlap_rows": 0')
    assert notes != table.schema.metadata[b"notes"]
    pq.write_table(table.replace_schema_metadata({"notes": notes}), path)
    with pytest.raises(DataError, match="does not have the content that its digest says"):
        scores.read("returns", "4", digest)


def test_evidence_that_is_not_there_is_named(scores: Scores) -> None:
    with pytest.raises(DataError, match="materialize the calibration report of 'returns'"):
        scores.read("returns", "4", "0" * 64)
