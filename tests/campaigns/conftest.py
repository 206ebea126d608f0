from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import attrs
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import insert, make_url
from sqlmodel import Session

from campaigns.campaign import Campaign
from campaigns.database import Database, open_database
from campaigns.disposition import Disposition
from campaigns.hopper import Lease, Slot
from campaigns.lead import LeadStatus
from campaigns.store import CdrRow, LeadRow, add_campaign

from .postgres_server import NoServerError, throw_away_server

NOON = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)  # a Monday, noon in New York


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server on which databases can be made."""
    given = os.environ.get("DIALER_TEST_POSTGRES_URL")
    with ExitStack() as stack:
        try:
            yield given or stack.enter_context(throw_away_server())
        except NoServerError as reason:
            pytest.skip(f"no PostgreSQL: {reason}")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/dialer.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_url")
        return
    server = request.getfixturevalue("postgres")
    name = f"dialer_test_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with open_database(url, node="test", exclusive=True) as opened:
        yield opened


CAMPAIGN = Campaign(name="spring", gateways=("carrier",), country="US")
NEW_YORK = '["America/New_York"]'


@attrs.frozen
class Filled:
    """A campaign with leads."""

    campaign: Campaign
    id: int


async def fill(database: Database, leads: int, *, campaign: Campaign = CAMPAIGN, zones: str = NEW_YORK) -> Filled:
    """A campaign with `leads` new leads, due at NOON."""

    def work(session: Session) -> int:
        row = add_campaign(session, campaign, NOON).row
        assert row.id is not None
        if leads:
            session.connection().execute(insert(LeadRow), list(map(lead_values(row.id, zones), range(leads))))
        return row.id

    return Filled(campaign, await database.write(work))


def lead_values(campaign_id: int, zones: str = NEW_YORK) -> Callable[[int], dict[str, object]]:
    return lambda i: {
        "campaign_id": campaign_id,
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


@pytest.fixture(autouse=True)
def _not_for_ever(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that hangs says where, and fails."""
    faulthandler.dump_traceback_later(60, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()
