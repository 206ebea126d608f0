"""The queues of a campaign, as the database has them: who stands in them, who comes into them, and when.

A queue is a range of one index, list by list and priority by priority, so that each look takes as long with five
million leads as with fifty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import attrs
from sqlalchemy import Connection, bindparam, case, select, text, update
from sqlmodel import Session, SQLModel

from campaigns.disposition import Disposition
from campaigns.lead import LeadStatus, Queue
from campaigns.many import many, one_of
from campaigns.tables import RESTING

WOKEN_AT_MOST: Final = 1_000  # leads that have rested long enough, put into their queues by one lease
_CALLABLE: Final = (LeadStatus.NEW, LeadStatus.WAITING)
_BEYOND_ALL_IDS: Final = 2**62
_lead, _list = (SQLModel.metadata.tables[name] for name in ("lead", "lead_list"))


class QueuedLead(NamedTuple):
    """A lead in a queue, with what decides on its lease. A tuple: thousands are looked at, and most let go again."""

    lead_id: int
    number: str
    zones: str
    region: str | None
    account: str | None
    attempts: int
    history: str
    callback_at: datetime | None
    callback_agent: str | None
    consent_at: datetime | None
    consent_evidence: str | None


class LeadDetails(NamedTuple):
    """The rest of what a lease needs: of those only that are leased."""

    kind: str
    numbers: str
    number_no: int
    list_id: int
    fields: str
    last_disposition: Disposition | None


@attrs.frozen
class Group:
    """Leads of one queue, list and priority: a range of the index; and how the list is to be served."""

    queue: int
    list_id: int
    priority: int
    list_priority: int
    weight: int
    newest_first: bool
    credit: float


def groups_of(connection: Connection, campaign_row_id: int) -> Sequence[Group]:
    """Every range of the campaign's queues that has anybody in it, in order; without lists that are not active."""
    found = [Group(*row) for row in connection.execute(_GROUPS, {"campaign_id": campaign_row_id}).all()]
    return sorted(found, key=lambda group: (group.queue, group.list_id, group.priority))


def page(
    connection: Connection, campaign_row_id: int, group: Group, after: int | None, limit: int
) -> Sequence[QueuedLead]:
    """The next `limit` leads of `group`, those after the lead `after`; no other daemon has them meanwhile."""
    values = {
        "_campaign_id": campaign_row_id,
        "_queue": group.queue,
        "_list_id": group.list_id,
        "_priority": group.priority,
        "_after": after if after is not None else (_BEYOND_ALL_IDS if group.newest_first else 0),
        "_limit": limit,
    }
    found = connection.execute(_NEWEST if group.newest_first else _OLDEST, values).all()
    return [QueuedLead._make(row) for row in found]


def keep_credits(connection: Connection, credits_by_list: Mapping[int, float]) -> None:
    """What each list is owed, for the next lease."""
    if credits_by_list:
        connection.execute(
            _KEEP_CREDIT, [{"_id": list_id, "_credit": credit} for list_id, credit in credits_by_list.items()]
        )


def wake(connection: Connection, campaign_row_id: int, now: datetime, limit: int = WOKEN_AT_MOST) -> int:
    """Put leads that have rested until `now` into their queues, those that rested longest first; how many."""
    values = {"_campaign_id": campaign_row_id, "_now": now, "_limit": limit}
    ids = connection.scalars(_RESTED, values).all()
    return change(connection, ids, {"queue": _QUEUE_OF, "put_off_by": None, "updated_at": now})


def change(connection: Connection, ids: Sequence[int], values: Mapping[str, object]) -> int:
    """Change leads that are NEW or WAITING; how many that were."""
    if not ids:
        return 0
    these = one_of(_lead.c.id, "_ids"), _lead.c.status.in_(_CALLABLE)
    return connection.execute(update(_lead).where(*these).values(**values), {"_ids": many(ids)}).rowcount


def take(connection: Connection, ids: Sequence[int], now: datetime) -> Mapping[int, LeadDetails]:
    """Leads that are NEW or WAITING are being dialed from now on; what else is to be known of those that were."""
    rows = connection.execute(_TAKE, {"_ids": many(ids), "_now": now}).all()
    return {row[0]: LeadDetails._make(row[1:]) for row in rows}


@attrs.frozen
class Outlook:
    """What a campaign still has to call: whether anybody stands in a queue, and when the next one has rested."""

    queued: bool
    next_due_at: datetime | None
    waits_for: str | None = None  # the rule that put that one off; None: it rests after an attempt


