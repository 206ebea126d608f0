"""The zones of the tz database, by name."""

from __future__ import annotations

from functools import cache
from zoneinfo import available_timezones


@cache
def _zones() -> frozenset[str]:
    """Looked up once: it is a walk through a folder, of milliseconds, and a list asks for each of its rows."""
    return frozenset(available_timezones())


def is_zone(name: str) -> bool:
    """Whether there is a zone called `name`, in which people live.

    EST and MST are in the database, but without summer time: who writes them means New York, Denver or Phoenix.
    """
    return name in _zones() and name not in ("EST", "MST")
