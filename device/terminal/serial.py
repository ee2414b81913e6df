"""The serial hop (WIRE section 5): one line to the neighbour for SIP, for media, and for the console beside them.

    line --SlipDecoder--> a packet: into the queue of its port, which the program takes for a socket
                      --> text: to the console; Ctrl-C ends the program

What `app` does with a poll object and with sockets it does with these. There is nobody else on the line, so that what
comes by it comes from the neighbour; and a datagram goes to a port of the neighbour's, whatever address is before it.

A line has noise on it. A packet whose first C0 is lost looks like text, and must not be typed to anybody, or count as
Ctrl-C: text counts when the line pauses, or a packet ends it, and only if all of it is text then.

Loaded where the configuration has a serial line, and for good.
"""

import select
from errno import EAGAIN
from time import ticks_diff, ticks_ms

from sipwire.compat import const
from sipwire.slip import FIRST_PORT, HOP_PORT, MAX_DATAGRAM_BYTES, TEXT, SlipDecoder, encode, is_port

from .board.uart import open_uart
from .events import out

__all__ = ["SerialLine", "SerialPort"]

_HOST = b"192.0.0.8"  # the IPv4 dummy address (RFC 7600), which nobody has
_QUEUED = const(6)  # datagrams of one port, as lwIP has them; what comes beyond is lost
_WAITING_BYTES = const(4096)  # to go out; what does not fit beyond is lost
_READ_BYTES = const(512)  # at a time
_TYPED_BYTES = const(1024)  # of console text; a line is not longer
_PAUSE_MS = const(5)
_CTRL_C = b"\x03"
_KEYS = b"\x03\t\n\r\x08"  # that are no characters


class SerialPort:
    """What stands for a socket.

    Args:
        line: the `SerialLine`.
        number: packets to it are for us.
    """

    def __init__(self, line, number):
        self._line = line
        self.number = number
        self.queue = []
        self._target = None

    def recv(self, size):
        """The next datagram; what is beyond ``size`` bytes of it is cut off.

        Raises:
            OSError: there is none.
        """
        if not self.queue:
            raise OSError(EAGAIN)
        data = self.queue.pop(0)
        return data if len(data) <= size else data[:size]

    def recvfrom(self, size):
        """The next datagram and where it comes from: where ours go to, for there is nobody else."""
        return self.recv(size), self._target

    def send(self, data):
        """Send a datagram to the neighbour.

        Raises:
            OSError: it is too large.
        """
        self._line.put(self.number, data)

    def sendto(self, data, target):
        """Send a datagram to a port of the neighbour's, see `SerialLine.resolve`."""
        self._target = target
        self._line.put(target, data)


