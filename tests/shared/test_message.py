import unittest

from sipwire.editing import remove, remove_first, set_via, set_via_param, tokens
from sipwire.errors import ParseError
from sipwire.headers import Via
from sipwire.message import MAX_HEAD_BYTES, MAX_HEADERS, MAX_MESSAGE_BYTES, Request, Response, parse
from sipwire.sdp import Session
from sipwire.uri import Uri
from support import load, read

INVITE = (
    b"INVITE sip:bob@b.example SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP pc.a.example;branch=z9hG4bK1, SIP/2.0/TCP x;branch=z9hG4bK2\r\n"
    b"Max-Forwards: 70\r\n"
    b"To: Bob <sip:bob@b.example>\r\n"
    b"From: Alice <sip:alice@a.example>;tag=1928301774\r\n"
    b"Call-ID: a84b4c76e66710@pc.a.example\r\n"
    b"CSeq: 314159 INVITE\r\n"
    b"Contact: <sip:alice@pc.a.example>\r\n"
    b"X-Unknown:   kept as  it is \r\n"
    b"Content-Length: 4\r\n"
    b"\r\n"
    b"body"
)
OK = (
    b"SIP/2.0 200 OK\r\n"
    b"v: SIP/2.0/UDP pc.a.example;branch=z9hG4bK1\r\n"
    b"f: <sip:alice@a.example>;tag=1\r\n"
    b"t: <sip:bob@b.example>;tag=2\r\n"
    b"i: x\r\n"
    b"CSEQ: 1 BYE\r\n"
    b"l: 0\r\n"
    b"\r\n"
)


def without(name):
    lines = [line for line in INVITE.split(b"\r\n") if not line.startswith(name)]
    return b"\r\n".join(lines)


def case_of(name, new_name):
    for case in load("rfc4475/index.json")["messages"]:
        if case["name"] == name:
            case["name"] = new_name
            return case
    raise ValueError(name)


def changed(old, new):
    data = INVITE.replace(old, new)
    assert data != INVITE
    return data


