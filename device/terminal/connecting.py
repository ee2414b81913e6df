"""The way to the neighbour: an address of our own, and sockets that are bound to it.

Loaded on demand: when the program begins, and when the network was gone.
"""

import select

from sipwire.compat import const

from .events import emit

__all__ = ["connect"]

_AGAIN_MS = const(1000)  # until a name server is asked again


def connect(config, board, wlan, sip, rtp, poll, resolve, sleep_ms):
    """Join the network where there is one to join, and open the sockets.

    Args:
        config: the terminal's.
        board: see `terminal.board`.
        wlan: a `wlan.Wlan`, or None.
        sip: the socket for the neighbour.
        rtp: those for media.
        poll: waits for them.
        resolve: makes a socket address of (host, port).
        sleep_ms: waits.

    Returns:
        Our numeric address, as bytes.

    Raises:
        OSError: there is no network, or an address or port can't be had.
    """
    address = board.address()
    neighbour = None
    while wlan and not neighbour:
        # After a power cut the access point is often there before the way to a name server.
        address = board.address() or wlan.join()
        if address:
            try:
                neighbour = resolve(*config.neighbour)
            except OSError:
                emit("error", reason="neighbour: name not found")
                sleep_ms(_AGAIN_MS)
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


def _open(socket, address, port, resolve, poll):
    # Without SO_REUSEADDR: of two programs on one UDP port each would get some of the other's.
    try:
        socket.bind(resolve(address, port))
    except OSError as error:
        raise OSError("%s:%d: %s" % (address, port, error))
    socket.setblocking(False)
    poll.register(socket, select.POLLIN)
