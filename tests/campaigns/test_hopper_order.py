"""In which order leads are leased, who is passed over, and over which trunk a call goes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from functools import partial
from typing import Any, get_args
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
import trio
from sqlalchemy import insert, update
from sqlmodel import Session, col, select

from campaigns import forbidden_leads, hopper
from campaigns import passed_by as passed_by_module
from campaigns.called_numbers import IN_CALL
from campaigns.campaign import CallingHours, Campaign, Cap, Day
from campaigns.database import Database, open_database
from campaigns.disposition import Disposition
from campaigns.explain import outline
from campaigns.hopper import lease
from campaigns.lead import LeadStatus, Queue
from campaigns.lead_changes import withdraw_lead
from campaigns.leases import Lease, Leased, return_unsent, send
from campaigns.passed_by import PassedBy
from campaigns.recycle import History, next_step
from campaigns.rules.callable import RuleBook
from campaigns.slots import Slot
from campaigns.store import LeadRow, close_attempt, lead_list
from campaigns.suppression_store import NewEntry, Scope
from campaigns.tables import CallerIdDayRow, CampaignRow, LeadListRow
from campaigns.trunk import CallerId, Trunk

from .conftest import CAMPAIGN, NEW_YORK, NOON, TRUNKS, Filled, cdr_of, fill, forbid, slots

ONE = Trunk("carrier", "fs1")
ANY_HOUR = (CallingHours(days=get_args(Day), start=time(0), end=time(0)),)


async def more_leads(database: Database, filled: Filled, name: str, count: int, **values: Any) -> list[int]:
    """A list called `name` with `count` leads; `values` are of its row where it has such, of the leads else."""
    of_list = {key: values.pop(key) for key in list(values) if key in LeadListRow.model_fields and key != "priority"}

    def work(session: Session) -> list[int]:
        row = lead_list(session, filled.id, name, NOON)
        for key, value in of_list.items():
            setattr(row, "priority" if key == "list_priority" else key, value)
        session.add(row)
        before = session.connection().scalar(select(col(LeadRow.id)).order_by(col(LeadRow.id).desc()).limit(1)) or 0
        session.connection().execute(
            insert(LeadRow),
            [
                {
                    "campaign_id": filled.id,
                    "list_id": row.id,
                    "number": f"+1646{before + n:07}",
                    "zones": NEW_YORK,
                    "status": LeadStatus.NEW,
                    "due_at": NOON,
                    "created_at": NOON,
                    "updated_at": NOON,
                    **values,
                }
                for n in range(count)
            ],
        )
        return [before + n + 1 for n in range(count)]

    return await database.write(work)


async def set_list(database: Database, name: str, **values: Any) -> None:
    await database.write(
        lambda s: (
            s.connection().execute(update(LeadListRow).where(col(LeadListRow.name) == name).values(**values)).close()
        )
    )


async def ask(
    database: Database,
    filled: Filled,
    count: int,
    trunks: Mapping[str, Trunk] | None = None,
    *,
    now: datetime = NOON,
    campaign: Campaign | None = None,
    wanted: Sequence[Slot] | None = None,
    idle_agents: Sequence[str] | None = None,
    in_turn: bool = False,
    passed_by: PassedBy | None = None,
) -> Leased:
    book = RuleBook(campaign or filled.campaign, filled.id)
    room, over = wanted or slots(count), trunks or {"carrier": ONE}
    return await database.write(
        lambda s: lease(
            s, book, room, over, "test", now, idle_agents=idle_agents, in_turn=in_turn, passed_by=passed_by
        )
    )


def ids(leased: Leased | Sequence[Lease]) -> list[int]:
    return [one.lead_id for one in (leased.leases if isinstance(leased, Leased) else leased)]


async def lead_of(database: Database, lead_id: int) -> LeadRow:
    return await database.read(lambda session: session.get_one(LeadRow, lead_id))


# Lists.


async def test_a_list_of_a_higher_priority_is_called_empty_first(database: Database) -> None:
    filled = await fill(database, 0)
    low = await more_leads(database, filled, "low", 3)
    high = await more_leads(database, filled, "high", 3)
    await set_list(database, "high", priority=5)
    assert ids(await ask(database, filled, 4)) == [*high, low[0]]


async def test_lists_of_one_priority_take_turns_by_weight_one_lead_at_a_time_or_many(database: Database) -> None:
    filled = await fill(database, 0)
    one = set(await more_leads(database, filled, "one", 40))
    three = set(await more_leads(database, filled, "three", 40))
    await set_list(database, "three", weight=3)
    together = ids(await ask(database, filled, 16))
    assert (len(one & {*together}), len(three & {*together})) == (4, 12)
    singly = [lead_id for _ in range(16) for lead_id in ids(await ask(database, filled, 1))]
    assert (len(one & {*singly}), len(three & {*singly})) == (4, 12)


async def test_a_list_that_is_not_active_keeps_its_leads(database: Database) -> None:
    filled = await fill(database, 0)
    await more_leads(database, filled, "resting", 3)
    (mine,) = await more_leads(database, filled, "active", 1)
    await set_list(database, "resting", active=False)
    assert ids(await ask(database, filled, 4)) == [mine]
    await set_list(database, "resting", active=True)
    assert len(ids(await ask(database, filled, 4))) == 3


async def test_the_oldest_first_or_the_newest_as_the_list_says_and_a_leads_priority_before_that(
    database: Database,
) -> None:
    filled = await fill(database, 0)
    plain = await more_leads(database, filled, "list", 3)
    dear = await more_leads(database, filled, "list", 2, priority=9)
    assert ids(await ask(database, filled, 3)) == [*dear, plain[0]]
    await set_list(database, "list", newest_first=True)
    assert ids(await ask(database, filled, 2)) == [plain[2], plain[1]]


@pytest.mark.parametrize("new_first", [False, True])
async def test_urgent_ones_then_call_backs_then_retries_or_new_ones(database: Database, new_first: bool) -> None:
    campaign = CAMPAIGN.model_copy(update={"new_first": new_first})
    filled = await fill(database, 0, campaign=campaign)
    (new,) = await more_leads(database, filled, "list", 1)
    (retry,) = await more_leads(database, filled, "list", 1, status=LeadStatus.WAITING, queue=Queue.RETRY)
    (promised,) = await more_leads(
        database, filled, "list", 1, status=LeadStatus.WAITING, queue=None, callback_at=NOON
    )
    (urgent,) = await more_leads(database, filled, "list", 1, status=LeadStatus.WAITING, queue=Queue.URGENT)
    rest = [new, retry] if new_first else [retry, new]
    assert ids(await ask(database, filled, 9)) == [urgent, promised, *rest]


# Call-backs.


async def test_a_call_back_for_one_agent_waits_for_that_agent_and_then_for_anybody(database: Database) -> None:
    filled = await fill(database, 0)
    promised = {"status": LeadStatus.WAITING, "queue": None, "callback_at": NOON, "callback_agent": "1001"}
    (mine,) = await more_leads(database, filled, "list", 1, **promised)
    leased = await ask(database, filled, 1, idle_agents=["1000"])
    assert (ids(leased), leased.blocked) == ([], {"callback_agent": 1})
    soon = NOON + timedelta(seconds=31)
    (found,) = (await ask(database, filled, 1, now=soon, idle_agents=["1001"])).leases
    assert (found.lead_id, found.callback_at, found.callback_agent) == (mine, NOON, "1001")
    await database.write(lambda s: return_unsent(s, [found.uuid], soon))
    late = NOON + timedelta(minutes=CAMPAIGN.callback_patience_minutes, seconds=1)
    (found,) = (await ask(database, filled, 1, now=late, idle_agents=["1000"])).leases
    assert (found.lead_id, found.callback_agent) == (mine, None)


async def test_the_night_is_not_counted_as_patience_for_an_agents_own_call_back(database: Database) -> None:
    filled = await fill(database, 0)
    night = NOON + timedelta(hours=8, minutes=30)  # 20:30 in New York, where calling ends at 20:00
    promised = {"status": LeadStatus.WAITING, "queue": None, "callback_at": night, "callback_agent": "1001"}
    (mine,) = await more_leads(database, filled, "list", 1, due_at=night, **promised)
    assert (await ask(database, filled, 1, now=night, idle_agents=["1000"])).blocked == {"calling_hours": 1}
    morning, patience = NOON + timedelta(hours=21), timedelta(minutes=CAMPAIGN.callback_patience_minutes)
    leased = await ask(database, filled, 1, now=morning, idle_agents=["1000"])
    assert (ids(leased), leased.blocked) == ([], {"callback_agent": 1})
    last = morning + patience - timedelta(seconds=1)
    (found,) = (await ask(database, filled, 1, now=last, idle_agents=["1001"])).leases
    assert (found.lead_id, found.callback_agent) == (mine, "1001")
    await database.write(lambda s: return_unsent(s, [found.uuid], last))
    (found,) = (await ask(database, filled, 1, now=morning + patience, idle_agents=["1000"])).leases
    assert (found.lead_id, found.callback_agent) == (mine, None)


async def test_a_call_back_for_an_agent_on_another_switch_keeps_its_place(database: Database) -> None:
    filled = await fill(database, 0)
    promised = {"status": LeadStatus.WAITING, "queue": None, "callback_at": NOON, "callback_agent": "1001"}
    (mine,) = await more_leads(database, filled, "list", 1, **promised)
    trunks = {"carrier": Trunk("carrier", "fs1"), "other": Trunk("other", "fs2")}
    leased = await ask(database, filled, 1, trunks=trunks, idle_agents=["1000"])
    assert (ids(leased), leased.blocked) == ([], {})
    (found,) = (await ask(database, filled, 1, trunks=trunks, idle_agents=["1001"])).leases
    assert (found.lead_id, found.callback_agent) == (mine, "1001")


async def test_a_call_back_is_within_the_law_too(database: Database) -> None:
    filled = await fill(database, 0)
    night = NOON + timedelta(hours=12)
    await more_leads(database, filled, "list", 1, status=LeadStatus.WAITING, queue=None, callback_at=night)
    assert ids(await ask(database, filled, 1, now=night)) == []
    morning = NOON + timedelta(hours=21)
    (found,) = (await ask(database, filled, 1, now=morning)).leases
    assert found.callback_at == night


# Do-not-call lists.


@pytest.mark.parametrize(
    ("scope", "name", "forbids"),
    [
        (Scope.SYSTEM, "", True),
        (Scope.CAMPAIGN, "spring", True),
        (Scope.CAMPAIGN, "autumn", False),
        (Scope.SELLER, "acme", True),
        (Scope.SELLER, "other", False),
    ],
)
@pytest.mark.parametrize("pattern", ["+12120000000", "+1212000*"])
async def test_nobody_on_a_do_not_call_list_of_its_scope_is_leased(
    database: Database, scope: Scope, name: str, forbids: bool, pattern: str
) -> None:
    filled = await fill(database, 1, campaign=CAMPAIGN.model_copy(update={"seller": "acme"}))
    await forbid(database, pattern, scope=scope, name=name)
    leased = await ask(database, filled, 1)
    assert len(leased.leases) == (not forbids)
    if forbids:
        assert leased.blocked == {"suppressed": 1}
        assert (await lead_of(database, 1)).status is LeadStatus.SUPPRESSED
        entry = NewEntry(pattern.removesuffix("*"), is_prefix=pattern.endswith("*"))
        assert await database.write(
            lambda s: forbidden_leads.allow(s, [entry], scope=scope, scope_name=name, now=NOON)
        )
        assert ids(await ask(database, filled, 1)) == [1]


async def test_an_entry_that_expires_puts_off_until_then(database: Database) -> None:
    filled = await fill(database, 1)
    until = NOON + timedelta(minutes=10)
    await forbid(database, "+12120000000", expires_at=until)
    assert ids(await ask(database, filled, 1)) == []
    assert (await lead_of(database, 1)).due_at == until
    assert ids(await ask(database, filled, 1, now=until)) == [1]


async def test_who_was_put_off_for_an_entry_is_called_once_it_is_gone(database: Database) -> None:
    filled = await fill(database, 1)
    await forbid(database, "+12120000000", expires_at=NOON + timedelta(days=30))
    assert ids(await ask(database, filled, 1)) == []
    await database.write(
        lambda s: forbidden_leads.allow(s, [NewEntry("+12120000000")], scope=Scope.SYSTEM, scope_name="", now=NOON)
    )
    assert ids(await ask(database, filled, 1)) == [1]


async def test_what_was_offered_is_not_sent_once_it_is_on_a_list(database: Database) -> None:
    preview = CAMPAIGN.model_copy(update={"mode": "preview"})
    filled = await fill(database, 1, campaign=preview)
    (offered,) = (await ask(database, filled, 1)).leases
    await forbid(database, offered.number)
    book = RuleBook(preview, filled.id)
    assert not await database.write(lambda s: send(s, offered.uuid, book, NOON))


async def test_what_was_offered_is_not_sent_once_it_is_withdrawn(database: Database) -> None:
    preview = CAMPAIGN.model_copy(update={"mode": "preview"})
    filled = await fill(database, 1, campaign=preview)
    (offered,) = (await ask(database, filled, 1)).leases

    def withdraw(session: Session) -> None:
        lead = session.get_one(LeadRow, offered.lead_id)
        assert not withdraw_lead(session, "spring", lead, who="me", now=NOON)

    await database.write(withdraw)
    assert not await database.write(lambda s: send(s, offered.uuid, RuleBook(preview, filled.id), NOON))
    await database.write(lambda s: return_unsent(s, [offered.uuid], NOON))
    lead = await database.read(lambda s: s.get_one(LeadRow, offered.lead_id))
    assert (lead.status, lead.attempts) == (LeadStatus.WITHDRAWN, 0)


# Caps.


async def test_a_cap_counts_calls_of_every_campaign_to_the_number(database: Database) -> None:
    cap = Cap(of="number", most=1, hours=2, across="all")
    filled = await fill(database, 1, campaign=CAMPAIGN.model_copy(update={"caps": (cap,)}))
    other = await fill(database, 0, campaign=CAMPAIGN.model_copy(update={"name": "autumn"}))
    await more_leads(database, other, "list", 1, number="+12120000000")
    (called,) = (await ask(database, other, 1)).leases
    assert called.number == "+12120000000"
    step, busy = next_step(Disposition.BUSY, called, CAMPAIGN, NOON), Disposition.BUSY
    await database.write(lambda s: close_attempt(s, cdr_of(called, other.id, busy, ""), step, NOON))
    leased = await ask(database, filled, 1)
    assert (ids(leased), leased.blocked) == ([], {"cap": 1})
    assert (await lead_of(database, 1)).due_at == NOON + timedelta(hours=2)
    assert ids(await ask(database, filled, 1, now=NOON + timedelta(hours=2))) == [1]


async def test_nobody_s_phone_rings_twice_at_once(database: Database) -> None:
    """Several leads may have one number: by key, in several lists, in several campaigns."""
    filled = await fill(database, 1)
    await more_leads(database, filled, "second", 1, number="+12120000000")
    other = await fill(database, 0, campaign=CAMPAIGN.model_copy(update={"name": "autumn"}))
    await more_leads(database, other, "list", 1, number="+12120000000")
    (called,) = (await ask(database, filled, 2)).leases
    leased, row = await ask(database, other, 1), await database.read(lambda s: s.get_one(CampaignRow, other.id))
    assert (ids(leased), leased.blocked) == ([], {IN_CALL: 1})
    *_, told = await database.read(lambda s: list(outline(s, row, TRUNKS, NOON)))
    assert dict(told.blocked) == {IN_CALL: 1}
    step, busy = next_step(Disposition.BUSY, called, CAMPAIGN, NOON), Disposition.BUSY
    await database.write(lambda s: close_attempt(s, cdr_of(called, filled.id, busy, ""), step, NOON))
    assert len(ids(await ask(database, other, 1, now=NOON + timedelta(minutes=1)))) == 1


async def test_what_was_no_call_does_not_count_against_a_cap(database: Database) -> None:
    cap = Cap(of="number", most=1, hours=2, across="all")
    campaign = CAMPAIGN.model_copy(update={"caps": (cap,), "gateways": ("carrier", "second")})
    filled = await fill(database, 1, campaign=campaign)
    (failed,) = (await ask(database, filled, 1)).leases
    step = next_step(Disposition.FAILED_OVER, failed, campaign, NOON)
    await database.write(
        lambda s: close_attempt(s, cdr_of(failed, filled.id, Disposition.FAILED_OVER, "NETWORK"), step, NOON)
    )
    trunks = {"carrier": ONE, "second": Trunk("second", "fs1")}
    room = [Slot(str(n), name, "fs1") for n, name in enumerate(("carrier", "second"))]
    (again,) = (await ask(database, filled, 2, trunks, wanted=room)).leases
    assert (again.gateway, again.attempt_no, again.history) == ("second", 1, History(failed_gateways=("carrier",)))


# Trunks.


async def test_a_lead_that_no_trunk_may_carry_is_put_off_and_one_that_has_no_slot_waits(database: Database) -> None:
    filled = await fill(database, 1)
    far = await more_leads(database, filled, "list", 1, number="+14165550100")
    trunks = {
        "carrier": Trunk("carrier", "fs1", blind=("+1212", "+1416")),
        "second": Trunk("second", "fs1", blind=("+1416",)),
    }
    leased = await ask(database, filled, 2, trunks)
    assert (ids(leased), leased.unfitted, leased.blocked) == ([], 1, {"blind_area": 1})
    assert (await lead_of(database, far[0])).put_off_by == "blind_area"
    room = [Slot("u", "second", "fs1")]
    assert ids(await ask(database, filled, 1, trunks, wanted=room)) == [1]


async def test_a_lead_that_fits_no_slot_keeps_its_turn_when_asked_to(database: Database) -> None:
    filled = await fill(database, 1)
    await more_leads(database, filled, "list", 3)
    trunks = {"carrier": Trunk("carrier", "fs1", blind=("+1212",)), "second": Trunk("second", "fs1")}
    leased = await ask(database, filled, 2, trunks, in_turn=True)
    assert (ids(leased), leased.unfitted) == ([2], 1)
    leased = await ask(database, filled, 1, trunks, in_turn=True)
    assert (ids(leased), leased.unfitted) == ([], 1)
    leased = await ask(database, filled, 1, trunks)
    assert (ids(leased), leased.unfitted) == ([3], 1)


async def test_however_many_fit_no_slot_those_behind_them_are_reached(database: Database) -> None:
    """A list that begins with thousands whom only a busy trunk may call."""
    filled = await fill(database, hopper.LOOKED_AT_MOST * 2 + 50)
    behind = await more_leads(database, filled, "list", 3)
    trunks = {"carrier": ONE, "second": Trunk("second", "fs1", within="+1646")}
    passed_by = PassedBy()

    async def over(name: str, now: datetime = NOON) -> tuple[list[int], bool]:
        room = [Slot(str(uuid4()), name, "fs1")]
        leased = await ask(database, filled, 1, trunks, wanted=room, passed_by=passed_by, now=now)
        return ids(leased), leased.more

    assert [await over("second") for _ in range(3)] == [([], True), ([], True), (behind[:1], False)]
    assert await over("second") == (behind[1:2], False)
    assert await over("carrier") == ([1], False)  # the head of the queue, at once
    later = NOON + passed_by_module.FORGOTTEN_AFTER
    assert await over("second", later) == ([], True)  # somebody may have come in further ahead
    alone = await ask(database, filled, 1, trunks, wanted=[Slot("x", "second", "fs1")])
    assert (ids(alone), alone.more) == ([], True)


@pytest.mark.parametrize(
    ("second", "gateway"),
    [
        (Trunk("second", "fs1"), None),  # it waits for the other, which has no slot just now
        (Trunk("second", "fs1", away=True), "carrier"),
        (Trunk("second", "fs1", blind=("+1212",)), "carrier"),
        (None, "carrier"),
    ],
)
async def test_a_trunk_that_failed_a_lead_gets_it_again_when_there_is_no_other(
    database: Database, second: Trunk | None, gateway: str | None
) -> None:
    filled = await fill(database, 1)
    history = History(failed_gateways=("carrier",)).to_json()
    await database.write(lambda s: s.connection().execute(update(LeadRow).values(history=history)).close())
    trunks = {"carrier": ONE} | ({"second": second} if second is not None else {})
    leased = await ask(database, filled, 1, trunks)
    assert [lease.gateway for lease in leased.leases] == ([gateway] if gateway is not None else [])


async def test_once_a_day_over_one_trunk_is_over_another_after_that(database: Database) -> None:
    filled = await fill(database, 1)
    trunks = {"carrier": Trunk("carrier", "fs1", most_per_callee_a_day=1), "second": Trunk("second", "fs1")}
    names = ("carrier", "second")

    async def call(calls: int) -> str:
        room = [Slot(f"{name}-{calls}", name, "fs1") for name in names]
        (found,) = (await ask(database, filled, 2, trunks, wanted=room)).leases
        step = next_step(Disposition.BUSY, found, CAMPAIGN, NOON)
        await database.write(lambda s: close_attempt(s, cdr_of(found, filled.id), step, NOON))
        await database.write(lambda s: s.connection().execute(update(LeadRow).values(due_at=NOON)).close())
        return found.gateway

    for calls, gateway in enumerate(("carrier", "second")):
        assert await call(calls) == gateway


async def test_caller_ids_are_local_within_their_most_and_the_same_for_one_person_all_day(database: Database) -> None:
    filled = await fill(database, 4)
    pool = (
        CallerId("+12125550000", areas=("+1212",), most_per_day=1),
        CallerId("+12125550001", areas=("+1212",), most_per_day=2),
    )
    trunks = {"carrier": Trunk("carrier", "fs1", caller_ids=pool)}
    leased = await ask(database, filled, 4, trunks)
    assert Counter(one.caller_id for one in leased.leases) == {"+12125550000": 1, "+12125550001": 2}
    assert leased.blocked == {"caller_id": 1}
    used = await database.read(lambda s: {row.caller_id: row.calls for row in s.exec(select(CallerIdDayRow))})
    assert used == {"+12125550000": 1, "+12125550001": 2}
    last = leased.leases[-1]
    await database.write(lambda s: return_unsent(s, [last.uuid], NOON))
    assert (await ask(database, filled, 1, trunks)).leases[0].caller_id == last.caller_id
    first = leased.leases[0]
    step = next_step(Disposition.BUSY, first, CAMPAIGN, NOON)
    await database.write(lambda s: close_attempt(s, cdr_of(first, filled.id), step, NOON))
    await database.write(
        lambda s: (
            s.connection()
            .execute(update(LeadRow).where(col(LeadRow.id) == first.lead_id).values(due_at=NOON))
            .close()
        )
    )
    roomy = {"carrier": Trunk("carrier", "fs1", caller_ids=tuple(CallerId(one.number, one.areas) for one in pool))}
    (again,) = (await ask(database, filled, 1, roomy)).leases
    assert again.caller_id == first.caller_id


async def test_each_trunk_shows_a_person_its_own_number_again_though_another_has_shown_one_since(
    database: Database,
) -> None:
    filled = await fill(database, 1)
    pools = {name: tuple(CallerId(f"+1212555{of}{n}") for n in range(9)) for name, of in (("a", "000"), ("b", "001"))}
    trunks = {name: Trunk(name, "fs1", caller_ids=pool) for name, pool in pools.items()}

    async def shown(gateway: str, hours: int) -> str | None:
        now = NOON + timedelta(hours=hours)
        room = [Slot(str(uuid4()), gateway, "fs1")]
        (one,) = (await ask(database, filled, 1, trunks, now=now, wanted=room)).leases
        step = next_step(Disposition.BUSY, one, CAMPAIGN, now)
        await database.write(lambda s: close_attempt(s, cdr_of(one, filled.id), step, now))
        return one.caller_id

    seen = [await shown(gateway, hours) for hours, gateway in enumerate("aba")]
    assert seen == ["+12125550000", "+12125550010", "+12125550000"]


@pytest.mark.parametrize("zone", ["Pacific/Honolulu", "UTC", "Asia/Tokyo"])
@pytest.mark.parametrize("hour", [1, 12, 23])
async def test_what_was_not_sent_has_shown_no_number_whatever_day_it_is_there(
    sqlite_url: str, zone: str, hour: int
) -> None:
    now, pool = NOON.replace(hour=hour), (CallerId("+12125550000", most_per_day=2),)
    trunks = {"carrier": Trunk("carrier", "fs1", caller_ids=pool, zone=zone)}
    async with open_database(sqlite_url, node=None) as database:
        always = Campaign(name="spring", gateways=("carrier",), country="US", timezone="UTC", windows=ANY_HOUR)
        filled = await fill(database, 3, campaign=always)
        yesterday = await ask(database, filled, 1, trunks, now=now - timedelta(days=1))
        (kept, unsent) = (await ask(database, filled, 2, trunks, now=now)).leases
        assert len(yesterday.leases) == 1
        await database.write(lambda s: return_unsent(s, [unsent.uuid], now))
        shown = await database.read(lambda s: {row.day: row.calls for row in s.exec(select(CallerIdDayRow))})
        today = now.astimezone(ZoneInfo(zone)).date()
        assert shown == {today - timedelta(days=1): 1, today: 1}
        assert kept.caller_id == "+12125550000"


async def test_a_campaign_with_a_number_of_its_own_shows_that(database: Database) -> None:
    filled = await fill(database, 1, campaign=CAMPAIGN.model_copy(update={"caller_id": "+12125550199"}))
    trunks = {"carrier": Trunk("carrier", "fs1", caller_ids=(CallerId("+12125550000"),))}
    assert (await ask(database, filled, 1, trunks)).leases[0].caller_id is None


async def test_promised_calls_are_made_whenever_an_agent_is_idle(database: Database) -> None:
    filled = await fill(database, 200)
    promised = {"callback_at": NOON, "queue": Queue.CALLBACK}
    await database.write(
        lambda session: session.connection().execute(update(LeadRow).where(col(LeadRow.id) <= 171).values(**promised))
    )
    book, passed_by, made = RuleBook(CAMPAIGN, filled.id), PassedBy(), []
    for second in range(6):  # each second one agent is idle, and the pacer wants five calls
        ask_for = partial(
            hopper.lease,
            book=book,
            slots=slots(5),
            trunks=TRUNKS,
            node="test",
            now=NOON + timedelta(seconds=second),
            idle_agents={"1000"},
            passed_by=passed_by,
        )
        found = await database.write(ask_for)
        made.append(sum(one.callback_at is not None for one in found.leases))
    assert made == [1] * 6


async def test_two_daemons_do_not_count_calls_at_once(postgres_url: str) -> None:
    """Calls that are being leased are not seen by the other: together they would be over any cap."""
    capped = CAMPAIGN.model_copy(update={"caps": (Cap(most=1, hours=24),)})
    async with open_database(postgres_url, node=None) as one, open_database(postgres_url, node=None) as two:
        filled = await fill(one, 2, campaign=capped)
        await one.write(lambda s: s.execute(update(LeadRow).values(number="+12125550100")))
        holds, asked = threading.Event(), threading.Event()

        def hold(session: Session) -> Leased:
            leased = lease(session, RuleBook(capped, filled.id), slots(1), TRUNKS, "one", NOON)
            holds.set()
            assert asked.wait(60)
            return leased

        async def ask_beside() -> None:
            await trio.to_thread.run_sync(holds.wait)
            other = await two.write(lambda s: lease(s, RuleBook(capped, filled.id), slots(1), TRUNKS, "two", NOON))
            assert (other.leases, other.more) == ([], True)
            asked.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_beside)
            assert len((await one.write(hold)).leases) == 1
        after = await two.write(lambda s: lease(s, RuleBook(capped, filled.id), slots(1), TRUNKS, "two", NOON))
        assert (after.leases, after.blocked) == ([], {"cap": 1})


async def test_call_backs_of_a_higher_priority_come_first(database: Database) -> None:
    filled = await fill(database, 3)
    for lead_id, priority in ((1, 0), (2, 9), (3, 5)):
        promised = update(LeadRow).where(col(LeadRow.id) == lead_id).values(priority=priority, callback_at=NOON)
        await database.write(lambda s, promised=promised: s.execute(promised))  # type: ignore[misc]
    await database.write(lambda s: s.execute(update(LeadRow).values(queue=Queue.CALLBACK)))
    assert ids(await ask(database, filled, 3)) == [2, 3, 1]
