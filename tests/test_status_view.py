"""What people read of the pacing, from what the daemon answers."""

from __future__ import annotations

from typing import Any

import pytest

from dialer.status_view import status_text


def status(pacing: dict[str, Any] | None) -> dict[str, Any]:
    campaign = {
        "name": "spring",
        "mode": "predictive",
        "status": "running",
        "why": "agents are busy",
        "calls": {"talking": 8, "ringing": 4},
        "leads": {"new": 5},
        "outcomes_24h": {},
        "said_24h": {"sale": 3, "no_sale": 1},
        "pacing": pacing,
    }
    return {
        "switches": [],
        "campaigns": [campaign],
        "gateways": [],
        "agents": [],
        "offers": [],
        "metrics": {},
        "database_trouble": "",
        "clock_trouble": "",
        "not_known": [],
        "left_open": {},
    }


PACING = {
    "occupancy_percent": 93.4,
    "abandoned_day": 2,
    "live_answers_day": 100,
    "abandoned_month": 7,
    "live_answers_month": 200,
    "abandon_limit_percent": 3.0,
    "agents_busy": 8,
    "calls": 12,
    "risk_percent": 2.5,
    "budget_calls": -1.25,
    "abandoned_left": 3,
    "held_by": "risk",
}


def pacing_line(text: str) -> list[str]:
    lines = text.splitlines()
    header = next(index for index, line in enumerate(lines) if line.startswith("pacing"))
    return lines[header + 1].split()


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, ["spring", "93", "%", "1.5", "2.00", "%", "3.50", "%", "3", "%", "3", "calls"]),
        ({"occupancy_percent": None, "agents_busy": 0}, ["spring", "-", "-", "2.00", "%", "3.50", "%"]),
        ({"abandoned_left": 1}, ["spring", "93", "%", "1.5", "2.00", "%", "3.50", "%", "3", "%", "1", "call"]),
        ({"live_answers_day": 0, "abandoned_day": 0}, ["spring", "93", "%", "1.5", "0.00", "%"]),
    ],
)
def test_how_busy_agents_are_and_how_many_were_abandoned(changes: dict[str, Any], shown: list[str]) -> None:
    line = pacing_line(status_text(status({**PACING, **changes})))
    assert line[: len(shown)] == shown
    assert line[-3:] == ["agents", "are", "busy"]


def test_a_campaign_that_never_ran_says_why() -> None:
    assert pacing_line(status_text(status(None))) == ["spring", *["-"] * 6, "agents", "are", "busy"]


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "up"),
        (
            {"trouble": "parked for 25 s more: 5 calls in a row failed", "rests": True},
            "parked for 25 s more: 5 calls",
        ),
        ({"line": "unknown", "trouble": "the switch has not said whether a is up"}, "the switch has not said"),
    ],
)
def test_a_trunk_says_what_is_wrong_with_it(changes: dict[str, Any], state: str) -> None:
    gateway = {
        "name": "carrier_a",
        "switch": "fs",
        "in_use": 3,
        "concurrency": 50,
        "calls_per_second": 10.0,
        "line": "up",
        "registration": "NOREG",
        "parked": False,
        "rests": False,
        "trouble": "",
        **changes,
    }
    (line,) = [
        line for line in status_text({**status(None), "gateways": [gateway]}).splitlines() if "carrier_a" in line
    ]
    assert line.split()[:5] == ["carrier_a", "fs", "3", "50", "10"]
    assert state in line


def test_what_another_node_left_and_a_wrong_clock_are_told() -> None:
    text = status_text({**status(None), "left_open": {"b": 7}, "clock_trouble": "the clock is 47 s ahead"})
    assert "7 calls of the node 'b' are open for hours" in text
    assert "nothing is dialed: the clock is 47 s ahead" in text


def test_what_agents_said_of_their_conversations() -> None:
    agent = {"extension": "1000", "state": "idle", "since_ms": 0, "campaign": "spring", "calls_taken": 4}
    text = status_text({**status(None), "agents": [{**agent, "last_said": "sale"}]})
    assert "spring            3 sale, 1 no_sale" in text
    assert next(line for line in text.splitlines() if line.startswith("1000")).split()[-2:] == ["4", "sale"]
