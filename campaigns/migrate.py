"""Brings a database to this version's schema, or refuses one that is newer.

Everything happens in one transaction that holds the database's write lock (SQLite) or a lock of its own (PostgreSQL),
and the revision is read again inside it: of two programs that start at once one migrates, and the other finds it
done. A migration that fails leaves nothing behind, since DDL is rolled back on both databases.

Most of the time there is nothing to be done, which is told without alembic: to load it and its scripts takes longer
than most commands.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from importlib.resources import files

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.pool import NullPool

from dialer.errors import ConfigurationError, UnavailableError

WAIT_SECONDS = 60  # for another program that migrates; the largest table is copied in less
_LOCK_KEY = 0x6469616C_00000001
_one_at_a_time = threading.Lock()  # alembic keeps its context in module globals


def migrate(engine: Engine, name: str) -> None:
    """Upgrade the database behind `engine`, called `name` in messages. Blocks: to be run in a thread."""
    with _one_at_a_time, engine.connect() as connection:
        if _revision(connection, name) == head():
            return
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        if _revision(connection, name) != head():
            _upgrade(connection)
            if connection.dialect.name == "sqlite":
                broken = connection.execute(text("PRAGMA foreign_key_check")).first()
                if broken is not None:
                    raise UnavailableError(f"the database {name} has rows that refer to nothing: {broken}")
        connection.commit()


def head() -> str:
    """The revision that this version works with."""
    return max(_known())


@cache
def _known() -> frozenset[str]:
    """Every revision there is: each script is called by its own, and they are in order."""
    scripts = files("campaigns") / "migrations" / "versions"
    return frozenset(one.name.partition("_")[0] for one in scripts.iterdir() if one.name.endswith(".py"))


def _revision(connection: Connection, name: str) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if found is not None and found not in _known():
        raise ConfigurationError(
            f"the database {name} was made by a newer version (its revision is {found}, this version knows up to"
            f" {head()}); nothing was touched: install the newer version, or name another database"
        )
    return found


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "campaigns:migrations")  # found in a wheel too
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@contextmanager
def sqlite_engine(path: str) -> Iterator[Engine]:
    """An engine for migrating the SQLite file `path`, made if need be."""
    engine = create_engine("sqlite://", creator=lambda: _connect(path), poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    try:
        yield engine
    finally:
        engine.dispose()


def switch_to_wal(path: str) -> None:
    """Make readers and the writer of the SQLite file `path` not wait for each other. It stays so."""
    deadline = time.monotonic() + WAIT_SECONDS
    with closing(_connect(path)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                # Several that switch at once do not wait, whatever the timeout: SQLite sees a deadlock.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)
    # Off, because changing a table copies it and drops the old one, which would delete what refers to it. What is
    # there is checked before the commit. (It cannot be changed within a transaction.)
    connection.execute("PRAGMA foreign_keys=OFF")
    return connection
