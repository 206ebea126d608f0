"""The simulator against recordings of a real switch: the same commands at the same times, the same messages back.

The order of messages is a partial one. On a real switch each leg has its thread, and what two threads say at the
same time may come in either order. COMMUTING names the pairs that do, each seen in the recordings; every other pair
must come in the recorded order, for any seed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise

import pytest
import trio
import trio.testing

from dialer.simulator import Gateway, Outcome, Phones, Scenario, Script, SimulatedSwitch

from .replay import CUT_SHORT, NAMES_OF_ALL, STRANGERS, Message, Sent, commands, inversions, messages, recorded
from .wiretap import Client, Frame, trio_now

NAMES = NAMES_OF_ALL
SEEDS = range(5)

# The carrier and the phones that were there when the recordings were made. Nobody hangs up by himself but …8.
CARRIER = Gateway(
    ring_delay=0.2,
    answer_delay=2.0,
    fail_delay=0.19,
    talk=float("inf"),
    patience=float("inf"),
    hang_up_after=0.72,
    scripts=(
        Script(suffix="4", outcome=Outcome.BUSY),
        Script(suffix="5", outcome=Outcome.NO_ANSWER),
        Script(suffix="6", outcome=Outcome.NOT_FOUND),
        Script(suffix="7", outcome=Outcome.EARLY_MEDIA_ANSWER),
        Script(suffix="8", outcome=Outcome.ANSWER_HANG_UP),
        Script(suffix="9", outcome=Outcome.UNAVAILABLE),
    ),
)
SCENARIO = Scenario(
    phones=(
        Phones(extensions="1000, 1002-1007"),
        Phones(extensions="1001", behaviour="never_answers"),
    ),
    gateways={"carrier_a": CARRIER, "carrier_b": Gateway(address="127.0.0.1:5092")},
)
# The stranger's call was to …8 too, but nobody hung it up.
STRANGERS_NUMBER = "15551230008"
STAYS = Script(number=STRANGERS_NUMBER, outcome=Outcome.ANSWER)
WITH_STRANGER = SCENARIO.model_copy(
    update={"gateways": {"carrier_a": CARRIER.model_copy(update={"scripts": (STAYS, *CARRIER.scripts)})}}
)
# Seconds the switch runs before the recording begins.
LEAD = 5.0
# Events may be this much earlier or later than the real ones: two media frames of each, and the carrier's own slack.
TIME_SLACK = 0.1


async def replay(name: str, seed: int) -> tuple[list[Frame], list[Message], list[Message]]:
    """Run a recording's commands against the simulator: its frames, and both lists of messages."""
    sent = commands(name)
    real_frames = recorded(name)
    zero = _first_moment(real_frames, sent)
    start = datetime.fromtimestamp(zero - LEAD, UTC)
    scenario = WITH_STRANGER if name == "double_bridge_race" else SCENARIO
    switch = SimulatedSwitch(scenario, rng=random.Random(seed), now=trio_now(start))
    stranger = STRANGERS.get(name)
    began = trio.current_time() + LEAD
    near, far = trio.testing.memory_stream_pair()
    client = Client(near)
    async with switch.running(), trio.open_nursery() as nursery:
        if name == "double_bridge_race":
            await _start_stranger(switch, stranger)
        await trio.sleep_until(began)
        nursery.start_soon(switch.serve_stream, far)
        nursery.start_soon(client.pump)
        if name == "registrations":
            nursery.start_soon(_phones_come_and_go, switch)
        for command in sent:
            await trio.sleep_until(began + command.at)
            if not client.closed:
                await client.send(command.text)
        await client.wait_closed()
        nursery.cancel_scope.cancel()
    assert not client.rest
    real = messages(real_frames, stranger=stranger, zero=zero)
    simulated = messages(client.frames, stranger=stranger, zero=zero)
    if name in CUT_SHORT:
        assert simulated.pop().what == "text/disconnect-notice"
    return client.frames, real, simulated


