"""Calls with a setup key (WIRE section 4.1): the neighbours add nothing to them, and let nothing else through for it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from agents import Agent, Trunk, account, configured
from attacks.middle import BACK, FORTH, Message
from introduced import Terminal
from sealed import NOT_SEALED, Phone, World, between, reason, told
from sip import Domain, answer, in_dialog, request, run

from neighbour.agent.keyed import brings_keys, kid_of_call, revokes
from neighbour.config import load
from neighbour.refusal import RefusedError
from neighbour.store.accounts import set_account
from neighbour.store.database import Store
from sipwire.introduction import SETUP_KEYS
from sipwire.message import Request, Response, parse
from sipwire.setup import ANSWER, BYE, BYE_ANSWER, INVITE, SetupKey
from sipwire.setup_keys import kid_of, mac_key

KEY = bytes(range(32))
KID = kid_of(KEY)
OTHER = kid_of(bytes(32))
ALICE, DAVE = "sip:alice@a.example", "sip:dave@b.example"
MEDIUM = 'level=medium;by="%s";tls'
OPERATIONS = ("sign", "encrypt", "verify", "decrypt")
_HEAD = b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
_AUDIO = b"m=audio 4000 RTP/SAVP 0\r\n"
_INLINE = b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + b"A" * 40 + b"\r\n"


def crypto(kid: bytes = KID) -> bytes:
    return b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 setup:%s\r\n" % kid


SDP = _HEAD + _AUDIO + crypto()
INLINE = _HEAD + _AUDIO + _INLINE


def header(
    made: Request | Response, kind: bytes, sides: tuple[str, str], asked: bytes = b"-", kid: bytes = KID
) -> bytes:
    """The Setup-Key of a message, by its MAC."""
    life, uses = (3600, 5) if kind in (BYE, BYE_ANSWER) else (None, None)
    one = SetupKey.make(kid, 1, bytes(range(16)), life, uses)
    parties = sides[0].encode(), sides[1].encode()
    one.mac = one.compute(mac_key(KEY), kind, parties, (made.call_id, made.cseq.number), asked, made.body)
    return one.serialize()


def invite(
    caller: Terminal, to: str, body: bytes = SDP, *, kid: bytes = KID, keyed: bool = True, method: str = "INVITE"
) -> Request:
    made = request(method, to, caller.user, caller.at.name, contact=caller.hopper.contact, from_tag=f"t{id(body)}")
    made.set_body(b"application/sdp", body)
    if keyed:
        made.add("Setup-Key", header(made, INVITE, (caller.aor, to), kid=kid))
    return made


def accept(callee: Terminal, got: Request, body: bytes = SDP, *, kid: bytes = KID, status: int = 200) -> Response:
    made = answer(got, status, callee.hopper.contact)
    made.set_body(b"application/sdp", body)
    if kid:
        made.add("Setup-Key", header(made, ANSWER, (ALICE, DAVE), b"x", kid=kid))
    return made


def spent(*domains: Domain) -> dict[str, float]:
    """What the security agents have done that is asymmetric."""
    return {name: sum(at.value("wisp_asymmetric_total", operation=name) for at in domains) for name in OPERATIONS}


NOTHING = dict.fromkeys(OPERATIONS, 0.0)


async def setting(at: Domain, user: str, **settings: str) -> None:
    store = Store(load(at.folder / "wisp.toml").store_url)
    await store.open()
    assert await set_account(store, user, **settings)  # type: ignore[arg-type]
    await store.close()
    await at.neighbour._accounts.refresh()


async def two(world: World) -> tuple[Terminal, Terminal]:
    return await Terminal.make(world.left, "alice"), await Terminal.make(world.right, "dave")


async def whole_call(world: World, alice: Terminal, dave: Terminal) -> Response:
    """INVITE, 180, 200, ACK, a re-INVITE of either side, and a BYE; returns the answer."""
    sent = invite(alice, DAVE)
    alice.send(sent)
    got = await dave.request()
    assert (got.method, got.body, got.get("setup-key")) == ("INVITE", SDP, sent.get("setup-key"))
    assert told(got) == MEDIUM % "a.example"
    dave.send(answer(got, 180))
    ok = accept(dave, got)
    dave.send(ok)
    answered = await alice._final()
    assert (answered.status, answered.body, answered.get("setup-key")) == (200, SDP, ok.get("setup-key"))
    assert told(answered) == MEDIUM % "b.example"
    alice.send(in_dialog("ACK", answered, alice.hopper.contact, sent.cseq.number, sent))
    assert (await dave.request()).method == "ACK"
    for number, method in enumerate(("UPDATE", "INVITE"), sent.cseq.number + 1):
        again = in_dialog(method, answered, alice.hopper.contact, number, sent)
        again.set_body(b"application/sdp", SDP)
        again.add("Setup-Key", header(again, INVITE, (ALICE, DAVE)))
        alice.send(again)
        got = await dave.request()
        assert (got.method, got.body) == (method, SDP)
        dave.send(accept(dave, got))
        assert (await alice._final()).body == SDP
        if method == "INVITE":
            alice.send(in_dialog("ACK", answered, alice.hopper.contact, number, sent))
            assert (await dave.request()).method == "ACK"
    bye = in_dialog("BYE", answered, alice.hopper.contact, sent.cseq.number + 3, sent)
    bye.add("Setup-Key", header(bye, BYE, (ALICE, DAVE)))
    alice.send(bye)
    got = await dave.request()
    assert got.get("setup-key") == bye.get("setup-key")
    done = answer(got, 200)
    done.add("Setup-Key", header(done, BYE_ANSWER, (ALICE, DAVE), b"x"))
    dave.send(done)
    assert (await alice._final()).get("setup-key") == done.get("setup-key")
    return answered


@pytest.mark.parametrize("level", ["", "medium", "heavy"])
def test_nothing_asymmetric(tmp_path: Path, level: str) -> None:
    """A whole call between terminals that ask for heavy security, signing and encrypting: not one operation."""

    async def work() -> None:
        async with between(tmp_path, level=level) as world:
            alice, dave = await two(world)
            for at, user in ((world.left, "alice"), (world.right, "dave")):
                await setting(at, user, level="heavy", assist="sign,encrypt")
            await whole_call(world, alice, dave)
            assert spent(world.left, world.right) == NOTHING
            assert world.left.value("wisp_setup_calls_total", direction="out") == 2
            assert world.right.value("wisp_setup_calls_total", direction="in") == 2
            assert not world.count(world.forth, "SUBSCRIBE"), "nor is anybody asked for a certificate"
            assert not [one for way in (world.forth, world.back) for _, one in way.seen if b"pkcs7" in one.serialize()]
            # The same call without a setup key costs what it did.
            sent = invite(alice, DAVE, keyed=False)
            alice.send(sent)
            dave.send(accept(dave, await dave.request(), kid=b""))
            assert (await alice._final()).status == 200
            assert spent(world.left, world.right) == dict.fromkeys(OPERATIONS, 2.0)

    run(work)


def test_neighbours_that_can_sign_nothing(tmp_path: Path) -> None:
    """At heavy they could pass no call on; one with a setup key asks nothing of them."""

    def prepare(lab: object) -> None:
        for name in ("a.example", "b.example"):
            lab.change(name, 'authority = "../ca"', '# authority = ""')  # type: ignore[attr-defined]

    async def work() -> None:
        async with between(tmp_path, prepare=prepare) as world:
            alice, dave = await two(world)
            await whole_call(world, alice, dave)
            alice.send(invite(alice, DAVE, keyed=False))
            refused = await alice._final()
            assert (refused.status, reason(refused)) == (488, "no certificate to sign with; see security.authority")

    run(work)


@pytest.mark.parametrize("status", [428, 403, 488, 486])
def test_an_answer_that_refuses(tmp_path: Path, status: int) -> None:
    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world)
            alice.send(invite(alice, DAVE))
            dave.send(answer(await dave.request(), status))
            assert (await alice._final()).status == status
            assert spent(world.left, world.right) == NOTHING

    run(work)


@pytest.mark.parametrize("level", ["medium", "heavy"])
@pytest.mark.parametrize("trunk", [Trunk("b.example", protection="none"), Trunk(protection="tls")])
def test_the_trunk_is_demanded(tmp_path: Path, level: str, trunk: Trunk) -> None:
    """A setup key protects the call from end to end; who calls whom is still nobody's business on the way."""
    user = replace(account("alice"), is_terminal=True)
    agent = Agent(configured(tmp_path, "a.example", security=f'level = "{level}"'), [], {}, 0)
    to, back = message(), message(start=_START.replace(b"dave@b.example", b"alice@a.example"))
    assert isinstance(to, Request)
    assert isinstance(back, Request)

    def works(way: Trunk) -> None:
        same, sent = asyncio.run(agent.seal_request(to, agent.wish_of(user), user, way, "b.example"))  # type: ignore[arg-type]
        assert (same, sent.kid) == (to, KID)
        assert agent.open_request(back, user, "alice", way, "b.example").kid == KID  # type: ignore[arg-type]

    with pytest.raises(RefusedError, match="488"):
        works(trunk)
    works(Trunk("b.example"))
    received = agent.open_request(back, user, "alice", Trunk("b.example"), "b.example")  # type: ignore[arg-type]
    agent.check_level(back, received, user, Trunk("b.example"))  # type: ignore[arg-type]
    # One who demands more than the one it was for, and one whose phone would check nothing.
    for other in (replace(user, user="erin", level="heavy"), account("carol", level="heavy")):
        way = trunk if other.is_terminal else Trunk("b.example")
        with pytest.raises(RefusedError, match="488"):
            agent.check_level(back, received, other, way)  # type: ignore[arg-type]


