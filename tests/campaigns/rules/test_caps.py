from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from campaigns.campaign import Cap
from campaigns.rules.candidate import Candidate, PastCall
from campaigns.rules.caps import capped, full_gateways, since
from campaigns.rules.verdict import Verdict

NOW = datetime(2026, 11, 25, 16, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINE = Candidate(7, "+12125550100", account="smith")


def call(hours_ago: float, **changes: Any) -> PastCall:
    usual = PastCall(NOW - hours_ago * HOUR, 1, "acme", 7, "+12125550100", "smith", "a")
    return attrs.evolve(usual, **changes)


def ask(
    cap: Cap,
    history: Sequence[PastCall],
    *,
    zones: Sequence[str] = ("America/New_York",),
    now: datetime = NOW,
    candidate: Candidate = MINE,
    gateways: Sequence[str] = ("a", "b"),
) -> Verdict | None:
    return capped(cap, candidate, history, zones, now, campaign_id=1, seller="acme", gateways=gateways)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cap", "history", "until"),
    [
        (Cap(most=2, hours=24), [call(1)], None),
        (Cap(most=2, hours=24), [call(1), call(23)], NOW + HOUR),
        (Cap(most=2, hours=24), [call(1), call(24)], None),  # it has left, to the second
        (Cap(most=2, hours=24), [call(5), call(1), call(23), call(3)], NOW + 21 * HOUR),  # when two are left: 5 and 3
        (Cap(most=1, days=2), [call(47)], NOW + HOUR),
        (Cap(most=1, days=2), [call(48)], None),
        # what is counted
        (Cap(most=1, hours=24, counts="answers"), [call(1)], None),
        (Cap(most=1, hours=24, counts="answers"), [call(1, answered=True)], NOW + 23 * HOUR),
        (Cap(most=1, hours=24, counts="conversations"), [call(1, answered=True)], None),
        (Cap(most=1, hours=24, counts="conversations"), [call(1, answered=True, talked=True)], NOW + 23 * HOUR),
        # of what
        (Cap(most=1, hours=24), [call(1, lead_id=8)], NOW + 23 * HOUR),
        (Cap(most=1, hours=24), [call(1, number="+12125550101")], None),
        (Cap(most=1, hours=24, of="lead"), [call(1, number="+12125550101")], NOW + 23 * HOUR),
        (Cap(most=1, hours=24, of="lead"), [call(1, lead_id=8)], None),
        (Cap(most=1, hours=24, of="account"), [call(1, lead_id=8, number="+12125550101")], NOW + 23 * HOUR),
        (Cap(most=1, hours=24, of="account"), [call(1, lead_id=8, account="jones")], None),
        # across what
        (Cap(most=1, hours=24), [call(1, campaign_id=2)], None),
        (Cap(most=1, hours=24, across="seller"), [call(1, campaign_id=2)], NOW + 23 * HOUR),
        (Cap(most=1, hours=24, across="seller"), [call(1, campaign_id=2, seller="other")], None),
        (Cap(most=1, hours=24, across="seller"), [call(1, campaign_id=2, seller=None)], None),
        (Cap(most=1, hours=24, across="seller"), [call(1, seller="of before")], NOW + 23 * HOUR),  # its own campaign
        (Cap(most=1, hours=24, across="all"), [call(1, campaign_id=2, seller="other")], NOW + 23 * HOUR),
        # through one gateway: when the first of them has room
        (Cap(most=1, hours=24, of="gateway"), [call(1)], None),
        (Cap(most=1, hours=24, of="gateway"), [call(1), call(3, gateway="b")], NOW + 21 * HOUR),
        (Cap(most=2, hours=24, of="gateway"), [call(1), call(3), call(5, gateway="b")], None),
        # the callee's calendar, in which it is eleven in the morning
        (Cap(most=1, calendar_days=1), [call(10.9)], utc("2026-11-26 05:00")),
        (Cap(most=1, calendar_days=1), [call(11.1)], None),
        (Cap(most=1, calendar_days=3), [call(58)], utc("2026-11-26 05:00")),
        (Cap(most=1, calendar_days=3), [call(60)], None),
        (Cap(most=2, calendar_days=3), [call(58), call(30), call(1)], utc("2026-11-27 05:00")),
    ],
)
def test_when_a_cap_allows_a_call(cap: Cap, history: Sequence[PastCall], until: datetime | None) -> None:
    found = ask(cap, history)
    assert (None if found is None else found.allowed_at) == until


