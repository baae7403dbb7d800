"""Jobs for people: approve, reject and roll back, with a small form in the Launchpad.

Thin: what they do is done by `releasing.py` and `stores/releases.py`, as for the commands.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from mlops_assets import judgement
from mlops_assets.core.ledger_chain import Entry
from mlops_assets.defs import releasing
from mlops_assets.errors import MlopsAssetsError, UnknownNameError
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec


class StatementConfig(dg.Config):
    """The form of an approval or a rejection."""

    model: str = Field(description="Name of the model.")
    version: str = Field(description="Number of the version.")
    reason: str = Field(description="Why; it stands in the ledger for good.")
    approver: str = Field(default="", description="Who decides; the user of the server if empty.")


class RollbackConfig(dg.Config):
    """The form of a rollback."""

    model: str = Field(description="Name of the model.")
    reason: str = Field(description="Why; it stands in the ledger for good.")
    to: str = Field(default="", description="Version to go back to; the archived one if empty.")
    actor: str = Field(default="", description="Who rolls back; the user of the server if empty.")


def release_jobs(specs: Sequence[ModelSpec]) -> list[dg.JobDefinition]:
    """Build the jobs of some models."""
    by_name = {spec.name: spec for spec in specs}

    @dg.op(name="approve_version")
    def approve(
        context: dg.OpExecutionContext,
        config: StatementConfig,
        platform: dg.ResourceParam[Platform],
    ) -> None:
        spec = named(config.model, by_name)
        actor = config.approver or platform.settings.who
        with as_failure():
            released = releasing.approve(
                context.instance, platform, spec, config.version, actor=actor, reason=config.reason
            )
        context.add_output_metadata(released.metadata(platform, spec))

    @dg.op(name="reject_version")
    def reject(
        context: dg.OpExecutionContext,
        config: StatementConfig,
        platform: dg.ResourceParam[Platform],
    ) -> None:
        spec = named(config.model, by_name)
        actor = config.approver or platform.settings.who
        with as_failure():
            version = platform.registry.version(spec.name, config.version)
            cause = judgement.cause(
                platform.registry, spec, version, actor=actor, reason=config.reason
            )
            entry = platform.releases(spec).reject(spec.name, config.version, **cause)
        context.add_output_metadata(_of(entry))

    @dg.op(name="roll_back")
    def roll_back(
        context: dg.OpExecutionContext,
        config: RollbackConfig,
        platform: dg.ResourceParam[Platform],
    ) -> None:
        spec = named(config.model, by_name)
        with as_failure():
            entry = platform.releases(spec).rollback(
                spec.name,
                to=config.to or None,
                actor=config.actor or platform.settings.who,
                reason=config.reason,
            )
        context.add_output_metadata(_of(entry))

    @dg.job(name="approve", description="Approve a version that is held, and release it.")
    def approve_job() -> None:
        approve()

    @dg.job(name="reject", description="Reject a version on its present evidence.")
    def reject_job() -> None:
        reject()

    @dg.job(name="rollback", description="Go back to the champion before, in one step.")
    def rollback_job() -> None:
        roll_back()

    return [approve_job, reject_job, rollback_job]


def named(model: str, by_name: Mapping[str, ModelSpec]) -> ModelSpec:
    """The model that a form names; a failure in words when there is none."""
    if model not in by_name:
        raise dg.Failure(
            description=str(UnknownNameError.of("model", model, by_name)), allow_retries=False
        )
    return by_name[model]


def _of(entry: Entry) -> dict[str, Any]:
    return {
        "ledger_entry": entry.seq,
        "action": entry.action,
        "version": entry.version or "none",
        "actor": entry.actor,
        "champion": entry.after.get("champion", "none"),
    }


@contextlib.contextmanager
def as_failure() -> Iterator[None]:
    """Turn our errors into failures that are told in words and not tried again."""
    try:
        yield
    except MlopsAssetsError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
