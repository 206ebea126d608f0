"""Three times the calls a second that the machine can do: people still get their agents, since dialing slows down."""

from __future__ import annotations

from pathlib import Path

import trio

from campaigns.campaign import CampaignStatus
from dialer.simulator.channel import Channel
from tests.faults.promises import check_leads, check_people
from tests.faults.test_sigkill import Seen
from tests.house import house, number, outcomes

AGENTS = 60
LEADS = 600
# Nobody talks: every agent asks for a new call as soon as the last is over, far more than one process can place.
CHANGES = {
    "phones": [{"extensions": f"1000-{999 + AGENTS}", "answer_delay": 0.01}],
    "gateways": {"carrier_a": {"ring_delay": 0.0, "answer_delay": 0.02, "talk": 0.02, "scripts": []}},
}


async def test_more_calls_than_the_machine_can_do(tmp_path: Path) -> None:
    people: list[Channel] = []
    gateway = "[redis]\ntimeout_seconds = 10"
    async with house(tmp_path, CHANGES, gateway=gateway) as home, home.living() as daemon:
        home.switch.keep_history(people)
        await home.campaign(retries="{ max_attempts = 1 }", connect_seconds="10")
        await home.leads([number(index) for index in range(LEADS)])
        async with trio.open_nursery() as nursery:
            for index in range(AGENTS):
                nursery.start_soon(home.daemon.desk.agent_ready, str(1000 + index), "test")
        await home.ready("1000")
        await home.set_status(CampaignStatus.RUNNING)
        cdrs = await home.closed(LEADS, within_seconds=240)
        assert set(outcomes(cdrs)) <= {"bridged", "abandoned", "hung_up"}
        assert outcomes(cdrs)["bridged"] >= LEADS * 0.97
        await home.nothing_in_flight()
        seen = Seen(people)
        await seen.look(daemon.database)
        check_leads(seen, max_attempts=1)
        check_people(seen, longest_wait_seconds=30.0)
        # A call is only placed for an agent who is there to take it: what cannot be done is not begun.
        assert home.switch.statistics().peak_channels <= 2 * AGENTS
