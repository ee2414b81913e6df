"""The other model: a user agent that does end-to-end security itself, with the mechanisms that Wisp's neighbours have.

    seal   sign with our key, encrypt for the other user's certificate, whose path to a root is checked
    open   decrypt with our key, verify, check the signer's path and name, the signed headers, and that it is new

Each user agent has a key and a certificate of its own. It finds those of others in a directory, as it would at their
credential services (RFC 6072). Its neighbour passes its bodies on untouched (``--assist none``).
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from cryptography import x509

from neighbour.agent.aib import compare, date_of, format_date, identity_body
from neighbour.agent.cms.enveloped import AES_128_GCM, RecipientId
from neighbour.agent.cms.signed import SignerId
from neighbour.agent.credential import Credential
from neighbour.agent.freshness import Freshness
from neighbour.agent.mime import of_message, to_message
from neighbour.agent.path import ENCRYPT, SIGN, Path, PathError, Paths, Purpose
from neighbour.agent.revocation import Crl, Revocation
from neighbour.agent.smime import Keys, Seal, open_sealed
from neighbour.agent.trust import Trust
from sipwire.message import Request, Response

__all__ = ["OPERATIONS", "PATH", "CountedPaths", "EndToEnd", "NotSafeError"]

#: Asymmetric operations on messages; those of `wisp_asymmetric` at a neighbour.
OPERATIONS = ("sign", "verify", "encrypt", "decrypt")
#: Signatures of certificates, verified on the way to a root.
PATH = "path"


class NotSafeError(Exception):
    """A message that failed a check; the text says which."""


class CountedPaths(Paths):
    """Checks certificates, and counts the signatures that are verified for that.

    Args:
        roots: authorities that are trusted.
        operations: where to count.
    """

    def __init__(self, roots: Iterable[x509.Certificate], operations: Counter[str]) -> None:
        super().__init__(roots, Revocation(), Crl())
        self._operations = operations

    def validate(self, leaf: x509.Certificate, intermediates: Iterable[x509.Certificate], purpose: Purpose) -> Path:
        """See `Paths.validate`. What is remembered is not verified again."""
        misses = self.misses
        path = super().validate(leaf, intermediates, purpose)
        if self.misses != misses:
            self._operations[PATH] += len(path.chain) - 1
        return path


class EndToEnd:
    """The security of one user agent.

    Args:
        aor: its address-of-record.
        credential: its key and certificate.
        roots: authorities that it trusts.
        directory: certificate and chain of another user; none where it knows nobody of that name.

    Attributes:
        operations: asymmetric ones so far, by `OPERATIONS` and `PATH`.
    """

    def __init__(
        self,
        aor: bytes,
        credential: Credential,
        roots: Iterable[x509.Certificate],
        directory: Callable[[bytes], tuple[x509.Certificate, ...]],
    ) -> None:
        self.aor = aor
        self.operations: Counter[str] = Counter()
        self._credential = credential
        self._directory = directory
        self._trust = Trust(CountedPaths(roots, self.operations), {})
        self._freshness = Freshness(time.time)
        self._keys = Keys(self._find_credential, self._find_certificate)

    def _find_credential(self, recipient: RecipientId) -> Credential | None:
        return self._credential if recipient.matches(self._credential.certificate) else None

    def _find_certificate(self, signer: SignerId) -> x509.Certificate | None:
        del signer  # they send their certificates along
        return None

    def seal(self, message: Request | Response, to: bytes) -> None:
        """Sign and encrypt the body of a message, which is changed.

        Args:
            message: a request or a response with a body.
            to: the address-of-record of whom it is for.

        Raises:
            NotSafeError: there is no certificate of theirs that holds.
        """
        certificate, *chain = self._directory(to) or (None,)
        if certificate is None:
            raise NotSafeError(f"no certificate of {to.decode()}")
        self._check(certificate, chain, ENCRYPT, to)
        now = int(time.time())
        date = format_date(now)
        message.set("Date", date)
        self.operations["sign"] += 1
        self.operations["encrypt"] += 1
        seal = Seal(self._credential, (certificate,), AES_128_GCM, datetime.fromtimestamp(now, UTC))
        to_message(message, seal.close(of_message(message), identity_body(message, date)))

    def open(self, message: Request | Response) -> bytes:
        """Decrypt and check a message, which gets its bare body.

        Returns:
            The address-of-record of whom it was shown to be from.

        Raises:
            NotSafeError: a check failed.
            CmsError, MimeError, IntegrityError, StaleError: likewise.
        """
        opened = open_sealed(of_message(message), self._keys)
        if not (opened.encrypted and opened.signatures and opened.headers is not None):
            raise NotSafeError("not signed and encrypted, with its headers")
        self.operations["decrypt"] += 1
        self.operations["verify"] += len(opened.signatures)
        who = compare(opened.headers, message, hidden=True)
        signature = opened.signatures[0]
        self._check(signature.certificate, signature.certificates, SIGN, who)
        signed_at = date_of(opened.headers)
        assert signed_at is not None, "compare wants it"
        self._freshness.check_date(signed_at)
        if isinstance(message, Request):
            self._freshness.check_first(opened.headers)
        to_message(message, opened.entity)
        return who

    def _check(
        self, certificate: x509.Certificate, others: Iterable[x509.Certificate], purpose: Purpose, aor: bytes
    ) -> None:
        try:
            self._trust.check(certificate, others, purpose, aor)
        except PathError as error:
            raise NotSafeError(str(error)) from None
