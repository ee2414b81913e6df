"""The store: reads, and writes that share their commits.

    write() -> queue -> one writer task: BEGIN, everything queued, COMMIT -> every caller goes on

A write is answered after the COMMIT that holds it, and many share one: with a commit each, SQLite manages two thousand
    a second, so tens of thousands. What is written by `write_soon` goes into the next commit without anybody waiting.
"""

import asyncio
from pathlib import Path
from typing import Any

import structlog
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.util import CommandError
from sqlalchemy import Executable, Row, create_engine, event, inspect, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

__all__ = ["Statement", "Store", "StoreBusyError", "StoreError", "migrate", "probe", "read_at_once"]

_log = structlog.get_logger("store")
_MAX_BATCH = 500  # statements per commit: beyond that nobody gains and the first one waits
_MAX_QUEUED = 5000  # writes that wait: what comes after so many has waited too long when it is done; they fail
_CLOSE_S = 10.0
#: What a database that is not to be had shows itself by; drivers let errors of the network through as they are.
_FAILURES = (SQLAlchemyError, CommandError, ModuleNotFoundError, OSError)

#: A statement and its parameters.
Statement = tuple[Executable, dict[str, Any]]


class StoreError(Exception):
    """The database refused or failed; the text says what and where."""


class StoreBusyError(StoreError):
    """So many writes wait for the database already that this one was not taken."""


def _sync_url(url: str) -> str:
    """The URL of the same database for a driver without asyncio, which migrations use."""
    return url.replace("+aiosqlite", "").replace("+asyncpg", "+psycopg")


def _tune(connection: Any, _: Any) -> None:
    """SQLite for a server: readers beside the writer, nothing lost by a power cut, nothing left of what was deleted."""
    try:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "secure_delete=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
    except Exception:
        connection.close()  # nobody else does, as it is in no pool yet
        raise


