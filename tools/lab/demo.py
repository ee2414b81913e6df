"""The main job, in one go: two domains, two weak terminals, one call between them, and a look at what happened.

``tools/demo`` runs this after setting up. The exit status is 0 only if every line of the table is good.
"""

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from debian import UnavailableError
from find_micropython import find
from image import LinkError, build
from lab import ladder, sound
from lab.lab import Lab
from lab.processes import LabError, Neighbour, Terminal

__all__ = ["main", "run"]

_SECONDS = 5.0
_HEAP_KIB = 112
_SET_UP_MS = 5000  # for both: people would have hung up
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
    return {
        "registered": registered,
        "connected": connected,
        "ended": ended,
        "status": [one.status() for one in (alice, bob)],
    }


def _table(said: dict[str, Any], ways: list[str], alice: Terminal, bob: Terminal) -> tuple[Table, bool]:
    """The table of results, and whether all of it is good."""
    table = Table("", "Alice", "Bob", "", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    all_good = True

    def row(name: str, values: list[str], good: bool) -> None:
        nonlocal all_good
        all_good = all_good and good
        table.add_row(name, *values, "[green]good[/green]" if good else "[red]BAD[/red]")

    media = [one.get("media") or {} for one in said["ended"]]
    sent = [one.get("sent", 0) for one in media]
    received = [one.get("received", 0) for one in media]
    expected = int(_SECONDS * 50)
    heard = [sound.compare(alice.microphone, bob.speaker), sound.compare(bob.microphone, alice.speaker)]
    heard.reverse()  # by who heard
    registered = [one["expires_s"] for one in said["registered"]]
    row("registered", [f"for {one} s" for one in registered], min(registered) > 0)
    set_up = [one["setup_ms"] for one in said["connected"]]
    row("call set up in", [f"{one} ms" for one in set_up], max(set_up) < _SET_UP_MS)
    row("signalling went by", [f"{ways[0]}, {ways[1]}", f"{ways[2]}, {ways[1]}"], ways == ["frame", "TLS", "frame"])
    suites = [one["suite"] for one in said["connected"]]
    row("keys", [one.removeprefix("AES_CM_") for one in suites], suites[0] == suites[1])
    row("packets sent", [str(one) for one in sent], min(sent) >= expected)
    row("packets received", [str(one) for one in received], min(received) >= expected)
    lost = [one.get("lost", 1) for one in media]
    row("lost", [str(one) for one in lost], max(lost) == 0)
    rejected = [one.get("rejected", 1) for one in media]
    row("SRTP rejected", [str(one) for one in rejected], max(rejected) == 0)
    row(
        "audio heard = audio sent",
        [f"{one.equal} of {one.frames} frames" + (f", {one.inserted} waited" if one.inserted else "") for one in heard],
        all(one.is_equal for one in heard),
    )
    peaks = [one["heap_peak"] for one in said["status"]]
    row(
        f"heap used at peak, of {_HEAP_KIB}K", [f"{one / 1024:.1f} KiB" for one in peaks], max(peaks) < _HEAP_KIB * 1024
    )
    return table, all_good


def _show_ladder(console: Console, left: Neighbour, right: Neighbour) -> list[str]:
    """Draw it; returns what protected the call from Alice to her neighbour, between the two, and from there to Bob."""
    for neighbour in (left, right):
        neighbour.read()
    found = ladder.steps(left.lines, right.lines)
    console.print()
    for line in ladder.draw(found, ("Alice", left.domain, right.domain, "Bob")):
        console.print(line, markup=False, highlight=False)
    console.print()
    console.print("  frame: HMAC-SHA-256 and AES-128-CTR between a terminal and its neighbour", markup=False)
    console.print("  TLS:   mutual TLS between the domains; plain: the two steps that agree on the keys of frames")
    console.print("  and the speech itself went from terminal to terminal as SRTP\n")
    return ladder.ways(found)


def _keep(console: Console, lab: Lab, alice: Terminal, bob: Terminal) -> None:
    stop = lab.write_stop_script()
    console.print(f"\nThe lab goes on in {lab.folder}. Call by hand:\n", markup=False)
    for text in (
        f"tail -f {alice.output} {bob.output} &",
        f"echo 'call {bob.aor}' > {alice.configuration.with_suffix('.commands')}",
        f"echo answer > {bob.configuration.with_suffix('.commands')}",
        f"echo hangup > {alice.configuration.with_suffix('.commands')}",
        f"{stop}     # ends it",
    ):
        console.print(f"  {text}", markup=False)
    console.print("\nOther commands: reject, status, quit. What was heard is in the .wav files there.", markup=False)


def run(options: argparse.Namespace, console: Console) -> int:
    """Run the demo; returns its exit status."""
    progress = _Progress(console)
    folder = Path(tempfile.mkdtemp(prefix="wisp-lab-"))
    micropython = find()
    with progress.step("building the terminals' image"):
        build(folder / "image")
    lab = Lab(folder, micropython, str(folder / "image"))
    kept = False
    try:
        with progress.step("making an authority, two domains and two accounts"):
            lab.make_domains("a.example", "b.example")
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
            alice, bob = (lab.start_terminal(configurations[user], f"{_HEAP_KIB}K") for user in ("alice", "bob"))
        said = _call(progress, lab, alice, bob)
        ways = _show_ladder(console, left, right)
        table, good = _table(said, ways, alice, bob)
        console.print(table)
        console.print(f"\n  both sent {_SECONDS:g} s of {recordings['alice']}, as PCMU", markup=False)
        if not good:
            console.print(f"\nSomething is not as it should be; look into {folder}", style="red", markup=False)
            kept = True
            return 1
        if options.keep:
            _keep(console, lab, alice, bob)
            kept = True
            lab.processes.clear()
        else:
            console.print("  and every sample arrived. `tools/demo --keep` leaves the lab running.", markup=False)
        return 0
    finally:
        lab.stop()
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/demo", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--keep", action="store_true", help="leave the lab running, to place calls by hand")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    try:
        return run(options, console)
    except (LabError, UnavailableError, LinkError) as error:
        Console(stderr=True, highlight=False).print(f"demo: {error}", style="red", markup=False)
        return 1


if __name__ == "__main__":
    sys.exit(main())
