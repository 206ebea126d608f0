"""Answering machines on a real FreeSWITCH with mod_amd, a module that does not come with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from .dialer_process import Dialer
from .laboratory import Laboratory, Outcome
from .machinery import wait_until
from .test_dialer import only_parked_agents, settled
from .voice import sounds, speak

HELLO = sounds(0.1, 0.4, 2.0)
GREETING = sounds(0.1, 4.0)  # nobody talks for so long to a caller who says nothing


async def test_a_machine_is_hung_up_on_and_people_are_connected(laboratory: Laboratory, tmp_path: Path) -> None:
    if await laboratory.api("module_exists mod_amd") != "true":
        pytest.skip("this FreeSWITCH has no mod_amd")
    await laboratory.carrier(ring=(50, 60), talk=3000)
    agents = await laboratory.phones(3)
    numbers = machine, person, silent = [Outcome.TALKS.number(index) for index in range(3)]
    voices = {machine: GREETING, person: HELLO}  # and one that sends no sound at all
    dialer = Dialer(laboratory, tmp_path)
    await dialer.campaign(
        "spring",
        machine_detection="true",
        machine_detection_seconds="2.0",
        connect_seconds="3.0",
        retries="{ max_attempts = 1 }",
    )
    await dialer.leads("spring", numbers)

    async def say(uuid: str, number: str) -> None:
        await speak(laboratory, uuid, voices[number])

    async with dialer.running(), laboratory.listen("CHANNEL_ANSWER") as events, trio.open_nursery() as nursery:
        for extension in agents.extensions:
            await dialer.cli("agent", "ready", extension, "--campaign", "spring")
        nursery.start_soon(dialer.cli, "campaign", "start", "spring")  # the first answer may precede its end
        answered = 0
        while answered < len(numbers):
            with trio.fail_after(30):
                event = await events.event()
            number = event["Channel-Name"].rpartition("/")[2].partition("@")[0]
            if number in numbers:
                answered += 1
                if number in voices:
                    nursery.start_soon(say, event["Unique-ID"], number)
        await settled(dialer, "spring", 60)
        await wait_until(lambda: only_parked_agents(laboratory, 3), 10)
        report = await dialer.cli("report", "abandonment", "--campaign", "spring")
    cdrs = {cdr["number"].removeprefix("+"): cdr for cdr in await dialer.cdrs("spring")}
    print({number: (cdr["disposition"], cdr["wait_ms"]) for number, cdr in cdrs.items()}, report)
    assert {number: (cdr["disposition"], cdr["hung_up_by"], bool(cdr["agent"])) for number, cdr in cdrs.items()} == {
        machine: ("machine", "dialer", False),
        person: ("bridged", "customer", True),
        silent: ("bridged", "customer", True),
    }
    assert cdrs[machine]["wait_ms"] < 2000
    assert cdrs[person]["wait_ms"] < 2000
    assert 2000 <= cdrs[silent]["wait_ms"] < 3000  # nothing was heard in time
    assert not any(cdr["abandoned"] for cdr in cdrs.values())
