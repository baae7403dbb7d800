"""Cards of made-up models, one of each task, for the tests of model cards."""

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from mlops_assets.core.calibration import expected_calibration_error, reliability_bins
from mlops_assets.core.comparison import compare
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.model_card import (
    Choice,
    Comparison,
    Coverage,
    Data,
    Features,
    Gates,
    HoldoutUse,
    Intent,
    Lineage,
    ModelCard,
    Performance,
    QuantileReliability,
    Reliability,
    Window,
)
from mlops_assets.core.mondrian import GroupCoverage
from mlops_assets.core.regression import LEVELS, quantile_calibration, quantile_calibration_error
from mlops_assets.core.selection import Fold, Score, Selection
from mlops_assets.core.slices import classification_slices
from mlops_assets.core.verdict import Outcome, Verdict

RANDOM = np.random.default_rng(0)
N = 6_000
SCORES = RANDOM.beta(2, 6, N)
LABELS = RANDOM.random(N) < SCORES
ADDRESS = "http://127.0.0.1:5000/#/runs/7"
EVIL = "<script>alert('x')</script> & \"co\""
VOID = {"br", "circle", "hr", "line", "link", "meta", "path", "use", "wbr"}
DIGEST = "6686d31c782c017add047427eff1d8ee5c87dfe6067861ca52e9c1c69be38a97"


def verdict(gate: str, outcome: Outcome, **more: Any) -> Verdict:
    numbers = {"estimate": 0.0109, "low": 0.0037, "high": 0.0139, "n": 27_233, "threshold": 0.02}
    return Verdict(gate, outcome, **{**numbers, "reason": f"reason of {gate}", **more})


def slices() -> Any:
    halves = np.where(np.arange(N) < N // 2, "left", "right")
    halves[:40] = "tiny"
    return classification_slices({"side": halves}, LABELS, np.where(halves == "right", 0.1, SCORES))


def the_card() -> ModelCard:
    score = Score(0.4412, 0.1234, 0.0051, 10_000)
    folds = (
        Fold("boosting", 1, "2013-09-03", score, score),
        Fold("logistic", 1, "2013-09-03", score, replace(score, loss=0.4555)),
        Fold("boosting", 0, "2013-08-07", score, score),
    )
    bins = reliability_bins(LABELS, SCORES)
    fpr, tpr, _ = roc_curve(LABELS, SCORES)
    precision, recall, _ = precision_recall_curve(LABELS, SCORES)
    return ModelCard(
        model="flight_delay",
        version="2",
        made_at="2026-11-20 22:24 UTC",
        intent=Intent("Late?", ("team:ops",), "binary", "arrives_late", "every flight", 0.5),
        aliases=("challenger",),
        gates=Gates(
            (verdict("ece_below_limit", "passed"), verdict("coverage", "failed", low=0.031)),
            {"ece_below_limit": "ECE < 0.02"},
        ),
        comparison=Comparison("1", compare(LABELS, SCORES, SCORES**2)),
        reliability=Reliability(
            bins, 0.05, expected_calibration_error(bins), 0.02,
            tuple(np.histogram(SCORES, 50, (0, 1))[0].tolist()),
        ),
        performance=Performance(
            {"AUC": 0.7077, "Brier": float("nan"), "F1": None},
            n=27_233,
            base_rate=0.19,
            roc=tuple(zip(fpr.tolist(), tpr.tolist(), strict=True)),
            precision_recall=tuple(zip(recall.tolist(), precision.tolist(), strict=True)),
            roc_at=(0.02, 0.12),
        ),
        coverage=Coverage(
            0.9, 0.02, Estimate(0.9137, 0.908, 0.9193, 27_233), 14_658,
            size=Estimate(1.304, 1.299, 1.31, 27_233),
            groups=(
                GroupCoverage("JFK", Estimate(0.85, 0.84, 0.86, 8_700), True),
                GroupCoverage("LGA", Estimate(0.85, 0.84, 0.86, 12), False),
            ),
        ),
        slices=slices(),
        choice=Choice(
            Selection("boosting", folds), "log loss", "sigmoid",
            {"none": 0.38812, "sigmoid": 0.38664},
        ),
        features=Features({"weak": 0.001, "wind_speed": 0.0282, "broken": None}, rows=2_000),
        data=Data((Window("train", "2013-01-01 to 2013-09-30", 252_199, 0.2734),), DIGEST,
                  feature_service="flights_v1", sources={"weather": "0d77"}, purged=520),
        lineage=Lineage("d085c4d5d05ea24112ff+", "4d9a2d39-a0ed", None, {"numpy": "2.3.5"},
                        {"MLflow": ADDRESS}),
        holdout=HoldoutUse(3, ("1", "2", "3")),
        limits=("Only one year was seen.",),
    )  # fmt: skip


CARD = the_card()
SMALLEST = ModelCard("churn", "1", "today", Intent("Gone?", (), "binary", "gone", "everybody"))


def regression() -> ModelCard:
    truth = RANDOM.normal(size=N)
    grid = np.quantile(RANDOM.normal(size=100_000), LEVELS)
    found = quantile_calibration(truth, np.tile(grid, (N, 1)), n_calibrate=5_000)
    return replace(
        CARD,
        intent=replace(CARD.intent, task="regression", threshold=None),
        reliability=None,
        quantiles=QuantileReliability(
            found, 0.05, quantile_calibration_error(found), 0.02, (280, 320, 290, 310) * 5
        ),
        performance=Performance({"MAE": 18.22, "RMSE": 1234.5, "Pinball": 6.9}, unit="minutes"),
        coverage=replace(CARD.coverage, kind="intervals", unit="minutes", groups=()),
    )
