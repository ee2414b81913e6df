"""The authority: what it issues, signs, revokes and lists; what it made is judged by others too."""

import re
import shutil
import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store
from pki import DNS, EMAIL, NOW, SIP_DOMAIN, URI, rsa_key, usage

from neighbour.agent.authority import Authority, AuthorityError
from neighbour.agent.names import domains, proves, users
from neighbour.agent.path import ENCRYPT, SIGN, PathError, Paths
from neighbour.agent.revocation import Crl, Revocation
from neighbour.cli import run_command

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
DAY = timedelta(days=1)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(tmp_path: Path, clock: Clock) -> Authority:
    made = Authority(tmp_path / "ca", clock)
    made.create("Test")
    return made


def root_of(authority: Authority) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority.root_path.read_bytes())


def validate(
    authority: Authority, chain: Any, purpose: Any = SIGN, *, at: datetime = NOW, crls: bool = False
) -> tuple[x509.Certificate, ...]:
    lists = Revocation.read([authority.crl_path]) if crls else Revocation()
    how = Crl(missing="refuse") if crls else Crl()
    paths = Paths([root_of(authority)], lists, how, now=lambda: at)
    return paths.validate(chain[0], chain[1:], purpose).chain


def request(*names: x509.GeneralName, key: Any = None, digest: Any = hashes.SHA256, **extra: Any) -> Any:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in extra.values():
        builder = builder.add_extension(extension, critical=False)
    key = key or ec.generate_private_key(ec.SECP256R1())
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else digest())


def extended(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def used(certificate: x509.Certificate) -> x509.KeyUsage:
    return certificate.extensions.get_extension_for_class(x509.KeyUsage).value


def test_a_domain(authority: Authority) -> None:
    made = authority.issue_domain("a.example")
    assert (users(made.certificate), domains(made.certificate)) == (frozenset(), {"a.example"})
    assert used(made.certificate) == usage("digital_signature", "key_agreement")
    assert extended(made.certificate) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
        SIP_DOMAIN,
    }
    for purpose in (SIGN, ENCRYPT):
        assert validate(authority, (made.certificate, *made.chain), purpose)[-1] == root_of(authority)
    assert made.certificate.not_valid_after_utc == NOW + 397 * DAY


def test_an_agent(authority: Authority) -> None:
    """It signs for a domain, and is of no use for TLS."""
    made = authority.issue_agent("a.example")
    assert (users(made.certificate), domains(made.certificate)) == (frozenset(), {"a.example"})
    names = made.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [URI("sip:a.example")]
    assert used(made.certificate) == usage("digital_signature", "key_agreement")
    assert extended(made.certificate) == {SIP_DOMAIN, EMAIL}
    assert isinstance(made.key, ec.EllipticCurvePrivateKey)
    for purpose in (SIGN, ENCRYPT):
        assert validate(authority, (made.certificate, *made.chain), purpose)[-1] == root_of(authority)
    assert made.certificate.not_valid_after_utc == NOW + 397 * DAY
    assert made.certificate in [one.certificate for one in authority.entries()]


@pytest.mark.parametrize(
    ("aor", "user"),
    [
        ("sip:alice@a.example", b"sip:alice@a.example"),
        ("SIP:alice@A.Example", b"sip:alice@a.example"),
        ("sip:%61lice@a.example", b"sip:alice@a.example"),
        ("sip:support-team_2@a.example", b"sip:support-team_2@a.example"),
        (f"sip:{'a' * 64}@{'b' * 60}.example", b"sip:" + b"a" * 64 + b"@" + b"b" * 60 + b".example"),
    ],
)
def test_a_user(authority: Authority, aor: str, user: bytes) -> None:
    made = authority.issue_user(aor)
    assert (users(made.certificate), domains(made.certificate)) == ({user}, frozenset())
    assert used(made.certificate) == usage("digital_signature", "key_agreement")
    assert extended(made.certificate) == {SIP_DOMAIN, EMAIL}
    assert isinstance(made.key, ec.EllipticCurvePrivateKey)
    for purpose in (SIGN, ENCRYPT):
        validate(authority, (made.certificate, *made.chain), purpose)
    assert made.certificate.not_valid_after_utc == NOW + 397 * DAY


