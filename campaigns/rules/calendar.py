"""Days of the callee's calendar: a day begins at its midnight there, and of several places at the last one's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo


def days_of(moment: datetime, zones: Iterable[str]) -> Sequence[date]:
    """The day that `moment` is in, in each of `zones`."""
    return [moment.astimezone(ZoneInfo(zone)).date() for zone in zones]


def beginning(day: date, zone: str) -> datetime:
    """The first moment of `day` in `zone`: where the clocks skip midnight, that is when they do."""
    return datetime.combine(day, time(0), ZoneInfo(zone)).astimezone(UTC)


def rested_until(moment: datetime, whole_days: int, zones: Sequence[str]) -> datetime:
    """When so many whole days have passed after the day of `moment`, in all of `zones`."""
    over = timedelta(days=whole_days + 1)
    return max(beginning(day + over, zone) for day, zone in zip(days_of(moment, zones), zones, strict=True))
