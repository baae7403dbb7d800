"""What a replay prints: one line while it runs, and the summary. Words and tables only."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mlops_assets.traffic.options import By
from mlops_assets.traffic.tally import Latency, Tally


def line(tally: Tally) -> Text:
    """How far a replay is."""
    parts = [f"{tally.asked:,} of {tally.rows:,} rows"]
    if tally.at:
        parts.append(f"{tally.at:%Y-%m-%d %H:%M}")
    parts.append(f"{tally.posted:,} outcomes")
    if refused := sum(tally.refused.values()):
        parts.append(f"{refused:,} refused")
    if tally.behind >= 1:
        parts.append(f"{tally.behind:.0f} s behind")
    return Text("   ".join(parts))


def summary(console: Console, model: str, tally: Tally, by: By) -> None:
    """Print what became of a replay."""
    if tally.ended:
        console.print(f"Ended early: {tally.ended}.", markup=False)
    console.print(_answers(model, tally))
    if tally.refused:
        console.print(_errors(tally))
    for text in (*_rows(tally), *_outcomes(tally), *_notes(tally, by)):
        console.print(text, markup=False, soft_wrap=True)


def _answers(model: str, tally: Tally) -> Table:
    table = _table(f"answers of {model}")
    for name in ("version", "arm"):
        table.add_column(name)
    for name in ("requests", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for (version, arm), found in tally.latencies().items():
        table.add_row(escape(version), escape(arm), *_numbers(found))
    table.add_row("all", "", *_numbers(tally.latency()))
    return table


def _numbers(found: Latency) -> tuple[str, ...]:
    times = ("-" if one is None else f"{1000 * one:.2f}" for one in (found.p50, found.p99))
    return (f"{found.n:,}", *times)


def _errors(tally: Tally) -> Table:
    table = _table("refused")
    for name in ("asked for", "status"):
        table.add_column(name, no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("first message")
    for (what, why), count in sorted(tally.refused.items()):
        table.add_row(what, why, f"{count:,}", escape(tally.first[what, why]))
    return table


def _rows(tally: Tally) -> list[str]:
    rate = tally.answered / tally.seconds if tally.seconds else 0.0
    found = [
        f"rows: {tally.asked:,} of {tally.rows:,} sent, {tally.answered:,} answered in "
        f"{tally.seconds:.1f} s ({rate:,.0f} per second), {tally.not_asked:,} not sent"
    ]
    if tally.waits:
        again = ", ".join(f"{count:,} after {why}" for why, count in sorted(tally.waits.items()))
        found.append(f"sent again: {again}")
    if tally.behind >= 1:
        found.append(
            f"late: by up to {tally.behind:.1f} s: more was due than the server, or this "
            "client, kept up with"
        )
    return found


def _outcomes(tally: Tally) -> list[str]:
    return [
        f"outcomes: {tally.posted:,} posted, {tally.outstanding:,} outstanding, "
        f"{tally.never:,} whose label never comes, {tally.without:,} without a prediction"
    ]


def _notes(tally: Tally, by: By) -> list[str]:
    if not tally.statuses:
        return []
    counts = ", ".join(f"{n:,} {status.lower()}" for status, n in sorted(tally.statuses.items()))
    per_row = sum(tally.statuses.values()) / max(1, tally.answered)
    found = [f"features not present: {counts} ({per_row:.1f} per row)"]
    if by == "entities":
        found.append(
            "The server reads them as of its own time. For rows of the past, start it with "
            "MLOPS_NOW at a time when the online store was filled, or replay --by features."
        )
    return found


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
