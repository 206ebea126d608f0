"""Leads whose numbers come onto do-not-call lists and off them, and leads that get other numbers meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import trio
from sqlalchemy import event, insert
from sqlmodel import Session, select

from campaigns import forbidden_leads, hopper
from campaigns.database import Database, open_database
from campaigns.disposition import Disposition
from campaigns.known_leads import known_keys
from campaigns.lead import LeadStatus, numbers_from_json
from campaigns.lead_changes import LeadDetails, add_lead, change_lead, locked_leads
from campaigns.list_import import ImportOptions, import_list
from campaigns.recycle import History, Tried, next_step
from campaigns.retries import NextNumber, Retries
from campaigns.rules.callable import RuleBook
from campaigns.rules.refusal import Rest
from campaigns.store import close_attempt
from campaigns.suppression_store import NewEntry, Scope, let_rest, rest_no_more
from campaigns.tables import LeadRow, SuppressionRow
from campaigns.trunk import Trunk

from .conftest import (
    CAMPAIGN,
    NOON,
    TRUNKS,
    Filled,
    cdr_of,
    entries_of,
    fill,
    forbid,
    lead_values,
    slots,
    take,
    until_another_waits,
)

FIRST, SECOND, THIRD = "+12125550101", "+12125550102", "+12125550103"


async def lead_with(database: Database, *numbers: str) -> Filled:
    filled = await fill(database, 0)
    details = LeadDetails(numbers, key="k")
    await database.write(lambda session: add_lead(session, "spring", details, who="ann", now=NOON))
    return filled


async def allow(database: Database, *patterns: str) -> None:
    entries = entries_of(*patterns)
    await database.write(
        lambda session: forbidden_leads.allow(session, entries, scope=Scope.SYSTEM, scope_name="", now=NOON)
    )


async def lead(database: Database) -> LeadRow:
    return await database.read(lambda session: session.exec(select(LeadRow)).one())


async def called(database: Database, filled: Filled) -> list[str]:
    """The numbers of two leases, one after the other: the first may only find out that a number is forbidden."""
    return [one.number for _ in range(2) for one in await take(database, filled, 1)]


async def test_a_lead_goes_on_with_the_first_of_its_numbers_that_may_be_called(database: Database) -> None:
    filled = await lead_with(database, FIRST, SECOND, THIRD)
    await forbid(database, FIRST, SECOND)
    assert await called(database, filled) == [THIRD]
    found = await lead(database)
    assert (found.number_no, found.first_number, found.status) == (2, FIRST, LeadStatus.DIALING)


async def test_a_number_that_nobody_has_is_none_to_go_on_with(database: Database) -> None:
    filled = await lead_with(database, FIRST, SECOND)
    history = History(dead_numbers=(SECOND,)).to_json()
    await database.write(lambda session: session.exec(select(LeadRow)).one().sqlmodel_update({"history": history}))
    await forbid(database, FIRST)
    assert await called(database, filled) == []
    assert (await lead(database)).status is LeadStatus.SUPPRESSED


@pytest.mark.parametrize("freed", [FIRST, SECOND])
async def test_a_lead_is_called_again_when_any_of_its_numbers_may_be(database: Database, freed: str) -> None:
    filled = await lead_with(database, FIRST, SECOND)
    await forbid(database, FIRST, SECOND)
    assert await called(database, filled) == []
    assert (await lead(database)).status is LeadStatus.SUPPRESSED
    await allow(database, freed)
    assert await called(database, filled) == [freed]


async def test_a_prefix_that_is_gone_frees_whoever_has_a_number_with_it(database: Database) -> None:
    filled = await lead_with(database, FIRST, SECOND)
    await forbid(database, FIRST, "+12125550*")
    assert await called(database, filled) == []
    await allow(database, "+12125550*")
    assert await called(database, filled) == [SECOND]


@pytest.mark.parametrize("by_list", [False, True])
async def test_a_suppressed_lead_that_gets_another_number_is_called(
    database: Database, tmp_path: Path, by_list: bool
) -> None:
    filled = await lead_with(database, FIRST)
    await forbid(database, FIRST)
    assert await called(database, filled) == []
    if by_list:
        (tmp_path / "list.csv").write_text(f"key,phone\nk,{SECOND}\n")
        options = ImportOptions(by="key")
        report = await import_list(database, tmp_path / "list.csv", "spring", now=NOON, options=options)
        assert report.counts.updated == 1
    else:
        other = LeadDetails([SECOND])
        await database.write(
            lambda session: change_lead(session, "spring", locked_leads(session, [1])[0], other, who="ann", now=NOON)
        )
    assert await called(database, filled) == [SECOND]


async def test_a_list_that_says_the_same_again_leaves_a_suppressed_lead_in_peace(
    database: Database, tmp_path: Path
) -> None:
    filled = await lead_with(database, FIRST)
    await forbid(database, FIRST)
    assert await called(database, filled) == []
    (tmp_path / "list.csv").write_text(f"key,phone,name\nk,{FIRST},Ann\n")
    await import_list(database, tmp_path / "list.csv", "spring", now=NOON, options=ImportOptions(by="key"))
    assert (await lead(database)).status is LeadStatus.SUPPRESSED


async def test_what_nobody_has_is_known_by_its_number_when_a_list_changes_their_order(database: Database) -> None:
    await lead_with(database, FIRST, SECOND)
    before = await lead(database)
    turn = Tried(1, numbers=numbers_from_json(before.numbers))
    step = next_step(Disposition.INVALID_NUMBER, turn, CAMPAIGN, NOON)
    assert (step.number, step.history.dead_numbers) == (SECOND, (FIRST,))
    await lead_with_other_order(database)
    after = await lead(database)
    last = Tried(2, numbers=numbers_from_json(after.numbers), number_no=0, history=step.history)
    again = next_step(Disposition.NO_ANSWER, last, CAMPAIGN, NOON)
    assert again.number == SECOND


async def lead_with_other_order(database: Database) -> None:
    other = LeadDetails([SECOND, FIRST])
    await database.write(
        lambda session: change_lead(session, "spring", locked_leads(session, [1])[0], other, who="ann", now=NOON)
    )


async def test_leads_that_a_list_is_to_change_are_nobody_else_s_meanwhile(database: Database) -> None:
    filled = await lead_with(database, FIRST)
    found = await database.write(lambda session: known_keys(session, filled.id, ["k"], "campaign", to_change=True))
    assert [one.number for one in found["k"]] == [FIRST]


ROUND = CAMPAIGN.model_copy(update={"retries": Retries(next_number=NextNumber(no_answer=60))})
MINUTE = NOON + timedelta(minutes=1)
HOURS = NOON + timedelta(hours=4)


@pytest.mark.parametrize(
    ("numbers", "in_a_minute", "in_four_hours"),
    [((FIRST, SECOND, THIRD), [THIRD], []), ((FIRST, SECOND), [], [FIRST])],
)
async def test_on_its_way_through_its_numbers_a_lead_passes_by_a_forbidden_one(
    database: Database, numbers: tuple[str, ...], in_a_minute: list[str], in_four_hours: list[str]
) -> None:
    filled = await lead_with(database, *numbers)
    await forbid(database, SECOND)
    (one,) = await take(database, filled, 1, campaign=ROUND)
    step = next_step(Disposition.NO_ANSWER, one, ROUND, NOON)  # the next number in a minute; the same in four hours
    record = cdr_of(one, filled.id, Disposition.NO_ANSWER, "NO_ANSWER")
    await database.write(lambda session: close_attempt(session, record, step, NOON))
    for moment, wanted in ((MINUTE, in_a_minute), (HOURS, in_four_hours)):
        taken = [each.number for _ in range(2) for each in await take(database, filled, 1, moment, campaign=ROUND)]
        assert taken == wanted


def watched(session: Session) -> list[str]:
    seen: list[str] = []
    event.listen(session.connection(), "before_cursor_execute", lambda *told: seen.append(told[2]))
    return seen


def of_leads(statements: list[str]) -> list[str]:
    return [one for one in statements if "lead" in one]


async def test_when_nothing_came_off_a_list_no_lead_is_looked_at(database: Database) -> None:
    def work(session: Session) -> list[str]:
        seen = watched(session)
        forbidden_leads.allowed_again(session, (), NOON)  # as after every word of an agent that is no refusal
        return of_leads(seen)

    assert await database.write(work) == []


async def test_a_thousand_forbidden_leads_of_two_numbers_are_not_a_thousand_statements(database: Database) -> None:
    filled = await fill(database, 0)
    place = ["America/New_York"]

    def work(session: Session) -> int:
        rows = []
        for values in map(lead_values(filled.id), range(1000)):
            first, second = str(values["number"]), "+1305" + str(values["number"])[5:]
            numbers = json.dumps([[first, place, "mobile", "US-NY"], [second, place, "mobile", "US-FL"]])
            rows.append({**values, "numbers": numbers, "first_number": first})
        session.connection().execute(insert(LeadRow), rows)
        seen = watched(session)
        hopper.lease(session, RuleBook(CAMPAIGN, filled.id), slots(1), TRUNKS, "test", NOON)
        return len(of_leads(seen))

    await forbid(database, "+1212*")
    assert await database.write(work) < 100


@asynccontextmanager
async def two_daemons(url: str, expires_at: datetime | None) -> AsyncIterator[tuple[Database, Database, Filled]]:
    """On one PostgreSQL, with a lead whose number is forbidden."""
    async with open_database(url, node=None) as one, open_database(url, node=None) as two:
        filled = await lead_with(one, FIRST)
        await forbid(one, FIRST, expires_at=expires_at)
        yield one, two, filled


ENDS = pytest.mark.parametrize("expires_at", [None, NOON + timedelta(days=30)], ids=["for_good", "for_a_month"])


@ENDS
async def test_a_lead_that_is_looked_at_while_its_number_comes_off_a_list_is_not_lost(
    postgres_url: str, expires_at: datetime | None
) -> None:
    async with two_daemons(postgres_url, expires_at) as (one, two, filled):
        looked = threading.Event()

        def look(session: Session) -> None:
            hopper.lease(session, RuleBook(CAMPAIGN, filled.id), slots(1), TRUNKS, "test", NOON)
            looked.set()
            until_another_waits(session)

        async def take_off() -> None:
            await trio.to_thread.run_sync(looked.wait)
            await allow(two, FIRST)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.write, look)
            nursery.start_soon(take_off)
        assert await called(one, filled) == [FIRST]  # there is no entry any more, nor one to remove again


async def keeps_its_place_meanwhile(
    one: Database, two: Database, filled: Filled, remove: Callable[[Session], object]
) -> None:
    """The lead is looked at when its entry has been removed, and nobody else knows yet whether it is gone."""
    removed, looked = threading.Event(), threading.Event()

    def take_off(session: Session) -> None:
        remove(session)
        removed.set()
        assert looked.wait(60)

    async def look() -> None:
        await trio.to_thread.run_sync(removed.wait)
        assert await called(two, filled) == []
        looked.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.write, take_off)
        nursery.start_soon(look)
    assert await called(one, filled) == [FIRST]


@ENDS
async def test_a_lead_whose_number_is_just_coming_off_a_list_keeps_its_place(
    postgres_url: str, expires_at: datetime | None
) -> None:
    def remove(session: Session) -> None:
        forbidden_leads.allow(session, [NewEntry(FIRST)], scope=Scope.SYSTEM, scope_name="", now=NOON)

    async with two_daemons(postgres_url, expires_at) as (one, two, filled):
        await keeps_its_place_meanwhile(one, two, filled, remove)


async def test_a_refusal_that_is_just_taken_back_rests_nobody(postgres_url: str) -> None:
    def take_back(session: Session) -> None:
        gone = rest_no_more(session, FIRST, None, attempt="a")
        assert [each.pattern for each in gone] == [FIRST]
        forbidden_leads.allowed_again(session, gone, NOON)

    async with open_database(postgres_url, node=None) as one, open_database(postgres_url, node=None) as two:
        filled = await lead_with(one, FIRST)
        rest = Rest(None, NOON + timedelta(days=30))
        await one.write(lambda session: let_rest(session, FIRST, rest, attempt="a", now=NOON))
        await keeps_its_place_meanwhile(one, two, filled, take_back)


async def test_a_prefix_is_taken_off_by_its_star_alone_and_a_number_without_one(database: Database) -> None:
    async def listed() -> set[tuple[str, bool]]:
        rows = await database.read(lambda session: session.exec(select(SuppressionRow)).all())
        return {(row.pattern, row.is_prefix) for row in rows}

    for gone, left in ((FIRST, (FIRST, True)), (f"{FIRST}*", (FIRST, False))):
        await forbid(database, FIRST, f"{FIRST}*")
        await allow(database, gone)
        assert await listed() == {left}


async def test_a_number_that_is_forbidden_for_a_while_gives_its_turn_to_another(database: Database) -> None:
    filled = await lead_with(database, FIRST, SECOND)
    await forbid(database, FIRST, expires_at=NOON + timedelta(days=1825))
    assert await called(database, filled) == [SECOND]


async def test_a_lead_whose_numbers_are_all_forbidden_waits_for_the_first_to_end(database: Database) -> None:
    filled = await lead_with(database, FIRST, SECOND)
    await forbid(database, FIRST, expires_at=NOON + timedelta(days=30))
    await forbid(database, SECOND)
    assert await called(database, filled) == []
    here = await lead(database)
    assert (here.status, here.number, here.due_at) == (LeadStatus.NEW, FIRST, NOON + timedelta(days=30))


async def test_a_lead_that_must_never_be_called_by_one_number_waits_for_the_other(database: Database) -> None:
    filled = await lead_with(database, FIRST, SECOND)
    await forbid(database, FIRST)
    await forbid(database, SECOND, expires_at=NOON + timedelta(days=30))
    for _ in range(3):
        assert await called(database, filled) == []
    here = await lead(database)
    assert (here.status, here.number, here.due_at) == (LeadStatus.NEW, SECOND, NOON + timedelta(days=30))


@pytest.mark.parametrize(("blind", "calls"), [((FIRST,), [SECOND]), ((SECOND,), [FIRST]), ((FIRST, SECOND), [])])
async def test_a_number_that_no_trunk_may_call_gives_its_turn_to_a_later_one(
    database: Database, blind: tuple[str, ...], calls: list[str]
) -> None:
    filled = await lead_with(database, FIRST, SECOND)
    trunks = {"carrier": Trunk("carrier", "fs1", blind=blind)}
    found: list[str] = []
    for _ in range(4):
        leased = await database.write(
            lambda s: hopper.lease(s, RuleBook(CAMPAIGN, filled.id), slots(1), trunks, "test", NOON)
        )
        found += [one.number for one in leased.leases]
    assert found == calls
    if not calls:
        assert (await lead(database)).due_at > NOON
