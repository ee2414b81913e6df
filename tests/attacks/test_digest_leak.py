"""Digest leak and relay: an attacker lets somebody's phone make the credentials that it needs itself."""

import json
import socket
import time
from pathlib import Path

from calls.conftest import connect, hang_up, make_terminal
from sip import UdpClient, answer, call, domain, phones, request, run, signed

from attacks.attack import Rogue, betrayed, drain, good_call
from lab.lab import Lab
from sipwire.digest import SHA256, Challenge
from sipwire.digest_server import serialize_challenge
from sipwire.message import Response, parse
from sipwire.transaction import ack_for


def challenged(data: bytes, status: int, realm: bytes = b"a.example") -> bytes:
    """A challenge that answers whatever was sent, as somebody on the way or at the other end would."""
    response = parse(data).response(status, "Who are you?", b"x")  # type: ignore[union-attr]
    value = serialize_challenge(Challenge(realm, b"attackers", SHA256, (b"auth", b"auth-int")))
    response.add("WWW-Authenticate" if status == 401 else "Proxy-Authenticate", value)
    return response.serialize()


def nonce_of(challenge: Response) -> bytes:
    return Challenge.parse(challenge.get("proxy-authenticate") or b"").nonce


def test_a_terminal_answers_challenges_of_its_neighbour_only(lab: Lab) -> None:
    """CVE-2009-5140: the attacker calls, lets the phone hang up, and answers its BYE with a challenge.

    He wants credentials to try passwords on, or to pass on to the phone's own proxy. Stopped: a terminal takes nothing
    that comes without a frame, and makes credentials for its REGISTER alone; not even its neighbour could have others.
    """
    rogue, alice = betrayed(lab)
    # A stranger's challenges, to nothing and to everything.
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((lab.next_address(), 0))
    for status in (401, 407):
        sock.sendto(challenged(rogue.invite(), status), (rogue.terminal[0], 5060))
    # The neighbour itself passes on what the attacker says: to the terminal's INVITE and to its BYE.
    rogue.talk(alice)
    alice.send("hangup")
    bye = next(one for one in rogue.answers(0.4) if getattr(one, "method", "") == "BYE")
    for status in (401, 407):
        rogue.send(challenged(bye.serialize(), status))
    alice.send("call sip:bob@b.example")
    invite = next(one for one in rogue.answers(0.4) if getattr(one, "method", "") == "INVITE")
    rogue.send(challenged(invite.serialize(), 407))
    alice.wait_for("ended", 5, since=0)
    for message in rogue.answers(1.0):
        assert message.get("authorization") is None, message.start_line()
        assert message.get("proxy-authorization") is None, message.start_line()
    sock.settimeout(0.2)
    try:
        raise AssertionError(sock.recv(4096))
    except TimeoutError:
        pass
    sock.close()
    # It goes on: the next call rings.
    since = len(alice.lines)
    rogue.send(rogue.invite())
    alice.wait_for("incoming", 5, since=since)
    rogue.close()


def test_a_terminal_answers_challenges_for_its_realm_only(lab: Lab) -> None:
    """The attacker is where the neighbour should be, and asks in the name of another realm, or twice.

    He wants a digest over a realm and nonces of his choice. Stopped: a terminal answers one challenge for each of its
    REGISTERs, for its realm; and one with a nonce that it did not ask for is for nothing but that nonce.
    """
    lab.make_domains("a.example")
    path = make_terminal(lab, "a.example", "alice")
    rogue = Rogue(path, lab.next_address())
    alice = lab.start_terminal(path)
    for realm in (b"evil.example", b""):
        asked = rogue.plain()
        assert asked.get("authorization") is None
        response = rogue.challenge(asked, realm or b"evil.example")
        if not realm:
            response.fields = [field for field in response.fields if field[0] != "www-authenticate"]
            response.add("WWW-Authenticate", b'Digest realm="a.example", nonce="x", algorithm=MD5, qop="auth-int"')
        rogue.send_plain(response.serialize())
        assert alice.wait_for("unregistered", 10)["reason"]
        alice.lines.clear()
    # The right realm, and then again and again: one proof for each time it asks by itself.
    asked = rogue.plain()
    rogue.send_plain(rogue.challenge(asked).serialize())
    proof = rogue.plain()
    assert proof.get("authorization") is not None
    for _ in range(3):
        rogue.send_plain(rogue.challenge(proof, nonce=b"another").serialize())
    again = rogue.plain()
    assert again.get("authorization") is None
    rogue.send_plain(rogue.challenge(again).serialize())
    rogue.close()


