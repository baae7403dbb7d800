"""People start and move rollouts by forms in Dagster, and see on a check where one stands."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_assets.core.sequential import Sums
from mlops_assets.defs.checks.rollout import rollout_check, rollout_sensor
from mlops_assets.defs.rollout_jobs import rollout_jobs
from mlops_assets.platform import Platform
from mlops_assets.rollouts import moves
from mlops_assets.rollouts.canary import CANARY, CONTROL, ERRORS, TRAFFIC_STAGE
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.rollouts import Counted
from mlops_assets_tests.rollouts.rollout_world import adopted, challenged
from mlops_assets_tests.serving.shop_home import built

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def challenger(tmp_path_factory: pytest.TempPathFactory) -> tuple[Platform, ModelSpec]:
    """A home with a champion and a challenger."""
    platform = built(tmp_path_factory.mktemp("rollout_jobs") / "home")
    spec = adopted(platform)[0]
    challenged(platform, spec, seed=1)
    return platform, spec


def ran(platform: Platform, spec: ModelSpec, name: str, **form: Any) -> dg.ExecuteInProcessResult:
    job = next(job for job in rollout_jobs([spec]) if job.name == name)
    op = {"rollout_start": "start_rollout", "rollout_move": "move_rollout"}[name]
    return job.execute_in_process(
        run_config={"ops": {op: {"config": {"model": spec.name, "reason": "a test", **form}}}},
        resources={"platform": platform},
        raise_on_error=False,
    )


def judged(platform: Platform, spec: ModelSpec) -> dg.AssetCheckResult:
    found = rollout_check(spec)(platform=platform)
    assert isinstance(found, dg.AssetCheckResult)
    return found


def test_a_rollout_is_started_moved_and_shown(challenger: tuple[Platform, ModelSpec]) -> None:
    platform, spec = challenger
    assert "has had no rollout" in str(judged(platform, spec).description)
    assert ran(platform, spec, "rollout_start", version="2", actor="ann").success
    kept = platform.rollouts.open(spec.name)
    assert kept is not None
    assert (kept.actor, kept.traffic.state) == ("ann", "shadow")
    found = judged(platform, spec)
    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.WARN
    assert "still open: " in str(found.description)

    assert ran(platform, spec, "rollout_move", move="advance").success
    assert not ran(platform, spec, "rollout_start", version="2").success
    assert not ran(platform, spec, "rollout_move", move="fly").success

    # What the servers counted is what the check is about, and the sensor tells it once.
    sums = {
        Counted(TRAFFIC_STAGE, arm, ERRORS, "w"): Sums(5_000, bad, bad)
        for arm, bad in ((CANARY, 500.0), (CONTROL, 10.0))
    }
    platform.rollouts.count(kept.traffic.id, sums)
    found = judged(platform, spec)
    assert not found.passed
    assert "abort" in str(found.description)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance, resources={"platform": platform})
        told = rollout_sensor([spec])(context)
        assert isinstance(told, dg.SensorResult)
        (event,) = told.asset_events
        assert isinstance(event, dg.AssetCheckEvaluation)
        assert not event.passed
        context.update_cursor(told.cursor)
        assert isinstance(rollout_sensor([spec])(context), dg.SkipReason)

    moves.move(platform, spec, "abort", actor="ann", reason="enough")
    assert not judged(platform, spec).passed
    assert "aborted" in str(judged(platform, spec).description)


def test_a_model_that_is_unknown_is_told_in_words(
    challenger: tuple[Platform, ModelSpec], tmp_path: Path
) -> None:
    platform, spec = challenger
    found = ran(platform, spec, "rollout_start", version="2", model="nothing")
    (event,) = [event for event in found.all_events if event.is_step_failure]
    assert "unknown model" in str(event.event_specific_data)
