"""Leases the next callable leads, each to one daemon, and writes the attempts down before anything goes out.

A lease is taken in one transaction with its attempts: the leads' status is compared and set, so that of two daemons
only one gets a lead, and what is to be dialed is on disk before it is on the wire. It ends with
`store.close_attempt`, or with `return_unsent` when nothing was sent.

Leads are taken in the order they are due. One whose calling hours are shut is put off to the moment they open, so
that it is looked at once and not every second; the index then leads past it. Each call looks at a bounded number of
leads, however long the list is and whatever the hour.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from heapq import merge

import attrs
from sqlalchemy import bindparam, case, delete, func, insert, select, tuple_, update
from sqlmodel import Session, SQLModel, col

from campaigns.campaign import Campaign
from campaigns.disposition import Disposition
from campaigns.lead import LeadNumber, LeadStatus
from campaigns.recycle import History
from campaigns.rules.callable import RuleBook
from campaigns.rules.verdict import Verdict
from campaigns.tables import AttemptRow, LeadRow

LOOKED_AT_MOST = 1_000  # leads in one lease: some 10 ms of the writer's time when all of them must be put off
_SPARE = 10  # looked at beyond those wanted, at first: most leads that are due may be called
_CALLABLE = (LeadStatus.NEW, LeadStatus.WAITING)
_NO_MOMENT_YET = timedelta(days=1)  # hours that never open may have been changed by tomorrow


@attrs.frozen
class Slot:
    """Room for one call: the uuid it will have, and where it will go out."""

    uuid: str
    gateway: str
    switch: str


@attrs.frozen
class Lease:
    """A lead that is this daemon's to call, once, and the slot it is to be called in."""

    uuid: str
    lead_id: int
    number: str
    gateway: str
    switch: str
    attempt_no: int
    fields: Mapping[str, str]
    last_disposition: Disposition | None = None
    zones: tuple[str, ...] = ()
    region: str | None = None
    numbers: tuple[LeadNumber, ...] = ()
    number_no: int = 0
    account: str | None = None
    caller_id: str | None = None
    history: History = attrs.field(factory=History)
    callback_at: datetime | None = None
    callback_agent: str | None = None


@attrs.frozen(order=True)
class _Candidate:
    due_at: datetime
    id: int
    number: str = attrs.field(order=False)
    zones: str = attrs.field(order=False)
    fields: str = attrs.field(order=False)
    attempts: int = attrs.field(order=False)
    last_disposition: Disposition | None = attrs.field(order=False)


def lease(
    session: Session, campaign_row_id: int, campaign: Campaign, slots: Sequence[Slot], node: str, now: datetime
) -> list[Lease]:
    """A lead for each of `slots`, or as many as are callable at `now`, in order; the rest of the slots stay unused.

    In preview they are leased to be offered: nothing goes out before `send`.

    Fewer may come than there are when a great many had to be put off: they come next time.
    """
    callable_now: list[_Candidate] = []
    put_off: dict[datetime, list[int]] = defaultdict(list)
    exhausted: list[int] = []
    rules = RuleBook(campaign, campaign_row_id)
    verdicts: dict[str, Verdict] = {}
    looked = 0
    wanted = len(slots) + _SPARE
    last: _Candidate | None = None
    while len(callable_now) < len(slots) and looked < LOOKED_AT_MOST:
        wanted = min(wanted, LOOKED_AT_MOST - looked)
        candidates = _due(session, campaign_row_id, now, last, wanted)
        looked += len(candidates)
        for each in candidates:
            if each.attempts >= campaign.retries.max_attempts:  # the manager has lowered it since
                exhausted.append(each.id)
                continue
            found = verdicts.get(each.zones)
            if found is None:
                found = verdicts[each.zones] = rules.place_verdict(tuple(json.loads(each.zones)), None, now)
            if not found.allowed:
                put_off[found.allowed_at or now + _NO_MOMENT_YET].append(each.id)
                continue
            callable_now.append(each)
            if len(callable_now) == len(slots):
                break
        if len(candidates) < wanted:
            break
        last = candidates[-1]
        wanted *= 4
    for due_at, ids in put_off.items():
        _change(session, ids, {"due_at": due_at, "updated_at": now})
    _change(session, exhausted, {"status": LeadStatus.EXHAUSTED, "updated_at": now})
    return _take(session, campaign_row_id, callable_now, slots, node, now, offered=campaign.mode == "preview")


