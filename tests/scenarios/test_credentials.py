"""The credential service (RFC 6072): certificates told to who subscribes, and fetched from other domains."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from neighbour.agent import credentials
from neighbour.agent.cms.signed import read_certificates
from neighbour.agent.credentials import FETCH_S, CredentialService
from neighbour.agent.smime import certificates_entity
from neighbour.resolver import Target
from neighbour.transactions import Server as Transaction
from neighbour.transport.flow import Flow
from sipwire.message import Request

from .network import certificate
from .world import DOMAIN, TLS_PORT, Call, Phone, Server, Terminal, World, scenario

BOB = b"sip:bob@b.example"
EVENT = ("Event", b"certificate")
NOW = ("Expires", b"0")
HOUR = ("Expires", b"3600")
DER = b"application/pkix-cert"
CHAIN = ("Accept", b"application/pkcs7-mime, application/pkix-cert;q=0.5")
TIMEOUT = b"terminated;reason=timeout"


@functools.cache
def shown(name: str) -> x509.Certificate:
    return x509.load_der_x509_certificate(certificate(name))


def der(one: x509.Certificate) -> bytes:
    return one.public_bytes(Encoding.DER)


def service(here: World) -> CredentialService:
    """The neighbour's."""
    found = here.proxy._credentials
    if found is None:
        found = here.proxy._credentials = CredentialService(
            here.config, here.certificates, here.accounts, here.transactions, here.resolver, here.trunks
        )
    return found


class Shown:
    """Certificates of users that a test changes as it likes; what is not there is the domain's."""

    def __init__(self, here: World) -> None:
        self.of: dict[str, tuple[x509.Certificate, ...]] = {"": (shown("domain"), shown("intermediate"))}
        service(here)._certificates = self  # type: ignore[assignment]

    def published(self, user: str) -> tuple[x509.Certificate, ...]:
        return self.of.get(user, self.of[""])


async def two_domains(here: World) -> tuple[Phone, Server]:
    """A user of ours, and a server of b.example that has a connection to us."""
    service(here)
    (alice,) = await here.phones("alice")
    here.zone.serve("b.example", ("127.0.2.1", TLS_PORT))
    bob = here.server("b.example")
    await bob.dial()
    return alice, bob


def subscribe(phone: Phone, to: str, *headers: tuple[str, bytes]) -> Call:
    return phone.ask(phone.new("SUBSCRIBE", to, EVENT, *headers))


def refresh(call: Call, *headers: tuple[str, bytes]) -> Call:
    return call.again("SUBSCRIBE", call.responses[0], EVENT, *headers)


async def ended(call: Call) -> None:
    """Unsubscribe, and wait until all is said."""
    assert (await refresh(call, NOW).final()).status == 200
    await asyncio.sleep(0.5)


def states(phone: Phone) -> list[bytes | None]:
    return [one.get("subscription-state") for one in phone.requests if one.method == "NOTIFY"]


def bodies(phone: Phone) -> list[bytes]:
    return [one.body for one in phone.requests if one.method == "NOTIFY"]


# The notifier.


@scenario()
async def test_a_peer_fetches_a_certificate(here: World) -> None:
    _, bob = await two_domains(here)
    bob.gets("NOTIFY")
    call = subscribe(bob, "alice", NOW)
    answer = await call.final()
    assert (answer.status, answer.get("expires")) == (200, b"0")
    assert answer.get("contact") == b"<sip:a.example;transport=tls>"
    await asyncio.sleep(1)
    notify = bob.last("NOTIFY")
    assert notify.uri == bob.contact
    assert notify.get("to") == call.request.get("from")
    assert notify.get("from") == answer.get("to")
    assert notify.call_id == answer.call_id
    assert notify.get("event") == b"certificate"
    assert notify.get("subscription-state") == TIMEOUT
    assert notify.get("content-disposition") == b"signal"
    assert notify.get("content-type") == DER
    assert notify.get("contact") == answer.get("contact")
    assert notify.body == der(here.certificates.domain.certificate)  # alice has none of her own
    assert len(bob.flows) == 1  # our own connection, to where DNS says: not that which the SUBSCRIBE came by
    assert not len(service(here))


@scenario()
async def test_the_whole_chain_for_who_takes_it(here: World) -> None:
    _, bob = await two_domains(here)
    bob.gets("NOTIFY")
    assert (await subscribe(bob, "alice", NOW, CHAIN).final()).status == 200
    await asyncio.sleep(1)
    notify = bob.last("NOTIFY")
    assert (notify.get("content-type") or b"").startswith(b"application/pkcs7-mime;smime-type=certs-only")
    assert notify.get("content-disposition") == b"signal"
    assert len(here.certificates.published("alice")) == 2
    assert set(read_certificates(notify.body)) == set(here.certificates.published("alice"))


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (b"application/pkix-cert", DER),
        (b"Application/PKIX-cert ; q=1", DER),
        (b"*/*", DER),
        (b"application/*", DER),
        (b"application/pkcs7-mime", b"application/pkcs7-mime"),
        (b"image/png", None),
        (b"", None),
    ],
)
@scenario()
async def test_accept(here: World, accept: bytes, kind: bytes | None) -> None:
    _, bob = await two_domains(here)
    bob.gets("" if kind is None else "NOTIFY")
    answer = await subscribe(bob, "alice", NOW, ("Accept", accept)).final()
    assert answer.status == (406 if kind is None else 200)
    await asyncio.sleep(1)
    if kind is not None:
        assert (bob.last("NOTIFY").get("content-type") or b"").partition(b";")[0] == kind


