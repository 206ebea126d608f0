"""What is learned of rings is true of them: whatever the traffic looked like while it was learned."""

from __future__ import annotations

import random
from statistics import mean

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from dialer.pacing.ages import Floats
from dialer.pacing.demand import Demand
from dialer.pacing.ring_tables import (
    AVERAGE_KIND,
    LEVEL_LEAST,
    LEVEL_MOST,
    ODDS_KINDS,
    RingState,
    RingTables,
    kind_of_odds,
)
from tests.pacing.ringing import Law, Ringing, uniform

HORIZON = 45


def ringing(law: Law, seed: int = 1) -> Ringing:
    return Ringing(Demand(), law, random.Random(seed))


def row_of(tables: RingTables, kind: int, age: int) -> Floats:
    """The chances of one call, by second."""
    (row,) = tables.rows([kind], [age])
    return np.array(row)


def mean_row(calls: Ringing, seconds: float, calls_per_second: float, age: int) -> Floats:
    """The chances of a call of that age, as they were told over some time: the level's dice even out."""
    rows: list[Floats] = []
    tables = calls.demand.tables
    calls.run(seconds, calls_per_second, lambda: rows.append(row_of(tables, AVERAGE_KIND, age)))
    return np.array(np.mean(rows, axis=0))


@pytest.mark.parametrize("age", [0, 5, 10, 18])
@pytest.mark.parametrize("answer_probability", [0.1, 0.3, 0.6])
def test_the_law_is_found(answer_probability: float, age: int) -> None:
    calls = ringing(uniform(answer_probability))
    calls.run(300, 10)
    row = mean_row(calls, 300, 10, age)
    seconds = np.arange(HORIZON) + age + 1.0
    answered = answer_probability * np.clip((seconds - 2) / 20, 0, 1)
    before = answer_probability * min(max((age - 2) / 20, 0), 1)
    still_ringing = 1 - before - 0.1 * min(max((age - 2) / 2, 0), 1)
    assert row == pytest.approx((answered - before) / still_ringing, abs=0.035)


def test_a_burst_looks_no_better_while_only_its_answers_are_known() -> None:
    """Of calls placed at once, who answers does so before the others give up."""
    calls = ringing(uniform(0.1))
    calls.run(300, 5)
    tables = calls.demand.tables
    found: list[float] = []
    calls.place(1500)
    calls.run(40, 5, lambda: found.append(float(tables.fresh[-1]) / tables.level))
    assert min(found) > 0.07
    assert max(found) < 0.14


def test_what_is_taken_back_was_not_answered_while_it_rang() -> None:
    def impatient(dice: random.Random, now_seconds: float) -> tuple[bool | None, float]:
        answered, seconds = uniform(0.2)(dice, now_seconds)
        return (None, 15.0) if seconds > 15 else (answered, seconds)

    calls = ringing(impatient)
    calls.run(300, 10)
    within_15_seconds = mean_row(calls, 300, 10, 0)[14]
    assert within_15_seconds == pytest.approx(0.2 * 13 / 20, rel=0.12)


@pytest.mark.parametrize(("before", "after", "least"), [(0.2, 0.5, 0.55), (0.5, 0.2, 0.35)])
def test_the_level_follows_a_step_of_the_answer_rate(before: float, after: float, least: float) -> None:
    """After some thirty answers that were to be expected it is well on its way; downwards it doubts longer."""
    answer_probability = before

    def law(dice: random.Random, _: float) -> tuple[bool | None, float]:
        return dice.random() < answer_probability, dice.expovariate(1 / 6)

    found = []
    for seed in range(6):
        answer_probability = before
        calls = ringing(law, seed)
        calls.run(300, 4)
        answer_probability = after
        calls.run(12 + 40 / (4 * before), 4)  # those that ring already come first
        found.append(float(calls.demand.tables.fresh[-1]))
    assert least < (mean(found) - before) / (after - before) < 1.1


def test_the_level_stays_within_reason_and_its_doubt_shrinks() -> None:
    tables = RingTables(34, HORIZON)
    doubt = tables.level_variance
    for _ in range(500):
        tables.was_answered(5.0)
    tables.rebuild(0.0)
    assert tables.level == LEVEL_MOST
    assert tables.level_variance < doubt / 50
    idle = RingTables(34, HORIZON)
    for now in range(500):
        idle.passed(1.0, np.zeros(ODDS_KINDS * 34), 1.0)
        idle.rebuild(float(now))
    assert idle.level == LEVEL_LEAST


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_any_odds_have_a_kind(odds: float) -> None:
    assert 0 <= kind_of_odds(odds) < ODDS_KINDS


def test_steps_of_odds_are_half_powers_of_two() -> None:
    assert kind_of_odds(1.0) == AVERAGE_KIND
    assert [kind_of_odds(odds) - AVERAGE_KIND for odds in (0.5, 0.7, 1.1, 1.5, 2.0, 4.0)] == [-2, -1, 0, 1, 2, 4]


