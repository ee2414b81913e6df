"""Our Record-Route: it leads requests within a dialog to the connection of a phone, and nobody can make it up.

Carol's phone is on a connection, and the Contact that it gives in a dialog is not the one that it registered, as
baresip's; nobody could connect to either.
"""

import ssl
from pathlib import Path

import pytest
from sip import Domain, StreamClient, UdpClient, answer, domain, in_dialog, request, run, signed

from sipwire.headers import Address
from sipwire.message import Request, Response
from sipwire.transaction import ack_for

REGISTERED = "sip:carol-1@192.0.2.1:40000;transport=tcp"
IN_DIALOG = "sip:carol-2@192.0.2.1:50000;transport=tcp"


async def phone(at: Domain, user: str, contact: str = REGISTERED, *, tls: bool = False) -> StreamClient:
    """A phone that registers over a connection of its own."""
    context = ssl.create_default_context(cafile=str(at.folder / "ca" / "root.pem")) if tls else None
    client = await StreamClient.open(at, tls=context)
    await register(client, user, contact)
    return client


async def register(client: StreamClient, user: str, contact: str) -> None:
    made = request("REGISTER", "sip:a.example", user, to=f"sip:{user}@a.example", contact=contact)
    ok = await client.ask(signed(made, await client.ask(made), user, "secret"))
    assert ok.status == 200, repr(ok.start_line())


async def invite(
    caller: StreamClient | UdpClient, user: str, contact: str, target: str, callee: StreamClient | UdpClient
) -> tuple[Request, Request]:
    """Send an INVITE; returns it as it was sent, and as it came."""
    made = request("INVITE", target, user, contact=contact)
    challenged = await caller.ask(made)
    caller.send(ack_for(made, challenged))
    again = signed(made, challenged, user, "secret")
    caller.send(again)
    return again, await callee.request("INVITE")


class Call:
    """A call of Dave, on UDP, to a phone on a connection.

    Attributes:
        sent: his INVITE as he sent it.
        came: the same as the callee got it.
        ok: the answer as he got it.
    """

    def __init__(self, dave: UdpClient, sent: Request, came: Request, ok: Response) -> None:
        self.dave, self.sent, self.came, self.ok = dave, sent, came, ok

    @classmethod
    async def make(cls, at: Domain, callee: StreamClient, user: str = "carol") -> "Call":
        dave = await UdpClient.open(at)
        sent, came = await invite(dave, "dave", dave.contact, f"sip:{user}@a.example", callee)
        callee.send(answer(came, 200, IN_DIALOG))
        return cls(dave, sent, came, await dave.response())

    def request(self, method: str) -> Request:
        """A request of Dave's within the dialog."""
        number = self.sent.cseq.number
        return in_dialog(method, self.ok, self.dave.contact, number + (method != "ACK"), self.sent)


def token_of(route: Address) -> bytes:
    return route.parsed_uri().user or b""


@pytest.mark.parametrize("tls", [False, True])
def test_the_caller_reaches_the_connection_of_the_callee(tmp_path: Path, tls: bool) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            await at.add("dave")
            carol = await phone(at, "carol", tls=tls)
            call = await Call.make(at, carol)
            near, far = call.came.addresses("record-route")
            assert token_of(near)
            assert token_of(far).startswith(b"u-")  # datagrams, by their addresses
            call.dave.send(call.request("ACK"))
            ack = await carol.request("ACK")
            assert (ack.uri, ack.get("route")) == (IN_DIALOG.encode(), None)
            call.dave.send(call.request("BYE"))
            bye = await carol.request("BYE")
            assert bye.uri == IN_DIALOG.encode()
            carol.send(bye.response(200, "OK"))
            assert (await call.dave.response()).status == 200

    run(work)


