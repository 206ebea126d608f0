"""Agents in a real Redis, claimed and released as attempts do it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
import trio.testing

from dialer.agents.agent import Agent, AgentState, Phones, Wants, state_of
from dialer.agents.roster import Claim, Facts, Roster, _Queue, _Waiter, describe
from dialer.clock import ClockWatch
from dialer.errors import UnavailableError
from dialer.redis_scripts import Late
from dialer.shared_state import SharedState, open_shared_state
from tests.patience import eventually

from ..conftest import RedisServer, SetClock

LEASE_SECONDS = 30.0


@pytest.fixture
async def roster(state: SharedState, prefix: str, clock: SetClock) -> Roster:
    roster = Roster(state, prefix=prefix, clock=clock, lease_seconds=LEASE_SECONDS)
    await roster.restore({})
    return roster


async def nothing_known() -> Facts:
    return {}


async def make_ready(roster: Roster, *extensions: str, campaign: str = "north", switch: str = "a") -> None:
    for extension in extensions:
        await roster.change(
            extension,
            wants=Wants.READY,
            campaign=campaign,
            switch=switch,
            phones=Phones.NAILED_UP,
            leg=f"leg-{extension}",
            leg_switch=switch,
        )


async def states(roster: Roster) -> dict[str, AgentState]:
    return {agent.extension: state_of(agent) for agent in await roster.agents()}


async def claimed_now(roster: Roster, token: str) -> Claim:
    claim = await roster.try_claim("north", "a", token)
    assert claim is not None
    return claim


class Wire:
    """Stands between a roster and its script: keeps the verbs, and can break at one of them."""

    def __init__(self, roster: Roster) -> None:
        self.verbs: list[str] = []
        self.loses_answers_to = ""
        self.cut: Callable[[], None] | None = None
        self._script = roster._script
        roster._script = self  # type: ignore[assignment]

    async def __call__(self, keys: Sequence[str], args: Sequence[Any], late: Late | None = None) -> Any:
        verb = str(args[0])
        if self.cut is not None:
            self.cut()
            self.cut = None
            raise UnavailableError("away")
        answer = await self._script(keys, args, late)
        self.verbs.append(verb)
        if verb == self.loses_answers_to:
            raise UnavailableError("the answer was lost")
        return answer


# Claims


async def test_longest_idle_first(roster: Roster, clock: SetClock) -> None:
    for extension in ("1002", "1000", "1001"):
        await make_ready(roster, extension)
        clock.move(1)
    await make_ready(roster, "1002")  # says nothing new: it stays the longest idle
    taken = [(await claimed_now(roster, token)).extension for token in ("t0", "t1", "t2")]
    assert taken == ["1002", "1000", "1001"]
    assert await roster.try_claim("north", "a", "t3") is None


async def test_who_was_on_a_call_goes_to_the_end_of_the_queue(roster: Roster, clock: SetClock) -> None:
    await make_ready(roster, "1000", "1001")
    first = await claimed_now(roster, "t0")
    clock.move(1)
    await roster.release(first)
    assert (first.extension, (await claimed_now(roster, "t1")).extension) == ("1000", "1001")


async def test_the_same_token_gets_the_same_agent(roster: Roster, clock: SetClock) -> None:
    await make_ready(roster, "1000", "1001")
    first = await claimed_now(roster, "t0")
    clock.move(20)
    assert await claimed_now(roster, "t0") == first == Claim("t0", "1000", "leg-1000", Phones.NAILED_UP)
    assert await roster.idle_count("north", "a") == 1
    assert (await roster.agent("1000")).lease_until_ms == clock.now_ms() + 30_000


async def test_a_named_agent_is_claimed_if_idle_there_and_nobody_in_their_place(
    roster: Roster, clock: SetClock
) -> None:
    await make_ready(roster, "1000", "1001", "1002")
    await make_ready(roster, "1003", switch="b")
    assert await roster.idle_agents("north", "a") == {"1000", "1001", "1002"}
    wanted = {"t0": "1001", "t1": "1003", "t2": "1001", "t3": "1002"}  # elsewhere; and just taken
    first, second = await roster.claim_named("north", "a", wanted)
    assert (first, second) == (
        Claim("t0", "1001", "leg-1001", Phones.NAILED_UP),
        Claim("t3", "1002", "leg-1002", Phones.NAILED_UP),
    )
    assert await roster.idle_agents("north", "a") == {"1000"}
    clock.move(20)
    assert await roster.claim_named("north", "a", {"t0": "1000"}) == [first]  # the same token, the same agent
    assert (await roster.agent("1001")).lease_until_ms == clock.now_ms() + 30_000
    await roster.release(first)
    assert await roster.idle_agents("north", "a") == {"1000", "1001"}


async def test_an_agent_s_latest_conversation_is_known_until_the_next(roster: Roster, clock: SetClock) -> None:
    await make_ready(roster, "1000")

    async def last_call() -> tuple[str, int]:
        agent = await roster.agent("1000")
        return agent.last_call, agent.last_call_ended_ms

    first = await claimed_now(roster, "t0")
    assert await last_call() == ("", 0)
    await roster.bridged(first)
    assert await last_call() == ("t0", 0)
    clock.move(5)
    await roster.release(first)
    ended_ms = clock.now_ms()
    clock.move(5)
    nobody_talked = await claimed_now(roster, "t1")
    await roster.release(nobody_talked)
    assert await last_call() == ("t0", ended_ms)
    await roster.bridged(await claimed_now(roster, "t2"))
    assert await last_call() == ("t2", 0)


async def test_only_the_token_s_holder_releases(roster: Roster) -> None:
    await make_ready(roster, "1000")
    claim = await claimed_now(roster, "mine")
    await roster.release(Claim("not mine", "1000", "leg-1000", Phones.NAILED_UP))
    assert await states(roster) == {"1000": AgentState.RESERVED}
    await roster.release(claim)
    assert await states(roster) == {"1000": AgentState.IDLE}


async def test_release_of_a_lost_claim_does_nothing(roster: Roster, clock: SetClock) -> None:
    await make_ready(roster, "1000")
    lost = await claimed_now(roster, "dead")
    clock.move(LEASE_SECONDS)
    assert (await roster._do("sweep"))[1:] == [[], "dead"]
    await make_ready(roster, "1000")
    await claimed_now(roster, "living")
    lost.wrap_up_seconds, lost.leg_lost = 60.0, True
    await roster.release(lost)
    agent = await roster.agent("1000")
    assert (agent.token, agent.leg, agent.wrap_until_ms) == ("living", "leg-1000", 0)


async def test_a_dead_lease_frees_the_claim_and_drops_the_leg(roster: Roster, clock: SetClock) -> None:
    await make_ready(roster, "1000")
    await roster.bridged(await claimed_now(roster, "t0"))
    clock.move(LEASE_SECONDS - 0.001)
    assert (await roster._do("sweep"))[1:] == [[]]
    clock.move(0.001)
    assert (await roster._do("sweep"))[1:] == [[], "t0"]
    agent = await roster.agent("1000")
    assert (agent.token, agent.leg, state_of(agent)) == ("", "", AgentState.OFFLINE)
    assert (await roster._do("sweep"))[1:] == [[]]


async def test_a_renewed_lease_lives_on(roster: Roster, clock: SetClock) -> None:
    await make_ready(roster, "1000")
    await claimed_now(roster, "t0")
    clock.move(20)
    await roster.renew(["t0", "unheard of"])
    clock.move(20)
    assert (await roster._do("sweep"))[1:] == [[]]
    assert (await roster.agent("1000")).lease_until_ms == clock.now_ms() + 10_000


async def test_a_kept_claim_is_not_given_back(roster: Roster) -> None:
    await make_ready(roster, "1000")
    async with roster.claimed("north", "a", "t0", deadline=trio.current_time() + 5) as claim:
        assert claim is not None
        claim.kept = True
    assert await states(roster) == {"1000": AgentState.RESERVED}


async def test_a_leg_rung_meanwhile_is_not_the_lost_one(roster: Roster) -> None:
    await make_ready(roster, "1000")
    claim = await claimed_now(roster, "t0")
    await roster.change("1000", leg="another leg")
    claim.leg_lost = True
    await roster.release(claim)
    assert (await roster.agent("1000")).leg == "another leg"
    again = await claimed_now(roster, "t1")
    again.leg_lost = True
    await roster.release(again)
    assert (await roster.agent("1000")).leg == ""


async def test_a_claim_of_a_former_life_is_held_again(
    state: SharedState, prefix: str, clock: SetClock, roster: Roster
) -> None:
    await make_ready(roster, "1000")
    former = Roster(state, prefix=prefix, clock=clock, lease_seconds=LEASE_SECONDS)
    await former.bridged(await claimed_now(former, "t0"))
    clock.move(20)
    claim = (await roster.hold_again([await roster.agent("1000")]))["t0"]
    assert claim == Claim("t0", "1000", "leg-1000", Phones.NAILED_UP, bridge_asked=True)
    assert repr(roster).endswith("holding 1 claims>")
    clock.move(20)
    assert (await roster._do("sweep"))[1:] == [[]]
    await roster.release(claim)
    assert await states(roster) == {"1000": AgentState.IDLE}


async def test_a_bridge_told_twice_is_one_call(roster: Roster) -> None:
    await make_ready(roster, "1000")
    claim = await claimed_now(roster, "t0")
    await roster.bridged(claim)
    await roster.bridged(claim)
    agent = await roster.agent("1000")
    assert (agent.calls_taken, state_of(agent)) == (1, AgentState.ON_CALL)
    assert describe(agent)["calls_taken"] == 1


async def test_200_want_one_of_50(state: SharedState, prefix: str, clock: SetClock) -> None:
    rosters = [Roster(state, prefix=prefix, clock=clock, lease_seconds=LEASE_SECONDS) for _daemon in range(2)]
    await rosters[0].restore({})
    agents = [str(1000 + index) for index in range(50)]
    async with trio.open_nursery() as nursery:
        for extension in agents:
            nursery.start_soon(make_ready, rosters[0], extension)
    claims: dict[str, Claim | None] = {}

    async def claim(token: str, roster: Roster) -> None:
        claims[token] = await roster.try_claim("north", "a", token)

    async with trio.open_nursery() as nursery:
        for index in range(200):
            nursery.start_soon(claim, f"t{index}", rosters[index % 2])
    got = [claim.extension for claim in claims.values() if claim is not None]
    assert len(claims) == 200
    assert sorted(got) == agents
    assert Counter((await states(rosters[0])).values()) == {AgentState.RESERVED: 50}


# Facts


async def test_wrap_up_ends_by_sweep(roster: Roster, clock: SetClock) -> None:
    await make_ready(roster, "1000")
    claim = await claimed_now(roster, "t0")
    claim.wrap_up_seconds = 5.0
    await roster.release(claim)
    clock.move(4.999)
    await roster._do("sweep")
    assert await states(roster) == {"1000": AgentState.WRAP_UP}
    assert await roster.try_claim("north", "a", "t1") is None
    clock.move(0.001)
    assert (await roster._do("sweep"))[1:] == [["1000", "idle"]]
    assert await states(roster) == {"1000": AgentState.IDLE}


@pytest.mark.parametrize(
    ("wants", "afterwards"),
    [
        (Wants.PAUSE, AgentState.PAUSED),
        (Wants.LOGOUT, AgentState.OFFLINE),
        (Wants.READY, AgentState.IDLE),
    ],
)
async def test_what_is_wanted_during_a_call_comes_after_it(
    roster: Roster, clock: SetClock, wants: Wants, afterwards: AgentState
) -> None:
    await make_ready(roster, "1000")
    claim = await claimed_now(roster, "t0")
    assert await roster.change("1000", wants=wants) is AgentState.RESERVED
    await roster.bridged(claim)
    assert await roster.change("1000", wants=wants) is AgentState.ON_CALL
    claim.wrap_up_seconds = 5.0
    await roster.release(claim)
    clock.move(5)
    await roster._do("sweep")
    assert await states(roster) == {"1000": afterwards}


async def test_other_calls_and_registration(roster: Roster) -> None:
    await make_ready(roster, "1000")
    assert await roster.change("1000", other_calls=1) is AgentState.ON_CALL
    assert await roster.try_claim("north", "a", "t0") is None
    assert await roster.change("1000", other_calls=0) is AgentState.IDLE
    assert await roster.change("1000", switch="") is AgentState.OFFLINE
    assert await roster.try_claim("north", "a", "t0") is None
    assert await roster.change("1000", switch="a", leg="") is AgentState.OFFLINE  # nailed-up, and no leg yet
    assert await roster.change("1000", phones=Phones.ON_DEMAND) is AgentState.IDLE


async def test_the_idle_queue_follows_campaign_and_switch(roster: Roster) -> None:
    async def counts() -> dict[str, int]:
        return {f"{c} {s}": await roster.idle_count(c, s) for c in ("north", "south") for s in ("a", "b")}

    await make_ready(roster, "1000")
    assert await counts() == {"north a": 1, "north b": 0, "south a": 0, "south b": 0}
    await roster.change("1000", campaign="south")
    assert await counts() == {"north a": 0, "north b": 0, "south a": 1, "south b": 0}
    await roster.change("1000", switch="b")  # and the leg still on the other one
    assert sum((await counts()).values()) == 0
    await roster.change("1000", leg="leg there", leg_switch="b")
    assert await counts() == {"north a": 0, "north b": 0, "south a": 0, "south b": 1}
    assert await roster.try_claim("north", "a", "t0") is None
    assert await roster.try_claim("south", "b", "t0") is not None
    assert sum((await counts()).values()) == 0


async def test_an_agent_never_heard_of_is_offline_with_no_facts(roster: Roster) -> None:
    assert await roster.agent("4711") == Agent("4711")
    assert await roster.agents() == []


# Waiting for an agent


async def test_none_at_the_deadline(roster: Roster) -> None:
    deadline = trio.current_time() + 0.2
    async with roster.claimed("north", "a", "t0", deadline=deadline) as claim:
        assert claim is None
        assert 0 <= trio.current_time() - deadline < 1.0


async def test_an_agent_freed_by_somebody_else_is_found(state: SharedState, prefix: str, clock: SetClock) -> None:
    roster, other = (Roster(state, prefix=prefix, clock=clock, lease_seconds=LEASE_SECONDS) for _daemon in range(2))
    await roster.restore({})
    async with trio.open_nursery() as nursery:

        async def free_one() -> None:
            await trio.testing.wait_all_tasks_blocked()
            await make_ready(other, "1000")

        nursery.start_soon(free_one)
        async with roster.claimed("north", "a", "t0", deadline=trio.current_time() + 5) as claim:
            assert claim is not None
            assert await states(roster) == {"1000": AgentState.RESERVED}
    assert await states(roster) == {"1000": AgentState.IDLE}


async def test_who_waits_longest_is_served_first(roster: Roster) -> None:
    served: list[int] = []
    hung_up = trio.Event()

    async def wait(index: int) -> None:
        async with roster.claimed("north", "a", f"t{index}", deadline=trio.current_time() + 10) as claim:
            assert claim is not None
            served.append(index)
            await hung_up.wait()

    async with trio.open_nursery() as nursery:
        for index in range(6):
            nursery.start_soon(wait, index)
            await trio.testing.wait_all_tasks_blocked()
        for index in range(6):
            await make_ready(roster, str(1000 + index))

            async def one_more(wanted: int = index + 1) -> bool:
                return len(served) == wanted

            await eventually(one_more)
        hung_up.set()
    assert served == list(range(6))


async def test_who_leaves_the_queue_does_not_hold_up_the_others(roster: Roster) -> None:
    results: dict[str, bool] = {}

    async def wait(token: str, seconds: float) -> None:
        async with roster.claimed("north", "a", token, deadline=trio.current_time() + seconds) as claim:
            results[token] = claim is not None

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "impatient", 0.1)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(wait, "patient", 10.0)

        async def gone() -> bool:
            return "impatient" in results

        await eventually(gone)
        await make_ready(roster, "1000")
    assert results == {"impatient": False, "patient": True}


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when a task is about to run its nth step: what it awaits then is cancelled, if it can be."""

    def __init__(self, task: trio.lowlevel.Task, scope: trio.CancelScope, step: int) -> None:
        self._task, self._scope, self._left = task, scope, step

    @property
    def fired(self) -> bool:
        return self._left <= 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


