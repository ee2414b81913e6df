"""MicroPython's raw prompt on standard input and output, for a MicroPython whose port has none; runs on MicroPython."""

import sys

_GREETING = "raw REPL; CTRL-B to exit\r\n>"


def _say(text: str) -> None:
    sys.stdout.write(text)


def _serve() -> None:
    code = b""
    is_raw = False
    while byte := sys.stdin.buffer.read(1):
        if byte == b"\x01":
            is_raw, code = True, b""
            _say(_GREETING)
        elif byte == b"\x02":
            is_raw = False
            _say("\r\n>>> ")
        elif byte == b"\x03":
            code = b""
        elif byte == b"\x05" and is_raw:
            sys.stdin.buffer.read(2)
            _say("R\x00")  # raw paste is not done here
        elif byte == b"\x04" and is_raw:
            if code.strip():
                _run(code.decode())
            else:
                _say("OK\r\nMPY: soft reboot\r\n" + _GREETING)
            code = b""
        elif is_raw:
            code += byte
        elif byte == b"\r":
            if code.strip():
                _say("\r\nTraceback (most recent call last):\r\nNameError: name '" + code.decode() + "' isn't defined")
            _say("\r\n>>> ")
            code = b""
        elif byte != b"\n":
            code += byte


def _run(code: str) -> None:
    _say("OK")
    raised = ""
    try:
        exec(code, {})
    except Exception as error:
        raised = type(error).__name__ + ": " + str(error) + "\r\n"
    _say("\x04" + raised + "\x04>")


_serve()
