from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

import attrs
import psycopg
import pytest
import trio
from psycopg import sql
from sqlalchemy import insert, text
from sqlmodel import Session, SQLModel

from campaigns.campaign import Campaign
from campaigns.database import Database, open_database
from campaigns.disposition import Disposition
from campaigns.hopper import lease
from campaigns.lead import LeadStatus
from campaigns.leases import Lease
from campaigns.rules.callable import RuleBook
from campaigns.slots import Slot
from campaigns.store import CdrRow, LeadRow, add_campaign, lead_list
from campaigns.suppression_store import NewEntry, Scope, add_entries
from campaigns.trunk import Trunk
from tests.patience import PATIENCE_SECONDS
from tests.postgres_server import new_database

NOON = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)  # a Monday, noon in New York


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/dialer.db"


def _migrate(url: str) -> None:
    async def open_and_close() -> None:
        async with open_database(url, node=None):
            pass

    trio.run(open_and_close)


@pytest.fixture(scope="session")
def postgres_migrated(postgres: str) -> Iterator[str]:
    """A database with the tables in it, used by one test after the other: making one takes far longer."""
    with new_database(postgres) as url:
        _migrate(url)
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "dialer.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of each kind, in which there is nothing."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_url")
    else:
        with new_database(request.getfixturevalue("postgres")) as url:
            yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of each kind, with empty tables."""
    if request.param == "sqlite":
        url = request.getfixturevalue("sqlite_url")
        shutil.copy(request.getfixturevalue("sqlite_template"), url.removeprefix("sqlite:///"))
        yield url
    else:
        url = request.getfixturevalue("postgres_migrated")
        tables = sql.SQL(", ").join(sql.Identifier(name) for name in SQLModel.metadata.tables)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(tables))
        yield url


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    with new_database(postgres) as url:
        yield url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with open_database(url, node="test", exclusive=True) as opened:
        yield opened


CAMPAIGN = Campaign(name="spring", gateways=("carrier",), country="US")
TRUNKS = {"carrier": Trunk("carrier", "fs1")}
NEW_YORK = '["America/New_York"]'


@attrs.frozen
class Filled:
    """A campaign with leads."""

    campaign: Campaign
    id: int


async def fill(
    database: Database, leads: int, *, campaign: Campaign = CAMPAIGN, zones: str = NEW_YORK, first: int = 0
) -> Filled:
    """A campaign with `leads` new leads, due at NOON, whose numbers count from `first`."""

    def work(session: Session) -> int:
        row = add_campaign(session, campaign, NOON).row
        assert row.id is not None
        mine = lead_list(session, row.id, "list", NOON)
        if leads:
            session.connection().execute(
                insert(LeadRow), list(map(lead_values(row.id, zones, mine.id or 0), range(first, first + leads)))
            )
        return row.id

    return Filled(campaign, await database.write(work))


def lead_values(campaign_id: int, zones: str = NEW_YORK, list_id: int = 1) -> Callable[[int], dict[str, object]]:
    return lambda i: {
        "campaign_id": campaign_id,
        "list_id": list_id,
        "number": f"+1212{i:07}",
        "zones": zones,
        "fields": '{"name": "Zoë"}',
        "status": LeadStatus.NEW,
        "attempts": 0,
        "due_at": NOON,
        "created_at": NOON,
        "updated_at": NOON,
    }


def slots(count: int) -> list[Slot]:
    return [Slot(str(uuid4()), "carrier", "fs1") for _ in range(count)]


def entries_of(*patterns: str) -> list[NewEntry]:
    """Entries of do-not-call lists: numbers, or with a star the beginnings of such."""
    return [NewEntry(one.removesuffix("*"), is_prefix=one.endswith("*")) for one in patterns]


async def forbid(
    database: Database,
    *patterns: str,
    scope: Scope = Scope.SYSTEM,
    name: str = "",
    source: str = "a register",
    expires_at: datetime | None = None,
) -> None:
    """Puts `patterns` on a do-not-call list, at NOON."""
    await database.write(
        lambda session: add_entries(
            session,
            entries_of(*patterns),
            scope=scope,
            scope_name=name,
            source=source,
            added_by="ann",
            now=NOON,
            expires_at=expires_at,
        )
    )


def until_another_waits(session: Session) -> None:
    """Returns when somebody else waits for a lock in this PostgreSQL database."""
    waiting = text(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN"
        " (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
    )
    give_up_at = monotonic() + PATIENCE_SECONDS
    while not session.connection().scalar(waiting):
        assert monotonic() < give_up_at, "nobody waits"
        sleep(0.01)


async def take(
    database: Database,
    filled: Filled,
    count: int,
    now: datetime = NOON,
    node: str = "test",
    *,
    campaign: Campaign | None = None,
) -> list[Lease]:
    """Leases of `count` leads or fewer, by the rules of `campaign` or of what was filled in."""
    wanted, book = slots(count), RuleBook(campaign or filled.campaign, filled.id)
    leased = await database.write(lambda session: lease(session, book, wanted, TRUNKS, node, now))
    return list(leased.leases)


def cdr_of(
    lease: Lease,
    campaign_id: int,
    disposition: Disposition = Disposition.BUSY,
    cause: str = "USER_BUSY",
    ended_at: datetime = NOON,
) -> CdrRow:
    return CdrRow(
        attempt_uuid=lease.uuid,
        campaign_id=campaign_id,
        lead_id=lease.lead_id,
        attempt_no=lease.attempt_no,
        number=lease.number,
        gateway=lease.gateway,
        switch=lease.switch,
        node="test",
        disposition=disposition,
        hangup_cause=cause,
        originated_at=NOON,
        ended_at=ended_at,
    )