@pytest.mark.parametrize("agent_is_there", [True, False])
async def test_cancelled_at_every_await_no_agent_stays_reserved(roster: Roster, agent_is_there: bool) -> None:
    await make_ready(roster, "1000")
    conversations = 0
    wire = Wire(roster)

    async def claim_was_tried() -> bool:
        return "claim" in wire.verbs

    async def hang_up_the_other_call() -> None:
        if not agent_is_there:
            await eventually(claim_was_tried)
        await roster.change("1000", other_calls=0)

    for step in range(1, 100):
        wire.verbs.clear()
        if not agent_is_there:
            await roster.change("1000", other_calls=1)
        with trio.CancelScope() as scope:
            instrument = CancelAtStep(trio.lowlevel.current_task(), scope, step)
            trio.lowlevel.add_instrument(instrument)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(hang_up_the_other_call)
                    async with roster.claimed("north", "a", f"t{step}", deadline=trio.current_time() + 5) as claim:
                        assert claim is not None
                        await trio.lowlevel.checkpoint()
                        conversations += 1
                        await trio.lowlevel.checkpoint()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        await roster.change("1000", other_calls=0)
        assert await states(roster) == {"1000": AgentState.IDLE}, step
        assert repr(roster).endswith("holding 0 claims>")
        if not instrument.fired:
            break
    else:
        pytest.fail("the story never came to its end")
    assert step > 3
    assert conversations > 0


