"""The dialer, in a process that kills itself with SIGKILL the n-th time its calls come to a marked point.

    python -m tests.faults.mortal POINT N run --config FILE

Nothing in the product knows of this: the marks are put around it here.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import trio

from dialer.__main__ import main
from dialer.agents.roster import Claim, Roster
from dialer.calls.attempt import Attempt, Phase
from dialer.calls.live_calls import LegWatch
from dialer.esl.commands import Bridge
from dialer.esl.switch import Switch
from dialer.records.ledger import DatabaseLedger

POINTS: Final = (
    "attempt_written",
    "originate_sent",
    "ringing",
    "answered",
    "claimed",
    "bridge_asked",
    "bridged",
    "hung_up",
    "record_written",
    "wrap_up",
)
# Between a command that was handed to the link and its bytes on the wire.
WIRE_SECONDS: Final = 0.005


class Death:
    """Comes at the n-th arrival."""

    def __init__(self, arrivals: int) -> None:
        self._left = arrivals

    def comes(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    async def comes_soon(self) -> None:
        await trio.sleep(WIRE_SECONDS)
        self.comes()


def _after(owner: Any, name: str, reached: Callable[..., bool], death: Death) -> None:
    """After each call of the coroutine method `name` whose result and arguments say so."""
    method = getattr(owner, name)

    @wraps(method)
    async def marked(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = await method(self, *args, **kwargs)
        if reached(result, *args):
            death.comes()
        return result

    setattr(owner, name, marked)


def _at_phase(wanted: Phase, death: Death) -> None:
    move = Attempt._move

    def marked(self: Attempt, phase: Phase) -> None:
        if phase is wanted and self.phase is not wanted:
            death.comes()
        move(self, phase)

    Attempt._move = marked  # type: ignore[method-assign]


def _at_ringing(death: Death) -> None:
    become = LegWatch.become

    def marked(self: LegWatch, leg: Any) -> None:
        if leg.ringing_us and not self.leg.ringing_us and not leg.answered:
            death.comes()
        become(self, leg)

    LegWatch.become = marked  # type: ignore[method-assign]


def _at_bridge_asked(death: Death) -> None:
    submit = Switch.submit

    def marked(self: Switch, command: Any, job_uuid: str | None = None) -> Any:
        ticket = submit(self, command, job_uuid)
        if isinstance(command, Bridge):
            trio.lowlevel.spawn_system_task(death.comes_soon)
        return ticket

    Switch.submit = marked  # type: ignore[method-assign]


def mark(point: str, death: Death) -> None:
    """Puts the mark `point` into the program."""
    match point:
        case "attempt_written":
            _after(DatabaseLedger, "lease", lambda leases, *_: bool(leases), death)
        case "originate_sent":
            _after(Attempt, "_place", lambda placed: bool(placed), death)
        case "ringing":
            _at_ringing(death)
        case "answered":
            _at_phase(Phase.WAITING, death)
        case "claimed":
            _at_phase(Phase.CONNECTING, death)
        case "bridge_asked":
            _at_bridge_asked(death)
        case "bridged":
            _at_phase(Phase.TALKING, death)
        case "hung_up":
            _at_phase(Phase.CLOSING, death)
        case "record_written":
            _after(DatabaseLedger, "close", lambda _result, *_: True, death)
        case "wrap_up":
            _after(Roster, "release", lambda _result, claim: isinstance(claim, Claim), death)
        case _:
            raise SystemExit(f"there is no point {point!r}; there is {', '.join(POINTS)}")


if __name__ == "__main__":
    mark(sys.argv[1], Death(int(sys.argv[2])))
    del sys.argv[1:3]
    main()
