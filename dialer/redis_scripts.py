"""Lua scripts run on Redis from trio, many in one trip.

Each call of a busy dialer runs half a dozen scripts. A thread for each would cost more than the scripts themselves:
all that wait while a trip is under way go together in the next, as one pipeline, and a lone one goes at once. Redis
runs each script whole, with nothing in between.

A script that still waits is withdrawn when its caller is cancelled. One that has left is waited for, so that what
Redis has granted is never lost between it and us, unless the caller has left word who is to be told instead: a Redis
that hangs holds a trip for as long as the socket's timeouts, which are its deadline.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import outcome
import redis
import trio

from dialer.errors import UnavailableError

# An answer, or the UnavailableError in its place.
Late = Callable[[Any], None]

# More in one trip would keep the first of them waiting for the last.
MAX_SCRIPTS_A_TRIP: Final = 100


@attrs.define(eq=False)
class _Job:
    script: Script
    keys: Sequence[str]
    args: Sequence[str | int | float]
    task: trio.lowlevel.Task | None  # None: it has been cancelled since
    late: Late | None
    since: float


class ScriptRunner:
    """Runs the scripts of one Redis; `run` does the work, and needs a nursery for as long as scripts are called."""

    def __init__(self, client: redis.Redis, translate: Callable[[Exception], UnavailableError]) -> None:
        self.trips = 0
        self.scripts_run = 0
        self.lag_seconds = 0.0  # how long the oldest of the last trip waited for its answer
        self._client = client
        self._translate = translate
        self._queue: deque[_Job] = deque()
        self._wake = trio.Event()
        self._limiter = trio.CapacityLimiter(1)
        self._stopped = False

    def __repr__(self) -> str:
        return f"<ScriptRunner {len(self._queue)} waiting, {self.scripts_run} run in {self.trips} trips>"

    def script(self, path: Path) -> Script:
        """The Lua script in the file `path`."""
        return Script(self, self._client.register_script(path.read_text(encoding="utf-8")))

    async def call(
        self, script: Script, keys: Sequence[str], args: Sequence[str | int | float], late: Late | None = None
    ) -> Any:
        """The script's answer. Raises UnavailableError when Redis is away or refuses it.

        :param late: Told of the answer when it comes, if the caller is cancelled while the script is under way.
            Without it the caller is not cancelled until then.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._stopped:
            raise UnavailableError("Redis is not used any more: the daemon is stopping")
        job = _Job(script, keys, args, trio.lowlevel.current_task(), late, trio.current_time())
        self._queue.append(job)
        self._wake.set()

        def withdraw(_raise_cancel: Any) -> trio.lowlevel.Abort:
            if job in self._queue:
                self._queue.remove(job)
            elif late is None:
                return trio.lowlevel.Abort.FAILED
            job.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(withdraw)

    async def run(self) -> None:
        """Makes the trips, one after the other, until `stop`.

        Shielded: whoever is cancelled puts back what they took by scripts, and would wait for ever for a runner that
        was cancelled with them.
        """
        with trio.CancelScope(shield=True):
            while self._queue or not self._stopped:
                if not self._queue:
                    self._wake = trio.Event()
                    await self._wake.wait()
                    continue
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_SCRIPTS_A_TRIP))]
                answers = await trio.to_thread.run_sync(self._trip, batch, limiter=self._limiter)
                self.trips += 1
                self.scripts_run += len(batch)
                self.lag_seconds = trio.current_time() - batch[0].since
                self._tell(batch, answers)

    def stop(self) -> None:
        """Ends `run` after what has been asked for; from now on a call raises UnavailableError."""
        self._stopped = True
        self._wake.set()

    @staticmethod
    def _tell(batch: Sequence[_Job], answers: Sequence[Any]) -> None:
        for job, answer in zip(batch, answers, strict=True):
            if job.task is not None:
                told = outcome.Error(answer) if isinstance(answer, Exception) else outcome.Value(answer)
                trio.lowlevel.reschedule(job.task, told)
            elif job.late is not None:
                job.late(answer)

    def _trip(self, batch: Sequence[_Job]) -> list[Any]:
        """In the thread: one pipeline, and a script Redis has lost (a restart) loaded and run again."""
        try:
            pipe = self._client.pipeline(transaction=False)
            for job in batch:
                pipe.evalsha(job.script.sha, len(job.keys), *job.keys, *job.args)
            answers = pipe.execute(raise_on_error=False)
            for index, (job, answer) in enumerate(zip(batch, answers, strict=True)):
                if isinstance(answer, redis.exceptions.NoScriptError):
                    answers[index] = self._load_and_run(job)
        except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
            return [self._translate(error)] * len(batch)
        return [self._translate(one) if isinstance(one, redis.RedisError) else one for one in answers]

    def _load_and_run(self, job: _Job) -> Any:
        self._client.script_load(job.script.text)
        try:
            return self._client.evalsha(job.script.sha, len(job.keys), *job.keys, *job.args)
        except redis.ResponseError as error:
            return error


class Script:
    """One Lua script. Calling it runs it; see ScriptRunner.call."""

    def __init__(self, runner: ScriptRunner, registered: Any) -> None:
        self._runner = runner
        self.sha: str = registered.sha
        self.text: str = registered.script

    async def __call__(self, keys: Sequence[str], args: Sequence[str | int | float], late: Late | None = None) -> Any:
        return await self._runner.call(self, keys, args, late)
