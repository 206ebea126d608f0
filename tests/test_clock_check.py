"""A clock that is wrong: nothing is dialed by it, and nobody's lease is judged by it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast

import attrs
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from dialer.clock import TrioClock
from dialer.clock_check import CHECK_SECONDS, ClockCheck
from dialer.errors import UnavailableError
from dialer.shared_state import SharedState
from tests.faults.virtual import VirtualHouse, run_virtually
from tests.house import number

START = datetime(2026, 11, 23, 17, tzinfo=UTC)


@attrs.define
class Redis:
    """Only what the check asks of it; its answer takes `trip_seconds`, and tells the time half-way."""

    clock: TrioClock
    ahead_seconds: float = 0.0
    trip_seconds: float = 0.0
    away: bool = False

    async def time(self) -> datetime:
        await trio.sleep(self.trip_seconds / 2)
        told = self.clock.now() + timedelta(seconds=self.ahead_seconds)
        await trio.sleep(self.trip_seconds / 2)
        if self.away:
            raise UnavailableError("away")
        return told


@pytest.mark.parametrize(
    ("ahead_seconds", "trip_seconds", "trouble"),
    [
        (0, 0, ""),
        (1.9, 0, ""),
        (-1.9, 0, ""),
        (1, 8, ""),  # a slow trip is no difference of clocks
        (-1, 8, ""),
        (47, 0.1, "47 s behind that of Redis' machine"),
        (-3600, 0.1, "3600 s ahead of that of Redis' machine"),
    ],
)
async def test_clocks_are_compared(
    autojump_clock: MockClock, ahead_seconds: float, trip_seconds: float, trouble: str
) -> None:
    clock = TrioClock(START)
    check = ClockCheck(cast(SharedState, Redis(clock, ahead_seconds, trip_seconds)), clock)
    await check.check()
    assert trouble in check.trouble
    assert bool(check.trouble) == bool(trouble)


async def test_what_was_found_stands_until_it_is_found_otherwise(autojump_clock: MockClock) -> None:
    clock = TrioClock(START)
    redis = Redis(clock, ahead_seconds=60)
    check = ClockCheck(cast(SharedState, redis), clock)
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(check.run)
            await trio.sleep(2.5 * CHECK_SECONDS)
            assert check.trouble
            redis.ahead_seconds, redis.away = 0, True
            await trio.sleep(2 * CHECK_SECONDS)
            assert check.trouble
            redis.away = False
            await trio.sleep(CHECK_SECONDS)
            assert not check.trouble
            nursery.cancel_scope.cancel()
    assert [line["event"] for line in logs if line["log_level"] != "debug"] == [
        "clock_is_wrong",
        "clock_is_right_again",
    ]


def test_nothing_is_dialed_by_a_wrong_clock_and_no_lease_is_judged_by_it(redis_url: str) -> None:
    async def story() -> None:
        async with VirtualHouse(redis_url).standing() as house:
            house.redis_ahead = timedelta(seconds=-47)
            await house.start()
            await house.begin([number(0)], ["1000", "1001"])
            await house.until(lambda: len(house.switch.channels) == 2, "phones are up", 30)
            now_ms = int((house.clock.now() + house.redis_ahead).timestamp() * 1000)
            lease_ms = 5_000
            await house.daemon.roster._script(
                [house.prefix], ["claim", now_ms, "test", "fs", lease_ms, "another daemon's"]
            )
            await trio.sleep(60)
            assert not house.customers()
            status = await house.daemon.desk.status()
            assert "47 s ahead" in status["clock_trouble"]
            assert "47 s ahead" in status["campaigns"][0]["why"]
            assert "another daemon's" in {agent.token for agent in await house.agents()}
            house.redis_ahead = timedelta()
            await house.until(lambda: house.finished, "called", 60)
            await trio.sleep(5)  # others have time to renew theirs
            assert "another daemon's" not in {agent.token for agent in await house.agents()}

    run_virtually(story)
