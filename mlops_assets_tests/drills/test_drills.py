"""Every fault is caught by its own guard, and by nobody once that guard is left out."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_assets.drills import artifacts, catalog, shop, training
from mlops_assets.drills.finding import NOBODY, Drill, Finding, need_sound
from mlops_assets.drills.home import ScratchSettings, World, undisturbed
from mlops_assets.drills.served import ScratchOptions
from mlops_assets.errors import DataError, UnknownNameError

Find = Callable[[str, bool], Finding]
BY_NAME = {drill.name: drill for drill in catalog.DRILLS}
NAMES = (
    *("stale_feature", "swapped_column", "label_leak", "miscalibrated_candidate", "unit_change"),
    *("delayed_labels", "broken_artifact", "other_predictions", "bad_canary"),
    "dead_alert_channel",
)


def test_the_drills_are_those_of_the_list() -> None:
    assert tuple(BY_NAME) == NAMES
    guards = [drill.guard for drill in catalog.DRILLS]
    assert len(set(guards)) == len(guards)


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_is_caught_by_its_guard(finding: Find, name: str) -> None:
    found = finding(name, True)
    assert (found.drill, found.caught, found.guard) == (name, True, BY_NAME[name].guard), found
    assert all((found.after, found.served, found.detail))
    assert "not in" not in found.after


@pytest.mark.parametrize("name", NAMES)
def test_without_its_guard_a_fault_goes_through(finding: Find, name: str) -> None:
    found = finding(name, False)
    assert (found.drill, found.caught, found.guard) == (name, False, NOBODY), found
    assert found.after.startswith("not in")
    assert all((found.served, found.detail))


@pytest.mark.parametrize(
    ("name", "caught", "through"),
    [
        ("stale_feature", "40 of 40 answers without the old values", "40 of 40 answers with the"),
        ("miscalibrated_candidate", "version 1, the champion of before", "version 2, the cand"),
        ("other_predictions", "version 1: 0 of 300 answers", "version 2: 300 of 300 answers"),
        ("bad_canary", "then by version 1", "then by version 2"),
        ("dead_alert_channel", "the alert, once", "the alert, never"),
    ],
)
def test_what_was_served_hangs_on_the_guard(
    finding: Find, name: str, caught: str, through: str
) -> None:
    assert caught in finding(name, True).served
    assert through in finding(name, False).served


def test_a_flipped_byte_is_one_byte_and_the_probe_does_not_see_it(
    world: World, tmp_path: Path
) -> None:
    with undisturbed(), world.own("flip") as platform:
        version = platform.registry.version(shop.NAME, training.FIRST)
        sound = artifacts.files_of(platform, version) / artifacts.MODEL_FILE
        before = artifacts.members_of(sound)
        path = tmp_path / "model.skops"
        path.write_bytes(sound.read_bytes())
        inputs = training.champion_data(platform).rows("holdout").inputs.head(artifacts.ROWS)
        artifacts.flip_leaf(path, inputs)
        after = artifacts.members_of(path)
        changed = [
            (one, other)
            for name in before
            for one, other in zip(before[name], after[name], strict=True)
            if one != other
        ]
        assert len(changed) == 1
        assert changed[0][0] ^ changed[0][1] == artifacts.SIGN
        assert sound.read_bytes() != path.read_bytes()


def test_the_shop_is_the_same_for_a_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        shop.write(tmp_path / name, seed)
    texts = [(tmp_path / name / "orders.csv").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]


def test_a_guard_that_complains_before_the_fault_proves_nothing() -> None:
    with pytest.raises(DataError, match="not sound before the fault: it drifts"):
        need_sound(False, "unit_change", "it drifts")


def test_a_drill_that_breaks_off_has_caught_nothing() -> None:
    def broken(world: World, guarded: bool) -> Finding:
        raise DataError("the disk is full", expected="room", do="make room")

    ran = []
    drills = [Drill(name, "", "g", "", broken) for name in ("first", "second")]
    found = catalog.run(drills, announce=lambda drill: ran.append(drill.name))
    assert ran == ["first", "second"]
    assert {(one.caught, one.guard, one.served) for one in found} == {(False, NOBODY, "unknown")}
    assert found[0].detail == "the drill broke off: DataError: the disk is full"


def test_a_guard_that_no_drill_has_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean probe"):
        catalog.run(catalog.chosen("other_predictions"), ["prob"])
    with pytest.raises(UnknownNameError, match="unknown guard 'probe'"):
        catalog.run(catalog.chosen("unit_change"), ["probe"])


def test_scratch_settings_do_not_read_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("LEDGER_URL", "TRACKING_URI", "ONLINE_URL"):
        monkeypatch.setenv(f"MLOPS_{name}", "postgresql://production")
    monkeypatch.setenv("MLOPS_ALERT_CHANNELS", '[{"name": "duty", "url": "json://production"}]')
    monkeypatch.setenv("MLOPS_SERVE_METRICS_FOLDER", "/production")
    found = ScratchSettings(home=tmp_path)
    assert {found.ledger_url, found.tracking_uri, found.online_url} == {""}
    assert found.alert_channels == ()
    assert found.home == tmp_path
    assert ScratchOptions().metrics_folder is None


def test_a_run_leaves_the_process_as_it_was() -> None:
    import mlflow
    import sklearn.ensemble  # noqa: F401  # adds filters of its own when it is loaded

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri(), [*warnings.filters]
    with undisturbed():
        mlflow.set_tracking_uri("sqlite:///elsewhere.db")
        assert not logging.getLogger("mlops_assets").isEnabledFor(logging.CRITICAL)
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == before[:2]
    assert [*warnings.filters] == before[2]
    assert logging.getLogger("mlops_assets").isEnabledFor(logging.CRITICAL)
