"""A million rows into a database on disk, against bare sqlite3.

The list has 77 bytes a row, a tenth of the rows have a number that was there before, one in a hundred has none that
is. It is imported by the command that a manager gives, in a process of its own with its workers; memory is that of
all of them together at its highest. Then the very leads that came of it are put into an empty database of the same
tables by one `executemany` in one transaction: what cannot be beaten, and the unit in which the import is told.

With --beside-campaign the import runs again next to a daemon that bridges calls: how much later its bridges come.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil
import trio

from bench import bridge_latency
from bench.shared import CAMPAIGN, begin_anew, tell
from campaigns import store
from campaigns.campaign import parse_campaign
from campaigns.database import open_database
from dialer.metrics import Latency, Metrics

GOAL_SECONDS: Final = 15.0
GOAL_BYTES: Final = 200_000_000
GOAL_RATIO: Final = 2.5
GOAL_MOVED_MS: Final = 5.0
QUIET_SECONDS: Final = 20.0
LONGEST_SECONDS: Final = 300.0
_LOOK_SECONDS: Final = 0.05
_AREA_CODES: Final = ("212", "305", "312", "415", "617", "713", "303", "206", "404", "602")
_SETTINGS: Final = """
node = "bench"
[[switch]]
name = "none"
port = 1
[[gateway]]
name = "carrier_a"
switch = "none"
caller_id = "+12025550100"
concurrency = 1
calls_per_second = 1
[database]
url = "sqlite:///{folder}/bench.db"
[door]
path = "{folder}/door.sock"
"""
_CAMPAIGN: Final = f'name = "{CAMPAIGN}"\ngateways = ["carrier_a"]\ncountry = "US"\n'


def write_list(path: Path, rows: int, seed: int = 1) -> None:
    """A list as described above."""
    rng = random.Random(seed)
    numbers: list[int] = []
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "phone", "name", "city", "note"])
        for row in range(rows):
            dice = rng.random()
            if dice < 0.01:
                number = f"{rng.randrange(10**6):06}x"
            elif dice < 0.11 and numbers:
                number = _written(rng.choice(numbers), rng)
            else:
                one = rng.randrange(len(_AREA_CODES) * 8_000_000)
                if rng.random() < 0.2:
                    numbers.append(one)  # enough to repeat some of them
                number = _written(one, rng)
            name = f"{rng.choice('ABCDEFGHIJKLM')}. Customer {row:07}"
            writer.writerow([f"k{row:07}", number, name, "Springfield", "asked for a call back"])


def _written(one: int, rng: random.Random) -> str:
    area, rest = divmod(one, 8_000_000)
    digits = f"{rest + 2_000_000:07}"
    code = _AREA_CODES[area]
    styles = (f"+1{code}{digits}", f"{code}{digits}", f"({code}) {digits[:3]}-{digits[3:]}")
    return styles[rng.randrange(3)]


def prepare(folder: Path) -> Path:
    """A database with the campaign in it, and the configuration that names it."""
    config = folder / "dialer.toml"
    config.write_text(_SETTINGS.format(folder=folder), encoding="utf-8")

    async def add() -> None:
        async with open_database(f"sqlite:///{folder}/bench.db", node=None) as database:
            campaign = parse_campaign(_CAMPAIGN, "the bench's campaign")
            await database.write(lambda session: store.add_campaign(session, campaign, datetime.now(UTC)))

    trio.run(add)
    return config


def import_it(config: Path, path: Path) -> tuple[float, int, dict[str, int]]:
    """The command's seconds, the highest memory of all its processes in bytes, and what it says."""
    command = [sys.executable, "-m", "dialer", "leads", "import", str(path), "--campaign", CAMPAIGN, "--json"]
    began = time.perf_counter()
    highest = 0
    with tempfile.TemporaryFile() as said:  # a pipe that nobody reads would hold it up
        process = psutil.Popen([*command, "--config", str(config)], stdout=said)
        while process.poll() is None:
            highest = max(highest, _memory(process))
            time.sleep(_LOOK_SECONDS)
        seconds = time.perf_counter() - began
        if process.returncode != 0:
            raise RuntimeError(f"the import ended with {process.returncode}")
        said.seek(0)
        report = json.load(said)
    return seconds, highest, {name: report[name] for name in ("rows", "added", "duplicates", "refused_rows")}


def _memory(process: psutil.Process) -> int:
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            pass  # it has just ended
    return total


