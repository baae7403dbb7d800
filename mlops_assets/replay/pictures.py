"""Pictures of a replay: one for a page of text, and each of its parts for the replay's own page.

Drawing only: what is drawn comes in as facts. Colour is never the only sign: verdicts have shapes,
lines have their names beside them. Equal facts give equal bytes.
"""

import datetime as dt
import io
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.replay.facts import ARMS, TITLES, Arm, Replay, Retrain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER = "#1a1f26", "#5b6675", "#e3e7ec", "#ffffff"
COLOURS: dict[Arm, str] = {"platform": "#1f5fa8", "frozen": "#7d8794", "newest": "#d9822b"}
VERDICTS = {
    "passed": ("#19703a", "o"),
    "inconclusive": ("#b97a0a", "D"),
    "failed": ("#b3271e", "X"),
}
BANDS = ("#cfe0f3", "#a9c8ea")
FATES = {"released": "#5b8fc9", "rolled back": "#b3271e", "given up": "#9aa3af", "": "#ffffff"}
"""Colours of canaries by what became of them; of those that still run, none."""
MARGINS = {"left": 0.085, "right": 0.8}
"""The same for all pictures: the months of one stand below those of the other."""
ORDER = ("failed", "inconclusive", "passed")

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "replay",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.facecolor": PAPER,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.unicode_minus": False,
    "grid.color": LINE,
    "grid.linewidth": 0.9,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "ytick.left": False,
    "figure.facecolor": PAPER,
    "legend.frameon": False,
}


def poster(found: Replay) -> bytes:
    """The picture of a replay as PNG: champions and retrains, calibration, and who was right."""
    with _style():
        figure = _figure(11.5, 9.6)
        figure.subplots_adjust(top=0.91, bottom=0.035, hspace=0.22, **MARGINS)
        axes = figure.subplots(3, sharex=True, height_ratios=(1.25, 2, 2))
        figure.suptitle(
            f"{found.model}, {found.start} to {found.last}: {_in_short(found)}",
            x=0.01, ha="left", fontsize=15, fontweight="bold",
        )  # fmt: skip
        for axis, draw in zip(axes, (lanes, calibration, hindsight), strict=True):
            draw(axis, found)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
        return buffer.getvalue()


def inline(found: Replay, draw: "Callable[[Axes, Replay], None]", *, name: str, alt: str) -> str:
    """One part as an element of a page.

    Args:
        found: the facts.
        draw: one of the functions below.
        name: beginning of its ids.
        alt: what it shows, for who cannot see it.
    """
    with _style():
        height = 2.4 if draw is lanes else 3.4
        figure = _figure(11.5, height)
        figure.subplots_adjust(top=1 - 0.32 / height, bottom=0.3 / height, **MARGINS)
        draw(figure.subplots(), found)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue().decode(), flags=re.DOTALL)
    size, body = re.findall(r'<svg [^>]*viewBox="([^"]*)"[^>]*>(.*)</svg>', text, re.DOTALL)[0]
    body = re.sub(r"font-family: [^;\"]*;?|font: ([^;\"]*?)px [^;\"]*", _font, body)
    body = body.replace("xlink:href", "href")
    body = re.sub(r'\bid="|\bhref="#|\burl\(#', rf"\g<0>{name}-", body)
    return (
        f'<svg viewBox="{size}" role="img" aria-labelledby="{name}-alt">'
        f'<desc id="{name}-alt">{escape(alt)}</desc>{body}</svg>'
    )


