"""Signed headers: what is signed of a message, and what is not the same any more when it arrives."""

import base64
import calendar
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neighbour.agent.aib import IntegrityError, compare, date_of, format_date, identity_body, is_identity, read
from neighbour.agent.mime import Entity, MimeError
from sipwire.message import Message, Request, parse

DATE = b"Thu, 21 Feb 2030 13:02:03 GMT"
AT_S = calendar.timegm((2030, 2, 21, 13, 2, 3))
VIA = b"Via: SIP/2.0/TLS a.example;branch=z9hG4bK1\r\n"
REQUEST = (
    b"INVITE sip:bob@b.example SIP/2.0\r\n" + VIA + b"Max-Forwards: 70\r\n"
    b'From: "Alice A." <sip:alice@a.example>;tag=11\r\nTo: Bob <sip:bob@b.example>\r\n'
    b"Contact: <sip:alice@192.0.2.1:5061;transport=tls>\r\nCall-ID: 1@a.example\r\nCSeq: 4711 INVITE\r\n"
    b"Date: " + DATE + b"\r\n\r\n"
)
RESPONSE = (
    b"SIP/2.0 200 OK\r\n" + VIA + b'From: "Alice A." <sip:alice@a.example>;tag=11\r\n'
    b"To: Bob <sip:bob@b.example>;tag=22\r\nContact: <sip:bob@192.0.2.2>\r\nCall-ID: 1@a.example\r\n"
    b"CSeq: 4711 INVITE\r\nDate: " + DATE + b"\r\n\r\n"
)


def fragment(body: bytes, kind: bytes = b"message/sipfrag") -> Message:
    return read(Entity.make([("Content-Type", kind), ("Content-Disposition", b"aib")], body))[0]


def aib_of(message: bytes, answers: bytes = b"") -> Message:
    return read(Entity.parse(identity_body(parse(message), DATE, answers)))[0]


def whole(message: bytes) -> Message:
    return fragment(message, b"message/sip")


# What is signed.


def test_identity_of_a_request() -> None:
    assert identity_body(parse(REQUEST), DATE) == (
        b"Content-Type: message/sipfrag\r\nContent-Disposition: aib; handling=optional\r\n\r\n"
        b'From: "Alice A." <sip:alice@a.example>;tag=11\r\nTo: Bob <sip:bob@b.example>\r\n'
        b"Contact: <sip:alice@192.0.2.1:5061;transport=tls>\r\nCall-ID: 1@a.example\r\nCSeq: 4711 INVITE\r\n"
        b"Date: " + DATE + b"\r\n"
    )


def test_identity_of_a_response() -> None:
    """RFC 3893 section 7: From is who answers, and the request's To is not there."""
    assert identity_body(parse(RESPONSE), DATE) == (
        b"Content-Type: message/sipfrag\r\nContent-Disposition: aib; handling=optional\r\n\r\n"
        b"From: Bob <sip:bob@b.example>;tag=22\r\nContact: <sip:bob@192.0.2.2>\r\nCall-ID: 1@a.example\r\n"
        b"CSeq: 4711 INVITE\r\nDate: " + DATE + b"\r\n"
    )


def test_identity_of_a_diverted_response() -> None:
    made = identity_body(parse(RESPONSE), DATE, b"sip:carol@c.example")
    assert b"\r\nFrom: <sip:carol@c.example>;tag=22\r\n" in made
    assert b"bob@b.example" not in made


def test_identity_with_more() -> None:
    more = b"Refer-To: <sip:x@x.example>\r\nReplaces: 1;to-tag=2;from-tag=3\r\nm: <sip:a@192.0.2.9>\r\nSubject: x\r\n"
    made = aib_of(REQUEST.replace(b"CSeq", more + b"CSeq"))
    assert made.get_all("contact") == [b"<sip:alice@192.0.2.1:5061;transport=tls>", b"<sip:a@192.0.2.9>"]
    assert made.get("replaces") == b"1;to-tag=2;from-tag=3"
    assert made.get("refer-to") == b"<sip:x@x.example>"
    assert made.get("subject") is None


