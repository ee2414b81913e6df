"""The commands that a newcomer types: they do what they say, and say what is wrong."""

import os
import re
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ROOT, micropython
from interop.phones import skip_without

from lab import ladder, sound


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


def test_demo(tmp_path: Path) -> None:
    micropython()
    said = run("demo", TMPDIR=str(tmp_path))
    for step in ("REGISTER, plain", "INVITE, frame", "INVITE, TLS", "180 Ringing, TLS", "ACK, TLS", "BYE, frame"):
        assert step in said
    rows = re.findall(r"^(\S.+?) {2,}(.+?) {2,}(.+?) {2,}good *$", said, re.MULTILINE)
    assert [name for name, *_ in rows] == [
        "registered",
        "call set up in",
        "signalling went by",
        "keys",
        "packets sent",
        "packets received",
        "lost",
        "SRTP rejected",
        "audio heard = audio sent",
        "heap used at peak, of 112K",
    ]
    assert [rows[8][1], rows[8][2]] == ["250 of 250 frames"] * 2
    assert "every sample arrived" in said
    assert not list(tmp_path.iterdir()), "the demo leaves nothing behind"


def test_demo_keep(tmp_path: Path) -> None:
    """What it says for calls by hand works, as typed."""
    micropython()
    said = run("demo", "--keep", TMPDIR=str(tmp_path))
    commands = [line.strip() for line in said.partition("Call by hand:")[2].splitlines() if line.startswith("  ")]
    listen, *by_hand, stop = commands
    outputs = [Path(word) for word in listen.split()[2:4]]
    stop = stop.partition(" ")[0]
    pids = re.findall(r"\d+", Path(stop).read_text().splitlines()[1].partition("2>")[0])
    try:
        assert len(pids) == 4
        assert all(lives(pid) for pid in pids)
        for command, event in zip(by_hand, ("incoming", "connected", "ended"), strict=True):
            counts = [path.read_text().count(f'"{event}"') for path in outputs]
            subprocess.run(command, shell=True, check=True)
            end = time.monotonic() + 20
            while all(path.read_text().count(f'"{event}"') == n for path, n in zip(outputs, counts, strict=True)):
                assert time.monotonic() < end, event
                time.sleep(0.1)
    finally:
        subprocess.run([stop], check=True)
    end = time.monotonic() + 20
    while any(lives(pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert not list(tmp_path.iterdir())


def test_demo_without_micropython() -> None:
    said = run("demo", status=1, MICROPYTHON="/nowhere/micropython")
    assert "demo: MICROPYTHON=/nowhere/micropython is no MicroPython" in said


def test_bench_names_its_parts() -> None:
    said = run("bench", "speed", status=2)
    assert "no benchmark 'speed'; there are memory, srtp, codec, neighbour" in said
    said = run("bench", "--quick", "codec")
    assert "cryptography" in said
    assert "parse and forward" in said


def test_bench_of_srtp() -> None:
    micropython()
    said = run("bench", "--quick", "srtp")
    found = re.findall(r"^((?:un)?protect), (native|plain)\D+([\d.]+) us, (\d+) B +([\d.]+) us", said, re.MULTILINE)
    assert [row[:2] for row in found] == [
        (what, kind) for kind in ("native", "plain") for what in ("protect", "unprotect")
    ]
    assert all(float(row[2]) > float(row[4]) > 0 for row in found), "nothing is faster than its floor"


def test_bench_of_the_neighbour() -> None:
    """Which has sipp register, call and hang up 500 times, and fails where one of these fails."""
    if shutil.which("sipp") is None:
        skip_without("sipp", "sip-tester")
    said = run("bench", "--quick", "neighbour")
    rows = dict(re.findall(r"^(CPU s per 1,000 calls|registrations per second).*?  +([\d.e+]+)", said, re.MULTILINE))
    assert set(rows) == {"CPU s per 1,000 calls", "registrations per second"}
    assert all(float(value) > 0 for value in rows.values())


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


@pytest.mark.parametrize(
    ("protections", "expected"),
    [
        (("frame", "tls", "frame"), ["frame", "TLS", "frame"]),
        (("frame", "tls", "none"), ["frame", "TLS", "plain"]),
        (("frame", None, "frame"), ["frame", "nothing seen", "frame"]),
    ],
)
def test_ways(protections: tuple[str | None, ...], expected: list[str]) -> None:
    found = [
        ladder.Step("t", column, True, "INVITE", protection, "call")
        for column, protection in enumerate(protections)
        if protection is not None
    ]
    # Other calls do not count.
    found.append(ladder.Step("t", 0, True, "REGISTER", "none", "other"))
    assert ladder.ways(found) == expected
