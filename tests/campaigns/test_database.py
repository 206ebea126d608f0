from __future__ import annotations

import inspect
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
import pytest
import trio
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlmodel import Session, col

from campaigns import group_commit, lanes, postgresql
from campaigns.database import Database, open_database
from campaigns.store import CampaignRow, LeadRow, get_campaign
from dialer.errors import ConfigurationError, InputRefusedError, UnavailableError

from .conftest import CAMPAIGN, NOON, fill, lead_values

LONG_READ = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1000000000) SELECT max(x) FROM c"
)


def increment(session: Session) -> None:
    lead = session.get_one(LeadRow, 1, with_for_update=True)
    lead.attempts += 1
    session.add(lead)


def attempts(session: Session) -> int:
    return session.get_one(LeadRow, 1).attempts


def names(session: Session) -> set[str]:
    return set(session.scalars(select(col(CampaignRow.name))))


def add(session: Session, name: str) -> None:
    session.add(
        CampaignRow(name=name, status="stopped", definition="{}", created_at=NOON, updated_at=NOON)  # type: ignore[arg-type]
    )
    session.flush()


class Held:
    """A write that has begun and waits to be let go: what comes after it is queued."""

    def __init__(self) -> None:
        self._go = threading.Event()
        self._begun = threading.Event()

    @asynccontextmanager
    async def writing(self, database: Database) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.write, self.work)
            await self.begun()
            try:
                yield
            finally:
                self._go.set()

    def work(self, _session: Session | None = None) -> str:
        self._begun.set()
        assert self._go.wait(20)
        return "done"

    async def begun(self) -> None:
        assert await trio.to_thread.run_sync(self._begun.wait, 20)

    def let_go(self) -> None:
        self._go.set()


# Nothing is lost


async def test_no_update_is_lost_among_400(database: Database) -> None:
    await fill(database, 1)
    async with trio.open_nursery() as nursery:
        for _ in range(400):
            nursery.start_soon(database.write, increment)
    assert await database.read(attempts) == 400
    statistics = database.statistics()
    assert statistics["writes"] == 401
    assert statistics["commits"] < 100  # they went in groups


async def test_no_update_is_lost_between_two_daemons(url: str) -> None:
    async with open_database(url, node="a") as one, open_database(url, node="b") as other:
        await fill(one, 1)
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(one.write, increment)
                nursery.start_soon(other.write, increment)
        assert await one.read(attempts) == await other.read(attempts) == 400


async def test_a_failing_work_harms_nobody_else_of_its_group(database: Database) -> None:
    """One in three fails, in each of the ways a work can fail, and only those are undone."""
    failed: list[int] = []

    def work(session: Session, number: int) -> None:
        add(session, f"c{number}")
        match number % 9:
            case 2:
                raise InputRefusedError("a reason of its own")
            case 5:
                add(session, f"c{number}")
            case 8:
                session.connection().execute(text("SELECT * FROM nowhere"))

    async def one(number: int) -> None:
        try:
            await database.write(lambda session: work(session, number))
        except InputRefusedError:
            assert number % 9 == 2
            failed.append(number)
        except IntegrityError:
            assert number % 9 == 5
            failed.append(number)
        except DBAPIError:
            assert number % 9 == 8
            failed.append(number)

    async with trio.open_nursery() as nursery, Held().writing(database):
        for number in range(90):
            nursery.start_soon(one, number)
        await trio.testing.wait_all_tasks_blocked()
        assert database.statistics()["writes_waiting"] == 90
    assert database.statistics()["commits"] == 2  # the held one, and all of these
    assert sorted(failed) == [n for n in range(90) if n % 3 == 2]
    assert await database.read(names) == {f"c{n}" for n in range(90) if n % 3 != 2}


async def test_a_commit_that_fails_is_told_to_everybody(sqlite_url: str) -> None:
    async with open_database(sqlite_url, node=None) as database:
        outcomes: list[str] = []

        async def one(number: int) -> None:
            with pytest.raises(UnavailableError) as told:
                await database.write(lambda session: add(session, f"c{number}"))
            outcomes.append(str(told.value))

        def break_commit(session: Session) -> None:
            # A foreign key that is looked at only when the transaction ends.
            session.connection().execute(text("PRAGMA defer_foreign_keys=ON"))
            session.connection().execute(text("INSERT INTO staged_chunk VALUES (1, 99, x'00')"))

        async with trio.open_nursery() as nursery, Held().writing(database):
            for number in range(3):
                nursery.start_soon(one, number)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(expect_unavailable, database, break_commit)
            await trio.testing.wait_all_tasks_blocked()
        assert outcomes == [f"the database {sqlite_url} did not commit: FOREIGN KEY constraint failed"] * 3
        assert await database.read(names) == set()
        await database.write(lambda session: add(session, "later"))
        assert await database.read(names) == {"later"}


