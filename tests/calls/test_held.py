"""A call for which an agent is held before it is placed, as a lead may need it that was once abandoned."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import pytest
import trio

from campaigns.disposition import Disposition
from campaigns.leases import Lease
from campaigns.recycle import History
from dialer.agents.agent import AgentState
from dialer.calls.attempt import Attempt, Phase
from dialer.calls.held import HeldAttempt
from dialer.calls.launch import begin, begin_held
from dialer.errors import UnavailableError
from tests.house import House, house, number

NOW = datetime(2026, 11, 23, 17, tzinfo=UTC)


async def leased(home: House, count: int, *promised_by: str | None) -> list[Attempt]:
    """Attempts at the next `count` leads, each with an agent held for it as far as there are agents.

    The first of them are call-backs, by the agents in `promised_by`.
    """
    leases, campaign, campaign_id = await home.lease(count)
    for index, agent in enumerate(promised_by):
        leases[index] = attrs.evolve(leases[index], callback_at=NOW, callback_agent=agent)
    return await begin_held(leases, campaign, campaign_id, home.daemon.world, lambda _attempt: None)


async def run_all(attempts: list[Attempt]) -> None:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for attempt in attempts:
                nursery.start_soon(attempt.run)


async def test_each_lead_has_its_agent_before_it_is_called_or_goes_back(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await home.campaign()
        await home.leads([number(index) for index in range(2)])
        await home.ready("1000")
        attempts = await leased(home, 2)
        assert [type(one) for one in attempts] == [HeldAttempt, Attempt]
        await home.agent_is("1000", AgentState.RESERVED)
        assert home.switch.statistics().originated == 0
        await run_all(attempts)
        (cdr,) = await home.cdrs()
        assert (cdr.disposition.value, cdr.agent, cdr.number) == ("bridged", "1000", number(0))
        assert await home.lead_counts() == {"done": 1, "new": 1}
        await home.all_put_back("1000")


async def test_without_redis_nobody_is_called_and_no_agent_stays_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as home, home.living():
        await home.campaign()
        await home.leads([number(0)])
        await home.ready("1000")
        roster = home.daemon.roster
        claim_for = roster.claim_for

        async def claim_and_say_nothing(*args: object) -> None:
            await claim_for(*args)  # type: ignore[arg-type]
            roster._held.clear()
            raise UnavailableError("it did not answer")

        monkeypatch.setattr(roster, "claim_for", claim_and_say_nothing)
        await run_all(await leased(home, 1))
        assert await home.lead_counts() == {"new": 1}
        await home.all_put_back("1000")


async def test_when_that_agent_s_phone_fails_another_idle_agent_is_better_than_nobody(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await home.campaign()
        await home.leads([number(0)])
        await home.ready("1000")
        (attempt,) = await leased(home, 1)
        await home.ready("1001")
        home.switch.faults.force("bridge_loses_agent")
        await run_all([attempt])
        (cdr,) = await home.cdrs()
        assert (cdr.disposition.value, cdr.agent) == ("bridged", "1001")
        await home.all_put_back("1000", "1001")


async def test_a_call_that_is_over_before_anybody_talks_gives_the_agent_back_at_once(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await home.campaign(wrap_up_seconds="60.0")  # nobody talked: there is nothing to wrap up
        await home.leads([number(0, 1)])
        await home.ready("1000")
        (attempt,) = await leased(home, 1)
        await run_all([attempt])
        assert attempt.phase is Phase.CLOSING
        await home.all_put_back("1000")


async def test_a_call_back_is_made_by_the_agent_who_promised_it_or_not_at_all(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.living():
        await home.campaign()
        await home.leads([number(index) for index in range(4)])
        await home.ready("1000", "1001", "1002")  # 1000 is the longest idle
        attempts = await leased(home, 4, "1001", "1003", "1001")
        held = [one.extension if isinstance(one, HeldAttempt) else None for one in attempts]
        assert held == ["1001", None, None, "1000"]
        await home.agent_is("1002", AgentState.IDLE)
        await run_all(attempts)
        assert {cdr.number: cdr.agent for cdr in await home.cdrs()} == {number(0): "1001", number(3): "1000"}
        assert await home.lead_counts() == {"done": 2, "new": 2}
        await home.all_put_back("1000", "1001", "1002")


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({}, False),
        ({"last_disposition": Disposition.ABANDONED}, True),
        ({"last_disposition": Disposition.SKIPPED, "history": History(abandoned_at=NOW)}, True),
        ({"callback_at": NOW}, True),
        ({"callback_at": NOW, "callback_agent": "1000"}, True),
    ],
)
async def test_who_is_owed_an_agent_is_called_with_one_held(
    tmp_path: Path, changes: dict[str, Any], held: bool
) -> None:
    async with house(tmp_path) as home, home.living():
        await home.campaign()
        await home.ready("1000")
        lease = attrs.evolve(Lease(str(uuid4()), 1, number(0), "carrier_a", "fs", 1, {}), **changes)
        campaign = await home.daemon.campaigns.definition("test")
        (attempt,) = await begin([lease], campaign, 1, home.daemon.world, lambda _attempt: None)
        assert isinstance(attempt, HeldAttempt) is held


async def test_redis_goes_between_the_promised_calls_and_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as home, home.living():
        await home.campaign()
        await home.leads([number(index) for index in range(2)])
        await home.ready("1000", "1001")

        async def away(*_args: object) -> None:
            raise UnavailableError("it did not answer")

        monkeypatch.setattr(home.daemon.roster, "claim_for", away)
        await run_all(await leased(home, 2, "1001"))
        (cdr,) = await home.cdrs()
        assert (cdr.number, cdr.agent) == (number(0), "1001")
        await home.all_put_back("1000", "1001")
