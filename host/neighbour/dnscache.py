"""DNS with a memory: what was found, what is not there, and that nobody answers.

    query --> in memory? --> being asked already? --> the name server --> memory

    records          for their TTL, an hour at most; when nobody answers an hour longer (RFC 8767)
    nothing there    for what the SOA says, five minutes at most (RFC 2308 section 5)
    an error         for five seconds, and without a SOA nothing there is no more certain than that

A question that nobody answers in time need not be the name server's fault: the servers of that domain may be dead, and
anybody may ask for such a domain. So the next question is preceded by one that every name server has the answer to. If
that isn't answered either, questions fail at once for five seconds, and no call waits.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.rdatatype
import dns.resolver
import dns.rrset

if TYPE_CHECKING:
    from collections.abc import Callable

    Key = tuple[dns.name.Name, dns.rdatatype.RdataType]

__all__ = ["DnsCache", "DnsError"]

_QUERY_S = 0.5  # until the next server is asked; a dead one shows in no other way
_LIFETIME_S = 2.0  # for one question in all
_MAX_TTL_S = 3600.0  # servers move, and owners mistype a TTL of weeks
_MAX_NEGATIVE_S = 300.0  # who has just made a record does not want to wait for longer
_BRIEFLY_S = 5.0  # errors: no call waits for the same server twice, and none suffers from one long over
_STALE_S = 3600.0  # RFC 8767 section 5 would allow days; for servers of calls an old address is soon worthless
_MAX_ENTRIES = 4000  # some thousand domains; users may dial any number. Beyond, the least recently used go
_MAX_RECORDS = 32  # of one answer: more than anybody would try. Beyond, the least preferred are left out
_MAX_AT_ONCE = 256  # questions under way, each with a socket; beyond, they fail, which is a 503 for a call
_ROOT = dns.name.root


class DnsError(Exception):
    """There is no answer; the text says why, in few words."""


@dataclass(slots=True)
class _Entry:
    """An answer: the records, None where there are none; or why there is no answer."""

    until: float
    records: dns.rrset.RRset | None = None
    error: str = ""
    #: Until when the records may stand in for an answer that is not to be had.
    stale_until: float = 0.0


class DnsCache:
    """Asks name servers.

    Args:
        nameservers: addresses; none for those of the system.
        port: of those.
        clock: seconds that only grow.
    """

    def __init__(self, nameservers: list[str], port: int, clock: "Callable[[], float]" = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[Key, _Entry] = {}
        self._asking: dict[Key, asyncio.Task[_Entry]] = {}
        self._probe: asyncio.Task[bool] | None = None
        #: Whether the last question was not answered in time.
        self._in_doubt = False
        self._dead_until = 0.0
        self._resolver: dns.asyncresolver.Resolver | None = None
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=not nameservers)
        except dns.resolver.NoResolverConfiguration:
            return
        if nameservers:
            self._resolver.nameservers = list(nameservers)
            self._resolver.port = port
        self._resolver.timeout = _QUERY_S
        self._resolver.lifetime = _LIFETIME_S

    async def query(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.rrset.RRset | None:
        """The records of a name, or None where there are none of the kind.

        Raises:
            DnsError: nobody knows.
        """
        key = name, kind
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._entries[key] = entry  # the last is the one used last
        if entry is None or entry.until <= self._clock():
            task = self._asking.get(key)
            if task is None:
                if len(self._asking) >= _MAX_AT_ONCE:
                    raise DnsError("too many questions at once")
                task = asyncio.create_task(self._ask(key, entry), name=f"dns {name}")
                self._asking[key] = task
                task.add_done_callback(lambda _: self._asking.pop(key, None) and None)
            # Shielded: one caller that gives up must not take the answer from the others.
            entry = await asyncio.shield(task)
        if entry.error:
            raise DnsError(entry.error)
        return entry.records

    def close(self) -> None:
        """Ask no more; whoever waits for an answer is cancelled."""
        for task in (*self._asking.values(), *((self._probe,) if self._probe is not None else ())):
            task.cancel()

    async def _ask(self, key: "Key", old: _Entry | None) -> _Entry:
        """Find out, and remember."""
        entry = await self._answer(key)
        now = self._clock()
        if entry.error and old is not None and now < old.stale_until:
            entry = _Entry(now + _BRIEFLY_S, old.records, "", old.stale_until)
        if entry.until > now:
            self._entries.pop(key, None)
            if len(self._entries) >= _MAX_ENTRIES:
                del self._entries[next(iter(self._entries))]
            self._entries[key] = entry
        return entry

    async def _answer(self, key: "Key") -> _Entry:
        now = self._clock
        if self._resolver is None:
            return _Entry(now() + _BRIEFLY_S, None, "no name server configured")
        if self._in_doubt and not await self._is_alive():
            return _Entry(now(), None, "no name server answers")
        try:
            answer = await self._resolver.resolve(*key, search=False)
        except dns.resolver.NoAnswer as error:
            self._in_doubt = False
            return _Entry(now() + _negative_s(error.kwargs["response"]))
        except dns.resolver.NXDOMAIN as error:
            self._in_doubt = False
            return _Entry(now() + _negative_s(*error.kwargs["responses"].values()))
        except dns.exception.Timeout:
            self._in_doubt = True
            return _Entry(now() + _BRIEFLY_S, None, "no answer in time")
        except dns.resolver.NoNameservers:
            return _Entry(now() + _BRIEFLY_S, None, "the name server can't tell")
        except (dns.exception.DNSException, OSError) as error:
            return _Entry(now() + _BRIEFLY_S, None, type(error).__name__)
        self._in_doubt = False
        assert answer.rrset is not None
        until = now() + min(answer.chaining_result.minimum_ttl, _MAX_TTL_S)
        return _Entry(until, _trimmed(answer.rrset), "", until + _STALE_S)

    async def _is_alive(self) -> bool:
        """Whether a name server answers at all."""
        if self._clock() < self._dead_until:
            return False
        if self._probe is None:
            self._probe = asyncio.create_task(self._try(), name="dns probe")
            self._probe.add_done_callback(self._probed)
        return await asyncio.shield(self._probe)

    async def _try(self) -> bool:
        assert self._resolver is not None
        try:
            await self._resolver.resolve(_ROOT, dns.rdatatype.NS, lifetime=_QUERY_S)
        except (dns.exception.Timeout, OSError):
            return False
        except dns.exception.DNSException:
            pass  # an answer, if none of much use
        return True

    def _probed(self, task: "asyncio.Task[bool]") -> None:
        self._probe = None
        if not task.cancelled() and task.exception() is None:
            if task.result():
                self._in_doubt = False
            else:
                self._dead_until = self._clock() + _BRIEFLY_S


def _negative_s(*responses: "dns.message.Message") -> float:
    """For how long there is nothing (RFC 2308 section 5): the SOA's TTL or its MINIMUM, whichever is less."""
    limits = [
        min(rrset.ttl, rrset[0].minimum)
        for response in responses
        for rrset in response.authority
        if rrset.rdtype == dns.rdatatype.SOA
    ]
    return min([*limits, _MAX_NEGATIVE_S]) if limits else _BRIEFLY_S


def _trimmed(records: dns.rrset.RRset) -> dns.rrset.RRset:
    """The records, or the best of too many."""
    if len(records) <= _MAX_RECORDS:
        return records

    def rank(record: object) -> tuple[int, int]:
        # NAPTR has order and preference, SRV a priority; one address is as good as another.
        return (
            getattr(record, "order", getattr(record, "priority", 0)),
            getattr(record, "preference", 0),
        )

    return dns.rrset.from_rdata_list(records.name, records.ttl, sorted(records, key=rank)[:_MAX_RECORDS])
