"""What becomes of leads whose number comes onto a do-not-call list, or off one.

A lead with several numbers goes on with the next that may be called; only without one does it rest as suppressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, bindparam, case, or_, select, update
from sqlmodel import Session, SQLModel, col

from campaigns import queues, suppression_store
from campaigns.campaign import Campaign
from campaigns.lead import LeadStatus, Queue, number_columns, numbers_from_json
from campaigns.many import many, one_of
from campaigns.recycle import History, round_rest
from campaigns.rules import refusal, suppression
from campaigns.setting_types import NEVER
from campaigns.suppression_store import Gone, NewEntry, Scope
from campaigns.tables import CampaignRow

_lead = SQLModel.metadata.tables["lead"]
_SUPPRESSED = _lead.c.status == LeadStatus.SUPPRESSED
# Put off until an entry ends that has an end.
_RESTS = _lead.c.put_off_by.in_((suppression.RULE, refusal.RULE)) & _lead.c.status.in_(
    (LeadStatus.NEW, LeadStatus.WAITING)
)
_LONGEST: Final = 16  # characters of a number in E.164


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
    """Leads of `campaign` whose number must never be called go on with another of theirs, or are suppressed.

    To be called only where the entries stay: see `suppression_store.may_suppress`.
    """
    if not ids:
        return
    connection = session.connection()
    rows = connection.execute(_STANDING, {"_ids": many(ids)}).all()
    several = {row.id: numbers_from_json(row.numbers) for row in rows}
    wanted = [one.number for theirs in several.values() for one in theirs] + [row.number for row in rows]
    forbidden = suppressed_numbers(session, campaign, wanted, now)
    suppressed, moved = [], []
    for row in rows:
        if row.number not in forbidden:
            continue
        gone = forbidden | set(History.from_json(row.history).dead_numbers)
        places = [place for place, one in enumerate(several[row.id]) if one.number not in gone]
        later = next((place for place in places if place > row.number_no), None)
        rest = 0.0 if later is not None or row.callback_at else round_rest(row.last_disposition, campaign)
        if not places or rest == NEVER:
            suppressed.append(row.id)
            continue
        place = places[0] if later is None else later
        due_at = max(row.due_at, (row.last_called_at or now) + timedelta(seconds=rest))
        queue = row.queue if due_at <= now else None
        values = {
            **number_columns(place, several[row.id][place]),
            "queue": queue,
            "due_at": due_at,
            "updated_at": now,
        }
        moved.append({"_id": row.id, **{f"_{name}": value for name, value in values.items()}})
    if moved:
        connection.execute(_MOVE, moved)
    queues.change(connection, suppressed, {"queue": None, "status": LeadStatus.SUPPRESSED, "updated_at": now})


_STANDING: Final = select(
    *(_lead.c[name] for name in ("id", "number", "number_no", "numbers", "history", "queue", "due_at")),
    *(_lead.c[name] for name in ("callback_at", "last_called_at", "last_disposition")),
).where(one_of(_lead.c.id, "_ids"))
_MOVED: Final = ("number", "number_no", "zones", "kind", "region", "queue", "due_at", "updated_at")
_MOVE: Final = (
    update(_lead)
    .where(
        _lead.c.id == bindparam("_id"),
        or_(_lead.c.status == LeadStatus.NEW, _lead.c.status == LeadStatus.WAITING),  # no IN: it is one of many
    )
    .values({name: bindparam(f"_{name}", type_=_lead.c[name].type) for name in _MOVED})
)


def allow(
    session: Session, entries: Sequence[NewEntry], *, scope: Scope, scope_name: str, now: datetime
) -> Sequence[Gone]:
    """Take `entries` off the do-not-call list of that scope; those that were on it. Leads may be called again."""
    suppression_store.lock_removals(session)
    gone = suppression_store.remove_entries(session, entries, scope=scope, scope_name=scope_name)
    allowed_again(session, gone, now)
    return gone


def allowed_again(session: Session, gone: Sequence[Gone], now: datetime) -> None:
    """Leads that rest for entries that are `gone` are looked at anew; those promised a call, when it is due."""
    for pattern, is_prefix, lasting in gone:
        number, last = _lead.c.number, pattern.ljust(_LONGEST, "9")
        mine = number.between(pattern, last) if is_prefix else number == pattern
        if lasting:
            any_number = _lead.c.numbers.like(f'%"{pattern}%' if is_prefix else f'%"{pattern}"%')
            _look_again(session, mine | (_lead.c.id.in_(_SUPPRESSED_OF_SEVERAL.where(any_number))), _SUPPRESSED, now)
        _look_again(session, mine, _RESTS, now)


# The index of statuses begins with the campaign.
_SUPPRESSED_OF_SEVERAL: Final = select(_lead.c.id).where(
    _lead.c.campaign_id.in_(select(col(CampaignRow.id))), _SUPPRESSED, _lead.c.first_number.is_not(None)
)


def look_again(session: Session, ids: Sequence[int], now: datetime) -> None:
    """Those of the leads `ids` that are suppressed are asked about again: they have got other numbers, or rights."""
    if ids:
        _look_again(session, one_of(_lead.c.id, "_ids"), _SUPPRESSED, now, _ids=many(ids))


def _look_again(
    session: Session, which: ColumnElement[bool], standing: ColumnElement[bool], now: datetime, **values: object
) -> None:
    called, promised = _lead.c.attempts > 0, _lead.c.callback_at
    in_future = promised > now
    statement = (
        update(_lead)
        .where(which, standing)
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
