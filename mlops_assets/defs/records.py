"""What was materialized: the newest record of an asset, read back from the instance.

Assets hand each other identities (a snapshot, a version) through these records, never "the latest"
of a store, so that each one works on what the graph says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from mlops_assets.errors import DataError


@dataclass(frozen=True)
class Record:
    """A materialization: its place in the event log, its run, and its metadata as plain values."""

    key: dg.AssetKey
    storage_id: int
    run_id: str
    timestamp: float
    values: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        """A metadata value; DataError when the record lacks it."""
        if name not in self.values:
            raise DataError(
                f"the newest materialization of {self.key.to_user_string()} has no {name!r}",
                expected="a materialization by this version of the code",
                do=f"materialize {self.key.to_user_string()} again",
            )
        return self.values[name]


def newest(instance: dg.DagsterInstance, key: dg.AssetKey) -> Record | None:
    """The newest materialization of an asset, None when there is none."""
    records = instance.fetch_materializations(key, limit=1).records
    materialization = records[0].asset_materialization if records else None
    if materialization is None:
        return None
    event = records[0]
    values = {name: value.value for name, value in materialization.metadata.items()}
    return Record(key, event.storage_id, event.run_id, event.timestamp, values)


def needed(instance: dg.DagsterInstance, key: dg.AssetKey) -> Record:
    """The newest materialization of an asset; DataError when there is none."""
    found = newest(instance, key)
    if found is None:
        raise DataError(
            f"{key.to_user_string()} was never materialized",
            expected="a materialization of it on this Dagster instance",
            do=f"materialize {key.to_user_string()} first",
        )
    return found
