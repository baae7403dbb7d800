"""Commands of alerts: try the channels, see what waits, and which incidents are open.

Thin, as all commands: arguments in, one call, words out.
"""

import json
from datetime import UTC, datetime

import typer

from mlops_assets.commands.releases import Json
from mlops_assets.errors import DeclarationError

alerts = typer.Typer(no_args_is_help=True, help="Look at alerts, and try where they go.")

NOT_TAKEN = 1
"""Exit code when a channel did not take its message."""


@alerts.command()
def test() -> None:
    """Send a test message to every channel at once, whatever its severities and quiet hours."""
    from mlops_assets.core.alert import Alert
    from mlops_assets.platform import Platform
    from mlops_assets.settings import Settings

    platform = Platform(Settings())
    channels = platform.alerts.channels
    if not channels:
        raise DeclarationError(
            "there are no channels",
            expected="MLOPS_ALERT_CHANNELS, a JSON list of channels with name and url",
            do='such as MLOPS_ALERT_CHANNELS=\'[{"name": "duty", "url": "slack://..."}]\'',
        )
    now = datetime.now(UTC)
    message = Alert(
        incident=f"test/{now:%Y%m%dT%H%M%S}",
        kind="opened",
        severity="warning",
        what="this is a test",
        since=now,
        reason=f"{platform.settings.who} asked for it; nothing is wrong",
    )
    problems = {}
    for channel in channels:
        channel.check()
        problems[channel.name] = channel.send(message)
    for name, problem in problems.items():
        typer.echo(f"{name}: {'taken' if problem is None else f'not taken: {problem}'}")
    if any(problems.values()):
        raise typer.Exit(NOT_TAKEN)


@alerts.command()
def waiting(as_json: Json = False) -> None:
    """Show the messages that no channel has taken yet."""
    from mlops_assets.platform import Platform
    from mlops_assets.settings import Settings

    found = Platform(Settings()).alerts.waiting()
    if as_json:
        rows = [
            {
                "incident": one.alert.incident,
                "channel": one.channel,
                "title": one.alert.title,
                "attempts": one.attempts,
                "problem": one.problem,
                "due": one.due.isoformat(),
            }
            for one in found
        ]
        typer.echo(json.dumps(rows, indent=1))
        return
    for one in found:
        tried = f"tried {one.attempts} times, {one.problem}" if one.attempts else "not tried yet"
        typer.echo(f"{one.channel}: {one.alert.title} ({tried}; next {one.due:%Y-%m-%d %H:%M} UTC)")
    if not found:
        typer.echo("nothing waits")


@alerts.command("open")
def open_incidents(as_json: Json = False) -> None:
    """Show the incidents of all models that are open."""
    from mlops_assets import declared
    from mlops_assets.platform import Platform
    from mlops_assets.settings import Settings

    platform = Platform(Settings())
    found = [
        one
        for spec in declared.specs(platform.settings)
        for one in platform.incidents.open(spec.name)
    ]
    if as_json:
        rows = [
            {
                "incident": one.key,
                "what": str(one.subject),
                "since": one.since.isoformat(),
                "severity": one.severity,
                "reason": one.worst.reason,
            }
            for one in found
        ]
        typer.echo(json.dumps(rows, indent=1))
        return
    for one in found:
        typer.echo(f"{one.severity}: {one.subject} since {one.since:%Y-%m-%d}: {one.worst.reason}")
    if not found:
        typer.echo("no incident is open")
