"""In real time, over real sockets: that it listens, serves, and goes when it is told."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import trio

from dialer.errors import UnavailableError
from dialer.simulator import Scenario, SimulatedSwitch

from .wiretap import Client

PATIENCE = 60.0
PROGRAM = """
import trio
from dialer.simulator import Scenario, run_simulator
trio.run(run_simulator, "127.0.0.1", 0, Scenario(), 1)
"""


def switch() -> SimulatedSwitch:
    return SimulatedSwitch(Scenario(), rng=random.Random(1), now=lambda: datetime.now(UTC))


async def test_a_call_over_tcp() -> None:
    with trio.fail_after(PATIENCE):
        async with switch().running() as simulated, trio.open_nursery() as nursery:
            port: int = await nursery.start(simulated.serve_tcp, "127.0.0.1", 0)
            client = Client(await trio.open_tcp_stream("127.0.0.1", port))
            nursery.start_soon(client.pump)
            assert await client.ask("auth ClueCon") == "+OK accepted"
            await client.ask("event json BACKGROUND_JOB CHANNEL_PARK CHANNEL_HANGUP_COMPLETE")
            uuid = (await client.job("originate {a=ä}user/1000@127.0.0.1 &park()")).split()[1]
            assert (await client.wait_event("CHANNEL_PARK", uuid))["variable_a"] == "ä"
            assert await client.job(f"uuid_kill {uuid}") == "+OK\n"
            await client.wait_event("CHANNEL_HANGUP_COMPLETE", uuid)
            simulated.drop_connections(in_a_frame=True)
            await client.wait_closed()
            await client.stream.aclose()
            nursery.cancel_scope.cancel()


async def test_a_port_in_use() -> None:
    with trio.fail_after(PATIENCE):
        async with switch().running() as simulated, trio.open_nursery() as nursery:
            port: int = await nursery.start(simulated.serve_tcp, "127.0.0.1", 0)
            with pytest.raises(UnavailableError):
                await simulated.serve_tcp("127.0.0.1", port)
            nursery.cancel_scope.cancel()


async def _run(task_status: trio.TaskStatus[trio.Process]) -> None:
    command = [sys.executable, "-c", PROGRAM]
    await trio.run_process(command, stdout=subprocess.PIPE, task_status=task_status)


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
async def test_as_a_process(told: signal.Signals) -> None:
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(_run)
            assert process.stdout is not None
            line = b""
            while not line.endswith(b"\n"):
                line += await process.stdout.receive_some(100)
            host, port = line.decode().removeprefix("listening on ").strip().split(":")
            stream = await trio.open_tcp_stream(host, int(port))
            assert (await stream.receive_some(100)).startswith(b"Content-Type: auth/request")
            os.kill(process.pid, told)
            assert await process.wait() == 0
            await stream.aclose()
