"""The calls of each phone, whoever made them, folded from the switch's events. Pure.

The value for one extension is what other tools read from Redis:
`{"username", "current", "notify": "answer|callin|callout|hangup", "activity": [uuid…], "<uuid>": {…}}`, times in
microseconds.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection
from typing import Any, Final

import attrs

from dialer.calls.snapshot import Row
from dialer.esl.messages import Event

# A look at the switch is older than the events that came while it was taken; what ended by them must stay ended.
# Three endings a call, hundreds of calls a second: some ten seconds of them.
_ENDINGS_REMEMBERED: Final = 10_000
# The list lags behind the events by some 100 ms: one that began so shortly before the look may be missing, too.
_LIST_LAG_US: Final = 2_000_000
_ENDINGS: Final = frozenset({"CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY"})


@attrs.frozen
class PhoneCall:
    """One channel of a phone. `ours` is a leg this dialer rang."""

    uuid: str
    direction: str
    caller_id_number: str
    destination_number: str
    created_us: int
    answered_us: int = 0
    ours: bool = False
    seen_us: int = 0  # by the event that told of it first

    def as_json(self) -> dict[str, Any]:
        return {
            "Unique-ID": self.uuid,
            "Call-Direction": self.direction,
            "Caller-Caller-ID-Number": self.caller_id_number,
            "Caller-Destination-Number": self.destination_number,
            "Caller-Channel-Created-Time": self.created_us,
            "Caller-Channel-Answered-Time": self.answered_us,
        }


@attrs.frozen
class PhoneChange:
    """What an event did to one phone: the value to publish, and how many calls are not ours."""

    extension: str
    value: dict[str, Any]
    other_calls: int


def extension_of(event: Event) -> str:
    """The extension whose phone the event's channel goes to or comes from; empty if it is no phone's."""
    if event.dialer_agent:
        return event.dialer_agent
    if event.presence_id:
        return event.presence_id.partition("@")[0]
    return event.header("Caller-Username") if event.direction == "inbound" else ""


def _microseconds(text: str) -> int:
    """0 for what is no number: a call is worth more than the time it began."""
    return int(text) if re.fullmatch(r"[0-9]{1,17}", text) else 0


def _extension_of_row(row: Row, phones: Collection[str]) -> str:
    if row.presence_id or row.direction != "inbound":
        return row.presence_id.partition("@")[0]
    # A call from a phone has no presence id and the list no user name; its channel is named sofia/PROFILE/USER@HOST.
    caller = row.name.rpartition("/")[2].partition("@")[0]
    return caller if caller in phones else ""


class PhoneCalls:
    """The calls of all phones."""

    def __init__(self) -> None:
        self._calls: dict[str, dict[str, PhoneCall]] = {}
        self._extension_of: dict[str, str] = {}
        self._ended_lately: deque[str] = deque(maxlen=_ENDINGS_REMEMBERED)
        self._begun: dict[str, PhoneCall] = {}  # lately, or since a look began: its list may lack them
        self._looking = False
        self._newest_us = 0  # of the events

    def __repr__(self) -> str:
        return f"<PhoneCalls {len(self._extension_of)} calls on {len(self._calls)} phones>"

    def fold(self, event: Event) -> PhoneChange | None:
        """Takes `event` in; None if it changes no phone's calls."""
        self._newest_us = max(self._newest_us, event.timestamp_us)
        if event.name in _ENDINGS:
            self._ended_lately.append(event.unique_id)
            return self._ended(event.unique_id)
        if event.name not in ("CHANNEL_CREATE", "CHANNEL_PROGRESS", "CHANNEL_PROGRESS_MEDIA", "CHANNEL_ANSWER"):
            return None
        extension = extension_of(event)
        if not extension:
            return None
        calls = self._calls.setdefault(extension, {})
        known = calls.get(event.unique_id)
        answered = event.name == "CHANNEL_ANSWER"
        if known is not None and not answered:
            return None
        call = known or PhoneCall(
            uuid=event.unique_id,
            direction=event.direction,
            caller_id_number=event.header("Caller-Caller-ID-Number"),
            destination_number=event.header("Caller-Destination-Number"),
            created_us=_microseconds(event.header("Caller-Channel-Created-Time")) or event.timestamp_us,
            ours=bool(event.dialer_agent),
            seen_us=event.timestamp_us,
        )
        if answered:
            call = attrs.evolve(
                call,
                answered_us=event.answered_us or event.timestamp_us,
                ours=call.ours or bool(event.dialer_agent),
            )
        calls[event.unique_id] = call
        if known is None or event.unique_id in self._begun:
            self._begun[event.unique_id] = call
            if not self._looking:
                self._forget_begun()
        self._extension_of[event.unique_id] = extension
        notify = "answer" if answered else "callout" if event.direction == "inbound" else "callin"
        return self._change(extension, notify, current=event.unique_id)

    def _ended(self, uuid: str) -> PhoneChange | None:
        extension = self._extension_of.pop(uuid, None)
        if extension is None:
            return None
        self._calls[extension].pop(uuid, None)
        remaining = self._calls[extension]
        if not remaining:
            del self._calls[extension]
        return self._change(extension, "hangup", current=next(reversed(remaining), ""))

    def _change(self, extension: str, notify: str, *, current: str) -> PhoneChange:
        calls = self._calls.get(extension, {})
        value: dict[str, Any] = {
            "username": extension,
            "current": current,
            "notify": notify,
            "activity": list(calls),
            **{uuid: call.as_json() for uuid, call in calls.items()},
        }
        return PhoneChange(extension, value, sum(not call.ours for call in calls.values()))

    def other_calls(self) -> dict[str, int]:
        """How many calls that are not ours each busy phone has."""
        return {extension: sum(not call.ours for call in calls.values()) for extension, calls in self._calls.items()}

    def link_begins(self) -> None:
        """What began before is in every list by now, if it is still there."""
        self._begun.clear()

    def look_begins(self) -> None:
        """The switch is about to be asked for its channels: calls that begin from now on may not be among them."""
        self._forget_begun()
        self._looking = True

    def _forget_begun(self) -> None:
        """All but those that began too lately to be in a list for certain."""
        least_us = self._newest_us - _LIST_LAG_US
        while self._begun:  # in the order they began
            uuid, call = next(iter(self._begun.items()))
            if call.seen_us >= least_us:
                break
            del self._begun[uuid]

    def rebuild(self, rows: list[Row], ours: Collection[str], phones: Collection[str]) -> list[PhoneChange]:
        """Begins anew with the channels a switch has; `ours` are known agent legs, `phones` registered extensions."""
        known = dict(self._extension_of)
        self._calls.clear()
        self._extension_of.clear()
        ended = set(self._ended_lately)
        self._looking = False
        for uuid, call in self._begun.items():
            if uuid in known and uuid not in ended:
                self._calls.setdefault(known[uuid], {})[uuid] = call
                self._extension_of[uuid] = known[uuid]
        for row in rows:
            extension = _extension_of_row(row, phones)
            if not extension or row.uuid in ended or row.uuid in self._extension_of:
                continue
            created_us = int(row.created_epoch or 0) * 1_000_000
            self._calls.setdefault(extension, {})[row.uuid] = PhoneCall(
                uuid=row.uuid,
                direction=row.direction,
                caller_id_number=row.cid_num,
                destination_number=row.dest,
                created_us=created_us,
                answered_us=created_us if row.callstate == "ACTIVE" else 0,
                ours=row.uuid in ours,
            )
            self._extension_of[row.uuid] = extension
        return [
            self._change(extension, "answer", current=next(reversed(calls)))
            for extension, calls in self._calls.items()
        ]
