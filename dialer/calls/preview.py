"""An agent is shown a lead before it is called, and accepts it, skips it, or lets the countdown decide.

While the offer stands the agent is held, and the lead is leased by an attempt that says on its row that it is only
offered. Accepting clears that before anything is sent: of whatever dies in between it is known whether the phone can
have rung. A skip is closed with a record like any attempt, but counts as none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final

import structlog
import trio

from campaigns.campaign import Campaign
from campaigns.leases import Lease
from campaigns.rules.callable import RuleBook
from dialer.agents.agent import Wants
from dialer.agents.roster import Claim
from dialer.calls.attempt import Attempt, Phase
from dialer.calls.held import HeldAttempt
from dialer.calls.leg import Leg
from dialer.calls.world import World
from dialer.errors import InputRefusedError, UnavailableError
from dialer.records.cdr import Ending

log = structlog.get_logger()

MAX_REASON_CHARACTERS: Final = 200


class Choice(Enum):
    """What became of an offer."""

    ACCEPTED = auto()
    SKIPPED = auto()
    WITHDRAWN = auto()


class Preview(HeldAttempt):
    """An attempt that begins with an offer. Its phase is OFFERED while one stands."""

    def __init__(
        self,
        lease: Lease,
        campaign: Campaign,
        campaign_id: int,
        world: World,
        on_change: Callable[[Attempt], None],
        claim: Claim,
    ) -> None:
        super().__init__(lease, campaign, campaign_id, world, on_change, claim)
        self.phase = Phase.OFFERED
        self._ends_at = trio.current_time() + campaign.preview_seconds
        self._choice: Choice | None = None
        self._reason = ""
        self._chosen = trio.Event()

    @property
    def campaign(self) -> str:
        return self._campaign.name

    @property
    def number(self) -> str:
        return self.lease.number

    @property
    def fields(self) -> Mapping[str, str]:
        """The list's own columns."""
        return self.lease.fields

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._ends_at - trio.current_time())

    @property
    def stands(self) -> bool:
        return self.phase is Phase.OFFERED and self._choice is None

    def accept(self) -> None:
        """The agent wants the call. Raises InputRefusedError if the offer does not stand any more."""
        self._check_stands()
        self._choose(Choice.ACCEPTED)

    def skip(self, reason: str = "") -> None:
        """The agent does not want it, for `reason`. Raises InputRefusedError as `accept` does, or for a long one."""
        if len(reason) > MAX_REASON_CHARACTERS or not all(one.isprintable() for one in reason):
            raise InputRefusedError(f"a reason is one line of at most {MAX_REASON_CHARACTERS} characters")
        self._check_stands()
        self._choose(Choice.SKIPPED, reason)

    def take_back(self) -> None:
        """Withdraws the offer; a call that was accepted is taken back as any other."""
        if self.stands:
            self._choose(Choice.WITHDRAWN)
        else:
            super().take_back()

    def _check_stands(self) -> None:
        if not self.stands:
            raise InputRefusedError(f"the offer of {self.number} to {self.extension} does not stand any more")

    def _choose(self, choice: Choice, reason: str = "") -> None:
        self._choice, self._reason = choice, reason
        self._move(Phase.CLOSING if choice is Choice.SKIPPED else Phase.DIALING)
        self.started_at = trio.current_time()
        self._chosen.set()

    async def _call(self) -> None:
        log.info("lead_offered", agent=self.extension, attempt=self.uuid, campaign=self.campaign)
        with trio.move_on_at(self._ends_at):
            await self._chosen.wait()
        if self._choice is None:
            if self._campaign.preview_timeout == "skip":
                self._choose(Choice.SKIPPED, f"undecided after {self._campaign.preview_seconds:g} s")
                await self._pause_agent()
            else:
                self._choose(Choice.ACCEPTED)
        if self._choice is Choice.SKIPPED:
            await self._close_skipped()
            return
        if self._choice is Choice.WITHDRAWN:
            super().take_back()  # it is returned unsent
        elif not await self._world.ledger.send(self.lease, RuleBook(self._campaign, self._campaign_id)):
            log.warning("offer_must_not_be_called", attempt=self.uuid)  # on a do-not-call list by now, or closed
            await self._world.ledger.return_unsent(self.lease)
            await self._gateway.put_back(self.uuid)
            return
        await super()._call()

    async def _pause_agent(self) -> None:
        """Who looks at no lead is away, and would skip the whole list."""
        log.warning("agent_paused_offer_undecided", agent=self.extension, attempt=self.uuid)
        with contextlib.suppress(UnavailableError):
            await self._world.roster.change(self.extension, wants=Wants.PAUSE)

    async def _close_skipped(self) -> None:
        self._ending = Ending(skipped=True, agent=self.extension, note=self._reason)
        await self._write_down(Leg(self.uuid))
        await self._gateway.put_back(self.uuid)
