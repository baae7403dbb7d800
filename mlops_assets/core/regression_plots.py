"""Pictures of a regression's report as PNG bytes: quantiles, PIT histogram, predicted and observed.

The counterpart of `plots.py` for models of numbers, in the same colours and built as there, without
pyplot. Estimates come in and none is made here, but for what chance alone does to a histogram and
the quartiles of a crowd of points. The pictures of the card, which are SVG, are in `card_plots`.
"""

from collections.abc import Sequence

import numpy as np

from mlops_assets.core.intervals import Floats
from mlops_assets.core.plots import BLUE, GREY, RED, figure_of, png_of
from mlops_assets.core.regression import QuantileCalibration

GROUPS = 20
"""Most groups of rows with similar forecasts."""
LEAST_ROWS = 20
"""Rows of a group of which quantiles are drawn."""


def quantile_diagram(calibration: QuantileCalibration, *, title: str, limit: float) -> bytes:
    """Share of rows below each predicted quantile, and how far it is from the level.

    Args:
        calibration: the shares, whose band holds for all levels at once.
        title: headline.
        limit: how far a share may be off; drawn as a grey band.
    """
    columns = (calibration.column(name) for name in ("level", "deviation", "low", "high"))
    level, deviation, low, high = columns
    broken = np.abs(deviation) > limit
    figure = figure_of(6, 6.4)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    line = np.array([0.0, 1.0])
    top.plot(line, line, color=GREY, lw=1, label="perfect calibration")
    bottom.axhline(0, color=GREY, lw=1)
    for axis, base, centre in ((top, level, line), (bottom, 0 * level, 0 * line)):
        axis.fill_between(line, centre - limit, centre + limit, color=GREY, alpha=0.2, lw=0,
                          label=f"within {limit:g}")  # fmt: skip
        axis.fill_between(level, base + low, base + high, color=BLUE, alpha=0.25, lw=0,
                          label=f"{calibration.level:.0%} band of all levels")  # fmt: skip
        for chosen, colour, name in ((~broken, BLUE, "level"), (broken, RED, "level outside")):
            if chosen.any():
                axis.plot(level[chosen], (base + deviation)[chosen], "o", ms=5, color=colour,
                          label=name)  # fmt: skip
        axis.spines[["top", "right"]].set_visible(False)
    top.set(xlim=(0, 1), ylim=(0, 1), ylabel="observed share below", title=title)
    top.legend(loc="upper left", frameon=False)
    bottom.set(xlabel="level of the predicted quantile", ylabel="deviation")
    return png_of(figure)


def pit_histogram(counts: Sequence[int], *, n_calibrate: int | None, title: str) -> bytes:
    """Where in its predicted distribution each row fell: flat when the distributions are right.

    Args:
        counts: rows by probability integral transform, in bins of equal width over [0, 1].
        n_calibrate: rows that the distributions were calibrated on, None if on none.
        title: headline.
    """
    from scipy.special import ndtri

    n, share = max(sum(counts), 1), 1 / len(counts)
    density = np.array(counts, dtype=np.float64) / n / share
    # The bars of a right model stay in this band with probability 0.95, all at once (Bonferroni);
    # the calibrate rows are a sample too.
    variance = share * (1 - share) * (1 / n + (1 / n_calibrate if n_calibrate else 0))
    reach = float(-ndtri(0.025 * share)) * variance**0.5 / share
    figure = figure_of(6, 3.4)
    axis = figure.subplots()
    axis.axhspan(
        1 - reach, 1 + reach, color=GREY, alpha=0.25, lw=0, label="chance, all bars at once"
    )
    axis.axhline(1, color=GREY, lw=1)
    outside = np.abs(density - 1) > reach
    colours = np.where(outside, RED, BLUE).tolist()
    axis.bar(np.arange(len(counts)) * share, density, share * 0.92, align="edge", color=colours,
             alpha=0.75)  # fmt: skip
    axis.set(xlim=(0, 1), ylim=(0, max(1.5, float(density.max()) * 1.2)), ylabel="density",
             xlabel="probability integral transform", title=title)  # fmt: skip
    axis.legend(loc="upper right", frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return png_of(figure)


def forecast_diagram(labels: Floats, points: Floats, *, title: str, unit: str = "") -> bytes:
    """Observed against predicted, by groups of rows with similar forecasts.

    Of each group the mean is drawn, which a forecast of the mean should hit, the median, and bands
    that half and nine tenths of the rows are in. A cloud of points would show the outliers only.

    Args:
        labels: shape (n,), the targets.
        points: shape (n,), the forecasts.
        title: headline.
        unit: unit of both.
    """
    order = np.argsort(points, kind="stable")
    groups = np.array_split(order, max(1, min(GROUPS, len(order) // LEAST_ROWS)))
    predicted = np.array([points[rows].mean() for rows in groups])
    observed = np.array([labels[rows].mean() for rows in groups])
    levels = 0.05, 0.25, 0.5, 0.75, 0.95
    bands = np.array([np.quantile(labels[rows], levels) for rows in groups]).T
    figure = figure_of(6, 5)
    axis = figure.subplots()
    for band, alpha, name in ((0, 0.15, "90% of the rows"), (1, 0.3, "half of the rows")):
        axis.fill_between(predicted, bands[band], bands[-1 - band], color=BLUE, alpha=alpha, lw=0,
                          label=name)  # fmt: skip
    axis.plot(predicted, bands[2], color=BLUE, lw=1.2, label="median")
    # A few outliers can carry a mean far out of all bands: it is then drawn at their end.
    inside = observed.clip(bands.min(), bands.max())
    axis.plot(predicted, inside, "o", ms=4, color=BLUE, label="mean")
    axis.axline((predicted[0], predicted[0]), slope=1, color=GREY, lw=1, label="as predicted")
    within = f" ({unit})" if unit else ""
    axis.set(xlabel=f"predicted{within}", ylabel=f"observed{within}", title=title)
    axis.legend(loc="upper left", frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return png_of(figure)
