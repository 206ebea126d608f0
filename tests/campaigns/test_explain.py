"""What people are told of a lead, against what the hopper does with it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, update
from sqlmodel import Session, select

from campaigns.campaign import CampaignStatus
from campaigns.database import Database
from campaigns.disposition import Disposition
from campaigns.explain import Explanation, Outline, explain, outline
from campaigns.hopper import lease
from campaigns.lead import LeadNumber, LeadStatus, numbers_to_json
from campaigns.rules.callable import RuleBook
from campaigns.store import get_campaign
from campaigns.suppression_store import Scope
from campaigns.tables import CampaignRow, LeadRow
from campaigns.trunk import CallerId, Trunk

from .conftest import NOON, TRUNKS, Filled, fill, forbid, slots
from .test_no_forbidden_call import TRUNKS as TWO_TRUNKS
from .test_no_forbidden_call import Story, a_campaign, a_lead, empty

__all__ = ["empty"]

FIRST, SECOND = (LeadNumber(f"+1212555010{last}", ("America/New_York",), "mobile", "US-NY") for last in (0, 1))


async def told(database: Database, trunks: dict[str, Trunk], now: datetime = NOON) -> tuple[Explanation, Outline]:
    """Of the only lead of a campaign that runs."""

    def look(session: Session) -> tuple[Explanation, Outline]:
        row = get_campaign(session, "spring")
        *_, whole = outline(session, row, trunks, now)
        return explain(session, session.exec(select(LeadRow)).one(), trunks, now), whole

    return await database.read(look)


async def one_lead(database: Database, **values: object) -> Filled:
    filled = await fill(database, 1)
    await database.write(lambda s: s.execute(update(CampaignRow).values(status=CampaignStatus.RUNNING)))
    if values:
        await database.write(lambda s: s.execute(update(LeadRow).values(**values)))
    return filled


async def hopper_takes(database: Database, filled: Filled, trunks: dict[str, Trunk]) -> list[str]:
    book = RuleBook(filled.campaign, filled.id)
    leased = [await database.write(lambda s: lease(s, book, slots(1), trunks, "test", NOON)) for _ in range(2)]
    return [one.number for each in leased for one in each.leases]


async def test_a_pool_that_rests_today_is_told(database: Database) -> None:
    filled = await one_lead(database)
    weekend = CallerId("+12125550199", rest_days=("mon",))
    trunks = {"carrier": Trunk("carrier", "fs1", caller_ids=(weekend,))}
    one, whole = await told(database, trunks)
    assert "carrier has shown each of its numbers as often as it may today" in one.answer.reason
    assert (whole.callable_now, dict(whole.blocked)) == (0, {"gateway": 1})
    assert await hopper_takes(database, filled, trunks) == []


@pytest.mark.parametrize("days", [None, 30])
async def test_a_lead_that_goes_on_with_another_number_may_be_called(database: Database, days: int | None) -> None:
    several = {"first_number": FIRST.number, "number": FIRST.number, "numbers": numbers_to_json((FIRST, SECOND))}
    filled = await one_lead(database, **several)
    ends = None if days is None else NOON + timedelta(days=days)
    await forbid(database, FIRST.number, expires_at=ends)
    one, whole = await told(database, TRUNKS)
    assert one.answer.allowed
    assert f"it goes on with {SECOND.number}" in " ".join(each.reason for each in one.verdicts)
    assert whole.callable_now == 1
    assert await hopper_takes(database, filled, TRUNKS) == [SECOND.number]


async def test_the_moment_that_is_told_is_one_at_which_all_allow_it(database: Database) -> None:
    late = NOON.replace(hour=23)  # 18:00 in New York, where calling ends at 20:00
    rests = {"status": LeadStatus.WAITING, "queue": None, "due_at": late + timedelta(hours=2, minutes=10)}
    await one_lead(database, last_disposition=Disposition.BUSY, **rests)
    one, whole = await told(database, TRUNKS, late)
    tomorrow = datetime(2026, 11, 24, 14, tzinfo=UTC)  # 09:00 in New York
    assert (one.answer.rule, one.answer.allowed_at) == ("rest", tomorrow)
    assert [hour for hour, leads in enumerate(whole.by_hour) if leads] == [15]


def lives(session: Session, dice: random.Random, now: datetime) -> Iterator[tuple[bool, bool, str]]:
    """Of the only lead of a campaign, many times: whether it is told that it may be called, and whether it was."""
    campaign = a_campaign(dice)
    story = Story(session, campaign, [a_lead(dice)], now)
    row = get_campaign(session, "spring")
    row.status = CampaignStatus.RUNNING
    session.add(row)
    for _ in range(25):
        story.now += timedelta(minutes=dice.choice([1, 7, 61, 240]))
        session.flush()
        session.expire_all()
        lead = session.exec(select(LeadRow)).one()
        explained = explain(session, lead, TWO_TRUNKS, story.now)
        placed = story.placed
        for _ in range(3):  # a lease may only move it on to its next number
            story.dial({"a": 1, "b": 1})
        yield explained.answer.allowed, story.placed > placed, f"{explained.answer} of {lead.model_dump()}"
        while story.open and dice.random() < 0.8:
            story.end(dice.choice([Disposition.NO_ANSWER, Disposition.BUSY, Disposition.ABANDONED]), said=False)
        if dice.random() < 0.1:
            story.forbid(LeadNumber(lead.number), Scope.SYSTEM, dice.randrange(1, 20))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_what_is_told_is_what_happens(empty: Engine, seed: int) -> None:
    with Session(empty) as session:
        for may, is_called, why in lives(session, random.Random(seed), datetime(2026, 11, 25, tzinfo=UTC)):
            assert may == is_called, why
