"""Drills on what is monitored: a unit that changes in requests, and labels that stop coming.

The faults begin where everything was well. Monitors read what was logged, and incidents are what
somebody would be told of.
"""

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlops_assets.drills import shop
from mlops_assets.drills.finding import NOBODY, Drill, Finding, need_sound
from mlops_assets.drills.served import serving
from mlops_assets.monitoring.labelled import MONITORS
from mlops_assets.monitoring.results import DRIFTS
from mlops_assets.monitoring_policy import MonitoringPolicy

if TYPE_CHECKING:
    from mlops_assets.core.incident import Message
    from mlops_assets.drills.home import World
    from mlops_assets.platform import Platform
    from mlops_assets.spec import ModelSpec

DRIFT, MATURITY = "feature_drift", "label_maturity"
OPEN_PSI, OPEN_SHARE = 1e6, 0.01
CHANGED = "preparation"
PROMISES = ("calibration_drift", "coverage")
"""Monitors of what a model promises by its probabilities and sets."""

ROWS, MOST_DAYS = shop.ORDERS_PER_DAY, 4
SOUND_DAYS = 4
"""Days of batch predictions whose labels come."""


def unit_change(world: "World", guarded: bool) -> Finding:
    """From the second day on, clients send hours where they sent minutes."""
    open_limits = {"warn": OPEN_PSI, "alert": OPEN_PSI}
    spec = world.spec(monitoring=MonitoringPolicy(**({} if guarded else open_limits)))
    drifts: list[Message] = []
    probabilities: list[float] = []
    days = 0
    with world.own("unit_change") as platform:
        said = _served_day(world, platform, spec, shop.LIVE, hours=False)
        _computed(platform, spec, shop.LIVE)
        sound = _health(platform, spec, shop.LIVE, DRIFTS)
        need_sound(sound == {"fine"}, "unit_change", sound)
        while not drifts and days < MOST_DAYS:
            days += 1
            number = shop.LIVE + days
            probabilities += _served_day(world, platform, spec, number, hours=True)
            told = _computed(platform, spec, number)
            drifts = [one for one in told if _is_of_change(one)]
    mean, before = sum(probabilities) / len(probabilities), sum(said) / len(said)
    # Of several columns the one that was changed; of several monitors the one of features.
    drifts.sort(key=lambda one: (one.incident.subject.name != CHANGED, str(one.incident.subject)))
    rows = days * ROWS
    first = drifts[0] if drifts else None
    return Finding(
        "unit_change",
        first is not None,
        first.incident.subject.monitor if first else NOBODY,
        f"{days} days, {rows:,} rows" if first else f"not in {days} days, {rows:,} rows",
        f"{rows:,} answers with a mean probability of {mean:.2f} instead of {before:.2f}",
        f"{first.incident.subject.name}: {first.reading.reason}"
        if first
        else "no incident of drift was opened",
    )


def _served_day(
    world: "World", platform: "Platform", spec: "ModelSpec", number: int, *, hours: bool
) -> list[float]:
    """Serve orders of a day; the probabilities that were answered."""
    from mlops_assets.inference import batch
    from mlops_assets.stores.inference_compaction import compact

    then = world.at(platform, shop.midnight(number) + dt.timedelta(hours=12))
    found = batch.entity_rows(platform, spec, shop.day(number), shop.day(number + 1))
    table = batch.with_features(platform, spec, found.head(ROWS))
    rows: list[dict[str, Any]] = table.select([*spec.inputs, "courier"]).to_pylist()
    for row in rows if hours else ():
        row[CHANGED] /= 60
    with serving(then, spec) as (_, client):
        said = client.ask(rows)
    compact(platform.settings.root / "inference_log", platform.lake)
    return [float(one["probability"]) for one in said]


def _computed(platform: "Platform", spec: "ModelSpec", number: int) -> "list[Message]":
    """Compute the monitors of a day; the incidents that open by it."""
    from mlops_assets.monitoring import windows
    from mlops_assets.monitoring.readings import readings

    # Two days later, when the labels had time to come.
    now = shop.midnight(number + 2)
    windows.compute_day(platform, spec, shop.day(number), now)
    messages: list[Message] = []
    found = readings(platform.lake, spec, shop.day(number))
    platform.incidents.observe(
        spec.name, found, spec.monitoring.incidents, messages.append, now=now
    )
    return [one for one in messages if one.kind == "opened"]


