"""The whole daemon with its leads and records in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from campaigns.campaign import CampaignStatus
from dialer.agents.agent import AgentState, state_of
from tests.house import house, number, outcomes
from tests.patience import eventually
from tests.postgres_server import new_database

AGENTS = ("1000", "1001", "1002")


@pytest.fixture
def database_url(postgres: str) -> Iterator[str]:
    with new_database(postgres) as url:
        yield url


async def test_every_outcome_is_recorded_and_the_next_life_goes_on(tmp_path: Path, database_url: str) -> None:
    digits = [0, 1, 2, 3, 4, 6, 7]
    async with house(tmp_path, database_url=database_url) as home:
        async with home.living():
            await home.campaign()
            await home.leads([number(index, digit) for digit in digits for index in range(3)])
            await home.ready(*AGENTS)
            await home.set_status(CampaignStatus.RUNNING)
            assert outcomes(await home.closed(21)) == {
                "bridged": 6,
                "busy": 3,
                "rejected": 3,
                "invalid_number": 3,
                "congestion": 3,
                "hung_up": 3,
            }
            assert await home.lead_counts() == {"done": 6, "dead": 6, "waiting": 9}
            await home.all_put_back(*AGENTS)
        async with home.living():  # a running campaign runs on, in the next life too
            assert len(await home.cdrs()) == 21
            await home.leads([number(index, 0) for index in range(50, 55)])
            for extension in AGENTS:
                await home.agent_is(extension, AgentState.IDLE)
            await home.daemon.desk.campaigns_changed()
            assert outcomes(await home.closed(26))["bridged"] == 11


async def test_a_daemon_that_dies_on_postgresql_finds_its_conversation_again(
    tmp_path: Path, database_url: str
) -> None:
    async with house(tmp_path, database_url=database_url) as home:
        async with home.cut_short():
            await home.dial([number(1, 8), number(2, 5)])
            await home.ready("1000", "1001")

            async def one_talks_and_one_rings() -> bool:
                states = [state_of(await home.agent(extension)) for extension in ("1000", "1001")]
                return AgentState.ON_CALL in states and home.switch.statistics().originated == 2

            await eventually(one_talks_and_one_rings)
            talker = "1000" if state_of(await home.agent("1000")) is AgentState.ON_CALL else "1001"
        async with home.living():
            await home.agent_is(talker, AgentState.ON_CALL)
            await home.daemon.desk.agent_hangup(talker)
            assert outcomes(await home.closed(2)) == {"bridged": 1, "cancelled": 1}
            assert home.switch.statistics().originated == 2
            await home.all_put_back("1000", "1001")
