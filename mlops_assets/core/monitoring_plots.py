"""Pictures of monitors as PNG bytes: history over windows, distributions, what drifted most.

Drawing only, as in `plots`: every number comes in, none is computed here.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.core.plots import BLUE, GREY, RED, figure_of, png_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AMBER = "#c98a1b"
COLOURS = {"fine": BLUE, "stable": BLUE, "warning": AMBER, "critical": RED, "drifted": RED}
OTHERS = ("#2563a8", "#c98a1b", "#3d8a5f", "#7d4fa3", "#b3392f", "#5b6470")
LONGEST = 26


@dataclass(frozen=True, slots=True)
class Point:
    """A number of a window; `value` is None where there are no data.

    Args:
        day: start of the window.
        value: the number.
        low: lower end of its interval.
        high: upper end.
        outcome: what was said of it; None when nothing was judged.
    """

    day: dt.date
    value: float | None
    low: float | None = None
    high: float | None = None
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class Histogram:
    """Shares of a column by cell, in the reference and in the window.

    Args:
        name: the column.
        labels: names of the cells.
        reference: shares of the reference, shape (cells,).
        window: shares of the window, shape (cells,).
    """

    name: str
    labels: Sequence[str]
    reference: Sequence[float]
    window: Sequence[float]


def history(
    series: Mapping[str, Sequence[Point]],
    *,
    title: str,
    limits: Mapping[str, Sequence[float]],
) -> bytes:
    """One panel per metric: the number with its interval over time, coloured by what was said.

    Args:
        series: points by metric, in order of time.
        title: headline.
        limits: horizontal lines by metric.
    """
    figure = figure_of(8, 1.1 + 2.1 * max(1, len(series)))
    panels = np.atleast_1d(figure.subplots(max(1, len(series)), 1, sharex=True))
    for axis, (metric, points) in zip(panels, series.items(), strict=False):
        _panel(axis, points, metric, limits.get(metric, ()))
    if not series:
        panels[0].text(0.5, 0.5, "no data", ha="center", color=GREY)
    _dates(panels[-1])
    panels[0].set_title(title, loc="left")
    return png_of(figure)


def drift_picture(
    ratios: Mapping[str, Sequence[Point]],
    ranking: Mapping[str, float],
    histograms: Sequence[Histogram],
    *,
    title: str,
) -> bytes:
    """Drift over its floor by window, what matters most of it, and distributions.

    Args:
        ratios: PSI divided by the floor of the column, over time, for the columns that are shown.
        ranking: part of importance times drift, of those that drifted, largest first.
        histograms: of columns that drifted.
        title: headline.
    """
    shown = list(histograms)[:3]
    height = 3.4 + (2.6 if shown else 0)
    figure = figure_of(9, height)
    parts = figure.subfigures(2 if shown else 1, 1, height_ratios=(3, 2.4)[: 2 if shown else 1],
                              squeeze=False)  # fmt: skip
    top, right = parts[0][0].subplots(1, 2, width_ratios=(2.6, 1))
    for colour, (name, points) in zip(OTHERS, ratios.items(), strict=False):
        known = [point for point in points if point.value is not None]
        top.plot([p.day for p in known], [p.value for p in known], color=colour, lw=1.3, marker="o",
                 ms=2.5, label=_short(name))  # fmt: skip
    top.axhline(1, color=RED, lw=1, ls="--")
    top.set(ylabel="PSI / its floor", ylim=(0, None))
    top.set_title(title, loc="left")
    if ratios:
        top.set_ylim(0, top.get_ylim()[1] * 1.35)
        top.legend(loc="upper left", frameon=False, fontsize=7, ncols=2)
    else:
        top.text(0.5, 0.5, "no data", ha="center", transform=top.transAxes, color=GREY)
    _dates(top)
    names = list(ranking)[:8][::-1]
    right.barh(range(len(names)), [ranking[name] for name in names], color=RED)
    right.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=7)
    # One bar alone is no wall.
    right.set(
        xlabel="part of importance x drift", xlim=(0, 1), ylim=(-0.6, max(4, len(names)) - 0.4)
    )
    right.set_title("what drifted" if names else "nothing drifted", loc="left")
    if shown:
        for axis, found in zip(
            np.atleast_1d(parts[1][0].subplots(1, len(shown))), shown, strict=True
        ):
            _bars(axis, found)
    for axis in (top, right):
        axis.spines[["top", "right"]].set_visible(False)
    return png_of(figure)


def _panel(axis: "Axes", points: Sequence[Point], metric: str, limits: Sequence[float]) -> None:
    for outcome in dict.fromkeys(point.outcome for point in points if point.value is not None):
        own = [p for p in points if p.outcome == outcome and p.value is not None]
        values = np.array([p.value for p in own], dtype=np.float64)
        low = np.array([p.value if p.low is None else p.low for p in own], dtype=np.float64)
        high = np.array([p.value if p.high is None else p.high for p in own], dtype=np.float64)
        # An estimate may lie outside of its own interval: bars never point the wrong way.
        errors = np.clip([values - low, high - values], 0, None)
        colour = COLOURS.get(outcome or "", GREY)
        days: Any = [p.day for p in own]
        axis.errorbar(days, values, yerr=errors, fmt="o", ms=3.5, lw=1, capsize=1.5,
                      color=colour, label=outcome or "not judged")  # fmt: skip
    for point in points:
        if point.value is None:
            day: Any = np.datetime64(point.day, "h")
            axis.axvspan(day - 12, day + 12, color=GREY, alpha=0.15, lw=0)
    for limit in limits:
        axis.axhline(limit, color=RED, lw=1, ls="--")
    axis.set_ylabel(metric)
    axis.spines[["top", "right"]].set_visible(False)
    if any(point.value is not None for point in points):
        axis.legend(loc="lower right", bbox_to_anchor=(1, 0.97), frameon=False, fontsize=7, ncols=4)


def _bars(axis: "Axes", found: Histogram) -> None:
    places = np.arange(len(found.labels))
    axis.bar(places - 0.2, found.reference, 0.4, color=GREY, label="reference")
    axis.bar(places + 0.2, found.window, 0.4, color=RED, label="window")
    every = max(1, len(places) // 6)
    labels = [label if i % every == 0 else "" for i, label in enumerate(found.labels)]
    axis.set_xticks(places, labels, fontsize=6, rotation=45, ha="right")
    axis.set_title(_short(found.name), loc="left", fontsize=9)
    axis.set_ylabel("share of rows", fontsize=7)
    axis.tick_params(axis="y", labelsize=7)
    axis.legend(frameon=False, fontsize=6)
    axis.spines[["top", "right"]].set_visible(False)


def _dates(axis: "Axes") -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=9)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
