"""As many calls as there is room for: nobody waits for an agent."""

from __future__ import annotations

from typing import Final

from dialer.pacing.pacer import Decision, View

# More are not begun in one decision; trunks and the throttle allow fewer mostly.
AT_ONCE: Final = 100


class Broadcast:
    """Fills what the campaign's own limit leaves; trunks limit it beyond that."""

    def decide(self, view: View) -> Decision:
        if view.channels_left == 0:
            return Decision(0, "the campaign's limit of calls in flight is reached")
        calls = AT_ONCE if view.channels_left is None else min(AT_ONCE, view.channels_left)
        return Decision(calls, f"{view.in_flight} calls under way, as many as its limits allow")
