"""Session timers (RFC 4028): mostly the far end refreshes, and the terminal hangs up when it does not."""

import unittest

from far import CONTACT, PEER_CONTACT, accept, answer, invite, offer, request
from scripted import LIFE_MS, WorldCase

TIMER = ("Supported", b"timer")


def expires(value):
    return ("Session-Expires", value)


class Case(WorldCase):
    def take_call(self, *extra):
        """Answer a call of the far end with these headers; returns its `Call` and the terminal's 200."""
        world = self.world
        call = world.ring(extra=list(extra))
        self.phone.answer(world.now)
        ok = world.take_one()
        world.deliver(call.ack())
        world.printed.take()
        return call, ok

    def make_call(self, *extra):
        """Call the far end, which answers with these headers; returns the INVITE."""
        world = self.world
        sent = world.dial()
        world.deliver(accept(sent, extra=list(extra)))
        self.assertSent("ACK")
        world.printed.take()
        return sent

    def refresh(self, call, method, *extra):
        """The far end refreshes; returns the terminal's response."""
        body = offer() if method == "INVITE" else b""
        self.world.deliver(call.request(method, body=body, extra=[("Contact", PEER_CONTACT)] + list(extra)))
        response = self.world.take_one()
        if method == "INVITE":
            self.world.deliver(call.ack())
        return response

    def assertExpires(self, ms, reason="session expired"):
        """The terminal hangs up just then, unless something comes before."""
        world = self.world
        world.advance(ms - 1)
        self.assertEqual((world.take(), self.phone.state), ([], "talking"))
        world.advance(1)
        self.assertSent("BYE")
        self.assertEvents(("ended", {"reason": reason}))
        self.assertIdle()
        self.forget()

    def assertLasts(self):
        """No timer: two hours later the call is on."""
        world = self.world
        world.advance(7200000)
        self.assertEqual((world.take(), self.phone.state), ([], "talking"))
        self.phone.hang_up(world.now)
        self.forget()


class CalleeTest(Case):
    def test_who_refreshes(self):
        """Section 9, table 2, and what the 2xx says: the far end's wish, else itself, else us where it can't."""
        for headers, answered, required in (
            ([], None, None),
            ([TIMER], None, None),
            ([TIMER, expires(b"1800")], b"1800;refresher=uac", b"timer"),
            ([TIMER, expires(b"1800;refresher=uac")], b"1800;refresher=uac", b"timer"),
            ([TIMER, expires(b"1800;refresher=uas")], b"1800;refresher=uas", b"timer"),
            ([TIMER, expires(b"90 ; Refresher = UAS")], b"90;refresher=uas", b"timer"),
            ([("Require", b"timer"), expires(b"100")], b"100;refresher=uac", b"timer"),
            ([("k", b"replaces, Timer"), ("x", b"100")], b"100;refresher=uac", b"timer"),
            ([expires(b"1800")], b"1800;refresher=uas", None),
            ([expires(b"60")], None, None),
        ):
            _, ok = self.take_call(*headers)
            self.assertEqual((ok.get("session-expires"), ok.get("require")), (answered, required), headers)
            self.assertEqual(ok.get("supported"), b"timer")
            self.phone.hang_up(self.world.now)
            self.forget()

    def test_no_refresh_comes(self):
        """Section 10: BYE, the smaller of 32 s and a third of the interval before its end."""
        for seconds, ms in ((90, 60000), (95, 95000 - 31666), (96, 64000), (1800, 1768000)):
            self.take_call(TIMER, expires(b"%d" % seconds))
            self.assertExpires(ms)

    def test_refreshed(self):
        """By re-INVITE, or by UPDATE without an offer; each says for how long, and by whom."""
        world = self.world
        call, _ = self.take_call(TIMER, expires(b"120;refresher=uac"))
        for method in ("INVITE", "UPDATE", "UPDATE", "INVITE"):
            world.advance(70000)
            response = self.refresh(call, method, TIMER, expires(b"120;refresher=uac"))
            self.assertEqual((response.status, response.get("session-expires")), (200, b"120;refresher=uac"))
            self.assertEqual(response.get("require"), b"timer")
            self.assertEqual(response.body != b"", method == "INVITE")
        self.assertEqual(world.printed.take(), [])
        self.refresh(call, "UPDATE", TIMER, expires(b"600"))
        self.assertExpires(600000 - 32000)

    def test_what_is_no_refresh(self):
        world = self.world
        call, _ = self.take_call(TIMER, expires(b"120"))
        world.advance(50000)
        for method in ("OPTIONS", "INFO"):
            world.deliver(call.request(method, extra=[TIMER, expires(b"120")]))
            self.assertSent((200, method))
        world.deliver(call.request("INVITE", body=offer().replace(b"SAVP", b"AVP"), extra=[TIMER, expires(b"120")]))
        self.assertSent((488, "INVITE"))
        world.deliver(request("ACK", call.call_id, call.local, call.remote, call.cseq))
        world.agent._servers.clear()
        self.assertExpires(38000)

    def test_turned_off(self):
        """Section 7.2: a refresh without Session-Expires, and so its 2xx, ends the timer."""
        call, _ = self.take_call(TIMER, expires(b"90"))
        response = self.refresh(call, "UPDATE")
        self.assertIsNone(response.get("session-expires"))
        self.assertLasts()

    def test_too_small(self):
        """422 with Min-SE, of a first INVITE and of a change; what stands goes on."""
        world = self.world
        for value in (b"89", b"1", b"0", b"60;refresher=uas"):
            world.deliver(invite(extra=[TIMER, expires(value)]))
            response = world.take_one()
            self.assertEqual((response.status, response.get("min-se")), (422, b"90"))
            self.assertIdle()
            self.forget()
        call, _ = self.take_call(TIMER, expires(b"90"))
        for method in ("INVITE", "UPDATE"):
            response = self.refresh(call, method, TIMER, expires(b"89"))
            self.assertEqual((response.status, response.get("min-se")), (422, b"90"))
        world.agent._servers.clear()
        self.assertExpires(60000)

    def test_malformed(self):
        world = self.world
        for value in (b"x", b"-1", b"", b"1800;", b"1800;=", b"99999999999", b"1800 refresher=uac", b";refresher=uac"):
            world.deliver(invite(extra=[TIMER, expires(value)]))
            self.assertSent((400, "INVITE"))
            self.assertIdle()
            self.forget()

    def test_longest(self):
        self.take_call(TIMER, expires(b"2147483647"))
        self.assertLasts()


