"""What we want changed about a call that stands, and the re-INVITE that says so (RFC 3261 section 14.1).

    nothing --ask, move, refresh--> due at a time --send--> sent --2xx, refused--> nothing
                                        ^                    |
                                        +-------491, 422-----+

One re-INVITE at a time: it offers the session as it should be now, whatever has made it due.
"""

from os import urandom

from sipwire.compat import const
from sipwire.dialog import contact_of
from sipwire.errors import ParseError
from sipwire.transaction import T1_MS, TIMEOUT

__all__ = ["Change"]

_AGAIN_MS = const(500)  # until a re-INVITE is tried again that can't be sent just now


class Change:
    """The change of one call after the other.

    Args:
        agent: sends requests.

    Attributes:
        at: when to send the re-INVITE, or where that is done, when to expect no answer any more; None: nothing is due.
        asked: the command that wants it, "" where none does.
        transaction: of the re-INVITE that has no final response yet, or None.
    """

    def __init__(self, agent):
        self._agent = agent
        self.begin()

    def begin(self):
        """Another call: nothing is to be changed."""
        self.transaction = self.at = None
        self.asked = ""
        self._is_moving = False  # the peer has not heard yet where we are now

    def settle(self):
        """Nothing is wanted any more; returns the command that something was wanted by."""
        asked, self.asked = self.asked, ""
        self._is_moving = False
        return asked

    def ask(self, command, now):
        """A command of the user's wants the session changed."""
        self.asked = command
        self.at = now

    def move(self, now):
        """We are at another address: an answer to what was sent before goes where we were."""
        self.abandon()
        self._is_moving = True
        self.at = now

    def refresh(self, at):
        """Where nothing else is wanted, the session is to be refreshed: at a time, or not at all (None)."""
        if not (self.asked or self.transaction or self._is_moving):
            self.at = at

    def put_off(self, now):
        """It can't be sent just now."""
        self.at = now + _AGAIN_MS

    def yield_to(self, is_caller, now):
        """Both sides have sent one at the same time (491): try again when the other has had its turn.

        Args:
            is_caller: whether the call, and with it the Call-ID, is ours.
            now: milliseconds.
        """
        # Section 14.1: 2.1 to 4 s for who made the Call-ID, else 0 to 2 s, in units of 10 ms.
        wait = int.from_bytes(urandom(2), "big")
        self.at = now + (2100 + wait % 191 * 10 if is_caller else wait % 201 * 10)

    def send(self, request, dialog, done, now):
        """Send a re-INVITE. Its 2xx is acknowledged, and the Contact of that taken over.

        Args:
            request: what to send.
            dialog: of the call.
            done: gets (status, response or `TIMEOUT`, now) once, with 408 for a `TIMEOUT`; never if the call ends or
                another is sent before.
            now: milliseconds.
        """
        number = dialog.local_cseq

        def answered(event, _, now):
            # Else the same again, that of the change before, or the call is over.
            current = self.transaction is transaction
            self._answered(current, dialog, number, event, done, now)

        self.transaction = transaction = self._agent.request(request, now, answered)
        self.at = now + 64 * T1_MS

    def _answered(self, current, dialog, number, event, done, now):
        status = 408 if event == TIMEOUT else event.status
        if status < 200:
            return
        if status < 300:
            if current:
                try:
                    dialog.target = contact_of(event)
                except ParseError:
                    pass  # it stays where it was
            self._agent.send(dialog.new_ack(number))
        if current:
            self.transaction = None
            self.put_off(now)  # for `done` may not come to its end: memory runs out
            done(status, event, now)

    def abandon(self):
        """Wait for no answer to what has been sent, if anything has."""
        if self.transaction:
            self._agent.abandon(self.transaction)
            self.transaction = None
