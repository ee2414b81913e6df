"""The neighbour's own certificates: made, found, reloaded, renewed, and never lost to a crash."""

import base64
import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from pki import EMAIL, SIP_DOMAIN
from structlog.testing import capture_logs

from neighbour.agent.authority import Authority
from neighbour.agent.certificates import Certificates, can_encrypt, is_issued_by, issuer_of, make_domain, pin_of
from neighbour.agent.credential import Credential, PrivateKey
from neighbour.agent.keyring import (
    AGENT,
    CertificateError,
    Keyring,
    is_for_smime,
    names_it,
    read_certificates,
    write_file,
)
from neighbour.cli import run_command
from neighbour.config import Config, load


@dataclass(frozen=True)
class To:
    """A recipient as a message names it."""

    issuer: bytes | None = None
    serial: int | None = None
    key_id: bytes | None = None

    @classmethod
    def by_serial(cls, certificate: x509.Certificate) -> "To":
        return cls(certificate.issuer.public_bytes(), certificate.serial_number)

    @classmethod
    def by_key_id(cls, certificate: x509.Certificate) -> "To":
        return cls(key_id=certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest)


Logged = list[MutableMapping[str, Any]]


@pytest.fixture
def logged() -> Iterator[Logged]:
    with capture_logs() as lines:
        yield lines


def read(logged: Logged) -> str:
    """What has been logged since it was read last."""
    text = "\n".join(map(str, logged))
    logged.clear()
    return text


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


def self_made(
    *aors: str,
    begin: int = -1,
    end: int = 30,
    key: PrivateKey | None = None,
    usage: str = "digital_signature key_agreement",
    key_id: bool = True,
    extended: tuple[x509.ObjectIdentifier, ...] = (),
) -> Credential:
    """A certificate that nobody's authority made, from ``begin`` to ``end`` in days from now."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
    fields = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begin))
        .not_valid_after(now + timedelta(days=end))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(aor) for aor in aors]), critical=False
        )
    )
    if usage:
        builder = builder.add_extension(x509.KeyUsage(**{one: one in usage.split() for one in fields}), critical=True)
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if key_id:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return Credential(builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()), key)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A domain with an authority and the group support."""
    folder = tmp_path_factory.mktemp("certificates") / "a"
    run_command("init", str(folder), "--domain", "a.example")
    path = folder / "wisp.toml"
    group = '[[group]]\nuri = "sip:support@a.example"\nmembers = ["alice", "carol"]\n'
    path.write_text(path.read_text() + group)
    return folder


@pytest.fixture
def config(template: Path, tmp_path: Path) -> Config:
    return load(shutil.copytree(template, tmp_path / "a") / "wisp.toml")


@pytest.fixture
def alone(config: Config) -> Config:
    """The same without an authority."""
    path = config.base / "wisp.toml"
    path.write_text(path.read_text().replace('authority = "ca"', 'authority = ""'))
    return load(path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def put(config: Config, user: str, credential: Credential, *, age: int = 0) -> None:
    """Copy files into the folder, as a person does; ``age`` makes their time differ."""
    folder = config.base / "certificates"
    folder.mkdir(exist_ok=True)
    credential.write(folder / f"{user}.pem", folder / f"{user}.key")
    for ending in ("pem", "key"):
        os.utime(folder / f"{user}.{ending}", (1_700_000_000 + age,) * 2)


def agent_of(known: Certificates) -> Credential:
    """The domain's for S/MIME, which has to be there."""
    found = known.agent
    assert found is not None
    return found


# Whose there is.


def test_the_domains(config: Config) -> None:
    known = Certificates(config)
    assert names_it(known.domain.certificate, "sip:a.example")
    assert len(known.domain.chain) == 1
    assert not is_for_smime(known.domain.certificate)
    agent = known.agent
    assert agent is not None
    assert names_it(agent.certificate, "sip:a.example")
    assert is_for_smime(agent.certificate)
    assert can_encrypt(agent.certificate)
    assert is_issued_by(agent.certificate, issuer_of(config))
    assert agent.key.public_key() != known.domain.key.public_key()
    assert known.agent is agent
    assert known.published("nobody") == (agent.certificate, *agent.chain)
    folder = config.base / "certificates"
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "@agent.key", "@agent.pem"]
    assert (mode(folder), mode(folder / "@agent.key"), mode(folder / "@agent.pem")) == (0o700, 0o600, 0o644)
    again = Certificates(config).agent
    assert again is not None
    assert again.certificate == agent.certificate
    assert known.reload() == set()


