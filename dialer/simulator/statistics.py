"""What the simulated people lived through: the truth that the daemon's own counts are held against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import attrs

# Waits are kept one by one for percentiles; a day of a large call centre fits.
WAITS_LIMIT = 1_000_000


@attrs.frozen
class Statistics:
    """A moment's count. "Customers" are legs through a gateway, "agents" are legs to a phone."""

    originated: int
    answered: int
    bridged: int  # customers, each counted once
    bridges: int  # CHANNEL_BRIDGE events
    abandoned: int  # customers who answered and were gone without ever being bridged
    orphans: int  # customers left behind when another took their agent leg
    agents_originated: int
    agents_answered: int
    agents_lost: int  # agent legs that ended by a fault or in a bridge, not by a command or their own hang-up
    bridges_to_non_idle: int  # uuid_bridge to a leg that was talking, ringing or being bridged
    live: int
    peak_channels: int
    waits: tuple[float, ...]  # seconds from a customer's answer to the bridge, in order of bridging
    causes: Mapping[str, int]  # hang-up causes of customers
    faults: Mapping[str, int]
    events: int  # fired, heard by anyone or not


class Tally:
    """The running counts behind `Statistics`."""

    def __init__(self) -> None:
        self.originated = self.answered = self.bridged = self.bridges = self.abandoned = self.orphans = 0
        self.agents_originated = self.agents_answered = self.agents_lost = self.bridges_to_non_idle = 0
        self.peak_channels = self.events = 0
        self.waits: list[float] = []
        self.causes: Counter[str] = Counter()

    def waited(self, seconds: float) -> None:
        if len(self.waits) < WAITS_LIMIT:
            self.waits.append(seconds)

    def snapshot(self, live: int, faults: Mapping[str, int]) -> Statistics:
        return Statistics(
            originated=self.originated,
            answered=self.answered,
            bridged=self.bridged,
            bridges=self.bridges,
            abandoned=self.abandoned,
            orphans=self.orphans,
            agents_originated=self.agents_originated,
            agents_answered=self.agents_answered,
            agents_lost=self.agents_lost,
            bridges_to_non_idle=self.bridges_to_non_idle,
            live=live,
            peak_channels=self.peak_channels,
            waits=tuple(self.waits),
            causes=dict(self.causes),
            faults=dict(faults),
            events=self.events,
        )
