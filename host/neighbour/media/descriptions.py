"""Session descriptions as a relay reads and writes them (RFC 8866, RFC 3264): where media goes, and what goes with it.

    Stream.read(session, media)     what a party says of one m= line
    write(session, host, lines)     the same description for the other party, with our addresses in it

What a description says beside that passes as it is, with two exceptions: whatever would let the parties find another
way than by us (ICE, RFC 8839; alternative addresses), and whatever would let them agree on another protection than that
which the relay knows (DTLS-SRTP, ZRTP, MIKEY, capabilities of RFC 5939).

Of a stream that a setup key protects nothing changes but what its MAC leaves out (WIRE section 4.1).
"""

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipwire.crypto import Crypto
from sipwire.errors import ParseError
from sipwire.sdp import Media, Session

from .keys import Keys, KeysError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["INACTIVE", "Line", "Numbering", "Stream", "hosts_of", "is_numeric", "write"]

INACTIVE = b"inactive"
_SETUP = b"setup:"
_CRYPTO = b"crypto"
_PLAIN, _SECURE = b"RTP/AVP", b"RTP/SAVP"
_FEEDBACK = b"F"  # RFC 4585, RFC 5124: the same with more RTCP
_RTCP, _CANDIDATE, _MUX = b"rtcp", b"candidate", b"rtcp-mux"
_NOWHERE = (b"0.0.0.0", b"::")  # on hold as RFC 2543 did it: to be understood still (RFC 3264 section 8.4)
_NOT_COVERED = (b"rtcp:", b"candidate:")  # by a setup key's MAC, beside c= and o=
#: Attributes of other ways (RFC 8839, RFC 6947, RFC 9143) and of other protection (RFC 8122, 8842, 6189, 4567, 5939).
_LEFT_OUT = frozenset(
    (
        *(_RTCP, _CANDIDATE, b"remote-candidates", b"end-of-candidates", b"ice-ufrag", b"ice-pwd", b"ice-options"),
        *(b"ice-lite", b"ice-mismatch", b"ice-pacing", b"altc", b"source-filter", b"bundle-only"),
        *(b"fingerprint", b"setup", b"connection", b"tls-id", b"dtls-id", b"zrtp-hash", b"key-mgmt"),
        *(b"csup", b"creq", b"acap", b"tcap", b"pcfg", b"acfg", b"rmcap", b"omcap", b"mfcap", b"mscap", b"lcfg"),
    )
)
_GROUP, _BUNDLE = b"group", b"bundle"  # several streams on one port: here each has its own


@dataclass(slots=True)
class Stream:
    """One m= line of a party's description.

    Attributes:
        kind: as ``b"audio"``.
        port: 0 where it is refused.
        proto: the profile as written.
        is_rtp: whether it is RTP or SRTP with keys in the description.
        is_secure: whether its profile is that of SRTP.
        feedback: what ends its profile, for AVPF and SAVPF.
        address: where its packets are wanted, by number; None for nowhere, and for a name.
        rtcp: where RTCP is wanted, None for the port after that.
        mux: whether RTCP may come with RTP (RFC 5761).
        cryptos: the lines that the relay can do something with, the preferred first.
        is_keyed: whether a setup key gives its keys.
        is_mixed: whether there are keys of both kinds, or malformed ones, which nobody writes.
        is_held: whether nothing is to be sent either way.
    """

    kind: bytes
    port: int
    proto: bytes
    is_rtp: bool
    is_secure: bool
    feedback: bytes
    address: "tuple[str, int] | None"
    rtcp: "tuple[str, int] | None"
    mux: bool
    cryptos: "list[Crypto]"
    is_keyed: bool
    is_mixed: bool
    is_held: bool

    @classmethod
    def read(cls, session: Session, media: Media) -> "Stream":
        """Read one m= line.

        Raises:
            ParseError: it has no address (400).
        """
        proto = media.proto.upper()
        feedback = _FEEDBACK if proto.endswith(_FEEDBACK) else b""
        profile = proto.removesuffix(_FEEDBACK) if feedback else proto
        is_rtp = profile in (_PLAIN, _SECURE) and media.ports in (b"", b"/1")
        values = [value for name, value in _attributes(media) if name == _CRYPTO]
        keyed = [_is_keyed(value) for value in values]
        is_keyed = bool(keyed) and all(map(_is_valid, values)) and all(keyed)
        host = _numeric(session.address(media)) if media.port else None
        return cls(
            media.kind,
            media.port,
            media.proto,
            is_rtp,
            profile == _SECURE,
            feedback,
            (host, media.port) if host else None,
            _rtcp_of(media, host),
            any(name == _MUX for name, _ in _attributes(media)),
            _usable(values) if not any(keyed) else [],
            is_keyed,
            any(keyed) and not is_keyed,
            session.direction(media) == INACTIVE or (bool(media.port) and session.address(media) in _NOWHERE),
        )

    def profile(self, *, is_secure: bool) -> bytes:
        """The profile of this stream with SRTP, or without."""
        return (_SECURE if is_secure else _PLAIN) + self.feedback


@dataclass(slots=True)
class Line:
    """What becomes of an m= line for the other party.

    Attributes:
        port: of ours, 0 where the stream is refused.
        proto: the profile.
        cryptos: the crypto lines; None where those that stand there stay, and everything else that a MAC covers.
    """

    port: int
    proto: bytes
    cryptos: "list[Crypto] | None" = None


def hosts_of(body: bytes) -> "list[bytes]":
    """The addresses in the c= lines of a description that need not be well-formed: cheaper than to read it."""
    return [line.rstrip(b"\r").rpartition(b" ")[2] for line in body.split(b"\n") if line[:2] == b"c=" and b" " in line]


