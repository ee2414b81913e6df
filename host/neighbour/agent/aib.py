"""Signed headers: the authenticated identity body of RFC 3893, and the tunnelled messages of RFC 3261 section 23.4.

A signature over a body says nothing of the message that the body came in. So some headers are signed with it: all of
the message (``message/sip``), or some lines of it (``message/sipfrag`` with ``Content-Disposition: aib``). Whoever
verifies compares them with those outside: what differs has been changed on the way, or belongs to another message.

    request    From, To, Contact, Call-ID, CSeq, Date
    response   From: who answers, and with what tag; Contact, Call-ID, CSeq, Date (RFC 3893 section 7: no To)

What transfers or replaces a call is signed as well, where a message has it: Refer-To, Replaces and their like.
"""

import calendar
from email.utils import formatdate, parsedate_tz
from functools import lru_cache
from typing import TYPE_CHECKING

from sipwire.compat import cached
from sipwire.errors import ParseError
from sipwire.grammar import is_token, unquote
from sipwire.headers import Address, address_of, header_key
from sipwire.message import Message, Request, Response, parse

from .mime import Entity, MimeError, of_message

if TYPE_CHECKING:
    from sipwire.headers import CSeq

__all__ = ["DIFFERS", "IntegrityError", "compare", "date_of", "format_date", "identity_body", "is_identity", "read"]

_KIND = b"message/sipfrag"
_TUNNEL = b"message/sip"
_DISPOSITION = b"aib"
_MAX_LINES = 64  # of a fragment
_DATE_BYTES = 29  # "Thu, 21 Feb 2030 13:02:03 GMT"
_MAX_KNOWN = 256  # dates, and names of headers, that are remembered
_LONGEST_KNOWN = 64  # bytes of one
_ANONYMOUS = b"anonymous"
#: How a difference is told, with the header's name before it.
DIFFERS = "is not what was signed"
_ONCE = ("from", "to", "call-id", "cseq", "date")
# RFC 3261 section 23.4.1.1 wants From, To, Call-ID, CSeq and Contact compared. What makes a request transfer or replace
# a call is as bad to have changed, and the first two of these are as bad to have added.
_LINES = {"refer-to": "Refer-To", "replaces": "Replaces", "referred-by": "Referred-By", "event": "Event"}
_NEVER_ADDED = ("refer-to", "replaces")


class IntegrityError(Exception):
    """What was signed does not fit the message it came in; the text says what, in words for a Warning."""


@lru_cache(_MAX_KNOWN)
def format_date(at_s: int) -> bytes:
    """A Date header's value (RFC 3261 section 20.17)."""
    return formatdate(at_s, usegmt=True).encode()


def date_of(message: Message) -> int | None:
    """The seconds since 1970 of a Date header, None where there is none.

    Raises:
        IntegrityError: malformed. "SIP restricts the time zone in SIP-date to "GMT"".
    """
    value = message.get("date")
    return None if value is None else _seconds(value)


@cached(_MAX_KNOWN, _LONGEST_KNOWN)
def _seconds(value: bytes) -> int:
    """The time of a Date header: each is looked at several times, and several messages have the same one."""
    try:
        parsed = parsedate_tz(value.decode("latin-1")) if len(value) == _DATE_BYTES else None
        found = None if parsed is None else calendar.timegm((*parsed[:6], 0, 0, 0))
    except (ValueError, OverflowError, IndexError, TypeError):
        found = None
    # The library reads much that is no SIP-date, such as 31 February; there is one way to write each.
    if found is None or format_date(found) != value:
        raise IntegrityError("Date is malformed")
    return found


