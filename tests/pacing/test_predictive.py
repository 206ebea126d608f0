"""What predictive pacing may never do, and what it must, whatever the state of calls and agents."""

from __future__ import annotations

import math
import random
from functools import cache

import attrs
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings

from dialer.pacing.ages import Floats, Ints
from dialer.pacing.budget import Budget, BudgetState
from dialer.pacing.demand import Demand
from dialer.pacing.pacer import Answered, HeldBy, View, floor_of
from dialer.pacing.predictive import CANCEL_MOST, Predictive, _first_above, _Forecast, normal_cdf
from dialer.pacing.ring_tables import RingState
from dialer.pacing.supply import Supply, SupplyState
from tests.pacing.ringing import Ringing, uniform
from tests.pacing.test_supply import exponential, team

NOW = 10_000.0
PLENTY = (Answered(50_000, 1_000),)

unhurried = settings(deadline=None, max_examples=60)


@cache
def learned() -> tuple[RingState, SupplyState]:
    """Three of ten are answered; talks take two minutes, wrap-ups a quarter of one."""
    calls = Ringing(Demand(), uniform(0.3), random.Random(1))
    calls.run(200, 10)
    calls.demand.tables.rebuild(1e6)
    supply, _ = team(exponential(120), exponential(15), seconds=2000)
    return calls.demand.tables.state(), supply.state()


@attrs.frozen
class Moment:
    """A campaign as it may be found: agents and calls by how long they have been at it."""

    idle: int
    talks: tuple[float, ...] = ()
    wrap_ups: tuple[float, ...] = ()
    rings: tuple[float, ...] = ()
    waiting: int = 0
    balance: float = 20.0  # of the budget: a risk of some 5 %
    odds: tuple[float, ...] = (1.0,)

    def view(self, **more: object) -> View:
        view = View(
            now_seconds=NOW,
            idle_agents=self.idle,
            ringing=len(self.rings),
            waiting=self.waiting,
            in_flight=len(self.rings) + self.waiting + len(self.talks),
            windows=PLENTY,
        )
        return attrs.evolve(view, **more)  # type: ignore[arg-type]

    def supply(self) -> Supply:
        supply = Supply()
        supply.restore(learned()[1])
        for number, age in enumerate(self.talks):
            supply.talk_begins(f"talks {number}", NOW - age)
        for number, age in enumerate(self.wrap_ups):
            supply.talk_begins(f"wraps up {number}", NOW - age)
            supply.talk_ends(f"wraps up {number}", NOW - age)
        return supply

    def demand(self, *, ringing: bool = True) -> Demand:
        demand = Demand()
        demand.tables.restore(learned()[0])
        for number, age in enumerate(sorted(self.rings, reverse=True)):
            demand.placed(str(number), NOW - age, self.odds[number % len(self.odds)])
            if ringing:
                demand.rings(str(number), NOW - age)
        return demand

    def budget(self) -> Budget:
        return Budget(0.03, BudgetState(self.balance))

    def pacer(self, **more: object) -> Predictive:
        arguments: dict[str, object] = {"supply": self.supply(), "demand": self.demand(), "budget": self.budget()}
        return Predictive(**(arguments | more))  # type: ignore[arg-type]


def ages(most: float) -> st.SearchStrategy[tuple[float, ...]]:
    return st.lists(st.floats(0, most) | st.sampled_from([0.0, 1e-9, 1e6]), max_size=60).map(tuple)


moments = st.builds(
    Moment,
    idle=st.integers(0, 5) | st.integers(0, 60),
    talks=ages(1200),
    wrap_ups=ages(60),
    rings=ages(34),
    waiting=st.just(0) | st.integers(0, 8),
    balance=st.floats(-60, 25),
    odds=st.just((1.0,)) | st.lists(st.floats(0.05, 20), min_size=1, max_size=5).map(tuple),
)
# Twenty agents in full swing.
BUSY = Moment(
    idle=3,
    talks=tuple(9.0 * n for n in range(15)),
    wrap_ups=(3.0, 12.0),
    rings=(2.0, 9.0, 14.0),
)


