"""Which leg an event reaches, who is woken by it, and how long a leg is followed."""

from __future__ import annotations

from typing import Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dialer.calls.leg import Leg
from dialer.calls.live_calls import LegWatch, LiveCalls
from dialer.esl.messages import KINDS, BackgroundJob, BridgeEvent, Event
from tests.esl.recorded import NAMES, messages, recording

CUSTOMER: Final = "891ebad9-befe-4171-9569-7c757e361ac0"
AGENT: Final = "36566cd7-5720-48bb-b4d7-d43ddd35c25e"
STRANGER: Final = "c9def226-b11d-4fd3-a5c9-79b793140147"


def told(name: str, uuid: str = CUSTOMER, us: int = 100) -> Event:
    return KINDS.get(name, Event)(name=name, timestamp_us=us, unique_id=uuid)


def job(uuid: str, body: str) -> Event:
    return BackgroundJob(name="BACKGROUND_JOB", timestamp_us=100, job_uuid=uuid, body=body)


def two_legs(name: str, of: str, a: str, b: str, other: str = "") -> Event:
    return BridgeEvent(
        name=name, timestamp_us=100, unique_id=of, bridge_a_uuid=a, bridge_b_uuid=b, other_leg_uuid=other
    )


def route(live_calls: LiveCalls, *events: Event) -> None:
    for event in events:
        live_calls.route(event)


async def test_an_event_reaches_the_leg_it_is_about_and_no_other() -> None:
    live_calls = LiveCalls()
    with live_calls.follow(CUSTOMER, "fs1") as customer, live_calls.follow(AGENT, "fs1") as agent:
        route(live_calls, told("CHANNEL_ANSWER", CUSTOMER), told("CHANNEL_PARK", AGENT))
        assert (customer.leg.answered, customer.leg.parked) == (True, False)
        assert (agent.leg.answered, agent.leg.parked) == (False, True)


async def test_a_job_reaches_the_leg_whose_originate_it_was() -> None:
    live_calls = LiveCalls()
    with live_calls.follow(CUSTOMER, "fs1") as customer, live_calls.follow(AGENT, "fs1") as agent:
        route(
            live_calls, job(CUSTOMER, "+OK"), job(AGENT, "-ERR USER_BUSY\n"), job(STRANGER, "-ERR X"), job("", "-ERR")
        )
        assert (customer.leg.executing_us, customer.leg.ended) == (100, False)
        assert (agent.leg.executing_us, agent.leg.cause) == (0, "USER_BUSY")


async def test_a_jobs_unique_id_does_not_route_it() -> None:
    """The result of a `uuid_kill` is not the end of an originate."""
    live_calls = LiveCalls()
    with live_calls.follow(CUSTOMER, "fs1") as customer:
        live_calls.route(
            BackgroundJob(name="BACKGROUND_JOB", timestamp_us=1, unique_id=CUSTOMER, job_uuid=STRANGER, body="-ERR")
        )
        assert customer.leg == Leg(CUSTOMER)


@pytest.mark.parametrize("of", [CUSTOMER, AGENT])
async def test_both_legs_get_the_bridge_and_its_end(of: str) -> None:
    live_calls = LiveCalls()
    with live_calls.follow(CUSTOMER, "fs1") as customer, live_calls.follow(AGENT, "fs1") as agent:
        live_calls.route(two_legs("CHANNEL_BRIDGE", of, CUSTOMER, AGENT))
        assert (customer.leg.bridged_with, agent.leg.bridged_with) == (AGENT, CUSTOMER)
        live_calls.route(two_legs("CHANNEL_UNBRIDGE", of, CUSTOMER, AGENT, AGENT if of == CUSTOMER else CUSTOMER))
        assert (customer.leg.bridged_with, agent.leg.bridged_with) == ("", "")


async def test_an_unbridge_that_names_the_other_leg_only_once() -> None:
    live_calls = LiveCalls()
    with live_calls.follow(CUSTOMER, "fs1") as customer, live_calls.follow(AGENT, "fs1") as agent:
        route(
            live_calls,
            two_legs("CHANNEL_BRIDGE", CUSTOMER, CUSTOMER, AGENT),
            two_legs("CHANNEL_UNBRIDGE", CUSTOMER, "", "", AGENT),
        )
        assert (customer.leg.bridged_with, agent.leg.bridged_with) == ("", "")


