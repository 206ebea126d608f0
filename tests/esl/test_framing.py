"""Bytes in, messages out: every recording, whole, chopped and mutilated."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialer.esl import framing
from dialer.esl.framing import FrameReader
from dialer.esl.messages import (
    ApiResponse,
    AuthRequest,
    BackgroundJob,
    CommandReply,
    DisconnectNotice,
    EndingEvent,
    Event,
    ProtocolError,
    event_from_json,
    event_from_plain,
    read_message,
)
from tests.esl.recorded import NAMES, messages, recording


def test_there_are_recordings() -> None:
    assert len(NAMES) == 25


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_begins_with_a_password_request_and_leaves_nothing_over(name: str) -> None:
    reader = FrameReader()
    reader.receive_data(recording(name))
    found = []
    while (frame := reader.next_frame()) is not None:
        found.append(read_message(frame))
    assert found[0] == AuthRequest()
    assert repr(reader) == "<FrameReader holding 0 bytes>"


@pytest.mark.parametrize("name", NAMES)
def test_byte_by_byte_gives_the_same_as_whole(name: str) -> None:
    data = recording(name)[:60_000]
    assert messages(*(data[i : i + 1] for i in range(len(data)))) == messages(data)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_chopping_gives_the_same_as_whole(data: st.DataObject) -> None:
    stream = recording(data.draw(st.sampled_from(NAMES)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=30)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert messages(*pieces) == messages(stream)


def test_a_hundred_thousand_mutilated_frames_raise_nothing_but_protocol_error() -> None:
    rng = random.Random(20261121)
    frames = []
    for name in ("busy", "events_json", "nailed_up_agent_two_calls", "queries", "shutdown", "auth_refused"):
        reader = FrameReader()
        reader.receive_data(recording(name))
        while (frame := reader.next_frame()) is not None:
            head = "".join(f"{key}: {value}\n" for key, value in frame.headers.items()).encode()
            frames.append(head + b"\n" + frame.body[:3000])
    raised = 0
    for _ in range(100_000):
        frame_bytes = bytearray(rng.choice(frames))
        for _ in range(rng.randint(1, 4)):
            position = (
                rng.randrange(len(frame_bytes)) if rng.random() < 0.5 else rng.randrange(min(80, len(frame_bytes)))
            )
            match rng.randrange(4):
                case 0:
                    frame_bytes[position] = rng.randrange(256)
                case 1:
                    del frame_bytes[position]
                case 2:
                    frame_bytes.insert(position, rng.randrange(256))
                case 3:
                    frame_bytes[position : position + 8] = rng.randbytes(8)
        try:
            messages(bytes(frame_bytes))
        except ProtocolError:
            raised += 1
    assert raised > 1000  # the mutations do hurt


@pytest.mark.parametrize(
    "length", ["-1", "+5", "1_0", "0x10", "1e3", "", "٣", "9" * 13, str(framing.MAX_BODY_BYTES + 1)]
)
def test_a_length_that_is_none_is_refused(length: str) -> None:
    with pytest.raises(ProtocolError, match=r"Content-Length|over the limit"):
        messages(f"Content-Type: api/response\nContent-Length: {length}\n\n".encode())


def test_endless_headers_are_refused_before_they_fill_memory() -> None:
    reader = FrameReader()
    reader.receive_data(b"A: " + b"x" * (framing.MAX_HEADER_BYTES + 1))
    with pytest.raises(ProtocolError, match="headers over the limit"):
        reader.next_frame()


def test_lengths_are_bytes_not_characters() -> None:
    body = "grüße 電話\n".encode()
    stream = b"Content-Type: api/response\nContent-Length: %d\n\n" % len(body) + body
    assert messages(stream + b"Content-Type: auth/request\n\n") == [ApiResponse("grüße 電話\n"), AuthRequest()]


def test_a_variable_cannot_forge_a_header() -> None:
    body = b"Event-Name: CHANNEL_ANSWER\nvariable_name: a%0AUnique-ID: forged\nUnique-ID: 1234\n\n"
    assert event_from_plain(body).unique_id == "1234"


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b'{"Event-Name":"CUSTOM","from-user":"caf\xe9"}', "bad UTF-8"),
        (b'{"Event-Name":"CUSTOM","from-user":["caf","caf\xe9"]}', "a list where text was wanted"),
        (b'{"Event-Name":"CUSTOM","from-user":"caf\n\xe9"}', "a control character"),
        (b'{"Event-Name":"CUSTOM","from-user":"caf\xff","Event-Sequence":"many"}', "a number that is none"),
        (b'{"Event-Name":"CUSTOM","from-user":"caf","Event-Sequence":Infinity}', "a number without end"),
        (b'{"Event-Name":"CUSTOM","from-user":"caf","Event-Sequence":-1}', "less than nothing"),
        (b'{"Event-Name":"CUSTOM","from-user":"caf","Event-Sequence":"\\ud800"}', "half a character for a number"),
        (b'{"Event-Name":"CUSTOM","from-user":"caf","Event-Date-Timestamp":"1%s"}' % (b"0" * 20), "no moment"),
        (b'\n {"Event-Name":"CUSTOM","from-user":"caf"}', "blanks before it"),
    ],
)
def test_a_body_msgspec_refuses_is_read_all_the_same(body: bytes, what: str) -> None:
    event = event_from_json(body)
    assert event.name == "CUSTOM", what
    assert event.header("from-user").startswith("caf"), what


def test_text_can_be_written_and_a_nested_value_is_none() -> None:
    event = event_from_json(
        b'{"Event-Name":"CUSTOM","Unique-ID":"a\\ud800","Call-Direction":["a",{"b":1}],"x":"\\udc00"}'
    )
    assert (event.unique_id, event.direction, event.header("x")) == ("a\ufffd", "", "\ufffd")
    status = event_from_json(
        b'{"Event-Name":"CHANNEL_HANGUP","variable_sip_term_status":"4294967296","Unique-ID":"a"}'
    )
    assert isinstance(status, EndingEvent)
    assert (status.sip_term_status, status.unique_id) == (0, "a")


def test_what_only_the_quick_reader_could_read_has_no_other_headers() -> None:
    event = event_from_json(b'{"Event-Name":"CUSTOM","Unique-ID":"a","number":' + b"9" * 5_000 + b"}")
    assert (event.unique_id, event.header("Unique-ID"), event.all_headers()) == ("a", "", {})
    with pytest.raises(ProtocolError):
        event_from_json(b'{"Event-Name":"CUSTOM","nested":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b'{"Event-Name":{"a":1}}', b'{"Event-Name":""}', b"{}", b"\xff", b"", b'"CUSTOM"']
)
def test_what_is_no_event_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        event_from_json(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"Core-UUID":"c","Event-Name":"CHANNEL_HANGUP","Hangup-Cause":"USER_BUSY"}',  # not where it always is
        b'{"Event-Name":"CUSTOM","Event-Name":"CHANNEL_HANGUP","Hangup-Cause":"USER_BUSY"}',
        b'{"Event-Nama":"CUSTOM","Event-Name":"CHANNEL_HANGUP","Hangup-Cause":"USER_BUSY"}',
        b'{"Event-Name":"CHANNEL_HANGUP","Hangup-Cause":["OLD","USER_BUSY"]}',
    ],
)
def test_the_kind_of_an_event_follows_its_name_wherever_that_stands(body: bytes) -> None:
    event = event_from_json(body)
    assert isinstance(event, EndingEvent)
    assert (event.hangup_cause, event.raw) == ("USER_BUSY", body)


def test_json_and_plain_agree_on_the_same_call() -> None:
    """The json recording's answered call has what the plain ones have."""
    events = [m for m in messages(recording("events_json")) if isinstance(m, Event)]
    answer = next(m for m in events if m.name == "CHANNEL_ANSWER")
    assert answer.header("Answer-State") == "answered"
    assert answer.timestamp_us == 1795216563259781
    assert answer.sequence == 1528
    job = next(m for m in events if isinstance(m, BackgroundJob))
    assert job.body == "+OK 3642d200-1c83-46d9-820b-eb997706e1cb\n"
    busy = [m for m in messages(recording("busy")) if isinstance(m, Event)]
    plain_job = next(m for m in busy if isinstance(m, BackgroundJob))
    assert plain_job.body == "-ERR USER_BUSY\n"
    complete = next(m for m in busy if isinstance(m, EndingEvent) and m.name == "CHANNEL_HANGUP_COMPLETE")
    assert (complete.hangup_cause, complete.sip_term_status) == ("USER_BUSY", 486)
    assert complete.sip_hangup_disposition == "recv_refuse"


def test_replies_and_notices() -> None:
    refused = messages(recording("auth_refused"))
    assert refused[1] == CommandReply("-ERR invalid", "")
    assert isinstance(refused[2], DisconnectNotice)
    assert not CommandReply("-ERR command not found", "").accepted
    with pytest.raises(ProtocolError, match="type"):
        messages(b"Content-Type: text/surprise\n\n")
