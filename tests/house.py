"""A whole daemon on a simulated FreeSWITCH, with a real Redis and a real database, for tests that tell stories."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import trio
from sqlmodel import SQLModel, func, select

from campaigns import store
from campaigns.campaign import Campaign, CampaignStatus, parse_campaign
from campaigns.leases import Lease
from campaigns.list_import import import_list
from campaigns.rules.callable import RuleBook
from campaigns.slots import Slot
from campaigns.tables import CdrRow, SuppressionRow
from dialer.agents.agent import Agent, AgentState, state_of
from dialer.daemon import Daemon, run_daemon
from dialer.settings import Settings, parse_settings
from dialer.simulator.scenario import Scenario
from dialer.simulator.switch import SimulatedSwitch
from tests.patience import PATIENCE_SECONDS, eventually

ALWAYS = '[{ days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], start = "00:00", end = "24:00" }]'
R = TypeVar("R", bound=SQLModel)

QUICK: dict[str, Any] = {
    "realistic_headers": False,
    "phones": [{"extensions": "1000-1009", "answer_delay": 0.05}],
    "gateways": {
        "carrier_a": {
            "ring_delay": 0.02,
            "answer_delay": 0.1,
            "fail_delay": 0.05,
            "talk": 0.3,
            "patience": 30.0,
            "hang_up_after": 0.0,
            "scripts": [
                {"suffix": "1", "outcome": "busy"},
                {"suffix": "2", "outcome": "rejected"},
                {"suffix": "3", "outcome": "not_found"},
                {"suffix": "4", "outcome": "unavailable"},
                {"suffix": "5", "outcome": "no_answer"},
                {"suffix": "6", "outcome": "early_media_answer"},
                {"suffix": "7", "outcome": "answer_hang_up"},
                {"suffix": "8", "outcome": "answer", "talk": 600.0},
            ],
        }
    },
}


def number(index: int, last_digit: int = 0) -> str:
    """A number whose last digit says what becomes of a call to it (see QUICK)."""
    return f"+1202{5550000 + index * 10 + last_digit}"


def settings_text(folder: Path, port: int, **sections: str) -> str:
    """A configuration for the simulated switch; `sections` are added to those of the same name."""
    return f"""
