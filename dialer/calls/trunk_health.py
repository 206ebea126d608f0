"""When a trunk is given no calls: parked after a run of faults, and tried by one call when it has rested. Pure.

While it is parked only the call that tries it counts: those that were on their way when it was parked tell of the
same trouble once more. A number that nobody can be reached at may be refused with a 503 over any trunk, each time it
is called: a fault with a lead that was refused before says less of the trunk than one with another lead. Times are
those of the event loop, in seconds.
"""

from __future__ import annotations

from typing import Final

import attrs

from dialer.calls.failover import Sign

# So many faults with leads that were refused before weigh as much as one with another lead.
DOUBTFUL_FAULTS: Final = 4


@attrs.frozen
class Patience:
    """How many faults one after the other park a trunk, and for how long, at first and at most."""

    faults: int
    rest_seconds: float
    rest_seconds_most: float


@attrs.frozen
class Health:
    """What is known of a trunk.

    `rest_seconds` is 0 while it is not parked. `trial` is the call that tries it after its rest.
    """

    faults: int = 0  # one after the other
    doubtful: int = 0  # of these, with leads that were refused before
    rest_seconds: float = 0.0
    parked_until: float = 0.0
    trial: str = ""
    reason: str = ""  # how the last call failed that parked it

    @property
    def parked(self) -> bool:
        """Whether it rests, or has not been found well since."""
        return self.rest_seconds > 0

    def allowance(self, now_seconds: float) -> int | None:
        """How many calls it may be given now; None: as many as it has room for."""
        if not self.parked:
            return None
        return 1 if now_seconds >= self.parked_until and not self.trial else 0

    def tried_by(self, uuid: str) -> Health:
        """The call `uuid` goes out to try it."""
        return attrs.evolve(self, trial=uuid)

    def without(self, uuid: str) -> Health:
        """The call `uuid` is over; if it tried the trunk and told nothing, another may."""
        return attrs.evolve(self, trial="") if self.trial == uuid else self

    def rested(self) -> Health:
        """Its rest is over: it is tried by the next call."""
        return attrs.evolve(self, parked_until=0.0)

    def after(
        self, sign: Sign, uuid: str, failure: str, now_seconds: float, patience: Patience, *, refused_before: bool
    ) -> Health:
        """What is known after the call `uuid` has told `sign`; `refused_before`: its lead was, when last called."""
        if self.parked and uuid != self.trial:
            return self
        match sign:
            case Sign.WELL:
                return Health()
            case Sign.NEITHER:
                return self
        faults, doubtful = self.faults + 1, self.doubtful + refused_before
        if self.parked:
            longer = 1 if refused_before else 2
            rest_seconds = min(longer * self.rest_seconds, patience.rest_seconds_most)
            reason = f"the call that tried it failed too, with {failure}"
        elif faults - doubtful + doubtful / DOUBTFUL_FAULTS < patience.faults:
            return attrs.evolve(self, faults=faults, doubtful=doubtful)
        else:
            rest_seconds = patience.rest_seconds
            reason = f"{faults} calls in a row failed, the last with {failure}"
        return Health(faults, doubtful, rest_seconds, now_seconds + rest_seconds, reason=reason)

    def told(self, now_seconds: float) -> str:
        """Why it is given no calls, for a person; empty when it is."""
        if not self.parked:
            return ""
        left_seconds = self.parked_until - now_seconds
        when = f"parked for {left_seconds:.0f} s more" if left_seconds > 0 else "tried by one call"
        return f"{when}: {self.reason}"
