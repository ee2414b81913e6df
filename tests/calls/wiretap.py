"""Somebody on the hop who knows the terminal's secret: sees each datagram's size, and what is in it.

terminal --frames--> Wiretap --the same frames--> neighbour
"""

import json
import select
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from neighbour.aes import new_aes
from sipwire.agreement import best, hop_nonce, hop_spi, parse_mechanisms
from sipwire.digest_server import parse_credentials
from sipwire.grammar import split_list
from sipwire.hop import FRAME_MARK, OVERHEAD_BYTES, HopReceiver, derive_keys, frame_spi
from sipwire.message import Request, Response, parse

__all__ = ["FROM", "TO", "Heard", "Wiretap"]

#: From the terminal, and to it.
FROM, TO = "from", "to"
_FRONT, _BACK = 5060, 5062


@dataclass(frozen=True)
class Heard:
    """A SIP message in a frame.

    Attributes:
        direction: `FROM` or `TO` the terminal.
        frame_bytes: of the datagram.
        data: the message.
        at_s: when, in seconds of the monotonic clock.
    """

    direction: str
    frame_bytes: int
    data: bytes
    at_s: float

    @property
    def message(self) -> Request | Response:
        """The message, parsed."""
        return parse(self.data)

    @property
    def kind(self) -> tuple[str, str, str]:
        """Direction, method or status, and the method of its CSeq."""
        message = self.message
        what = message.method if isinstance(message, Request) else str(message.status)
        return self.direction, what, message.cseq.method


class Wiretap(threading.Thread):
    """A relay between a terminal and its neighbour; see the module.

    Args:
        own: its address, which is the neighbour's in the terminal's configuration.
        neighbour: the address of the neighbour.
        configuration: the terminal's, for the secret.
    """

    def __init__(self, own: str, neighbour: str, configuration: Path) -> None:
        super().__init__(daemon=True)
        self._neighbour = (neighbour, _FRONT)
        settings = json.loads(configuration.read_text())
        self._secret = settings["ha1"].encode()
        self._user = settings.get("auth_user", settings["user"]).encode()
        self._realm = settings["domain"].encode()
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind((own, _FRONT))
        self._back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._back.bind((own, _BACK))
        self._terminal: tuple[str, int] | None = None
        self._receivers: dict[int, HopReceiver] = {}
        self._stopped = threading.Event()
        #: Every message in a frame, repetitions too; keep-alives are not among them.
        self.heard: list[Heard] = []
        #: What went wrong here.
        self.failure: Exception | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self.join()
        self._front.close()
        self._back.close()
        if self.failure is not None and error is None:
            raise self.failure

    def run(self) -> None:
        while not self._stopped.is_set():
            for ready in select.select([self._front, self._back], [], [], 0.1)[0]:
                data, source = ready.recvfrom(65536)
                at = time.monotonic()
                if ready is self._front:
                    self._terminal = source
                    self._back.sendto(data, self._neighbour)
                elif self._terminal is not None:
                    self._front.sendto(data, self._terminal)
                try:
                    self._take(FROM if ready is self._front else TO, data, at)
                except Exception as error:  # a test's thread: whoever stops it is told
                    self.failure = self.failure or error

    def _take(self, direction: str, data: bytes, at: float) -> None:
        if data[:1] != bytes((FRAME_MARK,)):
            message = parse(data)
            if isinstance(message, Request) and message.get("authorization"):
                self._agree(message)
            return
        message_bytes = self._receivers[frame_spi(data)].open(data)
        assert len(data) == len(message_bytes) + OVERHEAD_BYTES
        if message_bytes:
            self.heard.append(Heard(direction, len(data), message_bytes, at))

    def _agree(self, register: Request) -> None:
        """Derive the keys as both do (WIRE section 1.2), from the REGISTER that holds all of the agreement."""
        offer, chosen = register.get("security-client"), register.get("security-verify")
        proof = register.get("authorization")
        assert offer
        assert chosen
        assert proof
        client, server = (best(parse_mechanisms(split_list(one, b",")), (b"wisp-hop",)) for one in (offer, chosen))
        assert client is not None
        assert server is not None
        nonce = parse_credentials(proof).nonce
        out, back = derive_keys(self._secret, self._user, self._realm, hop_nonce(client), nonce, offer, chosen)
        for spi, keys in ((hop_spi(server), out), (hop_spi(client), back)):
            if spi not in self._receivers:  # else a repetition of it
                self._receivers[spi] = HopReceiver(spi, keys, new_aes)