# What nobody gets for a Setup-Key header that somebody has added, or taken away.


def changed(world: World, change: "object") -> None:
    """Change each INVITE on its way to b.example."""

    def tamper(message: Message, to: str) -> list[Message]:
        if to == FORTH and isinstance(message, Request) and message.method == "INVITE":
            change(message)  # type: ignore[operator]
        return [message]

    world.forth.tamper = tamper


def without_header(message: Request) -> None:
    message.fields = [one for one in message.fields if one[0] != "setup-key"]
    message.forget("setup-key")


def with_inline(message: Request) -> None:
    message.set_body(b"application/sdp", INLINE)


def with_both(message: Request) -> None:
    message.set_body(b"application/sdp", SDP + _INLINE)


def with_first(message: Request) -> None:
    message.set("Setup-Key", (message.get("setup-key") or b"").replace(KID, b"-"))


def with_another(message: Request) -> None:
    message.set("Setup-Key", (message.get("setup-key") or b"").replace(KID, OTHER))


def with_rtp(message: Request) -> None:
    message.set_body(b"application/sdp", SDP.replace(b"RTP/SAVP", b"RTP/AVP"))


def with_nothing(message: Request) -> None:
    message.set_body(b"application/sdp", _HEAD + _AUDIO)


@pytest.mark.parametrize(
    "change", [without_header, with_inline, with_both, with_first, with_another, with_rtp, with_nothing]
)
def test_a_request_that_was_changed(tmp_path: Path, change: object) -> None:
    """Somebody between the neighbours, who has their trunks' keys, makes an unsealed body of it: nobody gets that."""

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world)
            changed(world, change)
            alice.send(invite(alice, DAVE))
            refused = await alice._final()
            assert (refused.status, reason(refused)) == (488, NOT_SEALED)
            await dave.nothing(0.05)

    run(work)


