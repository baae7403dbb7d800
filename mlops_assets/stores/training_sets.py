"""Training sets: immutable snapshots of rows, features, labels and splits, named by their content.

Writing and reading snapshots; how rows get their features and splits is decided elsewhere.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.core import fingerprint
from mlops_assets.core.training import Rows
from mlops_assets.errors import DataError
from mlops_assets.stores.lake import Lake, write_json
from mlops_assets.tables import EVENT_TIME

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_assets.spec import ModelSpec

SPLIT = "split"


@dataclass(frozen=True)
class TrainingSet:
    """A snapshot: `table` of shape (n, columns), and what its manifest says about it."""

    snapshot: str
    table: "pa.Table"
    manifest: Mapping[str, Any]

    def part(self, split: str) -> "pa.Table":
        """The rows of one split."""
        import pyarrow.compute as pc

        return self.table.filter(pc.equal(self.table[SPLIT], split))

    def rows(self, split: str) -> Rows:
        """Inputs, labels and times of one split, as the estimator takes them."""
        part = self.part(split)
        labels = part[self.manifest["label"]].to_numpy()
        return Rows(
            part.select(self.manifest["inputs"]).to_pandas(),
            labels.astype("int64" if self.manifest["task"] == "binary" else "float64"),
            *(_times(part[name]) for name in (EVENT_TIME, self.manifest["known_at"])),
        )


def _times(column: "pa.ChunkedArray") -> Any:
    """Times in UTC without a zone, shape (n,)."""
    return column.cast("timestamp[us]").to_numpy()


def declared(spec: "ModelSpec") -> dict[str, Any]:
    """What a manifest says of the model: names that the rows are read by."""
    return {
        "model": spec.name,
        "task": spec.task,
        "inputs": list(spec.inputs),
        "label": spec.label.column,
        "known_at": spec.label.known_at,
    }


@dataclass(frozen=True)
class TrainingSets:
    """The snapshots of all models in a lake."""

    lake: Lake

    def file(self, model: str, snapshot: str) -> Path:
        """Where a snapshot lies."""
        return self.lake.file(f"training_sets/{model}/{snapshot}")

    def write(self, model: str, table: "pa.Table", manifest: Mapping[str, Any]) -> TrainingSet:
        """Keep a training set under the hash of its content; twice the same is kept once."""
        snapshot = fingerprint.of_table(table)
        path = self.file(model, snapshot)
        if not path.exists():
            self.lake.write_arrow(table, path)
        write_json(path.with_suffix(".json"), dict(manifest))
        return TrainingSet(snapshot, table, manifest)

    def read(self, model: str, snapshot: str) -> TrainingSet:
        """Read a snapshot.

        Raises:
            DataError: when it is not there, or its content is not what its name says.
        """
        import pyarrow.parquet as pq

        path = self.file(model, snapshot)
        if not path.exists():
            raise DataError(
                f"there is no snapshot {snapshot[:12]}… of {model!r} at {path}",
                expected="the training set that the materialization wrote",
                do=f"materialize the training set of {model!r}",
            )
        table = pq.read_table(path)
        if fingerprint.of_table(table) != snapshot:
            raise DataError(
                f"the snapshot at {path} does not have the content that its name says",
                expected="an immutable file",
                do="restore it from a copy, or materialize the training set again",
            )
        return TrainingSet(snapshot, table, json.loads(path.with_suffix(".json").read_text()))
