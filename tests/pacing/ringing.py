"""Calls of known laws, told to a demand as a campaign would tell them."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import attrs

from dialer.pacing.demand import Demand

LOOK_SECONDS = 0.2

# Of a call placed now: whether it is answered, and after how long; None takes it back.
Law = Callable[[random.Random, float], tuple[bool | None, float]]


def uniform(answer_probability: float) -> Law:
    """Answers between 2 and 22 s; a tenth fails between 2 and 4 s, the others ring for 27 s."""

    def law(dice: random.Random, _: float) -> tuple[bool | None, float]:
        x = dice.random()
        if x < answer_probability:
            return True, dice.uniform(2, 22)
        return False, dice.uniform(2, 4) if x < answer_probability + 0.1 else 27.0

    return law


@attrs.define
class Ringing:
    """Places calls on `demand` and lets them go by `law`, looking at it five times a second."""

    demand: Demand
    law: Law
    dice: random.Random
    now_seconds: float = 0.0
    _placed: int = 0
    _events: list[tuple[float, int, bool | None]] = attrs.Factory(list)

    def place(self, calls: int = 1, odds: float = 1.0) -> None:
        for _ in range(calls):
            self._placed += 1
            answered, seconds = self.law(self.dice, self.now_seconds)
            self.demand.placed(str(self._placed), self.now_seconds, odds)
            heapq.heappush(self._events, (self.now_seconds + seconds, self._placed, answered))

    def run(self, seconds: float, calls_per_second: float, look: Callable[[], None] = lambda: None) -> None:
        """Goes on for so long; `look` is called after each look at the demand."""
        due = 0.0
        for _ in range(round(seconds / LOOK_SECONDS)):
            self.now_seconds += LOOK_SECONDS
            while self._events and self._events[0][0] <= self.now_seconds:
                at, number, answered = heapq.heappop(self._events)
                if answered is None:
                    self.demand.withdrawn(str(number), at)
                elif answered:
                    self.demand.answered(str(number), at)
                    self.demand.connected(str(number))
                else:
                    self.demand.unanswered(str(number), at)
            self.demand.answers(self.now_seconds)
            look()
            due += calls_per_second * LOOK_SECONDS
            self.place(int(due))
            due -= int(due)
