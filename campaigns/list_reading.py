"""A file as people have it, to rows of text: CSV of any delimiter and encoding, or a spreadsheet (XLSX).

What a file is, is seen by its content and not by its name. Encoding and delimiter are found out unless they are
given, and told to whoever asked, since a legacy encoding can only be guessed. Nothing here reads more into memory
than a line, or a spreadsheet's own table of texts, and both have limits: a file that was made to hurt (a zip that
unpacks to a thousand times its size, a line without an end) is refused by a sentence, before it is unpacked.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Final, TextIO

import attrs

from dialer.errors import InputRefusedError

Rows = Iterator[tuple[int, list[str]]]  # the line that each begins on, and its cells

DELIMITERS: Final = ",;\t|"
MAX_LINE: Final = 1_000_000  # characters; the longest row of a real list has some thousands
MAX_UNPACKED: Final = 600_000_000  # bytes of a spreadsheet without its compression: two million full rows
MAX_RATIO: Final = 200  # how much larger a spreadsheet may become: text packs to a twentieth or so
MAX_TEXTS: Final = 120_000_000  # bytes of the table of texts, which is held in memory
_HARMLESS: Final = 10_000_000  # bytes; what unpacks to less may have any ratio
_HEADER_CHARACTERS: Final = 65_536  # more than any header; a file with no line end within is none of ours
_BLOCK: Final = 1 << 20
_TITLES_MOST: Final = 5
_LOOKED_AT: Final = 200  # rows of a spreadsheet, for how wide it is
_SAMPLE: Final = 1 << 14  # bytes to guess an encoding from
# What lists are written in where it is not Unicode; of equally good guesses the first counts.
_LEGACY: Final = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp932", "gb18030", "big5"),
    *("cp949", "koi8_r", "mac_roman", "cp850", "cp437"),
)
_NOT_A_LIST: Final[Mapping[bytes, str]] = {
    b"\xd0\xcf\x11\xe0": "is an old Excel file, or one with a password: save it as XLSX without one, or as CSV UTF-8",
    b"\x1f\x8b": "is compressed (gzip): unpack it first",
    b"%PDF": "is a PDF: export the list itself, as CSV UTF-8 or XLSX",
    b"{\\rtf": "is a text document: export the list itself, as CSV UTF-8 or XLSX",
    b"SQLite format 3": "is a database: export the list itself, as CSV UTF-8 or XLSX",
}
_MARKUP: Final = re.compile(rb"\s*<(!doctype|html|\?xml|table|style)", re.IGNORECASE)


@attrs.frozen
class Table:
    """A list that has been opened; `rows` are those below the header, without the empty ones."""

    about: str  # how it is read, for a person: "CSV in UTF-8, cells divided by ','"
    header: Sequence[str]
    rows: Rows
    is_spreadsheet: bool
    size: int  # bytes of the file
    position: Callable[[], int]  # how many of them have been read


@contextmanager
def open_table(
    path: Path, *, encoding: str | None = None, delimiter: str | None = None, sheet: str | None = None
) -> Iterator[Table]:
    """The list in the file `path`; what is not given is found out.

    Raises InputRefusedError for a file that cannot be used, also from `rows`: then it has been so from some line on.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4096)
        if start.startswith(b"PK\x03\x04"):
            with _spreadsheet(path, sheet) as table:
                yield table
            return
        for magic, what in _NOT_A_LIST.items():
            if start.startswith(magic):
                raise InputRefusedError(f"{path} {what}; nothing was added")
        if _MARKUP.match(start.removeprefix(codecs.BOM_UTF8)):
            raise InputRefusedError(
                f"{path} is a web page or XML: save the list as CSV UTF-8 or XLSX; nothing was added"
            )
        if sheet is not None:
            raise InputRefusedError(f"{path} is no spreadsheet, so it has no sheet {sheet!r}; leave the sheet out")
        with _csv(path, encoding, delimiter) as table:
            yield table
    except OSError as error:
        raise InputRefusedError(f"{path} cannot be read: {error.strerror or error}") from None


# CSV


@contextmanager
def _csv(path: Path, encoding: str | None, delimiter: str | None) -> Iterator[Table]:
    used, told = _encoding(path, encoding)
    with (
        path.open("rb") as raw,
        _complaints_of(path, used),
        io.TextIOWrapper(raw, encoding=used, newline="") as text,
    ):
        divided, skipped = _delimiter(text, delimiter)
        reader = csv.reader(_lines(path, text), delimiter=divided, strict=True)
        header = [cell.strip() for cell in _next_row(path, reader, skipped + 1) or []]
        yield Table(
            about=f"CSV in {told}, cells divided by {'tabs' if divided == chr(9) else repr(divided)}",
            header=header,
            rows=_csv_rows(path, reader, skipped),
            is_spreadsheet=False,
            size=path.stat().st_size,
            position=raw.tell,
        )


@contextmanager
def _complaints_of(path: Path, encoding: str) -> Iterator[None]:
    try:
        yield
    except UnicodeError:
        shown = "UTF-8" if encoding == "utf-8-sig" else encoding
        raise InputRefusedError(
            f"{path} is not {shown}: save it as 'CSV UTF-8', or say its encoding; nothing was added"
        ) from None