async def test_one_followed_leg_of_a_bridge_is_enough() -> None:
    live_calls = LiveCalls()
    with live_calls.follow(AGENT, "fs1") as agent:
        live_calls.route(two_legs("CHANNEL_BRIDGE", CUSTOMER, CUSTOMER, AGENT))
        assert agent.leg.bridged_with == CUSTOMER
        assert CUSTOMER not in live_calls


async def test_an_event_is_noticed_once_by_each_leg() -> None:
    live_calls = LiveCalls()
    with live_calls.follow(CUSTOMER, "fs1") as customer:
        live_calls.route(told("CHANNEL_PARK"))
        live_calls.route(two_legs("CHANNEL_BRIDGE", CUSTOMER, CUSTOMER, CUSTOMER))
        assert customer.leg.parks == 1


@pytest.mark.parametrize("name", NAMES)
def test_other_peoples_calls_are_ignored(name: str) -> None:
    live_calls = LiveCalls()
    with live_calls.follow(STRANGER.replace("c", "d"), "fs1") as watch:
        before = watch.leg
        route(live_calls, *(m for m in messages(recording(name)) if isinstance(m, Event)))
        assert watch.leg is before
    assert len(live_calls) == 0


async def test_a_recorded_conversation_reaches_both_ends() -> None:
    live_calls = LiveCalls()
    customer_uuid, agent_uuid = "7777b986-aec0-4500-8917-15f1b9cbc052", AGENT
    seen: list[tuple[bool, bool, bool]] = []
    with live_calls.follow(customer_uuid, "fs1") as customer, live_calls.follow(agent_uuid, "fs1") as agent:
        for message in messages(recording("nailed_up_agent_two_calls")):
            if isinstance(message, Event):
                live_calls.route(message)
                state = (customer.leg.bridged, agent.leg.bridged_with == customer_uuid, customer.leg.ended)
                if not seen or seen[-1] != state:
                    seen.append(state)
    assert seen == [
        (False, False, False),
        (True, True, False),
        (False, True, True),  # CHANNEL_HANGUP of the customer
        (False, False, True),  # CHANNEL_PARK of the agent
    ]


# --- following ------------------------------------------------------------------------------------------------------


async def test_followers_share_one_leg_until_the_last_lets_go() -> None:
    live_calls = LiveCalls()
    with live_calls.follow(AGENT, "fs1") as keeper:
        live_calls.route(told("CHANNEL_PARK", AGENT))
        with live_calls.follow(AGENT, "fs1") as attempt:
            assert attempt is keeper
            assert attempt.leg.parked
            assert len(live_calls) == 1
        assert AGENT in live_calls
        live_calls.route(told("CHANNEL_HANGUP", AGENT))
        assert keeper.leg.ended
    assert AGENT not in live_calls
    assert repr(live_calls) == "<LiveCalls following 0 legs>"
    with live_calls.follow(AGENT, "fs1") as anew:
        assert anew.leg == Leg(AGENT)


async def test_it_does_not_matter_who_lets_go_first() -> None:
    live_calls = LiveCalls()
    first, second = live_calls.follow(AGENT, "fs1"), live_calls.follow(AGENT, "fs1")
    first.__enter__()
    watch = second.__enter__()
    first.__exit__(None, None, None)
    live_calls.route(told("CHANNEL_PARK", AGENT))
    assert watch.leg.parked
    second.__exit__(None, None, None)
    assert len(live_calls) == 0


def test_an_error_in_the_block_lets_go_too() -> None:
    live_calls = LiveCalls()
    with pytest.raises(KeyError), live_calls.follow(AGENT, "fs1"):
        raise KeyError
    assert len(live_calls) == 0


def test_legs_by_switch() -> None:
    live_calls = LiveCalls()
    with live_calls.follow(CUSTOMER, "fs1") as customer, live_calls.follow(AGENT, "fs2") as agent:
        assert live_calls.on_switch("fs1") == [customer]
        assert live_calls.on_switch("fs2") == [agent]
        assert live_calls.on_switch("fs3") == []


async def test_digits_are_kept_in_order() -> None:
    live_calls = LiveCalls()
    with live_calls.follow(CUSTOMER, "fs1") as watch:
        route(
            live_calls,
            *(m for m in messages(recording("abandoned_with_message_and_dtmf")) if isinstance(m, Event)),
        )
        assert watch.leg.keys == "9"
        live_calls.route(Event(name="DTMF", unique_id=CUSTOMER, raw=b'{"DTMF-Digit":"#"}'))
        assert watch.leg.keys == "9#"


