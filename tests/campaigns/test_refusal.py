"""Whoever refuses is left alone by all campaigns of the seller, for the days that law or campaign asks for."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import select

from campaigns.campaign import AgentDisposition, Campaign
from campaigns.database import Database
from campaigns.disposition import Disposition
from campaigns.recycle import NextStep, next_step
from campaigns.rules.callable import REFUSED, RuleBook
from campaigns.rules.candidate import Candidate
from campaigns.rules.refusal import Rest, rest_after_refusal
from campaigns.rules.verdict import Verdict
from campaigns.suppression_store import NewEntry, Scope, add_entries, entries_for, let_rest
from campaigns.tables import SuppressionRow

from .conftest import CAMPAIGN, NOON
from .test_outcomes import ENDED, SAID_AT, Talk, talk

ACME = CAMPAIGN.model_copy(
    update={
        "seller": "acme",
        "dispositions": (AgentDisposition(name="no", refusal=True), AgentDisposition(name="sale")),
        "default_disposition": "sale",
        "retries": CAMPAIGN.retries.model_copy(update={"refusal_rest_days": 60}),
    }
)
# The day of the refusal and sixty whole ones after it, in New York.
UNTIL = datetime(2027, 1, 23, 5, 0, tzinfo=UTC)


def same(campaign: Campaign, **changes: object) -> Campaign:
    """Another campaign of the house."""
    return campaign.model_copy(update={"name": "autumn", **changes})


async def verdict(one: Talk, campaign: Campaign, now: datetime = NOON + timedelta(days=1)) -> Verdict:
    """Whether `campaign` may call the number, of which its own list knows nothing."""
    number = one.lease.number
    found = await one.database.read(lambda session: entries_for(session, [number]))
    candidate = Candidate(99, number, ("America/New_York",), "US-NY")
    return RuleBook(campaign, 2).verdict(candidate, (), found.get(number, ()), now)


async def entries(one: Talk) -> list[SuppressionRow]:
    return await one.database.read(lambda session: list(session.exec(select(SuppressionRow)).all()))


async def test_a_refusal_rests_the_number_for_every_campaign_of_the_seller_and_no_other(database: Database) -> None:
    one = await talk(database, ACME)
    assert (await one.say("no", NOON)).endswith("is no, and is left alone until 2027-01-23 00:00 EST")
    assert not (await verdict(one, same(ACME))).allowed
    await one.close()
    (entry,) = await entries(one)
    assert (entry.scope, entry.scope_name, entry.expires_at) == ("seller", "acme", UNTIL)
    forbidden = await verdict(one, same(ACME))
    assert (forbidden.rule, forbidden.allowed_at) == (REFUSED, UNTIL)
    assert "refused a call of acme" in forbidden.reason
    assert (await verdict(one, same(ACME, seller="other"))).allowed
    assert (await verdict(one, same(ACME), UNTIL + timedelta(hours=12))).allowed


async def test_a_call_that_was_rejected_is_a_refusal_too(database: Database) -> None:
    one = await talk(database, ACME)
    await one.close(Disposition.REJECTED)
    assert (await verdict(one, same(ACME))).rule == REFUSED


async def test_without_a_seller_nobody_calls(database: Database) -> None:
    one = await talk(database, same(ACME, seller=None))
    await one.close(Disposition.REJECTED)
    assert (await verdict(one, same(ACME, seller="other"))).rule == REFUSED


async def test_what_was_no_refusal_after_all_rests_nobody(database: Database) -> None:
    one = await talk(database, ACME)
    await one.close()
    await one.say("no")
    assert not (await verdict(one, same(ACME))).allowed
    await one.say("sale", SAID_AT + timedelta(seconds=1))
    assert await entries(one) == []
    assert (await verdict(one, same(ACME))).allowed


@pytest.mark.parametrize("expires_at", [None, UNTIL + timedelta(days=1)])
async def test_an_entry_that_forbids_it_for_longer_stays(database: Database, expires_at: datetime | None) -> None:
    one = await talk(database, ACME)
    await database.write(
        lambda session: add_entries(
            session,
            [NewEntry(one.lease.number)],
            scope=Scope.SELLER,
            scope_name="acme",
            source="register",
            added_by="ann",
            now=NOON,
            expires_at=expires_at,
        )
    )
    await one.close()
    await one.say("no")
    await one.say("sale", SAID_AT + timedelta(seconds=1))
    assert [(entry.source, entry.expires_at) for entry in await entries(one)] == [("register", expires_at)]


async def test_a_shorter_one_gives_way(database: Database) -> None:
    one = await talk(database, ACME)
    rest = Rest("acme", ENDED + timedelta(days=1))
    await database.write(lambda session: let_rest(session, one.lease.number, rest, attempt="older", now=NOON))
    await one.close(Disposition.REJECTED)
    assert [(entry.expires_at, entry.reason) for entry in await entries(one)] == [
        (UNTIL, f"attempt {one.lease.uuid}")
    ]


async def test_a_rest_outlives_the_journal(database: Database) -> None:
    one = await talk(database, ACME)
    step = next_step(Disposition.REJECTED, one.lease, ACME, ENDED)
    assert step.rest == Rest("acme", UNTIL)
    assert NextStep.from_value(json.loads(json.dumps(step.to_value()))) == step


@pytest.mark.parametrize(
    ("changes", "zones", "until"),
    [
        ({}, ("America/New_York",), UNTIL),
        ({}, ("America/New_York", "America/Los_Angeles"), UNTIL + timedelta(hours=3)),
        ({"retries": CAMPAIGN.retries}, ("America/New_York",), None),  # no rest is asked for
        ({"profile": "fr", "retries": CAMPAIGN.retries, "country": "FR"}, ("Europe/Paris",), "2027-01-22 23:00"),
    ],
)
def test_until_when(changes: dict[str, object], zones: tuple[str, ...], until: datetime | str | None) -> None:
    rest = rest_after_refusal(same(ACME, **changes), zones, NOON)
    if isinstance(until, str):
        until = datetime.fromisoformat(until).replace(tzinfo=UTC)
    assert (rest.until if rest is not None else None) == until
