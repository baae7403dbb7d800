"""Experiments as a worker serves them: who may begin one, who gets what, and what comes of it."""

from collections import Counter
from typing import Any

import pytest

from mlops_assets.core.routing import Arm
from mlops_assets.errors import (
    DataError,
    DeclarationError,
    MlopsAssetsError,
    RegistryError,
    ReleaseRefusedError,
    RolloutError,
    UnknownNameError,
)
from mlops_assets.experiments import lifecycle
from mlops_assets.experiments import plan as experiment_plan
from mlops_assets.platform import Platform
from mlops_assets.serving import auth
from mlops_assets.serving_policy import ServingPolicy
from mlops_assets.spec import Metric, ModelSpec
from mlops_assets_tests.rollouts.rollout_world import passed
from mlops_assets_tests.serving.rollout_home import WHO, WHY, ask, followed, spec_of, worker_of
from mlops_assets_tests.serving.running import Client, in_thread, wait_for
from mlops_assets_tests.serving.shop_home import register

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")

EXPERIMENT = "/models/returns/experiment"
METRICS = (Metric(name="revenue", better="higher", unit="euros"), Metric(name="m", better="lower"))
HALVES = (Arm("old", "1", 5_000), Arm("new", "2", 5_000))
BODY: dict[str, Any] = {
    "arms": [
        {"name": "old", "version": "1", "percent": 50},
        {"name": "new", "version": "2", "percent": 50},
    ],
    "metrics": ["revenue"],
    **WHY,
}


def spec(platform: Platform, **change: Any) -> ModelSpec:
    return spec_of(platform, metrics=METRICS, **change)


def begin(platform: Platform, arms: Any = HALVES, metrics: Any = ("revenue",), **more: Any) -> Any:
    return lifecycle.start(platform, spec(platform), arms, metrics, **{**WHO, **more})


def send(client: Client, said: list[dict[str, Any]], **gain: float) -> None:
    """Outcomes of some predictions: a revenue of 1, and by arm so much more."""
    outcomes = [
        {"prediction_id": one["prediction_id"], "label": i % 2,
         "values": {"revenue": 1 + (i % 7) / 10 + gain.get(one["arm"], 0)}}
        for i, one in enumerate(said)
    ]  # fmt: skip
    found = client.post("/models/returns/outcomes", {"outcomes": outcomes})
    assert found.status == 202, found.body


def test_an_experiment_from_start_to_stop(rolling: Platform) -> None:
    worker = worker_of(rolling, metrics=METRICS)
    with in_thread(worker) as client:
        begun = client.post(f"{EXPERIMENT}/start", BODY)
        assert (begun.status, begun.json["kind"]) == (201, "experiment")
        followed(worker, rolling)
        said = ask(client, 900)
        assert {(one["arm"], one["version"]) for one in said} == {("old", "1"), ("new", "2")}
        send(client, said, new=0.5)
        found = client.get(EXPERIMENT).json
        counts = Counter(one["arm"] for one in said)
        assert {name: arm["entities"] for name, arm in found["arms"].items()} == counts
        [compared] = found["metrics"]
        assert (compared["verdict"], compared["arm"]) == ("better", "new")
        assert compared["low"] <= compared["difference"] <= compared["high"]
        assert [one["arm"] for one in ask(client, 900)] == [one["arm"] for one in said]
        arms = client.get(EXPERIMENT).json["arms"]
        assert {name: arm["entities"] for name, arm in arms.items()} == counts
        stopped = client.post(f"{EXPERIMENT}/stop", WHY)
        assert (stopped.status, stopped.json["state"]) == (200, "stopped")
        followed(worker, rolling)
        assert {one["arm"] for one in ask(client, 50)} == {"champion"}
        # But for the order in which floats are added.
        assert client.get(EXPERIMENT).json["metrics"] == [pytest.approx(compared)]
    actions = [entry.action for entry in rolling.ledger.entries("returns", last=2)]
    assert actions == ["experiment", "conclude"]
    assert rolling.ledger.verify() is None


def test_only_the_exposed_take_part_and_a_version_may_be_compared_with_itself(
    rolling: Platform,
) -> None:
    begin(rolling, (Arm("a", "1", 5_000), Arm("aa", "1", 5_000)), exposed=20)
    worker = worker_of(rolling, metrics=METRICS)
    with in_thread(worker) as client:
        followed(worker, rolling)
        counts = Counter(one["arm"] for one in ask(client, 900))
    assert 640 < counts["champion"] < 800
    assert min(counts["a"], counts["aa"]) > 50


