"""What a terminal's tests stand it into: a scripted neighbour, made of sipwire's other end, and a clock they turn.

Whatever the terminal sends passes through `World`, and what is always true is checked there, in every test: nothing but
a REGISTER that asks for an agreement goes out plain, every frame opens and has a well-formed message, and credentials
stand in step 3 of WIRE section 1.1 and nowhere else.
"""

import json
import sys
import unittest
from binascii import hexlify
from os import urandom

from far import CONTACT, Call, accept, answer, invite

from sipwire.agreement import hop_nonce, hop_spi, parse_mechanisms, server_offer
from sipwire.digest import SHA256, Challenge, ha1
from sipwire.digest_server import parse_credentials, serialize_challenge, verify
from sipwire.hop import FRAME_MARK, HopReceiver, HopSender, derive_keys, frame_spi
from sipwire.message import Request, parse
from sipwire.srtp import SUITES
from sipwire.streams import OFF, REQUIRED
from sipwire.transaction import T1_MS
from support import new_aes
from terminal import demand, events
from terminal.clock import Calendar
from terminal.config import make_config
from terminal.link import Link
from terminal.phone import Phone
from terminal.registration import Registration
from terminal.texting import send_text
from terminal.useragent import UserAgent

DOMAIN = b"a.example"
SECRET = ha1(b"alice", DOMAIN, b"0f1e2d3c4b5a69788796a5b4c3d2e1f0")
ADDRESS = b"192.0.2.7"
DATE = b"Sat, 21 Nov 2026 12:00:00 GMT"
DATE_S = 1795262400
KEEPALIVE_MS = 25000
EXPIRES_MS = 600000
RING_MS = 180000
LIFE_MS = 64 * T1_MS  # of a transaction, and of a 200 without ACK
STATISTICS = {"sent": 3}

_MAX_STEPS = 20000  # of a clock: more deadlines than any test has are a loop without end


def settings(**changes):
    """A configuration file's values."""
    values = {"user": "alice", "domain": "a.example", "ha1": SECRET.decode(), "neighbour": "192.0.2.1:5060"}
    values["ring"] = False  # so that what the audio does is a call's; `test_media` and `test_app` ring
    values.update(changes)
    return values


def keep_loaded(modules):
    """Let modules that are loaded on demand be these from now on, changed as they may be; returns what undoes it."""
    real = demand.unload
    demand.unload = lambda name: None
    for module in modules:
        sys.modules[module.__name__] = module

    def undo():
        demand.unload = real

    return undo


class Printed:
    """The events that the terminal prints, from now on until `close`.

    Attributes:
        lines: all of them, as printed.
    """

    def __init__(self):
        self.lines = []
        self._taken = 0
        events.print = self.lines.append

    def close(self):
        del events.print

    def take(self):
        """The events since the last call."""
        new = [json.loads(line) for line in self.lines[self._taken :]]
        self._taken = len(self.lines)
        return new


class FakeMedia:
    """Writes down what the phone wants of it.

    Attributes:
        log: "start", "change", "go" and "stop", in order.
        streams: what the last start was given.
        agreed: the first of them.
        talks: whether the microphone is to be heard.
        rings: whether the tone of a call that rings is to be heard.
        broken: an error that the next start raises.
        policy: the configuration's, by which no stream without SRTP ever starts where it is to be SRTP.
    """

    timer_at = None

    def __init__(self, policy=REQUIRED):
        self.policy = policy
        self.log = []
        self.agreed = None
        self.streams = []
        self.talks = False
        self.is_on = False
        self.statistics = None
        self.broken = None
        self.rings = False

    def start(self, streams, now, talks=True):
        for agreed in streams:
            numbers = agreed.address.split(b".")
            assert len(numbers) == 4, agreed.address
            assert max([int(number) for number in numbers]) < 256, agreed.address
            assert self.policy != (OFF if agreed.suite else REQUIRED), agreed.suite
            assert not agreed.suite or agreed.suite in SUITES
            assert bool(agreed.local_key) == bool(agreed.remote_key) == bool(agreed.suite)
            assert agreed.port
        if self.broken:
            error, self.broken = self.broken, None
            raise error
        self.rings = False
        self.log.append("change" if self.is_on else "start")
        self.is_on = True
        self.streams = streams
        self.agreed = streams[0]
        self.talks = talks and self.agreed.talks

    def go(self, now):
        assert self.is_on, "go before start"
        self.log.append("go")

    def ring(self, now):
        self.rings = True

    def quiet(self, now=None):
        self.rings = False
        if self.is_on:
            self.is_on = False
            self.statistics = STATISTICS
            self.log.append("stop")

    def stop(self):
        self.quiet()
        statistics, self.statistics = self.statistics, None
        return statistics


