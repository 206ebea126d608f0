from __future__ import annotations

import csv
import io
import json
import os
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
from sqlalchemy import text
from sqlmodel import col, select

from campaigns import (
    list_columns,
    list_export,
    list_import,
    list_worker,
    list_workers,
    staging,
    suppression_store,
)
from campaigns.database import Database, open_database
from campaigns.lead import LeadStatus, Queue, numbers_from_json
from campaigns.lead_changes import LeadDetails, change_lead, locked_leads
from campaigns.list_columns import parse_told
from campaigns.list_import import ImportOptions, ImportReport, finish_imports, import_list
from campaigns.list_rows import StagedLead, pack, task_of
from campaigns.staging import Counts, Terms
from campaigns.store import LeadRow, lead_list
from campaigns.suppression_store import NewEntry, Scope
from campaigns.tables import LeadListRow
from dialer.errors import InputRefusedError, UnavailableError
from dialer.text_table import safe_cell

from .conftest import CAMPAIGN, NOON, fill


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "list.csv"


async def leads(database: Database) -> list[LeadRow]:
    return await database.read(lambda s: list(s.exec(select(LeadRow).order_by(col(LeadRow.id))).all()))


def facts(lead: LeadRow) -> dict[str, object]:
    return {name: getattr(lead, name) for name in LeadRow.model_fields}


async def bring_in(
    database: Database, path: Path, content: str | bytes, campaign: str = "spring", **options: Any
) -> ImportReport:
    await trio.Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
    if "columns" in options:
        options["columns"] = parse_told(options["columns"])
    return await import_list(database, path, campaign, now=NOON, options=ImportOptions(**options))


async def left_over(database: Database) -> tuple[int, int]:
    """Chunks put aside, and imports that are not finished."""

    def work(session: object) -> tuple[int, int]:
        rows, imports = (
            session.connection().execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # type: ignore[attr-defined]
            for table in ("staged_chunk", "list_import WHERE finished_at IS NULL")
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
    assert (report.rows, report.counts, report.refused, report.refused_file) == (3, Counts(added=3), (), None)
    assert (report.number_column, report.list_name) == ("Phone Number", "list")
    one, two, three = await leads(database)
    assert (one.number, one.external_key, one.status) == ("+12125550100", "k1", LeadStatus.NEW)
    assert json.loads(one.fields) == {"Name": "Zoë, née O'Hara", "Note": "two\nlines"}
    assert json.loads(one.zones) == ["America/New_York"]
    assert (one.region, one.kind, one.numbers, one.first_number) == ("US-NY", "fixed_or_mobile", "[]", None)
    assert (one.queue, one.priority, one.put_off_by) == (Queue.NEW, 0, None)
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
        ("nr,name\n7,x\n", {}, "has the columns 'nr', 'name', and none of them is known"),
        ("number,name\n1,x\n", {"columns": ["number=handy"]}, "and none is called 'handy'"),
        ("2125550100\n2125550101\n", {}, "the first line must name the columns"),
        ("", {}, "is empty: its first line should name the columns"),
        ("number,Name,name\n", {}, "name is there more than once"),
        ("number,name\n2125550100,Zo\xeb\n".encode("latin-1"), {"encoding": "utf-8"}, "is not UTF-8: save it as"),
        ("number,name\n2125550100,x\n", {"encoding": "klingon"}, "there is no encoding 'klingon'"),
        ("number,name\n2125550100,x\n", {"delimiter": ";;"}, "the delimiter ';;' should be one character"),
        ("number,name\n2125550100,x\n", {"sheet": "One"}, "is no spreadsheet, so it has no sheet 'One'"),
        ("number,name\n2125550100,x\n", {"list_name": " "}, "the list's name ' ' should have 1 to 63 characters"),
        ("number,name\n2125550100,x\n", {"columns": ["name=number"]}, "should be ROLE=COLUMN, where ROLE is one of"),
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
    sqlite_url: str, path: Path, content: str | bytes, options: dict[str, Any], complaint: str
) -> None:
    async with open_database(sqlite_url, node=None) as database:
        await fill(database, 0)
        with pytest.raises(InputRefusedError) as refused:
            await bring_in(database, path, content, **options)
        assert complaint in str(refused.value)
        assert str(path) in str(refused.value) or options
        assert await leads(database) == []
        assert await left_over(database) == (0, 0)


async def test_no_file_and_no_campaign(sqlite_url: str, path: Path) -> None:
    async with open_database(sqlite_url, node=None) as database:
        with pytest.raises(InputRefusedError, match="there is no campaign 'spring'"):
            await import_list(database, path, "spring", now=NOON)
        await fill(database, 0)
        with pytest.raises(InputRefusedError, match="No such file"):
            await import_list(database, path, "spring", now=NOON)


