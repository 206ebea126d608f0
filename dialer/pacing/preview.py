"""An offer for each idle agent whom no call needs."""

from __future__ import annotations

from dialer.pacing.pacer import Decision, HeldBy, View, clipped, floor_of, progressive_reason


class Preview:
    """One lead for each idle agent, who is held for it from the offer on.

    Its own calls have their agents already: those that ring and want one are of other campaigns of the team, or were
    placed before the mode was chosen.
    """

    def decide(self, view: View) -> Decision:
        """What to do now, seeing `view`."""
        offers = floor_of(view)
        reason = f"{offers} agents are idle, and are offered leads" if offers else progressive_reason(view)
        return clipped(offers, reason, HeldBy.AGENTS, view)