def migrate(url: str) -> None:
    """Bring the database to the newest schema; makes it where there is none, readable for us alone.

    Raises:
        StoreError: it can't be opened or changed.
    """
    if url.startswith("sqlite"):
        path = Path(url.partition(":///")[2])
        try:
            path.touch(mode=0o600, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    try:
        engine = create_engine(_sync_url(url))
        if url.startswith("sqlite"):
            event.listen(engine, "connect", _tune)
        try:
            with engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        finally:
            engine.dispose()
    except _FAILURES as error:
        raise StoreError(_first_line(error)) from error


def probe(url: str) -> None:
    """See whether a database can be opened; makes and changes nothing.

    Raises:
        StoreError: it can't be.
    """
    try:
        create_async_engine(url)  # names an asyncio driver that is there
        if url.startswith("sqlite"):
            path = Path(url.partition(":///")[2])
            if not path.parent.is_dir():
                raise StoreError(f"{path.parent} is no folder")
            if not path.exists():
                return
        engine = create_engine(_sync_url(url))
        try:
            inspect(engine).get_table_names()
        finally:
            engine.dispose()
    except _FAILURES as error:
        raise StoreError(_first_line(error)) from error


def read_at_once(url: str, statement: Executable) -> list[Row[Any]] | None:
    """The rows of a SELECT, read at once and without a store; None where there is no such database or table yet.

    Args:
        url: of the database, as the configuration has it.
        statement: the SELECT.
    """
    try:
        plain = make_url(url)
        if plain.get_backend_name() == "sqlite" and not Path(plain.database or "").is_file():
            return None  # to look must not make it
        driver = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}.get(plain.get_backend_name())
        engine = create_engine(plain.set(drivername=driver or plain.drivername))
        try:
            with engine.connect() as connection:
                return list(connection.execute(statement).fetchall())
        finally:
            engine.dispose()
    except _FAILURES:
        return None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class Store:
    """An open database.

    Args:
        url: an SQLAlchemy URL with an asyncio driver, brought up to date by `migrate` before.
        max_queued: how many writes may wait.

    Raises:
        StoreError: the URL names no such driver.
    """

    def __init__(self, url: str, max_queued: int = _MAX_QUEUED) -> None:
        self.url = url
        try:
            self._engine: AsyncEngine = create_async_engine(url, hide_parameters=True)
        except _FAILURES as error:
            raise StoreError(_first_line(error)) from error
        if url.startswith("sqlite"):
            event.listen(self._engine.sync_engine, "connect", _tune)
        self._queue: asyncio.Queue[tuple[list[Statement], asyncio.Future[None] | None]] = asyncio.Queue(max_queued)
        self._is_dropping = False
        self._writer: asyncio.Task[None] | None = None
        self._reads: set[asyncio.Task[list[Row[Any]]]] = set()
        #: How many commits were made and how many statements they held, for the metrics.
        self.commits = 0
        self.statements = 0

    async def open(self) -> None:
        """Start the writer.

        Raises:
            StoreError: the database can't be opened.
        """
        try:
            async with self._engine.connect():
                pass
        except _FAILURES as error:
            raise StoreError(_first_line(error)) from error
        self._writer = asyncio.create_task(self._write_forever(), name="store writer")

    async def close(self) -> None:
        """Write what is queued, let reads end, then close."""
        if self._writer is not None:
            try:
                await asyncio.wait_for(self._queue.join(), _CLOSE_S)
            except TimeoutError:
                _log.error("writes lost", reason="the database did not take them in time")
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        if self._reads:
            await asyncio.wait(self._reads, timeout=_CLOSE_S)
        await self._engine.dispose()

    async def read(self, statement: Executable) -> list[Row[Any]]:
        """The rows of a SELECT.

        Raises:
            StoreError: the database failed.
        """
        # Shielded: who is cancelled while a connection is opened would leave it behind, open and in no pool.
        task = asyncio.create_task(self._read(statement), name="store read")
        self._reads.add(task)
        task.add_done_callback(self._was_read)
        return await asyncio.shield(task)

    async def _read(self, statement: Executable) -> list[Row[Any]]:
        try:
            async with self._engine.connect() as connection:
                return list((await connection.execute(statement)).fetchall())
        except _FAILURES as error:
            raise StoreError(_first_line(error)) from error

    def _was_read(self, task: "asyncio.Task[list[Row[Any]]]") -> None:
        self._reads.discard(task)
        if not task.cancelled():
            task.exception()  # where nobody waits for it any more nobody has to hear of it

    @property
    def queued(self) -> int:
        """How many writes wait."""
        return self._queue.qsize()

    async def write(self, *statements: Statement) -> None:
        """Execute statements in one transaction; returns after its COMMIT.

        Raises:
            StoreBusyError: too many wait already; none has been done.
            StoreError: the database refused them; none has been done.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((list(statements), done))
        except asyncio.QueueFull:
            raise StoreBusyError("too many writes wait for the database") from None
        await done

    def write_soon(self, *statements: Statement) -> None:
        """Execute statements with the next commit; a failure is logged.

        They are what a restart would find out by itself: where too many writes wait already they are dropped, which is
        logged once until there is room again.
        """
        try:
            self._queue.put_nowait((list(statements), None))
        except asyncio.QueueFull:
            if not self._is_dropping:
                _log.error("writes dropped", reason="too many wait for the database")
            self._is_dropping = True
        else:
            self._is_dropping = False

    async def _write_forever(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty() and len(batch) < _MAX_BATCH:
                batch.append(self._queue.get_nowait())
            try:
                await self._commit(batch)
            finally:
                for _ in range(len(batch)):
                    self._queue.task_done()
                del batch  # the next may come in an hour

    async def _commit(self, batch: list[tuple[list[Statement], asyncio.Future[None] | None]]) -> None:
        try:
            async with self._engine.begin() as connection:
                await _execute(connection, [statement for statements, _ in batch for statement in statements])
        except Exception as error:  # drivers raise their own too, as OverflowError: the writer outlives them all
            if len(batch) > 1:
                # One of them is at fault: each on its own, so that the others are not lost with it.
                for item in batch:
                    await self._commit([item])
                return
            statements, done = batch[0]
            if done is None or done.cancelled():
                _log.error("write failed", reason=_first_line(error))
            else:
                done.set_exception(StoreError(_first_line(error)))
            return
        self.commits += 1
        for statements, done in batch:
            self.statements += len(statements)
            if done is not None and not done.cancelled():
                done.set_result(None)


async def _execute(connection: AsyncConnection, statements: list[Statement]) -> None:
    """Execute in order; a run of the same statement goes to the driver in one call."""
    at = 0
    while at < len(statements):
        statement, parameters = statements[at]
        run = [parameters]
        while at + len(run) < len(statements) and statements[at + len(run)][0] is statement:
            run.append(statements[at + len(run)][1])
        await connection.execute(statement, run if len(run) > 1 else parameters)
        at += len(run)
