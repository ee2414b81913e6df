"""DNS for phones: where the neighbours of the lab are, as RFC 3263 wants to be told."""

import socket
import threading
from types import TracebackType

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset

__all__ = ["NameServer"]

_PORT = 5300  # not 53, which needs privileges, and not 5353, which multicast DNS has
_TTL_S = 60
_SERVICES = {"_sip._udp": 5060, "_sip._tcp": 5060, "_sips._tcp": 5061}


class NameServer:
    """Answers on a thread of its own for some domains; every other name does not exist here.

    Args:
        address: to listen on.
        domains: the address of each domain's neighbour.
    """

    def __init__(self, address: str, domains: dict[str, str]) -> None:
        self.address = f"{address}:{_PORT}"
        self._records: dict[tuple[str, int], dns.rrset.RRset] = {}
        for domain, where in domains.items():
            self._add(f"{domain}.", "A", where)
            for service, port in _SERVICES.items():
                self._add(f"{service}.{domain}.", "SRV", f"0 0 {port} {domain}.")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, _PORT))
        self._thread = threading.Thread(target=self._serve, name="nameserver")

    def _add(self, name: str, kind: str, value: str) -> None:
        self._records[name, dns.rdatatype.from_text(kind)] = dns.rrset.from_text(name, _TTL_S, "IN", kind, value)

    def _serve(self) -> None:
        while True:
            data, source = self._socket.recvfrom(4096)
            if not data:
                return
            query = dns.message.from_wire(data)
            answer = dns.message.make_response(query)
            answer.flags |= dns.flags.AA
            question = query.question[0]
            found = self._records.get((question.name.to_text().lower(), question.rdtype))
            if found is not None:
                answer.answer.append(found)
            self._socket.sendto(answer.to_wire(), source)

    def __enter__(self) -> "NameServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An empty datagram ends the thread: closing a socket that somebody waits on does not wake them.
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()
