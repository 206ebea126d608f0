"""What a FreeSWITCH says on its event socket, as frozen values.

A frame (framing.py) becomes one of five messages. Events are read with msgspec into one struct of the fields this
program wants, ten times faster than a dictionary of all of them; what msgspec refuses (bad UTF-8, a header that
repeats and so became a list) goes through a tolerant reader that can only be slower, never wrong. Header names are
those of FreeSWITCH 1.10 and 1.11 (src/switch_channel.c, mod_event_socket.c, sofia_reg.c).

Values are decoded after the split into headers, never before: otherwise a channel variable could forge a header.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final
from urllib.parse import unquote

import attrs
import msgspec


class ProtocolError(Exception):
    """The peer sent what no FreeSWITCH sends; the connection cannot be trusted any further."""


class Frame(msgspec.Struct, frozen=True):
    """One frame of the wire: its header lines and its body, still bytes."""

    headers: Mapping[str, str]
    body: bytes


def _field(name: str) -> str:
    """A text field of an event, empty when the event does not have it."""
    field: str = msgspec.field(default="", name=name)
    return field


def _number(name: str) -> int:
    field: int = msgspec.field(default=0, name=name)
    return field


# What is larger is told by no FreeSWITCH, and would break whoever makes a time of it (10**17 µs is the year 5138) or
# writes it to a database.
_Count = Annotated[int, msgspec.Meta(ge=0, le=10**17)]
_SipStatus = Annotated[int, msgspec.Meta(ge=0, le=999)]


class Event(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The wanted fields of one event. A field the event lacks is empty, or 0, as is one that makes no sense.

    `raw` is the event's own bytes. Text can always be written as UTF-8.

    Only what is read is here: each of an event's 150 headers is compared with each field, 0.1 µs a field. What only
    some events have is in their own kinds below, which `KINDS` tells by name.
    """

    name: str = msgspec.field(name="Event-Name")
    sequence: _Count = _number("Event-Sequence")
    timestamp_us: _Count = _number("Event-Date-Timestamp")
    direction: str = _field("Call-Direction")
    presence_id: str = _field("Channel-Presence-ID")
    unique_id: str = _field("Unique-ID")
    answered_us: _Count = _number("Caller-Channel-Answered-Time")
    dialer_agent: str = _field("variable_dialer_agent")

    raw: bytes = b""

    @property
    def legs(self) -> tuple[str, ...]:
        """The uuids of the legs it is about."""
        return (self.unique_id,)

    def all_headers(self) -> dict[str, Any]:
        """Every header of the event; slow, for the few events that are kept whole.

        None of an event that only the quick reader could read, which did not look at what it does not want: nested
        deeper, or a number longer, than any that FreeSWITCH writes.
        """
        try:
            return _headers_of(self.raw)
        except ProtocolError:
            return {}

    def header(self, name: str) -> str:
        """One more header, empty if there is none; as slow as all of them, for what few events are asked for."""
        return _written(_last(self.all_headers().get(name))) if self.raw else ""


class BackgroundJob(Event, frozen=True, gc=False, kw_only=True):
    """The result of a `bgapi` command."""

    job_uuid: str = _field("Job-UUID")
    body: str = _field("_body")

    @property
    def legs(self) -> tuple[str, ...]:
        """An originate's job has the uuid of its leg."""
        return (self.job_uuid,)


class BridgeEvent(Event, frozen=True, gc=False, kw_only=True):
    """Two legs put together, or taken apart."""

    other_leg_uuid: str = _field("Other-Leg-Unique-ID")
    bridge_a_uuid: str = _field("Bridge-A-Unique-ID")
    bridge_b_uuid: str = _field("Bridge-B-Unique-ID")

    @property
    def legs(self) -> tuple[str, ...]:
        other = self.bridge_b_uuid if self.bridge_a_uuid == self.unique_id else self.bridge_a_uuid
        other = other or self.other_leg_uuid
        return (self.unique_id,) if other == self.unique_id else (self.unique_id, other)


class ParkEvent(Event, frozen=True, gc=False, kw_only=True):
    """A leg that came to park."""

    # Set by the first sound that was played, whole or not (switch_ivr_play_say.c); not by one that could not be.
    played_samples: _Count = _number("variable_playback_samples")
    # The key that ended a sound; empty again when the next one begins (mod_dptools.c, `playback_function`).
    terminator: str = _field("variable_playback_terminator_used")


class EndingEvent(Event, frozen=True, gc=False, kw_only=True):
    """A leg that ends, or has ended."""

    hangup_cause: str = _field("Hangup-Cause")
    bridged_us: _Count = _number("Caller-Channel-Bridged-Time")
    sip_term_status: _SipStatus = _number("variable_sip_term_status")
    sip_failure_status: _SipStatus = _number("variable_sip_invite_failure_status")
    sip_hangup_disposition: str = _field("variable_sip_hangup_disposition")
    played_samples: _Count = _number("variable_playback_samples")
    terminator: str = _field("variable_playback_terminator_used")


class CustomEvent(Event, frozen=True, gc=False, kw_only=True):
    """What a module of the switch tells: registrations, among others."""

    subclass: str = _field("Event-Subclass")


KINDS: Final[Mapping[str, type[Event]]] = {
    "BACKGROUND_JOB": BackgroundJob,
    "CHANNEL_BRIDGE": BridgeEvent,
    "CHANNEL_UNBRIDGE": BridgeEvent,
    "CHANNEL_PARK": ParkEvent,
    "CHANNEL_HANGUP": EndingEvent,
    "CHANNEL_HANGUP_COMPLETE": EndingEvent,
    "CHANNEL_DESTROY": EndingEvent,
    "CUSTOM": CustomEvent,
}


