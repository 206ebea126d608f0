"""The bytes of the event socket, as mod_event_socket writes and reads them.

Nothing here is shared with the daemon's own codec: a simulator that used it would have its mistakes too. An event
is a few blocks of headers. Most blocks do not change between the events of a channel, so a block remembers its
encoded form, and an event of 6 KB costs little more than one join.

`event plain` percent-encodes each value (never a name, never an inner body), except that a percent sign before two
upper-case hex digits is left as it is. `event json` does not encode at all, and there a header that is an array is
a list; in plain the same array is one value, `ARRAY::one|:two`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from json.encoder import encode_basestring as _json_string  # what json.dumps uses, without what it does around it
from urllib.parse import quote

import attrs

Value = str | tuple[str, ...]
Pairs = Sequence[tuple[str, Value]]

_UNSAFE = re.compile(r"%(?![0-9A-F]{2})|[^%!$'()*,\-./0-9A-Z_a-z~]")


def percent_encode(value: str) -> str:
    """`value` as `event plain` shows it."""
    if _UNSAFE.search(value) is None:
        return value
    return _UNSAFE.sub(lambda found: quote(found.group(), safe=""), value)


def flatten(value: Value) -> str:
    """An array as FreeSWITCH writes it where only a string can be."""
    if isinstance(value, str):
        return value
    return value[0] if len(value) == 1 else "ARRAY::" + "|:".join(value)


class Block:
    """Headers in order, encoded at most once in each format."""

    __slots__ = ("_json", "_pairs", "_plain")

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._plain: bytes | None = None
        self._json: bytes | None = None

    @property
    def pairs(self) -> Pairs:
        return self._pairs

    @property
    def plain(self) -> bytes:
        """`Name: value\\n` for each header."""
        if self._plain is None:
            lines = [f"{name}: {percent_encode(flatten(value))}\n" for name, value in self.pairs]
            self._plain = "".join(lines).encode()
        return self._plain

    @property
    def json(self) -> bytes:
        """`"Name":"value",` for each header, with the comma after the last one too."""
        if self._json is None:
            parts = [
                f"{_json_string(name)}:{_json_string(value) if isinstance(value, str) else _json_array(value)},"
                for name, value in self.pairs
            ]
            self._json = "".join(parts).encode()
        return self._json


def _json_array(value: tuple[str, ...]) -> str:
    return _json_string(value[0]) if len(value) == 1 else "[" + ",".join(map(_json_string, value)) + "]"


class Template:
    """A block with holes: `__NUMBER__` in a value is filled per channel by one replacement in the encoded bytes."""

    def __init__(self, pairs: Pairs) -> None:
        self._block = Block(pairs)

    def fill(self, holes: Mapping[str, str]) -> Block:
        return _FilledBlock(self._block, holes)


class _FilledBlock(Block):
    __slots__ = ("_holes", "_template")

    def __init__(self, template: Block, holes: Mapping[str, str]) -> None:
        super().__init__(())
        self._template = template
        self._holes = holes

    @property
    def plain(self) -> bytes:
        if self._plain is None:
            filled = self._template.plain
            for hole, value in self._holes.items():
                filled = filled.replace(hole.encode(), percent_encode(value).encode())
            self._plain = filled
        return self._plain

    @property
    def json(self) -> bytes:
        if self._json is None:
            filled = self._template.json
            for hole, value in self._holes.items():
                filled = filled.replace(hole.encode(), _json_string(value)[1:-1].encode())
            self._json = filled
        return self._json

    @property
    def pairs(self) -> Pairs:
        return [(name, self._filled(flatten(value))) for name, value in self._template.pairs]

    def _filled(self, value: str) -> str:
        for hole, filling in self._holes.items():
            value = value.replace(hole, filling)
        return value


@attrs.define(slots=True, eq=False)
class Event:
    """One event, frozen when it happened; it is encoded when the first connection wants it."""

    name: str
    subclass: str | None
    sequence: int
    blocks: tuple[Block, ...]
    body: str | None = None
    _plain: bytes | None = None
    _json: bytes | None = None

    def frame(self, format_: str) -> bytes:
        """The whole frame, with the outer headers in the order of the real one."""
        if format_ == "json":
            if self._json is None:
                inner = b"{" + b"".join([block.json for block in self.blocks])
                inner = (
                    inner[:-1] + b"}"
                    if self.body is None
                    else inner + b'"_body":' + _json_string(self.body).encode() + b"}"
                )
                self._json = b"Content-Length: %d\nContent-Type: text/event-json\n\n%b" % (len(inner), inner)
            return self._json
        if self._plain is None:
            inner = b"".join([block.plain for block in self.blocks]) + b"\n" + (self.body or "").encode()
            self._plain = b"Content-Length: %d\nContent-Type: text/event-plain\n\n%b" % (len(inner), inner)
        return self._plain

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever the case of its name; what a filter looks at."""
        wanted = name.lower()
        for block in self.blocks:
            for header, value in block.pairs:
                if header.lower() == wanted:
                    return flatten(value)
        return None


