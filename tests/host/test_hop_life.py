"""WIRE section 1.4 at the neighbour: when agreements end, without a look at those that do not."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from counting import operations
from sip import run

from neighbour.aes import new_aes
from neighbour.hop import Agreement, Hops
from neighbour.metrics import Metrics
from neighbour.nonces import Nonces
from neighbour.store.accounts import Accounts
from neighbour.store.database import Store, migrate
from sipwire.hop import HopKeys, HopReceiver, HopSender


class Table:
    """A table of agreements, and a clock that is set."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000_000_000
        monkeypatch.setattr("neighbour.hop.wall_ms", lambda: self.now)
        nonces = Nonces("a.example", 60)
        self.hops = Hops(store, "a.example", nonces, Accounts(store), Metrics())
        self.next_spi = 0

    def add(self, user: str, seconds: int) -> Agreement:
        self.next_spi += 1
        key = HopKeys(bytes(16), bytes(32), bytes(14))
        made = Agreement(
            user,
            self.next_spi,
            self.next_spi,
            HopReceiver(self.next_spi, key, new_aes),
            HopSender(self.next_spi, key, new_aes),
            ("192.0.2.1", 5060),
            self.now + seconds * 1000,
            0,
            b"",
            "",
        )
        self.hops._keep(made)
        return made

    def after(self, seconds: float) -> int:
        """How many are left so much later."""
        self.now += int(seconds * 1000)
        self.hops.expire()
        return len(self.hops)


@contextlib.asynccontextmanager
async def table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Table]:
    url = f"sqlite+aiosqlite:///{folder}/wisp.db"
    migrate(url)
    store = Store(url)
    await store.open()
    try:
        yield Table(store, monkeypatch)
    finally:
        await store.close()


def test_agreements_that_do_not_end_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with table(tmp_path, monkeypatch) as these:
            taken = []
            for count in (10, 10_000):
                for number in range(len(these.hops), count):
                    these.add(f"u{number}", 3600 + number % 60)
                looking = operations(these.hops.expire)
                noting = operations(these.hops.note)
                revoked = operations(lambda: these.hops.revoke({"u3", "nobody"}))
                these.add("u3", 3600)
                taken.append((looking, noting, revoked))
            assert taken[0] == taken[1]
            assert max(taken[0]) < 500
            assert len(these.hops) == 10_000

    run(work)


def test_when_agreements_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with table(tmp_path, monkeypatch) as these:
            refreshed, retired, ended = (these.add(user, 100) for user in ("a", "a", "b"))
            these.after(50)
            these.hops.extension(refreshed, 100)  # and 30 s of grace
            these.hops.retire(retired.spi)
            assert these.after(29) == 3
            assert these.after(1) == 2
            assert these.after(19) == 2
            assert these.after(1) == 1
            assert these.hops.flow(ended.spi) is None
            assert these.after(79) == 1
            assert these.after(1) == 0
            assert (these.hops._ends, these.hops._by_user) == ([], {})

    run(work)


def test_a_terminal_that_comes_and_goes_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with table(tmp_path, monkeypatch) as these:
            agreement = these.add("a", 600)
            for _ in range(100):
                for _ in range(100):
                    these.hops.retire(agreement.spi)
                    these.hops.extension(agreement, 600)
                assert these.after(1) == 1
                assert len(these.hops._ends) <= 6, "for each time that its end was nearer than before"
            assert these.after(631) == 0

    run(work)
