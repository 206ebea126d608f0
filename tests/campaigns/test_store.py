from __future__ import annotations

from datetime import datetime, timedelta, timezone

import attrs
import pytest
from sqlalchemy import update
from sqlalchemy.exc import StatementError
from sqlmodel import Session

from campaigns.campaign import CampaignStatus
from campaigns.database import Database
from campaigns.disposition import Disposition
from campaigns.lead import WITHDRAWN, LeadNumber, LeadStatus, numbers_to_json
from campaigns.leases import Lease, open_attempts_of, return_unsent
from campaigns.recycle import NextStep, Tried, next_step
from campaigns.store import (
    AttemptRow,
    CdrRow,
    LeadRow,
    add_campaign,
    cdrs,
    close_attempt,
    definition_of,
    disposition_counts,
    get_campaign,
    lead_counts,
    lead_list,
    list_campaigns,
    reconsider,
    set_campaign_status,
)
from campaigns.suppression_store import NewEntry, Scope, add_entries
from dialer.errors import InputRefusedError

from .conftest import CAMPAIGN, NOON, cdr_of, fill, take

LATER = NOON + timedelta(minutes=1)
BUSY = next_step(Disposition.BUSY, Tried(1), CAMPAIGN, LATER)


async def lead_of(database: Database, lead_id: int) -> LeadRow:
    return await database.read(lambda session: session.get_one(LeadRow, lead_id))


async def test_campaigns(database: Database) -> None:
    saved = await database.write(lambda session: add_campaign(session, CAMPAIGN, NOON))
    assert (saved.created, saved.changed) == (True, False)
    assert saved.row.status is CampaignStatus.STOPPED

    saved = await database.write(lambda session: add_campaign(session, CAMPAIGN, LATER))
    assert (saved.created, saved.changed) == (False, False)

    other = CAMPAIGN.model_copy(update={"ring_seconds": 20})
    saved = await database.write(lambda session: add_campaign(session, other, LATER))
    assert (saved.created, saved.changed) == (False, True)

    await database.write(lambda s: set_campaign_status(s, "spring", CampaignStatus.RUNNING, LATER))
    row = await database.read(lambda session: get_campaign(session, "spring"))
    assert row.status is CampaignStatus.RUNNING
    assert definition_of(row) == other
    assert (row.created_at, row.updated_at) == (NOON, LATER)
    assert row.created_at.utcoffset() == timedelta(0)


async def test_a_campaign_that_there_is_not_names_those_there_are(database: Database) -> None:
    with pytest.raises(InputRefusedError, match="there is no campaign 'x'; there are: none yet"):
        await database.read(lambda session: get_campaign(session, "x"))
    await fill(database, 0)
    with pytest.raises(InputRefusedError, match="there are: spring"):
        await database.write(lambda session: set_campaign_status(session, "x", CampaignStatus.RUNNING, NOON))


async def test_counts(database: Database) -> None:
    filled = await fill(database, 5)
    await fill(database, 0, campaign=CAMPAIGN.model_copy(update={"name": "autumn"}))
    await take(database, filled, 2)
    listed = await database.read(list_campaigns)
    assert [each.row.name for each in listed] == ["autumn", "spring"]
    assert set(listed[0].leads.values()) == {0}
    assert listed[1].leads[LeadStatus.DIALING] == 2
    assert listed[1].leads == await database.read(lambda session: lead_counts(session, filled.id))
    assert sum(listed[1].leads.values()) == 5


async def test_moments_are_utc_whatever_they_come_as_and_naive_ones_are_refused(database: Database) -> None:
    there = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=-5)))
    await database.write(lambda session: add_campaign(session, CAMPAIGN, there))
    row = await database.read(lambda session: get_campaign(session, "spring"))
    assert row.created_at == there
    assert row.created_at.utcoffset() == timedelta(0)
    with pytest.raises((StatementError, ValueError), match=r"time zone|timezone"):
        await database.write(
            lambda s: add_campaign(s, CAMPAIGN.model_copy(update={"name": "x"}), there.replace(tzinfo=None))
        )


async def test_closing_an_attempt_is_all_of_it_and_once(database: Database) -> None:
    filled = await fill(database, 2)
    first, second = await take(database, filled, 2)
    assert {a.row.uuid for a in await database.read(lambda s: open_attempts_of(s, "test"))} == {
        first.uuid,
        second.uuid,
    }

    cdr = cdr_of(first, filled.id)
    cdr.sip_status, cdr.answered_at, cdr.talk_ms, cdr.agent = 486, LATER, 1234, "1001"
    assert await database.write(lambda session: close_attempt(session, cdr, BUSY, LATER)) is True

    lead = await lead_of(database, first.lead_id)
    assert (lead.status, lead.due_at, lead.attempts) == (LeadStatus.WAITING, LATER + timedelta(minutes=15), 1)
    assert (lead.last_disposition, lead.updated_at) == (Disposition.BUSY, LATER)
    attempt = await database.read(lambda session: session.get_one(AttemptRow, first.uuid))
    assert (attempt.closed_at, attempt.opened_at, attempt.attempt_no) == (LATER, NOON, 1)
    (kept,) = await database.read(lambda session: cdrs(session, filled.id))
    assert kept.model_dump() == cdr.model_dump()
    assert kept.disposition is Disposition.BUSY

    # Once more, with another outcome: nothing of it is taken.
    done = NextStep(LeadStatus.DONE, None, "x")
    again = cdr_of(first, filled.id, Disposition.BRIDGED, "NORMAL_CLEARING")
    much_later = LATER + timedelta(days=1)
    assert await database.write(lambda session: close_attempt(session, again, done, much_later)) is False
    assert (await lead_of(database, first.lead_id)).model_dump() == lead.model_dump()
    assert await database.read(lambda s: s.get_one(AttemptRow, first.uuid)) == attempt
    assert [row.model_dump() for row in await database.read(lambda s: cdrs(s, filled.id))] == [cdr.model_dump()]
    assert [a.row.uuid for a in await database.read(lambda s: open_attempts_of(s, "test"))] == [second.uuid]


