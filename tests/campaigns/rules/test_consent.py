from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from campaigns.rules.candidate import Candidate
from campaigns.rules.consent import Consent, lacking, stricter

NOW = datetime(2026, 11, 25, 16, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("kind", "days", "given_at", "evidence", "complaint"),
    [
        ("none", None, None, None, None),
        ("none", 10, NOW - 30 * DAY, None, None),
        ("any", None, None, "form 7", "no consent on record"),
        ("any", None, NOW - 3000 * DAY, None, None),
        ("any", 10, NOW - 10 * DAY + timedelta(seconds=1), None, None),
        ("any", 10, NOW - 10 * DAY, None, "held for 10 days"),
        ("written", None, NOW - DAY, "form 7", None),
        ("written", None, NOW - DAY, None, "no evidence"),
        ("written", None, NOW - DAY, " ", "no evidence"),
        ("written", 10, NOW - 11 * DAY, "form 7", "held for 10 days"),
        ("written", None, None, None, "no consent on record"),
    ],
)
def test_what_is_lacking(
    kind: Consent, days: int | None, given_at: datetime | None, evidence: str | None, complaint: str | None
) -> None:
    found = lacking(kind, days, Candidate(1, "+12125550100", consent_at=given_at, consent_evidence=evidence), NOW)
    if complaint is None:
        assert found is None
    else:
        assert found is not None
        assert complaint in found.reason
        assert found.allowed_at is None  # time does not give it


def test_consent_of_tomorrow_counts_from_tomorrow_on() -> None:
    found = lacking("any", None, Candidate(1, "+12125550100", consent_at=NOW + DAY), NOW)
    assert found is not None
    assert found.allowed_at == NOW + DAY
    assert lacking("any", None, Candidate(1, "+12125550100", consent_at=NOW), NOW) is None


def test_of_two_the_stricter_holds() -> None:
    assert stricter("none", "any") == stricter("any", "none") == "any"
    assert stricter("any", "written") == stricter("written", "none") == "written"
