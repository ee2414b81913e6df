"""Setup keys from anybody but a neighbour that vouches for them, and to anybody but one: neither is to be had."""

import asyncio
import contextlib
import functools
import time
import types
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attacks.middle import BACK, FORTH, Message
from introduced import Terminal, answered, consent, is_keys, quickly, rows, states
from peer import Peer, alone
from sealed import Phone, World, between, eventually, reason, silent_service
from sip import Domain, StreamClient, answer, in_dialog, request, run
from sqlalchemy import text
from structlog.testing import capture_logs

from neighbour.agent.aib import format_date, identity_body
from neighbour.agent.authority import Authority
from neighbour.agent.cms.enveloped import AES_128_GCM
from neighbour.agent.credential import Credential, read_credential
from neighbour.agent.mime import Entity, multipart, of_message, to_message
from neighbour.agent.smime import Seal, certificates_entity
from neighbour.cli import run_command
from neighbour.transport.tls import client_context
from sipwire.compat import b64encode
from sipwire.introduction import SETUP_KEYS, Introduction, write_keys
from sipwire.message import Request
from sipwire.uri import uri_of

pytestmark = pytest.mark.usefixtures("quickly")
__all__ = ["quickly"]

ALICE, DAVE, MALLORY = "sip:alice@a.example", "sip:dave@b.example", "sip:mallory@b.example"
KEY = bytes(range(100, 132))
_PLAIN = b"application/sdp", b"v=0\r\n"


def line(aor: str = DAVE, key: bytes = KEY) -> bytes:
    return write_keys([Introduction(aor.encode(), key, 1000, 5)])


class Elsewhere:
    """b.example, as far as its neighbour's messages go: whatever it signs with, and for whom.

    Attributes:
        at: a.example.
        client: a connection with b.example's certificate.
        terminal: Alice's, who lets Dave be introduced to her; and so does Erin.
    """

    def __init__(self, at: Domain, peer: Peer, client: StreamClient, terminal: Terminal, trunk: Credential) -> None:
        self.at, self.peer, self.client, self.terminal = at, peer, client, terminal
        self.user = peer.authority.issue_user(DAVE)
        self.agent = peer.authority.issue_agent("b.example")
        self.trunk = trunk

    def message(
        self, body: bytes, kind: bytes = SETUP_KEYS, method: str = "MESSAGE", to: str = ALICE, **more: str
    ) -> Request:
        uri = more.pop("uri", to)
        sender = more.pop("sender", DAVE)
        user, _, host = sender.removeprefix("sip:").partition("@")
        made = request(method, uri, user, host, to=to, **more)  # type: ignore[arg-type]
        if body or kind:
            made.set_body(kind, body)
        return made

    def seal(
        self, made: Request, signer: Credential | None, *, encrypts: bool = True, at: float | None = None
    ) -> Request:
        """Sign and encrypt."""
        now = int(at or time.time())
        date = format_date(now)
        made.set("Date", date)
        user = (uri_of(made.uri).user or b"").decode()
        recipient = self.at.neighbour._proxy._agent._certificates.published(user)[0]
        moment = datetime.fromtimestamp(now, UTC)
        seal = Seal(signer, (recipient,) if encrypts else (), AES_128_GCM, moment)
        to_message(made, seal.close(of_message(made), identity_body(made, date)))
        return made

    async def ask(self, made: Request) -> tuple[int, str]:
        """Send a message; returns status and reason of its answer."""
        response = await self.client.ask(made)
        return response.status, reason(response)


@contextlib.asynccontextmanager
async def elsewhere(folder: Path, **changes: str) -> AsyncIterator[Elsewhere]:
    async with alone(folder, **changes) as (at, peer, _):
        await Terminal.make(at, "erin", DAVE, joins=False)
        terminal = await Terminal.make(at, "alice", DAVE)
        paths = peer.certificate("b.example")
        client = await connected(at, peer, *paths)
        yield Elsewhere(at, peer, client, terminal, read_credential(*paths))


