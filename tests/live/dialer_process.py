"""The dialer as its users have it: the command line in processes of its own, against a laboratory."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import trio

from .laboratory import Laboratory
from .machinery import wait_until

ALWAYS = '[{ days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], start = "00:00", end = "24:00" }]'


class Dialer:
    """One configured dialer. `cli` runs a command, `running` the daemon."""

    def __init__(
        self, laboratory: Laboratory, folder: Path, *, concurrency: int = 200, calls_per_second: int = 100,
        port: int | None = None, redis_url: str | None = None, gateway: str = "",
    ) -> None:  # fmt: skip
        """
        :param port: Where the daemon finds the event socket, when not at the laboratory's own port.
        :param redis_url: A Redis of the test's; by default the daemon runs one.
        :param gateway: Further settings of the trunk, and blocks of others.
        """
        self.folder = folder
        self.config = folder / "dialer.toml"
        self.log = folder / "daemon.log"
        (folder / "password").write_text(laboratory.password)
        self.config.write_text(
            f"""
node = "live"
[[switch]]
name = "real"
port = {port or laboratory.esl_port}
password_file = "{folder}/password"
domain = "{laboratory.domain}"
recordings_dir = "{laboratory.recordings}"
[[gateway]]
name = "carrier_a"
switch = "real"
caller_id = "+12025550100"
concurrency = {concurrency}
calls_per_second = {calls_per_second}
{gateway}
[database]
url = "sqlite:///{folder}/dialer.db"
[door]
path = "{folder}/door.sock"
[redis]
{f'url = "{redis_url}"' if redis_url is not None else ""}
"""
        )

    async def cli(self, *arguments: str, check: bool = True) -> str:
        """What `dialer ARGUMENTS` printed; fails the test when it failed."""
        command = [sys.executable, "-m", "dialer", *arguments, "--config", str(self.config)]
        with trio.fail_after(60):
            done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
        if check:
            assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode() + ("" if check else done.stderr.decode())

    async def cli_for_each(self, *commands: Sequence[str]) -> None:
        """Runs each command, two at a time: each is a process that takes a second of a core to start."""
        limiter = trio.CapacityLimiter(2)

        async def one(command: Sequence[str]) -> None:
            async with limiter:
                await self.cli(*command)

        async with trio.open_nursery() as nursery:
            for command in commands:
                nursery.start_soon(one, command)

    async def campaign(self, name: str, **settings: str) -> None:
        """Adds a campaign that calls at any hour; settings are TOML values."""
        lines = {"name": f'"{name}"', "gateways": '["carrier_a"]', "country": '"US"', "windows": ALWAYS, **settings}
        file = self.folder / f"{name}.toml"
        file.write_text("\n".join(f"{key} = {value}" for key, value in lines.items()))
        await self.cli("campaign", "add", str(file))

    async def leads(self, campaign: str, numbers: Sequence[str]) -> None:
        """Imports a list."""
        file = self.folder / f"{campaign}.csv"
        file.write_text("number\n" + "\n".join(f"+{number}" for number in numbers))
        await self.cli("leads", "import", str(file), "--campaign", campaign)

    async def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await self.cli("status", "--json"))
        return answer

    async def cdrs(self, campaign: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (await self.cli("cdr", "--campaign", campaign, "--json")).splitlines()]

    def open_attempts(self) -> list[str]:
        """The uuids of those that have no result yet, as the database holds them."""
        return [uuid for (uuid,) in self._select("SELECT uuid FROM attempt WHERE closed_at IS NULL")]

    def leads_to_call(self, campaign: str) -> int:
        """How many leads are not through yet, as the database holds them."""
        ((count,),) = self._select(
            "SELECT count(*) FROM lead JOIN campaign ON campaign.id = lead.campaign_id"
            " WHERE campaign.name = ? AND lead.status IN ('new', 'waiting', 'dialing')",
            campaign,
        )
        return int(count)

    def _select(self, query: str, *values: str) -> list[Any]:
        with closing(sqlite3.connect(f"file:{self.folder}/dialer.db?mode=ro", uri=True)) as database:
            return database.execute(query, values).fetchall()

    async def campaign_status(self, name: str) -> dict[str, Any]:
        return next(one for one in (await self.status())["campaigns"] if one["name"] == name)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[trio.Process]:
        """The daemon, ready for dialing; unless killed, stopped with SIGTERM at the end, when it must exit with 0."""
        command = [sys.executable, "-m", "dialer", "run", "--config", str(self.config)]
        with self.log.open("ab") as log:
            process = await trio.lowlevel.open_process(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                await wait_until(self._ready, 30)
                yield process
                if process.returncode is None:  # not killed on purpose
                    process.terminate()
                    with trio.fail_after(30):
                        assert await process.wait() == 0, self.log_tail()
            finally:
                if process.returncode is None:
                    process.kill()
                    with trio.CancelScope(shield=True):
                        await process.wait()

    async def _ready(self) -> bool:
        text = await self.cli("status", "--json", check=False)
        return text.startswith("{") and all(one["ready"] for one in json.loads(text)["switches"])

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text().splitlines()[-lines:])
