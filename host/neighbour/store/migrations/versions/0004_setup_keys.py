"""Setup keys on their way, and whom users take them from."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "account_contacts",
        sa.Column("user", sa.String(128), primary_key=True),
        sa.Column("aor", sa.String(256), primary_key=True),
    )
    op.create_table(
        "setup_keys",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("user", sa.String(128), nullable=False),
        sa.Column("peer", sa.String(256), nullable=False),
        sa.Column("kid", sa.String(16), nullable=False),
        sa.Column("key", sa.LargeBinary, nullable=True),
        sa.Column("uses", sa.BigInteger, nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("ends_at", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.UniqueConstraint("user", "peer", "kid"),
        sqlite_autoincrement=True,
    )
    for name in ("peer", "ends_at", "state"):
        op.create_index(f"ix_setup_keys_{name}", "setup_keys", [name])


def downgrade() -> None:
    """There is no way back: keys that are forgotten on one side alone would be of no use on the other.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError("a database of this version can't be made one of an earlier version")
