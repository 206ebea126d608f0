"""Nobody's phone rings twice at once: a number that is being called for one lead is not called for another."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import bindparam, select
from sqlmodel import Session, SQLModel

from campaigns.many import many, one_of
from campaigns.rules.verdict import Verdict, forbidden

RULE: Final = "in_call"
_AGAIN: Final = timedelta(minutes=1)  # a call may end at any moment
LONGEST: Final = timedelta(hours=4)  # an older one is of a daemon that has not come back

_attempt = SQLModel.metadata.tables["attempt"]
_OPEN: Final = select(_attempt.c.number).where(
    one_of(_attempt.c.number, "_numbers"), _attempt.c.closed_at.is_(None), _attempt.c.opened_at > bindparam("_since")
)


def called_now(session: Session, numbers: Sequence[str], now: datetime) -> frozenset[str]:
    """Those of `numbers` that are being called, or are offered to an agent, by any campaign."""
    values = {"_numbers": many(numbers), "_since": now - LONGEST}
    return frozenset(session.connection().scalars(_OPEN, values))


def verdict(number: str, now: datetime) -> Verdict:
    """What forbids a call to `number`, which is being called."""
    return forbidden(RULE, f"{number} is being called for another lead", now + _AGAIN)
