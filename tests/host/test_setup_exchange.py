"""Setup keys at registration (WIRE section 4.3): both ends get one or none, whoever is away and whatever breaks down."""

import asyncio
import functools
from pathlib import Path

import pytest
from attacks.middle import FORTH
from introduced import (
    ALICE,
    DAVE,
    Terminal,
    answered,
    consent,
    is_keys,
    loses_answers,
    over,
    quickly,
    restart,
    rows,
    same,
    states,
    two,
)
from sealed import between, eventually
from sip import Domain, UdpClient, answer, domain, request, run
from structlog.testing import capture_logs

from neighbour.config import load
from neighbour.store.accounts import set_account
from neighbour.store.database import Store
from neighbour.store.setup_keys import HeldKeys
from sipwire.compat import b64encode
from sipwire.message import Request
from sipwire.setup import SetupKey
from sipwire.setup_keys import kid_of

pytestmark = pytest.mark.usefixtures("quickly")
__all__ = ["quickly"]


def test_both_are_there(tmp_path: Path) -> None:
    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world)
            assert (await alice.register(DAVE, life=3600, uses=7)).status == 200
            await alice.introduced()
            await dave.introduced()
            made = same(alice, dave)
            assert (made.life, made.uses) == (3600, 7)
            await over(world)
            (message,) = [one for to, one in world.forth.seen if to == FORTH and is_keys(one)]
            kind = b"application/pkcs7-mime;smime-type=auth-enveloped-data"
            assert (message.get("content-type") or b"").startswith(kind)
            assert not world.count(world.back, "MESSAGE")
            assert b64encode(made.key) not in world.wire()
            for at, *results in ((world.left, "offered", "accepted"), (world.right, "taken")):
                for result in (*results, "delivered"):
                    assert at.value("wisp_setup_keys_total", result=result) == 1
            # A terminal that has lost its key asks for another.
            await alice.register(DAVE)
            assert (await alice.introduced())[0].key == (await dave.introduced())[0].key != made.key
        files = [path for folder in ("a.example", "b.example") for path in (tmp_path / folder).glob("wisp.db*")]
        assert len(files) == 2, "each is in one piece again"
        for path in files:
            assert not any(one.key in path.read_bytes() for one in alice.got), "it is not even in what was deleted"

    run(work)


def test_each_asks_at_the_same_time(tmp_path: Path) -> None:
    """Each gets both keys: which of them they use is for them to say."""

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world)
            await consent(world.left, "alice", DAVE)
            await asyncio.gather(alice.register(DAVE), dave.register(ALICE))
            for one in (alice, dave):
                while len(one.got) < 2:
                    await one.introduced()
            assert {one.key for one in alice.got} == {one.key for one in dave.got}

    run(work)


def test_several_peers(tmp_path: Path) -> None:
    """Twelve keys are several messages, each of which fits a datagram; who is named twice gets one."""

    async def work() -> None:
        async with between(tmp_path) as world:
            names = [f"user-with-a-long-name-{number}" for number in range(12)]
            peers = [f"sip:{name}@b.example" for name in names]
            alice = await Terminal.make(world.left, "alice")
            for name in names:
                await Terminal.make(world.right, name, ALICE, joins=False)
            await alice.register(*peers, peers[0], f"sip:carol@{'x' * 250}.example", ALICE)
            await eventually(lambda: world.left.value("wisp_setup_keys_total", result="accepted") == 12)
            sizes = []
            while len(alice.got) < 12:
                sizes.append(len(await alice.introduced()))
            assert sorted(one.aor.decode() for one in alice.got) == sorted(peers)
            assert len(sizes) >= 2
            await alice.nothing()
            assert max(len(row.peer) for row in await rows(world.left)) < 100

    run(work)


# Who is away.


def test_the_peer_is_offline(tmp_path: Path) -> None:
    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world, dave_joins=False)
            await alice.register(DAVE, life=100)
            await alice.introduced()
            await over(world, right=[("dave", ALICE, "due", True)])
            await asyncio.sleep(1.1)
            await dave.join()
            await dave.introduced()
            assert 95 <= same(alice, dave).life - 1 >= dave.got[0].life - 1, "its life goes on meanwhile"
            assert dave.got[0].life < 100
            await over(world)

    run(work)


