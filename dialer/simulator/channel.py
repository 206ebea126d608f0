"""One channel: what it is, what it does, and which of the switch's states it may go through.

A channel has two state headers, as the real one: `Channel-State` is what its thread is running, and `Channel-State-
Number` is what it was told to run next. The headers that rarely change are kept as encoded blocks and forgotten
when something in them changes.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

import attrs

from dialer.simulator.timers import Timer
from dialer.simulator.wire import Block, Value, flatten

if TYPE_CHECKING:
    from dialer.simulator.bridging import Bridging
    from dialer.simulator.originate import Origination
    from dialer.simulator.population import Plan


class State(IntEnum):
    """FreeSWITCH's channel states, with its numbers."""

    NONE = 0  # the number an unborn channel shows; the switch calls it CS_NEW
    INIT = 1
    ROUTING = 2
    SOFT_EXECUTE = 3
    EXECUTE = 4
    EXCHANGE_MEDIA = 5
    PARK = 6
    CONSUME_MEDIA = 7
    HIBERNATE = 8
    RESET = 9
    HANGUP = 10
    REPORTING = 11
    DESTROY = 12


# What a channel's thread may run after what. Everything may end; nothing comes after the report.
_TALKING = frozenset({State.EXECUTE, State.SOFT_EXECUTE, State.EXCHANGE_MEDIA, State.PARK, State.HANGUP})
LAWFUL: dict[State, frozenset[State]] = {
    State.INIT: frozenset({State.CONSUME_MEDIA, State.EXECUTE, State.HANGUP}),
    State.CONSUME_MEDIA: frozenset(
        {State.EXECUTE, State.SOFT_EXECUTE, State.EXCHANGE_MEDIA, State.PARK, State.HANGUP}
    ),
    State.EXECUTE: _TALKING,
    State.SOFT_EXECUTE: _TALKING,
    State.EXCHANGE_MEDIA: _TALKING,
    State.PARK: _TALKING,
    State.HANGUP: frozenset({State.REPORTING}),
    State.REPORTING: frozenset(),
}


class CallState(StrEnum):
    DOWN = "DOWN"
    RINGING = "RINGING"
    EARLY = "EARLY"
    ACTIVE = "ACTIVE"
    HANGUP = "HANGUP"


class Side(StrEnum):
    """Who is at the far end."""

    CUSTOMER = "customer"
    PHONE = "phone"


class UnlawfulStateError(Exception):
    """The simulator itself is wrong: no channel of a real switch goes this way."""


# FreeSWITCH's numbers for the causes a call here can end with; any other shows as 0.
Q850 = {
    "UNALLOCATED_NUMBER": 1,
    "NORMAL_CLEARING": 16,
    "ORIGINATOR_CANCEL": 16,
    "USER_BUSY": 17,
    "NO_USER_RESPONSE": 18,
    "NO_ANSWER": 19,
    "SUBSCRIBER_ABSENT": 20,
    "CALL_REJECTED": 21,
    "DESTINATION_OUT_OF_ORDER": 27,
    "NORMAL_TEMPORARY_FAILURE": 41,
    "ALLOTTED_TIMEOUT": 16,
    "MANAGER_REQUEST": 16,
}


