"""The MLflow run of a Dagster step, opened and tagged by dagster-mlflow's resource.

That resource is built for one MLflow run per Dagster run, left open until a hook ends it. Left
alone it lets a second model, or the next Dagster run of the process, write into the same MLflow
run, and leaves it RUNNING. So the run is created here, one per model, handed to the resource by
id, and ended here, whatever happens.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from mlops_assets.defs.quiet import accepted
from mlops_assets.errors import RegistryError
from mlops_assets.platform import Platform


@contextmanager
def mlflow_run(
    context: dg.AssetExecutionContext, platform: Platform, model: str, tags: Mapping[str, str]
) -> Iterator[Any]:
    """Open an MLflow run for a model; yields dagster-mlflow's resource, whose run is active.

    Args:
        context: of the asset that is being materialized.
        platform: where MLflow is.
        model: name of the model: part of the experiment's name.
        tags: further tags of the run.
    """
    import mlflow

    with accepted():
        from dagster_mlflow import mlflow_tracking

    experiment = platform.settings.experiment(model)
    while mlflow.active_run():  # left over by other code of this process: not ours to write to
        mlflow.end_run("KILLED")
    run_id = platform.registry.open_run(experiment, f"{model} {context.run.run_id[:8]}", tags)
    config = {
        "experiment_name": experiment,
        "mlflow_tracking_uri": platform.registry.uri,
        "mlflow_run_id": run_id,
        "env": {},
        "extra_tags": {
            "dagster/run_id": context.run.run_id,
            "dagster/asset_key": context.asset_key.to_user_string(),
        },
    }
    status = "FAILED"
    try:
        with (
            accepted(),
            dg.build_resources(
                {"mlflow": mlflow_tracking},
                instance=context.instance,
                resource_config={"mlflow": {"config": config}},
                dagster_run=context.run,
                log_manager=context.log,
            ) as resources,
        ):
            active = mlflow.active_run()
            if active is None or active.info.run_id != run_id:
                raise RegistryError(
                    f"the active MLflow run is {active.info.run_id if active else None}",
                    expected=f"the run {run_id} of {model!r}",
                    do="look for code that starts MLflow runs in this process",
                )
            yield resources.mlflow
        status = "FINISHED"
    finally:
        while mlflow.active_run():
            mlflow.end_run(status)
        platform.registry.client.set_terminated(run_id, status)
