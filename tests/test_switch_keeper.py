"""Doubts about a switch: what was missed is found by looking, and a link that is late is dropped."""

from __future__ import annotations

import pytest
import trio
from sqlalchemy import text

from dialer.agents.agent import AgentState, state_of
from tests.faults.stories import AGENTS
from tests.faults.virtual import VirtualHouse, run_virtually
from tests.house import number


async def dies_in_a_conversation(house: VirtualHouse, *next_numbers: str, phones: str = "nailed_up") -> None:
    """Somebody talks with the agent 1000 for long; the daemon is killed."""
    await house.start()
    once, wrap_up = "{ max_attempts = 1 }", "5.0"
    numbers = [number(0, 8), *next_numbers]
    await house.begin(numbers, AGENTS[:1], phones=f'"{phones}"', retries=once, wrap_up_seconds=wrap_up)
    await house.until(lambda: any(one.partner is not None for one in house.customers()), "talking")
    await house.kill()


def test_a_link_whose_events_come_seconds_late_is_dropped_and_all_is_put_right(redis_url: str) -> None:
    async def story() -> None:
        async with VirtualHouse(redis_url).standing() as house:
            await house.start()
            await house.begin([number(0, 8)], AGENTS)
            await house.until(lambda: any(one.partner for one in house.customers()), "talking")
            before = house.daemon.switches["fs"].epoch
            # The clock of the daemon is the one of the switch: an old event is one that was read late.
            keeper = house.daemon.keepers[0]
            keeper._least_lag_seconds = -10.0
            house.switch.hang_up(house.customers()[0].uuid)
            await house.until(lambda: house.daemon.switches["fs"].epoch > before, "a new epoch")
            assert "late" in house.daemon.switches["fs"].last_loss
            await house.until(lambda: house.finished, "closed")

    run_virtually(story)


def test_nothing_is_risked_on_a_switch_that_is_in_doubt(redis_url: str) -> None:
    async def story() -> None:
        async with VirtualHouse(redis_url).standing() as house:
            await house.start()
            await house.begin([number(index, 8) for index in range(200)], AGENTS, mode='"predictive"')
            await house.until(lambda: any(one.partner for one in house.customers()), "talking")
            (running,) = house.daemon.campaigns._running.values()
            doubts = house.daemon.world.doubts
            doubts["fs"] = "it may be otherwise"
            await house.until(lambda: "it may be otherwise" in running.runner.reason, "safe")
            house.daemon.keepers[0].doubt()
            assert "may be wrong" in doubts["fs"]
            await house.until(lambda: not doubts, "looked at")

    run_virtually(story)


def test_what_no_event_told_is_found_within_the_minute(redis_url: str) -> None:
    """A call whose every ending was lost; and a channel of ours that nobody owns."""

    async def story() -> None:
        async with VirtualHouse(redis_url).standing() as house:
            await house.start()
            await house.begin([number(0, 8)], AGENTS)
            await house.until(lambda: any(one.partner for one in house.customers()), "talking")
            faults = house.switch.faults
            for name in ("CHANNEL_UNBRIDGE", "CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY"):
                faults.lose_event(name, times=10)
            house.switch.hang_up(house.customers()[0].uuid)
            started = trio.current_time()
            await house.until(lambda: house.finished, "found")
            assert trio.current_time() - started < 90

    run_virtually(story)


def test_an_attempt_that_nobody_follows_any_more_is_resolved(redis_url: str) -> None:
    """As after an error in its task: its row is open, its call is up."""

    async def story() -> None:
        async with VirtualHouse(redis_url).standing() as house:
            await house.start()
            await house.begin([number(0, 5)], AGENTS, ring_seconds="120")
            await house.until(lambda: bool(house.customers()), "ringing")
            (attempt,) = house.daemon.campaigns.attempts()

            def break_it(*_args: object) -> None:
                raise ZeroDivisionError

            attempt.take_back()  # wakes it
            attempt._see_it_end = break_it  # type: ignore[assignment,method-assign]
            await house.until(lambda: not house.daemon.campaigns.calls_in_flight(), "broken")
            await house.until(lambda: all(one.closed_at for one in house.attempts()), "resolved", 200)
            assert len(house.cdrs()) >= 1

    run_virtually(story)


