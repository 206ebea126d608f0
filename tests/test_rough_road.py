"""What goes wrong on a real switch, story by story: each ends in one result, and everything is put back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from campaigns.campaign import CampaignStatus
from dialer.agents.agent import AgentState, state_of
from tests.house import House, house, number, outcomes
from tests.patience import eventually


async def talking(home: House, calls: int = 1) -> None:
    """Waits until so many conversations are on."""

    async def condition() -> bool:
        status = await home.daemon.desk.status()
        return bool(sum(one["calls"].get("talking", 0) for one in status["campaigns"]) == calls)

    await eventually(condition)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        # both legs live on in silence: the customer gets another agent, or the sorry message, within the limit
        ("bridge_never_comes", {"bridged", "abandoned"}),
        # both legs die: the customer was dropped by us
        ("bridge_kills_both", {"bridged", "abandoned", "hung_up"}),
        ("bridge_loses_agent", {"bridged", "abandoned"}),
        ("death_mid_bridge_loses_agent", {"bridged"}),
    ],
)
async def test_a_bridge_that_fails_loses_no_lead_and_no_agent(tmp_path: Path, fault: str, expected: set[str]) -> None:
    agents = ["1000", "1001", "1002", "1003"]
    async with house(tmp_path, {"faults": {fault: 0.3}}, calls="bridge_seconds = 0.3") as home, home.living():
        await home.campaign(abandoned_message='"silence_stream://100"')
        await home.leads([number(index) for index in range(40)])
        await home.ready(*agents)
        await home.set_status(CampaignStatus.RUNNING)
        cdrs = await home.closed(40)
        assert set(outcomes(cdrs)) <= expected
        assert outcomes(cdrs)["bridged"] >= 10
        await home.all_put_back(*agents)


async def test_a_customer_who_leaves_in_the_bridge_leaves_the_agent_parked(tmp_path: Path) -> None:
    leaves = {"gateways": {"carrier_a": {"hang_up_after": 0.03}}}  # in the 40 ms a bridge takes
    async with house(tmp_path, leaves) as home, home.living():
        await home.campaign()
        await home.leads([number(index, 7) for index in range(20)])
        await home.ready("1000", "1001")
        legs = {(await home.agent(extension)).leg for extension in ("1000", "1001")}
        await home.set_status(CampaignStatus.RUNNING)
        cdrs = await home.closed(20)
        assert set(outcomes(cdrs)) <= {"hung_up", "bridged"}
        await home.all_put_back("1000", "1001")
        assert {(await home.agent(extension)).leg for extension in ("1000", "1001")} == legs


async def test_a_phone_that_drops_the_line_ends_the_call_and_is_rung_again(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await home.dial([number(1, 8)])
        await home.ready("1000")
        await talking(home)
        leg = (await home.agent("1000")).leg
        home.switch.hang_up(leg)
        (cdr,) = await home.closed(1)
        assert (cdr.disposition.value, cdr.hung_up_by) == ("bridged", "agent")
        await home.all_put_back("1000")
        assert (await home.agent("1000")).leg not in ("", leg)


@pytest.mark.parametrize(
    ("fault", "changes"),
    [
        ("bgapi_refused", {"faults": {"bgapi_refused": 0.1}}),
        ("originate_fails_silently", {"faults": {"originate_fails_silently": 0.3}}),
        ("event_late", {"faults": {"event_late": 0.05, "late_by": 0.1}}),
        ("answer_after_hangup", {"faults": {"answer_after_hangup": 0.5}}),
        ("missing_hangup", {"faults": {"events_missing": {"CHANNEL_HANGUP": 0.5, "CHANNEL_HANGUP_COMPLETE": 0.3}}}),
        ("missing_destroy", {"faults": {"events_missing": {"CHANNEL_DESTROY": 1.0}}}),
        ("reply_slow", {"faults": {"reply_slow": 0.1, "slow_by": 0.1}}),
    ],
)
async def test_events_that_lie_or_are_missing_leave_nothing_open(
    tmp_path: Path, fault: str, changes: dict[str, Any]
) -> None:
    agents = ["1000", "1001", "1002"]
    numbers = [number(index, (0, 1, 7)[index % 3]) for index in range(30)]
    async with house(tmp_path, changes) as home, home.living():
        await home.campaign()
        await home.leads(numbers)
        await home.ready(*agents)
        await home.set_status(CampaignStatus.RUNNING)
        cdrs = await home.closed(30)
        assert len({cdr.lead_id for cdr in cdrs}) == 30, fault
        await home.nothing_in_flight()

        async def no_slot_in_use() -> bool:
            return await home.daemon.gateways["carrier_a"].used() == 0

        await eventually(no_slot_in_use)
        for extension in agents:
            await home.agent_is(extension, AgentState.IDLE)


async def test_a_lost_link_comes_back_and_the_conversation_goes_on(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living() as daemon:
        await home.dial([number(1, 8)])
        await home.ready("1000")
        await talking(home)
        home.switch.drop_connections()

        async def second_epoch() -> bool:
            return daemon.switches["fs"].epoch == 2 and daemon.switches["fs"].ready

        await eventually(second_epoch)
        assert len(home.switch.channels) == 2
        assert await home.cdrs() == []
        await daemon.desk.agent_hangup("1000")
        (cdr,) = await home.closed(1)
        assert (cdr.disposition.value, cdr.agent) == ("bridged", "1000")
        await home.all_put_back("1000")


async def test_a_call_that_ended_while_the_link_was_away_is_closed_when_it_is_back(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living() as daemon:
        await home.dial([number(1, 8)])
        await home.ready("1000")
        await talking(home)
        customer = daemon.campaigns.attempts()[0].uuid
        home.switch.drop_connections()
        home.switch.hang_up(customer)
        (cdr,) = await home.closed(1)
        assert cdr.disposition.value == "bridged"  # they talked: that is certain, only the end was not seen
        await home.all_put_back("1000")


async def test_a_switch_that_restarts_leaves_nothing_but_unknowns_and_new_legs(tmp_path: Path) -> None:
    slow = {"gateways": {"carrier_a": {"answer_delay": 30.0}}}
    async with house(tmp_path, slow) as home, home.living():
        await home.dial([number(1)])
        await home.ready("1000")

        async def ringing() -> bool:
            return len(home.switch.channels) == 2

        await eventually(ringing)
        home.switch.restart()
        (cdr,) = await home.closed(1)
        assert cdr.disposition.value == "unknown"
        assert await home.lead_counts() == {"waiting": 1}
        await home.all_put_back("1000")


@pytest.mark.parametrize("hung_up_by", ["dialer", "agent", "customer"])
async def test_a_daemon_that_dies_finds_its_conversation_again(tmp_path: Path, hung_up_by: str) -> None:
    async with house(tmp_path) as home:
        async with home.cut_short():
            await home.dial([number(1, 8)])
            await home.ready("1000")
            await talking(home)
        assert len(home.switch.channels) == 2
        async with home.living():
            await home.agent_is("1000", AgentState.ON_CALL)
            assert await home.lead_counts() == {"dialing": 1}
            assert home.switch.statistics().originated == 1
            leg = (await home.agent("1000")).leg
            (customer,) = {*home.switch.channels} - {leg}

            async def adopted() -> bool:
                found = home.daemon.world.live_calls.leg(customer)
                return found is not None and found.bridged

            await eventually(adopted)
            if hung_up_by == "dialer":
                await home.daemon.desk.agent_hangup("1000")
            else:
                home.switch.hang_up(leg if hung_up_by == "agent" else customer)
            (cdr,) = await home.closed(1)
            assert (cdr.disposition.value, cdr.agent) == ("bridged", "1000")
            assert (cdr.hangup_cause, cdr.hung_up_by) == ("NORMAL_CLEARING", hung_up_by)
            await home.all_put_back("1000")


async def test_a_daemon_that_dies_while_dialing_dials_nobody_twice(tmp_path: Path) -> None:
    slow = {"gateways": {"carrier_a": {"answer_delay": 30.0}}}
    async with house(tmp_path, slow) as home:
        async with home.cut_short():
            await home.dial([number(index) for index in range(3)])
            await home.ready("1000", "1001", "1002")

            async def ringing() -> bool:
                return home.switch.statistics().originated == 3

            await eventually(ringing)
        async with home.living():
            cdrs = await home.closed(3)
            assert outcomes(cdrs) == {"cancelled": 3}  # found ringing with nobody to take them: taken back
            await home.all_put_back("1000", "1001", "1002")
            assert home.switch.statistics().originated == 3
            assert await home.lead_counts() == {"waiting": 3}


async def test_a_stop_in_good_order_takes_back_what_rings_and_leaves_who_talks(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        async with home.living():
            await home.dial([number(1, 8), number(2, 5)])
            await home.ready("1000", "1001")
            await talking(home)

            async def ringing() -> bool:
                return home.switch.statistics().originated == 2

            await eventually(ringing)
            states = {extension: state_of(await home.agent(extension)) for extension in ("1000", "1001")}
            (talker,) = [extension for extension, state in states.items() if state is AgentState.ON_CALL]

        async def two_talk() -> bool:
            return len(home.switch.channels) == 2  # the customer and the agent

        await eventually(two_talk)
        async with home.living():
            assert outcomes(await home.cdrs()) == {"cancelled": 1}
            await home.agent_is(talker, AgentState.ON_CALL)
            await home.daemon.desk.agent_hangup(talker)
            assert outcomes(await home.closed(2)) == {"cancelled": 1, "bridged": 1}