class SerialLine:
    """A line, and what stands for a poll object.

    Args:
        settings: the configuration's "serial" object.
        console: the board's; it reads what is typed from here.

    Attributes:
        dropped: packets that found no room, ours and the neighbour's.
        noise: pieces of what was neither packet nor text.

    Raises:
        ConfigError: the board has no such UART.
    """

    def __init__(self, settings, console):
        self.dropped = self.noise = 0
        self._decoder = SlipDecoder()
        self._ports = {}
        self._rest = b""  # of what is to go out
        self._pending = b""  # what may be text
        self._is_noise = False
        self._typed = b""  # and not taken by the console
        self._heard_at = 0
        self._uart = open_uart(settings["uart"], settings["baud"])
        self._select = select.poll()
        self._select.register(self._uart.item, select.POLLIN)
        console.source = self
        out.append(self._say)

    def close(self):
        """Give the line back to the prompt; the program has ended."""
        del out[:]
        for _ in range(_WAITING_BYTES):
            if not self._rest:
                break
            self._flush()
        self._uart.close()

    # As sockets.

    def open(self, count):
        """What stands for the sockets: of SIP, and a tuple of ``count`` for media; and our address, as bytes."""
        for number in [HOP_PORT] + [FIRST_PORT + i for i in range(count)]:
            self._ports[number] = SerialPort(self, number)
        return self._ports[HOP_PORT], tuple([self._ports[FIRST_PORT + i] for i in range(count)]), _HOST

    @staticmethod
    def resolve(host, port):
        """What stands for an address.

        Raises:
            OSError: a port that is none of the line's.
        """
        if not is_port(port):
            raise OSError("no port of a serial line: %d" % port)
        return port

    def put(self, port, datagram):
        """Send a packet.

        Raises:
            OSError: it is too large.
        """
        if len(datagram) > MAX_DATAGRAM_BYTES:
            raise OSError("too large for a serial line")
        self._write(encode(port, datagram))

    def _say(self, text):
        """An event, whole between two packets."""
        self._write((text + "\r\n").encode())

    def _write(self, data):
        if self._rest:
            self._flush()
        if not self._rest:
            size = self._uart.write(data) or 0
            self._rest = data[size:] if size < len(data) else b""
        elif len(self._rest) + len(data) <= _WAITING_BYTES:
            self._rest += data
        else:
            self.dropped += 1

    def _flush(self):
        self._rest = self._rest[self._uart.write(self._rest) or 0 :]

    # As a poll object.

    def register(self, item, events):
        """The console is on the line."""

    def ipoll(self, wait_ms):
        """Wait until there is a datagram, or something was typed; returns (port, event) of ports that have one.

        Raises:
            KeyboardInterrupt: somebody has pressed Ctrl-C.
        """
        ready = self._ready()
        if ready or self._typed:
            wait_ms = 0
        elif self._pending or self._rest:
            wait_ms = min(wait_ms, _PAUSE_MS)
        if self._rest:
            self._flush()
        # Not all that is said to be readable is.
        if self._select.poll(wait_ms) and self._read():
            ready = self._ready()
        elif self._pending and ticks_diff(ticks_ms(), self._heard_at) >= _PAUSE_MS:
            self._type()
        return ready

    def _ready(self):
        return [(port, select.POLLIN) for port in self._ports.values() if port.queue]

    def _read(self):
        data = self._uart.read(_READ_BYTES)
        if not data:
            return False
        now = ticks_ms()
        if ticks_diff(now, self._heard_at) >= _PAUSE_MS:
            self._is_noise = False
        self._heard_at = now
        for number, part in self._decoder.receive(data):
            if number == TEXT:
                self._hear(part)
            else:
                self._end_text()
                port = self._ports.get(number)
                if not port or len(port.queue) >= _QUEUED:
                    self.dropped += 1
                else:
                    port.queue.append(part)
        return True

    # Text.

    def _hear(self, part):
        if not part:
            self._end_text()
        elif not self._is_noise:
            self._pending += part
            if len(self._pending) > _TYPED_BYTES:
                # So much without a pause: what has been pasted has lines.
                end = self._pending.rfind(b"\n") + 1
                rest, self._pending = self._pending[end:], self._pending[:end]
                if end:
                    self._type()
                    self._pending = rest
                else:
                    self._pending = b""
                    self._is_noise = True
                    self.noise += 1

    def _end_text(self):
        if self._pending:
            self._type()
        self._is_noise = False

    def _type(self):
        """The line has paused: what has come until then is text, or nothing."""
        text, self._pending = self._pending, b""
        if not _is_text(text):
            self.noise += 1
        elif _CTRL_C in text:
            raise KeyboardInterrupt
        elif len(self._typed) + len(text) <= 2 * _TYPED_BYTES:
            self._typed += text

    def take(self):
        """The next byte that somebody has typed, or None."""
        if not self._typed:
            return None
        byte, self._typed = self._typed[:1], self._typed[1:]
        return byte


def _is_text(data):
    for byte in data:
        if (byte < 32 and byte not in _KEYS) or byte == 127:
            return False
    try:
        str(data, "utf-8")
    except UnicodeError:
        return False
    return True