async def expect_unavailable(database: Database, work: object) -> None:
    with pytest.raises(UnavailableError):
        await database.write(work)  # type: ignore[arg-type]


async def test_a_full_disk_is_told_truly(sqlite_url: str) -> None:
    """Whoever is told that it worked has worked; and when there is room again, it goes on."""
    async with open_database(sqlite_url, node=None) as database:

        def limit(session: Session, pages: int) -> None:
            used = session.connection().execute(text("PRAGMA page_count")).scalar_one()
            session.connection().execute(text(f"PRAGMA max_page_count={used + pages}"))

        await database.write(lambda session: limit(session, 2))
        told: dict[str, bool] = {}

        async def one(name: str, size: int) -> None:
            def work(session: Session) -> None:
                add(session, name)
                session.connection().execute(
                    text("UPDATE campaign SET definition = :text WHERE name = :name"),
                    {"text": "x" * size, "name": name},
                )

            try:
                await database.write(work)
                told[name] = True
            except UnavailableError:
                told[name] = False

        async with trio.open_nursery() as nursery, Held().writing(database):
            for number in range(6):
                nursery.start_soon(one, f"c{number}", 1_000_000 if number == 3 else 10)
                await trio.testing.wait_all_tasks_blocked()
        assert told["c3"] is False
        assert await database.read(names) == {name for name, worked in told.items() if worked}
        await database.write(lambda session: limit(session, 1_000))
        await one("later", 1_000_000)
        assert told["later"]


async def test_a_server_that_takes_no_changes_is_told_truly(postgres_url: str) -> None:
    """It has become a standby, or its owner has stopped writes for want of space."""

    def work(session: Session) -> None:
        session.connection().execute(text("SET TRANSACTION READ ONLY"))
        session.connection().execute(text("DELETE FROM lead"))

    async with open_database(postgres_url, node=None) as database:
        with pytest.raises(UnavailableError, match="read-only"):
            await database.write(work)
        await fill(database, 1)


async def test_a_transaction_that_is_lost_is_told_to_all_who_were_in_it(database: Database) -> None:
    """SQLite rolls everything back by itself when it runs out of memory or the disk fails; here by hand."""
    told: dict[str, bool] = {}

    async def one(name: str) -> None:
        def work(session: Session) -> None:
            add(session, name)
            if name == "c2":
                session.connection().exec_driver_sql("ROLLBACK")
                raise ZeroDivisionError

        try:
            await database.write(work)
            told[name] = True
        except (UnavailableError, ZeroDivisionError):
            told[name] = False

    async with trio.open_nursery() as nursery, Held().writing(database):
        for number in range(5):
            nursery.start_soon(one, f"c{number}")
            await trio.testing.wait_all_tasks_blocked()
    assert told == dict.fromkeys(told, False)
    assert await database.read(names) == set()
    await database.write(lambda session: add(session, "later"))
    assert await database.read(names) == {"later"}


async def test_what_is_returned_can_be_used_and_a_read_cannot_write(database: Database) -> None:
    await fill(database, 1)
    row = await database.read(lambda session: get_campaign(session, CAMPAIGN.name))
    assert row.name == CAMPAIGN.name
    with pytest.raises(Exception, match=r"read-?only"):
        await database.read(increment)
    assert await database.read(attempts) == 0


async def test_a_read_sees_one_state_of_the_database(database: Database) -> None:
    await fill(database, 1)
    between = Held()

    def twice(session: Session) -> tuple[int, int]:
        first = attempts(session)
        between.work()
        session.expire_all()
        return first, attempts(session)

    seen: list[tuple[int, int]] = []

    async def read() -> None:
        seen.append(await database.read(twice))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await between.begun()
        await database.write(increment)
        between.let_go()
    assert seen == [(0, 0)]
    assert await database.read(attempts) == 1


# Cancelled


