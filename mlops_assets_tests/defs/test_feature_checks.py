"""The checks of feature views in a run: what blocks, what only warns, what is remembered."""

import datetime as dt

import dagster as dg
import pytest

from mlops_assets.defs import keys, partitions
from mlops_assets.defs.assets.statistics import statistics_asset
from mlops_assets.defs.checks import features as checks
from mlops_assets.defs.quiet import accepted
from mlops_assets.engines import feature_contract as contract
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings
from mlops_assets.tables import Calendar, FeatureView
from mlops_assets_tests.engines.sold_world import BAD, DAYS, GOOD, VIEW, row, write

FIRST, SECOND = DAYS


@pytest.fixture
def platform(own_home: object) -> Platform:
    return Platform(Settings())


def run(
    platform: Platform,
    instance: dg.DagsterInstance,
    tags: dict[str, str],
    view: FeatureView = VIEW,
) -> dg.ExecuteInProcessResult:
    """Judge the files that are there; `after` follows when nothing blocks."""
    with accepted():

        @dg.asset(
            key=keys.features(view),
            partitions_def=partitions.days(view.calendar),
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        def table() -> None: ...

        @dg.asset(deps=[table])
        def after() -> None: ...

        definitions = dg.Definitions(
            assets=[table, after, statistics_asset(view)],
            asset_checks=checks.view_checks(view),
            resources={"platform": platform},
        )
        return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance, tags=tags, raise_on_error=False
        )


def told(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {e.check_name: e.passed for e in result.get_asset_check_evaluations()}


def went_on(result: dg.ExecuteInProcessResult) -> bool:
    return bool(result.asset_materializations_for_node("after"))


ALL_PASS = dict.fromkeys([*contract.RULES, "fresh"], True)


@pytest.mark.parametrize("first", DAYS)
def test_a_run_of_one_day_or_more_is_judged_as_a_whole(
    first: dt.date, platform: Platform, instance: dg.DagsterInstance
) -> None:
    write(platform.lake, GOOD)
    result = run(platform, instance, partitions.tags(first, SECOND))
    assert told(result) == ALL_PASS
    assert went_on(result)
    evaluations = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert {name: v.value for name, v in evaluations["unique_rows"].metadata.items()} == {
        "days": 2,
        "judged_days": 2,
        "rows": 3,
        "rows_repeated": 0,
    }


def test_a_day_that_breaks_a_rule_blocks_every_run_until_it_is_right(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    write(platform.lake, [*GOOD, row("02T11:00", **BAD)])
    second = run(platform, instance, partitions.tags(SECOND, SECOND))
    assert told(second) == {**ALL_PASS, "value_ranges": False}
    assert not went_on(second)
    assert not went_on(run(platform, instance, partitions.tags(FIRST, FIRST)))
    write(platform.lake, GOOD[1:], [SECOND])
    assert went_on(run(platform, instance, partitions.tags(SECOND, SECOND)))


def test_days_that_are_not_materialized_yet_warn_and_let_the_run_go_on(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    write(platform.lake, GOOD)
    open_ended = VIEW.model_copy(update={"calendar": Calendar(start=FIRST)})
    result = run(platform, instance, partitions.tags(FIRST, SECOND), open_ended)
    [fresh] = [e for e in result.get_asset_check_evaluations() if e.check_name == "fresh"]
    assert (fresh.passed, fresh.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert went_on(result)


def test_events_that_stopped_block(platform: Platform, instance: dg.DagsterInstance) -> None:
    write(platform.lake, GOOD[:1])
    result = run(platform, instance, partitions.tags(FIRST, SECOND))
    assert told(result) == {**ALL_PASS, "fresh": False}
    assert not went_on(result)


def test_statistics_are_those_of_all_days_and_show_the_newest(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    write(platform.lake, GOOD)
    result = run(platform, instance, partitions.tags(SECOND, SECOND))
    [described] = result.asset_materializations_for_node("statistics__sold")
    values = {name: value.value for name, value in described.metadata.items()}
    assert [row.data["feature"] for row in values["newest_day"].records] == ["amount", "item"]
    assert (values["rows"], values["amount/mean"], values["item/null_share"]) == (2, 1.0, 0.0)
    assert (values["dagster/row_count"], values["days_computed"]) == (4, 2)