async def connected(at: Domain, peer: Peer, certificate: Path, key: Path) -> StreamClient:
    """A connection to a.example with a certificate."""
    context = client_context(str(certificate), str(key), [str(at.lab.folder / "ca" / "root.pem")])
    return await StreamClient.open(at, tls=context, name="a.example", local=peer.address)


async def refused(here: Elsewhere, made: Request, status: int, told: str) -> None:
    """Nobody gets anything of it."""
    assert await here.ask(made) == (status, told)
    assert await rows(here.at) == []
    await here.terminal.nothing(0.05)


VOUCHED = "setup keys have to be encrypted, and signed by the neighbour of who sends them"
ALONE = "setup keys come in a MESSAGE of its own, to who is to have them"


@pytest.mark.parametrize("signer", ["user", "agent"])
@pytest.mark.parametrize("kind", [SETUP_KEYS, b"Application / WISP-Setup-Keys;charset=x"])
def test_who_vouches(tmp_path: Path, signer: str, kind: bytes) -> None:
    """What all the attacks below are a change of: signed by the user's own certificate, or by its domain's."""

    async def work() -> None:
        async with elsewhere(tmp_path) as here:
            made = here.seal(here.message(line(), kind), getattr(here, signer))
            assert await here.ask(made) == (200 if b" " not in kind else 415, reason_of(kind))
            if b" " not in kind:
                (got,) = await here.terminal.introduced()
                assert (got.aor, got.key, got.life, got.uses) == (DAVE.encode(), KEY, 1000, 5)

    def reason_of(kind: bytes) -> str:
        return "" if b" " not in kind else "alice takes no setup keys so"

    run(work)


def test_who_has_signed_and_encrypted(tmp_path: Path) -> None:
    async def work() -> None:
        async with elsewhere(tmp_path) as here:
            mallory = here.peer.authority.issue_user(MALLORY)
            other = here.peer.authority.issue_agent("c.example")
            no = "certificate is not of sip:dave@b.example or its domain"
            for made, status, told in (
                (here.message(line()), 403, VOUCHED),
                (here.seal(here.message(line()), None), 403, VOUCHED),
                (here.seal(here.message(line()), here.user, encrypts=False), 403, VOUCHED),
                (here.seal(here.message(line()), here.trunk), 403, "signed with the key of the trunk"),
                (here.seal(here.message(line()), mallory), 403, no),
                (here.seal(here.message(line()), other), 403, no),
                (
                    here.seal(here.message(line()), here.user, at=time.time() - 700),
                    403,
                    "Date is more than 10 minutes off",
                ),
            ):
                response = await here.client.ask(made)
                assert response.status == status, reason(response)
                assert (told in reason(response)) or told == no, reason(response)
                assert await rows(here.at) == []
            await here.terminal.nothing(0.1)

    run(work)


def test_whose_key_it_is(tmp_path: Path) -> None:
    """Sealed by who may speak for its sender, and for others than it says all the same."""

    async def work() -> None:
        async with elsewhere(tmp_path) as here:
            own = "a setup key is that of who sends it, and one at a time"
            for made, status, told in (
                (here.message(line(MALLORY)), 403, own),
                (here.message(line() + line(DAVE, bytes(32))), 403, own),
                (here.message(line(), sender=MALLORY), 403, own),
                (here.message(line(MALLORY), sender=MALLORY), 403, "alice has no contact"),
                (here.message(line(), uri="sip:erin@a.example"), 403, "setup keys are for who is named in To"),
                (here.message(line(), to_tag="x"), 403, ALONE),
                (here.message(line(), to="sip:a.example"), 404, ""),
                (here.message(line(), to="sip:nobody@a.example"), 404, ""),
                (here.message(line(), to="sip:carol@a.example"), 415, "carol takes no setup keys so"),
                (here.message(b""), 400, ""),
                (here.message(b"x" + line()), 400, ""),
                (here.message(line().replace(b"1000", b"0")), 400, ""),
                (here.message(line(), headers=(("Content-Encoding", "gzip"),)), 415, "alice takes no setup keys so"),  # type: ignore[arg-type]
            ):
                response = await here.client.ask(here.seal(made, here.agent))
                assert (response.status, told in reason(response)) == (status, True), reason(response)
                assert await rows(here.at) == [], told
            await here.terminal.nothing(0.1)

    run(work)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE", "INFO", "NOTIFY", "OPTIONS", "SUBSCRIBE", "PUBLISH", "FOO"])
