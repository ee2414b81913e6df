"""Speech: the RTP pump of one call, SRTP both ways and never RTP.

    microphone -> encode -> RTP -> SRTP -> socket        every 20 ms by the clock
    socket -> SRTP -> RTP -> jitter buffer               whenever something has come
    jitter buffer -> decode -> speaker                   every 20 ms by the clock

The large buffers are made once, while the heap is still in one piece. A packet that fails a check is dropped and
counted and changes nothing.
"""

from os import urandom

from sipwire.compat import const
from sipwire.errors import ParseError, SecurityError
from sipwire.g711 import Codec
from sipwire.rtp import HEADER_BYTES, build_header, parse
from sipwire.srtp import SUITES, SrtpReceiver, SrtpSender

from .jitter import FRAME, JitterBuffer

__all__ = ["Media"]

_FRAME_MS = const(20)
_PACKET_BYTES = const(400)  # of a datagram: 40 ms and its headers; what is cut off fails its tag
_MAX_BEHIND_MS = const(200)  # when the device slept for longer, packets are not sent in a burst but left out
_MAX_OVERHEAD_BYTES = const(26)  # of SRTP: a tag, and an MKI of up to 16 bytes
_DRAIN = const(50)  # more than any queue holds


class Media:
    """The media of one call after the other.

    Args:
        socket: non-blocking, bound to our RTP port.
        resolve: makes a socket address of (host, port).
        audio: ``start()``, ``stop()``, ``read(pcm)`` and ``write(pcm)`` with 20 ms of 16-bit samples each.
        new_aes: makes an AES block function of a key.

    Attributes:
        socket: likewise; it may be replaced.
        timer_at: when `handle_timer` is due, or None.
    """

    def __init__(self, socket, resolve, audio, new_aes):
        self.socket = socket
        self._resolve = resolve
        self._audio = audio
        self._new_aes = new_aes
        self._agreed = self._sender = self._receiver = self._codec = self._target = None
        self._past = []  # keys of the peer's before the present one, and their receivers
        self._jitter = JitterBuffer()
        self._in = bytearray(_PACKET_BYTES)
        self._out = bytearray(HEADER_BYTES + FRAME + _MAX_OVERHEAD_BYTES)
        self._frame = bytearray(FRAME)
        self._pcm = bytearray(2 * FRAME)
        self._codecs = {}
        self.timer_at = None

    def start(self, agreed, now, talks=True):
        """Make ready for a call: receive and play from now on, send after `go`. In a call, go on by what is agreed now.

        What has not changed goes on as if nothing had been: a stream under its key keeps its numbers, without a gap.

        Args:
            agreed: what offer and answer agreed on, a ``sipwire.sdp.Agreed``.
            now: milliseconds.
            talks: whether the microphone is to be heard, where that was agreed.

        Raises:
            MemoryError, OSError, ValueError: there is no microphone, no speaker, or no room. What ran before goes on.
        """
        suite = SUITES[agreed.suite]
        before = self._agreed
        sender, receiver = self._sender, self._receiver
        if before is None or (before.local_key, before.suite) != (agreed.local_key, agreed.suite):
            sender = SrtpSender(suite, agreed.local_key, self._new_aes, agreed.local_mki)
        theirs = (agreed.remote_key, agreed.remote_mki, agreed.suite)
        if before is None or (before.remote_key, before.remote_mki, before.suite) != theirs:
            receiver = self._receiver_of(theirs, suite)
            if before:
                receiver.follow(self._receiver)
        codec = self._codecs.get(agreed.payload_type) or Codec(agreed.payload_type)
        self._codecs[agreed.payload_type] = codec
        target = self._target
        if before is None or (before.address, before.port) != (agreed.address, agreed.port):
            target = self._resolve(agreed.address, agreed.port)
        out_view = memoryview(self._out)[: HEADER_BYTES + FRAME + sender.overhead_bytes]
        if sender is not self._sender:
            self._ssrc = int.from_bytes(urandom(4), "big")
            # RFC 3711 section 3.3.1: a start below 2^15 keeps the first wrap, and with it the ROC, from being guessed
            # wrong.
            self._seq = int.from_bytes(urandom(2), "big") >> 1
            self._timestamp = int.from_bytes(urandom(4), "big")
        if receiver is not self._receiver and before:
            self._count_lost()
            # Kept for when that key comes back: with an empty replay list, what was recorded could be played again.
            self._past = [(before.remote_key, before.remote_mki, before.suite, self._receiver)] + self._past[:1]
        if before is None:
            self._sent = self._received = self._rejected = self._before = self._lost = 0
            self._flush()
            try:
                self._audio.start()
            except Exception:
                self._silence()
                raise
            self._jitter.begin(codec.silence)
            self._sending = False
            self.timer_at = now + _FRAME_MS
        elif codec is not self._codec or receiver is not self._receiver:
            self._jitter.change(codec.silence)
        if receiver is self._receiver:
            receiver.allow_source()  # to go on elsewhere often means to begin anew there
        self._sender, self._receiver, self._codec = sender, receiver, codec
        self._sources = receiver.sources
        self._target, self._out_view = target, out_view
        self._talks = talks and agreed.talks
        self._hears = agreed.hears
        self._agreed = agreed

    def _receiver_of(self, theirs, suite):
        """The receiver for a key of the peer's: that which it had before in this call, with what that has seen."""
        for past in self._past:
            if past[:3] == theirs:
                return past[3]
        return SrtpReceiver(suite, theirs[0], self._new_aes, theirs[1])

    def go(self, now):
        """The peer has our keys: send."""
        self._sending = self._agreed is not None

    def stop(self):
        """End the call's media.

        Returns:
            Statistics: packets sent, received, rejected (failed a check), lost (by sequence number), late, waited
                (frames of silence played), skipped (samples), or None where none was started.
        """
        if self._agreed is None:
            return None
        lost = self._count_lost()
        self._agreed = self._sender = self._receiver = self._out_view = None
        self._past = []
        self._silence()
        return {
            "sent": self._sent,
            "received": self._received,
            "rejected": self._rejected,
            "lost": lost,
            "late": self._jitter.late,
            "waited": self._jitter.waited,
            "skipped": self._jitter.skipped,
        }

    def _silence(self):
        self.timer_at = None
        try:
            self._audio.stop()
        except (OSError, ValueError):
            pass  # nothing more can be done about it

    def receive(self):
        """Take the datagram that the socket has ready."""
        try:
            # Not readinto(): that goes on reading until its buffer is full, and glues datagrams together.
            data = self.socket.recv(_PACKET_BYTES)
        except OSError:
            return
        if self._agreed is not None:
            size = len(data)
            self._in[:size] = data
            self._take(self._in, size)

    def _take(self, packet, size):
        try:
            size = self._receiver.unprotect(packet, size)
            payload_type, seq, timestamp, start, end, _ = parse(packet, size)
        except (ParseError, SecurityError):
            self._rejected += 1
            return
        self._sending = True  # who sends us authentic packets has our keys
        if self._receiver.sources != self._sources:
            self._count_lost()
            self._jitter.change(self._codec.silence)
        if self._received == self._before:
            self._first_seq = self._last_seq = seq
        else:
            # Carried on beyond 16 bits, so that the count of lost packets survives the wrap.
            seq = self._last_seq + ((seq - self._last_seq + 0x8000) & 0xFFFF) - 0x8000
            self._last_seq = max(self._last_seq, seq)
            self._first_seq = min(self._first_seq, seq)
        self._received += 1
        if self._hears and payload_type == self._codec.payload_type:
            self._jitter.put(packet, start, end, timestamp)

    def _count_lost(self):
        """Count what was lost of a stream that is over; returns the sum of all."""
        if self._received > self._before:
            self._lost += max(0, self._last_seq - self._first_seq + 1 - (self._received - self._before))
        self._before = self._received
        self._sources = self._receiver.sources
        return self._lost

    def _flush(self):
        """Throw away what came when no call was on."""
        try:
            for _ in range(_DRAIN):
                self.socket.recv(_PACKET_BYTES)
        except OSError:
            pass

    def handle_timer(self, now):
        """Send and play the 20 ms that are due; what the audio raises goes through."""
        if now - self.timer_at > _MAX_BEHIND_MS:
            self._timestamp = (self._timestamp + (now - self.timer_at) // _FRAME_MS * FRAME) & 0xFFFFFFFF
            self.timer_at = now
        while self.timer_at is not None and now >= self.timer_at:
            self.timer_at += _FRAME_MS
            if self._sending and self._talks:
                self._send()
            self._timestamp = (self._timestamp + FRAME) & 0xFFFFFFFF
            self._jitter.take(self._frame)
            self._codec.decode(self._frame, 0, self._pcm, FRAME)
            self._audio.write(self._pcm)

    def _send(self):
        self._audio.read(self._pcm)
        packet = self._out
        build_header(packet, self._codec.payload_type, self._seq, self._timestamp, self._ssrc, self._sent == 0)
        self._codec.encode(self._pcm, packet, HEADER_BYTES, FRAME)
        self._sender.protect(packet, HEADER_BYTES + FRAME)
        self._seq = (self._seq + 1) & 0xFFFF
        try:
            self.socket.sendto(self._out_view, self._target)
            self._sent += 1
        except OSError:
            pass  # no buffer, no route, nobody there: speech goes on
