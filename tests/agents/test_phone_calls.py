"""The calls of phones, folded from recorded events and from ones no recording has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from dialer.agents.phone_calls import PhoneCalls, PhoneChange, extension_of
from dialer.calls.snapshot import Row
from dialer.esl.messages import Event, event_from_json, event_from_plain

from ..esl.recorded import NAMES, messages, recording

CREATED_US = 1_795_217_011_939_785
ANSWERED_US = 1_795_217_012_239_785


def recorded_events(name: str) -> list[Event]:
    return [message for message in messages(recording(name)) if isinstance(message, Event)]


def event(name: str, uuid: str, headers: Mapping[str, str]) -> Event:
    return event_from_json(json.dumps({"Event-Name": name, "Unique-ID": uuid, **headers}).encode())


@pytest.mark.parametrize("created", ["soon", "-1", "1e9", "9" * 40, "٣"])
def test_a_call_that_began_at_no_time_is_a_call(created: str) -> None:
    headers = {"Channel-Presence-ID": "1003@x", "Event-Date-Timestamp": "7", "Caller-Channel-Created-Time": created}
    change = PhoneCalls().fold(event("CHANNEL_CREATE", "a-leg", headers))
    assert change is not None
    assert change.value["a-leg"]["Caller-Channel-Created-Time"] == 7


def call_by_somebody_else() -> list[Event]:
    """A recorded call to the phone of 1003, without the mark that says it is ours."""
    ours = [one for one in recorded_events("on_demand_agent") if one.dialer_agent]
    assert {one.presence_id for one in ours} == {"1003@127.0.0.1"}
    return [event_from_plain(one.raw.replace(b"variable_dialer_agent: 1003\n", b"")) for one in ours]


def own_call(name: str, uuid: str = "a-leg") -> Event:
    """An agent's phone calls out: an inbound channel with the login's name and no presence id."""
    return event(
        name,
        uuid,
        {
            "Call-Direction": "inbound",
            "Caller-Username": "1003",
            "Caller-Caller-ID-Number": "1003",
            "Caller-Destination-Number": "15551230002",
            "Caller-Channel-Created-Time": str(CREATED_US),
            "Caller-Channel-Answered-Time": str(ANSWERED_US if name == "CHANNEL_ANSWER" else 0),
        },
    )


def b_leg_of_own_call(name: str) -> Event:
    """The other side of such a call carries the caller's name too."""
    headers = {"Call-Direction": "outbound", "Caller-Username": "1003", "Caller-Destination-Number": "15551230002"}
    return event(name, "b-leg", headers)


def folded(calls: PhoneCalls, events: list[Event]) -> list[PhoneChange]:
    return [change for change in (calls.fold(one) for one in events) if change is not None]


def test_a_phone_rung_by_somebody_else() -> None:
    changes = folded(PhoneCalls(), call_by_somebody_else())
    uuid = "b4a6fdbf"
    assert [(change.extension, change.value["notify"], change.other_calls) for change in changes] == [
        ("1003", "callin", 1),
        ("1003", "answer", 1),
        ("1003", "hangup", 0),
    ]
    full = changes[0].value["current"]
    assert full.startswith(uuid)
    call = {
        "Unique-ID": full,
        "Call-Direction": "outbound",
        "Caller-Caller-ID-Number": "0000000000",
        "Caller-Destination-Number": "1003",
        "Caller-Channel-Created-Time": CREATED_US,
        "Caller-Channel-Answered-Time": 0,
    }
    common = {"username": "1003", "current": full, "activity": [full]}
    answered = {**call, "Caller-Channel-Answered-Time": ANSWERED_US}
    assert changes[0].value == {**common, "notify": "callin", full: call}
    assert changes[1].value == {**common, "notify": "answer", full: answered}
    assert changes[2].value == {"username": "1003", "current": "", "notify": "hangup", "activity": []}


