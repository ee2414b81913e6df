"""MIME parts, byte for byte: what they say, where they end, and what is none."""

import base64
import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neighbour.agent.mime import Entity, MimeError, multipart, of_message, to_message
from sipwire.message import Request, parse

HEAD = (
    b"MESSAGE sip:bob@b.example SIP/2.0\r\nVia: SIP/2.0/TLS a.example;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n"
    b"From: <sip:alice@a.example>;tag=1\r\nTo: <sip:bob@b.example>\r\nCall-ID: 1@a.example\r\nCSeq: 1 MESSAGE\r\n"
)


def message(headers: bytes, body: bytes = b"Hello!") -> Request:
    found = parse(HEAD + headers + b"\r\n" + body)
    assert isinstance(found, Request)
    return found


def of(kind: bytes, body: bytes, *more: tuple[str, bytes]) -> Entity:
    return Entity.make([("Content-Type", kind), *more], body)


# One part.

ENTITIES: list[tuple[bytes, tuple[tuple[str, bytes], ...], bytes]] = [
    (b"Content-Type: text/plain\r\n\r\nHello!", (("content-type", b"text/plain"),), b"Hello!"),
    (b"content-TYPE:text/plain\r\n\r\n", (("content-type", b"text/plain"),), b""),
    (b"Content-Type: \t text/plain \t\r\n\r\n\r\n\r\n", (("content-type", b"text/plain"),), b"\r\n\r\n"),
    (b"Content-Type: a/b;\r\n c=d;\r\n\te=f\r\n\r\nx", (("content-type", b"a/b; c=d; e=f"),), b"x"),
    (b"Content-Type: text/plain", (("content-type", b"text/plain"),), b""),
    (b"X:\r\nY: :z:\r\n\r\nx", (("x", b""), ("y", b":z:")), b"x"),
    (b"\r\nno headers", (), b"no headers"),
    (b"\r\n", (), b""),
    (b"\r\n\r\n", (), b"\r\n"),
    (b"\r\nContent-Type: text/plain\r\n\r\n", (), b"Content-Type: text/plain\r\n\r\n"),
    (b"", (), b""),
    (b"X: 1\r\n\r\n\x00\xff\r\r\n\n", (("x", b"1"),), b"\x00\xff\r\r\n\n"),
]


@pytest.mark.parametrize(("raw", "headers", "body"), ENTITIES)
def test_reads(raw: bytes, headers: tuple[tuple[str, bytes], ...], body: bytes) -> None:
    found = Entity.parse(raw)
    assert found.headers == headers
    assert found.body == body
    assert found.raw == raw


SMUGGLED = b"Content-Type: text/plain;\r\n x=%b\r\n\r\nHello!"
INVALID = [
    b"Hello!",
    b"Hello!\r\n\r\n",
    b" Content-Type: text/plain\r\n\r\n",  # a fold of nothing
    b"Content-Type : text/plain\r\n\r\n",
    b"Content Type: text/plain\r\n\r\n",
    b": text/plain\r\n\r\n",
    b"Content-Type\r\n\r\n",
    b"Content-Type: text/plain\r\n",  # neither headers alone nor an empty line
    b"Content-Type: text/plain\r\nContent-Type: text/plain\r\n\r\n",
    b"Content-Type: text/plain\r\nX: 1\r\nCONTENT-type: application/sdp\r\n\r\n",
    b"Content-Type: text/plain\nX: 1\r\n\r\n",
    b"Content-Type: text/plain\n\nHello!",
    b"Content-Type: text/plain\rX: 1\r\n\r\n",
    b"Content-Type: text/plain\r\r\n\r\n",
    b"\nContent-Type: text/plain\r\n\r\n",
    b"\rContent-Type: text/plain\r\n\r\n",
    SMUGGLED % b"\nP-Asserted-Identity: <sip:boss@b.example>",
    SMUGGLED % b"\rP-Asserted-Identity: <sip:boss@b.example>",
    SMUGGLED % b"1\n",
    b"\xff: x\r\n\r\n",
    b"\x00Content-Type: x/y\r\n\r\n",
    b"X: " + b"a" * 4096 + b"\r\n\r\n",
    b"X: 1\r\n" + b" a\r\n" * 2000 + b"\r\n",
    b"".join(b"X-%d: 1\r\n" % at for at in range(17)) + b"\r\n",
]


