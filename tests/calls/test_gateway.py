"""Slots and rates of trunks on a real Redis, taken by two daemons at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
import trio

from dialer.calls.failover import Sign
from dialer.calls.gateway import Gateway, Gateways
from dialer.calls.trunk_line import Line, line_from_answer
from dialer.errors import UnavailableError
from dialer.settings import GatewaySettings
from dialer.shared_state import SharedState, open_shared_state
from tests.patience import eventually

from ..conftest import RedisServer, SetClock

LEASE_SECONDS = 60.0


def trunk(concurrency: int = 10, calls_per_second: float = 1000.0, **changes: Any) -> GatewaySettings:
    return GatewaySettings(
        name="trunk",
        switch="a",
        caller_id="4930123",
        concurrency=concurrency,
        calls_per_second=calls_per_second,
        **changes,
    )


def daemon(
    state: SharedState, prefix: str, clock: SetClock, settings: GatewaySettings, lease_seconds: float = LEASE_SECONDS
) -> Gateways:
    return Gateways([settings], state, prefix=prefix, clock=clock, lease_seconds=lease_seconds)


def uuids(count: int) -> list[str]:
    return [str(uuid4()) for _ in range(count)]


async def test_the_limit_holds_with_many_takers_in_two_daemons(
    state: SharedState, prefix: str, clock: SetClock
) -> None:
    daemons = [daemon(state, prefix, clock, trunk(concurrency=30))["trunk"] for _ in range(2)]
    most = 0

    async def work(gateway: Gateway) -> None:
        nonlocal most
        for _ in range(3):
            taken = await gateway.take(uuids(2))
            most = max(most, await gateway.used(), sum(len(one.held) for one in daemons))
            await gateway.release(*taken)

    async with trio.open_nursery() as nursery:
        for index in range(60):
            nursery.start_soon(work, daemons[index % 2])
    assert 2 < most <= 30
    assert await daemons[0].used() == 0

    taken: list[str] = []

    async def take_and_keep(gateway: Gateway) -> None:
        taken.extend(await gateway.take(uuids(1)))

    async with trio.open_nursery() as nursery:
        for index in range(100):
            nursery.start_soon(take_and_keep, daemons[index % 2])
    assert len(set(taken)) == len(taken) == 30 == await daemons[1].used()


async def test_part_of_what_is_wanted_is_granted_from_the_first_on(
    state: SharedState, prefix: str, clock: SetClock
) -> None:
    gateway = daemon(state, prefix, clock, trunk(concurrency=3))["trunk"]
    wanted = uuids(5)
    assert await gateway.take(wanted) == wanted[:3]
    assert await gateway.take(uuids(1)) == []
    assert await gateway.take([]) == []
    assert gateway.held == set(wanted[:3])


async def test_calls_per_second(state: SharedState, prefix: str, clock: SetClock) -> None:
    first, second = (daemon(state, prefix, clock, trunk(1000, calls_per_second=5))["trunk"] for _ in range(2))
    assert len(await first.take(uuids(4))) == 4
    assert len(await second.take(uuids(4))) == 1
    clock.move(0.199)
    assert await first.take(uuids(1)) == []
    clock.move(0.001)
    assert len(await second.take(uuids(2))) == 1
    clock.move(3600)  # an idle hour saves up one second's calls, not an hour's
    assert len(await first.take(uuids(100))) == 5
    clock.move(-60)  # a clock that was put back gives nothing away
    assert await first.take(uuids(1)) == []


async def test_a_slow_trunk_starts_a_call_now_and_then(state: SharedState, prefix: str, clock: SetClock) -> None:
    gateway = daemon(state, prefix, clock, trunk(calls_per_second=0.1))["trunk"]
    starts = []
    for second in range(40):
        if await gateway.take(uuids(1)):
            starts.append(second)
        clock.move(1)
    assert starts == [0, 10, 20, 30]


async def test_what_a_full_trunk_refuses_does_not_count_against_its_rate(
    state: SharedState, prefix: str, clock: SetClock
) -> None:
    gateway = daemon(state, prefix, clock, trunk(concurrency=1, calls_per_second=2))["trunk"]
    held = await gateway.take(uuids(2))
    assert len(held) == 1
    assert await gateway.take(uuids(50)) == []
    await gateway.release(*held)
    assert len(await gateway.take(uuids(1))) == 1


async def test_slots_of_a_dead_daemon_come_free(state: SharedState, prefix: str, clock: SetClock) -> None:
    dead, living = (daemon(state, prefix, clock, trunk(concurrency=4))["trunk"] for _ in range(2))
    await dead.take(uuids(2))
    await living.take(uuids(2))
    clock.move(LEASE_SECONDS / 2)
    await living.renew()
    clock.move(LEASE_SECONDS / 2 - 0.001)
    assert await living.take(uuids(1)) == []
    clock.move(0.001)
    assert await living.used() == 2
    assert len(await living.take(uuids(5))) == 2


@pytest.mark.parametrize("kept_for_seconds", [1.0, LEASE_SECONDS, 3 * LEASE_SECONDS])
async def test_slots_that_could_not_be_renewed_are_held_all_the_same(
    state: SharedState, prefix: str, clock: SetClock, kept_for_seconds: float
) -> None:
    """The clock was set, or Redis was away for longer than a lease."""
    gateway = daemon(state, prefix, clock, trunk(concurrency=2))["trunk"]
    assert len(await gateway.take(uuids(2))) == 2
    clock.move(kept_for_seconds)
    assert await gateway.take(uuids(2)) == []
    await gateway.release(*gateway.held)
    clock.move(kept_for_seconds)
    assert len(await gateway.take(uuids(3))) == 2


async def test_release_is_idempotent(state: SharedState, prefix: str, clock: SetClock) -> None:
    first, second = (daemon(state, prefix, clock, trunk(concurrency=2))["trunk"] for _ in range(2))
    taken = await first.take(uuids(1))
    await second.take(uuids(1))
    for _ in range(3):
        await first.release(*taken)
    await first.release("never taken")
    await first.release()
    assert (await first.used(), first.held, len(second.held)) == (1, set(), 1)


async def test_adopt_goes_over_the_limit_and_counts(state: SharedState, prefix: str, clock: SetClock) -> None:
    gateway = daemon(state, prefix, clock, trunk(concurrency=2))["trunk"]
    for uuid in ("x", "y", "z"):
        await gateway.adopt(uuid)
    await gateway.adopt("z")
    assert await gateway.used() == 3
    assert await gateway.take(uuids(1)) == []
    await gateway.release("x", "y")
    assert len(await gateway.take(uuids(2))) == 1


async def test_take_asked_again_is_the_same_take(state: SharedState, prefix: str, clock: SetClock) -> None:
    """Redis' client asks again when an answer was lost: nothing is taken twice, nothing stays behind."""
    settings = trunk(concurrency=3, calls_per_second=4)
    gateway = daemon(state, prefix, clock, settings)["trunk"]
    wanted = uuids(2)
    assert await gateway.take(wanted) == wanted
    assert await gateway.take(wanted) == wanted
    assert await gateway.used() == 2
    assert len(await gateway.take(uuids(5))) == 1
    assert await gateway.take(wanted) == wanted
    await gateway.release(*gateway.held)
    assert len(await gateway.take(uuids(5))) == 1  # four a second, three of them were taken


