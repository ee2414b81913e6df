"""One relayed call: its two parties, its streams, and what each offer and answer makes of them (RFC 3264).

    offer of a party --offer--> the other's    Pending: nothing runs by it yet
    its answer      --answer--> the offerer's  now the relays know what to expect on both sides
    no answer       --abandon                  what was there before goes on

A stream is an m= line, by its place; it has a relay from the first offer on that has a port for it until an answer
refuses it, or the call ends. Parties are 0, who has begun the call, and 1.
"""

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipwire.crypto import size_of
from sipwire.sdp import Session

from .descriptions import Line, Numbering, Stream, write
from .keying import MediaError, Offered, offer_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..accounting import Record
    from .keying import Agreed, Side
    from .legs import Leg
    from .relay import Relay, Relays

__all__ = ["Pending", "RelayedCall"]

_HELD_S = 7200  # a call on hold of which nothing is heard for so long is one that nobody has ended
_MAX_STREAMS = 8  # of one call: each takes four ports; an offer of more is 488


@dataclass(slots=True)
class Pending:
    """An offer that has been passed on.

    Attributes:
        by: whose it is.
        session: as that party has written it.
        lines: what became of its m= lines.
        text: what the other party got.
        opened: places of streams that have got their relay by it.
        refused: places of streams that its answer has refused.
    """

    by: int
    session: Session
    lines: "list[Offered]"
    text: bytes = b""
    opened: "list[int]" = field(default_factory=list)
    refused: "set[int]" = field(default_factory=set)


