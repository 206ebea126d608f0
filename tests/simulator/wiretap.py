"""A client of the simulated switch for its own tests: it writes text, and cuts what comes into frames.

It is written for these tests alone and shares nothing with the daemon's client or with the simulator's writer, so
that neither can hide the other's mistakes.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import attrs
import trio
import trio.testing

from dialer.simulator import Scenario, SimulatedSwitch

# Seconds of virtual time after which a test that waits for ever is ended.
TEST_LIMIT = 7200.0
START = datetime(2026, 11, 20, 23, 0, 0, tzinfo=UTC)


@attrs.frozen
class Frame:
    """One frame: its outer headers in order, and of an event the inner ones in order."""

    headers: tuple[tuple[str, str], ...]
    body: bytes
    at: float = 0.0  # trio's time when it was complete

    def outer(self, name: str) -> str:
        return dict(self.headers).get(name, "")

    @property
    def kind(self) -> str:
        return self.outer("Content-Type")

    @property
    def is_event(self) -> bool:
        return self.kind.startswith("text/event-")

    @property
    def pairs(self) -> list[tuple[str, Any]]:
        """The headers of an event; a JSON object's repeated names are all there."""
        if self.kind == "text/event-json":
            pairs: list[tuple[str, Any]] = json.loads(self.body, object_pairs_hook=list)
            return pairs
        head, _, _ = self.body.partition(b"\n\n")
        split = (line.split(": ", 1) for line in head.decode().split("\n") if line)
        return [(name, unquote(value)) for name, value in split]

    @property
    def event(self) -> dict[str, Any]:
        return dict(self.pairs)

    @property
    def job_result(self) -> str:
        if self.kind == "text/event-json":
            return str(self.event["_body"])
        return self.body.partition(b"\n\n")[2].decode()


def cut(data: bytes | bytearray, at: float = 0.0) -> tuple[list[Frame], int]:
    """The frames that `data` holds, and how many bytes they took."""
    frames: list[Frame] = []
    position = 0
    while (end := data.find(b"\n\n", position)) >= 0:
        lines = bytes(data[position:end]).decode().split("\n")
        headers = tuple((name, value) for name, _, value in (line.partition(": ") for line in lines if line))
        length = int(dict(headers).get("Content-Length", "0"))
        if len(data) < end + 2 + length:
            break
        frames.append(Frame(headers, bytes(data[end + 2 : end + 2 + length]), at))
        position = end + 2 + length
    return frames, position


class Client:
    """One connection and everything that came over it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.frames: list[Frame] = []
        self.rest = bytearray()
        self.closed = False
        self._news = trio.Event()

    async def pump(self) -> None:
        """Read until the switch ends it."""
        try:
            async for data in self.stream:
                self.rest += data
                frames, taken = cut(self.rest, trio.current_time())
                del self.rest[:taken]
                self.frames += frames
                self._tell()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self.closed = True
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()

    async def send(self, text: str) -> None:
        await self.stream.send_all(text.encode() + b"\n\n")

    async def wait_for(self, wanted: Callable[[Frame], bool]) -> Frame:
        """The first frame, come or to come, that is `wanted`."""
        seen = 0
        while True:
            for frame in self.frames[seen:]:
                if wanted(frame):
                    return frame
            seen = len(self.frames)
            assert not self.closed, "the switch ended the connection"
            await self._news.wait()

    async def wait_closed(self) -> None:
        while not self.closed:
            await self._news.wait()

    async def ask(self, text: str) -> str:
        """Send a command that gets a reply or an api answer, and return its text."""
        seen = sum(frame.kind in {"command/reply", "api/response"} for frame in self.frames)
        await self.send(text)
        count = 0

        def is_reply(frame: Frame) -> bool:
            nonlocal count
            if frame.kind not in {"command/reply", "api/response"}:
                return False
            count += 1
            return count > seen

        # Counted afresh from the first frame, so that replies cannot be mixed up.
        while True:
            count = 0
            found = next((frame for frame in self.frames if is_reply(frame)), None)
            if found is not None:
                return found.outer("Reply-Text") or found.body.decode()
            assert not self.closed, "the switch ended the connection"
            await self._news.wait()

    async def job(self, command: str) -> str:
        """Run a command with `bgapi` and return its result."""
        reply = await self.ask(f"bgapi {command}")
        uuid = reply.removeprefix("+OK Job-UUID: ")
        assert uuid != reply, reply
        return (await self.wait_for(lambda frame: frame.is_event and frame.event.get("Job-UUID") == uuid)).job_result

    def events(self, name: str | None = None, uuid: str | None = None) -> list[dict[str, Any]]:
        """The events so far, of one name or one channel if asked."""
        found = (frame.event for frame in self.frames if frame.is_event)
        return [
            event
            for event in found
            if (name is None or event["Event-Name"] == name) and (uuid is None or event.get("Unique-ID") == uuid)
        ]

    def names(self, uuid: str | None = None) -> list[str]:
        """The names of the events so far, of one channel if asked."""
        return [event["Event-Name"] for event in self.events(uuid=uuid)]

    async def wait_event(self, name: str, uuid: str | None = None) -> dict[str, Any]:
        """The first event of that name, of one channel if asked."""

        def wanted(frame: Frame) -> bool:
            if not frame.is_event:
                return False
            event = frame.event
            return event["Event-Name"] == name and (uuid is None or event.get("Unique-ID") == uuid)

        return (await self.wait_for(wanted)).event


EVERYTHING = (
    "BACKGROUND_JOB CHANNEL_CREATE CHANNEL_ORIGINATE CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA CHANNEL_ANSWER"
    " CHANNEL_BRIDGE CHANNEL_UNBRIDGE CHANNEL_PARK CHANNEL_UNPARK CHANNEL_HANGUP CHANNEL_HANGUP_COMPLETE"
    " CHANNEL_DESTROY DTMF PLAYBACK_START PLAYBACK_STOP RECORD_START RECORD_STOP SHUTDOWN CUSTOM sofia::register"
    " sofia::unregister sofia::expire sofia::register_failure sofia::gateway_state"
)


def trio_now(start: datetime = START) -> Callable[[], datetime]:
    """A wall clock that runs with trio's."""
    zero = trio.current_time()
    return lambda: start + timedelta(seconds=trio.current_time() - zero)


@asynccontextmanager
async def connected(switch: SimulatedSwitch, login: str | None = "json") -> AsyncIterator[Client]:
    """A connection over memory; with `login` authenticated and subscribed to everything in that format."""
    near, far = trio.testing.memory_stream_pair()
    client = Client(near)
    with trio.fail_after(TEST_LIMIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(switch.serve_stream, far)
            nursery.start_soon(client.pump)
            if login is not None:
                assert await client.ask("auth ClueCon") == "+OK accepted"
                assert await client.ask(f"event {login} {EVERYTHING}") == f"+OK event listener enabled {login}"
            yield client
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def simulated(scenario: Scenario | None = None, *, seed: int = 1) -> AsyncIterator[SimulatedSwitch]:
    """A running switch on trio's clock."""
    chosen = scenario or Scenario(realistic_headers=False)
    switch = SimulatedSwitch(chosen, rng=random.Random(seed), now=trio_now())
    async with switch.running():
        yield switch


def uuids() -> Iterator[str]:
    """Readable uuids, each new."""
    number = 0
    while True:
        number += 1
        yield f"00000000-0000-4000-8000-{number:012}"
