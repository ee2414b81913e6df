"""An emulated board: a pseudo-terminal with a real MicroPython behind it that has a flash, sound, Wi-Fi and a chip.

    with EmulatedBoard(folder, micropython, access_points={"home": "password"}, address="127.0.0.2") as board:
        subprocess.run(["mpremote", "connect", str(board.port), "ls"])

Start, resets and loss of power::

    power on -> [chip's messages] -> process -> boot.py -> main.py -> prompt
                       ^                |
                       |                +-- exit 10: soft reset, the next process goes on at boot.py
                       +----------------+-- exit 11: machine.reset(); SIGALRM: watchdog; anything else: it crashed
    power off <-------------------------+-- exit 12: power failed in the middle of a write to flash

One thread for each board moves the bytes and starts the process again. All that a test calls takes the board's lock.
"""

import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import threading
import time
import wave
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from . import registers
from .interpreter import BoardError, command, compile_firmware, environment, firmware_bytes, lay_out
from .line import TO_BOARD, TO_HOST, Faults, Line
from .registers import Registers

__all__ = ["BoardError", "EmulatedBoard"]

_SOFT_RESET, _RESET, _POWER_CUT, _DEEP_SLEEP = 10, 11, 12, 13  # exit statuses
_POWERED_ON, _HARD, _WATCHDOG, _DEEP, _SOFT = range(1, 6)  # machine.reset_cause()
_CHIP_SAYS = b"ets Jul 29 2019 12:21:46\r\n\r\nrst:0x%x (%s),boot:0x13 (SPI_FAST_FLASH_BOOT)\r\n"
_CHIP_CAUSES = {
    _POWERED_ON: (1, b"POWERON_RESET"),
    _HARD: (12, b"SW_CPU_RESET"),
    _WATCHDOG: (8, b"TG1WDT_SYS_RESET"),
    _DEEP: (5, b"DEEPSLEEP_RESET"),
}
_MAKER = b"\x24\x0a\xc4"  # how addresses of Espressif's begin
_OTHER_FIRMWARE = b"\r\nready\r\n"  # what AT command firmware says
_FLASH_BYTES = 2 << 20  # of the file system on a board with 4 MB
_HEAP_BYTES = 112 << 10  # see FACTS of an ESP32 without PSRAM in tools/lab/lab.py
_MICROPHONE, _SPEAKER = "microphone.wav", "speaker.wav"
_WAV_HEADER_BYTES = 44

_ROUND_S = 0.01  # how soon it is seen that somebody has opened the line
_SOON_S = 0.001
_CRASHES = 5  # in a row, each within
_CRASH_S = 1.0
_START_S = 20.0
_DRAINED_ROUNDS = 3
_QUIET_S = 0.02
_RUNNING_S = 0.5  # how long a program may go on without a pause until it is interrupted wherever it is


