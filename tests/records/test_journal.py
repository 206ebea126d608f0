"""What is in the journal survives everything but the loss of the disk, and what was cut off is not read."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
import trio
from hypothesis import given, settings

from dialer.errors import ConfigurationError, UnavailableError
from dialer.records import journal as journal_module
from dialer.records.journal import JOURNAL_BYTES, FileJournal


async def opened(path: Path) -> FileJournal:
    journal = FileJournal(path)
    await journal.open()
    return journal


async def test_entries_survive_and_are_cleared(tmp_path: Path) -> None:
    path = tmp_path / "results.journal"
    journal = await opened(path)
    assert path.stat().st_size == JOURNAL_BYTES
    assert path.stat().st_mode & 0o777 == 0o600  # numbers are in it
    await journal.append([b"one", b"two"])
    await journal.append([b"three"])
    again = await opened(path)
    assert await again.entries() == [b"one", b"two", b"three"]
    await again.append([b"four"])
    assert await (await opened(path)).entries() == [b"one", b"two", b"three", b"four"]
    await again.clear()
    assert await (await opened(path)).entries() == []
    await again.append([b"a new life"])
    assert await again.entries() == [b"a new life"]  # and nothing of what lay behind


async def test_it_takes_no_more_room_on_the_disk_than_it_had(tmp_path: Path) -> None:
    path = tmp_path / "results.journal"
    journal = await opened(path)
    blocks = path.stat().st_blocks
    for _ in range(20):
        await journal.append([b"x" * 50_000])
    assert (path.stat().st_size, path.stat().st_blocks) == (JOURNAL_BYTES, blocks)
    assert blocks * 512 >= JOURNAL_BYTES


async def test_a_full_one_refuses_and_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "JOURNAL_BYTES", 100)
    journal = await opened(tmp_path / "results.journal")
    await journal.append([b"x" * 60])
    with pytest.raises(UnavailableError, match="full, at 100 bytes"):
        await journal.append([b"y" * 40])
    await journal.append([b"z"])
    assert await journal.entries() == [b"x" * 60, b"z"]


async def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written"):
        await opened(tmp_path / "missing" / "results.journal")


@settings(max_examples=50, deadline=None)
@given(
    entries=st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=6),
    cut=st.integers(0, 400),
    garbage=st.binary(max_size=30),
)
def test_a_torn_write_costs_only_what_it_tore(
    tmp_path_factory: pytest.TempPathFactory, entries: list[bytes], cut: int, garbage: bytes
) -> None:
    """Whatever follows byte `cut` is lost or rubbish: all entries that end before it are there, in order."""
    path = tmp_path_factory.mktemp("journal") / "results.journal"

    async def story() -> list[bytes]:
        journal = await opened(path)
        await journal.append(entries)
        data = path.read_bytes()
        path.write_bytes((data[:cut] + garbage).ljust(JOURNAL_BYTES, b"\0"))
        return await (await opened(path)).entries()

    found = trio.run(story)
    ends = [sum(8 + len(entry) for entry in entries[: index + 1]) for index in range(len(entries))]
    whole = sum(end <= cut for end in ends)
    assert found[:whole] == entries[:whole]
