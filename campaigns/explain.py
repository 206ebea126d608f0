"""Why a lead is called or not: every rule's word on one lead, and what a whole list has before it.

The answers come from the very functions that the hopper asks, on the very same facts; nothing is decided here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import attrs
from sqlmodel import Session, col, select

from campaigns import attempt_history, called_numbers, forbidden_leads, suppression_store
from campaigns.attempt_history import Histories
from campaigns.called_numbers import NOTHING, in_call
from campaigns.campaign import CampaignStatus
from campaigns.disposition import Disposition
from campaigns.hopper import calls_shown
from campaigns.lead import LeadStatus
from campaigns.leases import candidate_of
from campaigns.rules import suppression
from campaigns.rules.callable import ATTEMPTS, RuleBook
from campaigns.rules.candidate import Candidate, PastCall, SuppressionEntry
from campaigns.rules.verdict import Verdict, allowed, forbidden, gravest
from campaigns.slots import Slots, needed_since
from campaigns.store import definition_of
from campaigns.tables import CampaignRow, LeadListRow, LeadRow
from campaigns.trunk import Trunk

PAGE: Final = 2_000
HOURS_AHEAD: Final = 24
_WHY_FINAL: Final = {
    LeadStatus.DIALING: "it is being called now",
    LeadStatus.DONE: "somebody was reached",
    LeadStatus.EXHAUSTED: "its last outcome was tried as often as the campaign tries that",
    LeadStatus.DEAD: "its last outcome ended it",
    LeadStatus.SUPPRESSED: "it is on a do-not-call list",
    LeadStatus.WITHDRAWN: "it was withdrawn",
}
_OPEN: Final = (LeadStatus.NEW, LeadStatus.WAITING)


@attrs.frozen
class Explanation:
    """One lead: where it stands, and what each rule says of calling it now; all in all, `answer`."""

    campaign: str
    list_name: str
    lead: LeadRow
    verdicts: Sequence[Verdict]
    answer: Verdict


def explain(session: Session, lead: LeadRow, trunks: Mapping[str, Trunk], now: datetime) -> Explanation:
    """What allows or stops a call to `lead` at `now`: its own state, its list, its campaign, all rules, all trunks.

    `trunks` are those that the daemon's settings have, by name.
    """
    campaign_row = session.get_one(CampaignRow, lead.campaign_id)
    list_row = session.get_one(LeadListRow, lead.list_id)
    judge = _Judge(session, campaign_row, trunks, now)
    candidate, found = judge.ask(lead)
    verdicts = [_of_campaign(campaign_row, now), _of_list(list_row, now), _of_state(lead, now), *found]
    answer = gravest(verdicts) or allowed("status", "no rule has anything against it", now)
    return Explanation(campaign_row.name, list_row.name, lead, verdicts, judge.agreed(candidate, answer))


@attrs.frozen
class _Facts:
    """What rules are told of a lead by one of its numbers; `calls` are the number's, the lead's and the account's."""

    candidate: Candidate
    calls: Sequence[PastCall]
    calls_to_number: Sequence[PastCall]
    entries: Sequence[SuppressionEntry]
    is_in_call: bool


