"""What can be asked of the tables, and what can be done to them: plain functions of a Session.

They are meant to be handed to `Database.write` and `Database.read`, alone or several in one function, and do not
commit. What they return can be used after the session has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import attrs
from sqlalchemy import bindparam, func, insert, tuple_, update
from sqlmodel import Session, SQLModel, col, select

from campaigns.abandonment_counts import count_call
from campaigns.campaign import Campaign, CampaignStatus, dump, load
from campaigns.disposition import UNCOUNTED, Disposition
from campaigns.lead import LeadStatus
from campaigns.recycle import NextStep
from campaigns.tables import AgentLoginRow, AttemptRow, CampaignRow, CdrRow, LeadRow, PacingStateRow
from dialer.errors import InputRefusedError

__all__ = [
    "AgentLoginRow",
    "AttemptRow",
    "CampaignRow",
    "CampaignSummary",
    "CdrRow",
    "LeadRow",
    "Saved",
    "add_campaign",
    "agent_logins",
    "campaign_rows",
    "cdrs",
    "close_attempt",
    "definition_of",
    "disposition_counts",
    "get_campaign",
    "lead_counts",
    "list_campaigns",
    "open_attempts_of",
    "remember_agent",
    "set_campaign_status",
    "stop_all_campaigns",
]


@attrs.frozen
class Saved:
    """What `add_campaign` did: made the campaign, changed its definition, or found it the same (neither)."""

    row: CampaignRow
    created: bool
    changed: bool


@attrs.frozen
class CampaignSummary:
    """A campaign and how many of its leads are where."""

    row: CampaignRow
    leads: Mapping[LeadStatus, int]


def add_campaign(session: Session, campaign: Campaign, now: datetime) -> Saved:
    """Keep `campaign` under its name: a new one is stopped; one that exists gets the new definition, and no more.

    Calling hours that have changed apply at once to leads that were never tried. Those that wait after an attempt
    keep the moment they wait for, since it may be the outcome's own.
    """
    definition = dump(campaign)
    row = session.exec(select(CampaignRow).where(CampaignRow.name == campaign.name).with_for_update()).one_or_none()
    if row is None:
        row = CampaignRow(
            name=campaign.name,
            status=CampaignStatus.STOPPED,
            definition=definition,
            created_at=now,
            updated_at=now,
        )
        session.add(row)
        session.flush()
        return Saved(row, created=True, changed=False)
    before = load(row.definition)
    if before == campaign:
        return Saved(row, created=False, changed=False)
    row.definition, row.updated_at = definition, now
    session.add(row)
    session.flush()
    if (before.windows, before.timezone) != (campaign.windows, campaign.timezone):
        # The hopper has put them off to the old hours; it will put them off again if need be.
        session.exec(
            update(LeadRow)
            .where(
                col(LeadRow.campaign_id) == row.id,
                col(LeadRow.status) == LeadStatus.NEW,
                col(LeadRow.due_at) > now,
            )
            .values(due_at=now, updated_at=now)
            .execution_options(synchronize_session=False)
        )
    return Saved(row, created=False, changed=True)


def get_campaign(session: Session, name: str) -> CampaignRow:
    """The campaign called `name`; InputRefusedError, which names those there are, when there is none."""
    row = session.exec(select(CampaignRow).where(CampaignRow.name == name)).one_or_none()
    if row is None:
        names = ", ".join(session.exec(select(CampaignRow.name).order_by(CampaignRow.name)))
        raise InputRefusedError(f"there is no campaign {name!r}; there are: {names or 'none yet'}")
    return row


def definition_of(row: CampaignRow) -> Campaign:
    """What the manager decided about the campaign in `row`."""
    return load(row.definition)


def campaign_rows(session: Session) -> list[CampaignRow]:
    """All campaigns by name, without a look at their leads."""
    return list(session.exec(select(CampaignRow).order_by(CampaignRow.name)))


def list_campaigns(session: Session) -> list[CampaignSummary]:
    """All campaigns by name, with the number of their leads in each status."""
    counts: dict[int, dict[LeadStatus, int]] = {}
    for campaign_id, status, count in session.exec(
        select(LeadRow.campaign_id, LeadRow.status, func.count()).group_by(
            col(LeadRow.campaign_id), col(LeadRow.status)
        )
    ):
        counts.setdefault(campaign_id, {})[LeadStatus(status)] = count
    rows = session.exec(select(CampaignRow).order_by(CampaignRow.name))
    return [CampaignSummary(row, _complete(counts.get(row.id or 0, {}))) for row in rows]


def set_campaign_status(session: Session, name: str, status: CampaignStatus, now: datetime) -> CampaignRow:
    """Record what the operator wants of the campaign called `name`."""
    row = get_campaign(session, name)
    if row.status is not status:
        row.status, row.updated_at = status, now
        session.add(row)
        session.flush()
    return row


def stop_all_campaigns(session: Session, now: datetime) -> Sequence[str]:
    """Stop every campaign that runs or is paused; their names."""
    rows = session.exec(select(CampaignRow).where(CampaignRow.status != CampaignStatus.STOPPED)).all()
    for row in rows:
        row.status, row.updated_at = CampaignStatus.STOPPED, now
        session.add(row)
    session.flush()
    return sorted(row.name for row in rows)


def remember_agent(session: Session, login: AgentLoginRow) -> None:
    """Note what an agent asks for, in place of what it asked for before."""
    session.merge(login)
    session.flush()


def agent_logins(session: Session) -> Sequence[AgentLoginRow]:
    """What every agent last asked for."""
    return session.exec(select(AgentLoginRow).order_by(AgentLoginRow.extension)).all()


def pacing_states(session: Session, campaign_row_id: int) -> Sequence[PacingStateRow]:
    """What the campaign's pacer knew, by hour of the day; the newest first."""
    mine = select(PacingStateRow).where(PacingStateRow.campaign_id == campaign_row_id)
    return session.exec(mine.order_by(col(PacingStateRow.updated_at).desc())).all()


