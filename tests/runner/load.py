"""Load every .mpy of an image: ``micropython tests/runner/load.py image``; on WebAssembly the image is ``/image``.

The last line printed is JSON: the version, the word size, and what came of each file, "" where nothing did.
"""

import gc
import json
import os
import sys

image = sys.argv[1] if len(getattr(sys, "argv", ())) > 1 else "/image"
sys.path[:] = [image]
sys.argv[:] = ["load"]


def files(folder):
    for name in sorted(os.listdir(folder)):
        path = folder + "/" + name
        if os.stat(path)[0] & 0x4000:
            yield from files(path)
        elif path.endswith(".mpy"):
            yield path


found = {}
for path in files(image):
    name = path[len(image) + 1 :]
    try:
        __import__(name[:-4].replace("/__init__", "").replace("/", "."))
        found[name] = ""
    except BaseException as error:
        found[name] = repr(error)
    gc.collect()
version = "%d.%d.%d" % tuple(sys.implementation[1][:3])
print(json.dumps({"version": version, "bits": 64 if sys.maxsize >> 32 else 32, "files": found}))
