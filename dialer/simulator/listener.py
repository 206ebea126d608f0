"""One event-socket connection, as mod_event_socket serves it.

One task reads commands, runs each and puts its reply in front of the events that wait; another writes, everything
that waits in one call. Replies so come in order and before the events of what they set off. An `api` that takes its
time holds up events and further commands, as in the real one. A reader that is too slow loses events beyond
`event_queue_limit`, and its connection when it lost more than `lost_events_limit` in a row.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

import trio

from dialer.simulator import api, wire
from dialer.simulator.subscription import Subscription
from dialer.simulator.wire import Command, CommandReader, CommandTooLongError, Event

if TYPE_CHECKING:
    from dialer.simulator.machine import Machine

RECEIVE_BYTES = 65536
# A `bgapi` runs in a thread of its own, which starts this long after the reply.
THREAD_START = 0.001
# Events are written this many at a time, so that a reply never waits behind the whole queue.
BATCH_EVENTS = 64
# Bytes of replies nobody reads: beyond this the next command is not read either.
REPLIES_LIMIT = 1_000_000


class Listener:
    """One life of one connection; `run` ends when either side ends it."""

    def __init__(self, machine: Machine, stream: trio.abc.Stream, changed: Callable[[], None]) -> None:
        self.subscription = Subscription()
        self.lost = 0  # events this connection did not get
        self._machine = machine
        self._stream = stream
        self._changed = changed
        self._authed = False
        self._lost_in_a_row = 0
        self._events: deque[Event] = deque()
        self._replies: deque[bytes] = deque()
        self._reply_bytes = 0
        self._busy = False  # an `api` has not answered yet
        self._stalled = False
        self._cutting = False
        self._goodbye: bytes | None = None
        self._wake = trio.Event()
        self._commanded = trio.Event()
        self._written = trio.Event()
        self._scope = trio.CancelScope()

    def __repr__(self) -> str:
        state = "stalled" if self._stalled else "open" if self._authed else "not authenticated"
        return f"<Listener {state} waiting={len(self._events)} lost={self.lost}>"

    @property
    def waiting(self) -> int:
        """Events queued for a slow reader."""
        return len(self._events)

    # what the switch does to it

    def offer(self, event: Event) -> None:
        """An event happened; queue it if it is wanted and there is room."""
        if self._goodbye is not None or not self.subscription.wants(event):
            return
        if len(self._events) >= self._machine.scenario.event_queue_limit:
            self.lost += 1
            self._lost_in_a_row += 1
            if self._lost_in_a_row > self._machine.scenario.lost_events_limit:
                self.drop()
            return
        self._lost_in_a_row = 0
        self._events.append(event)
        self._wake.set()

    def say_goodbye(self, notice: bytes) -> None:
        """Send a disconnect notice after what waits, and end."""
        self._replies.extend(event.frame(self.subscription.format) for event in self._events)
        self._events.clear()
        self._goodbye = notice
        self._wake.set()
        self._commanded.set()

    def drop(self) -> None:
        """End the connection without a word."""
        self._scope.cancel()

    def cut(self) -> None:
        """End it in the middle of a frame."""
        self._cutting = True
        self._wake.set()
        self._commanded.set()

    def stall(self, stalled: bool = True) -> None:
        """Go silent but stay connected; what the client sends disappears. Or come back."""
        self._stalled = stalled
        self._wake.set()

    # the two tasks

    async def run(self) -> None:
        """Serve until one side ends it. The stream is closed then; a broken stream is an end like any other."""
        try:
            with self._scope:
                self._reply(wire.AUTH_REQUEST)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read, nursery.cancel_scope)
                    await self._write()
                    nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(self._stream)

    async def _read(self, scope: trio.CancelScope) -> None:
        reader = CommandReader()
        try:
            while data := await self._stream.receive_some(RECEIVE_BYTES):
                if self._stalled:
                    continue
                for command in reader.feed(data):
                    await self._handle(command)
                    while self._reply_bytes > REPLIES_LIMIT:
                        self._written = trio.Event()
                        await self._written.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError, CommandTooLongError):
            pass
        if self._goodbye is None:
            scope.cancel()

    async def _write(self) -> None:
        """Write replies, then events, until there is a goodbye."""
        delivery = self._machine.scenario.delivery_ms / 1000
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                self._commanded = trio.Event()
                while not self._stalled and (self._replies or (self._events and not self._busy) or self._cutting):
                    await self._write_some()
                if self._goodbye is not None and not self._stalled:
                    await self._stream.send_all(self._goodbye)
                    return
                if delivery:
                    with trio.move_on_after(delivery):
                        await self._commanded.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _write_some(self) -> None:
        if self._replies:
            data = b"".join(self._replies)
            self._replies.clear()
        else:
            count = min(len(self._events), BATCH_EVENTS)
            format_ = self.subscription.format
            data = b"".join([event.frame(format_) for event in islice(self._events, count)])
            for _ in range(count):
                self._events.popleft()
        if self._cutting:
            await self._cut(data or wire.GOODBYE)
            return
        await self._stream.send_all(data)
        self._reply_bytes = 0
        self._written.set()

    async def _cut(self, data: bytes) -> None:
        await self._stream.send_all(data[: len(data) // 2])
        if isinstance(self._stream, trio.SocketStream):
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(self._stream)
        raise trio.ClosedResourceError

    # commands

    def _reply(self, frame: bytes) -> None:
        self._replies.append(frame)
        self._reply_bytes += len(frame)
        self._wake.set()
        self._commanded.set()

    def _say(self, text: str) -> None:
        self._reply(wire.reply_frame(text))

    async def _handle(self, command: Command) -> None:
        """Run one command, as parse_command of mod_event_socket does: by the beginning of its line."""
        if self._goodbye is not None:
            return
        slow = self._machine.faults.slow_by()
        if slow:
            await trio.sleep(slow)
        word, _, rest = command.line.partition(" ")
        word = word.lower()
        if word.startswith(("exit", "...")):
            self._say("+OK bye")
            self._events.clear()
            self.say_goodbye(wire.GOODBYE)
        elif not self._authed:
            self._authenticate(word, rest)
        elif word == "api":
            await self._api(rest)
        elif word == "bgapi":
            self._bgapi(rest, command.headers.get("job-uuid"))
        else:
            self._say(self._protocol(word, rest))

    def _authenticate(self, word: str, password: str) -> None:
        if word != "auth":
            self._say("-ERR command not found")
        elif password == self._machine.scenario.password:
            self._authed = True
            self._say("+OK accepted")
        else:
            self._say("-ERR invalid")
            self.say_goodbye(wire.GOODBYE)

    async def _api(self, line: str) -> None:
        name, _, arguments = line.partition(" ")
        answered = trio.Event()
        self._busy = True

        def reply(text: str) -> None:
            self._busy = False
            self._reply(wire.api_frame(text))
            answered.set()

        api.execute(self._machine, name, arguments, reply)
        if not answered.is_set():
            await answered.wait()

    def _bgapi(self, line: str, job: str | None) -> None:
        machine = self._machine
        if machine.faults.strikes("bgapi_refused"):
            self._say("-ERR permission denied")
            return
        name, _, arguments = line.partition(" ")
        job_uuid = job or machine.new_uuid()
        self._reply(wire.job_reply_frame(job_uuid))

        def tell(text: str) -> None:
            machine.fire_job(job_uuid, name, arguments, text)

        machine.timers.after(THREAD_START, api.execute, machine, name, arguments, tell)

    def _protocol(self, word: str, rest: str) -> str:
        """Everything that is not a call of a command."""
        if word == "filter":
            return self._filter(rest)
        if word == "event" or word.startswith("nixevent"):
            words = rest.split()
            known = self.subscription.add(words) if word == "event" else self.subscription.remove(words)
            self._changed()
            if not known:
                return "-ERR no keywords supplied"
            return f"+OK event listener enabled {self.subscription.format}" if word == "event" else "+OK events nixed"
        if word == "noevents":
            had = self.subscription.clear()
            self._events.clear()
            self._changed()
            return "+OK no longer listening for events" if had else "-ERR not listening for events"
        if word in {"divert_events", "linger", "nolinger"}:
            return "-ERR not controlling a session."
        if word == "sendevent":
            return f"+OK {self._machine.new_uuid()}"
        if word == "log":
            return f"+OK log level {rest or 'debug'} [7]"
        if word == "nolog":
            return "-ERR not loging"
        return "-ERR command not found"

    def _filter(self, rest: str) -> str:
        words = rest.split(" ", 1)
        filters = self.subscription.filters
        if words[0].lower() == "delete" and len(words) > 1:
            name, _, value = words[1].partition(" ")
            kept = [] if name.lower() == "all" else [
                (header, pattern)
                for header, pattern in filters
                if header.lower() != name.lower() or (value and pattern != value)
            ]  # fmt: skip
            filters[:] = kept
            return f"+OK filter deleted. [{name}][{value}]"
        if words[0].lower() == "add" and len(words) > 1:
            words = words[1].split(" ", 1)
        if len(words) < 2:
            return "-ERR invalid syntax"
        filters.append((words[0], words[1]))
        return f"+OK filter added. [{words[0]}]=[{words[1]}]"
