"""What the examples of the interfaces hold: rows and versions that can be sent as they stand.

A row is the newest that the lake knows, as long as nobody needs a token to see it. How the page of
the interfaces looks is decided in `schemas`.
"""

import datetime as dt
from typing import Any

from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import MlopsAssetsError
from mlops_assets.serving.predictor import ModelRows
from mlops_assets.serving.worker import Worker
from mlops_assets.stores.lake import quoted
from mlops_assets.tables import EVENT_TIME, Column

Row = dict[str, Any]


class Examples:
    """Examples for the models of a worker; those that were found are kept.

    Args:
        worker: whose models and stores.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._found: dict[str, tuple[Row, Row]] = {}

    def rows(self, rows: ModelRows) -> tuple[Row | None, Row]:
        """A row by entity, None where there is none to show, and a row by features."""
        name = rows.spec.name
        if not self._worker.tokens.asked:
            found = self._found.get(name) or _newest(self._worker, rows)
            if found is not None:
                self._found[name] = found
                return found
        return None, {check.name: made_up(check.column) for check in rows.features.required}

    def versions(self, model: str) -> tuple[str, str]:
        """The champion, and a version that may take traffic beside it, where there is one."""
        champion = self._worker.cache.get(model).table.rest.version
        try:
            aliases = self._worker.platform.ledger.state(model).aliases
        except (MlopsAssetsError, OSError):
            aliases = None
        other = aliases and (aliases.challenger or aliases.archived)
        return champion, other or str(int(champion) + 1)


def made_up(column: Column, *, nullable: bool = True) -> Any:
    """A value that the check of the column takes."""
    if column.nullable and nullable:
        return None
    if column.allowed:
        return column.allowed[0]
    if column.type == "string":
        return "?"
    if column.type == "bool":
        return True
    if column.type == "time":
        return "2024-01-01T12:00:00Z"
    low = column.minimum if column.minimum is not None else min(0.0, column.maximum or 0.0)
    return int(low) if column.type == "int" else float(low)


def _newest(worker: Worker, rows: ModelRows) -> tuple[Row, Row] | None:
    """The newest row that the lake knows, by entity and by features; None without one."""
    path = worker.platform.lake.file(engine.rows(rows.spec.rows))
    if not path.exists():
        return None
    names = [check.name for check in rows.entities.required]
    query = (
        f"SELECT {', '.join(map(quoted, names))} FROM t ORDER BY {quoted(EVENT_TIME)} DESC LIMIT 1"
    )
    try:
        for row in worker.platform.lake.read(query, t=path).to_pylist():
            entity = {k: v.isoformat() if isinstance(v, dt.datetime) else v for k, v in row.items()}
            [asked] = rows.of_entities([entity], "entities")
            return entity, dict(zip(rows.inputs, asked.values, strict=True))
    except Exception:
        # An example that cannot be read now is no reason to have no page.
        return None
    return None
