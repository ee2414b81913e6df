"""Whether a certificate speaks for an address: path and names hold, and a pin counts for its own domain alone.

What a domain's certificate signs for a user counts only if it is meant for S/MIME: whoever has stolen the key of a
trunk, whose certificate names the domain as well, signs for nobody. To encrypt to, it will do.
"""

from typing import TYPE_CHECKING

from .certificates import pin_of
from .keyring import is_for_smime
from .names import proves
from .path import SIGN, PathError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cryptography import x509

    from .path import Path, Paths, Purpose

__all__ = ["OTHER_IDENTITY", "Trust"]

OTHER_IDENTITY = "certificate of another identity"
_PURPOSE = "certificate not for this purpose"


class Trust:
    """See the module.

    Args:
        paths: validates.
        pins: of each domain, what `certificates.pin_of` gives for keys whose self-signed certificates are trusted.
    """

    def __init__(self, paths: "Paths", pins: "Mapping[str, frozenset[str]]") -> None:
        self.paths = paths
        self.pins = pins

    def check(
        self, certificate: "x509.Certificate", others: "Iterable[x509.Certificate]", purpose: "Purpose", aor: bytes
    ) -> "Path":
        """Check a certificate for an address-of-record.

        Args:
            certificate: whose.
            others: what may lead from it to a root.
            purpose: what it was, or will be, used for.
            aor: as `Uri.aor` writes it.

        Raises:
            PathError: it does not count; says why.
        """
        path = self.paths.validate(certificate, others, purpose)
        how = proves(certificate, aor)
        if not how:
            raise PathError(OTHER_IDENTITY)
        if path.pinned:
            # Whoever holds the key can sign any name: it was pinned for one domain.
            domain = aor.removeprefix(b"sip:").rpartition(b"@")[2].decode("latin-1")
            if pin_of(certificate) not in self.pins.get(domain, frozenset()):
                raise PathError("certificate pinned for another domain")
        if how == "domain" and purpose is SIGN and not is_for_smime(certificate):
            raise PathError(_PURPOSE)
        return path
