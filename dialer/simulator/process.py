"""The simulator as a process of its own, for demonstrations and benches."""

from __future__ import annotations

import random
import signal
from datetime import UTC, datetime

import trio

from dialer.simulator.scenario import Scenario
from dialer.simulator.switch import SimulatedSwitch


async def run_simulator(host: str, port: int, scenario: Scenario, seed: int) -> None:
    """Serve until SIGTERM or SIGINT. Prints `listening on HOST:PORT` once it does; port 0 picks one."""
    switch = SimulatedSwitch(scenario, rng=random.Random(seed), now=lambda: datetime.now(UTC))
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with switch.running(), trio.open_nursery() as nursery:
            bound = await nursery.start(switch.serve_tcp, host, port)
            print(f"listening on {host}:{bound}", flush=True)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                break
