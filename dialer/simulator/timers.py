"""Everything that is to happen later, in one heap and one task.

A call has a dozen things coming (ring, answer, patience, next sound); a task for each would cost more than the
call. Callbacks are plain functions: they change the switch and queue events, and never wait. Callbacks due at the
same moment run in the order they were asked for, so a virtual day is the same each time.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import TypeVarTuple

import trio

_Args = TypeVarTuple("_Args")

# A burst longer than this is interrupted, so that connections are served in between.
BURST = 200


class Timer:
    """One thing that will happen, unless it is cancelled."""

    __slots__ = ("_action", "when")

    def __init__(self, when: float, action: Callable[[], object]) -> None:
        self.when = when
        self._action: Callable[[], object] | None = action

    def cancel(self) -> None:
        """Forget it; more than once, or after it happened, does no harm."""
        self._action = None

    @property
    def pending(self) -> bool:
        return self._action is not None

    def fire(self) -> None:
        action, self._action = self._action, None
        if action is not None:
            action()


class Timers:
    """The heap. `run` must be running somewhere for anything to happen."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._sooner = trio.Event()

    def after(self, seconds: float, action: Callable[[*_Args], object], *args: *_Args) -> Timer:
        """Call `action(*args)` in `seconds`; infinity means never."""
        when = trio.current_time() + seconds
        timer = Timer(when, lambda: action(*args))
        if math.isinf(seconds):
            return timer
        self._count += 1
        if not self._heap or when < self._heap[0][0]:
            self._sooner.set()
        heapq.heappush(self._heap, (when, self._count, timer))
        return timer

    def clear(self) -> None:
        """Cancel all of it."""
        for _, _, timer in self._heap:
            timer.cancel()
        self._heap.clear()

    async def run(self) -> None:
        """Fire what falls due, until cancelled. An error in a callback ends it: the simulator is wrong then."""
        while True:
            burst = 0
            while self._heap and self._heap[0][0] <= trio.current_time() and burst < BURST:
                heapq.heappop(self._heap)[2].fire()
                burst += 1
            self._sooner = trio.Event()
            if burst == BURST:
                await trio.lowlevel.checkpoint()
                continue
            with trio.move_on_at(self._heap[0][0] if self._heap else math.inf):
                await self._sooner.wait()
