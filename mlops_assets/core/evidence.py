"""The evidence on a classifier: its scores on the holdout rows, and the gates that judge them.

Ties the estimators to the gates of the policy, so that the report, the asset checks and the tests
judge by one rule. Reading scores and recording verdicts belongs to others; what models of numbers
bring forward is in `regression_evidence.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from mlops_assets.core import gates
from mlops_assets.core.calibration import (
    ReliabilityBins,
    expected_calibration_error,
    reliability_bins,
)
from mlops_assets.core.comparison import MetricDifference, classification_metrics, compare
from mlops_assets.core.conformal import ConformalRule, coverage, set_size
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.selection import Selection
from mlops_assets.core.selection_gates import not_overfitted, stable_across_folds
from mlops_assets.core.slice_gates import slices_hold
from mlops_assets.core.slices import SliceReport, StatedCoverage, classification_slices
from mlops_assets.core.verdict import Verdict

Floats = npt.NDArray[np.float64]
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
    def metric_margin(self) -> float: ...  # noqa: D102
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
class Champion:
    """The champion's scores on the same rows, and how many of these rows it has learned from."""

    version: str
    probabilities: Floats
    overlap_rows: int
    threshold: float = 0.5


@dataclass(frozen=True)
class Incomparable:
    """There is a champion, and `reason` tells why it cannot be asked about these rows."""

    version: str
    reason: str


@dataclass(frozen=True)
class Evidence:
    """Labels and probabilities of the holdout rows, and what they are judged with.

    Args:
        labels: shape (n,), 0 or 1.
        probabilities: shape (n,), of class 1.
        rule: the rule of the conformal sets.
        champion: who is compared, or why not; None only when there is no champion.
        selection: how the estimator did on the folds of train.
        slices: level of each row by name of the slice, shape (n,); empty when none is declared.
        threshold: probability from which on class 1 is decided.
    """

    labels: npt.NDArray[np.int64]
    probabilities: Floats
    rule: ConformalRule
    champion: Champion | Incomparable | None
    selection: Selection
    slices: Mapping[str, npt.NDArray[np.str_]] = field(default_factory=dict)
    threshold: float = 0.5

    def bins(self, policy: Policy) -> ReliabilityBins:
        """Reliability bins as the policy wants them."""
        return reliability_bins(
            self.labels,
            self.probabilities,
            n_bins=policy.bins,
            strategy=policy.binning,
            min_rows=policy.min_bin_rows,
        )

    def coverage(self) -> Estimate:
        """Coverage of the conformal sets."""
        return coverage(self.labels, self.rule.prediction_sets(self.probabilities), self.rule)

    def slice_report(self) -> SliceReport | None:
        """Metrics of every slice; None when the spec declares none."""
        if not self.slices:
            return None
        inside = self.rule.prediction_sets(self.probabilities)
        covered = inside[np.arange(len(self.labels)), self.labels]
        stated = StatedCoverage(covered, self.rule.confidence, self.rule.n_conformalize)
        return classification_slices(
            self.slices, self.labels, self.probabilities, stated, loss="log_loss"
        )

    def differences(self) -> tuple[MetricDifference, ...] | None:
        """Metrics minus the champion's on the same rows; None when none can be compared."""
        if not isinstance(self.champion, Champion):
            return None
        return compare(
            self.labels,
            self.probabilities,
            self.champion.probabilities,
            threshold=self.threshold,
            champion_threshold=self.champion.threshold,
        )

    def metrics(self, policy: Policy) -> dict[str, float]:
        """All numbers of the report by name."""
        ece = expected_calibration_error(self.bins(policy))
        sets = self.rule.prediction_sets(self.probabilities)
        covered = self.coverage()
        return {
            **classification_metrics(self.labels, self.probabilities, self.threshold),
            "ece": ece.value,
            "ece_low": ece.low,
            "ece_high": ece.high,
            "coverage": covered.value,
            "coverage_low": covered.low,
            "coverage_high": covered.high,
            "set_size": set_size(sets).value,
            "base_rate": float(self.labels.mean()),
        }


def _ece(evidence: Evidence, policy: Policy) -> Verdict:
    bins = evidence.bins(policy)
    return gates.ece_below_limit(bins, limit=policy.ece_limit, min_rows=policy.min_holdout_rows)


def _bins(evidence: Evidence, policy: Policy) -> Verdict:
    return gates.reliability_bins_within_limit(
        evidence.bins(policy), limit=policy.bin_limit, min_rows=policy.min_holdout_rows
    )


def _coverage(evidence: Evidence, policy: Policy) -> Verdict:
    return gates.coverage_within_tolerance(
        evidence.coverage(),
        evidence.rule,
        tolerance=policy.coverage_tolerance,
        min_rows=policy.min_holdout_rows,
    )


def _champion(evidence: Evidence, policy: Policy) -> Verdict:
    if isinstance(evidence.champion, Incomparable):
        return gates.champion_not_comparable(evidence.champion.reason, len(evidence.labels))
    if evidence.champion and evidence.champion.overlap_rows:
        return gates.champion_has_seen_holdout(evidence.champion.overlap_rows, len(evidence.labels))
    return gates.no_metric_below_champion(
        evidence.differences(), margin=policy.metric_margin, min_rows=policy.min_holdout_rows
    )


def _stable(evidence: Evidence, policy: Policy) -> Verdict:
    return stable_across_folds(
        evidence.selection.of_winner,
        limit=policy.fold_spread_limit,
        min_rows=min(FOLD_ROWS, policy.min_holdout_rows),
    )


def _overfitted(evidence: Evidence, policy: Policy) -> Verdict:
    return not_overfitted(
        evidence.selection.of_winner[-1],
        limit=policy.overfit_limit,
        min_rows=min(FOLD_ROWS, policy.min_holdout_rows),
    )


def _slices(evidence: Evidence, policy: Policy) -> Verdict:
    return slices_hold(
        evidence.slice_report(), limit=policy.slice_limit, tolerance=policy.slice_tolerance
    )


GATES: Mapping[str, Callable[[Evidence, Policy], Verdict]] = {
    "ece_below_limit": _ece,
    "reliability_bins_within_limit": _bins,
    "coverage_within_tolerance": _coverage,
    "no_metric_below_champion": _champion,
    "stable_across_folds": _stable,
    "not_overfitted": _overfitted,
    "slices_hold": _slices,
}
"""The gates that a version must pass before it is released, by name."""

RULES: Mapping[str, str] = {
    "ece_below_limit": "ECE < {ece_limit:g} on holdout, the whole 95% interval included",
    "reliability_bins_within_limit": "no reliability bin deviates by more than {bin_limit:g}",
    "coverage_within_tolerance": "conformal coverage within {coverage_tolerance:g} of the stated",
    "no_metric_below_champion": "no metric below the champion's on the same rows",
    "stable_across_folds": "skill on later parts of train differs by at most {fold_spread_limit:g}",
    "not_overfitted": "skill on rows learned from at most {overfit_limit:g} above that on the rows "
    "after",
    "slices_hold": "in no slice labels off by more than {slice_limit:g} or coverage by more than "
    "{slice_tolerance:g}, beyond chance",
}
"""What each gate demands, to be filled in from the policy."""
