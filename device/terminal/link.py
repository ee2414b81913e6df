"""The terminal's end of the protected hop (WIRE section 1): which agreement seals, which ones still open.

none --propose--> pending --accept--> current --accept of the next--> old, for 30 s
"""

from sipwire.compat import const
from sipwire.errors import SecurityError
from sipwire.hop import FRAME_MARK, MAX_SEQ, HopReceiver, HopSender, derive_keys, frame_spi

from .demand import call

__all__ = ["Link"]

_OLD_MS = const(30000)  # WIRE section 1.4: for frames under way
_REKEY_SEQ = MAX_SEQ - 0x100000  # long before the numbers run out


class Link:
    """Seals what goes to the neighbour and opens what comes.

    Args:
        new_aes: makes an AES block function of a key.

    Attributes:
        dropped: datagrams dropped so far: no frame where one was due, unknown SPI, wrong tag, replay.
    """

    def __init__(self, new_aes):
        self._new_aes = new_aes
        self._sender = None
        self._receivers = []  # pending, current, old: at most one each
        self._pending = None
        self._old_until = 0
        self._spi = 0
        self._nonce = b""
        self.offer = b""
        self.dropped = 0

    @property
    def is_open(self):
        """Whether there is an agreement to send in."""
        return self._sender is not None

    @property
    def wants_rekey(self):
        """Whether the sequence numbers of the agreement are about to run out."""
        return self._sender is not None and self._sender.seq > _REKEY_SEQ

    def propose(self):
        """Begin a new agreement; the Security-Client value is in ``offer`` then."""
        self._spi, self._nonce, self.offer = call("terminal.proof", "propose")
        self._forget_pending()

    def prepare(self, config, neighbour_nonce, security_server, spi):
        """Derive the keys, so that the answer to our proof can be opened (WIRE section 1.1 step 3).

        Args:
            config: for the secret.
            neighbour_nonce: of the challenge.
            security_server: the header's value as it came.
            spi: the one in it.
        """
        self._forget_pending()
        out, back = derive_keys(
            config.ha1, config.auth_user, config.domain, self._nonce, neighbour_nonce, self.offer, security_server
        )
        receiver = HopReceiver(self._spi, back, self._new_aes)
        self._receivers.insert(0, receiver)
        self._pending = (HopSender(spi, out, self._new_aes), receiver)

    def accept(self, now):
        """The neighbour has proven itself: send in the prepared agreement from now on."""
        self._sender = self._pending[0]
        self._pending = None
        del self._receivers[2:]
        self._old_until = now + _OLD_MS

    def close(self):
        """Forget every agreement."""
        self._sender = self._pending = None
        self._receivers = []

    def _forget_pending(self):
        if self._pending:
            self._receivers.remove(self._pending[1])
            self._pending = None

    def seal(self, message):
        """The frame to send; b"" makes a keep-alive."""
        return self._sender.seal(message)

    def open(self, datagram, now, most=65535):
        """Open a datagram.

        Args:
            datagram: as received.
            now: milliseconds.
            most: how many bytes of the message in a frame are wanted, see `sipwire.hop.HopReceiver.open`.

        Returns:
            (message, how it came: ``"plain"``, ``"pending"`` or ``"frame"``), or None where it is dropped.
        """
        if datagram[:1] != bytes((FRAME_MARK,)):
            return datagram, "plain"
        if now > self._old_until:
            del self._receivers[2 if self._pending else 1 :]
        try:
            spi = frame_spi(datagram)
            for receiver in self._receivers:
                if receiver.spi == spi:
                    message = receiver.decipher(datagram, most)
                    return message, "pending" if self._pending and receiver is self._pending[1] else "frame"
        except SecurityError:
            pass
        self.dropped += 1
        return None
