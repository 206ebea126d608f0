"""The hourly counts are what a count over all records would find."""

from __future__ import annotations

import random
import shutil
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import attrs
import hypothesis.strategies as st
import pytest
import trio
from hypothesis import given, settings
from sqlalchemy import event
from sqlmodel import Session, select

from campaigns.abandonment import AbandonmentCounts, abandoned_of, hour_of
from campaigns.abandonment_counts import abandoned_calls, counts, hours, window
from campaigns.campaign import Campaign
from campaigns.database import Database, open_database
from campaigns.disposition import Disposition
from campaigns.leases import Lease
from campaigns.recycle import Tried, next_step
from campaigns.store import CdrRow, add_campaign, close_attempt
from campaigns.tables import AbandonmentHourRow
from dialer.errors import UnavailableError

from .conftest import CAMPAIGN, NOON, Filled, cdr_of, fill, take

STEP = next_step(Disposition.BUSY, Tried(1), CAMPAIGN, NOON)
HOUR = timedelta(hours=1)


@attrs.frozen
class Call:
    """A call that is to be closed `times` times; the first of them fails half way if `fails`."""

    campaign: int
    disposition: Disposition
    answered_at: datetime | None
    wait_ms: int
    times: int = 1
    fails: bool = False


CALLS = st.lists(
    st.builds(
        Call,
        campaign=st.integers(0, 2),
        disposition=st.sampled_from(Disposition),
        answered_at=st.none() | st.integers(-7_300, 7_300).map(lambda seconds: NOON + timedelta(seconds=seconds)),
        wait_ms=st.sampled_from([0, 1_999, 2_000, 2_001, 9_000]),
        times=st.integers(1, 3),
        fails=st.booleans(),
    ),
    max_size=25,
)


def served(answered_at: datetime, campaign: int = 0) -> Call:
    return Call(campaign, Disposition.BRIDGED, answered_at, 60)


def dropped(answered_at: datetime, campaign: int = 0) -> Call:
    return Call(campaign, Disposition.ABANDONED, answered_at, 2_500)


def named(name: str, **changes: object) -> Campaign:
    return CAMPAIGN.model_copy(update={"name": name, **changes})


def record(call: Call, one: Lease, campaign_id: int) -> CdrRow:
    cdr = cdr_of(one, campaign_id, call.disposition)
    cdr.answered_at, cdr.wait_ms = call.answered_at, call.wait_ms if call.answered_at else None
    cdr.abandoned = abandoned_of(cdr, 2.0)
    if call.disposition is Disposition.MACHINE:
        cdr.false_positive_permille = call.wait_ms % 100
    return cdr


class _HalfWayError(Exception):
    pass


async def close(database: Database, filled: Sequence[Filled], calls: Sequence[Call]) -> None:
    """Closes all of them at once; campaign number n of a call is the nth of `filled`."""

    async def one(call: Call, of: Lease, campaign_id: int) -> None:
        def fail(session: Session) -> None:
            close_attempt(session, record(call, of, campaign_id), STEP, NOON)
            raise _HalfWayError

        if call.fails:
            with pytest.raises(_HalfWayError):
                await database.write(fail)
        done = [
            await database.write(lambda s: close_attempt(s, record(call, of, campaign_id), STEP, NOON))
            for _ in range(call.times)
        ]
        assert done == [True] + [False] * (call.times - 1)

    async with trio.open_nursery() as nursery:
        for number, each in enumerate(filled):
            mine = [call for call in calls if call.campaign == number]
            leases = await take(database, each, len(mine)) if mine else []
            for call, of in zip(mine, leases, strict=True):
                nursery.start_soon(one, call, of, each.id)


def counted(session: Session) -> dict[tuple[int, datetime], AbandonmentCounts]:
    rows = session.exec(select(AbandonmentHourRow))
    return {
        (row.campaign_id, row.hour): AbandonmentCounts(
            row.live_answers, row.abandoned, row.machines, row.false_positive_permille
        )
        for row in rows
    }


def recounted(session: Session) -> dict[tuple[int, datetime], AbandonmentCounts]:
    """The same from the records alone."""
    found: dict[tuple[int, datetime], AbandonmentCounts] = defaultdict(AbandonmentCounts)
    for cdr in session.exec(select(CdrRow)):
        if cdr.answered_at is None:
            continue
        if cdr.abandoned is not None:
            found[cdr.campaign_id, hour_of(cdr.answered_at)] += AbandonmentCounts(1, int(cdr.abandoned))
        elif cdr.disposition is Disposition.MACHINE:
            permille = cdr.false_positive_permille or 0
            found[cdr.campaign_id, hour_of(cdr.answered_at)] += AbandonmentCounts(0, 0, 1, permille)
    return found


