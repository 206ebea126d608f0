"""What an operator does to a running daemon: stop all dialing, change the configuration."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from campaigns import audit
from campaigns.campaign import CampaignStatus
from dialer.agents.agent import AgentState
from dialer.daemon import obey_signals
from dialer.door import ask
from dialer.errors import ConfigurationError
from dialer.settings import check_reloadable, door_in, parse_settings
from tests.house import House, house, number, outcomes, settings_text
from tests.patience import eventually
from tests.test_command_line import dialer


async def test_stop_all_ends_dialing_in_every_campaign_and_no_conversation(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await home.campaign()
        await home.campaign("other")
        await home.leads([number(1, 8), number(2, 5)])
        await home.leads([number(3, 5)], campaign="other")
        await home.ready("1000", "1001")
        await home.ready("1002", campaign="other")
        await home.set_status(CampaignStatus.RUNNING)
        await home.set_status(CampaignStatus.RUNNING, "other")

        async def one_talks_and_two_ring() -> bool:
            truth = home.switch.statistics()
            return truth.bridged == 1 and truth.originated == 3

        await eventually(one_talks_and_two_ring)
        assert "all dialing has ended" in await home.daemon.desk.stop_all()
        assert outcomes(await home.closed(1)) == {"cancelled": 1}
        assert outcomes(await home.closed(1, "other")) == {"cancelled": 1}
        status = await home.daemon.desk.status()
        assert {one["status"] for one in status["campaigns"]} == {"stopped"}
        assert sum(one["calls"]["talking"] for one in status["campaigns"]) == 1


async def test_the_audit_log_says_who_asked_at_the_door(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await home.campaign()
        for verb, arguments in (("agent_ready", {"extension": "1000", "campaign": "test"}), ("stop_all", {})):
            await trio.to_thread.run_sync(partial(ask, home.settings.door.path, verb, **arguments))
        noted = await home.daemon.database.read(audit.notes)
    assert {(row.action, row.who) for row in noted} == {(what, audit.this_person()) for what in ("ready", "stop-all")}


def test_stop_all_without_a_daemon_stops_them_in_the_database(tmp_path: Path) -> None:
    config = tmp_path / "dialer.toml"
    config.write_text(settings_text(tmp_path, 1))
    definition = tmp_path / "spring.toml"
    definition.write_text('name = "spring"\ngateways = ["carrier_a"]\ncountry = "US"\n')
    dialer("campaign", "add", str(definition), config=config)
    dialer("campaign", "start", "spring", config=config)
    assert dialer("stop-all", config=config).stdout == "no daemon is running; stopped in the database: spring\n"
    assert "stopped" in dialer("campaign", "list", config=config).stdout


TABLES = """
[[switch]]
name = "fs"
[[gateway]]
name = "carrier_a"
switch = "fs"
caller_id = "1"
concurrency = 10
"""


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("concurrency = 10", "concurrency = 20"), ""),
        (('name = "carrier_a"', 'name = "carrier_b"'), ""),
        (("", '[log]\nlevel = "debug"\n'), ""),
        (("", "[calls]\ndrain_seconds = 3\n"), ""),
        (("", "[calls]\nagent_lease_seconds = 60\n"), "calls.agent_lease_seconds"),
        (("", '[redis]\nprefix = "other:"\n'), "redis"),
        (("", '[door]\npath = "/run/other.sock"\n'), "door"),
        (("", '[database]\nurl = "sqlite:////srv/x.db"\n'), "database"),
        (('name = "fs"\n', 'name = "fs"\nport = 8022\n'), "switch"),
    ],
)
def test_what_a_running_daemon_takes_over(change: tuple[str, str], named: str) -> None:
    old, new = change
    running = parse_settings(TABLES, "test")
    changed = parse_settings(TABLES.replace(old, new, 1) if old else TABLES + new, "test")
    assert changed != running
    if named:
        with pytest.raises(ConfigurationError, match=f"^{named}: cannot be changed while the daemon runs"):
            check_reloadable(running, changed)
    else:
        check_reloadable(running, changed)


@asynccontextmanager
async def process(home: House) -> AsyncIterator[tuple[trio.Process, Path]]:
    """A daemon in a process of its own, and its configuration file."""
    config = home.folder / "dialer.toml"
    config.write_text(settings_text(home.folder, home.settings.switch[0].port))
    command = [sys.executable, "-m", "dialer", "run", "--config", str(config)]
    with (home.folder / "daemon.log").open("wb") as log:
        running = await trio.lowlevel.open_process(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:

            async def answers() -> bool:
                done = await trio.to_thread.run_sync(lambda: dialer("status", config=config))
                return done.returncode == 0 and "ready" in done.stdout

            await eventually(answers)
            yield running, config
        finally:
            if running.returncode is None:
                running.kill()
            with trio.CancelScope(shield=True):
                await running.wait()


async def test_the_configuration_is_taken_over_whole_or_not_at_all(tmp_path: Path) -> None:
    async with house(tmp_path) as home, process(home) as (running, config):
        good = config.read_text()

        async def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            return await trio.to_thread.run_sync(lambda: dialer(*arguments, config=config))

        assert (await run("reload")).stdout == "nothing in the configuration has changed\n"
        config.write_text(good.replace("concurrency = 50", "concurrency = 7"))
        assert (await run("reload")).stdout == "taken over: gateway\n"
        assert "7" in (await run("status")).stdout
        # One thing that can be taken over, and one that cannot: neither is.
        config.write_text(good.replace("concurrency = 50", "concurrency = 9").replace('"test"', '"another"', 1))
        refused = await run("reload")
        assert refused.returncode != 0
        assert "node: cannot be changed while the daemon runs" in refused.stderr
        running.send_signal(signal.SIGHUP)

        async def told() -> bool:
            return b"configuration_refused" in (tmp_path / "daemon.log").read_bytes()

        await eventually(told)
        config.write_text(good.replace("concurrency = 50", "concurrency = 11"))
        running.send_signal(signal.SIGHUP)

        async def taken_over() -> bool:
            return b"taken over: gateway" in (tmp_path / "daemon.log").read_bytes()

        await eventually(taken_over)
        running.terminate()
        assert await running.wait() == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_sigterm_ends_it_at_once(tmp_path: Path, how: signal.Signals) -> None:
    async with house(tmp_path) as home:
        text = settings_text(tmp_path, home.settings.switch[0].port).replace(
            "drain_seconds = 0", "drain_seconds = 600"
        )
        async with home.living():
            await home.dial([number(1, 8)])
            await home.ready("1000")
            await home.agent_is("1000", AgentState.ON_CALL)
        config = tmp_path / "dialer.toml"
        config.write_text(text)
        async with process(home) as (running, path):
            path.write_text(text)
            await trio.to_thread.run_sync(lambda: dialer("reload", config=path))
            running.send_signal(how)

            async def stopping() -> bool:
                return b"daemon_stopping" in (tmp_path / "daemon.log").read_bytes()

            await eventually(stopping)
            running.send_signal(how)
            with trio.fail_after(5):
                assert await running.wait() == -how
        assert b"Traceback" not in (tmp_path / "daemon.log").read_bytes()
        assert len(home.switch.channels) == 2  # and still they talk
        os.kill(int((tmp_path / "redis" / "redis.pid").read_text()), signal.SIGTERM)  # the next start would do that


def test_all_dialing_is_stopped_though_the_configuration_is_being_edited(tmp_path: Path) -> None:
    path = tmp_path / "d.toml"
    for text, door in (
        (settings_text(tmp_path, 1), tmp_path / "door.sock"),
        (settings_text(tmp_path, 1).replace("concurrency", "concurency"), tmp_path / "door.sock"),
        ("[door]\npath = 3", Path("/run/dialer/door.sock")),
        ("[[gateway]\n", Path("/run/dialer/door.sock")),
    ):
        path.write_text(text)
        assert door_in(path) == door
    assert door_in(tmp_path / "missing.toml") == Path("/run/dialer/door.sock")


async def test_a_hang_up_signal_while_it_stops_ends_nothing() -> None:
    stop, heard = trio.Event(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(obey_signals, stop, on_hangup=lambda: heard.set()))
        await trio.testing.wait_all_tasks_blocked(0.05)
        os.kill(os.getpid(), signal.SIGHUP)
        await heard.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        heard = trio.Event()
        os.kill(os.getpid(), signal.SIGHUP)
        await heard.wait()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # the second one ends it at once
        nursery.cancel_scope.cancel()
