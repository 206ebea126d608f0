"""The laboratory is what we think it is: each outcome gives FreeSWITCH's cause for it, phones register and ring."""

from __future__ import annotations

import os
import uuid

import pytest
import trio

from .event_socket import Event, EventSocket
from .laboratory import Laboratory, Outcome
from .machinery import find_binary, wait_until

CALL_EVENTS = ["CHANNEL_PROGRESS", "CHANNEL_PROGRESS_MEDIA", "CHANNEL_ANSWER", "CHANNEL_PARK", "CHANNEL_BRIDGE"]
CALL_EVENTS += ["CHANNEL_HANGUP_COMPLETE", "DTMF"]
REFUSED = {
    Outcome.BUSY: "USER_BUSY",
    Outcome.REJECTED: "CALL_REJECTED",
    Outcome.UNALLOCATED: "UNALLOCATED_NUMBER",
    Outcome.UNAVAILABLE: "NORMAL_TEMPORARY_FAILURE",
}
RANG = ["CHANNEL_PROGRESS", "CHANNEL_ANSWER"]


def customer(call: str, number: str, *, timeout: int = 30) -> str:
    variables = f"origination_uuid={call},ignore_early_media=true,originate_timeout={timeout}"
    return f"originate {{{variables}}}sofia/gateway/carrier_a/{number} &park()"


def agent(call: str, extension: str, laboratory: Laboratory) -> str:
    variables = f"origination_uuid={call},park_after_bridge=true,hangup_after_bridge=false"
    return f"originate {{{variables}}}user/{extension}@{laboratory.domain} &park()"


async def history(events: EventSocket, call: str) -> list[Event]:
    """A call's events up to its end, without CHANNEL_PARK and the job's."""
    seen: list[Event] = []
    with trio.fail_after(20):
        while not seen or seen[-1]["Event-Name"] != "CHANNEL_HANGUP_COMPLETE":
            event = await events.event()
            if event.get("Unique-ID") == call and event["Event-Name"] != "CHANNEL_PARK":
                seen.append(event)
    return seen


async def wait_event(events: EventSocket, name: str, call: str) -> Event:
    with trio.fail_after(20):
        while True:
            event = await events.event()
            if event["Event-Name"] == name and event.get("Unique-ID") == call:
                return event


def names(events: list[Event]) -> list[str]:
    return [event["Event-Name"] for event in events]


async def test_every_outcome_gives_its_cause(laboratory: Laboratory) -> None:
    await laboratory.carrier(ring=50, talk=300, early=200, slow_ring=1500)
    seen: dict[Outcome, tuple[list[str], str]] = {}

    async def call(outcome: Outcome) -> None:
        call_id = str(uuid.uuid4())
        async with laboratory.listen(*CALL_EVENTS) as events:
            await events.bgapi(customer(call_id, outcome.number(7), timeout=3), str(uuid.uuid4()))
            if outcome in (Outcome.HOLDS, Outcome.SLOW):
                await wait_event(events, "CHANNEL_PARK", call_id)
                await events.bgapi(f"uuid_kill {call_id}", str(uuid.uuid4()))
                seen[outcome] = ["CHANNEL_HANGUP_COMPLETE"], "NORMAL_CLEARING"
                await history(events, call_id)
                return
            happened = await history(events, call_id)
            seen[outcome] = names(happened), happened[-1]["Hangup-Cause"]

    async with trio.open_nursery() as nursery:
        for outcome in Outcome:
            nursery.start_soon(call, outcome)

    end = ["CHANNEL_HANGUP_COMPLETE"]
    expected = {outcome: (end, cause) for outcome, cause in REFUSED.items()}
    expected |= dict.fromkeys((Outcome.HOLDS, Outcome.SLOW), (end, "NORMAL_CLEARING"))
    expected |= dict.fromkeys((Outcome.TALKS, Outcome.GONE), (RANG + end, "NORMAL_CLEARING"))
    expected[Outcome.NO_ANSWER] = ["CHANNEL_PROGRESS", *end], "NO_ANSWER"
    expected[Outcome.EARLY_MEDIA] = ["CHANNEL_PROGRESS_MEDIA", "CHANNEL_ANSWER", *end], "NORMAL_CLEARING"
    assert seen == expected


async def test_a_customer_can_hang_up_and_press_keys_when_told(laboratory: Laboratory) -> None:
    carrier = await laboratory.carrier(ring=50)
    call = str(uuid.uuid4())
    async with laboratory.listen(*CALL_EVENTS) as events:
        await events.bgapi(customer(call, Outcome.HOLDS.number()), str(uuid.uuid4()))
        await wait_event(events, "CHANNEL_PARK", call)
        for key in "9#":
            await carrier.press(call, key)
            assert (await wait_event(events, "DTMF", call))["DTMF-Digit"] == key
        await carrier.hang_up(call)
        ended = await wait_event(events, "CHANNEL_HANGUP_COMPLETE", call)
    assert ended["variable_sip_hangup_disposition"] == "recv_bye"