def _first_moment(frames: list[Frame], sent: list[Sent]) -> float:
    """The wall-clock time at which the recording began: a command's first event carries the time it was sent at."""
    for frame in frames:
        if not frame.is_event:
            continue
        event = frame.event
        stamp = int(event["Event-Date-Timestamp"]) / 1e6
        if event["Event-Name"] == "CHANNEL_CREATE":
            return stamp - next(command.at for command in sent if command.text.startswith("bgapi originate"))
        if event.get("Job-Command", "originate") != "originate":
            told = f"bgapi {event['Job-Command']} {event['Job-Command-Arg']}"
            return stamp - next(command.at for command in sent if command.text == told)
        if event["Event-Name"] == "CUSTOM":
            return stamp - 1.0
    return 1_795_216_000.0


async def _start_stranger(switch: SimulatedSwitch, uuid: str | None) -> None:
    """The call of somebody else that was on the switch, and shows in `show channels`."""
    near, far = trio.testing.memory_stream_pair()
    client = Client(near)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(switch.serve_stream, far)
        nursery.start_soon(client.pump)
        await client.ask("auth ClueCon")
        command = (
            f"originate {{origination_uuid={uuid},ignore_early_media=true}}sofia/gateway/carrier_a/{STRANGERS_NUMBER}"
        )
        await client.ask(f"api {command} &endless_playback(tone_stream://%(2000,4000,440,480);loops=-1)")
        await client.send("exit")
        await client.wait_closed()


async def _phones_come_and_go(switch: SimulatedSwitch) -> None:
    """What the phones did while `registrations` was recorded."""
    await trio.sleep(1)
    switch.register("1050")
    await trio.sleep(1.1)
    switch.unregister("1050")
    await trio.sleep(0.12)
    switch.refuse_registration("1051")
    await trio.sleep(0.12)
    switch.register("1052", expires=2)


# Which pairs may come in either order.

LEAVING = {"PLAYBACK_STOP", "CHANNEL_UNPARK"}
ENDING = {"CHANNEL_UNBRIDGE", "CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY", "RECORD_STOP"}
DONE = {"CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY"}


def _leave_for_a_bridge(one: Message, other: Message) -> bool:
    """Two legs leave what they did, each in its thread.

    nailed_up_agent_two_calls has both orders: at its first bridge the customer's PLAYBACK_STOP comes first, at its
    second the agent's CHANNEL_UNPARK.
    """
    return one.leg != other.leg and {one.what, other.what} <= LEAVING


def _end_together(one: Message, other: Message) -> bool:
    """Two legs of one call end, each in its thread.

    In on_demand_agent the agent's HANGUP_COMPLETE comes before the customer's UNBRIDGE and its DESTROY after; in
    double_bridge_race the endings of two customers interleave; in nailed_up_agent_two_calls the leg killed first is
    the last to be done.
    """
    if one.leg == other.leg:
        return False
    return (one.what in ENDING and other.what in DONE) or (one.what in DONE and other.what in ENDING)


COMMUTING: tuple[Callable[[Message, Message], bool], ...] = (_leave_for_a_bridge, _end_together)


def _commute(one: Message, other: Message) -> bool:
    return any(rule(one, other) for rule in COMMUTING)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
async def test_same_messages(name: str, seed: int, autojump_clock: trio.testing.MockClock) -> None:
    _, real, simulated = await replay(name, seed)
    missing, extra = _difference(real, simulated), _difference(simulated, real)
    assert (missing, extra) == ([], [])
    wrong = [
        f"{late} came before {early}" for early, late in inversions(real, simulated) if not _commute(early, late)
    ]
    assert wrong == []
    assert _out_of_time(real, simulated) == []


