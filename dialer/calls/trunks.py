"""Over which trunks a campaign's calls go out: their order, and slots taken from one after the other.

Cheap before dear, a lower tier before a higher one; trunks with a weight share what is alike (config/dialer.toml says
it whole). A lead may not fit the slots at hand: its trunk has just failed it, or must not call it. It keeps its turn
all the same: the next trunks are asked for it, and only when none of them has room do others go before it.
"""

from __future__ import annotations

import uuid as uuids
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby

import structlog
import trio

from campaigns.leases import Lease, Leased
from campaigns.slots import Slot
from campaigns.turns import Turns
from dialer.calls.gateway import Gateway, Gateways
from dialer.errors import UnavailableError
from dialer.esl.switch import Switch
from dialer.settings import GatewaySettings

log = structlog.get_logger()

# For these slots; and whether leads that fit none of them keep their turn.
Ask = Callable[[Sequence[Slot], bool], Awaitable[Leased]]


def in_order(settings: Sequence[GatewaySettings]) -> list[list[GatewaySettings]]:
    """Trunks, given as the campaign names them, in the order they are tried; those in one group share by weight."""

    def rank(one: GatewaySettings) -> tuple[int, float, bool]:
        return one.tier, one.cost_per_minute, one.weight == 0

    groups: list[list[GatewaySettings]] = []
    for (_, _, unweighted), alike in groupby(sorted(settings, key=rank), key=rank):
        group = list(alike)
        groups += [[one] for one in group] if unweighted else [group]
    return groups


def others_for(lease: Lease, names: Collection[str], gateways: Gateways, switches: Mapping[str, Switch]) -> list[str]:
    """Those of the trunks called `names`, but the lease's own, that take calls now and may carry this one.

    How often they have called the number today is not known here: it is looked at when the call is leased anew.
    """
    found = []
    for name in names:
        gateway = gateways.get(name)
        if gateway is None or name == lease.gateway or gateway.rests:
            continue
        if not switches[gateway.settings.switch].ready:
            continue
        if gateway.trunk.area_verdict(lease.number, lease.region) is None:
            found.append(name)
    return found


class Dispatcher:
    """Brings leads and slots together for one campaign, and remembers whose turn it is among trunks that share."""

    def __init__(self) -> None:
        self._credits: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Dispatcher {self._credits}>"

    async def lease(self, calls: int, gateways: Sequence[Gateway], ask: Ask) -> Leased | None:
        """Leases leads for up to `calls` calls over `gateways`, which are on one switch; None if no trunk had room.

        `ask` leases leads for slots, and may be asked several times. Slots that no lead was found for are given back,
        whatever happens. Raises UnavailableError, unless some were leased by then: these are told, and nothing cuts
        it short any more.
        """
        by_name = {gateway.name: gateway for gateway in gateways}
        round_ = _Round(in_order([gateway.settings for gateway in gateways]), by_name, self._credits)
        found = Leased()
        try:
            found = await self._serve(calls, round_, ask)
        finally:
            await round_.put_back({lease.uuid for lease in found.leases})
        if not round_.slots:
            return None
        self._credits = round_.credits_after(Counter(lease.gateway for lease in found.leases))
        return found

    async def _serve(self, calls: int, round_: _Round, ask: Ask) -> Leased:
        leases: list[Lease] = []
        blocked: Counter[str] = Counter()
        passed_by: list[Slot] = []  # they do not fit leads that keep their turn
        unfitted = left = calls
        more = asleep = False
        try:
            while left and unfitted:
                with trio.CancelScope(shield=bool(leases)):
                    slots = await round_.take(min(left, unfitted))
                    if not slots:  # nobody has room for them: whoever is behind them may have what they do not fit
                        slots, passed_by = passed_by[:left], []
                    if not slots:
                        break
                    in_turn = round_.more or bool(passed_by)
                    found = await ask(slots, in_turn)
                leases += found.leases
                blocked.update(found.blocked)
                unfitted, left, more = found.unfitted, left - len(found.leases), found.more
                asleep = found.asleep
                if in_turn:
                    used = {lease.uuid for lease in found.leases}
                    passed_by += [slot for slot in slots if slot.uuid not in used]
        except UnavailableError as error:
            if not leases:
                raise
            log.warning("further_trunks_not_asked", error=str(error))
        return Leased(leases, unfitted, blocked, more, asleep)


