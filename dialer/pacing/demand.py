"""The calls of one campaign that may still want an agent, and when they will. Pure.

Told of each call as it goes; times are monotonic seconds, calls are told apart by any name.
"""

from __future__ import annotations

from typing import Final

import attrs
import numpy as np

from dialer.pacing.ages import Ages, Floats
from dialer.pacing.ring_tables import ODDS_KINDS, RingTables, kind_of_odds

# Beyond the time that calls ring at most: the switch's word may come later, and patience looks further ahead.
RING_MARGIN_SECONDS: Final = 7
PATIENCE_MOST_SECONDS: Final = 11


@attrs.frozen(eq=False)
class Answers:
    """Answers to come: mean and variance of their number within k + 1 seconds, and that of one call placed now."""

    mean: Floats
    variance: Floats
    fresh: Floats
    level_variance: float


def tables_for(ring_seconds: int) -> RingTables:
    """New tables for calls that ring so long at most."""
    seconds = ring_seconds + RING_MARGIN_SECONDS
    return RingTables(seconds, seconds + PATIENCE_MOST_SECONDS)


class Demand:
    """Calls of one campaign on one switch, from placing to an agent or to the end."""

    def __init__(self, tables: RingTables | None = None) -> None:
        self.tables = tables or tables_for(27)
        self._calls = Ages(np.arange(self.tables.seconds), ODDS_KINDS)
        self._placed: dict[str, tuple[float, int]] = {}  # when, and its kind of odds
        self._rings_since: dict[str, float] = {}  # in the order they began to
        self._waiting: set[str] = set()
        self._withdrawn: set[str] = set()
        self._looked_at: float | None = None
        self._answers: Answers | None = None

    def __repr__(self) -> str:
        return f"<Demand {self.ringing} ringing, {len(self._waiting)} waiting>"

    def learn_into(self, tables: RingTables) -> None:
        """From now on it is `tables` that learn; the calls that there are stay."""
        self.tables = tables
        self._calls = Ages(np.arange(tables.seconds), ODDS_KINDS)
        for call, (placed_at, kind) in self._placed.items():
            self._calls.begin(call, placed_at, kind)
        self._answers = None

    @property
    def ringing(self) -> int:
        """Calls placed and not answered, or not known to be by a person."""
        return len(self._calls)

    @property
    def waiting(self) -> int:
        """People who have answered and have no agent."""
        return len(self._waiting)

    def placed(self, call: str, now_seconds: float, odds: float = 1.0) -> None:
        """A call goes out. `odds` is its odds of being answered against those of the campaign's average call."""
        kind = kind_of_odds(odds)
        self.tables.placed(kind)
        self._calls.begin(call, now_seconds, kind)
        self._placed[call] = now_seconds, kind
        self._answers = None

    def rings(self, call: str, now_seconds: float) -> None:
        """The phone rings: a person may be on the way to it."""
        if call in self._calls:
            self._rings_since.setdefault(call, now_seconds)

    def picked_up(self, call: str) -> None:
        """Somebody or something has answered; whether it is a person will be known in a moment."""
        self._rings_since.pop(call, None)

    def answered(self, call: str, now_seconds: float) -> None:
        """A person is there, and waits for an agent."""
        age_seconds = self._end(call, now_seconds)
        if age_seconds is not None:
            self.tables.was_answered(age_seconds)
            self._waiting.add(call)

    def connected(self, call: str) -> None:
        """The person has an agent, or one is held for them."""
        self._waiting.discard(call)

    def waits_again(self, call: str) -> None:
        """The agent who was held could not be connected."""
        self._waiting.add(call)

    def left(self, call: str) -> None:
        """Whoever had answered waits no more: hung up, abandoned, or no person after all."""
        self._waiting.discard(call)

    def unanswered(self, call: str, now_seconds: float) -> None:
        """The call ended, and no person was there."""
        age_seconds = self._end(call, now_seconds)
        if age_seconds is not None:
            self.tables.was_not_answered(age_seconds)

    def withdrawn(self, call: str, now_seconds: float) -> None:
        """We took the call back."""
        self._end(call, now_seconds)

    def _end(self, call: str, now_seconds: float) -> float | None:
        self._placed.pop(call, None)
        self._rings_since.pop(call, None)
        self._answers = None
        return self._calls.end(call, now_seconds)

    def answers(self, now_seconds: float) -> Answers:
        """What is to come, as seen now. Also learns the level from what came since the last look."""
        if self._answers is not None and now_seconds == self._looked_at:
            return self._answers
        self.tables.refresh(now_seconds)
        counts = self._calls.counts(now_seconds, by_kind=not self.tables.all_alike)
        mean, variance = self.tables.moments(counts)
        if self._looked_at is not None:
            self.tables.passed(now_seconds - self._looked_at, counts, float(mean[0]))
        self._looked_at = now_seconds
        self._answers = Answers(mean, variance, self.tables.fresh, self.tables.level_variance)
        return self._answers

    def longest_ringing(self, now_seconds: float, at_least_seconds: float, most: int) -> tuple[list[str], Floats]:
        """Up to `most` calls that ring so long already, the longest first, and a row for each: its chances by second.

        Those that will hardly be answered are left out.
        """
        calls: list[str] = []
        kinds: list[int] = []
        ages_seconds: list[float] = []
        hopeful, last = self.tables.hopeful, self.tables.seconds - 1
        for call, since in self._rings_since.items():
            if now_seconds - since < at_least_seconds or len(calls) == most:
                break
            placed_at, kind = self._placed[call]
            age_seconds = now_seconds - placed_at
            if hopeful[kind][min(int(age_seconds), last)]:
                calls.append(call)
                kinds.append(kind)
                ages_seconds.append(age_seconds)
        return calls, self.tables.rows(kinds, ages_seconds)


def shifted(values: Floats, seconds: float, size: int) -> Floats:
    """`size` of `values`, of each row, from `seconds` on, interpolated: rounding would give a second away."""
    whole = int(seconds)
    part = seconds - whole
    first = values[..., whole : whole + size]
    return (1 - part) * first + part * values[..., whole + 1 : whole + 1 + size] if part else first
