"""Who will be free in the next seconds, learned from the talks and wrap-ups there were."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from statistics import mean

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from dialer.pacing.ages import Floats
from dialer.pacing.supply import Supply, SupplyState

Law = Callable[[random.Random], float]


def team(
    talk: Law, wrap_up: Law, agents: int = 40, seconds: float = 4000.0, pauses: float = 0.0
) -> tuple[Supply, float]:
    """A supply that has seen a team at work, each talk followed by a wrap-up and that by the next talk."""
    dice = random.Random(1)
    supply = Supply()
    events: list[tuple[float, str, bool]] = []  # when, who, a talk or not
    for number in range(agents):
        heapq.heappush(events, (dice.uniform(0, 100), str(number), False))
    now = 0.0
    while now < seconds:
        now += 0.5
        while events[0][0] <= now:
            at, who, talked = heapq.heappop(events)
            if talked:
                supply.talk_ends(who, at)
                heapq.heappush(events, (at + wrap_up(dice), who, False))
            else:
                supply.wrap_up_ends(who, at, idle=dice.random() >= pauses)
                supply.talk_begins(who, at)
                heapq.heappush(events, (at + talk(dice), who, True))
        supply.free_agents(now)
    for number in range(agents):
        supply.gone(str(number), now)
    return supply, now


def free(supply: Supply, now_seconds: float) -> Floats:
    return supply.free_agents(now_seconds).mean


def exponential(mean_seconds: float) -> Law:
    return lambda dice: dice.expovariate(1 / mean_seconds)


def fixed(seconds: float) -> Law:
    return lambda _: seconds


def test_memoryless_talks_end_at_any_age_alike() -> None:
    supply, now = team(exponential(100), fixed(0.0))
    for age in (2.0, 60.0, 200.0):
        supply.talk_begins("a", now - age)
        # The wrap-up takes no time, and half a second is given away between the bins.
        assert free(supply, now)[[9, 19, 39]] == pytest.approx(
            1 - np.exp(-np.array([9.5, 19.5, 39.5]) / 100), rel=0.25
        )
        supply.gone("a", now)


def test_talks_of_one_length_end_at_that_age() -> None:
    supply, now = team(fixed(102.5), fixed(0.0))
    supply.talk_begins("young", now - 20.0)
    assert free(supply, now)[-1] < 0.05
    supply.gone("young", now)
    supply.talk_begins("old", now - 97.0)
    assert free(supply, now)[2] < 0.1
    assert free(supply, now)[12] > 0.8


def test_a_wrap_up_of_one_length_comes_after_the_talk() -> None:
    supply, now = team(exponential(60), fixed(20.0))
    supply.talk_begins("talks", now - 30.0)
    soon = free(supply, now)
    assert soon[18] < 0.03
    assert soon[40] == pytest.approx(1 - np.exp(-20.5 / 60), rel=0.25)
    supply.gone("talks", now)
    supply.talk_begins("wraps up", now - 100)
    supply.talk_ends("wraps up", now - 15.0)
    soon = free(supply, now)
    assert soon[2] < 0.1
    assert soon[7] > 0.9


def test_a_timer_is_better_known_than_any_table() -> None:
    supply, now = team(exponential(60), fixed(60.0))
    for agent, until in (("soon", now + 5.0), ("late", now + 1000.0), ("due", now - 0.5)):
        supply.talk_begins(agent, now - 50.0)
        supply.talk_ends(agent, now - 1.0, wrap_up_until_seconds=until)
    ahead = supply.free_agents(now)
    assert ahead.mean[0] == pytest.approx(1.0, abs=0.05)  # the one who should be there already
    assert ahead.mean[3] == pytest.approx(1.0, abs=0.1)
    assert ahead.mean[5] == pytest.approx(2.0, abs=0.1)
    assert ahead.variance[5] < 0.2


def test_who_leaves_after_the_call_counts_for_nothing() -> None:
    supply, now = team(exponential(30), exponential(5))
    for agent in ("talks", "wraps up", "by timer"):
        supply.talk_begins(agent, now - 30.0)
    supply.talk_ends("wraps up", now - 2.0)
    supply.talk_ends("by timer", now - 2.0, wrap_up_until_seconds=now + 3.0)
    all_of_them = free(supply, now)[-1]
    for agent in ("talks", "wraps up", "by timer"):
        supply.leaves_after_call(agent, True)
    assert np.abs(free(supply, now)).max() < 1e-12
    assert supply.busy == 3
    for agent in ("talks", "wraps up", "by timer"):
        supply.leaves_after_call(agent, False)
    assert free(supply, now)[-1] == pytest.approx(all_of_them)
    # A wish for later holds from one call to the next stage.
    supply.leaves_after_call("talks", True)
    before = free(supply, now)[-1]
    supply.talk_ends("talks", now)
    assert free(supply, now)[-1] == pytest.approx(before)


def test_those_who_pause_are_not_counted_on() -> None:
    rested, now = team(exponential(30), exponential(5), pauses=0.4)
    eager, _ = team(exponential(30), exponential(5))
    for supply in (rested, eager):
        supply.talk_begins("a", now - 30.0)
    assert free(rested, now)[-1] / free(eager, now)[-1] == pytest.approx(0.6, abs=0.2)


def test_the_forecast_of_a_whole_team_comes_true() -> None:
    """Lognormal talks: what was foreseen for ten seconds ahead is what came, on average."""
    dice = random.Random(3)
    supply = Supply()
    events: list[tuple[float, str, bool]] = [(dice.uniform(0, 100), str(agent), False) for agent in range(60)]
    heapq.heapify(events)
    foreseen, came = [], []
    freed = 0
    for tick in range(1, 8000):
        now = 0.5 * tick
        while events[0][0] <= now:
            at, who, talked = heapq.heappop(events)
            if talked:
                supply.talk_ends(who, at)
                heapq.heappush(events, (at + dice.lognormvariate(2.5, 0.5), who, False))
            else:
                freed += 1
                supply.wrap_up_ends(who, at, idle=True)
                supply.talk_begins(who, at)
                heapq.heappush(events, (at + dice.lognormvariate(4, 1), who, True))
        ahead = supply.free_agents(now)
        if tick > 3000 and tick % 20 == 0:
            foreseen.append(float(ahead.mean[9]))
            came.append(freed)
    per_ten_seconds = (came[-1] - came[0]) / (len(came) - 1)
    # Who begins to talk within these seconds and ends as soon is not foreseen, and hardly ever comes.
    assert mean(foreseen) == pytest.approx(per_ten_seconds, rel=0.1)


def test_what_is_kept_foresees_the_same() -> None:
    supply, now = team(exponential(50), exponential(10), pauses=0.1)
    again = Supply()
    again.restore(supply.state())
    assert again.talks == supply.talks
    supply.restore(supply.state())
    for each in (supply, again):
        each.talk_begins("a", now)
    assert free(again, now) == pytest.approx(free(supply, now), rel=1e-4)


def test_nothing_is_learned_of_agents_lost_from_sight() -> None:
    supply = Supply()
    supply.talk_begins("a", 0.0)
    supply.gone("a", 10.0)
    supply.talk_ends("a", 11.0)
    supply.wrap_up_ends("a", 12.0, idle=False)
    assert (supply.talks, supply.busy) == (0, 0)
    assert supply.state() == Supply().state()


numbers = st.floats(0, 1e12)


@settings(deadline=None)
@given(
    tables=st.lists(numbers, min_size=4, max_size=4),
    ages=st.lists(st.floats(0, 1e10), max_size=20),
    timers=st.lists(st.floats(-1e10, 1e10), max_size=5),
    gap=st.just(0.0) | st.floats(0, 1e10),
)
def test_never_more_free_than_there_are(
    tables: list[float], ages: list[float], timers: list[float], gap: float
) -> None:
    supply = Supply()
    ends, seconds, wraps, wrap_ends = tables
    supply.restore(SupplyState((ends,) * 120, (seconds,) * 120, (wraps,) * 90, (wrap_ends,) * 90, 0.3, 50))
    now = 1e10
    for number, age in enumerate(ages):
        supply.talk_begins(f"talks {number}", now - age)
        supply.talk_begins(f"wraps up {number}", now - age)
        supply.talk_ends(f"wraps up {number}", now - age / 2)
    for number, timer in enumerate(timers):
        supply.talk_begins(f"by timer {number}", now)
        supply.talk_ends(f"by timer {number}", now, now + timer)
    for at in (now, now, now + gap):
        ahead = supply.free_agents(at)
        assert (ahead.mean >= -1e-9).all()
        assert (ahead.mean <= supply.busy + 1e-9).all()
        assert (np.diff(ahead.mean) >= -1e-9).all()
        assert (ahead.variance >= 0).all()


def test_a_wrap_up_whose_end_nobody_told_is_over_by_its_timer() -> None:
    """Another daemon may have ended it: the agent is idle, and must not be foreseen to come free as well."""
    supply = Supply()
    supply.talk_begins("a", 0.0)
    supply.talk_ends("a", 30.0, wrap_up_until_seconds=45.0)
    assert supply.free_agents(44.0).mean[-1] == pytest.approx(1.0, abs=0.01)
    assert supply.busy == 1
    assert supply.free_agents(46.5).mean[-1] == 0.0
    assert supply.busy == 0