def _encoding(path: Path, given: str | None) -> tuple[str, str]:
    """The encoding to read `path` with, and what to call it."""
    if given is not None:
        try:
            name = codecs.lookup(given).name
            "a".encode(name).decode(name)
        except (LookupError, UnicodeError, AssertionError, ValueError, TypeError):
            raise InputRefusedError(
                f"there is no encoding {given!r}: it should be one like utf-8, cp1252, iso-8859-2 or utf-16"
            ) from None
        return ("utf-8-sig" if name == "utf-8" else name), f"{name}, as told"
    with path.open("rb") as file:
        start = file.read(4096)
        if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
            return "utf-32", "UTF-32"
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16", "UTF-16"
        for name, zeros in (("utf-16-le", start[1::2]), ("utf-16-be", start[::2])):
            if len(zeros) > 3 and zeros.count(0) > 0.6 * len(zeros) and start.count(0) < 0.6 * len(start):
                return name, "UTF-16 without a byte order mark"
        if _is_utf_8(file):
            return "utf-8-sig", "UTF-8"
        return _guessed(path, _unusual_lines(file))


def _is_utf_8(file: IO[bytes]) -> bool:
    """Whether all of it is. (It is read twice then; that is a hundredth of what reading it as rows takes.)"""
    file.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        while block := file.read(_BLOCK):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _unusual_lines(file: IO[bytes]) -> bytes:
    """Lines with more than ASCII in them, which alone say something of the encoding."""
    file.seek(0)
    found: list[bytes] = []
    size = 0
    while size < _SAMPLE and (line := file.readline(_BLOCK)):
        if not line.isascii():
            found.append(line)
            size += len(line)
    return b"".join(found)[:_SAMPLE]


def _guessed(path: Path, sample: bytes) -> tuple[str, str]:
    from charset_normalizer import from_bytes  # half a second to import, and seldom needed

    matches = from_bytes(sample, cp_isolation=list(_LEGACY)) if b"\0" not in sample else None
    best = None if matches is None else matches.best()
    if matches is None or best is None:
        raise InputRefusedError(
            f"{path} is not UTF-8, and no other encoding fits: save it as 'CSV UTF-8', or say its encoding;"
            " nothing was added"
        )
    # Of those that make as little nonsense of it; a few umlauts read alike in many.
    texts = [str(each) for each in matches if each.chaos <= best.chaos]
    name = next((name for name in _LEGACY if _text_of(sample, name) in texts), best.encoding)
    return name, f"{name}, which is a guess (say the encoding if names come out wrong)"


def _text_of(sample: bytes, encoding: str) -> str | None:
    try:
        return sample.decode(encoding)
    except UnicodeError:
        return None


def _delimiter(file: TextIO, given: str | None) -> tuple[str, int]:
    """The delimiter, which is the one that the header uses most, and how many lines come before the header."""
    first = file.readline(_HEADER_CHARACTERS)
    named = re.fullmatch(r'sep=([^"\r\n\0])\s*', first)
    if named is None:
        file.seek(0)
    if given is not None:
        if len(given) != 1 or given in '"\r\n\0':
            raise InputRefusedError(f"the delimiter {given!r} should be one character, and no quote or line end")
        return given, 0 if named is None else 1
    if named is not None:  # what spreadsheets write for themselves
        return named[1], 1
    unquoted = re.sub(r'"[^"]*"', "", first)
    return max(DELIMITERS, key=unquoted.count), 0


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    for number, line in enumerate(iter(partial(file.readline, MAX_LINE), ""), 1):
        if len(line) >= MAX_LINE:
            raise InputRefusedError(
                f"{path}, line {number} has more than {MAX_LINE:,} characters: that is no row of a list; check the"
                " quotes and line ends there; nothing was added"
            )
        yield line


def _csv_rows(path: Path, reader: Any, skipped: int) -> Rows:
    lines = reader.line_num
    try:
        for cells in reader:
            line = lines + skipped + 1  # a row may go over several
            lines = reader.line_num
            if any(map(str.strip, cells)):
                yield line, cells
    except csv.Error as error:
        raise _bad_quotes(path, lines + skipped + 1, error) from None


def _next_row(path: Path, reader: Iterator[list[str]], line: int) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise _bad_quotes(path, line, error) from None


def _bad_quotes(path: Path, line: int, error: csv.Error) -> InputRefusedError:
    return InputRefusedError(f"{path}, line {line}: {error}; check the quotes there; nothing was added")


# XLSX


