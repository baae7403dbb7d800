"""The contract of a feature view: what breaks it, in which words, and which days are judged."""

import datetime as dt
import os
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.engines import feature_contract as contract
from mlops_assets.stores.lake import Lake
from mlops_assets.tables import Calendar, Column, FeatureView
from mlops_assets_tests.engines.sold_world import BAD, DAYS, GOOD, SCHEMA, VIEW, at, row, write

FIRST, SECOND = DAYS


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def asked(lake: Lake, rule: str, view: FeatureView = VIEW) -> contract.Finding:
    return contract.judged(lake, view, rule)


def judged_days(lake: Lake, rule: str = "value_ranges", view: FeatureView = VIEW) -> float:
    """How many days are judged; they pass."""
    found = asked(lake, rule, view)
    assert found.holds, found.reason
    return found.counts["judged_days"]


@pytest.mark.parametrize("rows", [GOOD, GOOD[:1], [], [row("01T10:00", amount=None)]])
@pytest.mark.parametrize("rule", contract.RULES)
def test_good_days_pass_and_so_do_empty_ones_and_a_column_of_nulls(
    rule: str, rows: list[dict[str, Any]], lake: Lake
) -> None:
    assert judged_days(write(lake, rows), rule) == 2


@pytest.mark.parametrize("rule", contract.RULES)
def test_a_view_without_files_fails(rule: str, lake: Lake) -> None:
    found = asked(lake, rule)
    assert not found.holds
    assert "table features/sold: there are no files" in found.reason


@pytest.mark.parametrize("rule", contract.RULES)
def test_a_broken_file_fails(rule: str, lake: Lake) -> None:
    write(lake, GOOD).day_file("features/sold", SECOND).write_bytes(b"PAR1 and no more")
    found = asked(lake, rule)
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
def test_another_schema_fails_in_words(schema: pa.Schema, said: str, lake: Lake) -> None:
    rows = [{**row("01T10:00"), "amount": None}]
    found = asked(write(lake, rows, schema=schema), "schema_contract")
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
    wrong: dict[str, Any], said: str, lake: Lake
) -> None:
    found = asked(write(lake, [*GOOD, row("02T11:00", **wrong)]), "value_ranges")
    assert not found.holds
    assert said in found.reason
    assert "for example {'shop': " in found.reason
    assert "'event_timestamp': '2024-01-02 11:00:00'" in found.reason


def test_a_value_that_is_not_a_number_is_shown_where_the_file_does_not_tell_of_it(
    lake: Lake,
) -> None:
    write(lake, GOOD)
    added = lake.folder("features/sold") / f"{SECOND}.added-1.parquet"
    rows = [row("02T11:00"), row("02T12:00", amount=float("nan"))]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), added)
    assert "'2024-01-02 12:00:00'" in asked(lake, "value_ranges").reason


def test_a_row_that_is_there_twice_fails_with_its_keys(lake: Lake) -> None:
    found = asked(write(lake, [*GOOD, GOOD[2]]), "unique_rows")
    assert not found.holds
    assert "rule unique; 1 more than once; for example {'shop': 'b'" in found.reason


def test_a_correction_created_later_is_no_repetition(lake: Lake) -> None:
    later = row("02T10:00", created_timestamp=at("03T00:00"))
    assert judged_days(write(lake, [*GOOD, later]), "unique_rows") == 2


STEP = st.tuples(st.sampled_from([*DAYS, dt.date(2024, 1, 3)]), st.integers(0, 2), st.booleans())


@given(st.lists(st.tuples(STEP, st.booleans()), min_size=1, max_size=6))
@settings(max_examples=40)
def test_the_answer_is_that_of_all_days_whatever_was_judged_before(
    steps: list[tuple[tuple[dt.date, int, bool], bool]],
) -> None:
    good: dict[dt.date, bool] = {}
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        for (day, n, bad), judge in steps:
            rows = [row(f"{day:%d}T0{i}:00", **(BAD if bad else {})) for i in range(n)]
            write(lake, rows, [day])
            good[day] = not (bad and n)
            if judge:
                found = asked(lake, "value_ranges")
                assert found.holds == all(good.values())
                # Again: what was found is not forgotten.
                assert asked(lake, "value_ranges").holds == found.holds


