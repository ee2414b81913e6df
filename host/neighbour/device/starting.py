"""A board's terminal starts, and the neighbour sees it register; or what came of it instead, in a sentence."""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from ..store.schema import agreements
from .port import BAUD, DeviceError, GoneError, Line, prompt

if TYPE_CHECKING:
    from ..store.database import Store

__all__ = ["Watch", "start"]

_START_S = 20.0  # for a board to start and its terminal to say so
_WIFI_S = 15.0  # more, after an attempt to join has failed: the next one often does not
_REGISTER_S = 90.0  # for everything; a neighbour that does not answer is told after 32 s (RFC 3261, Timer F)
_BACK_S = 15.0  # for a port that vanishes when the board starts again
_NO_ANSWER = "no answer"  # as the terminal says it


class Watch:
    """What the board tells while it starts.

    Args:
        neighbour: host:port, to be named.
        ssid: likewise; "" without Wi-Fi.
    """

    def __init__(self, neighbour: str, ssid: str) -> None:
        self._neighbour = neighbour
        self._ssid = ssid
        self._wifi_error = ""
        self._until: float | None = None
        self.is_started = False
        self.last = ""

    def take(self, line: dict[str, Any] | str, now: float) -> None:
        """Take what it has told.

        Raises:
            DeviceError: it will come to nothing.
        """
        if isinstance(line, str):
            self.last = line.strip() or self.last
            return
        event = line.get("event")
        if event == "started":
            self.is_started = True
        elif event == "wifi":
            self._wifi_error = str(line.get("error") or "")
            self._until = now + _WIFI_S if self._wifi_error else None
        elif event == "unregistered":
            raise DeviceError(self._refused(str(line.get("reason"))))
        elif event == "error":
            reason = str(line.get("reason"))
            if reason.startswith("neighbour:"):
                raise DeviceError(f"{self._neighbour}: the board can't find this name: give an address by --neighbour")
            raise DeviceError(f"the board says: {reason}")

    def check(self, now: float) -> None:
        """See whether it has waited for too long.

        Raises:
            DeviceError: it has.
        """
        if self._until is not None and now > self._until:
            raise DeviceError(f"Wi-Fi {self._ssid}: {self._wifi_error}: run it again, with the right name and password")

    def _refused(self, reason: str) -> str:
        host = self._neighbour.rpartition(":")[0]
        if reason == _NO_ANSWER:
            own = " (an address that only this computer itself has)" if host.startswith(("127.", "localhost")) else ""
            return (
                f"the neighbour {self._neighbour}{own} does not answer the board: does `wisp serve` run, may UDP pass "
                "its firewall, and can the board reach that address? --neighbour names another"
            )
        if reason in ("401", "403", "404"):
            return (
                f"the neighbour refuses the board ({reason}): its credentials are not this neighbour's, or the "
                "neighbour's clock is wrong; does `wisp serve` run with the same configuration?"
            )
        return f"the board could not register: {reason}"


async def start(store: "Store", port: str, user: str, values: dict[str, Any]) -> float:
    """Start the terminal, and wait until the neighbour has registered it.

    Args:
        store: the neighbour's; it is open.
        port: the board's.
        user: whose phone it is.
        values: the board's configuration.

    Returns:
        How many seconds that took.

    Raises:
        DeviceError: it has not; the text says why.
    """
    known = set(await _agreements(store, user))
    serial = values.get("serial")
    wifi = values.get("wifi") or {}
    watch = Watch(values["neighbour"], wifi.get("ssid", ""))
    await asyncio.to_thread(_restart, port)
    begun = time.monotonic()
    line: Line | None = None
    try:
        while True:
            now = time.monotonic()
            if serial:  # the neighbour wants the port for itself
                await asyncio.sleep(0.25)
            elif line is None:
                line = await asyncio.to_thread(_back, port)
            else:
                try:
                    for one in await asyncio.to_thread(line.lines, 0.25):
                        watch.take(one, now)
                except GoneError:
                    if watch.is_started:
                        raise
                    line.close()  # a chip's own USB goes, and comes back, a moment after the chip was started again
                    line = None
            if set(await _agreements(store, user)) - known:
                return time.monotonic() - begun
            watch.check(now)
            if now - begun > _START_S and not watch.is_started and not serial:
                raise DeviceError(f"{port}: the terminal does not start: {watch.last or 'the board is silent'}")
            if now - begun > _REGISTER_S:
                raise DeviceError(_unseen(port, bool(serial)))
    finally:
        if line is not None:
            line.close()


def _unseen(port: str, serial: bool) -> str:
    if serial:
        return f"the neighbour has not seen the board: does `wisp serve` run, and has it {port}? Its log says so"
    return "the neighbour has not seen the board register: does `wisp serve` run with this configuration?"


async def _agreements(store: "Store", user: str) -> list[int]:
    return [row.spi for row in await store.read(select(agreements.c.spi).where(agreements.c.user == user))]


def _restart(port: str) -> None:
    with prompt(port) as session:
        session.restart()


def _back(port: str) -> Line:
    """The console of a board that has just been started: its port may be gone for a moment."""
    until = time.monotonic() + _BACK_S
    while True:
        try:
            return Line(port, BAUD)
        except GoneError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
