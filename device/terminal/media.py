"""The media of one call after the other: speech, real-time text, or both; and the tone while it rings.

    ring --> start --> what was agreed on runs --> quiet --> stop tells what there was

What runs is loaded when a call begins to have media, and unloaded when it has none any more: the heap of a weak device
has room for that, or for what it takes to begin and end a call, hardly for both.
"""

import gc
from os import urandom

from sipwire.compat import const

from .demand import call, load, unload

__all__ = ["AUDIO", "DATAGRAM_BYTES", "TEXT_DATAGRAM_BYTES", "Media"]

_RING_BYTES = const(2048)  # of the jitter buffer
_KEY_MS = const(86400000)  # a day
DATAGRAM_BYTES = const(600)  # 60 ms of speech and its headers; what is cut off fails its tag
TEXT_DATAGRAM_BYTES = const(800)  # text that somebody has pasted, three times
AUDIO = b"audio"
_PARTS = ("speech", "conversation", "digits", "unprotected", "stream")


class Media:
    """The media of one call after the other.

    Args:
        sockets: non-blocking and bound: those of speech, for RTP and RTCP, and where there is text those of it.
        resolve: makes a socket address of (host, port).
        audio: ``start()``, ``stop()``, ``read(pcm)`` and ``write(pcm)`` with 20 ms of 16-bit samples each.
        new_aes: makes an AES block function of a key.
        key_ms: how long to send under one key, until `report` asks for another; after twice that nothing is sent.

    Attributes:
        sockets: likewise; they may be replaced.
        resolve, audio, new_aes, key_ms: likewise.
        buffer: the jitter buffer's, made once, while the heap is in one piece.
        parts: what runs: a `speech.Speech` or `conversation.Conversation` by the kind of its stream.
        past: the streams of parts that have ended in this call, by their kind.
        statistics: of those parts.
        cname: ours in this call's reports.
        report_at: when `report` is due, or None.
    """

    def __init__(self, sockets, resolve, audio, new_aes, key_ms=_KEY_MS):
        self.sockets = sockets
        self.resolve = resolve
        self.audio = audio
        self.new_aes = new_aes
        self.key_ms = key_ms
        self.buffer = bytearray(_RING_BYTES)
        self.parts = {}
        self.past = {}
        self._ring_at = self._tone = None
        self.statistics = None
        self.report_at = None
        self.cname = b""

    @property
    def timer_at(self):
        """When `handle_timer` is due, or None."""
        at = self._ring_at
        for part in self.parts.values():
            if part.timer_at is not None and (at is None or part.timer_at < at):
                at = part.timer_at
        return at

    def ring(self, now):
        """Ring, until media starts or ends; where there is nothing to ring with it is silent."""
        if not self.parts and self._ring_at is None:
            self._ring_at = now

    def _hush(self):
        if self._ring_at is not None:
            self._ring_at = None
            if self._tone:
                self._tone.stop()
                self._tone = None
            unload("terminal.ringing")

    def _go_on_ringing(self, now):
        try:
            if not self._tone:
                self._tone = load("terminal.ringing").Tone(self.audio, now)
            self._tone.handle_timer(now)
            self._ring_at = self._tone.timer_at
        except (MemoryError, OSError, ValueError):
            self._hush()

    def start(self, streams, now, talks=True):
        """Make ready for a call: receive and play from now on, send after `go`. In a call, go on by what is agreed now.

        What has not changed goes on as if nothing had been: a stream under its key keeps its numbers, without a gap.

        Args:
            streams: what offer and answer agreed on: one or two `sipwire.agreed.Agreed`, of different kinds.
            now: milliseconds.
            talks: whether the microphone is to be heard, where that was agreed.

        Raises:
            MemoryError, OSError, ValueError: there is no microphone, no speaker, or no room. What ran before goes on.
        """
        self._hush()
        try:
            load("terminal.stream")
            call("terminal.arranging", "start", self, streams, now, talks)
        finally:
            if not self.parts:
                self._unload()

    def go(self, now):
        """The peer has our keys: send."""
        for part in self.parts.values():
            part.stream.is_sending = True

    def quiet(self, now=None):
        """End the call's media; `stop` tells of it.

        Args:
            now: milliseconds, where the peer is still there to be told.
        """
        self._hush()
        if self.parts:
            try:
                if now is not None:
                    self._report(now, True)
            except MemoryError:
                pass  # the call ends all the same
            parts, self.parts = self.parts, {}
            self.report_at = None
            try:
                call("terminal.arranging", "end", self, parts)
            except MemoryError:
                for part in parts.values():
                    part.stop()  # what there was is not told, but it is over
            finally:
                parts = None
                self.past = {}
                self._unload()

    def stop(self):
        """End the call's media.

        Returns:
            Statistics: of speech, see `speech.Speech.stop`, and of its stream packets sent, received, rejected (failed
            a check), lost (by sequence number) and jitter_ms; where the other side has reported it far_lost,
            far_jitter_ms and round_trip_ms. In ``text`` those of the text's stream. None where none was started,
            and nothing in it where there was no memory to tell.
        """
        self.quiet()
        statistics, self.statistics = self.statistics, None
        return statistics

    def _unload(self):
        for name in _PARTS:
            unload("terminal." + name)
        gc.collect()  # what ends the call takes its place

    def receive(self, socket, now):
        """Take the datagram that a socket has ready."""
        at = self.sockets.index(socket)
        part = self.parts.get(b"text" if at > 1 else AUDIO)
        size = TEXT_DATAGRAM_BYTES if at > 1 else DATAGRAM_BYTES
        try:
            if part and not part.stream.agreed.suite:
                # RTP tells of nobody who sent it, so it has to come from where the peer said it would; nor has it a tag
                # to tell that it was cut off.
                data, source = socket.recvfrom(size)
                wanted = part.stream.rtcp_target if at & 1 else part.stream.target
                if source != wanted or len(data) == size:
                    part.stream.rejected += 1
                    return
            else:
                # Not readinto(): that goes on reading until its buffer is full, and glues datagrams together.
                data = socket.recv(size)
        except OSError:
            return
        if part and at & 1:
            part.stream.hear(data, now)
        elif part:
            part.take(data, now)

    def handle_timer(self, now):
        """Send and play what is due; what the audio raises goes through."""
        if self._ring_at is not None and now >= self._ring_at:
            self._go_on_ringing(now)
        parts = self.parts
        for part in parts.values():
            if parts is self.parts and part.timer_at is not None and now >= part.timer_at:
                part.handle_timer(now)

    def report(self, now):
        """Read the peer's reports (RTCP), and send ours.

        Returns:
            Whether it is time for another key of ours.
        """
        self.report_at = now + 2052 + (int.from_bytes(urandom(2), "big") >> 4)  # RFC 3550 section 6.2: 2 to 6 s
        return self._report(now, False)

    def _report(self, now, is_over):
        wants = False
        for part in self.parts.values():
            wants = call("terminal.reports", "report", part.stream, self, now, is_over) or wants
        return wants

    def press(self, digits):
        """Send digits to the other side.

        Raises:
            ValueError: they can't be.
        """
        part = self.parts.get(AUDIO)
        if not part:
            raise ValueError("no speech")
        if "!" in digits:
            raise ValueError("no digit")  # but an event of its own, which we have not said that we speak
        part.press(digits)

    def write(self, text, now):
        """Send real-time text.

        Raises:
            ValueError: it can't be.
        """
        part = self.parts.get(b"text")
        if not part:
            raise ValueError("no text in this call")
        part.write(text, now)
