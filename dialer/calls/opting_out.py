"""Whoever wants no more calls is on the do-not-call list before they are hung up on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from campaigns.opt_out import OptOut
from dialer.calls.world import World

# A database that is away does not keep a person on the line: the list is written all the same, as soon as it can be.
COMMIT_SECONDS: Final = 2.0


@asynccontextmanager
async def on_the_list_first(wanted: OptOut | None, world: World) -> AsyncIterator[None]:
    """Puts `wanted`, if any, on the do-not-call list before its block, which ends the call.

    The block begins after COMMIT_SECONDS at the latest; it is left only when the list is written.
    """
    if wanted is None:
        yield
        return
    world.metrics.counts["opted_out_by_key"] += 1
    async with trio.open_nursery() as nursery:
        written = trio.Event()

        async def write() -> None:
            await world.ledger.suppress(wanted)
            written.set()

        nursery.start_soon(write)
        with trio.move_on_after(COMMIT_SECONDS):
            await written.wait()
        yield
