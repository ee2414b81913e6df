"""The torture messages of RFC 4475 and RFC 5118 at a running neighbour, over UDP.

The other two doors are the parsers: tests/shared/test_message.py, on both Pythons. Each message comes to the neighbour
of the domain that its From is of, plain; where it is challenged, it comes again with credentials and is followed to
where its Request-URI leads: through that neighbour, over the trunk to another one, to a phone. After each message the
next good call works.
"""

import asyncio
import contextlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import ROOT
from sip import Domain, UdpClient, answer, call, in_dialog, request, run

from fuzzing import reference
from lab.lab import Lab
from sipwire.digest import authenticate, choose, ha1
from sipwire.errors import ParseError
from sipwire.message import Request, Response, parse
from sipwire.transaction import ack_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_numbers = itertools.count(100)
VECTORS = ROOT / "tests" / "vectors"
DOMAINS = ("example.com", "example.net", "example.org", "ift.client.example.net")
PUBLIC = "[2001:db8::10]:5060"  # what example.com says its address is: RFC 5118 has messages to it
#: What a proxy may change or add: all other lines arrive byte for byte.
HOP_BY_HOP = {
    "via",
    "max-forwards",
    "route",
    "record-route",
    "proxy-authorization",
    "content-length",
    "max-breadth",
    "security-status",
}
UNUSUAL = "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"


@dataclass(frozen=True)
class Case:
    """What becomes of a message.

    Attributes:
        at: the neighbour it comes to.
        plain: the answer without credentials, 0 for none.
        user: with whose credentials it comes again.
        signed: the answer then.
        target: domain and user whose phone it reaches.
        says: what the Warning of the answer has to say.
    """

    at: str
    plain: int
    user: str = ""
    signed: int = 0
    target: tuple[str, str] = ("", "")
    says: str = ""


COM, NET, ORG, IFT = DOMAINS
USER = (COM, "user")
CASES = {
    # Well-formed: whoever they are from is asked who they are, and they go on unchanged.
    "wsinv": Case(COM, 407, "jdrosen", 503, says="trunk to services.example.com"),
    "intmeth": Case(COM, 407, "mundane", 200, (COM, UNUSUAL)),
    "esc01": Case(NET, 407, "I%20have%20spaces", 486, (NET, "sips%3Auser%40example.com")),
    "esc02": Case(COM, 407, "resource", 503, says="trunk to registrar.example.com"),
    "lwsdisp": Case(COM, 407, "caller", 200, USER),
    "semiuri": Case(ORG, 407, "caller", 200, (COM, "user;par=u%40example.net")),
    "transports": Case(COM, 407, "caller", 200, USER),
    "mpart01": Case(COM, 407, "fluffy", 503, says="trunk to 127.0.0.1"),
    "noreason": Case(COM, 0),  # a response that nobody asked for
    "baddate": Case(NET, 407, "caller", 486, USER),
    "invut": Case(NET, 407, "caller", 486, USER),
    "sdp01": Case(NET, 407, "caller", 486, USER),
    "inv2543": Case(IFT, 407, "+13035551111", 486, (COM, "UserB")),
    "regaut01": Case(COM, 401, "j.user", 200),
    "cparam01": Case(COM, 401, "watson", 200),
    "cparam02": Case(COM, 401, "watson", 200),
    # Refused before anybody is asked who they are.
    "badinv01": Case(NET, 400),
    "clerr": Case(NET, 400),
    "scalar02": Case(COM, 400),
    "ltgtruri": Case(NET, 400),
    "lwsruri": Case(NET, 400),
    "escruri": Case(NET, 400),
    "badaspec": Case(COM, 400),
    "baddn": Case(COM, 0),  # the archive's file lacks its last line: no end of headers, no message
    "baddn_complete": Case(COM, 400),
    "badvers": Case(COM, 505),
    "mismatch01": Case(NET, 400),
    "mismatch02": Case(NET, 400),
    "insuf": Case(COM, 400),
    "unkscm": Case(NET, 416),
    "novelsc": Case(NET, 416),
    "unksm2": Case(COM, 400),
    "zeromf": Case(NET, 483),
    # RFC 5118. Only [2001:db8::10] without a port, or with ours, is our address.
    "ipv6-bad": Case(COM, 400),
    "port-ambiguous": Case(COM, 403, says="not the registrar of that domain"),
    "port-unambiguous": Case(COM, 403, says="not the registrar of that domain"),
    "via-received-param-no-delim": Case(COM, 407, "user", 200),
    "ipv6-in-sdp": Case(COM, 407, "user", 486, USER),
    "mult-ip-in-header": Case(COM, 407, "user", 503, says="trunk to host.example.net"),
    "ipv6-correct-abnf-2-colons": Case(COM, 407, "user", 503, says="trunk to [2001:db8::192.0.2.1]"),
    "ipv6-bug-abnf-3-colons": Case(COM, 407, "user", 503, says="trunk to [2001:db8:::192.0.2.1]"),
    "ipv6-good": Case(COM, 401, "user", 200),  # last: what it registers leads nowhere
}