@attrs.frozen
class AuthRequest:
    """The switch asks for the password."""


@attrs.frozen
class CommandReply:
    """The answer to a command of the protocol itself, `bgapi` among them."""

    text: str
    job_uuid: str

    @property
    def accepted(self) -> bool:
        return self.text.startswith("+OK")


@attrs.frozen
class ApiResponse:
    """The answer to a blocking `api` command."""

    body: str


@attrs.frozen
class DisconnectNotice:
    """The switch closes this connection, and says why."""

    text: str


@attrs.frozen
class Rejection:
    """The switch's access list does not let this address in."""

    text: str


Message = AuthRequest | CommandReply | ApiResponse | DisconnectNotice | Rejection | Event

# Lax, because FreeSWITCH writes its numbers as strings.
_decode_event = msgspec.json.Decoder(Event, strict=False).decode
_DECODERS: Final = {name.encode(): msgspec.json.Decoder(kind, strict=False).decode for name, kind in KINDS.items()}
_EVENTS: Final[tuple[type[Event], ...]] = (Event, *KINDS.values())
# What the tolerant reader takes from headers, looked up once: it is a walk through annotations.
_FIELDS: Final[Mapping[type[Event], tuple[msgspec.structs.FieldInfo, ...]]] = {
    kind: tuple(field for field in msgspec.structs.fields(kind) if field.name != "raw") for kind in _EVENTS
}
# FreeSWITCH writes the name first (switch_event.c, `switch_event_create_subclass`).
_NAME_STARTS: Final = len(b'{"Event-Name":"')


def event_from_json(body: bytes) -> Event:
    """Reads an `event json` body.

    Raises ProtocolError if it is no JSON object or names no event.
    """
    decode = _DECODERS.get(body[_NAME_STARTS : body.find(b'"', _NAME_STARTS)], _decode_event)
    try:
        event: Event = decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _event_from_headers(_headers_of(body), body)
    if type(event) is not KINDS.get(event.name, Event) or not event.name:  # its name was not where it always is
        return _event_from_headers(_headers_of(body), body)
    msgspec.structs.force_setattr(event, "raw", body)
    return event


def event_from_plain(body: bytes) -> Event:
    """Reads an `event plain` body: percent-encoded header lines and perhaps an inner body, which is not encoded."""
    return _event_from_headers(_headers_of(body), body)


def _headers_of(body: bytes) -> dict[str, Any]:
    if body.lstrip(b" \t\r\n").startswith(b"{"):
        try:
            loaded = json.loads(body.decode("utf-8", errors="replace"), strict=False)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"an event that is not JSON: {body[:80]!r}") from error
        if not isinstance(loaded, dict):
            raise ProtocolError(f"an event that is not a JSON object: {body[:80]!r}")
        return loaded
    head, _, inner = body.partition(b"\n\n")
    headers: dict[str, Any] = {}
    for line in head.split(b"\n"):
        name, colon, value = line.partition(b": ")
        if not colon:
            continue  # FreeSWITCH itself writes no such line; losing it is better than losing the connection
        text = unquote(value.decode("utf-8", errors="replace"), errors="replace")
        headers[name.decode("utf-8", errors="replace")] = text
    if inner and "Content-Length" in headers:
        headers["_body"] = inner.decode("utf-8", errors="replace")
    return headers


def _event_from_headers(headers: Mapping[str, Any], raw: bytes) -> Event:
    name = _written(_last(headers.get("Event-Name")))
    if not name:
        raise ProtocolError(f"an event without a name: {raw[:80]!r}")
    kind = KINDS.get(name, Event)
    fields: dict[str, Any] = {"raw": raw}
    for field in _FIELDS[kind]:
        value = _last(headers.get(field.encode_name))
        if value is None:
            continue
        if field.type is str:
            fields[field.name] = _written(value)
        else:
            try:
                fields[field.name] = msgspec.convert(value, field.type, strict=False)
            except (msgspec.ValidationError, UnicodeEncodeError):  # the latter for half a character
                continue
    return kind(**fields)


def _last(value: Any) -> Any:
    """A header that repeats became a list; the last is the newest."""
    if isinstance(value, list):
        return value[-1] if value else None
    return value


def _written(value: Any) -> str:
    """`value` as text; empty if it is none, or nested: no header is."""
    if value is None or isinstance(value, dict | list):
        return ""
    text = str(value)
    if text.isascii():
        return text
    # JSON can name half a character, which nobody downstream could write.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _text(frame: Frame) -> str:
    return frame.body.decode("utf-8", errors="replace")


_READERS: Final[Mapping[str, Callable[[Frame], Message]]] = {
    "text/event-plain": lambda frame: event_from_plain(frame.body),
    "command/reply": lambda frame: CommandReply(
        frame.headers.get("Reply-Text", ""), frame.headers.get("Job-UUID", "")
    ),
    "api/response": lambda frame: ApiResponse(_text(frame)),
    "auth/request": lambda frame: AuthRequest(),
    "text/disconnect-notice": lambda frame: DisconnectNotice(_text(frame)),
    "text/rude-rejection": lambda frame: Rejection(_text(frame)),
}


def read_message(frame: Frame) -> Message:
    """The message that `frame` carries.

    Raises ProtocolError for a content type no FreeSWITCH sends to a client like this one, and for an event without
    a name.
    """
    content_type = frame.headers.get("Content-Type", "")
    if content_type == "text/event-json":  # nearly all there is
        return event_from_json(frame.body)
    reader = _READERS.get(content_type)
    if reader is None:
        raise ProtocolError(f"a frame of the type {content_type!r}")
    return reader(frame)
