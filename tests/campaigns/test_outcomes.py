"""What became of conversations: the default at their close, and what agents say during them and after."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import given
from sqlalchemy import update
from sqlmodel import Session, col, select

from campaigns import forbidden_leads, outcomes
from campaigns.campaign import AgentDisposition, Campaign
from campaigns.database import Database
from campaigns.disposition import Disposition
from campaigns.lead import LeadNumber, LeadStatus, numbers_to_json
from campaigns.leases import Lease
from campaigns.opt_out import OptOut, by_agent
from campaigns.outcomes import NOTHING_SAID, default_name
from campaigns.recycle import NextStep, next_step
from campaigns.saying import SAY_WITHIN, Said, moment_of
from campaigns.store import CdrRow, LeadRow, close_attempt
from campaigns.suppression_store import NewEntry, Scope
from campaigns.tables import CallOutcomeRow, CampaignRow, SuppressionRow
from dialer.errors import InputRefusedError

from .conftest import CAMPAIGN, NOON, Filled, cdr_of, fill, take

ENDED = NOON + timedelta(minutes=3)
SAID_AT = ENDED + timedelta(seconds=10)
WORDS = (
    AgentDisposition(name="no_sale", title="Not sold"),
    AgentDisposition(name="sale", title="Sold", key="1"),
    AgentDisposition(name="later", then="recycle", delay_seconds=3600.0, key="2"),
    AgentDisposition(name="elsewhere", then="recycle", delay_seconds=60.0, next_number=True),
    AgentDisposition(name="call_back", then="callback", delay_seconds=7200.0, key="3"),
    AgentDisposition(name="never", then="do_not_call", key="9"),
)
SPRING = CAMPAIGN.model_copy(update={"dispositions": WORDS, "default_disposition": "no_sale"})


@attrs.frozen
class Talk:
    """A conversation of 1000, and where it is written."""

    database: Database
    filled: Filled
    lease: Lease

    @property
    def record(self) -> CdrRow:
        cdr = cdr_of(self.lease, self.filled.id, Disposition.BRIDGED, "NORMAL_CLEARING", ENDED)
        cdr.agent, cdr.answered_at, cdr.bridged_at = "1000", NOON, NOON
        return cdr

    async def close(self, disposition: Disposition = Disposition.BRIDGED) -> bool:
        record, campaign = self.record, self.filled.campaign
        record.disposition = disposition
        step = next_step(disposition, self.lease, campaign, ENDED)
        default = default_name(campaign)
        return await self.database.write(
            lambda session: close_attempt(session, record, step, ENDED, default_outcome=default)
        )

    async def say(self, name: str = "", said_at: datetime = SAID_AT, agent: str = "1000", **how: Any) -> str:
        return await self.database.write(Said(self.lease.uuid, agent, said_at, name=name, **how).write)

    async def rows(self) -> list[CallOutcomeRow]:
        return await self.database.read(lambda session: list(session.exec(select(CallOutcomeRow)).all()))

    async def row(self) -> CallOutcomeRow:
        (row,) = await self.rows()
        return row

    async def lead(self) -> LeadRow:
        return await self.database.read(lambda session: session.get_one(LeadRow, self.lease.lead_id))

    async def change_lead(self, **values: Any) -> None:
        await self.database.write(
            lambda session: session.connection().execute(
                update(LeadRow).where(col(LeadRow.id) == self.lease.lead_id).values(**values)
            )
        )

    async def suppressed(self) -> list[tuple[str, str, str, str, str]]:
        rows = await self.database.read(lambda session: session.exec(select(SuppressionRow)).all())
        return [(row.pattern, row.scope, row.scope_name, row.source, row.added_by) for row in rows]


async def talk(database: Database, campaign: Campaign = SPRING) -> Talk:
    """A conversation that is on."""
    filled = await fill(database, 1, campaign=campaign)
    (lease,) = await take(database, filled, 1)
    return Talk(database, filled, lease)


# The close.


@pytest.mark.parametrize(
    ("default", "name", "status"),
    [
        ("no_sale", "no_sale", LeadStatus.DONE),
        ("later", "later", LeadStatus.WAITING),
        (None, NOTHING_SAID, LeadStatus.DONE),
    ],
)
async def test_a_conversation_of_which_nobody_says_anything_gets_the_default(
    database: Database, default: str | None, name: str, status: LeadStatus
) -> None:
    one = await talk(database, SPRING.model_copy(update={"default_disposition": default}))
    assert await one.close()
    assert not await one.close()
    row, lead = await one.row(), await one.lead()
    assert (row.name, row.set_by, row.agent, row.set_at) == (name, "default", "1000", ENDED)
    assert (lead.status, lead.agent_disposition) == (status, name)


async def test_without_words_of_its_own_a_campaign_has_no_outcomes(database: Database) -> None:
    one = await talk(database, CAMPAIGN)
    await one.close()
    assert await one.rows() == []
    with pytest.raises(InputRefusedError, match="the campaign spring has no dispositions"):
        await one.say("sale")


async def test_a_call_in_which_nobody_talked_has_no_outcome(database: Database) -> None:
    one = await talk(database)
    await one.close(Disposition.BUSY)
    assert await one.rows() == []


async def test_what_was_said_during_the_conversation_counts_at_its_close(database: Database) -> None:
    one = await talk(database)
    assert await one.say("later", NOON, note="after lunch") == f"{one.lease.number} is later"
    assert (await one.lead()).status is LeadStatus.DIALING
    await one.close()
    row, lead = await one.row(), await one.lead()
    assert (row.name, row.set_by, row.note, row.set_at) == ("later", "agent", "after lunch", NOON)
    assert (lead.status, lead.due_at, lead.agent_disposition) == (
        LeadStatus.WAITING,
        ENDED + timedelta(hours=1),
        "later",
    )


async def test_a_word_that_the_manager_has_taken_away_meanwhile_counts_as_the_default(database: Database) -> None:
    one = await talk(database)
    await one.say("later", NOON)
    await fill(database, 0, campaign=SPRING.model_copy(update={"dispositions": WORDS[:2]}))
    await one.close()
    assert ((await one.row()).name, (await one.lead()).status) == ("later", LeadStatus.DONE)


async def test_a_record_is_written_though_another_version_has_redefined_its_campaign(database: Database) -> None:
    one = await talk(database)
    await one.say("later")
    newer = update(CampaignRow).values(definition='{"from": "a newer version"}')
    await database.write(lambda session: session.connection().execute(newer))
    assert await one.close()
    assert (await one.row()).name == "later"
    with pytest.raises(InputRefusedError, match="definition of campaign 'spring' cannot be read"):
        await one.say("sale")


async def test_what_was_said_holds_though_the_switch_lost_sight_of_the_call(database: Database) -> None:
    one = await talk(database)
    await one.say("sale", NOON)
    await one.close(Disposition.UNKNOWN)
    assert ((await one.row()).name, (await one.lead()).status) == ("sale", LeadStatus.DONE)


# In wrap-up.


@pytest.mark.parametrize(
    ("name", "status", "due_at"),
    [
        ("sale", LeadStatus.DONE, None),
        ("later", LeadStatus.WAITING, SAID_AT + timedelta(hours=1)),
        ("never", LeadStatus.DEAD, None),
    ],
)
@pytest.mark.parametrize("default", ["no_sale", "later"])
async def test_what_is_said_in_wrap_up_replaces_the_outcome_and_the_lead_s_step(
    database: Database, name: str, status: LeadStatus, due_at: datetime | None, default: str
) -> None:
    one = await talk(database, SPRING.model_copy(update={"default_disposition": default}))
    await one.close()
    await one.say(name)
    row, lead = await one.row(), await one.lead()
    assert (row.name, row.set_by, row.set_at) == (name, "agent", SAID_AT)
    assert (lead.status, lead.agent_disposition) == (status, name)
    assert json.loads(lead.history)["tries"] == {name: 1}  # and not the default's too
    if due_at is not None:
        assert lead.due_at == due_at


async def test_an_agent_may_think_again_and_again(database: Database) -> None:
    one = await talk(database)
    await one.close()
    for seconds, name in enumerate(["later", "sale", "call_back", "later"]):
        how: dict[str, Any] = {"in_minutes": 5} if name == "call_back" else {}
        await one.say(name, SAID_AT + timedelta(seconds=seconds), **how)
    lead = await one.lead()
    assert ((await one.row()).name, lead.status, lead.callback_at) == ("later", LeadStatus.WAITING, None)
    assert json.loads(lead.history)["tries"] == {"later": 1}


async def test_what_was_said_later_stands_whichever_is_written_first(database: Database) -> None:
    one = await talk(database)
    await one.close()
    await one.say("sale", SAID_AT + timedelta(seconds=5))
    assert "which was said later" in await one.say(key="2")
    assert ((await one.row()).name, (await one.lead()).status) == ("sale", LeadStatus.DONE)


async def test_saying_it_twice_changes_nothing(database: Database) -> None:
    one = await talk(database)
    await one.close()
    await one.say("later")
    before = (await one.row()).model_dump(), (await one.lead()).model_dump()
    await one.say("later")
    assert ((await one.row()).model_dump(), (await one.lead()).model_dump()) == before


async def test_a_lead_that_is_called_again_keeps_its_course(database: Database) -> None:
    one = await talk(database, SPRING.model_copy(update={"default_disposition": "later"}))
    await one.close()
    (again,) = await take(database, one.filled, 1, ENDED + timedelta(hours=2), campaign=SPRING)
    told = await one.say("sale", ENDED + timedelta(minutes=9))
    assert told.endswith("the lead has gone on meanwhile, and stays as it is")
    assert ((await one.row()).name, (await one.lead()).status) == ("sale", LeadStatus.DIALING)
    second = attrs.evolve(one, lease=again)
    record = cdr_of(again, one.filled.id)
    step = next_step(Disposition.BUSY, again, SPRING, ENDED)
    await database.write(lambda s: close_attempt(s, record, step, ENDED + timedelta(hours=3)))
    busy = (await second.lead()).model_dump()
    await one.say("never", ENDED + timedelta(minutes=9, seconds=1))
    assert (await second.lead()).model_dump() == busy
    assert len(await one.suppressed()) == 1  # but that they have asked for


@pytest.mark.parametrize("status", [LeadStatus.WITHDRAWN, LeadStatus.SUPPRESSED])
async def test_a_lead_that_was_taken_out_stays_so(database: Database, status: LeadStatus) -> None:
    one = await talk(database)
    await one.close()
    await one.change_lead(status=status)
    await one.say("later")
    assert ((await one.row()).name, (await one.lead()).status) == ("later", status)


async def test_the_next_number_has_its_turn_only_as_long_as_the_agent_says_so(database: Database) -> None:
    one = await talk(database)
    numbers = (LeadNumber(one.lease.number, ("America/New_York",)), LeadNumber("+12125559999", ("America/New_York",)))
    await one.change_lead(numbers=numbers_to_json(numbers))
    await one.close()
    await one.say("elsewhere")
    assert ((await one.lead()).number, (await one.lead()).number_no) == ("+12125559999", 1)
    await one.say("later", SAID_AT + timedelta(seconds=1))
    assert ((await one.lead()).number, (await one.lead()).number_no) == (one.lease.number, 0)


@pytest.mark.parametrize(("seller", "scope"), [(None, ("system", "")), ("acme", ("seller", "acme"))])
async def test_who_tells_the_agent_so_is_on_the_do_not_call_list(
    database: Database, seller: str | None, scope: tuple[str, str]
) -> None:
    one = await talk(database, SPRING.model_copy(update={"seller": seller}))
    await one.close()
    told = await one.say("never")
    assert told == f"{one.lease.number} is never, and on the do-not-call list"
    await one.say("never", SAID_AT + timedelta(seconds=1))
    assert await one.suppressed() == [(one.lease.number, *scope, "told an agent", "agent 1000")]


# Call-backs.


@pytest.mark.parametrize(
    ("how", "due_at", "by"),
    [
        ({"name": "call_back", "call_at": "2026-11-24 09:30"}, datetime(2026, 11, 24, 14, 30, tzinfo=UTC), "1000"),
        (
            {"name": "call_back", "call_at": "2026-11-24T09:30+00:00"},
            datetime(2026, 11, 24, 9, 30, tzinfo=UTC),
            "1000",
        ),
        ({"name": "call_back", "in_minutes": 20, "for_anyone": True}, SAID_AT + timedelta(minutes=20), None),
        ({"key": "3"}, SAID_AT + timedelta(hours=2), "1000"),  # delay_seconds
    ],
)
@pytest.mark.parametrize("closed", [True, False])
async def test_a_call_back_is_at_its_time_for_the_agent_or_anyone(
    database: Database, how: dict[str, Any], due_at: datetime, by: str | None, closed: bool
) -> None:
    one = await talk(database)
    if closed:
        await one.close()
    told = await one.say(**how)
    assert f"to be called back {due_at.astimezone(outcomes_zone()):%Y-%m-%d %H:%M EST} by {by or 'anybody'}" in told
    if not closed:
        await one.close()
    row, lead = await one.row(), await one.lead()
    assert (row.callback_at, row.callback_agent) == (due_at, by)
    assert (lead.status, lead.due_at, lead.callback_at, lead.callback_agent) == (
        LeadStatus.WAITING,
        due_at,
        due_at,
        by,
    )


@pytest.mark.parametrize(
    ("call_at", "told"),
    [
        ("2026-11-24 05:00", "2026-11-24 05:00 EST by 1000 (not before 2026-11-24 09:00 EST)"),
        ("2026-11-24 20:00", "2026-11-24 20:00 EST by 1000 (not before 2026-11-25 09:00 EST)"),
        ("2026-11-24 10:00+00:00", "2026-11-24 05:00 EST by 1000 (not before 2026-11-24 09:00 EST)"),
        ("2026-11-24 09:00", "2026-11-24 09:00 EST by 1000"),
    ],
)
async def test_a_call_back_outside_calling_hours_is_told_with_when_it_can_be(
    database: Database, call_at: str, told: str
) -> None:
    one = await talk(database)
    await one.close()
    assert await one.say("call_back", call_at=call_at) == (
        f"{one.lease.number} is call_back, to be called back {told}"
    )


async def test_a_call_back_after_a_refusal_is_not_before_its_rest_is_over(database: Database) -> None:
    words = (AgentDisposition(name="not_now", then="callback", refusal=True),)
    retries = SPRING.retries.model_copy(update={"refusal_rest_days": 2})
    campaign = SPRING.model_copy(update={"dispositions": words, "default_disposition": None, "retries": retries})
    one = await talk(database, campaign)
    await one.close()
    told = await one.say("not_now", in_minutes=60)
    assert told.endswith("to be called back 2026-11-23 13:03 EST by 1000 (not before 2026-11-26 09:00 EST)")


async def test_a_call_back_that_will_never_be_allowed_is_not_promised(database: Database) -> None:
    one = await talk(database)
    await one.close()
    await fill(database, 0, campaign=SPRING.model_copy(update={"consent": "any"}))
    told = await one.say("call_back", call_at="2026-11-24 10:00")
    assert "is call_back, but is not called back as things stand: " in told
    assert "consent" in told


@pytest.mark.parametrize("closed", [True, False])
async def test_who_is_listed_by_mistake_is_not_promised_a_call_back(database: Database, closed: bool) -> None:
    one = await talk(database)
    if closed:
        await one.close()
    await one.say("never")
    at, corrected = "2026-11-23 15:00", SAID_AT + timedelta(seconds=3)
    told = await one.say("call_back", corrected, call_at=at)
    assert told == (
        f"{one.lease.number} is call_back, and stays on the do-not-call list: it is not called back unless it is "
        "taken off (dialer dnc remove)"
    )
    if not closed:
        await one.close()
    three = NOON + timedelta(hours=3)
    assert ((await one.row()).callback_at, (await one.lead()).callback_at) == (three, three)
    assert await take(database, one.filled, 1, three) == []
    entry = NewEntry(one.lease.number)
    await database.write(lambda s: forbidden_leads.allow(s, [entry], scope=Scope.SYSTEM, scope_name="", now=three))
    (again,) = await take(database, one.filled, 1, three)  # taken off: as the outcome says
    assert (again.callback_at, again.callback_agent) == (three, "1000")


def outcomes_zone() -> Any:
    return moment_of("2026-11-24 09:30", ("America/New_York",)).tzinfo


@pytest.mark.parametrize(
    ("text", "zones", "moment"),
    [
        ("2026-12-01 15:00", ("Europe/Berlin",), datetime(2026, 12, 1, 14, tzinfo=UTC)),
        (" 2026-07-01T15:00 ", ("Europe/Berlin",), datetime(2026, 7, 1, 13, tzinfo=UTC)),
        ("2026-12-01 15:00Z", ("Europe/Berlin",), datetime(2026, 12, 1, 15, tzinfo=UTC)),
        ("2026-12-01 15:00", ("Europe/Berlin", "Europe/Paris"), datetime(2026, 12, 1, 14, tzinfo=UTC)),
        ("2026-12-01 15:00-05:00", (), datetime(2026, 12, 1, 20, tzinfo=UTC)),
    ],
)
def test_a_time_is_the_person_s_own(text: str, zones: tuple[str, ...], moment: datetime) -> None:
    assert moment_of(text, zones) == moment


@pytest.mark.parametrize(
    ("text", "zones", "reason"),
    [
        ("tomorrow", ("Europe/Berlin",), "'tomorrow' is no time for a call-back; give it like"),
        ("15:00", ("Europe/Berlin",), "is no time"),
        (
            "2026-12-01 15:00",
            ("America/New_York", "America/Chicago"),
            r"in America/New_York \(-05:00\) or America/Chicago \(-06:00\); give an offset",
        ),
        ("2026-12-01 15:00", (), "nowhere that is known; give an offset"),
    ],
)
def test_a_time_that_is_none_says_what_would_be_right(text: str, zones: tuple[str, ...], reason: str) -> None:
    with pytest.raises(InputRefusedError, match=reason):
        moment_of(text, zones)


@given(st.text(max_size=40), st.sampled_from([(), ("Europe/Berlin",), ("America/New_York", "Asia/Tokyo")]))
def test_any_text_is_a_moment_or_refused(text: str, zones: tuple[str, ...]) -> None:
    try:
        assert moment_of(text, zones).tzinfo is not None
    except InputRefusedError:
        pass


# What is refused.


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"name": "sold"}, r"'sold' is no disposition of the campaign spring; there are no_sale \(Not sold\), sale "),
        ({"name": "Sale"}, r"there are .*never \(key 9\)"),
        ({"key": "7"}, "the key 7 is no disposition"),
        ({"key": ""}, "'' is no disposition"),
        ({"name": "sale", "in_minutes": 5}, "sale is no call-back, so it has no time"),
        ({"name": "sale", "call_at": "2026-11-24 09:30"}, "no call-back"),
        ({"name": "call_back"}, "call_back is a call-back, which needs a time"),
        ({"name": "call_back", "call_at": "2026-11-24 09:30", "in_minutes": 5}, "not both"),
        ({"name": "call_back", "call_at": "2026-11-23 09:30"}, "within a year, and it is 2026-11-23 12:03 EST"),
        ({"name": "call_back", "call_at": "2028-11-23 09:30"}, "within a year"),
        ({"name": "call_back", "in_minutes": 1e300}, "within a year"),
        ({"name": "sale", "note": "two\nlines"}, "a note is one line"),
        ({"name": "sale", "note": "x" * 501}, "at most 500 characters"),
        ({"name": "sale", "agent": "1001"}, r"1001 did not talk in the call .* to \+1212"),
        ({"name": "sale", "said_at": ENDED + SAY_WITHIN + timedelta(seconds=1)}, "can be said for 10 minutes"),
    ],
)
async def test_what_cannot_be_said_changes_nothing(database: Database, how: dict[str, Any], reason: str) -> None:
    one = await talk(database)
    await one.close()
    before = (await one.row()).model_dump(), (await one.lead()).model_dump()
    with pytest.raises(InputRefusedError, match=reason):
        await one.say(**how)
    assert ((await one.row()).model_dump(), (await one.lead()).model_dump()) == before


async def test_of_a_call_that_never_was_nothing_can_be_said(database: Database) -> None:
    with pytest.raises(InputRefusedError, match="is not on record"):
        await database.write(Said("nowhere", "1000", NOON, name="sale").write)


async def test_of_a_call_in_which_nobody_talked_nothing_can_be_said(database: Database) -> None:
    one = await talk(database)
    record = cdr_of(one.lease, one.filled.id)
    record.agent = "1000"  # held for it, or skipped it
    await database.write(lambda s: close_attempt(s, record, NextStep(LeadStatus.DEAD, None, "busy"), ENDED))
    with pytest.raises(InputRefusedError, match="1000 did not talk"):
        await one.say("sale")


# What is asked.


async def test_what_was_said_is_found_by_call_campaign_and_agent(database: Database) -> None:
    filled = await fill(database, 3, campaign=SPRING)
    leases = await take(database, filled, 3)
    talks = [Talk(database, filled, lease) for lease in leases]
    for one in talks:
        await one.close()
    await talks[1].say("sale")

    def ask(session: Session) -> None:
        of_calls = outcomes.of_calls(session, [leases[1].uuid, "nowhere"])
        assert {uuid: row.name for uuid, row in of_calls.items()} == {leases[1].uuid: "sale"}
        assert dict(outcomes.counts(session, filled.id, NOON)) == {"no_sale": 2, "sale": 1}
        assert outcomes.counts(session, filled.id, SAID_AT) == {"sale": 1}
        assert outcomes.latest_by_agent(session, NOON) == {"1000": "sale"}
        assert outcomes.last_call_of(session, "1000", ENDED) in {lease.uuid for lease in leases}
        assert outcomes.last_call_of(session, "1000", SAID_AT) is None
        assert outcomes.last_call_of(session, "1001", NOON) is None
        assert outcomes.columns(of_calls[leases[1].uuid])["outcome"] == "sale"
        assert set(outcomes.columns(None)) == set(outcomes.columns(of_calls[leases[1].uuid]))

    await database.read(ask)


def test_what_is_kept_in_a_journal_comes_back_as_it_was() -> None:
    said = Said("u", "1000", SAID_AT, name="call_back", note="Zoë", call_at="2026-12-01 15:00", for_anyone=True)
    assert Said.from_value(json.loads(json.dumps(said.to_value()))) == said
    opt_out = by_agent("+12125550100", "u", SPRING, "1000", NOON)
    assert OptOut.from_value(json.loads(json.dumps(opt_out.to_value()))) == opt_out
