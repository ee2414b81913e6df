"""`wisp calls`, what it keeps and for how long, and `wisp account set` of media."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from test_cli import wisp

from neighbour.accounting import Accounting
from neighbour.config import load
from neighbour.store.calls import list_calls
from neighbour.store.database import Store

DAY_MS = 86_400_000
MEDIA = [
    {
        "kind": "audio",
        "protection": "passed",
        "duration_ms": 5000,
        "sides": [
            {"packets": 250, "bytes": 43000, "dropped": {"replayed": 2, "tag": 1}},
            {"packets": 249, "bytes": 42900, "dropped": {}},
        ],
    }
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calls") / "a"
    wisp("init", str(folder), "--domain", "a.example")
    wisp("account", "add", "alice", "-c", str(folder), "--terminal", str(folder / "alice.json"))
    wisp("account", "add", "carol", "--phone", "--password-stdin", "-c", str(folder), given="secret\n")
    return folder


def keep(folder: Path, days: int, work: Callable[[Accounting, list[int]], None]) -> int:
    """Let somebody keep records; returns how many there are then."""

    async def inside() -> int:
        store = Store(load(folder / "wisp.toml").store_url)
        await store.open()
        now = [1_800_000_000_000]
        work(Accounting(store, days, lambda: now[0]), now)
        await store.close()
        store = Store(load(folder / "wisp.toml").store_url)
        await store.open()
        found = await list_calls(store, 100)
        await store.close()
        return len(found)

    return asyncio.run(inside())


def test_calls(made: Path) -> None:
    assert wisp("calls", "-c", str(made)) == "0 calls\n"

    def work(accounting: Accounting, now: list[int]) -> None:
        record = accounting.begin("sip:alice@a.example", "sip:bob@b.example", "ab" * 32)
        now[0] += 2000
        record = record.connect()
        now[0] += 65_000
        record.end(MEDIA, "")
        accounting.begin("sip:carol@a.example", "sip:e\x1b[31mve@b.example", "cd" * 32).write(486)
        accounting.begin("sip:carol@a.example", "sip:" + "x" * 400, "cd" * 32).write(0)

    assert keep(made, 30, work) == 3
    said = wisp("calls", "-c", str(made))
    assert "\x1b" not in said
    lines = said.splitlines()
    assert lines[-1] == "3 calls"
    first = next(line for line in lines if "alice" in line)
    assert first.split() == [
        "2027-01-15", "08:00:00", "sip:alice@a.example", "sip:bob@b.example", "65", "s", "hung", "up", "audio",
        "passed", "250/249", "3/0",
    ]  # fmt: skip
    assert "486" in next(line for line in lines if "ve@b.example" in line)
    assert "no answer" in said
    (found,) = [json.loads(line) for line in wisp("calls", "alice", "--json", "-c", str(made)).splitlines()]
    assert (found["caller"], found["status"], found["media"]) == ("sip:alice@a.example", 200, MEDIA)
    assert (found["connected_at"] - found["began_at"], found["ended_at"] - found["connected_at"]) == (2000, 65_000)
    assert wisp("calls", "--last", "1", "-c", str(made)).splitlines()[-1] == "1 call"
    assert wisp("calls", "nobody", "-c", str(made)) == "0 calls\n"

    def later(accounting: Accounting, now: list[int]) -> None:
        accounting.look()
        now[0] += 29 * DAY_MS
        accounting.look()
        accounting.begin("sip:carol@a.example", "sip:bob@b.example", "ef" * 32).write(404)
        now[0] += 2 * DAY_MS
        accounting.look()

    assert keep(made, 30, later) == 1


def test_nothing_is_kept_where_nothing_is_to_be(made: Path) -> None:
    def work(accounting: Accounting, now: list[int]) -> None:
        accounting.begin("sip:a@a.example", "sip:b@b.example", "00").write(200)
        now[0] += 100 * DAY_MS  # nor what was kept before
        accounting.look()

    assert keep(made, 0, work) == 0


def test_media_of_an_account(made: Path) -> None:
    place = ("-c", str(made))
    assert wisp("account", "set", "carol", "--relay", "always", "--srtp", "off", *place) == (
        "sip:carol@a.example: relay always, srtp off\n"
    )
    assert wisp("account", "list", *place).splitlines()[2].split()[-2:] == ["always", "off"]
    wisp("account", "set", "carol", "--relay", "default", "--srtp", "default", *place)
    assert wisp("account", "list", *place).splitlines()[2].split()[-1] == "SHA-256"
    assert "a terminal has nothing but SRTP" in wisp("account", "set", "alice", "--srtp", "off", *place, status=2)
    assert "relay never" in wisp("account", "set", "alice", "--relay", "never", *place)
    assert "--relay, --srtp is wanted" in wisp("account", "set", "alice", *place, status=2)
