"""A call whose answer is listened to first: an agent is looked for only if it is no answering machine.

A module of the switch listens (see `originate.customer_call`); FreeSWITCH itself comes with none. Its verdict has a
deadline, since the person on the line waits meanwhile: whoever is no machine by then is a person.
"""

from __future__ import annotations

import math
from typing import Final

import attrs
import trio

from dialer.calls.attempt import Attempt, Phase
from dialer.calls.leg import AnsweredBy
from dialer.calls.live_calls import LegWatch
from dialer.calls.originate import customer_call
from dialer.calls.world import World
from dialer.errors import OutcomeUnknownError, UnavailableError
from dialer.esl.commands import Originate, ShowApplication
from dialer.esl.link import CommandRefusedError

# A switch that has just started does not list its applications for a second or two.
LOOK_AGAIN_SECONDS: Final = {True: 60.0, False: 5.0}


class ScreenedAttempt(Attempt):
    """An attempt that hangs up on machines."""

    def _command(self) -> Originate:
        gateway, world = self._gateway.settings, self._world
        pooled = self.lease.caller_id
        return customer_call(
            self.uuid,
            self.lease.number,
            gateway,
            self._campaign,
            world.calls,
            world.node,
            pooled=pooled,
            listens=True,
        )

    async def _connect(self, customer: LegWatch) -> None:
        deadline = trio.current_time() + self._campaign.connect_seconds
        self._move(Phase.LISTENING)
        with trio.move_on_after(self._campaign.machine_detection_seconds):
            await customer.wait_until(lambda leg: leg.answered_by is not None)
        verdict = customer.leg.answered_by
        self._world.metrics.counts[f"answered_by_{verdict.value if verdict else 'nobody_knows'}"] += 1
        if verdict is AnsweredBy.MACHINE:
            self._ending = attrs.evolve(self._ending, machine=True)
        else:
            await self._find_agent(customer, deadline)


async def why_deaf(switch: str, world: World) -> str:
    """Why calls on `switch` cannot be listened to; empty if they can.

    An application that the switch does not have would end each call at its answer.
    """
    name, now_seconds = world.calls.machine_detection, trio.current_time()
    hears, looked_at = world.applications.get((switch, name), (False, -math.inf))
    if now_seconds >= looked_at + LOOK_AGAIN_SECONDS[hears]:
        try:
            table = await world.switches[switch].run_command(ShowApplication(name))
        except (UnavailableError, OutcomeUnknownError, CommandRefusedError) as error:
            return f"the switch {switch!r} was asked for its application {name!r} and did not say: {error}"
        hears = any(line.startswith(f"{name},") for line in table.splitlines())
        world.applications[switch, name] = hears, now_seconds
    return "" if hears else f"the switch {switch!r} has no application {name!r}, which machine_detection needs"