async def test_a_slot_given_back_during_a_renewal_is_gone(state: SharedState, prefix: str, clock: SetClock) -> None:
    gateway = daemon(state, prefix, clock, trunk())["trunk"]
    kept, ended = await gateway.take(uuids(2))
    script = gateway._script

    async def overtaken(keys: Sequence[str], args: Sequence[Any]) -> Any:
        gateway._script = script
        await gateway.release(ended)  # reaches Redis before the renewal that was on its way
        return await script(keys, args)

    gateway._script = overtaken  # type: ignore[assignment]
    await gateway.renew()
    assert (await gateway.used(), gateway.held) == (1, {kept})


async def test_keeping_house_renews_until_cancelled(state: SharedState, prefix: str, clock: SetClock) -> None:
    gateways = daemon(state, prefix, clock, trunk(), lease_seconds=0.03)
    gateway = gateways["trunk"]
    (taken,) = await gateway.take(uuids(1))
    clock.move(0.02)
    until_ms = clock.now_ms() + 30

    async def renewed() -> bool:
        scores: Any = await state.run(lambda client: client.zrange(gateway._keys[0], 0, -1, withscores=True))
        return dict(scores) == {taken: until_ms}

    async with trio.open_nursery() as nursery:
        nursery.start_soon(gateways.keep_house)
        await eventually(renewed)
        nursery.cancel_scope.cancel()


async def test_redis_away(own_redis: RedisServer, clock: SetClock) -> None:
    async with open_shared_state(own_redis.url, timeout_seconds=1.0) as state:
        gateways = daemon(state, "test:", clock, trunk(concurrency=2), lease_seconds=0.03)
        gateway = gateways["trunk"]
        taken = await gateway.take(uuids(2))
        await trio.to_thread.run_sync(own_redis.stop)
        with pytest.raises(UnavailableError):
            await gateway.take(uuids(1))
        await gateway.release(taken[0])  # the lease does it
        assert gateway.held == {taken[1]}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gateways.keep_house)  # lives through it
            await trio.to_thread.run_sync(own_redis.start)
            clock.move(0.02)

            async def renewed() -> bool:
                key = gateway._keys[0]
                return await state.run(lambda client: client.zscore(key, taken[1])) == clock.now_ms() + 30

            await eventually(renewed)
            nursery.cancel_scope.cancel()
        clock.move(0.015)
        assert await gateway.used() == 1


