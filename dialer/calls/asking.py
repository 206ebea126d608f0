"""Commands whose outcome shows in events, if at all: what is asked, and what is only told."""

from __future__ import annotations

import contextlib

import structlog

from dialer.errors import InputRefusedError, OutcomeUnknownError, UnavailableError
from dialer.esl.commands import Command
from dialer.esl.link import CommandRefusedError
from dialer.esl.switch import Switch

log = structlog.get_logger()


def tell(switch: Switch, command: Command) -> None:
    """Sends a command and does not wait for what becomes of it."""
    with contextlib.suppress(UnavailableError):
        switch.submit(command)


async def ask(switch: Switch, command: Command) -> bool:
    """Runs a command; False, and a word in the log, if it was refused or the switch is away."""
    try:
        await switch.run_command(command)
    except (CommandRefusedError, InputRefusedError) as error:
        log.debug("command_refused", error=str(error))  # mostly a race with a hang-up, which events tell
        return False
    except (UnavailableError, OutcomeUnknownError) as error:
        log.warning("command_unanswered", switch=switch.name, error=str(error))
        return False
    return True
