import unittest

from sipwire.editing import remove, remove_first, set_via, set_via_param, tokens
from sipwire.errors import ParseError
from sipwire.message import MAX_HEAD_BYTES, MAX_HEADERS, MAX_MESSAGE_BYTES, Request, Response, parse
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


def changed(old, new):
    data = INVITE.replace(old, new)
    assert data != INVITE
    return data


class VectorTest(unittest.TestCase):
    def judge(self, case, data):
        try:
            message = parse(data)
        except ParseError as error:
            self.assertNotEqual(case["parse"], "accept", case["name"] + ": " + error.reason)
            wanted = case["expect"].get("any", case["expect"].get("udp", ""))
            if case["name"] not in ("mismatch02", "baddn") and case["parse"] == "reject":
                self.assertEqual(str(error.status), wanted[:3], case["name"])
            if case["parse"] == "reject":
                self.assertIsInstance(error.request, Request)
            return None
        self.assertNotEqual(case["parse"], "reject", case["name"])
        self.assertEqual(message.serialize(), data, case["name"])
        return message

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
            caught.exception.request.response(513, "Message Too Large").check()
        many = b"".join([b"X-%d: y\r\n" % i for i in range(MAX_HEADERS)])
        with self.assertRaises(ParseError) as caught:
            parse(changed(b"X-Unknown", many + b"X-Unknown"))
        self.assertEqual(caught.exception.reason, "too large headers")

    def test_what_can_be_answered_comes_with_the_error(self):
        for data, reason in (
            (changed(b"314159 INVITE", b"314159 BYE"), b"mismatched CSeq"),
            (changed(b"X-Unknown:", b"X-Unknown"), b"malformed header"),
            (changed(b"To: ", b"To: <sip:x@y>\r\nTo: "), b"second to"),
        ):
            with self.subTest(reason.decode()):
                with self.assertRaises(ParseError) as caught:
                    parse(data)
                response = caught.exception.request.response(400, caught.exception.reason)
                response.check()
                self.assertTrue(
                    response.serialize().startswith(b"SIP/2.0 400 %s\r\nVia: SIP/2.0/UDP pc.a.example" % reason)
                )

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
