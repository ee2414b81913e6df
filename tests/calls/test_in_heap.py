"""What a terminal needs of heap for its calls, where its code runs in flash, and where it lies in the heap too."""

import time
from pathlib import Path

import pytest

from calls.conftest import connect, hang_up, make_terminal
from calls.test_changes import starved
from calls.test_sealed_calls import change
from calls.test_text_calls import Reader, check_text, press
from lab.lab import Lab

_DOMAINS = (("a.example", "alice"), ("b.example", "bob"))
_CALLS = 3  # the first makes a setup key, the others use one and leave another


@pytest.mark.parametrize(
    ("place", "kib", "does"),
    [
        ("flash", 84, {"digits", "hold"}),
        ("flash", 96, {"digits", "hold", "text"}),
        ("heap", 112, set()),
        ("heap", 128, {"hold"}),
        ("heap", 160, {"digits", "hold", "text"}),
    ],
    ids=lambda value: " ".join(sorted(value)) or "speech" if isinstance(value, set) else str(value),
)
def test_calls(lab: Lab, image: Path, rom: Path, place: str, kib: int, does: set[str]) -> None:
    """Calls by setup key with speech and what else is named, in a heap of so much; README.md has these figures.

    Args:
        lab, image, rom: the fixtures.
        place: where the code lies.
        kib: of heap with words of 32 bits.
        does: what there is beside speech.
    """
    lab.code = str(rom if place == "flash" else image)
    lab.make_domains("a.example", "b.example")
    has_text = "text" in does
    more = {"setup": {"level": "medium"}, "text": has_text}
    paths = [make_terminal(lab, domain, user, 440, 20, **more) for domain, user in _DOMAINS]
    for domain, _ in _DOMAINS:
        lab.start_neighbour(domain)
    alice, bob = (lab.start_terminal(path, kib * lab.heap_kib // 112) for path in paths)
    for one in (alice, bob):
        one.wait_for("registered", 20)
    for number in range(_CALLS):
        connect(alice, bob)
        if "hold" in does:
            change(alice, bob, "hold")
            change(alice, bob, "resume")
        if has_text:
            reader = Reader(bob)
            alice.send("write Hello Bob")
            reader.wait_for("Hello Bob\n")
        if "digits" in does:
            press(bob, alice, "12#")
        for one in (alice, bob):
            first = one.status()
            time.sleep(0.5)
            told = one.status()
            assert told["talked_ms"] >= first["talked_ms"] + 500
            assert told["media"]["sent"] >= first["media"]["sent"] + 10
            assert told["suite"] == "AES_CM_128_HMAC_SHA1_80"
            assert told["by"] == ("setup-key" if number else "neighbour medium")
        marks = [len(one.lines) for one in (alice, bob)]
        for ended in hang_up(bob, alice):
            assert ended["media"]["lost"] == 0
            if has_text:
                check_text(ended["media"], 1)
        for one, mark in zip((alice, bob), marks, strict=True):
            one.wait_for("key", since=mark)
            by = [line["by"] for line in one.lines if line["event"] == "connected"]
            assert by[number] == ("setup-key" if number else "neighbour medium"), by
    assert [starved(one) for one in (alice, bob)] == [[], []]
