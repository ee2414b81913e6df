"""tools/evaluate: the rules that the simulation goes by, figures that can be had again, and calls that are counted."""

import ast
import io
import itertools
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT, micropython
from rich.console import Console

from evaluation import __main__ as program
from evaluation import advice, inmemory, mechanisms, processes, table1
from evaluation.domains import NEIGHBOURS, TERMINALS, Domain, Meter, People
from evaluation.endtoend import PATH, EndToEnd, NotSafeError
from evaluation.figures import END_TO_END, HYBRID, MODELS, loads
from evaluation.lifetime import (
    ALONE,
    ATTACKS,
    CALLING,
    COPIED,
    FORCING,
    INSIDE,
    ROOM,
    WATCHED,
    Attack,
    Policy,
    Result,
    simulate,
)
from evaluation.models import Powerful, Weak, call_end_to_end, call_hybrid
from evaluation.patterns import ANSWERED, DAY_S, HALF_ENDED, LOST, PATTERNS, UNANSWERED, Call, make_calls
from evaluation.sweep import ENOUGH, LIVES_S, USES, NothingSavesEnoughError, Sweep, percentile_95
from lab.processes import LabError
from neighbour.agent.aib import IntegrityError
from neighbour.agent.cms.errors import DecryptError
from neighbour.agent.freshness import StaleError
from sipwire.message import Request, parse

HOUR_S = 3600
LONG_S = 365 * DAY_S
FULL = 8  # operations of a call that is vouched for and answered


def calls(*ends: str, every_s: float = HOUR_S, contact: int = 0, ours: bool = True, we_end: bool = True) -> list[Call]:
    """Calls with one contact that end so, one after the other."""
    return [Call((i + 1) * every_s, contact, ours, we_end, end) for i, end in enumerate(ends)]


def vouched(made: list[Call], policy: Policy) -> list[bool]:
    """Of each call whether the neighbours had to vouch for it."""
    counts = [0, *(simulate(made[: i + 1], policy).vouched for i in range(len(made)))]
    return [bool(after - before) for before, after in itertools.pairwise(counts)]


def exposed(made: list[Call], policy: Policy, kind: str, at_s: float, until_s: float = LONG_S) -> int:
    return simulate(made, policy, Attack(frozenset({kind}), at_s, until_s)).exposed[kind]


# The rules of keys.


def test_without_keys_every_call_is_vouched_for() -> None:
    made = calls(ANSWERED, UNANSWERED, LOST, HALF_ENDED)
    result = simulate(made, Policy(0, 0))
    assert result == Result(calls=4, vouched=4, operations=FULL + 4 + FULL + FULL)


def test_keys_that_never_end_are_vouched_for_once() -> None:
    made = [Call(i * 60.0, i % 7, bool(i % 2), bool(i % 3), ANSWERED) for i in range(700)]
    result = simulate(made, Policy(LONG_S, 1))
    assert (result.vouched, result.operations) == (7, 7 * FULL)


@pytest.mark.parametrize(
    ("uses", "ends", "wanted"),
    [
        # A key serves one call, and that call's end makes the next: one use is enough.
        (1, [ANSWERED] * 4, [True, False, False, False]),
        # A call that nobody answers is a use, and leaves no new key.
        (1, [ANSWERED, UNANSWERED, ANSWERED, ANSWERED], [True, False, True, False]),
        (2, [ANSWERED, UNANSWERED, ANSWERED, ANSWERED], [True, False, False, False]),
        (2, [ANSWERED, UNANSWERED, UNANSWERED, ANSWERED], [True, False, False, True]),
        # So is one whose BYE is lost.
        (1, [ANSWERED, LOST, ANSWERED], [True, False, True]),
        (2, [ANSWERED, LOST, ANSWERED], [True, False, False]),
        # A first call that does not end well leaves nothing.
        (9, [LOST, ANSWERED], [True, True]),
        (9, [UNANSWERED, ANSWERED], [True, True]),
    ],
)
def test_uses(uses: int, ends: list[str], wanted: list[bool]) -> None:
    assert vouched(calls(*ends), Policy(LONG_S, uses)) == wanted


