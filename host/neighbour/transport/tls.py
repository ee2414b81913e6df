"""TLS: what we show and whom we believe."""

import ssl
from asyncio import sslproto

__all__ = ["client_context", "server_context"]

# The standard library's event loop takes 256 KiB for each connection to read into, of which an idle one needs nothing;
# no TLS record has more than 16. (uvloop takes as much, but of the system, which gives it page by page as it is used.)
_READ_BYTES = 16 << 10


def _base_context(purpose: ssl.Purpose, certificate: str, key: str, roots: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if purpose is ssl.Purpose.CLIENT_AUTH else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Certificates of domains name them by sip: URIs, which the library's check does not look at; `identity` does.
    context.check_hostname = False
    context.load_cert_chain(certificate, key)
    for root in roots:
        context.load_verify_locations(cafile=root)
    return context


def server_context(certificate: str, key: str, roots: list[str]) -> ssl.SSLContext:
    """TLS for connections we accept: a peer shows a certificate, a phone need not."""
    sslproto.SSLProtocol.max_size = min(sslproto.SSLProtocol.max_size, _READ_BYTES)
    context = _base_context(ssl.Purpose.CLIENT_AUTH, certificate, key, roots)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(certificate: str, key: str, roots: list[str]) -> ssl.SSLContext:
    """TLS for connections we open: both ends show a certificate."""
    context = _base_context(ssl.Purpose.SERVER_AUTH, certificate, key, roots)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
