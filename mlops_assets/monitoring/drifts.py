"""Drift of what a model gets and says: one pass over the predictions of a day, then verdicts.

Rows of the tables `feature_drift` and `prediction_drift`. With every verdict the profile is kept
that it was given on, so that a week is judged on the merged profiles of its days and no prediction
is read again. The laws are in `core/drift.py` and `core/own_floors.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from mlops_assets.core.drift import DriftVerdict, judge, ranked
from mlops_assets.core.own_floors import above_own_floors, own_floor
from mlops_assets.core.profile import (
    Bins,
    CategoryBins,
    CategoryProfile,
    NumberProfile,
    Profile,
    merge,
)
from mlops_assets.core.slices import MIN_ROWS
from mlops_assets.engines.profiles import daily_profiles
from mlops_assets.errors import SourceError
from mlops_assets.monitoring.reference import Reference, exploded, watched_outputs
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.lake import Lake, text

ALL = "all"
"""Arm of all predictions of a version; slice and level of all rows."""


DETAILS = ("wasserstein", "kolmogorov_smirnov", "jensen_shannon", "null_share")
"""What is kept of the details of a verdict."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the predictions of a window: of a version, an arm, a level of a slice."""

    version: str
    arm: str = ALL
    slice: str = ALL
    level: str = ALL


Profiles = Mapping[Part, Mapping[str, Profile]]


def day_profiles(
    lake: Lake, spec: ModelSpec, selected: str, version: str, reference: Reference
) -> dict[Part, dict[str, Profile]]:
    """Profiles of a version's predictions on one day, by part, in one scan.

    Args:
        lake: gives the connection.
        spec: the model.
        selected: `predictions.selection` with inputs and slices.
        version: the version.
        reference: of the version.
    """
    signed = _signed(spec)
    bins = {signed[name]: found.bins for name, found in reference.columns.items() if name in signed}
    own = f"SELECT * FROM ({selected}) WHERE version = {text(version)} AND status = 'ok'"
    rows = exploded(own, spec)
    found: dict[Part, dict[str, Profile]] = {}
    plain = {sign: name for name, sign in signed.items()}
    for group in daily_profiles(lake, rows, bins, by=("arm", "of:slice", "of:level")):
        arm, name, level = (str(one) for one in group.group)
        parts = [Part(version, slice=name or ALL, level=level or ALL)]
        if not name:
            parts.append(Part(version, arm))
        columns = {plain[sign]: profile for sign, profile in group.columns.items()}
        for part in parts:
            found[part] = _together(found.get(part), columns)
    arms = [part for part in found if part.arm != ALL]
    # The only arm is all arms.
    return {part: found[part] for part in found if part not in arms or len(arms) > 1}


def merged(days: Iterable[Profiles]) -> dict[Part, dict[str, Profile]]:
    """Profiles of several days as one, by part."""
    found: dict[Part, dict[str, Profile]] = {}
    for day in days:
        for part, columns in day.items():
            found[part] = _together(found.get(part), columns)
    return found


def drift_rows(
    spec: ModelSpec,
    profiles: Profiles,
    references: Mapping[str, Reference],
    importance: Mapping[str, Mapping[str, float]],
    monitor: str,
) -> list[dict[str, Any]]:
    """Verdicts on all columns of all parts, as rows of a table.

    Args:
        spec: the model.
        profiles: by part.
        references: by version; profiles of other versions are not there.
        importance: of the inputs, by version.
        monitor: `feature_drift` or `prediction_drift`.
    """
    names = spec.inputs if monitor == "feature_drift" else watched_outputs(spec)
    rows: list[dict[str, Any]] = []
    for part in sorted(profiles, key=lambda one: (one.version, one.arm, one.slice, one.level)):
        reference = references[part.version]
        rows += _of_part(spec, part, profiles[part], reference, importance, names)
    return rows


def no_data_rows(
    spec: ModelSpec, monitor: str, version: str, n: int, reason: str
) -> list[dict[str, Any]]:
    """Rows that say why nothing can be said of a version's columns."""
    names = spec.inputs if monitor == "feature_drift" else watched_outputs(spec)
    return [
        {**_key(Part(version)), "feature": name, "outcome": "no data", "n": n,
         "reason": f"no data: {reason}"}
        for name in names
    ]  # fmt: skip


