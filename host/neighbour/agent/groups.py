"""Groups: several users who answer to one name and speak as it, so that nobody outside sees which of them it is.

    member -- From, Contact, Call-ID, SDP origin --> disguise --> the group's --> everybody else
    member <-- Contact of the member, its Call-ID -- reveal <-- requests and responses that come back

Nothing is remembered: what has to come back is sealed into what others see, under a key that outlives restarts.

    Contact   <sip:alice@192.0.2.7:5062>  <-->  <sip:support@a.example;gr=SEALED>
    Call-ID   843817637@192.0.2.7         <-->  SEALED@a.example     of calls that a member begins
"""

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from sipwire.editing import remove
from sipwire.errors import ParseError
from sipwire.grammar import quote
from sipwire.headers import Address
from sipwire.message import Request
from sipwire.uri import Uri, uri_of

from .mime import Entity, MimeError, multipart, of_message, to_message

if TYPE_CHECKING:
    from sipwire.message import Message, Response

    from ..config import Config, GroupConfig

__all__ = ["Groups", "Member"]

_PARAM = b"gr"
_MAX_SEALED = 1024  # characters; a Contact has a tenth of it
#: Headers that tell more of a member than a call needs.
_TELLING = (
    "alert-info",
    "call-info",
    "diversion",
    "error-info",
    "history-info",
    "in-reply-to",
    "organization",
    "referred-by",
    "reply-to",
    "warning",
)
_SDP = b"application/sdp"
#: Multiparts that can't be taken apart and put together again without harm.
_OPAQUE = (b"multipart/signed", b"multipart/encrypted")
_MULTIPART = b"multipart/"
_OF_RELATED = ("type", "start")  # parameters of multipart/related (RFC 2387 section 3), which say what it is
_ADDRESS_KINDS = ([b"IN", b"IP4"], [b"IN", b"IP6"])
_NO_ORIGIN = (b"0", b"0", b"IN", b"IP4")  # of a description that has none which can be read
_CNAME = b"cname:"  # of RTP sources (RFC 5576 section 6.1): some phones write their user's address there


class Member:
    """A user who speaks as a group.

    Attributes:
        user: the member, "" where it is not known which.
        group: the user part of the group's URI.
        began: whether the member began the dialog, so that its Call-ID is sealed.
    """

    __slots__ = ("began", "group", "user")

    def __init__(self, user: str, group: str, *, began: bool) -> None:
        self.user = user
        self.group = group
        self.began = began


