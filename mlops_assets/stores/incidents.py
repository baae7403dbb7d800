"""What is known of each watched subject of a model, in one file per model.

The file is written whole after all was told: whoever dies before tells the same again, and the
outbox knows that it was told. When an incident opens is decided in `core.incident`, what is read of
a window in `monitoring.readings`.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from mlops_assets.core.incident import (
    GONE,
    Incident,
    IncidentPolicy,
    Message,
    Reading,
    Subject,
    Watch,
    is_heard,
)
from mlops_assets.errors import DataError
from mlops_assets.stores.lake import write_json

WINDOWS_KEPT = 60
"""Newest windows of a subject that are remembered."""


class Incidents:
    """The watches of all models.

    Args:
        folder: where the files lie; made on first use.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def observe(
        self,
        model: str,
        readings: Iterable[tuple[Subject, Reading]],
        policy: IncidentPolicy,
        tell: Callable[[Message], object],
        *,
        now: datetime,
    ) -> int:
        """Take in readings, and tell what they open, worsen or end.

        Args:
            model: the model.
            readings: of any windows, also of such as were read before; all of a monitor in a
                window together, so that it is seen who is not among them any more.
            policy: when an incident opens and closes.
            tell: is told each message; once more if the process dies before the file is written.
            now: the present, at which incidents open.

        Returns:
            How many messages were told.

        Raises:
            DataError: when the file of the model is not what was written.
        """
        told = 0
        with self._alone(model):
            watches = self._read(model)
            for subject, reading in _with_gone(readings, watches):
                watch = watches.get(subject, Watch(subject))
                after, messages = watch.observe(reading, policy, now)
                for message in messages:
                    tell(message)
                    told += 1
                watches[subject] = replace(after, readings=after.readings[-WINDOWS_KEPT:])
            write_json(
                self._file(model), {str(subject): watch.text for subject, watch in watches.items()}
            )
        return told

    def open(self, model: str) -> list[Incident]:
        """The incidents of a model that are open, oldest first."""
        found = [one.incident for one in self._read(model).values() if one.incident]
        return sorted(found, key=lambda incident: (incident.since, incident.key))

    def _file(self, model: str) -> Path:
        return self._folder / f"{model}.json"

    def _read(self, model: str) -> dict[Subject, Watch]:
        path = self._file(model)
        if not path.exists():
            return {}
        try:
            kept = json.loads(path.read_text())
        except ValueError as broken:
            raise DataError(
                f"{path} is not what was written: {broken}",
                expected="the watches of a model as JSON",
                do="remove the file: what is wrong is told again from the next windows on",
            ) from broken
        watches = [Watch.of_text(text) for text in kept.values()]
        return {watch.subject: watch for watch in watches}

    @contextmanager
    def _alone(self, model: str) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._folder / f"{model}.lock", os.O_RDWR | os.O_CREAT, 0o640)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _with_gone(
    readings: Iterable[tuple[Subject, Reading]], watches: Mapping[Subject, Watch]
) -> Iterator[tuple[Subject, Reading]]:
    """The readings, and behind those of each window what was watched before and is gone.

    It is so where an incident is open, or where the window said something before. The watches are
    looked at after their readings were taken in.
    """
    windows: dict[tuple[str, datetime], list[tuple[Subject, Reading]]] = {}
    for subject, reading in readings:
        windows.setdefault((subject.monitor, reading.window), []).append((subject, reading))
    for (monitor, window), found in windows.items():
        yield from found
        if not is_heard(found):
            continue
        given = {subject for subject, _ in found}
        gone = [
            subject
            for subject, watch in watches.items()
            if subject.monitor == monitor
            and subject not in given
            and (watch.incident or any(one.window == window for one in watch.readings))
        ]
        for subject in gone:
            yield subject, Reading(window, "no data", GONE, lack="rows")
