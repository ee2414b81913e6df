"""The media of a whole terminal: text and digits from its console, reports, RTP by agreement, and the end of a key."""

import socket
import sys
import unittest

from far import PEER_ADDRESS, PEER_CONTACT, FarMedia, accept, answer, invite, request, speaks
from streamed import EVENTS, Audio, FarReports, FarText
from whole import WholeCase

from sipwire import rtcp
from sipwire.answer import make_answer
from sipwire.message import Request
from sipwire.offer import make_offer
from sipwire.sdp import Session
from sipwire.streams import OFF
from terminal import app

SPEECH = ("198.51.100.9", 30000)
TEXT = ("198.51.100.9", 30002)


class CallCase(WholeCase):
    """A call from the terminal.

    Attributes:
        far, writer: the far end's speech and text.
    """

    def answered(self, policy=2, text_port=30002, audio_port=30000):
        """The far end's 200 to the last INVITE; from then on it speaks and writes under the keys of that."""
        world = self.world
        sent = world.last("INVITE")
        spoken = speaks(policy=policy, text_port=text_port, events=True)
        spoken.audio_port = audio_port
        made, agreed = make_answer(spoken, Session.parse(sent.body), PEER_ADDRESS, 8)
        ok = answer(sent, 200, reason="OK", extra=[("Contact", PEER_CONTACT)])
        ok.set_body(b"application/sdp", made.serialize())
        world.deliver(ok)
        for one in agreed:
            if one.kind == b"audio" and one.suite:
                self.far = FarMedia(one.remote_key, one.local_key)
            elif one.suite:
                self.writer = FarText(2, one.remote_key, one.local_key)
        self.agreed = agreed

    def script(self, *more, **options):
        """A call that is answered at 1 s, these things, and the end of it half a second later."""
        script = [(500, "call bob@b.example"), (1000, lambda: self.answered(**options))] + list(more)
        return script + [(script[-1][0] + 500, "hangup")]

    def run_call(self, *more, **options):
        """Run it; returns the events from that of the call's beginning on."""
        events = self.world.run(*self.script(*more, **options))
        names = [event["event"] for event in events]
        return events[names.index("connected") :]

    def read(self):
        """What the far end reads of all that was written."""
        found = ""
        for datagram, address in self.world.media_sockets[2].sent:
            self.assertEqual(address, TEXT)
            found += self.writer.read(datagram, 0)
        return found

    def writes(self, words):
        """The far end writes."""
        self.writer.write(words, self.world.now)
        for packet in self.writer.due(self.world.now):
            self.world.media_sockets[2].inbox.append((packet, TEXT))


class SocketTest(CallCase):
    def test_four_where_there_is_text(self):
        """RTP and RTCP of speech, and of text, one port after the other."""
        world = self.make(text=True, rtp_port=40010)
        world.run()
        media = world.sockets[1:]
        self.assertEqual([one.bound for one in media], [("192.0.2.7", 40010 + i) for i in range(4)])
        self.assertEqual([one.connected for one in media], [None] * 4)
        self.assertFalse(max([one.blocking for one in media]))
        self.assertEqual(len(world.polled), 6)

    def test_two_where_there_is_none(self):
        self.world.run()
        self.assertEqual(len(self.world.sockets), 3)


class AddressTest(unittest.TestCase):
    def open(self, port):
        """A socket at a port that is free, from there on; and its address."""
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        while True:
            address = app._resolve(b"127.0.0.1", port)
            try:
                made.bind(address)
            except OSError:
                port += 1
            else:
                return made, address

    def test_where_a_datagram_comes_from(self):
        """On this system, too, `recvfrom` tells it as `_resolve` makes it, so that the two can be compared."""
        opened = [self.open(40900), self.open(41900)]
        try:
            opened[0][0].sendto(b"x", opened[1][1])
            data, source = opened[1][0].recvfrom(400)
            self.assertEqual(data, b"x")
            self.assertTrue(source == opened[0][1])
            self.assertTrue(source != opened[1][1])
        finally:
            for one, _ in opened:
                one.close()