def _health(
    platform: "Platform", spec: "ModelSpec", number: int, monitors: Sequence[str]
) -> set[str]:
    """What monitors say of a day, of all that they judge."""
    from mlops_assets.core.incident import PREDICTIONS
    from mlops_assets.monitoring.readings import readings

    found = readings(platform.lake, spec, shop.day(number), monitors=monitors)
    return {reading.health for subject, reading in found if subject.name != PREDICTIONS}


def delayed_labels(world: "World", guarded: bool) -> Finding:
    """Labels stop coming; whether the calibration still holds is not known any more."""
    open_share = {"mature_share": OPEN_SHARE}
    spec = world.spec(monitoring=MonitoringPolicy(**({} if guarded else open_share)))
    first = shop.LIVE + SOUND_DAYS
    health: set[str] = set()
    silent: list[Message] = []
    days = 0
    with world.own("delayed_labels") as platform:
        rows = _predicted(platform, spec, first + MOST_DAYS)
        _stop_labels(platform, spec, first)
        for number in (first - 2, first - 1):
            _computed(platform, spec, number)
            sound = _health(platform, spec, number, MONITORS)
            need_sound(sound == {"fine"}, "delayed_labels", sound)
        while not silent and days < MOST_DAYS:
            told = _computed(platform, spec, first + days)
            health |= _health(platform, spec, first + days, MONITORS)
            silent = [one for one in told if _is_silence(one)]
            days += 1
    caught = bool(silent) and health == {"no data"}
    a_day = rows // (SOUND_DAYS + MOST_DAYS)
    return Finding(
        "delayed_labels",
        caught,
        MATURITY if caught else NOBODY,
        f"{days} days" if caught else f"not in {days} days",
        f"{a_day:,} predictions a day of the champion, "
        + ("said to be judged by nobody" if caught else "said to be judged"),
        f"{silent[0].incident.subject}: {silent[0].reading.reason}"
        if caught
        else f"of days without any label the monitors said: {', '.join(sorted(health))}",
    )


def _is_of_change(message: "Message") -> bool:
    """Whether it tells of the changed column, or of what the model makes of it."""
    subject = message.incident.subject
    return subject.monitor in DRIFTS and (subject.name == CHANGED or subject.monitor != DRIFT)


def _is_silence(message: "Message") -> bool:
    """Whether it tells that nobody knows if the promises of the model still hold."""
    return message.reading.health == "no data" and message.incident.subject.monitor in PROMISES


def _predicted(platform: "Platform", spec: "ModelSpec", end: int) -> int:
    """Predict the orders until a day in a batch; the number of rows."""
    from mlops_assets.inference import batch
    from mlops_assets.windows import Window

    champion = platform.registry.alias(spec.name, "champion")
    assert champion is not None  # noqa: S101
    window = Window(start=shop.day(shop.LIVE), end=shop.day(end))
    return int(batch.predict_window(platform, spec, champion, window)["rows"])


def _stop_labels(platform: "Platform", spec: "ModelSpec", first: int) -> None:
    """Read the orders anew, without the labels from a day on."""
    from mlops_assets.engines import duckdb as engine

    folder = platform.settings.root / "unlabelled"
    (source,) = spec.rows.sources
    rows: Sequence[dict[str, str]] = shop.read_rows(source.fetch(folder))
    lost = ("late", "known_at")
    kept = [
        [
            None if row["ordered_at"] >= f"{shop.day(first)}" and name in lost else row[name]
            for name in shop.ORDER_COLUMNS
        ]
        for row in rows
    ]
    folder.mkdir()
    shop.write_rows(folder / "orders.csv", shop.ORDER_COLUMNS, kept)
    table = shop.rows(folder)
    engine.write_source(platform.lake, table.sources[0])
    engine.write_rows(platform.lake, table, "without labels")


DRILLS = (
    Drill(
        "unit_change",
        "Clients send a feature in hours where they sent minutes.",
        DRIFT,
        f"the policy's limits of both drift monitors are a PSI of {OPEN_PSI:g}",
        unit_change,
    ),
    Drill(
        "delayed_labels",
        "Labels stop coming.",
        MATURITY,
        f"a window counts as labelled when {OPEN_SHARE:.0%} of its labels are there",
        delayed_labels,
    ),
)