def test_uses_are_carried_on() -> None:
    """What is left goes to the next key, so that three calls follow one that is vouched for, and no more."""
    made = calls(*[ANSWERED] * 9)
    assert vouched(made, Policy(LONG_S, 3, is_carried=True)) == [True, False, False, False] * 2 + [True]
    assert vouched(made, Policy(LONG_S, 3)) == [True] + [False] * 8


def test_life() -> None:
    """A key ends when its life is over, to the second; a new one has all of it again, or what is left."""
    made = calls(*[ANSWERED] * 7)
    assert vouched(made, Policy(HOUR_S, 9)) == [True] * 7
    assert vouched(made, Policy(HOUR_S + 1, 9)) == [True] + [False] * 6
    assert vouched(made, Policy(2 * HOUR_S + 1, 9, is_carried=True)) == [True, False, False] * 2 + [True]


@pytest.mark.parametrize("is_carried", [False, True])
def test_an_answer_to_a_bye_that_is_lost(is_carried: bool) -> None:
    """Who sent that BYE has the old key, and the other side both."""
    policy = Policy(LONG_S, 9, is_carried)
    first = [*calls(ANSWERED, HALF_ENDED)]
    by_sender = Call(9 * HOUR_S, 0, True, True, ANSWERED)
    by_other = Call(9 * HOUR_S, 0, False, True, ANSWERED)
    assert vouched([*first, by_sender], policy) == [True, False, False]
    assert vouched([*first, by_other], policy) == [True, False, True], "it takes its newest, which nobody else has"


def test_room() -> None:
    """One more peer than there is room for: who was not heard of for longest is forgotten."""
    made = [Call(float(i), i % 3, True, True, ANSWERED) for i in range(9)]
    assert simulate(made, Policy(LONG_S, 9, room=2)).vouched == 9
    assert simulate(made, Policy(LONG_S, 9, room=3)).vouched == 3


# Those who break in.


def test_nobody_breaks_in() -> None:
    assert simulate(calls(ANSWERED, ANSWERED), Policy(LONG_S, 9)).exposed == {}


@pytest.mark.parametrize("kind", ATTACKS)
@pytest.mark.parametrize("is_carried", [False, True])
def test_nothing_is_exposed_before_or_without_keys(kind: str, is_carried: bool) -> None:
    made = make_calls("zipf", random.Random(3), 30)
    last = made[-1].at_s + 1
    assert exposed(made, Policy(DAY_S, 9, is_carried), kind, last) == 0
    result = simulate(made, Policy(0, 0), Attack(frozenset({kind}), 10 * DAY_S, LONG_S))
    in_a_week = sum(10 * DAY_S <= one.at_s < 17 * DAY_S for one in made)
    assert result.exposed[kind] == result.unkeyed[kind] == (in_a_week if kind in {INSIDE, FORCING} else 0)


def test_copied() -> None:
    """One call for each key that was there: the end of that call makes another."""
    made = calls(*[ANSWERED] * 9)
    assert exposed(made, Policy(LONG_S, 9), COPIED, 4.5 * HOUR_S) == 1
    assert exposed(made, Policy(HOUR_S, 9), COPIED, 4.5 * HOUR_S) == 0, "it has ended before that call"
    unlucky = calls(ANSWERED, UNANSWERED, LOST, ANSWERED, ANSWERED)
    assert exposed(unlucky, Policy(LONG_S, 9), COPIED, 1.5 * HOUR_S) == 3, "it is the same key all the time"


