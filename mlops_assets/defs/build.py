"""Assembly: from model specs to Dagster definitions.

Orchestration only. No asset, check or resource is implemented here.
"""

from collections.abc import Mapping, Sequence

import dagster as dg

from mlops_assets.defs.assets.candidate import candidate_asset
from mlops_assets.defs.assets.features import feature_asset, registry_asset, rows_asset
from mlops_assets.defs.assets.logs import log_assets
from mlops_assets.defs.assets.monitoring import monitoring_assets
from mlops_assets.defs.assets.online import online_asset
from mlops_assets.defs.assets.predictions import predictions_asset
from mlops_assets.defs.assets.raw import raw_asset
from mlops_assets.defs.assets.release import champion_asset
from mlops_assets.defs.assets.report import report_asset
from mlops_assets.defs.assets.statistics import statistics_asset
from mlops_assets.defs.assets.training_set import training_set_asset
from mlops_assets.defs.automation import automation_sensor
from mlops_assets.defs.checks.aliases import alias_check, alias_sensor
from mlops_assets.defs.checks.contracts import source_check, training_set_check
from mlops_assets.defs.checks.features import leakage_checks, view_checks
from mlops_assets.defs.checks.gate import gate_checks
from mlops_assets.defs.checks.monitoring import log_checks, monitoring_checks
from mlops_assets.defs.checks.online import online_check
from mlops_assets.defs.checks.rollout import rollout_check, rollout_sensor
from mlops_assets.defs.jobs import release_jobs
from mlops_assets.defs.progress import progress_logger
from mlops_assets.defs.quiet import accepted
from mlops_assets.defs.resources import platform
from mlops_assets.defs.retraining import retrain_job
from mlops_assets.defs.rollout_jobs import rollout_jobs
from mlops_assets.defs.schedules import retrain_schedule
from mlops_assets.defs.sensors.alerting import alert_sensors
from mlops_assets.defs.sensors.fresh_windows import fresh_windows_sensor
from mlops_assets.defs.sensors.lost_runs import lost_runs_sensor
from mlops_assets.defs.sensors.retraining import retrain_sensor
from mlops_assets.defs.sensors.stale_tables import stale_tables_sensor
from mlops_assets.spec import ModelSpec, all_rows, all_sources, all_views
from mlops_assets.tables import refuse_duplicates, spanning


def build_definitions(
    specs: Sequence[ModelSpec], resources: Mapping[str, object] | None = None
) -> dg.Definitions:
    """Build the code location of some models.

    Args:
        specs: the models. What they share (sources, views, rows) is built once.
        resources: resources to put in the place of the default ones.

    Raises:
        DeclarationError: two different things have one name.
    """
    with accepted():
        return _build(tuple(specs), resources or {})


def _build(models: tuple[ModelSpec, ...], resources: Mapping[str, object]) -> dg.Definitions:
    refuse_duplicates("model", "the code location", models)
    sources, views, rows = all_sources(models), all_views(models), all_rows(models)
    calendar = spanning([view.calendar for view in views])
    model_assets = [
        build(spec)
        for spec in models
        for build in (
            training_set_asset,
            candidate_asset,
            report_asset,
            champion_asset,
            predictions_asset,
        )
    ]
    checks = [
        *(source_check(source) for source in sources),
        *(check for view in views for check in view_checks(view)),
        online_check(models),
        *(training_set_check(spec) for spec in models),
        *(check for spec in models for check in leakage_checks(spec)),
        *(check for spec in models for check in gate_checks(spec)),
        *(alias_check(spec) for spec in models),
        *(rollout_check(spec) for spec in models),
        *(log_checks() if models else []),
    ]
    told = [key for check in checks for key in check.check_keys]
    return dg.Definitions(
        assets=[
            *(raw_asset(source) for source in sources),
            *(feature_asset(view, calendar) for view in views),
            *(statistics_asset(view) for view in views),
            *(rows_asset(table) for table in rows),
            registry_asset(models),
            online_asset(models),
            *model_assets,
            *(log_assets(models) if models else []),
            *(monitor for spec in models for monitor in monitoring_assets(spec)),
        ],
        asset_checks=[
            *checks,
            *(check for spec in models for check in monitoring_checks(spec)),
        ],
        resources={"platform": platform, **resources},
        jobs=[
            *release_jobs(models),
            *rollout_jobs(models),
            *(retrain_job(spec) for spec in models),
        ]
        if models
        else [],
        schedules=[retrain_schedule(spec) for spec in models if spec.retraining.schedule],
        sensors=[
            stale_tables_sensor(models),
            alias_sensor(models),
            fresh_windows_sensor(models),
            rollout_sensor(models),
            lost_runs_sensor(),
            *(retrain_sensor(spec) for spec in models),
            *alert_sensors(models, told),
            automation_sensor(models),
        ]
        if models
        else [],
        loggers={"progress": progress_logger},
        # A process for each step imports Dagster, Feast and MLflow anew: of a run with four small
        # steps that were 30 of 33 seconds. DuckDB and the estimators use all cores by themselves.
        executor=dg.in_process_executor,
    )
