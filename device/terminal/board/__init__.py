"""The hardware, and nothing else knows it: what a board has to offer.

A board is a class ``Board(settings)``, settings being the configuration's "board" object, with

    address()           our IPv4 address as text, or None where there is no network yet
    wlan(settings)      a `terminal.wlan.Wlan`, or None on a board whose network is always there
    inputs()            objects for ``select.poll`` that wake the main loop
    console             a `terminal.board.console.Console`
    commands()          what it has read since the last call, and buttons pressed
    show(state)         tell the person by a lamp: one of the phone's states; and do with less power where there is no
                        call
    watch(seconds)      begin to watch the program; returns what to call so often at least, or else the board starts
                        anew; None where there is nothing that watches. 0 seconds end it
    audio               an object with start(), stop(), read(pcm), write(pcm): 20 ms of 16-bit little-endian samples
                        at 8000 Hz each time

`open_board` picks the one that fits the machine.
"""

__all__ = ["open_board"]


def open_board(settings):
    """The board this program runs on.

    Args:
        settings: the configuration's "board" object.

    Raises:
        terminal.settings.ConfigError: the board has no such setting.
    """
    try:
        from machine import Pin  # noqa: F401  the unix port has a machine module, but no pins
    except ImportError:
        from .emulator import Board
    else:
        from .esp32 import Board
    return Board(settings)
