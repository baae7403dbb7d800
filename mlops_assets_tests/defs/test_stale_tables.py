"""The sensor asks for the tables that changed and their days, once, and for nothing else."""

import datetime as dt
import os
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from mlops_assets.defs import keys, partitions
from mlops_assets.defs.sensors import stale_tables
from mlops_assets.defs.staleness import Staleness
from mlops_assets_tests.defs.shop_home import DAYS, ShopHome
from mlops_assets_tests.shop_world import SALES_CSV, day

TOUCHED = [day(3), day(4), day(5)]
LATE = "b,pot,2024-01-04T09:00:00Z,5"
LATER = "b,pot,2024-01-05T10:00:00Z,6"
CHANGED = {
    dg.AssetKey(["raw", "sales"]),
    dg.AssetKey(["features", "recent_sales"]),
    dg.AssetKey(["statistics", "recent_sales"]),
    keys.ONLINE,
}


@pytest.fixture
def home(tmp_path: Path, instance: dg.DagsterInstance) -> ShopHome:
    """A home with all tables, into which a row comes late."""
    found = ShopHome.empty(tmp_path, instance).materialize()
    found.sell(LATE)
    return found


def evaluated(home: ShopHome) -> dg.RunRequest | dg.SkipReason:
    context = dg.build_sensor_context(home.instance, resources={"platform": home.platform})
    found = home.definitions.resolve_sensor_def("stale_tables")(context)
    assert isinstance(found, dg.RunRequest | dg.SkipReason)
    return found


def requested(home: ShopHome) -> dg.RunRequest:
    found = evaluated(home)
    assert isinstance(found, dg.RunRequest), found
    return found


def skipped(home: ShopHome) -> str:
    found = evaluated(home)
    assert isinstance(found, dg.SkipReason), found
    return str(found.skip_message)