async def test_cancelled_while_queued_it_never_runs(database: Database) -> None:
    await fill(database, 1)
    async with Held().writing(database):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(database.write, increment)
                await trio.testing.wait_all_tasks_blocked()
                assert database.statistics()["writes_waiting"] == 1
                scope.cancel()
        assert scope.cancelled_caught
        assert database.statistics()["writes_waiting"] == 0
    await database.write(lambda session: None)
    assert await database.read(attempts) == 0


async def test_cancelled_while_running_the_truth_is_waited_for(database: Database) -> None:
    await fill(database, 1)
    held = Held()
    results: list[str] = []

    def work(session: Session) -> str:
        increment(session)
        return held.work(session)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                results.append(await database.write(work))
                await trio.lowlevel.checkpoint()
                results.append("not reached")

            nursery.start_soon(write)
            await held.begun()
            scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
                assert results == []  # cancelled, and still waiting
                held.let_go()
    assert scope.cancelled_caught
    assert results == ["done"]
    assert await database.read(attempts) == 1
    await database.write(increment)  # the database is not locked


@pytest.mark.parametrize("when", range(8))
async def test_cancelled_at_any_moment_the_database_is_left_usable(database: Database, when: int) -> None:
    """What was told and what is there agree, wherever the cancelling hit."""
    await fill(database, 1)
    told = 0

    async def write() -> None:
        nonlocal told
        await database.write(increment)
        told += 1

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(write)
            for _ in range(when):
                await trio.lowlevel.checkpoint()
            scope.cancel()
    assert await database.read(attempts) == told
    await database.write(increment)
    assert await database.read(attempts) == told + 1


async def test_a_cancelled_read_is_cut_short_and_its_connection_used_again(url: str) -> None:
    async with open_database(url, node=None, readers=1) as database:
        await fill(database, 1)
        for _ in range(3):
            begun = threading.Event()

            def long_read(session: Session, begun: threading.Event = begun) -> None:
                begun.set()
                session.connection().execute(text(LONG_READ))

            with trio.CancelScope() as scope, trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(database.read, long_read)
                    assert await trio.to_thread.run_sync(begun.wait, 20)
                    scope.cancel()
            assert scope.cancelled_caught
            assert await database.read(attempts) == 0
            await database.write(lambda session: None)


async def test_a_read_is_cut_even_between_two_statements(url: str) -> None:
    async with open_database(url, node=None, readers=1) as database:
        held = Held()

        def work(session: Session) -> None:
            held.work()
            session.connection().execute(text(LONG_READ))

        with trio.CancelScope() as scope, trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(database.read, work)
                await held.begun()
                scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.testing.wait_all_tasks_blocked()
                    held.let_go()
        assert scope.cancelled_caught
        assert await database.read(names) == set()


async def test_the_queue_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    count = group_commit.QUEUE_LIMIT + 50
    async with trio.open_nursery() as nursery, Held().writing(database):
        for _ in range(count):
            nursery.start_soon(database.write, lambda session: None)
        await trio.testing.wait_all_tasks_blocked()
        assert database.statistics()["writes_waiting"] == group_commit.QUEUE_LIMIT - 1  # and the one that is held
    assert database.statistics()["writes"] == count + 1


async def test_what_is_queued_when_it_closes_is_written(url: str) -> None:
    held = Held()
    async with trio.open_nursery() as nursery, open_database(url, node=None) as database:
        await fill(database, 1)
        nursery.start_soon(database.write, held.work)
        await held.begun()
        for _ in range(150):
            nursery.start_soon(database.write, increment)
        await trio.testing.wait_all_tasks_blocked()
        held.let_go()
    with pytest.raises(UnavailableError, match="closed"):
        await database.write(increment)
    async with open_database(url, node=None) as database:
        assert await database.read(attempts) == 150


# What may be wrong outside


async def test_a_locked_database_is_unavailable_for_now(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "BUSY_SECONDS", 0.05)
    async with open_database(sqlite_url, node=None) as database:
        other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match=r"dialer\.db cannot be used now: database is locked"):
            await database.write(lambda session: add(session, "x"))
        other.execute("ROLLBACK")
        other.close()
        await database.write(lambda session: add(session, "y"))
        assert await database.read(names) == {"y"}


