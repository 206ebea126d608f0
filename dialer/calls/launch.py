"""Which story is told of a lease: that of the campaign's mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from campaigns.campaign import Campaign
from campaigns.leases import Lease
from dialer.calls.attempt import Attempt
from dialer.calls.broadcast import Broadcast
from dialer.calls.held import HeldAttempt, hold_agents
from dialer.calls.preview import Preview
from dialer.calls.screened import ScreenedAttempt
from dialer.calls.world import World


async def begin(
    leases: Sequence[Lease],
    campaign: Campaign,
    campaign_id: int,
    world: World,
    on_change: Callable[[Attempt], None],
) -> list[Attempt]:
    """The attempts of `leases`, which are on one switch, to be run by the caller.

    Whoever was abandoned the last time is called only with an agent held for them: it is not to happen twice. So is
    whoever was promised a call, with that very agent if one has promised it. None is listened to for a machine.
    """
    if campaign.mode == "preview":
        return await begin_held(leases, campaign, campaign_id, world, on_change, story=Preview)
    if campaign.mode == "broadcast":
        return [Broadcast(lease, campaign, campaign_id, world, on_change) for lease in leases]
    owed = [lease for lease in leases if lease.is_owed_an_agent]
    held = await begin_held(owed, campaign, campaign_id, world, on_change) if owed else []
    others = [lease for lease in leases if not lease.is_owed_an_agent]
    story = ScreenedAttempt if campaign.listens_for_machines else Attempt
    return [*held, *(story(lease, campaign, campaign_id, world, on_change) for lease in others)]


async def begin_held(
    leases: Sequence[Lease],
    campaign: Campaign,
    campaign_id: int,
    world: World,
    on_change: Callable[[Attempt], None],
    *,
    story: type[HeldAttempt] = HeldAttempt,
) -> list[Attempt]:
    """The attempts of `leases`, each with an idle agent held for it; also for single leads of another mode.

    A lease that no agent was left for is among them too, taken back: run, it puts the lead back in its place.
    """
    claims = await hold_agents(leases, campaign, world)
    attempts: list[Attempt] = []
    for lease in leases:
        claim = claims.get(lease.uuid)
        if claim is not None:
            attempts.append(story(lease, campaign, campaign_id, world, on_change, claim))
        else:
            unheld = Attempt(lease, campaign, campaign_id, world, on_change)
            unheld.take_back()
            attempts.append(unheld)
    return attempts
