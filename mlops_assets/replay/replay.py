"""A replay from its first day to its files: the one function that commands and tests call."""

import datetime as dt
import fcntl
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import DataError, DeclarationError, WindowError
from mlops_assets.platform import Platform
from mlops_assets.replay import page, pictures
from mlops_assets.replay.candidates import Candidates
from mlops_assets.replay.facts import Replay
from mlops_assets.replay.policy import DAY, ReplayPolicy
from mlops_assets.replay.releasing import Book
from mlops_assets.replay.summing import Summing, check_span
from mlops_assets.replay.walk import Listener, Walk
from mlops_assets.replay.year import load
from mlops_assets.reproduce import features_now
from mlops_assets.spec import ModelSpec

DATE = re.compile(r"(\d{4})-(\d\d)(?:-(\d\d))?")

JSON, HTML, PNG, LEDGER = "replay.json", "replay.html", "replay.png", "ledger.db"
LOCK = "lock"


@dataclass(frozen=True)
class Files:
    """Where the files of a replay lie."""

    folder: Path

    @property
    def json(self) -> Path:
        """All facts."""
        return self.folder / JSON

    @property
    def html(self) -> Path:
        """The page for people."""
        return self.folder / HTML

    @property
    def png(self) -> Path:
        """The one picture."""
        return self.folder / PNG


def replay(
    platform: Platform,
    spec: ModelSpec,
    start: dt.date,
    end: dt.date,
    policy: ReplayPolicy,
    *,
    name: str = "",
    listener: Listener = lambda progress: None,
    announce: Callable[[str], object] = lambda text: None,
) -> tuple[Replay, Files]:
    """Walk through the days and write what was found.

    Trained candidates are kept beside the files: a second start, or another policy, takes them
    from there. Nothing of the home changes but its folder `replay`, and tables that were missing.

    Args:
        platform: the stores of the home.
        spec: the model; only classifiers can be replayed.
        start: first day.
        end: day after the last.
        policy: how the replay goes.
        name: name of the policy, for the folder; empty for the default.
        listener: is told of every day and event.
        announce: is told in words what is done before the first day and after the last.

    Raises:
        DeclarationError: a model that is no classifier.
        WindowError: no day, no row on any of them, or a holdout that is too small for the gates.
        DataError: another process replays the same days by the same policy.
    """
    check_span(start, end)
    if spec.task != "binary":
        raise DeclarationError(
            f"the model {spec.name!r} predicts a number",
            expected="a model with the task `binary`: a replay compares probabilities with labels",
            do="replay another model",
        )
    announce("loading rows and features")
    year = load(platform, policy.applied(spec), start, end)
    root = platform.settings.root / "replay" / spec.name
    files = Files(root / "_".join([f"{start}_{end - DAY}", *([name] if name else [])]))
    wholes = {s.name: engine.needed_mark(platform.lake, s).whole for s in spec.sources}
    candidates = Candidates(root / "candidates", spec, wholes, features_now(spec))
    with _alone(files.folder):
        book = Book(files.folder / LEDGER, spec)
        walk = Walk(year, policy, candidates, book, listener)
        try:
            walk.go(start, end)
            announce("comparing the three ways")
            found = Summing(walk, start, end).replay(policy)
        finally:
            book.close()
        document = json.dumps(found.document(), indent=1, sort_keys=True, allow_nan=False)
        _write(files.json, document.encode())
        _write(files.png, pictures.poster(found))
        _write(files.html, page.page(found).encode())
    return found, files


def first_day(text: str) -> dt.date:
    """The first day of a month or the day itself.

    Raises:
        WindowError: when it is neither.

    >>> first_day("2013-03"), first_day("2013-03-15")
    (datetime.date(2013, 3, 1), datetime.date(2013, 3, 15))
    """
    return _parsed(text)[0]


def end_day(text: str) -> dt.date:
    """The day after a month or a day.

    Raises:
        WindowError: when it is neither.

    >>> end_day("2013-12"), end_day("2013-03-15")
    (datetime.date(2014, 1, 1), datetime.date(2013, 3, 16))
    """
    return _parsed(text)[1]


def _parsed(text: str) -> tuple[dt.date, dt.date]:
    """First day, and day after the last, of a month or a day."""
    match = DATE.fullmatch(text)
    try:
        if match and match[3]:
            day = dt.date.fromisoformat(text)
            return day, day + DAY
        if match:
            month = dt.date(int(match[1]), int(match[2]), 1)
            return month, (month + 31 * DAY).replace(day=1)
    except ValueError:
        pass
    raise WindowError(
        f"{text!r} is neither a month nor a day",
        expected="YYYY-MM or YYYY-MM-DD",
        do="write it like 2013-03 or 2013-03-15",
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other replays out of a folder: each begins the ledger in it anew."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as busy:
            raise DataError(
                f"another process replays into {folder}",
                expected="one replay at a time of the same days by the same policy",
                do="wait for it, or give the policy file another name",
            ) from busy
        yield


def _write(path: Path, content: bytes) -> None:
    """Write a file that appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.fresh")
    fresh.write_bytes(content)
    fresh.replace(path)
