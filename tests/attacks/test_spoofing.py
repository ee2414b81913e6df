"""To be somebody else: their answers, their BYE, their registration."""

import asyncio
import json
import socket
from pathlib import Path

from calls.conftest import connect, hang_up, make_terminal
from sip import Domain, Hopper, StreamClient, UdpClient, answer, call, domain, in_dialog, phones, request, run, signed
from test_trunk import users

from attacks.attack import betrayed, dialog, drain, good_call
from attacks.test_smuggling import stream_phone
from lab.lab import Lab
from neighbour.transport.tls import client_context
from sipwire.message import Request, Response
from sipwire.transaction import ack_for, cancel_for


def test_an_answer_from_elsewhere(tmp_path: Path) -> None:
    """The attacker knows a request of ours, branch and all, and answers it before the callee does.

    He wants the call to be his (200 with his Contact), to fail (486), or to go elsewhere (302). Stopped: an answer is
    taken only from where the request went; everything else is counted, and charged to where it came from.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            erin = await stream_phone(at, "erin")
            await call(carol, "carol", "sip:dave@a.example")
            got = await dave.request("INVITE")
            attackers = [await UdpClient.open(at), await StreamClient.open(at), erin]
            count = 0
            for status in (100, 180, 200, 302, 407, 486, 603):
                for attacker in attackers:
                    attacker.send(answer(got, status, "sip:me@192.0.2.66"))
                    count += 1
            await asyncio.sleep(0.2)
            assert at.value("wisp_stray_responses_total") == count
            assert [one for one in await drain(carol) if b" 100 " not in one] == []
            # The other way: answers that look like ours, to Carol, change nothing for us. Those to Dave's next hop do not.
            dave.send(answer(got, 486))
            ended = await carol.response()
            assert ended.status == 486
            carol.send(ack_for(got, ended))
            await good_call(carol, dave)

    run(work)


def test_an_answer_over_another_trunk(tmp_path: Path) -> None:
    """A domain that has a good certificate and a connection to us answers what was sent to another domain."""

    async def work() -> None:
        lab = Lab(tmp_path)
        addresses = lab.make_domains("a.example", "b.example", "c.example")
        left, right = (Domain(lab, name, addresses[name]) for name in ("a.example", "b.example"))
        try:
            for one in (left, right):
                await one.start()
            carol, dave = await users(left, right)
            made = request("MESSAGE", "sip:dave@b.example", "carol")
            carol.send(signed(made, await carol.ask(made), "carol", "secret"))
            got = await dave.request("MESSAGE")
            forged = Response(200, b"OK")
            for value in got.values("via")[1:]:  # as it would come from b.example
                forged.add("Via", value)
            for name in ("From", "To", "Call-ID", "CSeq"):
                forged.add(name, got.get(name.lower()) or b"")
            forged.add("Content-Length", b"0")
            third = lab.folder / "c.example"
            context = client_context(
                str(third / "c.example.pem"), str(third / "c.example.key"), [str(lab.folder / "ca" / "root.pem")]
            )
            peer = await StreamClient.open(left, tls=context)
            for attacker in (await UdpClient.open(left), await StreamClient.open(left), peer):
                attacker.send(forged)
            assert await drain(carol, seconds=0.2) == []
            assert left.value("wisp_stray_responses_total") == 3
            assert [one.identities for one in left.neighbour.connections.by_token.values()].count(
                frozenset({"c.example"})
            ) == 1
            dave.send(got.response(200, "OK"))
            assert (await carol.response()).status == 200
        finally:
            for one in (left, right):
                for client in one.clients:
                    client.close()
                await one.stop()

    run(work)


def test_a_bye_of_somebody_else(tmp_path: Path) -> None:
    """The attacker knows Call-ID and tags of a call, and hangs it up.

    Stopped: without the cookie of its Record-Route a request is in no dialog of ours, and is challenged; with one of
    another dialog, or one that was guessed, too. And a user of ours proves to be one of the two whom the call is of.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            invite, _, ok = await dialog(carol, dave)
            stranger = await UdpClient.open(at)
            (erin,) = await phones(at, "erin")

            def bye(**changes: bytes) -> Request:
                made = in_dialog("BYE", ok, stranger.contact, 77, invite)
                for name, value in changes.items():
                    if value:
                        made.set(name, value)
                    else:
                        made.fields = [field for field in made.fields if field[0] != name.lower()]
                return made

            route = ok.get("record-route") or b""
            cookie = route.partition(b"wisp=")[2][:16]
            assert len(cookie) == 16
            for attempt in (
                bye(Route=b""),
                bye(Route=route.replace(cookie, b"0" * 16)),
                bye(Route=route.replace(cookie, cookie[:-1])),
                bye(Route=route.replace(cookie, b"")),
                bye(**{"Call-ID": b"another"}),
                bye(From=(ok.get("from") or b"").replace(b"tag=", b"tag=0")),
            ):
                assert (await stranger.ask(attempt)).status in (400, 403, 407)
            # Erin has a secret, and it is not Carol's.
            made = bye(Route=b"")
            refused = await erin.ask(made)
            assert (await erin.ask(signed(made, refused, "erin", "secret"))).status == 407
            # As herself, she hangs up no call of others: Dave's phone knows no such dialog, by From and tags.
            made = request(
                "BYE",
                "sip:dave@a.example",
                "erin",
                to="sip:dave@a.example",
                to_tag="callee",
                call_id=invite.call_id.decode(),
            )
            erin.send(signed(made, await erin.ask(made), "erin", "secret"))
            got = await dave.request("BYE")
            assert got.from_.parsed_uri().user == b"erin"
            dave.send(got.response(481, "No"))
            assert (await erin.response()).status == 481
            # CANCEL of a call that rings, from elsewhere.
            rings = await call(carol, "carol", "sip:dave@a.example")
            ringing = await dave.request("INVITE")
            dave.send(answer(ringing, 180))
            await drain(carol)
            assert (await stranger.ask(cancel_for(rings))).status == 481
            assert await drain(dave) == []
            dave.send(answer(ringing, 486))
            ended = await carol.response()
            carol.send(ack_for(rings, ended))
            # The call stands, and ends when one of the two says so.
            await drain(carol, dave)
            carol.send(in_dialog("BYE", ok, carol.contact, 78, invite))
            dave.send((await dave.request("BYE")).response(200, "OK"))
            assert (await carol.response()).status == 200
            await good_call(carol, dave)

    run(work)


