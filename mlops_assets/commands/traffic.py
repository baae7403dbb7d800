"""The command that replays real rows of a model against a server.

Thin, as all commands: arguments in, one call, words out.
"""

import datetime as dt
from typing import Annotated, Literal

import typer

from mlops_assets.errors import DeclarationError

FAILED = 1
"""Exit code of a replay of which the server refused something, or that it did not live through."""


def traffic(
    since: Annotated[str, typer.Option("--from", help="First day, YYYY-MM-DD (UTC).")],
    until: Annotated[str, typer.Option("--to", help="The day after the last.")],
    model: Annotated[str, typer.Argument(help="Name of the model; else the first.")] = "",
    speed: Annotated[
        str, typer.Option(help="So many times as fast as it happened; max: as the server answers.")
    ] = "max",
    url: Annotated[str, typer.Option(help="Address of the server.")] = "http://127.0.0.1:8080",
    by: Annotated[
        Literal["features", "entities"],
        typer.Option(help="Send features of each row's time, or ids whose features are online."),
    ] = "features",
    connections: Annotated[int, typer.Option(min=1, max=256, help="Most requests at a time.")] = 8,
) -> None:
    """Replay real rows as requests, and say what became of them when it became known.

    The token, where the server asks for one, is read from MLOPS_TOKEN. Ctrl-C ends with the
    summary.
    """
    import signal

    from rich.live import Live

    from mlops_assets import console as show
    from mlops_assets import declared
    from mlops_assets.platform import Platform
    from mlops_assets.settings import Settings
    from mlops_assets.traffic import printed, replay, source
    from mlops_assets.traffic.client import Server
    from mlops_assets.traffic.options import TrafficOptions
    from mlops_assets.traffic.schedule import speed_of
    from mlops_assets.traffic.tally import Tally

    options = TrafficOptions(url=url, speed=speed_of(speed), by=by, connections=connections)
    platform = Platform(Settings())
    specs = declared.specs(platform.settings)
    spec = declared.named(specs, model) if model else specs[0]
    start, end = _day(since), _day(until)
    # Whatever stops us, there is a summary of what was sent.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console, server = show.console(), Server(options)
    replay.check(server, spec.name, options.url)
    with console.status(f"reading the rows of {spec.name}"):
        table = source.table_of(platform, spec, start, end, by)
    tally = Tally(rows=table.num_rows)
    console.print(f"{tally.rows:,} rows of {spec.name} by {by} to {options.url}", markup=False)
    with Live(
        get_renderable=lambda: printed.line(tally),
        console=console,
        refresh_per_second=4,
        transient=True,
    ):
        replay.Replay(server, spec.name, options, tally).run(source.rows_of(table, spec, by))
    printed.summary(console, spec.name, tally, by)
    if tally.refused or tally.ended not in ("", replay.BY_HAND):
        raise typer.Exit(FAILED)


def _day(words: str) -> dt.date:
    try:
        return dt.date.fromisoformat(words)
    except ValueError as wrong:
        raise DeclarationError(
            f"{words!r} is not a day", expected="YYYY-MM-DD", do="write it like 2013-11-01"
        ) from wrong
