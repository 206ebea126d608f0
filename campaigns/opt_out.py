"""Somebody wants no more calls: what goes on the do-not-call list, whose calls it ends, and how it is written.

It ends the calls of the campaign's seller, on whose behalf the person was called; where none is named, all calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import attrs
from sqlmodel import Session

from campaigns import suppression_store
from campaigns.campaign import Campaign
from campaigns.suppression_store import NewEntry, scope_of

KEY_PRESSED: Final = "key pressed"
TOLD_AN_AGENT: Final = "told an agent"
THE_PERSON: Final = "the person called"


@attrs.frozen
class OptOut:
    """`number` (E.164) is called no more on behalf of `seller`, or at all. `source` and `reason` are for people."""

    number: str
    seller: str | None
    source: str
    reason: str
    added_by: str
    at: datetime

    def write(self, session: Session) -> None:
        """Puts it on the do-not-call list. May be done any number of times."""
        scope, scope_name = scope_of(self.seller)
        suppression_store.add_entries(
            session,
            [NewEntry(self.number)],
            scope=scope,
            scope_name=scope_name,
            source=self.source,
            added_by=self.added_by,
            now=self.at,
            reason=self.reason,
        )

    def to_value(self) -> dict[str, Any]:
        """For a journal: values that JSON knows."""
        return {**attrs.asdict(self), "at": self.at.isoformat()}

    @staticmethod
    def from_value(value: Mapping[str, Any]) -> OptOut:
        """What `to_value` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        return OptOut(**{**value, "at": datetime.fromisoformat(value["at"])})


def by_key(number: str, attempt: str, campaign: Campaign, now: datetime) -> OptOut:
    """The person called in `attempt` has pressed the key that ends such calls for good."""
    return OptOut(number, campaign.seller, KEY_PRESSED, _reason(attempt, campaign.name), THE_PERSON, now)


def by_agent(number: str, attempt: str, campaign: Campaign, extension: str, now: datetime) -> OptOut:
    """The agent has noted that the person called in `attempt` wants no more calls."""
    return OptOut(number, campaign.seller, TOLD_AN_AGENT, _reason(attempt, campaign.name), f"agent {extension}", now)


def _reason(attempt: str, campaign: str) -> str:
    return f"campaign {campaign}, attempt {attempt}"