def test_other_methods(tmp_path: Path, method: str) -> None:
    async def work() -> None:
        async with elsewhere(tmp_path) as here:
            for seals in (False, True):
                made = here.message(line(), method=method, contact="sip:dave@b.example")
                await refused(here, here.seal(made, here.agent) if seals else made, 403, ALONE)

    run(work)


def parts(kind: bytes, body: bytes, of: bytes = b"multipart/mixed") -> tuple[bytes, bytes]:
    inner = [Entity.make([("Content-Type", one)], text).raw for one, text in (_PLAIN, (kind, body))]
    return multipart(of, inner)


@pytest.mark.parametrize("seals", [False, True])
def test_other_ways_to_write_it(tmp_path: Path, seals: bool) -> None:
    """Whatever a terminal could take for such a body stays here, be it sealed by a neighbour that vouches or not."""

    async def work() -> None:
        async with elsewhere(tmp_path) as here:
            for number in range(12):
                body = line(key=bytes([number]) * 32)
                whole = b"MESSAGE sip:x@y SIP/2.0\r\nc: application/wisp-setup-keys\r\n\r\n" + body
                kind, body = (
                    (b"application/WISP-SETUP-KEYS", body),
                    (b"application/wisp-setup-keys ; a=b", body),
                    (b"application/ wisp-setup-keys", body),
                    (b"application/\r\n wisp-setup-keys", body),
                    (b"x-application/wisp-setup-keys", body),
                    (b'text/plain;was="application/wisp-setup-keys"', body),
                    parts(SETUP_KEYS, body),
                    parts(b"Application/Wisp-Setup-Keys;x=y", body),
                    parts(SETUP_KEYS, body, b"Multipart/Alternative"),
                    parts(*parts(SETUP_KEYS, body)),
                    (b"message/sip", whole),
                    (b"message/sipfrag", whole),
                )[number]
                made = here.message(body, kind)
                # What is good in it is taken where it is written as neighbours do; nothing else passes.
                exact = seals and kind.lower().partition(b";")[0].strip() == SETUP_KEYS
                response = await here.client.ask(here.seal(made, here.agent) if seals else made)
                assert response.status in ((200,) if exact else (400, 403, 415)), (kind, response.start_line())
                if exact:
                    assert [one.key for one in await here.terminal.introduced()] == [bytes([number]) * 32]
                await here.terminal.nothing(0.05)
            twice = here.message(b"hello", b"text/plain")
            twice.add("c", SETUP_KEYS)
            assert (await here.client.ask(twice)).status in (400, 403)
            await here.terminal.nothing(0.05)
            here.client.send(here.message(b"application/wisp-setup-keys", b"text/plain"))
            assert (await here.terminal.request()).body == SETUP_KEYS, "who writes of it is understood"

    run(work)


def test_a_replay(tmp_path: Path) -> None:
    """Once more is once too often, as with all that is sealed; and what says the same in another message is known."""

    async def work() -> None:
        async with elsewhere(tmp_path) as here:
            made = here.seal(here.message(line()), here.agent)
            again = made.copy()
            assert (await here.ask(made))[0] == 200
            await here.terminal.introduced()
            assert await here.ask(again) == (403, "replayed: this message was here before")
            await eventually(lambda: here.at.value("wisp_setup_keys_total", result="delivered") == 1)
            assert (await here.ask(here.seal(here.message(line()), here.agent)))[0] == 200
            assert await states(here.at) == [("alice", DAVE, "delivered", False)]
            await here.terminal.nothing(0.1)

    run(work)


