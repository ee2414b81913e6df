"""A model test of setup keys: two terminals, two neighbours, and whatever may happen to them (WIRE section 4).

The terminals are real, but for hop, sockets, sound and the registration, of which the Date and the Setup-Peers are
here. `run` makes a random sequence of what people do (call, answer, reject, cancel, hold, hang up, all that also both
at once, take trust back), of what goes wrong (restarts and power cuts, also in the middle of a writing; neighbours that
restart; replays; a full flash; clocks that differ and jump) and of time that passes, over a network that loses, repeats
and reorders datagrams from not at all to heavily, in each direction differently. A run comes of its seed alone, and is
the same on every Python.

What has to hold, as it is checked:

1. The ends never disagree for more than one call. *Left alone*: nothing is under way any more, no introduction either,
   both are registered, neither changes its clock, and the network loses nothing. Then, whatever has happened before:
   a. the first call connects both ends, who say the same of how: by setup key, or, where the callee does not have the
      caller's newest key that is good (it is refused with 428, once), with the neighbours' help;
   b. when it was hung up, the newest key is the same at both ends; or neither has any, where both have told that
      there is none any more: the last one's uses are over;
   c. each further call is by setup key at both ends, with nothing refused, while that key is good for one; else it is
      by the neighbours, as a first call. Either leaves the ends as b.
   Before that the ends may differ in one way alone that WIRE 4.2 allows (the answer to BYE was lost: one side has K
   and the other K' and K), and in those of flash and clocks: an end that has lost its keys, or thinks that they are
   over. It takes a call to find out, and its BYE mends it.
2. No call is accepted with a key that was revoked: not by who has revoked it, from then on, nor by the other after it
   has heard; and neither makes another of it. (A call that stands goes on, and leaves no key.)
3. No number is accepted twice under a key by an end, in an INVITE, UPDATE, BYE or revocation, and no nonce stands in
   two messages that were accepted; restarts and power cuts change nothing about that. No two calls, and no two
   directions, have the same media keys.
4. Calls succeed whenever a path exists: where both ends are up, registered and idle, and the network loses nothing
   after some seconds (12, which the repetitions of an INVITE outlast), a call that is answered is connected at both
   ends after one attempt. No promise is made where an end restarts, or is busy, while it is called.
5. Where both ends say that they are connected, and no change is under way, each has the other's media keys.
6. Nothing escapes, and nothing stays: left alone and with their calls hung up, both are idle within 5 minutes, without
   transactions and deadlines.
"""

from surroundings import COUNTED, Result, Surroundings

from terminal import revoking
from terminal.addressing import told
from terminal.phone import IDLE, RINGING

__all__ = ["COUNTED", "Result", "run"]

_HOUR_MS = 3600000
_DAY_MS = 24 * _HOUR_MS
_HEALED_MS = 12000  # after that a network that mends itself loses nothing; an INVITE is repeated after 15.5 s
_GONE_MS = 300000  # nothing lasts longer that nobody answers: 180 s of ringing, and a few times 32 s


