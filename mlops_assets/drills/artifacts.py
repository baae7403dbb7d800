"""Drills on the files of a version: a byte that changed, and a model that is another one.

A version is made of the champion's own files, broken, and released. What is asked is whether a
worker serves it.
"""

import io
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.core import fingerprint
from mlops_assets.drills import training
from mlops_assets.drills.finding import NOBODY, Drill, Finding, need_sound
from mlops_assets.drills.learned import pushed
from mlops_assets.drills.served import rows_of, serving, wait_for
from mlops_assets.errors import ArtifactError
from mlops_assets.stores.registry import FILES, MODEL_FILE, TRUSTED_TYPES

if TYPE_CHECKING:
    import pandas as pd

    from mlops_assets.drills.home import World
    from mlops_assets.platform import Platform
    from mlops_assets.spec import ModelSpec
    from mlops_assets.stores.registry import ModelVersion

HASH, PROBE = "registered_hash", "probe"
RECORD = "MLmodel"
ROWS, PROBED = 300, 5
SIGN = 0x80
"""The bit of a float's last byte that is its sign."""

Break = Callable[["Platform", "ModelSpec", Path, "pd.DataFrame"], None]


def broken_artifact(world: "World", guarded: bool) -> Finding:
    """One byte of the numbers in the model file flips after it was registered."""

    def flip(platform: "Platform", spec: "ModelSpec", folder: Path, inputs: "pd.DataFrame") -> None:
        flip_leaf(folder / MODEL_FILE, inputs)

    # Without the guard the registered hash follows the file.
    return _released_broken(world, "broken_artifact", HASH, flip, resigned=not guarded)


def other_predictions(world: "World", guarded: bool) -> Finding:
    """Another version's model file was stored under the version, and its hash was registered."""

    def swap(platform: "Platform", spec: "ModelSpec", folder: Path, inputs: "pd.DataFrame") -> None:
        other = pushed(platform, spec, training.champion_data(platform))
        shutil.copy(files_of(platform, other) / MODEL_FILE, folder / MODEL_FILE)
        if not guarded:
            _without_probe(folder / RECORD)

    return _released_broken(world, "other_predictions", PROBE, swap, resigned=True)


def _released_broken(
    world: "World", drill: str, guard: str, broken: Break, *, resigned: bool
) -> Finding:
    """Release a broken copy of the champion, and see what a worker does.

    Args:
        world: the homes.
        drill: its name.
        guard: the guard that has to catch it.
        broken: breaks the files in a folder.
        resigned: whether the hashes are those of the broken files.
    """
    spec = world.spec()
    with world.own(drill) as platform:
        champion = platform.registry.version(spec.name, training.FIRST)
        fitted = platform.registry.load(champion)
        inputs = training.champion_data(platform).rows("holdout").inputs.head(ROWS)
        rows = rows_of(inputs)
        folder = platform.settings.root / "stored"
        shutil.copytree(files_of(platform, champion), folder)
        same = _version_of(platform, spec, champion, folder)
        platform.registry.load(same)  # sound: a mere copy of the files loads
        broken(platform, spec, folder, inputs)
        if resigned:
            _resign(platform, spec, same, folder)
        version = platform.registry.version(spec.name, same.version)
        with serving(platform, spec) as (worker, client):
            before = client.ask(rows)
            by = {one["version"] for one in before}
            need_sound(by == {champion.version}, drill, f"it serves the versions {by}")
            start = time.monotonic()
            training.released(platform, spec, version.version, actor="drill")
            wait_for(
                lambda: (
                    worker.cache.lagging == [spec.name]
                    or worker.cache.get(spec.name).table.rest.version == version.version
                ),
                f"version {version.version} is loaded or refused",
            )
            seconds = time.monotonic() - start
            after = client.ask(rows)
            lagging = worker.cache.lagging == [spec.name]
        said = _refusal(platform, version)
    served = sorted({one["version"] for one in after})
    caught = lagging and bool(said) and served == [champion.version]
    off = np.abs(
        np.array([one["probability"] for one in after]) - fitted.probabilities(inputs)  # type: ignore[union-attr]
    )
    wrong = int((off > 1e-6).sum())
    return Finding(
        drill,
        caught,
        guard if caught and _says(said, guard) else "the load itself" if caught else NOBODY,
        f"{seconds:.1f} s from its release on, before its first answer"
        if caught
        else f"not in {len(after)} answers",
        f"version {', '.join(served)}: {wrong} of {len(after)} answers were wrong",
        said or f"probabilities off by up to {off.max():.2f}",
    )


