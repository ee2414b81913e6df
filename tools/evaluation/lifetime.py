"""Setup keys over months: what they save, and what a compromise exposes, with the rules of WIRE section 4.

    no key that lives  -> the neighbours vouch: 4 asymmetric operations for the INVITE, 4 for the answer
    key K that lives   -> none; a valid INVITE is one of its `uses`, answered or not
    a call's BYE and its 200 -> K' from K (or from the SDES keys of a vouched call), with `life` and `uses` of its own

A pair of terminals has a store on each side, newest key first. Who answers a BYE keeps K until K' is used; who sends
it has K' alone; a BYE without its answer changes nothing at its sender. A terminal has room for some peers, and
forgets whom it has not heard of for longest.

Where a new key has a life and uses of its own, most keys serve one call, `uses` counts where calls are
not answered or end without a BYE, and `life` counts while a pair is silent: a chain of keys goes on for ever where a
pair calls often enough. Where it gets what is left of the old one's (``is_carried``), both bound the chain, and the
neighbours vouch anew in the end. On the wire both are the same: it is what a terminal offers in a BYE.

Somebody breaks in at a moment, in one of these ways (what setup keys add to; the secret that a terminal has with its
neighbour is another matter: whoever has that is the terminal until it is changed, with setup keys or without):

    copied     reads the terminal's store, once, and sees nothing after
    watched    the same, then sees the nonces of every call, but nothing that is sealed: as with the key of a trunk
    calling    as copied, and then calls every contact once a day in the terminal's name, as long as that works
    inside     is in the neighbour for a week: knows what it vouches for, and follows those keys while it is there
    forcing    is in the neighbour for a week, and answers 428 itself, so that all calls have to be vouched for

A call is exposed where somebody has what it was set up by: reads it, or could have stood in for either side.
"""

from dataclasses import dataclass, field

from evaluation.patterns import ANSWERED, DAY_S, HALF_ENDED, UNANSWERED, Call

__all__ = [
    "ALONE",
    "ATTACKS",
    "CALLING",
    "COPIED",
    "FORCING",
    "INSIDE",
    "OPERATIONS_OF_ANSWER",
    "OPERATIONS_OF_INVITE",
    "ROOM",
    "WATCHED",
    "Attack",
    "Policy",
    "Result",
    "simulate",
]

COPIED, WATCHED, CALLING, INSIDE, FORCING = "copied", "watched", "calling", "inside", "forcing"
#: In the order of tables.
ATTACKS = (COPIED, WATCHED, CALLING, INSIDE, FORCING)
#: Who acts, and so changes what others see: to be simulated alone.
ALONE = frozenset({CALLING, FORCING})
_IN_NEIGHBOUR = frozenset({INSIDE, FORCING})
OPERATIONS_OF_INVITE = 4  # sign and encrypt at one neighbour, decrypt and verify at the other
OPERATIONS_OF_ANSWER = 4
_DWELL_S = 7 * DAY_S  # how long somebody is in a neighbour before it is noticed
_CALLS_EVERY_S = DAY_S  # who is calling calls a contact so often
#: Peers that a terminal keeps keys of, as device/terminal/keystore.py has it.
ROOM = 16
_OURS, _THEIRS = 0, 1


@dataclass(frozen=True, slots=True)
class Policy:
    """Which keys terminals make.

    Attributes:
        life_s: how long a key lives; 0 for no keys at all.
        uses: how many calls it serves.
        is_carried: whether a new key gets what is left of the one before, rather than all of it anew.
        room: how many peers the terminal looked at keeps keys of.
    """

    life_s: int
    uses: int
    is_carried: bool = False
    room: int = ROOM


@dataclass(frozen=True, slots=True)
class Attack:
    """Somebody who breaks in.

    Attributes:
        kinds: of `ATTACKS`. Several that only look on can be simulated at once; who acts is alone.
        at_s: when.
        until_s: calls after that are not counted.
    """

    kinds: frozenset[str]
    at_s: float
    until_s: float

    def is_in_neighbour(self, now_s: float) -> bool:
        """Whether those who break into a neighbour are there."""
        return self.at_s <= now_s < self.at_s + _DWELL_S


