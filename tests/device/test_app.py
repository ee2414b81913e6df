import errno
import json
import os
import sys
import unittest

from far import Call, FarMedia, accept, answer, answer_to, invite, options, request
from scripted import keep_loaded, settings
from whole import FakeWlan, WholeCase

from sipwire import __version__
from sipwire.message import Request
from sipwire.sdp import Session
from terminal import app, demand, settling

FAR = ("198.51.100.9", 30000)  # where the far end wants its speech


def ack_to(world):
    """The ACK to the terminal's last 200 to an INVITE."""
    ok = [one for one in world.messages if not isinstance(one, Request) and one.body][-1]
    return request("ACK", ok.call_id, ok.get("from"), ok.get("to"), ok.cseq.number)


def bye_to(world):
    """The far end's BYE after it called."""
    ack = ack_to(world)
    return Call(ack.call_id, ack.get("from"), ack.get("to"), ack.cseq.number).request("BYE")


def gaps(times):
    """What lies between each time and the next."""
    return [times[i + 1] - times[i] for i in range(len(times) - 1)]


def refuse(world, is_too_much):
    """From now on there is no memory to receive so many bytes of a SIP datagram."""
    sip = world.sip
    real = sip.recv

    def recv(size):
        if is_too_much(size):
            raise MemoryError("as told")
        return real(size)

    sip.recv = recv


