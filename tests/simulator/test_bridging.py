"""What can happen to a bridge between the +OK and the CHANNEL_BRIDGE, and after."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from dialer.simulator import Faults, Gateway, Outcome, Phones, Scenario, Script, SimulatedSwitch

from .wiretap import Client, connected, simulated

AGENT = "a0000000-0000-4000-8000-000000000001"
CUSTOMER = "c0000000-0000-4000-8000-000000000001"
SECOND = "c0000000-0000-4000-8000-000000000002"
NEVER = float("inf")
SURE = Faults(bridge_at_answer_loses_customer=0, bridge_at_answer_loses_agent=0)


def scenario(**faults: float) -> Scenario:
    return Scenario(
        realistic_headers=False,
        phones=(Phones(extensions="1000-1003"), Phones(extensions="1004", behaviour="never_answers")),
        gateways={"carrier_a": Gateway(talk=NEVER, patience=NEVER)},
        faults=SURE.model_copy(update=faults),
    )


async def nail_up(client: Client, uuid: str = AGENT, extension: str = "1000") -> None:
    variables = f"{{origination_uuid={uuid},park_after_bridge=true,hangup_after_bridge=false}}"
    assert await client.job(f"originate {variables}user/{extension}@127.0.0.1 &park()") == f"+OK {uuid}\n"
    await client.wait_event("CHANNEL_PARK", uuid)


async def call(client: Client, uuid: str = CUSTOMER) -> None:
    command = f"originate {{origination_uuid={uuid},ignore_early_media=true}}sofia/gateway/carrier_a/15551230000"
    assert await client.job(f"{command} &endless_playback(silence_stream://-1)") == f"+OK {uuid}\n"
    await client.wait_event("PLAYBACK_START", uuid)


@pytest.fixture
async def switch(autojump_clock: MockClock) -> AsyncIterator[SimulatedSwitch]:
    async with simulated(scenario()) as switch:
        yield switch


@pytest.fixture
async def client(switch: SimulatedSwitch) -> AsyncIterator[Client]:
    """An agent parked, a customer waiting."""
    async with connected(switch) as client:
        await nail_up(client)
        await call(client)
        yield client


async def test_bridge_and_back_to_park(switch: SimulatedSwitch, client: Client, autojump_clock: MockClock) -> None:
    asked = trio.current_time()
    assert await client.job(f"uuid_bridge {CUSTOMER} {AGENT}") == f"+OK {AGENT}\n"
    bridge = await client.wait_event("CHANNEL_BRIDGE")
    assert (bridge["Bridge-A-Unique-ID"], bridge["Bridge-B-Unique-ID"]) == (CUSTOMER, AGENT)
    assert trio.current_time() - asked == pytest.approx(0.041)
    switch.hang_up(CUSTOMER)
    await client.wait_event("CHANNEL_DESTROY", CUSTOMER)
    names = [(event["Event-Name"], event["Unique-ID"]) for event in client.events() if "Unique-ID" in event]
    assert names.index(("CHANNEL_UNBRIDGE", CUSTOMER)) - 1 == len(names) - 1 - names[::-1].index(
        ("CHANNEL_PARK", AGENT)
    )
    assert switch.channels[AGENT].parked
    statistics = switch.statistics()
    assert (statistics.bridged, statistics.abandoned, statistics.agents_lost) == (1, 0, 0)
    assert statistics.bridges_to_non_idle == 0


async def test_transfer_history_grows_and_can_be_cleared(
    switch: SimulatedSwitch, client: Client, autojump_clock: MockClock
) -> None:
    for number in range(3):
        uuid = f"c0000000-0000-4000-8000-00000000010{number}"
        await call(client, uuid)
        await client.job(f"uuid_bridge {uuid} {AGENT}")
        await client.wait_event("CHANNEL_BRIDGE", uuid)
        await client.job(f"uuid_kill {uuid}")
        await client.wait_event("CHANNEL_DESTROY", uuid)
    parked = [event["variable_transfer_history"] for event in client.events("CHANNEL_PARK", AGENT)[1:]]
    assert isinstance(parked[0], str)
    assert [len(history) for history in parked[1:]] == [2, 3]
    assert (await client.job(f"uuid_getvar {AGENT} transfer_history")).startswith("ARRAY::")
    assert await client.job(f"uuid_setvar {AGENT} transfer_history") == "+OK\n"
    assert await client.job(f"uuid_getvar {AGENT} transfer_history") == "_undef_"


async def test_customer_dies_mid_bridge_leaves_a_silent_agent(
    switch: SimulatedSwitch, client: Client, autojump_clock: MockClock
) -> None:
    await client.job(f"uuid_bridge {CUSTOMER} {AGENT}")
    await trio.sleep(0.02)
    switch.hang_up(CUSTOMER)
    await trio.sleep(5)
    assert client.names(AGENT)[-1] == "CHANNEL_UNPARK"
    assert await client.ask(f"api uuid_exists {AGENT}") == "true"
    assert await client.job(f"uuid_park {AGENT}") == "+OK\n"
    await trio.sleep(1)
    assert client.names(AGENT)[-1] == "CHANNEL_PARK"
    await call(client, SECOND)
    await client.job(f"uuid_bridge {SECOND} {AGENT}")
    await client.wait_event("CHANNEL_BRIDGE", SECOND)


async def test_agent_first_loses_both_when_the_customer_dies(
    switch: SimulatedSwitch, client: Client, autojump_clock: MockClock
) -> None:
    await client.job(f"uuid_bridge {AGENT} {CUSTOMER}")
    await trio.sleep(0.02)
    switch.hang_up(CUSTOMER)
    assert (await client.wait_event("CHANNEL_HANGUP", AGENT))["Hangup-Cause"] == "ORIGINATOR_CANCEL"


@pytest.mark.parametrize("moment", [0.0, 0.005, 0.015, 0.025, 0.035, 0.039])
@pytest.mark.parametrize("victim", [CUSTOMER, AGENT])
async def test_a_death_at_any_moment_of_a_bridge_leaves_nothing_hanging(
    switch: SimulatedSwitch, client: Client, victim: str, moment: float, autojump_clock: MockClock
) -> None:
    await client.job(f"uuid_bridge {CUSTOMER} {AGENT}")
    await trio.sleep(moment)
    switch.hang_up(victim)
    await trio.sleep(5)
    assert "CHANNEL_BRIDGE" not in client.names()
    assert victim not in switch.channels
    assert client.names(victim)[-1] == "CHANNEL_DESTROY"
    assert (AGENT in switch.channels) is (victim == CUSTOMER)
    assert CUSTOMER not in switch.channels
    for channel in switch.channels.values():
        assert channel.bridging is None
        assert channel.partner is None


async def test_two_customers_claim_one_agent(
    switch: SimulatedSwitch, client: Client, autojump_clock: MockClock
) -> None:
    await call(client, SECOND)
    await client.send(f"bgapi uuid_bridge {CUSTOMER} {AGENT}")
    await client.send(f"bgapi uuid_bridge {SECOND} {AGENT}")
    await trio.sleep(5)
    bridges = client.events("CHANNEL_BRIDGE")
    assert [event["Unique-ID"] for event in bridges] == [SECOND]
    assert client.names(CUSTOMER)[-1] == "PLAYBACK_STOP"
    assert switch.channels[CUSTOMER].orphan
    assert switch.statistics().orphans == 1
    assert switch.statistics().bridges_to_non_idle == 1


async def test_stealing_a_talking_agent_ends_the_first_talk(
    switch: SimulatedSwitch, client: Client, autojump_clock: MockClock
) -> None:
    await client.job(f"uuid_bridge {CUSTOMER} {AGENT}")
    await client.wait_event("CHANNEL_BRIDGE")
    await call(client, SECOND)
    await client.job(f"uuid_bridge {SECOND} {AGENT}")
    await client.wait_event("CHANNEL_BRIDGE", SECOND)
    assert CUSTOMER not in switch.channels
    assert switch.statistics().bridges_to_non_idle == 1


async def test_bridge_to_a_ringing_leg_kills_both(
    switch: SimulatedSwitch, client: Client, autojump_clock: MockClock
) -> None:
    ringing = "a0000000-0000-4000-8000-000000000004"
    await client.send(f"bgapi originate {{origination_uuid={ringing}}}user/1004@127.0.0.1 &park()")
    await client.wait_event("CHANNEL_PROGRESS", ringing)
    assert await client.job(f"uuid_bridge {CUSTOMER} {ringing}") == f"+OK {ringing}\n"
    await client.wait_event("CHANNEL_DESTROY", CUSTOMER)
    await client.wait_event("CHANNEL_DESTROY", ringing)
    causes = {event["Unique-ID"]: event["Hangup-Cause"] for event in client.events("CHANNEL_HANGUP")}
    assert causes == {ringing: "DESTINATION_OUT_OF_ORDER", CUSTOMER: "ORIGINATOR_CANCEL"}


async def test_killing_the_agent_under_a_bridge_takes_the_customer(
    switch: SimulatedSwitch, client: Client, autojump_clock: MockClock
) -> None:
    await client.job(f"uuid_bridge {CUSTOMER} {AGENT}")
    await client.wait_event("CHANNEL_BRIDGE")
    await client.job(f"uuid_kill {AGENT}")
    await trio.sleep(1)
    assert not switch.channels


async def test_the_switch_names_an_agent_lost_by_a_fault(
    switch: SimulatedSwitch, client: Client, autojump_clock: MockClock
) -> None:
    switch.faults.force("bridge_loses_agent")
    assert await client.job(f"uuid_bridge {CUSTOMER} {AGENT}") == f"+OK {AGENT}\n"
    assert (await client.wait_event("CHANNEL_HANGUP", AGENT))["Hangup-Cause"] == "DESTINATION_OUT_OF_ORDER"
    await trio.sleep(5)
    assert "CHANNEL_HANGUP" not in client.names(CUSTOMER)
    assert switch.statistics().agents_lost == 1


async def test_a_bridge_that_never_comes(switch: SimulatedSwitch, client: Client, autojump_clock: MockClock) -> None:
    switch.faults.force("bridge_never_comes")
    assert await client.job(f"uuid_bridge {CUSTOMER} {AGENT}") == f"+OK {AGENT}\n"
    await trio.sleep(60)
    assert set(switch.channels) == {CUSTOMER, AGENT}
    assert "CHANNEL_BRIDGE" not in client.names()
    await client.job(f"uuid_park {AGENT}")
    await trio.sleep(1)
    assert client.names(AGENT)[-1] == "CHANNEL_PARK"


async def test_a_bridge_that_kills_both(switch: SimulatedSwitch, client: Client, autojump_clock: MockClock) -> None:
    switch.faults.force("bridge_kills_both")
    await client.job(f"uuid_bridge {CUSTOMER} {AGENT}")
    await trio.sleep(1)
    assert not switch.channels
    assert {event["Hangup-Cause"] for event in client.events("CHANNEL_HANGUP")} == {"DESTINATION_OUT_OF_ORDER"}


async def test_a_dying_customer_can_take_the_agent_along(
    switch: SimulatedSwitch, client: Client, autojump_clock: MockClock
) -> None:
    switch.faults.force("death_mid_bridge_loses_agent")
    await client.job(f"uuid_bridge {CUSTOMER} {AGENT}")
    await trio.sleep(0.02)
    switch.hang_up(CUSTOMER)
    await client.wait_event("CHANNEL_DESTROY", AGENT)


@pytest.mark.parametrize(("fault", "left"), [("customer", {AGENT}), ("agent", set()), (None, {CUSTOMER, AGENT})])
async def test_bridging_at_the_answer(
    fault: str | None, left: set[str], switch: SimulatedSwitch, autojump_clock: MockClock
) -> None:
    async with connected(switch) as client:
        await nail_up(client)
        if fault:
            switch.faults.force(f"bridge_at_answer_loses_{fault}")
        command = (
            f"originate {{origination_uuid={CUSTOMER},ignore_early_media=true}}sofia/gateway/carrier_a/15551230000"
        )
        await client.send(f"bgapi {command} &endless_playback(silence_stream://-1)")
        await client.wait_event("CHANNEL_ANSWER", CUSTOMER)
        assert await client.job(f"uuid_bridge {CUSTOMER} {AGENT}") == f"+OK {AGENT}\n"
        await trio.sleep(1)
        assert set(switch.channels) == left
        assert ("CHANNEL_BRIDGE" in client.names()) is (fault is None)


async def test_bridging_at_the_answer_loses_as_many_as_measured(autojump_clock: MockClock) -> None:
    """27 customers of 1,201 on a real switch; never one when the client waits for the +OK."""
    lost = {True: 0, False: 0}
    async with simulated(scenario().model_copy(update={"faults": Faults()})) as switch, connected(switch) as client:
        for early in (True, False):
            for number in range(300):
                agent = f"a{early:07}-0000-4000-8000-{number:012}"
                customer = f"c{early:07}-0000-4000-8000-{number:012}"
                await nail_up(client, agent)
                command = (
                    f"originate {{origination_uuid={customer},ignore_early_media=true}}sofia/gateway/carrier_a/1"
                )
                await client.send(f"bgapi {command} &park()")
                await client.wait_event("CHANNEL_ANSWER" if early else "CHANNEL_PARK", customer)
                await client.send(f"bgapi uuid_bridge {customer} {agent}")
                await trio.sleep(0.2)
                lost[early] += customer not in switch.channels
                switch.hang_up(customer)
                switch.hang_up(agent)
                await trio.sleep(0.1)
                client.frames.clear()
    assert lost[False] == 0
    assert 1 <= lost[True] <= 17


async def test_early_media_that_is_not_ignored(autojump_clock: MockClock) -> None:
    """+OK comes with the early media, the answer two seconds later; a failure after it has no job result any more."""
    carrier = Gateway(
        talk=NEVER,
        patience=NEVER,
        scripts=(
            Script(suffix="1", outcome=Outcome.EARLY_MEDIA_ANSWER),
            Script(suffix="2", outcome=Outcome.EARLY_MEDIA_FAILURE),
        ),
    )
    chosen = Scenario(realistic_headers=False, gateways={"carrier_a": carrier})
    async with simulated(chosen) as switch, connected(switch) as client:
        for number in "12":
            uuid = f"c0000000-0000-4000-8000-00000000000{number}"
            variables = f"{{origination_uuid={uuid},ignore_early_media=false}}"
            started = trio.current_time()
            await client.job(f"originate {variables}sofia/gateway/carrier_a/555{number} &park()")
            assert trio.current_time() - started == pytest.approx(0.2, abs=0.02)
        await trio.sleep(3)
        names = [name for name in client.names("c0000000-0000-4000-8000-000000000001") if name != "CHANNEL_PARK"]
        assert names[-2:] == ["CHANNEL_PROGRESS_MEDIA", "CHANNEL_ANSWER"]
        failed = client.events("CHANNEL_HANGUP", "c0000000-0000-4000-8000-000000000002")
        assert [event["Hangup-Cause"] for event in failed] == ["UNALLOCATED_NUMBER"]
