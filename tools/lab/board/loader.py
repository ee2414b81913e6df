"""An ESP chip in its download mode, on a pseudo-terminal: its ROM loader, and the "stub" that esptool puts there.

Real enough that an unchanged esptool finds out what it is, erases, writes, verifies and lets go of it::

    ROM --- MEM_BEGIN, MEM_DATA, MEM_END (the stub comes in) ---> stub --- FLASH_END with 0 ---> ROM
     ^                                                             |
     +---- BOOT held at a reset ---- running <---- EN pressed -----+

The wire is that of Espressif's "Serial Protocol" (esptool's documentation, advanced topics): SLIP, and packets of
``direction (1) || command (1) || size (2) || checksum or value (4) || data``, little-endian; at the end of a response's
data are 2 bytes of status from a stub and 4 from a ROM. Registers are those of the chips' technical reference manuals.

A pseudo-terminal has no DTR and RTS, so nothing on the wire resets this chip, as with boards whose adapter does not
lead those lines. A person does it (`hand`): BOOT is held while the chip starts, and EN pressed when the writer has let
go.
The flash is a file; it is NOR: writing makes ones to zeros, only erasing makes ones of them.
"""

import contextlib
import errno
import hashlib
import os
import pty
import select
import struct
import subprocess
import threading
import time
import tty
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CHIPS", "Chip", "Kind"]

_SECTOR = 4096  # bytes that are erased at a time
_CHECKSUM = 0xEF  # of data: this, exclusive-or every byte
_SYNC = b"\x07\x07\x12\x20" + 32 * b"\x55"
_SYNC_ANSWERS = 8
_ROM_VALUE = 0x20120707  # of an answer to SYNC; that of a stub is zero
_BAUD = 115200  # a ROM finds out what it is spoken to with; a terminal line of ours has every speed
_CRYSTAL_HZ = 40_000_000
_MAC = bytes.fromhex("246f28a1b2c3")
_FLASH_MAKER = 0xEF  # Winbond (JEDEC JEP106), W25Q of 2 to the power of the third byte
_FLASH_KIND = 0x40
_TURN_S = 0.05
_GARBLE_S = 0.2  # between the complaints of a chip without a firmware
_SPI_USR = 1 << 18  # of the command register: run the user's command
# Status of a ROM and of a stub.
_INVALID = 0x0105
_BAD_LENGTH = 0xC000
_BAD_CHECKSUM = 0xC100
_NOT_BEGUN = 0xC600
_BAD_DEFLATE = 0xC700
_TOO_LITTLE = 0xC800
_TOO_MUCH = 0xC900
_UNKNOWN = 0xFF00


@dataclass(frozen=True, slots=True)
class Kind:
    """A chip as esptool tells it from others.

    Attributes:
        name: what esptool calls it.
        chip_id: of its images, and of its security information where it has some.
        magic: what its ROM has at 0x40001000; older esptools tell chips by it.
        has_security: whether its loader tells security information; newer esptools tell chips by that.
        offset: where its boot loader lies in flash, in bytes.
        spi: the base of its flash controller, and the offsets of USR, USR2, ADDR and W0 in it.
        registers: values that are not zero.
    """

    name: str
    chip_id: int
    magic: int
    has_security: bool
    offset: int
    spi: tuple[int, int, int, int, int]
    registers: dict[int, int]


def _mac(base: int) -> dict[int, int]:
    """The MAC address in the fuses of newer chips: the low word, and what is left above it."""
    return {base: int.from_bytes(_MAC[2:], "big"), base + 4: int.from_bytes(_MAC[:2], "big")}