class VectorTest(unittest.TestCase):
    def judge(self, case, data):
        """What the index says: accepted and kept as it is, or refused with a status it names and an answer to send."""
        try:
            message = parse(data)
        except ParseError as error:
            self.assertNotEqual(case["parse"], "accept", case["name"] + ": " + error.reason)
            if case["name"] == "baddn":  # the archive's file ends before its headers do
                self.assertEqual(error.reason, "no headers")
                self.judge(case_of("baddn", "baddn_complete"), read("rfc4475/variants/baddn_complete.dat"))
                return
            self.assertIn(str(error.status), " ".join(case["expect"].values()), case["name"])
            answer = error.request.refusal(error, b"t")
            self.assertEqual(answer.status, error.status)
            self.assertEqual(answer.get_all("via"), error.request.get_all("via"))
            return
        self.assertNotEqual(case["parse"], "reject", case["name"])
        self.assertEqual(message.serialize(), data, case["name"])

    def test_rfc4475(self):
        cases = load("rfc4475/index.json")["messages"]
        self.assertEqual(len(cases), 32)
        for case in cases:
            with self.subTest(case["name"]):
                self.judge(case, read("rfc4475/" + case["file"]))

    def test_rfc5118(self):
        cases = load("rfc5118/index.json")["messages"]
        self.assertEqual(len(cases), 8)
        for case in cases:
            with self.subTest(case["name"]):
                self.judge(case, read("rfc5118/" + case["fixed_file"]))

    def test_rfc3665(self):
        done = 0
        for case in load("rfc3665/index.json")["messages"]:
            if "skipped" in case:
                continue
            data = read("rfc3665/" + case["file"])
            with self.subTest(case["file"]):
                self.assertEqual(parse(data).serialize(), data)
            done += 1
        self.assertEqual(done, 177)

    def test_short_tortuous_invite(self):
        """RFC 4475 section 3.1.1.1: what the folds, escapes and short names of "wsinv" mean."""
        message = parse(read("rfc4475/msgs/wsinv.dat"))
        self.assertEqual(message.to.tag, b"1918181833n")
        self.assertEqual(message.from_.display, b'"J Rosenberg \\\\\\""')
        self.assertEqual(message.from_.tag, b"98asjd8")
        self.assertEqual(message.uint("max-forwards", 255), 68)
        self.assertEqual((message.cseq.number, message.cseq.method), (9, "INVITE"))
        self.assertEqual(len(message.values("via")), 3)
        self.assertEqual(message.via.host, b"192.0.2.2")
        self.assertEqual(message.via.branch, b"390skdjuw")
        self.assertEqual(message.get("subject"), b"")
        self.assertEqual(message.get("newfangledheader"), b"newfangled value continued newfangled value")
        self.assertEqual(message.get("unknownheaderwithunusualvalue"), b";;,,;;,;")
        contact = message.addresses("contact")[0]
        self.assertEqual(contact.display, b'"Quoted string \\"\\""')
        self.assertEqual(contact.param("newparam"), b"newvalue")
        self.assertEqual(contact.param("q"), b"0.33")
        self.assertEqual(message.addresses("route")[0].parsed_uri().param("unknownwith"), b"value")

    def test_unusual_characters(self):
        message = parse(read("rfc4475/msgs/intmeth.dat"))
        self.assertEqual(message.method, "!interesting-Method0123456789_*+`.%indeed'~")
        self.assertIn(b"NUL:\\\0", message.to.display)
        self.assertEqual(message.from_.tag, b"_token~1'+`*%!-.")

    def test_escapes_are_not_undone(self):
        message = parse(read("rfc4475/msgs/esc02.dat"))
        self.assertEqual(message.method, "RE%47IST%45R")
        self.assertEqual(len(message.addresses("contact")), 2)

    def test_body_without_length(self):
        message = parse(read("rfc4475/msgs/inv2543.dat"))
        self.assertTrue(message.body.startswith(b"v=0\r\n"))
        self.assertEqual(message.via.branch, b"")

    def test_ipv6_references(self):
        """RFC 5118: where the port is, addresses without brackets, IPv4 inside, one colon too many."""

        def message(name):
            return parse(read("rfc5118/crlf_fixed/" + name + ".dat"))

        for name, host, port in (
            ("ipv6-good", b"[2001:db8::10]", None),
            ("port-ambiguous", b"[2001:db8::10:5070]", None),
            ("port-unambiguous", b"[2001:db8::10]", 5070),
            ("ipv6-correct-abnf-2-colons", b"[2001:db8::192.0.2.1]", None),
        ):
            uri = Uri.parse(message(name).uri)
            self.assertEqual((uri.host, uri.port), (host, port), name)
        via = message("via-received-param-no-delim").via
        self.assertEqual((via.host, via.port), (b"[2001:db8::9:1]", None))
        self.assertEqual(via.param("received"), b"2001:db8::9:255")
        vias = [Via.parse(value) for value in message("mult-ip-in-header").values("via")]
        self.assertEqual(
            [(via.host, via.port) for via in vias],
            [(b"[2001:db8::9:1]", 6050), (b"192.0.2.1", None), (b"[2001:db8::9:255]", None)],
        )
        session = Session.parse(message("ipv6-in-sdp").body)
        self.assertEqual([session.address(media) for media in session.media], [b"2001:db8::20"] * 2)
        two = read("rfc5118/crlf_fixed/ipv6-correct-abnf-2-colons.dat")
        three = parse(two.replace(b"db8::192", b"db8:::192"))
        self.assertEqual(Uri.parse(three.uri).host, b"[2001:db8:::192.0.2.1]")
        self.assertEqual(three.to.parsed_uri().host, b"[2001:db8:::192.0.2.1]")

    def test_binary_body(self):
        message = parse(read("rfc4475/msgs/mpart01.dat"))
        self.assertEqual(len(message.body), 553)


