from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns.campaign import CallingHours, Day
from campaigns.rules.calling_window import CLOSED, DAYS, HORIZON, HOURS, Hours, Schedule, judge
from campaigns.rules.verdict import Verdict

WEEK: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def hours(start: str, end: str, days: Sequence[Day] = WEEK, regions: tuple[str, ...] = ()) -> CallingHours:
    begin, finish = time.fromisoformat(start), time.fromisoformat(end)
    return CallingHours(days=tuple(days), start=begin, end=finish, regions=regions)


def verdict(windows: Sequence[CallingHours], zones: Sequence[str], now: datetime) -> Verdict:
    return judge([Schedule(tuple(windows)).at(None)], zones, now).gravest


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
        # no summer time: Arizona but for the Navajo, Indiana before 2006; and an hour apart the year round
        (USUAL, ["America/Phoenix"], "2026-07-06 15:59", "2026-07-06 16:00"),
        (USUAL, ["America/Phoenix"], "2026-12-07 15:59", "2026-12-07 16:00"),
        (USUAL, ["America/Phoenix", "America/Denver"], "2026-07-07 02:30", "2026-07-07 16:00"),  # Denver has closed
        (USUAL, ["America/Indiana/Indianapolis"], "2005-07-06 13:59", "2005-07-06 14:00"),
        (USUAL, ["America/Indiana/Indianapolis"], "2026-07-06 12:59", "2026-07-06 13:00"),
        (USUAL, ["America/Indiana/Tell_City", "America/Indiana/Vevay"], "2026-07-06 13:30", "2026-07-06 14:00"),
        # half hours and quarters
        (USUAL, ["America/St_Johns"], "2026-11-23 12:00", "2026-11-23 12:30"),
        (USUAL, ["Asia/Kabul"], "2026-11-23 04:00", "2026-11-23 04:30"),
        (USUAL, ["Pacific/Chatham"], "2026-11-22 18:00", "2026-11-22 19:15"),
        (USUAL, ["Asia/Kolkata"], "2026-11-23 03:29", "2026-11-23 03:30"),
        (USUAL, ["Asia/Kathmandu"], "2026-11-23 03:00", "2026-11-23 03:15"),
        (USUAL, ["Australia/Lord_Howe"], "2026-04-04 22:00", "2026-04-05 22:30"),  # back by half an hour; Sunday
        (USUAL, ["Australia/Lord_Howe"], "2026-10-04 22:00", "2026-10-04 22:00"),  # forward by half an hour; Monday
        ([hours("02:10", "02:20")], ["Australia/Lord_Howe"], "2026-10-03 15:00", "2026-10-04 15:10"),  # skipped
        ([hours("01:40", "01:50")], ["Australia/Lord_Howe"], "2026-04-04 14:50", "2026-04-04 15:10"),  # comes twice
        # clocks put back at midnight: Saturday's last hour comes again, once even out of Sunday
        ([hours("23:15", "00:00", ("sat",))], ["America/Santiago"], "2026-04-05 03:00", "2026-04-05 03:15"),
        ([hours("23:30", "00:00", ("sat",))], ["America/St_Johns"], "2010-11-07 02:30:30", "2010-11-07 03:00"),
        # clocks put forward at midnight: Sunday begins at one (Cuba)
        ([hours("00:01", "01:02", ("sun",))], ["America/Havana"], "2026-03-07 12:00", "2026-03-08 05:00"),
        # clocks put back to midnight: Sunday begins an hour before that (Cuba)
        ([hours("00:00", "06:01")], ["America/Havana", "Europe/Berlin"], "2026-10-31 05:01", "2026-11-01 04:00"),
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
    assert found.allowed_at == (utc(allowed_at) if allowed_at else None)
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
    assert found.allowed == (found.allowed_at == now) == on_the_wall(windows, zones, now)
    if found.allowed:
        return
    if found.allowed_at is not None:
        assert on_the_wall(windows, zones, found.allowed_at)
        assert not on_the_wall(windows, zones, found.allowed_at - timedelta(microseconds=1))
    until = found.allowed_at or now + HORIZON
    for sample in range(50):
        between = now + timedelta(seconds=int((until - now).total_seconds() * (sample + shift) / 50))
        assert not on_the_wall(windows, zones, between)


