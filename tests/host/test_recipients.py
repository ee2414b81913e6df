"""Whose certificate is found for whom, in which order, and for how long."""

import asyncio
from collections.abc import Iterable

import pytest
from cryptography import x509
from pki import DAY, DNS, NOW, URI, Made, authority, leaf, usage

from neighbour.agent import recipients as module
from neighbour.agent.cms.signed import SignerId
from neighbour.agent.path import Paths
from neighbour.agent.recipients import Recipients
from neighbour.agent.revocation import Crl, Revocation
from neighbour.agent.trust import Trust

ROOT = authority("root")
MIDDLE = authority("middle", ROOT)
BOB = b"sip:bob@b.example"


def made(*names: str, **wanted: object) -> Made:
    return leaf(MIDDLE, names=tuple(URI(name) for name in names), **wanted)


OWN = made("sip:bob@b.example")
NEW = made("sip:bob@b.example")
GIVEN = made("sip:bob@b.example")
SERVED = made("sip:bob@b.example")
DOMAIN = leaf(MIDDLE, "b.example", names=(URI("sip:b.example"), DNS("b.example")))
OTHER = made("sip:bob@c.example")
SIGNS_ONLY = made("sip:bob@b.example", usage=usage("digital_signature"))
STRANGER = leaf(authority("other root"), names=(URI("sip:bob@b.example"),))
ENDED = made("sip:bob@b.example", after=NOW - DAY)


class Directory:
    """Stands in for `Certificates`: what was given by hand."""

    def __init__(self) -> None:
        self.given: dict[bytes, x509.Certificate] = {}

    def directory(self, aor: bytes) -> x509.Certificate | None:
        return self.given.get(aor)

    def listed(self) -> Iterable[x509.Certificate]:
        return self.given.values()


class Trunk:
    """Stands in for a `Flow`."""

    def __init__(self, *shown: Made) -> None:
        self.certificates = tuple(one.certificate for one in shown)


class World:
    """Recipients, with what they ask.

    Attributes:
        served: what the credential service has.
        asked: whom it was asked for.
    """

    def __init__(self) -> None:
        self.now = NOW
        self.directory = Directory()
        self.served: list[Made] = []
        self.asked: list[bytes] = []
        self.trust = Trust(Paths([ROOT.certificate], Revocation(), Crl(), now=lambda: self.now), {})
        self.recipients = Recipients(self.directory, self.trust, self.fetch)

    async def fetch(self, aor: bytes, flow: object) -> list[x509.Certificate]:
        self.asked.append(aor)
        await asyncio.sleep(0)
        return [one.certificate for one in self.served]

    def learn(self, one: Made, aor: bytes = BOB, others: tuple[Made, ...] = (MIDDLE,)) -> bool:
        return self.recipients.learn(aor, one.certificate, [other.certificate for other in others])

    def at_once(self, *shown: Made, aor: bytes = BOB) -> x509.Certificate | None:
        return self.recipients.at_once(aor, Trunk(*shown))

    def find(self, *shown: Made, aor: bytes = BOB) -> x509.Certificate | None:
        return asyncio.run(self.recipients.find(aor, Trunk(*shown)))


@pytest.fixture
def world() -> World:
    return World()


def test_nothing(world: World) -> None:
    assert world.at_once() is None
    assert world.find() is None


ORDER: list[tuple[str, Made]] = [
    # What is there: l(earnt), d(irectory), s(ervice), t(runk).
    ("ldst", OWN),
    ("lt", OWN),
    ("dst", GIVEN),
    ("st", SERVED),
    ("t", DOMAIN),
]


@pytest.mark.parametrize(("there", "wanted"), ORDER, ids=[row[0] for row in ORDER])
def test_order(world: World, there: str, wanted: Made) -> None:
    if "l" in there:
        assert world.learn(OWN)
    if "d" in there:
        world.directory.given[BOB] = GIVEN.certificate
    if "s" in there:
        world.served = [SERVED, MIDDLE]
    trunk = (DOMAIN, MIDDLE)
    assert world.at_once(*trunk) == (DOMAIN if wanted is SERVED else wanted).certificate
    assert world.asked == []
    assert world.find(*trunk) == wanted.certificate
    assert world.asked == ([BOB] if wanted in (SERVED, DOMAIN) else [])


def test_intermediates_of_the_trunk(world: World) -> None:
    """Nobody else may know them, after the path is not remembered any more."""
    assert world.trust.paths.validate(OWN.certificate, [MIDDLE.certificate], module.ENCRYPT)
    assert world.learn(OWN, others=())
    world.now += DAY
    assert world.at_once(DOMAIN, MIDDLE) == OWN.certificate
    world.now += DAY
    assert world.at_once() is None
    assert world.at_once(DOMAIN, MIDDLE) == DOMAIN.certificate
    world.served = [SERVED]
    assert world.find(DOMAIN, MIDDLE) == SERVED.certificate
    world.recipients.forget(BOB)
    world.directory.given[BOB] = GIVEN.certificate
    assert world.at_once(DOMAIN, MIDDLE) == GIVEN.certificate


