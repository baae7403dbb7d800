"""Evidence as columns of plain arrays and notes of plain numbers, and back without loss.

Only the form belongs here; where evidence is kept, and under which name, is in `stores/scores.py`.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops_assets.core.conformal import ConformalRule
from mlops_assets.core.evidence import Champion, Evidence
from mlops_assets.core.regression_evidence import RegressionChampion, RegressionEvidence
from mlops_assets.core.regression_record import as_record, law_of, rule_of
from mlops_assets.core.selection import selection_of
from mlops_assets.core.shared_gates import Incomparable
from mlops_assets.core.tasks import AnyEvidence

Columns = Mapping[str, npt.NDArray[Any]]
SLICE = "slice:"
"""Begins the names of the columns that hold the levels of a slice."""


def columns_of(evidence: AnyEvidence) -> dict[str, npt.NDArray[Any]]:
    """Columns of shape (n,) by name."""
    champion = evidence.champion
    found: dict[str, npt.NDArray[Any] | None]
    if isinstance(evidence, Evidence):
        found = {"label": evidence.labels, "probability": evidence.probabilities}
        if isinstance(champion, Champion):
            found["champion_probability"] = champion.probabilities
    else:
        found = {"label": evidence.labels, "point": evidence.points, "spread": evidence.spreads}
        if isinstance(champion, RegressionChampion):
            found["champion_point"] = champion.points
            found["champion_spread"] = champion.spreads
    found |= {f"{SLICE}{name}": levels for name, levels in evidence.slices.items()}
    return {name: column for name, column in found.items() if column is not None}


def notes_of(evidence: AnyEvidence) -> dict[str, Any]:
    """All that is not a column, as dicts, lists, text and plain numbers."""
    selection = asdict(evidence.selection)
    champion = _champion_notes(evidence.champion)
    if isinstance(evidence, Evidence):
        return {
            "task": "binary",
            "rule": asdict(evidence.rule),
            "threshold": evidence.threshold,
            "champion": champion,
            "selection": selection,
        }
    return {
        "task": "regression",
        "forecast": as_record(evidence.law, evidence.rule),
        "champion": champion,
        "selection": selection,
    }


def _champion_notes(
    champion: Champion | RegressionChampion | Incomparable | None,
) -> dict[str, Any] | None:
    match champion:
        case None:
            return None
        case Incomparable():
            return asdict(champion)
        case Champion():
            return {
                "version": champion.version,
                "overlap_rows": champion.overlap_rows,
                "threshold": champion.threshold,
            }
        case RegressionChampion():
            return {
                "version": champion.version,
                "overlap_rows": champion.overlap_rows,
                "law": champion.law.residuals.tolist(),
                "n_calibrate": champion.law.n_calibrate,
            }


def evidence_of(columns: Columns, notes: Mapping[str, Any]) -> AnyEvidence:
    """The evidence that `columns_of` and `notes_of` were made of."""
    selection = selection_of(notes["selection"])
    slices = {
        name.removeprefix(SLICE): levels.astype(str)
        for name, levels in columns.items()
        if name.startswith(SLICE)
    }
    if notes["task"] == "binary":
        return Evidence(
            labels=columns["label"],
            probabilities=columns["probability"],
            rule=ConformalRule(**notes["rule"]),
            champion=_classifier(columns, notes["champion"]),
            selection=selection,
            slices=slices,
            threshold=notes["threshold"],
        )
    return RegressionEvidence(
        labels=columns["label"],
        points=columns["point"],
        spreads=columns.get("spread"),
        rule=rule_of(notes["forecast"]),
        law=law_of(notes["forecast"]),
        champion=_forecaster(columns, notes["champion"]),
        selection=selection,
        slices=slices,
    )


def _classifier(
    columns: Columns, notes: Mapping[str, Any] | None
) -> Champion | Incomparable | None:
    if notes is None:
        return None
    if "reason" in notes:
        return Incomparable(**notes)
    return Champion(probabilities=np.asarray(columns["champion_probability"]), **notes)


def _forecaster(
    columns: Columns, notes: Mapping[str, Any] | None
) -> RegressionChampion | Incomparable | None:
    if notes is None:
        return None
    if "reason" in notes:
        return Incomparable(**notes)
    return RegressionChampion(
        version=notes["version"],
        points=np.asarray(columns["champion_point"]),
        spreads=columns.get("champion_spread"),
        law=law_of({"law": {"residuals": notes["law"], "n_calibrate": notes["n_calibrate"]}}),
        overlap_rows=notes["overlap_rows"],
    )