def test_a_users_is_made_when_it_is_needed(config: Config) -> None:
    known = Certificates(config)
    alice = known.of_user("alice")
    assert alice is not None
    assert names_it(alice.certificate, "sip:alice@a.example")
    assert not names_it(alice.certificate, "sip:a.example")
    assert isinstance(alice.key, ec.EllipticCurvePrivateKey)
    assert alice.key.curve.name == "secp256r1"
    assert can_encrypt(alice.certificate)
    assert is_issued_by(alice.certificate, issuer_of(config))
    folder = config.base / "certificates"
    assert (mode(folder), mode(folder / "alice.key"), mode(folder / "alice.pem")) == (0o700, 0o600, 0o644)
    assert sorted(path.name for path in folder.iterdir() if "@" not in path.name) == [".lock", "alice.key", "alice.pem"]
    assert known.of_user("alice") is alice
    assert known.published("alice") == (alice.certificate, *alice.chain)
    again = Certificates(config).of_user("alice")
    assert again is not None
    assert again.certificate == alice.certificate
    assert known.reload() == set()
    assert known.published("bob")[0] == agent_of(known).certificate, "to be asked for somebody makes nothing"
    assert not (folder / "bob.pem").exists()


def test_without_an_authority_nothing_signs_but_what_was_given_to_us(alone: Config) -> None:
    """The certificate of TLS least of all: who has stolen its key must not be able to speak for everybody."""
    known = Certificates(alone)
    assert known.of_user("alice") is None
    assert known.agent is None
    for signer in (None, "domain", "support"):
        with pytest.raises(CertificateError, match=r"^no certificate to sign with; see security\.authority$"):
            known.for_signing("alice", signer)
    assert known.published("alice") == (known.domain.certificate, *known.domain.chain), "better than nothing"
    assert not (alone.base / "certificates").exists()
    put(alone, "alice", mine := self_made("sip:alice@a.example"))
    assert known.reload() == {"sip:alice@a.example"}
    assert known.for_signing("alice", None).certificate == mine.certificate
    with pytest.raises(CertificateError, match="no certificate to sign with"):
        known.for_signing("alice", "domain")
    put(alone, AGENT, given := self_made("sip:a.example"))
    assert known.reload() == {"sip:a.example"}
    for user, signer in (("carol", None), ("alice", "domain"), ("alice", "support")):
        assert known.for_signing(user, signer).certificate == given.certificate
    assert known.for_signing("alice", None).certificate == mine.certificate
    assert known.published("carol") == (given.certificate,)
    assert known.published("alice") == (mine.certificate,)


def test_whose_certificate_signs(config: Config) -> None:
    known = Certificates(config)
    assert names_it(known.for_signing("alice", None).certificate, "sip:alice@a.example")
    assert known.for_signing("alice", "domain") is agent_of(known)
    group = known.for_signing("alice", "support")
    assert names_it(group.certificate, "sip:support@a.example")
    assert known.for_signing("carol", "support") is group
    for user, signer in (("dave", "support"), ("alice", "sales"), ("alice", "carol"), ("support", "support")):
        with pytest.raises(CertificateError, match=f"{user} is not in the group {signer}"):
            known.for_signing(user, signer)


@pytest.mark.parametrize(
    "user",
    ["", ".", "..", "../x", "a/b", "a\0b", ".hidden", "a" * 65, "ä", "@a.example", "@agent", "@domain", "peers/x"],
)
def test_names_that_are_no_files(config: Config, user: str) -> None:
    known = Certificates(config)
    assert known.of_user(user) is None
    assert known.for_signing(user, None) is agent_of(known)
    assert known.published(user)[0] == agent_of(known).certificate
    with pytest.raises(CertificateError, match="1 to 64 letters, digits"):
        Keyring(config).of(user)
    assert {path.name for path in (config.base / "certificates").iterdir()} == {".lock", "@agent.key", "@agent.pem"}


