"""A few calls, told in a house where something goes wrong; at the end the promises are checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import trio

from tests.faults.promises import check_at_rest, comes_to_rest
from tests.faults.virtual import VirtualHouse
from tests.house import number

AGENTS = ("1000", "1001")
# One talks, one hangs up before an agent is there, one is busy.
LEADS = (number(0, 0), number(1, 7), number(2, 1))
# The originate's own handle: ring_seconds, connect_seconds and what `originate` adds.
LONGEST_WAIT_SECONDS = 40.0

Break = Callable[[VirtualHouse], None]


async def a_few_calls(
    redis_url: str,
    wrong: Break = lambda _house: None,
    *,
    changes: Mapping[str, Any] | None = None,
    **campaign: str,
) -> VirtualHouse:
    """Two agents, three leads. `wrong` sets up what goes wrong, once everything is there and nothing has begun.

    A daemon that was killed is followed by another at once.
    """
    async with VirtualHouse(redis_url, changes=changes).standing() as house:
        await house.start()
        await house.until(lambda: house.daemon.switches["fs"].ready, "connected")
        await house.begin(LEADS, AGENTS, running=False, **campaign)
        wrong(house)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_reborn, house)
            await house.begin_running()
            await comes_to_rest(house, len(AGENTS), nailed_up=campaign.get("phones") != '"on_demand"')
            nursery.cancel_scope.cancel()
        await check_at_rest(house, longest_wait_seconds=LONGEST_WAIT_SECONDS)
    return house


async def _reborn(house: VirtualHouse) -> None:
    while True:
        await house.over()
        await house.start()
