"""What lists of revoked certificates say. Whole paths with such lists are in test_path.py, decided by others as well."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from pki import DAY, NOW, authority, crl, der, ec_key, leaf, rsa_key, usage

from neighbour.agent.revocation import Crl, Revocation, RevocationError, State, Status

CA = authority("ca")
ALICE, BOB = leaf(CA), leaf(CA, "bob")
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
WEEK = 7 * DAY


def lists(*crls: x509.CertificateRevocationList) -> Revocation:
    made = Revocation()
    for one in crls:
        made.add(der(one))
    return made


def state(revocation: Revocation, fresh_s: int = 0) -> State:
    return revocation.status(ALICE.certificate, CA.certificate, NOW, fresh_s=fresh_s).state


def point(**wanted: object) -> x509.IssuingDistributionPoint:
    usual: dict[str, object] = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**{**usual, **wanted})


OLD = crl(CA, [BOB], since=NOW - 5 * DAY)
OTHERS_LIST = crl(authority("ca"), [ALICE])  # of another authority with the same name


@pytest.mark.parametrize(
    ("crls", "expected"),
    [
        ([], State.MISSING),
        ([crl(CA)], State.GOOD),
        ([crl(CA, [BOB])], State.GOOD),
        ([crl(CA, [ALICE])], State.REVOKED),
        ([crl(CA, [BOB, ALICE])], State.REVOKED),
        ([crl(CA, identifier=False)], State.GOOD),
        ([crl(CA, digest=hashes.SHA384)], State.GOOD),
        ([crl(authority("another"), [ALICE])], State.MISSING),
        ([OTHERS_LIST], State.MISSING),
        ([crl(CA), OTHERS_LIST], State.GOOD),
        ([crl(authority("ca"), [ALICE], identifier=False)], State.FORGED),
        ([crl(CA, key=ec_key())], State.FORGED),
        ([crl(CA, [ALICE], key=ec_key())], State.FORGED),
        ([crl(CA, key=rsa_key(2048))], State.FORGED),
        ([crl(CA, key=ec_key(), since=NOW), crl(CA)], State.GOOD),
        ([crl(CA, [ALICE], key=ec_key(), since=NOW), crl(CA)], State.GOOD),
        ([crl(CA, key=ec_key(), since=NOW), crl(CA, [ALICE])], State.REVOKED),
        # The newest counts.
        ([OLD, crl(CA, [ALICE])], State.REVOKED),
        ([crl(CA, [ALICE]), OLD], State.REVOKED),
        ([crl(CA, [ALICE], since=NOW - 5 * DAY), crl(CA)], State.GOOD),
        ([crl(CA, number=1), crl(CA, [ALICE], number=2)], State.REVOKED),
        ([crl(CA, [ALICE], number=1), crl(CA, number=2)], State.GOOD),
        # One of the future does not hide that of today.
        ([crl(CA, [ALICE]), crl(CA, since=NOW + DAY)], State.REVOKED),
        ([crl(CA), crl(CA, since=NOW + DAY)], State.GOOD),
        ([crl(CA, since=NOW + DAY)], State.STALE),
        ([crl(CA, [ALICE], since=NOW + DAY)], State.REVOKED),
        ([crl(CA, since=NOW - WEEK, until=NOW)], State.STALE),
        ([crl(CA, since=NOW - WEEK, until=NOW + timedelta(seconds=1))], State.GOOD),
        ([crl(CA, [ALICE], since=NOW - WEEK, until=NOW - DAY)], State.REVOKED),
        ([crl(CA, [ALICE], entry=[(x509.CRLReason(x509.ReasonFlags.certificate_hold), False)])], State.REVOKED),
        ([crl(CA, [ALICE], entry=[(x509.CRLReason(x509.ReasonFlags.key_compromise), True)])], State.REVOKED),
        ([crl(CA, [ALICE], entry=[(x509.CRLReason(x509.ReasonFlags.remove_from_crl), False)])], State.GOOD),
        ([crl(CA, [ALICE], entry=[(x509.InvalidityDate(NOW.replace(tzinfo=None)), False)])], State.REVOKED),
        ([crl(CA, [ALICE], entry=[(UNKNOWN, False)])], State.REVOKED),
        ([crl(CA, extra=[(UNKNOWN, False)])], State.GOOD),
    ],
)
def test_states(crls: list[x509.CertificateRevocationList], expected: State) -> None:
    assert state(lists(*crls)) is expected


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (crl(CA, extra=[(x509.DeltaCRLIndicator(1), True)]), "a delta CRL"),
        (crl(CA, extra=[(x509.DeltaCRLIndicator(1), False)]), "a delta CRL"),
        (crl(CA, extra=[(point(indirect_crl=True), True)]), "indirect"),
        (crl(CA, extra=[(point(only_contains_user_certs=True), True)]), "for a part of the certificates"),
        (crl(CA, extra=[(point(only_contains_ca_certs=True), True)]), "for a part of the certificates"),
        (crl(CA, extra=[(point(only_some_reasons=frozenset([x509.ReasonFlags.superseded])), True)]), "for a part"),
        (crl(CA, extra=[(point(full_name=[x509.DNSName("x.example")]), True)]), "for a part of the certificates"),
        (crl(CA, extra=[(UNKNOWN, True)]), "unknown critical extension, 1.3.6.1.4.1.99999.1"),
        (crl(CA, [BOB], entry=[(UNKNOWN, True)]), "entries have an unknown critical extension"),
        (
            crl(
                CA,
                [BOB],
                entry=[
                    (
                        x509.CertificateIssuer(
                            [x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))]
                        ),
                        True,
                    )
                ],
            ),
            "2.5.29.29",
        ),
    ],
)
def test_lists_that_are_not_used(bad: x509.CertificateRevocationList, told: str) -> None:
    """They say so where they are given, and count as if they were not there."""
    revocation = lists()
    with pytest.raises(RevocationError, match=f"^x.crl: .*{told}"):
        revocation.add(der(bad), "x.crl")
    assert state(revocation) is State.MISSING
    with pytest.raises(RevocationError):
        revocation.add(crl(CA).public_bytes(Encoding.PEM) + bad.public_bytes(Encoding.PEM))
    assert len(revocation) == 0, "all of a file, or nothing"


def test_who_may_sign() -> None:
    """An authority whose key usage does not say so signs no list."""
    for wanted, expected in (
        (usage("key_cert_sign"), State.FORGED),
        (usage("key_cert_sign", "crl_sign"), State.GOOD),
        (None, State.GOOD),
    ):
        made = authority("mute", usage=wanted)
        below = leaf(made)
        assert lists(crl(made)).status(below.certificate, made.certificate, NOW).state is expected


def test_ed25519() -> None:
    made = authority("ed", key=ed25519.Ed25519PrivateKey.generate())
    below = leaf(made)
    builder = x509.CertificateRevocationListBuilder().issuer_name(made.certificate.subject)
    signed = builder.last_update(NOW - DAY).next_update(NOW + DAY).sign(made.key, None)
    assert lists(signed).status(below.certificate, made.certificate, NOW) == Status(State.GOOD, NOW + DAY)


def test_how_long_it_is_known() -> None:
    revocation = lists(crl(CA, since=NOW - DAY, until=NOW + WEEK))
    for fresh_s, expected in (
        (0, Status(State.GOOD, NOW + WEEK)),
        (86401, Status(State.GOOD, NOW + timedelta(seconds=1))),
        (86400, Status(State.STALE)),
        (30 * 86400, Status(State.GOOD, NOW + WEEK)),
    ):
        assert revocation.status(ALICE.certificate, CA.certificate, NOW, fresh_s=fresh_s) == expected


def test_files(tmp_path: Path) -> None:
    one, two = crl(CA, [ALICE]), crl(authority("two"))
    (tmp_path / "pem").write_bytes(
        b"a comment\n" + one.public_bytes(Encoding.PEM) + b"\n" + two.public_bytes(Encoding.PEM)
    )
    (tmp_path / "der").write_bytes(der(one))
    read = Revocation.read([tmp_path / "pem", tmp_path / "der"])
    assert len(read) == 2, "the same one twice is one"
    assert state(read) is State.REVOKED
    with pytest.raises(FileNotFoundError):
        Revocation.read([tmp_path / "none"])
    for junk in (
        b"",
        b"junk",
        der(one)[:-1],
        one.public_bytes(Encoding.PEM)[:-30],
        one.public_bytes(Encoding.PEM).replace(b"MI", b"!!", 1),
        CA.certificate.public_bytes(Encoding.PEM),
    ):
        (tmp_path / "junk").write_bytes(junk)
        with pytest.raises(RevocationError, match=f"^{tmp_path}/junk: "):
            Revocation.read([tmp_path / "junk"])


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    revocation = lists(*(crl(CA, number=at) for at in range(8)))
    with pytest.raises(RevocationError, match="more than 8 CRLs of one issuer"):
        revocation.add(der(crl(CA, [ALICE], number=9)))
    assert len(revocation) == 8
    assert state(revocation) is State.GOOD
    monkeypatch.setattr("neighbour.agent.revocation._MAX_BYTES", 100)
    with pytest.raises(RevocationError, match="a CRL of more than"):
        revocation.add(der(crl(CA)))


def test_changes_are_counted() -> None:
    revocation = Revocation()
    assert revocation.generation == 0
    revocation.add(der(crl(CA)))
    assert revocation.generation == 1
    revocation.replace(lists(crl(CA, [ALICE])))
    assert revocation.generation == 2
    assert state(revocation) is State.REVOKED


def test_a_signature_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from neighbour.agent import revocation as module

    checked = []
    check = module.check_signature
    monkeypatch.setattr(module, "check_signature", lambda *a, **k: (checked.append(a), check(*a, **k)))
    revocation = lists(crl(CA))
    for _ in range(5):
        assert state(revocation) is State.GOOD
    assert len(checked) == 1


def test_settings() -> None:
    usual = Crl()
    assert [usual.action(one) for one in State] == ["accept", "refuse", "refuse", "accept", "refuse"]
    easy = Crl(0, "warn", "warn", "accept")
    assert [easy.action(one) for one in State] == ["accept", "refuse", "warn", "warn", "accept"]
    with pytest.raises(ValueError, match="stale: one of accept, warn, refuse"):
        Crl(stale="never")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fresh_s"):
        Crl(fresh_s=-1)
    assert len({one.text for one in State}) == 5
