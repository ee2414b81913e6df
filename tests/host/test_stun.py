"""STUN on the SIP port (RFC 5626 section 8, RFC 8489).

The transaction and the XOR-MAPPED-ADDRESS values are those of the sample responses in RFC 5769 sections 2.2 and 2.3.
"""

import asyncio
import random
from pathlib import Path

import pytest
from sip import UdpClient, domain, request, run

from neighbour.transport.stun import answer_binding, is_stun

COOKIE = bytes.fromhex("2112a442")
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
V4 = ("192.0.2.1", 32853)
V6 = ("2001:db8:1234:5678:11:2233:4455:6677", 32853)
MAPPED_V4 = bytes.fromhex("002000080001a147e112a643")
MAPPED_V6 = bytes.fromhex("002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9")


def message(kind: int = 1, *attributes: tuple[int, bytes], cookie: bytes = COOKIE, length: int | None = None) -> bytes:
    body = b"".join(
        number.to_bytes(2) + len(value).to_bytes(2) + value + bytes(-len(value) % 4) for number, value in attributes
    )
    return kind.to_bytes(2) + (len(body) if length is None else length).to_bytes(2) + cookie + TRANSACTION + body


@pytest.mark.parametrize(
    ("source", "attributes"),
    [
        (V4, ()),
        (V6, ()),
        (("fe80::1%2", 32853), ()),
        # What may be ignored: comprehension-optional ones, and known ones that mean nothing here.
        (V4, ((0x8022, b"a client"), (0x8028, b"\0\0\0\0"), (0xC057, b"\0\0\0\1"))),
        (V4, ((0x0006, b"user"), (0x0008, bytes(20)), (0x0014, b"realm"), (0x001C, bytes(32)))),
    ],
)
def test_success(source: tuple[str, int], attributes: tuple[tuple[int, bytes], ...]) -> None:
    asked = message(1, *attributes)
    answer = answer_binding(asked, source)
    assert answer is not None
    body = {V4: MAPPED_V4, V6: MAPPED_V6}.get(source)
    if body is not None:
        assert answer == b"\x01\x01" + len(body).to_bytes(2) + COOKIE + TRANSACTION + body
    assert answer == answer_binding(asked, source)  # "the same success response for the same request"


def test_what_has_to_be_understood_and_is_not() -> None:
    answer = answer_binding(message(1, (0x0003, bytes(4)), (0x7FFF, b"x"), (0x8022, b"y"), (0x0003, b"")), V4)
    assert answer == (
        bytes.fromhex("01110010") + COOKIE + TRANSACTION + bytes.fromhex("00090004 00000414 000a0004 0003 7fff")
    )
    one = answer_binding(message(1, (0x0024, b"")), V4)
    assert one == bytes.fromhex("01110010") + COOKIE + TRANSACTION + bytes.fromhex(
        "0009000400000414 000a0002 0024 0000"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        message()[:19],
        message(cookie=b"\x21\x12\xa4\x43"),
        message(cookie=bytes(4)),  # RFC 3489
        message(0x0011),  # an indication
        message(0x0101),
        message(0x0111),
        message(0x0003),  # Allocate
        message(length=4),
        message(length=65532),
        message() + b"\0\0\0\0",
        message(1, (0x8022, b"x"))[:-1] + b"",
        message(length=2) + b"\0\0",
        message(1, (0x8022, bytes(8)))[:20] + bytes.fromhex("80220100") + bytes(8),  # longer than the message
        message(1, (0x0003, bytes(1400))),
    ],
)
def test_nothing_is_answered(data: bytes) -> None:
    assert answer_binding(data, V4) is None


def test_an_answer_is_small() -> None:
    """Who forges an address gets at most 24 bytes more out of it than they sent, which is what the RFC asks for."""
    numbers = random.Random(5769)
    for _ in range(2000):
        kinds = [numbers.randrange(0x10000) for _ in range(numbers.randrange(60))]
        asked = message(1, *((kind, bytes(numbers.randrange(9))) for kind in kinds))
        for source in (V4, V6):
            answer = answer_binding(asked, source)
            assert answer is not None
            assert len(answer) <= len(asked) + 24


def test_many_attributes_take_no_time() -> None:
    """Attributes of no length, all different, in the largest message that is looked at."""
    asked = message(1, *((kind, b"") for kind in range(0x1000, 0x1000 + 315)))
    assert len(asked) == 1280
    answer = answer_binding(asked, V4)
    assert answer is not None
    assert len(answer) < len(asked)


def test_junk() -> None:
    numbers = random.Random(8489)
    for _ in range(5000):
        data = bytearray(message(1, (0x8022, b"some"), (0x0006, b"user")))
        for _ in range(numbers.randrange(1, 6)):
            data[numbers.randrange(len(data))] = numbers.randrange(256)
        answer_binding(bytes(data[: numbers.randrange(len(data) + 1)]), V4)


def test_what_is_stun() -> None:
    assert is_stun(message())
    assert is_stun(message(0x0101))
    for data in (b"", b"OPTIONS sip:a SIP/2.0\r\n", b"\0\0\0\0", b"\r\n\r\n", b"\xe1" + message()[1:]):
        assert not is_stun(data)


def test_at_the_sip_port(tmp_path: Path) -> None:
    """A phone learns its mapping where it sends SIP to; other STUN is no SIP either, and has no answer."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            phone = await UdpClient.open(at)
            phone.send_raw(message())
            answer = await phone.raw()
            assert answer == answer_binding(message(), phone.address)
            assert answer[:2] == b"\x01\x01"
            for data in (message(0x0011), message(0x0101), message(0x0003), message(length=8)):
                phone.send_raw(data)
            await phone.silence(0.2)
            phone.send_raw(message(1, (0x0003, bytes(4))))
            assert (await phone.raw())[:2] == b"\x01\x11"
            assert at.value("wisp_malformed_total", transport="UDP") == 0
            # What begins like STUN and has no cookie is no STUN (RFC 5626 needs none of RFC 3489's).
            phone.send_raw(message(cookie=bytes(4)))
            await asyncio.sleep(0.1)
            assert at.value("wisp_malformed_total", transport="UDP") == 1
            assert (await phone.ask(request("OPTIONS", "sip:x@a.example", max_forwards=0))).status == 483

    run(work)