def outlook(session: Session, campaign_row_id: int) -> Outlook:
    """What the campaign has to call, now and next: to say why nothing is dialed."""
    connection = session.connection()
    mine = _lead.c.campaign_id == campaign_row_id
    active = select(_list.c.id).where(_list.c.campaign_id == campaign_row_id, _list.c.active)
    queued = connection.scalar(
        select(_lead.c.id).where(mine, _lead.c.queue.is_not(None), _lead.c.list_id.in_(active)).limit(1)
    )
    resting = connection.execute(
        select(_lead.c.due_at, _lead.c.put_off_by)
        .where(mine, text(RESTING))
        .order_by(_lead.c.due_at, _lead.c.id)
        .limit(1)
    ).first()
    return Outlook(queued is not None, *(resting or (None, None)))


# From range to range of the index, one step each, however many leads are in them. Three questions instead of one
# comparison of three columns, of which SQLite would look up the first and walk through the rest.
_NEXT: Final = "SELECT following.id FROM lead AS following WHERE following.campaign_id = :campaign_id"
_GROUPS: Final = text(
    f"""
    WITH RECURSIVE step(id) AS (
        SELECT (
            SELECT id FROM lead WHERE campaign_id = :campaign_id AND queue IS NOT NULL
            ORDER BY queue, list_id, priority LIMIT 1
        )
        UNION ALL
        SELECT coalesce(
            (
                {_NEXT} AND following.queue = here.queue AND following.list_id = here.list_id
                AND following.priority > here.priority ORDER BY following.priority LIMIT 1
            ),
            (
                {_NEXT} AND following.queue = here.queue AND following.list_id > here.list_id
                ORDER BY following.list_id, following.priority LIMIT 1
            ),
            (
                {_NEXT} AND following.queue > here.queue
                ORDER BY following.queue, following.list_id, following.priority LIMIT 1
            )
        )
        FROM step JOIN lead AS here ON here.id = step.id
    )
    SELECT lead.queue, lead.list_id, lead.priority,
        lead_list.priority, lead_list.weight, lead_list.newest_first, lead_list.credit
    FROM step JOIN lead ON lead.id = step.id JOIN lead_list ON lead_list.id = lead.list_id
    WHERE lead_list.active
    """  # noqa: S608 - made of what stands above
)
_KEEP_CREDIT: Final = update(_list).where(_list.c.id == bindparam("_id")).values(credit=bindparam("_credit"))
_TAKE: Final = (
    update(_lead)
    .where(one_of(_lead.c.id, "_ids"), _lead.c.status.in_(_CALLABLE))
    .values(
        status=LeadStatus.DIALING,
        queue=None,
        put_off_by=None,
        attempts=_lead.c.attempts + 1,
        updated_at=bindparam("_now"),
    )
    .returning(_lead.c.id, *(_lead.c[name] for name in LeadDetails._fields))
)
_PAGE: Final = (
    select(_lead.c.id.label("lead_id"), *(_lead.c[name] for name in QueuedLead._fields[1:]))
    .where(
        _lead.c.campaign_id == bindparam("_campaign_id"),
        _lead.c.queue == bindparam("_queue"),
        _lead.c.list_id == bindparam("_list_id"),
        _lead.c.priority == bindparam("_priority"),
    )
    .limit(bindparam("_limit"))
    .with_for_update(skip_locked=True)  # PostgreSQL; SQLite's writer is alone from BEGIN IMMEDIATE on
)
_OLDEST: Final = _PAGE.where(_lead.c.id > bindparam("_after")).order_by(_lead.c.id)
_NEWEST: Final = _PAGE.where(_lead.c.id < bindparam("_after")).order_by(_lead.c.id.desc())
_RESTED: Final = (
    select(_lead.c.id)
    .where(
        _lead.c.campaign_id == bindparam("_campaign_id"),
        text(RESTING),
        _lead.c.due_at <= bindparam("_now"),
    )
    .order_by(_lead.c.due_at, _lead.c.id)
    .limit(bindparam("_limit"))
    .with_for_update(skip_locked=True)
)
# Where a lead waits for its turn, by what is known of it.
_QUEUE_OF: Final = case(
    (_lead.c.callback_at.is_not(None), Queue.CALLBACK.value),
    (_lead.c.status == LeadStatus.WAITING, Queue.RETRY.value),
    else_=Queue.NEW.value,
)
