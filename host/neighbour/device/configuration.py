"""A terminal's configuration, ``wisp.json``: what an account gives it, and what the board keeps."""

import json
from typing import TYPE_CHECKING, Any

from ..transport.flow import Listener

if TYPE_CHECKING:
    from ..config import Config
    from ..store.accounts import Account

__all__ = ["SettingError", "change", "merged", "of_account", "written"]

_MAX_EXPIRES_S = 600
_OURS = ("user", "domain", "ha1", "neighbour", "auth_user")  # what no option changes
_SECRETS = ("wifi", "wifi.password")
_WAYS = ("wifi", "serial")


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
    values = {name: value for name, value in present.items() if name not in _OURS}
    values = {**{name: present[name] for name in _OURS if name in present and name in account}, **values}
    if way:
        values = {name: value for name, value in values.items() if name not in _WAYS}
    return {**values, **account, **way}


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
    *path, last = name.split(".")
    inner = values
    for one in path:
        inner = inner.setdefault(one, {})
        if not isinstance(inner, dict):
            raise SettingError(f"{name}: {one} has no settings of its own")
    if not text:
        inner.pop(last, None)
        return
    try:
        inner[last] = json.loads(text)
    except ValueError:
        inner[last] = text


def written(values: dict[str, Any]) -> bytes:
    """A configuration as a file."""
    return (json.dumps(values, indent=2) + "\n").encode()
