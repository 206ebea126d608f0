"""What is known of one channel, folded from its events in whatever order they come.

Any event may be missing, late or doubled: a call ends at the first sign of its end, and nothing revives it. All times
are the switch's own, in microseconds since 1970, so that differences between them are exact.
"""

from __future__ import annotations

from enum import StrEnum

import attrs

from dialer.esl.messages import BackgroundJob, BridgeEvent, CustomEvent, EndingEvent, Event, ParkEvent
from dialer.esl.subscription import ANSWERED_BY

# What is pressed beyond this tells nobody anything.
MAX_KEYS = 32
KEYS = frozenset("0123456789*#ABCD")


class HungUpBy(StrEnum):
    """Which side ended a call, as SIP saw it: the far end of this leg, or the switch on our word."""

    FAR_END = "far_end"
    SWITCH = "switch"


class AnsweredBy(StrEnum):
    """Who answered, by their voice."""

    PERSON = "person"
    MACHINE = "machine"
    UNSURE = "unsure"


# What modules that listen write into `amd_result` or `amd_status`.
_VERDICTS = {
    "HUMAN": AnsweredBy.PERSON,
    "PERSON": AnsweredBy.PERSON,
    "MACHINE": AnsweredBy.MACHINE,
}


@attrs.frozen
class Leg:
    """One channel. A time is 0 until it happened."""

    uuid: str
    created_us: int = 0
    ringing_us: int = 0
    early_media_us: int = 0
    answered_us: int = 0
    # The originate's +OK, or the first sign of what it was sent into. Before it a bridge loses the call.
    executing_us: int = 0
    bridged_us: int = 0
    ended_us: int = 0
    bridged_with: str = ""
    parked: bool = False
    parks: int = 0  # how often it came to park: a leg lost on the way to a bridge is known by this not growing
    played: bool = False  # a sound was played to it, whole or not; known when it parks, and when it ends
    answered_by: AnsweredBy | None = None  # as whatever listened to it has judged
    keys: str = ""  # pressed on its phone, in order
    terminator: str = ""  # the key that ended what was played to it, as the switch remembers it
    cause: str = ""
    sip_status: int = 0
    hung_up_by: HungUpBy | None = None
    record_path: str = ""
    complete: bool = False  # nothing more will be told of its end
    vanished: bool = False  # its end was not seen: the switch does not know it any more

    @property
    def ended(self) -> bool:
        return self.ended_us != 0

    @property
    def answered(self) -> bool:
        return self.answered_us != 0

    @property
    def bridgeable(self) -> bool:
        """Answered, executing and alive: a bridge may be asked for."""
        return self.answered and self.executing_us != 0 and not self.ended

    @property
    def bridged(self) -> bool:
        return bool(self.bridged_with) and not self.ended

    def found(self, us: int, *, bridged_with: str = "") -> Leg:
        """The leg as it is after a look at the switch at `us` found it up: answered, and parked or in a bridge."""
        if self.ended:
            return self
        return attrs.evolve(
            self,
            created_us=self.created_us or us,
            answered_us=self.answered_us or us,
            executing_us=self.executing_us or us,
            parked=not bridged_with,
            bridged_with=bridged_with,
            bridged_us=self.bridged_us or (us if bridged_with else 0),
        )

    def remembered(self, terminator: str) -> Leg:
        """The leg after the switch was asked for the key that ended the last sound; other text than a key is none."""
        return attrs.evolve(self, terminator=_key(terminator) or self.terminator)

    def gone(self, us: int) -> Leg:
        """The leg as it is after a look at the switch at `us` did not find it."""
        return self if self.ended else attrs.evolve(self, ended_us=us, parked=False, vanished=True, complete=True)

    def fold(self, event: Event) -> Leg:
        """The leg after `event`, which must be about it; itself if the event tells nothing new."""
        us = event.timestamp_us
        match event:
            case BackgroundJob():
                return self._fold_originate_result(event)
            case BridgeEvent(name="CHANNEL_BRIDGE"):
                return self._fold_bridge(event)
            case BridgeEvent():
                return self._fold_unbridge(event)
            case EndingEvent():
                return self._fold_ending(event)
            case ParkEvent():
                return self._fold_park(event)
            case CustomEvent(subclass=subclass):
                return self._fold_verdict(event) if subclass == ANSWERED_BY else self
        match event.name:
            case "CHANNEL_CREATE":
                return attrs.evolve(self, created_us=self.created_us or us)
            case "CHANNEL_PROGRESS":
                return attrs.evolve(self, ringing_us=self.ringing_us or us)
            case "CHANNEL_PROGRESS_MEDIA":
                return attrs.evolve(self, early_media_us=self.early_media_us or us)
            case "CHANNEL_ANSWER":
                return attrs.evolve(self, answered_us=self.answered_us or event.answered_us or us)
            case "DTMF":
                key = event.header("DTMF-Digit")
                return attrs.evolve(self, keys=(self.keys + key)[:MAX_KEYS]) if key in KEYS else self
            case "RECORD_STOP":
                return attrs.evolve(self, record_path=event.header("Record-File-Path") or self.record_path)
            case _:
                return self

    def _fold_originate_result(self, event: BackgroundJob) -> Leg:
        if event.job_uuid != self.uuid:
            return self
        if event.body.startswith("+OK"):
            return attrs.evolve(self, executing_us=self.executing_us or event.timestamp_us)
        # A refused originate can be all that is ever told of a call: no channel event follows.
        cause = event.body.removeprefix("-ERR").strip().split(" ")[0]
        return attrs.evolve(
            self, ended_us=self.ended_us or event.timestamp_us, cause=self.cause or cause, parked=False
        )

    def _fold_bridge(self, event: BridgeEvent) -> Leg:
        if self.uuid not in (event.bridge_a_uuid, event.bridge_b_uuid):
            return self
        other = event.bridge_b_uuid if event.bridge_a_uuid == self.uuid else event.bridge_a_uuid
        return attrs.evolve(self, bridged_with=other, parked=False, bridged_us=self.bridged_us or event.timestamp_us)

    def _fold_unbridge(self, event: BridgeEvent) -> Leg:
        # The agent's leg is parked again, and may already be in its next bridge, when the customer's UNBRIDGE comes.
        if self.bridged_with not in (event.unique_id, event.other_leg_uuid):
            return self
        return attrs.evolve(self, bridged_with="")

    def _fold_park(self, event: ParkEvent) -> Leg:
        return attrs.evolve(
            self,
            parked=not self.ended,
            parks=self.parks + 1,
            bridged_with="",
            executing_us=self.executing_us or event.timestamp_us,
            played=self.played or event.played_samples > 0,
            terminator=_key(event.terminator) or self.terminator,
        )

    def _fold_verdict(self, event: CustomEvent) -> Leg:
        if event.unique_id != self.uuid or self.answered_by is not None:
            return self
        verdict = event.header("variable_amd_result") or event.header("variable_amd_status")
        return attrs.evolve(self, answered_by=_VERDICTS.get(verdict.upper(), AnsweredBy.UNSURE))

    def _fold_ending(self, event: EndingEvent) -> Leg:
        status = event.sip_failure_status or event.sip_term_status
        hung_up_by = self.hung_up_by
        if event.sip_hangup_disposition:
            far_end = event.sip_hangup_disposition.startswith("recv_")
            hung_up_by = HungUpBy.FAR_END if far_end else HungUpBy.SWITCH
        return attrs.evolve(
            self,
            answered_us=self.answered_us or event.answered_us,  # the ANSWER itself may have been missed
            bridged_us=self.bridged_us or event.bridged_us,  # and so may the whole conversation
            ended_us=self.ended_us or event.timestamp_us,
            cause=event.hangup_cause or self.cause,
            sip_status=status or self.sip_status,
            hung_up_by=hung_up_by,
            played=self.played or event.played_samples > 0,
            terminator=_key(event.terminator) or self.terminator,
            parked=False,
            complete=self.complete or event.name != "CHANNEL_HANGUP",
        )


def _key(text: str) -> str:
    return text if text in KEYS else ""
