"""The commands one by one, and what a channel goes through under them."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock

from dialer.simulator import Gateway, Outcome, Phones, Scenario, Script

from .wiretap import Client, connected, simulated

ONE = "c0000000-0000-4000-8000-000000000001"
TWO = "c0000000-0000-4000-8000-000000000002"
NEVER = float("inf")
CARRIER = Gateway(talk=NEVER, patience=NEVER, scripts=(Script(prefix="9", outcome=Outcome.NO_ANSWER),))
SCENARIO = Scenario(
    realistic_headers=False,
    phones=(Phones(extensions="1000-1003"), Phones(extensions="1010", registered=False)),
    gateways={"carrier_a": CARRIER, "broken": Gateway(up=False), "small": CARRIER.model_copy(update={"capacity": 1})},
)


async def call(client: Client, uuid: str = ONE, target: str = "&park()", variables: str = "x=1") -> str:
    return await client.job(f"originate {{origination_uuid={uuid},{variables}}}sofia/gateway/carrier_a/1555 {target}")


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("originate", "-USAGE"),
        ("originate user/1000", "-USAGE"),
        ("originate {x=1user/1000 &park()", "-USAGE"),
        ("originate user/4711 &park()", "-ERR SUBSCRIBER_ABSENT\n"),
        ("originate user/1000@elsewhere &park()", "-ERR SUBSCRIBER_ABSENT\n"),
        ("originate user/1010 &park()", "-ERR USER_NOT_REGISTERED\n"),
        ("originate sofia/gateway/broken/1 &park()", "-ERR GATEWAY_DOWN\n"),
        ("originate sofia/gateway/nosuch/1 &park()", "-ERR INVALID_GATEWAY\n"),
        ("originate error/USER_BUSY &park()", "-ERR USER_BUSY\n"),
        ("originate loopback/1 &park()", "-ERR CHAN_NOT_IMPLEMENTED\n"),
        (f"originate {{origination_uuid={ONE}}}user/1001 &park()", "-ERR DESTINATION_OUT_OF_ORDER\n"),
        ("originate {originate_timeout=2}sofia/gateway/carrier_a/9 &park()", "-ERR NO_ANSWER\n"),
        (f"uuid_exists {ONE}", "true"),
        (f"uuid_exists {TWO}", "false"),
        (f"uuid_getvar {ONE} x", "1"),
        (f"uuid_getvar {ONE} y", "_undef_"),
        (f"uuid_getvar {TWO} x", "-ERR No such channel!\n"),
        (f"uuid_setvar {ONE} y a b", "+OK\n"),
        (f"uuid_setvar {TWO} y 1", "-ERR No such channel!\n"),
        (f"uuid_bridge {ONE} {TWO}", "-ERR Invalid uuid\n"),
        (f"uuid_bridge {ONE}", "-USAGE"),
        (f"uuid_kill {TWO}", "-ERR No such channel!\n"),
        ("uuid_kill", "-USAGE"),
        (f"uuid_park {TWO}", "-ERR No such channel!\n"),
        (f"uuid_record {TWO} start /x", "-ERR Cannot locate session!\n"),
        (f"uuid_record {ONE} stop /x", "-ERR Cannot stop record session!\n"),
        (f"uuid_broadcast {ONE} /x both", "+OK Message sent\n"),
        (f"sched_hangup +5 {ONE}", "+OK\n"),
        (f"sched_hangup +5 {TWO}", "-ERR No such channel!\n"),
        (f"sched_del {TWO}", "+OK Deleted: 0\n"),
        (f"uuid_transfer {ONE} -bleg 'park:' inline", "-ERR\n"),
        (f"uuid_dump {TWO}", "-ERR No such channel!\n"),
        ("show channels count", "\n1 total.\n"),
        ("show channels count as json", '{"row_count":1}'),
        ("show bridged_calls as json", '{"row_count":0}'),
        ("show calls", "uuid,direction"),
        ("show registrations", "reg_user,realm"),
        ("show nothing", "-USAGE"),
        ("sofia status gateway nosuch", "Invalid Gateway!\n"),
        ("global_getvar domain", "127.0.0.1"),
        ("version", "FreeSWITCH Version 1.11.3-dev"),
        ("hupall", "+OK hangup all channels with cause MANAGER_REQUEST\n"),
        ("nosuch x", "-ERR nosuch Command not found!\n"),
    ],
)
async def test_answers(command: str, answer: str, autojump_clock: MockClock) -> None:
    async with simulated(SCENARIO) as switch, connected(switch) as client:
        await call(client)
        got = await client.job(command)
        assert got == answer or (answer[-1] not in "\n}" and got.startswith(answer))


async def test_a_full_carrier_and_a_full_switch(autojump_clock: MockClock) -> None:
    scenario = SCENARIO.model_copy(update={"max_sessions": 2})
    async with simulated(scenario) as switch, connected(switch) as client:
        assert (await client.job("originate sofia/gateway/small/1 &park()")).startswith("+OK")
        assert await client.job("originate sofia/gateway/small/2 &park()") == "-ERR NORMAL_TEMPORARY_FAILURE\n"
        await trio.sleep(1)
        assert (await client.job("originate user/1000 &park()")).startswith("+OK")
        assert await client.job("originate user/1001 &park()") == "-ERR DESTINATION_OUT_OF_ORDER\n"
        await client.job("hupall")
        await trio.sleep(1)
        assert (await client.job("originate sofia/gateway/small/3 &park()")).startswith("+OK")


async def test_hang_up_by_schedule_and_its_deletion(autojump_clock: MockClock) -> None:
    async with simulated(SCENARIO) as switch, connected(switch) as client:
        variables = "execute_on_answer='sched_hangup +5 NO_USER_RESPONSE'"
        for uuid in (ONE, TWO):
            await call(client, uuid, "&endless_playback(silence_stream://-1)", variables)
        assert await client.job(f"sched_del {TWO}") == "+OK Deleted: 1\n"
        await trio.sleep(60)
        assert set(switch.channels) == {TWO}
        answered = int(client.events("CHANNEL_ANSWER", ONE)[0]["Event-Date-Timestamp"])
        ended = client.events("CHANNEL_HANGUP", ONE)[0]
        assert int(ended["Event-Date-Timestamp"]) - answered == 5_000_000
        assert ended["Hangup-Cause"] == "NO_USER_RESPONSE"


async def test_programs(autojump_clock: MockClock) -> None:
    async with simulated(SCENARIO) as switch, connected(switch) as client:
        await call(
            client, ONE, r"'set:a=b,playback:tone_stream://%(500\,500\,440),sleep:1000,hangup:USER_BUSY' inline"
        )
        await client.wait_event("CHANNEL_DESTROY", ONE)
        stamps = {name: int(client.events(name, ONE)[0]["Event-Date-Timestamp"]) for name in client.names(ONE)}
        assert stamps["PLAYBACK_STOP"] - stamps["PLAYBACK_START"] == 1_000_000
        assert stamps["CHANNEL_HANGUP"] - stamps["PLAYBACK_STOP"] == 1_000_000
        ended = client.events("CHANNEL_HANGUP", ONE)[0]
        assert (ended["Hangup-Cause"], ended["variable_a"]) == ("USER_BUSY", "b")
        # A space inside &app(…) splits the command, and what is left of it cannot be run.
        await call(client, TWO, "&loop_playback(+3 sound)")
        assert (await client.wait_event("CHANNEL_HANGUP", TWO))["Hangup-Cause"] == "DESTINATION_OUT_OF_ORDER"


async def test_park_timeout(autojump_clock: MockClock) -> None:
    async with simulated(SCENARIO) as switch, connected(switch) as client:
        await call(client, variables="park_timeout=7:NO_ANSWER")
        await client.wait_event("CHANNEL_PARK")
        await trio.sleep(6.9)
        assert ONE in switch.channels
        await trio.sleep(1)
        assert client.events("CHANNEL_HANGUP")[0]["Hangup-Cause"] == "NO_ANSWER"


async def test_transfer_of_both_legs(autojump_clock: MockClock) -> None:
    async with simulated(SCENARIO) as switch, connected(switch) as client:
        await call(client)
        await call(client, TWO)
        await client.job(f"uuid_bridge {ONE} {TWO}")
        await client.wait_event("CHANNEL_BRIDGE")
        client.frames.clear()
        assert await client.job(f"uuid_transfer {ONE} -both 'park:' inline") == "+OK\n"
        await trio.sleep(1)
        assert client.names().count("CHANNEL_UNBRIDGE") == 1
        assert client.names(ONE)[-1] == client.names(TWO)[-1] == "CHANNEL_PARK"


async def test_recording_and_keys(autojump_clock: MockClock) -> None:
    async with simulated(SCENARIO) as switch, connected(switch) as client:
        await call(client)
        assert await client.job(f"uuid_record {ONE} start /tmp/x.wav") == "+OK Success\n"
        assert await client.job(f"uuid_record {ONE} stop /tmp/x.wav") == "+OK Success\n"
        assert client.events("RECORD_STOP")[0]["Record-File-Path"] == "/tmp/x.wav"
        assert switch.press(ONE, "9")
        assert not switch.press(TWO, "9")
        event = await client.wait_event("DTMF", ONE)
        assert (event["DTMF-Digit"], event["DTMF-Source"]) == ("9", "RTP")


async def test_tables_show_the_state(autojump_clock: MockClock) -> None:
    async with simulated(SCENARIO) as switch, connected(switch) as client:
        await client.send(f"bgapi originate {{origination_uuid={ONE}}}sofia/gateway/carrier_a/9 &park()")
        await client.wait_event("CHANNEL_PROGRESS")
        rows = json.loads(await client.ask("api show channels as json"))["rows"]
        assert [(row["state"], row["callstate"], row["read_codec"]) for row in rows] == [
            ("CS_CONSUME_MEDIA", "RINGING", "")
        ]
        await client.job(f"uuid_kill {ONE} USER_BUSY")
        await trio.sleep(1)
        await call(client)
        await call(client, TWO)
        await client.job(f"uuid_bridge {ONE} {TWO}")
        await client.wait_event("CHANNEL_BRIDGE")
        calls = json.loads(await client.ask("api show calls as json"))
        assert [(row["uuid"], row["b_uuid"]) for row in calls["rows"]] == [(ONE, TWO)]
        assert json.loads(await client.ask("api show channels as json"))["row_count"] == 2
        dumped = json.loads(await client.ask(f"api uuid_dump {ONE} json"))
        assert (dumped["Channel-State"], dumped["variable_x"]) == ("CS_SOFT_EXECUTE", "1")


async def test_an_agent_calls_out_by_hand(autojump_clock: MockClock) -> None:
    carrier = Gateway(talk=30, scripts=(Script(suffix="4", outcome=Outcome.BUSY),))
    async with (
        simulated(Scenario(realistic_headers=False, gateways={"a": carrier})) as switch,
        connected(switch) as client,
    ):
        agent = switch.agent_calls_out("1000", "5551")
        bridge = await client.wait_event("CHANNEL_BRIDGE")
        assert bridge["Bridge-A-Unique-ID"] == agent
        assert client.events("CHANNEL_CREATE", agent)[0]["Call-Direction"] == "inbound"
        await trio.sleep(31)
        assert not switch.channels
        busy = switch.agent_calls_out("1000", "5554")
        assert (await client.wait_event("CHANNEL_HANGUP_COMPLETE", busy))["Hangup-Cause"] == "USER_BUSY"
        await trio.sleep(1)
        assert not switch.channels
