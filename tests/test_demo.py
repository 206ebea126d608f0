"""The first thing that a stranger runs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import trio
from trio.testing import MockClock

from dialer import demo
from dialer.errors import UnavailableError


def test_the_whole_dialer_against_a_simulated_switch() -> None:
    command = [sys.executable, "-m", "dialer", "demo", "--agents", "2", "--leads", "60", "--seconds", "8", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["originated"] == told["cdrs"] > 0
    assert told["errors"] == 0


async def test_it_goes_on_when_redis_is_back_and_not_for_ever(autojump_clock: MockClock) -> None:
    async def away_until(moment: float) -> str:
        if trio.current_time() < moment:
            raise UnavailableError("away")
        return "here"

    began = trio.current_time()
    assert await demo._told(lambda: away_until(began + 8)) == "here"
    with pytest.raises(UnavailableError):
        await demo._told(lambda: away_until(began + 1_000))
    assert trio.current_time() < began + 8 + 1 + demo.AWAY_SECONDS + 2
