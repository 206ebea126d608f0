"""The whole daemon, unchanged, against a simulated FreeSWITCH in a process of its own.

Private Redis, a database in a temporary folder, a list imported from a file as a manager would, agents made ready
through the door. On a terminal a live view; at the end one summary.
"""

from __future__ import annotations

import csv
import random
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import trio
from rich.console import Console
from rich.live import Live

from campaigns import store
from campaigns.campaign import CampaignStatus, parse_campaign
from campaigns.database import open_database
from campaigns.list_import import import_list
from dialer import log as logs
from dialer.agents.agent import AgentState, state_of
from dialer.daemon import Daemon, obey_signals, run_daemon
from dialer.errors import UnavailableError
from dialer.settings import Settings, parse_settings
from dialer.status_view import status_view

CAMPAIGN: Final = "demo"
FIRST_EXTENSION: Final = 1000
SIMULATOR_START_SECONDS: Final = 15.0
AGENTS_READY_SECONDS: Final = 20.0
LAST_CALLS_SECONDS: Final = 60.0
AWAY_SECONDS: Final = 60.0
T = TypeVar("T")

_AREA_CODES: Final = (
    201,
    202,
    206,
    212,
    213,
    214,
    215,
    303,
    305,
    310,
    312,
    313,
    404,
    408,
    415,
    503,
    512,
    602,
    617,
    702,
)

_SCENARIO = """
[[phones]]
extensions = "{first}-{last}"
answer_delay = {{ kind = "uniform", low = 0.1, high = 0.4 }}

[gateways.carrier_a]
ring_delay = {{ kind = "uniform", low = 0.1, high = 0.4 }}
answer_delay = {{ kind = "lognormal", median = 1.5, sigma = 0.5 }}
talk = {{ kind = "lognormal", median = 6.0, sigma = 0.6 }}
hang_up_after = {{ kind = "uniform", low = 0.0, high = 0.3 }}
[gateways.carrier_a.mix]
answer = 55
no_answer = 22
busy = 10
not_found = 4
rejected = 3
unavailable = 3
answer_hang_up = 3
"""

_SETTINGS = """
node = "demo"
[[switch]]
name = "simulated"
port = {port}
[[gateway]]
name = "carrier_a"
switch = "simulated"
caller_id = "+12025550100"
concurrency = {concurrency}
calls_per_second = 200
[database]
url = "sqlite:///{folder}/demo.db"
[door]
path = "{folder}/door.sock"
[calls]
drain_seconds = 5
"""

_CAMPAIGN = """
name = "demo"
gateways = ["carrier_a"]
country = "US"
ring_seconds = 5
wrap_up_seconds = 2.0
mode = "predictive"
windows = [{ days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], start = "00:00", end = "24:00" }]
"""


@attrs.define
class Occupancy:
    """Agents' time, by sampling."""

    busy: int = 0
    logged_in: int = 0

    def percent(self) -> float:
        return round(100 * self.busy / self.logged_in, 1) if self.logged_in else 0.0

    async def sample(self, daemon: Daemon) -> None:
        """Looks at every agent four times a second, until cancelled."""
        while True:
            states = [state_of(agent) for agent in await _told(daemon.roster.agents) if agent.campaign]
            self.logged_in += sum(state is not AgentState.OFFLINE for state in states)
            self.busy += sum(state in (AgentState.ON_CALL, AgentState.WRAP_UP) for state in states)
            await trio.sleep(0.25)


