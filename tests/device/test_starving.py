"""Memory runs out once, at each step of a terminal's work in turn: it loses a message or a call, and nothing more."""

import gc
import json
import unittest

from far import (
    PEER_CONTACT,
    Call,
    accept,
    answer,
    answer_to,
    early,
    invite,
    offer,
    options,
    request,
)
from scripted import keep_loaded
from whole import FakeWlan, Whole

from sipwire.dialog import Dialog
from sipwire.message import Message, Request
from sipwire.transaction import Transaction
from terminal import (
    accepting,
    answering,
    app,
    called,
    calling,
    changing,
    events,
    offering,
    phone,
    proof,
    reports,
    speech,
    stream,
    texting,
    useragent,
)
from terminal.link import Link


class Json:
    """Stands in for the module, whose functions can't be replaced."""

    dumps = json.dumps


class Gc:
    """Stands in for the module: to collect the garbage of hours that pass in no time is what would take the time."""

    @staticmethod
    def threshold(size):
        pass

    @staticmethod
    def collect():
        pass

    @staticmethod
    def mem_free():
        return gc.mem_free()

    @staticmethod
    def mem_alloc():
        return 1


class Nothing:
    """A list that stays empty."""

    def __len__(self):
        return 0

    def append(self, item):
        pass


# What memory is needed for. The far end is made of the same parts; those do not fail.
STEPS = [(Link, name) for name in ("propose", "prepare", "accept", "close", "seal", "open")]
STEPS += [(Message, name) for name in ("serialize", "compact", "set_body")]
STEPS += [(Request, "response"), (Dialog, "__init__"), (Dialog, "new_request"), (Dialog, "new_ack")]
STEPS += [(Transaction, "__init__"), (Transaction, "take_outgoing"), (Json, "dumps")]
STEPS += [(useragent.UserAgent, name) for name in ("request", "respond", "send")]
STEPS += [
    (phone.Phone, name)
    for name in ("handle_request", "handle_ack", "handle_cancel", "dial", "answer", "hang_up", "hold", "move")
]
STEPS += [(useragent, "parse"), (useragent, "token"), (called, "token"), (proof, "authenticate"), (phone, "cancel_for")]
STEPS += [(answering, "take_offer"), (accepting, "accept_answer")]
STEPS += [(offering, name) for name in ("make_offer", "write_answer")]
STEPS += [(texting, name) for name in ("send_text", "take_text", "take_digit", "outset")] + [(calling, "outset")]
STEPS += [(stream, "SrtpSender"), (stream, "SrtpReceiver"), (speech, "Codec"), (reports, "SrtcpSender")]
STEPS += [(calling, "dial"), (calling, "take"), (called, "ring"), (called, "answer")]
STEPS += [(changing, "reinvite"), (changing, "changed")]
STEPS += [(app, name) for name in ("UserAgent", "Media", "Phone", "Registration", "_socket", "_resolve")]

START_MS = 60000  # of a call; a failed registration has been made good by then
CALM_MS = START_MS + 280000  # by then whatever a fault in a call has left behind is over: it may ring until then


