"""The release on a whole graph: no step that is run alone gets around what an earlier one found."""

from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pytest

from mlops_assets.core.evidence import GATES
from mlops_assets.defs import keys, main_job, records
from mlops_assets.defs.build import build_definitions
from mlops_assets.defs.instance import opened
from mlops_assets.inference import batch
from mlops_assets.inference.batch import with_features
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import CHAMPION
from mlops_assets_tests import third_party
from mlops_assets_tests.defs.release_shop import trainable

pytestmark = third_party.WARNS


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return trainable(tmp_path)


def leaky(platform: Platform, spec: ModelSpec, rows: Any) -> pa.Table:
    """The features, with one that nobody could know at the time."""
    table = with_features(platform, spec, rows)
    place = table.column_names.index("amount_last")
    ahead = pa.array(np.arange(table.num_rows, dtype=float))
    return table.set_column(place, "amount_last", ahead)


def test_a_model_on_a_leaky_training_set_is_refused_though_all_its_gates_passed(
    platform: Platform, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = main_job.run(platform, [spec], spec, listener=lambda _: None, announce=lambda _: None)
    assert first.error is None
    assert first.released

    def materialize(*selected: dg.AssetKey) -> dg.ExecuteInProcessResult:
        return job.execute_in_process(
            instance=instance, asset_selection=list(selected), raise_on_error=False
        )

    with opened(platform.settings) as instance:
        job = build_definitions([spec]).resolve_implicit_global_asset_job_def()
        with monkeypatch.context() as patch:
            patch.setattr(batch, "with_features", leaky)
            checked = materialize(keys.training_set(spec))
        passed = {e.check_name: e.passed for e in checked.get_asset_check_evaluations()}
        assert not passed["leakage_free"]

        alone = materialize(keys.candidate(spec), keys.report(spec), keys.champion(spec))
        judged = {e.check_name: e.passed for e in alone.get_asset_check_evaluations()}
        assert judged == dict.fromkeys(GATES, True)
        assert records.needed(instance, keys.report(spec))["version"] == "2"
        assert not alone.success
        [failure] = [e for e in alone.all_events if e.is_step_failure]
    assert "leakage_free: failed" in str(failure.event_specific_data)
    champion = platform.registry.alias(spec.name, CHAMPION)
    assert champion is not None
    assert champion.version == "1"
