"""The command of fault drills: break something on purpose, and see which guard says so.

Thin: arguments in, one call, words out.
"""

import json
from typing import Annotated

import typer

UNCAUGHT = 1
"""Exit code when a fault went through."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def drill(
    name: Annotated[str, typer.Argument(help="Name of a drill, or all.")] = "all",
    as_json: Json = False,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Guard to leave out of the drill's world; may be given again."),
    ] = None,
) -> None:
    """Break something on purpose in a scratch home, and tell which guard caught it.

    Exits with 1 when a fault went through. The user's home is not touched.
    """
    from mlops_assets import console as show
    from mlops_assets.drills import catalog, scoreboard

    console = show.console()
    drills = catalog.chosen(name)
    with console.status("building the scratch home") as status:
        found = catalog.run(
            drills,
            without or [],
            lambda one: status.update(f"{one.name}: {one.fault}"),
        )
    if as_json:
        typer.echo(json.dumps(scoreboard.document(found), indent=1))
    else:
        console.print(scoreboard.table(found))
        console.print(scoreboard.verdict(found), markup=False, soft_wrap=True)
    if not all(one.caught for one in found):
        raise typer.Exit(UNCAUGHT)
