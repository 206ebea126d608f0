"""May this number be rung now, as hours and days go, and if not, when next.

A window is wall-clock time where the callee is. A moment is allowed in a zone when the clock on the wall there shows
a time within a window of that weekday, start included, end not, and the calendar there a day that is not closed. With
several schedules, the campaign's own and the law's, it must be so in each of them. A number that may be in several
zones is allowed only when every one of them allows it.

The next moment is computed, not searched: a shut zone can only open where a window starts or where its clocks are
put forward or back, so those moments are tried in order. With several zones we go from opening to opening until all
agree. The same definition of "allowed" is used for the answer and for the search, so they cannot disagree. Everything
is compared in UTC, because Python compares two times of one zone by their wall clocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

import attrs

from campaigns.rules.public_holidays import holidays_of
from campaigns.rules.verdict import Verdict, allowed, forbidden
from campaigns.setting_types import MIDNIGHT

HOURS = "calling_hours"
CLOSED = "closed_day"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# Windows repeat weekly, but two zones may agree only in the part of the year their summer times differ.
HORIZON = timedelta(days=400)
_DAY = timedelta(days=1)


class Window(Protocol):
    """Calling hours on some weekdays; an `end` of 00:00 is the end of that day. `regions` empty: everywhere else."""

    @property
    def days(self) -> Sequence[str]: ...
    @property
    def start(self) -> time: ...
    @property
    def end(self) -> time: ...
    @property
    def regions(self) -> Sequence[str]: ...


@attrs.frozen
class Schedule:
    """Hours and days of one origin. `windows` of None: any hour; an empty one: none."""

    windows: tuple[Window, ...] | None = None
    closed_days: frozenset[date] = frozenset()
    holidays: bool = False

    def at(self, region: str | None) -> Hours:
        """What holds in `region`: of the windows, those that name it most exactly."""
        return Hours(self._windows_of(region), self.closed_days, region if self.holidays else None)

    def _windows_of(self, region: str | None) -> tuple[Window, ...] | None:
        if self.windows is None:
            return None
        if region is not None:
            for place in (region, region.partition("-")[0]):
                found = tuple(window for window in self.windows if place in window.regions)
                if found:
                    return found
        return tuple(window for window in self.windows if not window.regions)


@attrs.frozen
class Hours:
    """What a schedule says of one place. `holidays` are those of that region, if any count."""

    windows: tuple[Window, ...] | None
    closed_days: frozenset[date]
    holidays: str | None

    def open(self, wall: datetime) -> bool:
        """Whether the clock on the wall shows a time of a window, whatever the day."""
        if self.windows is None:
            return True
        today, clock = DAYS[wall.weekday()], wall.time()
        return any(
            today in window.days and window.start <= clock and (clock < window.end or window.end == MIDNIGHT)
            for window in self.windows
        )

    def closed(self, day: date) -> str | None:
        """Why `day` is closed, and None when it is not."""
        if day in self.closed_days:
            return f"{day} is a closed day of the campaign"
        if self.holidays is None:
            return None
        name = (holidays_of(self.holidays, day.year) or {}).get(day)
        return f"{day} is a public holiday in {self.holidays}: {name}" if name is not None else None


@attrs.frozen
class PlaceVerdicts:
    """What hours and days say of a place: both give the first moment at which both allow the call."""

    hours: Verdict
    days: Verdict

    @property
    def gravest(self) -> Verdict:
        """The one that forbids; that of the hours when both or neither do."""
        return self.hours if not self.hours.allowed or self.days.allowed else self.days


def judge(everything: Sequence[Hours], zones: Sequence[str], now: datetime) -> PlaceVerdicts:
    """Whether a number in all of `zones` may be rung at `now` (aware), and if not, the first moment it may."""
    if now.tzinfo is None:
        raise ValueError(f"{now!r} has no time zone")
    if not zones:
        raise ValueError("a number needs at least one time zone")
    now = now.astimezone(UTC)
    places = [ZoneInfo(zone) for zone in zones]
    shut, closed = _why_shut(everything, places, now), _why_closed(everything, places, now)
    hours = allowed(HOURS, f"within calling hours in {', '.join(zones)}", now)
    days = allowed(CLOSED, "no closed day", now)
    if shut is None and closed is None:
        return PlaceVerdicts(hours, days)
    found = _next_open(everything, places, now)
    never = f"; there is no moment at which all of {', '.join(zones)} allow it" if found is None else ""
    if shut is not None:
        hours = forbidden(HOURS, shut + never, found)
    if closed is not None:
        days = forbidden(CLOSED, closed + never, found)
    return PlaceVerdicts(hours, days)


def _why_shut(everything: Sequence[Hours], places: Sequence[ZoneInfo], now: datetime) -> str | None:
    for place in places:
        wall = now.astimezone(place)
        if not all(hours.open(wall) for hours in everything):
            return f"outside calling hours in {place.key}, where it is {DAYS[wall.weekday()]} {wall:%H:%M}"
    return None


def _why_closed(everything: Sequence[Hours], places: Sequence[ZoneInfo], now: datetime) -> str | None:
    days = sorted({now.astimezone(place).date() for place in places})
    reasons = (hours.closed(day) for day in days for hours in everything)
    return next((reason for reason in reasons if reason is not None), None)


def _open(everything: Sequence[Hours], place: ZoneInfo, moment: datetime) -> bool:
    wall = moment.astimezone(place)
    day = wall.date()
    return all(hours.open(wall) and hours.closed(day) is None for hours in everything)


def _next_open(everything: Sequence[Hours], places: Sequence[ZoneInfo], now: datetime) -> datetime | None:
    moment, limit = now, now + HORIZON
    turns: dict[tuple[str, date], list[datetime]] = {}  # looked at again and again when zones seldom agree
    while moment <= limit:
        before = moment
        for place in places:
            if not _open(everything, place, moment):
                found = _opening(everything, place, moment, limit, turns)
                if found is None:
                    return None
                moment = found
        if moment == before:
            return moment
    return None


def _opening(
    everything: Sequence[Hours],
    place: ZoneInfo,
    after: datetime,
    limit: datetime,
    turns: dict[tuple[str, date], list[datetime]],
) -> datetime | None:
    """The first moment later than `after` at which `place` is open; it is shut at `after`."""
    day = after.astimezone(place).date() - _DAY  # clocks put back at midnight bring yesterday's hours back
    found: datetime | None = None
    while found is None and datetime.combine(day, MIDNIGHT, UTC) - _DAY <= limit:  # no zone is a day away from UTC
        found = _first_open(everything, place, day, after, turns)
        day += _DAY
    if found is None:
        return None
    # A clock change at midnight belongs to both days, and may come after what the later one begins with.
    return min(found, _first_open(everything, place, day, after, turns) or found)


def _first_open(
    everything: Sequence[Hours],
    place: ZoneInfo,
    day: date,
    after: datetime,
    known: dict[tuple[str, date], list[datetime]],
) -> datetime | None:
    """The first moment of `day` later than `after` at which `place` may open, and is open."""
    moments = known.get((place.key, day))
    if moments is None:
        moments = known[place.key, day] = sorted(_turns(everything, place, day))
    return next((each for each in moments if each > after and _open(everything, place, each)), None)


def _turns(everything: Sequence[Hours], place: ZoneInfo, day: date) -> Iterator[datetime]:
    """Every moment of `day` in `place` at which it may open."""
    weekday = DAYS[day.weekday()]
    starts = {MIDNIGHT}  # of a day after one that is closed
    for hours in everything:
        starts.update(window.start for window in hours.windows or () if weekday in window.days)
    # A clock change at midnight itself belongs to both days, whichever way the clocks go.
    begins, ends = _midnights(place, day), _midnights(place, day + _DAY)
    first, last = min(begins) - timedelta(seconds=1), max(ends)
    before, after = _offset(place, first), _offset(place, last)
    if before == after and begins[0] == begins[1] and ends[0] == ends[1]:
        for start in starts:
            yield datetime.combine(day, start, UTC) - before
        return
    for start in starts:
        for fold in (0, 1):  # a start may happen twice
            yield datetime.combine(day, start, place).replace(fold=fold).astimezone(UTC)
    if before != after:
        yield _clock_change(place, first, last)


def _midnights(place: ZoneInfo, day: date) -> list[datetime]:
    """When `day` may be said to begin: two moments where midnight happens twice, or not at all."""
    return [datetime.combine(day, MIDNIGHT, place).replace(fold=fold).astimezone(UTC) for fold in (0, 1)]


def _offset(place: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(place).utcoffset() or timedelta(0)


def _clock_change(place: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The second between `before` and `after` at which `place` puts its clocks forward or back."""
    low, high = int(before.timestamp()), int(after.timestamp())
    old = _offset(place, before)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(place, datetime.fromtimestamp(middle, UTC)) == old:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)
