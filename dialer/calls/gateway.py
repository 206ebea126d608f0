"""Trunks: how many calls each carries at once and starts in a second, over all campaigns and daemons.

A slot is the attempt's uuid in a set, under a lease that its daemon renews: no counter that could leak, and a dead
daemon's slots come free by themselves. A trunk that is down, or parked after a run of faults, gives no slots; what is
known of that is this daemon's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from campaigns.trunk import Trunk
from dialer.calls.failover import Sign
from dialer.calls.trunk_health import Health, Patience
from dialer.calls.trunk_line import Line
from dialer.clock import Clock
from dialer.errors import UnavailableError
from dialer.redis_scripts import Script
from dialer.settings import GatewaySettings
from dialer.shared_state import SharedState

log = structlog.get_logger()

LOOK_SECONDS: Final = 1.0


class Gateway:
    """One trunk. Methods raise UnavailableError when Redis is away."""

    def __init__(
        self, settings: GatewaySettings, script: Script, *, prefix: str, clock: Clock, lease_seconds: float
    ) -> None:
        self.settings = settings
        self.health = Health()
        self.line = Line()
        self.held: set[str] = set()
        self._owed: set[str] = set()  # given back while Redis was away
        self._script = script
        self._clock = clock
        self._keys = [f"{prefix}gateway:{settings.name}", f"{prefix}gateway_rate:{settings.name}"]
        self._lease_ms = int(lease_seconds * 1000)
        self._sure_until = clock.now()  # no lease of those held here ends before

    def __repr__(self) -> str:
        parked = ", parked" if self.health.parked else ""
        held = f"{len(self.held)} of {self.settings.concurrency} slots"
        return f"<Gateway {self.name} holding {held}, {self.line.status}{parked}>"

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def trunk(self) -> Trunk:
        """What campaigns know of it."""
        return self.settings.trunk()

    # Whether it takes calls.

    @property
    def trouble(self) -> str:
        """What is wrong with it, for a person; empty when all is well."""
        return self.line.told(self.settings.sofia_name) or self.health.told(trio.current_time())

    @property
    def rests(self) -> bool:
        """Whether it is given no call at all now."""
        return not self.line.carries or self.health.allowance(trio.current_time()) == 0

    def heard(self, sign: Sign, uuid: str, failure: str, *, refused_before: bool = False) -> bool:
        """The call `uuid` tells `sign` of it; True if it is parked for that.

        `refused_before`: its lead was refused by a trunk when it was last called, too.
        """
        settings, before = self.settings, self.health
        patience = Patience(settings.park_after_faults, settings.park_seconds, settings.park_seconds_most)
        self.health = before.after(sign, uuid, failure, trio.current_time(), patience, refused_before=refused_before)
        if self.health.parked and self.health.parked_until != before.parked_until:
            log.warning("gateway_parked", gateway=self.name, seconds=self.health.rest_seconds, reason=self.trouble)
            return True
        if before.parked and not self.health.parked:
            log.info("gateway_back", gateway=self.name)
        return False

    def line_is(self, line: Line) -> None:
        """Its switch says so of it. When it comes up it is tried at once, should it be parked."""
        before, self.line = self.line, line
        if line.status != before.status:
            if not line.carries:
                log.warning("gateway_down", gateway=self.name, reason=self.trouble)
            elif not before.carries:
                log.info("gateway_up", gateway=self.name)
        if line.status == "up" and not before.carries:
            self.health = self.health.rested()

    # Slots.

    async def _do(self, verb: str, *args: str | int | float) -> Any:
        return await self._script(self._keys, [verb, int(self._clock.now().timestamp() * 1000), *args])

    async def take(self, uuids: Sequence[str]) -> list[str]:
        """Takes a slot for as many of `uuids` as limit and rate allow, and gives those that got one.

        None while it is down or parked, and a single one to try it after that.
        """
        allowance = self.health.allowance(trio.current_time()) if self.line.carries else 0
        if allowance is not None:
            uuids = uuids[:allowance]
        if not uuids:
            return []
        if allowance is not None:  # before anybody else can ask
            self.health = self.health.tried_by(uuids[0])
        limits, taken = self.settings, list[str]()
        try:
            if self.held and self._clock.now() >= self._sure_until:
                await self.renew()  # Redis was away for long, or the clock was set: they are ours all the same
            now = self._clock.now()
            granted = await self._do("take", limits.concurrency, limits.calls_per_second, self._lease_ms, *uuids)
            taken = list(uuids[: int(granted)])
            self._hold(taken, now)
        finally:
            if not taken:
                self.health = self.health.without(uuids[0])
        return taken

    async def adopt(self, uuid: str) -> None:
        """Holds a slot for a call that is there already, whatever the limit."""
        now = self._clock.now()
        await self._do("adopt", self._lease_ms, uuid)
        self._hold([uuid], now)

    def _hold(self, uuids: Sequence[str], now: datetime) -> None:
        if not self.held:
            self._sure_until = now + timedelta(milliseconds=self._lease_ms)
        self.held.update(uuids)

    async def release(self, *uuids: str) -> None:
        """Gives slots back. With Redis away their leases do it in time."""
        await self._give("release", uuids)

    async def put_back(self, *uuids: str) -> None:
        """Gives slots back that no call was begun with: the rate has them again too."""
        await self._give("unused", uuids)

    async def _give(self, verb: str, uuids: Sequence[str]) -> None:
        self.held.difference_update(uuids)
        for uuid in uuids:
            self.health = self.health.without(uuid)
        if uuids:
            try:
                await self._do(verb, *uuids)
            except UnavailableError as error:
                self._owed.update(uuids)
                log.error("slot_release_failed", gateway=self.name, attempts=len(uuids), error=str(error))

    async def give_owed(self) -> None:
        """Gives back what could not be given back before."""
        owed = tuple(self._owed)
        if owed:
            await self._do("release", *owed)
            self._owed.difference_update(owed)

    async def used(self) -> int:
        """How many slots are taken, by every daemon."""
        return int(await self._do("used"))

    async def renew(self) -> None:
        """Puts off the end of the leases of all slots held here."""
        renewed, now = tuple(self.held), self._clock.now()
        if renewed:
            await self._do("adopt", self._lease_ms, *renewed)
            self._sure_until = now + timedelta(milliseconds=self._lease_ms)
            # Given back meanwhile, and perhaps before this: then it stands there again, and nobody's.
            await self.release(*(uuid for uuid in renewed if uuid not in self.held))


class Gateways:
    """All configured trunks, by name."""

    def __init__(
        self,
        settings: Sequence[GatewaySettings],
        state: SharedState,
        *,
        prefix: str,
        clock: Clock,
        lease_seconds: float,
    ) -> None:
        script = state.script(Path(__file__).with_name("gateway.lua"))
        self._lease_seconds = lease_seconds
        self._make = partial(Gateway, script=script, prefix=prefix, clock=clock, lease_seconds=lease_seconds)
        self._by_name: dict[str, Gateway] = {}
        self._ever: dict[str, Gateway] = {}  # those that are gone too: calls on them go on
        self.configure(settings)

    def configure(self, settings: Sequence[GatewaySettings]) -> None:
        """From now on there are these trunks. Calls on one that is gone go on."""
        self._by_name = {}
        for one in settings:
            gateway = self._by_name[one.name] = self._ever[one.name] = self._ever.get(one.name) or self._make(one)
            was = gateway.settings
            if (was.switch, was.sofia_name) != (one.switch, one.sofia_name):  # another trunk under the same name
                gateway.line, gateway.health = Line(), Health()
            gateway.settings = one

    def __getitem__(self, name: str) -> Gateway:
        """The trunk called `name`, also one that is gone: a call may have been leased for it by then."""
        return self._ever[name]

    def get(self, name: str) -> Gateway | None:
        return self._by_name.get(name)

    def all(self) -> list[Gateway]:
        return list(self._by_name.values())

    def on_switch(self, switch: str) -> list[Gateway]:
        """Those that are on the switch called `switch`."""
        return [gateway for gateway in self._by_name.values() if gateway.settings.switch == switch]

    async def renew(self) -> None:
        """Puts off the end of the leases of all slots held here. Raises UnavailableError."""
        for gateway in list(self._ever.values()):
            await gateway.renew()

    async def keep_house(self) -> None:
        """Renews the leases of all held slots until cancelled, and gives back what is owed."""
        renewed_at = trio.current_time()
        while True:
            await trio.sleep(min(LOOK_SECONDS, self._lease_seconds / 3))
            try:
                for gateway in list(self._ever.values()):
                    await gateway.give_owed()
                if trio.current_time() - renewed_at >= self._lease_seconds / 3:
                    await self.renew()
                    renewed_at = trio.current_time()
            except UnavailableError as error:
                log.warning("slots_not_renewed", error=str(error))