async def test_a_named_column(sqlite_url: str, path: Path) -> None:
    async with open_database(sqlite_url, node=None) as database:
        await fill(database, 0)
        report = await bring_in(database, path, "number,Handy Nr\n7,2125550100\n", columns=["number=handy nr"])
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
    assert first.counts == Counts(added=2, duplicates_in_list=1)
    before = [facts(lead) for lead in await leads(database)]
    again = await bring_in(database, path, "number,name\n2125550100,third\n2125550102,y\n2125550102,z\n")
    assert again.counts == Counts(added=1, duplicates_in_list=1, duplicates_in_campaign=1)
    assert again.rows == 3
    assert again.duplicates == 2
    after = await leads(database)
    assert [facts(lead) for lead in after[:2]] == before
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


async def test_a_list_turns_out_bad_while_its_first_rows_wait_for_the_database(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "CHUNK", 100)
    await fill(database, 0)

    async def wait(*_args: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(list_import._Staged, "put", wait)
    with trio.fail_after(60), pytest.raises(InputRefusedError, match="line 202"):
        await bring_in(database, path, "\n".join(LONG.split("\n")[:201]) + '\n"open\n')
    assert await left_over(database) == (0, 0)


async def test_killed_before_the_seal_it_is_thrown_away_by_the_next(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = await fill(database, 0)
    monkeypatch.setattr(staging, "CHUNK", 2)
    rows = staged(5)
    import_id = await database.write(lambda s: staging.begin_import(s, filled.id, "x", Terms("x"), NOON))
    for _ in range(3):
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
    monkeypatch.setattr(list_import, "CHUNKS_ALONE", 1)  # each is a transaction, however quiet the database is
    await fill(database, 0)
    carry_out = staging.carry_out
    chunks = 0

    def die(*args: object, **options: object) -> staging.CarriedOut | None:
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
    report = await bring_in(database, path, LONG)
    assert [(one.source, one.counts.added) for one in report.finished] == [(str(path), 900)]
    assert (report.added, report.duplicates) == (0, 900)
    assert len({lead.number for lead in await leads(database)}) == 900
    assert await left_over(database) == (0, 0)


async def test_two_may_carry_out_one_import(url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "CHUNK", 100)
    async with open_database(url, node=None) as one, open_database(url, node=None) as other:
        filled = await fill(one, 0)
        import_id = await one.write(lambda s: staging.begin_import(s, filled.id, "x", Terms("x"), NOON))
        for start in range(0, 900, 100):
            await one.write(lambda s, start=start: staging.stage(s, import_id, staged(100, start)))  # type: ignore[misc]
        await one.write(lambda s: staging.seal(s, import_id, NOON))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(finish_imports, one, NOON)
            nursery.start_soon(finish_imports, other, NOON)
        assert len(await leads(one)) == 900
        assert await left_over(one) == (0, 0)


async def test_both_tell_the_whole_when_an_import_carries_another_out_that_is_alive(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "CHUNK", 100)
    monkeypatch.setattr(list_import, "CHUNKS_ALONE", 1)
    async with open_database(url, node=None) as one, open_database(url, node=None) as other:
        await fill(one, 0)
        await fill(one, 0, campaign=CAMPAIGN.model_copy(update={"name": "autumn"}))
        reports: dict[str, ImportReport] = {}
        begun = trio.Event()
        store = list_import._Turns.write

        async def in_turn(turns: Any, work: Any) -> Any:
            result = await store(turns, work)
            if isinstance(result, staging.CarriedOut):
                begun.set()
                await trio.sleep(0.01)  # for the other, who is at it too
            return result

        monkeypatch.setattr(list_import._Turns, "write", in_turn)

        async def first() -> None:
            reports["first"] = await bring_in(one, tmp_path / "first.csv", LONG)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await begun.wait()
            reports["second"] = await bring_in(other, tmp_path / "second.csv", LONG, "autumn")
        assert (reports["first"].added, reports["second"].added) == (900, 900)
        # The first may have been told, and have forgotten it, before the second looked again.
        assert [one.counts.added for one in reports["second"].finished] in ([], [900])
        assert await left_over(one) == (0, 0)


async def test_who_helps_an_import_to_its_end_tells_all_or_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = await fill(database, 0)
    import_id = await database.write(lambda s: staging.begin_import(s, filled.id, "x.csv", Terms("list"), NOON))
    for start in range(2):
        chunk = staged(1, start)
        await database.write(lambda s, chunk=chunk: staging.stage(s, import_id, chunk))  # type: ignore[misc]
    await database.write(lambda s: staging.seal(s, import_id, NOON))
    carry_out, looks = staging.carry_out, count()

    def carried(session: Any, import_id: int, now: datetime, chunks: int) -> Any:
        if next(looks) == 1:  # the importer does the rest between our two looks
            while not (far := carry_out(session, import_id, now)) or not far.finished:
                pass
            staging.forget(session, import_id)
        return carry_out(session, import_id, now, 1)

    monkeypatch.setattr(staging, "carry_out", carried)
    assert await finish_imports(database, NOON) == ()


async def test_two_imports_at_one_time_add_a_number_once(url: str, tmp_path: Path) -> None:
    """Into two campaigns, unique everywhere: whoever comes second finds what the first has added."""
    async with open_database(url, node=None) as one, open_database(url, node=None) as other:
        await fill(one, 0)
        await fill(one, 0, campaign=CAMPAIGN.model_copy(update={"name": "autumn"}))
        reports: list[ImportReport] = []

        async def run(database: Database, campaign: str) -> None:
            path = tmp_path / f"{campaign}.csv"
            reports.append(await bring_in(database, path, LONG, campaign, unique_in="everywhere"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, one, "spring")
            nursery.start_soon(run, other, "autumn")
        assert sum(report.added for report in reports) == 900
        assert sum(report.counts.duplicates_elsewhere for report in reports) == 900
        assert len({lead.number for lead in await leads(one)}) == len(await leads(one)) == 900


def staged(count: int, start: int = 0) -> bytes:
    return pack([StagedLead(f"+1{start + i:010}", "[]", None, "unknown", "[]", "{}") for i in range(count)])


async def names(database: Database) -> list[str]:
    return await database.read(
        lambda s: [row.name for row in s.exec(select(LeadListRow).order_by(col(LeadListRow.id)))]
    )


async def test_lists_are_named_and_made_on_first_use(database: Database, tmp_path: Path) -> None:
    await fill(database, 0)
    before = await names(database)
    first = tmp_path / "march 2026.csv"
    assert (await bring_in(database, first, "number\n2125550100\n")).list_name == "march 2026"
    await bring_in(database, first, "number\n2125550101\n", list_name="summer")
    await bring_in(database, tmp_path / "b.csv", "number\n2125550102\n", list_name="summer")
    with pytest.raises(InputRefusedError):
        await bring_in(database, tmp_path / "bad.csv", "")
    assert await names(database) == [*before, "march 2026", "summer"]


@pytest.mark.parametrize(
    ("unique_in", "same_list", "other_list", "other_campaign"),
    [("list", 0, 1, 1), ("campaign", 0, 0, 1), ("everywhere", 0, 0, 0)],
)
async def test_where_a_number_may_be_once(
    database: Database, path: Path, unique_in: str, same_list: int, other_list: int, other_campaign: int
) -> None:
    await fill(database, 0)
    await fill(database, 0, campaign=CAMPAIGN.model_copy(update={"name": "autumn"}))
    await bring_in(database, path, "number\n2125550100\n", list_name="a")
    content = "number\n2125550100\n"
    again = await bring_in(database, path, content, list_name="a", unique_in=unique_in)
    assert (again.added, again.duplicates) == (same_list, 1 - same_list)
    other = await bring_in(database, path, content, "autumn", list_name="a", unique_in=unique_in)
    assert (other.added, other.counts.duplicates_elsewhere) == (other_campaign, 1 - other_campaign)
    second = await bring_in(database, path, content, list_name="b", unique_in=unique_in)
    assert (second.added, second.duplicates) == (other_list, 1 - other_list)


async def test_by_key_leads_are_changed_but_never_their_status(database: Database, path: Path) -> None:
    await fill(database, 0)
    await bring_in(
        database, path, "id,number,name,priority,account\nk1,2125550100,Ann,5,A1\nk2,2125550101,Bo,,\n", by="key"
    )
    one, two = await leads(database)
    await database.write(lambda s: s.execute(text("UPDATE lead SET status = 'done', attempts = 2, queue = NULL")))
    report = await bring_in(
        database, path, "id,number,name\nk1,3055550100,Anna\nk3,2125550103,New\nk3,2125550104,Newer\n", by="key"
    )
    assert report.counts == Counts(added=1, updated=1, duplicates_in_list=1, over=1)
    after = await leads(database)
    assert (after[0].id, after[0].number, after[0].region) == (one.id, "+13055550100", "US-FL")
    assert (json.loads(after[0].fields), after[0].priority, after[0].account) == ({"name": "Anna"}, 5, "A1")
    assert (after[0].status, after[0].attempts, after[0].queue) == (LeadStatus.DONE, 2, None)
    assert facts(after[1]) == facts(two) | {"status": LeadStatus.DONE, "attempts": 2, "queue": None}
    assert (after[2].number, json.loads(after[2].fields)) == ("+12125550104", {"name": "Newer"})
    nobody = await bring_in(database, path, "id,number\n,2125550109\n", by="key")
    assert "there is no external key in this row" in nobody.refused[0].reason


async def test_by_key_a_list_leaves_what_it_has_no_column_for(database: Database, path: Path) -> None:
    await fill(database, 0)
    await bring_in(database, path, "id,number,name,city,debt\nk1,2125550100,Ann,Albany,\u20ac5\n", by="key")
    await bring_in(database, path, "id,number,debt,city\nk1,2125550100,0,\n", by="key")
    (lead,) = await leads(database)
    assert json.loads(lead.fields) == {"name": "Ann", "city": "", "debt": "0"}


async def test_by_key_a_list_that_names_no_place_leaves_leads_where_they_were(database: Database, path: Path) -> None:
    async def here() -> tuple[str, str | None, list[str]]:
        (lead,) = await leads(database)
        return lead.number, lead.region, json.loads(lead.zones)

    await fill(database, 0)
    florida = ["America/New_York", "America/Chicago"]
    await bring_in(database, path, "id,number,state\nk1,2125550100,FL\n", by="key")
    assert await here() == ("+12125550100", "US-FL", florida)
    await bring_in(database, path, "id,number,name\nk1,2125550100,Ann\n", by="key")
    assert await here() == ("+12125550100", "US-FL", florida)
    await bring_in(
        database, path, "id,number,state\nk1,2125550100,\n", by="key"
    )  # it has the column, and says nothing
    assert await here() == ("+12125550100", "US-FL", florida)
    await bring_in(database, path, "id,number,timezone\nk1,2125550100,America/Chicago\n", by="key")
    assert await here() == ("+12125550100", "US-FL", ["America/Chicago"])
    await bring_in(database, path, "id,number,phone 2\nk1,2125550100,2125550101\n", by="key")
    (lead,) = await leads(database)
    assert [one[1::2] for one in json.loads(lead.numbers)] == [
        [["America/Chicago"], "US-FL"],
        [["America/New_York"], "US-NY"],
    ]
    await bring_in(database, path, "id,number,state\nk1,2125550100,CA\n", by="key")
    assert await here() == ("+12125550100", "US-CA", ["America/Los_Angeles"])
    await bring_in(database, path, "id,number\nk1,3055550100\n", by="key")  # another number is where it is
    assert await here() == ("+13055550100", "US-FL", ["America/New_York"])


async def test_by_key_a_call_back_is_promised_to_a_lead_that_is_there(database: Database, path: Path) -> None:
    await fill(database, 0)
    await bring_in(database, path, "id,number\nk1,2125550100\nk2,2125550101\nk3,2125550102\n", by="key")
    await database.write(lambda s: s.execute(text("UPDATE lead SET status = 'done', queue = NULL WHERE id > 1")))
    content = (
        "id,number,callback_at\nk1,2125550100,2026-12-01 14:30\nk2,2125550101,2026-12-01 14:30\n"
        "k3,2125550102,2026-11-20 14:30\n"
    )
    await bring_in(database, path, content, by="key")
    one, two, three = await leads(database)
    moment = datetime(2026, 12, 1, 19, 30, tzinfo=UTC)
    assert (one.callback_at, one.due_at, one.queue, one.status) == (moment, moment, None, LeadStatus.NEW)
    assert (two.callback_at, two.due_at, two.queue, two.status) == (moment, moment, None, LeadStatus.WAITING)
    assert (three.callback_at, three.status) == (None, LeadStatus.DONE)  # it is over: the list is of yesterday
    await bring_in(database, path, "id,number\nk1,2125550100\n", by="key")  # it says nothing of it
    assert (await leads(database))[0].callback_at == moment


async def test_a_dry_run_tells_lists_apart_that_would_be_made(database: Database, path: Path) -> None:
    await fill(database, 0)
    content = "number,list\n2125550100,a\n2125550100,b\n2125550100,a\n"
    for dry_run in (True, False):
        report = await bring_in(database, path, content, columns=["list=list"], unique_in="list", dry_run=dry_run)
        assert report.counts == Counts(added=2, duplicates_in_list=1)


async def test_the_numbers_of_a_lead_in_a_call_stay(database: Database, path: Path) -> None:
    await fill(database, 0)
    await bring_in(database, path, "id,number,name\nk1,2125550100,Ann\n", by="key")
    await database.write(lambda s: s.execute(text("UPDATE lead SET status = 'dialing', queue = NULL")))
    report = await bring_in(database, path, "id,number,name\nk1,3055550100,Anna\n", by="key")
    assert report.counts == Counts(updated=1, numbers_kept=1)
    (lead,) = await leads(database)
    assert (lead.number, json.loads(lead.fields), lead.status) == (
        "+12125550100",
        {"name": "Anna"},
        LeadStatus.DIALING,
    )


async def test_several_numbers_of_a_lead_keep_their_order(database: Database, path: Path) -> None:
    await fill(database, 0)
    report = await bring_in(
        database,
        path,
        "mobile,phone,phone 2,name\n3055550100,2125550100,2125550100,Ann\n3055550101,,x,Bo\n,,,Nobody\n,12ab,,Bad\n",
    )
    assert (report.added, [refusal.line for refusal in report.refused]) == (2, [4, 5])
    assert report.notes == {"one of several numbers of a lead is none, and was left out": 1}
    ann, bo = await leads(database)
    assert json.loads(ann.numbers) == [
        ["+12125550100", ["America/New_York"], "fixed_or_mobile", "US-NY"],
        ["+13055550100", ["America/New_York"], "fixed_or_mobile", "US-FL"],
    ]
    assert (ann.number, ann.number_no, ann.first_number) == ("+12125550100", 0, "+12125550100")
    assert (bo.number, bo.numbers, bo.first_number) == ("+13055550101", "[]", None)


async def test_a_lead_is_known_by_its_first_number_whichever_is_next(database: Database, path: Path) -> None:
    await fill(database, 0)
    await bring_in(database, path, "phone,phone 2\n2125550100,2125550101\n")
    await database.write(lambda s: s.execute(text("UPDATE lead SET number = '+12125550101', number_no = 1")))
    again = await bring_in(database, path, "phone,phone 2\n2125550100,2125550199\n")
    assert again.counts == Counts(duplicates_in_campaign=1)
    other = await bring_in(database, path, "phone\n2125550101\n")  # the second number of somebody is another's first
    assert other.counts == Counts(added=1)


async def test_where_a_lead_is_by_zone_postal_code_region_or_number(database: Database, path: Path) -> None:
    await fill(database, 0)
    report = await bring_in(
        database,
        path,
        "number,timezone,state,zip\n"
        "2125550100,,,\n"
        "2125550101,,CA,\n"
        "2125550102,,California,33101\n"
        "2125550103,Europe/Paris,FL,\n"
        "2125550104,,Atlantis,\n"
        "2125550105,,,2134\n"
        "2125550106,,DE-BY,\n"
        "3055550106,America/New_York,SE-1,\n"
        "+498912345678,,DE-BY,\n"
        "8005550107,,Texas,\n"
        "8005550108,,,\n",
    )
    found = [(lead.region, json.loads(lead.zones)) for lead in await leads(database)]
    east, west = "America/New_York", "America/Los_Angeles"
    assert found == [
        ("US-NY", [east]),
        ("US-CA", [west]),
        ("US-FL", [east, "America/Chicago"]),
        ("US-FL", ["Europe/Paris"]),
        ("US-NY", [east]),
        ("US-MA", [east]),
        ("US-NY", [east]),
        ("US-FL", [east]),
        ("DE-BY", ["Europe/Berlin"]),
        ("US-TX", ["America/Chicago", "America/Denver"]),
    ]
    assert report.notes == {"the region is none that is known: the place is taken from the number": 3}
    assert [refusal.value for refusal in report.refused] == ["8005550108"]
    assert "belongs to no place" in report.refused[0].reason


async def test_a_consent_of_a_day_was_given_by_its_end_wherever_that_was(database: Database, path: Path) -> None:
    await fill(database, 0)
    content = "number,state,consent_at,callback_at\n2125550100,FL,2026-10-01,\n2125550101,FL,,2026-12-01 14:30\n"
    report = await bring_in(database, path, content)
    (one,) = await leads(database)
    assert one.consent_at is not None
    assert one.consent_at.isoformat() == "2026-10-01T05:00:00+00:00"  # midnight in Chicago, an hour after New York
    assert [refusal.line for refusal in report.refused] == [3]


async def test_other_roles(database: Database, path: Path) -> None:
    await fill(database, 0)
    report = await bring_in(
        database,
        path,
        "number,account,priority,consent_at,consent_evidence,callback_at\n"
        "2125550100,A1,-3,2026-01-02,form 7,2026-12-01 14:30\n"
        "2125550101,,high,,,\n"
        "2125550102,,,2027-01-01,,\n"
        "3055550103,,,,,2026-12-01T14:30+01:00\n"
        "2125550104,,,,,tomorrow\n",
    )
    one, two = await leads(database)
    assert (one.account, one.priority, one.consent_evidence) == ("A1", -3, "form 7")
    assert one.consent_at is not None
    assert one.consent_at.isoformat() == "2026-01-02T05:00:00+00:00"
    assert one.callback_at is not None
    assert (one.callback_at.isoformat(), one.due_at, one.queue) == (
        "2026-12-01T19:30:00+00:00",
        one.callback_at,
        None,
    )
    assert two.callback_at is not None
    assert two.callback_at.isoformat() == "2026-12-01T13:30:00+00:00"
    assert [(refusal.line, refusal.value) for refusal in report.refused] == [
        (3, "high"),
        (4, "2027-01-01"),
        (6, "tomorrow"),
    ]


async def test_moments_are_stored_as_those_of_other_leads_are(sqlite_url: str, path: Path) -> None:
    """In text of one width, as SQLite compares them by."""
    async with open_database(sqlite_url, node=None) as database:
        await fill(database, 1)
        await bring_in(database, path, "number,callback_at,consent_at\n3055550100,2026-12-01 14:30,2026-01-02\n")
        columns = "due_at, created_at, updated_at, coalesce(callback_at, due_at), coalesce(consent_at, due_at)"
        rows = await database.read(lambda s: s.execute(text(f"SELECT {columns} FROM lead")).all())
        assert {len(moment) for row in rows for moment in row} == {len("2026-11-23 17:00:00.000000")}
        assert rows[1][3] == "2026-12-01 19:30:00.000000"


async def test_a_column_may_say_the_list(database: Database, path: Path) -> None:
    await fill(database, 0)
    before = await names(database)
    content = "number,which\n2125550100,a\n2125550101,b\n2125550102,\n"
    await bring_in(database, path, content, columns=["list=which"], list_name="rest")
    assert sorted(await names(database)) == sorted([*before, "a", "b", "rest"])
    lists = await database.read(lambda s: {row.id: row.name for row in s.exec(select(LeadListRow)).all()})
    assert [lists[lead.list_id] for lead in await leads(database)] == ["a", "b", "rest"]


async def test_who_is_on_a_do_not_call_list_comes_in_and_is_not_called(database: Database, path: Path) -> None:
    await fill(database, 0)

    def forbid(entry: NewEntry, scope: Scope, name: str, expires_at: datetime | None = None) -> Any:
        return lambda s: suppression_store.add_entries(
            s, [entry], scope=scope, scope_name=name, source="x", added_by="x", now=NOON, expires_at=expires_at
        )

    await database.write(forbid(NewEntry("+12125550100"), Scope.SYSTEM, ""))
    await database.write(forbid(NewEntry("+12125550101"), Scope.CAMPAIGN, "autumn"))
    await database.write(forbid(NewEntry("+1305", is_prefix=True), Scope.CAMPAIGN, "spring"))
    await database.write(forbid(NewEntry("+12125550102"), Scope.SYSTEM, "", NOON))
    content = (
        "phone,phone 2\n2125550100,\n2125550101,\n3055550100,\n2125550102,\n2125550100,4155550100\n3055550101,\n"
    )
    report = await bring_in(database, path, content)
    assert report.counts == Counts(added=5, suppressed=3, duplicates_in_list=1)
    found = [(lead.number, lead.status, lead.queue) for lead in await leads(database)]
    assert found == [
        ("+12125550100", LeadStatus.SUPPRESSED, None),
        ("+12125550101", LeadStatus.NEW, Queue.NEW),
        ("+13055550100", LeadStatus.SUPPRESSED, None),
        ("+12125550102", LeadStatus.NEW, Queue.NEW),
        ("+13055550101", LeadStatus.SUPPRESSED, None),
    ]
    await bring_in(database, path, "phone,phone 2\n3055550199,4155550199\n")
    last = (await leads(database))[-1]
    assert (last.number, last.number_no, last.first_number, last.region) == (
        "+14155550199",
        1,
        "+13055550199",
        "US-CA",
    )
    assert last.status is LeadStatus.NEW


async def test_a_dry_run_tells_what_would_be_and_stores_nothing(database: Database, path: Path) -> None:
    await fill(database, 0)
    await bring_in(database, path, "id,number\nk1,2125550100\n")
    content = "id,number,name\nk1,2125550100,x\nk2,2125550101,Zoë\nk2,2125550101,y\nk3,12ab,z\n"
    before = [facts(lead) for lead in await leads(database)]
    for by, counts in (
        ("number", Counts(added=1, duplicates_in_list=1, duplicates_in_campaign=1)),
        ("key", Counts(added=1, updated=1, duplicates_in_list=1)),
    ):
        report = await bring_in(database, path, content, by=by, dry_run=True)
        assert report.counts == counts
        assert [facts(lead) for lead in await leads(database)] == before
        assert await left_over(database) == (0, 0)
        assert report.refused_file is None
        real = await bring_in(database, path.with_name(f"{by}.csv"), content, by=by)
        assert real.counts == counts
        await database.write(lambda s: s.execute(text("DELETE FROM lead WHERE id > 1")))
        await database.write(lambda s: s.execute(text("UPDATE lead SET fields = '{}', updated_at = created_at")))
    assert [lead.number for lead in report.first] == ["+12125550100", "+12125550101", "+12125550101"]
    assert report.columns.described()[1] == ("number", "number", "by name")


async def test_refused_rows_are_kept_in_a_file_that_a_spreadsheet_may_open(sqlite_url: str, path: Path) -> None:
    async with open_database(sqlite_url, node=None) as database:
        await fill(database, 0)
        report = await bring_in(database, path, 'number,name\n=1+1,"a, ""b"""\n2125550100,x\n12ab,@SUM(A1)\n')
        assert report.refused_file == path.with_name("list.csv.refused.csv")
        with report.refused_file.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
        assert rows[0] == ["refused line", "refused value", "refused reason", "number", "name"]
        assert [[row[0], row[1], *row[3:]] for row in rows[1:]] == [
            ["2", "'=1+1", "'=1+1", 'a, "b"'],
            ["4", "12ab", "12ab", "'@SUM(A1)"],
        ]
        mended = path.with_name("mended.csv")
        text_of_it = report.refused_file.read_text(encoding="utf-8-sig")
        await bring_in(database, mended, text_of_it.replace("'=1+1,\"a", '2125550177,"a'))
        assert json.loads((await leads(database))[-1].fields) == {"name": 'a, "b"'}
        again = await bring_in(database, path, "number,name\n2125550100,x\n")
        assert again.refused_file is None
        assert not report.refused_file.exists()
        elsewhere = path.with_name("bad.csv")
        assert (await bring_in(database, path, "number\n12ab\n", refused_path=elsewhere)).refused_file == elsewhere
        assert sorted(each.name for each in path.parent.glob("*.part")) == []


async def test_refused_rows_that_find_no_place_end_nothing_that_is_a_fact(
    sqlite_url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_database(sqlite_url, node=None) as database:
        await fill(database, 0)
        content, folder = "number\n12ab\n2125550100\n", path.with_name("folder")
        folder.mkdir()
        with pytest.raises(InputRefusedError, match="it is a folder; name a file"):
            await bring_in(database, path, content, refused_path=folder)
        assert [*await leads(database), *await finish_imports(database, NOON)] == []
        monkeypatch.setattr("campaigns.list_refusals.os.replace", fails)
        report = await bring_in(database, path, content)
        assert (report.added, report.refused_file) == (1, path.with_name("list.csv.refused.csv.part"))
        assert report.refused_file is not None
        assert report.refused_file.exists()


def fails(*_args: object) -> None:
    raise OSError("no")


async def test_many_bad_rows_are_counted_and_some_are_told(sqlite_url: str, path: Path) -> None:
    async with open_database(sqlite_url, node=None) as database:
        await fill(database, 0)
        report = await bring_in(database, path, "number\n" + "bad\n" * 3_000)
        assert (report.rows, report.refused_rows, len(report.refused)) == (3_000, 3_000, 1_000)
        assert report.refused_file is not None
        assert len(report.refused_file.read_text(encoding="utf-8-sig").splitlines()) == 3_001


async def test_processes_read_the_same_as_this_one(
    sqlite_url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "CHUNK", 100)
    content = "number,name\n" + "".join(f"{21255 * 10**5 + i if i % 7 else i},n{i}\n" for i in range(2_000))
    told: list[list[Any]] = []
    async with open_database(sqlite_url, node=None) as database:
        await fill(database, 0)
        for workers in (0, 2):
            report = await bring_in(
                database, path, content, workers=workers, list_name=str(workers), unique_in="list"
            )
            rows = [(lead.number, lead.fields) for lead in await leads(database)]
            told.append([report.counts, report.refused, report.rows, rows[-report.added :]])
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("size", "processors", "left", "workers"),
    [
        (77_000_000, 2, 0, 2),
        (77_000_000, 2, 2, 1),
        (77_000_000, 4, 2, 2),
        (77_000_000, 1, 2, 1),
        (1_000_000, 8, 0, 0),
    ],
)
def test_a_long_list_is_read_by_processes_that_leave_room(
    size: int, processors: int, left: int, workers: int
) -> None:
    assert list_import._workers(size, ImportOptions(processors_left=left), processors) == workers


async def test_processes_that_read_give_way_to_a_dialer(path: Path) -> None:
    header = ["number"]
    columns = list_columns.find_columns(path, header, (), sample=[["2125550100"]], is_number=str.isdigit)
    task = task_of(columns, country="US", timezone=None, by_key=False, is_spreadsheet=False, now=NOON)
    async with list_workers.worker_readers(task, 1) as readers, aclosing(readers.chunks()) as chunks:
        await readers.hand_over([(2, ["2125550100"])])
        assert (await anext(chunks)).count == 1
        assert isinstance(readers, list_workers.WorkerReaders)
        process = readers._processes[0].process
        assert psutil.Process(process.pid).nice() == list_worker.NICENESS
        assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE
        session = trio.Path(f"/proc/{process.pid}/autogroup")
        if await session.exists() and (told := await session.read_text()):
            assert told.endswith(f"nice {list_worker.NICENESS}\n")


async def test_a_process_that_dies_ends_the_import_and_leaves_nothing(
    sqlite_url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_workers, "PROGRAM", "campaigns.no_such_program")
    async with open_database(sqlite_url, node=None) as database:
        await fill(database, 0)
        with pytest.raises(UnavailableError, match="nothing was added: import the list again"):
            await bring_in(database, path, LONG, workers=2)
        assert await leads(database) == []
        assert await left_over(database) == (0, 0)


async def test_how_far_it_is_is_told(sqlite_url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "CHUNK", 300)
    told: list[tuple[int, int, int]] = []
    async with open_database(sqlite_url, node=None) as database:
        await fill(database, 0)
        await trio.Path(path).write_text(LONG)
        await import_list(database, path, "spring", now=NOON, progress=lambda *far: told.append(far))
    size = len(LONG)
    assert [(rows, total) for rows, _, total in told] == [
        *((n, size) for n in (300, 600, 900)),
        *((n, 900) for n in (300, 600, 900)),
    ]
    assert all(0 < done <= size for _, done, _ in told[:3])


async def test_room_is_left_for_others_when_they_write(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    sleep = trio.sleep

    async def listen(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(trio, "sleep", listen)
    monkeypatch.setattr(list_import, "REST_ALONE", 0.0)
    monkeypatch.setattr(list_import, "UNKNOWN_SECONDS", 0.0)
    async with open_database(sqlite_url, node=None) as mine, open_database(sqlite_url, node=None) as other:
        turns = list_import._Turns(mine)
        await fill(mine, 0)
        for _ in range(3):
            await turns.write(lambda s: lead_list(s, 1, "list", NOON) and None)
        assert slept == [0.0, 0.0, 0.0]
        assert not turns.shared
        await other.write(lambda s: lead_list(s, 1, "another", NOON) and None)
        await turns.write(lambda s: lead_list(s, 1, "list", NOON) and None)
        assert slept[3] > 0
        assert turns.shared


# What was exported.

AUTUMN = CAMPAIGN.model_copy(update={"name": "autumn"})


async def exported(database: Database) -> str:
    wanted, out = list_export.Wanted(1), io.StringIO()
    shape = await database.read(partial(list_export.table_shape, wanted=wanted))
    page = await database.read(partial(list_export.page, wanted=wanted, after_id=0))
    csv.writer(out).writerows([map(safe_cell, shape.header()), *(map(safe_cell, shape.row(one)) for one in page)])
    return out.getvalue()


async def test_numbers_are_where_they_were_after_an_export(database: Database, path: Path) -> None:
    await fill(database, 0)
    await fill(database, 0, campaign=AUTUMN)
    await bring_in(database, path, "phone,phone 2\n2125550100,3105550100\n")  # New York and Los Angeles
    await bring_in(database, path, await exported(database), campaign="autumn")
    before, after = (numbers_from_json(one.numbers) for one in await leads(database))
    assert [(one.zones, one.region) for one in after] == [(one.zones, one.region) for one in before]


async def test_a_number_that_was_not_to_be_called_is_none_after_an_export(database: Database, path: Path) -> None:
    await fill(database, 0)
    await fill(database, 0, campaign=AUTUMN)
    await bring_in(database, path, "Mobile,Phone\n2125550100,2125550199\n", columns=["number=Mobile"])
    await bring_in(database, path, await exported(database), campaign="autumn")
    assert [one.numbers for one in await leads(database)] == ["[]", "[]"]


async def test_a_lead_that_gets_numbers_during_an_export_keeps_its_columns(database: Database) -> None:
    await fill(database, 1)
    wanted = list_export.Wanted(1)
    shape = await database.read(partial(list_export.table_shape, wanted=wanted))
    more = LeadDetails(["2125550100", "2125550101"])
    await database.write(lambda s: change_lead(s, "spring", locked_leads(s, [1])[0], more, who="ann", now=NOON))
    (one,) = await database.read(partial(list_export.page, wanted=wanted, after_id=0))
    assert len(shape.row(one)) == len(shape.header())
