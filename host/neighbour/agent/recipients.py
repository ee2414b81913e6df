"""Whose certificate a body is encrypted for, by what comes nearest to the recipient.

    1. its own: from a signature of its that was verified before, a 493, or the directory (``wisp cert import``)
    2. its own, from its credential service (RFC 6072)
    3. its domain's, from the authenticated trunk

Each has to name the recipient or its domain, and to lead to a root of ours, whenever it is used.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from .certificates import pin_of
from .names import proves
from .path import ENCRYPT, PathError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from ..transport.flow import Flow
    from .certificates import Certificates
    from .cms.signed import SignerId
    from .trust import Trust

__all__ = ["Recipients"]

_MAX_LEARNT = 10_000  # certificates of others remembered, 2 KB each; beyond, the one not used for longest is forgotten
_MISSING_S = 600.0  # before a credential service that had nothing is asked again: calls do not wait for it each time
_MAX_MISSING = 10_000  # recipients of which that is remembered


@dataclass(frozen=True, slots=True)
class _Learnt:
    certificate: x509.Certificate
    others: "tuple[x509.Certificate, ...]"


class Recipients:
    """Finds certificates of recipients.

    Args:
        certificates: has the directory.
        trust: validates.
        fetch: asks the credential service of an address-of-record over a trunk; gives nothing where that has nothing.
    """

    def __init__(
        self,
        certificates: "Certificates",
        trust: "Trust",
        fetch: "Callable[[bytes, Flow], Awaitable[Sequence[x509.Certificate]]]",
    ) -> None:
        self._certificates = certificates
        self._trust = trust
        self._fetch = fetch
        self._learnt: OrderedDict[bytes, _Learnt] = OrderedDict()
        self._by_signer: dict[tuple[bytes | None, int | None], x509.Certificate] = {}
        self._missing: dict[bytes, float] = {}

    def learn(self, aor: bytes, certificate: x509.Certificate, others: "Iterable[x509.Certificate]" = ()) -> bool:
        """Remember somebody's certificate; returns whether it is one that can be used, and was not known.

        Args:
            aor: whose.
            certificate: names them, or their domain.
            others: what may lead from it to a root.
        """
        known = self._learnt.get(aor)
        if known is not None and known.certificate == certificate:
            self._learnt.move_to_end(aor)
            return False
        found = _Learnt(certificate, tuple(others))
        if not self._is_good(found, aor):
            return False
        is_own = known is not None and proves(known.certificate, aor) == "user" and self._is_good(known, aor)
        if is_own and proves(certificate, aor) != "user":
            return False  # its domain has signed for it this time; what is its own is nearer to it
        if known is None and len(self._learnt) >= _MAX_LEARNT:
            self.forget(next(iter(self._learnt)))
        self.forget(aor)
        self._learnt[aor] = found
        self._by_signer[_name_of(certificate)] = certificate
        self._missing.pop(aor, None)
        return True

    def replace(self, aor: bytes, shown: "Sequence[x509.Certificate]", flow: "Flow") -> bool:
        """Take another certificate for somebody who can't open what was encrypted for the one we know.

        Not that of the trunk's own key: who has stolen it would need no more than a 493 to read what was meant for
        somebody else, now or, if we only forgot what we knew, the next time. A neighbour that has nothing else at all
        can't sign an answer either.

        Args:
            aor: whose.
            shown: the certificates to choose from, the others may lead to a root.
            flow: the trunk that they came over.

        Returns:
            Whether there is a new one; if not, what was known stays.
        """
        known = self._learnt.get(aor)
        self.forget(aor)
        trunk = pin_of(flow.certificates[0]) if flow.certificates else ""
        for one in shown:
            if self.learn(aor, one, [other for other in shown if other is not one]):
                if pin_of(one) != trunk:
                    return True
                self.forget(aor)
        if known is not None:
            self._learnt[aor] = known
            self._by_signer[_name_of(known.certificate)] = known.certificate
        return False

    def find_signer(self, signer: "SignerId") -> x509.Certificate | None:
        """The certificate of a signer who has not sent it along, or None; it has not been checked."""
        found = self._by_signer.get((signer.issuer, signer.serial))
        if found is not None:
            return found
        return next((one for one in self._certificates.listed() if signer.matches(one)), None)

    def forget(self, aor: bytes) -> None:
        """What was learnt of somebody is of no use any more."""
        known = self._learnt.pop(aor, None)
        if known is not None:
            self._by_signer.pop(_name_of(known.certificate), None)

    def at_once(self, aor: bytes, flow: "Flow") -> x509.Certificate | None:
        """The best certificate that is at hand, None where there is none.

        Args:
            aor: of the recipient.
            flow: the trunk that leads there.
        """
        return self._known(aor, flow) or self._of_trunk(aor, flow)

    async def find(self, aor: bytes, flow: "Flow", *, anew: bool = False) -> x509.Certificate | None:
        """The best certificate that can be had, None where there is none; see `at_once`.

        Args:
            aor: of the recipient.
            flow: the trunk that leads there.
            anew: ask the credential service however lately it had nothing; for what nobody waits for.
        """
        known = self._known(aor, flow)
        if known is not None:
            return known
        now = time.monotonic()
        if anew or self._missing.get(aor, 0.0) <= now:
            shown = await self._fetch(aor, flow)
            if shown:
                self.learn(aor, shown[0], (*shown[1:], *flow.certificates[1:]))
            known = self._known(aor, flow)  # perhaps from somebody else who has waited for the same
            if known is not None:
                return known
            self._missing.pop(aor, None)
            if len(self._missing) >= _MAX_MISSING:
                del self._missing[next(iter(self._missing))]
            self._missing[aor] = now + _MISSING_S
        return self._of_trunk(aor, flow)

    def _known(self, aor: bytes, flow: "Flow") -> x509.Certificate | None:
        """Learnt or from the directory. What leads to a root may be known from the trunk alone."""
        chain = flow.certificates[1:]
        known = self._learnt.get(aor)
        if known is not None:
            if self._is_good(_Learnt(known.certificate, (*known.others, *chain)), aor):
                self._learnt.move_to_end(aor)
                return known.certificate
            self.forget(aor)
        listed = self._certificates.directory(aor)
        return listed if listed is not None and self._is_good(_Learnt(listed, chain), aor) else None

    def _of_trunk(self, aor: bytes, flow: "Flow") -> x509.Certificate | None:
        shown = flow.certificates
        if shown and self._is_good(_Learnt(shown[0], shown[1:]), aor):
            return shown[0]
        return None

    def _is_good(self, found: _Learnt, aor: bytes) -> bool:
        try:
            self._trust.check(found.certificate, found.others, ENCRYPT, aor)
        except PathError:
            return False
        return True


def _name_of(certificate: x509.Certificate) -> tuple[bytes, int]:
    return certificate.issuer.public_bytes(), certificate.serial_number