@pytest.mark.parametrize(
    "aor",
    ["alice", "alice@a.example", "sip:a.example", "sips:alice@a.example", "sip:alice@a.example:5060", "tel:+1",
     "sip:alice:x@a.example", "sip:alice@a.example;x=y", "sip:alice@a.example?x=y", "sip:al ice@a.example", "sip:älice@a.example", ""],
)  # fmt: skip
def test_what_is_no_user(authority: Authority, aor: str) -> None:
    with pytest.raises(AuthorityError, match="the address of a user is wanted"):
        authority.issue_user(aor)


@needs_openssl
def test_openssl_takes_them(authority: Authority, tmp_path: Path, clock: Clock) -> None:
    clock.now = datetime.now(UTC)
    old = Authority(tmp_path / "old", clock)
    old.create("Old")
    for made, purposes in (
        (old.issue_domain("a.example"), ("sslserver", "sslclient")),
        (old.issue_user("sip:alice@a.example"), ("smimesign",)),
        (old.issue_agent("a.example"), ("smimesign",)),
    ):
        made.write(tmp_path / "x.pem", tmp_path / "x.key")
        old.crl()
        for purpose in purposes:
            command = ["openssl", "verify", "-x509_strict", "-crl_check_all", "-CRLfile", "old/crl.pem", "-purpose"]
            command += [purpose, "-CAfile", "old/root.pem", "-untrusted", "x.pem", "x.pem"]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
            assert done.stdout == "x.pem: OK\n", done.stderr


def test_certificates_end_with_their_issuers(authority: Authority, clock: Clock) -> None:
    clock.now = NOW + 1800 * DAY
    made = authority.issue_user("sip:alice@a.example")
    assert made.certificate.not_valid_after_utc == made.chain[0].not_valid_after_utc
    clock.now = NOW + 1827 * DAY
    with pytest.raises(AuthorityError, match="the intermediate expired on 2031-06-01; make a new authority"):
        authority.issue_user("sip:alice@a.example")


# Requests.


@pytest.mark.parametrize(
    ("key", "wanted", "purposes"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), usage("digital_signature", "key_agreement"), (SIGN, ENCRYPT)),
        (lambda: ec.generate_private_key(ec.SECP384R1()), usage("digital_signature", "key_agreement"), (SIGN, ENCRYPT)),
        (lambda: rsa_key(2048), usage("digital_signature", "key_encipherment"), (SIGN, ENCRYPT)),
        (ed25519.Ed25519PrivateKey.generate, usage("digital_signature"), (SIGN,)),
    ],
    ids=["p256", "p384", "rsa", "ed25519"],
)
def test_requests(authority: Authority, key: Any, wanted: x509.KeyUsage, purposes: tuple[Any, ...]) -> None:
    owned = key()
    chain = authority.sign_request(request(URI("sip:alice@a.example"), key=owned))
    assert chain[0].public_key() == owned.public_key()
    assert users(chain[0]) == {b"sip:alice@a.example"}
    assert used(chain[0]) == wanted
    assert extended(chain[0]) == {SIP_DOMAIN, EMAIL}
    for purpose in purposes:
        validate(authority, chain, purpose)
    assert chain[0] in [one.certificate for one in authority.entries()]


def test_a_request_of_a_domain(authority: Authority) -> None:
    chain = authority.sign_request(request(URI("sip:B.example"), DNS("b.example")))
    assert domains(chain[0]) == {"b.example"}
    assert ExtendedKeyUsageOID.CLIENT_AUTH in extended(chain[0])
    several = authority.sign_request(request(URI("sip:alice@a.example"), URI("sip:a.smith@a.example")))
    assert users(several[0]) == {b"sip:alice@a.example", b"sip:a.smith@a.example"}