class ParseTest(unittest.TestCase):
    def test_request(self):
        message = parse(INVITE)
        self.assertIsInstance(message, Request)
        self.assertEqual((message.method, message.uri, message.body), ("INVITE", b"sip:bob@b.example", b"body"))
        self.assertEqual(message.call_id, b"a84b4c76e66710@pc.a.example")
        self.assertEqual(message.serialize(), INVITE)

    def test_response(self):
        message = parse(OK)
        self.assertIsInstance(message, Response)
        self.assertEqual((message.status, message.reason), (200, b"OK"))
        self.assertEqual(message.via.branch, b"z9hG4bK1")
        self.assertEqual(message.serialize(), OK)

    def test_unknown_status_and_empty_reason(self):
        for line, status, reason in (
            (b"SIP/2.0 299 ", 299, b""),
            (b"SIP/2.0 604 Does Not  Exist", 604, b"Does Not  Exist"),
        ):
            message = parse(OK.replace(b"SIP/2.0 200 OK", line))
            self.assertEqual((message.status, message.reason), (status, reason))

    def test_crlf_before_the_start_line(self):
        self.assertEqual(parse(b"\r\n\r\n" + INVITE).serialize(), INVITE)

    def test_extra_bytes_are_dropped(self):
        self.assertEqual(parse(INVITE + b"extra").serialize(), INVITE)

    def test_truncated(self):
        for size in range(len(INVITE)):
            with self.assertRaises(ParseError):
                parse(INVITE[:size])

    INVALID = [
        (b"", 400),
        (b"\r\n\r\n", 400),
        (b"\0" * 100, 400),
        (changed(b"INVITE sip:bob@b.example SIP/2.0", b"INVITE  sip:bob@b.example SIP/2.0"), 400),
        (changed(b"INVITE sip:bob@b.example SIP/2.0", b"INVITE sip:bob@b.example SIP/2.0 "), 400),
        (changed(b"INVITE sip:bob@b.example SIP/2.0", b"INVITE sip:bob@b.example SIP/3.0"), 505),
        (changed(b"INVITE sip:bob@b.example SIP/2.0", b"INVITE sip:bob@b.example HTTP/1.1"), 400),
        (changed(b"INVITE sip:bob@b.example SIP/2.0", b"INVITE sip:bob@b.example"), 400),
        (changed(b"INVITE sip:bob@b.example SIP/2.0", b"INV ITE sip:bob@b.example SIP/2.0"), 400),
        (changed(b"INVITE sip:bob@b.example SIP/2.0", b"INVITE <sip:bob@b.example> SIP/2.0"), 400),
        (changed(b"INVITE sip:bob@b.example SIP/2.0", b"INVITE bob SIP/2.0"), 400),
        (changed(b"sip:bob@b.example SIP", b"sip:bob@b.example?Route=x SIP"), 400),
        (changed(b"sip:bob@b.example SIP", b"sip:bob@b@example SIP"), 400),
        (without(b"Via"), 400),
        (without(b"To"), 400),
        (without(b"From"), 400),
        (without(b"Call-ID"), 400),
        (without(b"CSeq"), 400),
        (changed(b"To: ", b"To: <sip:x@y>\r\nTo: "), 400),
        (changed(b"To: ", b"t: <sip:x@y>\r\nTo: "), 400),
        (changed(b"CSeq: ", b"CSeq: 1 INVITE\r\nCSeq: "), 400),
        (changed(b"Call-ID: ", b"i: 1\r\nCall-ID: "), 400),
        (changed(b"Content-Length: 4", b"Content-Length: 4\r\nl: 4"), 400),
        (changed(b"Content-Length: 4", b"Content-Length: 5"), 400),
        (changed(b"Content-Length: 4", b"Content-Length: -1"), 400),
        (changed(b"Content-Length: 4", b"Content-Length: 4 4"), 400),
        (changed(b"Content-Length: 4", b"Content-Length: 99999999999999999999"), 400),
        (changed(b"Max-Forwards: 70", b"Max-Forwards: 256"), 400),
        (changed(b"Max-Forwards: 70", b"Max-Forwards: x"), 400),
        (changed(b"314159 INVITE", b"314159 ACK"), 400),
        (changed(b"314159 INVITE", b"314159 invite"), 400),
        (changed(b"314159 INVITE", b"4294967296 INVITE"), 400),
        (changed(b"tag=1928301774", b"tag="), 400),
        (changed(b"tag=1928301774", b'tag=""'), 400),
        (changed(b"To: Bob", b"To\0: Bob"), 400),
        (changed(b"To: Bob", b"To\x0b: Bob"), 400),
        (changed(b"To: Bob", b": Bob"), 400),
        (changed(b"To: Bob", b"T o: Bob"), 400),
        (changed(b"X-Unknown:   kept", b"X-Unknown kept"), 400),
        (changed(b"kept as", b"kept\nas"), 400),
        (changed(b"kept as", b"kept\ras"), 400),
        (changed(b"Via: ", b" Via: "), 400),
        (changed(b"Via: SIP", b"Via: ,SIP"), 400),
        (changed(b", SIP/2.0/TCP x;branch=z9hG4bK2", b","), 400),
        (changed(b", SIP/2.0/TCP x;branch=z9hG4bK2", b', "'), 400),
        (changed(b"Via: SIP/2.0", b"Via: SIP/7.0"), 505),
        (changed(b"sip:bob@b.example SIP", b"tel:+1\x0b SIP"), 400),
        (changed(b"sip:bob@b.example SIP", b"urn:<a> SIP"), 400),
        (changed(b"a84b4c76e66710@", b"a84b 4c76e66710@"), 400),
        (OK.replace(b"200", b"099"), 400),
        (OK.replace(b"200", b"700"), 400),
        (OK.replace(b"200", b"2000"), 400),
        (OK.replace(b"200 OK", b"200"), 400),
        (OK.replace(b"SIP/2.0 200", b"SIP/2.1 200"), 400),
    ]

    def test_invalid(self):
        for data, status in self.INVALID:
            with self.subTest(repr(data[:60])):
                with self.assertRaises(ParseError) as caught:
                    parse(data)
                self.assertEqual(caught.exception.status, status)

    def test_limits(self):
        for large in (
            INVITE + bytes(MAX_MESSAGE_BYTES),
            changed(b"X-Unknown: ", b"X-Unknown: " + b"y" * MAX_HEAD_BYTES),
        ):
            with self.assertRaises(ParseError) as caught:
                parse(large)
            self.assertEqual(caught.exception.status, 513)
            caught.exception.request.refusal(caught.exception, b"t").check()
        many = b"".join([b"X-%d: y\r\n" % i for i in range(MAX_HEADERS)])
        with self.assertRaises(ParseError) as caught:
            parse(changed(b"X-Unknown", many + b"X-Unknown"))
        self.assertEqual(caught.exception.reason, "too large headers")

    def refusal(self, data):
        with self.assertRaises(ParseError) as caught:
            parse(data)
        return caught.exception.request.refusal(caught.exception, b"ours")

    def test_what_can_be_answered_comes_with_the_error(self):
        for data, line in (
            (changed(b"314159 INVITE", b"314159 BYE"), b"400 mismatched CSeq"),
            (changed(b"X-Unknown:", b"X-Unknown"), b"400 malformed header"),
            (changed(b"To: ", b"To: <sip:x@y>\r\nTo: "), b"400 second to"),
            (changed(b"SIP/2.0\r\nVia: SIP/2.0", b"SIP/7.0\r\nVia: SIP/7.0"), b"505 unknown version"),
            (changed(b"X-Unknown: ", b"X-Unknown: " + b"y" * MAX_HEAD_BYTES), b"513 too large message"),
        ):
            with self.subTest(line.decode()):
                response = self.refusal(data)
                self.assertTrue(response.serialize().startswith(b"SIP/2.0 " + line + b"\r\nVia: SIP/"))
                again = parse(response.serialize())
                self.assertEqual(again.to.tag, b"ours")
                self.assertEqual(len(again.values("via")), 2)

    def test_what_is_far_too_large_is_read_no_further_than_the_limit(self):
        lines = b"".join([b"X-%d: y\r\n" % i for i in range(100)])
        long = b"Y: " + b"y" * MAX_HEAD_BYTES + b"\r\n"
        for data, vias in (
            (changed(b"X-Unknown:", long + b"v: SIP/2.0/UDP late\r\nX-Unknown:"), 2),
            (INVITE.replace(b"Via:", lines + long + b"Via:"), None),
            (INVITE.replace(b"Via:", long + b"Via:"), None),
        ):
            response = self.refusal(data)
            if vias is None:
                self.assertIsNone(response)
            else:
                self.assertEqual((response.status, len(response.values("via"))), (513, vias))

    def test_what_is_malformed_is_repeated_as_it_is(self):
        """So that its sender knows the answer again; what is missing is missing there too."""
        for old, new, line in (
            (b"To: Bob <", b"To: Bob < ", b"To: Bob < sip:bob@b.example>"),
            (b"To: Bob <sip:bob@b.example>\r\n", b"", None),
            (b"From: Alice", b"From: Alice, too", b"From: Alice, too <sip:alice@a.example>;tag=1928301774"),
            (b"SIP/2.0/UDP pc", b"SIP/2.0/UDP ;;pc", b"Via: SIP/2.0/UDP ;;pc.a.example;branch=z9hG4bK1"),
            (b"CSeq: 314159 INVITE\r\n", b"", None),
        ):
            response = self.refusal(changed(old, new))
            self.assertEqual(response.status, 400)
            if line:
                self.assertIn(b"\r\n" + line, response.serialize())
            self.assertEqual(len(response.fields), 6 if line else 5)

    def test_nothing_to_answer_to(self):
        self.assertIsNone(self.refusal(without(b"Via")))
        for data in (b"\0" * 100 + b"\r\n\r\n", INVITE.replace(b"INV", b"(INV"), INVITE.replace(b"kept", b"k\npt")):
            with self.assertRaises(ParseError) as caught:
                parse(data)
            self.assertIsNone(caught.exception.request)

    def test_white_space_before_the_colon(self):
        """HCOLON allows it, and nobody may read another header than we do (CVE-2020-28361)."""
        message = parse(changed(b"Call-ID:", b"Call-ID \t:"))
        self.assertEqual(message.call_id, b"a84b4c76e66710@pc.a.example")
        self.assertIn(b"Call-ID \t: a84", message.serialize())

    def test_case_and_compact_form(self):
        message = parse(changed(b"Call-ID:", b"I:").replace(b"Contact:", b"m:").replace(b"From:", b"fROM:"))
        self.assertEqual(message.call_id, b"a84b4c76e66710@pc.a.example")
        self.assertEqual(message.addresses("contact")[0].uri, b"sip:alice@pc.a.example")
        self.assertEqual(message.from_.tag, b"1928301774")

    def test_double_crlf_in_the_body(self):
        body = b"--x\r\nA: b\r\n\r\nc\r\n\r\n--x--"
        message = parse(changed(b"Content-Length: 4\r\n\r\nbody", b"Content-Length: %d\r\n\r\n%s" % (len(body), body)))
        self.assertEqual(message.body, body)


