"""The main job, in one go: two domains, two weak terminals, two calls between them, and a look at what happened.

``tools/demo`` runs this after setting up. The exit status is 0 only if every line of the table is good.
"""

import argparse
import contextlib
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from debian import UnavailableError
from find_micropython import find
from lab import ladder, sound
from lab.lab import Lab
from lab.processes import LabError, Neighbour, Terminal, uninterrupted
from neighbour.device.image import LinkError, build, build_rom

__all__ = ["Row", "judge", "main", "run"]

_SECONDS = 5.0
_SET_UP_MS = 5000  # for both: people would have hung up
_UNDER_WAY = 25  # packets, half a second: so long a BYE may take to who goes on talking meanwhile
_SUITES = "AES_CM_"  # how the names of all suites begin that are offered
_TEXTS = {
    "alice": "Hello Bob. This is Alice, calling from a very small computer. Nobody on the way can listen to us.",
    "bob": "Hello Alice. I hear you well. My computer is just as small as yours, and just as careful.",
}
_ROOT = Path(__file__).resolve().parent.parent.parent


class _Progress:
    """Says what is being done, and how long it took."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        started = time.monotonic()
        with self._console.status(text):
            yield
        self._console.print(f"  {text} [dim]({time.monotonic() - started:.1f} s)[/dim]")


def _call(progress: _Progress, lab: Lab, alice: Terminal, bob: Terminal) -> dict[str, Any]:
    """Let Alice call Bob, both talk, Bob hang up; returns what the terminals said."""
    with progress.step("Alice and Bob register"):
        registered = [one.wait_for("registered", 20) for one in (alice, bob)]
    with progress.step("Alice calls Bob, and Bob answers"):
        alice.send(f"call {bob.aor}")
        bob.wait_for("incoming")
        bob.send("answer")
        connected = [one.wait_for("connected") for one in (alice, bob)]
    with progress.step(f"both talk for {_SECONDS:g} seconds at once"):
        time.sleep(_SECONDS + 0.5)
    with progress.step("Bob hangs up"):
        bob.send("hangup")
        ended = [one.wait_for("ended") for one in (alice, bob)]
        for one in (alice, bob):
            one.wait_for("key")
    return {
        "registered": registered,
        "connected": connected,
        "ended": ended,
        "code_kib": lab.code_bytes() / 1024,
        "heap_kib": lab.heap_kib,
        "heap_limit_kib": lab.heap_limit_kib,
    }


def _call_again(progress: _Progress, alice: Terminal, bob: Terminal) -> list[dict[str, Any]]:
    """Let Bob call Alice, now that they know each other; returns what both were told of each other."""
    marks = [len(one.lines) for one in (alice, bob)]
    with progress.step("Bob calls Alice: now they know each other"):
        bob.send(f"call {alice.aor}")
        alice.wait_for("incoming", since=marks[0])
        alice.send("answer")
        connected = [one.wait_for("connected", since=mark) for one, mark in zip((alice, bob), marks, strict=True)]
        alice.send("hangup")
        for one, mark in zip((alice, bob), marks, strict=True):
            one.wait_for("key", since=mark)
    return connected


@dataclass(frozen=True)
class Row:
    """A line of the table of results.

    Attributes:
        name: what was looked at.
        values: of Alice's terminal and of Bob's.
        good: whether both are as they should be.
    """

    name: str
    values: list[str]
    good: bool


def judge(said: dict[str, Any], ways: list[list[str]], heard: list[sound.Comparison]) -> tuple[list[Row], list[str]]:
    """Look at what the terminals said, Alice's first.

    Args:
        said: see `_call`, and as "again" `_call_again`.
        ways: what protected the calls, the first one's first, see `ladder.ways`.
        heard: what Alice heard beside what Bob said, and the other way round.

    Returns:
        The lines of the table, and notes on them.
    """
    media = [one.get("media") or {} for one in said["ended"]]
    sent = [one.get("sent", 0) for one in media]
    received = [one.get("received", 0) for one in media]
    lost = [one.get("lost", 1) for one in media]
    rejected = [one.get("rejected", 1) for one in media]
    to_come = [sent[1], sent[0]]
    # By sequence number nothing is known of what came after the last packet that arrived.
    last = [to_come[i] - received[i] - lost[i] for i in range(2)]
    expected = int(_SECONDS * 50)
    registered = [one["expires_s"] for one in said["registered"]]
    set_up = [one["setup_ms"] for one in said["connected"]]
    suites = [one["suite"] or "none" for one in said["connected"]]
    live = [one["heap_peak"] / 1024 for one in said["status"]]
    code, limit = said["code_kib"], said["heap_limit_kib"]
    rows = [
        Row("registered", [f"for {one} s" for one in registered], min(registered) > 0),
        Row("call set up in", [f"{one} ms" for one in set_up], max(set_up) < _SET_UP_MS),
        Row(
            "signalling went by",
            [f"{ways[0][0]}; {ways[0][1]}", f"{ways[0][2]}; {ways[0][1]}"],
            ways[0] == ["frame", "TLS, S/MIME", "frame"],
        ),
        Row(
            "who the other is, says",
            [str(one.get("by")) for one in said["connected"]],
            all(one.get("by") == "neighbour heavy" for one in said["connected"]),
        ),
        Row(
            "keys",
            [one.removeprefix(_SUITES) for one in suites],
            suites[0] == suites[1] and suites[0].startswith(_SUITES),
        ),
        Row("packets sent", [str(one) for one in sent], min(sent) >= expected),
        Row(
            "packets received",
            [f"{received[i]} of {to_come[i]}" for i in range(2)],
            min(received) >= expected and min(last) >= 0 and max(last) <= _UNDER_WAY,
        ),
        Row("lost", [str(one) for one in lost], max(lost) == 0),
        Row("SRTP rejected", [str(one) for one in rejected], max(rejected) == 0),
        Row(
            "audio heard = audio sent",
            [
                f"{one.equal} of {one.frames} frames" + (f", {one.inserted} waited" if one.inserted else "")
                for one in heard
            ],
            all(one.is_equal for one in heard),
        ),
        Row(
            "second call",
            [f"{one.get('by')}; {ways[1][1]}" for one in said["again"]],
            ways[1] == ["frame", "TLS", "frame"] and all(one.get("by") == "setup-key" for one in said["again"]),
        ),
        Row(
            "live heap beside the code",
            [f"{one - code:.1f} of {limit:g} KiB" for one in live],
            max(live) - code <= limit,
        ),
        Row(
            "memory ran out", [f"{one} times" if one else "never" for one in said["starved"]], not any(said["starved"])
        ),
    ]
    notes = [
        f"packets to {who} that were still on the way at the end: {count}"
        for who, count in zip(("Alice", "Bob"), last, strict=True)
        if 0 < count <= _UNDER_WAY
    ]
    notes.append(
        f"heap: {code:.1f} KiB of code; at most {max(live):.1f} of {said['heap_kib']} KiB live, looked at once a second"
    )
    return rows, notes


def _show(console: Console, rows: list[Row]) -> None:
    """Print the table of results."""
    table = Table("", "Alice", "Bob", "", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for row in rows:
        table.add_row(row.name, *row.values, "[green]good[/green]" if row.good else "[red]BAD[/red]")
    console.print(table)


def _show_ladder(console: Console, left: Neighbour, right: Neighbour) -> list[list[str]]:
    """Draw it; returns of each call what protected it from Alice to her neighbour, between the two, and on to Bob."""
    for neighbour in (left, right):
        neighbour.read()
    found = ladder.steps(left.lines, right.lines)
    console.print()
    for line in ladder.draw(found, ("Alice", left.domain, right.domain, "Bob")):
        console.print(line, markup=False, highlight=False)
    console.print()
    console.print("  frame: HMAC-SHA-256 and AES-128-CTR between a terminal and its neighbour", markup=False)
    console.print("  TLS:   mutual TLS between the domains; S/MIME: signed and encrypted by the neighbours as well")
    console.print("  new key, setup key: between the terminals themselves, by HMAC; the neighbours only pass it on")
    console.print("  plain: the two steps that agree on the keys of frames")
    console.print("  and the speech itself went from terminal to terminal as SRTP\n")
    return [ladder.ways(ladder.of_call(found, number)) for number in range(2)]


def _keep(console: Console, lab: Lab, alice: Terminal, bob: Terminal) -> None:
    stop, say = lab.write_scripts()
    events = shlex.join(str(one.output) for one in (alice, bob))
    commands = (
        f"tail -f --pid={lab.processes[0].pid} {events} &",
        f"{shlex.quote(str(say))} alice 'call {bob.aor}'",
        f"{shlex.quote(str(say))} bob answer",
        f"{shlex.quote(str(say))} alice hangup",
        f"{shlex.quote(str(stop))}     # ends it, and deletes the folder",
    )
    console.print(f"\nThe lab goes on in {lab.folder}. Call by hand:\n", markup=False)
    for text in commands:
        console.print(f"  {text}", markup=False)
    console.print(
        "\nOther commands: reject, hold, resume, message, forget, status, quit."
        " What they hear is in these files; each call overwrites them:"
    )
    for one in (alice, bob):
        console.print(f"{one.speaker}", markup=False)


def _delete(folder: Path) -> None:
    """Delete a folder, whatever interrupts."""
    with uninterrupted():
        shutil.rmtree(folder, ignore_errors=True)


def run(options: argparse.Namespace, console: Console) -> int:
    """Run the demo; returns its exit status."""
    progress = _Progress(console)
    micropython = find()
    with contextlib.ExitStack() as undo:
        folder = Path(tempfile.mkdtemp(prefix="wisp-lab-"))
        undo.callback(_delete, folder)
        lab = Lab(folder, micropython, str(folder / "image.romfs"))
        undo.callback(lab.stop)
        with progress.step("building the terminals' image"):
            build(folder / "image")
            build_rom(folder / "image", folder / "image.romfs")
        with progress.step("making an authority, two domains and two accounts"):
            for domain in lab.make_domains("a.example", "b.example"):
                lab.change(domain, '# level = "medium"', 'level = "heavy"')
            recordings = {}
            configurations = {}
            for domain, user in (("a.example", "alice"), ("b.example", "bob")):
                microphone = folder / f"{user}-says.wav"
                recordings[user] = sound.make_recording(microphone, user, _TEXTS[user], _SECONDS)
                configurations[user] = lab.make_terminal(
                    domain, user, microphone=microphone, speaker=folder / f"{user}-heard.wav"
                )
        with progress.step("starting two neighbours and two terminals"):
            left, right = (lab.start_neighbour(domain) for domain in ("a.example", "b.example"))
            alice, bob = (lab.start_terminal(configurations[user]) for user in ("alice", "bob"))
        said = _call(progress, lab, alice, bob)
        heard = [sound.compare(bob.microphone, alice.speaker), sound.compare(alice.microphone, bob.speaker)]
        said["again"] = _call_again(progress, alice, bob)
        said["status"] = [one.status() for one in (alice, bob)]
        said["starved"] = [sum(line["event"] == "starved" for line in one.lines) for one in (alice, bob)]
        ways = _show_ladder(console, left, right)
        rows, notes = judge(said, ways, heard)
        _show(console, rows)
        console.print(f"\n  both sent {_SECONDS:g} s of {recordings['alice']}, as PCMU", markup=False)
        for note in notes:
            console.print(f"  {note}", markup=False)
        if not all(row.good for row in rows):
            console.print(f"\nSomething is not as it should be; look into {folder}", style="red", markup=False)
            lab.stop()
            undo.pop_all()
            return 1
        console.print("  every sample arrived")
        if options.keep:
            _keep(console, lab, alice, bob)
            undo.pop_all()
        else:
            console.print("\n`tools/demo --keep` leaves the lab running.", markup=False)
        return 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/demo", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--keep", action="store_true", help="leave the lab running, to place calls by hand")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    try:
        return run(options, console)
    except (LabError, UnavailableError, LinkError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"demo: {error}", style="red", markup=False)
        return 1


if __name__ == "__main__":
    sys.exit(main())