@unhurried
@given(
    moments, st.none() | st.integers(-3, 60), st.none() | st.integers(-3, 60), st.sampled_from([0.0, 0.3, 1.93, 2.0])
)
def test_within_channels_and_rate_and_never_less_than_progressive(
    moment: Moment, channels: int | None, rate: int | None, patience: float
) -> None:
    view = moment.view(channels_left=channels, calls_left=rate)
    decision = moment.pacer(patience_seconds=patience).decide(view)
    most = min(max(0, limit) for limit in (channels, rate, 10**9) if limit is not None)
    assert min(floor_of(view), most) <= decision.calls <= most
    assert decision.reason.strip()
    if decision.calls:
        assert not decision.cancel
    assert len(set(decision.cancel)) == len(decision.cancel) <= CANCEL_MOST
    oldest_first = sorted(moment.rings, reverse=True)
    assert all(oldest_first[int(call)] >= 15 for call in decision.cancel)


@unhurried
@given(moments)
def test_nobody_idle_and_nobody_about_to_be_means_no_calls(moment: Moment) -> None:
    moment = attrs.evolve(moment, idle=0, talks=(), wrap_ups=())
    assert moment.pacer().decide(moment.view()).calls == 0


def test_calls_are_placed_ahead_of_agents_who_talk() -> None:
    view = BUSY.view()
    assert floor_of(view) == 0
    calls = BUSY.pacer().decide(view).calls
    assert 1 <= calls <= 20
    fewer = attrs.evolve(BUSY, talks=BUSY.talks[:3], wrap_ups=())
    assert fewer.pacer().decide(fewer.view()).calls < calls
    ringing = attrs.evolve(BUSY, rings=(*BUSY.rings, 1.0, 1.0))
    assert ringing.pacer().decide(ringing.view()).calls == pytest.approx(calls - 2, abs=1)


@unhurried
@given(moments, st.floats(0, 40))
def test_more_risk_allowed_means_no_fewer_calls(moment: Moment, more: float) -> None:
    calls = moment.pacer().decide(moment.view()).calls
    bolder = attrs.evolve(moment, balance=moment.balance + more)
    assert bolder.pacer().decide(bolder.view()).calls >= calls


def test_the_risk_allowed_matters() -> None:
    calls = [
        moment.pacer().decide(moment.view()).calls
        for moment in (attrs.evolve(BUSY, balance=balance) for balance in (-40.0, 0.0, 25.0))
    ]
    assert calls[0] < calls[1] < calls[2]


@unhurried
@given(moments)
def test_a_person_who_waits_is_never_better_than_none(moment: Moment) -> None:
    waiting = attrs.evolve(moment, waiting=moment.waiting + 1)
    assert waiting.pacer().decide(waiting.view()).calls <= moment.pacer().decide(moment.view()).calls


@unhurried
@given(moments)
@example(BUSY)
def test_the_last_call_is_the_one_that_a_walk_would_find(moment: Moment) -> None:
    """Steps, long and short, go where one call after the other would, and the risk grows with each."""
    view = moment.view()
    forecast = forecast_of(moment)
    theta = moment.budget().theta
    risks = forecast.risks(np.arange(200)).tolist()
    assert risks[0] == pytest.approx(forecast.risk(), abs=1e-12)
    assert all(0 <= risk <= 1 for risk in risks)
    decision = moment.pacer().decide(view)
    calls = floor_of(view)
    while calls < len(risks) and risks[calls] <= theta:
        calls += 1
    if decision.held_by is HeldBy.RISK and calls < min(len(risks), floor_of(view) + view.in_flight):
        assert decision.calls == calls


@given(st.integers(-5, 5000), st.integers(0, 50), st.integers(0, 3000))
def test_the_first_above_is_found_in_few_looks(first: int, low: int, width: int) -> None:
    looks = 0

    def values(tried: Ints) -> Floats:
        nonlocal looks
        looks += 1
        assert ((tried >= low) & (tried < low + width)).all()
        return np.where(tried >= first, 1.0, 0.0)

    assert _first_above(0.5, values, low, low + width) == min(max(first, low), low + width)
    assert looks <= 6


def forecast_of(moment: Moment, patience_seconds: float = 2.0) -> _Forecast:
    free = moment.supply().free_agents(NOW)
    return _Forecast(moment.view(), [moment.demand().answers(NOW)], free, patience_seconds)


@unhurried
@given(moments, st.floats(0.0, 10.0))
def test_patience_lowers_the_risk(moment: Moment, patience: float) -> None:
    """Nobody may wait at all, or for some seconds in which agents come free and others answer: mostly agents."""
    moment = attrs.evolve(moment, rings=(), odds=(1.0,))
    assert forecast_of(moment, patience).risk() <= forecast_of(moment, 0.0).risk() + 0.02


