"""RTP as it is, where no SRTP was agreed on: the configuration has to allow that.

Loaded for a call that has such a stream.
"""

from sipwire.rtp import header_size

__all__ = ["Unprotected"]


class Unprotected:
    """Takes the place of `SrtpSender` and `SrtpReceiver`."""

    overhead_bytes = sources = 0

    def protect(self, packet, size):
        """As `SrtpSender.protect`."""
        return size

    def unprotect(self, packet, size):
        """As `SrtpReceiver.unprotect`."""
        header_size(packet, size)
        return size

    def follow(self, before):
        """As `SrtpReceiver.follow`."""

    def allow_source(self):
        """As `SrtpReceiver.allow_source`."""

    def left(self):
        """As `SrtpSender.left`."""
        return 0x1000000
