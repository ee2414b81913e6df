"""Modules that are needed now and then: loaded for a function, or for a call, and unloaded when that is over.

Code lies in the heap where it is not frozen, and the little that a weak device has of it is wanted for calls. What a
module that is loaded for a function returns is data, and it keeps nothing.
"""

import gc
import sys

__all__ = ["call", "load", "relief", "unload"]

relief = []  # what makes room where there is none to load something: functions without arguments


def load(name):
    """Load a module, until `unload`.

    Args:
        name: ``terminal.`` and its own.

    Returns:
        It.

    Raises:
        MemoryError: there is no room for it, even where there is relief.
    """
    try:
        try:
            __import__(name)
        except MemoryError:
            unload(name)
            for make_room in relief:
                make_room()
            __import__(name)
    except MemoryError:
        unload(name)
        raise
    return sys.modules[name]


def call(name, function, *arguments):
    """Call a function of a module that is loaded for that.

    Args:
        name: see `load`.
        function: the function's name.
        arguments: what it is given.

    Returns:
        What it returns.

    Raises:
        MemoryError: see `load`; or as the function does.
    """
    try:
        return getattr(load(name), function)(*arguments)
    finally:
        unload(name)
        # At once: what is allocated next shall take its place, and not lie scattered behind where it was.
        gc.collect()


def unload(name):
    """Forget a module, or what is left of one that there was no memory to load."""
    sys.modules.pop(name, None)
    package, _, own = name.rpartition(".")
    if hasattr(sys.modules[package], own):
        delattr(sys.modules[package], own)