class LifeTest(WholeCase):
    def test_registers_and_quits(self):
        world = self.world
        events = world.run()
        self.assertEqual(self.names(events), ["started", "registered"])
        self.assertEqual(events[0]["aor"], "sip:alice@a.example")
        self.assertGreater(events[0]["heap_used"], 1000)
        self.assertEqual(world.registers, 3)  # two to register, one to take it back
        self.assertTrue(1500 <= world.now <= 2500)  # half a second for the last REGISTER, and a round of the loop

    def test_configuration(self):
        changes = {"sip_port": 5070, "rtp_port": 40010, "neighbour": "proxy.a.example:5062"}
        world = self.make(board={"led": 3}, wifi={"ssid": "x"}, **changes)
        world.run()
        self.assertEqual((world.board_settings, world.board.settings), ({"led": 3}, {"ssid": "x", "password": ""}))
        sip, rtp, rtcp = world.sockets
        # Connected: whatever does not come from the neighbour stays out.
        self.assertEqual((sip.bound, sip.connected), (("192.0.2.7", 5070), ("proxy.a.example", 5062)))
        self.assertEqual((rtp.bound, rtp.connected), (("192.0.2.7", 40010), None))
        self.assertEqual((rtcp.bound, rtcp.connected), (("192.0.2.7", 40011), None))
        self.assertFalse(sip.blocking or rtp.blocking or rtcp.blocking)

    def test_stays_registered(self):
        """Twenty minutes: keep-alives answered, refreshes granted, nothing to tell, and most of the time asleep."""
        world = self.world
        events = world.run((1200000, "status"))
        self.assertEqual(self.names(events), ["started", "registered", "status"])
        self.assertTrue(2 + 2 + 1 <= world.registers <= 2 + 4 + 1)
        self.assertLess(len(world.waits), 1400)
        self.assertEqual((max(world.waits), min(world.waits) >= 0), (1000, True))

    def test_neighbour_falls_silent_and_comes_back(self):
        world = self.world
        events = world.run(
            (1000, lambda: setattr(world, "serves", False)),
            (200000, lambda: setattr(world, "serves", True)),
            (400000, "status"),
        )
        names = self.names(events)
        self.assertEqual(names[:3], ["started", "registered", "unregistered"])
        self.assertEqual(events[2]["reason"], "neighbour lost")
        self.assertEqual(names[-2:], ["registered", "status"])
        self.assertEqual(events[-1]["registration"], "registered")

    def test_socket_errors(self):
        """Nobody listens at the neighbour's port, as long as it restarts: the kernel says so, and timers go on."""
        world = self.world
        events = world.run(
            (1000, lambda: setattr(world.sip, "fails", True)),
            (1500, "call bob"),
            (1600, lambda: world.sip.inbox.append(OSError(errno.ECONNREFUSED))),
            (1700, lambda: world.rtp.inbox.append(OSError(errno.ECONNREFUSED))),
            (9000, lambda: setattr(world.sip, "fails", False)),
            (20000, "status"),
        )
        self.assertEqual(self.names(events)[:4], ["started", "registered", "calling", "status"])
        self.assertEqual(world.last("INVITE").uri, b"sip:bob@a.example")

    def test_junk(self):
        """Bad datagrams at both sockets are counted and harmless."""
        world = self.world

        def junk():
            for data in (b"x", b"\0" * 100, b"\xe1" + bytes(40), options().serialize(), b"INVITE", bytes(4000), b""):
                world.sip.inbox.append(data)
                world.rtp.inbox.append(data)

        events = world.run((1000, junk), (2000, "status"))
        self.assertEqual(self.names(events), ["started", "registered", "status"])
        self.assertEqual((events[2]["dropped"], events[2]["malformed"]), (1, 5))
        self.assertEqual(world.messages, [])

    def test_no_address(self):
        world = self.make(address="")
        with self.assertRaises(OSError):
            world.run()
        self.assertEqual(world.printed.take()[-1], {"event": "error", "reason": "network: no network address"})

    def test_call_before_it_is_registered(self):
        world = self.world
        world.serves = False
        events = world.run((1000, "call bob"))
        refused = [event for event in events if event["event"] == "refused"]
        self.assertEqual(refused, [{"event": "refused", "command": "call", "reason": "not registered"}])

    def test_out_of_memory(self):
        """What was being worked on is dropped, and the terminal goes on."""
        world = self.world
        events = world.run((1000, lambda: world.board.typed.append(MemoryError)), (2000, "status"), (3000, "call bob"))
        self.assertEqual(self.names(events)[:5], ["started", "registered", "starved", "status", "calling"])

    def test_out_of_memory_forgets_what_is_answered(self):
        """Only repetitions would want it."""
        world = self.world
        asked = [options(call_id=b"x"), options(call_id=b"y")]
        script = [(1000 + 100 * i, lambda i=i: world.deliver(asked[i % 2])) for i in range(6)]
        script.insert(4, (1350, lambda: world.board.typed.append(MemoryError)))
        events = world.run(*script)
        self.assertEqual(self.names(events), ["started", "registered", "starved"])
        tags = [one.to.tag for one in world.messages]
        self.assertEqual((tags[0] == tags[2], tags[1] == tags[3]), (True, True))
        self.assertEqual((tags[2] == tags[4], tags[3] == tags[5]), (False, True))  # y was the newest

    def test_no_room_for_a_command_forgets_what_is_answered(self):
        """Nor is anything starved by that."""
        world = self.world
        asked = [options(call_id=b"x"), options(call_id=b"y")]
        failures = []

        def load(name):
            if failures:
                raise failures.pop()
            __import__(name)

        script = [(1000 + 100 * i, lambda i=i: world.deliver(asked[i % 2])) for i in range(6)]
        script[4:4] = [(1350, lambda: failures.append(MemoryError("as told"))), (1351, "status")]
        demand.__import__ = load
        try:
            events = world.run(*script)
        finally:
            del demand.__import__
        self.assertEqual(self.names(events), ["started", "registered", "status"])
        tags = [one.to.tag for one in world.messages]
        self.assertEqual((tags[0] == tags[2], tags[1] == tags[3]), (True, True))
        self.assertEqual((tags[2] == tags[4], tags[3] == tags[5]), (False, True))

    def test_no_room_for_a_large_datagram(self):
        """Where there is not so much of it in one piece, what most messages need will do."""
        world = self.world
        asked = []

        def is_too_much(size):
            asked.append(size)
            return size > 1600

        def scarce():
            refuse(world, is_too_much)
            large = options(call_id=b"large")
            large.add("X", b"x" * 1500)
            world.deliver(large)
            world.deliver(options(call_id=b"small"))

        events = world.run((1000, scarce), (2000, "status"))
        self.assertEqual(self.names(events), ["started", "registered", "status"])
        self.assertEqual([one.call_id for one in world.messages], [b"small"])
        self.assertEqual(events[-1]["dropped"], 1)
        self.assertEqual(asked[:3], [4096, 2000, 1500])

    def test_room_for_a_datagram(self):
        """Where there is not even so much, what has been answered is forgotten for it."""
        world = self.world
        failures = []
        asked = [options(call_id=b"x"), options(call_id=b"y"), options(call_id=b"z")]
        events = world.run(
            (1000, lambda: refuse(world, lambda size: failures and failures.pop())),
            (1100, lambda: world.deliver(asked[0])),
            (1200, lambda: world.deliver(asked[1])),
            (1300, lambda: failures.extend([4096, 2000])),
            (1301, lambda: world.deliver(asked[2])),
            (1400, lambda: world.deliver(asked[0])),
        )
        self.assertEqual(self.names(events), ["started", "registered"])
        tags = [one.to.tag for one in world.messages]
        self.assertEqual((len(tags), tags[0] == tags[3]), (4, False))

    def test_no_room_for_a_datagram(self):
        """It is lost, and the rest goes on: its sender repeats what matters."""
        world = self.world
        script = [(1500 + 100 * i, lambda i=i: world.deliver(options(call_id=b"%d" % i))) for i in range(14)]
        scarce = (1400, lambda: refuse(world, lambda size: size > 100 and world.now < 3000))
        events = world.run(scarce, *script, (3000, lambda: world.deliver(options(call_id=b"last"))))
        self.assertEqual(self.names(events), ["started", "registered"] + 14 * ["starved"])
        self.assertEqual([one.call_id for one in world.messages], [b"last"])

    def test_what_is_needed_once_is_unloaded(self):
        """The configuration's code when it is read, and digest's when there is an agreement."""
        real = app.Terminal
        seen = []
        path = "/tmp/wisp-test-%d.json" % id(seen)
        values = settings(address="192.0.2.7")
        with open(path, "w") as file:
            file.write(json.dumps(values))

        class Terminal(real):
            def __init__(self, config):
                seen.append("terminal.config" in sys.modules)
                super().__init__(config)

        app.Terminal = Terminal
        world = self.world
        world.script = [(900, lambda: seen.append("terminal.proof" in sys.modules)), (1000, "quit")]
        try:
            self.assertTrue(app.run(path))
        finally:
            app.Terminal = real
            os.remove(path)
        self.assertEqual(seen, [False, False])
        self.assertEqual(self.names(world.printed.take()), ["started", "registered"])

    def test_out_of_memory_for_good(self):
        world = self.world

        def commands():
            raise MemoryError("as told")

        world.board.commands = commands
        with self.assertRaises(MemoryError):
            world.run()
        self.assertEqual(self.names(world.printed.take()).count("starved"), 10)

    def test_watchdog(self):
        """Fed in each round, which no wait of the loop is longer than; and off when the program ends, however it does."""
        for changes, seconds in (({}, 60), ({"watchdog_s": 0}, 0), ({"watchdog_s": 5}, 5)):
            world = self.make(**changes)
            world.run((100000, "status"))
            self.assertEqual(world.board.watched, [seconds])
            fed = world.board.fed
            if seconds:
                self.assertGreater(len(fed), 100)
                self.assertLessEqual(max(gaps(fed)), 1000)
            else:
                self.assertEqual(fed, [])

    def start(self, broken=None):
        """What ``app.run`` comes to, with this error raised by what the board's commands are asked for."""
        world = self.world
        real = app.call
        app.call = lambda name, function, *args: (
            world.config if name == "terminal.config" else real(name, function, *args)
        )

        def commands():
            raise broken

        if broken:
            world.board.commands = commands
        world.script = [(1000, "quit")]
        try:
            return app.run("any.json")
        finally:
            app.call = real

    def test_watchdog_ends_with_the_program(self):
        self.assertTrue(self.start())
        self.assertEqual(self.world.board.watched, [60, 0])
        for error in (ValueError("told"), KeyboardInterrupt()):
            world = self.make()
            with self.assertRaises(type(error)):
                self.start(error)
            self.assertEqual(world.board.watched, [60, 0])

    def test_settled(self):
        """After five minutes crashes before are forgotten, once; where there were none nothing is written."""
        removed = []

        class Files:
            @staticmethod
            def remove(path):
                removed.append((path, self.world.now))
                raise OSError(errno.ENOENT)

        undo = keep_loaded([settling])
        settling.os = Files
        try:
            self.world.run((299000, lambda: self.assertEqual(removed, [])), (900000, "status"))
        finally:
            settling.os = os
            undo()
        [(path, when)] = removed
        self.assertEqual(path, "wisp.crash")
        self.assertTrue(300000 <= when <= 301000)

    def test_main(self):
        asked = []
        real = app.run, list(app.sys.argv)
        app.run = lambda path: asked.append(path) or True
        try:
            for argv in (["terminal", "other.json"], ["terminal"]):
                app.sys.argv[:] = argv
                app.main()
            app.run = lambda path: False
            self.assertRaises(SystemExit, app.main)
        finally:
            app.run, app.sys.argv[:] = real
        self.assertEqual(asked, ["other.json", "wisp.json"])