KINDS: list[tuple[bytes | None, bytes | None, bool]] = [
    (b"message/sipfrag", b"aib", True),
    (b"MESSAGE/sipfrag;version=2.0", b"AIB;handling=optional", True),
    (b"message/sip", None, True),
    (b"message/sip", b"render", True),
    (b"message/sipfrag", None, False),  # the progress of a REFER
    (b"message/sipfrag", b"render", False),
    (b"text/plain", b"aib", False),
    (None, b"aib", False),
]


@pytest.mark.parametrize(("kind", "disposition", "wanted"), KINDS)
def test_is_identity(kind: bytes | None, disposition: bytes | None, wanted: bool) -> None:
    headers = [("Content-Type", kind), ("Content-Disposition", disposition)]
    assert is_identity(Entity.make([(name, value) for name, value in headers if value is not None], b"")) is wanted


# Date.


@pytest.mark.parametrize(
    ("at_s", "written"),
    [
        (AT_S, DATE),
        (0, b"Thu, 01 Jan 1970 00:00:00 GMT"),
        (951782399, b"Mon, 28 Feb 2000 23:59:59 GMT"),
        (951782400, b"Tue, 29 Feb 2000 00:00:00 GMT"),
        (4102444799, b"Thu, 31 Dec 2099 23:59:59 GMT"),
    ],
)
def test_dates(at_s: int, written: bytes) -> None:
    assert format_date(at_s) == written
    assert date_of(parse(REQUEST.replace(DATE, written))) == at_s


@given(st.integers(0, 253402300799))
def test_dates_both_ways(at_s: int) -> None:
    assert date_of(parse(REQUEST.replace(DATE, format_date(at_s)))) == at_s


def test_no_date() -> None:
    assert date_of(parse(REQUEST.replace(b"Date: " + DATE + b"\r\n", b""))) is None


BAD_DATES = [
    b"",
    b"GMT",
    b"Thu, 21 Feb 2030 13:02:03 UTC",
    b"Thu, 21 Feb 2030 13:02:03 +0000",
    b"Thu, 21 Feb 2030 13:02:03",
    b"Thu, 21 Feb 2030 13:02:03 EST GMT",
    b"Thu, 21 Feb 2030 13:02:03 gmt",
    b"Thu, 21 Feb 2030 25:02:03 GMT",
    b"Thu, 21 Feb 2030 13:60:03 GMT",
    b"Thu, 21 Feb 2030 13:02:60 GMT",
    b"Sun, 31 Feb 2030 13:02:03 GMT",
    b"Thu, 00 Feb 2030 13:02:03 GMT",
    b"Thu, 21 Foo 2030 13:02:03 GMT",
    b"Wed, 21 Feb 2030 13:02:03 GMT",
    b"Thu, 21 Feb 30 13:02:03 GMT",
    b"Thu, 21 Feb 0000 13:02:03 GMT",
    b"Thu,  1 Feb 2030 13:02:03 GMT",
    b"Thursday, 21-Feb-30 13:02:03 GMT",
    b"Thu Feb 21 13:02:03 2030 GMT",
    b"21 Feb 2030 13:02:03 GMT",
    b"1897909323",
    b"Thu, 21 Feb 2030 13:02:03 GMT" * 3,
    b"Th\xff, 21 Feb 2030 13:02:03 GMT",
    "Thu, 2\uff11 Feb 2030 13:02:03 GMT".encode(),
    b"Thu, 2\xb2 Feb 2030 13:02:03 GMT",
    b"Thu, -1 Feb 2030 13:02:03 GMT",
    b"Thu, 21 Feb +030 13:02:03 GMT",
    b", , , , , , , , , , , , , GMT",
    b"0 0 0 0 0 0 0 0 0 0 0 0 0 GMT",
    b"Thu, 21 Feb 2030 13.02.03 GMT",
]


@pytest.mark.parametrize("value", BAD_DATES)
def test_bad_dates(value: bytes) -> None:
    for inner, outer in ((value, DATE), (DATE, value), (value, value)):
        with pytest.raises(IntegrityError, match="Date is malformed"):
            compare(
                aib_with(b"Date: " + DATE, b"Date: " + inner),
                outer_with(b"Date: " + DATE, b"Date: " + outer),
                hidden=False,
            )


