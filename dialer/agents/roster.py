"""Agents in Redis: claimed and released by one atomic script, by token, under a lease.

The token is the attempt's uuid. Only it releases; a second claim by the same token is the same claim; a claim whose
daemon died runs out. The longest idle agent is claimed first, and whoever waits for one is served in order.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import attrs
import structlog
import trio

from dialer.agents.agent import Agent, AgentState, Phones, Wants, agent_from_hash, state_of
from dialer.clock import Clock, ClockWatch
from dialer.errors import UnavailableError
from dialer.redis_scripts import Late
from dialer.shared_state import ForgottenError, SharedState

log = structlog.get_logger()

Facts = Mapping[str, Mapping[str, str | int]]

# Another daemon may free an agent without our hearing of it: whoever waits looks again this often.
LOOK_AGAIN_SECONDS: Final = 0.05
# Nobody waits longer for Redis to hear that an agent is free: it is told again.
GIVE_BACK_SECONDS: Final = 1.0
MAX_CLAIMS_A_TRIP: Final = 50
AGENTS_A_TRIP: Final = 20
# How late a wrap-up or a dead lease may end.
SWEEP_SECONDS: Final = 0.1
AWAY_SECONDS: Final = 1.0  # a round may take that long without anything being wrong


@attrs.define
class Claim:
    """An agent held for one attempt. `wrap_up_seconds` and `leg_lost` say how to give it back.

    `bridge_asked` is set before a bridge is sent: from then on the leg may not be in park any more. A `kept` claim
    is not given back: the conversation goes on without this daemon.
    """

    token: str
    extension: str
    leg: str
    phones: Phones
    bridge_asked: bool = False
    bridge_refused: bool = False
    wrap_up_seconds: float = 0.0
    leg_lost: bool = False
    kept: bool = False


class Watcher(Protocol):
    """Whoever wants to know at once what agents do through this daemon."""

    def agent_claimed(self, extension: str, team: str, switch: str) -> None:
        """The agent is held for a call."""

    def talk_began(self, extension: str, seconds_ago: float = 0.0) -> None:
        """The call became a conversation."""

    def agent_released(self, extension: str, wrap_up_seconds: float) -> None:
        """The call is over, for the agent."""

    def agent_became(self, extension: str, state: AgentState) -> None:
        """A wrap-up has ended, or a fact has changed."""

    def agent_wants(self, extension: str, wants: Wants) -> None:
        """The agent has asked for something."""


@attrs.define
class _Held:
    """What is to be put back if Redis forgets a claim."""

    extension: str
    bridged: bool = False
    told: bool = False  # Redis knows that it is bridged


@attrs.define(eq=False)
class _Waiter:
    """An attempt that waits for an agent."""

    token: str
    claim: Claim | None = None
    unanswered: bool = False  # Redis may have made a claim and not have been able to say so
    gone: bool = False


@attrs.define(eq=False)
class _Queue:
    """Who waits for agents of one campaign on one switch, in order."""

    waiting: list[_Waiter] = attrs.field(factory=list)
    turn: trio.Lock = attrs.field(factory=trio.Lock)  # trio's lock is fair


class Roster:
    """All agents. Every method raises UnavailableError when Redis is away."""

    def __init__(
        self,
        state: SharedState,
        *,
        prefix: str,
        clock: Clock,
        lease_seconds: float,
        clock_is_right: Callable[[], bool] = lambda: True,
    ) -> None:
        """`clock_is_right` says whether other daemons' leases can be judged by `clock`."""
        self._state = state
        self._script = state.script(Path(__file__).with_name("agents.lua"))
        self._prefix = prefix
        self._clock = clock
        self._clock_is_right = clock_is_right
        self._lease_ms = int(lease_seconds * 1000)
        self._held: dict[str, _Held] = {}
        # Which life of Redis' data this daemon has told what it knows; another one has forgotten it.
        self._mark = ""
        self._renewed_at = 0.0
        self._leases_end_at = 0.0  # until then others' are let be
        # Releases that Redis has not confirmed, by token: how long to wrap up, and the leg that was lost.
        self._owed: dict[str, tuple[int, str]] = {}
        self._queues: defaultdict[tuple[str, str], _Queue] = defaultdict(_Queue)
        self._freed = trio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._watchers: list[Watcher] = []

    def __repr__(self) -> str:
        return f"<Roster {self._prefix!r} holding {len(self._held)} claims>"

    def on_agent_freed(self, listener: Callable[[], None]) -> None:
        """Calls `listener` whenever an agent may have become idle through this daemon."""
        self._listeners.append(listener)

    def watch(self, watcher: Watcher) -> None:
        """Tells `watcher` of agents from now on."""
        self._watchers.append(watcher)

    async def _do(self, verb: str, *args: str | int, late: Late | None = None) -> Any:
        now_ms = int(self._clock.now().timestamp() * 1000)
        return await self._script([self._prefix], [verb, now_ms, *args], late)

    async def change(self, extension: str, **facts: str | int) -> AgentState:
        """Sets facts of an agent (field names of `Agent`) and gives the state that follows."""
        flat = [text for name, value in facts.items() for text in (name, str(value))]
        state = AgentState(await self._do("set", extension, *flat, late=_unheard))
        for watcher in self._watchers:
            if "wants" in facts:
                watcher.agent_wants(extension, Wants(str(facts["wants"])))
            watcher.agent_became(extension, state)
        if state is AgentState.IDLE:
            self._tell_freed()
        return state

    async def agent(self, extension: str) -> Agent:
        """One agent; offline with no facts if never heard of."""
        fields: Any = await self._state.run(lambda client: client.hgetall(f"{self._prefix}agent:{extension}"))
        return agent_from_hash(extension, fields)

    async def agents(self) -> list[Agent]:
        """Every agent ever logged in, by extension.

        Read in small pieces: hundreds in one would keep the interpreter from everything else for a tenth of a second.
        """
        members: Any = await self._state.run(lambda client: client.smembers(f"{self._prefix}agents"))
        extensions = sorted(members)
        agents: list[Agent] = []
        for start in range(0, len(extensions), AGENTS_A_TRIP):
            some = extensions[start : start + AGENTS_A_TRIP]
            hashes = await self._state.run(partial(self._read_some, extensions=some))
            agents += map(agent_from_hash, some, hashes)
        return agents

    def _read_some(self, client: Any, *, extensions: Sequence[str]) -> list[dict[str, str]]:
        pipe = client.pipeline(transaction=False)
        for extension in extensions:
            pipe.hgetall(f"{self._prefix}agent:{extension}")
        hashes: list[dict[str, str]] = pipe.execute()
        return hashes

    @property
    def lag_seconds(self) -> float:
        """How long the last scripts waited for their answers."""
        return self._state.scripts.lag_seconds

    async def idle_count(self, campaign: str, switch: str) -> int:
        """How many agents of `campaign` on `switch` could be claimed now."""
        return int(await self._do("count", campaign, switch))

    async def idle_agents(self, campaign: str, switch: str) -> frozenset[str]:
        """Which agents of `campaign` on `switch` could be claimed now."""
        return frozenset(await self._do("idle", campaign, switch))

    async def claim_for(self, campaign: str, switch: str, tokens: Sequence[str]) -> list[Claim]:
        """Claims the longest idle agents for `tokens` in their order, until there are none; the claims in that order.

        A token that holds an agent gets the same again.
        """
        await self._pay(tokens)
        granted = await self._do("claim", campaign, switch, self._lease_ms, *tokens)
        return [self._claimed(token, one, campaign, switch) for token, one in zip(tokens, granted, strict=False)]

    async def claim_named(self, campaign: str, switch: str, wanted: Mapping[str, str]) -> list[Claim]:
        """Claims for each token of `wanted` exactly the agent (extension) it names; those that were not idle are left
        out.

        A token that holds an agent gets the same again.
        """
        await self._pay(wanted)
        words = [word for pair in wanted.items() for word in pair]
        granted = await self._do("claim_named", campaign, switch, self._lease_ms, *words)
        return [
            self._claimed(token, one, campaign, switch) for token, one in zip(wanted, granted, strict=True) if one
        ]

    def _claimed(self, token: str, granted: Sequence[str], campaign: str, switch: str) -> Claim:
        extension, leg, phones = granted
        self._held[token] = _Held(extension)
        self._owed.pop(token, None)  # a debt whose payment failed meanwhile: it holds an agent again
        for watcher in self._watchers:
            watcher.agent_claimed(extension, campaign, switch)
        return Claim(token, extension, leg, Phones(phones))

    async def try_claim(self, campaign: str, switch: str, token: str) -> Claim | None:
        """Claims the longest idle agent, or gives None. The same token gets the same agent again."""
        claims = await self.claim_for(campaign, switch, [token])
        return claims[0] if claims else None

    @contextlib.asynccontextmanager
    async def claimed(
        self, campaign: str, switch: str, token: str, *, deadline: float
    ) -> AsyncIterator[Claim | None]:
        """Waits until trio's time `deadline` for an agent and holds it for the block; None if there was none.

        First come, first served. A Redis that hangs makes nobody wait for longer. Leaving the block gives the agent
        back as the claim then says, whatever happened in it.
        """
        queue = self._queues[campaign, switch]
        waiter = _Waiter(token)
        queue.waiting.append(waiter)
        try:
            with trio.move_on_at(deadline):
                await self._wait_for_claim(queue, waiter, campaign, switch)
            waiter.gone = waiter.claim is None  # an answer that comes later is too late
            yield waiter.claim
        finally:
            waiter.gone = True
            if waiter in queue.waiting:
                queue.waiting.remove(waiter)
            if waiter.claim is not None:
                with trio.CancelScope(shield=True):
                    await self.release(waiter.claim)
            elif waiter.unanswered:
                self.disown([token])

    async def _wait_for_claim(self, queue: _Queue, waiter: _Waiter, campaign: str, switch: str) -> None:
        """Whoever has the turn claims for all who wait: a trip to Redis for each would be the bottleneck."""
        while waiter in queue.waiting:
            async with queue.turn:
                if waiter not in queue.waiting:  # served by whoever had the turn before
                    return
                freed = self._freed
                await self._claim_for_all(queue, campaign, switch)
                if waiter in queue.waiting:
                    with trio.move_on_after(LOOK_AGAIN_SECONDS):
                        await freed.wait()

    async def _claim_for_all(self, queue: _Queue, campaign: str, switch: str) -> None:
        waiters = queue.waiting[:MAX_CLAIMS_A_TRIP]
        tokens = [one.token for one in waiters]
        serve = partial(self._serve, queue, waiters, campaign, switch)
        try:
            await self._pay(tokens)
            serve(await self._do("claim", campaign, switch, self._lease_ms, *tokens, late=serve))
        except UnavailableError as error:
            serve(error)

    def _serve(self, queue: _Queue, waiters: Sequence[_Waiter], campaign: str, switch: str, answer: Any) -> None:
        """Gives the claims to those who wait. Whoever asked may have left meanwhile, and another have asked too."""
        if isinstance(answer, UnavailableError):
            log.warning("claim_failed", attempts=len(waiters), error=str(answer))
            for one in waiters:
                one.unanswered = True
            self.disown([one.token for one in waiters if one.gone and one.claim is None])
            return
        for one in waiters:
            one.unanswered = False
        for one, granted in zip(waiters, answer, strict=False):
            if one.claim is not None:  # by the answer to somebody else's question
                continue
            if one.gone:  # its call ended meanwhile
                self.disown([one.token])
                continue
            one.claim = self._claimed(one.token, granted, campaign, switch)
            queue.waiting.remove(one)

    @contextlib.asynccontextmanager
    async def holding(self, claim: Claim) -> AsyncIterator[Claim]:
        """Gives `claim` back when the block is left, as the claim then says, unless that was done within."""
        try:
            yield claim
        finally:
            await self.give_back(claim)

    async def give_back(self, claim: Claim) -> None:
        """Releases `claim`, unless that was done; whatever is cancelled meanwhile."""
        if claim.token in self._held:
            with trio.CancelScope(shield=True):
                await self.release(claim)

    def disown(self, tokens: Sequence[str]) -> None:
        """Redis may have made claims for `tokens` and not said so: they are given back as soon as it is there."""
        self._owed.update(dict.fromkeys(tokens, (0, "")))

    async def hold_again(self, agents: Sequence[Agent]) -> dict[str, Claim]:
        """The claims that a former life of this daemon left on `agents`, by token; from now on they are renewed."""
        now_ms = self._clock.now().timestamp() * 1000
        for agent in agents:
            self._held[agent.token] = _Held(agent.extension, agent.bridged, agent.bridged)
            for watcher in self._watchers:
                watcher.agent_claimed(agent.extension, agent.campaign, agent.switch)
                watcher.agent_wants(agent.extension, agent.wants)
                if agent.bridged:
                    watcher.talk_began(agent.extension, max(0.0, now_ms - agent.since_ms) / 1000)
        if agents:
            await self.renew([agent.token for agent in agents])
        return {
            agent.token: Claim(agent.token, agent.extension, agent.leg, agent.phones, bridge_asked=True)
            for agent in agents
        }

    async def release(self, claim: Claim) -> None:
        """Gives a claimed agent back; with Redis away as soon as it is back, or the lease does it in its time."""
        self._held.pop(claim.token, None)
        if claim.kept:
            return
        for watcher in self._watchers:
            watcher.agent_released(claim.extension, claim.wrap_up_seconds)
        wrap_up_ms, lost_leg = int(claim.wrap_up_seconds * 1000), claim.leg if claim.leg_lost else ""
        self._owed[claim.token] = (wrap_up_ms, lost_leg)
        try:
            with trio.fail_after(GIVE_BACK_SECONDS):
                await self._pay([claim.token])
        except (UnavailableError, trio.TooSlowError) as error:
            log.error("agent_release_failed", agent=claim.extension, attempt=claim.token, error=str(error))

    async def _pay(self, tokens: Iterable[str]) -> None:
        """Gives back what `tokens` owe. Whoever claims again does so first: what is owed frees the agent it holds.

        A release twice does no harm: it frees only what its token holds.
        """
        for token in tokens:
            owed = self._owed.get(token)
            if owed is not None:
                await self._do("release", token, *owed, late=_unheard)
                if self._owed.get(token) is owed:
                    del self._owed[token]
                self._tell_freed()

    async def bridged(self, claim: Claim) -> None:
        """Marks a claim as a conversation."""
        held = self._held.get(claim.token)
        if held is not None and not held.bridged:  # else it is known, and since when
            held.bridged = True
            for watcher in self._watchers:
                watcher.talk_began(claim.extension)
        known = await self._do("bridged", claim.token, self._lease_ms, late=_unheard)
        if held is not None:
            held.told = True
        if not known:
            log.warning("claim_was_gone_at_bridge", agent=claim.extension, attempt=claim.token)

    async def keep_house(self, known: Callable[[], Awaitable[Facts]]) -> None:
        """Renews this daemon's leases, ends wrap-ups and dead leases, until cancelled.

        A Redis that has lost its data is told what `known` says (facts by extension) and which claims are held.
        """
        watch = ClockWatch(self._clock)
        self._renewed_at = self._leases_end_at = trio.current_time()
        while True:
            try:
                try:
                    await self._renew_and_sweep(watch)
                except ForgottenError:
                    await self.restore(await known())
            except UnavailableError as error:
                log.warning("roster_unavailable", error=str(error))
                await trio.sleep(1.0)
            await trio.sleep(SWEEP_SECONDS)

    async def _renew_and_sweep(self, watch: ClockWatch) -> None:
        """Gives back what is owed, renews, and only then sweeps.

        After Redis was away, or the clock was set forward, a sweep would take conversations for dead that are going
        on, and mistrust the legs of those that are over.
        """
        await self._pay(list(self._owed))
        for token, held in list(self._held.items()):
            if held.bridged and not held.told:  # Redis was away when the conversation began
                await self._do("bridged", token, self._lease_ms)
                held.told = True
        lease_seconds, since_seconds = self._lease_ms / 1000, trio.current_time() - self._renewed_at
        jumped = bool(watch.jump_seconds())
        if jumped or since_seconds > lease_seconds / 2 + AWAY_SECONDS or not self._clock_is_right():
            # Others may not have renewed theirs yet either.
            self._leases_end_at = trio.current_time() + lease_seconds / 2
        if jumped or since_seconds > lease_seconds / 3:
            if self._held:
                await self.renew(list(self._held))
            self._renewed_at = trio.current_time()
        mark, freed, *expired = await self._do("sweep", int(trio.current_time() >= self._leases_end_at))
        if mark != self._mark:
            raise ForgottenError("another daemon has told Redis what it knows, and it knows nothing of ours")
        for extension, state in zip(freed[::2], freed[1::2], strict=True):
            for watcher in self._watchers:
                watcher.agent_became(extension, AgentState(state))
        if expired:
            log.warning("claims_expired", attempts=expired)
        if freed or expired:
            self._tell_freed()

    async def restore(self, agents: Facts) -> None:
        """Tells a Redis without data of `agents`, facts by extension, and of our claims.

        Agents that it knows already, from another daemon, are left as they are.
        """
        claims = {
            token: {"extension": held.extension, "bridged": "1" if held.bridged else ""}
            for token, held in self._held.items()
        }
        texts = {
            extension: {name: str(value) for name, value in facts.items()} for extension, facts in agents.items()
        }
        wanted = json.dumps({"agents": texts, "claims": claims})
        mark = await self._do("restore", str(uuid.uuid4()), self._lease_ms, wanted)
        if self._mark and mark != self._mark:
            log.warning("redis_lost_its_data", agents=len(texts), claims=len(claims))
        self._mark = mark
        self._tell_freed()

    async def remember_talks(self, extensions: Mapping[str, str]) -> None:
        """Tells a Redis that lost its data of conversations (extensions by token) of which nobody could tell it."""
        self._held |= {token: _Held(extension, bridged=True) for token, extension in extensions.items()}
        await self.restore({})

    async def renew(self, tokens: Sequence[str]) -> None:
        """Puts off the end of the leases of `tokens`."""
        await self._do("renew", self._lease_ms, *tokens)

    def _tell_freed(self) -> None:
        freed, self._freed = self._freed, trio.Event()
        freed.set()
        for listener in self._listeners:
            listener()


def _unheard(_answer: Any) -> None:
    """What Redis says when nobody waits for it any more, and nothing was asked for that could be lost."""


def describe(agent: Agent) -> dict[str, Any]:
    """An agent as status output shows it."""
    return {
        "extension": agent.extension,
        "state": state_of(agent).value,
        "campaign": agent.campaign,
        "since_ms": agent.since_ms,
        "calls_taken": agent.calls_taken,
        "phones": agent.phones.value,
        "wants": agent.wants.value,
        "registered_on": agent.switch,
    }