async def test_closing_twice_in_one_group(database: Database) -> None:
    filled = await fill(database, 1)
    (one,) = await take(database, filled, 1)

    def both(session: Session) -> list[bool]:
        return [close_attempt(session, cdr_of(one, filled.id), BUSY, LATER) for _ in range(2)]

    assert await database.write(both) == [True, False]


async def test_closing_what_was_never_opened(database: Database) -> None:
    filled = await fill(database, 1)
    stranger = Lease("no-such-uuid", 1, "+12120000000", "carrier", "fs1", 1, {})
    with pytest.raises(InputRefusedError, match="no-such-uuid is not on record"):
        await database.write(lambda session: close_attempt(session, cdr_of(stranger, filled.id), BUSY, LATER))
    assert await database.read(lambda session: cdrs(session, filled.id)) == []


async def test_a_close_that_fails_half_way_leaves_nothing(database: Database) -> None:
    filled = await fill(database, 1)
    (one,) = await take(database, filled, 1)
    broken = cdr_of(one, filled.id)
    broken.ended_at = None  # type: ignore[assignment]
    with pytest.raises(StatementError):
        await database.write(lambda session: close_attempt(session, broken, BUSY, LATER))
    assert [a.row.uuid for a in await database.read(lambda s: open_attempts_of(s, "test"))] == [one.uuid]
    assert (await lead_of(database, one.lead_id)).status is LeadStatus.DIALING


async def test_a_final_step_leaves_the_lead_without_a_next_time(database: Database) -> None:
    filled = await fill(database, 1)
    (one,) = await take(database, filled, 1)
    step = next_step(Disposition.BRIDGED, Tried(1), CAMPAIGN, LATER)
    await database.write(
        lambda session: close_attempt(session, cdr_of(one, filled.id, Disposition.BRIDGED), step, LATER)
    )
    assert (await lead_of(database, one.lead_id)).status is LeadStatus.DONE
    assert await take(database, filled, 1) == []


async def test_export_in_order_and_in_pages(database: Database) -> None:
    filled = await fill(database, 25)
    leases = await take(database, filled, 25)

    def close_all(session: Session) -> None:
        for number, each in enumerate(leases):
            ended_at = NOON + timedelta(seconds=number * 7 % 10)  # several end at one moment
            kind = Disposition.BUSY if number % 2 else Disposition.NO_ANSWER
            close_attempt(session, cdr_of(each, filled.id, kind, ended_at=ended_at), BUSY, LATER)

    await database.write(close_all)
    exported: list[CdrRow] = []
    while page := await database.read(
        lambda s: cdrs(s, filled.id, after=exported[-1] if exported else None, limit=7)
    ):
        exported.extend(page)
    assert len(exported) == 25
    assert exported == sorted(exported, key=lambda cdr: (cdr.ended_at, cdr.attempt_uuid))
    assert {cdr.attempt_uuid for cdr in exported} == {each.uuid for each in leases}

    counts = await database.read(lambda s: disposition_counts(s, filled.id))
    assert (counts[Disposition.BUSY], counts[Disposition.NO_ANSWER], counts[Disposition.BRIDGED]) == (12, 13, 0)
    since = await database.read(lambda s: disposition_counts(s, filled.id, NOON + timedelta(seconds=5)))
    assert sum(since.values()) == sum(cdr.ended_at >= NOON + timedelta(seconds=5) for cdr in exported)


async def test_new_calling_hours_reach_leads_that_were_put_off(database: Database) -> None:
    filled = await fill(database, 3)
    night = NOON + timedelta(hours=12)
    assert await take(database, filled, 3, night) == []
    always = CAMPAIGN.windows[0].model_copy(update={"start": datetime.min.time(), "end": datetime.min.time()})
    open_now = CAMPAIGN.model_copy(update={"windows": (always.model_copy(update={"days": ("mon", "tue")}),)})
    saved = await database.write(lambda s: add_campaign(s, open_now, night))
    assert saved.before == CAMPAIGN
    assert await take(database, filled, 3, night, campaign=open_now) == []
    assert await database.write(lambda s: reconsider(s, filled.id, night)) == 3
    assert await database.write(lambda s: reconsider(s, filled.id, night)) == 0
    assert len(await take(database, filled, 3, night, campaign=open_now)) == 3


