"""The dialer on a real FreeSWITCH: every outcome, both kinds of phones, and a thousand answered calls."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio

from .dialer_process import Dialer
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
ATTEMPTS = {"bridged": 1, "rejected": 1, "invalid_number": 1}


async def settled(dialer: Dialer, campaign: str, seconds: float) -> None:
    """Waits until no lead of the campaign is to be called any more, and no call is up."""

    async def over() -> bool:
        one = await dialer.campaign_status(campaign)
        return not any(one["leads"][status] for status in ("new", "waiting", "dialing"))

    await wait_until(over, seconds)


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
    dialer = Dialer(laboratory, tmp_path)
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
        assert all(Path(cdr["recording"]).stat().st_size > 0 for cdr in bridged)
    print(Counter(cdr["disposition"] for cdr in cdrs), status["metrics"])
    await wait_until(lambda: only_parked_agents(laboratory, 0), 10)
    assert not [line for line in dialer.log_lines() if line["level"] == "error"]


async def test_a_thousand_answered_calls(laboratory: Laboratory, tmp_path: Path) -> None:
    """20 calls a second on 40 nailed-up phones without wrap-up: all bridged, every leg parked again."""
    await laboratory.carrier(ring=(20, 60), talk=(800, 1200))
    agents = await laboratory.phones(40, ring=(50, 150))
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
    print({"seconds": round(elapsed, 1), **metrics})
    assert Counter(cdr["disposition"] for cdr in cdrs) == {"bridged": 1000}, dialer.log_tail()
    assert metrics["counts"].get("agent_legs_lost", 0) == metrics["counts"]["agent_legs_up"] - 40
    await wait_until(lambda: only_parked_agents(laboratory, 0), 10)