def test_a_registration_of_somebody_else(tmp_path: Path) -> None:
    """The attacker registers his own phone as Carol, takes hers away, or asks where she is.

    Stopped: the digest has to be that of whom To names, whoever From is; a terminal's frame registers its own user; and
    what a peer or a dialog's cookie proves registers nobody.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            await at.add("mallory")
            await at.add("alice", terminal=True)
            alice = await Hopper.open(at)
            await alice.join(at)
            mallory = await UdpClient.open(at)
            contacts = (mallory.contact, "")

            def hijack(user: str, **options: object) -> Request:
                return request("REGISTER", "sip:a.example", user, **options)  # type: ignore[arg-type]

            for contact in contacts:
                for sender in ("carol", "mallory"):
                    made = hijack(sender, to="sip:carol@a.example", contact=contact)
                    refused = await mallory.ask(made)
                    assert refused.status == 401
                    for user in ("mallory", "carol"):
                        again = await mallory.ask(
                            signed(made, refused, user, "secret" if user == "mallory" else "guess")
                        )
                        assert again.status in (401, 403)
                        assert again.get("contact") is None
            everything = hijack("mallory", to="sip:carol@a.example", headers=(("Contact", "*"), ("Expires", "0")))
            refused = await mallory.ask(everything)
            assert (await mallory.ask(signed(everything, refused, "mallory", "secret"))).status in (401, 403)
            # Carol's own credentials, for another binding than she meant: used once, they are used.
            made = hijack("carol", to="sip:carol@a.example", contact=carol.contact)
            overheard = signed(made, await carol.ask(made), "carol", "secret")
            assert (await carol.ask(overheard)).status == 200
            overheard.set("Contact", f"<{mallory.contact}>".encode())
            overheard.set("CSeq", b"9 REGISTER")
            overheard.fields = [field for field in overheard.fields if field[0] != "via"]
            assert (await mallory.ask(overheard)).status == 401
            # A terminal's frame, for others; and a plain REGISTER for the terminal.
            alice.send_frame(hijack("alice", to="sip:carol@a.example", contact=mallory.contact))
            assert (await alice.framed_final()).status == 403
            alice.send_frame(hijack("carol", to="sip:alice@a.example", contact=mallory.contact))
            assert (await alice.framed_final()).status == 403
            assert (await mallory.ask(hijack("alice", to="sip:alice@a.example", contact=mallory.contact))).status == 494
            # Everybody is where they were.
            assert [one.contact for one in at.neighbour._location.of("carol")] == [carol.contact.encode()]
            assert [one.spi is not None for one in at.neighbour._location.of("alice")] == [True]
            assert at.neighbour._location.of("mallory") == []
            await good_call(carol, dave)

    run(work)


def test_a_registration_in_the_name_of_a_user_that_is_written_otherwise(tmp_path: Path) -> None:
    """`c%61rol`, `carol:x`, `CAROL`, `carol;x=y`, `carol@b.example@a.example`: one account under many names.

    Stopped: one spelling is the user, the others are the same user with the same secret, or nobody.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            await at.add("mallory")
            mallory = await UdpClient.open(at)
            for user in (
                "c%61rol",
                "carol:secret",
                "%63%61%72%6f%6c",
                "CAROL",
                "carol;x=y",
                "carol%00",
                "carol%0d%0a",
                "carol%40b.example",
                "mallory%40carol",
                "carol/../mallory",
                "%",
                "%zz",
            ):
                made = request(
                    "REGISTER", "sip:a.example", "mallory", to=f"sip:{user}@a.example", contact=mallory.contact
                )
                refused = await mallory.ask(made)
                if refused.status != 401:
                    assert refused.status in (400, 404), user
                    continue
                assert (await mallory.ask(signed(made, refused, "mallory", "secret"))).status in (401, 403, 404), user
            assert [one.contact for one in at.neighbour._location.of("carol")] == [carol.contact.encode()]
            assert at.neighbour._location.of("mallory") == []
            await good_call(carol, dave)

    run(work)