class Faulty(Whole):
    """A terminal for which memory runs out once, and the far end of its calls.

    Args:
        at: at which step, counted from `arm`.

    Attributes:
        left: steps until then.
        where: the name of the step that failed, or None.
        agent: the terminal's `UserAgent`.
        endless: keys of the transactions that it would have remembered for ever, when that was looked at.
    """

    def __init__(self, at, **changes):
        super().__init__(**changes)
        self.left = at
        self.where = None
        self.agent = None
        self.endless = None
        self.waits = self.board.shown = self.board.audio.heard = self.board.audio.spoken = Nothing()
        self._calm = 1  # while it is not 0 no step is counted
        self._real = []
        # What is unloaded now would come back without the steps in it.
        self._undo = keep_loaded(
            [accepting, answering, called, calling, changing, offering, proof, reports, speech, stream, texting]
        )
        events.json = Json
        app.gc = events.gc = Gc
        for owner, name in STEPS:
            real = getattr(owner, name)
            self._real.append((owner, name, real))
            setattr(owner, name, self._failing(name, real))
        self._call = self._invite = self._bye = self._remote = None
        self._plan = []  # what the far end has sent, the last one not answered yet
        self._kinds = [
            ("UPDATE", offer() + b"a=sendonly\r\n"),
            ("INFO", b"Signal=5"),
            ("INVITE", offer()),
            ("MESSAGE", b"Hello"),
            ("INVITE", b""),
            ("UPDATE", b""),
        ]
        self._finals = 0  # final responses to the far end's INVITE, ACKed

    def close(self):
        for owner, name, real in self._real:
            setattr(owner, name, real)
        self._undo()
        events.json = json
        app.gc = events.gc = gc
        super().close()

    def _failing(self, name, real):
        def step(*arguments, **keywords):
            if not self._calm:
                self.left -= 1
                if self.left == 0:
                    self.where = name
                    raise MemoryError("memory allocation failed, allocating 1 bytes")
            made = real(*arguments, **keywords)
            if name == "UserAgent":
                self.agent = made
            elif name == "_socket":
                made.sent = Nothing()
            return made

        return step

    def arm(self):
        self._calm -= 1

    def disarm(self):
        self._calm += 1

    def wait(self, ms):
        self._calm += 1
        super().wait(ms)
        self._calm -= 1

    def sent(self, datagram):
        self._calm += 1
        super().sent(datagram)
        self._calm -= 1

    # The far end; every half second it looks at what came, and does what is due as long as nothing comes.

    def found(self, kind, call_id):
        """The last message of a method, or status, of a call."""
        for one in reversed(self.messages):
            if one.call_id == call_id and (one.method if isinstance(one, Request) else one.status) == kind:
                return one
        return None

    def calls(self, leaves):
        """The far end calls, ACKs, and when it is to leave hangs up or cancels."""
        if not self._invite:
            self._invite = invite(call_id=b"starving")
        asked = self._invite
        call = Call(asked.call_id, asked.get("from"), asked.get("to"), asked.cseq.number, asked)
        answers = [one for one in self.messages if one.call_id == b"starving" and not isinstance(one, Request)]
        final = [one for one in answers if one.cseq.method == "INVITE" and one.status >= 200]
        if not answers and not leaves:
            self.deliver(asked)
        elif len(final) != self._finals:
            self._finals = len(final)
            call.remote = final[0].get("to")
            self.deliver(call.ack() if final[0].status == 200 else call.like_invite("ACK", call.remote))
        elif final and final[0].status == 200:
            call.remote = final[0].get("to")
            self._bye = self._bye or call.request("BYE")
            if leaves and not [one for one in answers if one.cseq.method == "BYE"]:
                self.deliver(self._bye)
        elif final:
            pass
        elif leaves and not [one for one in answers if one.cseq.method == "CANCEL" and one.status < 300]:
            self.deliver(call.like_invite("CANCEL"))

    def changes(self, leaves):
        """The far end calls, changes the call in every way, takes the terminal's changes, and hangs up in the end."""
        if not self._plan:
            self._invite = invite(call_id=b"starving")
            self._plan.append(self._invite)
        if self.messages and isinstance(self.messages[-1], Request) and self.messages[-1].method == "MESSAGE":
            self.deliver(answer(self.messages[-1], 200))
        current, asked = self._plan[-1], self._invite
        number, method = current.cseq.number, current.method
        sent = [one for one in self.messages if one.call_id == b"starving"]
        acked = [one.cseq.number for one in sent if isinstance(one, Request) and one.method == "ACK"]
        for one in sent:
            if isinstance(one, Request) and one.method == "INVITE" and one.cseq.number not in acked:
                self.deliver(accept(one))
                acked.append(one.cseq.number)
        answers = [one for one in sent if not isinstance(one, Request) and one.cseq.number == number]
        finals = [one for one in answers if one.status >= 200 and one.cseq.method == method]
        if method == "INVITE" and finals and len(finals) != self._finals:
            self._finals = len(finals)
            ok = finals[-1].status == 200
            body = b""
            if ok and not current.body:
                body = answer_to(finals[-1].body)[0]
            names = (b"starving", asked.get("from"), finals[-1].get("to"), number)
            self.deliver(request("ACK", *names, via=None if ok else current.via.branch, body=body))
        elif not finals and (method != "INVITE" or not answers):
            self.deliver(current)
        elif (finals and self._plan[0] is not current) or (finals and finals[-1].status == 200):
            self._finals = 0
            self._remote = self._remote or finals[-1].get("to")
            method, body = ("BYE", b"") if leaves or not self._kinds else self._kinds.pop(0)
            if current.method != "BYE" and (leaves or method != "BYE"):
                changed = request(method, b"starving", asked.get("from"), self._remote, number + 1)
                changed.add("Contact", PEER_CONTACT)
                if body:
                    kind = b"application/dtmf-relay" if method == "INFO" else b"text/plain"
                    changed.set_body(b"application/sdp" if body[:2] == b"v=" else kind, body)
                self._plan.append(changed)
                self.deliver(changed)

    def is_called(self, leaves):
        """The far end rings, answers until there is an ACK, and in the end hangs up."""
        asked = [one for one in self.messages if isinstance(one, Request) and one.method == "INVITE"]
        if not asked:
            return
        asked = asked[-1]
        if not self._call:
            self._call = accept(asked)
            self.deliver(early(asked, 180))
        elif not self.found("ACK", asked.call_id):
            self.deliver(answer(asked, 487) if self.found("CANCEL", asked.call_id) else self._call)
        elif leaves and not self.found("BYE", asked.call_id):
            to = self._call.get("to")
            self.deliver(Call(asked.call_id, to, asked.get("from"), 100).request("BYE"))


