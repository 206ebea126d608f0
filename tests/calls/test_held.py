"""A call for which an agent is held before it is placed, as a lead may need it that was once abandoned."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
import trio

from campaigns import store
from campaigns.rules.callable import RuleBook
from campaigns.slots import Slot
from dialer.agents.agent import AgentState
from dialer.calls.attempt import Attempt, Phase
from dialer.calls.held import HeldAttempt
from dialer.calls.launch import begin_held
from dialer.errors import UnavailableError
from tests.house import House, house, number


async def leased(home: House, count: int) -> list[Attempt]:
    """Attempts at the next `count` leads, each with an agent held for it as far as there are agents."""
    daemon = home.daemon
    row = await daemon.database.read(lambda session: store.get_campaign(session, "test"))
    campaign, campaign_id = store.definition_of(row), row.id or 0
    slots = [Slot(str(uuid4()), "carrier_a", "fs") for _ in range(count)]
    await daemon.gateways["carrier_a"].take([slot.uuid for slot in slots])
    trunks = {one.name: one.settings.trunk() for one in daemon.gateways.all()}
    leases = (await daemon.ledger.lease(RuleBook(campaign, campaign_id), slots, trunks)).leases
    assert len(leases) == count
    return await begin_held(leases, campaign, campaign_id, daemon.world, lambda _attempt: None)


async def run_all(attempts: list[Attempt]) -> None:
    with trio.fail_after(20):
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
