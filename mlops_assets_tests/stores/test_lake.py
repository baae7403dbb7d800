"""Tables in the lake appear whole or not at all."""

import datetime as dt
import json
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.errors import DataError, SourceError
from mlops_assets.stores.lake import Lake, quoted, text, view, write_json

NUMBERS = "SELECT * FROM range(3) t(n)"
BROKEN = "SELECT error('in the middle') FROM range(3)"
FIRST, SECOND, THIRD = (dt.date(2024, 1, number) for number in (1, 2, 3))
Hours = Sequence[int | None]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def write(lake: Lake, query: str, table: str = "a/b", **notes: str) -> int:
    with lake.connect() as connection:
        return lake.write(connection, query, lake.file(table), notes)


def at(hours: Hours) -> pa.Table:
    """Rows at hours after the first midnight of 2024."""
    start = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    times = [None if hour is None else start + dt.timedelta(hours=hour) for hour in hours]
    kind = pa.timestamp("us", tz="UTC")
    return pa.table({"hour": pa.array(hours, pa.int64()), "event_timestamp": pa.array(times, kind)})


def write_days(lake: Lake, hours: Hours, days: list[dt.date], **notes: str) -> dict:
    """Write rows at hours after the first midnight of 2024, as the table `days`."""
    return lake.write_days(at(hours), "days", days, dict.fromkeys(days, notes))


def add(lake: Lake, day: dt.date, hour: int, name: str = "1") -> Path:
    """Add a row to a day of the table `days`, as the feature store does."""
    path = lake.folder("days") / f"{day}.added-{name}.parquet"
    pq.write_table(at([hour]), path)
    return path


def column(lake: Lake, path: Path, name: str) -> list:
    return lake.read(f"SELECT {name} FROM t ORDER BY ALL", t=path)[name].to_pylist()


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_names_and_strings_are_quoted() -> None:
    name, value = 'a "b"', "it's"
    found = duckdb.sql(f"SELECT {text(value)} AS {quoted(name)}")
    assert (found.columns, found.fetchall()) == ([name], [(value,)])


def test_a_table_is_read_as_it_was_written(lake: Lake) -> None:
    assert write(lake, NUMBERS) == 3
    assert column(lake, lake.file("a/b"), "n") == [0, 1, 2]
    assert lake.read("SELECT * FROM t", t=lake.file("a/b")).num_rows == 3


def test_nothing_but_the_table_is_left(lake: Lake) -> None:
    write(lake, NUMBERS)
    assert [path.name for path in lake.root.iterdir()] == ["a"]
    assert files(lake.root) == ["a/b.parquet"]


def test_a_table_is_replaced(lake: Lake) -> None:
    write(lake, NUMBERS)
    write(lake, "SELECT 7 AS n")
    assert column(lake, lake.file("a/b"), "n") == [7]


def test_a_query_that_fails_leaves_the_old_table_and_no_scratch(lake: Lake) -> None:
    write(lake, NUMBERS)
    with pytest.raises(duckdb.Error, match="in the middle"):
        write(lake, BROKEN)
    assert files(lake.root) == ["a/b.parquet"]
    assert column(lake, lake.file("a/b"), "n") == [0, 1, 2]


def test_a_reader_keeps_the_table_that_it_opened(lake: Lake) -> None:
    write(lake, NUMBERS)
    old = lake.file("a/b").read_bytes()
    with lake.file("a/b").open("rb") as opened:
        write(lake, "SELECT 7 AS n")
        assert opened.read() == old != lake.file("a/b").read_bytes()


def test_an_arrow_table_is_read_as_it_was_written(lake: Lake) -> None:
    table = pa.table({"n": [1, None], "s": ["a", None]})
    assert lake.write_arrow(table, lake.file("arrow")) == 2
    assert lake.read("SELECT * FROM t", t=lake.file("arrow")).equals(table)


@pytest.mark.parametrize("writer", ["one file", "daily files"])
def test_a_filter_finds_the_rows_whose_value_is_not_a_number(writer: str, lake: Lake) -> None:
    # Parquet's least and greatest value leave NaN out, and DuckDB believes them.
    rows = at([0, 1, 2]).append_column("n", pa.array([1.0, float("nan"), 1.0]))
    if writer == "one file":
        lake.write_arrow(rows, lake.file("t"))
    else:
        lake.write_days(rows, "t", [FIRST])
    path = lake.file("t") if writer == "one file" else lake.folder("t")
    for rule, hours in {"isnan(n)": [1], "n > 1": [1], "n = 1": [0, 2], "hour < 1": [0]}.items():
        found = lake.read(f"SELECT hour FROM t WHERE {rule} ORDER BY 1", t=path)
        assert found["hour"].to_pylist() == hours