def test_somebody_with_our_own_certificate(tmp_path: Path) -> None:
    """Who has stolen the key of our own trunk speaks for our users to nobody here."""

    async def work() -> None:
        async with elsewhere(tmp_path) as here:
            await consent(here.at, "alice", "sip:carol@a.example")
            folder = here.at.folder
            client = await connected(here.at, here.peer, folder / "a.example.pem", folder / "a.example.key")
            made = here.message(line("sip:carol@a.example"), sender="sip:carol@a.example")
            response = await client.ask(here.seal(made, here.peer.authority.issue_agent("a.example")))
            assert (response.status, reason(response)) == (403, "setup keys come from another domain's neighbour alone")
            assert await rows(here.at) == []

    run(work)


# Our own users.


async def neighbours_of(world: World) -> tuple[Terminal, Phone, Terminal, Phone]:
    """Alice and Carol of a.example, a terminal and a phone; Dave and Frank of b.example, likewise."""
    dave = await Terminal.make(world.right, "dave", ALICE, "sip:carol@a.example")
    alice = await Terminal.make(world.left, "alice", "sip:carol@a.example", DAVE, "sip:frank@b.example")
    return alice, await Phone.open(world.left, "carol"), dave, await Phone.open(world.right, "frank")


def with_keys(made: Request, body: bytes) -> Request:
    made.set_body(SETUP_KEYS, body)
    return made


def test_our_own_users(tmp_path: Path) -> None:
    """A terminal, a phone, within the domain and to others: nobody may."""

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, carol, dave, _ = await neighbours_of(world)
            for to in (ALICE, DAVE, "sip:carol@a.example"):
                for method in ("MESSAGE", "INVITE", "INFO"):
                    made = request(method, to, "alice", "a.example", contact=alice.hopper.contact, from_tag="x")
                    if to != ALICE:
                        assert (await alice.ask(with_keys(made, line(ALICE)))).status == 403
                    await carol.send(method, to, line("sip:carol@a.example"), SETUP_KEYS.decode())
                    assert (await carol.client.response()).status == 403
            await alice.nothing(0.05)
            await dave.nothing(0.05)
            assert await rows(world.left) == await rows(world.right) == []
            assert not [one for _, one in world.forth.seen if isinstance(one, Request)]

    run(work)


def test_within_a_dialog(tmp_path: Path) -> None:
    """An ACK, and what else is sent within a call."""

    async def work() -> None:
        async with between(tmp_path, level="medium") as world:
            alice, _, _, frank = await neighbours_of(world)
            sent = await frank.send("INVITE", ALICE, b"v=0\r\n")
            got = await alice.request()
            ok = answer(got, 200, alice.hopper.contact)
            ok.set_body(b"application/sdp", b"v=0\r\n")
            alice.hopper.send_frame(ok)
            answered = await frank.client.response()
            frank.client.send(
                with_keys(in_dialog("ACK", answered, frank.client.contact, sent.cseq.number, sent), line())
            )
            await alice.nothing()
            frank.client.send(in_dialog("ACK", answered, frank.client.contact, sent.cseq.number, sent))
            assert (await alice.request()).method == "ACK"
            for number, method in enumerate(("MESSAGE", "INFO", "UPDATE", "BYE"), 1):
                made = in_dialog(method, answered, frank.client.contact, sent.cseq.number + number, sent)
                frank.client.send(with_keys(made, line("sip:frank@b.example")))
                assert (await frank.client.response()).status == 403
            await alice.nothing(0.05)
            assert await rows(world.left) == await rows(world.right) == []

    run(work)


