"""The minimal SIP codec and protocol core that both ends of Wisp share.

Sans-I/O: bytes and integer milliseconds go in; bytes, events and the next deadline come out. The same files run on
CPython and on MicroPython. Import from the submodules; this package re-exports nothing.
"""

__version__ = "0.1.0"
