"""Nobody free, on a real FreeSWITCH: a message from a file, the key that opts out; an agent's key in wrap-up."""

from __future__ import annotations

import math
import struct
import wave
from functools import partial
from pathlib import Path

import trio

from dialer import door

from .dialer_process import Dialer
from .laboratory import Laboratory, Outcome
from .machinery import wait_until
from .test_dialer import only_parked_agents, settled

RETRIES = "{ max_attempts = 1 }"
MESSAGE_SECONDS = 5


def write_message(path: Path) -> None:
    """A tone, as FreeSWITCH plays it."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        samples = (round(8000 * math.sin(math.pi * n / 10)) for n in range(8000 * MESSAGE_SECONDS))
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))


async def test_whoever_found_nobody_opts_out_by_a_key(laboratory: Laboratory, tmp_path: Path) -> None:
    carrier = await laboratory.carrier(slow_ring=10_000)
    agents = await laboratory.phones(4, ring=(50, 150))
    during, after, listens, leaves = numbers = [Outcome.SLOW.number(index) for index in range(4)]
    message = tmp_path / "sorry.wav"
    write_message(message)
    dialer = Dialer(laboratory, tmp_path)
    await dialer.campaign(
        "spring",
        abandoned_message=f'"{message}"',
        abandoned_opt_out='"7"',
        message_key_seconds="4",
        seller='"acme"',
        retries=RETRIES,
    )
    await dialer.leads("spring", numbers)

    async def all_ring() -> bool:
        return len(await laboratory.channels()) == 8

    async def pause_all() -> None:  # the command line takes its time, and they ring for ten seconds
        for extension in agents.extensions:
            await trio.to_thread.run_sync(
                partial(door.ask, tmp_path / "door.sock", "agent_pause", extension=extension)
            )

    async def all_hear_it() -> bool:
        return [one["application"] for one in await laboratory.channels()].count("playback") == 4

    async with dialer.running():
        await dialer.cli_for_each(*(("agent", "ready", one, "--campaign", "spring") for one in agents.extensions))
        await wait_until(lambda: only_parked_agents(laboratory, 4), 30)
        await dialer.cli("campaign", "start", "spring")
        await wait_until(all_ring, 30, every=0.1)
        await pause_all()
        await wait_until(all_hear_it, 30, every=0.1)
        began = trio.current_time()
        channels = {one["name"].rpartition("/")[2]: one["uuid"] for one in await laboratory.channels()}
        calls = {number: next(uuid for name, uuid in channels.items() if name.endswith(number)) for number in numbers}
        await carrier.hang_up(calls[leaves])
        await carrier.press(calls[during], "5")
        await trio.sleep(0.5)  # the first INFO is answered by then
        await carrier.press(calls[during], "7")
        await trio.sleep_until(began + MESSAGE_SECONDS + 1.0)  # in the time for keys
        await carrier.press(calls[after], "7")
        await settled(dialer, "spring", 60)
        await wait_until(lambda: only_parked_agents(laboratory, 4), 20)
        listed = await dialer.cli("dnc", "list", "--csv")
    cdrs = {cdr["number"].removeprefix("+"): cdr for cdr in await dialer.cdrs("spring")}
    assert {number: (cdr["disposition"], cdr["abandoned"], cdr["keys"]) for number, cdr in cdrs.items()} == {
        during: ("opted_out", True, "57"),
        after: ("opted_out", True, "7"),
        listens: ("abandoned", True, None),
        leaves: ("abandoned", True, None),
    }
    assert {number: cdr["hung_up_by"] for number, cdr in cdrs.items()} == {
        during: "dialer",
        after: "dialer",
        listens: "dialer",
        leaves: "customer",
    }
    heard_ms = {number: cdr["wait_ms"] for number, cdr in cdrs.items()}
    assert heard_ms[during] < 1000 * MESSAGE_SECONDS < heard_ms[after] < heard_ms[listens]
    # two seconds of waiting, the message, and the time for keys, whose seconds the switch counts whole
    assert 9500 <= heard_ms[listens] <= 13_000
    for number in (during, after):
        assert number in listed
    assert listed.count("key pressed") == listed.count("acme") == 2


async def test_an_agent_says_by_a_key_what_came_of_it(laboratory: Laboratory, tmp_path: Path) -> None:
    await laboratory.carrier(ring=(200, 300), talk=(1000, 1200))
    agents = await laboratory.phones(1, ring=(50, 150))
    (extension,) = agents.extensions
    dialer = Dialer(laboratory, tmp_path)
    await dialer.campaign(
        "spring",
        dispositions='[{ name = "no_sale" }, { name = "sale", key = "1" }]',
        default_disposition='"no_sale"',
        wrap_up_seconds="60.0",
        retries=RETRIES,
    )
    await dialer.leads("spring", [Outcome.TALKS.number(0)])

    async def outcome() -> tuple[str | None, str | None]:
        (cdr,) = await dialer.cdrs("spring")
        return cdr["outcome"], cdr["outcome_set_by"]

    async def closed() -> bool:
        return len(await dialer.cdrs("spring")) == 1

    async def is_sold() -> bool:
        return await outcome() == ("sale", "key")

    async with dialer.running():
        await dialer.cli("agent", "ready", extension, "--campaign", "spring")
        await wait_until(lambda: only_parked_agents(laboratory, 1), 30)
        await dialer.cli("campaign", "start", "spring")
        await wait_until(closed, 30)
        assert await outcome() == ("no_sale", "default")
        (leg,) = await laboratory.channels()
        await laboratory.api(f"uuid_recv_dtmf {leg['uuid']} 1")  # as if it had come from the phone
        await wait_until(is_sold, 40)
        (agent,) = (await dialer.status())["agents"]
        assert agent["last_said"] == "sale"
