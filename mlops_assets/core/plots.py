"""Pictures of a report as PNG bytes: reliability diagram, importance, confusion matrix.

Drawing only: every number comes in, none is computed here. Figures are built without pyplot, so
that no display and no global state is needed.
"""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops_assets.core.calibration import ReliabilityBins

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, RED, GREY = "#2563a8", "#b3392f", "#8a8f98"
LONGEST_NAME = 40
"""Characters of a column's name that leave room for its bar."""


def figure_of(width: float, height: float) -> "Figure":
    """A figure of so many inches, without pyplot."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=80, layout="constrained")


def png_of(figure: "Figure") -> bytes:
    """The figure as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def reliability_diagram(bins: ReliabilityBins, *, title: str, limit: float) -> bytes:
    """Observed share against mean probability, with simultaneous intervals and score histogram.

    Args:
        bins: the reliability bins.
        title: headline.
        limit: how far a bin may deviate; drawn as a band around the diagonal.
    """
    figure = figure_of(6, 6.4)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    mean, observed = bins.column("mean_probability"), bins.column("observed")
    reach = min(1.0, float(max(mean.max(), (mean + bins.column("high")).max())) * 1.05)
    line = np.array([0.0, 1.0])
    top.fill_between(line, line - limit, line + limit, color=GREY, alpha=0.2, lw=0,
                     label=f"within {limit:g}")  # fmt: skip
    top.plot(line, line, color=GREY, lw=1, label="perfect calibration")
    deviation = bins.column("deviation")
    errors = np.clip([deviation - bins.column("low"), bins.column("high") - deviation], 0, None)
    broken = np.abs(deviation) > limit
    for chosen, colour, name in (
        (~broken, BLUE, "bin, 95% interval"),
        (broken, RED, "bin outside"),
    ):
        if chosen.any():
            top.errorbar(mean[chosen], observed[chosen], yerr=errors[:, chosen], fmt="o", ms=5,
                         color=colour, capsize=2, lw=1.2, label=name)  # fmt: skip
    top.set(xlim=(0, reach), ylim=(0, reach), ylabel="observed share", title=title)
    top.legend(loc="upper left", frameon=False)
    lower, upper = bins.column("lower"), bins.column("upper")
    widths = np.maximum(upper - lower, 1e-3)
    bottom.bar(lower, bins.column("n") / widths / bins.n, widths, align="edge", color=BLUE,
               alpha=0.6)  # fmt: skip
    bottom.set(xlabel="predicted probability", ylabel="density")
    for axis in (top, bottom):
        axis.spines[["top", "right"]].set_visible(False)
    return png_of(figure)


def importance_chart(
    importance: Mapping[str, float], *, title: str, loss: str = "log loss", most: int = 20
) -> bytes:
    """Bars of the most important columns, largest on top; `loss` is what rises when shuffled."""
    chosen = list(importance.items())[:most][::-1]
    figure = figure_of(6, 0.28 * len(chosen) + 1.2)
    axis = figure.subplots()
    axis.barh(range(len(chosen)), [value for _, value in chosen], color=BLUE)
    axis.set_yticks(range(len(chosen)), [_short(name) for name, _ in chosen])
    axis.set(xlabel=f"rise of the {loss} when shuffled", title=title)
    axis.spines[["top", "right"]].set_visible(False)
    return png_of(figure)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def confusion_chart(counts: npt.NDArray[np.int64], *, title: str) -> bytes:
    """Confusion matrix with counts; `counts[truth, decision]`, shape (2, 2)."""
    figure = figure_of(4.2, 3.8)
    axis = figure.subplots()
    # A class without rows has no shares; it is drawn as zeros.
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for truth in (0, 1):
        for decision in (0, 1):
            share = shares[truth, decision]
            colour = "white" if share > 0.5 else "black"
            label = f"{counts[truth, decision]:,}\n{share:.1%}"
            axis.text(decision, truth, label, ha="center", va="center", color=colour)
    axis.set(xticks=(0, 1), yticks=(0, 1), xlabel="decided", ylabel="true", title=title)
    return png_of(figure)
