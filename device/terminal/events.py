"""What the terminal tells the world: one line of JSON per event on standard output.

    {"event": "registered", "expires_s": 600}

README.md in this folder lists the events. Secrets never go into one.
"""

import gc
import json

__all__ = ["emit", "out", "starved", "text"]

out = []  # where events go instead, where that is: a function that takes a line


def text(data):
    """Bytes of a peer as text; what is no UTF-8 becomes "?"."""
    try:
        return str(data, "utf-8")
    except UnicodeError:
        return "".join([chr(byte) if 32 <= byte < 127 else "?" for byte in data])


def emit(event, **fields):
    """Print one event; bytes become text, None is left out."""
    shown = {}
    for name, value in fields.items():
        if value is not None:
            shown[name] = text(value) if isinstance(value, bytes) else value
    # A dict keeps no order here, and people who read along want the event first.
    line = '{"event": "%s"%s%s' % (event, ", " if shown else "", json.dumps(shown)[1:])
    if out:
        out[0](line)
    else:
        print(line)


def starved():
    """Tell that memory ran out for something, which was given up as if it had been lost on the way."""
    gc.collect()
    emit("starved", heap_used=gc.mem_alloc())