class TextTest(CallCase):
    changes = {"text": True}

    def test_offer(self):
        """Beside speech, with its own key, and RED before T.140."""
        world = self.world
        world.run((500, "call bob"))
        audio, text = Session.parse(world.last("INVITE").body).media
        self.assertEqual((audio.kind, audio.port, text.kind, text.port), (b"audio", 40000, b"text", 40002))
        self.assertEqual((text.proto, text.formats), (b"RTP/SAVP", [b"100", b"98"]))
        keys = [crypto.keys[0].key_salt for media in (audio, text) for crypto in media.cryptos()]
        self.assertEqual(len(set(keys)), 4)

    def test_write(self):
        """A line, with its end; and what comes is shown as it comes."""
        events = self.run_call(
            (1500, "write Hello,  you"),
            (2000, lambda: self.writes("Hi")),
            (2400, lambda: self.writes("\b")),
            (2700, lambda: self.writes("ello\u2028")),
        )
        self.assertEqual(self.read(), "Hello,  you\u2028")
        shown = [event for event in events if event["event"] == "text"]
        self.assertEqual(
            [(event["text"], event.get("erased")) for event in shown], [("Hi", None), ("", 1), ("ello\n", None)]
        )
        found = events[-1]["media"]
        self.assertEqual((found["rejected"], found["text"]["rejected"], found["text"]["received"]), (0, 0, 3))

    def test_chat(self):
        """As it is typed, until a line with nothing but a full stop; then lines are commands again."""
        events = self.run_call(
            (1500, b"chat\nH"),
            (1700, b"i \xe2\x82"),
            (1800, b"\xac.\n"),
            (2000, b"x\x7fy"),
            (2500, b"\n.."),
            (3000, b"\n.\nstatus\n"),
        )
        self.assertEqual(self.read(), "Hi \u20ac.\u2028x\by\u2028..\u2028")
        self.assertEqual([event["event"] for event in events], ["connected", "status", "ended"])
        self.assertFalse(self.world.board.console.is_chatting)

    def test_chat_outlives_its_call(self):
        """What is typed then is no command; the first of it is refused, and from there on lines are commands."""
        world = self.world
        script = self.script((1500, b"chat\nHi\n"))
        events = world.run(*script, (3000, b"hang"), (3100, b"up\nstatus\n"))
        self.assertEqual([event["event"] for event in events][4:], ["ended", "refused", "refused", "status"])
        self.assertEqual([event.get("command") for event in events][5:7], ["chat", "hangup"])

    def test_refused(self):
        """The far end takes no text, or there is no call."""
        events = self.run_call((1500, "write Hello"), (1600, b"chat\nHi"), (1700, b"\n"), text_port=0)
        refused = [(event["command"], event["reason"]) for event in events if event["event"] == "refused"]
        self.assertEqual(refused, [("write", "no text in this call"), ("chat", "no text in this call")])
        self.assertEqual(self.world.media_sockets[2].sent, [])
        world = self.make(text=True)
        events = world.run((500, "write x"), (600, "write"), (700, "chat now"), (800, "press 1"), (900, "press"))
        self.assertEqual([event["command"] for event in events[2:]], ["write", "write", "chat", "press", "press"])

    def test_too_much(self):
        events = self.run_call((1500, "write " + "a" * 3000), (1600, "write b"))
        self.assertEqual([(event.get("command"), event.get("reason")) for event in events[1:2]], [("write", "busy")])

    def test_alone(self):
        """The far end has no speech: no microphone, no speaker, and no packet of it."""
        events = self.run_call((1500, "write Hello"), (2000, lambda: self.writes("Hi")), audio_port=0)
        self.assertEqual(self.read(), "Hello\u2028")
        self.assertEqual([event["event"] for event in events], ["connected", "text", "ended"])
        self.assertEqual((self.world.board.audio.log, self.world.rtp.sent, self.world.rtcp.sent), ([], [], []))
        self.assertEqual(sorted(events[-1]["media"]), ["text"])

    def test_call_from_outside_with_text_alone(self):
        world = self.world
        spoken = speaks(text_port=30002)
        spoken.audio_port = 0
        body = make_offer(spoken, PEER_ADDRESS, 7).serialize()

        def answered():
            ok = [one for one in world.messages if not isinstance(one, Request) and one.body][-1]
            [text] = Session.parse(ok.body).media
            self.assertEqual((text.kind, text.port), (b"text", 40002))
            key = text.cryptos()[0].keys[0].key_salt
            self.writer = FarText(2, key, bytes(range(30)))
            world.deliver(request("ACK", ok.call_id, ok.get("from"), ok.get("to"), ok.cseq.number))

        events = world.run(
            (500, lambda: world.deliver(invite(body=body))),
            (600, "answer"),
            (700, answered),
            (800, "write Hello"),
            (900, lambda: self.writes("Hi")),
            (1500, "hangup"),
        )
        self.assertEqual([event["event"] for event in events][2:], ["incoming", "connected", "text", "ended"])
        self.assertEqual((self.read(), world.board.audio.log), ("Hello\u2028", []))

    def test_no_room_for_what_is_typed(self):
        """It is lost, and the rest goes on."""
        world = self.world

        def starve():
            def write(text, now):
                raise MemoryError("as told")

            self.real, world.terminal.media.write = world.terminal.media.write, write

        def enough():
            world.terminal.media.write = self.real

        events = self.run_call((1500, b"chat\n"), (1600, starve), (1700, b"x"), (1800, enough), (1900, b"y\n.\n"))
        self.assertEqual([event["event"] for event in events], ["connected", "starved", "ended"])
        self.assertEqual(self.read(), "y\u2028")


