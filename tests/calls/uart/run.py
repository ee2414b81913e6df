"""Run by MicroPython: a terminal whose ``machine`` is the one beside this. The arguments are those of tools/lab/rom.py.

micropython tests/calls/uart/run.py tools/lab/rom.py image.romfs wisp.json
"""

import sys

sys.path.insert(0, __file__.rsplit("/", 1)[0])
__import__("machine")
with open(sys.argv.pop(1)) as file:  # noqa: PTH123
    program = file.read()
exec(program)
