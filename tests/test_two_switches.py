"""One daemon on two FreeSWITCHes: each agent gets the calls of the switch their phone is on."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import trio

from campaigns.campaign import CampaignStatus
from dialer.agents.agent import AgentState
from dialer.simulator.scenario import Scenario
from dialer.simulator.switch import SimulatedSwitch
from tests.house import QUICK, House, house, merged, number, outcomes
from tests.patience import eventually

PHONES = [{"extensions": "2000-2009", "answer_delay": 0.05}, {"extensions": "1009", "answer_delay": 0.05}]
BOTH = '["carrier_a", "carrier_b"]'


class SecondSwitch:
    """A FreeSWITCH beside the house's own, with the phones 2000-2009, that can go away and come back."""

    def __init__(self, port: int, nursery: trio.Nursery) -> None:
        carriers = {"gateways": {"carrier_b": QUICK["gateways"]["carrier_a"]}}
        self.scenario = Scenario.model_validate(merged(QUICK | carriers, {"phones": PHONES}))
        self.port = port
        self.switch: SimulatedSwitch = None  # type: ignore[assignment]
        self._nursery = nursery
        self._up = trio.CancelScope()

    async def come(self) -> None:
        self.switch = SimulatedSwitch(self.scenario, rng=random.Random(11), now=lambda: datetime.now(UTC))
        await self._nursery.start(self._serve)

    async def _serve(self, task_status: trio.TaskStatus[int]) -> None:
        with trio.CancelScope() as self._up:
            async with self.switch.running():
                await self.switch.serve_tcp("127.0.0.1", self.port, task_status=task_status)

    def go(self) -> None:
        """All at once, as when the machine is switched off."""
        self.switch.drop_connections()
        self._up.cancel()

    def settings(self) -> str:
        return f"""
[[switch]]
name = "fs2"
port = {self.port}
[[gateway]]
name = "carrier_b"
switch = "fs2"
caller_id = "+12025550100"
concurrency = 50
calls_per_second = 1000
"""


@asynccontextmanager
async def second_switch() -> AsyncIterator[SecondSwitch]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = int(listener.socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        second = SecondSwitch(port, nursery)
        await second.come()
        yield second
        nursery.cancel_scope.cancel()


async def all_ready(home: House, switches: int) -> None:
    async def condition() -> bool:
        return sum(switch.ready for switch in home.daemon.switches.values()) == switches

    await eventually(condition)


async def test_agents_of_both_switches_work_one_campaign(tmp_path: Path) -> None:
    agents = {"1000": "fs", "1001": "fs", "2000": "fs2", "2001": "fs2"}
    async with second_switch() as second, house(tmp_path, gateway=second.settings()) as home, home.living():
        await home.campaign(gateways=BOTH)
        await home.leads([number(index) for index in range(40)])
        await home.ready(*agents)
        await home.set_status(CampaignStatus.RUNNING)
        cdrs = await home.closed(40)
        assert outcomes(cdrs) == {"bridged": 40}
        assert {cdr.agent: cdr.switch for cdr in cdrs} == agents
        assert {cdr.gateway: cdr.switch for cdr in cdrs} == {"carrier_a": "fs", "carrier_b": "fs2"}
        await home.nothing_in_flight()
        for extension in agents:
            await home.agent_is(extension, AgentState.IDLE)
        for switch in (home.switch, second.switch):
            assert len(switch.channels) == 2  # the parked legs
            assert switch.statistics().bridges_to_non_idle == 0
        assert home.switch.statistics().originated + second.switch.statistics().originated == 40


async def test_one_switch_away_stops_only_its_own_dialing_until_it_is_back(tmp_path: Path) -> None:
    async with second_switch() as second, house(tmp_path, gateway=second.settings()) as home, home.living():
        await home.campaign(gateways=BOTH, retries="{ max_attempts = 1 }")
        await home.leads([number(index) for index in range(36)])
        await home.ready("1000", "2000")
        await home.set_status(CampaignStatus.RUNNING)

        async def dialed_there() -> int:
            return sum(cdr.switch == "fs2" for cdr in await home.cdrs())

        async def dials_there(more_than: int) -> None:
            async def condition() -> bool:
                return await dialed_there() > more_than

            await eventually(condition)

        await dials_there(more_than=1)
        second.go()
        await all_ready(home, 1)
        in_flight = sum(attempt.lease.switch == "fs2" for attempt in home.daemon.campaigns.attempts())
        before, closed = await dialed_there(), len(await home.cdrs())
        await home.closed(closed + 6)
        assert await dialed_there() <= before + in_flight
        await second.come()
        await all_ready(home, 2)
        await home.agent_is("2000", AgentState.IDLE)
        await dials_there(more_than=before + in_flight)
        cdrs = await home.closed(36)
        assert len({cdr.lead_id for cdr in cdrs}) == 36
        assert set(outcomes(cdrs)) <= {"bridged", "unknown"}
        assert outcomes(cdrs)["unknown"] <= in_flight


async def test_an_agent_who_moves_to_the_other_switch_is_rung_there_and_gets_its_calls(tmp_path: Path) -> None:
    async with second_switch() as second, house(tmp_path, gateway=second.settings()) as home, home.living():
        second.switch.unregister("1009")
        await home.campaign(gateways=BOTH)
        await home.leads([number(index) for index in range(30)])
        await home.ready("1009")
        await home.set_status(CampaignStatus.RUNNING)
        await home.closed(3)
        second.switch.register("1009")
        home.switch.unregister("1009")

        async def works_there() -> bool:
            cdrs = await home.cdrs()
            return any(cdr.switch == "fs2" and cdr.disposition.value == "bridged" for cdr in cdrs)

        await eventually(works_there)

        async def no_leg_is_left() -> bool:
            return not home.switch.channels

        await eventually(no_leg_is_left)
        assert (await home.agent("1009")).leg_switch == "fs2"


async def test_an_agent_registered_on_both_stays_where_they_are(tmp_path: Path) -> None:
    async with second_switch() as second, house(tmp_path, gateway=second.settings()) as home, home.living():
        await home.campaign(gateways=BOTH)
        await home.leads([number(index) for index in range(6)])
        await home.ready("1009")
        there = (await home.agent("1009")).switch
        await home.set_status(CampaignStatus.RUNNING)
        await home.closed(2)
        for switch in (home.switch, second.switch):
            switch.register("1009")
        cdrs = await home.closed(6)
        assert {(cdr.agent, cdr.switch) for cdr in cdrs} == {("1009", there)}
