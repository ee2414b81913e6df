"""A whole terminal: `terminal.app` with everything that it touches of the world replaced, and a neighbour that serves it."""

import errno
import gc
import unittest

from far import answer
from scripted import ADDRESS, FakeAudio, Neighbour, Printed, settings

from sipwire.message import Request
from terminal import app
from terminal.board import console
from terminal.config import make_config


class FakeSocket:
    """A UDP socket of the `Whole`.

    Attributes:
        inbox: datagrams to receive, or (datagram, address that it comes from); an exception is raised instead.
        sent: (datagram, address) of what was sent to an address.
    """

    def __init__(self, world):
        self.world = world
        self.inbox = []
        self.sent = []
        self.bound = self.connected = None
        self.is_open = True
        self.blocking = True
        self.fails = False

    def _try(self, name):
        if self.world.broken.get(name):
            raise self.world.broken[name].pop()

    def setblocking(self, on):
        self._try("setblocking")
        self.blocking = on

    def bind(self, address):
        self._try("bind")
        self.bound = address

    def connect(self, address):
        self._try("connect")
        self.connected = address

    def close(self):
        self.is_open = False

    def recvfrom(self, size):
        if not self.inbox:
            raise OSError(errno.EAGAIN)
        datagram = self.inbox.pop(0)
        if isinstance(datagram, Exception):
            raise datagram
        datagram, source = datagram if isinstance(datagram, tuple) else (datagram, ("198.51.100.9", 30000))
        return datagram[:size], source

    def recv(self, size):
        return self.recvfrom(size)[0]

    def send(self, data):
        if self.fails:
            raise OSError(errno.ECONNREFUSED)
        self.world.sent(bytes(data))

    def sendto(self, data, address):
        self.sent.append((bytes(data), address))


class FakePoll:
    """Waiting is what makes the `Whole`'s time pass."""

    def __init__(self, world):
        self.world = world
        self.items = world.polled = []

    def register(self, item, events):
        self.items.append(item)

    def unregister(self, item):
        if item in self.items:  # as MicroPython does it: what was never registered is no error
            self.items.remove(item)

    def ipoll(self, ms):
        self.world.waits.append(ms)
        self.world.wait(ms)
        return [(item, 1) for item in self.items if getattr(item, "inbox", None)]


class FakeModule:
    """Stands in for ``socket`` and ``select``."""

    AF_INET = SOCK_DGRAM = SOL_SOCKET = SO_REUSEADDR = POLLIN = 1

    def __init__(self, world):
        self.world = world

    def socket(self, family, kind):
        made = FakeSocket(self.world)
        self.world.sockets.append(made)
        return made

    def poll(self):
        return FakePoll(self.world)

    def getaddrinfo(self, host, port):
        assert isinstance(host, str)
        if self.world.unnamed and host == self.world.config.neighbour[0]:
            self.world.unnamed -= 1
            raise OSError(-202)
        return [(2, 2, 17, "", (host, port))]


class FakeClock:
    """`terminal.clock.Clock` by the world's time."""

    def __init__(self, world):
        self.world = world

    def now(self):
        return self.world.now


class FakeInput:
    """Standard input: the real `console.Console` reads it."""

    POLLIN = 1

    def __init__(self):
        self.data = b""
        self.stdin = self.buffer = self

    def poll(self, ms=None):
        return self if ms is None else self.data

    def register(self, item, events):
        assert item is self

    def read(self, size):
        got, self.data = self.data[:size], self.data[size:]
        return got


class FakeBoard:
    """A board.

    Attributes:
        typed: command lines, exceptions to raise, and as bytes what keys send to the console.
        watched: what the watchdog was told: seconds, and 0 to end.
        fed: when it was fed.
    """

    def __init__(self, world):
        self.world = world
        self.console = console.Console()
        self.audio = FakeAudio()
        self.typed = []
        self.shown = []
        self.watched = []
        self.fed = []
        self.station = None
        self.settings = None

    def address(self):
        return self.station and self.station.address

    def wlan(self, wifi):
        self.settings = wifi
        return self.station

    def inputs(self):
        return ["console"]

    def commands(self):
        typed, self.typed = self.typed, []
        found = []
        for one in typed:
            if isinstance(one, type):
                raise one("as told")
            if isinstance(one, bytes):
                console.sys.data += one
                found += self.console.read()
            else:
                found.append(one)
        return found

    def show(self, state):
        self.shown.append(state)

    def watch(self, seconds):
        self.watched.append(seconds)
        return self.feed if seconds else None

    def feed(self):
        self.fed.append(self.world.now)


class FakeWlan:
    """Joins at each third attempt, with another address each time.

    Args:
        joins: how many there were before.
    """

    def __init__(self, joins=0):
        self.joins = joins
        self.address = None
        self.station = self
        self.settings = {"ssid": "home", "password": "s3cret"}

    def join(self, feed):
        self.joins += 1
        if self.joins % 3 == 0:
            self.address = "192.0.2.%d" % (40 + self.joins)
        return self.address

    def status(self, what):
        if what != "rssi":
            raise ValueError("unknown status param")
        if not self.address:
            raise OSError("Wifi Not Connected")
        return -61

    def is_lost(self, now):
        return self.address is None


