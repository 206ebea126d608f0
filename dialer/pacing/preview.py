"""An offer for each idle agent."""

from __future__ import annotations

from dialer.pacing.pacer import Decision, View


class Preview:
    """One lead for each idle agent, who is held for it: calls under way have their agents already."""

    def decide(self, view: View) -> Decision:
        if view.idle_agents == 0:
            return Decision(0, "no agent is idle")
        if view.channels_left is not None and view.idle_agents > view.channels_left:
            return Decision(view.channels_left, "the campaign's limit of calls in flight is reached")
        return Decision(view.idle_agents, f"{view.idle_agents} agents are idle, and are offered leads")
