"""What only a neighbour may write: nothing that arrives may speak of verification, or assert an identity.

Whatever comes from elsewhere loses it, as do requests of our own users, before anything is decided or added.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipwire.message import Message

__all__ = ["CLAIMS", "strip_claims"]

#: Headers that are between a user and its neighbour, or that only a neighbour may write (WIRE section 2; RFC 3325
#: section 5 for identities).
CLAIMS = frozenset(
    (
        "security-assist",
        "security-status",
        "security-client",
        "security-verify",
        "p-asserted-identity",
        "p-preferred-identity",
        "remote-party-id",
    )
)
_SUBJECT = b"validated"  # how the Subject begins that we write for phones which show nothing else
_AROUND = b" \t\r\n\"'<>()[]{}*_-.,:;!"  # that somebody may put before it, and people overlook
_WATCHED = CLAIMS | {"subject"}


def strip_claims(message: "Message") -> None:
    """Take out what only a neighbour may write."""
    if _WATCHED.isdisjoint(key for key, _ in message.fields):
        return
    kept = [field for field in message.fields if field[0] not in CLAIMS and not _speaks_for_us(field)]
    if len(kept) != len(message.fields):
        message.compact()
        message.fields = kept


def _speaks_for_us(field: tuple[str, bytes]) -> bool:
    """Whether a line is a Subject as we write it, or as people might take it for one; each of several is looked at."""
    return field[0] == "subject" and field[1].partition(b":")[2].lstrip(_AROUND).lower().startswith(_SUBJECT)
