"""A name server for tests: what it answers, how often it was asked, and how it can misbehave."""

import selectors
import socket
import struct
import threading
from collections import Counter
from types import TracebackType

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

__all__ = ["DEAD", "GARBAGE", "REFUSED", "SERVFAIL", "NameServer"]

_PORT = 5300  # not 53, which needs privileges, and not 5353, which multicast DNS has
_TTL_S = 60
_NEGATIVE_TTL_S = 30
_PLAIN_BYTES = 512  # of an answer over UDP where the question does not allow more
_SERVICES = {"_sip._udp": 5060, "_sip._tcp": 5060, "_sips._tcp": 5061}

# How a domain, and all below it, is answered for.
DEAD = "dead"  # not at all
GARBAGE = "garbage"  # by bytes that are no DNS
SERVFAIL = "servfail"
REFUSED = "refused"
_RCODES = {SERVFAIL: dns.rcode.SERVFAIL, REFUSED: dns.rcode.REFUSED}


def _open(address: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A socket for UDP and one for TCP, of one port."""
    while True:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            udp.bind((address, port))
            tcp.bind(udp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
            if port:
                raise
        else:
            return udp, tcp


class NameServer:
    """Answers on a thread of its own, over UDP and TCP; names that it was not given do not exist here.

    Args:
        address: to listen on.
        domains: the address of each domain's neighbour, for A and SRV records.
        port: to listen on; 0 for any.

    Attributes:
        queries: how often each (name, type) was asked for, without the final dot, e.g. ``("a.example", "SRV")``.
        moods: how a domain, "" for all, or a name and type ("a.example AAAA") is answered for where it is not as it
            should be.
        soa: whether negative answers say for how long they hold.
        negative_ttl_s: for how long that is.
    """

    def __init__(self, address: str, domains: dict[str, str] | None = None, port: int = _PORT) -> None:
        self.queries: Counter[tuple[str, str]] = Counter()
        self.moods: dict[str, str] = {}
        self.soa = True
        self.negative_ttl_s = _NEGATIVE_TTL_S
        self._records: dict[tuple[str, int], dns.rrset.RRset] = {}
        for domain, where in (domains or {}).items():
            self.add(domain, "A", where)
            for service, number in _SERVICES.items():
                self.add(f"{service}.{domain}", "SRV", f"0 0 {number} {domain}.")
        self._udp, self._tcp = _open(address, port)
        self.port: int = self._udp.getsockname()[1]
        self._tcp.listen()
        self.address = f"{address}:{self.port}"
        self._thread = threading.Thread(target=self._serve, name="nameserver")

    def add(self, name: str, kind: str, *values: str, ttl_s: int = _TTL_S) -> None:
        """Give a name these records, instead of those it had of that kind."""
        key = name.lower().rstrip(".") + ".", dns.rdatatype.from_text(kind)
        self._records[key] = dns.rrset.from_text(key[0], ttl_s, "IN", kind, *values)

    def remove(self, name: str, kind: str) -> None:
        """Take a name's records of a kind away."""
        del self._records[name.lower() + ".", dns.rdatatype.from_text(kind)]

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            for sock in (self._udp, self._tcp):
                selector.register(sock, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._tcp:
                        self._serve_tcp()
                        continue
                    data, source = self._udp.recvfrom(4096)
                    if not data:
                        return
                    answer = self._answer(data, over_tcp=False)
                    if answer is not None:
                        self._udp.sendto(answer, source)

    def _serve_tcp(self) -> None:
        connection, _ = self._tcp.accept()
        with connection:
            connection.settimeout(2)
            (size,) = struct.unpack("!H", connection.recv(2))
            answer = self._answer(connection.recv(size), over_tcp=True)
            if answer is not None:
                connection.sendall(struct.pack("!H", len(answer)) + answer)

    def _mood(self, name: str, kind: str) -> str:
        if f"{name} {kind}" in self.moods:
            return self.moods[f"{name} {kind}"]
        while name and name not in self.moods:
            name = name.partition(".")[2]
        return self.moods.get(name, "")

    def _answer(self, data: bytes, *, over_tcp: bool) -> bytes | None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.queries[name, kind] += 1
        mood = self._mood(name, kind)
        if mood == DEAD:
            return None
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA | dns.flags.RA
        if mood in _RCODES:
            answer.set_rcode(_RCODES[mood])
        elif mood != GARBAGE:
            self._fill(answer, question)
        wire = answer.to_wire(max_size=65535)
        if mood == GARBAGE:
            # It has the question's number, and nothing else that makes sense.
            return wire[:2] + b"\x81\x80\xff\xff\xff\xff\xff\xff\xff\xff" + b"\xc0\x0c" * 20
        room = max(query.payload, _PLAIN_BYTES)
        if not over_tcp and len(wire) > room:
            answer.answer.clear()
            answer.flags |= dns.flags.TC
            wire = answer.to_wire()
        return wire

    def _fill(self, answer: dns.message.Message, question: dns.rrset.RRset) -> None:
        name = question.name.to_text().lower()
        while (alias := self._records.get((name, dns.rdatatype.CNAME))) is not None and len(answer.answer) < 20:
            answer.answer.append(alias)
            name = alias[0].to_text().rpartition(" ")[2].lower()
        found = self._records.get((name, question.rdtype))
        if found is not None:
            answer.answer.append(found)
            return
        if not any(known == name or known.endswith("." + name) for known, _ in self._records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        if self.soa:
            ttl_s = self.negative_ttl_s
            text = f"ns.invalid. x.invalid. 1 60 60 60 {ttl_s}"
            answer.authority.append(dns.rrset.from_text(dns.name.root, 3600, "IN", "SOA", text))

    def __enter__(self) -> "NameServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An empty datagram ends the thread: closing a socket that somebody waits on does not wake them.
        self._udp.sendto(b"", self._udp.getsockname())
        self._thread.join()
        self._udp.close()
        self._tcp.close()
