"""Somebody has refused: on whose behalf the number is left alone after that, and until when. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import attrs

from campaigns.campaign import Campaign
from campaigns.rules.calendar import rested_until
from campaigns.rules.profiles import profile_of

RULE: Final = "refused"
SOURCE: Final = "a refusal"  # of an entry on the do-not-call list


@attrs.frozen
class Rest:
    """Nobody calls on behalf of `seller`, or nobody at all where none is named, before `until`."""

    seller: str | None
    until: datetime

    def to_value(self) -> dict[str, Any]:
        """For a journal: values that JSON knows."""
        return {"seller": self.seller, "until": self.until.isoformat()}

    @staticmethod
    def from_value(value: Mapping[str, Any]) -> Rest:
        """What `to_value` wrote. Raises ValueError or KeyError for anything else."""
        return Rest(value["seller"], datetime.fromisoformat(value["until"]))


def rest_days(campaign: Campaign) -> int:
    """For how many whole days of their calendar people are left alone after they have refused."""
    return max(campaign.retries.refusal_rest_days, profile_of(campaign).refusal_rest_days)


def rest_after_refusal(campaign: Campaign, zones: tuple[str, ...], now: datetime) -> Rest | None:
    """The rest that a refusal at `now` asks for, of a number in `zones`; None where it asks for none.

    A seller's refusal is refused to all its campaigns: it is the seller who may not call again (for France, art.
    D. 223-9 of the consumer code), and it may have the number in several lists.
    """
    where, days = campaign.zones_of(zones), rest_days(campaign)
    return Rest(campaign.seller, rested_until(now, days, where)) if where and days else None
