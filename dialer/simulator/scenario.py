"""A scenario: who is called, what they do, which phones there are, and what goes wrong.

One TOML file (or one object in a test) says it all, and an unknown key is refused. Whatever a scenario leaves out
has a default that makes a well-behaved small switch: one carrier whose people answer after two seconds and talk for
three minutes, and a few phones that answer at once.
"""

from __future__ import annotations

import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dialer.errors import ConfigurationError
from dialer.simulator.distribution import NEVER, Distribution, Fixed

Probability = float


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)


class Outcome(StrEnum):
    """What becomes of a call to a number."""

    ANSWER = "answer"
    BUSY = "busy"  # 486
    REJECTED = "rejected"  # 603
    NOT_FOUND = "not_found"  # 404
    UNAVAILABLE = "unavailable"  # 503
    NO_ANSWER = "no_answer"
    EARLY_MEDIA_ANSWER = "early_media_answer"
    EARLY_MEDIA_FAILURE = "early_media_failure"
    MACHINE = "machine"  # an answering machine answers
    ANSWER_HANG_UP = "answer_hang_up"  # answers and is gone after `hang_up_after`


CAUSE_OF = {
    Outcome.BUSY: "USER_BUSY",
    Outcome.REJECTED: "CALL_REJECTED",
    Outcome.NOT_FOUND: "UNALLOCATED_NUMBER",
    Outcome.UNAVAILABLE: "NORMAL_TEMPORARY_FAILURE",
    Outcome.EARLY_MEDIA_FAILURE: "UNALLOCATED_NUMBER",
    Outcome.NO_ANSWER: "NO_USER_RESPONSE",
}


class Timing(_Section):
    """When things happen to a call through a gateway; all in seconds."""

    ring_delay: Distribution = Fixed(value=0.2)  # from originate to 180 (or 183)
    answer_delay: Distribution = Fixed(value=2.0)  # from the ringing to the answer, or to a failure after early media
    fail_delay: Distribution = Fixed(value=0.2)  # from originate to a refusal
    gives_up_after: Distribution = NEVER  # the carrier ends a call that only rings (480)
    talk: Distribution = Fixed(value=180.0)  # from the bridge to the customer's hang-up
    patience: Distribution = Fixed(value=60.0)  # from the answer to the hang-up of a customer nobody talks to
    hang_up_after: Distribution = Fixed(value=0.7)  # from the answer, for `answer_hang_up`
    key_delay: Distribution = Fixed(value=1.0)  # from the answer to the first key, for a script with `keys`
    verdict_delay: Distribution = Fixed(value=0.8)  # that listening takes to tell a person from a machine


class Script(_Section):
    """What certain numbers do, whatever the mix says. The first script that matches counts."""

    number: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    regex: str | None = None
    outcome: Outcome
    cause: str | None = None
    ring_delay: Distribution | None = None
    answer_delay: Distribution | None = None
    fail_delay: Distribution | None = None
    gives_up_after: Distribution | None = None
    talk: Distribution | None = None
    patience: Distribution | None = None
    hang_up_after: Distribution | None = None
    key_delay: Distribution | None = None
    verdict_delay: Distribution | None = None
    keys: str = Field(default="", pattern=r"^[0-9*#A-D]*$")  # what they press, one after the other

    @model_validator(mode="after")
    def _one_way_to_match(self) -> Self:
        if sum(way is not None for way in (self.number, self.prefix, self.suffix, self.regex)) != 1:
            raise ValueError("a script needs exactly one of number, prefix, suffix, regex")
        if self.regex is not None:
            re.compile(self.regex)
        return self

    def matches(self, number: str) -> bool:
        if self.number is not None:
            return number == self.number
        if self.prefix is not None:
            return number.startswith(self.prefix)
        if self.suffix is not None:
            return number.endswith(self.suffix)
        return self.regex is not None and re.search(self.regex, number) is not None


class Gateway(Timing):
    """A carrier."""

    mix: dict[Outcome, float] = {Outcome.ANSWER: 1.0}  # weights; they need not add up to one
    scripts: tuple[Script, ...] = ()
    taken_for_machine: Probability = Field(default=0.0, ge=0, le=1)  # a person who answers
    taken_for_person: Probability = Field(default=0.0, ge=0, le=1)  # a machine that answers
    capacity: int = Field(default=1_000_000, ge=0)  # calls at once; beyond it the carrier answers 503
    up: bool = True
    address: str = "127.0.0.1:5091"

    @field_validator("mix")
    @classmethod
    def _weights(cls, mix: dict[Outcome, float]) -> dict[Outcome, float]:
        if not mix or any(weight < 0 for weight in mix.values()) or sum(mix.values()) <= 0:
            raise ValueError("a mix needs weights of zero or more, and one above zero")
        return mix


