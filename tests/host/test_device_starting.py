"""What a board tells while it starts, and which of it means that it will come to nothing."""

import asyncio
from typing import Any, cast

import pytest

from neighbour.device import starting
from neighbour.device.port import DeviceError, GoneError, Line
from neighbour.device.starting import Watch, start
from neighbour.store.database import Store

STARTED = {"event": "started", "aor": "sip:alice@a.example", "heap_used": 1}
JOINED = {"event": "wifi", "ssid": "home", "address": "192.0.2.9"}


def watch() -> Watch:
    return Watch("192.0.2.1:5060", "home")


def test_all_is_well() -> None:
    one = watch()
    for line in ("ets Jun  8 2016", STARTED, JOINED, {"event": "registered", "aor": "sip:alice@a.example"}):
        one.take(line, 0.0)
    one.check(1000.0)
    assert one.is_started
    assert one.last == "ets Jun  8 2016"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"event": "unregistered", "reason": "no answer"}, "192.0.2.1:5060 does not answer the board"),
        ({"event": "unregistered", "reason": "401"}, r"refuses the board \(401\): its credentials"),
        ({"event": "unregistered", "reason": "rspauth"}, "could not register: rspauth"),
        ({"event": "error", "reason": "neighbour: name not found"}, "can't find this name"),
        ({"event": "error", "reason": "wifi.pasword: unknown"}, "the board says: wifi.pasword: unknown"),
    ],
)
def test_it_comes_to_nothing(event: dict, reason: str) -> None:
    with pytest.raises(DeviceError, match=reason):
        watch().take(event, 0.0)


def test_an_address_that_no_board_can_reach_is_named() -> None:
    with pytest.raises(DeviceError, match="only this computer itself has"):
        Watch("127.0.0.1:5060", "").take({"event": "unregistered", "reason": "no answer"}, 0.0)


def test_a_second_attempt_to_join_may_succeed() -> None:
    one = watch()
    one.take({"event": "wifi", "ssid": "home", "error": "handshake timed out"}, 0.0)
    one.check(14.0)
    one.take(JOINED, 14.5)
    one.check(1000.0)


def test_wifi_that_refuses() -> None:
    one = watch()
    one.take({"event": "wifi", "ssid": "home", "error": "wrong password"}, 0.0)
    with pytest.raises(DeviceError, match="Wi-Fi home: wrong password: run it again"):
        one.check(16.0)


class _Console:
    """The console of a board.

    Args:
        said: what each reading gives; None where the board is gone by then.
    """

    def __init__(self, *said: dict[str, Any] | None) -> None:
        self._said = list(said)
        self.is_closed = False

    def lines(self, wait_s: float) -> list[dict[str, Any]]:
        one = self._said.pop(0)
        if one is None:
            raise GoneError("/dev/ttyACM0: the board is gone")
        return [one]

    def close(self) -> None:
        self.is_closed = True


def _start(monkeypatch: pytest.MonkeyPatch, *consoles: _Console) -> None:
    """Start a board whose neighbour sees it when it has said all."""
    left = list(consoles)

    async def agreements(_store: Store, _user: str) -> list[int]:
        return [7] if not left and not consoles[-1]._said else []

    monkeypatch.setattr(starting, "_restart", lambda _port: None)
    monkeypatch.setattr(starting, "_back", lambda _port: cast("Line", left.pop(0)))
    monkeypatch.setattr(starting, "_agreements", agreements)
    asyncio.run(start(cast("Store", None), "/dev/ttyACM0", "alice", {"neighbour": "192.0.2.1:5060"}))


def test_usb_that_goes_when_the_chip_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be had once more just before."""
    consoles = _Console(None), _Console(STARTED, JOINED)
    _start(monkeypatch, *consoles)
    assert all(one.is_closed for one in consoles)


def test_unplugged_once_it_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GoneError, match="the board is gone"):
        _start(monkeypatch, _Console(STARTED, None))
