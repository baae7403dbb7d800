"""One place to ask: SQL views over all that the platform keeps, in a database without any data.

Predictions with their outcomes, monitors, features and every other table of the lake are views over
its Parquet files; entries of the ledger and rollouts are copied in, because they lie in another
database. Nothing can be written through it. What the columns mean is told where they are made.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlops_assets.core.ledger_chain import canonical
from mlops_assets.errors import DataError
from mlops_assets.monitoring import results
from mlops_assets.monitoring.labels import labelled_query
from mlops_assets.monitoring.predictions import OUTPUTS, batch_table
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.inference_log import PREDICTIONS
from mlops_assets.stores.lake import Lake, parquet_files, quoted, text
from mlops_assets.tables import EVENT_TIME

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

NO_TABLES = ("evidence", "training_sets", "monitoring")
"""Folders of the lake that are no tables: records that are named by their content, and monitors,
of which there is one view for all models."""

COPIED = ("ledger", "rollouts")
"""Tables that are no views: what they hold lies in another database."""


def statements(
    platform: Platform, specs: Sequence[ModelSpec], as_of: dt.datetime
) -> dict[str, str]:
    """The views over the lake as SELECT statements by name; such as have no file are left out.

    Args:
        platform: the stores.
        specs: the models.
        as_of: labels that became known later are not there yet.
    """
    lake = platform.lake
    found = {name: f"SELECT * FROM {source}" for name, source in _tables(lake)}
    parts = [sql for spec in specs if (sql := _predictions(platform, spec, as_of))]
    if parts:
        found["predictions"] = " UNION ALL BY NAME ".join(parts)
    for kind in results.KINDS:
        for weekly in (False, True):
            tables = [results.table(spec, kind, weekly=weekly) for spec in specs]
            files = [p for table in tables for d in lake.days(table).values() for p in d.paths]
            if files:
                name = f"{kind}{'_weekly' if weekly else ''}"
                found[name] = (
                    f"SELECT * FROM read_parquet({parquet_files(files)}, union_by_name = true)"
                )
    return found


@contextmanager
def opened(
    platform: Platform, specs: Sequence[ModelSpec], as_of: dt.datetime
) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A database with all views, from which files of the lake can be read and nothing else."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, table in (("ledger", _ledger(platform)), ("rollouts", _rollouts(platform))):
            connection.register("copied", table)
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM copied")
            connection.unregister("copied")
        for name, sql in statements(platform, specs, as_of).items():
            connection.execute(f"CREATE OR REPLACE VIEW {quoted(name)} AS {sql}")
        connection.execute(f"SET allowed_directories = [{text(platform.lake.root)}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection


def ask(connection: "duckdb.DuckDBPyConnection", query: str) -> "pa.Table":
    """The rows of a query.

    Raises:
        DataError: when it is no question, or DuckDB does not understand it.
    """
    import duckdb

    try:
        asked = connection.extract_statements(query)
        kinds = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
        if len(asked) != 1 or asked[0].type not in kinds:
            raise DataError(
                f"{len(asked)} statements, {', '.join(one.type.name for one in asked)}",
                expected="one SELECT",
                do="ask for what is there: nothing can be changed here",
            )
        return connection.sql(query).to_arrow_table()
    except duckdb.Error as wrong:
        raise DataError(
            str(wrong).strip(),
            expected="SQL of DuckDB over the views",
            do="see `mlops-assets sql` without a query for the views and their columns",
        ) from wrong


def _tables(lake: Lake) -> Iterator[tuple[str, str]]:
    """Every table of the lake, called by its folder, and how its files are read."""
    seen = set()
    for path in sorted(lake.root.rglob("*.parquet")):
        inside = path.relative_to(lake.root)
        if inside.parts[0] in NO_TABLES or any(part.startswith(".") for part in inside.parts):
            continue
        daily = len(path.stem) >= len("2000-01-01") and path.stem[:4].isdigit()
        table = inside.parent if daily else inside.with_suffix("")
        if not daily:
            yield "_".join(table.parts), f"read_parquet({text(path)})"
        elif table not in seen:
            seen.add(table)
            pattern = path.parent / "*.parquet"
            yield (
                "_".join(table.parts),
                f"read_parquet({text(pattern)}, union_by_name = true)",
            )


def _predictions(platform: Platform, spec: ModelSpec, as_of: dt.datetime) -> str | None:
    """The predictions of a model with their labels."""
    days = sorted({*platform.lake.days(PREDICTIONS.name), *platform.lake.days(batch_table(spec))})
    found = labelled_query(platform, spec, days, as_of, slices=True)
    if found is None:
        return None
    columns = [
        "prediction_id", EVENT_TIME, f"{text(spec.name)} AS model", "version", "arm", "status",
        "entity", "label", "known_at",
        *(f"{quoted(f'output:{name}')} AS {name}" for name in OUTPUTS[spec.task]),
        *(f"{quoted(f'slice:{one.name}')} AS {quoted(f'slice_{one.name}')}" for one in spec.slices),
    ]  # fmt: skip
    return f"SELECT {', '.join(columns)} FROM ({found})"


def _ledger(platform: Platform) -> "pa.Table":
    import pyarrow as pa

    rows = [
        {
            "seq": one.seq,
            "time": one.time,
            "actor": one.actor,
            "action": one.action,
            "model": one.model,
            "version": one.version,
            "from_version": one.from_version,
            "reason": one.reason,
            "approver": one.approver,
            "champion": one.after.get("champion"),
            "challenger": one.after.get("challenger"),
            "evidence": canonical(one.evidence),
        }
        for one in platform.ledger.entries()
    ]
    texts = ("actor", "action", "model", "version", "from_version", "reason", "approver",
             "champion", "challenger", "evidence")  # fmt: skip
    schema = pa.schema(
        [("seq", pa.int64()), ("time", pa.timestamp("us", tz="UTC"))]
        + [(name, pa.string()) for name in texts]
    )
    return pa.Table.from_pylist(rows, schema)


def _rollouts(platform: Platform) -> "pa.Table":
    import pyarrow as pa

    texts = ("id", "kind", "model", "versions", "state", "champion", "begun_by")
    rows = [
        {
            "id": one.traffic.id,
            "kind": "rollout" if one.is_rollout else "experiment",
            "model": one.model,
            "versions": ", ".join(one.traffic.versions),
            "state": one.traffic.state,
            "champion": one.champion,
            "begun_by": one.actor,
            "since": one.entered,
            "entry": one.seq,
        }
        for one in platform.rollouts.all()
    ]
    schema = pa.schema(
        [(name, pa.string()) for name in texts]
        + [("since", pa.timestamp("us", tz="UTC")), ("entry", pa.int64())]
    )
    return pa.Table.from_pylist(rows, schema)
