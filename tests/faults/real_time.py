"""An hour of real time: the real process at 50 calls/s, SIGKILLs, a Redis that is killed; at the end the promises."""

from __future__ import annotations

import random
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil
import trio
from sqlmodel import Session

from campaigns import store
from campaigns.campaign import CampaignStatus, parse_campaign
from campaigns.database import Database, open_database
from campaigns.lead import LeadStatus
from dialer.simulator.channel import Channel
from tests.conftest import RedisServer
from tests.faults.promises import check_leads, check_people
from tests.faults.test_sigkill import Seen, ask, daemon
from tests.faults.virtual import lead
from tests.house import ALWAYS, house, settings_text
from tests.patience import eventually

AGENTS: Final = 200
CALLS_PER_SECOND: Final = 50
KILLS: Final = 10
CAMPAIGN: Final = f"""
name = "test"
gateways = ["carrier_a"]
country = "US"
windows = {ALWAYS}
wrap_up_seconds = 0.5
ring_seconds = 10
retries = {{ max_attempts = 1 }}
"""
PEOPLE: Final[dict[str, Any]] = {
    "phones": [{"extensions": f"1000-{999 + AGENTS}", "answer_delay": 0.2}],
    "gateways": {
        "carrier_a": {
            "ring_delay": 0.2,
            "answer_delay": {"kind": "uniform", "low": 0.3, "high": 1.5},
            "talk": {"kind": "lognormal", "median": 2.5, "sigma": 0.5},
            "mix": {"answer": 80, "busy": 10, "answer_hang_up": 10},
            "hang_up_after": 0.3,
            "scripts": [],
        }
    },
}
UNFINISHED: Final = (LeadStatus.NEW, LeadStatus.WAITING, LeadStatus.DIALING)


async def _fill(database: Database, count: int) -> None:
    now = datetime.now(UTC)
    definition = parse_campaign(CAMPAIGN, "test")

    def add(session: Session) -> int:
        row = store.add_campaign(session, definition, now).row
        return store.lead_list(session, row.id or 0, "list", now).id or 0

    mine = await database.write(add)
    for start in range(0, count, 5000):
        numbers = range(start, min(count, start + 5000))
        await database.write(
            lambda session, numbers=numbers: session.add_all(  # type: ignore[misc]
                lead(f"+1202{2000000 + index}", now, 1, mine) for index in numbers
            )
        )
    await database.write(lambda session: store.set_campaign_status(session, "test", CampaignStatus.RUNNING, now))


async def hour(minutes: float, seed: int) -> None:
    """Dials for `minutes`; kills and restarts fall evenly into it. Raises AssertionError for a broken promise."""
    from tests.faults.soak import tell

    dice = random.Random(seed)
    people: list[Channel] = []
    leads = int(minutes * 60 * CALLS_PER_SECOND)
    with tempfile.TemporaryDirectory(prefix="hour-") as directory:
        folder = Path(directory)
        redis_folder = folder / "r"
        redis_folder.mkdir()
        redis = RedisServer(redis_folder)
        redis.start()
        try:
            async with house(folder, PEOPLE) as home:
                home.switch.keep_history(people)
                text = (
                    settings_text(
                        folder,
                        home.settings.switch[0].port,
                        gateway=f'[redis]\nurl = "{redis.url}"\n[log]\nlevel = "warning"',
                    )
                    .replace("concurrency = 50", "concurrency = 1000")
                    .replace("calls_per_second = 1000", f"calls_per_second = {CALLS_PER_SECOND}")
                )
                config = folder / "dialer.toml"
                config.write_text(text)
                async with open_database(home.settings.database.url, node=None) as database:
                    await _fill(database, leads)
                    for life in range(KILLS + 1):
                        async with daemon(config) as process:
                            if life == 0:
                                for index in range(AGENTS):
                                    await _ready(home, str(1000 + index))
                            wait_seconds = minutes * 60 / (KILLS + 1)
                            if life == KILLS // 2:
                                await trio.sleep(wait_seconds / 2)
                                redis.kill()
                                await trio.sleep(dice.uniform(0.5, 5.0))
                                redis.start()
                                wait_seconds /= 2
                            if life < KILLS:
                                await trio.sleep(wait_seconds * dice.uniform(0.8, 1.2))
                                memory = psutil.Process(process.pid).memory_info().rss / 1e6
                                tell("soak.hour", len(people), "legs", life=life, memory_mb=round(memory, 1))
                                process.kill()
                                await process.wait()
                                continue
                            await _finish(home, database, minutes * 60)
                            seen = Seen(people)
                            await seen.look(database)
                            check_leads(seen, max_attempts=1)
                            check_people(seen, longest_wait_seconds=60.0)
                            status = await ask(home, "status")
                            bridged = sum(cdr.disposition.value == "bridged" for cdr in seen.cdrs())
                            tell("soak.hour.done", len(seen.cdrs()), "calls", bridged=bridged, kills=KILLS)
                            tell("soak.hour.metrics", 1, "", **status["metrics"])
        finally:
            redis.stop()


async def _ready(home: Any, extension: str) -> None:
    while await ask(home, "agent_ready", extension=extension, campaign="test") is None:  # noqa: ASYNC110
        await trio.sleep(0.1)


async def _finish(home: Any, database: Database, within_seconds: float) -> None:
    async def finished() -> bool:
        counts = await database.read(lambda session: store.lead_counts(session, 1))
        return not any(counts[status] for status in UNFINISHED)

    await eventually(finished, within_seconds + 600)

    async def all_idle() -> bool:
        status = await ask(home, "status")
        return (
            status is not None
            and [agent["state"] for agent in status["agents"]] == ["idle"] * AGENTS
            and len(home.switch.channels) == AGENTS
            and sum(gateway["in_use"] for gateway in status["gateways"]) == 0
        )

    await eventually(all_idle, 120)
