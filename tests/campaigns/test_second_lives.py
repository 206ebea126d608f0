"""Leads that were over and are not: withdrawn and back again, a wrong number put right, more attempts allowed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session, col, select

from campaigns.campaign import Campaign, Retries
from campaigns.database import Database
from campaigns.disposition import Disposition
from campaigns.hopper import lease
from campaigns.lead import LeadStatus, all_numbers
from campaigns.lead_changes import LeadDetails, add_lead, change_lead, locked_leads, withdraw_lead
from campaigns.leases import Leased
from campaigns.list_import import ImportOptions, ImportReport, import_list
from campaigns.recycle import next_step
from campaigns.rules.callable import RuleBook
from campaigns.staging import Counts
from campaigns.store import add_campaign, close_attempt, reconsider
from campaigns.tables import LeadRow
from dialer.errors import InputRefusedError

from .conftest import CAMPAIGN, NOON, TRUNKS, Filled, cdr_of, fill, slots

MINUTE = timedelta(minutes=1)
WHO: dict[str, Any] = {"who": "ann", "now": NOON}


async def listed(database: Database, path: Path, content: str, **options: Any) -> ImportReport:
    file = path / "list.csv"
    file.write_text(content)
    return await import_list(database, file, "spring", options=ImportOptions(**options), now=NOON)


async def the_lead(database: Database) -> LeadRow:
    return await database.read(lambda s: s.exec(select(LeadRow).order_by(col(LeadRow.id).desc())).all()[0])


async def leased(database: Database, filled: Filled, now: Any = NOON) -> Leased:
    book = RuleBook(filled.campaign, filled.id)
    return await database.write(lambda s: lease(s, book, slots(1), TRUNKS, "test", now))


async def ended(database: Database, filled: Filled, disposition: Disposition) -> None:
    """The lead that is due is called, and that is what becomes of it."""
    (one,) = (await leased(database, filled)).leases
    step = next_step(disposition, one, filled.campaign, NOON)
    assert await database.write(lambda s: close_attempt(s, cdr_of(one, filled.id, disposition, ""), step, NOON))


def changed(details: LeadDetails) -> Any:
    def work(session: Session) -> bool:
        ids = [one.id or 0 for one in session.exec(select(LeadRow)).all()]
        return change_lead(session, "spring", locked_leads(session, ids)[0], details, **WHO)

    return work


@pytest.mark.parametrize("by", ["number", "key"])
async def test_who_was_withdrawn_may_come_back(database: Database, tmp_path: Path, by: str) -> None:
    filled = await fill(database, 0)
    await listed(database, tmp_path, "id,number\nk1,2125550100\n", by=by)
    await database.write(lambda s: withdraw_lead(s, "spring", s.exec(select(LeadRow)).one(), **WHO))
    assert (await listed(database, tmp_path, "id,number\nk1,2125550100\n", by=by)).counts.added == 1
    assert len((await leased(database, filled)).leases) == 1
    again = await listed(database, tmp_path, "id,number\nk1,2125550100\n", by=by)
    assert again.counts.added == 0


@pytest.mark.parametrize("by_list", [True, False])
async def test_a_wrong_number_that_is_put_right_is_called(database: Database, tmp_path: Path, by_list: bool) -> None:
    filled = await fill(database, 0)
    await listed(database, tmp_path, "id,number\nk1,2125550100\n", by="key")
    await ended(database, filled, Disposition.INVALID_NUMBER)
    assert (await the_lead(database)).status is LeadStatus.DEAD
    same = await listed(database, tmp_path, "id,number\nk1,2125550100\n", by="key")
    assert (same.counts, (await the_lead(database)).status) == (Counts(updated=1, over=1), LeadStatus.DEAD)
    if by_list:
        report = await listed(database, tmp_path, "id,number\nk1,2125550199\n", by="key")
        assert report.counts == Counts(updated=1)
    else:
        assert await database.write(changed(LeadDetails(["2125550199"])))
    assert [one.number for one in (await leased(database, filled, NOON + MINUTE)).leases] == ["+12125550199"]


async def test_another_number_does_not_bring_back_who_wants_no_calls(database: Database, tmp_path: Path) -> None:
    filled = await fill(database, 0)
    await listed(database, tmp_path, "id,number\nk1,2125550100\n", by="key")
    await ended(database, filled, Disposition.OPTED_OUT)
    report = await listed(database, tmp_path, "id,number\nk1,2125550199\n", by="key")
    assert (report.counts, (await the_lead(database)).status) == (Counts(updated=1, over=1), LeadStatus.DEAD)


async def test_a_list_may_ask_for_a_call_of_who_was_reached(database: Database, tmp_path: Path) -> None:
    filled = await fill(database, 0)
    await listed(database, tmp_path, "id,number\nk1,2125550100\n", by="key")
    await ended(database, filled, Disposition.BRIDGED)
    asks = "id,number,callback_at\nk1,2125550100,2026-11-23 13:00\n"  # an hour later, in New York
    assert (await listed(database, tmp_path, asks, by="key")).counts == Counts(updated=1)
    assert (await leased(database, filled, NOON + 59 * MINUTE)).leases == []
    assert len((await leased(database, filled, NOON + 60 * MINUTE)).leases) == 1


def tries(most: int) -> Campaign:
    return CAMPAIGN.model_copy(update={"retries": Retries(max_attempts=most)})


async def test_more_attempts_bring_back_who_was_tried_in_vain_after_their_rest(database: Database) -> None:
    filled = await fill(database, 1, campaign=tries(1))
    await ended(database, filled, Disposition.BUSY)
    assert (await the_lead(database)).status is LeadStatus.EXHAUSTED
    more, soon = Filled(tries(2), filled.id), NOON + MINUTE
    await database.write(lambda s: add_campaign(s, more.campaign, soon))
    assert await database.write(lambda s: reconsider(s, filled.id, soon)) == 1
    assert await database.write(lambda s: reconsider(s, filled.id, soon)) == 0
    rests_until = (await the_lead(database)).due_at
    assert rests_until == NOON + timedelta(seconds=float(more.campaign.retries.delay_seconds.busy))
    assert (await leased(database, more, rests_until - MINUTE)).leases == []
    assert len((await leased(database, more, rests_until)).leases) == 1


@pytest.mark.parametrize(
    ("content", "numbers"),
    [
        ("id,number,name\nk1,2125550100,Ann\n", ["+12125550100", "+12125550101"]),
        ("id,number\nk1,2125550199\n", ["+12125550199", "+12125550101"]),  # the first put right
        ("id,number\nk1,2125550101\n", ["+12125550100", "+12125550101"]),  # it is one of them
        ("id,number,phone 2\nk1,2125550100,\n", ["+12125550100"]),
    ],
)
async def test_a_list_without_a_column_for_further_numbers_leaves_them(
    database: Database, tmp_path: Path, content: str, numbers: list[str]
) -> None:
    await fill(database, 0)
    await listed(database, tmp_path, "id,number,phone 2\nk1,2125550100,2125550101\n", by="key")
    await listed(database, tmp_path, content, by="key")
    assert [one.number for one in all_numbers(await the_lead(database))] == numbers


async def test_consent_is_given_and_taken_by_hand(database: Database) -> None:
    asks = CAMPAIGN.model_copy(update={"consent": "written"})
    filled = await fill(database, 0, campaign=asks)
    given = LeadDetails(["2125550100"], consent_at="2026-11-20", consent_evidence="form 7")
    await database.write(lambda s: add_lead(s, "spring", given, **WHO))
    await database.write(changed(LeadDetails(consent_at="")))
    assert (await the_lead(database)).consent_evidence is None
    assert (await leased(database, filled)).blocked == {"consent": 1}
    await database.write(changed(LeadDetails(consent_at="2026-11-21 10:00", consent_evidence="form 8")))
    assert len((await leased(database, filled)).leases) == 1
    with pytest.raises(InputRefusedError, match="lies in the future"):
        await database.write(changed(LeadDetails(consent_at="2026-11-24")))
