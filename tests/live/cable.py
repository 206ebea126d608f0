"""The line between a daemon and its event socket, for a test to cut: open connections are reset, new ones refused."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import trio

from .machinery import HOST, free_ports

RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, of no seconds: closing says RST and not FIN
CHUNK = 65536


class Cable:
    """Carries TCP from `port` to another port of this host. Made whole by `laid`."""

    def __init__(self, to_port: int, nursery: trio.Nursery) -> None:
        self.port = free_ports(1)[0]
        self.carried = 0  # connections, ever
        self._to_port = to_port
        self._nursery = nursery
        self._scope = trio.CancelScope()
        self._gone = trio.Event()

    async def cut(self) -> None:
        """Returns when nothing is carried and nobody listens any more."""
        self._scope.cancel()
        await self._gone.wait()

    async def mend(self) -> None:
        """Returns when connections are taken again."""
        self._scope, self._gone = trio.CancelScope(), trio.Event()
        await self._nursery.start(self._run, self._scope, self._gone)

    async def _run(
        self, scope: trio.CancelScope, gone: trio.Event, task_status: trio.TaskStatus[object]
    ) -> None:  # fmt: skip
        try:
            with scope:
                await trio.serve_tcp(self._carry, self.port, host=HOST, task_status=task_status)
        finally:
            gone.set()

    async def _carry(self, near: trio.SocketStream) -> None:
        try:
            far = await trio.open_tcp_stream(HOST, self._to_port)
        except OSError:  # the switch itself is away
            return
        self.carried += 1
        async with near, far, trio.open_nursery() as nursery:
            for end in (near, far):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            nursery.start_soon(_pump, near, far, nursery.cancel_scope)
            nursery.start_soon(_pump, far, near, nursery.cancel_scope)


async def _pump(source: trio.SocketStream, sink: trio.SocketStream, over: trio.CancelScope) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while data := await source.receive_some(CHUNK):
            await sink.send_all(data)
    over.cancel()


@contextlib.asynccontextmanager
async def laid(to_port: int) -> AsyncIterator[Cable]:
    """A cable that is whole at first."""
    async with trio.open_nursery() as nursery:
        cable = Cable(to_port, nursery)
        await cable.mend()
        yield cable
        nursery.cancel_scope.cancel()
