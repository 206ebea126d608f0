"""As many calls as there is room for: nobody waits for an agent."""

from __future__ import annotations

from typing import Final

from dialer.pacing.pacer import Decision, HeldBy, View, clipped

# More are not begun in one decision; trunks and the throttle allow fewer mostly.
AT_ONCE: Final = 100


class Broadcast:
    """Fills what the campaign's own limit leaves; trunks limit it beyond that."""

    def decide(self, view: View) -> Decision:
        """What to do now, seeing `view`."""
        reason = f"{view.in_flight} calls under way, as many as its limits allow"
        return clipped(AT_ONCE, reason, HeldBy.CHANNELS, view)
