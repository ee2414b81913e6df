"""What media takes when it begins, changes and ends: sockets emptied, keys, codecs, and in the end statistics.

Loaded on demand, while `stream` is there, which it knows from inside.
"""

from os import urandom

from sipwire.compat import const
from sipwire.srtp import SUITES

from .counting import count
from .demand import load
from .media import AUDIO, DATAGRAM_BYTES, TEXT_DATAGRAM_BYTES
from .stream import Stream, new_receiver, new_sender

__all__ = ["begin", "end", "start"]

_SPEECH_BYTES = const(160)  # of a packet's payload
_PAST = const(3)  # keys of the peer's, before the last one, that may come back and then have what they have seen
_DRAIN = const(50)  # more than any queue holds


def start(media, streams, now, talks):
    """Begin, or go on by what is agreed now: see `media.Media.start`."""
    before, parts, ready = media.parts, {}, []
    try:
        if not before:
            _flush(media)
        for agreed in streams:
            kind = agreed.kind
            part = parts[kind] = before.get(kind) or _make(media, kind)
            ready.append((part, agreed, _prepare(media, part.stream, agreed)))
            part.prepare(agreed)
    except Exception:
        for kind, part in parts.items():
            if kind not in before:
                part.stop()
        raise
    for part, agreed, prepared in ready:
        is_other = _change(part.stream, agreed, prepared, now)
        part.change(agreed, is_other, now, talks)
    if not before:
        media.statistics = {}
        media.cname = b""
        media.report_at = now + 1026 + (int.from_bytes(urandom(2), "big") >> 5)  # RFC 3550 section 6.2: 1 to 3 s
    media.parts = parts
    end(media, {kind: before[kind] for kind in before if kind not in parts})


def _flush(media):
    """Throw away what came when no call was on."""
    for socket in media.sockets:
        try:
            for _ in range(_DRAIN):
                socket.recv(DATAGRAM_BYTES)
        except OSError:
            pass


def _make(media, kind):
    # One that the call had before has what it has seen: what was recorded then must not count again.
    stream = media.past.get(kind)
    if kind == AUDIO:
        stream = stream or Stream(media, 0, 8, _SPEECH_BYTES, DATAGRAM_BYTES)
        return load("terminal.speech").Speech(media, stream)
    module = load("terminal.conversation")
    return module.Conversation(stream or Stream(media, 2, 1, module.ROOM_BYTES, TEXT_DATAGRAM_BYTES))


def _prepare(media, stream, agreed):
    """What a stream needs to go by what was agreed on, for `_change`; what runs goes on as it is."""
    before = stream.agreed
    sender, receiver, target, rtcp_target = stream.sender, stream.receiver, stream.target, stream.rtcp_target
    seen = None
    if before is None or (before.local_key, before.suite) != (agreed.local_key, agreed.suite):
        sender = new_sender(agreed, media.new_aes)
    theirs = _theirs(agreed)
    if before is None or _theirs(before) != theirs:
        # That which the key had before in this call has what it has seen.
        known = [past[3:] for past in stream.past if past[:3] == theirs]
        receiver, seen = known[0] if known else (new_receiver(agreed, media.new_aes), None)
        if known and agreed.suite:
            keys = receiver.derive(SUITES[agreed.suite], agreed.remote_key, media.new_aes)
            receiver.use(agreed.remote_mki, keys[0], keys[1])
    if before is None or (before.address, before.port) != (agreed.address, agreed.port):
        target = media.resolve(agreed.address, agreed.port)
    if agreed.rtcp_port == agreed.port:
        rtcp_target = target  # the very same says that they share it
    elif before is None or (before.address, before.rtcp_port) != (agreed.address, agreed.rtcp_port):
        rtcp_target = agreed.rtcp_port and media.resolve(agreed.address, agreed.rtcp_port)
    return sender, receiver, seen, target, rtcp_target


def _theirs(agreed):
    return agreed.remote_key, agreed.remote_mki, agreed.suite


def _change(stream, agreed, prepared, now):
    """Let a stream go by what was agreed on; returns whether what the peer sends is another stream from now on."""
    sender, receiver, seen, stream.target, stream.rtcp_target = prepared
    before = stream.agreed
    is_other = receiver is not stream.receiver
    if sender is not stream.sender:
        _begin(stream, sender, now)
    if is_other:
        if before:
            stream.count_lost()
            # Kept for when that key comes back: with an empty replay list, what was recorded could be played again.
            # But for the session keys, which are most of it, and made again then.
            if before.suite:
                receiver.follow(stream.receiver)
                stream.receiver.use(b"", None, None)
            stream.past = [_theirs(before) + (stream.receiver, stream.reported[1])] + stream.past[:_PAST]
        stream.reported[1] = seen
    else:
        receiver.allow_source()  # to go on elsewhere often means to begin anew there
    stream.receiver = receiver
    stream.sources = receiver.sources
    stream.agreed = agreed
    return is_other


def _begin(stream, sender, now):
    """Send a stream of our own, under a key that nothing was sent under in its SSRC."""
    stream.sender = sender
    stream.ssrc = int.from_bytes(urandom(4), "big")
    # RFC 3711 section 3.3.1: a start below 2^15 keeps the first wrap, and with it the ROC, from being guessed wrong.
    stream.seq = int.from_bytes(urandom(2), "big") >> 1
    stream.timestamp = int.from_bytes(urandom(4), "big")
    stream.reported[0] = 0
    stream.begun = stream.sent, stream.octets
    stream.keyed_at = now


def begin(media, stream, now):
    """Go on under another SSRC: somebody else has ours (RFC 3550 section 8.2), and our BYE has been sent.

    What is left of the key is so for both; the new one has its own keystream.
    """
    keyed_at = stream.keyed_at
    _begin(stream, new_sender(stream.agreed, media.new_aes, stream.sender.left()), now)
    stream.keyed_at = keyed_at


def end(media, parts):
    """End parts of a call's media, and note their statistics: see `media.Media.stop`."""
    for kind in parts:
        part = parts[kind]
        found = count(part, kind)
        part.stream.count_lost()
        part.stop()
        part.stream.is_sending = False
        media.past[kind] = part.stream
        if kind == AUDIO:
            media.statistics.update(found)
        else:
            media.statistics[str(kind, "utf-8")] = found
