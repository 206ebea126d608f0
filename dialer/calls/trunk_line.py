"""Whether a trunk is up, as its switch says: read from its events and its answers. Pure.

FreeSWITCH keeps two words for a gateway: the state of its registration (REGED, FAIL_WAIT, or NOREG for one that does
not register), and whether it is UP or DOWN, which follows from the registration and from OPTIONS pings. Only the
second decides whether calls go out (mod_sofia.c, `sofia_outgoing_channel`); the first says why.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import attrs

from dialer.esl.messages import CustomEvent
from dialer.esl.subscription import GATEWAY_STATE

_INVALID: Final = "Invalid Gateway!"
# Without Ping-Status, as older switches send the event.
_DOWN_BY_REGISTRATION: Final = frozenset({"FAILED", "FAIL_WAIT", "DOWN", "EXPIRED", "TIMEOUT", "UNREGISTER"})


@attrs.frozen
class Line:
    """What a switch says of one of its gateways; `registration` is in its own words."""

    status: Literal["up", "down", "missing", "unknown"] = "unknown"
    registration: str = ""

    @property
    def carries(self) -> bool:
        """Whether calls may be tried. A switch that has not answered may have it up."""
        return self.status in ("up", "unknown")

    def told(self, gateway: str) -> str:
        """What is wrong, for a person; empty when it is up. `gateway` is what the switch calls it."""
        match self.status:
            case "up":
                return ""
            case "down":
                return f"the switch says that {gateway} is down" + (
                    f" ({self.registration})" if self.registration not in ("", "DOWN") else ""
                )
            case "missing":
                return f"the switch has no gateway {gateway}"
            case "unknown":
                return f"the switch has not said whether {gateway} is up"


def line_from_answer(text: str) -> Line:
    """What `sofia xmlstatus gateway` answered; unknown for anything that is no such answer."""
    if text.strip() == _INVALID:
        return Line("missing")
    return _line(_tag("status", text), _tag("state", text))


def line_from_event(event: CustomEvent) -> tuple[str, Line] | None:
    """Which gateway an event is about, as the switch calls it, and what it says; None for other events."""
    if event.subclass != GATEWAY_STATE:
        return None
    headers = event.all_headers()
    gateway, registration = str(headers.get("Gateway", "")), str(headers.get("State", ""))
    status = str(headers.get("Ping-Status", "")) or ("DOWN" if registration in _DOWN_BY_REGISTRATION else "UP")
    return gateway, _line(status, registration)


def _line(status: str, registration: str) -> Line:
    known: dict[str, Literal["up", "down"]] = {"UP": "up", "DOWN": "down"}
    return Line(known.get(status, "unknown"), registration)


def _tag(name: str, text: str) -> str:
    found = re.search(rf"<{name}>([A-Z_]+)</{name}>", text)
    return found[1] if found else ""
