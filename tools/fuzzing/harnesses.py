"""The harnesses by name, and how one input is judged: by what has to hold, and by how long it takes."""

import time
from collections.abc import Callable
from pathlib import Path

from fuzzing.descriptions import check_sdp
from fuzzing.media import check_dtmf, check_rtcp, check_text
from fuzzing.packets import check_frame, check_slip, check_srtp, check_stream
from fuzzing.sealed import check_cms, check_mime, check_sealed, check_x509
from fuzzing.texts import check_auth, check_message, check_uri, check_via

__all__ = ["HARNESSES", "LIMIT_MS", "SEEDS", "SlowError", "judge", "max_bytes", "seeds"]

HARNESSES: dict[str, Callable[[bytes], None]] = {
    "message": check_message,
    "uri": check_uri,
    "via": check_via,
    "auth": check_auth,
    "sdp": check_sdp,
    "srtp": check_srtp,
    "rtcp": check_rtcp,
    "text": check_text,
    "dtmf": check_dtmf,
    "frame": check_frame,
    "stream": check_stream,
    "slip": check_slip,
    "cms": check_cms,
    "mime": check_mime,
    "x509": check_x509,
    "sealed": check_sealed,
}
#: The longest inputs to make, beyond what a terminal takes of a message. Limits above are tested by themselves.
_LONGEST = {"message": 4096, "sdp": 4096, "stream": 4096, "srtp": 2048, "frame": 2048, "text": 2048}
_LONGEST |= dict.fromkeys(("cms", "mime", "x509", "sealed"), 4096)
_MAX_BYTES = 512  # of the others
LIMIT_MS = 50  # of processor time for one input, all its checks included; beyond, the input is a finding
_ROOT = Path(__file__).resolve().parent.parent.parent
SEEDS = Path(__file__).resolve().parent / "seeds"
_VECTORS = {
    "message": ("rfc4475/msgs", "rfc4475/variants", "rfc5118/crlf_fixed", "rfc3665"),
    "sealed": ("rfc6216/msgs", "smime_generated/msgs"),
}


class SlowError(AssertionError):
    """An input took longer than `LIMIT_MS`."""


def max_bytes(name: str) -> int:
    """The longest inputs that a harness is to be given."""
    return _LONGEST.get(name, _MAX_BYTES)


def judge(name: str, data: bytes) -> int:
    """Run a harness on one input.

    Returns:
        The processor time it took, in nanoseconds.

    Raises:
        SlowError: it took too long, three times in a row: a collection of garbage may fall into one of them.
        Exception: something does not hold.
    """
    check = HARNESSES[name]
    taken = 0
    for _ in range(3):
        before = time.thread_time_ns()
        check(data)
        taken = time.thread_time_ns() - before
        if taken <= LIMIT_MS * 1_000_000:
            return taken
    raise SlowError(f"{taken / 1e6:.0f} ms for {len(data)} bytes")


def seeds(name: str) -> list[Path]:
    """The folders of good and bad examples that a fuzzer starts from."""
    return [SEEDS / name, *(_ROOT / "tests" / "vectors" / part for part in _VECTORS.get(name, ()))]
