"""A call in each of the two models, between users of two domains in memory.

    end-to-end   both user agents sign, encrypt, decrypt and verify; so they do in each call
    hybrid       the neighbours do, in a pair's first call; its end leaves a setup key, by which all later calls go

Either way it is INVITE and its 200, then BYE and its 200: what has no body and begins nothing (180, ACK) is not
protected by either model.
"""

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from evaluation.domains import NEIGHBOURS, TERMINALS, Domain, Hop, Meter, People
from evaluation.endtoend import EndToEnd, NotSafeError
from sipwire.compat import b64encode
from sipwire.kdf import same
from sipwire.message import Request, Response, parse
from sipwire.setup import ANSWER, BYE, BYE_ANSWER, INVITE, NO_KEY, NONCE_BYTES, SetupKey
from sipwire.setup_keys import MediaKeys, first_secret, kid_of, mac_key, next_key

__all__ = ["Call", "Powerful", "Weak", "call_end_to_end", "call_hybrid"]

_SDP = (
    b"v=0\r\no=- 3921467810 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 40000 RTP/SAVP 0\r\n"
    b"a=rtpmap:0 PCMU/8000\r\na=ptime:20\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 %b\r\n"
)
_SRTP_BYTES = 30  # master key and salt of that suite
_LIFE_S, _USES = 86_400, 1000
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Call:
    """What a call took.

    Attributes:
        setup_s: from the caller's INVITE being written to its answer having been checked.
        by: who vouched for the callee, as a terminal tells it.
    """

    setup_s: float
    by: str


class _User:
    """A user of a domain."""

    def __init__(self, domain: Domain, user: str, *, is_terminal: bool) -> None:
        self.domain = domain
        self.aor = f"sip:{user}@{domain.name}".encode()
        self.account = domain.add(user, is_terminal=is_terminal)

    def up(self, message: bytes, meter: Meter) -> bytes:
        """To the neighbour."""
        del meter
        return message

    def down(self, message: bytes, meter: Meter) -> bytes:
        """From the neighbour."""
        del meter
        return message


class Powerful(_User):
    """A user agent that does end-to-end security itself.

    Args:
        domain: where.
        user: who.
        people: has its credential, and the certificates of others.
    """

    def __init__(self, domain: Domain, user: str, people: People) -> None:
        super().__init__(domain, user, is_terminal=False)
        self.security = EndToEnd(self.aor, people.user(self.aor.decode()), [people.root], people.shown)


class Weak(_User):
    """A terminal: it knows its hop, and setup keys.

    Args:
        domain: where.
        user: who.

    Attributes:
        keys: setup keys, by address-of-record.
    """

    def __init__(self, domain: Domain, user: str) -> None:
        super().__init__(domain, user, is_terminal=True)
        self.keys: dict[bytes, bytes] = {}
        self._hop = Hop(user.encode(), domain.name.encode())

    def up(self, message: bytes, meter: Meter) -> bytes:
        """In a frame."""
        return self._hop.up(message, meter)

    def down(self, message: bytes, meter: Meter) -> bytes:
        """In a frame."""
        return self._hop.down(message, meter)


def _there(message: bytes, caller: _User, callee: _User, meter: Meter) -> tuple[Request, Callable[[bytes], Response]]:
    """Bring a request to the callee; returns what comes there, and how to bring its answer back."""
    ours, theirs = caller.domain, callee.domain
    message = caller.up(message, meter)
    with meter.at(NEIGHBOURS):
        over, sent = ours.send(message, caller.account, theirs)
        message, received = theirs.receive(over, callee.account, ours)
    message = callee.down(message, meter)
    with meter.at(TERMINALS):
        request = parse(message)
    assert isinstance(request, Request), "as it was sent"

    def back(answer: bytes) -> Response:
        answer = callee.up(answer, meter)
        with meter.at(NEIGHBOURS):
            over = theirs.answer(answer, received, callee.account, ours)
            answer = ours.take(over, sent, theirs)
        answer = caller.down(answer, meter)
        with meter.at(TERMINALS):
            response = parse(answer)
        assert isinstance(response, Response), "as it was sent"
        return response

    return request, back