class Phones(_Section):
    """A group of softphones that behave alike."""

    extensions: str = "1000-1007"  # "1000-1049, 1055"
    registered: bool = True  # at the start
    behaviour: Literal["answers", "never_answers", "rejects"] = "answers"
    ring_delay: Distribution = Fixed(value=0.0)
    answer_delay: Distribution = Fixed(value=0.3)
    reject_delay: Distribution = Fixed(value=1.0)
    leaves_after: Distribution = NEVER  # from its answer, the phone drops the leg
    ends_the_talk: Probability = Field(default=0.0, ge=0, le=1)  # the share of talks this side ends, not the customer

    @field_validator("extensions")
    @classmethod
    def _readable(cls, extensions: str) -> str:
        expand_extensions(extensions)
        return extensions


class Faults(_Section):
    """What goes wrong, as probabilities; all are none unless a real switch was seen to do it unprovoked."""

    # A bridge between a customer's CHANNEL_ANSWER and the +OK of the originate: measured on a real switch.
    bridge_at_answer_loses_customer: Probability = Field(default=27 / 1201, ge=0, le=1)
    bridge_at_answer_loses_agent: Probability = Field(default=11 / 1201, ge=0, le=1)
    bridge_never_comes: Probability = Field(default=0.0, ge=0, le=1)  # +OK, both legs live on in silence
    bridge_kills_both: Probability = Field(default=0.0, ge=0, le=1)  # +OK, both die of DESTINATION_OUT_OF_ORDER
    bridge_loses_agent: Probability = Field(default=0.0, ge=0, le=1)  # +OK, the agent leg dies, the customer lives on
    death_mid_bridge_loses_agent: Probability = Field(default=0.0, ge=0, le=1)  # 2 of 501 measured
    event_late: Probability = Field(default=0.0, ge=0, le=1)
    late_by: Distribution = Fixed(value=0.5)
    events_missing: dict[str, Probability] = {}  # by event name
    answer_after_hangup: Probability = Field(default=0.0, ge=0, le=1)  # CHANNEL_ANSWER comes again after the hang-up
    originate_fails_silently: Probability = Field(default=0.0, ge=0, le=1)  # a job result and no channel event at all
    bgapi_refused: Probability = Field(default=0.0, ge=0, le=1)  # -ERR with no Job-UUID
    reply_slow: Probability = Field(default=0.0, ge=0, le=1)
    slow_by: Distribution = Fixed(value=0.5)
    connection_stalls_after: Distribution = NEVER  # goes silent, half open
    connection_resets_after: Distribution = NEVER  # is cut in the middle of a frame


class Scenario(_Section):
    """Everything a simulated switch is to be."""

    password: str = "ClueCon"  # noqa: S105 - what every FreeSWITCH comes with
    domain: str = "127.0.0.1"
    heartbeat_seconds: float = Field(default=20.0, gt=0)
    frame_ms: float = Field(default=20.0, ge=0)  # the media clock most things wait for
    delivery_ms: float = Field(
        default=0.0, ge=0
    )  # events leave in batches this far apart; a real switch polls each 20
    realistic_headers: bool = True  # events of 4-9 KB like the real ones; without, only what a dialer reads
    padding_bytes: int = Field(default=0, ge=0)  # on top of that, in one more channel variable
    event_queue_limit: int = Field(default=100_000, gt=0)  # as in mod_event_socket
    lost_events_limit: int = Field(default=500, gt=0)  # this many lost in a row, and the connection is ended
    max_sessions: int = Field(default=5000, gt=0)
    sound_seconds: float = Field(default=3.0, gt=0)  # how long a sound file plays
    tells_machines: bool = False  # whether there is the application `amd`, which no FreeSWITCH comes with
    missing_sounds: frozenset[str] = frozenset()  # files that are not there
    broken_sounds: frozenset[str] = frozenset()  # files that are there and cannot be played
    expiry_sweep_seconds: float = Field(default=30.0, gt=0)  # sofia looks for expired registrations this often
    phones: tuple[Phones, ...] = (Phones(),)
    gateways: dict[str, Gateway] = {"carrier_a": Gateway()}
    faults: Faults = Faults()


EXTENSIONS_LIMIT = 100_000


def expand_extensions(ranges: str) -> tuple[str, ...]:
    """The extensions that `ranges` means: "1000-1003, 1010"."""
    extensions: list[str] = []
    for part in ranges.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"{part.strip()!r} is neither an extension nor a range such as 1000-1049")
        low, high = int(first), int(last or first)
        if not low <= high < low + EXTENSIONS_LIMIT:
            raise ValueError(f"{part.strip()!r} runs backwards or is longer than {EXTENSIONS_LIMIT}")
        extensions += [str(number).zfill(len(first)) for number in range(low, high + 1)]
    return tuple(extensions)


def load_scenario(path: str | Path) -> Scenario:
    """The scenario that the TOML file at `path` describes."""
    try:
        return Scenario.model_validate(tomllib.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"The scenario {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The scenario {path} is not TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"The scenario {path} says {where} = {first['input']!r}: {first['msg']}.") from error