def _out_of_time(real: list[Message], simulated: list[Message]) -> list[str]:
    """Events much earlier or later than the real one; a sweep for expired registrations has no fixed time."""
    left = list(simulated)
    found = []
    for message in real:
        other = left.pop(left.index(message))
        if ("Event-Subclass", "sofia::expire") not in message.detail and abs(other.at - message.at) > TIME_SLACK:
            found.append(f"{message} came at {other.at:.3f}")
    return found


def _difference(one: list[Message], other: list[Message]) -> list[str]:
    left = list(other)
    found = []
    for message in one:
        if message in left:
            left.remove(message)
        else:
            found.append(str(message))
    return found


# Headers of a real event that the simulator does not make: the number that a transferred call had, and the names of a
# leg that was never answered.
HEADERS_NOT_MADE = {"Caller-RDNIS", "Caller-Callee-ID-Name", "Caller-Caller-ID-Name"}


@pytest.mark.parametrize("name", NAMES)
async def test_same_headers(name: str, autojump_clock: trio.testing.MockClock) -> None:
    """The names of the headers of each event, in order, apart from channel variables."""
    frames, _, _ = await replay(name, seed=1)
    simulated = _by_event(frames, name)
    for key, frame in _by_event(recorded(name), name).items():
        ours = _header_names(simulated[key])
        missing = [header for header in _header_names(frame) if header not in ours]
        assert set(missing) <= HEADERS_NOT_MADE, key
        assert ours == [header for header in _header_names(frame) if header not in missing], key
        assert simulated[key].headers[1] == frame.headers[1]
        assert [header for header, _ in frame.headers] == [header for header, _ in simulated[key].headers]


# Headers whose values are another switch's own, or random, or a moment.
OWN = re.compile(
    "Core-UUID|FreeSWITCH-|Event-Date|Event-Sequence|Line-Number|-Time$|Job-UUID|Transfer-Source"
    "|call-id|user-agent|expires"
)
# Channel variables that a record of a call is made of.
OF_A_RECORD = {
    f"variable_{name}"
    for name in (
        "hangup_cause",
        "hangup_cause_q850",
        "sip_hangup_disposition",
        "sip_term_status",
        "sip_invite_failure_status",
        "last_app",
        "originate_early_media",
    )
}
# Whole seconds may differ by one: the real events were a few milliseconds later or earlier.
SECONDS = {f"variable_{name}" for name in ("duration", "billsec", "answersec", "progresssec", "waitsec")}
# Numbers of a leg that was bridged before: a real switch shows the last talk's here and there, we do not.
NOT_EXACT = {
    "Channel-Call-UUID",
    "Caller-Logical-Direction",
    "Caller-Caller-ID-Number",
    "Caller-Callee-ID-Number",
    "Other-Leg-Caller-ID-Number",
    "Other-Leg-Callee-ID-Number",
}


@pytest.mark.parametrize("name", NAMES)
async def test_same_values(name: str, autojump_clock: trio.testing.MockClock) -> None:
    """The values of the headers that do not depend on when and where, apart from channel variables."""
    frames, _, _ = await replay(name, seed=1)
    simulated = _by_event(frames, name)
    for key, frame in _by_event(recorded(name), name).items():
        ours, real = simulated[key].event, frame.event
        for header in set(_header_names(frame)) & set(ours) - NOT_EXACT:
            if not OWN.search(header):
                assert ours[header] == real[header], (key, header)
        if real["Event-Name"] in DONE:
            assert {name: ours.get(name) for name in OF_A_RECORD} == {name: real.get(name) for name in OF_A_RECORD}, (
                key
            )
            for name in SECONDS & set(real):
                assert abs(int(ours[name]) - int(real[name])) <= 1, (key, name)


def _header_names(frame: Frame) -> list[str]:
    return [header for header, _ in frame.pairs if not header.startswith("variable_")]


