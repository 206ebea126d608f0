"""No call is placed at a moment its rules forbid: random campaigns, lists, calls and clocks, on a real database."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import uuid4

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, insert
from sqlalchemy.pool import StaticPool
from sqlmodel import Session, SQLModel, select

from campaigns import suppression_store
from campaigns.called_numbers import IN_CALL, LONGEST_CALL
from campaigns.campaign import AgentDisposition, CallingHours, Campaign, Cap, Delays, NextNumber, Retries
from campaigns.disposition import UNCOUNTED, Disposition
from campaigns.hopper import lease
from campaigns.lead import LeadNumber, LeadStatus, numbers_to_json
from campaigns.leases import Lease, candidate_of
from campaigns.recycle import next_step, step_of_outcome
from campaigns.rules.callable import ATTEMPTS, RULES, RuleBook
from campaigns.rules.candidate import Candidate, PastCall, SuppressionEntry
from campaigns.slots import Slot
from campaigns.store import add_campaign, close_attempt, lead_list
from campaigns.suppression_store import NewEntry, Scope
from campaigns.tables import LeadRow
from campaigns.trunk import Trunk

from .conftest import cdr_of
from .rules.oracle import forbidding, full_gateway
from .rules.test_callable import WEEK, clocks

TRUNKS = {"a": Trunk("a", "fs1"), "b": Trunk("b", "fs1")}
NUMBERS = (
    LeadNumber("+12125550100", ("America/New_York",), "fixed", "US-NY"),
    LeadNumber("+13055550100", ("America/New_York",), "mobile", "US-FL"),
    LeadNumber("+442071838750", ("Europe/London",), "fixed", "GB"),
    LeadNumber("+18505550100", ("America/New_York", "America/Chicago"), "mobile", "US-FL"),
    LeadNumber("+80012345678", ()),
)
MAYBE = AgentDisposition(name="maybe", then="recycle", delay_seconds=600.0, refusal=True)
ANSWERED = {Disposition.BRIDGED, Disposition.ABANDONED, Disposition.HUNG_UP, Disposition.MACHINE}
HAPPENS = [
    Disposition.NO_ANSWER,
    Disposition.BUSY,
    Disposition.ABANDONED,
    Disposition.MACHINE,
    Disposition.INVALID_NUMBER,
    Disposition.CONGESTION,
    Disposition.FAILED_OVER,
    Disposition.REJECTED,
    Disposition.BRIDGED,
]


@attrs.frozen
class LeadOf:
    """A lead of a list: the numbers it has, in order, and what else is known of it."""

    numbers: tuple[LeadNumber, ...]
    in_list: str
    account: str | None
    consent_hours: int | None
    evidence: str | None


@pytest.fixture(scope="module")
def empty() -> Iterator[Engine]:
    """One for all stories: statements are compiled for an engine, which takes longer than a story. Each is rolled
    back in the end."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    SQLModel.metadata.create_all(engine)
    yield engine
    engine.dispose()


class Story:
    """A campaign that is dialed, and everything that has happened to it."""

    def __init__(self, session: Session, campaign: Campaign, of_leads: list[LeadOf], now: datetime) -> None:
        self.session, self.campaign, self.now = session, campaign, now
        row = add_campaign(session, campaign, now).row
        assert row.id is not None
        self.id = row.id
        self.calls: dict[str, PastCall] = {}  # by the attempt's uuid; those that count
        self.open: list[Lease] = []
        self.entries: dict[tuple[str, Scope], SuppressionEntry] = {}  # one that comes again takes the new expiry
        self.placed = 0
        self.against: set[str] = set()  # the rules that have forbidden a call
        for one in of_leads:
            self._add(one)

    def _add(self, one: LeadOf) -> None:
        first = one.numbers[0]
        values: dict[str, Any] = {
            "campaign_id": self.id,
            "list_id": lead_list(self.session, self.id, one.in_list, self.now).id,
            "number": first.number,
            "zones": json.dumps(first.zones),
            "region": first.region,
            "kind": first.kind,
            "numbers": numbers_to_json(one.numbers) if len(one.numbers) > 1 else "[]",
            "account": one.account,
            "status": LeadStatus.NEW,
            "due_at": self.now,
            "consent_at": self.now - timedelta(hours=one.consent_hours) if one.consent_hours is not None else None,
            "consent_evidence": one.evidence,
            "created_at": self.now,
            "updated_at": self.now,
        }
        self.session.connection().execute(insert(LeadRow), [values])

    def forbid(self, number: LeadNumber, scope: Scope, hours: int) -> None:
        """Somebody's number comes onto a list, for some hours."""
        name = "" if scope is Scope.SYSTEM else "spring"
        expires_at = self.now + timedelta(hours=hours)
        suppression_store.add_entries(
            self.session,
            [NewEntry(number.number)],
            scope=scope,
            scope_name=name,
            source="a register",
            added_by="me",
            now=self.now,
            expires_at=expires_at,
        )
        entry = SuppressionEntry(number.number, False, scope.value, name, "a register", expires_at)
        self.entries[number.number, scope] = entry

    def dial(self, room: dict[str, int]) -> None:
        """Leases for `room` slots on each gateway; each is held to all rules, the others just leased among them."""
        before = {row.id: candidate_of(row.id or 0, row) for row in self._rows()}
        slots = [Slot(str(uuid4()), gateway, "fs1") for gateway, count in room.items() for _ in range(count)]
        leased = lease(self.session, RuleBook(self.campaign, self.id), slots, TRUNKS, "test", self.now)
        self.against |= set(leased.blocked)
        for one in leased.leases:
            self.placed += 1
            self._judge(one, before[one.lead_id])
            self.calls[one.uuid] = PastCall(
                self.now, self.id, None, one.lead_id, one.number, one.account, one.gateway
            )
            self.open.append(one)

    def _judge(self, one: Lease, lead: Candidate) -> None:
        calls = list(self.calls.values())
        against = list(forbidding(self.campaign, self.id, lead, calls, list(self.entries.values()), self.now))
        assert not against, f"{one.number} must not be called at {self.now}: {against}"
        assert not full_gateway(self.campaign, self.id, lead, calls, one.gateway, self.now), one.gateway
        assert one.number == lead.number
        since = self.now - LONGEST_CALL
        assert one.number not in {each.number for each in self.open if self.calls[each.uuid].opened_at > since}, (
            "it is being called"
        )

    def end(self, disposition: Disposition, *, said: bool) -> None:
        """The oldest call ends."""
        if not self.open:
            return
        one = self.open.pop(0)
        step = next_step(disposition, one, self.campaign, self.now)
        if disposition is Disposition.BRIDGED and said:
            step = step_of_outcome(MAYBE, one, self.campaign, self.now)
        record = cdr_of(one, self.id, disposition, ended_at=self.now)
        record.answered_at = self.now if disposition in ANSWERED else None
        record.bridged_at = self.now if disposition is Disposition.BRIDGED else None
        assert close_attempt(self.session, record, step, self.now)
        call = self.calls.pop(one.uuid)
        if disposition not in UNCOUNTED:
            talked = disposition is Disposition.BRIDGED
            self.calls[one.uuid] = attrs.evolve(call, answered=disposition in ANSWERED, talked=talked)

    def _rows(self) -> list[LeadRow]:
        self.session.expire_all()
        return list(self.session.exec(select(LeadRow)))


