"""The answerer's side of offer/answer (RFC 3264) for our media.

    policy          of what is offered we take
    REQUIRED        RTP/SAVP with a key of a suite that we speak
    OPPORTUNISTIC   the same; RTP/AVP with such a key, as SRTP (RFC 8643); RTP/AVP without one, as RTP
    OFF             RTP/AVP, as RTP

A setup key is as good as REQUIRED, and so is it for a stream to have been SRTP, whoever has taken the keys out of the
offer. Profiles with feedback (RFC 4585, RFC 5124) are refused, as we have none, and so is DTLS (RFC 5764).
"""

from .agreed import Agreed
from .crypto import Crypto
from .errors import ParseError
from .sdp import Media, Session
from .streams import (
    AVP,
    BOTH,
    OFF,
    REQUIRED,
    SAVP,
    SENDS,
    TEXT,
    Speaks,
    choose,
    describe,
    description,
    formats,
    place,
    protect,
)

__all__ = ["make_answer", "take_offer", "write_answer"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .setup_keys import MediaKeys


def make_answer(
    speaks: Speaks,
    offer: Session,
    address: bytes,
    session_id: int,
    version: int = 1,
    before: "Sequence[Agreed]" = (),
    is_held: bool = False,
    setup: "MediaKeys | None" = None,
) -> "tuple[Session, list[Agreed]]":
    """Answer an offer: `take_offer`, and then `write_answer`. Who has little memory does one after the other.

    Returns:
        The answer, and what it agrees on.
    """
    agreed = take_offer(speaks, offer, before, is_held, setup)
    kid = setup.kid if setup else b""
    return write_answer(speaks, offer.media, agreed, address, session_id, version, kid), agreed


def take_offer(
    speaks: Speaks,
    offer: Session,
    before: "Sequence[Agreed]" = (),
    is_held: bool = False,
    setup: "MediaKeys | None" = None,
) -> "list[Agreed]":
    """Choose among what is offered: of each kind that we speak the first stream that can be taken.

    Args:
        speaks: what we speak.
        offer: the peer's description.
        before: what was agreed before, in a session that exists. While the peer keeps its key we keep ours, and the
            stream goes on; a new one may be that of another device, which could not know our rollover counter.
        is_held: whether we have put the peer on hold: then we receive nothing (RFC 3264 section 8.4).
        setup: the keys, where a setup key gives them: then they come from nowhere else.

    Returns:
        One for each stream that is taken, in the order of their media lines.

    Raises:
        ParseError: no stream can be taken (488); the reason says why.
    """
    found: "list[Agreed]" = []
    why = "audio" if speaks.audio_port else "text"
    for i, media in enumerate(offer.media):
        kind = media.kind
        if not media.port or not speaks.port(kind) or kind in [one.kind for one in found]:
            continue
        one = Agreed(kind, i)
        past = None
        for stream in before:
            if stream.kind == kind and stream.suite:
                past = stream
        remote = _crypto(speaks, media, setup, past)
        is_required = speaks.policy == REQUIRED or setup is not None
        refusal = _refusal(media, remote, speaks.policy, is_required, past is not None)
        if not refusal and not choose(one, media, formats(media), speaks):
            refusal = "codec"
        if refusal:
            why = refusal
            continue
        if remote:
            key = speaks.new_key(remote.suite)
            if past and past.suite == remote.suite and past.remote_key == remote.keys[0].key_salt:
                key = past.local_key
            if setup:
                remote.keys[0].key_salt, key = setup.of(i, len(key))
            protect(one, key, remote)
        place(one, offer, media, SENDS if is_held else BOTH, speaks.mux)
        if kind == TEXT:
            one.mixer = b"" in media.attributes(b"rtt-mixer")
        found.append(one)
    if not found:
        raise ParseError(why, 488, "no")
    return found


def write_answer(
    speaks: Speaks,
    offered: "Sequence[Media]",
    agreed: "Sequence[Agreed]",
    address: bytes,
    session_id: int,
    version: int = 1,
    kid: bytes = b"",
) -> Session:
    """The answer that says what was chosen; every other stream is refused by port 0.

    "The answer to an offer MUST contain the same number of media lines" (RFC 3264 section 6). A crypto line has "the
    same tag and crypto-suite" as the one that it answers (RFC 4568 section 5.1.2).

    Args:
        speaks: what we speak.
        offered: the media sections of the offer; nothing but their m= lines counts.
        agreed: of `take_offer`.
        address: our numeric address.
        session_id: a number for o=.
        version: see `offer.make_offer`.
        kid: the name of the setup key that gives the keys, b"" for SDES.
    """
    answer = description(address, session_id, version)
    answer.media = [Media(media.kind, 0, media.proto, media.formats) for media in offered]
    for one in agreed:
        cryptos = [Crypto.make(one.tag, one.suite, b"" if kid else one.local_key, kid)] if one.suite else []
        has_mux = one.rtcp_port == one.port
        proto = offered[one.index].proto
        answer.media[one.index] = describe(
            one, speaks.port(one.kind), proto, [one.payload_type], has_mux, cryptos, one.direction
        )
    return answer


def _crypto(speaks: Speaks, media: Media, setup: "MediaKeys | None", past: "Agreed | None") -> "Crypto | None":
    """The first crypto line of a section that we take: lines stand in the offerer's order of preference.

    None with the key that we send under: "the keystreams must be different" (RFC 3711 section 9.1), and whoever sends
    our own packets back would be heard.
    """
    if speaks.policy == OFF and not setup:
        return None
    kid = setup.kid if setup else b""
    tags = []
    for crypto in media.cryptos():
        # Section 5.1: tags are unique; with one that stands twice the answer would not say which it is for.
        is_known = crypto.suite in speaks.suites and crypto.keys[0].kid == kid
        if past and not setup and crypto.keys[0].key_salt == past.local_key:
            is_known = False
        if is_known and crypto.tag not in tags and speaks.takes(crypto):
            return crypto
        tags.append(crypto.tag)
    return None


def _refusal(media: Media, crypto: "Crypto | None", policy: int, is_required: bool, was_srtp: bool) -> str:
    """What a section lacks to be taken, "" for nothing.

    Args:
        media: the section.
        crypto: see `_crypto`.
        policy: ours.
        is_required: whether it has to be SRTP and to say so whatever the policy is.
        was_srtp: whether it was SRTP before.
    """
    proto = media.proto
    if proto == SAVP:
        if crypto:
            return ""
        return "RTP" if policy == OFF else "suite"
    if proto == AVP:
        return "SRTP" if is_required or (was_srtp and not crypto) else ""
    if b"TLS" in proto:
        return "DTLS"
    return "feedback" if proto in (SAVP + b"F", AVP + b"F") else "profile"