def test_one_that_does_not_hold_is_not_used(config: Config) -> None:
    """What it opens it still opens; the agent's signs, and is what others encrypt to."""
    clock = Clock()
    put(config, "alice", mine := self_made("sip:alice@a.example", end=10))
    known = Certificates(config, clock)
    assert known.for_signing("alice", None).certificate == mine.certificate
    clock.now += timedelta(days=10)
    assert known.of_user("alice") is None
    assert known.for_signing("alice", None) is agent_of(known)
    assert known.published("alice")[0] == agent_of(known).certificate
    found = known.find(To.by_serial(mine.certificate))
    assert found is not None
    assert found.certificate == mine.certificate
    clock.now -= timedelta(days=20)
    assert known.of_user("alice") is None


def test_one_that_only_signs_is_not_published(config: Config) -> None:
    put(config, "alice", mine := self_made("sip:alice@a.example", usage="digital_signature"))
    known = Certificates(config)
    assert known.for_signing("alice", None).certificate == mine.certificate
    assert known.published("alice")[0] == agent_of(known).certificate
    put(config, AGENT, theirs := self_made("sip:a.example", usage="digital_signature"))
    known.reload()
    assert known.for_signing("bob", "domain").certificate == theirs.certificate
    for user in ("alice", "bob"):
        assert known.published(user)[0] == known.domain.certificate


@pytest.mark.parametrize(
    ("begin", "end", "extended"),
    [
        (-9, -1, (EMAIL,)),
        (1, 9, (EMAIL,)),
        (-1, 9, (SIP_DOMAIN,)),
        (-1, 9, (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH, SIP_DOMAIN)),
    ],
    ids=["expired", "not-yet", "sip-domain-alone", "of-tls"],
)
def test_an_agents_that_others_would_refuse_signs_nothing(
    config: Config, begin: int, end: int, extended: tuple[x509.ObjectIdentifier, ...]
) -> None:
    """It is not made anew either: somebody has put it there."""
    put(config, AGENT, self_made("sip:a.example", begin=begin, end=end, extended=extended))
    files = {path: path.read_bytes() for path in (config.base / "certificates").glob("@agent.*")}
    known = Certificates(config)
    assert known.agent is None
    with pytest.raises(CertificateError, match=r"^no certificate to sign with; wisp check says why$"):
        known.for_signing("alice", "domain")
    assert known.published("nobody")[0] == known.domain.certificate
    assert files == {path: path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("extended", "fits"),
    [
        ((), True),
        ((EMAIL,), True),
        ((ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,), True),
        ((ExtendedKeyUsageOID.SERVER_AUTH, EMAIL), True),
        ((SIP_DOMAIN,), False),
        ((ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH), False),
        ((ExtendedKeyUsageOID.CODE_SIGNING,), False),
    ],
)
def test_what_is_for_smime(extended: tuple[x509.ObjectIdentifier, ...], fits: bool) -> None:
    assert is_for_smime(self_made("sip:a.example", extended=extended).certificate) is fits


@pytest.mark.parametrize(
    ("key", "usage", "can"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "digital_signature key_agreement", True),
        (ec.generate_private_key(ec.SECP256R1()), "digital_signature", False),
        (ec.generate_private_key(ec.SECP256R1()), "digital_signature key_encipherment", False),
        (ec.generate_private_key(ec.SECP256R1()), "", True),
        (rsa.generate_private_key(65537, 2048), "digital_signature key_encipherment", True),
        (rsa.generate_private_key(65537, 2048), "digital_signature key_agreement", False),
        (rsa.generate_private_key(65537, 2048), "", True),
        (ed25519.Ed25519PrivateKey.generate(), "", False),
        (ed25519.Ed25519PrivateKey.generate(), "digital_signature", False),
    ],
)
def test_whether_others_can_encrypt_to_it(key: PrivateKey, usage: str, can: bool) -> None:
    assert can_encrypt(self_made("sip:alice@a.example", key=key, usage=usage).certificate) is can


# Finding what opens a message.


def test_who_is_found(config: Config) -> None:
    known = Certificates(config)
    alice, group = known.of_user("alice"), known.of_user("support")
    assert alice is not None
    assert group is not None
    for one in (alice, group, known.domain, agent_of(known)):
        assert known.find(To.by_serial(one.certificate)) is one
        assert known.find(To.by_key_id(one.certificate)) is one
    stranger = self_made("sip:alice@a.example").certificate
    issuer, serial = alice.certificate.issuer.public_bytes(), alice.certificate.serial_number
    for nobody in (
        To.by_serial(stranger),
        To.by_key_id(stranger),
        To(issuer, serial + 1),
        To(b"", serial),
        To(),
        To(issuer),
        To(key_id=b""),
    ):
        assert known.find(nobody) is None