class _Judge:
    """All rules and trunks of one campaign at one moment, as the hopper would ask them."""

    def __init__(self, session: Session, row: CampaignRow, trunks: Mapping[str, Trunk], now: datetime) -> None:
        self.campaign = definition_of(row)
        self.book = RuleBook(self.campaign, row.id or 0)
        self._session = session
        self._now = now
        self._mine = {name: trunks[name] for name in self.campaign.gateways if name in trunks}
        pooled = self.campaign.caller_id is None
        self._slots = Slots([], self._mine, now, partial(calls_shown, session, self._mine), pooled=pooled)
        self._since = _since(self.book, self._mine, now)
        self._places: dict[tuple[tuple[str, ...], str | None], Verdict] = {}

    def facts(self, candidates: Sequence[Candidate]) -> list[_Facts]:
        """What rules are told of each of `candidates`, found for all of them at once."""
        session, numbers = self._session, [one.number for one in candidates]
        called = called_numbers.called(session, self.book, numbers, self._now)
        histories = Histories() if self._since is None else attempt_history.of(session, candidates, self._since)
        entries = suppression_store.entries_for(session, numbers)
        return [
            _Facts(
                called.get(one.number, NOTHING).told_to(one),
                histories.of(one),
                histories.to_number(one.number),
                entries.get(one.number, ()),
                called.get(one.number, NOTHING).in_call,
            )
            for one in candidates
        ]

    def ask(self, lead: LeadRow) -> tuple[Candidate, list[Verdict]]:
        """The lead with the number that it would be called by; every rule's word on it, and the trunks' together."""
        now, of_lead = self._now, candidate_of(lead.id or 0, lead)
        (facts,) = self.facts([of_lead])
        said: list[Verdict] = []
        is_listed = self.book.verdict(facts.candidate, facts.calls, facts.entries, now).rule == suppression.RULE
        other = None
        if is_listed or not self.is_carried(lead):
            may_carry = self._slots.may_carry
            other = forbidden_leads.goes_on_with(self._session, self.campaign, lead, now, may_carry)
        if other is not None:
            number, due_at = other
            why = "is on a do-not-call list" if is_listed else "is nothing that its trunks may call"
            reason = f"{lead.number} {why}: it goes on with {number.number}"
            said = [forbidden("rest", reason, due_at) if due_at > now else allowed("number", reason, now)]
            by_other = attrs.evolve(of_lead, number=number.number, zones=number.zones, region=number.region)
            (facts,) = self.facts([by_other])
        said += self.book.verdicts(facts.candidate, facts.calls, facts.entries, now)
        if lead.status in _OPEN and facts.is_in_call:
            said.append(in_call(facts.candidate.number, now))
        return facts.candidate, [*said, self.of_trunks(facts)]

    def is_carried(self, lead: LeadRow) -> bool:
        """Whether there is a trunk that may ever call the lead's number."""
        return self._slots.may_carry(lead.number, lead.region)

    def of_trunks(self, facts: _Facts) -> Verdict:
        """What the campaign's trunks say together: one that may carry it is enough."""
        said: list[Verdict] = []
        candidate = facts.candidate
        full = self.book.full_gateways(candidate, facts.calls, self._now)
        for name in self.campaign.gateways:
            trunk = self._mine.get(name)
            if trunk is None:
                said.append(forbidden("gateway", f"{name} is not configured", None))
                continue
            found = self._slots.over(trunk, candidate.number, candidate.region, facts.calls_to_number, full)
            shows = f", and show {found}" if isinstance(found, str) else ""
            may = allowed("gateway", f"{name} may call it{shows}", self._now)
            said.append(found if isinstance(found, Verdict) else may)
        able = [one for one in said if one.allowed]
        if able:
            return allowed("gateway", "; ".join(one.reason for one in able), self._now)
        moments = [one.allowed_at for one in said if one.allowed_at is not None]
        return forbidden("gateway", "; ".join(one.reason for one in said), min(moments, default=None))

    def agreed(self, candidate: Candidate, found: Verdict) -> Verdict:
        """`found` with the moment at which calling hours and closed days allow the call too."""
        if found.allowed or found.allowed_at is None:
            return found
        then = self.book.place_verdict(candidate.zones, candidate.region, found.allowed_at)
        return found if then.allowed else attrs.evolve(found, allowed_at=then.allowed_at)

    def place(self, candidate: Candidate) -> Verdict:
        """What depends on where the number is, and on the time: many are at the same place."""
        key = candidate.zones, candidate.region
        if key not in self._places:
            self._places[key] = self.book.place_verdict(*key, self._now)
        return self._places[key]


def _since(book: RuleBook, trunks: Mapping[str, Trunk], now: datetime) -> datetime | None:
    moments = book.history_since(now), needed_since(trunks.values(), now)
    return min((moment for moment in moments if moment is not None), default=None)


def _of_campaign(row: CampaignRow, now: datetime) -> Verdict:
    if row.status is CampaignStatus.RUNNING:
        return allowed("campaign", "the campaign is running", now)
    return forbidden("campaign", f"the campaign is {row.status.value}", None)


def _of_list(row: LeadListRow, now: datetime) -> Verdict:
    if row.active:
        return allowed("list", f"its list {row.name} is active", now)
    return forbidden("list", f"its list {row.name} is not active", None)


