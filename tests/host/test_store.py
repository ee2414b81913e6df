import asyncio
import gc
import os
import signal
import stat
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config as AlembicConfig
from sip import open_files, run
from sqlalchemy import Executable, Row, create_engine, func, insert, inspect, select, text

from neighbour.location import Binding, Location, wall_ms
from neighbour.store import database
from neighbour.store.accounts import (
    DOMAIN,
    PROXY,
    REDIRECT,
    AccountExistsError,
    AccountModeError,
    Accounts,
    Settings,
    add_account,
    known_users,
    list_accounts,
    remove_account,
    set_account,
    set_mode,
)
from neighbour.store.database import Store, StoreError, migrate, probe
from neighbour.store.schema import accounts, bindings, metadata, secrets
from sipwire.digest import MD5, SHA256, ha1

MIGRATIONS = str(Path(database.__file__).parent / "migrations")


def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/wisp.db"


async def opened(tmp_path: Path) -> Store:
    migrate(url(tmp_path))
    store = Store(url(tmp_path))
    await store.open()
    return store


def row(name: str) -> dict[str, object]:
    return {"name": name, "value": b"x"}


def test_migrations_lead_to_the_schema(tmp_path: Path) -> None:
    """What the steps make is what the code relies on."""
    migrate(url(tmp_path))
    migrate(url(tmp_path))
    engine = create_engine(f"sqlite:///{tmp_path}/wisp.db")
    inspector = inspect(engine)
    assert set(inspector.get_table_names()) == {*metadata.tables, "alembic_version"}
    for name, table in metadata.tables.items():
        found = {column["name"]: column["nullable"] for column in inspector.get_columns(name)}
        assert found == {column.name: column.nullable for column in table.columns}, name
    engine.dispose()
    assert stat.S_IMODE((tmp_path / "wisp.db").stat().st_mode) == 0o600


def made_by(tmp_path: Path, revision: str) -> None:
    """A database as an earlier version has left it."""
    (tmp_path / "wisp.db").touch()
    engine = create_engine(f"sqlite:///{tmp_path}/wisp.db")
    config = AlembicConfig()
    config.set_main_option("script_location", MIGRATIONS)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def test_a_database_of_the_first_version(tmp_path: Path) -> None:
    """Accounts, agreements and bindings are what they were, and the bindings can be refreshed and removed."""
    made_by(tmp_path, "0001")
    engine = create_engine(f"sqlite:///{tmp_path}/wisp.db")
    until = wall_ms() + 600_000
    with engine.begin() as connection:
        connection.execute(text("UPDATE counters SET value = 2"))
        for number, user in enumerate(("carol", "alice"), 1):
            values = {"user": user, "terminal": user == "alice", "ha1": f"{number:064}", "revision": number}
            connection.execute(
                text("INSERT INTO accounts VALUES (:user, :user, :terminal, :ha1, NULL, :revision)"), values
            )
        columns = "user, contact, call_id, cseq, q, expires_at, flow, source, spi, user_agent"
        for row in (
            ("carol", "sip:c@192.0.2.2", "one", 7, 500, until, "udp", "192.0.2.2:5060", None, "Phone"),
            ("carol", "sip:c@192.0.2.3;transport=tcp", "two", 8, 1000, until, "tcp", "192.0.2.3:4711", None, ""),
            ("alice", "sip:alice@192.0.2.4", "hop", 9, 1000, until, "hop", "192.0.2.4:5060", 0xFFFFFFFF, "wisp"),
        ):
            connection.execute(
                text(f"INSERT INTO bindings ({columns}) VALUES (:a, :b, :c, :d, :e, :f, :g, :h, :i, :j)"),
                dict(zip("abcdefghij", row, strict=True)),
            )
        connection.execute(
            text("INSERT INTO agreements VALUES (5, 'alice', 6, :keys, 'n', '192.0.2.4:5060', 1000, 3, :until)"),
            {"keys": bytes(124), "until": until},
        )
        before = [connection.execute(text(f"SELECT {columns} FROM bindings ORDER BY id")).all()]
        before.append(connection.execute(text("SELECT * FROM agreements")).all())
    engine.dispose()
    migrate(url(tmp_path))
    engine = create_engine(f"sqlite:///{tmp_path}/wisp.db")
    with engine.begin() as connection:
        after = [connection.execute(text(f"SELECT {columns} FROM bindings ORDER BY id")).all()]
        after.append(connection.execute(text("SELECT * FROM agreements")).all())
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0005"
    engine.dispose()
    assert after == before

    async def work() -> None:
        store = await opened(tmp_path)
        known = Accounts(store)
        await known.refresh()
        carol, alice = known.by_user("carol"), known.by_user("alice")
        assert carol is not None
        assert alice is not None
        assert (carol.ha1_sha256, carol.revision, carol.mode) == (f"{1:064}", 1, None)
        assert (alice.is_terminal, alice.revision) == (True, 2)
        location = Location(store)
        assert await location.load() == 3
        assert [one.q for one in location.of("carol")] == [1000, 500]
        old = location.of("carol")[1]
        newer = Binding("carol", old.contact, b"one", 8, until)
        await location.change([newer], [location.of("carol")[0]])
        rows = await store.read(select(bindings).where(bindings.c.user == "carol"))
        assert [(row.contact, row.cseq, row.slot) for row in rows] == [("sip:c@192.0.2.2", 8, "sip:c@192.0.2.2")]
        await store.close()

    run(work)


