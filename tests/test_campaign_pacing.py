"""What pacers are told by the daemon, and what becomes of their decisions: in virtual time, with everything real."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import trio
from sqlmodel import SQLModel

from campaigns import store
from campaigns.abandonment import hour_of
from campaigns.campaign import CampaignStatus
from campaigns.disposition import Disposition
from campaigns.lead import LeadStatus
from dialer.campaign_pacing import CampaignPacing
from dialer.pacing.answer_model import LeadTraits
from dialer.pacing.pacer import HeldBy
from dialer.simulator.scenario import Outcome
from tests.faults.virtual import SOON_AGAIN, VirtualHouse, campaign, lead, run_virtually
from tests.house import number

SLOW_TALK = {"gateways": {"carrier_a": {"talk": 20.0, "answer_delay": 2.0}}}
PEOPLE = {
    "phones": [{"extensions": "1000-1009", "answer_delay": 0.05}],
    "gateways": {
        "carrier_a": {
            "ring_delay": 0.2,
            "answer_delay": {"kind": "uniform", "low": 1.0, "high": 8.0},
            "gives_up_after": 12.0,
            "talk": {"kind": "uniform", "low": 5.0, "high": 30.0},
            "mix": {"answer": 40, "no_answer": 50, "busy": 10},
            "scripts": [],
        }
    },
}
ONCE = {"retries": "{ max_attempts = 1 }", "ring_seconds": "20"}
TEN = tuple(str(1000 + index) for index in range(10))


def pacing(house: VirtualHouse, campaign_id: int = 1) -> CampaignPacing:
    known = house.daemon.pacing.known(campaign_id)
    assert known is not None
    return known


def add_people(house: VirtualHouse, count: int, campaign_id: int = 1, first: int = 0) -> None:
    numbers = (f"+1202{3000000 + 10 * (first + index)}" for index in range(count))
    house.add_leads(numbers, campaign_id)


async def add_campaign(house: VirtualHouse, **changes: str) -> None:
    definition, now = campaign(**changes), house.clock.now()
    house.sql(lambda session: store.add_campaign(session, definition, now))
    house.sql(lambda session: store.set_campaign_status(session, definition.name, CampaignStatus.RUNNING, now))
    await house.daemon.desk.campaigns_changed()


async def redefine(house: VirtualHouse, **changes: str) -> None:
    definition, now = campaign(**changes), house.clock.now()
    house.sql(lambda session: store.add_campaign(session, definition, now))
    await house.daemon.desk.campaigns_changed()


def in_virtual_time(
    redis_url: str, story: Callable[[VirtualHouse], Any], changes: dict[str, Any], gateway: str = ""
) -> None:
    async def told() -> None:
        async with VirtualHouse(redis_url, changes=changes, concurrency=200, gateway=gateway).standing() as house:
            await house.start()
            await story(house)

    run_virtually(told)


def test_predictive_dials_ahead_of_agents_once_it_has_learned(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([], TEN, running=False, mode='"predictive"', wrap_up_seconds="5", **ONCE)
        add_people(house, 4000)
        await house.begin_running()
        await house.until(lambda: house.daemon.pacing.known(1) is not None, "known", 10)
        ahead: list[int] = []

        def seen() -> bool:
            ringing, _ = pacing(house).team_calls("fs")
            idle = sum(house.client.zcard(key) for key in house.client.scan_iter(f"{house.prefix}idle:*"))
            ahead.append(ringing - idle)
            tables = pacing(house).demand("fs").tables
            if tables.finished < 40:
                assert ahead[-1] <= 0, "more calls than idle agents before anything is known"
            return trio.current_time() > 1500

        await house.until(seen, "a good while", 2000)
        assert max(ahead) > 3
        report = pacing(house).report()
        assert report["occupancy_percent"] > 68  # one call for each idle agent would keep them busy for some 60 %
        assert report["abandoned_day"] <= 0.03 * report["live_answers_day"]
        records = [cdr for cdr in house.cdrs() if cdr.abandoned is not None]
        over = [one for one in house.customers() if one.is_answered and one.hung_up_at]
        lived = [one for one in over if not one.ever_bridged or (one.bridged_at - one.answered) // 1000 > 2000]
        assert sum(bool(cdr.abandoned) for cdr in records) == len(lived)

    in_virtual_time(redis_url, story, PEOPLE)


def test_with_too_few_agents_predictive_is_progressive(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([], TEN[:2], running=False, mode='"predictive"', **ONCE)
        add_people(house, 500)
        await house.begin_running()
        most = 0

        def seen() -> bool:
            nonlocal most
            most = max(most, sum(pacing(house).team_calls("fs")) if house.daemon.pacing.known(1) else 0)
            return trio.current_time() > 900

        await house.until(seen, "a quarter of an hour", 1000)
        assert 0 < most <= 2
        assert "3 are needed" in house.daemon.campaigns._running["test"].runner.reason

    in_virtual_time(redis_url, story, PEOPLE)


def test_what_was_learned_survives_a_kill_and_a_change_of_mode(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([], TEN, running=False, **ONCE)
        add_people(house, 2000)
        await house.begin_running()
        await trio.sleep(600)
        before = pacing(house)
        learned, answers = before.demand("fs").tables.finished, before.demand("fs").tables.answered
        assert learned > 100
        chances = before.demand("fs").tables.fresh
        assert 0.3 < chances[-1] < 0.5  # four of ten answer,
        assert chances[0] < 0.1 < 0.2 < chances[8]  # and not at once
        assert before.budget.balance == 0  # nobody was at risk by then
        await redefine(house, mode='"predictive"', **ONCE)
        await trio.sleep(5)
        assert pacing(house) is before
        assert before.demand("fs").tables.finished >= learned
        await house.until(lambda: before.held_by is not HeldBy.SAFE_MODE, "predictive", 100)
        await house.until(lambda: before.budget.balance != 0, "bets", 100)
        await trio.sleep(120)  # and is kept
        await house.kill()
        await house.start()
        await house.until(lambda: house.daemon.pacing.known(1) is not None, "known again", 60)
        after = pacing(house)
        assert after is not before
        assert after.demand("fs").tables.finished > learned / 2
        assert after.demand("fs").tables.answered > answers / 2
        assert after.budget.balance != 0
        day, *_ = after.windows()
        assert day.live == sum(cdr.abandoned is not None for cdr in house.cdrs())  # exact, from the database

    in_virtual_time(redis_url, story, PEOPLE)


def test_who_talks_through_a_restart_is_known_to_come_free(redis_url: str) -> None:
    """A former life's conversations are in the supply as soon as they are adopted, as old as they are."""

    async def story(house: VirtualHouse) -> None:
        await house.begin([], TEN, running=False, wrap_up_seconds="5", **ONCE)
        add_people(house, 90)
        await house.begin_running()
        await trio.sleep(30)
        await house.kill()
        talking = sum(person.partner is not None for person in house.customers())
        assert talking >= 3
        await trio.sleep(1)
        await house.start()
        await house.until(lambda: bool(house.daemon.pacing.team("test").supplies), "adopted", 30)
        supply = house.daemon.pacing.team("test").supply("fs")
        assert supply.busy >= 3
        began = supply._talking._began[: len(supply._talking)]
        ages = sorted(trio.current_time() - began)
        assert ages[-2] > 1  # they talked before the restart: this life cannot have known them for so long
        assert 5 < ages[-1] < 40
        talks = supply.talks
        await house.until(lambda: house.finished, "all called", 1000)
        assert supply.talks > talks
        await house.until(lambda: supply.free_agents(trio.current_time()) is not None and not supply.busy, "free", 30)

    in_virtual_time(redis_url, story, PEOPLE)


