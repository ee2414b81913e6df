"""RFC 3261 section 10.3, for phones; terminals' registrations are in test_hop.py."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from sip import Domain, UdpClient, domain, request, run, signed

from lab.lab import Lab
from neighbour.config import load
from neighbour.store.accounts import add_account
from neighbour.store.database import Store, StoreError
from sipwire.digest import Challenge
from sipwire.message import Request, Response


def register(
    at: Domain, user: str = "carol", cseq: int = 1, expires: str = "", contacts: str = "", call_id: str = ""
) -> Request:
    made = request("REGISTER", f"sip:{at.name}", user, at.name, to=f"sip:{user}@{at.name}", cseq=cseq, call_id=call_id)
    if contacts:
        made.add("Contact", contacts.encode())
    if expires:
        made.add("Expires", expires.encode())
    return made


async def answered(client: UdpClient, made: Request, password: str = "secret") -> Response:
    return await client.ask_signed(made, "carol", password)


def bound(response: Response) -> dict[bytes, int]:
    return {one.uri: int(one.param("expires") or b"-1") for one in response.addresses("contact")}


def test_register_query_refresh_remove(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            ok = await answered(client, register(at, contacts="<sip:c@192.0.2.1>", expires="120", call_id="x"))
            assert (ok.status, bound(ok)) == (200, {b"sip:c@192.0.2.1": 120})
            assert ok.get("date") is not None
            ok = await answered(client, register(at))
            assert set(bound(ok)) == {b"sip:c@192.0.2.1"}
            ok = await answered(client, register(at, cseq=10, contacts="<sip:c@192.0.2.1>", expires="240", call_id="x"))
            assert bound(ok) == {b"sip:c@192.0.2.1": 240}
            before = at.neighbour._location._store.statements
            ok = await answered(client, register(at, cseq=15, contacts="<sip:c@192.0.2.1>", expires="360", call_id="x"))
            assert bound(ok) == {b"sip:c@192.0.2.1": 360}
            assert at.neighbour._location._store.statements == before + 1, "nothing is removed to be put again"
            ok = await answered(client, register(at, cseq=20, contacts="<sip:c@192.0.2.1>;expires=0", call_id="x"))
            assert bound(ok) == {}

    run(work)


def test_several_contacts(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            ok = await answered(
                client,
                register(at, contacts='<sip:c@192.0.2.1>;q=0.5;expires=100, "C" <sip:c@192.0.2.2>', expires="200"),
            )
            assert bound(ok) == {b"sip:c@192.0.2.1": 100, b"sip:c@192.0.2.2": 200}
            assert ok.addresses("contact")[1].param("q") == b"0.5"  # the preferred first
            ok = await answered(client, register(at, contacts="*", expires="0"))
            assert bound(ok) == {}

    run(work)


@pytest.mark.parametrize(
    ("q", "told"),
    [("0", b"0"), ("0.", b"0"), ("0.5", b"0.5"), ("0.125", b"0.125"), ("1", None), ("1.000", None)],
)
def test_preference(tmp_path: Path, q: str, told: bytes | None) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            ok = await answered(client, register(at, contacts=f"<sip:c@192.0.2.1>;q={q}"))
            assert ok.addresses("contact")[0].param("q") == told

    run(work)


def test_equivalent_contact_is_the_same_binding(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            await answered(client, register(at, contacts="<sip:carol@PHONE.example;x=1>", call_id="a"))
            ok = await answered(client, register(at, contacts="<sip:%63arol@phone.example>", call_id="b"))
            assert set(bound(ok)) == {b"sip:%63arol@phone.example"}

    run(work)


@pytest.mark.parametrize(
    ("asked", "status", "granted"),
    [
        ("60", 200, 60),
        ("59", 423, None),
        ("3600", 200, 3600),
        ("86400", 200, 3600),
        ("", 200, 3600),
        ("4294967296", 200, 3600),
    ],
)
def test_expires(tmp_path: Path, asked: str, status: int, granted: int | None) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            answer = await answered(client, register(at, contacts="<sip:c@192.0.2.1>", expires=asked))
            assert answer.status == status
            if granted is not None:
                assert bound(answer) == {b"sip:c@192.0.2.1": granted}
            if status == 423:
                assert answer.get("min-expires") == b"60"

    run(work)


@pytest.mark.parametrize(
    ("contacts", "expires"),
    [
        ("*", "10"),
        ("*", ""),
        ("*", "soon"),
        ("*;expires=0", "0"),
        ("*, <sip:c@192.0.2.1>", "0"),
        ("<sip:c@192.0.2.1;x=%zz>", "60"),
        ("<sip:c@bad..host>", "60"),
        ("<sip:c@192.0.2.1>,,", "60"),
        ("<sip:c@192.0.2.1>;q=inf", "60"),
        ("<sip:c@192.0.2.1>;q=nan", "60"),
        ("<sip:c@192.0.2.1>;q=1.001", "60"),
        ("<sip:c@192.0.2.1>;q=0.1234", "60"),
        ("<sip:c@192.0.2.1>;q=-0.1", "60"),
        ("<sip:c@192.0.2.1>;q=1e-1", "60"),
        ("<sip:c@192.0.2.1>;q=2", "60"),
        ("<sip:c@192.0.2.1>;q", "60"),
    ],
)
def test_malformed_contacts(tmp_path: Path, contacts: str, expires: str) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            assert (await answered(client, register(at, contacts=contacts, expires=expires))).status == 400
            assert at.value("wisp_bindings") == 0

    run(work)


def test_cseq_of_one_call_id_rises(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            await answered(client, register(at, cseq=10, contacts="<sip:c@192.0.2.1>", call_id="x"))
            late = await answered(client, register(at, cseq=5, contacts="<sip:c@192.0.2.1>;expires=0", call_id="x"))
            assert late.status == 500
            assert set(bound(await answered(client, register(at)))) == {b"sip:c@192.0.2.1"}

    run(work)


def test_too_many_contacts(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path, limit="# max_contacts = 8|max_contacts = 2") as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            ok = await answered(client, register(at, contacts="<sip:c@192.0.2.1>, <sip:c@192.0.2.2>"))
            assert ok.status == 200
            assert (await answered(client, register(at, contacts="<sip:c@192.0.2.3>"))).status == 403
            # One of the two again is no third.
            assert (await answered(client, register(at, contacts="<sip:c@192.0.2.2>"))).status == 200

    run(work)


def test_too_many_contacts_at_once(tmp_path: Path) -> None:
    """Registrations of one user wait for each other: none counts before the other is written."""

    async def work() -> None:
        async with domain(tmp_path, limit="# max_contacts = 8|max_contacts = 2") as at:
            await at.add("carol")
            clients = [await UdpClient.open(at) for _ in range(4)]
            first = [register(at, contacts=f"<sip:c@192.0.2.{number}>") for number in range(4)]
            challenges = [await client.ask(made) for client, made in zip(clients, first, strict=True)]
            for client, made, challenged in zip(clients, first, challenges, strict=True):
                client.send(signed(made, challenged, "carol", "secret"))
            answers = [(await client.response()).status for client in clients]
            assert sorted(answers) == [200, 200, 403, 403]
            assert at.value("wisp_bindings") == 2

    run(work)


def test_bindings_expire(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path, limit="# min_expires_s = 60|min_expires_s = 1") as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            await answered(client, register(at, contacts="<sip:c@192.0.2.1>", expires="1"))
            assert at.value("wisp_bindings") == 1
            await asyncio.sleep(3.3)  # it is looked for in the second after its end, once a second
            assert at.value("wisp_bindings") == 0

    run(work)


def test_challenge_and_wrong_password(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            challenged = await client.ask(register(at, contacts="<sip:c@192.0.2.1>"))
            challenges = [Challenge.parse(value) for value in challenged.get_all("www-authenticate")]
            assert [(one.algorithm, one.stale) for one in challenges] == [(b"SHA-256", False)]
            refused = await answered(client, register(at, contacts="<sip:c@192.0.2.1>"), "wrong")
            assert refused.status == 401
            assert at.value("wisp_auth_total", result="failed") == 1
            assert at.value("wisp_bindings") == 0
            assert (await answered(client, register(at, contacts="<sip:c@192.0.2.1>"))).status == 200

    run(work)


def test_password_changed_while_running(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            await client.register(at, "carol")
            await at.remove("carol", look=False)
            await at.add("carol", password="new")
            assert at.value("wisp_bindings") == 0
            assert (await answered(client, register(at))).status == 401
            assert (await answered(client, register(at), "new")).status == 200

    run(work)


def test_a_removed_phone_is_called_no_more(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            await at.add("dave")
            carol, dave = await UdpClient.open(at), await UdpClient.open(at)
            await carol.register(at, "carol")
            await dave.register(at, "dave")
            await at.remove("carol")
            assert at.value("wisp_bindings") == 1
            made = request("MESSAGE", "sip:carol@a.example", "dave")
            assert (await dave.ask_signed(made, "dave")).status == 404
            await carol.silence()

    run(work)


def test_an_account_that_goes_while_its_registration_is_written(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            made = register(at, contacts="<sip:c@192.0.2.1>")
            challenged = await client.ask(made)
            location = at.neighbour._location
            change = location.change

            async def late(*arguments: Any) -> None:
                await at.remove("carol")
                await change(*arguments)

            location.change = late  # type: ignore[method-assign]
            assert (await client.ask(signed(made, challenged, "carol", "secret"))).status == 403
            location.change = change  # type: ignore[method-assign]
            assert at.value("wisp_bindings") == 0
            await at.stop()
            await at.start()
            assert at.value("wisp_bindings") == 0

    run(work)


def test_nonce_counts_are_used_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            first = register(at, contacts="<sip:c@192.0.2.1>")
            challenged = await client.ask(first)
            again = signed(first, challenged, "carol", "secret")
            assert (await client.ask(again)).status == 200
            # The same credentials in another transaction: somebody has listened.
            replay = signed(first, challenged, "carol", "secret")
            answer = await client.ask(replay)
            assert answer.status == 401
            assert Challenge.parse(answer.get("www-authenticate") or b"").stale
            assert at.value("wisp_auth_total", result="replayed") == 1
            # The next count is fine.
            following = signed(first, challenged, "carol", "secret", count=2)
            following.set("CSeq", b"9 REGISTER")
            assert (await client.ask(following)).status == 200

    run(work)


def test_stale_nonce(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path, life="# nonce_life_s = 60|nonce_life_s = 5") as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            first = register(at, contacts="<sip:c@192.0.2.1>")
            challenged = await client.ask(first)
            nonces = at.neighbour._hops._nonces
            nonces._now = lambda: type(nonces)._now() + 6000  # type: ignore[method-assign]
            answer = await client.ask(signed(first, challenged, "carol", "secret"))
            assert Challenge.parse(answer.get("www-authenticate") or b"").stale
            assert (await client.ask(signed(first, answer, "carol", "secret"))).status == 200

    run(work)


@pytest.mark.parametrize(("allowed", "algorithm"), [(False, b"SHA-256"), (True, b"MD5")])
def test_md5_only_where_configuration_and_account_say_so(tmp_path: Path, allowed: bool, algorithm: bytes) -> None:
    async def work() -> None:
        changes = {"md5": "# md5 = false|md5 = true"} if allowed else {}
        async with domain(tmp_path, **changes) as at:
            await at.add("old", md5=True)
            await at.add("carol")
            client = await UdpClient.open(at)
            challenged = await client.ask(register(at, "old"))
            assert [Challenge.parse(one).algorithm for one in challenged.get_all("www-authenticate")] == [algorithm]
            challenged = await client.ask(register(at, "carol"))
            assert [Challenge.parse(one).algorithm for one in challenged.get_all("www-authenticate")] == [b"SHA-256"]
            if allowed:
                await client.register(at, "old", md5=True)
                # MD5 for an account that has SHA-256 is refused, whatever the challenge said.
                made = register(at, "carol")
                challenged = await client.ask(made)
                forged = challenged.get("www-authenticate") or b""
                challenged.set("WWW-Authenticate", forged.replace(b"SHA-256", b"MD5"))
                assert (await client.ask(signed(made, challenged, "carol", "secret", md5=True))).status == 401

    run(work)


def test_other_targets(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            for uri, to, status in (
                ("sip:b.example", "sip:carol@a.example", 403),
                ("sip:a.example", "sip:carol@b.example", 404),
                ("sip:a.example", "sip:a.example", 404),
                ("sip:a.example", "tel:+123", 400),
                ("tel:+123", "sip:carol@a.example", 416),
            ):
                assert (await client.ask(request("REGISTER", uri, "carol", to=to))).status == status, (uri, to)
            made = register(at)
            made.add("Require", b"gruu")
            answer = await client.ask(made)
            assert (answer.status, answer.get("unsupported")) == (420, b"gruu")

    run(work)


@pytest.mark.parametrize(
    ("sender", "password", "status"),
    [
        ("carol", "secret", 403),  # whoever it is, it is not dave
        ("carol", "wrong", 401),
        ("dave", "wrong", 401),
        ("nobody", "secret", 401),  # a stranger learns nothing of whom there is
    ],
)
def test_nobody_registers_for_somebody_else(tmp_path: Path, sender: str, password: str, status: int) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            await at.add("dave")
            client = await UdpClient.open(at)
            made = request("REGISTER", "sip:a.example", sender, to="sip:dave@a.example", contact="sip:evil@192.0.2.66")
            refused = await client.ask_signed(made, sender, password)
            assert (refused.status, b"From and To differ" in (refused.get("warning") or b"")) == (status, status == 403)
            assert at.value("wisp_bindings") == 0

    run(work)


def test_whom_to_register(tmp_path: Path) -> None:
    """To and From are looked at as addresses-of-record: escapes undone, ports and parameters left out."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            for sender, to, status in (
                ("sip:carol@A.example:5060;x=y", "sips:%63arol@a.EXAMPLE;user=phone", 200),
                ("sip:carol@a.example", "sip:nobody@a.example", 404),
                ("sip:carol@b.example", "sip:carol@a.example", 403),
                ("tel:+123", "sip:carol@a.example", 403),
            ):
                made = request("REGISTER", "sip:a.example", to=to, contact="sip:c@192.0.2.1")
                made.set("From", f"<{sender}>;tag=x".encode())
                answer = await (client.ask(made) if status == 403 else answered(client, made))
                assert answer.status == status, (sender, to)
            assert set(bound(await answered(client, register(at)))) == {b"sip:c@192.0.2.1"}

    run(work)


