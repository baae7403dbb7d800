"""Whether the columns of a window have drifted from the reference of their model version.

Only verdicts belong here; distances and the laws of chance are in `divergence`, profiles in
`profile`. A column has drifted only when its effect is above a practical floor and above what
chance explains, with the false discovery rate held across columns. A window that says nothing gets
the verdict `no data`, which is never a sign that all is well.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mlops_assets.core.divergence import (
    cells_of,
    chance_of_psi,
    jensen_shannon,
    kolmogorov_smirnov,
    psi_estimate,
    wasserstein,
)
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.profile import CategoryProfile, NumberProfile, Profile
from mlops_assets.core.significance import false_discoveries_held
from mlops_assets.core.verdict import with_interval
from mlops_assets.errors import DataError, DeclarationError

DriftOutcome = Literal["stable", "warning", "drifted", "no data"]
NOTED = 0.01
"""Shares of rows that are null, out of range or in new categories are told from this one on."""


@dataclass(frozen=True, slots=True)
class DriftPolicy:
    """When a column has drifted.

    Args:
        warn: PSI above which it is worth a warning.
        alert: PSI above which it has drifted.
        rate: false discovery rate across the columns of a window.
        least_rows: rows of a window below which it says nothing.
        level: level of the intervals.

    Raises:
        DeclarationError: floors out of order, or shares that are none.
    """

    warn: float = 0.1
    alert: float = 0.2
    rate: float = 0.05
    least_rows: int = 100
    level: float = 0.95

    def __post_init__(self) -> None:
        shares = 0 < self.rate < 1 and 0 < self.level < 1
        if not (0 <= self.warn <= self.alert < math.inf and self.least_rows >= 1 and shares):
            raise DeclarationError(
                f"a drift policy that warns above {self.warn} and alerts above {self.alert}, with "
                f"rate {self.rate}, level {self.level} and at least {self.least_rows} rows",
                expected="0 <= warn <= alert, rate and level in (0, 1), and one row or more",
                do="correct the drift policy of the spec",
            )


@dataclass(frozen=True, slots=True)
class DriftVerdict:
    """What is said of a column in a window, on which numbers.

    Args:
        feature: the column.
        outcome: `stable`, `warning`, `drifted` or `no data`.
        estimate: PSI less what chance adds to it; None without data.
        floor: the floor that was crossed, or the lower one.
        p_value: of no drift; None without data.
        n: rows of the window.
        reason: the verdict in words.
        details: further (name, value) pairs: `jensen_shannon`, `null_share`, and of numbers
            `wasserstein` (in standard deviations of the reference) and `kolmogorov_smirnov`, each
            of the two with its bounds `_low` and `_high`, as they are read off bins.
    """

    feature: str
    outcome: DriftOutcome
    estimate: Estimate | None
    floor: float
    p_value: float | None
    n: int
    reason: str
    details: tuple[tuple[str, float], ...] = ()

    @property
    def has_drifted(self) -> bool:
        """Whether it is a warning or worse."""
        return self.outcome in ("warning", "drifted")


DEFAULT = DriftPolicy()


def judge(
    references: Mapping[str, Profile],
    windows: Mapping[str, Profile],
    policy: DriftPolicy = DEFAULT,
) -> tuple[DriftVerdict, ...]:
    """Judge all columns of a window together, in the order of the reference.

    A column of the window without a reference is judged `no data` too.

    Args:
        references: profiles of the reference by column.
        windows: profiles of the window by column, made with the bins of the reference.
        policy: when a column has drifted.

    Raises:
        DataError: a profile that was made with other bins.

    >>> import numpy as np
    >>> from mlops_assets.core.profile import NumberBins
    >>> bins = NumberBins.of(np.arange(1000))
    >>> profiles = [{"a": NumberProfile.of(np.arange(1000) + s, bins)} for s in (0, 300)]
    >>> [judge(profiles[0], window)[0].outcome for window in (*profiles, {})]
    ['stable', 'drifted', 'no data']
    """
    names = [*references, *(name for name in windows if name not in references)]
    found = [_measured(name, references.get(name), windows.get(name), policy) for name in names]
    tested = [verdict for verdict in found if verdict.p_value is not None]
    significant = false_discoveries_held([v.p_value for v in tested if v.p_value is not None],
                                         policy.rate)  # fmt: skip
    decided = {
        verdict.feature: _decided(verdict, bool(flag), policy)
        for verdict, flag in zip(tested, significant, strict=True)
    }
    return tuple(decided.get(verdict.feature, verdict) for verdict in found)


def persists(bad: Sequence[bool], k: int, m: int) -> bool:
    """Whether at least k of the last m windows were bad.

    >>> persists([True, False, True], k=2, m=3), persists([True, False, False, True], 2, 3)
    (True, False)
    """
    return sum(bad[-m:]) >= k


def ranked(
    verdicts: Sequence[DriftVerdict], importance: Mapping[str, float]
) -> tuple[tuple[DriftVerdict, float], ...]:
    """What drifted, by importance times drift, largest first.

    Args:
        verdicts: of all columns.
        importance: how much each column matters to the model, in any unit; unknown and negative
            count as 0.

    Returns:
        The warnings and worse, each with its product over the sum of all.
    """
    drifted = [verdict for verdict in verdicts if verdict.has_drifted]
    scores = [max(0.0, importance.get(v.feature, 0.0)) * _size(v) for v in drifted]
    whole = sum(scores) or 1.0
    pairs = [(verdict, score / whole) for verdict, score in zip(drifted, scores, strict=True)]
    return tuple(sorted(pairs, key=lambda pair: (-pair[1], -_size(pair[0]))))


def _size(verdict: DriftVerdict) -> float:
    return verdict.estimate.value if verdict.estimate else 0.0


def _measured(
    name: str, reference: Profile | None, window: Profile | None, policy: DriftPolicy
) -> DriftVerdict:
    """The numbers of a column, before the columns are compared with each other."""
    n = window.rows if window is not None else 0
    silent = _silence(reference, window, policy)
    if silent is not None or reference is None or window is None:
        return DriftVerdict(name, "no data", None, policy.warn, None, n, silent or "")
    if reference.bins != window.bins:
        raise DataError(
            f"the window of {name!r} was profiled with other bins than its reference",
            expected="the bins of the reference of this model version",
            do="profile the window again with this reference",
        )
    cells = cells_of(reference, window)
    estimate = psi_estimate(*cells.with_unseen, level=policy.level)
    details = {
        "jensen_shannon": jensen_shannon(*cells.with_unseen),
        "null_share": window.nulls / n,
    }
    if isinstance(reference, NumberProfile) and isinstance(window, NumberProfile):
        moved = wasserstein(reference, window)
        for kind, found in (
            ("wasserstein", moved),
            ("kolmogorov_smirnov", kolmogorov_smirnov(reference, window)[0]),
        ):
            if found is not None and window.values:
                details |= {kind: found.value, f"{kind}_low": found.low, f"{kind}_high": found.high}
    return DriftVerdict(
        feature=name,
        outcome="stable",
        estimate=replace(estimate, n=n),
        floor=policy.warn,
        p_value=chance_of_psi(cells),
        n=n,
        reason=_remarks(reference, window),
        details=tuple(details.items()),
    )


def _silence(reference: Profile | None, window: Profile | None, policy: DriftPolicy) -> str | None:
    """Why nothing can be said; None when something can."""
    if reference is None or reference.rows == 0:
        return "no data: the reference has no rows of this column"
    if window is None or window.rows == 0:
        return "no data: the window has no rows"
    if window.rows < policy.least_rows:
        return f"no data: {window.rows:,} rows, the policy wants at least {policy.least_rows:,}"
    if not (reference.values or window.values):
        return f"no data: all {window.rows:,} rows are null, and so is the reference"
    return None


def _decided(verdict: DriftVerdict, significant: bool, policy: DriftPolicy) -> DriftVerdict:
    """The outcome, once it is known which columns are beyond chance."""
    if verdict.estimate is None:
        return verdict
    effect, outcome, floor = verdict.estimate.value, verdict.outcome, policy.warn
    text = f"PSI {with_interval(verdict.estimate)}"
    p_value = f"p = {verdict.p_value:.2g}"
    if effect <= policy.warn:
        text += f" is not above {policy.warn:g} ({p_value})"
    elif not significant:
        text += f" is above {policy.warn:g}, but chance explains it ({p_value})"
    else:
        outcome = "drifted" if effect > policy.alert else "warning"
        floor = policy.alert if effect > policy.alert else policy.warn
        text += f" is above {floor:g} and beyond chance ({p_value})"
    return replace(verdict, outcome=outcome, floor=floor, reason=text + verdict.reason)


def _remarks(reference: Profile, window: Profile) -> str:
    """What stands out in a window, for the end of the reason."""
    found = []
    if window.nulls == window.rows:
        found.append("all rows are null")
    elif window.nulls / window.rows >= NOTED + reference.nulls / reference.rows:
        share = reference.nulls / reference.rows
        found.append(f"{window.nulls / window.rows:.1%} of the rows are null, {share:.1%} before")
    if isinstance(window, NumberProfile):
        found += _remarks_on_numbers(reference, window)
    elif isinstance(reference, CategoryProfile) and window.others and window.bins.complete:
        names = ", ".join(repr(name) for name in window.names[:5])
        more = ", ..." if len(window.names) > 5 else ""
        found.append(f"{window.others / window.rows:.1%} of the rows are new: {names}{more}")
    return "".join(f"; {remark}" for remark in found)


def _remarks_on_numbers(reference: Profile, window: NumberProfile) -> list[str]:
    found = []
    varied = isinstance(reference, NumberProfile) and reference.minimum != reference.maximum
    if window.values and window.minimum == window.maximum and varied:
        found.append(f"all values are {window.minimum:g}")
    outside = window.counts[0] + window.counts[-1]
    if window.rows and outside / window.rows >= NOTED:
        share = outside / window.rows
        found.append(f"{share:.1%} of the rows are out of the range of the reference")
    return found
