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
FAIL_OVER: dict[str, Any] = {"gateways": '["carrier_a", "carrier_b"]'}
# Both agents step out while the third person's phone rings, who wants no more such calls.
SORRY = {
    "connect_seconds": "0.5",
    "abandoned_message": '"tone_stream://%(1000,0,440)"',
    "message_key_seconds": "2",
}
ANNOYED = {
    "gateways": {
        "carrier_a": {
            "scripts": [
                {"suffix": "0", "outcome": "answer", "talk": 0.3},
                {"suffix": "7", "outcome": "busy"},
                {
                    "suffix": "1",
                    "outcome": "answer",
                    "answer_delay": 1.0,
                    "talk": 1.0,
                    "keys": "59",
                    "key_delay": 0.8,
                },
            ]
        }
    }
}
# Everybody talks, and agents say what came of it: one of them by a key of the phone, the other at the door.
SAYING = {
    "dispositions": '[{ name = "no_sale" }, { name = "sale", key = "1" }, { name = "call_back", then = "callback" }]',
    "default_disposition": '"no_sale"',
    "wrap_up_seconds": "1.0",
    "callback_patience_minutes": "0.5",
}
TALKATIVE = {
    "gateways": {
        "carrier_a": {
            "scripts": [{"suffix": suffix, "outcome": "answer", "talk": 0.6} for suffix in ("0", "7", "1")],
        }
    }
}

Break = Callable[[VirtualHouse], None]


async def a_few_calls(
    redis_url: str,
    wrong: Break = lambda _house: None,
    *,
    changes: Mapping[str, Any] | None = None,
    gateway: str = "",
    call_backs: bool = False,
    step_out: bool = False,
    **campaign: str,
) -> VirtualHouse:
    """Two agents, three leads. `wrong` sets up what goes wrong, once everything is there and nothing has begun.

    A daemon that was killed is followed by another at once. Where a campaign has words for it, agents say what came
    of their conversations; with `call_backs` they promise one in each person's first. With `step_out` they are away
    for a while when it matters.
    """
    async with VirtualHouse(redis_url, changes=changes, gateway=gateway).standing() as house:
        await house.start()
        await house.until(lambda: house.daemon.switches["fs"].ready, "connected")
        await house.begin(LEADS, AGENTS, running=False, **campaign)
        wrong(house)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_reborn, house)
            nursery.start_soon(_look_at_offers, house)
            if step_out:
                nursery.start_soon(_step_out, house)
            if "dispositions" in campaign:
                nursery.start_soon(_say_what_came_of_it, house, call_backs)
            await house.begin_running()
            await comes_to_rest(house, len(AGENTS), nailed_up=campaign.get("phones") != '"on_demand"')
            nursery.cancel_scope.cancel()
        # A promised call is made beyond max_attempts too, and tried again callback_tries times.
        most = 6 if call_backs else 2
        await check_at_rest(house, max_attempts=most, longest_wait_seconds=LONGEST_WAIT_SECONDS)
    return house


async def _step_out(house: VirtualHouse) -> None:
    """Agents make a pause while a phone rings for them, and come back."""
    while not any(person.number.endswith("1") for person in house.customers()):  # noqa: ASYNC110 - virtual time
        await trio.sleep(0.1)
    for extension in AGENTS:
        with contextlib.suppress(DialerError):
            await house.daemon.desk.agent_pause(extension)
    await trio.sleep(3.0)
    await house.come_back_all(AGENTS)


async def _say_what_came_of_it(house: VirtualHouse, call_backs: bool) -> None:
    """In wrap-up 1000 presses a key and 1001 says it at the door, once for each conversation."""
    promised: set[str] = set()
    spoken: set[str] = set()
    while True:
        await trio.sleep(0.1)
        for agent in await house.agents_as_they_are():
            extension, conversation = agent["extension"], agent.get("last_call", "")
            if agent.get("state") != "wrap_up" or conversation in spoken:
                continue
            number = next(one.number for one in house.attempts() if one.uuid == conversation)
            dispose = house.daemon.desk.verbs()["agent_dispose"]
            with contextlib.suppress(DialerError):  # it is away: they try again
                if call_backs and number not in promised:
                    await dispose(extension, "call_back", in_minutes=0.05)
                    promised.add(number)
                elif extension == "1000":
                    house.switch.press(agent["leg"], "1")
                else:
                    await dispose(extension, "sale")
                spoken.add(conversation)


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
