"""A campaign's floor, simulated event by event: agents, calls, and a policy that decides how many calls to place.

Time is in seconds from the first call. Everything is drawn from the floor's own dice, so that a seed
and a policy always give the same run. Customers wait first come first served, agents are given longest idle first.
The policy is asked after every event and at every tick of its own, and told whatever a dialer would see; it never
sees what is still to come.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

import attrs

from bench.pacing.scenario import Scenario, lead_drawer, lognormal_mu

WARM_UP_SECONDS: Final = 1800.0
MOST_CALLS: Final = 100_000  # in flight at once: a policy that wants more is broken


class Call:
    """One call from dial to hang-up."""

    __slots__ = ("answer_rate", "group", "id", "open", "waiting")

    def __init__(self, number: int, group: str, answer_rate: float) -> None:
        self.id = str(number)
        self.group = group  # what could be seen of the lead before the dial
        self.answer_rate = answer_rate  # the truth
        self.open = True  # may still ring, or wait
        self.waiting = False


class Agent:
    """One person with a headset."""

    __slots__ = ("away", "id", "leaves")

    def __init__(self, number: int) -> None:
        self.id = str(number)
        self.leaves = False  # goes on break after the call it has
        self.away = False


class Policy:
    """Decides, and is told what a dialer sees. What a policy does not need to be told it does not override."""

    tick_seconds: float | None = None  # None: its decision can change only when something happens
    at_events = True

    def decide(self, floor: Floor) -> tuple[int, tuple[str, ...]]:
        """How many calls to place now, and the ids of those to take back."""
        raise NotImplementedError

    def placed(self, call: Call, now: float) -> None: ...
    def answered(self, call: Call, now: float) -> None: ...
    def connected(self, call: Call, agent: Agent, now: float) -> None: ...
    def abandoned(self, call: Call, now: float) -> None: ...
    def unanswered(self, call: Call, now: float) -> None: ...
    def withdrawn(self, call: Call, now: float) -> None: ...
    def talk_ends(self, agent: Agent, now: float) -> None: ...
    def wrap_up_ends(self, agent: Agent, now: float, *, idle: bool) -> None: ...
    def leaves_after_call(self, agent: Agent, now: float) -> None: ...


@attrs.frozen
class Outcome:
    """One run. Counts are of the whole run, seconds of what came after the warm-up."""

    dials: int
    failed: int  # at once, or nobody answered
    withdrawn: int
    answers: int
    connected: int
    abandoned: int
    ringing: int  # at the end
    waiting: int
    answers_after_warm_up: int
    abandoned_after_warm_up: int
    worst_hour_percent: float  # abandoned of the answers of one hour; hours with fewer than 100 answers do not count
    busy_seconds: float
    present_seconds: float

    @property
    def occupancy_percent(self) -> float:
        return 100.0 * self.busy_seconds / self.present_seconds if self.present_seconds else 0.0

    @property
    def abandoned_percent(self) -> float:
        return 100.0 * self.abandoned / self.answers if self.answers else 0.0


class Floor:
    """One run of `hours` after the warm-up. What is public is what the policy may look at."""

    def __init__(
        self,
        scenario: Scenario,
        agents: int,
        policy: Policy,
        seed: int,
        hours: float,
        warm_up_seconds: float = WARM_UP_SECONDS,
    ) -> None:
        self.now = 0.0
        self.agents = agents  # logged in, those on break not counted
        self.idle = agents
        self.ringing = 0
        self.waiting = 0
        self.talking = 0
        self.answers = 0
        self.abandoned = 0
        self.channels = None if scenario.channels_per_agent is None else round(scenario.channels_per_agent * agents)

        self._scenario, self._policy = scenario, policy
        self._warm_up = warm_up_seconds
        self._end = warm_up_seconds + 3600.0 * hours
        self._random = random.Random(f"{scenario.name} {agents} {seed}")
        self._heap: list[tuple[float, int, Callable[..., bool], Call | Agent | None]] = []
        self._pushed = 0
        self._calls: dict[str, Call] = {}  # that ring
        self._queue: deque[Call] = deque()
        self._all_agents = [Agent(number) for number in range(agents)]
        self._idle_agents = deque(self._all_agents)
        self._dials = self._failed = self._withdrawn = self._connected = 0
        self._early = (0, 0)
        self._answers_by_hour = [0] * (int(self._end // 3600.0) + 1)
        self._abandoned_by_hour = list(self._answers_by_hour)
        # Areas under the counts of busy and present agents since the warm-up.
        self._busy = 0
        self._busy_area = self._present_area = 0.0
        self._busy_since = self._present_since = warm_up_seconds

        self._answer_rate = scenario.answer_rate_at(self._end)
        self._lead = lead_drawer(scenario, self._random)
        talk = scenario.long_talk_mean_seconds()
        self._ring_mu = math.log(scenario.ring_mean_seconds) - scenario.ring_sigma**2 / 2
        self._talk_mu = lognormal_mu(talk, scenario.talk_sigma, scenario.talk_at_most_seconds)
        self._short_mu = lognormal_mu(scenario.short_mean_seconds, scenario.short_sigma)
        self._wrap_up_mu = lognormal_mu(scenario.wrap_up_mean_seconds, scenario.wrap_up_sigma)

    @property
    def in_flight(self) -> int:
        """Calls that hold a channel."""
        return self.ringing + self.waiting + self.talking

    @property
    def channels_left(self) -> int | None:
        return None if self.channels is None else self.channels - self.in_flight

    def run(self) -> Outcome:
        """Runs to the end, once."""
        heap, tick_seconds, at_events = self._heap, self._policy.tick_seconds, self._policy.at_events
        if self._scenario.break_share:
            self._push(60.0 * self._scenario.break_every_minutes, self._break_begins, None)
        ticks, next_tick = 0, 0.0 if tick_seconds else math.inf
        warm = False
        self._decide()
        while True:
            due = heap[0][0] if heap else math.inf
            now = min(due, next_tick)
            if not warm and now >= self._warm_up:
                warm, self._early = True, (self.answers, self.abandoned)
            if now >= self._end:
                break
            self.now = now
            if due <= next_tick:
                _, _, happen, subject = heappop(heap)
                if happen(subject) and at_events:
                    self._decide()
            else:
                ticks += 1
                next_tick = ticks * tick_seconds  # type: ignore[operator]  # there are no ticks without it
                self._decide()
        return self._outcome()

    def _outcome(self) -> Outcome:
        self.now = self._end
        self._set_busy(self._busy)
        self._set_present(self.agents)
        hours = zip(self._answers_by_hour, self._abandoned_by_hour, strict=True)
        return Outcome(
            dials=self._dials,
            failed=self._failed,
            withdrawn=self._withdrawn,
            answers=self.answers,
            connected=self._connected,
            abandoned=self.abandoned,
            ringing=self.ringing,
            waiting=self.waiting,
            answers_after_warm_up=self.answers - self._early[0],
            abandoned_after_warm_up=self.abandoned - self._early[1],
            worst_hour_percent=max((100.0 * ab / ans for ans, ab in hours if ans >= 100), default=0.0),
            busy_seconds=self._busy_area,
            present_seconds=self._present_area,
        )

    def _decide(self) -> None:
        calls, cancel = self._policy.decide(self)
        for call_id in cancel:
            if (call := self._calls.pop(call_id, None)) is not None:
                call.open = False
                self.ringing -= 1
                self._withdrawn += 1
                self._policy.withdrawn(call, self.now)
        if calls > 0:
            if self.channels is not None:
                calls = min(calls, self.channels - self.in_flight)
            if self.ringing + calls > MOST_CALLS:
                raise RuntimeError(f"{calls} calls wanted while {self.ringing} ring")
            for _ in range(calls):
                self._dial()

    def _push(self, at: float, happen: Callable[..., bool], subject: Call | Agent | None) -> None:
        self._pushed += 1  # events of one moment happen in the order they were thought of
        heappush(self._heap, (at, self._pushed, happen, subject))

    # What happens. Each says whether anything did, that is, whether a decision is due.

    def _dial(self) -> None:
        scenario, uniform, now = self._scenario, self._random.uniform, self.now
        group, factor = self._lead()
        self._dials += 1
        call = Call(self._dials, group, factor * self._answer_rate(now))
        fate = self._random.random()
        if fate < scenario.fast_failures:
            self._push(now + uniform(*scenario.fast_failure_seconds), self._fails, call)
        else:
            timeout = uniform(*scenario.ring_timeout_seconds)
            if fate < scenario.fast_failures + call.answer_rate:
                ring = self._random.lognormvariate(self._ring_mu, scenario.ring_sigma)
                while ring > timeout:
                    ring = self._random.lognormvariate(self._ring_mu, scenario.ring_sigma)
                self._push(now + ring, self._answers, call)
            else:
                self._push(now + timeout, self._fails, call)
        self._calls[call.id] = call
        self.ringing += 1
        self._policy.placed(call, now)

    def _fails(self, call: Call) -> bool:
        if not call.open:
            return False
        del self._calls[call.id]
        self.ringing -= 1
        self._failed += 1
        self._policy.unanswered(call, self.now)
        return True

    def _answers(self, call: Call) -> bool:
        if not call.open:
            return False
        del self._calls[call.id]
        self.ringing -= 1
        self.answers += 1
        self._answers_by_hour[int(self.now // 3600.0)] += 1
        self._policy.answered(call, self.now)
        if self._idle_agents:
            self.idle -= 1
            self._set_busy(self._busy + 1)
            self._connect(call, self._idle_agents.popleft())
        else:
            call.waiting = True
            self.waiting += 1
            self._queue.append(call)
            self._push(self.now + self._scenario.patience_seconds, self._hangs_up, call)
        return True

    def _hangs_up(self, call: Call) -> bool:
        if not call.waiting:
            return False
        call.waiting = call.open = False
        self._queue.remove(call)
        self.waiting -= 1
        self.abandoned += 1
        self._abandoned_by_hour[int(self.now // 3600.0)] += 1
        self._policy.abandoned(call, self.now)
        return True

    def _connect(self, call: Call, agent: Agent) -> None:
        scenario, draw = self._scenario, self._random.lognormvariate
        call.open = False
        self.talking += 1
        self._connected += 1
        if self._random.random() < scenario.short_share:
            talk = draw(self._short_mu, scenario.short_sigma)
        else:
            talk = draw(self._talk_mu, scenario.talk_sigma)
            while talk > scenario.talk_at_most_seconds:
                talk = draw(self._talk_mu, scenario.talk_sigma)
        self._push(self.now + talk, self._talk_ends, agent)
        self._policy.connected(call, agent, self.now)

    def _talk_ends(self, agent: Agent) -> bool:
        self.talking -= 1
        wrap_up = self._random.lognormvariate(self._wrap_up_mu, self._scenario.wrap_up_sigma)
        self._push(self.now + wrap_up, self._wrap_up_ends, agent)
        self._policy.talk_ends(agent, self.now)
        return True

    def _wrap_up_ends(self, agent: Agent) -> bool:
        self._policy.wrap_up_ends(agent, self.now, idle=not agent.leaves)
        if agent.leaves:
            self._set_busy(self._busy - 1)
            self._goes_on_break(agent)
        elif self._queue:
            call = self._queue.popleft()
            call.waiting = False
            self.waiting -= 1
            self._connect(call, agent)
        else:
            self._set_busy(self._busy - 1)
            self.idle += 1
            self._idle_agents.append(agent)
        return True

    def _break_begins(self, _: None) -> bool:
        self._push(self.now + 60.0 * self._scenario.break_every_minutes, self._break_begins, None)
        idle = set(self._idle_agents)
        for agent in self._all_agents[: round(self._scenario.break_share * len(self._all_agents))]:
            if agent in idle:
                self._idle_agents.remove(agent)
                self.idle -= 1
                self._goes_on_break(agent)
            elif not agent.away:
                agent.leaves = True
                self._policy.leaves_after_call(agent, self.now)
        return True

    def _goes_on_break(self, agent: Agent) -> None:
        agent.leaves, agent.away = False, True
        self._set_present(self.agents - 1)
        self._push(self.now + 60.0 * self._scenario.break_minutes, self._comes_back, agent)

    def _comes_back(self, agent: Agent) -> bool:
        agent.away = False
        self._set_present(self.agents + 1)
        if self._queue:
            call = self._queue.popleft()
            call.waiting = False
            self.waiting -= 1
            self._set_busy(self._busy + 1)
            self._connect(call, agent)
        else:
            self.idle += 1
            self._idle_agents.append(agent)
        return True

    def _set_busy(self, busy: int) -> None:
        if self.now > self._busy_since:
            self._busy_area += self._busy * (self.now - self._busy_since)
            self._busy_since = self.now
        self._busy = busy

    def _set_present(self, present: int) -> None:
        if self.now > self._present_since:
            self._present_area += self.agents * (self.now - self._present_since)
            self._present_since = self.now
        self.agents = present
