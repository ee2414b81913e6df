"""A small certificate authority for SIP: domains, users and groups (RFC 5922, RFC 5924, RFC 8551).

    root (10 years) -+-> intermediate (5 years) -+-> a.example (13 months)
                     |                           +-> a.example, for S/MIME alone (13 months)
                     |                           +-> sip:alice@a.example (13 months)
                     +-> b.example's intermediate, for names of b.example alone, in a folder of its own

Public authorities no longer issue certificates for TLS clients, which mutual TLS needs, so a federation has one of its
own. P-256 and SHA-256 throughout; keys are files that nobody else may read. What it issued and revoked is in its
ledger; lists of the revoked (CRLs) are made from that.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from .constraints import ConstraintError, Constraints
from .credential import Credential
from .issuance import authority_extensions, build, has_issued, key_of, key_usage, names_of, sign, user_of
from .keyring import write_file
from .ledger import AuthorityError, Entry, Ledger
from .path import SIP_DOMAIN
from .signed import BROKEN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

__all__ = ["Authority", "AuthorityError"]

_ROOT_DAYS = 3653
_INTERMEDIATE_DAYS = 1826
_LEAF_DAYS = 397  # 13 months, so that a yearly renewal is never late
_CRL_DAYS = 7
_BACKDATE = timedelta(minutes=5)  # for clocks that are a little late
_CRL_BEGIN = b"-----BEGIN X509 CRL-----"

# OpenSSL refuses a TLS client with serverAuth or sipDomain alone, so all three are there. S/MIME is not: whoever steals
# the key of a trunk must not be able to sign in the name of the domain's users.
_OF_DOMAINS = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH, SIP_DOMAIN)
_FOR_SMIME = (SIP_DOMAIN, ExtendedKeyUsageOID.EMAIL_PROTECTION)


def _utc() -> datetime:
    return datetime.now(UTC)


class Authority:
    """An authority in a folder: ``root.pem``, ``root.key``, ``intermediate.pem``, ``intermediate.key``.

    ``root.key`` is for making intermediates and the root's CRL, and may be kept elsewhere otherwise.

    Args:
        folder: where it is.
        now: gives the time, aware.
    """

    def __init__(self, folder: "Path", now: "Callable[[], datetime]" = _utc) -> None:
        self.folder = folder
        self._now = now
        self._ledger = Ledger(folder)

    @property
    def root_path(self) -> "Path":
        """The root certificate, for those who trust this authority."""
        return self.folder / "root.pem"

    @property
    def crl_path(self) -> "Path":
        """The lists of revoked certificates, for the same."""
        return self.folder / "crl.pem"

    # Authorities.

    def create(self, name: str) -> None:
        """Make root and intermediate.

        Raises:
            AuthorityError: there is one already.
            OSError: the files can't be written.
        """
        self._check_new()
        now = self._now()
        root = build(f"{name} root", None, now - _BACKDATE, now + timedelta(days=_ROOT_DAYS), authority_extensions(1))
        intermediate = build(
            f"{name} intermediate",
            root,
            now - _BACKDATE,
            now + timedelta(days=_INTERMEDIATE_DAYS),
            authority_extensions(0),
        )
        root.write(self.root_path, self.folder / "root.key")
        self._ledger.record(intermediate.certificate)
        intermediate.write(self.folder / "intermediate.pem", self.folder / "intermediate.key")

    def issue_intermediate(self, domain: str, folder: "Path") -> "Authority":
        """Make an authority for one domain: its neighbour makes certificates of its users there, and no others.

        It is bound by a name constraint on DNS names. TLS looks at those alone; `path` has it hold for sip URIs too.

        Args:
            domain: its domain.
            folder: where to write ``root.pem``, ``intermediate.pem`` and ``intermediate.key``; no ``root.key``.

        Returns:
            The new authority.

        Raises:
            AuthorityError: ``root.key`` is not here, or there is an authority in that folder.
            OSError: the files can't be written.
        """
        made = Authority(folder, self._now)
        made._check_new()
        root = self._root()
        now = self._now()
        bounds = x509.NameConstraints(permitted_subtrees=[x509.DNSName(domain)], excluded_subtrees=None)
        intermediate = build(
            f"{domain} intermediate",
            root,
            now - _BACKDATE,
            min(now + timedelta(days=_INTERMEDIATE_DAYS), root.certificate.not_valid_after_utc),
            [*authority_extensions(0), (bounds, True)],
        )
        self._ledger.record(intermediate.certificate)
        intermediate.write(folder / "intermediate.pem", folder / "intermediate.key")
        write_file(made.root_path, root.certificate.public_bytes(serialization.Encoding.PEM), private=False)
        return made

    def _check_new(self) -> None:
        for name in ("root.pem", "intermediate.pem"):
            if (self.folder / name).exists():
                raise AuthorityError(f"{self.folder}: there is an authority already")

    def _root(self) -> Credential:
        if not (self.folder / "root.key").exists() and self.root_path.exists():
            raise AuthorityError(f"{self.folder}: root.key is not here; put it there for as long as this takes")
        return self._read("root")

    def _intermediate(self) -> Credential:
        """What signs, while it may.

        Raises:
            AuthorityError: its files are missing or broken, or it has expired or was revoked.
        """
        found = self._read("intermediate")
        if found.certificate.not_valid_after_utc < self._now():
            end = found.certificate.not_valid_after_utc
            raise AuthorityError(f"{self.folder}: the intermediate expired on {end:%Y-%m-%d}; make a new authority")
        if self._ledger.revoked_at(found.certificate.serial_number) is not None:
            raise AuthorityError(f"{self.folder}: the intermediate is revoked; make a new authority")
        return found

    def _read(self, name: str) -> Credential:
        try:
            certificate = x509.load_pem_x509_certificate((self.folder / f"{name}.pem").read_bytes())
            key = serialization.load_pem_private_key((self.folder / f"{name}.key").read_bytes(), None)
        except OSError as error:
            raise AuthorityError(f"{error.filename}: {error.strerror}; make an authority with `wisp ca init`") from None
        except BROKEN as error:
            raise AuthorityError(f"{self.folder}: not an authority's files: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise AuthorityError(f"{self.folder}: the key is no EC key")
        if key.public_key() != certificate.public_key():
            raise AuthorityError(f"{self.folder}: {name}.key is not the key of {name}.pem")
        return Credential(certificate, key)

    # What it issues.

    def issue_domain(
        self, domain: str, not_before: datetime | None = None, not_after: datetime | None = None
    ) -> Credential:
        """A certificate of a SIP domain, for both ends of TLS. Others may encrypt to it, but it signs no message.

        Args:
            domain: what it proves, as ``sip:`` URI and DNS name.
            not_before: when it begins to hold; default a little ago.
            not_after: when it ends; default in 13 months.

        Raises:
            AuthorityError: the authority's files are missing or broken, or it is not for that domain.
            OSError: the ledger can't be written.
        """
        names = [x509.UniformResourceIdentifier(f"sip:{domain}"), x509.DNSName(domain)]
        return self._issue(domain, names, _OF_DOMAINS, not_before, not_after)

    def issue_agent(
        self, domain: str, not_before: datetime | None = None, not_after: datetime | None = None
    ) -> Credential:
        """A certificate of a SIP domain for S/MIME alone: it signs in the name of the domain and of its users.

        Args:
            domain: what it proves, as ``sip:`` URI; there is no DNS name in it, so that it is of no use for TLS.
            not_before: when it begins to hold; default a little ago.
            not_after: when it ends; default in 13 months.

        Raises:
            AuthorityError: the authority's files are missing or broken, or it is not for that domain.
            OSError: the ledger can't be written.
        """
        return self._issue(domain, [x509.UniformResourceIdentifier(f"sip:{domain}")], _FOR_SMIME, not_before, not_after)

    def issue_user(self, aor: str, not_before: datetime | None = None, not_after: datetime | None = None) -> Credential:
        """A certificate of a user or a group, for S/MIME.

        Args:
            aor: what it proves, like ``sip:alice@a.example``.
            not_before: when it begins to hold; default a little ago.
            not_after: when it ends; default in 13 months.

        Raises:
            AuthorityError: the authority's files are missing or broken, or it is not for that domain, or ``aor`` is no
                address of a user.
            OSError: the ledger can't be written.
        """
        user = user_of(aor)
        if user is None:
            raise AuthorityError(f"{aor}: the address of a user is wanted, like sip:alice@a.example")
        return self._issue(
            user.removeprefix("sip:"), [x509.UniformResourceIdentifier(user)], _FOR_SMIME, not_before, not_after
        )

    def _issue(
        self,
        subject: str,
        names: list[x509.GeneralName],
        usages: tuple[x509.ObjectIdentifier, ...],
        not_before: datetime | None,
        not_after: datetime | None,
    ) -> Credential:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, *chain = self._certify(subject, key.public_key(), names, usages, not_before, not_after)
        return Credential(certificate, key, tuple(chain))

    def sign_request(self, request: x509.CertificateSigningRequest) -> tuple[x509.Certificate, ...]:
        """Certify the key of whoever has made a request: for users, or for a domain, but not for both.

        Only its key and its names count; and for a domain, whether it is for S/MIME or for TLS. Names are sip URIs, and
        for TLS DNS names that are also there as a sip URI.

        Args:
            request: PKCS #10 (RFC 2986).

        Returns:
            The certificate, and those between it and the root.

        Raises:
            AuthorityError: it is not signed with its key; or the key, or a name, is none that we certify.
            OSError: the ledger can't be written.
        """
        key = key_of(request)
        names, is_for_tls = names_of(request)
        subject = str(names[0].value).removeprefix("sip:")
        return self._certify(subject, key, names, _OF_DOMAINS if is_for_tls else _FOR_SMIME, None, None)

    def _certify(
        self,
        subject: str,
        key: "CertificatePublicKeyTypes",
        names: list[x509.GeneralName],
        usages: tuple[x509.ObjectIdentifier, ...],
        not_before: datetime | None,
        not_after: datetime | None,
    ) -> tuple[x509.Certificate, ...]:
        """A certificate of a key with names, and its issuer's. It is in the ledger before anybody has it."""
        issuer = self._intermediate()
        now = self._now()
        is_rsa, is_ec = isinstance(key, rsa.RSAPublicKey), isinstance(key, ec.EllipticCurvePublicKey)
        certificate = sign(
            subject,
            key,
            issuer.certificate,
            issuer.key,
            not_before or now - _BACKDATE,
            not_after or min(now + timedelta(days=_LEAF_DAYS), issuer.certificate.not_valid_after_utc),
            [
                (x509.BasicConstraints(ca=False, path_length=None), True),
                (key_usage(digital_signature=True, key_agreement=is_ec, key_encipherment=is_rsa), True),
                (x509.ExtendedKeyUsage(usages), False),
                (x509.SubjectAlternativeName(names), False),
            ],
        )
        bounds = Constraints()
        try:
            bounds.add(issuer.certificate.extensions.get_extension_for_class(x509.NameConstraints).value)
            bounds.check(certificate)
        except x509.ExtensionNotFound:
            pass
        except ConstraintError:
            raise AuthorityError(f"{subject}: this authority is for another domain") from None
        self._ledger.record(certificate)
        return certificate, issuer.certificate

    # What it revokes.

    def entries(self) -> list[Entry]:
        """What was issued, the oldest first; what was issued before there was a ledger is not in it.

        Raises:
            AuthorityError: the ledger, or all of the authority, can't be read.
            OSError: so too.
        """
        self._certificate("root")
        return self._ledger.entries()

    def revoke(self, what: x509.Certificate | int) -> datetime | None:
        """Revoke a certificate, for good. Others hear of it by the next CRL.

        Args:
            what: a certificate of this authority, or the serial number of one in its ledger.

        Returns:
            When it was revoked before, or None.

        Raises:
            AuthorityError: it is not of this authority.
            OSError: the ledger can't be written.
        """
        issuers = [self._certificate("intermediate"), self._certificate("root")]
        if isinstance(what, int):
            if self._ledger.find(what) is None:
                raise AuthorityError(f"{what:x}: no certificate of this authority; see `wisp ca list`")
            return self._ledger.revoke(what, self._now())
        if what.subject == what.issuer:
            raise AuthorityError("a root can't be revoked: whoever trusts it has to remove it")
        if not any(has_issued(issuer, what) for issuer in issuers):
            raise AuthorityError("the certificate is of another authority, which is the one to revoke it")
        self._ledger.record(what)
        return self._ledger.revoke(what.serial_number, self._now())

    def crl(self, days: int = _CRL_DAYS) -> bytes:
        """Make the lists of what was revoked, and write them to ``crl.pem``.

        That of the intermediate, and that of the root where ``root.key`` is here; else the root's last one is kept.

        Args:
            days: when there will be others, at the latest: then these become stale.

        Returns:
            PEM with one or two of them.

        Raises:
            AuthorityError: the authority's files are missing or broken; or an intermediate is revoked, and ``root.key``
                is not here to say so.
            OSError: they can't be written.
        """
        lists = [self._crl_of(self._read("intermediate"), days)]
        root, last = self._certificate("root"), self._last_crl(self._certificate("root"))
        if (self.folder / "root.key").exists():
            lists.append(self._crl_of(self._read("root"), days))
        else:
            listed = set() if last is None else {one.serial_number for one in last}
            if any(one.certificate.serial_number not in listed for one in self._revoked_by(root)):
                raise AuthorityError(
                    f"{self.folder}: an intermediate is revoked, and root.key is not here to say so; "
                    "put it there for as long as this takes"
                )
            lists += [] if last is None else [last]
        pem = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in lists)
        write_file(self.crl_path, pem, private=False)
        return pem

    def _crl_of(self, issuer: Credential, days: int) -> x509.CertificateRevocationList:
        now = self._now()
        last = self._last_crl(issuer.certificate)
        number = int(now.timestamp())
        if last is not None:
            number = max(number, last.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.certificate.subject)
            .last_update(now - _BACKDATE)
            .next_update(now + timedelta(days=days))
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for entry in self._revoked_by(issuer.certificate):
            assert entry.revoked_at is not None
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(entry.certificate.serial_number)
                .revocation_date(entry.revoked_at)
                .build()
            )
        return builder.sign(issuer.key, hashes.SHA256())

    def _revoked_by(self, issuer: x509.Certificate) -> list[Entry]:
        return [
            one for one in self.entries() if one.revoked_at is not None and one.certificate.issuer == issuer.subject
        ]

    def _last_crl(self, issuer: x509.Certificate) -> x509.CertificateRevocationList | None:
        """The list of an issuer in ``crl.pem``, where there is one that can be used."""
        if not self.crl_path.exists():
            return None
        for part in self.crl_path.read_bytes().split(_CRL_BEGIN)[1:]:
            try:
                found = x509.load_pem_x509_crl(_CRL_BEGIN + part)
                if found.issuer == issuer.subject and found.is_signature_valid(issuer.public_key()):  # type: ignore[arg-type]
                    found.extensions.get_extension_for_class(x509.CRLNumber)
                    return found
            except (*BROKEN, x509.ExtensionNotFound):
                continue
        return None

    def _certificate(self, name: str) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate((self.folder / f"{name}.pem").read_bytes())
        except OSError as error:
            raise AuthorityError(f"{error.filename}: {error.strerror}; make an authority with `wisp ca init`") from None
        except BROKEN as error:
            raise AuthorityError(f"{self.folder}: not an authority's files: {error}") from None