@pytest.mark.parametrize("raw", INVALID)
def test_refuses(raw: bytes) -> None:
    with pytest.raises(MimeError) as caught:
        Entity.parse(raw)
    assert caught.value.status == 400


def test_as_many_headers_as_allowed() -> None:
    found = Entity.parse(b"".join(b"X-%d: 1\r\n" % at for at in range(16)) + b"\r\n")
    assert len(found.headers) == 16


def test_many_headers_cost_nothing() -> None:
    raw = b"".join(b"%x:\r\n" % at for at in range(800)) + b"\r\n"
    start = time.process_time()
    for _ in range(100):
        with pytest.raises(MimeError):
            Entity.parse(raw)
    assert time.process_time() - start < 0.5


TOKEN = st.text("abcXYZ0-.", min_size=1, max_size=12)
VALUE = st.text('aZ0 ;="/\\<>\t', max_size=20).map(lambda text: text.strip(" \t").encode())
HEADERS = st.lists(st.tuples(TOKEN, VALUE), max_size=16, unique_by=lambda one: one[0].lower())


@given(HEADERS, st.binary(max_size=200))
def test_make_and_parse_are_inverses(headers: list[tuple[str, bytes]], body: bytes) -> None:
    made = Entity.make(headers, body)
    found = Entity.parse(made.raw)
    assert found == made
    assert found.headers == tuple((name.lower(), value) for name, value in headers)
    assert found.body == body


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=200), st.text("aC: \r\n;-", max_size=80).map(str.encode)))
def test_parse_takes_anything(raw: bytes) -> None:
    with contextlib.suppress(MimeError):
        found = Entity.parse(raw)
        assert found.raw == raw
        assert not any({*b"\r\n"} & {*value} for _, value in found.headers)
        _ = found.kind, found.disposition, found.param("boundary")
        found.content()
        found.parts()


# What it says of itself.

KINDS: list[tuple[bytes | None, bytes]] = [
    (None, b"text/plain"),
    (b"Text/PLAIN", b"text/plain"),
    (b"application/sdp;charset=utf-8", b"application/sdp"),
    (b'multipart/signed ; protocol="a;b"', b"multipart/signed"),
    (b"multipart / signed;boundary=x", b"multipart/signed"),
    (b"multipart\t/signed;boundary=x;", b"multipart/signed"),
    (b"application/pkcs7-mime;;name=x", b"application/pkcs7-mime"),
    (b"", b""),
]


@pytest.mark.parametrize(("value", "kind"), KINDS)
def test_kind(value: bytes | None, kind: bytes) -> None:
    headers = [] if value is None else [("Content-Type", value)]
    assert Entity.make(headers, b"").kind == kind


PARAMS: list[tuple[bytes, bytes | None]] = [
    (b"a/b;boundary=x", b"x"),
    (b"a/b;BOUNDARY=x", b"x"),
    (b'a/b; boundary = "x y;z"', b"x y;z"),
    (b'a/b;boundary="x\\"y"', b'x"y'),
    (b"a/b;boundary", b""),
    (b"a/b;xboundary=x", None),
    (b"a/b", None),
]


@pytest.mark.parametrize(("value", "boundary"), PARAMS)
def test_param(value: bytes, boundary: bytes | None) -> None:
    assert of(value, b"").param("boundary") == boundary


@pytest.mark.parametrize(
    "value", [b'a/b;boundary="x', b"a/b;boundary=", b"a/b;=x", b"a/b;b x=1", b'a/b;boundary="x"y', b"a/b (comment);c d"]
)
def test_malformed_params(value: bytes) -> None:
    with pytest.raises(MimeError):
        of(value, b"").param("boundary")


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ([], b""),
        ([("Content-Disposition", b"AIB; handling=optional")], b"aib"),
        ([("Content-Disposition", b"session")], b"session"),
    ],
)
def test_disposition(headers: list[tuple[str, bytes]], kind: bytes) -> None:
    assert Entity.make(headers, b"").disposition == kind


