"""Why a lead is called or not: every rule's word on one lead, and what a whole list has before it.

The answers come from the very functions that the hopper asks, on the very same facts; nothing is decided here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import attrs
from sqlmodel import Session, col, select

from campaigns import attempt_history, suppression_store
from campaigns.campaign import CampaignStatus
from campaigns.lead import LeadStatus
from campaigns.leases import candidate_of
from campaigns.rules.callable import RuleBook
from campaigns.rules.verdict import Verdict, allowed, forbidden, gravest
from campaigns.slots import needed_since
from campaigns.store import definition_of
from campaigns.tables import CampaignRow, LeadListRow, LeadRow
from campaigns.trunk import Trunk

PAGE: Final = 2_000
HOURS_AHEAD: Final = 24
_WHY_FINAL: Final = {
    LeadStatus.DIALING: "it is being called now",
    LeadStatus.DONE: "somebody was reached",
    LeadStatus.EXHAUSTED: "it was tried as often as the campaign allows",
    LeadStatus.DEAD: "its last outcome ended it",
    LeadStatus.SUPPRESSED: "it is on a do-not-call list",
    LeadStatus.WITHDRAWN: "it was withdrawn",
}
_OPEN: Final = (LeadStatus.NEW, LeadStatus.WAITING)


@attrs.frozen
class Explanation:
    """One lead: where it stands, and what each rule says of calling it now."""

    campaign: str
    list_name: str
    lead: LeadRow
    verdicts: Sequence[Verdict]

    @property
    def answer(self) -> Verdict:
        """All in all: allowed, or what forbids it longest."""
        return gravest(self.verdicts) or self.verdicts[-1]


def explain(session: Session, lead: LeadRow, trunks: Mapping[str, Trunk], now: datetime) -> Explanation:
    """What allows or stops a call to `lead` at `now`: its own state, its list, its campaign, all rules, all trunks.

    `trunks` are those that the daemon's settings have, by name.
    """
    campaign_row = session.get_one(CampaignRow, lead.campaign_id)
    campaign = definition_of(campaign_row)
    list_row = session.get_one(LeadListRow, lead.list_id)
    book = RuleBook(campaign, lead.campaign_id)
    candidate = candidate_of(lead.id or 0, lead)
    since = _since(book, trunks, now)
    histories = attempt_history.of(session, [candidate], since) if since is not None else attempt_history.Histories()
    entries = suppression_store.entries_for(session, [lead.number]).get(lead.number, ())
    verdicts = [
        _of_campaign(campaign_row, now),
        _of_list(list_row, now),
        _of_state(lead, now),
        *book.verdicts(candidate, histories.of(candidate), entries, now),
        *_of_trunks(campaign.gateways, trunks, lead, histories, now),
    ]
    return Explanation(campaign_row.name, list_row.name, lead, verdicts)


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
        return forbidden("status", f"it is {lead.status.value}: {_WHY_FINAL[lead.status]}{last}", None)
    if lead.queue is None and lead.due_at > now and lead.put_off_by is None:
        after = f" after {lead.last_disposition.value}" if lead.last_disposition is not None else ""
        return forbidden("rest", f"it rests{after}", lead.due_at)
    if lead.queue is None and lead.due_at > now:
        return forbidden("put_off", f"put off by the rule {lead.put_off_by}, which is asked again then", lead.due_at)
    where = lead.queue.name.lower() if lead.queue is not None else "its"
    return allowed("status", f"it is {lead.status.value}, and waits in the {where} queue", now)


def _of_trunks(
    names: Sequence[str],
    trunks: Mapping[str, Trunk],
    lead: LeadRow,
    histories: attempt_history.Histories,
    now: datetime,
) -> Iterator[Verdict]:
    """What the campaign's trunks say together: one that may carry it is enough."""
    said: list[Verdict] = []
    for name in names:
        trunk = trunks.get(name)
        if trunk is None:
            said.append(forbidden("gateway", f"{name} is not configured", None))
            continue
        began = trunk.day_began(now)
        calls = [one for one in histories.to_number(lead.number) if one.gateway == name and one.opened_at >= began]
        said.append(trunk.verdict(lead.number, lead.region, len(calls), now))
    able = [one for one in said if one.allowed]
    if able:
        yield allowed("gateway", "; ".join(one.reason for one in able), now)
    else:
        moments = [one.allowed_at for one in said if one.allowed_at is not None]
        yield forbidden("gateway", "; ".join(one.reason for one in said), min(moments, default=None))


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
    campaign = definition_of(row)
    book = RuleBook(campaign, row.id)
    mine = {name: trunks[name] for name in campaign.gateways if name in trunks}
    places: dict[tuple[str, str | None], Verdict] = {}
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
        candidates = [candidate_of(lead.id or 0, lead) for lead in open_leads]
        since = _since(book, mine, now)
        histories = (
            attempt_history.of(session, candidates, since) if since is not None else attempt_history.Histories()
        )
        entries = suppression_store.entries_for(session, [lead.number for lead in open_leads])
        for lead, candidate in zip(open_leads, candidates, strict=True):
            key = lead.zones, lead.region
            if key not in places:
                places[key] = book.place_verdict(candidate.zones, candidate.region, now)
            verdicts = [
                _of_state(lead, now) if lead.put_off_by is None else allowed("status", "", now),
                book.verdict(
                    candidate, histories.of(candidate), entries.get(lead.number, ()), now, place=places[key]
                ),
            ]
            if lead.list_id in inactive:
                verdicts.append(forbidden("list", "its list is not active", None))
            verdicts += _of_trunks(campaign.gateways, trunks, lead, histories, now)
            so_far.add(gravest(verdicts) or allowed("status", "", now))
        session.expunge_all()  # a million leads are not to be held at once
        yield so_far
