"""The terminal's program: makes the parts, wires them, and runs the one loop that owns all input and output.

micropython -m terminal wisp.json          on the unix port
import terminal.app; terminal.app.run()    in a board's main.py
"""

import gc
import select
import socket
import sys
from time import sleep_ms

from cryptolib import aes

from sipwire.compat import const

from . import phone as states
from .board import open_board
from .board.console import TYPED
from .clock import Calendar, Clock
from .demand import call, load, relief
from .events import emit, starved
from .link import Link
from .media import Media
from .phone import Phone
from .registration import Registration
from .settings import ConfigError
from .useragent import MAX_DATAGRAM_BYTES, UserAgent

__all__ = ["Terminal", "main", "run"]

_IDLE_MS = const(1000)  # how long the loop sleeps at most
_BUTTON_MS = const(50)  # how often a button is looked at, and a lamp blinks
# Allocated between two collections of garbage: few, so that the heap stays in one piece; half of what is free beyond
# what a call takes, where there is more, for a collection takes longer than a packet of speech.
_COLLECT_BYTES = const(4096)
_CALL_BYTES = const(32768)
_MEASURE_MS = const(1000)  # between two looks at how much of the heap lives
_SETTLED_MS = const(300000)  # who has run for so long has not crashed at its start
_AES_ECB = const(1)
_ROOM_BYTES = const(6144)
# What there is room for is asked for: a datagram of more is cut off, and fails its tag.
_LAST_SIZE = const(1500)  # what does not come in fragments
_SIZES = (2000, _LAST_SIZE)
_ALL = (MAX_DATAGRAM_BYTES,) + _SIZES
_MAX_STARVED = const(10)  # rounds in a row without memory for their work, until the program gives up


def _new_aes(key):
    """An AES block function, as sipwire wants it."""
    return aes(key, _AES_ECB).encrypt


def _resolve(host, port):
    return socket.getaddrinfo(str(host, "utf-8") if isinstance(host, bytes) else host, port)[0][-1]


def _socket():
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


