"""How each stream is protected on both sides: every pair of policies, and what attackers make of offers and answers."""

import os
from collections.abc import Callable
from itertools import product

import pytest

from neighbour.media.descriptions import Stream
from neighbour.media.keying import MediaError, Offered, judge, offer_line
from neighbour.media.keys import Keys
from neighbour.media.legs import OFF, OPPORTUNISTIC, OUTSIDE, PHONE, REQUIRED, TERMINAL, Leg
from sipwire.crypto import Crypto, size_of
from sipwire.sdp import Session

CM, CM32, GCM, CM256 = (
    b"AES_CM_128_HMAC_SHA1_80",
    b"AES_CM_128_HMAC_SHA1_32",
    b"AEAD_AES_256_GCM",
    b"AES_256_CM_HMAC_SHA1_80",
)
INSIDE, OUT = (CM, CM32), (GCM, CM)
HEAD = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
POLICIES = (REQUIRED, OPPORTUNISTIC, OFF)
PORT = 6000


def leg(kind: str = PHONE, srtp: str = REQUIRED, name: str = "carol") -> Leg:
    return Leg(kind, name, "always", srtp, suites=OUT if kind == OUTSIDE else INSIDE)


def line(suite: bytes, tag: int = 1, more: bytes = b"") -> bytes:
    return Crypto.make(tag, suite, os.urandom(size_of(suite))).serialize() + more


def stream(*cryptos: bytes, proto: bytes = b"RTP/SAVP", port: int = 4000, kind: bytes = b"audio") -> Stream:
    body = HEAD + b"m=%s %d %s 0\r\n" % (kind, port, proto) + b"".join(b"a=crypto:%s\r\n" % one for one in cryptos)
    session = Session.parse(body)
    return Stream.read(session, session.media[0])


def own() -> Callable[[bytes], bytes]:
    keys: dict[bytes, bytes] = {}
    return lambda suite: keys.setdefault(suite, os.urandom(size_of(suite)))


def offer(theirs: Stream, sender: Leg, receiver: Leg, *, always_own: bool = False) -> Offered:
    return offer_line(theirs, sender, receiver, (own(), own()), always_own=always_own)


def given(offered: Offered) -> list[tuple[int, bytes]]:
    return [(crypto.tag, crypto.suite) for crypto, _ in offered.cryptos]


def taking(offered: Offered, at: int = 0) -> Stream:
    """An honest answer that takes one of the lines."""
    crypto = offered.cryptos[at][0]
    return stream(line(crypto.suite, crypto.tag), proto=offered.proto)


# What passes as it is.


def test_a_line_that_both_speak_passes_unchanged() -> None:
    theirs = stream(line(CM, 5))
    offered = offer(theirs, leg(TERMINAL), leg(TERMINAL))
    assert given(offered) == [(5, CM)]
    assert offered.line(PORT).cryptos == theirs.cryptos
    answer = taking(offered)
    agreed = offered.answer(answer, 7000)
    assert agreed is not None
    assert agreed.kind == "passed"
    assert agreed.line.cryptos == answer.cryptos
    assert (agreed.line.port, agreed.line.proto) == (7000, b"RTP/SAVP")
    # The relay expects on each side what the other is sent: it opens nothing for anybody.
    assert agreed.offerer.receive == agreed.answerer.send == Keys.of(theirs.cryptos[0])
    assert agreed.offerer.send == agreed.answerer.receive == Keys.of(answer.cryptos[0])


def test_outside_our_suites_follow_theirs() -> None:
    offered = offer(stream(line(CM, 3)), leg(TERMINAL), leg(OUTSIDE))
    assert given(offered) == [(3, CM), (4, GCM)]
    passed = offered.answer(taking(offered, 0), PORT)
    anew = offered.answer(taking(offered, 1), PORT)
    assert passed is not None
    assert anew is not None
    assert (passed.kind, anew.kind) == ("passed", "anew")
    assert anew.answerer.receive is not None
    assert (anew.answerer.receive.suite, anew.offerer.receive.suite) == (GCM, CM)  # type: ignore[union-attr]
    assert [(one.tag, one.suite) for one in anew.line.cryptos or ()] == [(3, CM)]


def test_a_terminal_is_offered_only_what_it_speaks() -> None:
    offered = offer(stream(line(GCM, 1), line(CM256, 2), line(CM32, 3)), leg(OUTSIDE), leg(TERMINAL))
    assert given(offered) == [(3, CM32)]


