"""Predictive pacing by marginal risk. Pure.

One rule: one more call is placed while the chance that it is answered and then finds no agent in time is small
enough, and a closed loop on the abandoned calls says what is small enough. Calls that have rung for long are taken
back when that chance gets far too high. Until enough is known, and whenever something is wrong, it is progressive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import attrs
import numpy as np

from dialer.pacing.ages import Floats, Ints
from dialer.pacing.budget import Budget
from dialer.pacing.demand import Answers, Demand, shifted
from dialer.pacing.pacer import Answered, Decision, HeldBy, View, clipped, floor_of, progressive_reason
from dialer.pacing.supply import FreeAgents, Supply

# A cold start: less than this known of the campaign's calls, and of its agents' talks.
LEAST_FINISHED: Final = 40
LEAST_ANSWERED: Final = 15
LEAST_TALKS: Final = 10
# The bet of all calls that ring, in answers, as a share of those there were.
EXPOSURE: Final = 0.02
CANCEL_AFTER_SECONDS: Final = 15.0
CANCEL_RISK: Final = 0.30
CANCEL_MOST: Final = 20
# Variance of what no table says.
_OTHER_VARIANCE: Final = 0.02
_LEAST_WEIGHT: Final = 0.004
# Risks that are computed in one go: as many cost little more than one, and mostly the last call is among them.
_AT_ONCE: Final = 20

_PHI_REACH, _PHI_STEPS = 6.0, 200  # to each side; in each unit
_PHI: Final[Floats] = np.array(
    [
        0.5 * math.erfc(-(i / _PHI_STEPS - _PHI_REACH) / math.sqrt(2))
        for i in range(int(2 * _PHI_REACH * _PHI_STEPS) + 1)
    ]
)


def normal_cdf(x: Floats) -> Floats:
    """The normal distribution's, from a table."""
    steps = x * _PHI_STEPS + (_PHI_REACH * _PHI_STEPS + 0.5)
    return _PHI.take(steps.astype(np.intp), mode="clip")


@attrs.frozen(eq=False)
class _Calls:
    """What a forecast of `size` seconds needs of one call's chances of an answer, or of a row for each of several.

    The arrays are of those seconds in which an answer is likely enough to count.
    """

    chances: Floats  # of an answer within k + 1 seconds
    size: int
    seconds: slice
    later: Floats  # the chances at the moment when whoever answers then will have waited as long as they may
    variance: Floats  # of the number of answers by that moment
    likely: Floats  # that the call is answered in that second, if it is

    @classmethod
    def of(cls, chances: Floats, patience_seconds: float, size: int) -> _Calls:
        weights = chances[..., :size].copy()
        weights[..., 1:] -= chances[..., : size - 1]
        weights /= np.maximum(chances[..., size - 1 : size], 1e-12)
        weights *= weights >= _LEAST_WEIGHT
        counting = np.atleast_2d(weights).max(axis=0).nonzero()[0]
        seconds = slice(int(counting[0]), int(counting[-1]) + 1) if counting.size else slice(0)
        later = shifted(chances, patience_seconds, size)[..., seconds]
        return cls(chances, size, seconds, later, later * (1 - later), weights[..., seconds])


