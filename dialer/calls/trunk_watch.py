"""Keeps what is known of trunks in line with what their switch says: its events, and its answers when asked."""

from __future__ import annotations

import structlog

from dialer.calls.gateway import Gateways
from dialer.calls.trunk_line import Line, line_from_answer, line_from_event
from dialer.esl.commands import GatewayStatus
from dialer.esl.link import CommandRefusedError
from dialer.esl.messages import CustomEvent, Event
from dialer.esl.switch import Switch

log = structlog.get_logger()


def notice_line(gateways: Gateways, switch: str, event: Event) -> None:
    """Takes note of an event of the switch called `switch`, if it is about one of our trunks."""
    told = line_from_event(event) if isinstance(event, CustomEvent) else None
    if told is not None:
        name, line = told
        for gateway in gateways.on_switch(switch):
            if gateway.settings.sofia_name == name:
                gateway.line_is(line)


async def ask_lines(gateways: Gateways, switch: Switch, *, doubtful: bool = False) -> None:
    """Asks `switch` for all its trunks, or for those that are `doubtful`: not known to be up.

    Raises UnavailableError or OutcomeUnknownError if it cannot be asked. One that does not know the question leaves
    its trunks unknown.
    """
    for gateway in gateways.on_switch(switch.name):
        if doubtful and gateway.line.status == "up":
            continue
        try:
            line = line_from_answer(await switch.run_command(GatewayStatus(gateway.settings.sofia_name)))
        except CommandRefusedError as error:
            log.debug("gateway_not_asked_for", gateway=gateway.name, error=str(error))
            line = Line()
        gateway.line_is(line)
