"""What labels say of a window: calibration, coverage and performance, as rows of their tables.

Only mature rows are judged: their label had time to come, and came. A window of which too few are
mature has no data, or is not due while others may still come. Estimates without labels
(`core/label_free.py`) are given beside, marked as such; once labels come they are scored against
them, and the score is kept.

A number is a warning when its whole interval lies beyond the limit, and critical when it lies
beyond twice the limit. Numbers of slices are in `labelled_slices`, the join in `labels`.
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlops_assets.core.estimate import Estimate
from mlops_assets.core.incident import Health
from mlops_assets.core.label_free import estimate_performance, score_estimates
from mlops_assets.core.performance import (
    Maturity,
    WindowPerformance,
    classification_performance,
    label_maturity,
    regression_performance,
)
from mlops_assets.core.profile import LARGEST
from mlops_assets.core.slices import StatedCoverage
from mlops_assets.core.verdict import with_interval
from mlops_assets.monitoring.drifts import Part
from mlops_assets.monitoring.predictions import OUTPUTS
from mlops_assets.monitoring.reference import Reference
from mlops_assets.monitoring.results import NOT_DUE
from mlops_assets.spec import ModelSpec
from mlops_assets.tables import EVENT_TIME

if TYPE_CHECKING:
    import pyarrow as pa

Rows = list[dict[str, Any]]
LOSS = {"binary": "log_loss", "regression": "mae"}
"""The metric by which a model is said to perform worse."""

MONITORS = ("calibration_drift", "coverage", "performance")


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Predictions with labels as arrays of shape (n,); a label that is not known is NaN.

    Args:
        versions: version of each.
        arms: arm of each.
        ok: whether it was answered, and says something.
        times: of the predictions, UTC without zone.
        known_at: when labels became known; NaT where they are not.
        labels: the labels.
        outputs: what was said, by name.
        levels: level of each row by slice.
    """

    versions: npt.NDArray[Any]
    arms: npt.NDArray[Any]
    ok: npt.NDArray[np.bool_]
    times: npt.NDArray[np.datetime64]
    known_at: npt.NDArray[np.datetime64]
    labels: npt.NDArray[np.float64]
    outputs: Mapping[str, npt.NDArray[np.float64]]
    levels: Mapping[str, npt.NDArray[Any]]

    def of(self, chosen: npt.NDArray[np.bool_]) -> "Scored":
        """Some of the rows."""
        return Scored(
            self.versions[chosen],
            self.arms[chosen],
            self.ok[chosen],
            self.times[chosen],
            self.known_at[chosen],
            self.labels[chosen],
            {name: found[chosen] for name, found in self.outputs.items()},
            {name: found[chosen] for name, found in self.levels.items()},
        )

    def since(self, day: dt.date) -> "Scored":
        """The rows from a day on."""
        return self.of(self.times >= np.datetime64(day))

    def parts(self) -> Iterator[tuple[Part, "Scored"]]:
        """The rows of each version, and of each of its arms where there are several."""
        for version in sorted(set(self.versions.tolist())):
            own = self.of(self.versions == version)
            yield Part(version), own
            arms = sorted(set(own.arms.tolist()))
            for arm in arms if len(arms) > 1 else ():
                yield Part(version, arm), own.of(own.arms == arm)


def scored(spec: ModelSpec, table: "pa.Table") -> Scored:
    """The rows of `labels.read_labelled` as arrays."""
    times, known = (
        table[name].cast("timestamp[us]").to_numpy() for name in (EVENT_TIME, "known_at")
    )
    outputs = {
        name: table[f"output:{name}"].to_numpy().astype(np.float64) for name in OUTPUTS[spec.task]
    }
    # What has no square says no more than what is not finite.
    says = np.logical_and.reduce([np.abs(found) <= LARGEST for found in outputs.values()])
    return Scored(
        versions=table["version"].to_numpy(),
        arms=table["arm"].to_numpy(),
        ok=(table["status"].to_numpy() == "ok") & says,
        times=times,
        known_at=known,
        labels=table["label"].to_numpy().astype(np.float64),
        outputs=outputs,
        levels={one.name: table[f"slice:{one.name}"].to_numpy() for one in spec.slices},
    )


def maturity(spec: ModelSpec, rows: Scored, as_of: dt.datetime) -> Maturity:
    """Which rows have a label that had time to come, and came."""
    now = np.datetime64(as_of.astimezone(dt.UTC).replace(tzinfo=None), "us")
    delay = np.timedelta64(spec.monitoring.label_delay, "us")
    return label_maturity(rows.times, rows.known_at, now=now, delay=delay)


def covered(spec: ModelSpec, rows: Scored) -> npt.NDArray[np.bool_]:
    """Whether the set or interval of each labelled row holds its label."""
    said, labels = rows.outputs, rows.labels
    if spec.task == "binary":
        return np.where(labels == 1, said["positive_in_set"], said["negative_in_set"]) > 0
    return (said["low"] <= labels) & (labels <= said["high"])


