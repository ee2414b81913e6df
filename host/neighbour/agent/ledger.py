"""What an authority has issued and revoked: a file for each, so that none is lost where two write at once.

    issued/1f3a....pem      a certificate that it issued, named after its serial number
    revoked/1f3a...         when that was revoked, as 2026-06-01T12:00:00+00:00

What can't be read is an error: a revocation that is overlooked would make a certificate good again.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from .keyring import write_file
from .signed import BROKEN

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["AuthorityError", "Entry", "Ledger"]

_SUFFIX = ".pem"


class AuthorityError(Exception):
    """The authority can't do that; the text says why, and what helps."""


@dataclass(frozen=True)
class Entry:
    """A certificate that was issued.

    Attributes:
        certificate: itself.
        revoked_at: when it was revoked, or None.
    """

    certificate: x509.Certificate
    revoked_at: datetime | None = None


class Ledger:
    """The ledger of an authority.

    Args:
        folder: the authority's.
    """

    def __init__(self, folder: "Path") -> None:
        self._issued = folder / "issued"
        self._revoked = folder / "revoked"

    def record(self, certificate: x509.Certificate) -> None:
        """Write down that a certificate was issued.

        Raises:
            OSError: it can't be written.
        """
        path = self._issued / f"{certificate.serial_number:x}{_SUFFIX}"
        write_file(path, certificate.public_bytes(Encoding.PEM), private=False)

    def revoke(self, serial: int, at: datetime) -> datetime | None:
        """Write down that a certificate is revoked; once written it stays.

        Returns:
            When it was revoked before, or None.

        Raises:
            OSError: it can't be written.
            AuthorityError: it was written before, and can't be read.
        """
        before = self.revoked_at(serial)
        if before is None:
            self._revoked.mkdir(parents=True, exist_ok=True)
            write_file(self._revoked / f"{serial:x}", f"{at.isoformat(timespec='seconds')}\n".encode(), private=False)
        return before

    def revoked_at(self, serial: int) -> datetime | None:
        """When a certificate was revoked, None for one that was not.

        Raises:
            OSError: that can't be read.
            AuthorityError: it is no date.
        """
        path = self._revoked / f"{serial:x}"
        try:
            at = datetime.fromisoformat(path.read_text(encoding="ascii").strip())
            if at.tzinfo is None:
                raise ValueError("no zone")
        except FileNotFoundError:
            return None
        except ValueError:
            raise AuthorityError(f"{path}: not the date of a revocation; restore it, or write one there") from None
        return at

    def find(self, serial: int) -> Entry | None:
        """A certificate by its serial number, or None.

        Raises:
            OSError: the ledger can't be read.
            AuthorityError: a file is not what it should be.
        """
        path = self._issued / f"{serial:x}{_SUFFIX}"
        return self._read(path) if path.exists() else None

    def entries(self) -> list[Entry]:
        """All that was issued, the oldest first.

        Raises:
            OSError: the ledger can't be read.
            AuthorityError: a file is not what it should be.
        """
        if not self._issued.exists():
            return []
        found = [
            self._read(path)
            for path in sorted(self._issued.iterdir())
            if path.suffix == _SUFFIX and not path.name.startswith(".")
        ]
        return sorted(found, key=lambda one: one.certificate.not_valid_before_utc)

    def _read(self, path: "Path") -> Entry:
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            serial = certificate.serial_number
        except BROKEN:
            raise AuthorityError(f"{path}: no PEM certificate; restore it, or remove it") from None
        if path.name != f"{serial:x}{_SUFFIX}":
            raise AuthorityError(f"{path}: has the certificate {serial:x}; restore it, or remove it")
        return Entry(certificate, self.revoked_at(serial))