@pytest.mark.parametrize("change", [with_inline, with_both, with_first, with_another, with_rtp, with_nothing])
def test_a_call_of_ours_that_is_not_protected_so(tmp_path: Path, change: object) -> None:
    """Our own neighbour signs and encrypts what the terminal's key does not protect."""

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world)
            sent = invite(alice, DAVE)
            change(sent)  # type: ignore[operator]
            alice.send(sent)
            got = await dave.request()
            assert told(got) == 'level=heavy;verified="sip:alice@a.example";by="a.example";signed;encrypted;tls'
            assert spent(world.left, world.right) == dict.fromkeys(OPERATIONS, 1.0)
            (out,) = [one for _, one in world.forth.seen if isinstance(one, Request) and one.method == "INVITE"]
            assert b"setup:" not in out.body
            assert b"inline" not in out.body

    run(work)


def keyed_like(sent: Request) -> Request:
    """What a phone of somebody's makes to look like a call with a setup key."""
    sent.add("Setup-Key", header(sent, INVITE, (ALICE, DAVE)))
    return sent


@pytest.mark.parametrize("callee", ["phone", "terminal"])
def test_a_phone_that_calls(tmp_path: Path, callee: str) -> None:
    """A phone of ours can have no setup key: what it sends is sealed, whatever it has written."""

    async def work() -> None:
        async with between(tmp_path) as world:
            carol = await Phone.open(world.left, "carol")
            to: Phone | Terminal
            to = (
                await Phone.open(world.right, "dave") if callee == "phone" else await Terminal.make(world.right, "dave")
            )
            made = request("INVITE", DAVE, "carol", "a.example", contact=carol.client.contact)
            made.set_body(b"application/sdp", SDP)
            await carol.send_made(keyed_like(made))
            got = await (to.client.request("INVITE") if isinstance(to, Phone) else to.request())
            assert told(got).startswith("level=heavy;verified=")
            assert spent(world.left, world.right) == dict.fromkeys(OPERATIONS, 1.0)

    run(work)


