"""All rules said once more in other words, slowly: what a verdict and the hopper must agree with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import holidays

from campaigns.campaign import CallingHours, Campaign, Cap
from campaigns.rules.candidate import Candidate, PastCall, SuppressionEntry
from campaigns.rules.profiles import profiles


def forbidding(
    campaign: Campaign,
    campaign_id: int,
    lead: Candidate,
    calls: Sequence[PastCall],
    entries: Sequence[SuppressionEntry],
    now: datetime,
) -> Iterator[str]:
    """The names of the rules that forbid a call to `lead` at `now`. Of the profile no rule is lifted."""
    law = profiles()[campaign.profile]
    zones = _zones(campaign, lead)
    if lead.attempts >= campaign.retries.max_attempts and lead.callback_at is None:
        yield "attempts"
    if not zones:
        yield "zone"
    region = lead.region or campaign.country
    for zone in zones:
        wall = now.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        for windows in (campaign.windows, law.windows):
            if windows and not any(_within(window, wall) for window in _those_of(windows, region)):
                yield "calling_hours"
        if wall.date() in campaign.closed_days or (
            (campaign.holidays or law.holidays) and _is_holiday(wall.date(), region)
        ):
            yield "closed_day"
    for entry in entries:
        hits = lead.number.startswith(entry.pattern) if entry.is_prefix else lead.number == entry.pattern
        meant = {
            "system": True,
            "seller": entry.scope_name == campaign.seller,
            "campaign": entry.scope_name == "spring",
        }
        if hits and meant[entry.scope] and (entry.expires_at is None or now < entry.expires_at):
            yield "suppressed"
    asked = {campaign.consent, law.broadcast_consent if campaign.mode == "broadcast" else law.consent}
    if asked != {"none"} and (
        lead.consent_at is None
        or lead.consent_at > now
        or (campaign.consent_days is not None and now - lead.consent_at >= timedelta(days=campaign.consent_days))
        or ("written" in asked and not lead.consent_evidence)
    ):
        yield "consent"
    for since, hours in (
        (lead.abandoned_at, max(campaign.abandoned_lockout_hours, law.abandoned_lockout_hours)),
        (lead.machine_at, law.machine_lockout_hours),
    ):
        if since is not None and now - since < timedelta(hours=hours):
            yield "lockout"
    rest = max(campaign.retries.refusal_rest_days, law.refusal_rest_days)
    if rest and lead.refused_at is not None and any(_days(lead.refused_at, now, zone) <= rest for zone in zones):
        yield "refused"
    for cap in (*campaign.caps, *law.caps):
        if cap.of != "gateway" and _is_full(cap, campaign, campaign_id, lead, calls, zones, now):
            yield "cap"


def full_gateway(
    campaign: Campaign, campaign_id: int, lead: Candidate, calls: Sequence[PastCall], gateway: str, now: datetime
) -> bool:
    """Whether `gateway` has had its most calls to the lead's number."""
    through = [call for call in calls if call.gateway == gateway]
    zones = _zones(campaign, lead)
    return any(
        _is_full(cap, campaign, campaign_id, lead, through, zones, now)
        for cap in campaign.caps
        if cap.of == "gateway"
    )


def _those_of(windows: Sequence[CallingHours], region: str) -> Sequence[CallingHours]:
    for place in (region, region[:2]):
        if any(place in window.regions for window in windows):
            return [window for window in windows if place in window.regions]
    return [window for window in windows if not window.regions]


def _within(window: CallingHours, wall: datetime) -> bool:
    midnight = datetime.combine(wall.date(), time(0))
    start = datetime.combine(wall.date(), window.start)
    end = datetime.combine(wall.date(), window.end) if window.end != time(0) else midnight + timedelta(days=1)
    return f"{wall:%a}".lower() in window.days and start <= wall < end


def _is_holiday(day: date, region: str) -> bool:
    country, _, part = region.partition("-")
    return day in holidays.country_holidays(country, subdiv=part or None, years=day.year)


def _zones(campaign: Campaign, lead: Candidate) -> Sequence[str]:
    lawful = campaign.profile != "none" and campaign.exempt.calling_hours == ""
    if campaign.timezone and not (lawful and lead.zones):
        return [campaign.timezone]
    return lead.zones


def _days(before: datetime, after: datetime, zone: str) -> int:
    """How many midnights of `zone` lie between them."""
    there = ZoneInfo(zone)
    return (after.astimezone(there).date() - before.astimezone(there).date()).days


def _is_full(
    cap: Cap,
    campaign: Campaign,
    campaign_id: int,
    lead: Candidate,
    calls: Sequence[PastCall],
    zones: Sequence[str],
    now: datetime,
) -> bool:
    counted = [
        call
        for call in calls
        if {"attempts": True, "answers": call.answered, "conversations": call.talked}[cap.counts]
        and (
            cap.across == "all"
            or call.campaign_id == campaign_id
            or (cap.across == "seller" and call.seller == campaign.seller)
        )
        and {
            "number": call.number == lead.number,
            "gateway": call.number == lead.number,
            "lead": call.lead_id == lead.lead_id,
            "account": call.account == lead.account if lead.account else call.lead_id == lead.lead_id,
        }[cap.of]
    ]
    if cap.window is not None:
        return sum(now - call.opened_at < cap.window for call in counted) >= cap.most
    days = cap.calendar_days or 0
    return any(sum(_days(call.opened_at, now, zone) < days for call in counted) >= cap.most for zone in zones)