def test_gcm_alone_from_outside_is_encrypted_anew_for_a_terminal() -> None:
    theirs = stream(line(GCM, 9))
    offered = offer(theirs, leg(OUTSIDE), leg(TERMINAL))
    assert given(offered) == [(1, CM), (2, CM32)]
    agreed = offered.answer(taking(offered), PORT)
    assert agreed is not None
    assert agreed.kind == "anew"
    assert [(one.tag, one.suite) for one in agreed.line.cryptos or ()] == [(9, GCM)]
    assert agreed.offerer.receive == Keys.of(theirs.cryptos[0])
    sent = (agreed.line.cryptos or [])[0]
    assert agreed.offerer.send == Keys.of(sent)
    keys = [agreed.offerer.receive, agreed.offerer.send, agreed.answerer.receive, agreed.answerer.send]
    assert len({one.key_salt for one in keys if one is not None}) == 4  # nobody has a key of the other side


def test_a_phone_may_speak_what_we_do_not_know_of() -> None:
    offered = offer(stream(line(GCM, 1)), leg(OUTSIDE), leg(PHONE))
    assert given(offered) == [(1, GCM), (2, CM), (3, CM32)]


def test_own_keys_on_both_sides_where_policy_says_so() -> None:
    theirs = stream(line(CM, 1))
    offered = offer(theirs, leg(), leg(), always_own=True)
    assert all(one is None for _, one in offered.cryptos)
    agreed = offered.answer(taking(offered), PORT)
    assert agreed is not None
    assert agreed.kind == "anew"
    assert agreed.offerer.receive != agreed.answerer.send


def test_tags_are_distinct_whatever_was_offered() -> None:
    theirs = stream(line(CM, 999_999_999), line(CM32, 1))
    offered = offer(theirs, leg(), leg(OUTSIDE))
    tags = [tag for tag, _ in given(offered)]
    assert len(set(tags)) == len(tags) == 3
    assert all(0 < tag <= 999_999_999 for tag in tags)


def test_an_answer_repeated_means_the_same() -> None:
    offered = offer(stream(line(GCM, 1)), leg(OUTSIDE), leg(TERMINAL))
    answer = taking(offered)
    first, second = offered.answer(answer, PORT), offered.answer(answer, PORT)
    assert first is not None
    assert second is not None
    assert [one.serialize() for one in first.line.cryptos or ()] == [
        one.serialize() for one in second.line.cryptos or ()
    ]


# Policies.


@pytest.mark.parametrize(("of_caller", "of_callee"), list(product(POLICIES, POLICIES)))
@pytest.mark.parametrize("offers", ["srtp", "rtp", "either"])
@pytest.mark.parametrize("answers", ["srtp", "rtp"])
def test_policies(of_caller: str, of_callee: str, offers: str, answers: str) -> None:
    """Whatever the two say, a leg on which SRTP is required has SRTP or nothing at all."""
    caller, callee = leg(srtp=of_caller, name="alice"), leg(srtp=of_callee)
    theirs = stream(*([] if offers == "rtp" else [line(CM)]), proto=b"RTP/SAVP" if offers == "srtp" else b"RTP/AVP")
    offered = offer(theirs, caller, callee)
    if of_caller == REQUIRED and offers != "srtp":
        assert not offered.proto
        assert "alice" in offered.why
        assert offered.line(PORT).port == 0
        assert offered.answer(stream(line(CM)), PORT) is None
        return
    assert offered.proto == (b"RTP/SAVP" if of_callee == REQUIRED else b"RTP/AVP")
    assert bool(offered.cryptos) == (of_callee != OFF)
    is_plain = of_callee == OFF or answers == "rtp"
    answer = stream(proto=offered.proto) if is_plain else taking(offered)
    if of_callee == REQUIRED and answers == "rtp":
        with pytest.raises(MediaError, match="without SRTP"):
            offered.answer(answer, PORT)
        return
    agreed = offered.answer(answer, PORT)
    assert agreed is not None
    assert agreed.line.proto == theirs.proto
    assert agreed.offerer.protected == (offers != "rtp")
    assert agreed.answerer.protected == bool(answer.cryptos)
    for side, of_leg in ((agreed.offerer, of_caller), (agreed.answerer, of_callee)):
        assert (side.receive is not None) == (side.send is not None) == side.protected
        assert side.protected or of_leg != REQUIRED
    assert bool(agreed.line.cryptos) == agreed.offerer.protected


@pytest.mark.parametrize("proto", [b"UDP/TLS/RTP/SAVPF", b"TCP/RTP/AVP", b"udptl"])
def test_what_is_no_rtp_is_refused(proto: bytes) -> None:
    offered = offer(stream(line(CM), proto=proto), leg(srtp=OFF), leg(srtp=OFF))
    assert "is no RTP" in offered.why
    assert not offered.proto


