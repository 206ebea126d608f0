"""What becomes of leads whose number comes onto a do-not-call list, or off one.

A lead with several numbers goes on with the first that may be called; only without one does it rest as suppressed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, bindparam, case, or_, select, update
from sqlmodel import Session, SQLModel, col

from campaigns import queues, suppression_store
from campaigns.campaign import Campaign
from campaigns.lead import LeadStatus, Queue, numbers_from_json
from campaigns.many import many, one_of
from campaigns.recycle import History
from campaigns.rules import refusal, suppression
from campaigns.suppression_store import Gone, Scope
from campaigns.tables import CampaignRow

_lead = SQLModel.metadata.tables["lead"]
_SUPPRESSED = _lead.c.status == LeadStatus.SUPPRESSED
# Put off until an entry ends that has an end.
_RESTS = _lead.c.put_off_by.in_((suppression.RULE, refusal.RULE)) & _lead.c.status.in_(
    (LeadStatus.NEW, LeadStatus.WAITING)
)
_LONGEST = 16  # characters of a number in E.164


def suppressed_numbers(session: Session, campaign: Campaign, numbers: Sequence[str], now: datetime) -> frozenset[str]:
    """Those of `numbers` that `campaign` must never call, as do-not-call lists have it.

    Of entries that end, the hopper knows until when.
    """
    found = suppression_store.entries_for(session, numbers)
    lasting = {number: [one for one in entries if one.expires_at is None] for number, entries in found.items()}
    return frozenset(
        number
        for number, entries in lasting.items()
        if suppression.forbidding(entries, number, campaign=campaign.name, seller=campaign.seller, now=now)
    )


def go_on(session: Session, campaign: Campaign, ids: Sequence[int], now: datetime) -> None:
    """Leads of `campaign` whose number must never be called go on with another of theirs, or are suppressed."""
    if not ids:
        return
    connection = session.connection()
    rows = connection.execute(_NUMBERS, {"_ids": many(ids)}).all()
    others = {
        lead_id: [
            (place, one)
            for place, one in enumerate(numbers_from_json(numbers))
            if one.number != number and one.number not in History.from_json(history).dead_numbers
        ]
        for lead_id, number, numbers, history in rows
    }
    wanted = [one.number for theirs in others.values() for _, one in theirs]
    forbidden = suppressed_numbers(session, campaign, wanted, now)
    suppressed = []
    for lead_id, theirs in others.items():
        place, other = next(((place, one) for place, one in theirs if one.number not in forbidden), (0, None))
        if other is None:
            suppressed.append(lead_id)
            continue
        values = {"number": other.number, "number_no": place, "kind": other.kind, "region": other.region}
        zones = json.dumps(other.zones, separators=(",", ":"))
        queues.change(connection, [lead_id], {**values, "zones": zones, "updated_at": now})
    queues.change(connection, suppressed, {"queue": None, "status": LeadStatus.SUPPRESSED, "updated_at": now})


_NUMBERS = select(_lead.c.id, _lead.c.number, _lead.c.numbers, _lead.c.history).where(one_of(_lead.c.id, "_ids"))


def allow(
    session: Session, patterns: Sequence[str], *, scope: Scope, scope_name: str, now: datetime
) -> Sequence[Gone]:
    """Take `patterns` off the do-not-call list of that scope; those that were on it. Leads may be called again."""
    gone = suppression_store.remove_entries(session, patterns, scope=scope, scope_name=scope_name)
    allowed_again(session, gone, now)
    return gone


def allowed_again(session: Session, gone: Sequence[Gone], now: datetime) -> None:
    """Leads that rest for entries that are `gone` are looked at anew; those promised a call, when it is due."""
    for pattern, is_prefix in gone:
        number, last = _lead.c.number, pattern.ljust(_LONGEST, "9")
        mine = number.between(pattern, last) if is_prefix else number == pattern
        _look_again(session, mine & or_(_SUPPRESSED, _RESTS), now)
    exact = {pattern for pattern, is_prefix in gone if not is_prefix}
    prefixes = tuple(pattern for pattern, is_prefix in gone if is_prefix)
    rows = session.connection().execute(_SUPPRESSED_OF_SEVERAL)
    again = [
        lead_id
        for lead_id, numbers in rows
        if any(one.number in exact or one.number.startswith(prefixes) for one in numbers_from_json(numbers))
    ]
    look_again(session, again, now)


# The index of statuses begins with the campaign.
_SUPPRESSED_OF_SEVERAL = select(_lead.c.id, _lead.c.numbers).where(
    _lead.c.campaign_id.in_(select(col(CampaignRow.id))), _SUPPRESSED, _lead.c.first_number.is_not(None)
)


def look_again(session: Session, ids: Sequence[int], now: datetime) -> None:
    """Those of the leads `ids` that are suppressed are asked about again: they have got other numbers, or rights."""
    if ids:
        _look_again(session, one_of(_lead.c.id, "_ids") & _SUPPRESSED, now, _ids=many(ids))


def _look_again(session: Session, which: ColumnElement[bool], now: datetime, **values: object) -> None:
    called, promised = _lead.c.attempts > 0, _lead.c.callback_at
    in_future = promised > now
    statement = (
        update(_lead)
        .where(which)
        .values(
            status=case((called, LeadStatus.WAITING.value), else_=LeadStatus.NEW.value),
            queue=case(
                (in_future, None),
                (promised.is_not(None), Queue.CALLBACK.value),
                (called, Queue.RETRY.value),
                else_=Queue.NEW.value,
            ),
            due_at=case((in_future, promised), else_=bindparam("_now", now, type_=_lead.c.due_at.type)),
            put_off_by=None,
            updated_at=now,
        )
    )
    session.connection().execute(statement, values)