def test_a_metric_that_nobody_sends_and_an_arm_without_traffic_are_no_data(
    rolling: Platform,
) -> None:
    begin(rolling, metrics=("revenue", "m"))
    found = lifecycle.report(rolling, spec(rolling)).document
    assert [one["verdict"] for one in found["metrics"]] == ["no data", "no data"]


@pytest.mark.parametrize(
    ("arms", "more", "error", "told"),
    [
        ((Arm("a", "1", 5_000), Arm("b", "2", 4_000)), {}, DeclarationError, "90% in all"),
        ((Arm("a", "1", 10_000),), {}, DeclarationError, "the arms a 100%"),
        ((Arm("a", "1", 5_000), Arm("a", "2", 5_000)), {}, DeclarationError, "names a, a"),
        (HALVES, {"metrics": ()}, DeclarationError, "no metric"),
        (HALVES, {"metrics": ("m", "m")}, DeclarationError, "m, m"),
        (HALVES, {"metrics": ("revenu",)}, UnknownNameError, "unknown metric 'revenu'"),
        (HALVES, {"exposed": 0}, DeclarationError, "0% of the traffic"),
        (HALVES, {"exposed": 101}, DeclarationError, "101% of the traffic"),
        (HALVES, {"exposed": float("nan")}, DeclarationError, "nan% of the traffic"),
        ((Arm("a", "1", 5_000), Arm("b", "99", 5_000)), {}, RegistryError, "99"),
    ],
)
def test_what_is_no_experiment_is_refused_and_nothing_is_written(
    rolling: Platform, arms: Any, more: Any, error: type[MlopsAssetsError], told: str
) -> None:
    before = rolling.ledger.head()
    with pytest.raises(error, match=told):
        begin(rolling, arms, **more)
    assert rolling.ledger.head() == before


@pytest.mark.parametrize(
    ("name", "percent"),
    [("champion", 50), ("shadow", 50), ("A", 50), ("", 50), ("a", 0), ("a", 0.001),
     ("a", float("nan")), ("a", 101)],
)  # fmt: skip
def test_an_arm_that_cannot_be_logged_or_has_no_share_is_refused(name: str, percent: float) -> None:
    with pytest.raises(DeclarationError, match="an arm"):
        lifecycle.arm(name, "1", percent)


def test_only_versions_that_may_serve_take_part(rolling: Platform) -> None:
    third = register(rolling, spec(rolling), 5)
    arms = (Arm("old", "1", 5_000), Arm("new", third.version, 5_000))
    with pytest.raises(ReleaseRefusedError, match="neither champion, nor challenger"):
        begin(rolling, arms)
    passed(rolling, spec(rolling), third.version)  # its gates alone are not enough
    with pytest.raises(ReleaseRefusedError, match="neither champion, nor challenger"):
        begin(rolling, arms)


def test_a_metric_without_a_declaration_has_no_direction(rolling: Platform) -> None:
    with pytest.raises(DeclarationError, match="nobody knows whether more of 'x' is better"):
        lifecycle.start(rolling, spec_of(rolling), HALVES, ("x",), **WHO)


def test_entities_that_the_log_cannot_tell_apart_are_refused(rolling: Platform) -> None:
    blind = spec(rolling, serving=ServingPolicy(dropped=("item",)))
    with pytest.raises(DataError, match="drops item"):
        lifecycle.start(rolling, blind, HALVES, ("revenue",), **WHO)


def test_there_is_one_at_a_time_and_what_is_stopped_stays_so(rolling: Platform) -> None:
    begin(rolling)
    with pytest.raises(RolloutError, match="is open"):
        begin(rolling)
    lifecycle.stop(rolling, spec(rolling), **WHO)
    with pytest.raises(RolloutError, match="no experiment of 'returns' is open"):
        lifecycle.stop(rolling, spec(rolling), **WHO)


def test_without_an_experiment_there_is_nothing_to_say(rolling: Platform) -> None:
    with pytest.raises(RolloutError, match="has had no experiment"):
        lifecycle.report(rolling, spec(rolling))


