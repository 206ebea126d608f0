"""Leads that leases passed by, because they fit none of the trunks that had room: where the next lease goes on.

Each lease looks at a bounded number of leads. With thousands at the head of a list that only a busy trunk may carry
(a country of its own, say), none of them would ever come to those behind, whom other trunks could call. So a campaign
remembers how far it has come for the trunks at hand, for some minutes: then it begins anew, since leads may have come
in further ahead. With room on another trunk the head of the queue is looked at at once.
"""

from __future__ import annotations

from collections.abc import Hashable
from datetime import datetime, timedelta
from typing import Final

import attrs

FORGOTTEN_AFTER: Final = timedelta(minutes=5)


@attrs.define
class _Place:
    after: int  # the id of the last lead that was passed by
    begun_at: datetime


class PassedBy:
    """How far the leases of one campaign have come, by where they look and for which trunks. Kept in memory only."""

    def __init__(self) -> None:
        self._places: dict[Hashable, _Place] = {}

    def __repr__(self) -> str:
        return f"<PassedBy {self._places}>"

    def after(self, where: Hashable, now: datetime) -> int | None:
        """The lead after which to go on; None: from the head."""
        place = self._places.get(where)
        if place is None:
            return None
        if not place.begun_at <= now < place.begun_at + FORGOTTEN_AFTER:
            del self._places[where]
            return None
        return place.after

    def note(self, where: Hashable, lead_id: int, now: datetime) -> None:
        """All up to the lead `lead_id` have been passed by."""
        place = self._places.setdefault(where, _Place(lead_id, now))
        place.after = lead_id
