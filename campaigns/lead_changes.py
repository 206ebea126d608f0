"""Leads that a person adds, changes or withdraws, one at a time, while the campaign runs.

A lead in a call is the call's: its numbers stay, and it is withdrawn when the call ends. That is written on the lead
itself (`put_off_by`), so that it holds whoever ends the call, and through a crash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import attrs
from sqlmodel import Session, col, select

from campaigns import audit, forbidden_leads, staging, store
from campaigns.campaign import Campaign
from campaigns.known_leads import UniqueIn, is_dead, known_keys, known_numbers
from campaigns.lead import WITHDRAWN, LeadNumber, LeadStatus, all_numbers, zones_from_json
from campaigns.list_rows import LONGEST_KEY, LONGEST_LIST, PRIORITIES, StagedLead, parse_consent
from campaigns.numbers import Number, parse_number
from campaigns.staging import Counts, Terms
from campaigns.tables import LeadListRow, LeadRow
from campaigns.zones import is_zone
from dialer.errors import InputRefusedError

DEFAULT_LIST: Final = "added"


@attrs.frozen
class LeadDetails:
    """What a person says of a lead; None says nothing."""

    numbers: Sequence[str] = ()
    fields: Mapping[str, str] = attrs.field(factory=dict)
    key: str | None = None
    account: str | None = None
    priority: int | None = None
    timezone: str | None = None
    consent_at: str | None = None  # ISO 8601; empty takes consent away
    consent_evidence: str | None = None


def add_lead(
    session: Session,
    campaign: str,
    details: LeadDetails,
    *,
    list_name: str = DEFAULT_LIST,
    unique_in: UniqueIn = "campaign",
    who: str,
    now: datetime,
) -> Counts:
    """Add a lead to the campaign, unless its number is there; what became of it. Raises InputRefusedError."""
    row = store.get_campaign(session, campaign)
    _check_texts(details, list_name)
    lead = _as_staged(details, store.definition_of(row), now)
    _check_key_free(session, row.id or 0, details.key, None)
    watermark = staging.newest_lead(session)
    counts = staging.add_leads(session, row.id or 0, [lead], Terms(list_name, unique_in), watermark, now)
    if counts.added:
        after = {"numbers": details.numbers, "list": list_name, "key": details.key, "fields": dict(details.fields)}
        audit.note(
            session, who=who, action="add", kind="lead", subject=f"{campaign}/{lead.number}", after=after, now=now
        )
    return counts


def change_lead(
    session: Session,
    campaign: str,
    lead: LeadRow,
    details: LeadDetails,
    *,
    unique_in: UniqueIn = "campaign",
    who: str,
    now: datetime,
) -> bool:
    """Change what `details` says of the lead; False when its numbers stay, as it is in a call.

    Fields are added to those that it has; an empty value takes one away. Raises InputRefusedError, also when the
    number it is to be known by is another lead's.
    """
    definition = store.definition_of(store.get_campaign(session, campaign))
    before = described(lead)
    if details == LeadDetails():
        raise InputRefusedError("nothing is to be changed: say what")
    _check_priority(details.priority)
    _check_texts(details)
    _check_zone(details.timezone)
    _check_key_free(session, lead.campaign_id, details.key, lead.id)
    if details.fields:
        fields = {**json.loads(lead.fields), **details.fields}
        lead.fields = json.dumps({name: value for name, value in fields.items() if value}, ensure_ascii=False)
    lead.external_key = details.key or lead.external_key
    lead.account = details.account or lead.account
    lead.priority = lead.priority if details.priority is None else details.priority
    if details.consent_at is not None:
        lead.consent_at = _consent_at(details, zones_from_json(lead.zones), definition, now)
        lead.consent_evidence = details.consent_evidence or None
        lead.due_at = now if lead.put_off_by is not None else lead.due_at
    elif details.consent_evidence is not None:
        lead.consent_evidence = details.consent_evidence or None
    busy = lead.status is LeadStatus.DIALING
    moves = bool(details.numbers) or details.timezone is not None
    if moves and not busy:
        before_numbers = all_numbers(lead)
        numbers = details.numbers or [one.number for one in before_numbers]
        staged = _as_staged(attrs.evolve(details, numbers=numbers), definition, now, before_numbers)
        if staged.number != before_numbers[0].number:
            _check_free(session, lead, staged.number, unique_in)
        values = staging.number_values(staged, lead.number, before_numbers)
        if is_dead(lead.status, lead.last_disposition) and staging.new_numbers(before_numbers, values):
            values |= staging.lives_again(now)
        for name, value in values.items():
            setattr(lead, name, value)
        if lead.put_off_by is not None:
            lead.due_at = now  # of where it is now, the rule may say otherwise
    lead.updated_at = now
    session.add(lead)
    session.flush()
    if moves and not busy:
        forbidden_leads.look_again(session, [lead.id or 0], now)
        session.refresh(lead)
    audit.note(
        session,
        who=who,
        action="change",
        kind="lead",
        subject=f"{campaign}/{lead.id}",
        before=before,
        after=described(lead),
        now=now,
    )
    return not (moves and busy)


def _check_key_free(session: Session, campaign_row_id: int, key: str | None, lead_id: int | None) -> None:
    """Raises InputRefusedError when another lead of the campaign has that key: lists change leads by it."""
    for other in known_keys(session, campaign_row_id, [key], "campaign").get(key, ()) if key else ():
        if other.id != lead_id:
            raise InputRefusedError(f"{key!r} is the key of lead {other.id} already: a list by key would change both")


def _check_free(session: Session, lead: LeadRow, number: str, unique_in: UniqueIn) -> None:
    """Raises InputRefusedError when another lead is known by `number`, where that may be once."""
    there = known_numbers(session, lead.campaign_id, [number], unique_in).get(number, ())
    for other in there:
        if other.id != lead.id and (unique_in != "list" or other.list_id == lead.list_id):
            raise InputRefusedError(
                f"{number} is the number of lead {other.id} already; --unique-in says where it may be once"
                f" (now {unique_in})"
            )


def withdraw_lead(session: Session, campaign: str, lead: LeadRow, *, who: str, now: datetime) -> bool:
    """Take the lead out of its list for good; False when it is in a call, at whose end that happens."""
    before = {"status": lead.status.value}
    if lead.status is LeadStatus.WITHDRAWN:
        return True
    at_once = lead.status is not LeadStatus.DIALING
    if at_once:
        lead.status, lead.queue, lead.put_off_by = LeadStatus.WITHDRAWN, None, None
    else:
        lead.put_off_by = WITHDRAWN
    lead.updated_at = now
    session.add(lead)
    session.flush()
    after = {"status": LeadStatus.WITHDRAWN.value, "when": "at once" if at_once else "when its call ends"}
    subject = f"{campaign}/{lead.id}"
    audit.note(session, who=who, action="withdraw", kind="lead", subject=subject, before=before, after=after, now=now)
    return at_once


def locked_leads(session: Session, ids: Sequence[int]) -> Sequence[LeadRow]:
    """Those leads, which nobody else changes until the transaction ends; nor are others added.

    An import takes its locks in this order too: else each of two might wait for the other.
    """
    staging.lock_additions(session)
    query = select(LeadRow).where(col(LeadRow.id).in_(ids)).order_by(col(LeadRow.id)).with_for_update()
    return session.exec(query).all()


def described(lead: LeadRow) -> dict[str, Any]:
    """What the audit log keeps of a lead."""
    return {
        "numbers": [one.number for one in all_numbers(lead)],
        "number": lead.number,
        "zones": json.loads(lead.zones),
        "region": lead.region,
        "fields": json.loads(lead.fields),
        "key": lead.external_key,
        "account": lead.account,
        "priority": lead.priority,
        "consent_at": lead.consent_at.isoformat() if lead.consent_at else None,
        "consent_evidence": lead.consent_evidence,
        "status": lead.status.value,
    }


def list_name_of(session: Session, lead: LeadRow) -> str:
    """The name of the lead's list."""
    return session.get_one(LeadListRow, lead.list_id).name


