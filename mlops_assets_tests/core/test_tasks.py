"""Both kinds of model go through one door: fitted, kept, restored, judged, asked."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_assets.core import tasks
from mlops_assets.core.evidence import Champion, Evidence
from mlops_assets.core.regression_evidence import RegressionChampion, RegressionEvidence
from mlops_assets.core.shared_gates import Incomparable
from mlops_assets.core.training import Rows
from mlops_assets.spec import FoldPolicy
from mlops_assets_tests.core.selection_world import rows_in_time


class Declared:
    """What a spec says of a fit."""

    def __init__(self, task: tasks.Task) -> None:
        self.task = task
        self.competitors = {"linear": linear if task == "regression" else logistic}
        self.calibrations = ("sigmoid",)
        self.intervals = "normalized"
        self.folds = FoldPolicy()
        self.confidence = 0.9
        self.seed = 0


def linear(seed: int) -> Any:
    from sklearn.linear_model import LinearRegression

    return LinearRegression()


def logistic(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression()


def rows(task: tasks.Task, seed: int) -> Rows:
    random = np.random.default_rng(seed)
    told = random.normal(size=600)
    noisy = told + random.normal(size=600)
    labels = noisy if task == "regression" else (noisy > 0).astype("int64")
    return rows_in_time(pd.DataFrame({"told": told}), labels)


def fitted(task: tasks.Task) -> tasks.Fitted:
    parts = {name: rows(task, i) for i, name in enumerate(("train", "calibrate", "conformalize"))}
    return tasks.fit(Declared(task), **parts)


TASKS: tuple[tasks.Task, ...] = ("binary", "regression")
MODELS = {task: fitted(task) for task in TASKS}
HOLDOUT = {task: rows(task, 9) for task in TASKS}


def judged(task: tasks.Task, against: Any = None) -> tasks.AnyEvidence:
    return tasks.judged(MODELS[task], HOLDOUT[task], against, {}, 0.5)


def champion(task: tasks.Task) -> Champion | RegressionChampion:
    return tasks.champion(MODELS[task], "3", HOLDOUT[task].inputs, 0, 0.5)


@pytest.mark.parametrize("task", TASKS)
def test_a_model_is_restored_from_its_estimator_and_its_record(task: tasks.Task) -> None:
    model, inputs = MODELS[task], HOLDOUT[task].inputs
    again = tasks.restored(tasks.estimator(model)[0], tasks.record(model))
    before, after = tasks.predictions(model, inputs), tasks.predictions(again, inputs)
    for name, column in before.items():
        np.testing.assert_array_equal(after[name], column)
    assert again.selection == model.selection


@pytest.mark.parametrize("task", TASKS)
def test_the_named_method_of_the_estimator_predicts(task: tasks.Task) -> None:
    estimator, method = tasks.estimator(MODELS[task])
    assert len(getattr(estimator, method)(HOLDOUT[task].inputs)) == 600


@pytest.mark.parametrize(
    ("task", "kind"), [("binary", Evidence), ("regression", RegressionEvidence)]
)
def test_evidence_is_of_the_kind_that_its_gates_judge(task: tasks.Task, kind: type) -> None:
    found = judged(task, champion(task))
    assert isinstance(found, kind)
    assert found.champion is not None
    from mlops_assets.spec import GatePolicy

    verdicts = [gate(found, GatePolicy()) for gate in tasks.GATES[task].values()]
    assert [verdict.gate for verdict in verdicts] == list(tasks.GATES[task])


@pytest.mark.parametrize(("task", "other"), [TASKS, TASKS[::-1]])
def test_a_champion_of_another_task_cannot_be_compared(task: tasks.Task, other: tasks.Task) -> None:
    found = judged(task, champion(other)).champion
    assert found == Incomparable("3", "it predicts something of another kind")


def test_means_of_predictions_are_those_of_the_columns() -> None:
    found = tasks.predictions(MODELS["regression"], HOLDOUT["regression"].inputs)
    short = tasks.in_short(found)
    assert short["mean_forecast"] == found["forecast"].mean()
    assert short["interval_width"] == pytest.approx((found["high"] - found["low"]).mean())
    sets = tasks.in_short(tasks.predictions(MODELS["binary"], HOLDOUT["binary"].inputs))
    assert 0 < sets["set_size"] <= 2


@pytest.mark.parametrize("task", TASKS)
def test_every_gate_has_a_rule_in_words(task: tasks.Task) -> None:
    from mlops_assets.spec import GatePolicy

    rules = tasks.rules(task, GatePolicy().model_dump())
    assert list(rules) == list(tasks.GATES[task])
    assert not any("{" in rule for rule in rules.values())
