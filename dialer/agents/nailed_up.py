"""Keeps the parked leg of every agent with a nailed-up phone: rings it, watches it, replaces it when it is lost.

One task an agent. Losing a leg now and then is normal life (one bridge in some thousands takes it along), so a lost
leg is counted and rung again; a phone nobody picks up pauses its agent instead of ringing for ever.
"""

from __future__ import annotations

import uuid as uuids
from collections.abc import Callable, Mapping
from typing import Final

import structlog
import trio
import trio.lowlevel

from campaigns.campaign import Campaign
from dialer.agents.agent import Agent, Phones, Wants
from dialer.calls.live_calls import LegWatch
from dialer.calls.originate import DEAD_MAN_CAUSE, agent_call
from dialer.calls.snapshot import Snapshot, exists
from dialer.calls.world import World
from dialer.clock import microseconds
from dialer.errors import InputRefusedError, OutcomeUnknownError, UnavailableError
from dialer.esl.commands import Command, Kill, ScheduleHangup, Unschedule
from dialer.esl.link import CommandRefusedError
from dialer.esl.switch import Switch

log = structlog.get_logger()

LOOK_AGAIN_SECONDS: Final = 0.5
# All agents are read this often, and at once when one of them asks for something at this daemon's door.
READ_AGENTS_SECONDS: Final = 5.0
RING_MARGIN_SECONDS: Final = 5.0
KILL_SECONDS: Final = 2.0
# A phone not picked up this often in a row belongs to somebody who is not there.
MAX_UNANSWERED_RINGS: Final = 3
# A conversation that is cut by its dead daemon must have lasted less than this.
REARM_AFTER_SECONDS: Final = 1.0


