"""One picture per monitor out of the kept results: history with limits, and for drift what moved.

Only what is shown is chosen here; it is drawn in `core/monitoring_plots.py`.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from mlops_assets.core.monitoring_plots import Histogram, Point, drift_picture, history
from mlops_assets.core.profile import CategoryProfile, NumberProfile, Profile
from mlops_assets.errors import DataError, RegistryError
from mlops_assets.monitoring import results
from mlops_assets.monitoring.drifts import ALL, profiles_of_rows
from mlops_assets.monitoring.labelled import LOSS, limits
from mlops_assets.monitoring.reference import Reference, read_reference
from mlops_assets.monitoring.results import DRIFTS
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec

SHOWN_WINDOWS = 60
"""Windows of a picture: the last ones."""
SHOWN_LINES = 6


def picture(
    platform: Platform, spec: ModelSpec, kind: str, window: dt.date, *, weekly: bool = False
) -> bytes:
    """The picture of a monitor up to a window, as PNG."""
    if kind in DRIFTS:
        return _drift(platform, spec, kind, window, weekly=weekly)
    return _labelled(platform, spec, kind, window, weekly=weekly)


def _windows(window: dt.date, *, weekly: bool) -> list[dt.date]:
    step = dt.timedelta(7 if weekly else 1)
    return [window - i * step for i in range(SHOWN_WINDOWS - 1, -1, -1)]


def _drift(
    platform: Platform, spec: ModelSpec, kind: str, window: dt.date, *, weekly: bool
) -> bytes:
    rows = results.read(
        platform.lake,
        spec,
        kind,
        _windows(window, weekly=weekly),
        weekly=weekly,
        where=f"arm = '{ALL}' AND slice = '{ALL}'",
        columns=("event_timestamp", "version", "feature", "outcome", "psi", "own_floor",
                 "rank_share"),
    )  # fmt: skip
    now = [row for row in rows if row["event_timestamp"].date() == window]
    weight = {row["feature"]: row["rank_share"] for row in now if row["rank_share"] is not None}
    ranking = dict(sorted(weight.items(), key=lambda one: -one[1]))
    largest = sorted(now, key=lambda row: -(_ratio(spec, row) or 0.0))
    chosen = list(dict.fromkeys([*ranking, *(row["feature"] for row in largest)]))[:SHOWN_LINES]
    ratios = {
        name: [
            Point(row["event_timestamp"].date(), _ratio(spec, row))
            for row in rows
            if row["feature"] == name
        ]
        for name in chosen
        if any(row["feature"] == name and row["psi"] is not None for row in rows)
    }
    return drift_picture(
        ratios,
        ranking,
        _histograms(platform, spec, kind, window, list(ranking)[:3], weekly=weekly),
        title=f"{spec.name}: {kind.replace('_', ' ')}, {'week of ' if weekly else ''}{window}",
    )


def _ratio(spec: ModelSpec, row: Mapping[str, Any]) -> float | None:
    floor = max(spec.monitoring.warn, row["own_floor"] or 0.0)
    return None if row["psi"] is None or not floor else row["psi"] / floor


def _histograms(
    platform: Platform,
    spec: ModelSpec,
    kind: str,
    window: dt.date,
    names: Sequence[str],
    *,
    weekly: bool,
) -> list[Histogram]:
    if not names:
        return []
    where = f"arm = '{ALL}' AND slice = '{ALL}' AND counts IS NOT NULL"
    rows = results.read(platform.lake, spec, kind, [window], weekly=weekly, where=where)
    references: dict[str, Reference] = {}
    for version in {row["version"] for row in rows}:
        try:
            references[version] = read_reference(platform, spec, version)
        except (RegistryError, DataError):
            continue
    found = []
    for part, profiles in profiles_of_rows(rows, references).items():
        reference = references[part.version].columns
        found += [
            _histogram(name, reference[name], profiles[name]) for name in names if name in profiles
        ]
    return found


def _histogram(name: str, reference: Profile, window: Profile) -> Histogram:
    shares = [[count / max(1, one.rows) for count in _cells(one)] for one in (reference, window)]
    labels = [*_labels(reference), "null"]
    seen = [i for i in range(len(labels)) if shares[0][i] or shares[1][i]]
    return Histogram(
        name,
        [labels[i] for i in seen],
        [shares[0][i] for i in seen],
        [shares[1][i] for i in seen],
    )


def _cells(profile: Profile) -> list[int]:
    if isinstance(profile, CategoryProfile):
        return [*profile.counts, profile.others, profile.nulls]
    return [*profile.counts, profile.nulls]


def _labels(profile: Profile) -> list[str]:
    if isinstance(profile, NumberProfile):
        uppers = [f"to {upper:.4g}" for upper in profile.bins.uppers]
        return [f"below {profile.bins.least:.4g}", *uppers, "above"]
    return [*profile.bins.categories, "others"]


def _labelled(
    platform: Platform, spec: ModelSpec, kind: str, window: dt.date, *, weekly: bool
) -> bytes:
    shown = _metrics(spec)[kind]
    rows = results.read(
        platform.lake,
        spec,
        kind,
        _windows(window, weekly=weekly),
        weekly=weekly,
        where=f"arm = '{ALL}' AND slice = '{ALL}' AND kind = 'measured' "
        f"AND \"window\" = '{'week' if weekly else 'trailing'}'",
        columns=("event_timestamp", "metric", "value", "low", "high", "threshold", "outcome"),
    )
    series = {
        metric: [
            Point(row["event_timestamp"].date(), row["value"], row["low"], row["high"],
                  row["outcome"])
            for row in rows
            if row["metric"] == metric
        ]
        for metric in shown
    }  # fmt: skip
    lines = {
        metric: sorted({row["threshold"] for row in rows
                        if row["metric"] == metric and row["threshold"] is not None})
        for metric in shown
    }  # fmt: skip
    if kind == "coverage":
        tolerance = limits(spec)[2]
        lines["coverage"] = [spec.confidence - tolerance, spec.confidence + tolerance]
    days = f"each on {spec.monitoring.trailing_days} days"
    return history(
        {metric: points for metric, points in series.items() if points},
        title=f"{spec.name}: {kind.replace('_', ' ')}, {'by week' if weekly else days}",
        limits=lines,
    )


def _metrics(spec: ModelSpec) -> Mapping[str, tuple[str, ...]]:
    binary = spec.task == "binary"
    return {
        "calibration_drift": ("ece", "worst_bin") if binary else ("mean_error",),
        "coverage": ("coverage",),
        "performance": (LOSS[spec.task], *(("auc",) if binary else ("rmse",))),
    }