def test_times_are_read_in_utc(lake: Lake) -> None:
    write(lake, "SELECT TIMESTAMPTZ '2024-07-01 12:00:00+02' AS n")
    found = lake.read("SELECT n::VARCHAR AS n FROM t", t=lake.file("a/b"))
    assert found["n"].to_pylist() == ["2024-07-01 10:00:00+00"]


def test_notes_are_kept_in_the_file(lake: Lake) -> None:
    write(lake, NUMBERS, fingerprint="it's one", made_by="us")
    assert lake.fingerprint(lake.file("a/b")) == "it's one"
    assert lake.notes(lake.file("a/b")) == {"fingerprint": "it's one", "made_by": "us"}


def test_a_table_without_fingerprint_has_none(lake: Lake) -> None:
    write(lake, NUMBERS)
    assert lake.fingerprint(lake.file("a/b")) is None


@pytest.mark.parametrize("content", [None, b"", b"PAR1", b"no parquet at all"])
def test_a_file_that_is_no_table_has_no_notes(content: bytes | None, lake: Lake) -> None:
    path = lake.file("a")
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    assert lake.notes(path) == {}
    assert lake.fingerprint(path) is None


def test_every_row_goes_into_the_file_of_its_day_in_utc(lake: Lake) -> None:
    assert write_days(lake, [0, 23, 24], [FIRST, SECOND]) == {FIRST: 2, SECOND: 1}
    assert column(lake, lake.day_file("days", FIRST), "hour") == [0, 23]
    assert column(lake, lake.day_file("days", SECOND), "hour") == [24]
    assert lake.read("SELECT * FROM t", t=lake.folder("days")).num_rows == 3


def test_daily_files_hold_the_columns_of_the_rows_and_no_more(lake: Lake) -> None:
    write_days(lake, [0], [FIRST])
    found = lake.read("SELECT * FROM t", t=lake.folder("days"))
    assert found.schema == at([]).schema


def test_a_day_without_rows_gets_an_empty_file(lake: Lake) -> None:
    assert write_days(lake, [0], [FIRST, SECOND]) == {FIRST: 1, SECOND: 0}
    one, other = (lake.read("FROM t", t=lake.day_file("days", day)) for day in (FIRST, SECOND))
    assert (other.num_rows, other.schema) == (0, one.schema)


def test_exactly_the_given_days_are_replaced(lake: Lake) -> None:
    write_days(lake, [0, 24, 48], [FIRST, SECOND, THIRD], fingerprint="old")
    write_days(lake, [25], [SECOND, THIRD], fingerprint="new")
    assert column(lake, lake.folder("days"), "hour") == [0, 25]
    assert lake.day_fingerprints("days") == {FIRST: "old", SECOND: "new", THIRD: "new"}


