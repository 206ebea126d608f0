"""What the end of a call says of its trunk, and when another trunk is to try it."""

from __future__ import annotations

from typing import Any

import pytest

from dialer.calls.failover import Sign, failure_of, goes_on, sign_of
from dialer.calls.leg import Leg
from dialer.settings import GatewaySettings

UUID = "11111111-1111-4111-8111-111111111111"


def settings(**changes: Any) -> GatewaySettings:
    return GatewaySettings(name="a", switch="fs", caller_id="12025550100", concurrency=1, **changes)


def ended(status: int, cause: str, **changes: Any) -> Leg:
    return Leg(UUID, ended_us=2, cause=cause, sip_status=status, **changes)


@pytest.mark.parametrize(
    ("status", "cause", "sign"),
    [
        (503, "NORMAL_TEMPORARY_FAILURE", Sign.FAULT),
        (500, "NORMAL_TEMPORARY_FAILURE", Sign.FAULT),
        (502, "NETWORK_OUT_OF_ORDER", Sign.FAULT),
        (504, "RECOVERY_ON_TIMER_EXPIRE", Sign.FAULT),
        (408, "RECOVERY_ON_TIMER_EXPIRE", Sign.FAULT),
        (599, "NORMAL_UNSPECIFIED", Sign.FAULT),  # a hundred of them, whatever the cause
        (487, "PROGRESS_TIMEOUT", Sign.FAULT),  # it had said nothing, and FreeSWITCH took the call back
        (0, "GATEWAY_DOWN", Sign.FAULT),
        (0, "INVALID_GATEWAY", Sign.FAULT),
        (0, "NORMAL_CIRCUIT_CONGESTION", Sign.FAULT),
        # the trunk refuses us, though FreeSWITCH makes the person's refusal of it
        (401, "CALL_REJECTED", Sign.FAULT),
        (402, "CALL_REJECTED", Sign.FAULT),
        (403, "CALL_REJECTED", Sign.FAULT),
        (407, "CALL_REJECTED", Sign.FAULT),
        # the person, or the number, has spoken
        (486, "USER_BUSY", Sign.WELL),
        (600, "USER_BUSY", Sign.WELL),
        (603, "CALL_REJECTED", Sign.WELL),
        (404, "UNALLOCATED_NUMBER", Sign.WELL),
        (410, "NUMBER_CHANGED", Sign.WELL),
        (484, "INVALID_NUMBER_FORMAT", Sign.WELL),
        (480, "NO_USER_RESPONSE", Sign.WELL),
        (486, "NETWORK_OUT_OF_ORDER", Sign.WELL),  # what is never tried again is looked at first
        (503, "USER_BUSY", Sign.WELL),
        # in neither list
        (488, "INCOMPATIBLE_DESTINATION", Sign.NEITHER),
        (0, "NORMAL_CLEARING", Sign.NEITHER),
        (0, "SYSTEM_SHUTDOWN", Sign.NEITHER),
        # our own hang-up
        (0, "NO_ANSWER", Sign.NEITHER),
        (487, "NO_ANSWER", Sign.NEITHER),
        (487, "ORIGINATOR_CANCEL", Sign.NEITHER),
        (0, "ORIGINATOR_CANCEL", Sign.NEITHER),
    ],
)
def test_a_call_that_reached_nobody_tells_of_its_trunk(status: int, cause: str, sign: Sign) -> None:
    assert sign_of(settings(), ended(status, cause)) is sign


@pytest.mark.parametrize("moment", ["ringing_us", "early_media_us", "answered_us"])
def test_a_call_that_came_through_tells_of_a_trunk_that_is_well(moment: str) -> None:
    came_through: dict[str, Any] = {moment: 1}
    assert sign_of(settings(), Leg(UUID, **came_through)) is Sign.WELL
    assert sign_of(settings(), ended(503, "NORMAL_TEMPORARY_FAILURE", **came_through)) is Sign.WELL


def test_a_call_that_is_not_over_or_was_lost_from_sight_tells_nothing() -> None:
    assert sign_of(settings(), Leg(UUID)) is Sign.NEITHER
    assert sign_of(settings(), Leg(UUID).gone(5)) is Sign.NEITHER


def test_lists_of_a_trunk_of_its_own() -> None:
    own = settings(fail_over_on=("404", "USER_BUSY"), never_retry_on=("503",))
    assert sign_of(own, ended(404, "UNALLOCATED_NUMBER")) is Sign.FAULT
    assert sign_of(own, ended(486, "USER_BUSY")) is Sign.FAULT
    assert sign_of(own, ended(503, "USER_BUSY")) is Sign.WELL
    assert sign_of(own, ended(500, "NORMAL_TEMPORARY_FAILURE")) is Sign.NEITHER


@pytest.mark.parametrize(
    ("status", "cause", "told"),
    [(503, "NORMAL_TEMPORARY_FAILURE", "503 NORMAL_TEMPORARY_FAILURE"), (0, "GATEWAY_DOWN", "GATEWAY_DOWN")],
)
def test_a_failure_is_told_as_it_is_listed(status: int, cause: str, told: str) -> None:
    assert failure_of(ended(status, cause)) == told


@pytest.mark.parametrize(
    ("sign", "failed", "others", "expected"),
    [
        (Sign.FAULT, (), ("a", "b"), True),
        (Sign.FAULT, (), ("a",), False),  # there is none but the one that failed
        (Sign.FAULT, ("b",), ("a", "b"), False),  # and the other has failed it before
        (Sign.FAULT, ("b",), ("a", "b", "c"), True),
        (Sign.FAULT, (), (), False),
        (Sign.WELL, (), ("a", "b"), False),
        (Sign.NEITHER, (), ("a", "b"), False),
    ],
)
def test_another_trunk_tries_what_one_has_failed(
    sign: Sign, failed: tuple[str, ...], others: tuple[str, ...], expected: bool
) -> None:
    assert goes_on(sign, "a", failed, others) is expected
