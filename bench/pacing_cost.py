"""What one decision of the predictive pacer costs in a campaign that runs by it: calls and talks begin and end."""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections.abc import Sequence
from statistics import mean, median, quantiles
from time import thread_time
from typing import Final

import attrs

from bench.shared import tell
from dialer.pacing.budget import Budget
from dialer.pacing.demand import Demand
from dialer.pacing.pacer import Answered, View
from dialer.pacing.predictive import Predictive
from dialer.pacing.supply import Supply

GOAL_US: Final = 100.0

_STEP_SECONDS: Final = 0.1
_RING_SECONDS: Final = 27.0
# So few that two calls ring for each agent when all agents are busy.
_ANSWER_PROBABILITY: Final = 0.09
# The days before: the campaign's bets are not held down for want of evidence.
_BEFORE: Final = Answered(20_000, 560)


def _lognormal(dice: random.Random, mean_seconds: float, sigma: float) -> float:
    return dice.lognormvariate(math.log(mean_seconds) - sigma**2 / 2, sigma)


class Campaign:
    """Agents and those they call. Its odds say who will answer, if they are `graded`."""

    def __init__(self, agents: int, *, graded: bool) -> None:
        self._dice = random.Random(1)
        self._graded = graded
        self._demand = Demand()
        self._supply = Supply()
        self._budget = Budget()
        self._pacer = Predictive(self._supply, self._demand, self._budget)
        self._idle = [str(agent) for agent in range(agents)]
        self._agents = agents
        self._now = 0.0
        self._events: list[tuple[float, str, str]] = []  # (at, what, of whom)
        self._ringing: set[str] = set()
        self._placed = self._live = self._abandoned = 0

    def step(self) -> tuple[float, int]:
        """Goes on by a tenth of a second. Returns what the decision took in us, and how many calls rang."""
        self._now += _STEP_SECONDS
        while self._events and self._events[0][0] <= self._now:
            at, what, who = heapq.heappop(self._events)
            self._happens(at, what, who)
        view = View(
            now_seconds=self._now,
            idle_agents=len(self._idle),
            ringing=len(self._ringing),
            waiting=0,
            in_flight=len(self._ringing) + self._agents - len(self._idle),
            windows=(Answered(_BEFORE.live + self._live, _BEFORE.abandoned + self._abandoned),),
        )
        ringing = len(self._ringing)
        before = thread_time()
        decision = self._pacer.decide(view)
        took = thread_time() - before
        for call in decision.cancel:
            self._ringing.discard(call)
            self._demand.withdrawn(call, self._now)
        for _ in range(decision.calls):
            self._place()
        return 1e6 * took, ringing

    def _place(self) -> None:
        dice = self._dice
        self._placed += 1
        call = str(self._placed)
        odds = dice.lognormvariate(0, 0.7) if self._graded else 1.0
        chance = odds * _ANSWER_PROBABILITY
        answers = dice.random() < chance / (1 - _ANSWER_PROBABILITY + chance)
        seconds = _lognormal(dice, 12, 0.5)
        what = "answered" if answers and seconds < _RING_SECONDS else "unanswered"
        self._ringing.add(call)
        self._demand.placed(call, self._now, odds)
        heapq.heappush(self._events, (self._now + min(1.5, seconds), "rings", call))
        heapq.heappush(self._events, (self._now + (seconds if what == "answered" else _RING_SECONDS), what, call))

    def _happens(self, at: float, what: str, who: str) -> None:
        if what == "talked":
            wrap_up_ends = at + _lognormal(self._dice, 15, 0.6)
            self._supply.talk_ends(who, at)
            heapq.heappush(self._events, (wrap_up_ends, "wrapped up", who))
        elif what == "wrapped up":
            self._supply.wrap_up_ends(who, at, idle=True)
            self._idle.append(who)
        elif who not in self._ringing:
            return  # it was taken back
        elif what == "rings":
            self._demand.rings(who, at)
        else:
            self._ringing.discard(who)
            if what == "unanswered":
                self._demand.unanswered(who, at)
            else:
                self._demand.answered(who, at)
                self._live += 1
                self._connect(who, at)

    def _connect(self, call: str, at: float) -> None:
        if not self._idle:
            self._demand.left(call)
            self._budget.abandoned()
            self._abandoned += 1
            return
        agent = self._idle.pop(0)
        self._demand.connected(call)
        self._supply.talk_begins(agent, at)
        self._budget.connected()
        heapq.heappush(self._events, (at + _lognormal(self._dice, 120, 1.0), "talked", agent))


@attrs.frozen
class Case:
    """A campaign that runs by it, and what decisions of the pacer took."""

    agents: int
    graded: bool = False
    took_us: list[float] = attrs.field(factory=list)
    ringing: list[int] = attrs.field(factory=list)

    @property
    def median_us(self) -> float:
        """Of the decisions so far."""
        return median(self.took_us)

    def tell(self) -> None:
        """Median and 99th percentile."""
        case = {
            "agents": self.agents,
            "ringing": round(mean(self.ringing)),
            "odds": "graded" if self.graded else "alike",
        }
        goal = {"goal": f"<= {GOAL_US:g}", "met": self.median_us <= GOAL_US}
        tell("pacing_cost", self.median_us, "us", **case, **goal, decisions=len(self.took_us))
        tell("pacing_cost_p99", quantiles(self.took_us, n=100)[98], "us", **case)


def measure(cases: Sequence[Case], decisions: int) -> None:
    """So many decisions of each case, in turns: a machine that is slower for a while is so for all of them."""
    campaigns = [Campaign(case.agents, graded=case.graded) for case in cases]
    for campaign in campaigns:
        for _ in range(int(1200 / _STEP_SECONDS)):
            campaign.step()
    for _ in range(decisions):
        for case, campaign in zip(cases, campaigns, strict=True):
            took_us, ringing = campaign.step()
            case.took_us.append(took_us)
            case.ringing.append(ringing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=3000, help="measured in each case")
    small, large, _ = cases = (Case(50), Case(500), Case(500, graded=True))
    measure(cases, parser.parse_args().decisions)
    for case in cases:
        case.tell()
    growth = large.median_us / small.median_us
    tell("pacing_cost_growth", growth, "", of="500 agents against 50", goal="<= 1.5", met=growth <= 1.5)


if __name__ == "__main__":
    main()
