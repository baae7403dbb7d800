"""What only the model card of a regression says, made from its evidence.

The parts that both kinds of model share (gates, comparison, features, data, lineage) are put
together in `card.py`; what a card can say stands in `core/model_card.py`.
"""

from typing import TypedDict

import numpy as np

from mlops_assets.core import model_card as cards
from mlops_assets.core.conformal_intervals import interval_width
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.intervals import Floats, mean_estimate
from mlops_assets.core.mondrian import GroupCoverage, MondrianRule, coverage_by_group
from mlops_assets.core.regression import quantile_calibration_error
from mlops_assets.core.regression_comparison import regression_metrics
from mlops_assets.core.regression_evidence import RegressionEvidence
from mlops_assets.core.shared_gates import Policy
from mlops_assets.core.slices import SliceReport

LEVEL = 0.95
PIT_BINS = 20
CALIBRATIONS = {"absolute": "residuals", "normalized": "normalized residuals"}
"""How a forecast becomes a distribution, by kind of interval."""


class RegressionParts(TypedDict):
    """Parts of a `ModelCard` by the name of its field."""

    quantiles: cards.QuantileReliability
    performance: cards.Performance
    coverage: cards.Coverage
    slices: SliceReport | None
    choice: cards.Choice


def regression_parts(evidence: RegressionEvidence, policy: Policy, unit: str) -> RegressionParts:
    """The parts of the card that a regression has in a form of its own.

    Args:
        evidence: its forecasts of the holdout.
        policy: the limits.
        unit: unit of the target, maybe empty.
    """
    calibration = evidence.calibration()
    rule = evidence.rule
    return {
        "quantiles": cards.QuantileReliability(
            calibration,
            policy.bin_limit,
            quantile_calibration_error(calibration),
            policy.ece_limit,
            tuple(pit_counts(evidence)),
        ),
        "performance": _performance(evidence, unit),
        "coverage": cards.Coverage(
            rule.confidence,
            policy.coverage_tolerance,
            evidence.coverage(),
            rule.n_conformalize,
            interval_width(evidence.intervals(), level=LEVEL),
            kind="intervals",
            groups=_groups(evidence),
            grouped_by=next(iter(evidence.slices), "group"),
            unit=unit,
        ),
        "slices": evidence.slice_report,
        "choice": cards.Choice(
            evidence.selection, loss="squared error", calibration=CALIBRATIONS[rule.kind]
        ),
    }


def pit_counts(evidence: RegressionEvidence) -> list[int]:
    """Rows by where in its predicted distribution the target fell, in `PIT_BINS` equal bins."""
    pits = evidence.law.cdf(evidence.labels, evidence.points, evidence.spreads)
    return [int(count) for count in np.histogram(pits, PIT_BINS, (0, 1))[0]]


def _performance(evidence: RegressionEvidence, unit: str) -> cards.Performance:
    """Errors with the unit; R2 has none and is shown as the skill of the folds."""
    errors = evidence.labels - evidence.points
    measured = regression_metrics(evidence.labels, evidence.forecasts)
    return cards.Performance(
        metrics={
            "Mean absolute error": mean_estimate(np.abs(errors), LEVEL),
            "Root mean squared error": _root_mean(errors**2),
            "Pinball loss of the quantiles": measured["pinball"],
        },
        n=len(errors),
        unit=unit,
    )


def _root_mean(squares: Floats) -> Estimate:
    """Root of a mean, with the roots of the ends of its interval."""
    mean = mean_estimate(squares, LEVEL)
    low, value, high = (max(0.0, end) ** 0.5 for end in (mean.low, mean.value, mean.high))
    return Estimate(value, low, high, mean.n, mean.level)


def _groups(evidence: RegressionEvidence) -> tuple[GroupCoverage, ...]:
    """Coverage by level of the first slice, all intervals at once; empty without a slice."""
    for levels in evidence.slices.values():
        apart = LEVEL ** (1 / len(np.unique(levels)))
        return coverage_by_group(
            evidence.covered(), levels, MondrianRule(evidence.rule), level=apart
        )
    return ()