@pytest.mark.parametrize("bad", [OTHER, SIGNS_ONLY, STRANGER, ENDED], ids=["other", "signs only", "stranger", "ended"])
def test_what_is_of_no_use(world: World, bad: Made) -> None:
    """It is not taken from anywhere, and does not keep what is of use from being found."""
    assert not world.learn(bad)
    world.directory.given[BOB] = bad.certificate
    world.served = [bad, MIDDLE]
    assert world.at_once(bad, MIDDLE) is None
    assert world.find(bad, MIDDLE) is None
    assert world.find(DOMAIN, MIDDLE) == DOMAIN.certificate
    assert world.recipients.find_signer(SignerId(bad.certificate.issuer.public_bytes(), 1)) is None
    assert world.learn(OWN)
    assert world.find(DOMAIN, MIDDLE) == OWN.certificate


def test_trunk_of_another_domain(world: World) -> None:
    assert world.at_once(DOMAIN, MIDDLE, aor=b"sip:bob@c.example") is None
    assert world.at_once(DOMAIN, MIDDLE, aor=b"sip:anonymous@anonymous.invalid") is None


def test_learning(world: World) -> None:
    assert world.learn(OWN)
    assert not world.learn(OWN)  # known
    assert world.learn(NEW)
    assert world.at_once() == NEW.certificate
    world.recipients.forget(BOB)
    world.recipients.forget(BOB)
    assert world.at_once() is None


def test_a_domain_that_signs_for_its_user(world: World) -> None:
    """Its certificate does, but not in place of the user's own while that holds."""
    assert world.learn(DOMAIN)
    assert world.at_once() == DOMAIN.certificate
    assert world.learn(OWN)
    assert not world.learn(DOMAIN)
    assert world.at_once() == OWN.certificate
    world.recipients.forget(BOB)  # as after a 493
    assert world.learn(DOMAIN)
    assert world.at_once() == DOMAIN.certificate


def test_a_domain_in_place_of_what_has_ended(world: World) -> None:
    short = made("sip:bob@b.example", after=NOW + DAY)
    assert world.learn(short)
    world.now += 2 * DAY
    assert world.learn(DOMAIN)
    assert world.at_once() == DOMAIN.certificate


def test_what_ends_is_forgotten(world: World) -> None:
    short = made("sip:bob@b.example", after=NOW + DAY)
    assert world.learn(short)
    assert world.at_once() == short.certificate
    world.now += 2 * DAY
    assert world.at_once(DOMAIN, MIDDLE) == DOMAIN.certificate
    name = SignerId(short.certificate.issuer.public_bytes(), short.certificate.serial_number)
    assert world.recipients.find_signer(name) is None


def test_the_service_is_not_asked_each_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    for _ in range(3):
        assert world.find(DOMAIN, MIDDLE) == DOMAIN.certificate
    assert world.asked == [BOB]
    assert world.find(aor=b"sip:carol@b.example") is None
    assert len(world.asked) == 2
    now += 601
    world.served = [SERVED, MIDDLE]
    assert world.find(DOMAIN, MIDDLE) == SERVED.certificate
    assert world.find(DOMAIN, MIDDLE) == SERVED.certificate
    assert len(world.asked) == 3


def test_two_who_wait_for_the_same(world: World) -> None:
    world.served = [SERVED, MIDDLE]

    async def work() -> list[x509.Certificate | None]:
        trunk = Trunk(DOMAIN, MIDDLE)
        return await asyncio.gather(world.recipients.find(BOB, trunk), world.recipients.find(BOB, trunk))

    assert asyncio.run(work()) == [SERVED.certificate] * 2


def test_memory_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_LEARNT", 3)
    monkeypatch.setattr(module, "_MAX_MISSING", 3)
    users = [b"sip:u%d@b.example" % at for at in range(5)]
    ones = [made(user.decode()) for user in users]
    for one, user in zip(ones[:3], users, strict=False):
        assert world.learn(one, user)
    assert world.at_once(aor=users[0]) == ones[0].certificate  # used: the next is the oldest
    assert world.learn(ones[3], users[3])
    assert [world.at_once(aor=user) is not None for user in users] == [True, False, True, True, False]
    assert len(world.recipients._by_signer) == 3
    for at in range(6):
        world.find(aor=b"sip:x%d@b.example" % at)
    assert len(world.recipients._missing) == 3


def test_signers_who_bring_no_certificate(world: World) -> None:
    name = SignerId(OWN.certificate.issuer.public_bytes(), OWN.certificate.serial_number)
    key_id = OWN.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert world.recipients.find_signer(name) is None
    assert world.learn(OWN)
    assert world.recipients.find_signer(name) == OWN.certificate
    assert world.learn(NEW)
    assert world.recipients.find_signer(name) is None
    world.directory.given[BOB] = OWN.certificate
    assert world.recipients.find_signer(name) == OWN.certificate
    assert world.recipients.find_signer(SignerId(key_id=key_id)) == OWN.certificate
    assert world.recipients.find_signer(SignerId(key_id=b"other")) is None
