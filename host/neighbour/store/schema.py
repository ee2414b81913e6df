"""The tables. Times are integer milliseconds since 1970; `migrations` holds every step that led here."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = [
    "account_contacts",
    "accounts",
    "agreements",
    "bindings",
    "calls",
    "counters",
    "metadata",
    "secrets",
    "setup_keys",
]

metadata = MetaData()

#: Users of the domain. A terminal speaks through the hop only, a phone by digest. ``revision`` is the counter's when it
#: was made: a user that was removed and made again is another account. ``changed`` is the counter's when anything of it
#: was last changed. ``mode`` says how others reach it: proxy, redirect, or as the configuration says; ``level``,
#: ``assist``, ``signer`` and ``show`` what the security agent does for it, ``relay`` and ``srtp`` what is done with its
#: media, see `Account`.
accounts = Table(
    "accounts",
    metadata,
    Column("user", String(128), primary_key=True),
    Column("auth_user", String(128), nullable=False, unique=True),
    Column("is_terminal", Boolean, nullable=False),
    Column("ha1_sha256", String(64), nullable=True),
    Column("ha1_md5", String(32), nullable=True),
    Column("revision", BigInteger, nullable=False),
    Column("mode", String(8), nullable=True),
    Column("level", String(8), nullable=True),
    Column("assist", String(16), nullable=True),
    Column("signer", String(64), nullable=True),
    Column("show", String(16), nullable=True),
    Column("relay", String(8), nullable=True),
    Column("srtp", String(16), nullable=True),
    Column("changed", BigInteger, nullable=False, index=True),
)

#: Where users can be reached (RFC 3261 section 10). ``flow`` says over what: hop, udp, tcp or tls, or path or alien. A
#: user has one binding per ``slot``: its contact, or its instance and reg-id. ``path`` has a value a line.
bindings = Table(
    "bindings",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("user", String(128), nullable=False),
    Column("contact", Text, nullable=False),
    Column("call_id", Text, nullable=False),
    Column("cseq", BigInteger, nullable=False),
    Column("q", Integer, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("flow", String(8), nullable=False),
    Column("source", Text, nullable=False),
    Column("spi", BigInteger, nullable=True),
    Column("user_agent", Text, nullable=False),
    Column("slot", Text, nullable=False),
    Column("instance", Text, nullable=False),
    Column("reg_id", BigInteger, nullable=True),
    Column("params", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("registered_at", BigInteger, nullable=False),
    UniqueConstraint("user", "slot"),
    Index("bindings_expires_at", "expires_at"),
)

#: Hop agreements with terminals (WIRE section 1), by the SPI of frames that we receive.
agreements = Table(
    "agreements",
    metadata,
    Column("spi", BigInteger, primary_key=True, autoincrement=False),
    Column("user", String(128), nullable=False, index=True),
    Column("terminal_spi", BigInteger, nullable=False),
    Column("keys", LargeBinary, nullable=False),
    Column("nonce", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("sent_seq", BigInteger, nullable=False),
    Column("received_seq", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

#: Whom a user takes setup keys from (WIRE section 4.3), by address-of-record.
account_contacts = Table(
    "account_contacts",
    metadata,
    Column("user", String(128), primary_key=True),
    Column("aor", String(256), primary_key=True),
)

#: Setup keys on their way to a user's terminal: ``user`` gets it, to share it with ``peer``. ``state`` says how far it
#: is, see `store.setup_keys`; ``key`` is there until it is delivered.
setup_keys = Table(
    "setup_keys",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("user", String(128), nullable=False),
    Column("peer", String(256), nullable=False, index=True),
    Column("kid", String(16), nullable=False),
    Column("key", LargeBinary, nullable=True),
    Column("uses", BigInteger, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger, nullable=False, index=True),
    Column("state", String(16), nullable=False, index=True),
    UniqueConstraint("user", "peer", "kid"),
    sqlite_autoincrement=True,  # no number is given twice: what comes of one that is gone is no other's
)

#: Calls that have ended, see `store.calls`; ``media`` is JSON.
calls = Table(
    "calls",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("caller", String(256), nullable=False),
    Column("callee", String(256), nullable=False),
    Column("call_id", String(64), nullable=False),
    Column("began_at", BigInteger, nullable=False),
    Column("connected_at", BigInteger, nullable=True),
    Column("ended_at", BigInteger, nullable=False, index=True),
    Column("status", Integer, nullable=False),
    Column("reason", String(16), nullable=False),
    Column("media", Text, nullable=False),
)

#: Numbers that only rise. ``accounts`` does with every change of that table: by no clock, which may be set back.
counters = Table(
    "counters",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

#: Keys of the neighbour itself, made when they are first needed.
secrets = Table(
    "secrets",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