def test_one_without_a_key_identifier(config: Config) -> None:
    put(config, "alice", mine := self_made("sip:alice@a.example", key_id=False))
    found = Certificates(config).find(To.by_serial(mine.certificate))
    assert found is not None
    assert found.certificate == mine.certificate


# Reloading.


def test_files_that_change(config: Config) -> None:
    clock = Clock()
    known = Certificates(config, clock)
    assert known.reload() == set()
    put(config, "alice", first := self_made("sip:alice@a.example"))
    put(config, "bob", self_made("sip:bob@a.example"))
    assert known.reload() == {"sip:alice@a.example", "sip:bob@a.example"}
    assert known.reload() == set()
    put(config, "alice", second := self_made("sip:alice@a.example"), age=1)
    assert known.reload() == {"sip:alice@a.example"}
    assert known.for_signing("alice", None).certificate == second.certificate
    for old in (To.by_serial(first.certificate), To.by_key_id(first.certificate)):
        assert known.find(old) is not None, "what was encrypted to it a moment ago"
    clock.now += timedelta(minutes=9, seconds=59)
    known.reload()
    assert known.find(To.by_serial(first.certificate)) is not None
    clock.now += timedelta(seconds=1)
    known.reload()
    for old in (To.by_serial(first.certificate), To.by_key_id(first.certificate)):
        assert known.find(old) is None
    assert known.find(To.by_serial(second.certificate)) is not None
    for ending in ("pem", "key"):
        (config.base / "certificates" / f"bob.{ending}").unlink()
    assert known.reload() == {"sip:bob@a.example"}
    bob = known.of_user("bob")
    assert bob is not None
    assert is_issued_by(bob.certificate, issuer_of(config)), "who has none gets one"
    put(config, "alice", second, age=2)
    assert known.reload() == set(), "the same certificate with another time"


def test_the_domains_files_change(config: Config) -> None:
    known = Certificates(config)
    before = known.domain
    made = Authority(config.path("ca")).issue_domain("a.example")
    made.write(config.path(config.tls.certificate), config.path(config.tls.key))
    assert known.reload() == {"sip:a.example"}
    assert known.domain.certificate == made.certificate
    assert known.find(To.by_serial(before.certificate)) is before
    config.path(config.tls.key).unlink()
    assert known.reload() == set()
    config.path(config.tls.certificate).unlink()
    assert known.reload() == set()
    assert known.domain.certificate == made.certificate, "we go on with what we have"


def test_the_agents_files_change(config: Config, logged: Logged) -> None:
    clock = Clock()
    known = Certificates(config, clock)
    domain, before = known.domain, agent_of(known)
    Authority(config.path("ca")).issue_agent("a.example").write(
        Keyring(config).agent.certificate, Keyring(config).agent.key
    )
    assert known.reload() == {"sip:a.example"}
    made = agent_of(known)
    assert made.certificate != before.certificate
    assert known.domain is domain
    assert known.for_signing("alice", "domain") is made
    assert known.find(To.by_serial(before.certificate)) is before, "what was encrypted to it a moment ago"
    read(logged)
    put(config, AGENT, self_made("sip:b.example"))
    assert known.reload() == set()
    assert agent_of(known) is made, "we go on with what we have"
    assert "@agent.pem: is not of sip:a.example" in read(logged)
    for path in (config.base / "certificates").glob("@agent.*"):
        path.unlink()
    assert known.reload() == {"sip:a.example"}
    assert known.published("nobody")[0] == domain.certificate
    assert agent_of(known) is not made, "it is made when it is needed"
    clock.now += timedelta(minutes=10)
    known.reload()
    for old in (before, made):
        assert known.find(To.by_serial(old.certificate)) is None


