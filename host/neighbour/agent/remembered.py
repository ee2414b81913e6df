"""What depends on a certificate alone, worked out once: by the object itself, since to compare certificates takes time.

    certificate (this very object) -> what was worked out

`functools.lru_cache` asks for the certificate's hash, which is made of all its bytes each time, and for equality after
that: some microseconds, several times a message. What is remembered keeps its certificate alive, so that no other can
have the same identity. It says nothing about trust.
"""

from functools import wraps
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["remembered"]

_T = TypeVar("_T")


def remembered(most: int) -> "Callable[[Callable[[x509.Certificate], _T]], Callable[[x509.Certificate], _T]]":
    """Remember what a function made of certificates.

    Args:
        most: of so many; beyond, the first is forgotten. What raises is not remembered.
    """

    def remembering(function: "Callable[[x509.Certificate], _T]") -> "Callable[[x509.Certificate], _T]":
        known: dict[int, tuple[x509.Certificate, _T]] = {}

        @wraps(function)
        def called(certificate: x509.Certificate) -> _T:
            found = known.get(id(certificate))
            if found is not None:
                return found[1]
            made = function(certificate)
            if len(known) >= most:
                del known[next(iter(known))]
            known[id(certificate)] = certificate, made
            return made

        called.cache_clear = known.clear  # type: ignore[attr-defined]
        return called

    return remembering