node = "{sections.get("node", "test")}"
state_dir = "{folder}"
[[switch]]
name = "fs"
port = {port}
{sections.get("switch", "")}
[[gateway]]
name = "carrier_a"
switch = "fs"
caller_id = "+12025550100"
concurrency = 50
calls_per_second = 1000
{sections.get("gateway", "")}
[database]
url = "{sections.get("database_url", f"sqlite:///{folder}/dialer.db")}"
[door]
path = "{folder}/door.sock"
[calls]
drain_seconds = 0
{sections.get("calls", "")}
"""


class House:
    """One simulated switch, and daemons on it, one life after the other."""

    def __init__(self, folder: Path, switch: SimulatedSwitch, settings: Settings) -> None:
        self.folder = folder
        self.switch = switch
        self.settings = settings
        self.daemon: Daemon = None  # type: ignore[assignment]

    @asynccontextmanager
    async def living(self) -> AsyncIterator[Daemon]:
        """One life of the daemon, stopped in good order at the end."""
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            run = partial(run_daemon, self.settings, rng=random.Random(1), stop=stop, handle_signals=False)
            self.daemon = await nursery.start(run)
            await eventually(self._ready)
            try:
                yield self.daemon
            finally:
                stop.set()

    @asynccontextmanager
    async def cut_short(self) -> AsyncIterator[Daemon]:
        """One life of the daemon, ended as by kill -9 as far as one process can: cancelled on the spot."""
        async with trio.open_nursery() as nursery:
            run = partial(run_daemon, self.settings, rng=random.Random(1), handle_signals=False)
            self.daemon = await nursery.start(run)
            await eventually(self._ready)
            yield self.daemon
            self.switch.drop_connections()  # nothing the dying daemon says gets out
            nursery.cancel_scope.cancel()

    async def _ready(self) -> bool:
        return all(switch.ready for switch in self.daemon.switches.values())

    async def campaign(self, name: str = "test", **changes: str) -> None:
        """Adds a campaign; `changes` are TOML values."""
        lines = {
            "name": f'"{name}"',
            "gateways": '["carrier_a"]',
            "country": '"US"',
            "windows": ALWAYS,
            "wrap_up_seconds": "0.0",
            "ring_seconds": "5",
            **changes,
        }
        definition = parse_campaign("\n".join(f"{key} = {value}" for key, value in lines.items()), "test")
        await self.daemon.database.write(lambda session: store.add_campaign(session, definition, datetime.now(UTC)))

    async def leads(self, numbers: Sequence[str], campaign: str = "test") -> None:
        file = self.folder / "leads.csv"
        file.write_text("number\n" + "\n".join(numbers))
        report = await import_list(self.daemon.database, file, campaign, now=datetime.now(UTC))
        assert report.added == len(numbers)

    async def set_status(self, status: CampaignStatus, campaign: str = "test") -> None:
        now = datetime.now(UTC)
        await self.daemon.database.write(lambda session: store.set_campaign_status(session, campaign, status, now))
        await self.daemon.desk.campaigns_changed()

    async def ready(self, *extensions: str, campaign: str = "test") -> None:
        """Logs agents in and waits until they can be given calls."""
        for extension in extensions:
            await self.daemon.desk.agent_ready(extension, campaign)

        async def all_there() -> bool:
            states = [state_of(await self.agent(extension)) for extension in extensions]
            return AgentState.OFFLINE not in states

        await eventually(all_there)

    async def agent(self, extension: str) -> Agent:
        return await self.daemon.roster.agent(extension)

    async def agent_is(self, extension: str, state: AgentState) -> None:
        async def condition() -> bool:
            return state_of(await self.agent(extension)) is state

        await eventually(condition)

    async def dial(self, numbers: Sequence[str], **changes: str) -> None:
        """A campaign over `numbers`, started."""
        await self.campaign(**changes)
        await self.leads(numbers)
        await self.set_status(CampaignStatus.RUNNING)

    async def lease(self, count: int) -> tuple[list[Lease], Campaign, int]:
        """The next `count` leads, leased, with the campaign and its row; nothing is called yet."""
        daemon = self.daemon
        row = await daemon.database.read(lambda session: store.get_campaign(session, "test"))
        campaign, campaign_id = store.definition_of(row), row.id or 0
        gateway = daemon.gateways["carrier_a"]
        slots = [Slot(str(uuid4()), gateway.name, "fs") for _ in range(count)]
        await gateway.take([slot.uuid for slot in slots])
        trunks = {gateway.name: gateway.settings.trunk()}
        found = await daemon.ledger.lease(RuleBook(campaign, campaign_id), slots, trunks)
        assert len(found.leases) == count
        return list(found.leases), campaign, campaign_id

    async def lead_counts(self, campaign: str = "test") -> Mapping[str, int]:
        row = await self.daemon.database.read(lambda session: store.get_campaign(session, campaign))
        counts = await self.daemon.database.read(lambda session: store.lead_counts(session, row.id or 0))
        return {status.value: count for status, count in counts.items() if count}

    async def cdrs(self, campaign: str = "test") -> list[CdrRow]:
        row = await self.daemon.database.read(lambda session: store.get_campaign(session, campaign))
        return list(await self.daemon.database.read(lambda session: store.cdrs(session, row.id or 0)))

    async def rows(self, table: type[R]) -> list[R]:
        """All there is in a table."""
        return await self.daemon.database.read(lambda session: list(session.exec(select(table)).all()))

    async def suppressions(self) -> list[SuppressionRow]:
        """The do-not-call lists."""
        return await self.rows(SuppressionRow)

    async def closed(
        self, count: int, campaign: str = "test", within_seconds: float = PATIENCE_SECONDS
    ) -> list[CdrRow]:
        """Waits for `count` records and gives them."""
        row = await self.daemon.database.read(lambda session: store.get_campaign(session, campaign))
        written = select(func.count()).select_from(CdrRow).where(CdrRow.campaign_id == row.id)

        async def condition() -> bool:  # counted, not read: whoever waits takes nothing from the daemon it waits for
            return await self.daemon.database.read(lambda session: session.exec(written).one()) >= count

        await eventually(condition, within_seconds)
        return await self.cdrs(campaign)

    async def nothing_in_flight(self) -> None:
        async def condition() -> bool:
            return not self.daemon.campaigns.calls_in_flight()

        await eventually(condition)

    async def all_put_back(self, *idle: str) -> None:
        """No slot, no claim and no channel is left over; the agents named are idle on parked legs."""
        await self.nothing_in_flight()
        for extension in idle:
            await self.agent_is(extension, AgentState.IDLE)

        async def no_slot_in_use() -> bool:  # a runner looking for leads holds some for a moment
            return await self.daemon.gateways["carrier_a"].used() == 0

        await eventually(no_slot_in_use)
        legs = set()
        for extension in idle:
            agent = await self.agent(extension)
            assert agent.token == ""
            if agent.leg:
                legs.add(agent.leg)

        async def only_legs() -> bool:
            return set(self.switch.channels) == legs

        await eventually(only_legs)


def outcomes(cdrs: Sequence[CdrRow]) -> Counter[str]:
    return Counter(cdr.disposition.value for cdr in cdrs)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, section by section."""
    result = dict(base)
    for key, value in changes.items():
        both_sections = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both_sections else value
    return result


@asynccontextmanager
async def house(folder: Path, changes: Mapping[str, Any] | None = None, **sections: str) -> AsyncIterator[House]:
    """A simulated switch as QUICK and `changes` describe it, and settings for daemons on it."""
    scenario = Scenario.model_validate(merged(QUICK, changes or {}))
    switch = SimulatedSwitch(scenario, rng=random.Random(7), now=lambda: datetime.now(UTC))
    async with switch.running(), trio.open_nursery() as nursery:
        port = await nursery.start(switch.serve_tcp, "127.0.0.1", 0)
        yield House(folder, switch, parse_settings(settings_text(folder, port, **sections), "test"))
        nursery.cancel_scope.cancel()
