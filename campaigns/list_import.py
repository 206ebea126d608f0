"""A list of numbers, as people have it, to leads.

The file is read once, in another thread, row by row: encoding and delimiter are found out, every number is put into
E.164, and a row that cannot be used is kept for the report with its line, its value and the reason. Rows that can
be used go in; a file that cannot be understood (no such column, wrong encoding) is refused whole. What makes an
import all or nothing is told in `staging`.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TextIO, TypeVar

import attrs
import trio
from sqlmodel import Session

from campaigns import staging, store
from campaigns.campaign import Campaign, zone_info
from campaigns.database import Database
from campaigns.lead import parse_number
from dialer.errors import InputRefusedError

T = TypeVar("T")

NUMBER_COLUMNS = (
    *("number", "phone", "phone_number", "telephone", "telephone_number", "mobile", "mobile_number", "mobile_phone"),
    *("msisdn", "cell", "cell_phone", "tel", "phonenumber"),
)
KEY_COLUMNS = ("external_id", "id")
ZONE_COLUMNS = ("timezone", "time_zone")
DELIMITERS = ",;\t"
MAX_COLUMNS = 1_000  # each is kept with each lead, also where a row leaves it out
_HEADER_BYTES = 65_536  # more than any header; a file with no line end within is none of ours


@attrs.frozen
class Refusal:
    """A row that was not taken: the line it begins on, what was found there, and why."""

    line: int
    value: str
    reason: str


@attrs.frozen
class ImportReport:
    """What became of a list's rows: `rows` is the sum of the four below it."""

    rows: int
    added: int
    duplicates_in_list: int  # the first of them counts
    duplicates_in_campaign: int
    refused: tuple[Refusal, ...]
    number_column: str  # which column was taken for the number

    @property
    def duplicates(self) -> int:
        return self.duplicates_in_list + self.duplicates_in_campaign


@attrs.frozen
class _Row:
    number: str
    zones: str
    external_key: str | None
    fields: str

    def as_values(self) -> Mapping[str, str | None]:
        return {
            "number": self.number,
            "zones": self.zones,
            "external_key": self.external_key,
            "fields": self.fields,
        }


async def import_csv(
    database: Database, path: Path, campaign: str, *, now: datetime, number_column: str | None = None
) -> ImportReport:
    """Add the numbers of the file `path` to the campaign called `campaign`; they are due at `now`.

    The column of the numbers is `number_column`, or the first of NUMBER_COLUMNS that there is. A column external_id
    or id is kept as the lead's external key, a column timezone is where the number is, and all others are kept as
    the lead's fields. Numbers that the campaign has already stay as they are.

    Raises InputRefusedError when the file cannot be used at all; then, and when this is cancelled or crashes before
    the whole file has been read, nothing is added. Once it has been read the import is carried through, cancelled or
    not.
    """
    row = await database.read(lambda session: store.get_campaign(session, campaign))
    assert row.id is not None
    await finish_imports(database, now)
    for leftover in await database.read(partial(staging.unsealed_imports, campaign_row_id=row.id)):
        await _discard(database, leftover)
    import_id = await database.write(partial(staging.begin_import, campaign_row_id=row.id, source=str(path), now=now))
    refused: list[Refusal] = []
    good = 0
    try:
        with _open_list(path, store.definition_of(row), number_column) as (column, rows):
            while chunk := await trio.to_thread.run_sync(_next_chunk, rows, refused):
                good += len(chunk)
                await database.write(partial(staging.stage, import_id=import_id, rows=chunk))
        numbers = await database.write(partial(staging.seal, import_id=import_id, now=now))
    except BaseException:
        with trio.CancelScope(shield=True):
            await _discard(database, import_id)
        raise
    with trio.CancelScope(shield=True):
        added = await _carry_out(database, import_id, now)
    return ImportReport(
        rows=good + len(refused),
        added=added,
        duplicates_in_list=good - numbers,
        duplicates_in_campaign=numbers - added,
        refused=tuple(refused),
        number_column=column,
    )


async def finish_imports(database: Database, now: datetime) -> None:
    """Carry out what a crash has left of imports that had been read. For a daemon's start."""
    for import_id in await database.read(staging.sealed_imports):
        await _carry_out(database, import_id, now)


async def _carry_out(database: Database, import_id: int, now: datetime) -> int:
    added = 0
    while (chunk := await _in_turn(database, partial(staging.carry_out, import_id=import_id, now=now))) is not None:
        added += chunk
    return added


async def _discard(database: Database, import_id: int) -> None:
    while await _in_turn(database, partial(staging.discard, import_id=import_id)):
        pass


async def _in_turn(database: Database, work: Callable[[Session], T]) -> T:
    """Write, and stay away for as long as that took.

    SQLite does not queue its writers: another process looks now and then whether the database is free. Chunk upon
    chunk would leave it no chance to find it so, and a daemon's writes would time out.
    """
    began = trio.current_time()
    result = await database.write(work)
    await trio.sleep(trio.current_time() - began)
    return result


def _next_chunk(rows: Iterator[_Row | Refusal], refused: list[Refusal]) -> list[Mapping[str, str | None]]:
    """The next rows that can be used, up to a chunk of them; none means that the file is at its end."""
    good: list[Mapping[str, str | None]] = []
    for row in rows:
        if isinstance(row, Refusal):
            refused.append(row)
        else:
            good.append(row.as_values())
            if len(good) == staging.CHUNK:
                break
    return good


