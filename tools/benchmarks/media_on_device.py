"""Runs on MicroPython: the terminal's media as fast as it goes, with sockets, microphone and speaker that cost little.

    media_on_device.py TASK KIND STEPS WAY

KIND says what a step is, see `_KINDS`; after "bare " it is only what these sockets and this loop cost. WAY is ``look``,
at the time and at the heap, or ``count``: then somebody else counts the instructions. No garbage is collected within,
but where WAY is ``run``, as much of it as `terminal.app` lets come together, to be counted likewise. "heap" and kinds
of streams tell what of the heap lives in such a call. Prints JSON.

The program is the linked image as it is, run from a ROM image. TASK holds where that is, the names that things have
there, what was agreed on, and where the peer's packets are.
"""

import gc
import hashlib
import json
import os
import sys
import time

from cryptolib import aes
from rom import mount  # lab/rom.py, which lies beside this then

with open(sys.argv[1]) as _file:  # noqa: PTH123  no pathlib here
    TASK = eval(_file.read())  # noqa: S307  of this benchmark's own


class _Os:
    """Stands for the module ``os``, with random numbers that are none: each run has to take the same way."""


def _urandom(size):
    return b"\xa5" * size  # large numbers, as three of four of 32 bits are: small integers have 31


_os = _Os()
for _name in dir(os):
    setattr(_os, _name, getattr(os, _name))
_os.urandom = _urandom
sys.modules["os"] = _os
mount(TASK["rom"])
__import__("terminal.app")

_COLLECT_BYTES, _CALL_BYTES = 4096, 32768  # as `terminal.app`
_BATCH = 20  # steps: what they leave behind finds room
_WARM = 10
_FRAME_MS, _TEXT_MS = 20, 300
_EAGAIN = 11
_PACKETS = ("speech", "reports", "text", "")  # by socket


def _named(name):
    """What the image has, which is under another name than in the sources."""
    module, _, own = TASK["names"].get(name, name).rpartition(".")
    __import__(module)
    return getattr(sys.modules[module], own)


def _agreed(values):
    made = _named("sipwire.agreed.Agreed")(values["kind"], values["index"])
    for name in values:
        setattr(made, TASK["names"].get(name, name), values[name])
    return made


class _Socket:
    """A socket that always has the next of what was prepared, and remembers what it was given last."""

    def __init__(self, name):
        self._file = open(TASK["packets"][name], "rb") if name else None  # noqa: PTH123, SIM115
        self._size = bytearray(2)
        self.is_open = False
        self.last = b""

    def recv(self, size):
        if not self.is_open:
            raise OSError(_EAGAIN)
        self._file.readinto(self._size)
        return self._file.read(self._size[0] << 8 | self._size[1])

    def sendto(self, data, target):
        self.last = data


class _Audio:
    """A microphone that always hears the same, and a speaker."""

    last = b""

    def start(self):
        pass

    def stop(self):
        pass

    def read(self, pcm):
        pcm[:] = TASK["sound"]

    def write(self, pcm):
        self.last = pcm


def _new_aes(key):
    return aes(key, 1).encrypt


def _resolve(host, port):
    return host, port


class _Call:
    """A call with streams of these kinds.

    Args:
        kinds: of what was agreed on, as TASK names it.
    """

    def __init__(self, kinds):
        self.now = 1000
        self.kinds = kinds
        self.sockets = [_Socket(name) for name in _PACKETS]
        self.audio = _Audio()
        self.agreed = [_agreed(TASK["agreed"][kind]) for kind in kinds]
        self.media = _named("terminal.media.Media")(self.sockets, _resolve, self.audio, _new_aes)
        for work in ("start", "stop", "receive", "handle_timer", "report", "write"):
            setattr(self, "_" + work, getattr(self.media, TASK["names"].get(work, work)))

    def start(self):
        """Begin. Whoever hears the peer knows that it has our keys, and sends."""
        self._start(self.agreed, self.now)
        for socket in self.sockets:
            socket.is_open = True
        for kind in self.kinds:
            self._receive(self.sockets[2 if kind == "text" else 0], self.now)

    def speech(self):
        self.now += _FRAME_MS
        self._receive(self.sockets[0], self.now)
        self._handle_timer(self.now)

    def report(self):
        self.speech()
        self._report(self.now)

    def reports(self):
        self.speech()
        self._receive(self.sockets[1], self.now)
        self._report(self.now)

    def write(self):
        self.now += _TEXT_MS
        self._write(TASK["typed"], self.now)
        self._handle_timer(self.now)

    def read(self):
        self.now += _TEXT_MS
        self._receive(self.sockets[2], self.now)

    def collect(self):
        gc.collect()


