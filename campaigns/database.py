"""The database: one writer, a few readers, and units of work that are plain functions.

    async with open_database(url, node="dialer-1", exclusive=True) as database:
        lead = await database.read(lambda session: session.get(LeadRow, 1))

A unit of work gets a Session, may do with it whatever it likes except to commit, and returns plain values or rows. It
runs in the database's own thread and never awaits. `write` returns once the work is on disk. SQLite is served through
aiosqlite's connection threads (`lanes`), PostgreSQL through psycopg in threads (`postgresql`); both commit in groups
(`group_commit`). Nothing outside this package knows which it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlmodel import Session

from campaigns import lanes
from campaigns.file_lock import NODE_NAME, daemon_locks
from campaigns.group_commit import GroupCommit
from campaigns.lanes import Lane, SqliteLane
from campaigns.migrate import migrate, sqlite_engine, switch_to_wal
from dialer.errors import ConfigurationError, DialerError, UnavailableError

T = TypeVar("T")

READERS = 2  # one for what people look at, one that is free when that takes long


class Database:
    """An open database. Made by `open_database`."""

    def __init__(self, name: str, writer: Lane, readers: list[Lane]) -> None:
        self.name = name  # without the password
        self._writer = GroupCommit(writer)
        self._readers = readers
        self._idle = list(readers)
        self._reader_free = trio.Semaphore(len(readers))

    def __repr__(self) -> str:
        busy = len(self._readers) - len(self._idle)
        return (
            f"<Database {self.name}: {self._writer.waiting()} writes waiting, {busy} of {len(self._readers)} reading>"
        )

    async def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in a transaction; its result, once that is committed and on disk.

        If `work` raises, what it did is rolled back and the exception comes out here. UnavailableError: the database
        could not do it now, and nothing was changed. OutcomeUnknownError: the link to PostgreSQL broke during the
        commit. Cancelled while still queued, the work never runs; cancelled later, this waits for it and returns or
        raises what is true.
        """
        return await self._writer.write(work)

    async def read(self, work: Callable[[Session], T]) -> T:
        """Run `work` on one unchanging state of the database; it cannot write. Cancelling cuts it short."""
        async with self._reader_free:
            lane = self._idle.pop()
            try:
                return await lanes.read(lane, work)
            finally:
                self._idle.append(lane)

    def statistics(self) -> Mapping[str, int]:
        """Counts since opening, for an operator."""
        return {
            "writes": self._writer.works,
            "commits": self._writer.commits,
            "writes_waiting": self._writer.waiting(),
            "readers_busy": len(self._readers) - len(self._idle),
        }


@asynccontextmanager
async def open_database(
    url: str, *, node: str | None, exclusive: bool = False, readers: int = READERS
) -> AsyncIterator[Database]:
    """The database at `url`, brought to this version's schema, for as long as the context lasts.

    `url` is `sqlite:///file`, `sqlite:////absolute/file` or `postgresql://user:password@host/name`. A daemon gives
    its `node` name, and is refused (ConfigurationError) when a daemon of that name runs on the database. With
    `exclusive` it must be the only daemon there. Tools give no node and are never in a daemon's way.

    Raises ConfigurationError for a URL, a file or a schema that a person must look at, UnavailableError when the
    database is away for now. Leaving the context waits for the writes that have been queued.
    """
    if node is not None and not NODE_NAME.fullmatch(node):
        raise ConfigurationError(f"the node name {node!r} should be letters, digits, _ and -, at most 63")
    if readers < 1:
        raise ConfigurationError(f"a database needs at least 1 reader, not {readers}")
    parsed = _parse(url)
    name = parsed.render_as_string(hide_password=True)
    opening = _open_sqlite if parsed.get_backend_name() == "sqlite" else _open_postgresql
    async with AsyncExitStack() as stack:
        writer, reading = await opening(stack, parsed, name, node, exclusive, readers)
        database = Database(name, writer, reading)
        stack.push_async_callback(database._writer.close)
        yield database


def _parse(url: str) -> URL:
    right = "it should be like sqlite:////var/lib/dialer/dialer.db or postgresql://user:password@host/name"
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError(f"the database URL cannot be read; {right}") from None
    shown = parsed.render_as_string(hide_password=True)
    if parsed.drivername == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or parsed.query or parsed.host:
            raise ConfigurationError(f"the database URL {shown} names no file; {right}")
        return parsed
    if parsed.drivername in ("postgresql", "postgresql+psycopg"):
        return parsed
    raise ConfigurationError(f"the database URL {shown} names neither SQLite nor PostgreSQL; {right}")


async def _open_sqlite(
    stack: AsyncExitStack, url: URL, name: str, node: str | None, exclusive: bool, readers: int
) -> tuple[Lane, list[Lane]]:
    path = Path(url.database or "").absolute()  # noqa: ASYNC240 - a moment, once, at the start
    if not path.parent.is_dir():
        raise ConfigurationError(f"the directory of the database {name} does not exist: make {path.parent}")
    if node is not None:
        stack.enter_context(daemon_locks(path, node, exclusive=exclusive))
    try:
        await trio.to_thread.run_sync(_prepare_sqlite, str(path), name)
    except (DBAPIError, sqlite3.Error) as error:
        raise lanes.sqlite_unavailable(name, error) or error from error
    reading: list[Lane] = []
    for _ in range(readers):
        lane = await SqliteLane.open(str(path), name, writer=False)
        stack.push_async_callback(lane.close)
        reading.append(lane)
    # Opened last and closed first, by its GroupCommit; nothing can fail between here and there.
    # A tool may import a list; a daemon's writes are small and many.
    return await SqliteLane.open(str(path), name, writer=True, bulk=node is None), reading


def _prepare_sqlite(path: str, name: str) -> None:
    with sqlite_engine(path) as engine:
        migrate(engine, name)
    switch_to_wal(path)


async def _open_postgresql(
    stack: AsyncExitStack, url: URL, name: str, node: str | None, exclusive: bool, readers: int
) -> tuple[Lane, list[Lane]]:
    from campaigns import postgresql  # its driver is loaded where there is a PostgreSQL

    process = postgresql.process_name(node)
    engine = postgresql.make_engine(url, process)
    if node is not None:
        postgresql.hold_locks(engine, name, node, exclusive=exclusive)
    writer = postgresql.PostgresLane(name, engine)
    try:
        # On the writer's own connection, so that the locks are held before anything is changed.
        await lanes.run(writer, partial(migrate, engine, name))
        reading: list[Lane] = []
        for _ in range(readers):
            lane = postgresql.PostgresLane(name, postgresql.make_engine(url, process, read_only=True))
            stack.push_async_callback(lane.close)
            reading.append(lane)
    except DBAPIError as error:
        await writer.close()
        raise _cannot_open(name, error) from error
    except BaseException:
        await writer.close()
        raise
    return writer, reading


def _cannot_open(name: str, error: DBAPIError) -> DialerError:
    reason = str(error.orig).strip()
    if "authentication failed" in reason or "does not exist" in reason or "permission denied" in reason:
        return ConfigurationError(f"the database {name} refuses us: {reason}")
    return UnavailableError(f"the database {name} cannot be opened now: {reason}")
