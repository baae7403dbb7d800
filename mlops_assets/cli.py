"""The command line: one thin command per verb.

A command reads its arguments, calls one function and prints; every import that costs is inside the
command that needs it.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from mlops_assets.commands import alerts, drill, experiments, releases, rollouts, sql
from mlops_assets.commands import replay as replays
from mlops_assets.commands import traffic as replaying
from mlops_assets.errors import DataError, DeclarationError, UnknownNameError
from mlops_assets.serving import command as serving

if TYPE_CHECKING:
    import datetime as dt

    from mlops_assets.settings import Settings
    from mlops_assets.spec import ModelSpec
    from mlops_assets.tables import FeatureView

FAILED, REFUSED = 1, 3
"""Exit codes of a run that failed, and of one whose gates did not let the model through."""

# Threads of the boosting that wait for each other shall soon sleep: at OpenMP's default they spin,
# which costs minutes when another process wants the same cores. Read once, when OpenMP is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Calibration-first MLOps: a model is promoted when its probabilities mean what they say.",
)

features = typer.Typer(no_args_is_help=True, help="Look at features: what there is, and values.")
app.add_typer(features, name="features")

gates = typer.Typer(no_args_is_help=True, help="Look at gates: how often they decide, and when.")
app.add_typer(gates, name="gates")

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def main() -> NoReturn:
    """Entry point: errors that we raise on purpose are told in words, without a trace."""
    from mlops_assets.commands.failure import in_words

    try:
        app()
    except Exception as error:
        told = in_words(error)
        if told is None:
            raise
        typer.echo(f"error: {told}", err=True)
        sys.exit(1)
    sys.exit(0)


@app.command()
def run(
    model: Annotated[str, typer.Argument(help="Model to run; else all, one by one.")] = "",
    holdout: Annotated[str, typer.Option(help="Month to hold out, YYYY-MM.")] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Materialize everything, stale or not.")
    ] = False,
) -> None:
    """Run the main job: from raw data to a gated champion and its predictions."""
    from mlops_assets import console as show
    from mlops_assets import declared
    from mlops_assets.defs import main_job
    from mlops_assets.platform import Platform
    from mlops_assets.settings import Settings

    console = show.console()
    platform, codes = Platform(Settings()), []
    specs = declared.specs(platform.settings)
    chosen = [declared.named(specs, model)] if model else specs
    for spec in chosen:
        if len(chosen) > 1:
            console.rule(spec.name)
        outcome = main_job.run(
            platform,
            specs,
            spec,
            holdout=holdout,
            everything=everything,
            listener=show.ProgressPrinter(console),
            announce=console.print,
        )
        show.outcome(console, spec.name, outcome)
        codes.append(FAILED if outcome.error else 0 if outcome.released else REFUSED)
    if FAILED in codes or REFUSED in codes:
        raise typer.Exit(FAILED if FAILED in codes else REFUSED)
    console.print("Next: mlops-assets dev   (the runs in Dagster's UI, the models in MLflow's)")


@app.command()
def status(as_json: Json = False) -> None:
    """Show models, versions, aliases and their last verdicts."""
    from dataclasses import asdict

    from mlops_assets import declared
    from mlops_assets.platform import Platform
    from mlops_assets.settings import Settings

    platform = Platform(Settings())
    specs = declared.specs(platform.settings)
    found = {spec.name: platform.registry.versions(spec.name) for spec in specs}
    if as_json:
        document = {
            model: [
                {
                    "version": v.version,
                    "aliases": v.aliases,
                    "created": v.created.isoformat(),
                    "holdout": v.holdout,
                    "snapshot": v.tags.get("mlops.snapshot"),
                    "verdicts": [asdict(verdict) for verdict in v.verdicts],
                }
                for v in versions
            ]
            for model, versions in found.items()
        }
        typer.echo(json.dumps(document, indent=1))
        return
    from mlops_assets import console as show

    console = show.console()
    for model, versions in found.items():
        if versions:
            console.print(show.status(model, versions))
        else:
            console.print(f"{model}: no versions yet. Next: mlops-assets run {model}")


@app.command()
def card(
    version: Annotated[str, typer.Argument(help="Number of a version.")],
    model: Annotated[str, typer.Argument(help="Model; else the first.")] = "",
) -> None:
    """Print where the model card of a version is: one HTML file, for a browser or for print."""
    from mlops_assets.platform import Platform
    from mlops_assets.reports.card import FILE
    from mlops_assets.settings import Settings

    settings = Settings()
    registry = Platform(settings).registry
    found = registry.version(_named(model, settings).name, version)
    typer.echo(registry.report_file(found, FILE))


@app.command()
def dev() -> None:
    """Start Dagster and the MLflow UI on free ports; Ctrl-C stops both."""
    import signal

    from mlops_assets.defs.instance import prepare
    from mlops_assets.dev_servers import running
    from mlops_assets.platform import Platform
    from mlops_assets.settings import Settings

    # Set before anything starts, so that whatever stops us also stops the servers.
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.default_int_handler)
    settings = Settings()
    prepare(settings)
    _ = Platform(settings).registry.client  # makes the database: two servers must not race for it
    try:
        with running(settings) as servers:
            for server in servers:
                typer.echo(f"{server.name:<8} {server.address}")
            typer.echo("Ctrl-C stops both.")
            signal.pause()
    except KeyboardInterrupt:
        typer.echo("stopped")


@features.command("list")
def list_features() -> None:
    """List the feature views with their keys, age limits and features."""
    from mlops_assets import console as show
    from mlops_assets import declared
    from mlops_assets.settings import Settings
    from mlops_assets.spec import all_views

    show.console().print(show.views(all_views(declared.specs(Settings()))))


@features.command()
def describe(view: Annotated[str, typer.Argument(help="Name of a feature view.")]) -> None:
    """Describe a feature view: columns with contracts, age limit, days, definition."""
    from mlops_assets import console as show
    from mlops_assets.engines import duckdb as engine
    from mlops_assets.settings import Settings

    found = _view(view, Settings())
    console = show.console()
    console.print(show.view(found))
    console.print(engine.definition(found), markup=False, soft_wrap=True)


@features.command()
def get(
    view: Annotated[str, typer.Argument(help="Name of a feature view.")],
    key: Annotated[list[str], typer.Argument(help="The keys: origin=JFK dest=LAX.")],
    at: Annotated[str, typer.Option(help="A time (ISO 8601, UTC): the values known then.")] = "",
) -> None:
    """Get the features of one key: the online values, or those known at a time."""
    from mlops_assets import console as show
    from mlops_assets.engines import duckdb as engine
    from mlops_assets.platform import Platform
    from mlops_assets.settings import Settings
    from mlops_assets.stores.feature_store import references

    platform = Platform(Settings())
    found = _view(view, platform.settings)
    row, moment = _key(found, key), _time(at) if at else None
    store = platform.features
    if not platform.lake.folder(engine.features(found)).exists():
        raise DataError(
            f"the features of {found.name} were never computed in {platform.settings.root}",
            expected="a home with features",
            do="compute them: mlops-assets run",
        )
    rows: list[tuple[str, Any, str, dt.datetime | None]]
    if moment:
        values, known, time = store.at(found, row, moment)
        rows = [(name, value, known.words, time) for name, value in values.items()]
    else:
        answer = store.reader(references(found)).read([row])
        statuses = [status.words for status in answer.statuses[0]]
        times = answer.event_times[0]
        rows = list(zip(answer.names, answer.values[0], statuses, times, strict=True))
    show.console().print(show.values(found.name, row, at or "online", rows))


@gates.command()
def explain(
    model: Annotated[str, typer.Argument(help="Model whose policy it is; else the first.")] = "",
    n: Annotated[
        int | None, typer.Option("--n", help="Rows of the holdout; else several sizes.")
    ] = None,
    base_rate: Annotated[float, typer.Option(help="Share of rows whose label is 1.")] = 0.25,
    as_json: Json = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw it over n into this .png or .svg file too.")
    ] = None,
) -> None:
    """Show how often a gate policy passes, fails and abstains, and how much holdout it takes."""
    from dataclasses import asdict
    from functools import cache

    from mlops_assets import console as show
    from mlops_assets.core import operating, operating_plot
    from mlops_assets.settings import Settings

    form = _form(plot) if plot else None
    settings = Settings()
    spec = _named(model, settings)
    world = operating.World(spec.gates, base_rate, spec.confidence)
    marks = _last_holdout(spec.name, settings) if n is None else [n]
    sizes = operating.sizes_shown(world, (*operating.SIZES, *marks)) if n is None else (n,)
    cells_at = cache(lambda rows: operating.cells_at(world, rows))
    console = show.console()
    with console.status(f"simulating {world.runs} holdouts per model and size"):
        cells = [cell for rows in sizes for cell in cells_at(rows)]
        needed = operating.holdout_sizes(world, cells) if n is None else ()
        if plot and form:
            marks = [rows for rows in marks if rows in sizes]
            drawn = [c for rows in operating.sizes_plotted(world, *marks) for c in cells_at(rows)]
            mark = marks[0] if marks else None
            plot.write_bytes(operating_plot.operating_chart(world, drawn, mark=mark, form=form))
    if as_json:
        document = {
            "model": spec.name,
            "policy": spec.gates.model_dump(),
            "base_rate": base_rate,
            "confidence": spec.confidence,
            "runs": world.runs,
            "seed": world.seed,
            "cells": [cell.as_dict() for cell in cells],
            "holdout_sizes": [asdict(size) for size in needed],
        }
        typer.echo(json.dumps(document, indent=1))
        return
    console.print(show.operating(world, cells))
    if needed:
        console.print(show.needed(needed))
    console.print(show.operating_note(world))
    if plot:
        console.print(f"The picture is in {plot}.", markup=False)


def _form(plot: Path) -> Literal["png", "svg"]:
    """The kind of picture that the file's name asks for."""
    if plot.parent.is_dir():
        if plot.suffix == ".png":
            return "png"
        if plot.suffix == ".svg":
            return "svg"
    raise DeclarationError(
        f"the file {str(plot)!r} for the picture",
        expected="a name that ends in .png or .svg, in a folder that exists",
        do="name it like gates.png, or make the folder",
    )


