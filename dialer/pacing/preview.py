"""An offer for each idle agent."""

from __future__ import annotations

from dialer.pacing.pacer import Decision, HeldBy, View, clipped


class Preview:
    """One lead for each idle agent, who is held for it: calls under way have their agents already."""

    def decide(self, view: View) -> Decision:
        """What to do now, seeing `view`."""
        reason = (
            f"{view.idle_agents} agents are idle, and are offered leads" if view.idle_agents else "no agent is idle"
        )
        return clipped(view.idle_agents, reason, HeldBy.AGENTS, view)
