"""Whether a certificate leads to one of our roots, and may be used for what it was used for (RFC 5280 section 6).

    leaf <- intermediate (in the message, or shown by the trunk) <- root (configured)
    leaf with a key that is pinned, signed by itself

Each way to a root is tried, within limits. What is asked of the certificates on it: signatures and algorithms,
validity, authorities that may be authorities, the length of the path, name constraints, no critical extension that we
do not know, usages, and lists of revoked certificates. A path that held is remembered for five minutes.

Built here and not on `cryptography.x509.verification`: that is for the Web's certificates, and refuses those of
RFC 6216, with their SHA-1 and authorities without key usage, and knows no lists of revoked ones.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from .constraints import ConstraintError, Constraints
from .signed import BROKEN, AlgorithmError, SignatureError, check_key, check_signature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .revocation import Crl, Revocation

__all__ = ["ENCRYPT", "SIGN", "Path", "PathError", "Paths", "Purpose", "SIP_DOMAIN"]

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_REMEMBERED = timedelta(minutes=5)  # how long a path counts as valid without being looked at again
_MAX_REMEMBERED = 4096  # paths, some kilobytes each: both purposes of 2,000 users that are heard of at the same time
_MAX_CHAIN = 8  # certificates from leaf to root; federations have 3 or 4
_MAX_INTERMEDIATES = 16  # certificates of a message that are looked at; others are as if they were not there
_MAX_CHECKS = 24  # signatures that are checked for one leaf, about a millisecond: certificates can form a maze

SIP_DOMAIN = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.20")  # id-kp-sipDomain, RFC 5924
# Where there is an extended key usage it has to have one of these: what RFC 8551 section 4.4.4 wants, or that of SIP
# (RFC 5924).
_USAGES = {ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, SIP_DOMAIN}
# Critical extensions that are looked at here or elsewhere. Policies bind nobody who asks for none (section 6.1.1 (c));
# but policyConstraints would, and so it is not among these.
_KNOWN = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.NAME_CONSTRAINTS,
    ExtensionOID.CERTIFICATE_POLICIES,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
}

_UNKNOWN_CA = "certificate from an unknown CA"
_SELF_SIGNED = "certificate self-signed"
_WRONG_SIGNATURE = "certificate's signature is wrong"
_ALGORITHM = "certificate algorithm"
_TOO_LONG = "path too long"
_PURPOSE = "certificate not for this purpose"
_NO_CA = "issuer is no CA"
_UNREADABLE = "certificate can't be read"
# Why no way to a root was found: the more is known, the better the reason.
_TELLING = (_SELF_SIGNED, _UNKNOWN_CA, _WRONG_SIGNATURE, _ALGORITHM, _TOO_LONG)


class PathError(Exception):
    """A certificate that does not count; the text is the reason, in few words, fit for a Warning header."""


class Purpose(Enum):
    """What a certificate was used for, or will be."""

    SIGN = "sign"
    ENCRYPT = "encrypt"


SIGN: Final = Purpose.SIGN
ENCRYPT: Final = Purpose.ENCRYPT


@dataclass(frozen=True)
class Path:
    """A path that held.

    Attributes:
        chain: certificates from the leaf to the root; the leaf alone where it is trusted by itself.
        warnings: what `Crl` wants said about it.
        good_until: when it has to be looked at again.
        pinned: the key is pinned. That proves who holds it and no name at all: its holder has written the names.
    """

    chain: tuple[x509.Certificate, ...]
    warnings: tuple[str, ...]
    good_until: datetime
    pinned: bool = False


def _utc() -> datetime:
    return datetime.now(UTC)


class Paths:
    """Validates certificates, and remembers those that held.

    Args:
        roots: certificates that are trusted: authorities, and others for themselves.
        revocation: the lists of revoked certificates.
        crl: what is done where there is none that is current.
        pins: SHA-256 of the SubjectPublicKeyInfo (DER) of keys whose self-signed certificates are trusted.
        sha1: whether signatures with SHA-1 count (RFC 6216).
        now: gives the time, aware.

    Attributes:
        hits: how often a path was remembered.
        misses: how often it was not.
    """

    def __init__(
        self,
        roots: "Iterable[x509.Certificate]",
        revocation: "Revocation",
        crl: "Crl",
        pins: "Iterable[bytes]" = frozenset(),
        *,
        sha1: bool = False,
        now: "Callable[[], datetime]" = _utc,
    ) -> None:
        self.hits = 0
        self.misses = 0
        self._now = now
        self._known: dict[tuple[x509.Certificate, Purpose], tuple[datetime, Path]] = {}
        self._roots: dict[x509.Name, list[x509.Certificate]] = {}
        self._revocation = revocation
        self._generation = revocation.generation
        self._pins: frozenset[bytes] = frozenset()
        self.replace(roots=roots, crl=crl, pins=pins, sha1=sha1)

    def replace(
        self,
        *,
        roots: "Iterable[x509.Certificate] | None" = None,
        revocation: "Revocation | None" = None,
        crl: "Crl | None" = None,
        pins: "Iterable[bytes] | None" = None,
        sha1: bool | None = None,
    ) -> None:
        """Take other settings, where they are given, and forget what was decided with those before: a reload.

        Raises:
            ValueError: a root can't be read; nothing has changed then.
        """
        if roots is not None:
            by_name: dict[x509.Name, list[x509.Certificate]] = {}
            try:
                for root in dict.fromkeys(roots):
                    by_name.setdefault(root.subject, []).append(root)
            except BROKEN as error:
                raise ValueError(f"a root can't be read: {error}") from None
            self._roots = by_name
        if revocation is not None:
            self._revocation = revocation
        if crl is not None:
            self._crl = crl
        if pins is not None:
            self._pins = frozenset(pins)
        if sha1 is not None:
            self._sha1 = sha1
        self._forget()

    def _forget(self) -> None:
        self._known.clear()
        self._generation = self._revocation.generation

    def validate(self, leaf: x509.Certificate, intermediates: "Iterable[x509.Certificate]", purpose: Purpose) -> Path:
        """Find a path that holds; whose names it proves is not looked at.

        Args:
            leaf: who has signed, or whom something is encrypted to.
            intermediates: what came with it, in any order; it need not be of any use.
            purpose: what it was used for, or will be.

        Raises:
            PathError: there is none.
        """
        now = self._now()
        if self._generation != self._revocation.generation:
            self._forget()
        known = self._known.get((leaf, purpose))
        if known is not None and known[0] <= now < known[1].good_until:
            self.hits += 1
            return known[1]
        self.misses += 1
        try:
            path = self._find(leaf, intermediates, purpose, now)
        except BROKEN:
            raise PathError(_UNREADABLE) from None
        self._known.pop((leaf, purpose), None)
        if len(self._known) >= _MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[leaf, purpose] = now, path
        return path

    def _find(
        self, leaf: x509.Certificate, intermediates: "Iterable[x509.Certificate]", purpose: Purpose, now: datetime
    ) -> Path:
        pinned = self._is_pinned(leaf)
        if pinned or leaf in self._roots.get(leaf.subject, ()):
            _check_certificate(leaf, now)
            _check_usage(leaf, purpose)
            return Path((leaf,), (), min(now + _REMEMBERED, leaf.not_valid_after_utc), pinned)
        search = _Search(self._roots, intermediates, sha1=self._sha1)
        refused = None
        for chain in search.chains(leaf):
            try:
                _check_chain(chain, purpose, now)
                return self._check_revocation(chain, now)
            except PathError as error:
                refused = refused or error
            except BROKEN:
                refused = refused or PathError(_UNREADABLE)
        raise refused or PathError(search.reason)

    def _is_pinned(self, leaf: x509.Certificate) -> bool:
        """Whether a leaf is of a pinned key, and signed with it: others could give that key any name otherwise."""
        if not self._pins or leaf.subject != leaf.issuer:
            return False
        spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if hashlib.sha256(spki).digest() not in self._pins:
            return False
        try:
            check_signature(leaf, leaf, sha1=self._sha1)
        except SignatureError:
            raise PathError(_WRONG_SIGNATURE) from None
        except AlgorithmError:
            raise PathError(_ALGORITHM) from None
        return True

    def _check_revocation(self, chain: tuple[x509.Certificate, ...], now: datetime) -> Path:
        """Ask the lists about each certificate but the root.

        Raises:
            PathError: one is revoked, or its list is not as `Crl` wants it.
        """
        ends = [now + _REMEMBERED, *(one.not_valid_after_utc for one in chain)]
        warnings = []
        for certificate, issuer in pairwise(chain):
            status = self._revocation.status(certificate, issuer, now, fresh_s=self._crl.fresh_s, sha1=self._sha1)
            action = self._crl.action(status.state)
            if action == "refuse":
                raise PathError(status.state.text)
            if action == "warn":
                warnings.append(status.state.text)
            if status.until is not None:
                ends.append(status.until)
        return Path(chain, tuple(dict.fromkeys(warnings)), min(ends))


class _Search:
    """Looks for ways from a leaf to a root: names, key identifiers and signatures fit.

    Attributes:
        reason: why there is none, as far as was found out.
    """

    def __init__(
        self,
        roots: dict[x509.Name, list[x509.Certificate]],
        intermediates: "Iterable[x509.Certificate]",
        *,
        sha1: bool,
    ) -> None:
        self.reason = _SELF_SIGNED
        self._roots = roots
        self._sha1 = sha1
        self._left = _MAX_CHECKS
        self._pool: dict[x509.Name, list[x509.Certificate]] = {}
        for one, _ in zip(dict.fromkeys(intermediates), range(_MAX_INTERMEDIATES), strict=False):
            try:
                self._pool.setdefault(one.subject, []).append(one)
            except BROKEN:
                continue  # it is of no use, but others may be

    def chains(self, leaf: x509.Certificate) -> "Iterator[tuple[x509.Certificate, ...]]":
        """Each way, leaf first and root last; no certificate, and no authority's key, is on it twice."""
        yield from self._extend((leaf,))

    def _extend(self, chain: tuple[x509.Certificate, ...]) -> "Iterator[tuple[x509.Certificate, ...]]":
        last = chain[-1]
        if len(chain) >= _MAX_CHAIN:
            self._tell(_TOO_LONG)
            return
        if len(chain) > 1 or last.subject != last.issuer:
            self._tell(_UNKNOWN_CA)
        for root in self._roots.get(last.issuer, ()):
            if root not in chain and self._has_signed(root, last):
                yield (*chain, root)
        for one in self._pool.get(last.issuer, ()):
            if not _is_among(one, chain) and self._has_signed(one, last):
                yield from self._extend((*chain, one))

    def _has_signed(self, issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
        if not _identifiers_fit(issuer, certificate):
            return False
        if self._left == 0:
            self._tell(_TOO_LONG)
            return False
        self._left -= 1
        try:
            check_signature(certificate, issuer, sha1=self._sha1)
        except SignatureError:
            self._tell(_WRONG_SIGNATURE)
            return False
        except AlgorithmError:
            self._tell(_ALGORITHM)
            return False
        return True

    def _tell(self, reason: str) -> None:
        self.reason = max(self.reason, reason, key=_TELLING.index)


def _is_among(one: x509.Certificate, chain: tuple[x509.Certificate, ...]) -> bool:
    """Whether a certificate, or another of its name and key, is on a path already: authorities can sign in circles."""
    try:
        key = one.public_key()
        return any(one.subject == other.subject and key == other.public_key() for other in chain)
    except BROKEN:
        return True


def _identifiers_fit(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether the key identifiers, where both have them, say that it is the issuer (section 4.2.1.1)."""
    try:
        wanted = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        if wanted.authority_cert_serial_number not in {None, issuer.serial_number}:
            return False
        if wanted.key_identifier is None:
            return True
        return wanted.key_identifier == (
            issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        )
    except x509.ExtensionNotFound:
        return True
    except BROKEN:
        return False


def _check_chain(chain: tuple[x509.Certificate, ...], purpose: Purpose, now: datetime) -> None:
    """What section 6.1 asks of a path, from the root on; signatures have been checked.

    A root is asked what other authorities are: RFC 5280 leaves that open, and who has set bounds to a root means them.

    Raises:
        PathError: it does not hold.
    """
    constraints = Constraints()
    may_follow = _MAX_CHAIN  # authorities below, those that certify a new key of themselves not counted
    for at in range(len(chain) - 1, -1, -1):
        certificate = chain[at]
        is_authority, is_root = at > 0, at == len(chain) - 1
        _check_certificate(certificate, now)
        is_self_issued = certificate.subject == certificate.issuer
        if not (is_authority and is_self_issued):
            try:
                constraints.check(certificate)
            except ConstraintError:
                raise PathError("name constraints") from None
        if not is_authority:
            _check_usage(certificate, purpose)
            return
        length = _check_authority(certificate)
        if not is_root and not is_self_issued:
            if may_follow == 0:
                raise PathError(_TOO_LONG)
            may_follow -= 1
        if length is not None:
            may_follow = min(may_follow, length)
        bounds = _extension(certificate, x509.NameConstraints)
        if bounds is not None:
            constraints.add(bounds)


def _extension(certificate: x509.Certificate, kind: "type[_Extension]") -> "_Extension | None":
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _check_certificate(certificate: x509.Certificate, now: datetime) -> None:
    """What is asked of each certificate.

    Raises:
        PathError: it is not so.
    """
    if now < certificate.not_valid_before_utc:
        raise PathError("certificate not yet valid")
    if now > certificate.not_valid_after_utc:
        raise PathError("certificate expired")
    try:
        check_key(certificate.public_key())
    except AlgorithmError:
        raise PathError(_ALGORITHM) from None
    if any(one.critical and one.oid not in _KNOWN for one in certificate.extensions):
        raise PathError("certificate with an unknown critical extension")


def _check_authority(certificate: x509.Certificate) -> int | None:
    """Whether a certificate may sign others; returns how many authorities may be below it.

    Raises:
        PathError: it may not.
    """
    basic = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    if basic is None or not basic.ca or (usage is not None and not usage.key_cert_sign):
        raise PathError(_NO_CA)
    _check_extended_usage(certificate)
    return basic.path_length


def _check_usage(leaf: x509.Certificate, purpose: Purpose) -> None:
    """Whether a leaf may be used for that (RFC 8551 section 4.4.2).

    Raises:
        PathError: it may not.
    """
    usage = _extension(leaf, x509.KeyUsage)
    key = leaf.public_key()
    if purpose is SIGN:
        fits = usage is None or usage.digital_signature or usage.content_commitment
    elif isinstance(key, ec.EllipticCurvePublicKey):
        fits = usage is None or usage.key_agreement
    else:
        fits = isinstance(key, rsa.RSAPublicKey) and (usage is None or usage.key_encipherment)
    if not fits:
        raise PathError(_PURPOSE)
    _check_extended_usage(leaf)


def _check_extended_usage(certificate: x509.Certificate) -> None:
    """Whether the extended key usage, where there is one, allows S/MIME; that of an authority binds what is below."""
    usages = _extension(certificate, x509.ExtendedKeyUsage)
    if usages is not None and not _USAGES & set(usages):
        raise PathError(_PURPOSE)
