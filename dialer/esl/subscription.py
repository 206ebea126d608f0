"""Which events the dialer asks for: one value, applied anew after each connect."""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen
class Subscription:
    """Event names, and subclasses of CUSTOM."""

    events: tuple[str, ...]
    custom: tuple[str, ...] = ()

    def line(self) -> bytes:
        # CUSTOM and its subclasses come last: FreeSWITCH takes every word after CUSTOM for a subclass.
        words = [*self.events, *(("CUSTOM", *self.custom) if self.custom else ())]
        return f"event json {' '.join(words)}\n\n".encode("ascii")


# Sent by the switch at our order, once a module of its own has listened to who answered.
ANSWERED_BY: Final = "dialer::answered_by"
# A gateway's registration, or whether it is up, has changed.
GATEWAY_STATE: Final = "sofia::gateway_state"

# CHANNEL_CREATE is here for the calls agents make with their own phones: nothing else tells of them before they ring.
DIALER: Final = Subscription(
    events=(
        "BACKGROUND_JOB",
        "CHANNEL_CREATE",
        "CHANNEL_PROGRESS",
        "CHANNEL_PROGRESS_MEDIA",
        "CHANNEL_ANSWER",
        "CHANNEL_BRIDGE",
        "CHANNEL_UNBRIDGE",
        "CHANNEL_PARK",
        "CHANNEL_HANGUP",
        "CHANNEL_HANGUP_COMPLETE",
        "CHANNEL_DESTROY",
        "DTMF",
        "RECORD_STOP",
        "HEARTBEAT",
        "SHUTDOWN",
    ),
    custom=("sofia::register", "sofia::unregister", "sofia::expire", GATEWAY_STATE, ANSWERED_BY),
)
