"""One task for each running campaign: look, decide, take slots, lease, dial."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence, Set
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import attrs
import structlog
import trio

from campaigns.leases import Leased
from campaigns.passed_by import PassedBy
from campaigns.queues import Outlook
from campaigns.rules.callable import RuleBook
from campaigns.slots import Slot
from campaigns.trunk import Trunk
from dialer.calls import broadcast
from dialer.calls.attempt import Attempt
from dialer.calls.gateway import Gateway
from dialer.calls.launch import begin
from dialer.calls.screened import why_deaf
from dialer.calls.sounds import why_mute
from dialer.calls.trunks import Dispatcher, in_order
from dialer.calls.world import World
from dialer.campaign_pacing import CampaignPacing
from dialer.errors import OutcomeUnknownError, UnavailableError
from dialer.pacing.pacer import Decision, HeldBy, View
from dialer.records.ledger import DatabaseLedger
from dialer.shared_state import SharedState

log = structlog.get_logger()

TICK_SECONDS: Final = 0.1
# Each call changes its phase four times: what happens within a frame is one reason to decide, not ten.
BETWEEN_DECISIONS_SECONDS: Final = 0.02
# After an empty hopper the database is not asked again at every tick.
EMPTY_HOPPER_SECONDS: Final = 1.0
CAMPAIGN_LEASE_MS: Final = 10_000
# The writer has calls to write down, too.
BETWEEN_WAKES_SECONDS: Final = 0.02


class CampaignLease:
    """Which daemon runs a team's campaigns: whoever holds the lease in Redis. Others wait for it to run out.

    It is of a team, since whoever dials for agents must know all calls that may want them.
    """

    def __init__(self, state: SharedState, *, prefix: str, node: str) -> None:
        self._script = state.script(Path(__file__).with_name("campaign_lease.lua"))
        self._prefix = prefix
        self._node = node
        self._holders: defaultdict[str, set[object]] = defaultdict(set)
        self._turns: defaultdict[str, trio.Lock] = defaultdict(trio.Lock)  # what is asked last must come last

    async def hold(self, team: str, runner: object) -> bool:
        """Takes or renews the lease for `runner`; False while another daemon holds it. Raises UnavailableError."""
        async with self._turns[team]:
            held = bool(await self._script([self._key(team)], ["hold", self._node, CAMPAIGN_LEASE_MS]))
            (self._holders[team].add if held else self._holders[team].discard)(runner)
        return held

    async def give_up(self, team: str, runner: object) -> None:
        """`runner` stops: with the team's last, another daemon may go on at once. Raises UnavailableError."""
        async with self._turns[team]:
            self._holders[team].discard(runner)
            if not self._holders[team]:
                await self._script([self._key(team)], ["give_up", self._node, 0])

    def _key(self, team: str) -> str:
        return f"{self._prefix}campaign_lease:{team}"


@attrs.frozen
class _Dry:
    """Nobody was found who may be called now: until when (the loop's time) that is believed, and why it is so."""

    until: float
    held_by: HeldBy
    reason: str