def test_a_request_of_a_domain_for_smime(authority: Authority) -> None:
    chain = authority.sign_request(request(URI("sip:b.example"), extended=x509.ExtendedKeyUsage([EMAIL, SIP_DOMAIN])))
    assert domains(chain[0]) == {"b.example"}
    assert extended(chain[0]) == {SIP_DOMAIN, EMAIL}


def test_what_else_a_request_says_does_not_count(authority: Authority) -> None:
    wish = request(
        URI("sip:alice@a.example"),
        usage=usage("digital_signature", "content_commitment", "data_encipherment"),
        extended=x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]),
        basic=x509.BasicConstraints(ca=False, path_length=None),
    )
    certificate = authority.sign_request(wish)[0]
    assert extended(certificate) == {SIP_DOMAIN, EMAIL}
    assert used(certificate) == usage("digital_signature", "key_agreement")


def tampered() -> Any:
    data = request(URI("sip:alice@a.example")).public_bytes(Encoding.DER)
    return x509.load_der_x509_csr(data.replace(b"alice", b"admin"))


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        (tampered, "not signed with its key"),
        (request, "no subjectAltName"),
        (lambda: request(URI("https://a.example")), "https://a.example: only sip URIs"),
        (lambda: request(URI("sips:alice@a.example")), "only sip URIs"),
        (lambda: request(URI("sip:alice@a.example:5060")), "only sip URIs"),
        (lambda: request(URI("sip:192.0.2.1")), "only sip URIs"),
        (lambda: request(URI("sip:*.example")), "only sip URIs"),
        (lambda: request(x509.RFC822Name("alice@a.example")), "only sip URIs"),
        (lambda: request(DNS("a.example")), r"a.example: a DNS name is certified only beside URI:sip:a.example"),
        (lambda: request(URI("sip:a.example"), DNS("b.example")), "b.example: a DNS name"),
        (lambda: request(URI("sip:alice@a.example"), DNS("a.example")), "a DNS name"),
        (lambda: request(URI("sip:alice@a.example"), URI("sip:a.example")), "one for each"),
        (
            lambda: request(URI("sip:a.example"), DNS("a.example"), extended=x509.ExtendedKeyUsage([EMAIL])),
            "for S/MIME and for TLS; make one for each",
        ),
        (
            lambda: request(
                URI("sip:a.example"), extended=x509.ExtendedKeyUsage([EMAIL, ExtendedKeyUsageOID.SERVER_AUTH])
            ),
            "for S/MIME and for TLS; make one for each",
        ),
        (lambda: request(*[URI(f"sip:u{at}@a.example") for at in range(33)]), "more than 32 names"),
        (
            lambda: request(URI("sip:a.example"), basic=x509.BasicConstraints(ca=True, path_length=None)),
            "for an authority; see `wisp ca intermediate`",
        ),
        (lambda: request(URI("sip:a.example"), usage=usage("key_cert_sign")), "for an authority"),
        (lambda: request(URI("sip:a.example"), usage=usage("crl_sign")), "for an authority"),
        (lambda: request(URI("sip:alice@a.example"), key=rsa_key(1024)), "RSA key of 1024 bits"),
        (lambda: request(URI("sip:alice@a.example"), key=ec.generate_private_key(ec.SECP256K1())), "secp256k1"),
        (lambda: request(URI("sip:alice@a.example"), digest=hashes.SHA224), "hash"),
    ],
)
def test_requests_that_are_refused(authority: Authority, wish: Any, told: str) -> None:
    before = len(authority.entries())
    with pytest.raises(AuthorityError, match=told):
        authority.sign_request(wish())
    assert len(authority.entries()) == before


# An authority for one domain.


@pytest.fixture
def bound(authority: Authority, tmp_path: Path) -> Authority:
    return authority.issue_intermediate("b.example", tmp_path / "b")


