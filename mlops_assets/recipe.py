"""What a training of a spec would rest on, known before it starts: its recipe, and its obstacles.

Looks at sources, counts and declarations only. Nothing is written, nothing long is started.
"""

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version as installed_version
from typing import Any

import numpy as np

from mlops_assets.core import fingerprint, splits
from mlops_assets.core.labels import LabelSummary, refuse_unlearnable
from mlops_assets.engines import duckdb as engine
from mlops_assets.engines import marks
from mlops_assets.engines.marks import SourceMark
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.lake import quoted
from mlops_assets.tables import EVENT_TIME, Source
from mlops_assets.windows import SPLITS, Windows

ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""Where in memory an object lies, in the text of one that says nothing of itself."""


def recipe(spec: ModelSpec, windows: Windows, wholes: Mapping[str, str], digest: str) -> str:
    """Fingerprint of everything that decides what a training gives and how it is judged.

    Args:
        spec: the model.
        windows: the windows to train and judge on.
        wholes: fingerprints of the raw tables, by source.
        digest: digest of the feature service.
    """
    parameters = {
        name: described(build(spec.seed).get_params(deep=True))
        for name, build in spec.competitors.items()
    }
    libraries = {name: installed_version(name) for name in ("scikit-learn", "numpy", "mapie")}
    return fingerprint.of_values(
        spec.name,
        engine.rows_fingerprint(spec.rows, wholes),
        [engine.features_fingerprint(view, wholes) for view in spec.features.views],
        digest,
        spec.label.model_dump(),
        spec.inputs,
        parameters,
        spec.folds.model_dump(),
        (spec.task, spec.calibrations, spec.intervals),
        (spec.confidence, spec.threshold, spec.seed),
        [one.model_dump() for one in spec.slices],
        {name: str(window) for name, window in windows.items()},
        spec.gates.model_dump(),
        libraries,
    )


def described(value: Any) -> str:
    """A value as text that is the same in every process: no address of an object is in it.

    >>> described({"b": [1, "x"], "a": None})
    "{'a': None, 'b': [1, 'x']}"
    """
    match value:
        case Mapping():
            items = sorted((str(key), described(one)) for key, one in value.items())
            return "{" + ", ".join(f"{key!r}: {one}" for key, one in items) + "}"
        case list() | tuple():
            return "[" + ", ".join(described(one) for one in value) + "]"
        case _ if not ADDRESS.search(repr(value)):
            return repr(value)
        case _ if getattr(value, "__dict__", None):
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            return f"{kind}({described(vars(value))})"
        case _:
            return ADDRESS.sub("", repr(value))


def source_marks(platform: Platform, sources: Iterable[Source]) -> dict[str, SourceMark]:
    """Marks that the raw tables would have if they were copied now, by source.

    The days of a source that differs from its raw table are read from its file.

    Raises:
        SourceError: when a source is missing, empty, or lacks a column.
    """
    found = {}
    with platform.lake.scratch() as folder, platform.lake.connect() as connection:
        for source in sources:
            query, path = engine.open_source(connection, source, folder)
            whole = engine.source_fingerprint(source, path)
            known = engine.source_mark(platform.lake, source)
            if known is not None and known.whole != whole:
                with engine.readable_source(source):
                    days = marks.source_days(connection, source, f"({query})")
                known = SourceMark(whole, days)
            found[source.name] = known or SourceMark(whole)
    return found


def refuse_unusable(
    platform: Platform, spec: ModelSpec, windows: Windows
) -> dict[str, LabelSummary]:
    """Count rows and labels by window straight from the sources; return the counts.

    Raises:
        SourceError: when a source is missing, empty, or lacks a column.
        WindowError: when a window has no rows or only one class.
    """
    label, known = quoted(spec.label.column), quoted(spec.label.known_at)
    with platform.lake.scratch() as folder, platform.lake.connect() as connection:
        queries = {}
        for source in spec.rows.sources:
            queries[source.name], _ = engine.open_source(connection, source, folder)
        name = engine.preview_rows(connection, spec.rows, queries)
        found = connection.execute(
            f"SELECT {EVENT_TIME}::TIMESTAMP AS time, {known}::TIMESTAMP AS known, "
            f"{label}::DOUBLE AS label FROM {name}"
        ).fetchnumpy()
    # Under the mask of a null lies any value: a label that is not known yet has no time.
    time, known_at = (np.ma.filled(found[name], np.datetime64("NaT")) for name in ("time", "known"))
    counts = label_counts(time, known_at, np.ma.filled(found["label"], np.nan), windows)
    refuse_unlearnable(spec.name, learned_windows(windows), counts)
    return counts


def learned_windows(windows: Windows) -> dict[str, str]:
    """The windows that must have rows and both classes, as text by name."""
    return {name: str(window) for name, window in windows.items() if name in SPLITS}


def label_counts(times: Any, known: Any, labels: Any, windows: Windows) -> dict[str, LabelSummary]:
    """What the labels of each split are.

    Args:
        times: times of prediction, UTC without zone, shape (n,).
        known: times at which labels became known, UTC without zone, shape (n,).
        labels: shape (n,), NaN where a row has none.
        windows: the windows.
    """
    assigned = splits.assign(
        np.asarray(times, dtype="datetime64[us]"),
        np.asarray(known, dtype="datetime64[us]"),
        windows.items(),
        ~np.isnan(labels),
    )
    return {name: LabelSummary.of(labels[assigned == name]) for name in splits.counts(assigned)}