class Groups:
    """See the module.

    Args:
        config: has the groups.
        key: of this neighbour, 32 bytes.
    """

    def __init__(self, config: "Config", key: bytes) -> None:
        self._config = config
        self._domain = config.domain.encode()
        # A key of its own: 32 bytes are AES-128-SIV (RFC 5297). The same text is always sealed the same way: the
        # Call-ID has to stay what it is from one request to the next.
        self._siv = AESSIV(hashlib.blake2b(key, digest_size=32, person=b"wisp group").digest())

    @property
    def exist(self) -> bool:
        """Whether there are any."""
        return bool(self._config.group)

    def of(self, user: str) -> "GroupConfig | None":
        """The group of that name."""
        return self._config.group_of(user) if self._config.group else None

    def spoken_for(self, user: str, signer: "str | None", said: "str | None") -> str:
        """The group that a user speaks as, "" for none.

        Args:
            user: one of ours.
            signer: of its account: whose certificate signs for it.
            said: whom it writes into From.
        """
        for name in (said, signer):
            group = self.of(name or "")
            if group is not None and user in group.members:
                return group.user
        return ""

    def of_member(self, user: str) -> "list[str]":
        """The groups that a user is in."""
        return [group.user for group in self._config.group if user in group.members]

    # What others see.

    def disguise(self, message: "Request | Response", member: Member) -> None:
        """Take the member out of a message.

        Args:
            message: from the member; it is changed.
            member: see there.

        Raises:
            ParseError: it can't be read, so that the member can't be taken out.
        """
        if isinstance(message, Request):
            said = message.from_
            uri = uri_of(said.uri)
            if uri.is_sip:
                tag = [one for one in said.params if one[0].lower() == b"tag"]
                message.set("From", Address(self.uri(member.group), tag).serialize())
            if member.began:
                message.set("Call-ID", self.call_id(message.call_id))
        contacts = message.addresses("contact") if message.get("contact") != b"*" else []
        remove(message, "contact")
        if isinstance(message, Request) or message.status < 300:
            for contact in contacts:
                params = [one for one in contact.params if one[0].lower() != b"+sip.instance"]
                message.add("Contact", Address(self.contact(contact.uri, member), params).serialize())
        for key in _TELLING:
            remove(message, key)
        self._disguise_body(message, member)

    def uri(self, group: str) -> bytes:
        """The URI of a group."""
        return b"sip:" + group.encode() + b"@" + self._domain

    def contact(self, uri: bytes, member: Member) -> bytes:
        """A Contact of the group's that leads to a member's."""
        return self.uri(member.group) + b";" + _PARAM + b"=" + self._seal(member.user.encode() + b"\n" + uri)

    def call_id(self, call_id: bytes) -> bytes:
        """What others see of a member's Call-ID."""
        return self._seal(b"call\n" + call_id) + b"@" + self._domain

    def _seal(self, text: bytes) -> bytes:
        return base64.urlsafe_b64encode(self._siv.encrypt(text, None)).rstrip(b"=")

    def _disguise_body(self, message: "Message", member: Member) -> None:
        if not message.body:
            return
        try:
            entity = of_message(message)
            changed = self._disguise_entity(entity, member)
            if changed is not entity:
                to_message(message, changed)
        except MimeError as error:
            raise ParseError(f"body: {error}", error.status) from None  # a name in it might be read all the same

    def _disguise_entity(self, entity: Entity, member: Member) -> Entity:
        if entity.kind == _SDP:
            headers = [(name.title(), value) for name, value in entity.headers]
            headers = [one for one in headers if one[0] != "Content-Transfer-Encoding"]
            return Entity.make(headers, _anonymous_sdp(entity.content(), member.group.encode(), self._domain))
        if not entity.kind.startswith(_MULTIPART) or entity.kind in _OPAQUE:
            return entity
        parts = entity.parts()
        changed = [self._disguise_entity(part, member) for part in parts]
        if all(one is other for one, other in zip(parts, changed, strict=True)):
            return entity
        kept = ((name.encode(), entity.param(name)) for name in _OF_RELATED)
        params = b"".join(b";" + name + b"=" + quote(value) for name, value in kept if value is not None)
        kind, body = multipart(entity.kind, [part.raw for part in changed], params)
        headers = [one for one in entity.headers if one[0] not in ("content-type", "content-transfer-encoding")]
        return Entity.make([("Content-Type", kind), *((name.title(), value) for name, value in headers)], body)

    # What the member sees.

    def reveal_target(self, uri: Uri) -> "tuple[bytes, Member] | None":
        """The contact behind one that `contact` has made, and whose it is; None where it is none of ours."""
        sealed = uri.param(_PARAM.decode())
        if not sealed or uri.user is None:
            return None
        user, newline, contact = self._open(sealed).partition(b"\n")
        group = uri.user.decode("latin-1")
        found = self.of(group)
        if not newline or found is None or (user and user.decode("latin-1") not in found.members):
            return None  # who is no member any more is not reached as one
        return contact, Member(user.decode("latin-1"), group, began=False)

    def reveal_call_id(self, message: "Message") -> bool:
        """Give a message the Call-ID back that a member knows; returns whether it had one of those that others see."""
        sealed, at, host = message.call_id.partition(b"@")
        if not at or host != self._domain:
            return False
        kind, newline, call_id = self._open(sealed).partition(b"\n")
        if not newline or kind != b"call":
            return False
        message.set("Call-ID", call_id)
        return True

    def _open(self, sealed: bytes) -> bytes:
        if len(sealed) > _MAX_SEALED:
            return b""
        try:
            data = base64.b64decode(sealed + b"=" * (-len(sealed) % 4), b"-_", validate=True)
            return self._siv.decrypt(data, None)
        except (binascii.Error, ValueError, InvalidTag):
            return b""


def _anonymous_sdp(body: bytes, name: bytes, domain: bytes) -> bytes:
    """A session description whose origin is the group, without names, titles and addresses of people (RFC 8866).

    Lines may end with a bare LF ("parsers SHOULD be tolerant", section 5), and phones read an origin that is not quite
    as it should be: so nothing is left as it is because it is malformed.
    """
    lines = []
    for line in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        kind = line[:2].lower()
        if kind == b"o=":
            # <username> <sess-id> <sess-version> <nettype> <addrtype> <unicast-address>, and the name may have spaces.
            words = line[2:].split()[-5:-1]
            is_fit = len(words) == 4 and words[0].isdigit() and words[1].isdigit() and words[2:] in _ADDRESS_KINDS
            lines.append(b" ".join((b"o=" + name, *(words if is_fit else _NO_ORIGIN), domain)))
        elif kind == b"s=":
            lines.append(b"s=-")
        elif kind == b"a=" and _CNAME in line.lower():
            at = line.lower().index(_CNAME) + len(_CNAME)
            lines.append(line[:at] + name + b"@" + domain)
        elif kind not in (b"i=", b"u=", b"e=", b"p="):
            lines.append(line)
    return b"\r\n".join(lines)
