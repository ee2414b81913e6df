"""What comes and goes beside speech: text messages (RFC 3428), and the keys that somebody presses (INFO).

Loaded on demand: for each of them.
"""

from sipwire.compat import const
from sipwire.grammar import get_param, parse_params, split_list

from .addressing import outset, told
from .events import emit
from .negotiation import content_type
from .useragent import Refusal

__all__ = ["send_text", "take_digit", "take_text"]

_MAX_TEXT_BYTES = const(1024)  # of a message; RFC 3428 section 8 allows 1300 of the whole request. More is 413.
_MAX_KEY_BYTES = const(256)  # of an INFO; a real one has 30. More is 413.
_TEXT = b"text/plain"
_RELAY = b"application/dtmf-relay"
_DTMF = b"application/dtmf"
_KEYS = b"0123456789*#ABCD"  # and by number 10 to 15 those from "*" on, as RFC 4733 counts them


def send_text(config, agent, uri, text, now):
    """Send somebody a message; an event tells what came of it.

    Args:
        config: the terminal's.
        agent: sends requests.
        uri: whom, as bytes.
        text: what.
        now: milliseconds.
    """
    body = text.encode()
    # Section 8: no other one before the last is answered.
    is_busy = agent.awaits("MESSAGE")
    if is_busy or len(body) > _MAX_TEXT_BYTES:
        emit("refused", command="message", reason="busy" if is_busy else "too long")
        return

    request = outset(config, uri).new_request("MESSAGE")
    request.set_body(_TEXT + b";charset=utf-8", body)
    agent.request(request, now, told(uri))


def take_text(agent, transaction, request, now):
    """Take a MESSAGE.

    Raises:
        Refusal: it is no text that can be shown.
    """
    parts = split_list(request.get("content-type") or b"", b";")
    charset = get_param(parse_params(parts[1:]), "charset")
    _limit(request, _MAX_TEXT_BYTES)
    if parts[0].lower() != _TEXT or (charset is not None and charset.lower() not in (b"utf-8", b"us-ascii")):
        raise Refusal(415, "Unsupported Media Type", "Accept", _TEXT)
    text = _utf8(request.body)
    if text is None:
        raise Refusal(400, "Malformed Text")
    emit("message", peer=request.from_.uri, name=request.from_.display or None, text=text)
    agent.reject(transaction, 200, "OK", now)


def take_digit(agent, transaction, request, now):
    """Take an INFO within a call: a key that was pressed, as phones tell it that send no telephone-events.

    ``Signal=5``, ``Duration=160`` (ms) on lines of their own, or the key alone.

    Raises:
        Refusal: it is something else.
    """
    kind = content_type(request)
    if request.get("info-package") is not None:
        # RFC 6086 section 4.2.2: 469, with the packages that we do take: none.
        raise Refusal(469, "Bad Info Package", "Recv-Info")
    _limit(request, _MAX_KEY_BYTES)
    if request.body:  # else it asks whether we are here: RFC 2976 section 2.2
        if kind != _RELAY and kind != _DTMF:
            raise Refusal(415, "Unsupported Media Type", "Accept", _RELAY + b", " + _DTMF)
        key = duration_ms = None
        for line in request.body.split(b"\n"):
            name, equal, value = line.partition(b"=")
            name = name.strip().upper()
            value = value.strip().upper()
            if name == b"SIGNAL":
                key = value
            elif name == b"DURATION" and value.isdigit() and len(value) < 6:
                duration_ms = int(value)
            elif kind == _DTMF and name and not equal:
                key = name
        if key and key.isdigit() and len(key) == 2:
            key = _KEYS[int(key) :][:1]
        if not key or len(key) > 1 or key not in _KEYS:
            raise Refusal(400, "Malformed Key")
        emit("dtmf", digit=key, duration_ms=duration_ms)
    agent.reject(transaction, 200, "OK", now)


def _limit(request, most):
    if len(request.body) > most:
        raise Refusal(413, "Request Entity Too Large")


def _utf8(data):
    """Bytes as text, or None where they are no UTF-8; MicroPython's own decoder lets some through."""
    try:
        text = str(data, "utf-8")
    except UnicodeError:
        return None
    size = len(data)
    for char in text:
        code = ord(char)
        size -= 1 + (code > 0x7F) + (code > 0x7FF) + (code > 0xFFFF)
        if 0xD800 <= code < 0xE000 or code > 0x10FFFF:
            return None
    return text if size == 0 else None
