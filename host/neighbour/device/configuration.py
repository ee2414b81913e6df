"""A terminal's configuration, ``wisp.json``: what an account gives it, and what the board keeps."""

import ast
import difflib
import functools
import json
from typing import TYPE_CHECKING, Any

from ..transport.flow import Listener
from .sources import module_path

if TYPE_CHECKING:
    from ..config import Config
    from ..store.accounts import Account

__all__ = ["SettingError", "change", "merged", "of_account", "written"]

_MAX_EXPIRES_S = 600
_OURS = ("user", "domain", "ha1", "neighbour", "auth_user")  # what no option changes
_SECRETS = ("wifi", "wifi.password")
_WAYS = ("wifi", "serial")
_BY_ADDRESS = ("address", "sip_port", "rtp_port")  # of a terminal that is reached by IP
# The tables of the terminal's own program that say what there is to set, of which kind, and below which key.
_TABLES = {
    "": ("terminal.config", "_KEYS"),
    "wifi": ("terminal.config", "_WIFI"),
    "serial": ("terminal.config", "_SERIAL"),
    "setup": ("terminal.config", "_SETUP"),
    "board": ("terminal.board.esp32", "_SETTINGS"),
}
_KINDS: dict[str, tuple[type, str]] = {
    "str": (str, "text"),
    "int": (int, "a number"),
    "bool": (bool, "true or false"),
    "list": (list, "a list, like [1, 2],"),
    "dict": (dict, 'an object, like {"name": 1},'),
}


class SettingError(ValueError):
    """A setting can't be made so; the text says why."""


def of_account(config: "Config", account: "Account", neighbour: str = "") -> dict[str, Any]:
    """What a terminal needs to be an account's.

    Args:
        config: the neighbour's.
        account: a terminal's.
        neighbour: where the terminal finds the neighbour, host:port; "" for the first UDP listener.
    """
    where = neighbour
    if not where:
        where = next((Listener(one, config.domain).public for one in config.listen if one.transport == "udp"), "")
        if where == config.domain:
            where += ":5060"  # SIP leaves that out, a terminal wants it
    values = {
        "user": account.user,
        "domain": config.domain,
        "ha1": account.ha1_sha256,
        "neighbour": where,
        "expires_s": min(_MAX_EXPIRES_S, config.registrar.max_expires_s),
    }
    if account.auth_user != account.user:
        values["auth_user"] = account.auth_user
    return values


def merged(present: dict[str, Any], account: dict[str, Any], way: dict[str, Any]) -> dict[str, Any]:
    """A configuration that replaces a board's: what belongs to the account is new, everything else stays.

    Args:
        present: the one that is there; may be empty.
        account: of `of_account`.
        way: ``{"wifi": {...}}``, ``{"serial": {...}}``, or nothing where that stays.
    """
    gone = {name for name in _OURS if name not in account}
    if way:
        gone |= set(_WAYS) - set(way)
    if "serial" in way:
        gone |= set(_BY_ADDRESS)
    # What this program does not know it would not start with.
    values = {name: value for name, value in present.items() if name in _known()[""] and name not in gone}
    for name in _TABLES:
        if isinstance(values.get(name), dict):
            values[name] = {key: value for key, value in values[name].items() if key in _known()[name]}
    return {**values, **account, **way}


@functools.cache
def _known() -> dict[str, dict[str, str]]:
    """What can be set: by the key that it is below, its names and their types."""
    found = {}
    for below, (module, table) in _TABLES.items():
        for node in ast.parse(module_path(module).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == table:
                assert isinstance(node.value, ast.Dict)
                pairs = zip(node.value.keys, node.value.values, strict=True)
                found[below] = {ast.literal_eval(key): ast.unparse(value.elts[0]) for key, value in pairs}  # type: ignore[arg-type,attr-defined]
    return found


def _kind_of(name: str) -> str:
    """The type of a setting.

    Raises:
        SettingError: there is no such setting.
    """
    below, _, last = name.rpartition(".")
    if below not in _known():
        raise SettingError(f"{name}: {below} has no settings of its own")
    if last not in _known()[below]:
        near = difflib.get_close_matches(last, _known()[below], 1)
        meant = f": is {below + '.' if below else ''}{near[0]} meant?" if near else ""
        raise SettingError(f"{name}: there is no such setting{meant}")
    return _known()[below][last]


def change(values: dict[str, Any], setting: str) -> None:
    """Change one setting.

    Args:
        values: the configuration; it is changed.
        setting: ``name=value`` or ``board.led=2``; the value is JSON, or text where it is none. Without a value the
            setting goes.

    Raises:
        SettingError: it can't be made.
    """
    name, equal, text = setting.partition("=")
    if not equal or not name:
        raise SettingError(f"{setting}: NAME=VALUE is wanted, like text=true or board.led=2")
    if name in _OURS:
        raise SettingError(f"{name}: comes from the account")
    if name in _SECRETS:
        raise SettingError(f"{name}: is asked for, or comes from the environment: others see a command line")
    kind, words = _KINDS[_kind_of(name)]
    value: Any = text
    if kind is not str or text[:1] == '"':
        try:
            value = json.loads(text or "null")
        except ValueError:
            value = None if kind is not str else text
    if text and type(value) is not kind:
        raise SettingError(f"{name}: {words} is wanted")
    below, _, last = name.rpartition(".")
    inner = values.setdefault(below, {}) if below else values
    if not text:
        inner.pop(last, None)
        return
    for key in value if kind is dict else ():
        _kind_of(f"{name}.{key}")
    inner[last] = value


def written(values: dict[str, Any]) -> bytes:
    """A configuration as a file."""
    return (json.dumps(values, indent=2) + "\n").encode()
