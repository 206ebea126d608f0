"""A switch in a test's own hands: it hears exactly what the test expects and says the bytes the test gives it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs
import trio

from dialer.esl.subscription import Subscription
from tests.esl.wire import AUTH_REQUEST, LOGGED_IN, SUBSCRIBED, accepted, job

PASSWORD: Final = "correct horse"
SUBSCRIPTION: Final = Subscription(("HEARTBEAT", "BACKGROUND_JOB"))
SUBSCRIBE: Final = "event json HEARTBEAT BACKGROUND_JOB"


@attrs.frozen
class Heard:
    """A `bgapi` as it came over the wire."""

    line: str
    job_uuid: str


class FakeSwitch:
    """The far end of a stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._heard = b""

    async def says(self, *data: bytes) -> None:
        await self.stream.send_all(b"".join(data))

    async def hears(self) -> str:
        """The next command, without its empty line; "" when the client has closed the connection."""
        while b"\n\n" not in self._heard:
            data = await self.stream.receive_some(4096)
            if not data:
                assert not self._heard, "half a command, then the end"
                return ""
            self._heard += data
        command, _, self._heard = self._heard.partition(b"\n\n")
        return command.decode()

    async def hears_command(self) -> Heard:
        line, _, job_uuid = (await self.hears()).partition("\nJob-UUID: ")
        assert line.startswith("bgapi ")
        return Heard(line.removeprefix("bgapi "), job_uuid)

    async def lets_in(self) -> None:
        """Login and subscription. Raises BrokenResourceError if the client leaves before."""
        await self.says(AUTH_REQUEST)
        for expected, answer in ((f"auth {PASSWORD}", LOGGED_IN), (SUBSCRIBE, SUBSCRIBED)):
            heard = await self.hears()
            if not heard:
                raise trio.BrokenResourceError("the client left")
            assert heard == expected
            await self.says(answer)

    async def obeys(self, result: str = "true") -> None:
        """Takes every command and ends its job at once, until the client goes."""
        while (command := await self.hears()) != "":
            job_uuid = command.partition("\nJob-UUID: ")[2]
            await self.says(accepted(job_uuid), job(job_uuid, result))

    async def closes(self) -> None:
        await self.stream.aclose()


class _Ledger(trio.abc.Instrument):
    def __init__(self) -> None:
        self.alive: set[trio.lowlevel.Task] = set()

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.alive.add(task)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self.alive.discard(task)


@contextmanager
def no_task_left() -> Iterator[None]:
    """Fails if a task that began within the block is alive at its end."""
    ledger = _Ledger()
    trio.lowlevel.add_instrument(ledger)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(ledger)
    assert not ledger.alive, sorted(task.name for task in ledger.alive)
