"""A list of numbers, as people have it, to leads of a campaign.

The file is opened and its columns are found (`list_reading`, `list_columns`); rows are read by processes of their
own when there are many (`list_workers`), put aside in the database as they come, and made leads of once the whole
file has been read (`staging`, which tells what makes an import all or nothing). Rows that cannot be used are kept
for the report, and in a file beside the list; a file that cannot be understood is refused whole.

With `dry_run` all of that happens but for the storing: the report says what would be.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing
from datetime import datetime
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Final, TypeVar

import attrs
import trio
from sqlalchemy import text
from sqlmodel import Session

from campaigns import audit, staging, store
from campaigns.database import Database
from campaigns.known_leads import UniqueIn
from campaigns.list_columns import Columns, Role, find_columns
from campaigns.list_reading import Rows, Table, open_table
from campaigns.list_refusals import RefusedRows
from campaigns.list_rows import Chunk, Refusal, StagedLead, task_of, unpack
from campaigns.list_workers import Readers, worker_readers
from campaigns.numbers import parse_number
from campaigns.staging import By, Counts, Terms
from dialer.errors import InputRefusedError

__all__ = ["Finished", "ImportOptions", "ImportReport", "Progress", "Refusal", "finish_imports", "import_list"]

T = TypeVar("T")

REFUSALS_TOLD: Final = 1_000  # in the report; the file has them all
SHOWN_FIRST: Final = 5  # leads that a dry run shows
SAMPLE: Final = 200  # rows to guess columns from
WORTH_WORKERS: Final = 2_000_000  # bytes; less is read before a process has started
WORKERS: Final = 2
# Of the time that a chunk took, before the next: room for the writes of others, when there are any, and to find out.
REST_SHARED: Final = 1.0
REST_ALONE: Final = 0.1
# In one transaction, while nobody else writes: pages they share are written once. Whoever writes then for the first
# time in a while waits for one of these, some half a second, and from then on for single chunks.
CHUNKS_ALONE: Final = 10
SHARED_SECONDS: Final = 3.0  # since another has written
UNKNOWN_SECONDS: Final = 0.2  # at the beginning: nobody has been seen to write, but nobody could have been
_LONGEST_LIST_NAME: Final = 63

Progress = Callable[[int, int, int], None]
"""Told now and then: rows read, bytes read, bytes in all; then leads stored, and those in all (bytes read is 0)."""


@attrs.frozen
class ImportOptions:
    """How a list is read, and what becomes of those who are there already."""

    list_name: str | None = None  # default: the file's name without its ending
    unique_in: UniqueIn = "campaign"
    by: By = "number"
    columns: Sequence[tuple[Role, str]] = ()  # roles told, see `list_columns.parse_told`
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None
    refused_path: Path | None = None  # default: FILE.refused.csv beside the file
    dry_run: bool = False
    workers: int | None = None  # default: by the file's size and the processors there are
    processors_left: int = 0  # for others on this machine, where there are so many
    who: str | None = None  # for the audit log; None is nobody, and leaves no note


@attrs.frozen
class Finished:
    """An import of the file `source` that another has carried through: all that became of its leads."""

    source: str
    counts: Counts


@attrs.frozen
class ImportReport:
    """What became of a list's rows, or would have: `rows` is the sum of leads, duplicates and refused ones."""

    rows: int
    counts: Counts
    refused_rows: int
    refused: tuple[Refusal, ...]  # the first REFUSALS_TOLD
    refused_file: Path | None
    list_name: str
    columns: Columns
    about: str  # how the file was read
    notes: Mapping[str, int]  # what was passed over, and in how many rows
    first: tuple[StagedLead, ...]  # the first leads, as they are stored
    dry_run: bool
    finished: tuple[Finished, ...] = ()  # imports that had been interrupted, and were carried through before this one

    @property
    def added(self) -> int:
        """New leads, those on do-not-call lists among them."""
        return self.counts.added

    @property
    def duplicates(self) -> int:
        """Rows whose number (or key) was there already, wherever it had to be unique."""
        counts = self.counts
        return counts.duplicates_in_list + counts.duplicates_in_campaign + counts.duplicates_elsewhere

    @property
    def number_column(self) -> str:
        """Which column was taken for the number, or the first of them."""
        return self.columns.number_column