class Terminal:
    """A running terminal.

    Args:
        config: a `terminal.settings.Config`.

    Attributes:
        config, board, wlan, link: its parts; wlan is None where the network is always there.
        line: likewise, the `serial.SerialLine`; None where the neighbour is reached by IP.
        agent, phone, media: likewise, None until there is a network.
        registration: likewise, and None while there is none.
        live, peak: bytes of the heap that lived when it was looked at last, and most of all.
        quit_at: when to end, None for never.
    """

    def __init__(self, config):
        self.config = config
        self._clock = Clock()
        self._calendar = Calendar()
        self.board = open_board(config.board)
        self.wlan = self.board.wlan(config.wifi)
        self._feed = None
        self._settles = True
        self.line = None
        if config.serial:
            self.line = load("terminal.serial").SerialLine(config.serial, self.board.console)
        self._poll = self.line or select.poll()
        self._sip = self.phone = None
        self._rtp = ()  # for RTP and RTCP of speech, and of text
        self.registration = None  # not connected
        self._running = True
        self.quit_at = None
        self.live = self.peak = 0
        self._collect_at = 0
        self._room = None
        self.link = Link(_new_aes)
        for item in self.board.inputs():
            self._poll.register(item, select.POLLIN)

    def _connect(self):
        """Open the sockets for our present address, and begin to register. A call that stands goes on from there."""
        config = self.config
        if self.line:
            resolve = self.line.resolve
            self._sip, self._rtp, host = self.line.open(4 if config.text else 2)
        else:
            resolve, host = _resolve, self._open()
        now = self._clock.now()
        contact = b"sip:%s@%s:%d" % (config.user, host, config.sip_port)
        via = b"%s:%d" % (host, config.sip_port)
        if self.phone:
            self.agent.move(via)
            self.media.sockets = self._rtp
            self.phone.move(contact, host, now)
        else:
            self.agent = UserAgent(self.link, via)
            relief[:] = [self.agent.make_room]
            self.media = Media(self._rtp, resolve, self.board.audio, _new_aes)
            self.phone = self.agent.phone = Phone(config, self.agent, contact, host, self.media, self._calendar)
        self.registration = Registration(config, self.agent, self.link, contact, now, self._calendar)

    def _open(self):
        """Open the sockets; returns our address, as bytes."""
        for old in (self._sip,) + self._rtp:
            if old:
                self._poll.unregister(old)
                old.close()
        # Known before they are opened: whatever fails here, they are closed.
        self._sip, self._rtp = _socket(), tuple([_socket() for _ in range(4 if self.config.text else 2)])
        parts = (self.config, self.board, self.wlan, self._sip, self._rtp, self._poll, _resolve, sleep_ms, self._feed)
        return call("terminal.connecting", "connect", *parts)

    def run(self):
        """Run until ``quit``."""
        feed = self._feed = self.board.watch(self.config.watchdog_s)
        gc.threshold(_COLLECT_BYTES)
        gc.collect()
        emit("started", aor=self.config.aor, heap_used=gc.mem_alloc())
        rounds = 0  # in a row, without memory
        told = None
        while self._running:
            if feed:
                feed()
            try:
                if not self.registration:
                    self._connect()
                self._work()
                rounds = 0
                told = None
            except MemoryError:
                self._room = None
                rounds += 1
                if self.phone:
                    self.agent.make_room()
                starved()
                if rounds == _MAX_STARVED:
                    raise
            except OSError as error:
                if self.registration:
                    raise
                if told != str(error):
                    told = str(error)
                    emit("error", reason="network: " + told)
                if not self.wlan:
                    raise
                sleep_ms(_IDLE_MS)

    def _work(self):
        """Wait for something, and take one datagram of each socket that has one; speech comes first."""
        sip = False
        ready = self._poll.ipoll(self._sleep_ms())
        now = self._clock.now()
        for item in ready:
            if item[0] is self._sip:
                sip = True
            elif item[0] in self._rtp:
                self.media.receive(item[0], now)
        if self.media.timer_at is not None and now >= self.media.timer_at:
            try:
                self.media.handle_timer(now)
            except (OSError, ValueError) as error:
                self.phone.hang_up(now, "media: %s" % error)
        if sip:
            self._receive(now)
        for line in self.board.commands():
            if line[:1] == TYPED:
                self._type(line[1:], now)
                continue
            self._room = None
            wanted = call("terminal.commands", "read", self, line, now)
            if wanted:
                wanted[0](*wanted[1:])
        self._handle_timers(now)
        self._transmit()
        self.board.show(self.phone.state)

    def _type(self, text, now):
        try:
            self.media.write(text, now)
        except ValueError as error:
            self.board.console.is_chatting = False
            emit("refused", command="chat", reason=str(error))

    def _sleep_ms(self):
        now = self._clock.now()
        wait = _IDLE_MS if self.phone.state == states.IDLE else _BUTTON_MS
        for part in (self.media, self.agent, self.registration, self.phone):
            at = part.timer_at
            if at is not None and at - now < wait:
                wait = at - now
        return max(wait, 0)

    def _receive(self, now):
        opened = self._take(now)
        if opened and self.agent.take(self.agent.read(opened), now):
            self.registration.heard()

    def _take(self, now):
        try:
            datagram = self._recv()
        except OSError:
            return None  # "connection refused": nobody listens there just now, and timers go on
        return datagram and self.agent.open(datagram, now)

    def _recv(self):
        """A datagram; where there is little room in one piece, one that is as large as most messages are.

        To read takes a piece for the largest that may come, and on some ports one more for what has come: where there
        is the first and not the other, it is lost, and so is its repetition.
        """
        if self._room is None:
            self._keep_room()
            if self._room is None:
                gc.collect()
                self._keep_room()
        sizes = _SIZES if self._room is None else _ALL
        self._room = None
        for size in sizes:
            if size == _LAST_SIZE:
                self.agent.make_room()
            try:
                return self._sip.recv(size)
            except MemoryError:
                gc.collect()
        self._sip.recv(1)  # lost, like any datagram may be: else it would be in the way of all that comes
        starved()
        return None

    def _handle_timers(self, now):
        for part in (self.agent, self.registration, self.phone):
            if part.timer_at is not None and part.timer_at <= now:
                self._room = None
                part.handle_timer(now)
        if self.media.report_at is not None and self.media.report_at <= now:
            self._room = None
            if self.media.report(now):
                self.phone.renew(now)
        if self.wlan and self.wlan.is_lost(now):
            self.registration = None
            emit("wifi", error="lost")
        if now >= self._collect_at:
            self._collect_at = now + _MEASURE_MS
            self.collect()
        if self._settles and now >= _SETTLED_MS:
            self._settles = False
            call("terminal.settling", "settle")
        if self.quit_at is not None and now >= self.quit_at:
            self._running = False

    def collect(self):
        """Collect the garbage, look at what lives, and keep room in one piece.

        What comes by the second, and the little that lives long, is allocated beside it. Whoever deals with a message
        lets go of it first: messages are large, and need memory in one piece.
        """
        self._room = None
        gc.collect()
        self.live = gc.mem_alloc()
        self.peak = max(self.peak, self.live)
        gc.threshold(max(_COLLECT_BYTES, gc.mem_free() - _CALL_BYTES >> 1))
        self._keep_room()

    def _keep_room(self):
        try:
            self._room = bytearray(_ROOM_BYTES)
        except MemoryError:
            pass

    def _transmit(self):
        for datagram in self.agent.outgoing:
            try:
                self._sip.send(datagram)
            except OSError:
                pass  # lost, like any datagram may be; transactions repeat what matters
        self.agent.outgoing.clear()


def run(path="wisp.json"):
    """Load the configuration and run; returns whether it was good. A mistake in it is told as an event."""
    try:
        terminal = Terminal(call("terminal.config", "load", path))
    except ConfigError as error:
        emit("error", reason=str(error))
        return False
    try:
        terminal.run()
    finally:
        terminal.board.watch(0)
        if terminal.line:
            terminal.line.close()
    return True


def main():
    """The command line of the unix port: the configuration's path.

    After an ``error`` the exit status is 2 for a mistake in the configuration, and 1 for anything else.
    """
    try:
        good = run(sys.argv[1] if len(sys.argv) > 1 else "wisp.json")
    except OSError:
        sys.exit(1)  # it has been told
    if not good:
        sys.exit(2)
