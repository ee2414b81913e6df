"""RFC 5922: what a certificate proves. And the authority that makes such certificates."""

import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from neighbour.agent.authority import Authority, AuthorityError
from neighbour.agent.credential import write_private
from neighbour.transport.identity import certificate_domains, describe_refusal, describe_verification


def certificate(*names: x509.GeneralName, subject: str = "subject.example") -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


URI, DNS = x509.UniformResourceIdentifier, x509.DNSName


@pytest.mark.parametrize(
    ("names", "domains"),
    [
        ([URI("sip:a.example")], {"a.example"}),
        ([URI("SIP:A.Example")], {"a.example"}),
        ([URI("sip:a.example"), URI("sip:b.example")], {"a.example", "b.example"}),
        ([DNS("a.example")], {"a.example"}),
        ([DNS("A.example"), DNS("b.example")], {"a.example", "b.example"}),
        # Where there is a sip URI, DNS names are no identities (section 7.1).
        ([URI("sip:a.example"), DNS("b.example")], {"a.example"}),
        ([URI("sip:alice@a.example"), DNS("a.example")], set()),
        ([URI("https://a.example"), DNS("b.example")], {"b.example"}),
        ([URI("sips:a.example"), DNS("b.example")], {"b.example"}),
        ([DNS("*.example")], set()),
        ([URI("sip:*.example")], set()),
        ([URI("sip:a.example:5061")], set()),
        ([URI("sip:a.example;transport=tls")], set()),
        ([], set()),
    ],
)
def test_domains(names: list[x509.GeneralName], domains: set[str]) -> None:
    assert certificate_domains(certificate(*names)) == domains


def test_subject_is_no_identity() -> None:
    assert certificate_domains(certificate(subject="a.example")) == frozenset()


def test_junk_proves_nothing() -> None:
    for junk in (b"", b"junk", certificate(DNS("a.example"))[:-20]):
        assert certificate_domains(junk) == frozenset()


def test_authority(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    authority.create("Test")
    with pytest.raises(AuthorityError, match="already"):
        authority.create("Test")
    issued = authority.issue_domain("a.example")
    issued.write(tmp_path / "a.pem", tmp_path / "a.key")
    der = issued.certificate.public_bytes(serialization.Encoding.DER)
    assert certificate_domains(der) == {"a.example"}
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    for purpose in ("sslserver", "sslclient"):
        done = subprocess.run(
            [
                "openssl",
                "verify",
                "-CAfile",
                "ca/root.pem",
                "-untrusted",
                "a.pem",
                "-purpose",
                purpose,
                "-x509_strict",
                "a.pem",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.stdout == "a.pem: OK\n", done.stderr + done.stdout
    text = subprocess.run(
        ["openssl", "x509", "-noout", "-text", "-in", str(tmp_path / "a.pem")], capture_output=True, text=True
    )
    for part in ("URI:sip:a.example", "DNS:a.example", "1.3.6.1.5.5.7.3.20", "ecdsa-with-SHA256", "CA:FALSE"):
        assert part in text.stdout


def test_authority_without_files(tmp_path: Path) -> None:
    with pytest.raises(AuthorityError, match="wisp ca init"):
        Authority(tmp_path).issue_domain("a.example")
    (tmp_path / "intermediate.pem").write_text("junk")
    (tmp_path / "intermediate.key").write_text("junk")
    with pytest.raises(AuthorityError, match="not an authority's files"):
        Authority(tmp_path).issue_domain("a.example")


def test_private_files(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_reasons() -> None:
    error = ssl.SSLCertVerificationError("x")
    error.verify_code, error.verify_message = 10, "certificate has expired"
    assert describe_verification(error) == "certificate expired"
    error.verify_code, error.verify_message = 99, "something else"
    assert describe_verification(error) == "certificate refused: something else"
    alert = ssl.SSLError("x")
    alert.reason = "TLSV1_ALERT_UNKNOWN_CA"
    assert describe_refusal(alert) == "peer refused us: certificate from an unknown CA"
    alert.reason = "WRONG_VERSION_NUMBER"
    assert describe_refusal(alert) == "TLS: wrong version number"
    assert describe_refusal(OSError("x")) is None
