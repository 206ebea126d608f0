"""One call of a broadcast: whoever answers hears the message, may press a key, and is hung up on. No agents."""

from __future__ import annotations

from typing import Final

import trio

from campaigns.campaign import Campaign
from campaigns.leases import Lease
from dialer.calls.attempt import Attempt, Phase
from dialer.calls.leg import Leg
from dialer.calls.live_calls import LegWatch
from dialer.calls.message import Message, broadcast_message
from dialer.calls.originate import message_call
from dialer.calls.playing import NOT_PLAYED, broadcast_ending, follow_message
from dialer.calls.world import World
from dialer.esl.commands import Originate
from dialer.records.cdr import Ending

# A message that one person could not be played would be none to the next either: somebody has to look first.
UNPLAYABLE_SECONDS: Final = 60.0


class Broadcast(Attempt):
    """An attempt that plays a message where others look for an agent."""

    @property
    def wants_agent(self) -> bool:
        return False

    def _command(self) -> Originate:
        gateway, world = self._gateway.settings, self._world
        pooled = self.lease.caller_id
        return message_call(
            self.uuid, self.lease.number, gateway, self._campaign, world.calls, world.node, pooled=pooled
        )

    def _goes_on_alone(self, leg: Leg) -> bool:
        return leg.answered

    @property
    def _message(self) -> Message:  # whoever answers hears it, and may press keys, whatever we know of the call
        return broadcast_message(self._campaign)

    async def _connect(self, customer: LegWatch) -> None:
        self._move(Phase.PLAYING)
        await follow_message(customer, self._message, self._world.calls.longest_message_seconds, self._tell)

    def _note_message(self, leg: Leg) -> None:
        self._ending = broadcast_ending(leg, self._ending, self._message)
        note_message(leg, self._ending, self.lease, self._campaign, self._world)


def note_message(leg: Leg, ending: Ending, lease: Lease, campaign: Campaign, world: World) -> None:
    """Remembers whether `campaign`'s message can be played on the switch of `lease`."""
    key = (lease.switch, campaign.message or "")
    if ending.note == NOT_PLAYED:
        world.unplayable[key] = trio.current_time()
    elif leg.played:
        world.unplayable.pop(key, None)


def allowed(campaign: Campaign, switch: str, world: World, wanted: int, in_flight: int) -> tuple[int, str]:
    """How many of `wanted` calls may be placed on `switch` with `in_flight` there, and why not all, if not all.

    Nobody is called to hear nothing: once the message could not be played, one call at a time tries it.
    """
    failed_at = world.unplayable.get((switch, campaign.message or "")) if campaign.mode == "broadcast" else None
    if failed_at is None:
        return wanted, ""
    reason = f"the switch {switch!r} cannot play {campaign.message}; one call a minute tries it again"
    tried_lately = trio.current_time() - failed_at < UNPLAYABLE_SECONDS
    return (0 if in_flight or tried_lately else min(wanted, 1)), reason
