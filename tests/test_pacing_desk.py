"""What campaigns share: one budget, the agents, and what is stored of them, by this daemon and others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import attrs
import pytest
import trio
from sqlalchemy import text

from campaigns import store
from campaigns.campaign import Campaign, parse_campaign
from campaigns.database import Database, open_database
from campaigns.leases import Lease
from dialer import pacing_desk
from dialer.calls.attempt import Attempt, Phase
from dialer.campaign_pacing import CampaignPacing
from dialer.clock import SystemClock
from dialer.pacing.pacer import Answered, HeldBy, View
from dialer.pacing_desk import PacingDesk
from tests.patience import eventually


def campaign(name: str, **more: str) -> Campaign:
    lines = {"name": f'"{name}"', "gateways": '["a"]', "country": '"US"', **more}
    return parse_campaign("\n".join(f"{key} = {value}" for key, value in lines.items()), "test")


@pytest.mark.parametrize("order", [("strict", "lax"), ("lax", "strict")])
async def test_the_strictest_limit_of_a_group_holds_for_all(tmp_path: Path, order: tuple[str, str]) -> None:
    limits = {"strict": "1.0", "lax": "5.0"}
    async with open_database(f"sqlite:///{tmp_path}/d.db", node=None) as database:
        desk, now, pacings = PacingDesk(database, SystemClock()), datetime.now(UTC), {}
        for index, name in enumerate(order, 1):
            one = campaign(name, mode='"ratio"', budget_group='"g"', abandon_limit_percent=limits[name])
            await database.write(lambda session, one=one: store.add_campaign(session, one, now))  # type: ignore[misc]
            pacings[name] = await desk.of(index, one)
        windows = (Answered(1000, 25),) * 4  # 2.5 %
        view = View(trio.current_time(), idle_agents=10, ringing=0, waiting=0, in_flight=0, windows=windows)
        assert pacings["strict"].decide("fs", view).held_by is HeldBy.BUDGET


async def test_a_campaign_of_another_version_keeps_no_other_from_its_counts(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/d.db", node=None) as database:
        now, one, other = datetime.now(UTC), campaign("one"), campaign("other")
        for each in (one, other):
            await database.write(lambda session, each=each: store.add_campaign(session, each, now))  # type: ignore[misc]
        newer = text("UPDATE campaign SET definition = json_set(definition, '$.newer', 1) WHERE name = 'other'")
        await database.write(lambda session: session.connection().execute(newer))
        pacing = await PacingDesk(database, SystemClock()).of(1, one)
        assert pacing.windows()


@asynccontextmanager
async def high_and_low(folder: Path) -> AsyncIterator[tuple[CampaignPacing, CampaignPacing, View]]:
    """Two running campaigns of one team, and what ten idle agents look like."""
    async with open_database(f"sqlite:///{folder}/d.db", node=None) as database:
        desk, now, pacings = PacingDesk(database, SystemClock()), datetime.now(UTC), []
        for index, (name, priority) in enumerate((("high", "2"), ("low", "1")), 1):
            one = campaign(name, mode='"progressive"', team='"sales"', priority=priority)
            await database.write(lambda session, one=one: store.add_campaign(session, one, now))  # type: ignore[misc]
            pacings.append(await desk.of(index, one))
            pacings[-1].running = True
        high, low = pacings
        yield high, low, View(trio.current_time(), idle_agents=10, ringing=0, waiting=0, in_flight=0, windows=())


async def test_a_campaign_goes_first_only_on_switches_where_it_has_trunks(tmp_path: Path) -> None:
    async with high_and_low(tmp_path) as (high, low, view):
        high.may_dial_on({"fs1"})
        assert high.decide("fs1", view).calls == 10
        assert "the agents are for high" in low.decide("fs1", view).reason
        assert low.decide("fs2", view).calls == 10
        high.may_dial_on(())  # its switch is away
        assert low.decide("fs1", view).calls == 10


async def test_the_higher_priority_goes_first_before_its_first_decision_too(tmp_path: Path) -> None:
    async with high_and_low(tmp_path) as (high, low, view):
        low.may_dial_on({"fs1"})
        assert low.decide("fs1", view).calls == 0
        high.may_dial_on({"fs1"})
        high.hold("fs1", HeldBy.LEADS)
        assert low.decide("fs1", view).calls == 10


async def test_a_broadcast_uses_no_agents_and_goes_before_nobody(tmp_path: Path) -> None:
    async with high_and_low(tmp_path) as (high, low, view):
        for one in (high, low):
            one.may_dial_on({"fs1"})
        agents_first, low.campaign = high.campaign, low.campaign.model_copy(update={"mode": "broadcast"})
        assert low.decide("fs1", view).calls > 0  # it does not wait for the others
        low.campaign = low.campaign.model_copy(update={"mode": "progressive"})
        assert low.decide("fs1", view).calls == 0
        high.campaign = agents_first.model_copy(update={"mode": "broadcast"})
        assert low.decide("fs1", view).calls > 0  # nor they for it


# What is stored, and who goes on from it.


@attrs.define
class At:
    """A clock that stands still until it is set."""

    moment: datetime

    def now(self) -> datetime:
        return self.moment


MORNING = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)


@asynccontextmanager
async def stored(folder: Path, *campaigns: Campaign) -> AsyncIterator[tuple[Database, At]]:
    async with open_database(f"sqlite:///{folder}/d.db", node=None) as database:
        for one in campaigns:
            await database.write(lambda session, one=one: store.add_campaign(session, one, MORNING))  # type: ignore[misc]
        yield database, At(MORNING)


def dials(pacing: CampaignPacing, calls: int) -> None:
    """It decides, and so many calls end unanswered."""
    pacing.decide("fs", View(trio.current_time(), idle_agents=0, ringing=0, waiting=0, in_flight=0))
    tables = pacing.demand("fs").tables
    for _ in range(calls):
        tables.was_not_answered(20.0)


def finished(pacing: CampaignPacing) -> int:
    return pacing.demand("fs").tables.finished


async def test_a_daemon_that_waits_for_the_lease_stores_nothing_and_goes_on_from_what_the_other_learned(
    tmp_path: Path,
) -> None:
    one = campaign("one", mode='"predictive"')
    async with stored(tmp_path, one) as (database, clock):
        first, second = PacingDesk(database, clock), PacingDesk(database, clock)
        dialing, waiting = await first.of(1, one), await second.of(1, one)
        dials(dialing, 200)
        dialing.budget.abandoned(5)
        await first._store()
        clock.moment += timedelta(seconds=5)
        await second._store()
        assert (finished(waiting), finished(await PacingDesk(database, clock).of(1, one))) == (0, 200)
        await second.take_over(waiting)
        assert (finished(waiting), waiting.budget.balance) == (200, dialing.budget.balance)
        dials(waiting, 50)
        await second.take_over(waiting)  # its lease ran out for a moment: nobody else knows more
        assert finished(waiting) == 250


async def test_an_hour_in_which_nothing_was_dialed_stays_as_it_was_and_is_gone_on_from(tmp_path: Path) -> None:
    one = campaign("one", mode='"predictive"')
    async with stored(tmp_path, one) as (database, clock):
        desk = PacingDesk(database, clock)
        pacing = await desk.of(1, one)
        dials(pacing, 200)
        await desk._store()
        clock.moment += timedelta(hours=9)
        dials(pacing, 1000)
        await desk._store()
        clock.moment = MORNING + timedelta(days=1)  # the daemon lives on, and the campaign stands still
        await desk._store()
        assert finished(await PacingDesk(database, clock).of(1, one)) == 200
        await desk.take_over(pacing)
        assert finished(pacing) == 200


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
async def test_a_group_goes_on_from_the_budget_it_had_last(tmp_path: Path, order: tuple[int, int]) -> None:
    group = {index: campaign(name, budget_group='"g"') for index, name in ((1, "old"), (2, "new"))}
    async with stored(tmp_path, *group.values()) as (database, clock):
        for index, abandoned in ((1, 0), (2, 20)):
            desk = PacingDesk(database, clock)
            pacing = await desk.of(index, group[index])
            dials(pacing, 1)
            pacing.budget.connected()
            pacing.budget.abandoned(abandoned)
            await desk._store()
            clock.moment += timedelta(days=30)
        balance = pacing.budget.balance
        desk = PacingDesk(database, clock)
        for index in order:
            pacing = await desk.of(index, group[index])
        assert pacing.budget.balance == balance


def call_in(phase: Phase, **facts: bool) -> SimpleNamespace:
    known = {"taken_back": False, "abandoned": False, "connected_late": False, "abandoned_on_record": False}
    lease = Lease("u", 1, "+12025550123", "a", "fs", 1, {})
    others = {"wants_agent": True, "was_machine": False, "failed_by_trunk": False}
    return SimpleNamespace(uuid="u", lease=lease, phase=phase, **others, **(known | facts))


@pytest.mark.parametrize(
    ("facts", "abandoned"),
    [({"abandoned": True}, 1), ({"taken_back": True}, 1), ({"abandoned_on_record": True}, 1), ({}, 0)],
)
async def test_whoever_found_nobody_is_counted_once_by_all_of_the_group(
    tmp_path: Path, facts: dict[str, bool], abandoned: int
) -> None:
    one, other = (campaign(name, mode='"predictive"', budget_group='"g"') for name in ("one", "other"))
    async with stored(tmp_path, one, other) as (database, clock):
        desk = PacingDesk(database, clock)
        mine, theirs = await desk.of(1, one), await desk.of(2, other)
        call = call_in(Phase.DIALING)
        mine.placed(cast(Attempt, call))
        for phase in (Phase.RINGING, Phase.WAITING, Phase.CONNECTING, Phase.CLOSING):
            call.phase = phase
            if phase is Phase.CLOSING:
                vars(call).update(facts)
            mine.moved(cast(Attempt, call))
        mine.over(cast(Attempt, call))
        assert [window.abandoned for window in mine.windows()] == [abandoned] * 4
        assert [window.abandoned for window in theirs.windows()] == [0, 0, abandoned, abandoned]
        assert (mine.budget.balance < 0, mine.budget is theirs.budget) == (bool(abandoned), True)
        for pacing in (mine, theirs):  # it is not in this database, as if it had been counted
            await pacing.count(database)
            pacing.forget_counted()
        assert [window.abandoned for window in (*mine.windows(), *theirs.windows())] == [0] * 8


async def test_who_moves_to_another_group_takes_its_answers_along(tmp_path: Path) -> None:
    one = campaign("one", budget_group='"g"')
    async with stored(tmp_path, one) as (database, clock):
        desk = PacingDesk(database, clock)
        pacing = await desk.of(1, one)
        call = call_in(Phase.RINGING, abandoned=True)
        pacing.placed(cast(Attempt, call))
        for call.phase in (Phase.WAITING, Phase.CLOSING):
            pacing.moved(cast(Attempt, call))
        again = await desk.of(1, one.model_copy(update={"budget_group": "h"}))
        assert (again, [window.abandoned for window in again.windows()]) == (pacing, [1, 1, 1, 1])


async def test_days_pass_for_a_campaign_that_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing_desk, "COUNT_SECONDS", 0.01)
    monkeypatch.setattr(pacing_desk, "STORE_SECONDS", 0.02)
    one = campaign("one")
    async with stored(tmp_path, one) as (database, clock):
        hour = text(
            "INSERT INTO abandonment_hour (campaign_id, hour, live_answers, abandoned, machines,"
            " false_positive_permille) VALUES (1, '2026-01-05 09:00:00.000000', 100, 4, 0, 0)"
        )
        await database.write(lambda session: session.connection().execute(hour))
        desk = PacingDesk(database, clock)
        pacing = await desk.of(1, one)
        assert pacing.report()["abandoned_day"] == 4
        clock.moment += timedelta(days=3)

        async def the_day_is_over() -> bool:
            return bool(pacing.report()["abandoned_day"] == 0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.keep_house)
            await eventually(the_day_is_over)
            nursery.cancel_scope.cancel()
        assert pacing.report()["abandoned_month"] == 4


async def test_calls_of_a_campaign_that_moves_to_another_team_are_seen_by_the_team_they_were_placed_for(
    tmp_path: Path,
) -> None:
    one, other = (campaign(name, team='"sales"') for name in ("one", "other"))
    async with stored(tmp_path, one, other) as (database, clock):
        desk = PacingDesk(database, clock)
        mine, theirs = await desk.of(1, one), await desk.of(2, other)
        first, second = call_in(Phase.RINGING), call_in(Phase.RINGING)
        second.uuid = "later"
        mine.placed(cast(Attempt, first))
        assert theirs.team_calls("fs") == (1, 0)
        await desk.of(1, one.model_copy(update={"team": "support"}))
        mine.placed(cast(Attempt, second))
        assert theirs.team_calls("fs")[0] >= 1
        for first.phase in (Phase.WAITING, Phase.CONNECTING, Phase.TALKING):
            mine.moved(cast(Attempt, first))
        assert (theirs.team_calls("fs"), mine.team_calls("fs")) == ((0, 0), (1, 0))
        await desk.of(1, one)  # and back again
        assert theirs.team_calls("fs") == (1, 0)