def is_numeric(host: bytes) -> bool:
    """Whether an address is a number, and of somebody: not on hold, and no name."""
    return bool(_numeric(host))


def write(session: Session, host: str, lines: "Sequence[Line]") -> bytes:
    """The description that the other party gets.

    Args:
        session: what the one has written; it is changed.
        host: our address, as the other party is told.
        lines: for each m= line, what becomes of it.
    """
    keeps = any(line.cryptos is None and line.port for line in lines)
    session.lines = _changed(session.lines, host, keeps=keeps)
    if not keeps:
        session.lines = [one for one in session.lines if _name(one) != _CRYPTO and one[0] != b"k"]
    for media, line in zip(session.media, lines, strict=True):
        media.port, media.proto = line.port, line.proto
        if line.cryptos is None:
            media.lines = _changed(media.lines, host, keeps=True)
        elif not line.port:
            media.ports, media.lines = b"", []
        else:
            media.ports = b""
            kept = [one for one in _changed(media.lines, host, keeps=False) if _name(one) != _CRYPTO]
            media.lines = [one for one in kept if one[0] != b"k"]  # keys of RFC 8866's predecessors, for all to read
            media.lines += [(b"a", b"crypto:" + crypto.serialize()) for crypto in line.cryptos]
    return session.serialize()


class Numbering:
    """The version in o=, of what one party is sent in a dialog (RFC 3264 section 8).

    It rises where what we send has changed, though its author may not have changed anything: and where nothing has, it
    stays, so that nobody looks for what is new.

    Args:
        stride: what to begin above the author's own, where descriptions may have been sent that nobody here remembers.
    """

    def __init__(self, stride: int = 0) -> None:
        self._stride = stride
        self._origin = b""
        self._version = 0
        self._text = b""

    def number(self, body: bytes) -> bytes:
        """A description with the version that it has to have; as it is where its o= can't be read."""
        before, mark, rest = body.partition(b"\r\no=")
        line, _, after = rest.partition(b"\r\n")
        words = line.split(b" ")
        if not mark or len(words) != 6 or not words[2].isdigit() or len(words[2]) > 20:
            return body
        theirs = int(words[2])
        origin, text = b" ".join(words[:2] + words[3:]), before + after
        if origin != self._origin:
            self._version = theirs + self._stride
        elif text != self._text:
            self._version = max(theirs, self._version + 1)
        self._origin, self._text = origin, text
        words[2] = b"%d" % self._version
        return before + b"\r\no=" + b" ".join(words) + b"\r\n" + after


def _attributes(media: Media) -> "list[tuple[bytes, bytes]]":
    """Names and values. Names have to be in lower case; nobody is helped by relying on it."""
    found = []
    for letter, text in media.lines:
        if letter == b"a":
            name, _, value = text.partition(b":")
            found.append((name.strip().lower(), value))
    return found


def _name(line: "tuple[bytes, bytes]") -> bytes:
    """The name of an attribute, b"" for other lines."""
    return line[1].partition(b":")[0].strip().lower() if line[0] == b"a" else b""


def _is_keyed(value: bytes) -> bool:
    words = value.split()
    return len(words) > 2 and words[2].lower().startswith(_SETUP)


def _is_valid(value: bytes) -> bool:
    try:
        Crypto.parse(value)
    except ParseError:
        return False
    return True


def _usable(values: "list[bytes]") -> "list[Crypto]":
    """The crypto lines that are valid and that the relay can do; invalid ones count as absent (RFC 4568 section 5)."""
    found: list[Crypto] = []
    for value in values:
        try:
            crypto = Crypto.parse(value)
            Keys.of(crypto)
        except (ParseError, KeysError):
            continue
        if all(one.tag != crypto.tag for one in found):
            found.append(crypto)
    return found


def _numeric(host: bytes) -> str:
    """An address in its usual form, "" for a name and for nowhere."""
    try:
        address = ipaddress.ip_address(host.decode("ascii"))
    except ValueError:
        return ""
    return "" if address.is_unspecified else str(address)


def _rtcp_of(media: Media, host: "str | None") -> "tuple[str, int] | None":
    """Where RTCP is wanted (RFC 3605): ``a=rtcp:port [IN IP4 address]``."""
    for name, value in _attributes(media):
        if name == _RTCP:
            words = value.split()
            if not words or not words[0].isdigit() or not 0 < int(words[0][:6]) < 65536:
                return None
            there = _numeric(words[3]) if len(words) == 4 else host
            return (there, int(words[0])) if there else None
    return None


def _changed(lines: "list[tuple[bytes, bytes]]", host: str, *, keeps: bool) -> "list[tuple[bytes, bytes]]":
    """Lines with our address, and without what leads elsewhere.

    Args:
        lines: of a session, or of one of its streams.
        host: ours.
        keeps: whether everything stays that a MAC covers.
    """
    network = b"IN IP6 " if ":" in host else b"IN IP4 "
    found = []
    for letter, value in lines:
        if letter == b"c" and value.split(b" ")[-1] not in _NOWHERE:
            found.append((letter, network + host.encode()))
        elif letter != b"a":
            found.append((letter, value))
        elif keeps:
            if not value.startswith(_NOT_COVERED):
                found.append((letter, value))
        else:
            name, _, rest = value.partition(b":")
            name = name.strip().lower()
            if name not in _LEFT_OUT and not (name == _GROUP and rest.strip().lower().startswith(_BUNDLE)):
                found.append((letter, value))
    return found
