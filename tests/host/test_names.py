"""What certificates prove."""

import pytest
from conftest import ROOT
from cryptography import x509
from pki import DNS, URI, authority, leaf

from neighbour.agent import names
from neighbour.agent.names import domains, proves, users

CA = authority("ca")
MAIL = x509.RFC822Name


def named(*found: x509.GeneralName) -> x509.Certificate:
    return leaf(CA, "sip:mallory@evil.example", names=found).certificate


@pytest.mark.parametrize(
    ("found", "expected_users", "expected_domains"),
    [
        ([URI("sip:alice@a.example")], {b"sip:alice@a.example"}, set()),
        ([URI("SIP:alice@A.Example")], {b"sip:alice@a.example"}, set()),
        ([URI("sips:alice@a.example")], {b"sip:alice@a.example"}, set()),
        ([URI("sip:Alice@a.example")], {b"sip:Alice@a.example"}, set()),
        ([URI("sip:%61lice@a.example")], {b"sip:alice@a.example"}, set()),
        ([URI("sip:a%40b@a.example")], {b"sip:a%40b@a.example"}, set()),
        ([URI("sip:alice@a.example"), URI("sip:bob@b.example")], {b"sip:alice@a.example", b"sip:bob@b.example"}, set()),
        (
            [URI("sip:fluffy@a.example"), URI("im:fluffy@a.example"), URI("pres:x@y")],
            {b"sip:fluffy@a.example"},
            set(),
        ),
        ([URI("sip:alice@a.example:5060")], set(), set()),
        ([URI("sip:alice:secret@a.example")], set(), set()),
        ([URI("sip:alice@a.example;transport=tls")], set(), set()),
        ([URI("sip:alice@a.example?subject=x")], set(), set()),
        ([URI("sip:alice@*.example")], set(), set()),
        ([URI("sip:@a.example")], set(), set()),
        ([URI("sip:al ice@a.example")], set(), set()),
        ([URI("sip:alice@b.example@a.example")], set(), set()),
        ([URI("sip:alice@a.example\r\n")], set(), set()),
        ([URI("tel:+123")], set(), set()),
        ([MAIL("alice@a.example")], set(), set()),
        ([URI("sip:a.example")], set(), {"a.example"}),
        ([URI("sip:a.example"), DNS("b.example")], set(), {"a.example"}),
        ([URI("sip:a.example"), URI("sip:alice@a.example")], {b"sip:alice@a.example"}, {"a.example"}),
        ([DNS("a.example")], set(), {"a.example"}),
        ([DNS("*.a.example")], set(), set()),
        ([URI("sip:alice@a.example"), DNS("a.example")], {b"sip:alice@a.example"}, set()),
        ([], set(), set()),
    ],
)
def test_names(found: list[x509.GeneralName], expected_users: set[bytes], expected_domains: set[str]) -> None:
    certificate = named(*found)
    assert users(certificate) == expected_users
    assert domains(certificate) == expected_domains


@pytest.mark.parametrize(
    ("found", "aor", "expected"),
    [
        ([URI("sip:alice@a.example")], b"sip:alice@a.example", "user"),
        ([URI("sips:alice@A.EXAMPLE")], b"sip:alice@a.example", "user"),
        ([URI("sip:alice@a.example")], b"sips:alice@a.example", "user"),
        ([URI("sip:alice@a.example")], b"sip:alice@A.example", "user"),
        ([URI("sip:alice@a.example")], b"sip:Alice@a.example", ""),
        ([URI("sip:alice@a.example")], b"sip:bob@a.example", ""),
        ([URI("sip:alice@a.example")], b"sip:a.example", ""),
        ([URI("sip:alice@a.example")], b"sip:alice@a.example:5060", ""),
        ([URI("sip:alice@a.example")], b"sip:alice@a.example;x", ""),
        ([URI("sip:alice@a.example")], b"sip:alice@a.example?x=y", ""),
        ([URI("sip:alice@a.example")], b"sip:alice:x@a.example", ""),
        ([URI("sip:alice@a.example")], b"tel:+123", ""),
        ([URI("sip:alice@a.example")], b"alice@a.example", ""),
        ([URI("sip:alice@a.example")], b"", ""),
        ([URI("sip:alice@a.example")], b"sip:alice@sub.a.example", ""),
        ([URI("sip:a.example")], b"sip:alice@a.example", "domain"),
        ([URI("sip:a.example")], b"sip:alice@A.EXAMPLE", "domain"),
        ([URI("sip:a.example")], b"sip:a.example", "domain"),
        ([URI("sip:a.example")], b"sip:alice@b.example", ""),
        ([URI("sip:a.example")], b"sip:alice@x.a.example", ""),
        ([DNS("a.example")], b"sip:alice@a.example", "domain"),
        ([URI("sip:a.example"), URI("sip:alice@a.example")], b"sip:alice@a.example", "user"),
        ([URI("sip:a.example"), URI("sip:alice@a.example")], b"sip:bob@a.example", "domain"),
        ([], b"sip:mallory@evil.example", ""),
    ],
)
def test_proof(found: list[x509.GeneralName], aor: bytes, expected: str) -> None:
    assert proves(named(*found), aor) == expected


@pytest.mark.parametrize(
    ("path", "aor", "expected"),
    [
        ("rfc6216/certs/fluffy_eku.crt", b"sip:fluffy@example.com", "user"),
        ("rfc6216/certs/fluffy_eku.crt", b"sip:kumiko@example.net", ""),
        ("rfc6216/certs/kumiko_eku.crt", b"sip:kumiko@example.net", "user"),
        ("rfc6216/certs/example.com_eku.crt", b"sip:fluffy@example.com", "domain"),
        ("rfc6216/certs/example.com_eku.crt", b"sip:kumiko@example.net", ""),
        ("rfc6216/certs/ca.crt", b"sip:fluffy@example.com", ""),
        ("smime_generated/certs/alice.crt", b"sip:alice@example.com", "user"),
        ("smime_generated/certs/domain.crt", b"sip:alice@example.com", "domain"),
        ("smime_generated/certs/mallory.crt", b"sip:alice@example.com", ""),
    ],
)
def test_published(path: str, aor: bytes, expected: str) -> None:
    certificate = x509.load_pem_x509_certificate((ROOT / "tests/vectors" / path).read_bytes())
    assert proves(certificate, aor) == expected


def test_names_that_cannot_be_read() -> None:
    """A broken extension, or one that is there twice, proves nothing."""
    extension = x509.UnrecognizedExtension(x509.OID_SUBJECT_ALTERNATIVE_NAME, b"\x30\x03\x82\x05")
    certificate = leaf(CA, names=(), extra=((extension, False),)).certificate
    assert proves(certificate, b"sip:alice@a.example") == ""


def test_names_are_read_once() -> None:
    certificate = named(URI("sip:alice@a.example"))
    names._names.cache_clear()
    for _ in range(3):
        assert proves(certificate, b"sip:alice@a.example") == "user"
    known = names._names.cache_info()
    assert (known.hits, known.misses, known.maxsize) == (2, 1, 4096)
