"""A few calls, told in a house where something goes wrong; at the end the promises are checked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import trio

from dialer.errors import DialerError
from tests.faults.promises import check_at_rest, comes_to_rest
from tests.faults.virtual import VirtualHouse
from tests.house import QUICK, number

AGENTS = ("1000", "1001")
# One talks, one hangs up before an agent is there, one is busy.
LEADS = (number(0, 0), number(1, 7), number(2, 1))
# The originate's own handle: ring_seconds, connect_seconds and what `originate` adds.
LONGEST_WAIT_SECONDS = 40.0

# Agents look at leads first; nobody listens to a message of a second to its end but the first.
PREVIEW = {"mode": '"preview"', "preview_seconds": "3.0"}
BROADCAST = {"mode": '"broadcast"', "message": '"tone_stream://%(1000,0,440)"', "message_key_seconds": "2"}
LISTENERS = {
    "gateways": {
        "carrier_a": {
            "scripts": [
                {"suffix": "0", "outcome": "answer", "keys": "1", "key_delay": 0.4},  # hears it again
                {"suffix": "7", "outcome": "answer_hang_up", "hang_up_after": 0.3},
                {"suffix": "1", "outcome": "answer", "keys": "59", "key_delay": 1.2},  # no more calls
            ]
        }
    }
}
# Whoever answers is listened to: a person, a machine, and a person of whom nothing is known in time.
SCREENED = {"machine_detection": "true", "machine_detection_seconds": "0.8", "retries": "{ max_attempts = 1 }"}
ANSWERING = {
    "tells_machines": True,
    "gateways": {
        "carrier_a": {
            "scripts": [
                {"suffix": "0", "outcome": "answer", "verdict_delay": 0.3},
                {"suffix": "7", "outcome": "machine", "verdict_delay": 0.5},
                {"suffix": "1", "outcome": "answer", "verdict_delay": 5.0},
            ]
        }
    },
}

# The first trunk carries nothing, and is soon parked; the second is as good as the one of the other stories.
SECOND_TRUNK = """
park_after_faults = 2
park_seconds = 1
[[gateway]]
name = "carrier_b"
switch = "fs"
caller_id = "+12025550101"
concurrency = 50
calls_per_second = 1000
"""
FIRST_FAILS = {
    "gateways": {
        "carrier_a": {"mix": {"unavailable": 1.0}, "scripts": []},
        "carrier_b": QUICK["gateways"]["carrier_a"],
    }
}
FAIL_OVER = {"gateways": '["carrier_a", "carrier_b"]'}

Break = Callable[[VirtualHouse], None]


async def a_few_calls(
    redis_url: str,
    wrong: Break = lambda _house: None,
    *,
    changes: Mapping[str, Any] | None = None,
    gateway: str = "",
    **campaign: str,
) -> VirtualHouse:
    """Two agents, three leads. `wrong` sets up what goes wrong, once everything is there and nothing has begun.

    A daemon that was killed is followed by another at once.
    """
    async with VirtualHouse(redis_url, changes=changes, gateway=gateway).standing() as house:
        await house.start()
        await house.until(lambda: house.daemon.switches["fs"].ready, "connected")
        await house.begin(LEADS, AGENTS, running=False, **campaign)
        wrong(house)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_reborn, house)
            nursery.start_soon(_look_at_offers, house)
            await house.begin_running()
            await comes_to_rest(house, len(AGENTS), nailed_up=campaign.get("phones") != '"on_demand"')
            nursery.cancel_scope.cancel()
        await check_at_rest(house, longest_wait_seconds=LONGEST_WAIT_SECONDS)
    return house


async def _look_at_offers(house: VirtualHouse) -> None:
    """Agents skip each lead once, and accept it then. They think for half a second."""
    skipped: set[str] = set()
    while True:
        await trio.sleep(0.5)
        for extension in AGENTS:
            verbs = house.daemon.desk.verbs()
            with contextlib.suppress(DialerError):  # nothing is offered
                number = (await verbs["agent_offer"](extension))["number"]
                if number in skipped:
                    await verbs["agent_accept"](extension)
                else:
                    await verbs["agent_skip"](extension, "later")
                    skipped.add(number)


async def _reborn(house: VirtualHouse) -> None:
    while True:
        await house.over()
        await house.start()