def keep_pacing_states(session: Session, states: Sequence[tuple[int, str]], now: datetime) -> None:
    """Keep what pacers know (campaign row id, state) for the hour of the day that `now` falls into."""
    hour = now.astimezone(UTC).hour
    for campaign_row_id, state in states:
        session.merge(PacingStateRow(campaign_id=campaign_row_id, hour=hour, state=state, updated_at=now))


def lead_counts(session: Session, campaign_row_id: int) -> Mapping[LeadStatus, int]:
    """How many leads of the campaign are in each status."""
    found = session.exec(
        select(LeadRow.status, func.count())
        .where(LeadRow.campaign_id == campaign_row_id)
        .group_by(col(LeadRow.status))
    )
    return _complete({LeadStatus(status): count for status, count in found})


def _complete(counts: Mapping[LeadStatus, int]) -> Mapping[LeadStatus, int]:
    return {status: counts.get(status, 0) for status in LeadStatus}


def open_attempts_of(session: Session, node: str) -> Sequence[AttemptRow]:
    """The attempts that `node` has begun and not closed, the oldest first."""
    return session.exec(
        select(AttemptRow)
        .where(AttemptRow.node == node, col(AttemptRow.closed_at).is_(None))
        .order_by(col(AttemptRow.opened_at), AttemptRow.uuid)
    ).all()


# The statements of the one thing that is done for each call, made once: making them takes longer than running them.
_attempt, _lead, _cdr = (SQLModel.metadata.tables[name] for name in ("attempt", "lead", "cdr"))
_CLOSE_ATTEMPT = (
    update(_attempt)
    .where(_attempt.c.uuid == bindparam("_uuid"), _attempt.c.closed_at.is_(None))
    .values(closed_at=bindparam("_now"))
)
_INSERT_CDR = insert(_cdr)
_STEP_LEAD = (
    update(_lead)
    .where(_lead.c.id == bindparam("_id"))
    .values(
        status=bindparam("_status"),
        attempts=_lead.c.attempts - bindparam("_uncounted"),
        due_at=bindparam("_due_at"),
        last_disposition=bindparam("_disposition"),
        updated_at=bindparam("_now"),
    )
)
_CDR_COLUMNS = tuple(_cdr.c.keys())


def close_attempt(session: Session, cdr: CdrRow, step: NextStep, now: datetime) -> bool:
    """End an attempt: its CDR, the count of abandoned calls, the attempt's end and the lead's next step; all or none.

    False, and nothing changed, when the attempt has been closed before: so it may be tried again by whoever does not
    know whether it was done. InputRefusedError when there never was such an attempt, or its leasing was taken back.
    """
    connection = session.connection()
    if connection.execute(_CLOSE_ATTEMPT, {"_uuid": cdr.attempt_uuid, "_now": now}).rowcount == 0:
        if session.get(AttemptRow, cdr.attempt_uuid) is None:
            raise InputRefusedError(f"the attempt {cdr.attempt_uuid} is not on record, so it cannot be closed")
        return False
    connection.execute(_INSERT_CDR, {name: getattr(cdr, name) for name in _CDR_COLUMNS})
    count_call(connection, cdr)
    connection.execute(
        _STEP_LEAD,
        {
            "_id": cdr.lead_id,
            "_status": step.status,
            "_uncounted": int(cdr.disposition in UNCOUNTED),  # each placed call counts, and this was none
            "_due_at": step.due_at or now,
            "_disposition": cdr.disposition,
            "_now": now,
        },
    )
    return True


def cdrs(
    session: Session, campaign_row_id: int, *, after: CdrRow | None = None, limit: int = 1_000
) -> Sequence[CdrRow]:
    """The campaign's next `limit` CDRs after `after`, in the order they ended.

    To export all, ask again with the last one until none come. Calls that end meanwhile come last, and none is missed
    or seen twice, but for one written more than a moment after its call ended.
    """
    query = select(CdrRow).where(CdrRow.campaign_id == campaign_row_id)
    if after is not None:
        query = query.where(
            tuple_(col(CdrRow.ended_at), col(CdrRow.attempt_uuid)) > tuple_(after.ended_at, after.attempt_uuid)
        )
    return session.exec(query.order_by(col(CdrRow.ended_at), CdrRow.attempt_uuid).limit(limit)).all()


def disposition_counts(
    session: Session, campaign_row_id: int, since: datetime | None = None
) -> Mapping[Disposition, int]:
    """How many of the campaign's calls ended how, of those that ended at `since` or later."""
    query = select(CdrRow.disposition, func.count()).where(CdrRow.campaign_id == campaign_row_id)
    if since is not None:
        query = query.where(CdrRow.ended_at >= since)
    found = session.exec(query.group_by(col(CdrRow.disposition)))
    counts = {Disposition(disposition): count for disposition, count in found}
    return {disposition: counts.get(disposition, 0) for disposition in Disposition}
