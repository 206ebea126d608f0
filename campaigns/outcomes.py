"""What became of conversations in the campaign's own words: kept beside the record of the call, which never changes.

The close of a conversation writes the campaign's default, and the lead's step that follows from it, unless the agent
has said something by then. What is said later replaces both; see `saying`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, update
from sqlmodel import Session, col, select

from campaigns.campaign import Campaign, load
from campaigns.disposition import Disposition
from campaigns.lead import numbers_from_json
from campaigns.recycle import History, NextStep, Tried, step_of_outcome
from campaigns.retries import AgentDisposition
from campaigns.tables import CallOutcomeRow, CampaignRow, CdrRow, LeadRow
from dialer.errors import InputRefusedError

BY_AGENT: Final = "agent"
BY_KEY: Final = "key"
BY_DEFAULT: Final = "default"
# Of a campaign that has words of its own, and none for an agent who says nothing.
NOTHING_SAID: Final = "nothing_said"


def default_name(campaign: Campaign) -> str | None:
    """What a conversation is called of which nobody says anything; None if the campaign has no words of its own."""
    return (campaign.default_disposition or NOTHING_SAID) if campaign.dispositions else None


def at_close(session: Session, cdr: CdrRow, step: NextStep, default: str | None, now: datetime) -> NextStep:
    """The step of a lead whose call ends with `cdr`: `step`, or what follows from what the agent has said already.

    A conversation has exactly one outcome from here on, the one called `default` if nothing was said. Belongs into
    the transaction that closes the attempt, before the lead is changed.
    """
    if default is None:  # no campaign without words of its own has outcomes
        return step
    row = session.get(CallOutcomeRow, cdr.attempt_uuid)
    if row is None and cdr.disposition is not Disposition.BRIDGED:
        return step
    lead = session.get_one(LeadRow, cdr.lead_id)
    if row is None:
        row = CallOutcomeRow(
            attempt_uuid=cdr.attempt_uuid,
            campaign_id=cdr.campaign_id,
            lead_id=cdr.lead_id,
            agent=cdr.agent or "",
            name=default,
            set_by=BY_DEFAULT,
            set_at=now,
        )
    else:
        try:
            campaign = campaign_of(session, cdr.campaign_id)
        except InputRefusedError:  # the record must be written, and what was said stays with it
            return step
        said = campaign.disposition_called(row.name)
        if said is not None:  # or the manager has taken it away meanwhile
            turn = turn_of(lead, cdr.attempt_no, cdr.gateway, before(lead))
            step = step_of(said, turn, campaign, row, now)
    row.before = json.dumps(before(lead))
    session.add(row)
    session.flush()
    note_on_lead(session, lead, row.name)
    return step


def note_on_lead(session: Session, lead: LeadRow, name: str) -> None:
    """What was said of the last conversation is on the lead too. The row itself is left to others."""
    session.connection().execute(update(LeadRow).where(col(LeadRow.id) == lead.id).values(agent_disposition=name))


def campaign_of(session: Session, campaign_id: int) -> Campaign:
    """The campaign's definition, as it is now. Raises InputRefusedError if another version of the dialer wrote it."""
    row = session.get_one(CampaignRow, campaign_id)
    try:
        return load(row.definition)
    except ValueError as error:
        raise InputRefusedError(f"the definition of campaign {row.name!r} cannot be read: {error}") from error


def before(lead: LeadRow) -> dict[str, Any]:
    """What of `lead` the step after a call changes, and what another step must begin from instead of this one."""
    return {
        "number": lead.number,
        "history": lead.history,
        "callback_at": lead.callback_at.isoformat() if lead.callback_at is not None else None,
        "callback_agent": lead.callback_agent,
    }


def turn_of(lead: LeadRow, attempt_no: int, gateway: str, as_it_was: Mapping[str, Any]) -> Tried:
    """The attempt at `lead`, before which it was as `before` has told."""
    numbers, called = numbers_from_json(lead.numbers), as_it_was.get("number")
    number_no = next((place for place, one in enumerate(numbers) if one.number == called), 0)
    zones = numbers[number_no].zones if numbers else tuple(json.loads(lead.zones))
    callback_at = as_it_was["callback_at"]
    return Tried(
        attempt_no=attempt_no,
        gateway=gateway,
        numbers=numbers,
        number_no=number_no,
        zones=zones,
        history=History.from_json(as_it_was["history"]),
        callback_at=datetime.fromisoformat(callback_at) if callback_at else None,
        callback_agent=as_it_was["callback_agent"],
    )


def step_of(said: AgentDisposition, turn: Tried, campaign: Campaign, row: CallOutcomeRow, now: datetime) -> NextStep:
    """What becomes of a lead of which `row` says `said`."""
    return step_of_outcome(said, turn, campaign, now, callback_at=row.callback_at, callback_agent=row.callback_agent)


# What is asked of them.


def last_call_of(session: Session, agent: str, since: datetime) -> str | None:
    """The attempt of the latest conversation that `agent` has ended after `since`, of campaigns with their own words.

    Of what is going on, and of the moment until a record is written, only the roster knows.
    """
    rows = session.exec(
        select(CallOutcomeRow.attempt_uuid)
        .join(CdrRow, col(CdrRow.attempt_uuid) == col(CallOutcomeRow.attempt_uuid))
        .where(CallOutcomeRow.set_at >= since, CallOutcomeRow.agent == agent, CdrRow.ended_at >= since)
        .order_by(col(CdrRow.ended_at).desc())
        .limit(1)
    )
    return rows.first()


def of_calls(session: Session, attempts: Sequence[str]) -> Mapping[str, CallOutcomeRow]:
    """The outcomes of `attempts` by attempt, of those that have one."""
    rows = session.exec(select(CallOutcomeRow).where(col(CallOutcomeRow.attempt_uuid).in_(attempts)))
    return {row.attempt_uuid: row for row in rows}


def counts(session: Session, campaign_id: int, since: datetime) -> Mapping[str, int]:
    """How often what was said of the campaign's conversations since `since`, the most frequent first."""
    rows = session.exec(
        select(CallOutcomeRow.name, func.count())
        .where(CallOutcomeRow.campaign_id == campaign_id, CallOutcomeRow.set_at >= since)
        .group_by(col(CallOutcomeRow.name))
    )
    return dict(sorted(rows, key=lambda row: (-row[1], row[0])))


def latest_by_agent(session: Session, since: datetime) -> Mapping[str, str]:
    """What each agent has said last, or what was said for them, since `since`."""
    rows = session.exec(
        select(CallOutcomeRow.agent, CallOutcomeRow.name)
        .where(CallOutcomeRow.set_at >= since)
        .order_by(col(CallOutcomeRow.set_at))
    )
    return dict(rows.all())


def columns(row: CallOutcomeRow | None) -> dict[str, Any]:
    """What an export shows of an outcome beside the record of the call; of none, the same columns."""
    return {
        "outcome": row.name if row is not None else None,
        "outcome_set_by": row.set_by if row is not None else None,
        "outcome_note": row.note if row is not None else None,
        "callback_at": row.callback_at.isoformat() if row is not None and row.callback_at is not None else None,
        "callback_agent": row.callback_agent if row is not None else None,
    }
