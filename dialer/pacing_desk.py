"""The pacing of every campaign of this daemon: found, counted, stored by hour of the day, and told what agents do.

It is stored by whichever daemon dials, and read again by whichever takes over.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Final

import structlog
import trio

from campaigns import store
from campaigns.campaign import Campaign
from campaigns.database import Database
from dialer.agents.agent import AgentState, Wants
from dialer.campaign_pacing import CampaignPacing, Team
from dialer.clock import Clock
from dialer.errors import OutcomeUnknownError, UnavailableError
from dialer.pacing.purse import Purse
from dialer.pacing.state import PacingState
from dialer.pacing.supply import Supply

log = structlog.get_logger()

STORE_SECONDS: Final = 60.0
COUNT_SECONDS: Final = 10.0
# What was stored longer ago than this says less of an hour than that hour, on another day.
_STALE: Final = timedelta(hours=1)


def _budget_name(campaign: Campaign) -> str:
    return f"group {campaign.budget_group}" if campaign.budget_group else campaign.name


class PacingDesk:
    """The pacing of every campaign of this daemon, and the agents that they share."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._campaigns: dict[int, CampaignPacing] = {}
        self._teams: defaultdict[str, Team] = defaultdict(Team)
        self._purses: dict[str, Purse] = {}
        # When what is known of each campaign, and of each budget, was stored last, by whichever daemon.
        self._known_at: dict[int, datetime] = {}
        self._budget_at: dict[str, datetime] = {}
        self._where: dict[str, Supply] = {}  # the supply that an agent counts in

    def __repr__(self) -> str:
        return f"<PacingDesk {len(self._campaigns)} campaigns, {len(self._teams)} teams>"

    async def of(self, campaign_id: int, campaign: Campaign) -> CampaignPacing:
        """The pacing of a campaign, as it is defined now; what was stored of it is read the first time.

        Raises UnavailableError or OutcomeUnknownError if it cannot be read.
        """
        team, purse = self._teams[campaign.team_name], self._purse_of(campaign)
        known = self._campaigns.get(campaign_id)
        if known is not None:
            for other in self._teams.values():
                if other is not team:
                    other.leave(campaign_id)
            known.redefine(campaign, team, purse)
            if not known.running:  # it was not counted meanwhile
                await known.count(self._database)
        else:
            known = CampaignPacing(campaign_id, campaign, team, purse, self._clock)
            await self._read(known)
            await known.count(self._database)
            self._campaigns[campaign_id] = known
        team.campaigns[campaign_id] = known
        return known

    async def take_over(self, pacing: CampaignPacing) -> None:
        """This daemon dials for the campaign from now on: what was learned elsewhere meanwhile, or in this hour.

        Raises UnavailableError or OutcomeUnknownError if it cannot be read.
        """
        await self._read(pacing)
        await pacing.count(self._database)

    def known(self, campaign_id: int) -> CampaignPacing | None:
        """The pacing of a campaign that has run in this life of the daemon."""
        return self._campaigns.get(campaign_id)

    def team(self, name: str) -> Team:
        """The team called `name`."""
        return self._teams[name]

    def _purse_of(self, campaign: Campaign) -> Purse:
        name = _budget_name(campaign)
        others = (one.campaign for one in self._campaigns.values() if one.campaign.name != campaign.name)
        group = (campaign, *(one for one in others if _budget_name(one) == name))
        limit = min(one.abandon_limit_percent for one in group) / 100  # one budget: the strictest word holds
        if name not in self._purses:
            self._purses[name] = Purse(limit)
        self._purses[name].budget.limit = limit
        return self._purses[name]

    async def _read(self, pacing: CampaignPacing) -> None:
        rows = await self._database.read(lambda session: store.pacing_states(session, pacing.campaign_id))
        if not rows or not self._may_go_on_from(rows[0].updated_at, pacing):
            return
        states = []
        for row in rows:  # the newest first
            try:
                states.append((row, PacingState.from_json(row.state)))
            except ValueError as error:  # of another version: it learns anew
                log.warning("pacing_state_unreadable", campaign=pacing.campaign.name, error=str(error))
        if states:
            hour = self._clock.now().hour
            newest, latest = states[0]
            this_hour = next((state for row, state in states if row.hour == hour), latest)
            pacing.restore(this_hour, latest)
            name = _budget_name(pacing.campaign)
            at = self._budget_at.get(name)
            # Or another campaign of the group has gone on from it, and further.
            if pacing.budget.untouched if at is None else newest.updated_at > at:
                pacing.budget.restore(latest.budget)
                self._budget_at[name] = newest.updated_at
        self._known_at[pacing.campaign_id] = rows[0].updated_at

    def _may_go_on_from(self, stored_at: datetime, pacing: CampaignPacing) -> bool:
        """Whether what was stored then is more than this daemon knows, or of an hour that is not what it knows."""
        known_at = self._known_at.get(pacing.campaign_id)
        return known_at is None or stored_at > known_at or self._clock.now() - known_at > _STALE

    async def keep_house(self) -> None:
        """Counts and stores again and again, until cancelled; at the end stores once more."""
        stored_at = trio.current_time()
        try:
            while True:
                await trio.sleep(COUNT_SECONDS)
                try:
                    due = trio.current_time() - stored_at >= STORE_SECONDS
                    await self._count(all_of_them=due)  # days pass for those that do not run, too
                    if due:
                        stored_at = trio.current_time()
                        await self._store()
                except (UnavailableError, OutcomeUnknownError) as error:
                    log.warning("pacing_not_stored", error=str(error))
        finally:
            with trio.move_on_after(1.0, shield=True):
                try:
                    await self._store()
                except (UnavailableError, OutcomeUnknownError) as error:
                    log.warning("pacing_not_stored", error=str(error))

    async def _count(self, *, all_of_them: bool) -> None:
        counted = [one for one in self._campaigns.values() if all_of_them or one.changes]
        for pacing in counted:
            await pacing.count(self._database)
        for pacing in counted:
            pacing.forget_counted()

    async def _store(self) -> None:
        """What campaigns know that were dialed for here: what others know is of another time, or another daemon's."""
        now = self._clock.now()
        dialed, rows = [one for one in self._campaigns.values() if one.dialed], []
        for pacing in dialed:
            pacing.dialed = False
            rows.append((pacing.campaign_id, pacing.state().to_json()))
            await trio.lowlevel.checkpoint()  # each takes milliseconds
        if not rows:
            return
        try:
            await self._database.write(lambda session: store.keep_pacing_states(session, rows, now))
        except (UnavailableError, OutcomeUnknownError):
            for pacing in dialed:
                pacing.dialed = True
            raise
        for pacing in dialed:
            self._known_at[pacing.campaign_id] = self._budget_at[_budget_name(pacing.campaign)] = now

    # What agents do; see agents/roster.py `Watcher`.

    def agent_claimed(self, extension: str, team: str, switch: str) -> None:
        """The agent is held for a call."""
        supply = self._teams[team].supply(switch)
        before = self._where.get(extension)
        if before is not None and before is not supply:
            before.gone(extension, trio.current_time())
        self._where[extension] = supply
        supply.is_held(extension, trio.current_time())

    def talk_began(self, extension: str, seconds_ago: float = 0.0) -> None:
        """The call became a conversation."""
        if extension in self._where:
            self._where[extension].talk_begins(extension, trio.current_time() - seconds_ago)

    def agent_released(self, extension: str, wrap_up_seconds: float) -> None:
        """The call is over, for the agent."""
        if extension in self._where:
            now_seconds, supply = trio.current_time(), self._where[extension]
            supply.talk_ends(extension, now_seconds, now_seconds + wrap_up_seconds)
            if not wrap_up_seconds:  # idle at once, and nobody will say so
                supply.wrap_up_ends(extension, now_seconds, idle=True)

    def agent_became(self, extension: str, state: AgentState) -> None:
        """A wrap-up has ended, or a fact has changed."""
        if extension in self._where and state in (AgentState.IDLE, AgentState.PAUSED, AgentState.OFFLINE):
            idle = state is AgentState.IDLE
            self._where[extension].wrap_up_ends(extension, trio.current_time(), idle=idle)

    def agent_wants(self, extension: str, wants: Wants) -> None:
        """The agent has asked for something."""
        if extension in self._where:
            self._where[extension].leaves_after_call(extension, wants is not Wants.READY)
