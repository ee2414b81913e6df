"""What `wisp check` looks at beyond the configuration's grammar: files, certificates, and what does not go together."""

import contextlib
import ipaddress
import os
import resource
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from .agent.certificates import can_encrypt, is_issued_by, issuer_of
from .agent.keyring import AGENT, CertificateError, Keyring
from .agent.signed import BROKEN
from .store.accounts import known_users
from .store.database import StoreError, probe
from .store.setup_keys import known_contacts
from .transport.identity import certificate_domains

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from .config import Config

__all__ = ["FILES_OF_RELAY", "Findings", "certificate_trouble", "check"]

_SOON = timedelta(days=30)
FILES_OF_RELAY = 4  # sockets of a stream, for RTP and RTCP on both sides; each has a port


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
    _check_authority(config, found)
    _check_lists(config, found)
    _check_folder(config, found)
    _check_signing(config, found)
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
    _check_groups(config, warnings)
    _check_contacts(config, warnings)
    _check_media(config, warnings)
    return found


def _check_media(config: "Config", warnings: list[str]) -> None:
    """Whether what is wanted of the relay fits together, and who gets media that anybody can hear."""
    media = config.media
    room = (media.last_port - media.first_port - media.first_port % 2 + 1) // FILES_OF_RELAY
    if media.max_relays > room:
        warnings.append(
            f"{config.where('media', 'last_port')}: {media.first_port} to {media.last_port} are enough for {room}"
            f" relays, and max_relays is {media.max_relays}"
        )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_said = "max_relays" in media.model_fields_set
    if is_said and hard != resource.RLIM_INFINITY and media.max_relays * FILES_OF_RELAY > hard // 2:
        warnings.append(
            f"{config.where('media', 'max_relays')}: {media.max_relays} relays have {media.max_relays * FILES_OF_RELAY}"
            f" sockets, and the system allows {hard} open files; raise that (ulimit -n), or have less"
        )
    for number, one in enumerate(config.listen):
        if one.transport == "udp" and media.first_port <= one.port <= media.last_port:
            where = config.where("listen", number, "port")
            warnings.append(f"{where}: {one.port} is among the ports for media; choose another, or another range")
    if media.relay != "never" and (media.inside is None or media.outside is None):
        warnings += [
            f"{config.where('listen', number, 'advertise')}: is not where media are sent to, before media.inside and"
            " media.outside are set, too"
            for number, one in enumerate(config.listen)
            if one.advertise is not None and ipaddress.ip_address(one.address).is_unspecified
        ]
    if media.srtp == "off":
        warnings.append(f"{config.where('media', 'srtp')}: off: relayed media are protected for nobody but terminals")
    warnings += [
        f"{config.where('peer', number, 'srtp')}: off: whoever is on the way hears relayed calls with {peer.domain}"
        for number, peer in enumerate(config.peer)
        if peer.srtp == "off"
    ]


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
    level = config.security.level
    if config.resolver.enabled and level not in {None, "none"}:
        warnings += [
            f"{config.where('security', 'level')}: {level} wants tls, so that nobody is called over {transport},"
            " which resolver.transports allows"
            for transport in config.resolver.transports
            if transport != "tls"
        ]


def _check_groups(config: "Config", warnings: list[str]) -> None:
    users = known_users(config.store_url) if config.group else None
    if users is None:
        return
    for number, group in enumerate(config.group):
        if group.user in users:
            where = config.where("group", number, "uri")
            warnings.append(f"{where}: {group.user} is an account, too; calls to it ring the group")
        missing = [member for member in group.members if member not in users]
        if missing:
            where = config.where("group", number, "members")
            warnings.append(f"{where}: no such account: {', '.join(missing)}; add it with `wisp account add`")


