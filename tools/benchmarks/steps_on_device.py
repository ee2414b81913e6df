"""Runs on MicroPython: the terminal's program, which also tells what each thing that it loads on demand has cost.

    {"event": "step", "name": "asking.ask", "load": 650, "work": 580, "files": 0, "collect": 120, "live": 0}

Microseconds: to load the module, to do its work, what of that was the opening of files, and to collect the garbage
afterwards. ``live`` are the bytes of heap that live when the module is loaded; a run shows either these or the times,
since a look at the heap collects the garbage that the work would have to.

The program is the linked image as it is. Around it are the import, ``open`` and ``gc.collect`` of this interpreter,
and the one function that loads on demand, `terminal.demand.call`, under the name that the image has for it.
"""

import builtins
import gc
import json
import sys
from time import ticks_diff, ticks_us

_open = builtins.open
_steps = []  # that are under way, the innermost last: what they have cost up to now
_LOAD, _FILES, _COLLECT, _WITHIN, _LIVE = range(5)


class _Gc:
    """Stands for the module ``gc``."""


def _since(begun):
    return ticks_diff(ticks_us(), begun)


def _timed(work, what):
    """The function, with its time put down to the innermost step."""

    def timed(*arguments):
        begun = ticks_us()
        try:
            return work(*arguments)
        finally:
            if _steps:
                _steps[-1][what] += _since(begun)

    return timed


def run(part, name, is_of_heap):
    """Run the terminal's program.

    Args:
        part: the module of the image that has `terminal.demand.call`.
        name: its name there.
        is_of_heap: whether to tell of the heap, and not of times.
    """
    loaded = _timed(__import__, _LOAD)

    def load(which):
        loaded(which)
        if is_of_heap and _steps:
            gc.collect()
            _steps[-1][_LIVE] = gc.mem_alloc()

    fake = _Gc()
    for one in dir(gc):
        setattr(fake, one, getattr(gc, one))
    fake.collect = _timed(gc.collect, _COLLECT)
    sys.modules["gc"] = fake
    builtins.open = _timed(_open, _FILES)
    __import__(part)
    module = sys.modules[part]
    # There alone: what imports within a package is found from where it stands.
    module.__import__ = load
    demanded = getattr(module, name)

    def call(which, function, *arguments):
        step = [0, 0, 0, 0, 0]
        _steps.append(step)
        begun = ticks_us()
        try:
            return demanded(which, function, *arguments)
        finally:
            work = _since(begun) - step[_LOAD] - step[_COLLECT] - step[_WITHIN]
            _steps.pop()
            told = {"event": "step", "name": which[len("terminal.") :] + "." + function, "work": work}
            told.update(load=step[_LOAD], files=step[_FILES], collect=step[_COLLECT], live=step[_LIVE])
            print(json.dumps(told))
            if _steps:
                _steps[-1][_WITHIN] += _since(begun)

    setattr(module, name, call)
    from terminal.app import main

    main()
