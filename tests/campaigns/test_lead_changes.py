from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import trio
from sqlalchemy import text
from sqlmodel import Session, col, select

from campaigns import audit, lead_lists, list_export, staging, store
from campaigns.database import Database, open_database
from campaigns.disposition import Disposition
from campaigns.find_leads import Named, find_leads
from campaigns.lead import LeadStatus, Queue
from campaigns.lead_changes import LeadDetails, add_lead, change_lead, locked_leads, withdraw_lead
from campaigns.lead_lists import ListChange
from campaigns.list_rows import StagedLead
from campaigns.recycle import NextStep
from campaigns.staging import Counts, Terms
from campaigns.tables import LeadRow
from dialer.errors import InputRefusedError

from .conftest import NOON, cdr_of, fill, lead_values, take, until_another_waits

LATER = NOON + timedelta(minutes=1)
WHO = "ann"


async def add(database: Database, *numbers: str, **details: Any) -> Counts:
    options = {name: details.pop(name) for name in ("list_name", "unique_in") if name in details}
    return await database.write(
        lambda s: add_lead(s, "spring", LeadDetails(numbers, **details), who=WHO, now=NOON, **options)
    )


async def leads(database: Database) -> Sequence[LeadRow]:
    return await database.read(lambda s: s.exec(select(LeadRow).order_by(col(LeadRow.id))).all())


def with_one(
    which: str, work: Callable[[Session, str, LeadRow], bool], campaign: str = "spring"
) -> Callable[[Session], bool]:
    def found(session: Session) -> bool:
        (lead,) = locked_leads(session, find_leads(session, Named(which), campaign))
        return work(session, campaign, lead)

    return found


async def change(database: Database, which: str, **details: Any) -> bool:
    changes = LeadDetails(**details)
    return await database.write(
        with_one(which, lambda s, campaign, lead: change_lead(s, campaign, lead, changes, who=WHO, now=LATER))
    )


async def withdraw(database: Database, which: str) -> bool:
    return await database.write(
        with_one(which, lambda s, campaign, lead: withdraw_lead(s, campaign, lead, who=WHO, now=LATER))
    )


async def noted(database: Database) -> list[tuple[str, str, str]]:
    rows = await database.read(audit.notes)
    return [(row.who, row.action, row.subject) for row in rows]


async def test_a_lead_is_added_once_and_noted(database: Database) -> None:
    await fill(database, 0)
    assert await add(database, "2125550100", "(305) 555-0100", fields={"name": "Zoë"}, priority=3) == Counts(added=1)
    assert await add(database, "+12125550100") == Counts(duplicates_in_campaign=1)
    assert await add(database, "+12125550100", list_name="vip", unique_in="list") == Counts(added=1)
    one, two = await leads(database)
    assert (one.number, one.queue, one.status, one.priority) == ("+12125550100", Queue.NEW, LeadStatus.NEW, 3)
    assert [number[0] for number in json.loads(one.numbers)] == ["+12125550100", "+13055550100"]
    assert json.loads(one.fields) == {"name": "Zoë"}
    lists = await database.read(lambda s: [row.name for row in lead_lists.lists_of(s, one.campaign_id)])
    assert lists[-2:] == ["added", "vip"]
    assert two.list_id != one.list_id
    assert await noted(database) == [(WHO, "add", "spring/+12125550100")] * 2


@pytest.mark.parametrize(
    ("numbers", "details", "complaint"),
    [
        ([], {}, "a lead needs a number"),
        (["12ab"], {}, "'12ab' is not a phone number in US"),
        (["8005550199"], {}, "belongs to no place, so its calling hours are not known; say its timezone"),
        (["2125550100"], {"timezone": "Mars"}, "'Mars' is not a time zone"),
        (["2125550100"], {"priority": 10**9}, "the priority 1000000000 should be between"),
        (["2125550100"], {"list_name": "x" * 64}, "should have 1 to 63 characters"),
        (["2125550100"], {"account": "a\0"}, "the account: there is a NUL character in it"),
        (["2125550100"], {"fields": {"name": "a\0"}}, "name: there is a NUL character in it"),
        (["2125550100"], {"key": "k" * 1_001}, "the key has 1001 characters"),
    ],
)
async def test_what_cannot_be_added_is_refused(
    database: Database, numbers: list[str], details: dict[str, Any], complaint: str
) -> None:
    await fill(database, 0)
    with pytest.raises(InputRefusedError, match=complaint):
        await add(database, *numbers, **details)
    assert (await leads(database), await noted(database)) == ([], [])


