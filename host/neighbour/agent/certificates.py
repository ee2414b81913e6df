"""The neighbour's own certificates: of its domain, users and groups; and others' that were given to it by hand.

    domain    for TLS, and to be encrypted to where there is no other; it signs no message
    agent     the domain's for S/MIME: signs for whoever has no certificate of its own
    user      of a user or a group

    missing --(first use, with an authority)--> in use --(renew_days before its end, where we made it)--> in use
                                                  |  ^
                                                  |  +-- the files have changed
                                                  +--> retired: still opens what was sent to it, for ten minutes

Everything is in memory; files are looked at again by `Certificates.reload`, and a broken one changes nothing.
"""

import base64
import contextlib
import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from ..logs import Seldom
from ..store.accounts import DOMAIN
from . import names
from .authority import Authority, AuthorityError
from .credential import Credential
from .issuance import has_issued, key_usage, sign
from .keyring import AGENT, CertificateError, Keyring, Place, read_certificates
from .path import SIP_DOMAIN
from .remembered import remembered
from .signed import BROKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ..config import Config
    from .keyring import Stamp

__all__ = ["Certificates", "Recipient", "can_encrypt", "is_issued_by", "issue", "issuer_of", "make_domain", "pin_of"]

_log = structlog.get_logger("certificates")
_MAX_PINS_KNOWN = 4096  # certificates whose pins are remembered
_RETIRED = timedelta(minutes=10)  # WIRE section 3: what is older than that is refused for its Date anyway
_RETRY = timedelta(minutes=1)  # after an authority failed
_RENEW_AGAIN = timedelta(hours=1)  # where it made a certificate that ends soon itself
_SELF_SIGNED_DAYS = 3653  # whoever trusts it does so by hand: its pin, or the certificate itself
_BACKDATE = timedelta(minutes=5)  # for clocks that are a little late


class Recipient(Protocol):
    """Whom a message was encrypted to (RFC 5652 section 6.2).

    Attributes:
        issuer: of the certificate, as DER, with its serial number; None where the key's identifier tells.
        serial: None as well then.
        key_id: the subject key identifier, or None.
    """

    @property
    def issuer(self) -> bytes | None: ...  # noqa: D102
    @property
    def serial(self) -> int | None: ...  # noqa: D102
    @property
    def key_id(self) -> bytes | None: ...  # noqa: D102


def _utc() -> datetime:
    return datetime.now(UTC)


@remembered(_MAX_PINS_KNOWN)
def pin_of(certificate: x509.Certificate) -> str:
    """The pin of a certificate's key: SHA-256 of its SubjectPublicKeyInfo, in base64."""
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()


def can_encrypt(certificate: x509.Certificate) -> bool:
    """Whether others may encrypt to a certificate: its key usage allows key agreement, or for RSA key encipherment."""
    usage = None
    try:
        key = certificate.public_key()
        with contextlib.suppress(x509.ExtensionNotFound):
            usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except BROKEN:
        return False
    if isinstance(key, ec.EllipticCurvePublicKey):
        return usage is None or usage.key_agreement
    # Nothing is encrypted to Ed25519, which only signs.
    return isinstance(key, rsa.RSAPublicKey) and (usage is None or usage.key_encipherment)


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate | None) -> bool:
    """Whether this very certificate of an authority, or of its own, has signed the other."""
    return issuer is not None and has_issued(issuer, certificate)


def issuer_of(config: "Config") -> x509.Certificate | None:
    """The certificate that our authority signs with, None where there is no authority, or it can't be read."""
    if not config.security.authority:
        return None
    try:
        return x509.load_pem_x509_certificate(
            (config.path(config.security.authority) / "intermediate.pem").read_bytes()
        )
    except (OSError, ValueError):
        return None


def issue(config: "Config", place: Place, now: "Callable[[], datetime]" = _utc) -> Credential:
    """Have our authority make a certificate, with a new key, for any place. It is not yet written.

    Args:
        config: says where the authority is.
        place: whose certificate it is to be.
        now: the time.

    Raises:
        CertificateError: there is no authority, or it can't.
    """
    if not config.security.authority:
        raise CertificateError(f"{place.label}: there is no authority to make a certificate; see security.authority")
    authority = Authority(config.path(config.security.authority), now)
    try:
        if place.is_agent:
            return authority.issue_agent(config.domain)
        return authority.issue_domain(config.domain) if place.is_domain else authority.issue_user(place.aor)
    except (AuthorityError, OSError) as error:
        raise CertificateError(f"{place.label}: no certificate could be made: {error}") from None


