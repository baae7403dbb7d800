"""Tables in the lake appear whole or not at all."""

import datetime as dt
import json
import signal
import stat
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from mlops_assets.errors import SourceError
from mlops_assets.stores.lake import Lake, quoted, text, view, write_json

NUMBERS = "SELECT * FROM range(3) t(n)"
BROKEN = "SELECT error('in the middle') FROM range(3)"
FIRST, SECOND, THIRD = (dt.date(2024, 1, number) for number in (1, 2, 3))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def write(lake: Lake, query: str, table: str = "a/b", **notes: str) -> int:
    with lake.connect() as connection:
        return lake.write(connection, query, lake.file(table), notes)


def write_days(lake: Lake, hours: list[int], days: list[dt.date], **notes: str) -> dict:
    """Write rows at hours after the first midnight of 2024, as the table `days`."""
    with lake.connect() as connection:
        rows = pa.table({"hour": pa.array(hours, pa.int64())})
        connection.register("hours", rows)
        connection.execute(
            "CREATE TABLE computed AS SELECT hour, "
            "TIMESTAMPTZ '2024-01-01' + to_hours(hour) AS event_timestamp FROM hours"
        )
        return lake.write_days(connection, "computed", "days", days, notes)


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


def test_times_are_read_in_utc(lake: Lake) -> None:
    write(lake, "SELECT TIMESTAMPTZ '2024-07-01 12:00:00+02' AS n")
    found = lake.read("SELECT n::VARCHAR AS n FROM t", t=lake.file("a/b"))
    assert found["n"].to_pylist() == ["2024-07-01 10:00:00+00"]


def test_a_connection_takes_as_many_threads_as_it_is_told(lake: Lake) -> None:
    with lake.connect(threads=1) as connection:
        assert connection.execute("SELECT current_setting('threads')").fetchone() == (1,)


def test_a_fingerprint_is_kept_in_the_file(lake: Lake) -> None:
    write(lake, NUMBERS, fingerprint="it's one")
    assert lake.fingerprints(lake.file("a/b")) == {"b.parquet": "it's one"}


def test_a_table_without_fingerprint_has_none(lake: Lake) -> None:
    write(lake, NUMBERS)
    assert lake.fingerprints(lake.file("a/b")) == {}


def test_a_table_that_is_not_there_has_no_fingerprint(lake: Lake) -> None:
    lake.folder("empty").mkdir(parents=True)
    assert lake.fingerprints(lake.file("a/b")) == lake.fingerprints(lake.folder("empty")) == {}


def test_every_row_goes_into_the_file_of_its_day_in_utc(lake: Lake) -> None:
    assert write_days(lake, [0, 23, 24], [FIRST, SECOND]) == {FIRST: 2, SECOND: 1}
    assert column(lake, lake.day_file("days", FIRST), "hour") == [0, 23]
    assert column(lake, lake.day_file("days", SECOND), "hour") == [24]
    assert lake.read("SELECT * FROM t", t=lake.folder("days")).num_rows == 3


def test_daily_files_hold_the_columns_of_the_relation_and_no_more(lake: Lake) -> None:
    write_days(lake, [0], [FIRST])
    found = lake.read("SELECT * FROM t", t=lake.folder("days"))
    assert found.column_names == ["hour", "event_timestamp"]


def test_a_day_without_rows_gets_an_empty_file(lake: Lake) -> None:
    assert write_days(lake, [0], [FIRST, SECOND]) == {FIRST: 1, SECOND: 0}
    one, other = (lake.read("FROM t", t=lake.day_file("days", day)) for day in (FIRST, SECOND))
    assert (other.num_rows, other.schema) == (0, one.schema)


def test_exactly_the_given_days_are_replaced(lake: Lake) -> None:
    write_days(lake, [0, 24, 48], [FIRST, SECOND, THIRD], fingerprint="old")
    write_days(lake, [25], [SECOND, THIRD], fingerprint="new")
    assert column(lake, lake.folder("days"), "hour") == [0, 25]
    assert lake.fingerprints(lake.folder("days")) == {
        "2024-01-01.parquet": "old",
        "2024-01-02.parquet": "new",
        "2024-01-03.parquet": "new",
    }


def test_days_that_fail_leave_the_old_ones_and_no_scratch(lake: Lake) -> None:
    write_days(lake, [0], [FIRST])
    relation = f"(SELECT TIMESTAMPTZ '2024-01-01' AS event_timestamp, e FROM ({BROKEN}) t(e))"
    with lake.connect() as connection, pytest.raises(duckdb.Error, match="in the middle"):
        lake.write_days(connection, relation, "days", [FIRST])
    assert files(lake.root) == ["days/2024-01-01.parquet"]
    assert column(lake, lake.folder("days"), "hour") == [0]


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
import sys, pathlib
from mlops_assets.stores.lake import Lake

lake = Lake(pathlib.Path(sys.argv[1]))
query = "SELECT TIMESTAMPTZ '2024-01-01' AS event_timestamp, n FROM range(1000000000000) t(n)"
with lake.connect(threads=1) as connection:
    if sys.argv[2] == "one file":
        lake.write(connection, query, lake.file("one"))
    else:
        connection.execute(f"CREATE VIEW computed AS {query}")
        lake.write_days(connection, "computed", "days", [])
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