def _by_event(frames: list[Frame], name: str) -> dict[tuple[object, ...], Frame]:
    """Events by what they are and how often that came before; without heartbeats and the stranger's."""
    found: dict[tuple[object, ...], Frame] = {}
    counts: dict[tuple[object, ...], int] = {}
    for frame in frames:
        if not frame.is_event:
            continue
        event = frame.event
        if event["Event-Name"] == "HEARTBEAT" or event.get("Unique-ID") == STRANGERS.get(name, "nobody"):
            continue
        what = ("Event-Name", "Event-Subclass", "Unique-ID", "Job-Command-Arg", "from-user")
        key = tuple(event.get(header) for header in what)
        counts[key] = counts.get(key, 0) + 1
        found[*key, counts[key]] = frame
    return found


@pytest.mark.parametrize("name", NAMES)
async def test_same_bytes_outside_events(name: str, autojump_clock: trio.testing.MockClock) -> None:
    """Replies and notices are the real ones to the byte, but for a Job-UUID that the switch chose."""

    def others(frames: list[Frame]) -> list[tuple[tuple[str, ...], bytes]]:
        chosen = [frame for frame in frames if not frame.is_event and frame.kind != "api/response"]
        return [
            (
                tuple(
                    header if "Job-UUID" in header + text else f"{header}: {text}" for header, text in frame.headers
                ),
                frame.body,
            )
            for frame in chosen
        ]

    frames, _, _ = await replay(name, seed=1)
    ours = others(frames)
    assert (ours[:-1] if name in CUT_SHORT else ours) == others(recorded(name))


async def test_heartbeats_come_every_twenty_seconds(autojump_clock: trio.testing.MockClock) -> None:
    frames, _, _ = await replay("registrations", seed=1)
    ours = [int(frame.event["Event-Date-Timestamp"]) for frame in frames if _is_heartbeat(frame)]
    real = [frame for frame in recorded("registrations") if _is_heartbeat(frame)]
    assert {late - early for early, late in pairwise(ours)} == {20_000_000}
    assert abs(len(ours) - len(real)) <= 1
    event = next(frame for frame in frames if _is_heartbeat(frame)).event
    assert list(event) == list(real[0].event)


def _is_heartbeat(frame: Frame) -> bool:
    return frame.is_event and frame.event["Event-Name"] == "HEARTBEAT"


def test_recordings_show_both_orders() -> None:
    """The evidence for COMMUTING; a rule without evidence does not belong there."""
    legs = messages(recorded("nailed_up_agent_two_calls"))
    leaving = [message.what for message in legs if message.what in LEAVING]
    assert leaving[:4] == ["PLAYBACK_STOP", "CHANNEL_UNPARK", "CHANNEL_UNPARK", "PLAYBACK_STOP"]

    ending = [
        (message.what, message.leg[:8])
        for message in messages(recorded("on_demand_agent"))
        if message.what in ENDING | DONE
    ]
    customer, agent = "03446c7e", "b4a6fdbf"
    assert ending[:3] == [
        ("CHANNEL_HANGUP_COMPLETE", agent),
        ("CHANNEL_UNBRIDGE", customer),
        ("CHANNEL_DESTROY", agent),
    ]
    done = [message.leg[:8] for message in legs if message.what in DONE]
    assert done[-4:] == ["c9def226", "c9def226", "36566cd7", "36566cd7"]  # the leg killed was 36566cd7


def test_inversions_are_found() -> None:
    """The comparison itself: it must see a swap, and count equal messages apart."""
    one, two, three = Message("A", "1"), Message("B", "1"), Message("C", "2")
    assert inversions([one, two, three], [one, two, three]) == []
    assert inversions([one, two, three], [two, one, three]) == [(one, two)]
    assert inversions([one, two, one], [one, one, two]) == [(two, one)]
    assert not _commute(Message("CHANNEL_PARK", "1"), Message("CHANNEL_UNBRIDGE", "2"))
    assert not _commute(Message("CHANNEL_HANGUP_COMPLETE", "1"), Message("CHANNEL_DESTROY", "1"))
