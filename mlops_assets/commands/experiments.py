"""Commands of experiments: start, status, stop and plan.

Thin, as all commands: arguments in, one call, words out. Running servers follow within a second.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_assets.commands.releases import Json, Model, Reason, opened
from mlops_assets.errors import DeclarationError

if TYPE_CHECKING:
    from mlops_assets.core.routing import Arm

experiment = typer.Typer(
    no_args_is_help=True, help="Split the traffic over versions, and see which brings more."
)

Exposed = Annotated[float, typer.Option(help="Percent of the traffic that takes part.")]


@experiment.command()
def start(
    model: Model,
    arm: Annotated[list[str], typer.Option(help="NAME=VERSION:PERCENT; the first is the base.")],
    metric: Annotated[list[str], typer.Option(help="A metric of the spec; one or more.")],
    reason: Reason,
    exposed: Exposed = 100,
) -> None:
    """Begin to split the traffic over versions."""
    from mlops_assets.experiments import lifecycle
    from mlops_assets.rollouts.table import line

    platform, spec = opened(model)
    kept = lifecycle.start(
        platform,
        spec,
        [_arm(one) for one in arm],
        metric,
        exposed=exposed,
        actor=platform.settings.who,
        reason=reason,
    )
    typer.echo(line(kept))


@experiment.command()
def status(
    model: Model,
    as_json: Json = False,
    card: Annotated[
        Path | None, typer.Option(help="Write it with pictures into this .html file too.")
    ] = None,
) -> None:
    """Show the newest experiment: what each arm brings against the first."""
    from mlops_assets import console
    from mlops_assets.core import experiment_page
    from mlops_assets.experiments import lifecycle
    from mlops_assets.experiments import table as experiment_table

    if card is not None and (card.suffix != ".html" or not card.parent.is_dir()):
        raise DeclarationError(
            f"the file {str(card)!r} for the card",
            expected="a name that ends in .html, in a folder that exists",
            do="name it like experiment.html, or make the folder",
        )
    platform, spec = opened(model)
    found = lifecycle.report(platform, spec)
    if card is not None:
        card.write_text(experiment_page.page(lifecycle.page_of(found, spec)))
    if as_json:
        typer.echo(json.dumps(found.document, indent=1))
        return
    console.console().print(experiment_table.shown(found))
    if card is not None:
        typer.echo(f"The card is in {card}.")


@experiment.command()
def stop(model: Model, reason: Reason) -> None:
    """Stop the experiment: everybody gets the champion."""
    from mlops_assets.experiments import lifecycle
    from mlops_assets.rollouts.table import line

    platform, spec = opened(model)
    typer.echo(line(lifecycle.stop(platform, spec, actor=platform.settings.who, reason=reason)))


@experiment.command()
def plan(
    model: Model,
    metric: Annotated[
        list[str], typer.Option(help="A metric of the spec; of several the first is planned for.")
    ],
    effect: Annotated[float, typer.Option(help="Difference per entity that is to be found.")],
    arms: Annotated[int, typer.Option(min=2, max=20, help="Arms of equal share.")] = 2,
    exposed: Exposed = 100,
    days: Annotated[int, typer.Option(min=1, help="Past days to learn from.")] = 14,
    as_json: Json = False,
) -> None:
    """Show how much traffic it takes to find an effect, by what the past days were like."""
    from dataclasses import asdict

    from mlops_assets import console
    from mlops_assets.experiments import plan as experiment_plan
    from mlops_assets.experiments import table as experiment_table

    platform, spec = opened(model)
    found = experiment_plan.plan(
        platform, spec, metric, effect, shares=[1] * arms, exposed=exposed, past_days=days
    )
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1))
    else:
        console.console().print(experiment_table.planned(found))


def _arm(words: str) -> "Arm":
    from mlops_assets.experiments import lifecycle

    name, _, rest = words.partition("=")
    version, _, percent = rest.partition(":")
    try:
        return lifecycle.arm(name, version, float(percent.removesuffix("%")))
    except ValueError as wrong:
        raise DeclarationError(
            f"the arm {words!r}",
            expected="NAME=VERSION:PERCENT",
            do="write arms like --arm old=7:50 --arm new=8:50",
        ) from wrong
