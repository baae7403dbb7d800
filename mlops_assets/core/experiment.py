"""An experiment: which arms it has, who takes part, and whether it runs.

Two or more versions of a model, or of a model with itself, get a share of the traffic each, so that
what they bring can be compared. Who gets which arm is decided in `routing`; what the comparison
says is the matter of those who analyse it.
"""

from dataclasses import dataclass, replace
from typing import Literal

from mlops_assets.core.routing import Arm, RoutingTable, champion_only, split_table
from mlops_assets.errors import RolloutError


@dataclass(frozen=True, slots=True)
class Experiment:
    """A split of the traffic over arms.

    Args:
        id: unique among all rollouts and experiments; another id shuffles the entities anew.
        salt: as in `routing.bucket`.
        arms: the arms with their shares of 10,000; the first is what the others are compared with.
        exposed: buckets of 10,000 that take part; all others get the champion.
        metrics: names of the values of outcomes that are compared.
        state: whether it runs.

    Raises:
        DeclarationError: arms that are no split; see `routing.split_table`.
    """

    id: str
    salt: str
    arms: tuple[Arm, ...]
    exposed: int = 10_000
    metrics: tuple[str, ...] = ()
    state: Literal["running", "stopped"] = "running"

    def __post_init__(self) -> None:
        split_table(self.id, self.salt, self.arms, champion="", exposed=self.exposed)

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions of the arms, each once."""
        return tuple(dict.fromkeys(arm.version for arm in self.arms))

    @property
    def is_open(self) -> bool:
        """Whether it has a say in who gets which version."""
        return self.state == "running"

    def stop(self) -> "Experiment":
        """End it for good: everybody gets the champion.

        Raises:
            RolloutError: when it is stopped already.
        """
        if not self.is_open:
            raise RolloutError(
                f"the experiment {self.id!r} is stopped",
                expected="an experiment that runs",
                do="nothing is to be done; begin a new one to compare again",
            )
        return replace(self, state="stopped")

    def table(self, champion: str) -> RoutingTable:
        """Who gets which version now."""
        if not self.is_open:
            return champion_only(champion, rollout=self.id, salt=self.salt)
        return split_table(self.id, self.salt, self.arms, champion=champion, exposed=self.exposed)
