"""Keeps one FreeSWITCH and what is believed of it in line: at each connect, every minute, and whenever in doubt.

Events are the truth while they come whole. After a new connection, a gap in their numbers, or simply a minute, the
switch is asked what it really has: legs followed and not there have ended unseen, calls nobody follows are adopted or
hung up, attempts left open are brought to their result, registrations are read anew.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Final

import structlog
import trio

from campaigns.leases import OpenAttempt
from dialer.agents.agent import Agent, Phones
from dialer.agents.nailed_up import NailedUpPhones
from dialer.agents.presence import Presence
from dialer.agents.roster import Claim
from dialer.calls.recovery import hang_up_orphans, reconcile_legs, resolve_attempt, whose_leg
from dialer.calls.snapshot import Snapshot, exists, take_snapshot
from dialer.calls.trunk_watch import ask_lines, notice_line
from dialer.calls.world import World
from dialer.campaign_desk import CampaignDesk
from dialer.clock import microseconds
from dialer.errors import OutcomeUnknownError, UnavailableError
from dialer.esl.conversation import SequenceJumped
from dialer.esl.messages import Event
from dialer.esl.switch import Switch
from dialer.records.ledger import DatabaseLedger
from dialer.wrap_up import WrapUp

log = structlog.get_logger()

LOOK_EVERY_SECONDS: Final = 60.0
DOUBT_SECONDS: Final = 2.0
# `show channels` and `show calls` are written by a thread of their own and lag behind events by up to some 100 ms.
LIST_LAG_SECONDS: Final = 0.5
# An attempt is followed a moment after it has been written down; one this old that nobody follows was forgotten.
FORGOTTEN_AFTER_SECONDS: Final = 30.0
# Events this late tell of a reader that does not keep up: what they say is not true any more.
MAX_EVENT_LAG_SECONDS: Final = 5.0


class SwitchKeeper:
    """One switch, its link, and the looks at it. `run` does everything."""

    def __init__(
        self,
        switch: Switch,
        world: World,
        presence: Presence,
        phones: NailedUpPhones,
        campaigns: CampaignDesk,
        ledger: DatabaseLedger,
        wrap_up: WrapUp,
    ) -> None:
        self.switch = switch
        self._world = world
        self._presence = presence
        self._phones = phones
        self._campaigns = campaigns
        self._ledger = ledger
        self._wrap_up = wrap_up
        self._adopted = False  # what a former life left has been looked for
        self._resolving: set[str] = set()
        self._recovers = True
        self._in_doubt = False
        self._looked_at = -math.inf
        self._least_lag_seconds = math.inf

    def __repr__(self) -> str:
        return f"<SwitchKeeper of {self.switch.name}, resolving {len(self._resolving)} attempts>"

    async def run(self, calls: trio.Nursery) -> None:
        """Keeps the link and looks, until cancelled. Attempts left open are resolved in `calls`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_again_and_again, calls)

            async def on_epoch(switch: Switch) -> None:
                self._least_lag_seconds = math.inf
                self._presence.link_begins(switch.name)
                await trio.sleep(LIST_LAG_SECONDS)
                await self._look(calls)

            await self.switch.run(on_event=self._on_event, on_epoch=on_epoch, on_jump=self._on_jump)

    def stop_recovering(self) -> None:
        """The daemon is stopping: what is left open from now on is for its next life."""
        self._recovers = False

    def doubt(self) -> None:
        """What is believed may be wrong: the switch is looked at soon."""
        self._in_doubt = True
        self._world.doubts[self.switch.name] = "what is believed of the switch may be wrong, and it is looked at anew"

    def _on_event(self, event: Event) -> None:
        self._world.live_calls.route(event)
        notice_line(self._world.gateways, self.switch.name, event)
        self._presence.notice(self.switch.name, event)
        self._wrap_up.notice(event)
        lag_seconds = (microseconds(self._world.clock.now()) - event.timestamp_us) / 1_000_000
        self._world.metrics.event_lag.record_seconds(lag_seconds)
        # The clocks of two machines may disagree: only what is lost against the best counts.
        self._least_lag_seconds = min(self._least_lag_seconds, lag_seconds)
        self._world.metrics.note_event_lag(lag_seconds - self._least_lag_seconds)
        if lag_seconds - self._least_lag_seconds > MAX_EVENT_LAG_SECONDS:
            self.switch.drop_link(f"events are read {lag_seconds - self._least_lag_seconds:.1f} s late")

    def _on_jump(self, _jump: SequenceJumped) -> None:
        self.doubt()

    async def _look_again_and_again(self, calls: trio.Nursery) -> None:
        while True:
            await trio.sleep(DOUBT_SECONDS)
            overflowed = self.switch.name in self._presence.overflowed
            due = trio.current_time() - self._looked_at > LOOK_EVERY_SECONDS
            if not self.switch.ready:
                continue
            try:
                if due or self._in_doubt or overflowed:
                    await self._look(calls)
                else:  # one that comes up without registering does so without a word, and a new one is not known yet
                    await ask_lines(self._world.gateways, self.switch, doubtful=True)
            except (UnavailableError, OutcomeUnknownError) as error:
                self.doubt()
                log.warning("switch_not_looked_at", switch=self.switch.name, error=str(error))

    async def _look(self, calls: trio.Nursery) -> None:
        """Puts every belief about the switch right. Raises UnavailableError or OutcomeUnknownError if it cannot."""
        self._in_doubt = False
        switch, world = self.switch, self._world
        await ask_lines(world.gateways, switch)
        leftovers = await self._leftovers()
        self._presence.look_begins(switch.name)
        lists_true_since = trio.current_time() - LIST_LAG_SECONDS
        snapshot = await take_snapshot(switch)
        if not await reconcile_legs(world, switch, snapshot, true_since=lists_true_since):
            self.doubt()
        agents = await world.roster.agents()
        if not self._adopted:
            agents = await self._remember_talks(leftovers, agents, snapshot)
        legs = {agent.extension: agent.leg for agent in agents if agent.node == world.node and agent.leg}
        owned = {*legs.values(), *(one.row.uuid for one in leftovers)}
        snapshot = await hang_up_orphans(world, switch, snapshot, owned)
        ours = frozenset({*(agent.leg for agent in agents), *world.live_calls.uuids()})
        await self._presence.rebuild(switch, snapshot, ours)
        await self._forget_lost_legs(agents, snapshot)
        if not self._adopted:
            self._phones.adopt(legs, snapshot)
        await self._resolve(leftovers, agents, snapshot, calls)
        self._adopted = True
        if not self._in_doubt:  # nor once more meanwhile
            world.doubts.pop(switch.name, None)
        self._looked_at = trio.current_time()
        self._phones.wake()

    async def _remember_talks(
        self, leftovers: list[OpenAttempt], agents: list[Agent], snapshot: Snapshot
    ) -> list[Agent]:
        """Tells a Redis who talks that lost its data while no daemon was there: the legs know whose they are.

        Without it a phone would be rung, and its agent sent to another call, in the middle of a conversation.
        """
        switch, roster = self.switch, self._world.roster
        claimed, free = {one.token for one in agents}, {one.extension: one for one in agents if not one.token}
        talks: dict[str, Agent] = {}
        legs: dict[str, str] = {}
        for uuid in (one.row.uuid for one in leftovers if one.row.uuid not in claimed):
            leg = snapshot.bridged_with.get(uuid)
            agent = free.get(await whose_leg(switch, leg)) if leg is not None else None
            if leg is not None and agent is not None:
                talks[uuid] = agent
                if agent.phones is Phones.NAILED_UP:
                    legs[agent.extension] = leg
        if not talks:
            return agents
        log.warning("conversations_remembered", switch=switch.name, attempts=len(talks))
        await roster.remember_talks({uuid: agent.extension for uuid, agent in talks.items()})
        for extension, leg in legs.items():  # after that: a leg that is known and free is sent to
            await roster.change(extension, leg=leg, leg_switch=switch.name)
        return await roster.agents()

    async def _forget_lost_legs(self, agents: list[Agent], snapshot: Snapshot) -> None:
        """Agents of other daemons whose leg is gone are not sent to: their own daemon may be gone as well."""
        switch, roster = self.switch, self._world.roster
        for agent in agents:
            if agent.node == self._world.node or not agent.leg or agent.leg_switch != switch.name or agent.token:
                continue
            if agent.leg in snapshot.channels or await exists(switch, agent.leg):
                continue
            known = await roster.agent(agent.extension)
            if known.leg == agent.leg and not known.token:
                log.warning("agent_leg_lost", agent=agent.extension, leg=agent.leg, node=agent.node)
                await roster.change(agent.extension, leg="")

    async def _leftovers(self) -> list[OpenAttempt]:
        """Attempts of this daemon on this switch that are open and that nobody follows.

        The first look finds what a former life left; later ones find what was forgotten.
        """
        written_before = self._world.clock.now() - timedelta(seconds=FORGOTTEN_AFTER_SECONDS)
        return [
            one
            for one in await self._ledger.open_attempts()
            if (one.row.switch == self.switch.name or one.row.switch not in self._world.switches)
            and one.row.uuid not in self._world.live_calls
            and not self._campaigns.tells(one.row.campaign_id, one.row.uuid)
            and one.row.uuid not in self._resolving
            # Of a former life's all, whatever its clock said.
            and (not self._adopted or one.row.opened_at <= written_before)
        ]

    async def _resolve(
        self, leftovers: list[OpenAttempt], agents: list[Agent], snapshot: Snapshot, calls: trio.Nursery
    ) -> None:
        """Brings each of `leftovers` to its end, once."""
        if leftovers:
            await self._campaigns.refresh()
        # Of a campaign that this version cannot read nothing comes to its end: the claim is left to its lease.
        open_ones = {one.row.uuid for one in leftovers if self._campaigns.by_id(one.row.campaign_id) is not None}
        claims = await self._world.roster.hold_again([agent for agent in agents if agent.token in open_ones])
        for one in leftovers:
            if self._recovers:
                self._resolving.add(one.row.uuid)
                calls.start_soon(self._resolve_one, one, snapshot, claims.get(one.row.uuid))

    async def _resolve_one(self, left: OpenAttempt, snapshot: Snapshot, claim: Claim | None) -> None:
        row = left.row
        campaign = self._campaigns.by_id(row.campaign_id)
        try:
            if campaign is None:
                log.error("attempt_of_unknown_campaign", attempt=row.uuid)
            else:
                with self._campaigns.resolving(row.campaign_id, row.uuid):
                    await resolve_attempt(left, campaign, self._world, snapshot, claim)
        except Exception:  # one attempt less, and no daemon less; it stays open and is looked at again
            log.exception("recovery_broke", attempt=row.uuid)
        finally:
            self._resolving.discard(row.uuid)
