"""Many units of work, one commit: what makes a database that syncs to disk fast enough.

Callers queue their work. The writer's thread takes all that is there (up to a limit), runs each in a savepoint of its
own within one transaction, commits once, and tells everybody. While it commits, the next batch gathers; so nothing
waits when there is little to do, and batches grow by themselves when there is much.

There is no task behind this: the queue is drained by the lane's thread, which is set going by the first work that
finds it idle. Nothing is left to be cancelled, crashed or forgotten.

A work that raises is rolled back alone, and its exception is raised to its caller alone. If the whole transaction is
lost, every caller is told so. A caller that is cancelled takes its work with it while it is queued; once the work has
begun, the caller waits for the truth.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import trio
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from campaigns.lanes import Lane
from dialer.errors import DialerError, OutcomeUnknownError, UnavailableError

T = TypeVar("T")

BATCH = 100  # works in one commit: the last of them should not wait long for the first
QUEUE_LIMIT = 1_000  # callers that may wait; more wait for a place, and whoever makes them is slowed down


@attrs.define(eq=False)
class _Job:
    work: Callable[[Session], Any]
    task: trio.lowlevel.Task
    begun: bool = False
    result: Any = None
    error: BaseException | None = None


class _TransactionLostError(Exception):
    """The transaction is gone; what others did in it too."""


class GroupCommit:
    """The one writer of a database."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._room = trio.Semaphore(QUEUE_LIMIT)
        self._token = trio.lowlevel.current_trio_token()
        self._lock = threading.Lock()  # over the three below, held for moments only
        self._queue: deque[_Job] = deque()
        self._draining = False
        self._closed = False
        self.works = 0
        self.commits = 0

    def waiting(self) -> int:
        """How many works are queued and not begun."""
        return len(self._queue)

    async def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in a transaction and return its result once that is committed."""
        async with self._room:
            job = _Job(work, trio.lowlevel.current_task())
            with self._lock:
                if self._closed:
                    raise UnavailableError(f"the database {self._lane.name} is closed")
                self._queue.append(job)
                start, self._draining = not self._draining, True
            if start:
                self._lane.submit(self._drain)

            def abort(_raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
                with self._lock:
                    if job.begun:
                        return trio.lowlevel.Abort.FAILED
                    self._queue.remove(job)
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    async def close(self) -> None:
        """Refuse new work, let the queued finish, and close the lane."""
        with self._lock:
            self._closed = True
        await self._lane.close()

    def _drain(self) -> None:
        # In the lane's thread, until the queue is empty.
        while True:
            with self._lock:
                batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
                for job in batch:
                    job.begun = True
                if not batch:
                    self._draining = False
                    return
            self._run(batch)
            try:
                self._token.run_sync_soon(self._tell, batch)
            except trio.RunFinishedError:
                pass  # nobody is left to be told

    def _tell(self, batch: list[_Job]) -> None:
        self.works += len(batch)
        self.commits += 1
        for job in batch:
            trio.lowlevel.reschedule(job.task)

    def _run(self, batch: list[_Job]) -> None:
        committing = False
        try:
            with self._lane.engine.connect() as connection:
                try:
                    connection.begin()
                    for job in batch:
                        self._run_one(connection, job)
                    committing = True
                    connection.commit()
                except BaseException:
                    # SQLite keeps a transaction whose COMMIT failed, while SQLAlchemy believes that it has ended.
                    if not connection.invalidated:
                        connection.connection.rollback()
                    raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, the callers wait to be told
            cause = error.__cause__ or error if isinstance(error, _TransactionLostError) else error
            for job in batch:
                if job.error is None:
                    job.error = self._failure(cause, committing)
                    job.error.__cause__ = cause

    def _run_one(self, connection: Connection, job: _Job) -> None:
        session = Session(connection, expire_on_commit=False, join_transaction_mode="create_savepoint")
        try:
            job.result = job.work(session)
            session.commit()  # the savepoint
        except BaseException as error:  # it is the caller's, and goes to the caller
            job.error = self._lane.unavailable(error) or error
            if job.error is not error:
                job.error.__cause__ = error
            try:
                session.close()
            except Exception as lost:
                raise _TransactionLostError from lost
            if self._lane.is_lost(connection):
                raise _TransactionLostError from error
        else:
            session.close()

    def _failure(self, error: BaseException, committing: bool) -> DialerError:
        if committing and isinstance(error, DBAPIError) and error.connection_invalidated:
            return OutcomeUnknownError(f"the link to {self._lane.name} broke during a commit: {error.orig}")
        known = error if isinstance(error, DialerError) else self._lane.unavailable(error)
        reason = error.orig if isinstance(error, DBAPIError) else error
        return UnavailableError(str(known or f"the database {self._lane.name} did not commit: {reason}"))
