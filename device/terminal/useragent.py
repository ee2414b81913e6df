"""The terminal's user agent core: transactions, and who gets which message.

    datagram -> link -> parse -> transaction -> registration | phone
                                                   |  request, respond
    datagram <- link <- serialize <- transaction <-+

After registration everything is in frames, both ways. A plain datagram is only ever taken as the response to a REGISTER
that went out plain.
"""

from binascii import hexlify
from os import urandom

from sipwire.compat import const
from sipwire.errors import ParseError
from sipwire.message import Request, parse
from sipwire.transaction import (
    ACCEPTED,
    COMPLETED,
    CONFIRMED,
    MAGIC_COOKIE,
    TERMINATED,
    TIMEOUT,
    InviteClient,
    InviteServer,
    NonInviteClient,
    NonInviteServer,
    client_key,
    server_key,
)

from .events import starved

__all__ = ["ALLOW", "MAX_MESSAGE_BYTES", "UserAgent", "token"]

ALLOW = b"INVITE, ACK, CANCEL, BYE, OPTIONS"
MAX_MESSAGE_BYTES = 3072  # a terminal has not the memory for more; else its frame is dropped
_MAX_SERVERS = const(8)  # requests from others that are remembered at once; where none is done, a further one gets 503


def token(size=8):
    """A random token: hex digits for tags, branches and Call-IDs."""
    return hexlify(urandom(size))


