"""What the campaigns of a budget group share, until their answers are on record. Pure."""

from __future__ import annotations

from dialer.pacing.budget import Budget
from dialer.pacing.pacer import Answered


class UnderWay:
    """What calls that are not on record yet will add to it."""

    def __init__(self) -> None:
        self._calls: dict[str, Answered] = {}
        self._total: Answered | None = None

    def note(self, uuid: str, answered: Answered) -> None:
        """The call `uuid` will be on record as `answered`."""
        self._calls[uuid] = answered
        self._total = None

    def forget(self, uuid: str) -> Answered | None:
        """It is on record, or is counted elsewhere; what it was noted as."""
        self._total = None
        return self._calls.pop(uuid, None)

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._calls

    @property
    def total(self) -> Answered:
        """Of all of them: the same object as long as nothing changes."""
        if self._total is None:
            self._total = sum(self._calls.values(), Answered())
        return self._total


class Purse:
    """What the campaigns of a group share: one budget, and their answers that are not on record yet."""

    def __init__(self, limit: float) -> None:
        self.budget = Budget(limit)
        self.under_way = UnderWay()
