"""The way to the neighbour: an address of our own, and sockets that are bound to it.

Loaded on demand: when the program begins, and when the network was gone.
"""

import select

from sipwire.compat import const

from .events import emit

__all__ = ["connect"]

_AGAIN_MS = const(1000)  # until it is tried again; each time twice that
_MAX_AGAIN_MS = const(60000)
_POLL_MS = const(100)


def connect(config, board, wlan, sip, rtp, poll, resolve, sleep_ms, feed):
    """Join the network where there is one to join, however long that takes, and open the sockets.

    Args:
        config: the terminal's.
        board: see `terminal.board`.
        wlan: a `wlan.Wlan`, or None.
        sip: the socket for the neighbour.
        rtp: those for media.
        poll: waits for them.
        resolve: makes a socket address of (host, port).
        sleep_ms: waits.
        feed: what to call while it waits, or None: see `terminal.board`.

    Returns:
        Our numeric address, as bytes.

    Raises:
        OSError: there is no network, or an address or port can't be had.
    """

    def meanwhile():
        if feed:
            feed()
        if board.commands():
            wlan.tell()  # to whoever asks anything now

    address = board.address()
    neighbour, again_ms, is_told = None, _AGAIN_MS, False
    while wlan and not neighbour:
        # After a power cut the access point is often there before the way to a name server.
        address = address or wlan.join(meanwhile)
        if address:
            if feed:
                feed()
            try:
                neighbour = resolve(*config.neighbour)
            except OSError:
                if not is_told:
                    emit("error", reason="neighbour: name not found")
                    is_told = True
        if not neighbour:
            _wait(again_ms, not address and board, sleep_ms, meanwhile)
            again_ms = min(2 * again_ms, _MAX_AGAIN_MS)
            address = address and board.address()
    address = config.address or address
    if not address:
        raise OSError("no network address")
    _open(sip, address, config.sip_port, resolve, poll)
    # Connected: the kernel keeps out whatever does not come from the neighbour.
    try:
        sip.connect(neighbour or resolve(*config.neighbour))
    except OSError as error:
        raise OSError("neighbour %s: %s" % (config.neighbour[0], error))
    for i, socket in enumerate(rtp):
        _open(socket, address, config.rtp_port + i, resolve, poll)
    return address.encode()


def _wait(ms, board, sleep_ms, feed):
    """Wait; with a board no longer than until it has an address: its driver goes on trying by itself."""
    for _ in range(0, ms, _POLL_MS):
        if board and board.address():
            break
        feed()
        sleep_ms(_POLL_MS)


def _open(socket, address, port, resolve, poll):
    # Without SO_REUSEADDR: of two programs on one UDP port each would get some of the other's.
    try:
        socket.bind(resolve(address, port))
    except OSError as error:
        raise OSError("%s:%d: %s" % (address, port, error))
    socket.setblocking(False)
    poll.register(socket, select.POLLIN)
