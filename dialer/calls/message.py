"""What is played to a person, and what the keys of their phone do meanwhile. Pure.

The switch itself ends a message at the key that opts out, and remembers it: whoever presses it is heard, also while
nobody listens here.
"""

from __future__ import annotations

import attrs

from campaigns.campaign import Campaign
from dialer.calls.leg import Leg


@attrs.frozen
class Message:
    """A sound that ends, and a while in which keys are still taken. A key is empty when there is none.

    `keys_before` counts the keys that had been pressed when it began: they meant something else.
    """

    sound: str
    opt_out: str = ""
    repeat: str = ""
    key_seconds: int = 0
    keys_before: int = 0

    def keys(self, leg: Leg) -> str:
        """What was pressed since it began. Of the key that ended it the event may have been missed."""
        pressed = leg.keys[self.keys_before :]
        return pressed if leg.terminator in pressed else pressed + leg.terminator

    def opted_out(self, leg: Leg) -> bool:
        """Whether the person wants no more such calls."""
        return bool(self.opt_out) and self.opt_out in self.keys(leg)


def broadcast_message(campaign: Campaign) -> Message:
    """What a broadcast is for."""
    keys = campaign.message_keys
    return Message(campaign.message or "", keys.opt_out, keys.repeat, campaign.message_key_seconds)


def apology(campaign: Campaign, leg: Leg) -> Message:
    """What the person on `leg` hears, for whom there is no agent."""
    key = campaign.abandoned_opt_out
    key_seconds = campaign.message_key_seconds if key else 0
    return Message(campaign.abandoned_message, opt_out=key, key_seconds=key_seconds, keys_before=len(leg.keys))
