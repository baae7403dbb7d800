"""The command that answers questions in SQL.

Thin, as all commands: a query in, rows out.
"""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 1_000
"""Rows that are drawn as a table; CSV and JSON have all."""


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT; without it the views are listed.")] = "",
    form: Annotated[
        Literal["table", "csv", "json"], typer.Option("--format", help="How rows are written.")
    ] = "table",
    views: Annotated[
        bool, typer.Option("--views", help="Print the views as SQL, for other tools on DuckDB.")
    ] = False,
) -> None:
    """Ask about predictions, monitors, features and the ledger; nothing can be changed."""
    from mlops_assets import declared
    from mlops_assets import views as kept
    from mlops_assets.platform import Platform
    from mlops_assets.settings import Settings

    platform = Platform(Settings())
    specs = declared.specs(platform.settings)
    as_of = platform.now
    if views:
        for name, statement in kept.statements(platform, specs, as_of).items():
            typer.echo(f'CREATE OR REPLACE VIEW "{name}" AS {statement};')
        absent = " and ".join(kept.COPIED)
        typer.echo(f"-- {absent} lie in another database; `mlops-assets sql` has them")
        return
    asked = query or (
        "SELECT table_name AS view, string_agg(column_name, ', ' ORDER BY ordinal_position) "
        "AS columns FROM information_schema.columns GROUP BY table_name ORDER BY table_name"
    )
    with kept.opened(platform, specs, as_of) as connection:
        found = kept.ask(connection, asked)
    match form:
        case "csv":
            import pyarrow.csv as csv

            csv.write_csv(_flat(found), sys.stdout.buffer)
        case "json":
            import json

            for row in found.to_pylist():
                typer.echo(json.dumps(row, default=str))
        case "table":
            from rich.table import Table

            from mlops_assets.console import console

            table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
            for name in found.column_names:
                table.add_column(name, overflow="fold")
            for row in found.slice(0, MOST_ROWS).to_pylist():
                table.add_row(*("" if value is None else str(value) for value in row.values()))
            console().print(table)
            if found.num_rows > MOST_ROWS:
                typer.echo(f"{MOST_ROWS:,} of {found.num_rows:,} rows; --format csv writes all")


def _flat(table: "pa.Table") -> "pa.Table":
    """The table as CSV can hold it: what is nested becomes text."""
    import pyarrow as pa

    columns = {
        name: [None if value is None else str(value) for value in table[name].to_pylist()]
        if pa.types.is_nested(table.schema.field(name).type)
        else table[name]
        for name in table.column_names
    }
    return pa.table(columns)
