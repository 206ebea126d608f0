"""The headers of an event, in the order and with the names of a real switch.

`head_block` makes the thirteen headers every event begins with; `channel_blocks` what follows on an event of a
channel. What is the same on every call (SDP, SIP addresses, codecs, counters) is in templates encoded once for the
whole run: it is four fifths of the bytes and costs one copy.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from dialer.simulator import header_templates as templates
from dialer.simulator.channel import Q850, Channel, Side, State
from dialer.simulator.wire import Block, Value

HOSTNAME = "simulated"
ADDRESS = "192.0.2.2"

# Where in FreeSWITCH each event comes from.
CALLING: dict[str, tuple[str, str, int]] = {
    "CHANNEL_CREATE": ("switch_core_state_machine.c", "switch_core_session_run", 626),
    "CHANNEL_ORIGINATE": ("switch_core_state_machine.c", "switch_core_session_run", 626),
    "CHANNEL_PROGRESS": ("switch_channel.c", "switch_channel_perform_mark_ring_ready_value", 3553),
    "CHANNEL_PROGRESS_MEDIA": ("switch_channel.c", "switch_channel_perform_mark_pre_answered", 3617),
    "CHANNEL_ANSWER": ("switch_channel.c", "switch_channel_perform_mark_answered", 3848),
    "CHANNEL_BRIDGE": ("switch_ivr_bridge.c", "switch_ivr_multi_threaded_bridge", 1689),
    "CHANNEL_UNBRIDGE": ("switch_ivr_bridge.c", "switch_ivr_multi_threaded_bridge", 1827),
    "CHANNEL_PARK": ("switch_ivr.c", "switch_ivr_park", 1002),
    "CHANNEL_UNPARK": ("switch_ivr.c", "switch_ivr_park", 1190),
    "CHANNEL_HANGUP": ("switch_channel.c", "switch_channel_perform_hangup", 3456),
    "CHANNEL_HANGUP_COMPLETE": ("switch_core_state_machine.c", "switch_core_session_reporting_state", 1030),
    "CHANNEL_DESTROY": ("switch_core_session.c", "switch_core_session_perform_destroy", 1588),
    "CHANNEL_DATA": ("mod_commands.c", "uuid_dump_function", 6495),
    "PLAYBACK_START": ("switch_ivr_play_say.c", "switch_ivr_play_file", 1649),
    "PLAYBACK_STOP": ("switch_ivr_play_say.c", "switch_ivr_play_file", 2023),
    "RECORD_START": ("switch_ivr_async.c", "record_callback", 1480),
    "RECORD_STOP": ("switch_ivr_async.c", "send_record_stop_event", 1305),
    "DTMF": ("switch_channel.c", "switch_channel_dequeue_dtmf", 678),
    "BACKGROUND_JOB": ("mod_event_socket.c", "api_exec", 1580),
    "HEARTBEAT": ("switch_core.c", "send_heartbeat", 95),
    "SHUTDOWN": ("switch_core.c", "switch_core_destroy", 3033),
    "sofia::expire": ("sofia_reg.c", "sofia_reg_del_callback", 726),
    "CUSTOM": ("sofia_reg.c", "sofia_reg_handle_register_token", 2059),
}


def microseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


@lru_cache(maxsize=4)
def _dates(second: int) -> tuple[str, str]:
    moment = datetime.fromtimestamp(second, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S"), moment.strftime("%a, %d %b %Y %H:%M:%S GMT")


def local_text(stamp: int) -> str:
    """`2026-11-20 23:10:59`, as tables and variables have it."""
    return _dates(stamp // 1_000_000)[0] if stamp else ""


class _Head(Block):
    """Made for each event, so it is written straight into both formats; nothing in it but dates needs encoding."""

    __slots__ = ("_values",)

    def __init__(self, core: str, name: str, subclass: str | None, stamp: int, sequence: int) -> None:
        super().__init__(())
        self._values = (core, name, subclass, stamp, sequence)

    @property
    def pairs(self) -> list[tuple[str, Value]]:
        core, name, subclass, stamp, sequence = self._values
        local, gmt = _dates(stamp // 1_000_000)
        file, function, line = CALLING.get(subclass or "", CALLING[name])
        pairs: list[tuple[str, Value]] = [("Event-Subclass", subclass)] if subclass else []
        return [
            *pairs,
            ("Event-Name", name),
            ("Core-UUID", core),
            ("FreeSWITCH-Hostname", HOSTNAME),
            ("FreeSWITCH-Switchname", HOSTNAME),
            ("FreeSWITCH-IPv4", ADDRESS),
            ("FreeSWITCH-IPv6", "fd00::2"),
            ("Event-Date-Local", local),
            ("Event-Date-GMT", gmt),
            ("Event-Date-Timestamp", str(stamp)),
            ("Event-Calling-File", file),
            ("Event-Calling-Function", function),
            ("Event-Calling-Line-Number", str(line)),
            ("Event-Sequence", str(sequence)),
        ]

    @property
    def plain(self) -> bytes:
        if self._plain is None:
            self._plain = Block(self.pairs).plain
        return self._plain

    @property
    def json(self) -> bytes:
        if self._json is None:
            core, name, subclass, stamp, sequence = self._values
            local, gmt = _dates(stamp // 1_000_000)
            file, function, line = CALLING.get(subclass or "", CALLING[name])
            first = f'"Event-Subclass":"{subclass}",' if subclass else ""
            self._json = (
                f'{first}"Event-Name":"{name}","Core-UUID":"{core}","FreeSWITCH-Hostname":"{HOSTNAME}",'
                f'"FreeSWITCH-Switchname":"{HOSTNAME}","FreeSWITCH-IPv4":"{ADDRESS}","FreeSWITCH-IPv6":"fd00::2",'
                f'"Event-Date-Local":"{local}","Event-Date-GMT":"{gmt}","Event-Date-Timestamp":"{stamp}",'
                f'"Event-Calling-File":"{file}","Event-Calling-Function":"{function}",'
                f'"Event-Calling-Line-Number":"{line}","Event-Sequence":"{sequence}",'
            ).encode()
        return self._json


def head_block(core: str, name: str, subclass: str | None, stamp: int, sequence: int) -> Block:
    return _Head(core, name, subclass, stamp, sequence)


def state_block(channel: Channel) -> Block:
    """The headers that change with nearly every event."""
    running = "CS_NONE" if not channel.running else f"CS_{channel.running.name}"
    pairs: list[tuple[str, Value]] = [
        ("Channel-State", running),
        ("Channel-Call-State", channel.call_state.value),
        ("Channel-State-Number", str(int(channel.state))),
        ("Channel-Name", channel.name),
        ("Unique-ID", channel.uuid),
        ("Call-Direction", channel.direction),
        ("Presence-Call-Direction", channel.direction),
        ("Channel-HIT-Dialplan", "true" if channel.hit_dialplan else "false"),
    ]
    if channel.presence_id:
        pairs.append(("Channel-Presence-ID", channel.presence_id))
    pairs += [("Channel-Call-UUID", channel.call_uuid), ("Answer-State", channel.answer_state)]
    if channel.cause:
        pairs.append(("Hangup-Cause", channel.cause))
    return Block(pairs)


CODEC = Block(
    [
        ("Channel-Read-Codec-Name", "PCMU"),
        ("Channel-Read-Codec-Rate", "8000"),
        ("Channel-Read-Codec-Bit-Rate", "64000"),
        ("Channel-Write-Codec-Name", "PCMU"),
        ("Channel-Write-Codec-Rate", "8000"),
        ("Channel-Write-Codec-Bit-Rate", "64000"),
    ]
)


def caller_block(channel: Channel) -> Block:
    """Caller-*: who and when."""
    if channel._caller_block is None:
        channel._caller_block = Block(_leg(channel, "Caller", channel.direction))
    return channel._caller_block


def other_block(channel: Channel) -> Block | None:
    """Other-Leg-*: as the other leg was when they met."""
    other = channel.other
    if channel._other_block is None and other is not None:
        pairs = [("Other-Type", channel.other_type), *_leg(other, "Other-Leg", other.direction)]
        channel._other_block = Block(pairs)
    return channel._other_block


def _leg(channel: Channel, kind: str, direction: str) -> list[tuple[str, Value]]:
    own = kind == "Caller"
    flipped = channel.executing and channel.direction == "outbound"
    names: list[tuple[str, Value]] = [("Caller-ID-Name", "Outbound Call")] if flipped else []
    if channel.direction == "inbound":
        names = [("Caller-ID-Name", channel.caller_id)]
    callee: list[tuple[str, Value]] = [("Callee-ID-Number", channel.shown_callee)]
    if not flipped:
        callee.insert(0, ("Callee-ID-Name", "Outbound Call"))
    if channel.running is not State.INIT:
        callee.append(("Network-Addr", "127.0.0.1"))
    source = channel.get("transfer_source") if own else None
    times = {
        "Profile-Created-Time": channel.created,
        "Channel-Created-Time": channel.created,
        "Channel-Answered-Time": channel.answered,
        "Channel-Progress-Time": channel.progressed,
        "Channel-Progress-Media-Time": channel.progressed_media,
        "Channel-Hangup-Time": channel.hung_up_at,
        "Channel-Transfer-Time": 0,
        "Channel-Resurrect-Time": 0,
        "Channel-Bridged-Time": channel.bridged_at,
        "Channel-Last-Hold": 0,
        "Channel-Hold-Accum": 0,
    }
    pairs: list[tuple[str, Value]] = [
        ("Direction", direction),
        ("Logical-Direction", channel.logical_direction if own else "inbound"),
        *([("Dialplan", channel.dialplan)] if own and channel.dialplan else []),
        *names,
        ("Caller-ID-Number", channel.shown_caller),
        ("Orig-Caller-ID-Number", channel.caller_id),
        *callee,
        ("ANI", channel.caller_id),
        ("Destination-Number", channel.destination),
        ("Unique-ID", channel.uuid),
        ("Source", "src/switch_ivr_originate.c" if channel.direction == "outbound" else "mod_sofia"),
        *([("Transfer-Source", source)] if source else []),
        ("Context", "default"),
        ("Channel-Name", channel.name),
        *([("Profile-Index", str(channel.profile_index))] if own else []),
        *((name, str(stamp)) for name, stamp in times.items()),
        ("Screen-Bit", "true"),
        ("Privacy-Hide-Name", "false"),
        ("Privacy-Hide-Number", "false"),
    ]
    return [(f"{kind}-{name}", value) for name, value in pairs]


def variables_block(channel: Channel) -> Block:
    """variable_*: what the originate and the commands set."""
    if channel._variables_block is None:
        pairs: list[tuple[str, Value]] = [
            ("variable_direction", channel.direction),
            ("variable_is_outbound", "true" if channel.direction == "outbound" else "false"),
            ("variable_uuid", channel.uuid),
            ("variable_session_id", str(channel.session_id)),
            ("variable_channel_name", channel.name),
            ("variable_call_uuid", channel.call_uuid),
        ]
        pairs += [(f"variable_{name}", value) for name, value in channel.variables.items()]
        channel._variables_block = Block(pairs)
    return channel._variables_block


def fixed_blocks(channel: Channel) -> tuple[Block, ...]:
    """The bulk of a real event; it grows with the ringing and with the media."""
    stage = 3 if channel.is_answered or channel.progressed_media else 2 if channel.progressed else 1
    if channel.fixed_stage != stage:
        channel.fixed_stage = stage
        holes = {"__NUMBER__": channel.number, "__CALLER__": channel.caller_id, "__GATEWAY__": channel.gateway}
        phone = channel.side is Side.PHONE
        created = templates.PHONE_CREATED if phone else templates.CUSTOMER_CREATED
        answered = templates.PHONE_ANSWERED if phone else templates.CUSTOMER_ANSWERED
        chosen = {1: [created], 2: [created, templates.RINGING], 3: [answered, templates.MEDIA]}[stage]
        channel._fixed_blocks = tuple(template.fill(holes) for template in chosen)
    return channel._fixed_blocks


# What carriers say when they refuse, and what FreeSWITCH makes of it (sofia_glue.c).
_REFUSALS = {
    "USER_BUSY": 486,
    "CALL_REJECTED": 603,
    "UNALLOCATED_NUMBER": 404,
    "NORMAL_TEMPORARY_FAILURE": 503,
    "NO_USER_RESPONSE": 480,
}


def _sip_ending(channel: Channel) -> list[tuple[str, Value]]:
    """Who ended the SIP dialogue, and with what status; there is no status for a BYE that the switch sends."""
    if channel.is_answered:
        if not channel.ended_by_far_end:
            return [("sip_hangup_disposition", "send_bye")]
        return [("sip_term_status", "200"), ("sip_hangup_disposition", "recv_bye")]
    if not channel.ended_by_far_end:
        return [("sip_hangup_disposition", "send_cancel"), ("sip_invite_failure_status", "487")]
    status = str(_REFUSALS.get(channel.cause, 500))
    return [
        ("sip_hangup_disposition", "recv_refuse"),
        ("sip_invite_failure_status", status),
        ("sip_term_status", status),
    ]


def _durations(names: tuple[str, str, str], begin: int, end: int) -> list[tuple[str, Value]]:
    """A span in seconds, milliseconds and microseconds; zero when one end of it never was.

    The seconds are those between two readings of a clock that shows whole seconds, so 5.4 s can be 6.
    """
    if not begin or not end:
        return [(name, "0") for name in names]
    span = end - begin
    seconds = end // 1_000_000 - begin // 1_000_000
    return [(name, str(value)) for name, value in zip(names, (seconds, span // 1000, span), strict=True)]


def reporting_block(channel: Channel, now: int) -> Block:
    """What CHANNEL_HANGUP_COMPLETE and CHANNEL_DESTROY add: cause, stamps and durations."""
    first = channel.created
    pairs: list[tuple[str, Value]] = [
        ("hangup_cause", channel.cause),
        ("hangup_cause_q850", str(Q850.get(channel.cause, 0))),
        ("digits_dialed", "none"),
        ("caller_id", f'"Outbound Call" <{channel.shown_caller}>' if channel.executing else channel.caller_id),
    ]
    stamps = {
        "start": first,
        "profile_start": first,
        "answer": channel.answered,
        "bridge": channel.bridged_at,
        "end": channel.hung_up_at,
    }
    stamps["progress"], stamps["progress_media"] = channel.progressed, channel.progressed_media
    pairs += [(f"{name}_stamp", local_text(stamp)) for name, stamp in stamps.items() if stamp]
    for name, stamp in stamps.items():
        pairs += [(f"{name}_epoch", str(stamp // 1_000_000)), (f"{name}_uepoch", str(stamp))]
    end = channel.hung_up_at or now
    spans = {
        "bill": (channel.answered, end),
        "progress": (first, channel.progressed),
        "progress_media": (first, channel.progressed_media),
        "answer": (first, channel.answered),
        "wait": (first, channel.bridged_at),
    }
    pairs += _durations(("duration", "mduration", "uduration"), first, end)
    for name, (begin, finish) in spans.items():
        pairs += _durations((f"{name}sec", f"{name}msec", f"{name}usec"), begin, finish)
    pairs += _sip_ending(channel)
    if channel.application:
        pairs.append(("last_app", channel.application))
    if channel.argument:
        pairs.append(("last_arg", channel.argument))
    return Block([(f"variable_{name}", value) for name, value in pairs])
