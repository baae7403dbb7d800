"""Candidates of a replay: trained once, kept in a folder, and found again by what they rest on.

A candidate is named by the hash of its training set and its recipe, so a replay that was stopped,
or another policy that trains on the same day, takes it from here. Models are kept in skops format
and load only with the registry's list of types, after the hash of the file was checked.
"""

import datetime as dt
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlops_assets.core import fingerprint, tasks
from mlops_assets.core.training import FittedModel
from mlops_assets.recipe import recipe
from mlops_assets.replay.year import Floats, Year
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import MODEL_FILE, TRUSTED_TYPES
from mlops_assets.stores.training_sets import TrainingSet
from mlops_assets.windows import Windows

RECORD = "record.json"
BLOCK = 4_096
"""Rows that are scored at once, when the first of them is asked for."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A trained version.

    Args:
        version: its number in the replay, from 1.
        day: the day of its retrain.
        windows: what it learned from and was judged on.
        snapshot: hash of its training set.
        recipe: hash of all else that decided about it.
        fitted: the model.
        rows: rows by split.
    """

    version: str
    day: dt.date
    windows: Windows
    snapshot: str
    recipe: str
    fitted: FittedModel
    rows: Mapping[str, int]
    _scores: dict[int, Floats] = field(default_factory=dict, repr=False)

    def probabilities(self, year: Year, rows: slice) -> Floats:
        """What it says of a stretch of rows, shape (n,); scored in blocks that are kept."""
        first, last = rows.start // BLOCK, -(-rows.stop // BLOCK)
        for block in range(first, last):
            if block not in self._scores:
                end = min((block + 1) * BLOCK, len(year.times))
                inputs = year.inputs(slice(block * BLOCK, end))
                self._scores[block] = self.fitted.probabilities(inputs)
        if first >= last:
            return np.empty(0)
        found = np.concatenate([self._scores[block] for block in range(first, last)])
        return found[rows.start - first * BLOCK : rows.stop - first * BLOCK]


@dataclass(frozen=True)
class Candidates:
    """The candidates of a model that replays have trained.

    Args:
        folder: where they are kept.
        spec: the model.
        wholes: fingerprints of its raw tables, by source.
        digest: digest of its feature service.
    """

    folder: Path
    spec: ModelSpec
    wholes: Mapping[str, str]
    digest: str

    def trained(
        self, data: TrainingSet, windows: Windows, *, winner: str, day: dt.date, version: str
    ) -> tuple[Candidate, bool]:
        """Train a candidate, or take the one that is kept.

        Args:
            data: its training set.
            windows: the windows of the training set.
            winner: the only estimator; empty lets all of them compete.
            day: the day of the retrain.
            version: its number.

        Returns:
            The candidate, and whether it was trained now.
        """
        spec = fixed(self.spec, winner) if winner else self.spec
        made_by = recipe(spec, windows, self.wholes, self.digest)
        path = self.folder / fingerprint.of_values(data.snapshot, made_by)[:32]
        fitted = _read(path)
        fresh = fitted is None
        if fitted is None:
            parts = ("train", "calibrate", "conformalize")
            found = tasks.fit(spec, **{name: data.rows(name) for name in parts})
            _write(path, found)
            # Read back: what comes from the folder and what was just fitted shall not differ.
            fitted = _read(path)
        if not isinstance(fitted, FittedModel):  # pragma: no cover
            raise TypeError("a replay trains classifiers only")
        rows = data.manifest["rows"]
        made = Candidate(version, day, windows, data.snapshot, made_by, fitted, rows)
        return made, fresh


def fixed(spec: ModelSpec, winner: str) -> ModelSpec:
    """The spec with one estimator only."""
    return spec.model_copy(update={"estimators": {winner: spec.competitors[winner]}, "search": ()})


def _write(path: Path, fitted: tasks.Fitted) -> None:
    """Keep a model; the folder appears whole or not at all."""
    import skops.io

    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".scratch-", dir=path.parent))
    try:
        estimator, _ = tasks.estimator(fitted)
        skops.io.dump(estimator, scratch / MODEL_FILE)
        mark = fingerprint.of_file(scratch / MODEL_FILE)
        record = {"sha256": mark, "model": tasks.record(fitted)}
        (scratch / RECORD).write_text(json.dumps(record))
        shutil.rmtree(path, ignore_errors=True)
        scratch.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _read(path: Path) -> tasks.Fitted | None:
    """The model in a folder; None when there is none, or it is not what was kept."""
    import skops.io

    try:
        record: dict[str, Any] = json.loads((path / RECORD).read_text())
        if fingerprint.of_file(path / MODEL_FILE) != record["sha256"]:
            return None
    except (OSError, ValueError, KeyError):
        return None
    kept = skops.io.load(path / MODEL_FILE, trusted=list(TRUSTED_TYPES))
    return tasks.restored(kept, record["model"])
