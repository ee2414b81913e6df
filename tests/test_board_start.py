"""device/boot.py and device/main.py with the linked program, one start of a board after the other.

What the unix port lacks of `machine` is made up here; what the board would do is what is printed, and what is left in
its file system.
"""

import json
import subprocess
from pathlib import Path

from conftest import ROOT, micropython

_BOARD = """
import sys

class machine:
    WDT_RESET = 3

    class Pin:
        IN = PULL_UP = OUT = 1

        def __init__(self, number, *mode):
            pass

        def value(self):
            return 1

    class WDT:
        def __init__(self, timeout):
            pass

        def feed(self):
            pass

    @staticmethod
    def reset_cause():
        return 1

    @staticmethod
    def reset():
        sys.exit(7)

class network:
    STA_IF = 0

    class WLAN:
        def __init__(self, interface):
            pass

        def isconnected(self):
            return False

sys.modules["machine"] = machine
sys.modules["network"] = network
for name in ("boot.py", "main.py"):
    with open(name) as file:
        exec(file.read(), {"__name__": "__main__"})
"""

_NO_SOUND = ("mic_sck", "mic_ws", "mic_sd", "speaker_sck", "speaker_ws", "speaker_sd", "led")


def start(board: Path, image: Path) -> tuple[list[dict[str, object]], bool]:
    """Start the board; what it tells, and whether it starts anew then."""
    for name in ("boot.py", "main.py"):
        (board / name).write_bytes((ROOT / "device" / name).read_bytes())
    done = subprocess.run(
        [micropython(), "-X", "heapsize=224K", "-c", _BOARD],
        cwd=board,
        env={"MICROPYPATH": str(image)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (0, 7), done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")], done.returncode == 7


def test_a_board_is_started_until_it_can_not_be(tmp_path: Path, image: Path) -> None:
    """No configuration, one by which it crashes, three times, and one that a change brings which was cut off."""
    told, again = start(tmp_path, image)
    assert [event["event"] for event in told] == ["error", "prompt"]
    assert told[0]["reason"] == "wisp.json: can't be read"
    assert (told[1]["reason"], again) == ("configuration", False)

    values = {"user": "alice", "domain": "a.example", "ha1": "0" * 64, "neighbour": "127.0.0.1:5060"}
    values["address"] = "203.0.113.1"  # of nobody here
    values["board"] = dict.fromkeys(_NO_SOUND, -1)
    (tmp_path / "wisp.json").write_text(json.dumps(values))
    for count in (1, 2, 3):
        told, again = start(tmp_path, image)
        assert again
        assert "203.0.113.1:5060" in str(told[-1]["reason"])
        kept = json.loads((tmp_path / "wisp.crash").read_text())
        assert (kept["count"], kept["reason"]) == (count, told[-1]["reason"])
    told, again = start(tmp_path, image)
    assert [event["event"] for event in told] == ["crashed", "error", "prompt"]
    assert (told[2]["reason"], again) == ("crashes", False)

    (tmp_path / "wisp.json.new").write_text("{}")
    (tmp_path / "wisp.commit").write_text(json.dumps({"put": ["wisp.json"], "remove": ["wisp.crash"]}))
    told, again = start(tmp_path, image)
    assert [event["event"] for event in told] == ["error", "prompt"]
    assert ": missing" in str(told[0]["reason"])
    assert not again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boot.py", "main.py", "wisp.json"]


def test_halt(tmp_path: Path, image: Path) -> None:
    (tmp_path / "wisp.halt").write_text("a ROM image is being written")
    told, again = start(tmp_path, image)
    assert told[0]["reason"] == "halted: a ROM image is being written"
    assert (told[1]["reason"], again) == ("halted", False)
