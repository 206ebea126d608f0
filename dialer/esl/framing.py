"""Bytes of the event socket to frames.

A frame is header lines, an empty line, and as many body bytes as Content-Length says. Lengths are in bytes, so
nothing is decoded before the frame is cut out (mod_event_socket.c, `listener_run` and `send_disconnect`).
"""

from __future__ import annotations

from typing import Final

from dialer.esl.messages import Frame, ProtocolError

# Replies carry a few headers; a body the largest answer, `show channels as json` at 900 bytes a channel.
MAX_HEADER_BYTES: Final = 64 * 1024
MAX_BODY_BYTES: Final = 64 * 1024 * 1024

# Consumed bytes are dropped from the front of the buffer in steps of this size: moving it for each frame would copy
# the whole backlog each time.
_COMPACT_BYTES: Final = 256 * 1024


class FrameReader:
    """Feed it bytes in any chopping, take whole frames out. After a ProtocolError it is of no more use."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._start = 0
        self._searched = 0
        self._headers: dict[str, str] | None = None
        self._body_bytes = 0

    def __repr__(self) -> str:
        return f"<FrameReader holding {len(self._buffer) - self._start} bytes>"

    def receive_data(self, data: bytes | bytearray) -> None:
        """Adds what came from the wire."""
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """The next whole frame, or None until more data came.

        Raises ProtocolError for a header block or a body over its limit, and for a length that is none.
        """
        if self._headers is None and not self._read_headers():
            return None
        end = self._start + self._body_bytes
        if len(self._buffer) < end:
            return None
        assert self._headers is not None
        frame = Frame(self._headers, bytes(self._buffer[self._start : end]))
        self._start = self._searched = end
        self._headers = None
        self._compact()
        return frame

    def _read_headers(self) -> bool:
        buffer = self._buffer
        while self._start < len(buffer) and buffer[self._start] == 0x0A:  # stray newlines between frames
            self._start += 1
        end = buffer.find(b"\n\n", max(self._start, self._searched - 1))
        if end < 0:
            self._searched = len(buffer)
            if len(buffer) - self._start > MAX_HEADER_BYTES:
                raise ProtocolError(f"headers over the limit of {MAX_HEADER_BYTES} bytes")
            return False
        if end - self._start > MAX_HEADER_BYTES:
            raise ProtocolError(f"headers over the limit of {MAX_HEADER_BYTES} bytes")
        headers = _parse_headers(bytes(buffer[self._start : end]))
        self._body_bytes = _content_length(headers)
        self._headers = headers
        self._start = end + 2
        return True

    def _compact(self) -> None:
        if self._start == len(self._buffer):
            self._buffer.clear()
        elif self._start >= _COMPACT_BYTES:
            del self._buffer[: self._start]
        else:
            return
        self._start = self._searched = 0


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