def test_a_user_called_agent(config: Config) -> None:
    """Neither is taken for the other; nor is a domain that is called so."""
    known = Certificates(config)
    agent = agent_of(known)
    user = known.for_signing("agent", None)
    assert names_it(user.certificate, "sip:agent@a.example")
    assert agent_of(known) is agent
    assert known.published("agent")[0] == user.certificate
    text = (config.base / "wisp.toml").read_text()
    (config.base / "single.toml").write_text(text.replace('"a.example"', '"agent"').replace("@a.example", "@agent"))
    keyring = Keyring(load(config.base / "single.toml"))
    places = (keyring.domain, keyring.agent, keyring.of("agent"), keyring.of("domain"))
    for paths in ([one.journal for one in places], [one.pending for one in places], [one.name for one in places]):
        assert len(set(paths)) == len(places)


def other_key(config: Config) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (config.base / "certificates" / "alice.key").write_bytes(pem)


BROKEN: list[tuple[Callable[[Config], object], str]] = [
    (lambda config: (config.base / "certificates" / "alice.pem").write_bytes(b"nothing"), "no PEM certificate"),
    (lambda config: (config.base / "certificates" / "alice.pem").write_bytes(b""), "no PEM certificate"),
    (
        lambda config: (config.base / "certificates" / "alice.key").write_bytes(b"nothing"),
        "no PEM private key without a pass phrase",
    ),
    (lambda config: (config.base / "certificates" / "alice.pem").unlink(), "No such file or directory"),
    (lambda config: (config.base / "certificates" / "alice.key").unlink(), "No such file or directory"),
    (other_key, "is not the key of"),
    (lambda config: put(config, "alice", self_made("sip:bob@a.example"), age=9), "is not of sip:alice@a.example"),
    (lambda config: put(config, "alice", self_made("sip:a.example"), age=9), "is not of sip:alice@a.example"),
    (lambda config: put(config, "alice", self_made("sip:alice@b.example"), age=9), "is not of sip:alice@a.example"),
]


@pytest.mark.parametrize(("spoil", "told"), BROKEN)
def test_broken_files(config: Config, logged: Logged, spoil: Callable[[Config], object], told: str) -> None:
    """A running neighbour keeps what it has, one that starts lets the agent sign; both say it once, and write nothing."""
    put(config, "alice", mine := self_made("sip:alice@a.example"))
    known = Certificates(config)
    read(logged)
    spoil(config)
    assert known.reload() == set()
    assert known.for_signing("alice", None).certificate == mine.certificate
    assert read(logged).count(told) == 1
    assert known.reload() == set()
    assert read(logged) == ""
    files = {path: path.read_bytes() for path in (config.base / "certificates").glob("alice.*")}
    fresh = Certificates(config)
    assert fresh.of_user("alice") is None
    assert fresh.for_signing("alice", None) is agent_of(fresh)
    assert files == {path: path.read_bytes() for path in (config.base / "certificates").glob("alice.*")}
    put(config, "alice", mine, age=99)
    assert fresh.reload() == {"sip:alice@a.example"}


def test_the_scan_is_cheap_enough(config: Config) -> None:
    """Every second a thousand users are looked at; nothing is read that has not changed."""
    folder = config.base / "certificates"
    folder.mkdir()
    for number in range(1000):
        (folder / f"u{number}.pem").touch()
    known = Certificates(config)
    read = 0
    plain = known._keyring.read

    def counted(place: object) -> Credential:
        nonlocal read
        read += 1
        return plain(place)  # type: ignore[arg-type]

    known._keyring.read = counted  # type: ignore[method-assign]
    begin = datetime.now(UTC)
    assert known.reload() == set()
    assert read == 0
    assert datetime.now(UTC) - begin < timedelta(seconds=0.5)


# Renewing.


