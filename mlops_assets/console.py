"""What the commands print: progress of a run, gates, status. Words and tables only.

Rendering with rich; nothing is decided or fetched here.
"""

import datetime as dt
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlops_assets.core.estimate import Estimate
from mlops_assets.core.operating import Cell, HoldoutSize, World, model_name, wilson
from mlops_assets.core.verdict import Outcome, Verdict
from mlops_assets.stores.registry import ModelVersion
from mlops_assets.tables import FeatureView

if TYPE_CHECKING:
    from mlops_assets.core.ledger_chain import Entry
    from mlops_assets.defs import main_job
    from mlops_assets.defs.progress import Progress

MARKS = {
    "passed": "[green]passed[/]",
    "failed": "[red]failed[/]",
    "inconclusive": "[yellow]inconclusive[/]",
}

OUTCOMES: tuple[Outcome, ...] = ("passed", "inconclusive", "failed")

CHECK_FAILED = "DagsterAssetCheckFailedError"
"""In the error of a step that ends because of a check, which has said why itself."""


class ProgressPrinter:
    """Prints one line per asset and check of a run, when it is done, with its duration."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.began = time.monotonic()
        self.last = ("", "")

    def __call__(self, progress: "Progress") -> None:
        """Print a step; the partitions of a run of days are one line."""
        if progress.kind == "started":
            self.began = time.monotonic()
            return
        if (progress.kind, progress.what) == self.last:
            return
        self.last = (progress.kind, progress.what)
        took = f"{time.monotonic() - self.began:6.1f} s"
        mark = "[green]✓[/]" if progress.passed else "[red]✗[/]"
        if progress.kind == "materialized":
            rows = "" if progress.rows is None else f"{progress.rows:>9,} rows"
            self.console.print(f"{mark} {progress.what:<44} {rows:>14} {took}")
        elif progress.kind == "checked":
            # A contract that holds needs no words; a verdict always has its reason.
            self.console.print(f"{mark}   [dim]{progress.what}[/]")
            if not progress.passed:
                self.console.print(f"      {progress.detail}", style="dim", markup=False)
        elif CHECK_FAILED not in progress.detail:
            self.console.print(f"{mark} {progress.what}", style="red")
            self.console.print(f"  {progress.detail}", markup=False)


def console() -> Console:
    """A console as wide as the terminal; wide enough for every table where there is none."""
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=120)


def outcome(console: Console, model: str, found: "main_job.Outcome") -> None:
    """Print what a run came to: the verdicts, who is champion, what to do next."""
    if found.version and found.version.verdicts:
        console.print()
        console.print(gates(found.version))
        for reason in reasons(found.version.verdicts):
            console.print(f"  {reason}", markup=False)
    champion = f"version {found.champion.version}" if found.champion else "none"
    if found.error:
        console.print(f"\nThe run failed: {found.error}", markup=False)
        console.print(f"The champion of {model} stays: {champion}.")
    elif found.released:
        console.print(f"\nChampion of {model}: {champion}.")
    else:
        version = found.version.version if found.version else "?"
        outcomes = {v.outcome for v in found.version.verdicts} if found.version else {"failed"}
        word = "refused" if "failed" in outcomes else "held"
        console.print(f"\nVersion {version} of {model} is {word}. The champion stays: {champion}.")
        if word == "held":
            console.print(
                f'Somebody else may approve it: mlops-assets approve {model} {version} --reason "…"'
            )
        console.print("Next: mlops-assets status   (versions, aliases and verdicts)")


def gates(version: ModelVersion) -> Table:
    """The verdicts on a version: estimate, interval, limit, n."""
    table = _table(f"{version.model} version {version.version}")
    for name in ("gate", "verdict"):
        table.add_column(name, no_wrap=True)
    for name in ("estimate", "95% interval", "limit", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for verdict in version.verdicts:
        interval = f"{_number(verdict.low)} {_number(verdict.high)}"
        table.add_row(
            verdict.gate,
            MARKS[verdict.outcome],
            _number(verdict.estimate),
            interval if verdict.low is not None else "-",
            f"{verdict.threshold:g}",
            f"{verdict.n:,}",
        )
    return table


def reasons(verdicts: Iterable[Verdict]) -> list[str]:
    """One line for each verdict that did not pass."""
    return [f"{v.gate}: {v.reason}" for v in verdicts if v.outcome != "passed"]


def status(model: str, versions: Iterable[ModelVersion]) -> Table:
    """The versions of a model with aliases and verdicts, newest first."""
    table = _table(model)
    for name in ("version", "alias", "created (UTC)", "holdout", "gates"):
        table.add_column(name)
    for version in versions:
        table.add_row(
            version.version,
            ", ".join(version.aliases) or "-",
            f"{version.created:%Y-%m-%d %H:%M}",
            version.holdout,
            _summary(version.verdicts),
        )
    return table


def ledger(entries: Iterable["Entry"]) -> Table:
    """Entries of the release ledger, one per row."""
    table = _table("release ledger")
    for name in ("entry", "time (UTC)", "action", "model", "version", "champion", "who", "why"):
        table.add_column(name, no_wrap=name != "why")
    for entry in entries:
        before, after = (side.get("champion", "-") for side in (entry.before, entry.after))
        who = f"{entry.actor}, approved by {entry.approver}" if entry.approver else entry.actor
        table.add_row(
            str(entry.seq),
            f"{entry.time:%Y-%m-%d %H:%M:%S}",
            entry.action,
            entry.model,
            entry.version or "-",
            after if before == after else f"{before} → {after}",
            who,
            escape(entry.reason),
        )
    return table


def views(found: Iterable[FeatureView]) -> Table:
    """Feature views, one per row."""
    table = _table("feature views")
    for name in ("view", "key", "ttl", "features"):
        table.add_column(name)
    for one in found:
        key = ", ".join(entity.name for entity in one.entities)
        table.add_row(one.name, key, str(one.ttl), ", ".join(f.name for f in one.features))
    return table


def view(found: FeatureView) -> Table:
    """A feature view's columns with their contracts."""
    until = found.calendar.end or "today"
    table = _table(
        f"{found.name}: {found.description}\n"
        f"days {found.calendar.start} until {until}; values expire after {found.ttl}"
    )
    for name in ("column", "type", "minimum", "maximum", "null", "description"):
        table.add_column(name)
    for column in found.columns:
        table.add_row(
            column.name,
            column.type,
            *("-" if bound is None else f"{bound:g}" for bound in (column.minimum, column.maximum)),
            "yes" if column.nullable else "no",
            column.description,
        )
    return table


