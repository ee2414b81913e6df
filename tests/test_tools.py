"""The commands that a newcomer types: they do what they say, and say what is wrong."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, micropython
from interop.phones import skip_without
from rich.console import Console

import peers
from benchmarks import connections, contacts, proxy, report
from lab import demo, ladder, sound
from lab.lab import Lab
from lab.processes import LabError, Process


def run(*command: str, status: int = 0, **environment: str) -> str:
    """Run a tool; returns what it prints."""
    done = subprocess.run(
        [str(ROOT / "tools" / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=240,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


def users_of(folder: Path) -> list[str]:
    """The processes that name a folder in their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in command:
                found.append(command)
    return found


def wait_until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


ROWS = [
    "registered",
    "call set up in",
    "signalling went by",
    "who the other is, says",
    "keys",
    "packets sent",
    "packets received",
    "lost",
    "SRTP rejected",
    "audio heard = audio sent",
    "second call",
    "live heap beside the code",
    "memory ran out",
]


@pytest.mark.parametrize("bits", [32, 64])
def test_demo(tmp_path: Path, bits: int) -> None:
    said = run("demo", TMPDIR=str(tmp_path), MICROPYTHON=micropython(bits))
    for step in (
        "REGISTER, plain",
        "INVITE, frame",
        "INVITE, TLS, S/MIME",
        "180 Ringing, TLS",
        "200 OK, TLS, S/MIME",
        "ACK, TLS",
        "BYE, TLS, new key",
        "INVITE, TLS, setup key",
    ):
        assert step in said
    rows = re.findall(r"^(\S.+?) {2,}(.+?) {2,}(.+?) {2,}good *$", said, re.MULTILINE)
    assert [name for name, *_ in rows] == ROWS
    assert [rows[9][1], rows[9][2]] == ["250 of 250 frames"] * 2
    assert "every sample arrived" in said
    assert not list(tmp_path.iterdir()), "the demo leaves nothing behind"


def test_recording_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody has used sound before, too."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    recording = tmp_path / "alice.wav"
    sound.make_recording(recording, "alice", "Good morning.", 1)
    assert list(tmp_path.rglob("*")) == [recording]


