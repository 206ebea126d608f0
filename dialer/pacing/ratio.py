"""A fixed number of calls for each idle agent, as long as few are abandoned. Pure."""

from __future__ import annotations

from bisect import bisect_left

from dialer.pacing.budget import Budget
from dialer.pacing.demand import Demand
from dialer.pacing.pacer import Decision, HeldBy, View, clipped, floor_of


class Ratio:
    """`calls_per_agent` calls for each idle agent. At the limit of abandoned calls it is progressive."""

    def __init__(self, calls_per_agent: float, demand: Demand, budget: Budget) -> None:
        self._calls_per_agent = calls_per_agent
        self._demand = demand
        self._budget = budget

    def __repr__(self) -> str:
        return f"<Ratio {self._calls_per_agent:g} {self._budget!r}>"

    def decide(self, view: View) -> Decision:
        """What to do now, seeing `view`."""
        floor = floor_of(view)
        if view.trouble:
            return clipped(floor, f"progressive: {view.trouble}", HeldBy.SAFE_MODE, view)
        idle = max(0, view.idle_agents - view.waiting)
        # Whoever is to answer and has no idle agent may be abandoned, those now placed among them.
        answers = self._demand.answers(view.now_seconds)
        to_come, each = float(answers.mean[-1]), float(answers.fresh[-1])
        self._budget.sees([window.live for window in view.windows])
        at_risk_elsewhere = self._budget.expected(view.now_seconds, but=self)

        def at_risk(more: int) -> float:
            return max(0.0, to_come + more * each - idle)

        def spent(more: int) -> bool:
            expected = at_risk_elsewhere + at_risk(more)
            return any(self._budget.is_spent(one.live, one.abandoned, expected) for one in view.windows)

        self._budget.expect(self, at_risk(0), view.now_seconds)

        if spent(0):
            limit = f"{self._budget.limit:.1%} of those who answer may be abandoned"
            return clipped(floor, f"progressive: no more than {limit}", HeldBy.BUDGET, view)
        wanted = max(floor, int(self._calls_per_agent * idle) - view.ringing)
        calls = floor + bisect_left(range(floor + 1, wanted + 1), True, key=spent)
        self._budget.expect(self, at_risk(calls), view.now_seconds)
        reason = f"{self._calls_per_agent:g} calls for each of {view.idle_agents} idle agents, {view.ringing} ring"
        return clipped(calls, reason, HeldBy.AGENTS, view)