def _last_holdout(model: str, settings: "Settings") -> list[int]:
    """Rows on which the newest version was judged; nothing if there is no version yet."""
    from mlops_assets.platform import Platform

    if not (settings.tracking_uri or (settings.mlflow / "mlflow.db").exists()):
        return []  # looking would make the database
    versions = Platform(settings).registry.versions(model)
    judged = [max(verdict.n for verdict in v.verdicts) for v in versions if v.verdicts]
    return [rows for rows in judged[:1] if rows]


def _view(name: str, settings: "Settings") -> "FeatureView":
    """The feature view called `name`; UnknownNameError with the nearest names."""
    from mlops_assets import declared
    from mlops_assets.spec import all_views

    by_name = {view.name: view for view in all_views(declared.specs(settings))}
    if name not in by_name:
        raise UnknownNameError.of("feature view", name, by_name)
    return by_name[name]


def _key(view: "FeatureView", words: Sequence[str]) -> dict[str, str]:
    """The key that `name=value` words give, all of the view's entities and no other."""
    row = dict(word.partition("=")[::2] for word in words)
    names = [entity.name for entity in view.entities]
    for name in row:
        if name not in names:
            raise UnknownNameError.of(f"key of {view.name}", name, names)
    if missing := [name for name in names if not row.get(name)]:
        raise DeclarationError(
            f"the key lacks {', '.join(missing)}",
            expected=" ".join(f"{name}=VALUE" for name in names),
            do="give a value for each",
        )
    return row


