"""The prompt, for people and for programs, and what runs before it.

The raw REPL is the one of MicroPython's documentation ("The MicroPython REPL", "Raw REPL" and "Raw-paste mode"), flow
control included. For people: a line is echoed and run; what begins a block goes on until an empty line.
"""

import io
import sys

from micropython import const

from . import host, line

_MODE = const(3)  # registers
_STARTED = const(5)
_RAW = const(1)
_SOFT_RESET = const(10)  # exit status

_CTRL_A = const(1)
_CTRL_B = const(2)
_CTRL_C = const(3)
_CTRL_D = const(4)
_CTRL_E = const(5)
_BACKSPACE = const(8)
_DELETE = const(127)

_WINDOW = const(128)
_SOURCE_BYTES = const(262144)  # of the longest program at a prompt: it lies outside the heap

_INTERRUPTED = b"\n"
_RAW_BANNER = b"raw REPL; CTRL-B to exit\n"


class _Trace(io.IOBase):
    """Prints what is written to it but for those lines of a traceback that tell of the firmware."""

    def __init__(self):
        self._line = b""

    def write(self, data):
        self._line += data
        if self._line[-1:] == b"\n":
            if b'File "firmware/' not in self._line:
                line.put(self._line.replace(b'"<string>"', b'"<stdin>"'))
            self._line = b""
        return len(data)


def _show(error):
    try:
        sys.print_exception(error, _Trace())
    except MemoryError:
        sys.print_exception(error)


class Prompt:
    """What a person or mpremote talks to.

    Args:
        names: the globals of what is run.
        banner: what a person sees first.
        source: the path of a file that holds what is to be run.
    """

    def __init__(self, names, banner, source):
        self._names = names
        self._banner = banner
        self._source = host.mapped(source, _SOURCE_BYTES)
        self._size = 0

    def start(self):
        """Run boot.py and main.py, then what comes along the line; never returns."""
        try:
            line.set_up(_CTRL_C)
            host.registers[_STARTED] = 1
            self._file("boot.py", _CTRL_C)
            if host.registers[_MODE] != _RAW:
                self._file("main.py")
        except KeyboardInterrupt:
            pass
        while True:
            try:
                if host.registers[_MODE] == _RAW:
                    self._raw()
                else:
                    self._friendly()
            except KeyboardInterrupt:
                line.put(_INTERRUPTED)

    def _file(self, name, interrupted_by=0):
        """Run a file, if it is there; between two of them Ctrl-C is not to be lost."""
        try:
            open(name).close()
        except OSError:
            return
        self._run(execfile, name, self._names, interrupted_by=interrupted_by)  # noqa: F821  a builtin of the unix port

    def _run(self, function, *arguments, end=b"", interrupted_by=0):
        """Run a program with all that may come of it."""
        error = None
        line.interrupt(_CTRL_C)
        try:
            function(*arguments)
        except BaseException as caught:
            error = caught
        line.set_up(interrupted_by)
        line.put(end)
        if isinstance(error, SystemExit):
            line.put(end)
            self._soft_reset()
        if error is not None:
            _show(error)
        line.put(end)

    def _soft_reset(self):
        line.put(b"MPY: soft reboot\n")
        host.leave(_SOFT_RESET)

    def _add(self, byte):
        if self._size < _SOURCE_BYTES:
            self._source[self._size] = byte
            self._size += 1

    def _text(self):
        return memoryview(self._source)[: self._size]

    # For programs.

    def _raw(self):
        line.set_up()
        line.put(_RAW_BANNER)
        while True:
            line.set_up()
            line.put(b">")
            self._size = 0
            while True:
                byte = line.get()
                if byte == _CTRL_A:
                    if self._size == 2 and self._source[0] == _CTRL_E:
                        if self._source[1] == 65:  # "A"
                            self._paste_raw()
                        else:
                            line.put(b"R\x00")
                        break
                    line.put(_RAW_BANNER)
                    break
                if byte == _CTRL_B:
                    host.registers[_MODE] = 0
                    line.put(b"\n")
                    return
                if byte == _CTRL_C:
                    self._size = 0
                elif byte == _CTRL_D:
                    if not self._size:
                        line.put(b"\n")
                        self._soft_reset()
                    line.put(b"OK")
                    self._run(exec, self._text(), self._names, end=b"\x04")
                    break
                else:
                    self._add(byte)

    def _paste_raw(self):
        """Take a program as fast as we read it: a window is free as soon as one has been read."""
        line.put(b"R\x01%c\x00\x01" % _WINDOW)
        self._size = 0
        left = _WINDOW
        while True:
            byte = line.get()
            if byte == _CTRL_C:
                line.put(b"\x04\x04")
                _show(KeyboardInterrupt())
                line.put(b"\x04")
                return
            if byte == _CTRL_D:
                break
            self._add(byte)
            left -= 1
            if not left:
                line.put(b"\x01")
                left = _WINDOW
        line.put(b"\x04")
        self._run(exec, self._text(), self._names, end=b"\x04")

    # For people.

    def _friendly(self):
        line.set_up()
        line.put(self._banner)
        while True:
            text = self._line(b">>> ")
            if text is None:
                return
            if text.rstrip()[-1:] in (":", "\\") or text[:1] == "@" or _is_open(text):
                more = "more"
                while more.strip():
                    more = self._line(b"... ")
                    if more is None:
                        return
                    text += "\n" + more
                    if _is_open(text):
                        more = "more"
            if text.strip():
                self._run(_single, text, self._names)

    def _line(self, prompt):
        """A line as text; None where the raw REPL has been asked for."""
        line.set_up()
        line.put(prompt)
        self._size = 0
        while True:
            byte = line.get()
            if byte == _CTRL_A:
                host.registers[_MODE] = _RAW
                line.put(b"\n")
                return None
            if byte == _CTRL_B:
                line.put(b"\n")
                return None
            if byte == _CTRL_C:
                line.put(b"\n")
                return ""
            if byte == _CTRL_D and not self._size:
                line.put(b"\n")
                self._soft_reset()
            if byte == _CTRL_E and not self._size:
                self._paste()
                return ""
            if byte == 13 or byte == 10:
                line.put(b"\n")
                try:
                    return str(self._text(), "utf-8")
                except UnicodeError:
                    return ""
            if byte == _BACKSPACE or byte == _DELETE:
                if self._size:
                    self._size -= 1
                    line.put(b"\b \b")
            elif byte >= 32 or byte == 9:
                self._add(byte)
                line.put(bytes([byte]))

    def _paste(self):
        line.put(b"\npaste mode; Ctrl-C to cancel, Ctrl-D to finish\n=== ")
        while True:
            byte = line.get()
            if byte == _CTRL_C:
                line.put(b"\n")
                return
            if byte == _CTRL_D:
                break
            self._add(10 if byte == 13 else byte)
            line.put(b"\n=== " if byte == 13 else bytes([byte]))
        line.put(b"\n")
        self._run(exec, self._text(), self._names)


def _is_open(text):
    """Whether brackets are open. Those in a string count too: it is a prompt for trying something."""
    return sum(text.count(one) for one in "([{") > sum(text.count(one) for one in ")]}")


def _single(text, names):
    exec(compile(text, "<stdin>", "single"), names)
