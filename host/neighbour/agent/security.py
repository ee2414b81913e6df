"""The security agent: signs and encrypts for our users, verifies and decrypts for them, and says what held (WIRE 2, 3).

    ours --seal_request-->  trunk --open_request--> theirs
    ours <--open_response-- trunk <--seal_response-- theirs

A message that fails a check raises `RefusedError` with what is to be answered; nothing of it is handed on.

What two terminals protect from end to end with a setup key passes as it is, at any level: the trunk's is demanded all
the same, and that there are terminals at both ends, which check what we can't (WIRE section 4.1).
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sipwire.message import Request, Response
from sipwire.uri import uri_of

from ..gate import user_of
from ..refusal import RefusedError, warning
from ..store.accounts import DOMAIN
from .aib import IntegrityError, compare, date_of, format_date, identity_body
from .certificates import pin_of
from .cms.enveloped import AES_128_CBC, AES_128_GCM
from .cms.errors import CmsError, DecryptError, MalformedError, UnsupportedError
from .freshness import Freshness, StaleError
from .keyed import kid_of_call
from .keyring import CertificateError
from .mime import Entity, MimeError, of_message, to_message
from .path import SIGN as FOR_SIGNING
from .path import PathError
from .policy import ENCRYPT, HEAVY, MEDIUM, NONE, SIGN, Status, Wish, highest, parse_assist, reaches, setting_of
from .protection import Received, Sent, is_protected, kid_of
from .smime import (
    ENVELOPED,
    PKCS7,
    Keys,
    Opened,
    Seal,
    certificates_entity,
    certificates_of,
    is_encrypted,
    kind_of,
    open_sealed,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

    from sipwire.message import Message

    from ..config import Config
    from ..metrics import Count, Metrics
    from ..store.accounts import Account
    from ..transport.flow import Flow
    from .certificates import Certificates
    from .cms.signed import Verified
    from .credential import Credential
    from .recipients import Recipients
    from .trust import Trust

__all__ = ["Received", "SecurityAgent", "Sent", "is_protected"]

_MIXED = b"multipart/mixed"
_NOT_ACCEPTABLE = (488, "Not Acceptable Here")


class SecurityAgent:
    """See the module.

    Args:
        config: the configuration.
        certificates: ours.
        trust: validates those of others.
        recipients: finds those of others.
        freshness: knows replays.
        metrics: counts asymmetric operations, and what fails.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        config: "Config",
        certificates: "Certificates",
        trust: "Trust",
        recipients: "Recipients",
        freshness: Freshness,
        metrics: "Metrics",
        clock: "Callable[[], float]",
    ) -> None:
        self._config = config
        self._domain = config.domain
        self._certificates = certificates
        self._trust = trust
        self._recipients = recipients
        self._freshness = freshness
        self._clock = clock
        self._may_be_plain = config.security.on_failure == "plain"
        self._keys = Keys(certificates.find, recipients.find_signer, config.security.rfc6216)
        operations = metrics.asymmetric
        self._signs, self._verifies = operations.labels("sign"), operations.labels("verify")
        self._encrypts, self._decrypts = operations.labels("encrypt"), operations.labels("decrypt")
        self._refused = metrics.security_refused
        self._keyed_out, self._keyed_in = (metrics.setup_calls.labels(way) for way in ("out", "in"))

    # Wishes.

    def wish_of(self, account: "Account | None") -> Wish:
        """What an account wants that says nothing else."""
        return Wish() if account is None else setting_of(account.assist, account.level)

    def asked(self, request: Request, account: "Account | None") -> Wish:
        """What the sender of a request wants.

        Raises:
            ParseError: a wish that we do not know.
        """
        return parse_assist(request.values("security-assist"), self.wish_of(account))

    def may_sign(self, wish: Wish) -> bool:
        """Whether a request with that wish may be signed in its sender's name, wherever it goes."""
        config = self._config
        levels = (config.security.level, *(peer.level for peer in config.peer), wish.level)
        return any(wish.does(SIGN, level or NONE) for level in levels)

    # Requests on their way out.

    async def seal_request(
        self, request: Request, wish: Wish, account: "Account | None", flow: "Flow", domain: str, *, plain: str = ""
    ) -> "tuple[Request, Sent]":
        """Make a request of ours ready for a trunk.

        Args:
            request: complete but for our Via; it is not changed.
            wish: the sender's.
            account: the sender's.
            flow: the trunk.
            domain: that it leads to.
            plain: why it goes without S/MIME, where an attempt with it has failed and that is allowed.

        Raises:
            RefusedError: the least level can't be reached.
        """
        least = highest(self._config.least_level(domain), wish.level)
        recipient = _recipient_of(request, flow, domain)
        sent = Sent(least, wish, recipient, plain=plain, sides=(request.from_.uri, request.to.uri))
        if not is_protected(request):
            return request, sent
        self._check_trunk(flow, least, domain)
        if plain:
            return request, sent
        sent.kid = kid_of(request, account)
        if sent.kid:
            _count(self._keyed_out, request)
            return request, sent
        entity, kind = self._body_of(request)
        sent.is_own = bool(kind)
        signs = not kind and wish.does(SIGN, least)
        encrypts = kind != ENVELOPED and wish.does(ENCRYPT, least) and (signs or bool(kind) or bool(request.body))
        if wish.is_own:
            self._check_own(entity, least)
        if not signs and not encrypts:
            return request, sent
        certificate = await self._recipients.find(recipient, flow) if encrypts else None
        if encrypts and certificate is None:
            reason = f"no certificate of {recipient.decode('latin-1')}"
            if least == HEAVY and not self._may_be_plain:
                raise self._no(reason)
            if least == HEAVY or not signs:
                sent.plain = reason if least == HEAVY else ""
                return request, sent
        request = request.copy()
        user = user_of(uri_of(request.from_.uri)) or ""
        self._seal(request, entity, self._signer(account, user) if signs else None, certificate, domain)
        sent.is_sealed = True
        return request, sent

    async def envelop(self, request: Request, account: "Account", flow: "Flow", domain: str) -> "tuple[Request, Sent]":
        """Sign and encrypt a request of our own, whatever the configuration lets others do without; see `seal_request`.

        Nor is it encrypted for the key of the trunk: whoever has stolen that would read it.

        Raises:
            RefusedError: that is not possible.
        """
        self._check_trunk(flow, HEAVY, domain)
        recipient, trunk = _recipient_of(request, flow, domain), pin_of(flow.certificates[0])
        certificate = None
        for aor in (recipient, b"sip:" + domain.encode("latin-1")):
            certificate = await self._recipients.find(aor, flow, anew=True)
            if certificate is not None and pin_of(certificate) != trunk:
                break
            self._recipients.forget(aor)  # so that it is asked for again: there may be a better one by then
        else:
            raise self._no(f"no certificate of {recipient.decode('latin-1')}, nor of its domain but that of the trunk")
        request = request.copy()
        self._seal(request, self._body_of(request)[0], self._signer(account, account.user), certificate, domain)
        return request, Sent(HEAVY, Wish(), recipient, is_sealed=True)

    def _check_trunk(self, flow: "Flow", least: str, domain: str) -> None:
        if least != NONE and not _is_mutual_tls(flow):
            raise self._no(f"{least} security is demanded, and there is no mutual TLS with {domain or 'who is there'}")

    def _seal(
        self,
        message: "Message",
        entity: Entity | None,
        signer: "Credential | None",
        certificate: "x509.Certificate | None",
        domain: str,
        answers: bytes = b"",
    ) -> None:
        """Sign and encrypt the body of a message, which is changed."""
        now = int(self._clock())
        date = format_date(now)
        if signer is not None:
            message.set("Date", date)  # else its sender may have signed it with another
            self._signs.inc()
        if certificate is not None:
            self._encrypts.inc()
        cipher = AES_128_CBC if self._config.profile(domain) == "rfc3261" else AES_128_GCM
        seal = Seal(signer, () if certificate is None else (certificate,), cipher, datetime.fromtimestamp(now, UTC))
        try:
            to_message(message, seal.close(entity, identity_body(message, date, answers)))
        except CmsError as error:
            raise self._no(f"can't be sealed: {error}") from None

    def _signer(self, account: "Account | None", user: str) -> "Credential":
        """The credential for a message in the name of a user of ours."""
        own = account is not None and account.user == user
        signer = account.signer if own and account is not None else DOMAIN
        if not own and self._config.group_of(user) is not None:
            signer = None
        try:
            return self._certificates.for_signing(user, signer)
        except CertificateError as error:
            raise self._no(str(error)) from None

    # Requests that come.

    def open_request(
        self, request: Request, account: "Account | None", callee: str, flow: "Flow", domain: str
    ) -> Received:
        """Open a request that came over a trunk; it is changed to what its recipient gets.

        Args:
            request: a copy of what came.
            account: the recipient's.
            callee: the recipient's user, "" for the domain itself.
            flow: the trunk.
            domain: the sender's, which the trunk has proved.

        Raises:
            RefusedError: a check failed, or the least level is not reached.
            ParseError: the URI in From is malformed.
        """
        wish = self.wish_of(account)
        least = highest(self._config.least_level(domain), wish.level)
        status = _status_of(flow, domain)
        received = Received(status, least, wish, uri_of(request.from_.uri).aor())
        if not is_protected(request):
            return received
        self._check_trunk(flow, least, domain)
        received.kid = kid_of(request, account)
        if received.kid:
            _count(self._keyed_in, request)
            return received
        entity, kind = self._body_of(request)
        if wish.is_own:
            self._check_own(entity, least)
            return received
        if entity is not None and (kind or entity.kind == _MIXED):
            opened = self._open(entity, callee, domain)
            identity = self._check(opened, request, status, flow)
            if request.method != "ACK" and identity:
                # An ACK is repeated with each 2xx that its sender gets, and does nothing the second time.
                self._freshly(self._freshness.check_first, opened.headers, domain)
            self._hand_on(request, opened, kind)
            if identity:
                received.sender = identity  # whose From may say "anonymous" outside
            if identity and opened.signed and opened.encrypted and status.tls:
                status.level = HEAVY
        self._enforce(status, least, is_plain=not kind)
        return received

    def check_level(self, request: Request, received: Received, account: "Account | None", flow: "Flow") -> None:
        """Check that an opened request reaches the least level of whom it goes to in the end.

        That need not be whom it was for: a phone may have sent it on, and a group's members are accounts of their own.

        Args:
            request: as it is to be handed on.
            received: see `open_request`.
            account: of whom it goes to.
            flow: the trunk that it came over.

        Raises:
            RefusedError: it does not.
        """
        wish = self.wish_of(account)
        if received.kid:
            self._check_trunk(flow, wish.level, received.status.by)
            if not kid_of(request, account):
                # It would ring where nobody checks the MAC.
                self._enforce(received.status, highest(received.least, wish.level), is_plain=True)
            return
        if wish.is_own == received.wish.is_own and reaches(received.least, wish.level):
            return  # as has been checked
        self._check_trunk(flow, wish.level, received.status.by)
        if wish.is_own:
            self._check_own(self._body_of(request)[0], wish.level)
        else:
            status = received.status
            self._enforce(status, wish.level, is_plain=not (status.signed or status.encrypted))

    def check_answer(self, received: Received, account: "Account | None", callee: str, flow: "Flow") -> None:
        """Check that a response can be sealed as its request was; better known before anybody's phone rings.

        Args:
            received: see `open_request`.
            account: the recipient's.
            callee: the recipient's user.
            flow: the trunk.

        Raises:
            RefusedError: it can't be.
        """
        if received.kid:
            return  # its answer is protected in the same way
        if self._must_encrypt_back(received) and self._certificate_back(received, flow) is None:
            raise self._no("no certificate of the caller")
        if callee and not received.wish.is_own and (received.status.signed or received.wish.does(SIGN, received.least)):
            self._signer(account, callee)

    # Responses that come, and that go.

    def open_response(self, response: Response, sent: Sent, flow: "Flow", domain: str) -> Status:
        """Open a response that came over a trunk; it is changed to what the caller gets.

        Raises:
            RefusedError: a check failed, or the least level is not reached.
            ParseError: the URI in To is malformed.
        """
        status = _status_of(flow, domain)
        status.plain = sent.plain
        if not is_protected(response) or (sent.kid and sent.kid == kid_of_call(response)):
            return status
        entity, kind = self._body_of(response)
        if sent.wish.is_own:
            if response.status < 300:
                self._check_own(entity, sent.least)
            return status
        if response.status >= 300 and not kind:
            if entity is not None and entity.kind in PKCS7:
                to_message(response, None)  # a certificate, which is for us
            return status
        if entity is not None and (kind or entity.kind == _MIXED):
            try:
                opened = self._open(entity, "", domain)
            except RefusedError as refusal:
                if refusal.status == 493 and sent.is_own:
                    return status  # the key is the sender's, as it was for the request
                raise
            identity = self._check(opened, response, status, flow, sent.recipient)
            if sent.sides and sent.sides != (response.from_.uri, response.to.uri):
                # Not in its AIB, as it was not its sender's to say (RFC 3893 section 7); but the caller is shown them.
                raise self._forbid("From or To is not that of the request")
            self._hand_on(response, opened, kind)
            if identity and opened.signed and opened.encrypted and status.tls:
                status.level = HEAVY
        if not sent.plain and response.status < 300:
            self._enforce(status, sent.least, is_plain=not kind)
        return status

    def learn(self, response: Response, sent: Sent, flow: "Flow") -> bool:
        """Take the certificate that a 493 gives; returns whether it is worth another attempt.

        Args:
            response: the 493, which anybody at the trunk may have made.
            sent: what it answers.
            flow: the trunk.
        """
        try:
            shown = certificates_of(of_message(response)) if response.body else ()
        except (MimeError, CmsError, RefusedError):
            return False
        return self._recipients.replace(sent.recipient, shown, flow)

    def goes_plain(self, sent: Sent) -> bool:
        """Whether a request that was refused for its S/MIME may be sent again without."""
        return sent.is_sealed and self._may_be_plain

    def seal_response(
        self, response: Response, received: Received, account: "Account | None", flow: "Flow", group: str = ""
    ) -> Response:
        """Make a response of ours ready for the trunk that its request came over; returns it, or a copy that is.

        Args:
            response: as our user, or we, have made it.
            received: of the request.
            account: of who answers.
            flow: the trunk.
            group: as what it answers, "" as itself.

        Raises:
            RefusedError: the least level can't be reached.
        """
        if not response.body or (received.status.plain and self._may_be_plain):
            return response
        if received.kid and received.kid == kid_of(response, account):
            return response
        entity, kind = self._body_of(response)
        signs = not kind and (received.status.signed or received.wish.does(SIGN, received.least))
        encrypts = kind != ENVELOPED and self._encrypts_back(received)
        if received.wish.is_own or not (signs or encrypts):
            return response
        certificate = self._certificate_back(received, flow) if encrypts else None
        if encrypts and certificate is None:
            if self._must_encrypt_back(received):
                raise self._no("no certificate of the caller")
            if not signs:
                return response
        sealed = _copy(response)
        to = uri_of(response.to.uri)
        answers = b""
        user = user_of(to) or ""
        if to.host.lower() != self._domain.encode():
            # The call was diverted to us: we can't speak for whom it was meant.
            user = group or ("" if account is None else account.user)
            answers = f"sip:{user}@{self._domain}".encode() if user else f"sip:{self._domain}".encode()
        domain = received.sender.rpartition(b"@")[2].decode("latin-1")
        self._seal(sealed, entity, self._signer(account, user) if signs else None, certificate, domain, answers)
        return sealed

    def _encrypts_back(self, received: Received) -> bool:
        return received.status.encrypted or received.wish.does(ENCRYPT, received.least)

    def _must_encrypt_back(self, received: Received) -> bool:
        """Whether there is to be no answer that is not encrypted: as little as a request of ours, a wish alone does."""
        if received.status.plain and self._may_be_plain:
            return False
        return self._encrypts_back(received) and (received.status.encrypted or received.least == HEAVY)

    def _certificate_back(self, received: Received, flow: "Flow") -> "x509.Certificate | None":
        return self._recipients.at_once(received.sender, flow)

    # What both have in common.

    def _body_of(self, message: "Message") -> "tuple[Entity | None, str]":
        """The body, and what kind of S/MIME it is."""
        if not message.body:
            return None, ""
        try:
            entity = of_message(message)
            return entity, kind_of(entity)
        except MimeError as error:
            raise self._unreadable(error) from None

    def _check_own(self, entity: Entity | None, least: str) -> None:
        """Check the body of who does its own end-to-end security: what it is we can't see, but that it is encrypted."""
        try:
            if least == HEAVY and not is_encrypted(entity):
                raise self._no("heavy security is demanded, and the body is not encrypted")
        except MimeError as error:
            raise self._unreadable(error) from None

    def _open(self, entity: Entity, callee: str, domain: str) -> Opened:
        try:
            opened = open_sealed(entity, self._keys)
            if opened.malleable and not self._config.security.rfc6216 and self._config.profile(domain) != "rfc3261":
                # Our answer would tell whoever changes it on the way whether its padding is right, and so what it says.
                raise DecryptError
        except DecryptError as error:
            self._refused.labels("decrypt").inc()
            body = certificates_entity(self._certificates.published(callee))
            headers = [(name.title(), value) for name, value in body.headers if name != "content-transfer-encoding"]
            raise RefusedError(
                493, "Undecipherable", warning(self._domain, str(error)), *headers, body=body.body
            ) from None
        except UnsupportedError as error:
            self._refused.labels("unsupported").inc()
            raise RefusedError(415, "Unsupported Media Type", warning(self._domain, f"S/MIME: {error}")) from None
        except MalformedError as error:
            self._refused.labels("malformed").inc()
            raise RefusedError(400, "Bad Request", warning(self._domain, f"S/MIME: {error}")) from None
        except CmsError as error:
            raise self._forbid(f"S/MIME: {error}") from None
        except MimeError as error:
            raise self._unreadable(error) from None
        if opened.encrypted:
            self._decrypts.inc()
        for _ in opened.signatures:
            self._verifies.inc()
        return opened

    def _check(self, opened: Opened, message: "Message", status: Status, flow: "Flow", answers: bytes = b"") -> bytes:
        """Check who has signed what; returns the identity that this message was shown to be from, or nothing."""
        status.signed, status.encrypted = opened.signed, opened.encrypted
        identity = b""
        try:
            if opened.headers is not None:
                identity = compare(opened.headers, message, hidden=opened.encrypted, answers=answers)
            if not opened.signatures:
                return b""
            who = identity or uri_of((message.to if isinstance(message, Response) else message.from_).uri).aor()
            verified, notes = self._check_signers(opened, flow, who)
            if not identity:
                return b""  # a body that somebody has signed once, perhaps for another call
            assert opened.headers is not None
            signed_at = date_of(opened.headers)
            assert signed_at is not None, "compare wants it"
            self._freshly(self._freshness.check_date, signed_at)
        except (IntegrityError, PathError) as error:
            raise self._forbid(str(error)) from None
        status.verified = identity
        status.notes += notes
        self._recipients.learn(identity, verified.certificate, verified.certificates)
        return identity

    def _check_signers(self, opened: Opened, flow: "Flow", who: bytes) -> "tuple[Verified, tuple[str, ...]]":
        """Check the certificates of those who have signed: one of them has to be that of ``who``.

        Returns:
            That signature, and what the user should know of its certificate.
        """
        failure: PathError | None = None
        shown = flow.certificates
        for one in opened.signatures:
            try:
                if shown and pin_of(one.certificate) == pin_of(shown[0]):
                    # Who steals the key of a trunk shall not be able to sign with it, whatever it writes around it.
                    raise PathError("signed with the key of the trunk")
                path = self._trust.check(one.certificate, (*one.certificates, *shown[1:]), FOR_SIGNING, who)
            except PathError as error:
                failure = failure or error
            else:
                return one, path.warnings
        assert failure is not None, "there is a signature"
        raise failure

    def _freshly(self, check: "Callable[..., None]", *what: object) -> None:
        try:
            check(*what)
        except StaleError as error:
            raise self._forbid(str(error)) from None

    def _hand_on(self, message: "Message", opened: Opened, kind: str) -> None:
        """Give a message the bare body."""
        if kind or opened.headers is not None:
            try:
                to_message(message, opened.entity)
            except MimeError as error:
                raise self._unreadable(error) from None

    def _enforce(self, status: Status, least: str, *, is_plain: bool) -> None:
        if reaches(status.level, least):
            return
        if is_plain and self._may_be_plain:
            status.plain = "not signed and encrypted"
            return
        raise self._no(f"{least} security is demanded, and the body is not signed and encrypted, with its headers")

    # How it is refused.

    def _no(self, reason: str) -> RefusedError:
        """A level that can't be reached (WIRE section 2)."""
        self._refused.labels("level").inc()
        return RefusedError(*_NOT_ACCEPTABLE, warning(self._domain, reason))

    def _forbid(self, reason: str) -> RefusedError:
        """A check that failed (WIRE section 3)."""
        self._refused.labels("check").inc()
        return RefusedError(403, "Forbidden", warning(self._domain, reason))

    def _unreadable(self, error: MimeError) -> RefusedError:
        self._refused.labels("malformed").inc()
        reason = "Unsupported Media Type" if error.status == 415 else "Bad Request"
        return RefusedError(error.status, reason, warning(self._domain, f"MIME: {error}"))


def _count(keyed: "Count", request: Request) -> None:
    if request.method == "INVITE":
        keyed.inc()


def _is_mutual_tls(flow: "Flow") -> bool:
    return flow.protection == "tls" and bool(flow.identities)


def _status_of(flow: "Flow", domain: str) -> Status:
    """What a message's way alone gives."""
    if _is_mutual_tls(flow):
        return Status(MEDIUM, by=domain, tls=True)
    return Status(NONE, by=domain if flow.identities else "")


def _recipient_of(request: Request, flow: "Flow", domain: str) -> bytes:
    """Whom a request is for.

    Within a dialog its Request-URI is a contact, and where a call was diverted To is not who has it: then it is for
    whoever is there.
    """
    if not request.to.tag:
        uri = uri_of(request.uri)
        return uri.aor() if uri.is_sip else b""
    uri = uri_of(request.to.uri)
    if uri.is_sip and uri.host.decode("latin-1").lower() in flow.identities:
        return uri.aor()
    return b"sip:" + domain.encode()


def _copy(response: Response) -> Response:
    other = Response(response.status, response.reason)
    other.fields = response.fields[:]
    other.body = response.body
    return other