async def test_phones_register_ring_and_stay_through_two_bridges(laboratory: Laboratory) -> None:
    carrier = await laboratory.carrier(ring=50)
    phones = await laboratory.phones(3)
    assert sorted(row["reg_user"] for row in await laboratory.registrations()) == ["1000", "1001", "1002"]
    seat = str(uuid.uuid4())
    async with laboratory.listen(*CALL_EVENTS) as events:
        await events.bgapi(agent(seat, "1001", laboratory), str(uuid.uuid4()))
        await wait_event(events, "CHANNEL_PARK", seat)
        for index in range(2):
            call = str(uuid.uuid4())
            await events.bgapi(customer(call, Outcome.HOLDS.number(index)), str(uuid.uuid4()))
            await wait_event(events, "CHANNEL_PARK", call)
            await events.bgapi(f"uuid_bridge {call} {seat}", str(uuid.uuid4()))
            await wait_event(events, "CHANNEL_BRIDGE", call)
            await carrier.hang_up(call)
            await wait_event(events, "CHANNEL_PARK", seat)
        await phones.hang_up(seat)
        ended = await wait_event(events, "CHANNEL_HANGUP_COMPLETE", seat)
    assert ended["variable_sip_hangup_disposition"] == "recv_bye"


async def test_phones_unregister_renew_and_may_be_of_a_difficult_kind(laboratory: Laboratory) -> None:
    phones = await laboratory.phones(2)
    await laboratory.phones(1, first=1010, answers=False)
    await laboratory.phones(1, first=1020, patience=200, ring=10)
    await phones.unregister("1000")
    assert sorted(row["reg_user"] for row in await laboratory.registrations()) == ["1001", "1010", "1020"]
    await phones.register()
    await phones.register("1001")
    assert len(await laboratory.registrations()) == 4
    async with laboratory.listen(*CALL_EVENTS) as events:
        deaf, tired = str(uuid.uuid4()), str(uuid.uuid4())
        command = agent(deaf, "1010", laboratory).replace("{", "{originate_timeout=2,")
        await events.bgapi(command, str(uuid.uuid4()))
        assert (await history(events, deaf))[-1]["Hangup-Cause"] == "NO_ANSWER"
        await events.bgapi(agent(tired, "1020", laboratory), str(uuid.uuid4()))
        assert (await history(events, tired))[-1]["variable_sip_hangup_disposition"] == "recv_bye"


async def test_a_phone_dials_out_by_itself(laboratory: Laboratory) -> None:
    await laboratory.carrier(ring=50)
    await laboratory.phones(1)
    assert await laboratory.dial_out("1000", "+" + Outcome.HOLDS.number(), talk=300)
    assert not await laboratory.dial_out("1000", "+" + Outcome.BUSY.number())


async def test_a_hundred_calls_ring_at_once(laboratory: Laboratory) -> None:
    async def all_listed() -> bool:
        return len(await laboratory.channels()) == 150

    await laboratory.carrier()
    async with laboratory.listen("CHANNEL_PROGRESS") as events:
        for index in range(150):
            number = Outcome.NO_ANSWER.number(index)
            await events.bgapi(customer(str(uuid.uuid4()), number), str(uuid.uuid4()))
        with trio.fail_after(10):
            for _ in range(150):
                await events.event()
        with trio.fail_after(10):  # `show channels` runs behind the calls
            await wait_until(all_listed)
    await laboratory.hang_up_all()


async def test_the_switch_can_be_stopped_frozen_killed_and_started_again(laboratory: Laboratory) -> None:
    laboratory.freeze()
    with trio.move_on_after(0.5) as answered:
        await laboratory.api("status")
    laboratory.thaw()
    assert answered.cancelled_caught
    port = laboratory.esl_port
    laboratory.kill()
    with pytest.raises(OSError, match="all attempts to connect"):
        await laboratory.api("status")
    await laboratory.start()
    await laboratory.stop()
    await laboratory.start()
    assert laboratory.esl_port == port
    assert await laboratory.channels() == []


async def test_a_gateway_goes_down_and_comes_back() -> None:
    async with Laboratory(ping=5) as laboratory, laboratory.listen("CUSTOM", "sofia::gateway_state") as events:
        carrier = await laboratory.carrier()

        async def is_up() -> bool:
            return "<status>UP" in await laboratory.api("sofia xmlstatus gateway carrier_a")

        async def wait_status(status: str) -> None:
            with trio.fail_after(60):
                while True:
                    event = await events.event()
                    if event["Gateway"] == "carrier_a" and event.get("Ping-Status") == status:
                        return

        with trio.fail_after(20):
            await wait_until(is_up)
        carrier.kill()
        await wait_status("DOWN")
        await carrier.start()
        await wait_status("UP")


async def test_nothing_is_left_behind() -> None:
    async with Laboratory() as laboratory:
        carrier = await laboratory.carrier()
        directory, pid = laboratory.directory, laboratory.freeswitch_pid
    assert not carrier.is_running
    assert not directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_test_that_fails_leaves_nothing_behind_either() -> None:
    laboratory = Laboratory()
    pids = []

    async def fail() -> None:
        async with laboratory:
            pids.append(laboratory.freeswitch_pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_binaries_may_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIALER_SIPP", "/nowhere/sipp")
    assert find_binary("sipp") is None
    monkeypatch.setenv("DIALER_SIPP", "/bin/sh")
    assert find_binary("sipp") == "/bin/sh"
