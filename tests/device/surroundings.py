"""What is around the terminals of `model`: their flash and power, the neighbours, a bad network, and time.

    terminal --up--> its neighbour --trunk--> the other neighbour --down--> terminal

A hop loses, repeats and delays datagrams, and each has it its own way in each direction; the trunk is TLS, and loses
only what is under way when a neighbour restarts. Neighbours pass on what they are given, as those of `pair` do, and
hand over the keys that they have made for the two (WIRE section 4.3), again and again until there is a 200. The
registration is what its Date and its Setup-Peers come to, and may be lost likewise.
"""

import sys
from collections import OrderedDict
from hashlib import sha256

from flash import Flash, PowerCut, Random
from pair import HEAVY, Pair, Terminal
from scripted import DATE_S, keep_loaded
from witness import Witness, WitnessedMedia

from sipwire.introduction import SETUP_KEYS, Introduction, read_peers, write_keys
from sipwire.message import Request, parse
from sipwire.setup import SetupKey
from sipwire.setup_keys import KEY_BYTES
from sipwire.transaction import TIMEOUT, NonInviteClient, client_key
from terminal import asking, introductions, keystore, parting, revoking, spoken, trust, vouching
from terminal.clock import Calendar
from terminal.phone import Phone

__all__ = ["COUNTED", "Result", "Surroundings"]

# They draw what has to come of the seed, or are watched.
_LOADED = (asking, introductions, parting, revoking, spoken, vouching)
COUNTED = (
    "calls",
    "connected by setup key",
    "connected by neighbours",
    "failed",
    "cancelled",
    "refused 428",
    "refused 403",
    "left alone",
    "left alone, by setup key",
    "taken by key",
    "settled",
    "changes",
    "restarts",
    "power cuts in a writing",
    "neighbours' restarts",
    "clock changes",
    "introductions",
    "introductions delivered",
    "revocations",
    "revocations heard",
    "sent",
    "lost",
    "repeated",
    "replayed",
)
_HOUR_MS = 3600000
_TRUNK_MS = 20
_MAX_PASSED = 12  # requests that may come once more
_MAX_EVENTS = 20000  # until the next thing that somebody does: days of refreshes have fewer
_NETWORKS = (  # loss and repetition in percent, and the longest delay in ms
    (0, 0, 5),
    (0, 0, 5),
    (0, 20, 400),
    (5, 5, 50),
    (20, 20, 700),
    (50, 30, 2500),
    (80, 10, 4000),
    (100, 0, 5),
    (100, 0, 5),
)


class Result:
    """What came of a run.

    Attributes:
        broken: what has not held, in words; empty where all is well.
        counts: {one of `COUNTED`, or why a call failed: how often}.
        digest: of all that has been sent and told, in hex.
    """

    def __init__(self):
        self.broken = []
        self.counts = OrderedDict((name, 0) for name in COUNTED)
        self.digest = ""


class _End(Terminal):
    """A terminal, and its flash and its power."""

    def __init__(self, pair, user, domain, number, setup, wants):
        self.up_at = 0
        self.register_at = 0
        self.failures = 0  # to register, in a row
        self.by = None  # how it knows the other side in its call
        self.is_over = False  # whether it has told that the last key's uses, or its life, are over
        super().__init__(pair, user, domain, number, setup)
        self.config.setup["peers"] = [wants] if wants else []
        self.trunk_at = 0  # when its neighbour is there again

    def start(self):
        """Begin with nothing but what is in the flash: it has yet to register, and to hear what day it is."""
        super().start()
        self.link.is_open = False
        self.agent._clients = OrderedDict()  # so that all that is due at once is done in one order on every Python
        self.agent._servers = OrderedDict()
        self.calendar = Calendar()
        self.media = WitnessedMedia(self)
        contact = b"sip:%s@%s:5060" % (self.user.encode(), self.address)
        self.phone = Phone(self.config, self.agent, contact, self.address, self.media, self.calendar)
        self.agent.phone = self.phone

    @property
    def is_on(self):
        return self.pair.now >= self.up_at

    @property
    def call_id(self):
        """Of its call."""
        phone = self.phone
        made = phone.dialog or phone.outset
        return made and made.call_id

    def do(self, function, *arguments):
        pair = self.pair
        try:
            return super().do(function, *arguments)
        except PowerCut:
            pair.count("power cuts in a writing")
            pair.restart(self)
        except Exception as error:
            pair.complain("escaped: %s %s" % (type(error).__name__, error))
            if pair.verbose:
                raise
            pair.restart(self)
        return None

    def _print(self, line):
        if self.is_on:
            super()._print(line)
            self.pair.told_of(self, self.told.pop())


