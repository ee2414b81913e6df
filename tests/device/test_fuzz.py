"""Mutated messages from the neighbour, and mutated datagrams from anybody."""

import random
import unittest

from far import PEER_CONTACT, Call, accept, answer, branch, early, invite, offer, options
from scripted import UnregisteredCase, WorldCase

from sipwire.hop import OVERHEAD_BYTES
from sipwire.message import Request
from terminal import registering
from terminal.useragent import MAX_DATAGRAM_BYTES

ROUNDS = 2000
PIECES = (
    b"", b"\0", b"\xff", b"\r\n", b"\n", b" ", b"\t", b'"', b"<", b">", b";", b",", b":", b"=", b"@", b"%", b"\\",
    b"tag", b";tag=", b"sip:", b"SIP/2.0", b"-1", b"0", b"4294967296", b"99999999999999999999999", b"a" * 300,
    b"Via: ", b"\r\nContent-Length: 5\r\n", b"\r\nRequire: x\r\n", b"\r\nRecord-Route: <sip:r;lr>\r\n",
    b"IN IP4 nowhere.invalid", b"m=audio 0 RTP/AVP 0", b"a=crypto:1 ", b"\xc3\x28", b"\r\n\r\n", b"\xe1",
    b"IN IP4 0.0.0.0", b"a=inactive\r\n", b"a=sendonly\r\n", b"m=video 0 RTP/AVP 31\r\n", b"Signal=", b"Duration=",
    b"\r\nSession-Expires: 90;refresher=uas\r\nSupported: timer\r\n", b"\r\nSession-Expires: 1\r\n", b"x" * 2000,
    b"\r\nInfo-Package: x\r\n", b"charset=", b";tag=t2", b"\r\nMin-SE: 4000\r\n", b"\r\nContact: <sip:a@b>\r\n",
)  # fmt: skip


def mutate(data):
    data = bytes(data)
    for _ in range(1 + random.getrandbits(2)):
        at = random.randrange(len(data) + 1)
        kind = random.randrange(5)
        size = random.randrange(1, 30)
        if kind == 0:
            data = data[:at] + data[at + size :]
        elif kind == 1:
            data = data[:at] + random.choice(PIECES) + data[at:]
        elif kind == 2:
            data = data[:at] + random.choice(PIECES) + data[at + size :]
        elif kind == 3:
            data = data[:at] + data[at : at + 5 * size] * 2 + data[at + size :]
        elif at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
    return data[: MAX_DATAGRAM_BYTES - OVERHEAD_BYTES]


