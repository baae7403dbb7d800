"""The reference of a model version: what its windows are compared with, kept with the version.

Made once, when the version is made: profiles of the inputs on the rows that it learned from, of
what it says on holdout, how much each of them moves between its own days, and its performance on
holdout. It is an artifact of the version's run, and a tag of the version has its SHA-256, so that
a changed one is refused. What is said of a window stands in `drifts` and `labelled`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_assets.core import tasks
from mlops_assets.core.own_floors import daily_effects
from mlops_assets.core.performance import classification_performance, regression_performance
from mlops_assets.core.profile import Profile, as_dict, of_dict
from mlops_assets.engines.profiles import DayProfiles, daily_profiles, reference_profiles
from mlops_assets.errors import ArtifactError, DataError, RegistryError
from mlops_assets.monitoring.predictions import DERIVED, OUTPUTS
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.lake import Lake, quoted, text
from mlops_assets.stores.logged import column_type, level_sql
from mlops_assets.stores.registry import ModelVersion
from mlops_assets.stores.training_sets import SPLIT, TrainingSet
from mlops_assets.tables import EVENT_TIME

FILE = "monitoring_reference.json"
TAG = f"mlops.sha256.{FILE}"
FORMAT = 1
LEAST_SLICE = 500
"""Slices of fewer reference rows get no reference: they are too small to be compared with."""

Level = tuple[str, str]
"""A slice and one of its levels."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What a version is compared with.

    Args:
        digest: SHA-256 of the document.
        columns: profiles by column: inputs, and what the model says (see `watched_outputs`).
        levels: profiles by column of each slice that is large enough.
        effects: PSI of the days of the reference against the whole, ascending, by column.
        performance: metrics on holdout, by name.
        confidence: stated coverage of sets or intervals.
        n_conformalize: rows that the coverage rests on.
        n_calibrate: rows that probabilities were calibrated on.
    """

    digest: str
    columns: Mapping[str, Profile]
    levels: Mapping[Level, Mapping[str, Profile]]
    effects: Mapping[str, tuple[float, ...]]
    performance: Mapping[str, float]
    confidence: float
    n_conformalize: int
    n_calibrate: int


def watched_outputs(spec: ModelSpec) -> tuple[str, str]:
    """What is watched of a model's answers: what it predicts, and the size of set or interval."""
    return OUTPUTS[spec.task][0], DERIVED[spec.task][0]


def make_reference(
    platform: Platform, spec: ModelSpec, data: TrainingSet, fitted: tasks.Fitted
) -> dict[str, Any]:
    """The document of a version's reference.

    Args:
        platform: the stores.
        spec: the model.
        data: the training set, which is kept.
        fitted: the version.
    """
    import pyarrow as pa

    lake = platform.lake
    holdout = data.rows("holdout")
    said = tasks.predictions(fitted, holdout.inputs)
    frame = data.part("holdout").to_pandas()
    name, value = _derived(spec, said)
    scored = frame[_slice_columns(spec)].copy()
    scored[EVENT_TIME] = frame[EVENT_TIME]
    main = OUTPUTS[spec.task][0]
    scored[f"output:{main}"], scored[f"output:{name}"] = said[main], value
    columns: dict[str, Profile] = {}
    levels: dict[Level, dict[str, Profile]] = {}
    effects: dict[str, tuple[float, ...]] = {}
    with lake.scratch() as folder:
        lake.write_arrow(pa.Table.from_pandas(scored, preserve_index=False), folder / "holdout.p")
        learned = f"{quoted(SPLIT)} = 'train'"
        kept = platform.training_sets.file(spec.name, data.snapshot)
        for path, rows, names, sign in (
            (kept, learned, spec.inputs, "input:"),
            (folder / "holdout.p", "true", (main, name), "output:"),
        ):
            signed = "" if sign == "input:" else sign
            query = f"SELECT * FROM read_parquet({text(path)}) WHERE {rows}"
            part = _profiled(lake, spec, query, [f"{signed}{one}" for one in names])
            plain = {f"{signed}{one}": one for one in names}
            columns |= {plain[k]: found for k, found in part[0].items()}
            effects |= {plain[k]: found for k, found in part[1].items()}
            for level, found in part[2].items():
                levels.setdefault(level, {}).update({plain[k]: p for k, p in found.items()})
    return {
        "format": FORMAT,
        "columns": {one: as_dict(found) for one, found in columns.items()},
        "levels": [
            {"slice": level[0], "level": level[1], "columns": _without_bins(found)}
            for level, found in levels.items()
        ],
        "effects": {one: [float(f"{e:.6g}") for e in found] for one, found in effects.items()},
        "performance": _performance(spec, holdout.labels, said),
        "confidence": fitted.rule.confidence,
        "n_conformalize": fitted.rule.n_conformalize,
        "n_calibrate": len(data.part("calibrate")),
    }


def keep_reference(
    platform: Platform, spec: ModelSpec, version: ModelVersion, document: Mapping[str, Any]
) -> str:
    """Keep a reference with its version, once; return its digest.

    Raises:
        DataError: when the version has another one.
    """
    content = json.dumps(document, sort_keys=True, allow_nan=False, separators=(",", ":"))
    digest = hashlib.sha256(content.encode()).hexdigest()
    kept = version.tags.get(TAG)
    if kept is not None and kept != digest:
        raise DataError(
            f"version {version.version} of {spec.name!r} has a reference, {kept[:12]}",
            expected="one reference per version, for good",
            do="train a new version; what was compared with the old one stays comparable",
        )
    if kept is None:
        # First the file: a tag without one would refuse all that comes after.
        platform.registry.log(version.run_id, {}, {FILE: content})
        platform.registry.tag(spec.name, version.version, {TAG: digest})
    return digest


