"""What people ask of a running daemon, and what it tells them: the verbs behind the door."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import structlog
from sqlmodel import Session

from campaigns import audit, store
from campaigns.database import Database
from campaigns.tables import AgentLoginRow
from dialer.agents.agent import AgentState, Phones, Wants
from dialer.agents.nailed_up import NailedUpPhones
from dialer.calls.world import World
from dialer.campaign_desk import CampaignDesk
from dialer.door import Handler, asked_by
from dialer.errors import InputRefusedError, OutcomeUnknownError, UnavailableError
from dialer.esl.commands import Kill, is_name
from dialer.esl.link import CommandRefusedError
from dialer.offer_desk import OfferDesk
from dialer.status import Status
from dialer.wrap_up import WrapUp

log = structlog.get_logger()


class Desk:
    """Each public method is a verb; arguments and answers are plain JSON values."""

    def __init__(
        self,
        world: World,
        database: Database,
        campaigns: CampaignDesk,
        phones: NailedUpPhones,
        wrap_up: WrapUp,
        ledger_trouble: Callable[[], str],
        reload: Callable[[], str],
    ) -> None:
        self._world = world
        self._database = database
        self._campaigns = campaigns
        self._phones = phones
        self._reload = reload
        self._wrap_up = wrap_up
        self._offers = OfferDesk(campaigns.attempts)
        self._status = Status(world, database, campaigns, self._offers, ledger_trouble)

    def verbs(self) -> dict[str, Handler]:
        return {
            "status": self.status,
            "campaigns_changed": self.campaigns_changed,
            "agent_ready": self.agent_ready,
            "agent_pause": self.agent_pause,
            "agent_logout": self.agent_logout,
            "agent_hangup": self.agent_hangup,
            "stop_all": self.stop_all,
            "reload": self.reload,
            **self._offers.verbs(),
            **self._wrap_up.verbs(),
        }

    async def campaigns_changed(self) -> str:
        """The database holds a new or another campaign."""
        self._campaigns.wake()
        return "noted"

    async def stop_all(self) -> str:
        """Ends all dialing at once, whatever the database says; conversations go on."""
        calls = self._campaigns.calls_in_flight()
        trouble = await self._campaigns.stop_all()
        note = self._note("stop-all", "dialer", self._world.node, {"calls": calls})
        await self._write(note, "stop-all")
        told = f"all dialing has ended; of {calls} calls those that talk go on, the others are taken back"
        return f"{told}. It is not written down yet: {trouble}" if trouble else told

    async def reload(self) -> str:
        """Takes over the configuration file, whole or not at all."""
        told = self._reload()
        note = self._note("reload", "dialer", self._world.node, {"result": told})
        await self._write(note, "reload")
        return told

    async def agent_ready(self, extension: str, campaign: str) -> str:
        """Logs the agent in to `campaign`, or makes a paused one ready again."""
        is_name(None, None, extension)
        definition = await self._campaigns.definition(campaign)
        state = await self._world.roster.change(
            extension,
            wants=Wants.READY,
            campaign=definition.team_name,
            phones=definition.phones,
            node=self._world.node,
            wrap_until_ms=0,  # ready is ready: a wrap-up that is on is over
        )
        await self._remember(extension, "ready")
        self._phones.wake()
        agent = await self._world.roster.agent(extension)
        if not agent.switch:
            return f"{extension} is ready for {campaign} as soon as its phone registers"
        if state is AgentState.OFFLINE and agent.phones is Phones.NAILED_UP:
            return f"{extension} is ready for {campaign} as soon as its phone is answered; it rings now"
        return f"{extension} is {state.value} for {campaign}"

    async def agent_pause(self, extension: str) -> str:
        """No further calls for the agent; the one that is on goes on."""
        await self._known(extension)
        state = await self._world.roster.change(extension, wants=Wants.PAUSE)
        await self._remember(extension, "pause")
        return f"{extension} is {state.value}" + ("" if state is AgentState.PAUSED else ", and pauses after that")

    async def agent_logout(self, extension: str) -> str:
        """The agent goes home; a conversation that is on goes on."""
        await self._known(extension)
        state = await self._world.roster.change(extension, wants=Wants.LOGOUT)
        await self._remember(extension, "logout")
        self._phones.wake()
        return f"{extension} is {state.value}" + ("" if state is AgentState.OFFLINE else ", and logs out after that")

    async def agent_hangup(self, extension: str) -> str:
        """Ends the agent's conversation; the nailed-up phone stays connected."""
        agent = await self._known(extension)
        if not agent.token:
            raise InputRefusedError(f"{extension} is on no call of this dialer")
        try:
            await self._world.switches[agent.switch].run_command(Kill(agent.token))
        except CommandRefusedError as error:
            raise InputRefusedError(f"the call of {extension} could not be hung up: {error}") from error
        await self._write(self._note("hangup", "agent", extension), extension)
        return f"the call of {extension} was hung up"

    async def _remember(self, extension: str, action: str) -> None:
        """Notes what the agent asked for where a Redis that loses its data can be told it again."""
        agent = await self._world.roster.agent(extension)
        now = self._world.clock.now()
        note = self._note(action, "agent", extension, {"campaign": agent.campaign})

        def remember(session: Session) -> None:
            note(session)
            login = AgentLoginRow(
                extension=extension,
                campaign=agent.campaign,
                wants=agent.wants.value,
                phones=agent.phones.value,
                node=agent.node,
                updated_at=now,
            )
            store.remember_agent(session, login)

        await self._write(remember, extension)

    async def _write(self, work: Callable[[Session], None], what: str) -> None:
        """Writes beside what was done: that is done, and counts, whether or not it can be noted now."""
        try:
            await self._database.write(work)
        except (UnavailableError, OutcomeUnknownError) as error:
            log.warning("not_noted", of=what, asked_by=asked_by.get(), error=str(error))

    def _note(
        self, action: str, kind: audit.Kind, subject: str, after: Mapping[str, Any] | None = None
    ) -> Callable[[Session], None]:
        """What writes it down. Who asks is seen here and now: the database is written to in a context of its own."""
        who, now = asked_by.get(), self._world.clock.now()
        return partial(audit.note, who=who, action=action, kind=kind, subject=subject, now=now, after=after)

    async def _known(self, extension: str) -> Any:
        agent = await self._world.roster.agent(extension)
        if not agent.campaign:
            raise InputRefusedError(
                f"the agent {extension!r} has never been ready; log it in with `dialer agent ready {extension} "
                "--campaign NAME`"
            )
        return agent

    async def status(self) -> dict[str, Any]:
        """Everything an operator wants to see at once."""
        return await self._status.now()
