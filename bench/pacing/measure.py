"""A cell: one policy on one scenario with so many agents, over some seeds."""

from __future__ import annotations

import statistics
from typing import Any, Final

import attrs

from bench.pacing.floor import Floor, Outcome, Policy
from bench.pacing.policies import LIMIT, POLICIES, Ratio
from bench.pacing.scenario import Scenario

BEST_RATIO: Final = "best-ratio"
RATIOS: Final = [tenths / 10 for tenths in range(10, 161)]


@attrs.frozen
class Cell:
    """What is to be measured."""

    policy: str
    scenario: Scenario
    agents: int
    hours: float
    seeds: int


def measure(cell: Cell) -> dict[str, Any]:
    """The cell's figures, as they are printed."""
    if cell.policy != BEST_RATIO:
        return _figures(cell, [_run(cell, POLICIES[cell.policy](), seed) for seed in range(1, cell.seeds + 1)])
    ratio, outcomes = _best_ratio(cell)
    return _figures(cell, outcomes) | {"ratio": ratio}


def _run(cell: Cell, policy: Policy, seed: int) -> Outcome:
    return Floor(cell.scenario, cell.agents, policy, seed, cell.hours).run()


def _best_ratio(cell: Cell) -> tuple[float, list[Outcome]]:
    """Of a grid of ratios the highest that abandons no more than may be; occupancy and abandoned grow with it."""
    low, high = 0, len(RATIOS)
    found: dict[int, list[Outcome]] = {}
    while low < high:
        middle = (low + high) // 2
        outcomes = [_run(cell, Ratio(RATIOS[middle]), seed) for seed in range(1, cell.seeds + 1)]
        found[middle] = outcomes
        if _abandoned_percent(outcomes) <= 100.0 * LIMIT:
            low = middle + 1
        else:
            high = middle
    best = low - 1 if low - 1 in found else 0
    return RATIOS[best], found[best]


def _abandoned_percent(outcomes: list[Outcome]) -> float:
    return 100.0 * sum(run.abandoned for run in outcomes) / max(1, sum(run.answers for run in outcomes))


def _figures(cell: Cell, outcomes: list[Outcome]) -> dict[str, Any]:
    late_answers = sum(run.answers_after_warm_up for run in outcomes)
    late_abandoned = sum(run.abandoned_after_warm_up for run in outcomes)
    return {
        "name": "occupancy",
        "policy": cell.policy,
        "scenario": cell.scenario.name,
        "agents": cell.agents,
        "value": round(statistics.fmean(run.occupancy_percent for run in outcomes), 2),
        "unit": "%",
        "abandoned_percent": round(_abandoned_percent(outcomes), 3),
        "after_warm_up_percent": round(100.0 * late_abandoned / max(1, late_answers), 3),
        "worst_hour_percent": round(max(run.worst_hour_percent for run in outcomes), 1),
        "withdrawn_percent": round(100.0 * sum(r.withdrawn for r in outcomes) / sum(r.dials for r in outcomes), 1),
        "answers": sum(run.answers for run in outcomes),
        "seeds": cell.seeds,
        "hours": cell.hours,
    }
