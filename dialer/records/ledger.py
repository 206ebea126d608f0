"""Where attempts are written down: leased and opened before the wire, closed once, with everything owed to them.

A result that the database does not take at once waits here, in order, and on disk in a journal: a daemon that is
killed meanwhile writes it in its next life.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import attrs
import structlog
import trio
from sqlmodel import Session

from campaigns import hopper, store
from campaigns.abandonment import LAW_SECONDS, abandoned_of
from campaigns.database import Database
from campaigns.hopper import Lease, Leased, OpenAttempt, Outlook
from campaigns.recycle import NextStep
from campaigns.rules.callable import RuleBook
from campaigns.slots import Slot
from campaigns.store import CdrRow
from campaigns.trunk import Trunk
from dialer.clock import Clock
from dialer.errors import InputRefusedError, OutcomeUnknownError, UnavailableError
from dialer.records.journal import Journal

log = structlog.get_logger()
T = TypeVar("T")

RETRY_FIRST_SECONDS: Final = 0.2
RETRY_LAST_SECONDS: Final = 5.0
# A result that has waited this long is put into the journal, and no call is placed while one does.
SLOW_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.25


@attrs.frozen
class Result:
    """How an attempt ended: its record, and what becomes of the lead."""

    record: CdrRow
    step: NextStep
    closed_at: datetime

    def write(self, session: Session) -> bool:
        """Closes the attempt; False if it was closed before. May be tried any number of times."""
        # A new row for each try: the one of a failed transaction belongs to a session that is gone.
        return store.close_attempt(session, CdrRow(**self.record.model_dump()), self.step, self.closed_at)

    def to_json(self) -> bytes:
        value = {
            "record": self.record.model_dump(mode="json"),
            "step": self.step.to_value(),
            "closed_at": self.closed_at.isoformat(),
        }
        return json.dumps(value).encode()

    @staticmethod
    def from_json(text: bytes) -> Result:
        """The result that `to_json` wrote, of this version or an older one. Raises ValueError for anything else."""
        value: dict[str, Any] = json.loads(text)
        record = CdrRow.model_validate(value["record"])
        if "abandoned" not in value["record"]:
            record.abandoned = abandoned_of(record, LAW_SECONDS)
        return Result(record, NextStep.from_value(value["step"]), datetime.fromisoformat(value["closed_at"]))


@attrs.define(eq=False)
class _Waiting:
    """A result that is being written."""

    result: Result
    since: float
    journaled: bool = False


class DatabaseLedger:
    """The ledger in the database. `trouble` says why results cannot be written, empty when all is well."""

    def __init__(self, database: Database, clock: Clock, node: str, journal: Journal) -> None:
        self.trouble = ""
        self._database = database
        self._clock = clock
        self._node = node
        self._journal = journal
        self._journal_used = False
        self._waiting: dict[str, _Waiting] = {}
        self._returning = 0

    def __repr__(self) -> str:
        return f"<DatabaseLedger {self.unwritten} unwritten{', ' + self.trouble if self.trouble else ''}>"

    @property
    def unwritten(self) -> int:
        """Results and returned leases that are not in the database yet."""
        return len(self._waiting) + self._returning

    async def lease(
        self,
        book: RuleBook,
        slots: Sequence[Slot],
        trunks: Mapping[str, Trunk],
        idle_agents: Collection[str] | None = None,
        *,
        in_turn: bool = False,
    ) -> Leased:
        """The next callable leads, one for each slot or fewer, with their attempts written down; see `hopper.lease`.

        Raises UnavailableError; nothing is leased then.
        """
        now = self._clock.now()

        def lease(session: Session) -> Leased:
            return hopper.lease(
                session, book, slots, trunks, self._node, now, idle_agents=idle_agents, in_turn=in_turn
            )

        try:
            return await self._database.write(lease)
        except OutcomeUnknownError as error:  # if they were leased, nothing has been sent: put them back
            await self._return([slot.uuid for slot in slots])
            raise UnavailableError(str(error)) from error

    async def send(self, lease: Lease, book: RuleBook) -> bool:
        """What was only offered is about to be sent. Keeps trying until it is written; False if it must not be."""
        now = self._clock.now()
        return await self._write_surely(lambda session: hopper.send(session, lease.uuid, book, now))

    async def outlook(self, campaign_id: int) -> Outlook:
        """Whom the campaign has to call, now and next. Raises UnavailableError."""
        return await self._database.read(lambda session: hopper.outlook(session, campaign_id))

    async def return_unsent(self, lease: Lease) -> None:
        """The call was never placed: the lead is as if never leased. Keeps trying until it is written."""
        await self._return([lease.uuid])

    async def _return(self, uuids: Sequence[str]) -> None:
        now = self._clock.now()
        self._returning += 1
        try:
            await self._write_surely(lambda session: hopper.return_unsent(session, uuids, now))
        finally:
            self._returning -= 1

    async def close(self, record: CdrRow, step: NextStep) -> None:
        """Result, record and the lead's next step in one transaction. Keeps trying until it is written."""
        waiting = _Waiting(Result(record, step, self._clock.now()), trio.current_time())
        self._waiting[record.attempt_uuid] = waiting
        try:
            if not await self._write_surely(waiting.result.write):
                log.warning("attempt_was_closed_before", attempt=record.attempt_uuid)
        finally:
            del self._waiting[record.attempt_uuid]

    async def open_attempts(self) -> list[OpenAttempt]:
        """What this node has begun and not closed."""
        return list(await self._database.read(lambda session: hopper.open_attempts_of(session, self._node)))

    async def _write_surely(self, work: Callable[[Session], T]) -> T:
        pause_seconds = RETRY_FIRST_SECONDS
        while True:
            try:
                result = await self._database.write(work)
            except (UnavailableError, OutcomeUnknownError) as error:  # each work may be repeated
                if not self.trouble:
                    log.error("result_not_written", error=str(error))
                self.trouble = str(error)
                await trio.sleep(pause_seconds)
                pause_seconds = min(RETRY_LAST_SECONDS, pause_seconds * 2)
            else:
                self.trouble = ""
                return result

    async def replay(self) -> None:
        """Writes what a former life left in the journal, as soon as the database takes it."""
        kept = await self._journal.entries()
        for entry in kept:
            try:
                await self._write_surely(Result.from_json(entry).write)
            except (ValueError, KeyError, InputRefusedError) as error:  # of a database that was another, say
                log.error("journal_entry_not_written", error=str(error), entry=entry.decode(errors="replace"))
        if kept:
            log.info("journal_written", results=len(kept))
            await self._journal.clear()

    async def keep_house(self) -> None:
        """Puts results that wait too long into the journal, and empties it when none waits, until cancelled."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            slow_since = trio.current_time() - SLOW_SECONDS
            slow = [one for one in self._waiting.values() if one.since <= slow_since]
            try:
                fresh = [one for one in slow if not one.journaled]
                if fresh:
                    self.trouble = self.trouble or "the database is slow"
                    log.warning("results_wait", results=len(slow), trouble=self.trouble)
                    self._journal_used = True
                    await self._journal.append([one.result.to_json() for one in fresh])
                    for one in fresh:
                        one.journaled = True
                elif self._journal_used and not any(one.journaled for one in self._waiting.values()):
                    await self._journal.clear()
                    self._journal_used = False
            except UnavailableError as error:
                log.error("journal_not_written", error=str(error))
                await trio.sleep(RETRY_LAST_SECONDS)
