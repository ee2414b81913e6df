"""What the lists of revoked certificates (CRLs) say about a certificate (RFC 5280 sections 5 and 6.3).

    its issuer's CRL ...                    state      Crl says what then
    is current and does not name it         good       -
    names it, even if it is stale           revoked    always refused
    is too old, or from the future          stale      stale    refuse
    is not there                            missing    missing  accept
    is there, but others have signed it     forged     forged   refuse

Complete lists only, signed by the authority itself with the key that signs its certificates: delta CRLs, and those
that are for a part of the certificates or for others' certificates, are not used. Lists come from files: nothing is
fetched, so no certificate can make us talk to anybody.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from .signed import BROKEN, AlgorithmError, SignatureError, check_signature

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Action", "Crl", "Revocation", "RevocationError", "State", "Status"]

Action = Literal["accept", "warn", "refuse"]
_ACTIONS = ("accept", "warn", "refuse")

_MAX_BYTES = 16 << 20  # of one CRL: some 400,000 entries; more than that is no list of a federation of SIP domains
_MAX_PER_ISSUER = 8  # lists of one issuer that are kept: of its last keys, and forged ones beside a good one
_MAX_CHECKED = 16  # issuer certificates with which the signature of one list is remembered to be right, or wrong

_PEM = b"-----BEGIN X509 CRL-----"
_PEM_END = b"-----END X509 CRL-----"

# Extensions that may be critical. A list that has others says something that we do not understand, "and MUST NOT be
# used to determine the status of certificates" (RFC 5280 section 5.2).
_KNOWN = {ExtensionOID.AUTHORITY_KEY_IDENTIFIER, ExtensionOID.CRL_NUMBER}
_KNOWN_OF_ENTRIES = {CRLEntryExtensionOID.CRL_REASON, CRLEntryExtensionOID.INVALIDITY_DATE}


class RevocationError(Exception):
    """A list that can't be used; the text says why."""


class State(StrEnum):
    """What is known about a certificate."""

    GOOD = "good"
    REVOKED = "revoked"
    STALE = "stale"
    MISSING = "missing"
    FORGED = "forged"

    @property
    def text(self) -> str:
        """In words, for a Warning header (RFC 3261 section 20.43)."""
        return _TEXTS[self]


_TEXTS = {
    State.GOOD: "certificate not revoked",
    State.REVOKED: "certificate revoked",
    State.STALE: "CRL is stale",
    State.MISSING: "no CRL of the issuer",
    State.FORGED: "CRL's signature is wrong",
}


@dataclass(frozen=True)
class Crl:
    """What is done where no current list of the issuer is at hand.

    Attributes:
        fresh_s: seconds after its thisUpdate when a list counts as stale, even if its nextUpdate has not come; 0 for no
            such limit.
        stale: "accept", "warn" or "refuse" certificates whose issuer's list is too old.
        missing: the same where there is none.
        forged: the same where there is one that its issuer has not signed.
    """

    fresh_s: int = 0
    stale: Action = "refuse"
    missing: Action = "accept"
    forged: Action = "refuse"

    def __post_init__(self) -> None:
        if self.fresh_s < 0:
            raise ValueError("fresh_s: 0 or a number of seconds is wanted")
        for name in ("stale", "missing", "forged"):
            if getattr(self, name) not in _ACTIONS:
                raise ValueError(f"{name}: one of {', '.join(_ACTIONS)} is wanted")

    def action(self, state: State) -> Action:
        """What is done with a certificate in a state."""
        if state is State.GOOD:
            return "accept"
        if state is State.REVOKED:
            return "refuse"
        action: Action = getattr(self, state.value)
        return action


@dataclass(frozen=True)
class Status:
    """What is known about a certificate, and until when.

    Attributes:
        state: see `State`.
        until: when the list that says so becomes stale; None where no list says anything.
    """

    state: State
    until: datetime | None = None


@dataclass
class _List:
    """A CRL with what was found out about it."""

    crl: x509.CertificateRevocationList
    key_id: bytes | None
    number: int
    checked: dict[tuple[x509.Certificate, bool], bool] = field(default_factory=dict)

    def is_signed_by(self, issuer: x509.Certificate, *, sha1: bool) -> bool:
        known = self.checked.get((issuer, sha1))
        if known is None:
            if len(self.checked) >= _MAX_CHECKED:
                self.checked.clear()
            known = self.checked[issuer, sha1] = _may_sign(issuer) and _is_right(self.crl, issuer, sha1=sha1)
        return known

    def until(self, fresh_s: int) -> datetime | None:
        """When it becomes stale; None for one that has no end, which RFC 5280 section 5.1.2.5 does not allow."""
        ends = [self.crl.last_update_utc + timedelta(seconds=fresh_s)] if fresh_s else []
        if self.crl.next_update_utc is not None:
            ends.append(self.crl.next_update_utc)
        return min(ends, default=None)


