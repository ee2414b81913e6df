"""What a board runs after its start: the terminal, by wisp.json. Whatever comes of it, the board can be reached.

    start --prepare--> run --> it ends: prompt      the button held, Ctrl-C, wisp.halt, three crashes in a row: prompt
                        |
                        +--> crash --> start again, five seconds later

What there is to do before and after is in `terminal.board.starting`, which is in memory as long as it does it: the
terminal wants all there is, so this file is short.
"""

import gc
import sys

try:
    __import__("terminal.board.starting")
    end = sys.modules["terminal.board.starting"].prepare()
    gc.collect()
    if end is None:
        __import__("terminal.app")
        end = sys.modules["terminal.app"].run()
except BaseException as error:
    end = error
__import__("terminal.board.starting")
sys.modules["terminal.board.starting"].finish(end)