class RelayedCall:
    """See the module.

    Args:
        relays: makes relays.
        legs: the parties.
        timeout_s: how long nothing may come before a stream counts as silent.
        always_own: whether SRTP is encrypted anew though it need not be.
        stride: see `Numbering`.

    Attributes:
        legs: likewise.
        unanswered: an offer that came in a response: the next request brings its answer.
        kinds: how packets of its streams go through, see `Agreed`; those of the last answer.
        call_id, caller_tag: of the request that began it.
        keys: by which it is known, see `calls`.
        record: of it, where somebody keeps one.
        answered: the last answer that came in a request, and what the other party got.
        silent: called when nothing valid has come of any stream for the timeout.
        is_closed: whether its relays are gone.
    """

    def __init__(
        self, relays: "Relays", legs: "tuple[Leg, Leg]", timeout_s: int, *, always_own: bool, stride: int = 0
    ) -> None:
        self.legs = legs
        self.unanswered: Pending | None = None
        self.kinds: list[str] = []
        self.call_id = self.caller_tag = b""
        self.keys: set[tuple[bytes, frozenset[bytes]]] = set()
        self.record: Record | None = None
        self.answered = (b"", b"")
        self.silent: Callable[[RelayedCall], None] = _nobody
        self.is_closed = False
        self._relays = relays
        self._timeout_s = timeout_s
        self._always_own = always_own
        self._streams: dict[int, Relay] = {}
        self._closed: list[dict[str, Any]] = []  # what streams were like that have ended before the call
        self._seen: dict[int, tuple[bytes, str]] = {}  # kinds of medium, and of protection
        self._numbers = (Numbering(stride), Numbering(stride))
        self._keys: dict[tuple[int, int, bytes], bytes] = {}
        self._theirs: dict[tuple[int, int], bytes] = {}

    # Offers and answers.

    def offer(self, by: int, body: bytes) -> Pending:
        """Pass an offer on; `Pending.text` is what the other party gets.

        Args:
            by: whose offer it is.
            body: as that party has written it.

        Raises:
            MediaError: nothing of it can be relayed.
            ParseError: it is malformed.
            NoRoomError: there is no relay for a stream of it.
        """
        session = Session.parse(body)
        if len(session.media) > _MAX_STREAMS:
            raise MediaError(f"{len(session.media)} streams, and {_MAX_STREAMS} are relayed at most")
        sender, receiver = self.legs[by], self.legs[1 - by]
        lines = []
        for at, media in enumerate(session.media):
            stream = Stream.read(session, media)
            own = (self._own(at, by, stream), self._own(at, 1 - by, None))
            lines.append(offer_line(stream, sender, receiver, own, always_own=self._always_own))
        reasons = [line.why for line in lines if line.why]
        if reasons and not any(line.proto for line in lines):
            raise MediaError(reasons[0])
        pending = Pending(by, session, lines)
        try:
            for at, line in enumerate(lines):
                if line.proto and at not in self._streams:
                    self._open(at)
                    pending.opened.append(at)
        except Exception:
            self.abandon(pending)
            raise
        written = [line.line(self._port(at, 1 - by)) for at, line in enumerate(lines)]
        pending.text = self._numbers[1 - by].number(write(_copy(session), receiver.told, written))
        return pending

    def answer(self, pending: Pending, body: bytes) -> bytes:
        """Pass an answer on, and let media run by it; returns what the offerer gets.

        The same offer may be answered again: by 183 and then 200, or by somebody else behind a proxy there. The last
        one counts.

        Raises:
            MediaError: it can't be accepted.
            ParseError: it is malformed.
        """
        by = pending.by
        session = Session.parse(body)
        if len(session.media) != len(pending.lines):
            raise MediaError("the answer has not as many streams as its offer")
        streams = [Stream.read(session, media) for media in session.media]
        agreed = [
            line.answer(stream, self._port(at, by))
            for at, (line, stream) in enumerate(zip(pending.lines, streams, strict=True))
        ]
        if not any(agreed) and any(line.proto for line in pending.lines) and any(stream.port for stream in streams):
            raise MediaError("the answer takes streams that were refused, and no other")
        lines = []
        for at, (line, stream, made) in enumerate(zip(pending.lines, streams, agreed, strict=True)):
            if made is None:
                pending.refused.add(at)
                lines.append(Line(0, line.theirs.proto, None if line.theirs.is_keyed else []))
                continue
            pending.refused.discard(at)
            self._expect(at, pending, stream, made)
            lines.append(made.line)
        self.kinds = [made.kind for made in agreed if made is not None]
        if self.unanswered is pending:
            self.unanswered = None
        return self._numbers[by].number(write(session, self.legs[by].told, lines))

    def settle(self, pending: Pending) -> None:
        """The answer stands: streams that it refuses, or that the offer gave up, have no relay any more."""
        for at in list(self._streams):
            if at >= len(pending.lines) or at in pending.refused:
                self._close(at)

    def abandon(self, pending: Pending) -> None:
        """An offer came to nothing: what was before it goes on (RFC 3261 section 14.1)."""
        for at in pending.opened:
            if at not in self._seen:
                self._close(at)
        if self.unanswered is pending:
            self.unanswered = None

    # Relays.

    @property
    def addresses(self) -> "set[tuple[str, int]]":
        """Where the parties are told to send media."""
        return {
            (self.legs[party].told, relay.sides[party].port) for relay in self._streams.values() for party in (0, 1)
        }

    def close(self) -> "list[dict[str, Any]]":
        """End all relays; returns what each stream was like, as plain data."""
        for at in sorted(self._streams):
            self._close(at)
        self.is_closed = True
        self.unanswered = None
        return self._closed

    def _open(self, at: int) -> None:
        relay = self._relays.open(*(leg.line or leg.bind for leg in self.legs))
        relay.wait(0)  # it may ring for long
        relay.ended = self._ended
        self._streams[at] = relay

    def _close(self, at: int) -> None:
        relay = self._streams.pop(at)
        statistics = relay.close()
        kind, protection = self._seen.pop(at, (b"", ""))
        if kind:  # else it has never been agreed on, and nothing has come
            self._closed.append(
                {"kind": kind.decode("ascii", "replace"), "protection": protection, **statistics.as_dict()}
            )

    def _port(self, at: int, party: int) -> int:
        relay = self._streams.get(at)
        return 0 if relay is None else relay.sides[party].port

    def _expect(self, at: int, pending: Pending, stream: Stream, agreed: "Agreed") -> None:
        """Tell a relay what comes on its sides from now on."""
        relay = self._streams.get(at)
        if relay is None:
            raise MediaError("an answer to a stream that has ended")
        theirs = pending.lines[at].theirs
        mux = theirs.mux and stream.mux
        for party, said, side in (
            (pending.by, theirs, agreed.offerer),
            (1 - pending.by, stream, agreed.answerer),
        ):
            self._tell(relay, party, said, side, mux=mux)
            if side.receive is not None:
                self._theirs[at, party] = side.receive.key_salt
        relay.wait(_HELD_S if theirs.is_held or stream.is_held else self._timeout_s)
        self._seen[at] = (theirs.kind, agreed.kind)

    def _tell(self, relay: "Relay", party: int, said: Stream, side: "Side", *, mux: bool) -> None:
        leg = self.legs[party]
        address, rtcp = leg.reaches(said.address), leg.reaches(said.rtcp)
        try:
            relay.sides[party].expect(address, None if mux else rtcp, mux, side.receive, side.send, side.protected)
        except ValueError as error:
            raise MediaError(str(error)) from None

    def _ended(self, relay: "Relay", reason: str) -> None:
        """A stream is silent. Text may be so for an hour, and a call on hold for longer."""
        del relay, reason
        if all(one.is_silent(self._relays.now_ms) for one in self._streams.values()):
            self.silent(self)

    # Keys.

    def _own(self, at: int, party: int, stream: "Stream | None") -> "Callable[[bytes], bytes]":
        """Makes or finds our keys towards a party: while it keeps its own key we keep ours, and nothing is interrupted.

        Args:
            at: of which stream.
            party: which.
            stream: as it offers it just now, where it does: a key that is not the one before may be another device's,
                which can't know our rollover counter.
        """

        def own(suite: bytes) -> bytes:
            before = self._theirs.get((at, party))
            offered = [] if stream is None else [one.keys[0].key_salt for one in stream.cryptos]
            if before is not None and offered and before not in offered:
                self._keys.pop((at, party, suite), None)
                self._theirs.pop((at, party), None)
            found = self._keys.get((at, party, suite))
            if found is None:
                found = self._keys[at, party, suite] = os.urandom(size_of(suite))
            return found

        return own


def _copy(session: Session) -> Session:
    """Another one to write into; its lines are never changed in place."""
    return Session.parse(session.serialize())


def _nobody(call: RelayedCall) -> None:
    """Nobody wants to know."""
