"""The scoreboard of drills: a table for people, a document for scripts.

Rendering only; nothing is decided here.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from mlops_assets.drills.finding import Finding


def table(findings: Sequence[Finding]) -> Table:
    """A row per drill."""
    found = Table(box=SIMPLE_HEAD)
    for column in ("drill", "caught by", "after", "served meanwhile"):
        found.add_column(column, overflow="fold")
    for one in findings:
        guard = escape(one.guard) if one.caught else "[red]nobody[/]"
        found.add_row(one.drill, guard, escape(one.after), escape(one.served))
    return found


def verdict(findings: Sequence[Finding]) -> str:
    """The result in a sentence; which faults went through, and what became of them."""
    through = [one for one in findings if not one.caught]
    if not through:
        return f"all {len(findings)} faults were caught"
    lines = [f"{len(through)} of {len(findings)} faults went through:"]
    return "\n".join([*lines, *(f"  {one.drill}: {one.detail}" for one in through)])


def document(findings: Sequence[Finding]) -> dict[str, Any]:
    """All findings, and whether every fault was caught."""
    return {
        "all_caught": all(one.caught for one in findings),
        "findings": [asdict(one) for one in findings],
    }
