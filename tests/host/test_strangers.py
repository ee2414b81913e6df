"""What people without rights try, and what one user must not be able to do to another."""

import asyncio
import gc
import ssl
from pathlib import Path
from typing import TypeVar

import pytest
from sip import (
    Domain,
    StreamClient,
    UdpClient,
    answer,
    call,
    domain,
    in_dialog,
    phones,
    request,
    run,
    signed,
)

from neighbour.store import accounts
from neighbour.transport import stream
from sipwire.headers import address_of, cseq_of
from sipwire.message import MAX_HEAD_BYTES, Message, Request, Response
from sipwire.transaction import ack_for, cancel_for
from sipwire.uri import uri_of

M = TypeVar("M", bound=Message)


def without_length(message: M) -> M:
    message.fields = [field for field in message.fields if field[0] != "content-length"]
    return message


async def stream_phone(at: Domain, user: str) -> StreamClient:
    await at.add(user)
    client = await StreamClient.open(at)
    made = request("REGISTER", "sip:a.example", user, to=f"sip:{user}@a.example", contact=f"sip:{user}@192.0.2.1")
    response = await client.ask(signed(made, await client.ask(made), user, "secret"))
    assert response.status == 200
    return client


async def dialog(at: Domain) -> tuple[UdpClient, UdpClient, Request, Request, Response]:
    """Carol calls Dave: both, her INVITE as sent and as he got it, and his answer as she got it."""
    carol, dave = await phones(at, "carol", "dave")
    sent = await call(carol, "carol", "sip:dave@a.example")
    got = await dave.request("INVITE")
    dave.send(answer(got, 200, dave.contact))
    return carol, dave, sent, got, await carol.response()


def test_a_datagram_without_length_leaves_by_a_stream_with_one(tmp_path: Path) -> None:
    """Legal over UDP (RFC 3261 section 18.3); forwarded as it is it would end the connection of others."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            (carol,) = await phones(at, "carol")
            erin = await stream_phone(at, "erin")
            made = request("MESSAGE", "sip:erin@a.example", "carol", body=b"hello")
            challenged = await carol.ask(made)
            carol.send(without_length(signed(made, challenged, "carol", "secret")))
            got = await erin.request("MESSAGE")
            assert got.body == b"hello"
            assert got.get("content-length") == b"5"
            erin.send(got.response(200, "OK"))
            assert (await carol.response()).status == 200
            # And the other way: an answer.
            erin.send(made := request("MESSAGE", "sip:carol@a.example", "erin"))
            erin.send(signed(made, await erin.response(), "erin", "secret"))
            got = await carol.request("MESSAGE")
            response = got.response(200, "OK")
            response.body = b"words"
            carol.send(without_length(response))
            answered = await erin.response()
            assert (answered.status, answered.body) == (200, b"words")
            assert not erin.closed.is_set()

    run(work)


def test_a_head_too_large_is_answered_and_goes_nowhere(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            (carol,) = await phones(at, "carol")
            erin = await stream_phone(at, "erin")
            large = ("X-Large", "y" * MAX_HEAD_BYTES)
            made = request("MESSAGE", "sip:erin@a.example", "carol", headers=(large,))
            assert (await carol.ask(made)).status == 513
            # Just below the limit it goes through, with what we add.
            large = ("X-Large", "y" * (MAX_HEAD_BYTES - 1000))
            made = request("MESSAGE", "sip:erin@a.example", "carol", headers=(large,))
            carol.send(signed(made, await carol.ask(made), "carol", "secret"))
            erin.send((await erin.request("MESSAGE")).response(200, "OK"))
            assert (await carol.response()).status == 200

    run(work)


def test_a_cookie_is_good_for_its_dialog_only(tmp_path: Path) -> None:
    """Everybody whom an INVITE reached has it; none may be somebody else with it, or go anywhere else."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, _, sent, _, ok = await dialog(at)
            await at.add("alice", terminal=True)
            (erin,) = await phones(at, "erin")
            stranger = await UdpClient.open(at)

            def stolen(method: str = "MESSAGE") -> Request:
                return in_dialog(method, ok, carol.contact, 77, sent)

            made = stolen()
            made.set("From", made.get("from").replace(b"carol", b"ceo"))
            assert (await stranger.ask(made)).status == 407
            made = stolen()
            made.set("From", made.get("from").replace(b"carol", b"alice"))
            assert (await stranger.ask(made)).status == 494
            made = stolen()
            made.set("From", made.get("from").replace(b"a.example", b"x.example"))
            assert (await stranger.ask(made)).status == 403
            made = stolen()
            made.add("Route", b"<sip:b.example;lr>")
            assert (await stranger.ask(made)).status == 481
            made = stolen()
            made.uri = b"sip:erin@a.example"
            assert (await stranger.ask(made)).status == 481
            made = stolen("INVITE")
            made.uri = erin.contact.encode()
            stranger.send(made)  # to where Dave is, as the dialog has it, and not to her
            await erin.silence(0.3)

    run(work)


