"""The whole graph on the real data: a good model becomes champion, a bad one never does."""

import json
import re
from html import unescape
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from mlops_assets.core import tasks
from mlops_assets.core.evidence import GATES
from mlops_assets.defs import keys, main_job
from mlops_assets.defs.build import build_definitions
from mlops_assets.defs.instance import opened
from mlops_assets.showcase.flights.specs import SPECS
from mlops_assets.stores import registry
from mlops_assets.stores.registry import CHAMPION
from mlops_assets_tests import third_party
from mlops_assets_tests.end_to_end.conftest import Flights
from mlops_assets_tests.end_to_end.squared import SQUARED, TYPE

pytestmark = [pytest.mark.end_to_end, *third_party.WARNS]
SPEC = SPECS[0]


def release_alone(flights: Flights, spec: main_job.ModelSpec) -> dg.ExecuteInProcessResult:
    """Materialize the release asset and nothing else."""
    job = build_definitions([spec]).resolve_implicit_global_asset_job_def()
    with opened(flights.platform.settings) as instance:
        return job.execute_in_process(
            instance=instance, asset_selection=[keys.champion(spec)], raise_on_error=False
        )


def test_the_main_job_makes_a_champion_that_passed_every_gate(flights: Flights) -> None:
    assert flights.first.returncode == 0, flights.first.stdout + flights.first.stderr
    champion = flights.platform.registry.alias(SPEC.name, CHAMPION)
    assert champion is not None
    assert {v.gate: v.outcome for v in champion.verdicts} == dict.fromkeys(GATES, "passed")


def test_the_second_model_goes_through_the_same_graph(flights: Flights) -> None:
    delay = SPECS[1]
    champion = flights.platform.registry.alias(delay.name, CHAMPION)
    assert champion is not None, flights.first.stdout
    gates = tasks.GATES["regression"]
    assert {v.gate: v.outcome for v in champion.verdicts} == dict.fromkeys(gates, "passed")
    files = flights.platform.lake.folder(f"predictions/{delay.name}") / "*.parquet"
    rows = duckdb.sql(
        "SELECT count(*), bool_and(low <= forecast AND forecast <= high), avg(high - low) "
        f"FROM '{files}'"
    ).fetchall()
    assert rows[0][:2] == (28_150, True)
    assert 30 < rows[0][2] < 200
    page = Path(flights.command("card", "1", delay.name).stdout.strip()).read_text()
    assert "PIT histogram" in page
    assert "minutes" in page


def test_the_terminal_shows_progress_gates_version_alias_and_the_next_command(
    flights: Flights,
) -> None:
    said = flights.first.stdout
    assert re.search(r"✓ raw/flights +336,776 rows", said)
    for name in GATES:
        assert re.search(rf"{name} +passed", said)
    assert "Champion of flight_delay: version 1." in said
    assert "Next: mlops-assets dev" in said
    assert flights.first.stderr == ""


def test_the_run_is_kept_with_all_its_days(flights: Flights) -> None:
    with opened(flights.platform.settings) as instance:
        for view in SPEC.features.views:
            assert len(instance.get_materialized_partitions(keys.features(view))) == 366
        report = main_job.records.needed(instance, keys.report(SPEC))
    assert report["auc"] > 0.7
    assert report["reliability_diagram"].startswith("![reliability_diagram.png](data:image/png")


def test_the_month_after_the_holdout_is_predicted_by_the_champion(flights: Flights) -> None:
    files = flights.platform.lake.folder("predictions/flight_delay") / "*.parquet"
    rows = duckdb.sql(
        "SELECT count(*), count(DISTINCT flight_id), min(event_timestamp) >= '2013-12-01', "
        f"max(event_timestamp) < '2014-01-01', avg(probability) FROM '{files}'"
    ).fetchall()
    assert rows[0][:4] == (28_150, 28_150, True, True)
    assert 0.1 < rows[0][4] < 0.5


def test_mlflow_tells_what_the_version_was_made_of(flights: Flights) -> None:
    champion = flights.platform.registry.alias(SPEC.name, CHAMPION)
    assert champion is not None
    client = flights.platform.registry.client
    run = client.get_run(champion.run_id)
    assert run.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).name == (
        "development/mlops_assets/flight_delay"
    )
    inputs = {one.dataset.digest for one in run.inputs.dataset_inputs}
    assert inputs == {champion.tags["mlops.snapshot"][:32]}
    artifacts = {one.path for one in client.list_artifacts(champion.run_id, "report")}
    assert artifacts >= {
        f"report/{name}"
        for name in (
            "reliability_diagram.png",
            "confusion_matrix.png",
            "classification_report.txt",
            "feature_importance.png",
            "model_card.html",
        )
    }