async def import_list(
    database: Database,
    path: Path,
    campaign: str,
    *,
    now: datetime,
    options: ImportOptions = ImportOptions(),
    progress: Progress = lambda _rows, _done, _size: None,
) -> ImportReport:
    """Add the leads in the file `path` to the campaign called `campaign`; they are due at `now`.

    Raises InputRefusedError when the file cannot be used at all; then, and when this is cancelled or crashes before
    the whole file has been read, nothing is added. Once it has been read the import is carried through, cancelled or
    not. Refused rows are in a file, which is there when this returns; with none refused, one that an earlier import
    of the list has left there is removed.
    """
    row = await database.read(lambda session: store.get_campaign(session, campaign))
    assert row.id is not None
    terms = Terms(_list_name(path, options.list_name), options.unique_in, options.by)
    store_to: _Staged | _Rehearsed
    finished: tuple[Finished, ...] = ()
    if options.dry_run:
        store_to = _Rehearsed(database, row.id, terms, now)
    else:
        finished = await finish_imports(database, now)
        for leftover in await database.read(partial(staging.unsealed_imports, campaign_row_id=row.id)):
            await _discard(database, leftover)
        begin = partial(staging.begin_import, campaign_row_id=row.id, source=str(path), terms=terms, now=now)
        note = partial(_note, campaign=campaign, path=path, terms=terms, who=options.who, now=now)
        store_to = _Staged(database, await database.write(begin), note, now)
    definition = store.definition_of(row)
    try:
        with ExitStack() as stack:
            table = await trio.to_thread.run_sync(
                stack.enter_context,
                open_table(path, encoding=options.encoding, delimiter=options.delimiter, sheet=options.sheet),
            )
            columns, table = await trio.to_thread.run_sync(_columns, path, table, definition.country, options.columns)
            task = task_of(
                columns,
                country=definition.country,
                timezone=definition.timezone,
                by_key=options.by == "key",
                is_spreadsheet=table.is_spreadsheet,
                now=now,
            )
            refused = stack.enter_context(
                RefusedRows(path, options.refused_path, table.header, keep=not options.dry_run)
            )
            tally = _Tally()
            async with AsyncExitStack() as processes:
                count = _workers(table.size, options, os.cpu_count() or 1)
                readers = await processes.enter_async_context(worker_readers(task, count))

                async def keep(chunk: Chunk) -> None:
                    tally.count(chunk)
                    refused.add(chunk.refused)
                    await store_to.put(chunk)
                    progress(tally.rows, table.position(), table.size)

                await _read(readers, table, keep)
            await store_to.seal()
            refused_file = refused.finish()
    except BaseException:
        with trio.CancelScope(shield=True):
            await store_to.discard()
        raise
    with trio.CancelScope(shield=True):
        counts = await store_to.carry_out(lambda stored: progress(stored, 0, tally.leads))
    return ImportReport(
        rows=tally.rows,
        counts=counts,
        refused_rows=tally.rows - tally.leads,
        refused=tuple(tally.refused),
        refused_file=refused_file,
        list_name=terms.list_name,
        columns=columns,
        about=table.about,
        notes=tally.notes,
        first=tuple(tally.first),
        dry_run=options.dry_run,
        finished=finished,
    )


async def finish_imports(database: Database, now: datetime) -> tuple[Finished, ...]:
    """Carry out imports that have been read, whether a crash has left them or not, and say which. For a start."""
    found = [
        (source, await _carry_out(database, import_id, now))
        for import_id, source in await database.read(staging.sealed_imports)
    ]
    return tuple(Finished(source, counts) for source, counts in found if counts is not None)


def _note(session: Session, *, campaign: str, path: Path, terms: Terms, who: str | None, now: datetime) -> None:
    if who is not None:
        after = {"file": str(path), "unique_in": terms.unique_in, "by": terms.by}
        subject = f"{campaign}/{terms.list_name}"
        audit.note(session, who=who, action="import", kind="list", subject=subject, after=after, now=now)


def _list_name(path: Path, given: str | None) -> str:
    name = " ".join((path.stem if given is None else given).split())
    if given is None:
        return name[:_LONGEST_LIST_NAME] or "list"
    if not 0 < len(name) <= _LONGEST_LIST_NAME or not name.isprintable():
        raise InputRefusedError(f"the list's name {given!r} should have 1 to {_LONGEST_LIST_NAME} characters")
    return name


def _workers(size: int, options: ImportOptions, processors: int) -> int:
    if options.workers is not None:
        return options.workers
    return 0 if size < WORTH_WORKERS else max(1, min(WORKERS, processors - options.processors_left))


def _columns(path: Path, table: Table, country: str, told: Sequence[tuple[Role, str]]) -> tuple[Columns, Table]:
    """The columns; and the table, some of whose rows have been looked at."""
    sample = list(islice(table.rows, SAMPLE))

    def is_number(text: str) -> bool:
        try:
            parse_number(text, country)
        except InputRefusedError:
            return False
        return True

    cells = [row for _, row in sample]
    columns = find_columns(path, table.header, told, sample=cells, is_number=is_number)
    return columns, attrs.evolve(table, rows=chain(sample, table.rows))


@attrs.define
class _Tally:
    rows: int = 0
    leads: int = 0
    refused: list[Refusal] = attrs.field(factory=list)
    notes: Counter[str] = attrs.field(factory=Counter)
    first: list[StagedLead] = attrs.field(factory=list)

    def count(self, chunk: Chunk) -> None:
        self.rows += chunk.count + len(chunk.refused)
        self.leads += chunk.count
        self.notes.update(chunk.notes)
        self.refused += chunk.refused[: max(0, REFUSALS_TOLD - len(self.refused))]
        if len(self.first) < SHOWN_FIRST:
            self.first += unpack(chunk.leads)[: SHOWN_FIRST - len(self.first)]