@attrs.define(slots=True, eq=False, kw_only=True)
class Channel:
    """One leg, from CHANNEL_CREATE to CHANNEL_DESTROY."""

    uuid: str
    number: str  # whom it reaches: a telephone number or an extension
    name: str
    side: Side
    session_id: int
    created: int  # microseconds, as all times here
    caller_id: str = ""
    gateway: str = ""  # of a customer
    direction: str = "outbound"
    presence_id: str = ""
    created_text: str = ""

    running: State = State.INIT
    state: State = State.ROUTING
    call_state: CallState = CallState.DOWN
    answer_state: str = "ringing"
    cause: str = ""
    hit_dialplan: bool = False
    destination: str = ""
    dialplan: str = ""
    shown_caller: str = ""  # Caller-Caller-ID-Number, which is not always who calls
    shown_callee: str = ""
    logical_direction: str = "outbound"
    profile_index: int = 1
    call_uuid: str = ""
    progressed: int = 0
    progressed_media: int = 0
    answered: int = 0
    bridged_at: int = 0
    hung_up_at: int = 0
    ended_by_far_end: bool = False

    variables: dict[str, Value] = attrs.Factory(dict)
    other: Channel | None = None  # the last leg it had to do with, for the Other-Leg headers
    other_type: str = ""

    # what it is doing
    program: deque[tuple[str, str]] = attrs.Factory(deque)
    application: str = ""
    argument: str = ""
    executing: bool = False  # it runs what the originate was to run; False between the answer and the +OK
    playing: str = ""
    parked: bool = False
    silent: bool = False  # left park or its sound for a bridge that never came
    orphan: bool = False
    recordings: list[str] = attrs.Factory(list)
    origination: Origination | None = None
    bridging: Bridging | None = None
    partner: Channel | None = None
    counted: bool = True  # in the statistics; calls that agents make by hand are not
    dialled: Channel | None = None  # the leg that an agent who calls out by hand waits for
    first_of_bridge: bool = False
    ever_bridged: bool = False
    plan: Plan | None = None

    step: Timer | None = None  # the end of the sound or the pause
    talk: Timer | None = None
    patience: Timer | None = None
    timers: list[Timer] = attrs.Factory(list)  # all else that dies with the channel
    scheduled: list[Timer] = attrs.Factory(list)  # what sched_del deletes

    _caller_block: Block | None = None
    _other_block: Block | None = None
    _variables_block: Block | None = None
    _fixed_blocks: tuple[Block, ...] = ()
    fixed_stage: int = 0

    def __attrs_post_init__(self) -> None:
        self.destination = self.destination or self.number
        self.call_uuid = self.uuid
        self.shown_caller, self.shown_callee = self.caller_id, self.number

    def __repr__(self) -> str:
        told = f" told {self.state.name}" if self.state != self.running else ""
        cause = f" {self.cause}" if self.cause else ""
        return f"<{self.side} {self.number} {self.uuid[:8]} {self.running.name}{told} {self.answer_state}{cause}>"

    @property
    def hung_up(self) -> bool:
        return bool(self.cause)

    @property
    def is_answered(self) -> bool:
        return self.answered > 0

    @property
    def idle(self) -> bool:
        """Nobody talks to it and nobody is about to."""
        return self.executing and self.partner is None and self.bridging is None and not self.hung_up

    def run_state(self, running: State, state: State | None = None) -> None:
        """Its thread takes up `running`; only what LAWFUL names may follow."""
        if running != self.running and running not in LAWFUL[self.running]:
            raise UnlawfulStateError(f"{self!r} cannot go to {running.name}")
        if self.running is State.INIT:
            self.changed()
        self.running = running
        self.state = running if state is None else state

    def set(self, name: str, value: Value) -> None:
        """Set a channel variable; an empty value removes it."""
        if value:
            self.variables[name] = value
        else:
            self.variables.pop(name, None)
        self._variables_block = None

    def push(self, name: str, value: str) -> None:
        """Add to a channel variable that is an array, as `transfer_history` is."""
        old = self.variables.get(name, ())
        self.set(name, ((old,) if isinstance(old, str) else old) + (value,))

    def get(self, name: str) -> str | None:
        value = self.variables.get(name)
        return None if value is None else flatten(value)

    def is_true(self, name: str) -> bool:
        return (self.get(name) or "").lower() in {"true", "yes", "on", "1", "t", "enabled", "active", "allow"}

    def flip(self) -> None:
        """It executes now, and shows its own number as the caller's, as an originated channel does."""
        self.executing = self.hit_dialplan = True
        self.shown_caller, self.shown_callee = self.number, self.caller_id
        self.changed()

    def changed(self) -> None:
        """Something in the Caller headers changed."""
        self._caller_block = None

    def meet(self, other: Channel, kind: str) -> None:
        """From now on the Other-Leg headers show `other`."""
        self.other, self.other_type = other, kind
        self._other_block = None

    def cancel_timers(self) -> None:
        for timer in (self.step, self.talk, self.patience, *self.timers, *self.scheduled):
            if timer is not None:
                timer.cancel()
        self.timers.clear()
        self.scheduled.clear()
