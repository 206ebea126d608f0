from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
import trio
from sqlalchemy import text
from sqlmodel import Session, col, select

from campaigns import hopper, leases, queues
from campaigns.campaign import Retries
from campaigns.database import Database, open_database
from campaigns.disposition import Disposition
from campaigns.hopper import lease
from campaigns.lead import LeadStatus, Queue
from campaigns.leases import Lease, open_attempts_of, return_unsent
from campaigns.queues import outlook
from campaigns.recycle import Tried, next_step
from campaigns.rules.callable import RuleBook
from campaigns.store import AttemptRow, CdrRow, LeadRow, cdrs, close_attempt, lead_counts

from .conftest import CAMPAIGN, NOON, TRUNKS, cdr_of, fill, slots, take

TOUCHED = {"updated_at", "queue"}  # a lead that had rested is in its queue afterwards
NIGHT = NOON + timedelta(hours=12)
MORNING = NOON + timedelta(hours=21)  # nine, New York


async def leads(database: Database) -> list[LeadRow]:
    return await database.read(lambda s: list(s.exec(select(LeadRow).order_by(col(LeadRow.id))).all()))


async def test_a_lease_is_written_down_before_it_is_given(database: Database) -> None:
    filled = await fill(database, 3)
    wanted = slots(2)
    book = RuleBook(CAMPAIGN, filled.id)
    leases = (await database.write(lambda s: lease(s, book, wanted, TRUNKS, "test", NOON))).leases
    assert [(each.uuid, each.gateway, each.switch) for each in leases] == [
        (slot.uuid, slot.gateway, slot.switch) for slot in wanted
    ]
    assert [each.number for each in leases] == ["+12120000000", "+12120000001"]  # due at once: as in the list
    assert leases[0].attempt_no == 1
    assert leases[0].fields == {"name": "Zoë"}
    one, two, three = await leads(database)
    assert [lead.status for lead in (one, two, three)] == [LeadStatus.DIALING, LeadStatus.DIALING, LeadStatus.NEW]
    assert [lead.attempts for lead in (one, two, three)] == [1, 1, 0]
    attempts = await database.read(lambda s: open_attempts_of(s, "test"))
    assert {(a.row.uuid, a.row.lead_id, a.row.number) for a in attempts} == {
        (x.uuid, x.lead_id, x.number) for x in leases
    }


async def test_fewer_when_the_list_is_short_and_none_when_it_is_empty(database: Database) -> None:
    filled = await fill(database, 3)
    assert len(await take(database, filled, 10)) == 3
    assert await take(database, filled, 10) == []
    assert await take(database, filled, 0) == []


async def test_those_that_have_rested_come_before_new_ones(database: Database) -> None:
    filled = await fill(database, 4)

    def set_up(session: Session) -> None:
        for number, minutes in ((2, -2), (3, 1)):
            row = session.get_one(LeadRow, number)
            row.status, row.queue, row.due_at = LeadStatus.WAITING, None, NOON + timedelta(minutes=minutes)
            session.add(row)

    await database.write(set_up)
    assert [each.lead_id for each in await take(database, filled, 2)] == [2, 1]
    assert [each.lead_id for each in await take(database, filled, 2)] == [4]  # 3 is not due
    assert await database.read(lambda s: outlook(s, filled.id).next_due_at) == NOON + timedelta(minutes=1)
    assert [each.lead_id for each in await take(database, filled, 2, NOON + timedelta(minutes=1))] == [3]
    assert await database.read(lambda s: outlook(s, filled.id).next_due_at) is None


async def test_a_lead_that_is_being_dialed_or_final_is_not_leased(database: Database) -> None:
    filled = await fill(database, len(LeadStatus))

    def set_up(session: Session) -> None:
        for number, status in enumerate(LeadStatus, 1):
            row = session.get_one(LeadRow, number)
            row.status, row.queue = status, None
            session.add(row)

    await database.write(set_up)
    leases = await take(database, filled, len(LeadStatus))
    assert [list(LeadStatus)[each.lead_id - 1] for each in leases] == [LeadStatus.WAITING, LeadStatus.NEW]


async def test_calling_hours_put_leads_off_once_to_the_moment_they_open(database: Database) -> None:
    filled = await fill(database, 3)
    assert await take(database, filled, 2, NIGHT) == []
    assert {lead.due_at for lead in await leads(database)} == {MORNING}
    assert {lead.status for lead in await leads(database)} == {LeadStatus.NEW}
    assert await database.read(lambda s: outlook(s, filled.id).next_due_at) == MORNING
    assert await take(database, filled, 2, MORNING - timedelta(seconds=1)) == []
    assert len(await take(database, filled, 2, MORNING)) == 2


async def test_a_campaign_with_a_zone_of_its_own_uses_that(database: Database) -> None:
    filled = await fill(database, 1, campaign=CAMPAIGN.model_copy(update={"timezone": "Asia/Tokyo"}))
    assert await take(database, filled, 1, NOON) == []  # two in the morning there
    assert len(await take(database, filled, 1, NIGHT)) == 1


