"""Sees an agent's nailed-up leg back in park after a call, or finds it lost."""

from __future__ import annotations

from typing import Final

import structlog
import trio

from dialer.agents.roster import Claim
from dialer.calls.asking import ask, tell
from dialer.calls.live_calls import LegWatch
from dialer.calls.snapshot import exists
from dialer.errors import OutcomeUnknownError, UnavailableError
from dialer.esl.commands import Kill, Park, SetVariable
from dialer.esl.switch import Switch
from dialer.metrics import Metrics

log = structlog.get_logger()

# An agent's leg is back in park a frame after the customer's hang-up.
PARK_BACK_SECONDS: Final = 0.5
# A parked leg is back at once; `uuid_park` on one that left park silently takes a frame.
PARK_SECONDS: Final = 2.0


async def see_parked(
    claim: Claim, agent_leg: LegWatch, parks_before: int, switch: Switch, metrics: Metrics, *, talked: bool
) -> None:
    """Sees the claimed agent's leg parked once more than `parks_before` times, or says on the claim that it is lost.

    A bridge that never came leaves it outside park without a word.
    """
    if not claim.bridge_asked:
        claim.leg_lost = agent_leg.leg.ended
        return
    if claim.bridge_refused and not agent_leg.leg.ended and await _exists(agent_leg, switch):
        return  # it never left park, where `uuid_park` would bring no answer and cost the next person's patience
    if talked:  # the leg comes back by itself
        with trio.move_on_after(PARK_BACK_SECONDS):
            await agent_leg.wait_until(lambda leg: leg.parks > parks_before or leg.ended)
    if agent_leg.leg.parks == parks_before and not agent_leg.leg.ended:
        await ask(switch, Park(agent_leg.leg.uuid))
        with trio.move_on_after(PARK_SECONDS):
            await agent_leg.wait_until(lambda leg: leg.parks > parks_before or leg.ended)
    # No CHANNEL_PARK is no proof: a leg that never left park answers `uuid_park` with silence.
    if agent_leg.leg.ended or (agent_leg.leg.parks == parks_before and not await _exists(agent_leg, switch)):
        claim.leg_lost = True
        metrics.counts["agent_legs_lost"] += 1
        log.warning("agent_leg_lost", agent=claim.extension, attempt=claim.token, cause=agent_leg.leg.cause)
        if not agent_leg.leg.ended:
            tell(switch, Kill(agent_leg.leg.uuid))
        return
    # Each bridge appends to it, and every later event of this leg would carry it all.
    tell(switch, SetVariable(agent_leg.leg.uuid, "transfer_history"))


async def _exists(agent_leg: LegWatch, switch: Switch) -> bool:
    try:
        return await exists(switch, agent_leg.leg.uuid)
    except (UnavailableError, OutcomeUnknownError):
        return False
