"""Modules that are needed now and then: loaded for a function, and unloaded when it has returned.

Code lies in the heap where it is not frozen, and the little that a weak device has of it is wanted for calls. Such a
module keeps nothing, and what it returns is data.
"""

import gc
import sys

__all__ = ["call", "relief", "unload"]

relief = []  # what makes room where there is none to load something: functions without arguments


def call(name, function, *arguments):
    """Call a function of a module that is loaded for that.

    Args:
        name: of the module: ``terminal.`` and its own.
        function: the function's name.
        arguments: what it is given.

    Returns:
        What it returns.

    Raises:
        MemoryError: there is no room for it, even where there is relief; or as the function does.
    """
    try:
        try:
            __import__(name)
        except MemoryError:
            unload(name)
            for make_room in relief:
                make_room()
            __import__(name)
        return getattr(sys.modules[name], function)(*arguments)
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
