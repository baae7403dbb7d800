"""Writing local Parquet sources so that a reader never sees half a file.

Here belongs how rows reach files: whole results (saved datasets) and appended rows (push, offline
write). Every file is written under a hidden name in its own folder and renamed into place.
Other formats and remote storage stay with Feast's own writer.
"""

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast.errors import SavedDatasetLocationAlreadyExists

from mlops_assets.errors import ContractError
from mlops_assets.stores.asof_source import parquet_files, readable


def replace(make: Callable[[], pa.Table], path: str, *, overwrite: bool) -> None:
    """Write the table that `make` returns to a file or folder, in place of what is there.

    Raises:
        SavedDatasetLocationAlreadyExists: something is there and `overwrite` is off.
    """
    place = Path(path)
    if place.exists() and not overwrite:
        raise SavedDatasetLocationAlreadyExists(location=path)
    table = make()
    if place.suffix == ".parquet" and not place.is_dir():
        with _renamed_into(place) as unfinished:
            pq.write_table(table, unfinished)
        return
    with _renamed_into(place) as unfinished:
        unfinished.mkdir()
        pq.write_table(table, unfinished / "part-0.parquet")


def append(table: pa.Table, path: str, event_column: str) -> None:
    """Add rows to a file or a folder of files.

    A folder gets new files beside the old ones; if its files are named by day, one per UTC day of
    the rows, whose name begins with that day. A single file is written anew with the new rows
    first, as Feast does: it is meant for one writer and costs as much as the file is long.
    """
    files = parquet_files(path)
    newest = files[-1]
    with readable(f"source {newest}"):
        schema = pq.read_schema(newest).remove_metadata()
    rows = _cast(table, schema, path)
    if rows.num_rows == 0:
        return
    if Path(path).is_file():
        _append_to_file(rows, newest)
        return
    folder = Path(path) if Path(path).is_dir() else newest.parent
    dated = all(_day(file) is not None for file in files)
    for name, part in _by_day(rows, event_column) if dated else [("rows", rows)]:
        with _renamed_into(folder / f"{name}.added-{uuid.uuid4().hex}.parquet") as unfinished:
            pq.write_table(part, unfinished)


def _append_to_file(rows: pa.Table, file: Path) -> None:
    # Row group by row group: the old rows never lie in memory together.
    with (
        readable(f"source {file}"),
        pq.ParquetFile(file) as old,
        _renamed_into(file) as unfinished,
        pq.ParquetWriter(unfinished, old.schema_arrow) as writer,
    ):
        writer.write_table(rows.cast(old.schema_arrow))
        for batch in old.iter_batches():
            writer.write_batch(batch)


def _cast(table: pa.Table, schema: pa.Schema, path: str) -> pa.Table:
    if set(table.column_names) != set(schema.names):
        raise ContractError(
            f"the rows have the columns {', '.join(table.column_names)}",
            expected=f"the columns of {path}: {', '.join(schema.names)}",
            do="give exactly the source's columns",
        )
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ContractError(
            f"the rows do not fit {path}: {str(error).splitlines()[0]}",
            expected=f"the types {', '.join(f'{f.name} {f.type}' for f in schema)}",
            do="convert the columns before writing",
        ) from error


def _by_day(rows: pa.Table, event_column: str) -> Iterator[tuple[str, pa.Table]]:
    days = pc.cast(pc.cast(rows.column(event_column), pa.timestamp("us", "UTC")), pa.date32())
    if days.null_count:
        raise ContractError(
            f"{days.null_count} of the rows have no time in {event_column!r}",
            expected="a time in every row: the files of the source are one per day",
            do="drop these rows or give their time",
        )
    for day in sorted(pc.unique(days).to_pylist()):
        yield day.isoformat(), rows.filter(pc.equal(days, pa.scalar(day, pa.date32())))


def _day(file: Path) -> date | None:
    try:
        return date.fromisoformat(file.name[:10])
    except ValueError:
        return None


@contextmanager
def _renamed_into(place: Path) -> Iterator[Path]:
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.parent / f".{place.name}.{uuid.uuid4().hex}"
    try:
        yield unfinished
        if place.is_dir():
            # A folder cannot be renamed over a full one: move the old one aside first.
            aside = place.parent / f".{place.name}.{uuid.uuid4().hex}"
            place.rename(aside)
            unfinished.rename(place)
            shutil.rmtree(aside)
        else:
            unfinished.replace(place)
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        else:
            unfinished.unlink(missing_ok=True)
