"""How tests wait for what happens elsewhere: in a database, in Redis, or in another program."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

PATIENCE_SECONDS: Final = 60.0  # no healthy run needs it


async def eventually(condition: Callable[[], Awaitable[object]], within_seconds: float = PATIENCE_SECONDS) -> None:
    """Returns once `condition` is true. Raises trio.TooSlowError if it does not become so."""
    with trio.fail_after(within_seconds):
        while not await condition():  # noqa: ASYNC110 - nobody tells us
            await trio.sleep(0.01)