def test_watched() -> None:
    """Whoever sees the nonces follows the keys until the neighbours vouch anew."""
    made = calls(*[ANSWERED] * 9)
    assert exposed(made, Policy(LONG_S, 9), WATCHED, 4.5 * HOUR_S) == 5
    assert exposed(made, Policy(LONG_S, 2, is_carried=True), WATCHED, 4.5 * HOUR_S) == 2
    assert exposed(made, Policy(3 * HOUR_S, 9, is_carried=True), WATCHED, 4.5 * HOUR_S) == 2
    assert exposed(made, Policy(LONG_S, 9), WATCHED, 4.5 * HOUR_S, until_s=6.5 * HOUR_S) == 2, "and those within time"


def test_calling() -> None:
    """Whoever calls with a copied key rolls it away from its owner; with all of its life and uses, without end."""
    silent = [*calls(ANSWERED), Call(30 * DAY_S, 1, True, True, ANSWERED)]
    assert exposed(silent, Policy(7 * DAY_S, 3), CALLING, 2 * HOUR_S) == 30
    assert exposed(silent, Policy(7 * DAY_S, 3, is_carried=True), CALLING, 2 * HOUR_S) == 3
    assert exposed(silent, Policy(7 * DAY_S, 99, is_carried=True), CALLING, 2 * HOUR_S) == 7
    # The owner calls again: not by the key that was taken away; what is vouched for then leaves nothing of that.
    again = [*silent[:1], *calls(ANSWERED, ANSWERED, every_s=4 * DAY_S), silent[1]]
    made = simulate(again, Policy(7 * DAY_S, 99), Attack(frozenset({CALLING}), 2 * HOUR_S, LONG_S))
    assert (made.vouched, made.exposed[CALLING]) == (3, 4)
    # By the key that both still had: one call with it, which ends, is used again, and leaves nothing to who had it.
    twice = [*silent[:1], *calls(ANSWERED, ANSWERED, every_s=HOUR_S)[1:], *calls(ANSWERED, every_s=2.1 * HOUR_S)]
    made = simulate([*twice, silent[1]], Policy(7 * DAY_S, 99), Attack(frozenset({CALLING}), 1.5 * HOUR_S, LONG_S))
    assert (made.vouched, made.exposed[CALLING]) == (2, 2)


def test_inside() -> None:
    """Keys from before are unknown in the neighbour; those that it vouches for are not, nor are those made of them."""
    made = calls(*[ANSWERED] * 20, every_s=DAY_S)
    known = Policy(LONG_S, 9)
    assert exposed(made, known, INSIDE, 5.5 * DAY_S) == 0
    forgetful = Policy(DAY_S, 9)  # each call is vouched for
    assert exposed(made, forgetful, INSIDE, 5.5 * DAY_S) == 7
    fresh = [Call(one.at_s, 1, True, True, ANSWERED) for one in made if one.at_s > 6 * DAY_S]
    result = simulate(fresh, known, Attack(frozenset({INSIDE}), 5.5 * DAY_S, LONG_S))
    assert result.unkeyed[INSIDE] == 6
    assert result.exposed[INSIDE] == 7, "a first call, those by its keys, and one after they have left"


def test_forcing() -> None:
    """Whoever answers 428 has all calls vouched for."""
    made = calls(*[ANSWERED] * 20, every_s=DAY_S)
    result = simulate(made, Policy(LONG_S, 99), Attack(frozenset({FORCING}), 5.5 * DAY_S, LONG_S))
    assert result.vouched == 1 + 7
    assert (result.unkeyed[FORCING], result.exposed[FORCING]) == (7, 8), "and the key of the last one serves one more"


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("is_carried", [False, True])
def test_who_only_looks_on_changes_nothing(pattern: str, is_carried: bool) -> None:
    made = make_calls(pattern, random.Random(5), 60)
    policy = Policy(3 * DAY_S, 5, is_carried)
    lookers = frozenset(ATTACKS) - ALONE
    alone = simulate(made, policy)
    together = simulate(made, policy, Attack(lookers, 20 * DAY_S, LONG_S))
    assert (together.vouched, together.operations) == (alone.vouched, alone.operations)
    for kind in lookers:
        assert together.exposed[kind] == exposed(made, policy, kind, 20 * DAY_S)
    assert together.exposed[COPIED] <= together.exposed[WATCHED]


