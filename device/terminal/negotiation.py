"""What a call has agreed on: offer and answer (RFC 3264, RFC 6337), and the media that runs by it.

    offer --accept--> agreed --apply--> media        answer --------> agreed --apply--> media

An offer of ours is open until it is answered or given up; there is one at a time. Media is SRTP or it is none. What
can't be accepted raises, and leaves everything as it was. `descriptions` reads and writes what is said.
"""

from os import urandom

from .demand import call
from .events import emit
from .useragent import Refusal

__all__ = ["SDP", "Negotiation", "Stream", "content_type"]

SDP = b"application/sdp"


def content_type(message):
    """The media type of a message's body in lower case, without parameters; b"" where it has none."""
    return (message.get("content-type") or b"").partition(b";")[0].strip().lower()


class Stream:
    """What was agreed on, from our side: as ``sipwire.sdp.Agreed``, and nothing of it is loaded on demand.

    Attributes:
        address, port: where the peer wants media.
        payload_type: of the codec.
        suite: its name.
        local_key, remote_key: master key and salt of what we send and of what the peer sends.
        local_mki, remote_mki: the master key identifiers in packets, b"" for none.
        direction: e.g. ``b"sendrecv"``.
        talks, hears: whether it lets us send, and receive.
    """

    def __init__(self, address, port, payload_type, suite, local_key, remote_key, local_mki, remote_mki, direction):
        self.address = address
        self.port = port
        self.payload_type = payload_type
        self.suite = suite
        self.local_key = local_key
        self.remote_key = remote_key
        self.local_mki = local_mki
        self.remote_mki = remote_mki
        self.direction = direction
        self.talks = direction in (b"sendrecv", b"sendonly")
        self.hears = direction in (b"sendrecv", b"recvonly")


class Negotiation:
    """Offers, answers and media of one call after the other.

    Args:
        config: the terminal's.
        address: our numeric address for media, as bytes.
        trust: a `trust.Trust`: of where the keys come from.
        media: ``start(agreed, now, talks)``, also to change what runs; ``go(now)`` when the peer is ready to hear us;
            ``stop()``, which returns statistics.

    Attributes:
        address: likewise; it may change.
        trust: likewise.
        offered: our offer that is open, as bytes, or None.
        answered: our last answer, b"" where it had one stream alone.
        agreed: the `Stream` that the media runs by, or is to run by; None where nothing has been agreed on.
        is_held: whether we have put the peer on hold.
        id, version: of the descriptions that we make, for their o= lines.
    """

    def __init__(self, config, address, trust, media):
        self._config = config
        self.address = address
        self.trust = trust
        self._media = media
        self.begin()

    def begin(self):
        """Forget everything: another call."""
        self.offered = self.agreed = None
        self.answered = b""
        self.is_held = False
        self._told = (False, False)  # who has put whom on hold, as events have told
        self.id = int.from_bytes(urandom(4), "big")
        self.version = 1

    def offer(self, anew=True):
        """Open an offer; returns it as bytes.

        Args:
            anew: with fresh keys and all that we speak: for the first offer, and for who asks what we would offer.
                Otherwise as it is now, but for our address and for who is on hold.
        """
        present = None if anew else self.agreed
        if self.answered:
            self.offered = call("terminal.reoffering", "make", self, self._config, present)
        else:
            self.offered = call("terminal.offering", "make", self, self._config, present)
        self.version += 1
        return self.offered

    def answer(self, body):
        """Answer an offer; nothing runs by it before `apply`.

        Returns:
            (our answer as bytes, the `Stream` that it agrees on).

        Raises:
            ParseError: the offer is malformed (400), too large (413), or can't be accepted (488).
        """
        body, streams, agreed = call("terminal.answering", "answer", self, self._config, body)
        self.version += 1
        self.answered = body if streams > 1 else b""
        self.offered = None  # one of ours that came to nothing
        return body, Stream(*agreed)

    def read(self, request):
        """What to answer an INVITE with: see `answer`; or where it offers nothing, (our offer, None).

        Raises:
            ParseError: likewise.
            Refusal: it is no session description.
        """
        if not request.body:
            return self.offer(), None
        if content_type(request) != SDP:
            raise Refusal(415, "Unsupported Media Type", "Accept", SDP)
        return self.answer(request.body)

    def accept(self, body):
        """The `Stream` that the answer to our open offer agrees on.

        Raises:
            ParseError: it is no answer to it.
        """
        return Stream(*call("terminal.accepting", "accept", self, body))

    def apply(self, agreed, now, talks=True):
        """Let media run by what was agreed on.

        Args:
            agreed: see `answer` and `accept`.
            now: milliseconds.
            talks: whether the microphone is to be heard; not while nobody has answered, and nobody is on hold then.

        Raises:
            MemoryError, OSError, ValueError: it can't; what ran before goes on.
        """
        self._media.start(agreed, now, talks and not self.is_held)
        self.agreed = agreed
        told = (self.is_held, not agreed.talks)
        if talks and told != self._told:
            self._told = told
            emit("hold", local=told[0], remote=told[1])