class CommandTest(WholeCase):
    def test_refused(self):
        """What is no command, and what is none now; an empty line is nothing at all."""
        lines = ("dance", "call", "call a b", "CALL bob", "answer?", "answer", "reject", "hangup", "call b@@")
        lines += ("hold", "resume", "message", "message bob", "message b@@ x")
        world = self.world
        events = world.run((400, ""), (410, "   "), *[(500 + i, line) for i, line in enumerate(lines)])
        self.assertEqual(self.names(events), ["started", "registered"] + ["refused"] * len(lines))
        self.assertEqual([event["command"] for event in events[2:]], [line.split()[0] for line in lines])
        self.assertEqual(world.messages, [])

    def test_messages(self):
        """Out: what follows the second word, blanks and all. In: an event."""
        world = self.world

        def arrives():
            sent = world.last("MESSAGE")
            self.assertEqual((sent.uri, sent.body), (b"sip:bob@a.example", "Hé,  two  blanks".encode()))
            world.deliver(answer(sent, 202))
            asked = options(method="MESSAGE")
            asked.set_body(b"text/plain", b"thanks")
            world.deliver(asked)

        events = world.run((500, "message bob   Hé,  two  blanks"), (600, arrives))
        self.assertEqual(self.names(events)[2:], ["sent", "message"])
        self.assertEqual((events[2]["peer"], events[3]["text"]), ("sip:bob@a.example", "thanks"))

    def test_message_before_it_is_registered(self):
        world = self.world
        world.serves = False
        events = world.run((1000, "message bob Hello"))
        refused = [event for event in events if event["event"] == "refused"]
        self.assertEqual(refused, [{"event": "refused", "command": "message", "reason": "not registered"}])

    def test_status(self):
        events = self.world.run((500, "status"), (600, "call bob"), (700, "status"))
        first, second = [event for event in events if event["event"] == "status"]
        self.assertEqual((first["registration"], first["phone"]), ("registered", "idle"))
        self.assertNotIn("peer", first)
        self.assertEqual((second["phone"], second["peer"]), ("calling", "sip:bob@a.example"))
        self.assertEqual((first["dropped"], first["malformed"]), (0, 0))
        self.assertTrue(0 < first["heap_used"] <= first["heap_peak"])
        for event in (first, second):
            self.assertEqual(event["version"], __version__)
            self.assertEqual(event["firmware"].split(".")[0], "1")
            self.assertEqual(event["board"], sys.implementation._machine)
            self.assertGreater(event["heap_free"], 1000)
            for name in ("wifi", "media", "suite", "talked_ms"):
                self.assertNotIn(name, event)

    def test_status_tells_how_long_it_runs(self):
        events = self.world.run((500, "status"), (75500, "status"))
        self.assertEqual([event["up_s"] for event in events if event["event"] == "status"], [0, 75])

    def test_button(self):
        """It answers what rings, hangs up what is on, and calls the speed dial otherwise."""
        world = self.make(speed_dial="carol@c.example")
        events = world.run(
            (500, "button"),
            (600, "button"),  # cancels
            (700, lambda: world.deliver(answer(world.last("INVITE"), 180))),
            (800, lambda: world.deliver(answer(world.last("INVITE"), 487))),
            (900, lambda: world.deliver(invite())),
            (1000, "button"),
            (1100, lambda: world.deliver(ack_to(world))),
            (1200, "button"),
        )
        self.assertEqual(self.names(events)[2:], ["calling", "ended", "incoming", "connected", "ended"])
        self.assertEqual(events[2]["peer"], "sip:carol@c.example")
        self.assertEqual([event["reason"] for event in events if "reason" in event], ["cancelled", "hung up"])

    def test_button_without_speed_dial(self):
        self.assertEqual(self.names(self.world.run((500, "button"))), ["started", "registered"])

    def test_quit_in_a_call(self):
        world = self.world
        events = world.run(
            (500, lambda: world.deliver(invite())), (600, "answer"), (700, lambda: world.deliver(ack_to(world)))
        )
        self.assertEqual(events[-1]["event"], "ended")
        self.assertEqual(world.last("BYE").call_id, b"in-1")
        self.assertEqual(world.board.audio.log, ["start", "stop"])
        shown = world.board.shown
        for state in ("idle", "ringing", "answered", "talking"):
            self.assertIn(state, shown)
        # A lamp that blinks, and a button, are looked at twenty times a second while there is a call.
        at = shown.index("ringing")
        self.assertLessEqual(max(world.waits[at + 1 : at + 3]), 50)

    def test_quit_while_it_rings(self):
        world = self.world
        world.run((500, lambda: world.deliver(invite())))
        self.assertEqual(world.last(603).call_id, b"in-1")


