"""Room for calls, and which lead may have it: leads are matched with the slots that trunks have granted.

A trunk may refuse a number for good (a blind area), for today (called as often as it may be), or because none of its
numbers may be shown any more. A lead that no trunk of its campaign may carry is told when the first of them will; one
that some trunk may carry, which has just no slot, only waits.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Final, NamedTuple

import attrs

from campaigns.rules.candidate import PastCall
from campaigns.rules.verdict import Verdict, forbidden, gravest
from campaigns.trunk import CALLER_ID, Trunk

NOT_FULL: Final[Mapping[str, Verdict]] = {}


@attrs.frozen
class Slot:
    """Room for one call: the uuid it will have, and where it will go out."""

    uuid: str
    gateway: str
    switch: str


class Fit(NamedTuple):
    """A slot for a lead, and the number that it will see; None leaves that to campaign and gateway."""

    slot: Slot
    caller_id: str | None
    day: date  # as the trunk counts days


class Slots:
    """Slots that have been granted, of the trunks (by name) that a campaign may use, in order of preference.

    `shown` says how often numbers were shown on a day so far; it is asked only where a trunk has a pool of them, and
    never when calls are not `pooled`: then the campaign shows a number of its own.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        trunks: Mapping[str, Trunk],
        now: datetime,
        shown: Callable[[date], Counter[str]],
        *,
        pooled: bool = True,
    ) -> None:
        self._free: defaultdict[str, deque[Slot]] = defaultdict(deque)
        for slot in slots:
            self._free[slot.gateway].append(slot)
        self.left = len(slots)  # that may still be given; the caller may hold some back
        self._trunks = trunks
        self._now = now
        self._ask_shown = shown
        self._pooled = pooled
        self._days = {name: trunk.day(now) for name, trunk in trunks.items()}
        self._choosy = frozenset(
            name for name, one in trunks.items() if one.blind or one.within or _counts_by_day(one)
        )
        self._shown: dict[date, Counter[str]] = {}

    def fit(
        self,
        number: str,
        region: str | None,
        calls: Sequence[PastCall],
        failed: Collection[str],
        full: Mapping[str, Verdict] = NOT_FULL,
    ) -> Fit | Verdict | None:
        """The slot that `number` gets; else why no trunk may carry it; or None when it only finds no free one.

        `calls` are those made to the number lately, `failed` the trunks that have just failed it: they are left out
        for as long as there is another. `full` ones have carried as many calls as they may for now.
        """
        refusals: list[Verdict] = []
        able: dict[str, str | None] = {}
        for name, trunk in self._trunks.items():
            asked = name in self._choosy or name in full
            found = self.over(trunk, number, region, calls, full) if asked else None
            if isinstance(found, Verdict):
                refusals.append(found)
            elif name not in failed and self._free[name]:
                return self._give(name, found)
            else:
                able[name] = found
        if refusals and not able:
            moments = [one for one in refusals if one.allowed_at is not None]
            return min(moments, key=lambda one: one.allowed_at or self._now, default=refusals[0])
        if all(name in failed or self._trunks[name].away for name in able):
            return next((self._give(name, found) for name, found in able.items() if self._free[name]), None)
        return None

    def may_carry(self, number: str, region: str | None) -> bool:
        """Whether there is a trunk that may ever carry a call to `number`."""
        return any(trunk.area_verdict(number, region) is None for trunk in self._trunks.values())

    def _give(self, name: str, caller_id: str | None) -> Fit:
        day = self._days[name]
        if caller_id is not None:
            self._shown_on(day)[caller_id] += 1
        self.left -= 1
        return Fit(self._free[name].popleft(), caller_id, day)

    def over(
        self,
        trunk: Trunk,
        number: str,
        region: str | None,
        calls: Sequence[PastCall],
        full: Mapping[str, Verdict] = NOT_FULL,
    ) -> str | Verdict | None:
        """The number to be shown, None for the gateway's own; or why this trunk may not carry the call."""
        today = self._today(trunk, calls) if calls and _counts_by_day(trunk) else ()
        verdict = trunk.verdict(number, region, sum(one.gateway == trunk.name for one in today), self._now)
        refusals = [one for one in (full.get(trunk.name), verdict) if one is not None and not one.allowed]
        if refusals:
            return gravest(refusals)
        if not (trunk.caller_ids and self._pooled):
            return None
        day = self._days[trunk.name]
        pool = {one.number for one in trunk.caller_ids}  # another trunk may have shown one of its own since
        seen = max((one for one in today if one.caller_id in pool), key=lambda one: one.opened_at, default=None)
        chosen = trunk.caller_id(
            number, used_today=self._shown_on(day), last_today=seen.caller_id if seen else None, today=day
        )
        if chosen is not None:
            return chosen
        reason = f"{trunk.name} has shown each of its numbers as often as it may today"
        return forbidden(CALLER_ID, reason, trunk.day_ends(self._now))

    def _today(self, trunk: Trunk, calls: Sequence[PastCall]) -> Sequence[PastCall]:
        began = trunk.day_began(self._now)
        return [one for one in calls if one.opened_at >= began]

    def _shown_on(self, day: date) -> Counter[str]:
        if day not in self._shown:
            self._shown[day] = self._ask_shown(day)
        return self._shown[day]


def _counts_by_day(trunk: Trunk) -> bool:
    return bool(trunk.caller_ids) or trunk.most_per_callee_a_day is not None


def needed_since(trunks: Iterable[Trunk], now: datetime) -> datetime | None:
    """How far back the calls to a number must be known to match it with `trunks`; None where none are needed."""
    return min((trunk.day_began(now) for trunk in trunks if _counts_by_day(trunk)), default=None)
