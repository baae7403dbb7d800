"""How much traffic an experiment needs to find an effect, by what the past days were like.

Entities are taken to come and to differ as they did; the sharper an effect is to be told from none,
the more of them it takes. The bound whose traffic it is stands in `core.experiment_analysis`.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from mlops_assets.core.experiment_analysis import needed
from mlops_assets.core.routing import BUCKETS
from mlops_assets.errors import DataError
from mlops_assets.experiments.data import Window, together
from mlops_assets.experiments.lifecycle import aims_of, refuse_no_part
from mlops_assets.outcomes.join import moment
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.inference_log import PREDICTIONS
from mlops_assets.stores.lake import quoted, text
from mlops_assets.stores.live_log import living
from mlops_assets.tables import EVENT_TIME

POWER = 0.8
"""Probability with which an effect is found by the end of its plan."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much traffic an experiment needs to find an effect.

    Args:
        metric: the metric that it is planned for.
        effect: difference per entity.
        mean: mean per entity in the past days.
        spread: standard deviation over entities.
        values: values per entity.
        entities: entities that are needed in all arms together; None when no traffic would do.
        per_arm: the same by arm.
        per_day: new entities per day that take part, at the current traffic.
        days: days at the current traffic.
        past_days: days that this was read from.
        power: probability with which the effect is found by then.
    """

    metric: str
    effect: float
    mean: float
    spread: float
    values: float
    entities: int | None
    per_arm: tuple[int, ...]
    per_day: float
    days: float | None
    past_days: int
    power: float = POWER


def plan(
    platform: Platform,
    spec: ModelSpec,
    metrics: Sequence[str],
    effect: float,
    *,
    shares: Sequence[int] = (BUCKETS // 2, BUCKETS // 2),
    exposed: float = 100,
    past_days: int = 14,
) -> Plan:
    """Say how much traffic an experiment needs, by what the past days were like.

    Args:
        platform: the stores.
        spec: the model.
        metrics: names of the metrics of the spec that it would compare; the first is planned for.
        effect: difference per entity of the first metric that is to be found.
        shares: shares of the arms.
        exposed: percent of the traffic that would take part.
        past_days: days that are looked at.

    Raises:
        UnknownNameError: when a metric is not declared.
        DeclarationError: no effect, no metric, or a part of the traffic that is none.
        DataError: when no or too few values are known, or the log does not keep the keys.
    """
    refuse_no_part(shares, exposed)
    aim, *others = aims_of(spec, metrics)
    now = platform.now
    window = Window(now - dt.timedelta(past_days), None, now)
    served = _served(platform, spec, window)
    if not served:
        raise _no_data(spec, aim.name, 0, past_days)
    # A model that is younger than that had its traffic in fewer days.
    days = max(1.0, (now - min(first for _, first in served)) / dt.timedelta(days=1))
    known = together(platform, spec, [arm for arm, _ in served], aim, window)
    sums = known.sums
    if sums.n < 2 or sums.variance == 0:
        raise _no_data(spec, aim.name, sums.n, past_days)
    values, spread = known.values / sums.n, sums.variance**0.5
    entities = needed(
        effect,
        spread,
        shares,
        values=max(1.0, values),
        metrics=1 + len(others),
        slices=len(spec.slices),
        power=POWER,
    )
    per_day = sums.n / days * exposed / 100
    parts = [share / sum(shares) for share in shares]
    return Plan(
        aim.name,
        effect,
        sums.mean,
        spread,
        values,
        entities,
        tuple(round((entities or 0) * part) for part in parts),
        per_day,
        entities / per_day if entities else None,
        past_days,
    )


def _served(platform: Platform, spec: ModelSpec, window: Window) -> list[tuple[str, dt.datetime]]:
    """The arms that answered clients in a time, and when they were first."""
    root = platform.settings.root
    first = window.since.astimezone(dt.UTC).date()
    with living(root / PREDICTIONS.name, platform.lake, first=first) as connection:
        return connection.execute(
            f"SELECT arm, min({quoted(EVENT_TIME)}) FROM {PREDICTIONS.name} "
            f"WHERE model = {text(spec.name)} AND arm NOT IN ('shadow', 'requested') "
            f"AND {quoted(EVENT_TIME)} BETWEEN {moment(window.since)} AND {moment(window.as_of)} "
            f"GROUP BY arm ORDER BY ALL"
        ).fetchall()


def _no_data(spec: ModelSpec, metric: str, entities: int, past_days: int) -> DataError:
    return DataError(
        f"no data: {entities:,} entities of {spec.name!r} have a value of {metric!r} that differs "
        f"in the past {past_days} days",
        expected="values of outcomes, from which to learn how entities differ",
        do=f"send values with the outcomes: POST /models/{spec.name}/outcomes",
    )
