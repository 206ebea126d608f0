"""What an agent is: facts, and the one state that follows from them.

A state is never stored by itself, so no two facts can contradict it: `state_of` derives it, here for people and
tests, and in agents.lua for Redis, where it must be atomic. A property test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import attrs


class AgentState(StrEnum):
    """What an agent can be at a moment."""

    OFFLINE = "offline"  # not logged in, phone not registered, or the nailed-up leg not there (yet)
    IDLE = "idle"  # can be claimed
    RESERVED = "reserved"  # claimed by an attempt, not bridged yet
    ON_CALL = "on_call"  # bridged, or on a call of their own
    WRAP_UP = "wrap_up"
    PAUSED = "paused"


class Wants(StrEnum):
    """What the agent last asked for. It takes effect when no call and no wrap-up stands against it."""

    READY = "ready"
    PAUSE = "pause"
    LOGOUT = "logout"


class Phones(StrEnum):
    """How a call reaches the phone."""

    NAILED_UP = "nailed_up"
    ON_DEMAND = "on_demand"


@attrs.frozen
class Agent:
    """One agent's facts, as Redis holds them. Times are milliseconds since 1970, 0 for never."""

    extension: str
    wants: Wants = Wants.LOGOUT
    campaign: str = ""
    phones: Phones = Phones.NAILED_UP
    switch: str = ""  # where the phone is registered; empty when it is not
    leg: str = ""  # the parked leg of a nailed-up phone
    leg_switch: str = ""  # where that leg is: a phone that has moved must be rung anew
    other_calls: int = 0  # calls that are not ours
    token: str = ""  # the attempt that has claimed the agent
    bridged: bool = False
    lease_until_ms: int = 0
    wrap_until_ms: int = 0
    since_ms: int = 0
    idle_since_ms: int = 0
    node: str = ""  # the daemon that keeps the nailed-up leg
    calls_taken: int = 0
    last_call: str = ""  # the attempt of the latest conversation, the one that is on among them
    last_call_ended_ms: int = 0  # 0 while it is on


def state_of(agent: Agent) -> AgentState:
    """The agent's state. A wrap-up stands until it is ended by `Roster.sweep`, which clears its time."""
    if agent.token:
        return AgentState.ON_CALL if agent.bridged else AgentState.RESERVED
    if agent.wants is Wants.LOGOUT or not agent.switch:
        return AgentState.OFFLINE
    if agent.other_calls > 0:
        return AgentState.ON_CALL
    if agent.wrap_until_ms:
        return AgentState.WRAP_UP
    if agent.wants is Wants.PAUSE:  # whose phone need not be up: it is rung when they are ready again
        return AgentState.PAUSED
    if agent.phones is Phones.NAILED_UP and not (agent.leg and agent.leg_switch == agent.switch):
        return AgentState.OFFLINE
    return AgentState.IDLE


_NUMBERS = (
    "other_calls",
    "lease_until_ms",
    "wrap_until_ms",
    "since_ms",
    "idle_since_ms",
    "calls_taken",
    "last_call_ended_ms",
)


def agent_from_hash(extension: str, fields: Mapping[str, str]) -> Agent:
    """The agent that Redis' hash `fields` describe; missing facts take their defaults."""
    number = {name: int(fields.get(name) or 0) for name in _NUMBERS}
    return Agent(
        extension=extension,
        wants=Wants(fields.get("wants") or Wants.LOGOUT),
        phones=Phones(fields.get("phones") or Phones.NAILED_UP),
        campaign=fields.get("campaign", ""),
        switch=fields.get("switch", ""),
        leg=fields.get("leg", ""),
        leg_switch=fields.get("leg_switch", ""),
        token=fields.get("token", ""),
        bridged=fields.get("bridged") == "1",
        node=fields.get("node", ""),
        last_call=fields.get("last_call", ""),
        **number,
    )
