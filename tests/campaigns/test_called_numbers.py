"""Who found nobody on the line is left alone by all leads, lists and campaigns of the seller, not by one lead."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import insert
from sqlmodel import Session, select

from campaigns.abandonment import abandoned_of
from campaigns.campaign import Campaign
from campaigns.database import Database
from campaigns.disposition import Disposition
from campaigns.explain import explain, outline
from campaigns.hopper import lease
from campaigns.leases import Leased, send
from campaigns.recycle import next_step
from campaigns.rules.callable import LOCKOUT, RuleBook
from campaigns.store import close_attempt, lead_list
from campaigns.tables import CampaignRow, LeadRow

from .conftest import CAMPAIGN, TRUNKS, Filled, cdr_of, fill, lead_values, slots
from .conftest import NOON as THANKSGIVING_WEEK

UK = CAMPAIGN.model_copy(update={"name": "uk", "profile": "uk", "seller": "acme", "timezone": "Europe/London"})
NOON = THANKSGIVING_WEEK + timedelta(days=7)
MINUTE = timedelta(minutes=1)


async def ask(database: Database, filled: Filled, now: datetime) -> Leased:
    book = RuleBook(filled.campaign, filled.id)
    return await database.write(lambda s: lease(s, book, slots(1), TRUNKS, "test", now))


async def called(
    database: Database, filled: Filled, disposition: Disposition, now: datetime = NOON, *, wait_ms: int = 2500
) -> None:
    """The only lead that is due is called, answers, and that is what becomes of it."""
    (one,) = (await ask(database, filled, now)).leases
    record = cdr_of(one, filled.id, disposition, ended_at=now)
    record.answered_at, record.wait_ms = now, wait_ms
    record.bridged_at = now if disposition is Disposition.BRIDGED else None
    record.abandoned = abandoned_of(record, 2.0)
    step = next_step(disposition, one, filled.campaign, now)
    assert await database.write(lambda s: close_attempt(s, record, step, now))


async def again(database: Database, campaign: Campaign) -> Filled:
    """Another campaign, which has the same number."""
    return await fill(database, 1, campaign=campaign)


@pytest.mark.parametrize(
    ("disposition", "hours"),
    [
        (Disposition.ABANDONED, 72),
        (Disposition.UNKNOWN, 72),  # lost from sight after the answer: nobody has served them
        (Disposition.HUNG_UP, 72),  # later than the law allows
        (Disposition.MACHINE, 24),
        (Disposition.BRIDGED, 0),
    ],
)
async def test_all_campaigns_of_the_seller_leave_the_number_alone(
    database: Database, disposition: Disposition, hours: int
) -> None:
    first = await fill(database, 1, campaign=UK)
    await called(database, first, disposition)
    other = await again(database, UK.model_copy(update={"name": "other"}))
    soon, late = NOON + 10 * MINUTE, NOON + timedelta(hours=hours)
    leased = await ask(database, other, soon)
    assert bool(leased.leases) is (hours == 0)
    if hours:
        assert leased.blocked == {LOCKOUT: 1}

        def told(session: Session) -> tuple[object, dict[str, int]]:
            row = session.get_one(CampaignRow, other.id)
            one = session.exec(select(LeadRow).where(LeadRow.campaign_id == other.id)).one()
            (lockout,) = [each for each in explain(session, one, TRUNKS, soon).verdicts if each.rule == LOCKOUT]
            *_, whole = outline(session, row, TRUNKS, soon)
            return lockout.allowed_at, dict(whole.blocked)

        assert await database.read(told) == (late, {LOCKOUT: 1})
        assert (await ask(database, other, late)).leases or disposition is Disposition.MACHINE


async def test_another_seller_s_campaign_does_not_know_of_it(database: Database) -> None:
    await called(database, await fill(database, 1, campaign=UK), Disposition.ABANDONED)
    other = await again(database, UK.model_copy(update={"name": "other", "seller": "zenith"}))
    assert (await ask(database, other, NOON + MINUTE)).leases


@pytest.mark.parametrize("seller", ["acme", "zenith"])
async def test_whoever_that_seller_has_spoken_to_since_is_not_left_alone(database: Database, seller: str) -> None:
    await called(database, await fill(database, 1, campaign=UK), Disposition.ABANDONED)
    at_once = {"name": "bold", "seller": seller, "profile": "none", "abandoned_lockout_hours": 0.0}
    bold = await again(database, UK.model_copy(update=at_once))
    await called(database, bold, Disposition.BRIDGED, NOON + MINUTE, wait_ms=100)
    other = await again(database, UK.model_copy(update={"name": "other"}))
    assert bool((await ask(database, other, NOON + 2 * MINUTE)).leases) is (seller == "acme")


async def test_a_lead_that_was_left_alone_without_a_word_of_it_is_owed_an_agent(database: Database) -> None:
    first = await fill(database, 1, campaign=UK)
    await called(database, first, Disposition.UNKNOWN)
    book, late = RuleBook(UK, first.id), NOON + timedelta(hours=73)
    none_idle = await database.write(
        lambda s: lease(s, book, slots(1), TRUNKS, "test", late, idle_agents=frozenset())
    )
    assert none_idle.leases == []
    assert (await ask(database, first, late)).leases


async def test_an_offered_lead_whose_number_was_left_alone_meanwhile_is_not_called(database: Database) -> None:
    preview = UK.model_copy(update={"mode": "preview"})
    offered = await fill(database, 1, campaign=preview)
    (one,) = (await ask(database, offered, NOON)).leases
    other = await fill(database, 0, campaign=UK.model_copy(update={"name": "other"}))

    def add(session: Session) -> None:
        mine = lead_list(session, other.id, "list", NOON)
        session.connection().execute(insert(LeadRow), [lead_values(other.id, list_id=mine.id or 0)(1)])

    await database.write(add)
    await called(database, other, Disposition.ABANDONED)
    book, soon = RuleBook(preview, offered.id), NOON + MINUTE
    assert await database.write(lambda s: send(s, one.uuid, book, soon))  # it is another number
    await database.write(lambda s: s.connection().exec_driver_sql("UPDATE attempt SET number = '+12120000001'"))
    assert not await database.write(lambda s: send(s, one.uuid, book, soon))