@pytest.mark.parametrize("keyed", [True, False])
def test_a_phone_that_is_called(tmp_path: Path, keyed: bool) -> None:
    """It checks no MAC: at heavy it gets nothing that is not sealed, be there a header or none."""

    async def work() -> None:
        async with between(tmp_path) as world:
            alice = await Terminal.make(world.left, "alice")
            dave = await Phone.open(world.right, "dave")
            alice.send(invite(alice, DAVE))
            refused = await alice._final()
            assert (refused.status, reason(refused)) == (488, NOT_SEALED)
            await dave.client.silence(0.1)

            def plain(message: Message, to: str) -> list[Message]:
                if to == FORTH and isinstance(message, Request) and message.method == "INVITE":
                    message.set_body(b"application/sdp", SDP)
                    if keyed:
                        keyed_like(message)
                return [message]

            world.forth.tamper = plain
            alice.send(invite(alice, DAVE, keyed=False))
            refused = await alice._final()
            assert (refused.status, reason(refused)) == (488, NOT_SEALED)
            await dave.client.silence(0.1)

    run(work)


@pytest.mark.parametrize("to", ["sip:carol@b.example", "sip:team@b.example"])
def test_a_terminal_that_sends_a_call_on(tmp_path: Path, to: str) -> None:
    """To a phone, or to a group that has one: it counts who has it in the end."""

    def prepare(lab: object) -> None:
        path = tmp_path / "b.example" / "wisp.toml"
        group = '[[group]]\nuri = "sip:team@b.example"\nmembers = ["carol"]\n\n[metrics]'
        path.write_text(path.read_text().replace("[metrics]", group))

    async def work() -> None:
        async with between(tmp_path, prepare=prepare) as world:
            alice, dave = await two(world)
            carol = await Phone.open(world.right, "carol")
            alice.send(invite(alice, DAVE))
            got = await dave.request()
            moved = answer(got, 302)
            moved.add("Contact", b"<" + to.encode() + b">")
            dave.send(moved)
            assert (await dave.request()).method == "ACK"
            refused = await alice._final()
            assert (refused.status, reason(refused)) == (488, NOT_SEALED)
            await carol.client.silence(0.1)

    run(work)


def test_a_group_that_is_called(tmp_path: Path) -> None:
    """Setup keys are of two users: a group's member rings for no call that its neighbour would have to seal."""

    def prepare(lab: object) -> None:
        path = tmp_path / "b.example" / "wisp.toml"
        group = '[[group]]\nuri = "sip:team@b.example"\nmembers = ["dave"]\n\n[metrics]'
        path.write_text(path.read_text().replace("[metrics]", group))

    async def work() -> None:
        async with between(tmp_path, prepare=prepare) as world:
            alice, dave = await two(world)
            alice.send(invite(alice, "sip:team@b.example"))
            assert (await alice._final()).status == 488
            await dave.nothing(0.1)

    run(work)


@pytest.mark.parametrize("status", [200, 183])
@pytest.mark.parametrize("where", ["terminal", "middle"])
@pytest.mark.parametrize(
    ("body", "kid"), [(SDP, b""), (INLINE, KID), (SDP, b"-"), (SDP.replace(KID, OTHER), OTHER), (_HEAD + _AUDIO, KID)]
)
def test_an_answer_that_is_not_protected_so(tmp_path: Path, status: int, where: str, body: bytes, kid: bytes) -> None:
    """Its neighbour seals it as ever; and what has lost its protection on the way the caller does not get."""

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world)

            def tamper(message: Message, to: str) -> list[Message]:
                if to == BACK and isinstance(message, Response) and message.body:
                    message.fields = [one for one in message.fields if one[0] != "setup-key"]
                    message.forget("setup-key")
                    message.set_body(b"application/sdp", body)
                    if kid:
                        message.add("Setup-Key", header(message, ANSWER, (ALICE, DAVE), b"x", kid=kid))
                return [message]

            if where == "middle":
                world.forth.tamper = tamper
            alice.send(invite(alice, DAVE))
            got = await dave.request()
            if where == "middle":
                dave.send(accept(dave, got, status=status))
                refused = await alice._final()
                assert (refused.status, reason(refused)) == (488, NOT_SEALED)
                return
            # Who sealed no question has given no certificate to seal the answer for, but that of its trunk.
            dave.send(accept(dave, got, body, kid=kid, status=status))
            told_ = await alice.hopper.framed()
            while isinstance(told_, Response) and told_.status == 100:
                told_ = await alice.hopper.framed()
            assert isinstance(told_, Response)
            assert told_.status == status, reason(told_)
            assert told(told_) == 'level=heavy;verified="sip:dave@b.example";by="b.example";signed;encrypted;tls'
            assert spent(world.left, world.right) == dict.fromkeys(OPERATIONS, 1.0)

    run(work)


