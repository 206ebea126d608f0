"""Which leads are there already: those that a list brings again, found for thousands of rows at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import attrs
from sqlalchemy import ColumnElement, CompoundSelect, Select, bindparam, select
from sqlmodel import Session, SQLModel, col

from campaigns.disposition import Disposition
from campaigns.lead import LeadStatus
from campaigns.many import many, one_of
from campaigns.tables import CampaignRow

UniqueIn = Literal["list", "campaign", "everywhere"]
_lead = SQLModel.metadata.tables["lead"]


@attrs.frozen
class Known:
    """A lead that is there."""

    id: int
    campaign_id: int
    list_id: int


@attrs.frozen
class KnownByKey(Known):
    """The same, with what decides what a list may change of it."""

    status: LeadStatus
    number: str
    numbers: str
    zones: str
    kind: str
    region: str | None
    fields: str
    put_off_by: str | None
    last_disposition: Disposition | None

    @property
    def is_busy(self) -> bool:
        """Whether it is in a call: then its numbers stay as they are."""
        return self.status is LeadStatus.DIALING

    @property
    def is_dead(self) -> bool:
        """Whether it is called no more because nobody has its number."""
        return is_dead(self.status, self.last_disposition)


def is_dead(status: LeadStatus, last_disposition: Disposition | None) -> bool:
    """Whether a lead is called no more because nobody has its number: another one may be right."""
    return status is LeadStatus.DEAD and last_disposition is Disposition.INVALID_NUMBER


def known_numbers(
    session: Session, campaign_row_id: int, numbers: Sequence[str], unique_in: UniqueIn
) -> Mapping[str, Sequence[Known]]:
    """The leads that are known by one of `numbers`: by their first one, whichever of them is to be called next."""
    values = {"_numbers": many(numbers), "_campaign_id": campaign_row_id}
    found: dict[str, list[Known]] = {}
    query = _ANYWHERE if unique_in == "everywhere" else _IN_CAMPAIGN
    for number, *rest in session.connection().execute(query, values).all():
        found.setdefault(number, []).append(Known(*rest))
    return found


_THERE: Final = _lead.c.status != LeadStatus.WITHDRAWN  # who was withdrawn may come back


def _known_by(*where: ColumnElement[bool]) -> CompoundSelect[Any]:
    first = _lead.c.first_number
    whose = _lead.c.id, _lead.c.campaign_id, _lead.c.list_id
    there = _THERE, *where
    by_number = select(_lead.c.number, *whose).where(one_of(_lead.c.number, "_numbers"), first.is_(None), *there)
    by_first = select(first, *whose).where(one_of(first, "_numbers"), first.is_not(None), *there)
    return by_number.union_all(by_first)


_ANYWHERE: Final = _known_by()
# Added to, the column keeps SQLite from looking through the whole campaign for each chunk, by another index.
_IN_CAMPAIGN: Final = _known_by(_lead.c.campaign_id + 0 == bindparam("_campaign_id"))


def known_keys(
    session: Session, campaign_row_id: int, keys: Sequence[str], unique_in: UniqueIn, *, to_change: bool = False
) -> Mapping[str, Sequence[KnownByKey]]:
    """The leads whose external key is one of `keys`; those `to_change` nobody else changes in this transaction."""
    query = _KEYS_ANYWHERE if unique_in == "everywhere" else _KEYS_IN_CAMPAIGN
    if to_change:
        query = query.order_by(_lead.c.id).with_for_update(of=_lead)
    found: dict[str, list[KnownByKey]] = {}
    values = {"_keys": many(keys), "_campaign_id": campaign_row_id}
    for key, *rest in session.connection().execute(query, values).all():
        found.setdefault(key, []).append(KnownByKey(*rest))
    return found


_KEY_COLUMNS: Final = (
    *("external_key", "id", "campaign_id", "list_id", "status"),
    *("number", "numbers", "zones", "kind", "region", "fields", "put_off_by", "last_disposition"),
)


def _known_by_key(where: ColumnElement[bool]) -> Select[Any]:
    key = _lead.c.external_key
    return select(*(_lead.c[name] for name in _KEY_COLUMNS)).where(
        one_of(key, "_keys"), key.is_not(None), _THERE, where
    )


# The index of keys begins with the campaign.
_KEYS_ANYWHERE: Final = _known_by_key(_lead.c.campaign_id.in_(select(col(CampaignRow.id))))
_KEYS_IN_CAMPAIGN: Final = _known_by_key(_lead.c.campaign_id == bindparam("_campaign_id"))
