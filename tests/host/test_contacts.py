"""What a REGISTER asks for (RFC 3261 section 10.3 steps 6 and 7), without a registrar."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neighbour.config import RegistrarConfig
from neighbour.contacts import read_contacts
from neighbour.equivalence import canonical_instance
from neighbour.refusal import RefusedError
from sipwire.errors import ParseError
from sipwire.message import Request

LIMITS = RegistrarConfig(min_expires_s=60, max_expires_s=7200, max_contacts=3)
UUID = "urn:uuid:00000000-0000-1000-8000-aabbccddeeff"


def asking(*contacts: str, expires: str | None = None) -> Request:
    made = Request("REGISTER", b"sip:a.example")
    for contact in contacts:
        made.add("Contact", contact.encode())
    if expires is not None:
        made.add("Expires", expires.encode())
    return made


@pytest.mark.parametrize(
    ("contact", "header", "granted"),
    [
        # "If the field value has an "expires" parameter, that value MUST be taken".
        ("<sip:c@192.0.2.1>;expires=100", "200", 100),
        ("<sip:c@192.0.2.1>", "200", 200),
        # "If there is neither, a locally-configured default value MUST be taken".
        ("<sip:c@192.0.2.1>", None, 7200),
        ("<sip:c@192.0.2.1>;expires=0", "200", 0),
        ("<sip:c@192.0.2.1>", "0", 0),
        ("<sip:c@192.0.2.1>", "0000", 0),
        # "The registrar MAY choose an expiration less than the requested".
        ("<sip:c@192.0.2.1>;expires=7201", None, 7200),
        ("<sip:c@192.0.2.1>;expires=4294967296", None, 7200),
        ("<sip:c@192.0.2.1>;expires=280297596632815", None, 7200),
        ("<sip:c@192.0.2.1>", "10000000000", 7200),
        ("<sip:c@192.0.2.1>", "9" * 5000, 7200),
        # "Malformed values SHOULD be treated as equivalent to 3600".
        ("<sip:c@192.0.2.1>;expires=soon", "200", 3600),
        ('<sip:c@192.0.2.1>;expires="Sat, 01 Dec 2040 16:00:00 GMT"', "200", 3600),
        ("<sip:c@192.0.2.1>;expires", "200", 3600),
        ("<sip:c@192.0.2.1>", "Sat, 01 Dec 2040 16:00:00 GMT", 3600),
        ("<sip:c@192.0.2.1>", "-1", 3600),
        ("<sip:c@192.0.2.1>", "", 3600),
        ("<sip:c@192.0.2.1>;expires=-60", None, 3600),
        ("<sip:c@192.0.2.1>;expires=+60", None, 3600),
        ("<sip:c@192.0.2.1>;expires=60", None, 60),
        ("<sip:c@192.0.2.1>;EXPIRES=60", None, 60),
    ],
)
def test_expiration(contact: str, header: str | None, granted: int) -> None:
    (one,) = read_contacts(asking(contact, expires=header), LIMITS) or []
    assert one.expires_s == granted


@pytest.mark.parametrize(("contact", "header"), [("<sip:c@192.0.2.1>;expires=59", "3600"), ("sip:c@192.0.2.1", "1")])
def test_too_brief(contact: str, header: str) -> None:
    """One of several is enough: the request is done as a whole or not at all."""
    with pytest.raises(RefusedError) as caught:
        read_contacts(asking("<sip:other@192.0.2.1>;expires=100", contact, expires=header), LIMITS)
    assert (caught.value.status, caught.value.headers) == (423, (("Min-Expires", b"60"),))


def test_all_there_are() -> None:
    assert read_contacts(asking("*", expires="0"), LIMITS) is None
    assert read_contacts(asking(expires="0"), LIMITS) == []
    for contacts, expires in ((("*",), None), (("*",), "1"), (("*",), "x"), (("*", "sip:c@h"), "0"), (("*", "*"), "0")):
        with pytest.raises(ParseError) as caught:
            read_contacts(asking(*contacts, expires=expires), LIMITS)
        assert caught.value.status == 400


@pytest.mark.parametrize(
    ("contact", "uri", "q", "instance", "reg_id", "params"),
    [
        ("sip:c@192.0.2.1;q=0.5", b"sip:c@192.0.2.1", 500, "", None, b""),  # of a bare URI they are the header's
        ("<sip:c@192.0.2.1;x=y>;q=0", b"sip:c@192.0.2.1;x=y", 0, "", None, b""),
        ('"C" <sips:c@h>;Q=0.125;m="a;b"', b"sips:c@h", 125, "", None, b';m="a;b"'),
        ("<tel:+1-201-555-0123>;q=1.0", b"tel:+1-201-555-0123", 1000, "", None, b""),
        ("<mailto:c@h>", b"mailto:c@h", 1000, "", None, b""),
        (
            f'<sip:c@h>;+sip.instance="<{UUID.upper()}>";reg-id=7;audio;methods="INVITE, BYE"',
            b"sip:c@h",
            1000,
            UUID,
            7,
            f';+sip.instance="<{UUID.upper()}>";audio;methods="INVITE, BYE"'.encode(),
        ),
        (f'<sip:c@h>;+SIP.Instance="<{UUID}>"', b"sip:c@h", 1000, UUID, None, f';+SIP.Instance="<{UUID}>"'.encode()),
        # "a reg-id but no instance-id ... simply ignores the reg-id parameter".
        ("<sip:c@h>;reg-id=1", b"sip:c@h", 1000, "", None, b""),
        (f'<sip:c@h>;+sip.instance="<{UUID}>";reg-id=2147483647', b"sip:c@h", 1000, UUID, 0x7FFFFFFF, None),
    ],
)
def test_parts(contact: str, uri: bytes, q: int, instance: str, reg_id: int | None, params: bytes | None) -> None:
    (one,) = read_contacts(asking(contact), LIMITS) or []
    assert (one.uri, one.q, one.instance, one.reg_id) == (uri, q, instance, reg_id)
    if params is not None:
        assert one.params == params


@pytest.mark.parametrize(
    "contact",
    [
        "<sip:c@h>;q=1.1",
        "<sip:c@h>;q=nan",
        "<sip:c@h>;q=0.1234",
        "<sip:c@h>;q",
        "<sip:c@bad..host>",
        "<sip:c@h;x=%zz>",
        "nonsense",
        "<sip:c@h>;+sip.instance=urn:uuid:1",
        '<sip:c@h>;+sip.instance="<>"',
        '<sip:c@h>;+sip.instance="<urn:x:1><urn:x:2>"',
        f'<sip:c@h>;+sip.instance="<{UUID}>";reg-id=0',
        f'<sip:c@h>;+sip.instance="<{UUID}>";reg-id=2147483648',
        f'<sip:c@h>;+sip.instance="<{UUID}>";reg-id=x',
        f'<sip:c@h>;+sip.instance="<{UUID}>";reg-id',
        "<sip:" + "c" * 512 + "@h>",
        "<sip:c@h>;x=" + "y" * 1024,
    ],
)
def test_malformed(contact: str) -> None:
    with pytest.raises(ParseError) as caught:
        read_contacts(asking(contact, expires="100"), LIMITS)
    assert caught.value.status == 400


def test_several() -> None:
    found = read_contacts(asking("<sip:a@h>;expires=60, <sip:b@h>;expires=0", "sip:c@h"), LIMITS) or []
    assert [(one.uri, one.expires_s) for one in found] == [(b"sip:a@h", 60), (b"sip:b@h", 0), (b"sip:c@h", 7200)]


def test_twice_the_same() -> None:
    """The second would be a change of what the first has made, without a higher CSeq: "the request fails"."""
    for first, second in (("<sip:c@h>", "<sip:%63@H>"), ("<sip:c@h>;expires=0", "<sip:c@h>"), ("<tel:+1>", "<tel:+1>")):
        with pytest.raises(ParseError, match="second contact"):
            read_contacts(asking(first, second), LIMITS)


def test_a_reg_id_is_about_one_flow() -> None:
    """RFC 5626 section 6: others beside it may only be removed."""
    mine = f'<sip:c@h>;+sip.instance="<{UUID}>";reg-id=1'
    with pytest.raises(ParseError, match="reg-id"):
        read_contacts(asking(mine, "<sip:d@h>"), LIMITS)
    found = read_contacts(asking(mine, "<sip:d@h>;expires=0", f"{mine.replace('c@h', 'e@h')};expires=0"), LIMITS) or []
    assert [one.expires_s for one in found] == [7200, 0, 0]


def test_more_than_there_can_be() -> None:
    many = [f"<sip:c{number}@h>;expires=0" for number in range(6)]
    assert len(read_contacts(asking(*many), LIMITS) or []) == 6
    with pytest.raises(RefusedError, match="403"):
        read_contacts(asking(*many, "<sip:more@h>"), LIMITS)


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        (b"urn:uuid:AbC", b"URN:UUID:aBc", True),
        (b"URN:Foo:abc", b"urn:foo:abc", True),
        (b"urn:foo:abc", b"urn:foo:ABC", False),
        (b"urn:uuid:abc", b"urn:uuid:abd", False),
        (b"abc", b"ABC", False),
    ],
)
def test_instances(one: bytes, two: bytes, same: bool) -> None:
    assert (canonical_instance(one) == canonical_instance(two)) is same


PIECES = st.sampled_from(
    (
        *("<sip:c@h>", "sip:c@[::1]", "<tel:+1>", "*", "?x=y", ";q=", "0.5", ";expires=", "60", "99999999999"),
        *(";+sip.instance=", '"<urn:uuid:1>"', ";reg-id=", "1", "%41", "%"),
        *(",", ";", "=", '"', "<", ">", "\\", " ", "\t", "\x00", "\xff"),
    )
)


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=12), st.lists(PIECES, max_size=3))
def test_anything(contact: list[str], expires: list[str]) -> None:
    """Whatever stands there is read, or refused."""
    made = Request("REGISTER", b"sip:a.example")
    made.add("Contact", "".join(contact).encode("latin-1"))
    made.add("Expires", "".join(expires).encode("latin-1"))
    try:
        found = read_contacts(made, LIMITS)
    except (ParseError, RefusedError):
        return
    for one in found or []:
        assert 0 <= one.expires_s <= 7200
        assert one.reg_id is None or one.instance