def _request(method: str, caller: _User, callee: _User, call_id: bytes, cseq: int) -> Request:
    made = Request(method, callee.aor)
    made.add("Via", b"SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK" + call_id)
    made.add("Max-Forwards", b"70")
    made.add("From", b"<%b>;tag=1" % caller.aor)
    made.add("To", b"<%b>%b" % (callee.aor, b"" if method == "INVITE" else b";tag=2"))
    made.add("Call-ID", call_id)
    made.add("CSeq", b"%d %b" % (cseq, method.encode()))
    made.add("Contact", b"<%b>" % caller.aor)
    return made


def _ok(request: Request, callee: _User) -> Response:
    made = request.response(200, "OK", b"2")
    made.add("Contact", b"<%b>" % callee.aor)
    return made


def _describe(message: Request | Response, key: bytes) -> None:
    message.set_body(b"application/sdp", _SDP % key)


def _new_id() -> bytes:
    return b"%d-%b" % (next(_numbers), os.urandom(8).hex().encode())


def _inline(key: bytes) -> bytes:
    """A media key as SDES writes it (RFC 4568)."""
    return b"inline:" + b64encode(key)


def call_end_to_end(caller: Powerful, callee: Powerful, meter: Meter) -> Call:
    """A call whose ends do everything.

    Raises:
        NotSafeError, RefusedError: a check failed.
    """
    call_id = _new_id()
    began = time.perf_counter()
    with meter.at(TERMINALS):
        invite = _request("INVITE", caller, callee, call_id, 1)
        _describe(invite, _inline(os.urandom(_SRTP_BYTES)))
        caller.security.seal(invite, callee.aor)
        data = invite.serialize()
    request, back = _there(data, caller, callee, meter)
    with meter.at(TERMINALS):
        _check(callee.security.open(request) == caller.aor, "another caller")
        ok = _ok(request, callee)
        _describe(ok, _inline(os.urandom(_SRTP_BYTES)))
        callee.security.seal(ok, caller.aor)
        data = ok.serialize()
    response = back(data)
    with meter.at(TERMINALS):
        _check(caller.security.open(response) == callee.aor, "another callee")
    setup_s = time.perf_counter() - began
    with meter.at(TERMINALS):
        data = _request("BYE", caller, callee, call_id, 2).serialize()
    request, back = _there(data, caller, callee, meter)
    with meter.at(TERMINALS):
        data = _ok(request, callee).serialize()
    back(data)
    return Call(setup_s, "itself")


def call_hybrid(caller: Weak, callee: Weak, meter: Meter) -> Call:
    """A call between terminals: by their setup key where they have one, else by what the neighbours vouch for.

    Raises:
        NotSafeError, RefusedError: a check failed.
    """
    key = caller.keys.get(callee.aor)
    call_id = _new_id()
    began = time.perf_counter()
    if key is None:
        secret, kid = _set_up_vouched(caller, callee, call_id, meter), NO_KEY
    else:
        secret, kid = key, kid_of(key)
        _set_up_keyed(caller, callee, call_id, key, meter)
    setup_s = time.perf_counter() - began
    _hang_up(caller, callee, call_id, secret, kid, meter)
    return Call(setup_s, "neighbour heavy" if key is None else "setup-key")


def _set_up_vouched(caller: Weak, callee: Weak, call_id: bytes, meter: Meter) -> bytes:
    """A pair's first call (WIRE section 3); returns the secret that its media keys make."""
    offered, answered = os.urandom(_SRTP_BYTES), os.urandom(_SRTP_BYTES)
    with meter.at(TERMINALS):
        invite = _request("INVITE", caller, callee, call_id, 1)
        _describe(invite, _inline(offered))
        data = invite.serialize()
    request, back = _there(data, caller, callee, meter)
    with meter.at(TERMINALS):
        _check_status(request, caller.aor)
        ok = _ok(request, callee)
        _describe(ok, _inline(answered))
        data = ok.serialize()
    response = back(data)
    with meter.at(TERMINALS):
        _check_status(response, callee.aor)
        _check(_inline(answered) in response.body and _inline(offered) in request.body, "another media key")
        return first_secret(offered, answered)


