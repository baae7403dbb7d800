"""The releases of a replay: the platform's own ledger and verbs, on a home and a clock of its own.

Only the registry is a stand-in: versions of a replay live in memory, where MLflow would keep a copy
of each for good. The chain of the ledger is real and is verified at the end.
"""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_assets.core.approval import ApprovalPolicy
from mlops_assets.core.ledger_chain import Entry
from mlops_assets.errors import LedgerError
from mlops_assets.replay.candidates import Candidate
from mlops_assets.replay.judging import Judged
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.ledger import Ledger
from mlops_assets.stores.releases import Releases

ACTOR = "replay"
PERSON = "policy of the replay"
"""Approver of what is inconclusive, where the policy says that somebody approves it."""


class MemoryRegistry:
    """Versions with tags and aliases, for one replay."""

    def __init__(self) -> None:
        self._tags: dict[str, dict[str, str]] = {}
        self._aliases: dict[str, str] = {}

    def add(self, version: str) -> None:
        """Register a version."""
        self._tags[version] = {}

    def aliases(self, model: str) -> Mapping[str, str]:
        """Versions by alias."""
        return dict(self._aliases)

    def has(self, model: str, version: str) -> bool:
        """Whether a version is there."""
        return version in self._tags

    def set_alias(self, model: str, alias: str, version: str | None) -> None:
        """Point an alias at a version; None removes it."""
        if version is None:
            self._aliases.pop(alias, None)
        else:
            self._aliases[alias] = version

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        self._tags[version].update(tags)

    def anchors(self) -> dict[int, str]:
        """Hashes of entries, by number, as they stand on the versions."""
        return {
            int(tags["mlops.ledger_seq"]): tags["mlops.ledger_hash"]
            for tags in self._tags.values()
            if "mlops.ledger_seq" in tags
        }


class Book:
    """What happens to the versions of a replay, entry by entry.

    Args:
        file: the SQLite file of the ledger; it is begun anew.
        spec: the model.
    """

    def __init__(self, file: Path, spec: ModelSpec) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        for old in file.parent.glob(f"{file.name}*"):
            old.unlink()
        self.now = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        self.registry = MemoryRegistry()
        self.ledger = Ledger(f"sqlite:///{file}", clock=lambda: self.now)
        policy = ApprovalPolicy(separate_approver=spec.release.separate_approver)
        self._releases = Releases(self.ledger, self.registry, policy=policy)
        self._model = spec.name

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    @property
    def champion(self) -> str | None:
        """The champion by the ledger."""
        return self.ledger.state(self._model).aliases.champion

    def adopt(self, candidate: Candidate, reason: str) -> Entry:
        """Take over a version that was in service before the platform came."""
        self.registry.set_alias(self._model, "champion", candidate.version)
        return self._releases.adopt(self._model, actor=ACTOR, reason=reason)

    def approve(self, candidate: Candidate, judged: Judged) -> None:
        """Let somebody approve what is inconclusive, because the policy says so."""
        cause = self._cause(candidate, judged, judged.why)
        self._releases.request(self._model, candidate.version, actor=ACTOR, **cause)
        self._releases.approve(self._model, candidate.version, actor=PERSON, **cause)

    def challenge(self, candidate: Candidate, judged: Judged) -> Entry:
        """Make a version the challenger."""
        cause = self._cause(candidate, judged, judged.why)
        return self._releases.challenge(self._model, candidate.version, actor=ACTOR, **cause)

    def release(self, candidate: Candidate, judged: Judged, reason: str) -> Entry:
        """Make a version the champion, if the one it was compared with still is."""
        cause = self._cause(candidate, judged, reason)
        return self._releases.release(
            self._model,
            candidate.version,
            expected_champion=judged.against,
            actor=ACTOR,
            **cause,
        )

    def withdraw(self, candidate: Candidate, reason: str) -> Entry:
        """Take a challenger out of the running."""
        return self._releases.archive(self._model, candidate.version, actor=ACTOR, reason=reason)

    def verified(self) -> dict[str, Any]:
        """Recompute the chain; what the report says of it.

        Raises:
            LedgerError: when the chain does not hold.
        """
        broken = self.ledger.verify(self.registry.anchors())
        if broken:
            raise LedgerError(
                f"entry {broken.seq} of the replay's ledger is {broken.fault}: {broken.found}",
                expected="a chain that nobody has changed",
                do="run the replay again; if it stays so, the ledger is at fault",
            )
        head = self.ledger.head()
        return {"entries": head.seq, "head": head.hash, "chain": "verified"}

    def entries(self) -> list[dict[str, Any]]:
        """The entries in short, in their order."""
        return [
            {
                "seq": entry.seq,
                "time": entry.time.isoformat(),
                "action": entry.action,
                "version": entry.version,
                "champion": entry.after.get("champion"),
                "reason": entry.reason,
            }
            for entry in self.ledger.entries(self._model)
        ]

    def _cause(self, candidate: Candidate, judged: Judged, reason: str) -> dict[str, Any]:
        return {
            "reason": reason,
            "evidence": judged.evidence,
            "snapshot": candidate.snapshot,
        }