def bare(folder: Path, empty: Path) -> float:
    """Seconds that one `executemany` of the same leads takes, in an empty database of the same tables."""
    with sqlite3.connect(folder / "bench.db") as connection:
        found = connection.execute("SELECT * FROM lead ORDER BY id")
        marks = ", ".join("?" * len(found.description))
        rows = found.fetchall()
        lists = connection.execute("SELECT * FROM lead_list").fetchall()
    connection.close()
    target = folder / "bare.db"
    shutil.copy(empty, target)
    into = sqlite3.connect(target, isolation_level=None)
    into.execute("PRAGMA journal_mode=WAL")
    into.executemany(f"INSERT INTO lead_list VALUES ({', '.join('?' * len(lists[0]))})", lists)
    began = time.perf_counter()
    into.execute("BEGIN IMMEDIATE")
    into.executemany(f"INSERT INTO lead VALUES ({marks})", _each(rows))
    into.execute("COMMIT")
    seconds = time.perf_counter() - began
    into.close()
    return seconds


def _each(rows: list[tuple[object, ...]]) -> Iterator[tuple[object, ...]]:
    yield from rows


def measure(rows: int) -> None:
    with tempfile.TemporaryDirectory(prefix="dialer-bench-") as name:
        folder = Path(name)
        path, empty = folder / "list.csv", folder / "empty.db"
        write_list(path, rows)
        config = prepare(folder)
        shutil.copy(folder / "bench.db", empty)
        seconds, memory, report = import_it(config, path)
        leads = report["added"]
        alone = bare(folder, empty)
        size = path.stat().st_size
        load = [round(minutes, 1) for minutes in os.getloadavg()]
        tell("list_import.rows", rows / seconds, "rows/s", megabytes=round(size / 1e6, 1), load=load, **report)
        tell("list_import.seconds", seconds, "s", goal=f"<= {GOAL_SECONDS:g}", met=seconds <= GOAL_SECONDS)
        tell(
            "list_import.memory", memory / 1e6, "MB", goal=f"<= {GOAL_BYTES / 1e6:g}", met=memory <= GOAL_BYTES
        )  # fmt: skip
        tell("list_import.bare_executemany", alone, "s", leads=leads)
        ratio = seconds / alone
        tell("list_import.ratio", ratio, "times bare", goal=f"<= {GOAL_RATIO:g}", met=ratio <= GOAL_RATIO)


async def measure_beside(rows: int, calls_per_second: float) -> None:
    """The same import into the database of a daemon at work: its bridges with and without.

    Without is before and after: the speed of a machine that others use drifts in the minutes that this takes.
    """
    async with bridge_latency.house(calls_per_second, 3 * QUIET_SECONDS + LONGEST_SECONDS) as (place, daemon, _):
        path = place.folder / "list.csv"
        await trio.to_thread.run_sync(write_list, path, rows)
        other = parse_campaign(_CAMPAIGN.replace(CAMPAIGN, "other"), "the bench's other campaign")
        await daemon.database.write(lambda session: store.add_campaign(session, other, datetime.now(UTC)))
        quiet = Latency()
        await _listen(daemon.metrics, quiet)
        began = trio.current_time()
        command = [sys.executable, "-m", "dialer", "leads", "import", str(path), "--campaign", "other"]
        with trio.fail_after(LONGEST_SECONDS):
            await trio.run_process(
                [*command, "--config", str(place.config)], capture_stdout=True, capture_stderr=True
            )
        seconds = trio.current_time() - began
        beside = daemon.metrics.summary()["answer_to_bridge_ms"]
        await _listen(daemon.metrics, quiet)
    without = quiet.summary_ms()
    moved = beside["p99"] - without["p99"]
    tell(
        "list_import.seconds_beside_campaign", seconds, "s", goal=f"<= {GOAL_SECONDS:g}", met=seconds <= GOAL_SECONDS
    )
    tell(
        "list_import.bridge_p99_moved",
        moved,
        "ms",
        goal=f"<= {GOAL_MOVED_MS:g}",
        met=moved <= GOAL_MOVED_MS,
        without=without["p99"],
        beside=beside["p99"],
        count=beside["count"],
        count_without=without["count"],
    )


async def _listen(metrics: Metrics, heard: Latency) -> None:
    """Adds the answers of some seconds to `heard`; nothing is left of them in `metrics`."""
    begin_anew(metrics)
    await trio.sleep(QUIET_SECONDS)
    heard.add(metrics.answer_to_bridged)
    begin_anew(metrics)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--beside-campaign", action="store_true", help="and once more beside a daemon at work")
    parser.add_argument("--rate", type=float, default=20.0, help="answered calls a second of that daemon")
    options = parser.parse_args()
    measure(options.rows)
    if options.beside_campaign:
        trio.run(measure_beside, options.rows, options.rate)


if __name__ == "__main__":
    main()
