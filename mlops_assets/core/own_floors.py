"""Floors of drift that a column brings along: how much it moves between days of the reference.

A rolling feature (the mean delay of the last hours) differs more from day to day than any floor for
all columns allows, and would be found to drift on its first day. So the effect of every day of the
reference against the whole of it is kept with the reference, and a column has drifted only when it
is above the policy's floor and above a high quantile of these. Distances are in `divergence`,
verdicts without such floors in `drift`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mlops_assets.core.divergence import cells_of, psi_estimate
from mlops_assets.core.drift import DriftPolicy, DriftVerdict
from mlops_assets.core.profile import Profile
from mlops_assets.core.verdict import with_interval


def daily_effects(
    reference: Profile, days: Sequence[Profile], least_rows: int
) -> tuple[float, ...]:
    """PSI of each day of the reference against the whole, less what chance adds, ascending.

    Args:
        reference: profile of all rows.
        days: profiles of its days, made with the same bins.
        least_rows: days of fewer rows are left out.

    >>> import numpy as np
    >>> from mlops_assets.core.profile import NumberBins, NumberProfile, merge
    >>> bins = NumberBins.of(np.arange(1000))
    >>> days = [NumberProfile.of(np.arange(s, s + 500), bins) for s in (0, 500)]
    >>> [effect > 1 for effect in daily_effects(merge(*days), days, least_rows=100)]
    [True, True]
    """
    found = []
    for day in days:
        if day.rows >= least_rows:
            cells = cells_of(reference, day)
            found.append(psi_estimate(*cells.with_unseen).value)
    return tuple(sorted(found))


def own_floor(effects: Sequence[float], quantile: float) -> float:
    """The effect that a share `quantile` of the days does not exceed; 0 without days.

    It is one of the effects, never a number between two of them. With days that are exchangeable
    the next one is above the largest of n with probability 1 / (n + 1).

    >>> own_floor((0.1, 0.2, 0.3, 0.4), 0.75), own_floor((0.1, 0.4), 1.0), own_floor((), 1.0)
    (0.3, 0.4, 0.0)
    """
    if not effects:
        return 0.0
    # Rounded, as 0.07 * 100 is more than 7.
    return sorted(effects)[max(1, math.ceil(round(quantile * len(effects), 9))) - 1]


def above_own_floors(
    verdicts: Sequence[DriftVerdict], floors: Mapping[str, float], policy: DriftPolicy
) -> tuple[DriftVerdict, ...]:
    """The verdicts of `drift.judge` with the floors that the columns bring along.

    A floor only makes a verdict milder; what was stable or without data stays so.

    Args:
        verdicts: of one window.
        floors: by column; a column without one has the policy's floors alone.
        policy: as the verdicts were given by.

    >>> from mlops_assets.core.estimate import Estimate
    >>> found = DriftVerdict(
    ...     "a", "drifted", Estimate(0.5, 0.4, 0.6, 900), 0.2, 0.0, 900, "PSI 0.5")
    >>> policy = DriftPolicy()
    >>> [above_own_floors([found], {"a": floor}, policy)[0].outcome for floor in (0.3, 0.6)]
    ['drifted', 'stable']
    """
    return tuple(_lifted(verdict, floors.get(verdict.feature, 0.0), policy) for verdict in verdicts)


def _lifted(verdict: DriftVerdict, own: float, policy: DriftPolicy) -> DriftVerdict:
    if not verdict.has_drifted or verdict.estimate is None or own <= policy.warn:
        return verdict
    effect = verdict.estimate.value
    remarks = verdict.reason.partition("; ")[2]
    if effect <= own:
        text = (
            f"PSI {with_interval(verdict.estimate)} is not above {own:.3g}, as far as days of the "
            "reference differ from it"
        )
        outcome, floor = "stable", own
    else:
        floor = max(own, policy.alert if effect > policy.alert else policy.warn)
        outcome = "drifted" if effect > policy.alert else "warning"
        text = (
            f"PSI {with_interval(verdict.estimate)} is above {floor:.3g} and beyond chance "
            f"(p = {verdict.p_value:.2g}); days of the reference differ by up to {own:.3g}"
        )
    reason = f"{text}; {remarks}" if remarks else text
    return replace(verdict, outcome=outcome, floor=floor, reason=reason)  # type: ignore[arg-type]
