"""One attempt at one lead, told from top to bottom: ring, answer, agent, bridge, hang-up, result.

A leg that dies cancels the scope that needs it, and every block puts back what it took. Events are the truth:
nothing here believes a reply. Every wait has a deadline, and the deadline's outcome is part of the story.
"""

from __future__ import annotations

import contextlib
import uuid as uuids
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from enum import Enum, auto
from typing import Final

import attrs
import structlog
import trio

from campaigns.campaign import Campaign
from campaigns.disposition import Disposition
from campaigns.leases import Lease
from campaigns.opt_out import OptOut, by_key
from campaigns.outcomes import default_name
from campaigns.recycle import next_step
from dialer.agents.agent import Phones, Wants
from dialer.agents.roster import Claim
from dialer.calls.asking import ask, tell
from dialer.calls.failover import Sign, failure_of, goes_on, sign_of
from dialer.calls.leg import HungUpBy, Leg
from dialer.calls.live_calls import LegWatch
from dialer.calls.message import Message, apology
from dialer.calls.opting_out import on_the_list_first
from dialer.calls.originate import agent_call, customer_call
from dialer.calls.parking import see_parked
from dialer.calls.playing import apology_ending, play_apology
from dialer.calls.trunks import others_for
from dialer.calls.world import World
from dialer.clock import microseconds
from dialer.errors import InputRefusedError, OutcomeUnknownError, UnavailableError
from dialer.esl.commands import (
    Bridge,
    Command,
    GetVariable,
    Kill,
    Originate,
    Record,
    Unschedule,
)
from dialer.esl.conversation import Ticket
from dialer.esl.link import CommandRefusedError
from dialer.records.cdr import Ending, record_of

log = structlog.get_logger()

# FreeSWITCH itself ends the ringing; this is how much later its word may come.
RING_MARGIN_SECONDS: Final = 5.0
# From our uuid_kill to the end of the call.
HANGUP_SECONDS: Final = 5.0
# HANGUP_COMPLETE, with the SIP status and who hung up, follows HANGUP within a frame or two.
# Without it who hung up is not known, and a person who left counts as abandoned.
COMPLETE_SECONDS: Final = 2.0
# How long a call is waited for whose switch is away before its outcome is called unknown.
UNKNOWN_SECONDS: Final = 60.0
DISARM_AGAIN_SECONDS: Final = 0.2
# Nobody on the line waits longer for Redis to hear what became of an agent.
TELL_SECONDS: Final = 1.0


class Phase(Enum):
    """Where the story is, as pacing needs to know it."""

    OFFERED = auto()  # an agent looks at it, nothing has been placed
    DIALING = auto()  # placed
    RINGING = auto()  # the phone rings, and is not answered
    LISTENING = auto()  # answered, by a person or a machine
    WAITING = auto()  # answered, no agent yet
    CONNECTING = auto()  # an agent is held for it
    TALKING = auto()
    PLAYING = auto()  # a message, to whoever answered
    CLOSING = auto()  # over but for its record


UNANSWERED: Final = frozenset({Phase.OFFERED, Phase.DIALING, Phase.RINGING})
# Nobody is known to want an agent yet.
UNDECIDED: Final = UNANSWERED | {Phase.LISTENING}


