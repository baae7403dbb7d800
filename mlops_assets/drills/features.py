"""Drills on features: values that are too old to be served, and columns that changed places.

What breaks is in the online store and in a source. Features of requests are in `monitored`.
"""

import datetime as dt
from typing import TYPE_CHECKING, Any

from mlops_assets.drills import shop
from mlops_assets.drills.finding import NOBODY, Drill, Finding, need_sound
from mlops_assets.drills.served import serving
from mlops_assets.engines import duckdb as engine
from mlops_assets.engines import feature_contract as contract

if TYPE_CHECKING:
    from mlops_assets.drills.home import World
    from mlops_assets.platform import Platform

TTL, RANGES = "feature_ttl", "value_ranges"
EXPIRED = "OUTSIDE_MAX_AGE"
ASKED = 40
HOUR = dt.timedelta(hours=1)
SILENCE = 9 * HOUR
"""Time since the online store was filled last."""


def stale_feature(world: "World", guarded: bool) -> Finding:
    """The feed of a view stops, and entities are asked for long after."""
    # Without a limit of age the newest value is good for ever.
    view = shop.view(world.files, **({} if guarded else {"ttl": dt.timedelta(days=3650)}))
    spec = world.spec(features=shop.service(view))
    now = shop.midnight(shop.LIVE) + SILENCE
    with world.own("stale_feature", now) as platform:
        platform.features.apply((spec.features,))
        expired = _expired_after(platform, spec.features.name)
        with serving(platform, spec) as (_, client):
            said = client.ask([row_of(i) for i in range(ASKED)], by="entities")
    names = [feature.name for feature in view.features]
    flagged = sum(all(one["features"].get(name) == EXPIRED for name in names) for one in said)
    caught = flagged == len(said) and expired is not None
    shown = ", ".join(names)
    return Finding(
        "stale_feature",
        caught,
        TTL if caught else NOBODY,
        f"{expired / HOUR:.1f} h after the last event"
        if expired
        else f"not in {SILENCE / HOUR:g} h",
        f"{flagged} of {len(said)} answers without the old values, each naming them"
        if caught
        else f"{len(said) - flagged} of {len(said)} answers with the old values as if of now",
        f"{shown} are {EXPIRED} in the answers, {SILENCE / HOUR:g} h after the store was filled"
        if caught
        else f"no answer says that {shown} are {SILENCE / HOUR:g} h old",
    )


def row_of(number: int) -> dict[str, Any]:
    """A request by entity."""
    return {"courier": f"c{number % shop.COURIERS}", "km": 4.0, "minutes": 25.0}


def _expired_after(platform: "Platform", service: str) -> dt.timedelta | None:
    """The age at which the reader takes a value for too old; None if it never does."""
    reader = platform.features.reader(service)
    loaded = shop.midnight(shop.LIVE)
    answer = reader.read([row_of(0)], now=loaded)
    found = sorted({status.name for status in answer.statuses[0]})
    need_sound(found == ["PRESENT"], "stale_feature", ", ".join(found))
    last = max(time for time in answer.event_times[0] if time is not None)
    for halves in range(1, 2 * int(SILENCE / HOUR)):
        age = halves * HOUR / 2
        answer = reader.read([row_of(0)], now=last + age)
        if EXPIRED in {status.name for status in answer.statuses[0]}:
            return age
    return None


def swapped_column(world: "World", guarded: bool) -> Finding:
    """Two columns of a source change places from one day on."""
    first = shop.LIVE
    log = shop.read_rows(world.files / "couriers.csv")
    swapped = [
        (row["courier"], row["seen_at"], *_values(row, swap=row["seen_at"] >= f"{shop.day(first)}"))
        for row in log
    ]
    with world.own("swapped_column") as platform:
        folder = platform.settings.root / "swapped"
        folder.mkdir()
        shop.write_rows(folder / "couriers.csv", shop.LOG_COLUMNS, swapped)
        # Without the guard the columns are declared without ranges.
        open_ = tuple(
            one.model_copy(update={"minimum": None, "maximum": None})
            for one in shop.view(folder).features
        )
        view = shop.view(folder, **({} if guarded else {"features": open_}))
        before = contract.judged(platform.lake, view, RANGES)
        need_sound(before.holds, "swapped_column", before.reason)
        engine.write_source(platform.lake, view.sources[0])
        counts = engine.write_features(platform.lake, view, [shop.day(first)])
        asked = {rule: contract.judged(platform.lake, view, rule) for rule in contract.RULES}
    caught_by = [rule for rule, found in asked.items() if not found.holds and found.blocks]
    rows = sum(counts.values())
    return Finding(
        "swapped_column",
        bool(caught_by),
        ", ".join(caught_by) or NOBODY,
        f"the first {rows:,} rows" if caught_by else f"not in {rows:,} rows",
        "nothing: the check blocks what is downstream of the day's table"
        if caught_by
        else f"{rows:,} rows with swapped columns go on to training and to the online store",
        asked[caught_by[0]].reason if caught_by else asked[RANGES].reason,
    )


def _values(row: dict[str, str], *, swap: bool) -> tuple[str, str]:
    open_orders, minutes = row["open_orders"], row["minutes_mean"]
    return (minutes, open_orders) if swap else (open_orders, minutes)


DRILLS = (
    Drill(
        "stale_feature",
        "The feed of a feature view stops; its online values grow too old.",
        TTL,
        "the view is declared with a limit of ten years",
        stale_feature,
    ),
    Drill(
        "swapped_column",
        "Two columns of a source change places.",
        RANGES,
        "the features are declared without ranges",
        swapped_column,
    ),
)
