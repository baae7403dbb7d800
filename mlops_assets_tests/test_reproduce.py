"""Reproduction: the same code gives the same model, and what has changed since is told."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.errors import ArtifactError, DataError, DeclarationError, RegistryError
from mlops_assets.reproduce import Difference, Reproduction, reproduce
from mlops_assets.stores.ledger import Ledger
from mlops_assets_tests.shop_world import returns
from mlops_assets_tests.trained_world import Trained, patient, trained

# MLflow's own types, when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    with trained(tmp_path_factory.mktemp("shop")) as found:
        yield found


@pytest.fixture(autouse=True)
def same_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_assets.reproduce.git_commit", lambda: "c0ffee")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield found
    found.close()


def ridge(seed: int) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import Pipeline

    impute = SimpleImputer(strategy="constant", fill_value=0, keep_empty_features=True)
    return Pipeline([("impute", impute), ("ridge", Ridge(random_state=seed))])


def again(
    shop: Trained, ledger: Ledger, tags: dict[str, str] | None = None, **change: Any
) -> Reproduction:
    """Reproduce the version, with other tags and another spec where they are given."""
    version = replace(shop.version, tags={**shop.version.tags, **(tags or {})})
    spec = shop.spec.model_copy(update=change)
    return reproduce(shop.platform, ledger, spec, version, actor="ann")


@contextmanager
def moved(path: Path) -> Iterator[bytes]:
    """A file that is not there for a while; yields what is in it."""
    content = path.read_bytes()
    path.unlink()
    try:
        yield content
    finally:
        path.write_bytes(content)


def snapshot_file(shop: Trained) -> Path:
    return shop.platform.training_sets.file("returns", shop.version.tags["mlops.snapshot"])


def test_the_same_code_gives_the_same_model_bit_for_bit(shop: Trained, ledger: Ledger) -> None:
    found = again(shop, ledger)
    assert found.identical
    assert (found.rows, found.rows_differing) == (400, 0)
    assert found.largest == {"probability": 0, "negative_in_set": 0, "positive_in_set": 0}
    assert {"auc", "brier", "ece", "coverage"} <= set(found.metrics)
    assert found.metrics_differing == ()
    assert found.differences == ()


def test_a_model_of_a_number_is_reproduced_bit_for_bit_too(tmp_path: Path, ledger: Ledger) -> None:
    change = {"estimators": {"ridge": ridge}, "task": "regression", "intervals": "absolute"}
    with trained(tmp_path, **change) as found:
        again = reproduce(found.platform, ledger, found.spec, found.version, actor="ann")
    assert again.identical
    assert again.largest == {"forecast": 0, "low": 0, "high": 0}
    assert again.differences == ()


def test_another_parameter_is_told_with_what_it_did(shop: Trained, ledger: Ledger) -> None:
    found = again(shop, ledger, estimators={"boosting": patient})
    assert not found.identical
    assert 0 < found.rows_differing <= 400
    assert found.largest["probability"] > 0
    assert {"brier", "log_loss"} <= set(found.metrics_differing)
    told = {one.what.rpartition(".")[2]: (one.then, one.now) for one in found.differences}
    assert set(told) == {"recipe", "max_iter"}
    assert told["max_iter"] == ("5", "6")


def test_another_estimator_is_told_by_its_name(shop: Trained, ledger: Ledger) -> None:
    found = again(shop, ledger, estimators={"patience": patient})
    assert Difference("estimator", "boosting", "patience") in found.differences


def test_a_policy_changes_the_recipe_and_no_number(shop: Trained, ledger: Ledger) -> None:
    policy = shop.spec.gates.model_copy(update={"ece_limit": 0.01})
    found = again(shop, ledger, gates=policy)
    assert found.identical
    assert [one.what for one in found.differences] == ["recipe"]


def test_another_version_of_a_library_is_told(shop: Trained, ledger: Ledger) -> None:
    noted = json.loads(shop.version.tags["mlops.libraries"])
    old = {**noted, "numpy": "1.0", "python": "2.7", "left_behind": "3"}
    found = again(shop, ledger, {"mlops.libraries": json.dumps(old)})
    assert found.identical
    assert found.differences == (
        Difference("python", "2.7", noted["python"]),
        Difference("numpy", "1.0", noted["numpy"]),
        Difference("left_behind", "3", "not installed"),
    )


def test_libraries_that_were_not_noted_are_unknown(shop: Trained, ledger: Ledger) -> None:
    tags = {name: text for name, text in shop.version.tags.items() if name != "mlops.libraries"}
    version = replace(shop.version, tags=tags)
    found = reproduce(shop.platform, ledger, shop.spec, version, actor="ann")
    assert "libraries" in found.unknown


def test_another_number_of_threads_is_told(shop: Trained, ledger: Ledger) -> None:
    found = again(shop, ledger, {"mlops.openmp_threads": "77"})
    assert [(one.what, one.then) for one in found.differences] == [("OpenMP threads", "77")]


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        ("c0ffee", "c0ffee", "nothing"),
        ("c0ffee", "facade", "difference"),
        ("c0ffee+", "facade", "difference"),
        # The same commit with changes upon it need not be the same code.
        ("c0ffee+", "c0ffee+", "unknown"),
        ("c0ffee", "c0ffee+", "unknown"),
        ("c0ffee", "unknown", "unknown"),
        ("unknown", "c0ffee", "unknown"),
        ("unknown", "unknown", "unknown"),
    ],
)
def test_the_commit_is_compared_as_far_as_it_tells_what_the_code_was(
    shop: Trained,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    then: str,
    now: str,
    told: str,
) -> None:
    monkeypatch.setattr("mlops_assets.reproduce.git_commit", lambda: now)
    found = again(shop, ledger, {"mlops.git_commit": then})
    assert (Difference("git commit", then, now) in found.differences) == (told == "difference")
    assert ("git commit" in found.unknown) == (told == "unknown")


def test_a_raw_table_that_is_gone_leaves_the_recipe_unknown(shop: Trained, ledger: Ledger) -> None:
    with moved(shop.platform.lake.file("raw/sales")):
        found = again(shop, ledger)
    assert found.identical
    assert "recipe" in found.unknown


def test_the_outcome_is_in_the_ledger_and_on_the_version(shop: Trained, ledger: Ledger) -> None:
    found = again(shop, ledger, estimators={"boosting": patient})
    [entry] = ledger.entries("returns", version=shop.version.version)
    assert (entry.action, entry.actor, entry.reason) == ("reproduce", "ann", found.summary)
    assert entry.evidence == found.as_dict()
    assert entry.snapshot == found.snapshot == shop.version.tags["mlops.snapshot"]
    assert ledger.verify() is None
    tags = shop.platform.registry.version("returns", shop.version.version).tags
    noted = json.loads(tags["mlops.reproduced"])
    assert (noted["identical"], noted["by"], noted["ledger_entry"]) == (False, "ann", entry.seq)


def test_a_changed_snapshot_is_refused_and_nothing_is_noted(shop: Trained, ledger: Ledger) -> None:
    import pyarrow.parquet as pq

    path = snapshot_file(shop)
    table = pq.read_table(path)
    with moved(path):
        pq.write_table(table.slice(1), path)
        with pytest.raises(DataError, match="does not have the content that its name says"):
            again(shop, ledger)
    assert ledger.entries() == []


def test_a_snapshot_that_is_gone_is_refused(shop: Trained, ledger: Ledger) -> None:
    with moved(snapshot_file(shop)), pytest.raises(DataError, match="there is no snapshot"):
        again(shop, ledger)


def test_a_model_file_that_was_changed_is_refused(shop: Trained, ledger: Ledger) -> None:
    with pytest.raises(ArtifactError, match=r"model\.skops of version 1 of 'returns'"):
        again(shop, ledger, {"mlops.sha256.model.skops": "0" * 64})
    assert ledger.entries() == []


def test_a_version_without_a_snapshot_is_refused(shop: Trained, ledger: Ledger) -> None:
    with pytest.raises(RegistryError, match="does not say what it learned from"):
        reproduce(shop.platform, ledger, shop.spec, replace(shop.version, tags={}), actor="ann")


def test_the_spec_of_another_model_is_refused(shop: Trained, ledger: Ledger) -> None:
    with pytest.raises(DeclarationError, match="of 'returns' and the spec of 'refunds'"):
        again(shop, ledger, name="refunds")


def test_the_spec_of_another_task_is_refused(shop: Trained, ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="for the task 'binary', the spec is for 'regr"):
        again(shop, ledger, task=returns(tmp_path, task="regression").task)


def test_a_metric_that_neither_has_is_no_difference_and_no_number_in_json() -> None:
    nan = float("nan")
    found = Reproduction("m", "1", "s", 9, 0, {"p": 0.0}, {"auc": (nan, nan)}, (), ())
    assert found.identical
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["metrics"] == {"auc": None}


def test_a_metric_that_only_one_has_is_a_difference() -> None:
    nan = float("nan")
    found = Reproduction("m", "1", "s", 9, 0, {"p": 0.0}, {"auc": (0.5, nan)}, (), ())
    assert not found.identical
