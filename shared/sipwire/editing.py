"""What a proxy does to messages on their way (RFC 3261 section 16): the Via on top, lists shortened from the front."""

from .grammar import split_list, unfold
from .headers import Via
from .message import Message

__all__ = ["remove", "remove_first", "set_via", "set_via_param", "tokens"]


def tokens(message: Message, key: str) -> "list[bytes]":
    """The elements under ``key`` in lower case, empty ones left out: Require, Supported, Allow and their like."""
    return [token.lower() for value in message.get_all(key) for token in split_list(value, b",") if token]


def remove(message: Message, key: str) -> None:
    """Remove every header line under ``key``."""
    message.forget(key)
    message.fields = [field for field in message.fields if field[0] != key]


def remove_first(message: Message, key: str) -> None:
    """Remove the first element under ``key``, on a line of its own or at the head of a list (Via, Route)."""
    message.forget(key)
    for i, (name, line) in enumerate(message.fields):
        if name == key:
            rest = _elements(line)[1:] if b"," in line else None
            if rest:
                message.fields[i] = (name, line[: line.find(b":") + 1] + b" " + b", ".join(rest))
            else:
                del message.fields[i]
            return


def set_via(message: Message, via: Via) -> None:
    """Write the topmost Via anew, the others untouched."""
    message.forget("via", via)
    for i, (key, line) in enumerate(message.fields):
        if key == "via":
            rest = b""
            if b"," in line:
                rest = b"".join([b", " + element for element in _elements(line)[1:]])
            message.fields[i] = (key, line[: line.find(b":") + 1] + b" " + via.serialize() + rest)
            return


def set_via_param(via: Via, name: bytes, value: bytes) -> None:
    """Set a parameter in its place, or append it; ``name`` is in lower case."""
    for i, (key, _) in enumerate(via.params):
        if key.lower() == name:
            via.params[i] = (key, value)
            return
    via.params.append((name, value))


def _elements(line: bytes) -> "list[bytes]":
    return split_list(unfold(line[line.find(b":") + 1 :]), b",")
