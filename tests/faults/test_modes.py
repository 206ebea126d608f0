"""Offers and messages, each time with one thing going wrong one moment later."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio

from campaigns.disposition import Disposition
from tests.faults.promises import check_at_rest, comes_to_rest
from tests.faults.stories import (
    ANNOYED,
    ANSWERING,
    BROADCAST,
    FAIL_OVER,
    FIRST_FAILS,
    LISTENERS,
    LONGEST_WAIT_SECONDS,
    PREVIEW,
    SAYING,
    SCREENED,
    SECOND_TRUNK,
    SORRY,
    TALKATIVE,
    a_few_calls,
)
from tests.faults.test_each_moment import KillAtStep, told
from tests.faults.virtual import Faults, Trouble, VirtualHouse, run_virtually
from tests.faults.wire import Garble
from tests.house import number

BROADCAST_STORY: dict[str, Any] = {**BROADCAST, "changes": LISTENERS}
STORIES: dict[str, dict[str, Any]] = {
    "preview": PREVIEW,
    "preview_on_demand": {**PREVIEW, "phones": '"on_demand"'},
    "broadcast": BROADCAST_STORY,
    "screened": {**SCREENED, "changes": ANSWERING},
    "fail_over": {**FAIL_OVER, "changes": FIRST_FAILS, "gateway": SECOND_TRUNK},
    "sorry": {**SORRY, "changes": ANNOYED, "step_out": True},
    "saying": {**SAYING, "changes": TALKATIVE},
    "call_backs": {**SAYING, "changes": TALKATIVE, "call_backs": True},
}
# Most steps of the others are those of any call.
EVERY = {id(STORIES["broadcast"]): 1, id(STORIES["sorry"]): 1, id(STORIES["call_backs"]): 9}
each_story = pytest.mark.parametrize("story", STORIES.values(), ids=list(STORIES))


def outcomes(house: VirtualHouse) -> Counter[str]:
    return Counter(cdr.disposition.value for cdr in house.cdrs())


def test_nothing_goes_wrong(redis_url: str) -> None:
    preview = run_virtually(a_few_calls, redis_url, **STORIES["preview"])
    assert outcomes(preview) == {"skipped": 3, "bridged": 1, "hung_up": 2, "busy": 2}
    broadcast = run_virtually(a_few_calls, redis_url, **STORIES["broadcast"])
    assert outcomes(broadcast) == {"message_played": 1, "hung_up": 2, "opted_out": 1}
    screened = run_virtually(a_few_calls, redis_url, **STORIES["screened"])
    assert outcomes(screened) == {"bridged": 2, "machine": 1}
    fail_over = run_virtually(a_few_calls, redis_url, **STORIES["fail_over"])
    carried = Counter((cdr.gateway, cdr.disposition.value) for cdr in fail_over.cdrs())
    assert carried.pop(("carrier_a", "failed_over")) >= 2
    assert carried == {("carrier_b", "bridged"): 1, ("carrier_b", "hung_up"): 2, ("carrier_b", "busy"): 2}
    sorry = run_virtually(a_few_calls, redis_url, **STORIES["sorry"])
    assert outcomes(sorry) == {"bridged": 1, "busy": 2, "opted_out": 1}
    assert [(row.pattern, row.source) for row in sorry.suppressions()] == [(number(2, 1), "key pressed")]
    saying = run_virtually(a_few_calls, redis_url, **STORIES["saying"])
    assert outcomes(saying) == {"bridged": 3}
    assert {(row.agent, row.name, row.set_by) for row in saying.outcomes()} == {
        ("1000", "sale", "key"),
        ("1001", "sale", "agent"),
    }


def test_a_call_back_is_made_by_who_promised_it(redis_url: str) -> None:
    house = run_virtually(a_few_calls, redis_url, **STORIES["call_backs"])
    assert outcomes(house) == {"bridged": 6}
    agents: dict[str, list[str | None]] = {}
    for cdr in house.cdrs():
        agents.setdefault(cdr.number, []).append(cdr.agent)
    assert all(len(two) == 2 and two[0] == two[1] for two in agents.values()), agents
    assert Counter(row.name for row in house.outcomes()) == {"call_back": 3, "sale": 3}


@each_story
def test_the_daemon_dies_at_every_step(redis_url: str, story: dict[str, Any]) -> None:
    steps = 0
    step = 1
    while step == 1 or step <= steps:
        seen: list[KillAtStep] = []

        def wrong(house: VirtualHouse, step: int = step, seen: list[KillAtStep] = seen) -> None:
            seen.append(KillAtStep(house, step))
            trio.lowlevel.add_instrument(seen[0])

        told(run_virtually, step, a_few_calls, redis_url, wrong, **story)
        steps = max(steps, seen[0].steps)
        step += EVERY.get(id(story), 3)
    assert steps > 50


@each_story
@pytest.mark.parametrize("trouble", [Trouble.REFUSED, Trouble.UNANSWERED])
@pytest.mark.parametrize("part", ["redis", "database"])
def test_redis_and_the_database_fail_at_every_request(
    redis_url: str, story: dict[str, Any], trouble: Trouble, part: str
) -> None:
    def faults(house: VirtualHouse) -> Faults:
        return house.redis_faults if part == "redis" else house.database_faults

    before = 0

    def count(house: VirtualHouse) -> None:
        nonlocal before
        before = faults(house).requests

    house = run_virtually(a_few_calls, redis_url, count, **story)
    moments = faults(house).requests - before
    assert moments >= 8
    for moment in range(1, moments + 1, 1 if part == "database" else 8):

        def wrong(house: VirtualHouse, moment: int = moment) -> None:
            faults(house).at = {faults(house).requests + moment: trouble}

        told(run_virtually, moment, a_few_calls, redis_url, wrong, **story)


@pytest.mark.parametrize("story", [PREVIEW, BROADCAST_STORY], ids=["preview", "broadcast"])
@pytest.mark.parametrize("garble", [Garble.DROP, Garble.DELAY, Garble.CUT_BEFORE])
def test_events_are_lost_or_late_or_the_link_is_cut(redis_url: str, story: dict[str, Any], garble: Garble) -> None:
    def count(house: VirtualHouse) -> None:
        house.disorder.events_only = True
        house.disorder.frames = 0

    moments = run_virtually(a_few_calls, redis_url, count, **story).disorder.frames
    assert moments > 20
    for moment in range(1, moments + 1, 3):

        def wrong(house: VirtualHouse, moment: int = moment) -> None:
            house.disorder.events_only = True
            house.disorder.at = {house.disorder.frames + moment: garble}

        told(run_virtually, moment, a_few_calls, redis_url, wrong, **story)


def test_who_has_opted_out_is_not_called_again_though_the_result_is_written_late(redis_url: str) -> None:
    def wrong(house: VirtualHouse) -> None:
        house.later(2.0, lambda: setattr(house.database_faults, "down", Trouble.REFUSED))
        house.later(9.0, lambda: setattr(house.database_faults, "down", None))

    house = run_virtually(a_few_calls, redis_url, wrong, **STORIES["broadcast"])
    calls = Counter(person.number for person in house.customers())
    (opted_out,) = [cdr for cdr in house.cdrs() if cdr.disposition is Disposition.OPTED_OUT]
    assert calls[opted_out.number.removeprefix("+")] == 1


async def a_long_look(redis_url: str) -> VirtualHouse:
    async with VirtualHouse(redis_url).standing() as house:
        await house.start()
        await house.begin([number(0)], ["1000"], mode='"preview"', preview_seconds="600.0")
        await trio.sleep(300)  # longer than any lease, and several looks at the switch
        verbs = house.daemon.desk.verbs()
        assert (await verbs["agent_offer"]("1000"))["seconds_left"] < 310
        (agent,) = [one for one in await house.agents() if one.campaign]
        (attempt,) = house.attempts()
        assert (agent.token, attempt.closed_at, attempt.offered) == (attempt.uuid, None, True)
        await verbs["agent_accept"]("1000")
        await comes_to_rest(house, 1)
        await check_at_rest(house, longest_wait_seconds=LONGEST_WAIT_SECONDS)
    return house


def test_an_offer_stands_as_long_as_its_countdown(redis_url: str) -> None:
    house = run_virtually(a_long_look, redis_url)
    assert [(cdr.disposition.value, cdr.agent) for cdr in house.cdrs()] == [("bridged", "1000")]


async def redis_hangs_while_phones_ring(redis_url: str) -> VirtualHouse:
    changes = {"gateways": {"carrier_a": {"scripts": [], "answer_delay": 1.0, "patience": 60.0}}}
    async with VirtualHouse(redis_url, changes=changes).standing() as house:
        await house.start()
        numbers, agents = [number(0), number(1)], ["1000", "1001"]
        message = '"tone_stream://%(1000,0,440)"'
        await house.begin(numbers, agents, connect_seconds="1.0", abandoned_message=message, message_key_seconds="1")
        await house.until(lambda: len(house.customers()) == 2, "ringing", 10)
        house.redis_faults.down = Trouble.HANGING
        await house.until(lambda: all(one.hung_up_at for one in house.customers()), "hung up", 60)
        house.redis_faults.down = None
        await comes_to_rest(house, 2)
        # a second to find an agent in, one of message, one for the key, and what the wire takes
        await check_at_rest(house, longest_wait_seconds=3.0 + 0.5)
    return house


def test_a_redis_that_hangs_makes_nobody_wait_longer_for_the_message(redis_url: str) -> None:
    house = run_virtually(redis_hangs_while_phones_ring, redis_url)
    assert outcomes(house)["abandoned"] == 2