def test_a_contact_in_a_dialog_need_not_be_the_registered_one(tmp_path: Path) -> None:
    """Over UDP too the way is the one that the phone came by."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            invite = await call(carol, "carol", "sip:dave@a.example")
            dave.send(answer(await dave.request("INVITE"), 200, dave.contact.replace("sip:me@", "sip:dave-7@")))
            ok = await carol.response()
            carol.send(in_dialog("ACK", ok, carol.contact, 2, invite))
            assert (await dave.request("ACK")).uri.startswith(b"sip:dave-7@")
            carol.send(in_dialog("BYE", ok, carol.contact, 3, invite))
            bye = await dave.request("BYE")
            dave.send(bye.response(200, "OK"))
            assert (await carol.response()).status == 200

    run(work)


def test_our_address_is_us(tmp_path: Path) -> None:
    """With the port said or left out, as registrar, in Route and in the Request-URI."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            for host in (at.address, f"{at.address}:5060"):
                made = request("REGISTER", f"sip:{host}", "carol", to="sip:carol@a.example", contact=carol.contact)
                assert (await carol.ask_signed(made, "carol")).status == 200
                for target, headers in (
                    (f"sip:dave@{host}", ()),
                    ("sip:dave@a.example", (("Route", f"<sip:{host};lr>"),)),
                ):
                    made = request("MESSAGE", target, "carol", headers=headers)
                    task = asyncio.create_task(carol.ask_signed(made, "carol"))
                    dave.send((await dave.request("MESSAGE")).response(200, "OK"))
                    assert (await task).status == 200

    run(work)