def make_domain(config: "Config", *, key: ec.EllipticCurvePrivateKey | None = None) -> str:
    """Make the domain's for TLS where there is neither certificate nor key; by our authority, or else self-signed.

    Args:
        config: the configuration.
        key: make a self-signed one of this key in any case, in place of that which is there.

    Returns:
        What was made, and what has to be done about it; "" where nothing was.

    Raises:
        CertificateError: it can't be made or written.
    """
    keyring = Keyring(config)
    place = keyring.domain
    if key is None and not place.is_empty:
        return ""
    is_signed = bool(config.security.authority) and key is None
    try:
        with keyring.locked():
            made = issue(config, place) if is_signed else _self_signed(config.domain, key)
            keyring.write(place, made)
    except OSError as error:
        raise CertificateError(f"{error.filename}: {error.strerror}") from None
    if is_signed:
        return f"{place.certificate}: made by {config.security.authority}"
    return (
        f"{place.certificate}: made, signed by itself: other domains trust it only with this file in their tls.ca,"
        f' and pin = ["{pin_of(made.certificate)}"] in their [[peer]]'
    )


def _self_signed(domain: str, key: ec.EllipticCurvePrivateKey | None) -> Credential:
    key = key or ec.generate_private_key(ec.SECP256R1())
    now = _utc()
    names_of = [x509.UniformResourceIdentifier(f"sip:{domain}"), x509.DNSName(domain)]
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH, SIP_DOMAIN]
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (key_usage(digital_signature=True, key_agreement=True), True),
        (x509.ExtendedKeyUsage(purposes), False),
        (x509.SubjectAlternativeName(names_of), False),
    ]
    end = now + timedelta(days=_SELF_SIGNED_DAYS)
    return Credential(sign(domain, key.public_key(), None, key, now - _BACKDATE, end, extensions), key)


