"""Runs on MicroPython: the time and the heap of SRTP, beside the floor that no code can go below.

The floor is one ECB call over the payload's blocks and the two hashes of an HMAC over the packet. Prints JSON.
"""

import gc
import hashlib
import json
import sys
import time

from cryptolib import aes

from sipwire.rtp import build_header
from sipwire.srtp import SUITES, SrtpReceiver, SrtpSender

ROUNDS = int(sys.argv[1])
REPEATS = int(sys.argv[2])
BATCH = 50
SUITE = SUITES[b"AES_CM_128_HMAC_SHA1_80"]
KEY = bytes(range(30))
SIZE = 172


def new_aes(key):
    return aes(key, 1).encrypt


def measure(work, prepare=None):
    """Microseconds of one call, the median of several runs, and the heap bytes it leaves behind.

    In batches, with a collection before each: what follows is what the calls cost, and not where in a long run of
    garbage the allocator has to look for its next free block.
    """
    times = []
    used = 0
    for _ in range(REPEATS):
        argument = prepare() if prepare else None
        work(argument, 2)
        total = 0
        for _ in range(ROUNDS // BATCH):
            gc.collect()
            gc.disable()
            before = gc.mem_alloc()
            started = time.ticks_us()
            work(argument, BATCH)
            total += time.ticks_diff(time.ticks_us(), started)
            used = (gc.mem_alloc() - before) / BATCH
            gc.enable()
        times.append(total / (ROUNDS // BATCH * BATCH))
    times.sort()
    return times[len(times) // 2], used


cipher = new_aes(KEY[:16])
blocks, pad = bytearray(160), bytearray(160)
packet = bytearray(SIZE)
inner, outer = b"6" * 64, b"\\" * 64


def floor(_, count):
    for _ in range(count):
        cipher(blocks, pad)
        first = hashlib.sha1(inner)
        first.update(packet)
        second = hashlib.sha1(outer)
        second.update(first.digest())
        second.digest()


def sender():
    return SrtpSender(SUITE, KEY, new_aes), bytearray(SIZE + 10), [0]


def protect(state, count):
    srtp, buffer, seq = state
    for _ in range(count):
        seq[0] = seq[0] + 1 & 0xFFFF
        buffer[2] = seq[0] >> 8
        buffer[3] = seq[0] & 255
        buffer[0] = 0x80
        srtp.protect(buffer, SIZE)


def receiver():
    """A receiver, and enough packets for it, each of which it can open once."""
    srtp, buffer, _ = sender()
    packets = []
    for seq in range(ROUNDS + 4):
        build_header(buffer, 0, seq & 0xFFFF, 0, 7)
        srtp.protect(buffer, SIZE)
        packets.append(bytes(buffer))
    packets.reverse()
    return SrtpReceiver(SUITE, KEY, new_aes), packets, bytearray(SIZE + 10)


def unprotect(state, count):
    srtp, packets, buffer = state
    for _ in range(count):
        buffer[:] = packets.pop()
        srtp.unprotect(buffer, SIZE + 10)


result = {}
for name, work, prepare in (("floor", floor, None), ("protect", protect, sender), ("unprotect", unprotect, receiver)):
    result[name] = measure(work, prepare)
result["native"] = "sipwire.viper" in sys.modules
print(json.dumps(result))
