"""Where attempts are written down: leased and opened before the wire, closed once, with everything owed to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import structlog
import trio
from sqlmodel import Session

from campaigns import hopper, store
from campaigns.campaign import Campaign
from campaigns.database import Database
from campaigns.hopper import Lease, Slot
from campaigns.recycle import NextStep
from campaigns.store import AttemptRow, CdrRow
from dialer.clock import Clock
from dialer.errors import OutcomeUnknownError, UnavailableError

log = structlog.get_logger()
T = TypeVar("T")

RETRY_FIRST_SECONDS: Final = 0.2
RETRY_LAST_SECONDS: Final = 5.0


class DatabaseLedger:
    """The ledger in the database. `trouble` is what kept the last write from succeeding, empty when all is well."""

    def __init__(self, database: Database, clock: Clock, node: str) -> None:
        self.trouble = ""
        self.unwritten = 0
        self._database = database
        self._clock = clock
        self._node = node

    def __repr__(self) -> str:
        return f"<DatabaseLedger {self.unwritten} results unwritten{', ' + self.trouble if self.trouble else ''}>"

    async def lease(self, campaign_id: int, campaign: Campaign, slots: Sequence[Slot]) -> list[Lease]:
        """The next callable leads, one for each slot or fewer, with their attempts written down.

        Raises UnavailableError; nothing is leased then.
        """
        now = self._clock.now()
        try:
            return await self._database.write(
                lambda session: hopper.lease(session, campaign_id, campaign, slots, self._node, now)
            )
        except OutcomeUnknownError as error:  # if they were leased, nothing has been sent: put them back
            uuids = [slot.uuid for slot in slots]
            await self._write_surely(lambda session: hopper.return_unsent(session, uuids, now))
            raise UnavailableError(str(error)) from error

    async def return_unsent(self, lease: Lease) -> None:
        """The call was never placed: the lead is as if never leased. Keeps trying until it is written."""
        now = self._clock.now()
        await self._write_surely(lambda session: hopper.return_unsent(session, [lease.uuid], now))

    async def close(self, record: CdrRow, step: NextStep) -> None:
        """Result, record and the lead's next step in one transaction. Keeps trying until it is written."""
        now = self._clock.now()
        fields = record.model_dump()

        def work(session: Session) -> bool:
            # A new row for each try: the one of a failed transaction belongs to a session that is gone.
            return store.close_attempt(session, CdrRow(**fields), step, now)

        if not await self._write_surely(work):
            log.warning("attempt_was_closed_before", attempt=record.attempt_uuid)

    async def open_attempts(self) -> list[AttemptRow]:
        """What this node has begun and not closed."""
        return list(await self._database.read(lambda session: store.open_attempts_of(session, self._node)))

    async def _write_surely(self, work: Callable[[Session], T]) -> T:
        pause_seconds = RETRY_FIRST_SECONDS
        self.unwritten += 1
        try:
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
        finally:
            self.unwritten -= 1