@pytest.mark.parametrize("busy", [False, True])
async def test_a_change_that_is_none_or_wrong_is_refused_also_in_a_call(database: Database, busy: bool) -> None:
    filled = await fill(database, 1)
    if busy:
        await take(database, filled, 1)
    with pytest.raises(InputRefusedError, match="nothing is to be changed: say what"):
        await change(database, "1")
    with pytest.raises(InputRefusedError, match="'Mars' is not a time zone"):
        await change(database, "1", timezone="Mars")


async def test_a_key_is_one_leads(database: Database) -> None:
    await fill(database, 0)
    await add(database, "2125550100", key="k1")
    await add(database, "2125550101", key="k2")
    with pytest.raises(InputRefusedError, match="'k1' is the key of lead 1 already"):
        await add(database, "2125550102", key="k1")
    with pytest.raises(InputRefusedError, match="'k2' is the key of lead 2 already"):
        await change(database, "1", key="k2")
    assert await change(database, "1", key="k1", priority=3)
    assert [(lead.external_key, lead.priority) for lead in await leads(database)] == [("k1", 3), ("k2", 0)]


async def test_a_lead_is_found_by_any_number_by_id_and_by_key(database: Database) -> None:
    await fill(database, 0)
    await add(database, "2125550100", "3055550100", key="k1")
    await database.write(lambda s: s.execute(text("UPDATE lead SET number = '+13055550100', number_no = 1")))
    (one,) = await leads(database)
    for which, key in (("2125550100", None), ("+1 305 555 0100", None), (str(one.id), None), (None, "k1")):
        found = await database.read(lambda s, which=which, key=key: find_leads(s, Named(which, key=key), "spring"))  # type: ignore[misc]
        assert found == [one.id]
    for which, key, complaint in (
        ("2125550199", None, "has no lead of number \\+12125550199"),
        ("77", None, "has no lead of id 77"),
        (None, "k2", "has no lead of key 'k2'"),
        (None, None, "say which lead"),
        ("1", "k1", "say which lead"),
    ):
        with pytest.raises(InputRefusedError, match=complaint):
            await database.read(lambda s, which=which, key=key: find_leads(s, Named(which, key=key), "spring"))  # type: ignore[misc]


async def test_an_id_of_any_length_is_told_apart_from_a_number(database: Database) -> None:
    await fill(database, 0)
    await add(database, "2125550100")
    await database.write(lambda s: s.execute(text("UPDATE lead SET id = 21255501")))
    found = await database.read(lambda s: find_leads(s, Named(lead_id=21255501), "spring"))
    assert found == [21255501]
    with pytest.raises(InputRefusedError, match="no lead of number '21255501'; an id is told with --id"):
        await database.read(lambda s: find_leads(s, Named("21255501"), "spring"))
    with pytest.raises(InputRefusedError, match=f"no lead of id {10**30}"):
        await database.read(lambda s: find_leads(s, Named(lead_id=10**30), "spring"))


async def test_a_change_makes_no_second_lead_of_a_number(database: Database) -> None:
    await fill(database, 0)
    await add(database, "2125550100")
    await add(database, "2125550101", "3055550100")
    with pytest.raises(InputRefusedError, match="\\+12125550100 is the number of lead 1 already"):
        await change(database, "2125550101", numbers=["2125550100"])
    assert [lead.number for lead in await leads(database)] == ["+12125550100", "+12125550101"]
    assert await change(database, "2125550101", numbers=["2125550101", "2125550100"])  # known by the first
    assert await change(database, "2125550101", numbers=["2125550102"])