@pytest.mark.parametrize("to", ["support", f"sip:{DOMAIN}", f"sip:{DOMAIN};transport=tls", "SIP:alice@A.EXAMPLE:5061"])
@scenario(group=[{"uri": f"sip:support@{DOMAIN}", "members": ["alice"]}])
async def test_certificates_of_groups_and_the_domain(here: World, to: str) -> None:
    _, bob = await two_domains(here)
    known = Shown(here)
    known.of["support"], known.of["alice"] = (shown("support"),), (shown("alice"),)
    bob.gets("NOTIFY")
    assert (await subscribe(bob, to, NOW).final()).status == 200
    await asyncio.sleep(1)
    user = next((name for name in ("support", "alice") if name in to), "")
    assert bob.last("NOTIFY").body == der(known.published(user)[0])


@pytest.mark.parametrize("protection", ["udp", "tcp", "tls", "frame"])
@scenario()
async def test_our_own_get_it_the_way_they_came(here: World, protection: str) -> None:
    service(here)
    await here.phones("alice")
    kind = Terminal if protection == "frame" else Phone
    dave = await here.phone("dave", kind)
    if protection in ("tcp", "tls"):
        await dave.connect(tls=protection == "tls")
    assert (await dave.register()).status == 200
    dave.gets("NOTIFY NOTIFY NOTIFY")
    call = subscribe(dave, "alice", HOUR)
    answer = await call.final()
    assert (answer.status, answer.get("expires")) == (200, b"3600")
    await asyncio.sleep(1)
    notify = dave.last("NOTIFY")
    assert (notify.uri, notify.get("route")) == (dave.contact, None)
    assert notify.via.parse(notify.get("via") or b"").serialize().startswith(b"SIP/2.0/")
    assert notify.body == der(here.certificates.published("alice")[0])
    assert (await refresh(call, HOUR).final()).status == 200
    await ended(call)
    assert [(state or b"").partition(b";")[0] for state in states(dave)] == [b"active", b"active", b"terminated"]


