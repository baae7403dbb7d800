"""Training sets are snapshots named by their content."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_assets.errors import DataError
from mlops_assets.stores.lake import Lake
from mlops_assets.stores.training_sets import TrainingSet, TrainingSets

MANIFEST = {
    "inputs": ["shop", "amount"],
    "label": "returned",
    "known_at": "known_at",
    "task": "binary",
}


def table(*, unit: str = "us", amount: float = 0.5) -> pa.Table:
    times = [dt.datetime(2024, 1, day, tzinfo=dt.UTC) for day in (1, 2, 3)]
    return pa.table(
        {
            "shop": ["a", None, "b"],
            "amount": pa.array([1.0, None, amount]),
            "event_timestamp": pa.array(times, pa.timestamp(unit, tz="UTC")),
            "known_at": pa.array(times, pa.timestamp(unit, tz="UTC")),
            "returned": [0, 1, 0],
            "split": ["train", "train", "holdout"],
        }
    )


@pytest.fixture
def sets(tmp_path: Path) -> TrainingSets:
    return TrainingSets(Lake(tmp_path))


@pytest.fixture
def kept(sets: TrainingSets) -> TrainingSet:
    return sets.write("returns", table(), MANIFEST)


def test_a_snapshot_is_read_as_it_was_written(sets: TrainingSets, kept: TrainingSet) -> None:
    found = sets.read("returns", kept.snapshot)
    assert found.table.equals(table())
    assert found.manifest == MANIFEST


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_snapshot_can_be_read_whatever_the_unit_of_its_times(
    unit: str, sets: TrainingSets
) -> None:
    kept = sets.write("returns", table(unit=unit), MANIFEST)
    assert sets.read("returns", kept.snapshot).table.num_rows == 3


def test_the_same_content_is_kept_once(sets: TrainingSets, kept: TrainingSet) -> None:
    before = sets.file("returns", kept.snapshot).stat().st_mtime_ns
    assert sets.write("returns", table(), MANIFEST).snapshot == kept.snapshot
    assert sets.file("returns", kept.snapshot).stat().st_mtime_ns == before


def test_other_content_is_another_snapshot(sets: TrainingSets, kept: TrainingSet) -> None:
    other = sets.write("returns", table(amount=0.6), MANIFEST)
    assert other.snapshot != kept.snapshot
    assert sets.read("returns", kept.snapshot).table.equals(table())


def test_a_part_has_the_rows_of_its_split(kept: TrainingSet) -> None:
    assert kept.part("train")["shop"].to_pylist() == ["a", None]


def test_an_estimator_gets_the_inputs_in_order_and_whole_labels(kept: TrainingSet) -> None:
    rows = kept.rows("holdout")
    assert rows.inputs.to_dict("list") == {"shop": ["b"], "amount": [0.5]}
    assert (rows.labels.tolist(), rows.labels.dtype) == ([0], "int64")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_are_in_utc_without_a_zone(unit: str, sets: TrainingSets) -> None:
    rows = sets.write("returns", table(unit=unit), MANIFEST).rows("holdout")
    for times in (rows.times, rows.known_at):
        assert times.dtype == "datetime64[us]"
        assert times.tolist() == [dt.datetime(2024, 1, 3)]


def test_labels_that_are_numbers_stay_what_they_are(sets: TrainingSets) -> None:
    rows = sets.write(
        "returns", table(), {**MANIFEST, "label": "amount", "task": "regression"}
    ).rows("holdout")
    assert rows.labels.tolist() == [0.5]


@pytest.mark.parametrize("name", ["shop", "amount", "returned", "split"])
def test_a_snapshot_with_a_changed_column_is_refused(
    name: str, sets: TrainingSets, kept: TrainingSet
) -> None:
    place = kept.table.column_names.index(name)
    changed = kept.table.set_column(place, name, kept.table[name].take([1, 2, 0]))
    pq.write_table(changed, sets.file("returns", kept.snapshot))
    with pytest.raises(DataError, match="does not have the content that its name says"):
        sets.read("returns", kept.snapshot)


def test_a_snapshot_with_a_row_less_is_refused(sets: TrainingSets, kept: TrainingSet) -> None:
    pq.write_table(table().slice(1), sets.file("returns", kept.snapshot))
    with pytest.raises(DataError, match="does not have the content that its name says"):
        sets.read("returns", kept.snapshot)


def test_a_snapshot_that_is_not_there_is_named(sets: TrainingSets) -> None:
    with pytest.raises(DataError, match="materialize the training set of 'returns'"):
        sets.read("returns", "0" * 64)