def test_there_is_no_way_back(tmp_path: Path) -> None:
    migrate(url(tmp_path))
    engine = create_engine(f"sqlite:///{tmp_path}/wisp.db")
    config = AlembicConfig()
    config.set_main_option("script_location", MIGRATIONS)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        with pytest.raises(NotImplementedError, match="can't be made one of an earlier version"):
            command.downgrade(config, "0001")
    engine.dispose()


def test_writes_share_commits(tmp_path: Path) -> None:
    async def work() -> None:
        store = await opened(tmp_path)
        statement = insert(secrets)
        await asyncio.gather(*(store.write((statement, row(f"n{i}"))) for i in range(500)))
        assert store.statements == 500
        assert store.commits < 20
        assert (await store.read(select(func.count()).select_from(secrets)))[0][0] == 500
        await store.close()

    run(work)


def test_one_bad_write_does_not_take_others_with_it(tmp_path: Path) -> None:
    async def work() -> None:
        store = await opened(tmp_path)
        statement = insert(secrets)
        await store.write((statement, row("taken")))
        names = ["a", "taken", "b", "taken", "c"]
        results = await asyncio.gather(*(store.write((statement, row(name))) for name in names), return_exceptions=True)
        assert [isinstance(result, StoreError) for result in results] == [False, True, False, True, False]
        found = {one.name for one in await store.read(select(secrets.c.name))}
        assert found == {"taken", "a", "b", "c"}
        await store.close()

    run(work)


def test_the_writer_outlives_a_driver_that_raises_its_own(tmp_path: Path) -> None:
    """SQLite's driver has an OverflowError for a number over 64 bits, which SQLAlchemy lets through."""

    async def work() -> None:
        store = await opened(tmp_path)
        statement = insert(secrets)
        store.write_soon((statement, {"name": 2**70, "value": b"x"}))
        results = await asyncio.gather(
            store.write((statement, row("a"))),
            store.write((statement, {"name": 2**70, "value": b"x"})),
            store.write((statement, row("b"))),
            return_exceptions=True,
        )
        assert [isinstance(result, StoreError) for result in results] == [False, True, False]
        assert {one.name for one in await store.read(select(secrets.c.name))} == {"a", "b"}
        await store.close()

    run(work)