def test_sips_takes_no_plain_way(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            made = request("MESSAGE", "sips:dave@a.example", "carol")
            refused = await carol.ask(made)
            assert refused.status == 403
            assert b"TLS on every hop" in (refused.get("warning") or b"")
            await at.add("erin")
            context = ssl.create_default_context(cafile=str(at.folder / "ca" / "root.pem"))
            erin = await StreamClient.open(at, tls=context)
            made = request("MESSAGE", "sips:dave@a.example", "erin")
            refused = await erin.ask(signed(made, await erin.ask(made), "erin", "secret"))
            assert refused.status == 480
            assert (refused.get("warning") or b"").startswith(b"380 a.example ")
            await dave.silence(0.2)

    run(work)


def test_only_whom_we_asked_answers(tmp_path: Path) -> None:
    """Whoever knows a branch is not yet the one whom it was sent to."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            await call(carol, "carol", "sip:dave@a.example")
            got = await dave.request("INVITE")
            stranger, connected = await UdpClient.open(at), await StreamClient.open(at)
            for one in (stranger, connected):
                one.send(answer(got, 200, "sip:me@192.0.2.66"))
            await asyncio.sleep(0.2)
            assert at.value("wisp_stray_responses_total") == 2
            dave.send(answer(got, 486))
            assert (await carol.response()).status == 486

    run(work)


def test_only_the_caller_cancels(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            invite = await call(carol, "carol", "sip:dave@a.example")
            got = await dave.request("INVITE")
            dave.send(answer(got, 180))
            while (await carol.response(provisional=True)).status != 180:
                pass
            stranger = await StreamClient.open(at)
            stranger.send(cancel_for(invite))
            assert (await stranger.response()).status == 481
            (await UdpClient.open(at)).send(invite)  # the same branch from elsewhere starts nothing either
            await dave.silence(0.3)
            assert at.value("wisp_stray_requests_total") == 1
            carol.send(cancel_for(invite))
            await dave.request("CANCEL")

    run(work)


def test_strangers_are_answered_once(tmp_path: Path) -> None:
    """Nothing is sent again and again to an address that anybody can forge."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            stranger = await UdpClient.open(at)
            for made, status in (
                (request("INVITE", "sip:dave@a.example", host="x.example"), 403),
                (request("INVITE", "sip:dave@a.example", "dave", max_forwards=0), 483),
                (request("INVITE", "sip:dave@a.example", headers=(("Proxy-Require", "x"),)), 420),
                (request("INVITE", "sip:dave@a.example"), 407),
                (request("INVITE", "sip:dave@a.example", headers=(("Route", "<sip:a.example"),)), 400),
                (request("CANCEL", "sip:dave@a.example"), 481),
            ):
                assert (await stranger.ask(made)).status == status
                await stranger.silence(0.7)
            assert at.value("wisp_transactions") == 0

    run(work)


def test_identities_are_ours_to_assert(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            names = ("P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID", "Security-Status")
            headers = tuple((name, "<sip:ceo@a.example>") for name in names)
            made = request("MESSAGE", "sip:dave@a.example", "carol", headers=headers)
            task = asyncio.create_task(carol.ask_signed(made, "carol"))
            got = await dave.request("MESSAGE")
            assert b"ceo" not in got.serialize()
            response = got.response(200, "OK")
            for name, value in headers:
                response.add(name, value.encode())
            dave.send(response)
            assert b"ceo" not in (await task).serialize()

    run(work)


def test_counters_have_no_names_of_strangers(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            for method in ("FROB", "KNIT"):
                task = asyncio.create_task(carol.ask_signed(request(method, "sip:dave@a.example", "carol"), "carol"))
                dave.send((await dave.request(method)).response(200, "OK"))
                assert (await task).status == 200
            assert at.value("wisp_requests_total", method="other", status="200") == 2

    run(work)


def test_strangers_do_not_keep_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has not said who they are in time goes, keep-alives or not; a phone stays."""
    monkeypatch.setattr(stream, "_STRANGER_S", 1.0)

    async def work() -> None:
        async with domain(tmp_path) as at:
            erin = await stream_phone(at, "erin")
            stranger = await StreamClient.open(at)
            for _ in range(8):
                stranger.send_raw(b"\r\n\r\n")
                await asyncio.sleep(0.25)
            assert stranger.closed.is_set()
            assert not erin.closed.is_set()

    run(work)


def test_strangers_do_not_use_up_connections(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            at.neighbour.connections.most = 5
            erin = await stream_phone(at, "erin")
            first, *_ = strangers = [await StreamClient.open(at) for _ in range(4)]
            later = await stream_phone(at, "fred")
            await asyncio.wait_for(first.closed.wait(), 2)
            assert not any(one.closed.is_set() for one in (erin, later, *strangers[1:]))

    run(work)


# Nothing is amplified (the address may be anybody's), and nothing is remembered.

LINES = "Via: SIP/2.0/UDP x;branch=z9hG4bK{n}\r\nFrom: <sip:{user}@{host}>;tag=1\r\nTo: <{to}>\r\nCall-ID: {n}\r\nCSeq: 1 {method}\r\nMax-Forwards: {hops}\r\n"


def smallest(
    method: str,
    uri: str = "sip:a.example",
    *more: str,
    user: str = "a",
    host: str = "a.example",
    to: str = "sip:a@a.example",
    version: str = "SIP/2.0",
    hops: str = "70",
) -> str:
    """A request with the least that one must have (RFC 3261 section 8.1.1)."""
    lines = (
        LINES.replace("{user}", user)
        .replace("{host}", host)
        .replace("{to}", to)
        .replace("{method}", method)
        .replace("{hops}", hops)
    )
    return f"{method} {uri} {version}\r\n{lines}" + "".join(f"{line}\r\n" for line in more) + "\r\n"


SEC_AGREE = 'Security-Client: wisp-hop;alg=hmac-sha-256-128;ealg=aes-ctr-128;spi=1;nonce="AAAAAAAAAAAAAAAAAAAAAA=="'
CREDENTIALS = 'Digest username="a",realm="a.example",nonce="x",uri="sip:a.example",response="x",algorithm=SHA-256,qop=auth,nc=00000001,cnonce="x"'
PROVOKED = [
    # What comes, its answer's status (0 for none), and how large that may be at the most: twice as much as comes.
    ("nothing", "", 0),
    ("a keep-alive", "\r\n\r\n", 0),
    ("a keep-alive of zeros", "\0\0\0\0", 0),
    ("a frame of nobody", "\xe1" + "x" * 40, 0),
    ("a STUN request", "\0\1\0\0\x21\x12\xa4\x42" + "t" * 12, 0x0101),
    ("a STUN request with what we do not know", "\0\1\0\4\x21\x12\xa4\x42" + "t" * 12 + "\x7f\xff\0\0", 0x0111),
    ("a STUN answer", "\1\1\0\0\x21\x12\xa4\x42" + "t" * 12, 0),
    ("half a message", "OPTIONS sip:a.example SIP/2.0\r\nVia: x", 0),
    ("malformed and tiny", "A a SIP/2.0\r\nv:SIP/2.0/UDP x\r\nf:a:a\r\nt:a:a\r\ni:1\r\nCSeq:1 B\r\n\r\n", 400),
    ("malformed Via", smallest("OPTIONS").replace("SIP/2.0/UDP x", "SIP/2.0/UDP"), 400),
    ("malformed Max-Forwards", smallest("OPTIONS", hops="x"), 400),
    ("two Call-IDs", smallest("OPTIONS", "sip:a.example", "i: 2"), 400),
    ("challenged as a registrar", smallest("REGISTER"), 401),
    ("challenged for an agreement", smallest("REGISTER", "sip:a.example", SEC_AGREE), 401),
    ("wrong credentials, a nonce of nobody", smallest("REGISTER", "sip:a.example", f"Authorization: {CREDENTIALS}"), 401),
    ("challenged as a proxy", smallest("INVITE", "sip:b@a.example"), 407),
    ("challenged, the shortest method", smallest("A", "sip:a.example"), 407),
    ("less than it must have, and than half its challenge", smallest("A").replace("Max-Forwards: 70\r\n", ""), 0),
    ("wrong credentials to the proxy", smallest("INVITE", "sip:b@a.example", f"Proxy-Authorization: {CREDENTIALS}"), 407),
    ("a REGISTER for another domain", smallest("REGISTER", "sip:x.example"), 403),
    ("a user of another domain", smallest("INVITE", "sip:b@a.example", host="x.example"), 403),
    ("a REGISTER of another domain's user", smallest("REGISTER", to="sip:a@x.example"), 404),
    ("a scheme we do not know", smallest("REGISTER", "tel:1"), 416),
    ("an extension we do not know", smallest("OPTIONS", "sip:a.example", "Proxy-Require: x"), 420),
    ("many of them", smallest("OPTIONS", "sip:a.example", "Proxy-Require: " + ",".join("x" * 1000)), 420),
    ("an agreement not over UDP", smallest("REGISTER", "sip:a.example", "Require: sec-agree,x"), 420),
    ("a CANCEL of nothing", smallest("CANCEL", "sip:b@a.example"), 481),
    ("too many hops", smallest("INVITE", "sip:b@a.example", hops="0"), 483),
    ("a terminal's request without a frame", smallest("INVITE", "sip:b@a.example", user="alice"), 494),
    ("a terminal's REGISTER without an offer", smallest("REGISTER", to="sip:alice@a.example"), 494),
    ("an offer that is of no use", smallest("REGISTER", "sip:a.example", "Security-Client: tls"), 494),
    ("another version", smallest("OPTIONS", version="SIP/7.0"), 505),
    ("too large", smallest("OPTIONS", "sip:a.example", "X: " + "y" * 13000), 513),
    ("many Vias", smallest("OPTIONS", "sip:a.example", *["Via: SIP/2.0/UDP y"] * 100), 407),
    ("many names in To", smallest("OPTIONS", "sip:a.example").replace("To: <", "To: " + "n" * 5000 + " <"), 407),
    ("an ACK", smallest("ACK", "sip:b@a.example"), 0),
    ("an answer that nobody waits for", smallest("OPTIONS").replace("OPTIONS sip:a.example SIP/2.0", "SIP/2.0 200 OK"), 0),
]  # fmt: skip


def test_nothing_is_amplified(tmp_path: Path) -> None:
    """Whatever a stranger sends: at most one datagram for one, and at most twice its bytes."""
    gains = {}

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            stranger = await UdpClient.open(at)
            for number, (what, text, status) in enumerate(PROVOKED):
                data = text.replace("{n}", str(number)).encode("latin-1")
                # Without rport, answers go to the port of the Via at the address of the source.
                data = data.replace(b"UDP x;", f"UDP {stranger.address[0]}:{stranger.address[1]};".encode())
                data = data.replace(b"UDP x\r", f"UDP {stranger.address[0]}:{stranger.address[1]}\r".encode())
                stranger.send_raw(data)
                if status == 0:
                    await stranger.silence(0.05)
                    continue
                try:
                    answered = await stranger.raw()
                except TimeoutError:
                    raise AssertionError(what) from None
                found = int.from_bytes(answered[:2], "big") if data[:1] == b"\0" else int(answered.split(b" ")[1])
                assert found == status, (what, answered[:100])
                assert len(answered) <= 2 * len(data), (what, len(data), len(answered))
                gains[what] = len(answered) / len(data)
            await stranger.silence(1.2)  # nothing is sent again
            at.neighbour._overload.look = lambda _: None  # type: ignore[method-assign]
            at.neighbour._overload.level = 1000
            data = smallest("INVITE", "sip:b@a.example").replace("{n}", "o").encode()
            stranger.send_raw(data.replace(b"UDP x;", b"UDP x;rport;"))
            answered = await stranger.raw()
            assert answered.startswith(b"SIP/2.0 503 ")
            assert len(answered) <= 2 * len(data)
            gains["overloaded"] = len(answered) / len(data)
            await stranger.silence(0.7)
            assert at.value("wisp_transactions") == 0
            assert at.neighbour._proxy._forks == {}

    run(work)
    assert len(gains) > 20
    assert 1.2 < max(gains.values()) <= 2, sorted(gains.items(), key=lambda pair: pair[1])


def test_challenges_are_sent_once_and_from_no_state(tmp_path: Path) -> None:
    """401, 407 and 494: for each request one, a fresh one for its repetition, and nothing is left of either."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            stranger = await UdpClient.open(at)
            for made, status, header in (
                (request("REGISTER", "sip:a.example", "carol", to="sip:carol@a.example"), 401, "www-authenticate"),
                (request("INVITE", "sip:dave@a.example", "carol"), 407, "proxy-authenticate"),
                (request("INVITE", "sip:dave@a.example", "alice"), 494, "security-server"),
            ):
                challenges = []
                for _ in range(3):
                    challenged = await stranger.ask(made)  # the same branch each time
                    assert challenged.status == status
                    challenges += challenged.get_all(header)
                    if made.method == "INVITE":
                        stranger.send(ack_for(made, challenged))
                assert len(set(challenges)) == 3
                await stranger.silence(0.7)
                assert at.value("wisp_transactions") == 0
                assert at.neighbour._proxy._forks == {}
                assert at.neighbour._proxy.working == 0

    run(work)


def test_nobody_is_told_to_wait_before_it_is_known_who_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 100 and then the challenge would be two datagrams for one, when a look for the account takes its time."""
    monkeypatch.setattr(accounts, "_LOOK_S", 0.6)

    async def work() -> None:
        async with domain(tmp_path) as at:
            (carol,) = await phones(at, "carol")
            made = request("INVITE", "sip:carol@a.example", "dave")
            challenge = await carol.ask(made)
            carol.send(guess := signed(made, challenge, "dave", "guess"))
            await asyncio.sleep(0.3)
            carol.send(guess)  # repeated meanwhile
            answers = [await carol.get()]
            await carol.silence(0.3)
            assert [one.status for one in answers if isinstance(one, Response)] == [407]

    run(work)


def test_strangers_leave_nothing_behind(tmp_path: Path) -> None:
    """Thousands of INVITEs of strangers, from many addresses: as many objects as before, and none of them theirs."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            strangers = [await UdpClient.open(at) for _ in range(20)]

            async def knock(times: int) -> int:
                for _ in range(times):
                    for one in strangers:
                        one.send(request("INVITE", "sip:dave@a.example", "nobody"))
                        assert (await one.raw()).startswith(b"SIP/2.0 407 ")
                await asyncio.sleep(0.5)  # timers that were stopped are thrown away when their time comes
                for known in (address_of, cseq_of, uri_of):  # of which there is a bounded number
                    known.cache_clear()
                gc.collect()
                return len(gc.get_objects())

            await knock(5)
            before = await knock(5)
            after = await knock(100)
            assert after - before < 200  # for 2000 INVITEs
            assert at.value("wisp_transactions") == 0
            assert at.value("wisp_auth_total", result="challenged") >= 2200

    run(work)


def test_what_is_remembered_of_strangers_is_short() -> None:
    """Addresses that were read are kept for the next message; thousands of the largest would be a hundred megabytes."""
    long = b"sip:" + b"x" * 300 + b"@a.example"
    short = b"sip:strangers@a.example"
    assert uri_of(long) is not uri_of(long)
    assert uri_of(short) is uri_of(short)
    assert address_of(b"<%s>" % long) is not address_of(b"<%s>" % long)
    assert address_of(b"<%s>" % short) is address_of(b"<%s>" % short)
    assert cseq_of(b"1 " + b"X" * 300) is not cseq_of(b"1 " + b"X" * 300)
    assert cseq_of(b"77 INVITE") is cseq_of(b"77 INVITE")
