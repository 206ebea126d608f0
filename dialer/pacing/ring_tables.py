"""When a call that was placed is answered, or ends unanswered: learned per campaign, as competing risks. Pure.

A share of answers among finished calls would be too high after every burst, since answers come before no-answers.
Hazards have no such bias: a call counts in each second that it rang, and in one of them it was answered or ended.
It counts while it rings, not once it is over: answers would again come first, and what we take back would be missing.
The shape is learned slowly. The level, which may jump from one moment to the next, is learned beside it and fast,
from how many answers came against how many were to be expected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import attrs
import numpy as np

from dialer.pacing.ages import Floats

# Before anything is known: 40 % are answered within 20 s, the others end within 25 s; worth two calls in each second.
PRIOR_CALLS: Final = 2.0
PRIOR_ANSWER: Final = 0.40 / 20
PRIOR_END: Final = 0.60 / 25
# The shape forgets: after so many finished calls a call counts for a third.
SHAPE_CALLS: Final = 800.0
# The level forgets after so many expected answers, or after so long.
LEVEL_ANSWERS: Final = 22.0
LEVEL_SECONDS: Final = 900.0
LEVEL_PRIOR: Final = 8.0
LEVEL_LEAST: Final = 0.4
LEVEL_MOST: Final = 4.0
REBUILD_SECONDS: Final = 2.0
# Calls whose chance differs from the average are told apart in steps of a half power of two of their odds.
ODDS_KINDS: Final = 17
AVERAGE_KIND: Final = ODDS_KINDS // 2
_ODDS: Final[Floats] = 2.0 ** ((np.arange(ODDS_KINDS)[:, None] - AVERAGE_KIND) / 2)  # one column
_ONES: Final[Floats] = np.ones(ODDS_KINDS)
# A call that will be answered less likely than this is as good as over.
HOPELESS: Final = 0.002
# Calls that teach the mix of odds of those to come.
MIX_CALLS: Final = 200.0


def kind_of_odds(odds: float) -> int:
    """The step that `odds`, against the campaign's average, falls into."""
    if not odds > 0:
        return 0
    return min(max(AVERAGE_KIND + round(2 * math.log2(min(odds, 2.0**ODDS_KINDS))), 0), ODDS_KINDS - 1)


@attrs.frozen
class RingState:
    """What is worth keeping: call-seconds, answers and ends, by the second of the ring that they fell in."""

    calls: tuple[float, ...]
    answers: tuple[float, ...]
    ends: tuple[float, ...]
    finished: int
    answered: int


