"""Headers and lists read a second time, with regular expressions and nothing of sipwire: who reads otherwise is wrong.

Only what sipwire accepted is read here, so these readers may be simple. They take a message as the next element on its
way would, which has not been told what sipwire understood.
"""

import re

__all__ = ["FaultError", "elements", "headers", "length_of", "sip_uri"]

_FOLD = re.compile(rb"[ \t]*\r\n[ \t]+")
_LINE = re.compile(rb"\r\n(?![ \t])")
_ELEMENT = re.compile(rb'(?:"(?:[^"\\]|\\.)*"|<[^>]*>|[^,"<])*', re.DOTALL)
_SIP_URI = re.compile(
    rb"(?P<scheme>sips?):(?:(?P<user>[^@]*)@)?(?P<host>\[[^\]]*\]|[^:;?\[\]]*)(?::(?P<port>[0-9]*))?"
    rb"(?P<params>(?:;[^;?]*)*)(?:\?(?P<headers>.*))?",
    re.DOTALL | re.IGNORECASE,
)

# The registry of header fields and their compact forms.
_NAMES = """
a=accept-contact b=referred-by c=content-type d=request-disposition e=content-encoding f=from i=call-id
j=reject-contact k=supported l=content-length m=contact n=identity-info o=event r=refer-to s=subject t=to
u=allow-events v=via x=session-expires y=identity
"""
_LONG = {pair[0]: pair[2:] for pair in _NAMES.split()}


class FaultError(Exception):
    """What was to be read is no message, no list or no URI."""


def headers(wire: bytes) -> list[tuple[str, bytes]]:
    """The header fields of a message, (long name in lower case, value), in wire order."""
    head, end, _ = wire.partition(b"\r\n\r\n")
    if not end:
        raise FaultError("no end of headers")
    found = []
    for line in _LINE.split(head)[1:]:
        name, colon, value = line.partition(b":")
        if not colon:
            raise FaultError("no colon")
        text = name.decode("latin-1").rstrip(" \t").lower()
        found.append((_LONG.get(text, text), _FOLD.sub(b" ", value).strip(b" \t\r\n")))
    return found


def length_of(wire: bytes) -> int | None:
    """Content-Length, or None where there is none."""
    values = [value for name, value in headers(wire) if name == "content-length"]
    if len(set(values)) > 1:
        raise FaultError("several lengths")
    if not values:
        return None
    if not re.fullmatch(rb"[0-9]+", values[0]):
        raise FaultError("no number")
    return int(values[0])


def elements(values: list[bytes]) -> list[bytes]:
    """The elements of header values that are lists."""
    found = []
    for value in values:
        at = 0
        while True:
            match = _ELEMENT.match(value, at)
            assert match is not None
            found.append(match[0].strip(b" \t"))
            at = match.end()
            if at == len(value):
                break
            if value[at : at + 1] != b",":
                raise FaultError("quotes or brackets")
            at += 1
    if b"" in found:
        raise FaultError("empty element")
    return found


def sip_uri(value: bytes) -> tuple[bytes, bytes | None, bytes, int | None, list[bytes]]:
    """Scheme, user, host, port and parameters of a SIP or SIPS URI."""
    match = _SIP_URI.fullmatch(value)
    if match is None:
        raise FaultError("no SIP URI")
    port = match["port"]
    params = match["params"].split(b";")[1:]
    return match["scheme"].lower(), match["user"], match["host"], None if port is None else int(port), params
