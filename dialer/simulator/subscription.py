"""Which events a connection wants: names, CUSTOM subclasses, filters.

As in mod_event_socket: names that nobody knows are ignored, everything after CUSTOM is a subclass, and as soon as
there is one filter, an event passes only if a header of it matches one; so an event without that header is never
sent.
"""

from __future__ import annotations

import re

from dialer.simulator.wire import Event

# All names a real switch knows that a client might ask for; others are no keywords.
_NAMES = """
    CUSTOM CLONE CHANNEL_CREATE CHANNEL_DESTROY CHANNEL_STATE CHANNEL_CALLSTATE CHANNEL_ANSWER CHANNEL_HANGUP
    CHANNEL_HANGUP_COMPLETE CHANNEL_EXECUTE CHANNEL_EXECUTE_COMPLETE CHANNEL_HOLD CHANNEL_UNHOLD CHANNEL_BRIDGE
    CHANNEL_UNBRIDGE CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA CHANNEL_OUTGOING CHANNEL_PARK CHANNEL_UNPARK
    CHANNEL_APPLICATION CHANNEL_ORIGINATE CHANNEL_UUID API LOG INBOUND_CHAN OUTBOUND_CHAN STARTUP SHUTDOWN
    PUBLISH UNPUBLISH TALK NOTALK SESSION_CRASH MODULE_LOAD MODULE_UNLOAD DTMF MESSAGE PRESENCE_IN NOTIFY_IN
    PRESENCE_OUT PRESENCE_PROBE MESSAGE_WAITING MESSAGE_QUERY ROSTER CODEC BACKGROUND_JOB DETECTED_SPEECH
    DETECTED_TONE PRIVATE_COMMAND HEARTBEAT TRAP ADD_SCHEDULE DEL_SCHEDULE EXE_SCHEDULE RE_SCHEDULE RELOADXML
    NOTIFY PHONE_FEATURE SEND_MESSAGE RECV_MESSAGE REQUEST_PARAMS CHANNEL_DATA GENERAL COMMAND SESSION_HEARTBEAT
    CLIENT_DISCONNECTED SERVER_DISCONNECTED SEND_INFO RECV_INFO RECV_RTCP_MESSAGE CALL_SECURE NAT RECORD_START
    RECORD_STOP PLAYBACK_START PLAYBACK_STOP CALL_UPDATE FAILURE SOCKET_DATA MEDIA_BUG_START MEDIA_BUG_STOP ALL
"""
KNOWN = frozenset(_NAMES.split())


class Subscription:
    """Built by commands, asked for each event."""

    def __init__(self) -> None:
        self.format = "plain"
        self.on = False
        self.names: set[str] = set()
        self.subclasses: set[str] = set()
        self.filters: list[tuple[str, str]] = []

    def add(self, words: list[str]) -> bool:
        """`event [plain|json] NAME…`; False when no keyword was any."""
        keys = 0
        custom = False
        for index, word in enumerate(words):
            if index == 0 and word.lower() in {"plain", "json", "xml"}:
                self.format = "json" if word.lower() == "json" else "plain"
            elif custom:
                self.subclasses.add(word)
                keys += 1
            elif word.upper() in KNOWN:
                self.names.add(word.upper())
                custom = word.upper() == "CUSTOM"
                keys += 1
        self.on = self.on or keys > 0
        return keys > 0

    def remove(self, words: list[str]) -> bool:
        """`nixevent NAME…`."""
        keys = 0
        custom = False
        for word in words:
            if custom:
                self.subclasses.discard(word)
                keys += 1
            elif word.upper() == "CUSTOM":
                custom = True
                keys += 1
            elif word.upper() in KNOWN:
                self.names.discard(word.upper())
                keys += 1
        return keys > 0

    def clear(self) -> bool:
        """`noevents`; False when there were none."""
        was, self.on = self.on, False
        self.names.clear()
        self.subclasses.clear()
        return was

    def wants(self, event: Event) -> bool:
        if not self.on:
            return False
        if "ALL" not in self.names:
            if event.name not in self.names:
                return False
            if event.name == "CUSTOM" and event.subclass not in self.subclasses:
                return False
        return not self.filters or self._passes(event)

    def _passes(self, event: Event) -> bool:
        passes = False
        for header, pattern in self.filters:
            value = event.header(header)
            if value is None:
                continue
            wanted = pattern.lstrip("+- ")
            positive = "-" not in pattern[: len(pattern) - len(wanted)]
            if passes and positive:
                continue
            if _matches(value, wanted):
                if not positive:
                    return False
                passes = True
        return passes


def _matches(value: str, wanted: str) -> bool:
    if len(wanted) > 1 and wanted.startswith("/") and wanted.endswith("/"):
        return re.search(wanted[1:-1], value) is not None
    return value.lower() == wanted.lower()