class Attempt:
    """One call. `run` tells the story once and leaves exactly one result behind."""

    def __init__(
        self, lease: Lease, campaign: Campaign, campaign_id: int, world: World, on_change: Callable[[Attempt], None]
    ) -> None:
        self.lease = lease
        self.phase = Phase.DIALING
        self.started_at = trio.current_time()
        self._campaign = campaign
        self._campaign_id = campaign_id
        self._world = world
        self._on_change = on_change
        self._switch = world.switches[lease.switch]
        self._gateway = world.gateways[lease.gateway]
        self._ending = Ending()
        self._apology: Message | None = None  # that is played to whoever found no agent
        self._originated_at = world.clock.now()
        self._cancelled = False
        self._trunk_says = Sign.NEITHER
        self._connected_late = False
        self._abandoned_on_record = False
        self._sent = False
        self._log = log.bind(attempt=lease.uuid, campaign=campaign.name)

    def __repr__(self) -> str:
        return f"<Attempt {self.uuid} {self.phase.name}>"

    @property
    def uuid(self) -> str:
        return self.lease.uuid

    @property
    def wants_agent(self) -> bool:
        """Whoever answers needs one who is idle then."""
        return True

    @property
    def abandoned(self) -> bool:
        """Whoever answered was told that there is no agent."""
        return self._ending.abandoned

    @property
    def was_machine(self) -> bool:
        """What answered was taken for a machine."""
        return self._ending.machine

    @property
    def connected_late(self) -> bool:
        """Whoever answered has an agent, and had to wait for longer than the campaign allows."""
        return self._connected_late

    @property
    def abandoned_on_record(self) -> bool:
        """The record says so, once there is one: of those, too, who gave up by themselves after too long a wait."""
        return self._abandoned_on_record

    @property
    def taken_back(self) -> bool:
        """We do not want it any more."""
        return self._cancelled

    @property
    def failed_by_trunk(self) -> bool:
        """The trunk would not carry it: nothing is known of the person."""
        return self._trunk_says is Sign.FAULT

    def take_back(self) -> None:
        """Hangs the call up if nobody has answered it yet: pacing or a stop does not want it any more."""
        if self.phase in UNANSWERED and not self._cancelled:
            self._cancelled = True
            if self._sent:
                self._tell(Kill(self.uuid, "ORIGINATOR_CANCEL"))

    def _is_taken_back(self) -> bool:
        return self._cancelled

    async def run(self) -> None:
        """Places the call and follows it to its end.

        Cancelled, it hangs up a call nobody talks on, and leaves the attempt open for recovery to resolve.
        """
        with self._world.live_calls.follow(self.uuid, self._switch.name) as customer:
            told = False
            try:
                placed = await self._place()
                if placed:
                    await self._follow(customer)
                    self._hear_of_trunk(customer.leg)
                    async with on_the_list_first(self._opt_out(customer.leg), self._world):
                        await self._see_it_end(customer)
                        await self._write_down(customer.leg)
                told = True
            finally:
                if not told and not self._goes_on_alone(customer.leg) and not customer.leg.ended:
                    self._tell(Kill(self.uuid, "ORIGINATOR_CANCEL"))
        await self._gateway.release(self.uuid)

    def _goes_on_alone(self, leg: Leg) -> bool:
        """Whether the call is left to itself when the daemon stops; the next life finds it."""
        return leg.bridged or (self._message is not None and leg.answered)

    @property
    def _message(self) -> Message | None:
        """What is played to whoever answered, if anything."""
        return self._apology

    def _opt_out(self, leg: Leg) -> OptOut | None:
        """What goes on the do-not-call list, if the person has pressed the key for it."""
        if self._message is None or not self._message.opted_out(leg):
            return None
        return by_key(self.lease.number, self.uuid, self._campaign, self._world.clock.now())

    def _command(self) -> Originate:
        """Raises InputRefusedError."""
        gateway, world = self._gateway.settings, self._world
        pooled = self.lease.caller_id
        return customer_call(
            self.uuid, self.lease.number, gateway, self._campaign, world.calls, world.node, pooled=pooled
        )

    def _an_agent(self, deadline: float) -> AbstractAsyncContextManager[Claim | None]:
        """Holds an agent for the block, or None if none was idle by `deadline`."""
        return self._world.roster.claimed(self._campaign.team_name, self._switch.name, self.uuid, deadline=deadline)

    async def _place(self) -> bool:
        """Sends the originate. False if it certainly never went out, and the lead is back in its place."""
        gateway = self._gateway.settings
        try:
            command = self._command()
            self._originated_at = self._world.clock.now()
            if self._is_taken_back():
                raise UnavailableError("it was taken back before it was sent")
            await self._switch.submit_accepted(command, self.uuid)
            self._sent = True
            if self._is_taken_back():  # while it was on its way: the switch may not have known it yet
                self._tell(Kill(self.uuid, "ORIGINATOR_CANCEL"))
        except UnavailableError:
            await self._world.ledger.return_unsent(self.lease)
            return False
        except (InputRefusedError, CommandRefusedError) as error:
            self._log.error("originate_refused", error=str(error), gateway=gateway.name)
            self._ending = Ending(failure=str(error))
        except OutcomeUnknownError as error:
            self._sent = True  # perhaps: it can be taken back
            self._log.warning("originate_unanswered", error=str(error))  # events or recovery will tell
        self._world.metrics.counts["originated"] += 1
        return True

    async def _follow(self, customer: LegWatch) -> None:
        """From ringing to the end of the conversation."""
        if self._ending.failure:
            return
        with trio.move_on_after(self._campaign.ring_seconds + RING_MARGIN_SECONDS):
            await customer.wait_until(lambda leg: bool(leg.ringing_us) or leg.answered or leg.ended)
            self._hear_of_trunk(customer.leg)
            if not customer.leg.answered and not customer.leg.ended:
                self._move(Phase.RINGING)
            await customer.wait_until(lambda leg: leg.answered or leg.ended)
        if not customer.leg.answered or customer.leg.ended:
            return
        self._world.metrics.counts["answered"] += 1
        async with self._while_alive(customer):
            await self._connect(customer)

    def _hear_of_trunk(self, leg: Leg) -> None:
        """Tells the trunk what the call says of it, once; and goes over to another if it would not carry the call."""
        if self._trunk_says is not Sign.NEITHER or self._ending.failure:
            return
        gateway, world, lease = self._gateway, self._world, self.lease
        self._trunk_says = sign = sign_of(gateway.settings, leg)
        if gateway.heard(sign, self.uuid, failure_of(leg), refused_before=lease.refused_before):
            world.metrics.counts["gateways_parked"] += 1
        if sign is not Sign.FAULT:
            return
        world.metrics.counts["trunk_faults"] += 1
        others = others_for(lease, self._campaign.gateways, world.gateways, world.switches)
        if goes_on(sign, lease.gateway, lease.history.failed_gateways, others):
            self._ending = attrs.evolve(self._ending, failed_over=True)

    @contextlib.asynccontextmanager
    async def _while_alive(self, customer: LegWatch) -> AsyncIterator[None]:
        """Cancels its block when the customer's call ends."""
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await customer.wait_until(lambda leg: leg.ended)
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            yield
            nursery.cancel_scope.cancel()

    async def _connect(self, customer: LegWatch) -> None:
        """Finds agents, one after the other if need be, until one talks or the time is up."""
        await self._find_agent(customer, trio.current_time() + self._campaign.connect_seconds)

    async def _find_agent(self, customer: LegWatch, deadline: float) -> None:
        self._move(Phase.WAITING)
        while not customer.leg.bridged_us:
            with trio.move_on_at(deadline):
                await self._switch.wait_ready()  # nothing can be bridged before, and no agent is held for it
            if self._was_bridged(customer):  # asked for before the link was lost, and found by recovery
                break
            async with self._an_agent(deadline) as claim:
                if claim is None:
                    break
                self._move(Phase.CONNECTING)
                async with self._agent_leg(claim, customer) as agent_leg:
                    if agent_leg is not None and await self._bridge(customer, agent_leg, claim):
                        await self._talk(customer, agent_leg, claim)
                        return
            self._move(Phase.WAITING)
        if not customer.leg.bridged_us:
            await self._say_sorry(customer)

    def _was_bridged(self, customer: LegWatch) -> bool:
        return customer.leg.bridged_us != 0

    @contextlib.asynccontextmanager
    async def _agent_leg(self, claim: Claim, customer: LegWatch) -> AsyncIterator[LegWatch | None]:
        """The claimed agent's leg, answered: the parked one, or the phone rung for this call. None if not there.

        Leaving the block sees the leg back in park, or hung up, whatever happened to the customer; a nailed-up leg
        that cannot be brought back is lost, and said to be on the claim.
        """
        nailed_up = claim.phones is Phones.NAILED_UP
        leg_uuid = claim.leg if nailed_up else str(uuids.uuid4())
        with self._world.live_calls.follow(leg_uuid, self._switch.name) as agent_leg:
            if nailed_up and not agent_leg.leg.executing_us:  # kept by another daemon, which says that it is parked
                agent_leg.become(agent_leg.leg.found(microseconds(self._world.clock.now())))
            parks_before = agent_leg.leg.parks
            left_in_order = False
            try:
                ready = nailed_up or await self._ring_phone(claim, agent_leg)
                yield agent_leg if ready and not agent_leg.leg.ended else None
                left_in_order = True
            finally:
                # Cut short with both legs in the bridge, it is a stop: they talk on, and the next life finds them.
                claim.kept = not left_in_order and customer.leg.bridged and not agent_leg.leg.ended
                if claim.bridge_asked and customer.leg.bridged_us:  # though nobody may have told us when it was
                    self._note_talk(claim, agent_leg)
                with trio.CancelScope(shield=True):
                    await self._note_who_hung_up(agent_leg)
                    if nailed_up and not claim.kept:
                        talked = bool(self._ending.agent)
                        await see_parked(
                            claim, agent_leg, parks_before, self._switch, self._world.metrics, talked=talked
                        )
                    elif not claim.kept and not agent_leg.leg.ended:
                        self._tell(Kill(leg_uuid))

    async def _note_who_hung_up(self, agent_leg: LegWatch) -> None:
        """Both legs end within a frame, in either order: only their SIP dialogues tell who began."""
        if agent_leg.leg.ended and self._ending.agent:
            with trio.move_on_after(COMPLETE_SECONDS):
                await agent_leg.wait_until(lambda leg: leg.complete)
            by_agent = agent_leg.leg.hung_up_by is HungUpBy.FAR_END
            self._ending = attrs.evolve(self._ending, agent_ended_it=by_agent)

    async def _ring_phone(self, claim: Claim, agent_leg: LegWatch) -> bool:
        settings = self._world.switch_settings[self._switch.name]
        command = agent_call(
            agent_leg.leg.uuid,
            claim.extension,
            settings.domain,
            self._campaign,
            self._world.calls,
            self._world.node,
            nailed_up=False,
        )
        try:
            await self._switch.submit_accepted(command, agent_leg.leg.uuid)
        except (UnavailableError, OutcomeUnknownError, CommandRefusedError) as error:
            self._log.warning("agent_phone_not_rung", agent=claim.extension, error=str(error))
            return False
        with trio.move_on_after(self._campaign.agent_ring_seconds + RING_MARGIN_SECONDS):
            await agent_leg.wait_until(lambda leg: (leg.parked and leg.answered) or leg.ended)
        if agent_leg.leg.parked:
            return True
        if agent_leg.leg.vanished or not self._switch.ready:
            return False  # it was not the agent who did not answer
        self._world.metrics.counts["agent_phones_unanswered"] += 1
        self._log.warning("agent_phone_unanswered", agent=claim.extension, cause=agent_leg.leg.cause)
        with contextlib.suppress(UnavailableError), trio.move_on_after(TELL_SECONDS):
            # or the next person would wait for the same silent phone
            await self._world.roster.change(claim.extension, wants=Wants.PAUSE)
        return False

    async def _bridge(self, customer: LegWatch, agent_leg: LegWatch, claim: Claim) -> bool:
        """Asks for the bridge once the customer's channel executes, and believes only CHANNEL_BRIDGE."""
        agent_uuid = agent_leg.leg.uuid
        agent_ready_at = trio.current_time()
        with trio.move_on_after(self._campaign.connect_seconds + RING_MARGIN_SECONDS):
            await customer.wait_until(lambda leg: leg.bridgeable or leg.ended)
        if not customer.leg.bridgeable:
            return False
        try:
            ticket = self._switch.submit(Bridge(self.uuid, agent_uuid))
        except UnavailableError as error:
            self._log.warning("bridge_not_sent", error=str(error))
            return False
        claim.bridge_asked = True
        # From the reader's sight of the +OK, or from the agent's being held if that came later.
        seen_at = max(customer.bridgeable_seen_at or 0.0, agent_ready_at)
        self._world.metrics.ok_to_bridge_sent.record_seconds(trio.current_time() - seen_at)
        with trio.move_on_after(self._world.calls.bridge_seconds):
            await _first_of(
                lambda: customer.wait_until(lambda leg: leg.bridged_with == agent_uuid or leg.ended),
                lambda: agent_leg.wait_until(lambda leg: leg.ended),
                lambda: self._switch.refused(ticket),
            )
        if customer.leg.bridged_with == agent_uuid or await self._was_bridged_unseen(customer, agent_leg, ticket):
            return True
        claim.bridge_refused = (ticket.result or ticket.reply).startswith("-")
        self._world.metrics.counts["bridges_failed"] += 1
        self._log.warning(
            "bridge_failed", agent=claim.extension, answer=ticket.result, customer_cause=customer.leg.cause
        )
        return False

    async def _was_bridged_unseen(self, customer: LegWatch, agent_leg: LegWatch, ticket: Ticket) -> bool:
        """Asks the switch before a bridge is given up: if only its event was lost, they talk by now.

        The link may go in the 44 ms that a bridge takes: then this waits for the next one.
        """
        agent_uuid = agent_leg.leg.uuid
        with trio.move_on_after(UNKNOWN_SECONDS):
            while not (customer.leg.bridged or customer.leg.ended or agent_leg.leg.ended):
                if (ticket.result or ticket.reply).startswith("-"):
                    return False
                await self._switch.wait_ready()  # whatever recovery found is known from here on
                try:  # set when the bridge stands (switch_ivr_bridge.c, `switch_ivr_multi_threaded_bridge`)
                    other = await self._switch.run_command(GetVariable(self.uuid, "last_bridge_to"))
                except CommandRefusedError:
                    return False
                except (UnavailableError, OutcomeUnknownError) as error:
                    self._log.warning("bridge_not_asked_for", error=str(error))
                    continue
                if other.strip() != agent_uuid:
                    return customer.leg.bridged_with == agent_uuid
                if not customer.leg.ended:
                    now_us = microseconds(self._world.clock.now())
                    customer.become(customer.leg.found(now_us, bridged_with=agent_uuid))
        return customer.leg.bridged_with == agent_uuid

    async def _talk(self, customer: LegWatch, agent_leg: LegWatch, claim: Claim) -> None:
        """The conversation, until either side hangs up."""
        leg = customer.leg
        self._world.metrics.counts["bridged"] += 1
        waited_seconds = (leg.bridged_us - leg.answered_us) / 1_000_000
        self._connected_late = waited_seconds > self._campaign.connect_seconds
        self._world.metrics.answer_to_bridged.record_seconds(waited_seconds)
        recording = self._recording_path() if self._campaign.record else ""
        self._ending = attrs.evolve(self._ending, recording=recording)
        self._note_talk(claim, agent_leg)
        self._move(Phase.TALKING)
        async with trio.open_nursery() as beside:
            beside.start_soon(self._disarm, self.uuid)
            if claim.phones is Phones.ON_DEMAND:
                beside.start_soon(self._disarm, agent_leg.leg.uuid)
            if recording:
                beside.start_soon(self._ask, Record(self.uuid, recording))
            beside.start_soon(self._say_bridged, claim)
            with trio.move_on_after(self._world.calls.longest_conversation_seconds):
                await _first_of(
                    lambda: customer.wait_until(lambda leg: not leg.bridged),
                    lambda: agent_leg.wait_until(lambda leg: leg.ended),
                )
            beside.cancel_scope.cancel()
        if customer.leg.bridged and not agent_leg.leg.ended:
            await self._ask(Kill(self.uuid, "ALLOTTED_TIMEOUT"))

    async def _say_bridged(self, claim: Claim) -> None:
        # To the end, however short the talk; with Redis away whoever keeps house says it again.
        with trio.CancelScope(shield=True), trio.move_on_after(TELL_SECONDS), contextlib.suppress(UnavailableError):
            await self._world.roster.bridged(claim)

    def _note_talk(self, claim: Claim, agent_leg: LegWatch) -> None:
        claim.wrap_up_seconds = self._campaign.wrap_up_seconds
        self._ending = attrs.evolve(self._ending, agent=claim.extension, agent_leg=agent_leg.leg.uuid)

    async def _disarm(self, uuid: str) -> None:
        """Takes back the dead man's hang-up, again and again until the switch has heard it: it would cut the talk."""
        while True:
            try:
                await self._switch.run_command(Unschedule(uuid))
            except CommandRefusedError:
                return
            except (UnavailableError, OutcomeUnknownError) as error:
                self._log.warning("dead_man_not_disarmed", error=str(error))
                await trio.sleep(DISARM_AGAIN_SECONDS)
                await self._switch.wait_ready()
            else:
                return

    async def _say_sorry(self, customer: LegWatch) -> None:
        """No agent in time: the campaign's message, then the end. Never silence."""
        self._ending = attrs.evolve(self._ending, abandoned=True)
        self._move(Phase.CLOSING)
        self._world.metrics.counts["abandoned"] += 1
        self._log.warning("abandoned", waited_seconds=self._campaign.connect_seconds)
        self._apology = apology(self._campaign, customer.leg)
        await play_apology(customer, self._apology, self._world.calls.longest_message_seconds, self._ask, self._tell)

    async def _see_it_end(self, customer: LegWatch) -> None:
        """The customer's channel is gone when this returns, or its outcome is unknown."""
        if not self._ending.failed_over:  # its place is kept until it is written, for the lead goes out again at once
            self._move(Phase.CLOSING)
        if self._ending.failure:
            return
        if not customer.leg.ended:
            if self._ending.agent:
                # The agent's leg is gone or has left; the switch hangs the customer up with it, mostly.
                with trio.move_on_after(COMPLETE_SECONDS):
                    await customer.wait_until(lambda leg: leg.ended)
            with trio.move_on_after(UNKNOWN_SECONDS):
                while not customer.leg.ended:
                    await self._switch.wait_ready()
                    await self._ask(Kill(self.uuid))
                    with trio.move_on_after(HANGUP_SECONDS):
                        await customer.wait_until(lambda leg: leg.ended)
        if not customer.leg.ended or customer.leg.vanished:
            self._ending = attrs.evolve(self._ending, unknown=True)
            self._log.warning("outcome_unknown", switch=self._switch.name)
            self._tell(Kill(self.uuid))  # should it be there after all, nobody follows it any more
        else:
            with trio.move_on_after(COMPLETE_SECONDS):
                await customer.wait_until(lambda leg: leg.complete)

    async def _write_down(self, leg: Leg) -> None:
        """The record, the lead's next step and the result, in one transaction."""
        self._note_message(leg)
        now = self._world.clock.now()
        record = record_of(
            leg,
            self._ending,
            self.lease,
            self._campaign,
            self._campaign_id,
            caller_id=self._gateway.settings.caller_id,
            node=self._world.node,
            originated_at=self._originated_at,
            now=now,
        )
        self._abandoned_on_record = bool(record.abandoned)
        disposition = Disposition(record.disposition)
        self._world.metrics.counts[f"disposition_{disposition.value}"] += 1
        step = next_step(disposition, self.lease, self._campaign, now)
        await self._world.ledger.close(
            record, step, opt_out=self._opt_out(leg), default_outcome=default_name(self._campaign)
        )
        self._log.info(
            "attempt_closed",
            number=self.lease.number,
            disposition=disposition.value,
            cause=record.hangup_cause,
            agent=record.agent,
            wait_ms=record.wait_ms,
            talk_ms=record.talk_ms,
        )

    def _note_message(self, leg: Leg) -> None:
        if self._message is not None:
            self._ending = apology_ending(leg, self._ending, self._message)

    def _recording_path(self) -> str:
        directory = self._world.switch_settings[self._switch.name].recordings_dir
        return f"{directory}/{self._campaign.name}/{self._originated_at:%Y-%m-%d}/{self.uuid}.wav"

    def _move(self, phase: Phase) -> None:
        if phase is not self.phase:
            self.phase = phase
            self._on_change(self)

    def _tell(self, command: Command) -> None:
        tell(self._switch, command)

    async def _ask(self, command: Command) -> bool:
        return await ask(self._switch, command)


async def _first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Returns when the first of `waits` does; the others are cancelled."""
    async with trio.open_nursery() as nursery:

        async def one(wait: Callable[[], Awaitable[object]]) -> None:
            await wait()
            nursery.cancel_scope.cancel()

        for wait in waits:
            nursery.start_soon(one, wait)