def test_renewal(config: Config) -> None:
    clock = Clock()
    known = Certificates(config, clock)
    alice, support = known.of_user("alice"), known.of_user("support")
    put(config, "bob", self_made("sip:bob@a.example", end=396))
    known.reload()
    assert alice is not None
    assert support is not None
    domain, agent = known.domain, agent_of(known)
    assert known.renew() == set()
    end = alice.certificate.not_valid_after_utc
    assert known.renew(end - timedelta(days=30, seconds=60)) == set()
    clock.now = end - timedelta(days=29)
    changed = [known.renew() for _ in range(4)]  # one at a time
    assert changed == [{"sip:a.example"}, {"sip:a.example"}, {"sip:alice@a.example"}, {"sip:support@a.example"}]
    assert known.renew() == set()
    new = known.for_signing("alice", None)
    assert new.certificate != alice.certificate
    assert new.certificate.public_key() != alice.certificate.public_key()
    assert known.domain.certificate != domain.certificate
    assert agent_of(known).certificate != agent.certificate
    assert is_for_smime(agent_of(known).certificate)
    assert not is_for_smime(known.domain.certificate)
    for old in (alice, support, domain, agent):
        assert known.find(To.by_serial(old.certificate)) is old
        assert known.find(To.by_key_id(old.certificate)) is old
    assert known.reload() == set(), "we know what we wrote"
    clock.now += timedelta(minutes=10)
    known.reload()
    assert known.find(To.by_serial(alice.certificate)) is None
    fresh = Certificates(config, clock)
    assert fresh.domain.certificate == known.domain.certificate
    assert mode(config.path(config.tls.key)) == 0o600
    bob = fresh.find(To.by_serial(known.for_signing("bob", None).certificate))
    assert bob is not None
    assert not is_issued_by(bob.certificate, issuer_of(config)), "what others made is theirs to renew"


def test_an_authority_that_ends_soon_itself(config: Config) -> None:
    """What it makes ends with it: that is made again, but not every second."""
    clock = Clock()
    known = Certificates(config, clock)
    issuer = issuer_of(config)
    assert issuer is not None
    domain, clock.now = known.domain, issuer.not_valid_after_utc - timedelta(days=20)
    assert [known.renew() for _ in range(2)] == [{"sip:a.example"}] * 2, "for TLS, and for S/MIME"
    made = known.domain
    assert made is not domain
    assert known.renew() == set()
    assert made.certificate.not_valid_after_utc == issuer.not_valid_after_utc
    clock.now += timedelta(hours=1)
    assert known.renew() == {"sip:a.example"}


def test_an_authority_that_fails(config: Config, logged: Logged) -> None:
    """It is asked again, but not for every call, and told once."""
    clock = Clock()
    known = Certificates(config, clock)
    agent = agent_of(known)
    key = config.path("ca") / "intermediate.key"
    key.rename(key.with_suffix(".away"))
    read(logged)
    for _ in range(3):
        assert known.for_signing("alice", None) is agent
    said = read(logged)
    assert said.count("certificate not made") == 1
    assert "intermediate.key: No such file or directory" in said
    clock.now = known.domain.certificate.not_valid_after_utc - timedelta(days=1)
    before = known.domain
    assert [known.renew(), known.renew()] == [set()] * 2
    assert known.domain is before
    assert agent_of(known) is agent
    key.with_suffix(".away").rename(key)
    assert known.renew() == set()
    clock.now += timedelta(hours=1)
    assert [known.renew(), known.renew()] == [{"sip:a.example"}] * 2


def test_an_authority_that_fails_at_the_start(config: Config, logged: Logged) -> None:
    """It starts, and can't sign; a minute later it tries again."""
    clock = Clock()
    key = config.path("ca") / "intermediate.key"
    key.rename(key.with_suffix(".away"))
    known = Certificates(config, clock)
    said = read(logged)
    assert said.count("certificate not made") == 1
    assert "'of': '@agent'" in said
    for signer in (None, "domain", "support"):
        with pytest.raises(CertificateError, match=r"^no certificate to sign with; wisp check says why$"):
            known.for_signing("alice", signer)
    assert known.published("alice")[0] == known.domain.certificate
    key.with_suffix(".away").rename(key)
    assert known.agent is None
    clock.now += timedelta(minutes=1)
    assert known.for_signing("alice", "domain") is agent_of(known)


def test_it_is_not_made_twice(config: Config) -> None:
    """Two processes need it at once: the second takes what the first has written."""
    one, two = Certificates(config), Certificates(config)
    alice = one.of_user("alice")
    assert alice is not None
    assert two.of_user("alice") is None, "it sees that there is one, and reads it next"
    assert two.reload() == {"sip:alice@a.example"}
    found = two.of_user("alice")
    assert found is not None
    assert found.certificate == alice.certificate


# Crashes.