class FieldTest(unittest.TestCase):
    def setUp(self):
        self.message = parse(INVITE)

    def test_list_is_the_same_on_one_line_and_on_many(self):
        self.assertEqual(len(self.message.values("via")), 2)
        two = parse(changed(b", SIP/2.0/TCP", b"\r\nVia: SIP/2.0/TCP"))
        self.assertEqual(two.values("via"), self.message.values("via"))
        self.assertEqual(two.via.serialize(), self.message.via.serialize())

    def test_remove_first(self):
        remove_first(self.message, "via")
        self.assertEqual(self.message.via.host, b"x")
        self.assertEqual(self.message.values("via"), [b"SIP/2.0/TCP x;branch=z9hG4bK2"])
        remove_first(self.message, "via")
        self.assertEqual(self.message.values("via"), [])
        remove_first(self.message, "via")
        self.assertRaises(ParseError, lambda: self.message.via)

    def test_insert_goes_on_top(self):
        self.message.insert("Via", b"SIP/2.0/TLS top;branch=z9hG4bK0")
        self.assertEqual(self.message.via.host, b"top")
        self.assertEqual(len(self.message.values("via")), 3)
        self.message.insert("Record-Route", b"<sip:p;lr>")
        self.assertEqual(self.message.fields[0][0], "record-route")
        self.assertEqual(parse(self.message.serialize()).values("record-route"), [b"<sip:p;lr>"])

    def test_set_via_keeps_the_others(self):
        via = self.message.via
        set_via_param(via, b"received", b"192.0.2.1")
        set_via(self.message, via)
        again = parse(self.message.serialize())
        self.assertEqual(again.via.param("received"), b"192.0.2.1")
        self.assertEqual(again.values("via")[1], b"SIP/2.0/TCP x;branch=z9hG4bK2")

    def test_set_replaces_all(self):
        self.message.add("Subject", b"one")
        self.message.add("s", b"two")
        self.message.set("Subject", b"three")
        self.assertEqual(self.message.get_all("subject"), [b"three"])
        self.message.set("CSeq", b"1 BYE")
        self.assertEqual(self.message.cseq.method, "BYE")
        self.message.set("From", b"<sip:x@y>;tag=9")
        self.assertEqual(self.message.from_.tag, b"9")
        remove(self.message, "subject")
        self.assertIsNone(self.message.get("subject"))

    def test_second_header_is_not_ignored(self):
        self.message.add("Privacy", b"id")
        self.message.add("Privacy", b"user; header")
        self.assertEqual(self.message.get_all("privacy"), [b"id", b"user; header"])

    def test_tokens(self):
        self.message.add("Require", b"sec-agree, ,100REL")
        self.message.add("Require", b"timer")
        self.assertEqual(tokens(self.message, "require"), [b"sec-agree", b"100rel", b"timer"])
        self.assertEqual(tokens(self.message, "supported"), [])

    def test_one_way_to_read_a_list(self):
        """What one reader of a list refuses, the others refuse too."""
        for value in (b'a"b', b"<a", b'a,"b'):
            self.message.set("Require", value)
            self.assertRaises(ParseError, self.message.values, "require")
            self.assertRaises(ParseError, tokens, self.message, "require")

    def test_empty_element(self):
        self.message.set("Contact", b"<sip:a@b>,,<sip:c@d>")
        self.assertRaises(ParseError, self.message.addresses, "contact")

    def test_set_body(self):
        self.message.set_body("application/sdp".encode(), b"v=0\r\n")
        again = parse(self.message.serialize())
        self.assertEqual((again.get("content-type"), again.body), (b"application/sdp", b"v=0\r\n"))
        self.assertEqual(again.get_all("content-length"), [b"5"])

    def test_uint(self):
        self.assertEqual(self.message.uint("max-forwards", 255), 70)
        self.assertIsNone(self.message.uint("expires", 100))
        self.message.set("Expires", b"101")
        self.assertRaises(ParseError, self.message.uint, "expires", 100)