class CallerTest(Case):
    def test_what_we_ask_for(self):
        """That the far end refreshes."""
        sent = self.world.dial()
        self.assertEqual(sent.get("session-expires"), b"1800;refresher=uas")
        self.assertEqual((sent.get("supported"), sent.get("min-se")), (b"timer", None))

    def test_what_the_far_end_says(self):
        """Section 7.2: the 2xx decides; without Session-Expires there is no timer."""
        self.make_call()
        self.assertLasts()
        self.make_call(("Require", b"timer"), expires(b"300;refresher=uas"))
        self.assertExpires(268000)
        self.make_call(expires(b"300"))  # which it may not leave out
        self.assertExpires(268000)
        for value in (b"x", b"", b"90;refresher"):
            self.make_call(expires(value))
            self.phone.hang_up(self.world.now)
            self.forget()
        self.make_call(expires(b"1;refresher=uas"))  # "MUST NOT": no less than 90 s
        self.assertExpires(60000)

    def test_each_call_has_its_own(self):
        self.make_call(expires(b"90;refresher=uas"))
        self.phone.hang_up(self.world.now)
        self.forget()
        self.make_call()
        self.assertLasts()
        self.assertEqual(self.world.dial().get("session-expires"), b"1800;refresher=uas")

    def test_refreshed(self):
        world = self.world
        sent = self.make_call(expires(b"120;refresher=uas"))
        call_to = sent.get("to") + b";tag=t1"
        for i in range(3):
            world.advance(70000)
            extra = [("Contact", PEER_CONTACT), TIMER, expires(b"120;refresher=uac")]
            world.deliver(request("UPDATE", sent.call_id, call_to, sent.get("from"), 101 + i, extra=extra))
            self.assertEqual(world.take_one().get("session-expires"), b"120;refresher=uac")
        self.assertExpires(120000 - 32000)

    def test_422(self):
        """Section 7.4: once more with what it says; the microphone, the offer and the Call-ID are the same."""
        world = self.world
        sent = world.dial()
        world.deliver(answer(sent, 180))
        world.deliver(answer(sent, 422, extra=[("Min-SE", b"3600")]))
        ack, again = self.assertSent("ACK", "INVITE")
        self.assertEqual(ack.via.branch, sent.via.branch)
        self.assertEqual((again.get("session-expires"), again.get("min-se")), (b"3600;refresher=uas", b"3600"))
        self.assertEqual((again.call_id, again.get("from"), again.body), (sent.call_id, sent.get("from"), sent.body))
        self.assertEqual((again.cseq.number, again.to.tag), (2, b""))
        self.assertEvents(("progress", {}))
        world.deliver(answer(sent, 422, extra=[("Min-SE", b"3600")]))  # our ACK was lost
        self.assertSent("ACK")
        world.deliver(accept(again, extra=[expires(b"3600;refresher=uas")]))
        self.assertEqual(world.take_one("ACK").cseq.number, 2)
        self.assertEvents(("connected", {}))
        self.assertExpires(3600000 - 32000)

    def test_422_without_end(self):
        world = self.world
        for values in ((), (b"1800",), (b"90",), (b"x",), (b"3600", b"3600")):
            sent = world.dial()
            for value in values[:-1]:
                world.deliver(answer(sent, 422, extra=[("Min-SE", value)]))
                sent = self.assertSent("ACK", "INVITE")[1]
            world.deliver(answer(sent, 422, extra=[("Min-SE", value) for value in values[-1:]]))
            world.take()
            self.assertEqual(world.printed.take()[-1]["status"], 422)
            self.forget()
            self.assertIdle()

    def test_422_crossing_a_cancel(self):
        world = self.world
        sent = world.dial()
        world.deliver(answer(sent, 180))
        self.phone.hang_up(world.now)
        self.assertSent("CANCEL")
        world.deliver(answer(sent, 422, extra=[("Min-SE", b"3600")]))
        self.assertSent("ACK")
        self.assertEqual(world.printed.take()[-1], {"event": "ended", "reason": "cancelled"})
        self.assertIdle()