def test_campaigns_of_a_team_share_agents_by_priority(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([], TEN[:3], running=False, team='"sales"', wrap_up_seconds="1", **ONCE)
        add_people(house, 30)
        await house.begin_running()
        await add_campaign(house, name='"urgent"', team='"sales"', priority="5", wrap_up_seconds="1", **ONCE)
        add_people(house, 10, campaign_id=2, first=5000)
        most = 0

        def urgent_done() -> bool:
            nonlocal most
            if house.daemon.pacing.known(2) is None:
                return False
            most = max(most, sum(pacing(house).team_calls("fs")))
            left = "SELECT count(*) FROM lead WHERE campaign_id = 2 AND status = 'new'"
            return not house.rows(left)[0][0]

        await house.until(urgent_done, "urgent ones called")
        done = house.rows("SELECT count(*) FROM attempt WHERE campaign_id = 1")[0][0]
        assert done <= 6  # those that were under way when the other campaign came
        await house.until(lambda: house.finished, "all called")
        assert most <= 3, "more calls than idle agents, of both campaigns together"
        assert {row[0] for row in house.rows("SELECT DISTINCT campaign_id FROM cdr WHERE agent IS NOT NULL")} == {
            1,
            2,
        }

    in_virtual_time(redis_url, story, {**PEOPLE, "phones": [{"extensions": "1000-1002", "answer_delay": 0.05}]})


def test_whoever_was_abandoned_is_called_again_only_with_an_agent_held(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([], TEN[:2], mode='"ratio"', calls_per_agent="5.0", ring_seconds="20")
        wronged = lead(number(0, 0), house.clock.now())
        wronged.status, wronged.last_disposition = LeadStatus.WAITING, Disposition.ABANDONED
        house.sql(lambda session: session.add(wronged))
        held: list[str] = []

        def called() -> bool:
            held.extend(agent["state"] for agent in agents_of(house) if house.customers() and agent.get("token"))
            return house.finished

        await house.until(called, "called")
        (person,) = house.customers()
        (cdr,) = house.cdrs()
        assert cdr.disposition is Disposition.BRIDGED
        assert "reserved" in held  # from before the call until it was answered
        assert person.ever_bridged

    def agents_of(house: VirtualHouse) -> list[dict[str, str]]:
        found: list[Any] = [house.client.hgetall(key) for key in house.client.scan_iter(f"{house.prefix}agent:*")]
        return found

    in_virtual_time(redis_url, story, SLOW_TALK)


def test_at_the_limit_every_mode_is_progressive(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([], TEN, running=False, mode='"ratio"', calls_per_agent="4.0", **ONCE)
        now = house.clock.now()

        def past(abandoned: int) -> None:
            with house.engine.begin() as connection:
                hours = SQLModel.metadata.tables["abandonment_hour"]
                connection.execute(
                    hours.insert(),
                    {
                        "campaign_id": 1,
                        "hour": hour_of(now - timedelta(hours=2)),
                        "live_answers": 1000,
                        "abandoned": abandoned,
                    },
                )

        past(abandoned=40)
        add_people(house, 3000)
        await house.begin_running()
        most = 0

        def seen() -> bool:
            nonlocal most
            most = max(most, sum(pacing(house).team_calls("fs")) if house.daemon.pacing.known(1) else 0)
            return trio.current_time() > 120

        await house.until(seen, "two minutes", 200)
        assert most <= len(TEN)
        assert pacing(house).held_by in (HeldBy.BUDGET, HeldBy.AGENTS)
        assert "may be abandoned" in house.daemon.campaigns._running["test"].runner.reason

    in_virtual_time(redis_url, story, PEOPLE)


def test_a_trunk_that_carries_no_calls_makes_it_safe_and_teaches_nothing_of_people(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([], TEN, running=False, mode='"predictive"', **ONCE)
        house.switch.change_mix("carrier_a", {Outcome.UNAVAILABLE: 1.0})
        add_people(house, 500)
        await house.begin_running()
        await house.until(lambda: house.daemon.pacing.known(1) is not None, "known", 10)
        traits = LeadTraits(12, 0, 1, "", "unknown", "", "carrier_a")
        odds_before = pacing(house).model.odds(traits)
        await trio.sleep(20)
        assert "would not carry" in pacing(house).trouble(trio.current_time())
        assert pacing(house).model.odds(traits) == odds_before
        assert pacing(house).demand("fs").tables.finished == 0
        await house.until(lambda: pacing(house).held_by in (HeldBy.SAFE_MODE, HeldBy.LEADS), "safe", 10)

    in_virtual_time(redis_url, story, PEOPLE, gateway="park_after_faults = 1000")


def test_ready_ends_a_wrap_up(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin(
            [number(0, 0)], TEN[:1], wrap_up_seconds="600", retries=f"{{ delay_seconds = {{ {SOON_AGAIN} }} }}"
        )
        await house.until(lambda: len(house.cdrs()) == 1, "called")
        agent = await house.daemon.roster.agent("1000")
        assert agent.wrap_until_ms > 0
        await house.daemon.desk.agent_ready("1000", "test")
        agent = await house.daemon.roster.agent("1000")
        assert (agent.wrap_until_ms, agent.token) == (0, "")

    in_virtual_time(redis_url, story, {})


def test_calls_that_ring_are_not_forgotten_when_the_campaign_is_redefined(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([], TEN, running=False, **ONCE)
        house.switch.change_mix("carrier_a", {Outcome.NO_ANSWER: 1.0})
        add_people(house, 100)
        await house.begin_running()
        await house.until(lambda: house.switch.statistics().originated == len(TEN), "one for each", 10)
        await redefine(house, retries="{ max_attempts = 1 }", ring_seconds="25")
        await trio.sleep(3)
        assert pacing(house).campaign.ring_seconds == 25
        assert pacing(house).team_calls("fs") == (len(TEN), 0)
        assert house.switch.statistics().originated == len(TEN)

    in_virtual_time(redis_url, story, PEOPLE)


def test_without_a_wrap_up_nobody_is_left_in_one(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([number(index, 0) for index in range(4)], TEN[:2], wrap_up_seconds="0", ring_seconds="20")
        await house.until(lambda: house.finished and not house.daemon.campaigns.calls_in_flight(), "called")
        team = house.daemon.pacing.team("test")
        assert sum(supply.talks for supply in team.supplies.values()) == 4
        assert sum(supply.busy for supply in team.supplies.values()) == 0

    in_virtual_time(redis_url, story, {})


def test_campaigns_of_one_rank_do_not_both_dial_for_the_same_agent(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([], TEN, running=False, team='"sales"', wrap_up_seconds="1", **ONCE)
        await add_campaign(house, name='"other"', team='"sales"', wrap_up_seconds="1", **ONCE)
        add_people(house, 300)
        add_people(house, 300, campaign_id=2, first=5000)
        await house.begin_running()
        most = 0

        def done() -> bool:
            nonlocal most
            up = sum(not channel.hung_up for channel in house.switch.channels.values())
            most = max(most, up - len(TEN))
            return house.finished

        await house.until(done, "all called", 3000)
        assert most <= len(TEN)
        assert {row[0] for row in house.rows("SELECT DISTINCT campaign_id FROM cdr WHERE agent IS NOT NULL")} == {
            1,
            2,
        }
        assert not house.rows("SELECT 1 FROM cdr WHERE abandoned")

    in_virtual_time(redis_url, story, PEOPLE)


def test_a_campaign_that_cannot_dial_keeps_nobody_waiting(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([], TEN[:3], running=False, team='"sales"', **ONCE)
        await add_campaign(house, name='"urgent"', team='"sales"', priority="5", gateways='["nowhere"]', **ONCE)
        add_people(house, 5)
        add_people(house, 5, campaign_id=2, first=5000)
        await house.begin_running()
        waiting = "SELECT 1 FROM lead WHERE campaign_id = 1 AND status IN ('new', 'dialing')"
        await house.until(lambda: not house.rows(waiting), "called", 120)

    in_virtual_time(redis_url, story, PEOPLE)


def test_calls_that_ring_when_previews_begin_find_their_agents(redis_url: str) -> None:
    async def story(house: VirtualHouse) -> None:
        await house.begin([], TEN, running=False, wrap_up_seconds="5", **ONCE)
        add_people(house, 100)
        await house.begin_running()
        known = house.daemon.pacing.known
        await house.until(lambda: (one := known(1)) is not None and one.team_calls("fs")[0] > 7, "calls ring")
        await redefine(house, mode='"preview"', preview_seconds="30", wrap_up_seconds="5", **ONCE)
        await trio.sleep(25)
        (found,) = house.rows("SELECT count(*), sum(abandoned) FROM cdr WHERE abandoned IS NOT NULL")
        assert found[0] >= 3
        assert found[1] == 0
        assert pacing(house).campaign.mode == "preview"

    in_virtual_time(redis_url, story, PEOPLE)
