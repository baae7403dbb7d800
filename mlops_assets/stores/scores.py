"""Scores on holdout rows: the evidence that gates are judged on, kept by model and version.

One Parquet file per report, named by its content, so that a verdict can name exactly what it saw.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.core import fingerprint
from mlops_assets.core.evidence_record import columns_of, evidence_of, notes_of
from mlops_assets.core.tasks import AnyEvidence
from mlops_assets.errors import DataError
from mlops_assets.stores.lake import Lake

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Scores:
    """The evidence files of a lake."""

    lake: Lake

    def file(self, model: str, version: str, digest: str) -> Path:
        """Where the evidence on a version lies."""
        return self.lake.file(f"evidence/{model}/{version}-{digest[:16]}")

    def write(self, model: str, version: str, row_ids: "pa.Array", evidence: AnyEvidence) -> str:
        """Keep evidence; return the digest of its content."""
        import pyarrow as pa

        columns = {name: pa.array(found) for name, found in columns_of(evidence).items()}
        table, notes = pa.table({"row_id": row_ids, **columns}), notes_of(evidence)
        digest = fingerprint.of_values(fingerprint.of_table(table), notes)
        path = self.file(model, version, digest)
        self.lake.write_arrow(table, path, {"notes": json.dumps(notes), "digest": digest})
        return digest

    def read(self, model: str, version: str, digest: str) -> AnyEvidence:
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
        columns = {name: table[name].to_numpy() for name in table.column_names}
        return evidence_of(columns, notes)