def identity_body(message: Message, date: bytes, answers: bytes = b"") -> bytes:
    """The AIB of a message, as an entity.

    Args:
        message: a request or a response.
        date: when it is sent, see `format_date`.
        answers: of a response the URI of who answers, where that is not the one whom To names.

    Raises:
        ParseError: From, To or CSeq is malformed.
    """
    if isinstance(message, Response):
        who = Address(answers) if answers else Address(message.to.uri, display=message.to.display)
        who.params = [one for one in message.to.params if one[0].lower() == b"tag"]
        lines = [b"From: " + who.serialize()]
    else:
        lines = [b"From: " + (message.get("from") or b""), b"To: " + (message.get("to") or b"")]
    lines += [b"Contact: " + value for value in message.get_all("contact")]
    lines += [b"Call-ID: " + message.call_id, b"CSeq: " + message.cseq.serialize(), b"Date: " + date]
    for key, name in _LINES.items():
        lines += [name.encode() + b": " + value for value in message.get_all(key)]
    headers = [("Content-Type", _KIND), ("Content-Disposition", _DISPOSITION + b"; handling=optional")]
    return Entity.make(headers, b"\r\n".join([*lines, b""])).raw


def is_identity(entity: Entity) -> bool:
    """Whether an entity holds signed headers: an AIB, or a whole message."""
    return entity.kind == _TUNNEL or (entity.kind == _KIND and entity.disposition == _DISPOSITION)


def read(entity: Entity) -> tuple[Message, Entity | None]:
    """The headers in an entity, and the body that belongs to them where it is a whole message.

    Raises:
        MimeError: malformed.
    """
    body = entity.content()
    if entity.kind == _TUNNEL:
        try:
            message = parse(body)
        except ParseError as error:
            raise MimeError(f"message/sip: {error.reason}") from None
        return message, None if message.get("content-type") is None else of_message(message)
    return _fragment(body), None


def _fragment(body: bytes) -> Message:
    """Some lines of a message (RFC 3420): perhaps a start line, headers, perhaps an empty line and more."""
    message = Message()
    lines = body.partition(b"\r\n\r\n")[0].removesuffix(b"\r\n").split(b"\r\n")
    if any(b"\n" in line or b"\r" in line for line in lines):
        raise MimeError("malformed message/sipfrag")
    if lines[0].startswith(b"SIP/2.0 ") or lines[0].endswith(b" SIP/2.0"):
        del lines[0]
    if len(lines) > _MAX_LINES:
        raise MimeError("too long a message/sipfrag")
    seen: set[str] = set()
    for line in lines:
        if line[:1] in (b" ", b"\t") and message.fields:
            key, before = message.fields[-1]
            message.fields[-1] = (key, before + b"\r\n" + line)
            continue
        name, colon, _ = line.partition(b":")
        if not colon:
            raise MimeError("malformed message/sipfrag")
        key = _key(name)
        if key in _ONCE and key in seen:
            raise MimeError(f"second {key} in message/sipfrag")
        seen.add(key)
        message.fields.append((key, line))
    return message


@cached(_MAX_KNOWN, _LONGEST_KNOWN)
def _key(before: bytes) -> str:
    """The key of a header by what stands before its colon."""
    name = before.rstrip(b" \t")
    if not is_token(name):
        raise MimeError("malformed message/sipfrag")
    return header_key(name.decode())


