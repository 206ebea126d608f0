"""How many calls to place now, and why: the interface every pacer fills, and the progressive one.

Pure: what is seen comes in as a value, a decision comes out as a value, and someone else carries it out.
"""

from __future__ import annotations

from typing import Protocol

import attrs


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


@attrs.frozen
class Decision:
    """How many calls to place now, which ringing ones to take back, and the reason in words for people."""

    calls: int
    reason: str
    cancel: tuple[str, ...] = ()


class Pacer(Protocol):
    """Decides, at every event and every tick. May keep estimates of its own, but reads no clock and rolls no dice."""

    def decide(self, view: View) -> Decision:
        """What to do now, seeing `view`."""
        ...


class Progressive:
    """One call for each idle agent: nobody who answers finds nobody, as long as agents stay."""

    def decide(self, view: View) -> Decision:
        if view.idle_agents == 0:
            return Decision(0, "no agent is idle")
        open_calls = view.ringing + view.waiting
        wanted = view.idle_agents - open_calls
        if wanted <= 0:
            return Decision(0, f"a call is under way for each of {view.idle_agents} idle agents")
        if view.channels_left is not None and wanted > view.channels_left:
            return Decision(max(0, view.channels_left), "the campaign's limit of calls in flight is reached")
        return Decision(wanted, f"{view.idle_agents} agents are idle, {open_calls} calls under way for them")
