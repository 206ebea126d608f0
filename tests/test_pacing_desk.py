"""What campaigns share: one budget, and a database with campaigns of another version in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
from sqlalchemy import text

from campaigns import store
from campaigns.campaign import Campaign, parse_campaign
from campaigns.database import open_database
from dialer.campaign_pacing import CampaignPacing, PacingDesk
from dialer.clock import SystemClock
from dialer.pacing.pacer import Answered, HeldBy, View


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
