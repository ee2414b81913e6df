"""How one stream of a call is protected on either side of the relay: SRTP passed through, encrypted anew, or RTP.

    offer_line(...) -> Offered      what the answerer is offered for an m= line, and why not more
    Offered.answer(...) -> Agreed   what its answer means on both sides

A party that wants SRTP gets it, or there is no stream: nothing here turns a line without keys into one that carries a
packet, unless the policy of that very leg allows RTP. Where both can use the same crypto line it is passed on as it is
and the relay opens nothing for anybody. Else the relay has keys of its own on either side, which nobody else knows.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipwire.crypto import Crypto

from .descriptions import Line
from .keys import Keys
from .legs import OFF, OUTSIDE, REQUIRED, TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from .descriptions import Stream
    from .legs import Leg

__all__ = ["Agreed", "MediaError", "Offered", "Side", "judge", "offer_line"]

_MAX_TAG = 999_999_999  # RFC 4568 section 9.1
_MAX_LINES = 16  # of crypto in one stream; a party that sends more has its first ones passed on


class MediaError(Exception):
    """Media of a call can't go through the relay as they have to (488); the text says why, and never a key."""


@dataclass(slots=True)
class Side:
    """How a stream is protected between the relay and one party.

    Attributes:
        receive: the keys of what the party sends.
        send: the keys of what it gets.
        protected: whether it is SRTP at all; with no keys it is SRTP whose keys the parties alone know.
    """

    receive: "Keys | None"
    send: "Keys | None"
    protected: bool


@dataclass(slots=True)
class Agreed:
    """What offer and answer mean for a stream.

    Attributes:
        offerer, answerer: its sides.
        line: the answer for the offerer.
        kind: ``passed``, ``anew``, ``unread`` or ``plain``: how packets go through the relay.
    """

    offerer: Side
    answerer: Side
    line: Line
    kind: str


@dataclass(slots=True)
class Offered:
    """What the answerer was offered for an m= line.

    Attributes:
        theirs: the line as the offerer wrote it.
        proto: of the line that the answerer got; b"" where the stream is refused.
        why: why it is refused, "" where it is not, or was by the offerer itself.
        cryptos: the lines that the answerer got, each with the offerer's own where that is the same.
        back: the line of the offerer's that is answered where the answerer takes one of ours; None for RTP.
        is_unread: whether a setup key protects it.
        needs: whether the answerer has to have SRTP.
        own: makes, or finds, our key towards the offerer for a suite.
    """

    theirs: "Stream"
    proto: bytes = b""
    why: str = ""
    cryptos: "list[tuple[Crypto, Crypto | None]]" = field(default_factory=list)
    back: "Crypto | None" = None
    is_unread: bool = False
    needs: bool = True
    own: "Callable[[bytes], bytes] | None" = None

    def line(self, port: int) -> Line:
        """The m= line for the answerer."""
        if not self.proto:
            return Line(0, self.theirs.proto, None if self.theirs.is_keyed else [])
        return Line(port, self.proto, None if self.is_unread else [crypto for crypto, _ in self.cryptos])

    def answer(self, stream: "Stream", port: int) -> "Agreed | None":
        """What an answer means; None where the stream is refused.

        Args:
            stream: the answerer's line.
            port: of ours, for the offerer.

        Raises:
            MediaError: the answer can't be accepted: it is not protected as it has to be, or answers something that was
                not offered.
        """
        if not self.proto or not stream.port:
            return None
        if stream.kind != self.theirs.kind or not stream.is_rtp or stream.is_mixed:
            raise MediaError("an answer of another kind than its offer")
        if self.is_unread:
            if not stream.is_secure or not stream.is_keyed:
                raise MediaError("an answer without the setup key of its offer")
            side = Side(None, None, protected=True)
            return Agreed(side, side, Line(port, stream.proto), "unread")
        if stream.is_keyed:
            raise MediaError("a setup key in the answer that is not in the offer")
        if stream.proto.upper() != self.proto:
            raise MediaError(f"{_shown(stream.proto)} in answer to {_shown(self.proto)}")
        if not stream.cryptos and self.needs:
            raise MediaError("an answer without SRTP, which is required")
        return self._agree(stream, port)

    def _agree(self, stream: "Stream", port: int) -> Agreed:
        profile = self.theirs.proto
        if not stream.cryptos or not self.cryptos:
            answerer = Side(None, None, protected=False)
            theirs = None
        else:
            given, theirs = self._chosen(stream)
            taken = stream.cryptos[0]
            answerer = Side(Keys.of(taken), Keys.of(given), protected=True)
            if theirs is not None:
                offerer = Side(answerer.send, answerer.receive, protected=True)
                return Agreed(offerer, answerer, Line(port, profile, [taken]), "passed")
        if self.back is None:
            offerer = Side(None, None, protected=False)
            return Agreed(offerer, answerer, Line(port, profile, []), "anew" if answerer.protected else "plain")
        assert self.own is not None
        mine = Crypto.make(self.back.tag, self.back.suite, self.own(self.back.suite))
        offerer = Side(Keys.of(self.back), Keys.of(mine), protected=True)
        return Agreed(offerer, answerer, Line(port, profile, [mine]), "anew")

    def _chosen(self, stream: "Stream") -> "tuple[Crypto, Crypto | None]":
        """The line that an answer takes. Phones exist that answer with one of their own (RFC 4568 section 5.1.2)."""
        if len(stream.cryptos) != 1:
            raise MediaError("an answer with several crypto lines")
        taken = stream.cryptos[0]
        for given, theirs in self.cryptos:
            if (given.tag, given.suite) == (taken.tag, taken.suite):
                if given.keys[0].key_salt == taken.keys[0].key_salt:
                    raise MediaError("the offer's own key in its answer")
                return given, theirs
        raise MediaError("a crypto line in the answer that is not in the offer")


