"""Pictures of an experiment as inline SVG: bounds over time, and differences by level of a slice.

Drawing only: what is drawn comes in. Colours are variables of the page, as in `card_plots`.
"""

from collections.abc import Sequence
from datetime import datetime
from math import isfinite

import numpy as np

from mlops_assets.core.card_plots import (
    ACCENT,
    BAD,
    INK,
    MUTED,
    inline,
    new_figure,
    style,
)
from mlops_assets.core.experiment_analysis import Comparison

Step = tuple[datetime, float, float, float]
LONGEST = 28
MOST_ROWS = 40
"""Levels that are drawn, those with most entities first."""

_COLOURS = {"worse": BAD, "better": ACCENT}


def sequence(
    steps: Sequence[Step], *, title: str, unit: str, least: float | None = None, name: str
) -> str:
    """A difference and its bounds over time; before there are bounds nothing is drawn.

    Args:
        steps: moment, difference, lower and upper bound, in order of time.
        title: which arm in which metric.
        unit: unit of the difference.
        least: differences within this do not matter; drawn as a band.
        name: beginning of the ids.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    known = [step for step in steps if isfinite(step[2]) and isfinite(step[3])]
    with style():
        figure = new_figure(3.2)
        axis = figure.subplots()
        axis.axhline(0, color=INK, lw=1)
        if least is not None:
            axis.axhspan(-least, least, color=MUTED, alpha=0.15, lw=0, label="does not matter")
        if known:
            at = np.array([date2num(step[0]) for step in known])
            difference, low, high = (np.array([step[i] for step in known]) for i in (1, 2, 3))
            axis.fill_between(at, low, high, color=ACCENT, alpha=0.2, lw=0, label="surely within")
            axis.plot(at, low, color=ACCENT, lw=0.8)
            axis.plot(at, high, color=ACCENT, lw=0.8)
            axis.plot(at, difference, color=ACCENT, lw=2, marker="o", ms=2, label="difference")
            axis.legend(loc="best")
            locator = AutoDateLocator(minticks=3, maxticks=6)
            axis.xaxis.set_major_locator(locator)
            axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
            told = f"{difference[-1]:+.4g}, surely {low[-1]:+.4g} to {high[-1]:+.4g}"
        else:
            axis.set(xticks=[], yticks=[])
            axis.text(0.5, 0.6, "no bounds yet", ha="center", transform=axis.transAxes, color=MUTED)
            told = "no bounds yet"
        axis.set_ylabel(f"difference ({unit})" if unit else "difference")
        alt = f"{title}: at {len(known)} of {len(steps)} looks there are bounds; now {told}."
        return inline(figure, name, title, alt)


def forest(found: Sequence[Comparison], *, title: str, unit: str, name: str) -> str:
    """The difference with its bounds for all entities and by level of each slice.

    Args:
        found: the comparison of all entities first, then those of levels.
        title: which arm in which metric.
        unit: unit of the difference.
        name: beginning of the ids.
    """
    ranked = sorted(found[1:], key=lambda one: -(one.theirs.sums.n + one.first.sums.n))
    kept = {id(one) for one in ranked[:MOST_ROWS]}
    rows = [*found[:1], *(one for one in found[1:] if id(one) in kept)]
    drawn = [(i, one) for i, one in enumerate(rows) if isfinite(one.low) and isfinite(one.high)]
    with style():
        figure = new_figure(1.0 + 0.28 * max(3, len(rows)))
        axis = figure.subplots()
        axis.axvline(0, color=INK, lw=1)
        for i, one in drawn:
            colour = _COLOURS.get(one.word, MUTED)
            axis.plot([one.low, one.high], [i, i], color=colour, lw=2.4 if i == 0 else 1.4)
            shape = "D" if one.word == "worse" else "o"
            axis.plot([one.difference], [i], shape, color=colour, ms=6 if i == 0 else 4)
        axis.set_yticks(range(len(rows)), [_label(one) for one in rows])
        axis.set_ylim(max(3, len(rows)) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel(f"difference ({unit})" if unit else "difference")
        said = sum(one.word in ("better", "worse") for one in rows[1:])
        alt = f"{title}: {len(rows) - 1} levels of slices, {said} of which surely differ."
        return inline(figure, name, title, alt)


def _label(one: Comparison) -> str:
    if not one.slice:
        return "all"
    told = f"{one.slice} = {one.level}"
    return told if len(told) <= LONGEST else f"{told[: LONGEST - 1]}…"
