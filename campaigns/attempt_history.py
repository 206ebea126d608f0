"""Who has been called how often lately: the past calls that rules ask for, found for many leads at once."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Protocol

import attrs
from sqlalchemy import bindparam, select
from sqlmodel import Session, SQLModel

from campaigns import advisory_locks
from campaigns.advisory_locks import Lock
from campaigns.many import many, one_of
from campaigns.rules.candidate import PastCall
from campaigns.tables import AttemptRow, CampaignRow

_attempt = SQLModel.metadata.tables[str(AttemptRow.__tablename__)]
_campaign = SQLModel.metadata.tables[str(CampaignRow.__tablename__)]
_NAMES: Final = tuple(field.name for field in attrs.fields(PastCall) if field.name != "seller")
_DEFINITIONS: Final = select(_campaign.c.id, _campaign.c.definition).where(one_of(_campaign.c.id, "_ids"))


def look_alone(session: Session) -> bool:
    """From here to the commit no other daemon looks at who was called how often, and leases; False while one does.

    Calls that two lease at once would not count for each other.
    """
    return advisory_locks.take(session, Lock.HISTORIES, wait=False)


class Called(Protocol):
    """Whoever has a history of calls: a Candidate, or a lead in a queue."""

    @property
    def lead_id(self) -> int: ...
    @property
    def number(self) -> str: ...
    @property
    def account(self) -> str | None: ...
    @property
    def attempts(self) -> int: ...


@attrs.frozen
class Histories:
    """Past calls by number, lead and account. One that has several of them in common with a lead counts once."""

    by_number: Mapping[str, Sequence[PastCall]] = attrs.field(factory=dict)
    by_lead: Mapping[int, Sequence[PastCall]] = attrs.field(factory=dict)
    by_account: Mapping[str, Sequence[PastCall]] = attrs.field(factory=dict)

    def of(self, lead: Called) -> Sequence[PastCall]:
        """The past calls of the lead's number, of itself and of its account, in no order."""
        of_number = self.by_number.get(lead.number, ())
        of_lead = self.by_lead.get(lead.lead_id, ())
        of_account = self.by_account.get(lead.account, ()) if lead.account else ()
        if not of_lead and not of_account:
            return of_number
        return [
            *of_number,
            *(one for one in of_lead if one.number != lead.number),
            *(one for one in of_account if one.number != lead.number and one.lead_id != lead.lead_id),
        ]

    def to_number(self, number: str) -> Sequence[PastCall]:
        """The past calls of `number`, whoever they were for."""
        return self.by_number.get(number, ())


def of(session: Session, leads: Sequence[Called], since: datetime) -> Histories:
    """The counted calls, open ones too, that began at `since` or later."""
    connection = session.connection()
    wanted: dict[str, list[Any]] = {
        "_numbers": [one.number for one in leads],
        "_leads": [one.lead_id for one in leads if one.attempts],
        "_accounts": [one.account for one in leads if one.account],
    }
    rows: dict[str, Any] = {}
    for name, query in _QUERIES.items():  # one for each, since the database cannot use three indexes for one
        if wanted[name]:
            found = connection.execute(query, {name: many(wanted[name]), "_since": since}).all()
            rows.update((row.uuid, row) for row in found)
    sellers = sellers_of(session, {row.campaign_id for row in rows.values()})
    by_number: defaultdict[str, list[PastCall]] = defaultdict(list)
    by_lead: defaultdict[int, list[PastCall]] = defaultdict(list)
    by_account: defaultdict[str, list[PastCall]] = defaultdict(list)
    for row in rows.values():
        values = {name: getattr(row, name) for name in _NAMES}
        call = PastCall(seller=sellers[row.campaign_id], **values)
        by_number[call.number].append(call)
        by_lead[call.lead_id].append(call)
        if call.account is not None:
            by_account[call.account].append(call)
    return Histories(by_number, by_lead, by_account)


def sellers_of(session: Session, campaign_ids: Collection[int]) -> Mapping[int, str | None]:
    """For whom each campaign calls; None stands for one and the same."""
    if not campaign_ids:
        return {}
    found = session.connection().execute(_DEFINITIONS, {"_ids": many(sorted(campaign_ids))})
    return {campaign_id: _seller_in(definition) for campaign_id, definition in found}


@lru_cache(maxsize=1_000)
def _seller_in(definition: str) -> str | None:
    seller: str | None = json.loads(definition).get("seller")
    return seller


def _query(column: str, name: str) -> Any:
    return select(_attempt.c.uuid, *(_attempt.c[each] for each in _NAMES)).where(
        one_of(_attempt.c[column], name),
        _attempt.c.opened_at >= bindparam("_since"),
        _attempt.c.counted,
    )


_QUERIES: Final = {
    "_numbers": _query("number", "_numbers"),
    "_leads": _query("lead_id", "_leads"),
    "_accounts": _query("account", "_accounts"),
}