def test_a_leg_of_our_own_is_shown_and_does_not_count() -> None:
    changes = folded(PhoneCalls(), recorded_events("nailed_up_agent_two_calls"))
    assert [(change.extension, change.value["notify"], change.other_calls) for change in changes] == [
        ("1000", "callin", 0),
        ("1000", "answer", 0),
        ("1000", "hangup", 0),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_recording_leaves_nothing_behind(name: str) -> None:
    calls = PhoneCalls()
    events = recorded_events(name)
    for change in folded(calls, events):
        value = change.value
        assert set(value) == {"username", "current", "notify", "activity", *value["activity"]}
        assert value["username"] == change.extension
        assert 0 <= change.other_calls <= len(value["activity"])
    ended = {one.unique_id for one in events if one.name == "CHANNEL_DESTROY"}
    up = {one.unique_id for one in events if one.presence_id and one.unique_id not in ended}
    assert repr(calls) == f"<PhoneCalls {len(up)} calls on {len(up)} phones>"


def test_an_agent_calls_out() -> None:
    calls = PhoneCalls()
    changes = folded(
        calls,
        [
            own_call("CHANNEL_CREATE"),
            b_leg_of_own_call("CHANNEL_CREATE"),
            b_leg_of_own_call("CHANNEL_PROGRESS"),
            b_leg_of_own_call("CHANNEL_ANSWER"),
            own_call("CHANNEL_ANSWER"),
            b_leg_of_own_call("CHANNEL_HANGUP"),
        ],
    )
    assert [(change.value["notify"], change.other_calls) for change in changes] == [("callout", 1), ("answer", 1)]
    assert changes[0].value["activity"] == ["a-leg"]
    assert changes[0].value["a-leg"]["Caller-Destination-Number"] == "15551230002"
    assert changes[0].value["a-leg"]["Caller-Channel-Created-Time"] == CREATED_US
    (ended,) = folded(
        calls, [own_call(name) for name in ("CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY")]
    )
    assert (ended.extension, ended.value["notify"], ended.other_calls) == ("1003", "hangup", 0)


def test_two_calls_on_one_phone() -> None:
    calls = PhoneCalls()
    folded(calls, [own_call("CHANNEL_CREATE", "first"), own_call("CHANNEL_ANSWER", "first")])
    (second,) = folded(calls, [own_call("CHANNEL_CREATE", "second"), own_call("CHANNEL_PROGRESS", "second")])
    assert (second.value["activity"], second.value["current"], second.other_calls) == (
        ["first", "second"],
        "second",
        2,
    )
    (ended,) = folded(calls, [own_call("CHANNEL_DESTROY", "second")])
    assert (ended.value["activity"], ended.value["current"], ended.other_calls) == (["first"], "first", 1)


def test_a_call_first_heard_of_when_answered() -> None:
    (change,) = folded(PhoneCalls(), [own_call("CHANNEL_ANSWER")])
    assert (change.value["notify"], change.value["a-leg"]["Caller-Channel-Answered-Time"]) == ("answer", ANSWERED_US)


@pytest.mark.parametrize(
    ("headers", "extension"),
    [
        ({"variable_dialer_agent": "1001", "Channel-Presence-ID": "1002@x"}, "1001"),
        ({"Channel-Presence-ID": "1002@192.0.2.1", "Call-Direction": "outbound"}, "1002"),
        ({"Caller-Username": "1003", "Call-Direction": "inbound"}, "1003"),
        ({"Caller-Username": "1003", "Call-Direction": "outbound"}, ""),
        ({"Call-Direction": "inbound", "Caller-Caller-ID-Number": "1003"}, ""),
    ],
)
def test_whose_phone_it_is(headers: dict[str, str], extension: str) -> None:
    assert extension_of(event("CHANNEL_CREATE", "u", headers)) == extension


# A look at the switch


def row(uuid: str, **fields: Any) -> Row:
    return Row(uuid=uuid, created_epoch="1795217011", **fields)


def test_begun_anew_from_what_the_switch_has() -> None:
    calls = PhoneCalls()
    folded(calls, [own_call("CHANNEL_CREATE", "gone")])
    calls.link_begins()
    rows = [
        row("customer", direction="outbound", name="sofia/external/15551230003", dest="15551230003"),
        row("ours", direction="outbound", presence_id="1001@x", callstate="ACTIVE"),
        row("rung", direction="outbound", presence_id="1002@x", callstate="RINGING", cid_num="1555", dest="1002"),
        row("own", direction="inbound", name="sofia/internal/1003@127.0.0.1:7000", callstate="ACTIVE"),
        row("own's other side", direction="outbound", name="sofia/external/1003@carrier"),
        row("trunk", direction="inbound", name="sofia/external/15557770000@carrier"),
    ]
    changes = {change.extension: change for change in calls.rebuild(rows, {"ours"}, {"1001", "1002", "1003"})}
    assert {extension: change.other_calls for extension, change in changes.items()} == {
        "1001": 0,
        "1002": 1,
        "1003": 1,
    }
    assert changes["1002"].value == {
        "username": "1002",
        "current": "rung",
        "notify": "answer",
        "activity": ["rung"],
        "rung": {
            "Unique-ID": "rung",
            "Call-Direction": "outbound",
            "Caller-Caller-ID-Number": "1555",
            "Caller-Destination-Number": "1002",
            "Caller-Channel-Created-Time": 1_795_217_011_000_000,
            "Caller-Channel-Answered-Time": 0,
        },
    }
    assert folded(calls, [own_call("CHANNEL_HANGUP", "gone")]) == []
    (ended,) = folded(calls, [own_call("CHANNEL_HANGUP", "own")])
    assert (ended.extension, ended.other_calls) == ("1003", 0)


def test_a_call_that_ended_while_the_look_was_taken_stays_ended() -> None:
    """Its end has come and will not come again: taken from the list it would hold its agent for ever."""
    calls = PhoneCalls()
    folded(calls, [event("CHANNEL_HANGUP", "short", {})])
    assert calls.rebuild([row("short", presence_id="1002@x", direction="outbound")], set(), {"1002"}) == []


def begins(uuid: str, at_us: int, name: str = "CHANNEL_CREATE") -> Event:
    headers = {"Channel-Presence-ID": "1003@x", "Call-Direction": "outbound", "Event-Date-Timestamp": str(at_us)}
    return event(name, uuid, headers)


@pytest.mark.parametrize(("before_us", "kept"), [(100_000, True), (1_900_000, True), (2_100_000, False)])
def test_a_call_that_began_shortly_before_a_look_is_not_in_its_list_yet(before_us: int, kept: bool) -> None:
    calls = PhoneCalls()
    folded(calls, [begins("young", CREATED_US - before_us), begins("newest", CREATED_US)])
    folded(calls, [begins("newest", CREATED_US, "CHANNEL_HANGUP")])
    for _ in range(2):  # the next look may come at once
        calls.look_begins()
        found = calls.rebuild([], set(), {"1003"})
        assert [(change.extension, change.other_calls) for change in found] == ([("1003", 1)] if kept else [])


def test_a_call_that_begins_or_ends_while_the_switch_is_looked_at() -> None:
    calls = PhoneCalls()
    folded(calls, [begins("ended", CREATED_US)])
    calls.look_begins()
    folded(calls, [begins("ended", CREATED_US, "CHANNEL_HANGUP"), begins("early", CREATED_US)])
    folded(calls, [begins("later", CREATED_US + 9_000_000)])
    (change,) = calls.rebuild([], set(), {"1003"})
    assert change.value["activity"] == ["early", "later"]
