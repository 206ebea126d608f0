"""Follows a message that the switch plays, obeys the keys meanwhile, and says what became of it.

The switch plays the message and ends the call by itself, so nothing here is needed for that; and nobody is left in
silence when the message cannot be played.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from dialer.calls.leg import HungUpBy, Leg
from dialer.calls.live_calls import LegWatch
from dialer.calls.message import Message
from dialer.calls.originate import DEAD_MAN_CAUSE, DEAD_MAN_MARGIN_SECONDS, MAX_REPEATS, MESSAGE_OVER_CAUSE, play
from dialer.esl.commands import Command, Kill, ScheduleHangup, Unschedule
from dialer.records.cdr import Ending

NOT_PLAYED: Final = "the message could not be played"


async def follow_message(
    customer: LegWatch, message: Message, longest_seconds: float, tell: Callable[[Command], None]
) -> None:
    """Obeys keys while `message` plays, until the call has ended or is to be ended now."""
    obeyed, repeats = message.keys_before, 0
    deadline = trio.current_time() + longest_seconds + message.key_seconds
    while True:
        with trio.move_on_at(deadline) as waiting:
            await customer.wait_until(
                lambda leg: leg.ended or len(leg.keys) > obeyed or message.opted_out(leg) or _not_played(leg)  # noqa: B023
            )
        leg = customer.leg
        if waiting.cancelled_caught:
            tell(Kill(leg.uuid, "ALLOTTED_TIMEOUT"))
            return
        if leg.ended or message.opted_out(leg) or _not_played(leg):
            return
        pressed, obeyed = leg.keys[obeyed:], len(leg.keys)
        if message.repeat and message.repeat in pressed and repeats < MAX_REPEATS:
            repeats += 1
            tell(play(leg.uuid, message))
            deadline = trio.current_time() + longest_seconds + message.key_seconds


async def play_apology(
    customer: LegWatch,
    message: Message,
    longest_seconds: int,
    ask: Callable[[Command], Awaitable[bool]],
    tell: Callable[[Command], None],
) -> None:
    """Tells whoever waits on `customer` by `message` that there is no agent, until the call is to be ended.

    What would have ended their waiting must not cut the message short; should it never end, something else will.
    """
    uuid = customer.leg.uuid
    if await ask(play(uuid, message)):
        await ask(Unschedule(uuid))
        at_most_seconds = math.ceil(longest_seconds + message.key_seconds + DEAD_MAN_MARGIN_SECONDS)
        await ask(ScheduleHangup(uuid, at_most_seconds, DEAD_MAN_CAUSE))
        await follow_message(customer, message, longest_seconds, tell)


def _not_played(leg: Leg) -> bool:
    """It is past the message, and nothing was heard."""
    return leg.parks > 0 and not leg.played


def broadcast_ending(leg: Leg, ending: Ending, message: Message) -> Ending:
    """What `ending` is when the call was to hear `message`, and left `leg` behind. Pure."""
    # Its CHANNEL_PARK may have been missed: a call that the switch itself has ended for this cause was over.
    over = leg.parks > 0 or (leg.hung_up_by is HungUpBy.SWITCH and leg.cause == MESSAGE_OVER_CAUSE)
    keys = message.keys(leg)
    heard = bool(keys) or (leg.played and over)
    note = ""
    if leg.answered and over and not heard:
        note = NOT_PLAYED
    elif leg.cause == "ALLOTTED_TIMEOUT" and not heard:
        note = "the message was longer than longest_message_seconds"
    return attrs.evolve(ending, broadcast=True, heard=heard, opted_out=message.opted_out(leg), keys=keys, note=note)


def apology_ending(leg: Leg, ending: Ending, message: Message) -> Ending:
    """What `ending` is when there was no agent, and the person was told so by `message`. Pure."""
    note = NOT_PLAYED if _not_played(leg) else ending.note
    return attrs.evolve(ending, abandoned=True, opted_out=message.opted_out(leg), keys=message.keys(leg), note=note)