class Whole(Neighbour):
    """A terminal that has not begun to run.

    Args:
        changes: of the configuration.

    Attributes:
        script: (time, action) in order of time; an action is a command line, keys as bytes, or a function.
        messages: all that came in frames and needs no tending, as messages.
        serves: whether the neighbour answers at all.
        broken: errors that the sockets' functions will raise, in a list by the function's name.
        polled: what the terminal waits for.
        unnamed: how often still no name server will know the neighbour's name.
        registers, contact: how many REGISTERs came, and the last one's Contact.
        waits: how long the main loop was willing to wait, each time.
        terminal: the `app.Terminal` that ran last.
    """

    def __init__(self, **changes):
        super().__init__()
        self.now = 0
        self.printed = Printed()
        self.sockets = []
        self.script = []
        self.messages = []
        self.serves = True
        self.unnamed = 0
        self.broken = {}
        self.waits = []
        self.agreement = None
        self.registers = 0
        self._branch = self._answer = None  # of the last plain REGISTER, which may be repeated
        self.contact = b""
        self.real_console = console.sys, console.select
        console.sys = console.select = FakeInput()
        self.board = FakeBoard(self)
        changes.setdefault("address", ADDRESS.decode())
        self.config = make_config(settings(**changes))
        fake = FakeModule(self)
        self.real = (app.socket, app.select, app.sleep_ms, app.Clock, app.open_board)
        app.socket = app.select = fake
        app.sleep_ms = self.sleep
        app.Clock = lambda: FakeClock(self)
        app.open_board = self.open_board

    def close(self):
        app.socket, app.select, app.sleep_ms, app.Clock, app.open_board = self.real
        console.sys, console.select = self.real_console
        self.printed.close()
        gc.threshold(-1)

    def open_board(self, settings):
        self.board_settings = settings
        return self.board

    def run(self, *script):
        """Run a terminal with these things happening; it is told to quit at their end. Returns its events."""
        self.script = list(script) + [(script[-1][0] + 1000 if script else 1000, "quit")]
        self.terminal = app.Terminal(self.config)
        self.terminal.run()
        return self.printed.take()

    # Time.

    def sleep(self, ms):
        self.now += ms

    def wait(self, ms):
        if [one for one in self.sockets if one.is_open and one.inbox]:
            return
        at = self.script[0][0] if self.script else None
        if at is not None and at <= self.now + ms:
            self.now = max(self.now, at)
            _, action = self.script.pop(0)
            if callable(action):
                action()
            else:
                self.board.typed.append(action)
        else:
            self.now += ms

    # The neighbour.

    @property
    def sip(self):
        return [one for one in self.sockets if one.connected][-1]

    @property
    def media_sockets(self):
        """Those of the terminal's present address: for RTP and RTCP of speech, and where there is text those of it."""
        return [one for one in self.sockets if not one.connected][-4 if self.config.text else -2 :]

    @property
    def rtp(self):
        return self.media_sockets[0]

    @property
    def rtcp(self):
        return self.media_sockets[1]

    def deliver(self, message, agreement=None):
        data = message if isinstance(message, bytes) else message.serialize()
        self.sip.inbox.append((agreement or self.agreement).sender.seal(data))

    def sent(self, datagram):
        sent = self.open(datagram)
        if not self.serves:
            return
        message = sent.message
        if message is None:
            self.deliver(b"", sent.agreement)
        elif isinstance(message, Request) and message.method == "REGISTER":
            self.registers += 1
            self.contact = message.get("contact")
            if sent.agreement:
                self.deliver(self.bound(self.granted(message), message))
                return
            is_new = message.via.branch != self._branch
            self._branch = message.via.branch
            if message.get("authorization") is None:
                if is_new:
                    self._answer = self.challenge(message).serialize()
                self.sip.inbox.append(self._answer)
            else:
                if is_new:
                    self.agreement = self.agree(message)
                    self._answer = self.bound(self.welcome(message, self.agreement), message).serialize()
                self.deliver(self._answer)
        else:
            self.messages.append(message)
            if isinstance(message, Request) and message.method in ("BYE", "CANCEL"):
                self.deliver(answer(message, 200))

    @staticmethod
    def bound(response, request):
        """The response with the Contact that was asked for."""
        response.set("Contact", request.get("contact") + b";expires=" + request.get("expires"))
        return response

    def last(self, method):
        """The last message of a method, or status, that came."""
        return [one for one in self.messages if (one.method if isinstance(one, Request) else one.status) == method][-1]


class WholeCase(unittest.TestCase):
    """Tests of a whole terminal.

    Attributes:
        changes: of its configuration.
        world: the `Whole`.
    """

    changes = {}

    def setUp(self):
        self.world = Whole(**self.changes)

    def tearDown(self):
        self.world.close()

    def make(self, **changes):
        """Another terminal, with these changes of its configuration."""
        self.world.close()
        self.world = Whole(**changes)
        return self.world

    def names(self, events):
        return [event["event"] for event in events]