def test_the_risk_is_what_happens() -> None:
    """One idle agent, one call that rings: the next call finds nobody if both are answered, the other one first."""
    moment = Moment(idle=1, rings=(0.0,))
    risk = forecast_of(moment).risk()
    # The other one is answered in three cases of ten, and in half of these before the new one and its two seconds.
    assert 0.3 * 0.4 < risk < 0.3 * 0.75
    assert forecast_of(attrs.evolve(moment, rings=())).risk() < 0.01
    assert forecast_of(attrs.evolve(moment, idle=0, rings=())).risk() > 0.98


@pytest.mark.parametrize(
    ("more", "held_by", "words"),
    [
        ({"trouble": "the switch is away"}, HeldBy.SAFE_MODE, "the switch is away"),
        ({"windows": (Answered(66, 0),)}, HeldBy.BUDGET, "abandoned"),
        ({"windows": (*PLENTY, Answered(1_000, 30))}, HeldBy.BUDGET, "of 1000 who answered 30"),
        # The rate is worse where there is room.
        ({"windows": (Answered(3, 0), Answered(10_000, 200))}, HeldBy.BUDGET, "of 3 who answered 0"),
    ],
)
@unhurried
@given(moment=moments)
def test_whatever_is_wrong_it_is_progressive(
    moment: Moment, more: dict[str, object], held_by: HeldBy, words: str
) -> None:
    view = moment.view(**more)
    decision = moment.pacer().decide(view)
    assert (decision.calls, decision.held_by, decision.cancel) == (floor_of(view), held_by, ())
    assert words in decision.reason


def test_what_rings_for_others_of_the_budget_counts_against_its_limit() -> None:
    nobody_idle = attrs.evolve(BUSY, idle=0)
    budget, close = BUSY.budget(), nobody_idle.view(windows=(Answered(1_000, 15),))
    mine, others = nobody_idle.pacer(budget=budget), nobody_idle.pacer(budget=budget)
    assert mine.decide(close).held_by is not HeldBy.BUDGET
    budget.expect(others, 7.0, NOW)
    assert mine.decide(close).held_by is HeldBy.BUDGET
    at_first = budget.expected(NOW, but=others)
    assert mine.decide(close).held_by is HeldBy.BUDGET
    assert budget.expected(NOW, but=others) < at_first  # what rang is gone by and by, and no more is risked


@pytest.mark.parametrize("unknown", ["calls", "answers", "talks", "agents"])
def test_a_cold_start_is_progressive(unknown: str) -> None:
    rings, talks = learned()
    demand, supply = BUSY.demand(), BUSY.supply()
    if unknown in ("calls", "answers"):
        part = {"finished": 39} if unknown == "calls" else {"answered": 14}
        demand.tables.restore(attrs.evolve(rings, **part))  # type: ignore[arg-type]
    if unknown == "talks":
        supply.restore(attrs.evolve(talks, talks=9))
    pacer = BUSY.pacer(demand=demand, supply=supply, least_agents=21 if unknown == "agents" else 0)
    decision = pacer.decide(BUSY.view())
    assert (decision.calls, decision.held_by) == (0, HeldBy.SAFE_MODE)
    assert BUSY.pacer(least_agents=20).decide(BUSY.view()).calls > 0


def test_agents_who_are_held_for_calls_are_there() -> None:
    supply = BUSY.supply()
    supply.is_held("one", NOW)
    assert BUSY.pacer(supply=supply, least_agents=21).decide(BUSY.view()).calls > 0
    for ended in (supply.talk_begins, supply.talk_ends, supply.gone):
        supply.is_held("another", NOW)
        ended("another", NOW)
        supply.gone("another", NOW)
        assert supply.engaged == supply.busy + 1


def test_few_answers_allow_a_small_bet_only() -> None:
    moment = attrs.evolve(BUSY, talks=tuple(3.0 * n for n in range(200)), rings=())
    free = moment.pacer().decide(moment.view()).calls
    view = moment.view(windows=(Answered(100, 0),))
    decision = moment.pacer().decide(view)
    assert decision.held_by is HeldBy.EXPOSURE
    assert decision.calls < free
    # Two percent of 100, and the idle agents: what is placed comes to that.
    assert 0.3 * decision.calls == pytest.approx(5, abs=0.8)


