"""The picture of how often gates decide: pass, abstain and fail over the size of the holdout.

Drawing only: the cells come in, none is simulated here. Light, white and dark areas, always in the
same order, tell the outcomes apart without colour too.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from mlops_assets.core.operating import BINS, COVERAGE, ECE, Cell, World, model_name
from mlops_assets.core.plots import BLUE, GREY, RED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {
    ECE: "ECE below {limit:g}",
    BINS: "every bin within {limit:g}",
    COVERAGE: "coverage within\n{points:g} points of {confidence:g}",
}
LIGHT_BLUE, DARK_RED = "#a9cbe8", "#5c1410"
AREAS = (("passes", LIGHT_BLUE), ("abstains", "white"), ("fails", RED))
"""The outcomes from the bottom up; their lightness alone tells them apart."""
MARK: dict[str, Any] = {"color": "black", "lw": 1.2, "ls": (0, (2, 2))}
TICKS = (2_000, 5_000, 10_000, 30_000, 100_000)


def operating_chart(
    world: World,
    cells: Sequence[Cell],
    *,
    mark: int | None = None,
    form: Literal["png", "svg"] = "png",
) -> bytes:
    """A row of panels per gate, a panel per model: shares of the outcomes, stacked over n.

    Args:
        world: the world that the cells are of.
        cells: at two sizes of holdout or more.
        mark: a size of holdout to draw a line at.
        form: kind of the file.
    """
    from matplotlib.figure import Figure

    rows = {gate: _by_model(cells, gate) for gate in (ECE, BINS, COVERAGE)}
    width = max(len(models) for models in rows.values())
    figure = Figure(figsize=(2 * width + 0.8, 7.6), dpi=90, layout="constrained")
    grid = figure.subplots(3, width, sharey=True, squeeze=False)
    for axes, (gate, models) in zip(grid, rows.items(), strict=True):
        for axis, (off, found) in zip(axes, models.items(), strict=False):
            _panel(axis, found, mark)
            limit = world.limit(gate)
            side = "on the limit" if off == limit else "rule kept" if off < limit else "rule broken"
            axis.set_title(f"{model_name(gate, off)}\n", fontsize=10, fontweight="bold")
            axis.text(0.5, 1.03, side, ha="center", transform=axis.transAxes, fontsize=9)
        for axis in axes[len(models) :]:
            axis.set_axis_off()
        limit = world.limit(gate)
        words = TITLES[gate].format(limit=limit, points=100 * limit, confidence=world.confidence)
        axes[0].set_ylabel(words, fontsize=10, fontweight="bold")
    _legend(figure, grid[-1][len(rows[COVERAGE]) :], mark)
    figure.suptitle("How often a gate passes, abstains and fails, by the size of the holdout")
    figure.supxlabel("holdout rows, on a logarithmic scale", fontsize=10)
    return _bytes(figure, form)


def _by_model(cells: Sequence[Cell], gate: str) -> dict[float, list[Cell]]:
    """The cells of a gate by error of the model, each in order of n."""
    ours = sorted((c for c in cells if c.gate == gate), key=lambda cell: (cell.off, cell.n))
    return {off: [c for c in ours if c.off == off] for off in dict.fromkeys(c.off for c in ours)}


def _panel(axis: Any, found: Sequence[Cell], mark: int | None) -> None:
    n = [cell.n for cell in found]
    passed = [cell.passed / cell.runs for cell in found]
    kept = [1 - cell.failed / cell.runs for cell in found]
    edges = ([0.0] * len(n), passed, kept, [1.0] * len(n))
    for (_, colour), low, high in zip(AREAS, edges[:-1], edges[1:], strict=True):
        axis.fill_between(n, low, high, color=colour, lw=0)
    axis.plot(n, passed, color=BLUE, lw=1.6)
    axis.plot(n, kept, color=DARK_RED, lw=1.6)
    if mark is not None:
        axis.axvline(mark, color="white", lw=2)
        axis.axvline(mark, **MARK)
    axis.set(xscale="log", xlim=(n[0], n[-1]), ylim=(0, 1))
    axis.set_xticks([tick for tick in TICKS if n[0] <= tick <= n[-1]])
    axis.minorticks_off()
    axis.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _legend(figure: "Figure", free: Sequence[Any], mark: int | None) -> None:
    """Names of the areas, in the corner that the shortest row leaves free, if it does."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(facecolor=colour, edgecolor=GREY, label=name) for name, colour in AREAS[::-1]
    ]
    if mark is not None:
        handles.append(Line2D([], [], label=f"{mark:,} rows", **MARK))
    where: Any = free[0] if len(free) else figure
    place = "center left" if len(free) else "outside lower center"
    where.legend(handles=handles, loc=place, frameon=False, fontsize=11, handlelength=2.5)


def _bytes(figure: "Figure", form: str) -> bytes:
    from matplotlib import rc_context

    buffer = io.BytesIO()
    # Without a date and with fixed ids, equal numbers give equal files.
    with rc_context({"svg.hashsalt": "operating"}):
        figure.savefig(buffer, format=form, metadata={"Date": None} if form == "svg" else None)
    return buffer.getvalue()