@given(
    st.one_of(
        st.binary(min_size=29, max_size=29), st.text("Thu,Feb 0123:GMT-+", min_size=29, max_size=29).map(str.encode)
    )
)
def test_dates_are_dates(value: bytes) -> None:
    message = Message()
    message.fields.append(("date", b"Date: " + value))
    try:
        found = date_of(message)
    except IntegrityError:
        return
    assert found is not None
    assert format_date(found) == message.get("date")


# What is read.


def test_reads_a_fragment() -> None:
    found = fragment(
        b"INVITE sip:x SIP/2.0\r\nf: <sip:a@a.example>\r\nTo : <sip:b@b.example>\r\ni: 1\r\nContact: <sip:a>,\r\n <sip:b>\r\n"
    )
    assert found.from_.uri == b"sip:a@a.example"
    assert found.call_id == b"1"
    assert found.to.uri == b"sip:b@b.example"
    assert found.values("contact") == [b"<sip:a>", b"<sip:b>"]


@pytest.mark.parametrize(
    "body",
    [
        b"From: <sip:a@a.example>",
        b"From: <sip:a@a.example>\r\n",
        b"From: <sip:a@a.example>\r\n\r\n",
        b"From: <sip:a@a.example>\r\n\r\nTo: nobody\r\n",
        b"SIP/2.0 200 OK\r\nFrom: <sip:a@a.example>\r\n",
    ],
)
def test_ends_of_a_fragment(body: bytes) -> None:
    assert [key for key, _ in fragment(body).fields] == ["from"]


BAD_FRAGMENTS = [
    b"",
    b"\r\n",
    b"\r\nFrom: <sip:a@a.example>\r\n",
    b"no header\r\n",
    b" From: <sip:a@a.example>\r\n",
    b"From <sip:a@a.example>\r\n",
    b"From: <sip:a@a.example>\r\nFrom: <sip:a@a.example>\r\n",
    b"From: <sip:a@a.example>\r\nf: <sip:b@a.example>\r\n",
    b"To: x\r\nTO: y\r\n",
    b"Date: x\r\nDate: x\r\n",
    b"CSeq: 1 A\r\nCSeq: 1 A\r\n",
    b"Call-ID: 1\r\ni: 1\r\n",
    b"From: <sip:a@a.example>\nTo: x\r\n",
    b"From: <sip:a@a.example>\rTo: x\r\n",
    b"From: <sip:a@a.example>;\r\n x=\nTo: y\r\n",
    b"From: <sip:a@a.example>;\r\n x=\rTo: y\r\n",
    b"From: <sip:a@a.example>\r\r\n",
    b"\xff: 1\r\n",
    b"A: 1\r\n" * 65,
]


@pytest.mark.parametrize("body", BAD_FRAGMENTS)
def test_bad_fragments(body: bytes) -> None:
    with pytest.raises(MimeError):
        fragment(body)


def test_reads_a_whole_message() -> None:
    inner = REQUEST.replace(
        b"\r\n\r\n",
        b"\r\nContent-Type: text/plain\r\nContent-Language: eo\r\nContent-Transfer-Encoding: base64\r\n"
        b"Content-Length: 8\r\n\r\nSGVsbG8h and more",
    )
    headers, body = read(Entity.make([("Content-Type", b"message/sip")], inner))
    assert isinstance(headers, Request)
    assert body is not None
    assert body.content() == b"Hello!"
    assert body.kind == b"text/plain"
    assert body.get("content-language") == b"eo"


def test_a_whole_message_in_base64() -> None:
    made = Entity.make(
        [("Content-Type", b"message/sip"), ("Content-Transfer-Encoding", b"base64")], base64.encodebytes(REQUEST)
    )
    assert read(made)[0].serialize() == REQUEST
    assert read(made)[1] is None