def load(rfc: str) -> dict[str, tuple[bytes, str]]:
    """Messages of an RFC by name, and what the index expects: its words, with the statuses in them."""
    found = {}
    for case in json.loads((VECTORS / rfc / "index.json").read_text())["messages"]:
        data = (VECTORS / rfc / case.get("fixed_file", case.get("file"))).read_bytes()
        found[case["name"]] = (data, case["parse"] + ": " + "; ".join(case["expect"].values()))
    return found


MESSAGES = load("rfc4475") | load("rfc5118")
MESSAGES["baddn_complete"] = ((VECTORS / "rfc4475/variants/baddn_complete.dat").read_bytes(), MESSAGES["baddn"][1])
_TWO = MESSAGES["ipv6-correct-abnf-2-colons"]
# RFC 5118 section 4.10: "an implementation must tolerate both of the above constructs".
MESSAGES["ipv6-bug-abnf-3-colons"] = (_TWO[0].replace(b"db8::192", b"db8:::192"), _TWO[1])


def test_every_message_is_there() -> None:
    assert len(MESSAGES) == 32 + 8 + 2
    assert set(CASES) == set(MESSAGES)
    assert MESSAGES["ipv6-bug-abnf-3-colons"][0].count(b":::") == 2


@pytest.mark.parametrize("name", CASES)
def test_the_answers_are_what_the_index_expects(name: str) -> None:
    """A refusal has a status that the index names; what is to be accepted is not called malformed."""
    case, (_, expected) = CASES[name], MESSAGES[name]
    kind, _, words = expected.partition(": ")
    if name == "baddn":
        return  # the index tells the defect of that file
    if kind == "reject":
        assert str(case.plain) in words
    elif kind == "either":
        assert str(case.plain) in words or case.plain in (401, 407)
    else:
        assert case.plain in (0, 401, 403, 407) or str(case.plain) in words, words


class Sender(UdpClient):
    """A client on the port that the message's Via names, which is where answers to it go."""

    @classmethod
    async def open_for(cls, data: bytes, to: Domain) -> "Sender":
        port = 5060
        try:
            message = parse(data)
        except ParseError as error:
            message = error.request
        with contextlib.suppress(ParseError):
            port = (message and message.via.port) or port
        transport, client = await asyncio.get_running_loop().create_datagram_endpoint(
            cls, (to.lab.next_address(), port), (to.address, 5060)
        )
        client.transport = transport
        client.address = transport.get_extra_info("sockname")
        to.clients.append(client)
        return client


class World:
    """Four domains that know each other, with the users that the messages name."""

    def __init__(self, lab: Lab, addresses: dict[str, str]) -> None:
        self.lab = lab
        self.domains = {name: Domain(lab, name, address) for name, address in addresses.items()}
        self.phones: dict[tuple[str, str], UdpClient] = {}
        self.calls: dict[str, tuple[UdpClient, UdpClient]] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def make(cls, folder: Path) -> "AsyncIterator[World]":
        lab = Lab(folder)
        addresses = lab.make_domains(*DOMAINS)
        for name in DOMAINS:
            lab.change(name, 'level = "debug"', 'level = "error"')
            lab.change(name, "# trunk_timeout_s = 5.0", "trunk_timeout_s = 1.0")
        lab.change(COM, "# advertise", f'advertise = "{PUBLIC}" #')
        world = cls(lab, addresses)
        try:
            for one in world.domains.values():
                await one.start()
            await world._people()
            yield world
        finally:
            for one in world.domains.values():
                for client in one.clients:
                    client.close()
                if hasattr(one, "neighbour"):
                    await one.stop()

    async def _people(self) -> None:
        for case in CASES.values():
            users = {(case.at, case.user)} if case.user else set()
            for domain, user in sorted(users | ({case.target} - {("", "")})):
                await self._add(domain, user, reachable=(domain, user) == case.target)
        for domain in DOMAINS:
            for user in ("dave", "erin"):
                await self._add(domain, user, reachable=True)
            self.calls[domain] = (self.phones[domain, "dave"], self.phones[domain, "erin"])

    async def _add(self, domain: str, user: str, *, reachable: bool) -> None:
        at = self.domains[domain]
        if at.neighbour._accounts.by_user(user) is None:
            await at.add(user)
        if reachable and (domain, user) not in self.phones:
            phone = self.phones[domain, user] = await UdpClient.open(at)
            await phone.register(at, user)

    async def good_call(self, name: str) -> None:
        """A call at a neighbour, from its INVITE to the answer to its BYE."""
        dave, erin = self.calls[name]
        invite = await call(dave, "dave", f"sip:erin@{name}", host=name)
        got = await erin.request("INVITE")
        erin.send(answer(got, 200, erin.contact))
        ok = await dave.response()
        assert ok.status == 200
        dave.send(in_dialog("ACK", ok, dave.contact, invite.cseq.number, invite))
        await erin.request("ACK")
        dave.send(in_dialog("BYE", ok, dave.contact, invite.cseq.number + 1, invite))
        erin.send((await erin.request("BYE")).response(200, "OK"))
        assert (await dave.response()).status == 200