async def test_a_change_keeps_what_it_does_not_name(database: Database) -> None:
    await fill(database, 0)
    await add(database, "2125550100", fields={"name": "Ann", "note": "x"}, key="k1", account="A")
    assert await change(database, "2125550100", fields={"note": "", "city": "Rome"}, priority=7)
    (lead,) = await leads(database)
    assert (json.loads(lead.fields), lead.priority) == ({"name": "Ann", "city": "Rome"}, 7)
    assert (lead.external_key, lead.account, lead.number) == ("k1", "A", "+12125550100")
    assert await change(database, "2125550100", numbers=["3055550100", "2125550100"])
    (lead,) = await leads(database)
    assert (lead.number, lead.number_no, lead.first_number) == ("+12125550100", 1, "+13055550100")
    assert await change(database, "2125550100", timezone="Europe/Rome")
    (lead,) = await leads(database)
    assert json.loads(lead.zones) == ["Europe/Rome"]
    last = (await database.read(audit.notes))[-1]
    assert (json.loads(last.before or ""), json.loads(last.after or "")) == (
        {"zones": ["America/New_York"]},
        {"zones": ["Europe/Rome"]},
    )


async def test_a_lead_stays_where_its_list_said_it_is(database: Database) -> None:
    await fill(database, 0)
    await add(database, "8005550100", timezone="America/Los_Angeles")
    await database.write(lambda s: s.execute(text("UPDATE lead SET region = 'US-FL'")))
    assert await change(database, "1", timezone="America/Chicago")
    (lead,) = await leads(database)
    assert (lead.region, json.loads(lead.zones)) == ("US-FL", ["America/Chicago"])
    assert await change(database, "1", numbers=["8005550100", "2125550101"])
    (lead,) = await leads(database)
    assert (lead.number, lead.region, json.loads(lead.zones)) == ("+18005550100", "US-FL", ["America/Chicago"])
    assert [one[1::2] for one in json.loads(lead.numbers)] == [
        [["America/Chicago"], "US-FL"],
        [["America/New_York"], "US-NY"],
    ]


async def test_all_leads_of_a_number_are_found_to_be_withdrawn(database: Database) -> None:
    await fill(database, 0)
    values: dict[str, Any] = lead_values(1)(0) | {"number": "+12125550100"}
    await add(database, "3055550100")  # which makes the list
    await database.write(lambda s: s.add_all(LeadRow(**values, external_key=f"k{key}") for key in range(25)))
    found = await database.read(lambda s: find_leads(s, Named("2125550100"), "spring"))
    assert len(found) == 25
    assert len(await database.read(lambda s: find_leads(s, Named("2125550100"), "spring", most=20))) == 20


async def test_a_lead_in_a_call_keeps_its_numbers(database: Database) -> None:
    filled = await fill(database, 1)
    await take(database, filled, 1)
    assert not await change(database, "1", numbers=["3055550100"], fields={"name": "New"})
    (lead,) = await leads(database)
    assert (lead.number, json.loads(lead.fields), lead.status) == (
        "+12120000000",
        {"name": "New"},
        LeadStatus.DIALING,
    )


async def test_a_withdrawn_lead_is_not_called(database: Database) -> None:
    filled = await fill(database, 2)
    assert await withdraw(database, "1")
    assert await withdraw(database, "1")  # again is no harm
    assert [lease.lead_id for lease in await take(database, filled, 2)] == [2]
    assert (await leads(database))[0].status is LeadStatus.WITHDRAWN
    assert await noted(database) == [(WHO, "withdraw", "spring/1")]


async def test_a_lead_in_a_call_is_withdrawn_when_that_ends(database: Database) -> None:
    filled = await fill(database, 1)
    (lease,) = await take(database, filled, 1)
    assert not await withdraw(database, "1")
    assert (await leads(database))[0].status is LeadStatus.DIALING
    again = NextStep(LeadStatus.WAITING, LATER, "busy")
    await database.write(lambda s: store.close_attempt(s, cdr_of(lease, filled.id, Disposition.BUSY), again, LATER))
    (lead,) = await leads(database)
    assert (lead.status, lead.queue) == (LeadStatus.WITHDRAWN, None)


