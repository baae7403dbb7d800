"""The batched event log holds the same records as Dagster's own, and falls back where it must."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from mlops_assets.defs import event_log, partitions
from mlops_assets.defs.instance import prepare
from mlops_assets.defs.quiet import accepted
from mlops_assets.settings import Settings

DAYS = dg.DailyPartitionsDefinition(start_date="2013-01-01", end_date="2013-01-11")
FIRST, SECOND, LAST = (dt.date(2013, 1, number) for number in (1, 2, 10))
RANGE = partitions.tags(FIRST, LAST)


with accepted():

    @dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
    def daily() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"rows": 3}, data_version=dg.DataVersion("v1"))

    @dg.asset_check(asset=daily, partitions_def=DAYS)
    def by_day() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)


@dg.asset_check(asset=daily)
def once() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.asset(deps=[daily])
def whole() -> None: ...


@contextmanager
def instance(
    folder: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv(event_log.BATCH_SIZE_VARIABLE, str(batch))
    prepare(Settings(home=folder))
    with dg.DagsterInstance.get() as opened:
        yield opened


def run(opened: dg.DagsterInstance) -> list[tuple[object, ...]]:
    result = dg.materialize([daily, whole], instance=opened, tags=RANGE)
    assert result.success
    return [
        (
            record.partition_key,
            record.asset_materialization.metadata["rows"].value,
            record.asset_materialization.tags["dagster/data_version"],
        )
        for record in opened.fetch_materializations(daily.key, limit=100).records
    ]


def test_batches_hold_the_same_records_as_single_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with instance(tmp_path / "single", 0, monkeypatch) as opened:
        single = run(opened)
        counts = opened.get_materialized_partitions(daily.key)
    with instance(tmp_path / "batched", 1_000, monkeypatch) as opened:
        assert run(opened) == single
        assert opened.get_materialized_partitions(daily.key) == counts
    assert len(single) == 10


def test_batches_are_used_and_written_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    store = event_log.BatchedSqliteEventLogStorage._store_asset_events

    def counted(self, run_id, events):
        sizes.append(len(events))
        return store(self, run_id, events)

    monkeypatch.setattr(event_log.BatchedSqliteEventLogStorage, "_store_asset_events", counted)
    with instance(tmp_path, 1_000, monkeypatch) as opened:
        run(opened)
    assert sizes == [11, 10]  # planned: ten days and one whole; materialized: ten days


ABOUT = {
    "ten days": {"tags": RANGE},
    "two days": {"tags": partitions.tags(FIRST, SECOND)},
    "a range of one day": {"tags": partitions.tags(SECOND, SECOND)},
    "a day": {"partition_key": f"{SECOND}"},
}


@pytest.mark.parametrize("batch", [0, 1_000], ids=["single events", "batches"])
@pytest.mark.parametrize("about", ABOUT.values(), ids=ABOUT)
def test_no_check_stays_planned_after_it_was_evaluated(
    about: dict[str, Any], batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with instance(tmp_path, batch, monkeypatch) as opened, accepted():
        for _ in range(2):
            assert dg.materialize([daily, once, by_day], instance=opened, **about).success
        for name in ("once", "by_day"):
            key = dg.AssetCheckKey(daily.key, name)
            records = opened.event_log_storage.get_asset_check_execution_history(key, limit=100)
            assert [record.status.value for record in records] == ["SUCCEEDED"] * 2
            assert {type(record.evaluation) for record in records} == {dg.AssetCheckEvaluation}
        named = {record.partition for record in records}
    assert named == {about.get("partition_key")}


def test_a_check_that_is_not_evaluated_stays_planned_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.asset_check(asset=daily)
    def killed() -> dg.AssetCheckResult:
        raise KeyboardInterrupt

    with instance(tmp_path, 1_000, monkeypatch) as opened:
        with pytest.raises(KeyboardInterrupt):
            dg.materialize([daily, killed], instance=opened, tags=RANGE)
        key = dg.AssetCheckKey(daily.key, "killed")
        [record] = opened.event_log_storage.get_asset_check_execution_history(key, limit=100)
    assert (record.status.value, record.partition) == ("PLANNED", None)


def test_a_later_run_finds_what_an_earlier_one_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with instance(tmp_path, 1_000, monkeypatch) as opened:
        run(opened)
    with instance(tmp_path, 0, monkeypatch) as opened:
        assert len(opened.get_materialized_partitions(daily.key)) == 10
        assert opened.get_latest_materialization_event(daily.key) is not None


def test_a_plain_dagster_command_in_the_checkout_uses_the_same_files() -> None:
    """The file at the top is the one of a home, with the default home put in."""
    top = Path(__file__).parents[2]
    template = (top / "mlops_assets" / "deploy" / "dagster.yaml").read_text()
    assert yaml.safe_load((top / "dagster.yaml").read_text()) == yaml.safe_load(
        template.replace("HOME", ".mlops/dagster")
    )
