"""Two ends that make offers and answers: Alice offers from 192.0.2.1, Bob answers from 192.0.2.2."""

from sipwire.answer import make_answer
from sipwire.offer import accept_answer, make_offer
from sipwire.sdp import Session
from sipwire.streams import Speaks

CM80 = b"AES_CM_128_HMAC_SHA1_80"
CM32 = b"AES_CM_128_HMAC_SHA1_32"
CM256 = b"AES_256_CM_HMAC_SHA1_80"
KEY_A = bytes(range(30))
KEY_B = bytes(range(100, 130))
SIZES = {CM80: 30, CM32: 30, CM256: 46, b"AES_192_CM_HMAC_SHA1_80": 38}


def keys(first):
    """Makes keys: each call another one, the first of bytes that count from ``first`` on."""
    made = [first]

    def new_key(suite):
        made[0] += 1
        return bytes([(made[0] - 1 + i) % 256 for i in range(SIZES[suite])])

    return new_key


def speaks(port=4000, codecs=(0, 8), suites=(CM80, CM32), first=0, **changes):
    """What an end speaks; its first key begins with the byte ``first``."""
    return Speaks(port, codecs, suites, keys(first), **changes)


def offer(spoken=None, **changes):
    """Alice's offer, as it arrives."""
    made = make_offer(spoken or speaks(), b"192.0.2.1", 99, **changes)
    return Session.parse(made.serialize())


def answer_to(description, spoken=None, **changes):
    """Bob's answer, as it arrives, and what he has agreed to."""
    if not isinstance(description, Session):
        description = Session.parse(description)
    made, agreed = make_answer(spoken or speaks(5000, first=100), description, b"192.0.2.2", 7, **changes)
    return Session.parse(made.serialize()), agreed


def accept(spoken, mine, answer, before=(), setup=None):
    """What Alice has agreed to; ``answer`` is a `Session`, or bytes."""
    if not isinstance(answer, Session):
        answer = Session.parse(answer)
    return accept_answer(spoken, mine, answer, before, setup)