class ResponseTest(unittest.TestCase):
    def test_response(self):
        request = parse(INVITE)
        response = parse(request.response(200, "OK", b"totag").serialize())
        self.assertEqual(response.values("via"), request.values("via"))
        self.assertEqual(response.to.tag, b"totag")
        self.assertEqual(response.from_.tag, request.from_.tag)
        self.assertEqual(response.call_id, request.call_id)
        self.assertEqual(response.cseq.serialize(), b"314159 INVITE")
        self.assertEqual(response.get("content-length"), b"0")
        self.assertIsNone(response.get("contact"))

    def test_trying_has_no_tag_but_the_timestamp(self):
        request = parse(changed(b"Max-Forwards", b"Timestamp: 54\r\nMax-Forwards"))
        self.assertEqual(request.response(100, "Trying", b"t").to.tag, b"")
        self.assertEqual(request.response(100, "Trying").get("timestamp"), b"54")
        self.assertIsNone(request.response(180, "Ringing").get("timestamp"))

    def test_tag_of_the_request_stays(self):
        request = parse(changed(b"To: Bob <sip:bob@b.example>", b"To: <sip:bob@b.example>;tag=old"))
        self.assertEqual(request.response(200, "OK", b"new").to.tag, b"old")


if __name__ == "__main__":
    unittest.main()