def test_a_write_is_all_or_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        store = await opened(tmp_path)
        statement = insert(secrets)
        await store.write((statement, row("taken")))
        with pytest.raises(StoreError):
            await store.write((statement, row("first")), (statement, row("taken")))
        assert len(await store.read(select(secrets))) == 1
        await store.close()

    run(work)


def test_close_writes_what_is_queued(tmp_path: Path) -> None:
    async def work() -> None:
        store = await opened(tmp_path)
        statement = insert(secrets)
        for i in range(100):
            store.write_soon((statement, row(f"n{i}")))
        await store.close()
        again = await opened(tmp_path)
        assert len(await again.read(select(secrets))) == 100
        await again.close()

    run(work)


def test_what_was_written_is_not_held(tmp_path: Path) -> None:
    """The last batch of a busy time would lie there until the next write."""

    class Name(str):
        """A text that can be watched."""

        __slots__ = ("__weakref__",)

    async def work() -> None:
        store = await opened(tmp_path)
        name = Name("n")
        watched = weakref.ref(name)
        await store.write((insert(secrets), row(name)))
        del name
        await asyncio.sleep(0.05)
        gc.collect()
        assert watched() is None
        await store.close()

    run(work)


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """A process that is killed while it writes loses nothing that it said was written."""
    migrate(url(tmp_path))
    program = textwrap.dedent(f"""
        import asyncio
        from sqlalchemy import insert
        from neighbour.store.database import Store
        from neighbour.store.schema import secrets

        async def one(store, statement, i):
            await store.write((statement, {{"name": f"n{{i}}", "value": b"x"}}))
            print(i, flush=True)

        async def main():
            store = Store({url(tmp_path)!r})
            await store.open()
            statement = insert(secrets)
            i = 0
            while True:
                await asyncio.gather(*(one(store, statement, i + k) for k in range(10)))
                i += 10

        asyncio.run(main())
    """)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(200)]
    os.kill(process.pid, signal.SIGKILL)
    said += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()

    async def work() -> None:
        store = await opened(tmp_path)
        found = {one.name for one in await store.read(select(secrets.c.name))}
        assert {f"n{i}" for i in said} <= found
        await store.close()

    run(work)