def test_feedback_profiles_stay_feedback_profiles() -> None:
    offered = offer(stream(line(CM), proto=b"RTP/SAVPF"), leg(), leg(srtp=OFF))
    assert offered.proto == b"RTP/AVPF"
    agreed = offered.answer(stream(proto=b"RTP/AVPF"), PORT)
    assert agreed is not None
    assert agreed.line.proto == b"RTP/SAVPF"
    assert agreed.offerer.protected
    assert not agreed.answerer.protected


# Setup keys.

KID = b"0123456789abcdef"
SETUP = b"1 " + CM + b" setup:" + KID


def test_a_setup_key_passes_unread() -> None:
    offered = offer(stream(SETUP), leg(TERMINAL), leg(OUTSIDE), always_own=True)
    assert offered.is_unread
    assert offered.line(PORT).cryptos is None
    agreed = offered.answer(stream(SETUP), PORT)
    assert agreed is not None
    assert agreed.kind == "unread"
    for side in (agreed.offerer, agreed.answerer):
        assert (side.receive, side.send, side.protected) == (None, None, True)


@pytest.mark.parametrize(
    "answer",
    [stream(proto=b"RTP/AVP"), stream(SETUP, proto=b"RTP/AVP"), stream(line(CM)), stream(), stream(SETUP, line(CM, 2))],
)
def test_a_setup_key_is_answered_with_it_or_not_at_all(answer: Stream) -> None:
    with pytest.raises(MediaError):
        offer(stream(SETUP), leg(TERMINAL), leg(OUTSIDE)).answer(answer, PORT)


@pytest.mark.parametrize("theirs", [stream(SETUP, line(CM, 2)), stream(SETUP, proto=b"RTP/AVP")])
def test_a_setup_key_beside_another_or_without_srtp(theirs: Stream) -> None:
    assert judge(theirs, leg(srtp=OFF))


# Downgrade attacks, on either leg.


def test_attack_crypto_stripped_from_the_offer() -> None:
    assert "crypto line" in judge(stream(), leg())
    assert "crypto line" in judge(stream(), leg(srtp=OFF))  # who says SAVP and has no key is not taken for RTP


def test_attack_profile_of_the_offer_changed_with_its_keys_left() -> None:
    assert "required" in judge(stream(line(CM), proto=b"RTP/AVP"), leg())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda one: stream(proto=b"RTP/AVP"), "RTP/AVP in answer to RTP/SAVP"),
        (lambda one: stream(line(CM, one.tag), proto=b"RTP/AVP"), "RTP/AVP in answer to RTP/SAVP"),
        (lambda one: stream(), "without SRTP"),
        (lambda one: stream(line(CM, one.tag, b" UNENCRYPTED_SRTP")), "without SRTP"),
        (lambda one: stream(line(CM, one.tag, b" UNAUTHENTICATED_SRTP")), "without SRTP"),
        (lambda one: stream(line(CM32, one.tag)), "not in the offer"),
        (lambda one: stream(line(CM, one.tag + 1)), "not in the offer"),
        (lambda one: stream(line(CM, one.tag), line(CM32, 9)), "several"),
        (lambda one: stream(one.serialize()), "own key"),
        (lambda one: stream(SETUP), "setup key"),
        (lambda one: stream(line(CM, one.tag), proto=b"UDP/TLS/RTP/SAVP"), "another kind"),
        (lambda one: stream(line(CM, one.tag), kind=b"video"), "another kind"),
    ],
)
@pytest.mark.parametrize("kind", [TERMINAL, PHONE, OUTSIDE])
def test_attack_answers(kind: str, answer: Callable[[Crypto], Stream], reason: str) -> None:
    offered = offer(stream(line(CM, 4)), leg(TERMINAL), leg(kind))
    with pytest.raises(MediaError, match=reason) as caught:
        offered.answer(answer(offered.cryptos[0][0]), PORT)
    assert "inline" not in str(caught.value)


def test_attack_relay_asked_for_rtp() -> None:
    """A leg is not opened for RTP because the other one is."""
    offered = offer(stream(line(CM)), leg(name="alice"), leg(srtp=OFF))
    agreed = offered.answer(stream(proto=b"RTP/AVP"), PORT)
    assert agreed is not None
    assert agreed.offerer.protected
    asked = offer(stream(proto=b"RTP/AVP"), leg(srtp=OFF), leg())
    assert asked.proto == b"RTP/SAVP"
    with pytest.raises(MediaError):
        asked.answer(stream(proto=b"RTP/AVP"), PORT)


def test_no_secret_in_what_is_shown() -> None:
    offered = offer(stream(line(CM)), leg(), leg())
    agreed = offered.answer(taking(offered), PORT)
    for key in (offered.theirs.cryptos[0].keys[0].key_salt, offered.cryptos[0][0].keys[0].key_salt):
        assert repr(key)[2:-1] not in repr((offered, agreed))