class _Round:
    """Slots taken for one decision; a trunk that has been asked is not asked again when leads fit none of them."""

    def __init__(
        self, groups: list[list[GatewaySettings]], gateways: Mapping[str, Gateway], credits: Mapping[str, float]
    ) -> None:
        self.slots: list[Slot] = []
        self._groups = groups
        self._gateways = gateways
        self._credits = credits
        self._asked: set[str] = set()

    @property
    def more(self) -> bool:
        """Whether there are trunks that have not been asked."""
        return any(one.name not in self._asked for group in self._groups for one in group)

    async def take(self, wanted: int) -> list[Slot]:
        """Up to `wanted` slots of trunks not asked yet, the first ones first. Raises UnavailableError."""
        found: list[Slot] = []
        for group in self._groups:
            fresh = [one for one in group if one.name not in self._asked]
            if fresh and len(found) < wanted:
                found += await self._take_of(fresh, wanted - len(found))
        return found

    async def _take_of(self, group: list[GatewaySettings], wanted: int) -> list[Slot]:
        found: list[Slot] = []
        full: set[str] = set()
        for name, share in _shares(group, self._credits, wanted):
            taken = await self._take_over(name, share)
            found += taken
            if len(taken) < share:
                full.add(name)
        for one in group:  # what some had no room for
            if one.name not in full and len(found) < wanted:
                found += await self._take_over(one.name, wanted - len(found))
        return found

    async def _take_over(self, name: str, calls: int) -> list[Slot]:
        self._asked.add(name)
        gateway = self._gateways[name]
        taken = await gateway.take([str(uuids.uuid4()) for _ in range(calls)])
        slots = [Slot(uuid, name, gateway.settings.switch) for uuid in taken]
        self.slots += slots
        return slots

    async def put_back(self, used: Collection[str]) -> None:
        """Gives back every slot but those whose uuid is in `used`."""
        for name in self._asked:
            unused = [slot.uuid for slot in self.slots if slot.gateway == name and slot.uuid not in used]
            with trio.CancelScope(shield=True):
                await self._gateways[name].put_back(*unused)

    def credits_after(self, placed: Mapping[str, int]) -> dict[str, float]:
        """What trunks that share are owed, once so many calls each are placed."""
        credits = dict(self._credits)
        for group in self._groups:
            if len(group) < 2:
                continue
            turns = _turns(group, credits)
            for index, one in enumerate(group):
                for _ in range(placed.get(one.name, 0)):
                    turns.take(index)
            # One that gets no calls at all, since no number is for it, is not to be owed them all some day.
            most = float(sum(one.weight for one in group))
            for index, credit in turns.credits.items():
                credits[group[index].name] = max(-most, min(most, credit))
        return credits


def _turns(group: Sequence[GatewaySettings], credits: Mapping[str, float]) -> Turns:
    return Turns((index, one.weight, credits.get(one.name, 0.0)) for index, one in enumerate(group))


def _shares(group: Sequence[GatewaySettings], credits: Mapping[str, float], calls: int) -> Iterator[tuple[str, int]]:
    """How many of `calls` each of `group` is to carry, those with none left out, the one whose turn it is first."""
    if len(group) == 1:
        yield group[0].name, calls
        return
    turns = _turns(group, credits)
    shares: Counter[int] = Counter()
    for _ in range(calls):
        index = turns.next()
        assert index is not None  # none leaves
        turns.take(index)
        shares[index] += 1
    for index, share in shares.items():
        yield group[index].name, share
