"""Leads with everything that is known of them, page by page, for programs and spreadsheets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import attrs
from sqlmodel import Session, col, select

from campaigns.lead import LeadStatus, numbers_from_json
from campaigns.tables import LeadListRow, LeadRow

PAGE: Final = 2_000
COLUMNS: Final = (
    *("id", "list", "external_key", "account", "number", "numbers", "kind", "region", "zones", "status", "priority"),
    *("attempts", "due_at", "put_off_by", "last_disposition", "agent_disposition", "last_called_at", "callback_at"),
    *("callback_agent", "consent_at", "consent_evidence", "created_at", "updated_at"),
)


@attrs.frozen
class Wanted:
    """Which leads of a campaign."""

    campaign_row_id: int
    statuses: tuple[LeadStatus, ...] = ()  # none: all
    list_ids: tuple[int, ...] = ()


def page(session: Session, wanted: Wanted, after_id: int) -> Sequence[Mapping[str, Any]]:
    """The next leads after the one with `after_id`: COLUMNS and, under "fields", the list's own; none at the end."""
    query = select(LeadRow).where(LeadRow.campaign_id == wanted.campaign_row_id, col(LeadRow.id) > after_id)
    if wanted.statuses:
        query = query.where(col(LeadRow.status).in_(wanted.statuses))
    if wanted.list_ids:
        query = query.where(col(LeadRow.list_id).in_(wanted.list_ids))
    lists: dict[int | None, str] = {
        row.id: row.name
        for row in session.exec(select(LeadListRow).where(LeadListRow.campaign_id == wanted.campaign_row_id))
    }
    return [
        {**_described(lead), "list": lists[lead.list_id]}
        for lead in session.exec(query.order_by(col(LeadRow.id)).limit(PAGE))
    ]


def _described(lead: LeadRow) -> dict[str, Any]:
    values = {name: _plain(getattr(lead, name)) for name in COLUMNS if name not in ("list", "numbers", "zones")}
    return values | {
        "numbers": [one.number for one in numbers_from_json(lead.numbers)] or [lead.number],
        "zones": json.loads(lead.zones),
        "fields": json.loads(lead.fields),
    }


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def field_names(session: Session, wanted: Wanted) -> list[str]:
    """The names of all lists' own columns, in the order they are met: the header of a table has them all."""
    names: dict[str, None] = {}
    query = select(LeadRow.id, LeadRow.fields).where(LeadRow.campaign_id == wanted.campaign_row_id)
    if wanted.statuses:
        query = query.where(col(LeadRow.status).in_(wanted.statuses))
    if wanted.list_ids:
        query = query.where(col(LeadRow.list_id).in_(wanted.list_ids))
    for _, fields in session.exec(query.execution_options(yield_per=PAGE)):
        names |= dict.fromkeys(json.loads(fields))
    return list(names)