def _time(words: str) -> "dt.datetime":
    """A time in UTC; one without a zone is taken for UTC."""
    import datetime as dt

    try:
        time = dt.datetime.fromisoformat(words)
    except ValueError as wrong:
        raise DeclarationError(
            f"{words!r} is not a time", expected="ISO 8601", do="write it like 2013-11-05T12:00"
        ) from wrong
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)


def _named(model: str, settings: "Settings") -> "ModelSpec":
    """The spec called `model`; the first without a name."""
    from mlops_assets import declared

    specs = declared.specs(settings)
    return declared.named(specs, model) if model else specs[0]


# Last, so that `run` is the first command of the help.
for command in (
    *(releases.approve, releases.reject, releases.rollback, releases.retire),
    *(releases.adopt, releases.revert, releases.reproduce, releases.lineage),
):
    app.command()(command)
app.add_typer(releases.ledger, name="ledger")
app.add_typer(rollouts.rollout, name="rollout")
app.add_typer(experiments.experiment, name="experiment")
app.command()(sql.sql)
app.add_typer(alerts.alerts, name="alerts")
app.command()(serving.serve)
app.command()(replaying.traffic)
app.command()(replays.replay)
app.command()(drill.drill)
app.add_typer(serving.token, name="token")

if __name__ == "__main__":
    main()
