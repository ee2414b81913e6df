"""What a board tells while it starts, and which of it means that it will come to nothing."""

import pytest

from neighbour.device.port import DeviceError
from neighbour.device.starting import Watch

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