def _check_contacts(config: "Config", warnings: list[str]) -> None:
    """Whom terminals let be introduced to them (WIRE section 4.3): whether that can come to anything."""
    contacts = known_contacts(config.store_url)
    if not contacts:
        return
    users = known_users(config.store_url) or frozenset()
    where = config.where("store", "url")
    unsafe = {peer.domain: number for number, peer in enumerate(config.peer) if peer.transport != "tls"}
    for user, aor in contacts:
        name, _, domain = aor.removeprefix("sip:").rpartition("@")
        if domain == config.domain:
            if name not in users:
                what = "a group, and setup keys are of two users" if config.group_of(name) else "no account"
                remedy = f"`wisp account contact {user} --remove {aor}`"
                warnings.append(f"{where}: {user} has a contact {aor}, which is {what}; {remedy} takes it away")
        elif domain in unsafe:
            place = config.where("peer", unsafe[domain], "transport")
            warnings.append(f"{place}: {user} has a contact {aor}, and setup keys go over tls only")
    if not config.security.authority and not _has_signer(config):
        warnings.append(
            f"{config.where('security', 'authority')}: setup keys have to be signed, and there is nothing to sign with"
            " for who has no certificate of its own; terminals with contacts elsewhere get none"
        )


def _remedy(config: "Config") -> str:
    return "renew it with " + ("`wisp cert renew domain`" if config.security.authority else "`wisp ca issue`")


def _check_authority(config: "Config", found: Findings) -> None:
    """Whether our authority can make certificates."""
    if not config.security.authority:
        return
    where = config.where("security", "authority")
    folder = config.path(config.security.authority)
    if not _certificates(folder / "root.pem", where, found):
        return
    chain = _certificates(folder / "intermediate.pem", where, found)
    path = folder / "intermediate.key"
    data = _read(path, where, found) if chain else None
    if data is None:
        return
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        found.mistakes.append(f"{where}: {path}: no PEM private key without a pass phrase")
        return
    if key.public_key() != chain[0].public_key():
        found.mistakes.append(f"{where}: {path}: is not the key of intermediate.pem")
    _warn_of_mode(path, where, found)
    if chain[0].not_valid_after_utc <= datetime.now(UTC):
        end = f"{chain[0].not_valid_after_utc:%Y-%m-%d}"
        found.warnings.append(f"{where}: {folder} expired on {end}; make another with `wisp ca init`")


def _check_lists(config: "Config", found: Findings) -> None:
    """The lists of revoked certificates."""
    now = datetime.now(UTC)
    for number, name in enumerate(config.security.crl):
        where, path = config.where("security", "crl", number), config.path(name)
        data = _read(path, where, found)
        if data is None:
            continue
        load = x509.load_pem_x509_crl if b"-----BEGIN" in data else x509.load_der_x509_crl
        try:
            end = load(data).next_update_utc
        except ValueError:
            found.mistakes.append(f"{where}: {path}: no list of revoked certificates, PEM or DER")
            continue
        if end is not None and end <= now:
            found.warnings.append(f"{where}: {path} is stale since {end:%Y-%m-%d}; get a new one from its authority")


def _check_folder(config: "Config", found: Findings) -> None:
    """The certificates that sign: where a user's is broken the domain's signs, which may not be what is wanted."""
    keyring, where = Keyring(config), config.where("security", "folder")
    if keyring.folder.exists():
        if not keyring.folder.is_dir() or not os.access(keyring.folder, os.R_OK | os.X_OK):
            found.mistakes.append(f"{where}: {keyring.folder} is no folder that we may read")
            return
        if config.security.authority and not os.access(keyring.folder, os.W_OK):
            found.warnings.append(f"{where}: {keyring.folder} can't be written: no certificate is made or renewed")
    now, issuer = datetime.now(UTC), issuer_of(config)
    for place in keyring.places():
        if place.is_domain:
            continue
        _warn_of_mode(place.key, where, found)
        try:
            leaf = keyring.read(place).certificate
        except CertificateError as error:
            if place.journal.exists():
                continue  # the neighbour finishes it
            found.warnings.append(f"{where}: {error}")
            continue
        end = f"{leaf.not_valid_after_utc:%Y-%m-%d}"
        if not can_encrypt(leaf):
            found.warnings.append(f"{where}: {place.certificate}: nobody can encrypt to it, its key usage forbids it")
        if leaf.not_valid_after_utc <= now:
            found.warnings.append(f"{where}: {place.certificate} expired on {end}")
        elif leaf.not_valid_after_utc - now < _SOON and not is_issued_by(leaf, issuer):
            found.warnings.append(f"{where}: {place.certificate} expires on {end}, and it is not us who made it")
        if place.is_agent and _has_key_of(config, leaf):
            found.warnings.append(f"{where}: {place.key} is tls.key: whoever steals it signs in everybody's name")
    for path in keyring.folder.glob("pending/*.key"):
        _warn_of_mode(path, where, found)


