"""The whole daemon in virtual time, with everything around it breakable at any point.

Redis is real and its scripts are its own, but each runs at once, in place; so does each unit of work, on a real
SQLite in memory. No thread runs, no time passes but trio's: a story is the same each time, and a minute takes
milliseconds.
"""

from __future__ import annotations

import gc
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar, cast
from unittest.mock import patch
from uuid import uuid4

import attrs
import redis
import structlog
import trio
import trio.testing
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool
from sqlmodel import Session, SQLModel, select

from campaigns import store
from campaigns.campaign import Campaign, CampaignStatus, parse_campaign
from campaigns.database import Database
from campaigns.lead import LeadStatus
from campaigns.tables import AttemptRow, CallOutcomeRow, CdrRow, LeadRow, SuppressionRow
from dialer import campaign_runner
from dialer import daemon as daemon_module
from dialer.agents import nailed_up as nailed_up_module
from dialer.agents import roster as roster_module
from dialer.agents.agent import Agent
from dialer.calls import attempt as attempt_module
from dialer.clock import TrioClock
from dialer.daemon import Daemon
from dialer.errors import DialerError, OutcomeUnknownError, UnavailableError
from dialer.esl.switch import SwitchAddress
from dialer.metrics import Metrics
from dialer.records import ledger as ledger_module
from dialer.redis_scripts import Late
from dialer.settings import Settings, parse_settings
from dialer.shared_state import SharedState, unavailable
from dialer.simulator.channel import Channel, Side
from dialer.simulator.scenario import Scenario
from dialer.simulator.switch import SimulatedSwitch
from tests.faults.wire import Disorder, DisorderedStream
from tests.house import ALWAYS, QUICK, merged

T = TypeVar("T")

PHONES = [{"extensions": "1000-1002", "answer_delay": 0.05}]  # each is read anew at each connect
NOON = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)  # a Monday, noon in New York
TIMEOUT_SECONDS = 2.0
GIVE_UP_SECONDS = 900.0  # of virtual time: longer than any lease, handle or deadline together


class Trouble(Enum):
    """How a request to Redis or the database goes wrong."""

    REFUSED = auto()  # it did not happen
    UNANSWERED = auto()  # it happened, and nobody was told
    HANGING = auto()  # it did not happen, and that took its time


class Faults:
    """What goes wrong at the n-th request, or with all of them while `down`."""

    def __init__(self) -> None:
        self.requests = 0
        self.at: dict[int, Trouble] = {}
        self.down: Trouble | None = None
        self.on_request: Callable[[int], None] = lambda _number: None

    def next(self) -> Trouble | None:
        self.requests += 1
        self.on_request(self.requests)
        return self.at.get(self.requests, self.down)


@attrs.define
class Life:
    """One life of the daemon. What it asks for after its death does not happen."""

    alive: bool = True


async def _request(
    life: Life, faults: Faults, unknown: type[Exception], work: Callable[[], T], late: Late | None = None
) -> T:
    await trio.lowlevel.checkpoint()
    trouble = faults.next() if life.alive else Trouble.REFUSED
    if trouble is Trouble.HANGING:
        try:
            with trio.CancelScope(shield=late is None):
                await trio.sleep(TIMEOUT_SECONDS)
        except trio.Cancelled:
            if late is not None:
                late(UnavailableError("it is away"))
            raise
    if trouble in (Trouble.HANGING, Trouble.REFUSED) or not life.alive:
        raise UnavailableError("it is away")
    result = work()
    if trouble is Trouble.UNANSWERED:
        raise unknown("it did not answer")
    return result


class Prompt:
    """A ScriptRunner that nobody waits for."""

    lag_seconds = 0.0


