import unittest

from sipwire.errors import StateError
from sipwire.message import parse
from sipwire.transaction import (
    ACCEPTED,
    CALLING,
    COMPLETED,
    CONFIRMED,
    PROCEEDING,
    TERMINATED,
    TIMEOUT,
    TRANSPORT_ERROR,
    TRYING,
    InviteClient,
    InviteServer,
    NonInviteClient,
    NonInviteServer,
    ack_for,
    cancel_for,
    client_key,
    server_key,
)


def request(method="INVITE", branch=b"z9hG4bKx", to_tag=b"", extra=b""):
    return parse(
        b"%s sip:bob@b.example SIP/2.0\r\n"
        b"Via: SIP/2.0/UDP a.example:5060;branch=%s;rport\r\n"
        b"Via: SIP/2.0/UDP second;branch=z9hG4bK2\r\n"
        b"Max-Forwards: 7\r\n"
        b"From: <sip:alice@a.example>;tag=1\r\n"
        b"To: <sip:bob@b.example>%s\r\n"
        b"Call-ID: call\r\n"
        b"CSeq: 5 %s\r\n"
        b"%sContent-Length: 0\r\n\r\n" % (method.encode(), branch, to_tag, method.encode(), extra)
    )


def answer(to, status, tag=b"t"):
    return to.response(status, "Reason", tag)


class Run:
    """Drives one machine with a fake clock and notes when it sends."""

    def __init__(self, machine):
        self.machine = machine
        self.now = 0
        self.sent = []
        self.events = []
        self.take()

    def take(self):
        self.sent += [(self.now, data) for data in self.machine.take_outgoing()]
        self.events += self.machine.take_events()

    def until(self, end):
        """Let the time pass; every timer fires when it is due."""
        while self.machine.timer_at is not None and self.machine.timer_at <= end:
            self.now = self.machine.timer_at
            self.machine.handle_timer(self.now)
            self.take()
        self.now = end

    def receive(self, message):
        self.machine.receive(message, self.now)
        self.take()

    def respond(self, response):
        self.machine.respond(response, self.now)
        self.take()

    def times(self):
        return [at for at, _ in self.sent]


class KeyTest(unittest.TestCase):
    def test_client(self):
        invite = request()
        self.assertEqual(client_key(answer(invite, 200)), client_key(invite))
        cancel = cancel_for(invite)
        self.assertNotEqual(client_key(cancel), client_key(invite))

    def test_server(self):
        invite = request()
        self.assertEqual(server_key(ack_for(invite, answer(invite, 404))), server_key(invite))
        self.assertEqual(server_key(cancel_for(invite), "INVITE"), server_key(invite))
        self.assertNotEqual(server_key(cancel_for(invite)), server_key(invite))
        self.assertNotEqual(server_key(request(branch=b"z9hG4bKy")), server_key(invite))

    def test_sent_by_is_part_of_it(self):
        other = parse(request().serialize().replace(b"a.example:5060", b"evil.example:5060"))
        self.assertNotEqual(server_key(other), server_key(request()))
        upper = parse(request().serialize().replace(b"UDP a.example", b"UDP A.Example"))
        self.assertEqual(server_key(upper), server_key(request()))

    def test_rfc2543_peer(self):
        old = request(branch=b"1")
        self.assertEqual(server_key(request(branch=b"1")), server_key(old))
        self.assertEqual(server_key(ack_for(old, answer(old, 404))), server_key(old))
        other = parse(old.serialize().replace(b"Call-ID: call", b"Call-ID: other"))
        self.assertNotEqual(server_key(other), server_key(old))


