"""A broken contract names table, column, rule, count and an example row."""

from pathlib import Path

import dagster as dg
import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from mlops_assets.defs import keys
from mlops_assets.defs.checks.contracts import training_set_check
from mlops_assets.defs.checks.frame_types import LabelRate, judge
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings
from mlops_assets.showcase.flights.specs import SPECS
from mlops_assets.stores.lake import Lake
from mlops_assets.tables import Column
from mlops_assets_tests.shop_world import returns

COLUMNS = (
    Column(name="id", type="string", nullable=False),
    Column(name="delay", type="float", minimum=-60, maximum=600),
    Column(name="origin", type="string", allowed=("EWR", "JFK")),
    Column(name="count", type="int"),
    Column(name="late", type="bool"),
    Column(name="at", type="time"),
)
GOOD = {
    "id": ["a", "b", "c"],
    "delay": [1.0, None, 3.0],
    "origin": ["EWR", "JFK", None],
    "count": [1, 2, 3],
    "late": [True, False, True],
    "at": pd.to_datetime(["2013-01-01"] * 3, utc=True),
}


def judged(folder: Path, **change: object):
    frame = pd.DataFrame({**GOOD, **change})
    path = folder / "table.parquet"
    duckdb.from_df(frame).write_parquet(str(path))
    return judge(Lake(folder), path, "raw/things", COLUMNS, ("id",))


def test_a_table_that_keeps_its_contract_passes(tmp_path: Path) -> None:
    assert judged(tmp_path).passed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"delay": [1.0, 700.0, 800.0]}, ["delay", "at most 600", "2 of 3", "'id': 'b'"]),
        ({"delay": [-61.0, 0.0, 0.0]}, ["delay", "at least -60", "1 of 3", "'id': 'a'"]),
        ({"origin": ["EWR", "LAX", "JFK"]}, ["origin", "one of EWR, JFK", "1 of 3", "LAX"]),
        ({"id": ["a", None, "c"]}, ["id", "no value is missing", "1 of 3"]),
        ({"count": ["1", "2", "x"]}, ["count", "type is int", "'1'"]),
        ({"at": ["x", "y", "z"]}, ["at", "type is time"]),
        ({"id": ["a", "b", "b"]}, ["id", "unique", "'b'", "'copies': 2"]),
    ],
)
def test_a_violation_names_column_rule_count_and_example(
    tmp_path: Path, change: dict[str, object], words: list[str]
) -> None:
    result = judged(tmp_path, **change)
    assert not result.passed
    missing = [word for word in ["raw/things", *words] if word not in str(result.description)]
    assert not missing, result.description


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    duckdb.from_df(pd.DataFrame({"id": ["a"]})).write_parquet(str(path))
    result = judge(Lake(tmp_path), path, "raw/things", COLUMNS, ("id",))
    assert not result.passed
    assert "delay" in str(result.description)


def test_an_empty_table_breaks_its_contract(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    duckdb.sql("SELECT 'a' AS id LIMIT 0").write_parquet(str(path))
    result = judge(Lake(tmp_path), path, "raw/things", COLUMNS, ("id",))
    assert not result.passed
    assert "no rows" in str(result.description)


def test_a_label_that_is_hardly_ever_there_breaks_the_contract(tmp_path: Path) -> None:
    label = SPECS[0].label.column
    frame = pd.DataFrame({"id": range(2_000), label: [1] + [0] * 1_999, "split": "holdout"})
    path = tmp_path / "table.parquet"
    duckdb.from_df(frame).write_parquet(str(path))
    result = judge(Lake(tmp_path), path, "training_set", (), ("id",), more=(LabelRate(SPECS[0]),))
    assert not result.passed
    assert "the rate in 'holdout' is 0.0005" in str(result.description)


@pytest.mark.parametrize(
    ("labels", "passed", "verdict"), [([0, 1], True, "passed"), ([0, 0], False, "failed")]
)
def test_the_contract_of_a_training_set_says_its_verdict_and_on_which_snapshot(
    labels: list[int], passed: bool, verdict: str, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    spec, platform = returns(tmp_path), Platform(Settings(home=tmp_path / "home"))
    columns = {
        "order_id": ["o1", "o2"],
        "event_timestamp": pa.array([0, 1], pa.timestamp("us", tz="UTC")),
        "returned": labels,
        "split": ["train", "train"],
        **{name: [1.0, 2.0] for name in spec.inputs},
    }
    snapshot = platform.training_sets.write(spec.name, pa.table(columns), {}).snapshot

    @dg.asset(key=keys.training_set(spec))
    def table() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"snapshot": snapshot})

    result = dg.materialize(
        [table, training_set_check(spec)],
        instance=instance,
        resources={"platform": platform},
        raise_on_error=False,
    )
    [told] = result.get_asset_check_evaluations()
    said = {name: told.metadata[name].value for name in ("verdict", "snapshot")}
    assert (told.passed, said) == (passed, {"verdict": verdict, "snapshot": snapshot})
