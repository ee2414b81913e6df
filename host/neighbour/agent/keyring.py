"""The files of certificates and keys, ours and others', each changed as a whole or not at all.

    certificates/alice.pem, alice.key      of a user or a group
    certificates/@agent.pem, @agent.key    of the domain, for S/MIME alone; those for TLS are where [tls] says
    certificates/alice.new                 both in one file while they are being replaced
    certificates/pending/alice.key         a key whose certificate an outside authority was asked for
    certificates/peers/bob@b.example.pem   of others, given to us by hand
    certificates/.lock                     held by who changes something: the neighbour, or ``wisp cert``

Two files can't be replaced at once. So both go into one first; whoever finds it later, after a crash, finishes the
work. The domain's names begin with "@" in this folder, as no user's does.

It has two of them, so that whoever steals the key of its trunks can't sign in the name of its users.
"""

import contextlib
import fcntl
import os
import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from ..config import user_name
from . import names
from .credential import Credential, PrivateKey, read_credential
from .signed import BROKEN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..config import Config

__all__ = [
    "AGENT",
    "CertificateError",
    "Keyring",
    "Place",
    "Stamp",
    "is_for_smime",
    "names_it",
    "read_certificates",
    "write_file",
]

#: What the domain's for S/MIME is called, in the folder and on the command line.
AGENT = "@agent"
_DOMAIN = "@domain"
_CERTIFICATE = ".pem"
_KEY = ".key"
_JOURNAL = ".new"
_ENDINGS = {_CERTIFICATE: 0, _KEY: 1, _JOURNAL: 2}  # in the order of a place's stamp
_TEMPORARY = ".wisp-tmp"
_PRIVATE, _PUBLIC = 0o600, 0o644
_CHANGING_S = 10  # so long others may take to replace two files; then they have crashed, and we finish it
_BEGIN = b"-----BEGIN CERTIFICATE-----"
_MAX_KNOWN = 4096  # certificates whose purposes are remembered, as `names` does
_FOR_SMIME = {ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}

#: What tells whether files have changed: time and size of each, None for one that is not there.
Stamp = tuple[tuple[int, int] | None, ...]


class CertificateError(Exception):
    """A certificate or key can't be used or made; the text says why, and names the file where there is one."""


@dataclass(frozen=True)
class Place:
    """Where the certificate and key of somebody of ours are.

    Attributes:
        name: the user part, or what no user is called: two are of the domain. No other place has the same.
        aor: ``sip:user@domain``, or ``sip:domain`` for the domain itself.
        certificate: with its chain, PEM.
        key: PEM without a pass phrase, for us alone.
        journal: both, while they are being replaced.
        pending: a key that waits for its certificate.
    """

    name: str
    aor: str
    certificate: "Path"
    key: "Path"
    journal: "Path"
    pending: "Path"

    @property
    def label(self) -> str:
        """What people are told that it is: ``sip:user@domain``, ``sip:domain``, or ``@agent``."""
        return AGENT if self.is_agent else self.aor

    @property
    def is_agent(self) -> bool:
        """Whether it is the domain's for S/MIME."""
        return self.name == AGENT

    @property
    def is_domain(self) -> bool:
        """Whether it is the domain's for TLS."""
        return self.name == _DOMAIN

    @property
    def stamp(self) -> Stamp:
        """Changes when one of the files does."""
        return _stamp(self.certificate), _stamp(self.key), _stamp(self.journal)

    @property
    def is_empty(self) -> bool:
        """Whether there is neither certificate nor key."""
        return self.stamp == (None, None, None)

    @property
    def is_changing(self) -> bool:
        """Whether somebody is replacing them at this moment."""
        stamp = _stamp(self.journal)
        return stamp is not None and abs(time.time() - stamp[0] / 1e9) < _CHANGING_S


