"""Bytes of the event socket to frames.

A frame is header lines, an empty line, and as many body bytes as Content-Length says. Lengths are in bytes, so
nothing is decoded before the frame is cut out (mod_event_socket.c, `listener_run` and `send_disconnect`).
"""

from __future__ import annotations

import re
from typing import Final

from dialer.esl.messages import Frame, ProtocolError

# Replies carry a few headers; a body the largest answer, `show channels as json` at 900 bytes a channel.
MAX_HEADER_BYTES: Final = 64 * 1024
MAX_BODY_BYTES: Final = 64 * 1024 * 1024

# What an event begins with, and so nine frames of ten: read in one step. Any other shape takes the way that judges
_EVENT_HEADERS: Final = re.compile(rb"Content-Length: ([0-9]{1,7})\nContent-Type: text/event-json\n\n")
# Of the frames that are nearly all there are, the same for each: their length has been used up by cutting them out.
_JSON_EVENT: Final = {"Content-Type": "text/event-json"}


class FrameReader:
    """Feed it bytes in any chopping, take whole frames out. After a ProtocolError it is of no more use.

    Bytes are copied twice: into the buffer, with whatever the last frame left there, and out of it as a body. What
    comes while a body is incomplete waits beside the buffer, so that a large one is not moved at each arrival.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._start = 0
        self._searched = 0
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._headers: dict[str, str] | None = None
        self._body_bytes = 0

    def __repr__(self) -> str:
        return f"<FrameReader holding {len(self._buffer) - self._start + self._waiting_bytes} bytes>"

    def receive_data(self, data: bytes | bytearray) -> None:
        """Adds what came from the wire."""
        self._waiting.append(bytes(data))
        self._waiting_bytes += len(data)

    def next_frame(self) -> Frame | None:
        """The next whole frame, or None until more data came.

        Raises ProtocolError for a header block or a body over its limit, and for a length that is none.
        """
        if self._headers is None and not self._read_headers():
            return None
        end = self._start + self._body_bytes
        if end > len(self._buffer):
            if end > len(self._buffer) + self._waiting_bytes:
                return None
            self._fill()
            end = self._body_bytes
        assert self._headers is not None
        frame = Frame(self._headers, self._buffer[self._start : end])
        self._start = self._searched = end
        self._headers = None
        return frame

    def _fill(self) -> None:
        """Moves what waits into the buffer, and drops what has been read from it."""
        rest = self._buffer[self._start :]
        self._buffer = b"".join((rest, *self._waiting))
        self._waiting.clear()
        self._waiting_bytes = 0
        self._searched = max(0, self._searched - self._start)
        self._start = 0

    def _read_headers(self) -> bool:
        event = _EVENT_HEADERS.match(self._buffer, self._start)
        if event is not None:
            self._headers = _JSON_EVENT
            self._body_bytes = int(event[1])
            self._start = event.end()
            return True
        if self._read_any_headers():
            return True
        if self._waiting_bytes:
            self._fill()
            return self._read_headers()
        if self._start == len(self._buffer):
            self._buffer = b""  # an idle link keeps no memory
            self._start = self._searched = 0
        return False

    def _read_any_headers(self) -> bool:
        buffer = self._buffer
        while buffer.startswith(b"\n", self._start):  # stray newlines between frames
            self._start += 1
        end = buffer.find(b"\n\n", max(self._start, self._searched - 1))
        if (len(buffer) if end < 0 else end) - self._start > MAX_HEADER_BYTES:
            raise ProtocolError(f"headers over the limit of {MAX_HEADER_BYTES} bytes")
        if end < 0:
            self._searched = len(buffer)
            return False
        self._headers = _parse_headers(buffer[self._start : end])
        self._body_bytes = _content_length(self._headers)
        self._start = end + 2
        return True


def _parse_headers(block: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in block.split(b"\n"):
        name, colon, value = line.partition(b":")
        if not colon:
            raise ProtocolError(f"a header line without a colon: {line[:80]!r}")
        text = value.strip().decode("utf-8", errors="replace")
        headers.setdefault(name.strip().decode("utf-8", errors="replace"), text)
    return headers


def _content_length(headers: dict[str, str]) -> int:
    value = headers.get("Content-Length", "0")
    # int() alone would take "+5", "1_0" and other scripts' digits
    if not (value.isascii() and value.isdigit()):
        raise ProtocolError(f"a Content-Length that is no number of bytes: {value[:40]!r}")
    if len(value) > 12 or int(value) > MAX_BODY_BYTES:
        raise ProtocolError(f"a body of {value[:40]} bytes, over the limit of {MAX_BODY_BYTES}")
    return int(value)