def test_an_authority_of_its_own(authority: Authority, bound: Authority) -> None:
    assert sorted(path.name for path in bound.folder.iterdir()) == ["intermediate.key", "intermediate.pem", "root.pem"]
    assert stat.S_IMODE((bound.folder / "intermediate.key").stat().st_mode) == 0o600
    assert root_of(bound) == root_of(authority)
    for made in (
        bound.issue_domain("b.example"),
        bound.issue_agent("b.example"),
        bound.issue_user("sip:bob@b.example"),
    ):
        for purpose in (SIGN, ENCRYPT):
            assert len(validate(authority, (made.certificate, *made.chain), purpose)) == 3
    with pytest.raises(AuthorityError, match="already"):
        authority.issue_intermediate("b.example", bound.folder)
    with pytest.raises(AuthorityError, match=r"root\.key is not here"):
        bound.issue_intermediate("c.b.example", bound.folder / "c")


def test_it_is_for_that_domain_alone(authority: Authority, bound: Authority, clock: Clock) -> None:
    for attempt in (
        lambda: bound.issue_domain("a.example"),
        lambda: bound.issue_agent("a.example"),
        lambda: bound.issue_user("sip:alice@a.example"),
        lambda: bound.sign_request(request(URI("sip:alice@a.example"))),
        lambda: bound.sign_request(request(URI("sip:a.example"), DNS("a.example"))),
    ):
        with pytest.raises(AuthorityError, match="this authority is for another domain"):
            attempt()
    assert bound.entries() == []
    # Nor does anybody believe it, whatever tool it uses.
    from neighbour.agent.issuance import sign

    key = ec.generate_private_key(ec.SECP256R1())
    issuer = bound._intermediate()
    for names in ((URI("sip:alice@a.example"),), (URI("sip:a.example"), DNS("b.example")), (DNS("a.example"),)):
        forged = sign(
            "x",
            key.public_key(),
            issuer.certificate,
            issuer.key,
            NOW - DAY,
            NOW + DAY,
            [(x509.SubjectAlternativeName(names), False)],
        )
        with pytest.raises(PathError, match="name constraints"):
            validate(authority, (forged, issuer.certificate))


def test_others_cope_with_its_bounds(tmp_path: Path) -> None:
    """TLS by OpenSSL, both ends, and the library's own verification."""
    authority = Authority(tmp_path / "ca")
    authority.create("Test")
    made = authority.issue_intermediate("b.example", tmp_path / "b").issue_domain("b.example")
    made.write(tmp_path / "b.pem", tmp_path / "b.key")
    ends = []
    for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        context = ssl.SSLContext(protocol)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(tmp_path / "b.pem", tmp_path / "b.key")
        context.load_verify_locations(authority.root_path)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        ends.append(context)
    one, two = ssl.MemoryBIO(), ssl.MemoryBIO()
    objects = [ends[0].wrap_bio(one, two, server_side=True), ends[1].wrap_bio(two, one)]
    for _ in range(3):
        for end in reversed(objects):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert all(end.version() == "TLSv1.3" and end.getpeercert() for end in objects)
    verifier = PolicyBuilder().store(Store([root_of(authority)])).build_server_verifier(DNS("b.example"))
    assert len(verifier.verify(made.certificate, list(made.chain))) == 3


# Revoking.


def test_revoking(authority: Authority, bound: Authority, clock: Clock) -> None:
    alice, carol = authority.issue_user("sip:alice@a.example"), authority.issue_user("sip:carol@a.example")
    bob = bound.issue_user("sip:bob@b.example")
    authority.crl()
    for made in (alice, carol):
        validate(authority, (made.certificate, *made.chain), crls=True)
    assert authority.revoke(alice.certificate.serial_number) is None
    assert authority.revoke(carol.certificate) is None
    assert authority.revoke(carol.certificate) == NOW
    authority.crl()
    for made in (alice, carol):
        with pytest.raises(PathError, match="certificate revoked"):
            validate(authority, (made.certificate, *made.chain), crls=True)
    # The list of b.example's users is its own authority's.
    with pytest.raises(PathError, match="no CRL of the issuer"):
        validate(authority, (bob.certificate, *bob.chain), crls=True)
    bound.revoke(bob.certificate)
    bound.crl()
    lists = Revocation.read([authority.crl_path, bound.crl_path])
    assert len(lists) == 3
    paths = Paths([root_of(authority)], lists, Crl(missing="refuse"), now=clock)
    with pytest.raises(PathError, match="certificate revoked"):
        paths.validate(bob.certificate, bob.chain, SIGN)
    states = {next(iter(users(one.certificate)), b""): one.revoked_at for one in authority.entries()}
    assert states == {b"": None, b"sip:alice@a.example": NOW, b"sip:carol@a.example": NOW}


