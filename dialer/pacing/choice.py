"""The pacer of a campaign's mode."""

from __future__ import annotations

from campaigns.campaign import Campaign
from dialer.pacing.broadcast import Broadcast
from dialer.pacing.pacer import Pacer, Progressive
from dialer.pacing.preview import Preview


def pacer_of(campaign: Campaign) -> Pacer:
    """A new one, that has seen nothing yet."""
    match campaign.mode:
        case "preview":
            return Preview()
        case "broadcast":
            return Broadcast()
        case _:
            return Progressive()
