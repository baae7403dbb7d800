"""A drill and what it found.

Only the two shapes belong here. The drills are in files by what they break, the list of all of them
in `catalog`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_assets.errors import DataError

if TYPE_CHECKING:
    from mlops_assets.drills.home import World

NOBODY = "nobody"
"""Guard of a fault that went through."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a drill found.

    Args:
        drill: name of the drill.
        caught: whether the guard said that something is wrong.
        guard: the guard that said so; `NOBODY` when none did.
        after: how long the fault lasted until then, in rows, days or seconds.
        served: what was served meanwhile.
        detail: what the guard said, in its own words; of a fault that went through, what became of
            it.
    """

    drill: str
    caught: bool
    guard: str
    after: str
    served: str
    detail: str


@dataclass(frozen=True, slots=True)
class Drill:
    """A fault that is injected on purpose.

    Args:
        name: what it is called in commands.
        fault: the fault, in a sentence.
        guard: the guard that has to catch it.
        off: how the drill's world is built without the guard.
        run: injects the fault; is told whether the guard is there.
    """

    name: str
    fault: str
    guard: str
    off: str
    run: Callable[["World", bool], Finding]


def need_sound(sound: bool, drill: str, found: object) -> None:
    """Refuse to inject a fault where the guard complains already: it would prove nothing.

    Raises:
        DataError: when it does.
    """
    if not sound:
        raise DataError(
            f"the world of the drill {drill!r} is not sound before the fault: {found}",
            expected="a guard that says nothing as long as nothing is wrong",
            do="look at the guard: it gives false alarms, or the made-up shop has changed",
        )
