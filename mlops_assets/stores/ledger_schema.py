"""The schema of the ledger: made and brought up to date when a ledger is opened.

Alembic is imported only when there is something to do. What the tables are is in `ledger_tables`,
and how they came to be in `ledger_migrations`.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from mlops_assets.errors import LedgerError
from mlops_assets.stores.ledger_tables import VERSION_TABLE

NEWEST = "v0002"
"""The last migration that this version of the code knows."""

MIGRATIONS = Path(__file__).with_name("ledger_migrations")


def is_current(connection: Connection) -> bool:
    """Whether the tables are those that this version of the code knows."""
    return _version(connection) == NEWEST


def migrate(connection: Connection) -> None:
    """Bring the tables up to date, inside the caller's transaction.

    Raises:
        LedgerError: when the tables are of a newer version of the code.
    """
    found = _version(connection)
    if found == NEWEST:  # another process was quicker
        return
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(MIGRATIONS))
    known = {script.revision for script in scripts.walk_revisions()}
    if found is not None and found not in known:
        raise LedgerError(
            f"the ledger has the schema {found!r}",
            expected=f"{NEWEST!r} or an older one",
            do="use the version of mlops_assets that wrote it, or a newer one",
        )
    context = MigrationContext.configure(
        connection,
        opts={
            "version_table": VERSION_TABLE,
            "fn": lambda revision, _: scripts._upgrade_revs("head", revision),
        },
    )
    with Operations.context(context):
        context.run_migrations()


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
