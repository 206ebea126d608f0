"""Wall-clock time as a value that comes in.

Nothing but the composition root makes a clock; everything else is handed one, so that a test can run a day in a
second. Waiting is trio's business and follows trio's own clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import trio

# NTP slews by less than a millisecond a second, and a busy event loop is late by tenths of a second.
CLOCK_JUMP_SECONDS: Final = 2.0


class Clock(Protocol):
    """Tells the time of day."""

    def now(self) -> datetime:
        """The moment now, aware, in UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class TrioClock:
    """Wall-clock time that runs with trio's clock from `start`: virtual where trio's is."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._zero = trio.current_time()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=trio.current_time() - self._zero)


class ClockWatch:
    """Sees when a clock is set, by comparing it with the time that has passed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead = self._difference()

    def _difference(self) -> float:
        return self._clock.now().timestamp() - trio.current_time()

    def jump_seconds(self) -> float:
        """How far the clock was set, forward or back, since this was last asked; 0 if it only went on."""
        before, self._ahead = self._ahead, self._difference()
        jump = self._ahead - before
        return jump if abs(jump) > CLOCK_JUMP_SECONDS else 0.0


def microseconds(moment: datetime) -> int:
    """`moment` as whole microseconds since 1970, the unit of FreeSWITCH's own timestamps."""
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def from_microseconds(value: int) -> datetime:
    """The moment that `microseconds` made `value` of."""
    return datetime.fromtimestamp(value // 1_000_000, UTC) + timedelta(microseconds=value % 1_000_000)