class DerivedRequestTest(unittest.TestCase):
    def test_ack(self):
        invite = request(extra=b"Route: <sip:p;lr>\r\nContact: <sip:a>\r\n")
        ack = parse(ack_for(invite, answer(invite, 486, b"99")).serialize())
        self.assertEqual(ack.start_line(), b"ACK sip:bob@b.example SIP/2.0")
        self.assertEqual(ack.values("via"), invite.values("via")[:1])
        self.assertEqual(ack.to.tag, b"99")
        self.assertEqual(ack.cseq.serialize(), b"5 ACK")
        self.assertEqual(ack.values("route"), [b"<sip:p;lr>"])
        self.assertIsNone(ack.get("contact"))

    def test_cancel(self):
        invite = request(extra=b"Route: <sip:p;lr>\r\nRequire: x\r\n")
        cancel = parse(cancel_for(invite).serialize())
        self.assertEqual(cancel.start_line(), b"CANCEL sip:bob@b.example SIP/2.0")
        self.assertEqual(cancel.values("via"), invite.values("via")[:1])
        self.assertEqual(cancel.to.tag, b"")
        self.assertEqual(cancel.cseq.serialize(), b"5 CANCEL")
        self.assertIsNone(cancel.get("require"))


class InviteClientTest(unittest.TestCase):
    def make(self, reliable=False):
        self.request = request()
        return Run(InviteClient(self.request, reliable, 0))

    def test_timers_a_and_b(self):
        run = self.make()
        run.until(100000)
        self.assertEqual(run.times(), [0, 500, 1500, 3500, 7500, 15500, 31500])
        self.assertEqual(run.events, [TIMEOUT])
        self.assertEqual((run.machine.state, run.machine.timer_at), (TERMINATED, None))

    def test_reliable_sends_once(self):
        run = self.make(True)
        run.until(31999)
        self.assertEqual(run.times(), [0])
        self.assertEqual(run.machine.state, CALLING)
        run.until(32000)
        self.assertEqual(run.events, [TIMEOUT])

    def test_provisional_stops_both_timers(self):
        run = self.make()
        run.until(600)
        run.receive(answer(self.request, 180))
        self.assertEqual(run.machine.state, PROCEEDING)
        run.until(10**6)
        self.assertEqual(run.times(), [0, 500])
        run.receive(answer(self.request, 183))
        self.assertEqual([event.status for event in run.events], [180, 183])

    def test_success(self):
        """RFC 6026: every 2xx, of every fork, goes to the user until Timer M."""
        run = self.make()
        run.receive(answer(self.request, 200, b"one"))
        self.assertEqual(run.machine.state, ACCEPTED)
        run.receive(answer(self.request, 200, b"two"))
        run.receive(answer(self.request, 180))
        run.receive(answer(self.request, 404))
        self.assertEqual([event.to.tag for event in run.events], [b"one", b"two"])
        self.assertEqual(run.times(), [0], "the ACK to a 2xx is the user's")
        run.until(31999)
        self.assertEqual(run.machine.state, ACCEPTED)
        run.until(32000)
        self.assertEqual(run.machine.state, TERMINATED)

    def test_failure_is_acked_each_time(self):
        run = self.make()
        run.receive(answer(self.request, 486))
        self.assertEqual(run.machine.state, COMPLETED)
        run.until(1000)
        run.receive(answer(self.request, 486))
        run.receive(answer(self.request, 200))
        self.assertEqual([event.status for event in run.events], [486])
        self.assertEqual(run.times(), [0, 0, 1000])
        self.assertTrue(run.sent[1][1].startswith(b"ACK sip:bob@b.example SIP/2.0\r\n"))
        self.assertEqual(run.sent[1][1], run.sent[2][1])
        run.until(31999)
        self.assertEqual(run.machine.state, COMPLETED)
        run.until(32000)
        self.assertEqual(run.machine.state, TERMINATED)

    def test_failure_on_a_reliable_transport(self):
        run = self.make(True)
        run.receive(answer(self.request, 503))
        self.assertEqual(run.machine.state, TERMINATED)
        self.assertEqual(len(run.sent), 2)

    def test_transport_error(self):
        run = self.make()
        run.machine.transport_failed()
        run.take()
        self.assertEqual(run.events, [TRANSPORT_ERROR])
        run.machine.transport_failed()
        run.take()
        self.assertEqual(run.events, [TRANSPORT_ERROR])
        self.assertEqual(run.machine.state, TERMINATED)


