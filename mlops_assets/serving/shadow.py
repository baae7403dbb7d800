"""The shadow: a version that scores what was answered by another, in the background.

A bounded queue and one thread: what does not fit is dropped and counted, so that no answer ever
waits for it. What the shadow says is logged beside the answer, under the id of its prediction and
the arm `shadow`. Which version it is, and for which entities, is decided by the routing table.
"""

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlops_assets.rollouts.canary import SHADOW
from mlops_assets.serving.refusals import Refusal
from mlops_assets.serving.served_model import ServedModel
from mlops_assets.stores.inference_log import Prediction

MOST_WAITING = 2_000
"""Rows that wait for the shadow at most."""

AT_ONCE = 256
"""Rows that are scored together: many at once cost the answers least."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shadowed:
    """A row that was answered and shall be scored again.

    Args:
        rollout: id of the rollout.
        by: the version to score it with.
        id: of its prediction.
        time: of its prediction.
        values: inputs of the model in order.
        entity: keys by name.
        statuses: of the values that are not present.
        event_times: of the values that were read.
        score: what was answered.
        named: the entity as one text, empty where it has none.
    """

    rollout: str
    by: ServedModel
    id: str
    time: datetime
    values: Sequence[Any]
    entity: Mapping[str, Any]
    statuses: Mapping[str, str]
    event_times: Mapping[str, datetime | None]
    score: float
    named: str = ""


class Shadow:
    """Scores rows in a thread of its own.

    Args:
        log: appends predictions.
        scored: told of each batch: id of the rollout, the shadow's scores, the answers, and the
            entities.
        counts: told of rows that wait and rows that were dropped: model, number.
        most: rows that wait at most.
    """

    def __init__(
        self,
        log: Callable[[Sequence[Prediction]], object],
        scored: Callable[[str, Sequence[float | None], Sequence[float], Sequence[str]], None],
        waiting: Callable[[str, int], None],
        dropped: Callable[[str, int], None],
        most: int = MOST_WAITING,
    ) -> None:
        self._log, self._scored = log, scored
        self._waiting, self._dropped = waiting, dropped
        self._queue: queue.Queue[Shadowed | None] = queue.Queue(most)
        self._thread: threading.Thread | None = None
        self._closed = self._stopped = False
        self._starting = threading.Lock()

    def offer(self, rows: Sequence[Shadowed]) -> None:
        """Have rows scored later; those that do not fit are dropped."""
        self._start()
        for at, row in enumerate(rows):
            try:
                if self._stopped:
                    raise queue.Full
                self._queue.put_nowait(row)
            except queue.Full:
                self._dropped(row.by.spec.name, len(rows) - at)
                return

    def close(self) -> None:
        """Stop; rows that still wait are dropped and counted."""
        self._stopped = True
        if self._thread is None:
            return
        left = 0
        while True:
            try:
                row = self._queue.get_nowait()
            except queue.Empty:
                break
            if row is not None:
                left += 1
                name = row.by.spec.name
        if left:
            self._dropped(name, left)
        self._queue.put(None)
        self._thread.join(timeout=5)

    def _start(self) -> None:
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        row = self._queue.get()
        while row is not None:
            batch, following = self._batch(row)
            name = row.by.spec.name
            try:
                self._score(batch)
            except Exception:
                # Nobody waits for the shadow, and nothing may stop it.
                self._dropped(name, len(batch))
                _log.exception("the shadow of %s did not score %d rows", name, len(batch))
            self._waiting(name, self._queue.qsize())
            row = following if following or self._closed else self._queue.get()

    def _batch(self, first: Shadowed) -> tuple[list[Shadowed], Shadowed | None]:
        """Rows of one version that wait, and the next row when it is another's."""
        batch = [first]
        while len(batch) < AT_ONCE:
            try:
                row = self._queue.get_nowait()
            except queue.Empty:
                break
            if row is None:
                self._closed = True
                return batch, None
            if row.by is not first.by or row.rollout != first.rollout:
                return batch, row
            batch.append(row)
        return batch, None

    def _score(self, batch: Sequence[Shadowed]) -> None:
        said = self._said(batch)
        records = [
            Prediction(
                id=row.id,
                time=row.time,
                model=row.by.spec.name,
                version=row.by.version,
                arm=SHADOW,
                entity=row.entity,
                features=dict(zip(row.by.spec.inputs, row.values, strict=True)),
                event_times=row.event_times,
                statuses=row.statuses,
                outputs=outputs or {},
                latency_ms=0.0,
                status="ok" if outputs else "refused",
            )
            for row, outputs in zip(batch, said, strict=True)
        ]
        self._log(records)
        scores = [None if one is None else float(next(iter(one.values()))) for one in said]
        answers, named = [row.score for row in batch], [row.named for row in batch]
        self._scored(batch[0].rollout, scores, answers, named)

    @staticmethod
    def _said(batch: Sequence[Shadowed]) -> list[dict[str, Any] | None]:
        """What the version says of each row; None where it fails."""
        by = batch[0].by
        try:
            columns = by.predict([row.values for row in batch])
        except Exception as broken:
            if len(batch) == 1:
                if not isinstance(broken, Refusal):
                    _log.warning("the shadow failed on a row: %s", type(broken).__name__)
                return [None]
            # One row must not take the others along.
            return [one for row in batch for one in Shadow._said([row])]
        names = tuple(columns)
        values = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [dict(zip(names, row, strict=True)) for row in values]
