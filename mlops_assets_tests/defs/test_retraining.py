"""A model is trained again by the clock and by events, once at a time, and says why."""

import datetime as dt
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.test_utils import create_run_for_test

from mlops_assets.core.incident import IncidentPolicy, Reading, Subject
from mlops_assets.core.tasks import GATES
from mlops_assets.defs import keys, retraining
from mlops_assets.defs.schedules import retrain_schedule
from mlops_assets.defs.sensors.retraining import retrain_sensor
from mlops_assets.engines import duckdb as engine
from mlops_assets.platform import Platform
from mlops_assets.retraining_policy import RetrainingPolicy
from mlops_assets.settings import Settings
from mlops_assets.spec import ModelSpec
from mlops_assets_tests.defs.release_shop import trainable

NOW = dt.datetime(2024, 1, 7, 5, tzinfo=dt.UTC)
POLICY = RetrainingPolicy(label_delay_days=1, new_labels=1_000, cool_down_days=2)
STARTED, SUCCESS, FAILURE = (
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
)


class Home:
    """A home with entity rows, whose runs are made up."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.spec: ModelSpec = trainable(folder, retraining=POLICY)
        self.instance = instance
        self.folder = folder
        self.at(NOW)
        engine.write_source(self.platform.lake, self.spec.rows.sources[0])
        engine.write_rows(self.platform.lake, self.spec.rows, "mark")

    def at(self, now: dt.datetime) -> None:
        self.now = now
        self.platform = Platform(Settings(home=self.folder / "home", now=now))

    def ran(self, status: dg.DagsterRunStatus, days_ago: float) -> None:
        began = self.now - dt.timedelta(days=days_ago)
        create_run_for_test(
            self.instance,
            job_name=retraining.job(self.spec),
            status=status,
            tags={retraining.TAG: self.spec.name, retraining.AT: began.isoformat()},
        )

    def drifts(self) -> None:
        subject = Subject(self.spec.name, "feature_drift", "amount_last")
        bad = [
            (subject, Reading(self.now - dt.timedelta(days=2 - i), "critical", "PSI 0.4"))
            for i in range(2)
        ]
        policy = IncidentPolicy()
        self.platform.incidents.observe(self.spec.name, bad, policy, lambda _: None, now=self.now)

    def decided(self) -> retraining.Decision:
        return retraining.decision(self.instance, self.platform, self.spec)[0]

    def tick(self, sensor: dg.SensorDefinition) -> dg.RunRequest | dg.SkipReason:
        context = dg.build_sensor_context(self.instance, resources={"platform": self.platform})
        found = sensor(context)
        assert isinstance(found, dg.RunRequest | dg.SkipReason)
        return found

    def released(self) -> None:
        import sqlalchemy as sa

        from mlops_assets.stores.ledger_tables import MODELS

        with self.platform.ledger.database.writing() as connection:
            row = {"model": self.spec.name, "champion": "1", "updated_seq": 0, "champion_seq": 0}
            connection.execute(sa.insert(MODELS).values(**row))


@pytest.fixture
def home(tmp_path: Path, instance: dg.DagsterInstance) -> Home:
    return Home(tmp_path, instance)


def test_many_new_labels_call_for_a_retrain(home: Home) -> None:
    found = home.decided()
    assert (found.start, found.causes) == (True, ("labels",))


def test_after_a_success_labels_are_counted_anew(home: Home) -> None:
    home.ran(SUCCESS, days_ago=4)
    assert home.decided().causes == ("labels",)
    home.ran(SUCCESS, days_ago=2.1)
    found = home.decided()
    assert not found.start
    assert found.causes == ()


def test_drift_calls_for_one_retrain_and_not_for_another(home: Home) -> None:
    # Its windows were over by then, but nobody had been told.
    home.ran(SUCCESS, days_ago=0.1)
    home.drifts()
    assert home.decided().causes == ("drift",)
    home.ran(SUCCESS, days_ago=0)
    home.at(NOW + dt.timedelta(days=2))
    assert "drift" not in home.decided().causes


def test_while_one_is_under_way_none_is_started(home: Home) -> None:
    home.ran(STARTED, days_ago=0.1)
    found = home.decided()
    assert not found.start
    assert "under way" in found.reason


def test_failures_hold_it_back_longer_and_longer(home: Home) -> None:
    home.ran(FAILURE, days_ago=0.3)
    assert home.decided().start
    home.ran(FAILURE, days_ago=0.3)
    found = home.decided()
    assert not found.start
    assert "2 in a row failed" in found.reason


def test_days_without_labels_train_nothing(home: Home) -> None:
    home.drifts()
    assert home.decided().start
    # Train reaches back to the labels, and what comes after it does not.
    home.at(NOW + dt.timedelta(days=400))
    home.drifts()
    found = home.decided()
    assert not found.start
    assert "no row of its windows has a label" in found.reason


def test_a_request_says_why_and_is_the_same_when_asked_twice(home: Home) -> None:
    home.released()
    first, second = (home.tick(retrain_sensor(home.spec)) for _ in range(2))
    assert isinstance(first, dg.RunRequest)
    assert isinstance(second, dg.RunRequest)
    assert first.run_key == second.run_key
    assert first.tags[retraining.TAG] == home.spec.name
    assert first.tags[retraining.CAUSE].startswith("labels: ")
    op = "__".join(keys.training_set(home.spec).path)
    assert first.run_config["ops"][op]["config"]["until"] == "2024-01-06"


def test_without_a_champion_events_start_nothing(home: Home) -> None:
    found = home.tick(retrain_sensor(home.spec))
    assert isinstance(found, dg.SkipReason)
    assert "no champion" in str(found.skip_message)


def test_the_schedule_trains_without_any_event_but_not_twice(tmp_path: Path) -> None:
    with dg.instance_for_test() as instance:  # a schedule's context takes no ephemeral one
        home = Home(tmp_path, instance)
        home.released()
        schedule = retrain_schedule(home.spec)

        def ticked() -> object:
            context = dg.build_schedule_context(
                instance, resources={"platform": home.platform}, scheduled_execution_time=NOW
            )
            return schedule(context)

        home.ran(SUCCESS, days_ago=2.1)
        found = ticked()
        assert isinstance(found, dg.RunRequest)
        assert found.tags[retraining.CAUSE].startswith("schedule")
        home.ran(SUCCESS, days_ago=0.1)
        assert isinstance(ticked(), dg.SkipReason)


def test_the_schedule_leaves_the_first_run_to_a_person(tmp_path: Path) -> None:
    with dg.instance_for_test() as instance:
        home = Home(tmp_path, instance)
        context = dg.build_schedule_context(instance, resources={"platform": home.platform})
        found = retrain_schedule(home.spec)(context)
        assert isinstance(found, dg.SkipReason)
        assert "no champion" in str(found.skip_message)


def test_a_run_that_nobody_ended_counts_as_failed_after_hours(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.ran(STARTED, days_ago=1)
    assert retraining.state(home.instance, home.spec, NOW).running
    monkeypatch.setattr(retraining, "LONGEST_RUN", dt.timedelta(0))
    known = retraining.state(home.instance, home.spec, NOW)
    assert (known.running, known.failures) == (False, 1)
    assert home.decided().start


def test_a_run_by_hand_is_not_ahead_of_the_present_of_the_home(home: Home) -> None:
    create_run_for_test(
        home.instance, job_name="retrain_returns", status=SUCCESS, tags={retraining.TAG: "returns"}
    )
    assert retraining.state(home.instance, home.spec, NOW).last_start == NOW


def test_a_run_by_hand_notes_the_present_that_it_began_in(home: Home) -> None:
    @dg.asset
    def step(context: dg.AssetExecutionContext) -> None:
        retraining.note_start(context, NOW)

    dg.materialize([step], instance=home.instance, tags={retraining.TAG: home.spec.name})
    home.at(NOW + dt.timedelta(days=10))
    assert retraining.state(home.instance, home.spec, home.now).last_start == NOW


def test_a_run_that_somebody_starts_beside_another_waits_for_it(home: Home) -> None:
    home.ran(STARTED, days_ago=0.2)
    home.ran(SUCCESS, days_ago=0.1)
    assert "under way" in home.decided().reason


@pytest.mark.parametrize(
    ("gates", "stopped", "failures"),
    [(True, True, 0), (True, False, 1), (False, True, 1)],
)
def test_a_run_answers_when_gates_refused_its_version_and_not_when_it_was_killed(
    home: Home, gates: bool, stopped: bool, failures: int
) -> None:
    run = create_run_for_test(
        home.instance,
        job_name=retraining.job(home.spec),
        status=FAILURE,
        tags={retraining.TAG: home.spec.name, retraining.AT: home.now.isoformat()},
    )
    for name in GATES["binary"] if gates else ():
        evaluation = dg.AssetCheckEvaluation(
            asset_key=keys.report(home.spec), check_name=name, passed=not stopped, metadata={}
        )
        event = dg.DagsterEvent(
            event_type_value="ASSET_CHECK_EVALUATION",
            job_name=run.job_name,
            event_specific_data=evaluation,
        )
        home.instance.report_dagster_event(event, run.run_id)
    if stopped:
        event = dg.DagsterEvent(
            event_type_value="STEP_FAILURE",
            job_name=run.job_name,
            event_specific_data=StepFailureData(error=None, user_failure_data=None),
        )
        home.instance.report_dagster_event(event, run.run_id)
    assert retraining.state(home.instance, home.spec, NOW).failures == failures
