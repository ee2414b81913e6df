"""Levels of security, what a user asks its neighbour for, and what it is told (WIRE section 2).

    none    nothing is promised: a carrier by UDP
    light   keys protected between the neighbours (MIKEY)
    medium  mutual TLS on the trunk
    heavy   medium, and bodies signed and encrypted between the neighbours

The least level of a call is the highest that anybody asks for: the domain (or its entry for that peer), the account,
the request itself. Where it can't be reached the call fails with the reason, in both directions; nothing makes it less.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipwire.errors import ParseError
from sipwire.grammar import parse_params, quote, split_list, unquote

if TYPE_CHECKING:
    from sipwire.message import Message

__all__ = [
    "ENCRYPT",
    "HEAVY",
    "LEVELS",
    "MEDIUM",
    "NONE",
    "SIGN",
    "Status",
    "Wish",
    "highest",
    "parse_assist",
    "reaches",
    "setting_of",
]

NONE = "none"
LIGHT = "light"
MEDIUM = "medium"
HEAVY = "heavy"
LEVELS = (NONE, LIGHT, MEDIUM, HEAVY)
SIGN = "sign"
ENCRYPT = "encrypt"
_OWN = "none"


def highest(*levels: "str | None") -> str:
    """The highest of some levels; None is no wish."""
    return LEVELS[max((LEVELS.index(level) for level in levels if level), default=0)]


def reaches(level: str, least: str) -> bool:
    """Whether a level is as high as the least one."""
    return LEVELS.index(level) >= LEVELS.index(least)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user wants done for a request, or with what comes for it.

    Attributes:
        operations: `SIGN`, `ENCRYPT`, both or neither. `HEAVY` does both, whatever stands here.
        level: the least level it accepts.
        is_own: whether it does its own end-to-end security, so that its bodies pass untouched.
    """

    operations: frozenset[str] = frozenset()
    level: str = NONE
    is_own: bool = False

    def does(self, operation: str, least: str) -> bool:
        """Whether an operation is to be done where the least level is ``least``."""
        return not self.is_own and (operation in self.operations or least == HEAVY)


def parse_assist(values: "list[bytes]", setting: Wish) -> Wish:
    """Read Security-Assist.

    Args:
        values: the elements of the header, none where it is absent.
        setting: of the account. Its level is never undercut, and counts alone where the header is absent.

    Raises:
        ParseError: something that we do not know: who asks for more than we can do shall not get less.
    """
    if not values:
        return setting
    operations = set()
    level = NONE
    for value in values:
        first, *rest = split_list(value, b";")
        operations.add(first.lower().decode("latin-1"))
        for name, asked in parse_params(rest):
            if name.lower() == b"level":
                word = unquote(asked or b"").decode("latin-1").lower()
                if word not in LEVELS[1:]:
                    raise ParseError("Security-Assist level", 400, "unknown")
                level = highest(level, word)
    is_own = operations == {_OWN}
    if not is_own and not operations <= {SIGN, ENCRYPT}:
        raise ParseError("Security-Assist", 400, "unknown")
    return Wish(frozenset() if is_own else frozenset(operations), highest(setting.level, level), is_own)


def setting_of(assist: "str | None", level: "str | None") -> Wish:
    """The wish of an account that says nothing in a request.

    Args:
        assist: of the account: ``none``, ``sign``, ``encrypt``, ``sign,encrypt``; None is what the level wants.
        level: of the account, None where it has none of its own.
    """
    words = frozenset((assist or "").split(",")) - {""}
    is_own = words == {_OWN}
    return Wish(frozenset() if is_own else words, level or NONE, is_own)


@dataclass(slots=True)
class Status:
    """What held for a message, as ``Security-Status`` tells its receiver.

    Attributes:
        level: that was reached.
        verified: the address-of-record whose valid signature was checked, or who has shown to us who it is; b"" for
            nobody.
        by: the domain whose neighbour vouches for it, "" for none.
        signed, encrypted: how the body came, between the neighbours.
        tls: whether it came by mutual TLS.
        plain: why it came without the S/MIME that it should have had, where `on_failure` allows that; "" else.
        notes: what else the user should know: a revocation list that is stale, say.
    """

    level: str = NONE
    verified: bytes = b""
    by: str = ""
    signed: bool = False
    encrypted: bool = False
    tls: bool = False
    plain: str = ""
    notes: "list[str]" = field(default_factory=list)

    def serialize(self) -> bytes:
        """The value of Security-Status."""
        parts = [b"level=" + self.level.encode()]
        if self.verified:
            parts.append(b"verified=" + quote(self.verified))
        if self.by:
            parts.append(b"by=" + quote(self.by.encode()))
        parts += [name.encode() for name in ("signed", "encrypted", "tls") if getattr(self, name)]
        if self.plain:
            parts.append(b"plain=" + quote(self.plain.encode("ascii", "replace")))
        return b";".join(parts)

    def tell(self, message: "Message", show: str, asserted: bytes = b"") -> None:
        """Write it into a message for a user of ours.

        Args:
            message: what the user gets.
            show: the account's: ``subject`` and ``asserted``, for phones that show nothing else.
            asserted: the address-of-record of a user who has shown to us who it is, without any signature.
        """
        message.add("Security-Status", self.serialize())
        if self.verified and "subject" in show:
            message.set("Subject", b"validated <" + self.verified + b">")
        asserted = self.verified or asserted
        if asserted and "asserted" in show:
            message.add("P-Asserted-Identity", b"<" + asserted + b">")