class FakeAudio:
    """A microphone that hears another sample in each frame, and a speaker that keeps what it is given.

    Attributes:
        broken: errors that are raised, by the name of the function.
    """

    def __init__(self):
        self.log = []
        self.heard = []
        self.spoken = []
        self.broken = {}

    def _try(self, name):
        if name in self.broken:
            raise self.broken[name]

    def start(self):
        self.log.append("start")
        self._try("start")

    def stop(self):
        self.log.append("stop")
        self._try("stop")

    def read(self, pcm):
        self._try("read")
        value = (len(self.spoken) * 400 + 4000) & 0x7FFF
        for i in range(0, len(pcm), 2):
            pcm[i] = value & 0xFF
            pcm[i + 1] = value >> 8
        self.spoken.append(bytes(pcm))

    def write(self, pcm):
        self._try("write")
        self.heard.append(bytes(pcm))


class Agreement:
    """The neighbour's end of one agreement: ``receiver`` opens what the terminal seals, ``sender`` seals for it."""

    def __init__(self, receiver, sender, credentials):
        self.receiver = receiver
        self.sender = sender
        self.credentials = credentials


class Sent:
    """Something the terminal has sent.

    Attributes:
        at: when.
        datagram: as sent.
        agreement: of the frame it came in, None where it came plain.
        message: None for a keep-alive.
    """

    def __init__(self, at, datagram, agreement, message):
        self.at = at
        self.datagram = datagram
        self.agreement = agreement
        self.message = message


class Neighbour:
    """The neighbour's end of the hop, for one terminal.

    Attributes:
        now: the clock.
        nonce, server: of the last challenge, the latter as a Security-Server value.
    """

    def __init__(self):
        self.now = 5000
        self._agreements = []
        self.nonce = self.server = b""

    def open(self, datagram):
        """What the terminal has sent, as `Sent`."""
        if datagram[0] != FRAME_MARK:
            message = parse(datagram)
            assert message.start_line()[:9] == b"REGISTER ", "plain: %r" % message.start_line()
            assert message.get("security-client"), "plain and no agreement asked for"
            self._check(message)
            return Sent(self.now, datagram, None, message)
        for agreement in self._agreements:
            if agreement.receiver.spi == frame_spi(datagram):
                data = agreement.receiver.open(datagram)
                message = parse(data) if data else None
                if message:
                    self._check(message)
                return Sent(self.now, datagram, agreement, message)
        raise AssertionError("a frame of no agreement")

    @staticmethod
    def _check(message):
        assert message.get("proxy-authorization") is None
        if message.get("authorization") is not None:
            assert message.start_line()[:9] == b"REGISTER "
            assert message.get("security-verify") is not None, "credentials beside step 3"

    def challenge(self, request, servers=None, challenges=None, **changes):
        """Step 2: a 401 to a REGISTER.

        Args:
            request: the REGISTER.
            servers: Security-Server values to send instead of a good one.
            challenges: WWW-Authenticate values to send instead of a good one.
            changes: attributes of the challenge to change.
        """
        self.nonce = hexlify(urandom(12))
        self.server = server_offer(0x80000000 | int.from_bytes(urandom(3), "big"))
        challenge = Challenge(DOMAIN, self.nonce, SHA256, (b"auth", b"auth-int"))
        for name, value in changes.items():
            setattr(challenge, name, value)
        response = request.response(401, "Unauthorized", b"nt")
        for value in [serialize_challenge(challenge)] if challenges is None else challenges:
            response.add("WWW-Authenticate", value)
        for value in [self.server] if servers is None else servers:
            response.add("Security-Server", value)
        return response

    def agree(self, request, secret=SECRET):
        """Check step 3 as a neighbour does that trusts nobody; returns the agreement made by it."""
        credentials = parse_credentials(request.get("authorization"))
        verify(credentials, secret, "REGISTER", request.body)
        assert (credentials.realm, credentials.nonce, credentials.uri) == (DOMAIN, self.nonce, request.uri)
        assert (credentials.qop, credentials.nc, credentials.algorithm) == (b"auth-int", b"00000001", SHA256)
        assert request.get_all("security-verify") == [self.server], "not byte for byte"
        [client] = request.get_all("security-client")
        [offer] = parse_mechanisms([client])
        out, back = derive_keys(secret, credentials.username, DOMAIN, hop_nonce(offer), self.nonce, client, self.server)
        spi = hop_spi(parse_mechanisms([self.server])[0])
        agreement = Agreement(HopReceiver(spi, out, new_aes), HopSender(hop_spi(offer), back, new_aes), credentials)
        self._agreements.insert(0, agreement)
        return agreement

    def granted(self, request, contact=None, expires=None):
        """A 200 to a REGISTER, granting what it asks for if nothing else is given."""
        asked = request.get("expires") if expires is None else expires
        response = request.response(200, "OK", b"nt")
        response.add("Contact", (b"<%s>" % CONTACT if contact is None else contact) + b";expires=" + asked)
        response.add("Expires", asked)
        response.add("Date", DATE)
        return response

    def welcome(self, request, agreement, **changes):
        """Step 4: a 200 with the neighbour's proof; for ``changes`` see `granted`."""
        response = self.granted(request, **changes)
        response.add("Authentication-Info", b'qop=auth-int, rspauth="%s"' % self.proof(agreement))
        return response

    @staticmethod
    def proof(agreement, secret=SECRET):
        """The right rspauth."""
        return agreement.credentials.compute(secret, "", b"")


