"""Long runs: `python -m tests.faults.soak`, or `make soak`.

    stories    random stories as in test_random_faults.py, 100,000 of them
    week       a virtual week, 1,000,000 calls, a random fault every few minutes; a house of its own on each core.
               Each day is a run of its own, so that some of them can be asked for: `week --days 3 4`
    two        10,000 leads, two daemons on one database, both killed every few seconds; on SQLite, then PostgreSQL
    hour       one hour of real time at 50 calls/s, real processes, 10 SIGKILLs and a Redis that is killed

Each prints one JSON line an hour, and fails with the seed when a promise is broken.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import trio
from sqlalchemy import text
from sqlmodel import SQLModel, select

from campaigns.lead import LeadStatus
from campaigns.tables import AttemptRow, CdrRow, LeadRow
from dialer.simulator.channel import Channel
from tests.conftest import RedisServer
from tests.faults.promises import COUNTED, check_always, check_at_rest, check_leads, check_people, comes_to_rest
from tests.faults.steps import STEPS
from tests.faults.test_random_faults import tell_stories
from tests.faults.virtual import NOON, VirtualHouse, run_virtually

HOUR_SECONDS: Final = 3600.0
DAYS: Final = 7
# Faults that last until they are undone by somebody do not belong into a week; all others do.
LONGEST_WAIT_SECONDS: Final = 60.0
PEOPLE: Final = {
    "heartbeat_seconds": 20.0,
    "phones": [{"extensions": "1000-1039", "answer_delay": 0.3}],
    "gateways": {
        "carrier_a": {
            "ring_delay": {"kind": "uniform", "low": 0.1, "high": 0.5},
            "answer_delay": {"kind": "uniform", "low": 0.5, "high": 4.0},
            "fail_delay": 0.3,
            "talk": {"kind": "lognormal", "median": 4.0, "sigma": 0.8},
            "patience": 30.0,
            "hang_up_after": 0.2,
            "gives_up_after": 4.0,
            "mix": {"answer": 60, "busy": 15, "no_answer": 5, "unavailable": 10, "answer_hang_up": 10},
            "scripts": [],
        }
    },
}


def tell(name: str, value: float, unit: str, **more: Any) -> None:
    print(json.dumps({"name": name, "value": value, "unit": unit, **more}), flush=True)


@contextmanager
def redis_server() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        server = RedisServer(Path(directory))
        server.start()
        try:
            yield server.url
        finally:
            server.stop()


class Day:
    """One house, many calls. What has been checked is forgotten, so that only what the daemon keeps can grow."""

    def __init__(self, house: VirtualHouse, dice: random.Random, agents: list[str]) -> None:
        self.house = house
        self.calls = 0
        self.faults: Counter[str] = Counter()
        self._dice = dice
        self._agents = agents
        self._next_lead = 0

    def add_leads(self, count: int) -> None:
        """More people to call."""
        first, self._next_lead = self._next_lead, self._next_lead + count
        self.house.add_leads(f"+1202{2000000 + index % 7_900_000}" for index in range(first, first + count))

    async def break_things(self) -> None:
        """A random fault every few minutes."""
        while True:
            await trio.sleep(self._dice.uniform(60.0, 300.0))
            step = self._dice.choice(STEPS)
            self.faults[step.__name__] += 1
            await step(self.house, self._dice)
            check_always(self.house)

    async def keep_supplied(self) -> None:
        while True:
            (waiting,) = self.house.rows("SELECT count(*) FROM lead WHERE status = 'new'")[0]
            if waiting < 2000:
                self.add_leads(4000)
            await trio.sleep(60.0)

    async def hurry(self) -> None:
        """At the end nobody is called again in some hours, but now."""
        lead = SQLModel.metadata.tables["lead"]
        while True:
            with self.house.engine.begin() as connection:
                waiting = lead.update().where(lead.c.status == LeadStatus.WAITING.value)
                connection.execute(waiting.values(due_at=self.house.clock.now()))
            await trio.sleep(5.0)

    def forget_checked(self) -> None:
        """Checks every lead that is finished and everybody called for it, and forgets them."""
        house = self.house
        check_always(house)
        finished = "SELECT id FROM lead WHERE status IN ('done', 'dead', 'exhausted')"
        rows = house.rows(f"SELECT uuid, lead_id FROM attempt WHERE lead_id IN ({finished})")
        uuids = {uuid for uuid, _ in rows}
        check_leads(_Some(house, finished), max_attempts=2)
        check_people(_Some(house, finished, [one for one in house.people if one.uuid in uuids]), LONGEST_WAIT_SECONDS)
        self.calls += len(uuids)
        channels = house.switch.channels
        house.people[:] = [
            one for one in house.people if one.uuid not in uuids and (one.gateway or one.uuid in channels)
        ]
        with house.engine.begin() as connection:
            for table in ("cdr", "attempt"):
                connection.exec_driver_sql(f"DELETE FROM {table} WHERE lead_id IN ({finished})")
            connection.exec_driver_sql(f"DELETE FROM lead WHERE id IN ({finished})")
            connection.exec_driver_sql("DELETE FROM abandonment_hour")  # they were counted with the rest
            connection.exec_driver_sql(f"INSERT INTO abandonment_hour {COUNTED}")


class _Some:
    """A part of a house: the leads that a query names, their attempts and records, and some of the people."""

    def __init__(self, house: VirtualHouse, lead_ids: str, people: Sequence[Channel] = ()) -> None:
        self._house = house
        self._where = text(f"lead_id IN ({lead_ids})")
        self._leads = text(f"id IN ({lead_ids})")
        self._people = people

    def leads(self) -> Sequence[LeadRow]:
        return self._house.sql(lambda session: session.exec(select(LeadRow).where(self._leads)).all())

    def attempts(self) -> Sequence[AttemptRow]:
        return self._house.sql(lambda session: session.exec(select(AttemptRow).where(self._where)).all())

    def cdrs(self) -> Sequence[CdrRow]:
        return self._house.sql(lambda session: session.exec(select(CdrRow).where(self._where)).all())

    def customers(self) -> list[Channel]:
        return [one for one in self._people if one.gateway]


async def day(redis_url: str, *, calls: int, agents: int, seed: int, number: int = 1) -> None:
    """Dials until so many calls are over, then lets everything come to rest. Day 1 is a Monday."""
    extensions = [str(1000 + index) for index in range(agents)]
    morning = NOON + timedelta(days=number - 1)
    async with VirtualHouse(redis_url, seed=seed, changes=PEOPLE, concurrency=200, start=morning).standing() as house:
        await house.start()
        live = Day(house, random.Random(seed), extensions)
        await house.begin([], extensions, wrap_up_seconds="1.0", retries="{ max_attempts = 2 }")
        live.add_leads(4000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.agents_come_back)
            nursery.start_soon(live.break_things)
            nursery.start_soon(live.keep_supplied)
            started, hours = time.perf_counter(), 0
            while live.calls < calls:
                await trio.sleep(HOUR_SECONDS / 4)
                live.forget_checked()
                hours += 1
                if hours % 4 == 0:
                    gc.collect()
                    tell(
                        "soak.week",
                        live.calls,
                        "calls",
                        seed=seed,
                        day=number,
                        virtual_hours=hours / 4,
                        faults=sum(live.faults.values()),
                        memory_mb=round(psutil.Process().memory_info().rss / 1e6, 1),
                        tasks=trio.lowlevel.current_statistics().tasks_living,
                        lives=house.lives,
                        seconds=round(time.perf_counter() - started),
                    )
            nursery.cancel_scope.cancel()
        with house.engine.begin() as connection:
            lead = SQLModel.metadata.tables["lead"]
            connection.execute(lead.delete().where(lead.c.status.in_(["new", "waiting"])))
        live.forget_checked()
        house.calm()
        await house.come_back_all(extensions)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(live.hurry)
            await comes_to_rest(house, agents)
            nursery.cancel_scope.cancel()
        await check_at_rest(house, longest_wait_seconds=LONGEST_WAIT_SECONDS)
        tell("soak.week.done", live.calls, "calls", seed=seed, day=number, faults=dict(live.faults))


def on_all_cores(work: Callable[[int, int], None], count: int) -> None:
    """`work(shard, its part of count)` in a process for each core; a broken promise ends them all with its error."""
    shards = os.cpu_count() or 1
    with ProcessPoolExecutor(shards, multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(work, shard, count // shards) for shard in range(shards)]
        for done in as_completed(running):
            if done.exception() is not None:
                for process in multiprocessing.active_children():
                    process.terminate()
            done.result()


def _some_stories(shard: int, count: int) -> None:
    told, started = 0, time.perf_counter()

    def tell_how_far() -> None:
        nonlocal told
        told += 1
        if told % 1000 == 0 or told == count:
            tell("soak.stories", told, "stories", shard=shard, seconds=round(time.perf_counter() - started))

    with redis_server() as url:
        tell_stories(url, shard, count, tell_how_far)


def _a_day(seed: int, number: int, shard: int, calls: int) -> None:
    with redis_server() as url:
        run_virtually(day, url, calls=calls, agents=30, seed=seed + 100 * number + shard, number=number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["stories", "week", "two", "hour"])
    parser.add_argument("--calls", type=int, default=1_000_000, help="of the week")
    parser.add_argument("--days", type=int, nargs="+", default=range(1, DAYS + 1), help="of the week, from 1")
    parser.add_argument("--stories", type=int, default=100_000)
    parser.add_argument("--leads", type=int, default=10_000, help="of two daemons")
    databases = ("sqlite", "postgresql")
    parser.add_argument("--on", choices=databases, nargs="+", default=databases, help="of two daemons")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the hour")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    for what in chosen.what:
        if what == "stories":
            on_all_cores(_some_stories, chosen.stories)
        elif what == "week":
            for number in chosen.days:
                on_all_cores(partial(_a_day, chosen.seed, number), chosen.calls // DAYS)
        elif what == "two":
            from tests.faults.test_two_daemons import many

            for on in chosen.on:
                calls = trio.run(many, chosen.leads, chosen.seed, on)
                tell("soak.two.done", calls, "calls", seed=chosen.seed, on=on)
        elif what == "hour":
            from tests.faults.real_time import hour

            trio.run(hour, chosen.minutes, chosen.seed)
        else:
            parser.error(f"there is no {what!r}")


if __name__ == "__main__":
    main()