@pytest.mark.parametrize(
    ("zones", "called_at", "now", "until"),
    [
        # of several zones the last one's midnight
        (["America/New_York", "America/Los_Angeles"], "2026-11-25 12:00", "2026-11-25 16:00", "2026-11-26 08:00"),
        # the day is over in New York, and not in Los Angeles
        (["America/New_York", "America/Los_Angeles"], "2026-11-25 12:00", "2026-11-26 06:00", "2026-11-26 08:00"),
        (["America/New_York"], "2026-11-25 12:00", "2026-11-26 06:00", None),
        # a day of 25 hours, and one of 23
        (["America/New_York"], "2026-11-01 05:00", "2026-11-01 20:00", "2026-11-02 05:00"),
        (["America/New_York"], "2026-03-08 06:00", "2026-03-08 20:00", "2026-03-09 04:00"),
        # a day that begins at one
        (["America/Havana"], "2026-03-07 20:00", "2026-03-07 21:00", "2026-03-08 05:00"),
        (["Australia/Lord_Howe"], "2026-04-04 14:00", "2026-04-04 15:30", "2026-04-05 13:30"),
    ],
)
def test_a_day_of_the_calendar_is_the_callee_s(zones: list[str], called_at: str, now: str, until: str | None) -> None:
    past = attrs.evolve(call(0), opened_at=utc(called_at))
    found = ask(Cap(most=1, calendar_days=1), [past], zones=zones, now=utc(now))
    assert (found.allowed_at if found is not None else None) == (utc(until) if until is not None else None)


def test_a_lead_without_an_account_is_one_of_its_own() -> None:
    nobody_s = attrs.evolve(MINE, account=None)
    cap = Cap(most=1, hours=24, of="account")
    assert ask(cap, [call(1, lead_id=8, account=None)], candidate=nobody_s) is None
    assert ask(cap, [call(1, account=None)], candidate=nobody_s) is not None


def test_the_reason_says_what_the_cap_is() -> None:
    found = ask(Cap(most=2, hours=24, counts="answers"), [call(1, answered=True), call(2, answered=True)])
    assert found is not None
    assert found.reason == "at most 2 answers per number in 24 hours: there have been 2"


def test_gateways_that_have_had_their_calls_are_named() -> None:
    cap = Cap(most=2, hours=24, of="gateway")
    history = [call(1), call(2), call(3, gateway="b"), call(30, gateway="b"), call(1, number="+12125550101")]
    full = full_gateways(cap, MINE, history, ["America/New_York"], NOW, campaign_id=1, seller="acme")
    assert {gateway: verdict.allowed_at for gateway, verdict in full.items()} == {"a": NOW + 22 * HOUR}


def test_history_is_needed_as_far_back_as_any_cap_counts() -> None:
    assert since([], NOW) is None
    assert since([Cap(most=1, hours=5), Cap(most=1, days=2)], NOW) == NOW - 48 * HOUR
    assert since([Cap(most=1, calendar_days=1)], NOW) == NOW - 48 * HOUR


ZONES = ["America/New_York", "America/Los_Angeles", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Kiritimati"]
caps = st.builds(
    lambda most, span, kind: Cap.model_validate({"most": most, kind: span}),
    most=st.integers(1, 3),
    span=st.integers(1, 3),
    kind=st.sampled_from(["hours", "days", "calendar_days"]),
)


@settings(max_examples=150, deadline=None)
@given(
    cap=caps,
    minutes_ago=st.lists(st.integers(0, 5 * 24 * 60), max_size=6),
    zones=st.lists(st.sampled_from(ZONES), min_size=1, max_size=3, unique=True),
    day=st.sampled_from(["2026-03-08", "2026-04-05", "2026-11-01", "2026-11-25"]),
    minute=st.integers(0, 24 * 60),
)
def test_the_moment_is_the_first_at_which_fewer_count(
    cap: Cap, minutes_ago: list[int], zones: list[str], day: str, minute: int
) -> None:
    now = utc(day) + timedelta(minutes=minute)
    history = [attrs.evolve(call(0), opened_at=now - timedelta(minutes=each)) for each in minutes_ago]

    def allows(moment: datetime) -> bool:
        """The cap in other words."""
        if cap.window is not None:
            return sum(moment - each.opened_at < cap.window for each in history) < cap.most

        def day_there(at: datetime, zone: str) -> int:
            return at.astimezone(ZoneInfo(zone)).date().toordinal()

        days = cap.calendar_days or 0
        return all(
            sum(day_there(moment, zone) - day_there(each.opened_at, zone) < days for each in history) < cap.most
            for zone in zones
        )

    found = ask(cap, history, zones=zones, now=now)
    assert (found is None) == allows(now)
    if found is None:
        return
    until = found.allowed_at
    assert until is not None
    assert allows(until)
    step = timedelta(minutes=1)
    assert not any(allows(now + n * step) for n in range(int((until - now) / step)))
    assert not allows(until - timedelta(microseconds=1))


@settings(max_examples=100, deadline=None)
@given(cap=caps, minutes_ago=st.lists(st.integers(0, 10 * 24 * 60), max_size=6), minute=st.integers(0, 24 * 60))
def test_what_is_older_than_history_since_makes_no_difference(cap: Cap, minutes_ago: list[int], minute: int) -> None:
    now = NOW + timedelta(minutes=minute)
    history = [attrs.evolve(call(0), opened_at=now - timedelta(minutes=each)) for each in minutes_ago]
    oldest = since([cap], now)
    assert oldest is not None
    lately = [each for each in history if each.opened_at >= oldest]
    assume(len(lately) < len(history))
    for zones in (["Pacific/Kiritimati"], ["Pacific/Honolulu"], ["America/New_York"]):
        assert ask(cap, history, zones=zones, now=now) == ask(cap, lately, zones=zones, now=now)
