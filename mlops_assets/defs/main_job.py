"""The main job: bring a model up to date in one Dagster run, in this process.

Decides which assets are stale, runs them, and says what came of it. Assets do the work; printing
is the work of the command line.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dagster as dg

from mlops_assets.core.tasks import GATES
from mlops_assets.defs import keys, partitions, records, staleness
from mlops_assets.defs.assets.features import digests
from mlops_assets.defs.build import build_definitions
from mlops_assets.defs.imports_ahead import ImportsAhead
from mlops_assets.defs.instance import opened
from mlops_assets.defs.progress import Listener, Progress, listening
from mlops_assets.defs.quiet import accepted
from mlops_assets.engines import duckdb as engine
from mlops_assets.platform import Platform
from mlops_assets.recipe import recipe, refuse_unusable, source_marks
from mlops_assets.spec import ModelSpec, all_views
from mlops_assets.stores.registry import CHAMPION, ModelVersion
from mlops_assets.windows import Windows


@dataclass(frozen=True)
class Outcome:
    """What a run of the main job came to.

    Args:
        version: the version that was judged; None when the run failed before there was one.
        released: whether that version is champion now.
        champion: the champion now, None when there is none.
        materialized: assets that were materialized, in order.
        run_id: the Dagster run; None when everything was up to date.
        error: why the run failed, when it did for another reason than a gate.
    """

    version: ModelVersion | None
    released: bool
    champion: ModelVersion | None
    materialized: tuple[str, ...]
    run_id: str | None
    error: str | None = None


@dataclass(frozen=True)
class Plan:
    """What is stale, and the version that already is what a run would make.

    Statistics and the online store can be stale while there is nothing to do for the model: its
    training reads neither.

    Args:
        stale: assets to materialize, in order.
        days: first and last stale day of the feature views, None when none is.
        existing: the version, None when there is none.
    """

    stale: tuple[dg.AssetKey, ...]
    days: tuple[dt.date, dt.date] | None
    existing: ModelVersion | None


def plan(
    instance: dg.DagsterInstance, platform: Platform, spec: ModelSpec, windows: Windows
) -> Plan:
    """Find what is stale: tables that rest on other rows than they would, and a new recipe.

    Raises:
        SourceError: when a source is missing, empty, or lacks a column.
    """
    marks = source_marks(platform, spec.sources)
    found = staleness.of_tables(instance, platform, (spec,), marks)
    wholes = {name: mark.whole for name, mark in marks.items()}
    existing = None
    if not found.tables:
        digest = digests((spec.features,))[spec.features.name]
        existing = _judged(platform, spec, recipe(spec, windows, wholes, digest))
    if existing is None:
        return Plan((*found.tables, *found.beside, *keys.model_keys(spec)), found.days, None)
    return Plan(found.beside, None, existing)


def _judged(platform: Platform, spec: ModelSpec, wanted: str) -> ModelVersion | None:
    """The newest version of this recipe whose fate is sealed, None when there is none."""
    for version in platform.registry.versions(spec.name):
        judged = {verdict.gate for verdict in version.verdicts}
        if version.tags.get("mlops.recipe") == wanted and judged == set(GATES[spec.task]):
            sealed = CHAMPION in version.aliases or _judged_badly(version)
            return version if sealed else None
    return None


def run(
    platform: Platform,
    specs: Sequence[ModelSpec],
    spec: ModelSpec,
    *,
    holdout: str = "",
    everything: bool = False,
    listener: Listener,
    announce: Callable[[str], None],
) -> Outcome:
    """Bring one model up to date.

    Args:
        platform: the stores.
        specs: all models of the code location.
        spec: the model to run.
        holdout: month to hold out (YYYY-MM); empty takes the windows of the spec.
        everything: materialize everything, whether stale or not.
        listener: told of each step.
        announce: told what is going to happen.

    Raises:
        DeclarationError, DataError: before anything is materialized, when the spec, a source or
            a window cannot be used.
    """
    windows = spec.windows.for_holdout(holdout) if holdout else spec.windows
    refuse_unusable(platform, spec, windows)
    platform.releases(spec).reconcile(spec.name, actor=platform.settings.who)
    with opened(platform.settings) as instance:
        found = plan(instance, platform, spec, windows)
        selection, range_ = found.stale, found.days
        if everything:
            selection = (*keys.table_keys((spec,)), *keys.model_keys(spec))
            days = [day for view in all_views((spec,)) for day in engine.days_of(view)]
            range_ = min(days), max(days)
        if not selection:
            announce(f"nothing to do: version {_of(found.existing)} is exactly this model")
            return _outcome(platform, spec, found.existing, (), None)
        announce(f"materializing {len(selection)} assets")
        job = build_definitions(specs).resolve_implicit_global_asset_job_def()
        failures: list[str] = []

        def note(progress: Progress) -> None:
            ahead.settle()
            if progress.kind == "failed":
                failures.append(f"{progress.what}: {progress.detail}")
            listener(progress)

        with ImportsAhead() as ahead, accepted(), listening(note):
            result = job.execute_in_process(
                instance=instance,
                asset_selection=list(selection),
                run_config={
                    "loggers": {"progress": {}},
                    "ops": {
                        "__".join(key.path): {"config": {"holdout": holdout}}
                        for key in selection
                        if key == keys.training_set(spec)
                    },
                },
                tags=partitions.tags(*range_) if range_ else {},
                raise_on_error=False,
            )
        candidate = records.newest(instance, keys.candidate(spec))
    materialized = tuple(
        event.asset_key.to_user_string()
        for event in result.get_asset_materialization_events()
        if event.asset_key
    )
    version = None
    if candidate is not None and candidate.run_id == result.run_id:
        version = platform.registry.version(spec.name, candidate["version"])
    elif result.success:
        version = found.existing
    error = "; ".join(failures) if failures and not _judged_badly(version) else None
    return _outcome(platform, spec, version, materialized, result.run_id, error)


def _judged_badly(version: ModelVersion | None) -> bool:
    """Whether some gate did not pass: then the run stopped because it should."""
    return version is not None and any(v.outcome != "passed" for v in version.verdicts)


def _of(version: ModelVersion | None) -> str:
    return version.version if version else "none"


def _outcome(
    platform: Platform,
    spec: ModelSpec,
    version: ModelVersion | None,
    materialized: tuple[str, ...],
    run_id: str | None,
    error: str | None = None,
) -> Outcome:
    champion = platform.registry.alias(spec.name, CHAMPION)
    if version:
        version = platform.registry.version(spec.name, version.version)
    released = bool(version and champion and champion.version == version.version)
    return Outcome(version, released, champion, tuple(dict.fromkeys(materialized)), run_id, error)
