"""Locks of one transaction that are of no row: PostgreSQL's advisory locks, let go of at the commit.

SQLite has one writer at a time: there is nothing to lock, and whoever asks has it.
"""

from __future__ import annotations

from enum import IntEnum

from sqlalchemy import text
from sqlmodel import Session


class Lock(IntEnum):
    """What is locked. The number of the migrations' own, which is of a connection, is 1 (`migrate`)."""

    ADDITIONS = 0x6469616C_00000002  # of leads
    REMOVALS = 0x6469616C_00000003  # of entries of do-not-call lists
    HISTORIES = 0x6469616C_00000004  # who was called how often


def take(session: Session, lock: Lock, *, shared: bool = False, wait: bool = True) -> bool:
    """Holds `lock` until the commit; False if others hold it and it was not to `wait`."""
    connection = session.connection()
    if connection.dialect.name != "postgresql":
        return True
    function = f"pg_{'' if wait else 'try_'}advisory_xact_lock{'_shared' if shared else ''}"
    return connection.scalar(text(f"SELECT {function}(:key)"), {"key": int(lock)}) is not False
