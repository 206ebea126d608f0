"""The program that reads rows of a list for an importer: see `list_workers`.

It imports what reads rows and nothing else (no database, no settings, no trio), so that it takes some 25 MB. It is
niced, since a dialer may be at work on the machine: what is left of it is the list's. Frames go through its pipes,
the length first (4 bytes, big-endian): in come the task once, then chunks of rows; out goes a `Chunk` for each, in
order. It ends when its input does, so none is left behind by an importer that dies.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import BinaryIO, Final

import msgspec

from campaigns.courtesy import giving_way, take_what_is_left
from campaigns.list_rows import Chunk, RowReader, Task

NICENESS: Final = 10
HEAD: Final = 4

Rows = list[tuple[int, list[str]]]
_rows_in = msgspec.msgpack.Decoder(Rows)
_task_in = msgspec.msgpack.Decoder(Task)
_out = msgspec.msgpack.Encoder()


def framed(what: Task | Rows | Chunk) -> bytes:
    """`what` with its length before it."""
    data = _out.encode(what)
    return len(data).to_bytes(HEAD, "big") + data


def _frames(stream: BinaryIO) -> Iterator[bytes]:
    while len(head := stream.read(HEAD)) == HEAD:
        length = int.from_bytes(head, "big")
        data = stream.read(length)
        if len(data) < length:
            return  # the importer has died
        yield data


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Answer each chunk of rows in `source` on `target`, until there are no more."""
    frames = _frames(source)
    task = next(frames, None)
    if task is None:
        return
    reader = RowReader(_task_in.decode(task))
    for frame in frames:
        target.write(framed(reader.chunk(_rows_in.decode(frame))))
        target.flush()


def main() -> None:
    """The process: ends with its input."""
    take_what_is_left()
    with giving_way(NICENESS):
        try:
            serve(sys.stdin.buffer, sys.stdout.buffer)
        except BrokenPipeError:
            os._exit(0)  # the importer has died, and nobody reads the answers


if __name__ == "__main__":
    main()
