"""What a terminal is, and how it is: told when somebody asks.

Loaded on demand: for that.
"""

import gc
import sys

from sipwire import __version__

from .counting import count
from .events import emit
from .media import AUDIO
from .phone import TALKING

__all__ = ["tell"]


def tell(terminal, now):
    """Tell it, as an event.

    Args:
        terminal: the `app.Terminal`.
        now: milliseconds.
    """
    gc.collect()
    # And not `collect`, which keeps room for a datagram: that is wanted here.
    terminal.live = gc.mem_alloc()
    terminal.peak = max(terminal.peak, terminal.live)
    phone = terminal.phone
    talks = phone.state == TALKING
    media, suite = _media(terminal.media.parts)
    implementation = sys.implementation
    emit(
        "status",
        aor=terminal.config.aor,
        version=__version__,
        firmware=".".join([str(one) for one in implementation.version[:3]]),
        board=getattr(implementation, "_machine", sys.platform),
        up_s=now // 1000,
        wifi=_wifi(terminal.wlan),
        registration=terminal.registration.state,
        phone=phone.state,
        peer=phone.peer or None,
        by=phone.trust.by if talks else None,
        verified=phone.trust.verified if talks else None,
        talked_ms=now - phone.since if talks else None,
        suite=suite,
        media=media,
        heap_used=terminal.live,
        heap_peak=terminal.peak,
        heap_free=gc.mem_free(),
        dropped=terminal.link.dropped,
        malformed=terminal.agent.malformed,
        unproven=phone.trust.unproven,
    )


def _media(parts):
    """What ``ended`` will count, so far, and what protects it; None and None where there is no media."""
    found = suite = None
    for kind in parts:
        counted = count(parts[kind], kind)
        suite = suite or parts[kind].stream.agreed.suite
        found = found or {}
        if kind == AUDIO:
            found.update(counted)
        else:
            found[str(kind, "utf-8")] = counted
    return found, suite


def _wifi(wlan):
    if not wlan:
        return None
    found = {"ssid": wlan.settings["ssid"]}
    try:
        found["rssi"] = wlan.station.status("rssi")
    except (OSError, ValueError):
        pass  # it is gone just now, or the firmware can't tell
    return found