_FUSES = 0x3FF5A000  # of an ESP32
#: By the name that esptool's --chip knows.
CHIPS = {
    "esp32": Kind(
        "ESP32",
        0,
        0x00F01D83,
        False,
        0x1000,
        (0x3FF42000, 0x1C, 0x24, 0x04, 0x80),
        {
            _FUSES + 0x04: int.from_bytes(_MAC[2:], "big"),
            _FUSES + 0x08: int.from_bytes(_MAC[:2], "big"),
            _FUSES + 0x0C: 1 << 15 | 1 << 9,  # D0WD of the third revision
            _FUSES + 0x14: 1 << 24 | 1 << 20,
            0x3FF6607C: 1 << 31,
            0x3FF40014: _CRYSTAL_HZ // _BAUD,
        },
    ),
    "esp32s3": Kind(
        "ESP32-S3",
        9,
        0x00000009,
        True,
        0,
        (0x60002000, 0x18, 0x20, 0x04, 0x58),
        _mac(0x60007044) | {0x60007058: 1 << 24},
    ),
    "esp32c3": Kind(
        "ESP32-C3",
        5,
        0x1B31506F,
        True,
        0,
        (0x60002000, 0x18, 0x20, 0x04, 0x58),
        _mac(0x60008844) | {0x60008850: 4 << 18},
    ),
}


