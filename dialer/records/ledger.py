"""Where attempts are written down: leased and opened before the wire, closed once, with everything owed to them.

A result that the database does not take at once waits here, in order, and on disk in a journal: a daemon that is
killed meanwhile writes it in its next life.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

import attrs
import structlog
import trio
from sqlmodel import Session

from campaigns import hopper, leases, queues, store
from campaigns.abandonment import LAW_SECONDS, abandoned_of
from campaigns.database import Database
from campaigns.leases import Lease, Leased, OpenAttempt
from campaigns.opt_out import OptOut
from campaigns.passed_by import PassedBy
from campaigns.queues import Outlook
from campaigns.recycle import NextStep
from campaigns.rules.callable import RuleBook
from campaigns.saying import Said
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
LEAVE_SECONDS: Final = 2.0


class Entry(Protocol):
    """What is to be written, some time, and exactly once as far as anybody can see."""

    def write(self, session: Session) -> Any:
        """Writes it. May be tried any number of times."""
        ...

    def to_json(self) -> bytes:
        """For the journal."""
        ...


@attrs.frozen
class Result:
    """How an attempt ended: its record, what becomes of the lead, and whether the person wants no more calls.

    A conversation is called `default_outcome` unless its agent has said otherwise.
    """

    record: CdrRow
    step: NextStep
    closed_at: datetime
    opt_out: OptOut | None = None
    default_outcome: str | None = None

    def write(self, session: Session) -> bool:
        """Closes the attempt; False if it was closed before."""
        if self.opt_out is not None:
            self.opt_out.write(session)
        # A new row for each try: the one of a failed transaction belongs to a session that is gone.
        record = CdrRow(**self.record.model_dump())
        return store.close_attempt(session, record, self.step, self.closed_at, default_outcome=self.default_outcome)

    def to_json(self) -> bytes:
        value = {
            "record": self.record.model_dump(mode="json"),
            "step": self.step.to_value(),
            "closed_at": self.closed_at.isoformat(),
            "opt_out": self.opt_out.to_value() if self.opt_out is not None else None,
            "default_outcome": self.default_outcome,
        }
        return json.dumps(value).encode()

    @staticmethod
    def from_json(text: bytes) -> Result:
        """The result that `to_json` wrote, of this version or an older one. Raises ValueError for anything else."""
        value: dict[str, Any] = json.loads(text)
        record = CdrRow.model_validate(value["record"])
        if "abandoned" not in value["record"]:
            record.abandoned = abandoned_of(record, LAW_SECONDS)
        opt_out = value.get("opt_out")
        return Result(
            record,
            NextStep.from_value(value["step"]),
            datetime.fromisoformat(value["closed_at"]),
            OptOut.from_value(opt_out) if opt_out else None,
            value.get("default_outcome"),
        )


@attrs.frozen
class Suppressed:
    """Somebody wants no more calls, and their call may still be on."""

    opt_out: OptOut

    def write(self, session: Session) -> None:
        self.opt_out.write(session)

    def to_json(self) -> bytes:
        return json.dumps({"suppressed": self.opt_out.to_value()}).encode()


@attrs.frozen
class Spoken:
    """What an agent has said of a conversation."""

    said: Said

    def write(self, session: Session) -> str:
        return self.said.write(session)

    def to_json(self) -> bytes:
        return json.dumps({"said": self.said.to_value()}).encode()


def entry_from_json(text: bytes) -> Entry:
    """What an entry's `to_json` wrote. Raises ValueError, KeyError or TypeError for anything else."""
    value = json.loads(text)
    if "suppressed" in value:
        return Suppressed(OptOut.from_value(value["suppressed"]))
    if "said" in value:
        return Spoken(Said.from_value(value["said"]))
    return Result.from_json(text)


