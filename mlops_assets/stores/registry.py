"""The model registry: MLflow runs, versions, aliases and model files.

The only file that talks to MLflow. Which version deserves which alias is decided elsewhere.
Models are kept in skops format and load only with the list of types below: never with the list
that an artifact brings along.
"""

import datetime as dt
import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.core import fingerprint
from mlops_assets.core.verdict import Verdict
from mlops_assets.errors import ArtifactError, RegistryError

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

    from mlops_assets.core.tasks import Fitted

CHAMPION = "champion"
GATE_TAG = "mlops.gate."

TRUSTED_TYPES = (
    # A partial holds a function, and skops asks for trust in that function too.
    "functools.partial",
    "mlops_assets.core.forecaster.Forecaster",
    "mlops_assets.core.spread.SpreadRegressor",
    "mlops_assets.core.venn_abers.VennAbersClassifier",
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    # Its arrays are read by compiled code: safe as long as the file is the registered one, which
    # is checked before it is opened.
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
)
"""Types beyond those that skops itself trusts, each read and found to run nothing on loading."""

_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""Codes with which MLflow says that there is no such thing; others say that it does not know."""

MODEL_FILE = "model.skops"
REPORT = "report"
"""Folder of a run's artifacts for what its report shows."""
REQUIREMENTS = ("scikit-learn", "numpy", "scipy", "pandas", "skops")


