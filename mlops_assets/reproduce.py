"""Reproduction: a version trained again from its snapshot, and compared with what is registered.

What is equal, what is not, and what has changed since the version was trained. Trains and compares
only: which versions are worth it, and what follows when one cannot be reproduced, is for people.
"""

import json
import platform as machine
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlops_assets.core import tasks
from mlops_assets.core.ledger_chain import Record
from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import DeclarationError, RegistryError
from mlops_assets.platform import THREADS_TAG, Platform, git_commit, openmp_threads
from mlops_assets.recipe import described, recipe
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.feature_store import service_digest
from mlops_assets.stores.registry import ModelVersion
from mlops_assets.stores.training_sets import TrainingSet
from mlops_assets.windows import Windows

if TYPE_CHECKING:
    from mlops_assets.stores.ledger import Ledger

LIBRARIES_TAG = "mlops.libraries"
REPRODUCED_TAG = "mlops.reproduced"


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not what it was when the version was trained.

    Args:
        what: a library, a parameter, `git commit`, `recipe` and the like.
        then: what it was.
        now: what it is.
    """

    what: str
    then: str
    now: str

    def __str__(self) -> str:
        return f"{self.what}: {self.then} then, {self.now} now"


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What came of training a version again.

    Args:
        model: the model.
        version: the version.
        snapshot: the training set of both.
        rows: holdout rows that were compared.
        rows_differing: rows of which the two do not say exactly the same.
        largest: largest absolute difference of two finite numbers, by column of predictions.
        metrics: by name, of the registered model and of the one trained again.
        differences: what has changed since, whether it changed a number or not.
        unknown: what cannot be compared, because it was not noted or does not tell.
    """

    model: str
    version: str
    snapshot: str
    rows: int
    rows_differing: int
    largest: Mapping[str, float]
    metrics: Mapping[str, tuple[float, float]]
    differences: tuple[Difference, ...]
    unknown: tuple[str, ...]

    @property
    def metrics_differing(self) -> tuple[str, ...]:
        """The metrics of which the two have not exactly the same value."""
        pairs = self.metrics.items()
        # NaN is a value here: what both cannot measure is no difference.
        return tuple(n for n, (a, b) in pairs if not (a == b or (np.isnan(a) and np.isnan(b))))

    @property
    def identical(self) -> bool:
        """Whether every prediction and every metric is exactly the same."""
        return not self.rows_differing and not self.metrics_differing

    @property
    def summary(self) -> str:
        """The outcome in one sentence."""
        if self.identical:
            return (
                f"identical: {self.rows:,} holdout rows and {len(self.metrics)} metrics are "
                "exactly the same"
            )
        column = max(self.largest, key=lambda name: self.largest[name])
        changed = ", ".join(found.what for found in self.differences) or "nothing that is known"
        return (
            f"not identical: {self.rows_differing:,} of {self.rows:,} holdout rows differ, "
            f"{column} by up to {self.largest[column]:.3g}; changed since: {changed}"
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it; a number that is not finite is None."""
        registered, again = zip(*self.metrics.values(), strict=True)
        return {
            "model": self.model,
            "version": self.version,
            "snapshot": self.snapshot,
            "identical": self.identical,
            "rows": self.rows,
            "rows_differing": self.rows_differing,
            "largest_difference": dict(self.largest),
            "metrics": {n: _finite(v) for n, v in zip(self.metrics, registered, strict=True)},
            "metrics_again": {n: _finite(v) for n, v in zip(self.metrics, again, strict=True)},
            "metrics_differing": list(self.metrics_differing),
            "differences": [asdict(found) for found in self.differences],
            "unknown": list(self.unknown),
        }


def reproduce(
    platform: Platform, ledger: "Ledger", spec: ModelSpec, version: ModelVersion, *, actor: str
) -> Reproduction:
    """Train a version again and compare; the outcome is kept in the ledger and as a tag.

    Args:
        platform: the stores.
        ledger: gets an entry with the whole outcome.
        spec: the model as it is declared now.
        version: the version.
        actor: who wants to know.

    Raises:
        DeclarationError: when the spec is of another model or task.
        RegistryError: when the version does not name its snapshot.
        DataError: when the snapshot is gone or changed.
        ArtifactError: when a file of the registered model is gone or changed.
        WindowError, TrainingError: when the spec of now cannot be fitted on the snapshot.
    """
    data = _snapshot(platform, spec, version)
    registered = platform.registry.load(version)
    parts = ("train", "calibrate", "conformalize")
    again = tasks.fit(spec, **{name: data.rows(name) for name in parts})
    found = _compared(platform, spec, version, data, registered, again)
    entry = ledger.append(
        Record(
            action="reproduce",
            model=spec.name,
            version=version.version,
            actor=actor,
            reason=found.summary,
            evidence=found.as_dict(),
            snapshot=data.snapshot,
            git_commit=version.tags.get("mlops.git_commit"),
            feature_service_digest=version.tags.get("mlops.feature_service_digest"),
        )
    )
    # After the entry, which the tag names: a tag without an entry would be a claim without proof.
    noted = {
        "identical": found.identical,
        "at": entry.time.isoformat(timespec="seconds"),
        "by": actor,
        "ledger_entry": entry.seq,
    }
    platform.registry.tag(spec.name, version.version, {REPRODUCED_TAG: json.dumps(noted)})
    return found


def recipe_now(platform: Platform, spec: ModelSpec, windows: Windows) -> str | None:
    """The recipe of a training of these windows now; None when a raw table is not in the lake."""
    marks = {one.name: engine.source_mark(platform.lake, one) for one in spec.sources}
    wholes = {name: mark.whole for name, mark in marks.items() if mark}
    if len(wholes) < len(marks):
        return None
    return recipe(spec, windows, wholes, features_now(spec))


def features_now(spec: ModelSpec) -> str:
    """Digest of the model's feature service as it is declared now."""
    definitions = {view.name: engine.definition(view) for view in spec.features.views}
    return service_digest(spec.features, definitions)


def _snapshot(platform: Platform, spec: ModelSpec, version: ModelVersion) -> TrainingSet:
    if version.model != spec.name:
        raise DeclarationError(
            f"version {version.version} of {version.model!r} and the spec of {spec.name!r}",
            expected="a version and the spec of the same model",
            do=f"give the spec of {version.model!r}",
        )
    snapshot = version.tags.get("mlops.snapshot")
    if snapshot is None:
        raise RegistryError(
            f"version {version.version} of {version.model!r} does not say what it learned from",
            expected="the tag mlops.snapshot, which every training writes",
            do="reproduce a version that the platform has trained",
        )
    data = platform.training_sets.read(spec.name, snapshot)
    if data.manifest["task"] != spec.task:
        raise DeclarationError(
            f"the snapshot of version {version.version} is for the task {data.manifest['task']!r}, "
            f"the spec is for {spec.task!r}",
            expected="the task that the version was trained for",
            do="reproduce it with the code of its commit",
        )
    return data


def _compared(
    platform: Platform,
    spec: ModelSpec,
    version: ModelVersion,
    data: TrainingSet,
    registered: tasks.Fitted,
    again: tasks.Fitted,
) -> Reproduction:
    holdout = data.rows("holdout")
    both = [tasks.predictions(model, holdout.inputs) for model in (registered, again)]
    apart, largest = np.zeros(len(holdout.labels), dtype=bool), {}
    for name, then in both[0].items():
        differs, largest[name] = _differing(then, both[1][name])
        apart |= differs
    # Neither champion nor slices are asked: no metric rests on them.
    before, after = (
        tasks.judged(model, holdout, None, {}, spec.threshold).metrics(spec.gates)
        for model in (registered, again)
    )
    pairs = [
        *_surroundings(platform, spec, version, data),
        *_outlines(registered, again),
    ]
    return Reproduction(
        model=spec.name,
        version=version.version,
        snapshot=data.snapshot,
        rows=len(holdout.labels),
        rows_differing=int(apart.sum()),
        largest=largest,
        metrics={name: (float(value), float(after[name])) for name, value in before.items()},
        differences=tuple(
            Difference(what, then, now) for what, then, now in pairs if then and now and then != now
        ),
        unknown=tuple(what for what, then, now in pairs if then is None or now is None),
    )


def _differing(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], float]:
    """Which rows differ, shape (n,), and by how much at most."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    differs = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    finite = np.isfinite(a) & np.isfinite(b)
    return differs, float(np.abs(a[finite] - b[finite]).max(initial=0.0))


Pair = tuple[str, str | None, str | None]
"""What, then, now; None where it is not known."""


def _surroundings(
    platform: Platform, spec: ModelSpec, version: ModelVersion, data: TrainingSet
) -> Iterator[Pair]:
    """Code, declarations and libraries around the training, then and now."""
    tags = version.tags
    windows = Windows.model_validate(data.manifest["windows"])
    yield "git commit", *_commits(tags.get("mlops.git_commit"), git_commit())
    # The recipe holds the spec, the raw tables and the libraries that decide: it tells whether
    # anything changed, the others tell what.
    yield "recipe", tags.get("mlops.recipe"), recipe_now(platform, spec, windows)
    yield "feature service", tags.get("mlops.feature_service_digest"), features_now(spec)
    yield "inputs", ", ".join(data.manifest["inputs"]), ", ".join(spec.inputs)
    noted = tags.get(LIBRARIES_TAG)
    if noted is None:
        yield "libraries", None, None
    for name, then in json.loads(noted or "{}").items():
        yield name, then, _installed(name)
    threads = openmp_threads()
    yield "OpenMP threads", tags.get(THREADS_TAG), None if threads is None else str(threads)


def _commits(then: str | None, now: str) -> tuple[str | None, str | None]:
    """Both commits; None for one that does not tell what the code was."""
    if then and then.rstrip("+") != now.rstrip("+"):
        return None if then == "unknown" else then, None if now == "unknown" else now
    # With changes upon it, the same commit need not be the same code.
    vague = then in (None, "unknown") or (then or "").endswith("+") or now.endswith("+")
    return (None, None) if vague else (then, now)


def _installed(name: str) -> str:
    if name == "python":
        return machine.python_version()
    try:
        return installed_version(name)
    except PackageNotFoundError:
        return "not installed"


def _outlines(registered: tasks.Fitted, again: tasks.Fitted) -> Iterator[Pair]:
    """What the two models are made of: who won the competition, and all parameters."""
    winners = [model.selection.winner for model in (registered, again)]
    yield "estimator", winners[0], winners[1]
    then, now = (dict(_parameters(tasks.estimator(model)[0])) for model in (registered, again))
    for name in sorted({*then, *now}):
        yield name, then.get(name, "none"), now.get(name, "none")


def _parameters(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Parameters of an estimator and of all within it, frozen ones too, by dotted name."""
    if hasattr(value, "get_params"):
        yield f"{name or 'model'} is", type(value).__name__
        for key, one in value.get_params(deep=False).items():
            yield from _parameters(one, f"{name}.{key}" if name else key)
    elif isinstance(value, list | tuple) and any(_holds_estimator(one) for one in value):
        for place, one in enumerate(value):
            # The steps of a pipeline and of a column transformer are (name, estimator, ...).
            named = isinstance(one, tuple) and one and isinstance(one[0], str)
            inner, label = (one[1:], one[0]) if named else ([one], str(place))
            for part in inner:
                yield from _parameters(part, f"{name}.{label}")
    else:
        yield name, described(value)


def _holds_estimator(value: Any) -> bool:
    inner = value if isinstance(value, tuple) else (value,)
    return any(hasattr(one, "get_params") for one in inner)


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