class _Bare(_Call):
    """What these sockets, this audio and the loop cost by themselves."""

    def start(self):
        self._pcm = bytearray(len(TASK["sound"]))
        self._data = memoryview(self._pcm)
        for socket in self.sockets:
            socket.is_open = True

    def speech(self):
        self.now += _FRAME_MS
        self.sockets[0].recv(400)
        self.audio.write(self._pcm)
        if self.kinds[0] != "heard":
            self.audio.read(self._pcm)
            self.sockets[0].sendto(self._data, None)

    def reports(self):
        self.sockets[1].recv(400)

    def write(self):
        self.now += _TEXT_MS
        self.sockets[2].sendto(self._data, None)

    def read(self):
        self.now += _TEXT_MS
        self.sockets[2].recv(800)

    def collect(self):
        pass


# What a step does, and the streams of the call.
_KINDS = {
    "heard": ("speech", ["heard"]),
    "both ways": ("speech", ["speech"]),
    "report": ("report", ["speech"]),
    "reports": ("reports", ["speech"]),
    "text sent": ("write", ["text"]),
    "text received": ("read", ["text"]),
    "collection": ("collect", ["speech"]),
}


class _Floor:
    """The cryptography alone: one AES call over the payload's blocks, and the two hashes of an HMAC."""

    def __init__(self, payload_bytes, packet_bytes):
        size = (payload_bytes + 15) // 16 * 16
        self._encrypt = _new_aes(bytes(16))
        self._blocks, self._pad = bytearray(size), bytearray(size)
        self._packet = bytearray(packet_bytes)
        self._inner, self._outer = b"6" * 64, b"\\" * 64

    def step(self):
        self._encrypt(self._blocks, self._pad)
        first = hashlib.sha1(self._inner)  # noqa: S324  that is what SRTP has
        first.update(self._packet)
        second = hashlib.sha1(self._outer)  # noqa: S324
        second.update(first.digest())
        second.digest()


def _look(step, count):
    """Microseconds of a step, and the heap bytes that it leaves behind, which are collected elsewhere."""
    total = used = 0
    for _ in range(count // _BATCH):
        gc.collect()
        gc.disable()
        before = gc.mem_alloc()
        begun = time.ticks_us()
        for _ in range(_BATCH):
            step()
        total += time.ticks_diff(time.ticks_us(), begun)
        used += gc.mem_alloc() - before
        gc.enable()
    done = count // _BATCH * _BATCH
    return {"us": total / done, "bytes": used / done}


def _count(step, count):
    gc.disable()
    for _ in range(count):
        step()
    return {}


def _run(step, count):
    gc.collect()
    threshold = max(_COLLECT_BYTES, gc.mem_free() - _CALL_BYTES >> 1)
    gc.threshold(threshold)
    for _ in range(count):
        step()
    return {"threshold": threshold}


def _live():
    gc.collect()
    return gc.mem_alloc()


def heap(kinds):
    """Bytes that live in a call: of each module that is loaded for it, and of all else that it has.

    What is loaded now and then is looked at last, when what it needs is there.
    """
    found = {}
    call = _Call(kinds)
    load, unload = _named("terminal.demand.load"), _named("terminal.demand.unload")
    idle = _live()

    def load_and_look(name):
        before = _live()
        load("terminal." + name)
        found[name] = _live() - before

    for name in ["stream"] + ["conversation" if kind == "text" else "speech" for kind in kinds]:
        load_and_look(name)
    before = _live()
    call.start()
    for kind in kinds:
        for _ in range(_WARM):
            if kind == "text":
                call.read()
                call.write()
            else:
                call.speech()
    found["objects"] = _live() - before
    found["all"] = _live() - idle
    for name in ("reports", "ringing") + (("digits",) if "speech" in kinds else ()):
        load_and_look(name)
        unload("terminal." + name)
    return found


def measure(kind, count, way):
    """Do the steps of a kind."""
    call = None
    if kind.startswith("floor "):
        step = _Floor(*[int(size) for size in kind.split(" ")[1:]]).step
    else:
        is_bare = kind.startswith("bare ")
        work, kinds = _KINDS[kind[5:] if is_bare else kind]
        call = (_Bare if is_bare else _Call)(kinds)
        call.start()
        step = getattr(call, work)
    for _ in range(_WARM):
        step()
    result = {"look": _look, "count": _count, "run": _run}[way](step, count)
    if call:
        result["last"] = [bytes(socket.last).hex() for socket in call.sockets]
        result["played"] = bytes(call.audio.last).hex()
        if not is_bare:
            result["media"] = call._stop()
    return result


if sys.argv[2].startswith("heap "):
    print(json.dumps(heap(sys.argv[2].split(" ")[1:])))
else:
    print(json.dumps(measure(sys.argv[2], int(sys.argv[3]), sys.argv[4])))