class OursTest(Case):
    """Where the terminal has to refresh: the far end insists, or knows nothing of timers."""

    def refreshed(self, ms):
        world = self.world
        world.advance(ms - 1)
        self.assertEqual(world.take(), [])
        world.advance(1)
        sent = world.take_one("INVITE")
        self.assertEqual(sent.get("contact"), b"<" + CONTACT + b">")
        return sent

    def test_at_half_time(self):
        """Section 10, by a re-INVITE that changes nothing, for as long as it is answered."""
        world = self.world
        for begin in (
            lambda: self.make_call(("Require", b"timer"), expires(b"100;refresher=uac")),
            lambda: self.take_call(TIMER, expires(b"100;refresher=uas")),
            lambda: self.take_call(expires(b"100")),
        ):
            begin()
            agreed = world.media.agreed
            for _ in range(3):
                sent = self.refreshed(50000)
                self.assertEqual(sent.get("session-expires"), b"100;refresher=uac")
                world.deliver(accept(sent, extra=[expires(b"100;refresher=uac")]))
                self.assertSent("ACK")
                self.assertEqual(world.media.agreed.local_key, agreed.local_key)
            self.assertEqual(world.printed.take(), [])
            world.deliver(accept(self.refreshed(50000)))  # it has forgotten about it
            self.assertSent("ACK")
            self.assertLasts()

    def test_not_answered(self):
        world = self.world
        self.make_call(expires(b"90;refresher=uac"))
        self.refreshed(45000)
        world.advance(LIFE_MS)  # 77 s after the last refresh, so before its end
        self.assertEqual(world.take()[-1].message.method, "BYE")
        self.assertEvents(("ended", {"reason": "no answer"}))

    def test_refused(self):
        """It stays as it is; the next one comes in time."""
        world = self.world
        self.make_call(expires(b"90;refresher=uac"))
        world.deliver(answer(self.refreshed(45000), 488))
        self.assertSent("ACK")
        self.assertEqual((world.printed.take(), self.phone.state), ([], "talking"))
        world.deliver(accept(self.refreshed(LIFE_MS), extra=[expires(b"90;refresher=uac")]))
        self.assertSent("ACK")
        self.refreshed(45000)

    def test_a_refresh_is_also_a_hold(self):
        world = self.world
        self.make_call(expires(b"100;refresher=uac"))
        world.advance(40000)
        self.phone.hold(True, world.now)
        world.advance(0)
        sent = world.take_one("INVITE")
        self.assertEqual(sent.get("session-expires"), b"100;refresher=uac")
        world.deliver(accept(sent, extra=[expires(b"100;refresher=uac")]))
        self.assertSent("ACK")
        self.refreshed(50000)

    def test_they_take_over(self):
        """A refresh of theirs may say that they do it from now on."""
        world = self.world
        call, _ = self.take_call(TIMER, expires(b"100;refresher=uas"))
        world.advance(40000)
        self.assertEqual(
            self.refresh(call, "UPDATE", TIMER, expires(b"100;refresher=uac")).get("session-expires"),
            b"100;refresher=uac",
        )
        self.assertExpires(68000)


if __name__ == "__main__":
    unittest.main()
