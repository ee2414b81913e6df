"""What runs first: makes a board of the unix port, and starts its prompt.

`begin` is called with what the part on CPython has laid out in a folder of the computer's.
"""

import gc
import os
import sys

import micropython
import vfs

from . import chip, flash, host, line, radio, repl, sound


class _Over:
    """A module of the interpreter's with names of ours put over its own."""

    def __init__(self, module):
        self._module = module

    def __getattr__(self, name):
        return getattr(self._module, name)


class _Implementation:
    """``sys.implementation`` where the board calls itself an older one than it is."""

    name = "micropython"


def _put_over(module):
    over = sys.modules[module.__name__] = _Over(module)
    return over


def _hide(our_gc, taken):
    """``gc`` without us: what it says is allocated is what would be on a board. Most is as quick as it is there."""
    for name in ("collect", "mem_free", "threshold", "enable", "disable", "isenabled"):
        setattr(our_gc, name, getattr(gc, name))
    our_gc.mem_alloc = lambda: max(gc.mem_alloc() - taken, 0)


def begin(names, folder, size, rom_size, version, taken, measure):
    """Make the board and run its prompt.

    Args:
        names: the globals of what will run.
        folder: of flash, registers and what else the other side has laid out.
        size: of flash, in bytes.
        rom_size: of the ROMFS partition, 0 for none.
        version: what the board calls itself: of MicroPython, of its .mpy files, and the chip, with commas between
            them; nothing where it is what it is.
        taken: bytes of the heap that all this takes.
        measure: whether only to call the probe among those names when all of it is at work.
    """
    host.open_registers(folder + "/registers")
    sound.folder = radio.folder = vfs.VfsPosix(folder)
    with sound.folder.open("/sound.txt", "r") as file:
        sound.files[:] = file.read().split("\n")[:2]
    flash.mount(folder + "/flash", size)
    path = sys.path
    path[:] = ["", ".frozen", "/lib"]
    sys.argv[:] = []
    os.chdir("/")

    our_sys = _put_over(sys)
    our_sys.platform = "esp32"
    our_sys.stdout = line.Stdout()
    our_vfs = _put_over(vfs)
    if rom_size:
        rom = flash.Rom(folder + "/rom", rom_size)
        our_vfs.rom_ioctl = rom.ioctl
        rom.mount(path)
    _put_over(micropython).kbd_intr = line.interrupt
    real = sys.implementation
    numbers, mpy, name = (version + ",,").split(",")[:3]
    said = _Implementation()
    said.version = tuple([int(one) for one in numbers.split(".")]) if numbers else real.version[:3]
    said._machine = "Emulated board with " + (name or "ESP32")
    said._build = "EMULATED"
    said._mpy = real._mpy & ~0xFF | int(mpy) if mpy else real._mpy
    our_sys.implementation = said
    release = "%d.%d.%d" % said.version[:3]
    our_sys.version = "3.4.0; MicroPython v%s" % release
    _hide(_put_over(gc), taken)
    our_os = _put_over(os)
    our_os.uname = lambda: ("esp32", "esp32", release, "v" + release, said._machine)
    sys.modules["machine"] = chip
    sys.modules["network"] = radio
    for name in list(sys.modules):
        if name.startswith("firmware"):
            del sys.modules[name]
    banner = 'MicroPython v%s; %s\nType "help()" for more information.\n' % (release, said._machine)
    prompt = repl.Prompt(names, banner.encode(), folder + "/source")
    line.set_up()
    chip.feed_watchdog()
    if measure:
        station = radio.WLAN()
        station.active(True)
        station.connect("nowhere")
        while station.status() == radio.STAT_CONNECTING:
            pass
        pins = {"sck": None, "ws": None, "sd": None, "bits": 16, "format": 0, "rate": 8000, "ibuf": 4000}
        units = [sound.I2S(0, mode=sound.I2S.RX, **pins), sound.I2S(1, mode=sound.I2S.TX, **pins)]
        del pins
        names["probe"](units)
        host.leave(0)
    prompt.start()
