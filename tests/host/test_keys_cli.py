"""`wisp keys` and `wisp account contact`."""

import asyncio
import re
import shutil
from pathlib import Path

import pytest
from sqlalchemy import select
from test_cli import wisp

from neighbour.config import load
from neighbour.location import wall_ms
from neighbour.store.database import Store
from neighbour.store.schema import setup_keys
from neighbour.store.setup_keys import DUE, OFFERED, HeldKeys
from sipwire.compat import b64encode
from sipwire.setup_keys import kid_of

DAVE = "sip:dave@b.example"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a domain with two terminals and a phone."""
    folder = tmp_path_factory.mktemp("keys") / "a"
    wisp("init", str(folder), "--domain", "a.example", "--peer", "b.example=127.0.0.9:5061")
    for user in ("alice", "erin"):
        wisp("account", "add", user, "-c", str(folder), "--terminal", str(folder / f"{user}.json"))
    wisp("account", "add", "carol", "--phone", "--password-stdin", "-c", str(folder), given="secret\n")
    return folder


@pytest.fixture
def made(first: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(first, tmp_path / "a")


def fill(folder: Path) -> list[bytes]:
    """Some keys of every state; returns them."""
    keys = [bytes([number]) * 32 for number in range(5)]

    async def work() -> None:
        store = Store(load(folder / "wisp.toml").store_url)
        await store.open()
        held, now = HeldKeys(store), wall_ms()
        for key, user, peer, state, age_s, left_s in (
            (keys[0], "alice", DAVE, DUE, 7200, 90_000),
            (keys[1], "alice", "sip:x%1B@b.example", OFFERED, 1830, 3700),
            (keys[2], "alice", "sip:erin@a.example", DUE, 130, 3590),
            (keys[2], "erin", "sip:alice@a.example", DUE, 130, 3590),
            (keys[3], "erin", DAVE, DUE, 200_000, 300_000),
            (keys[4], "erin", "sip:over@b.example", DUE, 100, -1),
        ):
            await held.add(kid_of(key), key, (7, now - age_s * 1000, now + left_s * 1000 + 500), state, (user, peer))
        await held.delivered(await held.due("alice", 1))
        assert len(await store.read(select(setup_keys))) == 6
        await store.close()

    asyncio.run(work())
    return keys


def test_keys(made: Path) -> None:
    assert wisp("keys", "-c", str(made)) == (
        "0 setup keys: 0 with their peer's neighbour, 0 for their terminal, 0 delivered\n"
    )
    keys = fill(made)
    told = wisp("keys", "-c", str(made))
    lines = [re.split(r"  +", line.strip()) for line in told.splitlines()]
    assert lines == [
        ["user", "peer", "state", "age", "life left", "uses"],
        ["sip:alice@a.example", DAVE, "delivered, and forgotten here", "2 h", "1 d", "7"],
        ["sip:alice@a.example", "sip:x%1B@b.example", "waits for the peer's neighbour", "30 min", "1 h", "7"],
        ["sip:alice@a.example", "sip:erin@a.example", "waits for the terminal", "2 min", "59 min", "7"],
        ["sip:erin@a.example", "sip:alice@a.example", "waits for the terminal", "2 min", "59 min", "7"],
        ["sip:erin@a.example", DAVE, "waits for the terminal", "2 d", "3 d", "7"],
        ["5 setup keys: 1 with their peer's neighbour, 3 for their terminal, 1 delivered"],
    ]
    for key in keys:
        for secret in (b64encode(key).decode(), key.hex(), kid_of(key).decode()):
            assert secret not in told
    one = wisp("keys", "erin", "-c", str(made))
    assert all(line.strip().startswith("sip:erin@a.example ") for line in one.splitlines()[1:-1])
    assert one.endswith("2 setup keys: 0 with their peer's neighbour, 2 for their terminal, 0 delivered\n")
    assert wisp("keys", "nobody", "-c", str(made), status=1) == "nobody: no such user\n"
    assert wisp("keys", folder=made) == told
    assert "wisp.toml: is not here" in wisp("keys", status=2)


def test_the_key_column_is_never_read(made: Path) -> None:
    """A database without keys would do."""
    fill(made)
    before = wisp("keys", "-c", str(made))

    async def work() -> None:
        store = Store(load(made / "wisp.toml").store_url)
        await store.open()
        await store.write((setup_keys.update().values(key=None), {}))
        await store.close()

    asyncio.run(work())
    assert wisp("keys", "-c", str(made)).splitlines()[-1] == before.splitlines()[-1]


def test_contacts(made: Path) -> None:
    at = ("-c", str(made))
    assert wisp("account", "contact", "alice", *at) == "sip:alice@a.example: no contacts\n"
    added = wisp(
        "account",
        "contact",
        "alice",
        "--add",
        "SIP:dave@B.example",
        "--add",
        "erin@a.example",
        "--add",
        "sips:f%6fo@c.example",
        *at,
    )
    assert added == f"{DAVE}\nsip:erin@a.example\nsip:foo@c.example\n"
    assert wisp("account", "contact", "alice", *at) == added
    assert wisp("account", "contact", "erin", *at) == "sip:erin@a.example: no contacts\n"
    again = wisp(
        "account", "contact", "alice", "--add", DAVE, "--remove", "sip:erin@a.example", "--remove", "x@y.z", *at
    )
    assert again == f"{DAVE}\nsip:foo@c.example\n"
    wisp("account", "remove", "alice", *at)
    assert wisp("account", "contact", "alice", *at, status=1) == "alice: no such user\n"
    assert "lets be introduced to it" in " ".join(wisp("account", "contact", "--help").split())


def test_taking_a_contact_away_forgets_what_is_on_its_way(made: Path) -> None:
    fill(made)
    wisp("account", "contact", "alice", "--remove", "erin@a.example", "-c", str(made))
    told = wisp("keys", "-c", str(made))
    assert "erin@a.example  sip:alice" not in told
    assert told.endswith("3 setup keys: 1 with their peer's neighbour, 1 for their terminal, 1 delivered\n")
    wisp("account", "remove", "erin", "-c", str(made))
    assert wisp("keys", "-c", str(made)).endswith(
        "2 setup keys: 1 with their peer's neighbour, 0 for their terminal, 1 delivered\n"
    )


def test_contacts_that_can_not_be(made: Path) -> None:
    for options, told in (
        (["alice", "--add", "dave"], "dave: an address is wanted, like sip:bob@b.example"),
        (["alice", "--add", "sip:b.example"], "sip:b.example: an address is wanted, like sip:bob@b.example"),
        (["alice", "--add", "tel:+1"], "tel:+1: an address is wanted, like sip:bob@b.example"),
        (["alice", "--add", "dave@b.example:5061"], "dave@b.example:5061: an address is wanted"),
        (["alice", "--add", "dave@b.example;x=y"], "dave@b.example;x=y: an address is wanted"),
        (["alice", "--add", "dävid@b.example"], "dävid@b.example: an address is wanted"),
        (["alice", "--add", "dave@192.0.2.1"], "dave@192.0.2.1: a domain name is wanted, like a.example"),
        (["alice", "--add", f"{'x' * 250}@b.example"], "longer than 256 characters"),
        (["alice", "--add", DAVE, "--remove", DAVE], f"{DAVE}: to be added, or to be removed"),
        (["alice", "--add", "alice@a.example"], "sip:alice@a.example: is alice itself"),
        (["carol", "--add", DAVE], "carol: is a phone, and phones take no setup keys"),
    ):
        assert told in wisp("account", "contact", *options, "-c", str(made), status=2)
    for user in ("alice", "carol"):
        assert wisp("account", "contact", user, "-c", str(made)).endswith("no contacts\n")


def test_more_contacts_than_there_may_be(made: Path) -> None:
    options = [text for number in range(257) for text in ("--add", f"u{number}@b.example")]
    said = wisp("account", "contact", "alice", *options, "-c", str(made), status=1)
    assert said == "alice: 256 contacts are as many as there may be\n"


def test_what_check_says_of_contacts(made: Path) -> None:
    contacts = ("erin@a.example", "ghost@a.example", "support@a.example", DAVE)
    wisp("account", "contact", "alice", *(text for one in contacts for text in ("--add", one)), "-c", str(made))
    path = made / "wisp.toml"
    text = path.read_text()
    group = '[[group]]\nuri = "sip:support@a.example"\nmembers = ["carol"]\n\n[metrics]'
    changed = text.replace("[metrics]", group).replace('# transport = "tls"', 'transport = "tcp"')
    path.write_text(changed)
    told = wisp("check", str(made))
    assert sum("has a contact" in line for line in told.splitlines()) == 3, told
    assert "alice has a contact sip:ghost@a.example, which is no account" in told
    assert "alice has a contact sip:support@a.example, which is a group, and setup keys are of two users" in told
    assert "`wisp account contact alice --remove sip:ghost@a.example` takes it away" in told
    assert "alice has a contact sip:dave@b.example, and setup keys go over tls only" in told
    path.write_text(text.replace('authority = "ca"', '# authority = "ca"'))
    assert "setup keys have to be signed, and there is nothing to sign with" in wisp("check", str(made))
    path.write_text(text)
    assert "have to be signed" not in wisp("check", str(made))