_lead = SQLModel.metadata.tables[str(LeadRow.__tablename__)]
_DUE = (
    select(
        _lead.c.due_at,
        _lead.c.id,
        _lead.c.number,
        _lead.c.zones,
        _lead.c.fields,
        _lead.c.attempts,
        _lead.c.last_disposition,
    )
    .where(
        _lead.c.campaign_id == bindparam("_campaign_id"),
        _lead.c.status == bindparam("_status"),
        _lead.c.due_at <= bindparam("_now"),
    )
    .order_by(_lead.c.due_at, _lead.c.id)
    .limit(bindparam("_limit"))
    .with_for_update(skip_locked=True)  # PostgreSQL; SQLite's writer is alone from BEGIN IMMEDIATE on
)
_DUE_AFTER = _DUE.where(
    tuple_(_lead.c.due_at, _lead.c.id)
    > tuple_(bindparam("_after_due_at", type_=_lead.c.due_at.type), bindparam("_after_id", type_=_lead.c.id.type))
)


def _due(
    session: Session, campaign_row_id: int, now: datetime, after: _Candidate | None, limit: int
) -> list[_Candidate]:
    """The first `limit` leads after `after` that are due, in order, locked against other daemons."""
    found: list[list[_Candidate]] = []
    for status in _CALLABLE:  # one range of the index each; both in one query would have to sort the whole list
        query = _DUE if after is None else _DUE_AFTER
        values = {"_campaign_id": campaign_row_id, "_status": status, "_now": now, "_limit": limit}
        if after is not None:
            values |= {"_after_due_at": after.due_at, "_after_id": after.id}
        found.append([_Candidate(*row) for row in session.connection().execute(query, values)])
    return list(merge(*found))[:limit]


def _change(session: Session, ids: Sequence[int], values: Mapping[str, object]) -> int:
    if not ids:
        return 0
    changed = session.connection().execute(
        update(LeadRow).where(col(LeadRow.id).in_(ids), col(LeadRow.status).in_(_CALLABLE)).values(**values)
    )
    return changed.rowcount


def _take(
    session: Session,
    campaign_row_id: int,
    leads: Sequence[_Candidate],
    slots: Sequence[Slot],
    node: str,
    now: datetime,
    *,
    offered: bool,
) -> list[Lease]:
    if not leads:
        return []
    values = {"status": LeadStatus.DIALING, "attempts": LeadRow.attempts + 1, "updated_at": now}
    taken = _change(session, [lead.id for lead in leads], values)
    if taken != len(leads):  # cannot be while the rows are locked; better no lease than one lead leased twice
        raise RuntimeError(f"{len(leads)} leads were to be leased, and {taken} could be")
    leases = [
        Lease(
            uuid=slot.uuid,
            lead_id=lead.id,
            number=lead.number,
            gateway=slot.gateway,
            switch=slot.switch,
            attempt_no=lead.attempts + 1,
            fields=json.loads(lead.fields),
            last_disposition=lead.last_disposition,
            zones=tuple(json.loads(lead.zones)),
        )
        for lead, slot in zip(leads, slots, strict=False)
    ]
    session.connection().execute(
        insert(AttemptRow),
        [
            {
                "uuid": each.uuid,
                "lead_id": each.lead_id,
                "campaign_id": campaign_row_id,
                "number": each.number,
                "gateway": each.gateway,
                "switch": each.switch,
                "node": node,
                "attempt_no": each.attempt_no,
                "offered": offered,
                "opened_at": now,
                "closed_at": None,
            }
            for each in leases
        ],
    )
    return leases


def send(session: Session, uuid: str) -> bool:
    """Note that the offered attempt `uuid` is about to be sent; False if it has been closed or returned."""
    changed = session.connection().execute(
        update(AttemptRow)
        .where(col(AttemptRow.uuid) == uuid, col(AttemptRow.closed_at).is_(None))
        .values(offered=False)
    )
    return changed.rowcount == 1


def return_unsent(session: Session, uuids: Sequence[str], now: datetime) -> int:
    """Undo the leases of attempts that were never sent, as if they had not been taken; how many that were.

    An attempt that has been closed is on record for good, and is passed over.
    """
    gone = session.connection().execute(
        delete(AttemptRow)
        .where(col(AttemptRow.uuid).in_(uuids), col(AttemptRow.closed_at).is_(None))
        .returning(col(AttemptRow.lead_id))
    )
    lead_ids = [row[0] for row in gone]
    if lead_ids:
        session.connection().execute(
            update(LeadRow)
            .where(col(LeadRow.id).in_(lead_ids), col(LeadRow.status) == LeadStatus.DIALING)
            .values(
                status=case((col(LeadRow.attempts) > 1, LeadStatus.WAITING), else_=LeadStatus.NEW),
                attempts=LeadRow.attempts - 1,
                updated_at=now,
            )
        )
    return len(lead_ids)


def next_due_at(session: Session, campaign_row_id: int) -> datetime | None:
    """When the next lead is or was due, and None when none waits: to say why nothing is dialed."""
    moments = [
        session.connection().scalar(
            select(func.min(col(LeadRow.due_at))).where(
                col(LeadRow.campaign_id) == campaign_row_id, col(LeadRow.status) == status
            )
        )
        for status in _CALLABLE
    ]
    return min((moment for moment in moments if moment is not None), default=None)
