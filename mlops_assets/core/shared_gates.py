"""The gates that judge every kind of model alike: coverage, champion, folds, slices.

What is particular to a kind (reliability bins of a classifier, quantiles of a regression) is in
`evidence.py` and `regression_evidence.py`, which take these gates over.
"""

from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mlops_assets.core import gates
from mlops_assets.core.comparison import MetricDifference
from mlops_assets.core.coverage_law import CoverageRule
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.selection import Selection
from mlops_assets.core.selection_gates import not_overfitted, stable_across_folds
from mlops_assets.core.slice_gates import slices_hold
from mlops_assets.core.slices import SliceReport
from mlops_assets.core.verdict import Verdict

FOLD_ROWS = 500
"""Fewest rows of a fold, unless the policy wants even fewer of the holdout."""


class Policy(Protocol):
    """What the gates need to know of a policy; declared in `spec.GatePolicy`."""

    @property
    def ece_limit(self) -> float: ...  # noqa: D102
    @property
    def bin_limit(self) -> float: ...  # noqa: D102
    @property
    def coverage_tolerance(self) -> float: ...  # noqa: D102
    @property
    def metric_margin(self) -> float | Mapping[str, float]: ...  # noqa: D102
    @property
    def bins(self) -> int: ...  # noqa: D102
    @property
    def binning(self) -> Literal["mass", "width"]: ...  # noqa: D102
    @property
    def min_bin_rows(self) -> int: ...  # noqa: D102
    @property
    def min_holdout_rows(self) -> int: ...  # noqa: D102
    @property
    def fold_spread_limit(self) -> float: ...  # noqa: D102
    @property
    def overfit_limit(self) -> float: ...  # noqa: D102
    @property
    def slice_limit(self) -> float: ...  # noqa: D102
    @property
    def slice_tolerance(self) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class Incomparable:
    """There is a champion, and `reason` tells why it cannot be asked about these rows."""

    version: str
    reason: str


class Judged(Protocol):
    """Evidence of any kind."""

    @property
    def labels(self) -> Sized: ...  # noqa: D102
    @property
    def rule(self) -> CoverageRule: ...  # noqa: D102
    @property
    def champion(self) -> Any: ...  # noqa: D102
    @property
    def selection(self) -> Selection: ...  # noqa: D102
    @property
    def slice_report(self) -> SliceReport | None: ...  # noqa: D102
    def coverage(self) -> Estimate: ...  # noqa: D102
    def differences(self) -> tuple[MetricDifference, ...] | None: ...  # noqa: D102


def _coverage(evidence: Judged, policy: Policy) -> Verdict:
    return gates.coverage_within_tolerance(
        evidence.coverage(),
        evidence.rule,
        tolerance=policy.coverage_tolerance,
        min_rows=policy.min_holdout_rows,
    )


def _champion(evidence: Judged, policy: Policy) -> Verdict:
    if isinstance(evidence.champion, Incomparable):
        return gates.champion_not_comparable(evidence.champion.reason, len(evidence.labels))
    if evidence.champion and evidence.champion.overlap_rows:
        return gates.champion_has_seen_holdout(evidence.champion.overlap_rows, len(evidence.labels))
    return gates.no_metric_below_champion(
        evidence.differences(), margin=policy.metric_margin, min_rows=policy.min_holdout_rows
    )


def _stable(evidence: Judged, policy: Policy) -> Verdict:
    return stable_across_folds(
        evidence.selection.of_winner,
        limit=policy.fold_spread_limit,
        min_rows=min(FOLD_ROWS, policy.min_holdout_rows),
    )


def _overfitted(evidence: Judged, policy: Policy) -> Verdict:
    return not_overfitted(
        evidence.selection.of_winner[-1],
        limit=policy.overfit_limit,
        min_rows=min(FOLD_ROWS, policy.min_holdout_rows),
    )


def _slices(evidence: Judged, policy: Policy) -> Verdict:
    return slices_hold(
        evidence.slice_report, limit=policy.slice_limit, tolerance=policy.slice_tolerance
    )


SHARED: Mapping[str, Callable[[Any, Policy], Verdict]] = {
    "coverage_within_tolerance": _coverage,
    "no_metric_below_champion": _champion,
    "stable_across_folds": _stable,
    "not_overfitted": _overfitted,
    "slices_hold": _slices,
}
"""The gates by name, in the order in which a report shows them."""
