"""Lineage: what a version was made from, by which code and run, and who released it.

Collected from the registry, the lake and the ledger, and nothing is written. How it is printed
stands in `lineage_tree.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlops_assets.core import fingerprint
from mlops_assets.core.ledger_chain import Entry, time_text
from mlops_assets.core.release_plan import Aliases, stages
from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import DataError, DeclarationError, RegistryError, UnknownNameError
from mlops_assets.platform import Platform
from mlops_assets.reproduce import features_now, recipe_now
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import CHAMPION, ModelVersion
from mlops_assets.windows import Windows

if TYPE_CHECKING:
    from mlops_assets.stores.ledger import Ledger

NAME = re.compile(r"(?P<model>[^@:]+)(?:@(?P<alias>[^@:]+)|:(?P<version>[0-9]+))?")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The training set of a version.

    Args:
        digest: hash of its content, its name.
        path: where it lies.
        windows: days of each window, by split.
        rows: row counts by split.
        problem: why it cannot be read; None when its content is what its name says.
    """

    digest: str
    path: str
    windows: Mapping[str, str]
    rows: Mapping[str, int]
    problem: str | None


@dataclass(frozen=True, slots=True)
class View:
    """A feature view as it is declared now.

    Args:
        name: the view.
        definition: digest of the SQL that it means.
        table: fingerprint of its whole table: the definition and the raw tables under it. None
            when one of these is not in the lake.
        sources: names of these raw tables.
    """

    name: str
    definition: str
    table: str | None
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RawTable:
    """A raw table as it lies in the lake now.

    Args:
        name: the source.
        whole: its fingerprint; None when it is not there.
        days: on how many days it has rows; None when its source names no time.
    """

    name: str
    whole: str | None
    days: int | None


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a version comes from, and what was done with it.

    Digests `then` are those of the training; views and sources are those of now. They are what the
    version was made from when `service` and `recipe` are the same then and now.

    Args:
        model: the model.
        version: the version.
        aliases: its aliases in the registry.
        created: when it was registered, UTC.
        snapshot: its training set; None when it does not name one.
        service: name of its feature service.
        service_then: digest of the service at training; None when it was not noted.
        service_now: digest of the service as it is declared now.
        views: the feature views of the service.
        sources: the raw tables under views and rows.
        recipe_then: recipe of the training.
        recipe_now: what the recipe would be now; None when it cannot be told.
        git_commit: the code that trained it.
        dagster_run: the Dagster run.
        mlflow_run: the MLflow run.
        entries: ledger entries about it, and those that changed its stage.
    """

    model: str
    version: str
    aliases: tuple[str, ...]
    created: str
    snapshot: Snapshot | None
    service: str
    service_then: str | None
    service_now: str
    views: tuple[View, ...]
    sources: tuple[RawTable, ...]
    recipe_then: str | None
    recipe_now: str | None
    git_commit: str | None
    dagster_run: str | None
    mlflow_run: str
    entries: tuple[Entry, ...]

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        entries = [{**asdict(one), "time": time_text(one.time)} for one in self.entries]
        return {**asdict(self), "entries": entries}


def lineage(platform: Platform, ledger: "Ledger", spec: ModelSpec, name: str) -> Lineage:
    """Collect where a version comes from.

    Args:
        platform: the stores.
        ledger: what was done with it.
        spec: the model as it is declared now.
        name: `MODEL`, `MODEL@alias` or `MODEL:VERSION`; the alias is champion when not given.

    Raises:
        DeclarationError: when the name is none of these, or of another model.
        RegistryError: when there is no such alias or version.
    """
    version = _version(platform, spec, name)
    snapshot, windows = _snapshot(platform, version)
    tags = version.tags
    return Lineage(
        model=spec.name,
        version=version.version,
        aliases=version.aliases,
        created=f"{version.created:%Y-%m-%d %H:%M:%S}",
        snapshot=snapshot,
        service=tags.get("mlops.feature_service", spec.features.name),
        service_then=tags.get("mlops.feature_service_digest"),
        service_now=features_now(spec),
        views=_views(platform, spec),
        sources=_sources(platform, spec),
        recipe_then=tags.get("mlops.recipe"),
        recipe_now=recipe_now(platform, spec, windows) if windows else None,
        git_commit=tags.get("mlops.git_commit"),
        dagster_run=tags.get("mlops.dagster_run"),
        mlflow_run=version.run_id,
        entries=_entries(ledger, version),
    )


def _version(platform: Platform, spec: ModelSpec, name: str) -> ModelVersion:
    """The version that a name means."""
    match = NAME.fullmatch(name)
    if match is None:
        raise DeclarationError(
            f"{name!r} does not name a version",
            expected="MODEL, MODEL@alias or MODEL:VERSION",
            do=f"write {spec.name}, {spec.name}@challenger or {spec.name}:1",
        )
    if match["model"] != spec.name:
        raise UnknownNameError.of("model", match["model"], [spec.name])
    if match["version"]:
        return platform.registry.version(spec.name, match["version"])
    alias = match["alias"] or CHAMPION
    found = platform.registry.alias(spec.name, alias)
    if found is None:
        versions = platform.registry.versions(spec.name)
        known = [f"{one} is version {v.version}" for v in versions for one in v.aliases]
        raise RegistryError(
            f"no version of {spec.name!r} is {alias}",
            expected=f"an alias that is there: {', '.join(known) or 'there is none'}",
            do=f"name a version, as in {spec.name}:1" if versions else f"train {spec.name!r} first",
        )
    return found


def _snapshot(platform: Platform, version: ModelVersion) -> tuple[Snapshot | None, Windows | None]:
    """The training set, and its windows; what is gone is told, not raised."""
    digest = version.tags.get("mlops.snapshot")
    noted = version.tags.get("mlops.windows")
    windows = Windows.model_validate_json(noted) if noted else None
    if digest is None:
        return None, windows
    rows: Mapping[str, int] = {}
    problem = None
    try:
        rows = platform.training_sets.read(version.model, digest).manifest["rows"]
    except DataError as gone:
        problem = gone.found
    return Snapshot(
        digest=digest,
        path=str(platform.training_sets.file(version.model, digest)),
        windows={split: str(window) for split, window in windows.items()} if windows else {},
        rows=dict(rows),
        problem=problem,
    ), windows


def _views(platform: Platform, spec: ModelSpec) -> tuple[View, ...]:
    found = []
    for view in spec.features.views:
        marks = {one.name: engine.source_mark(platform.lake, one) for one in view.sources}
        wholes = {name: mark.whole for name, mark in marks.items() if mark}
        whole = len(wholes) == len(marks)
        found.append(
            View(
                name=view.name,
                definition=fingerprint.of_values(engine.definition(view)),
                table=engine.features_fingerprint(view, wholes) if whole else None,
                sources=tuple(marks),
            )
        )
    return tuple(found)


def _sources(platform: Platform, spec: ModelSpec) -> tuple[RawTable, ...]:
    found = []
    for source in spec.sources:
        mark = engine.source_mark(platform.lake, source)
        days = None if mark is None or mark.days is None else len(mark.days)
        found.append(RawTable(source.name, mark.whole if mark else None, days))
    return tuple(found)


def _entries(ledger: "Ledger", version: ModelVersion) -> tuple[Entry, ...]:
    """Entries about the version, and those of others that moved it: a successor archives it."""
    return tuple(
        entry
        for entry in ledger.entries(version.model)
        if entry.version == version.version
        or version.version in stages(Aliases.of(entry.before), Aliases.of(entry.after))
    )
