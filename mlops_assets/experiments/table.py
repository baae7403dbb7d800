"""Experiments for the terminal: what each arm brings, and how long it takes to find an effect."""

from math import isfinite
from typing import TYPE_CHECKING

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops_assets.core.experiment_analysis import Comparison
    from mlops_assets.experiments.lifecycle import Report
    from mlops_assets.experiments.plan import Plan

_STYLES = {
    "better": "bold green",
    "worse": "bold red",
    "no difference": "green",
    "open": "yellow",
    "no data": "dim",
    "broken split": "bold red",
}


def shown(report: "Report") -> Group:
    """An experiment with its arms, its verdicts, and the slices that say something."""
    experiment, seen = report.experiment, report.observed
    arms = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("arm", "version", "share", "entities", "predictions"):
        arms.add_column(name, justify="left" if name == "arm" else "right")
    for arm in experiment.arms:
        n, rows = seen.entities.get(arm.name, 0), seen.predictions.get(arm.name, 0)
        arms.add_row(arm.name, arm.version, f"{arm.share / 100:g}%", f"{n:,}", f"{rows:,}")
    head = (
        f"experiment {experiment.id} of {report.kept.model}: {experiment.state}, "
        f"{experiment.exposed / 100:g}% of the traffic takes part"
    )
    ran = f"since {report.window.since:%Y-%m-%d %H:%M} UTC"
    if report.window.until:
        ran += f" until {report.window.until:%Y-%m-%d %H:%M}"
    parts: list[Text | Table] = [
        Text(head, style="bold"),
        Text(f"begun by {report.kept.actor}; {ran}"),
        arms,
        comparisons(report.analysis.comparisons),
        *(
            Text(f"{one.arm}, {one.metric}: {one.why}")
            for one in report.analysis.comparisons
            if one.why and one.word != "no difference"
        ),
    ]
    decided = [one for one in report.analysis.slices if one.word in ("better", "worse")]
    if decided:
        parts += [Text("Slices that differ:"), comparisons(decided)]
    if seen.crossed:
        parts.append(Text(f"{seen.crossed:,} entities were in several arms and are left out"))
    parts.append(
        Text(
            "Bounds hold at every look: all verdicts together are ever wrong in 5% at most.", "dim"
        )
    )
    return Group(*parts)


def comparisons(found: "Sequence[Comparison]") -> Table:
    """Each arm against the first: means per entity, difference and its bounds."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    left = ("metric", "arm", "slice", "verdict")
    sliced = any(one.slice for one in found)
    for name in ("metric", "arm", *(["slice"] if sliced else []), "per entity", "against",
                 "difference", "surely", "verdict"):  # fmt: skip
        table.add_column(name, justify="left" if name in left else "right")
    for one in found:
        ends = " to ".join(f"{end:+.4g}" if isfinite(end) else "?" for end in (one.low, one.high))
        table.add_row(
            escape(f"{one.metric} ({one.unit})" if one.unit else one.metric),
            escape(f"{one.arm} - {one.against}"),
            *([escape(f"{one.slice} = {one.level}")] if sliced else []),
            f"{one.theirs.sums.mean:.4g} (n = {one.theirs.sums.n:,})",
            f"{one.first.sums.mean:.4g} (n = {one.first.sums.n:,})",
            f"{one.difference:+.4g}",
            ends,
            Text(one.said, style=_STYLES[one.word]),
        )
    return table


def planned(plan: "Plan") -> Group:
    """How much traffic an effect takes."""
    facts = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    mean = f"{plan.mean:.4g} per entity, which differ by {plan.spread:.4g} (standard deviation)"
    enough = plan.entities is not None
    for name, told in {
        plan.metric: f"{mean}, in the past {plan.past_days} days",
        "effect": f"{plan.effect:+g} per entity",
        "entities": f"{plan.entities:,} in all" if enough else "no traffic would do",
        "per arm": ", ".join(f"{n:,}" for n in plan.per_arm) if enough else "-",
        "new per day": f"{plan.per_day:,.1f} entities take part at the current traffic",
        "days": f"{plan.days:,.1f}" if plan.days is not None else "-",
    }.items():
        facts.add_row(escape(name), told)
    found = f"By then the effect is found in {plan.power:.0%} of experiments"
    return Group(
        facts,
        Text(f"{found}, however often one looks.", "dim"),
    )