@dataclass(frozen=True)
class ModelVersion:
    """A registered version and what its tags say."""

    model: str
    version: str
    run_id: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    created: dt.datetime

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The newest verdict of each gate that has judged the version, by name."""
        return tuple(
            Verdict(**{k: v for k, v in kept.items() if k != "scores"}) for kept in self._judged
        )

    @property
    def judged_on(self) -> frozenset[str]:
        """Digests of the scores that the newest verdicts were given on: one, if all is well."""
        return frozenset(str(kept.get("scores")) for kept in self._judged)

    @property
    def _judged(self) -> list[dict[str, Any]]:
        tags = sorted(name for name in self.tags if name.startswith(GATE_TAG))
        return [json.loads(self.tags[name]) for name in tags]

    @property
    def holdout(self) -> str:
        """The days on which the version was judged, as text."""
        window = json.loads(self.tags.get("mlops.windows", "{}")).get("holdout")
        if not window:
            return "unknown"
        last = dt.date.fromisoformat(window["end"]) - dt.timedelta(days=1)
        return f"{window['start']} to {last}"


class ModelRegistry:
    """MLflow behind the few verbs that the platform needs.

    Args:
        uri: MLflow's backend store, for runs and registry.
        artifacts: folder of the artifacts of new experiments.
        login: user and password of MLflow's basic authentication, where it is on.
    """

    def __init__(self, uri: str, artifacts: Path, login: tuple[str, str] | None = None) -> None:
        self.uri = uri
        self.artifacts = artifacts
        self._login = login

    @cached_property
    def client(self) -> "MlflowClient":
        """The MLflow client. The first use creates the database."""
        # MLflow reports its use to its makers unless told not to: nothing leaves this machine.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        if self._login:
            # MLflow knows no other way to be told.
            names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
            os.environ.update(zip(names, self._login, strict=True))
        import mlflow

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        if self.uri.startswith("sqlite:///"):
            Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        with warnings.catch_warnings():
            # MLflow's own tables use a loader that SQLAlchemy 2.1 deprecates, and Feast makes
            # Python show such warnings.
            warnings.filterwarnings("ignore", "The ``noload`` loader", DeprecationWarning)
            return mlflow.MlflowClient(self.uri, self.uri)

    def experiment(self, name: str) -> str:
        """Id of the experiment called `name`, created when it is not there."""
        found = self.client.get_experiment_by_name(name)
        if found:
            return str(found.experiment_id)
        folder = self.artifacts / name
        return str(self.client.create_experiment(name, artifact_location=folder.as_uri()))

    def open_run(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """Create a run and return its id; nothing becomes active."""
        run = self.client.create_run(self.experiment(experiment), run_name=name, tags=dict(tags))
        return str(run.info.run_id)

    def register(
        self,
        model: str,
        run_id: str,
        fitted: "Fitted",
        example: "pd.DataFrame",
        metadata: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> ModelVersion:
        """Log a fitted model to the active run and register it as a new version.

        Args:
            model: the registered model's name.
            run_id: the run, which must be the active one.
            fitted: the model; what it is beside its estimator is kept in the metadata.
            example: a few rows of inputs; they give the signature.
            metadata: what belongs to the model for good.
            tags: tags of the version.
        """
        import mlflow
        from mlflow.models import infer_signature

        from mlops_assets.core import tasks
        from mlops_assets.stores.probe import PROBE, probe_of

        logging.getLogger("mlflow.tracking._model_registry.client").setLevel(logging.WARNING)
        estimator, method = tasks.estimator(fitted)
        logged = mlflow.sklearn.log_model(
            estimator,
            name="model",
            serialization_format="skops",
            skops_trusted_types=list(TRUSTED_TYPES),
            pyfunc_predict_fn=method,
            pip_requirements=[f"{name}=={installed_version(name)}" for name in REQUIREMENTS],
            signature=infer_signature(example, getattr(estimator, method)(example)),
            input_example=example,
            metadata={**metadata, **tasks.record(fitted), PROBE: probe_of(fitted, example)},
        )
        folder = self._local(self.client.get_logged_model(logged.model_id).artifact_location)
        marks = {f"mlops.sha256.{file}": fingerprint.of_file(folder / file) for file in FILES}
        if not self.client.search_registered_models(f"name = '{model}'"):
            self.client.create_registered_model(model)
        created = self.client.create_model_version(
            model, logged.model_uri, run_id, tags={**tags, **marks}, model_id=logged.model_id
        )
        return self.version(model, str(created.version))

    def log(
        self, run_id: str, metrics: Mapping[str, float], files: Mapping[str, bytes | str]
    ) -> None:
        """Add metrics and small artifacts to a run, which may have ended.

        Args:
            run_id: the run.
            metrics: finite numbers by name.
            files: content by name, bytes or text.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(run_id, [Metric(k, v, now, 0) for k, v in metrics.items()])
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                data = content.encode() if isinstance(content, str) else content
                (Path(folder) / name).write_bytes(data)
            self.client.log_artifacts(run_id, folder, REPORT)

    def metrics(self, run_id: str) -> dict[str, float]:
        """The metrics of a run."""
        return dict(self.client.get_run(run_id).data.metrics)

    def report_file(self, version: ModelVersion, name: str) -> str:
        """Path of a file of a version's report, downloaded when it lies elsewhere.

        Raises:
            RegistryError: when the version has no such file.
        """
        run = self.client.get_run(version.run_id)
        path = self._local(f"{run.info.artifact_uri}/{REPORT}") / name
        if not path.exists():
            raise RegistryError(
                f"version {version.version} of {version.model!r} has no {name} in its report",
                expected="a version that was judged by this version of the code",
                do=f"materialize the calibration report of {version.model!r}",
            )
        return str(path)

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for name, value in tags.items():
            self.client.set_model_version_tag(model, version, name, value)

    def record(self, model: str, version: str, verdict: Verdict, evidence: str) -> None:
        """Keep a verdict, without its details, as a tag of the version that it is about.

        Args:
            model: the model.
            version: the version.
            verdict: the verdict.
            evidence: digest of the scores that it was given on.
        """
        kept = {k: v for k, v in asdict(verdict).items() if k != "details"} | {"scores": evidence}
        self.tag(model, version, {f"{GATE_TAG}{verdict.gate}": json.dumps(kept)})

    def version(self, model: str, version: str) -> ModelVersion:
        """A version by its number.

        Raises:
            RegistryError: when there is no such version. A store that does not answer is no such
                case: its own error is raised, since nobody knows then what there is.
        """
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_model_version(model, version)
        except MlflowException as missing:
            if missing.error_code not in _MISSING:
                raise
            raise RegistryError(
                f"the registry has no version {version} of {model!r}",
                expected="a registered version",
                do=f"see `mlops-assets status` for the versions of {model!r}",
            ) from missing
        return _version(found)

    def versions(self, model: str) -> list[ModelVersion]:
        """All versions of a model, newest first."""
        # The search leaves aliases out.
        ordered = sorted(self._search(model), key=lambda one: -int(one.version))
        return [self.version(model, str(one.version)) for one in ordered]

    def alias(self, model: str, alias: str) -> ModelVersion | None:
        """The version that an alias points to, None when there is none."""
        from mlflow.exceptions import MlflowException

        try:
            return _version(self.client.get_model_version_by_alias(model, alias))
        except MlflowException as missing:
            if missing.error_code not in _MISSING:
                raise
            return None

    def aliases(self, model: str) -> dict[str, str]:
        """Versions by alias; empty for a model that is not there."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_registered_model(model).aliases
        except MlflowException as missing:
            if missing.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
        return {str(alias): str(version) for alias, version in found.items()}

    def has(self, model: str, version: str) -> bool:
        """Whether a version is there."""
        return any(str(one.version) == version for one in self._search(model))

    def set_alias(self, model: str, alias: str, version: str | None) -> None:
        """Point an alias at a version; None removes it. Who may is decided by the releases."""
        if version is not None:
            self.client.set_registered_model_alias(model, alias, version)
        elif alias in self.aliases(model):
            self.client.delete_registered_model_alias(model, alias)

    def _search(self, model: str) -> "list[Any]":
        return list(self.client.search_model_versions(f"name = '{model}'"))

    def load(self, version: ModelVersion) -> "Fitted":
        """Load a version after checking that it is the registered one, by its files and its probe.

        Raises:
            ArtifactError: when a file is missing, changed, or holds a type that is not trusted, or
                the version says something else of its probe rows than at registration.
        """
        import skops.io
        import yaml
        from mlflow.exceptions import MlflowException

        from mlops_assets.core import tasks
        from mlops_assets.stores.probe import PROBE, check_probe

        name = f"version {version.version} of {version.model!r}"
        try:
            location = self.client.get_model_version_download_uri(version.model, version.version)
            folder = self._local(location)
            found = {file: fingerprint.of_file(folder / file) for file in FILES}
        except (OSError, MlflowException) as missing:
            raise ArtifactError(
                f"the files of {name} cannot be read: {missing}",
                expected=f"the files {', '.join(FILES)}",
                do="restore the artifact store, or train the version again",
            ) from missing
        for file, mark in found.items():
            registered = version.tags.get(f"mlops.sha256.{file}")
            if mark != registered:
                raise ArtifactError(
                    f"{file} of {name} has SHA-256 {mark[:12]}…",
                    expected=f"the registered one, {str(registered)[:12]}…",
                    do="do not serve it: the file was changed after registration; "
                    "train the version again",
                )
        try:
            estimator = skops.io.load(folder / MODEL_FILE, trusted=list(TRUSTED_TYPES))
        except skops.io.exceptions.UntrustedTypesFoundException as untrusted:
            raise ArtifactError(
                f"{MODEL_FILE} of {name} holds types that are not trusted: {untrusted}",
                expected="types of the list in stores/registry.py",
                do="add the types to the list after reading their code, or change the estimator",
            ) from untrusted
        kept = yaml.safe_load((folder / "MLmodel").read_text())["metadata"]
        fitted = tasks.restored(estimator, kept)
        if PROBE in kept:
            check_probe(fitted, kept[PROBE], name)
        return fitted

    @staticmethod
    def _local(location: str) -> Path:
        """Folder of files, downloaded when they lie elsewhere.

        Takes a location and no `models:/` address: MLflow looks those up in the registry that the
        process used last, which may be another one.
        """
        import mlflow

        return Path(mlflow.artifacts.download_artifacts(location))


FILES = (MODEL_FILE, "MLmodel")
"""Files whose SHA-256 is recorded at registration and checked before every load."""


def _version(found: Any) -> ModelVersion:
    return ModelVersion(
        model=found.name,
        version=str(found.version),
        run_id=str(found.run_id),
        tags=dict(found.tags),
        aliases=tuple(sorted(found.aliases)),
        created=dt.datetime.fromtimestamp(found.creation_timestamp / 1000, dt.UTC),
    )
