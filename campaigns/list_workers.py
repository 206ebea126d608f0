"""Rows to leads in processes of their own: a long list is read on all cores, and the importer only hands over.

Rows go to the processes in turn and come back in order; each has a few chunks on its way, so that what is in memory
is bounded. The program they run, and what goes through their pipes, is told in `list_worker`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

import attrs
import msgspec
import trio

from campaigns.list_rows import Chunk, RowReader, Task
from campaigns.list_worker import HEAD, Rows, framed
from dialer.errors import UnavailableError

PROGRAM = "campaigns.list_worker"
AHEAD: Final = 3  # chunks that a process may have and not yet have answered: some megabytes

_chunk_in = msgspec.msgpack.Decoder(Chunk)


class Readers(Protocol):
    """Turns chunks of rows into leads, in order."""

    async def hand_over(self, rows: Rows) -> None:
        """Give the next rows; waits while too many are on their way."""
        ...

    async def done(self) -> None:
        """No more rows come."""
        ...

    def chunks(self) -> AsyncGenerator[Chunk, None]:
        """What became of each chunk, in order, until all are told."""
        ...


@attrs.define
class _Process:
    process: trio.Process
    room: trio.Semaphore


class WorkerReaders:
    """Processes that take turns. Made by `worker_readers`."""

    def __init__(self, processes: list[_Process]) -> None:
        self._processes = processes
        self._given, self._given_out = trio.open_memory_channel[int](AHEAD * len(processes))
        self._next = 0

    async def hand_over(self, rows: Rows) -> None:
        turn = self._next
        self._next = (turn + 1) % len(self._processes)
        one = self._processes[turn]
        await one.room.acquire()
        await _send(one.process, rows)
        await self._given.send(turn)

    async def done(self) -> None:
        await self._given.aclose()

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        async for turn in self._given_out:
            one = self._processes[turn]
            chunk = _chunk_in.decode(await _receive(one.process))
            one.room.release()
            yield chunk


class OwnReaders:
    """Reads rows in a thread of this process: for lists that are read before a process would have started."""

    def __init__(self, task: Task) -> None:
        self._reader = RowReader(task)
        self._given, self._given_out = trio.open_memory_channel[Rows](0)

    async def hand_over(self, rows: Rows) -> None:
        await self._given.send(rows)

    async def done(self) -> None:
        await self._given.aclose()

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        async for rows in self._given_out:
            yield await trio.to_thread.run_sync(self._reader.chunk, rows)


@asynccontextmanager
async def worker_readers(task: Task, count: int) -> AsyncIterator[Readers]:
    """`count` processes at `task`, for as long as the context lasts; none: this process itself.

    Raises UnavailableError, from wherever it is noticed, when one of them dies.
    """
    if count == 0:
        yield OwnReaders(task)
        return
    processes: list[_Process] = []
    try:
        for _ in range(count):
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is the importer's to answer
            )
            processes.append(_Process(process, trio.Semaphore(AHEAD)))
            await _send(process, task)
        yield WorkerReaders(processes)
    finally:
        with trio.CancelScope(shield=True):
            for one in processes:
                one.process.kill()  # it holds nothing that could be lost
            for one in processes:
                await one.process.wait()
                for stream in (one.process.stdin, one.process.stdout):
                    if stream is not None:
                        await stream.aclose()


async def _send(process: trio.Process, what: Task | Rows) -> None:
    assert process.stdin is not None
    try:
        await process.stdin.send_all(framed(what))
    except trio.BrokenResourceError:
        raise _died(process) from None


async def _receive(process: trio.Process) -> bytes:
    length = int.from_bytes(await _exactly(process, HEAD), "big")
    return bytes(await _exactly(process, length))


async def _exactly(process: trio.Process, length: int) -> bytearray:
    assert process.stdout is not None
    data = bytearray()
    while len(data) < length:
        piece = await process.stdout.receive_some(length - len(data))
        if not piece:
            raise _died(process)
        data += piece
    return data


def _died(process: trio.Process) -> UnavailableError:
    return UnavailableError(
        f"a process that reads the list ended with {process.poll()}; nothing was added: import the list again"
    )
