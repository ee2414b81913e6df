"""Real-time text (T.140 by RFC 4103): what two people write to each other is seen as it is typed.

    typed --write--> every 300 ms --> stream         stream --> in order, from redundancy --> event

Loaded for a call that has it.
"""

from os import urandom

from sipwire.compat import const
from sipwire.errors import ParseError
from sipwire.rtp import HEADER_BYTES
from sipwire.t140 import Screen, typed
from sipwire.text import TextReceiver, TextSender, payload_bytes

from .events import emit

__all__ = ["ROOM_BYTES", "Conversation"]

_GENERATIONS = const(2)  # of redundancy, where the peer takes so many
ROOM_BYTES = payload_bytes(_GENERATIONS)
_MAX_WAITING = const(1000)  # characters, half a minute of them
_MAX_WRITERS = const(4)  # whose last words can be erased; RFC 9071 lets a mixer have more


class Conversation:
    """The text of a call.

    Args:
        stream: a `stream.Stream`, with room for `ROOM_BYTES`.

    Attributes:
        stream: likewise.
        timer_at: when `handle_timer` is due, or None.
    """

    def __init__(self, stream):
        self.stream = stream
        self._sender = self._receiver = self._kinds = self._ssrc = None
        self._screens = []  # (source, what is seen of it)
        self._talks = False
        self._waiting = ""  # typed, and not yet taken

    @property
    def timer_at(self):
        """The next deadline, or None."""
        times = [self._receiver.timer_at]
        if self.stream.is_sending and self._talks:
            times.append(self._sender.timer_at)
        times = [at for at in times if at is not None]
        return min(times) if times else None

    def prepare(self, agreed):
        """There is nothing to make ready."""

    def change(self, agreed, is_other, now, talks):
        """Begin, or go on by what is agreed now; ``is_other`` is the peer's stream."""
        kinds = (agreed.payload_type, agreed.red_type, agreed.generations, agreed.cps)
        if kinds != self._kinds:
            self._kinds = kinds
            self.stream.offset = offset = int.from_bytes(urandom(4), "big")
            generations = min(agreed.generations, _GENERATIONS)
            self._sender = TextSender(agreed.payload_type, now, agreed.red_type, generations, agreed.cps, offset)
            self._receiver = TextReceiver(agreed.payload_type, agreed.red_type)
        self._talks = talks and agreed.talks

    def stop(self):
        """There is nothing to end."""

    def take(self, datagram, now):
        """Take a datagram that has come."""
        parsed = self.stream.open(datagram, now)
        if parsed and self.stream.agreed.hears:
            try:
                self._show(self._receiver.receive(self.stream.packet, parsed[3], parsed[4], now))
            except ParseError:
                self.stream.rejected += 1

    def write(self, text, now):
        """Send what somebody has typed.

        Raises:
            ValueError: there is still more to be sent than is seen at a glance.
        """
        if len(self._waiting) > _MAX_WAITING:
            raise ValueError("busy")
        self._waiting += typed(text)
        self._offer(now)

    def _offer(self, now):
        if self._waiting:
            self._waiting = self._waiting[self._sender.write(self._waiting, now) :]

    def handle_timer(self, now):
        """Send what is due, and show what has waited long enough for what was lost."""
        stream, sender = self.stream, self._sender
        if self._receiver.timer_at is not None and now >= self._receiver.timer_at:
            self._show(self._receiver.handle_timer(now))
        if stream.is_sending and self._talks:
            if stream.ssrc != self._ssrc:
                self._ssrc = stream.ssrc
                sender.begin_anew()
            size = sender.build(stream.out, HEADER_BYTES, now)
            if size >= 0:
                stream.timestamp = sender.timestamp
                stream.send(sender.payload_type, size, sender.marker)
                self._offer(now)

    def _show(self, found):
        for source, text in found:
            screen = None
            for one in self._screens:
                if one[0] == source:
                    screen = one[1]
            if not screen:
                screen = Screen()
                self._screens = self._screens[1 - _MAX_WRITERS :] + [(source, screen)]
            bells = screen.bells
            erased, shown = screen.apply(text)
            emit(
                "text",
                text=shown,
                erased=erased or None,
                bells=screen.bells - bells or None,
                source=None if source == self.stream.source else "%08x" % int.from_bytes(source, "big"),
            )
