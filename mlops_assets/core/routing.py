"""Which arm of a rollout an entity gets: sticky, nested as a share grows, equal in every worker.

An entity falls into one of 10,000 buckets by hash, and an arm owns a range of buckets that only
grows at its far end. So an entity keeps its arm while shares grow, and nobody flips back. Which
share an arm has now is decided in `rollout`; nothing here reads a clock or a store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise

from mlops_assets.errors import DeclarationError

BUCKETS = 10_000
CONTROL_START = BUCKETS // 2
"""First bucket of the control arm: it meets the canary when both have half of the traffic."""

CHAMPION, CANARY, CONTROL = "champion", "canary", "control"


def bucket(entity: str, salt: str, rollout: str) -> int:
    """The bucket of an entity in a rollout, from 0 to 9,999.

    Args:
        entity: the key of the entity; several keys joined in one way everywhere.
        salt: a secret or a name of the installation, so that nobody can choose their arm.
        rollout: id of the rollout; another one shuffles all entities anew.

    >>> bucket("N14228", "salt", "1"), bucket("N14228", "salt", "2")
    (4789, 8395)
    """
    # The lengths keep ("ab", "c") and ("a", "bc") apart; clients may send broken Unicode.
    text = f"{len(salt)}:{len(rollout)}:{salt}{rollout}{entity}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") % BUCKETS


@dataclass(frozen=True, slots=True)
class Arm:
    """What an entity is served by: a name, a model version, and its share in buckets."""

    name: str
    version: str
    share: int


@dataclass(frozen=True, slots=True)
class Route:
    """The buckets of an arm, from `start` to `stop`, which is exclusive."""

    arm: Arm
    start: int

    @property
    def stop(self) -> int:
        """The first bucket after the arm's."""
        return self.start + self.arm.share


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """All arms of a rollout at one moment.

    Args:
        rollout: id of the rollout.
        salt: as in `bucket`.
        routes: arms with their buckets, in order, without buckets in common.
        rest: the arm of all other buckets.
        shadow: a version that scores in the background and answers nobody.

    Raises:
        DeclarationError: routes out of order or range, or shares that are not all buckets.
    """

    rollout: str
    salt: str
    routes: tuple[Route, ...]
    rest: Arm
    shadow: str | None = None

    def __post_init__(self) -> None:
        ends = [0, *(end for route in self.routes for end in (route.start, route.stop)), BUCKETS]
        shares = [route.arm.share for route in self.routes] + [self.rest.share]
        in_order = all(one <= other for one, other in pairwise(ends))
        if not in_order or min(shares) < 0 or sum(shares) != BUCKETS:
            found = ", ".join(f"{r.arm.name} {r.start} to {r.stop}" for r in self.routes)
            raise DeclarationError(
                f"a routing table with the buckets {found or 'of no arm'} "
                f"and {self.rest.share} for {self.rest.name}",
                expected=f"arms in order of their buckets, none twice, {BUCKETS} in all",
                do="build tables with champion_only, canary_table or split_table",
            )
        refuse_equal_names([route.arm.name for route in self.routes] + [self.rest.name])

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arms that have a share."""
        arms = (*(route.arm for route in self.routes), self.rest)
        return tuple(arm for arm in arms if arm.share)


def route(entity: str, table: RoutingTable) -> Arm:
    """The arm of an entity."""
    number = bucket(entity, table.salt, table.rollout)
    for one in table.routes:
        if one.start <= number < one.stop:
            return one.arm
    return table.rest


def compared(table: RoutingTable, arm: str) -> bool:
    """Whether an arm is one of those that a canary is compared by.

    Those who take no part are compared with nobody, unless a canary above half of the traffic has
    left no control beside it. The arms of experiments are none of them.
    """
    names = [route.arm.name for route in table.routes]
    return arm in (CANARY, CONTROL) or (arm == CHAMPION and names == [CANARY])


def champion_only(
    champion: str, *, rollout: str = "", salt: str = "", shadow: str | None = None
) -> RoutingTable:
    """The table that gives everybody the champion."""
    return RoutingTable(rollout, salt, (), Arm(CHAMPION, champion, BUCKETS), shadow)


def canary_table(
    rollout: str, salt: str, share: int, *, canary: str, champion: str
) -> RoutingTable:
    """A canary, a control arm of the same size, and the champion for the rest.

    The control is served by the champion and differs from the rest only in its name: canary and
    control are drawn alike, so they may be compared. A canary above half of the traffic leaves no
    room for a control of its size, and there is none: the rest is then what it is compared with.

    Args:
        rollout: as in `bucket`.
        salt: as in `bucket`.
        share: buckets of the canary, from 0 to 10,000.
        canary: version of the canary.
        champion: version of the champion.

    >>> [(arm.name, arm.share) for arm in canary_table("1", "", 500, canary="8", champion="7").arms]
    [('canary', 500), ('control', 500), ('champion', 9000)]
    """
    routes = [Route(Arm(CANARY, canary, share), 0)]
    if share <= CONTROL_START:
        routes.append(Route(Arm(CONTROL, champion, share), CONTROL_START))
    rest = BUCKETS - sum(one.arm.share for one in routes)
    return RoutingTable(rollout, salt, tuple(routes), Arm(CHAMPION, champion, rest))


def split_table(
    rollout: str, salt: str, arms: Sequence[Arm], *, champion: str, exposed: int = BUCKETS
) -> RoutingTable:
    """A split over two or more arms, of which the first `exposed` buckets of 10,000 take part.

    Every arm begins where it begins in the full split, so that arms nest while the exposed part
    grows. Another division of the shares is another experiment and needs a rollout id of its own.

    Args:
        rollout: as in `bucket`.
        salt: as in `bucket`.
        arms: the arms with their shares of the full split.
        champion: version of the champion, for those who take no part.
        exposed: how much of the traffic takes part, from 0 to 10,000.

    Raises:
        DeclarationError: fewer than two arms, equal names, or shares that are not all buckets.

    >>> arms = [Arm("a", "7", 2_000), Arm("b", "8", 8_000)]
    >>> table = split_table("1", "", arms, champion="7", exposed=1_000)
    >>> [(one.arm.name, one.start, one.stop) for one in table.routes], table.rest.share
    ([('a', 0, 200), ('b', 2000, 2800)], 9000)
    """
    names = [arm.name for arm in arms]
    refuse_equal_names(names)
    if len(arms) < 2 or sum(arm.share for arm in arms) != BUCKETS or not 0 <= exposed <= BUCKETS:
        raise DeclarationError(
            f"a split over {', '.join(f'{a.name} ({a.share})' for a in arms)}, {exposed} exposed",
            expected=f"two or more arms with {BUCKETS} buckets in all, and no more exposed",
            do="correct the shares: 100 buckets are one percent",
        )
    routes, start = [], 0
    for arm in arms:
        routes.append(Route(Arm(arm.name, arm.version, arm.share * exposed // BUCKETS), start))
        start += arm.share
    rest = BUCKETS - sum(one.arm.share for one in routes)
    return RoutingTable(rollout, salt, tuple(routes), Arm(CHAMPION, champion, rest))


def refuse_equal_names(names: Sequence[str]) -> None:
    """Refuse arms that records could not tell apart.

    Raises:
        DeclarationError: when two names are equal.
    """
    if len(set(names)) != len(names):
        raise DeclarationError(
            f"arms with the names {', '.join(names)}",
            expected="a name of its own for every arm",
            do=f"rename the arms; {CHAMPION!r} is the name of those who take no part",
        )
