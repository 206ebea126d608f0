"""The policies that are measured beside each other: what is shipped, fixed ratios, and the adaptive dial level."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Literal

from bench.pacing.floor import Agent, Call, Floor, Policy
from dialer.pacing.answer_model import AnswerModel, LeadTraits
from dialer.pacing.budget import Budget
from dialer.pacing.demand import Demand
from dialer.pacing.pacer import Answered, Progressive, View
from dialer.pacing.predictive import Predictive
from dialer.pacing.supply import Supply

LIMIT: Final = 0.03
NOTHING: Final[tuple[int, tuple[str, ...]]] = (0, ())


def view_of(floor: Floor) -> View:
    """What a shipped pacer sees of the floor."""
    return View(
        now_seconds=floor.now,
        idle_agents=floor.idle,
        ringing=floor.ringing,
        waiting=floor.waiting,
        in_flight=floor.in_flight,
        channels_left=floor.channels_left,
        windows=(Answered(floor.answers, floor.abandoned),),
    )


class ProgressivePolicy(Policy):
    """The shipped progressive pacer."""

    def __init__(self) -> None:
        self._pacer = Progressive()

    def decide(self, floor: Floor) -> tuple[int, tuple[str, ...]]:
        if floor.idle == 0:
            return NOTHING
        return self._pacer.decide(view_of(floor)).calls, ()


class Ratio(Policy):
    """`ratio` ringing calls for each idle agent, rounded; none while nobody is idle."""

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio

    def decide(self, floor: Floor) -> tuple[int, tuple[str, ...]]:
        return int(self._ratio * floor.idle + 0.5) - floor.ringing, ()


class AdaptiveLevel(Policy):
    """Dial levels as VICIdial adapts them, from what is idle, what waits, and the day's dropped calls.

    It calls for agents who are idle or talk. The day is 09:00 to 21:00; longer runs go on with the next day, whose
    counts begin anew.
    """

    tick_seconds = 0.5
    at_events = False
    LAUNCH_SECONDS: Final = 2.5
    SAMPLES: Final = 15
    DAY_SECONDS: Final = 12 * 3600.0

    def __init__(self, drop_rule: Literal["tapered", "average"], *, ready_only: bool = False) -> None:
        self._drop_rule, self._ready_only = drop_rule, ready_only
        self._level = 1.0
        self._half_seconds = 0
        self._samples: deque[tuple[int, int, int]] = deque(maxlen=self.SAMPLES)
        # Answers and drops as they are counted, once a minute.
        self._day = 0
        self._counted = self._at_dawn = self._today = self._last_minute = (0, 0)

    def decide(self, floor: Floor) -> tuple[int, tuple[str, ...]]:
        half_seconds = self._half_seconds
        self._half_seconds += 1
        if half_seconds % 2 == 0:
            self._samples.append((floor.idle, floor.waiting, floor.agents))
        if half_seconds % 120 == 0:
            self._count(floor)
        if half_seconds % 30 == 0 and half_seconds:
            self._adapt(floor)
        if half_seconds % 5:
            return NOTHING
        if self._ready_only:
            return round(self._level * floor.idle) - floor.ringing - floor.waiting, ()
        return round(self._level * (floor.idle + floor.talking)) - floor.in_flight, ()

    def _adapt(self, floor: Floor) -> None:
        idle, waiting, agents = (sum(column) for column in zip(*self._samples, strict=True))
        if agents:
            self._level = min(max(self._level * (1.0 + (idle - waiting) / agents), 1.0), 3.0)
        answers, drops = self._last_minute
        if answers > 20 and drops > 0.5 * answers:
            self._level /= 2.0
        answers, drops = self._today
        if answers > 50 and drops > 0.03 * answers:
            if self._drop_rule == "average":
                self._level /= 2.0
            else:
                minutes = int(floor.now % self.DAY_SECONDS // 60.0)
                time_of_day = 100 * (9 + minutes // 60) + minutes % 60
                self._level *= min(1.0, (2100 - time_of_day) / 1000.0)
        self._level = max(self._level, 1.0)

    def _count(self, floor: Floor) -> None:
        counts = (floor.answers, floor.abandoned)
        day = int(floor.now // self.DAY_SECONDS)
        if day != self._day:
            self._day, self._at_dawn = day, counts
        self._today = (counts[0] - self._at_dawn[0], counts[1] - self._at_dawn[1])
        self._last_minute = (counts[0] - self._counted[0], counts[1] - self._counted[1])
        self._counted = counts


class PredictivePolicy(Policy):
    """The shipped predictive pacer. Phones ring as soon as they are dialed."""

    tick_seconds = 0.2

    def __init__(self, *, cancels: bool, odds: Callable[[Call], float] = lambda call: 1.0) -> None:
        self._supply, self._demand, self._budget = Supply(), Demand(), Budget(LIMIT)
        self._pacer = Predictive(self._supply, self._demand, self._budget, patience_seconds=2.0, cancels=cancels)
        self._odds = odds

    def decide(self, floor: Floor) -> tuple[int, tuple[str, ...]]:
        decision = self._pacer.decide(view_of(floor))
        return decision.calls, decision.cancel

    def placed(self, call: Call, now: float) -> None:
        self._demand.placed(call.id, now, self._odds(call))
        self._demand.rings(call.id, now)

    def answered(self, call: Call, now: float) -> None:
        self._demand.answered(call.id, now)

    def connected(self, call: Call, agent: Agent, now: float) -> None:
        self._demand.connected(call.id)
        self._budget.connected()
        self._supply.talk_begins(agent.id, now)

    def abandoned(self, call: Call, now: float) -> None:
        self._demand.left(call.id)
        self._budget.abandoned()

    def unanswered(self, call: Call, now: float) -> None:
        self._demand.unanswered(call.id, now)

    def withdrawn(self, call: Call, now: float) -> None:
        self._demand.withdrawn(call.id, now)

    def talk_ends(self, agent: Agent, now: float) -> None:
        self._supply.talk_ends(agent.id, now)

    def wrap_up_ends(self, agent: Agent, now: float, *, idle: bool) -> None:
        self._supply.wrap_up_ends(agent.id, now, idle=idle)
        if not idle:
            self._supply.leaves_after_call(agent.id, False)

    def leaves_after_call(self, agent: Agent, now: float) -> None:
        self._supply.leaves_after_call(agent.id, True)


class ModelledPolicy(PredictivePolicy):
    """The same, with the odds of each call foretold from what is known of its lead, and learned on the way."""

    def __init__(self) -> None:
        super().__init__(cancels=True, odds=lambda call: self._model.odds(self._traits[call.id]))
        self._model = AnswerModel()
        self._traits: dict[str, LeadTraits] = {}

    def placed(self, call: Call, now: float) -> None:
        self._traits[call.id] = LeadTraits(
            hour=int(now // 3600.0) % 24, weekday=0, attempt_no=1, list_name=call.group
        )
        super().placed(call, now)

    def answered(self, call: Call, now: float) -> None:
        self._model.learn(self._traits.pop(call.id), True)
        super().answered(call, now)

    def unanswered(self, call: Call, now: float) -> None:
        self._model.learn(self._traits.pop(call.id), False)
        super().unanswered(call, now)

    def withdrawn(self, call: Call, now: float) -> None:
        del self._traits[call.id]
        super().withdrawn(call, now)


def true_odds() -> Callable[[Call], float]:
    """What a perfect model of the leads would say: the odds of each against those of the average so far."""
    rate, calls = 0.0, 0

    def odds(call: Call) -> float:
        nonlocal rate, calls
        calls += 1
        rate += (call.answer_rate - rate) / calls
        return call.answer_rate / (1.0 - call.answer_rate) * (1.0 - rate) / rate

    return odds


# `best-ratio` is none of these: it is the best of many ratios in hindsight.
POLICIES: Final[dict[str, Callable[[], Policy]]] = {
    "progressive": ProgressivePolicy,
    "ratio2": lambda: Ratio(2.0),
    "ratio3": lambda: Ratio(3.0),
    "adaptive-tapered": lambda: AdaptiveLevel("tapered"),
    "adaptive-average": lambda: AdaptiveLevel("average"),
    "adaptive-average-ready": lambda: AdaptiveLevel("average", ready_only=True),
    "predictive": lambda: PredictivePolicy(cancels=False),
    "predictive+cancel": lambda: PredictivePolicy(cancels=True),
    "predictive+model": ModelledPolicy,
    "predictive+truth": lambda: PredictivePolicy(cancels=True, odds=true_odds()),
}