def test_unusable_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file or directory"):
        migrate(f"sqlite+aiosqlite:///{tmp_path}/no/wisp.db")
    (tmp_path / "junk.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        migrate(f"sqlite+aiosqlite:///{tmp_path}/junk.db")
    with pytest.raises(StoreError, match="asyncio extension requires an async driver"):
        Store(f"sqlite:///{tmp_path}/wisp.db")


def test_a_database_of_a_newer_version(tmp_path: Path) -> None:
    migrate(url(tmp_path))
    engine = create_engine(f"sqlite:///{tmp_path}/wisp.db")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(StoreError, match="9999"):
        migrate(url(tmp_path))


def test_probe(tmp_path: Path) -> None:
    """It says what `migrate` would, and leaves no trace."""
    probe(url(tmp_path))
    assert list(tmp_path.iterdir()) == []
    migrate(url(tmp_path))
    probe(url(tmp_path))
    (tmp_path / "junk.db").write_bytes(b"this is no database" * 100)
    for bad, reason in (
        (f"sqlite+aiosqlite:///{tmp_path}/junk.db", "not a database"),
        (f"sqlite+aiosqlite:///{tmp_path}/no/wisp.db", "/no is no folder"),
        (f"sqlite:///{tmp_path}/wisp.db", "asyncio extension requires an async driver"),
        ("nonsense", "Could not parse SQLAlchemy URL"),
        ("oracle+none://x/y", "Can't load plugin"),
    ):
        with pytest.raises(StoreError, match=reason):
            probe(bad)


def test_accounts(tmp_path: Path) -> None:
    async def work() -> None:
        store = await opened(tmp_path)
        await add_account(store, "a.example", "alice", "pw", is_terminal=True)
        await add_account(store, "a.example", "old", "pw", is_terminal=False, md5=True, auth_user="4711")
        with pytest.raises(AccountExistsError):
            await add_account(store, "a.example", "other", "pw", is_terminal=False, auth_user="4711")
        known = Accounts(store)
        await known.refresh()
        alice, old = known.by_user("alice"), known.by_auth_user("4711")
        assert alice is not None
        assert old is not None
        assert (alice.algorithm, alice.secret(SHA256)) == (SHA256, ha1(b"alice", b"a.example", b"pw"))
        assert alice.secret(MD5) is None
        assert (old.user, old.algorithm, old.secret(MD5)) == ("old", MD5, ha1(b"4711", b"a.example", b"pw", MD5))
        assert old.secret(SHA256) is None
        assert "pw" not in repr(alice)
        assert (alice.ha1_sha256 or "") not in repr(alice)
        assert [one.user for one in await list_accounts(store)] == ["alice", "old"]
        assert await remove_account(store, "alice")
        assert not await remove_account(store, "alice")
        await known.refresh()
        assert known.by_user("alice") is None
        await store.close()

    run(work)


def test_accounts_are_looked_at_rarely(tmp_path: Path) -> None:
    async def work() -> None:
        store = await opened(tmp_path)
        known = Accounts(store)
        reads = 0
        read = store.read

        async def counted(statement: object) -> object:
            nonlocal reads
            reads += 1
            return await read(statement)  # type: ignore[arg-type]

        store.read = counted  # type: ignore[method-assign, assignment]
        await asyncio.gather(*(known.refresh() for _ in range(1000)))
        await asyncio.gather(*(known.refresh() for _ in range(1000)))
        assert reads <= 4
        await add_account(store, "a.example", "new", "pw", is_terminal=False)
        await known.refresh()
        assert known.by_user("new") is not None
        assert accounts is not None
        await store.close()

    run(work)


def test_every_change_of_accounts_is_seen(tmp_path: Path) -> None:
    """By a counter: no clock that is set back hides one, nor does a user that is removed and made again the same."""

    async def work() -> None:
        store = await opened(tmp_path)
        for user in ("alice", "bob", "carol"):
            await add_account(store, "a.example", user, "pw", is_terminal=False)
        known = Accounts(store)
        told: list[set[str]] = []
        known.gone = told.append
        await known.refresh()
        assert told == []
        await remove_account(store, "alice")
        await add_account(store, "a.example", "dave", "pw", is_terminal=False)
        await known.refresh()
        assert told == [{"alice"}]
        assert known.by_user("dave") is not None
        before = known.by_user("bob")
        await remove_account(store, "bob")
        assert await add_account(store, "a.example", "bob", "pw", is_terminal=False) != before
        await known.refresh()
        assert told[1:] == [{"bob"}]
        await known.refresh()
        assert len(told) == 2
        await store.close()

    run(work)


def test_modes(tmp_path: Path) -> None:
    """How an account is reached may change without its becoming another; a terminal is reached in one way only."""

    async def work() -> None:
        store = await opened(tmp_path)
        await add_account(store, "a.example", "carol", "pw", is_terminal=False, mode=REDIRECT)
        await add_account(store, "a.example", "alice", "pw", is_terminal=True)
        with pytest.raises(AccountModeError, match="bob: a terminal is reached through its neighbour only"):
            await add_account(store, "a.example", "bob", "pw", is_terminal=True, mode=REDIRECT)
        known = Accounts(store)
        told: list[set[str]] = []
        known.gone = told.append
        await known.refresh()
        before = known.by_user("carol")
        assert before is not None
        assert before.mode == REDIRECT
        for mode in (None, PROXY, REDIRECT):
            assert await set_mode(store, "carol", mode)
            await known.refresh()
            now = known.by_user("carol")
            assert now is not None
            assert (now.mode, now) == (mode, before)
        assert told == []
        with pytest.raises(AccountModeError):
            await set_mode(store, "alice", REDIRECT)
        assert await set_mode(store, "alice", PROXY)
        assert not await set_mode(store, "nobody", PROXY)
        assert [one.user for one in await list_accounts(store)] == ["alice", "carol"]
        await store.close()

    run(work)


def test_settings(tmp_path: Path) -> None:
    """Each of them is changed alone, and none makes it another account."""

    async def work() -> None:
        store = await opened(tmp_path)
        await add_account(store, "a.example", "carol", "pw", is_terminal=False)
        known = Accounts(store)
        told: list[set[str]] = []
        known.gone = told.append
        await known.refresh()

        def shown() -> tuple[str | None, ...]:
            carol = known.by_user("carol")
            assert carol is not None
            return carol.mode, carol.level, carol.assist, carol.signer, carol.show

        assert shown() == (None,) * 5
        steps: list[tuple[Settings, tuple[str | None, ...]]] = [
            ({"level": "heavy"}, (None, "heavy", None, None, None)),
            ({"assist": "sign,encrypt", "mode": PROXY}, (PROXY, "heavy", "sign,encrypt", None, None)),
            ({"signer": DOMAIN}, (PROXY, "heavy", "sign,encrypt", "domain", None)),
            ({"show": "subject,asserted"}, (PROXY, "heavy", "sign,encrypt", "domain", "subject,asserted")),
            ({"signer": "support", "level": "none"}, (PROXY, "none", "sign,encrypt", "support", "subject,asserted")),
            ({"assist": "none", "show": "asserted"}, (PROXY, "none", "none", "support", "asserted")),
            ({"mode": None, "level": None, "assist": None, "signer": None, "show": None}, (None,) * 5),
        ]
        for changes, wanted in steps:
            before = known.by_user("carol")
            assert await set_account(store, "carol", **changes)
            await known.refresh()
            assert shown() == wanted
            assert known.by_user("carol") == before
        assert told == []
        assert not await set_account(store, "nobody", level="heavy")
        await store.close()

    run(work)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "some of the settings of an account are wanted"),
        ({"ha1_sha256": "eve"}, "some of the settings of an account are wanted"),
        ({"mode": "b2bua"}, "mode: b2bua is none of proxy, redirect"),
        ({"level": "light"}, "level: light is none of none, medium, heavy"),
        ({"assist": "encrypt,sign"}, "assist: encrypt,sign is not sign, encrypt, or sign,encrypt"),
        ({"assist": "sign,sign"}, "assist: sign,sign is not sign"),
        ({"assist": ""}, "assist:  is not sign"),
        ({"assist": "none,sign"}, "assist: none,sign is not sign"),
        ({"show": "none"}, "show: none is not subject, asserted, or subject,asserted"),
        ({"signer": "a/b"}, "1 to 64 letters, digits"),
    ],
)
def test_settings_that_nobody_would_understand(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    async def work() -> None:
        store = await opened(tmp_path)
        await add_account(store, "a.example", "carol", "pw", is_terminal=False)
        with pytest.raises(ValueError, match=told):
            await set_account(store, "carol", **changes)
        await store.close()

    run(work)


def test_a_database_of_the_second_version(tmp_path: Path) -> None:
    """Its accounts have nothing set, and can have."""
    made_by(tmp_path, "0002")
    engine = create_engine(f"sqlite:///{tmp_path}/wisp.db")
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO accounts VALUES ('carol', 'carol', 0, :ha1, NULL, 1, 'redirect', 1)"), {"ha1": f"{1:064}"}
        )
    engine.dispose()

    async def work() -> None:
        store = await opened(tmp_path)
        (carol,) = await list_accounts(store)
        assert (carol.user, carol.mode, carol.level, carol.assist, carol.signer, carol.show) == (
            "carol",
            REDIRECT,
            None,
            None,
            None,
            None,
        )
        assert await set_account(store, "carol", level="heavy")
        (carol,) = await list_accounts(store)
        assert (carol.mode, carol.level) == (REDIRECT, "heavy")
        await store.close()

    run(work)


