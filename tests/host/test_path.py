"""Paths, decided by us and by two others: OpenSSL (through pyOpenSSL, or its command) and pyHanko's validator."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path as FilePath
from typing import Any

import pytest
from conftest import ROOT
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from pki import (
    DAY,
    DNS,
    EMAIL,
    LEAF_USAGE,
    NOW,
    SIP_DOMAIN,
    URI,
    Made,
    authority,
    crl,
    der,
    ec_key,
    leaf,
    rsa_key,
    spki,
    usage,
)

from neighbour.agent.path import ENCRYPT, SIGN, PathError, Paths, Purpose
from neighbour.agent.revocation import Crl, Revocation

ROOT_CA = authority("root")
MIDDLE = authority("middle", ROOT_CA)
OTHER = authority("other root")
SERVER, CLIENT, ANY = x509.OID_SERVER_AUTH, x509.OID_CLIENT_AUTH, x509.ObjectIdentifier("2.5.29.37.0")
UNKNOWN = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True)
CRLS_WANTED = Crl(missing="refuse")


@dataclass
class Chain:
    """What is to be decided."""

    leaf: Made
    others: list[Made] = field(default_factory=list)
    roots: list[Made] = field(default_factory=lambda: [ROOT_CA])
    crls: list[x509.CertificateRevocationList] = field(default_factory=list)
    pins: frozenset[bytes] = frozenset()


@dataclass
class Row:
    """A chain, what we decide, and whether others can be asked.

    Attributes:
        openssl: "" where pyOpenSSL decides too, or why it can't.
        command: options with which `openssl verify` decides in its place.
        pyhanko: "" where pyHanko decides too, or why it can't.
        nobody: whether no other can be asked, for the reason that both give.
    """

    name: str
    reason: str
    make: Callable[[], Chain]
    purpose: Purpose = SIGN
    crl: Crl | None = None
    sha1: bool = False
    openssl: str = ""
    command: tuple[str, ...] = ()
    pyhanko: str = ""
    nobody: bool = False


def both(made: Made, *others: Made, **more: Any) -> Chain:
    return Chain(made, list(others), **more)


def middle(**wanted: Any) -> Chain:
    """A leaf below an intermediate that is made so."""
    made = authority("made middle", ROOT_CA, **wanted)
    return Chain(leaf(made), [made])


def root(**wanted: Any) -> Chain:
    """A leaf below a root that is made so."""
    made = authority("made root", **wanted)
    return Chain(leaf(made), roots=[made])


def bounded(names: tuple[x509.GeneralName, ...], **wanted: Any) -> Chain:
    """A leaf with names below an intermediate with name constraints."""
    bounds = x509.NameConstraints(wanted.get("permitted"), wanted.get("excluded"))
    made = authority("bounded", ROOT_CA, bounds=bounds)
    return Chain(leaf(made, names=names), [made])


def long(authorities: int, lengths: dict[int, int] | None = None) -> Chain:
    """A leaf below so many authorities, the root included."""
    chain = [authority("long root", length=(lengths or {}).get(0))]
    for at in range(1, authorities):
        chain.append(authority(f"long {at}", chain[-1], length=(lengths or {}).get(at)))
    return Chain(leaf(chain[-1]), chain[:0:-1], roots=chain[:1])


def rolled() -> Chain:
    """An authority that certifies its own next key: that does not count for the length of the path."""
    first = authority("rolled root", length=0)
    second = authority("rolled root", first, key=ec_key())
    return Chain(leaf(second), [second], roots=[first])


def circle() -> Chain:
    """Two authorities that certify each other, and no root."""
    one, two = authority("circle one"), authority("circle two")
    one_by_two = authority("circle one", two, key=one.key)
    two_by_one = authority("circle two", one, key=two.key)
    return Chain(leaf(one), [one_by_two, two_by_one])


def circle_with_a_way_out() -> Chain:
    one, two = authority("way one"), authority("way two")
    others = [authority("way one", two, key=one.key), authority("way two", one, key=two.key)]
    return Chain(leaf(one), [*others, authority("way one", ROOT_CA, key=one.key)])


def crossed() -> Chain:
    """A root that is not ours, certified by one that is."""
    foreign = authority("foreign")
    return Chain(leaf(foreign), [authority("foreign", ROOT_CA, key=foreign.key)])


def twins(*, identifiers: bool, trusted: int) -> Chain:
    """Two roots with one name; the first has issued the leaf."""
    roots = [authority("twin", identifiers=identifiers) for _ in range(2)]
    return Chain(leaf(roots[0], identifiers=identifiers), roots=roots if trusted == 2 else roots[1:])


def tampered(chain: Chain, old: bytes, new: bytes) -> Chain:
    """With other bytes in the leaf."""
    changed = der(chain.leaf.certificate).replace(old, new)
    assert changed != der(chain.leaf.certificate)
    return Chain(Made(x509.load_der_x509_certificate(changed), None), chain.others, chain.roots)


def two_algorithms() -> Chain:
    """What names one algorithm beside its signature and another in what was signed."""
    made = leaf(ROOT_CA)
    sha256, sha384 = bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06082a8648ce3d040303")
    before, _, after = der(made.certificate).partition(sha256)
    return Chain(Made(x509.load_der_x509_certificate(before + sha384 + after), None))


def signature_in_bits() -> Chain:
    """A signature that is said to end within its last byte: two certificates would be one to who overlooks it."""
    made = leaf(ROOT_CA)
    while made.certificate.signature[-1] & 1:
        made = leaf(ROOT_CA)
    data = bytearray(der(made.certificate))
    data[-1 - len(made.certificate.signature)] = 1
    return Chain(Made(x509.load_der_x509_certificate(bytes(data)), None))


def pinned(**wanted: Any) -> Chain:
    made = leaf(None, "pinned", **wanted)
    return Chain(made, pins=frozenset([hashlib.sha256(spki(made.certificate)).digest()]))


def pinned_by_others() -> Chain:
    """A pinned key, with a name that its holder has not written."""
    made = leaf(OTHER, "pinned")
    return Chain(made, pins=frozenset([hashlib.sha256(spki(made.certificate)).digest()]))


def pinned_forged() -> Chain:
    chain = pinned()
    made = tampered(chain, b"alice@a.example", b"admin@a.example")
    return Chain(made.leaf, pins=chain.pins)


def listed(
    of_middle: dict[str, Any] | None = None, of_root: dict[str, Any] | None = None, made: Made = MIDDLE
) -> Chain:
    """A leaf below an intermediate, and the lists of both authorities; "revoked" revokes the one below."""
    found = leaf(made)
    crls = []
    for issuer, below, wanted in ((made, found, of_middle), (ROOT_CA, made, of_root)):
        if wanted is not None:
            more = {name: value for name, value in wanted.items() if name != "revoked"}
            crls.append(crl(issuer, [below] if "revoked" in wanted else [], **more))
    return Chain(found, [made], crls=crls)


def directory(name: str) -> x509.DirectoryName:
    return x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)]))


WRONG, UNKNOWN_CA, PURPOSE = (
    "certificate's signature is wrong",
    "certificate from an unknown CA",
    "certificate not for this purpose",
)
NO_CA, BOUNDS, LONG, EXPIRED = "issuer is no CA", "name constraints", "path too long", "certificate expired"
CRITICAL, ALGORITHM = "certificate with an unknown critical extension", "certificate algorithm"
NO_USAGE = "the store looks at no key usage"
NO_PIN = "knows no pins"
OUR_RULE = "a rule of ours: DNS constraints hold for sip URIs"

ROWS = [
    Row("direct", "", lambda: both(leaf(ROOT_CA))),
    Row("with an intermediate", "", lambda: both(leaf(MIDDLE), MIDDLE)),
    Row("with three, in any order", "", lambda: long(4)),
    Row("with others among them", "", lambda: both(leaf(MIDDLE), OTHER, leaf(OTHER), MIDDLE)),
    Row("the root is sent as well", "", lambda: both(leaf(MIDDLE), ROOT_CA, MIDDLE)),
    Row("eight certificates", "", lambda: long(7)),
    Row("nine certificates", LONG, lambda: long(8), openssl="no limit so low", command=("-verify_depth", "6"), pyhanko="no limit"),
    Row("intermediate missing", UNKNOWN_CA, lambda: both(leaf(MIDDLE))),
    Row("another root", UNKNOWN_CA, lambda: both(leaf(MIDDLE), MIDDLE, roots=[OTHER])),
    Row("no root at all", UNKNOWN_CA, lambda: both(leaf(MIDDLE), MIDDLE, ROOT_CA, roots=[])),
    Row("expired leaf", EXPIRED, lambda: both(leaf(ROOT_CA, after=NOW - DAY))),
    Row("expired intermediate", EXPIRED, lambda: middle(after=NOW - DAY)),
    Row("expired root", EXPIRED, lambda: root(after=NOW - DAY), pyhanko="takes a root for good"),
    Row("leaf not yet valid", "certificate not yet valid", lambda: both(leaf(ROOT_CA, before=NOW + DAY))),
    Row("intermediate not yet valid", "certificate not yet valid", lambda: middle(before=NOW + DAY)),
    Row("in its last second", "", lambda: both(leaf(ROOT_CA, after=NOW))),
    Row("same name, other key", UNKNOWN_CA, lambda: both(leaf(MIDDLE), authority("middle", ROOT_CA))),
    Row("same name, other key, no identifiers", WRONG, lambda: both(leaf(MIDDLE, identifiers=False), authority("middle", ROOT_CA, identifiers=False))),
    Row("changed name", WRONG, lambda: tampered(both(leaf(MIDDLE), MIDDLE), b"alice@a.example", b"admin@a.example")),
    Row("two algorithms named", WRONG, two_algorithms),
    Row("a signature with bits left over", WRONG, signature_in_bits, pyhanko="overlooks that"),
    Row("no key usage, no extended", "", lambda: both(leaf(ROOT_CA, usage=None, extended=None)), command=("-purpose", "smimesign"), pyhanko="wants a key usage to be there"),
    Row("only content commitment", "", lambda: both(leaf(ROOT_CA, usage=usage("content_commitment")))),
    Row("no digital signature", PURPOSE, lambda: both(leaf(ROOT_CA, usage=usage("key_agreement"))), openssl=NO_USAGE, command=("-purpose", "smimesign")),
    Row("for encryption", "", lambda: both(leaf(ROOT_CA)), ENCRYPT),
    Row("for encryption, without key agreement", PURPOSE, lambda: both(leaf(ROOT_CA, usage=usage("digital_signature"))), ENCRYPT, openssl=NO_USAGE),
    Row("for encryption, RSA", "", lambda: both(leaf(ROOT_CA, key=rsa_key(2048), usage=usage("key_encipherment"))), ENCRYPT),
    Row("for encryption, RSA without key encipherment", PURPOSE, lambda: both(leaf(ROOT_CA, key=rsa_key(2048), usage=LEAF_USAGE)), ENCRYPT, openssl=NO_USAGE, command=("-purpose", "smimeencrypt")),
    Row("for encryption, Ed25519", PURPOSE, lambda: both(leaf(ROOT_CA, key=ed25519.Ed25519PrivateKey.generate(), usage=None)), ENCRYPT, openssl=NO_USAGE, pyhanko="knows no algorithm of a key there", nobody=True),
    Row("only for e-mail", "", lambda: both(leaf(ROOT_CA, extended=(EMAIL,)))),
    Row("only for SIP", "", lambda: both(leaf(ROOT_CA, extended=(SIP_DOMAIN,)))),
    Row("for anything", "", lambda: both(leaf(ROOT_CA, extended=(ANY,)))),
    Row("only for TLS", PURPOSE, lambda: both(leaf(ROOT_CA, extended=(SERVER, CLIENT))), openssl=NO_USAGE, command=("-purpose", "smimesign")),
    Row("intermediate only for TLS", PURPOSE, lambda: middle(extended=(SERVER, CLIENT)), openssl=NO_USAGE, command=("-purpose", "smimesign"), pyhanko="looks at the leaf's usages only"),
    Row("intermediate for e-mail", "", lambda: middle(extended=(EMAIL,))),
    Row("intermediate without keyCertSign", NO_CA, lambda: middle(usage=usage("crl_sign"))),
    Row("root without keyCertSign", NO_CA, lambda: root(usage=usage("crl_sign")), pyhanko="takes a root for good"),
    Row("intermediate without key usage", "", lambda: middle(usage=None)),
    Row("root without key usage", "", lambda: root(usage=None)),
    Row("intermediate that is no CA", NO_CA, lambda: middle(basic=x509.BasicConstraints(ca=False, path_length=None))),
    Row("intermediate without basicConstraints", NO_CA, lambda: middle(basic=None)),
    Row("a user as issuer", NO_CA, lambda: both(leaf(bob := leaf(ROOT_CA, "bob"), "alice"), bob)),
    Row("pathlen 0 at the root", LONG, lambda: long(2, {0: 0}), pyhanko="takes a root for good"),
    Row("pathlen 0 at an intermediate", LONG, lambda: long(3, {1: 0})),
    Row("pathlen 1 with two below", LONG, lambda: long(4, {1: 1})),
    Row("pathlen 1 with one below", "", lambda: long(2, {0: 1})),
    Row("pathlen 1 at the root with two below", LONG, lambda: long(3, {0: 1}), pyhanko="takes a root for good"),
    Row("a root's next key", "", rolled),
    Row("circle", UNKNOWN_CA, circle),
    Row("circle with a way out", "", circle_with_a_way_out),
    Row("cross-signed", "", crossed),
    Row("two roots of one name", "", lambda: twins(identifiers=True, trusted=2)),
    Row("two roots of one name, no identifiers", "", lambda: twins(identifiers=False, trusted=2)),
    Row("the other root of that name", WRONG, lambda: twins(identifiers=False, trusted=1)),
    Row("self-signed, unknown", "certificate self-signed", lambda: both(leaf(None))),
    Row("self-signed, trusted itself", "", lambda: both(mine := leaf(None), roots=[mine])),
    Row("self-signed, trusted itself, for TLS", PURPOSE, lambda: both(mine := leaf(None, extended=(SERVER,)), roots=[mine]), openssl=NO_USAGE, command=("-purpose", "smimesign")),
    Row("the root's own", PURPOSE, lambda: both(ROOT_CA), openssl=NO_USAGE, command=("-purpose", "smimesign")),
    Row("self-signed, pinned", "", pinned, openssl=NO_PIN, pyhanko=NO_PIN, nobody=True),
    Row("self-signed, pinned, expired", EXPIRED, lambda: pinned(after=NOW - DAY), openssl=NO_PIN, pyhanko=NO_PIN, nobody=True),
    Row("self-signed, pinned, for TLS", PURPOSE, lambda: pinned(extended=(SERVER,)), openssl=NO_PIN, pyhanko=NO_PIN, nobody=True),
    Row("pinned key, others' signature", UNKNOWN_CA, pinned_by_others),
    Row("pinned key, changed name", WRONG, pinned_forged),
    Row("P-384", "", lambda: both(leaf(big := authority("p384", key=ec_key(ec.SECP384R1), hash=hashes.SHA384), hash=hashes.SHA384), roots=[big])),
    Row("P-521", "", lambda: both(leaf(big := authority("p521", key=ec_key(ec.SECP521R1), hash=hashes.SHA512), hash=hashes.SHA512), roots=[big])),
    Row("another curve", ALGORITHM, lambda: both(leaf(ROOT_CA, key=ec_key(ec.SECP256K1))), openssl="any curve is good there", pyhanko="any curve is good there", nobody=True),
    Row("Ed25519", "", lambda: both(leaf(ed := authority("ed", key=ed25519.Ed25519PrivateKey.generate())), roots=[ed])),
    Row("RSA", "", lambda: both(leaf(big := authority("rsa", key=rsa_key(2048, 1)), key=rsa_key(2048)), roots=[big])),
    Row("RSA-PSS", "", lambda: both(leaf(big := authority("pss", key=rsa_key(2048, 1)), padding=padding.PSS(padding.MGF1(hashes.SHA256()), 32)), roots=[big])),
    Row("RSA of 1024 bits", ALGORITHM, lambda: both(leaf(ROOT_CA, key=rsa_key(1024))), openssl="the store takes it", command=("-auth_level", "2"), pyhanko="takes it"),
    Row("authority with RSA of 1024 bits", ALGORITHM, lambda: both(leaf(weak := authority("weak", key=rsa_key(1024))), roots=[weak]), openssl="the store takes it", command=("-auth_level", "2"), pyhanko="takes it"),
    Row("critical extension in the leaf", CRITICAL, lambda: both(leaf(ROOT_CA, extra=(UNKNOWN,)))),
    Row("critical extension in the intermediate", CRITICAL, lambda: middle(extra=(UNKNOWN,))),
    Row("unknown extension that is not critical", "", lambda: both(leaf(ROOT_CA, extra=((UNKNOWN[0], False),)))),
    Row("critical policies", "", lambda: both(leaf(ROOT_CA, extra=((x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3.4"), None)]), True),)))),
    Row("policies demanded, and not there", CRITICAL, lambda: middle(extra=((x509.PolicyConstraints(0, None), True),)), openssl="the store looks at policies only where it is told", command=("-policy_check",)),
    # Name constraints.
    Row("permitted DNS", "", lambda: bounded((DNS("www.a.example"),), permitted=[DNS("a.example")])),
    Row("permitted DNS, another", BOUNDS, lambda: bounded((DNS("b.example"),), permitted=[DNS("a.example")])),
    Row("permitted DNS, a longer label", BOUNDS, lambda: bounded((DNS("xa.example"),), permitted=[DNS("a.example")])),
    Row("permitted DNS, upper case", "", lambda: bounded((DNS("A.EXAMPLE"),), permitted=[DNS("a.example")])),
    Row("excluded DNS", BOUNDS, lambda: bounded((DNS("x.b.example"),), excluded=[DNS("b.example")])),
    Row("excluded DNS, another", "", lambda: bounded((DNS("a.example"),), excluded=[DNS("b.example")])),
    Row("permitted and excluded", BOUNDS, lambda: bounded((DNS("x.a.example"),), permitted=[DNS("a.example")], excluded=[DNS("x.a.example")])),
    Row("permitted DNS, a user there", "", lambda: bounded((URI("sip:alice@a.example"),), permitted=[DNS("a.example")])),
    Row("permitted DNS, a user elsewhere", BOUNDS, lambda: bounded((URI("sip:alice@b.example"),), permitted=[DNS("a.example")]), openssl=OUR_RULE, pyhanko=OUR_RULE, nobody=True),
    Row("permitted DNS, a user at an address", BOUNDS, lambda: bounded((URI("sip:alice@192.0.2.1"),), permitted=[DNS("a.example")]), openssl=OUR_RULE, pyhanko=OUR_RULE, nobody=True),
    Row("excluded DNS, a user there", BOUNDS, lambda: bounded((URI("sips:alice@b.example"),), excluded=[DNS("b.example")]), openssl=OUR_RULE, pyhanko=OUR_RULE, nobody=True),
    Row("permitted URI", "", lambda: bounded((URI("https://a.example/x"),), permitted=[URI("a.example")])),
    Row("permitted URI, below", "", lambda: bounded((URI("https://x.a.example/x"),), permitted=[URI(".a.example")])),
    Row("permitted URI, another", BOUNDS, lambda: bounded((URI("https://b.example/x"),), permitted=[URI("a.example")])),
    Row("permitted URI, sip", BOUNDS, lambda: bounded((URI("sip:alice@a.example"),), permitted=[URI("a.example")])),
    Row("excluded URI", BOUNDS, lambda: bounded((URI("https://b.example/"),), excluded=[URI("b.example")])),
    Row("excluded URI, sip", BOUNDS, lambda: bounded((URI("sip:alice@a.example"),), excluded=[URI("b.example")])),
    Row("permitted mailbox", "", lambda: bounded((x509.RFC822Name("alice@a.example"),), permitted=[x509.RFC822Name("a.example")])),
    Row("permitted mailbox, another", BOUNDS, lambda: bounded((x509.RFC822Name("alice@b.example"),), permitted=[x509.RFC822Name("a.example")])),
    Row("permitted directory", "", lambda: bounded((URI("sip:a.example"),), permitted=[directory("Test")])),
    Row("permitted directory, another", BOUNDS, lambda: bounded((URI("sip:a.example"),), permitted=[directory("Toast")])),
    Row("excluded directory", BOUNDS, lambda: bounded((URI("sip:a.example"),), excluded=[directory("Test")])),
    # Lists of revoked certificates.
    Row("lists that name others", "", lambda: listed({}, {}), crl=CRLS_WANTED),
    Row("revoked leaf", "certificate revoked", lambda: listed({"revoked": True}, {}), crl=CRLS_WANTED),
    Row("revoked intermediate", "certificate revoked", lambda: listed({}, {"revoked": True}), crl=CRLS_WANTED),
    Row("revoked in a stale list", "certificate revoked", lambda: listed({"revoked": True, "since": NOW - 9 * DAY, "until": NOW - 2 * DAY}, {}), crl=CRLS_WANTED),
    Row("on hold", "certificate revoked", lambda: listed({"revoked": True, "entry": [(x509.CRLReason(x509.ReasonFlags.certificate_hold), False)]}, {}), crl=CRLS_WANTED),
    Row("released from hold", "", lambda: listed({"revoked": True, "entry": [(x509.CRLReason(x509.ReasonFlags.remove_from_crl), False)]}, {}), crl=CRLS_WANTED),
    Row("stale list", "CRL is stale", lambda: listed({"since": NOW - 9 * DAY, "until": NOW - 2 * DAY}, {}), crl=CRLS_WANTED),
    Row("list from the future", "CRL is stale", lambda: listed({"since": NOW + DAY}, {}), crl=CRLS_WANTED),
    Row("no list of the intermediate", "no CRL of the issuer", lambda: listed(None, {}), crl=CRLS_WANTED),
    Row("no list of the root", "no CRL of the issuer", lambda: listed({}, None), crl=CRLS_WANTED),
    Row("forged list", "CRL's signature is wrong", lambda: listed({"key": ec_key()}, {}), crl=CRLS_WANTED),
    Row("forged list that revokes", "CRL's signature is wrong", lambda: listed({"key": ec_key(), "revoked": True}, {}), crl=CRLS_WANTED),
    Row("an authority without cRLSign", "CRL's signature is wrong", lambda: listed({}, {}, authority("mute", ROOT_CA, usage=usage("key_cert_sign"))), crl=CRLS_WANTED),
]  # fmt: skip

USAGES = {SIGN: ["digital_signature", "non_repudiation"], ENCRYPT: ["key_agreement"]}
EXTENDED = ["email_protection", "sip_domain", "any_extended_key_usage"]


def paths_of(chain: Chain, how: Crl | None, *, sha1: bool = False, now: Callable[[], datetime] = lambda: NOW) -> Paths:
    revocation = Revocation()
    for one in chain.crls:
        revocation.add(der(one))
    return Paths([one.certificate for one in chain.roots], revocation, how or Crl(), chain.pins, sha1=sha1, now=now)


def decided(paths: Paths, chain: Chain, purpose: Purpose) -> str:
    """Why a path does not hold, or ""."""
    try:
        path = paths.validate(chain.leaf.certificate, [one.certificate for one in chain.others], purpose)
    except PathError as error:
        return str(error)
    assert path.chain[0] == chain.leaf.certificate
    assert path.chain[-1] in [one.certificate for one in chain.roots] or path.pinned
    assert path.pinned == bool(chain.pins)
    assert not path.warnings
    assert NOW <= path.good_until <= NOW + timedelta(minutes=5)
    return ""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "-"))
def test_paths(row: Row, tmp_path: FilePath) -> None:
    from oracles import openssl_command, openssl_store, pyhanko

    chain = row.make()
    assert decided(paths_of(chain, row.crl, sha1=row.sha1), chain, row.purpose) == row.reason
    certificate, others, roots = (
        chain.leaf.certificate,
        [one.certificate for one in chain.others],
        [one.certificate for one in chain.roots],
    )
    asked = 0
    check_crls = row.crl is not None
    crls = list(chain.crls)
    if not row.openssl:
        asked += 1
        said = openssl_store(certificate, others, roots, crls, NOW, check_crls=check_crls)
        assert (said == "") == (row.reason == ""), f"OpenSSL: {said or 'good'}"
    if row.command and shutil.which("openssl"):
        asked += 1
        said = openssl_command(tmp_path, row.command, certificate, others, roots, NOW)
        assert (said == "") == (row.reason == ""), f"openssl verify: {said or 'good'}"
    if not row.pyhanko:
        asked += 1
        usages = USAGES[row.purpose]
        if isinstance(chain.leaf.certificate.public_key(), rsa.RSAPublicKey) and row.purpose is ENCRYPT:
            usages = ["key_encipherment"]
        said = pyhanko(certificate, others, roots, crls, NOW, check_crls=check_crls, usages=usages, extended=EXTENDED)
        assert (said == "") == (row.reason == ""), f"pyHanko: {said or 'good'}"
    if row.command and not asked:
        pytest.skip("openssl is not installed, and nobody else can decide this")
    assert bool(asked) != row.nobody


def published(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((ROOT / "tests/vectors" / path).read_bytes())


@pytest.mark.parametrize(
    ("sha1", "who", "at", "reason"),
    [
        (True, "fluffy_eku", datetime(2026, 6, 1, tzinfo=NOW.tzinfo), ""),
        (True, "kumiko_eku", datetime(2026, 6, 1, tzinfo=NOW.tzinfo), ""),
        (True, "example.com_eku", datetime(2026, 6, 1, tzinfo=NOW.tzinfo), ""),
        (True, "fluffy_eku", datetime(2010, 6, 1, tzinfo=NOW.tzinfo), "certificate not yet valid"),
        (False, "fluffy_eku", datetime(2026, 6, 1, tzinfo=NOW.tzinfo), ALGORITHM),
    ],
)
@pytest.mark.parametrize("purpose", [SIGN, ENCRYPT])
def test_rfc6216(sha1: bool, who: str, at: datetime, reason: str, purpose: Purpose) -> None:
    from oracles import openssl_store, pyhanko

    certificate, ca = published(f"rfc6216/certs/{who}.crt"), published("rfc6216/certs/ca.crt")
    chain = Chain(Made(certificate, None), roots=[Made(ca, None)])
    paths = paths_of(chain, None, sha1=sha1, now=lambda: at)
    if reason:
        with pytest.raises(PathError, match=f"^{reason}$"):
            paths.validate(certificate, [], purpose)
    else:
        assert paths.validate(certificate, [], purpose).chain == (certificate, ca)
    said = openssl_store(certificate, [], [ca], [], at, check_crls=False) if sha1 else ""  # it takes SHA-1 for good
    if not sha1:
        said = pyhanko(certificate, [], [ca], [], at, check_crls=False, usages=["digital_signature"], extended=EXTENDED)
    assert (said == "") == (reason == "")


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ("alice", ""),
        ("alice_ec", ""),
        ("alice_noeku", ""),
        ("domain", ""),
        ("alice_expired", EXPIRED),
        ("alice_tlsonly", PURPOSE),
        ("alice_untrusted", UNKNOWN_CA),
    ],
)
@pytest.mark.parametrize("purpose", [SIGN, ENCRYPT])
def test_generated(who: str, reason: str, purpose: Purpose) -> None:
    at = datetime(2030, 2, 21, tzinfo=NOW.tzinfo)  # the date of the messages
    certificate, ca = (published(f"smime_generated/certs/{name}.crt") for name in (who, "ca"))
    paths = paths_of(Chain(Made(certificate, None), roots=[Made(ca, None)]), None, now=lambda: at)
    if reason:
        with pytest.raises(PathError, match=f"^{reason}$"):
            paths.validate(certificate, [], purpose)
    else:
        assert paths.validate(certificate, [], purpose).chain == (certificate, ca)


def test_a_lists_settings() -> None:
    """Each state has its own setting, and its own words; what is revoked is refused whatever they are."""
    tables = {
        "stale": (listed({"since": NOW - 9 * DAY, "until": NOW - 2 * DAY}, {}), "CRL is stale"),
        "missing": (listed(None, {}), "no CRL of the issuer"),
        "forged": (listed({"key": ec_key()}, {}), "CRL's signature is wrong"),
    }
    for state, (chain, text) in tables.items():
        others = [one.certificate for one in chain.others]
        for action in ("accept", "warn", "refuse"):
            paths = paths_of(chain, Crl(**{state: action}))
            if action == "refuse":
                with pytest.raises(PathError, match=f"^{text}$"):
                    paths.validate(chain.leaf.certificate, others, SIGN)
                continue
            path = paths.validate(chain.leaf.certificate, others, SIGN)
            assert path.warnings == ((text,) if action == "warn" else ())
    easy = Crl(0, "accept", "accept", "accept")
    chain = listed({"revoked": True, "since": NOW - 9 * DAY, "until": NOW - 2 * DAY}, {})
    assert decided(paths_of(chain, easy), chain, SIGN) == "certificate revoked"
    nothing = listed(None, None)
    path = paths_of(nothing, Crl(missing="warn")).validate(nothing.leaf.certificate, [MIDDLE.certificate], SIGN)
    assert path.warnings == ("no CRL of the issuer",)  # once, for two certificates


def test_a_list_that_is_too_old_for_us() -> None:
    chain = listed({"since": NOW - timedelta(hours=2)}, {"since": NOW - timedelta(hours=2)})
    others = [MIDDLE.certificate]
    for fresh_s, reason in ((0, ""), (7200, "CRL is stale"), (7201, "")):
        paths = paths_of(chain, Crl(fresh_s=fresh_s))
        if reason:
            with pytest.raises(PathError, match=f"^{reason}$"):
                paths.validate(chain.leaf.certificate, others, SIGN)
        else:
            path = paths.validate(chain.leaf.certificate, others, SIGN)
            assert path.good_until == (NOW + timedelta(seconds=1) if fresh_s else NOW + timedelta(minutes=5))


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.mark.parametrize(
    ("chain", "good"),
    [
        (lambda: both(leaf(MIDDLE), MIDDLE), timedelta(minutes=5)),
        (lambda: both(leaf(MIDDLE, after=NOW + timedelta(seconds=40)), MIDDLE), timedelta(seconds=40)),
        (lambda: middle(after=NOW + timedelta(seconds=50)), timedelta(seconds=50)),
        (lambda: listed({"until": NOW + timedelta(seconds=60)}, {}), timedelta(seconds=60)),
        (lambda: listed({}, {"until": NOW + timedelta(seconds=70)}), timedelta(seconds=70)),
        (lambda: pinned(after=NOW + timedelta(seconds=80)), timedelta(seconds=80)),
    ],
    ids=["five-minutes", "leaf", "intermediate", "list", "roots-list", "pinned"],
)
def test_remembered(chain: Callable[[], Chain], good: timedelta) -> None:
    made, clock = chain(), Clock()
    paths = paths_of(made, None, now=clock)
    leaf_of, others = made.leaf.certificate, [one.certificate for one in made.others]
    path = paths.validate(leaf_of, others, SIGN)
    assert (path.good_until, paths.hits, paths.misses) == (NOW + good, 0, 1)
    same = x509.load_der_x509_certificate(der(leaf_of))
    assert paths.validate(same, [], SIGN) is path, "the path is known, it need not be sent again"
    clock.now = NOW + good - timedelta(seconds=1)
    assert paths.validate(leaf_of, [], SIGN) is path
    assert (paths.hits, paths.misses) == (2, 1)
    clock.now = NOW - timedelta(seconds=1)  # a clock that was put back
    assert paths.validate(leaf_of, others, SIGN) is not path
    clock.now = NOW + good
    paths.hits = 0
    try:
        paths.validate(leaf_of, others, SIGN)
    except PathError:
        assert good != timedelta(minutes=5)
    assert paths.hits == 0


def test_each_purpose_is_remembered_by_itself() -> None:
    signer = leaf(ROOT_CA, usage=usage("digital_signature"))
    paths = paths_of(both(signer), None)
    paths.validate(signer.certificate, [], SIGN)
    with pytest.raises(PathError, match=PURPOSE):
        paths.validate(signer.certificate, [], ENCRYPT)


def test_what_is_new_is_seen_at_once() -> None:
    """A new list, other roots, pins or settings: nothing that was decided before counts."""
    made = leaf(ROOT_CA)
    revocation = Revocation()
    paths = Paths([ROOT_CA.certificate], revocation, Crl(), now=lambda: NOW)
    paths.validate(made.certificate, [], SIGN)
    revocation.add(der(crl(ROOT_CA, [made])))
    with pytest.raises(PathError, match="certificate revoked"):
        paths.validate(made.certificate, [], SIGN)
    revocation.replace(Revocation())
    paths.validate(made.certificate, [], SIGN)
    paths.replace(crl=Crl(missing="refuse"))
    with pytest.raises(PathError, match="no CRL of the issuer"):
        paths.validate(made.certificate, [], SIGN)
    paths.replace(crl=Crl())
    paths.validate(made.certificate, [], SIGN)
    paths.replace(roots=[OTHER.certificate])
    with pytest.raises(PathError, match=UNKNOWN_CA):
        paths.validate(made.certificate, [], SIGN)
    paths.replace(roots=[ROOT_CA.certificate], revocation=(listing := Revocation()))
    paths.validate(made.certificate, [], SIGN)
    listing.add(der(crl(ROOT_CA, [made])))
    with pytest.raises(PathError, match="certificate revoked"):
        paths.validate(made.certificate, [], SIGN)
    alone = pinned()
    paths.replace(pins=alone.pins)
    assert paths.validate(alone.leaf.certificate, [], SIGN).pinned
    paths.replace(pins=frozenset())
    with pytest.raises(PathError, match="self-signed"):
        paths.validate(alone.leaf.certificate, [], SIGN)


def test_no_more_is_remembered_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neighbour.agent.path._MAX_REMEMBERED", 3)
    made = [leaf(ROOT_CA) for _ in range(5)]
    paths = paths_of(both(made[0]), None)
    for one in made:
        paths.validate(one.certificate, [], SIGN)
    assert len(paths._known) == 3
    paths.validate(made[4].certificate, [], SIGN)
    assert paths.hits == 1
    paths.validate(made[0].certificate, [], SIGN)
    assert paths.misses == 6


def test_failures_are_not_remembered() -> None:
    """What is missing in one message may come with the next."""
    made = leaf(MIDDLE)
    paths = paths_of(both(made), None)
    with pytest.raises(PathError):
        paths.validate(made.certificate, [], SIGN)
    paths.validate(made.certificate, [MIDDLE.certificate], SIGN)


def test_a_maze(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many authorities of one name and key, each of which could be the issuer of each other: the work is bounded."""
    from neighbour.agent import path as module

    key, checked = ec_key(), 0
    keys = [ec_key() for _ in range(16)]
    names = [f"maze {at % 2}" for at in range(16)]
    made = [
        authority(name, Made(authority(names[at - 1], key=key).certificate, key), key=keys[at], identifiers=False)
        for at, name in enumerate(names)
    ]
    victim = leaf(Made(made[0].certificate, key), identifiers=False)
    check = module.check_signature

    def counting(*arguments: Any, **more: Any) -> None:
        nonlocal checked
        checked += 1
        check(*arguments, **more)

    monkeypatch.setattr(module, "check_signature", counting)
    paths = paths_of(both(victim), None)
    with pytest.raises(PathError):
        paths.validate(victim.certificate, [one.certificate for one in made], SIGN)
    assert 8 <= checked <= 24