# A command longer than this ends the connection; the real limit is of the same kind.
COMMAND_LIMIT = 1_000_000


@attrs.frozen
class Command:
    """One command: its line, its headers by lower-case name, and its body."""

    line: str
    headers: Mapping[str, str]
    body: str = ""


class CommandTooLongError(Exception):
    """The peer sent more than COMMAND_LIMIT bytes without finishing a command."""


class CommandReader:
    """Cuts what a client sends into commands. Blank lines before a command are skipped."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray) -> Iterable[Command]:
        """The commands that `data` completes."""
        self._buffer += data
        while (command := self._next()) is not None:
            yield command
        if len(self._buffer) > COMMAND_LIMIT:
            raise CommandTooLongError

    def _next(self) -> Command | None:
        start = 0
        while start < len(self._buffer) and self._buffer[start] in b"\r\n":
            start += 1
        del self._buffer[:start]
        end = _end_of_headers(self._buffer)
        if end is None:
            return None
        head, after = end
        lines = [line.rstrip("\r") for line in bytes(self._buffer[:head]).decode(errors="replace").split("\n")]
        headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip().lower()] = value.strip(" ")
        length = int(headers["content-length"]) if headers.get("content-length", "").isdecimal() else 0
        if len(self._buffer) < after + length:
            return None
        body = bytes(self._buffer[after : after + length]).decode(errors="replace")
        del self._buffer[: after + length]
        return Command(lines[0], headers, body)


def _end_of_headers(buffer: bytearray) -> tuple[int, int] | None:
    """Where the header lines end and where what follows begins."""
    ends = [(at, at + len(mark)) for mark in (b"\n\n", b"\n\r\n") if (at := buffer.find(mark)) >= 0]
    return min(ends) if ends else None


AUTH_REQUEST = b"Content-Type: auth/request\n\n"


def reply_frame(text: str, extra: str = "") -> bytes:
    """A command/reply."""
    return f"Content-Type: command/reply\nReply-Text: {text}\n{extra}\n".encode()


def job_reply_frame(job: str) -> bytes:
    return reply_frame(f"+OK Job-UUID: {job}", f"Job-UUID: {job}\n")


def api_frame(body: str) -> bytes:
    """What `api` answers."""
    encoded = body.encode()
    return b"Content-Type: api/response\nContent-Length: %d\n\n%b" % (len(encoded), encoded)


def disconnect_frame(text: str) -> bytes:
    encoded = text.encode()
    return b"Content-Type: text/disconnect-notice\nContent-Length: %d\n\n%b" % (len(encoded), encoded)


GOODBYE = disconnect_frame("Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n")
SHUTTING_DOWN = disconnect_frame("The system is being shut down.\n")