def signed_again(data: bytes, challenged: Response, user: str, realm: str) -> bytes:
    """The message with one line more, and a branch of its own: several of the RFCs' messages have the same."""
    sent = parse(data)
    assert isinstance(sent, Request)
    proxy = challenged.status == 407
    challenge = choose(challenged.get_all("proxy-authenticate" if proxy else "www-authenticate"), realm.encode())
    assert challenge is not None
    secret = ha1(user.encode(), realm.encode(), b"secret")
    made = authenticate(challenge, user.encode(), secret, sent.method, sent.uri, b"c", 1, sent.body)
    name = b"Proxy-Authorization: " if proxy else b"Authorization: "
    start, _, rest = data.partition(b"\r\n")
    rest = rest.replace(b"z9hG4bK", b"z9hG4bK%d" % next(_numbers), 1)
    return start + b"\r\n" + name + made.serialize() + b"\r\n" + rest


def check_answer(data: bytes, raw: bytes, status: int) -> Response:
    """The answer has the status, and its sender knows it again."""
    assert raw.startswith(b"SIP/2.0 %d " % status), raw
    answer = Response(status, b"")
    try:
        answer = parse(raw)  # type: ignore[assignment]
        assert isinstance(answer, Response)
    except ParseError:
        # It repeats what is wrong with the message: value for value.
        sent = reference.headers(data)
        for name, value in reference.headers(raw):
            assert (name, value) == ("content-length", b"0") or any(
                name == key and (value == mine or value.startswith(mine + b";")) for key, mine in sent
            )
    else:
        with contextlib.suppress(ParseError):
            sent = parse(data)
            assert answer.call_id == sent.call_id
            assert answer.cseq.serialize() == sent.cseq.serialize()
            assert answer.values("via")[1:] == sent.values("via")[1:]
            assert answer.to.tag
    return answer


async def check(world: World, name: str) -> None:
    case, (data, _) = CASES[name], MESSAGES[name]
    at = world.domains[case.at]
    client = await Sender.open_for(data, at)
    strays = at.value("wisp_stray_responses_total")
    client.send_raw(data)
    if not case.plain:
        await client.silence(0.2)
        assert at.value("wisp_stray_responses_total") == strays + (name == "noreason")
        return
    answered = check_answer(data, await client.raw(), case.plain)
    if case.signed:
        again = signed_again(data, answered, case.user, case.at)
        client.send_raw(again)
        if case.target[0]:
            await check_arrival(world.phones[case.target], data)
        while True:
            raw = await client.raw()
            if not raw.startswith(b"SIP/2.0 100"):
                break
        answered = check_answer(again, raw, case.signed)
        sent = parse(again)
        if isinstance(sent, Request) and sent.method == "INVITE":
            client.send(ack_for(sent, answered))
    if case.says:
        assert case.says in (answered.get("warning") or b"").decode()
    if name == "ipv6-good":
        assert b"sip:caller@[2001:db8::1]" in [contact.uri for contact in answered.addresses("contact")]
    if name.startswith("cparam"):
        inside = b";unknownparam" if name == "cparam02" else b""
        contacts = [contact.uri for contact in answered.addresses("contact")]
        assert contacts == [b"sip:+19725552222@gw1.example.net" + inside]
        await forget(at, client, case.user)
    client.close()


async def check_arrival(phone: UdpClient, data: bytes) -> None:
    """What a phone gets is what was sent, but for what hops write; it answers."""
    sent = parse(data)
    assert isinstance(sent, Request)
    got = await phone.request(sent.method)
    assert got.uri == phone.contact.encode()
    ends = [[line for key, line in one.fields if key not in HOP_BY_HOP] for one in (sent, got)]
    assert ends[0] == ends[1]
    assert got.body == sent.body
    hops = len(got.values("via")) - len(sent.values("via"))
    assert hops in (1, 2)
    assert got.values("via")[hops + 1 :] == sent.values("via")[1:]
    limit = sent.uint("max-forwards", 255)
    assert got.uint("max-forwards", 255) == (70 if limit is None else limit - 1) - (hops - 1)
    phone.send(answer(got, 486 if sent.method == "INVITE" else 200))


async def forget(at: Domain, client: UdpClient, user: str) -> None:
    """End a user's registrations."""
    uri = f"sip:{user}@{at.name}"
    every = (("Contact", "*"), ("Expires", "0"))
    made = request("REGISTER", f"sip:{at.name}", user, at.name, to=uri, headers=every)
    assert (await client.ask_signed(made, user)).addresses("contact") == []


@pytest.mark.parametrize("rfc", ["rfc4475", "rfc5118"])
def test_torture(tmp_path: Path, rfc: str) -> None:
    names = [name for name in CASES if (name in load("rfc4475") or name == "baddn_complete") == (rfc == "rfc4475")]
    assert len(names) == {"rfc4475": 33, "rfc5118": 9}[rfc]

    async def work() -> None:
        async with World.make(tmp_path) as world:
            for name in names:
                try:
                    await check(world, name)
                    await world.good_call(CASES[name].at)
                except Exception as error:
                    raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error

    run(work)