def test_revoking_an_authority(authority: Authority, bound: Authority) -> None:
    bob = bound.issue_user("sip:bob@b.example")
    authority.revoke(bob.chain[0])
    authority.crl()
    lists = Revocation.read([authority.crl_path])
    paths = Paths([root_of(authority)], lists, Crl(), now=lambda: NOW)
    with pytest.raises(PathError, match="certificate revoked"):
        paths.validate(bob.certificate, bob.chain, SIGN)
    # Its own too, and then it issues nothing any more.
    alice = authority.issue_user("sip:alice@a.example")
    authority.revoke(alice.chain[0])
    with pytest.raises(AuthorityError, match="the intermediate is revoked"):
        authority.issue_user("sip:alice@a.example")
    authority.crl()
    with pytest.raises(PathError, match="certificate revoked"):
        validate(authority, (alice.certificate, *alice.chain), crls=True)


def test_without_the_roots_key(authority: Authority, bound: Authority, clock: Clock, tmp_path: Path) -> None:
    """It is away most of the time: the root's last list is kept, but what it does not say is not passed over."""
    alice = authority.issue_user("sip:alice@a.example")
    authority.crl(days=30)
    (authority.folder / "root.key").rename(tmp_path / "away.key")
    authority.revoke(alice.certificate)
    clock.now += DAY
    authority.crl()
    assert len(Revocation.read([authority.crl_path])) == 2
    with pytest.raises(PathError, match="certificate revoked"):
        validate(authority, (alice.certificate, *alice.chain), crls=True, at=clock.now)
    authority.issue_user("sip:carol@a.example")
    with pytest.raises(AuthorityError, match=r"root\.key is not here"):
        authority.issue_intermediate("c.example", tmp_path / "c")
    before = authority.crl_path.read_bytes()
    authority.revoke(x509.load_pem_x509_certificate((bound.folder / "intermediate.pem").read_bytes()))
    with pytest.raises(AuthorityError, match=r"an intermediate is revoked, and root\.key is not here"):
        authority.crl()
    assert authority.crl_path.read_bytes() == before
    (tmp_path / "away.key").rename(authority.folder / "root.key")
    authority.crl()
    (authority.folder / "root.key").rename(tmp_path / "away.key")
    authority.crl()
    root = root_of(authority)
    assert Revocation.read([authority.crl_path]).status(
        bound._certificate("intermediate"), root, clock.now
    ).state == "revoked"  # fmt: skip