def a_campaign(dice: random.Random) -> Campaign:
    """One that leaves room for calls."""
    start = dice.randrange(0, 12)
    return Campaign(
        name="spring",
        gateways=("a", "b"),
        country="US",
        timezone="America/Los_Angeles" if start % 4 == 3 else None,
        profile=dice.choice(["none", "none", "none", "us_tsr", "us_fl", "uk", "cn", "fr", "ca"]),
        windows=(
            CallingHours(days=WEEK, start=time(start), end=time(start + dice.randrange(8, 12))),
            CallingHours(days=WEEK[:5], start=time(10), end=time(12), regions=dice.choice([(), ("GB", "US-FL")])),
        ),
        caps=tuple(a_cap(dice) for _ in range(dice.randrange(3))),
        consent=dice.choice(["none", "none", "any", "written"]),
        consent_days=dice.choice([None, 2]),
        holidays=dice.random() < 0.3,
        abandoned_lockout_hours=dice.choice([0.0, 5.0, 72.0]),
        retries=Retries(
            max_attempts=dice.choice([2, 12]),
            refusal_rest_days=dice.choice([0, 1]),
            spread_parts=dice.random() < 0.5,
            delay_seconds=Delays(no_answer=300, busy=60, machine=300, abandoned=60, rejected=60, hung_up=60),
            next_number=NextNumber(no_answer=dice.choice([0.0, "never"])),
        ),
    )


def a_cap(dice: random.Random) -> Cap:
    span = {dice.choice(["hours", "days", "calendar_days"]): dice.randrange(1, 4)}
    return Cap(
        most=dice.randrange(1, 4),
        of=dice.choice(["number", "lead", "account", "gateway"]),
        counts=dice.choice(["attempts", "attempts", "answers", "conversations"]),
        across=dice.choice(["campaign", "all"]),
        **span,
    )


def a_lead(dice: random.Random) -> LeadOf:
    return LeadOf(
        numbers=tuple(dice.sample(NUMBERS, dice.randrange(1, 3))),
        in_list=dice.choice(["one", "two"]),
        account=dice.choice([None, "smith"]),
        consent_hours=dice.choice([None, 0, 30]),
        evidence=dice.choice([None, "form 7"]),
    )


def live(story: Story, dice: random.Random) -> None:
    """A few days go by."""
    for _ in range(40):
        story.now += timedelta(minutes=dice.choice([1, 1, 7, 61, 240]))
        story.dial({"a": dice.randrange(3), "b": dice.randrange(3)})
        while story.open and dice.random() < 0.9:
            story.end(dice.choice(HAPPENS), said=dice.random() < 0.5)
        if dice.random() < 0.05:
            scope = dice.choice([Scope.SYSTEM, Scope.CAMPAIGN])
            story.forbid(dice.choice(NUMBERS), scope, dice.randrange(1, 20))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**9), clock=clocks)
def test_no_call_is_placed_at_a_moment_its_rules_forbid(empty: Engine, seed: int, clock: datetime) -> None:
    dice = random.Random(seed)
    with Session(empty) as session:
        live(Story(session, a_campaign(dice), [a_lead(dice) for _ in range(dice.randrange(2, 12))], clock), dice)


def test_these_stories_have_calls_and_reasons_against_them(empty: Engine) -> None:
    placed, rules = 0, set[str]()
    for seed in range(40):
        dice = random.Random(seed)
        with Session(empty) as session:
            campaign, of_leads = a_campaign(dice), [a_lead(dice) for _ in range(dice.randrange(2, 12))]
            story = Story(session, campaign, of_leads, datetime(2026, 11, 26, tzinfo=UTC))
            live(story, dice)
            placed += story.placed
            rules |= story.against
    assert placed > 100
    assert rules >= {*RULES, IN_CALL} - {ATTEMPTS}  # which is for a campaign whose manager has lowered it
