"""Two daemons on one database and one Redis, each killed and started again at random: nobody is called too often.

Both call from lists of their own and take each other's over: a campaign is run by whoever holds its lease, and a
killed daemon's goes to the other. No agents are needed: whoever answers hears a message.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from sqlmodel import Session, select

from campaigns import store
from campaigns.campaign import CampaignStatus, parse_campaign
from campaigns.database import Database, open_database
from campaigns.lead import LeadStatus
from campaigns.tables import AttemptRow, CdrRow, LeadRow
from dialer import door
from dialer.errors import DialerError
from dialer.simulator.channel import Channel, Side
from tests.conftest import RedisServer
from tests.faults.test_sigkill import daemon
from tests.faults.virtual import lead
from tests.house import ALWAYS, House, house, settings_text
from tests.patience import eventually
from tests.postgres_server import new_database, throw_away_server

CAMPAIGNS: Final = ("north", "south")
MAX_ATTEMPTS: Final = 2
LEADS: Final = 200
LIFE_SECONDS: Final = (2.0, 5.0)
LONG_LIFE_SECONDS: Final = (3.0, 20.0)  # of a soak: it is to come to an end, and dies some hundred times
DEAD_SECONDS: Final = (0.2, 12.0)  # the longer is more than the lease of a campaign: the other daemon takes it over
BUSY_SECONDS: Final = 1.0
UNFINISHED: Final = (LeadStatus.NEW, LeadStatus.WAITING, LeadStatus.DIALING)
_CAMPAIGN: Final = """
name = "{name}"
gateways = ["carrier_a"]
country = "US"
mode = "broadcast"
message = "/sounds/spring.wav"
message_key_seconds = 1
ring_seconds = 5
windows = {windows}
[retries]
max_attempts = {attempts}
[retries.delay_seconds]
busy = {busy}
no_answer = {busy}
hung_up = {busy}
unknown = {busy}
cancelled = {busy}
failed = {busy}
"""
_PEOPLE: Final[dict[str, Any]] = {
    "gateways": {
        "carrier_a": {
            "ring_delay": 0.02,
            "answer_delay": {"kind": "uniform", "low": 0.05, "high": 0.5},
            "talk": 60.0,
            "mix": {"answer": 60, "busy": 25, "answer_hang_up": 15},
            "scripts": [],
        }
    },
}


async def fill(database: Database, leads: int) -> None:
    """The campaigns, running, with half of `leads` each."""
    now = datetime.now(UTC)

    def work(session: Session) -> None:
        for index, name in enumerate(CAMPAIGNS):
            text = _CAMPAIGN.format(name=name, windows=ALWAYS, attempts=MAX_ATTEMPTS, busy=BUSY_SECONDS)
            row = store.add_campaign(session, parse_campaign(text, "test"), now).row
            mine = store.lead_list(session, row.id or 0, "list", now)
            numbers = (f"+1202{2000000 + index * leads + n}" for n in range(leads // 2))
            session.add_all(lead(number, now, row.id or 0, mine.id or 0) for number in numbers)
            store.set_campaign_status(session, name, CampaignStatus.RUNNING, now)

    await database.write(work)


async def _is_up(config: Path) -> bool:
    """Whether the daemon answers at its door."""
    try:
        await trio.to_thread.run_sync(partial(door.ask, config.parent / "door.sock", "status"))
    except DialerError:
        return False
    return True


async def live_and_die(config: Path, dice: random.Random, over: trio.Event, life_seconds: tuple[float, float]) -> int:
    """One daemon after the other, each killed some seconds after it is up, until `over`; how many that were."""
    lives = 0
    while not over.is_set():
        async with daemon(config) as process:
            lives += 1
            while process.returncode is None and not await _is_up(config):  # noqa: ASYNC110 - another program
                await trio.sleep(0.1)
            with trio.move_on_after(dice.uniform(*life_seconds)):
                await over.wait()
            process.kill()
            await process.wait()
        with trio.move_on_after(dice.choice(DEAD_SECONDS)):
            await over.wait()
    return lives


@asynccontextmanager
async def two_daemons(folder: Path, database_url: str | None = None) -> AsyncIterator[tuple[House, str, list[Path]]]:
    """A switch, a Redis, a database, and what two daemons on them are configured by."""
    redis_folder = folder / "r"
    redis_folder.mkdir()
    redis = RedisServer(redis_folder)
    redis.start()
    try:
        async with house(folder, _PEOPLE) as home:
            url = database_url or home.settings.database.url
            configs = []
            for node in ("one", "other"):
                (folder / node).mkdir()
                text = settings_text(
                    folder / node,
                    home.settings.switch[0].port,
                    node=node,
                    gateway=f'[redis]\nurl = "{redis.url}"\n[log]\nlevel = "warning"',
                    database_url=url,
                    calls="slot_lease_seconds = 5",
                )
                (folder / node / "dialer.toml").write_text(text)
                configs.append(folder / node / "dialer.toml")
            yield home, url, configs
    finally:
        redis.stop()


async def many(leads: int, seed: int, on: str) -> int:
    """The same with so many leads, `on` a sqlite or postgresql of its own; how many calls it took."""
    with tempfile.TemporaryDirectory(prefix="two-") as folder, ExitStack() as stack:
        database_url = None
        if on == "postgresql":
            database_url = stack.enter_context(new_database(stack.enter_context(throw_away_server())))
        async with two_daemons(Path(folder), database_url) as (home, url, configs):
            return await call_everybody(home, url, configs, leads, seed, 3600.0, LONG_LIFE_SECONDS)


async def call_everybody(
    home: House,
    url: str,
    configs: list[Path],
    leads: int,
    seed: int,
    within: float,
    life_seconds: tuple[float, float] = LIFE_SECONDS,
) -> int:
    """Until every lead is finished; then what must hold. How many calls it took."""
    dice, people, over = random.Random(seed), list[Channel](), trio.Event()
    home.switch.keep_history(people)
    async with open_database(url, node=None) as database:
        await fill(database, leads)

        async def finished() -> bool:
            counts = [await database.read(lambda s, n=n: store.lead_counts(s, n)) for n in (1, 2)]  # type: ignore[misc]
            return not any(count[status] for count in counts for status in UNFINISHED)

        async with trio.open_nursery() as nursery:
            for config in configs:
                nursery.start_soon(live_and_die, config, random.Random(dice.random()), over, life_seconds)
            await eventually(finished, within)
            over.set()
        return await _check(database, people)


async def _check(database: Database, people: list[Channel]) -> int:
    attempts = await database.read(lambda s: s.exec(select(AttemptRow)).all())
    cdrs = await database.read(lambda s: s.exec(select(CdrRow)).all())
    leads = await database.read(lambda s: s.exec(select(LeadRow)).all())
    assert sorted(cdr.attempt_uuid for cdr in cdrs) == sorted(attempt.uuid for attempt in attempts)
    written = {attempt.uuid for attempt in attempts}
    called = [one for one in people if one.side is Side.CUSTOMER]
    assert {one.uuid for one in called} <= written, "placed without an attempt on record"
    assert len({one.uuid for one in called}) == len(called), "one attempt was placed twice"
    per_lead = Counter(attempt.lead_id for attempt in attempts)
    for lead_row in leads:
        assert lead_row.attempts == per_lead[lead_row.id or 0] <= MAX_ATTEMPTS, f"{lead_row}"
    heard = [cdr.lead_id for cdr in cdrs if cdr.disposition.value == "message_played"]
    assert len(set(heard)) == len(heard), "somebody was called again who had heard it"
    return len(called)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_two_daemons_killed_at_random_call_each_lead_as_often_as_allowed(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    async with AsyncExitStack() as stack:
        given: str | None = None
        if kind == "postgresql":
            given = stack.enter_context(new_database(request.getfixturevalue("postgres")))
        home, url, configs = await stack.enter_async_context(two_daemons(tmp_path, given))
        await call_everybody(home, url, configs, LEADS, seed, within=400.0)
