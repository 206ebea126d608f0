"""What can be asked of the tables, and what can be done to them: plain functions of a Session.

They are meant to be handed to `Database.write` and `Database.read`, alone or several in one function, and do not
commit. What they return can be used after the session has ended.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import attrs
from sqlalchemy import SmallInteger, String, bindparam, case, func, insert, text, tuple_, update
from sqlmodel import Session, SQLModel, col, select

from campaigns import forbidden_leads, outcomes, suppression_store
from campaigns.abandonment_counts import count_call
from campaigns.called_numbers import ABANDONED, lockout_of
from campaigns.campaign import Campaign, CampaignStatus, dump, load
from campaigns.disposition import UNCOUNTED, Disposition
from campaigns.lead import WITHDRAWN, LeadStatus, Queue, number_columns, numbers_from_json
from campaigns.recycle import NextStep, round_rest
from campaigns.rules.callable import ATTEMPTS, RuleBook
from campaigns.setting_types import NEVER
from campaigns.tables import (
    RESTING,
    AgentLoginRow,
    AttemptRow,
    CampaignRow,
    CdrRow,
    LeadListRow,
    LeadRow,
    PacingStateRow,
)
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
    before: Campaign | None = None  # what it was, if it was changed


@attrs.frozen
class CampaignSummary:
    """A campaign and how many of its leads are where."""

    row: CampaignRow
    leads: Mapping[LeadStatus, int]


def add_campaign(session: Session, campaign: Campaign, now: datetime) -> Saved:
    """Keep `campaign` under its name: a new one is stopped; one that exists gets the new definition, and no more.

    Leads that the old rules have put off are to be looked at anew then: see `reconsider`.
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
    return Saved(row, created=False, changed=True, before=before)


def lead_list(session: Session, campaign_row_id: int, name: str, now: datetime, *, source: str = "") -> LeadListRow:
    """The campaign's list called `name`, made on first use."""
    mine = select(LeadListRow).where(LeadListRow.campaign_id == campaign_row_id, LeadListRow.name == name)
    row = session.exec(mine).one_or_none()
    if row is None:
        row = LeadListRow(campaign_id=campaign_row_id, name=name, source=source, created_at=now, updated_at=now)
        session.add(row)
        session.flush()
    return row


RECONSIDERED: Final = 2_000  # leads in one transaction: some 20 ms of the writer's time


def reconsider(session: Session, campaign_row_id: int, now: datetime, *, suppressed: bool = False) -> int:
    """Let the hopper look again at leads that a rule has put off, in a chunk; how many. None are left at 0.

    Those that `max_attempts` has ended, now it is higher, are among them, and with `suppressed` those on do-not-call
    lists, which may have been somebody else's. Leads that rest after an attempt keep the moment they rest for: it is
    the outcome's own.
    """
    mine = LeadRow.campaign_id == campaign_row_id
    campaign = definition_of(session.get_one(CampaignRow, campaign_row_id))
    put_off = text(RESTING), LeadRow.due_at > now, col(LeadRow.put_off_by).is_not(None)
    ids = _some(session, mine, *put_off)
    if ids:
        look_again(session, ids, now)
        return len(ids)
    ended = LeadRow.status == LeadStatus.EXHAUSTED, LeadRow.put_off_by == ATTEMPTS
    ids = _some(session, mine, *ended, LeadRow.attempts < campaign.retries.max_attempts)
    if ids:
        _try_again(session, ids, campaign, now)
    elif suppressed:
        ids = _some(session, mine, LeadRow.status == LeadStatus.SUPPRESSED)
        forbidden_leads.look_again(session, ids, now)
    return len(ids)


def _try_again(session: Session, ids: Sequence[int], campaign: Campaign, now: datetime) -> None:
    """Leads that were tried as often as the campaign tried any rest as after their last outcome, and go on."""
    ended = select(_lead.c.id, _lead.c.last_disposition, _lead.c.last_called_at).where(_lead.c.id.in_(ids))
    rows: list[dict[str, object]] = []
    for lead_id, disposition, called_at in session.connection().execute(ended):
        rest = round_rest(disposition, campaign)
        due_at = now if called_at is None or rest == NEVER else max(now, called_at + timedelta(seconds=rest))
        rows.append({"_id": lead_id, "_due_at": due_at, "_now": now})
    session.connection().execute(_TRY_AGAIN, rows)


def put_off_by(session: Session, rules: Collection[str]) -> Sequence[int]:
    """The leads of all campaigns that one of `rules` has put off. Among millions it takes seconds: to be read."""
    waits = text(RESTING), col(LeadRow.put_off_by).in_(rules)
    return [one for one in session.scalars(select(LeadRow.id).where(*waits)) if one is not None]


def look_again(session: Session, ids: Sequence[int], now: datetime) -> None:
    """Let the hopper look at the leads `ids` again that a rule has put off; no more than `RECONSIDERED`."""
    waits = _lead.c.id.in_(ids), text(RESTING), _lead.c.put_off_by.is_not(None), _lead.c.due_at > now
    session.connection().execute(update(_lead).where(*waits).values(due_at=now, updated_at=now))


def _some(session: Session, *which: Any) -> Sequence[int]:
    found = session.scalars(select(LeadRow.id).where(*which).limit(RECONSIDERED)).all()
    return [one for one in found if one is not None]


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