# Redis away


async def test_redis_away_while_waiting(own_redis: RedisServer, clock: SetClock) -> None:
    async with open_shared_state(own_redis.url, timeout_seconds=1.0) as state:
        roster = Roster(state, prefix="test:", clock=clock, lease_seconds=LEASE_SECONDS)
        await roster.restore({})
        await make_ready(roster, "1000")
        await trio.to_thread.run_sync(own_redis.stop)
        with pytest.raises(UnavailableError, match=r"redis\.sock is away"):
            await roster.agent("1000")
        deadline = trio.current_time() + 0.3
        async with roster.claimed("north", "a", "t0", deadline=deadline) as claim:
            assert claim is None
            assert 0 <= trio.current_time() - deadline < 2.0

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, own_redis.start)
            async with roster.claimed("north", "a", "t1", deadline=trio.current_time() + 10) as claim:
                assert claim is not None
                assert claim.extension == "1000"
        assert await states(roster) == {"1000": AgentState.IDLE}


async def test_a_claim_whose_answer_was_lost_is_given_back(roster: Roster) -> None:
    await make_ready(roster, "1000")
    wire = Wire(roster)
    wire.loses_answers_to = "claim"
    async with roster.claimed("north", "a", "t0", deadline=trio.current_time() + 0.1) as claim:
        assert claim is None
        assert await states(roster) == {"1000": AgentState.RESERVED}
    await put_back(roster, "1000")


