"""The share of abandoned calls is the one aimed at, however wrong the forecast is."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from dialer.pacing.budget import CAP_PART, TARGET_PART, Budget, BudgetState


def answers_at_risk(budget: Budget, wrong: float, answers: int, seed: int = 1) -> float:
    """Each call has `wrong` times the risk that was accepted with it. Returns the share abandoned."""
    dice = random.Random(seed)
    abandoned = 0
    for _ in range(answers):
        if dice.random() < wrong * budget.theta:
            budget.abandoned()
            abandoned += 1
        else:
            budget.connected()
    return abandoned / answers


@pytest.mark.parametrize("wrong", [0.3, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("limit", [0.01, 0.03])
def test_in_the_long_run_the_target_is_met(limit: float, wrong: float) -> None:
    budget = Budget(limit)
    answers_at_risk(budget, wrong, 20_000)
    assert answers_at_risk(budget, wrong, 30_000) == pytest.approx(TARGET_PART * limit, rel=0.03)


@pytest.mark.parametrize("wrong", [0.3, 3.0])
def test_no_offset_is_left_standing(wrong: float) -> None:
    """The balance comes to rest near what is wanted, not where the error of the forecast would put it."""
    budget = Budget()
    answers_at_risk(budget, wrong, 20_000)
    balances = []
    for seed in range(100):
        answers_at_risk(budget, wrong, 200, seed)
        balances.append(budget.balance)
    assert sum(balances) / len(balances) == pytest.approx(1.5, abs=1.5)


def test_nothing_is_owed_without_end() -> None:
    """A day on which nobody could be abandoned does not allow a hundred the next."""
    budget = Budget()
    for _ in range(100_000):
        budget.connected()
    assert budget.balance == 25.0
    before = budget.theta
    budget.abandoned()
    assert budget.theta <= before


def test_an_abandoned_call_lowers_the_risk_at_once_and_a_connected_one_raises_it() -> None:
    budget = Budget()
    first = budget.theta
    assert first == pytest.approx(0.0067, abs=0.0001)
    budget.abandoned()
    second = budget.theta
    assert second < 0.92 * first
    budget.connected()
    assert second < budget.theta < first


@given(st.lists(st.booleans(), max_size=50))
def test_the_balance_is_the_target_less_those_abandoned(answers: list[bool]) -> None:
    budget = Budget(0.03)
    for abandoned in answers:
        (budget.abandoned if abandoned else budget.connected)()
    assert budget.balance == pytest.approx(TARGET_PART * 0.03 * len(answers) - sum(answers))


counts = st.integers(0, 100_000)
at_risk = st.floats(0, 1000)


@given(counts, counts, at_risk, st.integers(0, 1000), st.floats(0, 100), st.floats(0.001, 1))
def test_more_abandoned_or_at_risk_is_never_better(
    live: int, abandoned: int, risk: float, more: int, more_risk: float, limit: float
) -> None:
    budget = Budget(limit)
    if budget.is_spent(live, abandoned, risk):
        assert budget.is_spent(live, abandoned + more, risk + more_risk)
        assert budget.is_spent(max(0, live - more), abandoned, risk)
    else:
        assert (abandoned + 1) / (live + 1) <= limit  # one more would not break it


def test_the_first_answers_leave_no_room() -> None:
    budget = Budget(0.03)
    first = next(live for live in range(1000) if not budget.is_spent(live, 0))
    assert first == 67
    assert 2 / (first + 1) <= CAP_PART * 0.03


@pytest.mark.parametrize(
    ("live_answers", "target"),
    [
        ([0, 0], 0.0285),
        ([500, 500], 0.0285),  # nothing has left the shorter window yet
        ([0, 9_000], 0.021),
        ([500, 501], 0.021),
        ([2_000, 9_000], 0.0265),
        ([4_667, 9_000], 0.0285),
    ],
)
def test_where_few_answer_in_a_window_that_rolls_it_aims_lower(live_answers: list[float], target: float) -> None:
    """What is aimed at leaves room below the limit for seven calls, of which the cap keeps two."""
    budget = Budget()
    assert budget.target == pytest.approx(0.0285)
    budget.sees(live_answers)
    assert budget.target == pytest.approx(target, abs=1e-6)


@given(st.floats(-1e9, 25), st.floats(-1e9, 1e9), st.integers(0, 60), st.booleans())
def test_the_risk_is_a_probability_whatever_happened(
    balance: float, offset: float, steps: int, abandoned: bool
) -> None:
    budget = Budget(state=BudgetState(balance, offset))
    for _ in range(steps):
        (budget.abandoned if abandoned else budget.connected)()
    assert 0 < budget.theta < 1


def test_it_goes_on_from_what_was_kept() -> None:
    budget = Budget()
    answers_at_risk(budget, 2.0, 777)
    again = Budget(state=budget.state())
    assert again.theta == budget.theta
    assert answers_at_risk(again, 1.0, 500, seed=2) == answers_at_risk(budget, 1.0, 500, seed=2)


def test_days_without_a_risk_are_no_reason_for_a_large_one() -> None:
    budget = Budget()
    for _ in range(5_000):
        budget.connected()
    for _ in range(250):  # what was saved up is spent
        budget.abandoned(0.1)
    assert budget.theta < 0.2


def test_days_of_another_policy_leave_the_budget_as_it_is() -> None:
    budget = Budget()
    fresh = budget.theta
    for _ in range(20_000):
        budget.connected(bet=False)
    assert budget.theta == fresh  # none of them risked anything
    for _ in range(1_000):  # 2.4 % abandoned, within the limit
        budget.abandoned(bet=False)
        for _ in range(40):
            budget.connected(bet=False)
    assert fresh / 2 < budget.theta <= fresh
    budget.abandoned(10, bet=False)
    assert budget.theta < fresh / 2  # somebody was abandoned, by whichever policy


@pytest.mark.parametrize("abandoned", [200, 500])
def test_an_incident_is_over_some_day(abandoned: int) -> None:
    budget = Budget()
    answers_at_risk(budget, 1.0, 5_000)
    for _ in range(abandoned):
        budget.abandoned()
    answers = 0
    while budget.theta < 0.01:
        budget.connected()
        answers += 1
    assert (
        answers < 5_000
    )  # the law's own arithmetic would ask for 6,666 and 16,666: its windows are looked at besides


def test_a_state_that_has_grown_without_end_is_not_taken_over_as_it_is() -> None:
    budget = Budget()
    budget.restore(BudgetState(balance=-4_000.0, offset=-300.0))
    assert budget.state().balance >= -50.0
    assert budget.state().offset >= -9.0


def test_what_is_to_be_expected_of_all_who_share_a_budget() -> None:
    class Pacer:
        pass

    budget, one, other = Budget(), Pacer(), Pacer()
    budget.expect(one, 1.5, 100.0)
    budget.expect(other, 2.0, 130.0)
    assert budget.expected(130.0) == 3.5
    assert budget.expected(130.0, but=one) == 2.0
    budget.expect(one, 0.5, 131.0)
    assert budget.expected(131.0) == 2.5
    assert budget.expected(131.0 + 119.5) == 0.5  # the other was stopped, and nothing rings for so long
    del one
    assert budget.expected(132.0) == 2.0  # a pacer that is no more
