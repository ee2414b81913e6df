"""The terminal's user agent core: transactions, and who gets which message.

    datagram -> link -> parse -> transaction -> registration | phone
                                                   |  request, respond
    datagram <- link <- serialize <- transaction <-+

After registration everything is in frames, both ways. A plain datagram is only ever taken as the response to a REGISTER
that went out plain.
"""

import gc
from binascii import hexlify
from os import urandom

from sipwire.compat import const
from sipwire.errors import ParseError
from sipwire.hop import OVERHEAD_BYTES
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

__all__ = ["ALLOW", "MAX_DATAGRAM_BYTES", "UNKNOWN", "Refusal", "UserAgent", "token"]

UNKNOWN = "Call/Transaction Does Not Exist"  # 481
ALLOW = b"INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, MESSAGE"
# What a message may have; a terminal has not the memory for more. A request beyond is answered with the status that
# stands here, a response beyond is dropped. What does not even fit into a datagram can't be authenticated: dropped.
MAX_DATAGRAM_BYTES = 4096
_MAX_MESSAGE_BYTES = const(3072)  # 513
_MAX_HEAD_BYTES = const(2048)  # start line and headers: 513
_MAX_BODY_BYTES = const(2048)  # 413
_MAX_LINE_BYTES = const(1024)  # of a header: 400
_MAX_LINES = const(64)  # start line and headers: 400
_TOO_LARGE = "too large"
_MAX_DONE = const(4)  # requests of ours that are remembered when they have been answered, for answers that come twice
_MAX_ANSWERED = const(5)  # requests of others that are, beside the newest one: they may come twice
_MAX_CLIENTS = const(16)  # requests of ours; a peer that answers for ever new phones gets neither ACK nor BYE then
_MAX_SERVERS = const(8)  # requests from others that are remembered at once; where none is done, a further one gets 503


def token(size=8):
    """A random token: hex digits for tags, branches and Call-IDs."""
    return hexlify(urandom(size))


class Refusal(Exception):
    """Whoever takes a request can't do what it asks for, and nothing has changed.

    Args:
        status: 300 to 699.
        reason: the reason phrase.
        name: of one more header of the response.
        value: of that header.
    """

    def __init__(self, status, reason, name=None, value=b""):
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.name = name
        self.value = value


