"""A whole simulated switch: connections in front, the machine behind, and handles for tests.

`run` keeps its timers and heartbeats going and ends only by being cancelled; connections are served by
`serve_stream` (any stream) or `serve_tcp`. Everything a test wants to do to the switch or to the people in it is a
plain method here.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from types import MappingProxyType

import trio

from dialer.errors import UnavailableError
from dialer.simulator import wire
from dialer.simulator.channel import Channel
from dialer.simulator.faults import FaultDice
from dialer.simulator.listener import Listener
from dialer.simulator.machine import Machine
from dialer.simulator.outcalls import call_out
from dialer.simulator.scenario import Outcome, Scenario
from dialer.simulator.statistics import Statistics

CONNECTIONS_LIMIT = 100


class SimulatedSwitch:
    """A FreeSWITCH that is none."""

    def __init__(self, scenario: Scenario, *, rng: random.Random, now: Callable[[], datetime]) -> None:
        self.scenario = scenario
        self._machine = Machine(scenario, rng=rng, now=now)
        self._machine.registrar.start()
        self._machine.on_shutdown = self._shut_down
        self._listeners: list[Listener] = []
        self._rng = rng

    def __repr__(self) -> str:
        return f"<SimulatedSwitch {self._machine!r} connections={len(self._listeners)}>"

    def change_mix(self, gateway: str, mix: Mapping[Outcome, float]) -> None:
        """From now on people called through `gateway` answer otherwise."""
        self._machine.population.change_mix(gateway, mix)

    # running

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let time pass in the switch until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._machine.timers.run)
            nursery.start_soon(self._beat)
            task_status.started()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SimulatedSwitch]:
        """The switch runs while inside."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.run)
            yield self
            nursery.cancel_scope.cancel()

    async def _beat(self) -> None:
        while True:
            await trio.sleep(self.scenario.heartbeat_seconds)
            if not self._machine.down:
                self._machine.heartbeat()

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one connection until it ends; the stream is closed then. A switch that is down closes it at once."""
        if self._machine.down or len(self._listeners) >= CONNECTIONS_LIMIT:
            await trio.aclose_forcefully(stream)
            return
        listener = Listener(self._machine, stream, self._subscriptions_changed)
        faults = self.scenario.faults
        stalling = self._machine.timers.after(faults.connection_stalls_after.draw(self._rng), listener.stall)
        cutting = self._machine.timers.after(faults.connection_resets_after.draw(self._rng), listener.cut)
        self._listeners.append(listener)
        self._machine.sinks.append(listener)
        try:
            await listener.run()
        finally:
            stalling.cancel()
            cutting.cancel()
            self._listeners.remove(listener)
            self._machine.sinks.remove(listener)
            self._subscriptions_changed()

    async def serve_tcp(
        self, host: str, port: int, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve connections on a port until cancelled; 0 picks one. `started` gives the port bound."""
        try:
            sockets = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise UnavailableError(f"The simulator cannot listen on {host}:{port}: {error.strerror}.") from error
        bound: int = sockets[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self.serve_stream, sockets)
            task_status.started(bound)

    def _subscriptions_changed(self) -> None:
        names: set[str] = set()
        for listener in self._listeners:
            if listener.subscription.on:
                names |= listener.subscription.names
        self._machine.wanted = frozenset(names)

    def _shut_down(self) -> None:
        for listener in self._listeners:
            listener.say_goodbye(wire.SHUTTING_DOWN)

    # what there is

    @property
    def channels(self) -> Mapping[str, Channel]:
        """The live channels by uuid; to look at, not to change."""
        return MappingProxyType(self._machine.channels)

    def keep_history(self, channels: list[Channel] | None) -> None:
        """From now on every new channel is added to `channels` too, and stays there as it ended."""
        self._machine.history = channels

    @property
    def registrations(self) -> frozenset[str]:
        """The extensions registered now."""
        return frozenset(self._machine.registrar.registrations)

    @property
    def listeners(self) -> Sequence[Listener]:
        """The open connections, oldest first."""
        return tuple(self._listeners)

    @property
    def core_uuid(self) -> str:
        return self._machine.core_uuid

    @property
    def faults(self) -> FaultDice:
        """To force a fault: `switch.faults.force("bridge_never_comes")`."""
        return self._machine.faults

    def statistics(self) -> Statistics:
        """What the simulated people have lived through."""
        return self._machine.tally.snapshot(len(self._machine.channels), self._machine.faults.happened)

    # what happens to it

    def register(self, extension: str, *, expires: int | None = None) -> None:
        """A phone registers; with `expires` it does so once and is never heard of again."""
        if expires is None:
            self._machine.registrar.register(extension)
        else:
            self._machine.registrar.expire_by_itself(extension, expires)

    def refuse_registration(self, extension: str) -> None:
        """A phone tries to register with a wrong password."""
        self._machine.registrar.refuse(extension)

    def unregister(self, extension: str) -> None:
        self._machine.registrar.unregister(extension)

    def expire(self, extension: str) -> None:
        """The registration runs out now."""
        self._machine.registrar.expire(extension)

    def gateway_state(self, gateway: str, *, up: bool) -> None:
        """A carrier goes down, or comes back."""
        self._machine.registrar.gateway_state(gateway, up)

    def hang_up(self, uuid: str, cause: str = "NORMAL_CLEARING") -> bool:
        """The far end of a channel hangs up; False when there is no such channel."""
        channel = self._machine.find(uuid)
        return channel is not None and self._machine.far_end_hangs_up(channel, cause)

    def press(self, uuid: str, digit: str) -> bool:
        """The far end presses a key; False when there is no such channel."""
        channel = self._machine.find(uuid)
        if channel is None:
            return False
        self._machine.applications.press(channel, digit)
        return True

    def agent_calls_out(self, extension: str, number: str, gateway: str | None = None) -> str:
        """An agent dials by hand; returns the uuid of the agent's leg."""
        return call_out(self._machine, extension, number, gateway or next(iter(self.scenario.gateways)))

    def drop_connections(self, *, in_a_frame: bool = False) -> None:
        """Cut every connection, if asked in the middle of a frame."""
        for listener in tuple(self._listeners):
            listener.cut() if in_a_frame else listener.drop()

    def stall(self, listener: Listener | None = None, *, stalled: bool = True) -> None:
        """A connection, or all of them, goes silent and stays open; or comes back."""
        for each in (listener,) if listener is not None else tuple(self._listeners):
            each.stall(stalled)

    def restart(self) -> None:
        """The switch crashes and is back: no channels, no connections, a new Core-UUID, the sequence from one."""
        self._machine.restart()
        self._machine.registrar.start()
        self.drop_connections()
