"""The checks of feature views and training sets: what passes, what fails, and in which words."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from mlops_assets.defs import keys
from mlops_assets.defs.assets.statistics import statistics_asset
from mlops_assets.defs.checks import features as checks
from mlops_assets.defs.main_job import RANGE_END, RANGE_START
from mlops_assets.defs.quiet import accepted
from mlops_assets.engines import feature_contract as contract
from mlops_assets.engines import knowable
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.lake import Lake
from mlops_assets.tables import Calendar, Column, Entity, FeatureView
from mlops_assets_tests.shop_world import returns

DAYS = [dt.date(2024, 1, day) for day in (1, 2)]


def sold(tables: Any) -> Any:
    """Never computed here: only what it means is asked."""
    import ibis

    times = dict.fromkeys(("event_timestamp", "created_timestamp"), "timestamp('UTC')")
    return ibis.table({"shop": "string", **times, "amount": "float64", "item": "string"}, name="t")


VIEW = FeatureView(
    name="sold",
    description="",
    entities=(Entity(name="shop"),),
    features=(
        Column(name="amount", type="float", minimum=0, maximum=100),
        Column(name="item", type="string", allowed=("tea", "pot"), nullable=False),
    ),
    ttl=dt.timedelta(days=1),
    calendar=Calendar(start=DAYS[0], end=dt.date(2024, 1, 3)),
    sources=(),
    lookback=dt.timedelta(0),
    build=sold,
)


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(f"2024-01-{text}+00:00")


def row(when: str, **change: Any) -> dict[str, Any]:
    times = {"event_timestamp": at(when), "created_timestamp": at(when)}
    return {"shop": "a", **times, "amount": 1.0, "item": "tea", **change}


GOOD = [row("01T10:00"), row("02T10:00"), row("02T10:00", shop="b")]
SCHEMA = pa.schema(
    [
        ("shop", pa.string()),
        ("event_timestamp", pa.timestamp("us", tz="UTC")),
        ("created_timestamp", pa.timestamp("us", tz="UTC")),
        ("amount", pa.float64()),
        ("item", pa.string()),
    ]
)

Write = Callable[..., Platform]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows as the days of the view."""

    def written(rows: list[dict[str, Any]], schema: pa.Schema = SCHEMA) -> Platform:
        platform = Platform(Settings(home=tmp_path / "home"))
        with platform.lake.connect() as connection:
            connection.register("some_rows", pa.Table.from_pylist(rows, schema))
            platform.lake.write_days(connection, "some_rows", "features/sold", DAYS)
        return platform

    return written


def asked(platform: Platform, name: str, days: list[dt.date] = DAYS) -> contract.Finding:
    return contract.asked_of_days(platform.lake, VIEW, days, checks.DAY_RULES[name][1])


@pytest.mark.parametrize("rows", [GOOD, GOOD[:1], [], [row("01T10:00", amount=None)]])
@pytest.mark.parametrize("name", checks.DAY_RULES)
def test_good_days_pass_and_so_do_empty_ones_and_a_column_of_nulls(
    name: str, rows: list[dict[str, Any]], write: Write
) -> None:
    found = asked(write(rows), name)
    assert found.holds, found.reason
    assert found.counts["days"] == 2


@pytest.mark.parametrize("name", checks.DAY_RULES)
def test_a_missing_file_fails_and_names_the_day(name: str, write: Write) -> None:
    platform = write(GOOD)
    platform.lake.day_file("features/sold", DAYS[1]).unlink()
    found = asked(platform, name)
    assert not found.holds
    assert "table features/sold: no file for 1 of 2 days: 2024-01-02" in found.reason


