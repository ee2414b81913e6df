"""How the terminal and its neighbour come to an agreement (WIRE section 1.1), and whom the terminal believes."""

import unittest

from far import CONTACT
from scripted import ADDRESS, DATE_S, DOMAIN, KEEPALIVE_MS, SECRET, UnregisteredCase

from sipwire.agreement import client_offer, hop_nonce, hop_spi, parse_mechanisms, server_offer
from sipwire.digest import MD5, ha1
from sipwire.digest_server import parse_credentials
from sipwire.hop import HopSender, derive_keys
from support import new_aes


class StepsTest(UnregisteredCase):
    def test_step_1(self):
        request = self.world.ask()
        self.assertEqual(request.start_line(), b"REGISTER sip:a.example SIP/2.0")
        for name, values in (
            ("max-forwards", [b"70"]),
            ("to", [b"<sip:alice@a.example>"]),
            ("contact", [b"<" + CONTACT + b">"]),
            ("expires", [b"600"]),
            ("require", [b"sec-agree"]),
            ("proxy-require", [b"sec-agree"]),
            ("content-length", [b"0"]),
            ("authorization", []),
            ("security-verify", []),
        ):
            self.assertEqual(request.get_all(name), values)
        self.assertEqual((request.from_.uri, len(request.from_.tag)), (b"sip:alice@a.example", 8))
        via = request.via
        self.assertEqual((via.transport, via.sent_by, via.param("rport")), (b"UDP", ADDRESS + b":5060", b""))
        [value] = request.get_all("security-client")
        [offer] = parse_mechanisms([value])
        self.assertEqual(value, client_offer(hop_spi(offer), hop_nonce(offer)))
        self.assertTrue(value.startswith(b"wisp-hop;q=0.9;alg=hmac-sha-256-128;ealg=aes-ctr-128;spi="))

    def test_step_3(self):
        world = self.world
        first = world.ask()
        world.deliver_plain(world.challenge(first))
        [sent] = world.take()
        self.assertIsNone(sent.agreement)
        again = sent.message
        self.assertEqual(again.cseq.number, first.cseq.number + 1)
        self.assertNotEqual(again.via.branch, first.via.branch)
        for name in ("call-id", "from", "to", "contact", "expires", "require", "proxy-require", "security-client"):
            self.assertEqual(again.get_all(name), first.get_all(name))
        world.agree(again)  # checks credentials (auth-int) and Security-Verify
        self.assertEqual(world.printed.take(), [])

    def test_step_4(self):
        world = self.world
        request, agreement = world.prove()
        self.assertFalse(world.link.is_open)
        world.deliver(world.welcome(request, agreement), agreement)
        self.assertEqual((self.registration.state, world.calendar.seconds(world.now)), ("registered", DATE_S))
        self.assertEqual(
            world.printed.take(), [{"event": "registered", "aor": "sip:alice@a.example", "expires_s": 600}]
        )
        self.assertTrue(world.link.is_open)
        self.assertEqual(world.take(), [])

    def test_security_verify_is_what_came_byte_for_byte(self):
        for value in (
            b"digest;d-qop=auth , " + server_offer(77) + b" ,tls;q=0.1",
            b'Wisp-Hop; q = 0.9;alg=hmac-sha-256-128 ;\tealg=aes-ctr-128;spi=0077;x="a,b;c"',
        ):
            world = self.start_anew()
            world.deliver_plain(world.challenge(world.ask(), servers=[value]))
            self.assertEqual(world.take_one().get_all("security-verify"), [value])

    def test_user_that_authenticates_under_another_name(self):
        secret = ha1(b'al"ice\\', DOMAIN, b"x")
        world = self.start_anew(auth_user='al"ice\\', ha1=secret.decode())
        world.deliver_plain(world.challenge(world.ask(), opaque=b'o"p'))
        request = world.take_one()
        credentials = parse_credentials(request.get("authorization"))
        self.assertEqual((credentials.username, credentials.opaque), (b'al"ice\\', b'o"p'))
        self.assertEqual(request.to.uri, b"sip:alice@a.example")
        agreement = world.agree(request, secret)
        response = world.granted(request)
        response.add("Authentication-Info", b"rspauth=" + world.proof(agreement, secret))
        world.deliver(response, agreement)
        self.assertEqual(self.registration.state, "registered")

    def test_what_identifies_is_fresh_each_time(self):
        """SPI, nonce, cnonce and branches never come twice; Call-ID and From tag stay, CSeq rises (section 10.2)."""
        world = self.world
        seen = []
        last = 0
        first = None
        for _ in range(10):
            request, _ = world.prove()
            first = first or request
            [offer] = parse_mechanisms([request.get("security-client")])
            credentials = parse_credentials(request.get("authorization"))
            seen += [hop_spi(offer), hop_nonce(offer), credentials.cnonce, request.via.branch]
            self.assertGreater(request.cseq.number, last)
            last = request.cseq.number
            self.assertEqual((request.call_id, request.from_.tag), (first.call_id, first.from_.tag))
            world.deliver_plain(request.response(500, "No", b"nt"))
        self.assertEqual(len(set(seen)), 40)


