"""Ways around what a user wants at least: another To, a call sent on, a group, a dialog that others know of too."""

from pathlib import Path

import pytest
from attacks.middle import BACK, FORTH
from peer import alone
from sealed import ANSWER, OFFER, Call, Phone, World, between, reason, told
from sip import UdpClient, answer, call, in_dialog, request, run, signed

from neighbour.agent.cms import enveloped
from neighbour.agent.cms.errors import DecryptError
from neighbour.agent.credential import read_credential
from neighbour.agent.mime import of_message, to_message
from neighbour.agent.security import SecurityAgent
from neighbour.agent.smime import certificates_entity
from neighbour.refusal import RefusedError
from sipwire.dialog import Dialog
from sipwire.message import Request, Response

NOT_SEALED = "heavy security is demanded, and the body is not signed and encrypted, with its headers"


async def people(world: World) -> tuple[Phone, Phone, Phone]:
    """Carol calls; Dave wants heavy security, and Erin, who is of his domain, does not."""
    carol = await Phone.open(world.left, "carol")
    dave = await Phone.open(world.right, "dave", level="heavy")
    return carol, dave, await Phone.open(world.right, "erin")


def with_to(method: str, target: Phone, to: Phone, sender: Phone, tag: str = "") -> Request:
    return request(
        method,
        target.aor,
        sender.user,
        sender.at.name,
        to=to.aor,
        to_tag=tag,
        contact=sender.client.contact,
        body=OFFER,
        headers=(("Content-Type", "application/sdp"),),
        from_tag="f",
    )


def within(dialog: Dialog, method: str, sender: UdpClient) -> Request:
    made = dialog.new_request(method)
    made.add("Contact", f"<{sender.contact}>".encode())
    made.set_body(b"application/sdp", OFFER)
    return made


async def is_refused(carol: Phone, dave: Phone) -> None:
    refused = await carol.client.response()
    assert (refused.status, reason(refused)) == (488, NOT_SEALED)
    await dave.client.silence(0.2)


@pytest.mark.parametrize("method", ["MESSAGE", "INVITE", "INFO"])
def test_a_tag_and_another_to(tmp_path: Path, method: str) -> None:
    """A To tag of the sender's making does not make it a dialog of Erin's."""

    async def work() -> None:
        async with between(tmp_path, level="medium") as world:
            carol, dave, erin = await people(world)
            await carol.send_made(with_to(method, dave, erin, carol, "x"))
            await is_refused(carol, dave)

    run(work)


def test_a_dialog_that_began_with_another_to(tmp_path: Path) -> None:
    """It was let through to Dave for being sealed; what follows has to be that as well, whatever To says."""

    async def work() -> None:
        async with between(tmp_path, level="medium") as world:
            carol, dave, erin = await people(world)
            made = with_to("INVITE", dave, erin, carol)
            made.add("Security-Assist", b"sign;level=heavy")
            begun = await Call.try_(carol, dave, made=made)
            assert begun.outcome == (200, "")
            await begun.acknowledge()
            ack = within(begun.dialogs()[0], "ACK", carol.client)
            carol.client.send(ack)
            carol.client.send(within(begun.dialogs()[0], "UPDATE", carol.client))
            await is_refused(carol, dave)

    run(work)


def test_sent_on(tmp_path: Path) -> None:
    """Erin's phone sends the call on to Dave."""

    async def work() -> None:
        async with between(tmp_path, level="medium") as world:
            carol, dave, erin = await people(world)
            for headers, is_sealed in (((), False), ((("Security-Assist", "sign;level=heavy"),), True)):
                await carol.send("INVITE", erin.aor, OFFER, "application/sdp", *headers)
                moved = answer(await erin.client.request("INVITE"), 302)
                moved.add("Contact", dave.aor.encode())
                erin.client.send(moved)
                if is_sealed:
                    got = await dave.client.request("INVITE")
                    assert told(got).startswith('level=heavy;verified="sip:carol@a.example"')
                else:
                    await is_refused(carol, dave)

    run(work)


def test_a_peer_by_udp_that_says_tcp(tmp_path: Path) -> None:
    """Where its Contact leads is no phone of ours because it is at the peer's address."""

    async def work() -> None:
        async with alone(tmp_path, "udp", 5060) as (_, peer, carol):
            bob = await peer.by_udp()
            server = await peer.listen("", 5060)
            sent = await call(carol, "carol", "sip:bob@b.example")
            bob.send(answer(await bob.request("INVITE"), 200, f"sip:bob@{peer.address}:5060;transport=tcp"))
            ok = await carol.response()
            update = in_dialog("UPDATE", ok, carol.contact, sent.cseq.number + 1, sent)
            update.set_body(b"application/sdp", OFFER)
            carol.send(update)
            _, got = await peer.request("UPDATE")
            assert got.get("security-status") is None
            heavy = in_dialog("UPDATE", ok, carol.contact, sent.cseq.number + 2, sent)
            heavy.set_body(b"application/sdp", OFFER)
            heavy.add("Security-Assist", b"encrypt;level=heavy")
            carol.send(heavy)
            while (refused := await carol.response()).cseq.number != heavy.cseq.number:
                pass
            assert refused.status == 488
            assert peer.came.empty()
            server.close()
            await server.wait_closed()

    run(work)


