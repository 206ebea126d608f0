"""The composition root: everything is built here, top to bottom, and started in nurseries one can see at a glance.

run_daemon
├─ database, Redis                       context managers: last closed
└─ services                              links and everything that keeps house
   ├─ switch × n, presence, roster, wrap-up, gateways, pacing, second look, clock check,
   │                                    loop lag, door, signals
   └─ phones                             nailed-up legs: need links to hang up
      └─ calls                           attempts, outlive their campaign's runner
         └─ dialing                      campaign runners: first to stop
"""

from __future__ import annotations

import gc
import random
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import structlog
import trio

from campaigns import store
from campaigns.database import Database, open_database
from campaigns.list_import import finish_imports
from dialer.agents.nailed_up import NailedUpPhones
from dialer.agents.presence import Presence
from dialer.agents.roster import Facts, Roster
from dialer.calls.gateway import Gateways
from dialer.calls.live_calls import LiveCalls
from dialer.calls.world import World
from dialer.campaign_desk import CampaignDesk
from dialer.campaign_runner import CampaignLease
from dialer.clock import Clock, SystemClock
from dialer.clock_check import ClockCheck
from dialer.desk import Desk
from dialer.door import serve_door
from dialer.errors import ConfigurationError, UnavailableError
from dialer.esl.link import LinkLimits
from dialer.esl.switch import Connect, Switch, SwitchAddress, connect_tcp
from dialer.log import configure_logging
from dialer.metrics import Metrics
from dialer.pacing_desk import PacingDesk
from dialer.records.journal import FileJournal, Journal
from dialer.records.ledger import DatabaseLedger
from dialer.second_look import SecondLook
from dialer.settings import Settings, check_reloadable
from dialer.shared_state import SharedState, open_shared_state, private_redis
from dialer.switch_keeper import SwitchKeeper
from dialer.wrap_up import WrapUp

log = structlog.get_logger()

# After the time for conversations is over, what is cut short is still written down.
LAST_WORDS_SECONDS: Final = 5.0
# A switch that is away longer than this does not keep wrap-ups and dead leases from ending.
RECOVERY_SECONDS: Final = 15.0
RESTORE_AGAIN_SECONDS: Final = 0.5


@asynccontextmanager
async def _shared_state(settings: Settings) -> AsyncIterator[SharedState]:
    redis = settings.redis
    if redis.url is not None:
        async with open_shared_state(redis.url, redis.timeout_seconds) as state:
            yield state
        return
    directory = settings.state_directory / "redis"
    async with private_redis(directory) as url, open_shared_state(url, redis.timeout_seconds) as state:
        yield state