class ChallengeTest(UnregisteredCase):
    """What is answered, and what never is."""

    def test_refused(self):
        good = server_offer(7)
        for reason, changes in (
            ("challenge", {"realm": b"b.example"}),
            ("challenge", {"realm": b"A.example"}),
            ("challenge", {"realm": b""}),
            ("challenge", {"algorithm": MD5}),
            ("challenge", {"algorithm": b"SHA-256-sess"}),
            ("challenge", {"algorithm": b"SHA-512-256"}),
            ("challenge", {"algorithm": b"x"}),
            ("digest", {"qop": (b"auth",)}),
            ("digest", {"qop": ()}),
            ("challenge", {"challenges": []}),
            ("challenge", {"challenges": [b'Basic realm="a.example"']}),
            ("challenge", {"challenges": [b'Digest realm="a.example", nonce=']}),
            ("challenge", {"servers": []}),
            ("challenge", {"servers": [good, server_offer(8)]}),
            ("mechanism", {"servers": [b"tls;q=0.9"]}),
            ("mechanism", {"servers": [b"tls, digest;d-qop=auth-int, wisp-hop2;q=0.9"]}),
            (None, {"servers": [b""]}),
            (None, {"servers": [b"wisp-hop"]}),
            (None, {"servers": [good.replace(b"spi=7", b"spi=0")]}),
            (None, {"servers": [good.replace(b"spi=7", b"spi=4294967296")]}),
            (None, {"servers": [good.replace(b";spi=7", b"")]}),
            (None, {"servers": [good.replace(b"hmac-sha-256-128", b"null")]}),
            (None, {"servers": [good.replace(b"aes-ctr-128", b"null")]}),
            (None, {"servers": [good + b", " + good.replace(b"q=0.9", b"q=9")]}),
            (None, {"servers": [good + b","]}),
        ):
            with self.subTest(changes):
                world = self.world
                world.deliver_plain(world.challenge(world.ask(), **changes))
                self.assertRefused(reason)
        self.world.register()

    def test_of_several_the_one_that_is_ours(self):
        world = self.world
        request = world.ask()
        good = world.challenge(request)
        others = [
            b'Digest realm="a.example", nonce="n", algorithm=MD5, qop="auth,auth-int"',
            b'Digest realm="b.example", nonce="n", algorithm=SHA-256, qop="auth,auth-int"',
            b"Basic realm=x",
        ]
        for value in others:
            good.insert("WWW-Authenticate", value)
        world.deliver_plain(good)
        world.agree(world.take_one())

    def test_proxy_challenge(self):
        world = self.world
        request = world.ask()
        response = request.response(407, "Proxy Authentication Required", b"nt")
        for name in ("Proxy-Authenticate", "WWW-Authenticate"):
            response.add(name, world.challenge(request).get("www-authenticate"))
        response.add("Security-Server", server_offer(7))
        world.deliver_plain(response)
        self.assertRefused("407")

    def test_second_one(self):
        """Whoever doesn't like our credentials, or has none of our secret, gets no more of them."""
        world = self.world
        for changes in ({}, {"stale": True, "realm": b"b.example"}):
            request, _ = world.prove()
            world.deliver_plain(world.challenge(request, **changes))
            self.assertRefused("401")
        world.register()

    def test_stale_one_is_answered_once(self):
        """With a new step 1: not one proof of the secret is sent for a nonce that came with the claim."""
        world = self.world
        request, _ = world.prove()
        world.deliver_plain(world.challenge(request, stale=True))
        self.assertEqual(world.printed.take(), [])
        again = world.ask()
        self.assertIsNone(again.get("authorization"))
        self.assertNotEqual(again.get("security-client"), request.get("security-client"))
        world.deliver_plain(world.challenge(again))
        proved = world.take_one("REGISTER")
        world.agree(proved)
        world.deliver_plain(world.challenge(proved, stale=True))
        self.assertRefused("401")
        world.register()

    def test_stale_once_more_after_success(self):
        world = self.world
        for _ in range(3):
            request, _ = world.prove()
            world.deliver_plain(world.challenge(request, stale=True))
            request, agreement = world.prove()
            world.deliver(world.welcome(request, agreement), agreement)
            self.assertEqual(self.registration.state, "registered")
            world.printed.take()
            world.advance(4 * KEEPALIVE_MS)
            world.take()
            self.assertRefused("neighbour lost")

    def test_endless_ones_make_no_endless_registers(self):
        """An hour of a neighbour that says 401 to everything, and swears that each nonce was stale."""
        world = self.world
        for stale in (False, True):
            requests = 0
            end = world.now + 3600000
            while world.now < end:
                world.advance(500)
                for sent in world.take():
                    requests += 1
                    world.deliver_plain(world.challenge(sent.message, stale=stale))
            self.assertLess(requests, 400)
            self.assertGreater(requests, 40)


