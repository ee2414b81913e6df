"""Headers that a proxy has to read, written as nobody may write them: Via, Authorization, and what goes with them."""

from pathlib import Path

from calls.conftest import make_terminal
from sip import UdpClient, domain, phones, request, run, signed

from attacks.attack import Rogue, drain, good_call, text
from lab.lab import Lab
from sipwire.message import parse

VIAS = [
    "",
    "SIP",
    "SIP/2.0",
    "SIP/2.0/",
    "SIP/2.0/UDP",
    "SIP/2.0/UDP ",
    "SIP/2.0/UDP :5060",
    "SIP/2.0/UDP h:0;branch=z9hG4bKx",
    "SIP/2.0/UDP h:65536;branch=z9hG4bKx",
    "SIP/2.0/UDP h:-1;branch=z9hG4bKx",
    "SIP/2.0/UDP h:5060x;branch=z9hG4bKx",
    "SIP/2.0/UDP h:99999999999999999999;branch=z9hG4bKx",
    "SIP/2.0/UDP [::1;branch=z9hG4bKx",
    "SIP/2.0/UDP ::1;branch=z9hG4bKx",
    "SIP/2.0/UDP h h;branch=z9hG4bKx",
    "SIP/2.0/UDP h;branch",
    "SIP/2.0/UDP h;branch=",
    "SIP/2.0/UDP h;=x",
    "SIP/2.0/UDP h;;",
    'SIP/2.0/UDP h;branch="z9hG4bK',
    "SIP/2.0/UDP h,;branch=z9hG4bKx",
    ",",
    "SIP/3.0/UDP h;branch=z9hG4bKx",
    "SIP/2.0/U\x00P h;branch=z9hG4bKx",
    "SIP/2.0/UDP h\x00;branch=z9hG4bKx",
    "SIP / 2.0 / UDP evil.example;branch=z9hG4bKx;rport=1;received=192.0.2.66",
    "SIP/2.0/UDP h;branch=z9hG4bKx;maddr=192.0.2.66;ttl=255",
    "SIP/2.0/UDP h;rport=99999;branch=z9hG4bKx",
    "SIP/2.0/TLS h;branch=z9hG4bKx;alias;rport=abc;received=\x7f",
]  # fmt: skip


def test_a_malformed_via(tmp_path: Path) -> None:
    """Via says where answers go: the attacker wants them elsewhere, or the reader beyond its end.

    Stopped: a Via that is none is malformed (and without one there is nobody to answer); answers go to where the request
    came from, whatever ``received``, ``rport`` or ``maddr`` its sender has written.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            target = await UdpClient.open(at)  # whom the attacker wants to be hit
            stranger = await UdpClient.open(at)
            for via in VIAS:
                for place in ("first", "second"):
                    data = text(via=via.replace("192.0.2.66", target.address[0]))
                    if place == "second":
                        good = b"Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKok%d;rport\r\nVia" % hash(via)
                        data = data.replace(b"Via", good, 1)
                    stranger.send_raw(data)
                    for answered in await drain(stranger, seconds=0.02):
                        assert answered.split(b" ")[1] in (b"400", b"407", b"505"), (via, answered)
                        assert len(answered) <= 2 * len(data)
            assert await drain(target) == []
            # What the sender writes of where it is, is written over.
            claims = f"SIP/2.0/UDP h;branch=z9hG4bKclaims;received={target.address[0]};rport={target.address[1]}"
            stranger.send_raw(text(via=claims))
            via = (await stranger.response()).via
            assert via.param("received") == stranger.address[0].encode()
            assert via.param("rport") == b"%d" % stranger.address[1]
            # In answers to us.
            made = request("MESSAGE", "sip:dave@a.example", "carol")
            carol.send(signed(made, await carol.ask(made), "carol", "secret"))
            got = await dave.request("MESSAGE")
            good = got.response(200, "OK", b"good").serialize()
            line = good.partition(b"Via: ")[2].partition(b"\r\n")[0]
            for bad in VIAS:
                dave.send_raw(good.replace(line, bad.encode("latin-1"), 1))
            dave.send_raw(good.replace(b"Via: " + line + b"\r\n", b""))
            assert await drain(carol, seconds=0.2) == []
            dave.send_raw(good)
            assert (await carol.response()).status == 200
            await good_call(carol, dave)

    run(work)


def test_a_hundred_vias(tmp_path: Path) -> None:
    """A message as through a hundred proxies, in one header and in as many: its answer has them all, and that is all."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            stranger = await UdpClient.open(at)
            via = "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKmany;rport"
            more = [f"SIP/2.0/UDP h{number};branch=z9hG4bK{number}" for number in range(100)]
            for data in (
                text(via=", ".join([via, *more])),
                text(via="\r\nVia: ".join([via.replace("many", "lines"), *more])),
            ):
                stranger.send_raw(data)
                answered = await stranger.raw()
                assert answered.startswith(b"SIP/2.0 407 ")
                assert len(parse(answered).values("via")) == 101
                assert len(answered) < 1.3 * len(data)
            stranger.send_raw(text(via="\r\nVia: ".join([via.replace("many", "more"), *more, *more])))
            assert all(b" 400 " in one for one in await drain(stranger))
            await good_call(carol, dave)

    run(work)


