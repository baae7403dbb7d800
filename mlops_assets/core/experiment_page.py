"""How the page of an experiment reads: the answer on top, then the numbers, then the pictures.

What an experiment says is decided in `experiment_analysis`, drawn in `experiment_plots`; the markup
is in `experiment_page.html`. One file that needs nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING

from mlops_assets.core import templates
from mlops_assets.core.experiment_analysis import Aim, Analysis, Comparison

if TYPE_CHECKING:
    import jinja2


@dataclass(frozen=True, slots=True)
class ArmFacts:
    """An arm as the page tells it; the share in percent."""

    name: str
    version: str
    share: float
    entities: int
    predictions: int


@dataclass(frozen=True, slots=True)
class ExperimentCard:
    """What the page shows.

    Args:
        model: the model.
        id: of the experiment.
        state: running or stopped.
        facts: who, when and how much, by label.
        arms: the arms, the first is what the others are compared with.
        aims: the metrics.
        analysis: what it says.
        notes: what else should be known.
    """

    model: str
    id: str
    state: str
    facts: Mapping[str, str]
    arms: tuple[ArmFacts, ...]
    aims: tuple[Aim, ...]
    analysis: Analysis
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """Pictures of an arm in a metric."""

    title: str
    over_time: str
    by_slice: str = field(default="")


def page(card: ExperimentCard) -> str:
    """The page of an experiment, as HTML."""
    return _template().render(card=card, answer=answer(card.analysis), pictures=_pictures(card))


def answer(analysis: Analysis) -> tuple[str, str]:
    """Outcome for the colour of the banner, and the sentence in it.

    >>> answer(Analysis(0.0, True, ()))[0]
    'failed'
    """
    if analysis.broken:
        return "failed", "Nothing is decided: the split is broken"
    found = [one for one in analysis.comparisons if one.word in ("better", "worse")]
    if not found:
        silent = all(one.word == "no data" for one in analysis.comparisons)
        same = [one for one in analysis.comparisons if one.word == "no difference"]
        if same and len(same) == len(analysis.comparisons):
            return "passed", "No difference that matters"
        return "inconclusive", "No data yet" if silent else "Not decided yet"
    told = "; ".join(f"{one.arm} is {one.word} in {one.metric}" for one in found)
    outcome = "failed" if any(one.word == "worse" for one in found) else "passed"
    return outcome, told


def _pictures(card: ExperimentCard) -> list[Picture]:
    from mlops_assets.core.experiment_plots import forest, sequence

    aims = {aim.name: aim for aim in card.aims}
    found = []
    for at, one in enumerate(card.analysis.comparisons):
        aim = aims[one.metric]
        unit = " ".join(part for part in (aim.unit, "per entity") if part)
        title = f"{one.metric}: {one.arm} minus {one.against}"
        steps = card.analysis.history.get((one.metric, one.arm), ())
        levels = [
            other
            for other in card.analysis.slices
            if (other.metric, other.arm) == (one.metric, one.arm)
        ]
        drawn = sequence(
            steps, title=f"{title}, over time", unit=unit, least=aim.least, name=f"time-{at}"
        )
        by_slice = ""
        if levels:
            by_slice = forest(
                [one, *levels], title=f"{title}, by slice", unit=unit, name=f"slices-{at}"
            )
        found.append(Picture(title, drawn, by_slice))
    return found


def _number(value: float) -> str:
    return f"{value:,.4g}" if isfinite(value) else "?"


def _signed(value: float) -> str:
    return f"{value:+,.4g}" if isfinite(value) else "?"


def _outcome(one: Comparison) -> str:
    """The verdict as the colours of the page know it."""
    words = {"better": "passed", "no difference": "passed", "worse": "failed"}
    return words.get(one.word, "failed" if one.word == "broken split" else "inconclusive")


@cache
def _template() -> "jinja2.Template":
    """The template, which is a file of this package."""
    environment = templates.environment()
    environment.filters |= {"number": _number, "signed": _signed, "outcome": _outcome}
    return environment.get_template("experiment_page.html")
