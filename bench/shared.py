"""What the benches share: how a figure is told, how busy the machine is, and a place to dial in.

A goal that is missed is a figure like any other; a bench fails only when it could not measure.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from campaigns import store
from campaigns.campaign import CampaignStatus, parse_campaign
from campaigns.database import open_database
from campaigns.list_import import import_list
from dialer.demo import simulator_process
from dialer.metrics import Metrics
from dialer.settings import Settings, load_settings

CAMPAIGN: Final = "bench"
GATEWAY: Final = "carrier_a"
FIRST_EXTENSION: Final = 10_000

_SETTINGS: Final = """
node = "bench"
[[switch]]
name = "simulated"
port = {port}
[[gateway]]
name = "{gateway}"
switch = "simulated"
caller_id = "+12025550100"
concurrency = 50000
calls_per_second = {calls_per_second}
[database]
url = "sqlite:///{folder}/bench.db"
[door]
path = "{folder}/door.sock"
[calls]
drain_seconds = 0
"""

_CAMPAIGN: Final = """
name = "{name}"
gateways = ["{gateway}"]
country = "US"
phones = "{phones}"
ring_seconds = {ring_seconds}
wrap_up_seconds = 0
windows = [{{ days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], start = "00:00", end = "24:00" }}]
"""


def tell(name: str, value: float | None, unit: str, **more: Any) -> None:
    """Prints one figure. `goal` among `more` is in words; `met` says whether it is reached."""
    shown = round(value, 3) if isinstance(value, float) else value
    print(json.dumps({"name": name, "value": shown, "unit": unit, **more}), flush=True)


@attrs.frozen
class Stage:
    """A simulated switch in a process of its own, and a database with a campaign ready to be started."""

    folder: Path
    config: Path
    settings: Settings


@asynccontextmanager
async def stage(
    scenario: str, *, calls_per_second: float, phones: str, ring_seconds: int, leads: int, seed: int = 1
) -> AsyncIterator[Stage]:
    """Sets the stage in a temporary folder, for as long as the block lasts. Raises UnavailableError."""
    with tempfile.TemporaryDirectory(prefix="dialer-bench-") as name:
        folder = Path(name)
        script = folder / "scenario.toml"
        script.write_text(scenario, encoding="utf-8")
        async with simulator_process(script, seed) as port:
            config = folder / "dialer.toml"
            config.write_text(
                _SETTINGS.format(port=port, gateway=GATEWAY, folder=folder, calls_per_second=calls_per_second),
                encoding="utf-8",
            )
            settings = load_settings(config)
            definition = _CAMPAIGN.format(name=CAMPAIGN, gateway=GATEWAY, phones=phones, ring_seconds=ring_seconds)
            await _fill(settings, definition, folder / "leads.csv", leads)
            yield Stage(folder, config, settings)


async def _fill(settings: Settings, definition: str, file: Path, leads: int) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["number"])
        writer.writerows([f"+1212{2_000_000 + number}"] for number in range(leads))
    now = datetime.now(UTC)
    campaign = parse_campaign(definition, "the bench's campaign")
    async with open_database(settings.database.url, node=None) as database:
        await database.write(lambda session: store.add_campaign(session, campaign, now))
        report = await import_list(database, file, CAMPAIGN, now=now)
        if report.added != leads:
            raise RuntimeError(f"{report.added} of {leads} leads were imported")


async def set_status(settings: Settings, status: CampaignStatus) -> None:
    """Starts or stops the campaign; the daemon sees it when it is next told to look, or within seconds."""
    async with open_database(settings.database.url, node=None) as database:
        await database.write(lambda session: store.set_campaign_status(session, CAMPAIGN, status, datetime.now(UTC)))


# How late a process that does nothing else wakes up from 10 ms of sleep: what no loop lag here can be better than.
_IDLER: Final = """
import signal, sys, time
late = []
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print(sorted(late)[int(len(late) * 0.99)])))
while True:
    due = time.monotonic() + 0.01
    time.sleep(0.01)
    late.append(1000 * (time.monotonic() - due))
"""


@asynccontextmanager
async def machine_lag(name: str) -> AsyncIterator[None]:
    """Tells, as the figure `name`, how busy others kept the machine while the block ran."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", _IDLER], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            process.terminate()
            said = await process.stdout.receive_some(100)
            await process.wait()
    load = [round(minutes, 1) for minutes in os.getloadavg()]
    tell(name, float(said), "ms", load=load, cores=os.cpu_count())


def begin_anew(metrics: Metrics) -> None:
    """Empties the histograms where they are: some parts of the daemon hold on to theirs."""
    for latency in (metrics.ok_to_bridge_sent, metrics.answer_to_bridged, metrics.event_lag, metrics.loop_lag):
        latency._histogram.reset()


def extensions(agents: int) -> list[str]:
    """The agents' extensions; a scenario's phones are `FIRST_EXTENSION` and those after it."""
    return [str(FIRST_EXTENSION + number) for number in range(agents)]
