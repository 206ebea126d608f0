"""After this outcome, when again: the one place that decides what becomes of a lead."""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs

from campaigns.campaign import NEVER, Campaign
from campaigns.disposition import Disposition
from campaigns.lead import LeadStatus


@attrs.frozen
class NextStep:
    """What becomes of a lead: `due_at` is set exactly when `status` is WAITING; `reason` is for a person to read."""

    status: LeadStatus
    due_at: datetime | None
    reason: str


def next_step(disposition: Disposition, attempts_made: int, campaign: Campaign, now: datetime) -> NextStep:
    """What becomes of a lead whose attempt number `attempts_made` has just ended with `disposition`.

    Calling hours are not looked at here: the hopper holds a due lead back until they open, so that a change of the
    hours also reaches leads that already wait.
    """
    if now.tzinfo is None:
        raise ValueError(f"{now!r} has no time zone")
    if disposition is Disposition.BRIDGED:
        return NextStep(LeadStatus.DONE, None, "spoke to an agent")
    if disposition is Disposition.MESSAGE_PLAYED:
        return NextStep(LeadStatus.DONE, None, "heard the message")
    if disposition is Disposition.OPTED_OUT:
        return NextStep(LeadStatus.DEAD, None, "wants no more calls")
    if disposition is Disposition.SKIPPED:
        attempts_made -= 1  # it was no call
    delay = campaign.retries.delay_seconds.after(disposition)
    if delay == NEVER:
        return NextStep(LeadStatus.DEAD, None, f"{disposition}: the campaign tries such a number no more")
    allowed = campaign.retries.max_attempts
    if attempts_made >= allowed:
        return NextStep(LeadStatus.EXHAUSTED, None, f"{disposition} on attempt {attempts_made} of {allowed}")
    due_at = now + timedelta(seconds=delay)
    return NextStep(
        LeadStatus.WAITING, due_at, f"{disposition} on attempt {attempts_made} of {allowed}, again in {delay:g} s"
    )
