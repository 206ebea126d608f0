"""Morning, afternoon and evening where somebody lives: who is out in the one may be at home in another."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, time, timedelta
from itertools import count
from typing import Final
from zoneinfo import ZoneInfo

# When each begins. The last one goes on through the night, in which nobody is called anyway.
PARTS: Final = (("morning", time(8)), ("afternoon", time(12)), ("evening", time(17)))


def part_of(moment: datetime, zone: str) -> str:
    """The part of the day that `moment` is in, in `zone`."""
    clock = moment.astimezone(ZoneInfo(zone)).time()
    return next((name for name, start in reversed(PARTS) if start <= clock), PARTS[-1][0])


def another_part(earliest: datetime, zone: str, tried: Collection[str]) -> datetime:
    """The first moment, `earliest` or later, in a part of the day that is none of `tried`; `earliest` if all are."""
    if {name for name, _ in PARTS} <= set(tried) or part_of(earliest, zone) not in tried:
        return earliest
    place = ZoneInfo(zone)
    today = earliest.astimezone(place).date()
    for days in count():
        for name, start in PARTS:
            moment = datetime.combine(today + timedelta(days=days), start, place).astimezone(UTC)
            if name not in tried and moment > earliest:
                return moment
    raise AssertionError("there is a tomorrow")