@contextmanager
def _open_list(
    path: Path, campaign: Campaign, number_column: str | None
) -> Iterator[tuple[str, Iterator[_Row | Refusal]]]:
    """The name of the number column, and the rows."""
    try:
        encoding = _encoding(path)
        with path.open(encoding=encoding, newline="") as file, _complaints_of(path):
            delimiter, skipped = _delimiter(file)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [cell.strip() for cell in _next_row(path, reader, skipped + 1) or []]
            columns = _Columns.find(path, header, number_column)
            yield header[columns.number], _rows(path, reader, columns, campaign, skipped)
    except OSError as error:
        raise InputRefusedError(f"{path} cannot be read: {error.strerror}") from None


@contextmanager
def _complaints_of(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeError:
        raise InputRefusedError(
            f"{path} is not UTF-8: save it as 'CSV UTF-8' (or UTF-16 with a byte order mark); nothing was added"
        ) from None


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    return "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _delimiter(file: TextIO) -> tuple[str, int]:
    """The delimiter that the header uses most, and how many lines come before the header."""
    first = file.readline(_HEADER_BYTES)
    named = re.fullmatch(r'sep=([^"\r\n\0])\s*', first)
    if named is not None:  # what spreadsheets write for themselves
        return named[1], 1
    file.seek(0)
    unquoted = re.sub(r'"[^"]*"', "", first)
    return max(DELIMITERS, key=unquoted.count), 0


def _plain(name: str) -> str:
    return re.sub(r"[\s\-_.]+", "_", name.strip().lower())


@attrs.frozen
class _Columns:
    header: Sequence[str]
    number: int
    key: int | None
    zone: int | None

    @classmethod
    def find(cls, path: Path, header: Sequence[str], number_column: str | None) -> _Columns:
        if not any(header):
            raise InputRefusedError(f"{path} is empty: its first line should name the columns")
        if len(header) > MAX_COLUMNS:
            raise InputRefusedError(f"{path} has {len(header)} columns: keep at most {MAX_COLUMNS}")
        names = [_plain(cell) for cell in header]
        found = f"{path} has the columns {', '.join(map(repr, header))}"
        twice = sorted(name for name, count in Counter(names).items() if name and count > 1)
        if twice:
            raise InputRefusedError(
                f"{found}: {', '.join(twice)} is there more than once; give each a name of its own"
            )
        wanted = NUMBER_COLUMNS if number_column is None else (_plain(number_column),)
        number = cls._first(names, wanted)
        if number is None:
            if number_column is not None:
                raise InputRefusedError(f"{found}, and none is called {number_column!r}: name one of those")
            raise InputRefusedError(
                f"{found}, and none of them is known to hold numbers: say which does (number column), or call it"
                " 'number'; the first line must name the columns"
            )
        return cls(header, number, cls._first(names, KEY_COLUMNS), cls._first(names, ZONE_COLUMNS))

    @staticmethod
    def _first(names: Sequence[str], wanted: Sequence[str]) -> int | None:
        return next((names.index(name) for name in wanted if name in names), None)


def _rows(
    path: Path, reader: Iterator[list[str]], columns: _Columns, campaign: Campaign, skipped: int
) -> Iterator[_Row | Refusal]:
    lines = reader.line_num  # type: ignore[attr-defined]  # the type of csv.reader has no public name
    while True:
        line = lines + skipped + 1  # a row may go over several
        cells = _next_row(path, reader, line)
        if cells is None:
            return
        lines = reader.line_num  # type: ignore[attr-defined]
        if any(cell.strip() for cell in cells):
            yield _row(cells, columns, campaign, line)


def _next_row(path: Path, reader: Iterator[list[str]], line: int) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise InputRefusedError(f"{path}, line {line}: {error}; check the quotes there; nothing was added") from None


def _row(cells: list[str], columns: _Columns, campaign: Campaign, line: int) -> _Row | Refusal:
    cells = [cell.strip() for cell in cells]
    surplus = [cell for cell in cells[len(columns.header) :] if cell]
    if surplus:
        count = len(columns.header)
        return Refusal(line, surplus[0], f"there are more values than the {count} columns; put quotes around commas")
    if any("\0" in cell for cell in cells):
        return Refusal(line, next(cell for cell in cells if "\0" in cell), "there is a NUL character in it")
    cells += [""] * (len(columns.header) - len(cells))  # spreadsheets drop empty cells at a line's end
    value = cells[columns.number]
    try:
        number = parse_number(value, campaign.country)
        zones = number.zones
        if columns.zone is not None and cells[columns.zone]:
            value = cells[columns.zone]
            zones = (zone_info(value).key,)
    except InputRefusedError as error:
        return Refusal(line, value, str(error))
    if not zones and campaign.timezone is None:
        reason = f"{value!r} belongs to no place, so its calling hours are not known; give it in a column timezone"
        return Refusal(line, value, reason)
    used = {columns.number, columns.key, columns.zone}
    fields = {
        name: cell
        for i, (name, cell) in enumerate(zip(columns.header, cells, strict=False))
        if name and i not in used
    }
    key = cells[columns.key] if columns.key is not None else ""
    return _Row(number.e164, json.dumps(zones), key or None, json.dumps(fields, ensure_ascii=False))