def lanes(axis: "Axes", found: Replay) -> None:
    """Who was champion when, canaries below, and every retrain with its verdict."""
    axis.set_title("Champion of the platform, canaries, and what the gates said of every retrain")
    for number, (version, start, end) in enumerate(found.champions()):
        if version is None:
            axis.barh(2, (end - start).days, left=_at(start), height=0.62, color="none",
                      edgecolor=MUTED, hatch="///", lw=0)  # fmt: skip
            label = "none"
        else:
            axis.barh(2, (end - start).days, left=_at(start), height=0.62, color=BANDS[number % 2])
            label = f"version {version}"
        width = (end - start).days
        if width >= 6:
            text = label if width >= 24 else (version or "")
            axis.text(
                _at(start + (end - start) / 2), 2, text, ha="center", va="center", fontsize=10
            )
    for version, start, end, fate in _canaries(found):
        length = (end - start).days
        axis.barh(1, length, left=_at(start), height=0.36, color=FATES[fate],
                  edgecolor=FATES["released"], lw=1)  # fmt: skip
        if length >= 5:
            axis.text(_at(start) + length / 2, 1, version, ha="center", va="center", fontsize=9,
                      color=PAPER if fate else INK)  # fmt: skip
    fates = list(dict.fromkeys(fate or "runs" for *_, fate in _canaries(found)))
    told = ", ".join(f"{sum((f or 'runs') == fate for *_, f in _canaries(found))} {fate}"
                     for fate in fates)  # fmt: skip
    axis.text(1.01, 1, told, transform=axis.get_yaxis_transform(), va="center", fontsize=10,
              color=MUTED)  # fmt: skip
    for outcome in ORDER:
        colour, shape = VERDICTS[outcome]
        days = [_at(one.day) for one in found.retrains if one.outcome == outcome]
        if days:
            axis.plot(days, [0] * len(days), shape, color=colour, ms=8, mec=PAPER, mew=0.8,
                      label=f"{outcome} ({len(days)})", clip_on=False)  # fmt: skip
    axis.set(ylim=(-0.6, 2.5), yticks=[0, 1, 2], yticklabels=["retrains", "canary", "champion"])
    axis.grid(visible=False)
    axis.tick_params(axis="y", labelsize=11)
    if found.retrains:
        axis.legend(loc="lower left", bbox_to_anchor=(1.0, -0.04), fontsize=10, handletextpad=0.2,
                    labelspacing=0.25, borderpad=0)  # fmt: skip
    _months(axis, found)


def calibration(axis: "Axes", found: Replay) -> None:
    """ECE by week of the three ways, on the same rows."""
    limit = float(found.gates["ece_limit"])
    axis.set_title("Calibration error (ECE) by week, on the same rows; lower is better")
    axis.axhspan(0, limit, color="#eef6f0", lw=0)
    axis.axhline(limit, color=VERDICTS["passed"][0], lw=1, dashes=(4, 3))
    axis.text(_at(found.start), limit, f" limit of the gate, {limit:g}", va="bottom", fontsize=9,
              color=VERDICTS["passed"][0])  # fmt: skip
    _by_week(axis, found, "ece", ARMS)
    axis.set_ylim(bottom=0)
    _months(axis, found)


def brier(axis: "Axes", found: Replay) -> None:
    """Brier score by week, less that of the model that was left alone."""
    axis.set_title(f"Brier score by week, less that of {TITLES['frozen']}; below 0 is better")
    axis.axhline(0, color=COLOURS["frozen"], lw=2)
    _by_week(axis, found, "brier", ("platform", "newest"), less="frozen")
    _months(axis, found)


def hindsight(axis: "Axes", found: Replay) -> None:
    """Each candidate until the next retrain against the champion: was it right to refuse it?"""
    axis.set_title(
        "In hindsight: Brier score of each candidate minus the champion's, on the days after"
    )
    axis.axhline(0, color=MUTED, lw=1)
    for outcome in ORDER:
        colour, shape = VERDICTS[outcome]
        ours = [one for one in found.retrains if one.outcome == outcome and one.afterwards]
        if not ours:
            continue
        middle = [_at(one.day) + _reach(found, one) / 2 for one in ours]
        estimates = [one.afterwards.brier for one in ours if one.afterwards]
        values = [e.value for e in estimates]
        spread = [[e.value - e.low for e in estimates], [e.high - e.value for e in estimates]]
        axis.errorbar(middle, values, yerr=spread, fmt=shape, ms=7, mec=PAPER, mew=0.8,
                      color=colour, ecolor=colour, elinewidth=1.4, capsize=0)  # fmt: skip
    low, high = axis.get_ylim()
    most = max(abs(low), abs(high))
    axis.set_ylim(-most, most)
    notes = (
        (0.97, "the champion was better: right to refuse", "top"),
        (0.03, "the candidate was better: refusing it cost something", "bottom"),
    )
    for y, text, va in notes:
        axis.text(0.005, y, text, transform=axis.transAxes, va=va, fontsize=10, color=MUTED)
    _months(axis, found)


def drift(axis: "Axes", found: Replay) -> None:
    """Share of the champion's inputs that have drifted from what it learned from, by day."""
    axis.set_title("Inputs that have drifted from the champion's training rows, share by day")
    days = [_at(day.day) for day in found.days]
    share = [np.nan if day.drifted is None else day.drifted for day in found.days]
    axis.fill_between(days, share, color=COLOURS["platform"], alpha=0.18, lw=0, step="post")
    axis.step(days, share, color=COLOURS["platform"], lw=1.6, where="post")
    axis.axhline(float(found.policy["drift_share"]), color=MUTED, lw=1, dashes=(4, 3))
    axis.set_ylim(0, 1)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    _months(axis, found)


