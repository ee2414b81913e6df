"""WIRE section 1 at the neighbour: how agreements are made, and everything that must not make one."""

import asyncio
import re
from pathlib import Path

import pytest
from sip import Domain, Hopper, UdpClient, domain, request, run, signed
from sqlalchemy import create_engine, select, update

from neighbour.store.schema import agreements
from sipwire.digest import Challenge
from sipwire.editing import remove
from sipwire.errors import SecurityError
from sipwire.message import Request, Response


def plain(made: Request) -> Request:
    """A REGISTER without the wish for new keys."""
    for key in ("require", "proxy-require", "security-client"):
        remove(made, key)
    return made


def test_agreement(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            terminal.prepare("alice", at)
            challenged = await terminal.ask(terminal.register_request(1))
            assert challenged.status == 401
            challenge = Challenge.parse(challenged.get("www-authenticate") or b"")
            assert (challenge.algorithm, challenge.qop, challenge.realm) == (
                b"SHA-256",
                (b"auth", b"auth-int"),
                b"a.example",
            )
            server = challenged.get("security-server") or b""
            assert re.fullmatch(rb"wisp-hop;q=0\.9;alg=hmac-sha-256-128;ealg=aes-ctr-128;spi=[1-9]\d*", server)
            terminal.send(terminal.prove_request(challenged))
            ok = await terminal.framed()
            assert isinstance(ok, Response)
            assert ok.status == 200
            assert ok.addresses("contact")[0].uri == terminal.contact.encode()
            assert ok.addresses("contact")[0].param("expires") == b"600"
            assert ok.get("expires") == b"600"
            assert re.fullmatch(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", ok.get("date") or b"")
            proof = terminal.credentials.compute(terminal.secret, "", b"")
            assert b'rspauth="' + proof + b'"' in (ok.get("authentication-info") or b"")
            assert at.value("wisp_agreements_total", result="made") == 1

    run(work)


def test_refresh_and_requests_in_frames(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            await terminal.join(at)
            terminal.send_frame(plain(terminal.register_request(3)))
            assert (await terminal.framed_final()).status == 200
            terminal.send_frame(request("OPTIONS", "sip:a.example"))
            assert (await terminal.framed_final()).status == 200

    run(work)


def test_keepalive(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            await terminal.join(at)
            assert terminal.sender is not None
            terminal.send_raw(terminal.sender.seal(b""))
            assert await terminal.frame() == b""

    run(work)


def test_new_keys_in_a_frame(tmp_path: Path) -> None:
    """WIRE 1.4: a refresh with a new Security-Client is challenged in the old agreement and answered in the new one."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            await terminal.join(at)
            old_sender, old_receiver = terminal.sender, terminal.receiver
            terminal.prepare("alice", at)
            terminal.sender, terminal.receiver = old_sender, old_receiver
            terminal.send_frame(terminal.register_request(11))
            challenged = await terminal.framed_final()
            assert challenged.status == 401
            proof = terminal.prove_request(challenged, 12)
            new_sender, terminal.sender = terminal.sender, old_sender
            terminal.send_frame(proof)
            assert (await terminal.framed_final()).status == 200
            # Both agreements carry frames for a while.
            terminal.send_frame(request("OPTIONS", "sip:a.example"))
            terminal.receiver, new_receiver = old_receiver, terminal.receiver
            assert (await terminal.framed_final()).status == 200
            terminal.sender, terminal.receiver = new_sender, new_receiver
            terminal.send_frame(request("OPTIONS", "sip:a.example"))
            assert (await terminal.framed_final()).status == 200

    run(work)


def wrong_password(made: Request) -> Request:
    made.set("Authorization", (made.get("authorization") or b"").replace(b'response="', b'response="0'))
    return made


def wrong_user(made: Request) -> Request:
    made.set("Authorization", (made.get("authorization") or b"").replace(b'username="alice"', b'username="bob"'))
    return made


def no_integrity(made: Request) -> Request:
    made.set("Authorization", (made.get("authorization") or b"").replace(b"qop=auth-int", b"qop=auth"))
    return made


def other_realm(made: Request) -> Request:
    made.set("Authorization", (made.get("authorization") or b"").replace(b"a.example", b"b.example"))
    return made


def foreign_nonce(made: Request) -> Request:
    value = made.get("authorization") or b""
    made.set("Authorization", re.sub(rb'nonce="[^"]{6}', b'nonce="AAAAAA', value, count=1))
    return made


def changed_verify(made: Request) -> Request:
    made.set("Security-Verify", (made.get("security-verify") or b"").replace(b"q=0.9", b"q=0.8"))
    return made


def no_verify(made: Request) -> Request:
    remove(made, "security-verify")
    return made


def two_verifies(made: Request) -> Request:
    made.add("Security-Verify", b"tls;q=0.1")
    return made


@pytest.mark.parametrize(
    ("change", "status", "stale"),
    [
        (wrong_password, 401, False),
        (wrong_user, 401, False),
        (no_integrity, 401, False),
        (other_realm, 401, False),
        (foreign_nonce, 401, True),
        (changed_verify, 494, None),
        (no_verify, 494, None),
        (two_verifies, 494, None),
    ],
)
def test_bad_proofs(tmp_path: Path, change: object, status: int, stale: bool | None) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            terminal.prepare("alice", at)
            challenged = await terminal.ask(terminal.register_request(1))
            proof = change(terminal.prove_request(challenged))  # type: ignore[operator]
            answer = await terminal.ask(proof)
            assert answer.status == status
            if stale is not None:
                assert Challenge.parse(answer.get("www-authenticate") or b"").stale == stale
            else:
                assert (
                    answer.get(
                        "security-server",
                    )
                    is not None
                )
            assert at.value("wisp_agreements_total", result="made") == 0
            assert at.value("wisp_bindings") == 0
            # Afterwards the right one works at once.
            terminal.send(terminal.prove_request(await terminal.ask(terminal.register_request(3)), 4))
            ok = await terminal.framed()
            assert isinstance(ok, Response)
            assert ok.status == 200

    run(work)


def test_unknown_user_is_told_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            answers = []
            for user in ("alice", "nobody"):
                terminal.prepare(user, at)
                terminal.password = "wrong"
                challenged = await terminal.ask(terminal.register_request(1))
                refused = await terminal.ask(terminal.prove_request(challenged))
                answers.append((challenged.status, refused.status, sorted(key for key, _ in refused.fields)))
            assert answers[0] == answers[1]

    run(work)


def test_a_changed_offer_makes_other_keys(tmp_path: Path) -> None:
    """Somebody on the way changes Security-Client: the neighbour's frame can't be opened."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            terminal.prepare("alice", at)
            challenged = await terminal.ask(terminal.register_request(1))
            proof = terminal.prove_request(challenged)
            proof.set("Security-Client", terminal.offer.replace(b"q=0.9", b"q=0.8"))
            terminal.send(proof)
            with pytest.raises(SecurityError):
                await terminal.frame()

    run(work)


def test_each_nonce_makes_one_agreement(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            terminal.prepare("alice", at)
            challenged = await terminal.ask(terminal.register_request(1))
            terminal.send(terminal.prove_request(challenged))
            await terminal.frame()
            other = await UdpClient.open(at)
            again = terminal.prove_request(challenged, 3)
            answer = await other.ask(again)
            assert answer.status == 401
            assert Challenge.parse(answer.get("www-authenticate") or b"").stale

    run(work)


def test_retransmitted_proof_is_answered_in_a_new_frame(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            terminal.prepare("alice", at)
            proof = terminal.prove_request(await terminal.ask(terminal.register_request(1)))
            terminal.send(proof)
            first = await terminal.frame()
            terminal.send(proof)
            assert await terminal.frame() == first
            assert at.value("wisp_agreements_total", result="made") == 1

    run(work)


@pytest.mark.parametrize(
    "offer",
    [
        "tls;q=0.2",
        "wisp-hop2;q=0.9;alg=hmac-sha-256-128;ealg=aes-ctr-128;spi=5",
        "ipsec-3gpp;alg=hmac-md5-96;spi-c=1;spi-s=2;port-c=3;port-s=4",
    ],
)
def test_offers_without_a_usable_mechanism(tmp_path: Path, offer: str) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            terminal.prepare("alice", at)
            made = terminal.register_request(1)
            made.set("Security-Client", offer.encode())
            answer = await terminal.ask(made)
            assert answer.status == 494
            assert (answer.get("security-server") or b"").startswith(b"wisp-hop;")

    run(work)


@pytest.mark.parametrize("spi", ["0", "4294967296", "x", ""])
def test_malformed_offers(tmp_path: Path, spi: str) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            terminal = await Hopper.open(at)
            terminal.prepare("alice", at)
            made = terminal.register_request(1)
            made.set("Security-Client", re.sub(rb"spi=\d+", b"spi=" + spi.encode(), terminal.offer))
            assert (await terminal.ask(made)).status == 400

    run(work)


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "MESSAGE", "REGISTER"])
def test_a_terminal_without_a_frame_gets_494_once(tmp_path: Path, method: str) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            client = await UdpClient.open(at)
            uri = "sip:a.example" if method == "REGISTER" else "sip:bob@a.example"
            to = "sip:alice@a.example" if method == "REGISTER" else ""
            answer = await client.ask(request(method, uri, to=to, contact=client.contact))
            assert answer.status == 494
            assert (answer.get("security-server") or b"").startswith(b"wisp-hop;")
            await client.silence(1.2)  # "sent once, never retransmitted"

    run(work)


def test_frames_that_are_dropped(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            await terminal.join(at)
            frame = terminal.send_frame(request("OPTIONS", "sip:a.example"))
            assert (await terminal.framed_final()).status == 200
            stranger = await UdpClient.open(at)
            for data, check in (
                (frame, "hop replay"),
                (frame[:1] + b"\0\0\0\1" + frame[5:], "hop spi"),
                (frame[:-1] + bytes([frame[-1] ^ 1]), "hop tag"),
                (frame[:20], "hop frame"),
                (b"\xe1", "hop frame"),
            ):
                before = at.value("wisp_frames_dropped_total", check=check)
                stranger.send_raw(data)
                await stranger.silence(0.1)
                assert at.value("wisp_frames_dropped_total", check=check) == before + 1
            # The terminal is still where it was, and still served.
            terminal.send_frame(request("OPTIONS", "sip:a.example"))
            assert (await terminal.framed_final()).status == 200

    run(work)


def test_terminal_moves_with_its_frames(tmp_path: Path) -> None:
    """WIRE 1.3: a valid frame with a new highest number moves its address, nothing else does."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            await terminal.join(at)
            assert terminal.sender is not None
            early = terminal.sender.seal(b"")
            elsewhere = await Hopper.open(at)
            elsewhere.sender, elsewhere.receiver = terminal.sender, terminal.receiver
            elsewhere.send_frame(request("OPTIONS", "sip:a.example"))
            assert (await elsewhere.framed_final()).status == 200
            # An older frame, from the old place, is fresh but not the newest.
            terminal.send_raw(early)
            assert await elsewhere.frame() == b""
            await terminal.silence()

    run(work)


def test_only_as_oneself(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            await at.add("bob", terminal=True)
            terminal = await Hopper.open(at)
            await terminal.join(at)
            for made in (
                request("OPTIONS", "sip:x@a.example", "bob"),
                request("OPTIONS", "sip:x@a.example", "alice", "b.example"),
                request("REGISTER", "sip:a.example", "bob", to="sip:bob@a.example", contact="sip:x@127.0.0.1"),
                request("REGISTER", "sip:a.example", "bob", to="sip:alice@a.example", contact="sip:x@127.0.0.1"),
            ):
                terminal.send_frame(made)
                assert (await terminal.framed_final()).status == 403

    run(work)


def test_unregister(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            await terminal.join(at)
            assert at.value("wisp_bindings") == 1
            terminal.send_frame(plain(terminal.register_request(3, 0)))
            ok = await terminal.framed_final()
            assert (ok.status, ok.get("contact")) == (200, None)
            assert at.value("wisp_bindings") == 0

    run(work)


def test_interval_too_brief(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            terminal.prepare("alice", at)
            challenged = await terminal.ask(terminal.register_request(1, 30))
            answer = await terminal.ask(terminal.prove_request(challenged, 2, 30))
            assert (answer.status, answer.get("min-expires")) == (423, b"60")
            assert at.value("wisp_agreements_total", result="made") == 0

    run(work)


def test_restart_loses_nothing(tmp_path: Path) -> None:
    """Agreements, bindings and sequence numbers outlive the process."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            await terminal.join(at)
            replay = terminal.send_frame(request("OPTIONS", "sip:a.example"))
            assert (await terminal.framed_final()).status == 200
            await asyncio.sleep(0.5)
            seen = terminal.receiver.window.highest if terminal.receiver else 0
            await at.stop()
            await at.start()
            assert at.value("wisp_bindings") == 1
            terminal.send_raw(replay)
            await terminal.silence()
            assert at.value("wisp_frames_dropped_total", check="hop replay") == 1
            terminal.send_frame(request("OPTIONS", "sip:a.example"))
            assert (await terminal.framed_final()).status == 200
            # No number of before is used again.
            assert terminal.receiver is not None
            assert terminal.receiver.window.highest > seen + 900

    run(work)


def as_after_a_crash(at: Domain, seq: int) -> None:
    """Make the store say what it says when the last moment before a crash was not written."""
    engine = create_engine(f"sqlite:///{at.folder}/wisp.db")
    with engine.begin() as connection:
        connection.execute(update(agreements).values(received_seq=seq))
    engine.dispose()


def received(at: Domain) -> list[int]:
    engine = create_engine(f"sqlite:///{at.folder}/wisp.db")
    with engine.begin() as connection:
        found = [row.received_seq for row in connection.execute(select(agreements).order_by(agreements.c.spi))]
    engine.dispose()
    return found


def test_a_frame_of_before_a_crash_moves_nobody(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            await terminal.join(at)
            assert terminal.sender is not None
            early = terminal.sender.seal(b"")
            kept = terminal.sender.seal(b"")
            for frame in (early, kept):
                terminal.send_raw(frame)
                await terminal.frame()
            await at.stop()
            as_after_a_crash(at, 0)
            await at.start()
            stranger = await UdpClient.open(at)
            stranger.send_raw(kept)
            await stranger.silence(0.1)
            assert await terminal.frame() == b"", "what it got goes where the terminal was"
            dropped = at.value("wisp_frames_dropped_total", check="hop replay")
            stranger.send_raw(early)
            await stranger.silence(0.1)
            assert at.value("wisp_frames_dropped_total", check="hop replay") == dropped + 1
            # A terminal that has moved meanwhile is followed with its second frame.
            elsewhere = await Hopper.open(at)
            elsewhere.sender, elsewhere.receiver = terminal.sender, terminal.receiver
            elsewhere.send_frame(request("OPTIONS", "sip:a.example"))
            assert (await elsewhere.framed_final()).status == 200

    run(work)


def test_the_number_of_a_registration_is_stored_with_it(tmp_path: Path) -> None:
    """So that no REGISTER is taken twice, not even after a crash."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            at.neighbour._hops.note = lambda: None  # type: ignore[method-assign]
            await terminal.join(at)
            assert received(at) == [0]
            terminal.send_frame(plain(terminal.register_request(3)))
            assert (await terminal.framed_final()).status == 200
            assert received(at) == [1]
            terminal.send_frame(plain(terminal.register_request(4, 0)))
            assert (await terminal.framed_final()).status == 200
            assert received(at) == [2]

    run(work)


def test_what_ended_meanwhile_leaves_the_store(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            for user in ("alice", "bob"):
                await at.add(user, terminal=True)
                await (await Hopper.open(at)).join(at, user)
            await at.stop()
            engine = create_engine(f"sqlite:///{at.folder}/wisp.db")
            with engine.begin() as connection:
                connection.execute(update(agreements).where(agreements.c.user == "alice").values(expires_at=1))
            engine.dispose()
            await at.start()
            assert len(at.neighbour._hops) == 1
            assert len(received(at)) == 1

    run(work)


@pytest.mark.parametrize("again", [False, True])
def test_a_removed_terminal(tmp_path: Path, again: bool) -> None:
    """Its frames, and those to it, end with its account; so they do where the account comes back with another secret."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            await at.add("carol")
            carol, terminal = await UdpClient.open(at), await Hopper.open(at)
            await terminal.join(at)
            await carol.register(at, "carol")
            await at.remove("alice", look=not again)
            if again:
                await at.add("alice", terminal=True, password="other")
            assert (at.value("wisp_bindings"), len(at.neighbour._hops)) == (1, 0)
            terminal.send_frame(request("MESSAGE", "sip:carol@a.example"))
            await carol.silence(0.2)
            await terminal.silence(0.1)
            assert at.value("wisp_frames_dropped_total", check="hop spi") == 1
            answer = await carol.ask_signed(request("MESSAGE", "sip:alice@a.example", "carol"), "carol")
            assert answer.status == (480 if again else 404)
            await terminal.silence(0.1)
            await asyncio.sleep(0.3)
            assert received(at) == []
            if again:
                terminal.password = "other"
                await terminal.join(at)

    run(work)


def test_a_terminal_that_comes_back_elsewhere(tmp_path: Path) -> None:
    """A terminal account is one terminal: its new agreement takes the place of whatever it had registered before."""

    async def work() -> None:
        async with domain(tmp_path, limit="# max_contacts = 8|max_contacts = 1") as at:
            await at.add("alice", terminal=True)
            await at.add("carol")
            before, now, carol = await Hopper.open(at), await Hopper.open(at), await UdpClient.open(at)
            await before.join(at)
            ok = await now.join(at)
            assert [one.uri for one in ok.addresses("contact")] == [now.contact.encode()]
            assert at.value("wisp_bindings") == 1
            await carol.register(at, "carol")
            made = request("MESSAGE", "sip:alice@a.example", "carol")
            carol.send(signed(made, await carol.ask(made), "carol", "secret"))
            got = await now.framed()
            assert isinstance(got, Request)
            now.send_frame(got.response(486, "Busy Here", b"x"))
            assert (await carol.response(1)).status == 486, "at once: nobody waits for a terminal that is gone"
            # The one before can speak for a while, but not take its place back.
            before.send_frame(plain(before.register_request(3)))
            refused = await before.framed_final()
            assert (refused.status, refused.reason) == (403, b"Forbidden")
            now.send_frame(plain(now.register_request(3)))
            ok = await now.framed_final()
            assert [one.uri for one in ok.addresses("contact")] == [now.contact.encode()]

    run(work)


def test_sequence_numbers_are_reserved_ahead(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            await terminal.join(at)
            assert terminal.sender is not None
            for _ in range(25):
                for _ in range(100):
                    terminal.send_raw(terminal.sender.seal(b""))
                for _ in range(100):
                    assert await terminal.frame() == b""
            assert terminal.receiver is not None
            assert terminal.receiver.window.highest == 2501

    run(work)


def test_a_terminal_has_its_hop_and_no_other_way(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            terminal = await Hopper.open(at)
            await terminal.join(at)
            for name, value, status in (
                ("Contact", b"<tel:+1>", 400),
                ("Path", b"<sip:a.example;lr>", 403),
                ("Path", b"<sip:192.0.2.66;lr>", 403),
            ):
                made = plain(terminal.register_request(3))
                made.set(name, value)
                made.set("Supported", b"path, outbound")
                terminal.send_frame(made)
                assert (await terminal.framed_final()).status == status, value
            # A reg-id says nothing where there is one flow only.
            made = plain(terminal.register_request(4))
            contact = f'<{terminal.contact}>;reg-id=1;+sip.instance="<urn:x:1>"'.encode()
            made.set("Contact", contact)
            made.set("Supported", b"path, outbound")
            terminal.send_frame(made)
            ok = await terminal.framed_final()
            assert (ok.status, ok.get("require"), ok.addresses("contact")[0].param("reg-id")) == (200, None, None)
            assert at.value("wisp_bindings") == 1

    run(work)
