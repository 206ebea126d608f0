"""How much risk a campaign may take: a closed loop on its abandoned calls. Pure.

The balance is the running sum of (target - abandoned) over all who answered, so control by it is integral: over any
time the excess of abandoned calls is the change of the balance, and the long-run rate is the target whatever the
forecast's errors. A second integral, critically slow, takes away what would be left of an offset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final
from weakref import WeakKeyDictionary

import attrs

# Aimed at, and acted on, as parts of the limit: to be at the limit is to be over it half of the time.
TARGET_PART: Final = 0.95
CAP_PART: Final = 0.99
# The loop holds the abandoned calls since the start, and leaves those between two moments to chance by some three;
# the cap keeps two more free. Where few answer within a window that rolls, that is more than what is left between aim
# and limit: the cap would be met again and again.
ROOM_CALLS: Final = 7.0
LEAST_TARGET_PART: Final = 0.7
GAIN: Final = 0.1
SLOW_GAIN: Final = GAIN**2 / 6
FIRST_OFFSET: Final = -5.0  # a risk of 0.7 %: what campaigns settle at is higher
BALANCE_MOST: Final = 25.0
BALANCE_LEAST: Final = -50.0
BALANCE_WANTED: Final = 1.5
_EXPONENT_LEAST, _EXPONENT_MOST = -9.0, 1.0
# Whoever paces says again and again what is to be expected. One who was stopped does not; no call rings for longer.
_EXPECTED_SECONDS: Final = 120.0
# Where nothing is risked, or all is, the slow integral would grow without end.
_OFFSET_LEAST, _OFFSET_MOST = -9.0, -1.5


@attrs.frozen
class BudgetState:
    """What is worth keeping: balance in calls, and the slow integral."""

    balance: float = 0.0
    offset: float = FIRST_OFFSET


class Budget:
    """The abandoned calls a campaign may still have, and the risk it takes with the next call.

    `limit` is the share of those who answer that may be abandoned, 0.03 for 3 %.
    """

    def __init__(self, limit: float = 0.03, state: BudgetState | None = None) -> None:
        self.limit = limit
        self.untouched = True  # nobody was connected or abandoned yet, and no state restored
        self.balance = 0.0
        self._live_answers: float | None = None  # in the shortest window, if it rolls
        self._offset = FIRST_OFFSET
        self._expected: WeakKeyDictionary[object, tuple[float, float]] = WeakKeyDictionary()
        if state is not None:
            self.restore(state)

    def __repr__(self) -> str:
        return f"<Budget {self.balance:+.2f} calls, risk {self.theta:.2%}>"

    def connected(self, *, bet: bool = True) -> None:
        """Somebody who answered was connected in time.

        Days without a `bet` are no reason for a larger one, but they pay for those who were abandoned in them.
        """
        most = BALANCE_MOST if bet else max(self.balance, 0.0)
        self.balance = min(self.balance + self.target, most)
        self._saw(bet)

    def abandoned(self, people: float = 1.0, *, bet: bool = True) -> None:
        """Somebody who answered was not; less than 1 for a machine that may have been a person."""
        self.balance = max(self.balance - people * (1 - self.target), BALANCE_LEAST)
        self._saw(bet)

    def _saw(self, bet: bool) -> None:
        self.untouched = False
        if not bet:  # what another policy comes to says nothing of this one's offset
            return
        drift = SLOW_GAIN * self.target * (self.balance - BALANCE_WANTED)
        self._offset = min(max(self._offset + drift, _OFFSET_LEAST), _OFFSET_MOST)

    def sees(self, live_answers: Sequence[float]) -> None:
        """So many have answered in each window that counts."""
        rolls = max(live_answers) > min(live_answers)  # the shorter one has lost some
        self._live_answers = min(live_answers) if rolls else None

    def expect(self, who: object, abandoned: float, now_seconds: float) -> None:
        """Of the calls that ring for `who`, one of those who share the budget, so many are likely to be abandoned."""
        self._expected[who] = abandoned, now_seconds

    def expected(self, now_seconds: float, *, but: object = None) -> float:
        """How many are likely to be abandoned of all that ring now, `but` those that ring for one of them."""
        return sum(
            abandoned
            for who, (abandoned, at) in self._expected.items()
            if who is not but and now_seconds - at <= _EXPECTED_SECONDS
        )

    @property
    def target(self) -> float:
        """The share aimed at."""
        if self._live_answers is None:
            return TARGET_PART * self.limit
        with_room = self.limit - ROOM_CALLS / max(1.0, self._live_answers)
        return min(TARGET_PART * self.limit, max(LEAST_TARGET_PART * self.limit, with_room))

    @property
    def theta(self) -> float:
        """The highest risk that one more call may have: the chance that whoever answers it finds nobody."""
        exponent = self._offset + GAIN * self.balance
        return 1 / (1 + math.exp(-min(max(exponent, _EXPONENT_LEAST), _EXPONENT_MOST)))

    def is_spent(self, live_answers: float, abandoned: float, expected_abandoned: float = 0.0) -> bool:
        """Whether so many of so many leave no room for two more, and for those that ring already."""
        return abandoned + 2 + 2 * expected_abandoned > CAP_PART * self.limit * (live_answers + 1)

    def state(self) -> BudgetState:
        """What is worth keeping."""
        return BudgetState(self.balance, self._offset)

    def restore(self, state: BudgetState) -> None:
        """Goes on from `state`."""
        self.untouched = False
        self.balance = max(state.balance, BALANCE_LEAST)
        self._offset = min(max(state.offset, _OFFSET_LEAST), _OFFSET_MOST)
