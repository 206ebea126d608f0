"""The one grammar every command passes, and that quoting comes out the other end as it went in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialer.errors import InputRefusedError
from dialer.esl import commands
from dialer.esl.commands import (
    App,
    Bridge,
    GatewayEndpoint,
    Kill,
    Originate,
    Record,
    ScheduleHangup,
    SetVariable,
    Show,
    Transfer,
    UserEndpoint,
    bgapi,
    scheduled_hangup_on_answer,
)
from tests.esl.split import separate, separate_blanks

UUID = "891ebad9-befe-4171-9569-7c757e361ac0"
OTHER = "36566cd7-5720-48bb-b4d7-d43ddd35c25e"
TONE = "tone_stream://%(2000,4000,440,480);loops=-1"


def test_commands_are_what_the_recordings_sent() -> None:
    assert Bridge(UUID, OTHER).line() == f"uuid_bridge {UUID} {OTHER}"
    assert Kill(UUID, "ORIGINATOR_CANCEL").line() == f"uuid_kill {UUID} ORIGINATOR_CANCEL"
    assert SetVariable(UUID, "transfer_history").line() == f"uuid_setvar {UUID} transfer_history"
    assert ScheduleHangup(UUID, 5, "NO_USER_RESPONSE").line() == f"sched_hangup +5 {UUID} NO_USER_RESPONSE"
    assert Show("channels").line() == "show channels as json"
    message = Transfer(UUID, (App("playback", "tone_stream://%(1500,100,350,440)"), App("hangup", "NORMAL_CLEARING")))
    assert message.line() == (
        f"uuid_transfer {UUID} 'playback:tone_stream://%(1500\\,100\\,350\\,440),hangup:NORMAL_CLEARING' inline"
    )
    assert bgapi(Bridge(UUID, OTHER), UUID) == f"bgapi uuid_bridge {UUID} {OTHER}\nJob-UUID: {UUID}\n\n".encode()


def test_an_originate() -> None:
    command = Originate(
        UUID,
        GatewayEndpoint("carrier_a", "15551230003"),
        (App("endless_playback", TONE),),
        {"ignore_early_media": "true", **scheduled_hangup_on_answer(12, "NO_USER_RESPONSE")},
    )
    assert command.line() == (
        f"originate {{origination_uuid={UUID},ignore_early_media=true,"
        "execute_on_answer='sched_hangup +12 NO_USER_RESPONSE'}sofia/gateway/carrier_a/15551230003 "
        "'endless_playback:tone_stream://%(2000\\,4000\\,440\\,480);loops=-1' inline"
    )


INJECTIONS = [
    "a\nb",
    "a\rb",
    "a\r\n\r\nexit",
    "a{b",
    "a}b",
    "a,b",
    "a'b",
    'a"b',
    "a\\b",
    "a^b",
    "a<b",
    "a[b",
    "a|b",
    "$x",
]


@pytest.mark.parametrize("text", [*INJECTIONS, " a", "a ", "a  b", "", "é", "a" * 1001, "x:_:y", "\x00", "\x7f"])
def test_a_variable_with_such_a_value_is_refused(text: str) -> None:
    with pytest.raises(InputRefusedError, match="cannot be sent to FreeSWITCH"):
        Originate(UUID, UserEndpoint("1000", "127.0.0.1"), (App("park"),), {"name": text})


@pytest.mark.parametrize("text", [text for text in INJECTIONS if text != "a,b"] + ["a b", "é"])
def test_a_sound_with_such_a_name_is_refused(text: str) -> None:
    with pytest.raises(InputRefusedError):
        App("playback", text)


@pytest.mark.parametrize("text", [*INJECTIONS, "", "+", "12 34", "1" * 33, "12a", "１２", "sip:x@y"])
def test_a_number_must_be_one(text: str) -> None:
    with pytest.raises(InputRefusedError):
        GatewayEndpoint("carrier_a", text)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Kill("not-a-uuid"),
        lambda: Kill(UUID.upper()),
        lambda: Kill(UUID + "\n"),
        lambda: Kill(UUID, "normal clearing"),
        lambda: Bridge(UUID, ""),
        lambda: GatewayEndpoint("a/b", "1"),
        lambda: UserEndpoint("10 00", "x"),
        lambda: UserEndpoint("1000", "x\ny"),
        lambda: Record(UUID, "relative.wav"),
        lambda: Record(UUID, "/with space.wav"),
        lambda: SetVariable(UUID, "a b"),
        lambda: SetVariable(UUID, "a", "x,y"),
        lambda: commands.auth("ClueCon\n\napi fsctl shutdown"),
        lambda: commands.auth(""),
        lambda: bgapi(Kill(UUID), "x\ny"),
    ],
)
def test_nothing_unlawful_becomes_a_command(make: Any) -> None:
    with pytest.raises(InputRefusedError):
        make()


def test_a_command_that_got_past_its_own_grammar_stops_before_the_wire() -> None:
    class Sly:
        def line(self) -> str:
            return "status\nexit"

    with pytest.raises(InputRefusedError, match="not printable"):
        bgapi(Sly(), UUID)


values = st.from_regex(commands._VALUE, fullmatch=True).filter(lambda text: len(text) <= 200 and ":_:" not in text)
arguments = st.from_regex(commands._ARGUMENT, fullmatch=True).filter(lambda text: len(text) <= 200)


@given(
    st.dictionaries(st.from_regex(r"[a-z][a-z_]{0,20}", fullmatch=True), values, max_size=5),
    st.lists(arguments, min_size=1, max_size=4),
)
def test_quoting_round_trips_through_the_switchs_own_splitting(variables: dict[str, str], sounds: list[str]) -> None:
    variables.pop("origination_uuid", None)
    command = Originate(
        UUID, GatewayEndpoint("carrier_a", "15551230003"), tuple(App("playback", s) for s in sounds), variables
    )
    verb, rest = command.line().split(" ", 1)
    assert verb == "originate"
    dial_string, target, dialplan = separate_blanks(rest)
    assert dialplan == "inline"
    brackets, endpoint = dial_string[1:].split("}", 1)
    assert endpoint == "sofia/gateway/carrier_a/15551230003"
    found = dict(separate(pair, "=", 2) for pair in separate(brackets, ","))
    assert found == {"origination_uuid": UUID, **variables}
    assert separate(target, ",") == [f"playback:{sound}" for sound in sounds]


@given(st.text(max_size=40))
def test_no_text_at_all_makes_two_lines(text: str) -> None:
    for make in (
        lambda: Kill(UUID, text),
        lambda: SetVariable(UUID, "name", text),
        lambda: Record(UUID, text),
        lambda: Transfer(UUID, (App("playback", text),)),
        lambda: Originate(UUID, GatewayEndpoint("a", text), (App("park"),)),
        lambda: Originate(UUID, UserEndpoint(text, "d"), (App("park"),)),
        lambda: Originate(UUID, UserEndpoint("1", "d"), (App("park"),), {text or "x": text}),
    ):
        try:
            data = bgapi(make(), UUID)
        except InputRefusedError:
            continue
        assert data.count(b"\n") == 3
        assert data.isascii()