class PressTest(CallCase):
    def digits(self):
        """The codes of the events that were sent, as they stand in the packets."""
        found = []
        for datagram, address in self.world.rtp.sent:
            self.assertEqual(address, SPEECH)
            kind, _, _, _, payload, _ = self.far.open(datagram)
            if kind == EVENTS:
                found.append(payload[0])
        return found

    def test_press(self):
        events = self.run_call((1500, "press 1#"), (2500, "press 9"))
        self.assertEqual(self.digits(), [1] * 10 + [11] * 10 + [9] * 10)
        self.assertEqual([event["event"] for event in events], ["connected", "ended"])
        self.assertFalse("terminal.digits" in sys.modules)

    def test_refused(self):
        events = self.run_call((1500, "press x"), (1600, "press " + "1" * 40), (1700, "press 1 2"))
        self.assertEqual([event.get("command") for event in events[1:-1]], ["press"] * 3)
        self.assertEqual(self.digits(), [])

    def test_heard(self):
        """A door opener's: three times over one lost packet."""
        world = self.world
        packets = []

        def pressed():
            for i in range(1, 11):
                duration = 160 * min(i, 8)
                payload = bytes([11, 10 | (0x80 if i > 7 else 0), duration >> 8, duration & 0xFF])
                timestamp = self.far.timestamp
                packets.append(self.far.packet(payload, EVENTS))
                self.far.timestamp = timestamp
            self.far.timestamp += 3000
            del packets[7]  # the first that ends it
            world.rtp.inbox += packets
            packets[:] = []

        events = self.run_call((1500, pressed), (2000, pressed), (2500, pressed))
        told = [(event["digit"], event["duration_ms"]) for event in events if event["event"] == "dtmf"]
        self.assertEqual(told, [("#", 160)] * 3)


class StatusTest(CallCase):
    changes = {"text": True}

    def test_so_far(self):
        """In a call what `ended` will count is told as it is by then; and to ask changes nothing of it."""
        events = self.run_call((3000, "status"), (3000, "status"), (6000, "status"))
        told = [event for event in events if event["event"] == "status"]
        [ended] = [event for event in events if event["event"] == "ended"]
        first, again, later = [event["media"] for event in told]
        self.assertEqual(first, again)
        self.assertTrue(later["sent"] - first["sent"] in (149, 150, 151))
        self.assertEqual(set(first), set(ended["media"]))
        self.assertEqual(set(first["text"]), set(ended["media"]["text"]))
        self.assertTrue(later["sent"] <= ended["media"]["sent"])
        for event in told:
            self.assertEqual(event["suite"], events[0]["suite"])
            self.assertEqual(event["phone"], "talking")
        self.assertEqual(told[2]["talked_ms"] - told[0]["talked_ms"], 3000)
        self.assertFalse("terminal.status" in sys.modules)