BAD_MESSAGES: list[Callable[[bytes], bytes]] = [
    lambda message: b"",
    lambda message: message[:-2],
    lambda message: message.replace(b"INVITE sip", b"OPTIONS sip"),
    lambda message: message.replace(b"Call-ID: 1@a.example\r\n", b""),
    lambda message: message.replace(b"To:", b"From:"),
    lambda message: message.replace(b"Max", b"To: <sip:x>\r\nMax"),
    lambda message: message.replace(b"Max", b"Date: " + DATE + b"\r\nMax"),
    lambda message: message.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n"),
    lambda message: message.replace(b";tag=11", b";tag=11\nTo: <sip:x>"),
    lambda message: message.replace(b"\r\n", b"\n"),
    lambda message: message.replace(
        b"\r\n\r\n", b"\r\nContent-Type: a/b\r\nContent-Language: x\r\nContent-Language: y\r\n\r\nx"
    ),
    lambda message: b"\x00" + message,
]


@pytest.mark.parametrize("change", BAD_MESSAGES)
def test_bad_messages(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(MimeError) as caught:
        whole(change(REQUEST))
    assert caught.value.status == 400


# What differs.


def aib_with(old: bytes, new: bytes, message: bytes = REQUEST) -> Message:
    """The signed headers of a message with something in them replaced."""
    made = identity_body(parse(message), DATE)
    assert old in made
    return read(Entity.parse(made.replace(old, new)))[0]


def outer_with(old: bytes, new: bytes, message: bytes = REQUEST) -> Message:
    assert old in message
    return parse(message.replace(old, new))


CHANGES: list[tuple[str, bytes, bytes]] = [
    # What is to be said, and what becomes what on the way.
    ("From", b"sip:alice@a.example>", b"sip:mallory@a.example>"),
    ("From", b"sip:alice@a.example>", b"sip:alice@c.example>"),
    ("From", b"sip:alice@a.example>", b"sips:alice@a.example>"),
    ("From", b"sip:alice@a.example>", b"sip:alice@a.example:5061>"),
    ("From", b"sip:alice@a.example>", b"sip:alice@a.example;x=y>"),
    ("From", b'"Alice A."', b'"The Boss"'),
    ("From", b'"Alice A." ', b""),
    ("From", b"tag=11", b"tag=12"),
    ("From", b"tag=11", b"tag=011"),
    ("To", b"sip:bob@b.example>\r", b"sip:carol@b.example>\r"),
    ("To", b"To: Bob", b"To: Boss"),
    ("Contact", b"sip:alice@192.0.2.1:5061", b"sip:alice@192.0.2.66:5061"),
    ("Contact", b";transport=tls>", b";transport=udp>"),
    ("Contact", b"transport=tls>\r\n", b"transport=tls>, <sip:mallory@192.0.2.66>\r\n"),
    ("Contact", b"Contact: <sip:alice", b"Contact: <sip:mallory@192.0.2.66>, <sip:alice"),
    ("Contact", b"transport=tls>\r\n", b"transport=tls>\r\nm: <sip:mallory@192.0.2.66>\r\n"),
    ("Contact", b"Contact: <sip:alice@192.0.2.1:5061;transport=tls>\r\n", b""),
    ("Contact", b"<sip:alice@192.0.2.1:5061;transport=tls>", b"*"),
    ("Call-ID", b"Call-ID: 1@a.example", b"Call-ID: 2@a.example"),
    ("Call-ID", b"Call-ID: 1@a.example", b"Call-ID: 1@A.example"),
    ("CSeq", b"4711 INVITE", b"4712 INVITE"),
    ("Date", DATE, b"Thu, 21 Feb 2030 13:02:04 GMT"),
    ("Refer-To", b"CSeq:", b"Refer-To: <sip:mallory@c.example>\r\nCSeq:"),
    ("Replaces", b"CSeq:", b"Replaces: 7;to-tag=1;from-tag=2\r\nCSeq:"),
]


@pytest.mark.parametrize(("name", "old", "new"), CHANGES)
@pytest.mark.parametrize("signed", [aib_of, whole])
def test_changed(signed: Callable[[bytes], Message], name: str, old: bytes, new: bytes) -> None:
    inner = signed(REQUEST)
    assert compare(inner, parse(REQUEST), hidden=False) == b"sip:alice@a.example"
    with pytest.raises(IntegrityError, match=f"^{name} is not what was signed$"):
        compare(inner, outer_with(old, new), hidden=False)
    with pytest.raises(IntegrityError):
        compare(inner, outer_with(old, new), hidden=True)


def test_a_malformed_date_outside() -> None:
    with pytest.raises(IntegrityError, match="Date is malformed"):
        compare(aib_of(REQUEST), outer_with(DATE, b"Thu, 21 Feb 2030 13:02:03 UTC"), hidden=False)


MORE = REQUEST.replace(
    b"CSeq:",
    b"Contact: <sip:alice@192.0.2.3>\r\nReplaces: 7;to-tag=1;from-tag=2\r\nRefer-To: <sip:carol@b.example>\r\n"
    b"Referred-By: <sip:dave@a.example>\r\nEvent: refer\r\nCSeq:",
)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("Replaces", b"to-tag=1", b"to-tag=3"),
        ("Replaces", b"Replaces: 7;to-tag=1;from-tag=2\r\n", b""),
        ("Replaces", b"Refer-To", b"Replaces: 8;to-tag=1;from-tag=2\r\nRefer-To"),
        ("Refer-To", b"sip:carol@b.example", b"sip:mallory@b.example"),
        ("Refer-To", b"r-To: <sip:carol@b.example>", b"r-To: <sip:carol@b.example>\r\nr: <sip:mallory@b.example>"),
        ("Refer-To", b"Refer-To: <sip:carol@b.example>\r\n", b""),
        ("Referred-By", b"sip:dave", b"sip:mallory"),
        ("Event", b"Event: refer", b"Event: refer;id=1"),
        ("Contact", b"Contact: <sip:alice@192.0.2.3>\r\n", b""),
        ("Contact", b"Contact: <sip:alice@192.0.2.1:5061;transport=tls>\r\n", b""),
    ],
)
@pytest.mark.parametrize("signed", [aib_of, whole])
def test_changed_in_one_with_more(signed: Callable[[bytes], Message], name: str, old: bytes, new: bytes) -> None:
    inner = signed(MORE)
    assert compare(inner, parse(MORE), hidden=False) == b"sip:alice@a.example"
    with pytest.raises(IntegrityError, match=f"^{name} is not what was signed$"):
        compare(inner, outer_with(old, new, MORE), hidden=False)


