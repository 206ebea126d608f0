"""Results on disk while the database cannot take them, so that a kill in between loses none.

A file of one size, written full when it is made: a disk that has filled up since cannot keep a result out of it.
Entries follow each other, each with its length and a checksum; one that was cut off by a crash, and whatever lies
behind the last, is not read. Once the database has everything the file is emptied by its first bytes.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import trio

from dialer.errors import ConfigurationError, UnavailableError

_HEAD: Final = struct.Struct(">II")  # length and CRC-32 of what follows; a length of 0 is the end
MAX_ENTRY_BYTES: Final = 64 * 1024
JOURNAL_BYTES: Final = 4 * 1024 * 1024  # some 5,000 results


class Journal(Protocol):
    """Where results wait."""

    async def append(self, entries: Sequence[bytes]) -> None:
        """Keeps `entries`, in order; they are on disk when this returns. Raises UnavailableError."""
        ...

    async def entries(self) -> list[bytes]:
        """What is kept, in order."""
        ...

    async def clear(self) -> None:
        """Forgets everything. Raises UnavailableError."""
        ...


class FileJournal:
    """The journal in the file `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._end = 0
        self._limiter = trio.CapacityLimiter(1)  # one after the other, in order

    def __repr__(self) -> str:
        return f"<FileJournal {self._path} {self._end} of {JOURNAL_BYTES} bytes>"

    async def open(self) -> None:
        """Makes the file if there is none. Raises ConfigurationError if that cannot be."""
        try:
            await trio.to_thread.run_sync(self._make, limiter=self._limiter)
        except OSError as error:
            raise ConfigurationError(f"the journal {self._path} cannot be written: {error}") from error

    async def append(self, entries: Sequence[bytes]) -> None:
        try:
            await trio.to_thread.run_sync(self._append, list(entries), limiter=self._limiter)
        except OSError as error:
            raise UnavailableError(f"the journal {self._path} cannot be written: {error}") from error

    async def entries(self) -> list[bytes]:
        return await trio.to_thread.run_sync(self._read, limiter=self._limiter)

    async def clear(self) -> None:
        try:
            await trio.to_thread.run_sync(self._clear, limiter=self._limiter)
        except OSError as error:
            raise UnavailableError(f"the journal {self._path} cannot be written: {error}") from error

    def _make(self) -> None:
        if not self._path.exists() or self._path.stat().st_size < JOURNAL_BYTES:
            new = self._path.with_suffix(".new")
            kept = self._path.read_bytes() if self._path.exists() else b""
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(descriptor, kept.ljust(JOURNAL_BYTES, b"\0"))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            new.replace(self._path)
        self._end = sum(_HEAD.size + len(entry) for entry in self._read())

    def _append(self, entries: list[bytes]) -> None:
        packed = b"".join(_HEAD.pack(len(entry), zlib.crc32(entry)) + entry for entry in entries)
        if self._end + len(packed) + _HEAD.size > JOURNAL_BYTES:
            raise OSError(f"it is full, at {JOURNAL_BYTES} bytes")
        self._write(self._end, packed + bytes(_HEAD.size))
        self._end += len(packed)

    def _clear(self) -> None:
        self._write(0, bytes(_HEAD.size))
        self._end = 0

    def _write(self, offset: int, data: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, data, offset)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _read(self) -> list[bytes]:
        data, found, offset = self._path.read_bytes(), list[bytes](), 0
        while offset + _HEAD.size <= len(data):
            length, checksum = _HEAD.unpack_from(data, offset)
            entry = data[offset + _HEAD.size : offset + _HEAD.size + length]
            if not 0 < length <= MAX_ENTRY_BYTES or zlib.crc32(entry) != checksum:
                break
            found.append(entry)
            offset += _HEAD.size + length
        return found
