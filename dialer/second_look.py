"""Leads that trunks would not carry are looked at anew when the trunks are others.

A rule puts a lead off to the moment it allows the call, as the trunk was then: a larger pool of numbers, or a smaller
blind area, would only be noticed the next day.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import structlog
import trio

from campaigns import store
from campaigns.database import Database
from campaigns.trunk import OF_TRUNKS
from dialer.clock import Clock
from dialer.errors import OutcomeUnknownError, UnavailableError

log = structlog.get_logger()

AGAIN_SECONDS: Final = 1.0


class SecondLook:
    """Waits for trunks to change. `looked` is called when all leads that it concerns may be leased again."""

    def __init__(self, database: Database, clock: Clock, looked: Callable[[], None]) -> None:
        self._database = database
        self._clock = clock
        self._looked = looked
        self._changed = trio.Event()

    def __repr__(self) -> str:
        return f"<SecondLook {'due' if self._changed.is_set() else 'not due'}>"

    def trunks_changed(self) -> None:
        """From now on there are other trunks, or they are other than they were."""
        self._changed.set()

    async def run(self) -> None:
        """Looks after each change, until cancelled; with the database away as soon as it is back."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            try:
                await self._look()
            except (UnavailableError, OutcomeUnknownError) as error:
                log.warning("leads_not_looked_at_again", error=str(error))
                self._changed.set()
                await trio.sleep(AGAIN_SECONDS)

    async def _look(self) -> None:
        ids = await self._database.read(partial(store.put_off_by, rules=OF_TRUNKS))
        now = self._clock.now()
        for first in range(0, len(ids), store.RECONSIDERED):
            some = ids[first : first + store.RECONSIDERED]
            await self._database.write(partial(store.look_again, ids=some, now=now))
        self._looked()
