"""What the two ends of a call know of each other: by a setup key, or by what the neighbours say (WIRE section 4).

    dial    -choose-> INVITE -ask-> ... 200 -accept-> talking
    INVITE  -take-> ringing -answer-> 200 ............ talking
                                                       talking -part-> BYE ... 200 -settle-> the next key
                                                       BYE -take_bye-> 200 with the next key

Here is what a call remembers of it, and nothing else: all that is done with it is loaded on demand, `hearsay`,
`asking` and `vouching` when a call begins or changes, `parting` at its end, `revoking` where it is taken back.
"""

import os
from binascii import hexlify
from hashlib import sha256

from sipwire.uri import Uri

from .demand import call

__all__ = ["Trust", "path_of"]

_ASKING = "terminal.asking"
_VOUCHING = "terminal.vouching"
_PARTING = "terminal.parting"


def path_of(folder, peer, slot):
    """The path of one of the two files that the keys with a peer are in, see `keystore`."""
    return "%s/%s.%d" % (folder, str(hexlify(sha256(peer).digest()[:8]), "ascii"), slot)


class Trust:
    """The trust of one call after the other.

    Args:
        config: the terminal's.
        calendar: a `clock.Calendar`.

    Attributes:
        kid, key: the name and the 32 bytes of the setup key that the call has, b"" for none.
        peer: the address-of-record of the other side; b"" where there can be no trust.
        by: who says who the other side is: ``setup-key``, ``neighbour heavy``, ``neighbour medium``...; None: nobody.
        verified: whom the other side was shown to be, or which domain; None: nobody.
        seq, last: the number of our last request, and up to which the flash says that they are used.
        seen: the highest number of a request of the peer's.
        asked: our last request: (number, nonce as sent, sides, call), or None.
        keys: what the media keys are made of: (kid, key, nonce, nonce), or None.
        header: of our answer to come: (number, nonce as sent, nonce that was asked with), or None.
        is_vouched: whether the neighbours vouch for enough to begin with.
        first: what SDES has told in a first call: (offerer's key and salt, answerer's), or None.
        is_refused: whether the other side did not know our key: a second attempt, without.
        unheard: the MAC of an INVITE that was good, and for which the phone has not rung yet; b"" for none.
        unproven: requests that claimed a key of ours and did not have it, since we began.
    """

    def __init__(self, config, calendar):
        self.config = config
        self.calendar = calendar
        self.unproven = 0
        self.unheard = b""
        self.begin()

    def begin(self):
        """Another call: nobody is known."""
        self.peer = b""
        self.is_refused = self.is_vouched = False
        self.by = self.verified = self.first = None
        self.without()

    def show_peer(self):
        """It is shown who the other side is."""
        self.by, self.verified = "setup-key", self.peer
        self.is_vouched = False

    def without(self):
        """Go on without a key."""
        self.kid = self.key = b""
        self.seq = self.last = self.seen = 0
        self.asked = self.keys = self.header = None

    def refuse(self):
        """The other side does not take our key: once more, with the neighbour's help alone."""
        self.without()
        self.is_refused = True

    def choose(self, uri, now):
        """We are about to call somebody: take the newest key there is, if any."""
        self.peer = Uri.parse(uri).aor()
        for slot in range(2):
            try:
                os.stat(path_of(self.config.keys, self.peer, slot))
            except OSError:
                continue
            call(_ASKING, "choose", self, now)
            return

    def ask(self, request, now):
        """Show in an INVITE of ours who we are: in that which begins a call and in each that changes it.

        Args:
            request: with its body.
            now: milliseconds.
        """
        if self.kid:
            call(_ASKING, "ask", self, request, now)
        elif self.is_refused:
            # What this key stood for is not given up: whoever made the other side refuse it gains nothing by that.
            level = self.config.setup["level"].encode()
            request.add("Security-Assist", b"sign, encrypt;level=" + level)

    def accept(self, response, now):
        """Check the answer to our offer.

        Raises:
            ParseError: it does not show that it is from who has our key.
        """
        self._listen(response)
        if self.kid:
            call(_ASKING, "accept", self, response, now)

    def take(self, request, now):
        """Check an INVITE or UPDATE of the peer's, and make ready to answer.

        Raises:
            Refusal: 428, 403: it is not from who it claims to be from.
            ParseError: malformed.
        """
        if not request.to.tag:
            self.peer = request.from_.parsed_uri().aor()
            self._listen(request)
        if self.kid or request.get("setup-key") is not None:
            call(_VOUCHING, "take", self, request, now)

    def _listen(self, message):
        status = message.get("security-status")
        if status is not None and not self.kid:
            call("terminal.hearsay", "listen", self, status)

    def answer(self, request, body):
        """The Setup-Key that goes into the answer to what `take` has taken, or None.

        Args:
            request: likewise; its body is not needed any more.
            body: the answer's.
        """
        return call(_VOUCHING, "answer", self, request, body) if self.header else None

    def remember(self, offered, answered):
        """What SDES has agreed on when a call begins, key and salt of the offerer and of the answerer; RTP has none."""
        if not self.kid and self.is_vouched and offered:
            self.first = offered, answered

    def part(self, request, now):
        """Offer the next key in our BYE.

        Args:
            request: the BYE, which is changed.
            now: milliseconds.

        Returns:
            What `settled` wants, or None where there is to be no key.
        """
        return call(_PARTING, "part", self, request, now) if self.kid or self.first else None

    def settled(self, memo):
        """A callback for our BYE: its answer makes the next key.

        Args:
            memo: of `part`.
        """

        def answered(event, how, now):
            call(_PARTING, "settle", self.config, self.calendar.seconds(now), memo, event)

        return answered

    def take_bye(self, request, now):
        """Make the next key that the peer's BYE offers.

        Returns:
            The Setup-Key that goes into its 200, or None.
        """
        return call(_PARTING, "take_bye", self, request, now) if self.kid or self.first else None
