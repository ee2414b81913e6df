"""Reports of a stream (RTCP, RFC 3550 section 6; SRTCP, RFC 3711 section 3.4): the peer's are read, and ours is made.

Loaded on demand: every five seconds, and when the stream ends.
"""

from os import urandom

from sipwire import rtcp
from sipwire.compat import const
from sipwire.errors import ParseError, SecurityError, StateError
from sipwire.key_life import KeyLife
from sipwire.srtcp import SrtcpReceiver, SrtcpSender
from sipwire.srtp import SUITES

from .demand import call

__all__ = ["report"]

_ROOM = const(128)  # of the largest that we make
# Of `Stream.reported`.
_INDEX = const(0)
_SEEN = const(1)
_SENT = const(2)
_LOST = const(3)
_TRIP = const(5)


def report(stream, media, now, is_over):
    """Read the reports that a stream has heard, and send its own: with BYE where it ends, or where its SSRC does.

    Args:
        stream: a `stream.Stream`.
        media: the `media.Media`.
        now: milliseconds.
        is_over: whether the stream ends.

    Returns:
        Whether it is time for another key of ours.
    """
    agreed, reported = stream.agreed, stream.reported
    suite = SUITES[agreed.suite] if agreed.suite else None
    collides = stream.received > 0 and int.from_bytes(stream.source, "big") == stream.ssrc
    if stream.heard:
        receiver = None
        if suite:
            receiver = SrtcpReceiver(suite, agreed.remote_key, media.new_aes, agreed.remote_mki)
            if reported[_SEEN]:
                receiver.resume(reported[_SEEN])
            receiver.allow_source()
        for at, datagram in stream.heard:
            try:
                packet = receiver.unprotect(datagram) if receiver else datagram
                collides = _read(stream, packet, rtcp.parse(packet, len(packet)), at) or collides
            except (ParseError, SecurityError):
                stream.rejected += 1
        stream.heard = []
        if receiver:
            reported[_SEEN] = receiver.pause()
    if stream.is_sending and stream.rtcp_target and agreed.address != b"0.0.0.0":
        _send(stream, media, now, is_over or collides, suite)
    if collides and not is_over:
        call("terminal.arranging", "begin", media, stream, now)
    if not suite:
        return False
    life = KeyLife([stream.sender], stream.keyed_at, media.key_ms, 2 * media.key_ms)
    life.handle_timer(now)
    life.handle_timer(now)
    return life.wants_another()


def _send(stream, media, now, is_over, suite):
    agreed, reported, source = stream.agreed, stream.reported, stream.reception
    if not media.cname:
        media.cname = b"%x" % int.from_bytes(urandom(12), "big")  # RFC 7022 section 4.2: of this call alone
    block = ()
    if source.highest >= 0:
        block = (rtcp.block(source, int.from_bytes(stream.source, "big"), now),)
    timestamp = stream.timestamp if stream.offset is None else now + stream.offset & 0xFFFFFFFF
    packets, octets = stream.begun
    sent = (stream.sent - packets, stream.octets - octets, timestamp) if stream.sent > reported[_SENT] else None
    reported[_SENT] = stream.sent
    packet = bytearray(_ROOM)
    packet = bytes(packet[: rtcp.build(packet, stream.ssrc, media.cname, now, sent, block, is_over)])
    if suite:
        sender = SrtcpSender(suite, agreed.local_key, media.new_aes, agreed.local_mki)
        sender.index = reported[_INDEX]
        try:
            packet = sender.protect(packet)
        except StateError:
            return
        reported[_INDEX] = sender.index
    stream.put(stream.at if stream.rtcp_target is stream.target else stream.at + 1, packet, stream.rtcp_target)


def _read(stream, packet, parts, at):
    """Take what the peer says; returns whether it uses our SSRC."""
    for part in parts:
        if part[0] == rtcp.SR:
            rtcp.note_report(stream.reception, rtcp.sender_info(packet, part)[1], at)
        if part[0] in (rtcp.SR, rtcp.RR):
            for one in rtcp.blocks(packet, part):
                if one[0] == stream.ssrc:
                    trip = rtcp.round_trip_ms(one[5], one[6], at)
                    stream.reported[_LOST:] = (one[2], one[4], trip if trip >= 0 else stream.reported[_TRIP])
        if part[0] == rtcp.BYE or packet[4:8] != stream.source:
            stream.receiver.allow_source()  # it says BYE, or another has shown itself
    return rtcp.collides(packet, parts, stream.ssrc)