def test_demo_keep(tmp_path: Path) -> None:
    """What it says for calls by hand works, as typed."""
    micropython()
    said = run("demo", "--keep", TMPDIR=str(tmp_path))
    by_hand, _, overwritten = said.partition("Call by hand:")[2].partition("Other commands:")
    listen, *calls, stop = (line.strip() for line in by_hand.splitlines() if line.startswith("  "))
    outputs = [Path(word) for word in shlex.split(listen) if word.endswith(".events")]
    heard = [Path(line) for line in overwritten.splitlines() if line.endswith(".wav")]
    stop = stop.partition(" ")[0]
    pids = re.findall(r"\d+", Path(stop).read_text().splitlines()[1].partition("2>")[0])
    # The shell ends, and leaves what the `&` is for.
    subprocess.run(listen, shell=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert len(pids) == 4
        assert all(lives(pid) for pid in pids)
        # The shell that was told of it with `&` has it begin when it can.
        wait_until(lambda: any("tail -f" in one for one in users_of(tmp_path)), "tail")
        before = [path.stat().st_mtime_ns for path in heard]
        for command, event in zip(calls, ("incoming", "connected", "ended"), strict=True):
            counts = [path.read_text().count(f'"{event}"') for path in outputs]
            subprocess.run(command, shell=True, check=True)
            wait_until(
                lambda counts=counts, event=event: any(
                    path.read_text().count(f'"{event}"') > n for path, n in zip(outputs, counts, strict=True)
                ),
                event,
            )
        assert all(path.stat().st_mtime_ns > at for path, at in zip(heard, before, strict=True)), "another call"
        # A terminal that has ended is no trap.
        say = calls[0].partition(" ")[0]
        subprocess.run([say, "bob", "quit"], check=True)
        wait_until(lambda: not any("bob.json" in one for one in users_of(tmp_path)), "quit")
        done = subprocess.run([say, "bob", "status"], capture_output=True, text=True, timeout=10)
        assert (done.returncode, done.stderr) == (1, "say: the terminal of bob has ended\n")
        done = subprocess.run([say, "carol", "status"], capture_output=True, text=True, timeout=10)
        assert (done.returncode, done.stderr) == (2, f"usage: {say} alice|bob COMMAND\n")
    finally:
        subprocess.run([stop], check=True)
    wait_until(lambda: not any(lives(pid) for pid in pids), "stop")
    wait_until(lambda: not users_of(tmp_path), "the tail ends too")
    assert not list(tmp_path.iterdir())


def test_demo_without_micropython(tmp_path: Path) -> None:
    said = run("demo", status=1, MICROPYTHON="/nowhere/micropython", TMPDIR=str(tmp_path))
    assert "demo: MICROPYTHON=/nowhere/micropython is no MicroPython" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "number", "status"),
    [(("demo",), signal.SIGINT, 130), (("bench", "memory"), signal.SIGINT, 130), (("demo",), signal.SIGTERM, 143)],
)
def test_interrupted(tmp_path: Path, command: tuple[str, ...], number: int, status: int) -> None:
    micropython()
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    tool = subprocess.Popen(
        [str(ROOT / "tools" / command[0]), *command[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        wait_until(
            lambda: any("-m terminal" in one or "rom.py" in one for one in users_of(tmp_path)), "a terminal runs"
        )
        # As a terminal does, to the whole group, and twice, as people do.
        os.killpg(tool.pid, number)
        time.sleep(0.2)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(tool.pid, number)
        errors = tool.communicate(timeout=60)[1]
    finally:
        tool.kill()
    assert (tool.returncode, errors) == (status, f"{command[0]}: interrupted\n")
    assert not users_of(tmp_path)
    assert not list(tmp_path.iterdir())


SLEEP = [sys.executable, "-c", "import signal; signal.pause()"]


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """A block that SIGINT ends, as it ends a program, and that leaves the handler as it was."""
    # A shell without job control lets what runs in the background ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_interrupted_in_a_start(tmp_path: Path) -> None:
    """What is started then is stopped too."""

    class Started(Process):
        def __init__(self) -> None:
            super().__init__("sleeper", [*SLEEP, str(tmp_path)], tmp_path / "log", tmp_path)
            wait_until(lambda: users_of(tmp_path), "it runs")
            signal.raise_signal(signal.SIGINT)

    with interruptible(), Lab(tmp_path) as lab:
        lab.start(Started)
    assert not users_of(tmp_path)


def test_interrupted_in_a_stop(tmp_path: Path) -> None:
    """Everything else is stopped all the same."""

    class Stopped(Process):
        def __init__(self, name: str) -> None:
            super().__init__(name, [*SLEEP, str(tmp_path)], tmp_path / name, tmp_path)

        def stop(self) -> None:
            signal.raise_signal(signal.SIGINT)
            super().stop()

    with interruptible(), Lab(tmp_path) as lab:
        for name in ("one", "two"):
            lab.start(Stopped, name)
        wait_until(lambda: len(users_of(tmp_path)) == 2, "both run")
    assert not users_of(tmp_path)


@pytest.mark.parametrize("tool", ["demo", "test", "bench"])
def test_help_needs_nothing(tmp_path: Path, tool: str) -> None:
    """It is answered by a copy that has no environment, and where there is no Python even."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in (tool, "python.sh"):
        shutil.copy(ROOT / "tools" / name, folder)
    path = tmp_path / "bin"
    path.mkdir()
    for name in ("sed", "dirname"):
        (path / name).symlink_to(shutil.which(name) or name)
    for arguments in (["--help"], ["x", "-h"]):
        done = subprocess.run(
            [str(folder / tool), *arguments], capture_output=True, text=True, env={"PATH": str(path)}, timeout=10
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert re.search(rf"^  tools/{tool} +\w", done.stdout, re.MULTILINE)
        assert "#" not in done.stdout
    assert not (tmp_path / ".venv").exists()


def good_call() -> tuple[dict[str, Any], list[list[str]], list[sound.Comparison]]:
    """What `demo.judge` finds nothing wrong with."""
    media = {"sent": 276, "received": 276, "lost": 0, "rejected": 0}
    said = {
        "registered": [{"expires_s": 600}, {"expires_s": 600}],
        "connected": [{"setup_ms": 20, "suite": "AES_CM_128_HMAC_SHA1_80", "by": "neighbour heavy"} for _ in range(2)],
        "again": [{"setup_ms": 30, "by": "setup-key"} for _ in range(2)],
        "ended": [{"media": dict(media)}, {"media": dict(media)}],
        "status": [{"heap_peak": 83 << 10}, {"heap_peak": 84 << 10}],
        "starved": [0, 0],
        "code_kib": 67.5,
        "heap_kib": 112,
        "heap_limit_kib": 28,
    }
    ways = [["frame", "TLS, S/MIME", "frame"], ["frame", "TLS", "frame"]]
    return said, ways, [sound.Comparison(250, 250, 0), sound.Comparison(250, 250, 3)]


def test_the_demo_judges_a_good_call() -> None:
    said, ways, heard = good_call()
    rows, notes = demo.judge(said, ways, heard)
    assert [row.name for row in rows] == ROWS
    assert all(row.good for row in rows)
    assert notes == ["heap: 67.5 KiB of code; at most 84.0 of 112 KiB live, looked at once a second"]
    # One who hears the BYE a little later has sent a packet more; that is told, and no fault.
    said["ended"][1]["media"]["received"] = 275
    rows, notes = demo.judge(said, ways, heard)
    assert all(row.good for row in rows)
    assert rows[6].values == ["276 of 276", "275 of 276"]
    assert notes[0] == "packets to Bob that were still on the way at the end: 1"


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize(
    ("row", "event", "change"),
    [
        ("registered", "registered", {"expires_s": 0}),
        ("call set up in", "connected", {"setup_ms": 5001}),
        ("keys", "connected", {"suite": "AES_CM_128_HMAC_SHA1_32"}),
        ("keys", "connected", {"suite": None}),
        ("who the other is, says", "connected", {"by": "neighbour medium"}),
        ("who the other is, says", "connected", {"by": None}),
        ("second call", "again", {"by": "neighbour heavy"}),
        ("packets sent", "media", {"sent": 249}),
        ("packets received", "media", {"received": 249}),
        ("packets received", "media", {"received": 250}),
        ("packets received", "media", {"received": 277}),
        ("lost", "media", {"lost": 1}),
        ("SRTP rejected", "media", {"rejected": 1}),
        ("live heap beside the code", "status", {"heap_peak": (67 << 10) + 513 + (28 << 10)}),
    ],
)
def test_the_demo_judges_a_bad_call(row: str, event: str, change: dict[str, Any], who: int) -> None:
    said, ways, heard = good_call()
    (said["ended"][who]["media"] if event == "media" else said[event][who]).update(change)
    rows, _ = demo.judge(said, ways, heard)
    assert row in [one.name for one in rows if not one.good]


@pytest.mark.parametrize("who", [0, 1])
def test_the_demo_judges_what_is_missing(who: int) -> None:
    def bad(said: dict[str, Any], ways: list[list[str]], heard: list[sound.Comparison]) -> list[str]:
        return [row.name for row in demo.judge(said, ways, heard)[0] if not row.good]

    said, ways, heard = good_call()
    said["ended"][who]["media"] = None
    assert {"packets sent", "packets received", "lost", "SRTP rejected"} <= set(bad(said, ways, heard))
    said, ways, heard = good_call()
    heard[who] = sound.Comparison(250, 249, 0)
    assert bad(said, ways, heard) == ["audio heard = audio sent"]
    said, ways, heard = good_call()
    said["starved"][who] = 1
    assert bad(said, ways, heard) == ["memory ran out"]
    for place in range(3):
        for way in ("plain", "frame+plain", "TLS+plain", "TLS", "TLS+TLS, S/MIME", "nothing seen"):
            said, ways, heard = good_call()
            ways[0][place] = way
            assert bad(said, ways, heard) == ["signalling went by"]
            if way != "TLS":
                said, ways, heard = good_call()
                ways[1][place] = way
                assert bad(said, ways, heard) == ["second call"]
    said, ways, heard = good_call()
    for one in said["connected"]:
        one["suite"] = None
    assert bad(said, ways, heard) == ["keys"], "none on both sides is no agreement"


def test_the_demo_fails_with_a_bad_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    micropython()
    monkeypatch.setattr(demo, "_SECONDS", 0.5)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["demo", "--keep"])
    monkeypatch.setattr(sound, "compare", lambda *_: sound.Comparison(25, 24, 0))
    assert demo.main() == 1
    said = capsys.readouterr().out
    assert re.findall(r"^(\S.+?) {2,}.* BAD *$", said, re.MULTILINE) == ["audio heard = audio sent"]
    [folder] = tmp_path.iterdir()
    assert f"look into {folder}" in said
    assert "every sample arrived" not in said
    assert "Call by hand" not in said
    assert not users_of(tmp_path), "what is left to look at runs no more"


@pytest.mark.parametrize(
    ("fails", "left", "said"),
    [
        ((), set(), ""),
        (("update",), set(), "apt-get: E: no update"),
        (("two",), {"two"}, "apt-get: E: no two"),
        (("update", "one", "two"), {"one", "two"}, "apt-get: E: no one"),
    ],
)
def test_peers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    fails: tuple[str, ...],
    left: set[str],
    said: str,
) -> None:
    """As root: what can be had is installed, and what can't be is told with what goes without it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    apt = programs / "apt-get"
    apt.write_text(
        "#!/bin/sh\n"
        "for word; do case $word in "
        f'{"|".join(fails) or "-"}) echo "E: no $word" >&2; exit 100 ;; esac; done\n'
        'for word; do case $word in one|two) : >"$BIN/$word"; chmod 755 "$BIN/$word" ;; esac; done\n'
    )
    apt.chmod(0o755)
    monkeypatch.setenv("BIN", str(programs))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(peers, "_POLICY", tmp_path / "policy")
    monkeypatch.setattr(peers, "PACKAGES", {"one": ("one", "calls are skipped"), "two": ("two", "a test is skipped")})
    assert peers.main() == 0
    out, error = capfd.readouterr()
    assert said in error
    assert {name for name in ("one", "two") if f"without {name}: " in out} == left
    assert ("without two: a test is skipped (as root: apt-get install two)" in out) == ("two" in left)
    assert not (tmp_path / "policy").exists()


def test_bench_names_its_parts() -> None:
    said = run("bench", "speed", status=2)
    assert "no benchmark 'speed'; there are memory, srtp, codec, contacts, connections, proxy" in said
    said = run("bench", "--quick", "codec")
    for name in ("CPython", "cryptography", "uvloop"):
        assert re.search(rf"\b{name} \d+\.\d", said)
    assert "MicroPython" not in said, "it takes no part"
    assert "parse and forward" in said


def test_bench_marks_what_is_over_its_limit(capsys: pytest.CaptureFixture[str]) -> None:
    cells: list[report.Cell | str] = [report.at_most(value, 3, "{:.1f} KiB") for value in (3.0, 3.1)]
    report.show(Console(width=100), "A title", ["", "first", "second"], [["a figure", *cells]])
    assert re.search(r"^a figure +3\.0 KiB +3\.1 KiB over$", capsys.readouterr().out, re.MULTILINE)


def test_bench_of_contacts(capsys: pytest.CaptureFixture[str]) -> None:
    contacts.run(Console(width=100), [500, 2000])
    found = re.findall(r"^([\d,]+) +(\d+) B +([\d.]+)( over)? +\d+ B *$", capsys.readouterr().out, re.MULTILINE)
    assert [(count, over) for count, _, _, over in found] == [("500", ""), ("2,000", "")], "it is flat"
    assert all(100 < int(size) < 2000 for _, size, _, _ in found)


def test_bench_of_srtp() -> None:
    micropython()
    said = run("bench", "--quick", "srtp")
    assert re.search(r"MicroPython \d+\.\d+\.\d+ \((32|64) bits\), mpy-cross \d", said)
    mark = r"(?: over)?"
    found = re.findall(
        rf"^((?:un)?protect), (native|plain) +[\d.]+ us +[\d.]+ us +[\d.]+{mark} +(\d) +\d+ B{mark} +600 B *$",
        said,
        re.MULTILINE,
    )
    # Nothing is said about the figures here: times must not fail a test.
    assert found == [
        (what, kind, limit) for kind, limit in (("native", "3"), ("plain", "6")) for what in ("protect", "unprotect")
    ]


def test_bench_of_connections() -> None:
    """They are open, and known to be whose they are, while memory is looked at."""
    said = run("bench", "--quick", "connections")
    found = dict(re.findall(r"^([\d,]+)  +([\d.]+) KiB  +[\d.]+", said, re.MULTILINE))
    assert set(found) == {"500", "1,000"}
    assert all(0 < float(value) < 1000 for value in found.values())


def test_bench_of_connections_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections.resource, "getrlimit", lambda _: (1024, 4096))
    with pytest.raises(LabError, match="4096 open files are allowed"):
        connections.run(Console(), [1000, 10_000])


def test_bench_of_the_proxy() -> None:
    """sipp registers, calls and hangs up; a call that is lost gives no figure."""
    if shutil.which("sipp") is None:
        skip_without("sipp", "sip-tester")
    said = run("bench", "--quick", "proxy")
    wisp = dict(re.findall(r"^(1,000 .*?|registrations a second)  +([\d.e+]+)", said, re.MULTILINE))
    assert {"1,000 calls plain, 100 a second", "1,000 calls with digest, 100 a second"} < set(wisp)
    assert {"1,000 registrations with digest", "registrations a second"} < set(wisp)
    assert all(float(value) > 0 for value in wisp.values())
    assert re.search(r"sipp \d+\.\d", said)


@pytest.mark.parametrize(
    ("bears", "found", "tried"),
    [
        (0, 0, [100, 50, 25]),
        (60, 50, [100, 50, 75]),
        (730, 700, [100, 200, 400, 800, 600, 700]),
        (9999, 1600, [100, 200, 400, 800, 1600]),
    ],
)
def test_bench_finds_the_highest_rate(bears: int, found: int, tried: list[int]) -> None:
    seen = []

    def holds(rate: int) -> bool:
        seen.append(rate)
        return rate <= bears

    assert proxy.highest_rate(holds, 100, 1600, 2) == found
    assert seen == tried


def test_find_micropython(tmp_path: Path) -> None:
    found = {bits: run("find_micropython.py", "--bits", str(bits)).strip() for bits in (32, 64) if micropython(bits)}
    for bits, command in found.items():
        done = subprocess.run([command, "-c", "import sys; print(sys.maxsize)"], capture_output=True, text=True)
        assert (int(done.stdout) < 1 << 32) == (bits == 32)
        assert run("find_micropython.py", MICROPYTHON=command).strip() == command
        # A given one of the other size is not what was asked for.
        other = 96 - bits
        assert run("find_micropython.py", "--bits", str(other), MICROPYTHON=command).strip() == found[other]
    fake = tmp_path / "micropython"
    fake.write_text("#!/bin/sh\necho micropython 64 5\n")
    fake.chmod(0o755)
    assert "1.23 or newer" in run("find_micropython.py", MICROPYTHON=str(fake), status=1)


def test_compare_finds_what_is_wrong(tmp_path: Path) -> None:
    sent, heard = tmp_path / "sent.wav", tmp_path / "heard.wav"
    sound.make_tone(sent, 440, 0.2)
    codec = sound.Codec(0)
    pcm = sound.read(sent)
    coded, decoded = bytearray(len(pcm) // 2), bytearray(len(pcm))
    codec.encode(bytearray(pcm), coded, 0, len(coded))
    codec.decode(coded, 0, decoded, len(coded))
    good = bytes(decoded)

    def compare(data: bytes) -> tuple[int, int, bool]:
        sound.write(heard, list(struct.unpack(f"<{len(data) // 2}h", data)))
        found = sound.compare(sent, heard)
        return found.equal, found.inserted, found.is_equal

    frame, silence = sound.FRAME_BYTES, bytes(sound.FRAME_BYTES)
    assert compare(good) == (10, 0, True)
    assert compare(silence * 3 + good + silence) == (10, 0, True), "silence before and after is no fault"
    assert compare(good[: 5 * frame] + silence + good[5 * frame :]) == (10, 1, True)
    assert compare(good[: 5 * frame] + good[6 * frame :]) == (5, 0, False), "a frame is missing"
    assert compare(good[:-frame]) == (9, 0, False)
    assert compare(good[:100] + b"\x55" + good[101:]) == (0, 0, False), "one sample differs"
    assert compare(b"") == (0, 0, False)


SEALED = "application/pkcs7-mime;smime-type=auth-enveloped-data"


@pytest.mark.parametrize(
    ("protections", "expected"),
    [
        (("frame", "tls", "frame"), ["frame", "TLS, S/MIME", "frame"]),
        (("frame", "tls", "none"), ["frame", "TLS, S/MIME", "plain"]),
        (("frame", "none", "frame"), ["frame", "plain, S/MIME", "frame"]),
        (("frame", None, "frame"), ["frame", "nothing seen", "frame"]),
    ],
)
def test_ways(protections: tuple[str | None, ...], expected: list[str]) -> None:
    found = [
        ladder.Step("t", column, True, "INVITE", protection, "call", SEALED if column == 1 else "application/sdp")
        for column, protection in enumerate(protections)
        if protection is not None
    ]
    # S/MIME is for bodies, and other calls do not count.
    found += [ladder.Step("t", 1, True, "BYE", "tls", "call") for step in found if step.protection == "tls"]
    found.append(ladder.Step("t", 0, True, "REGISTER", "none", "other"))
    assert ladder.ways(found) == expected
    found += [ladder.Step("t", 1, True, "200 OK", "tls", "call", "application/sdp") for _ in found[:1]]
    assert ladder.ways(found)[1] in ("TLS+TLS, S/MIME", "TLS+plain, S/MIME", "TLS"), "one body that is not sealed"
