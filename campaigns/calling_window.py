"""May this number be rung now, and if not, when next.

A window is wall-clock time where the callee is. A moment is allowed in a zone when the clock on the wall there shows
a time within a window of that weekday: start included, end not. A number that may be in several zones is allowed only
when every one of them allows it.

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

from campaigns.setting_types import MIDNIGHT

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# Windows repeat weekly, but two zones may agree only in the part of the year their summer times differ.
HORIZON = timedelta(days=400)
_DAY = timedelta(days=1)


class Window(Protocol):
    """Calling hours on some weekdays; an `end` of 00:00 is the end of that day."""

    @property
    def days(self) -> Sequence[str]: ...
    @property
    def start(self) -> time: ...
    @property
    def end(self) -> time: ...


@attrs.frozen
class WindowVerdict:
    """`next_allowed_at` is now when allowed, later when not, and None when there never is such a moment."""

    allowed: bool
    next_allowed_at: datetime | None
    reason: str


def verdict(windows: Sequence[Window], zones: Sequence[str], now: datetime) -> WindowVerdict:
    """Whether a number in all of `zones` may be rung at `now` (aware), and if not, the first moment it may."""
    if now.tzinfo is None:
        raise ValueError(f"{now!r} has no time zone")
    if not zones:
        raise ValueError("a number needs at least one time zone")
    now = now.astimezone(UTC)
    places = [ZoneInfo(zone) for zone in zones]
    shut = next((place for place in places if not _open(windows, place, now)), None)
    if shut is None:
        return WindowVerdict(True, now, f"within calling hours in {', '.join(zones)}")
    wall = now.astimezone(shut)
    reason = f"outside calling hours in {shut.key}, where it is {DAYS[wall.weekday()]} {wall:%H:%M}"
    found = _next_open(windows, places, now)
    if found is None:
        reason += f"; there is no moment at which all of {', '.join(zones)} allow it"
    return WindowVerdict(False, found, reason)


def _open(windows: Sequence[Window], place: ZoneInfo, moment: datetime) -> bool:
    wall = moment.astimezone(place)
    today, clock = DAYS[wall.weekday()], wall.time()
    return any(
        today in window.days and window.start <= clock and (clock < window.end or window.end == MIDNIGHT)
        for window in windows
    )


def _next_open(windows: Sequence[Window], places: Sequence[ZoneInfo], now: datetime) -> datetime | None:
    moment, limit = now, now + HORIZON
    while moment <= limit:
        before = moment
        for place in places:
            if not _open(windows, place, moment):
                found = _opening(windows, place, moment, limit)
                if found is None:
                    return None
                moment = found
        if moment == before:
            return moment
    return None


def _opening(windows: Sequence[Window], place: ZoneInfo, after: datetime, limit: datetime) -> datetime | None:
    """The first moment later than `after` at which `place` is open; it is shut at `after`."""
    day = after.astimezone(place).date() - _DAY  # clocks put back at midnight bring yesterday's hours back
    while True:
        midnight = datetime.combine(day, MIDNIGHT, UTC) - _DAY  # no zone is a day away from UTC
        if midnight > limit:
            return None
        moments = sorted(m for m in _turns(windows, place, day) if m > after)
        found = next((moment for moment in moments if _open(windows, place, moment)), None)
        if found is not None:
            return found
        day += _DAY


def _turns(windows: Sequence[Window], place: ZoneInfo, day: date) -> Iterator[datetime]:
    """Every moment of `day` in `place` at which a window may open."""
    weekday = DAYS[day.weekday()]
    for window in windows:
        if weekday in window.days:
            for fold in (0, 1):  # a start may happen twice
                yield datetime.combine(day, window.start, place).replace(fold=fold).astimezone(UTC)
    # A clock change at midnight itself belongs to both days, whichever way the clocks go.
    first = min(_midnights(place, day)) - timedelta(seconds=1)
    last = max(_midnights(place, day + _DAY))
    if _offset(place, first) != _offset(place, last):
        yield _clock_change(place, first, last)


def _midnights(place: ZoneInfo, day: date) -> list[datetime]:
    """When `day` may be said to begin: two moments where midnight happens twice, or not at all."""
    return [datetime.combine(day, MIDNIGHT, place).replace(fold=fold).astimezone(UTC) for fold in (0, 1)]


def _offset(place: ZoneInfo, moment: datetime) -> timedelta | None:
    return moment.astimezone(place).utcoffset()


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