class InlineState:
    """SharedState without threads."""

    def __init__(self, client: redis.Redis, faults: Faults, life: Life, time: Callable[[], datetime]) -> None:
        self._time = time
        self._client = client
        self._faults = faults
        self._life = life
        self.scripts = Prompt()

    async def run(self, work: Callable[[redis.Redis], T], late: Late | None = None) -> T:
        try:
            return await _request(self._life, self._faults, UnavailableError, lambda: work(self._client), late)
        except redis.ResponseError as error:
            raise unavailable(error, "virtual") from error

    async def time(self) -> datetime:
        return await self.run(lambda _client: self._time())

    def script(self, path: Path) -> Any:
        registered = self._client.register_script(path.read_text(encoding="utf-8"))

        async def call(keys: Sequence[str], args: Sequence[str | int | float], late: Late | None = None) -> Any:
            return await self.run(lambda _client: registered(keys=keys, args=args), late)

        return call


class InlineDatabase:
    """Database without threads."""

    name = "sqlite in memory"

    def __init__(self, engine: Any, faults: Faults, life: Life) -> None:
        self._engine = engine
        self._faults = faults
        self._life = life

    async def write(self, work: Callable[[Session], T]) -> T:
        return await _request(self._life, self._faults, OutcomeUnknownError, lambda: self.do(work))

    async def read(self, work: Callable[[Session], T]) -> T:
        await trio.lowlevel.checkpoint()
        if not self._life.alive or self._faults.down is not None:
            raise UnavailableError("it is away")
        return self.do(work)

    def do(self, work: Callable[[Session], T]) -> T:
        with Session(self._engine, expire_on_commit=False) as session:
            result = work(session)
            session.commit()
            return result


