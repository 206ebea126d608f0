"""Originates a second, and what the daemon needs while 2,000 calls are in flight.

The daemon has a process of its own, as in life, and is asked at its door; the process is `dialer run` but for one
signal, on which its histograms begin anew, so that logging in thousands of agents is not in them. Agents' phones are
rung on demand and there are more agents than calls, so that progressive pacing is never short of one; nearly all
calls ring unanswered for ten seconds.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import trio

from bench.shared import (
    CAMPAIGN,
    FIRST_EXTENSION,
    Stage,
    begin_anew,
    extensions,
    machine_lag,
    set_status,
    stage,
    tell,
)
from campaigns.campaign import CampaignStatus
from dialer import door
from dialer import log as logs
from dialer.daemon import Daemon, run_daemon
from dialer.errors import UnavailableError
from dialer.settings import Settings, load_settings

RINGING_SECONDS: Final = 10.0
WARM_UP_SECONDS: Final = 20.0
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
SPARE_AGENTS: Final = 1.15

_SCENARIO: Final = """
max_sessions = 100000
[[phones]]
extensions = "{first}-{last}"
[gateways.carrier_a]
ring_delay = {{ kind = "uniform", low = 0.1, high = 0.5 }}
answer_delay = {{ kind = "uniform", low = 2.0, high = 8.0 }}
gives_up_after = {{ kind = "uniform", low = {shortest}, high = {longest} }}
talk = 3.0
[gateways.carrier_a.mix]
no_answer = 98
answer = 2
"""


async def run_with_signal(config: Path) -> None:
    """What `dialer run` does, and on SIGUSR1 begins the histograms anew."""
    settings = load_settings(config)
    logs.configure_logging(settings.log.level, settings.log.format)
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_begin_anew_on, signals, await _started(nursery, settings))


async def _started(nursery: trio.Nursery, settings: Settings) -> Daemon:
    async def run(task_status: trio.TaskStatus[Daemon]) -> None:
        await run_daemon(settings, task_status=task_status)
        nursery.cancel_scope.cancel()

    started: Daemon = await nursery.start(run)
    return started


async def _begin_anew_on(signals: AsyncIterator[int], daemon: Daemon) -> None:
    async for _ in signals:
        begin_anew(daemon.metrics)


@asynccontextmanager
async def daemon(place: Stage) -> AsyncIterator[psutil.Process]:
    """`dialer run` for as long as the block lasts, logged in to its switch. Raises UnavailableError."""
    command = [sys.executable, "-m", "bench.originate_load", "--run", str(place.config)]
    with (place.folder / "daemon.log").open("ab") as log_file:
        process = await trio.lowlevel.open_process(command, stdin=subprocess.DEVNULL, stderr=log_file)
        try:
            with trio.move_on_after(START_SECONDS):
                while process.poll() is None and not await _is_ready(place):  # noqa: ASYNC110 - it is another process
                    await trio.sleep(0.1)
            if process.poll() is not None or not await _is_ready(place):
                raise UnavailableError(
                    "the daemon did not start: " + (place.folder / "daemon.log").read_text()[-2000:]
                )
            yield psutil.Process(process.pid)
        finally:
            with trio.CancelScope(shield=True):
                process.terminate()
                with trio.move_on_after(STOP_SECONDS):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def ask(place: Stage, verb: str, **arguments: Any) -> Any:
    return await trio.to_thread.run_sync(partial(door.ask, place.settings.door.path, verb, **arguments))


async def _is_ready(place: Stage) -> bool:
    try:
        return bool((await ask(place, "status"))["switches"][0]["ready"])
    except UnavailableError:
        return False


async def measure(calls_per_second: float, seconds: float) -> None:
    agents = round(calls_per_second * RINGING_SECONDS * SPARE_AGENTS)
    scenario = _SCENARIO.format(
        first=FIRST_EXTENSION,
        last=FIRST_EXTENSION + agents - 1,
        shortest=RINGING_SECONDS - 1,
        longest=RINGING_SECONDS + 1,
    )
    leads = round(calls_per_second * (WARM_UP_SECONDS + seconds + 30) * 1.2)
    async with (
        stage(scenario, calls_per_second=calls_per_second, phones="on_demand", ring_seconds=30, leads=leads) as place,
        daemon(place) as process,
    ):
        started = time.perf_counter()
        for extension in extensions(agents):
            await ask(place, "agent_ready", extension=extension, campaign=CAMPAIGN)
        tell("originate_load.logins", agents / (time.perf_counter() - started), "agents/s", agents=agents)
        await set_status(place.settings, CampaignStatus.RUNNING)
        await trio.sleep(WARM_UP_SECONDS)
        process.send_signal(signal.SIGUSR1)
        await _measure(place, process, calls_per_second, seconds)


async def _measure(place: Stage, process: psutil.Process, wanted: float, seconds: float) -> None:
    before, started = await ask(place, "status"), time.perf_counter()
    cpu_before = process.cpu_times()
    memory: list[float] = []
    async with machine_lag("originate_load.machine_lag_p99"):
        while time.perf_counter() - started < seconds:
            await trio.sleep(1.0)
            memory.append(process.memory_info().rss / 1_000_000)
    cpu_after, lasted = process.cpu_times(), time.perf_counter() - started
    asked = time.perf_counter()
    after = await ask(place, "status")
    status_ms = 1000 * (time.perf_counter() - asked)

    def gained(*path: Any) -> float:
        old, new = before, after
        for key in path[:-1]:
            old, new = old[key], new[key]
        return float(new.get(path[-1], 0) - old.get(path[-1], 0))

    rate = gained("metrics", "counts", "originated") / lasted
    cpu = cpu_after.user + cpu_after.system - cpu_before.user - cpu_before.system
    lag = after["metrics"]["loop_lag_ms"]
    in_flight = [status["gateways"][0]["in_use"] for status in (before, after)]
    peak = max(memory)
    tell("originate_load.originated", rate, "calls/s", goal=f">= {0.95 * wanted:g}", met=rate >= 0.95 * wanted)
    tell("originate_load.in_flight", in_flight[1], "calls", at_start=in_flight[0], why=after["campaigns"][0]["why"])
    tell("originate_load.events", gained("switches", 0, "events_received") / lasted, "events/s")
    tell(
        "originate_load.memory",
        peak,
        "MB",
        goal="<= 150",
        met=peak <= 150,
        median=round(statistics.median(memory), 1),
    )
    tell(
        "originate_load.loop_lag_p99",
        lag["p99"],
        "ms",
        goal="<= 10",
        met=lag["p99"] <= 10,
        p50=lag["p50"],
        max=lag["max"],
    )
    tell("originate_load.event_lag_p99", after["metrics"]["event_lag_ms"]["p99"], "ms")
    tell("originate_load.cpu", cpu / lasted, "cores", ms_per_call=round(1000 * cpu / max(1.0, rate * lasted), 2))
    tell("originate_load.status_answer", status_ms, "ms")
    tell(
        "originate_load.abandoned",
        int(gained("metrics", "counts", "abandoned")),
        "calls",
        bridged=int(gained("metrics", "counts", "bridged")),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200.0, help="originates a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--run", type=Path, metavar="CONFIG", help="be the daemon that is measured")
    options = parser.parse_args()
    if options.run is not None:
        trio.run(run_with_signal, options.run)
        return
    trio.run(measure, options.rate, options.seconds)


if __name__ == "__main__":
    main()
