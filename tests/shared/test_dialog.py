import unittest

from sipwire.dialog import Dialog, contact_of
from sipwire.editing import remove
from sipwire.errors import ParseError
from sipwire.message import parse

INVITE = parse(
    b"INVITE sip:bob@b.example SIP/2.0\r\nVia: SIP/2.0/UDP p;branch=z9hG4bK1\r\n"
    b"Record-Route: <sip:p2;lr>\r\nRecord-Route: <sip:p1;lr>\r\n"
    b"From: Alice <sip:alice@a.example>;tag=a\r\nTo: Bob <sip:bob@b.example>\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\n"
    b"Contact: <sip:alice@192.0.2.1>\r\nContent-Length: 0\r\n\r\n"
)


def ok(contact=b"<sip:bob@192.0.2.2>", status=200, tag=b"b"):
    response = INVITE.response(status, "OK", tag)
    response.add("Record-Route", b"<sip:p2;lr>, <sip:p1;lr>")
    response.add("Contact", contact)
    return response


class CallerTest(unittest.TestCase):
    def setUp(self):
        self.dialog = Dialog.as_caller(ok())

    def test_state(self):
        dialog = self.dialog
        self.assertEqual((dialog.call_id, dialog.local_tag, dialog.remote_tag), (b"c", b"a", b"b"))
        self.assertEqual(dialog.target, b"sip:bob@192.0.2.2")
        self.assertEqual(dialog.route_set, [b"<sip:p1;lr>", b"<sip:p2;lr>"])
        self.assertTrue(dialog.confirmed)
        self.assertFalse(Dialog.as_caller(ok(status=180)).confirmed)

    def test_request(self):
        bye = self.dialog.new_request("BYE")
        self.assertEqual(bye.start_line(), b"BYE sip:bob@192.0.2.2 SIP/2.0")
        self.assertEqual(bye.values("route"), [b"<sip:p1;lr>", b"<sip:p2;lr>"])
        self.assertEqual(bye.cseq.serialize(), b"8 BYE")
        self.assertEqual((bye.from_.tag, bye.to.tag, bye.call_id), (b"a", b"b", b"c"))
        self.assertEqual(bye.from_.display, b"Alice")
        self.assertEqual(self.dialog.new_request("BYE").cseq.number, 9)

    def test_ack_takes_the_number_of_its_invite(self):
        self.dialog.new_request("INFO")
        ack = self.dialog.new_ack(7)
        self.assertEqual(ack.cseq.serialize(), b"7 ACK")
        self.assertEqual(self.dialog.local_cseq, 8)

    def test_strict_router(self):
        response = ok()
        response.set("Record-Route", b"<sip:p2;lr>, <sip:strict>")
        bye = Dialog.as_caller(response).new_request("BYE")
        self.assertEqual(bye.uri, b"sip:strict")
        self.assertEqual(bye.values("route"), [b"<sip:p2;lr>", b"<sip:bob@192.0.2.2>"])

    def test_a_route_with_headers_is_of_no_use(self):
        """As a strict router's it would become the Request-URI, which has none (section 19.1.1)."""
        for route in (b"<sip:strict?Route=x>", b"<sip:p;lr?Route=x>"):
            response = ok()
            response.set("Record-Route", route)
            self.assertRaises(ParseError, Dialog.as_caller(response).new_request, "BYE")

    def test_peer_requests(self):
        peer = Dialog.as_callee(INVITE, b"b", 100)
        bye = peer.new_request("BYE")
        self.assertTrue(self.dialog.matches(bye))
        self.assertTrue(self.dialog.receive(bye))
        self.assertFalse(self.dialog.receive(bye), "the same number again")
        self.assertTrue(self.dialog.receive(peer.new_request("BYE")))

    def test_target_refresh(self):
        peer = Dialog.as_callee(INVITE, b"b")
        update = peer.new_request("UPDATE")
        update.add("Contact", b"<sip:bob@moved>")
        self.dialog.receive(update)
        self.assertEqual(self.dialog.target, b"sip:bob@moved")
        info = peer.new_request("INFO")
        info.add("Contact", b"<sip:evil@x>")
        self.dialog.receive(info)
        self.assertEqual(self.dialog.target, b"sip:bob@moved")


class CalleeTest(unittest.TestCase):
    def setUp(self):
        self.dialog = Dialog.as_callee(INVITE, b"b", 40)

    def test_state(self):
        dialog = self.dialog
        self.assertEqual((dialog.local_tag, dialog.remote_tag, dialog.remote_cseq), (b"b", b"a", 7))
        self.assertEqual(dialog.route_set, [b"<sip:p2;lr>", b"<sip:p1;lr>"])
        self.assertEqual(dialog.target, b"sip:alice@192.0.2.1")

    def test_request(self):
        bye = self.dialog.new_request("BYE")
        self.assertEqual((bye.from_.tag, bye.to.tag, bye.cseq.number), (b"b", b"a", 41))

    def test_old_number(self):
        caller = Dialog.as_caller(ok())
        caller.local_cseq = 5
        self.assertFalse(self.dialog.receive(caller.new_request("BYE")))

    def test_ack_and_cancel_have_the_number_of_the_invite(self):
        self.assertTrue(self.dialog.receive(Dialog.as_caller(ok()).new_ack(7)))

    def test_other_dialogs(self):
        caller = Dialog.as_caller(ok(tag=b"other"))
        self.assertFalse(self.dialog.matches(caller.new_request("BYE")))
        caller = Dialog.as_caller(ok())
        caller.call_id = b"d"
        self.assertFalse(self.dialog.matches(caller.new_request("BYE")))


class ContactTest(unittest.TestCase):
    def test_one_sip_contact(self):
        for value in (b"*", b"<tel:+1>", b"<sip:a>, <sip:b>", b"<sip:a@b@c>", b"<sip:a@b?Route=x>"):
            response = ok(value)
            self.assertRaises(ParseError, contact_of, response)
        response = ok()
        remove(response, "contact")
        self.assertRaises(ParseError, Dialog.as_caller, response)


if __name__ == "__main__":
    unittest.main()
