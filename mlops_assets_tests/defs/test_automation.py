"""Batch predictions follow a champion that was made without a run, and nothing else."""

from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.defs import keys, releasing
from mlops_assets.defs.build import build_definitions
from mlops_assets.platform import Platform
from mlops_assets_tests.rollouts.rollout_world import released
from mlops_assets_tests.serving.conftest import rolling as rolling
from mlops_assets_tests.serving.conftest import shop as shop
from mlops_assets_tests.serving.conftest import staged_home as staged_home
from mlops_assets_tests.serving.rollout_home import spec_of
from mlops_assets_tests.shop_world import returns

pytestmark = pytest.mark.filterwarnings("ignore:.*[Tt]ype hint:UserWarning")


def test_predictions_are_made_anew_when_the_champion_was_moved_and_not_when_rows_were(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    spec = returns(tmp_path)
    definitions = build_definitions([spec])
    target = dg.AssetSelection.assets(keys.predictions(spec))
    cursor = None
    asked = []
    for key in (None, keys.rows(spec.rows), keys.champion(spec), None, keys.FEATURE_REGISTRY):
        if key is not None:
            instance.report_runless_asset_event(dg.AssetMaterialization(key))
        found = dg.evaluate_automation_conditions(
            definitions, instance, asset_selection=target, cursor=cursor
        )
        cursor = found.cursor
        asked.append(found.total_requested)
    assert asked == [0, 0, 1, 0, 0]


def test_a_champion_that_was_made_without_a_run_is_told_once(
    rolling: Platform, instance: dg.DagsterInstance
) -> None:
    spec = spec_of(rolling)
    found = rolling.registry.version(spec.name, "2")
    released(rolling, spec, found)
    event = releasing.unseen(instance, rolling, spec)
    assert event is not None
    assert event.metadata["version"].value == "2"
    instance.report_runless_asset_event(event)
    assert releasing.unseen(instance, rolling, spec) is None
    rolling.releases(spec).rollback(spec.name, actor="ann", reason="it is bad")
    back = releasing.unseen(instance, rolling, spec)
    assert back is not None
    assert (back.metadata["version"].value, back.metadata["version_before"].value) == ("1", "2")
