"""Trunks on a real FreeSWITCH: fail-over, once a day, numbers shown in the INVITE, up and down."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio

from .dialer_process import Dialer
from .laboratory import Invite, Laboratory, Outcome
from .machinery import HOST, wait_until
from .test_dialer import settled

SECOND = """
[[gateway]]
name = "carrier_b"
switch = "real"
caller_id = "+12025550101"
concurrency = 50
"""
BOTH = {"gateways": '["carrier_a", "carrier_b"]', "wrap_up_seconds": "0.0"}


async def gateway_state(dialer: Dialer, name: str = "carrier_a") -> dict[str, Any]:
    return next(one for one in (await dialer.status())["gateways"] if one["name"] == name)


async def ready(dialer: Dialer, *extensions: str, campaign: str = "test") -> None:
    for extension in extensions:
        await dialer.cli("agent", "ready", extension, "--campaign", campaign)
    await dialer.cli("campaign", "start", campaign)


def carried(cdrs: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    return Counter((cdr["gateway"], cdr["disposition"]) for cdr in cdrs)


async def test_calls_go_over_from_a_trunk_that_answers_503_and_back_when_it_is_well(
    laboratory: Laboratory, tmp_path: Path
) -> None:
    bad = await laboratory.carrier("carrier_a", always=Outcome.UNAVAILABLE)
    good = await laboratory.carrier("carrier_b", ring=100, talk=500)
    agents = await laboratory.phones(2, ring=50)
    parking = "park_after_faults = 3\npark_seconds = 4\n"
    dialer = Dialer(laboratory, tmp_path, gateway=parking + SECOND)
    await dialer.campaign("test", **BOTH)
    await dialer.leads("test", [Outcome.TALKS.number(index) for index in range(12)])
    async with dialer.running():
        assert (await gateway_state(dialer))["line"] == "up"
        await ready(dialer, *agents.extensions)
        await wait_until(lambda: is_parked(dialer), 20)
        told = (await gateway_state(dialer))["trouble"]
        assert "calls in a row failed, the last with 503 NORMAL_TEMPORARY_FAILURE" in told
        await settled(dialer, "test", 60)
        first_round = await dialer.cdrs("test")
        found = carried(first_round)
        assert found["carrier_b", "bridged"] == 12
        assert set(found) == {("carrier_b", "bridged"), ("carrier_a", "failed_over")}
        assert {cdr["sip_status"] for cdr in first_round if cdr["gateway"] == "carrier_a"} == {503}
        assert {cdr["attempt_no"] for cdr in first_round} == {1}  # a call that reached no phone is none
        assert len(bad.invites()) == found["carrier_a", "failed_over"] < 12
        assert len(good.invites()) == 12

        bad.kill()
        await laboratory.carrier("carrier_a", ring=100, talk=500)
        await dialer.leads("test", [Outcome.TALKS.number(index) for index in range(20, 32)])
        await settled(dialer, "test", 90)
        assert carried(await dialer.cdrs("test"))["carrier_a", "bridged"] >= 4
        assert not (await gateway_state(dialer))["parked"]


async def is_parked(dialer: Dialer) -> bool:
    return bool((await gateway_state(dialer))["parked"])


@pytest.mark.parametrize("settings", ["", "progress_seconds = 2\n"], ids=["nobody there", "silent"])
async def test_calls_go_over_from_a_trunk_that_does_not_answer_at_all(
    laboratory: Laboratory, tmp_path: Path, settings: str
) -> None:
    silent = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    with silent:
        if settings:  # it takes what is sent, and says nothing
            await silent.bind((HOST, laboratory.carrier_ports["carrier_a"]))
        await laboratory.carrier("carrier_b", ring=100, talk=500)
        agents = await laboratory.phones(1, ring=50)
        dialer = Dialer(laboratory, tmp_path, gateway=settings + SECOND)
        await dialer.campaign("test", **BOTH)
        await dialer.leads("test", [Outcome.TALKS.number(0)])
        async with dialer.running():
            await ready(dialer, *agents.extensions)
            await settled(dialer, "test", 60)
        cdrs = await dialer.cdrs("test")
        print([(cdr["gateway"], cdr["disposition"], cdr["sip_status"], cdr["hangup_cause"]) for cdr in cdrs])
        assert carried(cdrs) == {("carrier_a", "failed_over"): 1, ("carrier_b", "bridged"): 1}


async def test_a_number_is_called_once_a_day_over_a_trunk_that_says_so(
    laboratory: Laboratory, tmp_path: Path
) -> None:
    first = await laboratory.carrier("carrier_a")
    second = await laboratory.carrier("carrier_b")
    agents = await laboratory.phones(2, ring=50)
    once = "most_per_callee_a_day = 1\n"
    dialer = Dialer(laboratory, tmp_path, gateway=once + SECOND + once)
    retries = "{ max_attempts = 5, delay_seconds = { busy = 1.0 } }"
    await dialer.campaign("test", retries=retries, **BOTH)
    numbers = [Outcome.BUSY.number(index) for index in range(4)]
    await dialer.leads("test", numbers)
    async with dialer.running():
        await ready(dialer, *agents.extensions)
        await wait_until(lambda: all_called(second.invites, 4), 60)
        await trio.sleep(5)  # time enough for a third call
        why = (await dialer.campaign_status("test"))["why"]
    for carrier in (first, second):
        assert sorted(invite.number for invite in carrier.invites()) == sorted(numbers)
    assert "before" in why
    assert "once_a_day" in why


async def all_called(invites: Any, count: int) -> bool:
    return len(invites()) >= count


async def test_people_see_the_number_of_the_pool_that_is_local_to_them(
    laboratory: Laboratory, tmp_path: Path
) -> None:
    carrier = await laboratory.carrier("carrier_a")
    agents = await laboratory.phones(2, ring=50)
    pool = """
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
    dialer = Dialer(laboratory, tmp_path, gateway=pool)
    await dialer.campaign(
        "test", wrap_up_seconds="0.0", retries="{ max_attempts = 2, delay_seconds = { busy = 1.0 } }"
    )
    near = [Outcome.BUSY.number(index) for index in range(3)]
    far = [Outcome.BUSY.number(index, prefix="1212555") for index in range(2)]
    await dialer.leads("test", near + far)
    async with dialer.running():
        await ready(dialer, *agents.extensions)
        await wait_until(lambda: all_called(carrier.invites, 8), 60)
        await trio.sleep(3)
    seen = Counter(carrier.invites())
    expected = Counter({Invite(number, "+12025550111"): 2 for number in near})
    # Two may see the local number in a day, and whoever has seen it sees no other: their second call is tomorrow's.
    expected += Counter({Invite(number, "+12125550112"): 1 for number in far})
    assert seen == expected
    shown = Counter((cdr["number"].removeprefix("+"), cdr["caller_id"]) for cdr in await dialer.cdrs("test"))
    assert shown == Counter({(one.number, one.caller_id): count for one, count in seen.items()})


async def test_a_trunk_that_its_switch_finds_down_gets_no_calls_until_it_is_up(tmp_path: Path) -> None:
    async with Laboratory(ping=5) as laboratory:
        carrier = await laboratory.carrier("carrier_a")
        await laboratory.carrier("carrier_b")
        dialer = Dialer(laboratory, tmp_path, gateway=SECOND + SECOND.replace("carrier_b", "carrier_c"))
        async with dialer.running():
            assert (await gateway_state(dialer, "carrier_b"))["line"] == "up"
            missing = await gateway_state(dialer, "carrier_c")
            assert (missing["line"], missing["trouble"]) == ("missing", "the switch has no gateway carrier_c")
            carrier.kill()
            await wait_until(lambda: line_is(dialer, "down"), 60)
            told = (await gateway_state(dialer))["trouble"]
            assert told == "the switch says that carrier_a is down (NOREG)"
            await laboratory.carrier("carrier_a")
            await wait_until(lambda: line_is(dialer, "up"), 60)
        print(laboratory.log_tail())


async def line_is(dialer: Dialer, status: str) -> bool:
    return bool((await gateway_state(dialer))["line"] == status)
