"""The parties of many calls, for `benchmarks.media`: a process of its own that sends 50 packets a second for each.

All packets are made before; each that comes back is known by its SSRC and sequence number, which SRTP leaves readable,
so that every single one is counted. Those of some calls are kept, opened and compared.
"""

import gc
import json
import os
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from pylibsrtp import Policy, Session

__all__ = ["FRAME_BYTES", "PROFILES", "main", "rtp"]

#: 20 ms of G.711.
FRAME_BYTES = 160
_FRAME_S = 0.02
_SLOTS = 20  # of a frame: calls do not all send at once
_SOCKETS = 4  # for all offerers, and as many for all answerers
_BUFFER_BYTES = 4 << 20
_KEPT = 8  # calls whose packets are compared
_FIRST_SEQ = 1000
_SETTLE_S = 0.5
PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
}


def rtp(number: int, ssrc: int) -> bytes:
    """The packet with a number from 0 of a stream."""
    payload = struct.pack(">II", ssrc, number) * (FRAME_BYTES // 8)
    return struct.pack(">BBHII", 0x80, 0, (_FIRST_SEQ + number) & 0xFFFF, number * FRAME_BYTES, ssrc) + payload


@dataclass
class _Stream:
    """What one party of a call sends, and what comes of it at the other.

    Attributes:
        ssrc: names it.
        sock: where it is sent from.
        to: the relay's port.
        opener: for what comes out of the relay; None where that is plain.
        packets: as they are sent.
        seen: for each packet how often it has come.
        kept: those that came, of some streams.
    """

    ssrc: int
    sock: socket.socket
    to: tuple[str, int]
    opener: Session | None
    packets: list[bytes]
    seen: bytearray = field(default_factory=bytearray)
    kept: list[bytes] | None = None


def _sockets() -> list[socket.socket]:
    made = []
    for _ in range(_SOCKETS):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        sock.bind(("127.0.0.1", 0))
        made.append(sock)
    return made


def _session(keys: "list[str] | None", ssrc_type: int) -> Session | None:
    """A session of a suite and a key in hexadecimal; None where there is none, for plain RTP."""
    if keys is None:
        return None
    return Session(Policy(bytes.fromhex(keys[1]), ssrc_type, srtp_profile=PROFILES[keys[0]]))


def _streams(calls: list[dict[str, Any]], socks: "tuple[list[socket.socket], ...]", count: int) -> dict[int, _Stream]:
    """Two of each call, by SSRC."""
    streams = {}
    for at, call in enumerate(calls):
        for side in (0, 1):
            ssrc = 2 * at + side + 1
            sealer = _session(call["sends"][side], Policy.SSRC_ANY_OUTBOUND)
            plain = [rtp(number, ssrc) for number in range(count)]
            packets = [sealer.protect(one) for one in plain] if sealer is not None else plain
            opener = _session(call["gets"][1 - side], Policy.SSRC_ANY_INBOUND)
            sock = socks[side][at % _SOCKETS]
            made = _Stream(ssrc, sock, ("127.0.0.1", call["ports"][side]), opener, packets, bytearray(count))
            made.kept = [] if at < _KEPT else None
            streams[ssrc] = made
    return streams


def _drain(socks: list[socket.socket], streams: dict[int, _Stream]) -> int:
    """Read all that has come; returns how many packets are no stream's."""
    strange = 0
    for sock in socks:
        while True:
            try:
                data = sock.recv(2048)
            except BlockingIOError:
                break
            stream = streams.get(int.from_bytes(data[8:12], "big"))
            number = ((data[2] << 8 | data[3]) - _FIRST_SEQ) & 0xFFFF
            if stream is None or number >= len(stream.seen):
                strange += 1
                continue
            stream.seen[number] += 1
            if stream.kept is not None:
                stream.kept.append(data)
    return strange


def _wrong(stream: _Stream) -> int:
    """How many of those kept are not what was sent."""
    wrong = 0
    for data in stream.kept or ():
        number = ((data[2] << 8 | data[3]) - _FIRST_SEQ) & 0xFFFF
        plain = stream.opener.unprotect(data) if stream.opener is not None else data
        wrong += plain != rtp(number, stream.ssrc)
    return wrong


def _exchange(streams: dict[int, _Stream], socks: list[socket.socket], count: int) -> tuple[int, float, float]:
    """Send everything at its time; returns strange packets, how late the latest was sent, and how long all took."""
    everyone = list(streams.values())
    slots = [everyone[at::_SLOTS] for at in range(_SLOTS)]
    strange, late = 0, 0.0
    begin = time.perf_counter()
    for number in range(count):
        for at, slot in enumerate(slots):
            due = begin + (number + at / _SLOTS) * _FRAME_S
            left = due - time.perf_counter()
            if left > 0:
                time.sleep(left)
            else:
                late = max(late, -left)
            for stream in slot:
                stream.sock.sendto(stream.packets[number], stream.to)
            strange += _drain(socks, streams)
    # What is late is not lost: until nothing has come for a while.
    came, since = -1, time.perf_counter()
    while time.perf_counter() - since < _SETTLE_S:
        strange += _drain(socks, streams)
        seen = sum(sum(stream.seen) for stream in everyone)
        if seen != came:
            came, since = seen, time.perf_counter()
        time.sleep(0.02)
    return strange, late, time.perf_counter() - begin


def main() -> None:
    """Say where the parties are, read what the calls are, and say what came of them; JSON lines."""
    socks = (_sockets(), _sockets())
    addresses = [[list(sock.getsockname()) for sock in of_side] for of_side in socks]
    print(json.dumps({"addresses": addresses}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        count = round(asked["seconds"] / _FRAME_S)
        streams = _streams(asked["calls"], socks, count)
        gc.collect()
        gc.disable()
        print(json.dumps({"ready": len(streams)}), flush=True)
        sys.stdin.readline()
        strange, late, took = _exchange(streams, socks[0] + socks[1], count)
        gc.enable()
        seen = [one for stream in streams.values() for one in stream.seen]
        print(
            json.dumps(
                {
                    "sent": len(seen),
                    "lost": seen.count(0),
                    "twice": sum(one > 1 for one in seen),
                    "strange": strange,
                    "wrong": sum(_wrong(stream) for stream in streams.values()),
                    "compared": sum(len(stream.kept or ()) for stream in streams.values()),
                    "late_ms": late * 1000,
                    "took_s": took,
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    main()