GB_HOURS = [
    hours("08:00", "21:00"),
    hours("10:00", "18:00", regions=("GB",)),
    hours("11:00", "12:00", ("mon",), regions=("GB-SCT", "GB-WLS")),
]


@pytest.mark.parametrize(
    ("region", "now", "allowed_at"),
    [
        (None, "2026-11-23 07:00", "2026-11-23 08:00"),
        ("FR", "2026-11-23 07:00", "2026-11-23 08:00"),  # no window names it
        ("GB", "2026-11-23 07:00", "2026-11-23 10:00"),
        ("GB-ENG", "2026-11-23 07:00", "2026-11-23 10:00"),  # named as part of its country
        ("GB-SCT", "2026-11-23 07:00", "2026-11-23 11:00"),
        ("GB-WLS", "2026-11-23 12:00", "2026-11-30 11:00"),  # the country's own windows do not count here
    ],
)
def test_the_windows_that_name_a_place_most_exactly_hold_there(region: str | None, now: str, allowed_at: str) -> None:
    found = judge([Schedule(tuple(GB_HOURS)).at(region)], ["Europe/London"], utc(now))
    assert found.gravest.allowed_at == utc(allowed_at)


def test_where_only_other_places_have_windows_there_is_no_hour() -> None:
    florida = Schedule((hours("08:00", "20:00", regions=("US-FL",)),)).at("US-TX")
    assert judge([florida], ["America/Chicago"], utc("2026-11-23 18:00")).gravest.allowed_at is None


XMAS = frozenset({date(2026, 12, 24), date(2026, 12, 25)})


@pytest.mark.parametrize(
    ("schedules", "region", "zones", "now", "rule", "allowed_at"),
    [
        # a closed day is the callee's own, from midnight to midnight there
        ([Schedule(closed_days=XMAS)], None, ["Asia/Tokyo"], "2026-12-23 14:59", HOURS, "2026-12-23 14:59"),
        ([Schedule(closed_days=XMAS)], None, ["Asia/Tokyo"], "2026-12-23 15:00", CLOSED, "2026-12-25 15:00"),
        # of two zones the one must be over, and the other not begun
        (
            [Schedule(closed_days=XMAS)],
            None,
            ["Asia/Tokyo", "America/New_York"],
            "2026-12-25 15:00",
            CLOSED,
            "2026-12-26 05:00",
        ),
        # with hours, the next is the opening after it: both rules say so
        ([Schedule(USUAL, XMAS)], None, ["America/New_York"], "2026-12-24 15:00", CLOSED, "2026-12-26 14:00"),
        ([Schedule(USUAL, XMAS)], None, ["America/New_York"], "2026-12-24 07:00", HOURS, "2026-12-26 14:00"),
        # closed days of the one, and hours of the other
        (
            [Schedule(USUAL), Schedule(closed_days=XMAS)],
            None,
            ["America/New_York"],
            "2026-12-25 15:00",
            CLOSED,
            "2026-12-26 14:00",
        ),
        # two schedules must both be open
        (
            [Schedule(USUAL), Schedule((hours("10:00", "13:00"), hours("14:00", "20:00", ("mon", "tue"))))],
            None,
            ["Europe/Paris"],
            "2026-11-25 12:00",  # a Wednesday, one o'clock
            HOURS,
            "2026-11-26 09:00",
        ),
        # public holidays: of the country, of a part, and of neither
        ([Schedule(holidays=True)], "US", ["America/New_York"], "2026-11-26 15:00", CLOSED, "2026-11-27 05:00"),
        ([Schedule(holidays=True)], "GB-SCT", ["Europe/London"], "2026-11-30 15:00", CLOSED, "2026-12-01 00:00"),
        ([Schedule(holidays=True)], "GB-ENG", ["Europe/London"], "2026-11-30 15:00", HOURS, "2026-11-30 15:00"),
        ([Schedule(USUAL, holidays=True)], "FR", ["Europe/Paris"], "2026-07-14 10:00", CLOSED, "2026-07-15 07:00"),
        ([Schedule(holidays=True)], "US-ZZ", ["America/New_York"], "2026-11-26 15:00", CLOSED, "2026-11-27 05:00"),
        # over the turn of the year
        ([Schedule(USUAL, holidays=True)], "DE", ["Europe/Berlin"], "2027-01-01 10:00", CLOSED, "2027-01-02 08:00"),
        # nothing is known of it
        ([Schedule(holidays=True)], None, ["Etc/UTC"], "2026-12-25 15:00", HOURS, "2026-12-25 15:00"),
        ([Schedule(holidays=True)], "AC", ["Etc/UTC"], "2026-12-25 15:00", HOURS, "2026-12-25 15:00"),
    ],
)
def test_closed_days_and_several_schedules(
    schedules: Sequence[Schedule], region: str | None, zones: list[str], now: str, rule: str, allowed_at: str
) -> None:
    found = judge([schedule.at(region) for schedule in schedules], zones, utc(now))
    assert found.gravest.rule == rule
    assert found.gravest.allowed_at == utc(allowed_at)
    assert found.gravest.allowed == (allowed_at == now)
    for each in (found.hours, found.days):  # what forbids forbids until both allow it
        assert each.allowed_at == (utc(now) if each.allowed else utc(allowed_at))


