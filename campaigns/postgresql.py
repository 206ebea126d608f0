"""A lane to PostgreSQL: psycopg's blocking connection in a thread of its own, and the locks that say who runs on it.

The daemon's locks are PostgreSQL's advisory locks, held by the very session that writes. So they cannot be lost
unnoticed: when that session breaks, the next write needs a new session, and a new session takes the locks before
anything else, or nothing is written.
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import psycopg
import trio
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from campaigns.file_lock import refusal
from campaigns.lanes import Reply, run
from dialer.errors import ConfigurationError, DialerError, UnavailableError

CONNECT_SECONDS = 10  # to a server that does not answer
PATIENCE_SECONDS = 3.0  # for the server to notice that the daemon whose place we take has died
STATEMENT_SECONDS = 60  # nothing of ours takes a tenth of it; a stuck server must not hold a caller for ever
_BETWEEN_CUTS_SECONDS = 0.05
_LOCK_SPACE = 0x6469616C  # "dial": keeps our advisory locks apart from other programs'
_THE_DAEMON = 0


def make_engine(url: URL, application_name: str, *, read_only: bool = False) -> Engine:
    """An engine of one connection, which is made again when it breaks."""
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=1,
        max_overflow=0,
        pool_pre_ping=True,
        # A read sees one state of the database from its first statement to its last, as SQLite's does.
        isolation_level="REPEATABLE READ" if read_only else "READ COMMITTED",
        execution_options={"postgresql_readonly": True} if read_only else {},
        connect_args={
            "application_name": application_name,
            "connect_timeout": CONNECT_SECONDS,
            "options": f"-c statement_timeout={STATEMENT_SECONDS * 1000} -c timezone=UTC",
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        },
    )


def hold_locks(engine: Engine, name: str, node: str, *, exclusive: bool) -> None:
    """Make every session of `engine` take the daemon's locks first, and fail when another daemon has them.

    The first session fails with ConfigurationError; a later one, which replaces a broken one, with UnavailableError:
    its own predecessor may not be buried yet.
    """
    opened = False

    @event.listens_for(engine, "connect")
    def _take(dbapi_connection: psycopg.Connection[Any], _record: object) -> None:
        nonlocal opened
        shared = "" if exclusive else "_shared"
        wanted = [(f"pg_try_advisory_lock{shared}", _THE_DAEMON)]
        if not exclusive:
            wanted.append(("pg_try_advisory_lock", _node_key(node)))
        message = None
        deadline = time.monotonic() + PATIENCE_SECONDS
        with dbapi_connection.cursor() as cursor:
            for function, key in wanted:
                while message is None:
                    cursor.execute(f"SELECT {function}(%s, %s)", (_LOCK_SPACE, key))
                    if cursor.fetchone() == (True,):
                        break
                    if time.monotonic() > deadline:
                        message = _refusal(cursor, name, node, key, exclusive=exclusive)
                    time.sleep(0.02)
        if message is not None:
            dbapi_connection.close()
            raise UnavailableError(message) if opened else ConfigurationError(message)
        dbapi_connection.commit()  # the locks are the session's and outlive the transaction
        opened = True


def _node_key(node: str) -> int:
    key = zlib.crc32(node.encode()) - 2**31
    return key if key != _THE_DAEMON else 1


def _refusal(cursor: psycopg.Cursor[Any], name: str, node: str, key: int, *, exclusive: bool) -> str:
    cursor.execute(
        "SELECT a.application_name, a.client_addr FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
        " WHERE l.locktype = 'advisory' AND l.granted AND l.classid = %s::oid"
        " AND l.objid = (%s::bigint & 4294967295)::oid AND l.database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())",
        (_LOCK_SPACE, key),
    )
    holders = ", ".join(f"{app} at {address or 'this host'}" for app, address in cursor.fetchall())
    return refusal(name, node, holders, same_node=key != _THE_DAEMON, exclusive=exclusive)


def process_name(node: str | None) -> str:
    """What PostgreSQL shows of this process, to find it by."""
    return f"dialer node={node or '-'} pid={os.getpid()}"[:63]


class PostgresLane:
    """One connection to PostgreSQL and its thread. The connection is made by the first use."""

    def __init__(self, name: str, engine: Engine) -> None:
        self.name = name
        self.engine = engine
        self._running: psycopg.Connection[Any] | None = None
        self._cutting = threading.Lock()  # over the four below
        self._reading = False
        self._unwanted = False
        self._cutter: threading.Thread | None = None
        self._ended = threading.Event()
        self._queue: SimpleQueue[tuple[Reply | None, Callable[[], Any]] | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name=f"lane to {name}", daemon=True)
        self._thread.start()

        @event.listens_for(engine, "checkout")
        def _checkout(dbapi_connection: psycopg.Connection[Any], _record: object, _proxy: object) -> None:
            self._running = dbapi_connection

        @event.listens_for(engine, "before_cursor_execute")
        def _look(*_args: object) -> None:
            if self._unwanted:
                raise UnavailableError(f"a read of {name} was cancelled")

    def _serve(self) -> None:
        while (item := self._queue.get()) is not None:
            reply, function = item
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 - whatever it is, somebody waits for it
                if reply is not None:
                    reply.call_soon_threadsafe(reply.set_exception, error)
            else:
                if reply is not None:
                    reply.call_soon_threadsafe(reply.set_result, result)

    def submit(self, function: Callable[[], None], reply: Reply | None = None) -> None:
        if self._closed:
            raise RuntimeError("the database is closed")
        self._queue.put((reply, function))

    def cut(self) -> None:
        with self._cutting:
            if self._reading:
                self._unwanted = True
                self._cutter = threading.Thread(target=self._cut, args=(self._ended,), daemon=True)
                self._cutter.start()

    def _cut(self, ended: threading.Event) -> None:
        # Again and again, since PostgreSQL ignores it between two statements, and the next may be the long one.
        while not ended.is_set():
            connection = self._running
            if connection is not None and not connection.closed:
                try:
                    connection.cancel_safe(timeout=CONNECT_SECONDS)
                except psycopg.Error:
                    pass  # the link is broken: then the read ends too
            ended.wait(_BETWEEN_CUTS_SECONDS)

    def start_read(self) -> None:
        self._ended = threading.Event()
        self._reading = True

    def end_read(self) -> None:
        with self._cutting:
            self._reading = self._unwanted = False
            self._ended.set()
            cutter, self._cutter = self._cutter, None
        if cutter is not None:
            cutter.join()  # so that it does not hit whatever comes next

    def is_lost(self, connection: Connection) -> bool:
        return connection.invalidated

    def unavailable(self, error: BaseException) -> DialerError | None:
        if isinstance(error, OperationalError | InterfaceError) or (
            isinstance(error, DBAPIError) and (error.connection_invalidated or _is_read_only(error))
        ):
            return UnavailableError(f"the database {self.name} cannot be used now: {error.orig}; nothing was changed")
        return None

    def _let_go(self) -> None:
        # By itself the server does it when it sees that we are gone, which is later than our successor may come.
        connection = self._running
        if connection is not None and not connection.closed and not connection.broken:
            try:
                connection.execute("SELECT pg_advisory_unlock_all()")
            except psycopg.Error:
                pass  # the link is broken: then they are gone, or soon will be
        self.engine.dispose()

    async def close(self) -> None:
        with trio.CancelScope(shield=True):
            await run(self, self._let_go)
            self._closed = True
            self._queue.put(None)
            await trio.to_thread.run_sync(self._thread.join)


def _is_read_only(error: DBAPIError) -> bool:
    """Whether the server takes no changes: it is a standby now, or its disk is full (SQLSTATE 25006)."""
    return isinstance(error.orig, psycopg.errors.ReadOnlySqlTransaction)
