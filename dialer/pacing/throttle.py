"""How many calls a second this process can begin without keeping those who answer waiting. Pure.

The rate grows while all of it is used and the process keeps up, and falls as soon as it does not: what a machine can
do is not known beforehand, and other programs run on it too (additive increase and multiplicative decrease, as
congestion control does it: Chiu and Jain, 1989).
"""

from __future__ import annotations

from typing import Final

FIRST_RATE: Final = 100.0
LEAST_RATE: Final = 10.0
HIGHEST_RATE: Final = 2_000.0
# A process this far behind bridges people late: it finishes what it has begun before it begins more.
BEHIND_SECONDS: Final = 0.1
GROWTH_A_SECOND: Final = 50.0
FALL: Final = 0.7
# The lag of a fall must have shown its effect before the next.
BETWEEN_FALLS_SECONDS: Final = 0.5
# Calls begun at once are answered at once.
BURST_SECONDS: Final = 0.05
LEAST_BURST: Final = 5.0


class Throttle:
    """The allowance of one process, over all campaigns. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.rate = FIRST_RATE
        self._tokens = LEAST_BURST
        self._at = 0.0
        self._fell_at = 0.0
        self._all_used = False

    def __repr__(self) -> str:
        return f"<Throttle {self.rate:.0f} calls/s, {self._tokens:.1f} now>"

    def allowance(self, now_seconds: float, lag_seconds: float) -> int:
        """How many calls may be begun at `now_seconds` by a process that is `lag_seconds` behind."""
        passed_seconds = max(0.0, now_seconds - self._at)
        self._at = now_seconds
        if lag_seconds > BEHIND_SECONDS:
            if now_seconds - self._fell_at >= BETWEEN_FALLS_SECONDS:
                self.rate = max(LEAST_RATE, self.rate * FALL)
                self._fell_at = now_seconds
            self._tokens = 0.0
            return 0
        if self._all_used:
            self.rate = min(HIGHEST_RATE, self.rate + GROWTH_A_SECOND * min(passed_seconds, 1.0))
            self._all_used = False  # shown once: a lull teaches nothing
        burst = max(LEAST_BURST, self.rate * BURST_SECONDS)
        self._tokens = min(burst, self._tokens + self.rate * passed_seconds)
        return int(self._tokens)

    def begun(self, calls: int) -> None:
        """So many calls were begun of the last allowance."""
        self._all_used = calls > 0 and calls >= int(self._tokens)
        self._tokens = max(0.0, self._tokens - calls)