def test_the_callee_reaches_the_connection_of_the_caller(tmp_path: Path) -> None:
    """Both on connections: each side's entry names its own."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            await at.add("dave")
            carol, dave = await phone(at, "carol"), await phone(at, "dave", "sip:dave@192.0.2.2;transport=tcp")
            _, came = await invite(carol, "carol", IN_DIALOG, "sip:dave@a.example", dave)
            routes = came.addresses("record-route")
            assert len({token_of(route) for route in routes} - {b""}) == 2
            dave.send(answer(came, 200, "sip:dave-2@192.0.2.2;transport=tcp"))
            assert (await carol.response()).status == 200
            bye = Request("BYE", came.addresses("contact")[0].uri)
            for route in routes:
                bye.add("Route", route.serialize())
            bye.add("Max-Forwards", b"70")
            bye.add("From", (came.get("to") or b"") + b";tag=callee")
            bye.add("To", came.get("from") or b"")
            bye.add("Call-ID", came.call_id)
            bye.add("CSeq", b"1 BYE")
            bye.add("Content-Length", b"0")
            dave.send(bye)
            assert (await carol.request("BYE")).uri == IN_DIALOG.encode()
            await dave.silence(0.2)

    run(work)


def test_a_strict_router_before_us(tmp_path: Path) -> None:
    """RFC 3261 section 16.4: the Request-URI is ours, and the real one comes last in Route."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            await at.add("dave")
            carol = await phone(at, "carol")
            call = await Call.make(at, carol)
            bye = call.request("BYE")
            first, *rest = bye.addresses("route")
            contact, bye.uri = bye.uri, first.uri
            bye.fields = [field for field in bye.fields if field[0] != "route"]
            for value in [*(route.serialize() for route in rest), b"<%s>" % contact]:
                bye.add("Route", value)
            call.dave.send(bye)
            assert (await carol.request("BYE")).uri == IN_DIALOG.encode()

    run(work)


def test_a_forged_token_leads_nowhere(tmp_path: Path) -> None:
    """The token of another connection, or of none, breaks the cookie; so does another dialog."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            for user in ("carol", "dave", "erin"):
                await at.add(user)
            carol, erin = await phone(at, "carol"), await phone(at, "erin", "sip:erin@192.0.2.3;transport=tcp")
            call = await Call.make(at, carol)
            other = await Call.make(at, erin, "erin")
            token, others = (token_of(one.came.addresses("record-route")[0]) for one in (call, other))
            for old, new, status in (
                # The entry of his own side still shows that he is in a dialog, but not with whom.
                (token, others, 481),
                (token, b"000000000000", 481),
                (token + b"@", b"", 481),
                (call.sent.call_id, other.sent.call_id, 407),
            ):
                made = call.request("BYE")
                made.fields = [(name, line.replace(old, new)) for name, line in made.fields]
                refused = await call.dave.ask(made)
                assert refused.status == status, (old, new)
            # With credentials he may send requests, but an address is all that this one has left.
            assert (await call.dave.ask(signed(made, refused, "dave", "secret"))).status == 503
            await carol.silence(0.2)
            await erin.silence(0.2)
            call.dave.send(call.request("BYE"))
            assert (await carol.request("BYE")).call_id == call.sent.call_id

    run(work)


def test_a_token_outlives_its_connection(tmp_path: Path) -> None:
    """Then the way is the one that the phone registered since, or the caller is told; an ACK is dropped."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            await at.add("dave")
            carol = await phone(at, "carol")
            call = await Call.make(at, carol)
            carol.close()
            again = await phone(at, "carol", "sip:carol-3@192.0.2.1:60000;transport=tcp")
            call.dave.send(call.request("ACK"))
            gone = await call.dave.ask(call.request("INFO"))
            assert (gone.status, gone.get("warning")) == (430, b'399 a.example "its connection is gone"')
            await again.silence(0.2)
            await register(again, "carol", IN_DIALOG)
            call.dave.send(call.request("ACK"))
            await again.request("ACK")
            call.dave.send(call.request("BYE"))
            assert (await again.request("BYE")).uri == IN_DIALOG.encode()

    run(work)
