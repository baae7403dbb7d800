"""What the gates say of a candidate of a replay, next to the champion of that day.

The platform's own gates on the platform's own evidence; only who is compared comes from the replay.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlops_assets.core import fingerprint, splits, tasks
from mlops_assets.core.evidence import Champion
from mlops_assets.core.evidence_record import columns_of, notes_of
from mlops_assets.core.levels import levels
from mlops_assets.core.regression_evidence import RegressionChampion
from mlops_assets.core.verdict import Outcome, Verdict
from mlops_assets.replay.candidates import Candidate
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.training_sets import TrainingSet


@dataclass(frozen=True)
class Judged:
    """The verdicts on a candidate.

    Args:
        verdicts: of every gate, by name.
        digest: digest of the scores that they were given on.
        metrics: the numbers of the report.
        against: version of the champion that was compared; None without one.
    """

    verdicts: Mapping[str, Verdict]
    digest: str
    metrics: Mapping[str, float]
    against: str | None

    @property
    def outcome(self) -> Outcome:
        """`failed` when any gate failed, `passed` when all passed, else `inconclusive`."""
        found = {verdict.outcome for verdict in self.verdicts.values()}
        if "failed" in found:
            return "failed"
        return "passed" if found == {"passed"} else "inconclusive"

    def named(self, outcome: Outcome) -> tuple[str, ...]:
        """The gates with an outcome, by name."""
        return tuple(
            sorted(g for g, verdict in self.verdicts.items() if verdict.outcome == outcome)
        )

    @property
    def why(self) -> str:
        """Why it did not pass; of a candidate that did, that it did."""
        if self.outcome == "passed":
            return f"all {len(self.verdicts)} gates passed"
        return "; ".join(
            f"{name}: {self.verdicts[name].reason}" for name in self.named(self.outcome)
        )

    @property
    def evidence(self) -> dict[str, Any]:
        """The evidence as the ledger keeps it."""
        kept = ("outcome", "estimate", "low", "high", "n", "threshold", "reason")
        return {
            "digest": self.digest,
            "verdicts": {
                name: {part: getattr(verdict, part) for part in kept}
                for name, verdict in sorted(self.verdicts.items())
            },
            "metrics": dict(self.metrics),
        }


def judge(
    spec: ModelSpec, candidate: Candidate, data: TrainingSet, champion: Candidate | None
) -> Judged:
    """Let every gate of the spec judge a candidate.

    Args:
        spec: the model.
        candidate: the candidate.
        data: its training set, with the holdout.
        champion: the champion of the day; None when there is none.
    """
    holdout = data.rows("holdout")
    part = data.part("holdout")
    slices = {
        one.name: levels(part[one.of].to_pandas().to_numpy(), one.edges) for one in spec.slices
    }
    against = None if champion is None else _against(spec, champion, data)
    evidence = tasks.judged(candidate.fitted, holdout, against, slices, spec.threshold)
    scores = {name: column.tolist() for name, column in columns_of(evidence).items()}
    return Judged(
        {name: gate(evidence, spec.gates) for name, gate in tasks.GATES[spec.task].items()},
        fingerprint.of_values(data.snapshot, scores, notes_of(evidence)),
        evidence.metrics(spec.gates),
        champion.version if champion else None,
    )


def _against(
    spec: ModelSpec, champion: Candidate, data: TrainingSet
) -> Champion | RegressionChampion:
    """What the champion says of the holdout, and how much of it it has learned from."""
    holdout = data.rows("holdout")
    seen = np.zeros(holdout.times.shape, dtype=bool)
    for name, window in champion.windows.items():
        if name in splits.LEARNED:
            seen |= splits.in_window(holdout.times, window)
    return tasks.champion(
        champion.fitted, champion.version, holdout.inputs, int(seen.sum()), spec.threshold
    )