def is_in_force(session: Session, book: RuleBook) -> bool:
    """Whether `book` has its campaign's definition as it is now; then nobody changes that before the commit.

    Who goes by an older one would put leads off that the new one has just released, or call whom it forbids.
    """
    mine = select(_campaign.c.definition).where(_campaign.c.id == book.campaign_id).with_for_update(read=True)
    definition = session.connection().scalar(mine)
    try:
        return definition is not None and _loaded(definition) == book.campaign
    except ValueError:  # another version wrote it
        return False


_loaded = lru_cache(maxsize=1_000)(load)


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


# The statements of the one thing that is done for each call, made once: making them takes longer than running them.
_attempt, _lead, _cdr, _campaign = (SQLModel.metadata.tables[name] for name in ("attempt", "lead", "cdr", "campaign"))
_CLOSE_ATTEMPT = (
    update(_attempt)
    .where(_attempt.c.uuid == bindparam("_uuid"), _attempt.c.closed_at.is_(None))
    .values(
        closed_at=bindparam("_now"),
        counted=bindparam("_counted"),
        answered=bindparam("_answered"),
        talked=bindparam("_talked"),
        lockout=bindparam("_lockout"),
    )
)
_INSERT_CDR = insert(_cdr)
_NUMBERS = select(_lead.c.numbers, _lead.c.number).where(_lead.c.id == bindparam("_id"))
_withdrawn = _lead.c.put_off_by == WITHDRAWN
_STEP_LEAD = (
    update(_lead)
    .where(_lead.c.id == bindparam("_id"))
    .values(
        status=case((_withdrawn, LeadStatus.WITHDRAWN.value), else_=bindparam("_status", type_=String)),
        queue=case((_withdrawn, None), else_=bindparam("_queue", type_=SmallInteger)),
        put_off_by=case((_withdrawn, None), else_=bindparam("_ended_by", type_=String)),
        attempts=_lead.c.attempts - bindparam("_uncounted"),
        due_at=bindparam("_due_at"),
        last_disposition=bindparam("_disposition"),
        last_called_at=bindparam("_now"),
        history=bindparam("_history"),
        callback_at=bindparam("_callback_at"),
        callback_agent=bindparam("_callback_agent"),
        updated_at=bindparam("_now"),
    )
)
_TRY_AGAIN = (
    update(_lead)
    .where(_lead.c.id == bindparam("_id"))
    .values(
        status=LeadStatus.WAITING.value,
        put_off_by=None,
        due_at=bindparam("_due_at", type_=_lead.c.due_at.type),
        updated_at=bindparam("_now", type_=_lead.c.updated_at.type),
    )
)
_CDR_COLUMNS = tuple(_cdr.c.keys())


def close_attempt(
    session: Session, cdr: CdrRow, step: NextStep, now: datetime, *, default_outcome: str | None = None
) -> bool:
    """End an attempt: its CDR, the count of abandoned calls, the attempt's end and the lead's next step; all or none.

    A conversation is called `default_outcome` unless its agent has said otherwise; then the step is another too.

    False, and nothing changed, when the attempt has been closed before: so it may be tried again by whoever does not
    know whether it was done. InputRefusedError when there never was such an attempt, or its leasing was taken back.
    A lead that was withdrawn during the call is withdrawn now, whatever `step` says.
    """
    connection = session.connection()
    counted = cdr.disposition not in UNCOUNTED  # each placed call counts
    closing = {
        "_uuid": cdr.attempt_uuid,
        "_now": now,
        "_counted": counted,
        "_answered": cdr.answered_at is not None,
        "_talked": cdr.bridged_at is not None,
        "_lockout": lockout_of(cdr),
    }
    if connection.execute(_CLOSE_ATTEMPT, closing).rowcount == 0:
        if session.get(AttemptRow, cdr.attempt_uuid) is None:
            raise InputRefusedError(f"the attempt {cdr.attempt_uuid} is not on record, so it cannot be closed")
        return False
    connection.execute(_INSERT_CDR, {name: getattr(cdr, name) for name in _CDR_COLUMNS})
    count_call(connection, cdr)
    step = outcomes.at_close(session, cdr, step, default_outcome, now)
    if closing["_lockout"] == ABANDONED and step.history.abandoned_at is None:
        step = attrs.evolve(step, history=attrs.evolve(step.history, abandoned_at=now))
    if step.rest is not None:
        suppression_store.let_rest(session, cdr.number, step.rest, attempt=cdr.attempt_uuid, now=now)
    step_lead(session, cdr.lead_id, step, now, disposition=cdr.disposition, uncounted=int(not counted))
    return True


def step_lead(
    session: Session, lead_id: int, step: NextStep, now: datetime, *, disposition: Disposition, uncounted: int = 0
) -> None:
    """The lead goes on as `step` says, after a call that ended with `disposition`; of its attempts `uncounted` go."""
    connection = session.connection()
    connection.execute(
        _STEP_LEAD,
        {
            "_id": lead_id,
            "_status": step.status.value,
            "_queue": Queue.URGENT.value if step.queue_urgent else None,
            "_ended_by": ATTEMPTS if step.by_attempts else None,
            "_uncounted": uncounted,
            "_due_at": step.due_at or now,
            "_disposition": disposition,
            "_history": step.history.to_json(),
            "_callback_at": step.callback_at,
            "_callback_agent": step.callback_agent,
            "_now": now,
        },
    )
    if step.number is None:
        return
    numbers, current = connection.execute(_NUMBERS, {"_id": lead_id}).one()
    several = {one.number: (place, one) for place, one in enumerate(numbers_from_json(numbers))}
    if step.number != current and step.number in several:  # else it has got other numbers since
        place, number = several[step.number]
        connection.execute(update(_lead).where(_lead.c.id == lead_id).values(**number_columns(place, number)))


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
