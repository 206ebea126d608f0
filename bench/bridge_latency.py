"""From the originate's +OK to the bridge, at 100 answered calls a second.

The simulated switch runs in a process of its own, the whole daemon in this one, so that its CPU time is this
process's. Every call is answered and talked on; agents are so many that the trunk's limit of calls per second sets
the pace. What is measured begins when the pace is steady: histograms and counts are begun anew then.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

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
from dialer import log as logs
from dialer.daemon import Daemon, run_daemon
from dialer.esl.commands import Bridge, Command
from dialer.esl.conversation import Ticket
from dialer.metrics import Latency

AGENTS_READY_SECONDS: Final = 60.0
WARM_UP_SECONDS: Final = 10.0
TALK_SECONDS: Final = 3.3
# A call keeps its agent busy for some 4 s in all; a tenth more agents than that needs, so that none is waited for.
CYCLE_SECONDS: Final = 4.4

_SCENARIO: Final = """
max_sessions = 100000
[[phones]]
extensions = "{first}-{last}"
answer_delay = {{ kind = "uniform", low = 0.1, high = 0.4 }}
[gateways.carrier_a]
ring_delay = {{ kind = "uniform", low = 0.05, high = 0.15 }}
answer_delay = {{ kind = "uniform", low = 0.1, high = 0.3 }}
talk = {{ kind = "uniform", low = {shortest}, high = {longest} }}
"""


@asynccontextmanager
async def house(calls_per_second: float, seconds: float) -> AsyncIterator[tuple[Stage, Daemon, int]]:
    """A daemon that bridges so many calls a second, for some `seconds`, the pace steady; its agents' number too."""
    agents = round(calls_per_second * CYCLE_SECONDS)
    scenario = _SCENARIO.format(
        first=FIRST_EXTENSION,
        last=FIRST_EXTENSION + agents - 1,
        shortest=TALK_SECONDS * 0.7,
        longest=TALK_SECONDS * 1.3,
    )
    leads = round(calls_per_second * (WARM_UP_SECONDS + seconds + 10) * 1.2)
    async with stage(
        scenario, calls_per_second=calls_per_second, phones="nailed_up", ring_seconds=20, leads=leads
    ) as place:
        with (place.folder / "daemon.log").open("w", buffering=1, encoding="utf-8") as log_file:
            logs.configure_logging("info", "json", log_file)
            async with trio.open_nursery() as nursery:
                stop = trio.Event()
                daemon: Daemon = await nursery.start(
                    partial(run_daemon, place.settings, stop=stop, handle_signals=False)
                )
                for extension in extensions(agents):
                    await daemon.desk.agent_ready(extension, CAMPAIGN)
                with trio.fail_after(AGENTS_READY_SECONDS):
                    while await daemon.roster.idle_count(CAMPAIGN, "simulated") < agents:  # noqa: ASYNC110 - it is in Redis
                        await trio.sleep(0.1)
                await set_status(place.settings, CampaignStatus.RUNNING)
                await daemon.desk.campaigns_changed()
                await trio.sleep(WARM_UP_SECONDS)
                yield place, daemon, agents
                stop.set()
                nursery.cancel_scope.deadline = trio.current_time() + 30


async def measure(calls_per_second: float, seconds: float) -> None:
    async with house(calls_per_second, seconds) as (_, daemon, agents):
        await _measure(daemon, agents, calls_per_second, seconds)


async def _measure(daemon: Daemon, agents: int, calls_per_second: float, seconds: float) -> None:
    metrics = daemon.metrics
    whole = _watch_bridges(daemon)
    begin_anew(metrics)
    events_before = daemon.switches["simulated"].events_received
    counts_before = metrics.counts.copy()
    cpu_before, started = time.process_time(), time.perf_counter()
    async with machine_lag("bridge_latency.machine_lag_p99"):
        await trio.sleep(seconds)
    cpu, lasted = time.process_time() - cpu_before, time.perf_counter() - started
    counts = metrics.counts - counts_before
    _report(metrics.summary(), whole.summary_ms(), counts, cpu, lasted, calls_per_second, agents)
    tell(
        "bridge_latency.events",
        (daemon.switches["simulated"].events_received - events_before) / lasted,
        "events/s",
    )


def _watch_bridges(daemon: Daemon) -> Latency:
    """Every bridge from the reader's sight of the +OK (and the answer) on: waiting for an agent included.

    The daemon's own figure begins when the agent is held, if that is later, and so does not tell of slow claims.
    """
    whole = Latency()
    switch, live_calls = daemon.switches["simulated"], daemon.world.live_calls
    submit = switch.submit

    def watched(command: Command, job_uuid: str | None = None) -> Ticket:
        ticket = submit(command, job_uuid)
        if isinstance(command, Bridge):
            seen_at = live_calls._watches[command.customer].bridgeable_seen_at
            if seen_at is not None:
                whole.record_seconds(trio.current_time() - seen_at)
        return ticket

    switch.submit = watched  # type: ignore[method-assign]
    return whole


def _report(
    summary: dict[str, Any],
    whole: dict[str, float | int],
    counts: dict[str, int],
    cpu: float,
    lasted: float,
    wanted: float,
    agents: int,
) -> None:
    answered = counts.get("answered", 0)
    ours, heard, lag = summary["ok_to_bridge_sent_ms"], summary["answer_to_bridge_ms"], summary["loop_lag_ms"]
    rate = answered / lasted
    tell(
        "bridge_latency.answered",
        rate,
        "calls/s",
        goal=f">= {0.95 * wanted:g}",
        met=rate >= 0.95 * wanted,
        agents=agents,
    )
    tell("bridge_latency.ok_to_bridge_sent_p50", ours["p50"], "ms", count=ours["count"])
    tell(
        "bridge_latency.ok_to_bridge_sent_p99", ours["p99"], "ms", goal="<= 5", met=ours["p99"] <= 5, max=ours["max"]
    )
    tell("bridge_latency.ok_to_bridge_sent_with_claim_p50", whole["p50"], "ms", count=whole["count"])
    tell("bridge_latency.ok_to_bridge_sent_with_claim_p99", whole["p99"], "ms", max=whole["max"])
    tell("bridge_latency.answer_to_bridged_p50", heard["p50"], "ms", count=heard["count"])
    tell("bridge_latency.answer_to_bridged_p99", heard["p99"], "ms", max=heard["max"])
    tell("bridge_latency.abandoned", counts.get("abandoned", 0), "calls", goal="0", met=not counts.get("abandoned"))
    tell("bridge_latency.bridges_failed", counts.get("bridges_failed", 0), "calls")
    tell("bridge_latency.loop_lag_p99", lag["p99"], "ms", p50=lag["p50"], max=lag["max"])
    tell("bridge_latency.event_lag_p99", summary["event_lag_ms"]["p99"], "ms", p50=summary["event_lag_ms"]["p50"])
    tell("bridge_latency.cpu_per_call", 1000 * cpu / max(1, answered), "ms", of_one_core=round(cpu / lasted, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=100.0, help="answered calls a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    trio.run(measure, options.rate, options.seconds)


if __name__ == "__main__":
    main()