def test_contacts_in_another_order() -> None:
    one, other = b"Contact: <sip:alice@192.0.2.1:5061;transport=tls>\r\n", b"Contact: <sip:alice@192.0.2.3>\r\n"
    with pytest.raises(IntegrityError, match="Contact"):
        compare(aib_of(MORE), parse(MORE.replace(other, b"").replace(one, other + one)), hidden=False)


SAME: list[tuple[bytes, bytes]] = [
    (b"Max-Forwards: 70", b"Max-Forwards: 69"),
    (VIA, b"Via: SIP/2.0/TLS p.example;branch=z9hG4bK2\r\n" + VIA),
    (b"INVITE sip:bob@b.example SIP", b"INVITE sip:bob@192.0.2.2 SIP"),
    (b"From:", b"f:"),
    (b"Call-ID:", b"i  :"),
    (b'"Alice A." <', b'"Alice\\ A."<'),
    (b"Bob <", b'"Bob" <'),
    (b"tag=11", b"TAG=11;x=y"),
    (b"transport=tls>", b'transport=tls>;+sip.instance="x";q=0.5'),
    (b"Contact: <sip", b"Contact:\r\n <sip"),
    (b"CSeq: 4711 INVITE", b"CSeq: 04711   INVITE"),
    (b"Date: " + DATE + b"\r\n", b""),
    (b"CSeq", b"Subject: x\r\nRecord-Route: <sip:p.example;lr>\r\nCSeq"),
]


