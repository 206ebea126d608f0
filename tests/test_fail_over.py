"""Trunks that fail, rest, come back, must not call or show another number: the whole daemon in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import trio

from dialer.calls.trunk_line import Line
from dialer.simulator.scenario import Outcome
from tests.faults.promises import check_at_rest, comes_to_rest
from tests.faults.stories import FAIL_OVER, SECOND_TRUNK
from tests.faults.virtual import SOON_AGAIN, VirtualHouse, run_virtually
from tests.house import QUICK, number

AGENTS = ("1000", "1001")
ALL_ANSWER = {"mix": {"answer": 1.0}, "scripts": []}
BOTH_CARRY: dict[str, Any] = {
    "gateways": {"carrier_a": ALL_ANSWER, "carrier_b": {**QUICK["gateways"]["carrier_a"], **ALL_ANSWER}}
}
WELL = {Outcome.ANSWER: 1.0}
FAILING = {Outcome.UNAVAILABLE: 1.0}


def in_virtual_time(
    redis_url: str,
    story: Callable[[VirtualHouse], Any],
    changes: Mapping[str, Any] = BOTH_CARRY,
    gateway: str = SECOND_TRUNK,
) -> None:
    async def told() -> None:
        async with VirtualHouse(redis_url, changes=changes, gateway=gateway).standing() as house:
            await house.start()
            await house.until(lambda: house.daemon.switches["fs"].ready, "connected")
            await story(house)

    run_virtually(told)


def carried(house: VirtualHouse) -> Counter[tuple[str, str]]:
    """How calls ended, by trunk."""
    return Counter((cdr.gateway, cdr.disposition.value) for cdr in house.cdrs())


async def trouble(house: VirtualHouse, gateway: str = "carrier_a") -> str:
    gateways = (await house.daemon.desk.status())["gateways"]
    (one,) = [one for one in gateways if one["name"] == gateway]
    return str(one["trouble"])


def reason(house: VirtualHouse) -> str:
    running = house.daemon.campaigns._running.get("test")
    return running.runner.reason if running is not None else ""


def test_every_lead_goes_over_the_second_trunk_when_the_first_fails(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        house.switch.change_mix("carrier_a", FAILING)
        await house.begin([number(index) for index in range(12)], AGENTS, **FAIL_OVER)
        await house.until(lambda: house.daemon.gateways["carrier_a"].health.parked, "parked", 20)
        assert "NORMAL_TEMPORARY_FAILURE" in await trouble(house)
        await comes_to_rest(house, len(AGENTS))
        found = carried(house)
        assert found["carrier_b", "bridged"] == 12
        assert set(found) == {("carrier_b", "bridged"), ("carrier_a", "failed_over")}
        assert found["carrier_a", "failed_over"] < 12  # it was parked, and only tried now and then
        assert [lead.attempts for lead in house.leads()] == [1] * 12
        await check_at_rest(house, longest_wait_seconds=40)

    in_virtual_time(redis_url, story)


def test_a_lead_goes_to_the_other_trunk_at_once_and_before_all_others(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        house.switch.change_mix("carrier_a", FAILING)
        await house.begin([number(index) for index in range(4)], AGENTS[:1], **FAIL_OVER)
        await comes_to_rest(house, 1)
        calls = sorted(house.cdrs(), key=lambda cdr: cdr.originated_at)
        first, second = calls[0], calls[1]
        assert (first.disposition.value, first.gateway) == ("failed_over", "carrier_a")
        assert (second.lead_id, second.gateway, second.attempt_no) == (first.lead_id, "carrier_b", 1)
        assert (second.originated_at - first.ended_at).total_seconds() < 1.5

    in_virtual_time(redis_url, story)


def test_a_daemon_that_dies_between_the_two_calls_makes_the_second_in_its_next_life(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        house.switch.change_mix("carrier_a", FAILING)
        await house.begin([number(0)], AGENTS, **FAIL_OVER)
        while not house.cdrs():  # noqa: ASYNC110 - it is in a database
            await trio.sleep(0.001)
        house.kill_now()
        await house.over()
        (lead,) = house.leads()
        assert (lead.status.value, lead.attempts, len(house.customers())) == ("waiting", 0, 1)
        await house.start()
        await comes_to_rest(house, len(AGENTS))
        assert carried(house) == {("carrier_a", "failed_over"): 1, ("carrier_b", "bridged"): 1}
        assert [lead.attempts for lead in house.leads()] == [1]

    in_virtual_time(redis_url, story)


def test_a_parked_trunk_comes_back_by_itself_when_it_is_well(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        house.switch.change_mix("carrier_a", FAILING)
        await house.begin([number(index) for index in range(40)], AGENTS, **FAIL_OVER)
        gateway = house.daemon.gateways["carrier_a"]
        await house.until(lambda: gateway.health.parked, "parked", 20)
        house.switch.change_mix("carrier_a", WELL)
        await house.until(lambda: not gateway.health.parked, "back", 20)
        assert await trouble(house) == ""
        await comes_to_rest(house, len(AGENTS))
        assert carried(house)["carrier_a", "bridged"] > 5  # it is the first one again

    in_virtual_time(redis_url, story)


def test_a_trunk_that_stays_bad_is_tried_less_and_less_often(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        house.switch.change_mix("carrier_a", FAILING)
        await house.begin([number(index) for index in range(200)], AGENTS, **FAIL_OVER)
        await house.until(lambda: house.daemon.gateways["carrier_a"].health.rest_seconds >= 8, "parked long", 60)
        over_first = [channel for channel in house.customers() if channel.gateway == "carrier_a"]
        assert 5 <= len(over_first) <= 8  # two that parked it, perhaps one beside them, and a trial each

    in_virtual_time(redis_url, story)


def test_the_only_trunk_that_fails_is_told_as_the_reason_and_leads_rest(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        house.switch.change_mix("carrier_a", FAILING)
        await house.begin([number(index) for index in range(9)], AGENTS)
        await house.until(lambda: "parked for" in reason(house), "parked", 20)
        assert reason(house).startswith("carrier_a takes no calls: parked for ")
        assert set(carried(house)) == {("carrier_a", "congestion")}  # there is no other to go over to
        house.switch.change_mix("carrier_a", WELL)
        await comes_to_rest(house, len(AGENTS))
        assert carried(house)["carrier_a", "bridged"] == 9

    in_virtual_time(redis_url, story, gateway="park_after_faults = 2\npark_seconds = 5\n")


def test_one_number_that_is_always_refused_does_not_park_the_trunk_by_being_called_again(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        house.switch.change_mix("carrier_a", FAILING)
        retries = f"{{ max_attempts = 4, delay_seconds = {{ {SOON_AGAIN} }} }}"
        await house.begin([number(0)], AGENTS, retries=retries)
        await comes_to_rest(house, len(AGENTS))
        assert carried(house)["carrier_a", "congestion"] == 4
        assert house.daemon.metrics.counts["gateways_parked"] == 0

    in_virtual_time(redis_url, story, gateway="park_after_faults = 2\npark_seconds = 5\n")


@pytest.mark.parametrize(
    ("outcome", "disposition"),
    [(Outcome.BUSY, "busy"), (Outcome.REJECTED, "rejected"), (Outcome.NOT_FOUND, "invalid_number")],
)
def test_what_the_person_or_the_number_says_is_not_tried_over_another_trunk(
    redis_url: str, outcome: Outcome, disposition: str
) -> None:
    async def story(house: VirtualHouse) -> None:
        house.switch.change_mix("carrier_a", {outcome: 1.0})
        await house.begin([number(index) for index in range(6)], AGENTS, retries="{ max_attempts = 1 }", **FAIL_OVER)
        await comes_to_rest(house, len(AGENTS))
        assert carried(house) == {("carrier_a", disposition): 6}
        assert not house.daemon.gateways["carrier_a"].health.parked

    in_virtual_time(redis_url, story)


def test_a_trunk_that_says_nothing_in_time_is_left_for_another(redis_url: str) -> None:
    silent = {"gateways": {**BOTH_CARRY["gateways"], "carrier_a": {**ALL_ANSWER, "ring_delay": 60.0}}}

    async def story(house: VirtualHouse) -> None:
        await house.begin([number(0)], AGENTS, **FAIL_OVER)
        await comes_to_rest(house, len(AGENTS))
        first, second = sorted(house.cdrs(), key=lambda cdr: cdr.originated_at)
        assert (first.disposition.value, first.hangup_cause) == ("failed_over", "PROGRESS_TIMEOUT")
        assert 1.9 < (first.ended_at - first.originated_at).total_seconds() < 3.1
        assert (second.disposition.value, second.gateway) == ("bridged", "carrier_b")

    in_virtual_time(redis_url, story, silent, gateway="progress_seconds = 2\n" + SECOND_TRUNK)


def test_a_trunk_that_its_switch_says_is_down_gets_no_calls_until_it_is_up(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        house.switch.gateway_state("carrier_a", up=False)
        await house.begin([number(index) for index in range(4)], AGENTS, running=False, **FAIL_OVER)
        await trio.sleep(0.1)
        assert await trouble(house) == "the switch says that carrier_a is down (NOREG)"
        await house.begin_running()
        await comes_to_rest(house, len(AGENTS))
        assert carried(house) == {("carrier_b", "bridged"): 4}
        house.switch.gateway_state("carrier_a", up=True)
        house.add_leads([number(index) for index in range(10, 12)])
        await house.daemon.desk.campaigns_changed()
        await house.until(lambda: carried(house)["carrier_a", "bridged"] == 2, "called over it", 20)

    in_virtual_time(redis_url, story)


def test_a_trunk_that_was_down_before_the_daemon_came_is_found_down(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        house.switch.gateway_state("carrier_a", up=False)
        await house.kill()
        await house.start()
        await house.until(lambda: house.daemon.switches["fs"].ready, "connected")
        await house.begin([number(0)], AGENTS)
        await house.until(lambda: "is down" in reason(house), "told", 10)
        assert house.customers() == []

    in_virtual_time(redis_url, story, gateway="")


def test_a_trunk_that_comes_up_without_a_word_is_found_up_soon(redis_url: str) -> None:
    """As one does that does not register, when its profile is there again (sofia_reg.c)."""

    async def story(house: VirtualHouse) -> None:
        house.switch.gateway_state("carrier_a", up=False)
        await house.until(lambda: house.daemon.gateways["carrier_a"].line.status == "down", "down", 5)
        house.switch._machine.population.gateways_down.clear()
        await house.until(lambda: house.daemon.gateways["carrier_a"].line.status == "up", "up", 5)

    in_virtual_time(redis_url, story, gateway="")


def test_a_trunk_that_the_switch_does_not_have_gets_no_calls_and_says_why(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([number(index) for index in range(3)], AGENTS, gateways='["carrier_b", "carrier_a"]')
        await comes_to_rest(house, len(AGENTS))
        assert await trouble(house, "carrier_b") == "the switch has no gateway carrier_b"
        assert carried(house) == {("carrier_a", "bridged"): 3}

    in_virtual_time(redis_url, story, {"gateways": {"carrier_a": ALL_ANSWER}})


def test_blind_areas_of_the_first_trunk_are_called_over_the_second(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        numbers = [*(f"+120255500{index}0" for index in range(3)), *(f"+121255500{index}0" for index in range(3))]
        await house.begin(numbers, AGENTS, **FAIL_OVER)
        await comes_to_rest(house, len(AGENTS))
        over = {cdr.number[:5]: cdr.gateway for cdr in house.cdrs()}
        assert over == {"+1202": "carrier_b", "+1212": "carrier_a"}
        assert len(house.cdrs()) == 6

    in_virtual_time(redis_url, story, gateway='blind_areas = ["+1202"]\n' + SECOND_TRUNK)


POOL = """
[[gateway.caller_ids]]
number = "+12025550111"
areas = ["+1202"]
[[gateway.caller_ids]]
number = "+12125550112"
areas = ["+1212"]
most_per_day = 2
[[gateway.caller_ids]]
number = "+18005550113"
"""


def test_people_see_the_number_of_the_pool_that_is_local_to_them(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        numbers = [f"+120255500{index}0" for index in range(3)] + [f"+121255500{index}0" for index in range(4)]
        numbers += ["+14155550010"]
        await house.begin(numbers, AGENTS)
        await comes_to_rest(house, len(AGENTS))
        seen = Counter(
            (channel.number[:4], channel.get("origination_caller_id_number")) for channel in house.customers()
        )
        assert seen == {
            ("1202", "+12025550111"): 3,
            ("1212", "+12125550112"): 2,  # as often as it may be shown in a day
            ("1212", "+18005550113"): 2,
            ("1415", "+18005550113"): 1,
        }
        shown = {channel.uuid: channel.get("origination_caller_id_number") for channel in house.customers()}
        assert {cdr.attempt_uuid: cdr.caller_id for cdr in house.cdrs()} == shown

    in_virtual_time(redis_url, story, gateway=POOL)


def test_a_campaigns_own_number_goes_before_the_pool(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([number(0)], AGENTS, caller_id='"+18885550100"')
        await comes_to_rest(house, len(AGENTS))
        (person,), (cdr,) = house.customers(), house.cdrs()
        assert person.get("origination_caller_id_number") == cdr.caller_id == "+18885550100"

    in_virtual_time(redis_url, story, gateway=POOL)


def test_who_is_called_again_that_day_sees_the_same_number(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        house.switch.change_mix("carrier_a", {Outcome.BUSY: 1.0})
        await house.begin(
            [f"+1415555{index:04}" for index in range(0, 60, 10)],
            AGENTS,
            retries=f"{{ max_attempts = 4, delay_seconds = {{ {SOON_AGAIN} }} }}",
        )
        await comes_to_rest(house, len(AGENTS))
        seen: dict[str, set[str | None]] = {}
        for channel in house.customers():
            seen.setdefault(channel.number, set()).add(channel.get("origination_caller_id_number"))
        assert len(house.customers()) == 24
        assert all(len(numbers) == 1 for numbers in seen.values())
        assert len(set.union(*seen.values())) == 2  # and both are shown

    pool = '[[gateway.caller_ids]]\nnumber = "+18005550113"\n[[gateway.caller_ids]]\nnumber = "+18005550114"\n'
    in_virtual_time(redis_url, story, gateway=pool)


def test_a_number_is_called_once_a_day_over_a_trunk_that_says_so(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        house.switch.change_mix("carrier_a", {Outcome.BUSY: 1.0})
        await house.begin([number(0)], AGENTS, **FAIL_OVER)
        await comes_to_rest(house, len(AGENTS))
        assert carried(house) == {("carrier_a", "busy"): 1, ("carrier_b", "bridged"): 1}

    in_virtual_time(redis_url, story, gateway="most_per_callee_a_day = 1\n" + SECOND_TRUNK)


def test_a_changed_file_is_taken_over_without_forgetting_what_is_wrong(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        house.switch.change_mix("carrier_a", FAILING)
        await house.begin([number(index) for index in range(20)], AGENTS, **FAIL_OVER)
        gateways = house.daemon.gateways
        await house.until(lambda: gateways["carrier_a"].health.parked, "parked", 20)
        before = gateways["carrier_a"].health
        changed = [one.model_copy(update={"tier": 3, "park_seconds": 60.0}) for one in house.settings.gateway]
        gateways.configure(changed)
        assert gateways["carrier_a"].health is before
        assert gateways["carrier_a"].line == Line("up", "NOREG")
        elsewhere = [changed[0].model_copy(update={"freeswitch_gateway": "carrier_b"}), changed[1]]
        gateways.configure(elsewhere)
        assert not gateways["carrier_a"].health.parked  # another trunk, of which nothing is known
        assert gateways["carrier_a"].line == Line()
        await house.until(lambda: gateways["carrier_a"].line.status == "up", "asked for", 5)

    in_virtual_time(redis_url, story)
