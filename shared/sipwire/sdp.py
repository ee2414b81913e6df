"""Session descriptions (RFC 8866) and offer/answer for one audio stream (RFC 3264).

A description keeps every line it has; ``parse`` and ``serialize`` are inverse where lines end in CRLF.
"""

from .compat import const
from .crypto import Crypto, size_of
from .errors import ParseError
from .grammar import parse_uint

__all__ = ["MAX_LINES", "Agreed", "Media", "Session", "accept_answer", "make_answer", "make_offer"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .setup_keys import MediaKeys

    Lines = list[tuple[bytes, bytes]]

MAX_LINES = 200  # a conference's description has fewer; more is 400
_SAVP = b"RTP/SAVP"
_CODECS = {0: b"PCMU/8000", 8: b"PCMA/8000"}
_DIRECTIONS = (b"inactive", b"sendonly", b"recvonly", b"sendrecv")  # bit 0: who says it sends, bit 1: it receives
_SENDS = const(1)
_BOTH = const(3)
_NOWHERE = b"0.0.0.0"  # no address: on hold as RFC 2543 did it, and still to be understood (RFC 3264 section 8.4)


class Media:
    """One media section.

    Attributes:
        kind: e.g. ``b"audio"``.
        port: 0 for a stream that is refused.
        proto: e.g. ``b"RTP/SAVP"``.
        formats: payload types as written.
        lines: (type letter, value) pairs after the m= line.
    """

    def __init__(
        self, kind: bytes, port: int, proto: bytes, formats: "list[bytes]", lines: "Lines | None" = None
    ) -> None:
        self.kind = kind
        self.port = port
        self.proto = proto
        self.formats = formats
        self.lines: "Lines" = [] if lines is None else lines
        #: What follows a port after "/" in the m= line, with the slash.
        self.ports = b""

    def attributes(self, name: bytes) -> "list[bytes]":
        """The values of every ``a=name`` or ``a=name:value`` line, in order."""
        return _attributes(self.lines, name)

    def cryptos(self) -> "list[Crypto]":
        """The valid ``a=crypto`` lines in order of preference; an invalid one counts as absent (RFC 4568 section 5)."""
        found = []
        for value in self.attributes(b"crypto"):
            try:
                found.append(Crypto.parse(value))
            except ParseError:
                pass
        return found

    def _m_line(self) -> bytes:
        return b" ".join([self.kind, b"%d%s" % (self.port, self.ports), self.proto] + self.formats)


class Session:
    """A session description.

    Attributes:
        lines: (type letter, value) pairs before the first m= line.
        media: the media sections.
    """

    def __init__(self, lines: "Lines", media: "list[Media]") -> None:
        self.lines = lines
        self.media = media

    @classmethod
    def parse(cls, body: bytes) -> "Session":
        """Read a description; LF alone ends a line too (RFC 8866 section 5).

        Raises:
            ParseError: malformed, or more than `MAX_LINES`.
        """
        session = cls([], [])
        lines = session.lines
        for ended in body.split(b"\n", MAX_LINES + 1):
            line = ended.rstrip(b"\r")
            if not line:
                continue
            letter, equal, value = line.partition(b"=")
            if len(letter) != 1 or not letter.isalpha() or not equal or b"\r" in value:
                raise ParseError("SDP")
            if letter == b"m":
                media = _parse_media(value)
                session.media.append(media)
                lines = media.lines
            else:
                lines.append((letter, value))
        if session.lines[:1] != [(b"v", b"0")]:
            raise ParseError("SDP")
        if body.count(b"\n") > MAX_LINES:
            raise ParseError("SDP", 400, "too long")
        return session

    def serialize(self) -> bytes:
        """The description, each line ended by CRLF."""
        out = [letter + b"=" + value for letter, value in self.lines]
        for media in self.media:
            out.append(b"m=" + media._m_line())
            out.extend([letter + b"=" + value for letter, value in media.lines])
        out.append(b"")
        return b"\r\n".join(out)

    def address(self, media: Media) -> bytes:
        """Where to send a stream: the address of its c= line, or else the session's.

        Raises:
            ParseError: none, or malformed.
        """
        for lines in (media.lines, self.lines):
            for letter, value in lines:
                if letter == b"c":
                    words = value.split(b" ")
                    if len(words) != 3 or words[0] != b"IN" or words[1] not in (b"IP4", b"IP6"):
                        raise ParseError("SDP")
                    return words[2]
        raise ParseError("SDP", 400, "no")

    def direction(self, media: Media) -> bytes:
        """``sendrecv``, ``sendonly``, ``recvonly`` or ``inactive``, as the sender of this description sees it."""
        for lines in (media.lines, self.lines):
            for letter, value in lines:
                if letter == b"a" and value in _DIRECTIONS:
                    return value
        return b"sendrecv"


def _attributes(lines: "Lines", name: bytes) -> "list[bytes]":
    found = []
    for letter, value in lines:
        if letter == b"a":
            key, _, rest = value.partition(b":")
            if key == name:
                found.append(rest)
    return found


def _parse_media(value: bytes) -> Media:
    words = value.split(b" ")
    if len(words) < 4 or b"" in words:
        raise ParseError("SDP")
    number, slash, count = words[1].partition(b"/")
    media = Media(words[0], parse_uint(number, 65535, "SDP"), words[2], words[3:])
    media.ports = slash + count
    return media


class Agreed:
    """What offer and answer agreed on for one audio stream.

    Attributes:
        address, port: where to send.
        payload_type: static payload type, 0 (PCMU) or 8 (PCMA).
        suite: name of the SRTP suite.
        local_key, remote_key: master key and salt of what we send and of what the peer sends.
        local_mki, remote_mki: the master key identifiers in packets, b"" for none.
        direction: from our side, e.g. ``b"sendrecv"``.
    """

    def __init__(
        self, address: bytes, port: int, payload_type: int, local: Crypto, remote: Crypto, direction: bytes
    ) -> None:
        self.address = address
        self.port = port
        self.payload_type = payload_type
        self.suite = local.suite
        self.local_key = local.keys[0].key_salt
        self.remote_key = remote.keys[0].key_salt
        self.local_mki = local.keys[0].mki
        self.remote_mki = remote.keys[0].mki
        self.direction = direction


def _description(address: bytes, session_id: int, version: int) -> Session:
    # In o= nothing but the version may ever change (RFC 3264 section 8), as our address may: none is there, as
    # RFC 8829 section 5.2.1 has it.
    origin = b"- %s %d IN IP4 0.0.0.0" % (str(session_id).encode(), version)
    network = b"IN IP6 " if b":" in address else b"IN IP4 "
    return Session([(b"v", b"0"), (b"o", origin), (b"s", b"-"), (b"c", network + address), (b"t", b"0 0")], [])


def _audio(port: int, payload_types: "list[int]", cryptos: "list[Crypto]", direction: bytes) -> Media:
    media = Media(b"audio", port, _SAVP, [b"%d" % pt for pt in payload_types])
    for pt in payload_types:
        media.lines.append((b"a", b"rtpmap:%d %s" % (pt, _CODECS[pt])))
    media.lines.append((b"a", b"ptime:20"))
    for crypto in cryptos:
        media.lines.append((b"a", b"crypto:" + crypto.serialize()))
    if direction != b"sendrecv":
        media.lines.append((b"a", direction))
    return media


def make_offer(
    address: bytes,
    port: int,
    session_id: int,
    payload_types: "list[int]",
    cryptos: "list[Crypto]",
    version: int = 1,
    direction: bytes = b"sendrecv",
    before: "list[Media] | None" = None,
) -> Session:
    """An offer of one SRTP audio stream.

    Args:
        address: our numeric address.
        port: our RTP port.
        session_id: a number for o=, fresh for each session.
        payload_types: 0 (PCMU) and 8 (PCMA), preferred first.
        cryptos: our keys, one suite each, preferred first, with tags of their own.
        version: of the description: one more for each that we make in a session (RFC 3264 section 8).
        direction: as we want it.
        before: the media sections of our description before, in a session that has one: what was refused stays so, in
            its place ("the number of "m=" lines ... MUST NOT" shrink, section 8).
    """
    offer = _description(address, session_id, version)
    audio = _audio(port, payload_types, cryptos, direction)
    offer.media = [audio if media.port else media for media in before] if before else [audio]
    return offer


def _choose_codec(media: Media, payload_types: "list[int]") -> "int | None":
    """The first static payload type that both have; an rtpmap that gives it another meaning rules it out."""
    wanted = {b"%d" % pt: pt for pt in payload_types}
    for rtpmap in media.attributes(b"rtpmap"):
        number, _, encoding = rtpmap.partition(b" ")
        pt = wanted.get(number)
        if pt is not None and encoding.upper() not in (_CODECS[pt], _CODECS[pt] + b"/1"):
            del wanted[number]
    for fmt in media.formats:
        if fmt in wanted:
            return wanted[fmt]
    return None


def _our_direction(theirs: Session, media: Media, most: int) -> bytes:
    """The direction of a stream from our side, by the peer's description.

    Args:
        theirs: the description.
        media: the stream in it.
        most: what we may do at most, as the index of a direction.
    """
    bits = _DIRECTIONS.index(theirs.direction(media))
    if theirs.address(media) == _NOWHERE:
        bits &= _SENDS
    return _DIRECTIONS[(bits >> 1 | bits << 1) & most]


def make_answer(
    offer: Session,
    address: bytes,
    port: int,
    session_id: int,
    payload_types: "list[int]",
    suites: "dict[bytes, bytes]",
    version: int = 1,
    before: "Agreed | None" = None,
    is_held: bool = False,
    setup: "MediaKeys | None" = None,
) -> "tuple[Session, Agreed]":
    """Answer an offer: the first audio stream that SRTP and codec allow is taken, every other one refused by port 0.

    "The answer to an offer MUST contain the same number of media lines" (RFC 3264 section 6). There is no way into RTP
    without SRTP here.

    Args:
        offer: the peer's description.
        address: our numeric address.
        port: our RTP port.
        session_id: a number for o=.
        payload_types: those we speak.
        suites: a fresh master key and salt for each suite we speak, by name.
        version: see `make_offer`.
        before: what was agreed before, in a session that exists. While the peer keeps its key we keep ours, and the
            stream goes on; a new one may be that of another device, which could not know our rollover counter.
        is_held: whether we have put the peer on hold: then we receive nothing (RFC 3264 section 8.4).
        setup: the keys, where a setup key gives them: then they come from nowhere else.

    Raises:
        ParseError: no stream can be taken (488); the reason says why.
    """
    answer = _description(address, session_id, version)
    agreed = None
    kid = setup.kid if setup else b""
    why = "audio"
    for media in offer.media:
        refused = Media(media.kind, 0, media.proto, media.formats)
        answer.media.append(refused)
        if agreed is not None or media.kind != b"audio" or media.port == 0:
            continue
        if media.proto != _SAVP:
            why = "SRTP"
            continue
        theirs = [c for c in media.cryptos() if c.suite in suites and c.is_plain and c.keys[0].kid == kid]
        codec = _choose_codec(media, payload_types)
        if not theirs or codec is None:
            why = "suite" if not theirs else "codec"
            continue
        remote = theirs[0]
        key = suites[remote.suite]
        if before and before.suite == remote.suite and before.remote_key == remote.keys[0].key_salt:
            key = before.local_key
        if setup:
            remote.keys[0].key_salt, key = setup.of(len(answer.media) - 1, len(key))
        local = Crypto.make(remote.tag, remote.suite, key, kid)
        direction = _our_direction(offer, media, _SENDS if is_held else _BOTH)
        agreed = Agreed(offer.address(media), media.port, codec, local, remote, direction)
        answer.media[-1] = _audio(port, [codec], [local], direction)
    if agreed is None:
        raise ParseError(why, 488, "no")
    return answer, agreed


def accept_answer(offer: Session, answer: Session, setup: "MediaKeys | None" = None) -> Agreed:
    """Check an answer against the offer of ours (made by `make_offer`) and take what was agreed.

    The crypto line has to carry a tag we offered with the suite we offered under it: peers exist that answer a line of
    their own (RFC 4568 section 5.1.2).

    Args:
        offer: ours.
        answer: the peer's.
        setup: the keys, where a setup key gives them: then they come from nowhere else.

    Raises:
        ParseError: the answer is no answer to the offer, or it refuses the stream; the call can't go on.
    """
    if len(answer.media) != len(offer.media):
        raise ParseError("answer")
    at = 0
    while not offer.media[at].port:  # refused in the session so far; an offer of ours has one that is not
        at += 1
    mine = offer.media[at]
    media = answer.media[at]
    if media.kind != mine.kind or media.port == 0:
        raise ParseError("audio", 488, "no")
    if media.proto != mine.proto:
        raise ParseError("SRTP", 488, "no")
    codec = _choose_codec(media, [int(fmt) for fmt in mine.formats])
    if codec is None:
        raise ParseError("codec", 488, "no")
    cryptos = media.cryptos()
    if len(cryptos) != 1 or not cryptos[0].is_plain:
        raise ParseError("crypto")
    kid = setup.kid if setup else b""
    for local in mine.cryptos():
        if local.tag == cryptos[0].tag and local.suite == cryptos[0].suite:
            if not kid == local.keys[0].kid == cryptos[0].keys[0].kid:
                break
            if setup:
                size = size_of(local.suite)
                local.keys[0].key_salt, cryptos[0].keys[0].key_salt = setup.of(at, size)
            direction = _our_direction(answer, media, _DIRECTIONS.index(offer.direction(mine)))
            return Agreed(answer.address(media), media.port, codec, local, cryptos[0], direction)
    raise ParseError("crypto", 400, "unknown")