class RingTables:
    """Chances of answers for the next seconds, by how long a call has rung.

    `seconds` is how long calls ring at most, and a little more; `horizon` how many seconds are looked ahead.
    """

    def __init__(self, seconds: int, horizon: int) -> None:
        self.seconds = seconds
        self.horizon = horizon
        self.finished = 0
        self.answered = 0
        self._calls: Floats = np.zeros(seconds)
        self._answers: Floats = np.zeros(seconds)
        self._ends: Floats = np.zeros(seconds)
        self._since_rebuild = 0
        self._rung: Floats = np.zeros(ODDS_KINDS * seconds)  # call-seconds since then; kinds do not matter
        self._observed = 0.0
        self._expected = 0.0
        self.level = 1.0
        self._mix: Floats = np.zeros(ODDS_KINDS)
        self._mix[AVERAGE_KIND] = 1.0
        self.all_alike = True
        self._rebuilt_at = -math.inf
        age = np.arange(seconds)[:, None]
        self._by_then = np.minimum(age + np.arange(horizon)[None, :] + 1, seconds)
        self.rebuild(0.0)
        self._rebuilt_at = -math.inf

    def __repr__(self) -> str:
        return f"<RingTables {self.fresh[-1]:.0%} answered, level {self.level:.2f}, {self.finished} calls>"

    def placed(self, kind: int) -> None:
        """A call with odds of `kind` is placed: those to come may be like it."""
        if kind != AVERAGE_KIND:
            self.all_alike = False
        if not self.all_alike:
            self._mix *= 1 - 1 / MIX_CALLS
            self._mix[kind] += 1 / MIX_CALLS

    def was_answered(self, age_seconds: float) -> None:
        """A call was answered by a person, so long after it was placed."""
        self._answers[self._finish(age_seconds)] += 1
        self._observed += 1
        self.answered += 1

    def was_not_answered(self, age_seconds: float) -> None:
        """A call ended by itself without an answer. One that we took back is not told: it taught while it rang."""
        self._ends[self._finish(age_seconds)] += 1

    def _finish(self, age_seconds: float) -> int:
        self.finished += 1
        self._since_rebuild += 1
        return min(int(age_seconds), self.seconds - 1)

    def passed(self, seconds: float, counts: Floats, expected_answers: float) -> None:
        """So many seconds went by, in which so many calls rang (by kind and age, or only by age, in one row).

        `expected_answers` are those to be expected of them in one second, at the level as it is.
        """
        rung_seconds = min(seconds, 1.0)  # after a gap nobody knows who rang when
        self._rung[: len(counts)] += rung_seconds * counts
        expected = rung_seconds * expected_answers / self.level
        fade = math.exp(-max(expected / LEVEL_ANSWERS, seconds / LEVEL_SECONDS))
        self._expected = self._expected * fade + expected
        self._observed *= fade

    @property
    def level_variance(self) -> float:
        """Of the level, relative to its square."""
        return 1 / (self._observed + LEVEL_PRIOR)

    def refresh(self, now_seconds: float) -> None:
        """Brings the tables up to date, if they are two seconds old."""
        if now_seconds - self._rebuilt_at >= REBUILD_SECONDS:
            self.rebuild(now_seconds)

    def rebuild(self, now_seconds: float) -> None:
        """Brings the tables up to date.

        `fresh[k]` is the chance that a call placed now is answered within k + 1 seconds; `hopeful[kind][second]`,
        whether a call that has rung so long may still be answered, and not only in theory.
        """
        self._rebuilt_at = now_seconds
        self._calls += self._rung.reshape(ODDS_KINDS, -1).sum(axis=0)
        self._rung[:] = 0.0
        fade = math.exp(-self._since_rebuild / SHAPE_CALLS)
        self._since_rebuild = 0
        for table in (self._calls, self._answers, self._ends):
            table *= fade
        self.level = min(
            max((self._observed + LEVEL_PRIOR) / (self._expected + LEVEL_PRIOR), LEVEL_LEAST), LEVEL_MOST
        )
        known = self._calls + PRIOR_CALLS
        answer_rate = self.level * (self._answers + PRIOR_CALLS * PRIOR_ANSWER) / known
        rate = answer_rate + (self._ends + PRIOR_CALLS * PRIOR_END) / known
        over = 1 - np.exp(-rate)  # within the second, one way or the other
        answer = over * answer_rate / rate
        end = over - answer
        rings, answered, ended = np.ones(self.seconds + 1), np.zeros(self.seconds + 1), np.zeros(self.seconds + 1)
        np.cumprod(1 - over, out=rings[1:])  # still, at the beginning of each second
        np.cumsum(rings[:-1] * answer, out=answered[1:])
        np.cumsum(rings[:-1] * end, out=ended[1:])
        # Whoever has better odds is among those who will answer more often: Bayes, by how long it has rung already.
        odds = _ODDS[AVERAGE_KIND : AVERAGE_KIND + 1] if self.all_alike else _ODDS
        will_answer = answered[-1] - answered[:-1]
        will_not = np.maximum(1 - answered[-1] - ended[:-1], 0.0)
        # The chance within k + 1 seconds is a product: of a factor by kind and age, and one by age and k.
        by_kind: Floats = odds / np.maximum(odds * will_answer + will_not, 1e-9)
        within: Floats = answered[self._by_then] - answered[:-1, None]
        fresh = np.minimum(by_kind[:, :1] * within[0], 1.0)
        self.fresh: Floats = fresh[0] if self.all_alike else self._mix @ fresh
        hopeful = by_kind * within[:, -1] >= HOPELESS
        self.hopeful: list[list[bool]] = hopeful.tolist() * (ODDS_KINDS if self.all_alike else 1)
        if self.all_alike:
            within *= by_kind[0][:, None]
            by_kind = np.ones((1, self.seconds))
        self._by_kind, self._by_kind_powers = by_kind, np.array([by_kind, by_kind * by_kind])
        self._within, self._within_squared = within, within * within

    def rows(self, kinds: Sequence[int], ages_seconds: Sequence[float]) -> Floats:
        """The chances of one call of each such kind and age, by second."""
        ages = np.minimum(np.array(ages_seconds).astype(np.intp), self.seconds - 1)
        of_kind = self._by_kind[kinds if len(self._by_kind) > 1 else 0, ages]
        return np.minimum(of_kind[:, None] * self._within[ages], 1.0)

    def moments(self, counts: Floats) -> tuple[Floats, Floats]:
        """Mean and variance of the answers of so many calls, by second; counts as in `passed`.

        Counts only by age are of calls that are all alike.
        """
        if len(counts) == self.seconds:
            plain = squared = counts
        else:
            # The sums over kinds. As products with ones they take half the time.
            plain, squared = _ONES @ (self._by_kind_powers * counts.reshape(ODDS_KINDS, -1))
        mean = plain @ self._within
        return mean, mean - squared @ self._within_squared  # the variance of each is p - p * p

    def state(self) -> RingState:
        """What is worth keeping."""
        return RingState(
            calls=tuple(self._calls.tolist()),
            answers=tuple(self._answers.tolist()),
            ends=tuple(self._ends.tolist()),
            finished=self.finished,
            answered=self.answered,
        )

    def restore(self, state: RingState) -> None:
        """Goes on from `state`; one of longer or shorter rings is cut, or continued with nothing known."""
        for table, kept in (
            (self._calls, state.calls),
            (self._answers, state.answers),
            (self._ends, state.ends),
        ):
            size = min(len(kept), self.seconds)
            table[:size] = kept[:size]
            table[size:] = 0.0
        # The level is of that hour and day: it is asked anew, from the shape's own.
        self._observed = self._expected = 0.0
        self._rung[:] = 0.0
        self.finished, self.answered = state.finished, state.answered
        self._rebuilt_at = -math.inf