class _Model(Surroundings):
    """What people do, what goes wrong, and what has to hold."""

    # What has to hold at any time.

    def check(self):
        """Where both ends talk to each other, they have each other's keys: 5."""
        phones = [end.phone for end in self.ends]
        if [phone.state for phone in phones] != ["talking", "talking"] or self.alice.call_id != self.bob.call_id:
            return
        if any([phone.change.transaction or phone.ok for phone in phones]):
            return
        ours, theirs = self.alice.media.agreed, self.bob.media.agreed
        if (ours.local_key, ours.remote_key) != (theirs.remote_key, theirs.local_key):
            self.complain("both talk, and their media keys differ")
        for phone in phones:
            if phone.trust.kid != phones[0].trust.kid:
                self.complain("both talk, by keys that differ")

    # What people do.

    def dial(self, caller=None):
        caller.do(caller.phone.dial, self.other(caller).aor.decode(), self.now)

    def hang_up(self, end=None):
        end.do(end.phone.hang_up, self.now)

    def revoke(self, end):
        """Take trust back."""
        self.say(end.user, "takes trust back")
        other = self.other(end)
        end.do(revoking.revoke, end.config, end.agent, other.aor, self.now, end.link.is_open, told)

    def is_ready(self, end):
        """Whether a call of its or to it has all that it needs."""
        return end.is_on and end.link.is_open and end.phone.state == IDLE

    def settle(self):
        """Leave the two alone until nothing is under way: 6."""
        self.say("left alone")
        self.flash.left.clear()
        self.flash.full = []
        self.change_network(True)
        for end in self.ends:
            end.trunk_at = min(end.trunk_at, self.now + 20000)
            if end.phone.state != IDLE:
                self.hang_up(end)
        self.advance(_GONE_MS)
        for end in self.ends:
            if end.phone.state != IDLE or end.phone.timer_at is not None:
                self.complain("not idle: %s" % end.phone.state)
                end.start()
            self.refresh(end)
        self.advance(40000)
        for end in self.ends:
            left = [entry[0] for entry in end.agent._clients.values()] + list(end.agent._servers.values())
            if [one for one in left if one.timer_at is None]:
                self.complain("a transaction without an end")
            if not self.is_ready(end):
                self.complain("not ready")

    def attempt(self, caller):
        """Call, and answer: 4. Returns by what they know each other, None where the call failed."""
        callee = self.other(caller)
        self.dial(caller)
        for end in self.ends:
            end.by = None
        if self.advance(40000, lambda: callee.phone.state == RINGING):
            self.advance(self.random.choice((0, 100, 3000)))
            if callee.phone.state == RINGING:
                callee.do(callee.phone.answer, self.now)
            self.advance(40000, self.is_connected)
        if not self.is_connected():
            self.complain("no call where there is a path: %s, %s" % (caller.phone.state, callee.phone.state))
            return None
        if caller.by != callee.by or caller.by not in ("setup-key", "neighbour heavy"):
            self.complain("the ends differ in how they know each other: %s, %s" % (caller.by, callee.by))
        return caller.by

    def is_connected(self):
        """Whether both ends are, and with each other."""
        states = [end.phone.state for end in self.ends]
        return states == ["talking", "talking"] and self.alice.call_id == self.bob.call_id

    def leave_alone(self):
        """Whatever was before, the second call at the latest is by setup key: 1."""
        self.settle()
        wanted = self.hand_over()
        self.count("left alone")
        is_good = False
        for i in range(2 + self.random.below(3)):
            caller, leaver = self.random.choice(self.ends), self.random.choice(self.ends)
            self.refused = 0
            by = self.attempt(caller)
            if by is None:
                break
            if self.refused > 1 or (is_good and (self.refused or by != "setup-key")):
                self.complain("call %d of those left alone: by %s, %d refused" % (i + 1, by, self.refused))
            if is_good:
                self.count("left alone, by setup key")
            if self.random.hits(20):
                self.change_hold(self.random.choice(self.ends))
                self.advance(5000)
            for end in self.ends:
                end.is_over = False
            self.hang_up(leaver)
            self.advance(70000)
            newest = [end.keys(self.other(end))[:1] for end in self.ends]
            if [[key.kid for key in keys] for keys in newest] != [[key.kid for key in newest[0]]] * 2:
                self.complain("after call %d of those left alone the newest keys differ" % (i + 1))
            elif not newest[0] and not (self.alice.is_over and self.bob.is_over):
                self.complain("after call %d of those left alone there is no key" % (i + 1))
            is_good = min([self.is_good(end, keys) for end, keys in zip(self.ends, newest)])
        for end, peers in zip(self.ends, wanted):
            end.config.setup["peers"] = peers

    def hand_over(self):
        """Let the neighbours have nothing for their terminals, and nobody ask for more; returns who did."""
        wanted = [end.config.setup["peers"] for end in self.ends]
        both = [self.neighbours[end.user] for end in self.ends]
        for end, neighbour in zip(self.ends, both):
            end.config.setup["peers"] = []
            neighbour.held = [(self.now, until, key) for _, until, key in neighbour.held]
            neighbour.deliver()
        if not self.advance(120000, lambda: not both[0].held and not both[1].held):
            self.complain("the neighbours can't hand over what they have")
        self.advance(40000)
        return wanted

    def is_good(self, end, keys):
        """Whether the newest key is still good for a call, and for some seconds: the ends' clocks differ by one."""
        now_s = end.calendar.seconds(self.now)
        return bool(keys) and keys[0].uses > 0 and keys[0].end - now_s > 5

    def call_while_it_mends(self):
        """The network mends itself in time: the call goes through."""
        self.settle()
        self.change_network()
        self.heal_at = self.now + self.random.below(_HEALED_MS)
        caller = self.random.choice(self.ends)
        self.attempt(caller)
        self.change_network()

    def replay_often(self):
        """What has been before is sent once more, while the phones can ring."""
        for end in self.ends:
            if end.phone.state != IDLE:
                self.hang_up(end)
        self.advance(self.random.choice((0, 70000)))
        for _ in range(4):
            self.replay()
            self.advance(500)
            for end in self.ends:
                if end.phone.state == RINGING:
                    end.do(end.phone.reject, self.now)

    def change_hold(self, end):
        """Put the other side on hold, or take it back."""
        if end.phone.state == "talking":
            self.count("changes")
        end.do(end.phone.hold, self.random.below(2) == 0, self.now)

    def act(self):
        """One step: of people mostly, else a mishap."""
        random = self.random
        end = random.choice(self.ends)
        if not end.is_on:
            pass
        elif random.hits(22):
            self.mishap(end)
        else:
            self.use(end)
        self.send()
        self.advance(random.choice((0, 0, 20, 300, 300, 1000, 1000, 5000, 40000)))

    def use(self, end):
        """What somebody does with a phone, and perhaps the other at the same time."""
        random, phone, now = self.random, end.phone, self.now
        both = self.ends if random.hits(15) else (end,)
        state = phone.state
        if state == IDLE and random.hits(70):
            for one in both:
                if one.is_on:
                    self.dial(one)
        elif state == RINGING and random.hits(70):
            end.do(phone.answer, now)
        elif state == RINGING and random.hits(30):
            end.do(phone.reject, now)
        elif state == "talking" and random.hits(40):
            self.change_hold(end)
        elif state != IDLE and random.hits(70 if state == "talking" else 20):
            for one in both:
                if one.is_on:
                    self.hang_up(one)
            if random.hits(8):
                self.advance(random.choice((0, 30, 60)))
                self.revoke(random.choice(self.ends))

    def mishap(self, end):
        """What nobody wants, or seldom."""
        random = self.random
        kind = random.below(100)
        if kind < 15:
            self.restart(end)
        elif kind < 40:
            self.flash.left[end.folder] = random.below(500)
        elif kind < 45:
            self.restart_neighbour(end)
        elif kind < 57:
            self.change_network()
        elif kind < 63:
            self.replay_often()
        elif kind < 68:
            self.count("clock changes")
            end.skew_s = random.below(6 * 3600) - 3 * 3600 if random.hits(80) else 0
            end.register_at = min(end.register_at, self.now + random.below(60000))
        elif kind < 78:
            self.revoke(end)
        elif kind < 86:
            self.introduce(end, random.choice((600, 86400)), random.choice((1, 20)))
        elif kind < 90:
            self.flash.full = [end.folder] if random.hits(50) else []
        elif kind < 93:
            self.leave_alone()
        elif kind < 97:
            self.call_while_it_mends()
        else:
            self.advance(random.choice((600000, _HOUR_MS, 5 * _HOUR_MS, _DAY_MS, 2 * _DAY_MS)))


def run(seed, steps=40, verbose=False):
    """One run.

    Args:
        seed: from 0.
        steps: how many things happen.
        verbose: whether to print them.

    Returns:
        A `Result`.
    """
    model = _Model(seed, verbose)
    try:
        model.begin()
        for _ in range(steps):
            model.act()
        model.leave_alone()
        model.settle()
    finally:
        model.close()
    result = model.result
    result.digest = "".join(["%02x" % byte for byte in model.digest.digest()[:8]])
    return result
