"""The ledger: entries that can only be added, the head of their chain, and a row per model.

The tables are written out, not imported: a migration says what was, the package what is.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0001"
down_revision = None

PROTECT = {
    "sqlite": [
        f"""
        CREATE TRIGGER ledger_entries_no_{change} BEFORE {change.upper()} ON ledger_entries
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END
        """
        for change in ("update", "delete")
    ],
    "postgresql": [
        """
        CREATE FUNCTION ledger_append_only() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$
        """,
        """
        CREATE TRIGGER ledger_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE
        ON ledger_entries FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only()
        """,
    ],
}
"""Against accidents; who may drop a trigger is found by the chain."""


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "ledger_entries",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("time", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("version", sa.Text),
        sa.Column("from_version", sa.Text),
        sa.Column("before", sa.Text, nullable=False),
        sa.Column("after", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("snapshot", sa.Text),
        sa.Column("git_commit", sa.Text),
        sa.Column("feature_service_digest", sa.Text),
        sa.Column("approver", sa.Text),
        sa.Column("previous_hash", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("ledger_entries_by_model", "ledger_entries", ["model", "seq"])
    op.create_index("ledger_entries_by_version", "ledger_entries", ["model", "version", "seq"])
    head = op.create_table(
        "ledger_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    op.bulk_insert(head, [{"id": 1, "seq": 0, "hash": "0" * 64}])
    op.create_table(
        "ledger_models",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("champion", sa.Text),
        sa.Column("challenger", sa.Text),
        sa.Column("archived", sa.Text),
        sa.Column("intent", sa.Text),
        sa.Column("updated_seq", sa.Integer, nullable=False),
        sa.Column("champion_seq", sa.Integer, nullable=False),
        sqlite_strict=True,
    )
    for statement in PROTECT[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: without its tables there is no ledger.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError("the ledger is never taken away; restore a copy instead")
