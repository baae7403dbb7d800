"""What the entities of an experiment brought, out of the logs: by arm, over time, and by slice.

A value that was told again counts as it was told last, and history is as it was known then: at
each look the sums are of what had been told by that moment. Entities that were served in several
arms are left out: they were drawn twice, as it happens between two experiments. What the sums say
is decided in `core.experiment_analysis`; the logs are joined in `outcomes.join`.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_assets.core.experiment_analysis import MOST_LEVELS, Aim, Brought, ByArm, Observed
from mlops_assets.core.routing import Arm
from mlops_assets.core.sequential import Sums
from mlops_assets.outcomes.join import joined, moment
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec, Slice
from mlops_assets.stores.lake import quoted, text

if TYPE_CHECKING:
    import duckdb

LOOKS = 60
"""Moments of the history."""

_TABLES = ("drawn", "seen", "changes", "steps")


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when predictions count, and until when outcomes were told."""

    since: dt.datetime
    until: dt.datetime | None
    as_of: dt.datetime


def observe(
    platform: Platform,
    spec: ModelSpec,
    arms: Sequence[Arm],
    aims: Sequence[Aim],
    window: Window,
    *,
    looks: int = LOOKS,
) -> Observed:
    """Read what was seen of an experiment.

    Args:
        platform: the stores.
        spec: the model, with its slices.
        arms: the arms.
        aims: the metrics.
        window: the time.
        looks: moments of the history, evenly spread.

    Raises:
        DataError: when the log does not keep the keys of the entities.
    """
    moments = _moments(window, looks)
    names = tuple(arm.name for arm in arms)
    with joined(
        platform, spec, names, window.since, window.until, as_of=window.as_of, slices=True
    ) as connection:
        try:
            return _observed(connection, spec, arms, aims, moments)
        finally:
            _drop(connection)


def together(
    platform: Platform, spec: ModelSpec, arms: Sequence[str], aim: Aim, window: Window
) -> Brought:
    """What entities brought in a time, whichever of some arms they were served by.

    Args:
        platform: the stores.
        spec: the model.
        arms: names of the arms, as they are logged.
        aim: the metric.
        window: the time.

    Raises:
        DataError: when the log does not keep the keys of the entities.
    """
    with joined(platform, spec, arms, window.since, window.until, as_of=window.as_of) as connection:
        try:
            # As if there were one arm: an entity that was in several is one entity.
            connection.execute(
                "CREATE OR REPLACE TEMP TABLE seen AS SELECT * REPLACE ('' AS arm) FROM served"
            )
            _change(connection, (), (aim,))
            row = connection.execute(
                f"SELECT count(*), fsum(now), fsum(now * now), sum(fresh)::BIGINT FROM "
                f"(SELECT unit, {_per_entity(aim)} AS now, sum(fresh) AS fresh "
                f"FROM changes WHERE name = {text(aim.name)} GROUP BY unit)"
            ).fetchone()
        finally:
            _drop(connection)
    n, total, squares, values = row or (0, None, None, None)
    return _brought(n, total or 0.0, squares or 0.0, values or 0)


def _drop(connection: "duckdb.DuckDBPyConnection") -> None:
    for table in _TABLES:
        connection.execute(f"DROP TABLE IF EXISTS temp.{table}")


def _moments(window: Window, looks: int) -> tuple[dt.datetime, ...]:
    start, end = window.since, max(window.as_of, window.since)
    return tuple(start + (end - start) * (i + 1) / looks for i in range(looks))


def _observed(
    connection: "duckdb.DuckDBPyConnection",
    spec: ModelSpec,
    arms: Sequence[Arm],
    aims: Sequence[Aim],
    moments: Sequence[dt.datetime],
) -> Observed:
    _draw(connection, arms)
    entities = connection.execute(
        "SELECT arm, count(DISTINCT unit), count(*) FROM seen GROUP BY arm"
    ).fetchall()
    crossed = connection.execute("SELECT count(*) FROM drawn WHERE arms > 1").fetchone()
    _change(connection, spec.slices, aims)
    slices, unjudged = _by_level(connection, spec, aims)
    return Observed(
        entities={arm: n for arm, n, _ in entities},
        predictions={arm: n for arm, _, n in entities},
        crossed=int(crossed[0]) if crossed else 0,
        looks=tuple(moments),
        metrics=_over_time(connection, aims, moments),
        slices=slices,
        unjudged=unjudged,
    )


def _draw(connection: "duckdb.DuckDBPyConnection", arms: Sequence[Arm]) -> None:
    """The predictions of entities that were drawn once; `drawn` says how often each was."""
    versions = ", ".join(f"({text(arm.name)}, {text(arm.version)})" for arm in arms)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE drawn AS "
        "SELECT unit, count(DISTINCT arm) AS arms, min(arm) AS arm FROM served GROUP BY unit"
    )
    connection.execute(
        # An arm of the same name with another version is of an experiment before.
        "CREATE OR REPLACE TEMP TABLE seen AS SELECT served.* FROM served JOIN drawn USING (unit) "
        f"WHERE arms = 1 AND (served.arm, version) IN (VALUES {versions})"
    )


