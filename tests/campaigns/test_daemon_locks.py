"""Which daemons may run on a database together."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from campaigns import postgresql
from campaigns.database import open_database
from dialer.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "PATIENCE_SECONDS", 0.1)


@pytest.mark.parametrize(
    ("first", "second", "complaint"),
    [
        (("a", True), ("b", True), "another daemon runs on the database"),
        (("a", True), ("b", False), "with a Redis of its own"),
        (("a", False), ("b", True), "another daemon runs on the database"),
        (("a", True), ("a", True), "another daemon"),
        (("a", False), ("a", False), "another daemon called a runs"),
        (("a", False), ("b", False), None),
    ],
)
async def test_a_second_daemon(
    url: str, first: tuple[str, bool], second: tuple[str, bool], complaint: str | None
) -> None:
    async with open_database(url, node=first[0], exclusive=first[1]):
        if complaint is None:
            async with open_database(url, node=second[0], exclusive=second[1]):
                return
        with pytest.raises(ConfigurationError, match=complaint) as refused:
            async with open_database(url, node=second[0], exclusive=second[1]):
                raise AssertionError
        assert re.search(rf"\bpid.?{os.getpid()}\b", str(refused.value))
        assert "stop it, or give" in str(refused.value)
    async with open_database(url, node=second[0], exclusive=second[1]):
        pass  # the first has gone


async def test_tools_are_in_nobodys_way(url: str) -> None:
    async with open_database(url, node="a", exclusive=True), open_database(url, node=None):
        pass
    async with open_database(url, node=None), open_database(url, node="a", exclusive=True):
        pass


async def test_the_refused_daemon_harms_nothing(url: str) -> None:
    async with open_database(url, node="a") as database:
        for _ in range(2):
            with pytest.raises(ConfigurationError):
                async with open_database(url, node="a"):
                    raise AssertionError
        async with open_database(url, node="b"):
            await database.write(lambda session: None)


async def test_a_daemon_that_was_killed_leaves_no_lock(sqlite_url: str) -> None:
    program = (
        "import os, signal, trio\n"
        "from campaigns.database import open_database\n"
        "async def main():\n"
        f"    async with open_database({sqlite_url!r}, node='a', exclusive=True):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "trio.run(main)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], check=False)  # noqa: ASYNC221 - nothing else runs here
    assert killed.returncode == -9
    async with open_database(sqlite_url, node="a", exclusive=True):
        pass


@pytest.mark.parametrize("node", ["", "a b", "../a", "a/b", "x" * 64, "a.lock"])
async def test_names_of_nodes(sqlite_url: str, node: str) -> None:
    with pytest.raises(ConfigurationError, match="node name"):
        async with open_database(sqlite_url, node=node):
            raise AssertionError


async def test_names_that_look_alike_do_not_collide(tmp_path: Path) -> None:
    """`x.db` with a node `a`, and a database called `x.db.a`."""
    one, other = f"sqlite:///{tmp_path}/x.db", f"sqlite:///{tmp_path}/x.db.b"
    async with open_database(one, node="a"), open_database(other, node="a"), open_database(one, node="c"):
        with pytest.raises(ConfigurationError, match="a, pid"):
            async with open_database(one, node="d", exclusive=True):
                raise AssertionError
