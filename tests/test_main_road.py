"""A list goes in, people are bridged to agents, records come out: the whole daemon, story by story."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.lowlevel

from campaigns.campaign import CampaignStatus
from dialer.agents.agent import AgentState
from tests.house import house, number, outcomes
from tests.patience import eventually

EVERY_OUTCOME = {
    0: ("bridged", "NORMAL_CLEARING"),
    1: ("busy", "USER_BUSY"),
    2: ("rejected", "CALL_REJECTED"),
    3: ("invalid_number", "UNALLOCATED_NUMBER"),
    4: ("congestion", "NORMAL_TEMPORARY_FAILURE"),
    5: ("no_answer", "NO_ANSWER"),
    6: ("bridged", "NORMAL_CLEARING"),
    7: ("hung_up", "NORMAL_CLEARING"),
}
STATUS = {0: "done", 1: "waiting", 2: "dead", 3: "dead", 4: "waiting", 5: "waiting", 6: "done", 7: "waiting"}


@pytest.mark.parametrize("phones", ["nailed_up", "on_demand"])
@pytest.mark.parametrize("early_media", ["true", "false", "consume"])
async def test_every_outcome_is_recorded_and_everything_is_put_back(
    tmp_path: Path, phones: str, early_media: str
) -> None:
    # ringing out takes five seconds: once is enough
    digits = [digit for digit in EVERY_OUTCOME if digit != 5 or (phones, early_media) == ("nailed_up", "true")]
    numbers = {number(index, digit): digit for digit in digits for index in range(2)}
    async with house(tmp_path) as home, home.living():
        await home.campaign(phones=f'"{phones}"', ignore_early_media=f'"{early_media}"')
        await home.leads(list(numbers))
        await home.ready("1000", "1001", "1002")
        await home.set_status(CampaignStatus.RUNNING)
        cdrs = await home.closed(len(numbers))
        found = {cdr.number: (cdr.disposition.value, cdr.hangup_cause) for cdr in cdrs}
        assert found == {number: EVERY_OUTCOME[digit] for number, digit in numbers.items()}
        expected: dict[str, int] = {}
        for digit in numbers.values():
            expected[STATUS[digit]] = expected.get(STATUS[digit], 0) + 1
        assert await home.lead_counts() == expected
        for cdr in cdrs:
            assert cdr.ended_at >= cdr.originated_at
            assert (cdr.bridged_at is not None) == (cdr.disposition.value == "bridged") == (cdr.agent is not None)
        await home.all_put_back("1000", "1001", "1002")
        truth = home.switch.statistics()
        assert (truth.originated, truth.bridged, truth.orphans) == (len(numbers), 4, 0)
        assert truth.bridges_to_non_idle == 0


async def test_nobody_free_in_time_means_a_message_a_hang_up_and_abandoned(tmp_path: Path) -> None:
    slow = {"gateways": {"carrier_a": {"answer_delay": 1.0}}}
    async with house(tmp_path, slow) as home, home.living():
        await home.campaign(connect_seconds="0.5")
        await home.leads([number(1)])
        await home.ready("1000")
        await home.set_status(CampaignStatus.RUNNING)

        async def ringing() -> bool:
            return home.daemon.campaigns.calls_in_flight() == 1

        await eventually(ringing)
        home.switch.agent_calls_out("1000", "5551238")  # the one agent takes the phone for a call of their own
        await home.agent_is("1000", AgentState.ON_CALL)
        (cdr,) = await home.closed(1)
        assert (cdr.disposition.value, cdr.agent, cdr.bridged_at) == ("abandoned", None, None)
        assert cdr.wait_ms is not None
        assert cdr.wait_ms >= 500
        assert await home.lead_counts() == {"waiting": 1}


async def test_progressive_places_one_call_for_each_idle_agent(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await home.campaign()
        await home.leads([number(index, 8) for index in range(10)])
        await home.ready("1000", "1001", "1002")
        await home.set_status(CampaignStatus.RUNNING)
        for extension in ("1000", "1001", "1002"):
            await home.agent_is(extension, AgentState.ON_CALL)
        status = await home.daemon.desk.status()
        assert status["campaigns"][0]["calls"]["talking"] == 3
        assert status["campaigns"][0]["why"] == "no agent is idle"
        assert home.switch.statistics().originated == 3
        await home.daemon.desk.agent_hangup("1001")  # the agent ends it; the phone stays connected
        (cdr,) = await home.closed(1)
        assert (cdr.disposition.value, cdr.agent, cdr.hung_up_by) == ("bridged", "1001", "dialer")

        async def next_call() -> bool:
            return home.switch.statistics().bridged == 4

        await eventually(next_call)


async def test_a_gateway_carries_no_more_calls_than_its_concurrency(tmp_path: Path) -> None:
    async with house(tmp_path, gateway="") as home:
        text = home.settings.model_dump()
        text["gateway"][0]["concurrency"] = 2
        home.settings = type(home.settings).model_validate(text)
        async with home.living():
            agents = [str(1000 + index) for index in range(6)]
            await home.campaign()
            await home.leads([number(index) for index in range(12)])
            await home.ready(*agents)
            await home.set_status(CampaignStatus.RUNNING)
            await home.closed(12)
            assert home.switch.statistics().peak_channels <= len(agents) + 2
            await home.all_put_back(*agents)


async def test_an_agent_wraps_up_pauses_and_goes_home(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await home.campaign(wrap_up_seconds="0.3")
        await home.leads([number(index) for index in range(2)])
        await home.ready("1000")
        await home.set_status(CampaignStatus.RUNNING)
        await home.agent_is("1000", AgentState.WRAP_UP)
        said = await home.daemon.desk.agent_pause("1000")
        assert said == "1000 is wrap_up, and pauses after that"
        await home.agent_is("1000", AgentState.PAUSED)
        assert len(await home.cdrs()) == 1
        await home.daemon.desk.agent_ready("1000", "test")
        await home.closed(2)
        await home.agent_is("1000", AgentState.IDLE)
        await home.daemon.desk.agent_logout("1000")
        await home.agent_is("1000", AgentState.OFFLINE)

        async def hung_up() -> bool:
            return not home.switch.channels

        await eventually(hung_up)


async def test_a_lead_is_tried_as_often_as_allowed_and_no_more(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await home.campaign(retries="{ max_attempts = 3, delay_seconds = { busy = 0.1 } }")
        await home.leads([number(1, 1)])
        await home.ready("1000")
        await home.set_status(CampaignStatus.RUNNING)

        async def exhausted() -> bool:
            return await home.lead_counts() == {"exhausted": 1}

        await eventually(exhausted)
        cdrs = await home.cdrs()
        assert [cdr.attempt_no for cdr in cdrs] == [1, 2, 3]
        assert home.switch.statistics().originated == 3


async def test_outside_the_calling_hours_nothing_is_dialed_and_the_reason_is_told(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        now = home.daemon.world.clock.now()
        days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
        other_day = days[(now.weekday() + 3) % 7]
        await home.campaign(windows=f'[{{ days = ["{other_day}"], start = "09:00", end = "10:00" }}]')
        await home.leads([number(index) for index in range(3)])
        await home.ready("1000")
        await home.set_status(CampaignStatus.RUNNING)

        async def told() -> bool:
            campaign = (await home.daemon.desk.status())["campaigns"][0]
            return str(campaign["why"]).startswith("no lead may be called before 20")  # a date, since it is days off

        await eventually(told)
        assert home.switch.statistics().originated == 0


async def test_recording_is_asked_for_and_kept_on_the_record(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await home.campaign(record="true")
        await home.leads([number(1)])
        await home.ready("1000")
        await home.set_status(CampaignStatus.RUNNING)
        (cdr,) = await home.closed(1)
        assert cdr.recording is not None
        assert cdr.recording.startswith("/var/lib/freeswitch/recordings/test/")
        assert cdr.recording.endswith(f"/{cdr.attempt_uuid}.wav")


async def test_stopping_a_campaign_takes_back_what_rings(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await home.campaign()
        await home.leads([number(1, 5)])
        await home.ready("1000")
        await home.set_status(CampaignStatus.RUNNING)

        async def ringing() -> bool:
            return bool(home.switch.statistics().originated) and home.daemon.campaigns.calls_in_flight() == 1

        await eventually(ringing)
        await trio.lowlevel.checkpoint()
        await home.set_status(CampaignStatus.STOPPED)
        (cdr,) = await home.closed(1)
        assert (cdr.disposition.value, cdr.hangup_cause) == ("cancelled", "ORIGINATOR_CANCEL")
        await home.all_put_back("1000")


async def test_a_thousand_calls_leave_nothing_behind(tmp_path: Path) -> None:
    """A longer run with every outcome: counts of daemon, database and simulated people agree."""
    changes = {"gateways": {"carrier_a": {"talk": 0.1, "answer_delay": 0.05, "ring_delay": 0.01}}}
    agents = [str(1000 + index) for index in range(10)]
    numbers = [number(index, index % 10 if index % 10 not in (5, 8) else 0) for index in range(300)]
    async with house(tmp_path, changes) as home, home.living():
        await home.campaign()
        await home.leads(numbers)
        await home.ready(*agents)
        await home.set_status(CampaignStatus.RUNNING)
        cdrs = await home.closed(len(numbers))
        await home.all_put_back(*agents)
        truth = home.switch.statistics()
        assert len({cdr.attempt_uuid for cdr in cdrs}) == len(numbers) == truth.originated
        assert outcomes(cdrs)["bridged"] == truth.bridged
        assert [cdr for cdr in cdrs if cdr.disposition.value == "abandoned"] == []
        assert truth.orphans == truth.bridges_to_non_idle == 0
