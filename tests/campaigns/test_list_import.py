from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from sqlalchemy import text
from sqlmodel import col, select

from campaigns import list_import, staging
from campaigns.database import Database, open_database
from campaigns.lead import LeadStatus
from campaigns.list_import import ImportReport, finish_imports, import_csv
from campaigns.store import LeadRow
from dialer.errors import InputRefusedError, UnavailableError

from .conftest import CAMPAIGN, NOON, fill


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "list.csv"


async def leads(database: Database) -> list[LeadRow]:
    return await database.read(lambda s: list(s.exec(select(LeadRow).order_by(col(LeadRow.id))).all()))


async def bring_in(database: Database, path: Path, content: str | bytes, **options: str) -> ImportReport:
    await trio.Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return await import_csv(database, path, "spring", now=NOON, **options)


async def left_over(database: Database) -> tuple[int, int]:
    def work(session: object) -> tuple[int, int]:
        rows, imports = (
            session.connection().execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # type: ignore[attr-defined]
            for table in ("staged_lead", "list_import")
        )
        return rows, imports

    return await database.read(work)


async def test_a_list_becomes_leads(database: Database, path: Path) -> None:
    await fill(database, 0)
    report = await bring_in(
        database,
        path,
        "id,Phone Number,Name,timezone,Note\n"
        'k1,(212) 555-0100,"Zoë, née O\'Hara",,"two\nlines"\n'
        "k2,+12125550101,Ann,America/Denver,\n"
        ",+49 30 901820,Jörg\n"
        "\n",
    )
    assert report == ImportReport(3, 3, 0, 0, (), "Phone Number")
    one, two, three = await leads(database)
    assert (one.number, one.external_key, one.status) == ("+12125550100", "k1", LeadStatus.NEW)
    assert json.loads(one.fields) == {"Name": "Zoë, née O'Hara", "Note": "two\nlines"}
    assert json.loads(one.zones) == ["America/New_York"]
    assert (one.due_at, one.attempts, one.last_disposition) == (NOON, 0, None)
    assert json.loads(two.zones) == ["America/Denver"]
    assert (three.number, three.external_key, json.loads(three.zones)) == ("+4930901820", None, ["Europe/Berlin"])
    assert json.loads(three.fields) == {"Name": "Jörg", "Note": ""}
    assert await left_over(database) == (0, 0)


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffnumber;name\r\n2125550100;Zoë\r\n".encode(),
        "number\tname\n2125550100\tZoë\n".encode("utf-16"),
        b"\xfe\xff" + "number,name\n2125550100,Zoë".encode("utf-16-be"),
        'sep=;\nnumber;name\n2125550100;"Zoë"'.encode(),
        '"number","name"\n"2125550100","Zoë"\n'.encode(),
        'name,"number"\nZoë,2125550100\n'.encode(),
    ],
)
async def test_encodings_and_delimiters(sqlite_url: str, path: Path, content: bytes) -> None:
    async with open_database(sqlite_url, node=None) as database:
        await fill(database, 0)
        assert (await bring_in(database, path, content)).added == 1
        (lead,) = await leads(database)
        assert (lead.number, json.loads(lead.fields)) == ("+12125550100", {"name": "Zoë"})


@pytest.mark.parametrize(
    ("content", "options", "complaint"),
    [
        ("rufnummer,name\n2125550100,x\n", {}, "has the columns 'rufnummer', 'name', and none of them is known"),
        ("number,name\n1,x\n", {"number_column": "handy"}, "and none is called 'handy'"),
        ("2125550100\n2125550101\n", {}, "the first line must name the columns"),
        ("", {}, "is empty: its first line should name the columns"),
        ("number,Name,name\n", {}, "name is there more than once"),
        ("number,name\n2125550100,Zo\xeb\n".encode("latin-1"), {}, "is not UTF-8: save it as"),
        ('number,name\n2125550100,x\n2125550101,"open\n', {}, "line 3: unexpected end of data; check the quotes"),
        ('number,name\n2125550100,"a"b\n', {}, "line 2:"),
        ('"number"x,name\n2125550100,a\n', {}, "line 1: ',' expected after '\"'; check the quotes"),
        ('sep=;\n"number;name\n2125550100;a\n', {}, "line 2: unexpected end of data; check the quotes"),
        (f"number,{'a' * 140_000}\n", {}, "line 1: field larger than field limit"),
        (f"number,{','.join(map(str, range(20_000)))}\n2125550100\n", {}, "has 20001 columns: keep at most 1000"),
        ('sep="\nnumber"name\n2125550100"a\n', {}, "has the columns"),
        ("sep=\r\nnumber\r\n2125550100\r\n", {}, "has the columns 'sep='"),
    ],
)
async def test_a_file_that_cannot_be_used_is_refused_whole(
    sqlite_url: str, path: Path, content: str | bytes, options: dict[str, str], complaint: str
) -> None:
    async with open_database(sqlite_url, node=None) as database:
        await fill(database, 0)
        with pytest.raises(InputRefusedError) as refused:
            await bring_in(database, path, content, **options)
        assert complaint in str(refused.value)
        assert str(path) in str(refused.value)
        assert await leads(database) == []
        assert await left_over(database) == (0, 0)


