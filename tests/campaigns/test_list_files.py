"""Forty nasty files: each is a clear message or a right import."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs
import openpyxl
import pytest

from campaigns import list_reading
from campaigns.list_columns import find_columns
from campaigns.list_reading import as_text, open_table
from campaigns.list_rows import Refusal, RowReader, task_of
from dialer.errors import InputRefusedError

NOW: Final = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)


@attrs.frozen
class Read:
    """What became of a file: numbers with their other columns, refusals (line, reason), and how it was read."""

    leads: list[tuple[str, dict[str, str]]]
    refused: list[tuple[int, str]]
    about: str

    @property
    def numbers(self) -> list[str]:
        return [number for number, _ in self.leads]


def read(folder: Path, content: bytes, name: str = "list.csv", country: str = "US", **options: Any) -> Read:
    path = folder / name
    path.write_bytes(content)
    with open_table(path, **options) as table:
        rows = list(table.rows)
        columns = find_columns(path, table.header, sample=[cells for _, cells in rows])
        task = task_of(
            columns, country=country, timezone=None, by_key=False, is_spreadsheet=table.is_spreadsheet, now=NOW
        )
        reader = RowReader(task)
        leads: list[tuple[str, dict[str, str]]] = []
        refused: list[tuple[int, str]] = []
        for line, cells in rows:
            one = reader.row(line, cells)
            if isinstance(one, Refusal):
                refused.append((one.line, one.reason))
            else:
                leads.append((one.number, json.loads(one.fields)))
        return Read(leads, refused, table.about)


def sheet(*rows: Sequence[object], change: Callable[[Any, Any], None] = lambda _book, _sheet: None) -> bytes:
    book = openpyxl.Workbook()
    page = book.active
    assert page is not None
    for row in rows:
        page.append(list(row))
    change(book, page)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def patched(data: bytes, member: str, old: str, new: str) -> bytes:
    """The spreadsheet `data` with something changed in one of its files."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for info in source.infolist():
            content = source.read(info)
            if info.filename == member:
                assert old.encode() in content
                content = content.replace(old.encode(), new.encode())
            target.writestr(info.filename, content)
    return file.getvalue()


def packed(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(name.replace("__", "/").replace("_xml", ".xml"), content)
    return file.getvalue()


def merged(book: Any, page: Any) -> None:
    page.merge_cells("A1:C1")
    page.merge_cells("B2:C2")


def second_sheet(book: Any, page: Any) -> None:
    page.sheet_state = "hidden"
    page.title = "old"
    other = book.create_sheet("new")
    other.append(["number", "name"])
    other.append(["2125550199", "Zoë"])


def formula(book: Any, page: Any) -> None:
    page["A2"] = "=B2*1"


DAY: Final = datetime(2026, 1, 2)  # noqa: DTZ001 - a spreadsheet knows no zones
ONE: Final = "+12125550100"
HEAD: Final = "number,name\n"
BIG_LINE: Final = b"number,name\n2125550100," + b"x" * 2_000_000 + b"\n"
ZOE: Final = [(ONE, {"name": "Zoë"})]

# What the file is, its bytes, options, and what comes of it: leads, numbers and refused lines, or words of a message.
_SHEETML: Final = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_RELATIONS: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006"
_KIND: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml"
# As Excel writes them: texts in a table of their own, one of them in two fonts, and a number as it shows it no more.
EXCEL: Final = packed(
    **{
        "[Content_Types].xml": (
            f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels"'
            ' ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{_KIND}.sheet.main+xml"/>'
            f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_KIND}.worksheet+xml"/>'
            f'<Override PartName="/xl/sharedStrings.xml" ContentType="{_KIND}.sharedStrings+xml"/></Types>'
        ).encode(),
        "_rels/.rels": (
            f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1"'
            f' Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>'
        ).encode(),
        "xl/workbook.xml": (
            f'<workbook {_SHEETML} xmlns:r="{_RELATIONS}"><sheets><sheet name="A" sheetId="1" r:id="rId1"/></sheets>'
            "</workbook>"
        ).encode(),
        "xl/_rels/workbook.xml.rels": (
            f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" Type="{_RELATIONS}/worksheet"'
            f' Target="worksheets/sheet1.xml"/><Relationship Id="rId2" Type="{_RELATIONS}/sharedStrings"'
            ' Target="sharedStrings.xml"/></Relationships>'
        ).encode(),
        "xl/sharedStrings.xml": (
            f"<sst {_SHEETML}><si><t>Phone</t></si><si><t>name</t></si>"
            "<si><r><t>Zoë </t></r><r><rPr><b/></rPr><t>Ann</t></r></si></sst>"
        ).encode(),
        "xl/worksheets/sheet1.xml": (
            f'<worksheet {_SHEETML}><sheetData><row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c>'
            '</row><row r="3"><c r="A3"><f>B9*1</f><v>1.41555501E10</v></c><c r="B3" t="s"><v>2</v></c></row>'
            "</sheetData></worksheet>"
        ).encode(),
    }
)

