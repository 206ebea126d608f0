"""A list's rows to leads, one by one: what is kept of each, or why it is refused. Pure, and made to be fast.

It runs in the importing process for short lists and in worker processes for long ones (`list_workers`); both hand
over chunks of rows and get back a `Chunk`, whose leads are bytes that are staged as they are.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import attrs
import msgspec

from campaigns.list_columns import Columns, Role
from campaigns.numbers import Number, NumberReader
from campaigns.places import Place, place_of_postal_code, region_of
from campaigns.zones import is_zone
from dialer.errors import InputRefusedError

PRIORITIES: Final = 1_000_000
LONGEST_KEY: Final = 1_000  # characters of a key, an account or a piece of evidence
LONGEST_LIST: Final = 63
_LONGEST_SHOWN: Final = 200  # of a refused value


class StagedLead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A lead of a list on its way in."""

    number: str
    zones: str  # JSON
    region: str | None
    kind: str
    numbers: str  # JSON, as in the table of leads
    fields: str  # JSON
    external_key: str | None = None
    account: str | None = None
    priority: int | None = None
    consent_at: datetime | None = None
    consent_evidence: str | None = None
    callback_at: datetime | None = None
    list_name: str | None = None  # None: the import's own
    # Whether the list itself says so, and it was not only taken from the number.
    says_zones: bool = False
    says_region: bool = False
    says_numbers: bool = False  # whether it has a column for further ones


class Refusal(msgspec.Struct, array_like=True, frozen=True):
    """A row that was not taken: the line it begins on, what was found there, why, and the row itself."""

    line: int
    value: str
    reason: str
    cells: list[str] = []


class Chunk(msgspec.Struct, array_like=True, frozen=True):
    """What became of some rows."""

    count: int  # of leads
    leads: bytes  # see `unpack`
    refused: list[Refusal]
    notes: dict[str, int]  # what was passed over, and in how many rows


class Task(msgspec.Struct, array_like=True, frozen=True):
    """What must be known to read the rows of one list."""

    header: list[str]
    numbers: list[int]
    roles: dict[str, int]
    country: str
    timezone: str | None  # the campaign's own
    by_key: bool
    is_spreadsheet: bool
    now: datetime


def task_of(
    columns: Columns, *, country: str, timezone: str | None, by_key: bool, is_spreadsheet: bool, now: datetime
) -> Task:
    """The task of reading the rows of a list with `columns`."""
    roles = {str(role): index for role, index in columns.roles.items()}
    return Task(
        list(columns.header), list(columns.numbers), roles, country, timezone, by_key, is_spreadsheet, now
    )  # fmt: skip


_leads_in = msgspec.msgpack.Decoder(list[StagedLead])
_out = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder()


def unpack(leads: bytes) -> list[StagedLead]:
    """The leads of a chunk."""
    return _leads_in.decode(zlib.decompress(leads))


def pack(leads: Sequence[StagedLead]) -> bytes:
    """`leads` as they are staged: a fifth of their size, which is what the database must write."""
    return zlib.compress(_out.encode(leads), 1)


@attrs.frozen
class _Where:
    """What the lead's own columns say of its place: zones that count instead of the numbers', a region."""

    zones: tuple[str, ...]
    region: str | None
    is_sure: bool = True  # the region is known, and not only of the form of one


_ANYWHERE: Final = _Where((), None)
_UNKNOWN_REGION: Final = "the region is none that is known: the place is taken from the number"


