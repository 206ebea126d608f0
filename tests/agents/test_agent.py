"""The state that follows from an agent's facts."""

from __future__ import annotations

from typing import Any

import pytest

from dialer.agents.agent import Agent, AgentState, Phones, Wants, state_of

HERE: dict[str, Any] = {"wants": Wants.READY, "campaign": "spring", "switch": "fs"}
UP = {"leg": "l", "leg_switch": "fs"}


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({}, AgentState.OFFLINE),  # the phone is being rung
        (UP, AgentState.IDLE),
        ({"leg": "l", "leg_switch": "other"}, AgentState.OFFLINE),
        ({"phones": Phones.ON_DEMAND}, AgentState.IDLE),
        ({"wants": Wants.PAUSE} | UP, AgentState.PAUSED),
        ({"wants": Wants.PAUSE}, AgentState.PAUSED),  # its phone is rung when it is ready again
        ({"wants": Wants.PAUSE, "switch": ""}, AgentState.OFFLINE),
        ({"wants": Wants.LOGOUT} | UP, AgentState.OFFLINE),
        ({"wrap_until_ms": 1} | UP, AgentState.WRAP_UP),
        ({"wants": Wants.PAUSE, "wrap_until_ms": 1}, AgentState.WRAP_UP),
        ({"wants": Wants.PAUSE, "other_calls": 1}, AgentState.ON_CALL),
        ({"token": "t"} | UP, AgentState.RESERVED),
        ({"token": "t", "bridged": True}, AgentState.ON_CALL),
    ],
)
def test_a_state_follows_from_facts(facts: dict[str, Any], state: AgentState) -> None:
    assert state_of(Agent("1000", **(HERE | facts))) is state
