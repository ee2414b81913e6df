"""What the security agent does for an account. Those that were there have nothing set."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_COLUMNS = (("level", 8), ("assist", 16), ("signer", 64), ("show", 16))


def upgrade() -> None:
    """Give accounts a level and what goes with it."""
    for name, size in _COLUMNS:
        op.add_column("accounts", sa.Column(name, sa.String(size), nullable=True))


def downgrade() -> None:
    """There is no way back: a level that is forgotten would let calls through that it refused.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError("a database of this version can't be made one of an earlier version")
