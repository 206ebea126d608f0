"""A lane: one database connection and the one thread that uses it, served to trio.

Work goes to the connection, not the other way round: a whole unit of work, a plain function, runs in the lane's
thread in one hop. While a trio task waits for it, nothing of the connection is touched by another thread; so there is
no half-used connection that a cancelled task could leave behind, locked, for a garbage collection to find.

SQLite's lane is aiosqlite's connection thread. aiosqlite is asyncio's, but asks little of a future: `get_loop`,
`call_soon_threadsafe`, `done`, `set_result` and `set_exception`; `Reply` has those and wakes a trio task. The few
methods that ask asyncio for a future are overridden. The private names used are held by a test.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, Protocol, Self, TypeVar, TypeVarTuple, Unpack

import aiosqlite
import trio
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool
from sqlmodel import Session

from dialer.errors import DialerError, UnavailableError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

BUSY_SECONDS = 5.0  # longer than any transaction of ours holds the lock; another program's may not take longer
_CACHE_KIB = 16 * 1024  # a writer comes back to the same pages: those of the leads that are called now
_BULK_CACHE_KIB = 56 * 1024
_BULK_PAGES = 4_000  # of the log before they are copied to their places: 16 MB, and some 50 ms of the disk's time
_VM_STEPS_BETWEEN_LOOKS = 20_000  # some 0.2 ms of SQLite's work between two looks at whether a read is still wanted


class Reply:
    """What a thread will answer: enough of an asyncio future for aiosqlite, awaited by one trio task."""

    def __init__(self, on_cancel: Callable[[], None] | None = None) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._on_cancel = on_cancel
        self._task: trio.lowlevel.Task | None = None
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None

    def get_loop(self) -> Self:
        return self

    def call_soon_threadsafe(self, function: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        try:
            self._token.run_sync_soon(function, *args)
        except trio.RunFinishedError:
            pass  # nobody is left to be told

    def done(self) -> bool:
        return self._done

    def set_result(self, value: Any) -> None:
        self._value = value
        self._wake()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._wake()

    def _wake(self) -> None:
        self._done = True
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)

    async def wait(self) -> Any:
        """The answer. Cancelling does not end the wait, because the thread is at work: `on_cancel` may hurry it."""
        if not self._done:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
            self._task = None
        if self._error is not None:
            raise self._error
        return self._value

    def _abort(self, _raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        if self._on_cancel is not None:
            self._on_cancel()
        return trio.lowlevel.Abort.FAILED

    def __await__(self) -> Generator[Any, None, Any]:
        return self.wait().__await__()


class Lane(Protocol):
    """One connection and its thread. `engine` may be used only by functions that the lane runs."""

    name: str  # the database, without its password
    engine: Engine

    def submit(self, function: Callable[[], None], reply: Reply | None = None) -> None:
        """Queue `function` for the thread, and return; its result or exception goes to `reply`."""
        ...

    def cut(self) -> None:
        """Stop the read that has been started, from trio's thread, without blocking."""
        ...

    def start_read(self) -> None:
        """From now on `cut` works. Called before a read is submitted."""
        ...

    def end_read(self) -> None:
        """From now on `cut` does nothing, and none is under way. Called in the lane's thread."""
        ...

    def is_lost(self, connection: Connection) -> bool:
        """Whether the transaction on `connection` is gone, whatever its owner believes."""
        ...

    def unavailable(self, error: BaseException) -> DialerError | None:
        """`error` in the project's terms when the database is at fault, not the work; None when it is the work."""
        ...

    def close(self) -> Awaitable[None]:
        """Let what is queued finish, close the connection and end the thread."""
        ...


async def run(lane: Lane, function: Callable[[], T]) -> T:
    """Run `function` in the lane's thread and wait for it, cancelled or not."""
    reply = Reply()
    lane.submit(function, reply)  # type: ignore[arg-type]
    result: T = await reply
    return result


async def read(lane: Lane, work: Callable[[Session], T]) -> T:
    """Run `work` on a session of its own, in a transaction that is not committed; cancelling cuts it short."""

    def whole() -> T:
        with Session(lane.engine, expire_on_commit=False) as session:
            try:
                result = work(session)
                session.flush()  # a read that changes a row is a mistake: it is refused here and not just forgotten
                return result
            finally:
                # What comes now is the rollback. If that were cut, SQLAlchemy would throw the connection away.
                lane.end_read()

    await trio.lowlevel.checkpoint_if_cancelled()
    lane.start_read()
    reply = Reply(on_cancel=lane.cut)
    lane.submit(whole, reply)  # type: ignore[arg-type]
    try:
        result: T = await reply
    except BaseException as error:
        await trio.lowlevel.checkpoint_if_cancelled()  # it failed because it was cut: say so as trio does
        translated = lane.unavailable(error)
        if translated is not None:
            raise translated from error
        raise
    return result


