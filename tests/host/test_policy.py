"""What users ask for, and what they are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neighbour.agent.policy import (
    ENCRYPT,
    HEAVY,
    LEVELS,
    MEDIUM,
    NONE,
    SIGN,
    Status,
    Wish,
    highest,
    parse_assist,
    reaches,
    setting_of,
)
from sipwire.errors import ParseError
from sipwire.message import Request

BOTH = frozenset((SIGN, ENCRYPT))


def assist(*lines: bytes, setting: Wish | None = None) -> Wish:
    request = Request("INVITE", b"sip:bob@b.example")
    for line in lines:
        request.add("Security-Assist", line)
    return parse_assist(request.values("security-assist"), setting or Wish())


ASKED: list[tuple[tuple[bytes, ...], Wish]] = [
    ((), Wish()),
    ((b"sign",), Wish(frozenset((SIGN,)))),
    ((b"encrypt",), Wish(frozenset((ENCRYPT,)))),
    ((b"sign, encrypt",), Wish(BOTH)),
    ((b"encrypt,sign",), Wish(BOTH)),
    ((b"sign", b"encrypt"), Wish(BOTH)),
    ((b"sign,sign",), Wish(frozenset((SIGN,)))),
    ((b"SIGN;LEVEL=Heavy",), Wish(frozenset((SIGN,)), HEAVY)),
    ((b"sign;level=light",), Wish(frozenset((SIGN,)), "light")),
    ((b'sign ; level = "medium"',), Wish(frozenset((SIGN,)), MEDIUM)),
    ((b"sign;level=medium,encrypt;level=heavy",), Wish(BOTH, HEAVY)),
    ((b"sign;level=heavy", b"encrypt;level=medium"), Wish(BOTH, HEAVY)),
    ((b"sign;level=light;level=heavy",), Wish(frozenset((SIGN,)), HEAVY)),
    ((b"sign;level=heavy;level=light",), Wish(frozenset((SIGN,)), HEAVY)),
    ((b"sign;x=y",), Wish(frozenset((SIGN,)))),
    ((b"none",), Wish(is_own=True)),
    ((b"None;level=heavy",), Wish(frozenset(), HEAVY, is_own=True)),
    ((b"none,none",), Wish(is_own=True)),
]


@pytest.mark.parametrize(("lines", "wanted"), ASKED)
def test_asked(lines: tuple[bytes, ...], wanted: Wish) -> None:
    assert assist(*lines) == wanted


UNKNOWN: list[tuple[bytes, ...]] = [
    (b"",),
    (b",",),
    (b"sign,",),
    (b";level=heavy",),
    (b"seal",),
    (b"sign,seal",),
    (b"none,sign",),
    (b"none", b"encrypt"),
    (b"sign encrypt",),
    (b"sign;level",),
    (b"sign;level=",),
    (b"sign;level=none",),
    (b"sign;level=heaviest",),
    (b"sign;level=heavy,encrypt;level=best",),
    (b"sign;level=light;level=best",),
    (b'sign;level="heavy',),
    (b"sign;level=h\xe9avy",),
    (b"\xe9",),
    (b"sign;;level=heavy",),
    (b'"sign"',),
    (b"si\x00gn",),
]


@pytest.mark.parametrize("lines", UNKNOWN)
def test_unknown(lines: tuple[bytes, ...]) -> None:
    """Who asks for more than we can do shall not get less."""
    with pytest.raises(ParseError) as caught:
        assist(*lines)
    assert caught.value.status == 400


@given(st.lists(st.binary(max_size=30), max_size=3))
def test_anything(values: list[bytes]) -> None:
    try:
        found = parse_assist(values, Wish(frozenset((SIGN,)), MEDIUM))
    except ParseError as error:
        assert error.status == 400  # noqa: PT017  or it is read
        return
    assert found.operations <= BOTH
    assert reaches(found.level, MEDIUM)


@pytest.mark.parametrize("setting", LEVELS)
@pytest.mark.parametrize("asked", [None, *LEVELS[1:]])
def test_the_level_of_an_account_is_never_undercut(setting: str, asked: str | None) -> None:
    line = b"sign" if asked is None else b"sign;level=" + asked.encode()
    found = assist(line, setting=Wish(BOTH, setting))
    assert LEVELS.index(found.level) == max(LEVELS.index(setting), LEVELS.index(asked or NONE))
    assert found.operations == {SIGN}
    own = assist(line.replace(b"sign", b"none"), setting=Wish(BOTH, setting))
    assert own == Wish(frozenset(), found.level, is_own=True)


def test_an_account_that_does_its_own() -> None:
    setting = Wish(frozenset(), HEAVY, is_own=True)
    assert assist(setting=setting) == setting
    assert assist(b"sign", setting=setting) == Wish(frozenset((SIGN,)), HEAVY)


@pytest.mark.parametrize(
    ("words", "level", "wanted"),
    [
        (None, None, Wish()),
        (None, HEAVY, Wish(level=HEAVY)),
        ("sign", MEDIUM, Wish(frozenset((SIGN,)), MEDIUM)),
        ("sign,encrypt", None, Wish(BOTH)),
        ("none", HEAVY, Wish(frozenset(), HEAVY, is_own=True)),
    ],
)
def test_settings(words: str | None, level: str | None, wanted: Wish) -> None:
    assert setting_of(words, level) == wanted


@pytest.mark.parametrize("operation", [SIGN, ENCRYPT])
@pytest.mark.parametrize("least", LEVELS)
def test_what_is_done(operation: str, least: str) -> None:
    assert Wish().does(operation, least) is (least == HEAVY)
    assert Wish(frozenset((operation,))).does(operation, least)
    assert not Wish(BOTH, HEAVY, is_own=True).does(operation, least)


@given(st.lists(st.sampled_from((None, "", *LEVELS)), max_size=4))
def test_highest(levels: list[str | None]) -> None:
    found = highest(*levels)
    assert all(reaches(found, level) for level in levels if level)
    assert found in (*levels, NONE)


# What is told.

STATUSES: list[tuple[Status, bytes]] = [
    (Status(), b"level=none"),
    (
        Status(HEAVY, b"sip:bob@b.example", "b.example", signed=True, encrypted=True, tls=True),
        b'level=heavy;verified="sip:bob@b.example";by="b.example";signed;encrypted;tls',  # as WIRE section 2 has it
    ),
    (Status(MEDIUM, by="b.example", tls=True), b'level=medium;by="b.example";tls'),
    (Status(MEDIUM, b"sip:b@b.example", "b.example", signed=True), b'level=medium;verified="sip:b@b.example";by="b.example";signed'),
    (Status(MEDIUM, by="c.example", encrypted=True, tls=True), b'level=medium;by="c.example";encrypted;tls'),
    (Status(MEDIUM, tls=True, plain="no certificate"), b'level=medium;tls;plain="no certificate"'),
    (Status(NONE, plain='a "b" \\ é'), b'level=none;plain="a \\"b\\" \\\\ ?"'),
    (Status(NONE, notes=["a stale list"]), b"level=none"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "wanted"), STATUSES)
def test_serialize(status: Status, wanted: bytes) -> None:
    assert status.serialize() == wanted


VERIFIED = Status(HEAVY, b"sip:bob@b.example", "b.example", signed=True, encrypted=True, tls=True)
NOBODY = Status(MEDIUM, by="b.example", tls=True)
WHO = b"sip:dave@a.example"

TOLD: list[tuple[Status, str, bytes, bytes | None, bytes | None]] = [
    # What held, what the account wants shown, who else has shown who it is; Subject and P-Asserted-Identity then.
    (VERIFIED, "", b"", b"Lunch", None),
    (VERIFIED, "subject", b"", b"validated <sip:bob@b.example>", None),
    (VERIFIED, "asserted", b"", b"Lunch", b"<sip:bob@b.example>"),
    (VERIFIED, "subject,asserted", b"", b"validated <sip:bob@b.example>", b"<sip:bob@b.example>"),
    (VERIFIED, "asserted", WHO, b"Lunch", b"<sip:bob@b.example>"),
    (NOBODY, "subject,asserted", b"", b"Lunch", None),
    (NOBODY, "subject,asserted", WHO, b"Lunch", b"<sip:dave@a.example>"),
    (NOBODY, "subject", WHO, b"Lunch", None),
    (NOBODY, "", WHO, b"Lunch", None),
]


@pytest.mark.parametrize(("status", "show", "asserted", "subject", "identity"), TOLD)
def test_tell(status: Status, show: str, asserted: bytes, subject: bytes | None, identity: bytes | None) -> None:
    request = Request("INVITE", b"sip:carol@a.example")
    request.add("Subject", b"Lunch")
    status.tell(request, show, asserted)
    assert request.get_all("security-status") == [status.serialize()]
    assert request.get_all("subject") == [subject]
    assert request.get("p-asserted-identity") == identity


def test_tell_where_there_are_two_subjects() -> None:
    request = Request("INVITE", b"sip:carol@a.example")
    request.add("Subject", b"validated <sip:boss@b.example>")
    request.add("s", b"validated <sip:boss@b.example>")
    VERIFIED.tell(request, "subject")
    assert request.get_all("subject") == [b"validated <sip:bob@b.example>"]