def watched(axis: "Axes", found: Replay) -> None:
    """What the monitoring saw of the champion day by day, before all labels were there."""
    axis.set_title("ECE of the champion as the monitoring saw it, on labels known by that day")
    days = [_at(day.day) for day in found.days]
    seen, low = (
        np.array([np.nan if v is None else v for v in column], dtype=float)
        for column in ([d.ece for d in found.days], [d.ece_low for d in found.days])
    )
    axis.fill_between(days, low, seen, color=COLOURS["platform"], alpha=0.18, lw=0,
                      label="down to the lower end of the 95% interval")  # fmt: skip
    axis.plot(days, seen, color=COLOURS["platform"], lw=1.6)
    for event in found.events:
        if event.kind == "opened" and event.text.startswith("calibration"):
            axis.axvline(_at(event.day), color=VERDICTS["failed"][0], lw=1)
    limit = found.policy["ece_limit"] or found.gates["ece_limit"]
    axis.axhline(float(limit), color=MUTED, lw=1, dashes=(4, 3))
    axis.set_ylim(bottom=0)
    axis.legend(loc="upper right", fontsize=9)
    _months(axis, found)


def _by_week(
    axis: "Axes", found: Replay, metric: str, arms: Sequence[Arm], less: Arm | None = None
) -> None:
    """Lines of a metric by week with their names at the end, spread so that none covers another."""
    middle = [_at(week.start) + (week.end - week.start).days / 2 for week in found.weeks]
    ends: list[tuple[float, Arm]] = []
    for arm in sorted(arms, key=lambda one: one == "platform"):
        values = np.array([_value(week.arms[arm].metrics.get(metric)) for week in found.weeks])
        if less:
            base = [_value(week.arms[less].metrics.get(metric)) for week in found.weeks]
            values = values - np.array(base)
        main = arm == "platform"
        axis.plot(middle, values, color=COLOURS[arm], lw=2.6 if main else 1.7, marker="o",
                  ms=4 if main else 3, zorder=3 if main else 2)  # fmt: skip
        there = values[np.isfinite(values)]
        if len(there):
            ends.append((float(there[-1]), arm))
    low, high = axis.get_ylim()
    apart, height = (high - low) * (0.09 if less else 0.17), -np.inf
    for value, arm in sorted(ends):
        height = max(value, height + apart)
        text, whole = TITLES[arm], found.totals[arm].metrics.get(metric)
        if whole is not None and not less:
            text += f"\n{whole.value:.3f} over all rows"
        axis.annotate(text, (_at(found.end), height), xytext=(8, 0), va="center",
                      textcoords="offset points", color=COLOURS[arm], fontsize=10,
                      fontweight="bold" if arm == "platform" else "normal",
                      annotation_clip=False)  # fmt: skip


def _canaries(found: Replay) -> list[tuple[str, dt.date, dt.date, str]]:
    """Version, first day, day of its end, and what became of each canary; empty while it runs."""
    spans: dict[str, tuple[dt.date, dt.date, str]] = {}
    for event in found.events:
        if event.version is None:
            continue
        if event.kind == "canary":
            spans[event.version] = (event.day, found.end, "")
        elif event.version in spans and event.kind in ("released", "rolled back", "given up"):
            spans[event.version] = (spans[event.version][0], event.day, event.kind)
    return [(version, *span) for version, span in spans.items()]


def _in_short(found: Replay) -> str:
    outcomes = found.outcomes()
    told = [f"{outcomes[name]} {name}" for name in ("passed", "inconclusive", "failed")
            if name in outcomes]  # fmt: skip
    return f"{len(found.retrains)} retrains, {', '.join(told) or 'none judged'}"


def _reach(found: Replay, retrain: Retrain) -> float:
    """Days from a retrain to the next one."""
    later = [one.day for one in found.retrains if one.day > retrain.day]
    return float((min([*later, found.end]) - retrain.day).days)


def _value(estimate: Any) -> float:
    return float("nan") if estimate is None else float(estimate.value)


def _months(axis: "Axes", found: Replay) -> None:
    from matplotlib.dates import ConciseDateFormatter, MonthLocator

    locator = MonthLocator()
    axis.set_xlim(_at(found.start), _at(found.end))
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))


def _at(day: dt.date) -> float:
    from matplotlib.dates import date2num

    return float(date2num(day))


def _font(match: re.Match[str]) -> str:
    """The size of a text without its font, which is that of the page."""
    return f"font-size: {match[1].split()[-1]}px" if match[1] else ""


def _style() -> AbstractContextManager[None]:
    import matplotlib

    return matplotlib.rc_context(_STYLE)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))
