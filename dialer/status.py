"""Everything an operator wants to see at once, in plain JSON values.

What cannot be asked while Redis or the database is away is left out, and that is said: a status is wanted most then.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from campaigns import leases, outcomes, store
from campaigns.database import Database
from dialer.agents.roster import describe
from dialer.calls.gateway import Gateway
from dialer.calls.world import World
from dialer.campaign_desk import CampaignDesk
from dialer.errors import UnavailableError
from dialer.offer_desk import OfferDesk

# What agents have said is shown for so long.
LATELY: Final = timedelta(hours=1)
# A conversation may take long; this is told to people, and nothing else.
LEFT_OPEN_AFTER: Final = timedelta(hours=2)


class Status:
    """What there is to see of a running daemon."""

    def __init__(
        self,
        world: World,
        database: Database,
        campaigns: CampaignDesk,
        offers: OfferDesk,
        ledger_trouble: Callable[[], str],
    ) -> None:
        self._world = world
        self._database = database
        self._campaigns = campaigns
        self._offers = offers
        self._ledger_trouble = ledger_trouble

    async def now(self) -> dict[str, Any]:
        """All of it; `not_known` says in words what is missing, and why."""
        world, not_known = self._world, []
        try:
            of_redis = await self._of_redis()
        except UnavailableError as error:
            of_redis = {"agents": [], "gateways": [_described(one, None) for one in world.gateways.all()]}
            not_known.append(f"agents, and calls in use of gateways: {error}")
        try:
            of_database = await self._of_database()
        except UnavailableError as error:
            of_database = {"campaigns": self._campaigns.reports_of_running(), "left_open": {}, "said": {}}
            not_known.append(f"campaigns but those that run, leads, outcomes: {error}")
        said = of_database.pop("said")
        for agent in of_redis["agents"]:
            agent["last_said"] = said.get(agent["extension"])
        return {
            "node": world.node,
            "switches": [
                {
                    "name": switch.name,
                    "ready": switch.ready,
                    "epoch": switch.epoch,
                    "events_received": switch.events_received,
                    "sequence_jumps": switch.sequence_jumps,
                    "last_loss": switch.last_loss,
                }
                for switch in world.switches.values()
            ],
            **of_redis,
            **of_database,
            "offers": self._offers.report(),
            "database_trouble": self._ledger_trouble(),
            "clock_trouble": world.clock_check.trouble,
            "not_known": not_known,
            "metrics": world.metrics.summary(),
        }

    async def _of_redis(self) -> dict[str, Any]:
        agents = [describe(agent) for agent in await self._world.roster.agents() if agent.campaign]
        gateways = [_described(one, await one.used()) for one in self._world.gateways.all()]
        return {"agents": agents, "gateways": gateways}

    async def _of_database(self) -> dict[str, Any]:
        now, read = self._world.clock.now(), self._database.read
        rows = await read(store.list_campaigns)
        said = await read(lambda session: outcomes.latest_by_agent(session, now - LATELY))
        left = await read(lambda session: leases.left_by_others(session, self._world.node, now - LEFT_OPEN_AFTER))
        campaigns = [await self._campaigns.report(row) for row in rows]
        return {"campaigns": campaigns, "left_open": dict(left), "said": said}


def _described(gateway: Gateway, in_use: int | None) -> dict[str, Any]:
    return {
        "name": gateway.name,
        "switch": gateway.settings.switch,
        "in_use": in_use,
        "concurrency": gateway.settings.concurrency,
        "calls_per_second": gateway.settings.calls_per_second,
        "line": gateway.line.status,
        "registration": gateway.line.registration,
        "parked": gateway.health.parked,
        "rests": gateway.rests,
        "trouble": gateway.trouble,
    }