class Chip:
    """See the module. It lives while it is open as a context.

    Args:
        folder: where the flash (``flash.bin``) and the port (``port``) are made.
        kind: a name of `CHIPS`.
        flash_size: bytes, a power of two.
        program: the command of what a firmware in flash runs as, on the line; without one it is silent.
        is_waiting: whether it starts in download mode; else it runs what is in flash.
        hand: somebody presses EN as soon as a writer has verified what it wrote, and let go of the port.
        silent: it hears, and never answers.
        unplugged_after: blocks after which its cable is pulled out.
        deaf_after: blocks after which it answers nothing any more.
        stuck_at: an address in flash whose byte stays as it is.
        erase_s: seconds that erasing everything takes.
    """

    def __init__(
        self,
        folder: Path,
        kind: str = "esp32",
        *,
        flash_size: int = 4 << 20,
        program: Sequence[str] | None = None,
        is_waiting: bool = True,
        hand: bool = True,
        silent: bool = False,
        unplugged_after: int | None = None,
        deaf_after: int | None = None,
        stuck_at: int | None = None,
        erase_s: float = 0.0,
    ) -> None:
        self.kind = CHIPS[kind]
        self.port = folder / "port"
        self.flash = folder / "flash.bin"
        #: What it was asked to do, in order, beside registers.
        self.done: list[str] = []
        #: How often it was started again.
        self.resets = 0
        self._program = program
        self._hand = hand
        self._silent = silent
        self._unplugged_after = unplugged_after
        self._deaf_after = deaf_after
        self._stuck_at = stuck_at
        self._erase_s = erase_s
        self._size = flash_size
        self._is_waiting = is_waiting
        if not self.flash.exists():
            self.flash.write_bytes(b"\xff" * flash_size)
        self._master = -1
        self._is_stub = False
        self._is_running = not is_waiting
        self._running: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._reset_state()

    def _reset_state(self) -> None:
        self._registers = dict(self.kind.registers)
        self._ram: dict[int, bytes] = {}
        self._loading: tuple[int, int] | None = None  # where to, and bytes that are to come
        self._slip: bytearray | None = None
        self._escaped = False
        self._writing: _Writing | None = None
        self._blocks = 0
        self._has_written = False
        self._is_verified = False

    def __enter__(self) -> "Chip":
        self.plug()
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()

    # What a person does.

    def plug(self) -> None:
        """Plug its cable in; BOOT is held where it was made so."""
        self._master, slave = pty.openpty()
        tty.setraw(self._master)
        name = os.ttyname(slave)
        os.close(slave)
        self.port.symlink_to(name)
        self._stop.clear()
        self._begin(running=not self._is_waiting)
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def unplug(self) -> None:
        """Pull its cable out."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def faultless(self) -> None:
        """Let nothing go wrong from here on."""
        self._silent = False
        self._unplugged_after = self._deaf_after = self._stuck_at = None

    def hurry(self) -> None:
        """Let erasing take no time from here on, that which goes on included."""
        self._erase_s = 0.0
        self._hurry.set()

    def _begin(self, *, running: bool) -> None:
        """Start; in download mode or with what is in flash."""
        self._end_program()
        self._reset_state()
        self.resets += 1
        self._is_stub = False
        self._is_running = running
        if running and self._is_bootable() and self._program is not None:
            self._running = subprocess.Popen(
                list(self._program), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )

    def _end_program(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.communicate()
            self._running = None

    def _is_bootable(self) -> bool:
        with self.flash.open("rb") as file:
            file.seek(self.kind.offset)
            return file.read(1) == b"\xe9"

    # Its line.

    def _live(self) -> None:
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        was_open = False
        complained_at = 0.0
        try:
            while not self._stop.is_set():
                outlet = self._running.stdout if self._running is not None else None
                if outlet is not None:
                    poll.register(outlet, select.POLLIN)
                events = dict(poll.poll(_TURN_S * 1000))
                if outlet is not None:
                    poll.unregister(outlet)
                    if events.get(outlet.fileno(), 0) & select.POLLIN:
                        self._say(os.read(outlet.fileno(), 4096))
                told = events.get(self._master, 0)
                if told & select.POLLIN:
                    was_open = True
                    self._hear(os.read(self._master, 65536))
                elif told & select.POLLHUP:
                    if was_open:
                        self._let_go()
                    was_open = False
                    self._stop.wait(_TURN_S)
                elif self._is_running and self._running is None and time.monotonic() > complained_at + _GARBLE_S:
                    complained_at = time.monotonic()
                    self._say(b"invalid header: 0xffffffff\r\n")
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        finally:
            self._end_program()
            self.port.unlink()
            os.close(self._master)

    def _let_go(self) -> None:
        """Nobody has the port open any more."""
        if self._hand and self._is_verified:
            self._begin(running=True)

    def _say(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._master, data) :]
            except BlockingIOError:
                self._stop.wait(_TURN_S)

    def _hear(self, data: bytes) -> None:
        if self._is_running:
            if self._running is not None and self._running.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    self._running.stdin.write(data)
                    self._running.stdin.flush()
            return
        for packet in self._packets(data):
            if len(packet) >= 8 and packet[0] == 0 and not self._silent:
                size, checksum = struct.unpack("<HI", packet[2:8])
                self._obey(packet[1], size, checksum, packet[8:])

    def _packets(self, data: bytes) -> Iterator[bytes]:
        """Cut a stream at SLIP's END (RFC 1055); noise between packets is nobody's."""
        for byte in data:
            if byte == 0xC0:
                if self._slip:
                    packet, self._slip = bytes(self._slip), None
                    yield packet
                else:
                    self._slip = bytearray()
                self._escaped = False
            elif self._slip is None:
                continue
            elif self._escaped:
                self._slip.append({0xDC: 0xC0, 0xDD: 0xDB}.get(byte, byte))
                self._escaped = False
            elif byte == 0xDB:
                self._escaped = True
            else:
                self._slip.append(byte)

    def _send(self, packet: bytes) -> None:
        self._say(b"\xc0" + packet.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0")

    def _answer(self, command: int, data: bytes = b"", *, value: int = 0, status: int = 0) -> None:
        data += struct.pack(">H", status) + (b"" if self._is_stub else b"\0\0")
        self._send(struct.pack("<BBHI", 1, command, len(data), value) + data)

    # Its commands.

    def _obey(self, command: int, size: int, checksum: int, data: bytes) -> None:
        name, work = _COMMANDS.get(command, ("", None))
        # The oldest of them has no security information, in its ROM as in its stub.
        is_known = (
            work is not None and (self._is_stub or command < 0xD0) and (command != 0x14 or self.kind.has_security)
        )
        if not is_known or work is None or size != len(data):
            self._answer(command, status=_UNKNOWN if self._is_stub else _INVALID)
            return
        if command not in _UNNAMED:
            self.done.append(name)
        work(self, command, data, checksum)

    def _sync(self, command: int, data: bytes, _: int) -> None:
        if data == _SYNC:
            for _i in range(_SYNC_ANSWERS):
                self._answer(command, value=0 if self._is_stub else _ROM_VALUE)

    def _read_register(self, command: int, data: bytes, _: int) -> None:
        (address,) = struct.unpack("<I", data)
        value = self._registers.get(address, 0)
        if address == 0x40001000:
            value = self.kind.magic
        self._answer(command, value=value)

    def _write_register(self, command: int, data: bytes, _: int) -> None:
        for begin in range(0, len(data) - 15, 16):
            address, value, mask, _delay = struct.unpack_from("<IIII", data, begin)
            self._registers[address] = self._registers.get(address, 0) & ~mask | value & mask
            if address == self.kind.spi[0] and value & _SPI_USR:
                self._ask_flash()
        self._answer(command)

    def _ask_flash(self) -> None:
        """Run a command of the flash: those that tell what it is; the others have nothing to do here."""
        base, _usr, usr2, addr, w0 = self.kind.spi
        self._registers[base] = 0  # it is done
        asked = self._registers.get(base + usr2, 0) & 0xFF
        answer = 0
        if asked == 0x9F:
            answer = _FLASH_MAKER | _FLASH_KIND << 8 | (self._size.bit_length() - 1) << 16
        elif asked == 0x5A and not self._registers.get(base + addr, 0):
            answer = int.from_bytes(b"SFDP", "little")
        self._registers[base + w0] = answer

    def _tell_security(self, command: int, _data: bytes, _: int) -> None:
        # Flags, the count of encryption, purposes of seven keys, the chip, the version of the interface.
        self._answer(command, struct.pack("<IB7BII", 0, 0, *bytes(7), self.kind.chip_id, 0))

    def _begin_memory(self, command: int, data: bytes, _: int) -> None:
        size, _blocks, _block, address = struct.unpack("<IIII", data)
        self._loading = address, size
        self._ram[address] = b""
        self._answer(command)

    def _fill_memory(self, command: int, data: bytes, checksum: int) -> None:
        block = self._block(command, data, checksum)
        if block is None:
            return
        if self._loading is None:
            self._answer(command, status=_INVALID)
            return
        self._ram[self._loading[0]] += block
        self._answer(command)

    def _end_memory(self, command: int, data: bytes, _: int) -> None:
        is_staying, entry = struct.unpack("<II", data)
        if is_staying:
            self._answer(command)
        elif any(begin <= entry < begin + len(code) for begin, code in self._ram.items()):
            self._answer(command)
            self._is_stub = True
            self._send(b"OHAI")
        else:
            self._answer(command, status=_INVALID)  # a jump into nothing

    def _agree(self, command: int, _data: bytes, _: int) -> None:
        self._answer(command)

    def _erase_all(self, command: int, _data: bytes, _: int) -> None:
        if self._erase_s:
            self._hurry.wait(self._erase_s)
        self._has_written = True
        self._erase(0, self._size)
        self._answer(command)

    def _erase_region(self, command: int, data: bytes, _: int) -> None:
        self._erase(*struct.unpack("<II", data))
        self._answer(command)

    def _begin_flash(self, command: int, data: bytes, _: int) -> None:
        size, _blocks, _block, address = struct.unpack_from("<IIII", data)
        if address + size > self._size:
            self._answer(command, status=_BAD_LENGTH if self._is_stub else _INVALID)
            return
        unpack = zlib.decompressobj().decompress if command == 0x10 else None
        self._writing = _Writing(address, address + size, unpack, erased_to=address)
        if not self._is_stub:
            self._erase_to(self._writing.end)
        self._answer(command)

    def _fill_flash(self, command: int, data: bytes, checksum: int) -> None:
        block = self._block(command, data, checksum)
        if block is None:
            return
        if self._deaf_after is not None and self._blocks >= self._deaf_after:
            return
        if self._unplugged_after is not None and self._blocks >= self._unplugged_after:
            self._stop.set()
            return
        self._blocks += 1
        self._answer(command, status=self._write(block))

    def _block(self, command: int, data: bytes, checksum: int) -> bytes | None:
        """A block of data, when it came as it was sent."""
        size = struct.unpack_from("<I", data)[0]
        block = data[16:]
        status = _CHECKSUM
        for byte in block:
            status ^= byte
        if size != len(block):
            self._answer(command, status=_BAD_LENGTH if self._is_stub else _INVALID)
        elif status != checksum:
            self._answer(command, status=_BAD_CHECKSUM if self._is_stub else 0x0107)
        else:
            return block
        return None

    def _write(self, block: bytes) -> int:
        """Write a block where the last one ended; returns the status."""
        writing = self._writing
        if writing is None:
            return _NOT_BEGUN if self._is_stub else _INVALID
        if writing.unpack is not None:
            try:
                block = writing.unpack(block)
            except zlib.error:
                return _BAD_DEFLATE if self._is_stub else 0x010B
            if writing.at + len(block) > writing.end:
                return _TOO_MUCH
        else:
            block = block[: writing.end - writing.at]  # the last one is filled up
        self._erase_to(writing.at + len(block))
        self._program_flash(writing.at, block)
        writing.at += len(block)
        self._has_written = True
        return 0

    def _end_flash(self, command: int, data: bytes, _: int) -> None:
        writing, self._writing = self._writing, None
        is_short = writing is not None and writing.at < writing.end
        self._answer(command, status=_TOO_LITTLE if is_short and self._is_stub else 0)
        if not struct.unpack("<I", data)[0]:
            self._begin(running=False)

    def _digest(self, command: int, data: bytes, _: int) -> None:
        address, size = struct.unpack_from("<II", data)
        with self.flash.open("rb") as file:
            file.seek(address)
            md5 = hashlib.md5(file.read(size))  # noqa: S324 - the command is that
        self._is_verified = self._has_written
        self._answer(command, md5.digest() if self._is_stub else md5.hexdigest().encode())

    # Its flash.

    def _erase(self, address: int, size: int) -> None:
        with self.flash.open("r+b") as file:
            file.seek(address)
            file.write(b"\xff" * size)

    def _erase_to(self, end: int) -> None:
        """Erase what is to be written next, by sectors."""
        writing = self._writing
        assert writing is not None
        end = -(-end // _SECTOR) * _SECTOR
        begin = writing.erased_to // _SECTOR * _SECTOR
        if end > begin:
            self._erase(begin, end - begin)
            writing.erased_to = end

    def _program_flash(self, address: int, data: bytes) -> None:
        with self.flash.open("r+b") as file:
            file.seek(address)
            there = file.read(len(data))
            # Bits are only cleared.
            both = int.from_bytes(there, "big") & int.from_bytes(data, "big")
            new = bytearray(both.to_bytes(len(data), "big"))
            if self._stuck_at is not None and address <= self._stuck_at < address + len(data):
                new[self._stuck_at - address] = there[self._stuck_at - address]
            file.seek(address)
            file.write(new)


_UNNAMED = (0x03, 0x07, 0x09, 0x0A, 0x11)  # they come in great numbers


@dataclass(slots=True)
class _Writing:
    """What is being written.

    Attributes:
        at: the address of the next byte.
        end: the address behind the last one.
        unpack: inflates, where it comes compressed.
        erased_to: the address up to which it is erased.
    """

    at: int
    end: int
    unpack: "Callable[[bytes], bytes] | None"
    erased_to: int


# By number: what a test reads in `done`, and what does it, with the command, its data and its checksum.
_COMMANDS: dict[int, tuple[str, Callable[[Chip, int, bytes, int], None]]] = {
    0x02: ("write", Chip._begin_flash),
    0x03: ("block", Chip._fill_flash),
    0x04: ("end", Chip._end_flash),
    0x05: ("load", Chip._begin_memory),
    0x06: ("run", Chip._end_memory),
    0x07: ("memory", Chip._fill_memory),
    0x08: ("sync", Chip._sync),
    0x09: ("write register", Chip._write_register),
    0x0A: ("read register", Chip._read_register),
    0x0B: ("set flash", Chip._agree),
    0x0D: ("attach flash", Chip._agree),
    0x0F: ("baud", Chip._agree),
    0x10: ("write", Chip._begin_flash),
    0x11: ("block", Chip._fill_flash),
    0x12: ("end", Chip._end_flash),
    0x13: ("digest", Chip._digest),
    0x14: ("security", Chip._tell_security),
    0xD0: ("erase", Chip._erase_all),
    0xD1: ("erase region", Chip._erase_region),
}
