"""The evidence on a classifier: its scores on the holdout rows, and the gates that judge them.

Ties the estimators to the gates of the policy, so that the report, the asset checks and the tests
judge by one rule. Reading scores and recording verdicts belongs to others; what models of numbers
bring forward is in `regression_evidence.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

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
from mlops_assets.core.shared_gates import SHARED, Incomparable, Policy
from mlops_assets.core.slices import SliceReport, StatedCoverage, classification_slices
from mlops_assets.core.verdict import Verdict

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Champion:
    """The champion's scores on the same rows, and how many of these rows it has learned from."""

    version: str
    probabilities: Floats
    overlap_rows: int
    threshold: float = 0.5


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

    @cached_property
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


GATES: Mapping[str, Callable[[Evidence, Policy], Verdict]] = {
    "ece_below_limit": _ece,
    "reliability_bins_within_limit": _bins,
    **SHARED,
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
