"""What becomes of leads whose number comes onto a do-not-call list, or off one.

A lead with several numbers goes on with the next that may be called; only without one does it rest as suppressed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, case, or_, select, update
from sqlmodel import Session, SQLModel, col

from campaigns import queues, suppression_store
from campaigns.campaign import Campaign
from campaigns.lead import LeadNumber, LeadStatus, Queue, number_columns, numbers_from_json
from campaigns.many import many, one_of
from campaigns.recycle import History, round_rest
from campaigns.rules import refusal, suppression
from campaigns.rules.candidate import SuppressionEntry
from campaigns.rules.verdict import Verdict
from campaigns.setting_types import NEVER
from campaigns.suppression_store import Gone, NewEntry, Scope
from campaigns.tables import CampaignRow, LeadRow

_lead = SQLModel.metadata.tables["lead"]
_SUPPRESSED = _lead.c.status == LeadStatus.SUPPRESSED
# Put off until an entry ends that has an end.
_RESTS = _lead.c.put_off_by.in_((suppression.RULE, refusal.RULE)) & _lead.c.status.in_(
    (LeadStatus.NEW, LeadStatus.WAITING)
)
_LONGEST: Final = 16  # characters of a number in E.164

Carried = Callable[[str, str | None], bool]  # of a number in E.164, and its region


def suppressed_numbers(session: Session, campaign: Campaign, numbers: Sequence[str], now: datetime) -> frozenset[str]:
    """Those of `numbers` that `campaign` must never call, as do-not-call lists have it.

    Of entries that end, the hopper knows until when.
    """
    return _forbidden(session, campaign, numbers, now)[1]


def _forbidden(
    session: Session, campaign: Campaign, numbers: Sequence[str], now: datetime
) -> tuple[frozenset[str], frozenset[str]]:
    """Those of `numbers` that `campaign` must not call now, and those of them that it must never call."""
    found = suppression_store.entries_for(session, numbers)

    def of(entries: Mapping[str, Sequence[SuppressionEntry]]) -> frozenset[str]:
        mine, seller = campaign.name, campaign.seller
        return frozenset(
            number
            for number, theirs in entries.items()
            if suppression.forbidding(theirs, number, campaign=mine, seller=seller, now=now)
        )

    lasting = {number: [one for one in entries if one.expires_at is None] for number, entries in found.items()}
    return of(found), of(lasting)


def go_on(
    session: Session, campaign: Campaign, stuck: Mapping[int, Verdict], now: datetime, carried: Carried
) -> Mapping[int, Verdict]:
    """Leads of `campaign` whose number must not be called (by id, with what forbids it) go on with another of theirs.

    `carried` says of a number whether any trunk may ever carry a call to it. Without another number they are
    suppressed, if it is for good and for their number itself; the others are given back: they wait. To be called only
    where the entries stay: see `suppression_store.may_suppress`.
    """
    if not stuck:
        return {}
    connection = session.connection()
    rows = connection.execute(_STANDING, {"_ids": many(list(stuck))}).all()
    several = {row.id: numbers_from_json(row.numbers) for row in rows}
    wanted = [one.number for theirs in several.values() for one in theirs] + [row.number for row in rows]
    forbidden, for_good = _forbidden(session, campaign, wanted, now)
    suppressed: list[int] = []
    moved: list[dict[str, object]] = []
    waits: dict[int, Verdict] = {}
    for row in rows:
        verdict = stuck[row.id]
        by_entry = verdict.rule == suppression.RULE
        if by_entry and row.number not in forbidden:
            continue  # the entry has gone meanwhile
        lasting = by_entry and row.number in for_good
        place = _other_place(row, several[row.id], (forbidden, for_good) if lasting else (forbidden,), carried)
        due_at = None if place is None else _due_at(row, place, campaign, now)
        if place is None or due_at is None:
            if lasting:
                suppressed.append(row.id)
            else:
                waits[row.id] = verdict
            continue
        values = {
            **number_columns(place, several[row.id][place]),
            "queue": row.queue if due_at <= now else None,
            "due_at": due_at,
            "updated_at": now,
        }
        moved.append({"_id": row.id, **{f"_{name}": value for name, value in values.items()}})
    if moved:
        connection.execute(_MOVE, moved)
    queues.change(connection, suppressed, {"queue": None, "status": LeadStatus.SUPPRESSED, "updated_at": now})
    return waits


def goes_on_with(
    session: Session, campaign: Campaign, lead: LeadRow, now: datetime, carried: Carried
) -> tuple[LeadNumber, datetime] | None:
    """The number that `lead` goes on with, and when; None if it has no other, or may be called by its own."""
    numbers = numbers_from_json(lead.numbers)
    forbidden, for_good = _forbidden(session, campaign, [lead.number, *(one.number for one in numbers)], now)
    if lead.number not in forbidden and carried(lead.number, lead.region):
        return None
    place = _other_place(lead, numbers, (forbidden, for_good) if lead.number in for_good else (forbidden,), carried)
    if place is None or (due_at := _due_at(lead, place, campaign, now)) is None:
        return None
    return numbers[place], due_at


def _due_at(row: Any, place: int, campaign: Campaign, now: datetime) -> datetime | None:
    """When a lead goes on with its number at `place`: at once with a later one, with an earlier one after a rest."""
    rest = 0.0 if place > row.number_no or row.callback_at else round_rest(row.last_disposition, campaign)
    if rest == NEVER:
        return None
    due_at: datetime = max(row.due_at, (row.last_called_at or now) + timedelta(seconds=rest))
    return due_at


def _other_place(
    row: Any, numbers: Sequence[LeadNumber], kinds: Sequence[frozenset[str]], carried: Carried
) -> int | None:
    """Where the next of `numbers` is that is not in the first of `kinds`, else in the second: a later one, if any.

    One that no trunk may carry is none: it would be gone away from again at once.
    """
    dead = {row.number, *History.from_json(row.history).dead_numbers}
    for forbidden in kinds:
        places = [
            place
            for place, one in enumerate(numbers)
            if one.number not in forbidden | dead and carried(one.number, one.region)
        ]
        if places:
            return next((place for place in places if place > row.number_no), places[0])
    return None


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
