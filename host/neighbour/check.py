"""What `wisp check` looks at beyond the configuration's grammar: files, certificates, and what does not go together."""

import ipaddress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from .store.database import StoreError, probe
from .transport.identity import certificate_domains

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from .config import Config

__all__ = ["Findings", "certificate_trouble", "check"]

_SOON = timedelta(days=30)


@dataclass
class Findings:
    """What was found, one line each: ``file:line: key: what is wrong``.

    Attributes:
        mistakes: with these the neighbour does not start.
        lapsed: what time has done or has yet to do: it starts, but other domains will not talk to it.
        warnings: what may be meant so.
    """

    mistakes: list[str] = field(default_factory=list)
    lapsed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check(config: "Config") -> Findings:
    """Look at everything a configuration names.

    Args:
        config: a valid one.
    """
    found = Findings()
    _check_tls(config, found)
    try:
        probe(config.store_url)
    except StoreError as error:
        found.mistakes.append(f"{config.where('store', 'url')}: {error}")
    warnings = found.warnings
    kinds = {listener.transport for listener in config.listen}
    if "udp" not in kinds:
        warnings.append(f"{config.where('listen')}: no udp, so that no terminal can register")
    if "tls" not in kinds:
        warnings.append(f"{config.where('listen')}: no tls, so that no other domain can call")
    warnings += [
        f"{config.where('listen', number)}: {one.transport} on all interfaces without `advertise`:"
        f" phones are told to find us as {config.domain}"
        for number, one in enumerate(config.listen)
        if ipaddress.ip_address(one.address).is_unspecified and one.advertise is None and one.transport != "tls"
    ]
    if config.auth.md5:
        warnings.append(f"{config.where('auth', 'md5')}: accounts made with --md5 may use MD5, which is broken")
    if not config.resolver.enabled and not config.peer:
        where = config.where("resolver", "enabled")
        warnings.append(f"{where}: off, and there is no [[peer]]: no other domain can be called")
    _check_unprotected(config, kinds, warnings)
    return found


def _check_unprotected(config: "Config", kinds: "Collection[str]", warnings: list[str]) -> None:
    """Other domains over TCP and UDP: what that means, and whether it can work."""
    ways = []
    if config.resolver.enabled:
        where = config.where("resolver", "transports")
        for transport in config.resolver.transports:
            if transport != "tls":
                ways.append((where, transport))
                warnings.append(f"{where}: whoever is on the way reads and changes calls over {transport}")
    for number, peer in enumerate(config.peer):
        if peer.transport != "tls":
            where = config.where("peer", number, "transport")
            ways.append((where, peer.transport))
            who = "sends from" if peer.transport == "tcp" else "sends from, or forges,"
            warnings.append(f"{where}: whoever {who} {' or '.join(peer.address)} is taken for {peer.domain}")
    warnings += [
        f"{where}: no {transport} in [[listen]], so that nothing can be sent over it"
        for where, transport in ways
        if transport not in kinds
    ]


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


def _read(path: "Path", where: str, found: Findings) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError as error:
        found.mistakes.append(f"{where}: {path}: {error.strerror}")
        return None


def _certificates(path: "Path", where: str, found: Findings) -> list[x509.Certificate]:
    data = _read(path, where, found)
    try:
        return [] if data is None else x509.load_pem_x509_certificates(data)
    except ValueError:
        found.mistakes.append(f"{where}: {path}: no PEM certificate")
        return []


def _check_tls(config: "Config", found: Findings) -> None:
    at_certificate, at_key = config.where("tls", "certificate"), config.where("tls", "key")
    path = config.path(config.tls.certificate)
    chain = _certificates(path, at_certificate, found)
    roots = []
    for number, name in enumerate(config.tls.ca):
        roots += _certificates(config.path(name), config.where("tls", "ca", number), found)
    key_path = config.path(config.tls.key)
    key_data = _read(key_path, at_key, found)
    if key_data is not None:
        if key_path.stat().st_mode & 0o077:
            found.warnings.append(f"{at_key}: {key_path} can be read by others; chmod 600 it")
        try:
            key = serialization.load_pem_private_key(key_data, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            found.mistakes.append(f"{at_key}: {key_path}: no PEM private key without a pass phrase")
        else:
            if chain and key.public_key() != chain[0].public_key():
                found.mistakes.append(f"{at_key}: is not the key of tls.certificate")
    if not chain:
        return
    now = datetime.now(UTC)
    leaf = chain[0]
    if leaf.not_valid_after_utc <= now:
        found.lapsed.append(
            f"{at_certificate}: {path} expired on {leaf.not_valid_after_utc:%Y-%m-%d}; renew it with `wisp ca issue`"
        )
    elif leaf.not_valid_before_utc > now:
        found.lapsed.append(f"{at_certificate}: {path} holds only from {leaf.not_valid_before_utc:%Y-%m-%d} on")
    elif leaf.not_valid_after_utc - now < _SOON:
        found.warnings.append(
            f"{at_certificate}: {path} expires on {leaf.not_valid_after_utc:%Y-%m-%d}; renew it with `wisp ca issue`"
        )
    domains = certificate_domains(leaf.public_bytes(serialization.Encoding.DER))
    if config.domain not in domains:
        shown = ", ".join(sorted(domains)) or "no domain"
        found.mistakes.append(f"{at_certificate}: {path} is of {shown}, not of {config.domain}")
    if roots and certificate_trouble(config).endswith("a root we know"):
        found.warnings.append(f"{at_certificate}: does not lead to a root in tls.ca; peers need its root in their own")