def measured(spec: ModelSpec, rows: Scored, reference: Reference | None) -> WindowPerformance:
    """All metrics of mature rows; coverage only where it is known what was stated."""
    stated = None
    if reference is not None and rows.labels.size:
        stated = StatedCoverage(covered(spec, rows), reference.confidence, reference.n_conformalize)
    if spec.task == "binary":
        gates = spec.gates
        return classification_performance(
            rows.labels.astype(np.int64),
            rows.outputs["probability"],
            coverage=stated,
            n_bins=gates.bins,
            min_rows=gates.min_bin_rows,
        )
    return regression_performance(rows.labels, rows.outputs["forecast"], coverage=stated)


def labelled_rows(
    spec: ModelSpec,
    found: Scored,
    references: Mapping[str, Reference],
    as_of: dt.datetime,
    window: str,
) -> dict[str, Rows]:
    """What labels say of a window, by monitor.

    Args:
        spec: the model.
        found: the rows of the window.
        references: by version; those of some versions may be missing.
        as_of: the present.
        window: `day` is told and not judged; `trailing` and `week` are judged.
    """
    rows: dict[str, Rows] = {monitor: [] for monitor in MONITORS}
    for part, own in found.parts():
        reference = references.get(part.version)
        answered = own.of(own.ok)
        ripe = maturity(spec, answered, as_of)
        mature = answered.of(ripe.mature)
        enough = ripe.share >= spec.monitoring.mature_share and mature.labels.size > 0
        silent = "" if enough else _silence(ripe)
        lacking = "no data" if ripe.due == ripe.predictions else NOT_DUE
        if enough and window == "trailing":
            silent, lacking = _too_short(spec, own), "no data"
        metrics = measured(spec, mature, reference)
        for monitor, made in _judged(spec, metrics, reference, judged=window != "day"):
            row = {**_key(part, window), **made}
            if silent:
                row |= {"value": None, "low": None, "high": None, "n": ripe.predictions,
                        "outcome": lacking if row.get("outcome") else None,
                        "reason": f"{lacking}: {silent}"}  # fmt: skip
            if not silent or row["metric"] != "bin":
                rows[monitor].append(row)
        rows["performance"] += [
            {**_key(part, window), **made}
            for made in (
                *_counts(own, answered, ripe),
                *_estimates(spec, answered, reference),
                *(_scores(spec, mature, metrics, reference) if enough else ()),
            )
        ]
    return rows


def judged_health(low: float, limit: float) -> Health:
    """How bad it is that a number is surely above `low`."""
    return "critical" if low > 2 * limit else "warning" if low > limit else "fine"


def coverage_health(found: Estimate, stated: float, tolerance: float) -> Health:
    """How bad a coverage is; sets that are too large are never more than a warning."""
    if found.low - stated > tolerance:
        return "warning"
    return judged_health(stated - found.high, tolerance)


def limits(spec: ModelSpec) -> tuple[float, float, float]:
    """Limits of ECE, of the deviation of a bin, and of the distance from the stated coverage."""
    policy, gates = spec.monitoring, spec.gates
    return (
        policy.ece_limit or gates.ece_limit,
        policy.bin_limit or gates.bin_limit,
        policy.coverage_tolerance or gates.coverage_tolerance,
    )


def _key(part: Part, window: str) -> dict[str, Any]:
    return {"version": part.version, "arm": part.arm, "slice": part.slice, "level": part.level,
            "window": window}  # fmt: skip


def _silence(ripe: Maturity) -> str:
    if not ripe.predictions:
        return "no prediction of the window was answered"
    return (
        f"{int(ripe.mature.sum()):,} of {ripe.predictions:,} predictions have a mature label "
        f"({ripe.share:.0%}; {ripe.due:,} are due)"
    )


