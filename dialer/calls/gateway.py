"""Trunks: how many calls each carries at once and starts in a second, over all campaigns and daemons.

A slot is the attempt's uuid in a set, under a lease that its daemon renews: no counter that could leak, and a dead
daemon's slots come free by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
import trio

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
        self.held: set[str] = set()
        self._owed: set[str] = set()  # given back while Redis was away
        self._script = script
        self._clock = clock
        self._keys = [f"{prefix}gateway:{settings.name}", f"{prefix}gateway_rate:{settings.name}"]
        self._lease_ms = int(lease_seconds * 1000)

    def __repr__(self) -> str:
        return f"<Gateway {self.name} holding {len(self.held)} of {self.settings.concurrency} slots>"

    @property
    def name(self) -> str:
        return self.settings.name

    async def _do(self, verb: str, *args: str | int | float) -> Any:
        return await self._script(self._keys, [verb, int(self._clock.now().timestamp() * 1000), *args])

    async def take(self, uuids: Sequence[str]) -> list[str]:
        """Takes a slot for as many of `uuids` as limit and rate allow, and gives those that got one."""
        if not uuids:
            return []
        limits = self.settings
        granted = await self._do("take", limits.concurrency, limits.calls_per_second, self._lease_ms, *uuids)
        taken = list(uuids[: int(granted)])
        self.held.update(taken)
        return taken

    async def adopt(self, uuid: str) -> None:
        """Holds a slot for a call that is there already, whatever the limit."""
        await self._do("adopt", self._lease_ms, uuid)
        self.held.add(uuid)

    async def release(self, *uuids: str) -> None:
        """Gives slots back. With Redis away their leases do it in time."""
        await self._give("release", uuids)

    async def put_back(self, *uuids: str) -> None:
        """Gives slots back that no call was begun with: the rate has them again too."""
        await self._give("unused", uuids)

    async def _give(self, verb: str, uuids: Sequence[str]) -> None:
        self.held.difference_update(uuids)
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
        renewed = tuple(self.held)
        if renewed:
            await self._do("adopt", self._lease_ms, *renewed)
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
        self.configure(settings)

    def configure(self, settings: Sequence[GatewaySettings]) -> None:
        """From now on there are these trunks. Calls on one that is gone go on."""
        before, self._by_name = self._by_name, {}
        for one in settings:
            gateway = self._by_name[one.name] = before.get(one.name) or self._make(one)
            gateway.settings = one

    def __getitem__(self, name: str) -> Gateway:
        return self._by_name[name]

    def get(self, name: str) -> Gateway | None:
        return self._by_name.get(name)

    def all(self) -> list[Gateway]:
        return list(self._by_name.values())

    async def renew(self) -> None:
        """Puts off the end of the leases of all slots held here. Raises UnavailableError."""
        for gateway in self._by_name.values():
            await gateway.renew()

    async def keep_house(self) -> None:
        """Renews the leases of all held slots until cancelled, and gives back what is owed."""
        renewed_at = trio.current_time()
        while True:
            await trio.sleep(min(LOOK_SECONDS, self._lease_seconds / 3))
            try:
                for gateway in self._by_name.values():
                    await gateway.give_owed()
                if trio.current_time() - renewed_at >= self._lease_seconds / 3:
                    await self.renew()
                    renewed_at = trio.current_time()
            except UnavailableError as error:
                log.warning("slots_not_renewed", error=str(error))