class StarvingTest(unittest.TestCase):
    def each(self, script, calm_ms, at=0, **changes):
        """Run the script with a failure at each step that it has, and look whether a call can be taken afterwards."""
        while True:
            at += 1
            world = Faulty(at, **changes)
            if changes:
                world.board.station = FakeWlan()
            try:
                shown = world.run(*script(world), *self.afterwards(world, calm_ms))
            finally:
                world.close()
            self.check(world, shown, "step %d, %s" % (at, world.where))
            if world.where is None:
                break
        self.assertGreater(at, 20)

    def afterwards(self, world, at):
        def look():
            remembered = list(world.agent._servers.values()) + [one[0] for one in world.agent._clients.values()]
            world.endless = [one.key for one in remembered if one.timer_at is None]
            world.deliver(options(call_id=b"afterwards"))

        def bye():
            ok = [one for one in world.messages if one.call_id == b"good" and not isinstance(one, Request)][-1]
            world.deliver(Call(b"good", ok.get("from"), ok.get("to"), 10).request("BYE"))

        def ack():
            ok = world.found(200, b"good")
            world.deliver(Call(b"good", ok.get("from"), ok.get("to"), 10).ack())

        return [
            (at, "status"),
            (at + 1, look),
            (at + 1000, lambda: world.deliver(invite(call_id=b"good"))),
            (at + 1100, "answer"),
            (at + 1200, ack),
            (at + 1300, bye),
        ]

    def check(self, world, shown, label):
        names = [one["event"] for one in shown]
        self.assertIn("status", names, label)
        at = names.index("status")
        state = shown[at]
        self.assertEqual((state["registration"], state["phone"]), ("registered", "idle"), label)
        self.assertEqual(world.endless, [], label)
        self.assertIsNotNone(world.found(200, b"afterwards"), label)
        self.assertEqual(names[at + 1 :], ["incoming", "connected", "ended"], label)
        if world.found(180, b"starving"):
            self.assertIn("incoming", names[:at], label)  # the caller hears it ring, and so does its user
        log = " ".join(world.board.audio.log)
        self.assertNotIn("start start", log, label)
        self.assertTrue(log.endswith("start stop"), label)

    def far(self, what, leave_ms=4000, end_ms=12000):
        """What the far end does every half second."""
        return [(START_MS + at, lambda at=at: what(at >= leave_ms)) for at in range(0, end_ms, 500)]

    def around(self, world, *parts):
        """What happens in order of time, memory running out while it does."""
        script = [(START_MS - 1, world.arm), (START_MS + 15000, world.disarm)]
        for part in parts:
            script += part
        return sorted(script, key=lambda one: one[0])

    def test_registering(self):
        def script(world):
            world.arm()
            return [(55000, world.disarm)]

        self.each(script, 60000, 1)  # all but its first event

    def test_refreshing(self):
        def script(world):
            return [(295000, world.arm), (500000, world.disarm)]  # a refresh comes in between, and keep-alives

        self.each(script, 560000)

    def test_call_from_outside(self):
        def script(world):
            typed = [(START_MS + at, "answer") for at in (750, 1750)]
            return self.around(world, typed, self.far(world.calls))

        self.each(script, CALM_MS)

    def test_call_declined(self):
        def script(world):
            typed = [(START_MS + at, "reject") for at in (750, 1750)]
            return self.around(world, typed, self.far(world.calls))

        self.each(script, CALM_MS)

    def test_call_cancelled(self):
        def script(world):
            return self.around(world, self.far(world.calls))

        self.each(script, CALM_MS)

    def test_own_call(self):
        def script(world):
            typed = [(START_MS + 100, "call bob"), (START_MS + 3100, "hangup"), (START_MS + 4100, "hangup")]
            return self.around(world, typed, self.far(world.is_called, 6000))

        self.each(script, CALM_MS)

    def test_changes_of_a_call(self):
        def script(world):
            typed = [(START_MS + at, "answer") for at in (750, 1250, 1750)]
            typed += [
                (START_MS + at, line) for at, line in ((2600, "hold"), (4100, "message bob Hi"), (5600, "resume"))
            ]
            return self.around(world, typed, self.far(world.changes, 8000, 14000))

        self.each(script, CALM_MS)

    def test_own_call_cancelled(self):
        def script(world):
            typed = [(START_MS + 100, "call bob"), (START_MS + 600, "hangup"), (START_MS + 1100, "hangup")]
            return self.around(world, typed, self.far(world.is_called, 6000))

        self.each(script, CALM_MS)

    def test_network_lost(self):
        def script(world):
            def lose():
                world.board.station.address = None

            happens = [(START_MS + 750, "answer"), (START_MS + 1250, "answer"), (START_MS + 3500, lose)]
            return self.around(world, happens, self.far(world.changes, 6000, 14000))

        self.each(script, CALM_MS, address="", wifi={"ssid": "home"})


if __name__ == "__main__":
    unittest.main()
