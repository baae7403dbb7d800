"""Plain-number form of what a fitted regression holds beside its estimators: its law and its rule.

Made for a model's metadata, through JSON or YAML and back without loss. Only the form belongs here;
where it is kept is not known.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from mlops_assets.core.conformal_intervals import IntervalRule
from mlops_assets.core.predictive import PredictiveDistribution
from mlops_assets.errors import RegistryError


def as_record(law: PredictiveDistribution, rule: IntervalRule) -> dict[str, Any]:
    """Both as dicts, lists, text and plain numbers.

    >>> from mlops_assets.core.predictive import fit_predictive_distribution
    >>> law = fit_predictive_distribution(np.arange(99.0), np.zeros(99))
    >>> rule = IntervalRule(0.9, 2.0, 1000)
    >>> record = as_record(law, rule)
    >>> record["rule"]
    {'confidence': 0.9, 'quantile': 2.0, 'n_conformalize': 1000, 'kind': 'absolute'}
    >>> rule_of(record) == rule, bool((law_of(record).residuals == law.residuals).all())
    (True, True)
    """
    residuals = np.asarray(law.residuals, dtype=np.float64).tolist()
    return {
        "law": {"residuals": residuals, "n_calibrate": int(law.n_calibrate)},
        "rule": {
            **asdict(rule),
            # A number of numpy would be written as text, or not at all.
            "confidence": float(rule.confidence),
            "quantile": float(rule.quantile),
            "n_conformalize": int(rule.n_conformalize),
        },
    }


def law_of(record: Mapping[str, Any]) -> PredictiveDistribution:
    """The predictive distribution of a record.

    Raises:
        RegistryError: a record that `as_record` has not made.
        GateError: residuals that are none of a distribution.
    """
    kept = _part(record, "law", {"residuals": list, "n_calibrate": int})
    if not all(type(number) in (float, int) for number in kept["residuals"]):
        raise _damaged("law", "residuals that are not all numbers")
    residuals = np.array(kept["residuals"], dtype=np.float64)
    return PredictiveDistribution(residuals, kept["n_calibrate"])


def rule_of(record: Mapping[str, Any]) -> IntervalRule:
    """The interval rule of a record.

    Raises:
        RegistryError: a record that `as_record` has not made.
        GateError: numbers that make no rule.
    """
    wanted = {"confidence": float, "quantile": float, "n_conformalize": int, "kind": str}
    return IntervalRule(**_part(record, "rule", wanted))


def _part(record: Mapping[str, Any], name: str, wanted: Mapping[str, type]) -> dict[str, Any]:
    """A part of the record, all of whose fields are there and of their types."""
    kept = record.get(name)
    if not isinstance(kept, Mapping) or set(kept) != set(wanted):
        raise _damaged(name, sorted(kept) if isinstance(kept, Mapping) else kept)
    # A float without fraction comes back from some writers as an int; a bool is neither.
    found = {
        key: float(v) if type(v) is int and wanted[key] is float else v for key, v in kept.items()
    }
    wrong = {key: value for key, value in found.items() if type(value) is not wanted[key]}
    if wrong:
        raise _damaged(name, wrong)
    return found


def _damaged(name: str, found: object) -> RegistryError:
    return RegistryError(
        f"the record of a regression has a {name} with {found}",
        expected="the fields and types that as_record writes",
        do="register the model anew; its metadata were changed, or come from another version",
    )