@pytest.mark.parametrize(("old", "new"), SAME)
@pytest.mark.parametrize("signed", [aib_of, whole])
def test_the_same(signed: Callable[[bytes], Message], old: bytes, new: bytes) -> None:
    """What proxies change, and what means the same."""
    assert compare(signed(REQUEST), outer_with(old, new), hidden=False) == b"sip:alice@a.example"


MISSING: list[tuple[bytes, str]] = [
    (b'From: "Alice A." <sip:alice@a.example>;tag=11\r\n', "from"),
    (b"To: Bob <sip:bob@b.example>\r\n", "to"),
    (b"Call-ID: 1@a.example\r\n", "Call-ID is not what was signed"),
    (b"CSeq: 4711 INVITE\r\n", "cseq"),
    (b"Date: " + DATE + b"\r\n", "Date is not signed"),
]


@pytest.mark.parametrize(("line", "told"), MISSING)
def test_missing_among_the_signed(line: bytes, told: str) -> None:
    with pytest.raises(IntegrityError, match=told):
        compare(aib_with(line, b""), parse(REQUEST), hidden=False)


MAY_BE_MISSING = [(b"Contact: <sip:alice@192.0.2.1:5061;transport=tls>\r\n", b""), (b";tag=11", b"")]


@pytest.mark.parametrize(("old", "new"), MAY_BE_MISSING)
def test_may_be_missing_among_the_signed(old: bytes, new: bytes) -> None:
    """As in RFC 3893's example; but a whole message has all of it."""
    assert compare(aib_with(old, new), parse(REQUEST), hidden=False) == b"sip:alice@a.example"
    with pytest.raises(IntegrityError, match="is not what was signed"):
        compare(whole(REQUEST.replace(old, new)), parse(REQUEST), hidden=False)


MALFORMED: list[tuple[bytes, bytes]] = [
    (b"CSeq: 4711 INVITE", b"CSeq: INVITE"),
    (b"<sip:alice@a.example>;tag=11", b"<sip:alice@a.example>;tag=11;"),
    (b"<sip:alice@a.example>;tag=11", b"<sip:alice@a.example"),
    (b"<sip:alice@192.0.2.1:5061;transport=tls>", b"<sip:x>,"),
    (b'"Alice A."', b'"Alice A.'),
    (b"<sip:alice@a.example>", b"<:>"),
]


@pytest.mark.parametrize(("old", "new"), MALFORMED)
def test_malformed_among_the_signed(old: bytes, new: bytes) -> None:
    with pytest.raises(IntegrityError):
        compare(aib_with(old, new), parse(REQUEST), hidden=False)


@pytest.mark.parametrize("uri", [b"tel:+1555", b"mailto:alice@a.example"])
def test_from_is_no_sip_address(uri: bytes) -> None:
    message = REQUEST.replace(b"sip:alice@a.example>", uri + b">")
    with pytest.raises(IntegrityError, match="no SIP address"):
        compare(aib_of(message), parse(message), hidden=False)


@pytest.mark.parametrize(
    ("uri", "aor"),
    [
        (b"sips:alice@A.example:5061;x=y", b"sip:alice@a.example"),
        (b"sip:%61lice@a.example", b"sip:alice@a.example"),
        (b"sip:a%40b.example@c.example", b"sip:a%40b.example@c.example"),
        (b"sip:a.example", b"sip:a.example"),
    ],
)
def test_identities(uri: bytes, aor: bytes) -> None:
    message = REQUEST.replace(b"sip:alice@a.example>", uri + b">")
    assert compare(aib_of(message), parse(message), hidden=False) == aor


# Who hides.

ANONYMOUS = [
    b'"Anonymous" <sip:anonymous@anonymous.invalid>',
    b"<sip:Anonymous@a.example>",
    b"Nobody <sips:anonymous@c.example;x=y>",
]


@pytest.mark.parametrize("shown", ANONYMOUS)
def test_anonymous(shown: bytes) -> None:
    """Around a whole message that is encrypted."""
    outer = outer_with(b'"Alice A." <sip:alice@a.example>', shown)
    assert compare(whole(REQUEST), outer, hidden=True) == b"sip:alice@a.example"
    with pytest.raises(IntegrityError, match="From"):
        compare(whole(REQUEST), outer, hidden=False)
    for hidden in (False, True):
        with pytest.raises(IntegrityError, match="From"):
            compare(aib_of(REQUEST), outer, hidden=hidden)