class InlineJournal:
    """A journal on a disk that outlives the daemon."""

    def __init__(self, kept: list[bytes], life: Life) -> None:
        self._kept = kept
        self._life = life

    async def append(self, entries: Sequence[bytes]) -> None:
        await trio.lowlevel.checkpoint()
        if self._life.alive:
            self._kept += entries

    async def entries(self) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        return list(self._kept)

    async def clear(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._life.alive:
            self._kept.clear()


_SETTINGS = """
node = "test"
[[switch]]
name = "fs"
[[gateway]]
name = "carrier_a"
switch = "fs"
caller_id = "+12025550100"
concurrency = {concurrency}
calls_per_second = 1000
{gateway}
[redis]
prefix = "{prefix}"
registrations_key = "{prefix}registrations"
registrations_channel = "{prefix}registrations"
calls_key = "{prefix}calls"
calls_channel = "{prefix}calls"
[calls]
drain_seconds = 5
agent_lease_seconds = 5
slot_lease_seconds = 5
parked_leg_seconds = 30
"""


class VirtualHouse:
    """A simulated switch, Redis and a database that stay, and daemons that come and go."""

    def __init__(
        self,
        redis_url: str,
        *,
        seed: int = 1,
        changes: Mapping[str, Any] | None = None,
        concurrency: int = 50,
        gateway: str = "",
        start: datetime = NOON,
    ) -> None:
        """`changes` are those of the switch; `gateway` adds to the settings of the trunk, or blocks for others."""
        self.prefix = f"virtual:{uuid4().hex}:"
        text = _SETTINGS.format(prefix=self.prefix, concurrency=concurrency, gateway=gateway)
        self.settings: Settings = parse_settings(text, "test")
        self.redis_faults = Faults()
        self.database_faults = Faults()
        self.disorder = Disorder()
        self.journal: list[bytes] = []
        self.client = _client(redis_url)
        self.engine = _empty_database()
        self.clock = TrioClock(start)
        self.redis_ahead = timedelta()
        self.rng = random.Random(seed)
        scenario = Scenario.model_validate(merged(merged(QUICK, {"phones": PHONES}), changes or {}))
        self.switch = SimulatedSwitch(scenario, rng=random.Random(seed), now=self.clock.now)
        self.people: list[Channel] = []
        self.daemon: Daemon = cast(Daemon, None)
        self.wants_ready: set[str] = set()
        self.unreachable = False  # nobody gets a connection to the switch
        self.lives = 0
        self._life = Life(alive=False)
        self._scope = trio.CancelScope()
        self._stop = trio.Event()
        self._over = trio.Event()
        self._nursery: trio.Nursery
        self._everything = InlineDatabase(self.engine, Faults(), Life())

    @asynccontextmanager
    async def standing(self) -> AsyncIterator[VirtualHouse]:
        """The switch runs; at the end whatever daemon lives is killed."""
        self.switch.keep_history(self.people)
        try:
            async with self.switch.running(), trio.open_nursery() as self._nursery:
                yield self
                await self.kill()
                self._nursery.cancel_scope.cancel()
        finally:
            self.lose_redis_data()

    def redis_time(self) -> datetime:
        """What the clock of Redis' machine says."""
        return self.clock.now() + self.redis_ahead

    # The daemon's lives.

    async def start(self) -> None:
        """A daemon is born. It comes up when it can."""
        assert not self._life.alive
        self.lives += 1
        self._life, self._scope, self._stop, self._over = Life(), trio.CancelScope(), trio.Event(), trio.Event()
        state = InlineState(self.client, self.redis_faults, self._life, self.redis_time)
        database = InlineDatabase(self.engine, self.database_faults, self._life)
        self.daemon = Daemon(
            self.settings,
            cast(Database, database),
            cast(SharedState, state),
            self.clock,
            random.Random(self.lives),
            self._connect,
            InlineJournal(self.journal, self._life),
        )
        await self._nursery.start(self._live)

    async def _live(self, task_status: trio.TaskStatus[None]) -> None:
        over, started = self._over, False
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self.daemon.live, self._stop, False)
                    started = True
                    task_status.started()
        finally:
            over.set()
            if not started:  # killed before it was up
                task_status.started()

    def kill_now(self) -> None:
        """As kill -9: from now on nothing it says is heard. `kill` waits until it is gone."""
        self._life.alive = False
        self.switch.drop_connections()
        self._scope.cancel()

    async def kill(self) -> None:
        if self._life.alive:
            self.kill_now()
        await self._over.wait() if self.lives else None

    async def over(self) -> None:
        """Returns when the daemon's life is over."""
        await self._over.wait()

    async def stop(self) -> None:
        """As SIGTERM, and waits for the end of it."""
        self._stop.set()
        await self._over.wait()
        self._life.alive = False

    async def _connect(self, _address: SwitchAddress) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if self.unreachable:
            raise OSError("it is unreachable")
        here, there = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.switch.serve_stream, there)
        return DisorderedStream(here, self.disorder)

    # What people do.

    async def begin(
        self, numbers: Sequence[str], agents: Sequence[str], *, running: bool = True, **changes: str
    ) -> None:
        """A campaign over `numbers` with `agents` ready for it."""
        definition = campaign(**changes)
        now = self.clock.now()
        self.sql(lambda session: store.add_campaign(session, definition, now))
        self.add_leads(numbers)
        for extension in agents:
            await self.daemon.desk.agent_ready(extension, "test")
        if running:
            await self.begin_running()

    def add_leads(self, numbers: Iterable[str], campaign_id: int = 1) -> None:
        """People to call, each due now."""
        now = self.clock.now()

        def add(session: Session) -> None:
            mine = store.lead_list(session, campaign_id, "list", now)
            session.add_all(lead(number, now, campaign_id, mine.id or 0) for number in numbers)

        self.sql(add)

    async def begin_running(self) -> None:
        """The campaign is started, as the command line does it."""
        now = self.clock.now()
        self.sql(lambda session: store.set_campaign_status(session, "test", CampaignStatus.RUNNING, now))
        await self.daemon.desk.campaigns_changed()

    def calm(self) -> None:
        """Nothing goes wrong any more."""
        for faults in (self.redis_faults, self.database_faults):
            faults.at, faults.down, faults.on_request = {}, None, lambda _number: None
        self.disorder.at = {}
        self.unreachable = False

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Calls `action` in `seconds`."""

        async def wait_and_act() -> None:
            await trio.sleep(seconds)
            action()

        self._nursery.start_soon(wait_and_act)

    def lose_redis_data(self) -> None:
        """As a Redis that is restarted and keeps nothing on disk."""
        for key in self.client.scan_iter(f"{self.prefix}*", count=1000):
            self.client.delete(key)

    async def agents_come_back(self) -> None:
        """Agents in `wants_ready`, and those that the daemon has paused, make themselves ready again."""
        while True:
            await trio.sleep(1.0)
            for agent in await self.agents_as_they_are():
                if agent.get("campaign") and agent.get("wants") == "pause" and not self.wants_ready:
                    self.wants_ready.add(agent["extension"])
            for extension in list(self.wants_ready):
                try:
                    await self.daemon.desk.agent_ready(extension, "test")
                    self.wants_ready.discard(extension)
                except DialerError:
                    continue

    async def come_back_all(self, extensions: Sequence[str]) -> None:
        """Every agent makes themselves ready, however often they must ask."""
        for extension in extensions:
            self.switch.register(extension)
            while True:
                try:
                    await self.daemon.desk.agent_ready(extension, "test")
                    break
                except DialerError:
                    await trio.sleep(0.5)

    async def agents_as_they_are(self) -> list[dict[str, str]]:
        await trio.lowlevel.checkpoint()
        keys = list(self.client.scan_iter(f"{self.prefix}agent:*", count=1000))
        pipeline = self.client.pipeline(transaction=False)
        for key in keys:
            pipeline.hgetall(key)
        hashes: list[Any] = pipeline.execute()
        return [{**agent, "extension": key.rpartition(":")[2]} for key, agent in zip(keys, hashes, strict=True)]

    # What there is.

    def sql(self, work: Callable[[Session], T]) -> T:
        """Runs `work` on the database, whatever is wrong with it for the daemon."""
        return self._everything.do(work)

    def leads(self) -> Sequence[LeadRow]:
        return self.sql(lambda session: session.exec(select(LeadRow)).all())

    def attempts(self) -> Sequence[AttemptRow]:
        return self.sql(lambda session: session.exec(select(AttemptRow)).all())

    def cdrs(self) -> Sequence[CdrRow]:
        return self.sql(lambda session: session.exec(select(CdrRow)).all())

    def suppressions(self) -> Sequence[SuppressionRow]:
        return self.sql(lambda session: session.exec(select(SuppressionRow)).all())

    def outcomes(self) -> Sequence[CallOutcomeRow]:
        return self.sql(lambda session: session.exec(select(CallOutcomeRow)).all())

    @property
    def words(self) -> bool:
        """Whether the campaign has outcomes of its own."""
        return bool(self.sql(lambda session: store.definition_of(store.get_campaign(session, "test"))).dispositions)

    def customers(self) -> list[Channel]:
        """Everybody who was ever called, in order."""
        return [channel for channel in self.people if channel.side is Side.CUSTOMER]

    async def agents(self) -> list[Agent]:
        return await self.daemon.roster.agents()

    async def until(self, condition: Callable[[], bool], what: str, within_seconds: float = GIVE_UP_SECONDS) -> None:
        deadline = trio.current_time() + within_seconds
        while not condition():
            if trio.current_time() > deadline:
                raise AssertionError(f"after {within_seconds:g} s: not {what}; {self!r}")
            await trio.sleep(0.5)

    def __repr__(self) -> str:
        statuses = [f"{lead.number[-4:]} {lead.status.value}" for lead in self.leads()]
        still = [attempt.uuid for attempt in self.attempts() if attempt.closed_at is None]
        campaigns = self.daemon.campaigns
        hashes: list[Any] = [self.client.hgetall(key) for key in self.client.scan_iter(f"{self.prefix}agent:*")]
        agents = [agent for agent in hashes if agent.get("campaign")]
        return (
            f"<VirtualHouse life {self.lives} at {trio.current_time():.2f}, leads {statuses}, open {still}, "
            f"channels {[(c.number, c.uuid) for c in self.switch.channels.values()]}, {campaigns.attempts()}, "
            f"agents {agents}>"
        )

    def rows(self, query: str) -> list[Any]:
        """What `query` finds, without the mapper, for looks that are taken again and again."""
        with self.engine.connect() as connection:
            cursor = connection.connection.cursor()
            return list(cursor.execute(query).fetchall())

    @property
    def finished(self) -> bool:
        """No lead is to be called any more, and all records are written."""
        return not self.rows(f"SELECT 1 FROM lead WHERE status IN ({_UNFINISHED}) LIMIT 1")


_UNFINISHED = ", ".join(f"'{status.value}'" for status in (LeadStatus.NEW, LeadStatus.WAITING, LeadStatus.DIALING))


@lru_cache
def _database() -> Engine:
    engine = create_engine(
        "sqlite://",
        poolclass=StaticPool,
        connect_args={"check_same_thread": False},
        isolation_level="SERIALIZABLE",
    )
    SQLModel.metadata.create_all(engine)
    return engine


def _empty_database() -> Engine:
    """One for all houses of a process: its compiled statements are most of what a short story costs."""
    engine = _database()
    with engine.begin() as connection:
        for table in reversed(SQLModel.metadata.sorted_tables):
            connection.execute(table.delete())
    return engine


@lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


_SOON = "busy congestion no_answer hung_up abandoned unknown cancelled failed skipped"
SOON_AGAIN = ", ".join(f"{outcome} = 1" for outcome in _SOON.split())


@lru_cache
def campaign(**changes: str) -> Campaign:
    lines = {
        "name": '"test"',
        "gateways": '["carrier_a"]',
        "country": '"US"',
        "windows": ALWAYS,
        "wrap_up_seconds": "0.2",
        "ring_seconds": "5",
        "abandoned_lockout_hours": "0",
        "retries": f"{{ max_attempts = 2, delay_seconds = {{ {SOON_AGAIN} }} }}",
        **changes,
    }
    return parse_campaign("\n".join(f"{key} = {value}" for key, value in lines.items()), "test")


def lead(number: str, now: datetime, campaign_id: int = 1, list_id: int = 1) -> LeadRow:
    """Somebody to call, due at `now`."""
    return LeadRow(
        campaign_id=campaign_id,
        list_id=list_id,
        number=number,
        zones='["America/New_York"]',
        status=LeadStatus.NEW,
        due_at=now - timedelta(seconds=1),
        created_at=now,
        updated_at=now,
    )


async def _no_door(*_args: Any, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    task_status.started()
    await trio.sleep_forever()


async def _no_lag(_metrics: Metrics) -> None:
    await trio.sleep_forever()


@contextmanager
def virtual_world() -> Iterator[None]:
    """What has no place in virtual time is left out: the door, the lag of a loop that is not, the garbage collector.

    What is only looked at again and again, in case an event is missed, is looked at less often: each look costs.
    """
    quiet = structlog.make_filtering_bound_logger(50)
    with (
        patch.object(daemon_module, "serve_door", _no_door),
        patch.object(daemon_module, "_prefer_the_event_loop", lambda: None),
        patch.object(Metrics, "watch_loop_lag", _no_lag),
        patch.object(campaign_runner, "TICK_SECONDS", 1.0),
        patch.object(roster_module, "SWEEP_SECONDS", 0.5),
        patch.object(ledger_module, "LOOK_SECONDS", 0.5),
        patch.object(nailed_up_module, "LOOK_AGAIN_SECONDS", 1.0),
        patch.object(attempt_module, "UNKNOWN_SECONDS", 20.0),
    ):
        before = structlog.get_config()
        structlog.configure(wrapper_class=quiet, cache_logger_on_first_use=False)
        try:
            yield
        finally:
            structlog.configure(**before)


@lru_cache
def _freeze_modules() -> None:
    """Thousands of stories need not look through all modules again and again."""
    gc.collect()
    gc.freeze()


def run_virtually(story: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs `story` in virtual time, to its end."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    _freeze_modules()
    # Trio runs the tasks of a moment in an order of its own dice.
    trio._core._run._r.seed(1)
    with virtual_world(), patch.object(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True):
        try:
            return trio.run(partial(story, *args, **kwargs), clock=clock)
        except BaseExceptionGroup as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            raise error from None
