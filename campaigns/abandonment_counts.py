"""Live answers and abandoned calls, counted by campaign and hour in the transaction that closes the attempt.

So they are what a count over all CDRs would find, at every moment, whatever crashed; and a sum over thirty days reads
some hundred rows for each campaign instead of a million calls. A call is counted in the hour it was answered in, and
when it is over.

Plain functions of a Session, as in `store`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import attrs
import sqlalchemy
from sqlalchemy import Connection, bindparam, func, true
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel, col, select

from campaigns.abandonment import DAY, MONTH, AbandonmentCounts, AbandonmentWindow, hour_of
from campaigns.tables import AbandonmentHourRow, CampaignRow, CdrRow

_COUNTED = tuple(attrs.fields_dict(AbandonmentCounts))  # columns of the same names
_hours = SQLModel.metadata.tables["abandonment_hour"]


def _increment(insert: Any) -> Any:
    statement = insert(_hours).values(
        campaign_id=bindparam("campaign_id"),
        hour=bindparam("hour"),
        live_answers=bindparam("live_answers"),
        abandoned=bindparam("abandoned"),
        machines=bindparam("machines"),
        false_positive_permille=bindparam("false_positive_permille"),
    )
    return statement.on_conflict_do_update(
        index_elements=[_hours.c.campaign_id, _hours.c.hour],
        set_={name: _hours.c[name] + statement.excluded[name] for name in _COUNTED},
    )


# Both say it alike, but SQLAlchemy has no common word for it.
_INCREMENT = {"sqlite": _increment(sqlite.insert), "postgresql": _increment(postgresql.insert)}


def count_call(connection: Connection, cdr: CdrRow) -> None:
    """Count the call of `cdr`, which has just been inserted: at most one statement, none for one that does not count.

    Whoever closes an attempt calls it, once, in the same transaction.
    """
    counts = counts_of(cdr)
    if cdr.answered_at is not None and counts != AbandonmentCounts():
        where = {"campaign_id": cdr.campaign_id, "hour": hour_of(cdr.answered_at)}
        connection.execute(_INCREMENT[connection.dialect.name], where | attrs.asdict(counts))


def counts_of(cdr: CdrRow) -> AbandonmentCounts:
    """What one call adds."""
    live_answers, abandoned = int(cdr.abandoned is not None), int(bool(cdr.abandoned))
    machines, permille = int(cdr.false_positive_permille is not None), cdr.false_positive_permille or 0
    return AbandonmentCounts(live_answers, abandoned, machines, permille)


def counts(session: Session, campaign_row_ids: Collection[int], since: datetime) -> AbandonmentCounts:
    """The counts of all these campaigns together since `since`, the hour it falls into counted whole.

    There is no end to it: the switch's clock may be ahead of ours.
    """
    return sum(_by_campaign(session, campaign_row_ids, since).values(), AbandonmentCounts())


def window(session: Session, campaign_row_id: int, now: datetime) -> AbandonmentWindow:
    """The counts of the 24 hours and the 30 days before `now`, for the campaign and for its budget group."""
    members = _group_of(session, campaign_row_id)
    day, month = (_by_campaign(session, members, now - span) for span in (DAY, MONTH))
    return AbandonmentWindow(
        day=day[campaign_row_id],
        month=month[campaign_row_id],
        group_day=sum(day.values(), AbandonmentCounts()),
        group_month=sum(month.values(), AbandonmentCounts()),
    )


def _by_campaign(
    session: Session, campaign_row_ids: Collection[int], since: datetime
) -> Mapping[int, AbandonmentCounts]:
    found = session.connection().execute(
        sqlalchemy.select(_hours.c.campaign_id, *(func.sum(_hours.c[name]) for name in _COUNTED))
        .where(_hours.c.campaign_id.in_(campaign_row_ids), _hours.c.hour >= hour_of(since))
        .group_by(_hours.c.campaign_id)
    )
    sums: dict[int, AbandonmentCounts] = defaultdict(AbandonmentCounts)
    for campaign_row_id, *summed in found:
        sums[campaign_row_id] = AbandonmentCounts(*summed)
    return sums


def _group_of(session: Session, campaign_row_id: int) -> list[int]:
    """The campaigns that share a budget with this one, itself among them."""
    found = session.exec(select(CampaignRow.id, CampaignRow.definition))
    groups = {row_id: _budget_group(definition) for row_id, definition in found if row_id is not None}
    own = groups.get(campaign_row_id)
    if own is None:
        return [campaign_row_id]
    return [row_id for row_id, group in groups.items() if group == own]


@lru_cache(maxsize=1_000)  # asked again and again, of definitions that hardly ever change
def _budget_group(definition: str) -> str | None:
    group: str | None = json.loads(definition).get("budget_group")  # also of a definition of another version
    return group


def hours(session: Session, campaign_row_id: int, since: datetime) -> Mapping[datetime, AbandonmentCounts]:
    """The campaign's counts by the start of the hour, in order, from the hour of `since` on; without empty hours."""
    rows = session.exec(
        select(AbandonmentHourRow)
        .where(AbandonmentHourRow.campaign_id == campaign_row_id, AbandonmentHourRow.hour >= hour_of(since))
        .order_by(col(AbandonmentHourRow.hour))
    )
    return {row.hour: AbandonmentCounts(*(getattr(row, name) for name in _COUNTED)) for row in rows}


def abandoned_calls(session: Session, campaign_row_id: int, since: datetime) -> Sequence[CdrRow]:
    """The campaign's abandoned calls, in the order they were answered, from the hour of `since` on."""
    return session.exec(
        select(CdrRow)
        .where(
            CdrRow.campaign_id == campaign_row_id,
            col(CdrRow.abandoned) == true(),  # as the index on them says it
            col(CdrRow.answered_at) >= hour_of(since),
        )
        .order_by(col(CdrRow.answered_at), CdrRow.attempt_uuid)
    ).all()