def compare(inner: Message, outer: Message, *, hidden: bool, answers: bytes = b"") -> bytes:
    """Compare signed headers with those of the message they came in.

    Args:
        inner: what `read` gave.
        outer: the message.
        hidden: whether it was encrypted: a message around a whole one may name nobody as its sender then (RFC 3261
            section 23.4.3). Around an AIB it may not.
        answers: of a response the address-of-record that its request was sent to, who may answer beside the one whom To
            names: the call may have been diverted on its way to us.

    Returns:
        The address-of-record of whom they say it is from: in a response, who answers.

    Raises:
        IntegrityError: they differ, or something is missing that has to be signed.
    """
    is_response = isinstance(outer, Response)
    is_whole = isinstance(inner, Request | Response)
    hides = False
    try:
        if is_whole:
            _same_start(inner, outer)
        if is_response and not is_whole:
            # "The To header field of the request MUST NOT be included." (RFC 3893 section 7) It would be a request of
            # who answers, with a CSeq that happens to be the same.
            if inner.get("to") is not None:
                raise IntegrityError("To is signed, and this is an answer")
            said = outer.to
            if answers and inner.from_.uri == answers != said.uri:
                said = Address(answers, outer.to.params)
            _same_address(inner.from_, said, "To")
        else:
            hides = hidden and is_whole and not is_response and _is_anonymous(outer.from_)
            if hides:
                _same_tag(inner.from_, outer.from_, "From", is_whole=is_whole)
            else:
                _same_address(inner.from_, outer.from_, "From", is_whole=is_whole)
            _same_address(inner.to, outer.to, "To", is_whole=is_whole)
        if not inner.call_id or inner.call_id != outer.call_id:
            raise IntegrityError(f"Call-ID {DIFFERS}")
        _same_cseq(inner.cseq, outer.cseq)
        _same_contacts(inner, outer, is_whole=is_whole, hides=hides)
        identity = inner.to if is_response and is_whole else inner.from_
        uri = identity.parsed_uri()
    except ParseError as error:
        raise IntegrityError(f"signed headers: {error.reason}") from None
    signed_at, said_at = date_of(inner), date_of(outer)
    if signed_at is None:
        raise IntegrityError("Date is not signed")
    if said_at is not None and said_at != signed_at:
        raise IntegrityError(f"Date {DIFFERS}")
    for key in _LINES.keys() & {key for key, _ in (*inner.fields, *outer.fields)}:
        values = inner.get_all(key)
        if (values or is_whole or key in _NEVER_ADDED) and values != outer.get_all(key):
            raise IntegrityError(f"{_LINES[key]} {DIFFERS}")
    if not uri.is_sip:
        raise IntegrityError("From is no SIP address")
    return uri.aor()


def _is_anonymous(address: Address) -> bool:
    """``sip:anonymous@anonymous.invalid``, or the like of one's own domain (RFC 3323 section 4.1)."""
    uri = address.parsed_uri()
    return uri.is_sip and (uri.user or b"").lower() == _ANONYMOUS


def _same_start(inner: Message, outer: Message) -> None:
    """A whole message is in one of its kind: an answer of somebody's is no request of theirs, nor a 488 a 200."""
    if isinstance(inner, Response) and isinstance(outer, Response):
        is_same = inner.status == outer.status
    else:
        is_same = isinstance(inner, Request) and isinstance(outer, Request)  # whose methods are in CSeq
    if not is_same:
        raise IntegrityError(f"start line {DIFFERS}")


def _same_address(signed: Address, said: Address, name: str, *, is_whole: bool = False) -> None:
    """The URI as it is written, the name that people see, and the tag."""
    if signed.uri != said.uri or unquote(signed.display) != unquote(said.display):
        raise IntegrityError(f"{name} {DIFFERS}")
    _same_tag(signed, said, name, is_whole=is_whole)


def _same_tag(signed: Address, said: Address, name: str, *, is_whole: bool) -> None:
    """Some lines need not have it: those that RFC 3893 shows do not."""
    if (signed.tag or is_whole) and signed.tag != said.tag:
        raise IntegrityError(f"{name} {DIFFERS}")


def _same_cseq(signed: "CSeq", said: "CSeq") -> None:
    if signed.number != said.number or signed.method != said.method:
        raise IntegrityError(f"CSeq {DIFFERS}")


def _same_contacts(inner: Message, outer: Message, *, is_whole: bool, hides: bool) -> None:
    """Where requests of the dialog are to go; some lines need not have it.

    Who hides does so there as well: the RFC's example has ``<sip:pc33.atlanta.com>`` outside.
    """
    signed = inner.values("contact")
    if not signed and not is_whole:
        return
    said = outer.values("contact")
    if len(signed) != len(said):
        raise IntegrityError(f"Contact {DIFFERS}")
    for one, other in zip(map(_uri, signed), map(_uri, said), strict=True):
        if one != other and not (hides and _without_user(one) == other):
            raise IntegrityError(f"Contact {DIFFERS}")


def _uri(contact: bytes) -> bytes:
    return contact if contact == b"*" else address_of(contact).uri


def _without_user(uri: bytes) -> bytes:
    scheme, colon, rest = uri.partition(b":")
    return scheme + colon + rest.rpartition(b"@")[2]
