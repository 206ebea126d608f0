"""One call of a broadcast: whoever answers hears the message, may press a key, and is hung up on. No agents.

The switch plays the message and ends the call by itself, so nothing here is needed for that; what is done here is to
notice what became of it, to obey keys, and never to leave anybody in silence when the message cannot be played.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import trio

from campaigns.campaign import Campaign
from campaigns.hopper import Lease
from dialer.calls.attempt import Attempt, Phase
from dialer.calls.leg import HungUpBy, Leg
from dialer.calls.live_calls import LegWatch
from dialer.calls.originate import MAX_REPEATS, MESSAGE_OVER_CAUSE, message_again, message_call
from dialer.calls.world import World
from dialer.esl.commands import Command, Kill, Originate
from dialer.records.cdr import Ending

# A message that one person could not be played would be none to the next either: somebody has to look first.
UNPLAYABLE_SECONDS: Final = 60.0
NOT_PLAYED: Final = "the message could not be played"


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

    async def _connect(self, customer: LegWatch) -> None:
        self._move(Phase.PLAYING)
        await follow_message(customer, self._campaign, self._world.calls.longest_message_seconds, self._tell)

    async def _write_down(self, leg: Leg) -> None:
        self._ending = message_ending(leg, self._ending, self._campaign)
        note_message(leg, self._ending, self.lease, self._campaign, self._world)
        await super()._write_down(leg)


async def follow_message(
    customer: LegWatch, campaign: Campaign, longest_seconds: float, tell: Callable[[Command], None]
) -> None:
    """Obeys keys while the message plays, until the call has ended or is to be ended now."""
    obeyed = repeats = 0
    deadline = trio.current_time() + longest_seconds + campaign.message_key_seconds
    while True:
        with trio.move_on_at(deadline) as waiting:
            await customer.wait_until(lambda leg: leg.ended or len(leg.keys) > obeyed or _not_played(leg))  # noqa: B023
        leg = customer.leg
        if waiting.cancelled_caught:
            tell(Kill(leg.uuid, "ALLOTTED_TIMEOUT"))
            return
        if leg.ended or _not_played(leg):
            return
        pressed, obeyed = leg.keys[obeyed:], len(leg.keys)
        if _opted_out(pressed, campaign):
            return
        if campaign.message_keys.repeat in pressed and campaign.message_keys.repeat and repeats < MAX_REPEATS:
            repeats += 1
            tell(message_again(leg.uuid, campaign))
            deadline = trio.current_time() + longest_seconds + campaign.message_key_seconds


def _not_played(leg: Leg) -> bool:
    """It is past the message, and nothing was heard."""
    return leg.parks > 0 and not leg.played


def _opted_out(keys: str, campaign: Campaign) -> bool:
    key = campaign.message_keys.opt_out
    return bool(key) and key in keys


def message_ending(leg: Leg, ending: Ending, campaign: Campaign) -> Ending:
    """What `ending` is when the call was to hear `campaign`'s message and left `leg` behind. Pure."""
    # Its CHANNEL_PARK may have been missed: a call that the switch itself has ended for this cause was over.
    over = leg.parks > 0 or (leg.hung_up_by is HungUpBy.SWITCH and leg.cause == MESSAGE_OVER_CAUSE)
    heard = bool(leg.keys) or (leg.played and over)
    note = ""
    if leg.answered and over and not heard:
        note = NOT_PLAYED
    elif leg.cause == "ALLOTTED_TIMEOUT" and not heard:
        note = "the message was longer than longest_message_seconds"
    return attrs.evolve(
        ending, broadcast=True, heard=heard, opted_out=_opted_out(leg.keys, campaign), keys=leg.keys, note=note
    )


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
