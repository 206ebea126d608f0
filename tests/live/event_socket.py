"""The smallest event-socket client: what the laboratory and the bare client speak, sharing nothing with the dialer.

It pulls: whoever wants something reads frames until it comes, and events that pass by meanwhile are kept in
`events`. There is no task and no reconnecting, so a lost connection is an error where it is noticed.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any, NamedTuple

import trio

Event = dict[str, Any]  # a header that repeats is a list in `event json`


class Frame(NamedTuple):
    headers: dict[str, str]
    body: bytes


class SocketError(Exception):
    """The event socket was closed, or refused us."""


class EventSocket:
    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._sending = trio.StrictFIFOLock()  # a caller may send in one task while another reads
        self._buffer = bytearray()
        self.events: deque[Event] = deque()

    @classmethod
    async def open(cls, port: int, password: str) -> EventSocket:
        socket = cls(await trio.open_tcp_stream("127.0.0.1", port))
        try:
            await socket.receive()  # auth/request
            await socket.send(f"auth {password}")
            reply = (await socket.receive()).headers.get("Reply-Text", "")
            if not reply.startswith("+OK"):
                raise SocketError(f"not let in: {reply}")
        except BaseException:
            with trio.CancelScope(shield=True):
                await socket.aclose()
            raise
        return socket

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> EventSocket:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def send(self, command: str, *headers: str) -> None:
        async with self._sending:
            await self._stream.send_all("\n".join([command, *headers, "", ""]).encode())

    async def receive(self) -> Frame:
        """The next frame, whatever it is."""
        while (end := self._buffer.find(b"\n\n")) < 0:
            await self._more()
        lines = self._buffer[:end].decode(errors="replace").split("\n")
        headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("Content-Length", 0))
        start = end + 2
        while len(self._buffer) < start + length:
            await self._more()
        body = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        return Frame(headers, body)

    async def _more(self) -> None:
        data = await self._stream.receive_some(65536)
        if not data:
            raise SocketError("the switch closed the connection")
        self._buffer += data

    async def subscribe(self, *events: str) -> None:
        """`CUSTOM` and its subclasses come last, as the switch wants them."""
        await self.send("event json " + " ".join(events))
        await self._wait_for("command/reply")

    async def api(self, command: str) -> str:
        await self.send(f"api {command}")
        return (await self._wait_for("api/response")).body.decode(errors="replace")

    async def bgapi(self, command: str, job: str) -> str:
        await self.send(f"bgapi {command}", f"Job-UUID: {job}")
        return (await self._wait_for("command/reply")).headers.get("Reply-Text", "")

    async def event(self) -> Event:
        """The next event, those kept first."""
        while not self.events:
            self._keep(await self.receive())
        return self.events.popleft()

    async def _wait_for(self, content_type: str) -> Frame:
        while (frame := await self.receive()).headers.get("Content-Type") != content_type:
            self._keep(frame)
        return frame

    def _keep(self, frame: Frame) -> None:
        if frame.headers.get("Content-Type") == "text/event-json":
            self.events.append(json.loads(frame.body))