RIGHT: Final[dict[str, tuple[bytes, dict[str, Any], object]]] = {
    "UTF-8 with a byte order mark": ("\ufeffnumber;name\r\n2125550100;Zoë\r\n".encode(), {}, ZOE),
    "UTF-16 little-endian": ("number\tname\n2125550100\tZoë\n".encode("utf-16"), {}, ZOE),
    "UTF-16 big-endian": (codecs.BOM_UTF16_BE + "number,name\n2125550100,Zoë\n".encode("utf-16-be"), {}, ZOE),
    "UTF-16 without a mark": ("number,name\n2125550100,Zoë\n".encode("utf-16-le"), {}, ZOE),
    "UTF-32": ("number,name\n2125550100,Zoë\n".encode("utf-32"), {}, ZOE),
    "a legacy code page, told": ("number,name\n2125550100,Zoë\n".encode("cp850"), {"encoding": "cp850"}, ZOE),
    "a legacy code page, found out": (
        f"{HEAD}2125550100,Zoë\n2125550101,François Müller\n2125550102,José Núñez\n".encode("cp1252"),
        {},
        [*ZOE, ("+12125550101", {"name": "François Müller"}), ("+12125550102", {"name": "José Núñez"})],
    ),
    "Cyrillic in cp1251": (
        "номер,имя\n2125550100,Александр Сергеевич Пушкин\n2125550101,Фёдор Михайлович Достоевский\n".encode(
            "cp1251"
        ),
        {},
        ["+12125550100", "+12125550101"],
    ),
    "sep= and a semicolon": (b'sep=;\nnumber;name\n2125550100;"Zo\xc3\xab"', {}, ZOE),
    "pipes": ("number|name\n2125550100|Zoë\n".encode(), {}, ZOE),
    "a delimiter that is told": ("number^name\n2125550100^Zoë\n".encode(), {"delimiter": "^"}, ZOE),
    "quotes and line ends in fields": (
        b'number,name\n2125550100,"two\nlines, and ""quotes"""\n2125550101,x\n',
        {},
        [(ONE, {"name": 'two\nlines, and "quotes"'}), ("+12125550101", {"name": "x"})],
    ),
    "line ends of a Macintosh": ("number,name\r2125550100,Zoë\r".encode(), {}, ZOE),
    "no line end at the end": ("number,name\n2125550100,Zoë".encode(), {}, ZOE),
    "empty lines everywhere": ("number,name\n\n,\n  , \n2125550100,Zoë\n\n\n".encode(), {}, ZOE),
    "full-width digits": ("number,name\n（２１２）５５５－０１００,Zoë\n".encode(), {}, ZOE),
    "Arabic digits": ("number,name\n٢١٢٥٥٥٠١٠٠,Zoë\n".encode(), {}, ZOE),
    "scientific notation": (
        b"number,name\n1.4155E+10,x\n14155550100.0,y\n2125550100,z\n",
        {},
        ([ONE], [2, 3], "as a spreadsheet rounds it"),
    ),
    "leading zeros": (b"number,name\n0012125550100,x\n", {"country": "DE"}, [ONE]),
    "a NUL in a field": (b"number,name\n2125550101,a\x00b\n2125550100,x\n", {}, ([ONE], [2], "a NUL character")),
    "headers only": (b"number,name\n", {}, []),
    "a formula as a name": (b"number,name\n2125550100,=1+1\n", {}, [(ONE, {"name": "=1+1"})]),
    "cells beyond the header": (
        b"number,name\n2125550100,x,y\n2125550100,x,,\n",
        {},
        ([ONE], [2], "more values than"),
    ),
    "columns without a name": (
        b"number,,name\n2125550100,x,\n2125550101,,\n",
        {},
        [(ONE, {"column 2": "x", "name": ""}), ("+12125550101", {"name": ""})],
    ),
    "a spreadsheet as Excel writes it": (EXCEL, {}, [("+14155550100", {"name": "Zoë Ann"})]),
    "a spreadsheet": (sheet(["Phone", "name"], ["2125550100", "Zoë"]), {"name": "list.xlsx"}, ZOE),
    "a spreadsheet called CSV": (sheet(["Phone", "name"], ["2125550100", "Zoë"]), {"name": "list.csv"}, ZOE),
    "CSV called a spreadsheet": ("number,name\n2125550100,Zoë\n".encode(), {"name": "list.xlsx"}, ZOE),
    "numbers as numbers": (
        sheet(["number", "name"], [14155550100, "a"], [12125550100.0, "b"]),
        {},
        ["+14155550100", ONE],
    ),
    "titles over a header, merged": (
        sheet(["Customers of March", None, None], ["number", "name", None], [2125550100, "Zoë", "x"], change=merged),
        {},
        [(ONE, {"name": "Zoë", "column 3": "x"})],
    ),
    "one column": (
        sheet(["number"], [2125550100], [2125550101], [2125550102]),
        {},
        [ONE, "+12125550101", "+12125550102"],
    ),
    "a formula without its value": (
        sheet(["number", "name"], [2125550100, "x"], [2125550100, "y"], change=formula),
        {},
        ([ONE], [2], "what a formula"),
    ),
    "a hidden first sheet": (sheet(["number"], ["1"], change=second_sheet), {}, [("+12125550199", {"name": "Zoë"})]),
    "a sheet that is told": (
        sheet(["number"], ["2125550100"], change=second_sheet),
        {"sheet": "old"},
        [(ONE, {})],
    ),
    "dates, times and truth in cells": (
        sheet(["number", "day", "moment", "yes"], ["2125550100", DAY, DAY.replace(hour=3, minute=4), True]),
        {},
        [(ONE, {"day": "2026-01-02", "moment": "2026-01-02 03:04:00", "yes": "TRUE"})],
    ),
}