def test_more_intermediates_than_are_looked_at() -> None:
    made = leaf(MIDDLE)
    crowd = [authority(f"crowd {at}").certificate for at in range(16)]
    paths = paths_of(both(made), None)
    with pytest.raises(PathError, match=UNKNOWN_CA):
        paths.validate(made.certificate, [*crowd, MIDDLE.certificate], SIGN)
    paths.validate(made.certificate, [*crowd[:15], MIDDLE.certificate], SIGN)


def test_more_names_than_are_compared() -> None:
    """The product of names and constraints has an end as well."""
    bounds = [DNS(f"d{at}.example") for at in range(300)]
    chain = bounded(tuple(DNS(f"x{at}.a.example") for at in range(300)), excluded=bounds)
    assert decided(paths_of(chain, None), chain, SIGN) == BOUNDS


def test_the_reason_of_the_way_that_leads_to_a_root() -> None:
    """Of several ways that fail it is told what was wrong with one that got there."""
    made = leaf(expired := authority("old", ROOT_CA, after=NOW - DAY))
    chain = both(made, authority("old", OTHER, key=expired.key), expired)
    assert decided(paths_of(chain, None), chain, SIGN) == EXPIRED


VICTIM = listed({}, {})
VICTIM_DER, MIDDLE_DER = der(VICTIM.leaf.certificate), der(MIDDLE.certificate)


# A serial number may have become negative: that is only a warning.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@settings(max_examples=400, deadline=None)
@given(st.booleans(), st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), min_size=1, max_size=4))
def test_mutations(of_leaf: bool, changes: list[tuple[int, int]]) -> None:
    """No changed certificate is taken for good, and nothing escapes but our own error."""
    data = bytearray(VICTIM_DER if of_leaf else MIDDLE_DER)
    for at, bits in changes:
        data[at % len(data)] ^= bits
    if bytes(data) in {VICTIM_DER, MIDDLE_DER}:
        return
    try:
        changed = x509.load_der_x509_certificate(bytes(data))
    except (ValueError, x509.InvalidVersion):
        return
    leaf_of, middle_of = (changed, MIDDLE.certificate) if of_leaf else (VICTIM.leaf.certificate, changed)
    with pytest.raises(PathError):
        paths_of(VICTIM, None).validate(leaf_of, [middle_of], SIGN)