class UserAgent:
    """Sends requests, matches what comes, and keeps the timers.

    Args:
        link: the hop.
        address: our address and SIP port, ``host:port`` as bytes, for Via.

    Attributes:
        phone: who gets requests, set by `app`: ``handle_request(transaction, request, now)``, which may raise a
            `Refusal`; ``handle_ack(request, now)``, ``handle_cancel(invite_transaction, now)``,
            ``tag_of(invite_transaction)``.
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
        self._serial = 0  # of the last of them: a dict keeps no order here

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
        self._forget_done()
        kind = InviteClient if request.method == "INVITE" else NonInviteClient
        transaction = kind(request, False, now)
        # The transaction has what it sends; of the request only the headers are needed from here on.
        request.compact()
        request.body = b""
        self._clients[transaction.key] = (transaction, callback, plain)
        self._flush(transaction, plain)
        return transaction

    def move(self, address):
        """Go on from another address. Registration begins anew: what it has sent may not be repeated."""
        self.address = address
        for key in list(self._clients):
            if key.endswith(b" REGISTER"):
                del self._clients[key]

    def awaits(self, method):
        """Whether a request of ours with that method has no final answer yet."""
        waiting = [entry[0].request for entry in self._clients.values()]
        return method in [request.method for request in waiting if request]

    @property
    def is_full(self):
        """Whether so many requests of ours are under way that a peer may not cause more."""
        return len(self._clients) >= _MAX_CLIENTS

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
                try:
                    self._emit(data, plain)
                except MemoryError:
                    self.make_room()
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

    def open(self, datagram, now):
        """Open a datagram: it is not needed any more when this returns.

        Returns:
            What `read` wants, or None to drop it.
        """
        size = len(datagram)
        # Of what is too large only the head is deciphered, for an answer.
        is_large = size > _MAX_MESSAGE_BYTES + OVERHEAD_BYTES
        opened = self._link.open(datagram, now, _MAX_HEAD_BYTES + 4 if is_large else size)
        if opened is None:
            return None
        return [is_large, opened[1], opened[0]]

    def read(self, opened):
        """Read what has been opened. Of that nothing is left, not even where it is called from: memory is wanted.

        Args:
            opened: what `open` returned.

        Returns:
            (how it came, the message or None for a keep-alive, what is wrong with it or None).
        """
        data = bytes(opened.pop())
        is_large, how = opened
        try:
            return how, _read(data, is_large) if data else None, None
        except ParseError as error:
            return how, None, error

    def take(self, opened, now):
        """Take what `read` returned.

        Returns:
            Whether it was a frame of a living agreement: a sign of life of the neighbour.
        """
        how, message, failure = opened
        try:
            if failure:
                raise failure
            if isinstance(message, Request):
                if how != "frame":
                    raise ParseError("frame", 400, "no")
                self._receive_request(message, now)
            elif message:
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
        return how == "frame"

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
        self._forget_answered()
        if len(self._servers) >= _MAX_SERVERS:
            response = request.response(503, "Service Unavailable", token(4))
            response.add("Retry-After", b"10")
            self._emit(response.serialize(), False)
            return
        self._serial += 1
        transaction.serial = self._serial
        self._servers[transaction.key] = transaction
        try:
            request.compact()
            if request.method == "CANCEL":
                self._cancel(transaction, request, now)
            else:
                self.phone.handle_request(transaction, request, now)
        except Refusal as error:
            self.reject(transaction, error.status, error.reason, now, error.name, error.value)
        except ParseError as error:
            # Found out late.
            if error.status == 400:
                self.malformed += 1
            warning = b'399 terminal "%s"' % error.reason.encode()
            self.reject(transaction, error.status, error.reason, now, "Warning", warning)
        except Exception:
            if not transaction.status:
                self._servers.pop(transaction.key, None)  # its repetition may fare better
            raise

    def _cancel(self, transaction, request, now):
        invite = self._servers.get(server_key(request, "INVITE"))
        if invite is None:
            self.reject(transaction, 481, UNKNOWN, now)
        else:
            self.reject(transaction, 200, "OK", now, tag=self.phone.tag_of(invite))  # that of the INVITE: section 9.2
            self.phone.handle_cancel(invite, now)

    def _forget_done(self):
        """Forget the request of ours that was answered longest ago, where there are many of them.

        A call leaves its INVITE for 32 s; who calls again and again would have no memory left for the next.
        """
        done = [entry[0] for entry in self._clients.values() if not entry[0].request]
        if len(done) > _MAX_DONE:
            self.abandon(min(done, key=_end_of))

    def make_room(self):
        """Forget what has been answered, ours and what `forget_served` does, where memory is wanted."""
        for one in [entry[0] for entry in self._clients.values()]:
            if not one.request:
                self.abandon(one)
        self.forget_served()

    def forget_served(self):
        """Forget the requests of others that have been answered: what is left of them lies between what is free.

        The newest stays, and so does the INVITE of a call, whose ACK may not have come. Texts do: somebody would read
        one twice.
        """
        for one in list(self._servers.values()):
            is_wanted = one.serial == self._serial or one.key[-7:] == b"MESSAGE" or self.phone.tag_of(one) is not None
            if _is_done(one) and not is_wanted:
                self._servers.pop(one.key)
        gc.collect()

    def _forget_answered(self):
        """Forget the oldest that has been answered, where there is much of it.

        It is remembered for repetitions alone, and all but an INVITE that waits for its ACK may be answered anew. So
        nobody's OPTIONS keep somebody's BYE from being heard.
        """
        done = [one for one in self._servers.values() if _is_done(one)]
        if done and (len(done) > _MAX_ANSWERED or len(self._servers) >= _MAX_SERVERS):
            self._servers.pop(min(done, key=_serial_of).key)


def _end_of(transaction):
    return transaction.end_at


def _serial_of(server):
    return server.serial


def _is_done(server):
    return server.state in ((ACCEPTED, CONFIRMED) if isinstance(server, InviteServer) else (COMPLETED,))


def _read(data, is_large):
    """Parse a message within its limits.

    Raises:
        ParseError: malformed, or beyond a limit.
    """
    end = data.find(b"\r\n\r\n")
    excess = None
    if is_large or end > _MAX_HEAD_BYTES - 4:
        excess = ParseError("message", 513, _TOO_LARGE)
    elif len(data) - end > _MAX_BODY_BYTES + 4:
        excess = ParseError("body", 413, _TOO_LARGE)
    elif data.count(b"\r\n", 0, end) >= _MAX_LINES:
        excess = ParseError("headers", 400, _TOO_LARGE)
    else:
        at = 0
        while at < end:
            line_end = data.find(b"\r\n", at)
            if line_end - at > _MAX_LINE_BYTES:
                excess = ParseError("header", 400, _TOO_LARGE)
            at = line_end + 2
    if excess is None:
        return parse(data)
    if not 0 <= end <= _MAX_HEAD_BYTES:
        end = data.rfind(b"\r\n", 0, _MAX_HEAD_BYTES)  # what an answer is made of stands at the beginning
    try:
        message = parse(data[: max(end, 0)] + b"\r\n\r\n")
    except ParseError as error:
        # What is missing now of the body is no fault of the head.
        message = error.request
    excess.request = message if isinstance(message, Request) else None
    raise excess
