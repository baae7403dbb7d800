"""The commands of the server: `serve` and `token`, to be added to the command line.

Thin, as all commands: each reads its arguments, calls one function and prints. Imports that cost
are inside the command that needs them.
"""

from typing import Annotated

import typer

token = typer.Typer(no_args_is_help=True, help="Say who may ask the model server.")


def serve(
    host: Annotated[str, typer.Option(help="Address; beyond this machine with tokens only.")] = "",
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.")] = None,
) -> None:
    """Serve every model that has a champion; Ctrl-C finishes the requests in work and stops."""
    from mlops_assets.serving import server
    from mlops_assets.serving.options import ServeOptions
    from mlops_assets.settings import Settings

    given = {"host": host or None, "port": port, "workers": workers}
    options = ServeOptions(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    server.serve(Settings(), options)


@token.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Whose token it is.")],
    role: Annotated[str, typer.Option(help="predict, operate or admin.")] = "predict",
) -> None:
    """Create a token and print it; it is shown once, and only its hash is kept."""
    from mlops_assets.serving import auth
    from mlops_assets.settings import Settings

    typer.echo(auth.create(Settings().root, name, role))


@token.command("list")
def list_tokens() -> None:
    """List the tokens: names, roles and dates."""
    from mlops_assets.serving import auth
    from mlops_assets.settings import Settings

    root = Settings().root
    tokens = auth.read(root / auth.FILE)
    for one in tokens:
        typer.echo(f"{one.name:<20} {one.role:<8} {one.created}")
    if not tokens:
        typer.echo(auth.none_left(root))


@token.command("revoke")
def revoke(name: Annotated[str, typer.Argument(help="Whose token it is.")]) -> None:
    """Revoke a token; running servers follow within a second."""
    from mlops_assets.serving import auth
    from mlops_assets.settings import Settings

    root = Settings().root
    auth.revoke(root, name)
    typer.echo(f"the token of {name} is revoked")
    if not auth.read(root / auth.FILE):
        typer.echo(auth.none_left(root))