class CallTest(WholeCase):
    def talk(self, world, seconds):
        """Script of a call from the terminal in which both sides speak; the far end's media is in ``self.far``."""

        def answered():
            sent = world.last("INVITE")
            self.far = FarMedia(Session.parse(sent.body).media[0].cryptos()[0].keys[0].key_salt)
            world.deliver(accept(sent))

        def speak():
            world.rtp.inbox.append(self.far.packet(b"\x42" * 160))

        script = [(500, "call bob@b.example"), (1000, answered)]
        return script + [(1020 + 20 * i, speak) for i in range(50 * seconds)]

    def test_speech_both_ways(self):
        world = self.world
        script = self.talk(world, 2)
        events = world.run(*script, (script[-1][0] + 100, "hangup"))
        self.assertEqual(self.names(events), ["started", "registered", "calling", "connected", "ended"])
        media = events[-1]["media"]
        self.assertEqual((media["received"], media["rejected"], media["lost"], media["late"]), (100, 0, 0, 0))
        self.assertTrue(100 <= media["sent"] <= 106)
        self.assertEqual(len(world.rtp.sent), media["sent"])
        seqs = []
        for datagram, address in world.rtp.sent:
            self.assertEqual(address, FAR)
            seqs.append(self.far.open(datagram)[1])  # SRTP under the agreed key, all of it
        self.assertEqual(seqs, [seqs[0] + i & 0xFFFF for i in range(len(seqs))])
        audio = world.board.audio
        self.assertEqual(audio.log, ["start", "stop"])
        self.assertGreater(audio.heard.count(audio.heard[10]), 90)

    def test_call_from_outside(self):
        world = self.world
        events = world.run(
            (500, lambda: world.deliver(invite())),
            (1500, "answer"),
            (1600, lambda: world.deliver(ack_to(world))),
            (4600, lambda: world.deliver(bye_to(world))),
        )
        self.assertEqual(self.names(events), ["started", "registered", "incoming", "connected", "ended"])
        self.assertEqual(world.last(200).cseq.method, "BYE")
        [answered] = [one for one in world.messages if not isinstance(one, Request) and one.body]
        far = FarMedia(Session.parse(answered.body).media[0].cryptos()[0].keys[0].key_salt)
        for datagram, address in world.rtp.sent:
            self.assertEqual(address, FAR)
            far.open(datagram)
        self.assertTrue(149 <= len(world.rtp.sent) <= 151)
        self.assertEqual(events[-1]["media"]["sent"], len(world.rtp.sent))

    def test_hold(self):
        """Not a packet while it is on hold, and no new beginning afterwards."""
        world = self.world
        counts = []

        def answered():
            counts.append(len(world.rtp.sent))
            world.deliver(accept(world.last("INVITE")))

        script = self.talk(world, 5)
        script += [(2000, "hold"), (2100, answered), (3500, "resume"), (3501, answered)]
        script.sort(key=lambda one: one[0])
        events = world.run(*script, (script[-1][0] + 100, "hangup"))
        self.assertEqual(self.names(events)[3:], ["connected", "hold", "hold", "ended"])
        self.assertLess(counts[1] - counts[0], 3)
        seqs = [self.far.open(datagram)[1] for datagram, _ in world.rtp.sent]
        self.assertEqual(seqs, [seqs[0] + i & 0xFFFF for i in range(len(seqs))])
        media = events[-1]["media"]
        self.assertEqual((media["rejected"], media["lost"]), (0, 0))
        self.assertTrue(170 < media["sent"] < 185, media)

    def test_reject(self):
        world = self.world
        events = world.run((500, lambda: world.deliver(invite())), (600, "reject"))
        self.assertEqual(self.names(events)[2:], ["incoming", "ended"])
        self.assertEqual(world.last(603).call_id, b"in-1")
        self.assertEqual(world.board.audio.log, [])

    def test_junk_in_a_call(self):
        """A bad packet after each good one, on either socket, costs no speech."""
        world = self.world
        script = self.talk(world, 2)

        def junk():
            world.rtp.inbox.append(bytes(182))
            world.sip.inbox.append(b"\xe1" + bytes(60))

        script += [(at + 5, junk) for at, _ in script[2:]]
        script.sort(key=lambda one: one[0])
        events = world.run(*script, (script[-1][0] + 100, "status"), (script[-1][0] + 110, "hangup"))
        media = events[-1]["media"]
        self.assertEqual((media["received"], media["rejected"], media["lost"], media["late"]), (100, 100, 0, 0))
        self.assertEqual(events[-2]["dropped"], 100)