def test_credentials_for_us_do_not_pass_us(tmp_path: Path) -> None:
    """Whoever is called answers with a challenge in the name of the caller's own domain.

    He wants the phone's answer, to send it to the neighbour as his own within the life of the nonce: the Request-URI of
    the phone's BYE is his Contact, so that he chooses what the credentials are good for. Stopped: challenges for our
    realm are taken out of what others answer, and credentials for our realm out of what goes to others.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            # He asks us for a nonce that is good.
            nonce = nonce_of(await dave.ask(request("INVITE", "sip:1900@b.example", "carol")))
            for status, name in ((401, "WWW-Authenticate"), (407, "Proxy-Authenticate")):
                await call(carol, "carol", "sip:dave@a.example")
                response = answer(await dave.request("INVITE"), status)
                response.add(name, serialize_challenge(Challenge(b"a.example", nonce, SHA256, (b"auth",))))
                dave.send(response)
                got = await carol.response()
                assert got.status == 403
                assert nonce not in got.serialize()
                await dave.request("ACK")
            # A phone that has been fooled some other way: what it sends reaches nobody.
            made = request("INVITE", "sip:dave@a.example", "carol", contact=carol.contact)
            challenge = await carol.ask(made)
            carol.send(ack_for(made, challenge))
            fooled = signed(made, challenge, "carol", "secret")
            value = fooled.get("proxy-authorization") or b""
            fooled.add("Authorization", value.replace(nonce_of(challenge), nonce))
            fooled.add("Proxy-Authorization", value.replace(nonce_of(challenge), b"attackers"))
            carol.send(fooled)
            got = await dave.request("INVITE")
            assert b"uthorization" not in got.serialize()
            dave.send(answer(got, 486))
            assert (await carol.response()).status == 486
            await good_call(carol, dave)

    run(work)


def test_reflected_challenges(tmp_path: Path) -> None:
    """The attacker hands the victim's challenge on: a man in the middle between phone and neighbour, or beside both.

    He wants what the phone answers to be good for another request than the phone's. Stopped: credentials are for one
    method, one Request-URI, one address and one use, and their user has to be the one in From (for a REGISTER: in To).
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            made = request("MESSAGE", "sip:dave@a.example", "carol", body=b"from carol")
            # A challenge to somebody at another address is good for nothing at hers.
            elsewhere = await UdpClient.open(at)
            carol.send(signed(made, await elsewhere.ask(made), "carol", "secret"))
            assert (await carol.response()).status == 407
            mallory = await UdpClient.open(at, (carol.address[0], 0))  # behind the same NAT
            # Mallory asks for a challenge and reflects it: Carol answers it with her next request.
            reflected = await mallory.ask(made)
            hers = signed(made, reflected, "carol", "secret")
            value = hers.get("proxy-authorization") or b""
            stolen = {
                "another method": request("INVITE", "sip:dave@a.example", "carol", contact=mallory.contact),
                "another target": request("MESSAGE", "sip:erin@a.example", "carol"),
                "another sender": request("MESSAGE", "sip:dave@a.example", "mallory"),
                "a registration": request(
                    "REGISTER", "sip:a.example", "carol", to="sip:carol@a.example", contact=mallory.contact
                ),
            }
            for what, attempt in stolen.items():
                attempt.add("Authorization" if attempt.method == "REGISTER" else "Proxy-Authorization", value)
                assert (await mallory.ask(attempt)).status in (401, 407), what
            assert await drain(dave) == []
            # The very same request: once, and it is what Carol said. (With auth-int its body is hers, too.)
            carol.send(hers)
            got = await dave.request("MESSAGE")
            assert got.body == b"from carol"
            dave.send(got.response(200, "OK"))
            assert (await carol.response()).status == 200
            again = request("MESSAGE", "sip:dave@a.example", "carol", body=b"from mallory")
            again.add("Proxy-Authorization", value)
            assert (await mallory.ask(again)).status == 407
            assert await drain(dave) == []
            await good_call(carol, dave)

    run(work)


def test_two_terminals_call_each_other_while_they_are_challenged(lab: Lab) -> None:
    """Challenges rain on both ends of a call, by everybody who knows their addresses; the call does not notice."""
    lab.make_domains("a.example")
    paths = [make_terminal(lab, "a.example", user) for user in ("alice", "bob")]
    lab.start_neighbour("a.example")
    alice, bob = (lab.start_terminal(path) for path in paths)
    for one in (alice, bob):
        one.wait_for("registered", 20)
    addresses = [json.loads(path.read_text())["board"]["address"] for path in paths]
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((lab.next_address(), 0))
    sock.setblocking(False)
    rogue_text = challenged(
        b"INVITE sip:bob@a.example SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKx\r\nFrom: <sip:a@a.example>;tag=1\r\n"
        b"To: <sip:bob@a.example>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n",
        407,
    )
    connect(alice, bob)
    for _ in range(50):
        for address in addresses:
            sock.sendto(rogue_text, (address, 5060))
        time.sleep(0.01)
    hang_up(alice, bob)
    connect(bob, alice)
    hang_up(bob, alice)
    try:
        raise AssertionError(sock.recv(4096))
    except BlockingIOError:
        pass
    sock.close()