ROWS: Final = sheet(["number", "name"], *(["2125550100", f"x{i}"] for i in range(200)))
REFUSED: Final[dict[str, tuple[bytes, dict[str, Any], str]]] = {
    "nothing at all": (b"", {}, "is empty: its first line should name the columns"),
    "only line ends": (b"\n\n\n", {}, "is empty: its first line should name the columns"),
    "a 2 MB line": (BIG_LINE, {}, "line 2 has more than 1,000,000 characters"),
    "a field without an end": (
        b'number,name\n2125550100,"open\n' + b"2125550100,x\n" * 20_000,
        {},
        "line 2: field larger than field limit",
    ),
    "a quote that is not closed": (b'number,name\n2125550100,"open\n', {}, "line 2: unexpected end of data"),
    "bytes of nothing": (bytes(range(256)) * 20, {}, "list.csv"),
    "an old Excel file": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), {}, "is an old Excel file"),
    "gzip": (gzip.compress(b"number\n2125550100\n"), {}, "is compressed (gzip): unpack it first"),
    "a PDF": (b"%PDF-1.7\n...", {}, "is a PDF"),
    "a web page": (b"\xef\xbb\xbf <!DOCTYPE html><table><tr><td>2125550100", {}, "is a web page or XML"),
    "a zip of CSV": (packed(list_csv=b"number\n2125550100\n"), {}, "is a zip file that is no spreadsheet"),
    "OpenDocument": (
        packed(mimetype=b"application/vnd.oasis.opendocument.spreadsheet"),
        {},
        "is an OpenDocument file",
    ),
    "a binary spreadsheet": (
        packed(xl__x_xml=b"", **{"xl__workbook.bin": b""}),
        {},
        "is a binary spreadsheet (XLSB)",
    ),
    "half a spreadsheet": (ROWS[: len(ROWS) // 2], {}, "is a damaged spreadsheet"),
    "a spreadsheet without sheets": (
        packed(xl__workbook_xml=b"<workbook/>"),
        {},
        "is a spreadsheet that cannot be read",
    ),
    "a spreadsheet of broken XML": (
        patched(ROWS, "xl/worksheets/sheet1.xml", "</row>", "</wor>"),
        {},
        "is a spreadsheet that cannot be read",
    ),
    "a zip bomb": (
        packed(xl__workbook_xml=b"", xl__worksheets__sheet1_xml=b"0" * 50_000_000),
        {},
        "which no list does",
    ),
    "entities that multiply": (
        patched(
            ROWS,
            "xl/worksheets/sheet1.xml",
            "<worksheet",
            '<!DOCTYPE x [<!ENTITY a "'
            + "a" * 1000
            + '">'
            + "".join(f'<!ENTITY {b} "{f"&{a};" * 50}">' for a, b in zip("abcdef", "bcdefg", strict=True))
            + "]><worksheet y='&g;'",
        ),
        {},
        "is a spreadsheet that cannot be read",
    ),
    "an empty sheet": (sheet(), {}, "is empty: its first line should name the columns"),
    "no such sheet": (ROWS, {"sheet": "March"}, "has no sheet 'March'; it has 'Sheet'"),
    "sixteen thousand columns": (
        sheet(["number", "name"], change=lambda _, page: page.cell(1, 16_000, "far")),
        {},
        "keep at most 1000",
    ),
}


def test_there_are_forty_and_more() -> None:
    assert len(RIGHT) + len(REFUSED) >= 40


@pytest.mark.parametrize("name", RIGHT)
def test_a_nasty_file_is_imported_right(name: str, tmp_path: Path) -> None:
    content, options, expected = RIGHT[name]
    found = read(tmp_path, content, **options)
    if isinstance(expected, tuple):
        numbers, lines, words = expected
        assert (found.numbers, [line for line, _ in found.refused]) == (numbers, lines)
        assert all(words in reason for _, reason in found.refused)
    elif isinstance(expected, list) and expected and isinstance(expected[0], tuple):
        assert (found.leads, found.refused) == (expected, [])
    else:
        assert (found.numbers, found.refused) == (expected, [])


@pytest.mark.parametrize("name", REFUSED)
def test_a_nasty_file_is_refused_by_a_clear_message(name: str, tmp_path: Path) -> None:
    content, options, words = REFUSED[name]
    with pytest.raises(InputRefusedError) as refused:
        read(tmp_path, content, **options)
    message = str(refused.value)
    assert words in message
    assert message.startswith(str(tmp_path / "list.csv"))
    assert len(message) < 600 or name == "sixteen thousand columns"


def test_how_it_was_read_is_told(tmp_path: Path) -> None:
    assert read(tmp_path, b"number\n2125550100\n").about == "CSV in UTF-8, cells divided by ','"
    assert read(tmp_path, b"number\tx\n").about == "CSV in UTF-8, cells divided by tabs"
    guessed = read(tmp_path, "number,name\n2125550100,Müller\n2125550100,Jürgen Groß\n".encode("cp1252")).about
    assert (
        guessed == "CSV in cp1252, which is a guess (say the encoding if names come out wrong), cells divided by ','"
    )
    told = read(tmp_path, b"number\n", encoding="latin-1").about
    assert told == "CSV in iso8859-1, as told, cells divided by ','"
    titled = sheet(["A title"], ["number", "name"], [2125550100, "x"], change=lambda book, _: book.create_sheet("b"))
    assert read(tmp_path, titled).about == "XLSX, sheet 'Sheet' (and not 'b'), whose header is line 2"


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(list_reading, "_workbook", unpack)
    with pytest.raises(InputRefusedError, match="which no list does"):
        read(tmp_path, REFUSED["a zip bomb"][0])


def test_each_limit_of_a_spreadsheet_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(tmp_path, EXCEL).leads == [("+14155550100", {"name": "Zoë Ann"})]
    for name in ("MAX_UNPACKED", "MAX_TEXTS"):
        with monkeypatch.context() as patch:
            patch.setattr(list_reading, name, 100)
            with pytest.raises(InputRefusedError, match="which no list does"):
                read(tmp_path, EXCEL)


def test_how_far_it_has_been_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("number\n" + "2125550100\n" * 50_000)
    with open_table(path) as table:
        early = table.position()
        assert sum(1 for _ in table.rows) == 50_000
        assert (early < table.size, table.position()) == (True, table.size)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "TRUE"), (3.0, "3"), (0.5, "0.5"), (1.5e20, "1.5e+20"), (" x ", "x"), (7, "7")],
)
def test_cells_of_a_spreadsheet_as_text(value: object, text: str) -> None:
    assert as_text(value) == text
