"""What a board does first: finish a change of its files that was cut off half-way.

Who changes them writes each as ``<path>.new``, sees that it is right, and then says by one rename that the change is
made: from then on there is ``wisp.commit``,

    {"put": ["terminal/app.mpy", ...], "remove": ["terminal/old.mpy", ...], "folders": ["terminal"]}

and here it is made, whoever runs this: the board at its start, or the laptop when all is written. It may be cut off
anywhere and begin again; without ``wisp.commit`` nothing is done.
"""

import errno
import json
import os


def _finish():
    def remove(path):
        try:
            os.remove(path)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise  # what can't be read just now is not gone, and the change not made

    def is_there(path):
        try:
            os.stat(path)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        return True

    try:
        with open("wisp.commit") as file:
            change = json.load(file)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return
    for path in change["put"]:
        new = path + ".new"
        if not is_there(new):
            continue  # this one was made before it was cut off
        try:
            os.rename(new, path)
        except OSError:
            # FAT does not rename over a file. Between these two there is the new one, and the journal.
            remove(path)
            os.rename(new, path)
    for path in change["remove"]:
        remove(path)
    # An empty folder of the program's name would be taken for the program, before the one in a ROMFS.
    for path in change.get("folders", ()):
        try:
            os.rmdir(path)
        except OSError:
            pass  # it is gone, or somebody has something else there
    os.remove("wisp.commit")


_finish()
del _finish  # it would lie in the heap beside the terminal
