"""How a model card reads: the answer on top, what to look at first, and how numbers are written.

What a card holds is in `model_card`, the markup in `model_card.html`, the pictures in `card_plots`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import isfinite
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

from mlops_assets.core import templates
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.model_card import Coverage, Data, Gates, Lineage, ModelCard, Number
from mlops_assets.core.mondrian import GroupCoverage
from mlops_assets.core.slices import SliceReport, SliceRow
from mlops_assets.core.verdict import Verdict

if TYPE_CHECKING:
    import jinja2

NOT_AVAILABLE = "not available"
MOST_SLICES = 25
"""Slices that are listed, the flagged ones first; the others are counted."""
MOST_FEATURES = 15
"""Features that are listed, the most important first."""
_HASH_DIGITS = 12
_IS = {"failed": "failed", "inconclusive": "is inconclusive"}


def page(card: ModelCard) -> str:
    """The page of a card, as HTML."""
    return _template().render(
        card=card,
        answer=answer(card.gates),
        sections=_sections(card),
        warnings=_warnings(card),
        slices=_in_order(card.slices),
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether the version may be released, and in one sentence why or why not."""

    outcome: Literal["passed", "failed", "inconclusive"]
    headline: str
    why: str


def answer(gates: Gates | None) -> Answer:
    """The answer of the banner; without a verdict it is no.

    >>> answer(None).headline
    'May not be released'
    """
    if gates is None or not gates.verdicts:
        return Answer("inconclusive", "May not be released", "No gate has judged this version.")
    open_ = [*gates.of("failed"), *gates.of("inconclusive")]
    names = [*(verdict.gate for verdict in open_), *gates.missing]
    if not names:
        return Answer("passed", "May be released", "Every gate of the policy has passed.")
    told = [f"{v.gate} {_IS[v.outcome]}: {v.reason.rstrip('.')}" for v in open_]
    others = f" Not passed either: {', '.join(names[1:])}." if names[1:] else ""
    why = f"{(told or [f'{names[0]} has no verdict'])[0]}.{others}"
    if gates.of("failed"):
        return Answer("failed", "Must not be released", why)
    if gates.approvable and not gates.missing:
        return Answer("inconclusive", "Needs a named approver, with a reason", why)
    return Answer("inconclusive", "May not be released yet", why)


def _sections(card: ModelCard) -> dict[str, str]:
    """Title of each section that has something to say, by id, in order."""
    regression = card.intent.task == "regression"
    parts: dict[str, tuple[str, Sequence[Any]]] = {
        "intent": ("What it predicts, and for whom", [card.intent]),
        "gates": ("Gates", _fields(card.gates, "verdicts", "missing")),
        "comparison": ("Against the champion", _fields(card.comparison, "differences", "note")),
        "calibration": ("Calibration", [card.reliability, card.quantiles]),
        "performance": (
            "Errors of the forecast" if regression else "Discrimination",
            _fields(card.performance, "metrics", "roc", "precision_recall"),
        ),
        "coverage": ("Conformal coverage", [card.coverage]),
        "slices": ("Slices", _fields(card.slices, "rows")),
        "choice": ("How it was chosen", _fields(card.choice, "finalists", "calibration", "losses")),
        "features": ("Features", _fields(card.features, "importance")),
        "data": ("Data", _fields(card.data, *Data.__slots__)),
        "lineage": ("Lineage", _fields(card.lineage, *Lineage.__slots__)),
        "holdout": ("Use of the holdout", [card.holdout]),
        "limits": ("Limits and known gaps", card.limits),
    }
    return {name: title for name, (title, found) in parts.items() if any(map(_told, found))}


def _fields(part: object, *names: str) -> list[Any]:
    return [] if part is None else [getattr(part, name) for name in names]


def _told(value: Any) -> bool:
    return value is not None and (not hasattr(value, "__len__") or len(value) > 0)


def _warnings(card: ModelCard) -> tuple[tuple[str, str], ...]:
    """Section and sentence of what should be seen before an approval."""
    found = []
    if card.holdout and card.holdout.times > 1:
        found.append(("holdout", f"These holdout rows have judged {card.holdout.times:,} versions"))
    if card.slices and (flagged := sum(bool(row.flagged) for row in card.slices.rows)):
        told = f"{flagged} of {len(card.slices.judged)} judged slices are off beyond chance"
        found.append(("slices", told))
    if card.coverage and (off := sum(_misses(card.coverage, g) for g in card.coverage.groups)):
        found.append(("coverage", f"Coverage is surely off in {off} of the groups"))
    if card.lineage and (card.lineage.git_commit or "").endswith("+"):
        found.append(("lineage", "Built from a working tree with uncommitted changes"))
    return tuple(found)