class BrokenAudioTest(WholeCase):
    """It costs the call and no other, and the reason is told."""

    ERRORS = (OSError(errno.EIO), ValueError("ibuf"), MemoryError("told"))

    def breaks(self, **broken):
        self.world.board.audio.broken = broken

    def take_call(self, at, call_id=b"in-1"):
        """Script of a call from outside."""
        return [
            (at, lambda: self.world.deliver(invite(call_id=call_id))),
            (at + 100, "answer"),
            (at + 200, lambda: self.world.deliver(ack_to(self.world))),
        ]

    def good_call(self, at):
        """Script of a call from outside that must work, as the audio does from then on."""
        return [(at - 1, self.breaks)] + self.take_call(at, b"good") + [(at + 300, "hangup")]

    def byes(self):
        return [one.call_id for one in self.world.messages if isinstance(one, Request) and one.method == "BYE"]

    def check(self, events, reason):
        """The events of a broken call, with that reason, and then those of a good one."""
        self.assertEqual(self.names(events)[-3:], ["incoming", "connected", "ended"])
        [reasons] = [one["reason"] for one in events[:-1] if one["event"] == "ended"]
        self.assertEqual(reasons, "media: %s" % reason)
        log = self.world.board.audio.log
        self.assertEqual(log, ["start", "stop"] * (len(log) // 2))

    def test_answering(self):
        for error in self.ERRORS:
            world = self.make()
            self.breaks(start=error)
            events = world.run(*self.take_call(500)[:2], *self.good_call(2000))
            self.check(events, error)
            self.assertEqual((world.last(500).call_id, world.last(500).cseq.method), (b"in-1", "INVITE"))

    def test_answering_without_an_offer(self):
        """It is in the ACK that the terminal learns whom to speak to."""
        world = self.world
        error = OSError(errno.EIO)
        self.breaks(start=error)

        def ack():
            ok = world.last(200)
            body = answer_to(ok.body)[0]
            world.deliver(request("ACK", ok.call_id, ok.get("from"), ok.get("to"), ok.cseq.number, body=body))

        events = world.run(
            (500, lambda: world.deliver(invite(body=b""))), (600, "answer"), (700, ack), *self.good_call(2000)
        )
        self.check(events, error)
        self.assertEqual(self.byes(), [b"in-1", b"good"])

    def test_calling(self):
        for error in self.ERRORS:
            world = self.make()
            self.breaks(start=error)
            answered = (1000, lambda: self.world.deliver(accept(self.world.last("INVITE"))))
            events = world.run((500, "call bob"), answered, *self.good_call(2000))
            self.check(events, error)
            sent = [one.method for one in world.messages if isinstance(one, Request)]
            self.assertEqual(sent, ["INVITE", "ACK", "BYE", "BYE"])

    def test_in_a_call(self):
        for name in ("read", "write"):
            for error in self.ERRORS[:2]:
                world = self.make()
                broken = {name: error}
                breaks = (1000, lambda broken=broken: self.breaks(**broken))
                events = world.run(*self.take_call(500), breaks, *self.good_call(3000))
                self.check(events, error)
                self.assertEqual([one["talked_ms"] // 100 for one in events if "talked_ms" in one], [3, 1])
                self.assertEqual(self.byes(), [b"in-1", b"good"])

    def test_before_the_ack(self):
        """Section 15: no BYE before the ACK."""
        world = self.world
        error = OSError(errno.EIO)
        self.breaks(write=error)
        look = (690, lambda: self.assertEqual(self.byes(), []))
        script = self.take_call(500)
        events = world.run(*script[:2], look, script[2], *self.good_call(3000))
        self.check(events, error)
        self.assertEqual(self.byes(), [b"in-1", b"good"])

    def test_stop(self):
        self.breaks(stop=OSError(errno.EIO))
        events = self.world.run(*self.take_call(500), (900, "hangup"), *self.good_call(3000))
        self.assertEqual([event["reason"] for event in events if event["event"] == "ended"], ["hung up"] * 2)

    def test_other_errors_are_not_hidden(self):
        self.breaks(start=TypeError("told"))
        with self.assertRaises(TypeError):
            self.world.run(*self.take_call(500))


class WifiTest(WholeCase):
    def setUp(self):
        super().setUp()
        self.make()

    def make(self, **changes):
        changes.setdefault("address", "")
        world = super().make(wifi={"ssid": "home"}, **changes)
        world.board.station = FakeWlan(2)
        return world

    def lose(self):
        self.world.board.station.address = None

    def test_joins_first(self):
        """The second attempt comes a second after the first, the third two later; the watchdog is fed meanwhile."""
        world = self.world
        world.board.station = FakeWlan()
        self.assertEqual(self.names(world.run()), ["started", "registered"])
        self.assertEqual(world.board.station.joins, 3)
        self.assertEqual(world.sip.bound, ("192.0.2.43", 5060))
        self.assertEqual([at for at in world.board.fed if at < 3000], [0] + list(range(0, 3000, 100)))

    def test_tries_for_ever(self):
        """Less and less often, and at once when the driver has found the network by itself."""
        world = self.world
        station = world.board.station = FakeWlan()
        tried = []

        def join(feed):
            tried.append(world.now)
            if world.now > 500000 and not station.address:
                station.address = "192.0.2.50"  # behind our back, and not by this attempt
                return None
            return station.address

        station.join = join
        events = world.run((700000, "status"))
        self.assertEqual(self.names(events), ["started", "registered", "status"])
        steps = gaps(tried)
        self.assertEqual(steps[:7], [1000, 2000, 4000, 8000, 16000, 32000, 60000])
        self.assertEqual(set(steps[6:-1]), {60000})
        self.assertEqual(steps[-1], 0)
        self.assertLessEqual(max(gaps(world.board.fed)), 1000)

    def test_already_joined(self):
        """After a soft reset the station is still there."""
        world = self.world
        world.board.station.address = "192.0.2.99"
        world.run()
        self.assertEqual((world.board.station.joins, world.sip.bound), (2, ("192.0.2.99", 5060)))

    def test_configured_address(self):
        """The network has to be joined nevertheless."""
        world = self.make(address="192.0.2.7")
        world.run()
        self.assertEqual((world.board.station.joins, world.sip.bound), (3, ("192.0.2.7", 5060)))
        self.assertEqual(world.board.settings, {"ssid": "home", "password": ""})

    def test_name_server_comes_later(self):
        """The access point is up, and what is behind it not yet: that is told once, and the terminal goes on trying."""
        world = self.make(neighbour="proxy.a.example:5060")
        world.unnamed = 3
        events = world.run()
        self.assertEqual(self.names(events), ["started", "error", "registered"])
        self.assertEqual(events[1]["reason"], "neighbour: name not found")
        self.assertGreaterEqual(world.now, 7000)  # after one second, two, and four
        self.assertEqual(world.board.station.joins, 3)  # and does not leave the network meanwhile
        self.assertEqual(world.sip.connected, ("proxy.a.example", 5060))

    def test_status(self):
        """What it has joined, and how well it hears that; the password is in no event."""
        world = self.world
        events = world.run((5000, "status"), (6000, lambda: [self.lose(), world.board.typed.append("status")]))
        told = [event["wifi"] for event in events if event["event"] == "status"]
        self.assertEqual(told, [{"ssid": "home", "rssi": -61}, {"ssid": "home"}])
        self.assertNotIn("s3cret", "".join(world.printed.lines))

    def test_lost(self):
        """Another address: new sockets, a new agreement, another Contact."""
        world = self.world
        events = world.run((5000, self.lose), (13000, "status"))
        self.assertEqual(self.names(events), ["started", "registered", "wifi", "registered", "status"])
        self.assertEqual(events[2]["error"], "lost")
        self.assertEqual([one.is_open for one in world.sockets], [False] * 3 + [True] * 3)
        self.assertEqual([one.bound[0] for one in world.sockets], ["192.0.2.43"] * 3 + ["192.0.2.46"] * 3)
        self.assertEqual(world.contact, b"<sip:alice@192.0.2.46:5060>")

    def test_no_way_back_at_first(self):
        """Whatever fails when the sockets are opened again: it is told, once for each reason, and tried again until it works."""
        for name in ("bind", "connect", "setblocking"):
            for error in (OSError(errno.EIO), MemoryError("told")):
                world = self.make()

                def lose():
                    self.lose()
                    self.world.broken = {name: [error] * 3}  # noqa: B023  called in this round

                events = world.run((5000, lose), (20000, "status"))
                told = [event for event in events if event["event"] in ("error", "starved")]
                self.assertEqual(len(told), 1 if isinstance(error, OSError) else 3)
                self.assertEqual(self.world.broken[name], [])
                if isinstance(error, OSError):
                    what = {"bind": "192.0.2.46:5060: ", "connect": "neighbour 192.0.2.1: "}.get(name, "")
                    self.assertEqual(told[0], {"event": "error", "reason": "network: %s%s" % (what, error)})
                self.assertEqual(self.names(events)[-2:], ["registered", "status"])
                self.assertEqual([one for one in world.sockets if one.is_open], [world.sip, world.rtp, world.rtcp])
                self.assertEqual(len(world.polled), 4)

    def test_no_way_without_wifi(self):
        """Where nobody can join a network the program ends, and says why."""
        world = super().make()
        world.broken = {"bind": [OSError(errno.EIO)]}
        with self.assertRaises(OSError):
            world.run()

    def talk(self):
        """Script of a call from outside."""
        world = self.world
        return [
            (500, lambda: world.deliver(invite())),
            (600, "answer"),
            (700, lambda: world.deliver(ack_to(world))),
        ]

    def test_lost_in_a_call(self):
        """The call goes on from another address: the far end is told where, and speech comes from there."""
        world = self.world

        def told():
            sent = world.last("INVITE")
            self.assertEqual(sent.call_id, b"in-1")
            self.assertEqual(sent.get("contact"), b"<sip:alice@192.0.2.46:5060>")
            self.assertEqual(sent.via.sent_by, b"192.0.2.46:5060")
            self.assertIn(b"c=IN IP4 192.0.2.46\r\n", sent.body)
            self.assertEqual(world.rtp.bound[0], "192.0.2.46")
            world.deliver(accept(sent))

        def check():
            self.assertEqual(world.last("ACK").call_id, b"in-1")
            self.assertGreater(len(world.rtp.sent), 40)

        script = self.talk() + [(5000, self.lose), (9000, told), (10000, check), (11000, "hangup")]
        events = world.run(*script)
        self.assertEqual(
            self.names(events), ["started", "registered", "incoming", "connected", "wifi", "registered", "ended"]
        )
        self.assertEqual((events[-1]["reason"], events[-1]["talked_ms"] // 1000), ("hung up", 10))
        self.assertEqual(world.last("BYE").call_id, b"in-1")
        self.assertEqual(world.board.audio.log, ["start", "stop"])

    def test_lost_in_a_call_and_found_at_the_same_address(self):
        """Nobody has to be told anything."""
        world = self.make(address="192.0.2.7")
        events = world.run(*self.talk(), (5000, self.lose), (12000, "hangup"))
        self.assertEqual(
            self.names(events), ["started", "registered", "incoming", "connected", "wifi", "registered", "ended"]
        )
        sent = [one.method for one in world.messages if isinstance(one, Request)]
        self.assertEqual(sent, ["BYE"])

    def test_lost_in_a_call_that_nobody_knows_any_more(self):
        world = self.world
        gone = (9000, lambda: world.deliver(answer(world.last("INVITE"), 481)))
        events = world.run(*self.talk(), (5000, self.lose), gone)
        self.assertEqual((events[-1]["event"], events[-1]["reason"]), ("ended", "peer is gone"))
        self.assertEqual(world.board.audio.log, ["start", "stop"])

    def test_lost_while_it_registers(self):
        """What was asked from the old address is not asked again from the new one."""
        world = self.world
        world.serves = False

        def lose():
            world.serves = True
            self.lose()

        contacts = []
        real = world.granted
        world.granted = lambda message, **changes: contacts.append(message.get("contact")) or real(message, **changes)
        events = world.run((300, lose), (40000, "status"))
        self.assertEqual(self.names(events), ["started", "wifi", "registered", "status"])
        self.assertEqual(set(contacts), {b"<sip:alice@192.0.2.46:5060>"})

    def test_lost_while_it_rings(self):
        world = self.world
        events = world.run((500, lambda: world.deliver(invite())), (600, self.lose), (8000, "status"))
        self.assertEqual(self.names(events)[3:], ["wifi", "ended", "registered", "status"])
        self.assertEqual(events[-1]["phone"], "idle")
        self.assertEqual(world.board.audio.log, [])


if __name__ == "__main__":
    unittest.main()