def test_a_day_that_failed_is_judged_again_by_a_run_about_another_day(lake: Lake) -> None:
    write(lake, [GOOD[0], row("02T11:00", **BAD)])
    assert not asked(lake, "value_ranges").holds
    write(lake, [row("01T12:00")], [FIRST])
    found = asked(lake, "value_ranges")
    assert not found.holds
    assert "2024-01-02 11:00:00" in found.reason


def test_a_day_that_a_killed_run_did_not_judge_is_judged_by_the_next(lake: Lake) -> None:
    write(lake, GOOD[:1], [FIRST])
    assert judged_days(lake) == 1
    write(lake, [row("02T11:00", **BAD)], [SECOND])  # and then the run was killed
    write(lake, GOOD[:1], [FIRST])
    found = asked(lake, "value_ranges")
    assert not found.holds
    assert found.counts["judged_days"] == 2


def test_rows_that_were_added_are_judged_with_their_day(lake: Lake) -> None:
    assert judged_days(write(lake, GOOD), "unique_rows") == 2
    file = lake.day_file("features/sold", FIRST)
    file.with_name(f"{FIRST}.added-1.parquet").write_bytes(file.read_bytes())
    found = asked(lake, "unique_rows")
    assert not found.holds
    assert found.counts["judged_days"] == 1


@pytest.mark.parametrize("rule", contract.RULES)
def test_a_file_that_is_lost_fails_and_its_day_is_named(rule: str, lake: Lake) -> None:
    judged_days(write(lake, GOOD), rule)
    lake.day_file("features/sold", SECOND).unlink()
    for _ in range(2):
        found = asked(lake, rule)
        assert not found.holds
        assert "the files of 1 days are gone: 2024-01-02" in found.reason
    write(lake, GOOD[1:], [SECOND])
    assert judged_days(lake, rule) == 1


def test_a_day_that_the_calendar_has_no_more_is_not_lost(lake: Lake) -> None:
    judged_days(write(lake, GOOD))
    lake.day_file("features/sold", FIRST).unlink()
    later = VIEW.model_copy(update={"calendar": Calendar(start=SECOND)})
    assert judged_days(lake, view=later) == 0


@pytest.mark.parametrize("rule", contract.RULES)
def test_an_unchanged_day_is_not_read_again(rule: str, lake: Lake) -> None:
    assert judged_days(write(lake, GOOD), rule) == 2
    file = lake.day_file("features/sold", SECOND)
    before = file.stat()
    file.write_bytes(bytes(before.st_size))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert judged_days(lake, rule) == 0
    assert judged_days(write(lake, [], [FIRST]), rule) == 1


def test_a_file_that_looks_the_same_but_for_its_time_is_read_again(lake: Lake) -> None:
    judged_days(write(lake, GOOD))
    os.utime(lake.day_file("features/sold", SECOND), ns=(0, 0))
    assert judged_days(lake) == 1


@pytest.mark.parametrize(
    "change", [{"maximum": 50}, {"minimum": None}, {"nullable": False}, {"allowed": None}], ids=str
)
def test_other_bounds_in_the_declaration_judge_all_days_again(
    change: dict[str, Any], lake: Lake
) -> None:
    judged_days(write(lake, GOOD))
    amount, item = VIEW.features
    if "allowed" in change:
        item = item.model_copy(update=change)
    else:
        amount = amount.model_copy(update=change)
    assert judged_days(lake, view=VIEW.model_copy(update={"features": (amount, item)})) == 2


def test_tighter_bounds_find_what_passed_before(lake: Lake) -> None:
    judged_days(write(lake, GOOD))
    tight = (Column(name="amount", type="float", minimum=2), VIEW.features[1])
    found = asked(lake, "value_ranges", VIEW.model_copy(update={"features": tight}))
    assert "rule at least 2; 3 of 3 rows" in found.reason


def test_one_rule_that_passed_says_nothing_about_another(lake: Lake) -> None:
    write(lake, [*GOOD, row("02T11:00", **BAD)])
    assert judged_days(lake, "unique_rows") == 2
    assert not asked(lake, "value_ranges").holds
    assert judged_days(lake, "schema_contract") == 2


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[1]"])
def test_when_it_is_not_known_what_passed_all_days_are_judged(content: bytes, lake: Lake) -> None:
    judged_days(write(lake, GOOD))
    (lake.root / "contracts" / "sold" / "value_ranges.json").write_bytes(content)
    assert judged_days(lake) == 2
    assert judged_days(lake) == 0