@pytest.mark.parametrize("name", checks.DAY_RULES)
def test_a_broken_file_fails(name: str, write: Write) -> None:
    platform = write(GOOD)
    platform.lake.day_file("features/sold", DAYS[1]).write_bytes(b"PAR1 and no more")
    found = asked(platform, name)
    assert not found.holds
    assert "the files cannot be judged" in found.reason


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (SCHEMA.remove(3), "column amount is missing in 2 of 2 files"),
        (SCHEMA.set(3, pa.field("amount", pa.string())), "has type VARCHAR in 2 of 2 files"),
        (SCHEMA.set(1, pa.field("event_timestamp", pa.timestamp("us"))), "has type TIMESTAMP in"),
        (SCHEMA.append(pa.field("more", pa.int64())), "column more is not declared"),
    ],
)
def test_another_schema_fails_in_words(schema: pa.Schema, said: str, write: Write) -> None:
    rows = [{**row("01T10:00"), "amount": None}]
    found = asked(write(rows, schema), "schema_contract")
    assert not found.holds
    assert said in found.reason


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"amount": -1.0}, "column amount: rule at least 0; 1 of 4 rows"),
        ({"amount": 101.0}, "column amount: rule at most 100; 1 of 4 rows"),
        ({"amount": float("nan")}, "column amount: rule finite; 1 of 4 rows"),
        ({"item": "cup"}, "column item: rule one of tea, pot; 1 of 4 rows"),
        ({"item": None}, "column item: rule no value is missing; 1 of 4 rows"),
        ({"shop": None}, "column shop: rule no value is missing; 1 of 4 rows"),
    ],
)
def test_a_value_out_of_range_fails_with_count_and_example(
    wrong: dict[str, Any], said: str, write: Write
) -> None:
    found = asked(write([*GOOD, row("02T11:00", **wrong)]), "value_ranges")
    assert not found.holds
    assert said in found.reason
    assert "for example {'shop': " in found.reason
    assert "'event_timestamp': '2024-01-02 11:00:00'" in found.reason


def test_only_the_days_asked_for_are_judged(write: Write) -> None:
    platform = write([*GOOD, row("02T11:00", amount=-1.0)])
    assert asked(platform, "value_ranges", DAYS[:1]).holds


def test_a_row_that_is_there_twice_fails_with_its_keys(write: Write) -> None:
    found = asked(write([*GOOD, GOOD[2]]), "unique_rows")
    assert not found.holds
    assert "rule unique; 1 more than once; for example {'shop': 'b'" in found.reason


def test_a_correction_created_later_is_no_repetition(write: Write) -> None:
    later = row("02T10:00", created_timestamp=at("03T00:00"))
    assert asked(write([*GOOD, later]), "unique_rows").holds


@pytest.mark.parametrize(
    ("now", "end", "holds"),
    [
        ("02T20:00", None, True),
        ("03T10:00", None, True),
        ("03T10:01", None, False),
        ("30T00:00", None, False),
        ("30T00:00", dt.date(2024, 1, 3), True),
        ("30T00:00", dt.date(2024, 1, 4), False),
    ],
)
def test_the_newest_event_is_at_most_a_ttl_before_the_end_or_now(
    now: str, end: dt.date | None, holds: bool, write: Write
) -> None:
    view = VIEW.model_copy(update={"calendar": Calendar(start=DAYS[0], end=end)})
    found = contract.fresh(write(GOOD).lake, view, at(now))
    assert found.holds == holds, found.reason
    assert ("expected at most 1 day, 0:00:00, the TTL" in found.reason) == (not holds)


def test_no_events_are_expected_after_their_declared_end(write: Write) -> None:
    view = VIEW.model_copy(update={"calendar": Calendar(start=DAYS[0])})
    ended = view.model_copy(update={"events_end": dt.date(2024, 1, 3)})
    lake = write(GOOD).lake
    assert contract.fresh(lake, ended, at("30T00:00")).holds
    assert not contract.fresh(lake, view, at("30T00:00")).holds


def test_the_newest_event_may_lie_before_days_without_rows(write: Write) -> None:
    found = contract.fresh(write(GOOD[:1]).lake, VIEW, at("30T00:00"))
    assert not found.holds
    assert "the newest event is of 2024-01-01 10:00" in found.reason


@pytest.mark.parametrize("rows", [[], None])
def test_a_view_without_rows_or_files_is_not_fresh(rows: Any, write: Write, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "nothing") if rows is None else write(rows).lake
    found = contract.fresh(lake, VIEW, at("02T00:00"))
    assert not found.holds
    assert "no rows in" in found.reason