async def _read(readers: Readers, table: Table, keep: Callable[[Chunk], Awaitable[None]]) -> None:
    """Has `table` read by `readers`, and hands what became of its rows to `keep`, in chunks, all at one time.

    Raises the one error that ended it.
    """
    send, receive = trio.open_memory_channel[Chunk](1)

    async def give() -> None:
        while rows := await trio.to_thread.run_sync(_some_of, table.rows):
            await readers.hand_over(rows)
        await readers.done()

    async def take() -> None:
        async with send, aclosing(readers.chunks()) as chunks:
            async for chunk in chunks:
                await send.send(chunk)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(give)
            nursery.start_soon(take)
            async for chunk in receive:
                await keep(chunk)
    except BaseExceptionGroup as group:
        raise _only(group) from None


def _some_of(rows: Rows) -> list[tuple[int, list[str]]]:
    return list(islice(rows, staging.CHUNK))


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that a nursery ended for: when one part fails, the others are cancelled, and rarely fail as well."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


class _Staged:
    """Where an import puts its leads: in the database, aside."""

    def __init__(self, database: Database, import_id: int, note: Callable[[Session], None], now: datetime) -> None:
        self._database, self._import_id, self._note, self._now = database, import_id, note, now

    async def put(self, chunk: Chunk) -> None:
        if chunk.count:
            await self._database.write(partial(staging.stage, import_id=self._import_id, leads=chunk.leads))

    async def seal(self) -> None:
        await self._database.write(self._make_a_fact)

    def _make_a_fact(self, session: Session) -> None:
        staging.seal(session, self._import_id, self._now)
        self._note(session)

    async def discard(self) -> None:
        await _discard(self._database, self._import_id)

    async def carry_out(self, progress: Callable[[int], None]) -> Counts:
        counts = await _carry_out(self._database, self._import_id, self._now, progress)
        await self._database.write(partial(staging.forget, import_id=self._import_id))
        assert counts is not None, "it is forgotten by us alone, or a day after its end"
        return counts


class _Rehearsed:
    """Where a dry run puts its leads: nowhere. It looks who is there, and remembers who has come."""

    def __init__(self, database: Database, campaign_row_id: int, terms: Terms, now: datetime) -> None:
        self._database, self._campaign_row_id, self._terms, self._now = database, campaign_row_id, terms, now
        self._seen = set[int]()  # hashes: a million of them are a third of what the numbers would be
        self._counts = Counts()

    async def put(self, chunk: Chunk) -> None:
        fresh: list[StagedLead] = []
        for lead in unpack(chunk.leads):
            known_by = lead.number if self._terms.by == "number" else lead.external_key or ""
            key = hash((lead.list_name or "" if self._terms.unique_in == "list" else "", known_by))
            if key in self._seen:
                self._counts += Counts(duplicates_in_list=1)
            else:
                self._seen.add(key)
                fresh.append(lead)
        self._counts += await self._database.read(
            partial(
                staging.would_add,
                campaign_row_id=self._campaign_row_id,
                leads=fresh,
                terms=self._terms,
                now=self._now,
            )
        )

    async def seal(self) -> None:
        pass

    async def discard(self) -> None:
        pass

    async def carry_out(self, progress: Callable[[int], None]) -> Counts:
        return self._counts


async def _carry_out(
    database: Database, import_id: int, now: datetime, progress: Callable[[int], None] = lambda _: None
) -> Counts | None:
    """What became of all its leads, whoever has carried them out; None when its importer was told that already."""
    turns = _Turns(database)
    while True:
        chunks = 1 if turns.shared else CHUNKS_ALONE
        done = await turns.write(partial(staging.carry_out, import_id=import_id, now=now, chunks=chunks))
        if done is None or done.finished:
            return None if done is None else done.counts
        progress(done.counts.leads)


async def _discard(database: Database, import_id: int) -> None:
    turns = _Turns(database)
    while await turns.write(partial(staging.discard, import_id=import_id)):
        pass


class _Turns:
    """Writes chunk upon chunk, and leaves room between them for others.

    SQLite does not queue its writers: another process looks now and then whether the database is free, and chunk upon
    chunk would leave it no chance to find it so. How long to stay away depends on whether anybody else has written
    lately, which SQLite tells. PostgreSQL needs none of this.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version: int | None = None
        self._shared_until = trio.current_time() + UNKNOWN_SECONDS

    @property
    def shared(self) -> bool:
        """Whether somebody else writes too, as far as is known."""
        return trio.current_time() < self._shared_until

    async def write(self, work: Callable[[Session], T]) -> T:
        began = trio.current_time()
        result, version = await self._database.write(partial(_with_version, work=work))
        took = trio.current_time() - began
        if version is not None:
            if self._version not in (None, version):
                self._shared_until = trio.current_time() + SHARED_SECONDS
            self._version = version
            await trio.sleep(took * (REST_SHARED if self.shared else REST_ALONE))
        return result


def _with_version(session: Session, work: Callable[[Session], T]) -> tuple[T, int | None]:
    """What `work` answers, and a number that is another one when another program has written meanwhile."""
    connection = session.connection()
    version = connection.scalar(text("PRAGMA data_version")) if connection.dialect.name == "sqlite" else None
    return work(session), version