def _too_short(spec: ModelSpec, own: Scored) -> str:
    """Why trailing days say nothing yet: a single one differs by more than a model ages."""
    days = np.unique(own.times.astype("datetime64[D]")).size
    wanted = max(1, spec.monitoring.trailing_days // 2)
    if days >= wanted:
        return ""
    return f"{days} of the last {spec.monitoring.trailing_days} days have predictions"


def _judged(
    spec: ModelSpec, found: WindowPerformance, reference: Reference | None, *, judged: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Monitor and row of each metric."""
    names = dict.fromkeys([*found.metrics, *found.missing, "coverage"])
    for name in names:
        estimate = found.metrics.get(name)
        limit, outcome = _verdict(spec, name, estimate, reference)
        why = found.missing.get(name, "the version has no reference that says what it states")
        row = _row(name, estimate, found.n, limit, outcome, why)
        # What has no limit is told and not judged, also where nothing is known of it.
        yield _monitor(spec, name), row if judged and limit is not None else row | {"outcome": None}
    for row in _bins(found):
        yield "calibration_drift", row


def _monitor(spec: ModelSpec, metric: str) -> str:
    errors = ("ece", "worst_bin") if spec.task == "binary" else ("mean_error",)
    if metric in errors:
        return "calibration_drift"
    return "coverage" if metric == "coverage" else "performance"


def _verdict(
    spec: ModelSpec, name: str, found: Estimate | None, reference: Reference | None
) -> tuple[float | None, Health | None]:
    """Limit and health of a metric; NaN where the reference lacks what it is compared with."""
    ece, worst, tolerance = limits(spec)
    holdout = reference.performance if reference else {}
    loss = holdout.get(LOSS[spec.task], np.nan)
    policy = spec.monitoring
    limit = {
        "ece": ece,
        "worst_bin": worst,
        "mean_error": policy.bias_limit * holdout.get("mae", np.nan),
        "coverage": tolerance,
        LOSS[spec.task]: loss * (1 + policy.loss_margin),
    }.get(name)
    if found is None or limit is None:
        return limit, None
    if name == "coverage":
        stated = reference.confidence if reference else np.nan
        return limit, coverage_health(found, stated, limit)
    if name == LOSS[spec.task]:
        return limit, judged_health(found.low - loss, limit - loss)
    # A bias counts in both directions; errors are never below zero.
    return limit, judged_health(max(found.low, -found.high), limit)


def _row(
    name: str, found: Estimate | None, n: int, limit: float | None, outcome: Health | None, why: str
) -> dict[str, Any]:
    row: dict[str, Any] = {"metric": name, "kind": "measured", "n": n}
    if found is None:
        return {**row, "outcome": "no data", "reason": f"no data: {why}"}
    text = f"{name} {with_interval(found)}"
    if limit is not None and not np.isfinite(limit):
        limit, outcome = None, "no data"
        text += "; no data to compare it with: the version has no reference"
    elif limit is not None and np.isinf([found.low, found.high]).all():
        # One absurd value, or one row: an interval that holds everything says nothing.
        outcome = "no data"
        text += "; no data: its interval holds everything"
    elif limit is not None:
        text += f", limit {limit:.4g}" if name != "coverage" else f", tolerance {limit:g}"
    return {**row, "value": found.value, "low": found.low, "high": found.high, "n": found.n,
            "threshold": limit, "outcome": outcome, "reason": text}  # fmt: skip


def _bins(found: WindowPerformance) -> Iterator[dict[str, Any]]:
    for one in found.bins.bins if found.bins else ():
        yield {
            "metric": "bin", "kind": "measured", "value": one.deviation, "low": one.low,
            "high": one.high, "n": one.n, "lower": one.lower, "upper": one.upper,
            "mean_probability": one.mean_probability, "observed": one.observed,
        }  # fmt: skip


def _counts(own: Scored, answered: Scored, ripe: Maturity) -> Iterator[dict[str, Any]]:
    counts = {
        "predictions": own.ok.size,
        "not_scored": own.ok.size - answered.ok.size,
        "labels_due": ripe.due,
        "labels_mature": int(ripe.mature.sum()),
    }
    for name, count in counts.items():
        yield {"metric": name, "kind": "count", "value": float(count), "n": own.ok.size}
    yield {"metric": "label_maturity", "kind": "count", "value": ripe.share, "n": own.ok.size}


def _estimates(
    spec: ModelSpec, rows: Scored, reference: Reference | None
) -> Iterator[dict[str, Any]]:
    """What probabilities promise of all rows; forecasts of a number promise nothing."""
    if spec.task != "binary" or not rows.labels.size:
        return
    found = estimate_performance(
        rows.outputs["probability"],
        threshold=spec.threshold,
        n_calibrate=reference.n_calibrate if reference else None,
    )
    for name, estimate in found.metrics.items():
        yield {"metric": name, "kind": "estimate", "value": estimate.value, "low": estimate.low,
               "high": estimate.high, "n": estimate.n,
               "reason": "an estimate without labels, nothing was measured"}  # fmt: skip


def _scores(
    spec: ModelSpec, rows: Scored, truth: WindowPerformance, reference: Reference | None
) -> Iterator[dict[str, Any]]:
    """How far the estimates on exactly these rows were off."""
    if spec.task != "binary":
        return
    estimated = estimate_performance(
        rows.outputs["probability"],
        threshold=spec.threshold,
        n_calibrate=reference.n_calibrate if reference else None,
    )
    for score in score_estimates(estimated, truth):
        value = score.measured.value
        yield {"metric": score.metric, "kind": "score", "value": score.estimated.value - value,
               "low": score.estimated.low - value, "high": score.estimated.high - value,
               "n": truth.n, "inside": score.inside,
               "reason": "estimate without labels less what labels showed"}  # fmt: skip