def test_the_day_that_breaks_a_rule_is_blocked_and_no_other(
    write: Write, instance: dg.DagsterInstance
) -> None:
    platform = write([*GOOD, row("02T11:00", amount=-1.0)])
    days = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-03")
    with accepted():

        @dg.asset(key=keys.features(VIEW), partitions_def=days)
        def table() -> None: ...

        @dg.asset(deps=[table], partitions_def=days)
        def after() -> None: ...

        def run(day: dt.date) -> dg.ExecuteInProcessResult:
            return dg.materialize(
                [table, after, *checks.view_checks(VIEW)],
                instance=instance,
                partition_key=f"{day}",
                resources={"platform": platform},
                raise_on_error=False,
            )

        good, bad = run(DAYS[0]), run(DAYS[1])
    assert good.success
    assert {e.partition for e in good.get_asset_check_evaluations()} == {"2024-01-01", None}
    told = {e.check_name: e.passed for e in bad.get_asset_check_evaluations()}
    assert told == {
        "fresh": True,
        "schema_contract": True,
        "unique_rows": True,
        "value_ranges": False,
    }
    assert not bad.asset_materializations_for_node("after")


def test_a_run_of_days_is_judged_as_a_whole_and_described_by_its_newest_day(
    write: Write, instance: dg.DagsterInstance
) -> None:
    platform = write(GOOD)
    with accepted():

        @dg.asset(
            key=keys.features(VIEW),
            partitions_def=dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-03"),
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        def table() -> None: ...

        definitions = dg.Definitions(
            assets=[table, statistics_asset(VIEW)],
            asset_checks=[checks._day_check(VIEW, "unique_rows", "", contract.unique)],
            resources={"platform": platform},
        )
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            tags={RANGE_START: "2024-01-01", RANGE_END: "2024-01-02"},
        )
    [evaluation] = result.get_asset_check_evaluations()
    assert {name: value.value for name, value in evaluation.metadata.items()} == {
        "days": 2,
        "rows": 3,
        "rows_repeated": 0,
    }
    first, newest = result.asset_materializations_for_node("feature_statistics__sold")
    assert "newest_day" not in first.metadata
    values = {name: value.value for name, value in newest.metadata.items()}
    assert [row.data["feature"] for row in values["newest_day"].records] == ["amount", "item"]
    assert (values["rows"], values["amount/mean"], values["item/null_share"]) == (2, 1.0, 0.0)
    assert values["rows_computed"] == 4


def spec_of(tmp_path: Path) -> ModelSpec:
    """The shop's model, with features from its view only."""
    spec = returns(tmp_path)
    return spec.model_copy(update={"features": spec.features.model_copy(update={"request": ()})})


def training_set(platform: Platform, spec: ModelSpec, n: int = 400, **change: Any) -> str:
    """Features of every hour, each known an hour later, and rows that ask for them."""
    start = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    hours = [start + dt.timedelta(hours=i) for i in range(96)]
    later = [hour + dt.timedelta(hours=1) for hour in hours]
    [view] = spec.features.views
    rows = pa.table(
        {
            "shop": ["a"] * 96,
            "item": ["tea"] * 96,
            "event_timestamp": pa.array(hours, pa.timestamp("us", tz="UTC")),
            "created_timestamp": pa.array(later, pa.timestamp("us", tz="UTC")),
            "amount_last": [float(i) for i in range(96)],
            "amount_2d": [float(i % 7) for i in range(96)],
        }
    )
    days = [dt.date(2024, 1, day) for day in range(1, 5)]
    with platform.lake.connect() as connection:
        connection.register("some_rows", rows)
        platform.lake.write_days(connection, "some_rows", f"features/{view.name}", days)
    asked_at = [start + dt.timedelta(minutes=30 + 13 * i) for i in range(n)]
    # Half past h: the row of the hour before is the newest that is known.
    known = [int((t - start).total_seconds() // 3600) - 1 for t in asked_at]
    columns = {
        "order_id": [f"o{i}" for i in range(n)],
        "shop": ["a"] * n,
        "item": ["tea"] * n,
        "event_timestamp": pa.array(asked_at, pa.timestamp("us", tz="UTC")),
        "returned": [i % 2 for i in range(n)],
        "split": ["train"] * n,
        "amount_last": [float(i) if i >= 0 else None for i in known],
        "amount_2d": [float(i % 7) if i >= 0 else None for i in known],
        **change,
    }
    return platform.training_sets.write(spec.name, pa.table(columns), {}).snapshot


def judged(
    platform: Platform, spec: ModelSpec, snapshot: str, instance: dg.DagsterInstance
) -> dict[str, dg.AssetCheckEvaluation]:
    @dg.asset(key=keys.training_set(spec))
    def table() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"snapshot": snapshot})

    result = dg.materialize(
        [table, *checks.leakage_checks(spec)],
        instance=instance,
        resources={"platform": platform},
        raise_on_error=False,
    )
    return {e.check_name: e for e in result.get_asset_check_evaluations()}


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(Settings(home=tmp_path / "home"))


