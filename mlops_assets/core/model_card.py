"""What a model card says about one model version, to a reviewer with five minutes for it.

Only what a card holds belongs here: values, in the order of the page. Where they come from is not
known, and nothing is computed. How the page reads is in `card_page` and its template
`model_card.html`, how its pictures look in `card_plots`. A part that is None or empty is left out
of the page; a number that is None or NaN is shown as "not available".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isnan
from typing import Literal

from mlops_assets.core.calibration import ReliabilityBins
from mlops_assets.core.comparison import MetricDifference
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.mondrian import GroupCoverage
from mlops_assets.core.regression import QuantileCalibration
from mlops_assets.core.selection import Fold, Selection
from mlops_assets.core.slices import SliceReport
from mlops_assets.core.verdict import Verdict

Point = tuple[float, float]
Number = float | int | None


@dataclass(frozen=True, slots=True)
class Intent:
    """What the model predicts, for which rows, and who answers for it.

    `threshold` is the probability from which on the positive class is decided.
    """

    description: str
    owners: tuple[str, ...]
    task: Literal["binary", "multiclass", "regression"]
    label: str
    rows: str
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Gates:
    """The verdicts on this version.

    `rules` says in words what each gate demands, by name. `missing` are gates of the policy that
    have no verdict: they count as not passed. `approvable` tells whether the policy lets a named
    approver release what is inconclusive.
    """

    verdicts: tuple[Verdict, ...]
    rules: Mapping[str, str]
    missing: tuple[str, ...] = ()
    approvable: bool = False

    def of(self, outcome: str) -> tuple[Verdict, ...]:
        """The verdicts with this outcome."""
        return tuple(verdict for verdict in self.verdicts if verdict.outcome == outcome)


@dataclass(frozen=True, slots=True)
class Comparison:
    """This version against the champion on the same rows; `note` says why not, or what to know."""

    champion: str
    differences: tuple[MetricDifference, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Reliability:
    """Calibration of probabilities; `score_counts` are rows by score, in equal parts of [0, 1]."""

    bins: ReliabilityBins
    limit: float
    ece: Estimate
    ece_limit: float
    score_counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class QuantileReliability:
    """Calibration of quantiles; `pit_counts` are rows by PIT value, in equal parts of [0, 1]."""

    calibration: QuantileCalibration
    limit: float
    qce: Estimate
    qce_limit: float
    pit_counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Performance:
    """How well the model tells rows apart, or how large its errors are.

    `roc` are (false, true positive rate), `precision_recall` are (recall, precision); points of any
    number, of which the drawing keeps enough. `..._at` is the point of the decision threshold.
    `unit` is that of a regression's errors.
    """

    metrics: Mapping[str, Number | Estimate]
    n: int | None = None
    base_rate: float | None = None
    roc: tuple[Point, ...] = ()
    precision_recall: tuple[Point, ...] = ()
    roc_at: Point | None = None
    precision_recall_at: Point | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often the conformal sets or intervals hold the truth, and how large they are."""

    stated: float
    tolerance: float
    estimate: Estimate
    n_conformalize: int
    size: Estimate | None = None
    kind: Literal["sets", "intervals"] = "sets"
    groups: tuple[GroupCoverage, ...] = ()
    grouped_by: str = "group"
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """How estimator and calibration were chosen, without the holdout.

    `losses` are the cross-fitted losses by calibration, of which `calibration` was taken.
    """

    selection: Selection | None = None
    loss: str = "log loss"
    calibration: str = ""
    losses: Mapping[str, Number] | None = None

    @property
    def finalists(self) -> tuple[Fold, ...]:
        """The last fold of every estimator, best first."""
        folds = self.selection.folds if self.selection else ()
        last = max((fold.number for fold in folds), default=0)
        final = (fold for fold in folds if fold.number == last)
        return tuple(sorted(final, key=lambda fold: fold.validation.loss))


@dataclass(frozen=True, slots=True)
class Features:
    """How much each column matters; `measure` says in what, `rows` on how many rows."""

    importance: Mapping[str, Number]
    measure: str = "rise of the log loss when shuffled"
    rows: int | None = None

    @property
    def ranked(self) -> tuple[tuple[str, Number], ...]:
        """Name and importance, largest first; unknown ones last."""
        return tuple(
            sorted(
                self.importance.items(),
                key=lambda item: inf if item[1] is None or isnan(item[1]) else -item[1],
            )
        )


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the data by time; `label_mean` is the label rate, or the mean of a target."""

    name: str
    days: str
    rows: int | None
    label_mean: float | None


@dataclass(frozen=True, slots=True)
class Data:
    """What the version has learned from; `sources` are fingerprints by name."""

    windows: tuple[Window, ...] = ()
    snapshot: str | None = None
    recipe: str | None = None
    feature_service: str | None = None
    feature_service_digest: str | None = None
    sources: Mapping[str, str] | None = None
    purged: int | None = None


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where the version comes from; a `git_commit` that ends in + had uncommitted changes."""

    git_commit: str | None = None
    dagster_run: str | None = None
    mlflow_run: str | None = None
    versions: Mapping[str, str] | None = None
    addresses: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class HoldoutUse:
    """How many versions of this model name these holdout rows have judged, this one included."""

    times: int
    versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelCard:
    """All that a card says, in the order of the page.

    `made_at` is text, so that a card of equal content has equal bytes. `performance` is for either
    task; of `reliability` and `quantiles` a card has one.
    """

    model: str
    version: str
    made_at: str
    intent: Intent
    aliases: tuple[str, ...] = ()
    gates: Gates | None = None
    comparison: Comparison | None = None
    reliability: Reliability | None = None
    quantiles: QuantileReliability | None = None
    performance: Performance | None = None
    coverage: Coverage | None = None
    slices: SliceReport | None = None
    choice: Choice | None = None
    features: Features | None = None
    data: Data | None = None
    lineage: Lineage | None = None
    holdout: HoldoutUse | None = None
    limits: tuple[str, ...] = ()


def render(card: ModelCard) -> str:
    """The page: one HTML file without scripts, and without a reference to anything outside.

    Args:
        card: what the page says; equal cards give equal bytes.
    """
    from mlops_assets.core.card_page import page

    return page(card)
