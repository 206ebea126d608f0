"""Starts and stops a runner for each campaign, as the database says the operator wants it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Final

import attrs
import structlog
import trio

from campaigns import store
from campaigns.campaign import Campaign, CampaignStatus
from campaigns.database import Database
from campaigns.outcomes import counts as said_counts
from campaigns.store import CampaignSummary
from campaigns.tables import CampaignRow
from dialer.calls.attempt import Attempt, Phase
from dialer.calls.world import World
from dialer.campaign_pacing import CampaignPacing
from dialer.campaign_runner import CampaignLease, CampaignRunner
from dialer.errors import OutcomeUnknownError, UnavailableError
from dialer.pacing_desk import PacingDesk
from dialer.records.ledger import DatabaseLedger

log = structlog.get_logger()

# The door tells of changes at once; this is for those made while it was not heard.
LOOK_AGAIN_SECONDS: Final = 2.0


@attrs.frozen(eq=False)
class _Running:
    runner: CampaignRunner
    scope: trio.CancelScope


class CampaignDesk:
    """The running campaigns of this daemon."""

    def __init__(
        self,
        database: Database,
        world: World,
        ledger: DatabaseLedger,
        lease: CampaignLease,
        pacing: PacingDesk,
    ) -> None:
        self._database = database
        self._world = world
        self._ledger = ledger
        self._lease = lease
        self._pacing = pacing
        self._rows: dict[str, CampaignRow] = {}
        self._definitions: dict[str, Campaign] = {}
        self._running: dict[str, _Running] = {}
        # By campaign, and not by runner: a new definition must see the calls that the old one placed.
        self._attempts: defaultdict[int, dict[str, Attempt]] = defaultdict(dict)
        self._resolved: defaultdict[int, set[str]] = defaultdict(set)  # attempts of a former life, by campaign
        self._wake = trio.Event()
        self._halted = False  # all dialing was ended, and the database does not know yet
        self._halts = 0

    def __repr__(self) -> str:
        return f"<CampaignDesk running {sorted(self._running)}>"

    def wake(self) -> None:
        """Something in the database may have changed."""
        self._wake.set()

    def wake_runners(self) -> None:
        """An agent may have become idle."""
        for running in self._running.values():
            running.runner.wake()

    def named(self, name: str) -> Campaign | None:
        """The definition of a campaign as last read; None if there was none of that name."""
        return self._definitions.get(name)

    def of_team(self, name: str) -> Campaign | None:
        """A campaign whose calls the team `name` takes: the one of that name, or of the highest priority."""
        mine = [one for one in self._definitions.values() if one.team_name == name]
        return max(mine, key=lambda one: (one.name == name, one.priority, one.name), default=None)

    def by_id(self, campaign_id: int) -> Campaign | None:
        return next((self._definitions[row.name] for row in self._rows.values() if row.id == campaign_id), None)

    async def definition(self, name: str) -> Campaign:
        """The definition of the campaign `name`, read anew. Raises InputRefusedError if there is none."""
        await self.refresh()
        if name not in self._definitions:
            await self._database.read(lambda session: store.get_campaign(session, name))  # says which there are
        return self._definitions[name]

    async def stop_all(self) -> str:
        """Stops every campaign at once; gives why that is not in the database yet, or nothing.

        Until it is, no campaign is started here.
        """
        self._halted = True
        self._halts += 1
        for name in list(self._running):
            self._stop(name)
        for attempt in self.attempts():
            attempt.take_back()
        log.warning("all_dialing_stopped", calls_in_flight=self.calls_in_flight())
        return await self._write_halt()

    async def _write_halt(self) -> str:
        now = self._world.clock.now()
        try:
            await self._database.write(lambda session: store.stop_all_campaigns(session, now))
        except (UnavailableError, OutcomeUnknownError) as error:
            return str(error)
        self._halted = False
        return ""

    def attempts(self) -> list[Attempt]:
        """Every call in flight, of stopped campaigns too."""
        return [attempt for attempts in self._attempts.values() for attempt in attempts.values()]

    def tells(self, campaign_id: int, uuid: str) -> bool:
        """Whether the story of this attempt is being told, its offer to an agent among it."""
        return uuid in self._attempts[campaign_id]

    def calls_in_flight(self) -> int:
        return sum(map(len, (*self._attempts.values(), *self._resolved.values())))

    @contextmanager
    def resolving(self, campaign_id: int, uuid: str) -> Iterator[None]:
        """An attempt that a former life left open is brought to its end in the block: it is one of the calls."""
        self._resolved[campaign_id].add(uuid)
        try:
            yield
        finally:
            self._resolved[campaign_id].discard(uuid)

    async def refresh(self) -> None:
        """Reads every campaign anew. Raises UnavailableError."""
        rows = await self._database.read(store.campaign_rows)
        self._rows = {row.name: row for row in rows}
        definitions: dict[str, Campaign] = {}
        for row in rows:
            try:
                definitions[row.name] = store.definition_of(row)
            except ValueError as error:  # written by another version: one campaign less, and no daemon less
                log.error("campaign_unreadable", campaign=row.name, error=str(error))
                if row.name in self._definitions:
                    definitions[row.name] = self._definitions[row.name]
        self._definitions = definitions
        self._rows = {name: row for name, row in self._rows.items() if name in definitions}

    async def run(self, calls_nursery: trio.Nursery) -> None:
        """Keeps a runner for each campaign that is to run, until cancelled; then no runner is left.

        Calls live in `calls_nursery` and outlive their runner.
        """
        async with trio.open_nursery() as runners:
            try:
                while True:
                    wake = self._wake = trio.Event()
                    if self._halted:
                        await self._write_halt()
                    halts = self._halts
                    try:
                        await self.refresh()
                        pacings = await self._pacings()
                    except (UnavailableError, OutcomeUnknownError) as error:
                        log.warning("campaigns_not_read", error=str(error))
                    else:
                        if halts == self._halts and not self._halted:  # or what was read is of a time before
                            self._start_and_stop(runners, calls_nursery, pacings)
                    with trio.move_on_after(LOOK_AGAIN_SECONDS):
                        await wake.wait()
            finally:
                for name in list(self._running):
                    self._stop(name)

    async def _pacings(self) -> dict[str, CampaignPacing]:
        """What is known of each campaign that is to run, by its name, in line with its definition."""
        return {
            name: await self._pacing.of(row.id, self._definitions[name])
            for name, row in self._rows.items()
            if row.status is CampaignStatus.RUNNING and row.id is not None
        }

    def _start_and_stop(
        self, runners: trio.Nursery, calls_nursery: trio.Nursery, pacings: Mapping[str, CampaignPacing]
    ) -> None:
        for name, running in list(self._running.items()):
            row = self._rows.get(name)
            if row is None or row.status is not CampaignStatus.RUNNING:
                self._stop(name)
            elif self._definitions[name] != running.runner.campaign:
                log.info("campaign_redefined", campaign=name)
                self._stop(name)
        for name, row in self._rows.items():
            if row.status is not CampaignStatus.RUNNING and row.id is not None:
                for attempt in list(self._attempts[row.id].values()):
                    if row.status is CampaignStatus.STOPPED or attempt.phase is Phase.OFFERED:
                        attempt.take_back()
            if row.status is CampaignStatus.RUNNING and name in pacings and name not in self._running:
                pacing = pacings[name]
                runner = CampaignRunner(
                    pacing,
                    self._world,
                    self._ledger,
                    self._lease,
                    calls_nursery,
                    self._attempts[pacing.campaign_id],
                    self._resolved[pacing.campaign_id],
                    partial(self._pacing.take_over, pacing),
                )
                pacing.running = True
                scope = trio.CancelScope()
                self._running[name] = _Running(runner, scope)
                log.info("campaign_started", campaign=name)
                runners.start_soon(self._run, runner, scope)

    async def _run(self, runner: CampaignRunner, scope: trio.CancelScope) -> None:
        with scope:
            await runner.run()

    def _stop(self, name: str) -> None:
        running = self._running.pop(name)
        running.runner.stopping = True
        running.runner.pacing.running = False
        running.scope.cancel()
        log.info("campaign_stopped", campaign=name, calls_in_flight=len(running.runner.attempts))

    def _count_phases(self, campaign_id: int) -> dict[str, int]:
        counts = {phase.name.lower(): 0 for phase in Phase}
        for attempt in self._attempts[campaign_id].values():
            counts[attempt.phase.name.lower()] += 1
        for uuid in self._resolved[campaign_id]:
            leg = self._world.live_calls.leg(uuid)
            counts[(Phase.TALKING if leg is not None and leg.bridged else Phase.CLOSING).name.lower()] += 1
        return counts

    async def report(self, summary: CampaignSummary) -> dict[str, Any]:
        """A campaign as status shows it; outcomes are those of the last 24 hours."""
        row = summary.row
        assert row.id is not None
        campaign_id = row.id
        since = self._world.clock.now() - timedelta(hours=24)
        outcomes = await self._database.read(lambda session: store.disposition_counts(session, campaign_id, since))
        said = await self._database.read(lambda session: said_counts(session, campaign_id, since))
        return {
            **self._report(row.name, row.status, campaign_id),
            "leads": {status.value: count for status, count in summary.leads.items()},
            "outcomes_24h": {disposition.value: count for disposition, count in outcomes.items()},
            "said_24h": dict(said),
        }

    def reports_of_running(self) -> list[dict[str, Any]]:
        """Those campaigns that run, as status shows them, but for what only the database knows."""
        return [
            {
                **self._report(name, CampaignStatus.RUNNING, running.runner.pacing.campaign_id),
                "leads": {},
                "outcomes_24h": {},
                "said_24h": {},
            }
            for name, running in sorted(self._running.items())
        ]

    def _report(self, name: str, status: CampaignStatus, campaign_id: int) -> dict[str, Any]:
        running, pacing = self._running.get(name), self._pacing.known(campaign_id)
        return {
            "name": name,
            "status": status.value,
            "mode": self._definitions[name].mode if name in self._definitions else "",
            "why": running.runner.reason if running else f"it is {status.value}",
            "idle_agents": running.runner.idle_agents if running else 0,
            "pacing": pacing.report() if pacing is not None else None,
            "calls": self._count_phases(campaign_id),
        }
