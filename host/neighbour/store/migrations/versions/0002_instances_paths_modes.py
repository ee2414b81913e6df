"""Bindings by instance and path, and how accounts are reached. What was there stays what it was."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table of bindings anew, as what they are unique by changes, and give accounts a mode."""
    op.drop_index("bindings_expires_at", "bindings")
    op.rename_table("bindings", "bindings_0001")
    op.create_table(
        "bindings",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("user", sa.String(128), nullable=False),
        sa.Column("contact", sa.Text, nullable=False),
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("cseq", sa.BigInteger, nullable=False),
        sa.Column("q", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("flow", sa.String(8), nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("spi", sa.BigInteger, nullable=True),
        sa.Column("user_agent", sa.Text, nullable=False),
        sa.Column("slot", sa.Text, nullable=False),
        sa.Column("instance", sa.Text, nullable=False),
        sa.Column("reg_id", sa.BigInteger, nullable=True),
        sa.Column("params", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("registered_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("user", "slot"),
    )
    kept = '"user", contact, call_id, cseq, q, expires_at, flow, source, spi, user_agent'
    # When they were registered nobody knows; it was before all that follow.
    op.execute(
        f"INSERT INTO bindings ({kept}, slot, instance, params, path, registered_at)"  # noqa: S608  names of columns
        f" SELECT {kept}, contact, '', '', '', 0 FROM bindings_0001 ORDER BY id"
    )
    op.drop_table("bindings_0001")
    op.create_index("bindings_expires_at", "bindings", ["expires_at"])
    op.add_column("accounts", sa.Column("mode", sa.String(8), nullable=True))
    op.add_column("accounts", sa.Column("changed", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("ix_accounts_changed", "accounts", ["changed"])


def downgrade() -> None:
    """There is no way back: what is known of flows and paths fits in no table of before.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError("a database of this version can't be made one of an earlier version")
