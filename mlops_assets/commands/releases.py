"""Commands of releases: approve, reject, roll back, reproduce, and read ledger and lineage.

Thin, as all commands: arguments in, one call, words out. None of them needs a Dagster process.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_assets.errors import DataError, LedgerError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlops_assets.core.ledger_chain import Entry
    from mlops_assets.platform import Platform
    from mlops_assets.spec import ModelSpec
    from mlops_assets.stores.registry import ModelVersion

DIFFERS = 3
"""Exit code of a reproduction that is not identical."""

Model = Annotated[str, typer.Argument(help="Name of the model.")]
Version = Annotated[str, typer.Argument(help="Number of the version.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the ledger for good.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

ledger = typer.Typer(no_args_is_help=True, help="Read the release ledger: who, what, when, why.")


def approve(model: Model, version: Version, reason: Reason) -> None:
    """Approve a version that is held, and release it."""
    from mlops_assets.defs import instance, releasing

    platform, spec = opened(model)
    with instance.opened(platform.settings) as graph:
        released = releasing.approve(
            graph, platform, spec, version, actor=platform.settings.who, reason=reason
        )
    typer.echo(f"version {version} of {model} is {released.stage}, approved by "
               f"{platform.settings.who}")  # fmt: skip


def reject(model: Model, version: Version, reason: Reason) -> None:
    """Reject a version: it is not released unless its gates are evaluated again."""
    from mlops_assets import judgement

    platform, spec = opened(model)
    found = platform.registry.version(model, version)
    who = platform.settings.who
    cause = judgement.cause(platform.registry, spec, found, actor=who, reason=reason)
    _say(platform.releases(spec).reject(model, version, **cause))


def rollback(
    model: Model,
    reason: Reason,
    to: Annotated[str, typer.Option(help="Version to go back to; else the archived one.")] = "",
) -> None:
    """Go back to the champion before, in one step."""
    platform, spec = opened(model)
    who = platform.settings.who
    _say(platform.releases(spec).rollback(model, to=to or None, actor=who, reason=reason))


def retire(model: Model, version: Version, reason: Reason) -> None:
    """Never use a version again."""
    platform, spec = opened(model)
    who = platform.settings.who
    _say(platform.releases(spec).retire(model, version, actor=who, reason=reason))


def adopt(model: Model, reason: Reason) -> None:
    """Let the ledger take over aliases that were moved by hand."""
    platform, spec = opened(model)
    _say(platform.releases(spec).adopt(model, actor=platform.settings.who, reason=reason))


def revert(model: Model, reason: Reason) -> None:
    """Put aliases that were moved by hand back to where the ledger has them."""
    platform, spec = opened(model)
    _say(platform.releases(spec).revert(model, actor=platform.settings.who, reason=reason))


def reproduce(model: Model, version: Version, as_json: Json = False) -> None:
    """Train a version again from its snapshot, and compare; exit code 3 when it differs."""
    from mlops_assets.reproduce import reproduce as again

    platform, spec = opened(model)
    found = platform.registry.version(model, version)
    outcome = again(platform, platform.ledger, spec, found, actor=platform.settings.who)
    if as_json:
        typer.echo(json.dumps(outcome.as_dict(), indent=1))
    else:
        typer.echo(outcome.summary)
        for difference in outcome.differences:
            typer.echo(f"  {difference}")
    if not outcome.identical:
        raise typer.Exit(DIFFERS)


def lineage(
    name: Annotated[str, typer.Argument(help="MODEL, MODEL@alias or MODEL:VERSION.")],
    as_json: Json = False,
) -> None:
    """Walk from a version back to its snapshot, features, sources, code, runs and approvals."""
    from mlops_assets import console as show_
    from mlops_assets.lineage import lineage as walk
    from mlops_assets.lineage_tree import tree

    platform, spec = opened(re.split("[@:]", name)[0])
    found = walk(platform, platform.ledger, spec, name)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1))
    else:
        show_.console().print(tree(found))


@ledger.command()
def show(
    model: Annotated[str, typer.Option(help="Of this model only.")] = "",
    last: Annotated[int, typer.Option(help="So many entries, the newest ones.")] = 50,
    as_json: Json = False,
) -> None:
    """Show the entries, oldest first."""
    from mlops_assets import console as show_

    platform = _platform()
    entries = platform.ledger.entries(model or None, last=last)
    if model and not entries:
        known = _need_declared(platform, model)
        if not as_json:
            typer.echo(f"no entries of {model!r}; the ledger has entries of: {known}")
            return
    if as_json:
        typer.echo(json.dumps([_plain(entry) for entry in entries], indent=1))
    else:
        show_.console().print(show_.ledger(entries))


@ledger.command()
def verify() -> None:
    """Recompute the whole chain, and compare it with the tags of the versions it is about."""
    platform = _platform()
    found = platform.ledger
    models = {state.model for state in found.states()}
    versions = [one for model in sorted(models) for one in platform.registry.versions(model)]
    broken = found.verify(anchors(versions))
    if broken:
        raise LedgerError(
            f"entry {broken.seq} of the ledger is {broken.fault}: {broken.found}",
            expected="a chain that nobody has changed",
            do="keep the database as it is, and compare it with a copy or an export",
        )
    typer.echo(f"{found.head().seq} entries, nobody has changed them")


@ledger.command()
def export(file: Annotated[Path, typer.Argument(help="A new file, one JSON line each.")]) -> None:
    """Write all entries to a file, with their hashes."""
    entries = _platform().ledger.entries()
    # A file that is there may be the only copy of something: it is not replaced.
    try:
        with file.open("x") as stream:
            stream.writelines(json.dumps(_plain(entry)) + "\n" for entry in entries)
    except OSError as refused:
        raise DataError(
            f"{file} cannot be written: {refused.strerror}",
            expected="a new file in a folder that there is",
            do="name another file; one that is there is never replaced",
        ) from refused
    typer.echo(f"{len(entries)} entries in {file}")


def anchors(versions: "Iterable[ModelVersion]") -> dict[int, str]:
    """Hashes of entries, by number, as they stand on the versions: a second copy elsewhere."""
    tags = [version.tags for version in versions]
    return {
        int(one["mlops.ledger_seq"]): one["mlops.ledger_hash"]
        for one in tags
        if "mlops.ledger_seq" in one and "mlops.ledger_hash" in one
    }


def _platform() -> "Platform":
    from mlops_assets.platform import Platform
    from mlops_assets.settings import Settings

    return Platform(Settings())


def opened(model: str) -> "tuple[Platform, ModelSpec]":
    """The platform and the spec of a model, whose unfinished moves are finished first."""
    # Not from `definitions`, which would bring Dagster along: a rollback is quick.
    from mlops_assets import declared

    platform = _platform()
    spec = declared.named(declared.specs(platform.settings), model)
    platform.releases(spec).reconcile(model, actor=platform.settings.who)
    return platform, spec


def _need_declared(platform: "Platform", model: str) -> str:
    """The models that have entries, in words; a model that nobody knows is refused."""
    from mlops_assets import declared

    known = [state.model for state in platform.ledger.states()]
    names = {spec.name for spec in declared.specs(platform.settings)}
    if model not in names:
        raise UnknownNameError.of("model", model, names.union(known))
    return ", ".join(known) or "no model"


def _say(entry: "Entry") -> None:
    champion = entry.after.get("champion", "none")
    typer.echo(f"entry {entry.seq}: {entry.action} of version {entry.version or 'none'} of "
               f"{entry.model} by {entry.actor}; champion: {champion}")  # fmt: skip


def _plain(entry: "Entry") -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(entry), "time": entry.time.isoformat()}
