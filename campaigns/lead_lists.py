"""The lists of a campaign: what is in them, and how they take turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs
from sqlalchemy import func
from sqlmodel import Session, col, select

from campaigns import audit
from campaigns.lead import LeadStatus
from campaigns.tables import LeadListRow, LeadRow
from dialer.errors import InputRefusedError

_MOST_PRIORITY = 1_000
_MOST_WEIGHT = 1_000


@attrs.frozen
class ListSummary:
    """A list and how many of its leads are where."""

    row: LeadListRow
    leads: Mapping[LeadStatus, int]


@attrs.frozen
class ListChange:
    """What is to be changed of a list; None leaves it as it is."""

    priority: int | None = None
    weight: int | None = None
    newest_first: bool | None = None
    active: bool | None = None


def lists_of(session: Session, campaign_row_id: int) -> Sequence[LeadListRow]:
    """The campaign's lists, in the order they were made."""
    return session.exec(
        select(LeadListRow).where(LeadListRow.campaign_id == campaign_row_id).order_by(col(LeadListRow.id))
    ).all()


def list_called(session: Session, campaign_row_id: int, name: str) -> LeadListRow:
    """The campaign's list of that name; InputRefusedError, which names those there are, when there is none."""
    rows = lists_of(session, campaign_row_id)
    found = next((row for row in rows if row.name == name), None)
    if found is None:
        names = ", ".join(repr(row.name) for row in rows)
        raise InputRefusedError(f"the campaign has no list {name!r}; it has {names or 'none yet'}")
    return found


def summaries(session: Session, campaign_row_id: int) -> Sequence[ListSummary]:
    """The campaign's lists with the number of their leads in each status."""
    counts: dict[int, dict[LeadStatus, int]] = {}
    for list_id, status, count in session.exec(
        select(LeadRow.list_id, LeadRow.status, func.count())
        .where(LeadRow.campaign_id == campaign_row_id)
        .group_by(col(LeadRow.list_id), col(LeadRow.status))
    ):
        counts.setdefault(list_id, {})[LeadStatus(status)] = count
    return [
        ListSummary(row, {status: counts.get(row.id or 0, {}).get(status, 0) for status in LeadStatus})
        for row in lists_of(session, campaign_row_id)
    ]


def change_list(
    session: Session, campaign: str, campaign_row_id: int, name: str, change: ListChange, *, who: str, now: datetime
) -> LeadListRow:
    """Change how a list takes its turns, from the next lease on. Raises InputRefusedError."""
    if change.priority is not None and abs(change.priority) > _MOST_PRIORITY:
        raise InputRefusedError(
            f"the priority {change.priority} should be between -{_MOST_PRIORITY} and {_MOST_PRIORITY}"
        )
    if change.weight is not None and not 1 <= change.weight <= _MOST_WEIGHT:
        raise InputRefusedError(f"the weight {change.weight} should be between 1 and {_MOST_WEIGHT}")
    row = list_called(session, campaign_row_id, name)
    values = {field: value for field, value in attrs.asdict(change).items() if value is not None}
    before = {field: getattr(row, field) for field in values}
    if values == before:
        return row
    for field, value in values.items():
        setattr(row, field, value)
    row.updated_at = now
    session.add(row)
    subject = f"{campaign}/{name}"
    audit.note(session, who=who, action="change", kind="list", subject=subject, before=before, after=values, now=now)
    return row