class Revocation:
    """The lists that are at hand.

    Attributes:
        generation: grows with each change, so that who remembers what was decided knows when to forget it.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._lists: dict[x509.Name, list[_List]] = {}

    def __len__(self) -> int:
        return sum(len(lists) for lists in self._lists.values())

    @classmethod
    def read(cls, paths: "Iterable[Path]") -> "Revocation":
        """Read files with one or more lists each, PEM or DER.

        Raises:
            OSError: a file can't be read.
            RevocationError: it has no list, or one that can't be used; the text begins with its path.
        """
        made = cls()
        for path in paths:
            made.add(path.read_bytes(), str(path))
        return made

    def replace(self, other: "Revocation") -> None:
        """Take the lists of another, in place of ours: a reload."""
        self._lists = other._lists
        self.generation += 1

    def add(self, data: bytes, source: str = "CRL") -> int:
        """Take one or more lists beside those that are here; which of them count is seen when they are asked.

        Args:
            data: PEM with one or more of them, or the DER of one.
            source: what errors call it.

        Returns:
            How many there were.

        Raises:
            RevocationError: no list, or one that can't be used: a delta CRL, one for a part of the certificates or for
                others' certificates, one with unknown critical extensions, too many or too long ones. None was taken.
        """
        found = []
        for one in _split(data, source):
            if len(one) > _MAX_BYTES:
                raise RevocationError(f"{source}: a CRL of more than {_MAX_BYTES >> 20} MiB")
            found.append(_readable(one, source))
        lists = {name: list(held) for name, held in self._lists.items()}
        for new in found:
            held = lists.setdefault(new.crl.issuer, [])
            if all(old.crl != new.crl for old in held):
                held.append(new)
            if len(held) > _MAX_PER_ISSUER:
                raise RevocationError(f"{source}: more than {_MAX_PER_ISSUER} CRLs of one issuer")
        self._lists = lists
        self.generation += 1
        return len(found)

    def status(
        self,
        certificate: x509.Certificate,
        issuer: x509.Certificate,
        now: datetime,
        *,
        fresh_s: int = 0,
        sha1: bool = False,
    ) -> Status:
        """What is known about a certificate.

        Args:
            certificate: itself.
            issuer: the certificate of who has issued it; its signature has been checked.
            now: the time, aware.
            fresh_s: see `Crl`.
            sha1: whether a list signed with SHA-1 counts (RFC 6216).
        """
        of_the_issuer = [one for one in self._lists.get(certificate.issuer, ()) if _fits(one, issuer)]
        if not of_the_issuer:
            return Status(State.MISSING)
        signed = [one for one in of_the_issuer if one.is_signed_by(issuer, sha1=sha1)]
        if not signed:
            return Status(State.FORGED)
        # A list from the future must not hide what the present one says.
        begun = [one for one in signed if one.crl.last_update_utc <= now]
        newest = max(begun or signed, key=lambda one: (one.crl.last_update_utc, one.number))
        entry = newest.crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
        if entry is not None and _reason(entry) is not x509.ReasonFlags.remove_from_crl:
            return Status(State.REVOKED)
        until = newest.until(fresh_s)
        if not begun or until is None or until <= now:
            return Status(State.STALE)
        return Status(State.GOOD, until)


def _split(data: bytes, source: str) -> list[bytes]:
    """Each list of a file by itself."""
    if _PEM not in data:
        return [data]
    parts = data.split(_PEM)[1:]
    if not all(_PEM_END in part for part in parts):
        raise RevocationError(f"{source}: a PEM CRL without its end")
    return [_PEM + part[: part.index(_PEM_END)] + _PEM_END + b"\n" for part in parts]


def _readable(data: bytes, source: str) -> _List:
    """A list that can be used.

    Raises:
        RevocationError: it can't.
    """
    try:
        crl = x509.load_pem_x509_crl(data) if data.startswith(_PEM) else x509.load_der_x509_crl(data)
        key_id, number = None, 0
        for extension in crl.extensions:
            value = extension.value
            if isinstance(value, x509.DeltaCRLIndicator):
                raise RevocationError(f"{source}: a delta CRL; a complete one is wanted")
            if isinstance(value, x509.IssuingDistributionPoint):
                raise RevocationError(
                    f"{source}: a CRL for a part of the certificates, or an indirect one; a complete one is wanted"
                )
            if extension.critical and extension.oid not in _KNOWN:
                raise RevocationError(
                    f"{source}: a CRL with an unknown critical extension, {extension.oid.dotted_string}"
                )
            if isinstance(value, x509.AuthorityKeyIdentifier):
                key_id = value.key_identifier
            elif isinstance(value, x509.CRLNumber):
                number = value.crl_number
        for entry in crl:
            for extension in entry.extensions:
                if extension.critical and extension.oid not in _KNOWN_OF_ENTRIES:
                    raise RevocationError(
                        f"{source}: a CRL whose entries have an unknown critical extension, "
                        f"{extension.oid.dotted_string}"
                    )
        # What is read later must not be a surprise then.
        _ = crl.issuer, crl.last_update_utc, crl.next_update_utc, crl.signature_hash_algorithm
        crl.public_bytes(Encoding.DER)
    except BROKEN:
        raise RevocationError(f"{source}: no CRL that can be read") from None
    return _List(crl, key_id, number)


def _fits(one: _List, issuer: x509.Certificate) -> bool:
    """Whether a list of this name may be of this key: an authority that changes its key has a list with each."""
    if one.key_id is None:
        return True
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return True
    return own == one.key_id


def _may_sign(issuer: x509.Certificate) -> bool:
    """Whether an authority's key may sign lists: "cRLSign" where there is a key usage at all (section 6.3.3 (f))."""
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def _is_right(crl: x509.CertificateRevocationList, issuer: x509.Certificate, *, sha1: bool) -> bool:
    try:
        check_signature(crl, issuer, sha1=sha1)
    except (SignatureError, AlgorithmError):
        return False
    return True


def _reason(entry: x509.RevokedCertificate) -> x509.ReasonFlags | None:
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return None