class _Forecast:
    """Agents against answers, as far ahead as a call that is placed now may be answered.

    `fresh` is what the forecast before knew of a call placed now, which changes only with the tables.
    """

    def __init__(
        self,
        view: View,
        answers: Sequence[Answers],
        free: FreeAgents,
        patience_seconds: float,
        fresh: _Calls | None = None,
    ) -> None:
        own = answers[0]
        mean, variance = own.mean, own.variance
        for other in answers[1:]:
            length = min(len(mean), len(other.mean))
            mean, variance = mean[:length] + other.mean[:length], variance[:length] + other.variance[:length]
        size = min(len(mean), len(free.mean)) - int(patience_seconds) - 1
        self._patience_seconds = patience_seconds
        self._size = size
        if fresh is None or fresh.chances is not own.fresh or fresh.size != size:
            fresh = _Calls.of(own.fresh, patience_seconds, size)
        self.fresh = fresh
        self._level_variance = own.level_variance
        # All of it at the moment when whoever answers then will have waited as long as they may.
        self._answers = shifted(mean, patience_seconds, size)
        self._spread = (
            shifted(free.variance, patience_seconds, size)
            + shifted(variance, patience_seconds, size)
            + _OTHER_VARIANCE
        )
        idle = view.idle_agents - view.waiting
        self._shortage = self._answers - shifted(free.mean, patience_seconds, size) + (0.5 - idle)
        # The chance that whoever answers in that second finds nobody in time.
        self._nobody = normal_cdf(self._shortage / self._deviation(self._answers, self._spread))
        self.all_answers = float(mean[-1])
        self.fresh_answers = float(own.fresh[-1])

    def risk(self, chances: Floats | None = None) -> float:
        """That of one more call, or of one that rings with such `chances`: answered, and nobody there in time."""
        call = self.fresh if chances is None else _Calls.of(chances, self._patience_seconds, self._size)
        return float(call.likely @ self._nobody[call.seconds])

    def risks(self, added: Ints) -> Floats:
        """Those of one more call beside so many others."""
        fresh, column = self.fresh, added[:, None]
        more = column * fresh.later
        deviation = self._deviation(
            self._answers[fresh.seconds] + more, self._spread[fresh.seconds] + column * fresh.variance
        )
        risks: Floats = normal_cdf((self._shortage[fresh.seconds] + more) / deviation) @ fresh.likely
        return risks

    def risks_of(self, chances: Floats) -> Floats:
        """Those of calls that ring already, a row of chances each, if all calls before it were taken back."""
        calls = _Calls.of(chances, self._patience_seconds, self._size)
        fewer, variance = np.cumsum(calls.later, axis=0), np.cumsum(calls.variance, axis=0)
        deviation = self._deviation(
            self._answers[calls.seconds] - fewer,
            np.maximum(self._spread[calls.seconds] - variance, _OTHER_VARIANCE),
        )
        nobody = normal_cdf((self._shortage[calls.seconds] - fewer) / deviation)
        risks: Floats = (calls.likely * nobody).sum(axis=1)
        return risks

    def highest_risk(self) -> float:
        """No call that rings has a higher one, whenever it is answered."""
        return float(self._nobody.max())

    def _deviation(self, answers: Floats, spread: Floats) -> Floats:
        """The standard deviation of `answers`, of which each varies by itself and all of them vary together."""
        deviation: Floats = np.sqrt(spread + self._level_variance * answers * answers)
        return deviation