class NonInviteClientTest(unittest.TestCase):
    def make(self, reliable=False):
        self.request = request("OPTIONS")
        return Run(NonInviteClient(self.request, reliable, 0))

    def test_timers_e_and_f(self):
        run = self.make()
        run.until(100000)
        self.assertEqual(run.times(), [0, 500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500])
        self.assertEqual(run.events, [TIMEOUT])

    def test_reliable(self):
        run = self.make(True)
        run.until(100000)
        self.assertEqual(run.times(), [0])
        self.assertEqual(run.events, [TIMEOUT])

    def test_provisional_slows_down_and_timer_f_goes_on(self):
        run = self.make()
        run.until(100)
        run.receive(answer(self.request, 100))
        run.until(100000)
        self.assertEqual(run.times(), [0, 4100, 8100, 12100, 16100, 20100, 24100, 28100])
        self.assertEqual(run.events[1:], [TIMEOUT])

    def test_final(self):
        run = self.make()
        run.receive(answer(self.request, 200))
        run.receive(answer(self.request, 200))
        run.receive(answer(self.request, 404))
        self.assertEqual([event.status for event in run.events], [200])
        self.assertEqual(run.machine.state, COMPLETED)
        run.until(5000)
        self.assertEqual(run.machine.state, TERMINATED)
        self.assertEqual(run.times(), [0])

    def test_final_on_a_reliable_transport(self):
        run = self.make(True)
        run.receive(answer(self.request, 404))
        self.assertEqual(run.machine.state, TERMINATED)


class InviteServerTest(unittest.TestCase):
    def make(self, reliable=False):
        self.request = request()
        return Run(InviteServer(self.request, reliable, 0))

    def statuses(self, run):
        return [int(data[8:11]) for _, data in run.sent]

    def test_trying_after_200_ms(self):
        run = self.make()
        run.until(199)
        run.receive(self.request)
        self.assertEqual(run.sent, [])
        run.until(10000)
        self.assertEqual(run.times(), [200])
        self.assertEqual(self.statuses(run), [100])
        run.receive(self.request)
        self.assertEqual(self.statuses(run), [100, 100])

    def test_no_trying_after_an_answer(self):
        run = self.make()
        run.respond(answer(self.request, 180))
        run.until(1000)
        run.receive(self.request)
        self.assertEqual(self.statuses(run), [180, 180])
        self.assertEqual(run.machine.status, 180)

    def test_success(self):
        run = self.make()
        run.respond(answer(self.request, 200))
        self.assertEqual(run.machine.state, ACCEPTED)
        run.receive(self.request)
        self.assertEqual(self.statuses(run), [200], "an INVITE again is absorbed; the user repeats its 2xx")
        run.respond(answer(self.request, 200))
        self.assertEqual(self.statuses(run), [200, 200])
        run.receive(request("ACK"))
        self.assertEqual([event.method for event in run.events], ["ACK"])
        self.assertRaises(StateError, run.machine.respond, answer(self.request, 404), 0)
        run.until(31999)
        self.assertEqual(run.machine.state, ACCEPTED)
        run.until(32000)
        self.assertEqual(run.machine.state, TERMINATED)
        self.assertEqual(len(run.events), 1)

    def test_failure_without_ack(self):
        """Timers G and H."""
        run = self.make()
        run.respond(answer(self.request, 486))
        run.until(100000)
        self.assertEqual(run.times(), [0, 500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500])
        self.assertEqual(run.events, [TIMEOUT])
        self.assertEqual(run.machine.state, TERMINATED)

    def test_failure_with_ack(self):
        run = self.make()
        run.respond(answer(self.request, 486))
        run.receive(self.request)
        self.assertEqual(self.statuses(run), [486, 486])
        run.receive(request("ACK"))
        self.assertEqual(run.machine.state, CONFIRMED)
        run.receive(request("ACK"))
        run.until(4999)
        self.assertEqual(run.machine.state, CONFIRMED)
        run.until(5000)
        self.assertEqual(run.machine.state, TERMINATED)
        self.assertEqual((self.statuses(run), run.events), ([486, 486], []))

    def test_reliable(self):
        run = self.make(True)
        run.respond(answer(self.request, 486))
        run.until(31999)
        self.assertEqual(self.statuses(run), [486])
        run.receive(request("ACK"))
        self.assertEqual(run.machine.state, TERMINATED)

    def test_second_final(self):
        run = self.make()
        run.respond(answer(self.request, 486))
        self.assertRaises(StateError, run.machine.respond, answer(self.request, 200), 0)


