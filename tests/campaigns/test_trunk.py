"""Which numbers a trunk may call, and what it shows them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from types import MappingProxyType

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.trunk import CallerId, Trunk

NOW = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)
WEDNESDAY = date(2026, 3, 4)
TRUNK = Trunk("carrier_a", "fs", blind=("+4490", "US-AK", "PR"), most_per_callee_a_day=1)


@pytest.mark.parametrize(
    ("number", "region", "calls_today", "rule", "reason"),
    [
        ("+442071838750", "GB", 0, "trunk", "carrier_a may call it"),
        ("+449012345678", "GB", 0, "blind_area", "carrier_a must not call +4490"),
        ("+19072340000", "US-AK", 0, "blind_area", "carrier_a must not call US-AK"),
        ("+17872340000", "PR", 0, "blind_area", "carrier_a must not call PR"),
        ("+17872340000", "PR-07", 0, "blind_area", "carrier_a must not call PR"),
        ("+12125550100", "US-NY", 0, "trunk", "carrier_a may call it"),
        ("+12125550100", "US", 0, "trunk", "carrier_a may call it"),  # nobody knows that it is in Alaska
        ("+12125550100", None, 0, "trunk", "carrier_a may call it"),
        ("+12125550100", "US-NY", 1, "once_a_day", "carrier_a calls a number once a day, and has called it 1 today"),
        ("+449012345678", "GB", 1, "blind_area", "carrier_a must not call +4490"),  # what never changes comes first
    ],
)
def test_a_trunk_says_whom_it_may_call(
    number: str, region: str | None, calls_today: int, rule: str, reason: str
) -> None:
    verdict = TRUNK.verdict(number, region, calls_today, NOW)
    assert (verdict.rule, verdict.reason) == (rule, reason)
    assert verdict.allowed == (rule == "trunk")


def test_a_region_is_no_beginning_of_another_regions_name() -> None:
    trunk = Trunk("a", "fs", blind=("GB-E",))
    assert trunk.verdict("+442071838750", "GB-ENG", 0, NOW).allowed


def test_a_trunk_that_dials_nationally_calls_its_own_country_only() -> None:
    trunk = Trunk("a", "fs", within="+49")
    assert trunk.verdict("+493012345678", "DE-BE", 0, NOW).allowed
    verdict = trunk.verdict("+33123456789", "FR", 0, NOW)
    assert (verdict.allowed, verdict.allowed_at) == (False, None)
    assert verdict.reason == "a calls only numbers that begin with +49"


def test_blind_areas_never_open_and_a_day_ends_by_itself() -> None:
    assert TRUNK.verdict("+449012345678", None, 0, NOW).allowed_at is None
    assert TRUNK.verdict("+12125550100", None, 1, NOW).allowed_at == datetime(2026, 3, 5, tzinfo=UTC)
    assert TRUNK.verdict("+12125550100", None, 0, NOW).allowed_at == NOW


@pytest.mark.parametrize(
    ("zone", "now", "day", "began", "ends"),
    [
        ("UTC", "2026-03-04T15:30+00:00", "2026-03-04", "2026-03-04T00:00+00:00", "2026-03-05T00:00+00:00"),
        (
            "America/New_York",
            "2026-03-04T03:00+00:00",
            "2026-03-03",
            "2026-03-03T05:00+00:00",
            "2026-03-04T05:00+00:00",
        ),
        # the day the clocks go forward has 23 hours
        (
            "America/New_York",
            "2026-03-08T12:00+00:00",
            "2026-03-08",
            "2026-03-08T05:00+00:00",
            "2026-03-09T04:00+00:00",
        ),
        ("Europe/Berlin", "2026-10-25T12:00+00:00", "2026-10-25", "2026-10-24T22:00+00:00", "2026-10-25T23:00+00:00"),
    ],
)
def test_a_day_is_one_of_the_calendar_where_the_trunk_is_at_home(
    zone: str, now: str, day: str, began: str, ends: str
) -> None:
    trunk, moment = Trunk("a", "fs", zone=zone), datetime.fromisoformat(now)
    assert trunk.day(moment) == date.fromisoformat(day)
    assert trunk.day_began(moment) == datetime.fromisoformat(began)
    assert trunk.day_ends(moment) == datetime.fromisoformat(ends)


BERLIN = CallerId("+493055501", areas=("+4930",), most_per_day=10)
BERLIN_TOO = CallerId("+493055502", areas=("+4930", "+49331"))
GERMANY = CallerId("+4932055503", areas=("+49",))
ANY = CallerId("+4930055504")
POOL = Trunk("a", "fs", caller_ids=(BERLIN, BERLIN_TOO, GERMANY, ANY))


@pytest.mark.parametrize(
    ("number", "used", "last", "expected"),
    [
        ("+493012345678", {}, None, BERLIN),
        ("+493012345678", {BERLIN.number: 1}, None, BERLIN_TOO),
        ("+493012345678", {BERLIN.number: 1, BERLIN_TOO.number: 1}, None, BERLIN),
        ("+493012345678", {BERLIN.number: 10, BERLIN_TOO.number: 99}, None, BERLIN_TOO),
        ("+493312345678", {}, None, BERLIN_TOO),
        ("+498912345678", {}, None, GERMANY),
        ("+33123456789", {}, None, ANY),
        # the same number again that day, however local or worn another is
        ("+493012345678", {ANY.number: 50}, ANY, ANY),
        ("+493012345678", {BERLIN.number: 9}, BERLIN, BERLIN),
        ("+493012345678", {BERLIN.number: 10}, BERLIN, None),
    ],
)
def test_the_most_local_number_that_has_calls_left_is_shown(
    number: str, used: dict[str, int], last: CallerId | None, expected: CallerId | None
) -> None:
    last_today = last.number if last else None
    found = POOL.caller_id(number, used_today=used, last_today=last_today, today=WEDNESDAY)
    assert found == (expected.number if expected else None)


def test_a_number_of_another_pool_seen_today_binds_nobody() -> None:
    found = POOL.caller_id("+33123456789", used_today={}, last_today="+3312345", today=WEDNESDAY)
    assert found == ANY.number


def test_a_number_rests_on_its_days_and_is_not_shown_again_on_them() -> None:
    resting = attrs.evolve(ANY, rest_days=("wed",))
    trunk = Trunk("a", "fs", caller_ids=(resting,))

    def shown(last: str | None, day: date) -> str | None:
        return trunk.caller_id("+33123456789", used_today={}, last_today=last, today=day)

    assert shown(None, WEDNESDAY) is None
    assert shown(resting.number, WEDNESDAY) is None
    assert shown(None, date(2026, 3, 5)) == resting.number


def test_a_pool_whose_numbers_are_all_at_their_most_has_none_to_show() -> None:
    pool = tuple(CallerId(f"+120255501{index:02}", most_per_day=2) for index in range(3))
    trunk = Trunk("a", "fs", caller_ids=pool)
    used: dict[str, int] = {}
    for _ in range(6):
        shown = trunk.caller_id("+12125550100", used_today=used, last_today=None, today=WEDNESDAY)
        assert shown is not None
        used[shown] = used.get(shown, 0) + 1
    assert used == dict.fromkeys((one.number for one in pool), 2)
    assert trunk.caller_id("+12125550100", used_today=used, last_today=None, today=WEDNESDAY) is None


def test_a_trunk_without_a_pool_has_nothing_to_choose_from() -> None:
    with pytest.raises(ValueError, match="a has no caller ids"):
        Trunk("a", "fs").caller_id("+12125550100", used_today={}, last_today=None, today=WEDNESDAY)


_NUMBERS = st.sampled_from(["+493012345678", "+493312345678", "+498912345678", "+33123456789"])
_AREAS = st.lists(st.sampled_from(["+49", "+4930", "+49331", "+33"]), max_size=2, unique=True).map(tuple)


@given(data=st.data(), number=_NUMBERS)
def test_what_is_shown_has_calls_left_and_none_is_more_local(data: st.DataObject, number: str) -> None:
    pool = tuple(
        CallerId(
            f"+1202555{index:04}",
            areas=data.draw(_AREAS),
            most_per_day=data.draw(st.one_of(st.none(), st.integers(1, 5))),
            rest_days=data.draw(st.sampled_from([(), ("wed",), ("thu",)])),
        )
        for index in range(data.draw(st.integers(1, 4)))
    )
    used = MappingProxyType({one.number: data.draw(st.integers(0, 5)) for one in pool})
    shown = Trunk("a", "fs", caller_ids=pool).caller_id(number, used_today=used, last_today=None, today=WEDNESDAY)
    able = [one for one in pool if one.may_be_shown(used[one.number], WEDNESDAY) and one.closeness(number) >= 0]
    if shown is None:
        assert not able
    else:
        (chosen,) = [one for one in able if one.number == shown]
        assert chosen.closeness(number) == max(one.closeness(number) for one in able)