class ReportTest(CallCase):
    def test_reports(self):
        """They go out in time though nothing else happens, and the far end's are in the statistics."""
        world = self.world

        def reports():
            made = FarReports(self.far_key, self.agreed[0].local_key)
            ssrc = int.from_bytes(world.rtp.sent[0][0][8:12], "big")
            world.rtcp.inbox.append((made.packet((ssrc, 0, 3, 9, 160, 0, 0)), ("198.51.100.9", 30001)))

        def note():
            self.far_key = self.agreed[0].remote_key

        events = self.run_call((1200, note), (20000, reports), (21000, "status"))
        found = [FarReports(self.far_key).open(datagram) for datagram, _ in world.rtcp.sent]
        self.assertTrue(20 // 7 <= len(found) <= 12, len(found))
        self.assertEqual(set([address for _, address in world.rtcp.sent]), {("198.51.100.9", 30001)})
        self.assertEqual([report.left for report in found[:-1]], [[]] * (len(found) - 1))
        self.assertEqual(found[-1].left, [found[-1].ssrc])
        self.assertEqual(found[0].kinds[0], rtcp.SR)
        media = events[-1]["media"]
        self.assertEqual((media["far_lost"], media["far_jitter_ms"], media["rejected"]), (3, 20, 0))
        self.assertLess(max(world.waits), 1001)

    def test_no_room_for_a_report(self):
        """It is left out; speech goes on, and the next one is sent."""
        world = self.world
        failures = []

        def report(now):
            real_at = now + 3000
            world.terminal.media.report_at = real_at
            failures.append(now)
            if len(failures) == 1:
                raise MemoryError("as told")
            return self.real(now)

        def starve():
            self.real, world.terminal.media.report = world.terminal.media.report, report

        events = self.run_call((1100, starve), (12000, "status"))
        self.assertEqual([event["event"] for event in events], ["connected", "starved", "status", "ended"])
        self.assertGreater(len(world.rtcp.sent), 1)
        self.assertGreater(len(world.rtp.sent), 540)


class PlainTest(CallCase):
    """RTP where that was agreed on: from the signalled address and port alone (RTP bleed)."""

    changes = {"srtp": "opportunistic", "text": True}

    def clear(self, i, payload=bytes(160)):
        return b"\x80\0" + bytes([0, i]) + (160 * i).to_bytes(4, "big") + b"\0\0\0\7" + payload

    def test_speech_and_thieves(self):
        world = self.world
        for policy in ("opportunistic", "off"):
            world = self.make(srtp=policy)
            thieves = (("203.0.113.66", 30000), ("198.51.100.9", 30004), ("198.51.100.9", 30001))
            script = []
            for i in range(50):
                good = (self.clear(i, b"\x42" * 160), SPEECH)
                bad = (self.clear(i + 1, b"\x11" * 160), thieves[i % 3])
                script.append((1100 + 20 * i, lambda pair=(bad, good): self.world.rtp.inbox.extend(pair)))
            events = self.run_call(*script, policy=OFF)
            self.assertEqual((events[0]["event"], events[0]["suite"]), ("connected", ""))
            media = events[-1]["media"]
            self.assertEqual((media["received"], media["rejected"], media["lost"]), (50, 50, 0))
            self.assertEqual(set([address for _, address in world.rtp.sent]), {SPEECH})
            self.assertEqual(set([len(datagram) for datagram, _ in world.rtp.sent]), {172})
            self.assertEqual(set([address for _, address in world.rtcp.sent]), {("198.51.100.9", 30001)})

    def test_what_does_not_fit(self):
        """No tag tells that a datagram was cut off; what may have been is no packet."""

        def comes(*payloads):
            self.world.rtp.inbox += [(self.clear(i, payload), SPEECH) for i, payload in enumerate(payloads)]

        events = self.run_call((1500, lambda: comes(bytes(480), bytes(589), bytes(640), bytes(1400))), policy=OFF)
        self.assertEqual((events[-1]["media"]["received"], events[-1]["media"]["rejected"]), (1, 3))

    def test_text(self):
        world = self.world

        def written():
            self.writer = FarText(suite=b"")
            self.writer.write("Hi", world.now)
            [packet] = self.writer.due(world.now)
            for source in (("203.0.113.66", 30002), SPEECH, TEXT, ("198.51.100.9", 30003)):
                world.media_sockets[2].inbox.append((packet, source))

        events = self.run_call((1500, "write Hello"), (1600, written), (2100, "status"), policy=OFF)
        self.assertEqual([event["text"] for event in events if event["event"] == "text"], ["Hi"])
        self.assertEqual(self.read(), "Hello\u2028")
        self.assertEqual(events[-1]["media"]["text"]["rejected"], 3)

    def test_srtp_where_the_far_end_has_it(self):
        """Then RTP is nothing, from wherever."""
        world = self.world
        events = self.run_call(
            (1500, lambda: world.rtp.inbox.append((self.clear(0), SPEECH))),
            (1600, lambda: world.rtp.inbox.append((self.far.packet(), ("203.0.113.66", 9)))),  # a NAT's, and authentic
            policy=1,
        )
        self.assertEqual(events[0]["suite"], "AES_CM_128_HMAC_SHA1_80")
        self.assertEqual((events[-1]["media"]["received"], events[-1]["media"]["rejected"]), (1, 1))
        for datagram, _ in world.rtp.sent:
            self.far.open(datagram)

    def test_required(self):
        """Not one packet of media, whatever is answered."""
        world = self.make(text=True)

        def answered():
            sent = world.last("INVITE")
            ok = accept(sent, change=(b"RTP/SAVP", b"RTP/AVP"))
            world.deliver(ok)
            world.rtp.inbox += [(self.clear(i), SPEECH) for i in range(5)]

        events = world.run((500, "call bob"), (1000, answered), (3000, "status"))
        self.assertEqual([(event["event"], event.get("reason")) for event in events][3:4], [("ended", "no SRTP")])
        self.assertEqual([one.sent for one in world.media_sockets], [[]] * 4)
        self.assertEqual(world.board.audio.log, [])


class KeyTest(CallCase):
    def setUp(self):
        super().setUp()
        self.world.board.audio = Audio()

    def last(self, packets):
        """So many packets are left of our key."""
        sender = self.world.terminal.media.parts[b"audio"].stream.sender
        sender._end = sender._last_seq + packets
        sender._look = True

    def test_another_key_in_time(self):
        """Asked for by a re-INVITE of its own; speech goes on under it, and the far end's key stays."""
        world = self.world
        script = [
            (1500, lambda: self.last(500)),
            (5000, self.note),
            (5001, lambda: world.deliver(accept(world.last("INVITE")))),
            (5500, lambda: world.rtp.inbox.append((self.far.packet(), SPEECH))),
            (14000, "status"),
        ]
        events = self.run_call(*script)
        self.assertEqual([event["event"] for event in events], ["connected", "status", "ended"])
        self.assertEqual(events[-1]["media"]["received"], 1)
        self.assertTrue(660 < events[-1]["media"]["sent"] < 690, events[-1])
        again = FarMedia(self.keys[1])
        opened = 0
        for datagram, _ in world.rtp.sent[-450:]:
            opened += again.open(datagram)[0] == 0
        self.assertEqual(opened, 450)
        invites = [one for one in world.messages if isinstance(one, Request) and one.method == "INVITE"]
        self.assertEqual(len(set([one.cseq.number for one in invites])), 2)

    def note(self):
        sent = self.world.last("INVITE")
        [crypto] = Session.parse(sent.body).media[0].cryptos()
        self.keys = self.agreed[0].remote_key, crypto.keys[0].key_salt
        self.assertNotEqual(*self.keys)

    def test_refused(self):
        """It is asked for again, the call goes on, and when the key is used up it ends, and says why."""
        world = self.world
        refused = [(5000 + 1000 * i, lambda: world.deliver(answer(world.last("INVITE"), 488))) for i in range(14)]
        events = world.run(*self.script((1500, lambda: self.last(900)), *refused, (22000, "status"))[:-1])
        self.assertEqual([event["event"] for event in events][3:], ["connected", "ended", "status"])
        self.assertEqual(events[4]["reason"], "media: SRTP key used up")
        self.assertTrue(920 <= events[4]["media"]["sent"] <= 930, events[4])
        self.assertTrue(18400 < events[4]["talked_ms"] < 18700)
        self.assertEqual(world.last("BYE").call_id, world.last("INVITE").call_id)
        numbers = [one.cseq.number for one in world.messages if isinstance(one, Request) and one.method == "INVITE"]
        self.assertGreater(len(set(numbers)), 2)
        for datagram, _ in world.rtp.sent:
            self.far.open(datagram)  # not one packet is in the clear

    def test_its_time_is_over(self):
        """Another is wanted; who is given none sends under it for as long again, until the next report, and no longer."""
        world = self.world
        short = (1500, lambda: setattr(world.terminal.media, "key_ms", 10000))
        refused = [(11100 + 1000 * i, lambda: world.deliver(answer(world.last("INVITE"), 488))) for i in range(18)]
        events = world.run(*self.script(short, *refused, (30000, "status"))[:-1])
        self.assertEqual([event["event"] for event in events][3:], ["connected", "ended", "status"])
        self.assertEqual(events[4]["reason"], "media: SRTP key used up")
        self.assertTrue(20000 <= events[4]["talked_ms"] < 26300, events[4])
        numbers = [one.cseq.number for one in world.messages if isinstance(one, Request) and one.method == "INVITE"]
        self.assertGreater(len(set(numbers)), 2)

    def test_another_call_afterwards(self):
        world = self.world
        first = self.script((1500, lambda: self.last(10)))[:-1]
        events = world.run(*first, (4000, "call bob@b.example"), (4500, self.answered), (6000, "hangup"))
        ends = [event for event in events if event["event"] == "ended"]
        self.assertEqual([event["reason"] for event in ends], ["media: SRTP key used up", "hung up"])
        self.assertTrue(70 < ends[1]["media"]["sent"] < 80)


if __name__ == "__main__":
    unittest.main()
