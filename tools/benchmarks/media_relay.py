"""The relay alone in a process, as it runs in a neighbour: uvloop, and nothing else in it. For `benchmarks.media`.

It also answers datagrams on a socket of its own, through the same event loop: how long that takes is how long messages
wait beside media.
"""

import asyncio
import json
import resource
import sys
from typing import Any

import uvloop

from neighbour.media.keys import Keys
from neighbour.media.relay import Relays, RelaySettings

__all__ = ["main"]

_FIRST_PORT, _LAST_PORT = 20_000, 59_999


class _Echo(asyncio.DatagramProtocol):
    """Answers each datagram with itself."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, addr: "tuple[Any, ...]") -> None:
        self._transport.sendto(data, addr)


def _keys(told: "list[str] | None") -> Keys | None:
    return Keys(told[0].encode(), bytes.fromhex(told[1])) if told else None


def _open(relays: Relays, call: dict[str, Any]) -> list[int]:
    """One relay; returns its ports."""
    relay = relays.open()
    for side in (0, 1):
        relay.sides[side].expect(
            tuple(call["addresses"][side]),
            None,
            True,
            None if call["unread"] else _keys(call["sends"][side]),
            None if call["unread"] else _keys(call["gets"][side]),
            call["unread"] or call["sends"][side] is not None,
        )
    return [side.port for side in relay.sides]


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    relays = Relays(RelaySettings(("127.0.0.1",), _FIRST_PORT, _LAST_PORT, 5000, 0))
    relays.start()
    echo, _ = await loop.create_datagram_endpoint(_Echo, local_addr=("127.0.0.1", 0))
    print(json.dumps({"echo": echo.get_extra_info("sockname")[1]}), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        calls = json.loads(line)
        print(json.dumps({"ports": [_open(relays, call) for call in calls]}), flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        print(json.dumps(relays.counters()), flush=True)
    echo.close()
    relays.close_all()


def main() -> None:
    """Open what standard input says, and count."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    uvloop.run(_serve())


if __name__ == "__main__":
    main()
