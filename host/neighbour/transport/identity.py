"""Who a TLS peer is: the domain certificates of RFC 5922, which the standard library's hostname check does not know.

    subjectAltName URI sip:b.example     proves b.example
    subjectAltName DNS b.example         proves it where there is no sip URI at all (section 7.1)

The chain to our roots and the validity have been checked by OpenSSL before; no wildcards, no subject names.
"""

import functools
import ssl
from typing import TYPE_CHECKING

from cryptography import x509

from sipwire.errors import ParseError
from sipwire.grammar import is_host
from sipwire.uri import Uri

from ..agent.constraints import ConstraintError, Constraints
from ..agent.signed import BROKEN
from .flow import NOBODY

if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "certificate_domains",
    "describe_refusal",
    "describe_verification",
    "permitted_domains",
    "read_certificate",
    "shown_chain",
]

_MAX_KNOWN = 4096  # certificates read, of about 2 KB each: those of all peers, many times over
_MAX_CHAIN = 8  # certificates of a chain that are kept for each connection


@functools.lru_cache(maxsize=_MAX_KNOWN)
def read_certificate(der: bytes) -> x509.Certificate | None:
    """A certificate, read once; None where it can't be."""
    try:
        return x509.load_der_x509_certificate(der)
    except BROKEN:
        return None


def permitted_domains(der: bytes, chain: "tuple[bytes, ...]") -> frozenset[str]:
    """The domains that a certificate proves, but for those which the authorities in its chain may not speak for.

    OpenSSL has compared DNS names with the authorities' constraints; it knows of no host in a sip URI.

    Args:
        der: the certificate, whose path OpenSSL has found good.
        chain: what was shown beside it.
    """
    certificate = read_certificate(der)
    constraints = Constraints()
    for issuer in map(read_certificate, chain):
        if issuer is None:
            return NOBODY
        try:
            constraints.add(issuer.extensions.get_extension_for_class(x509.NameConstraints).value)
        except x509.ExtensionNotFound:
            continue
        except BROKEN:
            return NOBODY
    try:
        if certificate is None:
            return NOBODY
        constraints.check(certificate)
    except (ConstraintError, *BROKEN):
        return NOBODY
    return certificate_domains(der)


def shown_chain(tls: "Any") -> tuple[bytes, ...]:
    """What the other end of a TLS connection has shown beside its certificate, as DER.

    Args:
        tls: an `ssl.SSLObject`. Only from Python 3.13 on has it a method for that; before, the object behind it does.
    """
    if hasattr(tls, "get_unverified_chain"):
        return tuple(tls.get_unverified_chain()[1 : 1 + _MAX_CHAIN])
    inner = getattr(tls, "_sslobj", None)
    chain = None if inner is None else inner.get_unverified_chain()
    return tuple(ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in (chain or [])[1 : 1 + _MAX_CHAIN])


def certificate_domains(der: bytes) -> frozenset[str]:
    """The SIP domains a certificate proves, in lower case; empty for a certificate that proves none or can't be read.

    A sip URI without a user part is an identity (section 7.1); where there is a sip URI, DNS names do not count.
    """
    try:
        names = (
            x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        )
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return frozenset()
    domains = set()
    has_sip_uri = False
    for value in names.get_values_for_type(x509.UniformResourceIdentifier):
        if not value.lower().startswith("sip:"):
            continue
        has_sip_uri = True
        try:
            uri = Uri.parse(value.encode())
        except (ParseError, UnicodeError):
            continue
        if uri.user is None and uri.port is None and not uri.params and not uri.headers:
            domains.add(uri.host.decode().lower())
    if not has_sip_uri:
        found = names.get_values_for_type(x509.DNSName)
        domains.update(name.lower() for name in found if is_host(name.encode()))  # no wildcards, and no line ends
    return frozenset(domains)


# OpenSSL's X509_V_ERR_* codes.
_VERIFY = {
    9: "certificate not yet valid",
    10: "certificate expired",
    18: "certificate self-signed",
    19: "certificate from an unknown CA",
    20: "certificate from an unknown CA",
    21: "certificate from an unknown CA",
    23: "certificate revoked",
    24: "certificate from an invalid CA",
    26: "certificate not for this purpose",
}
# TLS alerts of a peer that does not like our certificate, as OpenSSL names them.
_ALERTS = {
    "ALERT_CERTIFICATE_EXPIRED": "certificate expired",
    "ALERT_UNKNOWN_CA": "certificate from an unknown CA",
    "ALERT_BAD_CERTIFICATE": "bad certificate",
    "ALERT_CERTIFICATE_UNKNOWN": "certificate not accepted",
    "ALERT_CERTIFICATE_REVOKED": "certificate revoked",
    "ALERT_UNSUPPORTED_CERTIFICATE": "certificate not for this purpose",
    "CERTIFICATE_REQUIRED": "certificate required",
    "ALERT_HANDSHAKE_FAILURE": "handshake refused",
}


def describe_verification(error: ssl.SSLCertVerificationError) -> str:
    """Why the peer's certificate was refused by us, in few words."""
    return _VERIFY.get(error.verify_code, f"certificate refused: {error.verify_message}")


def describe_refusal(error: Exception) -> str | None:
    """Why the peer refused ours, in few words, or None where an error says nothing of the kind."""
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        for name, text in _ALERTS.items():
            if reason.endswith(name):
                return f"peer refused us: {text}"
        return f"TLS: {reason.lower().replace('_', ' ')}" if reason else "TLS failed"
    return None
