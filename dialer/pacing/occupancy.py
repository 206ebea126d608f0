"""How busy agents are: the share of their time in talk or wrap-up, of late. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

MEMORY_SECONDS: Final = 900.0
# Between two looks nothing is known of what was longer ago than this.
LONGEST_STEP_SECONDS: Final = 60.0


class Occupancy:
    """An average over some 15 minutes."""

    def __init__(self) -> None:
        self._busy_seconds = 0.0
        self._all_seconds = 0.0
        self._at: float | None = None
        self._busy = self._idle = 0

    def saw(self, now_seconds: float, busy: int, idle: int) -> None:
        """So many agents talk or wrap up from now on, and so many are idle."""
        if self._at is not None:
            passed_seconds = min(max(0.0, now_seconds - self._at), LONGEST_STEP_SECONDS)
            fade = math.exp(-passed_seconds / MEMORY_SECONDS)
            self._busy_seconds = self._busy_seconds * fade + self._busy * passed_seconds
            self._all_seconds = self._all_seconds * fade + (self._busy + self._idle) * passed_seconds
        self._at, self._busy, self._idle = now_seconds, busy, idle

    @property
    def seconds(self) -> tuple[float, float]:
        """Of agents' time, of late: busy, and all of it."""
        return self._busy_seconds, self._all_seconds


def percent_of(parts: Iterable[Occupancy]) -> float | None:
    """How busy the agents of all `parts` are together; None while none was seen."""
    seconds = [part.seconds for part in parts]
    busy, everything = sum(one for one, _ in seconds), sum(one for _, one in seconds)
    return 100 * busy / everything if everything else None