def _check_status(message: Request | Response, aor: bytes) -> None:
    """What the neighbour says of a message will do for a first key."""
    status = message.get("security-status") or b""
    _check(status.startswith(b"level=heavy;") and b'verified="%b"' % aor in status, "not vouched for")


def _set_up_keyed(caller: Weak, callee: Weak, call_id: bytes, key: bytes, meter: Meter) -> None:
    """A later call (WIRE section 4.1)."""
    sides, called = (caller.aor, callee.aor), (call_id, 1)
    with meter.at(TERMINALS):
        kid = kid_of(key)
        asked = SetupKey.make(kid, 1, os.urandom(NONCE_BYTES))
        invite = _request("INVITE", caller, callee, call_id, 1)
        _describe(invite, b"setup:" + kid)
        asked.mac = asked.compute(mac_key(key), INVITE, sides, called, sdp=invite.body)
        invite.add("Setup-Key", asked.serialize())
        data = invite.serialize()
    request, back = _there(data, caller, callee, meter)
    with meter.at(TERMINALS):
        theirs = callee.keys[caller.aor]
        got = SetupKey.parse(request.get("setup-key") or b"")
        _check(got.kid == kid_of(theirs), "unknown kid")
        _check(same(got.mac, got.compute(mac_key(theirs), INVITE, sides, called, sdp=request.body)), "wrong MAC")
        ok = _ok(request, callee)
        _describe(ok, b"setup:" + got.kid)
        answered = SetupKey.make(got.kid, got.seq, os.urandom(NONCE_BYTES))
        answered.mac = answered.compute(mac_key(theirs), ANSWER, sides, called, got.nonce, ok.body)
        ok.add("Setup-Key", answered.serialize())
        at_callee = MediaKeys(got.kid, theirs, got.random, answered.random).of(0, _SRTP_BYTES)
        data = ok.serialize()
    response = back(data)
    with meter.at(TERMINALS):
        got = SetupKey.parse(response.get("setup-key") or b"")
        good = got.compute(mac_key(key), ANSWER, sides, called, asked.nonce, response.body)
        _check(same(got.mac, good), "wrong MAC")
        at_caller = MediaKeys(kid, key, asked.random, got.random).of(0, _SRTP_BYTES)
    _check(at_caller == at_callee, "two media keys")


def _hang_up(caller: Weak, callee: Weak, call_id: bytes, secret: bytes, kid: bytes, meter: Meter) -> None:
    """The end of a call, which makes the next key (WIRE section 4.2)."""
    sides, called = (caller.aor, callee.aor), (call_id, 2)
    with meter.at(TERMINALS):
        asked = SetupKey.make(kid, 2, os.urandom(NONCE_BYTES), _LIFE_S, _USES)
        asked.mac = asked.compute(mac_key(secret), BYE, sides, called)
        bye = _request("BYE", caller, callee, call_id, 2)
        bye.add("Setup-Key", asked.serialize())
        data = bye.serialize()
    request, back = _there(data, caller, callee, meter)
    with meter.at(TERMINALS):
        got = SetupKey.parse(request.get("setup-key") or b"")
        _check(same(got.mac, got.compute(mac_key(secret), BYE, sides, called)), "wrong MAC")
        answered = SetupKey.make(got.kid, got.seq, os.urandom(NONCE_BYTES), _LIFE_S, _USES)
        answered.mac = answered.compute(mac_key(secret), BYE_ANSWER, sides, called, got.nonce)
        callee.keys[caller.aor] = next_key(secret, got.random, answered.random, *sides)
        ok = _ok(request, callee)
        ok.add("Setup-Key", answered.serialize())
        data = ok.serialize()
    response = back(data)
    with meter.at(TERMINALS):
        got = SetupKey.parse(response.get("setup-key") or b"")
        _check(same(got.mac, got.compute(mac_key(secret), BYE_ANSWER, sides, called, asked.nonce)), "wrong MAC")
        caller.keys[callee.aor] = next_key(secret, asked.random, got.random, *sides)
    _check(caller.keys[callee.aor] == callee.keys[caller.aor], "two keys")


def _check(is_good: bool, otherwise: str) -> None:
    if not is_good:
        raise NotSafeError(otherwise)
