"""Random faults in a random order, each followed by a look at what must hold always; at the end everything must."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.faults.promises import check_always, check_at_rest, comes_to_rest
from tests.faults.steps import STEPS, Step
from tests.faults.stories import AGENTS
from tests.faults.virtual import VirtualHouse, run_virtually
from tests.house import number

EXAMPLES: Final = 2000
SHARDS: Final = 8  # one test each, for several cores
# After a kill the dead man's handle of the originate is all there is: ring_seconds + connect_seconds + its margin.
LONGEST_WAIT_SECONDS: Final = 60.0

PAUSES = st.sampled_from([0.0, 0.02, 0.05, 0.1, 0.15, 0.3, 1.0])
DIGITS = st.lists(st.sampled_from([0, 0, 1, 4, 5, 7]), min_size=1, max_size=2)


async def story(
    redis_url: str, seed: int, steps: list[tuple[float, Step]], digits: list[int], nailed_up: bool
) -> None:
    dice = random.Random(seed)
    async with VirtualHouse(redis_url, seed=seed).standing() as house:
        await house.start()
        phones = '"nailed_up"' if nailed_up else '"on_demand"'
        await house.begin([number(index, digit) for index, digit in enumerate(digits)], AGENTS, phones=phones)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.agents_come_back)
            for pause_seconds, step in steps:
                await trio.sleep(pause_seconds)
                await step(house, dice)
                check_always(house)
            await comes_to_rest(house, len(AGENTS), nailed_up=nailed_up)
            nursery.cancel_scope.cancel()
        await check_at_rest(house, longest_wait_seconds=LONGEST_WAIT_SECONDS)


def tell_stories(redis_url: str, shard: int, count: int, told: Callable[[], None] = lambda: None) -> None:
    """`count` stories, others for each shard; those of the test suite are always the same."""

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=count == EXAMPLES // SHARDS,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(
        seed=st.integers(0, 2**16),
        steps=st.lists(st.tuples(PAUSES, st.sampled_from(STEPS)), max_size=5),
        digits=DIGITS,
        nailed_up=st.booleans(),
    )
    def stories(seed: int, steps: list[tuple[float, Step]], digits: list[int], nailed_up: bool) -> None:
        note(f"{[(pause, step.__name__) for pause, step in steps]}")
        run_virtually(story, redis_url, seed * SHARDS + shard, steps, digits, nailed_up)
        told()

    stories()


@pytest.mark.parametrize("shard", range(SHARDS))
def test_random_faults(redis_url: str, shard: int) -> None:
    tell_stories(redis_url, shard, EXAMPLES // SHARDS)