class NailedUpPhones:
    """The keepers of all nailed-up phones of this daemon."""

    def __init__(self, world: World, campaign_of_team: Callable[[str], Campaign | None]) -> None:
        self._world = world
        self._campaign_of_team = campaign_of_team
        self._keepers: set[str] = set()
        self._wake = trio.Event()
        # The agents as last read, all in one go: each keeper asking for its own would be most of Redis' work.
        self._agents: dict[str, Agent] = {}
        self._read_at = 0.0
        # Legs that are up, by extension: the leg and its switch.
        self._up: dict[str, tuple[str, str]] = {}
        # Legs found on the switch at the start, by uuid: to be kept, not rung anew.
        self._found: dict[str, Snapshot] = {}

    def __repr__(self) -> str:
        return f"<NailedUpPhones keeping {len(self._keepers)} legs>"

    def adopt(self, legs: Mapping[str, str], snapshot: Snapshot) -> None:
        """The legs (by extension) that `snapshot` shows to be up are kept on."""
        for leg in legs.values():
            if leg in snapshot.channels:
                self._found[leg] = snapshot

    def facts(self) -> dict[str, dict[str, str | int]]:
        """The legs that are kept, as facts of their agents."""
        return {extension: {"leg": leg, "leg_switch": switch} for extension, (leg, switch) in self._up.items()}

    def agent_of(self, leg: str) -> str | None:
        """Whose leg (uuid) is kept here; None if it is nobody's."""
        return next((extension for extension, (mine, _) in self._up.items() if mine == leg), None)

    def wake(self) -> None:
        """An agent's facts have changed."""
        wake, self._wake = self._wake, trio.Event()
        wake.set()

    async def run(self) -> None:
        """Keeps every leg that is wanted, until cancelled; then hangs up those nobody talks on."""
        async with trio.open_nursery() as nursery:
            while True:
                read_at = trio.current_time()
                try:
                    self._agents = {agent.extension: agent for agent in await self._world.roster.agents()}
                    self._read_at = read_at
                except UnavailableError as error:
                    log.warning("agents_not_read", error=str(error))
                for agent in self._agents.values():
                    if self._wanted(agent) and agent.extension not in self._keepers:
                        self._keepers.add(agent.extension)
                        nursery.start_soon(self._keep, agent)
                wake = self._wake
                with trio.move_on_after(READ_AGENTS_SECONDS):
                    await wake.wait()

    def _wanted(self, agent: Agent) -> bool:
        return (
            agent.phones is Phones.NAILED_UP
            and agent.node == self._world.node
            and (agent.wants is not Wants.LOGOUT or bool(agent.leg))
        )

    async def _keep(self, agent: Agent) -> None:
        """Until nobody wants the phone of `agent` kept: one leg after the other."""
        extension, unanswered = agent.extension, 0
        just_read = True
        try:
            while True:
                try:
                    if not just_read:
                        agent = await self._world.roster.agent(extension)
                    just_read = False
                    if not self._wanted(agent):
                        return
                    unanswered = 0 if await self._keep_one_leg(agent) else unanswered + 1
                    if unanswered >= MAX_UNANSWERED_RINGS:
                        log.warning("agent_paused_phone_unanswered", agent=extension, rings=unanswered)
                        await self._world.roster.change(extension, wants=Wants.PAUSE)
                        unanswered = 0
                except (UnavailableError, OutcomeUnknownError) as error:
                    log.warning("agent_leg_not_kept", agent=extension, error=str(error))
                await trio.sleep(LOOK_AGAIN_SECONDS * (1 + 4 * unanswered))
        finally:
            self._keepers.discard(extension)

    async def _keep_one_leg(self, agent: Agent) -> bool:
        """One life of one leg. False if the phone was rung and not answered."""
        found = agent.leg in self._found
        switch = self._world.switches.get(agent.leg_switch if found else agent.switch)
        campaign = self._campaign_of_team(agent.campaign)
        if switch is None or not switch.ready or campaign is None:
            return True
        snapshot = self._found.pop(agent.leg, None) if agent.leg else None
        if snapshot is None:
            if agent.leg:
                await self._world.roster.change(agent.extension, leg="")
            if agent.wants is not Wants.READY:
                return True  # a paused agent is rung when ready again
        leg_uuid = str(uuids.uuid4()) if snapshot is None else agent.leg
        with self._world.live_calls.follow(leg_uuid, switch.name) as watch:
            try:
                if snapshot is not None:
                    await self._find(watch, switch, snapshot.bridged_with.get(leg_uuid, ""))
                elif not await self._ring(watch, agent, campaign, switch):
                    return False
                self._up[agent.extension] = (leg_uuid, switch.name)
                if snapshot is None or agent.leg_switch != switch.name:
                    await self._world.roster.change(agent.extension, leg=leg_uuid, leg_switch=switch.name)
                self._world.metrics.counts["agent_legs_up"] += 1
                await self._tend(watch, agent.extension, switch)
            finally:
                self._up.pop(agent.extension, None)
                with trio.CancelScope(shield=True):
                    await self._give_up(watch, agent.extension, switch)
        return True

    async def _find(self, watch: LegWatch, switch: Switch, bridged_with: str) -> None:
        """Takes over a leg of a former life; it may have ended since it was listed."""
        watch.become(watch.leg.found(microseconds(self._world.clock.now()), bridged_with=bridged_with))
        try:
            if not await exists(switch, watch.leg.uuid):
                watch.become(watch.leg.gone(microseconds(self._world.clock.now())))
        except (UnavailableError, OutcomeUnknownError) as error:  # the next look at the switch tells
            log.warning("agent_leg_not_asked_for", leg=watch.leg.uuid, error=str(error))

    async def _ring(self, watch: LegWatch, agent: Agent, campaign: Campaign, switch: Switch) -> bool:
        domain = self._world.switch_settings[switch.name].domain
        try:
            command = agent_call(
                watch.leg.uuid, agent.extension, domain, campaign, self._world.calls, self._world.node, nailed_up=True
            )
            await switch.submit_accepted(command, watch.leg.uuid)
        except (CommandRefusedError, InputRefusedError) as error:
            log.error("agent_phone_not_rung", agent=agent.extension, error=str(error))
            return False
        with trio.move_on_after(campaign.agent_ring_seconds + RING_MARGIN_SECONDS):
            await watch.wait_until(lambda leg: (leg.parked and leg.answered) or leg.ended)
        if not watch.leg.parked:
            log.warning("agent_phone_unanswered", agent=agent.extension, cause=watch.leg.cause)
        return watch.leg.parked

    async def _tend(self, watch: LegWatch, extension: str, switch: Switch) -> None:
        """Until the leg ends or is not wanted: keeps putting off the hang-up that a dead daemon would leave."""
        calls = self._world.calls
        armed_for_talk = False
        tended_since = armed_at = trio.current_time()
        while not watch.leg.ended:
            bridged = watch.leg.bridged
            if not switch.ready:
                pass  # the handle is far away, and what is asked now is not heard
            elif bridged and not armed_for_talk:
                with trio.move_on_after(REARM_AFTER_SECONDS):
                    await watch.wait_until(lambda leg: not leg.bridged)
                if watch.leg.bridged:
                    armed_for_talk = await self._arm(switch, watch, calls.longest_conversation_seconds)
                    armed_at = trio.current_time()
            elif not bridged and (armed_for_talk or trio.current_time() - armed_at > calls.parked_leg_seconds / 3):
                armed_for_talk = not await self._arm(switch, watch, calls.parked_leg_seconds) and armed_for_talk
                armed_at = trio.current_time()
            agent = self._agents.get(extension)
            # Facts read before the leg was written into them tell of a time before it.
            if agent is not None and self._read_at > tended_since and not agent.token:
                replaced = agent.leg != watch.leg.uuid
                moved = agent.switch not in ("", switch.name)
                if replaced or moved or not self._wanted(agent) or agent.wants is Wants.LOGOUT:
                    return
            with trio.move_on_after(LOOK_AGAIN_SECONDS):
                await watch.wait_until(lambda leg: leg.ended or leg.bridged != bridged)  # noqa: B023 - used at once

    async def _arm(self, switch: Switch, watch: LegWatch, seconds: int) -> bool:
        """Replaces the scheduled hang-up. One after the other: background jobs overtake each other."""
        commands: tuple[Command, ...] = (
            Unschedule(watch.leg.uuid),
            ScheduleHangup(watch.leg.uuid, seconds, DEAD_MAN_CAUSE),
        )
        for command in commands:
            try:
                await switch.run_command(command)
            except CommandRefusedError as error:
                log.debug("dead_man_not_armed", error=str(error))
            except (UnavailableError, OutcomeUnknownError) as error:
                log.warning("dead_man_not_armed", error=str(error))
                return False
        return True

    async def _give_up(self, watch: LegWatch, extension: str, switch: Switch) -> None:
        """The leg is gone or not wanted: nobody is to be sent there any more."""
        # A stop while they talk, or while the switch is away: the next life finds the leg by the agent's facts.
        if watch.leg.bridged or not (watch.leg.ended or switch.connected):
            return
        try:
            agent = await self._world.roster.agent(extension)
            if agent.leg == watch.leg.uuid:
                await self._world.roster.change(extension, leg="")
                agent = await self._world.roster.agent(extension)
            if agent.token and not watch.leg.ended:
                return  # claimed in the last moment: the dead man's hang-up ends the leg once it has been let go
        except UnavailableError as error:
            log.warning("agent_leg_still_on_the_roster", agent=extension, error=str(error))
        if watch.leg.ended:
            log.info("agent_leg_ended", agent=extension, cause=watch.leg.cause)
            return
        try:
            await switch.run_command(Kill(watch.leg.uuid), within_seconds=KILL_SECONDS)
        except (UnavailableError, OutcomeUnknownError, CommandRefusedError) as error:
            log.warning("agent_leg_not_hung_up", agent=extension, error=str(error))
