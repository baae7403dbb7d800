"""Rollouts and experiments: their state, and what is counted of their arms."""

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision = "v0001"


def upgrade() -> None:
    """Make the tables."""
    count: sa.types.TypeEngine[int] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    double: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
    op.create_table(
        "rollouts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("is_open", sa.Integer, nullable=False),
        sa.Column("champion", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("entered", sa.Text, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sqlite_strict=True,
    )
    op.create_index(
        "rollouts_open",
        "rollouts",
        ["model"],
        unique=True,
        sqlite_where=sa.text("is_open = 1"),
        postgresql_where=sa.text("is_open = 1"),
    )
    op.create_table(
        "rollout_sums",
        sa.Column("rollout", sa.Text, primary_key=True),
        sa.Column("stage", sa.Text, primary_key=True),
        sa.Column("arm", sa.Text, primary_key=True),
        sa.Column("number", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("n", count, nullable=False),
        sa.Column("total", double, nullable=False),
        sa.Column("squares", double, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "rollout_claims",
        sa.Column("rollout", sa.Text, primary_key=True),
        sa.Column("stage", sa.Text, primary_key=True),
        sa.Column("arm", sa.Text, primary_key=True),
        sa.Column("mark", count, primary_key=True, autoincrement=False),
        sa.Column("source", sa.Text, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Refuse: without its tables there is no ledger.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError("the ledger is never taken away; restore a copy instead")