def _check_signing(config: "Config", found: Findings) -> None:
    """Whether there is something to sign with, where messages have to be signed."""
    if config.security.authority:
        return  # it makes what is missing, or else there is something about it above
    asked = [config.where("security", "level")] if config.security.level == "heavy" else []
    asked += [config.where("peer", at, "level") for at, peer in enumerate(config.peer) if peer.level == "heavy"]
    if _has_signer(config):
        return
    found.warnings += [
        f"{where}: heavy wants messages signed, and there is nothing to sign with for who has no certificate of its"
        f" own; set security.authority, or begin with `wisp cert export {AGENT} --csr`"
        for where in asked
    ]


def _has_signer(config: "Config") -> bool:
    """Whether the domain has a certificate that signs messages, and it holds."""
    keyring = Keyring(config)
    try:
        signer = keyring.read(keyring.agent).certificate
    except CertificateError:
        return False
    return signer.not_valid_before_utc <= datetime.now(UTC) < signer.not_valid_after_utc


def _has_key_of(config: "Config", certificate: x509.Certificate) -> bool:
    """Whether a certificate is for the key of our TLS."""
    try:
        tls = x509.load_pem_x509_certificate(config.path(config.tls.certificate).read_bytes())
        return tls.public_key() == certificate.public_key()
    except (*BROKEN, OSError):
        return False


def _warn_of_mode(path: "Path", where: str, found: Findings) -> None:
    with contextlib.suppress(OSError):
        if path.stat().st_mode & 0o077:
            found.warnings.append(f"{where}: {path} can be read by others; chmod 600 it")


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
    chain = []
    is_empty = Keyring(config).domain.is_empty
    if not is_empty:
        chain = _certificates(path, at_certificate, found)
    roots = []
    for number, name in enumerate(config.tls.ca):
        roots += _certificates(config.path(name), config.where("tls", "ca", number), found)
    if is_empty:
        how = f"has it made by {config.security.authority}" if config.security.authority else "makes it, self-signed"
        found.warnings.append(f"{at_certificate}: {path} and its key are not there; `wisp serve` {how}")
        return
    key_path = config.path(config.tls.key)
    key_data = _read(key_path, at_key, found)
    if key_data is not None:
        _warn_of_mode(key_path, at_key, found)
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
            f"{at_certificate}: {path} expired on {leaf.not_valid_after_utc:%Y-%m-%d}; {_remedy(config)}"
        )
    elif leaf.not_valid_before_utc > now:
        found.lapsed.append(f"{at_certificate}: {path} holds only from {leaf.not_valid_before_utc:%Y-%m-%d} on")
    elif leaf.not_valid_after_utc - now < _SOON:
        found.warnings.append(
            f"{at_certificate}: {path} expires on {leaf.not_valid_after_utc:%Y-%m-%d}; {_remedy(config)}"
        )
    if not can_encrypt(leaf):
        found.warnings.append(f"{at_certificate}: {path}: nobody can encrypt to it; {_remedy(config)}")
    domains = certificate_domains(leaf.public_bytes(serialization.Encoding.DER))
    if config.domain not in domains:
        shown = ", ".join(sorted(domains)) or "no domain"
        found.mistakes.append(f"{at_certificate}: {path} is of {shown}, not of {config.domain}")
    if roots and certificate_trouble(config).endswith("a root we know"):
        found.warnings.append(f"{at_certificate}: does not lead to a root in tls.ca; peers need its root in their own")
