"""Pictures of a model card as inline SVG: reliability, ROC, precision and recall, quantiles, PIT.

Drawing only: what is drawn comes in. Colours are CSS variables of the page, so that one picture
serves light, dark and print; text is text, in the font of the page. Equal numbers give equal bytes,
and the ids of a picture begin with its name, so that several can stand in one page. The pictures of
MLflow and Dagster, which are PNG files, are in `plots`.
"""

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.core.calibration import ReliabilityBins
from mlops_assets.core.intervals import Flags, Floats
from mlops_assets.core.regression import QuantileCalibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[float, float]

# Colours that stand for a variable of the page until the picture is drawn.
INK, MUTED, LINE, ACCENT, BAD = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", ACCENT: "accent", BAD: "failed"}
MOST_POINTS = 200
"""Points of a curve that are drawn."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "model card",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "figure.facecolor": "none",
}


def reliability(
    bins: ReliabilityBins, *, limit: float, counts: Sequence[int] = (), name: str = "reliability"
) -> str:
    """Observed share against mean probability; below it, how often which score is given.

    Args:
        bins: the bins, whose intervals hold for all of them at once.
        limit: how far a bin may deviate.
        counts: rows by score, in bins of equal width over [0, 1]; none leaves the histogram out.
        name: beginning of the ids.
    """
    mean, observed = bins.column("mean_probability"), bins.column("observed")
    deviation, low, high = (bins.column(c) for c in ("deviation", "low", "high"))
    broken = np.abs(deviation) > limit
    worst = deviation[np.argmax(np.abs(deviation))]
    with style():
        figure = new_figure(5.6 if counts else 4.6)
        top, *rest = figure.subplots(
            1 + bool(counts), sharex=True, squeeze=False, height_ratios=(4, 1)[: 1 + bool(counts)]
        )[:, 0]
        end = min(1.0, float(max(mean.max(), observed.max(), (mean + high).max())) * 1.05)
        _diagonal(top, limit)
        _whiskers(top, mean, observed, (deviation - low, high - deviation), broken)
        top.set(xlim=(0, end), ylim=(0, end), ylabel="observed share")
        top.legend(loc="upper left")
        if counts:
            _histogram(rest[0], counts)
        figure.axes[-1].set_xlabel("predicted probability")
        return inline(
            figure,
            name,
            "Reliability diagram",
            f"Observed share against predicted probability in {len(mean)} bins: "
            f"{len(mean) - int(broken.sum())} within {limit:g} of each other, "
            f"the worst off by {worst:+.4f}.",
        )


def roc(points: Sequence[Point], *, at: Point | None = None, name: str = "roc") -> str:
    """True against false positive rate; `at` is the point of the decision threshold."""
    with style():
        figure = new_figure(4.6)
        axis = figure.subplots()
        axis.plot([0, 1], [0, 1], color=MUTED, lw=1, dashes=(4, 3), label="chance")
        _curve(axis, points, at)
        axis.set(xlabel="false positive rate", ylabel="true positive rate")
        axis.legend(loc="lower right")
        return inline(
            figure, name, "ROC curve", _told("True against false positive rate", points, at)
        )


def precision_recall(
    points: Sequence[Point],
    *,
    base_rate: float | None = None,
    at: Point | None = None,
    name: str = "precision-recall",
) -> str:
    """Precision against recall; a model that knows nothing has the base rate as precision."""
    with style():
        figure = new_figure(4.6)
        axis = figure.subplots()
        if base_rate is not None and np.isfinite(base_rate):
            axis.axhline(base_rate, color=MUTED, lw=1, dashes=(4, 3),
                         label=f"base rate {base_rate:.3f}")  # fmt: skip
        _curve(axis, points, at)
        axis.set(xlabel="recall", ylabel="precision")
        axis.legend(loc="upper right")
        return inline(
            figure, name, "Precision and recall", _told("Precision against recall", points, at)
        )


def quantiles(calibration: QuantileCalibration, *, limit: float, name: str = "quantiles") -> str:
    """Share of rows below each predicted quantile; below it, how far that is from the level."""
    level, observed = calibration.column("level"), calibration.column("observed")
    deviation, low, high = (calibration.column(c) for c in ("deviation", "low", "high"))
    broken = np.abs(deviation) > limit
    worst = int(np.argmax(np.abs(deviation)))
    with style():
        figure = new_figure(5.8)
        top, bottom = figure.subplots(2, sharex=True, height_ratios=(3, 2))
        _diagonal(top, limit)
        errors = deviation - low, high - deviation
        _whiskers(top, level, observed, errors, broken)
        top.set(xlim=(0, 1), ylim=(0, 1), ylabel="observed share")
        bottom.axhspan(-limit, limit, color=MUTED, alpha=0.15, lw=0)
        bottom.axhline(0, color=MUTED, lw=1)
        bottom.fill_between(level, low, high, color=ACCENT, alpha=0.2, lw=0)
        _whiskers(bottom, level, deviation, errors, broken)
        bottom.set(xlabel="level of the quantile", ylabel="deviation")
        top.legend(loc="upper left")
        return inline(
            figure,
            name,
            "Calibration of the quantiles",
            f"Share of rows below the predicted quantile at {len(level)} levels: "
            f"{len(level) - int(broken.sum())} within {limit:g} of the level, "
            f"the worst off by {deviation[worst]:+.4f} at level {level[worst]:g}.",
        )


def pit_histogram(counts: Sequence[int], *, n_calibrate: int | None, name: str = "pit") -> str:
    """Where in its predicted distribution each row fell: flat when the distributions are right.

    The band is what a right model's bars stay in with probability 0.95, all at once (Bonferroni);
    the rows that the distribution was calibrated on count, being a sample too.

    Args:
        counts: rows by probability integral transform, in bins of equal width over [0, 1].
        n_calibrate: rows that the distribution was calibrated on, None if on none.
        name: beginning of the ids.
    """
    from scipy.special import ndtri

    n, share = sum(counts), 1 / len(counts)
    variance = share * (1 - share) * (1 / max(n, 1) + (1 / n_calibrate if n_calibrate else 0))
    reach = float(-ndtri(0.025 * share) * len(counts) * variance**0.5)
    with style():
        figure = new_figure(3.4)
        axis = figure.subplots()
        axis.axhspan(1 - reach, 1 + reach, color=MUTED, alpha=0.15, lw=0, label="chance")
        axis.axhline(1, color=MUTED, lw=1)
        density = _histogram(axis, counts)
        axis.set(xlabel="probability integral transform", ylim=(0, max(1.4, density.max() * 1.15)))
        axis.legend(loc="upper right")
        outside = int((np.abs(density - 1) > reach).sum())
        return inline(
            figure,
            name,
            "PIT histogram",
            f"{n:,} rows in {len(counts)} bins; {outside} bins are higher or lower than chance "
            "explains.",
        )


def whisker(
    value: float | None,
    low: float | None,
    high: float | None,
    *,
    marks: Sequence[float] = (),
    reach: Point | None = None,
) -> str:
    """An estimate with its interval and some marks, as a picture of one line of a table.

    It has no text, because the numbers stand beside it. It is empty when a number is missing.

    Args:
        value: the estimate.
        low: lower end of its interval.
        high: upper end.
        marks: what the estimate is held against, drawn as lines across.
        reach: both ends of a scale that is shared by a table; else the picture has its own.
    """
    if value is None or low is None or high is None or not np.isfinite([value, low, high]).all():
        return ""
    start, end = reach or (min(low, value, *marks), max(high, value, *marks))

    def place(number: float) -> str:
        share = (number - start) / (end - start) if end > start else 0.5
        return f"{min(max(5 + 90 * share, 0.0), 100.0):.1f}%"

    lines = "".join(
        f'<line class="mark" x1="{place(mark)}" x2="{place(mark)}" y1="0" y2="16"/>'
        for mark in marks
    )
    return (
        f'<svg class="whisker" aria-hidden="true" height="16">{lines}'
        f'<line class="reach" x1="{place(low)}" x2="{place(high)}" y1="8" y2="8"/>'
        f'<circle cx="{place(value)}" cy="8" r="3.5"/></svg>'
    )


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> Floats:
    """At most `most` of the points, evenly spread along the curve, both ends among them.

    >>> thinned([(0, 0), (0.1, 0), (0.5, 0), (1, 0)], most=3).tolist()
    [[0.0, 0.0], [0.5, 0.0], [1.0, 0.0]]
    """
    each = np.array(points, dtype=np.float64)
    if len(each) <= most:
        return each
    along = np.r_[0.0, np.cumsum(np.abs(np.diff(each, axis=0)).sum(axis=1))]
    wanted = np.searchsorted(along, np.linspace(0, along[-1], most), "right") - 1
    wanted[0] = 0
    return np.asarray(each[np.unique(wanted)])


def style() -> AbstractContextManager[None]:
    """The style of all pictures of a page, for as long as they are drawn."""
    import matplotlib

    return matplotlib.rc_context(_STYLE)


def new_figure(height: float) -> "Figure":
    """A figure as wide as a column of a page, and so many inches high."""
    from matplotlib.figure import Figure

    return Figure(figsize=(5, height), layout="constrained")


def _diagonal(axis: "Axes", limit: float) -> None:
    line = np.array([0.0, 1.0])
    axis.fill_between(line, line - limit, line + limit, color=MUTED, alpha=0.15, lw=0,
                      label=f"limit: within {limit:g}")  # fmt: skip
    axis.plot(line, line, color=MUTED, lw=1)


def _whiskers(
    axis: "Axes", x: Floats, y: Floats, errors: tuple[Floats, Floats], broken: Flags
) -> None:
    """Points with intervals; those beyond the limit have another colour and another shape."""
    spread = np.clip(errors, 0, None)
    for chosen, colour, shape, label in (
        (~broken, ACCENT, "o", "within the limit"),
        (broken, BAD, "D", "beyond the limit"),
    ):
        if chosen.any():
            axis.errorbar(x[chosen], y[chosen], yerr=spread[:, chosen], fmt=shape, ms=4.5,
                          color=colour, capsize=2, lw=1.2, label=label)  # fmt: skip


def _histogram(axis: "Axes", counts: Sequence[int]) -> Floats:
    """Density of rows over [0, 1]."""
    each = np.array(counts, dtype=np.float64)
    density = each * len(each) / max(each.sum(), 1.0)
    width = 1 / len(each)
    axis.bar(np.arange(len(each)) * width, density, width * 0.92, align="edge", color=ACCENT,
             alpha=0.75)  # fmt: skip
    axis.set(ylabel="density")
    axis.grid(axis="x", visible=False)
    return density


def _curve(axis: "Axes", points: Sequence[Point], at: Point | None) -> None:
    x, y = thinned(points).T
    axis.plot(x, y, color=ACCENT, lw=2, label="this version")
    if at is not None and np.isfinite(at).all():
        axis.plot(*at, "s", ms=7, color=INK, label="at the threshold")
    axis.set(xlim=(0, 1), ylim=(0, 1.01))


def _told(what: str, points: Sequence[Point], at: Point | None) -> str:
    found = f"{what}, {len(points):,} points"
    if at is None or not np.isfinite(at).all():
        return f"{found}."
    return f"{found}; {at[1]:.3f} at {at[0]:.3f} by the threshold."


def inline(figure: "Figure", name: str, title: str, alt: str) -> str:
    """The figure as an element of a page: no prolog, no address, no colour, font or id of its own.

    Args:
        figure: the figure; its style is still in force.
        name: beginning of the ids.
        title: name of the picture.
        alt: what it shows, for who cannot see it.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", buffer.getvalue().decode(),
                  flags=re.DOTALL)  # fmt: skip
    size, body = re.findall(r'<svg [^>]*viewBox="([^"]*)"[^>]*>(.*)</svg>', text, re.DOTALL)[0]
    body = re.sub(r' ?font-family: [^;"]*;?', "", body).replace("xlink:href", "href")
    body = re.sub(r'\bid="|\bhref="#|\burl\(#', rf"\g<0>{name}-", body)
    body = re.sub(r'\b(?:d|x|y|transform)="[^"]*"', _rounded, re.sub(r"\s*\n\s*", "\n", body))
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    return (
        f'<svg viewBox="{size}" role="img" aria-labelledby="{name}-title {name}-alt">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-alt">{escape(alt)}</desc>{body}</svg>'
    )


def _rounded(coordinates: re.Match[str]) -> str:
    return re.sub(r"(\.\d\d)\d+", r"\1", coordinates[0])