async def test_a_mistake_in_the_work_is_not_called_unavailable(sqlite_url: str) -> None:
    async with open_database(sqlite_url, node=None) as database:
        with pytest.raises(OperationalError, match="no such table"):
            await database.write(lambda session: session.connection().execute(text("SELECT * FROM nowhere")))
        with pytest.raises(OperationalError, match="no such table"):
            await database.read(lambda session: session.connection().execute(text("SELECT * FROM nowhere")))


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("sqlite://", "names no file; it should be like sqlite:////var"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///x.db?mode=ro", "names no file"),
        ("mysql://u:secret@h/x", "names neither SQLite nor PostgreSQL"),
        ("nonsense", "cannot be read"),
        ("sqlite:////no/such/directory/x.db", "make /no/such/directory"),
        ("postgresql://nobody@/x?host=/no/such/directory", "cannot be opened now"),
    ],
)
async def test_a_url_that_cannot_be_used(url: str, complaint: str) -> None:
    expected = UnavailableError if "postgresql" in url else ConfigurationError
    with pytest.raises(expected) as refused:
        async with open_database(url, node=None):
            raise AssertionError
    assert complaint in str(refused.value)
    assert "secret" not in str(refused.value)


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"a list of numbers, not a database" * 100)
    with pytest.raises(UnavailableError, match="not a database"):
        async with open_database(f"sqlite:///{path}", node=None):
            raise AssertionError
    assert path.read_bytes().startswith(b"a list")


async def test_an_unknown_postgresql_database_is_for_a_person_to_mend(postgres: str) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        async with open_database(postgres.replace("/postgres", "/nowhere"), node=None):
            raise AssertionError


async def test_a_broken_link_to_postgresql_is_made_again(
    postgres_migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "PATIENCE_SECONDS", 0.1)
    async with open_database(postgres_migrated, node="a", exclusive=True) as database:

        def end(session: Session) -> None:
            session.connection().execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

        await expect_unavailable(database, end)
        with pytest.raises(UnavailableError):
            await database.read(end)
        # The session that comes after holds the daemon's lock again.
        assert await database.write(lambda session: session.scalar(select(1))) == 1
        with pytest.raises(ConfigurationError, match="another daemon"):
            async with open_database(postgres_migrated, node="b", exclusive=True):
                raise AssertionError


async def test_errors_of_the_body_come_out_as_they_are(url: str) -> None:
    with pytest.raises(KeyError):  # not an exception group
        async with open_database(url, node=None):
            raise KeyError


async def test_no_thread_and_no_file_is_left_open(url: str) -> None:
    before = threading.active_count()
    async with open_database(url, node="a") as database:
        await database.read(names)
        assert threading.active_count() > before
    # trio keeps its own worker threads for a while
    assert not [t for t in threading.enumerate() if t.name.startswith("lane to") or "worker_thread" in t.name]


async def test_durability_is_as_promised(sqlite_url: str) -> None:
    async with open_database(sqlite_url, node=None) as database:

        def pragmas(session: Session) -> list[object]:
            return [
                session.connection().execute(text(f"PRAGMA {name}")).scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            ]

        assert await database.write(pragmas) == await database.read(pragmas) == ["wal", 2, 1, 5000]
        with pytest.raises(IntegrityError):
            await database.write(lambda s: s.connection().execute(LeadRow.__table__.insert(), lead_values(99)(1)))  # type: ignore[attr-defined]


def test_what_is_used_of_aiosqlite_is_there() -> None:
    """The private names that `lanes` leans on. If this fails, read aiosqlite's core.py before changing it."""
    source = inspect.getsource(aiosqlite.core._connection_worker_thread)
    for line in (
        "future, function = tx.get()",
        "result = function()",
        "future.get_loop().call_soon_threadsafe(set_result, future, result)",
        "future.get_loop().call_soon_threadsafe(set_exception, future, e)",
        "if result is _STOP_RUNNING_SENTINEL:",
        "if future:",
    ):
        assert line in source
    assert "if not fut.done():" in inspect.getsource(aiosqlite.core.set_result)
    made = inspect.getsource(aiosqlite.Connection.__init__)
    for name in ("_running", "_connection", "_connector", "_tx", "_thread"):
        assert f"self.{name}" in made
    assert list(inspect.signature(aiosqlite.Connection.__init__).parameters)[1:3] == ["connector", "iter_chunk_size"]
    assert inspect.getsource(aiosqlite.Connection.__await__).strip().endswith("return self._connect().__await__()")
    # Whatever asks asyncio for a future is overridden.
    asks = {
        name
        for name, member in vars(aiosqlite.Connection).items()
        if inspect.isfunction(member) and "asyncio.get_event_loop" in inspect.getsource(member)
    }
    assert asks == {"stop", "_execute", "_connect"} == asks & set(vars(lanes._TrioConnection))