@scenario()
async def test_a_notification_too_large_for_a_datagram_goes_by_tcp(here: World) -> None:
    service(here)
    (dave,) = await here.phones("dave")
    dave.gets(None)
    got: list[bytes] = []

    class Acceptor(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            got.append(data)
            request = data.partition(b"\r\n\r\n")[0].split(b"\r\n")
            kept = [
                line
                for line in request[1:]
                if line.partition(b":")[0].lower() in (b"via", b"from", b"to", b"call-id", b"cseq")
            ]
            self.transport.write(  # type: ignore[attr-defined]
                b"\r\n".join([b"SIP/2.0 200 OK", *kept, b"Content-Length: 0", b"", b""])
            )

    here.network.listen(dave.address, dave.name, lambda _: Acceptor())
    assert (await subscribe(dave, "dave", NOW, CHAIN).final()).status == 200
    await asyncio.sleep(1)
    (notify,) = got
    assert notify.startswith(b"NOTIFY sip:dave@")
    assert b"SIP/2.0/TCP" in notify
    assert b"NOTIFY" not in dave.got


Change = Callable[[Request], None]


def having(name: str, value: bytes) -> Change:
    return lambda request: request.set(name, value)


def without(*keys: str) -> Change:
    def change(request: Request) -> None:
        request.fields = [field for field in request.fields if field[0] not in keys]

    return change


@pytest.mark.parametrize(
    ("to", "change", "status"),
    [
        ("nobody", without(), 404),
        ("%ff", without(), 404),
        ("alice", having("Require", b"eventlist"), 420),
        ("alice", having("Require", b"sec-agree"), 200),
        ("alice", having("Expires", b"soon"), 400),
        ("alice", having("Expires", b"99999999999"), 400),
        ("alice", without("contact"), 400),
        ("alice", having("Contact", b"<tel:+49301234>"), 400),
        ("alice", having("Contact", b"<sip:bob@b.example?Subject=x>"), 400),
        ("alice", having("Contact", b"<sip:bob@b.example>, <sip:eve@b.example>"), 400),
        ("alice", having("Record-Route", b"<sip:b.example"), 400),
        ("alice", having("Record-Route", b"<sip:p.b.example;lr?X=y>"), 400),
        ("alice", having("Event", b'certificate;id="a b"'), 400),
        ("alice", having("Event", b"certificate;id="), 400),
        ("alice", having("To", b"<sip:alice@a.example>;tag=never"), 481),
    ],
)
@scenario()
async def test_refusals(here: World, to: str, change: Change, status: int) -> None:
    _, bob = await two_domains(here)
    bob.gets(None)
    made = bob.new("SUBSCRIBE", to, EVENT, NOW)
    change(made)
    assert (await bob.ask(made).final()).status == status
    await asyncio.sleep(1)
    assert len(states(bob)) == (status == 200)
    assert not len(service(here))


@pytest.mark.parametrize("event", [b"presence", b"credential", b"Certificate", b"certificate.winfo", None])
@scenario()
async def test_other_packages_are_for_phones(here: World, event: bytes | None) -> None:
    alice, bob = await two_domains(here)
    alice.gets("SUBSCRIBE")
    made = bob.new("SUBSCRIBE", "alice")
    if event is not None:
        made.add("Event", event)
    assert (await bob.ask(made).final()).status == 200


@scenario()
async def test_within_a_call_it_is_for_the_other_side(here: World) -> None:
    """A route cookie says that somebody is in a dialog: that is not enough to be told anything by us."""
    service(here)
    alice, carol = await here.phones("alice", "carol")
    alice.gets("INVITE ACK").answers(200)
    carol.gets("SUBSCRIBE")
    carol.contact = b"sip:carol@a.example"
    assert (await carol.call("alice").final()).status == 200
    await asyncio.sleep(0.1)
    assert (await alice.ask(alice.within("SUBSCRIBE", "INVITE", EVENT, NOW)).final()).status == 200


@scenario()
async def test_sips(here: World) -> None:
    _, bob = await two_domains(here)
    bob.gets("NOTIFY")
    made = bob.new("SUBSCRIBE", f"sips:alice@{DOMAIN}", EVENT, NOW, ("Contact", b"<sips:bob@b.example>"))
    answer = await bob.ask(made).final()
    assert (answer.status, answer.get("contact")) == (200, b"<sips:a.example>")
    await asyncio.sleep(1)
    assert (bob.last("NOTIFY").uri, bob.last("NOTIFY").get("contact")) == (b"sips:bob@b.example", b"<sips:a.example>")


@pytest.mark.parametrize("scheme", [b"sip", b"sips"])
@scenario(peer=[{"domain": "b.example", "transport": "tcp", "address": ["127.0.2.1:5070"]}])
async def test_what_is_to_be_protected_goes_over_tls_or_not_at_all(here: World, scheme: bytes) -> None:
    service(here)
    await here.phones("alice")
    bob = here.server("b.example", port=5070)
    here.network.listen(bob.address, bob.name, bob._accept)
    bob.gets("NOTIFY" if scheme == b"sip" else "")
    await bob.connect()
    assert (await subscribe(bob, "alice", HOUR, ("Contact", b"<%s:bob@b.example>" % scheme)).final()).status == 200
    await asyncio.sleep(1)
    assert len(service(here)) == (scheme == b"sip")
    await service(here).close()


@scenario()
async def test_users_of_others_are_asked_elsewhere(here: World) -> None:
    alice, bob = await two_domains(here)
    bob.gets("SUBSCRIBE").answers(489, to="SUBSCRIBE")
    assert (await subscribe(alice, BOB.decode(), NOW).final()).status == 489


@scenario()
async def test_a_notify_for_a_phone_is_the_phones(here: World) -> None:
    alice, bob = await two_domains(here)
    alice.gets("NOTIFY").answers(481, to="NOTIFY")
    made = bob.new("NOTIFY", "alice", EVENT, ("Subscription-State", b"active"))
    assert (await bob.ask(made).final()).status == 481
    assert here.count("neighbour", "alice", "NOTIFY") == 1


@scenario()
async def test_strangers_are_told_nothing(here: World) -> None:
    service(here)
    alice = await here.phone("alice")
    alice.can_sign = lambda call, challenged: False  # type: ignore[method-assign]
    assert (await subscribe(alice, "alice", NOW).final()).status == 407
    await asyncio.sleep(1)
    assert alice.got == []


@scenario()
async def test_a_subscription_that_lasts(here: World) -> None:
    _, bob = await two_domains(here)
    known = Shown(here)
    known.of["alice"] = (shown("one"),)
    bob.gets("NOTIFY NOTIFY NOTIFY NOTIFY NOTIFY")
    call = subscribe(bob, "alice", HOUR, ("Event", b"certificate;id=x7"))
    assert (await call.final()).status == 200
    await asyncio.sleep(1)
    service(here).changed({f"sip:alice@{DOMAIN}"})  # it has not
    known.of["alice"] = (shown("two"),)
    service(here).changed({f"sip:carol@{DOMAIN}"})
    await asyncio.sleep(1)
    assert states(bob) == [b"active;expires=3600"]
    service(here).changed({f"sip:alice@{DOMAIN}"})
    await asyncio.sleep(1)
    assert states(bob)[1:] == [b"active;expires=3598"]
    del known.of["alice"]
    service(here).changed({f"sip:alice@{DOMAIN}"})
    await asyncio.sleep(1)
    known.of[""] = (shown("three"),)
    service(here).changed({f"sip:{DOMAIN}"})  # which speaks for her now
    await asyncio.sleep(1)
    assert bodies(bob) == [der(shown(name)) for name in ("one", "two", "domain", "three")]
    end = call.again("SUBSCRIBE", call.responses[0], ("Event", b"certificate;id=x7"), NOW)
    assert (await end.final()).get("expires") == b"0"
    await asyncio.sleep(1)
    assert states(bob)[-1] == TIMEOUT
    notifies = [one for one in bob.requests if one.method == "NOTIFY"]
    assert {one.get("event") for one in notifies} == {b"certificate;id=x7"}
    numbers = [one.cseq.number for one in notifies]
    assert numbers == sorted(set(numbers))
    known.of[""] = (shown("four"),)
    service(here).changed({f"sip:{DOMAIN}"})
    await asyncio.sleep(1)


@pytest.mark.parametrize(
    ("asked", "granted"), [(None, b"86400"), (b"1", b"1"), (b"86401", b"86400"), (b"4294967295", b"86400")]
)
@scenario()
async def test_durations(here: World, asked: bytes | None, granted: bytes) -> None:
    _, bob = await two_domains(here)
    bob.gets("NOTIFY NOTIFY")
    call = subscribe(bob, "alice", *([] if asked is None else [("Expires", asked)]))
    assert (await call.final()).get("expires") == granted
    await asyncio.sleep(0.2)
    assert states(bob) == [b"active;expires=" + granted]
    await ended(call)


@scenario()
async def test_a_subscription_that_is_not_refreshed_ends(here: World) -> None:
    _, bob = await two_domains(here)
    bob.gets("NOTIFY NOTIFY NOTIFY")
    call = subscribe(bob, "alice", ("Expires", b"60"))
    await call.final()
    await asyncio.sleep(40)
    assert (await refresh(call, ("Expires", b"30")).final()).status == 200
    began = here.loop.time()
    await asyncio.sleep(40)
    assert states(bob) == [b"active;expires=60", b"active;expires=30", TIMEOUT]
    assert bob.arrivals[-1] - began == pytest.approx(30, abs=0.1)
    assert not len(service(here))
    assert (await refresh(call, HOUR).final()).status == 481


@scenario()
async def test_a_refresh_moves_the_subscriber(here: World) -> None:
    _, bob = await two_domains(here)
    bob.gets("NOTIFY NOTIFY NOTIFY")
    call = subscribe(bob, "alice", HOUR)
    await call.final()
    await asyncio.sleep(1)
    bob.contact = b"sip:bob@home.b.example"
    assert (await refresh(call, HOUR, CHAIN).final()).status == 200
    await asyncio.sleep(1)
    assert bob.last("NOTIFY").uri == bob.contact
    assert (bob.last("NOTIFY").get("content-type") or b"").startswith(b"application/pkcs7-mime")
    await ended(call)


@scenario()
async def test_the_way_back_is_that_of_the_record_route(here: World) -> None:
    """... and the server it is sent to is the subscriber's domain's whatever stands there."""
    _, bob = await two_domains(here)
    bob.gets("NOTIFY")
    routes = b"<sip:127.0.9.9;lr>, <sip:p2.b.example;lr>"
    call = subscribe(bob, "alice", NOW, ("Record-Route", routes), ("Contact", b"<sip:bob@127.0.9.8:1>"))
    assert (await call.final()).values("record-route") == routes.split(b", ")
    await asyncio.sleep(1)
    assert bob.last("NOTIFY").values("route") == routes.split(b", ")
    assert bob.last("NOTIFY").uri == b"sip:bob@127.0.9.8:1"
    assert set(here.network.opened) <= {bob.address, ("127.0.0.1", TLS_PORT)}


@pytest.mark.parametrize("change", ["cseq", "sender", "id", "from", "call", "user"])
@scenario()
async def test_requests_within_a_subscription_that_do_not_belong_there(here: World, change: str) -> None:
    _, bob = await two_domains(here)
    carol = here.server("c.example", "127.0.3.1")
    await carol.dial()
    bob.gets(None)
    call = subscribe(bob, "alice", HOUR)
    await call.final()
    await asyncio.sleep(1)
    made = call.within("SUBSCRIBE", call.responses[0], 500, EVENT, NOW)
    sender: Phone = bob
    if change == "cseq":
        made.set("CSeq", b"1 SUBSCRIBE")
    elif change == "sender":
        sender = carol
        made.set("From", b"<sip:bob@c.example>;tag=" + made.from_.tag)
    elif change == "id":
        made.set("Event", b"certificate;id=2")
    elif change == "from":
        made.set("From", b"<sip:bob@b.example>;tag=x")
    elif change == "call":
        made.set("Call-ID", b"x")
    else:
        await here.remove("alice")
    expected = {"cseq": 500, "id": 403, "user": 404}.get(change, 481)
    assert (await sender.ask(made).final()).status == expected
    await asyncio.sleep(1)
    assert len(states(bob)) == 1
    assert len(service(here)) == (change != "user")
    if change != "user":
        await ended(call)
        assert states(bob)[-1] == TIMEOUT


@pytest.mark.parametrize(
    ("script", "retry_after", "stays"),
    [
        ([200], False, True),
        ([481], False, False),
        ([481], True, False),
        ([408], True, False),
        ([404], False, False),
        ([603], False, False),
        ([500], False, False),
        ([503], True, True),
        ([(3.0, 200)], False, True),
        ([], False, False),
        ([180, (1.0, 200)], False, True),
    ],
)
@scenario()
async def test_who_does_not_want_to_know_is_not_told_again(
    here: World, script: list[Any], retry_after: bool, stays: bool
) -> None:
    _, bob = await two_domains(here)
    known = Shown(here)
    bob.gets("NOTIFY NOTIFY NOTIFY" if stays else "NOTIFY")
    headers = (("Retry-After", b"5"),) if retry_after else ()
    bob.answers(*script, to="NOTIFY", headers=headers)
    call = subscribe(bob, "alice", HOUR)
    await call.final()
    await asyncio.sleep(40)  # the NOTIFY is given up by then
    assert len(service(here)) == stays
    known.of[""] = (shown("other"),)
    service(here).changed({f"sip:{DOMAIN}"})
    await asyncio.sleep(5)
    status = (await refresh(call, NOW).final()).status
    assert status == (200 if stays else 481)
    await asyncio.sleep(40)


@scenario()
async def test_changes_while_a_notify_is_under_way_are_told_after_it(here: World) -> None:
    _, bob = await two_domains(here)
    known = Shown(here)
    bob.gets("NOTIFY NOTIFY NOTIFY").answers((5.0, 200), to="NOTIFY")
    call = subscribe(bob, "alice", HOUR)
    await call.final()
    for name in ("one", "two", "three"):
        await asyncio.sleep(1)
        known.of["alice"] = (shown(name),)
        service(here).changed({f"sip:alice@{DOMAIN}"})
    await asyncio.sleep(10)
    assert bodies(bob) == [der(shown("domain")), der(shown("three"))]
    assert bob.arrivals[1] - bob.arrivals[0] == pytest.approx(5, abs=0.1)
    await ended(call)


@scenario()
async def test_a_connection_that_has_died_is_no_reason_to_forget_a_peer(here: World) -> None:
    _, bob = await two_domains(here)
    known = Shown(here)
    bob.gets("NOTIFY NOTIFY NOTIFY")
    call = subscribe(bob, "alice", HOUR)
    await call.final()
    await asyncio.sleep(1)
    for flow in bob.flows:
        flow.close()
    known.of["alice"] = (shown("one"),)
    service(here).changed({f"sip:alice@{DOMAIN}"})  # before anybody knows that it is closed
    await asyncio.sleep(1)
    assert bodies(bob)[1:] == [der(shown("one"))]
    await ended(call)


@pytest.mark.parametrize("why", ["nowhere", "closed", "silent"])
@scenario(proxy={"trunk_timeout_s": 2.0})
async def test_a_peer_that_can_not_be_reached_is_forgotten(here: World, why: str) -> None:
    service(here)
    await here.phones("alice")
    if why != "nowhere":
        here.zone.serve("b.example", ("127.0.2.1", TLS_PORT), ("127.0.2.2", TLS_PORT))
    bob = here.server("b.example")
    await bob.dial()
    if why == "closed":
        here.network.unlisten(bob.address)
    elif why == "silent":
        here.network.dark |= {("127.0.2.1", TLS_PORT), ("127.0.2.2", TLS_PORT)}
    assert (await subscribe(bob, "alice", HOUR).final()).status == 200
    await asyncio.sleep(10)
    assert not len(service(here))


@scenario()
async def test_a_peers_other_server_gets_it_where_one_is_down(here: World) -> None:
    service(here)
    await here.phones("alice")
    here.zone.serve("b.example", ("127.0.2.2", TLS_PORT), ("127.0.2.1", TLS_PORT))
    bob = here.server("b.example").gets("NOTIFY")
    await bob.dial()  # type: ignore[attr-defined]
    assert (await subscribe(bob, "alice", NOW).final()).status == 200
    await asyncio.sleep(1)


@scenario()
async def test_a_phone_whose_connection_is_gone_is_forgotten(here: World) -> None:
    service(here)
    (alice,) = await here.phones("alice")
    alice.gets("NOTIFY")
    flow = await alice.connect()
    known = Shown(here)
    assert (await subscribe(alice, "alice", HOUR).final()).status == 200
    await asyncio.sleep(1)
    flow.close()
    await asyncio.sleep(1)
    known.of["alice"] = (shown("one"),)
    service(here).changed({f"sip:alice@{DOMAIN}"})
    await asyncio.sleep(1)
    assert not len(service(here))


@scenario()
async def test_after_a_restart_nobody_is_subscribed(here: World) -> None:
    _, bob = await two_domains(here)
    bob.gets("NOTIFY NOTIFY NOTIFY")
    call = subscribe(bob, "alice", HOUR)
    await call.final()
    await asyncio.sleep(1)
    await service(here).close()
    here.proxy._credentials = None
    service(here)
    assert (await refresh(call, HOUR).final()).status == 481
    again = subscribe(bob, "alice", HOUR)
    assert (await again.final()).status == 200
    await asyncio.sleep(1)
    await ended(again)


@pytest.mark.parametrize("which", ["all", "sender", "size"])
@scenario()
async def test_who_is_one_too_many_gets_it_once(here: World, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = await two_domains(here)
    alice.gets(None)
    bob.gets(None)
    if which == "all":
        monkeypatch.setattr(credentials, "_MAX_SUBSCRIPTIONS", 2)
    elif which == "sender":
        monkeypatch.setattr(credentials, "_MAX_OF_SENDER", 2)
    calls = [subscribe(bob, "alice", HOUR) for _ in range(2)]
    for call in calls:
        assert (await call.final()).get("expires") == b"3600"
    await asyncio.sleep(1)
    long = b"<sip:bob@b.example;x=" + b"x" * (3000 if which == "size" else 3) + b">"
    third = subscribe(bob, "alice", HOUR, ("Contact", long))
    answer = await third.final()
    assert (answer.status, answer.get("expires")) == (200, b"0")
    await asyncio.sleep(1)
    assert states(bob)[-1] == b"terminated;reason=probation;retry-after=3600"
    assert bodies(bob)[-1] == bodies(bob)[0]
    assert (await refresh(third, HOUR).final()).status == 481
    # Those that last may be refreshed; and where one ends there is room.
    assert (await refresh(calls[0], HOUR).final()).get("expires") == b"3600"
    other = subscribe(alice, "alice", HOUR)
    assert (await other.final()).get("expires") == (b"0" if which == "all" else b"3600")
    await ended(calls[0])
    calls[0] = subscribe(bob, "alice", HOUR)
    assert (await calls[0].final()).get("expires") == b"3600"
    await asyncio.sleep(1)
    for call in calls:
        await ended(call)
    if which != "all":
        await ended(other)
    assert not len(service(here))
    assert not service(here)._of_sender


@scenario(limits={"peer_rate": 10_000, "peer_burst": 10_000})
async def test_many_are_told_one_after_the_other(here: World) -> None:
    _, bob = await two_domains(here)
    known = Shown(here)
    bob.gets(None)
    calls = [subscribe(bob, "alice", ("Expires", b"60")) for _ in range(120)]
    for call in calls:
        assert (await call.final()).status == 200
    await asyncio.sleep(1)
    bob.requests.clear()
    bob.arrivals.clear()
    known.of["alice"] = (shown("one"),)
    service(here).changed({f"sip:alice@{DOMAIN}"})
    await asyncio.sleep(1)
    assert set(bodies(bob)) == {der(shown("one"))}
    assert len(bob.requests) == 120
    assert bob.arrivals[-1] - bob.arrivals[0] == pytest.approx(0.1, abs=0.02)
    await asyncio.sleep(60)
    assert not len(service(here))


# The subscriber.


async def trunk(here: World) -> tuple[Server, Flow]:
    """A server of b.example, and our flow to it."""
    service(here)
    bob = here.server("b.example")
    return bob, await here.trunks.flow(Target("TLS", "127.0.2.1", TLS_PORT, "b.example"))


GOOD = (("Event", b"certificate"), ("Subscription-State", TIMEOUT), ("Content-Type", DER))


def tells(bob: Server, *headers: tuple[str, bytes], body: bytes, first: bool = False, tag: bytes = b"bobs") -> None:
    """Answer SUBSCRIBE with a 200 and a NOTIFY, or the other way round."""

    def hook(server: Transaction) -> bool:
        if server.request.method != "SUBSCRIBE":
            return False
        if not first:
            bob.respond(server, 200, tag)
        bob.ask(notification(bob, *headers, body=body, tag=tag))
        if first:
            here = bob.here
            here.loop.call_later(0.3, bob.respond, server, 200, tag)
        return True

    bob.hook = hook


def notification(bob: Server, *headers: tuple[str, bytes], body: bytes, tag: bytes = b"bobs") -> Request:
    """A NOTIFY to who has subscribed last."""
    came = bob.last("SUBSCRIBE")
    made = Request("NOTIFY", came.addresses("contact")[0].uri)
    made.add("Max-Forwards", b"70")
    made.add("From", (came.get("to") or b"") + b";tag=" + tag)
    made.add("To", came.get("from") or b"")
    made.add("Call-ID", came.call_id)
    made.add("CSeq", b"1 NOTIFY")
    made.add("Contact", b"<%s>" % bob.contact)
    for name, value in headers:
        made.set(name, value)
    made.body = body
    return made


@pytest.mark.parametrize("first", [False, True])
@scenario()
async def test_a_certificate_is_fetched(here: World, first: bool) -> None:
    bob, flow = await trunk(here)
    bob.gets("SUBSCRIBE")
    tells(bob, *GOOD, body=der(shown("b.example")), first=first)
    began = here.loop.time()
    assert await service(here).fetch(BOB, flow) == (shown("b.example"),)
    assert here.loop.time() - began < 0.1
    request = bob.last("SUBSCRIBE")
    assert (request.uri, request.to.uri) == (BOB, BOB)
    assert (request.from_.uri, len(request.from_.tag)) == (b"sip:a.example", 16)
    assert request.get("contact") == b"<sip:a.example;transport=tls>"
    assert (request.get("event"), request.get("expires")) == (b"certificate", b"0")
    assert request.get("accept") == b"application/pkix-cert, application/pkcs7-mime"
    assert request.get("max-forwards") == b"70"
    await asyncio.sleep(1)
    assert here.count("neighbour", bob.name, "200 NOTIFY") == 1


@pytest.mark.parametrize("aor", [b"sip:b.example", b"sip:bob@B.example", b"sip:bob@b.example"])
@pytest.mark.parametrize("others", range(4))
@scenario()
async def test_the_chain_is_fetched(here: World, aor: bytes, others: int) -> None:
    """What is in it has no order; the certificate that was asked for comes first all the same."""
    bob, flow = await trunk(here)
    bob.gets("SUBSCRIBE")
    chain = {shown(name) for name in ("b.example", *(f"intermediate{number}" for number in range(others)))}
    entity = certificates_entity(list(chain))
    kind = entity.get("content-type") or b""
    tells(bob, *GOOD[:2], ("Content-Type", kind), ("Content-Disposition", b"signal"), body=entity.content())
    found = await service(here).fetch(aor, flow)
    assert found[0] == shown("b.example")
    assert (set(found), len(found)) == (chain, 1 + others)


@scenario()
async def test_several_share_one_question(here: World) -> None:
    bob, flow = await trunk(here)
    bob.gets("SUBSCRIBE SUBSCRIBE")
    bob.hook = lambda server: here.loop.call_later(0.5, tells_later, server) is not None

    def tells_later(server: Transaction) -> None:
        bob.respond(server, 200, b"bobs")
        bob.ask(notification(bob, *GOOD, body=der(shown("b.example"))))

    tasks = [asyncio.create_task(service(here).fetch(BOB, flow)) for _ in range(5)]
    await asyncio.sleep(0.1)
    tasks[0].cancel()  # it alone gives up
    assert await asyncio.gather(*tasks[1:]) == [(shown("b.example"),)] * 4
    assert bob.got == ["SUBSCRIBE"]
    await service(here).fetch(BOB, flow)  # nothing is kept: that is for who asks


BAD_BODIES = {
    "empty": (DER, b""),
    "cut": (DER, der(shown("b.example"))[:-1]),
    "longer": (DER, der(shown("b.example")) + b"\0"),
    "two": (DER, der(shown("b.example")) * 2),
    "large": (DER, der(shown("b.example")) + bytes(credentials._MAX_BODY_BYTES)),
    "text": (DER, b"-----BEGIN CERTIFICATE-----"),
    "zeros": (DER, bytes(300)),
    "deep": (DER, b"\x30\x80" * 2000),
    "type": (b"application/sdp", b"v=0\r\n"),
    "no type": (b"", der(shown("b.example"))),
    "bad type": (b";;", der(shown("b.example"))),
    "chain": (b"application/pkcs7-mime", der(shown("b.example"))),
    "no chain": (b"application/pkcs7-mime", certificates_entity(()).content()),
    "cut chain": (b"application/pkcs7-mime", certificates_entity((shown("b.example"),)).content()[:-3]),
    "many": (b"application/pkcs7-mime", certificates_entity([shown(f"n{n}") for n in range(17)]).content()),
    "key": (b"application/pkcs8", bytes(100)),
    "somebody else's": (DER, der(shown("m.example"))),
    "somebody else's chain": (
        b"application/pkcs7-mime",
        certificates_entity((shown("m.example"), shown("x"))).content(),
    ),
}


@pytest.mark.parametrize("name", BAD_BODIES)
@scenario()
async def test_what_is_no_certificate_is_nothing(here: World, name: str) -> None:
    bob, flow = await trunk(here)
    bob.gets("SUBSCRIBE")
    kind, body = BAD_BODIES[name]
    state = ("Subscription-State", b"active;expires=60" if body else TIMEOUT)
    tells(bob, EVENT, state, *([("Content-Type", kind)] if kind else []), body=body)
    began = here.loop.time()
    assert await service(here).fetch(BOB, flow) == ()
    assert here.loop.time() - began < 0.1
    await asyncio.sleep(1)
    assert here.count("neighbour", bob.name, "200 NOTIFY") == 1


@pytest.mark.parametrize("spare", [0, -1])
@scenario()
async def test_how_large_a_body_may_be(here: World, spare: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bob, flow = await trunk(here)
    bob.gets("SUBSCRIBE")
    body = der(shown("b.example"))
    monkeypatch.setattr(credentials, "_MAX_BODY_BYTES", len(body) + spare)
    tells(bob, *GOOD, body=body)
    assert bool(await service(here).fetch(BOB, flow)) == (spare == 0)


@pytest.mark.parametrize("status", [300, 302, 401, 403, 404, 407, 423, 480, 481, 489, 500, 503, 600])
@scenario()
async def test_refused_questions(here: World, status: int) -> None:
    bob, flow = await trunk(here)
    bob.gets("SUBSCRIBE").answers(status, to="SUBSCRIBE")
    began = here.loop.time()
    assert await service(here).fetch(BOB, flow) == ()
    assert here.loop.time() - began < 0.1


@pytest.mark.parametrize("script", [[], [100], [200], [(1.0, 200)], [(3.0, 200)], [180, 180, (5.0, 404)]])
@scenario()
async def test_nobody_waits_for_long(here: World, script: list[Any]) -> None:
    bob, flow = await trunk(here)
    bob.gets("SUBSCRIBE").answers(*script, to="SUBSCRIBE")
    began = here.loop.time()
    assert await service(here).fetch(BOB, flow) == ()
    assert here.loop.time() - began == pytest.approx(FETCH_S, abs=0.1)
    assert here.pending == 0
    # What comes now is of no question any more.
    late = await bob.ask(notification(bob, *GOOD, body=der(shown("b.example")))).final()
    assert late.status == 481
    assert (service(here)._fetches, service(here)._by_tag) == ({}, {})


@scenario()
async def test_a_trunk_that_breaks(here: World) -> None:
    bob, flow = await trunk(here)
    bob.gets("SUBSCRIBE")
    bob.hook = lambda _: bob.flows[-1].close() is None
    assert await service(here).fetch(BOB, flow) == ()
    assert here.loop.time() < FETCH_S
    assert await service(here).fetch(BOB, flow) == ()  # it is closed now


@scenario()
async def test_pending_is_followed_by_more(here: World) -> None:
    bob, flow = await trunk(here)
    bob.gets("SUBSCRIBE")
    tells(bob, EVENT, ("Subscription-State", b"pending;expires=60"), body=b"")

    async def later() -> None:
        await asyncio.sleep(1)
        made = notification(bob, EVENT, ("Subscription-State", b"active"), GOOD[2], body=der(shown("b.example")))
        made.set("CSeq", b"2 NOTIFY")
        assert (await bob.ask(made).final()).status == 200
        made.set("CSeq", b"3 NOTIFY")
        assert (await bob.ask(made).final()).status == 481  # "active" was not what we asked for

    task = asyncio.create_task(later())
    assert await service(here).fetch(BOB, flow) == (shown("b.example"),)
    assert here.loop.time() > 1
    await task


@pytest.mark.parametrize("change", ["domain", "call", "our tag", "fork", "no tag", "phone"])
@scenario()
async def test_a_notify_of_somebody_else_is_not_believed(here: World, change: str) -> None:
    """Whoever knows the question, as all on its way do, still can't answer it for the domain."""
    bob, flow = await trunk(here)
    mallory = here.server("m.example", "127.0.3.1")
    await mallory.dial()
    (carol,) = await here.phones("carol")
    for one in (bob, mallory, carol):
        one.gets(None)
    bob.answers(200, to="SUBSCRIBE", tag=b"bobs")
    task = asyncio.create_task(service(here).fetch(BOB, flow))
    await asyncio.sleep(0.1)
    made = notification(bob, *GOOD, body=der(shown("B.EXAMPLE")))
    sender: Phone = bob
    if change == "domain":
        sender = mallory
        made.set("From", b"<sip:bob@m.example>;tag=bobs")
    elif change == "call":
        made.set("Call-ID", b"x")
    elif change == "our tag":
        made.set("To", b"<sip:a.example>;tag=x")
    elif change == "fork":
        made.set("From", b"<sip:bob@b.example>;tag=other")
    elif change == "no tag":
        made.set("From", b"<sip:bob@b.example>")
    else:
        sender = carol
        made.set("From", b"<sip:carol@a.example>;tag=bobs")
    assert (await sender.ask(made).final()).status == 481
    good = notification(bob, *GOOD, body=der(shown("b.example")))
    good.set("CSeq", b"2 NOTIFY")
    assert (await bob.ask(good).final()).status == 200
    assert await task == (shown("b.example"),)


@scenario()
async def test_mallory_can_not_speak_as_bob(here: World) -> None:
    bob, flow = await trunk(here)
    mallory = here.server("m.example", "127.0.3.1")
    await mallory.dial()
    bob.gets("SUBSCRIBE").answers(200, to="SUBSCRIBE", tag=b"bobs")
    task = asyncio.create_task(service(here).fetch(BOB, flow))
    await asyncio.sleep(0.1)
    forged = notification(bob, *GOOD, body=der(shown("B.EXAMPLE")))
    assert (await mallory.ask(forged).final()).status == 403  # the gate's
    assert await task == ()


@scenario()
async def test_too_many_questions(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_MAX_FETCHES", 2)
    bob, flow = await trunk(here)
    bob.gets("SUBSCRIBE SUBSCRIBE SUBSCRIBE").answers(to="SUBSCRIBE")
    fetch = service(here).fetch
    tasks = [asyncio.create_task(fetch(b"sip:bob%d@b.example" % number, flow)) for number in range(2)]
    await asyncio.sleep(0.1)
    began = here.loop.time()
    assert await fetch(b"sip:bob3@b.example", flow) == ()
    assert here.loop.time() - began < 0.01
    assert await asyncio.gather(*tasks) == [(), ()]
    tells(bob, *GOOD, body=der(shown("b.example")))
    assert await fetch(BOB, flow) == (shown("b.example"),)


@pytest.mark.parametrize("aor", [b"", b"sip:", b"sip:b ob@b.example"])
@scenario()
async def test_addresses_that_are_none(here: World, aor: bytes) -> None:
    _, flow = await trunk(here)
    assert await service(here).fetch(aor, flow) == ()


@scenario()
async def test_closing_ends_what_is_under_way(here: World) -> None:
    alice, bob = await two_domains(here)
    alice.gets("NOTIFY")
    bob.gets("SUBSCRIBE").answers(to="SUBSCRIBE")
    flow = await here.trunks.flow(Target("TLS", "127.0.2.1", TLS_PORT, "b.example"))
    assert (await subscribe(alice, "alice", HOUR).final()).status == 200
    task = asyncio.create_task(service(here).fetch(BOB, flow))
    await asyncio.sleep(0.1)
    await service(here).close()
    assert await task == ()
    assert not len(service(here))
