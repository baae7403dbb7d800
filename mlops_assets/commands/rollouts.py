"""Commands of rollouts: start, status, disagreement, pause, resume, abort and advance.

Thin, as all commands: arguments in, one call, words out. Running servers follow within a second.
"""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_assets.commands.releases import Json, Model, Reason, Version, opened
from mlops_assets.errors import DeclarationError, RolloutError

if TYPE_CHECKING:
    from mlops_assets.rollouts.moves import Verb

rollout = typer.Typer(
    no_args_is_help=True, help="Give a version the traffic step by step, and look how it does."
)


@rollout.command()
def start(
    model: Model,
    version: Version,
    reason: Reason,
    steps: Annotated[str, typer.Option(help="Percents, as 5,25,100; else the spec's.")] = "",
) -> None:
    """Begin to roll out a version: first in shadow, which answers nobody."""
    from mlops_assets.rollouts import moves
    from mlops_assets.rollouts.table import line

    platform, spec = opened(model)
    kept = moves.start(
        platform,
        spec,
        version,
        steps=_percents(steps),
        actor=platform.settings.who,
        reason=reason,
    )
    typer.echo(line(kept))


@rollout.command()
def status(model: Model, as_json: Json = False) -> None:
    """Show the newest rollout: its arms, what the guardrails say, and what comes next."""
    from mlops_assets import console
    from mlops_assets.core.rollout import Rollout
    from mlops_assets.rollouts import canary, moves
    from mlops_assets.rollouts import table as rollout_table

    platform, spec = opened(model)
    kept = platform.rollouts.last(model, "rollout")
    if kept is None:
        typer.echo(json.dumps({"model": model, "rollout": None}) if as_json else
                   f"{model} has had no rollout")  # fmt: skip
        return
    call = None
    if isinstance(kept.traffic, Rollout):
        sums = platform.rollouts.sums(kept.traffic.id)
        now = datetime.now(UTC)
        call = canary.call(spec, kept.traffic, sums, entered=kept.entered, now=now)
    if as_json:
        typer.echo(json.dumps(moves.state_of(kept, call), indent=1))
    else:
        console.console().print(rollout_table.shown(kept, call))


@rollout.command()
def pause(model: Model, reason: Reason) -> None:
    """Keep the traffic as it is; nothing but a person moves the rollout."""
    _move(model, "pause", reason)


@rollout.command()
def resume(model: Model, reason: Reason) -> None:
    """Go on where the rollout was paused."""
    _move(model, "resume", reason)


@rollout.command()
def abort(model: Model, reason: Reason) -> None:
    """Give everybody the champion again, for good."""
    _move(model, "abort", reason)


@rollout.command()
def advance(model: Model, reason: Reason) -> None:
    """Go to the next step; after the last one the version is released."""
    _move(model, "advance", reason)


@rollout.command()
def disagreement(
    model: Model,
    version: Annotated[str, typer.Option(help="The shadow; else that of the newest rollout.")] = "",
    as_json: Json = False,
) -> None:
    """Show how a shadow differs from what was answered, over all rows and slice by slice."""
    from mlops_assets import console
    from mlops_assets.rollouts import table as rollout_table
    from mlops_assets.rollouts.shadow_report import shadow_report

    platform, spec = opened(model)
    rollouts = [one for one in platform.rollouts.all() if one.model == model and one.is_rollout]
    chosen = [one for one in rollouts if not version or one.traffic.versions == (version,)]
    if not chosen:
        raise RolloutError(
            f"{model} has had no rollout" + (f" of version {version}" if version else ""),
            expected="a version that was the shadow",
            do=f"begin one: mlops-assets rollout start {model} VERSION --reason ...",
        )
    found = shadow_report(platform, spec, chosen[-1])
    if as_json:
        typer.echo(json.dumps(found.document, indent=1))
    else:
        console.console().print(rollout_table.disagreements(found))


def _move(model: str, verb: "Verb", reason: str) -> None:
    from mlops_assets.rollouts import moves
    from mlops_assets.rollouts.table import line

    platform, spec = opened(model)
    kept = moves.move(platform, spec, verb, actor=platform.settings.who, reason=reason)
    typer.echo(line(kept))


def _percents(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(one) for one in text.split(",")) if text else ()
    except ValueError as wrong:
        raise DeclarationError(
            f"the steps {text!r}",
            expected="percents that grow, separated by commas",
            do="write them like 5,25,50,100",
        ) from wrong