@given(
    st.lists(st.none() | st.integers(-24, 71), max_size=6),
    st.sets(st.sampled_from([FIRST, SECOND])).map(sorted),
)
def test_rows_of_other_days_and_of_no_time_are_refused_and_nothing_is_written(
    hours: Hours, days: list[dt.date]
) -> None:
    of_row = [None if hour is None else FIRST + dt.timedelta(days=hour // 24) for hour in hours]
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        if set(of_row) <= set(days):
            assert write_days(lake, hours, days) == {day: of_row.count(day) for day in days}
            for day in days:
                kept = pq.read_table(lake.day_file("days", day))["hour"].to_pylist()
                assert kept == [h for h, d in zip(hours, of_row, strict=True) if d == day]
        else:
            with pytest.raises(DataError, match="are not of the"):
                write_days(lake, hours, days)
            assert files(lake.root) == []


def test_each_day_has_its_own_notes(lake: Lake) -> None:
    notes = {FIRST: {"fingerprint": "one"}, SECOND: {"fingerprint": "two"}}
    lake.write_days(at([0, 24]), "days", [FIRST, SECOND, THIRD], notes)
    assert lake.day_fingerprints("days") == {FIRST: "one", SECOND: "two", THIRD: None}


def test_what_was_added_to_a_day_goes_when_the_day_is_replaced_and_only_then(lake: Lake) -> None:
    write_days(lake, [0, 24], [FIRST, SECOND])
    for day, hour in [(FIRST, 1), (SECOND, 25), (SECOND, 26)]:
        add(lake, day, hour, name=f"{hour}")
    write_days(lake, [24], [SECOND])
    assert column(lake, lake.folder("days"), "hour") == [0, 1, 24]
    assert files(lake.folder("days")) == [
        "2024-01-01.added-1.parquet",
        "2024-01-01.parquet",
        "2024-01-02.parquet",
    ]


def test_a_crash_between_two_files_leaves_no_day_that_looks_new_and_is_not(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_days(lake, [0], [FIRST], fingerprint="old")
    added = add(lake, FIRST, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", crash)
        with pytest.raises(KeyboardInterrupt):
            write_days(lake, [0, 1], [FIRST], fingerprint="new")
    assert added.exists()
    assert lake.day_fingerprints("days") == {FIRST: "old"}


def crash(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_days_of_a_table_have_their_files_in_order(lake: Lake) -> None:
    write_days(lake, [0, 24], [SECOND, FIRST])
    added = add(lake, FIRST, 1)
    found = lake.days("days")
    assert list(found) == [FIRST, SECOND]
    assert found[FIRST].paths == (added, lake.day_file("days", FIRST))
    assert lake.days("nothing") == {}


def test_the_mark_of_a_day_changes_with_its_files_and_no_others(lake: Lake) -> None:
    def marks() -> dict[dt.date, str]:
        return {day: found.mark for day, found in lake.days("days").items()}

    write_days(lake, [0, 24], [FIRST, SECOND])
    first = marks()
    add(lake, FIRST, 1)
    second = marks()
    write_days(lake, [24, 25], [SECOND])
    third = marks()
    assert first == {**first, SECOND: second[SECOND]} != second
    assert third == {**third, FIRST: second[FIRST]} != second
    assert marks() == third


def test_a_file_of_no_day_among_the_days_is_named(lake: Lake) -> None:
    write_days(lake, [0], [FIRST])
    (lake.folder("days") / "rows.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"rows\.parquet lies among the daily files"):
        lake.days("days")


def test_many_days_in_no_order_lose_no_row(lake: Lake) -> None:
    days = [FIRST + dt.timedelta(days=i) for i in range(120)]
    hours = [24 * (i % 120) for i in range(6_000)]
    assert set(write_days(lake, hours, days).values()) == {50}
    assert len(files(lake.folder("days"))) == 120
    assert lake.read("SELECT * FROM t", t=lake.folder("days")).num_rows == 6_000


def test_a_table_that_is_not_there_is_named(lake: Lake) -> None:
    with pytest.raises(SourceError, match="materialize the asset that writes 'sales'"):
        lake.read("FROM sales", sales=lake.file("raw/sales"))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all", b"PAR1 and then PAR1"])
def test_a_file_that_is_no_table_is_named(content: bytes, lake: Lake) -> None:
    path = lake.file("sales")
    path.parent.mkdir()
    path.write_bytes(content)
    with lake.connect() as connection, pytest.raises(SourceError, match="'sales' cannot be read"):
        view(connection, "sales", path)


def sizes(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_size for name in files(folder)}


ENDLESS = """
import datetime as dt, pathlib, sys
import pyarrow as pa
from mlops_assets.stores.lake import Lake

lake = Lake(pathlib.Path(sys.argv[1]))
if sys.argv[2] == "one file":
    with lake.connect() as connection:
        query = "SELECT n FROM range(1000000000000) t(n)"
        lake.write(connection, query, lake.file("one"))
else:
    days = [dt.date(2024, 1, 1) + dt.timedelta(days=i) for i in range(700_000)]
    kind = pa.timestamp("us", tz="UTC")
    rows = pa.table({"hour": [5], "event_timestamp": pa.array([dt.datetime(2024, 1, 1)], kind)})
    lake.write_days(rows, "days", days)
"""


@pytest.mark.parametrize("kind", ["one file", "daily files"])
def test_a_process_that_is_killed_while_it_writes_leaves_readable_tables(
    kind: str, lake: Lake
) -> None:
    write(lake, NUMBERS, "one")
    write_days(lake, [0], [FIRST])
    before = sizes(lake.root)
    with subprocess.Popen([sys.executable, "-c", ENDLESS, str(lake.root), kind]) as process:
        while sizes(lake.root) == before:
            assert process.poll() is None
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert {name for name in files(lake.root) if not name.startswith(".scratch")} == {*before}
    assert column(lake, lake.file("one"), "n") == [0, 1, 2]
    assert column(lake, lake.folder("days"), "hour") == [0]


def test_a_document_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "a.json", {"b": [1, None], "a": "é"})
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == {"a": "é", "b": [1, None]}


@pytest.mark.parametrize("broken", [{"a": float("nan")}, {"a": object()}])
def test_a_document_that_cannot_be_written_leaves_the_old_one(broken, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", broken)
    assert files(tmp_path) == ["a.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}


def test_a_document_is_as_readable_for_others_as_a_table(lake: Lake) -> None:
    write(lake, NUMBERS)
    write_json(lake.root / "a.json", {})
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (lake.file("a/b"), lake.root / "a.json")]
    assert modes[0] == modes[1]
