"""Leads with everything that is known of them, page by page, for programs and spreadsheets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import attrs
from sqlmodel import Session, col, select

from campaigns.lead import LeadStatus, all_numbers, numbers_from_json
from campaigns.list_columns import plain, role_of
from campaigns.tables import LeadListRow, LeadRow

T = TypeVar("T")

PAGE: Final = 2_000
_FIELDS_TOO: Final = (None, "region", "postal_code", "list")  # what a column of these says is a field as well
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
    """The next leads after the one with `after_id`; none at the end.

    Each has COLUMNS, where its numbers are under "places", and the list's own fields under "fields".
    """
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
    places = [attrs.asdict(one) for one in all_numbers(lead)]
    values = {name: _plain(getattr(lead, name)) for name in COLUMNS if name not in ("list", "numbers", "zones")}
    return values | {
        "numbers": [one["number"] for one in places],
        "places": places,
        "zones": json.loads(lead.zones),
        "fields": json.loads(lead.fields),
    }


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


@attrs.frozen
class TableShape:
    """What a table of leads needs columns for: as many numbers, and all lists' own fields in the order they are met.

    A table may be imported again: its columns have the names that a list's columns are known by.
    """

    numbers: int
    fields: tuple[str, ...]

    def header(self) -> list[str]:
        """Names of columns, no two of them alike.

        "field" stands before a field that is called like a column, or like one that a list is known by: it was not
        taken for that, and is not to be when it comes again.
        """
        names = [*COLUMNS, *(f"number_{place}" for place in range(2, self.numbers + 1)), "next_number", "timezone"]
        taken = set(map(plain, names))
        for field in self.fields:
            name = field
            while plain(name) in taken or role_of(plain(name)) not in _FIELDS_TOO:
                name = f"field {name}"
            taken.add(plain(name))
            names.append(name)
        return names

    def row(self, lead: Mapping[str, Any]) -> list[Any]:
        """A lead, as `page` gives it: first the number that it is known by, whichever is called next."""
        numbers, places = lead["numbers"], lead["places"]
        values = {**lead, "number": numbers[0], "numbers": " ".join(numbers), "zones": " ".join(lead["zones"])}
        # They hold for all numbers of a lead, where a list says them.
        values["region"] = _same([one["region"] for one in places])
        zones = _same([tuple(one["zones"]) for one in places]) or ()
        timezone = zones[0] if len(zones) == 1 else None
        others = [*numbers[1:], *[""] * self.numbers][: self.numbers - 1]  # it may have got more since
        fields = [lead["fields"].get(name, "") for name in self.fields]
        return [*(values[name] for name in COLUMNS), *others, lead["number"], timezone, *fields]


def _same(values: Sequence[T]) -> T | None:
    return values[0] if len(set(values)) == 1 else None


def table_shape(session: Session, wanted: Wanted) -> TableShape:
    """What a table of the leads `wanted` needs."""
    names: dict[str, None] = {}
    numbers = 1
    query = select(LeadRow.fields, LeadRow.numbers).where(LeadRow.campaign_id == wanted.campaign_row_id)
    if wanted.statuses:
        query = query.where(col(LeadRow.status).in_(wanted.statuses))
    if wanted.list_ids:
        query = query.where(col(LeadRow.list_id).in_(wanted.list_ids))
    for fields, several in session.exec(query.execution_options(yield_per=PAGE)):
        names |= dict.fromkeys(json.loads(fields))
        numbers = max(numbers, len(numbers_from_json(several)))
    return TableShape(numbers, tuple(names))
