from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns.calling_window import DAYS, HORIZON, verdict
from campaigns.campaign import CallingHours, Day

WEEK: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def hours(start: str, end: str, days: Sequence[Day] = WEEK) -> CallingHours:
    return CallingHours(days=tuple(days), start=time.fromisoformat(start), end=time.fromisoformat(end))


USUAL = (hours("09:00", "20:00", ("mon", "tue", "wed", "thu", "fri", "sat")),)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("windows", "zones", "now", "allowed_at"),
    [
        # open: start included, end not
        (USUAL, ["America/New_York"], "2026-11-23 14:00", "2026-11-23 14:00"),
        (USUAL, ["America/New_York"], "2026-11-23 13:59:59", "2026-11-23 14:00"),
        (USUAL, ["America/New_York"], "2026-11-24 00:59:59", "2026-11-24 00:59:59"),
        (USUAL, ["America/New_York"], "2026-11-24 01:00", "2026-11-24 14:00"),
        # Saturday evening to Monday morning, and over the change to winter time (1 November 2026)
        (USUAL, ["America/New_York"], "2026-11-01 00:30", "2026-11-02 14:00"),
        # and to summer time (8 March 2026)
        (USUAL, ["America/New_York"], "2026-03-08 01:30", "2026-03-09 13:00"),
        # the start does not exist on the day the clocks go forward: it opens when they do, at 03:00
        ([hours("02:30", "20:00")], ["America/New_York"], "2026-03-08 06:30", "2026-03-08 07:00"),
        # a window that is skipped whole
        ([hours("02:10", "02:50")], ["America/New_York"], "2026-03-08 06:30", "2026-03-09 06:10"),
        # the hour that happens twice: open twice, and shut in between
        ([hours("01:30", "02:00")], ["America/New_York"], "2026-11-01 05:30", "2026-11-01 05:30"),
        ([hours("01:30", "02:00")], ["America/New_York"], "2026-11-01 06:00", "2026-11-01 06:30"),
        # opens at the change itself, in the middle of a window
        ([hours("00:30", "01:30")], ["America/New_York"], "2026-11-01 05:45", "2026-11-01 06:00"),
        # half hours and quarters
        (USUAL, ["Asia/Kolkata"], "2026-11-23 03:29", "2026-11-23 03:30"),
        (USUAL, ["Asia/Kathmandu"], "2026-11-23 03:00", "2026-11-23 03:15"),
        (USUAL, ["Australia/Lord_Howe"], "2026-04-04 22:00", "2026-04-05 22:30"),  # back by half an hour; Sunday
        # clocks put back at midnight: Saturday's last hour comes again, once even out of Sunday
        ([hours("23:15", "00:00", ("sat",))], ["America/Santiago"], "2026-04-05 03:00", "2026-04-05 03:15"),
        ([hours("23:30", "00:00", ("sat",))], ["America/St_Johns"], "2010-11-07 02:30:30", "2010-11-07 03:00"),
        # clocks put forward at midnight: Sunday begins at one (Cuba)
        ([hours("00:01", "01:02", ("sun",))], ["America/Havana"], "2026-03-07 12:00", "2026-03-08 05:00"),
        # all of them must allow it
        (USUAL, ["America/New_York", "America/Los_Angeles"], "2026-11-23 15:00", "2026-11-23 17:00"),
        (USUAL, ["America/New_York", "America/Los_Angeles"], "2026-11-24 01:00", "2026-11-24 17:00"),
        (USUAL, ["America/New_York", "Pacific/Honolulu", "Europe/London"], "2026-11-23 15:00", "2026-11-23 19:00"),
        # two that are never open together
        ([hours("09:00", "10:00")], ["America/New_York", "America/Los_Angeles"], "2026-11-23 15:00", None),
        # only in the weeks in which one has summer time and the other has not: the next is in March
        ([hours("09:00", "10:00")], ["America/New_York", "Etc/GMT+4"], "2026-11-02 15:00", "2027-03-14 13:00"),
        # several windows; around the clock
        ([hours("09:00", "12:00"), hours("14:00", "20:00")], ["UTC"], "2026-11-23 12:00", "2026-11-23 14:00"),
        ([hours("00:00", "00:00")], ["UTC"], "2026-11-23 23:59:59", "2026-11-23 23:59:59"),
        ([hours("00:00", "00:00", ("mon",))], ["UTC"], "2026-11-24 00:00", "2026-11-30 00:00"),
    ],
)
def test_when(windows: Sequence[CallingHours], zones: list[str], now: str, allowed_at: str | None) -> None:
    found = verdict(windows, zones, utc(now))
    assert found.next_allowed_at == (utc(allowed_at) if allowed_at else None)
    assert found.allowed == (allowed_at == now)


