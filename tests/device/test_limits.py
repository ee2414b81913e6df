"""Limits of what the terminal takes: on every header and body, with the status that tells which."""

import unittest

from far import PEER_CONTACT, accept, answer, early, invite, offer, options
from scripted import WorldCase

MESSAGE_BYTES = 3072
HEAD_BYTES = 2048
BODY_BYTES = 2048
LINE_BYTES = 1024
LINES = 64
TEXT = b"text/plain"


def head_size(message):
    return len(message.serialize()) - len(message.body)


class RequestTest(WorldCase):
    def status(self, request):
        """How it is answered, by whatever transaction it needs."""
        self.world.deliver(request)
        response = self.world.take_one()
        self.assertEqual((response.call_id, response.cseq.number), (request.call_id, request.cseq.number))
        self.assertEqual([one.serialize() for one in (response.via,)], [request.via.serialize()])
        return response.status

    def padded(self, request, size, name="X-Pad", lines=4):
        """The request with header lines that bring its head to that size."""
        left = size - head_size(request)
        for i in range(lines):
            own = left // (lines - i)
            left -= own
            request.add(name, b"x" * (own - len(name) - 4))
        self.assertEqual(head_size(request), size)
        return request

    def test_head(self):
        world = self.world
        for size, status in ((HEAD_BYTES, 200), (HEAD_BYTES + 1, 513), (MESSAGE_BYTES, 513), (4000, 513)):
            self.assertEqual(self.status(self.padded(options(call_id=b"h%d" % size), size)), status)
            self.assertEqual(
                self.status(self.padded(invite(call_id=b"i%d" % size, body=b""), size)), 513 if status == 513 else 180
            )
            if status == 200:
                self.phone.reject(world.now)
                world.take()
            self.assertIdle()
            self.forget()

    def test_body(self):
        """413 where the body alone is too large, 513 where all of it is."""
        for size, status in ((BODY_BYTES, 413), (BODY_BYTES + 1, 413), (2600, 413), (3500, 513)):
            asked = options(call_id=b"b%d" % size, method="MESSAGE")
            asked.set_body(TEXT, b"x" * size)
            self.assertEqual(self.status(asked), status)
        lines = b"a=" + b"x" * 96 + b"\r\n"
        good = offer()
        body = good + lines * 16
        self.assertEqual(len(body) // 100, 19)
        self.assertEqual(self.status(invite(body=body)), 180)
        self.phone.reject(self.world.now)
        self.forget()
        self.assertEqual(self.status(invite(body=body + lines * 3)), 413)
        self.assertIdle()

    def test_lines(self):
        for name in ("X", "Subject", "Contact", "From", "Record-Route", "Via"):
            asked = options(call_id=b"l" + name.encode())
            value = (asked.get(name.lower()) or b"<sip:x>") + b";x=" + b"y" * LINE_BYTES
            asked.set(name, value) if name in ("From", "Via") else asked.add(name, value)
            self.world.deliver(asked)
            self.assertEqual(self.world.take_one().status, 400)
        asked = options(call_id=b"fits")
        asked.add("Subject", b"x" * (LINE_BYTES - 9))
        self.assertEqual(self.status(asked), 200)

    def test_start_line(self):
        self.assertEqual(self.status(options(uri=b"sip:" + b"x" * LINE_BYTES + b"@b.example")), 400)

    def test_number_of_lines(self):
        for count, status in ((LINES, 200), (LINES + 1, 400), (200, 400)):
            asked = options(call_id=b"n%d" % count)
            while len(asked.fields) + 1 < count:
                asked.add("X", b"1")
            self.assertEqual(self.status(asked), status)

    def test_beyond_a_datagram(self):
        """It can't be authenticated: dropped and counted, like any forgery."""
        world = self.world
        asked = options(method="MESSAGE")
        asked.set_body(TEXT, b"x" * 5000)
        frame = world.agreement.sender.seal(asked.serialize())
        before = world.link.dropped
        self.assertFalse(world.receive(frame[:4096]))
        self.assertEqual((world.take(), world.link.dropped), ([], before + 1))

    def test_head_that_can_t_be_read(self):
        """Nobody to answer; where what an answer is made of stands at the beginning, there is somebody."""
        world = self.world
        whole = options().serialize()
        without = whole.replace(b"Call-ID:", b"X:")
        for data in (
            b"x" * 3500,
            b"OPTIONS sip:a@b SIP/2.0\r\n\r\n" + b"x" * 3500,
            without[:-2] + b"X: " + b"x" * 3500,
        ):
            before = world.agent.malformed
            self.assertTrue(world.deliver(data))
            self.assertEqual((world.take(), world.agent.malformed), ([], before + 1))
        world.deliver(whole[:-2] + b"X: " + b"x" * 3500)
        self.assertSent((513, "OPTIONS"))

    def test_ack(self):
        """Is never answered."""
        world = self.world
        call = world.ring()
        self.phone.answer(world.now)
        world.take()
        ack = call.ack()
        ack.add("X", b"x" * 3000)
        world.deliver(ack)
        self.assertEqual((world.take(), self.phone.state), ([], "answered"))
        world.deliver(call.ack())
        self.assertEqual(self.phone.state, "talking")

    def test_in_a_call(self):
        """The call does not notice."""
        world = self.world
        call = world.talk_as_callee()
        for method, body, status in (
            ("INVITE", 2100, 413),
            ("UPDATE", 3300, 513),
            ("INFO", 2900, 513),
            ("BYE", 2100, 413),
        ):
            asked = call.request(method, extra=[("Contact", PEER_CONTACT)])
            asked.set_body(b"application/sdp", b"x" * body)
            self.assertEqual(self.status(asked), 513 if body + head_size(asked) > MESSAGE_BYTES else status)
        self.assertEqual((self.phone.state, world.media.log), ("talking", ["start", "go"]))
        world.deliver(call.request("BYE"))
        self.assertSent((200, "BYE"))

    def test_nothing_is_remembered(self):
        world = self.world
        for i in range(50):
            asked = options(call_id=b"m%d" % i, method="MESSAGE")
            asked.set_body(TEXT, b"x" * 2100)
            self.assertEqual(self.status(asked), 413)
        self.assertEqual(len(world.agent._servers), 0)


class ResponseTest(WorldCase):
    def test_dropped(self):
        """As if it had been lost: the call goes on ringing, and the one that fits is taken."""
        world = self.world
        sent = world.dial()
        for size in (1100, 2100, 3000):
            for response in (answer(sent, 486), accept(sent), early(sent)):
                response.add("X", b"x" * size)
                before = world.agent.malformed
                world.deliver(response)
                self.assertEqual((world.take(), world.printed.take()), ([], []))
                self.assertEqual((self.phone.state, world.agent.malformed), ("calling", before + 1))
        self.assertEqual(world.media.log, [])
        world.deliver(accept(sent))
        self.assertSent("ACK")

    def test_long_routes(self):
        """What is kept for the whole call fits in what a message may have."""
        world = self.world
        routes = [("Record-Route", b"<sip:p%d.example;lr;%s>" % (i, b"x" * 40)) for i in range(12)]
        call = world.ring(extra=routes, contact=b"<sip:bob@198.51.100.9;x=%s>" % (b"y" * 300))
        self.phone.answer(world.now)
        world.take()
        world.deliver(call.ack())
        self.phone.hang_up(world.now)
        self.assertEqual(len(world.take_one("BYE").values("route")), 12)


if __name__ == "__main__":
    unittest.main()