def test_why_a_day_is_closed_is_said() -> None:
    at = utc("2026-11-26 15:00")
    holiday = judge([Schedule(holidays=True).at("US-FL")], ["America/New_York"], at)
    assert holiday.days.reason == "2026-11-26 is a public holiday in US-FL: Thanksgiving Day"
    own = judge([Schedule(closed_days=frozenset({date(2026, 11, 26)})).at("US-FL")], ["America/New_York"], at)
    assert own.days.reason == "2026-11-26 is a closed day of the campaign"


MINUTE = timedelta(minutes=1)


@settings(max_examples=40, deadline=None)
@given(
    own=st.lists(windows_of_a_week(), min_size=1, max_size=3),
    law=st.none() | st.lists(windows_of_a_week(), min_size=1, max_size=2),
    closed=st.frozensets(st.integers(0, 4), max_size=3),
    zones=st.lists(st.sampled_from(ZONES), min_size=1, max_size=3, unique=True),
    now=moments,
)
def test_minute_by_minute_no_moment_before_the_first_is_allowed(
    own: list[CallingHours],
    law: list[CallingHours] | None,
    closed: frozenset[int],
    zones: list[str],
    now: datetime,
) -> None:
    now = now.replace(second=0)
    days = frozenset(now.date() + timedelta(days=day - 1) for day in closed)
    schedules = [Schedule(tuple(own), days), Schedule(tuple(law) if law is not None else None)]
    found = judge([schedule.at(None) for schedule in schedules], zones, now).gravest

    def may(moment: datetime) -> bool:
        walls = [moment.astimezone(ZoneInfo(zone)) for zone in zones]
        return (
            on_the_wall(own, zones, moment)
            and (law is None or on_the_wall(law, zones, moment))
            and not any(wall.date() in days for wall in walls)
        )

    # Windows, clock changes and midnights all fall on whole minutes.
    minutes_to_come = (now + n * MINUTE for n in range(2 * 24 * 60))
    first = next((moment for moment in minutes_to_come if may(moment)), None)
    if first is not None:
        assert found.allowed_at == first
    else:
        assert found.allowed_at is None or found.allowed_at >= now + timedelta(days=2)


@settings(max_examples=40, deadline=None)
@given(
    own=st.lists(windows_of_a_week(), min_size=1, max_size=2),
    more=st.lists(windows_of_a_week(), min_size=1, max_size=2),
    closed=st.frozensets(st.integers(0, 4), max_size=3),
    zones=st.lists(st.sampled_from(ZONES), min_size=1, max_size=2, unique=True),
    another=st.sampled_from(ZONES),
    now=moments,
)
def test_another_schedule_a_closed_day_or_another_zone_never_allows_more(
    own: list[CallingHours],
    more: list[CallingHours],
    closed: frozenset[int],
    zones: list[str],
    another: str,
    now: datetime,
) -> None:
    def until(hours: Sequence[Hours], zones: Sequence[str]) -> datetime:
        return judge(hours, zones, now).gravest.allowed_at or datetime.max.replace(tzinfo=UTC)

    days = frozenset(now.date() + timedelta(days=day - 1) for day in closed)
    plain = Schedule(tuple(own)).at(None)
    before = until([plain], zones)
    assert until([plain, Schedule(tuple(more)).at(None)], zones) >= before
    assert until([Schedule(tuple(own), days).at(None)], zones) >= before
    assert until([plain], [*zones, another]) >= before


def test_days_are_named_as_campaigns_name_them() -> None:
    assert DAYS == WEEK
