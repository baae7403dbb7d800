"""A replay on the terminal: progress while it walks, and then who was champion when, and why.

Rendering with rich; nothing is decided or computed here.
"""

import datetime as dt
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mlops_assets.replay.facts import ARMS, TITLES, Event, Replay, Retrain
from mlops_assets.replay.page import METRICS, answer
from mlops_assets.replay.walk import Progress as Walked

MARKS = {
    "passed": "[green]passed[/]",
    "failed": "[red]failed[/]",
    "inconclusive": "[yellow]inconclusive[/]",
}
COLOURS = {
    "adopted": "cyan",
    "released": "green",
    "canary": "cyan",
    "advanced": "cyan",
    "rolled back": "red",
    "given up": "yellow",
    "held": "yellow",
    "refused": "red",
    "no retrain": "yellow",
    "opened": "red",
    "worsened": "red",
}


class Follower:
    """Shows how far a walk has come, and a line for every event.

    Args:
        console: where.
    """

    def __init__(self, console: Console) -> None:
        self.trained = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("days"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("replay", total=None)

    def __enter__(self) -> "Follower":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, walked: Walked) -> None:
        """Show a step."""
        if walked.event is None:
            self._bar.update(
                self._task, completed=walked.done, total=walked.days, description=str(walked.day)
            )
            return
        self.trained += walked.fresh is True
        text = line(walked.event, kept=walked.fresh is False)
        self._bar.console.print(text, no_wrap=True, overflow="ellipsis")


def line(event: Event, *, kept: bool = False) -> str:
    """An event in one line, which the console cuts at its width; the files have all of it.

    Args:
        event: the event.
        kept: whether its candidate was trained by an earlier replay.
    """
    colour = COLOURS.get(event.kind, "default")
    who = f"version {event.version}" if event.version else ""
    again = "(trained before) " if kept else ""
    return (
        f"{event.day} [{colour}]{event.kind:<11}[/] {who:<11} [dim]{again}{escape(event.text)}[/]"
    )


def show(console: Console, found: Replay) -> None:
    """Print the timeline: champions, retrains with verdicts, and how the three ways compare."""
    console.print(champions(found))
    console.print(retrains(found))
    console.print(totals(found))
    for sentence in answer(found):
        console.print(f"  {sentence}", markup=False)
    ledger = found.ledger
    console.print(f"  Ledger: {ledger['entries']} entries, chain {ledger['chain']}.")


def champions(found: Replay) -> Table:
    """Who was champion from when to when."""
    table = _table(f"champions of {found.model}, {found.start} to {found.last}")
    for name in ("champion", "first day", "last day"):
        table.add_column(name)
    table.add_column("days", justify="right")
    for version, start, end in found.champions():
        last = end - dt.timedelta(days=1)
        table.add_row(version or "none", str(start), str(last), str((end - start).days))
    return table


def retrains(found: Replay) -> Table:
    """Every retrain: why, what the gates said with numbers, what was done, how it went on."""
    table = _table("retrains")
    for name in ("day", "version", "cause", "gates", "then"):
        table.add_column(name, no_wrap=True)
    table.add_column("Brier afterwards", justify="right", no_wrap=True)
    table.add_column("what did not pass")
    for one in found.retrains:
        then = one.afterwards
        table.add_row(
            str(one.day),
            one.version,
            " and ".join(one.causes),
            MARKS[one.outcome],
            one.then,
            f"{then.brier.value:+.4f} {then.surely}" if then else "-",
            open_gates(one),
        )
    return table


def open_gates(retrain: Retrain) -> str:
    """The gates that did not pass, with estimate and limit."""
    told = []
    for gate in retrain.gates:
        if gate.outcome != "passed":
            number = "-" if gate.estimate is None else f"{gate.estimate:.3f}"
            told.append(f"{gate.gate} {number} ({gate.threshold:g})")
    return ", ".join(told) or "-"


def totals(found: Replay) -> Table:
    """The three ways on the same rows."""
    table = _table("in all, on the same rows")
    table.add_column("way", no_wrap=True)
    for name in ("rows", *METRICS.values()):
        table.add_column(name, justify="right", no_wrap=True)
    for arm in ARMS:
        total = found.totals[arm]
        numbers: list[Any] = [total.metrics.get(name) for name in METRICS]
        shown = ["no data" if one is None else f"{one.value:.4f}" for one in numbers]
        table.add_row(TITLES[arm], f"{total.n:,}", *shown)
    return table


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
