"""Turns: one move of a model's aliases at a time, each after what a crash has left is finished.

The frame that all verbs of `releases` share; the steps of a move are in `release_steps`.
"""

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_assets.core.ledger_chain import Entry, Record, checked
from mlops_assets.core.release_plan import Aliases
from mlops_assets.core.release_state import Drift, Intent, ModelState, drifts
from mlops_assets.errors import RegistryError, ReleaseConflictError
from mlops_assets.stores.release_steps import Observer, Registry, Work, carry_out, settle

if TYPE_CHECKING:
    from mlops_assets.stores.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Turn:
    """A model whose aliases nobody else moves.

    Args:
        state: what the ledger says about it.
        found: its aliases in the registry.
    """

    state: ModelState
    found: Aliases

    @property
    def aliases(self) -> Aliases:
        """The aliases by the ledger."""
        return self.state.aliases

    @property
    def drift(self) -> tuple[Drift, ...]:
        """The aliases that were moved by hand."""
        return drifts(self.state, self.found)


class Turns:
    """Gives turns, and makes the moves.

    Args:
        ledger: decides where aliases belong.
        registry: holds the aliases.
        observer: is told each step before it is done.
    """

    def __init__(self, ledger: "Ledger", registry: Registry, observer: Observer) -> None:
        self._work = Work(ledger, registry)
        self._observer = observer

    @contextlib.contextmanager
    def take(self, record: Record, *, strayed: bool = False) -> Iterator[Turn]:
        """Keep everybody else from moving the aliases of the record's model.

        Args:
            record: what is to be done.
            strayed: whether aliases that were moved by hand are no obstacle.

        Raises:
            LedgerError: when the ledger would not take the record.
            ReleaseConflictError: when aliases were moved by hand.
        """
        checked(record)  # before anything moves, for without its entry no move can end
        model = record.model
        self._observer("lock")
        with self._work.ledger.holding(model):
            self._observer("check")
            self.settle(model, record.actor)
            turn = Turn(self._work.ledger.state(model), self.found(model))
            if turn.drift and not strayed:
                raise moved_by_hand(model, turn.drift)
            yield turn
            self._observer("unlock")

    def move(self, record: Record, turn: Turn, after: Aliases) -> Entry:
        """Move the aliases; versions that are gone get none.

        Raises:
            RegistryError: when the version that the record is about is to get one, and is gone.
        """
        versions = after.versions.values()
        gone = {v for v in versions if not self._work.registry.has(record.model, v)}
        if record.version in gone:
            raise no_version(record.model, record.version)
        intent = Intent(
            id=uuid.uuid4().hex,
            record=record,
            before=turn.aliases,
            found=turn.found,
            after=after.without(gone),
        )
        return carry_out(self._work, intent, self._observer)

    def settle(self, model: str, actor: str) -> Entry | None:
        """Finish what a crash has left; the caller holds the model's lock."""
        intent = self._work.ledger.state(model).intent
        return settle(self._work, intent, actor, self._observer) if intent else None

    def found(self, model: str) -> Aliases:
        """The aliases in the registry."""
        return Aliases.of(self._work.registry.aliases(model))

    def need(self, model: str, version: str) -> None:
        """Raise RegistryError when there is no such version."""
        if not self._work.registry.has(model, version):
            raise no_version(model, version)


def no_version(model: str, version: str | None) -> RegistryError:
    """The error of a version that is not there."""
    return RegistryError(
        f"the registry has no version {version} of {model!r}",
        expected="a registered version",
        do="choose a version that is there; `adopt` lets the ledger forget one that is gone",
    )


def moved_by_hand(model: str, drift: Sequence[Drift]) -> ReleaseConflictError:
    """The error of aliases that are not where the ledger has them."""
    return ReleaseConflictError(
        f"aliases of {model!r} were moved by hand: {'; '.join(map(str, drift))}",
        expected="aliases that are where the ledger has them",
        do="`revert` puts them back, `adopt` lets the ledger take them over",
    )