@dataclass(slots=True)
class Result:
    """What came of it.

    Attributes:
        calls: all of them.
        vouched: those that the neighbours vouched for.
        operations: asymmetric ones, of both neighbours.
        exposed: calls from the attack on, by its kind.
        unkeyed: calls that would have been exposed by the same attack without any setup keys, by its kind.
    """

    calls: int = 0
    vouched: int = 0
    operations: int = 0
    exposed: dict[str, int] = field(default_factory=dict)
    unkeyed: dict[str, int] = field(default_factory=dict)


class _Key:
    """A key; both ends and whoever else knows it hold the same one."""

    __slots__ = ("known",)

    def __init__(self, known: frozenset[str]) -> None:
        self.known = known


class _Held:
    """A key in somebody's store."""

    __slots__ = ("ends_s", "key", "uses")

    def __init__(self, key: _Key, ends_s: float, uses: int) -> None:
        self.key = key
        self.ends_s = ends_s
        self.uses = uses

    def lives(self, now_s: float) -> bool:
        """Whether it may serve a call."""
        return self.uses > 0 and now_s < self.ends_s


_Store = list[_Held]
_NOBODY: frozenset[str] = frozenset()


def _newest(store: _Store, now_s: float) -> _Held | None:
    """The key that a caller takes."""
    for held in store:
        if held.lives(now_s):
            return held
    return None


def _accept(store: _Store, key: _Key, now_s: float) -> _Held | None:
    """What a callee has of the key that a caller took, None for its 428."""
    for held in store:
        if held.key is key and held.lives(now_s):
            return held
    return None


def _drop_older(store: _Store, held: _Held) -> None:
    """The other side has shown that it has this key: the one before it is over."""
    if held is store[0]:
        del store[1:]


def _replace(store: _Store, new: _Held, used: _Held | None, *, answers: bool) -> None:
    """Put the key that a call left in front.

    Args:
        store: whose.
        new: that key.
        used: the one that set the call up, None where it was vouched for.
        answers: the BYE, and so keeps what it had until the new key is used: the answer may be lost.
    """
    kept = [] if used is None else [used]
    store[:] = [new, *kept] if answers else [new]


