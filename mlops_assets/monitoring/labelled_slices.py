"""What labels say of the slices of a window, all tests of a window at one false discovery rate.

The tests are those of `core/slices.py`, as at the gates. What labels say of the whole stands in
`labelled`.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlops_assets.core.incident import Health
from mlops_assets.core.slices import (
    SliceReport,
    SliceRow,
    StatedCoverage,
    classification_slices,
    regression_slices,
)
from mlops_assets.errors import GateError
from mlops_assets.monitoring.drifts import ALL
from mlops_assets.monitoring.labelled import (
    LOSS,
    MONITORS,
    Rows,
    Scored,
    coverage_health,
    covered,
    judged_health,
    maturity,
)
from mlops_assets.monitoring.reference import Reference
from mlops_assets.spec import ModelSpec


def slice_rows(
    spec: ModelSpec,
    found: Scored,
    references: Mapping[str, Reference],
    as_of: dt.datetime,
    window: str,
) -> dict[str, Rows]:
    """What labels say of the slices of each version, by monitor.

    A version whose slices cannot be told from a window (too few labels, one class, no reference)
    gets one row that says why.
    """
    rows: dict[str, Rows] = {monitor: [] for monitor in MONITORS}
    for version in sorted(set(found.versions.tolist())) if spec.slices else ():
        own = found.of((found.versions == version) & found.ok)
        ripe = maturity(spec, own, as_of)
        mature = own.of(ripe.mature)
        key = {"version": version, "arm": ALL, "window": window, "kind": "measured"}
        try:
            if ripe.share < spec.monitoring.mature_share or not mature.labels.size:
                raise GateError(
                    f"{ripe.share:.0%} of {ripe.predictions:,} predictions have a mature label",
                    expected="mature labels",
                    do="wait for the labels",
                )
            report = _report(spec, mature, references.get(version))
        except GateError as silent:
            for made in rows.values():
                made.append(
                    {**key, "slice": "slices", "level": ALL, "metric": "slices", "n": 0,
                     "outcome": "no data", "reason": f"no data: {silent.found}"}
                )  # fmt: skip
            continue
        for one in report.rows:
            for monitor, row in _of_slice(spec, one, report.confidence):
                rows[monitor].append({**key, "slice": one.slice, "level": one.level, **row})
    return rows


def _report(spec: ModelSpec, rows: Scored, reference: Reference | None) -> SliceReport:
    stated = None
    if reference is not None:
        stated = StatedCoverage(covered(spec, rows), reference.confidence, reference.n_conformalize)
    levels = {one.name: rows.levels[one.name] for one in spec.slices}
    rate = spec.monitoring.rate
    if spec.task == "binary":
        return classification_slices(
            levels,
            rows.labels.astype(np.int64),
            rows.outputs["probability"],
            stated,
            loss="log_loss",
            false_discovery_rate=rate,
        )
    if stated is None:
        raise GateError(
            "the version has no reference that says what its intervals state",
            expected="a reference",
            do="train the model again",
        )
    errors = np.abs(rows.outputs["forecast"] - rows.labels)
    return regression_slices(levels, errors, stated, false_discovery_rate=rate)


def _of_slice(
    spec: ModelSpec, one: SliceRow, confidence: float | None
) -> list[tuple[str, dict[str, Any]]]:
    gates = spec.gates
    found: list[tuple[str, dict[str, Any]]] = []
    if one.deviation is not None:
        estimate, limit = one.deviation.estimate, gates.slice_limit
        health: Health = "fine"
        if "deviation" in one.flagged:
            health = judged_health(max(estimate.low, -estimate.high), limit)
        found.append(("calibration_drift", _row("deviation", estimate, limit, health, one)))
    if one.ece is not None:
        found.append(("calibration_drift", _row("ece", one.ece, None, None, one)))
    if one.coverage is not None and confidence is not None:
        estimate, limit = one.coverage.estimate, gates.slice_tolerance
        health = "fine"
        if "coverage" in one.flagged:
            health = coverage_health(estimate, confidence, limit)
        found.append(("coverage", _row("coverage", estimate, limit, health, one)))
    found.append(("performance", _row(LOSS[spec.task], one.loss, None, None, one)))
    return found


def _row(
    metric: str, found: Any, limit: float | None, health: Health | None, one: SliceRow
) -> dict[str, Any]:
    """A row; a slice that is too small has numbers and no verdict."""
    if one.small and health is not None:
        health, reason = "no data", f"no data: {one.n:,} rows are too few to judge a slice"
    else:
        # The intervals of all slices hold at once: each is of a level that reads as 100%.
        reason = (
            f"{metric} of {one.slice} = {one.level} is {found.value:.4f} (among all slices surely "
            f"{found.low:.4f} to {found.high:.4f}, n = {one.n:,})"
        )
    return {"metric": metric, "value": found.value, "low": found.low, "high": found.high,
            "n": one.n, "threshold": limit, "outcome": health, "reason": reason}  # fmt: skip