@pytest.mark.parametrize("knows", [True, False], ids=["with the password", "without it"])
def test_from_where_the_user_has_not_registered(tmp_path: Path, knows: bool) -> None:
    """A phone that sends from another port is asked who it is; somebody who has seen the route set can't say."""

    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave, _ = await people(world)
            begun = await Call.try_(carol, dave)
            await begun.acknowledge()
            other = await UdpClient.open(world.left)
            dialog = begun.dialogs()[0]
            other.send(within(dialog, "ACK", other))  # nobody can be asked; it goes nowhere
            made = within(dialog, "UPDATE", other)
            challenged = await other.ask(made)
            assert challenged.status == 407
            other.send(signed(made, challenged, "carol", "secret" if knows else "guessed"))
            if knows:
                got = await dave.client.request()
                assert (got.method, told(got).startswith('level=heavy;verified="sip:carol@a.example"')) == (
                    "UPDATE",
                    True,
                )
            else:
                assert (await other.response()).status == 407
                await dave.client.silence(0.2)
            assert not any(key == "proxy-authorization" for _, one in world.forth.seen for key, _ in one.fields)

    run(work)


def test_within_the_domain_nobody_is_asked(tmp_path: Path) -> None:
    """Where nothing is ever signed, the cookie does as before."""

    async def work() -> None:
        async with between(tmp_path, level="medium") as world:
            carol = await Phone.open(world.left, "carol")
            dave = await Phone.open(world.right, "dave")
            begun = await Call.try_(carol, dave)
            await begun.acknowledge()
            other = await UdpClient.open(world.left)
            other.send(within(begun.dialogs()[0], "UPDATE", other))
            assert (await dave.client.request("UPDATE")).body == OFFER

    run(work)


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [("To", b"<sip:>;tag=callee", 502), ("Contact", b"<<", 403), ("Record-Route", b"<<", 200)],
)
def test_an_answer_that_can_not_be_read(tmp_path: Path, name: str, value: bytes, status: int) -> None:
    """What a phone of ours has answered can't be sealed: the caller hears of it, and does not wait for ever."""

    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave, _ = await people(world)

            def respond(invite: Request) -> Response:
                made = answer(invite, 200, dave.client.contact)
                made.set_body(b"application/sdp", ANSWER)
                made.set(name, value)
                return made

            assert (await Call.try_(carol, dave, respond=respond)).response.status == status

    run(work)


def test_a_provisional_answer_that_can_not_be_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller hears why, and not that nobody was there; the phone stops ringing."""

    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave, _ = await people(world)

            def refuse(*_: object) -> Response:
                raise RefusedError(488, "Not Acceptable Here", ("Warning", b'399 b.example "no certificate"'))

            monkeypatch.setattr(SecurityAgent, "seal_response", refuse)

            def respond(invite: Request) -> Response:
                made = answer(invite, 183, dave.client.contact)
                made.set_body(b"application/sdp", ANSWER)
                return made

            begun = await Call.try_(carol, dave, respond=respond)
            assert begun.outcome == (488, "no certificate")
            dave.client.send(answer(await dave.client.request("CANCEL"), 200))
            dave.client.send(answer(begun.invite, 487))
            await dave.client.request("ACK")

    run(work)


def test_a_key_that_can_not_be_read_stops_nothing(tmp_path: Path) -> None:
    """What looks for new certificates ends bindings and reads accounts as well."""

    async def work() -> None:
        async with between(tmp_path) as world:
            (world.left.folder / "a.example.key").write_bytes(b"broken")
            refresh = world.left.neighbour._refresh
            assert refresh is not None
            refresh.look()
            world.left.neighbour.reload()
            carol, dave, _ = await people(world)
            assert (await Call.try_(carol, dave)).outcome == (200, "")

    run(work)


@pytest.mark.parametrize("shows", ["the trunk's", "nothing of use"])
def test_a_493_of_who_has_stolen_the_key_of_the_trunk(tmp_path: Path, shows: str) -> None:
    """What was sealed for Dave himself is not sealed for that key instead, then or for the next call."""

    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave, _ = await people(world)
            first = await Call.try_(carol, dave)  # so that his certificate is known
            assert first.outcome == (200, "")
            await first.end()
            stolen = read_credential(world.right.folder / "b.example.pem", world.right.folder / "b.example.key")

            sealed: list[Request] = []

            def answer_it(message: Request | Response, to: str) -> list[Request | Response]:
                if to == FORTH and isinstance(message, Request) and message.method == "SUBSCRIBE":
                    return []
                if to == FORTH and isinstance(message, Request) and message.method == "INVITE":
                    sealed.append(message.copy())
                    message.body = message.body[:-1] + bytes([message.body[-1] ^ 1])  # so there is a 493 to be changed
                if to == BACK and isinstance(message, Response) and message.status == 493:
                    to_message(
                        message,
                        certificates_entity((stolen.certificate, *stolen.chain)) if shows == "the trunk's" else None,
                    )
                return [message]

            world.forth.tamper = answer_it
            for _ in range(2):
                again = await Call.try_(carol, dave)
                assert again.response.status == 493
            for one in sealed:
                with pytest.raises(DecryptError):
                    enveloped.decrypt(of_message(one).content(), lambda _: stolen)

    run(work)
