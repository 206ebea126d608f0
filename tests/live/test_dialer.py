"""The dialer on a real FreeSWITCH: every outcome, both kinds of phones, and a thousand answered calls."""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio

from .bare_client import BareClient
from .dialer_process import Dialer
from .event_socket import EventSocket
from .laboratory import Laboratory, Outcome
from .machinery import wait_until

# What each outcome must leave on the record: disposition and hang-up cause.
EXPECTED = {
    Outcome.TALKS: ("bridged", "NORMAL_CLEARING"),
    Outcome.BUSY: ("busy", "USER_BUSY"),
    Outcome.REJECTED: ("rejected", "CALL_REJECTED"),
    Outcome.NO_ANSWER: ("no_answer", "NO_ANSWER"),
    Outcome.UNALLOCATED: ("invalid_number", "UNALLOCATED_NUMBER"),
    Outcome.UNAVAILABLE: ("congestion", "NORMAL_TEMPORARY_FAILURE"),
    Outcome.EARLY_MEDIA: ("bridged", "NORMAL_CLEARING"),
    Outcome.GONE: ("hung_up", "NORMAL_CLEARING"),
}
EACH = {
    Outcome.TALKS: 120,
    Outcome.BUSY: 40,
    Outcome.REJECTED: 20,
    Outcome.NO_ANSWER: 20,
    Outcome.UNALLOCATED: 30,
    Outcome.UNAVAILABLE: 20,
    Outcome.EARLY_MEDIA: 30,
    Outcome.GONE: 20,
}
MAX_ATTEMPTS = 2
FRAME_MS = 20.0 + 1.0  # its ticks are not exact
ATTEMPTS = {"bridged": 1, "rejected": 1, "invalid_number": 1}


async def settled(dialer: Dialer, campaign: str, seconds: float) -> None:
    """Waits until no lead of the campaign is to be called any more, and no call is up.

    It looks into the database: each `dialer status` is a process that takes a second of the same two cores.
    """

    async def over() -> bool:
        return not dialer.leads_to_call(campaign)

    await wait_until(over, seconds, every=0.5)


async def only_parked_agents(laboratory: Laboratory, count: int) -> bool:
    channels = await laboratory.channels()
    parked = [channel for channel in channels if channel["state"] == "CS_PARK" or channel["application"] == "park"]
    return len(channels) == len(parked) == count


@pytest.mark.parametrize("phones", ["nailed_up", "on_demand"])
async def test_three_hundred_leads_of_every_outcome(laboratory: Laboratory, tmp_path: Path, phones: str) -> None:
    # `gone` at 5 ms: over before any bridge can be asked for
    # and customers stay longer than a phone that is rung for each call needs to be picked up
    await laboratory.carrier(ring=(100, 300), talk=(1200, 2000), early=(200, 400), gone=5)
    agents = await laboratory.phones(5, ring=(50, 150))
    numbers = {outcome.number(index): outcome for outcome, count in EACH.items() for index in range(count)}
    assert len(numbers) == 300
    # A list full of congested numbers, and a single trunk to call them over.
    dialer = Dialer(laboratory, tmp_path, gateway="park_after_faults = 1000")
    delays = ", ".join(f"{name} = 1.0" for name in ("no_answer", "busy", "congestion", "hung_up", "abandoned"))
    await dialer.campaign(
        "every",
        phones=f'"{phones}"',
        ring_seconds="5",
        wrap_up_seconds="0.0",
        connect_seconds="5.0",
        record="true" if phones == "nailed_up" else "false",
        retries=f"{{ max_attempts = {MAX_ATTEMPTS}, delay_seconds = {{ {delays} }} }}",
    )
    await dialer.leads("every", list(numbers))
    async with dialer.running():
        for extension in agents.extensions:
            await dialer.cli("agent", "ready", extension, "--campaign", "every")
        await dialer.cli("campaign", "start", "every")
        await settled(dialer, "every", 420)
        status = await dialer.status()
        await wait_until(lambda: only_parked_agents(laboratory, 5 if phones == "nailed_up" else 0), 10)

    cdrs = await dialer.cdrs("every")
    by_number: dict[str, list[dict[str, Any]]] = {}
    for cdr in cdrs:
        by_number.setdefault(cdr["number"].removeprefix("+"), []).append(cdr)
    assert set(by_number) == set(numbers)
    wrong = []
    for number, outcome in numbers.items():
        disposition, cause = EXPECTED[outcome]
        found = by_number[number]
        right = len(found) == ATTEMPTS.get(disposition, MAX_ATTEMPTS) and all(
            (cdr["disposition"], cdr["hangup_cause"]) == (disposition, cause) for cdr in found
        )
        if not right:
            wrong.append((outcome.name, [(cdr["disposition"], cdr["hangup_cause"]) for cdr in found]))
    assert not wrong, f"{wrong}\n{dialer.log_tail()}"
    assert len({cdr["attempt_uuid"] for cdr in cdrs}) == len(cdrs)
    bridged = [cdr for cdr in cdrs if cdr["disposition"] == "bridged"]
    assert {cdr["agent"] for cdr in bridged} == set(agents.extensions)
    assert {cdr["hung_up_by"] for cdr in bridged} == {"customer"}
    if phones == "nailed_up":
        sizes = [(await trio.Path(cdr["recording"]).stat()).st_size for cdr in bridged]
        assert min(sizes) > 0
    print(Counter(cdr["disposition"] for cdr in cdrs), status["metrics"])
    await wait_until(lambda: only_parked_agents(laboratory, 0), 10)
    assert not [line for line in dialer.log_lines() if line["level"] == "error"]


