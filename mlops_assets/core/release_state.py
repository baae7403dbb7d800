"""How far a model's move of aliases has come: the state that the ledger keeps of each model.

The intent of a move is written before the first alias moves, so that whoever comes after a crash
can finish it. Here is what it says; the steps of a move are in the stores.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mlops_assets.core.ledger_chain import Record
from mlops_assets.core.release_plan import Aliases


@dataclass(frozen=True, slots=True)
class Intent:
    """A move of aliases that is under way.

    Args:
        id: unique among all moves.
        record: what the ledger will say about it.
        before: the aliases by the ledger.
        found: the aliases by the registry; others than `before` when they were moved by hand.
        after: the aliases once it is done.
        seq: its entry in the ledger; None as long as there is none.
    """

    id: str
    record: Record
    before: Aliases
    found: Aliases
    after: Aliases
    seq: int | None = None

    @classmethod
    def of_text(cls, text: str) -> "Intent":
        """Read what `text` wrote."""
        kept: dict[str, Any] = json.loads(text)
        kept |= {name: Aliases(**kept[name]) for name in ("before", "found", "after")}
        return cls(**{**kept, "record": Record(**kept["record"])})

    @property
    def text(self) -> str:
        """The intent as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    def recorded(self, seq: int) -> "Intent":
        """The intent once its entry is in the ledger."""
        return replace(self, seq=seq)


@dataclass(frozen=True, slots=True)
class ModelState:
    """What the ledger says about a model now.

    Args:
        model: the model.
        aliases: where its aliases belong.
        intent: the move that is under way, or was left by a crash.
        updated_seq: number of its last entry; 0 when it has none.
        champion_seq: number of the entry that changed its champion last; 0 when none did.
    """

    model: str
    aliases: Aliases = field(default_factory=Aliases)
    intent: Intent | None = None
    updated_seq: int = 0
    champion_seq: int = 0


@dataclass(frozen=True, slots=True)
class Drift:
    """An alias that was moved by hand.

    Args:
        alias: the alias.
        ledger: the version where it belongs, None for nowhere.
        registry: the version that it points to, None when it is not there.
    """

    alias: str
    ledger: str | None
    registry: str | None

    def __str__(self) -> str:
        return (
            f"{self.alias} points to {_named(self.registry)}, the ledger says {_named(self.ledger)}"
        )


def drifts(state: ModelState, found: Aliases) -> tuple[Drift, ...]:
    """The aliases that are neither where the ledger has them nor where a move puts them."""
    allowed = [state.aliases, *([state.intent.after] if state.intent else [])]
    return tuple(
        Drift(alias, state.aliases.version(alias), found.version(alias))
        for alias in ("champion", "challenger", "archived")
        if all(found.version(alias) != side.version(alias) for side in allowed)
    )


def _named(version: str | None) -> str:
    return f"version {version}" if version else "no version"
