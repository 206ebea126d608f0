"""So many calls in so much time, and no more.

A cap of hours or days counts back from the moment of a call: a call leaves it exactly so long after it was placed. A
cap of calendar days counts those of the callee: a call leaves it at a midnight there. Where the number may be in
several zones, the cap must be kept by the calendar of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from campaigns.rules.calendar import beginning, days_of
from campaigns.rules.candidate import Candidate, PastCall
from campaigns.rules.limits import Cap
from campaigns.rules.verdict import Verdict, forbidden

RULE = "cap"
_DAY = timedelta(days=1)


def since(caps: Sequence[Cap], now: datetime) -> datetime | None:
    """How far back the calls must be known to judge by `caps` at `now`; None when there are none."""
    # A day of the calendar may have begun up to a day earlier than any moment of it is in UTC.
    return min((now - (cap.window or _DAY * ((cap.calendar_days or 0) + 1)) for cap in caps), default=None)


def capped(
    cap: Cap,
    candidate: Candidate,
    history: Sequence[PastCall],
    zones: Sequence[str],
    now: datetime,
    *,
    campaign_id: int,
    seller: str | None,
    gateways: Sequence[str],
) -> Verdict | None:
    """What `cap` has against a call at `now`, until it would allow it again; None when it allows it.

    A cap per gateway forbids the call when all of `gateways` are at their most, until the first is not.
    """
    mine = [call for call in history if _counts(cap, call, candidate, campaign_id, seller)]
    if len(mine) < cap.most:
        return None
    if cap.of != "gateway":
        until = _until(cap, mine, zones, now)
        return forbidden(RULE, f"{cap}: there have been {cap.most}", until) if until is not None else None
    each = [_until(cap, [call for call in mine if call.gateway == gateway], zones, now) for gateway in gateways]
    free_at = [until for until in each if until is not None]
    if len(free_at) < len(gateways):
        return None
    return forbidden(RULE, f"{cap}: there have been {cap.most} through each of {', '.join(gateways)}", min(free_at))


def full_gateways(
    cap: Cap,
    candidate: Candidate,
    history: Sequence[PastCall],
    zones: Sequence[str],
    now: datetime,
    *,
    campaign_id: int,
    seller: str | None,
) -> Mapping[str, Verdict]:
    """The gateways through which `cap`, one per gateway, allows no call at `now`, and until when."""
    mine = [call for call in history if _counts(cap, call, candidate, campaign_id, seller)]
    full: dict[str, Verdict] = {}
    for gateway in sorted({call.gateway for call in mine}):
        until = _until(cap, [call for call in mine if call.gateway == gateway], zones, now)
        if until is not None:
            full[gateway] = forbidden(RULE, f"{cap}: there have been {cap.most} through {gateway}", until)
    return full


def _counts(cap: Cap, call: PastCall, candidate: Candidate, campaign_id: int, seller: str | None) -> bool:
    if (cap.counts == "answers" and not call.answered) or (cap.counts == "conversations" and not call.talked):
        return False
    # Campaigns that name no seller are taken to call for one and the same.
    if (
        cap.across != "all"
        and call.campaign_id != campaign_id
        and (cap.across == "campaign" or call.seller != seller)
    ):
        return False
    if cap.of == "lead" or (cap.of == "account" and candidate.account is None):
        return call.lead_id == candidate.lead_id
    if cap.of == "account":
        return call.account == candidate.account
    return call.number == candidate.number


def _until(cap: Cap, calls: Sequence[PastCall], zones: Sequence[str], now: datetime) -> datetime | None:
    """When fewer than `cap.most` of `calls` will count; None when that is so at `now`."""
    if len(calls) < cap.most:
        return None
    last = sorted(call.opened_at for call in calls)[-cap.most]  # when it leaves, there is room for one
    if cap.window is not None:
        until = last + cap.window
        return until if until > now else None
    days = cap.calendar_days or 1
    frees = [
        (day + days * _DAY, today, zone)
        for day, today, zone in zip(days_of(last, zones), days_of(now, zones), zones, strict=True)
    ]
    if all(day <= today for day, today, _ in frees):
        return None
    return max(beginning(day, zone) for day, today, zone in frees if day > today)