class FuzzTest(WorldCase):
    """The terminal is registered."""

    def messages(self):
        """Good messages that fit the phone's present state, and others that don't."""
        phone = self.phone
        text = options(method="MESSAGE", call_id=branch())
        text.set_body(b"text/plain;charset=utf-8", b"Gr\xc3\xbc\xc3\x9fe")
        found = [invite(call_id=branch()), options(), options(method="CANCEL"), options(method="BYE"), text]
        if phone.dialog is not None:
            dialog = phone.dialog
            call = Call(dialog.call_id, dialog.remote, dialog.local, dialog.remote_cseq)
            key = call.request("INFO")
            key.set_body(b"application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n")
            contact = [("Contact", PEER_CONTACT), ("Session-Expires", b"120"), ("Supported", b"timer")]
            found += [call.ack(), call.request("BYE"), key, key, call.request("INFO")]
            body = offer() + random.choice((b"", b"a=sendonly\r\n", b"a=inactive\r\n"))
            for method in ("INVITE", "UPDATE", "INVITE", "UPDATE"):
                found += [call.request(method, body=body, extra=contact), call.request(method, extra=contact)]
            if phone.change.transaction:
                found += [accept(self.sent), answer(self.sent, 491), answer(self.sent, 488), answer(self.sent, 100)] * 2
            if phone.state == "ringing":
                call.invite = phone.invite.request
                found += [call.like_invite("CANCEL"), call.invite]
        elif phone.state in ("calling", "cancelling"):
            sent = self.sent
            found += [answer(sent, 180), accept(sent), accept(sent), answer(sent, 486), answer(sent, 487)]
            found += [early(sent), early(sent, 180, b"t2"), answer(sent, 422, extra=[("Min-SE", b"3600")])]
            early_call = Call(sent.call_id, sent.get("to") + b";tag=t1", sent.get("from"), random.randrange(9))
            found += [early_call.request(method) for method in ("UPDATE", "BYE")]
            found += [accept(sent, tag=b"t2"), answer(sent, 401, extra=[("WWW-Authenticate", b"Digest realm=x")])]
        if self.text:
            found.append(answer(self.text, 200))
        return [one.serialize() for one in found]

    def act(self):
        """What a person may do meanwhile."""
        world, phone = self.world, self.phone
        kind = random.randrange(12)
        if kind == 0 and phone.state == "idle":
            phone.dial("bob", world.now)
        elif kind == 4:
            phone.hold(random.getrandbits(1) == 1, world.now)
            world.advance(0)
        elif kind == 5:
            world.write()
        elif kind == 1 and phone.state == "ringing":
            phone.answer(world.now)
        elif kind == 2 and phone.state != "idle":
            phone.hang_up(world.now)
        elif kind == 3:
            world.advance(random.choice((100, 500, 5000, 40000)))

    def look(self):
        """Take what was sent; the last INVITE and the last text may be answered."""
        for sent in self.world.take():
            if isinstance(sent.message, Request) and sent.message.method == "INVITE":
                self.sent = sent.message
            elif isinstance(sent.message, Request) and sent.message.method == "MESSAGE":
                self.text = sent.message

    def test_mutated_messages_in_frames(self):
        random.seed(20261121)
        world = self.world
        states, shown = set(), set()
        self.sent = self.text = None
        for i in range(ROUNDS):
            self.act()
            self.look()
            data = random.choice(self.messages())
            world.deliver(data if random.getrandbits(2) == 0 else mutate(data))
            self.look()
            states.add(self.phone.state)
            shown.update([event["event"] for event in world.printed.take()])
            if i % 400 == 399:
                self.settle()
        self.assertTrue(states >= {"idle", "calling", "cancelling", "ringing", "answered", "talking"}, states)
        self.assertTrue(shown >= {"message", "dtmf", "hold", "sent", "failed", "progress", "connected", "ended"}, shown)

    def settle(self):
        """However the phone was left, a while later it makes a call."""
        world = self.world
        if self.phone.state != "idle":
            self.phone.hang_up(world.now)
        world.advance(250000)
        world.take()
        world.printed.take()
        self.assertUsable()
        world.advance(40000)
        world.take()
        world.printed.take()

    def test_mutated_datagrams(self):
        """Frames and plain messages from anybody on the way: dropped, every one of them."""
        random.seed(7)
        world = self.world
        call = world.talk_as_callee()
        register = registering._request(world.registration, 600).serialize()
        for i in range(ROUNDS):
            good = random.choice((invite().serialize(), call.request("BYE").serialize(), register, b""))
            if random.getrandbits(1):
                frame = world.agreement.sender.seal(good)
                datagram = mutate(frame)
                if datagram == frame:
                    continue
            else:
                datagram = mutate(good)
            self.assertFalse(world.receive(datagram))
            if i % 100 == 0:
                self.assertEqual(world.take(), [])
        self.assertEqual((world.take(), world.printed.take()), ([], []))
        self.assertEqual(self.phone.state, "talking")
        world.deliver(call.request("BYE"))
        self.assertEqual(world.take_status(), 200)


class RegistrationTest(UnregisteredCase):
    def test_mutated_answers(self):
        """A neighbour gone mad does not register the terminal; once that ends, it registers."""
        random.seed(99)
        world = self.world
        for _ in range(ROUNDS // 2):
            world.advance(random.choice((10, 1000, 70000)))
            for sent in world.take():
                if sent.agreement is None and sent.message:
                    good = random.choice(
                        (
                            world.challenge(sent.message),
                            world.challenge(sent.message, stale=True),
                            world.granted(sent.message),
                            sent.message.response(423, "x", b"t"),
                            sent.message.response(503, "x", b"t"),
                        )
                    )
                    world.deliver_plain(mutate(good.serialize()))
            self.assertNotEqual(self.registration.state, "registered")
        while self.registration.state != "waiting":
            world.advance(1000)
        world.take()
        world.register()


if __name__ == "__main__":
    unittest.main()