@pytest.mark.parametrize("level", ["medium", "heavy"])
@pytest.mark.parametrize("local", [True, False])
def test_an_answer(tmp_path: Path, level: str, local: bool) -> None:
    """Nor do keys come in an answer, sealed or not, to a caller of ours or of theirs."""

    async def work() -> None:
        async with between(tmp_path, level=level) as world:
            alice, carol, _, frank = await neighbours_of(world)
            callee = carol if local else frank
            for method, status in (
                ("MESSAGE", 200),
                ("INVITE", 200),
                ("INVITE", 183),
                ("OPTIONS", 200),
                ("MESSAGE", 404),
            ):
                made = request(
                    method, callee.aor, "alice", "a.example", contact=alice.hopper.contact, from_tag=f"x{status}"
                )
                alice.send(made)
                got = await callee.client.request(method)
                response = answer(got, status, callee.client.contact)
                response.set_body(SETUP_KEYS, line(callee.aor))
                callee.client.send(response)
                told = await alice._final()
                assert (told.status, told.body, reason(told)) == (403, b"", "setup keys come in no answer"), method
                await callee._flush()

    run(work)


# What goes out.


def signs_with_the_trunk(message: Message, to: str, shown: Callable[[], bytes]) -> list[Message]:
    """Answer questions for certificates with that of the trunk."""
    if to == BACK and isinstance(message, Request) and message.method == "NOTIFY":
        message.body = shown()
        message.set("Content-Length", b"%d" % len(message.body))
    return [message]


@pytest.mark.parametrize("settings", [[], ['on_failure = "plain"'], ['peer:profile = "rfc3261"']])
@pytest.mark.parametrize("level", ["", "medium", "heavy"])
def test_a_stolen_trunk(tmp_path: Path, settings: list[str], level: str) -> None:
    """Who has the key of the peer's trunk and nothing else gets no setup key, whatever is configured for calls."""

    async def work() -> None:
        async with between(tmp_path, left=settings, level=level) as world:
            await Terminal.make(world.right, "dave", ALICE)
            alice = await Terminal.make(world.left, "alice")
            world.forth.tamper = silent_service
            with capture_logs() as logs:
                await alice.register(DAVE)
                await eventually(lambda: [one for one in logs if one["event"] == "setup key not yet sent"])
            (told,) = [one for one in logs if one["event"] == "setup key not yet sent"]
            assert told["reason"] == "no certificate of sip:dave@b.example, nor of its domain but that of the trunk"
            assert world.count(world.forth, "MESSAGE") == 0
            assert await states(world.left) == [("alice", DAVE, "offered", True)]
            # With the certificate that has been learnt it is sent, sealed, as soon as there is one.
            world.forth.tamper = lambda message, to: [message]
            await alice.introduced()
            assert world.count(world.forth, "MESSAGE") == 1
            assert b64encode(alice.got[0].key) not in world.wire()

    run(work)


def test_the_trunks_certificate_from_the_service_and_a_493(tmp_path: Path) -> None:
    """b.example has no other: then nothing is encrypted for it, and nothing it answers makes it otherwise."""

    async def work() -> None:
        async with between(tmp_path) as world:
            await Terminal.make(world.right, "dave", ALICE)
            alice = await Terminal.make(world.left, "alice")
            trunk = read_credential(world.right.folder / "b.example.pem", world.right.folder / "b.example.key")
            theirs = world.right.neighbour._proxy._agent._certificates
            real = theirs.published
            theirs.published = lambda user: (trunk.certificate, *trunk.chain)  # type: ignore[method-assign]
            with capture_logs() as logs:
                await alice.register(DAVE)
                await eventually(lambda: [one for one in logs if one["event"] == "setup key not yet sent"])
            assert world.count(world.forth, "MESSAGE") == 0
            theirs.published = real  # type: ignore[method-assign]
            shown = certificates_entity((trunk.certificate, *trunk.chain))

            def undecipherable(message: Message, to: str) -> list[Message]:
                if to == FORTH and is_keys(message):
                    message.body = message.body[:-1] + bytes([message.body[-1] ^ 1])
                if to == BACK and is_keys(message, answers=True):
                    to_message(message, shown)
                return [message]

            world.forth.tamper = undecipherable
            with capture_logs() as logs:
                await eventually(lambda: [one for one in logs if one["event"] == "setup key refused"])
            assert world.count(world.forth, "MESSAGE") == 1, "it is not tried for the other certificate"
            assert await rows(world.left) == []

    run(work)


