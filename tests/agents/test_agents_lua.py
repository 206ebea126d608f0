"""agents.lua against a model in pure Python: random facts, claims, releases and sweeps on a real Redis."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import hypothesis.strategies as st
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import dialer.agents
from dialer.agents.agent import Agent, AgentState, Phones, Wants, agent_from_hash, state_of

EXTENSIONS = ("1000", "1001", "1002", "1003")
CAMPAIGNS = ("north", "south")
SWITCHES = ("a", "b")
LEGS = ("leg", "another leg")
TOKENS = ("t0", "t1", "t2", "t3", "t4", "t5")
LEASE_MS = 30_000

Queue = tuple[str, str]
QUEUES: list[Queue] = [(campaign, switch) for campaign in ("", *CAMPAIGNS) for switch in SWITCHES]


@attrs.define
class Model:
    """What agents.lua is meant to do. The idle queue is not kept, it follows from the agents."""

    now_ms: int = 1_795_000_000_000
    agents: dict[str, Agent] = attrs.field(factory=dict)
    claims: dict[str, str] = attrs.field(factory=dict)
    leases: dict[str, int] = attrs.field(factory=dict)

    def idle(self) -> dict[Queue, list[str]]:
        queues: dict[Queue, list[str]] = {}
        for agent in sorted(self.agents.values(), key=lambda one: (one.idle_since_ms, one.extension)):
            if state_of(agent) is AgentState.IDLE:
                queues.setdefault((agent.campaign, agent.switch), []).append(agent.extension)
        return queues

    def settle(self, extension: str, **facts: Any) -> AgentState:
        before = self.agents.get(extension)
        agent = attrs.evolve(before or Agent(extension), **facts)
        state = state_of(agent)
        was_idle_there = (
            before is not None
            and state_of(before) is AgentState.IDLE
            and (before.campaign, before.switch) == (agent.campaign, agent.switch)
        )
        if state is AgentState.IDLE and not was_idle_there:
            agent = attrs.evolve(agent, idle_since_ms=self.now_ms)
        if before is None or state_of(before) is not state:
            agent = attrs.evolve(agent, since_ms=self.now_ms)
        self.agents[extension] = agent
        return state

    def claim(self, queue: Queue, token: str) -> list[str]:
        extension = self.claims.get(token)
        if extension is None:
            waiting = self.idle().get(queue)
            if not waiting:
                return []
            extension = self.claims[token] = waiting[0]
            self.settle(extension, token=token)
        self.renew(token)
        agent = self.agents[extension]
        return [extension, agent.leg, agent.phones.value]

    def claim_named(self, queue: Queue, token: str, extension: str) -> list[str]:
        if token not in self.claims:
            if extension not in self.idle().get(queue, []):
                return []
            self.claims[token] = extension
            self.settle(extension, token=token)
        return self.claim(queue, token)

    def renew(self, token: str) -> int:
        if token not in self.claims:
            return 0
        self.leases[token] = self.now_ms + LEASE_MS
        extension = self.claims[token]
        self.agents[extension] = attrs.evolve(self.agents[extension], lease_until_ms=self.leases[token])
        return 1

    def bridged(self, token: str) -> int:
        if not self.renew(token):
            return 0
        agent = self.agents[self.claims[token]]
        talk = {"bridged": True, "last_call": token, "last_call_ended_ms": 0}
        self.settle(agent.extension, calls_taken=agent.calls_taken + (not agent.bridged), **talk)
        return 1

    def release(self, token: str, wrap_ms: int, lost_leg: str) -> str:
        if token not in self.claims:
            return ""
        del self.leases[token]
        facts: dict[str, Any] = {"token": "", "bridged": False, "lease_until_ms": 0}
        if wrap_ms:
            facts["wrap_until_ms"] = self.now_ms + wrap_ms
        extension = self.claims.pop(token)
        if wrap_ms or self.agents[extension].bridged:
            facts |= {"last_call": token, "last_call_ended_ms": self.now_ms}
        if lost_leg and self.agents[extension].leg == lost_leg:
            facts["leg"] = ""
        self.settle(extension, **facts)
        return extension

    def sweep(self) -> tuple[list[tuple[str, str]], list[str]]:
        over = [agent for agent in self.agents.values() if 0 < agent.wrap_until_ms <= self.now_ms]
        for agent in over:
            self.settle(agent.extension, wrap_until_ms=0)
        freed = sorted((agent.extension, str(state_of(self.agents[agent.extension]))) for agent in over)
        expired = sorted(token for token, end in self.leases.items() if end <= self.now_ms)
        for token in expired:
            self.release(token, 0, self.agents[self.claims[token]].leg)
        return freed, expired


class Agents(RuleBasedStateMachine):
    """Does everything to the model and to Redis, and compares all there is after each step."""

    def __init__(self, client: Any) -> None:
        super().__init__()
        self.client = client
        self.prefix = f"test:{uuid4().hex}:"
        self.model = Model()
        lua = Path(dialer.agents.__file__).with_name("agents.lua").read_text(encoding="utf-8")
        self._script = client.register_script(lua)
        assert self.do("restore", "mark", LEASE_MS, '{"agents": {}, "claims": {}}') == "mark"

    def do(self, verb: str, *args: str | int) -> Any:
        return self._script(keys=[self.prefix], args=[verb, self.model.now_ms, *args])

    @rule(milliseconds=st.sampled_from([0, 1, 1_000, 5_000, 29_999, 30_000]))
    def time_passes(self, milliseconds: int) -> None:
        self.model.now_ms += milliseconds

    @rule(
        extension=st.sampled_from(EXTENSIONS),
        facts=st.fixed_dictionaries(
            {},
            optional={
                "wants": st.sampled_from(Wants),
                "campaign": st.sampled_from(CAMPAIGNS),
                "switch": st.sampled_from(("", *SWITCHES)),
                "phones": st.sampled_from(Phones),
                "leg": st.sampled_from(["", *LEGS]),
                "leg_switch": st.sampled_from(SWITCHES),
                "other_calls": st.integers(0, 2),
            },
        ),
    )
    def facts(self, extension: str, facts: dict[str, Any]) -> None:
        flat = [str(word) for pair in facts.items() for word in pair]
        assert self.do("set", extension, *flat) == self.model.settle(extension, **facts)

    @rule(
        extension=st.sampled_from(EXTENSIONS), campaign=st.sampled_from(CAMPAIGNS), switch=st.sampled_from(SWITCHES)
    )
    def becomes_ready(self, extension: str, campaign: str, switch: str) -> None:
        """What random facts would seldom come to by themselves."""
        facts = {"wants": Wants.READY, "campaign": campaign, "switch": switch, "leg": LEGS[0], "leg_switch": switch}
        self.facts(extension, facts | {"other_calls": 0})

    @rule(campaign=st.sampled_from(CAMPAIGNS), switch=st.sampled_from(SWITCHES), token=st.sampled_from(TOKENS))
    def claim(self, campaign: str, switch: str, token: str) -> None:
        claimed = self.do("claim", campaign, switch, LEASE_MS, token)
        expected = self.model.claim((campaign, switch), token)
        assert claimed == ([expected] if expected else [])

    @rule(
        campaign=st.sampled_from(CAMPAIGNS),
        switch=st.sampled_from(SWITCHES),
        tokens=st.lists(st.sampled_from(TOKENS), unique=True, min_size=2),
    )
    def claim_several(self, campaign: str, switch: str, tokens: list[str]) -> None:
        expected: list[list[str]] = []
        for token in tokens:
            one = self.model.claim((campaign, switch), token)
            if not one:
                break
            expected.append(one)
        assert self.do("claim", campaign, switch, LEASE_MS, *tokens) == expected

    @rule(
        campaign=st.sampled_from(CAMPAIGNS),
        switch=st.sampled_from(SWITCHES),
        wanted=st.dictionaries(st.sampled_from(TOKENS), st.sampled_from(EXTENSIONS), min_size=1),
    )
    def claim_named(self, campaign: str, switch: str, wanted: dict[str, str]) -> None:
        expected = [self.model.claim_named((campaign, switch), token, one) for token, one in wanted.items()]
        words = [word for pair in wanted.items() for word in pair]
        assert self.do("claim_named", campaign, switch, LEASE_MS, *words) == expected

    @rule(token=st.sampled_from(TOKENS))
    def bridged(self, token: str) -> None:
        assert self.do("bridged", token, LEASE_MS) == self.model.bridged(token)

    @rule(tokens=st.lists(st.sampled_from(TOKENS), unique=True))
    def renew(self, tokens: list[str]) -> None:
        assert self.do("renew", LEASE_MS, *tokens) == sum(self.model.renew(token) for token in tokens)

    @rule(token=st.sampled_from(TOKENS), wrap_ms=st.sampled_from([0, 5_000]), lost_leg=st.sampled_from(["", *LEGS]))
    def release(self, token: str, wrap_ms: int, lost_leg: str) -> None:
        assert self.do("release", token, wrap_ms, lost_leg) == self.model.release(token, wrap_ms, lost_leg)

    @rule()
    def sweep(self) -> None:
        _mark, freed, *expired = self.do("sweep")
        expected_freed, expected_expired = self.model.sweep()
        assert sorted(expired) == expected_expired
        assert sorted(zip(freed[::2], freed[1::2], strict=True)) == expected_freed

    @invariant()
    def redis_holds_what_the_model_holds(self) -> None:
        with self.client.pipeline(transaction=False) as pipe:  # one look, in one round trip
            pipe.smembers(f"{self.prefix}agents")
            for extension in EXTENSIONS:
                pipe.hgetall(f"{self.prefix}agent:{extension}")
            for queue in QUEUES:
                pipe.zrange(f"{self.prefix}idle:{queue[0]}:{queue[1]}", 0, -1, withscores=True)
            pipe.hgetall(f"{self.prefix}claims")
            pipe.zrange(f"{self.prefix}leases", 0, -1, withscores=True)
            pipe.keys(f"{self.prefix}idle:*")
            known, *rest = pipe.execute()
        hashes, queues = rest[: len(EXTENSIONS)], rest[len(EXTENSIONS) : -3]
        claims, leases, queue_keys = rest[-3:]

        agents: dict[str, Agent] = {}
        for extension, fields in zip(EXTENSIONS, hashes, strict=True):
            if fields:
                agents[extension] = agent_from_hash(extension, fields)
                assert fields["state"] == state_of(agents[extension])
        assert agents == self.model.agents
        assert known == set(agents)

        # The idle queues hold exactly the idle agents, the longest idle first.
        idle = self.model.idle()
        for queue, found in zip(QUEUES, queues, strict=True):
            assert found == [(one, agents[one].idle_since_ms) for one in idle.get(queue, [])]
        assert len(queue_keys) == len(idle)

        # A token has one agent, an agent one token.
        assert claims == self.model.claims
        assert claims == {agent.token: agent.extension for agent in agents.values() if agent.token}
        assert len(set(claims.values())) == len(claims)
        assert dict(leases) == self.model.leases

    @rule(queue=st.sampled_from([(campaign, switch) for campaign in CAMPAIGNS for switch in SWITCHES]))
    def count(self, queue: Queue) -> None:
        assert self.do("count", *queue) == len(self.model.idle().get(queue, []))

    @rule(queue=st.sampled_from([(campaign, switch) for campaign in CAMPAIGNS for switch in SWITCHES]))
    def who_is_idle(self, queue: Queue) -> None:
        assert self.do("idle", *queue) == self.model.idle().get(queue, [])


def test_redis_does_what_the_model_does(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        run_state_machine_as_test(
            lambda: Agents(client),  # type: ignore[arg-type]  # any callable that makes one will do
            settings=settings(
                max_examples=60,
                stateful_step_count=40,
                deadline=None,
                report_multiple_bugs=False,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )


def test_every_change_of_state_is_published_once(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client, client.pubsub() as pubsub:
        house = Agents(client)
        pubsub.subscribe(f"{house.prefix}agents")
        house.becomes_ready("1000", "north", "a")
        house.facts("1000", {"campaign": "south"})  # idle before and after
        house.claim("south", "a", "t0")
        house.bridged("t0")
        house.release("t0", 5_000, lost_leg="")
        house.time_passes(5_000)
        house.sweep()
        heard: list[str] = []
        give_up_at = time.monotonic() + 5.0
        while len(heard) < 5 and time.monotonic() < give_up_at:
            message = pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
            if message is not None:
                heard.append(message["data"])
        assert heard == ["1000 idle", "1000 reserved", "1000 on_call", "1000 wrap_up", "1000 idle"]
        assert pubsub.get_message(timeout=0.05) is None