def test_where_signing_is_not_demanded(tmp_path: Path) -> None:
    """Below heavy a phone gets what it would have got without the header, and is told the same."""

    async def work() -> None:
        async with between(tmp_path, level="medium") as world:
            alice = await Terminal.make(world.left, "alice")
            dave = await Phone.open(world.right, "dave")
            alice.send(invite(alice, DAVE))
            got = await dave.client.request("INVITE")
            assert (got.body, told(got)) == (SDP, MEDIUM % "a.example")

    run(work)


def test_a_revocation_is_sealed(tmp_path: Path) -> None:
    """It is no call: whoever could write one could take any two users' trust away."""

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world)
            made = request("MESSAGE", DAVE, "alice", "a.example")
            made.add(
                "Setup-Key",
                b'kid=%s;seq=1;nonce="%s";life=0;uses=0;mac="%s"' % (KID, b"A" * 22 + b"==", b"A" * 43 + b"="),
            )
            alice.send(made)
            got = await dave.request()
            assert (got.method, got.body, got.get("setup-key")) == ("MESSAGE", b"", made.get("setup-key"))
            assert told(got).startswith("level=heavy;verified=")
            assert spent(world.left, world.right) == dict.fromkeys(OPERATIONS, 1.0)

    run(work)


# What of a message can be seen.

_START = b"INVITE sip:dave@b.example SIP/2.0\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nVia: SIP/2.0/TLS x;branch=z9hG4bKx\r\n"
_KEY = b'kid=%s;seq=1;nonce="AAAAAAAAAAAAAAAAAAAAAA==";mac="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="' % KID