async def test_no_file_and_no_campaign(sqlite_url: str, path: Path) -> None:
    async with open_database(sqlite_url, node=None) as database:
        with pytest.raises(InputRefusedError, match="there is no campaign 'spring'"):
            await import_csv(database, path, "spring", now=NOON)
        await fill(database, 0)
        with pytest.raises(InputRefusedError, match="No such file"):
            await import_csv(database, path, "spring", now=NOON)


async def test_a_named_column(sqlite_url: str, path: Path) -> None:
    async with open_database(sqlite_url, node=None) as database:
        await fill(database, 0)
        report = await bring_in(database, path, "number,Handy Nr\n7,2125550100\n", number_column="handy nr")
        assert (report.added, report.number_column) == (1, "Handy Nr")
        assert json.loads((await leads(database))[0].fields) == {"number": "7"}


async def test_three_bad_numbers_in_a_thousand(database: Database, path: Path) -> None:
    await fill(database, 0)
    bad = {17: "12ab", 500: "", 999: "4.91E+11"}
    lines = [f"{bad.get(line, f'21255{line:05}')},n{line}" for line in range(2, 1002)]
    report = await bring_in(database, path, "number,name\n" + "\n".join(lines) + "\n")
    assert (report.rows, report.added, report.duplicates) == (1000, 997, 0)
    assert {refusal.line: refusal.value for refusal in report.refused} == bad
    assert report.refused[0].reason == ("'12ab' is not a phone number in US; give it as +1… or as it is dialed in US")
    assert len(await leads(database)) == 997


async def test_rows_that_are_refused(sqlite_url: str, path: Path) -> None:
    async with open_database(sqlite_url, node=None) as database:
        await fill(database, 0)
        report = await bring_in(
            database,
            path,
            "number,name,timezone\n"
            '2125550100,"two\nlines",\n'
            "2125550101,Smith, Ann,,\n"
            "2125550101,Smith,,Ann\n"
            "2125550102,x,Mars/Base\n"
            "+80012345678,x,\n"
            "2125550103,nul\0,\n"
            "+80012345678,x,Europe/Berlin\n",
        )
        not_a_zone = "is not a time zone: it should be a zone of the tz database, like Europe/Berlin"
        assert [(refusal.line, refusal.value, refusal.reason.split(";")[0]) for refusal in report.refused] == [
            (4, "Ann", f"'Ann' {not_a_zone}"),
            (5, "Ann", "there are more values than the 3 columns"),
            (6, "Mars/Base", f"'Mars/Base' {not_a_zone}"),
            (7, "+80012345678", "'+80012345678' belongs to no place, so its calling hours are not known"),
            (8, "nul\0", "there is a NUL character in it"),
        ]
        assert (report.rows, report.added) == (7, 2)


async def test_duplicates_in_the_list_and_in_the_campaign(database: Database, path: Path) -> None:
    await fill(database, 0)
    first = await bring_in(database, path, "number,name\n2125550100,first\n(212) 555-0100,second\n2125550101,x\n")
    assert (first.added, first.duplicates_in_list, first.duplicates_in_campaign) == (2, 1, 0)
    before = [lead.model_dump() for lead in await leads(database)]
    again = await bring_in(database, path, "number,name\n2125550100,third\n2125550102,y\n2125550102,z\n")
    assert (again.rows, again.added, again.duplicates_in_list, again.duplicates_in_campaign) == (3, 1, 1, 1)
    assert again.duplicates == 2
    after = await leads(database)
    assert [lead.model_dump() for lead in after[:2]] == before
    assert json.loads(after[0].fields)["name"] == "first"
    assert json.loads(after[2].fields)["name"] == "y"