def _first_above(limit: float, values: Callable[[Ints], Floats], low: int, high: int) -> int:
    """The first from `low` on whose value is above `limit`, or `high`. Values grow; some are asked for at once."""
    step = 1
    while low < high:
        tried = np.arange(low, min(high, low + step * _AT_ONCE), step)
        passed = int((values(tried) <= limit).sum())
        if passed < len(tried):
            high = int(tried[passed])
        if passed:
            low = int(tried[passed - 1]) + 1
        step = min(step * _AT_ONCE, -(-(high - low) // _AT_ONCE))
    return low


class Predictive:
    """Places calls ahead of agents who will be free, on the calls of `demand` and the agents of `supply`.

    `others` gives the demands of further campaigns that share the agents. `patience_seconds` is how long a person
    may wait, less what a bridge itself takes.
    """

    def __init__(
        self,
        supply: Supply,
        demand: Demand,
        budget: Budget,
        *,
        patience_seconds: float = 2.0,
        cancels: bool = True,
        least_agents: int = 0,
        others: Callable[[], Sequence[Demand]] = lambda: (),
    ) -> None:
        self._supply = supply
        self._demand = demand
        self._budget = budget
        self._patience_seconds = patience_seconds
        self._cancels = cancels
        self._least_agents = least_agents
        self._others = others
        self._fresh: _Calls | None = None

    def __repr__(self) -> str:
        return f"<Predictive {self._budget!r} {self._demand!r} {self._supply!r}>"

    def decide(self, view: View) -> Decision:
        """What to do now, seeing `view`."""
        now_seconds = view.now_seconds
        answers = [demand.answers(now_seconds) for demand in (self._demand, *self._others())]
        free = self._supply.free_agents(now_seconds)
        self._budget.sees([window.live for window in view.windows])
        agents = view.idle_agents + self._supply.engaged
        unsafe = view.trouble or self._too_little_known(agents)
        if unsafe:
            return clipped(floor_of(view), f"progressive: {unsafe}", HeldBy.SAFE_MODE, view)
        at_risk = self._budget.expected(now_seconds)
        spent = [one for one in view.windows if self._budget.is_spent(one.live, one.abandoned, at_risk)]
        if spent:
            # Those of ours that rang then are answered or gone by and by, and progressive calls risk nothing.
            ours = at_risk - self._budget.expected(now_seconds, but=self)
            self._budget.expect(self, 0.9 * ours, now_seconds)
            return clipped(floor_of(view), f"progressive: {self._spent(spent)}", HeldBy.BUDGET, view)
        forecast = _Forecast(view, answers, free, self._patience_seconds, self._fresh)
        self._fresh = forecast.fresh
        floor = floor_of(view)
        theta = self._budget.theta
        calls, held_by = self._most_calls(view, forecast, floor, agents, theta)
        idle = max(0, view.idle_agents - view.waiting)
        expected = forecast.all_answers + calls * forecast.fresh_answers
        self._budget.expect(self, theta * max(0.0, expected - idle), now_seconds)
        cancel: tuple[str, ...] = ()
        if calls == 0 and self._cancels:
            cancel = self._to_cancel(now_seconds, forecast)
        reason = self._reason(view, calls, floor, held_by, theta)
        return clipped(calls, reason, held_by, view, cancel)

    def _too_little_known(self, agents: int) -> str:
        if agents < self._least_agents:
            return f"{agents} agents are logged in, and {self._least_agents} are needed to foresee anything"
        tables = self._demand.tables
        talks = max(LEAST_TALKS, agents / 2)
        if tables.finished < LEAST_FINISHED or tables.answered < LEAST_ANSWERED or self._supply.talks < talks:
            return (
                f"still learning: {tables.finished} of {LEAST_FINISHED} calls, "
                f"{tables.answered} of {LEAST_ANSWERED} answers, {self._supply.talks} of {talks:.0f} talks"
            )
        return ""

    def _spent(self, windows: Sequence[Answered]) -> str:
        worst = max(windows, key=lambda one: one.abandoned / (one.live + 1))
        return (
            f"of {worst.live:.0f} who answered {worst.abandoned:.3g} were abandoned, "
            f"and two more could be over {self._budget.limit:.1%}"
        )

    def _most_calls(
        self, view: View, forecast: _Forecast, floor: int, agents: int, theta: float
    ) -> tuple[int, HeldBy]:
        """The most calls of which each has a risk that may be taken, and what holds back one more."""
        room = max(0, view.in_flight + agents) + 50  # more is never decided at once
        most, held_by = floor + room, HeldBy.RISK
        idle = view.idle_agents - view.waiting
        evidence = min(window.live for window in view.windows)
        if forecast.fresh_answers > 1e-9:
            bet = (EXPOSURE * evidence + idle - forecast.all_answers) / forecast.fresh_answers
            exposed = math.floor(bet) + 1 if bet >= 0 else 0
            if exposed < most:
                most, held_by = max(exposed, floor), HeldBy.EXPOSURE
        if floor >= most:
            return most, held_by
        if forecast.risk() > theta:  # mostly so, and it grows with each call
            return floor, HeldBy.RISK
        calls = _first_above(theta, forecast.risks, max(floor, 1), most)
        return calls, HeldBy.RISK if calls < most else held_by

    def _to_cancel(self, now_seconds: float, forecast: _Forecast) -> tuple[str, ...]:
        if forecast.highest_risk() <= CANCEL_RISK:  # mostly so, and found out at once however many ring
            return ()
        calls, chances = self._demand.longest_ringing(now_seconds, CANCEL_AFTER_SECONDS, CANCEL_MOST)
        if not calls:
            return ()
        if forecast.risk(chances[0]) <= CANCEL_RISK:  # the first stays, and so do those behind it
            return ()
        keeps = forecast.risks_of(chances) <= CANCEL_RISK
        return tuple(calls[: int(keeps.argmax())] if keeps.any() else calls)

    def _reason(self, view: View, calls: int, floor: int, held_by: HeldBy, theta: float) -> str:
        if calls > floor:
            return f"dialing ahead: agents will be free for whoever answers, but for a risk of {theta:.1%}"
        if calls == floor and floor > 0:
            return progressive_reason(view)
        if held_by is HeldBy.EXPOSURE:
            return "few have answered so far: more calls would be too large a bet"
        return f"one more call would find no agent with a chance of more than {theta:.1%}"