# --- waiting --------------------------------------------------------------------------------------------------------


async def test_waiting_ends_at_the_event_that_makes_it_true(autojump_clock: MockClock) -> None:
    live_calls = LiveCalls()
    with live_calls.follow(CUSTOMER, "fs1") as watch:
        async with trio.open_nursery() as nursery:
            woken: list[tuple[str, float]] = []

            async def wait(what: str) -> None:
                leg = await watch.wait_until(lambda leg: bool(getattr(leg, what)))
                assert getattr(leg, what)
                woken.append((what, trio.current_time()))

            for what in ("answered", "bridgeable", "ended"):
                nursery.start_soon(wait, what)
            for event in (
                told("CHANNEL_PROGRESS"),
                told("CHANNEL_ANSWER"),
                job(CUSTOMER, "+OK"),
                told("CHANNEL_HANGUP"),
            ):
                await trio.sleep(1)
                live_calls.route(event)
        assert woken == [("answered", 2.0), ("bridgeable", 3.0), ("ended", 4.0)]
        assert watch.bridgeable_seen_at == 3.0


async def test_what_is_true_already_is_not_waited_for() -> None:
    watch = LegWatch(CUSTOMER, "fs1")
    watch.notice(told("CHANNEL_ANSWER"))
    with trio.CancelScope() as scope:
        scope.cancel()
        assert (await watch.wait_until(lambda leg: leg.answered)).answered
    assert not scope.cancelled_caught


async def test_a_condition_that_was_true_and_is_not_any_more_does_not_wake() -> None:
    """Waiters see the latest state only: both events came before they ran."""
    live_calls = LiveCalls()
    with live_calls.follow(AGENT, "fs1") as watch:
        async with trio.open_nursery() as nursery:
            woken = trio.Event()

            async def wait() -> None:
                await watch.wait_until(lambda leg: leg.parked)
                woken.set()

            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            route(live_calls, told("CHANNEL_PARK", AGENT), two_legs("CHANNEL_BRIDGE", CUSTOMER, CUSTOMER, AGENT))
            await wait_all_tasks_blocked()
            assert not woken.is_set()
            live_calls.route(told("CHANNEL_PARK", AGENT))
            await wait_all_tasks_blocked()
            assert woken.is_set()
            assert watch.leg.parks == 2  # which is why a wait for a return to park counts them


async def test_what_changes_nothing_wakes_nobody() -> None:
    watch = LegWatch(CUSTOMER, "fs1")
    looks = 0

    def look(leg: Leg) -> bool:
        nonlocal looks
        looks += 1
        return leg.ended

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.wait_until, look)
        await wait_all_tasks_blocked()
        for event in (told("CHANNEL_ANSWER"), told("CHANNEL_ANSWER"), told("HEARTBEAT"), told("PLAYBACK_START")):
            watch.notice(event)
            await wait_all_tasks_blocked()
        assert looks == 2
        watch.become(watch.leg.gone(7))
    assert looks == 3


async def test_a_waiter_who_is_cancelled_leaves_the_others_waiting() -> None:
    watch = LegWatch(CUSTOMER, "fs1")
    ended: list[int] = []

    async def wait(number: int, scope: trio.CancelScope) -> None:
        with scope:
            await watch.wait_until(lambda leg: leg.ended)
            ended.append(number)

    async with trio.open_nursery() as nursery:
        scopes = [trio.CancelScope() for _ in range(3)]
        for number, scope in enumerate(scopes):
            nursery.start_soon(wait, number, scope)
        await wait_all_tasks_blocked()
        scopes[1].cancel()
        await wait_all_tasks_blocked()
        watch.notice(told("CHANNEL_DESTROY"))
    assert sorted(ended) == [0, 2]


async def test_when_it_was_seen_to_be_bridgeable_is_the_first_time(autojump_clock: MockClock) -> None:
    watch = LegWatch(CUSTOMER, "fs1")
    watch.notice(job(CUSTOMER, "+OK"))
    assert watch.bridgeable_seen_at is None
    await trio.sleep(5)
    watch.notice(told("CHANNEL_ANSWER"))
    await trio.sleep(5)
    watch.notice(told("CHANNEL_PARK"))
    assert watch.bridgeable_seen_at == 5.0