@contextmanager
def _spreadsheet(path: Path, wanted: str | None) -> Iterator[Table]:
    try:
        with path.open("rb") as raw:
            _check_package(path, raw)
            with _workbook(path, raw) as book:
                sheet, name, others = _sheet(path, book, wanted)
                rows = _sheet_rows(path, sheet)
                line, header, titles, rows = _header_of(rows)
                about = f"XLSX, sheet {name!r}"
                if others:
                    about += f" (and not {', '.join(map(repr, others))})"
                if titles:
                    about += f", whose header is line {line}"
                yield Table(
                    about=about,
                    header=header,
                    rows=rows,
                    is_spreadsheet=True,
                    size=path.stat().st_size,
                    position=raw.tell,
                )
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputRefusedError:
    return InputRefusedError(f"{path} is a damaged spreadsheet: {error}; save it again; nothing was added")


def _check_package(path: Path, raw: IO[bytes]) -> None:
    """Refuses what is no spreadsheet, and what would unpack to more than a spreadsheet of a list has.

    What the directory of a zip says of a member is the most that Python will unpack of it.
    """
    try:
        with zipfile.ZipFile(raw) as package:
            members = package.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise _damaged(path, error) from None
    names = {member.filename for member in members}
    if not any(name.startswith("xl/") for name in names):
        what = "an OpenDocument file" if "mimetype" in names else "a zip file that is no spreadsheet"
        raise InputRefusedError(f"{path} is {what}: save the list as XLSX or CSV UTF-8; nothing was added")
    if "xl/workbook.bin" in names:
        raise InputRefusedError(f"{path} is a binary spreadsheet (XLSB): save it as XLSX; nothing was added")
    unpacked = sum(member.file_size for member in members)
    packed = max(1, path.stat().st_size)
    texts = sum(member.file_size for member in members if member.filename.lower().endswith("sharedstrings.xml"))
    if (
        unpacked > MAX_UNPACKED
        or texts > MAX_TEXTS
        or (unpacked > _HARMLESS and unpacked > MAX_RATIO * packed)
        or len(members) > 10_000
    ):
        raise InputRefusedError(
            f"{path} would unpack to {unpacked:,} bytes, {unpacked / packed:,.0f} times its size, which no list does"
            f" (at most {MAX_UNPACKED:,} bytes and {MAX_RATIO} times are read); save it as CSV; nothing was added"
        )


@contextmanager
def _workbook(path: Path, raw: IO[bytes]) -> Iterator[Any]:
    import warnings

    import openpyxl  # a tenth of a second, and for spreadsheets only

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it does not keep of a workbook, which we do not write
            book = openpyxl.load_workbook(raw, read_only=True, data_only=True, keep_links=False)
    except (zipfile.BadZipFile, EOFError, zlib.error, InputRefusedError):
        raise
    except Exception as error:  # noqa: BLE001 - of a broken workbook it raises whatever it stumbled over
        raise _broken(path, error) from None
    try:
        yield book
    finally:
        book.close()


def _broken(path: Path, error: Exception) -> InputRefusedError:
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return InputRefusedError(
        f"{path} is a spreadsheet that cannot be read: {said}; save it again, or as CSV UTF-8; nothing was added"
    )


def _sheet(path: Path, book: Any, wanted: str | None) -> tuple[Any, str, list[str]]:
    sheets = [sheet for sheet in book.worksheets if getattr(sheet, "sheet_state", "visible") == "visible"]
    names = [sheet.title for sheet in sheets]
    if wanted is not None:
        for sheet in book.worksheets:
            if sheet.title == wanted:
                return sheet, wanted, []
        raise InputRefusedError(f"{path} has no sheet {wanted!r}; it has {', '.join(map(repr, names))}")
    if not sheets:
        raise InputRefusedError(f"{path} has no sheet that can be seen; nothing was added")
    return sheets[0], names[0], names[1:]


def _sheet_rows(path: Path, sheet: Any) -> Rows:
    rows = iter(sheet.iter_rows(values_only=True))
    line = 0
    while True:
        try:
            values = next(rows, None)
        except (zipfile.BadZipFile, EOFError, zlib.error):
            raise
        except Exception as error:  # noqa: BLE001 - as above: damage is found where it is read
            raise _broken(path, error) from None
        if values is None:
            return
        line += 1
        last = len(values)
        while last and values[last - 1] is None:
            last -= 1
        if last:
            cells = [as_text(value) for value in values[:last]]
            if any(cells):
                yield line, cells


def as_text(value: object) -> str:
    """A cell as a person reads it: whole numbers without a point, dates in ISO 8601."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == datetime.min.time() else value.isoformat(" ", "seconds")
    if isinstance(value, date):
        return value.isoformat()
    return str(value).strip()


def _header_of(rows: Rows) -> tuple[int, list[str], int, Rows]:
    """The header's line and cells, how many titles stand over it (mostly merged cells), and the rows below it.

    It is the first row with more than one cell, or the first row of all when the list has only one column.
    """
    first = list(islice(rows, _LOOKED_AT))
    at = next((i for i, (_, cells) in enumerate(first[: _TITLES_MOST + 1]) if sum(map(bool, cells)) > 1), 0)
    if not first:
        return 1, [], 0, rows
    line, header = first[at]
    # Of merged cells only the first has a value: the columns below the others have no name, but they are there.
    width = max(len(cells) for _, cells in first[at:])
    return line, header + [""] * (width - len(header)), at, chain(first[at + 1 :], rows)
