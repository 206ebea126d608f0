"""What a trunk may carry, and which number it shows: the part of a trunk that decides who may be called. Pure.

How calls get onto it (its switch's name for it, its limits, its health) is none of this package's business. A day is
a calendar day where the trunk says it is at home: its carrier counts so, and so do those who judge how often a number
was shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import attrs

from campaigns.rules.calling_window import DAYS
from campaigns.rules.verdict import Verdict

BLIND_AREA = "blind_area"
ONCE_A_DAY = "once_a_day"
CALLER_ID = "caller_id"
OF_TRUNKS = frozenset({BLIND_AREA, ONCE_A_DAY, CALLER_ID})  # rules that trunks make


@attrs.frozen
class CallerId:
    """A number that may be shown to people.

    `areas` are the beginnings of the E.164 numbers that it is local to; without any it is for everybody.
    """

    number: str
    areas: tuple[str, ...] = ()
    most_per_day: int | None = None
    rest_days: tuple[str, ...] = ()  # weekdays as in calling_window.DAYS

    def closeness(self, number: str) -> int:
        """How local it is to the E.164 `number`: digits in common, 0 when it is for everybody, -1 when it is not."""
        if not self.areas:
            return 0
        return max((len(area) for area in self.areas if number.startswith(area)), default=-1)

    def may_be_shown(self, used_today: int, today: date) -> bool:
        """Whether it has calls left on the day `today`, and does not rest."""
        if DAYS[today.weekday()] in self.rest_days:
            return False
        return self.most_per_day is None or used_today < self.most_per_day


@attrs.frozen
class Trunk:
    """A trunk as campaigns see it.

    `blind` are the beginnings of numbers (+4490) and regions (ISO 3166, US-AK or US) that it must not call; `within`,
    if there is one, is how every number that it may call begins. One that is `away` takes no calls for the moment.
    """

    name: str
    switch: str
    blind: tuple[str, ...] = ()
    caller_ids: tuple[CallerId, ...] = ()
    most_per_callee_a_day: int | None = None
    within: str = ""
    zone: str = "UTC"
    away: bool = False

    def day(self, now: datetime) -> date:
        """The day that `now` (aware) is in, as this trunk counts days."""
        return now.astimezone(ZoneInfo(self.zone)).date()

    def day_began(self, now: datetime) -> datetime:
        """When that day began, in UTC: calls since then are today's."""
        return self._midnight(self.day(now))

    def day_ends(self, now: datetime) -> datetime:
        """When the next day begins, in UTC."""
        return self._midnight(self.day(now) + timedelta(days=1))

    def _midnight(self, day: date) -> datetime:
        return datetime.combine(day, time(0), ZoneInfo(self.zone)).astimezone(UTC)

    def verdict(self, number: str, region: str | None, calls_today_to_number: int, now: datetime) -> Verdict:
        """Whether the E.164 `number` may be called over this trunk at `now`.

        `region` is as for `area_verdict`. `calls_today_to_number` went over this trunk since `day_began`.
        """
        elsewhere = self.area_verdict(number, region)
        if elsewhere is not None:
            return elsewhere
        most = self.most_per_callee_a_day
        if most is not None and calls_today_to_number >= most:
            times = "once" if most == 1 else f"{most} times"
            reason = f"{self.name} calls a number {times} a day, and has called it {calls_today_to_number} today"
            return Verdict(ONCE_A_DAY, False, reason, self.day_ends(now))
        return Verdict("trunk", True, f"{self.name} may call it", now)

    def area_verdict(self, number: str, region: str | None) -> Verdict | None:
        """Why the E.164 `number` must never be called over this trunk; None where it may.

        `region` is where the number is, as far as is known: where only its country is, a blind region of that country
        does not hold it back.
        """
        if self.within and not number.startswith(self.within):
            return Verdict(BLIND_AREA, False, f"{self.name} calls only numbers that begin with {self.within}", None)
        for area in self.blind:
            if _lies_in(area, number, region):
                return Verdict(BLIND_AREA, False, f"{self.name} must not call {area}", None)
        return None

    def caller_id(
        self, number: str, *, used_today: Mapping[str, int], last_today: str | None, today: date
    ) -> str | None:
        """Which number of the pool the E.164 `number` is to see; None when none of them may be shown any more today.

        Whoever has seen one of them today (`last_today`) sees it again, or is not called. For others it is the most
        local one that has calls left, among equals the one with the fewest calls of `used_today`, and among those the
        first. Only for a trunk that has a pool: one without raises ValueError.
        """
        if not self.caller_ids:
            raise ValueError(f"{self.name} has no caller ids to choose from")
        able = [one for one in self.caller_ids if one.may_be_shown(used_today.get(one.number, 0), today)]
        if last_today is not None and any(one.number == last_today for one in self.caller_ids):
            return last_today if any(one.number == last_today for one in able) else None
        able = [one for one in able if one.closeness(number) >= 0]
        if not able:
            return None
        return min(able, key=lambda one: (-one.closeness(number), used_today.get(one.number, 0))).number


def _lies_in(area: str, number: str, region: str | None) -> bool:
    if area.startswith("+"):
        return number.startswith(area)
    return region is not None and (region == area or region.startswith(area + "-"))
