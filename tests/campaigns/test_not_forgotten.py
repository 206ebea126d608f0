"""What somebody has asked for, and what has changed meanwhile, is not forgotten: opt-outs, numbers, hours, limits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import attrs
import pytest
from sqlalchemy import update
from sqlmodel import select

from campaigns import forbidden_leads, leases
from campaigns.campaign import Cap, NextNumber, Retries
from campaigns.database import Database
from campaigns.disposition import Disposition
from campaigns.explain import explain
from campaigns.hopper import lease
from campaigns.lead import LeadNumber, LeadStatus, numbers_to_json
from campaigns.lead_changes import LeadDetails, change_lead, locked_leads
from campaigns.leases import Leased
from campaigns.list_import import import_list
from campaigns.list_rows import parse_moment
from campaigns.opt_out import OptOut
from campaigns.recycle import next_step
from campaigns.rules import suppression
from campaigns.rules.callable import RuleBook
from campaigns.rules.candidate import Candidate
from campaigns.rules.refusal import Rest
from campaigns.slots import Slot
from campaigns.store import close_attempt
from campaigns.suppression_store import NewEntry, Scope, let_rest, rest_no_more
from campaigns.tables import LeadRow, SuppressionRow
from campaigns.trunk import Trunk
from campaigns.zones import is_zone
from dialer.errors import InputRefusedError

from .conftest import CAMPAIGN, NOON, Filled, cdr_of, fill, forbid, take
from .test_outcomes import ENDED, SPRING, talk

NUMBER = "+12125550150"
DAY = timedelta(days=1)


async def entry(database: Database) -> tuple[str, datetime | None]:
    row = await database.read(lambda session: session.exec(select(SuppressionRow)).one())
    return row.source, row.expires_at


# Do-not-call lists.


async def test_a_register_for_a_month_does_not_shorten_an_opt_out(database: Database) -> None:
    await database.write(OptOut(NUMBER, None, "told an agent", "", "agent 1000", NOON).write)
    await forbid(database, NUMBER, expires_at=NOON + 31 * DAY, source="register")
    assert await entry(database) == ("told an agent", None)


async def test_an_entry_is_made_longer(database: Database) -> None:
    await forbid(database, NUMBER, expires_at=NOON + DAY, source="register")
    await forbid(database, NUMBER, expires_at=NOON + 2 * DAY, source="register of May")
    assert await entry(database) == ("register of May", NOON + 2 * DAY)
    await forbid(database, NUMBER, source="a letter")
    assert await entry(database) == ("a letter", None)


async def test_a_refusal_that_was_none_takes_no_entry_of_others_along(database: Database) -> None:
    await forbid(database, NUMBER, scope=Scope.SELLER, name="acme", expires_at=NOON + 30 * DAY, source="register")
    rest = Rest("acme", NOON + 61 * DAY)
    await database.write(lambda session: let_rest(session, NUMBER, rest, attempt="a", now=NOON))
    assert await entry(database) == ("register", rest.until)
    await database.write(lambda session: rest_no_more(session, NUMBER, "acme", attempt="a"))
    assert await entry(database) == ("register", rest.until)


async def test_a_lead_that_comes_in_while_its_number_rests_is_called_after_that(
    database: Database, tmp_path: Path
) -> None:
    filled = await fill(database, 0)
    rest = Rest(None, NOON + 61 * DAY)
    await database.write(lambda session: let_rest(session, NUMBER, rest, attempt="a", now=NOON))
    (tmp_path / "list.csv").write_text(f"phone\n{NUMBER}\n")
    report = await import_list(database, tmp_path / "list.csv", filled.campaign.name, now=NOON)
    assert report.added == 1
    assert await take(database, filled, 5, NOON + DAY) == []
    assert [one.number for one in await take(database, filled, 5, NOON + 100 * DAY)] == [NUMBER]


@pytest.mark.parametrize(("promised", "due_at"), [(20 * DAY, 20 * DAY), (-DAY, timedelta(0)), (None, timedelta(0))])
async def test_who_comes_off_a_list_is_called_when_promised(
    database: Database, promised: timedelta | None, due_at: timedelta
) -> None:
    filled = await fill(database, 1)
    number = "+12120000000"
    callback_at = NOON + promised if promised is not None else None
    values = {"status": LeadStatus.SUPPRESSED, "queue": None, "callback_at": callback_at}

    await forbid(database, number)
    await database.write(lambda session: session.execute(update(LeadRow).values(**values)))
    await database.write(
        lambda session: forbidden_leads.allow(
            session, [NewEntry(number)], scope=Scope.SYSTEM, scope_name="", now=NOON
        )
    )
    lead = await database.read(lambda session: session.exec(select(LeadRow)).one())
    assert (lead.status, lead.due_at, lead.callback_at) == (LeadStatus.NEW, NOON + due_at, callback_at)
    assert len(await take(database, filled, 1, NOON + timedelta(minutes=1))) == int(not due_at)


async def test_refused_rows_may_be_mended_and_come_in_again(database: Database, tmp_path: Path) -> None:
    filled, path = await fill(database, 0), tmp_path / "list.csv"
    path.write_text("phone,priority\n+1 212-555-0170,high\n")
    assert (await import_list(database, path, filled.campaign.name, now=NOON)).refused_rows == 1
    mended = (tmp_path / "list.csv.refused.csv").read_text().replace("high", "1")
    assert "'+1 212" in mended
    path.write_text(mended)
    assert (await import_list(database, path, filled.campaign.name, now=NOON)).added == 1


# Leads that change.


async def test_what_is_said_of_a_number_that_the_lead_has_no_more(database: Database) -> None:
    one = await talk(database, SPRING)
    numbers = (LeadNumber("+12125559999", ("America/New_York",)), LeadNumber(one.lease.number, ("America/New_York",)))
    await one.change_lead(numbers=numbers_to_json(numbers), first_number="+12125559999", number_no=1)
    await one.close()
    other = LeadDetails([NUMBER])
    await database.write(
        lambda session: change_lead(
            session, "spring", locked_leads(session, [one.lease.lead_id])[0], other, who="ann", now=ENDED
        )
    )
    await one.say("sale")
    lead: LeadRow = await one.lead()
    assert (lead.number, lead.agent_disposition, lead.status) == (NUMBER, "sale", LeadStatus.DONE)


async def test_a_previewed_lead_is_not_called_after_hours(database: Database) -> None:
    preview = CAMPAIGN.model_copy(update={"mode": "preview"})
    filled = await fill(database, 1, campaign=preview)
    before_closing = datetime(2026, 11, 24, 0, 59, 50, tzinfo=UTC)
    (one,) = await take(database, filled, 1, before_closing)
    book = RuleBook(preview, filled.id)
    late = before_closing + timedelta(seconds=30)
    assert not await database.write(lambda session: leases.send(session, one.uuid, book, late))
    assert await database.write(lambda session: leases.send(session, one.uuid, book, before_closing))


# Trunks.


CAPPED = CAMPAIGN.model_copy(update={"gateways": ("a", "b"), "caps": (Cap(of="gateway", most=1, hours=24),)})
A, B = Trunk("a", "fs1"), Trunk("b", "fs1")


async def leased(database: Database, filled: Filled, trunks: tuple[Trunk, ...], now: datetime, *over: str) -> Leased:
    book, slots = RuleBook(filled.campaign, filled.id), [Slot(str(uuid4()), name, "fs1") for name in over]
    by_name = {trunk.name: trunk for trunk in trunks}
    return await database.write(lambda session: lease(session, book, slots, by_name, "test", now))


async def end(database: Database, filled: Filled, found: Leased, disposition: Disposition, now: datetime) -> None:
    (one,) = found.leases
    step = next_step(disposition, one, filled.campaign, now)
    record = cdr_of(one, filled.id, disposition, "", now)
    await database.write(lambda session: close_attempt(session, record, step, now))


async def test_a_trunk_that_has_carried_as_much_as_it_may_gets_no_more_when_the_other_is_away(
    database: Database,
) -> None:
    filled, later = await fill(database, 1, campaign=CAPPED), NOON + timedelta(hours=1)
    await end(database, filled, await leased(database, filled, (A, B), NOON, "a"), Disposition.BUSY, NOON)
    away = attrs.evolve(B, away=True)
    assert (await leased(database, filled, (A, away), later, "a")).leases == []
    assert [one.gateway for one in (await leased(database, filled, (A, B), later, "b")).leases] == ["b"]


async def test_a_lead_of_a_full_trunk_is_called_when_that_has_room_though_all_others_must_never_call_it(
    database: Database,
) -> None:
    cap = Cap(of="gateway", most=1, hours=2)
    filled = await fill(database, 1, campaign=CAPPED.model_copy(update={"caps": (cap,)}))
    blind, moment = attrs.evolve(B, blind=("+1",)), NOON + timedelta(hours=1)
    found = await leased(database, filled, (A, blind), NOON, "a")
    await end(database, filled, found, Disposition.BUSY, NOON)
    answer = await database.read(
        lambda s: explain(s, s.exec(select(LeadRow)).one(), {"a": A, "b": blind}, moment).verdicts[-1]
    )
    assert (answer.allowed, answer.allowed_at) == (False, NOON + timedelta(hours=2))
    assert (await leased(database, filled, (A, blind), moment, "a", "b")).leases == []
    moment = NOON + timedelta(hours=2, seconds=1)
    assert [one.gateway for one in (await leased(database, filled, (A, blind), moment, "a")).leases] == ["a"]


NEW_YORK, ALASKA = (
    LeadNumber("+12125550100", ("America/New_York",), "mobile", "US-NY"),
    LeadNumber("+19075550100", ("America/New_York",), "mobile", "US-AK"),
)


async def with_a_number_that_is_never_called(database: Database) -> Filled:
    several = CAMPAIGN.model_copy(
        update={"gateways": ("a",), "retries": Retries(max_attempts=6, next_number=NextNumber(no_answer=0.0))}
    )
    filled = await fill(database, 1, campaign=several)
    numbers = {"number": NEW_YORK.number, "first_number": NEW_YORK.number, "region": "US-NY"}
    both = numbers_to_json((NEW_YORK, ALASKA))
    await database.write(lambda s: s.execute(update(LeadRow).values(numbers=both, **numbers)))
    return filled


async def test_a_lead_comes_back_to_its_number_from_one_that_no_trunk_may_carry(database: Database) -> None:
    filled, blind = await with_a_number_that_is_never_called(database), attrs.evolve(A, blind=("US-AK",))
    now = NOON
    for _ in range(2):
        found = await leased(database, filled, (blind,), now, "a")
        assert [one.number for one in found.leases] == [NEW_YORK.number]
        await end(database, filled, found, Disposition.NO_ANSWER, now)
        assert (await leased(database, filled, (blind,), now, "a")).leases == []  # Alaska's turn: it rests instead
        due_at = (await database.read(lambda s: s.exec(select(LeadRow)).one())).due_at
        assert now < due_at < now + timedelta(hours=6)
        now = due_at


async def test_a_lead_waits_for_its_number_rather_than_turn_to_one_that_no_trunk_may_carry(
    database: Database,
) -> None:
    filled, blind = await with_a_number_that_is_never_called(database), attrs.evolve(A, blind=("US-AK",))
    until = NOON + timedelta(hours=2)
    await forbid(database, NEW_YORK.number, expires_at=until)
    assert (await leased(database, filled, (blind,), NOON, "a")).leases == []
    told = await database.read(lambda s: explain(s, s.exec(select(LeadRow)).one(), {"a": blind}, NOON).verdicts)
    assert until in [one.allowed_at for one in told if one.rule == suppression.RULE]
    assert [one.number for one in (await leased(database, filled, (blind,), until, "a")).leases] == [NEW_YORK.number]


async def test_a_trunk_that_failed_a_lead_which_no_other_may_carry_is_not_asked_again_at_once(
    database: Database,
) -> None:
    once_a_day = attrs.evolve(A, most_per_callee_a_day=1)
    two = CAMPAIGN.model_copy(update={"gateways": ("a", "b")})
    filled, now = await fill(database, 1, campaign=two), NOON + timedelta(hours=1)
    await end(database, filled, await leased(database, filled, (once_a_day, B), NOON, "a"), Disposition.BUSY, NOON)
    calls = 0
    for _ in range(10):
        found = await leased(database, filled, (once_a_day, B), now, "b")
        if found.leases:
            calls += 1
            await end(database, filled, found, Disposition.FAILED_OVER, now)
        now += timedelta(seconds=1)
    assert calls == 2


# Dates and places.


@pytest.mark.parametrize(
    ("day", "allowed"), [("2026-04-06", False), ("2026-08-31", False), ("2026-05-04", False), ("2026-05-05", True)]
)
def test_holidays_of_england_hold_for_numbers_of_all_of_britain(day: str, allowed: bool) -> None:
    book = RuleBook(CAMPAIGN.model_copy(update={"profile": "uk", "country": "GB"}), 1)
    at = datetime.fromisoformat(f"{day} 14:00+00:00")
    found = book.verdict(Candidate(1, "+442079460000", ("Europe/London",), "GB"), (), (), at)
    assert (found.rule != "closed_day") is allowed


@pytest.mark.parametrize(("zone", "known"), [("EST", False), ("MST", False), ("America/New_York", True)])
def test_zones_without_summer_time_that_nobody_lives_in(zone: str, known: bool) -> None:
    assert is_zone(zone) is known


@pytest.mark.parametrize("value", ["9999-12-31 23:59:59", "0001-01-01", "1899-12-31"])
def test_no_date_is_no_date(value: str) -> None:
    with pytest.raises(InputRefusedError, match="is no date that can be meant"):
        parse_moment(value, ["America/New_York"])