def _says(said: str, guard: str) -> bool:
    """Whether an error is the one of this guard."""
    return {HASH: "SHA-256", PROBE: "probe rows"}[guard] in said


def _refusal(platform: "Platform", version: "ModelVersion") -> str:
    """What the registry says when the version is loaded; empty when it loads."""
    try:
        platform.registry.load(version)
    except ArtifactError as refused:
        return refused.found
    return ""


def files_of(platform: "Platform", version: "ModelVersion") -> Path:
    """Where the files of a version lie."""
    import mlflow

    client = platform.registry.client
    location = client.get_model_version_download_uri(version.model, version.version)
    return Path(mlflow.artifacts.download_artifacts(location))


def _version_of(
    platform: "Platform", spec: "ModelSpec", like: "ModelVersion", folder: Path
) -> "ModelVersion":
    """Register files as a version that was judged as another one was: they are the same."""
    tags = {k: v for k, v in like.tags.items() if not k.startswith("mlops.ledger")}
    client = platform.registry.client
    made = client.create_model_version(spec.name, folder.as_uri(), like.run_id, tags=tags)
    return platform.registry.version(spec.name, str(made.version))


def _resign(platform: "Platform", spec: "ModelSpec", version: "ModelVersion", folder: Path) -> None:
    """Register the hashes that the files have now."""
    marks = {f"mlops.sha256.{file}": fingerprint.of_file(folder / file) for file in FILES}
    platform.registry.tag(spec.name, version.version, marks)


def _without_probe(path: Path) -> None:
    """Take the probe out of a version's record."""
    import yaml

    record: dict[str, Any] = yaml.safe_load(path.read_text())
    del record["metadata"]["probe"]
    path.write_text(yaml.safe_dump(record))


def flip_leaf(path: Path, inputs: "pd.DataFrame") -> None:
    """Flip one byte of a leaf that the probe does not reach: the model still answers the probe.

    The archive is written anew, so that its own checksums are right.

    Args:
        path: the model file.
        inputs: rows, the first of which are the probe, shape (n, k).
    """
    import skops.io

    members = members_of(path)
    trusted = list(TRUSTED_TYPES)
    sound = _scores(skops.io.load(path, trusted=trusted), inputs)
    for name, content in _flipped(members):
        packed = _packed({**members, name: content})
        off = np.abs(_scores(skops.io.loads(packed, trusted=trusted), inputs) - sound)
        if off[:PROBED].max() == 0 and off.max() > 0:
            path.write_bytes(packed)
            return
    need_sound(False, "broken_artifact", "a probe that reaches every leaf of every tree")


def _scores(estimator: Any, inputs: "pd.DataFrame") -> Any:
    return estimator.predict_proba(inputs)[:, 1]


def _flipped(members: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Files of the archive with one byte flipped each: the sign of a leaf's value."""
    for name in sorted(members):
        if not name.endswith(".npy"):
            continue
        nodes = np.load(io.BytesIO(members[name]), allow_pickle=False)
        if nodes.dtype.names is None or "is_leaf" not in nodes.dtype.names:
            continue
        _, place = nodes.dtype.fields["value"][:2]
        start = len(members[name]) - nodes.nbytes
        for row in np.flatnonzero(nodes["is_leaf"]):
            content = bytearray(members[name])
            content[start + int(row) * nodes.dtype.itemsize + place + 7] ^= SIGN
            yield name, bytes(content)


def members_of(path: Path) -> dict[str, bytes]:
    """The files in an archive by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _packed(members: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


DRILLS = (
    Drill(
        "broken_artifact",
        "One byte of a released version's model file flips; the file still loads.",
        HASH,
        "the registered hash is that of the broken file",
        broken_artifact,
    ),
    Drill(
        "other_predictions",
        "A released version predicts something else than when it was judged.",
        PROBE,
        "the version was registered without a probe",
        other_predictions,
    ),
)