class Certificates:
    """The credentials of a domain, its users and its groups.

    Args:
        config: the configuration.
        now: the time, with its zone.

    Raises:
        CertificateError: there is no certificate of the domain, and none could be made.
    """

    def __init__(self, config: "Config", now: "Callable[[], datetime]" = _utc) -> None:
        self._config = config
        self._now = now
        self._keyring = Keyring(config)
        #: These are by the names of their places.
        self._own: dict[str, Credential] = {}
        self._stamps: dict[str, Stamp] = {}
        #: What is not used any more, with the time until which it still opens messages.
        self._retired: list[tuple[datetime, Credential]] = []
        self._by_serial: dict[tuple[bytes | None, int | None], Credential] = {}
        self._by_key_id: dict[bytes, Credential] = {}
        self._others: dict[bytes, x509.Certificate] = {}
        self._other_stamps: dict[Path, Stamp] = {}
        #: When the authority may be asked again for a place.
        self._retry_at: dict[str, datetime] = {}
        self._may_log = Seldom()
        told = make_domain(config)
        if told:
            _log.warning("certificate made", what=told)
        self._mend()
        self.reload()
        if self._keyring.domain.name not in self._own:
            self._keyring.read(self._keyring.domain)  # says what is wrong with it
            raise CertificateError(f"{self._keyring.domain.certificate}: can't be read")
        _ = self.agent  # made now, so that others learn of it before anything has been signed with it

    # Whose is used for what.

    @property
    def domain(self) -> Credential:
        """The domain's for TLS. It signs no message: its key is the one most likely to be stolen."""
        return self._own[self._keyring.domain.name]

    @property
    def agent(self) -> Credential | None:
        """The domain's for S/MIME, made now when there is none and we have an authority.

        None where there is none, and none can be made, or it has expired.
        """
        return self._held(self._keyring.agent)

    def of_user(self, user: str) -> Credential | None:
        """A user's or group's own, made now when there is none and we have an authority.

        To be asked for accounts and groups only: it makes one for every name.

        Returns:
            None where the agent's has to do: there is none, and none can be made, or it has expired.
        """
        try:
            return self._held(self._keyring.of(user))
        except CertificateError:
            return None  # an account of before there were such rules

    def _held(self, place: Place) -> Credential | None:
        found = self._own.get(place.name)
        if found is None and self._config.security.authority and place.is_empty:
            found = self._make(place, None)
        return found if found is not None and self._holds(found.certificate) else None

    def for_signing(self, user: str, signer: str | None) -> Credential:
        """The credential that signs for a user, as its account says.

        Args:
            user: the user part of the AOR.
            signer: `Account.signer`: None for its own, or the agent's where there is none; `DOMAIN` for the agent's;
                or a group, the agent's as well where that has none.

        Raises:
            CertificateError: the group is none, or the user is not in it: nobody may speak in its name. Or there is
                nothing to sign with. The text is fit for a Warning header.
        """
        own: Credential | None = None
        if signer is None:
            own = self.of_user(user)
        elif signer != DOMAIN:
            group = self._config.group_of(signer)
            if group is None or user not in group.members:
                raise CertificateError(f"{user} is not in the group {signer}")
            own = self.of_user(signer)
        found = own or self.agent
        if found is None:
            why = "wisp check says why" if self._config.security.authority else "see security.authority"
            raise CertificateError(f"no certificate to sign with; {why}")
        return found

    def find(self, recipient: Recipient) -> Credential | None:
        """The credential whose key opens what was encrypted to a recipient, or None; retired ones count for a while."""
        if recipient.key_id is not None:
            return self._by_key_id.get(recipient.key_id)
        return self._by_serial.get((recipient.issuer, recipient.serial))

    def published(self, user: str) -> tuple[x509.Certificate, ...]:
        """The certificate to encrypt to for a user, its chain behind it: its own, else the agent's, else the domain's.

        It makes none: whoever asks may ask for any name.
        """
        own = self._own.get(user) if user[:1] != "@" else None  # so are the domain's called, and no user
        for found in (own, self._own.get(AGENT)):
            if found is not None and self._holds(found.certificate) and can_encrypt(found.certificate):
                return found.certificate, *found.chain
        return self.domain.certificate, *self.domain.chain

    def directory(self, aor: bytes) -> x509.Certificate | None:
        """Somebody else's certificate that was given to us by hand, None where there is none that holds now.

        Args:
            aor: ``sip:user@host`` or ``sip:host``, the host in lower case.
        """
        found = self._others.get(aor)
        return found if found is not None and self._holds(found) else None

    def listed(self) -> "Iterable[x509.Certificate]":
        """All that are in the directory."""
        return self._others.values()

    def _holds(self, certificate: x509.Certificate) -> bool:
        return certificate.not_valid_before_utc <= self._now() < certificate.not_valid_after_utc

    # What changes.

    def reload(self) -> set[str]:
        """Read again what has changed: certificates, keys, and the directory.

        Returns:
            Whose certificate is another now: ``sip:user@domain``; ``sip:domain`` for both of the domain; others' as
            well.
        """
        self._forget_retired()
        changed = set()
        stamps = self._keyring.scan()
        for name, stamp in stamps.items():
            if stamp == self._stamps.get(name):
                continue
            place = self._keyring.at(name)
            if place.is_changing:
                continue
            if stamp[-1] is not None:
                self._mend()
            self._stamps[name] = place.stamp
            try:
                read = self._keyring.read(place)
            except CertificateError as error:
                _log.error("certificate not read", of=place.label, reason=str(error), kept=name in self._own)
                continue
            known = self._own.get(name)
            if known is None or (known.certificate, known.chain) != (read.certificate, read.chain):
                self._use(name, read)
                changed.add(place.aor)
        for name in self._own.keys() - stamps.keys():
            self._retire(self._own.pop(name))
            self._stamps.pop(name, None)
            changed.add(self._keyring.at(name).aor)
        return changed | self._read_others()

    def renew(self, now: datetime | None = None) -> set[str]:
        """Have our authority make anew what it made and what ends soon; returns whose, as `reload` does.

        One at a time, so that nobody waits for those of a thousand users that were made on one day.

        Args:
            now: the time, where it is another than ours.
        """
        now = now or self._now()
        ends = now + timedelta(days=self._config.security.renew_days)
        late = [name for name, one in self._own.items() if one.certificate.not_valid_after_utc <= ends]
        late = [name for name in late if self._retry_at.get(name, now) <= now]
        if not late:
            return set()
        issuer = issuer_of(self._config)
        for name in late:
            self._retry_at[name] = now + _RENEW_AGAIN
            if is_issued_by(self._own[name].certificate, issuer):
                place = self._keyring.at(name)
                return set() if self._make(place, self._own[name]) is None else {place.aor}
        return set()

    def _make(self, place: Place, known: Credential | None) -> Credential | None:
        """Make a certificate in place of the one we know, None where that fails."""
        now = self._now()
        if known is None and self._retry_at.get(place.name, now) > now:
            return None
        try:
            with self._keyring.locked():
                if place.stamp != self._stamps.get(place.name, (None, None, None)):
                    return None  # somebody else has made one meanwhile, or is about to: `reload` will see it
                made = issue(self._config, place, self._now)
                self._keyring.write(place, made)
        except (CertificateError, OSError) as error:
            self._retry_at[place.name] = now + _RETRY
            if self._may_log(place.name):
                _log.error("certificate not made", of=place.label, reason=str(error))
            return None
        self._stamps[place.name] = place.stamp
        self._use(place.name, made)
        _log.info("certificate made", of=place.label, until=made.certificate.not_valid_after_utc.isoformat())
        return made

    def _mend(self) -> None:
        """Finish what a crash has left half done."""
        places = self._keyring.places()
        if not self._keyring.leftovers() and not any(place.journal.exists() for place in places):
            return  # the folder need not even be ours to write
        try:
            with self._keyring.locked():
                for path in self._keyring.leftovers():
                    path.unlink(missing_ok=True)
                for place in places:
                    try:
                        mended = self._keyring.repair(place)
                    except CertificateError as error:
                        _log.error("certificate not written", of=place.label, reason=str(error))
                        continue
                    if mended:
                        _log.warning("certificate written", of=place.label, reason="it was left half done")
        except OSError as error:
            _log.error("certificates not written", reason=f"{error.filename}: {error.strerror}")

    def _use(self, name: str, credential: Credential) -> None:
        old = self._own.get(name)
        if old is not None:
            self._retire(old)
        self._own[name] = credential
        self._index(credential)

    def _retire(self, credential: Credential) -> None:
        self._retired.append((self._now() + _RETIRED, credential))

    def _forget_retired(self) -> None:
        now = self._now()
        if not self._retired or self._retired[0][0] > now:
            return
        self._retired = [one for one in self._retired if one[0] > now]
        self._by_serial.clear()
        self._by_key_id.clear()
        for _, credential in self._retired:
            self._index(credential)
        for credential in self._own.values():
            self._index(credential)

    def _index(self, credential: Credential) -> None:
        certificate = credential.certificate
        self._by_serial[certificate.issuer.public_bytes(), certificate.serial_number] = credential
        try:
            key_id = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        except (*BROKEN, x509.ExtensionNotFound):
            return  # nobody can name it by what it does not have
        self._by_key_id[key_id] = credential

    def _read_others(self) -> set[str]:
        stamps = self._keyring.of_peers()
        if stamps == self._other_stamps:
            return set()
        found: dict[bytes, x509.Certificate] = {}
        for path, stamp in stamps.items():
            try:
                certificate = read_certificates(path.read_bytes())[0]
            except (OSError, ValueError):
                if stamp != self._other_stamps.get(path):
                    _log.error("certificate not read", file=str(path), reason="no PEM certificate")
                continue
            for aor in (*names.users(certificate), *(f"sip:{one}".encode() for one in names.domains(certificate))):
                known = found.get(aor)
                if known is None or known.not_valid_before_utc < certificate.not_valid_before_utc:
                    found[aor] = certificate
        self._other_stamps = stamps
        changed = {aor for aor in found.keys() | self._others.keys() if found.get(aor) != self._others.get(aor)}
        self._others = found
        return {aor.decode("latin-1") for aor in changed}
