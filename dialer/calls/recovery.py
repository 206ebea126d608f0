"""After a new epoch: what is really on the switch against what is believed.

Legs that are followed and not there any more have ended unseen. Attempts that a former life of this daemon left open
are resolved: a conversation is followed to its end, whoever has answered and talks to nobody hears a message, a call
that only rings is hung up, one the switch does not know is closed as `unknown`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from functools import partial
from typing import Final

import attrs
import structlog
import trio

from campaigns.campaign import Campaign
from campaigns.leases import OpenAttempt
from campaigns.opt_out import OptOut, by_key
from campaigns.outcomes import default_name
from campaigns.recycle import next_step
from campaigns.tables import AttemptRow
from dialer.agents.roster import Claim
from dialer.calls.asking import ask, tell
from dialer.calls.gateway import Gateway
from dialer.calls.leg import HungUpBy, Leg
from dialer.calls.live_calls import LegWatch
from dialer.calls.message import Message, apology, broadcast_message
from dialer.calls.opting_out import on_the_list_first
from dialer.calls.playing import apology_ending, broadcast_ending, follow_message, play_apology
from dialer.calls.snapshot import Snapshot, exists
from dialer.calls.world import World
from dialer.clock import microseconds
from dialer.errors import InputRefusedError, OutcomeUnknownError, UnavailableError
from dialer.esl.commands import GetVariable, Kill, Unschedule
from dialer.esl.link import CommandRefusedError
from dialer.esl.switch import Switch
from dialer.records.cdr import Ending, disposition_of, record_of

log = structlog.get_logger()

HANGUP_SECONDS: Final = 10.0
# HANGUP_COMPLETE, with the SIP status and who hung up, follows HANGUP within a frame or two.
COMPLETE_SECONDS: Final = 2.0
# From an originate's being sent to its channel's being there.
ON_ITS_WAY_SECONDS: Final = 1.0


async def reconcile_legs(world: World, switch: Switch, snapshot: Snapshot, *, true_since: float) -> bool:
    """Brings every followed leg of `switch` in line with what the switch has.

    `show channels` and `show calls` lag behind by up to some hundred milliseconds: each leg is asked for by name
    before it is given up, and a bridge is never taken away on a look, only added. False if the lists contradict what
    was heard after trio's time `true_since`, and so may be older: another look tells. Raises UnavailableError or
    OutcomeUnknownError if the switch cannot be asked.
    """
    contradicted: list[str] = []
    watches = [watch for watch in world.live_calls.on_switch(switch.name) if not watch.leg.ended]

    failures: list[UnavailableError | OutcomeUnknownError] = []

    async def reconcile(watch: LegWatch) -> None:
        before = watch.leg
        try:
            is_there = await exists(switch, before.uuid)
            if not is_there and before == Leg(before.uuid):  # nothing heard yet: jobs overtake each other
                await trio.sleep(ON_ITS_WAY_SECONDS)
                is_there = await exists(switch, before.uuid)
        except (UnavailableError, OutcomeUnknownError) as error:  # carried past the nursery, which would wrap it
            failures.append(error)
            return
        if watch.leg != before:
            return  # an event has told more than the list, which is older
        now_us = microseconds(world.clock.now())
        if not is_there:
            watch.become(before.gone(now_us))
            return
        found = _as_listed(before, snapshot, now_us)
        if found == before:
            return
        if watch.changed_at > true_since:
            contradicted.append(before.uuid)
        else:
            watch.become(found)

    async with trio.open_nursery() as nursery:  # the commands are pipelined: a thousand legs take a second
        for watch in watches:
            nursery.start_soon(reconcile, watch)
    if failures:
        raise failures[0]
    vanished = sum(watch.leg.vanished for watch in watches)
    if vanished:
        log.warning("legs_vanished", switch=switch.name, legs=vanished)
    if contradicted:
        log.info("lists_are_older_than_events", switch=switch.name, legs=len(contradicted))
    return not contradicted


def _as_listed(leg: Leg, snapshot: Snapshot, now_us: int) -> Leg:
    """`leg` as it is if the lists are right; itself if they tell nothing new. Pure."""
    row = snapshot.channels.get(leg.uuid)
    other = snapshot.bridged_with.get(leg.uuid, "")
    if other and not leg.bridged:
        return leg.found(now_us, bridged_with=other)
    if row is not None and row.callstate == "ACTIVE":
        parked_unseen = row.application == "park" and not (leg.parked or leg.bridged)
        if parked_unseen or not leg.bridgeable:
            return leg.found(now_us, bridged_with=leg.bridged_with)
    return leg


async def hang_up_orphans(world: World, switch: Switch, snapshot: Snapshot, owned: Collection[str]) -> Snapshot:
    """Hangs up every channel of this daemon's that nobody owns and nobody talks on; the snapshot without them.

    They are left by a daemon that died between placing a call and writing down that it is up. Whose a channel is, is
    on the channel itself. Raises UnavailableError or OutcomeUnknownError if the switch cannot be asked.
    """
    orphans: set[str] = set()
    for uuid, row in snapshot.channels.items():
        if uuid in owned or uuid in world.live_calls or uuid in snapshot.bridged_with or row.direction != "outbound":
            continue
        try:
            node = await switch.run_command(GetVariable(uuid, "dialer_node"))
            if node.strip() == world.node:
                log.warning("orphan_hung_up", switch=switch.name, channel=uuid, dest=row.dest)
                orphans.add(uuid)
                await switch.run_command(Kill(uuid))
        except (CommandRefusedError, InputRefusedError) as error:  # it is gone by now, or no uuid of ours
            log.debug("orphan_not_asked", error=str(error))
    channels = {uuid: row for uuid, row in snapshot.channels.items() if uuid not in orphans}
    return Snapshot(channels, snapshot.bridged_with)


async def whose_leg(switch: Switch, uuid: str) -> str:
    """The extension that the leg `uuid` was rung for by a dialer; empty if it was not, or is gone.

    Raises UnavailableError or OutcomeUnknownError if the switch cannot be asked.
    """
    try:
        extension = (await switch.run_command(GetVariable(uuid, "dialer_agent"))).strip()
    except (CommandRefusedError, InputRefusedError) as error:
        log.debug("leg_not_asked_for", leg=uuid, error=str(error))
        return ""
    return "" if extension == "_undef_" else extension


async def resolve_attempt(
    left: OpenAttempt, campaign: Campaign, world: World, snapshot: Snapshot, claim: Claim | None
) -> None:
    """Brings one attempt that a former life left open to its one result, and gives its agent back.

    An attempt on a switch that is not configured any more is unknown. What was only offered to an agent was never
    sent, and goes back; a message goes on to its end, and whoever waits for an agent is told that there is none.
    """
    row = left.row
    if row.offered:
        await _return_offered(left, world, claim)
        return
    switch = world.switches.get(row.switch)
    gateway = world.gateways.get(row.gateway)
    ending = Ending()
    with world.live_calls.follow(row.uuid, row.switch) as watch:
        now_us = microseconds(world.clock.now())
        other_leg = snapshot.bridged_with.get(row.uuid, "")
        is_broadcast = campaign.mode == "broadcast" and not other_leg
        message = broadcast_message(campaign) if is_broadcast else None
        if switch is None or not await _still_there(switch, row.uuid):
            watch.become(Leg(row.uuid).gone(now_us))
            ending = Ending(unknown=True)
        elif other_leg:
            watch.become(watch.leg.found(now_us, bridged_with=other_leg))
            with world.live_calls.follow(other_leg, row.switch) as agent_leg:  # first of all: it may end at once
                await _adopt_slot(gateway, row)
                log.info("conversation_adopted", attempt=row.uuid)
                await ask(switch, Unschedule(row.uuid))
                if claim is not None:
                    with contextlib.suppress(UnavailableError):  # the lease is renewed by token all the same
                        await world.roster.bridged(claim)  # the former life may have died before it said so
                with trio.move_on_after(world.calls.longest_conversation_seconds):
                    await watch.wait_until(lambda leg: not leg.bridged)
                with trio.move_on_after(COMPLETE_SECONDS):  # mostly the switch hangs the customer up by itself
                    await watch.wait_until(lambda leg: leg.ended)
                ending = Ending(
                    agent=claim.extension if claim is not None else "",
                    agent_leg=other_leg,
                    agent_ended_it=await _ended_it(agent_leg),
                )
                if claim is not None:
                    claim.leg_lost = agent_leg.leg.ended  # nobody is to be sent to it
        elif (channel := snapshot.channels.get(row.uuid)) is not None and channel.callstate == "ACTIVE":
            watch.become(watch.leg.found(now_us))  # somebody has answered, and finds nobody
            await _adopt_slot(gateway, row)
            message = await _let_hear(watch, channel.application, campaign, world, switch)
        async with on_the_list_first(_opt_out(row, watch.leg, message, campaign, world), world):
            if switch is not None and not watch.leg.ended:
                if not other_leg:
                    log.info("leftover_call_hung_up", attempt=row.uuid)
                await ask(switch, Kill(row.uuid, "NORMAL_CLEARING" if watch.leg.answered else "ORIGINATOR_CANCEL"))
                with trio.move_on_after(HANGUP_SECONDS):
                    await watch.wait_until(lambda leg: leg.ended)
            if watch.leg.ended:
                with trio.move_on_after(COMPLETE_SECONDS):
                    await watch.wait_until(lambda leg: leg.complete)
            if watch.leg.bridged_us and not ending.agent and claim is not None:
                ending = attrs.evolve(ending, agent=claim.extension)
            if message is not None and not watch.leg.bridged_us:
                ending_of = broadcast_ending if is_broadcast else apology_ending
                ending = ending_of(watch.leg, ending, message)
            if claim is not None:  # the record may have to wait for its database
                claim.wrap_up_seconds = campaign.wrap_up_seconds if watch.leg.bridged_us else 0.0
                await world.roster.release(claim)
            opt_out = _opt_out(row, watch.leg, message, campaign, world)
            await _write_down(left, watch.leg, ending, campaign, world, opt_out)
    if gateway is not None:
        await gateway.release(row.uuid)


async def _let_hear(watch: LegWatch, application: str, campaign: Campaign, world: World, switch: Switch) -> Message:
    """Whoever has answered hears what they are called for, or that there is nobody: to the end, if it plays already.

    Keys pressed while there was no daemon are known for the one that the switch remembers.
    """
    is_broadcast = campaign.mode == "broadcast"
    message = broadcast_message(campaign) if is_broadcast else apology(campaign, watch.leg)
    longest_seconds, tell_it = world.calls.longest_message_seconds, partial(tell, switch)
    if is_broadcast or application in ("playback", "park"):
        with contextlib.suppress(CommandRefusedError, UnavailableError, OutcomeUnknownError):
            key = await switch.run_command(GetVariable(watch.leg.uuid, "playback_terminator_used"))
            watch.become(watch.leg.remembered(key.strip()))
        await follow_message(watch, message, longest_seconds, tell_it)
    else:
        await play_apology(watch, message, longest_seconds, partial(ask, switch), tell_it)
    return message


def _opt_out(row: AttemptRow, leg: Leg, message: Message | None, campaign: Campaign, world: World) -> OptOut | None:
    """What goes on the do-not-call list, if the person has pressed the key for it."""
    if message is None or not message.opted_out(leg):
        return None
    return by_key(row.number, row.uuid, campaign, world.clock.now())


async def _return_offered(left: OpenAttempt, world: World, claim: Claim | None) -> None:
    row = left.row
    await world.ledger.return_unsent(left.lease)
    gateway = world.gateways.get(row.gateway)
    if gateway is not None:
        await gateway.release(row.uuid)
    if claim is not None:
        await world.roster.release(claim)
    log.info("offer_returned", attempt=row.uuid)


async def _adopt_slot(gateway: Gateway | None, row: AttemptRow) -> None:
    if gateway is not None:
        try:
            await gateway.adopt(row.uuid)
        except UnavailableError as error:
            log.warning("slot_not_adopted", attempt=row.uuid, error=str(error))


async def _ended_it(agent_leg: LegWatch) -> bool:
    """Both legs may have ended, in either order: only their SIP dialogues tell who began."""
    if not agent_leg.leg.ended:
        return False
    with trio.move_on_after(COMPLETE_SECONDS):
        await agent_leg.wait_until(lambda leg: leg.complete)
    return agent_leg.leg.hung_up_by is HungUpBy.FAR_END


async def _write_down(
    left: OpenAttempt, leg: Leg, ending: Ending, campaign: Campaign, world: World, opt_out: OptOut | None
) -> None:
    now, row = world.clock.now(), left.row
    gateway = world.gateways.get(row.gateway)
    record = record_of(
        leg,
        ending,
        left.lease,
        campaign,
        row.campaign_id,
        caller_id=gateway.settings.caller_id if gateway is not None else "",
        node=world.node,
        originated_at=row.opened_at,
        now=now,
    )
    disposition = disposition_of(leg, ending)
    world.metrics.counts["attempts_recovered"] += 1
    step = next_step(disposition, left.lease, campaign, now)
    await world.ledger.close(record, step, opt_out=opt_out, default_outcome=default_name(campaign))
    log.info("attempt_recovered", attempt=row.uuid, disposition=disposition.value)


async def _still_there(switch: Switch, uuid: str) -> bool:
    """Whether the switch has the call now: the list may be older than its end. In doubt it has."""
    try:
        return await exists(switch, uuid)
    except (UnavailableError, OutcomeUnknownError) as error:
        log.warning("attempt_not_asked_for", attempt=uuid, error=str(error))
        return True
