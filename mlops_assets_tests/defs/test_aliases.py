"""Aliases that were moved by hand are told of, even when none is left."""

import datetime as dt
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from mlops_assets.defs import releasing
from mlops_assets.defs.checks.aliases import alias_sensor
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.releases import Releases
from mlops_assets_tests import third_party
from mlops_assets_tests.shop_world import returns
from mlops_assets_tests.stores.release_world import Crash, crashing, release

pytestmark = third_party.WARNS


@pytest.fixture
def spec(platform: Platform, tmp_path: Path) -> ModelSpec:
    """A model with one registered version."""
    found = returns(tmp_path)
    platform.registry.client.create_registered_model(found.name)
    platform.registry.client.create_model_version(found.name, "/nowhere/1")
    return found


def tick(
    platform: Platform, spec: ModelSpec, instance: dg.DagsterInstance
) -> dg.SensorResult | dg.SkipReason:
    context = dg.build_sensor_context(instance, resources={"platform": platform})
    found = alias_sensor((spec,))(context)
    assert isinstance(found, dg.SensorResult | dg.SkipReason)
    return found


def test_a_model_whose_aliases_were_all_deleted_is_told_of(
    platform: Platform, spec: ModelSpec, instance: dg.DagsterInstance
) -> None:
    assert isinstance(tick(platform, spec, instance), dg.SkipReason)
    release(Releases(platform.ledger, platform.registry), "1")
    platform.registry.set_alias(spec.name, "champion", None)
    found = tick(platform, spec, instance)
    assert isinstance(found, dg.SensorResult)
    (event,) = (one for one in found.asset_events if isinstance(one, dg.AssetCheckEvaluation))
    assert not event.passed
    assert "champion points to no version, the ledger says version 1" in str(event.description)


def test_a_first_release_that_crashed_before_its_alias_is_finished(
    platform: Platform, spec: ModelSpec, instance: dg.DagsterInstance
) -> None:
    with pytest.raises(Crash):
        release(
            Releases(platform.ledger, platform.registry, observer=crashing("move champion")), "1"
        )
    tick(platform, spec, instance)
    assert platform.registry.aliases(spec.name) == {"champion": "1"}


def test_a_run_that_was_killed_does_not_keep_a_champion_from_dagster(
    platform: Platform,
    spec: ModelSpec,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release(Releases(platform.ledger, platform.registry), "1")
    create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    assert releasing.unseen(instance, platform, spec) is None
    monkeypatch.setattr(releasing, "LONGEST_RUN", dt.timedelta(0))  # as if it were hours later
    told = releasing.unseen(instance, platform, spec)
    assert told is not None
    assert told.metadata["version"].value == "1"