@pytest.mark.parametrize(
    ("contact", "taken"),
    [
        (b"<sip:alice@192.0.2.1:5061;transport=tls>", True),
        (b"<sip:192.0.2.1:5061;transport=tls>", True),
        (b"<sip:anonymous@192.0.2.1:5061;transport=tls>", False),
        (b"<sip:192.0.2.1;transport=tls>", False),
        (b"<sip:192.0.2.66:5061;transport=tls>", False),
        (b"<sips:192.0.2.1:5061;transport=tls>", False),
    ],
)
def test_contact_of_who_hides(contact: bytes, taken: bool) -> None:
    """It may be without its user, as in the example of RFC 3261 section 23.4.3."""
    outer = outer_with(b"<sip:alice@192.0.2.1:5061;transport=tls>", contact)
    hiding = parse(outer.serialize().replace(b'"Alice A." <sip:alice@a.example>', b"<sip:anonymous@a.example>"))
    if taken:
        assert compare(whole(REQUEST), hiding, hidden=True) == b"sip:alice@a.example"
    else:
        with pytest.raises(IntegrityError, match="Contact"):
            compare(whole(REQUEST), hiding, hidden=True)
    if b"alice" not in contact:
        with pytest.raises(IntegrityError, match="Contact"):
            compare(whole(REQUEST), outer, hidden=True)


@pytest.mark.parametrize(
    "shown",
    [
        b"<sip:anon@anonymous.invalid>;tag=11",
        b"<sip:alice@anonymous.invalid>;tag=11",
        b"<sip:anonymous.invalid>;tag=11",
        b"<tel:anonymous>;tag=11",
        b"<sip:anonymous@a.example>;tag=12",  # the dialog is another
        b"<sip:anonymous@a.example>",
    ],
)
def test_not_anonymous(shown: bytes) -> None:
    outer = outer_with(b'"Alice A." <sip:alice@a.example>;tag=11', shown)
    with pytest.raises(IntegrityError, match="From"):
        compare(whole(REQUEST), outer, hidden=True)


@pytest.mark.parametrize("name", [b'"Alice A." <sip:alice@a.example>', b"Bob <sip:bob@b.example>"])
def test_nobody_hides_in_a_response(name: bytes) -> None:
    outer = outer_with(name, b"<sip:anonymous@a.example>", RESPONSE)
    with pytest.raises(IntegrityError, match="is not what was signed"):
        compare(whole(RESPONSE), outer, hidden=True)
    if b"Bob" in name:
        with pytest.raises(IntegrityError, match="To is not what was signed"):
            compare(aib_of(RESPONSE), outer, hidden=True)


# Responses.

RESPONSE_CHANGES: list[tuple[str, bytes, bytes]] = [
    ("To", b"sip:bob@b.example>", b"sip:carol@b.example>"),
    ("To", b"To: Bob", b"To: Boss"),
    ("To", b"tag=22", b"tag=23"),
    ("To", b";tag=22", b""),
    ("Contact", b"sip:bob@192.0.2.2", b"sip:mallory@192.0.2.66"),
    ("Contact", b"Contact: <sip:bob@192.0.2.2>\r\n", b""),
    ("Call-ID", b"Call-ID: 1@a.example", b"Call-ID: 2@a.example"),
    ("CSeq", b"4711 INVITE", b"4712 INVITE"),
    ("CSeq", b"4711 INVITE", b"4711 UPDATE"),
    ("Date", DATE, b"Thu, 21 Feb 2030 13:02:04 GMT"),
]