def launch(home: ShopHome, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    return home.launch(request.asset_selection or [], dict(request.tags))


def content(home: ShopHome) -> dict[dt.date, tuple[bytes, int]]:
    """The bytes of each day's file, and when they were written."""
    files = {d: home.platform.lake.day_file("features/recent_sales", d) for d in DAYS}
    return {d: (file.read_bytes(), file.stat().st_mtime_ns) for d, file in files.items()}


def test_a_late_row_asks_for_the_tables_and_the_days_that_it_touches(home: ShopHome) -> None:
    request = requested(home)
    assert set(request.asset_selection or []) == CHANGED
    assert {
        name: value for name, value in request.tags.items() if name.startswith("dagster/asset")
    } == partitions.tags(day(3), day(5))
    reason = request.tags[stale_tables.REASON]
    assert reason.startswith("stale: raw/sales, features/recent_sales, ")
    assert reason.endswith("(2024-01-03 to 2024-01-05)")


def test_what_it_asks_for_is_what_the_sensor_targets(home: ShopHome) -> None:
    job = stale_tables.stale_tables_sensor([home.spec]).job
    targets = job.selection.resolve(home.definitions.resolve_asset_graph())
    assert set(requested(home).asset_selection or []) < targets
    assert targets == set(keys.table_keys((home.spec,)))
    assert not targets & set(keys.model_keys(home.spec))


def test_a_launch_replaces_the_touched_days_and_leaves_nothing_stale(home: ShopHome) -> None:
    before = content(home)
    assert launch(home, requested(home)).success
    after = content(home)
    assert [d for d in DAYS if after[d][1] != before[d][1]] == TOUCHED
    assert [d for d in DAYS if after[d] == before[d]] == [day(1), day(2)]
    assert after[day(4)][0] != before[day(4)][0]
    assert home.stale() == Staleness((), (), None)
    assert skipped(home) == "every table is what its sources say"


def test_a_launch_gives_what_a_run_over_all_days_gives(home: ShopHome) -> None:
    launch(home, requested(home))
    little = {d: data for d, (data, _) in content(home).items()}
    home.materialize()
    assert {d: data for d, (data, _) in content(home).items()} == little


def test_a_launch_computes_and_judges_the_touched_days_only(home: ShopHome) -> None:
    for d in (day(1), day(2)):
        file = home.platform.lake.day_file("features/recent_sales", d)
        before = file.stat()
        file.write_bytes(bytes(200) + file.read_bytes()[200:])  # the rows; not what tells of them
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    request = requested(home)
    tables = [key for key in request.asset_selection or [] if key != keys.ONLINE]
    result = home.launch(tables, dict(request.tags))
    judged = [e.metadata.get("judged_days") for e in result.get_asset_check_evaluations()]
    assert [found.value for found in judged if found] == [3, 3, 3]
    [described] = result.asset_materializations_for_node("statistics__recent_sales")
    assert described.metadata["days_computed"].value == 3


def test_the_same_staleness_has_the_same_key_until_some_run_succeeds(home: ShopHome) -> None:
    first = requested(home)
    assert requested(home).run_key == first.run_key
    other = home.launch([dg.AssetKey(["raw", "orders"])], {})
    assert other.success
    assert requested(home).run_key != first.run_key


def test_a_run_that_failed_is_asked_for_again_after_a_pause(
    home: ShopHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.sell("b,pot,2024-01-05T09:00:00Z,inf")
    first = requested(home)
    assert not launch(home, first).success
    # The raw table is there now: what is left is another state.
    second = requested(home)
    assert set(second.asset_selection or []) == CHANGED - {dg.AssetKey(["raw", "sales"])}
    assert not launch(home, second).success
    assert second.run_key != first.run_key
    assert "1 runs failed" in skipped(home)
    monkeypatch.setattr(stale_tables, "FIRST_PAUSE", dt.timedelta(0))
    assert requested(home).run_key not in (first.run_key, second.run_key)


def test_another_late_row_has_another_key(home: ShopHome) -> None:
    first = requested(home)
    home.sell(LATER)
    assert requested(home).run_key != first.run_key


def test_a_row_that_is_withdrawn_asks_for_nothing(home: ShopHome) -> None:
    requested(home)
    (home.folder / "sales.csv").write_text(SALES_CSV)
    assert skipped(home) == "every table is what its sources say"


@pytest.mark.parametrize("name", ["QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"])
def test_while_a_run_is_in_progress_nothing_is_asked_for(name: str, home: ShopHome) -> None:
    status = dg.DagsterRunStatus[name]
    location = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "all")
    origin = RemoteJobOrigin(location, "any job")
    home.instance.add_run(dg.DagsterRun("any job", status=status, remote_job_origin=origin))
    assert skipped(home) == "a run is in progress"


def test_a_run_that_never_ended_does_not_stop_the_sensor_for_ever(
    home: ShopHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.instance.add_run(dg.DagsterRun("killed", status=dg.DagsterRunStatus.STARTED))
    monkeypatch.setattr(stale_tables, "LONGEST_RUN", dt.timedelta(0))
    assert set(requested(home).asset_selection or []) == CHANGED


def test_an_empty_home_is_left_alone(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    empty = ShopHome.empty(tmp_path, instance)
    assert skipped(empty) == "nothing was ever materialized here"
    assert not empty.platform.lake.root.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the source 'sales' has no file at"),
        (SALES_CSV.replace("amount", "price"), "the source 'sales' lacks the columns amount"),
        (SALES_CSV.replace("40", "forty"), "the source 'sales' cannot be read"),
    ],
)
def test_a_broken_source_asks_for_nothing_and_says_why(
    content: str | None, said: str, home: ShopHome
) -> None:
    file = home.folder / "sales.csv"
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    assert f"the tables stay as they are: {said}" in skipped(home)


def test_a_reason_that_is_long_is_cut(home: ShopHome, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tuple(dg.AssetKey(["features", f"a_view_with_a_long_name_{i}"]) for i in range(50))
    monkeypatch.setattr(
        stale_tables.staleness, "of_tables", lambda *_: Staleness(long, (), (day(1), day(2)))
    )
    assert len(requested(home).tags[stale_tables.REASON]) == 250


def test_a_request_without_days_has_no_range(home: ShopHome) -> None:
    (home.folder / "sales.csv").write_text(SALES_CSV)
    home.platform.lake.file("statistics/recent_sales").unlink()
    request = requested(home)
    assert request.asset_selection == [dg.AssetKey(["statistics", "recent_sales"])]
    assert partitions.RANGE_START not in request.tags
    assert launch(home, request).success
    assert home.stale() == Staleness((), (), None)
