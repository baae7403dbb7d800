"""The reference of a version is made of what it learned from, and kept once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_assets.core.profile import NumberProfile
from mlops_assets.errors import ArtifactError, DataError, RegistryError
from mlops_assets.inference.batch import predict_window
from mlops_assets.monitoring import reference as kept
from mlops_assets.monitoring.late import stale
from mlops_assets.monitoring.windows import compute_day
from mlops_assets.spec import Slice
from mlops_assets.windows import Window
from mlops_assets_tests.monitoring.world import NOW, whole
from mlops_assets_tests.shop_world import day
from mlops_assets_tests.trained_world import Trained, trained

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """A version that was trained, without a reference."""
    folder = tmp_path_factory.mktemp("trained")
    with trained(folder, slices=(Slice(name="shop"), Slice(name="size", edges=(5,)))) as found:
        yield found


@pytest.fixture(scope="module")
def document(world: Trained) -> dict:
    data = world.platform.training_sets.read(world.spec.name, world.version.tags["mlops.snapshot"])
    fitted = world.platform.registry.load(world.version)
    return kept.make_reference(world.platform, world.spec, data, fitted)


def test_a_version_without_a_reference_is_told(world: Trained) -> None:
    with pytest.raises(RegistryError, match="without a reference"):
        kept.read_reference(world.platform, world.spec, world.version.version)
    with pytest.raises(RegistryError, match="no version 99"):
        kept.read_reference(world.platform, world.spec, "99")


def test_batch_predictions_of_an_older_version_have_no_data_for_drift(world: Trained) -> None:
    window = Window(start=day(4), end=day(5))
    predict_window(world.platform, world.spec, world.version, window)
    found = compute_day(world.platform, world.spec, day(4), NOW)
    (row, *_) = whole(found["feature_drift"].to_pylist())
    assert (row["outcome"], row["n"]) == ("no data", 400)
    assert "without a reference" in row["reason"]


def test_a_reference_holds_train_inputs_and_holdout_answers(world: Trained, document: dict) -> None:
    found = kept.reference_of(document, "digest")
    data = world.platform.training_sets.read(world.spec.name, world.version.tags["mlops.snapshot"])
    sizes = data.part("train")["size_doubled"].to_numpy()
    profile = found.columns["size_doubled"]
    assert profile.counts == NumberProfile.of(sizes, profile.bins).counts
    assert found.columns["probability"].rows == len(data.part("holdout"))
    assert set(found.columns) == {*world.spec.inputs, "probability", "set_size"}
    assert {"log_loss", "brier"} <= set(found.performance)
    # Eleven days of train.
    assert len(found.effects["size_doubled"]) == 11
    below, above = (
        found.levels["size", level]["size_doubled"] for level in ("below 5", "5 and above")
    )
    assert below.rows + above.rows == profile.rows


def test_a_reference_is_kept_once_read_back_and_refused_when_it_was_changed(
    world: Trained, document: dict
) -> None:
    platform, spec, number = world.platform, world.spec, world.version.version
    digest = kept.keep_reference(platform, spec, world.version, document)
    found = kept.read_reference(platform, spec, number)
    assert found.digest == digest
    assert found.columns == kept.reference_of(document, digest).columns
    again = platform.registry.version(spec.name, number)
    assert kept.keep_reference(platform, spec, again, document) == digest
    with pytest.raises(DataError, match="one reference per version"):
        kept.keep_reference(platform, spec, again, {**document, "n_calibrate": 1})
    path = Path(platform.registry.report_file(again, kept.FILE))
    content = path.read_text()
    path.write_text(content.replace('"n_calibrate":', '"n_calibrate": '))
    with pytest.raises(ArtifactError, match="changed after registration"):
        kept.read_reference(platform, spec, number)
    path.write_text(content)


def test_a_model_without_a_server_is_monitored_by_its_batches(
    world: Trained, document: dict
) -> None:
    platform, spec = world.platform, world.spec
    fresh = platform.registry.version(spec.name, world.version.version)
    kept.keep_reference(platform, spec, fresh, document)
    predict_window(platform, spec, world.version, Window(start=day(4), end=day(6)))
    assert stale(platform, spec, NOW.replace(month=1, day=20)).days == (day(4), day(5))
    found = {k: t.to_pylist() for k, t in compute_day(platform, spec, day(5), NOW).items()}
    by_name = {row["feature"]: row for row in whole(found["feature_drift"])}
    assert by_name["size_doubled"]["outcome"] == "stable"
    assert {row["n"] for row in by_name.values()} == {400}
    assert {row["level"] for row in found["feature_drift"]} == {
        "all",
        "a",
        "below 5",
        "5 and above",
    }
    measured = whole(found["performance"], metric="log_loss", kind="measured", window="day")
    assert [row["n"] for row in measured] == [400]


def test_importance_that_was_not_reported_is_empty(world: Trained) -> None:
    number = world.version.version
    assert kept.importance_of(world.platform, world.spec, number) == {}