async def test_a_number_that_is_nowhere_waits_for_a_zone(database: Database) -> None:
    filled = await fill(database, 1, zones="[]")
    assert await take(database, filled, 1) == []
    assert (await leads(database))[0].due_at == NOON + timedelta(days=1)


async def test_one_lease_looks_at_a_bounded_number_of_leads(database: Database) -> None:
    """However many must be put off, and the callable ones behind them are reached in the end."""
    filled = await fill(database, hopper.LOOKED_AT_MOST * 2 + 1, zones='["Asia/Tokyo"]')
    await database.write(
        lambda s: s.connection().execute(
            text("UPDATE lead SET zones = :zones WHERE id > :id"),
            {"zones": '["America/New_York"]', "id": hopper.LOOKED_AT_MOST * 2},
        )
    )
    found = [len(await take(database, filled, 5)) for _ in range(3)]
    assert found == [0, 0, 1]
    assert sum(lead.due_at > NOON for lead in await leads(database)) == hopper.LOOKED_AT_MOST * 2


async def test_fewer_attempts_allowed_than_were_made(database: Database) -> None:
    filled = await fill(database, 2)

    def set_up(session: Session) -> None:
        row = session.get_one(LeadRow, 1)
        row.status, row.queue, row.attempts = LeadStatus.WAITING, Queue.RETRY, 2
        session.add(row)

    await database.write(set_up)
    fewer = CAMPAIGN.model_copy(update={"retries": Retries(max_attempts=2)})
    leases = await take(database, filled, 2, campaign=fewer)
    assert [each.lead_id for each in leases] == [2]
    assert (await leads(database))[0].status is LeadStatus.EXHAUSTED


async def test_what_was_not_sent_is_as_if_it_had_not_been_leased(database: Database) -> None:
    filled = await fill(database, 4)
    (before,) = await take(database, filled, 1)
    step = next_step(Disposition.BUSY, Tried(1), CAMPAIGN, NOON)
    await database.write(lambda s: close_attempt(s, cdr_of(before, filled.id), step, NOON))
    later = NOON + timedelta(hours=1)
    was = {lead.id: lead.model_dump(exclude=TOUCHED) for lead in await leads(database)}

    leases = await take(database, filled, 4, later)
    assert len(leases) == 4
    closed = leases[1]
    await database.write(
        lambda s: close_attempt(
            s, cdr_of(closed, filled.id), next_step(Disposition.BUSY, Tried(1), CAMPAIGN, later), later
        )
    )
    uuids = [each.uuid for each in leases]
    assert await database.write(lambda s: return_unsent(s, uuids, later)) == 3
    assert await database.write(lambda s: return_unsent(s, uuids, later)) == 0
    for lead in await leads(database):
        if lead.id == closed.lead_id:
            assert lead.status is LeadStatus.WAITING
        else:
            assert lead.model_dump(exclude=TOUCHED) == was[lead.id]
    assert await database.read(lambda s: open_attempts_of(s, "test")) == []
    again = await take(database, filled, 4, later)
    assert {each.lead_id: each.attempt_no for each in again} == {
        each.lead_id: each.attempt_no for each in leases if each is not closed
    }


async def test_what_is_leased_for_preview_is_only_offered_until_it_is_sent(database: Database) -> None:
    preview = CAMPAIGN.model_copy(update={"mode": "preview"})
    filled = await fill(database, 2, campaign=preview)
    one, two = await take(database, filled, 2)
    book = RuleBook(preview, filled.id)
    assert await database.write(lambda s: leases.send(s, one.uuid, book, NOON))
    open_ones = await database.read(lambda s: open_attempts_of(s, "test"))
    assert {attempt.row.uuid: attempt.row.offered for attempt in open_ones} == {one.uuid: False, two.uuid: True}
    assert await database.write(lambda s: return_unsent(s, [two.uuid], NOON)) == 1
    assert not await database.write(lambda s: leases.send(s, two.uuid, book, NOON))


async def test_a_lead_that_was_skipped_rests_and_has_its_attempt_back(database: Database) -> None:
    filled = await fill(database, 1)
    (one,) = await take(database, filled, 1)
    step = next_step(Disposition.SKIPPED, Tried(one.attempt_no), CAMPAIGN, NOON)
    assert await database.write(lambda s: close_attempt(s, cdr_of(one, filled.id, Disposition.SKIPPED), step, NOON))
    (lead,) = await leads(database)
    assert (lead.status, lead.attempts, lead.due_at) == (LeadStatus.WAITING, 0, NOON + timedelta(minutes=15))
    assert await take(database, filled, 1, NOON + timedelta(minutes=14)) == []
    (again,) = await take(database, filled, 1, NOON + timedelta(minutes=15))
    assert again.attempt_no == 1


