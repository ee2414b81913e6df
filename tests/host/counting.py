"""Counting what Python does: for what must cost the same however much there is, whatever the machine is doing."""

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["operations"]


def operations(work: Callable[[], object]) -> int:
    """How many bytecodes something takes: every turn of a loop counts, whoever's it is.

    But not what ends objects of somebody else's that are collected meanwhile.
    """
    count = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    collects = gc.isenabled()
    gc.disable()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
        if collects:
            gc.enable()
    return count
