"""A Redis of the tests' own, and a clock they can set."""

from __future__ import annotations

import faulthandler
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dialer.shared_state import SharedState, find_redis_server, open_shared_state
from tests.patience import PATIENCE_SECONDS
from tests.postgres_server import NoServerError, throw_away_server

EXIT_SECONDS = 120.0


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A guard: virtual time jumps ahead while a thread, a file or a server is at work."""
    for item in items:
        asked = set(getattr(item, "fixturenames", ()))
        if "autojump_clock" in asked and asked & {"tmp_path", "redis_url", "own_redis", "postgres"}:
            raise pytest.UsageError(f"{item.nodeid} asks for virtual time, and for what takes real time")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """A thread that a failed test has left behind would keep this process, and whoever waits for it, for ever."""
    faulthandler.dump_traceback_later(EXIT_SECONDS, exit=True, file=sys.__stderr__ or sys.stderr)


class RedisServer:
    """A redis-server that can be stopped and started again, always at the same `url`.

    It has its data again, but for what `forget` threw away while it was stopped.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{directory / 'redis.sock'}"

    def start(self) -> None:
        options = {
            "port": "0",
            "unixsocket": str(self._directory / "redis.sock"),
            "dir": str(self._directory),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "no",  # it survives its process; it need not survive the machine
            "loglevel": "warning",
        }
        self._process = subprocess.Popen(
            [find_redis_server(), *(word for key, value in options.items() for word in (f"--{key}", value))],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        give_up_at = monotonic() + PATIENCE_SECONDS
        with redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0)) as client:
            while True:
                try:
                    client.ping()
                    return
                except (redis.ConnectionError, redis.BusyLoadingError):
                    if self._process.poll() is not None or monotonic() > give_up_at:
                        raise
                    sleep(0.01)

    def stop(self) -> None:
        if self._process is not None:
            self.go_on()
            self._process.terminate()
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def hang(self) -> None:
        """It takes what is sent to it, and answers nothing until `go_on`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def forget(self) -> None:
        assert self._process is None, "a running one would write its data again"
        shutil.rmtree(self._directory / "appendonlydir", ignore_errors=True)
        (self._directory / "appendonly.aof").unlink(missing_ok=True)  # where Redis 6 keeps it


def _running() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="test-redis-") as directory:  # short: a socket's path has 107 bytes
        server = RedisServer(Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis that all tests of a session share, each under a prefix of its own."""
    for server in _running():
        yield server.url


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis for one test, which may stop it."""
    yield from _running()


@pytest.fixture
def prefix() -> str:
    return f"test:{uuid4().hex}:"


@pytest.fixture
async def state(redis_url: str) -> AsyncIterator[SharedState]:
    async with open_shared_state(redis_url, timeout_seconds=5.0) as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server on which databases can be made."""
    given = os.environ.get("DIALER_TEST_POSTGRES_URL")
    with ExitStack() as stack:
        try:
            yield given or stack.enter_context(throw_away_server())
        except NoServerError as reason:
            pytest.skip(f"no PostgreSQL: {reason}")


class SetClock:
    """Shows the time it was set to."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def now_ms(self) -> int:
        return int(self.time.timestamp() * 1000)

    def move(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()
