"""Which of several refusals the caller gets, and what becomes part of it (RFC 3261 section 16.7 steps 6 and 7)."""

import pytest

from scenarios.world import Phone, World, scenario

PAIRS = [
    # "It MUST choose from the 6xx class responses if any exist in the context."
    (486, 600, 600),
    (404, 603, 603),
    (302, 604, 604),
    (503, 606, 606),
    (408, 603, 603),
    # "If no 6xx class responses are present, the proxy SHOULD choose from the lowest response class"
    (302, 486, 302),
    (302, 408, 302),
    (301, 500, 301),
    (404, 500, 404),
    (408, 500, 408),
    (486, 503, 486),
    # "SHOULD give preference to responses that provide information affecting resubmission of this request"
    (486, 401, 401),
    (404, 407, 407),
    (480, 415, 415),
    (488, 420, 420),
    (404, 484, 484),
    (415, 401, 401),
    # ... and who was only not there says less than who was
    (408, 486, 486),
    (408, 404, 404),
    (487, 486, 486),
    (430, 480, 480),
    (430, 408, 408),
    (408, 487, 487),
    # "a proxy which receives a 503 ... SHOULD NOT forward it upstream"
    (503, 503, 500),
    (503, 500, 500),
    (503, 504, 504),
    # RFC 5626: "Endpoints should never receive a 430"
    (430, 430, 480),
    # unknown ones are of their class
    (599, 699, 699),
    (399, 486, 399),
]


@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
@pytest.mark.parametrize(("one", "other", "best"), PAIRS)
@scenario()
async def test_two_refusals(here: World, one: int, other: int, best: int, turned: bool) -> None:
    (carol,) = await here.phones("carol")
    phones = await here.ring_group("dave", "1", "1")
    first, second = (other, one) if turned else (one, other)
    for phone, status, after_s in zip(phones, (first, second), (0.01, 0.02), strict=True):
        phone.gets("INVITE").answers((after_s, status), headers=(("X-From", phone.name.encode()),))
    call = carol.call("dave")
    response = await call.final()
    assert response.status == best
    assert call.statuses == [best]
    assert len(response.get_all("x-from")) == 1
    if response.status in (one, other):
        said_by = phones[0] if response.status == first else phones[1]
        assert response.get("x-from") == said_by.name.encode()


async def _refusing(here: World, *answers: tuple[int, tuple[tuple[str, bytes], ...]]) -> tuple[Phone, list[Phone]]:
    (carol,) = await here.phones("carol")
    phones = await here.ring_group("dave", *["1"] * len(answers))
    for phone, (status, headers) in zip(phones, answers, strict=True):
        phone.gets("INVITE").answers((0.01, status), headers=headers)
    return carol, phones


def _challenge(realm: bytes) -> bytes:
    return b'Digest realm="%s", nonce="n", algorithm=SHA-256, qop="auth"' % realm


@scenario()
async def test_challenges_are_gathered(here: World) -> None:
    """ "The resulting 401 or 407 could have several WWW-Authenticate AND Proxy-Authenticate header field values." """
    carol, _ = await _refusing(
        here,
        (401, (("WWW-Authenticate", _challenge(b"one")),)),
        (404, ()),
        (407, (("Proxy-Authenticate", _challenge(b"two")), ("Proxy-Authenticate", _challenge(b"three")))),
        (401, (("WWW-Authenticate", _challenge(b"one")),)),
    )
    response = await carol.call("dave").final()
    assert response.status == 401
    assert response.get_all("www-authenticate") == [_challenge(b"one")] * 2
    assert response.get_all("proxy-authenticate") == [_challenge(b"two"), _challenge(b"three")]


@scenario()
async def test_challenges_are_gathered_into_a_407_too(here: World) -> None:
    carol, _ = await _refusing(
        here,
        (407, (("Proxy-Authenticate", _challenge(b"two")),)),
        (407, (("Proxy-Authenticate", _challenge(b"four")),)),
    )
    response = await carol.call("dave").final()
    assert response.status == 407
    assert response.get_all("proxy-authenticate") == [_challenge(b"two"), _challenge(b"four")]


@scenario()
async def test_challenges_do_not_get_into_other_refusals(here: World) -> None:
    carol, _ = await _refusing(here, (603, ()), (407, (("Proxy-Authenticate", _challenge(b"two")),)))
    for phone in here.everybody:
        phone.gets(None)
    response = await carol.call("dave").final()
    assert (response.status, response.get_all("proxy-authenticate")) == (603, [])


@scenario()
async def test_redirections_are_gathered(here: World) -> None:
    """Every phone knows another place: the caller hears of all of them."""
    carol, _ = await _refusing(
        here,
        (302, (("Contact", b"<sip:dave@b.example>;q=0.5"),)),
        (302, (("Contact", b"<sip:dave@c.example>, <sip:dave@d.example>"),)),
        (302, (("Contact", b"<sip:dave@b.example>;q=0.5"),)),
    )
    response = await carol.call("dave").final()
    assert response.status == 302
    assert response.values("contact") == [
        b"<sip:dave@b.example>;q=0.5",
        b"<sip:dave@c.example>",
        b"<sip:dave@d.example>",
    ]


@scenario()
async def test_what_one_calls_permanent_is_not_so_for_all(here: World) -> None:
    carol, _ = await _refusing(
        here,
        (301, (("Contact", b"<sip:dave@b.example>"),)),
        (302, (("Contact", b"<sip:dave@c.example>"),)),
    )
    response = await carol.call("dave").final()
    assert response.status == 300
    assert response.values("contact") == [b"<sip:dave@b.example>", b"<sip:dave@c.example>"]


@scenario()
async def test_use_proxy_is_left_alone(here: World) -> None:
    """The Contact of a 305 is a proxy, not a callee."""
    carol, _ = await _refusing(
        here,
        (302, (("Contact", b"<sip:dave@c.example>"),)),
        (305, (("Contact", b"<sip:proxy.b.example>"),)),
    )
    response = await carol.call("dave").final()
    assert (response.status, response.values("contact")) == (302, [b"<sip:dave@c.example>"])


@scenario()
async def test_a_503_keeps_what_it_says_but_not_what_it_means(here: World) -> None:
    carol, _ = await _refusing(here, (503, (("Retry-After", b"120"), ("X-Reason", b"no memory"))))
    response = await carol.call("dave").final()
    assert response.start_line() == b"SIP/2.0 500 Server Internal Error"
    assert response.get("x-reason") == b"no memory"


@scenario()
async def test_a_refusal_goes_through_whole(here: World) -> None:
    """Headers nobody here knows, and their order, are as the callee wrote them."""
    headers = (("X-One", b"1"), ("x-two", b" spaced  "), ("X-One", b"again"), ("Warning", b'399 dave "busy"'))
    carol, phones = await _refusing(here, (486, headers))
    response = await carol.call("dave").final()
    written = [line for key, line in response.fields if key in ("x-one", "x-two", "warning")]
    assert written == [b"X-One: 1", b"x-two:  spaced  ", b"X-One: again", b'Warning: 399 dave "busy"']
    assert response.to.tag.startswith(b"dave")
    assert phones[0].requests[0].call_id == response.call_id
