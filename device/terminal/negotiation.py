"""What a call has agreed on: offer and answer (RFC 3264, RFC 6337), and the media that runs by it.

    offer --accept--> agreed --apply--> media        answer --------> agreed --apply--> media

An offer of ours is open until it is answered or given up; there is one at a time. Media is SRTP or it is none, unless
the configuration's ``srtp`` says otherwise. What can't be accepted raises, and leaves everything as it was. `offering`
writes what is said; `answering` and `accepting` read it.
"""

from os import urandom

from sipwire.agreed import Agreed  # what reads offers and answers is loaded on demand; what it finds stays

from .demand import call
from .events import emit
from .useragent import Refusal

__all__ = ["SDP", "Agreed", "Negotiation", "content_type"]

SDP = b"application/sdp"


def content_type(message):
    """The media type of a message's body in lower case, without parameters; b"" where it has none."""
    return (message.get("content-type") or b"").partition(b";")[0].strip().lower()


class Negotiation:
    """Offers, answers and media of one call after the other.

    Args:
        config: the terminal's.
        address: our numeric address for media, as bytes.
        trust: a `trust.Trust`: of where the keys come from.
        media: ``start(streams, now, talks)``, also to change what runs; ``go(now)`` when the peer is ready to hear us;
            ``stop()``, which returns statistics.

    Attributes:
        address: likewise; it may change.
        trust: likewise.
        offered: our offer that is open, as bytes, or None.
        places: the m= lines of our last description that was agreed on.
        agreed: each ``sipwire.agreed.Agreed`` that the media runs by, or is to run by, in the order of their m= lines;
            empty where nothing has been agreed on.
        had: what each kind of stream ran by last, also where it is over: what has been SRTP becomes no RTP.
        is_held: whether we have put the peer on hold.
        renews: whether the next offer has other keys of ours, for those that there are will soon be used up.
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
        self.offered = None
        self.agreed = self.places = self.had = ()
        self.is_held = self.renews = False
        self._told = (False, False)  # who has put whom on hold, as events have told
        self.id = int.from_bytes(urandom(4), "big")
        self.version = 1

    def offer(self, anew=True):
        """Open an offer; returns it as bytes.

        Args:
            anew: with fresh keys and all that we speak: for the first offer, and for who asks what we would offer.
                Otherwise as it is now, but for our address and for who is on hold.
        """
        self.offered = call("terminal.offering", "offer", self, self._config, () if anew else self.agreed)
        self.version += 1
        return self.offered

    def answer(self, body):
        """Answer an offer; nothing runs by it before `apply`.

        Returns:
            (our answer as bytes, each `Agreed` that it agrees on).

        Raises:
            ParseError: the offer is malformed (400), too large (413), or can't be accepted (488).
        """
        lines, agreed = call("terminal.answering", "take", self, self._config, body)
        body, self.places = call("terminal.offering", "answer", self, self._config, lines, agreed)
        self.version += 1
        self.offered = None  # one of ours that came to nothing
        return body, agreed

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
        """Each `Agreed` that the answer to our open offer agrees on.

        Raises:
            ParseError: it is no answer to it.
        """
        self.places, agreed = call("terminal.accepting", "accept", self, self._config, body)
        return agreed

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
        self.renews = False
        self.agreed = agreed
        kinds = [one.kind for one in agreed]
        self.had = [one for one in self.had if one.kind not in kinds] + list(agreed)
        told = (self.is_held, not [stream for stream in agreed if stream.talks])
        if talks and told != self._told:
            self._told = told
            emit("hold", local=told[0], remote=told[1])