def test_extensions_come_before_everything_else(tmp_path: Path) -> None:
    """RFC 3261 section 10.3 step 2: even a stranger is told which of them are not known, and of these alone."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            made = request("REGISTER", "sip:a.example", "carol", to="sip:carol@b.example")
            made.add("Require", b"path, gruu, outbound")
            made.add("Require", b"Fancy")
            refused = await client.ask(made)
            assert (refused.status, refused.get("unsupported")) == (420, b"gruu, fancy")
            made = register(at, contacts="<sip:c@192.0.2.1>")
            made.add("Require", b"path, outbound")
            ok = await answered(client, made)
            assert (ok.status, ok.get("supported"), ok.get("require")) == (200, b"path, outbound", None)

    run(work)


def test_everything_or_nothing(tmp_path: Path) -> None:
    """Section 10.3 step 7: "if and only if all binding updates and additions succeed"."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            await answered(client, register(at, cseq=10, contacts="<sip:c@192.0.2.1>", call_id="x"))
            for contacts, call_id, status in (
                ("<sip:c@192.0.2.2>, <sip:c@192.0.2.1>", "x", 500),  # the CSeq does not rise
                ("<sip:c@192.0.2.2>, <sip:c@192.0.2.3>;expires=1", "y", 423),
                ("<sip:c@192.0.2.2>, <sip:c@192.0.2.3>;q=7", "y", 400),
                ("<sip:c@192.0.2.1>;expires=0, <sip:c@192.0.2.2>, <sip:%63@192.0.2.2>", "y", 400),
            ):
                answer = await answered(client, register(at, cseq=5, contacts=contacts, call_id=call_id))
                assert answer.status == status, contacts
                assert set(bound(await answered(client, register(at)))) == {b"sip:c@192.0.2.1"}
            store = at.neighbour._location._store
            write = store.write

            async def fails(*statements: object) -> None:
                raise StoreError("disk full")

            store.write = fails  # type: ignore[method-assign]
            failed = await answered(client, register(at, contacts="<sip:c@192.0.2.2>, <sip:c@192.0.2.1>;expires=0"))
            store.write = write  # type: ignore[method-assign]
            assert (failed.status, failed.get("contact")) == (500, None)
            assert set(bound(await answered(client, register(at)))) == {b"sip:c@192.0.2.1"}

    run(work)


