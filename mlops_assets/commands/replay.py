"""The command of replays: real days walked through, to see what the gates are worth.

Thin: arguments in, one call, words out. No Dagster process is needed.
"""

from pathlib import Path
from typing import Annotated

import typer

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

EXAMPLE = """The file is YAML; what it leaves out has its default. For example:
`retrain_every_days: 14`, `holdout_days: 14`, `inconclusive: release`, `compete_every: 1`,
`canary: {steps: [50, 100]}`,
`gates: {metric_margin: {f1: 0.1}}`."""


def replay(
    model: Annotated[str, typer.Argument(help="Name of the model, a classifier.")],
    start: Annotated[str, typer.Option("--from", help="First month or day: 2013-03, 2013-03-15.")],
    end: Annotated[str, typer.Option("--to", help="Last month or day, which belongs to it.")],
    policy: Annotated[
        Path | None, typer.Option(help=f"How retrains, windows and canaries go. {EXAMPLE}")
    ] = None,
) -> None:
    """Replay real days: what gates and canaries prevented, and what they cost.

    Compares the platform with the first model left alone, and with always the newest model. Writes
    a page, a picture and all facts as JSON. After Ctrl-C a second start takes what was trained.
    """
    from mlops_assets import console as show
    from mlops_assets import declared
    from mlops_assets.platform import Platform
    from mlops_assets.replay import timeline
    from mlops_assets.replay.policy import ReplayPolicy
    from mlops_assets.replay.replay import end_day, first_day
    from mlops_assets.replay.replay import replay as walk
    from mlops_assets.settings import Settings

    platform = Platform(Settings())
    spec = declared.named(declared.specs(platform.settings), model)
    chosen = ReplayPolicy.read(policy) if policy else ReplayPolicy()
    console, days = show.console(), (first_day(start), end_day(end))
    with timeline.Follower(console) as follower:
        try:
            found, files = walk(
                platform,
                spec,
                *days,
                chosen,
                name=policy.stem if policy else "",
                listener=follower,
                announce=console.print,
            )
        except KeyboardInterrupt:
            console.print(f"stopped; {follower.trained} candidates were trained and are kept")
            console.print("Next: the same command, which goes on from there")
            raise typer.Exit(INTERRUPTED) from None
    timeline.show(console, found)
    console.print(f"The page: {files.html}", soft_wrap=True, markup=False)
    console.print(f"The picture: {files.png}", soft_wrap=True, markup=False)
    console.print(f"All facts: {files.json}", soft_wrap=True, markup=False)