def _of_state(lead: LeadRow, now: datetime) -> Verdict:
    if lead.status not in _OPEN:
        last = f", last: {lead.last_disposition.value}" if lead.last_disposition is not None else ""
        why = _WHY_FINAL[lead.status]
        if lead.put_off_by == ATTEMPTS:
            why = "it was tried as often as the campaign allows"
        elif lead.status is LeadStatus.EXHAUSTED and lead.last_disposition is Disposition.FAILED_OVER:
            why = "no trunk would carry it, time and again"
        return forbidden("status", f"it is {lead.status.value}: {why}{last}", None)
    if lead.queue is None and lead.due_at > now and lead.put_off_by is None:
        after = f" after {lead.last_disposition.value}" if lead.last_disposition is not None else ""
        return forbidden("rest", f"it rests{after}", lead.due_at)
    if lead.queue is None and lead.due_at > now:
        return forbidden("put_off", f"put off by the rule {lead.put_off_by}, which is asked again then", lead.due_at)
    where = lead.queue.name.lower() if lead.queue is not None else "its"
    return allowed("status", f"it is {lead.status.value}, and waits in the {where} queue", now)


@attrs.define
class Outline:
    """What would become of a list: leads that are over, callable now, and forbidden by rule; and by hour ahead.

    `by_hour[0]` may be called within the hour that has begun at `now`, and so on; `later` after those, `never` not as
    things stand.
    """

    now: datetime
    total: int = 0
    over: Counter[LeadStatus] = attrs.field(factory=Counter)
    callable_now: int = 0
    blocked: Counter[str] = attrs.field(factory=Counter)
    examples: dict[str, str] = attrs.field(factory=dict)  # a reason for each rule, of the first lead it met
    by_hour: list[int] = attrs.field(factory=lambda: [0] * HOURS_AHEAD)
    later: int = 0
    never: int = 0

    @property
    def ends_at(self) -> datetime:
        """The end of the hours that are counted one by one."""
        return self.now + timedelta(hours=HOURS_AHEAD)

    def add(self, verdict: Verdict) -> None:
        """Count a lead that `verdict` was given on."""
        if verdict.allowed:
            self.callable_now += 1
            self.by_hour[0] += 1
            return
        self.blocked[verdict.rule] += 1
        self.examples.setdefault(verdict.rule, verdict.reason)
        if verdict.allowed_at is None:
            self.never += 1
            return
        hours = (verdict.allowed_at - self.now) // timedelta(hours=1)
        if hours < HOURS_AHEAD:
            self.by_hour[max(0, hours)] += 1
        else:
            self.later += 1


def outline(session: Session, row: CampaignRow, trunks: Mapping[str, Trunk], now: datetime) -> Iterator[Outline]:
    """Goes through the campaign's leads page by page; gives the outline so far after each page, the whole at last.

    It is of one moment: calls that will be made by then, and what they will bring, are not foreseen.
    """
    assert row.id is not None
    judge = _Judge(session, row, trunks, now)
    so_far = Outline(now)
    inactive = set(
        session.exec(
            select(LeadListRow.id).where(LeadListRow.campaign_id == row.id, col(LeadListRow.active).is_(False))
        )
    )
    after = 0
    while True:
        leads = session.exec(
            select(LeadRow)
            .where(LeadRow.campaign_id == row.id, col(LeadRow.id) > after)
            .order_by(col(LeadRow.id))
            .limit(PAGE)
        ).all()
        if not leads:
            yield so_far
            return
        after = leads[-1].id or 0
        so_far.total += len(leads)
        open_leads = [lead for lead in leads if lead.status in _OPEN]
        so_far.over.update(lead.status for lead in leads if lead.status not in _OPEN)
        all_facts = judge.facts([candidate_of(lead.id or 0, lead) for lead in open_leads])
        for lead, facts in zip(open_leads, all_facts, strict=True):
            asked = facts.candidate
            stuck = facts.entries or not judge.is_carried(lead)
            if stuck and lead.first_number is not None:  # it may go on with another number
                asked, found = judge.ask(lead)
            else:
                found = [
                    judge.book.verdict(asked, facts.calls, facts.entries, now, place=judge.place(asked)),
                    judge.of_trunks(facts),
                ]
                if facts.is_in_call:
                    found.append(in_call(lead.number, now))
            if lead.put_off_by is None:
                found.append(_of_state(lead, now))
            if lead.list_id in inactive:
                found.append(forbidden("list", "its list is not active", None))
            answer = gravest(found) or allowed("status", "", now)
            # What is later than all hours that are counted can only become later still.
            soon = answer.allowed_at is not None and answer.allowed_at < so_far.ends_at
            so_far.add(judge.agreed(asked, answer) if soon else answer)
        session.expunge_all()  # a million leads are not to be held at once
        yield so_far