def test_writing_half(config: Config, logged: Logged) -> None:
    """Wherever it stops, the next start has either the old or the new one, with its key."""
    put(config, "alice", old := self_made("sip:alice@a.example"))
    new = self_made("sip:alice@a.example")
    keyring = Keyring(config)
    place = keyring.of("alice")
    both = new.key_pem() + new.chain_pem()
    steps: list[tuple[str, Callable[[], object], Credential]] = [
        ("a part of the first file", lambda: (keyring.folder / ".alice.newx.wisp-tmp").write_bytes(both[:100]), old),
        ("both in one file", lambda: write_file(place.journal, both, private=True), new),
        ("the key", lambda: write_file(place.key, new.key_pem(), private=True), new),
        ("the certificate", lambda: write_file(place.certificate, new.chain_pem(), private=False), new),
    ]
    for number, (name, _, wanted) in enumerate(steps):
        put(config, "alice", old, age=number)
        for path in (place.journal, *keyring.leftovers()):
            path.unlink(missing_ok=True)
        for _, step, _ in steps[: number + 1]:
            step()
        known = Certificates(config)
        assert known.for_signing("alice", None).certificate == wanted.certificate, name
        assert mode(place.key) == 0o600, name
        assert not keyring.leftovers(), name
        assert not place.journal.exists(), name
        assert keyring.read(place).certificate == wanted.certificate, name
    assert "it was left half done" in read(logged)


def test_a_running_neighbour_waits_for_who_is_writing(config: Config) -> None:
    put(config, "alice", old := self_made("sip:alice@a.example"))
    known = Certificates(config)
    place = Keyring(config).of("alice")
    new = self_made("sip:alice@a.example")
    write_file(place.journal, new.key_pem() + new.chain_pem(), private=True)
    write_file(place.key, new.key_pem(), private=True)
    assert known.reload() == set()
    assert known.for_signing("alice", None).certificate == old.certificate
    os.utime(place.journal, (1_700_000_000,) * 2)
    assert known.reload() == {"sip:alice@a.example"}, "nobody is writing any more: we finish it"
    assert known.for_signing("alice", None).certificate == new.certificate
    assert not place.journal.exists()


def test_a_journal_that_is_none(config: Config, logged: Logged) -> None:
    put(config, "alice", mine := self_made("sip:alice@a.example"))
    Keyring(config).of("alice").journal.write_text("nonsense")
    known = Certificates(config)
    assert "alice.new: is no key with its certificate; remove it" in read(logged)
    Keyring(config).of("alice").journal.unlink()
    known.reload()
    assert known.for_signing("alice", None).certificate == mine.certificate


def test_a_file_is_replaced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write_file(path, b"old", private=False)
    assert mode(path) == 0o644
    write_file(path, b"new", private=True)
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(path, b"newer", private=True)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("x", b"new")]


