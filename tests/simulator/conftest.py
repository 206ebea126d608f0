"""A guard: a test that forgets virtual time would pass, slowly, and with times that are only nearly right."""

from __future__ import annotations

import inspect

import pytest

REAL_TIME = "test_process"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and __package__ == item.module.__package__:
            function = inspect.unwrap(item.obj)
            waits = item.get_closest_marker("trio") is not None or inspect.iscoroutinefunction(function)
            if waits and REAL_TIME not in item.nodeid and "autojump_clock" not in item.fixturenames[:]:
                raise pytest.UsageError(f"{item.nodeid} waits, and asks for no autojump_clock")
            if waits and "autojump_clock" in item.fixturenames and "autojump_clock" not in _arguments(function):
                raise pytest.UsageError(f"{item.nodeid} must take autojump_clock itself, or runs in real time")


def _arguments(function: object) -> set[str]:
    wrapped = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    return set(inspect.signature(wrapped).parameters) if callable(wrapped) else set()
