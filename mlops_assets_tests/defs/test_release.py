"""The release on a whole graph: no step that is run alone gets around what an earlier one found."""

import datetime as dt
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
from mlops_assets.settings import Settings
from mlops_assets.spec import FoldPolicy, GatePolicy, ModelSpec
from mlops_assets.stores.registry import CHAMPION
from mlops_assets.windows import Window
from mlops_assets_tests.shop_world import boosting, day, returns, windows

pytestmark = [
    # Third parties while they are imported and used for the first time.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*[Tt]ype hint:UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LENIENT = GatePolicy(
    ece_limit=0.9,
    bin_limit=0.9,
    coverage_tolerance=0.9,
    metric_margin=0.9,
    bins=2,
    min_bin_rows=2,
    min_holdout_rows=100,
    fold_spread_limit=9,
    overfit_limit=9,
)
ORDERS_PER_DAY = 400


def write_orders(path: Path) -> None:
    """Fifteen days of orders, of which large ones are returned more often."""
    random = np.random.default_rng(0)
    lines = ["order_id,shop,item,size,ordered_at,returned,known_at"]
    for date in np.arange("2023-12-22", "2024-01-06", dtype="datetime64[D]"):
        for number in range(ORDERS_PER_DAY):
            size = int(random.integers(1, 10))
            minute = f"{number % 60:02}:{number // 60:02}"
            returned = int(random.random() < size / 10)
            lines.append(
                f"o{date}-{number},a,tea,{size},{date}T12:{minute}Z,{returned},{date}T18:00:00Z"
            )
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def platform(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.setenv("DAGSTER_HOME", "")  # set by the run, so put back after it
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "0")
    return Platform(Settings())


def filled(seed: int) -> Any:
    """Boosting that takes columns without any value: nothing was sold before January."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline

    impute = SimpleImputer(strategy="constant", fill_value=0, keep_empty_features=True)
    return Pipeline([("impute", impute), ("boosting", boosting(seed))])


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    train = Window(start=dt.date(2023, 12, 22), end=day(2))
    folds = FoldPolicy(folds=2)
    days = windows().model_copy(update={"train": train})
    found = returns(
        tmp_path,
        gates=LENIENT,
        windows=days,
        folds=folds,
        estimators={"boosting": filled},
        calibrations=("sigmoid",),
    )
    write_orders(tmp_path / "orders.csv")
    return found


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
