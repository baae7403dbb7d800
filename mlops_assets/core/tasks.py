"""What differs from task to task: how a model is fitted, restored, judged and asked.

The one place that knows all kinds of model. Each kind stands in files of its own (`training` and
`evidence` for classifiers, `regression_training` and `regression_evidence` for forecasts of a
number); assets and stores go through here and never ask which kind it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from mlops_assets.core import evidence, regression_evidence, regression_training, training
from mlops_assets.core.calibrators import Calibration
from mlops_assets.core.conformal import ConformalRule
from mlops_assets.core.evidence import Champion, Evidence
from mlops_assets.core.regression_evidence import RegressionChampion, RegressionEvidence
from mlops_assets.core.regression_record import as_record, law_of, rule_of
from mlops_assets.core.regression_training import FittedRegression
from mlops_assets.core.selection import Build, selection_of
from mlops_assets.core.shared_gates import Incomparable
from mlops_assets.core.training import Choice, FittedModel, Folds, Rows
from mlops_assets.core.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

Task = Literal["binary", "regression"]
Fitted = FittedModel | FittedRegression
AnyEvidence = Evidence | RegressionEvidence
Levels = Mapping[str, npt.NDArray[np.str_]]

GATES: Mapping[Task, Mapping[str, Callable[[Any, Any], Verdict]]] = {
    "binary": evidence.GATES,
    "regression": regression_evidence.GATES,
}
"""The gates of each task by name."""

RULES: Mapping[Task, Mapping[str, str]] = {
    "binary": evidence.RULES,
    "regression": regression_evidence.RULES,
}
"""What each gate demands, to be filled in from the policy."""


class Trainable(Protocol):
    """What a fit needs to know of a model; declared in `spec.ModelSpec`."""

    @property
    def task(self) -> Task: ...  # noqa: D102
    @property
    def competitors(self) -> Mapping[str, Build]: ...  # noqa: D102
    @property
    def calibrations(self) -> Sequence[Calibration]: ...  # noqa: D102
    @property
    def intervals(self) -> Literal["absolute", "normalized"]: ...  # noqa: D102
    @property
    def folds(self) -> Folds: ...  # noqa: D102
    @property
    def confidence(self) -> float: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


def rules(task: Task, policy: Mapping[str, Any]) -> dict[str, str]:
    """What each gate of a task demands under a policy, in words."""
    return {name: rule.format(**policy) for name, rule in RULES[task].items()}


def fit(spec: Trainable, *, train: Rows, calibrate: Rows, conformalize: Rows) -> Fitted:
    """Fit a model of whatever task; see `training.fit` and `regression_training.fit_regression`."""
    rows = {"train": train, "calibrate": calibrate, "conformalize": conformalize}
    same: dict[str, Any] = {
        "folds": spec.folds,
        "confidence": spec.confidence,
        "seed": spec.seed,
        **rows,
    }
    if spec.task == "binary":
        return training.fit(spec.competitors, calibrations=spec.calibrations, **same)
    return regression_training.fit_regression(spec.competitors, intervals=spec.intervals, **same)


def estimator(fitted: Fitted) -> tuple[Any, str]:
    """The scikit-learn estimator to keep, and the name of the method that predicts with it."""
    if isinstance(fitted, FittedModel):
        return fitted.classifier, "predict_proba"
    from mlops_assets.core.forecaster import Forecaster

    return Forecaster(fitted.regressor, fitted.spread), "predict"


def record(fitted: Fitted) -> dict[str, Any]:
    """What a model is beside its estimator: plain numbers and text."""
    if isinstance(fitted, FittedModel):
        choice = asdict(fitted.choice)
        return {"task": "binary", "conformal": asdict(fitted.rule), "choice": choice}
    return {
        "task": "regression",
        "forecast": as_record(fitted.law, fitted.rule),
        "choice": {"selection": asdict(fitted.selection)},
    }


def restored(kept: Any, found: Mapping[str, Any]) -> Fitted:
    """The model of an estimator and a record.

    Args:
        kept: the estimator, as `estimator` gave it.
        found: the record, as `record` gave it.
    """
    selection = selection_of(found["choice"]["selection"])
    if found["task"] == "binary":
        choice = Choice(**{**found["choice"], "selection": selection})
        return FittedModel(kept, ConformalRule(**found["conformal"]), choice)
    law, rule = law_of(found["forecast"]), rule_of(found["forecast"])
    return FittedRegression(kept.regressor, kept.spread, law, rule, selection)


def champion(
    fitted: Fitted, version: str, inputs: "pd.DataFrame", overlap_rows: int, threshold: float
) -> Champion | RegressionChampion:
    """What the champion says of the rows that a candidate is judged on.

    Args:
        fitted: the champion.
        version: its version.
        inputs: the holdout rows, shape (n, k).
        overlap_rows: how many of them it has learned from.
        threshold: probability from which on it decides for class 1.
    """
    if isinstance(fitted, FittedModel):
        return Champion(version, fitted.probabilities(inputs), overlap_rows, threshold)
    points, spreads = fitted.points(inputs), fitted.spreads(inputs)
    return RegressionChampion(version, points, spreads, fitted.law, overlap_rows)


def judged(
    fitted: Fitted,
    rows: Rows,
    against: Champion | RegressionChampion | Incomparable | None,
    slices: Levels,
    threshold: float,
) -> AnyEvidence:
    """The evidence on a model.

    Args:
        fitted: the candidate.
        rows: the holdout rows.
        against: the champion on the same rows; None when there is none.
        slices: level of each row by slice, shape (n,).
        threshold: probability from which on class 1 is decided.
    """
    if isinstance(fitted, FittedModel):
        if isinstance(against, RegressionChampion):
            against = _other_task(against.version)
        return Evidence(
            labels=rows.labels,
            probabilities=fitted.probabilities(rows.inputs),
            rule=fitted.rule,
            champion=against,
            selection=fitted.selection,
            slices=slices,
            threshold=threshold,
        )
    if isinstance(against, Champion):
        against = _other_task(against.version)
    return RegressionEvidence(
        labels=rows.labels,
        points=fitted.points(rows.inputs),
        spreads=fitted.spreads(rows.inputs),
        rule=fitted.rule,
        law=fitted.law,
        champion=against,
        selection=fitted.selection,
        slices=slices,
    )


def _other_task(version: str) -> Incomparable:
    return Incomparable(version, "it predicts something of another kind")


def predictions(fitted: Fitted, inputs: "pd.DataFrame") -> dict[str, npt.NDArray[Any]]:
    """Columns of predictions, each of shape (n,): what a batch keeps and an answer tells."""
    if isinstance(fitted, FittedModel):
        probabilities = fitted.probabilities(inputs)
        sets = fitted.rule.prediction_sets(probabilities)
        return {
            "probability": probabilities,
            "negative_in_set": sets[:, 0],
            "positive_in_set": sets[:, 1],
        }
    low, high = fitted.intervals(inputs).T
    return {"forecast": fitted.points(inputs), "low": low, "high": high}


def in_short(found: Mapping[str, npt.NDArray[Any]]) -> dict[str, float]:
    """Means over a batch of predictions, as `predictions` gave them."""
    if "probability" in found:
        size = found["negative_in_set"].astype(int) + found["positive_in_set"]
        return {
            "mean_probability": float(found["probability"].mean()),
            "set_size": float(size.mean()),
        }
    return {
        "mean_forecast": float(found["forecast"].mean()),
        "interval_width": float((found["high"] - found["low"]).mean()),
    }