async def test_leads_that_a_lower_number_of_attempts_has_ended_go_on_with_a_higher_one(database: Database) -> None:
    filled = await fill(database, 1)
    (one,) = await take(database, filled, 1)
    await database.write(lambda s: close_attempt(s, cdr_of(one, filled.id), BUSY, LATER))
    tomorrow = NOON + timedelta(days=1)
    few, many = (
        CAMPAIGN.model_copy(update={"retries": CAMPAIGN.retries.model_copy(update={"max_attempts": most})})
        for most in (1, 5)
    )
    await database.write(lambda s: add_campaign(s, few, tomorrow))
    assert await take(database, filled, 1, tomorrow, campaign=few) == []
    assert (await lead_of(database, one.lead_id)).status is LeadStatus.EXHAUSTED
    assert await database.write(lambda s: reconsider(s, filled.id, tomorrow)) == 0
    await database.write(lambda s: add_campaign(s, many, tomorrow))
    assert await database.write(lambda s: reconsider(s, filled.id, tomorrow)) == 1
    assert [lease.attempt_no for lease in await take(database, filled, 1, tomorrow, campaign=many)] == [2]


async def test_leads_that_were_on_the_list_of_another_seller_are_looked_at_again(database: Database) -> None:
    acne, acme = (CAMPAIGN.model_copy(update={"seller": seller}) for seller in ("acne", "acme"))
    filled = await fill(database, 2, campaign=acne)
    for number, seller in (("+12120000000", "acne"), ("+12120000001", "acme")):
        await database.write(
            lambda s, number=number, seller=seller: add_entries(  # type: ignore[misc]
                s, [NewEntry(number)], scope=Scope.SELLER, scope_name=seller, source="x", added_by="x", now=NOON
            )
        )
    assert [lease.number for lease in await take(database, filled, 1, campaign=acne)] == ["+12120000001"]
    await database.write(lambda s: add_campaign(s, acme, NOON))
    assert await database.write(lambda s: reconsider(s, filled.id, NOON)) == 0
    assert await database.write(lambda s: reconsider(s, filled.id, NOON, suppressed=True)) == 1
    assert await database.write(lambda s: reconsider(s, filled.id, NOON, suppressed=True)) == 0
    assert [lease.number for lease in await take(database, filled, 1, campaign=acme)] == ["+12120000000"]


async def test_a_lead_that_rests_after_a_call_rests_on_whatever_the_rules(database: Database) -> None:
    filled = await fill(database, 1)
    (one,) = await take(database, filled, 1)
    await database.write(lambda s: close_attempt(s, cdr_of(one, filled.id), BUSY, LATER))
    assert await database.write(lambda s: reconsider(s, filled.id, LATER)) == 0
    assert await take(database, filled, 1, LATER) == []


async def test_a_list_is_made_once(database: Database) -> None:
    filled = await fill(database, 0)
    first = await database.write(lambda s: lead_list(s, filled.id, "may", NOON, source="may.csv"))
    again = await database.write(lambda s: lead_list(s, filled.id, "may", LATER))
    assert (first.id, again.source) == (again.id, "may.csv")


async def test_a_lead_withdrawn_during_its_call_is_withdrawn_when_that_ends(database: Database) -> None:
    filled = await fill(database, 2)
    called, returned = await take(database, filled, 2)

    def withdraw(session: Session) -> None:
        session.connection().execute(update(LeadRow).values(put_off_by=WITHDRAWN))

    await database.write(withdraw)
    await database.write(lambda s: close_attempt(s, cdr_of(called, filled.id), BUSY, LATER))
    await database.write(lambda s: return_unsent(s, [returned.uuid], LATER))
    for one in (called, returned):
        lead = await lead_of(database, one.lead_id)
        assert (lead.status, lead.queue, lead.put_off_by) == (LeadStatus.WITHDRAWN, None, None)
    assert await take(database, filled, 2, LATER + timedelta(days=1)) == []


async def test_the_next_number_of_a_lead_has_its_turn(database: Database) -> None:
    filled = await fill(database, 1)
    numbers = (
        LeadNumber("+12120000000", ("America/New_York",), "fixed_or_mobile", "US-NY"),
        LeadNumber("+13105550100", ("America/Los_Angeles",), "fixed_or_mobile", "US-CA"),
    )
    text = numbers_to_json(numbers)
    await database.write(lambda s: s.connection().execute(update(LeadRow).values(numbers=text)).close())
    (one,) = await take(database, filled, 1)
    assert one.numbers == numbers
    step = attrs.evolve(BUSY, number=numbers[1].number, due_at=LATER)
    await database.write(lambda s: close_attempt(s, cdr_of(one, filled.id), step, LATER))
    (two,) = await take(database, filled, 1, LATER)
    assert (two.number, two.zones, two.region, two.number_no) == (
        "+13105550100",
        ("America/Los_Angeles",),
        "US-CA",
        1,
    )