class RowReader:
    """Reads the rows of one list."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._reader = NumberReader(task.country)
        self._width = len(task.header)
        columns = Columns(
            tuple(task.header), tuple(task.numbers), {_role(name): at for name, at in task.roles.items()}, {}
        )
        self._fields = [(task.header[index], index) for index in columns.fields()]
        # Columns without a name are kept only where there is something in them.
        self._unnamed = {index for name, index in self._fields if name == f"column {index + 1}"}
        self._roles: Mapping[Role, int] = columns.roles
        self._several = len(task.numbers) > 1
        self._placed = any(role in columns.roles for role in ("timezone", "region", "postal_code"))
        self._more = not columns.roles.keys() <= {"number", "external_key", "timezone", "region", "postal_code"}
        self._zones_json: dict[tuple[str, ...], str] = {}
        self._notes: Counter[str] = Counter()

    def chunk(self, rows: Sequence[tuple[int, list[str]]]) -> Chunk:
        """What becomes of `rows`, in their order."""
        self._notes.clear()
        leads: list[StagedLead] = []
        refused: list[Refusal] = []
        for line, cells in rows:
            read = self.row(line, cells)
            if isinstance(read, Refusal):
                refused.append(read)
            else:
                leads.append(read)
        return Chunk(len(leads), pack(leads), refused, dict(self._notes))

    def row(self, line: int, raw: list[str]) -> StagedLead | Refusal:
        """The lead in the row `raw`, or why it is none."""
        cells = [_unescaped(cell.strip()) for cell in raw]
        if len(cells) != self._width:
            if surplus := [cell for cell in cells[self._width :] if cell]:
                reason = f"there are more values than the {self._width} columns; put quotes around commas"
                return _refusal(line, surplus[0], reason, raw)
            cells = cells[: self._width] + [""] * (
                self._width - len(cells)
            )  # spreadsheets drop empty ones at the end
        if "\0" in "".join(cells):
            cell = next(cell for cell in cells if "\0" in cell)
            return _refusal(line, cell, "there is a NUL character in it", raw)
        value = ""
        try:
            where = self._where(cells) if self._placed else _ANYWHERE
            value = cells[self._task.numbers[0]]
            numbers = self._numbers(cells, where) if self._several else [self._number(value, where)]
            return self._lead(cells, numbers, self._believed(where, numbers[0]))
        except _WrongValueError as error:
            return _refusal(line, error.value, str(error), raw)
        except InputRefusedError as error:
            return _refusal(line, value, str(error), raw)

    def _lead(self, cells: list[str], numbers: list[Number], where: _Where) -> StagedLead:
        first = numbers[0]
        fields = {name: cells[index] for name, index in self._fields}
        if self._unnamed:
            for index in self._unnamed:
                if not cells[index]:
                    del fields[f"column {index + 1}"]
        key = self._text(cells, "external_key")
        if key is None and self._task.by_key:
            raise _WrongValueError("", "there is no external key in this row, and the list is taken in by it")
        zones = where.zones or first.zones
        lead = (
            first.e164,
            self._json_of(zones),
            where.region or first.region,
            first.kind,
            "[]" if len(numbers) == 1 else self._numbers_json(numbers, where),
            _json.encode(fields).decode(),
            key,
        )
        says_zones, says_region = bool(where.zones), where.region is not None
        if not self._more:
            return StagedLead(*lead, says_zones=says_zones, says_region=says_region, says_numbers=self._several)
        place = zones or ((self._task.timezone,) if self._task.timezone else ())
        return StagedLead(
            *lead,
            account=self._text(cells, "account"),
            priority=self._priority(cells),
            consent_at=self._moment(cells, "consent_at", place),
            consent_evidence=self._text(cells, "consent_evidence"),
            callback_at=self._moment(cells, "callback_at", place),
            list_name=self._text(cells, "list", LONGEST_LIST),
            says_zones=says_zones,
            says_region=says_region,
            says_numbers=self._several,
        )

    def _number(self, value: str, where: _Where) -> Number:
        if not value and self._task.is_spreadsheet:
            raise InputRefusedError("there is no number; what a formula gives is read only if the file holds it")
        number = self._reader.read(value)
        if not number.zones and not where.zones and self._task.timezone is None:
            raise InputRefusedError(
                f"{value!r} belongs to no place, so its calling hours are not known; give it in a column timezone"
            )
        return number

    def _numbers(self, cells: list[str], where: _Where) -> list[Number]:
        """The row's numbers in order; those that are none are passed over, but one must be right."""
        numbers: dict[str, Number] = {}
        wrong: list[tuple[str, InputRefusedError]] = []
        for index in self._task.numbers:
            if not cells[index]:
                continue
            try:
                number = self._number(cells[index], where)
                numbers.setdefault(number.e164, number)
            except InputRefusedError as error:
                wrong.append((cells[index], error))
        if not numbers:
            if wrong:
                raise _WrongValueError(wrong[0][0], str(wrong[0][1]))
            self._number("", where)
        if wrong:
            self._notes["one of several numbers of a lead is none, and was left out"] += 1
        return list(numbers.values())

    def _numbers_json(self, numbers: list[Number], where: _Where) -> str:
        return _json.encode(
            [[each.e164, where.zones or each.zones, each.kind, where.region or each.region] for each in numbers]
        ).decode()

    def _where(self, cells: list[str]) -> _Where:
        country = self._task.country
        zone = self._cell(cells, "timezone")
        if zone and not is_zone(zone):
            raise _WrongValueError(
                zone, f"{zone!r} is not a time zone: it should be a zone of the tz database, like Europe/Berlin"
            )
        place = self._place(cells, country)
        zones = (zone,) if zone else () if place is None else place.zones
        return _Where(zones, None) if place is None else _Where(zones, place.region, bool(place.zones))

    def _place(self, cells: list[str], country: str) -> Place | None:
        """What the postal code says, which is nearer than a region; else the region."""
        postal_code, region = self._cell(cells, "postal_code"), self._cell(cells, "region")
        place = place_of_postal_code(postal_code, country) if postal_code else None
        if place is None and postal_code and country in ("US", "CA"):
            self._notes["the postal code is none that is known: the place is taken from the number"] += 1
        if place is None and region:
            place = region_of(region, country)
            if place is None:
                self._notes[_UNKNOWN_REGION] += 1
        return place

    def _believed(self, where: _Where, number: Number) -> _Where:
        """A sales area SE-1 looks like a region of Sweden: it would bring Sweden's holidays, and no state's law."""
        if where.region is None or where.is_sure or where.region[:2] == (number.region or "")[:2]:
            return where
        self._notes[_UNKNOWN_REGION] += 1
        return attrs.evolve(where, region=None)

    def _cell(self, cells: list[str], role: Role) -> str:
        index = self._roles.get(role)
        return "" if index is None else cells[index]

    def _text(self, cells: list[str], role: Role, longest: int = LONGEST_KEY) -> str | None:
        value = self._cell(cells, role)
        if len(value) > longest:
            raise _WrongValueError(value, f"the {role} has {len(value)} characters: keep at most {longest}")
        return value or None

    def _priority(self, cells: list[str]) -> int | None:
        value = self._cell(cells, "priority")
        if not value:
            return None
        try:
            priority = int(value)
        except ValueError:
            priority = PRIORITIES + 1
        if abs(priority) > PRIORITIES:
            raise _WrongValueError(
                value, f"{value!r} is no priority: it should be a whole number between -{PRIORITIES} and {PRIORITIES}"
            )
        return priority

    def _moment(self, cells: list[str], role: Role, zones: Sequence[str]) -> datetime | None:
        value = self._cell(cells, role)
        if not value:
            return None
        return parse_consent(value, zones, self._task.now) if role == "consent_at" else parse_moment(value, zones)

    def _json_of(self, zones: tuple[str, ...]) -> str:
        found = self._zones_json.get(zones)
        if found is None:
            found = self._zones_json[zones] = _json.encode(zones).decode()
        return found


