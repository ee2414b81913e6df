"""tools/bench agent: its tables, with few messages and few calls."""

import io
import re

import pytest
from rich.console import Console

from benchmarks import agent, calls


def test_tables() -> None:
    console = Console(file=io.StringIO(), width=140, highlight=False)
    agent.run(console, 20, 1, 10)  # so few calls may take less than the tick that CPU time is counted in
    said = console.file.getvalue()
    for what in ("sign", "encrypt", "decrypt", "verify", "seal an INVITE", "open it", "open it, chain not cached"):
        found = re.search(rf"^{what} +(\d+) us +(\d+) us +([\d.]+) *$", said, re.MULTILINE)
        assert found, said
        assert int(found[1]) > 0 < int(found[2])
    assert re.search(r"^seal and open it +\d+ us +\d+ us +[\d.]+( over)? *$", said, re.MULTILINE), said
    for level, operations in (("medium", "0.00"), ("heavy", "1.00")):
        for domain in ("a.example", "b.example"):
            counted = rf" +{re.escape(operations)}" * 4
            assert re.search(rf"^{level}, {domain} +[\d.]+ ms +(\d+|not measurable){counted} *$", said, re.MULTILINE), (
                said
            )


def test_a_call_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_CALLEE", "nobody")

    async def not_there(phone: calls._Phone) -> None:
        """Nobody registers."""

    monkeypatch.setattr(calls._Phone, "register", not_there)
    with pytest.raises(calls.LabError, match=r"\d\d\d to INVITE"):
        calls.calls("medium", 2)
