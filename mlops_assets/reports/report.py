"""What a report shows beside its card: pictures, texts and tables, by the kind of evidence.

Made from evidence alone; where they are kept, and what else Dagster shows, is not known here.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlops_assets.core import plots, regression_plots
from mlops_assets.core.evidence import Evidence
from mlops_assets.core.regression_evidence import RegressionEvidence
from mlops_assets.core.tasks import AnyEvidence
from mlops_assets.reports.regression_card import pit_counts
from mlops_assets.spec import ModelSpec

LOSSES = {"binary": "log loss", "regression": "squared error"}
"""By which loss estimators compete and importance is measured."""


def pictures(
    spec: ModelSpec, version: str, evidence: AnyEvidence, importance: Mapping[str, float]
) -> dict[str, bytes]:
    """The pictures of a report as PNG, by file name."""
    name = f"{spec.name} version {version}"
    chart = plots.importance_chart(
        importance, title=f"{name}: permutation importance", loss=LOSSES[spec.task]
    )
    own = (
        _of_classifier(spec, name, evidence)
        if isinstance(evidence, Evidence)
        else _of_regression(spec, name, evidence)
    )
    return {**own, "feature_importance.png": chart}


def _of_classifier(spec: ModelSpec, name: str, evidence: Evidence) -> dict[str, bytes]:
    decided = (evidence.probabilities >= spec.threshold).astype(np.int64)
    counts = np.bincount(evidence.labels * 2 + decided, minlength=4).reshape(2, 2)
    return {
        "reliability_diagram.png": plots.reliability_diagram(
            evidence.bins(spec.gates), title=f"{name}: reliability", limit=spec.gates.bin_limit
        ),
        "confusion_matrix.png": plots.confusion_chart(
            counts, title=f"{name}: decisions at {spec.threshold:g}"
        ),
    }


def _of_regression(spec: ModelSpec, name: str, evidence: RegressionEvidence) -> dict[str, bytes]:
    calibration = evidence.calibration()
    return {
        "quantile_diagram.png": regression_plots.quantile_diagram(
            calibration, title=f"{name}: quantiles", limit=spec.gates.bin_limit
        ),
        "pit_histogram.png": regression_plots.pit_histogram(
            pit_counts(evidence), n_calibrate=calibration.n_calibrate, title=f"{name}: PIT"
        ),
        "forecast_diagram.png": regression_plots.forecast_diagram(
            evidence.labels, evidence.points, title=f"{name}: forecasts", unit=spec.unit
        ),
    }


def texts(evidence: AnyEvidence, importance: Mapping[str, float]) -> dict[str, str]:
    """The texts of a report, by file name."""
    found = {"feature_importance.json": json.dumps(dict(importance), indent=1)}
    if isinstance(evidence, Evidence):
        from sklearn.metrics import classification_report

        decided = (evidence.probabilities >= evidence.threshold).astype(np.int64)
        found["classification_report.txt"] = classification_report(
            evidence.labels, decided, zero_division=0
        )
    return found


def tables(
    spec: ModelSpec, evidence: AnyEvidence, importance: Mapping[str, float]
) -> dict[str, list[dict[str, Any]]]:
    """The tables of a report by name, each a list of rows; an empty one has nothing to show."""
    return {
        **_calibration(spec, evidence),
        "differences": _rows(
            evidence.differences() or (),
            ("metric", "candidate", "champion", "difference", "low", "high"),
        ),
        "slices": _slices(evidence),
        "folds": [
            {
                "estimator": fold.estimator,
                "from": fold.starts,
                "loss": fold.validation.loss,
                "skill": fold.validation.skill,
                "skill_train": fold.train.skill,
                "n": fold.validation.n,
            }
            for fold in evidence.selection.folds
        ],
        "importance": [{"column": name, "importance": v} for name, v in importance.items()],
    }


def _calibration(spec: ModelSpec, evidence: AnyEvidence) -> dict[str, list[dict[str, Any]]]:
    if isinstance(evidence, Evidence):
        names = ("lower", "upper", "n", "mean_probability", "observed")
        return {"bins": _rows(evidence.bins(spec.gates).bins, (*names, "deviation", "low", "high"))}
    names = ("level", "observed", "deviation", "low", "high")
    return {"quantiles": _rows(evidence.calibration().shares, names)}


def _rows(things: Any, names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [{name: getattr(thing, name) for name in names} for thing in things]


def _slices(evidence: AnyEvidence) -> list[dict[str, Any]]:
    report = evidence.slice_report
    if report is None:
        return []
    return [
        {
            "slice": row.slice,
            "level": row.level,
            "n": row.n,
            report.loss: row.loss.value,
            "ece": row.ece.value if row.ece else None,
            "deviation": row.deviation.estimate.value if row.deviation else None,
            "coverage": row.coverage.estimate.value if row.coverage else None,
            "flagged": ", ".join(row.flagged) or ("too small to judge" if row.small else ""),
        }
        for row in report.rows
    ]
