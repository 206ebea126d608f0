"""A call for which an agent is held before it is placed: whoever answers finds exactly that agent.

The claim has the attempt's uuid for its token, as a claim made after the answer has, so nothing else is different:
the story is told by `Attempt`, and a dead daemon's claim runs out. An agent who goes before anybody has answered
takes the call back, since nobody is to answer it in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import structlog
import trio

from campaigns.campaign import Campaign
from campaigns.leases import Lease
from dialer.agents.agent import Agent, Phones, Wants
from dialer.agents.roster import Claim
from dialer.calls.attempt import UNANSWERED, Attempt, Phase
from dialer.calls.leg import Leg
from dialer.calls.world import World
from dialer.errors import UnavailableError

log = structlog.get_logger()

# A lost leg is told by an event; what the agent asks for, and where the phone is registered, is looked up.
LOOK_AT_AGENT_SECONDS: Final = 1.0


class HeldAttempt(Attempt):
    """An attempt with its agent from the start. `extension` is who that is."""

    def __init__(
        self,
        lease: Lease,
        campaign: Campaign,
        campaign_id: int,
        world: World,
        on_change: Callable[[Attempt], None],
        claim: Claim,
    ) -> None:
        super().__init__(lease, campaign, campaign_id, world, on_change)
        self._claim = claim
        self._used = False

    @property
    def extension(self) -> str:
        return self._claim.extension

    @property
    def wants_agent(self) -> bool:
        return False

    async def run(self) -> None:
        """Places the call and follows it to its end; the agent is given back whatever happens."""
        async with self._world.roster.holding(self._claim), trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_agent)
            await self._call()
            nursery.cancel_scope.cancel()

    async def _call(self) -> None:
        await super().run()

    async def _write_down(self, leg: Leg) -> None:
        """The agent is given back first: a record may have to wait for its database."""
        await self._world.roster.give_back(self._claim)
        await super()._write_down(leg)

    def _an_agent(self, deadline: float) -> AbstractAsyncContextManager[Claim | None]:
        if self._used:  # that agent's phone has failed: anybody is better than nobody
            return super()._an_agent(deadline)
        self._used = True
        return self._world.roster.holding(self._claim)

    async def _watch_agent(self) -> None:
        """Takes the call back when the agent has gone before somebody has answered."""
        claim = self._claim
        async with trio.open_nursery() as nursery:
            if claim.phones is Phones.NAILED_UP:
                nursery.start_soon(self._watch_leg, claim.leg)
            while self._unanswered:
                await trio.sleep(LOOK_AT_AGENT_SECONDS)
                reason = await self._why_gone()
                if reason:
                    self._agent_has_gone(reason)
            nursery.cancel_scope.cancel()

    async def _watch_leg(self, uuid: str) -> None:
        with self._world.live_calls.follow(uuid, self._switch.name) as leg:
            await leg.wait_until(lambda leg: leg.ended)
            self._agent_has_gone("the phone hung up")

    @property
    def _unanswered(self) -> bool:
        return self.phase in UNANSWERED

    def _agent_has_gone(self, reason: str) -> None:
        if self._unanswered:
            log.info("held_agent_gone", agent=self.extension, attempt=self.uuid, reason=reason)
            self.take_back()

    async def _why_gone(self) -> str:
        try:
            agent = await self._world.roster.agent(self.extension)
        except UnavailableError as error:  # nothing is known, and the claim is leased
            log.debug("held_agent_not_looked_at", agent=self.extension, error=str(error))
            return ""
        return why_gone(agent, self._claim, self._switch.name, offered=self.phase is Phase.OFFERED)


def why_gone(agent: Agent, claim: Claim, switch: str, *, offered: bool) -> str:
    """Why `agent` is not there any more for the call that `claim` is for, empty if they are. Pure."""
    if agent.token != claim.token:
        return "the claim was lost"
    if agent.wants is Wants.LOGOUT:
        return "logged out"
    if agent.wants is Wants.PAUSE and offered:  # a call that they have accepted is still theirs
        return "paused"
    if agent.switch != switch:
        return "the phone is not registered"
    if agent.other_calls:
        return "on another call"
    if claim.phones is Phones.NAILED_UP and agent.leg != claim.leg:
        return "the phone hung up"
    return ""


async def hold_agents(leases: Sequence[Lease], campaign: Campaign, world: World) -> dict[str, Claim]:
    """Claims an idle agent for each of `leases`, which are on one switch, in order; the claims by the leases' uuids.

    A call-back that one agent has promised gets that agent or none. Of the others, for those at the end there may be
    none; with Redis away there is none at all.
    """
    promised = {lease.uuid: lease.callback_agent for lease in leases if lease.callback_agent is not None}
    others = [lease.uuid for lease in leases if lease.uuid not in promised]
    claims: list[Claim] = []
    with trio.CancelScope(shield=True):  # a claim that was made is to be known
        try:
            if promised:  # first, or the others might take these agents
                claims += await world.roster.claim_named(campaign.team_name, leases[0].switch, promised)
            if others:
                claims += await world.roster.claim_for(campaign.team_name, leases[0].switch, others)
        except UnavailableError as error:
            held = {claim.token for claim in claims}
            log.warning("agents_not_held", attempts=len(leases) - len(held), error=str(error))
            world.roster.disown([lease.uuid for lease in leases if lease.uuid not in held])
    return {claim.token: claim for claim in claims}
