"""Append-only log files: one JSON line per record, one system call per call, one writer per file.

A record that was appended survives the death of its process. Its line carries a checksum, so that a
line that was torn by a kill, or damaged later, is known. A living writer holds a lock on its file;
the kernel lets go of it when the process dies, however it dies. So a file that can be locked is
closed, and its last line may be torn.

What a line says is decided by `inference_log` and `outcomes_log`; closed files go into the lake by
`inference_compaction`.
"""

import contextlib
import fcntl
import os
import re
import secrets
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops_assets.errors import DataError, DeclarationError

SUFFIX = ".jsonl"
MOST_BYTES = 64 * 2**20
"""Size at which a file is closed and another begun."""

MOST_LINE_BYTES = 2**20
HOUR = 3600
_SEAL = len(b',"crc32":"00000000"}\n')


@dataclass(frozen=True, slots=True)
class LoggedTable:
    """A table of the lake that is filled from log files.

    Args:
        name: the table, a folder of the lake with one file per day.
        fields: DuckDB types of the fields of a line.
        columns: SQL of the columns by name, over the fields; `event_timestamp` is among them.
        order: columns by which the rows of a day are ordered.
    """

    name: str
    fields: Mapping[str, str]
    columns: Mapping[str, str]
    order: tuple[str, ...]


def sealed(body: bytes) -> bytes:
    """The line of a JSON object that has fields: the object with its checksum as last field.

    >>> sealed(b'{"n":1}').decode().strip()
    '{"n":1,"crc32":"ff61ec38"}'
    """
    return b'%b,"crc32":"%08x"}\n' % (body[:-1], zlib.crc32(body[:-1]))


def intact(line: bytes) -> bool:
    """Whether a line is as it was written.

    >>> line = sealed(b'{"n":1}')
    >>> intact(line), intact(line.replace(b"1", b"2", 1)), intact(line[:-1])
    (True, False, False)
    """
    return line[-_SEAL:] == b',"crc32":"%08x"}\n' % zlib.crc32(line[:-_SEAL])


class AppendLog:
    """Writes lines to files of its own in a folder; safe to share between threads.

    A file is begun with the first line, and another one when it is full or the hour changes. After
    a fork the child begins a file of its own.

    Args:
        folder: where the files lie; made when it is missing.
        worker: name of the worker, part of the names of its files.
        most_bytes: size of a full file.
        clock: gives the time in seconds since 1970.

    Raises:
        DeclarationError: when the worker's name cannot be part of a file name.
    """

    def __init__(
        self,
        folder: Path,
        worker: str,
        *,
        most_bytes: int = MOST_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", worker) or worker.startswith("."):
            raise DeclarationError(
                f"the worker name {worker!r}",
                expected="letters, digits, '_', '-' and '.', not beginning with '.'",
                do="rename the worker: its name is part of the names of its files",
            )
        self._folder, self._worker = folder, worker
        self._most_bytes, self._clock = most_bytes, clock
        self._lock = threading.Lock()
        self._file: int | None = None
        self._path = folder
        self._owner = self._size = self._hour = 0

    def append(self, body: bytes) -> int:
        """Append a JSON object as a line; when this returns, the death of the process is no loss.

        Returns:
            The bytes that were written.

        Raises:
            DataError: when the line is too long, or is not written whole.
        """
        return self.append_all((body,))

    def append_all(self, bodies: Sequence[bytes]) -> int:
        """Append JSON objects as lines with one system call; see `append`.

        Of lines that were not written whole, the first may be in the file.
        """
        lines = [sealed(body) for body in bodies]
        if too_long := [line for line in lines if len(line) > MOST_LINE_BYTES]:
            raise DataError(
                f"a record of {len(too_long[0]):,} bytes",
                expected=f"at most {MOST_LINE_BYTES:,} bytes",
                do="log less of it",
            )
        block = lines[0] if len(lines) == 1 else b"".join(lines)
        if not block:
            return 0
        with self._lock:
            file = self._ready_for(len(block))
            try:
                written = os.write(file, block)
            except OSError as full:
                raise self._refused(str(full)) from full
            self._size += written
            if written != len(block):
                # The torn line must stay the last of its file.
                self._close()
                raise self._refused(f"{written} of {len(block)} bytes were written")
        return written

    def close_if_due(self) -> None:
        """Close a file of a past hour, so that a worker without requests does not hold it back."""
        with self._lock:
            if self._file is not None and self._hour != self._clock() // HOUR:
                self._close()

    def close(self) -> None:
        """Close the file; another append begins a new one."""
        with self._lock:
            self._close()

    def _ready_for(self, size: int) -> int:
        """The open file, begun anew when it has to be."""
        fits = self._size + size <= self._most_bytes and self._hour == self._clock() // HOUR
        if self._file is not None and fits and self._owner == os.getpid():
            return self._file
        self._close()
        self._folder.mkdir(parents=True, exist_ok=True)
        now = self._clock()
        while (file := self._begun(now)) is None:
            pass
        self._file, self._owner, self._size, self._hour = file, os.getpid(), 0, int(now // HOUR)
        return file

    def _begun(self, now: float) -> int | None:
        """A new locked file; None when a compaction took it before it was locked."""
        started = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S")
        host = re.sub(r"[^A-Za-z0-9]+", "_", socket.gethostname())
        name = f"{self._worker}-{started}-{host}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        self._path = self._folder / name
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o640)
        locked = False
        try:
            locked = _locked(file)
        finally:
            if not locked:
                os.close(file)
        return file if locked else None

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _refused(self, why: str) -> DataError:
        return DataError(
            f"the log {self._path} does not take a record: {why}",
            expected="a folder with room for the whole line",
            do="free or add disk space; the record was not logged",
        )


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Hold a log file that has no living writer; False when it has one, or is gone."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _locked(file)
    finally:
        os.close(file)


def _locked(file: int) -> bool:
    """Lock an open file that still has a name; False when another has it locked."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(file).st_nlink > 0
    return False


def plain(value: Any) -> Any:
    """A value as Python's own type, where it is numpy's."""
    return value.item() if hasattr(value, "item") else value


def number_and_text(value: Any) -> tuple[float | None, str | None]:
    """A value as a number, or as a text where no double holds it; a missing one is neither.

    >>> number_and_text(True), number_and_text("a"), number_and_text(float("nan"))
    ((1.0, None), (None, 'a'), (None, None))
    >>> number_and_text(float("inf")), number_and_text(2**53 + 1)
    ((None, 'inf'), (None, '9007199254740993'))
    """
    value = plain(value)
    if isinstance(value, float):
        if value - value == 0.0:
            return value, None
        return None, None if value != value else str(value)
    if isinstance(value, int):  # flags too
        return (float(value), None) if -(2**53) <= value <= 2**53 else (None, str(value))
    return None, None if value is None else str(value)