def read_reference(platform: Platform, spec: ModelSpec, version: str) -> Reference:
    """The reference of a version.

    Raises:
        RegistryError: when the registry has not the version, or the version no reference.
        ArtifactError: when the file is not the one that was kept.
    """
    found = platform.registry.version(spec.name, version)
    kept = found.tags.get(TAG)
    if kept is None:
        raise RegistryError(
            f"version {version} of {spec.name!r} was registered without a reference",
            expected="a version that was trained by this version of the code",
            do="train the model again; its predictions are monitored from then on",
        )
    content = Path(platform.registry.report_file(found, FILE)).read_bytes()
    if hashlib.sha256(content).hexdigest() != kept:
        raise ArtifactError(
            f"the reference of version {version} of {spec.name!r} was changed after registration",
            expected=f"SHA-256 {kept[:12]}",
            do="restore the artifacts of its run, or train the model again",
        )
    return reference_of(json.loads(content), kept)


def digest_of(platform: Platform, spec: ModelSpec, version: str) -> str:
    """Digest of the reference that a version has now; empty where it cannot be told."""
    try:
        return platform.registry.version(spec.name, version).tags.get(TAG, "")
    except RegistryError:
        return ""


def reference_of(document: Mapping[str, Any], digest: str) -> Reference:
    """Read what `make_reference` made."""
    if document.get("format") != FORMAT:
        raise DataError(
            f"a reference of the format {document.get('format')!r}",
            expected=f"the format {FORMAT}",
            do="train the model again",
        )
    columns = {name: of_dict(found) for name, found in document["columns"].items()}
    return Reference(
        digest=digest,
        columns=columns,
        levels={
            (one["slice"], one["level"]): {
                name: of_dict({**document["columns"][name], **found})
                for name, found in one["columns"].items()
            }
            for one in document["levels"]
        },
        effects={name: tuple(found) for name, found in document["effects"].items()},
        performance=document["performance"],
        confidence=document["confidence"],
        n_conformalize=document["n_conformalize"],
        n_calibrate=document["n_calibrate"],
    )


def exploded(selected: str, spec: ModelSpec) -> str:
    """Rows once as they are, and once more for each slice: `slice` and `level` tell which."""
    pairs = ["{'s': '', 'l': ''}"] + [
        f"{{'s': {text(one.name)}, 'l': {quoted(f'slice:{one.name}')}}}" for one in spec.slices
    ]
    # What is grouped by must not fall together with a column of the selection.
    return (
        f"SELECT * EXCLUDE (u), u.s AS {quoted('of:slice')}, u.l AS {quoted('of:level')} "
        f"FROM (SELECT *, unnest([{', '.join(pairs)}]) AS u FROM ({selected}))"
    )


def _profiled(
    lake: Lake, spec: ModelSpec, query: str, names: list[str]
) -> tuple[dict[str, Profile], dict[str, tuple[float, ...]], dict[Level, Mapping[str, Profile]]]:
    """Profiles of the whole, effects of its days, and profiles of its slices."""
    whole = reference_profiles(lake, query, names)
    bins = {name: profile.bins for name, profile in whole.items()}
    days = daily_profiles(lake, query, bins)
    least = spec.monitoring.least_rows
    effects = {
        name: daily_effects(profile, [day.columns[name] for day in days], least)
        for name, profile in whole.items()
    }
    found: list[DayProfiles] = []
    if spec.slices:
        sliced = ", ".join(
            f"{level_sql(one, quoted(one.of), column_type(spec, one.of))} "
            f"AS {quoted(f'slice:{one.name}')}"
            for one in spec.slices
        )
        rows = exploded(f"SELECT *, {sliced} FROM ({query})", spec)
        once = f"SELECT *, DATE '1970-01-01' AS {quoted('of:day')} FROM ({rows})"
        by = ("of:slice", "of:level")
        found = daily_profiles(lake, once, bins, by=by, time="of:day")
    levels = {
        (str(one.group[0]), str(one.group[1])): one.columns
        for one in found
        if one.group[0] and one.rows >= LEAST_SLICE
    }
    return whole, effects, levels


def _slice_columns(spec: ModelSpec) -> list[str]:
    return list(dict.fromkeys(one.of for one in spec.slices))


def _derived(spec: ModelSpec, said: Mapping[str, Any]) -> tuple[str, Any]:
    name = DERIVED[spec.task][0]
    if spec.task == "binary":
        return name, said["negative_in_set"].astype(float) + said["positive_in_set"]
    return name, said["high"] - said["low"]


def _without_bins(found: Mapping[str, Profile]) -> dict[str, dict[str, Any]]:
    """Profiles without what they share with those of the whole."""
    shared = ("kind", "least", "uppers", "center", "categories", "complete")
    return {
        name: {k: v for k, v in as_dict(profile).items() if k not in shared}
        for name, profile in found.items()
    }


def _performance(spec: ModelSpec, labels: Any, said: Mapping[str, Any]) -> dict[str, float]:
    if spec.task == "binary":
        found = classification_performance(labels, said["probability"])
    else:
        found = regression_performance(labels, said["forecast"])
    return {name: estimate.value for name, estimate in found.metrics.items()}


def importance_of(platform: Platform, spec: ModelSpec, version: str) -> Mapping[str, float]:
    """How much each input matters to a version, from its report; empty where there is none."""
    try:
        path = platform.registry.report_file(
            platform.registry.version(spec.name, version), "feature_importance.json"
        )
    except RegistryError:
        return {}
    return dict(json.loads(Path(path).read_text()))
