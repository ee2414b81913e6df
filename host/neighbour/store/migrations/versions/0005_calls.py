"""Records of calls, and how media of an account's calls are relayed and protected."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_COLUMNS = (("relay", 8), ("srtp", 16))


def upgrade() -> None:
    """Make the table, and give accounts what goes with it: those that were there have nothing set."""
    op.create_table(
        "calls",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("caller", sa.String(256), nullable=False),
        sa.Column("callee", sa.String(256), nullable=False),
        sa.Column("call_id", sa.String(64), nullable=False),
        sa.Column("began_at", sa.BigInteger, nullable=False),
        sa.Column("connected_at", sa.BigInteger, nullable=True),
        sa.Column("ended_at", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("media", sa.Text, nullable=False),
    )
    op.create_index("ix_calls_ended_at", "calls", ["ended_at"])
    for name, size in _COLUMNS:
        op.add_column("accounts", sa.Column(name, sa.String(size), nullable=True))


def downgrade() -> None:
    """There is no way back: who has demanded SRTP of an account would not get it any more.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError("a database of this version can't be made one of an earlier version")