def test_calls_that_ring_for_long_are_taken_back_when_nobody_will_be_free() -> None:
    hopeless = Moment(idle=0, rings=(3.0, 14.9, 15.0, 16.0, 18.0, 20.0))
    decision = hopeless.pacer().decide(hopeless.view())
    assert decision.cancel == ("0", "1", "2", "3")  # the longest first
    assert hopeless.pacer(cancels=False).decide(hopeless.view()).cancel == ()
    # Not those of which the switch never said that they ring.
    silent = hopeless.pacer(demand=hopeless.demand(ringing=False))
    assert silent.decide(hopeless.view()).cancel == ()
    # Not while there are agents for them.
    served = attrs.evolve(hopeless, idle=6)
    assert served.pacer().decide(served.view()).cancel == ()


def test_nothing_is_taken_back_while_calls_are_placed() -> None:
    """An agent is back in eight seconds: soon enough for a new call, too late for one that has rung for long."""
    moment = Moment(idle=0, rings=(18.0,), balance=60.0)
    supply = moment.supply()
    supply.talk_begins("a", NOW - 60)
    supply.talk_ends("a", NOW - 1, wrap_up_until_seconds=NOW + 8)
    pacer = moment.pacer(supply=supply, patience_seconds=0.0)
    decision = pacer.decide(moment.view())
    assert decision.calls > 0
    assert decision.cancel == ()
    timid = attrs.evolve(moment, balance=-60.0)
    assert timid.pacer(supply=supply, patience_seconds=0.0).decide(moment.view()).cancel == ("0",)


def test_no_more_are_taken_back_than_must_be() -> None:
    moment = Moment(idle=2, rings=(18.0,) * 40)
    cancel = moment.pacer().decide(moment.view()).cancel
    assert len(cancel) == CANCEL_MOST
    fewer = Moment(idle=2, rings=(16.0,) * 14)
    taken = fewer.pacer().decide(fewer.view()).cancel
    assert 0 < len(taken) < 14


@unhurried
@given(moments, ages(30))
def test_another_campaign_of_the_same_agents_lowers_the_calls(moment: Moment, others: tuple[float, ...]) -> None:
    other = Moment(idle=0, rings=others).demand()
    alone = moment.pacer().decide(moment.view()).calls
    shared = moment.pacer(others=lambda: [other]).decide(moment.view()).calls
    assert shared <= alone


def test_another_campaign_counts_as_much_as_ones_own_calls() -> None:
    other = Moment(idle=0, rings=(1.0,) * 2).demand()
    alone = BUSY.pacer().decide(BUSY.view()).calls
    shared = BUSY.pacer(others=lambda: [other]).decide(BUSY.view()).calls
    assert shared == pytest.approx(alone - 2, abs=1)


@settings(deadline=None, max_examples=30)
@given(
    ring_ages=st.lists(st.floats(0, 1e10), max_size=5),
    talk_ages=st.lists(st.floats(0, 1e10), max_size=5),
    steps=st.lists(st.just(0.0) | st.floats(0, 1e8), min_size=1, max_size=6),
    many=st.sampled_from([0, 3000]),
)
def test_numbers_stay_numbers(ring_ages: list[float], talk_ages: list[float], steps: list[float], many: int) -> None:
    moment = Moment(
        idle=3, talks=(*talk_ages, *(1.0,) * (many // 3)), rings=(*ring_ages, *(2.0,) * many), balance=25.0
    )
    supply, demand, budget = moment.supply(), moment.demand(), moment.budget()
    pacer = Predictive(supply, demand, budget)
    now = NOW
    with np.errstate(all="raise", under="ignore"):
        for step in steps:
            now += step
            decision = pacer.decide(moment.view(now_seconds=now))
            assert decision.calls >= 0
            answers, free = demand.answers(now), supply.free_agents(now)
            for values in (answers.mean, answers.variance, answers.fresh, free.mean, free.variance):
                assert np.isfinite(values).all()
                assert (values >= -1e-9).all()
            assert math.isfinite(demand.tables.level)


def test_the_table_of_the_normal_distribution() -> None:
    x = np.array([-1e9, -6.0, -1.959964, 0.0, 1.0, 5.9999, 1e9])
    exact = [0.5 * math.erfc(-value / math.sqrt(2)) for value in x]
    assert normal_cdf(x) == pytest.approx(exact, abs=1.1e-3)