def test_another_certificate_in_a_493(tmp_path: Path) -> None:
    """A peer that has got another key says so, and is asked once more at once."""

    async def work() -> None:
        async with between(tmp_path) as world:
            dave = await Terminal.make(world.right, "dave", ALICE)
            alice = await Terminal.make(world.left, "alice")
            theirs = world.right.neighbour._proxy._agent._certificates
            old = (await asyncio.to_thread(_authority(world).issue_user, DAVE)).certificate
            ours = world.left.neighbour._proxy._agent._recipients
            assert ours.learn(DAVE.encode(), old, theirs.domain.chain)
            await alice.register(DAVE)
            await alice.introduced()
            await dave.introduced()
            assert world.count(world.forth, "MESSAGE") == 2
            (first,) = {one.key for one in (*alice.got, *dave.got)}
            assert b64encode(first) not in world.wire()

    run(work)


def _authority(world: World) -> Authority:
    return Authority(world.lab.folder / "ca")


def test_a_peer_without_tls(tmp_path: Path) -> None:
    """A carrier that is reached over UDP alone: nothing is sent there."""

    def prepare(lab: object) -> None:
        lab.change("a.example", '# transport = "tls"', 'transport = "udp"')  # type: ignore[attr-defined]

    async def work() -> None:
        async with between(tmp_path, level="none", prepare=prepare) as world:
            alice = await Terminal.make(world.left, "alice")
            with capture_logs() as logs:
                await alice.register(DAVE)
                await eventually(lambda: [one for one in logs if one["event"] == "setup key not yet sent"])
            (told,) = [one for one in logs if one["event"] == "setup key not yet sent"]
            assert told["reason"] == "b.example is reached over udp, and sips wants tls"

    run(work)


def test_nobody_tells_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No line of the log at any level, no trace, no counter, no command, no error of the store's has it."""
    monkeypatch.setattr("neighbour.agent.setup.os", types.SimpleNamespace(urandom=lambda size: KEY[:size]))
    hidden = [b64encode(KEY).decode(), KEY.hex(), repr(KEY), repr(KEY)[2:-1], str(list(KEY))]

    def prepare(lab: object) -> None:
        for name in ("a.example", "b.example"):
            lab.change(name, 'level = "error"', 'level = "debug"')  # type: ignore[attr-defined]

    async def work() -> None:
        async with between(tmp_path, prepare=prepare) as world:
            alice, _, dave, _ = await neighbours_of(world)
            with capture_logs() as logs:
                world.forth.tamper = functools.partial(answered, status=503)
                await alice.register(DAVE)
                await asyncio.sleep(0.2)
                told = [str(logs)]
                for command in (["keys"], ["keys", "alice"], ["account", "list"], ["account", "contact", "alice"]):
                    await asyncio.to_thread(run_command, *command, "-c", str(world.left.folder))
                told.append(capsys.readouterr().out)
                assert "waits for the peer's neighbour" in told[-1]
                world.forth.tamper = lambda message, to: [message]
                await alice.introduced()
                await dave.introduced()
                await eventually(lambda: world.left.value("wisp_setup_keys_total", result="delivered") == 1)
                # A row that can't be written, as there is one of that name, and a table that is not there.
                await alice.register(DAVE)
                await asyncio.sleep(0.2)
                store = world.left.neighbour._setup._held._store
                await store.write((text("DROP TABLE setup_keys"), {}))
                await alice.register(DAVE)
                await asyncio.sleep(0.2)
            assert any(one["event"] == "> MESSAGE sip:dave@b.example" or "MESSAGE" in one["event"] for one in logs)
            assert any("no such table" in str(one) for one in logs)
            assert any("UNIQUE constraint failed" in str(one) for one in logs)
            told += [str(logs), str(world.left.neighbour.metrics.registry.get_sample_value("wisp_setup_keys_total"))]
            for here in told:
                assert not [one for one in hidden if one in here]

    run(work)
