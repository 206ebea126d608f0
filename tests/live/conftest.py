"""Live tests drive a real FreeSWITCH. They take minutes, so they run when asked for: `make live` or DIALER_LIVE=1."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .laboratory import Laboratory
from .machinery import find_binary

HERE = Path(__file__).parent


def reason_to_skip() -> str | None:
    if os.environ.get("DIALER_LIVE") != "1":
        return "live tests skipped: they take minutes, `make live` runs them"
    for name in ("freeswitch", "sipp"):
        if find_binary(name) is None:
            return f"live tests skipped: no `{name}` on the PATH, nor named by DIALER_{name.upper()}"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = reason_to_skip()
    for item in items:  # those of the whole run, not only ours
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.live)
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
async def laboratory() -> AsyncIterator[Laboratory]:
    """A FreeSWITCH of one's own: no carrier, no phones, all gone after the test."""
    async with Laboratory() as laboratory:
        yield laboratory
        print(laboratory.log_tail())  # pytest shows it when the test has failed
