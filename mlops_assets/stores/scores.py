"""Scores on holdout rows: the evidence that gates are judged on, kept by model and version.

One Parquet file per report, named by its content, so that a verdict can name exactly what it saw.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlops_assets.core import fingerprint
from mlops_assets.core.conformal import ConformalRule
from mlops_assets.core.evidence import Champion, Evidence
from mlops_assets.core.selection import selection_of
from mlops_assets.errors import DataError
from mlops_assets.stores.lake import Lake

if TYPE_CHECKING:
    import pyarrow as pa

SLICE = "slice:"
"""Begins the names of the columns that hold the levels of a slice."""


@dataclass(frozen=True)
class Scores:
    """The evidence files of a lake."""

    lake: Lake

    def file(self, model: str, version: str, digest: str) -> Path:
        """Where the evidence on a version lies."""
        return self.lake.file(f"evidence/{model}/{version}-{digest[:16]}")

    def write(self, model: str, version: str, row_ids: "pa.Array", evidence: Evidence) -> str:
        """Keep evidence; return the digest of its content."""
        import pyarrow as pa

        columns = {
            "row_id": row_ids,
            "label": pa.array(evidence.labels, pa.int64()),
            "probability": pa.array(evidence.probabilities, pa.float64()),
        }
        notes: dict[str, object] = {
            "rule": asdict(evidence.rule),
            "threshold": evidence.threshold,
            "champion": None,
            "selection": asdict(evidence.selection),
        }
        for name, levels in evidence.slices.items():
            columns[f"{SLICE}{name}"] = pa.array(levels.tolist(), pa.string())
        if evidence.champion:
            columns["champion_probability"] = pa.array(evidence.champion.probabilities)
            notes["champion"] = {
                "version": evidence.champion.version,
                "overlap_rows": evidence.champion.overlap_rows,
                "threshold": evidence.champion.threshold,
            }
        table = pa.table(columns)
        digest = fingerprint.of_values(fingerprint.of_table(table), notes)
        path = self.file(model, version, digest)
        self.lake.write_arrow(table, path, {"notes": json.dumps(notes), "digest": digest})
        return digest

    def read(self, model: str, version: str, digest: str) -> Evidence:
        """Read evidence back.

        Raises:
            DataError: when it is missing, or is not what its digest says.
        """
        import pyarrow.parquet as pq

        path = self.file(model, version, digest)
        if not path.exists():
            raise DataError(
                f"there is no evidence {digest[:16]} on version {version} of {model!r} at {path}",
                expected="the scores that the calibration report wrote",
                do=f"materialize the calibration report of {model!r}",
            )
        table = pq.read_table(path)
        notes = json.loads(pq.read_metadata(path).metadata[b"notes"])
        if fingerprint.of_values(fingerprint.of_table(table), notes) != digest:
            raise DataError(
                f"the evidence at {path} does not have the content that its digest says",
                expected="an immutable file",
                do=f"materialize the calibration report of {model!r} again",
            )
        champion = notes["champion"]
        return Evidence(
            labels=table["label"].to_numpy(),
            probabilities=table["probability"].to_numpy(),
            rule=ConformalRule(**notes["rule"]),
            champion=champion
            and Champion(
                version=champion["version"],
                probabilities=np.asarray(table["champion_probability"].to_numpy()),
                overlap_rows=champion["overlap_rows"],
                threshold=champion["threshold"],
            ),
            selection=selection_of(notes["selection"]),
            slices={
                name.removeprefix(SLICE): table[name].to_numpy().astype(str)
                for name in table.column_names
                if name.startswith(SLICE)
            },
            threshold=notes["threshold"],
        )