def test_better_odds_are_bayes_odds_at_every_age() -> None:
    calls = ringing(uniform(0.3))
    for kind in range(ODDS_KINDS):
        calls.place(odds=2.0 ** ((kind - AVERAGE_KIND) / 2))
    calls.run(300, 10)
    tables = calls.demand.tables
    average = row_of(tables, AVERAGE_KIND, 0)[-1]
    for age in (0, 5, 12):
        rows = np.array([row_of(tables, kind, age) for kind in range(ODDS_KINDS)])
        assert (np.diff(rows[:, -1]) > 0).all()
        assert (np.diff(rows, axis=1) >= 0).all()
        assert ((rows >= 0) & (rows <= 1)).all()
    for kind in range(ODDS_KINDS):
        chance = row_of(tables, kind, 0)[-1]
        odds = 2.0 ** ((kind - AVERAGE_KIND) / 2)
        assert chance / (1 - chance) == pytest.approx(odds * average / (1 - average))


def test_calls_to_come_are_like_those_that_were_placed() -> None:
    tables = RingTables(34, HORIZON)
    for _ in range(2000):
        tables.placed(kind_of_odds(4.0))
    tables.rebuild(0.0)
    assert tables.fresh == pytest.approx(row_of(tables, kind_of_odds(4.0), 0), abs=1e-3)


def test_moments_are_those_of_the_calls_one_by_one() -> None:
    calls = ringing(uniform(0.3))
    calls.run(100, 10)
    tables = calls.demand.tables
    for kinds in ([AVERAGE_KIND], [AVERAGE_KIND, 3, 12]):
        counts = np.zeros((ODDS_KINDS, 34))
        for kind in kinds:
            tables.placed(kind)
            counts[kind, [0, 7, 33]] = [3, 2, 1]
        tables.rebuild(1e6)
        rows = [(n, row_of(tables, kind, age)) for kind in kinds for age, n in ((0, 3), (7, 2), (33, 1))]
        mean_, variance = tables.moments(counts.ravel())
        assert mean_ == pytest.approx(sum(n * row for n, row in rows))
        assert variance == pytest.approx(sum(n * row * (1 - row) for n, row in rows))


def test_what_is_kept_gives_the_same_chances() -> None:
    calls = ringing(uniform(0.4))
    calls.run(200, 10)
    tables = calls.demand.tables
    tables.rebuild(1e6)
    again = RingTables(34, HORIZON)
    again.restore(tables.state())
    again.rebuild(0.0)
    assert again.state() == tables.state()
    # But for the level, which is of its hour.
    assert again.level == 1.0
    tables.restore(tables.state())
    tables.rebuild(0.0)
    assert again.fresh.tolist() == tables.fresh.tolist()


@pytest.mark.parametrize("seconds", [1, 20, 34, 90])
def test_another_ring_time_takes_what_fits(seconds: int) -> None:
    calls = ringing(uniform(0.4))
    calls.run(100, 10)
    tables = RingTables(seconds, seconds + 11)
    tables.restore(calls.demand.tables.state())
    tables.rebuild(0.0)
    assert tables.answered == calls.demand.tables.answered
    assert ((tables.fresh >= 0) & (tables.fresh <= 1)).all()
    assert seconds < 30 or tables.fresh[30] == pytest.approx(0.4, abs=0.1)


def test_what_was_known_before_is_gone() -> None:
    calls = ringing(uniform(0.4))
    calls.run(100, 10)
    tables = calls.demand.tables
    state = RingTables(20, 31).state()
    tables.restore(state)
    tables.rebuild(0.0)
    new = RingTables(34, HORIZON)
    new.restore(state)
    new.rebuild(0.0)
    assert tables.fresh[:30].tolist() == new.fresh[:30].tolist()


kept = st.lists(st.floats(0, 1e12), min_size=34, max_size=34).map(tuple)


@given(
    state=st.builds(RingState, calls=kept, answers=kept, ends=kept, finished=st.just(9), answered=st.just(4)),
    ages=st.lists(st.floats(0, 1e12), max_size=20),
    gap=st.floats(0, 1e12),
    expected=st.floats(0, 1e6),
)
def test_chances_are_chances_whatever_was_seen(
    state: RingState, ages: list[float], gap: float, expected: float
) -> None:
    tables = RingTables(34, HORIZON)
    tables.restore(state)
    tables.placed(12)
    for age in ages:
        tables.was_answered(age)
        tables.was_not_answered(age)
    tables.passed(gap, np.full(ODDS_KINDS * 34, 3.0), expected)
    tables.rebuild(gap)
    for kind in (0, AVERAGE_KIND, ODDS_KINDS - 1):
        for age in (0, 20, 33):
            row = row_of(tables, kind, age)
            assert ((row >= 0) & (row <= 1)).all()
            assert (np.diff(row) >= 0).all()
    assert 0 < tables.level_variance <= 1 / 8
