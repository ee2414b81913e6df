"""What a certificate's subjectAltName proves: users and domains (RFC 3261 section 23, RFC 5922 section 7, RFC 5924).

    URI sip:alice@a.example     the user sip:alice@a.example
    URI sips:alice@a.example    the same user
    URI sip:a.example           the domain a.example, and so each of its users
    DNS a.example               the domain, where there is no sip URI at all

A URI with password, port, parameters or headers is no address-of-record and proves nothing; subject names, e-mail
addresses and wildcards prove nothing either.
"""

from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sipwire.errors import ParseError
from sipwire.uri import Uri, uri_of

from ..transport.identity import certificate_domains
from .signed import BROKEN

__all__ = ["domains", "proves", "users"]

_MAX_KNOWN = 4096  # certificates whose names are remembered: the active users of a domain and those whom they talk to


def users(certificate: x509.Certificate) -> frozenset[bytes]:
    """The users that a certificate proves, as ``sip:user@host`` with the host in lower case; empty for none."""
    return _names(certificate)[0]


def domains(certificate: x509.Certificate) -> frozenset[str]:
    """The domains that a certificate proves, in lower case; empty for none (RFC 5922 section 7.1)."""
    return _names(certificate)[1]


def proves(certificate: x509.Certificate, aor: bytes) -> str:
    """In which way a certificate proves that its holder speaks for an address-of-record.

    Args:
        certificate: one whose path has been validated.
        aor: as `Uri.aor` writes it.

    Returns:
        "user" where the address itself is in it, "domain" where its domain is, "" where it proves nothing of the kind.
    """
    try:
        uri = uri_of(aor)
    except ParseError:
        return ""
    if not _is_aor(uri):
        return ""
    known_users, known_domains = _names(certificate)
    if uri.user is not None and uri.aor() in known_users:
        return "user"
    return "domain" if uri.host.decode("ascii").lower() in known_domains else ""


def _is_aor(uri: Uri) -> bool:
    return (
        uri.is_sip
        and uri.port is None
        and not uri.params
        and not uri.headers
        and (uri.user is None or b":" not in uri.user)
    )


@lru_cache(_MAX_KNOWN)
def _names(certificate: x509.Certificate) -> tuple[frozenset[bytes], frozenset[str]]:
    """Users and domains of a certificate; its hash is that of its bytes, and costs less than a microsecond."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (*BROKEN, x509.ExtensionNotFound):
        return frozenset(), frozenset()
    known = set()
    for value in found.get_values_for_type(x509.UniformResourceIdentifier):
        try:
            uri = Uri.parse(value.encode("ascii"))
            if uri.user is not None and _is_aor(uri):
                known.add(uri.aor())
        except (ParseError, UnicodeError):
            continue
    return frozenset(known), certificate_domains(certificate.public_bytes(Encoding.DER))
