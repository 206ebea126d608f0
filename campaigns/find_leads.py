"""Leads as people name them: by any of their numbers, by their id, or by the key of their list's owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NoReturn

import attrs
from sqlalchemy import text
from sqlmodel import Session, col, select

from campaigns import store
from campaigns.numbers import parse_number
from campaigns.tables import CampaignRow, LeadRow
from dialer.errors import InputRefusedError

MOST_SHOWN: Final = 20
_SHORTEST_NUMBER: Final = 7  # digits; fewer are an id
_GREATEST_ID: Final = 2**63 - 1  # that the databases can be asked for
_FIRST_NUMBER: Final = "number = :value OR first_number = :value"
_ANY_NUMBER: Final = "first_number IS NOT NULL AND numbers LIKE :quoted"


@attrs.frozen
class Named:
    """What a person says of which lead: one of a number or short id, an id, and a key.

    Raises InputRefusedError for none or several of them.
    """

    what: str | None = None
    lead_id: int | None = None
    key: str | None = None

    def __attrs_post_init__(self) -> None:
        if sum(one is not None for one in (self.what, self.lead_id, self.key)) != 1:
            raise InputRefusedError(
                "say which lead: its number or its id, its id with --id, or its key with --key; one of them"
            )

    @property
    def told_id(self) -> int | None:
        """The id, where it is one."""
        what = self.what
        if what is not None and what.isascii() and what.isdigit() and len(what) < _SHORTEST_NUMBER:
            return int(what)
        return self.lead_id


def find_leads(
    session: Session,
    named: Named,
    campaign: str | None,
    *,
    country: str | None = None,
    or_key: bool = False,
    most: int | None = None,
) -> Sequence[int]:
    """The ids of the leads `named`, of `campaign` or of all; at most `most`.

    A number is any of the lead's, as dialed in `country`, by default in the campaign's or any campaign's; `or_key`
    takes what is no number for a key. Raises InputRefusedError when there is none. It is meant to be read: among
    millions of leads with several numbers it may take seconds, in which the writer has other things to do.
    """
    row = store.get_campaign(session, campaign) if campaign is not None else None
    where = f"the campaign {campaign} has" if campaign is not None else "there is"
    campaign_id = row.id if row is not None else None
    if (lead_id := named.told_id) is not None:
        found = _found(session, "id = :value", lead_id, campaign_id, most) if lead_id <= _GREATEST_ID else ()
        if not found and or_key and named.what is not None:
            found = _of_key(session, named.what, campaign_id, most)
        return found or _none(where, f"id {lead_id}")
    if named.key is not None:
        return _of_key(session, named.key, campaign_id, most) or _none(where, f"key {named.key!r}")
    assert named.what is not None
    try:
        numbers = _numbers(named.what, [country] if country is not None else _countries(session, row))
    except InputRefusedError:
        if or_key and (found := _of_key(session, named.what, campaign_id, most)):
            return found
        if or_key or named.what.isdigit():
            _none(where, f"number{' or key' if or_key else ''} {named.what!r}; an id is told with --id")
        raise
    ways = [(query, number) for number in numbers for query in (_FIRST_NUMBER, _ANY_NUMBER)]
    everybody = {one for query, number in ways for one in _found(session, query, number, campaign_id, most)}
    found = sorted(everybody)[:most]
    if not found and or_key:
        found = _of_key(session, named.what, campaign_id, most)
    return found or _none(where, f"number {' or '.join(numbers)}")


def _none(where: str, what: str) -> NoReturn:
    raise InputRefusedError(f"{where} no lead of {what}")


def _countries(session: Session, row: CampaignRow | None) -> list[str]:
    rows = [row] if row is not None else session.exec(select(CampaignRow).order_by(col(CampaignRow.id))).all()
    return list(dict.fromkeys(store.definition_of(one).country for one in rows)) or ["US"]


def _numbers(what: str, countries: Sequence[str]) -> list[str]:
    """`what` as a number, in each of the countries where it is one. Raises InputRefusedError."""
    numbers: dict[str, None] = {}
    refused: InputRefusedError | None = None
    for country in countries:
        try:
            numbers[parse_number(what, country).e164] = None
        except InputRefusedError as error:
            refused = refused or error
    if not numbers and refused is not None:
        raise refused
    return list(numbers)


def _of_key(session: Session, key: str, campaign_id: int | None, most: int | None) -> Sequence[int]:
    whose = [campaign_id] if campaign_id is not None else session.exec(select(CampaignRow.id)).all()
    query = (  # the index of keys begins with the campaign
        select(LeadRow.id)
        .where(col(LeadRow.campaign_id).in_(whose), LeadRow.external_key == key)
        .order_by(col(LeadRow.id))
        .limit(most)
    )
    return [one for one in session.exec(query) if one is not None]


def _found(session: Session, query: str, value: object, campaign_id: int | None, most: int | None) -> Sequence[int]:
    # The plus keeps SQLite from looking through the whole campaign by another index.
    mine = "" if campaign_id is None else "AND +campaign_id = :campaign_id"
    limit = "" if most is None else f"LIMIT {most:d}"
    statement = f"SELECT id FROM lead WHERE ({query}) {mine} ORDER BY id {limit}"  # noqa: S608
    values = {"value": value, "campaign_id": campaign_id, "quoted": f'%"{value}"%'}
    wanted = {name: each for name, each in values.items() if f":{name}" in statement}
    return session.connection().scalars(text(statement), wanted).all()