async def test_lists_take_turns_as_they_are_told(database: Database) -> None:
    filled = await fill(database, 3)

    def tell(wanted: ListChange, name: str = "list") -> Callable[[Session], object]:
        return lambda s: lead_lists.change_list(s, "spring", filled.id, name, wanted, who=WHO, now=LATER)

    await database.write(tell(ListChange(priority=5, weight=3, newest_first=True, active=False)))
    (one,) = await database.read(lambda s: lead_lists.summaries(s, filled.id))
    assert (one.row.priority, one.row.weight, one.row.newest_first, one.row.active) == (5, 3, True, False)
    assert {status: count for status, count in one.leads.items() if count} == {LeadStatus.NEW: 3}
    await database.write(tell(ListChange(priority=5)))  # is so already
    assert await noted(database) == [(WHO, "change", "spring/list")]
    for wrong, name, complaint in (
        (ListChange(weight=0), "list", "the weight 0 should be between 1 and 1000"),
        (ListChange(priority=9_999), "list", "the priority 9999 should be"),
        (ListChange(weight=1), "lost", "the campaign has no list 'lost'; it has 'list'"),
    ):
        with pytest.raises(InputRefusedError, match=complaint):
            await database.write(tell(wrong, name))


async def exported(database: Database, wanted: list_export.Wanted) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    last = 0
    while page := await database.read(partial(list_export.page, wanted=wanted, after_id=last)):
        rows += page
        last = page[-1]["id"]
    return rows


async def test_an_export_has_everything_page_by_page(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_export, "PAGE", 2)
    filled = await fill(database, 0)
    await add(database, "2125550100", "3055550100", fields={"name": "Zoë"}, key="k1")
    await add(database, "2125550101", fields={"city": "=1+1"}, list_name="vip")
    await add(database, "2125550102")
    wanted = list_export.Wanted(filled.id)
    rows = await exported(database, wanted)
    assert [row["number"] for row in rows] == ["+12125550100", "+12125550101", "+12125550102"]
    assert set(rows[0]) == {*list_export.COLUMNS, "places", "fields"}
    assert (rows[0]["numbers"], rows[0]["external_key"]) == (["+12125550100", "+13055550100"], "k1")
    assert (rows[1]["list"], rows[1]["fields"], rows[1]["status"]) == ("vip", {"city": "=1+1"}, LeadStatus.NEW)
    assert await database.read(lambda s: list_export.table_shape(s, wanted)) == list_export.TableShape(
        2, ("name", "city")
    )
    lists = await database.read(lambda s: {row.name: row.id or 0 for row in lead_lists.lists_of(s, filled.id)})
    for narrowed, numbers in (
        (list_export.Wanted(filled.id, (LeadStatus.DONE,)), []),
        (list_export.Wanted(filled.id, (LeadStatus.NEW, LeadStatus.DONE), (lists["vip"],)), ["+12125550101"]),
        (list_export.Wanted(filled.id + 1), []),
    ):
        assert [row["number"] for row in await exported(database, narrowed)] == numbers


async def test_everybody_with_a_number_is_found_by_it(database: Database) -> None:
    await fill(database, 0)
    await add(database, "2125550101")
    await add(database, "2125550102", "2125550101")
    assert await database.read(lambda s: find_leads(s, Named("+12125550101"), "spring")) == [1, 2]


async def test_a_change_and_an_import_by_key_do_not_wait_for_each_other(postgres_url: str) -> None:
    async with open_database(postgres_url, node=None) as one, open_database(postgres_url, node=None) as two:
        await fill(one, 0)
        await add(one, "2125550101", key="k")
        has_lead = threading.Event()

        def change_number(session: Session) -> None:
            (lead,) = locked_leads(session, [1])
            has_lead.set()
            until_another_waits(session)
            change_lead(session, "spring", lead, LeadDetails(["+12125550103"]), who=WHO, now=NOON)

        def import_it(session: Session) -> None:
            has_lead.wait(60)
            again = StagedLead("+12125550102", '["America/New_York"]', "US-NY", "unknown", "[]", "{}", "k")
            staging.add_leads(session, 1, [again], Terms("list", by="key"), 2**62, NOON)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.write, change_number)
            nursery.start_soon(two.write, import_it)
        assert [lead.number for lead in await leads(one)] == ["+12125550102"]