def values(
    name: str,
    key: Mapping[str, str],
    when: str,
    rows: Iterable[tuple[str, Any, str, dt.datetime | None]],
) -> Table:
    """Feature values of one key: name, value, status and event time of each."""
    label = " ".join(f"{k}={v}" for k, v in key.items())
    table = _table(f"{name} of {label} ({when})")
    for column in ("feature", "value", "status", "event time"):
        table.add_column(column)
    for feature, value, status, time_ in rows:
        shown = "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
        table.add_row(feature, shown, status, f"{time_:%Y-%m-%d %H:%M %Z}" if time_ else "-")
    return table


def operating(world: World, cells: Sequence[Cell]) -> Table:
    """How often each gate decides: a column per size, or the intervals too if there is but one."""
    sizes = sorted({cell.n for cell in cells})
    one = len(sizes) == 1
    at = f"at {sizes[0]:,} rows" if one else "by rows"
    table = _table(f"simulated holdouts {at}, base rate {world.base_rate:g}, shares in %")
    table.add_column("gate, model", no_wrap=True)
    for name in OUTCOMES if one else [f"{n:,}\npass abst fail" for n in sizes]:
        table.add_column(name, justify="right", no_wrap=True)
    for gate in dict.fromkeys(cell.gate for cell in cells):
        table.add_row(f"[bold]{gate}[/]")
        ours = sorted((c for c in cells if c.gate == gate), key=lambda cell: (cell.off, cell.n))
        for off in dict.fromkeys(cell.off for cell in ours):
            row = [cell for cell in ours if cell.off == off]
            if one:
                shown = [_percent(row[0].share(outcome)) for outcome in OUTCOMES]
            else:
                shown = ["".join(f"{whole_percent(c, o):>5}" for o in OUTCOMES)[1:] for c in row]
            table.add_row(f"  {model_name(gate, off)}", *shown)
    return table


def whole_percent(cell: Cell, outcome: Outcome) -> str:
    """A share in whole percent; 0 and 100 only where it is exactly that."""
    share = 100 * cell.share(outcome).value
    return "<1" if 0 < share < 1 else ">99" if 99 < share < 100 else f"{share:.0f}"


def needed(sizes: Iterable[HoldoutSize]) -> Table:
    """How much holdout it takes until the gates decide."""
    table = _table("how much holdout it takes")
    for name in ("gate", "says", "of a model", "this often"):
        table.add_column(name, no_wrap=True)
    for name in ("rows", "seen there, in %"):
        table.add_column(name, justify="right", no_wrap=True)
    for size in sizes:
        table.add_row(
            size.gate,
            MARKS[size.outcome],
            model_name(size.gate, size.off),
            f"{size.target:.0%}",
            size.reason if size.n is None else f"{size.n:,}",
            _percent(size.seen) if size.seen else "-",
        )
    return table


def operating_note(world: World) -> str:
    """What was simulated, and how sure the shares are."""
    a, b = world.beta
    middle, end = (wilson(hits, world.runs) for hits in (world.runs // 2, 0))
    return (
        f"{world.runs} holdouts per model and size: a share is right to within "
        f"{50 * (middle.high - middle.low):.1f} points (95%), of 0 and 100 to within "
        f"{100 * end.high:.1f}. "
        f"True probabilities are Beta({a:g}, {b:g}), and every score is off to the same side. "
        f"Coverage is stated as {world.confidence:g}, by sets that were fitted on as many rows as "
        "the holdout has."
    )


def _percent(share: Estimate) -> str:
    return f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"


def _summary(verdicts: tuple[Verdict, ...]) -> str:
    if not verdicts:
        return "not judged"
    open_ = [f"{MARKS[v.outcome]} {v.gate}" for v in verdicts if v.outcome != "passed"]
    return ", ".join(open_) or f"{MARKS['passed']} all {len(verdicts)}"


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