def test_a_terminal_and_who_knows_all_of_its_call(lab: Lab) -> None:
    """The attacker has read every message of a call, and sends its BYE, an INVITE in it and answers, without a frame.

    Stopped: what comes without a frame is not read, be it right in every other way; and frames that were overheard are
    not taken again.
    """
    rogue, alice = betrayed(lab)
    rings, ok = rogue.talk(alice)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((lab.next_address(), 0))
    for number, method in enumerate(("BYE", "INVITE", "CANCEL", "ACK"), 10):
        made = in_dialog(method, ok, "sip:bob@192.0.2.66", number, rings)
        made.insert("Via", f"SIP/2.0/UDP 192.0.2.66;branch=z9hG4bK{method};rport".encode())
        sock.sendto(made.serialize(), rogue.terminal)
        rogue.send_plain(made.serialize())  # and from where the neighbour is
    bye = in_dialog("BYE", ok, "sip:bob@127.0.0.1", 20, rings)
    bye.insert("Via", b"SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKgoodbye")
    assert rogue.sender is not None
    frame = rogue.sender.seal(b"")
    for changed in (
        frame[:-1] + bytes([frame[-1] ^ 1]),
        frame[:5] + b"\0\0\x7f\xff" + frame[9:],
        b"\xe1" + bye.serialize(),
    ):
        sock.sendto(changed, rogue.terminal)
    sock.settimeout(0.3)
    try:
        raise AssertionError(sock.recv(4096))
    except TimeoutError:
        pass
    assert rogue.answers(0.3) == []
    alice.read()
    assert not [line for line in alice.lines if line["event"] == "ended"]
    assert rogue.status_of(bye.serialize()) == [200]
    alice.wait_for("ended")
    since = len(alice.lines)
    assert 180 in rogue.status_of(rogue.invite())
    alice.wait_for("incoming", 5, since=since)
    sock.close()
    rogue.close()


def test_a_terminal_in_a_call_hears_its_neighbour_only(lab: Lab) -> None:
    """BYE, CANCEL, answers and REGISTERs of strangers to both ends of a call, and in the name of each to the neighbour."""
    lab.make_domains("a.example")
    paths = [make_terminal(lab, "a.example", user) for user in ("alice", "bob")]
    neighbour = lab.start_neighbour("a.example")
    alice, bob = (lab.start_terminal(path) for path in paths)
    for one in (alice, bob):
        one.wait_for("registered", 20)
    addresses = [json.loads(path.read_text())["board"]["address"] for path in paths]
    host, _, port = json.loads(paths[0].read_text())["neighbour"].rpartition(":")
    connect(alice, bob)
    # What the attacker may know of the call: all of it, out of the neighbour's log.
    neighbour.read()
    call_id = next(line["call_id"] for line in neighbour.lines if line["event"].startswith("< INVITE"))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((lab.next_address(), 0))
    sock.settimeout(2)
    for method in ("BYE", "CANCEL", "INVITE", "REGISTER"):
        for sender, receiver in (("alice", "bob"), ("bob", "alice")):
            made = request(
                method, f"sip:{receiver}@a.example", sender, call_id=call_id, to_tag="x" if method == "BYE" else ""
            )
            made.insert("Via", f"SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK{method}{sender};rport".encode())
            for address in addresses:
                sock.sendto(made.serialize(), (address, 5060))
                sock.sendto(made.response(481, "Gone").serialize(), (address, 5060))
            sock.sendto(made.serialize(), (host, int(port)))
            refused = sock.recv(4096)  # the neighbour's; no terminal has said a word
            assert refused.split(b" ")[1] in (b"494", b"481", b"403", b"401"), refused
    sock.settimeout(0.3)
    try:
        raise AssertionError(sock.recv(4096))
    except TimeoutError:
        pass
    for one in (alice, bob):
        one.read()
        assert not [line for line in one.lines if line["event"] == "ended"]
    hang_up(alice, bob)
    connect(bob, alice)
    hang_up(bob, alice)
    sock.close()