async def test_they_are_known_by_name(state: SharedState, prefix: str, clock: SetClock) -> None:
    gateways = daemon(state, prefix, clock, trunk())
    assert gateways.all() == [gateways["trunk"]]
    assert gateways.get("trunk") is gateways["trunk"]
    assert gateways.get("other") is None
    assert repr(gateways["trunk"]) == "<Gateway trunk holding 0 of 10 slots, unknown>"


FAILURE = "503 NORMAL_TEMPORARY_FAILURE"
QUICKLY: dict[str, Any] = {"park_after_faults": 2, "park_seconds": 1.0}


def parked(gateways: Gateways) -> Gateway:
    gateway = gateways["trunk"]
    assert not gateway.heard(Sign.FAULT, "one", FAILURE)
    assert gateway.heard(Sign.FAULT, "two", FAILURE)
    assert not gateway.heard(Sign.FAULT, "three", FAILURE)  # it was on its way already
    return gateway


def given_none(gateway: Gateway) -> bool:
    return gateway.rests


def rested(gateway: Gateway) -> None:
    gateway.health = gateway.health.rested()


async def test_a_parked_trunk_gives_no_slots_and_then_one_to_try_it(
    state: SharedState, prefix: str, clock: SetClock
) -> None:
    gateway = parked(daemon(state, prefix, clock, trunk(**QUICKLY)))
    assert given_none(gateway)
    assert await gateway.take(uuids(3)) == []
    rested(gateway)
    assert not given_none(gateway)
    wanted = uuids(3)
    assert await gateway.take(wanted) == wanted[:1]
    assert await gateway.take(uuids(3)) == []
    assert given_none(gateway)
    assert not gateway.heard(Sign.WELL, wanted[0], "")
    assert len(await gateway.take(uuids(3))) == 3
    assert gateway.trouble == "the switch has not said whether trunk is up"


@pytest.mark.parametrize("give_back", ["release", "put_back"])
async def test_a_trial_that_told_nothing_makes_room_for_the_next(
    state: SharedState, prefix: str, clock: SetClock, give_back: str
) -> None:
    gateway = parked(daemon(state, prefix, clock, trunk(**QUICKLY)))
    rested(gateway)
    (trial,) = await gateway.take(uuids(1))
    await getattr(gateway, give_back)(trial)
    assert len(await gateway.take(uuids(1))) == 1


async def test_two_campaigns_that_ask_at_once_try_a_parked_trunk_with_one_call(
    state: SharedState, prefix: str, clock: SetClock
) -> None:
    gateway = parked(daemon(state, prefix, clock, trunk(**QUICKLY)))
    rested(gateway)
    taken: list[str] = []

    async def ask() -> None:
        taken.extend(await gateway.take(uuids(2)))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert len(taken) == 1


async def test_a_trial_that_redis_refused_makes_room_for_the_next(own_redis: RedisServer, clock: SetClock) -> None:
    async with open_shared_state(own_redis.url, timeout_seconds=1.0) as state:
        gateway = parked(daemon(state, "test:", clock, trunk(**QUICKLY)))
        rested(gateway)
        await trio.to_thread.run_sync(own_redis.stop)
        with pytest.raises(UnavailableError):
            await gateway.take(uuids(1))
        assert not given_none(gateway)
        await trio.to_thread.run_sync(own_redis.start)


@pytest.mark.parametrize(
    ("line", "gives"),
    [(Line("down", "FAIL_WAIT"), 0), (Line("missing"), 0), (Line("unknown"), 2), (Line("up", "NOREG"), 2)],
)
async def test_a_trunk_that_is_down_gives_no_slots(
    state: SharedState, prefix: str, clock: SetClock, line: Line, gives: int
) -> None:
    gateway = daemon(state, prefix, clock, trunk())["trunk"]
    gateway.line_is(line)
    assert len(await gateway.take(uuids(2))) == gives
    assert given_none(gateway) is (gives == 0)


def of_the_switch(status: str) -> Line:
    return line_from_answer(f"<state>NOREG</state><status>{status}</status>")


async def test_a_parked_trunk_that_comes_up_is_tried_at_once(
    state: SharedState, prefix: str, clock: SetClock
) -> None:
    gateway = parked(daemon(state, prefix, clock, trunk(**QUICKLY)))
    gateway.line_is(of_the_switch("UP"))  # it was never down
    assert given_none(gateway)
    gateway.line_is(of_the_switch("DOWN"))
    gateway.line_is(of_the_switch("UP"))
    assert len(await gateway.take(uuids(3))) == 1
