"""Digits that somebody presses in a call, as telephone events (RFC 4733).

Loaded with the first of them, for the rest of the call.
"""

from sipwire.dtmf import DtmfReceiver, DtmfSender
from sipwire.errors import ParseError
from sipwire.rtp import HEADER_BYTES

from .events import emit

__all__ = ["Digits"]


class Digits:
    """The digits of a call, both ways."""

    def __init__(self):
        self._sender = DtmfSender()
        self._receiver = DtmfReceiver()
        self._source = b""
        self._ssrc = None

    def press(self, digits):
        """Send digits after what is still to be sent.

        Raises:
            ValueError: see `sipwire.dtmf.DtmfSender.press`.
        """
        self._sender.press(digits)

    def send(self, stream, frame):
        """Send the event of a frame where there is one; returns whether there is.

        Args:
            stream: a `stream.Stream`, whose timestamp is that of the frame.
            frame: its size in units of the clock.
        """
        sender = self._sender
        if stream.ssrc != self._ssrc:
            self._ssrc = stream.ssrc
            sender.begin_anew()
        size = sender.build(stream.out, HEADER_BYTES, stream.timestamp, frame) if sender.is_busy() else 0
        if size:
            timestamp, stream.timestamp = stream.timestamp, sender.timestamp
            stream.send(stream.agreed.event_type, size, sender.marker)
            stream.timestamp = timestamp
        return size

    def take(self, stream, parsed, now):
        """Take an event that has come, see `stream.Stream.open`."""
        if self._source != stream.source:
            self.stop()
            self._receiver = DtmfReceiver()
            self._source = stream.source
        try:
            self._tell(self._receiver.receive(stream.packet, parsed[3], parsed[4], now))
        except ParseError:
            stream.rejected += 1

    def stop(self):
        """Tell the digit that is still pressed: its stream is over."""
        self._tell(self._receiver.close())

    def handle_timer(self, now):
        """Tell the digit of which nothing came for a while."""
        self._tell(self._receiver.handle_timer(now))

    def _tell(self, digits):
        for digit, duration_ms in digits:
            emit("dtmf", digit=digit, duration_ms=duration_ms)
