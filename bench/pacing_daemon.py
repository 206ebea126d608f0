"""The pacer as it runs in the daemon: a whole day in virtual time, on the simulated switch.

    python -m bench.pacing_daemon [--scenario stat step] [--agents 20] [--hours 8] [--mode predictive]

Nothing of the daemon is left out: attempts, Redis and its scripts, SQLite, events. What it reaches is to be compared
with `python -m bench.pacing` for as many agents; and the abandoned calls on record with those that people lived
through.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import trio

from campaigns import store
from campaigns.campaign import CampaignStatus
from dialer import campaign_runner
from dialer.simulator.scenario import Outcome
from tests.conftest import RedisServer
from tests.faults.virtual import VirtualHouse, run_virtually

WRAP_UP_SECONDS: Final = 15.0
WARM_UP_SECONDS: Final = 1800.0
TICK_SECONDS: Final = 0.2
FAST_FAILURES: Final = 0.08
HALF_HOUR_SECONDS: Final = 1800.0
# Answer rates by half hour, again and again.
SCENARIOS: Final = {"stat": (0.30,), "step": (0.20, 0.50)}
SHORT_TALK_SECONDS: Final = 10.0
TALK_SECONDS: Final = 110.0


def _median(mean: float, sigma: float) -> float:
    return mean / math.exp(sigma * sigma / 2)


def _people(agents: int) -> dict[str, Any]:
    long_mean = (TALK_SECONDS - 0.25 * SHORT_TALK_SECONDS) / 0.75
    return {
        "heartbeat_seconds": 20.0,
        "phones": [{"extensions": f"1000-{999 + agents}", "answer_delay": 0.3}],
        "gateways": {
            "carrier_a": {
                "ring_delay": 0.0,
                "answer_delay": {"kind": "lognormal", "median": _median(12.0, 0.5), "sigma": 0.5, "at_most": 25.0},
                "fail_delay": {"kind": "uniform", "low": 2.0, "high": 4.0},
                "gives_up_after": {"kind": "uniform", "low": 25.0, "high": 27.0},
                "talk": {
                    "kind": "mixture",
                    "weights": [0.25, 0.75],
                    "of": [
                        {"kind": "lognormal", "median": _median(SHORT_TALK_SECONDS, 0.5), "sigma": 0.5},
                        {"kind": "lognormal", "median": _median(long_mean, 0.8), "sigma": 0.8, "at_most": 3600.0},
                    ],
                },
                "patience": 600.0,
                "mix": {"answer": 1.0},
                "scripts": [],
            }
        },
    }


def _mix(answer_rate: float) -> dict[Outcome, float]:
    return {
        Outcome.ANSWER: answer_rate,
        Outcome.BUSY: FAST_FAILURES,
        Outcome.NO_ANSWER: 1 - answer_rate - FAST_FAILURES,
    }


async def _change_rates(house: VirtualHouse, rates: tuple[float, ...]) -> None:
    index = 0
    while True:
        house.switch.change_mix("carrier_a", _mix(rates[index % len(rates)]))
        await trio.sleep(HALF_HOUR_SECONDS)
        index += 1


async def day(redis_url: str, *, scenario: str, agents: int, hours: float, seed: int, mode: str) -> None:
    """Dials for so many hours after a warm-up of half an hour, and prints what came of it."""
    extensions = [str(1000 + index) for index in range(agents)]
    began = time.perf_counter()
    async with VirtualHouse(
        redis_url, seed=seed, changes=_people(agents), concurrency=20 * agents
    ).standing() as house:
        await house.start()
        house.switch.change_mix("carrier_a", _mix(SCENARIOS[scenario][0]))
        await house.begin(
            [],
            extensions,
            running=False,
            mode=f'"{mode}"',
            wrap_up_seconds=str(WRAP_UP_SECONDS),
            ring_seconds="30",
            retries="{ max_attempts = 1 }",
        )
        now = house.clock.now()
        people = int(agents * (hours + 1) * 3600 / TALK_SECONDS / min(SCENARIOS[scenario]) * 1.2)
        house.add_leads(f"+1202{2000000 + index}" for index in range(people))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_change_rates, house, SCENARIOS[scenario])
            await house.begin_running()
            start = house.clock.now() + timedelta(seconds=WARM_UP_SECONDS)
            await trio.sleep(WARM_UP_SECONDS + hours * 3600)
            end = house.clock.now()
            nursery.cancel_scope.cancel()
        house.sql(lambda session: store.set_campaign_status(session, "test", CampaignStatus.STOPPED, now))
        await house.daemon.desk.campaigns_changed()
        for uuid in [one.uuid for one in house.customers() if one.uuid in house.switch.channels]:
            house.switch.hang_up(uuid)
        await house.until(lambda: not house.daemon.campaigns.calls_in_flight(), "over")

        def in_hours(first: datetime, last: datetime) -> float:
            return max(0.0, (min(last, end) - max(first, start)).total_seconds())

        busy_seconds = sum(
            in_hours(cdr.bridged_at, cdr.ended_at + timedelta(seconds=WRAP_UP_SECONDS))
            for cdr in house.cdrs()
            if cdr.bridged_at is not None
        )
        live = [cdr for cdr in house.cdrs() if cdr.abandoned is not None]
        # What people lived through, whatever was written down.
        answered = [one for one in house.customers() if one.is_answered]
        lived = sum(not one.ever_bridged or (one.bridged_at - one.answered) // 1000 > 2000 for one in answered)
        print(
            json.dumps(
                {
                    "name": "pacing_daemon",
                    "mode": mode,
                    "scenario": scenario,
                    "agents": agents,
                    "value": round(100 * busy_seconds / (agents * hours * 3600), 1),
                    "unit": "%",
                    "abandoned_percent": round(100 * sum(bool(cdr.abandoned) for cdr in live) / max(1, len(live)), 2),
                    "abandoned_on_record": sum(bool(cdr.abandoned) for cdr in live),
                    "abandoned_lived": lived,
                    "live_answers": len(live),
                    "calls": len(house.cdrs()),
                    "hours": hours,
                    "seconds": round(time.perf_counter() - began),
                }
            ),
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", nargs="*", default=list(SCENARIOS), choices=list(SCENARIOS))
    parser.add_argument("--agents", type=int, default=20)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--mode", default="predictive")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pacing-") as directory:
        server = RedisServer(Path(directory))
        server.start()
        try:
            for scenario in chosen.scenario:
                with patch.object(campaign_runner, "TICK_SECONDS", TICK_SECONDS):
                    run_virtually(
                        day,
                        server.url,
                        scenario=scenario,
                        agents=chosen.agents,
                        hours=chosen.hours,
                        seed=chosen.seed,
                        mode=chosen.mode,
                    )
        finally:
            server.stop()


if __name__ == "__main__":
    main()
