"""Jobs for people: start and move rollouts, with a small form in the Launchpad.

Thin, as the jobs of `jobs.py`: what they do is done by `rollouts.moves`, as for the commands and
the model server.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from mlops_assets.defs.jobs import as_failure, named
from mlops_assets.errors import DeclarationError
from mlops_assets.platform import Platform
from mlops_assets.rollouts import moves
from mlops_assets.rollouts.table import line
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.rollouts import Kept

MOVES = ("advance", "pause", "resume", "abort")


class StartConfig(dg.Config):
    """The form of a rollout's start."""

    model: str = Field(description="Name of the model.")
    version: str = Field(description="Number of the version.")
    reason: str = Field(description="Why; it stands in the ledger for good.")
    steps: list[float] = Field(default=[], description="Percents that grow; the spec's if empty.")
    actor: str = Field(default="", description="Who starts it; the user of the server if empty.")


class MoveConfig(dg.Config):
    """The form of a rollout's move."""

    model: str = Field(description="Name of the model.")
    move: str = Field(description=f"One of: {', '.join(MOVES)}.")
    reason: str = Field(description="Why; it stands in the ledger for good.")
    actor: str = Field(default="", description="Who moves it; the user of the server if empty.")


def rollout_jobs(specs: Sequence[ModelSpec]) -> list[dg.JobDefinition]:
    """Build the jobs of some models."""
    by_name = {spec.name: spec for spec in specs}

    @dg.op(name="start_rollout")
    def start(
        context: dg.OpExecutionContext, config: StartConfig, platform: dg.ResourceParam[Platform]
    ) -> None:
        spec = named(config.model, by_name)
        with as_failure():
            kept = moves.start(
                platform,
                spec,
                config.version,
                steps=tuple(config.steps),
                actor=config.actor or platform.settings.who,
                reason=config.reason,
            )
        context.add_output_metadata(_of(kept))

    @dg.op(name="move_rollout")
    def move(
        context: dg.OpExecutionContext, config: MoveConfig, platform: dg.ResourceParam[Platform]
    ) -> None:
        spec = named(config.model, by_name)
        with as_failure():
            if config.move not in MOVES:
                raise DeclarationError(
                    f"the move {config.move!r}",
                    expected=f"one of: {', '.join(MOVES)}",
                    do="correct the move",
                )
            kept = moves.move(
                platform,
                spec,
                config.move,  # type: ignore[arg-type]
                actor=config.actor or platform.settings.who,
                reason=config.reason,
            )
        context.add_output_metadata(_of(kept))

    @dg.job(name="rollout_start", description="Begin to roll out a version, in shadow.")
    def start_job() -> None:
        start()

    @dg.job(name="rollout_move", description="Advance, pause, resume or abort a rollout.")
    def move_job() -> None:
        move()

    return [start_job, move_job]


def _of(kept: Kept) -> dict[str, Any]:
    return {
        "rollout": kept.traffic.id,
        "state": kept.traffic.state,
        "in_words": line(kept),
        "ledger_entry": kept.seq,
    }
