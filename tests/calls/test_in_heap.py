"""Terminals whose code lies in the heap, as on a board that can't run it in flash: what is left of that is for calls."""

from pathlib import Path

import pytest

from calls.conftest import connect, hang_up, make_terminal
from calls.test_changes import starved
from calls.test_sealed_calls import change
from lab.lab import Lab

_DOMAINS = (("a.example", "alice"), ("b.example", "bob"))
_HOLD_KIB = 128  # with words of 32 bits


@pytest.mark.parametrize("holds", [False, True])
def test_calls(lab: Lab, image: Path, holds: bool) -> None:
    """Speech with what a plain ESP32 has of heap; to change a call takes more."""
    lab.code = str(image)
    lab.make_domains("a.example", "b.example")
    setup = {"level": "medium"}
    paths = [make_terminal(lab, domain, user, 440, 20, setup=setup) for domain, user in _DOMAINS]
    for domain, _ in _DOMAINS:
        lab.start_neighbour(domain)
    heap_kib = _HOLD_KIB * lab.heap_kib // 112 if holds else lab.heap_kib
    alice, bob = (lab.start_terminal(path, heap_kib) for path in paths)
    for one in (alice, bob):
        one.wait_for("registered", 20)
    for _ in range(3):
        connect(alice, bob)
        if holds:
            change(alice, bob, "hold")
            change(alice, bob, "resume")
        marks = [len(one.lines) for one in (alice, bob)]
        for ended in hang_up(bob, alice):
            assert ended["media"]["lost"] == 0
        for one, mark in zip((alice, bob), marks, strict=True):
            one.wait_for("key", since=mark)
    assert [starved(one) for one in (alice, bob)] == [[], []]