class World(Neighbour):
    """A terminal's protocol parts, wired as `terminal.app` does, and the neighbour.

    Args:
        changes: of the configuration.

    Attributes:
        printed: a `Printed`.
        agreement: the neighbour's present one.
        tends: whether the neighbour answers keep-alives and refreshes by itself; such are not told by `take`.
    """

    def __init__(self, **changes):
        super().__init__()
        self.printed = Printed()
        self.config = make_config(settings(**changes))
        self.link = Link(new_aes)
        self.agent = UserAgent(self.link, ADDRESS + b":5060")
        self.media = FakeMedia(self.config.srtp)
        self.calendar = Calendar()
        self.phone = Phone(self.config, self.agent, CONTACT, ADDRESS, self.media, self.calendar)
        self.agent.phone = self.phone
        self.registration = Registration(self.config, self.agent, self.link, CONTACT, self.now, self.calendar)
        self.tends = False
        self.agreement = None
        self._sent = []

    def close(self):
        self.printed.close()

    # The clock.

    def advance(self, ms=0):
        """Let time pass, from deadline to deadline."""
        end = self.now + ms
        steps = 0
        while True:
            self._collect()
            due = [part.timer_at for part in self._parts() if part.timer_at is not None]
            if not due or min(due) > end:
                break
            steps += 1
            assert steps < _MAX_STEPS, "a timer that never ends"
            self.now = max(self.now, min(due))
            for part in self._parts():
                if part.timer_at is not None and part.timer_at <= self.now:
                    part.handle_timer(self.now)
        self.now = end

    def _parts(self):
        return (self.agent, self.registration, self.phone)

    # What the terminal sends.

    def take(self):
        """What the terminal has sent since the last call, as a list of `Sent`."""
        self._collect()
        sent = self._sent
        self._sent = []
        return sent

    def take_one(self, method=None):
        """The one message sent since the last call; there must be no other, and it has that method."""
        sent = self.take()
        assert len(sent) == 1, [one.message and one.message.start_line() for one in sent]
        message = sent[0].message
        assert method is None or (isinstance(message, Request) and message.method == method), message.start_line()
        return message

    def take_status(self):
        """The status of the one response sent since the last call."""
        return self.take_one().status

    def _collect(self):
        waiting = list(self.agent.outgoing)
        self.agent.outgoing.clear()
        for datagram in waiting:
            sent = self.open(datagram)
            if not (self.tends and self._tend(sent)):
                self._sent.append(sent)

    def _tend(self, sent):
        if sent.message is None:
            self.deliver(b"", sent.agreement)
            return True
        if isinstance(sent.message, Request) and sent.message.method == "REGISTER" and sent.agreement:
            self.deliver(self.granted(sent.message), sent.agreement)
            return True
        return False

    # What the neighbour sends.

    def receive(self, datagram):
        """Let the terminal receive a datagram; returns whether it was a sign of life of the neighbour."""
        opened = self.agent.open(datagram, self.now)
        return opened is not None and self.agent.take(self.agent.read(opened), self.now)

    def deliver(self, message, agreement=None):
        """Send the terminal a message in a frame, of the present agreement if no other is given."""
        agreement = agreement or self.agreement
        data = message if isinstance(message, bytes) else message.serialize()
        heard = self.receive(agreement.sender.seal(data))
        if heard:
            self.registration.heard()
        return heard

    def deliver_plain(self, message):
        """Send the terminal a message without a frame."""
        data = message if isinstance(message, bytes) else message.serialize()
        return self.receive(data)

    # Registering.

    def ask(self):
        """Wait until the terminal sends step 1, if it has not yet; returns it."""
        if self.registration.state == "waiting":
            self.advance(max(0, self.registration.timer_at - self.now))
        return self.take_one("REGISTER")

    def prove(self):
        """Go on to step 3; returns it and the agreement that it makes."""
        self.deliver_plain(self.challenge(self.ask()))
        request = self.take_one("REGISTER")
        return request, self.agree(request)

    def register(self):
        """Register as WIRE section 1.1 says; from then on the neighbour tends the hop."""
        request, agreement = self.prove()
        self.deliver(self.welcome(request, agreement), agreement)
        self.agreement = agreement
        assert self.registration.state == "registered"
        assert self.printed.take()[-1]["event"] == "registered"
        assert self.take() == []
        self.tends = True
        return agreement

    # Calls.

    def dial(self, target="sip:bob@b.example"):
        """Call the far end; returns the INVITE."""
        self.phone.dial(target, self.now)
        assert self.printed.take() == [{"event": "calling", "peer": self.phone.peer.decode()}]
        return self.take_one("INVITE")

    def talk(self):
        """A call from the terminal that stands; returns its INVITE and the `Call`."""
        invite = self.dial()
        self.deliver(accept(invite))
        self.take_one("ACK")
        assert self.printed.take()[-1]["event"] == "connected"
        return invite, Call(invite.call_id, invite.get("to") + b";tag=t1", invite.get("from"), 100)

    def write(self, text="Hello Bob", uri=b"sip:bob@b.example"):
        """Send a text from the terminal."""
        send_text(self.config, self.agent, uri, text, self.now)

    def ring(self, **changes):
        """A call to the terminal that rings; returns the INVITE's `Call`. For ``changes`` see `invite`."""
        request = invite(**changes)
        self.deliver(request)
        ringing = self.take_one()
        assert ringing.status == 180, ringing.start_line()
        assert self.printed.take()[-1]["event"] == "incoming"
        return Call(request.call_id, request.get("from"), ringing.get("to"), request.cseq.number, request)

    def talk_as_callee(self, **changes):
        """A call to the terminal that stands; returns its `Call`. For ``changes`` see `invite`."""
        call = self.ring(**changes)
        self.phone.answer(self.now)
        assert self.take_status() == 200
        self.deliver(call.ack())
        assert self.printed.take()[-1]["event"] == "connected"
        return call