class _Neighbour:
    """What one neighbour holds for its terminal, and how it hands that on."""

    def __init__(self, end):
        self.end = end
        self.held = []  # (from when, until when, Introduction)
        self.clients = []  # (transaction, the key in it): under way
        self.again_at = None
        self._failures = 0  # in a row

    @property
    def timer_at(self):
        """The next deadline, or None."""
        ats = [one.timer_at for one, _ in self.clients]
        if self.held and self.again_at is not None:
            ats.append(self.again_at)
        return min(ats) if ats else None

    def deliver(self):
        """Give the terminal what is held for it, unless that is under way."""
        end, pair = self.end, self.end.pair
        self.held = [one for one in self.held if one[1] > pair.now]
        due = [one for one in self.held if one[0] <= pair.now]
        self.again_at = pair.now + (60000 << min(self._failures, 6))
        if not due or self.clients or not end.link.is_open:
            return
        request = Request("MESSAGE", b"sip:" + end.address)
        token = b"%d" % pair.random.below(0x1000000)
        request.add("Via", b"SIP/2.0/UDP own.%s;branch=z9hG4bKown%s" % (end.domain.encode(), token))
        request.add("Max-Forwards", b"70")
        request.add("From", b"<sip:%s>;tag=n" % end.domain.encode())
        request.add("To", b"<%s>" % end.aor)
        request.add("Call-ID", b"keys" + token)
        request.add("CSeq", b"1 MESSAGE")
        key = due[0][2]
        line = Introduction(key.aor, key.key, 1 + (due[0][1] - pair.now) // 1000, key.uses)
        request.set_body(SETUP_KEYS, write_keys([line]))
        self.clients.append((NonInviteClient(request, False, pair.now), key))
        self._flush()

    def _flush(self):
        pair = self.end.pair
        for entry in self.clients[:]:
            client, key = entry
            for data in client.take_outgoing():
                pair.put(self.end, "down", data)
            for event in client.take_events():
                if event == TIMEOUT or event.status >= 200:
                    self.clients.remove(entry)
                    self._failures += 1
                    if event != TIMEOUT and event.status == 200:
                        self._failures = 0
                        pair.count("introductions delivered")
                        self.held = [one for one in self.held if one[2] is not key]

    def receive(self, response):
        """Take a response of the terminal's; returns whether it is to a request from here."""
        for client, _ in self.clients:
            if client.key == client_key(response):
                client.receive(response, self.end.pair.now)
                self._flush()
                return True
        return response.via.branch.startswith(b"z9hG4bKown")

    def handle_timer(self, now):
        """Do what is due."""
        for client, _ in self.clients[:]:
            if client.timer_at is not None and client.timer_at <= now:
                client.handle_timer(now)
                self._flush()
        if self.again_at is not None and self.again_at <= now:
            self.deliver()


class Surroundings(Pair):
    """The two ends, the neighbours and the network between them.

    Args:
        seed: of all that is random.
        verbose: whether to print what happens.

    Attributes:
        now: milliseconds.
        random: what happens comes of it.
        result: the `Result` so far.
    """

    def __init__(self, seed, verbose=False):
        self.now = 5000
        self.says = HEAVY
        self.verbose = verbose
        self.result = Result()
        self.random = random = Random(seed, b"model")
        self._secret = Random(seed, b"secret")  # of what the terminals draw
        self.digest = sha256()
        self._queue = []  # (when, serial, where, end, data)
        self._serial = 0
        self.nets = {}
        self._passed = []  # (end, data) of the last requests that came down, with keys of some kind
        self.heal_at = None
        self.refused = 0
        self._refused = {}
        self.flash = Flash(random.below(2) == 0)
        self.witness = Witness(self.complain, self.count)
        self._undo = []

    # The stage.

    def begin(self):
        """Put everything in place; `close` takes it away again."""
        self._undo.append(keep_loaded(_LOADED))
        self._draw = self._secret.bytes
        for module in self._drawing():
            self._swap(module, "urandom", self._draw)
        self._swap(keystore, "os", self.flash)
        self._swap(keystore, "open", self.flash.open)
        self._swap(trust, "os", self.flash)
        self.witness.begin()
        random = self.random
        ends = []
        for user, domain, number, other in (
            ("alice", "a.example", 7, b"sip:bob@b.example"),
            ("bob", "b.example", 9, b"sip:alice@a.example"),
        ):
            setup = {"life_s": random.choice((600, 3600, 86400, 2592000)), "uses": random.choice((1, 3, 10, 50))}
            ends.append(_End(self, user, domain, number, setup, other if random.hits(30) else None))
        self.ends = tuple(ends)
        self.alice, self.bob = ends
        self.neighbours = {end.user: _Neighbour(end) for end in ends}
        self.change_network()

    @staticmethod
    def _drawing():
        """The modules of the terminal that draw random bytes."""
        found = [module for name, module in sys.modules.items() if name.startswith("terminal.")]
        return [module for module in found if hasattr(module, "urandom")]

    def _swap(self, module, name, value):
        before = getattr(module, name, None)

        def undo():
            if before is None:
                delattr(module, name)
            else:
                setattr(module, name, before)

        self._undo.append(undo)
        setattr(module, name, value)

    def close(self):
        if [module for module in self._drawing() if module.urandom is not self._draw]:
            self.complain("not all comes of the seed: add what was loaded meanwhile to _LOADED")
        self.witness.end()
        while self._undo:
            self._undo.pop()()

    def complain(self, what):
        self.say("BROKEN", what)
        self.result.broken.append(what)

    def count(self, what):
        counts = self.result.counts
        counts[what] = counts.get(what, 0) + 1

    def say(self, *words):
        if self.verbose:
            print("%10d" % self.now, *words)

    def told_of(self, end, event):
        """A terminal has told something."""
        name = event["event"]
        self.digest.update(b"%d %s %s\n" % (self.now, end.user.encode(), name.encode()))
        self.say(end.user, event)
        if name == "calling":
            self.count("calls")
        elif name == "connected":
            if end.phone.outset:
                self.count("connected by setup key" if event["by"] == "setup-key" else "connected by neighbours")
            end.by = event.get("by")
        elif name == "failed" and not event.get("command"):
            self.count("failed")
            self.count("failed: %d" % event["status"])
        elif name == "ended" and event["reason"] == "cancelled":
            self.count("cancelled")
        elif name == "forgotten":
            end.is_over = event.get("by") == "end"

    # The network.

    def change_network(self, is_good=False):
        """Each direction of each hop is as it is from now on."""
        usual = self.random.choice(_NETWORKS[:-1])
        for end in self.ends:
            for way in ("up", "down"):
                net = self.random.choice(_NETWORKS) if self.random.hits(30) else usual
                self.nets[end.user, way] = _NETWORKS[0] if is_good else net
        self.heal_at = None

    def put(self, end, way, data):
        """Send a datagram over a hop: ``up`` to its neighbour, or ``down``; how often and when it arrives is chance."""
        loss, again, delay_ms = self.nets[end.user, way]
        if way == "down" and (data[:4] == b"MESS" or (data[:4] != b"SIP/" and b"\r\nSetup-Key:" in data)):
            self._passed = self._passed[1 - _MAX_PASSED :] + [(end, data)]
        self.digest.update(data)
        self.count("sent")
        copies = 1
        if self.heal_at is not None and self.now >= self.heal_at:
            delay_ms = 5
        elif self.random.hits(loss):
            self.count("lost")
            copies = 0
        elif self.random.hits(again):
            self.count("repeated")
            copies = 2
        for _ in range(copies):
            self._put(5 + self.random.below(delay_ms + 1), way, end, data)

    def replay(self):
        """A request that has come down once comes again, however long ago."""
        if self._passed:
            self.count("replayed")
            self._put(5, "down", *self.random.choice(self._passed))

    def _put(self, delay_ms, where, end, data):
        self._serial += 1
        self._queue.append((self.now + delay_ms, self._serial, where, end, data))

    def send(self):
        """What the terminals have sent is under way."""
        for end in self.ends:
            sent, end.agent.outgoing = end.agent.outgoing, []
            for data in sent:
                if data and end.is_on:
                    self.put(end, "up", data)

    def _arrive(self, where, end, data):
        if where == "down":
            if end.is_on:
                end.do(end.receive, data)
        elif self.now < end.trunk_at:
            self.count("lost")
        elif where == "up":
            self._pass(end, parse(data))
        else:
            self._look(end, parse(data))
            self.put(end, "down", data)

    def _pass(self, end, message):
        """What a neighbour does with a message of its terminal's."""
        if isinstance(message, Request):
            self._look(end, message)
        elif self.neighbours[end.user].receive(message):
            return
        elif message.cseq.method == "INVITE" and message.status >= 300:
            self._refuses(message)
        self.say(
            end.user,
            ">",
            message.method if isinstance(message, Request) else message.status,
            message.get("cseq").decode(),
        )
        self._put(_TRUNK_MS, "trunk", self.other(end), self._route(end, message).serialize())

    def _refuses(self, message):
        """An INVITE is refused, perhaps for its key: once for all repetitions."""
        name = message.call_id, message.cseq.number
        if message.status in (403, 428) and name not in self._refused:
            self._refused[name] = True
            self.refused += 1
            self.count("refused %d" % message.status)
            if message.status == 403:
                self.count("403: " + message.get("warning").decode())

    def _look(self, end, message):
        """A neighbour on the way sees trust being taken back, and drops what it holds (WIRE section 4.4)."""
        value = message.get("setup-key") if isinstance(message, Request) and message.method == "MESSAGE" else None
        if value is not None and SetupKey.parse(value).life == 0:
            self.neighbours[end.user].held = []

    def refresh(self, end):
        """The registration is refreshed, if that gets through: WIRE section 1.1, and 4.3."""
        losses = [self.nets[end.user, way][0] for way in ("up", "down")]
        is_healed = self.heal_at is not None and self.now >= self.heal_at
        if self.now < end.trunk_at or (not is_healed and any([self.random.hits(loss) for loss in losses])):
            end.failures = min(end.failures + 1, 7)
            end.register_at = self.now + (5000 << end.failures)
            return
        end.failures = 0
        end.register_at = self.now + 1000 * (1200 + self.random.below(1200))
        end.link.is_open = True
        end.calendar.set(DATE_S + end.skew_s + self.now // 1000, self.now)
        if end.config.setup["peers"]:
            wanted = introductions.wanted(end.config, end.calendar.seconds(self.now))
            for one in read_peers([wanted]) if wanted else []:
                self.introduce(end, one.life, one.uses)
        self.neighbours[end.user].deliver()

    def introduce(self, end, life_s, uses):
        """The neighbours make a key for the two: at one end later, where the trunk is broken just now."""
        other = self.other(end)
        own, others = self.neighbours[end.user], self.neighbours[other.user]
        if own.held or others.held:
            return  # one at a time
        self.count("introductions")
        self.say("introduction wanted by", end.user)
        key = self.random.bytes(KEY_BYTES)
        later_ms = self.random.choice((0, 0, 5000, 600000, _HOUR_MS))
        ends_at = self.now + 1000 * life_s
        own.held.append((self.now + later_ms, ends_at, Introduction(other.aor, key, life_s, uses)))
        others.held.append((self.now, ends_at, Introduction(end.aor, key, life_s, uses)))
        for one in (own, others):
            one.deliver()

    # Time.

    def advance(self, ms, until=None):
        """Let time pass, or until something is so; returns whether it is.

        Args:
            ms: milliseconds.
            until: a function that says so, or None.
        """
        end_at = self.now + ms
        for _ in range(_MAX_EVENTS):
            self.send()
            self.check()
            if until and until():
                return True
            at = self._next()
            if at is None or at > end_at:
                self.now = max(self.now, end_at)
                return False
            self.now = max(self.now, at)
            self._step()
        self.complain("no end of deadlines")
        self.now = end_at
        return False

    def _next(self):
        ats = [one[0] for one in self._queue]
        for end in self.ends:
            ats.append(max(end.up_at, end.register_at))
            if end.is_on and end.timer_at is not None:
                ats.append(end.timer_at)
        ats += [one.timer_at for one in (self.neighbours["alice"], self.neighbours["bob"]) if one.timer_at is not None]
        return min(ats)

    def _step(self):
        """Do one thing that is due."""
        if self._queue:
            first = min(self._queue, key=_order)
            if first[0] <= self.now:
                self._queue.remove(first)
                self._arrive(*first[2:])
                return
        for end in self.ends:
            if end.is_on and end.timer_at is not None and end.timer_at <= self.now:
                end.do(end.handle_timer)
                return
            if end.is_on and end.register_at <= self.now:
                self.refresh(end)
                return
            neighbour = self.neighbours[end.user]
            if neighbour.timer_at is not None and neighbour.timer_at <= self.now:
                neighbour.handle_timer(self.now)
                return

    def restart(self, end):
        """The power of a terminal is gone, for a moment."""
        self.count("restarts")
        self.say(end.user, "restarts")
        self.flash.left.pop(end.folder, None)
        end.up_at = self.now + 1000 * (1 + self.random.below(15))
        end.register_at = end.up_at + 200
        end.start()

    def restart_neighbour(self, end):
        """What it holds is there afterwards; datagrams and transactions are not."""
        self.count("neighbours' restarts")
        self.say(end.user + "'s neighbour restarts")
        self.neighbours[end.user].clients = []
        end.trunk_at = self.now + 1000 * self.random.below(20)
        self._queue = [one for one in self._queue if one[3] is not end]

    def check(self):
        """See that all is as it has to be: called whenever something has happened."""
        raise NotImplementedError


def _order(one):
    return one[:2]