async def bare_figures(laboratory: Laboratory, extensions: list[str]) -> dict[str, Any]:
    """What FreeSWITCH itself needs on this machine now, by a client that does nothing else."""
    async with await EventSocket.open(laboratory.esl_port, laboratory.password) as socket:
        figures: dict[str, Any] = await BareClient(socket, laboratory.domain).run(
            count=300, rate=20, extensions=extensions
        )
    await laboratory.hang_up_all()
    await wait_until(lambda: only_parked_agents(laboratory, 0), 10)
    return figures


async def test_a_thousand_answered_calls(laboratory: Laboratory, tmp_path: Path) -> None:
    """20 calls a second on 40 nailed-up phones without wrap-up: all bridged as fast as a bare client does it."""
    await laboratory.carrier(ring=(20, 60), talk=(800, 1200))
    agents = await laboratory.phones(40, ring=(50, 150))
    bare = await bare_figures(laboratory, list(agents.extensions))
    dialer = Dialer(laboratory, tmp_path, concurrency=100, calls_per_second=20)
    await dialer.campaign("thousand", wrap_up_seconds="0.0", connect_seconds="2.0")
    await dialer.leads("thousand", [Outcome.TALKS.number(index) for index in range(1000)])
    async with dialer.running():
        for extension in agents.extensions:
            await dialer.cli("agent", "ready", extension, "--campaign", "thousand")

        async def all_idle() -> bool:
            return all(one["state"] == "idle" for one in (await dialer.status())["agents"])

        await wait_until(all_idle, 30)
        started = trio.current_time()
        await dialer.cli("campaign", "start", "thousand")
        await settled(dialer, "thousand", 180)
        elapsed = trio.current_time() - started
        status = await dialer.status()
        await wait_until(lambda: only_parked_agents(laboratory, 40), 10)
    cdrs = await dialer.cdrs("thousand")
    metrics = status["metrics"]
    waits_ms = sorted(cdr["wait_ms"] for cdr in cdrs if cdr["bridged_at"])
    print({"seconds": round(elapsed, 1), **metrics})
    print({"dialer_ms": [waits_ms[500], waits_ms[990]], "bare": bare})
    assert Counter(cdr["disposition"] for cdr in cdrs) == {"bridged": 1000}, dialer.log_tail()
    assert metrics["counts"].get("agent_legs_lost", 0) == metrics["counts"]["agent_legs_up"] - 40
    # Our own share, from reading the +OK to sending uuid_bridge; the rest is FreeSWITCH's, as the bare client shows.
    assert metrics["ok_to_bridge_sent_ms"]["p50"] <= 2
    # Its clock ticks once a frame: a millisecond later can be a tick later.
    assert statistics.median(waits_ms) <= bare["milliseconds"]["answer_to_bridge_on_the_switch"]["median"] + FRAME_MS
    await wait_until(lambda: only_parked_agents(laboratory, 0), 10)


async def test_a_killed_daemon_finds_its_conversations_again(laboratory: Laboratory, tmp_path: Path) -> None:
    """kill -9 in the middle of talks: they go on, are found by the next life, and recorded once."""
    await laboratory.carrier(ring=(20, 60))
    agents = await laboratory.phones(3, ring=(50, 150))
    dialer = Dialer(laboratory, tmp_path)
    await dialer.campaign("held", wrap_up_seconds="0.0")
    await dialer.leads("held", [Outcome.HOLDS.number(index) for index in range(3)])

    async def three_talk() -> bool:
        states = [one["state"] for one in (await dialer.status())["agents"]]
        return states == ["on_call"] * 3

    async with dialer.running() as process:
        for extension in agents.extensions:
            await dialer.cli("agent", "ready", extension, "--campaign", "held")
        await dialer.cli("campaign", "start", "held")
        await wait_until(three_talk, 30)
        before = {channel["uuid"] for channel in await laboratory.channels()}
        process.kill()
        await process.wait()
    async with dialer.running():
        await wait_until(three_talk, 30)
        await trio.sleep(15)  # past the dead man's hang-up of a customer who waits
        assert {channel["uuid"] for channel in await laboratory.channels()} == before
        for extension in agents.extensions:
            await dialer.cli("agent", "hangup", extension)
        await settled(dialer, "held", 30)
        await wait_until(lambda: only_parked_agents(laboratory, 3), 10)
    cdrs = await dialer.cdrs("held")
    assert [(cdr["disposition"], cdr["attempt_no"]) for cdr in cdrs] == [("bridged", 1)] * 3
    assert {cdr["agent"] for cdr in cdrs} == set(agents.extensions)
    await wait_until(lambda: only_parked_agents(laboratory, 0), 10)
