"""A real MLflow registry on SQLite: versions, aliases, verdicts, and models that are trusted."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_assets.core import fingerprint
from mlops_assets.core.training import FittedModel, Rows, fit
from mlops_assets.core.verdict import Verdict
from mlops_assets.errors import ArtifactError, RegistryError
from mlops_assets.spec import FoldPolicy
from mlops_assets.stores.registry import (
    CHAMPION,
    FILES,
    MODEL_FILE,
    ModelRegistry,
    ModelVersion,
)
from mlops_assets_tests.core.selection_world import rows_in_time

# MLflow's own types, when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")

MODEL = "returns"
WINDOWS = {"holdout": {"start": "2013-11-01", "end": "2013-12-01", "days": "all"}}
TAGS = {"mlops.snapshot": "abc", "mlops.windows": json.dumps(WINDOWS)}


def rows(n: int, seed: int) -> Rows:
    random = np.random.default_rng(seed)
    told = random.normal(size=n)
    inputs = pd.DataFrame({"told": told, "shop": random.choice(["a", "b"], n)})
    return rows_in_time(inputs, (told + random.normal(size=n) > 0).astype("int64"))


def pipeline(seed: int) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    encode = ColumnTransformer([("shop", OrdinalEncoder(), ["shop"])], remainder="passthrough")
    boosting = HistGradientBoostingClassifier(max_iter=5, random_state=seed)
    return Pipeline([("encode", encode), ("boosting", boosting)])


@pytest.fixture(scope="module")
def fitted() -> FittedModel:
    parts = {name: rows(200, i) for i, name in enumerate(("train", "calibrate", "conformalize"))}
    return fit(
        {"boosting": pipeline},
        calibrations=("sigmoid",),
        folds=FoldPolicy(),
        confidence=0.9,
        seed=0,
        **parts,
    )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelRegistry]:
    """A registry for the whole module: making its database takes longer than all tests."""
    import mlflow

    folder = tmp_path_factory.mktemp("mlflow")
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    yield ModelRegistry(f"sqlite:///{folder}/new/mlflow.db", folder / "artifacts")
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


def register(registry: ModelRegistry, fitted: FittedModel, model: str = MODEL) -> ModelVersion:
    import mlflow

    run_id = registry.open_run("development/tests", "a run", {"who": "me"})
    mlflow.set_experiment("development/tests")
    with mlflow.start_run(run_id=run_id):
        example, metadata = rows(5, 9).inputs, {"snapshot": "abc"}
        return registry.register(model, run_id, fitted, example, metadata, TAGS)


@pytest.fixture(scope="module")
def version(registry: ModelRegistry, fitted: FittedModel) -> ModelVersion:
    return register(registry, fitted)


@pytest.fixture
def files(registry: ModelRegistry, version: ModelVersion, tmp_path: Path) -> Iterator[Path]:
    """The folder of the version's files; whatever a test does to them is undone."""
    (model,) = registry.artifacts.rglob(MODEL_FILE)
    copytree(model.parent, tmp_path / "kept")
    yield model.parent
    rmtree(model.parent)
    copytree(tmp_path / "kept", model.parent)


def test_a_version_is_registered_with_its_tags(version: ModelVersion) -> None:
    assert (version.model, version.version, version.aliases) == (MODEL, "1", ())
    assert version.tags["mlops.snapshot"] == "abc"
    assert version.holdout == "2013-11-01 to 2013-11-30"


def test_a_version_without_windows_has_an_unknown_holdout(version: ModelVersion) -> None:
    bare = ModelVersion(**{**vars(version), "tags": {}})
    assert bare.holdout == "unknown"


def test_a_run_has_its_name_and_tags(registry: ModelRegistry, version: ModelVersion) -> None:
    run = registry.client.get_run(version.run_id)
    assert (run.info.run_name, run.data.tags["who"]) == ("a run", "me")


def test_an_experiment_is_made_once_and_keeps_its_files_below_the_home(
    registry: ModelRegistry,
) -> None:
    ids = {registry.experiment("development/a/b") for _ in range(2)}
    (found,) = map(registry.client.get_experiment, ids)
    assert found.artifact_location == (registry.artifacts / "development/a/b").as_uri()


def test_a_loaded_model_gives_equal_probabilities(
    registry: ModelRegistry, version: ModelVersion, fitted: FittedModel
) -> None:
    loaded = registry.load(version)
    inputs = rows(500, 7).inputs
    np.testing.assert_array_equal(loaded.probabilities(inputs), fitted.probabilities(inputs))
    assert loaded.rule == fitted.rule


