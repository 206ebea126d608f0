from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import trio
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import TableClause, column, insert, inspect, table, text
from sqlmodel import Session, SQLModel, select

from campaigns import migrate, tables
from campaigns.abandonment import abandoned_of
from campaigns.campaign import CampaignStatus
from campaigns.database import Database, open_database
from campaigns.disposition import Disposition
from campaigns.lead import LeadStatus
from campaigns.tables import AttemptRow, CampaignRow, CdrRow, LeadRow
from dialer.errors import ConfigurationError

from .conftest import NOON
from .test_abandonment_counts import counted, recounted

STOPPED = CampaignStatus.STOPPED
MOMENTS = ("created_at", "sealed_at")
AT_NOON = {"created_at": NOON, "updated_at": NOON}


def schema(session: Session) -> set[str]:
    return set(inspect(session.connection()).get_table_names())


async def test_the_migrated_schema_is_that_of_the_tables(database: Database) -> None:
    def differences(session: Session) -> list[Any]:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        return list(compare_metadata(context, SQLModel.metadata))

    assert await database.read(differences) == []
    assert tables.LeadRow.__tablename__ in await database.read(schema)


async def test_opening_again_changes_nothing(empty_url: str) -> None:
    for _ in range(2):
        async with open_database(empty_url, node=None) as database:
            version = await database.read(
                lambda session: session.connection().execute(text("SELECT version_num FROM alembic_version")).all()
            )
            assert version == [(migrate.head(),)]


async def test_a_newer_database_is_refused_and_not_touched(empty_url: str, tmp_path: Path) -> None:
    async with open_database(empty_url, node=None) as database:
        await database.write(
            lambda session: session.connection().execute(text("UPDATE alembic_version SET version_num = '9999'"))
        )
    path = tmp_path / "dialer.db"
    before = path.read_bytes() if path.exists() else b""
    with pytest.raises(ConfigurationError, match=r"made by a newer version .*9999.* nothing was touched"):
        async with open_database(empty_url, node=None):
            raise AssertionError
    assert not path.exists() or path.read_bytes() == before