def test_the_lock(config: Config) -> None:
    with Keyring(config).locked():
        handle = os.open(config.base / "certificates" / ".lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)


# The domain's own, when it is missing.


def without_domain(config: Config) -> tuple[Path, Path]:
    paths = config.path(config.tls.certificate), config.path(config.tls.key)
    for path in paths:
        path.unlink()
    return paths


def test_the_domains_is_made_by_the_authority(config: Config) -> None:
    certificate, key = without_domain(config)
    assert make_domain(config) == f"{certificate}: made by ca"
    assert make_domain(config) == ""
    assert mode(key) == 0o600
    known = Certificates(config)
    assert is_issued_by(known.domain.certificate, issuer_of(config))
    assert can_encrypt(known.domain.certificate)


def test_the_domains_is_made_self_signed(alone: Config) -> None:
    _, key = without_domain(alone)
    known = Certificates(alone)
    made = known.domain.certificate
    assert is_issued_by(made, made)
    assert names_it(made, "sip:a.example")
    assert can_encrypt(made)
    assert mode(key) == 0o600
    spki = made.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert pin_of(made) == base64.b64encode(hashlib.sha256(spki).digest()).decode()
    assert known.renew(made.not_valid_after_utc - timedelta(days=1)) == set()
    private = known.domain.key
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    told = make_domain(alone, key=private)
    assert f'pin = ["{pin_of(made)}"]' in told, "the same key, the same pin"
    assert known.reload() == {"sip:a.example"}


def test_half_of_the_domains_files(config: Config) -> None:
    """A key without its certificate is no reason to make another."""
    path = config.path(config.tls.certificate)
    path.unlink()
    assert make_domain(config) == ""
    with pytest.raises(CertificateError, match=r"a\.example\.pem: No such file or directory"):
        Certificates(config)
    path.write_bytes(self_made("sip:b.example").chain_pem())
    with pytest.raises(CertificateError, match="is not the key of"):
        Certificates(config)


def test_an_authority_that_is_not_there(config: Config) -> None:
    without_domain(config)
    shutil.rmtree(config.path("ca"))
    with pytest.raises(CertificateError, match="no certificate could be made"):
        make_domain(config)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
def test_what_we_make_leads_to_the_root(config: Config) -> None:
    known = Certificates(config)
    assert known.of_user("alice") is not None
    folder = config.base
    for leaf, purpose, fits in (
        ("certificates/alice.pem", "smimesign", True),
        ("certificates/@agent.pem", "smimesign", True),
        ("certificates/@agent.pem", "sslserver", False),
        ("certificates/@agent.pem", "sslclient", False),
        ("a.example.pem", "sslserver", True),
        ("a.example.pem", "sslclient", True),
        ("a.example.pem", "smimesign", False),
    ):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca/root.pem"]
        done = subprocess.run([*command, "-untrusted", leaf, leaf], cwd=folder, capture_output=True, text=True)
        assert (done.stdout == f"{leaf}: OK\n") is fits, (leaf, purpose, done.stderr)


# The directory.


def test_the_directory(config: Config, logged: Logged) -> None:
    clock = Clock()
    known = Certificates(config, clock)
    peers = config.base / "certificates" / "peers"
    peers.mkdir(parents=True)
    bob, new, b_example = (
        self_made("sip:bob@b.example", end=10),
        self_made("sip:bob@b.example", begin=0),
        self_made("sip:b.example"),
    )
    (peers / "whatever.pem").write_bytes(bob.chain_pem())
    (peers / "der.pem").write_bytes(b_example.certificate.public_bytes(serialization.Encoding.DER))
    (peers / "broken.pem").write_bytes(b"nothing")
    (peers / "notes.txt").write_bytes(b"nothing")
    assert known.reload() == {"sip:bob@b.example", "sip:b.example"}
    assert "broken.pem" in read(logged)
    assert known.directory(b"sip:bob@b.example") == bob.certificate
    assert known.directory(b"sip:b.example") == b_example.certificate
    assert known.directory(b"sip:carol@b.example") is None
    assert known.reload() == set()
    (peers / "another.pem").write_bytes(new.chain_pem())
    assert known.reload() == {"sip:bob@b.example"}
    assert "broken.pem" not in read(logged), "it is told once"
    clock.now += timedelta(hours=1)
    assert known.directory(b"sip:bob@b.example") == new.certificate, "the newer one"
    clock.now += timedelta(days=31)
    assert known.directory(b"sip:bob@b.example") is None
    for path in peers.iterdir():
        path.unlink()
    assert known.reload() == {"sip:bob@b.example", "sip:b.example"}
    assert known.directory(b"sip:b.example") is None


def test_a_directory_file_has_a_safe_name(config: Config) -> None:
    keyring = Keyring(config)
    with keyring.locked():
        paths = [
            keyring.write_peer(aor, [self_made(aor).certificate])
            for aor in ("sip:bob@b.example", "sip:../x%2f@b.example", "sip:b.example")
        ]
    assert [path.relative_to(keyring.peers).name for path in paths] == [
        "bob@b.example.pem",
        "..%2Fx%252f@b.example.pem",
        "b.example.pem",
    ]
    assert all(path.parent == keyring.peers for path in paths)


def test_nothing_shows_a_key(config: Config, logged: Logged) -> None:
    known = Certificates(config)
    alice = known.of_user("alice")
    assert alice is not None
    shown = repr((known, alice, Keyring(config).of("alice"))) + read(logged)
    secret = alice.key_pem().splitlines()[1].decode()
    assert secret not in shown
    assert "PRIVATE" not in shown


@pytest.mark.parametrize("count", [0, 1, 3])
def test_reading_certificates(count: int) -> None:
    made = [self_made("sip:alice@a.example").certificate for _ in range(count)]
    data = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in made)
    if not made:
        with pytest.raises(ValueError):  # noqa: PT011  the library's
            read_certificates(data)
        return
    assert read_certificates(data) == made
    assert read_certificates(made[0].public_bytes(serialization.Encoding.DER)) == made[:1]
