"""How many calls to place now, and why: the interface every pacer fills, and those that need no forecast.

Pure: what is seen comes in as a value, a decision comes out as a value, and someone else carries it out.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import attrs


class HeldBy(StrEnum):
    """What keeps a pacer from placing more calls than it does."""

    AGENTS = "agents"  # none is idle, or each idle one has a call under way
    RISK = "risk"  # one more call would find nobody too often
    EXPOSURE = "exposure"  # too few answers so far for a larger bet
    BUDGET = "budget"  # as many were abandoned as may be
    SAFE_MODE = "safe_mode"  # too little is known, or something is wrong
    CHANNELS = "channels"
    RATE = "calls_per_second"
    LEADS = "leads"
    HOURS = "hours"


@attrs.frozen
class Answered:
    """Live answers of some time, and how many of them were abandoned."""

    live: float = 0  # parts are machines that may have been people
    abandoned: float = 0

    def __add__(self, other: Answered) -> Answered:
        return Answered(self.live + other.live, self.abandoned + other.abandoned)


@attrs.frozen
class View:
    """What a pacer may know of one campaign on one switch at a moment."""

    now_seconds: float  # monotonic
    idle_agents: int
    # Calls that may still want an agent: placed and not yet answered, answered and without an agent.
    ringing: int
    waiting: int
    in_flight: int  # all calls that hold a channel, talking ones too
    channels_left: int | None = None  # None: no limit of the campaign's own
    calls_left: int | None = None  # by rate, for now
    # The windows that the law counts in: of the campaign, of its group, of a day, of a month. Each must hold.
    windows: tuple[Answered, ...] = (Answered(),)
    trouble: str = ""  # why nothing may be risked now


@attrs.frozen
class Decision:
    """How many calls to place now, which ringing ones to take back, the reason in words for people, and its kind."""

    calls: int
    reason: str
    held_by: HeldBy
    cancel: tuple[str, ...] = ()


class Pacer(Protocol):
    """Decides, at every event and every tick. May keep estimates of its own, but reads no clock and rolls no dice."""

    def decide(self, view: View) -> Decision:
        """What to do now, seeing `view`."""
        ...


class Progressive:
    """One call for each idle agent: nobody who answers finds nobody, as long as agents stay."""

    def decide(self, view: View) -> Decision:
        """What to do now, seeing `view`."""
        return clipped(floor_of(view), progressive_reason(view), HeldBy.AGENTS, view)


def floor_of(view: View) -> int:
    """The calls that idle agents are there for, and no others."""
    return max(0, view.idle_agents - view.ringing - view.waiting)


def progressive_reason(view: View) -> str:
    """Why progressive dialing does what it does."""
    open_calls = view.ringing + view.waiting
    if view.idle_agents == 0:
        return "no agent is idle"
    if open_calls >= view.idle_agents:
        return f"a call is under way for each of {view.idle_agents} idle agents"
    return f"{view.idle_agents} agents are idle, {open_calls} calls under way for them"


def clipped(calls: int, reason: str, held_by: HeldBy, view: View, cancel: tuple[str, ...] = ()) -> Decision:
    """A decision within channels and rate. What is cut off is not owed: it is decided anew the next time."""
    if view.channels_left is not None and calls > max(0, view.channels_left):
        calls, held_by = max(0, view.channels_left), HeldBy.CHANNELS
        reason = "the campaign's limit of calls in flight is reached"
    if view.calls_left is not None and calls > max(0, view.calls_left):
        calls, held_by = max(0, view.calls_left), HeldBy.RATE
        reason = "the limit of calls per second is reached"
    return Decision(calls, reason, held_by, cancel)
