"""What a recording says, as a list of messages that can be compared with the simulator's.

A message is reduced to what a client acts on. Uuids are the client's own, so they are the same in both; a Job-UUID
that the switch chose is replaced by the number of its command.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import attrs

from .wiretap import Frame, cut

RECORDINGS = Path(__file__).parent.parent / "recordings"
NAMES_OF_ALL = sorted(path.stem for path in RECORDINGS.glob("*.esl"))

# Calls of other people that were on the switch when it was recorded: they stay out of the comparison, and where a
# table of all channels was asked for, the simulator has such a call too.
STRANGERS = {
    "customer_hung_up_before_bridge": "1f8f02ed-ce50-4cbd-856b-e6f57061adc4",
    "double_bridge_race": "1f8f02ed-ce50-4cbd-856b-e6f57061adc4",
    "unknown_gateway": "1f8f02ed-ce50-4cbd-856b-e6f57061adc4",
    "customer_dies_mid_bridge_agent_first": "a144cdf9-73b2-4cfc-996a-1978bbfd5de5",
}


@attrs.frozen
class Message:
    """A frame as a client sees it. `what` names it; `detail` is all else that must be equal."""

    what: str
    leg: str = ""
    detail: tuple[tuple[str, str], ...] = ()
    at: float = attrs.field(default=0.0, eq=False)

    def __str__(self) -> str:
        return f"{self.at:7.3f} {self.what} {self.leg[:8]} " + " ".join(
            f"{name}={value}" for name, value in self.detail
        )


# Recorded by a client that left before the switch had said goodbye.
CUT_SHORT = frozenset({"customer_dies_mid_bridge"})

# Headers of an event that a client decides by.
DECISIVE = (
    "Event-Subclass",
    "Channel-State",
    "Channel-State-Number",
    "Channel-Call-State",
    "Answer-State",
    "Hangup-Cause",
    "variable_hangup_cause",
    "Caller-Destination-Number",
    "Other-Leg-Unique-ID",
    "Bridge-A-Unique-ID",
    "Bridge-B-Unique-ID",
    "Job-Command",
    "Job-Command-Arg",
    "DTMF-Digit",
    "DTMF-Duration",
    "DTMF-Source",
    "Playback-File-Path",
    "Playback-Status",
    "Record-File-Path",
    "from-user",
    "user",
    "to-user",
    "Event-Info",
)


@attrs.frozen
class Sent:
    """One command of the recording's client."""

    at: float
    text: str


def commands(name: str) -> list[Sent]:
    """What the client of a recording sent, and when."""
    sent: list[Sent] = []
    for line in (RECORDINGS / f"{name}.sent").read_text().splitlines():
        found = re.match(r"(\d+\.\d+) (.*)", line)
        if found:
            sent.append(Sent(float(found[1]), found[2]))
        else:
            sent[-1] = attrs.evolve(sent[-1], text=f"{sent[-1].text}\n{line}")
    return sent


def recorded(name: str) -> list[Frame]:
    """What the real switch sent."""
    data = (RECORDINGS / f"{name}.esl").read_bytes()
    frames, taken = cut(data)
    assert taken == len(data)
    return frames


def messages(frames: list[Frame], *, stranger: str | None = None, zero: float = 0.0) -> list[Message]:
    """The frames as messages, without heartbeats and the stranger; events timed by their own stamps from `zero`."""
    found: list[Message] = []
    jobs: dict[str, str] = {}
    for frame in frames:
        if frame.is_event:
            message = _of_event(frame, jobs, zero, stranger)
            if message is not None:
                found.append(message)
        elif frame.kind == "command/reply":
            text = frame.outer("Reply-Text")
            if frame.outer("Job-UUID"):
                assert text == f"+OK Job-UUID: {frame.outer('Job-UUID')}"
                text = "+OK Job-UUID"
                jobs[frame.outer("Job-UUID")] = f"job {len(jobs)}"
            found.append(Message("reply", detail=(("text", text),)))
        elif frame.kind == "api/response":
            found.append(Message("api", detail=(("shape", shape(frame.body.decode())),)))
        else:
            found.append(Message(frame.kind, detail=(("text", frame.body.decode()),)))
    return found


def _of_event(frame: Frame, jobs: dict[str, str], zero: float, stranger: str | None) -> Message | None:
    event = frame.event
    if event["Event-Name"] == "HEARTBEAT" or (stranger and event.get("Unique-ID") == stranger):
        return None
    detail = [(name, str(event[name])) for name in DECISIVE if name in event]
    leg = str(event.get("Unique-ID", ""))
    if event["Event-Name"] == "BACKGROUND_JOB":
        leg = jobs[event["Job-UUID"]]
        detail.append(("result", frame.job_result))
    return Message(event["Event-Name"], leg, tuple(detail), int(event["Event-Date-Timestamp"]) / 1e6 - zero)


# Columns of a table that a client decides by; of the others only the names must be equal.
TELLING = {"uuid", "state", "callstate", "application", "dest", "reg_user", "call_uuid", "b_uuid", "direction"}


def shape(body: str) -> str:
    """An api answer without what must differ: JSON by its keys and telling values, the rest without its numbers."""
    if body.startswith("{"):
        return json.dumps(_shape_of(json.loads(body), ""))
    if body.startswith(("<?xml", "=====")):
        return "\n".join(
            re.sub(r"\d+|<agent>.*</agent>|<host>.*</host>", "", line.strip()) for line in body.splitlines()
        )
    if re.fullmatch(r"[0-9a-f-]{36}", body):
        return "a uuid"
    return re.sub(r"\d+", "#", body)


def _shape_of(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        names = {name: inner for name, inner in value.items() if not name.startswith("variable_")}
        return {name: _shape_of(inner, name) for name, inner in names.items()}
    if isinstance(value, list):
        return [_shape_of(inner, key) for inner in value]
    return value if key in TELLING or key == "row_count" else "…"


def inversions(real: list[Message], simulated: list[Message]) -> list[tuple[Message, Message]]:
    """Pairs that come in one order in `real` and in the other in `simulated`. Both must hold the same messages."""
    place: dict[tuple[Message, int], int] = {}
    counts: dict[Message, int] = {}
    for index, message in enumerate(simulated):
        counts[message] = counts.get(message, 0) + 1
        place[message, counts[message]] = index
    counts.clear()
    order: list[int] = []
    for message in real:
        counts[message] = counts.get(message, 0) + 1
        order.append(place[message, counts[message]])
    return [
        (real[early], real[late])
        for early in range(len(real))
        for late in range(early + 1, len(real))
        if order[early] > order[late]
    ]