async def put_back(roster: Roster, *extensions: str) -> None:
    """Whoever keeps house gives back what is owed."""

    async def all_idle() -> bool:
        return await states(roster) == dict.fromkeys(extensions, AgentState.IDLE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(roster.keep_house, nothing_known)
        await eventually(all_idle)
        nursery.cancel_scope.cancel()


async def test_a_redis_that_hangs_keeps_nobody_waiting(own_redis: RedisServer, clock: SetClock) -> None:
    async with open_shared_state(own_redis.url, timeout_seconds=60.0) as state:
        roster = Roster(state, prefix="test:", clock=clock, lease_seconds=LEASE_SECONDS)
        await roster.restore({})
        await make_ready(roster, "1000", "1001", "1002")
        own_redis.hang()
        served: dict[str, str | None] = {}

        async def wait(token: str, seconds: float) -> None:
            async with roster.claimed("north", "a", token, deadline=trio.current_time() + seconds) as claim:
                served[token] = claim.extension if claim else None

        async with trio.open_nursery() as nursery:
            with trio.fail_after(30):  # half of what it would take Redis to be given up
                nursery.start_soon(wait, "patient", 600.0)
                await trio.testing.wait_all_tasks_blocked()
                async with trio.open_nursery() as impatient:  # they wait for the answer to the other's question
                    impatient.start_soon(wait, "t0", 0.1)
                    impatient.start_soon(wait, "t1", 0.1)
            assert served == {"t0": None, "t1": None}
            own_redis.go_on()
        assert served["patient"] is not None
        await put_back(roster, "1000", "1001", "1002")


async def test_who_asked_leaves_and_who_waits_gets_the_answer(own_redis: RedisServer, clock: SetClock) -> None:
    async with open_shared_state(own_redis.url, timeout_seconds=60.0) as state:
        roster = Roster(state, prefix="test:", clock=clock, lease_seconds=LEASE_SECONDS)
        await roster.restore({})
        await make_ready(roster, "1000", "1001")
        leave = trio.Event()
        claims: list[Claim | None] = []

        async def wait(token: str, seconds: float) -> None:
            async with roster.claimed("north", "a", token, deadline=trio.current_time() + seconds) as claim:
                claims.append(claim)
                if claim is not None:
                    await leave.wait()

        async with trio.open_nursery() as nursery:
            own_redis.hang()
            nursery.start_soon(wait, "asks", 0.2)  # has the turn, and leaves in the middle of its question
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(wait, "waits", 60.0)
            nursery.start_soon(wait, "waits too", 60.0)
            while not claims:  # noqa: ASYNC110
                await trio.sleep(0.01)
            await trio.testing.wait_all_tasks_blocked()
            assert claims == [None]
            own_redis.go_on()

            async def both_are_served() -> bool:
                return len(claims) == 3

            nursery.start_soon(roster.keep_house, nothing_known)
            await eventually(both_are_served)
            assert sorted(claim.token for claim in claims if claim) == ["waits", "waits too"]
            leave.set()
            nursery.cancel_scope.cancel()
        await put_back(roster, "1000", "1001")


async def test_two_answers_to_one_who_waits_are_one_claim(roster: Roster) -> None:
    """Whoever asked has left, and another has asked too: both answers grant the same agent to the same token."""
    await make_ready(roster, "1000", "1001")
    answer = await roster._do("claim", "north", "a", 30_000, "left", "waits")
    queue, left, waits = _Queue(), _Waiter("left", gone=True), _Waiter("waits")
    queue.waiting.append(waits)
    roster._serve(queue, [left, waits], "north", "a", answer)
    claim = waits.claim
    assert claim is not None
    assert (claim.token, queue.waiting) == ("waits", [])
    await roster.release(claim)
    roster._serve(queue, [waits], "north", "a", answer[1:])
    assert repr(roster).endswith("holding 0 claims>")
    await put_back(roster, "1000", "1001")


async def test_who_is_on_the_line_does_not_wait_for_a_release(own_redis: RedisServer, clock: SetClock) -> None:
    async with open_shared_state(own_redis.url, timeout_seconds=60.0) as state:
        roster = Roster(state, prefix="test:", clock=clock, lease_seconds=LEASE_SECONDS)
        await roster.restore({})
        await make_ready(roster, "1000")
        claim = await claimed_now(roster, "t0")
        own_redis.hang()
        with trio.fail_after(30):
            await roster.release(claim)
        own_redis.go_on()
        await put_back(roster, "1000")


async def test_a_release_that_fails_leaves_it_to_the_lease(own_redis: RedisServer, clock: SetClock) -> None:
    async with open_shared_state(own_redis.url, timeout_seconds=1.0) as state:
        roster = Roster(state, prefix="test:", clock=clock, lease_seconds=LEASE_SECONDS)
        await roster.restore({})
        await make_ready(roster, "1000")
        async with roster.claimed("north", "a", "t0", deadline=trio.current_time() + 5) as claim:
            assert claim is not None
            await trio.to_thread.run_sync(own_redis.stop)
        await trio.to_thread.run_sync(own_redis.start)
        assert await states(roster) == {"1000": AgentState.RESERVED}
        clock.move(LEASE_SECONDS)
        assert (await roster._do("sweep"))[1:] == [[], "t0"]


async def test_keeping_house_renews_before_it_buries(state: SharedState, prefix: str, clock: SetClock) -> None:
    roster = Roster(state, prefix=prefix, clock=clock, lease_seconds=0.03)
    await roster.restore({})
    await make_ready(roster, "1000", "1001")
    await roster._do("claim", "north", "a", 30, "somebody dead")
    wire = Wire(roster)
    mine = await claimed_now(roster, "t0")
    freed = trio.Event()
    roster.on_agent_freed(freed.set)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roster.keep_house, nothing_known)

        async def swept() -> bool:
            return "sweep" in wire.verbs

        await eventually(swept)
        wire.verbs.clear()
        wire.cut = lambda: clock.move(3600)  # so long is Redis away when the next round begins
        await eventually(swept)

        async def buried() -> bool:
            return await states(roster) == {"1000": AgentState.OFFLINE, mine.extension: AgentState.RESERVED}

        await eventually(buried)
        nursery.cancel_scope.cancel()
    assert freed.is_set()


