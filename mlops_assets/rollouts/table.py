"""Rollouts for the terminal: how far one has come, what its arms did, and what comes next."""

from math import isfinite
from typing import TYPE_CHECKING

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mlops_assets.core.rollout import Rollout
from mlops_assets.rollouts.canary import OUTSIDE

if TYPE_CHECKING:
    from mlops_assets.core.guardrails import Reading
    from mlops_assets.rollouts.canary import CanaryCall
    from mlops_assets.rollouts.shadow_report import ShadowReport
    from mlops_assets.stores.rollouts import Kept

_STYLES = {"harm": "bold red", "no harm": "green", "open": "yellow"}


def line(kept: "Kept") -> str:
    """A rollout or an experiment in one line."""
    traffic = kept.traffic
    if not isinstance(traffic, Rollout):
        arms = ", ".join(f"{a.name} version {a.version} {a.share / 100:g}%" for a in traffic.arms)
        return f"experiment {traffic.id} of {kept.model}: {traffic.state}; {arms}"
    at = "" if traffic.step is None else f", step {traffic.step + 1} of {len(traffic.steps)}"
    return (
        f"rollout {traffic.id} of {kept.model}: version {traffic.version} is {traffic.state}{at}, "
        f"{traffic.share / 100:g}% of the traffic; champion: version {kept.champion}"
    )


def shown(kept: "Kept", call: "CanaryCall | None") -> Group:
    """A rollout with the readings of its guardrails."""
    parts: list[Text | Table] = [
        Text(line(kept), style="bold"),
        Text(f"begun by {kept.actor}; moved last {kept.entered:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    if call and call.readings:
        parts.append(readings(call.readings))
        if any(one.guardrail == OUTSIDE and not one.canary.n for one in call.readings):
            parts.append(Text("no labels yet: they are counted while `mlops-assets dev` runs"))
    if call:
        said = "needs a person" if call.needs_person else call.move
        parts.append(Text(f"now: {said}. {call.reason}"))
    if isinstance(kept.traffic, Rollout) and kept.traffic.is_open:
        parts.append(Text(f"possible moves: {', '.join(kept.traffic.allowed)}"))
    return Group(*parts)


def disagreements(found: "ShadowReport") -> Group:
    """How a shadow differs from what was answered."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("rows", "n", "rank correlation", "decided otherwise", "mean", "size", "worst"):
        table.add_column(name, justify="left" if name == "rows" else "right")
    for one in found.found:
        ranks, differ = one.rank_correlation, one.decisions_differ
        table.add_row(
            escape(f"{one.slice} = {one.level}" if one.slice else "all"),
            f"{one.n:,}",
            "-" if ranks is None else f"{ranks:.3f}",
            "-" if differ is None else f"{differ:.1%}",
            f"{one.mean:+.4g}",
            f"{one.mean_size:.4g}",
            f"{one.worst:+.4g}",
        )
    refused = f"; it failed on {found.refused:,} more" if found.refused else ""
    title = f"version {found.version} of {found.model} in shadow, minus what was answered{refused}"
    return Group(
        Text(title, style="bold"), table, Text(f"the worst is the prediction {found.worst_id}")
    )


def readings(found: "tuple[Reading, ...]") -> Table:
    """What the guardrails show: canary against control, with bounds that hold at every look."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("guardrail", "canary", "control", "difference", "surely", "margin", "finding"):
        table.add_column(name, justify="left" if name in ("guardrail", "finding") else "right")
    for one in found:
        table.add_row(
            escape(one.guardrail),
            f"{one.difference if one.alone else one.canary.mean:.4g} (n = {one.canary.n:,})",
            f"{one.control.mean:.4g} (n = {one.control.n:,})" if one.control.n else "-",
            "-" if one.alone else f"{one.difference:.4g}",
            " to ".join(f"{end:.4g}" if isfinite(end) else "?" for end in (one.low, one.high)),
            f"{one.margin:g}",
            Text(one.finding, style=_STYLES[one.finding]),
        )
    return table
