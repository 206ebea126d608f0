"""A wire that garbles what the switch says: cuts, losses, doubles, delays and a changed order, frame by frame."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto

import attrs
import trio

_LENGTH = re.compile(rb"(?:^|\n)Content-Length: (\d+)\n")


class Garble(Enum):
    """What happens to a frame."""

    CUT_BEFORE = auto()
    CUT_INSIDE = auto()
    DROP = auto()
    DOUBLE = auto()
    SWAP = auto()  # with the next one
    DELAY = auto()  # this one and all after it


@attrs.define
class Disorder:
    """What happens to the n-th frame, counted over all connections of a house, from 1. Replies keep their order."""

    at: dict[int, Garble] = attrs.field(factory=dict)
    delay_seconds: float = 0.7
    events_only: bool = False  # count and garble no replies: they cannot be lost or doubled without the connection
    frames: int = 0
    on_frame: Callable[[int], None] = lambda _number: None

    def next(self, frame: bytes) -> Garble | None:
        if self.events_only and b"text/event" not in frame[:200]:
            return None
        self.frames += 1
        self.on_frame(self.frames)
        return self.at.get(self.frames)


class DisorderedStream(trio.abc.Stream):
    """A connection to the switch whose frames go through a Disorder."""

    def __init__(self, stream: trio.abc.Stream, disorder: Disorder) -> None:
        self._stream = stream
        self._disorder = disorder
        self._raw = b""
        self._held = b""
        self._cut = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._cut:
            raise trio.BrokenResourceError("cut")
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        while True:
            frame = self._next_frame()
            if frame is None:
                data = await self._stream.receive_some(max_bytes)
                if not data:
                    return data
                self._raw += data
                continue
            out = await self._garble(frame)
            if out:
                return out

    async def _garble(self, frame: bytes) -> bytes:
        """What comes through in place of `frame`."""
        await trio.lowlevel.checkpoint()
        held, self._held = self._held, b""
        match self._disorder.next(frame):
            case None:
                return frame + held
            case Garble.CUT_BEFORE:
                await self._end()
            case Garble.CUT_INSIDE:
                if len(frame) > 1 and not self._cut:
                    self._raw = b""
                    await self._stream.aclose()
                    self._cut = True
                    return frame[: len(frame) // 2]
            case Garble.DROP:
                return held
            case Garble.DOUBLE:
                return frame + frame + held
            case Garble.SWAP:
                self._held = frame
                return held
            case Garble.DELAY:
                await trio.sleep(self._disorder.delay_seconds)
                return frame + held
        return b""

    async def _end(self) -> None:
        self._cut = True
        await self._stream.aclose()
        raise trio.BrokenResourceError("cut")

    def _next_frame(self) -> bytes | None:
        if self._cut:
            raise trio.BrokenResourceError("cut")
        end = self._raw.find(b"\n\n")
        if end < 0:
            return None
        length = _LENGTH.search(self._raw[: end + 1])
        end += 2 + (int(length[1]) if length else 0)
        if len(self._raw) < end:
            return None
        frame, self._raw = self._raw[:end], self._raw[end:]
        return frame

    async def aclose(self) -> None:
        await self._stream.aclose()