def test_who_acts_is_simulated_alone() -> None:
    with pytest.raises(ValueError, match="alone"):
        simulate([], Policy(1, 1), Attack(frozenset({COPIED, CALLING}), 0, 1))


# Patterns and the sweep.


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(pattern: str) -> None:
    made = make_calls(pattern, random.Random(7), 100)
    assert made == make_calls(pattern, random.Random(7), 100)
    assert made != make_calls(pattern, random.Random(8), 100)
    assert [one.at_s for one in made] == sorted(one.at_s for one in made)
    assert 800 < len(made) < 1200, "ten a day"
    assert 0 <= made[0].at_s <= made[-1].at_s < 100 * DAY_S
    ends = Counter(one.end for one in made)
    assert ends[ANSWERED] > ends[UNANSWERED] > ends[LOST] > ends[HALF_ENDED] > 0
    shares = Counter(one.contact for one in made)
    busiest = shares.most_common(1)[0][1] / len(made)
    assert (busiest > 0.15) == (pattern == "zipf")
    gaps = [after.at_s - before.at_s for before, after in itertools.pairwise(made)]
    assert (sorted(gaps)[len(gaps) // 2] < 900) == (pattern == "bursty")


@pytest.mark.parametrize(("count", "wanted"), [(1, 0), (5, 4), (20, 18), (100, 94)])
def test_percentile(count: int, wanted: int) -> None:
    assert percentile_95(list(range(count))) == wanted


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return Sweep(1, advice.RUNS_QUICK)


def test_longer_lives_save_more(sweep: Sweep) -> None:
    for pattern in PATTERNS:
        shares = [sweep.saved(pattern, sweep.policy(life_s, 10)) for life_s in LIVES_S]
        assert shares == sorted(shares), pattern
        shares = [sweep.saved(pattern, sweep.policy(30 * DAY_S, uses)) for uses in USES]
        assert all(after > before - 0.01 for before, after in itertools.pairwise(shares)), pattern
        assert 0.5 < sweep.savable(pattern) < 1
        assert max(shares) <= sweep.savable(pattern) + 0.01


def defaults_of_terminal() -> dict[str, object]:
    """The defaults of `setup` in device/terminal/config.py."""
    for node in ast.parse((ROOT / "device/terminal/config.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_SETUP":
            assert isinstance(node.value, ast.Dict)
            pairs = zip(node.value.keys, node.value.values, strict=True)
            return {ast.literal_eval(key): ast.literal_eval(value.elts[1]) for key, value in pairs}  # type: ignore[attr-defined,arg-type]
    raise AssertionError("no _SETUP")


def test_what_is_recommended_is_the_default(sweep: Sweep) -> None:
    best = sweep.best(is_carried=True)
    for pattern in PATTERNS:
        assert sweep.saved(pattern, best) >= ENOUGH * sweep.savable(pattern)
    for other in (sweep.policy(best.life_s, uses) for uses in USES):
        assert sweep.risk(other) >= sweep.risk(best) or not sweep.is_enough(other)
    defaults = defaults_of_terminal()
    assert (defaults["life_s"], defaults["uses"]) == (best.life_s, best.uses)


def test_room_is_that_of_the_terminal() -> None:
    text = (ROOT / "device/terminal/keystore.py").read_text()
    assert f"_MAX_PEERS = const({ROOM})" in text


def test_renewing_all_of_a_life_exposes_more(sweep: Sweep) -> None:
    carried, renewed = sweep.best(is_carried=True), sweep.best(is_carried=False)
    assert sweep.risk(renewed) > 2 * sweep.risk(carried)


def test_nothing_saves_enough() -> None:
    """Who calls once a month has no use for keys of three months at most, and is told."""
    with pytest.raises(NothingSavesEnoughError, match=r"with 0\.1 calls a day"):
        Sweep(1, 1, a_day=0.1).best(is_carried=True)


def report(out: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(advice, "RUNS_QUICK", 1)
    monkeypatch.setattr(sys, "argv", ["evaluate", "lifetime", "--quick", "--seed", str(seed), "--out", str(out)])
    assert program.main() == 0
    return (out / "lifetime.txt").read_text()


def test_the_same_seed_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [report(tmp_path / str(i), 4, monkeypatch) for i in range(2)]
    assert texts[0] == texts[1]
    assert texts[0].rstrip().splitlines()[-1].startswith("Recommended: life_s = ")
    for name in ("lifetime-saved.svg", "lifetime-exposure.svg"):
        plots = [(tmp_path / str(i) / name).read_bytes() for i in range(2)]
        assert plots[0] == plots[1]
        assert b"<svg" in plots[0]
        assert b"zipf" in plots[0]


def test_another_seed_gives_something_else() -> None:
    policy = Policy(DAY_S, 3)
    one, other = (Sweep(seed, 2) for seed in (4, 5))
    assert [one.saved(pattern, policy) for pattern in PATTERNS] != [
        other.saved(pattern, policy) for pattern in PATTERNS
    ]


# Table 1.


def test_formulas() -> None:
    assert [loads(model, 3, 4) for model in MODELS] == [3 + 4 + 12 + 1, 3 + 4 + 1]


def test_operations_in_memory() -> None:
    """Two call two: all that is counted, by what it was for."""
    each = {"sign": 8, "verify": 8, "encrypt": 8, "decrypt": 8}
    first, later = inmemory.measure(END_TO_END, 2, 2)
    # Four checks of a path of two signatures for each pair: of either side's certificate, to encrypt and to verify.
    assert first.operations == {TERMINALS: Counter(each | {PATH: 4 * 8}), NEIGHBOURS: Counter()}
    assert later.operations == {TERMINALS: Counter(each), NEIGHBOURS: Counter()}
    assert first.by == later.by == {"itself": 4}
    first, later = inmemory.measure(HYBRID, 2, 2)
    # Two checks for each user, by the other side's neighbour.
    assert first.operations == {TERMINALS: Counter(), NEIGHBOURS: Counter(each | {PATH: 4 * 4})}
    assert later.operations == {TERMINALS: Counter(), NEIGHBOURS: Counter()}
    assert (first.by, later.by) == ({"neighbour heavy": 4}, {"setup-key": 4})
    for one in (first, later):
        assert one.pairs == len(one.setups_s) == 4
        assert min(one.setups_s) > 0 < min(one.cpu_s.values())


def test_a_sample_counts_like_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made of some calls for all pairs is what all pairs would have come to."""
    whole = table1.measure_all("whole", inmemory.measure, [(4, 4)])
    monkeypatch.setattr(inmemory, "MOST_CALLS", 8)
    assert Counter(j for _, j in inmemory._pairs(4, 4)) == dict.fromkeys(range(4), 2)
    sample = table1.measure_all("sample", inmemory.measure, [(4, 4)])
    assert (whole.is_sample(4, 4), sample.is_sample(4, 4)) == (False, True)
    for model, number, place in itertools.product(MODELS, (0, 1), (TERMINALS, NEIGHBOURS)):
        assert sample.count(model, 4, 4, number, place) == whole.count(model, 4, 4, number, place)
    assert whole.count(HYBRID, 4, 4, 0) == 8 * 16 + 4 * 8


def test_a_thousand_all_take_part() -> None:
    pairs = inmemory._pairs(1000, 1000)
    assert len(set(pairs)) == len(pairs) == inmemory.MOST_CALLS
    assert {i for i, _ in pairs} == {j for _, j in pairs} == set(range(1000))


def test_table(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=160, highlight=False)
    measured = table1.measure_all("in memory", inmemory.measure, [(1, 1), (2, 2)])
    table1._show_operations(console, measured)
    table1._show_times(console, measured)
    table1._show_mechanisms(console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "L = 16 operations" in said
    rows = [line.split() for line in said.splitlines() if line.startswith("2 x 2")]
    assert ["2", "x", "2", "end-to-end", "first", "64", "0", "64", "9", "L", "144", "0.44"] in rows
    assert ["2", "x", "2", "hybrid", "first", "0", "48", "48", "5", "L", "80", "0.60"] in rows
    assert ["2", "x", "2", "hybrid", "later", "0", "0", "0"] in rows
    assert "11 mechanisms" in said
    explained = table1._explain(measured)
    assert "8 operations for each of 4 pairs at 2 x 2" in explained
    assert "16 instead of 32" in explained
    assert "At 2 x 2 a call by a setup key takes the neighbours" in table1._explain_processes(measured)
    table1._plot_operations(tmp_path / "1.svg", [measured, measured])
    table1._plot_delay(tmp_path / "2.svg", [measured, measured])
    assert all("hybrid, later calls" in path.read_text() for path in tmp_path.iterdir())


def test_mechanisms() -> None:
    codes = {model: mechanisms.code_of(model) for model in MODELS}
    for module in mechanisms.MECHANISMS.values():
        assert mechanisms.lines_of(module) > 20
        assert any(module in code.modules for code in codes.values()), module
    assert "cryptography" in codes[END_TO_END].needs
    assert not {"cryptography", "ssl", "tls", "hmac"} & codes[HYBRID].needs
    assert {"terminal.vouching", "terminal.parting"} <= codes[HYBRID].modules, "what is loaded on demand counts"
    assert not [name for name in codes[HYBRID].modules if name.startswith("neighbour")]


# What the user agents that help themselves refuse.


@pytest.fixture
def people(tmp_path: Path) -> People:
    return People(tmp_path / "ca")


def end_to_end(people: People, aor: bytes) -> EndToEnd:
    return EndToEnd(aor, people.user(aor.decode()), [people.root], people.shown)


def sealed(by: EndToEnd, to: bytes) -> Request:
    message = Request("INVITE", to)
    for name, value in (
        ("Via", b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1"),
        ("Max-Forwards", b"70"),
        ("From", b"<%b>;tag=1" % by.aor),
        ("To", b"<%b>" % to),
        ("Call-ID", os.urandom(4).hex().encode()),
        ("CSeq", b"1 INVITE"),
        ("Contact", b"<%b>" % by.aor),
    ):
        message.add(name, value)
    message.set_body(b"application/sdp", b"v=0\r\n")
    by.seal(message, to)
    return message


ALICE, BOB, MALLORY = b"sip:alice@a.example", b"sip:bob@b.example", b"sip:mallory@b.example"


def copied(message: Request) -> Request:
    found = parse(message.serialize())
    assert isinstance(found, Request)
    return found


def test_a_sealed_message_is_opened_once(people: People) -> None:
    alice, bob = end_to_end(people, ALICE), end_to_end(people, BOB)
    message = sealed(alice, BOB)
    assert b"v=0" not in message.serialize()
    first, again = copied(message), copied(message)
    assert bob.open(first) == ALICE
    assert first.body == b"v=0\r\n"
    with pytest.raises(StaleError, match="replayed"):
        bob.open(again)


def test_what_is_not_safe_is_refused(people: People) -> None:
    alice, bob, mallory = (end_to_end(people, aor) for aor in (ALICE, BOB, MALLORY))
    with pytest.raises(NotSafeError, match=r"no certificate of sip:nobody@b\.example"):
        sealed(alice, b"sip:nobody@b.example")
    with pytest.raises(DecryptError):
        mallory.open(copied(sealed(alice, BOB)))
    changed = copied(sealed(alice, BOB))
    changed.set("From", b"<%b>;tag=1" % MALLORY)
    with pytest.raises(IntegrityError, match="From"):
        bob.open(changed)
    forged = EndToEnd(ALICE, people.user(MALLORY.decode()), [people.root], people.shown)
    with pytest.raises(NotSafeError, match="another identity"):
        bob.open(copied(sealed(forged, BOB)))
    plain = copied(sealed(alice, BOB))
    plain.set_body(b"application/sdp", b"v=0\r\n")
    with pytest.raises(NotSafeError, match="not signed and encrypted"):
        bob.open(plain)


def test_an_authority_of_somebody_else(people: People, tmp_path: Path) -> None:
    others = People(tmp_path / "other")
    stranger = EndToEnd(ALICE, others.user(ALICE.decode()), [others.root], people.shown)
    people.user(BOB.decode())
    with pytest.raises(NotSafeError, match="unknown CA"):
        sealed(stranger, BOB)


def test_a_wrong_setup_key_is_refused(people: People, tmp_path: Path) -> None:
    ours, theirs = (Domain(name, people, tmp_path) for name in ("a.example", "b.example"))
    alice, bob = Weak(ours, "alice"), Weak(theirs, "bob")
    assert call_hybrid(alice, bob, Meter()).by == "neighbour heavy"
    assert alice.keys[bob.aor] == bob.keys[alice.aor]
    before = alice.keys[bob.aor]
    assert call_hybrid(alice, bob, Meter()).by == "setup-key"
    assert alice.keys[bob.aor] == bob.keys[alice.aor] != before
    bob.keys[alice.aor] = before
    with pytest.raises(NotSafeError, match="unknown kid"):
        call_hybrid(alice, bob, Meter())


def test_neighbours_leave_bodies_of_powerful_users_alone(people: People, tmp_path: Path) -> None:
    ours, theirs = (Domain(name, people, tmp_path) for name in ("a.example", "b.example"))
    alice, bob = Powerful(ours, "alice", people), Powerful(theirs, "bob", people)
    meter = Meter()
    assert call_end_to_end(alice, bob, meter).setup_s > 0
    assert ours.count().total() == theirs.count().total() == 0
    assert meter.cpu_s[TERMINALS] > meter.cpu_s[NEIGHBOURS] > 0


# Real processes.


def test_processes_end_to_end() -> None:
    each = {"sign": 4, "verify": 4, "encrypt": 4, "decrypt": 4}
    first, later = processes.measure(END_TO_END, 1, 2)
    assert first.operations == {TERMINALS: Counter(each | {PATH: 2 * 8}), NEIGHBOURS: Counter()}
    assert later.operations == {TERMINALS: Counter(each), NEIGHBOURS: Counter()}
    assert len(first.setups_s) == 2
    assert min(first.setups_s) > 0


def test_processes_hybrid() -> None:
    micropython()
    each = {"sign": 2, "verify": 2, "encrypt": 2, "decrypt": 2}
    first, later = processes.measure(HYBRID, 1, 1)
    assert first.operations == {TERMINALS: Counter(), NEIGHBOURS: Counter(each)}
    assert later.operations == {TERMINALS: Counter(), NEIGHBOURS: Counter()}
    assert (first.by, later.by) == ({"neighbour heavy": 1}, {"setup-key": 1})


def test_a_call_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's certificate is found, and the reason is in the error."""
    make = processes._World._make_agents

    def forget(world: processes._World, names: list[tuple[str, str]]) -> list[Path]:
        files = make(world, names)
        (world._lab.folder / "directory" / "callee0@b.example.pem").unlink()
        return files

    monkeypatch.setattr(processes._World, "_make_agents", forget)
    with pytest.raises(LabError, match=r"caller0 can't call callee0: .*no certificate of sip:callee0@b\.example"):
        processes.measure(END_TO_END, 1, 1)


# The command.


def test_help_is_there_at_once() -> None:
    done = subprocess.run([str(ROOT / "tools/evaluate"), "--help"], capture_output=True, text=True, timeout=10)
    assert done.returncode == 0
    assert "tools/evaluate lifetime" in done.stdout
    assert "--seed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["table2"], "no 'table2'; there are table1 and lifetime"), (["--out", "/dev/null/x"], "--out: ")],
)
def test_wrong_arguments(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    with pytest.raises(SystemExit, match="2"):
        program.main()
    assert said in capsys.readouterr().err
