"""Two terminals of two domains, their neighbours between them, all in memory: what setup keys are tried on.

Of the terminals everything is real but the hop, the sockets and the sound. The neighbours do what WIRE section 4 wants
of them: they route, say what they have verified, and add nothing to a call with a setup key. What passes between them
is in `Pair.way`, and may be read, changed, held back, sent twice, or lost.
"""

import json
import os
from binascii import hexlify

from scripted import DATE_S, SECRET, FakeMedia

from sipwire.message import Request, parse
from terminal import events, keystore
from terminal.clock import Calendar
from terminal.config import make_config
from terminal.phone import Phone
from terminal.useragent import UserAgent

FOLDER = (os.getenv("TMPDIR") or "/tmp") + "/wisp-keys-"
HEAVY = b'level=heavy;verified="%s";by="%s";signed;encrypted;tls'
MEDIUM = b'level=medium;by="%s";tls'


def remove(folder):
    """Remove a folder of keys."""
    try:
        for name in os.listdir(folder):
            os.remove(folder + "/" + name)
        os.rmdir(folder)
    except OSError:
        pass  # there is none


def files(folder):
    """What is in a folder: {name: bytes}."""
    found = {}
    try:
        for name in os.listdir(folder):
            with open(folder + "/" + name, "rb") as file:
                found[name] = file.read()
    except OSError:
        pass  # there is none
    return found


class OpenLink:
    """A hop where everything arrives as it was sent."""

    is_open = True
    dropped = 0

    def seal(self, message):
        return message

    def open(self, datagram, now, most=65535):
        return bytes(datagram[:most]), "frame"


