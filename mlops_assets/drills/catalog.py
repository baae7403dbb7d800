"""All drills: which there are, which are chosen, and their run in one scratch world.

What a drill does stands in the file of its fault; how findings are shown, in `scoreboard`.
"""

from collections.abc import Callable, Sequence

from mlops_assets.drills import alerting, artifacts, features, learned, monitored, rollout
from mlops_assets.drills.finding import NOBODY, Drill, Finding
from mlops_assets.drills.home import World, scratch, undisturbed
from mlops_assets.errors import UnknownNameError

ALL = "all"

DRILLS: tuple[Drill, ...] = (
    *features.DRILLS,
    *learned.DRILLS,
    *monitored.DRILLS,
    *artifacts.DRILLS,
    *rollout.DRILLS,
    *alerting.DRILLS,
)
"""In the order in which data flow: from a source to somebody who is told."""


def chosen(name: str) -> tuple[Drill, ...]:
    """The drill of a name, or all.

    Raises:
        UnknownNameError: when there is none.
    """
    by_name = {drill.name: drill for drill in DRILLS}
    if name == ALL:
        return DRILLS
    if name not in by_name:
        raise UnknownNameError.of("drill", name, [*by_name, ALL])
    return (by_name[name],)


def run(
    drills: Sequence[Drill],
    without: Sequence[str] = (),
    announce: Callable[[Drill], None] = lambda drill: None,
) -> list[Finding]:
    """Run drills in a scratch home, which is gone afterwards.

    A drill that breaks off has caught nothing.

    Args:
        drills: the drills.
        without: guards that are left out of the drills' worlds.
        announce: is told each drill before it runs.

    Raises:
        UnknownNameError: a guard that none of the drills has.
    """
    guards = [drill.guard for drill in drills]
    for guard in without:
        if guard not in guards:
            raise UnknownNameError.of("guard", guard, guards)
    found = []
    with scratch() as world:
        for drill in drills:
            announce(drill)
            found.append(_survived(world, drill, drill.guard not in without))
    return found


def carry_out(world: World, drill: Drill, *, guarded: bool = True) -> Finding:
    """Run one drill in a world, with its guard or without; whatever breaks it off is raised."""
    with undisturbed():
        return drill.run(world, guarded)


def _survived(world: World, drill: Drill, guarded: bool) -> Finding:
    try:
        return carry_out(world, drill, guarded=guarded)
    except Exception as broken:
        # Whatever it was, the others shall run; nobody may take it for a guard that works.
        said = f"{type(broken).__name__}: {broken}".splitlines()[0]
        return Finding(drill.name, False, NOBODY, "", "unknown", f"the drill broke off: {said}")
