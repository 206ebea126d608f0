"""Whether a trunk is up, in the words of a real switch."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dialer.calls.trunk_line import Line, line_from_answer, line_from_event
from dialer.esl.messages import CustomEvent, event_from_json

RECORDED = Path(__file__).parents[1] / "recordings" / "queries.esl"


def test_the_answer_of_a_real_switch() -> None:
    found = re.search(rb"<\?xml[^>]*>\s*<gateway>.*?</gateway>", RECORDED.read_bytes(), re.DOTALL)
    assert found is not None
    assert line_from_answer(found[0].decode()) == Line("up", "NOREG")


@pytest.mark.parametrize(
    ("text", "line", "carries"),
    [
        ("<state>REGED</state><status>UP</status>", Line("up", "REGED"), True),
        ("<state>FAIL_WAIT</state><status>DOWN</status>", Line("down", "FAIL_WAIT"), False),
        ("<state>NOREG</state><status>DOWN</status>", Line("down", "NOREG"), False),
        ("Invalid Gateway!\n", Line("missing"), False),
        ("-ERR sofia Command not found!\n", Line("unknown"), True),
        ("", Line("unknown"), True),
    ],
)
def test_what_an_answer_says(text: str, line: Line, carries: bool) -> None:
    assert line_from_answer(text) == line
    assert line.carries is carries


def event(subclass: str = "sofia::gateway_state", **headers: str) -> CustomEvent:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"Event-Name": "CUSTOM", "Event-Subclass": subclass, **named}
    found = event_from_json(json.dumps(body, separators=(",", ":")).encode())
    assert isinstance(found, CustomEvent)
    return found


@pytest.mark.parametrize(
    ("headers", "line"),
    [
        ({"State": "REGED", "Ping_Status": "UP", "Status": "200", "Phrase": "OK"}, Line("up", "REGED")),
        ({"State": "FAIL_WAIT", "Ping_Status": "DOWN"}, Line("down", "FAIL_WAIT")),
        ({"State": "NOREG", "Ping_Status": "DOWN"}, Line("down", "NOREG")),  # it does not answer pings
        ({"State": "TRYING", "Ping_Status": "UP"}, Line("up", "TRYING")),
        # as switches that are older than Ping-Status say it
        ({"State": "REGED"}, Line("up", "REGED")),
        ({"State": "FAIL_WAIT"}, Line("down", "FAIL_WAIT")),
    ],
)
def test_what_an_event_says(headers: dict[str, str], line: Line) -> None:
    assert line_from_event(event(Gateway="carrier_a", **headers)) == ("carrier_a", line)


def test_other_events_say_nothing_of_trunks() -> None:
    assert line_from_event(event("sofia::register", Gateway="carrier_a", State="DOWN")) is None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (Line("up", "REGED"), ""),
        (Line("down", "FAIL_WAIT"), "the switch says that carrier_a is down (FAIL_WAIT)"),
        (Line("down", "DOWN"), "the switch says that carrier_a is down"),
        (Line("missing"), "the switch has no gateway carrier_a"),
        (Line(), "the switch has not said whether carrier_a is up"),
    ],
)
def test_what_is_told_of_it(line: Line, told: str) -> None:
    assert line.told("carrier_a") == told