async def check_exact(url: str, calls: Sequence[Call]) -> None:
    async with open_database(url, node="test") as database:
        filled = [await fill(database, len(calls), campaign=named(name)) for name in ("a", "b", "c")]
        await close(database, filled, calls)

        def check(session: Session) -> None:
            cdrs = session.exec(select(CdrRow)).all()
            assert len(cdrs) == len(calls)
            found = recounted(session)
            assert counted(session) == found
            for since in (NOON - 2 * HOUR, NOON, NOON + timedelta(minutes=30)):
                for ids in ([filled[0].id], [each.id for each in filled]):
                    inside = [found[key] for key in found if key[0] in ids and key[1] >= hour_of(since)]
                    assert counts(session, ids, since) == sum(inside, AbandonmentCounts())

        await database.read(check)


@settings(max_examples=25, deadline=None)
@given(calls=CALLS)
def test_the_counts_are_exact(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory, calls: list[Call]
) -> None:
    """Whatever is closed, together, again, or only after it failed half way."""
    path = tmp_path_factory.mktemp("exact") / "dialer.db"
    shutil.copy(sqlite_template, path)
    trio.run(check_exact, f"sqlite:///{path}", calls)


async def test_the_counts_are_exact_on_each_database(url: str) -> None:
    dice = random.Random(3)
    calls = [
        Call(
            dice.randrange(3),
            dice.choice(list(Disposition)),
            NOON + timedelta(seconds=dice.randint(-7_300, 7_300)) if dice.random() < 0.8 else None,
            dice.choice([0, 2_000, 2_001]),
            dice.randint(1, 2),
            dice.random() < 0.1,
        )
        for _ in range(300)
    ]
    await check_exact(url, calls)


async def test_two_daemons_that_close_calls_of_the_same_campaigns(postgres_url: str) -> None:
    """They count into the same rows, in any order: one waits for the other, or is refused and tries again."""
    async with open_database(postgres_url, node="one") as one, open_database(postgres_url, node="two") as two:
        filled = [await fill(one, 40, campaign=named(name), first=at) for at, name in ((0, "a"), (40, "b"))]
        leases = [(each, await take(one, each, 40)) for each in filled]

        async def close_surely(database: Database, of: Lease, campaign_id: int) -> None:
            cdr = record(served(NOON), of, campaign_id)
            while True:
                try:
                    await database.write(lambda s: close_attempt(s, CdrRow(**cdr.model_dump()), STEP, NOON))
                except UnavailableError:  # a deadlock, which PostgreSQL resolves at the cost of one of the two
                    continue
                return

        async with trio.open_nursery() as nursery:
            for each, taken in leases:
                for number, of in enumerate(taken):
                    nursery.start_soon(close_surely, (one, two)[number % 2], of, each.id)
        assert await one.read(counted) == {(each.id, NOON): AbandonmentCounts(40, 0) for each in filled}


async def test_a_close_is_one_statement_more_and_none_for_what_does_not_count(sqlite_url: str) -> None:
    async with open_database(sqlite_url, node="test") as database:
        filled = await fill(database, 3)
        leases = await take(database, filled, 3)
        statements: list[str] = []

        def close_one(session: Session, call: Call, one: Lease) -> None:
            connection = session.connection()
            event.listen(connection, "before_cursor_execute", note)
            close_attempt(session, record(call, one, filled.id), STEP, NOON)
            event.remove(connection, "before_cursor_execute", note)

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            statements.append(statement.split()[0] + " " + statement.split()[1])

        needed = []
        for call, one in zip(
            (Call(0, Disposition.BUSY, None, 0), Call(0, Disposition.HUNG_UP, NOON, 9), served(NOON)),
            leases,
            strict=True,
        ):
            statements.clear()
            await database.write(partial(close_one, call=call, one=one))
            needed.append(len(statements))
        assert needed == [3, 3, 4]


