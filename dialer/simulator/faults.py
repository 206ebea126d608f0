"""Things going wrong, by chance or on request.

The scenario gives each fault a probability; a test says `faults.force("bridge_never_comes")` and it happens the
next time it can. A fault that cannot happen costs nothing: its probability is looked at, not drawn.
"""

from __future__ import annotations

import random
from collections import Counter

from dialer.simulator.scenario import Faults

NAMES = frozenset(name for name, field in Faults.model_fields.items() if field.annotation is float)


class FaultDice:
    """Decides each time whether a fault happens now."""

    def __init__(self, faults: Faults, rng: random.Random) -> None:
        self.settings = faults
        self._rng = rng
        self._forced: Counter[str] = Counter()
        self._spared: Counter[str] = Counter()
        self._missing: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.happened: Counter[str] = Counter()

    def force(self, name: str, times: int = 1, *, after: int = 0) -> None:
        """Make the fault `name` happen the next `times` times, once it could have happened `after` times more."""
        if name not in NAMES:
            raise ValueError(f"there is no fault {name!r}; there are {', '.join(sorted(NAMES))}")
        self._forced[name] += times
        self._spared[name] += after

    def lose_event(self, event_name: str, times: int = 1) -> None:
        """Make the next `times` events of this name go missing."""
        self._missing[event_name] += times

    def strikes(self, name: str) -> bool:
        """Whether the fault `name` happens now."""
        self.asked[name] += 1
        if self._spared[name] > 0:
            self._spared[name] -= 1
            return False
        if self._forced[name] > 0:
            self._forced[name] -= 1
        else:
            probability: float = getattr(self.settings, name)
            if probability <= 0 or self._rng.random() >= probability:
                return False
        self.happened[name] += 1
        return True

    def loses(self, event_name: str) -> bool:
        """Whether an event of this name goes missing now."""
        if self._missing and self._missing[event_name] > 0:
            self._missing[event_name] -= 1
        else:
            probability = self.settings.events_missing.get(event_name, 0.0)
            if probability <= 0 or self._rng.random() >= probability:
                return False
        self.happened[f"missing {event_name}"] += 1
        return True

    def late_by(self) -> float:
        """Seconds this event is late; zero as a rule."""
        return self.settings.late_by.draw(self._rng) if self.strikes("event_late") else 0.0

    def slow_by(self) -> float:
        """Seconds this reply is late; zero as a rule."""
        return self.settings.slow_by.draw(self._rng) if self.strikes("reply_slow") else 0.0
