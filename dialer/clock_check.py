"""Whether this machine's clock agrees with that of Redis' machine, by which all daemons can be compared.

Each daemon writes the end of its leases by its own clock. One whose clock is wrong would take the others' agents and
slots for those of a dead one; and it would call people at the wrong hours.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio

from dialer.clock import CLOCK_JUMP_SECONDS, Clock
from dialer.errors import UnavailableError
from dialer.shared_state import SharedState

log = structlog.get_logger()

CHECK_SECONDS: Final = 10.0
# What a busy machine and a slow network may put on top of any difference; leases are renewed two thirds early.
MOST_APART_SECONDS: Final = CLOCK_JUMP_SECONDS


class ClockCheck:
    """What is wrong with the clock, for a person, in `trouble`; empty when nothing is, or nothing is known."""

    def __init__(self, state: SharedState, clock: Clock) -> None:
        self.trouble = ""
        self._state = state
        self._clock = clock

    def __repr__(self) -> str:
        return f"<ClockCheck {self.trouble or 'all is well'}>"

    async def check(self) -> None:
        """Compares the clocks once. With Redis away what was found before stands."""
        before = self._clock.now()
        try:
            theirs = await self._state.time()
        except UnavailableError as error:
            log.debug("clock_not_checked", error=str(error))
            return
        after = self._clock.now()
        ahead_seconds = max(0.0, (before - theirs).total_seconds()) - max(0.0, (theirs - after).total_seconds())
        trouble = ""
        if abs(ahead_seconds) > MOST_APART_SECONDS:
            where = "ahead of" if ahead_seconds > 0 else "behind"
            trouble = (
                f"the clock of this machine is {abs(ahead_seconds):.0f} s {where} that of Redis' machine: "
                "one of them is to be set"
            )
        if trouble and not self.trouble:
            log.error("clock_is_wrong", reason=trouble)
        elif self.trouble and not trouble:
            log.info("clock_is_right_again")
        self.trouble = trouble

    async def run(self) -> None:
        """Compares them again and again, until cancelled."""
        while True:
            await trio.sleep(CHECK_SECONDS)
            await self.check()