class UserAgent:
    """Sends requests, matches what comes, and keeps the timers.

    Args:
        link: the hop.
        address: our address and SIP port, ``host:port`` as bytes, for Via.

    Attributes:
        phone: who gets requests, set by `app`: ``handle_request(transaction, request, now)``, ``handle_ack(request,
            now)``, ``handle_cancel(invite_transaction, now)``.
        outgoing: datagrams to send, in order; whoever sends them empties the list.
        malformed: messages dropped because they were no SIP or had no business here.
    """

    def __init__(self, link, address):
        self._link = link
        self.address = address
        self.phone = None
        self.outgoing = []
        self.malformed = 0
        self._clients = {}
        self._servers = {}

    @property
    def timer_at(self):
        """The next deadline of any transaction, or None."""
        deadline = None
        for transaction in [entry[0] for entry in self._clients.values()] + list(self._servers.values()):
            at = transaction.timer_at
            if at is not None and (deadline is None or at < deadline):
                deadline = at
        return deadline

    def request(self, request, now, callback, plain=False):
        """Send a request in a transaction of its own.

        Args:
            request: complete, but for Via where it is no CANCEL.
            now: milliseconds.
            callback: called with (event, how it came, now) for each response and for `TIMEOUT`.
            plain: send it without a frame, and take the response without one.

        Returns:
            The request's transaction.
        """
        if request.get("via") is None:  # a CANCEL has that of its INVITE
            request.insert("Via", b"SIP/2.0/UDP %s;branch=%s;rport" % (self.address, MAGIC_COOKIE + token()))
        kind = InviteClient if request.method == "INVITE" else NonInviteClient
        transaction = kind(request, False, now)
        # The transaction has what it sends; of the request only the headers are needed from here on.
        request.compact()
        request.body = b""
        self._clients[transaction.key] = (transaction, callback, plain)
        self._flush(transaction, plain)
        return transaction

    def abandon(self, transaction):
        """Forget a client transaction that nobody waits for any more."""
        self._clients.pop(transaction.key, None)

    def send(self, request):
        """Send a request outside of a transaction: the ACK to a 2xx."""
        request.insert("Via", b"SIP/2.0/UDP %s;branch=%s;rport" % (self.address, MAGIC_COOKIE + token()))
        self._emit(request.serialize(), False)

    def respond(self, transaction, response, now):
        """Send a response in its server transaction."""
        transaction.respond(response, now)
        if response.status >= 200:
            transaction.request = None  # answered: all that may be needed again is the answer, and the machine has it
        self._flush(transaction, False)
        self._forget(self._servers, transaction)

    def reject(self, transaction, status, reason, now, name=None, value=b"", tag=None):
        """Answer a request with a final response without a body.

        Args:
            transaction: of the request.
            status: 200 to 699.
            reason: the reason phrase.
            now: milliseconds.
            name: of one more header.
            value: of that header.
            tag: our To tag where one was sent before.
        """
        try:
            response = transaction.request.response(status, reason, tag or token(4))
            if name:
                response.add(name, value)
            self.respond(transaction, response, now)
        except Exception:
            # Unanswered, it would be remembered for ever.
            self._servers.pop(transaction.key, None)
            raise

    def _emit(self, data, plain):
        if plain:
            self.outgoing.append(data)
        elif self._link.is_open:
            self.outgoing.append(self._link.seal(data))

    def _flush(self, transaction, plain):
        try:
            for data in transaction.take_outgoing():
                self._emit(data, plain)
        except MemoryError:
            starved()  # lost, like any datagram may be; transactions repeat what matters

    @staticmethod
    def _forget(table, transaction):
        if transaction.state == TERMINATED:
            table.pop(transaction.key, None)

    def handle_timer(self, now):
        """Do what is due."""
        for entry in list(self._clients.values()):
            if entry[0].timer_at is not None and entry[0].timer_at <= now:
                entry[0].handle_timer(now)
                self._after_client(entry, "", now)
        for transaction in list(self._servers.values()):
            if transaction.timer_at is not None and transaction.timer_at <= now:
                transaction.handle_timer(now)
                self._flush(transaction, False)
                transaction.take_events()
                self._forget(self._servers, transaction)

    def _after_client(self, entry, how, now):
        transaction, callback, plain = entry
        self._flush(transaction, plain)
        self._forget(self._clients, transaction)
        for event in transaction.take_events():
            if event == TIMEOUT or event.status >= 200:
                transaction.request = None
            callback(event, how, now)

    def receive(self, datagram, now):
        """Take a datagram.

        Returns:
            Whether it was a frame of a living agreement: a sign of life of the neighbour.
        """
        opened = self._link.open(datagram, now)
        if opened is None:
            return False
        message, how = opened
        if message:
            self._receive(message, how, now)
        return how == "frame"

    def _receive(self, data, how, now):
        try:
            message = parse(data)
            if isinstance(message, Request):
                if how != "frame":
                    raise ParseError("frame", 400, "no")
                self._receive_request(message, now)
            else:
                self._receive_response(message, how, now)
        except ParseError as error:
            self.malformed += 1
            request = error.request
            if how == "frame" and request is not None and request.method != "ACK":
                try:
                    response = request.response(error.status, error.reason, token(4))
                    response.check()
                    self._emit(response.serialize(), False)
                except ParseError:
                    pass  # not even enough of it to answer

    def _receive_response(self, response, how, now):
        entry = self._clients.get(client_key(response))
        if entry is None or (how == "plain" and not entry[2]):
            # Nobody asked, or the answer to a framed request comes without a frame: a forgery or a stray.
            self.malformed += 1
            return
        entry[0].receive(response, now)
        self._after_client(entry, how, now)

    def _receive_request(self, request, now):
        transaction = self._servers.get(server_key(request))
        if transaction is not None:
            transaction.receive(request, now)
            self._flush(transaction, False)
            for _ in transaction.take_events():
                self.phone.handle_ack(request, now)
            self._forget(self._servers, transaction)
            return
        if request.method == "ACK":
            self.phone.handle_ack(request, now)
            return
        kind = InviteServer if request.method == "INVITE" else NonInviteServer
        transaction = kind(request, False, now)
        if len(self._servers) >= _MAX_SERVERS and not self._make_room():
            response = request.response(503, "Service Unavailable", token(4))
            response.add("Retry-After", b"10")
            self._emit(response.serialize(), False)
            return
        self._servers[transaction.key] = transaction
        try:
            request.compact()
            if request.method == "CANCEL":
                self._cancel(transaction, request, now)
            else:
                self.phone.handle_request(transaction, request, now)
        except ParseError as error:
            # Found out late.
            self.malformed += 1
            self.reject(transaction, error.status, "Bad Request", now)
        except Exception:
            if not transaction.status:
                self._servers.pop(transaction.key, None)  # its repetition may fare better
            raise

    def _cancel(self, transaction, request, now):
        invite = self._servers.get(server_key(request, "INVITE"))
        if invite is None:
            self.reject(transaction, 481, "Call/Transaction Does Not Exist", now)
        else:
            self.reject(transaction, 200, "OK", now)
            self.phone.handle_cancel(invite, now)

    def _make_room(self):
        """Forget what was answered longest ago; returns whether there was any.

        It is remembered for repetitions alone, and all but an INVITE that waits for its ACK may be answered anew. So
        nobody's OPTIONS keep somebody's BYE from being heard.
        """
        oldest = None
        for transaction in self._servers.values():
            done = (ACCEPTED, CONFIRMED) if isinstance(transaction, InviteServer) else (COMPLETED,)
            if transaction.state in done and (oldest is None or transaction.end_at < oldest.end_at):
                oldest = transaction
        if oldest is not None:
            self._servers.pop(oldest.key)
        return oldest is not None