def test_a_training_set_of_what_was_known_passes(
    platform: Platform, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    spec = spec_of(tmp_path)
    snapshot = training_set(platform, spec)
    told = judged(platform, spec, snapshot, instance)
    assert {name: e.passed for name, e in told.items()} == {
        "leakage_free": True,
        "no_label_in_features": True,
    }
    assert "all 800 values" in str(told["leakage_free"].description)
    assert told["leakage_free"].metadata["snapshot"].value == snapshot


def test_a_value_that_was_created_later_is_a_leak(
    platform: Platform, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    spec = spec_of(tmp_path)
    # As if created times did not count: the event of the running hour.
    hours = [float((30 + 13 * i) // 60) for i in range(400)]
    told = judged(platform, spec, training_set(platform, spec, amount_last=hours), instance)
    assert not told["leakage_free"].passed
    assert "feature amount_last, row o" in str(told["leakage_free"].description)
    assert "400 of 800 values" in str(told["leakage_free"].description)


def test_a_feature_that_is_the_label_is_named(
    platform: Platform, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    spec = spec_of(tmp_path)
    label = [float(i % 2) for i in range(400)]
    told = judged(platform, spec, training_set(platform, spec, amount_2d=label), instance)
    assert not told["no_label_in_features"].passed
    assert "amount_2d (AUC 1.0000)" in str(told["no_label_in_features"].description)


def test_values_older_than_the_ttl_were_not_knowable(platform: Platform, tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    [view] = spec.features.views
    training_set(platform, spec)
    end = dt.datetime(2024, 1, 4, 23, tzinfo=dt.UTC)
    rows = pa.table(
        {
            "shop": ["a", "a", None, "b"],
            "item": ["tea"] * 4,
            "event_timestamp": pa.array(
                [end + view.ttl, end + view.ttl + dt.timedelta(microseconds=1), end, end],
                pa.timestamp("us", tz="UTC"),
            ),
            "place": range(4),
        }
    )
    found = knowable.answers(platform.lake, view, rows, "known", view.features[:1])
    assert found == {"amount_last": [95.0, None, None, None]}
    future = knowable.answers(platform.lake, view, rows, "future", view.features[:1])
    assert future == {"amount_last": [None, None, None, None]}


def test_the_sample_is_the_same_for_a_seed_whatever_the_order(
    platform: Platform, tmp_path: Path
) -> None:
    spec = spec_of(tmp_path)
    path = platform.training_sets.file(spec.name, training_set(platform, spec))
    drawn = knowable.sample(platform.lake, path, ["shop"], "order_id", 50, 0)
    turned = tmp_path / "turned.parquet"
    platform.lake.write_arrow(platform.lake.read("FROM t ORDER BY order_id DESC", t=path), turned)
    assert knowable.sample(platform.lake, turned, ["shop"], "order_id", 50, 0).equals(drawn)
    other = knowable.sample(platform.lake, path, ["shop"], "order_id", 50, 1)
    assert other["order_id"].to_pylist() != drawn["order_id"].to_pylist()
    assert drawn["place"].to_pylist() == list(range(50))