class AcceptanceTest(UnregisteredCase):
    """Whom the terminal believes that it is registered."""

    def test_plain_200(self):
        world = self.world
        world.deliver_plain(world.granted(world.ask()))
        self.assertRefused("200")
        request, agreement = world.prove()
        world.deliver_plain(world.welcome(request, agreement))
        self.assertRefused("200 without a frame")
        world.register()

    def test_frame_of_an_earlier_attempt(self):
        world = self.world
        request, first = world.prove()
        world.deliver_plain(world.challenge(request, stale=True))
        request, second = world.prove()
        self.assertFalse(world.deliver(world.welcome(request, second), first))
        self.assertEqual((world.link.dropped, self.registration.state), (1, "proving"))
        world.deliver(world.welcome(request, second), second)
        self.assertEqual(self.registration.state, "registered")

    def test_frame_under_other_keys(self):
        """Somebody without the secret knows SPI and nonces, and no key."""
        world = self.world
        world.deliver_plain(world.challenge(world.ask()))
        request = world.take_one()
        good = world.agree(request)
        nonce, client, server = world.nonce, request.get("security-client"), world.server
        [offer] = parse_mechanisms([client])
        for secret, user, realm, challenge in (
            (ha1(b"alice", DOMAIN, b"guess"), b"alice", DOMAIN, nonce),
            (SECRET, b"bob", DOMAIN, nonce),
            (SECRET, b"alice", b"b.example", nonce),
            (SECRET, b"alice", DOMAIN, nonce + b"x"),
        ):
            _, back = derive_keys(secret, user, realm, hop_nonce(offer), challenge, client, server)
            forged = HopSender(hop_spi(offer), back, new_aes)
            self.assertFalse(world.receive(forged.seal(world.welcome(request, good).serialize())))
            self.assertEqual(self.registration.state, "proving")
        self.assertEqual(world.link.dropped, 4)
        world.deliver(world.welcome(request, good), good)
        self.assertEqual(self.registration.state, "registered")

    def test_rspauth(self):
        """In capitals, without quotes, and with others around it (RFC 7616 section 3.5)."""
        for form in (b"rspauth=%s", b'RSPAUTH="%s"', b'nextnonce="x, rspauth=y" , rspauth="%s",qop=auth-int'):
            world = self.start_anew()
            request, agreement = world.prove()
            response = world.granted(request)
            response.add("Authentication-Info", form % world.proof(agreement).upper())
            world.deliver(response, agreement)
            self.assertEqual(self.registration.state, "registered")

    def test_wrong_or_missing_rspauth(self):
        world = self.world
        for make in (
            lambda good, ours: None,
            lambda good, ours: b"",
            lambda good, ours: b"rspauth",
            lambda good, ours: b'rspauth=""',
            lambda good, ours: b'rspauth="' + good[:-1] + b'"',
            lambda good, ours: b'rspauth="' + good + b'0"',
            lambda good, ours: b'rspauth="' + good[1:] + good[:1] + b'"',
            lambda good, ours: b'rspauth="' + ours + b'"',  # our proof, reflected
            lambda good, ours: b'xrspauth="' + good + b'"',
            lambda good, ours: b'rspauth="' + good,
            lambda good, ours: b'qop="x",, rspauth="' + good + b'"',
        ):
            request, agreement = world.prove()
            value = make(world.proof(agreement), agreement.credentials.response)
            response = world.granted(request)
            if value is not None:
                response.add("Authentication-Info", value)
            world.deliver(response, agreement)
            self.assertRefused()

    def test_contact_missing_or_changed(self):
        world = self.world
        for contact in (
            b"<sip:mallory@192.0.2.66:5060>",
            b"<sip:alice@192.0.2.7:5061>",
            b"<sip:alice@192.0.2.7>",
            b"<" + CONTACT + b";x>",
            b"*",
            b"<" + CONTACT,
            None,
        ):
            request, agreement = world.prove()
            response = world.welcome(request, agreement, contact=contact or b"<x:y>")
            if contact is None:
                response.fields = [field for field in response.fields if field[0] != "contact"]
            world.deliver(response, agreement)
            self.assertRefused()

    def test_contact_beside_others_of_the_user(self):
        world = self.world
        request, agreement = world.prove()
        others = b"<sip:alice@192.0.2.8>;expires=17, <" + CONTACT + b">"
        world.deliver(world.welcome(request, agreement, contact=others), agreement)
        self.assertEqual(self.registration.state, "registered")

    def test_expires_changed(self):
        """What nobody asked for is not believed, nor asked for next time."""
        world = self.world
        for expires in (b"601", b"86400", b"0", b"-600", b"+600", b" ", b"6e2", b"0600.0", b"9999999999999999999999"):
            request, agreement = world.prove()
            world.deliver(world.welcome(request, agreement, expires=expires), agreement)
            self.assertRefused()
            request = world.ask()
            self.assertEqual(request.get("expires"), b"600")
            world.deliver_plain(request.response(500, "No", b"nt"))
            self.assertRefused()

    def test_expires_missing(self):
        world = self.world
        request, agreement = world.prove()
        response = request.response(200, "OK", b"nt")
        response.add("Contact", b"<%s>" % CONTACT)
        response.add("Authentication-Info", b"rspauth=" + world.proof(agreement))
        world.deliver(response, agreement)
        self.assertRefused("Contact or Expires differ")

    def test_less_granted_is_asked_for_next_time(self):
        """An honest neighbour with a lower limit is served, without believing what nobody asked for."""
        world = self.world
        request, agreement = world.prove()
        world.deliver(world.welcome(request, agreement, expires=b"300"), agreement)
        self.assertRefused("Contact or Expires differ")
        request, agreement = world.prove()
        self.assertEqual(request.get("expires"), b"300")
        world.deliver(world.welcome(request, agreement), agreement)
        self.assertEqual(self.registration.state, "registered")
        self.assertEqual(world.printed.take()[-1]["expires_s"], 300)

    def test_provisional_answers_change_nothing(self):
        world = self.world
        first = world.ask()
        world.deliver_plain(first.response(100, "Trying"))
        world.deliver_plain(first.response(199, "Later", b"nt"))
        world.deliver_plain(world.challenge(first))
        request = world.take_one()
        agreement = world.agree(request)
        world.deliver_plain(request.response(100, "Trying"))
        self.assertEqual(self.registration.state, "proving")
        world.deliver(world.welcome(request, agreement), agreement)
        self.assertEqual(self.registration.state, "registered")


if __name__ == "__main__":
    unittest.main()
