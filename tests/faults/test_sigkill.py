"""The real process, killed with SIGKILL at each marked point of a call, and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from sqlmodel import select

from campaigns import store
from campaigns.campaign import CampaignStatus, parse_campaign
from campaigns.database import Database, open_database
from campaigns.lead import LeadStatus
from campaigns.list_import import import_list
from campaigns.tables import AttemptRow, CdrRow, LeadRow
from dialer import door
from dialer.errors import DialerError
from dialer.simulator.channel import Channel, Side
from tests.faults.mortal import POINTS
from tests.faults.promises import check_leads, check_people
from tests.house import ALWAYS, House, house, number, settings_text
from tests.patience import eventually

AGENTS = ("1000", "1001", "1002")
CAMPAIGN = f"""
name = "test"
gateways = ["carrier_a"]
country = "US"
windows = {ALWAYS}
wrap_up_seconds = 0.2
ring_seconds = 5
abandoned_lockout_hours = 0
[retries]
max_attempts = 2
delay_seconds = {{ busy = 1, hung_up = 1, abandoned = 1, unknown = 1, cancelled = 1 }}
"""
DEADLINE_SECONDS = 60.0
UNFINISHED = (LeadStatus.NEW, LeadStatus.WAITING, LeadStatus.DIALING)


class Seen:
    """What the database and the simulated switch say, in the shape the promises are checked on."""

    def __init__(self, people: Sequence[Channel]) -> None:
        self._people = people
        self._leads: Sequence[LeadRow] = ()
        self._attempts: Sequence[AttemptRow] = ()
        self._cdrs: Sequence[CdrRow] = ()

    async def look(self, database: Database) -> None:
        self._leads = await database.read(lambda session: session.exec(select(LeadRow)).all())
        self._attempts = await database.read(lambda session: session.exec(select(AttemptRow)).all())
        self._cdrs = await database.read(lambda session: session.exec(select(CdrRow)).all())

    def leads(self) -> Sequence[LeadRow]:
        return self._leads

    def attempts(self) -> Sequence[AttemptRow]:
        return self._attempts

    def cdrs(self) -> Sequence[CdrRow]:
        return self._cdrs

    def customers(self) -> list[Channel]:
        return [one for one in self._people if one.side is Side.CUSTOMER]


@asynccontextmanager
async def daemon(config: Path, *mortal: str) -> AsyncIterator[trio.Process]:
    """The daemon's process; killed at the end if it lives."""
    program = ["tests.faults.mortal", *mortal] if mortal else ["dialer"]
    command = [sys.executable, "-m", *program, "run", "--config", str(config)]
    with (config.parent / "daemon.log").open("ab") as log:
        process = await trio.lowlevel.open_process(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()


async def ask(home: House, verb: str, **arguments: Any) -> Any:
    """Asks the daemon at its door; None while it does not answer."""
    try:
        return await trio.to_thread.run_sync(partial(door.ask, home.settings.door.path, verb, **arguments))
    except DialerError:
        return None


async def log_in(home: House) -> None:
    """Agents make themselves ready, as soon as there is a daemon to hear it; it may die any moment."""
    for extension in AGENTS:
        while await ask(home, "agent_ready", extension=extension, campaign="test") is None:  # noqa: ASYNC110
            await trio.sleep(0.05)


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at(tmp_path: Path, point: str) -> None:
    people: list[Channel] = []
    async with house(tmp_path) as home:
        home.switch.keep_history(people)
        config = tmp_path / "dialer.toml"
        config.write_text(
            settings_text(
                tmp_path, home.settings.switch[0].port, calls="agent_lease_seconds = 5\nslot_lease_seconds = 5"
            )
        )
        async with open_database(home.settings.database.url, node=None) as database:
            now = datetime.now(UTC)
            definition = parse_campaign(CAMPAIGN, "test")
            await database.write(lambda session: store.add_campaign(session, definition, now))
            leads = tmp_path / "leads.csv"
            numbers = [number(index, digit) for index, digit in enumerate([0, 0, 7, 1, 0, 0, 0])]
            leads.write_text("number\n" + "\n".join(numbers))
            await import_list(database, leads, "test", now=now)
            await database.write(
                lambda session: store.set_campaign_status(session, "test", CampaignStatus.RUNNING, now)
            )
            with trio.fail_after(DEADLINE_SECONDS):
                async with daemon(config, point, "3") as first, trio.open_nursery() as nursery:
                    nursery.start_soon(log_in, home)
                    assert await first.wait() == -signal.SIGKILL
                    nursery.cancel_scope.cancel()
            async with daemon(config) as second:
                await log_in(home)
                seen = Seen(people)

                async def finished() -> bool:
                    counts = await database.read(lambda session: store.lead_counts(session, 1))
                    return not any(counts[status] for status in UNFINISHED)

                await eventually(finished, DEADLINE_SECONDS)

                async def all_idle() -> bool:
                    status = await ask(home, "status")
                    return (
                        status is not None
                        and [agent["state"] for agent in status["agents"]] == ["idle"] * len(AGENTS)
                        and len(home.switch.channels) == len(AGENTS)
                        and sum(gateway["in_use"] for gateway in status["gateways"]) == 0
                    )

                await eventually(all_idle, DEADLINE_SECONDS)
                await seen.look(database)
                check_leads(seen, max_attempts=2)
                check_people(seen, longest_wait_seconds=40.0)
                second.terminate()
                with trio.fail_after(DEADLINE_SECONDS):
                    assert await second.wait() == 0