def test_the_reason_says_where_and_what_time_it_is_there() -> None:
    found = verdict(USUAL, ["America/New_York", "America/Los_Angeles"], utc("2026-11-23 15:00"))
    assert found.reason == "outside calling hours in America/Los_Angeles, where it is mon 07:00"
    assert "no moment" in verdict([hours("09:00", "10:00")], ["Asia/Tokyo", "UTC"], utc("2026-11-23 15:00")).reason


def test_any_aware_moment_will_do_and_a_naive_one_will_not() -> None:
    moment = utc("2026-11-23 15:00").astimezone()
    assert verdict(USUAL, ["America/New_York"], moment).allowed
    with pytest.raises(ValueError, match="no time zone"):
        verdict(USUAL, ["America/New_York"], moment.replace(tzinfo=None))
    with pytest.raises(ValueError, match="at least one"):
        verdict(USUAL, [], moment)


ZONES = ["America/New_York", "America/Havana", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]
minutes = st.integers(0, 24 * 60 - 1)


@st.composite
def windows_of_a_week(draw: st.DrawFn) -> CallingHours:
    start, end = sorted(draw(st.lists(minutes, min_size=2, max_size=2, unique=True)))
    days = draw(st.lists(st.sampled_from(WEEK), min_size=1, unique=True))
    return CallingHours(days=tuple(days), start=time(start // 60, start % 60), end=time(end // 60, end % 60))


# Around the changes of all of ZONES, to the second.
moments = st.sampled_from(
    ["2026-03-07", "2026-03-28", "2026-04-04", "2026-10-03", "2026-10-24", "2026-10-31"]
).flatmap(lambda day: st.integers(0, 3 * 86_400).map(lambda s: utc(day) + timedelta(seconds=s)))


def on_the_wall(windows: Sequence[CallingHours], zones: Sequence[str], moment: datetime) -> bool:
    """What the verdict must agree with, said in other words."""

    def within(window: CallingHours, zone: str) -> bool:
        wall = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        midnight = datetime.combine(wall.date(), time(0))
        start = datetime.combine(wall.date(), window.start)
        end = datetime.combine(wall.date(), window.end) if window.end != time(0) else midnight + timedelta(days=1)
        return f"{wall:%a}".lower() in window.days and start <= wall < end

    return all(any(within(window, zone) for window in windows) for zone in zones)


@settings(max_examples=200, deadline=None)
@given(
    windows=st.lists(windows_of_a_week(), min_size=1, max_size=3),
    zones=st.lists(st.sampled_from(ZONES), min_size=1, max_size=3, unique=True),
    now=moments,
    shift=st.floats(0, 0.99),
)
def test_the_next_moment_is_allowed_and_none_before_it_is(
    windows: list[CallingHours], zones: list[str], now: datetime, shift: float
) -> None:
    found = verdict(windows, zones, now)
    assert found.allowed == (found.next_allowed_at == now) == on_the_wall(windows, zones, now)
    if found.allowed:
        return
    if found.next_allowed_at is not None:
        assert on_the_wall(windows, zones, found.next_allowed_at)
        assert not on_the_wall(windows, zones, found.next_allowed_at - timedelta(microseconds=1))
    until = found.next_allowed_at or now + HORIZON
    for sample in range(50):
        between = now + timedelta(seconds=int((until - now).total_seconds() * (sample + shift) / 50))
        assert not on_the_wall(windows, zones, between)


def test_days_are_named_as_campaigns_name_them() -> None:
    assert DAYS == WEEK