def _misses(coverage: Coverage, group: GroupCoverage) -> bool:
    """Whether a group that was promised the coverage surely does not have it."""
    low, high = coverage.stated - coverage.tolerance, coverage.stated + coverage.tolerance
    return group.own_rule and (group.coverage.high < low or group.coverage.low > high)


def _in_order(report: SliceReport | None) -> dict[str, list[SliceRow]]:
    """Judged slices, the flagged ones first and of these the furthest off; and the small ones."""
    rows = report.rows if report else ()
    stated = (report and report.confidence) or 0.0

    def rank(row: SliceRow) -> tuple[bool, float, int]:
        off = {
            "deviation": abs(row.deviation.estimate.value) if row.deviation else 0.0,
            "coverage": abs(row.coverage.estimate.value - stated) if row.coverage else 0.0,
        }
        return not row.flagged, -max((off[name] for name in row.flagged), default=0.0), -row.n

    ranked = sorted(rows, key=rank)
    return {
        "judged": [row for row in ranked if not row.small],
        "small": [row for row in ranked if row.small],
    }


def number(value: Number, digits: int | None = None) -> str:
    """A number as the card writes it: by its size, or with so many digits after the point.

    >>> number(27233), number(0.91371), number(-41.268), number(None), number(float("nan"))
    ('27,233', '0.9137', '-41.27', 'not available', 'not available')
    >>> number(-0.00001), number(0.0), number(1234567.8)
    ('-1.0e-05', '0.0000', '1,234,568')
    """
    if value is None or not isfinite(value):
        return NOT_AVAILABLE
    size = abs(value)
    if isinstance(value, Integral):
        return f"{value:,}"
    if digits is None and 0 < size < 0.00005:
        return f"{value:.1e}"
    by_size = 4 if size < 10 else 2 if size < 1000 else 0
    # Adding 0.0 turns -0.0 into 0.0.
    return f"{value + 0.0:,.{by_size if digits is None else digits}f}"


def _signed(value: Number) -> str:
    """A number with its sign, for differences and deviations."""
    told = number(value)
    return told if told.startswith("-") or told == NOT_AVAILABLE else f"+{told}"


def _plain(value: float) -> str:
    """A number that somebody chose, such as a limit, as it was written."""
    return f"{value:,.6g}"


def _percent(value: Number) -> str:
    return NOT_AVAILABLE if value is None or not isfinite(value) else f"{value:.1%}"


def _short(text: str) -> str:
    return text if len(text) <= _HASH_DIGITS + 4 else f"{text[:_HASH_DIGITS]}…"


def _limits(verdict: Verdict) -> tuple[float, ...]:
    """The limits of a gate on the scale of its estimate: two if it is about a stated coverage."""
    stated = dict(verdict.details).get("stated_coverage")
    if isinstance(stated, float):
        return stated - verdict.threshold, stated + verdict.threshold
    return (verdict.threshold,)


def _reach(estimates: Sequence[Estimate], mark: float) -> tuple[float, float]:
    """A scale that a whole table shares, with the mark in its middle."""
    ends = [abs(end - mark) for e in estimates for end in (e.low, e.high) if isfinite(end)]
    reach = max(ends, default=0.0) or 1.0
    return mark - reach, mark + reach


@cache
def _template() -> "jinja2.Template":
    """The template, which is a file of this package."""
    from mlops_assets.core import card_plots

    environment = templates.environment()
    environment.filters |= {
        "number": number, "signed": _signed, "plain": _plain, "percent": _percent, "short": _short,
    }  # fmt: skip
    environment.globals |= {
        "plots": card_plots, "limits_of": _limits, "reach": _reach, "misses": _misses,
        "NOT_AVAILABLE": NOT_AVAILABLE, "MOST_SLICES": MOST_SLICES, "MOST_FEATURES": MOST_FEATURES,
    }  # fmt: skip
    return environment.get_template("model_card.html")