def profiles_of_rows(
    rows: Sequence[Mapping[str, Any]], references: Mapping[str, Reference]
) -> dict[Part, dict[str, Profile]]:
    """Read back the profiles of rows that `drift_rows` made with these references.

    Rows without a profile, of versions without a reference, or made with another reference of a
    version are passed over.
    """
    found: dict[Part, dict[str, Profile]] = {}
    for row in rows:
        reference = references.get(row["version"])
        if reference is None or row["counts"] is None or row["reference"] != reference.digest:
            continue
        part = Part(row["version"], row["arm"], row["slice"], row["level"])
        bins = reference.columns[row["feature"]].bins
        found.setdefault(part, {})[row["feature"]] = _profile_of(row, bins)
    return found


def _of_part(
    spec: ModelSpec,
    part: Part,
    windows: Mapping[str, Profile],
    reference: Reference,
    importance: Mapping[str, Mapping[str, float]],
    names: Sequence[str],
) -> list[dict[str, Any]]:
    policy = spec.monitoring
    whole = part.slice == ALL
    compared = reference.columns if whole else reference.levels.get((part.slice, part.level), {})
    chosen = {name: compared[name] for name in names if name in compared}
    own = {name: windows[name] for name in names if name in windows}
    floors = {
        name: own_floor(reference.effects.get(name, ()), policy.own_quantile) for name in names
    }
    limits = policy.drift
    if not whole:
        limits = replace(limits, least_rows=max(limits.least_rows, MIN_ROWS))
    verdicts = above_own_floors(judge(chosen, own, limits), floors, limits)
    weights = importance.get(part.version, {})
    # What a model says has no importance: there drift alone ranks.
    equal = dict.fromkeys(watched_outputs(spec), 1.0)
    shares = {verdict.feature: share for verdict, share in ranked(verdicts, {**equal, **weights})}
    by_name = {verdict.feature: verdict for verdict in verdicts}
    return [
        {
            **_key(part),
            **_of_verdict(by_name[name]),
            "own_floor": floors[name],
            "importance": weights.get(name),
            "rank_share": shares.get(name),
            "reference": reference.digest,
            **(_of_profile(own[name]) if name in own else {}),
        }
        for name in names
        if name in by_name
    ]


def _key(part: Part) -> dict[str, str]:
    return {
        "version": part.version,
        "arm": part.arm,
        "slice": part.slice,
        "level": part.level,
    }


def _of_verdict(found: DriftVerdict) -> dict[str, Any]:
    details = dict(found.details)
    return {
        "feature": found.feature,
        "outcome": found.outcome,
        "psi": found.estimate.value if found.estimate else None,
        "low": found.estimate.low if found.estimate else None,
        "high": found.estimate.high if found.estimate else None,
        "floor": found.floor,
        "p_value": found.p_value,
        "n": found.n,
        "reason": found.reason,
        **{name: details.get(name) for name in DETAILS},
    }


def _of_profile(profile: Profile) -> dict[str, Any]:
    """A profile as columns of a row; its bins are those of the reference."""
    same = {"counts": list(profile.counts), "nulls": profile.nulls}
    if isinstance(profile, CategoryProfile):
        return {**same, "others": profile.others, "names": list(profile.names)}
    return {
        **same,
        "mean": profile.mean if profile.values else None,
        "total": str(profile.total),
        "squares": str(profile.squares),
        "minimum": profile.minimum,
        "maximum": profile.maximum,
    }


def _profile_of(row: Mapping[str, Any], bins: Bins) -> Profile:
    counts, nulls = tuple(row["counts"]), row["nulls"]
    if isinstance(bins, CategoryBins):
        return CategoryProfile(bins, counts, row["others"], tuple(row["names"] or ()), nulls)
    sums = Fraction(row["total"]), Fraction(row["squares"])
    return NumberProfile(bins, counts, nulls, *sums, row["minimum"], row["maximum"])


def _together(
    one: Mapping[str, Profile] | None, other: Mapping[str, Profile]
) -> dict[str, Profile]:
    if one is None:
        return dict(other)
    return {
        name: merge(one[name], found) if name in one else found for name, found in other.items()
    }


def _signed(spec: ModelSpec) -> dict[str, str]:
    """Columns of the selection by name of input or output.

    Raises:
        SourceError: when an input is called like an output.
    """
    outputs = watched_outputs(spec)
    if both := set(outputs) & set(spec.inputs):
        raise SourceError(
            f"the inputs {', '.join(sorted(both))} of {spec.name!r} are called like its outputs",
            expected=f"inputs with other names than {' and '.join(outputs)}",
            do="rename the features",
        )
    return {
        **{name: f"input:{name}" for name in spec.inputs},
        **{name: f"output:{name}" for name in outputs},
    }
