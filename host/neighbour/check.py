"""What `wisp check` looks at beyond the configuration's grammar: files, certificates, and what does not go together."""

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from .transport.identity import certificate_domains

if TYPE_CHECKING:
    from pathlib import Path

    from .config import Config

__all__ = ["certificate_trouble", "check"]

_SOON = timedelta(days=30)


def check(config: "Config") -> tuple[list[str], list[str]]:
    """Look at everything a configuration names.

    Args:
        config: a valid one.

    Returns:
        Mistakes, which keep the neighbour from working, and warnings; a line each.
    """
    mistakes: list[str] = []
    warnings: list[str] = []
    _check_tls(config, mistakes, warnings)
    url = config.store_url
    if url.startswith("sqlite"):
        folder = config.path(url.partition(":///")[2]).parent
        if not folder.is_dir():
            mistakes.append(f"store.url: {folder} is no folder")
    kinds = {listener.transport for listener in config.listen}
    if "udp" not in kinds:
        warnings.append("listen: no udp, so that no terminal can register")
    if "tls" not in kinds:
        warnings.append("listen: no tls, so that no other domain can call")
    warnings += [
        f"listen: {one.transport} on all interfaces without `advertise`: phones are told to find us as {config.domain}"
        for one in config.listen
        if ipaddress.ip_address(one.address).is_unspecified and one.advertise is None and one.transport != "tls"
    ]
    if config.auth.md5:
        warnings.append("auth.md5: accounts made with --md5 may use MD5, which is broken")
    if not config.resolver.enabled and not config.peer:
        warnings.append("resolver.enabled: off, and there is no [[peer]]: no other domain can be called")
    return mistakes, warnings


def certificate_trouble(config: "Config") -> str:
    """What a peer may not like about our certificate, in few words; nothing where all is well with it."""
    try:
        leaf, *chain = x509.load_pem_x509_certificates(config.path(config.tls.certificate).read_bytes())
        roots = [
            root for name in config.tls.ca for root in x509.load_pem_x509_certificates(config.path(name).read_bytes())
        ]
    except (OSError, ValueError):
        return "our certificate can't be read"
    now = datetime.now(UTC)
    if leaf.not_valid_after_utc <= now:
        return "our certificate expired"
    if leaf.not_valid_before_utc > now:
        return "our certificate is not yet valid"
    try:
        PolicyBuilder().store(Store(roots)).time(now).build_client_verifier().verify(leaf, chain)
    except VerificationError:
        return "our certificate does not lead to a root we know"
    return ""


def _read(path: "Path", key: str, mistakes: list[str]) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError as error:
        mistakes.append(f"{key}: {path}: {error.strerror}")
        return None


def _certificates(data: bytes, key: str, path: "Path", mistakes: list[str]) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        mistakes.append(f"{key}: {path}: no PEM certificate")
        return []


def _check_tls(config: "Config", mistakes: list[str], warnings: list[str]) -> None:
    path = config.path(config.tls.certificate)
    data = _read(path, "tls.certificate", mistakes)
    chain = [] if data is None else _certificates(data, "tls.certificate", path, mistakes)
    roots = []
    for name in config.tls.ca:
        root_path = config.path(name)
        root = _read(root_path, "tls.ca", mistakes)
        if root is not None:
            roots += _certificates(root, "tls.ca", root_path, mistakes)
    key_path = config.path(config.tls.key)
    key_data = _read(key_path, "tls.key", mistakes)
    if key_data is not None:
        if key_path.stat().st_mode & 0o077:
            warnings.append(f"tls.key: {key_path} can be read by others; chmod 600 it")
        try:
            key = serialization.load_pem_private_key(key_data, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            mistakes.append(f"tls.key: {key_path}: no PEM private key without a pass phrase")
        else:
            if chain and key.public_key() != chain[0].public_key():
                mistakes.append("tls.key: is not the key of tls.certificate")
    if not chain:
        return
    now = datetime.now(UTC)
    leaf = chain[0]
    if leaf.not_valid_after_utc <= now:
        mistakes.append(f"tls.certificate: {path} expired on {leaf.not_valid_after_utc:%Y-%m-%d}")
    elif leaf.not_valid_before_utc > now:
        mistakes.append(f"tls.certificate: {path} holds only from {leaf.not_valid_before_utc:%Y-%m-%d} on")
    elif leaf.not_valid_after_utc - now < _SOON:
        warnings.append(f"tls.certificate: {path} expires on {leaf.not_valid_after_utc:%Y-%m-%d}")
    domains = certificate_domains(leaf.public_bytes(serialization.Encoding.DER))
    if config.domain not in domains:
        shown = ", ".join(sorted(domains)) or "no domain"
        mistakes.append(f"tls.certificate: {path} is of {shown}, not of {config.domain}")
    if roots and certificate_trouble(config).endswith("a root we know"):
        warnings.append("tls.certificate: does not lead to a root in tls.ca; peers need its root in their own")