def test_a_plan_learns_from_the_past_and_is_no_data_without_one(rolling: Platform) -> None:
    with pytest.raises(DataError, match="no data: 0 entities"):
        experiment_plan.plan(rolling, spec(rolling), ["revenue"], 0.1)
    with in_thread(worker_of(rolling, metrics=METRICS)) as client:
        said = ask(client, 500)
        with pytest.raises(DataError, match="no data: 0 entities"):
            experiment_plan.plan(rolling, spec(rolling), ["revenue"], 0.1)
        send(client, said)
    found = experiment_plan.plan(rolling, spec(rolling), ["revenue"], 0.05, past_days=5)
    assert (found.mean, found.values) == (pytest.approx(1.3, abs=0.01), 1.0)
    assert found.spread == pytest.approx(0.2, abs=0.01)
    assert found.per_day == 500  # all of them today
    assert found.entities is not None
    assert found.days == pytest.approx(found.entities / 500)
    assert sum(found.per_arm) == pytest.approx(found.entities, abs=2)


def test_a_plan_counts_an_entity_once_whichever_arms_it_was_in(rolling: Platform) -> None:
    with in_thread(worker_of(rolling, metrics=METRICS)) as client:
        send(client, ask(client, 200))
        begin(rolling)
        wait_for(lambda: {one["arm"] for one in ask(client, 20)} == {"old", "new"})
        send(client, ask(client, 200))
    found = experiment_plan.plan(rolling, spec(rolling), ["revenue"], 0.05)
    assert (found.per_day, found.values) == (200, 2.0)
    assert found.mean == pytest.approx(2.6, abs=0.1)


def test_a_plan_for_several_metrics_takes_longer(rolling: Platform) -> None:
    with in_thread(worker_of(rolling, metrics=METRICS)) as client:
        send(client, ask(client, 200))
    one, two = (
        experiment_plan.plan(rolling, spec(rolling), names, 0.05)
        for names in (["revenue"], ["revenue", METRICS[1].name])
    )
    assert (one.entities or 0) < (two.entities or 0)


@pytest.mark.parametrize("exposed", [0, -5, 500, float("nan")])
def test_a_plan_for_a_part_that_is_none_is_refused(rolling: Platform, exposed: float) -> None:
    with pytest.raises(DeclarationError, match="of the traffic"):
        experiment_plan.plan(rolling, spec(rolling), ["revenue"], 0.05, exposed=exposed)


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"arms": []}, 400, "arms"),
        ({"arms": "a"}, 400, "arms"),
        ({"arms": [1, 2]}, 400, "arms[0]"),
        ({"arms": [{**BODY["arms"][0], "share": 1}, BODY["arms"][1]]}, 400, "arms[0].share"),
        ({"arms": [{**BODY["arms"][0], "name": 1}, BODY["arms"][1]]}, 400, "arms[0].name"),
        ({"arms": [BODY["arms"][0], {"name": "b", "version": 2}]}, 400, "arms[1].version"),
        ({"arms": [BODY["arms"][0], {"name": "b", "version": "2"}]}, 400, "arms[1].percent"),
        ({"arms": [BODY["arms"][0], {**BODY["arms"][1], "percent": 40}]}, 409, ""),
        ({"arms": [BODY["arms"][0], {**BODY["arms"][1], "version": "99"}]}, 404, ""),
        ({"metrics": "revenue"}, 400, "metrics"),
        ({"metrics": ["nothing"]}, 409, ""),
        ({"exposed": "all"}, 400, "exposed"),
        ({"exposed": 0}, 409, ""),
        ({"reason": ""}, 400, "reason"),
        ({"why": "x"}, 400, "why"),
    ],
)
def test_a_bad_start_is_refused(rolling: Platform, change: Any, status: int, field: str) -> None:
    with in_thread(worker_of(rolling, metrics=METRICS)) as client:
        found = client.post(f"{EXPERIMENT}/start", {**BODY, **change})
        assert (found.status, found.json["field"]) == (status, field), found.body
        assert client.get(EXPERIMENT).status == 409
    assert rolling.rollouts.last("returns") is None


def test_looking_and_stopping_need_less_than_starting(rolling: Platform) -> None:
    assert auth.role_for(EXPERIMENT) == auth.role_for(f"{EXPERIMENT}/stop") == "operate"
    assert auth.role_for(f"{EXPERIMENT}/start") == "admin"
    assert auth.role_for("/models/experiment/predict") == "predict"