def test_the_peers_neighbour_is_offline(tmp_path: Path) -> None:
    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world)
            await world.right.stop()
            await alice.register(DAVE)
            await asyncio.sleep(1.5)
            (offered,) = await rows(world.left)
            assert (offered.state, len(offered.key)) == ("offered", 32)
            await alice.nothing()
            await world.right.start()
            await dave.join()
            await alice.introduced()
            await dave.introduced()
            assert same(alice, dave).key == offered.key
            await over(world)

    run(work)


def test_tried_again_when_the_terminal_registers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neighbour.agent.offers._AGAIN_S", (3600,))

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world)
            world.forth.tamper = functools.partial(answered, status=503)
            await alice.register(DAVE)
            await eventually(lambda: any(is_keys(one, answers=True) for _, one in world.forth.seen))
            world.forth.tamper = lambda message, to: [message]
            await asyncio.sleep(1.5)
            assert [row.state for row in await rows(world.left)] == ["offered"]
            await alice.register(DAVE)
            await alice.introduced()
            await dave.introduced()
            same(alice, dave)

    run(work)


@pytest.mark.parametrize(
    ("statuses", "kept"), [((408, 480, 500, 503, 504), True), ((202, 302, 401, 404, 415, 488, 501, 603), False)]
)
def test_what_an_answer_means(
    tmp_path: Path, statuses: tuple[int, ...], kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it may pass the same key is sent again; all else is for good."""
    monkeypatch.setattr("neighbour.agent.offers._AGAIN_S", (3600,))

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world)
            keys = set()
            for number, status in enumerate(statuses, 1):
                world.forth.tamper = functools.partial(answered, status=status)
                await alice.register(DAVE)
                answers = [one for _, one in world.forth.seen if is_keys(one, answers=True)]
                while len(answers) < number:
                    await asyncio.sleep(0.02)
                    answers = [one for _, one in world.forth.seen if is_keys(one, answers=True)]
                await asyncio.sleep(0.1)
                keys.update(row.key for row in await rows(world.left))
                assert [row.state for row in await rows(world.left)] == (["offered"] if kept else []), status
            assert len(keys) == int(kept)
            await alice.nothing(0.1)
            await dave.nothing(0.05)

    run(work)


# Whom it is not for.


def test_consent_is_missing(tmp_path: Path) -> None:
    async def work() -> None:
        async with between(tmp_path) as world:
            dave = await Terminal.make(world.right, "dave", "sip:erin@a.example")
            alice = await Terminal.make(world.left, "alice")
            with capture_logs() as logs:
                await alice.register(DAVE)
                await eventually(lambda: [one for one in logs if one["event"] == "setup key refused"])
            (told,) = [one for one in logs if one["event"] == "setup key refused"]
            remedy = "dave has no contact sip:alice@a.example; `wisp account contact dave --add sip:alice@a.example`"
            assert told["reason"] == f"answered 403 {remedy} makes it one"
            await over(world, [], [])
            await alice.nothing(0.1)
            await dave.nothing(0.1)
            await consent(world.right, "dave", ALICE)
            await alice.register(DAVE)
            await alice.introduced()
            await dave.introduced()
            same(alice, dave)

    run(work)


def test_consent_is_taken_back(tmp_path: Path) -> None:
    """What was not delivered yet is forgotten, and what comes later is refused; what comes again is not asked about."""

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world, dave_joins=False)
            world.forth.tamper = loses_answers
            await alice.register(DAVE)
            await over(world, [("alice", DAVE, "offered", True)], [("dave", ALICE, "due", True)])
            await consent(world.right, "dave", remove=[ALICE])
            world.forth.tamper = lambda message, to: [message]
            await restart(world.left)
            await over(world, [], [])
            await dave.join()
            await alice.nothing(0.1)
            await dave.nothing(0.1)
            # What the other terminal has already the first one gets, too.
            await consent(world.right, "dave", ALICE)
            world.forth.tamper = loses_answers
            await alice.register(DAVE)
            await dave.introduced()
            await over(world, [("alice", DAVE, "offered", True)])
            await consent(world.right, "dave", remove=[ALICE])
            world.forth.tamper = lambda message, to: [message]
            await restart(world.left)
            await alice.introduced()
            same(alice, dave)

    run(work)


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        ("sip:carol@b.example", "answered 415 carol takes no setup keys so"),
        ("sip:nobody@b.example", "answered 404"),
        ("sip:team@b.example", "answered 404"),
        ("sip:erin@b.example", "answered 415 erin takes no setup keys so"),
    ],
)
def test_who_can_have_none(tmp_path: Path, peer: str, reason: str) -> None:
    """A phone, nobody, a group, and a terminal that speaks as one."""

    def prepare(lab: object) -> None:
        path = tmp_path / "b.example" / "wisp.toml"
        group = '[[group]]\nuri = "sip:team@b.example"\nmembers = ["erin"]\n\n[metrics]'
        path.write_text(path.read_text().replace("[metrics]", group))

    async def work() -> None:
        async with between(tmp_path, prepare=prepare) as world:
            alice = await Terminal.make(world.left, "alice")
            await world.right.add("carol")
            erin = await Terminal.make(world.right, "erin", ALICE)
            for user in ("carol", "nobody", "team"):
                await consent(world.right, user, ALICE)
            await _set(world.right, "erin", "team")
            with capture_logs() as logs:
                await alice.register(peer)
                await eventually(lambda: [one for one in logs if one["event"] == "setup key refused"])
                # It can't have one that it has asked for, either: its calls come from the group.
                await erin.register(ALICE)
                await eventually(lambda: [one for one in logs if one["event"] == "no setup keys"])
            (told,) = [one for one in logs if one["event"] == "setup key refused"]
            assert told["reason"] == reason
            await over(world, [], [])
            await alice.nothing(0.1)

    run(work)


async def _set(at: Domain, user: str, signer: str | None) -> None:
    store = Store(load(at.folder / "wisp.toml").store_url)
    await store.open()
    assert await set_account(store, user, signer=signer)
    await store.close()
    await at.neighbour._accounts.refresh()


def test_within_the_domain(tmp_path: Path) -> None:
    """There is no neighbour to ask, and the same consent is wanted."""
    erin = "sip:erin@a.example"

    async def work() -> None:
        async with domain(tmp_path) as at:
            alice, other = await Terminal.make(at, "alice"), await Terminal.make(at, "erin")
            await at.add("carol")
            await consent(at, "carol", ALICE)
            for peer in (erin, "sip:carol@a.example", "sip:nobody@a.example", ALICE):
                await alice.register(peer)
            await alice.nothing()
            assert await rows(at) == []
            await consent(at, "erin", ALICE)
            await alice.register(erin, life=100, uses=3)
            await alice.introduced()
            await other.introduced()
            assert same(alice, other).uses == 3
            assert len({row.kid for row in await rows(at)}) == 1
            await eventually(lambda: at.value("wisp_setup_keys_total", result="delivered") == 2)
            # Before they have it, what one of them does not want any more the other does not get, either.
            await at.stop()
            held = HeldKeys(store := Store(load(at.folder / "wisp.toml").store_url))
            await store.open()
            await held.add(b"0" * 16, bytes(32), (1, 0, 2**50), "due", ("alice", erin), ("erin", ALICE))
            await store.close()
            assert len(await rows(at)) == 4
            await consent(at, "erin", remove=[ALICE])
            assert [row.state for row in await rows(at)] == ["delivered", "delivered"]
            await at.start()

    run(work)


def test_an_account_that_goes(tmp_path: Path) -> None:
    """Nothing of it is left, and nothing of it comes to who has its name later."""
    erin = "sip:erin@a.example"

    async def work() -> None:
        async with domain(tmp_path) as at:
            alice = await Terminal.make(at, "alice", erin)
            await Terminal.make(at, "erin", ALICE, joins=False)
            await alice.register(erin)
            await alice.introduced()
            assert len(await rows(at)) == 2
            await at.remove("erin")
            await asyncio.sleep(0.1)
            assert await rows(at) == []
            other = await Terminal.make(at, "erin")
            await other.nothing(0.1)
            # Its consent went with the account.
            await alice.register(erin)
            await other.nothing(0.1)
            assert await rows(at) == []
            held = HeldKeys(at.neighbour._setup._held._store)
            await held.add(
                b"0" * 16, bytes(32), (1, 0, 2**50), "due", ("ghost", ALICE), ("alice", "sip:ghost@a.example")
            )
            await held.add(b"1" * 16, bytes(32), (1, 0, 2**50), "due", ("alice", "sip:ghost@b.example"))
            await restart(at)
            assert [row.kid for row in await rows(at)] == ["1" * 16]

    run(work)


# Trust that is taken back (WIRE section 4.4).


def revocation(sender: Terminal, to: str, life: int = 0) -> Request:
    made = request("MESSAGE", to, sender.user, sender.at.name, from_tag=f"r{life}{len(to)}")
    header = SetupKey.make(kid_of(bytes(32)), 1, bytes(16), life, 0)
    header.mac = b64encode(bytes(32))
    made.add("Setup-Key", header.serialize())
    return made


@pytest.mark.parametrize("by", ["alice", "dave"])
@pytest.mark.parametrize("registered", [True, False])
def test_trust_that_is_taken_back(tmp_path: Path, by: str, registered: bool) -> None:
    """What is held for the two is dropped on both sides, whoever takes it back; and the other side is told."""

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world)
            await consent(world.right, "dave", "sip:erin@a.example")
            erin = await Terminal.make(world.left, "erin")
            await consent(world.left, "alice", DAVE)
            # A key on its way in each direction, held on both sides; and one that is none of theirs.
            for one in (alice, dave, erin):
                at = one.at.neighbour._setup._deliveries
                at._terminal_of = lambda user: None  # type: ignore[method-assign]
            await alice.register(DAVE)
            await dave.register(ALICE)
            await erin.register(DAVE)
            await eventually(lambda: world.right.value("wisp_setup_keys_total", result="taken") == 2)
            await eventually(lambda: world.left.value("wisp_setup_keys_total", result="accepted") == 2)
            await eventually(lambda: world.right.value("wisp_setup_keys_total", result="accepted") == 1)
            assert len(await rows(world.left)) == len(await rows(world.right)) == 3
            sender, other = (alice, dave) if by == "alice" else (dave, alice)
            if not registered:
                other.at.neighbour._location.forget(other.user)
            # One that speaks of a life takes nothing back.
            for life, left in ((1, 3), (0, 1)):
                made = revocation(sender, other.aor, life)
                sender.send(made)
                if registered:
                    got = await other.request()
                    assert (got.method, got.get("setup-key")) == ("MESSAGE", made.get("setup-key"))
                    other.send(answer(got, 200))
                assert (await sender._final()).status == (200 if registered else 480)
                assert len(await rows(world.left)) == len(await rows(world.right)) == left
            assert [row.user for row in await rows(world.left)] == ["erin"]
            assert [row.peer for row in await rows(world.right)] == [erin.aor]

    run(work)


def test_trust_that_somebody_else_takes_back(tmp_path: Path) -> None:
    """Nobody does it for others: not by a stranger's datagram, not for a user of another domain."""

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, _ = await two(world, dave_joins=False)
            erin, frank = await Terminal.make(world.left, "erin"), await Terminal.make(world.right, "frank")
            await alice.register(DAVE)
            await alice.introduced()
            await over(world, right=[("dave", ALICE, "due", True)])
            for sender in (erin, frank):
                made = revocation(sender, DAVE)
                assert (await sender.ask(made)).status == 480
                forged = revocation(sender, DAVE)
                forged.set("From", f"<{ALICE}>;tag=x".encode())
                assert (await sender.ask(forged)).status == 403
            stranger = await UdpClient.open(world.right)
            made = revocation(alice, DAVE)
            assert (await stranger.ask(made)).status in (403, 494)
            assert await states(world.right) == [("dave", ALICE, "due", True)]

    run(work)