@pytest.mark.parametrize("cause", ["the clock was set", "redis was away"])
async def test_others_have_time_to_renew_before_they_are_taken_for_dead(
    state: SharedState, prefix: str, clock: SetClock, cause: str
) -> None:
    lease_seconds = 1000
    roster = Roster(state, prefix=prefix, clock=clock, lease_seconds=lease_seconds)
    await roster.restore({})
    await make_ready(roster, "1000")
    await roster._do("claim", "north", "a", 1000 * lease_seconds, "another daemon's")
    watch = ClockWatch(clock)
    roster._renewed_at = trio.current_time()
    if cause == "redis was away":
        roster._renewed_at -= lease_seconds
        watch._ahead += 2 * lease_seconds  # as much time has passed by either clock
    clock.move(2 * lease_seconds)
    for _ in range(2):
        await roster._renew_and_sweep(watch)
    assert await states(roster) == {"1000": AgentState.RESERVED}
    roster._leases_end_at -= lease_seconds / 2
    await roster._renew_and_sweep(watch)
    assert await states(roster) == {"1000": AgentState.OFFLINE}


# A Redis that has lost its data


async def test_a_redis_without_its_data_is_not_believed_until_it_is_told_everything(
    roster: Roster, state: SharedState, prefix: str
) -> None:
    await make_ready(roster, "1000", "1001", "1002")
    talking = await claimed_now(roster, "t0")
    await roster.bridged(talking)
    reserved = await claimed_now(roster, "t1")
    before = {agent.extension: agent for agent in await roster.agents()}
    await state.run(lambda client: client.delete(*client.keys(f"{prefix}*")))
    for refused in (roster.idle_count("north", "a"), roster.change("1000", wants=Wants.PAUSE), roster.renew(["t0"])):
        with pytest.raises(UnavailableError, match="EMPTY"):
            await refused

    async def known() -> Facts:
        return {
            agent.extension: {
                "wants": agent.wants,
                "campaign": agent.campaign,
                "switch": agent.switch,
                "leg": agent.leg,
                "leg_switch": agent.leg_switch,
            }
            for agent in before.values()
        }

    async with trio.open_nursery() as nursery:
        nursery.start_soon(roster.keep_house, known)

        async def all_known() -> bool:
            return len(await roster.agents()) == 3

        await eventually(all_known)
        nursery.cancel_scope.cancel()
    assert await states(roster) == {
        talking.extension: AgentState.ON_CALL,
        reserved.extension: AgentState.RESERVED,
        "1002": AgentState.IDLE,
    }
    await roster.release(talking)
    await roster.release(reserved)
    assert set((await states(roster)).values()) == {AgentState.IDLE}


