"""How an authority's certificates are built, and what it takes from a request for one (PKCS #10, RFC 2986)."""

from datetime import datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sipwire.errors import ParseError
from sipwire.uri import Uri

from ..config import domain_name
from .credential import Credential, PrivateKey
from .ledger import AuthorityError
from .signed import BROKEN, AlgorithmError, SignatureError, check_key, check_signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

__all__ = [
    "authority_extensions",
    "build",
    "has_issued",
    "key_of",
    "key_usage",
    "names_of",
    "sign",
    "user_of",
]

_MAX_COMMON_NAME = 64  # characters, ub-common-name of RFC 5280; the names that count are in subjectAltName
_MAX_NAMES = 32  # of a request: the users of a household, not those of a town
_FOR_TLS = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)  # for a request; Ed25519 has its own

_Extensions = list[tuple[x509.ExtensionType, bool]]


def key_usage(**wanted: bool) -> x509.KeyUsage:
    """A key usage of what is named, and nothing else."""
    usual = {
        "digital_signature": False,
        "content_commitment": False,
        "key_encipherment": False,
        "data_encipherment": False,
        "key_agreement": False,
        "key_cert_sign": False,
        "crl_sign": False,
    }
    return x509.KeyUsage(**{**usual, **wanted}, encipher_only=False, decipher_only=False)


def authority_extensions(path_length: int) -> _Extensions:
    """What makes an authority of a certificate, with so many others below it."""
    return [
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (key_usage(key_cert_sign=True, crl_sign=True), True),
    ]


def build(
    subject: str, issuer: Credential | None, not_before: datetime, not_after: datetime, extensions: _Extensions
) -> Credential:
    """Make a key, P-256, and have it certified by ``issuer``, or by itself; the chain is left empty."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer: PrivateKey = key if issuer is None else issuer.key
    above = None if issuer is None else issuer.certificate
    return Credential(sign(subject, key.public_key(), above, signer, not_before, not_after, extensions), key)


def sign(
    subject: str,
    key: "CertificatePublicKeyTypes",
    issuer: x509.Certificate | None,
    signer: PrivateKey,
    not_before: datetime,
    not_after: datetime,
    extensions: _Extensions,
) -> x509.Certificate:
    """Certify a key.

    Args:
        subject: the common name, cut where it is too long; nobody goes by it.
        key: whose it is.
        issuer: the certificate of who certifies it, None for a root.
        signer: the key of who certifies it.
        not_before: when it begins to hold.
        not_after: when it ends.
        extensions: with whether they are critical; key identifiers are added.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:_MAX_COMMON_NAME])])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else issuer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256())


def has_issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether a certificate is of that issuer, name and signature."""
    try:
        check_signature(certificate, issuer)
    except (*BROKEN, SignatureError, AlgorithmError):
        return False
    return certificate.issuer == issuer.subject


def user_of(text: str) -> str | None:
    """The address of a user in its one form, like ``sip:alice@a.example``; None for what is no such address."""
    try:
        uri = Uri.parse(text.encode("ascii"))
        if uri.scheme != b"sip" or uri.port is not None or uri.params or uri.headers:
            return None
        return None if uri.user is None or b":" in uri.user else uri.aor().decode("ascii")
    except (ParseError, UnicodeError):
        return None


def key_of(request: x509.CertificateSigningRequest) -> "CertificatePublicKeyTypes":
    """The key of a request, which has been signed with it.

    Raises:
        AuthorityError: it has not; or the key, or the algorithm, is none that we certify.
    """
    try:
        key = request.public_key()
        check_key(key)
        is_good = isinstance(key, ed25519.Ed25519PublicKey) or isinstance(request.signature_hash_algorithm, _HASHES)
        if not is_good:
            raise AlgorithmError("hash")
        if not request.is_signature_valid:
            raise AuthorityError("the request is not signed with its key; make it again")
    except AlgorithmError as error:
        raise AuthorityError(
            f"the request's key or algorithm is not certified here ({error}); "
            "P-256, P-384, Ed25519 or RSA of 2048 bits with SHA-256 is"
        ) from None
    except (*BROKEN, InvalidSignature):
        raise AuthorityError("the request can't be read; make it again") from None
    return key


def names_of(request: x509.CertificateSigningRequest) -> tuple[list[x509.GeneralName], bool]:
    """The names of a request that may be certified, and whether that is for TLS: those of domains mostly are.

    Raises:
        AuthorityError: there is none, or one that may not; or it wants to be an authority, or a domain's for both TLS
            and S/MIME.
    """
    wanted: set[x509.ObjectIdentifier] = set()
    try:
        extensions = request.extensions
        for extension in extensions:
            value = extension.value
            if isinstance(value, x509.BasicConstraints) and value.ca:
                raise AuthorityError("the request is for an authority; see `wisp ca intermediate`")
            if isinstance(value, x509.KeyUsage) and (value.key_cert_sign or value.crl_sign):
                raise AuthorityError("the request is for an authority; see `wisp ca intermediate`")
            if isinstance(value, x509.ExtendedKeyUsage):
                wanted.update(value)
        found = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        found = []
    except BROKEN:
        raise AuthorityError("the request can't be read; make it again") from None
    if not found:
        raise AuthorityError("the request has no subjectAltName; URI:sip:alice@a.example, say, is wanted there")
    if len(found) > _MAX_NAMES:
        raise AuthorityError(f"the request has more than {_MAX_NAMES} names; make several")
    users, domains, hosts = [], [], []
    for name in found:
        if isinstance(name, x509.UniformResourceIdentifier) and (user := user_of(name.value)) is not None:
            users.append(user)
        elif isinstance(name, x509.UniformResourceIdentifier) and (domain := _domain_of(name.value)) is not None:
            domains.append(domain)
        elif isinstance(name, x509.DNSName):
            hosts.append(name.value.lower())
        else:
            raise AuthorityError(f"{name.value}: only sip URIs and the domain's own DNS name are certified")
    for host in hosts:
        if host not in domains:
            raise AuthorityError(f"{host}: a DNS name is certified only beside URI:sip:{host}")
    if users and domains:
        raise AuthorityError("the request is for users and for a domain; make one for each")
    if domains and ExtendedKeyUsageOID.EMAIL_PROTECTION in wanted:
        if hosts or wanted & _FOR_TLS:
            # One key for both would sign for whoever has stolen it from a trunk.
            raise AuthorityError(
                "the request of a domain is for S/MIME and for TLS; make one for each, with a key each"
            )
        return [x509.UniformResourceIdentifier(f"sip:{one}") for one in domains], False
    uris = [f"sip:{one}" for one in domains] or users
    return [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, hosts)], bool(domains)


def _domain_of(text: str) -> str | None:
    """The domain of a URI like ``sip:a.example``, in lower case; None for another URI."""
    scheme, _, host = text.partition(":")
    try:
        return domain_name(host) if scheme.lower() == "sip" else None
    except ValueError:
        return None
