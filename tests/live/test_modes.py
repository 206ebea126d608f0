"""Preview and broadcast on a real FreeSWITCH."""

from __future__ import annotations

import json
from pathlib import Path

import trio

from .dialer_process import Dialer
from .laboratory import Laboratory, Outcome
from .machinery import wait_until
from .test_dialer import only_parked_agents, settled

RETRIES = "{ max_attempts = 1 }"


async def test_a_message_is_heard_repeated_and_refused_for_good(laboratory: Laboratory, tmp_path: Path) -> None:
    carrier = await laboratory.carrier(ring=(50, 60), gone=300)
    listens, repeats, opts_out, late, leaves, busy = numbers = [
        *(Outcome.HOLDS.number(index) for index in range(4)),
        Outcome.GONE.number(0),
        Outcome.BUSY.number(0),
    ]
    dialer = Dialer(laboratory, tmp_path)
    await dialer.campaign(
        "spring",
        mode='"broadcast"',
        message='"tone_stream://%(4000,0,440)"',
        message_key_seconds="4",
        retries=RETRIES,
    )
    await dialer.leads("spring", numbers)

    async def press(number: str, key: str, after_seconds: float) -> None:
        await trio.sleep(after_seconds)
        (channel,) = [one for one in await laboratory.channels() if one["name"].endswith(number)]
        await carrier.press(channel["uuid"], key)

    async def all_listen() -> bool:
        listening = [one for one in await laboratory.channels() if one["application"] == "playback"]
        return len(listening) == 4

    async with dialer.running():
        await dialer.cli("campaign", "start", "spring")
        await wait_until(all_listen, 30)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(press, repeats, "1", 1.5)
            nursery.start_soon(press, opts_out, "9", 1.0)
            nursery.start_soon(press, late, "9", 5.0)  # in the time for keys
        await settled(dialer, "spring", 60)
        await wait_until(lambda: only_parked_agents(laboratory, 0), 10)
    cdrs = {cdr["number"].removeprefix("+"): cdr for cdr in await dialer.cdrs("spring")}
    assert {number: (cdr["disposition"], cdr["keys"], cdr["hung_up_by"]) for number, cdr in cdrs.items()} == {
        listens: ("message_played", None, "dialer"),
        repeats: ("message_played", "1", "dialer"),
        opts_out: ("opted_out", "9", "dialer"),
        late: ("opted_out", "9", "dialer"),
        leaves: ("hung_up", None, "customer"),
        busy: ("busy", None, None),
    }
    # The switch counts the seconds after the message whole, and so up to one too few.
    assert 6500 <= cdrs[listens]["wait_ms"] <= 9000
    assert cdrs[listens]["wait_ms"] + 1000 <= cdrs[repeats]["wait_ms"] <= 12_000
    assert cdrs[opts_out]["wait_ms"] < 4000 < cdrs[late]["wait_ms"] < 7000


async def test_a_message_that_is_not_there_calls_nobody(laboratory: Laboratory, tmp_path: Path) -> None:
    await laboratory.carrier(ring=(50, 60))
    dialer = Dialer(laboratory, tmp_path)
    await dialer.campaign("spring", mode='"broadcast"', message='"/nowhere/spring.wav"', retries=RETRIES)
    await dialer.leads("spring", [Outcome.HOLDS.number(0)])

    async def told() -> bool:
        return (
            "has no file /nowhere/spring.wav, which message names" in (await dialer.campaign_status("spring"))["why"]
        )

    async with dialer.running():
        await dialer.cli("campaign", "start", "spring")
        await wait_until(told, 30)
        assert await dialer.cdrs("spring") == []


async def test_a_message_that_cannot_be_played_is_told(laboratory: Laboratory, tmp_path: Path) -> None:
    await laboratory.carrier(ring=(50, 60))
    dialer = Dialer(laboratory, tmp_path)
    message = tmp_path / "spring.wav"
    message.write_bytes(b"no sound at all")
    await dialer.campaign(
        "spring", mode='"broadcast"', message=f'"{message}"', max_calls_in_flight="1", retries=RETRIES
    )
    await dialer.leads("spring", [Outcome.HOLDS.number(index) for index in range(5)])

    async def told() -> bool:
        return f"cannot play {message}" in (await dialer.campaign_status("spring"))["why"]

    async with dialer.running():
        await dialer.cli("campaign", "start", "spring")
        await wait_until(told, 30)
        (cdr,) = await dialer.cdrs("spring")
        assert (cdr["disposition"], cdr["note"], cdr["hung_up_by"]) == (
            "failed",
            "the message could not be played",
            "dialer",
        )
        assert cdr["wait_ms"] < 500


async def test_an_agent_looks_skips_accepts_and_talks(laboratory: Laboratory, tmp_path: Path) -> None:
    await laboratory.carrier(ring=(500, 600), talk=(1000, 1200))
    agents = await laboratory.phones(2, ring=(50, 150))
    dialer = Dialer(laboratory, tmp_path)
    await dialer.campaign("spring", mode='"preview"', preview_seconds="120.0", wrap_up_seconds="0.0", retries=RETRIES)
    await dialer.leads("spring", [Outcome.TALKS.number(index) for index in range(3)])

    async def offers(count: int) -> bool:
        return len((await dialer.status())["offers"]) == count

    async with dialer.running():
        for extension in agents.extensions:
            await dialer.cli("agent", "ready", extension, "--campaign", "spring")
        await dialer.cli("campaign", "start", "spring")
        await wait_until(lambda: offers(2), 30)
        one, two = agents.extensions
        skipped = json.loads(await dialer.cli("agent", "offer", one, "--json"))["number"]
        await dialer.cli("agent", "skip", one, "--reason", "a friend")
        await wait_until(lambda: offers(2), 30)
        shown = {ext: json.loads(await dialer.cli("agent", "offer", ext, "--json"))["number"] for ext in (one, two)}
        await dialer.cli_for_each(("agent", "accept", one), ("agent", "accept", two))

        async def all_over() -> bool:
            return len(await dialer.cdrs("spring")) == 3

        await wait_until(all_over, 30)
        await wait_until(lambda: only_parked_agents(laboratory, 2), 10)
    found = {cdr["number"]: (cdr["disposition"], cdr["agent"], cdr["note"]) for cdr in await dialer.cdrs("spring")}
    assert found == {
        skipped: ("skipped", one, "a friend"),
        shown[one]: ("bridged", one, None),
        shown[two]: ("bridged", two, None),
    }
