"""A trunk that fails is parked, rests longer each time, and comes back by one call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialer.calls.failover import Sign
from dialer.calls.trunk_health import Health, Patience

PATIENCE = Patience(faults=3, rest_seconds=30.0, rest_seconds_most=100.0)
FAILURE = "503 NORMAL_TEMPORARY_FAILURE"


def after(health: Health, *signs: Sign, uuid: str = "call", now: float = 0.0, refused_before: bool = False) -> Health:
    for sign in signs:
        health = health.after(sign, uuid, FAILURE, now, PATIENCE, refused_before=refused_before)
    return health


PARKED = after(Health(), Sign.FAULT, Sign.FAULT, Sign.FAULT)


@pytest.mark.parametrize(
    ("signs", "parked"),
    [
        ("FFF", True),
        ("FF", False),
        ("FFWF", False),  # no run
        ("FFWFFF", True),
        ("FNFNF", True),  # what tells nothing ends no run
        ("WWWW", False),
    ],
)
def test_a_run_of_faults_parks_a_trunk(signs: str, parked: bool) -> None:
    by_letter = {"F": Sign.FAULT, "W": Sign.WELL, "N": Sign.NEITHER}
    health = after(Health(), *(by_letter[letter] for letter in signs))
    assert health.parked is parked
    assert health.allowance(0.0) == (0 if parked else None)


def test_a_parked_trunk_gets_one_call_after_its_rest_and_no_second_beside_it() -> None:
    assert PARKED.allowance(29.9) == 0
    assert PARKED.allowance(30.0) == 1
    assert PARKED.tried_by("trial").allowance(31.0) == 0


def test_the_trial_that_comes_through_brings_it_back() -> None:
    assert after(PARKED.tried_by("trial"), Sign.WELL, uuid="trial", now=31.0) == Health()


def test_each_trial_that_fails_doubles_the_rest_up_to_the_most() -> None:
    health, now, rests = PARKED, 0.0, []
    for _ in range(4):
        rests.append(health.rest_seconds)
        now += health.rest_seconds
        assert health.allowance(now) == 1
        health = after(health.tried_by("trial"), Sign.FAULT, uuid="trial", now=now)
        assert health.allowance(now) == 0
    assert rests == [30.0, 60.0, 100.0, 100.0]


def test_leads_that_were_refused_before_park_a_trunk_later() -> None:
    health = after(Health(), *[Sign.FAULT] * 11, refused_before=True)
    assert not health.parked
    assert after(health, Sign.FAULT, refused_before=True).parked
    assert after(health, Sign.FAULT).parked  # 2.75 and 1


def test_a_trial_with_a_lead_that_was_refused_before_makes_no_rest_longer() -> None:
    trying = after(PARKED.tried_by("trial"), Sign.FAULT, uuid="trial", now=30.0, refused_before=True)
    assert (trying.rest_seconds, trying.parked_until) == (30.0, 60.0)
    assert after(trying.tried_by("next"), Sign.FAULT, uuid="next", now=60.0).rest_seconds == 60.0


def test_a_trial_that_tells_nothing_makes_room_for_another() -> None:
    health = after(PARKED.tried_by("trial"), Sign.NEITHER, uuid="trial", now=31.0)
    assert health.allowance(31.0) == 0  # it is on its way still
    assert health.without("other").allowance(31.0) == 0
    assert health.without("trial").allowance(31.0) == 1


@pytest.mark.parametrize("sign", list(Sign))
def test_calls_that_were_on_their_way_when_it_was_parked_change_nothing(sign: Sign) -> None:
    trying = PARKED.tried_by("trial")
    assert after(PARKED, sign, uuid="older", now=10.0) == PARKED
    assert after(trying, sign, uuid="older", now=40.0) == trying


def test_what_is_told_of_it() -> None:
    assert Health().told(0.0) == ""
    assert PARKED.told(0.0) == f"parked for 30 s more: 3 calls in a row failed, the last with {FAILURE}"
    assert PARKED.told(30.0) == f"tried by one call: 3 calls in a row failed, the last with {FAILURE}"
    again = after(PARKED.tried_by("trial"), Sign.FAULT, uuid="trial", now=30.0)
    assert again.told(40.0) == f"parked for 50 s more: the call that tried it failed too, with {FAILURE}"


def test_a_trunk_that_its_switch_has_up_again_is_tried_at_once() -> None:
    assert PARKED.rested().allowance(0.0) == 1
    assert not Health().rested().parked


@given(st.lists(st.tuples(st.sampled_from(list(Sign)), st.sampled_from(["a", "b", "c"]), st.floats(0.0, 60.0))))
def test_a_trunk_that_rests_always_comes_back_to_a_trial(story: list[tuple[Sign, str, float]]) -> None:
    health, now = Health(), 0.0
    for sign, uuid, seconds in story:
        now += seconds
        if health.allowance(now) == 1:
            health = health.tried_by(uuid)
        health = health.after(sign, uuid, FAILURE, now, PATIENCE, refused_before=False).without(uuid)
        assert health.rest_seconds <= PATIENCE.rest_seconds_most
        assert health.without("a").without("b").without("c").allowance(now + health.rest_seconds) != 0