async def test_a_migration_that_fails_leaves_nothing_behind(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade = command.upgrade

    def half(config: Any, revision: str) -> None:
        upgrade(config, revision)
        config.attributes["connection"].execute(text("CREATE TABLE half (id INTEGER)"))
        raise ZeroDivisionError

    monkeypatch.setattr(command, "upgrade", half)
    with pytest.raises(ZeroDivisionError):
        async with open_database(empty_url, node=None):
            raise AssertionError
    monkeypatch.setattr(command, "upgrade", lambda config, revision: None)
    async with open_database(empty_url, node=None) as database:
        assert await database.read(schema) == set()
    monkeypatch.setattr(command, "upgrade", upgrade)
    async with open_database(empty_url, node=None) as database:
        assert "lead" in await database.read(schema)


async def test_ddl_rolls_back(database: Database) -> None:
    def work(session: Session) -> None:
        session.connection().execute(text("CREATE TABLE half (id INTEGER)"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(work)
    assert "half" not in await database.read(schema)


async def test_several_programs_may_start_at_once(empty_url: str) -> None:
    """Eight tasks here, and two processes, on a database that does not exist yet."""
    program = (
        "import sys, trio\n"
        "from campaigns.database import open_database\n"
        "async def main():\n"
        "    sys.stdout.write('ready\\n'), sys.stdout.flush(), sys.stdin.readline()\n"
        f"    async with open_database({empty_url!r}, node=None) as database:\n"
        "        await database.write(lambda session: None)\n"
        "trio.run(main)\n"
    )
    others = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: ASYNC220
        for _ in range(2)
    ]
    for other in others:
        assert other.stdout is not None
        assert other.stdin is not None
        await trio.to_thread.run_sync(other.stdout.readline)

    async def open_and_write() -> None:
        async with open_database(empty_url, node=None) as database:
            await database.write(lambda session: None)

    async with trio.open_nursery() as nursery:
        for other in others:
            nursery.start_soon(trio.to_thread.run_sync, partial(other.communicate, b"go\n"))
        for _ in range(8):
            nursery.start_soon(open_and_write)
    assert [other.returncode for other in others] == [0, 0]


async def test_several_databases_may_be_made_at_once(tmp_path: Path) -> None:
    """alembic keeps what it works on in globals of its modules."""

    async def make(number: int) -> None:
        async with open_database(f"sqlite:///{tmp_path}/{number}.db", node=None) as database:
            assert "lead" in await database.read(schema)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(make, number)


def _with(row: type[SQLModel], values: Mapping[str, object]) -> TableClause:
    """The table of `row` with the columns in `values` alone: later ones are not there yet."""
    of_today = SQLModel.metadata.tables[str(row.__tablename__)]
    return table(of_today.name, *(column(name, of_today.c[name].type) for name in values))


async def test_calls_on_record_are_judged_and_counted_when_0003_comes(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the rule judges them, and as if they had been counted one by one."""
    upgrade = command.upgrade
    monkeypatch.setattr(command, "upgrade", lambda config, _: upgrade(config, "0002"))
    answers = [None, NOON, NOON + timedelta(minutes=59, seconds=59, microseconds=999_999), NOON + timedelta(hours=1)]
    known = [
        disposition for disposition in Disposition if disposition is not Disposition.MACHINE
    ]  # none could be told
    kinds = list(product((1, 2), known, answers, (None, 0, 2000, 2001)))

    def fill(session: Session) -> None:
        connection = session.connection()
        names = {1: "spring", 2: "autumn"}
        for number, name in names.items():
            session.add(CampaignRow(id=number, name=name, status=STOPPED, definition="{}", **AT_NOON))
        session.flush()
        lead = {"zones": "[]", "fields": "{}", "status": LeadStatus.NEW, "attempts": 1, "due_at": NOON, **AT_NOON}
        leads = [{"id": n, "campaign_id": n, "number": "+1", **lead} for n in names]
        connection.execute(insert(_with(LeadRow, leads[0])), leads)
        of = {"gateway": "carrier", "switch": "fs1", "node": "test", "attempt_no": 1, "number": "+1"}
        attempts = [
            {"uuid": f"u-{n}", "campaign_id": kind[0], "lead_id": kind[0], "opened_at": NOON, **of}
            for n, kind in enumerate(kinds)
        ]
        connection.execute(insert(_with(AttemptRow, attempts[0])), attempts)
        cdrs = [
            {
                "attempt_uuid": f"u-{n}",
                "campaign_id": campaign_id,
                "lead_id": campaign_id,
                "disposition": disposition,
                "hangup_cause": "",
                "originated_at": NOON,
                "answered_at": answered_at,
                "ended_at": NOON,
                "wait_ms": wait_ms,
                **of,
            }
            for n, (campaign_id, disposition, answered_at, wait_ms) in enumerate(kinds)
        ]
        connection.execute(insert(_with(CdrRow, cdrs[0])), cdrs)

    async with open_database(empty_url, node=None) as database:
        assert "abandonment_hour" not in await database.read(schema)
        await database.write(fill)

    monkeypatch.setattr(command, "upgrade", upgrade)
    async with open_database(empty_url, node=None) as database:
        cdrs = await database.read(lambda session: session.exec(select(CdrRow)).all())
        assert len(cdrs) == len(kinds)
        assert [cdr.abandoned for cdr in cdrs] == [abandoned_of(cdr, 2.0) for cdr in cdrs]
        assert await database.read(counted) == await database.read(recounted)
        assert len(await database.read(counted)) == 4


async def test_an_import_that_was_read_whole_is_carried_out_when_0007_comes(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was not read whole leaves nothing, and who was there already is not doubled."""
    upgrade = command.upgrade
    monkeypatch.setattr(command, "upgrade", lambda config, _: upgrade(config, "0006"))

    def fill(session: Session) -> None:
        connection = session.connection()
        session.add(CampaignRow(id=1, name="spring", status=STOPPED, definition="{}", **AT_NOON))
        session.flush()
        there = {"campaign_id": 1, "zones": "[]", "fields": "{}", "status": LeadStatus.NEW, "attempts": 0}
        connection.execute(
            insert(_with(LeadRow, kept := {"number": "+11", "due_at": NOON, **there, **AT_NOON})), kept
        )
        imports = table("list_import", column("id"), column("campaign_id"), column("source"), *map(column, MOMENTS))
        staged = table("staged_lead", *map(column, ("id", "import_id", "number", "zones", "external_key", "fields")))
        for import_id, sealed_at in ((1, NOON.isoformat(" ")), (2, None)):
            moments = {"created_at": NOON.isoformat(" "), "sealed_at": sealed_at}
            connection.execute(insert(imports), {"id": import_id, "campaign_id": 1, "source": "a.csv", **moments})
        rows = [(1, 1, "+11"), (2, 1, "+12"), (3, 2, "+13")]
        of_all = {"zones": '["America/New_York"]', "external_key": None, "fields": '{"name": "Ann"}'}
        connection.execute(
            insert(staged), [{"id": n, "import_id": of, "number": number, **of_all} for n, of, number in rows]
        )

    async with open_database(empty_url, node=None) as database:
        await database.write(fill)

    monkeypatch.setattr(command, "upgrade", upgrade)
    async with open_database(empty_url, node=None) as database:
        leads = await database.read(lambda session: session.exec(select(LeadRow).order_by(text("id"))).all())
        assert [(lead.number, lead.fields) for lead in leads] == [("+11", "{}"), ("+12", '{"name": "Ann"}')]
        assert {(lead.status, lead.queue, lead.due_at) for lead in leads} == {(LeadStatus.NEW, 3, NOON)}
        lists = await database.read(lambda session: session.exec(select(tables.LeadListRow)).all())
        assert [(one.name, one.id) for one in lists] == [("list", leads[1].list_id)]
        assert await database.read(lambda session: session.exec(select(tables.ImportRow)).all()) == []


async def test_rows_that_refer_to_nothing_stop_a_migration(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade = command.upgrade

    def orphan(config: Any, revision: str) -> None:
        upgrade(config, revision)
        config.attributes["connection"].execute(text("INSERT INTO staged_chunk VALUES (1, 9, x'00')"))

    monkeypatch.setattr(command, "upgrade", orphan)
    with pytest.raises(Exception, match="refer to nothing"):
        async with open_database(sqlite_url, node=None):
            raise AssertionError
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as connection:
        assert connection.execute("SELECT * FROM sqlite_master").fetchall() == []
    connection.close()


def test_each_script_is_called_by_its_revision() -> None:
    """By which it is told what there is to be done, without loading them."""
    config = Config()
    config.set_main_option("script_location", "campaigns:migrations")
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert {one.revision for one in scripts.walk_revisions()} == migrate._known()
    assert scripts.get_current_head() == migrate.head()