async def run_daemon(
    settings: Settings,
    *,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    connect: Connect = connect_tcp,
    load: Callable[[], Settings] | None = None,
    stop: trio.Event | None = None,
    handle_signals: bool = True,
    task_status: trio.TaskStatus[Daemon] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Runs the dialer until SIGTERM, SIGINT or `stop`; then no call is begun, and conversations get time to end.

    SIGHUP reads the configuration anew with `load`.

    Raises ConfigurationError for what a person must change, an unusable password among it; UnavailableError if the
    database or a configured Redis is away at the start.
    """
    async with (
        open_database(settings.database.url, node=settings.node, exclusive=settings.redis.url is None) as database,
        _shared_state(settings) as state,
    ):
        clock = clock or SystemClock()
        for one in await finish_imports(database, clock.now()):  # lists that a killed import had read whole
            log.info("import_finished", file=one.source, added=one.counts.added, updated=one.counts.updated)
        journal = FileJournal(settings.state_directory / f"results-{settings.node}.journal")
        await journal.open()
        daemon = Daemon(settings, database, state, clock, rng or random.Random(), connect, journal, load)
        await daemon.live(trio.Event() if stop is None else stop, handle_signals, task_status)


class Daemon:
    """The parts, built once. `live` runs them."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        state: SharedState,
        clock: Clock,
        rng: random.Random,
        connect: Connect,
        journal: Journal,
        load: Callable[[], Settings] | None = None,
    ) -> None:
        prefix, calls = settings.redis.prefix, settings.calls
        self.settings = settings
        self.database = database
        self.metrics = Metrics()
        self.switches = {
            one.name: Switch(
                SwitchAddress(one.name, one.host, one.port, one.secret()),
                rng=rng,
                limits=LinkLimits(heartbeat_seconds=one.heartbeat_seconds),
                connect=connect,
            )
            for one in settings.switch
        }
        self.clock_check = ClockCheck(state, clock)
        self.roster = Roster(
            state,
            prefix=prefix,
            clock=clock,
            lease_seconds=calls.agent_lease_seconds,
            clock_is_right=lambda: not self.clock_check.trouble,
        )
        self.gateways = Gateways(
            settings.gateway, state, prefix=prefix, clock=clock, lease_seconds=calls.slot_lease_seconds
        )
        self.ledger = DatabaseLedger(database, clock, settings.node, journal)
        self.presence = Presence(state, self.roster, settings.redis)
        self.world = World(
            node=settings.node,
            clock=clock,
            calls=calls,
            switches=self.switches,
            switch_settings={one.name: one for one in settings.switch},
            gateways=self.gateways,
            roster=self.roster,
            live_calls=LiveCalls(),
            ledger=self.ledger,
            metrics=self.metrics,
            clock_check=self.clock_check,
        )
        self.pacing = PacingDesk(database, clock)
        self.roster.watch(self.pacing)
        lease = CampaignLease(state, prefix=prefix, node=settings.node)
        self.campaigns = CampaignDesk(database, self.world, self.ledger, lease, self.pacing)
        self.second_look = SecondLook(database, clock, self.campaigns.wake_runners)
        self.phones = NailedUpPhones(self.world, self.campaigns.of_team)
        self.wrap_up = WrapUp(self.world, database, self.ledger, self.phones.agent_of)
        self.desk = Desk(
            self.world, database, self.campaigns, self.phones, self.wrap_up, lambda: self.ledger.trouble, self.reload
        )
        self._load = load
        self.keepers = [
            SwitchKeeper(switch, self.world, self.presence, self.phones, self.campaigns, self.ledger, self.wrap_up)
            for switch in self.switches.values()
        ]

    async def live(self, stop: trio.Event, handle_signals: bool, task_status: trio.TaskStatus[Daemon]) -> None:
        """Runs until `stop`, in the order of the nursery tree above."""
        door = self.settings.door
        _prefer_the_event_loop()
        await self.ledger.replay()
        await self.clock_check.check()
        await self._restore_agents()  # before anybody can ask for something at the door
        async with trio.open_nursery() as services:
            if handle_signals:
                services.start_soon(partial(obey_signals, stop, on_hangup=self._reload_and_tell))
            services.start_soon(self.metrics.watch_loop_lag)
            services.start_soon(self.ledger.keep_house)
            services.start_soon(self.clock_check.run)
            services.start_soon(self._keep_agents)
            services.start_soon(self.gateways.keep_house)
            services.start_soon(self.pacing.keep_house)
            services.start_soon(self.presence.run)
            services.start_soon(self.wrap_up.run)
            services.start_soon(self.second_look.run)
            await services.start(serve_door, door.path, int(door.mode, 8), self.desk.verbs())
            async with trio.open_nursery() as phones, trio.open_nursery() as calls:
                self.roster.on_agent_freed(self.campaigns.wake_runners)
                for keeper in self.keepers:
                    services.start_soon(keeper.run, calls)
                phones.start_soon(self.phones.run)
                async with trio.open_nursery() as dialing:
                    dialing.start_soon(self.campaigns.run, calls)
                    log.info("daemon_started", node=self.settings.node, door=str(door.path))
                    task_status.started(self)
                    await stop.wait()
                    log.info("daemon_stopping", calls_in_flight=self.campaigns.calls_in_flight())
                    dialing.cancel_scope.cancel()
                await self._drain()
                for keeper in self.keepers:
                    keeper.stop_recovering()
                calls.cancel_scope.cancel()
                phones.cancel_scope.cancel()
            services.cancel_scope.cancel()
        log.info("daemon_stopped")

    def reload(self) -> str:
        """Reads the configuration anew and takes it over, whole or not at all; says what it did.

        Raises ConfigurationError for a file that is wrong, or that changes what only a restart can.
        """
        if self._load is None:
            raise ConfigurationError("this daemon was started without a configuration file")
        new = self._load()
        check_reloadable(self.settings, new)
        changed = [name for name in ("gateway", "calls", "log") if getattr(self.settings, name) != getattr(new, name)]
        self.gateways.configure(new.gateway)
        self.world.calls = new.calls
        if "log" in changed:
            configure_logging(new.log.level, new.log.format)
        self.settings = new
        if "gateway" in changed:
            self.second_look.trunks_changed()
        return f"taken over: {', '.join(changed)}" if changed else "nothing in the configuration has changed"

    def _reload_and_tell(self) -> None:
        try:
            log.info("configuration_reloaded", result=self.reload())
        except ConfigurationError as error:
            log.error("configuration_refused", error=str(error))

    async def _drain(self) -> None:
        """Takes back what rings, and waits for conversations as long as the settings say."""
        for attempt in self.campaigns.attempts():
            attempt.take_back()
        with trio.move_on_after(self.settings.calls.drain_seconds + LAST_WORDS_SECONDS):
            while self.campaigns.calls_in_flight() or self.ledger.unwritten:  # noqa: ASYNC110 - two owners, one end
                await trio.sleep(0.05)

    async def _keep_agents(self) -> None:
        """Leases run out only after recovery had its chance to renew what a former life held."""
        while not await self._restore_agents():  # noqa: ASYNC110 - Redis tells nobody that it is back
            await trio.sleep(RESTORE_AGAIN_SECONDS)
        with trio.move_on_after(RECOVERY_SECONDS):
            for switch in self.switches.values():
                await switch.wait_ready()
        await self.roster.keep_house(self._known_of_agents)

    async def _restore_agents(self) -> bool:
        """Tells Redis of the agents, should it know none; False if that was not possible."""
        try:
            await self.roster.restore(await self._known_of_agents())
        except UnavailableError as error:
            log.warning("roster_unavailable", error=str(error))
            return False
        return True

    async def _known_of_agents(self) -> Facts:
        """Everything that a Redis without data must be told of agents: who is logged in, where, on which leg."""
        await self.gateways.renew()  # no call may be placed over a trunk's limit once agents are idle again
        logins = await self.database.read(store.agent_logins)
        facts: defaultdict[str, dict[str, str | int]] = defaultdict(dict)
        for login in logins:
            facts[login.extension] |= {
                "wants": login.wants,
                "campaign": login.campaign,
                "phones": login.phones,
                "node": login.node,
            }
        for source in (self.presence.facts(), self.phones.facts()):
            for extension, known in source.items():
                facts[extension] |= known
        return facts


