from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from campaigns.campaign import Campaign, Delays, Retries
from campaigns.disposition import Disposition
from campaigns.lead import LeadStatus
from campaigns.recycle import Tried, next_step

NOW = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)
CAMPAIGN = Campaign(name="spring", gateways=("a",), country="US")


@pytest.mark.parametrize(
    ("disposition", "attempts", "status", "hours"),
    [
        (Disposition.BRIDGED, 1, LeadStatus.DONE, None),
        (Disposition.BRIDGED, 3, LeadStatus.DONE, None),
        (Disposition.MESSAGE_PLAYED, 1, LeadStatus.DONE, None),
        (Disposition.OPTED_OUT, 1, LeadStatus.DEAD, None),
        (Disposition.SKIPPED, 1, LeadStatus.WAITING, 0.25),
        (Disposition.SKIPPED, 3, LeadStatus.WAITING, 0.25),  # the third attempt was none
        (Disposition.NO_ANSWER, 1, LeadStatus.WAITING, 4),
        (Disposition.NO_ANSWER, 2, LeadStatus.WAITING, 4),
        (Disposition.NO_ANSWER, 3, LeadStatus.EXHAUSTED, None),
        (Disposition.NO_ANSWER, 4, LeadStatus.EXHAUSTED, None),
        (Disposition.BUSY, 1, LeadStatus.WAITING, 0.25),
        (Disposition.CONGESTION, 1, LeadStatus.WAITING, 1 / 12),
        (Disposition.ABANDONED, 1, LeadStatus.WAITING, 72),
        (Disposition.HUNG_UP, 1, LeadStatus.WAITING, 24),
        (Disposition.CANCELLED, 1, LeadStatus.WAITING, 0.25),
        (Disposition.FAILED, 1, LeadStatus.WAITING, 1),
        (Disposition.UNKNOWN, 1, LeadStatus.WAITING, 1),
        (Disposition.REJECTED, 1, LeadStatus.DEAD, None),
        (Disposition.INVALID_NUMBER, 1, LeadStatus.DEAD, None),
        (Disposition.INVALID_NUMBER, 3, LeadStatus.DEAD, None),
    ],
)
def test_next_step(disposition: Disposition, attempts: int, status: LeadStatus, hours: float | None) -> None:
    step = next_step(disposition, Tried(attempts), CAMPAIGN, NOW)
    assert step.status is status
    assert step.due_at == (None if hours is None else NOW + timedelta(hours=hours))
    assert step.reason


def test_the_manager_decides() -> None:
    retries = Retries(max_attempts=1, delay_seconds=Delays(busy="never", rejected=60))
    campaign = CAMPAIGN.model_copy(update={"retries": retries})
    assert next_step(Disposition.BUSY, Tried(1), campaign, NOW).status is LeadStatus.DEAD
    assert next_step(Disposition.REJECTED, Tried(0), campaign, NOW).due_at == NOW + timedelta(seconds=60)
    assert next_step(Disposition.REJECTED, Tried(1), campaign, NOW).status is LeadStatus.EXHAUSTED


@pytest.mark.parametrize("disposition", Disposition)
def test_every_disposition_has_a_next_step(disposition: Disposition) -> None:
    step = next_step(disposition, Tried(1), CAMPAIGN, NOW)
    assert (step.due_at is not None) == (step.status is LeadStatus.WAITING)


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        next_step(Disposition.BUSY, Tried(1), CAMPAIGN, NOW.replace(tzinfo=None))
