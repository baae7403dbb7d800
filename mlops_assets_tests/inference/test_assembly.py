"""A training set out of the lake: split by time, what was left out counted, nothing unlearnable."""

from pathlib import Path

import pytest

from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import WindowError
from mlops_assets.inference.assembly import assembled
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings
from mlops_assets.spec import ModelSpec
from mlops_assets_tests.shop_world import ORDERS_CSV, returns


def home(folder: Path, orders: str) -> tuple[Platform, ModelSpec]:
    """The tables of the shop with some orders."""
    platform, spec = Platform(Settings(home=folder / "home")), returns(folder)
    (folder / "orders.csv").write_text(orders)
    for source in spec.sources:
        engine.write_source(platform.lake, source)
    engine.write_rows(platform.lake, spec.rows, "mark")
    for view in spec.features.views:
        engine.write_features(platform.lake, view, engine.days_of(view))
    platform.features.apply((spec.features,))
    return platform, spec


def test_rows_are_split_and_what_nobody_could_learn_from_is_counted(tmp_path: Path) -> None:
    late = "o9,a,pot,8,2024-01-01T14:00:00Z,1,2024-01-02T19:00:00Z\n"
    platform, spec = home(tmp_path, ORDERS_CSV + late)
    found = assembled(platform, spec, spec.windows, {"recipe": "r"})
    assert found.manifest["rows"] == {
        "train": 2, "calibrate": 2, "conformalize": 2, "holdout": 2
    }  # fmt: skip
    assert (found.manifest["purged"], found.manifest["recipe"]) == (1, "r")
    assert platform.training_sets.read(spec.name, found.snapshot).table.equals(found.table)


def test_labels_that_are_all_the_same_teach_nothing(tmp_path: Path) -> None:
    same = ORDERS_CSV.replace("a,tea,1,2024-01-01T12:00:00Z,0", "a,tea,1,2024-01-01T12:00:00Z,1")
    platform, spec = home(tmp_path, same)
    with pytest.raises(WindowError, match="is 1 in all 2 rows of the window 'train'"):
        assembled(platform, spec, spec.windows, {})
