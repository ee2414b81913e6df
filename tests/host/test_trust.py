"""For whom a certificate speaks: path, names, and pins for their own domain alone."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID
from pki import (
    DNS,
    EMAIL,
    LEAF_USAGE,
    NOW,
    SIP_DOMAIN,
    URI,
    Made,
    Wanted,
    authority,
    crl,
    der,
    leaf,
    spki,
    usage,
)

from neighbour.agent.certificates import pin_of
from neighbour.agent.path import ENCRYPT, SIGN, PathError, Paths, Purpose
from neighbour.agent.revocation import Crl, Revocation
from neighbour.agent.trust import OTHER_IDENTITY, Trust

ROOT = authority("root")
MIDDLE = authority("middle", ROOT)
ALICE = leaf(MIDDLE)
DOMAIN = leaf(MIDDLE, "a.example", names=(URI("sip:a.example"), DNS("a.example")))
SIGNER = leaf(MIDDLE, usage=usage("digital_signature"))
STRANGER = leaf(authority("other root"))


def digest(made: Made) -> bytes:
    made_of = hashes.Hash(hashes.SHA256())
    made_of.update(spki(made.certificate))
    return made_of.finalize()


def trust(
    *, pinned: dict[str, list[Made]] | None = None, revoked: tuple[Made, ...] = (), missing: str = "accept"
) -> Trust:
    lists = Revocation()
    if revoked:
        lists.add(der(crl(MIDDLE, revoked)))
    pins = {domain: frozenset(pin_of(one.certificate) for one in ones) for domain, ones in (pinned or {}).items()}
    keys = {digest(one) for ones in (pinned or {}).values() for one in ones}
    paths = Paths([ROOT.certificate], lists, Crl(missing=missing), keys, now=lambda: NOW)
    return Trust(paths, pins)


def check(
    made: Made, aor: bytes, purpose: Purpose = SIGN, others: tuple[Made, ...] = (MIDDLE,), by: Trust | None = None
) -> str:
    """Why it does not count, or ""."""
    try:
        (by or trust()).check(made.certificate, [one.certificate for one in others], purpose, aor)
    except PathError as error:
        return str(error)
    return ""


def own(*names: x509.GeneralName) -> Made:
    """One that has signed itself."""
    return Wanted("own", usage=LEAF_USAGE, extended=(SIP_DOMAIN, EMAIL), names=names).made()


OWN = own(URI("sip:c.example"))
TABLE: list[tuple[str, Made, bytes, Purpose, str]] = [
    ("the user", ALICE, b"sip:alice@a.example", SIGN, ""),
    ("to encrypt to", ALICE, b"sip:alice@a.example", ENCRYPT, ""),
    ("another user", ALICE, b"sip:bob@a.example", SIGN, OTHER_IDENTITY),
    ("the user elsewhere", ALICE, b"sip:alice@b.example", SIGN, OTHER_IDENTITY),
    ("the user's domain", ALICE, b"sip:a.example", SIGN, OTHER_IDENTITY),
    ("a user of the domain", DOMAIN, b"sip:anybody@a.example", SIGN, ""),
    ("the domain", DOMAIN, b"sip:a.example", SIGN, ""),
    ("another domain", DOMAIN, b"sip:anybody@b.example", SIGN, OTHER_IDENTITY),
    ("a domain below", DOMAIN, b"sip:anybody@x.a.example", SIGN, OTHER_IDENTITY),
    ("a domain above", DOMAIN, b"sip:anybody@example", SIGN, OTHER_IDENTITY),
    ("a domain that ends so", DOMAIN, b"sip:anybody@aa.example", SIGN, OTHER_IDENTITY),
    ("nobody", ALICE, b"", SIGN, OTHER_IDENTITY),
    ("no address", ALICE, b"sip:", SIGN, OTHER_IDENTITY),
    ("no sip address", ALICE, b"tel:+1555", SIGN, OTHER_IDENTITY),
    ("a name in disguise", ALICE, b"sip:alice@a.example@b.example", SIGN, OTHER_IDENTITY),
    ("a signer's", SIGNER, b"sip:alice@a.example", SIGN, ""),
    ("a signer's, to encrypt to", SIGNER, b"sip:alice@a.example", ENCRYPT, "certificate not for this purpose"),
    ("of a stranger's authority", STRANGER, b"sip:alice@a.example", SIGN, "certificate from an unknown CA"),
    ("self-signed", OWN, b"sip:carol@c.example", SIGN, "certificate self-signed"),
]


@pytest.mark.parametrize(("name", "made", "aor", "purpose", "reason"), TABLE, ids=[row[0] for row in TABLE])
def test_check(name: str, made: Made, aor: bytes, purpose: Purpose, reason: str) -> None:
    assert check(made, aor, purpose) == reason


def test_without_the_intermediate() -> None:
    assert check(ALICE, b"sip:alice@a.example", others=()) == "certificate from an unknown CA"
    by = trust()
    assert not check(ALICE, b"sip:alice@a.example", by=by)
    assert not check(ALICE, b"sip:alice@a.example", others=(), by=by)  # it is remembered
    assert check(ALICE, b"sip:bob@a.example", others=(), by=by) == OTHER_IDENTITY


def test_revoked() -> None:
    by = trust(revoked=(ALICE,))
    assert check(ALICE, b"sip:alice@a.example", by=by) == "certificate revoked"
    assert not check(DOMAIN, b"sip:bob@a.example", by=by)


def test_what_the_user_should_know() -> None:
    path = trust(missing="warn").check(ALICE.certificate, [MIDDLE.certificate], SIGN, b"sip:alice@a.example")
    assert path.warnings == ("no CRL of the issuer",)


# What it is for.

TLS = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH, SIP_DOMAIN)
ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
NOT_FOR_IT = "certificate not for this purpose"
PURPOSES: list[tuple[tuple[x509.ObjectIdentifier, ...] | None, bool]] = [
    (None, True),
    ((EMAIL,), True),
    ((EMAIL, SIP_DOMAIN), True),
    ((*TLS, EMAIL), True),
    ((ANY,), True),
    ((*TLS, ANY), True),
    (TLS, False),
    ((SIP_DOMAIN,), False),
    ((ExtendedKeyUsageOID.SERVER_AUTH,), False),
    ((ExtendedKeyUsageOID.CODE_SIGNING,), False),
]


@pytest.mark.parametrize(("extended", "signs"), PURPOSES)
@pytest.mark.parametrize("aor", [b"sip:anybody@a.example", b"sip:a.example"])
def test_the_trunks_certificate_signs_for_nobody(
    extended: tuple[x509.ObjectIdentifier, ...] | None, signs: bool, aor: bytes
) -> None:
    made = leaf(MIDDLE, "a.example", extended=extended, names=(URI("sip:a.example"), DNS("a.example")))
    assert check(made, aor) == ("" if signs else NOT_FOR_IT)
    # To encrypt to: what `Paths` asks is enough.
    assert check(made, aor, ENCRYPT) == ("" if signs or (extended and SIP_DOMAIN in extended) else NOT_FOR_IT)


def test_what_was_found_fit_to_encrypt_to_is_not_to_sign_with() -> None:
    made, by = leaf(MIDDLE, "a.example", extended=TLS, names=(URI("sip:a.example"),)), trust()
    for purpose, reason in ((ENCRYPT, ""), (SIGN, NOT_FOR_IT), (ENCRYPT, ""), (SIGN, NOT_FOR_IT)):
        assert check(made, b"sip:alice@a.example", purpose, by=by) == reason


def test_a_users_own_needs_no_more_than_that_of_sip() -> None:
    """It is of no use to who has stolen the trunk's key."""
    made = leaf(MIDDLE, extended=(SIP_DOMAIN,))
    assert not check(made, b"sip:alice@a.example")


