"""A fixed ratio, and where it ends."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from dialer.pacing.budget import Budget
from dialer.pacing.demand import Demand
from dialer.pacing.pacer import Answered, HeldBy, View, floor_of
from dialer.pacing.ratio import Ratio

PLENTY = (Answered(10_000, 100),)


def view(idle: int, ringing: int = 0, waiting: int = 0, **more: object) -> View:
    arguments: dict[str, object] = {
        "now_seconds": 100.0,
        "idle_agents": idle,
        "ringing": ringing,
        "waiting": waiting,
        "in_flight": ringing + waiting,
        "windows": PLENTY,
    }
    return View(**(arguments | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ratio", "idle", "ringing", "waiting", "calls"),
    [
        (1.0, 5, 0, 0, 5),
        (2.0, 5, 0, 0, 10),
        (2.5, 3, 0, 0, 7),
        (2.0, 5, 4, 0, 6),
        (2.0, 5, 10, 0, 0),
        (2.0, 5, 0, 2, 6),  # two of the agents are for those who wait
        (3.0, 0, 0, 0, 0),  # none for agents who talk
        (3.0, 1, 0, 4, 0),
    ],
)
def test_so_many_for_each_idle_agent(ratio: float, idle: int, ringing: int, waiting: int, calls: int) -> None:
    decision = Ratio(ratio, Demand(), Budget()).decide(view(idle, ringing, waiting))
    assert decision.calls == calls
    assert decision.reason


@pytest.mark.parametrize("ratio", [3.0, 10.0])
def test_calls_that_are_about_to_be_placed_count_against_the_limit_too(ratio: float) -> None:
    decision = Ratio(ratio, Demand(), Budget()).decide(view(50, windows=(Answered(70, 0),)))
    assert 50 <= decision.calls * 0.353 + 1 <= 51  # as many will answer as there are agents, by what is supposed


@pytest.mark.parametrize(
    ("more", "held_by"),
    [
        ({"trouble": "the gateway fails"}, HeldBy.SAFE_MODE),
        ({"windows": (*PLENTY, Answered(100, 3))}, HeldBy.BUDGET),
        ({"windows": (Answered(0, 0),)}, HeldBy.BUDGET),
    ],
)
def test_at_the_limit_it_is_progressive(more: dict[str, object], held_by: HeldBy) -> None:
    decision = Ratio(3.0, Demand(), Budget()).decide(view(5, 1, 1, **more))
    assert (decision.calls, decision.held_by) == (3, held_by)


def test_what_rings_already_counts_against_the_limit() -> None:
    """Fifty calls ring for one agent: most who answer will find nobody, and the limit is not far."""
    demand = Demand()
    for number in range(50):
        demand.placed(str(number), 95.0)
    close = view(1, 1, windows=(Answered(1_000, 15),))
    assert Ratio(3.0, Demand(), Budget()).decide(close).calls == 2
    assert Ratio(3.0, demand, Budget()).decide(close).held_by is HeldBy.BUDGET


def test_what_rings_for_others_of_the_budget_counts_too() -> None:
    budget, close = Budget(), view(5, windows=(Answered(1_000, 15),))
    assert Ratio(3.0, Demand(), budget).decide(close).held_by is HeldBy.AGENTS
    others = Ratio(3.0, Demand(), budget)
    budget.expect(others, 7.0, close.now_seconds)
    assert Ratio(3.0, Demand(), budget).decide(close).held_by is HeldBy.BUDGET


counts = st.integers(0, 30)


@given(st.floats(1, 5), counts, counts, counts, st.none() | st.integers(-2, 9), st.none() | st.integers(-2, 9))
def test_between_progressive_and_its_limits(
    ratio: float, idle: int, ringing: int, waiting: int, channels: int | None, rate: int | None
) -> None:
    seen = view(idle, ringing, waiting, channels_left=channels, calls_left=rate)
    decision = Ratio(ratio, Demand(), Budget()).decide(seen)
    most = min(max(0, limit) for limit in (channels, rate, 10**9) if limit is not None)
    assert min(floor_of(seen), most) <= decision.calls <= most
    assert decision.calls <= max(0, ratio * idle - ringing)
    assert decision.reason