def message(body: bytes = SDP, key: bytes = _KEY, kind: bytes = b"application/sdp", start: bytes = _START) -> Message:
    lines = start + (b"Setup-Key: " + key + b"\r\n" if key else b"")
    return parse(lines + b"Content-Type: " + kind + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


_TEXT = b"m=text 4002 RTP/SAVP 98\r\n"
KEYED = [
    (message(), KID),
    (message(SDP.replace(b"\r\n", b"\n")), KID),
    (message(SDP + _TEXT + crypto()), KID),
    (message(SDP + b"m=video 0 RTP/AVP 31\r\n"), KID),
    (message(SDP + b"m=video 0 RTP/SAVP 31\r\n" + crypto()), KID),
    (message(_HEAD + _AUDIO + crypto() + crypto().replace(b":1 ", b":2 ").replace(b"_80", b"_32")), KID),
    (message(start=_START.replace(b"INVITE", b"UPDATE")), KID),
    (message(start=_START.replace(b"INVITE sip:dave@b.example SIP/2.0", b"SIP/2.0 183 Ringing")), KID),
    (message(start=_START.replace(b"INVITE sip:dave@b.example SIP/2.0", b"SIP/2.0 200 OK")), KID),
]
NOT_KEYED = [
    message(key=b""),
    message(key=_KEY.replace(KID, b"-")),
    message(key=_KEY.replace(KID, OTHER)),
    message(key=_KEY.replace(KID, KID.upper() if KID.upper() != KID else KID[:-1])),
    message(key=_KEY.replace(b"seq=1", b"seq=0")),
    message(key=_KEY.replace(b"A" * 30, b"")),
    message(key=_KEY + b", " + _KEY),
    message(b""),
    message(b"v=0\r\n"),
    message(_HEAD),
    message(b"x" + SDP),
    message(kind=b"application/sdp;x=y"),
    message(kind=b"text/plain"),
    message(kind=b"multipart/mixed;boundary=x"),
    message(_HEAD + _AUDIO),
    message(_HEAD + crypto() + _AUDIO),
    message(_HEAD + crypto() + _AUDIO + crypto()),
    message(_HEAD + b"k=clear:x\r\n" + _AUDIO + crypto()),
    message(SDP + b"k=clear:x\r\n"),
    message(SDP + b"a=key-mgmt:mikey AAAA\r\n"),
    message(SDP + b"a=KEY-MGMT:mikey AAAA\r\n"),
    message(_HEAD + b"a=key-mgmt:mikey AAAA\r\n" + _AUDIO + crypto()),
    message(SDP + _INLINE),
    message(SDP + _INLINE.upper()),
    message(SDP + _INLINE.replace(b"a=crypto", b"a=Crypto")),
    message(INLINE),
    message(SDP.replace(b"setup:", b"Inline:")),
    message(SDP.replace(b"setup:", b"other:")),
    message(SDP.replace(b"setup:" + KID, b"setup:" + KID + b";inline:AAAA")),
    message(SDP.replace(b"setup:" + KID, b"setup:" + KID + b";setup:" + OTHER)),
    message(SDP.replace(b"setup:" + KID, b"setup:" + OTHER)),
    message(SDP.replace(b"setup:" + KID, b"")),
    message(SDP.replace(b"RTP/SAVP", b"RTP/AVP")),
    message(SDP.replace(b"RTP/SAVP", b"UDP/TLS/RTP/SAVP")),
    message(SDP + _TEXT),
    message(SDP + _TEXT.replace(b"SAVP", b"AVP") + crypto()),
    message(SDP + b"m=video 0 RTP/SAVP 31\r\n" + _INLINE),
    message(_HEAD + b"m=audio 0 RTP/SAVP 0\r\n" + crypto()),
    message(SDP + b"a=x\r\n" * 300),
    *(message(start=_START.replace(b"INVITE", one)) for one in (b"MESSAGE", b"ACK", b"PRACK", b"BYE", b"INFO")),
    message(start=_START.replace(b"INVITE sip:dave@b.example SIP/2.0", b"SIP/2.0 302 Moved")),
    message(start=_START.replace(b"INVITE sip:dave@b.example SIP/2.0", b"SIP/2.0 488 No")),
]


@pytest.mark.parametrize(("one", "kid"), [*KEYED, *((one, b"") for one in NOT_KEYED)])
def test_whether_a_setup_key_protects_it(one: Message, kid: bytes) -> None:
    assert kid_of_call(one) == kid
    for name, value in (("Setup-Key", _KEY), ("Content-Type", b"application/sdp")):
        twice = message()
        twice.add(name, value)
        assert kid_of_call(twice) == b""


@pytest.mark.parametrize(
    ("kind", "body", "brings"),
    [
        (SETUP_KEYS, b"", True),
        (b"APPLICATION/WISP-setup-keys ; a=b", b"x", True),
        (b"text/plain", SETUP_KEYS, False),
        (b"application/sdp", SDP, False),
        (b"multipart/mixed;boundary=x", b"--x\r\nContent-Type: Application/Wisp-Setup-Keys\r\n\r\n--x--", True),
        (b"Message/SIP", b"c: application/WISP-SETUP-KEYS\r\n", True),
        (b"multipart/mixed;boundary=x", b"--x\r\n\r\nhello\r\n--x--", False),
    ],
)
def test_whether_it_brings_keys(kind: bytes, body: bytes, brings: bool) -> None:
    assert brings_keys(message(body, b"", kind)) is brings
    assert (
        brings_keys(message(body, b"", kind, _START.replace(b"INVITE sip:dave@b.example SIP/2.0", b"SIP/2.0 200 OK")))
        is brings
    )


@pytest.mark.parametrize(
    ("method", "key", "is_one"),
    [
        (b"MESSAGE", _KEY + b";life=0;uses=0", True),
        (b"MESSAGE", _KEY + b";life=1;uses=0", False),
        (b"MESSAGE", _KEY, False),
        (b"MESSAGE", b"", False),
        (b"MESSAGE", b"life=0", False),
        (b"BYE", _KEY + b";life=0;uses=0", False),
    ],
)
def test_whether_it_takes_trust_back(method: bytes, key: bytes, is_one: bool) -> None:
    made = message(b"", key, start=_START.replace(b"INVITE", method))
    assert isinstance(made, Request)
    assert revokes(made) is is_one