class CampaignRunner:
    """Runs one campaign. `attempts` are its calls in flight, those of an earlier runner among them."""

    def __init__(
        self,
        pacing: CampaignPacing,
        world: World,
        ledger: DatabaseLedger,
        lease: CampaignLease,
        calls_nursery: trio.Nursery,
        attempts: dict[str, Attempt],
        resolved: Set[str],
        take_over: Callable[[], Awaitable[None]],
    ) -> None:
        self.pacing = pacing
        self.campaign_id = pacing.campaign_id
        self.campaign = pacing.campaign
        self._book = RuleBook(self.campaign, self.campaign_id)
        self.reason = "just started"
        self.idle_agents = 0
        self.attempts = attempts
        self._resolved = resolved  # of a former life
        self._take_over = take_over  # see PacingDesk.take_over
        self.stopping = False  # what has been leased and not sent goes back
        self._world = world
        self._ledger = ledger
        self._lease = lease
        self._calls_nursery = calls_nursery
        self._wake = trio.Event()
        self._many_asleep = trio.Event()
        self._dispatcher = Dispatcher()
        self._passed_by = PassedBy()
        self._dry: dict[str, _Dry] = {}  # by switch: the trunks of one may carry leads that those of another may not

    def __repr__(self) -> str:
        return f"<CampaignRunner {self.campaign.name} {len(self.attempts)} calls, {self.reason}>"

    def wake(self) -> None:
        """Something changed that a decision may depend on."""
        self._wake.set()

    async def run(self) -> None:
        """Dials until cancelled. Calls in flight outlive it: they run in the nursery for calls."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wake_leads)
            await self._dial()

    async def _wake_leads(self) -> None:
        """When a great many leads may be called again at once, as in the morning, all are put into their queues.

        A lease wakes some by itself; until all are awake the order of lists and priorities is not that of all.
        """
        while True:
            await self._many_asleep.wait()
            self._many_asleep = trio.Event()
            try:
                while await self._ledger.wake(self.campaign_id):  # noqa: ASYNC110 - it works, and gives way
                    await trio.sleep(BETWEEN_WAKES_SECONDS)
            except (UnavailableError, OutcomeUnknownError) as error:
                log.warning("leads_not_woken", campaign=self.campaign.name, error=str(error))

    async def _dial(self) -> None:
        renew_at = 0.0
        holding = ready = False
        try:
            while True:
                wake = self._wake = trio.Event()
                try:
                    if trio.current_time() >= renew_at:
                        holding = await self._lease.hold(self.campaign.team_name, self)
                        if holding and not ready:
                            await self._take_over()
                        ready = holding
                        renew_at = trio.current_time() + CAMPAIGN_LEASE_MS / 3000
                    if holding:
                        async with self.pacing.turn:
                            await self._decide_and_dial()
                    else:
                        self.reason = "another daemon runs this campaign"
                except (UnavailableError, OutcomeUnknownError) as error:
                    self.reason = str(error)
                    await trio.sleep(1.0)
                await trio.sleep(BETWEEN_DECISIONS_SECONDS)
                with trio.move_on_after(TICK_SECONDS):
                    await wake.wait()
        finally:
            if holding:
                with trio.move_on_after(1.0, shield=True):
                    try:
                        await self._lease.give_up(self.campaign.team_name, self)
                    except UnavailableError as error:
                        log.debug("campaign_lease_not_given_up", error=str(error))

    async def _decide_and_dial(self) -> None:
        """One decision for each switch the campaign's trunks are on: an agent can be bridged on their own only."""
        unwritten = f"results cannot be written: {self._ledger.trouble}" if self._ledger.trouble else ""
        if trouble := unwritten or self._world.clock_check.trouble:
            self.pacing.may_dial_on(())
            self.reason = trouble
            return
        trunks: dict[str, list[Gateway]] = {}
        for gateway in self._gateways():
            trunks.setdefault(gateway.settings.switch, []).append(gateway)
        self.pacing.may_dial_on({name for name in trunks if self._world.switches[name].ready})
        if not trunks:
            self.reason = f"no gateway called {', '.join(self.campaign.gateways)} is configured"
            return
        reasons = []
        self.idle_agents = 0
        for switch_name, gateways in trunks.items():
            if not self._world.switches[switch_name].ready:
                reasons.append(f"the switch {switch_name!r} is away")
                continue
            reasons.append(await self._dial_on(switch_name, gateways))
        self.reason = "; ".join(dict.fromkeys(reasons))

    async def _dial_on(self, switch: str, gateways: list[Gateway]) -> str:
        decision, lag_seconds = await self._decide(switch)
        for uuid in decision.cancel:
            self.attempts[uuid].take_back()
        dry = self._dry.get(switch)
        if not decision.calls:
            if dry is not None:  # and so it needs none of the agents that it shares
                self.pacing.hold(switch, dry.held_by)
            if decision.held_by is HeldBy.RATE:
                rate = self._world.throttle.rate
                return f"this machine begins {rate:.0f} calls/s, and is {lag_seconds * 1000:.0f} ms behind"
            return decision.reason
        able = [gateway for gateway in gateways if not gateway.rests]
        if not able:
            self.pacing.hold(switch, HeldBy.CHANNELS)
            return "; ".join(f"{gateway.name} takes no calls: {gateway.trouble}" for gateway in gateways)
        if dry is not None and trio.current_time() < dry.until:
            self.pacing.hold(switch, dry.held_by)
            return dry.reason
        in_flight = sum(attempt.lease.switch == switch for attempt in self.attempts.values())
        calls, hindrance = broadcast.allowed(self.campaign, switch, self._world, decision.calls, in_flight)
        if not calls:
            return hindrance
        unfit = await why_mute(self.campaign, switch, self._world)
        if not unfit and self.campaign.listens_for_machines:
            unfit = await why_deaf(switch, self._world)
        if unfit:
            self.pacing.hold(switch, HeldBy.CHANNELS)
            return unfit
        placed = await self._place(switch, calls, able)
        self._world.throttle.begun(placed or 0)
        if placed is None:
            self.pacing.hold(switch, HeldBy.CHANNELS)
            return "every gateway is at its limit of calls, or of calls per second"
        if placed:
            return decision.reason
        if (dry := self._dry.get(switch)) is None:
            return "nobody of those looked at so far may be called now; it looks further"
        self.pacing.hold(switch, dry.held_by)
        return dry.reason

    async def _decide(self, switch: str) -> tuple[Decision, float]:
        """What to do on `switch`, and how far this process is behind.

        Calls are counted before and after the agents, and the larger count is taken: a call that takes its agent in
        between would otherwise be missing while its agent still counts as idle, and one call too many be placed.
        """
        ringing, waiting = self.pacing.team_calls(switch)
        idle_agents = await self._world.roster.idle_count(self.campaign.team_name, switch)
        ringing_after, waiting_after = self.pacing.team_calls(switch)
        if ringing_after + waiting_after > ringing + waiting:
            ringing, waiting = ringing_after, waiting_after
        self.idle_agents += idle_agents
        now_seconds = trio.current_time()
        lag_seconds = max(self._world.metrics.lag_seconds(), self._world.roster.lag_seconds)
        limit = self.campaign.max_calls_in_flight
        view = View(
            now_seconds=now_seconds,
            idle_agents=idle_agents,
            ringing=ringing,
            waiting=waiting,
            in_flight=sum(attempt.lease.switch == switch for attempt in self.attempts.values()),
            channels_left=None if limit is None else max(0, limit - len(self.attempts) - len(self._resolved)),
            calls_left=self._world.throttle.allowance(now_seconds, lag_seconds),
            windows=self.pacing.windows(),
            trouble=self.pacing.trouble(now_seconds) or self._world.doubts.get(switch, ""),
        )
        return self.pacing.decide(switch, view), lag_seconds

    async def _place(self, switch: str, calls: int, gateways: list[Gateway]) -> int | None:
        """Places up to `calls` calls over `gateways`, on `switch`, and says how many; None if no trunk had room."""
        found = await self._dispatcher.lease(calls, gateways, self._lease_for)
        if found is None:
            return None
        if found.leases or found.more:  # the next decision looks further at once
            self._dry.pop(switch, None)
        else:
            until, outlook = trio.current_time() + EMPTY_HOPPER_SECONDS, await self._ledger.outlook(self.campaign_id)
            self._dry[switch] = _dry(outlook, self._world.clock.now(), until)
        for attempt in await begin(found.leases, self.campaign, self.campaign_id, self._world, self._moved):
            self.attempts[attempt.uuid] = attempt
            self.pacing.placed(attempt)
            self._calls_nursery.start_soon(self._run_attempt, attempt)
        return len(found.leases)

    async def _lease_for(self, slots: Sequence[Slot], in_turn: bool) -> Leased:
        idle_agents = await self._idle_agents(slots[0].switch)
        found = await self._ledger.lease(
            self._book, slots, self._trunks(), idle_agents, in_turn=in_turn, passed_by=self._passed_by
        )
        if found.asleep:
            self._many_asleep.set()
        for rule, leads in found.blocked.items():  # every lead that a rule put off counts, by rule
            self._world.metrics.counts[f"blocked_by_{rule}"] += leads
        return found

    def _trunks(self) -> dict[str, Trunk]:
        """The campaign's trunks in the order they are tried, as the hopper sees them."""
        rests = {gateway.name: gateway.rests for gateway in self._gateways()}
        order = in_order([gateway.settings for gateway in self._gateways()])
        return {one.name: attrs.evolve(one.trunk(), away=rests[one.name]) for group in order for one in group}

    def _gateways(self) -> list[Gateway]:
        """The campaign's trunks, as far as they are configured."""
        gateways = (self._world.gateways.get(name) for name in self.campaign.gateways)
        return [gateway for gateway in gateways if gateway is not None]

    async def _idle_agents(self, switch: str) -> frozenset[str] | None:
        """Who is there for those who are called only with an agent held for them; None where nobody is."""
        if self.campaign.mode in ("broadcast", "preview"):
            return None
        return await self._world.roster.idle_agents(self.campaign.team_name, switch)

    async def _run_attempt(self, attempt: Attempt) -> None:
        if self.stopping:
            attempt.take_back()
        try:
            await attempt.run()
        except Exception:
            log.exception("attempt_broke", attempt=attempt.uuid, campaign=self.campaign.name)
        finally:
            del self.attempts[attempt.uuid]
            self.pacing.over(attempt)
            self.wake()

    def _moved(self, attempt: Attempt) -> None:
        self.pacing.moved(attempt)
        self.wake()


def _dry(outlook: Outlook, now: datetime, until: float) -> _Dry:
    """What to believe of a campaign with that `outlook` for which nobody was found. Pure."""
    waits = outlook.next_due_at is not None and outlook.next_due_at > now and not outlook.queued
    return _Dry(until, HeldBy.HOURS if waits else HeldBy.LEADS, _why_no_leads(outlook, now))


def _why_no_leads(outlook: Outlook, now: datetime) -> str:
    """Why nobody was leased, for a campaign with that `outlook`. Pure."""
    due_at = outlook.next_due_at
    if outlook.queued:  # another daemon holds them, or their trunks have no room
        return "no lead may be called now over the trunks that have room"
    if due_at is None:
        return "no lead is left to call"
    if due_at <= now:  # a great many were put off
        return "no lead may be called now"
    when = f"{due_at:%H:%M}" if due_at - now < timedelta(hours=20) else f"{due_at:%Y-%m-%d %H:%M}"
    return f"no lead may be called before {when} UTC" + (f" ({outlook.waits_for})" if outlook.waits_for else "")