class EmulatedBoard:
    """A board.

    Args:
        folder: its own; flash and all that survives is kept there.
        micropython: the command of the interpreter.
        heap: what a program finds free, in bytes, with words of 32 bits; a 64-bit interpreter is given twice that.
        baud: the pace of the line at the prompt; None for none. A program that opens the UART has the pace it chose.
        usb: whether the line is the board's own USB, where speeds do not matter. Else who opens it at another speed
            than the board's reads and sends rubbish.
        size: of the file system, in bytes.
        romfs: of the ROMFS partition, in bytes; 0 for none.
        access_points: the Wi-Fi networks in reach, and their passwords; "" where one is open.
        address: what a network gives the board: one of loopback.
        microphone: a WAV file (16 bits, mono, 8000 Hz) that is heard from the moment on when a program opens it.
        speaker: where what is played is written, as long as the program has it open; each time anew.
        version: what MicroPython it calls itself, like "1.20.0"; "" for what it is. Code is run by what it is.
        mpy: what version of .mpy files it says that it reads; None for what it does.
        chip: what it says that it has.
        firmware: "micropython"; "silent" or "other" for a board that has none.
    """

    def __init__(
        self,
        folder: Path,
        micropython: str,
        *,
        heap: int = _HEAP_BYTES,
        baud: int | None = None,
        usb: bool = False,
        size: int = _FLASH_BYTES,
        romfs: int = 0,
        access_points: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
        microphone: Path | None = None,
        speaker: Path | None = None,
        version: str = "",
        mpy: int | None = None,
        chip: str = "ESP32",
        firmware: str = "micropython",
    ) -> None:
        if firmware not in ("micropython", "silent", "other"):
            raise BoardError(f"firmware: {firmware}: micropython, silent or other wanted")
        if size % 4096 or romfs % 4096:
            raise BoardError("size, romfs: multiples of 4096 bytes wanted")
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        #: The serial port's path; it is there while the board is plugged in.
        self.port = self.folder / "port"
        #: How often it was started after the first time, soft resets not counted.
        self.reboots = 0
        #: How often of these it was because the watchdog was not fed, and because the interpreter died.
        self.watchdogs = self.crashes = 0
        #: What ended the thread, if anything did.
        self.error: BaseException | None = None
        self._micropython = micropython
        self._heap = heap
        self._size, self._romfs = size, romfs
        self._version = f"{version},{'' if mpy is None else mpy},{chip}"
        self._firmware = firmware
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._cause: int | None = None  # why it is to be started
        self._started_at = 0.0
        self._crashed_in_a_row = 0
        self._reboot_every_s: float | None = None
        self._interrupt_since: float | None = None
        self._flash_operations = 0
        self._flash_quiet_at = 0.0
        self._drained = 0
        self._unplug_powered = True
        self._ended = False
        self._networks = {
            name: {"password": password, "rssi": -50, "reach": True} for name, password in (access_points or {}).items()
        }
        self._address = address
        self._join_ms = 200
        self._speaker = speaker
        self._sound(microphone, speaker)
        self._registers = Registers(self.folder / "registers")
        self._registers.fill(registers.UNIQUE_ID, _MAKER + sha256(os.fsencode(self.folder)).digest()[:3])
        self._write_radio()
        if firmware == "micropython":
            compile_firmware(self.folder / "firmware.romfs")
            self._taken = firmware_bytes(micropython)
            self._all_heap = self._heap_bytes()
        self._line = Line(self.port, usb)
        self._line.baud = baud
        self._wake, self._woken = os.pipe()
        self._thread = threading.Thread(target=self._run, name=f"board {self.folder.name}", daemon=True)

    def _heap_bytes(self) -> int:
        words = subprocess.run(
            [self._micropython, "-c", "import sys; print(sys.maxsize >> 31)"],
            capture_output=True,
            text=True,
            check=True,
        )
        return self._heap * (1 if words.stdout.strip() == "0" else 2) + self._taken

    def _sound(self, microphone: Path | None, speaker: Path | None) -> None:
        for path, name in ((microphone, _MICROPHONE), (speaker, _SPEAKER)):
            link = self.folder / name
            link.unlink(missing_ok=True)
            if path is not None:
                link.symlink_to(path.resolve())
        if microphone is not None:
            try:
                with wave.open(str(microphone)) as file:
                    form = file.getnchannels(), file.getsampwidth(), file.getframerate()
            except (OSError, EOFError, wave.Error) as error:
                raise BoardError(f"{microphone}: {error}") from None
            if form != (1, 2, 8000):
                raise BoardError(f"{microphone}: a WAV file of 8000 Hz, 16 bits, mono is wanted")
        lay_out(self.folder, self._size, self._romfs, _MICROPHONE if microphone else "", _SPEAKER if speaker else "")

    # Starting and stopping.

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is None and self.error is not None:
            raise BoardError(f"the emulated board broke down: {self.error}") from self.error

    def start(self) -> None:
        """Plug it in and switch it on; returns when it runs.

        Raises:
            BoardError: it does not start.
        """
        with self._lock:
            self._line.plug()
            self._switch_on(_POWERED_ON)
        self._thread.start()
        self.wait_started()

    def wait_started(self, timeout_s: float = _START_S) -> None:
        """Wait until boot.py begins to run.

        Raises:
            BoardError: it did not; the text says what the interpreter said.
        """
        end = time.monotonic() + timeout_s
        while self._firmware == "micropython" and not self._registers[registers.STARTED]:
            if self.error or time.monotonic() > end:
                raise BoardError(f"the emulated board does not start: {self.error or self.stderr()}")
            time.sleep(0.005)

    def stop(self) -> None:
        """Switch it off, and let go of everything."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
        os.write(self._woken, b".")
        if self._thread.ident is not None:
            self._thread.join()
        self._kill()
        self._line.close()
        self._registers.close()
        os.close(self._wake)
        os.close(self._woken)

    def stderr(self) -> str:
        """What the interpreter itself complained of."""
        path = self.folder / "stderr"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int | None:
        """The interpreter's process, None where there is none."""
        with self._lock:
            return self._process.pid if self._process else None

    # What a test does to it.

    def unplug(self, powered: bool = True) -> None:
        """Pull the cable.

        Args:
            powered: whether the board has other power: it goes on running.
        """
        with self._lock:
            self._line.unplug()
            if not powered:
                self._kill()
        self._nudge()

    def plug(self) -> None:
        """Put the cable in; a board without power starts."""
        with self._lock:
            self._line.plug()
            if not self.is_powered:
                self._switch_on(_POWERED_ON)
        self._nudge()
        self.wait_started()

    def reset(self) -> None:
        """Reset it, as by its button, or by nobody."""
        with self._lock:
            self._kill()
            self._switch_on(_HARD)
        self._nudge()

    def fault(
        self,
        *,
        damage: float = 0.0,
        damaged: tuple[str, ...] = (TO_BOARD, TO_HOST),
        seed: int = 0,
        unplug_after: Mapping[str, int] | None = None,
        powered: bool = True,
        power_cut_after: int = 0,
        flash_us: int = 0,
        reboot_every_s: float | None = None,
    ) -> None:
        """What is wrong from now on; without arguments nothing is.

        Args:
            damage: the fraction of bytes on the line that are changed, lost, or followed by one that nobody sent.
            damaged: the directions in which they are.
            seed: what decides which.
            unplug_after: bytes until the line is unplugged, by direction, counted from now.
            powered: whether the board goes on without the cable then.
            power_cut_after: writes to flash until power fails half-way in one; the board stays off until `plug`.
            flash_us: what each write to flash takes longer, in microseconds.
            reboot_every_s: how often it resets by itself.
        """
        with self._lock:
            self._line.set_faults(Faults(damage, damaged, seed, dict(unplug_after or {})))
            self._unplug_powered = powered
            self._registers.set_word(registers.POWER, power_cut_after)
            self._registers.set_word(registers.DELAY, flash_us)
            self._reboot_every_s = reboot_every_s
        self._nudge()

    def set_baud(self, baud: int | None) -> None:
        """Change the pace of the line at the prompt; None for none."""
        with self._lock:
            self._line.baud = baud

    def access_point(self, name: str, password: str = "", *, rssi: int = -50, reach: bool = True) -> None:
        """Add a network, or change what is said of one; one that is out of reach is not heard."""
        with self._lock:
            self._networks[name] = {"password": password, "rssi": rssi, "reach": reach}
            self._write_radio()

    def remove_access_point(self, name: str) -> None:
        """Switch a network off for good."""
        with self._lock:
            del self._networks[name]
            self._write_radio()

    def drive(self, pin: int, level: int | None) -> None:
        """Put a level on a pin from outside: 0 or 1; None lets go of it."""
        self._registers[registers.PINS + pin] = 0 if level is None else 1 + level

    def output(self, pin: int) -> int:
        """The level that the program puts on a pin."""
        return self._registers[registers.OUTPUTS + pin]

    @property
    def is_powered(self) -> bool:
        """Whether it runs."""
        with self._lock:
            return self._process is not None or self._cause is not None

    @property
    def passed(self) -> dict[str, int]:
        """Bytes that went over the line since `fault` was called last, by direction."""
        with self._lock:
            return {name: way.passed for name, way in self._line.ways.items()}

    def _write_radio(self) -> None:
        text = json.dumps({"address": self._address, "join_ms": self._join_ms, "networks": self._networks})
        new = self.folder / "radio.json.new"
        new.write_text(text)
        new.replace(self.folder / "radio.json")
        self._registers[registers.RADIO] = (self._registers[registers.RADIO] + 1) % 256

    # The process. All of this with the lock.

    def _switch_on(self, cause: int) -> None:
        """Let the board's thread start the process: the kernel ends it with the thread that did."""
        self._registers[registers.STARTED] = 0
        self._cause = cause

    def _power_on(self, cause: int) -> None:
        """Start the process, from what the chip says first."""
        self._end_recording()
        if cause == _POWERED_ON:
            self._registers.clear()
        if self._started_at:
            self.reboots += 1
        if self._firmware == "other":
            self._line.say(_OTHER_FIRMWARE)
        if self._firmware != "micropython":
            self._started_at = time.monotonic()
            return
        self._line.forget_input()
        self._line.say(_CHIP_SAYS % _CHIP_CAUSES[cause])
        self._registers[registers.MODE] = 0
        self._registers.set_word(registers.WATCHDOG, 0)
        self._registers.fill(registers.OUTPUTS, bytes(40))
        self._start(cause)

    def _start(self, cause: int) -> None:
        for at in (registers.INTERRUPT, registers.BUSY, registers.STARTED, registers.DRAIN):
            self._registers[at] = 0
        self._registers[registers.CAUSE] = cause
        self._registers.set_word(registers.BAUD, 115200)
        self._interrupt_since = None
        run = command(
            self._micropython,
            self._all_heap,
            self.folder / "firmware.romfs",
            self.folder,
            self._size,
            self._romfs,
            self._version,
            self._taken,
        )
        with (self.folder / "stderr").open("ab") as said:
            self._process = subprocess.Popen(
                run,
                stdin=self._line.slave,
                stdout=self._line.slave,
                stderr=said,
                cwd=self.folder,
                env=environment(),
                start_new_session=True,
            )
        self._started_at = time.monotonic()

    def _kill(self) -> None:
        self._cause = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._end_recording()

    def _end_recording(self) -> None:
        """A recording that nobody finished gets the sizes in its header."""
        if self._speaker is None or not self._speaker.exists():
            return
        size = self._speaker.stat().st_size - _WAV_HEADER_BYTES
        if size > 0:
            with self._speaker.open("r+b") as file:
                for at, value in ((4, size + 36), (40, size)):
                    file.seek(at)
                    file.write(struct.pack("<I", value))

    def _look_at_process(self) -> None:
        """Start it again when it has ended."""
        status = self._process.poll() if self._process else None
        if self._process is None or status is None:
            return
        self._process = None
        lived_s = time.monotonic() - self._started_at
        self._line.take_in(self._registers.word(registers.BAUD))  # its last words
        if status == _POWER_CUT:
            self._registers.set_word(registers.POWER, 0)
            self._end_recording()
            return
        if status == _SOFT_RESET:
            self._end_recording()
            self._start(_SOFT)
            return
        known = {_RESET: _HARD, _DEEP_SLEEP: _DEEP, -signal.SIGALRM: _WATCHDOG}
        if status == -signal.SIGALRM:
            self.watchdogs += 1
        elif status not in known:
            self.crashes += 1
            self._crashed_in_a_row = self._crashed_in_a_row + 1 if lived_s < _CRASH_S else 1
            if self._crashed_in_a_row == _CRASHES:
                raise BoardError(f"the interpreter dies again and again (status {status}): {self.stderr()[-500:]}")
        self._power_on(known.get(status, _HARD))

    # The thread.

    def _nudge(self) -> None:
        os.write(self._woken, b".")

    def _run(self) -> None:
        try:
            while not self._ended:
                self._round()
        except BaseException as error:
            self.error = error
            with self._lock:
                self._kill()
                self._line.unplug()
            if not isinstance(error, BoardError):
                raise

    def _round(self) -> None:
        poll = select.poll()
        with self._lock:
            poll.register(self._wake, select.POLLIN)
            self._line.register(poll)
            soon = self._line.is_waiting() or self._interrupt_since is not None or self._registers[registers.DRAIN]
        if any(fd == self._wake for fd, _ in poll.poll(1000 * (_SOON_S if soon else _ROUND_S))):
            os.read(self._wake, 64)
        with self._lock:
            if self._ended:
                return
            if self._cause is not None:
                cause, self._cause = self._cause, None
                self._power_on(cause)
            self._look_at_process()
            if self._reboot_every_s and time.monotonic() - self._started_at > self._reboot_every_s:
                self._kill()
                self._power_on(_HARD)
            rate = self._registers.word(registers.BAUD) or 115200
            self._line.take_in(rate)
            self._drain()
            due = self._line.deliver(TO_HOST, rate)
            if self._process is None:
                self._line.ways[TO_BOARD].held.clear()
            elif self._registers[registers.STARTED]:
                due = self._deliver_to_board(rate) or due
            if due:
                self._line.faults.unplug_after.clear()
                self._line.unplug()
                if not self._unplug_powered:
                    self._kill()

    def _drain(self) -> None:
        """Tell a firmware that waits for it that all it sent has been read; the kernel hands it over a little later."""
        if not self._registers[registers.DRAIN] or not self._line.is_drained():
            self._drained = 0
            return
        self._drained += 1
        if self._drained == _DRAINED_ROUNDS:
            self._registers[registers.DRAIN] = 0

    def _deliver_to_board(self, rate: int) -> bool:
        """Pass bytes on. Ctrl-C becomes a signal where the program may be interrupted, like on a board.

        The interpreter raises KeyboardInterrupt wherever the signal meets it, also in the middle of C code, where a
        board waits for the next bytecode; in that of littlefs it would leave a file half-way. So it is sent while the
        program waits for something, or to one that runs on and on without touching the flash; only one that writes to
        it all the time is interrupted after a while between two operations.
        """
        at = self._line.next_interrupt()
        if at is None or not self._registers[registers.INTERRUPT]:
            self._interrupt_since = None
            return self._line.deliver(TO_BOARD, rate)
        if at:
            return self._line.deliver(TO_BOARD, rate, at)
        now = time.monotonic()
        operations = self._registers[registers.OPERATIONS]
        if self._interrupt_since is None:
            self._interrupt_since = self._flash_quiet_at = now
        if operations != self._flash_operations:
            self._flash_operations, self._flash_quiet_at = operations, now
        if self._registers[registers.BUSY]:
            return False
        quiet = now - self._flash_quiet_at > _QUIET_S
        if self._is_asleep() or quiet or now - self._interrupt_since > _RUNNING_S:
            self._interrupt()
        return False

    def _interrupt(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        if not self._registers[registers.BUSY]:
            self._process.send_signal(signal.SIGINT)
            self._line.drop(1)
            self._interrupt_since = None
        self._process.send_signal(signal.SIGCONT)

    def _is_asleep(self) -> bool:
        assert self._process is not None
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{self._process.pid}/stat").read_text()
            return text.rpartition(")")[2].split()[0] == "S"
        return False
