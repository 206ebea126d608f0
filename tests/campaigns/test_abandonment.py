from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from campaigns.abandonment import AbandonmentCounts, abandoned_of, hour_of
from campaigns.disposition import Disposition
from campaigns.leases import Lease

from .conftest import NOON, cdr_of

LEASE = Lease("u-1", 1, "+12120000000", "carrier", "fs1", 1, {})


@pytest.mark.parametrize(
    ("disposition", "answered", "wait_ms", "abandoned"),
    [
        # in time, to the millisecond
        (Disposition.BRIDGED, True, 0, False),
        (Disposition.BRIDGED, True, 2_000, False),
        (Disposition.BRIDGED, True, 2_001, True),
        (Disposition.BRIDGED, True, 60_000, True),
        # they left by themselves: before we were late, or after
        (Disposition.HUNG_UP, True, 0, None),
        (Disposition.HUNG_UP, True, 2_000, None),
        (Disposition.HUNG_UP, True, 2_001, True),
        # dropped by us or out of sight, however soon
        (Disposition.ABANDONED, True, 0, True),
        (Disposition.ABANDONED, True, 5_000, True),
        (Disposition.UNKNOWN, True, 10, True),
        (Disposition.UNKNOWN, True, 60_000, True),
        # a wait that nobody knows is too long
        (Disposition.BRIDGED, True, None, True),
        (Disposition.HUNG_UP, True, None, True),
        # nobody answered
        (Disposition.UNKNOWN, False, None, None),
        (Disposition.NO_ANSWER, False, None, None),
        (Disposition.CANCELLED, False, None, None),
        (Disposition.ABANDONED, False, None, None),
    ],
)
def test_what_the_law_calls_abandoned(
    disposition: Disposition, answered: bool, wait_ms: int | None, abandoned: bool | None
) -> None:
    cdr = cdr_of(LEASE, 1, disposition)
    cdr.answered_at, cdr.wait_ms = NOON if answered else None, wait_ms
    assert abandoned_of(cdr, 2.0) is abandoned


@pytest.mark.parametrize("disposition", Disposition)
def test_whoever_answered_and_was_not_bridged_never_counts_as_served(disposition: Disposition) -> None:
    cdr = cdr_of(LEASE, 1, disposition)
    cdr.answered_at, cdr.wait_ms = NOON, 1
    assert (abandoned_of(cdr, 2.0) is False) == (disposition is Disposition.BRIDGED)


def test_the_limit_is_the_campaign_s_to_the_millisecond() -> None:
    """Also where a float is a little less than it says: 1.001 * 1000 is 1000.9999999999999."""
    cdr = cdr_of(LEASE, 1, Disposition.BRIDGED)
    cdr.answered_at = NOON
    for limit_ms in range(500, 10_001):
        verdicts = []
        for cdr.wait_ms in (limit_ms, limit_ms + 1):
            verdicts.append(abandoned_of(cdr, limit_ms / 1000))
        assert verdicts == [False, True], limit_ms


def test_hours_are_those_of_utc() -> None:
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    start = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)
    for minutes in (0, 14, 15, 59.999999):
        moment = start + timedelta(minutes=minutes)
        assert hour_of(moment) == hour_of(moment.astimezone(kathmandu)) == start
    assert hour_of(start - timedelta(microseconds=1)) == start - timedelta(hours=1)


def test_counts_add_up_and_are_held_against_a_limit() -> None:
    counts = AbandonmentCounts(99, 3) + AbandonmentCounts(1, 0)
    assert (counts, counts.percent, counts.is_over(3.0)) == (AbandonmentCounts(100, 3), 3.0, False)
    assert AbandonmentCounts(99, 3).is_over(3.0)
    # Of 100 machines 5 are supposed to have been people: 105 who answered, 8 abandoned.
    with_machines = counts + AbandonmentCounts(0, 0, 100, 100 * 50)
    assert with_machines.percent == pytest.approx(100 * 8 / 105)
    assert (with_machines.is_over(7.6), with_machines.is_over(7.7)) == (True, False)
    nothing = AbandonmentCounts()
    assert (nothing.percent, nothing.is_over(3.0)) == (None, False)
