"""From a bare board to a call: what a person does, command by command, and nothing else."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import sound
from lab.board import EmulatedBoard
from lab.lab import Lab
from lab.processes import Process

from .conftest import DOMAIN, ROMFS_BYTES, SSID, MakeBoard, wisp

WISP = str(Path(sys.executable).with_name("wisp"))
#: What each says, so that it can be heard on the other side.
HERTZ = {"alice": 440, "bob": 880}


def start(lab: Lab, command: str, port: object, *arguments: object) -> Process:
    """A ``wisp device`` command that goes on meanwhile; what is typed to it comes by a pipe."""
    name = f"{command}-{Path(str(port)).parent.name or port}"
    line = [WISP, "device", command, str(port), *map(str, arguments)]
    pipe = lab.folder / f"{name}.pipe"
    return lab.start(Process, name, line, lab.folder / f"{name}.log", lab.folder / DOMAIN, pipe=pipe)


def until(done: Callable[[], object], timeout_s: float, process: Process) -> None:
    """Wait until something has come about."""
    end = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end, process.last_words()
        time.sleep(0.1)


def wait_for(lab: Lab, port: object, state: str) -> None:
    """Wait until a board's terminal says that it is in a state."""
    for _ in range(60):
        told = wisp(lab, "info", "--json", port)
        if told.returncode == 0 and json.loads(told.stdout)["phone"] == state:
            return
        time.sleep(0.2)
    pytest.fail(f"{port}: never {state}: {told.stdout}{told.stderr}")


def make(lab: Lab, make_reachable: MakeBoard, user: str, **settings: object) -> EmulatedBoard:
    """A bare board that hears what its user says."""
    microphone = lab.folder / f"{user}-says.wav"
    sound.make_tone(microphone, HERTZ[user], 60)
    speaker = lab.folder / f"{user}-hears.wav"
    return make_reachable(user, romfs=ROMFS_BYTES, microphone=microphone, speaker=speaker, **settings)


@pytest.mark.parametrize("way", ["wifi", "serial", "both"])
def test_provisioned_boards_call_each_other(lab: Lab, make_reachable: MakeBoard, way: str) -> None:
    """Over Wi-Fi, over their USB cables, and from one to the other; the neighbour is a real one."""
    boards = {user: make(lab, make_reachable, user) for user in HERTZ}
    cables = {"wifi": [], "serial": ["alice", "bob"], "both": ["bob"]}[way]
    ports: dict[str, object] = {user: board.port for user, board in boards.items()}
    provisioning = []
    for user in cables:
        with lab.configuration(DOMAIN).open("a") as file:
            file.write(f'\n[[serial]]\nport = "{boards[user].port}"\nconsole = "{user}"\n')
        ports[user] = user
        provisioning.append(start(lab, "provision", boards[user].port, "--account", user, "--serial"))
        # Until its program is there the port is the command's, and the neighbour's from then on.
        until(lambda board=boards[user]: board.reboots, 60, provisioning[-1])
    lab.start_neighbour(DOMAIN)
    for process in provisioning:
        until(lambda process=process: not process.is_running, 100, process)
        assert process.exit_status == 0, process.last_words()
    for user in set(HERTZ) - set(cables):
        done = wisp(lab, "provision", boards[user].port, "--account", user, "--wifi", SSID)
        assert done.returncode == 0, done.stderr
    for user in HERTZ:
        wait_for(lab, ports[user], "idle")
    console = start(lab, "console", ports["bob"])
    console.send("status")  # what comes before somebody listens is lost
    console.wait_for("status")
    call = start(lab, "call", ports["alice"], "sip:bob@a.example", "--for", "4")
    console.wait_for("incoming")
    console.send("answer")
    ended = console.wait_for("ended")
    until(lambda: not call.is_running, 20, call)
    said = call.output.read_text()
    assert call.exit_status == 0, said
    assert "media is SRTP, AES_CM_128_HMAC_SHA1_80" in said
    assert ended["media"]["received"] > 150
    assert ended["media"]["rejected"] == 0
    monitor = start(lab, "monitor", ports["alice"], "--plain")
    until(lambda: "the call is over" in call.output.read_text() and "idle" in monitor.output.read_text(), 20, monitor)
    assert [sound.dominant_hz(lab.folder / f"{user}-hears.wav") for user in HERTZ] == [880, 440]