def test_the_card_of_a_version_says_what_the_gates_say(flights: Flights) -> None:
    said = flights.command("card", "1")
    assert said.returncode == 0, said.stderr
    page = Path(said.stdout.strip()).read_text()
    champion = flights.platform.registry.version(SPEC.name, "1")
    for verdict in champion.verdicts:
        assert verdict.reason in unescape(page)
    assert champion.tags["mlops.snapshot"] in page
    assert "May be released" in page
    assert "<svg" in page
    with opened(flights.platform.settings) as instance:
        assert main_job.records.needed(instance, keys.report(SPEC))["model_card"]


def test_a_version_without_a_card_is_told_in_words(flights: Flights) -> None:
    missing = flights.command("card", "99")
    assert missing.returncode == 1
    assert "the registry has no version 99 of 'flight_delay'" in missing.stderr


def test_running_again_has_nothing_to_do(flights: Flights) -> None:
    again = flights.command("run")
    assert again.returncode == 0
    assert "nothing to do: version 1 is exactly this model" in again.stdout


def test_status_is_readable_by_scripts(flights: Flights) -> None:
    document = json.loads(flights.command("status", "--json").stdout)
    [version] = [v for v in document["flight_delay"] if "champion" in v["aliases"]]
    assert version["holdout"] == "2013-11-01 to 2013-11-30"
    assert {v["gate"] for v in version["verdicts"]} == set(GATES)


def test_a_month_that_drifted_is_refused_and_the_champion_stays(flights: Flights) -> None:
    before = flights.platform.registry.alias(SPEC.name, CHAMPION)
    december = flights.command("run", SPEC.name, "--holdout", "2013-12")
    assert december.returncode == 3, december.stdout + december.stderr
    assert re.search(r"ece_below_limit +failed", december.stdout)
    assert "is refused. The champion stays: version 1." in december.stdout
    assert flights.platform.registry.alias(SPEC.name, CHAMPION) == before


def test_releasing_alone_does_not_help_a_refused_version(flights: Flights) -> None:
    flights.command("run", SPEC.name, "--holdout", "2013-12")
    assert not release_alone(flights, SPEC).success
    champion = flights.platform.registry.alias(SPEC.name, CHAMPION)
    assert champion is not None
    assert champion.version == "1"


def test_a_miscalibrated_model_never_becomes_champion(
    flights: Flights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "TRUSTED_TYPES", (*registry.TRUSTED_TYPES, TYPE))
    outcome = main_job.run(
        flights.platform, [SQUARED], SQUARED, listener=lambda _: None, announce=lambda _: None
    )
    assert outcome.version is not None
    verdicts = {v.gate: v.outcome for v in outcome.version.verdicts}
    assert verdicts["ece_below_limit"] == "failed"
    assert verdicts["reliability_bins_within_limit"] == "failed"
    assert not outcome.released
    assert not release_alone(flights, SQUARED).success
    assert flights.platform.registry.alias(SQUARED.name, CHAMPION) is None


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--holdout", "2014-06"), "has no rows"),
        (("--holdout", "2013-1"), "is not a month"),
        (("--holdout", "2013-01"), "its end, which is exclusive, after its start"),
        (("flight_dely",), "did you mean flight_delay"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_starts(
    flights: Flights, words: tuple[str, ...], found: str
) -> None:
    with opened(flights.platform.settings) as instance:
        runs = instance.get_runs_count()
        refused = flights.command("run", *words)
        assert refused.returncode == 1
        assert found in refused.stderr
        assert "to do:" in refused.stderr
        assert instance.get_runs_count() == runs


def test_values_are_those_known_at_a_time(flights: Flights) -> None:
    words = ("features", "get", "route_punctuality", "origin=JFK", "dest=LAX")
    july = flights.command(*words, "--at", "2013-07-01T12:00").stdout
    assert "route_flights_28d     873" in july
    january = flights.command(*words, "--at", "2013-01-01T00:00").stdout
    assert "873" not in january