def test_every_conversation_of_a_full_house_is_adopted(redis_url: str) -> None:
    async def story() -> None:
        people = 60
        phones = [{"extensions": f"1000-{999 + people}", "answer_delay": 0.05}]
        agents = [str(1000 + index) for index in range(people)]
        async with VirtualHouse(redis_url, changes={"phones": phones}, concurrency=people).standing() as house:
            await house.start()
            await house.begin([number(index, 8) for index in range(people)], agents)

            def all_talk() -> bool:
                return sum(one.partner is not None for one in house.customers()) == people

            await house.until(all_talk, "all talking")
            await house.kill()
            await house.start()
            await house.until(lambda: house.daemon.switches["fs"].ready, "recovered", 5.0)
            assert all_talk()
            assert len(house.customers()) == people
            (seen,) = (await house.daemon.desk.status())["campaigns"]
            assert seen["calls"]["talking"] == people
            assert house.daemon.campaigns.calls_in_flight() == people
            for extension in agents:
                await house.daemon.desk.agent_hangup(extension)
            await house.until(lambda: house.finished, "closed")
            assert {cdr.disposition.value for cdr in house.cdrs()} == {"bridged"}

    run_virtually(story)


@pytest.mark.parametrize("phones", ["nailed_up", "on_demand"])
def test_conversations_are_known_though_redis_lost_its_data_while_no_daemon_was_there(
    redis_url: str, phones: str
) -> None:
    async def story() -> None:
        async with VirtualHouse(redis_url).standing() as house:
            await dies_in_a_conversation(house, number(1), phones=phones)
            house.lose_redis_data()
            await house.start()
            await trio.sleep(20)
            (customer,) = house.customers()
            assert customer.partner is not None
            assert [one.number for one in house.switch.channels.values()].count("1000") == 1
            (agent,) = [one for one in await house.agents() if one.campaign]
            assert (state_of(agent), agent.token) == (AgentState.ON_CALL, customer.uuid)
            house.switch.hang_up(customer.uuid)
            await house.until(lambda: len(house.cdrs()) == 1, "closed")
            (agent,) = [one for one in await house.agents() if one.campaign]
            assert state_of(agent) is AgentState.WRAP_UP
            await house.until(lambda: house.finished, "all called")
            assert [(cdr.disposition.value, cdr.agent) for cdr in house.cdrs()] == [("bridged", "1000")] * 2

    run_virtually(story)


def test_a_conversation_of_a_former_life_is_waited_for_at_a_stop(redis_url: str) -> None:
    async def story() -> None:
        async with VirtualHouse(redis_url).standing() as house:
            await dies_in_a_conversation(house)
            await house.start()
            await house.until(lambda: bool(house.daemon.campaigns.calls_in_flight()), "adopted", 10.0)
            (customer,) = house.customers()
            house.later(3.0, lambda: house.switch.hang_up(customer.uuid))
            before = trio.current_time()
            await house.stop()
            assert 3.0 <= trio.current_time() - before < 5.0  # as long as it went on, and drain_seconds are 5
            assert [(cdr.disposition.value, cdr.agent) for cdr in house.cdrs()] == [("bridged", "1000")]

    run_virtually(story)


def test_agents_of_a_daemon_that_is_gone_are_not_sent_to_without_their_phones(redis_url: str) -> None:
    async def story() -> None:
        async with VirtualHouse(redis_url).standing() as house:
            await house.start()
            await house.begin([], AGENTS)
            await house.until(lambda: len(house.switch.channels) == len(AGENTS), "phones are up")
            await house.kill()
            house.settings = house.settings.model_copy(update={"node": "other"})  # the first one never comes back
            await house.start()
            await trio.sleep(100)  # their legs end by themselves, and the switch is looked at
            assert {(agent.leg, state_of(agent)) for agent in await house.agents()} <= {("", AgentState.OFFLINE)}

    run_virtually(story)


def test_what_a_node_left_is_told_and_ended_by_whoever_takes_its_name(redis_url: str) -> None:
    async def story() -> None:
        async with VirtualHouse(redis_url).standing() as house:
            await dies_in_a_conversation(house)
            own = house.settings
            house.settings = own.model_copy(update={"node": "other"})
            await house.start()
            assert (await house.daemon.desk.status())["left_open"] == {}
            await trio.sleep(2 * 3600 + 60)
            assert (await house.daemon.desk.status())["left_open"] == {"test": 1}
            await house.kill()
            house.settings = own
            await house.start()
            await house.until(lambda: house.finished, "ended")
            assert (await house.daemon.desk.status())["left_open"] == {}
            assert len(house.cdrs()) == 1

    run_virtually(story)


def test_a_clock_that_was_set_back_before_a_restart_hides_no_open_attempt(redis_url: str) -> None:
    async def story() -> None:
        async with VirtualHouse(redis_url).standing() as house:
            await dies_in_a_conversation(house)
            house.sql(
                lambda session: session.connection().execute(
                    text("UPDATE attempt SET opened_at = datetime(opened_at, '+1 hour') || '.000000'")
                )
            )
            await house.start()
            await house.until(lambda: house.daemon.campaigns.calls_in_flight() == 1, "adopted", 30)

    run_virtually(story)
