"""The streams of a call: what a user agent speaks, how a media section says so, and what two ends have agreed on.

    Speaks --describe--> media section ... read by the other end: formats --choose--> Agreed

One audio stream and one of real-time text, at most. Both may be there alone: a terminal without a microphone writes.
`offer` and `answer` say who may say what when.
"""

from .agreed import Agreed
from .compat import const
from .crypto import Crypto
from .grammar import parse_uint
from .sdp import DIRECTIONS, Media, Session

__all__ = [
    "AUDIO",
    "AVP",
    "BOTH",
    "OFF",
    "OPPORTUNISTIC",
    "REQUIRED",
    "SAVP",
    "SENDS",
    "TEXT",
    "Speaks",
    "choose",
    "describe",
    "description",
    "formats",
    "place",
    "protect",
    "wish",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Formats = list[tuple[bytes, bytes]]

AUDIO = b"audio"
TEXT = b"text"
AVP = b"RTP/AVP"
SAVP = b"RTP/SAVP"

# What a user agent does without SRTP: REQUIRED, no media. OPPORTUNISTIC, RTP where the other end has none (RFC 8643),
# but never in a stream that has been SRTP. OFF, RTP, and never SRTP.
REQUIRED = 2
OPPORTUNISTIC = 1
OFF = 0

SENDS = const(1)  # a direction as the index of `DIRECTIONS`
BOTH = const(3)

# Names of encodings in lower case: they "are case insensitive" (RFC 4855 section 3).
_CODECS = {0: b"pcmu/8000", 8: b"pcma/8000"}
_EVENTS = b"telephone-event/8000"
_T140 = b"t140/1000"
_RED = b"red/1000"
# Dynamic payload types as we offer them; in an answer they are the offerer's.
_EVENT_TYPE = const(101)
_T140_TYPE = const(98)
_RED_TYPE = const(100)
_GENERATIONS = const(2)  # "RECOMMENDED" by RFC 4103 section 4
_GENERATIONS_CAP = const(5)  # a packet has to hold them all
_CPS_CAP = const(9999)  # characters a second; 30 where nothing is said (RFC 4103 section 6)
# RFC 5761 section 4: with these a packet could be taken for RTCP.
_RTCP_FIRST = const(64)
_RTCP_LAST = const(95)
_NOWHERE = b"0.0.0.0"  # no address: on hold as RFC 2543 did it, and still to be understood (RFC 3264 section 8.4)


class Speaks:
    """What a user agent speaks.

    Attributes:
        audio_port: its RTP port for audio, 0 for no audio. RTCP's is the next.
        codecs: static payload types 0 (PCMU) and 8 (PCMA), preferred first.
        text_port: its RTP port for real-time text, 0 for no text.
        suites: of SRTP, preferred first.
        new_key: makes a fresh master key and salt for a suite.
        policy: `REQUIRED`, `OPPORTUNISTIC` or `OFF`.
        events: whether it speaks telephone-event (RFC 4733).
        mux: whether it takes RTCP on the port of RTP (RFC 5761).
        plain: whether it takes only such crypto lines as are `Crypto.is_plain`; otherwise also those with several keys,
            and with a key derivation rate.
    """

    def __init__(
        self,
        audio_port: int,
        codecs: "Sequence[int]",
        suites: "Sequence[bytes]",
        new_key: "Callable[[bytes], bytes]",
        text_port: int = 0,
        policy: int = REQUIRED,
        events: bool = False,
        mux: bool = False,
        plain: bool = False,
    ) -> None:
        self.audio_port = audio_port
        self.codecs = codecs
        self.suites = suites
        self.text_port = text_port
        self.policy = policy
        self.events = events
        self.mux = mux
        self.plain = plain
        self.new_key = new_key

    def port(self, kind: bytes) -> int:
        """Our port for a kind of stream, 0 where we don't speak it."""
        if kind == AUDIO:
            return self.audio_port
        return self.text_port if kind == TEXT else 0

    def takes(self, crypto: Crypto) -> bool:
        """Whether we would protect a stream as a crypto line of the other end's asks for.

        Whatever the policy is, nothing is sent in the clear that is called SRTP.
        """
        return crypto.is_plain if self.plain else crypto.is_safe


def wish(one: Agreed, speaks: Speaks) -> None:
    """Take our numbers for what we offer for the first time."""
    if one.kind == TEXT:
        one.payload_type, one.red_type, one.generations = _T140_TYPE, _RED_TYPE, _GENERATIONS
        one.mixer = True
    elif speaks.events:
        one.event_type = _EVENT_TYPE


def choose(one: Agreed, media: Media, named: "Formats", speaks: Speaks) -> bool:
    """Agree on formats; returns whether there is one.

    Args:
        one: the stream.
        media: the peer's section.
        named: those of its formats that may be chosen, see `formats`.
        speaks: what we speak.
    """
    found = -1
    if one.kind == AUDIO:
        codecs = [(b"%d" % pt, _CODECS[pt]) for pt in speaks.codecs]
        for pair in named:
            if pair in codecs and found < 0:
                found = int(pair[0])
            elif pair[1] == _EVENTS and speaks.events and one.event_type < 0:
                one.event_type = int(pair[0])
    else:
        for number, name in named:
            if name == _T140 and found < 0:
                found = int(number)
            elif name == _RED and one.red_type < 0:
                # Every generation has to be T.140, which stands in the m= line, too.
                parts = _parameters(media, number).split(b"/")
                is_same = parts.count(parts[0]) == len(parts) and (parts[0], _T140) in named
                if is_same and 1 < len(parts) <= _GENERATIONS_CAP + 1:
                    one.red_type = int(number)
                    one.generations = len(parts) - 1
                    found = int(parts[0])
        _read_cps(one, _parameters(media, b"%d" % found))
    one.payload_type = found
    return found >= 0


def _read_cps(one: Agreed, parameters: bytes) -> None:
    for parameter in parameters.split(b";"):
        name, _, value = parameter.strip().lower().partition(b"=")
        if name == b"cps" and value.isdigit() and len(value) < 6:
            one.cps = min(max(int(value), 1), _CPS_CAP)


def place(one: Agreed, theirs: Session, media: Media, most: int, has_mux: bool) -> None:
    """Take where the peer wants it, and which way it goes.

    Args:
        one: the stream.
        theirs: the peer's description.
        media: the section in it.
        most: what we may do at most, as the index of a direction.
        has_mux: whether we take RTCP on the port of RTP, too.

    Raises:
        ParseError: there is no address, or RTCP's port is malformed.
    """
    one.address = theirs.address(media)
    one.port = media.port
    one.direction = _our_direction(theirs, media, most)
    if has_mux and b"" in media.attributes(b"rtcp-mux"):
        for number in (one.payload_type, one.event_type, one.red_type):
            if _RTCP_FIRST <= number <= _RTCP_LAST:
                break
        else:
            one.rtcp_port = media.port
            return
    one.rtcp_port = (media.port + 1) & 0xFFFF
    for value in media.attributes(b"rtcp"):  # RFC 3605: port, or port and address
        words = value.split(b" ")
        one.rtcp_port = parse_uint(words[0], 0xFFFF, "SDP")
        # What we could not send to the same host we don't send at all, nor what looked as if it were shared.
        if one.rtcp_port == media.port or words[3:] not in ([], [one.address]):
            one.rtcp_port = 0


def protect(one: Agreed, local_key: bytes, remote: Crypto) -> None:
    """Take the keys: ours, which is alone in its line and has no MKI, and those of the peer's line."""
    one.tag = remote.tag
    one.suite = remote.suite
    one.local_key = local_key
    one.remote_key = remote.keys[0].key_salt
    one.remote_mki = remote.keys[0].mki
    one.lifetime = remote.keys[0].lifetime
    one.more_keys = [(key.key_salt, key.mki, key.lifetime) for key in remote.keys[1:]]
    one.kdr = remote.kdr
    one.window = remote.window


def description(address: bytes, session_id: int, version: int) -> Session:
    """A description of ours, without a stream yet.

    Args:
        address: our numeric address.
        session_id: a number for o=, fresh for each session.
        version: one more for each that we make in a session (RFC 3264 section 8).
    """
    # In o= nothing but the version may ever change (RFC 3264 section 8), as our address may: none is there, as
    # RFC 8829 section 5.2.1 has it.
    origin = b"- %s %d IN IP4 0.0.0.0" % (str(session_id).encode(), version)
    network = b"IN IP6 " if b":" in address else b"IN IP4 "
    return Session([(b"v", b"0"), (b"o", origin), (b"s", b"-"), (b"c", network + address), (b"t", b"0 0")], [])


def describe(
    one: Agreed,
    port: int,
    proto: bytes,
    types: "Sequence[int]",
    has_mux: bool,
    cryptos: "list[Crypto]",
    direction: bytes,
) -> Media:
    """A media section of ours.

    Args:
        one: the stream, as agreed on or wished for.
        port: ours.
        proto: its profile.
        types: payload types of its codecs, preferred first; events and redundancy are added as ``one`` has them.
        has_mux: whether it says that RTCP comes on the port of RTP.
        cryptos: its keys.
        direction: from our side.
    """
    names = {pt: name.upper() for pt, name in _CODECS.items()} if one.kind == AUDIO else {one.payload_type: _T140}
    written = [b"%d" % pt for pt in types]
    said = [b"rtpmap:%d %s" % (pt, names[pt]) for pt in types]
    if one.event_type >= 0:
        written.append(b"%d" % one.event_type)
        said += [b"rtpmap:%d %s" % (one.event_type, _EVENTS), b"fmtp:%d 0-15" % one.event_type]
    if one.red_type >= 0:
        said.append(b"rtpmap:%d %s" % (one.red_type, _RED))
        said.append(b"fmtp:%d %s" % (one.red_type, b"/".join(written * (one.generations + 1))))
        written.insert(0, b"%d" % one.red_type)
    if one.kind == AUDIO:
        said += [b"ptime:20", b"maxptime:60"]  # a weak device has room for so much
    if one.mixer:
        said.append(b"rtt-mixer")
    if has_mux:
        said.append(b"rtcp-mux")
    for crypto in cryptos:
        said.append(b"crypto:" + crypto.serialize())
    if direction != b"sendrecv":
        said.append(direction)
    return Media(one.kind, port, proto, written, [(b"a", value) for value in said])


def formats(media: Media) -> "Formats":
    """(payload type as written, encoding in lower case) of the formats that have a meaning, in order.

    A static payload type has its own, and with an rtpmap that gives it another it has none; nor has one with two.
    """
    names = {b"%d" % pt: name for pt, name in _CODECS.items()}
    for rtpmap in media.attributes(b"rtpmap"):
        number, _, name = rtpmap.partition(b" ")
        name = name.strip().lower()
        if name[-2:] == b"/1":  # channels
            name = name[:-2]
        names[number] = name if names.get(number, name) == name else b""
    return [(number, names[number]) for number in media.formats if names.get(number) and _is_type(number)]


def _is_type(number: bytes) -> bool:
    return number.isdigit() and len(number) < 4 and int(number) < 128 and b"%d" % int(number) == number


def _parameters(media: Media, number: bytes) -> bytes:
    """The parameters of a format, b"" for none."""
    for value in media.attributes(b"fmtp"):
        format_, _, parameters = value.partition(b" ")
        if format_ == number:
            return parameters.strip()
    return b""


def _our_direction(theirs: Session, media: Media, most: int) -> bytes:
    """The direction of a stream from our side, by the peer's description.

    Args:
        theirs: the description.
        media: the stream in it.
        most: what we may do at most, as the index of a direction.
    """
    bits = DIRECTIONS.index(theirs.direction(media))
    if theirs.address(media) == _NOWHERE:
        bits &= SENDS
    return DIRECTIONS[(bits >> 1 | bits << 1) & most]
