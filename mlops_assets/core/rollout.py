"""The states of a rollout and the moves between them.

A rollout goes from shadow through the steps of its canary to done; it can be paused and resumed,
and aborted until it is done. Every move gives a new `Rollout`. Whether a move is wise is decided
in `guardrails`, who gets which version in `routing`; states are kept by the stores.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

from mlops_assets.core.routing import BUCKETS, RoutingTable, canary_table, champion_only
from mlops_assets.errors import DeclarationError, RolloutError

State = Literal["shadow", "canary", "paused", "done", "aborted"]
Move = Literal["start", "advance", "pause", "resume", "abort", "finish"]

MOVES: Mapping[State, tuple[Move, ...]] = MappingProxyType(
    {
        "shadow": ("start", "pause", "abort"),
        "canary": ("advance", "finish", "pause", "abort"),
        "paused": ("resume", "abort"),
        "done": (),
        "aborted": (),
    }
)
"""Moves by state. A canary can finish only at its last step, and advance only before it."""

PERCENT = BUCKETS // 100


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far a version has come on its way to all traffic.

    Args:
        id: unique among all rollouts; another id shuffles the entities anew.
        version: the model version that is rolled out.
        salt: as in `routing.bucket`; never changed while the rollout lasts.
        steps: percent of the traffic by step, growing, in hundredths of a percent at the finest.
        state: where it is.
        step: index of the canary's step; None when the canary has not started.

    Raises:
        DeclarationError: steps that do not grow, or a step that does not belong to the state.
    """

    id: str
    version: str
    salt: str
    steps: tuple[float, ...] = (5, 25, 50, 100)
    state: State = "shadow"
    step: int | None = None

    def __post_init__(self) -> None:
        ends = (0, *self.steps, 100)
        grow = all(one < other for one, other in pairwise(ends[:-1])) and ends[-2] <= 100
        # Only what grows up to 100 can be rounded: infinity and NaN cannot.
        whole = grow and all(abs(s * PERCENT - round(s * PERCENT)) < 1e-6 for s in self.steps)
        if not (self.steps and whole):
            raise DeclarationError(
                f"a rollout with the steps {self.steps}",
                expected="percents above 0 and up to 100 that grow, with at most two decimals",
                do="write them like (5, 25, 50, 100)",
            )
        last = len(self.steps) - 1
        started = self.step is not None and 0 <= self.step <= last
        fits = {
            "shadow": self.step is None,
            "canary": started,
            "paused": self.step is None or started,
            "done": self.step == last,
            "aborted": self.step is None or started,
        }
        if not fits.get(self.state, False):
            raise DeclarationError(
                f"a rollout in the state {self.state!r} at step {self.step}",
                expected=f"one of {', '.join(fits)}, with a step from 0 to {last} once started",
                do="make rollouts in shadow and change them by their moves only",
            )

    @property
    def share(self) -> int:
        """Buckets that get the new version, from 0 to 10,000."""
        if self.state == "done":
            return BUCKETS
        if self.state == "aborted" or self.step is None:
            return 0
        return round(self.steps[self.step] * PERCENT)

    @property
    def versions(self) -> tuple[str, ...]:
        """The version that is rolled out."""
        return (self.version,)

    @property
    def is_open(self) -> bool:
        """Whether it can still move, and has a say in who gets which version."""
        return bool(MOVES[self.state])

    @property
    def at_last_step(self) -> bool:
        """Whether no step is left."""
        return self.step == len(self.steps) - 1

    @property
    def allowed(self) -> tuple[Move, ...]:
        """The moves that can be made now."""
        never = "advance" if self.at_last_step else "finish"
        return tuple(move for move in MOVES[self.state] if move != never)

    def start(self) -> "Rollout":
        """Give the first step's share to the canary; RolloutError when it is not in shadow."""
        return self._moved("start", "canary", 0)

    def advance(self) -> "Rollout":
        """Go to the next step; RolloutError when there is none or the canary does not run."""
        return self._moved("advance", "canary", (self.step or 0) + 1)

    def pause(self) -> "Rollout":
        """Keep the traffic as it is, and let nothing but a person move it.

        Raises:
            RolloutError: when it is paused already, or closed.
        """
        return self._moved("pause", "paused", self.step)

    def resume(self) -> "Rollout":
        """Go on where it was paused; RolloutError when it is not paused."""
        return self._moved("resume", "shadow" if self.step is None else "canary", self.step)

    def abort(self) -> "Rollout":
        """Give everybody the champion again, for good; RolloutError when it is closed."""
        return self._moved("abort", "aborted", self.step)

    def finish(self, champion: str) -> "Rollout":
        """Close the rollout after its version was released, so that the champion decides alone.

        Args:
            champion: the champion now.

        Raises:
            RolloutError: before the last step, or when the version is not the champion yet:
                those who saw the canary would flip back.
        """
        done = self._moved("finish", "done", self.step)
        if champion != self.version:
            raise RolloutError(
                f"the rollout {self.id!r} cannot finish: version {self.version} is rolled out, "
                f"the champion is {champion}",
                expected="the version that was rolled out as champion",
                do="release the version first, or abort the rollout",
            )
        return done

    def table(self, champion: str) -> RoutingTable:
        """Who gets which version now; a closed rollout leaves everybody to the champion.

        Args:
            champion: the version that serves everybody else.
        """
        if not self.is_open:
            return champion_only(champion, rollout=self.id, salt=self.salt)
        if self.step is None:
            return champion_only(champion, rollout=self.id, salt=self.salt, shadow=self.version)
        return canary_table(self.id, self.salt, self.share, canary=self.version, champion=champion)

    def _moved(self, move: Move, state: State, step: int | None) -> "Rollout":
        if move not in self.allowed:
            at = "" if self.step is None else f" at step {self.step + 1} of {len(self.steps)}"
            raise RolloutError(
                f"the rollout {self.id!r} of version {self.version} is {self.state}{at}: "
                f"{move} is not possible",
                expected=f"one of: {', '.join(self.allowed) or 'no move, it is closed'}",
                do="choose one of these" if self.allowed else "begin a new rollout",
            )
        return replace(self, state=state, step=step)