async def test_a_campaign_with_a_zone_takes_numbers_that_are_nowhere(sqlite_url: str, path: Path) -> None:
    async with open_database(sqlite_url, node=None) as database:
        await fill(database, 0, campaign=CAMPAIGN.model_copy(update={"timezone": "Europe/Berlin"}))
        assert (await bring_in(database, path, "number\n+80012345678\n")).added == 1


LONG = "number\n" + "".join(f"21255{i:05}\n" for i in range(900))


async def test_an_import_that_is_interrupted_leaves_nothing(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "CHUNK", 100)
    await fill(database, 0)
    stage = staging.stage
    chunks = 0
    scope = trio.CancelScope()

    def interrupt(*args: object, **options: object) -> None:
        nonlocal chunks
        chunks += 1
        stage(*args, **options)  # type: ignore[arg-type]
        if chunks == 5:
            trio.from_thread.run_sync(scope.cancel, trio_token=token)

    token = trio.lowlevel.current_trio_token()
    monkeypatch.setattr(staging, "stage", interrupt)
    with scope:
        await bring_in(database, path, LONG)
    assert scope.cancelled_caught
    assert chunks == 5
    assert await leads(database) == []
    assert await left_over(database) == (0, 0)


async def test_a_list_that_turns_out_bad_late_leaves_nothing(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "CHUNK", 100)
    await fill(database, 0)
    with pytest.raises(InputRefusedError, match="line 902"):
        await bring_in(database, path, LONG + '"open\n')
    assert await leads(database) == []
    assert await left_over(database) == (0, 0)


async def test_killed_before_the_seal_it_is_thrown_away_by_the_next(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = await fill(database, 0)
    monkeypatch.setattr(staging, "CHUNK", 2)
    rows = [{"number": f"+1212555010{i}", "zones": "[]", "external_key": None, "fields": "{}"} for i in range(5)]
    import_id = await database.write(lambda s: staging.begin_import(s, filled.id, "x", NOON))
    await database.write(lambda s: staging.stage(s, import_id, rows))

    assert (await bring_in(database, path, "number\n2125550199\n")).added == 1
    assert [lead.number for lead in await leads(database)] == ["+12125550199"]
    assert await left_over(database) == (0, 0)
    with pytest.raises(InputRefusedError, match="import one list after the other"):  # had it been alive
        await database.write(lambda s: staging.stage(s, import_id, rows))
    with pytest.raises(InputRefusedError, match="import one list after the other"):
        await database.write(lambda s: staging.seal(s, import_id, NOON))


async def test_killed_after_the_seal_it_is_carried_out_by_the_next(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "CHUNK", 100)
    await fill(database, 0)
    carry_out = staging.carry_out
    chunks = 0

    def die(*args: object, **options: object) -> int | None:
        nonlocal chunks
        chunks += 1
        if chunks == 4:
            raise UnavailableError("killed")
        return carry_out(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(staging, "carry_out", die)
    with pytest.raises(UnavailableError):
        await bring_in(database, path, LONG)
    assert len(await leads(database)) == 300
    monkeypatch.setattr(staging, "carry_out", carry_out)
    await finish_imports(database, NOON)
    assert len({lead.number for lead in await leads(database)}) == 900
    assert await left_over(database) == (0, 0)


async def test_two_may_carry_out_one_import(url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "CHUNK", 100)
    async with open_database(url, node=None) as one, open_database(url, node=None) as other:
        filled = await fill(one, 0)
        import_id = await one.write(lambda s: staging.begin_import(s, filled.id, "x", NOON))
        rows = [{"number": f"+1{i:010}", "zones": "[]", "external_key": None, "fields": "{}"} for i in range(900)]
        await one.write(lambda s: staging.stage(s, import_id, rows))
        assert await one.write(lambda s: staging.seal(s, import_id, NOON)) == 900
        async with trio.open_nursery() as nursery:
            nursery.start_soon(finish_imports, one, NOON)
            nursery.start_soon(finish_imports, other, NOON)
        assert len(await leads(one)) == 900
        assert await left_over(one) == (0, 0)


def test_every_name_of_a_number_column_is_plain() -> None:
    for name in (*list_import.NUMBER_COLUMNS, *list_import.KEY_COLUMNS, *list_import.ZONE_COLUMNS):
        assert list_import._plain(name) == name
