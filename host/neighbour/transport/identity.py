"""Who a TLS peer is: the domain certificates of RFC 5922, which the standard library's hostname check does not know.

    subjectAltName URI sip:b.example     proves b.example
    subjectAltName DNS b.example         proves it where there is no sip URI at all (section 7.1)

The chain to our roots and the validity have been checked by OpenSSL before; no wildcards, no subject names.
"""

import ssl

from cryptography import x509

from sipwire.errors import ParseError
from sipwire.grammar import is_host
from sipwire.uri import Uri

__all__ = ["certificate_domains", "describe_refusal", "describe_verification"]


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