def _as_staged(
    details: LeadDetails, campaign: Campaign, now: datetime, before: Sequence[LeadNumber] = ()
) -> StagedLead:
    _check_zone(details.timezone)
    _check_priority(details.priority)
    numbers = {number.e164: number for number in (parse_number(text, campaign.country) for text in details.numbers)}
    if not numbers:
        raise InputRefusedError("a lead needs a number")
    known = {one.number: one.zones for one in before}
    placed = [
        [number.e164, list(_zones(number, details, known)), number.kind, number.region] for number in numbers.values()
    ]
    for number, places, _, _ in placed:
        if not places and campaign.timezone is None:
            raise InputRefusedError(
                f"{number} belongs to no place, so its calling hours are not known; say its timezone"
            )
    first = next(iter(numbers.values()))
    zones = _zones(first, details, known)
    return StagedLead(
        first.e164,
        json.dumps(zones, separators=(",", ":")),
        first.region,
        first.kind,
        "[]" if len(placed) == 1 else json.dumps(placed, separators=(",", ":")),
        json.dumps({name: value for name, value in details.fields.items() if value}, ensure_ascii=False),
        external_key=details.key,
        account=details.account,
        priority=details.priority,
        consent_at=_consent_at(details, zones, campaign, now),
        consent_evidence=details.consent_evidence or None,
        says_zones=details.timezone is not None,
        says_numbers=True,
    )


def _consent_at(details: LeadDetails, zones: Sequence[str], campaign: Campaign, now: datetime) -> datetime | None:
    if not details.consent_at:
        return None
    return parse_consent(details.consent_at, zones or ((campaign.timezone,) if campaign.timezone else ()), now)


def _zones(number: Number, details: LeadDetails, known: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    if details.timezone is not None:
        return (details.timezone,)
    return known.get(number.e164, number.zones)


def _check_zone(zone: str | None) -> None:
    if zone is not None and not is_zone(zone):
        raise InputRefusedError(f"{zone!r} is not a time zone: it should be one like Europe/Berlin")


def _check_texts(details: LeadDetails, list_name: str = DEFAULT_LIST) -> None:
    """Raises InputRefusedError for texts that no list could bring."""
    texts = {"the key": details.key, "the account": details.account, **details.fields}
    for name, value in texts.items():
        if "\0" in name or "\0" in (value or ""):
            raise InputRefusedError(f"{name}: there is a NUL character in it")
    for name, value in (("the key", details.key), ("the account", details.account)):
        if value is not None and len(value) > LONGEST_KEY:
            raise InputRefusedError(f"{name} has {len(value)} characters: keep at most {LONGEST_KEY}")
    if not 0 < len(list_name) <= LONGEST_LIST or "\0" in list_name:
        raise InputRefusedError(f"the list's name {list_name!r} should have 1 to {LONGEST_LIST} characters")


def _check_priority(priority: int | None) -> None:
    if priority is not None and abs(priority) > PRIORITIES:
        raise InputRefusedError(f"the priority {priority} should be between -{PRIORITIES} and {PRIORITIES}")
