"""The bytes: what the writer makes, and how it reads commands."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialer.simulator.dialstring import DialStringError, inline_program, separate, take_variables
from dialer.simulator.originate import parse_originate
from dialer.simulator.wire import (
    COMMAND_LIMIT,
    Block,
    Command,
    CommandReader,
    CommandTooLongError,
    Event,
    Template,
    percent_encode,
    reply_frame,
)

from .replay import NAMES_OF_ALL, recorded
from .wiretap import cut


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("plain-text_~.!", "plain-text_~.!"),
        ("a b", "a%20b"),
        ("x=1&y", "x%3D1%26y"),
        ("(1,2)/*$'", "(1,2)/*$'"),
        ("\r\n", "%0D%0A"),
        ("ä€", "%C3%A4%E2%82%AC"),
        ("%(2000", "%25(2000"),
        ("100%", "100%25"),
        ("%41", "%41"),  # a real switch leaves what looks encoded already
        ("%4a", "%254a"),  # but only with upper-case digits
        ("", ""),
    ],
)
def test_percent_encoding(value: str, encoded: str) -> None:
    assert percent_encode(value) == encoded


def test_percent_encoding_is_that_of_every_recorded_value() -> None:
    for name in NAMES_OF_ALL:
        for frame in recorded(name):
            if frame.kind != "text/event-plain":
                continue
            raw = frame.body.partition(b"\n\n")[0].decode().split("\n")
            pairs = [line.split(": ", 1) for line in raw if line]
            for (_, value), (_, decoded) in zip(pairs, frame.pairs, strict=True):
                assert percent_encode(decoded) == value


EVENT = Event(
    "X",
    None,
    1,
    (Block([("A", "one two"), ("B", ("x", "y"))]), Template([("C", "<__NUMBER__>")]).fill({"__NUMBER__": '5"5\n'})),
    "+OK ä\n",
)


def test_plain_event() -> None:
    body = "A: one%20two\nB: ARRAY%3A%3Ax%7C%3Ay\nC: %3C5%225%0A%3E\n\n+OK ä\n".encode()
    assert EVENT.frame("plain") == b"Content-Length: %d\nContent-Type: text/event-plain\n\n%b" % (len(body), body)


def test_json_event() -> None:
    head, _, body = EVENT.frame("json").partition(b"\n\n")
    assert head == b"Content-Length: %d\nContent-Type: text/event-json" % len(body)
    assert json.loads(body) == {"A": "one two", "B": ["x", "y"], "C": '<5"5\n>', "_body": "+OK ä\n"}


def test_an_array_of_one_is_a_string() -> None:
    event = Event("X", None, 1, (Block([("A", ("x",))]),))
    assert b"A: x\n" in event.frame("plain")
    assert json.loads(event.frame("json").partition(b"\n\n")[2]) == {"A": "x"}


@given(st.text().filter(lambda text: not re.search("%[0-9A-F]{2}", text) and "\ud800" not in text))
def test_any_value_survives_both_formats(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        return
    event = Event("X", None, 1, (Block([("Name", value), ("After", "1")]),))
    for format_ in ("plain", "json"):
        frames, taken = cut(event.frame(format_))
        assert taken == len(event.frame(format_))
        assert frames[0].event == {"Name": value, "After": "1"}


COMMANDS = [
    (b"auth x\n\n", [Command("auth x", {})]),
    (b"\n\r\n\nauth x\n\n", [Command("auth x", {})]),
    (b"bgapi status\nJob-UUID: abc\n\n", [Command("bgapi status", {"job-uuid": "abc"})]),
    (b"bgapi status\r\nJob-UUID: abc\r\n\r\n", [Command("bgapi status", {"job-uuid": "abc"})]),
    (b"sendevent X\nContent-Length: 3\n\na\n\nexit\n\n", [
        Command("sendevent X", {"content-length": "3"}, "a\n\n"), Command("exit", {}),
    ]),
    (b"one\n\ntwo\n\nthr", [Command("one", {}), Command("two", {})]),
]  # fmt: skip


@pytest.mark.parametrize(("data", "commands"), COMMANDS)
def test_commands_are_read_whole_and_byte_by_byte(data: bytes, commands: list[Command]) -> None:
    assert list(CommandReader().feed(data)) == commands
    reader = CommandReader()
    assert [command for byte in data for command in reader.feed(bytes([byte]))] == commands


def test_a_command_without_end_is_refused() -> None:
    reader = CommandReader()
    with pytest.raises(CommandTooLongError):
        list(reader.feed(b"x" * (COMMAND_LIMIT + 1)))


def test_reply() -> None:
    assert reply_frame("+OK accepted") == b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n"


@pytest.mark.parametrize(
    ("text", "delimiter", "parts"),
    [
        ("a b  c", " ", ["a", "b", "c"]),
        ("{x='a b'}user/1 &park()", " ", ["{x=a b}user/1", "&park()"]),
        (r"a\,b,c", ",", ["a,b", "c"]),
        (r"'%(7\,3)' inline", " ", [r"%(7\,3)", "inline"]),
        (r"it\'s,x", ",", ["it's", "x"]),
        ("don't stop", " ", ["don't", "stop"]),
        (r"a\nb", ",", ["a\nb"]),
        ("a,,b", ",", ["a", "", "b"]),
    ],
)
def test_separate(text: str, delimiter: str, parts: list[str]) -> None:
    assert separate(text, delimiter) == parts


def test_variables() -> None:
    assert take_variables("{a=1,b=x{y}z}rest", "{", "}") == ({"a": "1", "b": "x{y}z"}, "rest")
    assert take_variables("{^^:a=1,2:b=3}rest", "{", "}") == ({"a": "1,2", "b": "3"}, "rest")
    assert take_variables("{a=1}{b=2}rest", "{", "}") == ({"a": "1", "b": "2"}, "rest")
    with pytest.raises(DialStringError):
        take_variables("{a=1", "{", "}")


def test_inline_programs() -> None:
    assert inline_program(r"playback:%(1\,2),sleep:800,hangup:X") == [
        ("playback", "%(1,2)"),
        ("sleep", "800"),
        ("hangup", "X"),
    ]
    assert inline_program("m:^:playback:a,b^hangup:") == [("playback", "a,b"), ("hangup", "")]


def test_originate_is_taken_apart() -> None:
    request = parse_originate(
        "{origination_uuid=u,originate_timeout=9,execute_on_answer='sched_hangup +5 X'}[leg=1]sofia/gateway/g/1"
        " 'loop_playback:+3 a,hangup:X' inline"
    )
    assert request.url == "sofia/gateway/g/1"
    assert request.variables["execute_on_answer"] == "sched_hangup +5 X"
    assert request.variables["leg"] == "1"
    assert request.timeout == 9
    assert request.target.program == [("loop_playback", "+3 a"), ("hangup", "X")]
    assert parse_originate("user/1 &park()").target.program == [("park", "")]
    # An argument ends at the first closing parenthesis, and a space ends the target.
    assert parse_originate("user/1 &playback(tone://%(1,2);x)").target.program == [("playback", "tone://%(1,2")]
    assert parse_originate("user/1 &loop_playback(+3 x)").target.program == [("loop_playback", "+3")]
    with pytest.raises(DialStringError):
        parse_originate("user/1")
