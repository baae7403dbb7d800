"""The drill on a canary: a version whose scores are shifted gets a part of the traffic.

The gates let it through, as they let through whatever goes wrong only after holdout.
"""

import itertools
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from mlops_assets.drills import shop, training
from mlops_assets.drills.finding import NOBODY, Drill, Finding
from mlops_assets.drills.learned import OPEN_ECE, pushed
from mlops_assets.drills.served import Client, rows_of, serving, wait_for
from mlops_assets.rollouts import moves
from mlops_assets.rollouts.canary import SCORE

if TYPE_CHECKING:
    from mlops_assets.drills.home import World
    from mlops_assets.platform import Platform
    from mlops_assets.stores.rollouts import Kept, Traffic

GUARD = "score_guardrail"
OPEN_SHIFT = 0.99
ROWS, MOST_ROWS = 200, 20_000
PAUSE = 0.1
"""Seconds between two requests: a canary is asked by many, one after the other."""

WHO: dict[str, Any] = {"actor": "drill", "reason": "a drill"}


def bad_canary(world: "World", guarded: bool) -> Finding:
    """Roll out a version whose scores are too low, until the controller moves."""
    policy = shop.ROLLOUT
    if not guarded:
        policy = policy.model_copy(update={"score_shift": OPEN_SHIFT})
    gates = shop.GATES.model_copy(update={"ece_limit": OPEN_ECE})
    spec = world.spec(rollout=policy, gates=gates)
    with world.own("bad_canary") as platform:
        data = training.champion_data(platform)
        version = pushed(platform, spec, data).version
        training.judged(platform, spec, platform.registry.version(spec.name, version), data)
        training.challenged(platform, spec, version, actor="drill")
        moves.start(platform, spec, version, **WHO)
        # The shadow would stop it before its first answer; the drill is about the canary.
        begun = moves.move(platform, spec, "advance", **WHO).traffic
        rows = rows_of(data.rows("holdout").inputs)
        with serving(platform, spec) as (worker, client):
            wait_for(lambda: worker.cache.get(spec.name).table.rollout == begun.id, "it is served")
            started = time.monotonic()
            by, kept = _asked(platform, client, rows, begun)
            seconds = time.monotonic() - started
            if kept.traffic != begun:
                wait_for(lambda: len(_versions(client, rows)) == 1, "one version has all traffic")
            after = _versions(client, rows)
        last = platform.ledger.entries(spec.name, actions=("abort", "advance"), last=1)[0]
    readings = last.evidence.get("readings", {})
    harmed = [name for name, one in readings.items() if one["finding"] == "harm"]
    caught = last.action == "abort" and harmed == [SCORE] and after == {training.FIRST}
    canary, total = by.get(version, 0), sum(by.values())
    return Finding(
        "bad_canary",
        caught,
        GUARD if caught else NOBODY,
        f"{canary:,} answers of the canary, {seconds:.1f} s"
        if caught
        else f"not in {canary:,} answers of the canary, {seconds:.1f} s",
        f"{canary:,} of {total:,} answers by version {version}; then by version "
        f"{' and '.join(sorted(after))}",
        f"{last.action} by the {last.actor}: {last.reason}",
    )


def _versions(client: Client, rows: list[dict[str, Any]]) -> set[str]:
    """The versions that answer."""
    return {str(one["version"]) for one in client.ask(rows[:ROWS])}


def _asked(
    platform: "Platform", client: Client, rows: list[dict[str, Any]], begun: "Traffic"
) -> "tuple[Counter[str], Kept]":
    """Ask until somebody moves the rollout; answers by version, and the rollout then.

    Rows carry no entity, so that each is an observation of its own.
    """
    by: Counter[str] = Counter()
    blocks = itertools.cycle(range(0, len(rows) - ROWS + 1, ROWS))
    for first in blocks:
        by.update(one["version"] for one in client.ask(rows[first : first + ROWS]))
        kept = platform.rollouts.get(begun.id)
        if kept.traffic != begun or sum(by.values()) >= MOST_ROWS:
            break
        time.sleep(PAUSE)
    return by, kept


DRILLS = (
    Drill(
        "bad_canary",
        "A version whose scores are shifted gets a part of the traffic.",
        GUARD,
        f"the policy's margin of a shift of the scores is {OPEN_SHIFT}",
        bad_canary,
    ),
)
