"""Run unittest modules on MicroPython: ``micropython tests/runner/run.py tests/shared test_uri test_message``.

The first argument is the folder of the modules. The last line printed is ``ran N, failed N, skipped N``.
"""

import sys

here = __file__.rsplit("/", 1)[0]
root = here + "/../.."
sys.path[:] = [here, sys.argv[1], root + "/tests/shared", root + "/shared", root + "/device"] + sys.path[1:]

import unittest  # noqa: E402

# MicroPython's stack holds few imports within imports from sources: the innermost come first.
__import__("sipwire.crypto")

ran, failed, skipped = unittest.run(sys.argv[2:])
print("ran %d, failed %d, skipped %d" % (ran, failed, skipped))
sys.exit(1 if failed or not ran else 0)
