"""Answering machines: listened to, hung up on, and no agent's time lost; people are connected all the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from campaigns.campaign import parse_campaign
from campaigns.disposition import Disposition
from dialer.errors import InputRefusedError
from dialer.pacing.pacer import HeldBy
from tests.faults.virtual import VirtualHouse
from tests.test_campaign_pacing import ONCE, PEOPLE, TEN, add_people, in_virtual_time, pacing

CARRIER: dict[str, Any] = PEOPLE["gateways"]["carrier_a"]  # type: ignore[index]
MACHINES = {
    **PEOPLE,
    "tells_machines": True,
    "gateways": {
        "carrier_a": {
            **CARRIER,
            "mix": {"answer": 40, "machine": 30, "no_answer": 30},
            "taken_for_machine": 0.04,
            "taken_for_person": 0.1,
            "verdict_delay": {"kind": "uniform", "low": 0.3, "high": 1.0},
        }
    },
}
SCREENED = {**ONCE, "machine_detection": "true", "wrap_up_seconds": "2"}


def test_agents_talk_to_people(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([], TEN, running=False, mode='"predictive"', **SCREENED)
        add_people(house, 300)
        await house.begin_running()
        await house.until(lambda: house.finished, "all called", 30_000)
        people = {person.uuid: person for person in house.customers()}
        cdrs = house.cdrs()
        taken_for = Counter(
            (people[cdr.attempt_uuid].plan.is_machine, cdr.disposition is Disposition.MACHINE)  # type: ignore[union-attr]
            for cdr in cdrs
            if cdr.answered_at is not None
        )
        assert taken_for[True, True] > 5 * taken_for[True, False] > 0
        assert taken_for[False, False] > 5 * taken_for[False, True] > 0
        bridged = [cdr for cdr in cdrs if cdr.disposition is Disposition.BRIDGED]
        machines = [cdr for cdr in cdrs if cdr.disposition is Disposition.MACHINE]
        assert {cdr.abandoned for cdr in machines} == {None}
        assert {cdr.agent for cdr in machines} == {None}
        assert {cdr.hung_up_by for cdr in machines} == {"dialer"}
        assert max(cdr.wait_ms or 0 for cdr in machines) <= 1_200
        # Listening takes from the two seconds, and adds nothing to them.
        assert max(cdr.wait_ms or 0 for cdr in bridged if not cdr.abandoned) <= 2_000
        known = pacing(house)
        await known.count(house.daemon.database)
        (counted,) = house.rows("SELECT sum(machines), sum(false_positive_permille) FROM abandonment_hour")
        assert counted == (len(machines), 50 * len(machines))
        # Those who were abandoned, and the machines that are supposed to have been people.
        abandoned = sum(bool(cdr.abandoned) for cdr in cdrs)
        assert known.on_record[0].abandoned == pytest.approx(abandoned + 0.05 * len(machines))
        assert known.report()["abandoned_day"] == pytest.approx(abandoned + 0.05 * len(machines), abs=0.06)

    in_virtual_time(redis_url, story, MACHINES)


def test_supposed_people_count_against_the_limit_before_they_are_on_record(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([], TEN, running=False, mode='"predictive"', **SCREENED)
        add_people(house, 60)
        await house.begin_running()
        await house.until(lambda: house.daemon.pacing.known(1) is not None, "known", 10)
        await house.until(lambda: house.finished, "all called", 600)
        assert pacing(house).budget.balance < 0  # nobody but machines has answered

    only_machines = {"mix": {"machine": 1}, "taken_for_person": 0.0}
    in_virtual_time(redis_url, story, {**MACHINES, "gateways": {"carrier_a": {**CARRIER, **only_machines}}})


def test_a_switch_that_cannot_listen_is_not_dialed_on(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([], TEN[:2], running=False, **SCREENED)
        add_people(house, 5)
        await house.begin_running()
        why = "the switch 'fs' has no application 'amd', which machine_detection needs"
        running = house.daemon.campaigns._running
        await house.until(lambda: "test" in running and running["test"].runner.reason == why, "says why", 30)
        assert pacing(house).held_by is HeldBy.CHANNELS
        assert not house.customers()

    in_virtual_time(redis_url, story, PEOPLE)


def test_a_person_needs_time_after_the_verdict() -> None:
    text = 'name = "x"\ngateways = ["a"]\ncountry = "US"\nmachine_detection = true\nmachine_detection_seconds = 2.0\n'
    with pytest.raises(InputRefusedError, match="should be less than connect_seconds, 2:"):
        parse_campaign(text, "x.toml")