@pytest.mark.parametrize(("name", "old", "new"), RESPONSE_CHANGES)
@pytest.mark.parametrize("signed", [aib_of, whole])
def test_changed_in_a_response(signed: Callable[[bytes], Message], name: str, old: bytes, new: bytes) -> None:
    inner = signed(RESPONSE)
    assert compare(inner, parse(RESPONSE), hidden=False) == b"sip:bob@b.example"
    with pytest.raises(IntegrityError, match=f"^{name} is not what was signed$"):
        compare(inner, outer_with(old, new, RESPONSE), hidden=False)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("From", b"sip:alice@a.example>", b"sip:mallory@a.example>"),
        ("From", b"tag=11", b"tag=12"),
        ("start line", b"SIP/2.0 200 OK", b"SIP/2.0 183 Session Progress"),
    ],
)
def test_changed_in_a_tunnelled_response(name: str, old: bytes, new: bytes) -> None:
    with pytest.raises(IntegrityError, match=f"^{name} is not what was signed$"):
        compare(whole(RESPONSE), outer_with(old, new, RESPONSE), hidden=False)


def test_reason_phrases_may_differ() -> None:
    outer = outer_with(b"200 OK", b"200 Jes", RESPONSE)
    assert compare(whole(RESPONSE), outer, hidden=False) == b"sip:bob@b.example"


def test_a_request_is_no_answer() -> None:
    """Bob has called within the same dialog, with a CSeq that is that of Alice's request by chance."""
    his = (
        b"INVITE sip:alice@192.0.2.1 SIP/2.0\r\n"
        + VIA
        + b"Max-Forwards: 70\r\nFrom: Bob <sip:bob@b.example>;tag=22\r\n"
        b'To: "Alice A." <sip:alice@a.example>;tag=11\r\nContact: <sip:bob@192.0.2.2>\r\nCall-ID: 1@a.example\r\n'
        b"CSeq: 4711 INVITE\r\nDate: " + DATE + b"\r\n\r\n"
    )
    assert compare(aib_of(his), parse(his), hidden=False) == b"sip:bob@b.example"
    with pytest.raises(IntegrityError, match="To is signed, and this is an answer"):
        compare(aib_of(his), parse(RESPONSE), hidden=False)
    with pytest.raises(IntegrityError, match="start line"):
        compare(whole(his), parse(RESPONSE), hidden=False)


def test_an_answer_is_no_request() -> None:
    again = outer_with(b"sip:bob@b.example>", b"sip:bob@b.example>;tag=22")
    with pytest.raises(IntegrityError, match="no to"):
        compare(
            aib_with(b"Bob <sip:bob@b.example>;tag=22", b'"Alice A." <sip:alice@a.example>;tag=11', RESPONSE),
            again,
            hidden=False,
        )
    with pytest.raises(IntegrityError, match="start line"):
        compare(whole(RESPONSE), again, hidden=False)


DIVERTED: list[tuple[bytes, bytes, bytes]] = [
    # Who answers, whom the request was sent to, and who that is, b"" for refused.
    (b"", b"sip:bob@b.example", b"sip:bob@b.example"),
    (b"", b"sip:carol@c.example", b"sip:bob@b.example"),
    (b"sip:carol@c.example", b"sip:carol@c.example", b"sip:carol@c.example"),
    (b"sip:carol@c.example", b"sip:dave@c.example", b""),
    (b"sip:carol@c.example", b"", b""),
    (b"sip:mallory@c.example", b"sip:carol@c.example", b""),
    (b"sip:carol@c.example;x=y", b"sip:carol@c.example", b""),
]


@pytest.mark.parametrize(("who", "answers", "identity"), DIVERTED)
def test_diverted(who: bytes, answers: bytes, identity: bytes) -> None:
    inner = aib_of(RESPONSE, who)
    if identity:
        assert compare(inner, parse(RESPONSE), hidden=False, answers=answers) == identity
        return
    with pytest.raises(IntegrityError, match=r"^To is not what was signed$"):
        compare(inner, parse(RESPONSE), hidden=False, answers=answers)


def test_a_diverted_answer_of_another_dialog() -> None:
    with pytest.raises(IntegrityError, match=r"^To is not what was signed$"):
        compare(
            aib_of(RESPONSE, b"sip:carol@c.example"),
            outer_with(b"tag=22", b"tag=23", RESPONSE),
            hidden=False,
            answers=b"sip:carol@c.example",
        )