CREDENTIALS = 'username="carol", realm="a.example", nonce="{nonce}", uri="sip:dave@a.example", response="{response}"'
AUTHORIZATIONS = [
    "",
    " ",
    "Digest",
    "Digest ",
    "Digest ,",
    "Digest =",
    "Digest realm",
    'Digest realm="a.example"',
    'Digest realm="a.example',
    'Digest realm="a.example\\"',
    "Digest realm=a.example, username=",
    f'Digest {CREDENTIALS}, qop=auth, nc=00000001, cnonce="',
    f"Digest {CREDENTIALS}, qop=auth, nc=0000000g, cnonce=x",
    f"Digest {CREDENTIALS}, qop=auth, nc=-0000001, cnonce=x",
    f"Digest {CREDENTIALS}, qop=auth, nc=99999999999999999999, cnonce=x",
    f"Digest {CREDENTIALS}, qop=auth, nc=00000001",
    f"Digest {CREDENTIALS}, qop=auth-conf, nc=00000001, cnonce=x",
    f"Digest {CREDENTIALS}, algorithm=SHA-256-sess, qop=auth, nc=00000001, cnonce=x",
    f"Digest {CREDENTIALS}, algorithm=AKAv1-MD5",
    f"Digest {CREDENTIALS}, algorithm=\x00",
    f"Digest {CREDENTIALS}, {CREDENTIALS}",
    f"Digest {CREDENTIALS}\r\n , qop=auth",
    'Digest username="carol", realm="a.example", nonce="' + "x" * 5000 + '", uri="u", response="r"',
    'Digest username="' + "x" * 5000 + '", realm="a.example", nonce="x", uri="u", response="r"',
    'Digest username="carol", realm="a.example", nonce="x", uri="' + "x" * 5000 + '", response="r"',
    'Digest username="carol\x00", realm="a.example", nonce="x", uri="u", response="r"',
    'Digest username="carol", realm="a.example", nonce="\xff\xfe", uri="\xff", response="\xff"',
    "Digest " + ",".join(f"p{number}=x" for number in range(1000)),
    "Basic Y2Fyb2w6c2VjcmV0",
    "Bearer " + "x" * 5000,
    "\x00",
    "a=b",
]  # fmt: skip


def test_a_malformed_authorization(tmp_path: Path) -> None:
    """Credentials that end somewhere else than they should, in REGISTER and in everything else.

    The attacker wants a reader that goes too far, a comparison that is true by accident, or an exception that lets the
    request through. Stopped: 400, or the challenge that everybody gets; what is not the right digest is none.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            stranger = await UdpClient.open(at)
            challenge = (await stranger.ask(request("MESSAGE", "sip:dave@a.example", "carol"))).get_all(
                "proxy-authenticate"
            )
            nonce = challenge[0].partition(b'nonce="')[2].partition(b'"')[0].decode()
            before = at.value("wisp_transactions")
            for value in AUTHORIZATIONS:
                for response in ("", "0" * 64, "\x00", "None"):
                    shown = value.replace("{nonce}", nonce).replace("{response}", response)
                    for data, challenged in (
                        (
                            text(
                                "REGISTER",
                                "sip:a.example",
                                to="<sip:carol@a.example>",
                                more=f"Authorization: {shown}\r\n",
                            ),
                            b"401",
                        ),
                        (text(more=f"Proxy-Authorization: {shown}\r\n"), b"407"),
                    ):
                        stranger.send_raw(data)
                        status = (await stranger.raw()).split(b" ")[1]
                        assert status in (b"400", challenged), (value, status)
            # Well formed and wrong costs a look for the account; nothing of it is left.
            assert at.value("wisp_transactions") <= before
            assert at.neighbour._location.of("carol")[0].source.startswith(carol.address[0])
            assert await drain(dave) == []
            await good_call(carol, dave)

    run(work)


def test_a_terminal_and_vias(lab: Lab) -> None:
    """Malformed Vias and credentials to a terminal, from a neighbour that lets them pass; and challenges to its own."""
    lab.make_domains("a.example")
    path = make_terminal(lab, "a.example", "alice")
    rogue = Rogue(path, lab.next_address())
    alice = lab.start_terminal(path)
    # Before it is registered: challenges that are none.
    asked = rogue.plain()
    for value in AUTHORIZATIONS[:24]:
        rogue.send_plain(asked.response(401, "Unauthorized", b"x").serialize().replace(
            b"Content-Length", b"WWW-Authenticate: " + value.encode("latin-1") + b"\r\nContent-Length"
        ))  # fmt: skip
    rogue.join()
    alice.wait_for("registered", 20)
    for via in VIAS:
        assert rogue.status_of(rogue.invite(via=via, to="<sip:alice@a.example>;tag=none"), 0.05) in (
            [],
            [400],
            [481],
            [505],
        ), via
    for value in AUTHORIZATIONS[:16]:
        more = f"Authorization: {value}\r\nContact: <sip:bob@127.0.0.1>\r\n"
        assert rogue.status_of(rogue.invite(more=more, to="<sip:alice@a.example>;tag=none"), 0.05) in ([400], [481]), (
            value
        )
    since = len(alice.lines)
    assert 180 in rogue.status_of(rogue.invite(), 0.5)
    alice.wait_for("incoming", 5, since=since)
    rogue.close()