@pytest.fixture
def elsewhere(registry: ModelRegistry, tmp_path: Path) -> Iterator[None]:
    """Another registry is MLflow's global one for the length of a test."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/other.db")
    mlflow.set_registry_uri(f"sqlite:///{tmp_path}/other.db")
    yield
    mlflow.set_tracking_uri(registry.uri)
    mlflow.set_registry_uri(registry.uri)


@pytest.mark.usefixtures("elsewhere")
def test_a_model_loads_in_a_process_that_last_used_another_registry(
    registry: ModelRegistry, version: ModelVersion, fitted: FittedModel
) -> None:
    assert registry.load(version).rule == fitted.rule


def test_the_signature_and_an_example_are_kept(files: Path) -> None:
    import yaml

    kept = yaml.safe_load((files / "MLmodel").read_text())
    assert [column["name"] for column in json.loads(kept["signature"]["inputs"])] == [
        "told",
        "shop",
    ]
    assert kept["metadata"]["snapshot"] == "abc"
    assert (files / "input_example.json").exists()


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused(
    name: str, files: Path, registry: ModelRegistry, version: ModelVersion
) -> None:
    with (files / name).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(ArtifactError, match=f"{name} of version 1 of 'returns' has SHA-256"):
        registry.load(version)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(
    name: str, files: Path, registry: ModelRegistry, version: ModelVersion
) -> None:
    (files / name).unlink()
    with pytest.raises(ArtifactError, match="files of version 1 of 'returns' cannot be read"):
        registry.load(version)


def test_a_version_without_recorded_files_is_refused(
    registry: ModelRegistry, version: ModelVersion
) -> None:
    bare = ModelVersion(**{**vars(version), "tags": {}})
    with pytest.raises(ArtifactError, match="expected: the registered one"):
        registry.load(bare)


class Untrusted:
    """Not on the list of types that a model file may hold."""


def test_a_type_that_is_not_trusted_is_refused(
    files: Path, registry: ModelRegistry, version: ModelVersion
) -> None:
    import skops.io

    skops.io.dump(Untrusted(), files / MODEL_FILE)
    mark = {f"mlops.sha256.{MODEL_FILE}": fingerprint.of_file(files / MODEL_FILE)}
    forged = ModelVersion(**{**vars(version), "tags": {**version.tags, **mark}})
    with pytest.raises(ArtifactError, match=r"types that are not trusted: .*Untrusted"):
        registry.load(forged)


def test_the_list_of_trusted_types_of_an_artifact_is_not_believed(
    files: Path, registry: ModelRegistry, version: ModelVersion
) -> None:
    import skops.io
    import yaml

    skops.io.dump(Untrusted(), files / MODEL_FILE)
    kept = yaml.safe_load((files / "MLmodel").read_text())
    kept["flavors"]["sklearn"]["skops_trusted_types"] = [f"{__name__}.Untrusted"]
    (files / "MLmodel").write_text(yaml.safe_dump(kept))
    marks = {f"mlops.sha256.{name}": fingerprint.of_file(files / name) for name in FILES}
    forged = ModelVersion(**{**vars(version), "tags": {**version.tags, **marks}})
    with pytest.raises(ArtifactError, match=r"types that are not trusted: .*Untrusted"):
        registry.load(forged)


def test_a_version_that_is_not_there_is_named(
    registry: ModelRegistry, version: ModelVersion
) -> None:
    with pytest.raises(RegistryError, match="no version 99 of 'returns'"):
        registry.version(MODEL, "99")


def test_a_registry_that_does_not_answer_is_not_one_without_the_version(
    registry: ModelRegistry, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

    def locked(*_: str) -> None:
        raise MlflowException("database is locked", error_code=TEMPORARILY_UNAVAILABLE)

    monkeypatch.setattr(registry.client, "get_model_version", locked)
    with pytest.raises(MlflowException, match="locked"):
        registry.version(MODEL, version.version)


def test_a_model_that_is_not_there_has_no_versions_and_no_alias(registry: ModelRegistry) -> None:
    assert registry.versions("nothing") == []
    assert registry.alias("nothing", CHAMPION) is None
    with pytest.raises(RegistryError, match="no version 1 of 'nothing'"):
        registry.version("nothing", "1")


def test_an_alias_that_was_never_set_is_none(
    registry: ModelRegistry, version: ModelVersion
) -> None:
    assert registry.alias(MODEL, "challenger") is None


VERDICT = Verdict("ece_below_limit", "passed", 0.1 + 0.2, 0.01, 1 / 3, 27_233, 0.02, "it's low", 5)


def test_a_verdict_is_read_as_it_was_recorded(
    registry: ModelRegistry, version: ModelVersion
) -> None:
    registry.record(MODEL, version.version, VERDICT, "scores")
    assert VERDICT in registry.version(MODEL, version.version).verdicts


def test_a_verdict_without_numbers_is_read_as_it_was_recorded(
    registry: ModelRegistry, version: ModelVersion
) -> None:
    empty = Verdict("no_metric_below_champion", "passed", None, None, None, 5, 0.0, "no champion")
    registry.record(MODEL, version.version, empty, "scores")
    assert empty in registry.version(MODEL, version.version).verdicts


def test_the_newest_verdict_of_a_gate_stands(
    registry: ModelRegistry, version: ModelVersion
) -> None:
    for estimate in (0.5, 0.6):
        again = Verdict("g", "failed", estimate, 0.0, 1.0, 5, 0.0, "")
        registry.record(MODEL, version.version, again, "scores")
    found = registry.version(MODEL, version.version).verdicts
    assert [verdict.estimate for verdict in found if verdict.gate == "g"] == [0.6]


def test_a_long_reason_is_kept_whole(registry: ModelRegistry, version: ModelVersion) -> None:
    long = Verdict("long", "failed", 0.5, 0.0, 1.0, 5, 0.0, "because " * 80)
    registry.record(MODEL, version.version, long, "scores")
    assert long in registry.version(MODEL, version.version).verdicts


def test_metrics_and_files_are_added_to_a_run_that_has_ended(
    registry: ModelRegistry, version: ModelVersion
) -> None:
    registry.log(version.run_id, {"ece": 0.01}, {"a.txt": "é", "b.png": b"\x89PNG"})
    assert registry.client.get_run(version.run_id).data.metrics["ece"] == 0.01
    folder = registry.artifacts / "development/tests" / version.run_id / "artifacts" / "report"
    assert (folder / "a.txt").read_text() == "é"
    assert (folder / "b.png").read_bytes() == b"\x89PNG"


@pytest.fixture
def releases(registry: ModelRegistry, version: ModelVersion, request: pytest.FixtureRequest) -> str:
    """A model of its own for each test, with three versions over the same files."""
    model = request.node.name
    registry.client.create_registered_model(model)
    for _ in range(3):
        registry.client.create_model_version(model, f"runs:/{version.run_id}/model", version.run_id)
    return model


def aliases(registry: ModelRegistry, model: str) -> dict[str, tuple[str, ...]]:
    return {found.version: found.aliases for found in registry.versions(model) if found.aliases}


def test_versions_come_newest_first(registry: ModelRegistry, releases: str) -> None:
    assert [found.version for found in registry.versions(releases)] == ["3", "2", "1"]


def test_an_alias_points_to_one_version(registry: ModelRegistry, releases: str) -> None:
    for number in ("1", "2", "2"):
        registry.set_alias(releases, CHAMPION, number)
    assert aliases(registry, releases) == {"2": (CHAMPION,)}
    assert registry.aliases(releases) == {CHAMPION: "2"}


def test_an_alias_can_be_taken_away_twice(registry: ModelRegistry, releases: str) -> None:
    registry.set_alias(releases, CHAMPION, "1")
    for _ in range(2):
        registry.set_alias(releases, CHAMPION, None)
    assert registry.aliases(releases) == {}


def test_a_model_that_is_not_there_has_no_aliases(registry: ModelRegistry) -> None:
    assert registry.aliases("nobody") == {}


def test_a_registry_knows_which_versions_it_has(registry: ModelRegistry, releases: str) -> None:
    assert [registry.has(releases, number) for number in ("1", "3", "4")] == [True, True, False]
    assert not registry.has("nobody", "1")


def test_the_champion_is_found_by_its_alias(registry: ModelRegistry, releases: str) -> None:
    registry.set_alias(releases, CHAMPION, "2")
    found = registry.alias(releases, CHAMPION)
    assert found is not None
    assert (found.version, found.aliases) == ("2", (CHAMPION,))


def test_a_registry_that_was_only_opened_has_written_nothing(tmp_path: Path) -> None:
    ModelRegistry(f"sqlite:///{tmp_path}/mlflow/mlflow.db", tmp_path / "artifacts")
    assert os.listdir(tmp_path) == []  # noqa: PTH208