async def test_windows_roll_by_whole_hours(database: Database) -> None:
    now = NOON + timedelta(minutes=59, seconds=59)  # windows begin in the hour of NOON, and count it whole
    day, month = timedelta(days=1), timedelta(days=30)
    filled = await fill(database, 20)
    moments = [
        (NOON - day, 1, 1),
        (NOON - day - timedelta(microseconds=1), 0, 1),
        (NOON - month, 0, 1),
        (NOON - month - timedelta(microseconds=1), 0, 0),
        (now, 1, 1),
        (now + HOUR, 1, 1),  # the switch's clock is ahead
    ]
    await close(database, [filled], [dropped(moment) for moment, _, _ in moments])
    found = await database.read(lambda s: window(s, filled.id, now))
    assert found.day == AbandonmentCounts(3, 3) == AbandonmentCounts(sum(d for _, d, _ in moments), 3)
    assert found.month == AbandonmentCounts(5, 5) == AbandonmentCounts(sum(m for _, _, m in moments), 5)
    assert (found.group_day, found.group_month) == (found.day, found.month)
    an_hour_on = await database.read(lambda s: window(s, filled.id, now + timedelta(seconds=1)))
    assert (an_hour_on.day, an_hour_on.month) == (AbandonmentCounts(2, 2), AbandonmentCounts(4, 4))


async def test_a_group_shares_its_counts_and_others_do_not(database: Database) -> None:
    definitions = [
        named("a", budget_group="x"), named("b", budget_group="x"), named("c", budget_group="y"), named("d"),
        named("e"),
    ]  # fmt: skip
    filled = [await fill(database, 40, campaign=one) for one in definitions]
    old = NOON - timedelta(days=3)
    calls = [
        *(served(NOON, 0) for _ in range(10)), dropped(NOON, 0), dropped(old, 0),
        *(served(NOON, 1) for _ in range(20)), dropped(old, 1),
        *(dropped(NOON, 2) for _ in range(3)),
        *(dropped(NOON, 3) for _ in range(4)),
    ]  # fmt: skip
    await close(database, filled, calls)
    a, b, c, d, e = [await database.read(partial(window, campaign_row_id=one.id, now=NOON)) for one in filled]
    assert (a.day, a.month) == (AbandonmentCounts(11, 1), AbandonmentCounts(12, 2))
    assert (b.day, b.month) == (AbandonmentCounts(20, 0), AbandonmentCounts(21, 1))
    assert (a.group_day, a.group_month) == (b.group_day, b.group_month)
    assert (a.group_day, a.group_month) == (AbandonmentCounts(31, 1), AbandonmentCounts(33, 3))
    assert c.group_day == c.day == AbandonmentCounts(3, 3)
    assert d.group_day == d.day == AbandonmentCounts(4, 4)  # two without a group are not one group
    assert e.group_month == e.month == AbandonmentCounts()

    # A campaign that joins brings its past with it.
    await database.write(lambda s: add_campaign(s, named("d", budget_group="x"), NOON))
    joined = await database.read(partial(window, campaign_row_id=filled[0].id, now=NOON))
    assert joined.group_day == AbandonmentCounts(35, 5)
    assert joined.day == a.day


async def test_hours_and_the_calls_behind_them(database: Database) -> None:
    filled = [await fill(database, 10, campaign=named(name)) for name in ("a", "b")]
    early, late = NOON - HOUR, NOON + timedelta(minutes=30)
    calls = [dropped(late), served(late), dropped(NOON), dropped(early), served(early), dropped(NOON, 1)]
    await close(database, filled, calls)
    assert await database.read(lambda s: hours(s, filled[0].id, early)) == {
        early: AbandonmentCounts(2, 1),
        NOON: AbandonmentCounts(3, 2),
    }
    assert list(await database.read(lambda s: hours(s, filled[0].id, late))) == [NOON]
    found = await database.read(lambda s: abandoned_calls(s, filled[0].id, late))
    assert [cdr.answered_at for cdr in found] == [NOON, late]
    assert all(cdr.abandoned for cdr in found)


async def test_the_calls_are_found_by_their_index(sqlite_url: str) -> None:
    async with open_database(sqlite_url, node="test") as database:
        asked: list[tuple[str, object]] = []

        def plan(session: Session) -> str:
            connection = session.connection()

            def note(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
                asked.append((statement, parameters))

            event.listen(connection, "before_cursor_execute", note)
            abandoned_calls(session, 1, NOON)
            event.remove(connection, "before_cursor_execute", note)
            statement, parameters = asked[0]
            return str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all())  # type: ignore[arg-type]

        assert "USING INDEX ix_cdr_abandoned" in await database.read(plan)
