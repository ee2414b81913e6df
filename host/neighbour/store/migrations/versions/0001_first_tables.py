"""Accounts, bindings and hop agreements."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "accounts",
        sa.Column("user", sa.String(128), primary_key=True),
        sa.Column("auth_user", sa.String(128), nullable=False, unique=True),
        sa.Column("is_terminal", sa.Boolean, nullable=False),
        sa.Column("ha1_sha256", sa.String(64), nullable=True),
        sa.Column("ha1_md5", sa.String(32), nullable=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
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
        sa.UniqueConstraint("user", "contact"),
    )
    op.create_index("bindings_expires_at", "bindings", ["expires_at"])
    op.create_table(
        "agreements",
        sa.Column("spi", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("user", sa.String(128), nullable=False, index=True),
        sa.Column("terminal_spi", sa.BigInteger, nullable=False),
        sa.Column("keys", sa.LargeBinary, nullable=False),
        sa.Column("nonce", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("sent_seq", sa.BigInteger, nullable=False),
        sa.Column("received_seq", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(counters, [{"name": "accounts", "value": 0}])
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    for name in ("secrets", "counters", "agreements", "bindings", "accounts"):
        op.drop_table(name)