class _WrongValueError(InputRefusedError):
    """As its base, of another value than the number."""

    def __init__(self, value: str, reason: str) -> None:
        super().__init__(reason)
        self.value = value


def _unescaped(cell: str) -> str:
    """`cell` without the apostrophe that a file of refused rows has before what a spreadsheet would calculate."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in ("=", "+", "-", "@") else cell


def parse_moment(value: str, zones: Sequence[str]) -> datetime:
    """`value` (ISO 8601) as a moment; without an offset it is on the clocks of `zones`, if they agree.

    Raises InputRefusedError.
    """
    right = "it should be like 2026-12-01 14:30 or 2026-12-01T14:30+01:00"
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise _WrongValueError(value, f"{value!r} is no date and time: {right}") from None
    if not 1900 <= moment.year < 2200:  # what programs write for "no date", or for "for ever"
        raise _WrongValueError(value, f"{value!r} is no date that can be meant: {right}")
    if moment.tzinfo is not None:
        return moment
    meant = {moment.replace(tzinfo=ZoneInfo(zone)).timestamp() for zone in zones}
    if len(meant) != 1:
        where = "no zone is known" if not meant else f"it may be in any of {', '.join(zones)}"
        raise _WrongValueError(value, f"{value!r} has no offset from UTC, and {where}: {right}")
    return moment.replace(tzinfo=ZoneInfo(zones[0]))


def parse_consent(value: str, zones: Sequence[str], now: datetime) -> datetime:
    """`value` as the moment by which consent was given, wherever in `zones` that was. Raises InputRefusedError."""
    moment = max(parse_moment(value, (zone,)) for zone in zones) if zones else parse_moment(value, ())
    if moment > now:
        raise _WrongValueError(value, f"{value!r} is a consent that lies in the future")
    return moment


def _refusal(line: int, value: str, reason: str, cells: list[str]) -> Refusal:
    shown = value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "…"
    return Refusal(line, shown, reason, cells)


def _role(name: str) -> Role:
    return name  # type: ignore[return-value]  # as `task_of` wrote it