def _change(
    connection: "duckdb.DuckDBPyConnection", slices: Sequence[Slice], aims: Sequence[Aim]
) -> None:
    """How much each delivery of a value changed what was known: a first one brings it anew."""
    names = ", ".join(text(aim.name) for aim in aims) or "NULL"
    levels = "".join(f", {quoted(f'slice:{one.name}')}" for one in slices)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE changes AS "
        'WITH each AS (SELECT prediction_id, known_at, unnest(map_entries("values")) AS one '
        'FROM told WHERE "values" IS NOT NULL), '
        # Of several that were told at one moment, the largest.
        "last AS (SELECT prediction_id, one.key AS name, known_at, max(one.value) AS value "
        f"FROM each WHERE one.key IN ({names}) AND isfinite(one.value) GROUP BY ALL), "
        "step AS (SELECT *, lag(value) OVER (PARTITION BY prediction_id, name ORDER BY known_at) "
        "AS before FROM last) "
        "SELECT name, arm, unit, greatest(known_at, made_at) AS known_at, "
        "value - coalesce(before, 0) AS more, (before IS NULL)::INT AS fresh"
        f"{levels} FROM step JOIN seen USING (prediction_id)"
    )


def _over_time(
    connection: "duckdb.DuckDBPyConnection", aims: Sequence[Aim], moments: Sequence[dt.datetime]
) -> dict[str, list[ByArm]]:
    """What was known at each look, by metric."""
    looks = ", ".join(f"({i}, {moment(at)})" for i, at in enumerate(moments))
    last = len(moments) - 1
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE steps AS "
        "SELECT name, arm, unit, look, sum(more) AS more, sum(fresh) AS fresh FROM ("
        f"SELECT *, coalesce((SELECT min(i) FROM (VALUES {looks}) t(i, until) "
        f"WHERE until >= known_at), {last}) AS look FROM changes) GROUP BY ALL"
    )
    found: dict[str, list[ByArm]] = {}
    for aim in aims:
        rows = connection.execute(
            f"{_observations(aim, 'steps', 'look')} "
            "SELECT arm, look, sum((before IS NULL)::INT)::BIGINT, fsum(now - coalesce(before, 0)),"
            " fsum(now * now - coalesce(before * before, 0)), sum(fresh)::BIGINT "
            "FROM moved GROUP BY arm, look ORDER BY arm, look"
        ).fetchall()
        by_arm: dict[str, dict[int, tuple[int, float, float, int]]] = {}
        for arm, look, *step in rows:
            by_arm.setdefault(arm, {})[look] = tuple(step)
        totals = {arm: _running(steps, len(moments)) for arm, steps in by_arm.items()}
        found[aim.name] = [{arm: each[i] for arm, each in totals.items()} for i in range(last + 1)]
    return found


def _observations(aim: Aim, table: str, order: str) -> str:
    """SQL of what each entity had brought before and after each of its steps, as `moved`."""
    now = "total" if aim.per_entity == "total" else "total / number"
    over = f"PARTITION BY arm, unit ORDER BY {order}"
    return (
        f"WITH sums AS (SELECT arm, unit, {order}, fresh, sum(more) OVER ({over}) AS total, "
        f"sum(fresh) OVER ({over}) AS number FROM {table} WHERE name = {text(aim.name)}), "
        f"each AS (SELECT *, {now} AS now FROM sums), "
        f"moved AS (SELECT *, lag(now) OVER ({over}) AS before FROM each)"
    )


def _running(steps: dict[int, tuple[int, float, float, int]], looks: int) -> list[Brought]:
    n, total, squares, values = 0, 0.0, 0.0, 0
    found = []
    for look in range(looks):
        more = steps.get(look, (0, 0.0, 0.0, 0))
        n, total, squares, values = (
            n + more[0], total + more[1], squares + more[2], values + more[3]
        )  # fmt: skip
        found.append(_brought(n, total, squares, values))
    return found


def _brought(n: int, total: float, squares: float, values: int) -> Brought:
    # Sums that grew and shrank may have lost their last digits.
    least = total * total / n if n else 0.0
    return Brought(Sums(n, total if n else 0.0, max(squares, least)), values)


def _per_entity(aim: Aim) -> str:
    """SQL of what an entity has brought, over all that changed."""
    return "sum(more)" if aim.per_entity == "total" else "sum(more) / sum(fresh)"


def _by_level(
    connection: "duckdb.DuckDBPyConnection", spec: ModelSpec, aims: Sequence[Aim]
) -> tuple[dict[tuple[str, str, str], ByArm], dict[str, int]]:
    """What is known now by metric, slice and level; an entity counts in each of its levels."""
    found: dict[tuple[str, str, str], ByArm] = {}
    unjudged = {}
    for one in spec.slices:
        column = quoted(f"slice:{one.name}")
        levels = [
            level
            for (level,) in connection.execute(
                f"SELECT {column} FROM seen GROUP BY 1 ORDER BY min(made_at), 1"
            ).fetchall()
        ]
        unjudged[one.name] = max(0, len(levels) - MOST_LEVELS)
        for aim in aims:
            rows = connection.execute(
                f"WITH each AS (SELECT {column} AS level, arm, unit, {_per_entity(aim)} AS now, "
                f"sum(fresh) AS fresh FROM changes WHERE name = {text(aim.name)} GROUP BY ALL) "
                "SELECT level, arm, count(*), fsum(now), fsum(now * now), sum(fresh)::BIGINT "
                "FROM each GROUP BY level, arm ORDER BY ALL"
            ).fetchall()
            by_level: dict[str, dict[str, Brought]] = {}
            for level, arm, *sums in rows:
                by_level.setdefault(level, {})[arm] = _brought(*sums)
            for level in levels[:MOST_LEVELS]:
                if level in by_level:
                    found[aim.name, one.name, level] = by_level[level]
    return found, {name: n for name, n in unjudged.items() if n}