def test_one_with_a_name_of_each_kind() -> None:
    """A certificate for TLS that names a user as well signs for that user alone."""
    made = leaf(MIDDLE, extended=TLS, names=(URI("sip:a.example"), URI("sip:alice@a.example")))
    assert not check(made, b"sip:alice@a.example")
    assert check(made, b"sip:bob@a.example") == NOT_FOR_IT


def test_one_that_is_trusted_by_itself() -> None:
    made = leaf(ROOT, "a.example", extended=TLS, names=(URI("sip:a.example"),))
    by = Trust(Paths([made.certificate], Revocation(), Crl(), now=lambda: NOW), {})
    assert check(made, b"sip:alice@a.example", by=by) == NOT_FOR_IT
    assert not check(made, b"sip:alice@a.example", ENCRYPT, by=by)


# Pins.

PINNED: list[tuple[str, dict[str, list[Made]], bytes, str]] = [
    ("its own domain", {"c.example": [OWN]}, b"sip:carol@c.example", ""),
    ("among others", {"c.example": [ALICE, OWN], "d.example": [ALICE]}, b"sip:carol@c.example", ""),
    ("as a domain", {"c.example": [OWN]}, b"sip:c.example", ""),
    ("names another domain", {"c.example": [OWN]}, b"sip:alice@a.example", OTHER_IDENTITY),
    ("pinned for another", {"d.example": [OWN]}, b"sip:carol@c.example", "certificate pinned for another domain"),
    ("not pinned", {"c.example": [ALICE]}, b"sip:carol@c.example", "certificate self-signed"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "pinned", "aor", "reason"), PINNED, ids=[row[0] for row in PINNED])
def test_pinned(name: str, pinned: dict[str, list[Made]], aor: bytes, reason: str) -> None:
    assert check(OWN, aor, by=trust(pinned=pinned)) == reason


def test_who_is_pinned_writes_its_names_itself() -> None:
    """Its holder could write the name of everybody: it counts for those of its domain alone."""
    everybody = own(URI("sip:c.example"), URI("sip:a.example"), URI("sip:alice@b.example"))
    by = trust(pinned={"c.example": [everybody]})
    assert not check(everybody, b"sip:carol@c.example", by=by)
    for aor in (b"sip:bob@a.example", b"sip:alice@b.example", b"sip:a.example"):
        assert check(everybody, aor, by=by) == "certificate pinned for another domain"


def test_the_pinned_certificate_of_a_trunk() -> None:
    """As `wisp serve` makes it, where there is no authority."""
    made = Wanted("own", usage=LEAF_USAGE, extended=TLS, names=(URI("sip:c.example"),)).made()
    by = trust(pinned={"c.example": [made]})
    assert check(made, b"sip:carol@c.example", by=by) == NOT_FOR_IT
    assert not check(made, b"sip:carol@c.example", ENCRYPT, by=by)


def test_a_pin_is_no_authority() -> None:
    """A certificate that a pinned key has signed is that key's holder's word alone."""
    by = trust(pinned={"c.example": [OWN]})
    below = Wanted("below", usage=LEAF_USAGE, extended=(EMAIL,), names=(URI("sip:dave@c.example"),)).made(OWN)
    assert check(below, b"sip:dave@c.example", others=(OWN,), by=by) == "certificate from an unknown CA"


def test_a_pinned_key_below_an_authority() -> None:
    """Its certificate is the authority's word then, and counts where the authority's does."""
    by = trust(pinned={"c.example": [ALICE]})
    assert not check(ALICE, b"sip:alice@a.example", by=by)