async def test_another_daemon_that_told_first_loses_nothing_of_ours(
    roster: Roster, state: SharedState, prefix: str, clock: SetClock
) -> None:
    other = Roster(state, prefix=prefix, clock=clock, lease_seconds=LEASE_SECONDS)
    await other.restore({})
    await make_ready(roster, "1000", "1001")
    ours, theirs = await claimed_now(roster, "t0"), await claimed_now(other, "t1")
    facts = {extension: {"wants": "ready", "campaign": "north", "switch": "a"} for extension in ("1000", "1001")}
    await state.run(lambda client: client.delete(*client.keys(f"{prefix}*")))
    await other.restore(facts)
    await roster.restore(facts)
    agents = {agent.extension: agent.token for agent in await roster.agents()}
    assert agents == {ours.extension: "t0", theirs.extension: "t1"}


async def test_a_clock_that_is_set_forward_buries_nobody(state: SharedState, prefix: str, clock: SetClock) -> None:
    roster = Roster(state, prefix=prefix, clock=clock, lease_seconds=LEASE_SECONDS)
    await roster.restore({})
    await make_ready(roster, "1000")
    claim = await claimed_now(roster, "t0")
    wire = Wire(roster)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roster.keep_house, nothing_known)

        async def swept_twice() -> bool:
            return wire.verbs.count("sweep") >= 2

        await eventually(swept_twice)
        clock.move(3600)
        wire.verbs.clear()
        await eventually(swept_twice)
        nursery.cancel_scope.cancel()
    assert "renew" in wire.verbs
    assert await states(roster) == {claim.extension: AgentState.RESERVED}
