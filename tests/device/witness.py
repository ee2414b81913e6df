"""Who watches what the terminals of `model` accept, and keeps books of it that are not theirs.

The functions of the terminal that let something in are wrapped while a run lasts: `vouching.take` (a call, and what
changes one), `asking.accept` (the answer), `parting.take_bye` and `settle` (the next key), `revoking.revoke` and
`take_revocation` (no key); so is what writes keys, for what an introduction and a power cut leave of them. What a function
returned for was accepted; where it raised, or the power failed in it, it was not.
"""

from binascii import hexlify

from flash import PowerCut
from scripted import FakeMedia

from sipwire.setup import SetupKey
from terminal import asking, introductions, keystore, parting, revoking, vouching
from terminal.setupkey import header_of, sides_of

__all__ = ["Witness", "WitnessedMedia"]

_WRAPPED = (
    (vouching, "take"),
    (asking, "accept"),
    (parting, "take_bye"),
    (parting, "settle"),
    (revoking, "take_revocation"),
    (revoking, "revoke"),
    (keystore, "save"),
    (keystore, "forget"),
    (introductions, "take"),
)


def _kids(folder, peer):
    return [key.kid for key in keystore.load(folder, peer)]


def _state(keys):
    return [(key.key, key.end, key.uses, key.sent, key.seen) for key in keys]


class WitnessedMedia(FakeMedia):
    """Tells the witness of each key that is to protect packets.

    Args:
        end: whose it is.
    """

    def __init__(self, end):
        super().__init__()
        self.end = end

    def start(self, streams, now, talks=True):
        super().start(streams, now, talks)
        for agreed in streams:
            self.end.pair.witness.protects(self.end, agreed)


class Witness:
    """See the module.

    Args:
        complain: called with what must not be.
        count: called with the name of something that is counted.
    """

    def __init__(self, complain, count):
        self._complain = complain
        self._count = count
        self._numbers = {}  # (who accepted, kid, seq): once
        self._nonces = {}  # (kid, nonce): of which request, as its MAC has it
        self._gone = {}  # who: the names of keys that it has taken trust back from, or has heard so
        self._media = {}  # key: (Call-ID, who sends with it)
        self._real = []

    def begin(self):
        """Watch, until `end`."""
        for module, name in _WRAPPED:
            self._real.append((module, name, getattr(module, name)))
        take, accept, take_bye, settle, take_revocation, revoke, save, forget, meet = [one[2] for one in self._real]

        def watched_take(trust, request, now):
            take(trust, request, now)
            header = header_of(request)
            if header:
                who = trust.config.aor
                if not request.to.tag:
                    self._count("taken by key")
                    if header.kid in self._gone.get(who, ()):
                        self._complain("a call is accepted with a key that was revoked")
                self._number(who, header, header.kid)
                self._nonce(header.kid, header.nonce, (b"request", request.call_id, request.cseq.number))

        def watched_accept(trust, response, now):
            accept(trust, response, now)
            kind = (b"answer", response.call_id, response.cseq.number, response.to.tag)
            self._nonce(trust.kid, header_of(response).nonce, kind)

        def watched_bye(trust, request, now):
            made = take_bye(trust, request, now)
            if made:
                header, answer = header_of(request), SetupKey.parse(made)
                # In a first call there is no key yet, but a secret of that call.
                kid = trust.kid or b"first " + request.call_id
                self._number(trust.config.aor, header, kid)
                self._nonce(kid, header.nonce, (b"bye", request.call_id, request.cseq.number))
                self._nonce(kid, answer.nonce, (b"bye-answer", request.call_id, request.cseq.number))
            return made

        def watched_settle(config, now_s, memo, event):
            before = _kids(config.keys, memo[0])
            settle(config, now_s, memo, event)
            after = _kids(config.keys, memo[0])
            if after != before:
                self._count("settled")
                kid = SetupKey.parse(memo[2]).kid
                if kid in self._gone.get(config.aor, ()):
                    self._complain("a key is made of one that was revoked")

        def watched_revocation(trust, agent, transaction, request, now):
            config, peer = trust.config, sides_of(request)[0]
            before = _kids(config.keys, peer)
            try:
                take_revocation(trust, agent, transaction, request, now)
            except PowerCut:
                if not _kids(config.keys, peer):
                    self._go(config.aor, before)
                raise
            header = header_of(request)
            self._number(config.aor, header, header.kid)
            self._count("revocations heard")
            if _kids(config.keys, peer):
                self._complain("a key is still there when it is heard that it was revoked")
            self._go(config.aor, before)

        def watched_revoke(config, agent, uri, now, is_open, told):
            before = _kids(config.keys, uri)
            try:
                revoke(config, agent, uri, now, is_open, told)
            finally:
                if not _kids(config.keys, uri):
                    self._go(config.aor, before)
            if before:
                self._count("revocations")

        def watched_save(folder, peer, keys, now_s, taken=b""):
            before = _state(keystore.load(folder, peer))
            try:
                save(folder, peer, keys, now_s, taken)
            except PowerCut:
                self._left(folder, peer, before, _state(keys[: keystore.MAX_KEYS]))

        def watched_forget(folder, peer):
            before = _state(keystore.load(folder, peer))
            try:
                forget(folder, peer)
            except PowerCut:
                self._left(folder, peer, before, [])

        def watched_meet(trust, agent, transaction, request, now):
            before = _kids(trust.config.keys, trust.peer)
            meet(trust, agent, transaction, request, now)
            if trust.kid in before and trust.kid not in _kids(trust.config.keys, trust.peer):
                self._complain("the key of a call is lost for one that the neighbours have made")

        watched = watched_take, watched_accept, watched_bye, watched_settle, watched_revocation, watched_revoke
        watched += watched_save, watched_forget, watched_meet
        for (module, name), function in zip(_WRAPPED, watched):
            setattr(module, name, function)

    def _left(self, folder, peer, before, wanted):
        """The power has failed while the keys with a peer were written: the old are there, or the new."""
        if _state(keystore.load(folder, peer)) not in (before, wanted):
            self._complain("a power cut has left neither the old keys nor the new")
        raise PowerCut

    def end(self):
        """Watch no more."""
        for module, name, function in self._real:
            setattr(module, name, function)

    def _go(self, who, kids):
        self._gone.setdefault(who, []).extend(kids)

    def _number(self, who, header, kid):
        name = who, kid, header.seq
        if name in self._numbers:
            self._complain("a number is accepted twice")
        self._numbers[name] = True

    def _nonce(self, kid, nonce, what):
        if self._nonces.setdefault((kid, nonce), what) != what:
            self._complain("a nonce is accepted twice")

    def protects(self, end, agreed):
        """An end protects with a key, and expects another."""
        call_id = end.call_id
        other = end.pair.other(end)
        for key, sender in ((agreed.local_key, end.user), (agreed.remote_key, other.user)):
            if self._media.setdefault(key, (call_id, sender)) != (call_id, sender):
                self._complain("two calls, or two directions, have the same media keys: " + hexlify(key[:4]).decode())
