"""Wall-clock time as a value that comes in.

Nothing but the composition root makes a clock; everything else is handed one, so that a test can run a day in a
second. Waiting is trio's business and follows trio's own clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

import trio


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


def microseconds(moment: datetime) -> int:
    """`moment` as whole microseconds since 1970, the unit of FreeSWITCH's own timestamps."""
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def from_microseconds(value: int) -> datetime:
    """The moment that `microseconds` made `value` of."""
    return datetime.fromtimestamp(value // 1_000_000, UTC) + timedelta(microseconds=value % 1_000_000)