def _stamp(path: "Path") -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def write_file(path: "Path", data: bytes, *, private: bool) -> None:
    """Replace a file at once; whoever reads it sees the old or the new one.

    Raises:
        OSError: it can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(_TEMPORARY, ".", path.parent)  # readable for us alone
    temporary = path.parent / name
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, _PRIVATE if private else _PUBLIC)
            file.write(data)
            file.flush()
            os.fsync(handle)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def names_it(certificate: x509.Certificate, aor: str) -> bool:
    """Whether a certificate is of this very user or domain, ``sip:user@domain`` or ``sip:domain``."""
    if "@" in aor:
        return aor.encode() in names.users(certificate)
    return aor.removeprefix("sip:") in names.domains(certificate)


@lru_cache(_MAX_KNOWN)
def is_for_smime(certificate: x509.Certificate) -> bool:
    """Whether a certificate's extended key usage, where there is one, allows S/MIME (RFC 8551 section 4.4.4).

    That of SIP domains (RFC 5924) does not: the trunk's certificate has it.
    """
    try:
        return not _FOR_SMIME.isdisjoint(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return True
    except BROKEN:
        return False


def read_certificates(data: bytes) -> list[x509.Certificate]:
    """The certificates of a file, PEM or DER.

    Raises:
        ValueError: there are none.
    """
    if _BEGIN in data:
        return x509.load_pem_x509_certificates(data)
    return [x509.load_der_x509_certificate(data)]


class Keyring:
    """The folder of certificates, and the domain's files.

    Args:
        config: where they are.
    """

    def __init__(self, config: "Config") -> None:
        self._domain = config.domain
        self.folder = config.path(config.security.folder)
        self.peers = self.folder / "peers"
        self.domain = self._place(
            _DOMAIN,
            f"sip:{config.domain}",
            certificate=config.path(config.tls.certificate),
            key=config.path(config.tls.key),
        )
        self.agent = self._place(AGENT, f"sip:{config.domain}")

    def _place(self, name: str, aor: str, *, certificate: "Path | None" = None, key: "Path | None" = None) -> Place:
        return Place(
            name,
            aor,
            certificate or self.folder / (name + _CERTIFICATE),
            key or self.folder / (name + _KEY),
            self.folder / (name + _JOURNAL),
            self.folder / "pending" / (name + _KEY),
        )

    def of(self, user: str) -> Place:
        """The place of a user or group.

        Raises:
            CertificateError: nobody has such a name.
        """
        try:
            user_name(user)  # a path is made of it
        except ValueError as error:
            raise CertificateError(f"{user}: {error}") from None
        return self._place(user, f"sip:{user}@{self._domain}")

    def places(self) -> "list[Place]":
        """Of the domain, the first; and of everybody who has a file in the folder, its own for S/MIME before users'."""
        domain, *others = self.scan()
        return [self.at(domain), *(self.at(name) for name in sorted(others, key=lambda name: (name != AGENT, name)))]

    def at(self, name: str) -> Place:
        """The place of a name that `scan` found."""
        own = {_DOMAIN: self.domain, AGENT: self.agent}.get(name)
        return self.of(name) if own is None else own

    def scan(self) -> dict[str, Stamp]:
        """The stamps of all places that have a file, by name; the domain's for TLS first, in any case.

        It is asked every second, so that nothing is made for files that have not changed.
        """
        found: dict[str, list[tuple[int, int] | None]] = {}
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                user, dot, ending = entry.name.rpartition(".")
                which = _ENDINGS.get(dot + ending)
                if which is not None and (user[:1] not in {"", "@", "."} or user == AGENT):
                    with contextlib.suppress(OSError):  # it has just gone
                        now = entry.stat()
                        found.setdefault(user, [None, None, None])[which] = now.st_mtime_ns, now.st_size
        stamps: dict[str, Stamp] = {_DOMAIN: self.domain.stamp}
        for user, stamp in found.items():
            with contextlib.suppress(ValueError):
                stamps[user if user == AGENT else user_name(user)] = tuple(stamp)
        return stamps

    def read(self, place: Place) -> Credential:
        """The credential of a place.

        Raises:
            CertificateError: it can't be used, and why.
        """
        try:
            found = read_credential(place.certificate, place.key)
        except OSError as error:
            raise CertificateError(f"{error.filename}: {error.strerror}") from None
        except ValueError as error:
            raise CertificateError(str(error)) from None
        if not names_it(found.certificate, place.aor):
            raise CertificateError(f"{place.certificate}: is not of {place.aor}")
        if place.is_agent and not is_for_smime(found.certificate):
            # Others would refuse what it signs: better nothing is signed, which says so here.
            raise CertificateError(
                f"{place.certificate}: is not for S/MIME: its extended key usage has no emailProtection"
            )
        return found

    @contextlib.contextmanager
    def locked(self) -> "Iterator[None]":
        """While this is held no other process changes anything; it waits until nobody else does.

        Raises:
            OSError: the folder can't be written.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, _PRIVATE)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def write(self, place: Place, credential: Credential) -> None:
        """Replace somebody's certificate and key; to be called with the lock held.

        Raises:
            OSError: they can't be written; then what was there before holds, or `repair` finishes it.
        """
        write_file(place.journal, credential.key_pem() + credential.chain_pem(), private=True)
        self.repair(place)

    def repair(self, place: Place) -> bool:
        """Finish what somebody began to replace; returns whether there was something. With the lock held.

        Raises:
            OSError: the files can't be written.
            CertificateError: what was to be written is broken.
        """
        try:
            data = place.journal.read_bytes()
        except FileNotFoundError:
            return False
        key, begin, chain = data.partition(_BEGIN)
        if not key or not begin:
            raise CertificateError(f"{place.journal}: is no key with its certificate; remove it")
        write_file(place.key, key, private=True)
        write_file(place.certificate, begin + chain, private=False)
        place.journal.unlink(missing_ok=True)
        return True

    def leftovers(self) -> "list[Path]":
        """What somebody is writing at this moment; with the lock held: what a crash has left half written."""
        domain = self.domain
        folders = {self.folder, self.peers, domain.pending.parent, domain.key.parent, domain.certificate.parent}
        return [path for folder in folders for path in folder.glob(f".*{_TEMPORARY}")]

    # Keys whose certificates are being made elsewhere.

    def pending(self, place: Place) -> PrivateKey | None:
        """The key that waits for its certificate, None where there is none.

        Raises:
            CertificateError: it is broken.
        """
        try:
            found = serialization.load_pem_private_key(place.pending.read_bytes(), None)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CertificateError(f"{error.filename}: {error.strerror}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            found = None
        if not isinstance(found, PrivateKey):
            raise CertificateError(f"{place.pending}: no PEM private key without a pass phrase; remove it")
        return found

    def keep_pending(self, place: Place, key: PrivateKey) -> None:
        """Keep a key until its certificate comes.

        Raises:
            OSError: it can't be written.
        """
        place.pending.parent.mkdir(mode=0o700, exist_ok=True)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_file(place.pending, pem, private=True)

    # The directory: others' certificates.

    def of_peers(self) -> "dict[Path, Stamp]":
        """The files of others' certificates."""
        found: dict[Path, Stamp] = {}
        with contextlib.suppress(OSError):
            found = {path: (_stamp(path),) for path in self.peers.glob(f"*{_CERTIFICATE}") if path.name[0] != "."}
        return found

    def write_peer(self, aor: str, certificates: "list[x509.Certificate]") -> "Path":
        """Put somebody's certificate, with its chain, into the directory; returns its file. With the lock held.

        Raises:
            OSError: it can't be written.
        """
        self.peers.mkdir(mode=0o755, exist_ok=True)
        path = self.peers / (quote(aor.removeprefix("sip:"), safe="@+") + _CERTIFICATE)
        data = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)
        write_file(path, data, private=False)
        return path