HELLO = base64.b64encode(b"Hello!")
CONTENTS: list[tuple[bytes | None, bytes, bytes | int]] = [
    (None, b"\x00\r\n", b"\x00\r\n"),
    (b"binary", b"\x00\r\n", b"\x00\r\n"),
    (b"8BIT", b"\xff", b"\xff"),
    (b"7bit", b"x", b"x"),
    (b"base64", HELLO, b"Hello!"),
    (b"BASE64", HELLO[:3] + b"\r\n \t" + HELLO[3:] + b"\r\n", b"Hello!"),
    (b"base64", b"", b""),
    (b"base64", b"SGVsbG8", 400),
    (b"base64", b"SGVs*G8h", 400),
    (b"base64", b"SG==bG8h", 400),
    (b"base64", b"SGVsbG8h\x00", 400),
    (b"base64", b"SGVs-G8_", 400),
    (b"base64", "SGVsbG8hé".encode(), 400),
    (b"quoted-printable", b"Hello=21", 415),
    (b"x-unknown", b"", 415),
    (b"", b"x", b"x"),
    (b"base64;x=1", HELLO, 415),
]


@pytest.mark.parametrize(("encoding", "body", "wanted"), CONTENTS)
def test_content(encoding: bytes | None, body: bytes, wanted: bytes | int) -> None:
    headers = [] if encoding is None else [("Content-Transfer-Encoding", encoding)]
    entity = Entity.make(headers, body)
    if isinstance(wanted, bytes):
        assert entity.content() == wanted
        return
    with pytest.raises(MimeError) as caught:
        entity.content()
    assert caught.value.status == wanted


# Multipart. A part begins with CRLF here: it has no headers.


def parts(body: bytes, boundary: bytes = b"b") -> list[bytes]:
    return [one.raw for one in of(b'multipart/mixed;boundary="' + boundary + b'"', body).parts()]