async def test_two_daemons_never_lease_one_lead(url: str) -> None:
    async with open_database(url, node="a") as one, open_database(url, node="b") as other:
        filled = await fill(one, 2_000)
        leases: list[Lease] = []
        per_node = Counter({"a": 20, "b": 20})
        leases.extend(await take(one, filled, 20, node="a"))
        leases.extend(await take(other, filled, 20, node="b"))

        async def lease_all(database: Database, node: str) -> None:
            while found := await take(database, filled, 7, node=node):
                leases.extend(found)
                per_node[node] += len(found)

        async with trio.open_nursery() as nursery:
            for database, node in [(one, "a"), (other, "b")] * 3:
                nursery.start_soon(lease_all, database, node)
        assert len(leases) == 2_000
        assert len({each.lead_id for each in leases}) == 2_000
        for node in "ab":
            kept = await one.read(lambda s, node=node: open_attempts_of(s, node))  # type: ignore[misc]
            assert len(kept) == per_node[node]


async def test_the_indexes_are_used(sqlite_url: str) -> None:
    """Each look is at a range of an index, in its order, however many leads there are."""
    ready = "USING INDEX ix_lead_ready (campaign_id=? AND queue=? AND list_id=? AND priority=? AND"
    resting = "USING INDEX ix_lead_resting (campaign_id=? AND due_at<?)"
    looks = [(queues._OLDEST, ready), (queues._NEWEST, ready), (queues._RESTED, resting)]
    async with open_database(sqlite_url, node=None) as database:
        for query, index in looks:
            plan = await database.read(lambda s, q=query: explain(s, q))  # type: ignore[misc]
            assert index in plan
            assert "TEMP B-TREE" not in plan
        plan = await database.read(lambda s: explain(s, queues._GROUPS))
        by = "following USING COVERING INDEX ix_lead_ready (campaign_id=? AND queue"
        for step in (f"{by}=? AND list_id=? AND priority>?)", f"{by}=? AND list_id>?)", f"{by}>?)"):
            assert step in plan
        assert "TEMP B-TREE" not in plan


def explain(session: Session, query: object) -> str:
    compiled = query.compile(session.connection())  # type: ignore[attr-defined]
    statement = f"EXPLAIN QUERY PLAN {compiled}"
    values = dict.fromkeys(compiled.params, 1)
    found = session.connection().exec_driver_sql(statement, tuple(values[name] for name in compiled.positiontup))
    return " ".join(str(row) for row in found)


KILLED = """
import sys, trio
from tests.campaigns.conftest import *
from campaigns.rules.callable import RuleBook
from campaigns.recycle import Tried, next_step
from campaigns.store import close_attempt
url, campaign_id = sys.argv[1], int(sys.argv[2])
async def main():
    async with open_database(url, node="test") as database:
        filled = Filled(CAMPAIGN, campaign_id)
        async def close(lease):
            step = next_step(Disposition.BRIDGED, Tried(1), CAMPAIGN, NOON)
            await database.write(lambda s: close_attempt(s, cdr_of(lease, campaign_id), step, NOON))
            sys.stdout.write(lease.uuid + "\\n")
            sys.stdout.flush()
        while leases := await take(database, filled, 20):
            async with trio.open_nursery() as nursery:
                for lease in leases:
                    nursery.start_soon(close, lease)
trio.run(main)
"""


@pytest.mark.parametrize("lines", [30, 137])
async def test_killed_in_between_there_is_one_cdr_for_each_attempt(url: str, lines: int) -> None:
    async with open_database(url, node=None) as database:
        filled = await fill(database, 2_000)
    root = Path(__file__).parents[2]

    def run_and_kill() -> list[str]:
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, url, str(filled.id)], cwd=root, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            told = [process.stdout.readline().strip() for _ in range(lines)]
            os.kill(process.pid, signal.SIGKILL)
            return told + [line.strip() for line in process.stdout if line.endswith("\n")]

    told = await trio.to_thread.run_sync(run_and_kill)
    assert len(told) >= lines

    async with open_database(url, node="test") as database:
        # What was reported is there, and what is there fits together.
        kept = {cdr.attempt_uuid for cdr in await database.read(lambda s: cdrs(s, filled.id, limit=5_000))}
        assert set(told) <= kept
        attempts = await database.read(lambda s: s.exec(select(AttemptRow)).all())
        assert kept == {attempt.uuid for attempt in attempts if attempt.closed_at is not None}
        still_open = await database.read(lambda s: open_attempts_of(s, "test"))
        assert {attempt.row.uuid for attempt in still_open} == {attempt.uuid for attempt in attempts} - kept
        counts = await database.read(lambda s: lead_counts(s, filled.id))
        assert counts[LeadStatus.DIALING] == len(still_open)
        assert counts[LeadStatus.DONE] == len(kept)

        # Recovery closes what is open; closing everything again changes nothing.
        step = next_step(Disposition.UNKNOWN, Tried(1), CAMPAIGN, NOON)

        def close_all(session: Session) -> int:
            closed = 0
            for a in attempts:
                again = Lease(a.uuid, a.lead_id, a.number, a.gateway, a.switch, a.attempt_no, {})
                cdr = cdr_of(again, filled.id, Disposition.UNKNOWN, "NONE")
                closed += close_attempt(session, cdr, step, NOON)
            return closed

        assert await database.write(close_all) == len(still_open)
        per_attempt = await database.read(lambda s: s.exec(select(col(CdrRow.attempt_uuid))).all())
        assert Counter(per_attempt) == Counter(attempt.uuid for attempt in attempts)