class Terminal:
    """One end.

    Args:
        pair: the `Pair`.
        user: of its address.
        domain: likewise.
        number: of its address on the network.
        setup: of its configuration.

    Attributes:
        phone, agent, media, calendar: its parts.
        folder: where it keeps its keys.
        skew_s: how far its neighbour's clock is ahead.
        told: the events since the last `Pair.events`.
    """

    def __init__(self, pair, user, domain, number, setup):
        self.pair = pair
        self.user, self.domain = user, domain
        self.aor = ("sip:%s@%s" % (user, domain)).encode()
        self.folder = FOLDER + hexlify(os.urandom(6)).decode()
        values = {"user": user, "domain": domain, "ha1": SECRET.decode(), "neighbour": "192.0.2.1:5060"}
        values["setup"] = setup
        self.config = make_config(values)
        self.config.keys = self.folder
        self.address = b"192.0.2.%d" % number
        self.skew_s = 0
        self.told = []
        self.start()

    def start(self):
        """Begin with nothing but what is in the flash."""
        self.link = OpenLink()
        self.agent = UserAgent(self.link, self.address + b":5060")
        self.media = FakeMedia()
        self.calendar = Calendar()
        self.calendar.set(DATE_S + self.skew_s + self.pair.now // 1000, self.pair.now)
        contact = b"sip:%s@%s:5060" % (self.user.encode(), self.address)
        self.phone = Phone(self.config, self.agent, contact, self.address, self.media, self.calendar)
        self.agent.phone = self.phone

    def do(self, function, *arguments):
        """Let it do something, and its events be its own."""
        before, events.print = getattr(events, "print", None), self._print
        try:
            return function(*arguments)
        finally:
            if before:
                events.print = before
            else:
                del events.print

    def _print(self, line):
        self.told.append(json.loads(line))

    def receive(self, data):
        opened = self.agent.open(data, self.pair.now)
        if opened:
            self.agent.take(self.agent.read(opened), self.pair.now)

    @property
    def timer_at(self):
        ats = [part.timer_at for part in (self.agent, self.phone) if part.timer_at is not None]
        return min(ats) if ats else None

    def handle_timer(self):
        for part in (self.agent, self.phone):
            if part.timer_at is not None and part.timer_at <= self.pair.now:
                part.handle_timer(self.pair.now)

    def keys(self, other):
        """Its keys with somebody, newest first."""
        return keystore.load(self.folder, other.aor)


class Pair:
    """The two of them: Alice and Bob.

    Args:
        says: what the neighbours say of each message: `HEAVY`, `MEDIUM`, or b"" for nothing.
        setup: of both configurations.

    Attributes:
        now: milliseconds.
        way: called with (sender, message) for all that passes between the neighbours; returns what arrives: None, the
            message, or a list of what is to arrive.
        says: likewise.
        passed: all that has passed, as (sender's user, message).
    """

    def __init__(self, says=HEAVY, **setup):
        self.now = 5000
        self.says = says
        self.way = None
        self.passed = []
        self.alice = Terminal(self, "alice", "a.example", 7, setup)
        self.bob = Terminal(self, "bob", "b.example", 9, setup)
        self.ends = (self.alice, self.bob)

    def close(self):
        for end in self.ends:
            remove(end.folder)

    def other(self, end):
        return self.bob if end is self.alice else self.alice

    # The neighbours.

    def collect(self):
        """What the terminals have sent, as (sender, message), with what the neighbours do to it."""
        found = []
        for end in self.ends:
            sent, end.agent.outgoing = end.agent.outgoing, []
            for data in sent:
                if data:
                    found.append((end, self._route(end, parse(data))))
        return found

    def _route(self, end, message):
        message.fields = [field for field in message.fields if field[0] not in ("security-assist", "security-status")]
        if isinstance(message, Request):
            branch = b"z9hG4bK" + message.via.branch[7:] + b"n"
            message.insert("Via", b"SIP/2.0/TLS n.%s;branch=%s" % (end.domain.encode(), branch))
        else:
            del message.fields[[key for key, _ in message.fields].index("via")]
        if self.says and (message.body or isinstance(message, Request)):
            by = end.domain.encode()
            is_sealed = self.says == HEAVY and message.get("setup-key") is None
            message.add("Security-Status", HEAVY % (end.aor, by) if is_sealed else MEDIUM % by)
        return message

    def deliver(self, sender, message):
        """Let a message arrive at the other end."""
        other = self.other(sender)
        other.do(other.receive, message.serialize())

    def step(self):
        """Pass on what was sent, and what comes of it; returns whether there was anything."""
        moved = False
        while True:
            found = self.collect()
            if not found:
                return moved
            moved = True
            for sender, message in found:
                self.passed.append((sender.user, parse(message.serialize())))
                arriving = self.way(sender, message) if self.way else message
                if arriving is not None:
                    for one in arriving if isinstance(arriving, list) else [arriving]:
                        self.deliver(sender, one)

    def advance(self, ms=0):
        """Let time pass."""
        end = self.now + ms
        self.step()
        while True:
            due = [one.timer_at for one in self.ends if one.timer_at is not None]
            if not due or min(due) > end:
                break
            self.now = max(self.now, min(due))
            for one in self.ends:
                one.do(one.handle_timer)
            self.step()
        self.now = end

    # What people do.

    def dial(self, caller=None):
        caller = caller or self.alice
        uri = self.other(caller).aor.decode()
        caller.do(caller.phone.dial, uri, self.now)
        self.step()

    def answer(self, callee=None):
        callee = callee or self.bob
        callee.do(callee.phone.answer, self.now)
        self.step()

    def hang_up(self, end=None):
        end = end or self.alice
        end.do(end.phone.hang_up, self.now)
        self.step()

    def call(self, caller=None, leaver=None):
        """A whole call; returns by whom each side was told who the other is: (caller's, callee's)."""
        caller = caller or self.alice
        callee = self.other(caller)
        self.dial(caller)
        self.answer(callee)
        by = [self.told(one, "connected").get("by") for one in (caller, callee)]
        self.advance(1000)
        self.hang_up(leaver or caller)
        self.advance(70000)  # so that nothing is left of it
        return tuple(by)

    def told(self, end, event):
        """The fields of the last event of that name, or an empty dictionary."""
        found = [one for one in end.told if one["event"] == event]
        return found[-1] if found else {}

    def requests(self, method=None):
        """The requests that have passed, of one method or all."""
        found = [one for _, one in self.passed if isinstance(one, Request)]
        return [one for one in found if method is None or one.method == method]

    def statuses(self):
        """Those of the responses that have passed."""
        return [one.status for _, one in self.passed if not isinstance(one, Request)]

    def clear(self):
        """Forget what was told and what has passed."""
        for end in self.ends:
            end.told.clear()
        self.passed.clear()
