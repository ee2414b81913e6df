"""A terminal's configuration as a board gets it, and what of a board's own stays."""

import json

import pytest

from neighbour.device.configuration import SettingError, change, merged, written

ACCOUNT = {"user": "alice", "domain": "a.example", "ha1": "1" * 64, "neighbour": "192.0.2.1:5060", "expires_s": 600}
WIFI = {"wifi": {"ssid": "home", "password": "secret"}}
SERIAL = {"serial": {"uart": 0, "baud": 921600}}


def test_from_nothing() -> None:
    assert merged({}, ACCOUNT, WIFI) == {**ACCOUNT, **WIFI}


def test_what_belongs_to_the_board_stays() -> None:
    present = {**ACCOUNT, **WIFI, "board": {"led": 5}, "text": True}
    assert merged(present, {**ACCOUNT, "ha1": "2" * 64}, {}) == {**present, "ha1": "2" * 64}


def test_what_the_program_does_not_know_goes() -> None:
    """It would not start with it."""
    present = {**ACCOUNT, **WIFI, "txt": True, "board": {"led": 5, "lamp": 2}}
    assert merged(present, ACCOUNT, {}) == {**ACCOUNT, **WIFI, "board": {"led": 5}}


def test_a_change_moves_nothing_else() -> None:
    present = {**ACCOUNT, **WIFI, "text": True}
    assert list(merged(present, ACCOUNT, {"wifi": {"ssid": "other", "password": ""}})) == list(present)


def test_the_same_again_is_the_same_file() -> None:
    present = json.loads(written(merged({"board": {}, **ACCOUNT}, ACCOUNT, WIFI)))
    assert written(merged(present, ACCOUNT, WIFI)) == written(present)
    assert written(merged(present, ACCOUNT, {})) == written(present)


def test_another_account_takes_nothing_of_the_first() -> None:
    present = {**ACCOUNT, "auth_user": "x", "ring": False, **WIFI}
    other = {**ACCOUNT, "user": "bob"}
    assert merged(present, other, {}) == {**other, "ring": False, **WIFI}


def test_one_way_to_the_neighbour() -> None:
    assert merged({**ACCOUNT, **WIFI}, ACCOUNT, SERIAL) == {**ACCOUNT, **SERIAL}
    assert merged({**ACCOUNT, **SERIAL}, ACCOUNT, WIFI) == {**ACCOUNT, **WIFI}
    assert merged({**ACCOUNT, **WIFI, "address": "192.0.2.9", "sip_port": 5070}, ACCOUNT, SERIAL) == {
        **ACCOUNT,
        **SERIAL,
    }


@pytest.mark.parametrize(
    ("setting", "result"),
    [
        ("text=true", {"text": True, "board": {"led": 2}}),
        ("board.led=5", {"board": {"led": 5}}),
        ("board.mic_sck=32", {"board": {"led": 2, "mic_sck": 32}}),
        ("board.led=", {"board": {}}),
        ("setup.level=light", {"board": {"led": 2}, "setup": {"level": "light"}}),
        ('codecs=["PCMA"]', {"board": {"led": 2}, "codecs": ["PCMA"]}),
        ("speed_dial=bob", {"board": {"led": 2}, "speed_dial": "bob"}),
        ("display_name=a=b", {"board": {"led": 2}, "display_name": "a=b"}),
    ],
)
def test_settings(setting: str, result: dict) -> None:
    values = {"board": {"led": 2}}
    change(values, setting)
    assert values == result


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("text", "NAME=VALUE is wanted"),
        ("=1", "NAME=VALUE is wanted"),
        ("ha1=" + "3" * 64, "comes from the account"),
        ("neighbour=x:1", "comes from the account"),
        ("wifi.password=hunter2", "others see a command line"),
        ('wifi={"ssid": "home", "password": "hunter2"}', "others see a command line"),
        ("board.led.x=1", "board.led has no settings of its own"),
        ("txt=true", "txt: there is no such setting: is text meant[?]"),
        ("board.lamp=2", "board.lamp: there is no such setting"),
        ("text=yes", "text: true or false is wanted"),
        ("text=1", "text: true or false is wanted"),
        ("expires_s=soon", "expires_s: a number is wanted"),
        ("expires_s=true", "expires_s: a number is wanted"),
        ('board={"lamp": 2}', "board.lamp: there is no such setting"),
    ],
)
def test_refused(setting: str, reason: str) -> None:
    values = {"board": {"led": 2}}
    with pytest.raises(SettingError, match=reason) as error:
        change(values, setting)
    assert "hunter2" not in str(error.value)
    assert "3333" not in str(error.value)
    assert values == {"board": {"led": 2}}
