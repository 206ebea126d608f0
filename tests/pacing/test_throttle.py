"""The rate finds what a machine can do, and stays near it."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from dialer.pacing.throttle import BEHIND_SECONDS, FIRST_RATE, GROWTH_A_SECOND, HIGHEST_RATE, LEAST_RATE, Throttle


def place(throttle: Throttle, capacity: float, wanted: float, seconds: float) -> tuple[list[int], float]:
    """Calls begun in each of the seconds by a machine that does `capacity` a second, and its worst lag at the end."""
    backlog, begun, worst = 0.0, [0] * int(seconds), 0.0
    for step in range(int(seconds * 50)):
        now = step / 50
        backlog = max(0.0, backlog - capacity / 50)
        lag = backlog / capacity
        calls = min(throttle.allowance(now, lag), int(wanted / 50) + 1)
        throttle.begun(calls)
        backlog += calls
        begun[int(now)] += calls
        if now > seconds / 2:
            worst = max(worst, lag)
    return begun, worst


@pytest.mark.parametrize("capacity", [40.0, 120.0, 300.0, 900.0])
def test_three_times_what_the_machine_can_do(capacity: float) -> None:
    begun, worst = place(Throttle(), capacity, 3 * capacity, 60)
    late = sum(begun[30:]) / 30
    assert 0.7 * capacity <= late <= 1.05 * capacity
    assert worst <= 2 * BEHIND_SECONDS


def test_what_is_not_wanted_does_not_make_the_rate_grow() -> None:
    throttle = Throttle()
    begun, _ = place(throttle, 1000.0, 20.0, 30)
    assert throttle.rate == FIRST_RATE
    assert sum(begun) >= 0.9 * 20 * 30


def test_a_lull_teaches_nothing() -> None:
    throttle = Throttle()
    throttle.begun(throttle.allowance(0.0, 0.0))
    for second in range(1, 600):
        throttle.allowance(float(second), 0.0)
    assert throttle.rate <= FIRST_RATE + GROWTH_A_SECOND


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 3), st.integers(0, 500)), max_size=60))
def test_never_more_than_allowed_and_never_out_of_bounds(steps: list[tuple[float, float, int]]) -> None:
    throttle, now, begun = Throttle(), 0.0, 0
    for pause, lag, wanted in steps:
        now += pause
        allowed = throttle.allowance(now, lag)
        assert allowed >= 0
        assert lag <= BEHIND_SECONDS or allowed == 0
        throttle.begun(min(allowed, wanted))
        begun += min(allowed, wanted)
        assert LEAST_RATE <= throttle.rate <= HIGHEST_RATE
    assert begun <= HIGHEST_RATE * now + HIGHEST_RATE