def test_each_list_is_newer_than_the_last(authority: Authority, clock: Clock) -> None:
    numbers = []
    for back in (0, 0, 3600, -DAY.total_seconds()):
        clock.now = NOW - timedelta(seconds=back)
        pem = authority.crl()
        for one in pem.split(b"-----BEGIN")[1:]:
            made = x509.load_pem_x509_crl(b"-----BEGIN" + one)
            assert made.next_update_utc == clock.now + 7 * DAY
        numbers.append(made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
    assert numbers == sorted(set(numbers))


def test_what_is_not_revoked(authority: Authority, tmp_path: Path, clock: Clock) -> None:
    other = Authority(tmp_path / "other", clock)
    other.create("Test")  # of the same name
    with pytest.raises(AuthorityError, match="of another authority"):
        authority.revoke(other.issue_user("sip:alice@a.example").certificate)
    with pytest.raises(AuthorityError, match="no certificate of this authority; see `wisp ca list`"):
        authority.revoke(12345)
    with pytest.raises(AuthorityError, match="a root can't be revoked"):
        authority.revoke(root_of(authority))
    assert all(one.revoked_at is None for one in authority.entries())


def test_what_was_issued_before_there_was_a_ledger(authority: Authority) -> None:
    alice = authority.issue_user("sip:alice@a.example")
    shutil.rmtree(authority.folder / "issued")
    assert authority.entries() == []
    authority.revoke(alice.certificate)
    authority.crl()
    with pytest.raises(PathError, match="certificate revoked"):
        validate(authority, (alice.certificate, *alice.chain), crls=True)


def test_a_ledger_that_cannot_be_read(authority: Authority) -> None:
    """A revocation is never overlooked."""
    alice = authority.issue_user("sip:alice@a.example").certificate
    authority.revoke(alice)
    path = authority.folder / "revoked" / f"{alice.serial_number:x}"
    good = path.read_bytes()
    for junk in (b"", b"yesterday", b"2026-06-01T12:00:00", b"\xff"):
        path.write_bytes(junk)
        for attempt in (authority.crl, authority.entries, lambda: authority.revoke(alice)):
            with pytest.raises(AuthorityError, match="not the date of a revocation"):
                attempt()
    path.write_bytes(good)
    issued = authority.folder / "issued" / f"{alice.serial_number:x}.pem"
    pem = issued.read_bytes()
    issued.write_bytes(b"junk")
    with pytest.raises(AuthorityError, match=r"\.pem: no PEM certificate"):
        authority.crl()
    issued.write_bytes(root_of(authority).public_bytes(Encoding.PEM))
    with pytest.raises(AuthorityError, match="has the certificate"):
        authority.crl()
    issued.write_bytes(pem)
    authority.crl()


def test_nothing_is_issued_that_is_not_written_down(authority: Authority) -> None:
    shutil.rmtree(authority.folder / "issued")
    (authority.folder / "issued").write_bytes(b"in the way")
    with pytest.raises(OSError, match="issued"):
        authority.issue_user("sip:alice@a.example")


def test_keys_that_do_not_belong(authority: Authority) -> None:
    (authority.folder / "intermediate.key").write_bytes((authority.folder / "root.key").read_bytes())
    with pytest.raises(AuthorityError, match=r"intermediate\.key is not the key of intermediate\.pem"):
        authority.issue_user("sip:alice@a.example")
    rsa = rsa_key(2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (authority.folder / "intermediate.key").write_bytes(rsa)
    with pytest.raises(AuthorityError, match="no EC key"):
        authority.crl()


# The command.


class Said:
    """Runs the command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str, status: int = 0) -> str:
        self._capsys.readouterr()
        got = 0
        try:
            run_command("ca", *arguments)
        except SystemExit as error:
            got = int(error.code or 0)
        captured = self._capsys.readouterr()
        assert got == status, captured.out + captured.err
        assert bool(captured.err) == bool(status)
        return captured.out + captured.err


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(capsys)


@pytest.fixture
def ca(tmp_path: Path, said: Said) -> str:
    folder = str(tmp_path / "ca")
    assert "keep root.key offline" in said("init", folder, "--name", "Lab")
    return folder


def test_commands(said: Said, ca: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert said("issue", ca, "a.example", "--out", out) == f"{out}/a.example.pem, {out}/a.example.key\n"
    assert (
        said("user", ca, "sip:Alice@A.example", "--out", out)
        == f"{out}/Alice@a.example.pem, {out}/Alice@a.example.key\n"
    )
    assert "%2F" in said("user", ca, "sip:../x/y@a.example", "--out", out)
    for path in (tmp_path / "out").glob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (tmp_path / "bob.csr").write_bytes(request(URI("sip:bob@a.example")).public_bytes(Encoding.PEM))
    assert said("sign", ca, str(tmp_path / "bob.csr"), "--out", out) == f"{out}/bob.pem: sip:bob@a.example\n"
    bob = x509.load_pem_x509_certificates((tmp_path / "out/bob.pem").read_bytes())
    assert proves(bob[0], b"sip:bob@a.example") == "user"
    assert len(bob) == 2
    b = str(tmp_path / "b")
    assert (
        said("intermediate", ca, "b.example", "--out", b)
        == f"{b}: an authority for b.example; root.key stays in {ca}\n"
    )
    said("user", b, "sip:bob@b.example", "--out", out)
    lines = [line.split() for line in said("list", ca).splitlines()]
    assert lines[0] == ["names", "serial", "until", "revoked"]
    serials = {line[0]: line[-2] for line in lines[1:]}
    assert set(serials) == {
        "CN=Lab", "a.example", "sip:Alice@a.example", "sip:../x/y@a.example", "sip:bob@a.example", "CN=b.example",
    }  # fmt: skip
    told = said("revoke", ca, serials["sip:bob@a.example"])
    assert told == f"{serials['sip:bob@a.example']}: revoked; next: wisp ca crl {ca}, and give crl.pem to every peer\n"
    assert "was revoked on 2" in said("revoke", ca, f"{out}/bob.pem")
    assert "revoked; next" in said("revoke", ca, f"{b}/intermediate.pem")
    assert said("crl", ca) == f"{ca}/crl.pem: good for 7 days\n"
    assert said("crl", ca, "--days", "30", "--out", f"{out}/peers.crl") == f"{out}/peers.crl: good for 30 days\n"
    assert (tmp_path / "out/peers.crl").read_bytes() == Path(ca, "crl.pem").read_bytes()
    lists = Revocation.read([Path(ca, "crl.pem")])
    root = x509.load_pem_x509_certificate(Path(ca, "root.pem").read_bytes())
    now = datetime.now(UTC)
    assert lists.status(bob[0], bob[1], now).state == "revoked"
    assert lists.status(bob[1], root, now).until is not None
    revoked = {
        line.split()[0] for line in said("list", ca).splitlines() if len(re.findall(r" \d{4}-\d\d-\d\d", line)) == 2
    }
    assert revoked == {"sip:bob@a.example", "CN=b.example"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["init", "{ca}"], "already"),
        (["user", "{ca}", "alice@a.example"], "the address of a user is wanted, like sip:alice@a.example"),
        (["user", "nowhere", "sip:alice@a.example"], "make an authority with `wisp ca init`"),
        (["issue", "nowhere", "a.example"], "make an authority with `wisp ca init`"),
        (["list", "nowhere"], "make an authority with `wisp ca init`"),
        (["crl", "nowhere"], "make an authority with `wisp ca init`"),
        (["revoke", "nowhere", "1"], "make an authority with `wisp ca init`"),
        (["sign", "{ca}", "none.csr"], "none.csr: No such file or directory"),
        (["sign", "{ca}", "{ca}/root.pem"], "root.pem: no request for a certificate"),
        (["sign", "{ca}", "{ca}/root.key"], "root.key: no request for a certificate"),
        (["revoke", "{ca}", "{ca}/root.pem"], "a root can't be revoked"),
        (["revoke", "{ca}", "{ca}/root.key"], "root.key: no certificate"),
        (["revoke", "{ca}", "xyz"], "neither a file nor a serial number"),
        (["revoke", "{ca}", "abcdef"], "abcdef: no certificate of this authority"),
        (["intermediate", "{ca}", "b.example", "--out", "{ca}"], "there is an authority already"),
        (["intermediate", "{ca}", "b.example", "--out", "/proc/x"], "/proc/x: No such file or directory"),
        (["crl", "{ca}", "--out", "/proc/x/y"], "No such file or directory"),
    ],
)
def test_mistakes(
    said: Said, ca: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in said(*(one.format(ca=ca) for one in arguments), status=2)