def test_users_without_a_store(tmp_path: Path) -> None:
    """To look makes nothing, and what can't be read is no error here."""
    assert known_users(url(tmp_path)) is None
    assert not (tmp_path / "wisp.db").exists()
    (tmp_path / "wisp.db").touch()
    assert known_users(url(tmp_path)) is None
    migrate(url(tmp_path))
    assert known_users(url(tmp_path)) == frozenset()

    async def work() -> None:
        store = await opened(tmp_path)
        await add_account(store, "a.example", "carol", "pw", is_terminal=False)
        assert known_users(url(tmp_path)) == {"carol"}
        await store.close()

    run(work)
    (tmp_path / "wisp.db").write_text("no database at all, but long enough to look like one" * 10)
    assert known_users(url(tmp_path)) is None
    for nonsense in ("nonsense", "mysql://x", "postgresql+asyncpg://nobody@127.0.0.1:1/x"):
        assert known_users(nonsense) is None


def test_a_change_is_read_alone(tmp_path: Path) -> None:
    """One account of many that is new, other or set is one row to read; only where some are gone all are."""

    async def work() -> None:
        store = await opened(tmp_path)
        for number in range(200):
            await add_account(store, "a.example", f"u{number}", "pw", is_terminal=False, auth_user=f"d{number}")
        known = Accounts(store)
        told: list[set[str]] = []
        known.gone = told.append
        await known.refresh()
        rows = 0
        read = store.read

        async def counted(statement: Executable) -> list[Row[Any]]:
            nonlocal rows
            found = await read(statement)
            rows += len(found)
            return found

        store.read = counted  # type: ignore[method-assign]

        async def cost() -> int:
            nonlocal rows
            rows = 0
            await known.refresh()
            return rows

        assert await cost() == 1  # the counter
        await add_account(store, "a.example", "new", "pw", is_terminal=False)
        assert await cost() == 3
        await set_mode(store, "u7", REDIRECT)
        assert await cost() == 3
        await remove_account(store, "u8")
        await add_account(store, "a.example", "u8", "other", is_terminal=False, auth_user="x8")
        assert await cost() == 3
        assert told == [{"u8"}]
        u8, new = known.by_user("u8"), known.by_user("new")
        assert (known.by_auth_user("d8"), known.by_auth_user("x8"), known.by_auth_user("new")) == (None, u8, new)
        await remove_account(store, "u9")
        await add_account(store, "a.example", "another", "pw", is_terminal=False)
        assert await cost() > 200
        assert told[1:] == [{"u9"}]
        assert (known.by_user("u9"), known.by_auth_user("d9")) == (None, None)
        # Two that exchange their digest user names.
        for user in ("u1", "u2"):
            await remove_account(store, user)
        for user, name in (("u1", "d2"), ("u2", "d1")):
            await add_account(store, "a.example", user, "pw", is_terminal=False, auth_user=name)
        assert await cost() == 4
        assert (known.by_auth_user("d1"), known.by_auth_user("d2")) == (known.by_user("u2"), known.by_user("u1"))
        assert await cost() == 1
        await store.close()

    run(work)


def test_who_stops_waiting_leaves_nothing_open(tmp_path: Path) -> None:
    """Cancelled at whatever step, even while a connection is made: nothing has to be found by the collector."""

    async def work() -> None:
        for step in range(12):
            store = await opened(tmp_path)
            reads = [asyncio.ensure_future(store.read(select(secrets))) for _ in range(8)]
            await asyncio.sleep(step * 0.001)
            for one in reads:
                one.cancel()
            await asyncio.gather(*reads, return_exceptions=True)
            await store.close()

    gc.disable()
    try:
        run(work)
        left = [path for path in open_files() if path.startswith(str(tmp_path))]
    finally:
        gc.enable()
    assert left == []
