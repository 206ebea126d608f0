"""Every leg that some task of this daemon follows, by uuid; routes events to them.

Routing is synchronous and runs in the event socket's reader: it folds the event into the leg and wakes who waits.
State moves on events by uuid, never on "the next event".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from dialer.calls.leg import Leg
from dialer.esl.messages import Event


class LegWatch:
    """One leg as those who follow it see it: the latest state, and waiting for the next."""

    def __init__(self, uuid: str, switch: str) -> None:
        self.leg = Leg(uuid)
        self.switch = switch
        # When our own reader saw that the leg may be bridged: what our own latency is counted from.
        self.bridgeable_seen_at: float | None = None
        self.changed_at = -math.inf  # trio's time
        self._followers = 0
        self._changed = trio.Event()

    def __repr__(self) -> str:
        return f"<LegWatch {self.leg!r}>"

    def notice(self, event: Event) -> None:
        """Folds `event` in and wakes the waiters if it changed anything."""
        self.become(self.leg.fold(event))

    def become(self, leg: Leg) -> None:
        """Takes `leg` for the latest state and wakes the waiters if it is another."""
        if leg == self.leg:
            return
        self.leg = leg
        self.changed_at = trio.current_time()
        if self.bridgeable_seen_at is None and leg.bridgeable:
            self.bridgeable_seen_at = trio.current_time()
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def wait_until(self, condition: Callable[[Leg], bool]) -> Leg:
        """Waits until `condition` holds of the leg and gives the leg then. No deadline of its own: the caller's."""
        while not condition(self.leg):
            await self._changed.wait()
        return self.leg


class LiveCalls:
    """The registry. Several may follow one leg: an attempt follows the parked leg its keeper keeps."""

    def __init__(self) -> None:
        self._watches: dict[str, LegWatch] = {}

    def __repr__(self) -> str:
        return f"<LiveCalls following {len(self._watches)} legs>"

    def __len__(self) -> int:
        return len(self._watches)

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._watches

    def uuids(self) -> frozenset[str]:
        return frozenset(self._watches)

    def leg(self, uuid: str) -> Leg | None:
        """What is known of the leg `uuid`; None if nobody follows it."""
        watch = self._watches.get(uuid)
        return watch.leg if watch is not None else None

    def on_switch(self, switch: str) -> list[LegWatch]:
        """Every leg followed on `switch`."""
        return [watch for watch in self._watches.values() if watch.switch == switch]

    @contextmanager
    def follow(self, uuid: str, switch: str) -> Iterator[LegWatch]:
        """Follows the leg `uuid` for as long as the block lasts. Enter it before the leg's originate is sent."""
        watch = self._watches.setdefault(uuid, LegWatch(uuid, switch))
        watch._followers += 1
        try:
            yield watch
        finally:
            watch._followers -= 1
            if not watch._followers:
                del self._watches[uuid]

    def route(self, event: Event) -> None:
        """Hands `event` to the legs it is about."""
        for uuid in event.legs:
            watch = self._watches.get(uuid)
            if watch is not None:
                watch.notice(event)