class _World:
    """One terminal's keys with each of its contacts, and who knows them."""

    def __init__(self, policy: Policy, attack: Attack | None) -> None:
        self._policy = policy
        self._attack = attack
        self._pairs: dict[int, tuple[_Store, _Store]] = {}
        self._stolen: dict[int, _Store] = {}
        self.result = Result()
        if attack is not None:
            self.result.exposed = dict.fromkeys(attack.kinds, 0)
            self.result.unkeyed = dict.fromkeys(attack.kinds, 0)

    def _pair(self, contact: int) -> tuple[_Store, _Store]:
        """Our store and theirs; the pairs that have been busy last are the last ones."""
        found = self._pairs.pop(contact, None) or ([], [])
        self._pairs[contact] = found
        return found

    def _make_room(self) -> None:
        """Forget whom we have not heard of for longest, where another peer comes."""
        known = [ours for ours, _ in self._pairs.values() if ours]
        if len(known) >= self._policy.room:
            known[0].clear()

    # Keys.

    def _made(self, key: _Key, now_s: float, used: _Held | None) -> _Held:
        """A new key as one side stores it, or as it would: what has no life left is not kept."""
        policy = self._policy
        if used is not None and policy.is_carried:
            return _Held(key, used.ends_s, used.uses)
        return _Held(key, now_s + policy.life_s, policy.uses)

    def _followed(self, known: frozenset[str], now_s: float) -> frozenset[str]:
        """Who of those who know a key knows the next one: they have to see the nonces of the BYE."""
        attack = self._attack
        assert attack is not None, "nobody knows anything"
        found = known & {WATCHED}
        return found | (known & _IN_NEIGHBOUR) if attack.is_in_neighbour(now_s) else found

    # Calls.

    def call(self, call: Call) -> None:
        """Make a call, and count it."""
        now_s = call.at_s
        attack, result = self._attack, self.result
        stores = self._pair(call.contact)
        caller = _OURS if call.is_ours else _THEIRS
        is_there = attack is not None and attack.is_in_neighbour(now_s)
        mine = _newest(stores[caller], now_s)
        theirs = None
        if mine is not None and not (is_there and attack is not None and FORCING in attack.kinds):
            theirs = _accept(stores[1 - caller], mine.key, now_s)
        result.calls += 1
        if mine is not None:
            mine.uses -= 1  # before it is known whether the other side takes it
        if mine is not None and theirs is not None:
            theirs.uses -= 1
            _drop_older(stores[1 - caller], theirs)
            if call.end != UNANSWERED:
                _drop_older(stores[caller], mine)
            known = mine.key.known
        else:
            mine = theirs = None
            result.vouched += 1
            result.operations += OPERATIONS_OF_INVITE
            if call.end != UNANSWERED:
                result.operations += OPERATIONS_OF_ANSWER
            known = attack.kinds & _IN_NEIGHBOUR if is_there and attack is not None else _NOBODY
        if attack is not None and attack.at_s <= now_s < attack.until_s:
            for kind in known:
                result.exposed[kind] += 1
            if is_there:
                for kind in attack.kinds & _IN_NEIGHBOUR:
                    result.unkeyed[kind] += 1
        if call.end in {ANSWERED, HALF_ENDED}:
            used = (mine, theirs) if call.is_ours else (theirs, mine)
            self._roll(call, stores, used, known)

    def _roll(
        self, call: Call, stores: tuple[_Store, _Store], used: tuple[_Held | None, _Held | None], known: frozenset[str]
    ) -> None:
        """The end of a call: a new key.

        Args:
            call: which.
            stores: ours and theirs.
            used: the key that it was set up by, as each has it; None where it was vouched for.
            known: to whom that key, or the SDES keys, is known.
        """
        key = _Key(self._followed(known, call.at_s) if known else _NOBODY)
        made = [self._made(key, call.at_s, one) for one in used]
        ends_s, uses = min(one.ends_s for one in made), min(one.uses for one in made)
        ends = _OURS if call.we_end else _THEIRS
        for side in (_OURS, _THEIRS):
            if side == ends and call.end == HALF_ENDED:
                continue  # its BYE was never answered
            if ends_s <= call.at_s or uses <= 0:
                stores[side].clear()  # 0 in either offer: no key is kept
                continue
            if side == _OURS and not stores[_OURS]:
                self._make_room()
            _replace(stores[side], _Held(key, ends_s, uses), used[side], answers=side != ends)

    # Somebody breaks in.

    def break_in(self) -> None:
        """Copy the terminal's store, where that is how they break in."""
        attack = self._attack
        assert attack is not None, "somebody is there"
        readers = attack.kinds & {COPIED, WATCHED, CALLING}
        if not readers:
            return
        for contact, (ours, _) in self._pairs.items():
            for held in ours:
                held.key.known |= readers
            if CALLING in readers:
                self._stolen[contact] = [_Held(one.key, one.ends_s, one.uses) for one in ours]

    def call_in_our_name(self, now_s: float) -> None:
        """Who is calling calls every contact once, and hangs up: their keys are no longer ours."""
        for contact, stolen in self._stolen.items():
            store = self._pairs[contact][_THEIRS]
            while stolen:
                held = stolen[0]
                accepted = _accept(store, held.key, now_s)
                if accepted is None:
                    stolen.pop(0)  # 428, and nobody vouches for them
                    continue
                self.result.exposed[CALLING] += 1
                held.uses -= 1
                accepted.uses -= 1
                _drop_older(store, accepted)
                key = _Key(frozenset({CALLING}))
                new = self._made(key, now_s, accepted)
                if new.uses > 0:
                    _replace(store, new, accepted, answers=True)
                    stolen[0] = _Held(key, new.ends_s, new.uses)
                break


def simulate(calls: list[Call], policy: Policy, attack: Attack | None = None) -> Result:
    """Let the calls of one terminal happen.

    Args:
        calls: in the order of time.
        policy: which keys are made.
        attack: who breaks in, if somebody does.

    Returns:
        What it cost, and what was exposed. The same for the same arguments.
    """
    if attack is not None and len(attack.kinds) > 1 and attack.kinds & ALONE:
        raise ValueError("who acts changes what others see, and is simulated alone")
    world = _World(policy, attack)
    has_broken_in = False
    next_s = float("inf")
    for call in calls:
        if attack is not None and not has_broken_in and call.at_s >= attack.at_s:
            world.break_in()
            has_broken_in = True
            if CALLING in attack.kinds:
                next_s = attack.at_s
        while attack is not None and next_s <= call.at_s:
            if next_s < attack.until_s:
                world.call_in_our_name(next_s)
            next_s += _CALLS_EVERY_S
        world.call(call)
    return world.result
