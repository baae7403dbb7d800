from pathlib import Path

import numpy as np
import pytest

from mlops_assets.errors import WindowError
from mlops_assets.replay.year import Year
from mlops_assets.serving.predictor import entity_text
from mlops_assets_tests.replay.replay_world import (
    DAY,
    FIRST,
    PER_DAY,
    POLICY,
    WINDOWS,
    orders,
    spec,
    year,
)


def midnight(number: int) -> np.datetime64:
    return np.datetime64(FIRST + number * DAY, "us")


def test_days_are_cut_at_midnight(shop: Year) -> None:
    assert shop.between(FIRST + DAY, FIRST + 3 * DAY) == slice(PER_DAY, 3 * PER_DAY)


def test_entities_are_written_as_the_servers_write_them(shop: Year) -> None:
    (found,) = shop.entities(slice(5, 6))
    row = shop.table.slice(5, 1).to_pylist()[0]
    assert found == entity_text(row, shop.keys)
    assert "shop 5" in found


def test_a_training_set_holds_no_label_that_came_later(shop: Year) -> None:
    now = midnight(22)
    data = shop.training_set(WINDOWS, now)
    times = data.table["known_at"].cast("timestamp[us]").to_numpy()
    assert (times < now).all()
    # The orders of noon are known the next morning: those of a window's last day came too late.
    assert data.manifest["rows"]["train"] == 13 * PER_DAY
    assert data.manifest["rows"]["holdout"] == 3 * PER_DAY
    assert shop.training_set(WINDOWS, midnight(23)).manifest["rows"]["holdout"] == 4 * PER_DAY


def test_equal_rows_give_an_equal_snapshot_and_others_another(shop: Year) -> None:
    one, same = (shop.training_set(WINDOWS, midnight(23)) for _ in range(2))
    assert one.snapshot == same.snapshot
    assert one.snapshot != shop.training_set(WINDOWS, midnight(22)).snapshot


def test_labels_that_never_come_are_never_known(tmp_path: Path) -> None:
    found = year(spec(tmp_path), orders(30, unlabelled=range(18, 30)))
    assert np.isnat(found.known[found.between(FIRST + 18 * DAY, FIRST + 30 * DAY)]).all()
    windows = POLICY.windows(found.spec, FIRST + 30 * DAY)
    assert windows is not None
    assert found.labelled(windows, midnight(99)) == 18 * PER_DAY
    with pytest.raises(WindowError, match="the window 'calibrate'"):
        found.training_set(windows, midnight(99))


def test_a_time_without_a_label_makes_no_label_known(shop: Year) -> None:
    place = shop.table.column_names.index("returned")
    labels = [None, *shop.table["returned"].to_pylist()[1:]]
    found = Year(shop.spec, shop.table.set_column(place, "returned", [labels]))
    assert np.isnat(found.known[0])
    assert (found.known[1:] == shop.known[1:]).all()