class UnregisteredCase(unittest.TestCase):
    """A test of a terminal that has just been switched on."""

    def setUp(self):
        self.world = World()
        self.phone = self.world.phone

    def tearDown(self):
        self.world.close()

    @property
    def registration(self):
        return self.world.registration

    def start_anew(self, **changes):
        """Another terminal, just switched on, with these changes of its configuration; returns its world."""
        self.world.close()
        self.world = World(**changes)
        self.phone = self.world.phone
        return self.world

    def assertRefused(self, reason=None):
        """Not registered, nothing sent, and an event says so; returns the back-off in ms."""
        world = self.world
        self.assertEqual(world.take(), [])
        self.assertEqual(self.registration.state, "waiting")
        self.assertFalse(world.link.is_open)
        [event] = world.printed.take()
        self.assertEqual(event["event"], "unregistered")
        if reason is not None:
            self.assertEqual(event["reason"], reason)
        self.assertEqual(self.registration.timer_at, world.now + event["retry_ms"])
        return event["retry_ms"]


class WorldCase(UnregisteredCase):
    """A test of a terminal that is registered."""

    def setUp(self):
        super().setUp()
        self.world.register()

    def reach(self, state):
        """Bring an idle phone into a state; returns a message of the far end that ends the call there."""
        world = self.world
        if state in ("ringing", "answered"):
            call = world.ring(call_id=b"first")
            if state == "answered":
                self.phone.answer(world.now)
                world.take()
            return call.request("BYE")
        if state == "talking":
            return world.talk()[1].request("BYE")
        sent = world.dial()
        world.deliver(answer(sent, 180))
        if state == "cancelling":
            self.phone.hang_up(world.now)
            world.take()
        world.printed.take()
        return answer(sent, 487)

    def forget(self):
        """Let every transaction end."""
        self.world.advance(LIFE_MS + 8000)
        self.world.take()
        self.world.printed.take()

    def assertEvents(self, *expected):
        """The events since the last look, each (name, fields that must be as given)."""
        shown = self.world.printed.take()
        self.assertEqual([event["event"] for event in shown], [name for name, _ in expected])
        for event, (_, fields) in zip(shown, expected):
            for name, value in fields.items():
                self.assertEqual(event.get(name), value)

    def assertIdle(self):
        self.assertEqual(self.phone.state, "idle")
        self.assertFalse(self.world.media.is_on)
        self.assertIsNone(self.phone.timer_at)

    def assertSent(self, *expected):
        """What was sent since the last look, as methods of requests and (status, method) of responses."""
        shown = [one.message for one in self.world.take()]
        self.assertEqual(
            [one.method if isinstance(one, Request) else (one.status, one.cseq.method) for one in shown],
            list(expected),
        )
        return shown

    def assertUsable(self):
        """A call can be made now."""
        self.assertIdle()
        self.world.talk()
        self.phone.hang_up(self.world.now)
        self.world.take_one("BYE")