class NonInviteServerTest(unittest.TestCase):
    def make(self, reliable=False):
        self.request = request("BYE")
        return Run(NonInviteServer(self.request, reliable, 0))

    def test_retransmission_before_and_after_the_answer(self):
        run = self.make()
        self.assertEqual(run.machine.state, TRYING)
        run.receive(self.request)
        self.assertEqual(run.sent, [])
        run.respond(answer(self.request, 100))
        run.receive(self.request)
        run.respond(answer(self.request, 200))
        run.receive(self.request)
        self.assertEqual([int(data[8:11]) for _, data in run.sent], [100, 100, 200, 200])
        self.assertRaises(StateError, run.machine.respond, answer(self.request, 404), 0)
        run.until(31999)
        self.assertEqual(run.machine.state, COMPLETED)
        run.until(32000)
        self.assertEqual((run.machine.state, run.events), (TERMINATED, []))

    def test_reliable(self):
        run = self.make(True)
        run.respond(answer(self.request, 200))
        self.assertEqual(run.machine.state, TERMINATED)

    def test_timer_early(self):
        run = self.make()
        run.respond(answer(self.request, 200))
        run.machine.handle_timer(5)
        self.assertEqual(run.machine.state, COMPLETED)


class LossyPairTest(unittest.TestCase):
    """A client and a server joined by a line that loses messages: the transaction ends as on a perfect one."""

    def run_pair(self, client_class, server_class, method, status, lose):
        invite = request(method)
        client = client_class(invite, False, 0)
        server = None
        now = 0
        count = 0
        got = []
        while now < 40000:
            for data in client.take_outgoing():
                count += 1
                if lose(count):
                    continue
                message = parse(data)
                if server is None:
                    server = server_class(message, False, now)
                    server.respond(message.response(status, "x", b"t"), now)
                else:
                    server.receive(message, now)
            if server is not None:
                for data in server.take_outgoing():
                    count += 1
                    if not lose(count):
                        client.receive(parse(data), now)
            got += client.take_events()
            due = [m.timer_at for m in (client, server) if m is not None and m.timer_at is not None]
            if not due:
                break
            now = max(now, min(due))
            for machine in (client, server):
                if machine is not None and machine.timer_at is not None and machine.timer_at <= now:
                    machine.handle_timer(now)
        return client, server, got

    def test_loss(self):
        for method, client, server, status in (
            ("INVITE", InviteClient, InviteServer, 486),
            ("OPTIONS", NonInviteClient, NonInviteServer, 200),
        ):
            for seed in range(60):
                state = [seed * 7919 + 1]

                def lose(_, state=state):
                    state[0] = (state[0] * 1103515245 + 12345) & 0x7FFFFFFF
                    return (state[0] >> 16) % 10 < 3

                one, two, got = self.run_pair(client, server, method, status, lose)
                self.assertEqual([event.status for event in got], [status])
                self.assertEqual((one.state, two.state), (TERMINATED, TERMINATED))
                self.assertFalse(two.take_events())


if __name__ == "__main__":
    unittest.main()