@attrs.define(eq=False)
class _Waiting:
    """What is being written."""

    entry: Entry
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
        self._left_behind = False  # something in the journal is for the next life
        self._waiting: list[_Waiting] = []
        self._returning = 0

    def __repr__(self) -> str:
        return f"<DatabaseLedger {self.unwritten} unwritten{', ' + self.trouble if self.trouble else ''}>"

    @property
    def unwritten(self) -> int:
        """Results, wishes of people and returned leases that are not in the database yet."""
        return len(self._waiting) + self._returning

    async def lease(
        self,
        book: RuleBook,
        slots: Sequence[Slot],
        trunks: Mapping[str, Trunk],
        idle_agents: Collection[str] | None = None,
        *,
        in_turn: bool = False,
        passed_by: PassedBy | None = None,
    ) -> Leased:
        """The next callable leads, one for each slot or fewer, with their attempts written down; see `hopper.lease`.

        None once the campaign's definition is another: whoever has read that comes with a book of it.
        Raises UnavailableError; nothing is leased then.
        """
        now = self._clock.now()

        def lease(session: Session) -> Leased:
            if not store.is_in_force(session, book):
                return Leased()
            return hopper.lease(
                session,
                book,
                slots,
                trunks,
                self._node,
                now,
                idle_agents=idle_agents,
                in_turn=in_turn,
                passed_by=passed_by,
            )

        try:
            return await self._database.write(lease)
        except OutcomeUnknownError as error:  # if they were leased, nothing has been sent: put them back
            await self._return([slot.uuid for slot in slots])
            raise UnavailableError(str(error)) from error

    async def send(self, lease: Lease, book: RuleBook) -> bool:
        """What was only offered is about to be sent. Keeps trying until it is written; False if it must not be."""
        return await self._write_surely(lambda session: leases.send(session, lease.uuid, book, self._clock.now()))

    async def wake(self, campaign_id: int) -> bool:
        """Puts more of the campaign's leads that have rested into their queues; whether there may be more.

        Raises UnavailableError or OutcomeUnknownError; it may be repeated.
        """
        now = self._clock.now()
        woken = await self._database.write(lambda session: queues.wake(session.connection(), campaign_id, now))
        return woken >= queues.WOKEN_AT_MOST

    async def outlook(self, campaign_id: int) -> Outlook:
        """Whom the campaign has to call, now and next. Raises UnavailableError."""
        return await self._database.read(lambda session: queues.outlook(session, campaign_id))

    async def return_unsent(self, lease: Lease) -> None:
        """The call was never placed: the lead is as if never leased. Keeps trying until it is written."""
        await self._return([lease.uuid])

    async def _return(self, uuids: Sequence[str]) -> None:
        now = self._clock.now()
        self._returning += 1
        try:
            await self._write_surely(lambda session: leases.return_unsent(session, uuids, now))
        finally:
            self._returning -= 1

    async def close(
        self,
        record: CdrRow,
        step: NextStep,
        *,
        opt_out: OptOut | None = None,
        default_outcome: str | None = None,
    ) -> None:
        """Result, record and the lead's next step in one transaction. Keeps trying until it is written."""
        if not await self._keep(Result(record, step, self._clock.now(), opt_out, default_outcome)):
            log.warning("attempt_was_closed_before", attempt=record.attempt_uuid)

    async def suppress(self, opt_out: OptOut) -> None:
        """Somebody wants no more calls. Keeps trying until it is written, in its next life if need be."""
        await self._keep(Suppressed(opt_out))

    async def say(self, said: Said) -> str:
        """What an agent says of a conversation, and what it came to. Keeps trying until it is written.

        Raises InputRefusedError when it cannot be said.
        """
        told: str = await self._keep(Spoken(said))
        return told

    async def _keep(self, entry: Entry) -> Any:
        """Writes `entry` however long that takes; what has waited too long is put into the journal meanwhile.

        What is not written when this is cancelled is in the journal, for the next life.
        """
        waiting = _Waiting(entry, trio.current_time())
        self._waiting.append(waiting)
        try:
            return await self._write_surely(entry.write)
        except trio.Cancelled:
            if not isinstance(entry, Spoken):  # its agent was told nothing
                await self._leave_behind(waiting)
            raise
        finally:
            self._waiting.remove(waiting)

    async def _leave_behind(self, waiting: _Waiting) -> None:
        self._left_behind = True
        if waiting.journaled:
            return
        with trio.move_on_after(LEAVE_SECONDS, shield=True):
            try:
                await self._journal.append([waiting.entry.to_json()])
            except UnavailableError as error:
                log.error("journal_not_written", error=str(error))

    async def open_attempts(self) -> list[OpenAttempt]:
        """What this node has begun and not closed."""
        return list(await self._database.read(lambda session: leases.open_attempts_of(session, self._node)))

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
            except InputRefusedError:  # the database has answered
                self.trouble = ""
                raise
            else:
                self.trouble = ""
                return result

    async def replay(self) -> None:
        """Writes what a former life left in the journal, as soon as the database takes it."""
        kept = await self._journal.entries()
        for entry in kept:
            try:
                await self._write_surely(entry_from_json(entry).write)
            except (
                ValueError,
                KeyError,
                TypeError,
                InputRefusedError,
            ) as error:  # of a database that was another, say
                log.error("journal_entry_not_written", error=str(error), entry=entry.decode(errors="replace"))
        if kept:
            log.info("journal_written", results=len(kept))
            await self._journal.clear()

    async def keep_house(self) -> None:
        """Puts results that wait too long into the journal, and empties it when none waits, until cancelled."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            if self.trouble and not self.unwritten:  # whoever met it has given up: others try anew
                self.trouble = ""
            slow_since = trio.current_time() - (0.0 if self.trouble else SLOW_SECONDS)
            slow = [one for one in self._waiting if one.since <= slow_since]
            try:
                fresh = [one for one in slow if not one.journaled]
                if fresh:
                    self.trouble = self.trouble or "the database is slow"
                    log.warning("results_wait", results=len(slow), trouble=self.trouble)
                    self._journal_used = True
                    await self._journal.append([one.entry.to_json() for one in fresh])
                    for one in fresh:
                        one.journaled = True
                elif self._journal_used and not self._left_behind and not any(one.journaled for one in self._waiting):
                    await self._journal.clear()
                    self._journal_used = False
            except UnavailableError as error:
                log.error("journal_not_written", error=str(error))
                await trio.sleep(RETRY_LAST_SECONDS)
