"""Whether somebody has agreed to be called, and whether that can be shown."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

from campaigns.rules.candidate import Candidate
from campaigns.rules.verdict import Verdict, forbidden

RULE = "consent"
Consent = Literal["none", "any", "written"]
_STRICTNESS: Final[tuple[Consent, ...]] = ("none", "any", "written")


def stricter(one: Consent, other: Consent) -> Consent:
    """Whichever asks for more."""
    return max(one, other, key=_STRICTNESS.index)


def lacking(kind: Consent, days: int | None, candidate: Candidate, now: datetime) -> Verdict | None:
    """What is missing of the consent that is asked for; None when nothing is. `days`: for how long it holds."""
    if kind == "none":
        return None
    given = candidate.consent_at
    if given is None:
        return forbidden(RULE, "there is no consent on record", None)
    if given > now:
        return forbidden(RULE, f"the consent on record is of {given:%Y-%m-%d %H:%M} UTC, which is to come", given)
    if days is not None and given + timedelta(days=days) <= now:
        return forbidden(RULE, f"the consent of {given:%Y-%m-%d} held for {days} days", None)
    if kind == "written" and not (candidate.consent_evidence or "").strip():
        return forbidden(RULE, f"the consent of {given:%Y-%m-%d} has no evidence on record", None)
    return None
