"""The next 500 callable leads of one campaign among forty, with five million leads in all: flat in their number.

The same with a tenth of the leads, in the same run, for the ratio. All rules are on: calling hours, a cap, a
do-not-call list of a million entries, lists that take turns.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import trio
from hdrh.histogram import HdrHistogram
from sqlalchemy import TextClause, text
from sqlmodel import Session

from bench.shared import tell
from campaigns import store
from campaigns.campaign import Campaign, parse_campaign
from campaigns.database import Database, open_database
from campaigns.hopper import Leasing
from campaigns.rules.callable import RuleBook
from campaigns.slots import Slot
from campaigns.suppression_store import NewEntry, Scope, add_entries
from campaigns.trunk import Trunk

NOON: Final = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)  # a Monday, noon in New York
CAMPAIGNS: Final = 40
WANTED: Final = 500
GOAL_MS: Final = 20.0
CHUNK: Final = 100_000
LOADED: Final = 50_000
LOADED_AT_ONCE: Final = 5_000

_CAMPAIGN: Final = """
name = "c{number}"
gateways = ["carrier"]
country = "US"
[[caps]]
of = "number"
most = 3
hours = 24
"""
# Numbers that go on from one to the next, over three lists, every tenth lead a retry.
_FILL: Final = """
    WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last)
    INSERT INTO lead (campaign_id, list_id, number, zones, region, kind, numbers, number_no, fields, status, queue,
        priority, attempts, due_at, history, created_at, updated_at)
    SELECT 1 + i % {campaigns}, 1 + (i % {campaigns}) * 3 + i / {campaigns} % 3, '+1' || (2120000000 + i),
        '["America/New_York"]', 'US-NY', 'fixed_or_mobile', '[]', 0, '{{"name": "somebody", "city": "New York"}}',
        CASE WHEN i % 10 = 0 THEN 'waiting' ELSE 'new' END, CASE WHEN i % 10 = 0 THEN 2 ELSE 3 END,
        i % 7 % 2, CASE WHEN i % 10 = 0 THEN 1 ELSE 0 END, :noon, '{{}}', :noon, :noon
    FROM n
"""
_FORBID: Final = """
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :most)
    INSERT INTO suppression (pattern, is_prefix, scope, scope_name, source, reason, added_by, added_at)
    SELECT '+1' || (2120000000 + i * 17), 0, 'system', '', 'register', '', 'bench', :noon FROM n
"""


def _campaign(number: int) -> Campaign:
    return parse_campaign(_CAMPAIGN.format(number=number), "bench")


def _begin(session: Session) -> None:
    for number in range(1, CAMPAIGNS + 1):
        store.add_campaign(session, _campaign(number), NOON)
    for campaign in range(CAMPAIGNS):
        for index in range(3):
            session.connection().execute(
                text(
                    "INSERT INTO lead_list (id, campaign_id, name, source, active, priority, weight, newest_first,"
                    " credit, created_at, updated_at) VALUES (:id, :campaign, :name, '', 1, :priority, :weight, 0, 0,"
                    " :noon, :noon)"
                ),
                {
                    "id": 1 + campaign * 3 + index,
                    "campaign": campaign + 1,
                    "name": f"list{index}",
                    "priority": 0,
                    "weight": 1 + index,
                    "noon": str(NOON.replace(tzinfo=None)) + ".000000",
                },
            )


def _execute(session: Session, query: TextClause, values: dict[str, Any]) -> None:
    session.connection().execute(query, values)


async def fill(database: Database, leads: int, forbidden: int) -> None:
    """`leads` in forty campaigns, and a do-not-call list, every seventeenth of the first numbers on it."""
    noon = str(NOON.replace(tzinfo=None)) + ".000000"
    await database.write(_begin)
    query = text(_FILL.format(campaigns=CAMPAIGNS))
    for first in range(0, leads, CHUNK):
        values: dict[str, Any] = {"first": first, "last": min(leads, first + CHUNK) - 1, "noon": noon}
        await database.write(partial(_execute, query=query, values=values))
    await database.write(partial(_execute, query=text(_FORBID), values={"most": forbidden, "noon": noon}))


async def measure(database: Database, leases: int) -> tuple[HdrHistogram, HdrHistogram]:
    """Microseconds of the writer's time for each 500 leads, campaign by campaign: to find them, and to lease them."""
    found, taken = (HdrHistogram(1, 60_000_000, 3) for _ in range(2))
    trunks = {"carrier": Trunk("carrier", "fs1")}
    books = [RuleBook(_campaign(number), number) for number in range(1, CAMPAIGNS + 1)]
    for turn in range(leases):
        book = books[turn % CAMPAIGNS]
        slots = [Slot(str(uuid4()), "carrier", "fs1") for _ in range(WANTED)]

        def work(session: Session, book: RuleBook = book, slots: list[Slot] = slots, turn: int = turn) -> int:
            began = time.perf_counter_ns()
            leasing = Leasing(
                session, book, slots, trunks, "bench", NOON + timedelta(seconds=turn), None, in_turn=False
            )
            leasing.find()
            found.record_value((time.perf_counter_ns() - began) // 1000)
            leased = leasing.write()
            taken.record_value((time.perf_counter_ns() - began) // 1000)
            return len(leased.leases)

        got = await database.write(work)
        assert got == WANTED, f"{got} of {WANTED} leads were leased"
    return found, taken


async def load(database: Database) -> float:
    """Entries of a do-not-call list a second, loaded as `dialer dnc import` does it."""
    entries = [NewEntry(f"+1646{number:07}") for number in range(LOADED)]
    began = time.perf_counter()
    for first in range(0, LOADED, LOADED_AT_ONCE):
        chunk = entries[first : first + LOADED_AT_ONCE]
        await database.write(
            partial(
                add_entries,
                entries=chunk,
                scope=Scope.SYSTEM,
                scope_name="",
                source="bench",
                added_by="bench",
                now=NOON,
            )
        )
    return LOADED / (time.perf_counter() - began)


async def run(leads: int, leases: int) -> None:
    gc.freeze()  # as the daemon does: what modules have made is not looked through again and again
    gc.set_threshold(1_000, 10, 100)
    with tempfile.TemporaryDirectory(prefix="hopper-") as folder:
        p99: dict[int, float] = {}
        for count in (leads // 10, leads):
            url = f"sqlite:///{Path(folder) / f'{count}.db'}"
            async with open_database(url, node=None) as database:
                await fill(database, count, count // 5)
                most = min(leases, count // WANTED // 3)
                found, taken = await measure(database, most)
                a_second = await load(database)
            p99[count] = found.get_value_at_percentile(99) / 1000
            tell(
                "hopper",
                p99[count],
                "ms",
                percentile=99,
                p50=found.get_value_at_percentile(50) / 1000,
                with_writing_p50=taken.get_value_at_percentile(50) / 1000,
                with_writing_p99=taken.get_value_at_percentile(99) / 1000,
                leads=count,
                leased=WANTED,
                leases=most,
                goal=f"<= {GOAL_MS:g}",
                met=p99[count] <= GOAL_MS,
            )
            tell("suppression_load", a_second, "entries/s", beside=count // 5)
        small, large = p99.values()
        tell("hopper_growth", large / small, "x", leads=leads, than=leads // 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leads", type=int, default=5_000_000)
    parser.add_argument("--leases", type=int, default=400)
    chosen = parser.parse_args()
    trio.run(run, chosen.leads, chosen.leases)


if __name__ == "__main__":
    main()