class _TrioConnection(aiosqlite.Connection):
    """aiosqlite's connection and its thread, awaited from trio."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self._thread.daemon = True  # a program that dies without closing must not hang; WAL makes that safe

    def submit(self, function: Callable[[], Any], reply: Reply | None) -> None:
        if not self._running or self._connection is None:
            raise RuntimeError("the database is closed")
        self._tx.put_nowait((reply, function))  # type: ignore[arg-type]

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        reply = Reply()
        self.submit(partial(fn, *args, **kwargs), reply)
        return await reply

    async def _connect(self) -> Self:
        if self._connection is None:
            try:
                reply = Reply()
                self._tx.put_nowait((reply, self._connector))  # type: ignore[arg-type]
                self._connection = await reply
            except BaseException:
                self.stop()
                raise
        return self

    def stop(self) -> Any:
        # asyncio's part of the base method is to make a future; its closing function is the one we need.
        self._running = False
        connection, self._connection = self._connection, None
        reply = Reply()

        def close_and_stop() -> Any:
            if connection is not None:
                connection.close()
            return aiosqlite.core._STOP_RUNNING_SENTINEL

        self._tx.put_nowait((reply, close_and_stop))  # type: ignore[arg-type]
        return reply


# What SQLite says when its surroundings are at fault; any other code is a mistake in the work.
_SQLITE_OUTSIDE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
}


def sqlite_unavailable(name: str, error: BaseException) -> DialerError | None:
    """`error` as UnavailableError when SQLite's surroundings are at fault: locked, full, unreadable."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # the extended codes keep the plain one in the low byte
        if code in _SQLITE_OUTSIDE:
            return UnavailableError(f"the database {name} cannot be used now: {cause}; nothing was changed")
    return None


class SqliteLane:
    """One connection to a SQLite file. Opened by `open`; not to be made otherwise."""

    def __init__(self, name: str, connection: _TrioConnection, *, writer: bool) -> None:
        self.name = name
        self._connection = connection
        self._cutting = threading.Lock()  # over the two below and interrupt()
        self._reading = False
        self._unwanted = False
        # One connection for as long as the lane lives: SQLAlchemy is lent it, and must not make another.
        self.engine = create_engine("sqlite://", creator=lambda: connection._conn, poolclass=StaticPool)
        begin = "BEGIN IMMEDIATE" if writer else "BEGIN"

        @event.listens_for(self.engine, "begin")
        def _begin(connection: Connection) -> None:
            # sqlite3's own transactions begin too late to hold what was read before: updates get lost.
            connection.exec_driver_sql(begin)

    @classmethod
    async def open(cls, path: str, name: str, *, writer: bool, bulk: bool = False) -> SqliteLane:
        """A lane on the file `path`, which exists; only a `writer` can change it, and a `bulk` one much at a time."""

        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            # FULL: a commit that was reported is on disk. Group commit makes it nearly free.
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            if writer:
                connection.execute(f"PRAGMA cache_size=-{_BULK_CACHE_KIB if bulk else _CACHE_KIB}")
            if bulk:
                # Leads go to random places of an index: pages are changed again and again before they are copied.
                connection.execute(f"PRAGMA wal_autocheckpoint={_BULK_PAGES}")
            if not writer:
                connection.execute("PRAGMA query_only=ON")
                connection.set_progress_handler(lane._look, _VM_STEPS_BETWEEN_LOOKS)
            return connection

        connection = _TrioConnection(connect)
        lane = cls(name, connection, writer=writer)
        try:
            await connection
            # What SQLAlchemy does with a new connection must not be cut by a cancelled read either.
            await run(lane, lane._first_use)
        except sqlite3.Error as error:
            raise sqlite_unavailable(name, error) or error from error
        return lane

    def _first_use(self) -> None:
        self.engine.connect().close()

    def submit(self, function: Callable[[], None], reply: Reply | None = None) -> None:
        self._connection.submit(function, reply)

    def _look(self) -> bool:
        return self._unwanted

    def cut(self) -> None:
        with self._cutting:
            if self._reading:
                # interrupt() ends a statement that is running; the flag one that starts a moment later.
                self._unwanted = True
                self._connection._conn.interrupt()

    def start_read(self) -> None:
        self._reading = True

    def end_read(self) -> None:
        with self._cutting:
            self._reading = self._unwanted = False

    def is_lost(self, connection: Connection) -> bool:
        # A full disk and its like make SQLite roll the whole transaction back by itself.
        return not self._connection._conn.in_transaction

    def unavailable(self, error: BaseException) -> DialerError | None:
        return sqlite_unavailable(self.name, error)

    async def close(self) -> None:
        with trio.CancelScope(shield=True):
            await run(self, self.engine.dispose)
            await self._connection.stop()
            await trio.to_thread.run_sync(self._connection._thread.join)