def test_days_are_open_until_they_have_passed_every_rule(lake: Lake) -> None:
    write(lake, [*GOOD, row("02T11:00", **BAD)])
    for rule in contract.RULES:
        assert contract.open_days(lake, VIEW) == DAYS
        asked(lake, rule)
    assert contract.open_days(lake, VIEW) == DAYS
    write(lake, GOOD[1:], [SECOND])
    assert asked(lake, "value_ranges").holds
    assert contract.open_days(lake, VIEW) == [SECOND]  # by the other rules
    for rule in contract.RULES:
        asked(lake, rule)
    assert contract.open_days(lake, VIEW) == []


def test_a_day_with_added_rows_or_out_of_the_calendar_is_not_open(lake: Lake) -> None:
    write(lake, GOOD)
    first, second = (lake.day_file("features/sold", day) for day in DAYS)
    first.with_name(f"{FIRST}.added-1.parquet").write_bytes(first.read_bytes())
    second.with_name("2024-01-03.parquet").write_bytes(first.read_bytes())
    assert contract.open_days(lake, VIEW) == [SECOND]


@pytest.mark.parametrize(
    ("now", "end", "holds"),
    [
        ("02T20:00", None, True),
        ("03T23:59", None, True),
        ("04T00:00", None, False),
        ("30T00:00", None, False),
        ("30T00:00", dt.date(2024, 1, 3), True),
        ("30T00:00", dt.date(2024, 1, 4), False),
    ],
)
def test_the_newest_event_is_at_most_a_ttl_before_the_end_or_the_last_midnight(
    now: str, end: dt.date | None, holds: bool, lake: Lake
) -> None:
    view = VIEW.model_copy(update={"calendar": Calendar(start=FIRST, end=end)})
    found = contract.fresh(write(lake, GOOD), view, at(now))
    assert found.holds == holds, found.reason
    assert ("expected at most 1 day, 0:00:00, the TTL" in found.reason) == (not holds)


@pytest.mark.parametrize("end", [None, dt.date(2024, 1, 4)])
def test_days_that_are_not_materialized_yet_do_not_block(end: dt.date | None, lake: Lake) -> None:
    view = VIEW.model_copy(update={"calendar": Calendar(start=FIRST, end=end)})
    waiting = contract.fresh(write(lake, GOOD), view, at("04T10:00"))
    assert (waiting.holds, waiting.blocks) == (False, False)
    assert "the days after 2024-01-02 are not materialized yet" in waiting.reason
    there = contract.fresh(write(lake, [], [dt.date(2024, 1, 3)]), view, at("04T10:00"))
    assert (there.holds, there.blocks) == (False, True)
    assert "not materialized yet" not in there.reason


def test_no_events_are_expected_after_their_declared_end(lake: Lake) -> None:
    view = VIEW.model_copy(update={"calendar": Calendar(start=FIRST)})
    ended = view.model_copy(update={"events_end": dt.date(2024, 1, 3)})
    write(lake, GOOD)
    assert contract.fresh(lake, ended, at("30T00:00")).holds
    assert not contract.fresh(lake, view, at("30T00:00")).holds


def test_the_newest_event_may_lie_before_days_without_rows(lake: Lake) -> None:
    found = contract.fresh(write(lake, GOOD[:1]), VIEW, at("30T00:00"))
    assert (found.holds, found.blocks) == (False, True)
    assert "the newest event is of 2024-01-01 10:00" in found.reason


def test_the_newest_event_may_be_one_that_was_added(lake: Lake) -> None:
    write(lake, GOOD[:1])
    path = lake.folder("features/sold") / f"{SECOND}.added-1.parquet"
    lake.write_arrow(pa.Table.from_pylist([row("02T23:00")], SCHEMA), path)
    assert contract.fresh(lake, VIEW, at("30T00:00")).counts["age_hours"] == 1


@pytest.mark.parametrize("rows", [[], None])
def test_a_view_without_rows_or_files_is_not_fresh(rows: Any, lake: Lake) -> None:
    if rows is not None:
        write(lake, rows)
    found = contract.fresh(lake, VIEW, at("02T00:00"))
    assert (found.holds, found.blocks) == (False, True)
    assert "no rows in" in found.reason
