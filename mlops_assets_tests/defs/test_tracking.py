"""The MLflow run of a Dagster step: one per model, tagged, and ended whatever happens."""

from collections.abc import Iterator

import dagster as dg
import pytest

from mlops_assets.defs.tracking import mlflow_run
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings

pytestmark = pytest.mark.filterwarnings(
    # MLflow's own database layer, on its first use in a process.
    "ignore::DeprecationWarning:mlflow",
    "ignore::DeprecationWarning:alembic",
)


@pytest.fixture
def platform() -> Iterator[Platform]:
    import mlflow

    yield Platform(Settings())
    assert mlflow.active_run() is None


def asset_for(model: str, platform: Platform, fails: bool = False) -> dg.AssetsDefinition:
    @dg.asset(name=model)
    def tracked(context: dg.AssetExecutionContext) -> None:
        with mlflow_run(context, platform, model, {"mlops.snapshot": "s"}) as mlflow:
            mlflow.log_metric("score", 1.0)
            if fails:
                raise RuntimeError("training broke")

    return tracked


def runs(platform: Platform, model: str) -> list[object]:
    client = platform.registry.client
    experiment = client.get_experiment_by_name(platform.settings.experiment(model))
    return client.search_runs([experiment.experiment_id])


def test_the_run_is_finished_and_tagged(platform: Platform, instance: dg.DagsterInstance) -> None:
    result = dg.materialize([asset_for("one", platform)], instance=instance)
    [run] = runs(platform, "one")
    assert run.info.status == "FINISHED"
    assert run.data.tags["dagster_run_id"] == result.run_id
    assert run.data.tags["mlops.snapshot"] == "s"
    assert run.data.metrics == {"score": 1.0}


def test_the_run_of_a_step_that_fails_is_failed(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    broken = asset_for("broken", platform, fails=True)
    dg.materialize([broken], instance=instance, raise_on_error=False)
    [run] = runs(platform, "broken")
    assert run.info.status == "FAILED"


def test_two_models_in_one_dagster_run_get_two_runs(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    both = [asset_for("left", platform), asset_for("right", platform)]
    result = dg.materialize(both, instance=instance)
    [left], [right] = runs(platform, "left"), runs(platform, "right")
    assert left.info.run_id != right.info.run_id
    assert {run.data.tags["dagster_run_id"] for run in (left, right)} == {result.run_id}


def test_the_next_dagster_run_of_a_process_gets_a_run_of_its_own(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    asset = asset_for("again", platform)
    first = dg.materialize([asset], instance=instance)
    second = dg.materialize([asset], instance=instance)
    tags = {run.data.tags["dagster_run_id"] for run in runs(platform, "again")}
    assert tags == {first.run_id, second.run_id}


def test_a_run_that_other_code_left_open_is_not_written_to(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    import mlflow

    _ = platform.registry.client
    mlflow.set_experiment("somebody else's")
    with mlflow.start_run() as left_open:
        dg.materialize([asset_for("own", platform)], instance=instance)
    assert platform.registry.client.get_run(left_open.info.run_id).data.metrics == {}
    [run] = runs(platform, "own")
    assert run.data.metrics == {"score": 1.0}