def offer_line(
    stream: "Stream",
    sender: "Leg",
    receiver: "Leg",
    own: "tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]",
    *,
    always_own: bool = False,
) -> Offered:
    """Decide what the other party is offered for an m= line.

    Args:
        stream: as the offerer wrote it.
        sender: the offerer.
        receiver: who is to answer.
        own: makes, or finds, our key for a suite: towards the offerer, and towards the answerer.
        always_own: whether keys of one party are never passed to the other.
    """
    offered = Offered(stream, own=own[0])
    if not stream.port:
        return offered
    offered.why = judge(stream, sender)
    if offered.why:
        return offered
    if stream.is_keyed:
        offered.proto, offered.is_unread = stream.proto, True
        return offered
    wants = receiver.srtp
    offered.needs = wants == REQUIRED
    offered.back = stream.cryptos[0] if stream.cryptos else None
    if wants != OFF:
        offered.cryptos = _lines(stream.cryptos[:_MAX_LINES], receiver, own[1], always_own=always_own)
    offered.proto = stream.profile(is_secure=wants == REQUIRED)
    return offered


def judge(stream: "Stream", leg: "Leg") -> str:
    """Why a stream of a party can't be taken, "" where it can."""
    if not stream.is_rtp:
        return f"{_shown(stream.proto)} is no RTP or SRTP with keys in its description"
    if stream.is_mixed:
        return "keys of two kinds in one stream, or malformed setup keys"
    if stream.is_keyed:
        return "" if stream.is_secure else "a setup key without SRTP"
    if stream.is_secure:
        return "" if stream.cryptos else "SRTP without a crypto line that can be used"
    if leg.srtp == REQUIRED:
        return f"SRTP is required of {leg.name}, and there is none"
    return ""


def _lines(
    theirs: "list[Crypto]", receiver: "Leg", own: "Callable[[bytes], bytes]", *, always_own: bool
) -> "list[tuple[Crypto, Crypto | None]]":
    """The crypto lines for a party: those that were offered where it can be expected to speak one, and ours else."""
    passed: list[tuple[Crypto, Crypto | None]] = []
    if not always_own:
        is_terminal = receiver.kind == TERMINAL
        passed = [(one, one) for one in theirs if not is_terminal or one.suite in receiver.suites]
    there = {one.suite for one, _ in passed}
    if receiver.kind == OUTSIDE:
        missing = [suite for suite in receiver.suites if suite not in there]
    else:
        missing = [] if there.intersection(receiver.suites) else list(receiver.suites)
    used = {one.tag for one in theirs}
    found = list(passed)
    tag = 1 if not passed else min(max(one.tag for one, _ in passed) + 1, _MAX_TAG)
    for suite in missing:
        while tag in used:
            tag = tag % _MAX_TAG + 1
        used.add(tag)
        found.append((Crypto.make(tag, suite, own(suite)), None))
        tag = tag % _MAX_TAG + 1
    return found


def _shown(proto: bytes) -> str:
    return proto[:40].decode("ascii", "replace")