async def _told(ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` answers; while Redis or the database is away it is asked again: the dialer itself goes on, too.

    Raises UnavailableError if they do not come back.
    """
    give_up_at = trio.current_time() + AWAY_SECONDS
    while True:
        try:
            return await ask()
        except UnavailableError:
            if trio.current_time() > give_up_at:
                raise
        await trio.sleep(1.0)


@asynccontextmanager
async def simulator_process(scenario: Path, seed: int) -> AsyncIterator[int]:
    """A simulated FreeSWITCH in a process of its own for as long as the block lasts; gives its port.

    Raises UnavailableError if it does not start.
    """
    command = [
        sys.executable,
        "-m",
        "dialer",
        "simulator",
        "--port",
        "0",
        "--scenario",
        str(scenario),
        "--seed",
        str(seed),
    ]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    try:
        line = bytearray()
        with trio.move_on_after(SIMULATOR_START_SECONDS):
            while not line.endswith(b"\n"):
                more = await process.stdout.receive_some(200)
                if not more:
                    break
                line += more
        if not line.startswith(b"listening on "):
            raise UnavailableError(f"the simulated FreeSWITCH did not start: {bytes(line)!r}")
        yield int(line.decode().strip().rpartition(":")[2])
    finally:
        with trio.CancelScope(shield=True):
            process.terminate()
            with trio.move_on_after(5.0):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()


def _write_list(path: Path, leads: int, rng: random.Random) -> None:
    numbers = rng.sample(range(len(_AREA_CODES) * 8_000_000), leads)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "name"])
        for number in numbers:
            area, rest = divmod(number, 8_000_000)
            writer.writerow([f"+1{_AREA_CODES[area]}{rest + 2_000_000}", f"Lead {number}"])


async def run_demo(*, agents: int, leads: int, seconds: float, seed: int, live: bool) -> dict[str, Any]:
    """Runs the demo for `seconds` of dialing and gives the summary that `dialer demo --json` prints."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dialer-demo-")))
        log_file = stack.enter_context((folder / "daemon.log").open("w", buffering=1, encoding="utf-8"))
        logs.configure_logging("info", "json", log_file)
        scenario = folder / "scenario.toml"
        scenario.write_text(_SCENARIO.format(first=FIRST_EXTENSION, last=FIRST_EXTENSION + agents - 1))
        _write_list(folder / "leads.csv", leads, random.Random(seed))
        port = await stack.enter_async_context(simulator_process(scenario, seed))
        text = _SETTINGS.format(port=port, folder=folder, concurrency=max(50, agents * 3))
        settings = parse_settings(text, "demo settings")
        await _prepare(settings, folder / "leads.csv")
        return await _run(settings, agents, seconds, live)


async def _prepare(settings: Settings, leads: Path) -> None:
    now = datetime.now(UTC)
    campaign = parse_campaign(_CAMPAIGN, "demo campaign")
    async with open_database(settings.database.url, node=None) as database:
        await database.write(lambda session: store.add_campaign(session, campaign, now))
        await import_list(database, leads, CAMPAIGN, now=now)


async def _run(settings: Settings, agents: int, seconds: float, live: bool) -> dict[str, Any]:
    stop, ended = trio.Event(), trio.Event()
    occupancy = Occupancy()

    async def whole_life(task_status: trio.TaskStatus[Daemon]) -> None:
        await run_daemon(settings, stop=stop, handle_signals=False, task_status=task_status)
        ended.set()

    async with trio.open_nursery() as nursery:
        daemon: Daemon = await nursery.start(whole_life)
        nursery.start_soon(obey_signals, stop)
        with trio.CancelScope() as watching:
            async with trio.open_nursery() as view:
                if live:
                    view.start_soon(_show, daemon)
                await _agents_ready(daemon, agents)
                view.start_soon(occupancy.sample, daemon)
                await _set_status(daemon, CampaignStatus.RUNNING)
                with trio.move_on_after(seconds):
                    await stop.wait()
                await _set_status(daemon, CampaignStatus.PAUSED)
                with trio.move_on_after(LAST_CALLS_SECONDS):
                    while daemon.campaigns.calls_in_flight() and not stop.is_set():  # noqa: ASYNC110 - or a signal
                        await trio.sleep(0.1)
                watching.cancel()
        summary = await _summary(daemon, occupancy)
        stop.set()
        await ended.wait()
        nursery.cancel_scope.cancel()
    return summary


async def _agents_ready(daemon: Daemon, agents: int) -> None:
    for extension in range(FIRST_EXTENSION, FIRST_EXTENSION + agents):
        await daemon.desk.agent_ready(str(extension), CAMPAIGN)
    with trio.move_on_after(AGENTS_READY_SECONDS):
        while await daemon.roster.idle_count(CAMPAIGN, "simulated") < agents:  # noqa: ASYNC110 - it is in Redis
            await trio.sleep(0.1)


async def _set_status(daemon: Daemon, status: CampaignStatus) -> None:
    now = datetime.now(UTC)
    await daemon.database.write(lambda session: store.set_campaign_status(session, CAMPAIGN, status, now))
    await daemon.desk.campaigns_changed()


async def _show(daemon: Daemon) -> None:
    console = Console()
    with Live(console=console, auto_refresh=False, screen=False) as view:
        while True:
            view.update(status_view(await daemon.desk.status()), refresh=True)
            await trio.sleep(0.5)


async def _summary(daemon: Daemon, occupancy: Occupancy) -> dict[str, Any]:
    async def whole_status() -> dict[str, Any]:
        status = await daemon.desk.status()
        if status["not_known"]:
            raise UnavailableError("; ".join(status["not_known"]))
        return status

    status = await _told(whole_status)
    campaign = next(one for one in status["campaigns"] if one["name"] == CAMPAIGN)
    outcomes: dict[str, int] = campaign["outcomes_24h"]
    counts = status["metrics"]["counts"]
    abandoned, bridged = outcomes.get("abandoned", 0), outcomes.get("bridged", 0)
    connect = status["metrics"]["answer_to_bridge_ms"]
    return {
        "originated": counts.get("originated", 0),
        "answered": counts.get("answered", 0),
        "bridged": bridged,
        "abandoned": abandoned,
        "abandoned_percent": round(100 * abandoned / (abandoned + bridged), 2) if abandoned + bridged else 0.0,
        "occupancy_percent": occupancy.percent(),
        "answer_to_bridge_ms": {name: connect[name] for name in ("p50", "p99", "max")},
        "leads": campaign["leads"],
        "cdrs": sum(outcomes.values()),
        "warnings": logs.counted["warning"],
        "errors": logs.counted["error"],
    }