def _prefer_the_event_loop() -> None:
    """Keeps the interpreter's own work out of the way of calls; measured with bench/bridge_latency.py."""
    # What the modules have made lives as long as the process. Without this the garbage collector looks through all of
    # it again and again, 150 ms each time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(1_000, 10, 100)
    # A thread that computes gives way after half a millisecond instead of five.
    sys.setswitchinterval(0.0005)


async def obey_signals(stop: trio.Event, *, on_hangup: Callable[[], None] | None = None) -> None:
    """The first SIGTERM or SIGINT stops in good order; the second ends the process as the system does.

    SIGHUP calls `on_hangup`; without one it stops too, since it means that the terminal has gone.
    """

    async def obey_hangups(hangups: AsyncIterator[int]) -> None:
        async for _ in hangups:
            log.info("signal_received", signal="SIGHUP")
            (stop.set if on_hangup is None else on_hangup)()

    # While it stops, too: by itself SIGHUP would end the process.
    with trio.open_signal_receiver(signal.SIGHUP) as hangups:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(obey_hangups, hangups)
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as stops:
                log.info("signal_received", signal=signal.Signals(await anext(stops)).name)
                stop.set()
            # Python's own answer to a second Ctrl-C is an exception, somewhere in the middle of stopping.
            before = signal.signal(signal.SIGINT, signal.SIG_DFL)
            try:
                await trio.sleep_forever()
            finally:
                signal.signal(signal.SIGINT, before)
