"""Start an emulated board, and say where its port is. Ctrl-C ends it."""

import argparse
import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

from debian import UnavailableError
from find_micropython import find

from .board import BoardError, EmulatedBoard

__all__ = ["main"]

_EXPLANATION = """
mpremote and `wisp device` work on the port as on a real board's. Its network is this computer's: the neighbour is
reached at the address where it listens, and the board has the one of --address.
"""
_POLL_S = 0.2
_SIP_PORT = 5060


def _network(text: str) -> tuple[str, str]:
    """``NAME`` or ``NAME:VARIABLE``: a Wi-Fi network, and the environment variable that has its password."""
    name, _, variable = text.partition(":")
    if not name:
        raise argparse.ArgumentTypeError("NAME or NAME:VARIABLE wanted")
    if variable and variable not in os.environ:
        raise argparse.ArgumentTypeError(f"{variable} is not set: it is to have the password of {name}")
    return name, os.environ[variable] if variable else ""


def _kibibytes(text: str) -> int:
    """A size, in KiB."""
    if not text.isdigit() or int(text) % 4:
        raise argparse.ArgumentTypeError("a multiple of 4 wanted")
    return 1024 * int(text)


def _free_address() -> str:
    """An address of loopback on whose SIP port nobody listens."""
    for last in range(2, 255):
        address = f"127.0.0.{last}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, contextlib.suppress(OSError):
            one.bind((address, _SIP_PORT))
            return address
    raise BoardError("no free address of 127.0.0.2 to 127.0.0.254: choose one by --address")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="board", description=__doc__, epilog=_EXPLANATION)
    parser.add_argument(
        "--flash",
        type=Path,
        metavar="FILE",
        help="what keeps its file system (and FILE.romfs its ROMFS); made if needed",
    )
    parser.add_argument("--size", type=_kibibytes, metavar="KIB", help="of its file system (2048)")
    parser.add_argument("--romfs", type=_kibibytes, default=0, metavar="KIB", help="of a ROMFS partition (none)")
    parser.add_argument("--heap", type=_kibibytes, metavar="KIB", help="what a program finds free (112)")
    parser.add_argument(
        "--wifi", type=_network, action="append", default=[], metavar="NAME[:VARIABLE]",
        help="a network, and the environment variable that has its password",
    )  # fmt: skip
    parser.add_argument("--address", help="what the network gives it (the first of 127.0.0.2 and up that is free)")
    parser.add_argument("--microphone", type=Path, metavar="WAV", help="what it hears: 8000 Hz, 16 bits, mono")
    parser.add_argument("--speaker", type=Path, metavar="WAV", help="where what it plays is written")
    parser.add_argument("--baud", type=int, help="the pace of its line, 115200 for example (as fast as can be)")
    parser.add_argument("--usb", action="store_true", help="its line is the chip's own USB: speeds do not matter")
    parser.add_argument("--link", type=Path, metavar="PATH", help="a second name for the port")
    parser.add_argument("--damage", type=float, default=0.0, metavar="PART", help="of the bytes on its line, 0.01 say")
    parser.add_argument("--micropython", help="the interpreter (any that is found; 32 bits preferred)")
    return parser.parse_args()


def main() -> int:
    """The command line."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="board-") as name:
        folder = Path(name)
        settings = {} if options.heap is None else {"heap": options.heap}
        if options.size is not None:
            settings["size"] = options.size
        if options.flash is not None:
            (folder / "flash").symlink_to(options.flash.resolve())
            if options.romfs:
                (folder / "rom").symlink_to(options.flash.resolve().with_name(options.flash.name + ".romfs"))
            if options.flash.exists() and options.size is None:
                settings["size"] = options.flash.stat().st_size
        try:
            board = EmulatedBoard(
                folder,
                options.micropython or find(),
                baud=options.baud,
                usb=options.usb,
                romfs=options.romfs,
                access_points=dict(options.wifi),
                address=options.address or _free_address(),
                microphone=options.microphone,
                speaker=options.speaker,
                **settings,
            )
            with board:
                if options.damage:
                    board.fault(damage=options.damage)
                return _serve(board, options.link)
        except (BoardError, UnavailableError) as error:
            print(f"board: {error}", file=sys.stderr)
            return 1


def _serve(board: EmulatedBoard, link: Path | None) -> int:
    """Say where it is, and wait until it ends."""
    if link is not None:
        if link.is_symlink():
            link.unlink()
        link.symlink_to(board.port)
    try:
        port = link or board.port
        print(f"The board is at {port} (Ctrl-C ends it). Try: mpremote connect {port} repl", flush=True)
        reboots = 0
        while board.error is None:
            time.sleep(_POLL_S)
            if board.reboots != reboots:
                reboots = board.reboots
                print(f"The board has started again ({reboots}).", flush=True)
        raise BoardError(str(board.error))
    finally:
        if link is not None:
            link.unlink(missing_ok=True)


if __name__ == "__main__":
    # Also where it was started in the background, by a shell that had Ctrl-C ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
