"""Progress of a run, told step by step to whoever runs it in process.

A Dagster logger that hands events to a listener; printing is the listener's business. In the UI's
runs nobody listens and it does nothing.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg


@dataclass(frozen=True)
class Progress:
    """One thing that happened in a run.

    `kind` is `started`, `materialized`, `checked` or `failed`; `what` names step, asset or check.
    """

    kind: str
    what: str
    passed: bool = True
    detail: str = ""
    rows: int | None = None


Listener = Callable[[Progress], None]
_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hand the progress of in-process runs to `listener` for the length of the block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class _Events(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "dagster_meta", {}).get("dagster_event")
        found = _progress(event) if event is not None else None
        for listener in _listeners if found else ():
            listener(found)  # type: ignore[arg-type]


def _progress(event: Any) -> Progress | None:
    if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
        materialization = event.step_materialization_data.materialization
        rows = materialization.metadata.get(
            "rows_computed", materialization.metadata.get("dagster/row_count")
        )
        return Progress(
            "materialized",
            materialization.asset_key.to_user_string(),
            rows=int(rows.value) if rows else None,
        )
    if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        checked = event.asset_check_evaluation_data
        name = f"{checked.asset_key.to_user_string()}: {checked.check_name}"
        return Progress("checked", name, checked.passed, checked.description or "")
    if event.event_type == dg.DagsterEventType.STEP_START:
        return Progress("started", str(event.step_key))
    if event.event_type == dg.DagsterEventType.STEP_FAILURE:
        return Progress("failed", str(event.step_key), False, _cause(event))
    return None


def _cause(event: Any) -> str:
    error = event.step_failure_data.error
    while error.cause is not None:
        error = error.cause
    description = getattr(event.step_failure_data.user_failure_data, "description", None)
    return str(description or error.message).strip()


@dg.logger({}, description="Hands the events of a run to the process that runs it.")
def progress_logger(init_context: dg.InitLoggerContext) -> logging.Logger:
    """Build the logger."""
    logger = logging.getLogger(f"mlops_assets.progress.{init_context.run_id}")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.handlers = [_Events()]
    return logger