def test_all_of_them_in_their_order(tmp_path: Path) -> None:
    """Section 10.3 step 6: ``Contact: *`` asks each binding whether it is of a later request of the same Call-ID."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            await answered(client, register(at, cseq=10, contacts="<sip:c@192.0.2.1>", call_id="x"))
            await answered(client, register(at, cseq=20, contacts="<sip:c@192.0.2.2>", call_id="y"))
            late = await answered(client, register(at, cseq=15, contacts="*", expires="0", call_id="y"))
            assert late.status == 500
            assert len(bound(await answered(client, register(at)))) == 2
            gone = await answered(client, register(at, cseq=30, contacts="*", expires="0", call_id="y"))
            assert (gone.status, bound(gone), gone.get("expires")) == (200, {}, None)

    run(work)


def test_record_route_has_no_meaning(tmp_path: Path) -> None:
    """Section 10.3: it "MUST" be ignored, and not be in the answer; so with a Route that leads here."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            made = register(at, contacts="<sip:c@192.0.2.1>")
            made.add("Record-Route", b"<sip:192.0.2.66;lr>")
            made.add("Route", f"<sip:{at.address};lr>".encode())
            ok = await answered(client, made)
            assert (ok.status, ok.get("record-route")) == (200, None)

    run(work)


def test_a_contact_of_another_kind(tmp_path: Path) -> None:
    """ "They MAY use any URI scheme": it is kept and told, and nobody is called there."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            await at.add("dave")
            client, dave = await UdpClient.open(at), await UdpClient.open(at)
            ok = await answered(client, register(at, contacts="<mailto:c@b.example>, <tel:+1>;q=0.5", expires="60"))
            assert bound(ok) == {b"mailto:c@b.example": 60, b"tel:+1": 60}
            await at.stop()
            await at.start()
            made = request("MESSAGE", "sip:carol@a.example", "dave")
            assert (await dave.ask_signed(made, "dave")).status == 480
            await client.silence(0.1)
            ok = await answered(client, register(at, contacts="<tel:+1>;expires=0"))
            assert set(bound(ok)) == {b"mailto:c@b.example"}

    run(work)


def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    """A process that is killed right after its 200 knows it all when it comes back."""
    instance = "urn:uuid:00000000-0000-1000-8000-aabbccddeeff"

    async def work() -> None:
        with Lab(tmp_path) as lab:
            at = Domain(lab, "a.example", lab.make_domains("a.example")["a.example"])
            store = Store(load(at.folder / "wisp.toml").store_url)
            await store.open()
            await add_account(store, "a.example", "carol", "secret", is_terminal=False)
            await store.close()
            client = await UdpClient.open(at)
            for number in range(1, 4):
                process = lab.start_neighbour("a.example")
                flow = f'<sip:c@192.0.2.{number}>;q=0.{number};reg-id={number};+sip.instance="<{instance}>"'
                made = register(at, contacts=flow)
                made.add("Supported", b"path, outbound")
                ok = await answered(client, made)
                os.kill(process.pid, signal.SIGKILL)
                assert ok.status == 200
                process.wait_until(lambda one=process: not one.is_running, "its end")
            lab.start_neighbour("a.example")
            found = (await answered(client, register(at))).addresses("contact")
            client.close()
            shown = [(one.uri, one.param("q"), one.param("reg-id"), one.param("+sip.instance")) for one in found]
            assert shown == [
                (f"sip:c@192.0.2.{number}".encode(), f"0.{number}".encode(), b"%d" % number, f"<{instance}>".encode())
                for number in (3, 2, 1)
            ]

    run(work)
