"""What MicroPython's unix port lacks of ``machine``: a UART, at the board's end of a `calls.serial_line.SerialCable`."""

import io
import os
import select
import socket

_POLL = 3  # the request of MP_STREAM_POLL


class UART(io.IOBase):
    """UART 0: a connection to the cable, which never waits."""

    def __init__(self, number, baud, rxbuf=256, txbuf=256, timeout=0):
        if number:
            raise ValueError(f"UART({number}) does not exist")
        self._socket = socket.socket()
        self._socket.connect(socket.getaddrinfo("127.0.0.1", int(os.getenv("CABLE")))[0][-1])
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN | select.POLLOUT)
        self.init(baud)

    def init(self, baud):
        print('{"event": "uart", "baud": ' + str(baud) + "}")

    def read(self, size):
        try:
            return self._socket.recv(size) or None
        except OSError:
            return None

    def write(self, data):
        try:
            return self._socket.send(data)
        except OSError:
            return None

    def ioctl(self, request, argument):
        if request != _POLL:
            return -1  # nor has it a file's number: 0 would be standard input
        for _, events in self._poll.poll(0):
            return events & argument
        return 0