PARTS: list[tuple[bytes, list[bytes]]] = [
    (b"--b\r\n\r\none\r\n--b--\r\n", [b"\r\none"]),
    (b"--b\r\n\r\none\r\n--b--", [b"\r\none"]),
    (b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n", [b"\r\none", b"\r\ntwo"]),
    (b"preamble\r\n--b\r\n\r\none\r\n--b--\r\nepilogue\r\n--b\r\n\r\nthree\r\n--b--", [b"\r\none"]),
    (b"\r\n--b\r\n\r\none\r\n--b--", [b"\r\none"]),
    (b"--b \t\r\n\r\none\r\n--b\t\r\n\r\ntwo\r\n--b-- \r\n", [b"\r\none", b"\r\ntwo"]),
    # The last CRLF is the boundary's, those before are the part's.
    (b"--b\r\n\r\none\r\n\r\n--b--", [b"\r\none\r\n"]),
    (b"--b\r\n\r\none\n\r\n--b--", [b"\r\none\n"]),
    (b"--b\r\n\r\none\r\r\n--b--", [b"\r\none\r"]),
    # Nothing, or nearly nothing.
    (b"--b\r\n\r\n--b--", [b""]),
    (b"--b\r\n--b--", [b""]),
    (b"--b\r\n--b\r\n--b--", [b"", b""]),
    (b"--b\r\n\r\n\r\n--b--", [b"\r\n"]),
    # What begins as the boundary does is none.
    (b"--b\r\n\r\none\r\n--bb\r\ntwo\r\n--b--", [b"\r\none\r\n--bb\r\ntwo"]),
    (b"--b\r\n\r\none\r\n--bb--\r\ntwo\r\n--b--", [b"\r\none\r\n--bb--\r\ntwo"]),
    (b"--b\r\n\r\none\r\n--b-\r\ntwo\r\n--b--", [b"\r\none\r\n--b-\r\ntwo"]),
    (b"--b\r\n\r\none\r\n--b--x\r\ntwo\r\n--b--", [b"\r\none\r\n--b--x\r\ntwo"]),
    (b"--bb\r\n\r\nzero\r\n--b\r\n\r\none\r\n--b--", [b"\r\none"]),
    (b"--b\r\n\r\none\r\n --b\r\ntwo\r\n--b--", [b"\r\none\r\n --b\r\ntwo"]),
    (b"--b\r\n\r\none\n--b\r\ntwo\r\n--b--", [b"\r\none\n--b\r\ntwo"]),
    (b"--b\r\n\r\none\r--b--\r\n--b--", [b"\r\none\r--b--"]),
    (b"--b\r\n\r\none--b--\r\n--b--", [b"\r\none--b--"]),
    (b"--b\r\n\r\none\r\n--B--\r\n--b--", [b"\r\none\r\n--B--"]),
    (b"--b\r\n\r\none\r\n--b\n\r\n--b--", [b"\r\none\r\n--b\n"]),
    (b"--b\r\n\r\none\r\n--b\x00\r\n--b--", [b"\r\none\r\n--b\x00"]),
]


@pytest.mark.parametrize(("body", "wanted"), PARTS)
def test_parts(body: bytes, wanted: list[bytes]) -> None:
    assert parts(body) == wanted


NO_PARTS = [
    b"",
    b"--b",
    b"--b--",
    b"--b--\r\n",
    b"--b\r\n",
    b"--b\r\n\r\none",
    b"--b\r\n\r\none\r\n",
    b"--b\r\n\r\none\r\n--b",
    b"--b\r\n\r\none\r\n--b\r\n",
    b"--b\r\n\r\none\r\n--b-",
    b"--b\r\n\r\none\n--b--",
    b" --b\r\n\r\none\r\n-b--",
    b"\n--b\r\n\r\none\r\n",
    b"x--b\r\n\r\none",
    b"--bb\r\n\r\none\r\n--bb--",
    b"--b\n\none\n--b--\n",
    b"preamble\r\n--b--\r\n",
    b"--b\r\nno header\r\n--b--",
]


@pytest.mark.parametrize("body", NO_PARTS)
def test_no_parts(body: bytes) -> None:
    with pytest.raises(MimeError):
        parts(body)


@pytest.mark.parametrize(
    "kind",
    [
        b"text/plain;boundary=b",
        b"multipart/mixed",
        b'multipart/mixed;boundary=""',
        b"multipart/mixed;boundary",
        b"multipart/mixed;boundary=" + b"b" * 71,
        b'multipart/mixed;boundary="b',
    ],
)
def test_no_boundary(kind: bytes) -> None:
    with pytest.raises(MimeError):
        of(kind, b"--b\r\n\r\none\r\n--b--").parts()


def test_long_boundary() -> None:
    assert parts(b"--" + b"b" * 70 + b"\r\n\r\none\r\n--" + b"b" * 70 + b"--", b"b" * 70) == [b"\r\none"]


def test_boundary_with_everything() -> None:
    boundary = b"'()+_,-./:=? x"
    assert parts(b"--" + boundary + b"\r\n\r\none\r\n--" + boundary + b"--", boundary) == [b"\r\none"]


def test_number_of_parts() -> None:
    assert len(parts(b"--b\r\n" + b"\r\nx\r\n--b\r\n" * 15 + b"\r\nx\r\n--b--")) == 16
    with pytest.raises(MimeError, match="too many"):
        parts(b"--b\r\n" + b"\r\nx\r\n--b\r\n" * 16 + b"\r\nx\r\n--b--")


@pytest.mark.parametrize(
    "body",
    [
        b"--b\r\n\r\n" + b"\r\n--bx" * 12000,
        b"--b\r\n\r\n" + b"\r\n--b" * 15000,
        b"\r\n--b" * 15000,
        b"--b" * 20000,
        b"--b\r\n" + b"\r\n" * 30000,
        b"--b\r\n" + b" " * 60000,
        b"--b\r\n\r\n" + (b"\r\n--b" + b" " * 60) * 900 + b"x",
    ],
)
def test_long_bodies_cost_little(body: bytes) -> None:
    start = time.process_time()
    with pytest.raises(MimeError):
        parts(body)
    assert time.process_time() - start < 0.05


PART = st.tuples(HEADERS, st.one_of(st.binary(max_size=80), st.text("-b\r\n ", max_size=30).map(str.encode)))


@given(st.lists(PART, min_size=1, max_size=16))
def test_parts_of_multipart_are_the_same_bytes(wanted: list[tuple[list[tuple[str, bytes]], bytes]]) -> None:
    raw = [Entity.make(headers, body).raw for headers, body in wanted]
    kind, body = multipart(b"multipart/mixed", raw, b";x=y")
    assert kind.startswith(b"multipart/mixed;x=y;boundary=")
    assert [one.raw for one in of(kind, body).parts()] == raw


@given(st.lists(st.text("b-\r\n \t", max_size=20).map(str.encode), min_size=1, max_size=6))
def test_parts_end_where_they_say(pieces: list[bytes]) -> None:
    """Whatever looks like a delimiter and has one before its content is one, and what is between is not changed."""
    body = b"--b\r\n" + b"\r\n--b\r\n".join(b"\r\n" + one for one in pieces) + b"\r\n--b--"
    try:
        found = parts(body)
    except MimeError:
        return
    at = 0
    for one in found:
        at = body.index(one, at) + len(one)
        assert b"\r\n--b\r\n" not in one
        assert b"\r\n--b--\r\n" not in one
    if not any(b"--b" in one for one in pieces):
        assert found == [b"\r\n" + one for one in pieces]


def test_boundaries_are_not_known_before() -> None:
    assert len({multipart(b"multipart/mixed", [b"\r\n"])[0] for _ in range(100)}) == 100


def test_nested() -> None:
    """One in another, many times: each `parts` opens one, and nothing more happens by itself."""
    entity = of(b"text/plain", b"Hello!")
    for _ in range(200):
        entity = of(*multipart(b"multipart/mixed", [entity.raw]))
    depth = 0
    while entity.kind == b"multipart/mixed":
        (entity,) = entity.parts()
        depth += 1
    assert depth == 200
    assert entity.body == b"Hello!"


# Messages.


def test_of_message() -> None:
    found = of_message(
        message(
            b"c: text/plain;\r\n charset=utf-8\r\nSubject: x\r\nContent-Disposition: render\r\ne: gzip\r\n"
            b"Content-Language: eo\r\ncontent-transfer-encoding: binary\r\nMIME-Version: 1.0\r\n"
        )
    )
    assert found.headers == (
        ("content-type", b"text/plain; charset=utf-8"),
        ("content-disposition", b"render"),
        ("content-encoding", b"gzip"),
        ("content-language", b"eo"),
        ("content-transfer-encoding", b"binary"),
    )
    assert found.body == b"Hello!"
    assert Entity.parse(found.raw) == found


@pytest.mark.parametrize("key", ["Content-Disposition", "Content-Encoding", "Content-Language"])
def test_of_message_with_two(key: str) -> None:
    with pytest.raises(MimeError, match="second"):
        of_message(message(f"Content-Type: text/plain\r\n{key}: x\r\n{key}: y\r\n".encode()))


def test_of_message_compact_and_long() -> None:
    with pytest.raises(MimeError, match="second"):
        of_message(message(b"Content-Type: text/plain\r\nContent-Encoding: x\r\ne: y\r\n"))


def lines_of(found: Request) -> list[bytes]:
    return [line for key, line in found.fields if key.startswith("content-")]


TO_MESSAGE: list[tuple[Entity | None, list[bytes], bytes]] = [
    (None, [b"Content-Length: 0"], b""),
    (
        of(b"application/sdp", b"v=0\r\n", ("Content-Disposition", b"session"), ("X-Other", b"1")),
        [b"Content-Type: application/sdp", b"Content-Disposition: session", b"Content-Length: 5"],
        b"v=0\r\n",
    ),
    (
        of(b"text/plain", HELLO, ("Content-Transfer-Encoding", b"base64")),
        [b"Content-Type: text/plain", b"Content-Length: 6"],
        b"Hello!",
    ),
    (Entity.parse(b"\r\nHello!"), [b"Content-Type: text/plain", b"Content-Length: 6"], b"Hello!"),
    (of(b"text/plain", b""), [b"Content-Type: text/plain", b"Content-Length: 0"], b""),
]


@pytest.mark.parametrize(("entity", "lines", "body"), TO_MESSAGE)
def test_to_message(entity: Entity | None, lines: list[bytes], body: bytes) -> None:
    found = message(
        b"c: multipart/signed;boundary=x\r\nContent-Disposition: attachment\r\nContent-Transfer-Encoding: binary\r\n"
        b"Content-Language: eo\r\nl: 6\r\nSubject: x\r\n"
    )
    assert found.uint("content-length", 65535) == 6
    to_message(found, entity)
    assert lines_of(found) == lines
    assert found.body == body
    assert found.get("subject") == b"x"
    again = parse(found.serialize())
    assert again.body == body
    assert again.uint("content-length", 65535) == found.uint("content-length", 65535) == len(body)


@pytest.mark.parametrize(("encoding", "status"), [(b"quoted-printable", 415), (b"base64", 400)])
def test_to_message_unreadable(encoding: bytes, status: int) -> None:
    with pytest.raises(MimeError) as caught:
        to_message(message(b""), of(b"text/plain", b"?", ("Content-Transfer-Encoding", encoding)))
    assert caught.value.status == status


def test_message_and_back() -> None:
    found = message(b"Content-Type: text/plain\r\nContent-Language: eo\r\n")
    entity = of_message(found)
    other = message(b"", b"")
    to_message(other, entity)
    assert of_message(other) == entity
