"""What the pacers of one campaign know, fed by what its calls do.

Runners come and go with each change of a campaign; what was learned stays. What is stored of it: see `pacing_desk`.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Collection, Sequence
from typing import Any, Final

import phonenumbers
import trio

from campaigns import abandonment_counts
from campaigns.campaign import Campaign, zone_info
from campaigns.database import Database
from campaigns.leases import Lease
from dialer.calls.attempt import UNDECIDED, Attempt, Phase
from dialer.clock import Clock
from dialer.pacing.answer_model import AnswerModel, LeadTraits
from dialer.pacing.broadcast import Broadcast
from dialer.pacing.budget import Budget
from dialer.pacing.demand import Demand, tables_for
from dialer.pacing.occupancy import Occupancy, percent_of
from dialer.pacing.pacer import Answered, Decision, HeldBy, Pacer, Progressive, View
from dialer.pacing.predictive import Predictive
from dialer.pacing.preview import Preview
from dialer.pacing.purse import Purse, UnderWay
from dialer.pacing.ratio import Ratio
from dialer.pacing.state import PacingState
from dialer.pacing.supply import Supply, SupplyState

# From an agent's being held to CHANNEL_BRIDGE, at the 95th percentile: what is left of patience is less by it.
BRIDGE_SECONDS: Final = 0.07
# Trunks that turn calls away, and not a few.
FAILURES_WATCHED_SECONDS: Final = 60.0
FAILURES_JUDGED: Final = 20
_MAY_WANT_AN_AGENT: Final = UNDECIDED | {Phase.WAITING}
# These keep a campaign from using agents that others of its team might use.
_WANTS_NO_AGENTS: Final = frozenset({HeldBy.LEADS, HeldBy.HOURS, HeldBy.CHANNELS})


class Team:
    """The agents that some campaigns share: one supply for each switch.

    Whoever decides and dials for them does so in `turn`: until its calls are placed, nobody else sees them.
    """

    def __init__(self) -> None:
        self.campaigns: dict[int, CampaignPacing] = {}
        # Campaigns that have gone to another team, and their calls that were placed for agents of this one.
        self._left: dict[int, tuple[CampaignPacing, frozenset[str]]] = {}
        self.supplies: dict[str, Supply] = {}
        self.occupancy: defaultdict[str, Occupancy] = defaultdict(Occupancy)
        self.learned: SupplyState | None = None  # by a former life
        self.turn = trio.Lock()

    def leave(self, campaign_id: int) -> None:
        """The campaign has gone to another team; its calls that are out by now still want agents of this one."""
        pacing = self.campaigns.pop(campaign_id, None)
        if pacing is not None:
            self._left[campaign_id] = pacing, pacing.open_calls()

    def calling(self) -> list[CampaignPacing]:
        """The campaigns whose calls may want these agents."""
        self._left = {
            campaign_id: (pacing, calls)
            for campaign_id, (pacing, calls) in self._left.items()
            if campaign_id not in self.campaigns and not calls.isdisjoint(pacing.open_calls())
        }
        return [*self.campaigns.values(), *(pacing for pacing, _ in self._left.values())]

    def supply(self, switch: str) -> Supply:
        """The agents on `switch`."""
        if switch not in self.supplies:
            self.supplies[switch] = Supply()
            if self.learned is not None:
                self.supplies[switch].restore(self.learned)
        return self.supplies[switch]


class CampaignPacing:
    """What is known of one campaign."""

    def __init__(self, campaign_id: int, campaign: Campaign, team: Team, purse: Purse, clock: Clock) -> None:
        self.campaign_id = campaign_id
        self.campaign = campaign
        self.running = False
        self.dialed = False  # since it was stored last
        self._held_by: dict[str, HeldBy] | None = None  # by switch, where it may place calls; None: not known yet
        self._purse = purse
        self.model = AnswerModel()
        # Live answers and abandoned calls on record: of the campaign and of its group, of a day and of a month.
        self.on_record: tuple[Answered, ...] = (Answered(),)
        self._team = team
        self._clock = clock
        self._demands: dict[str, Demand] = {}
        self._pacers: dict[str, Pacer] = {}
        self._phases: dict[str, Phase] = {}
        self._traits: dict[str, LeadTraits] = {}
        self._under_way = UnderWay()
        # Both together, once somebody has asked; and what was under way then, here and in the group.
        self._windows: tuple[tuple[Answered, ...], Answered, Answered] | None = None
        self._over: set[str] = set()
        self._counted: set[str] = set()
        self._counting = trio.Lock()
        # When calls were answered or ended of late, and whether a trunk failed them; and how many of them did.
        self._outcomes: deque[tuple[float, bool]] = deque()
        self._failed_by_trunk = 0

    def __repr__(self) -> str:
        return f"<CampaignPacing {self.campaign.name} {self.campaign.mode} {self.budget!r}>"

    @property
    def budget(self) -> Budget:
        """What may still be abandoned, and so what may be risked."""
        return self._purse.budget

    def redefine(self, campaign: Campaign, team: Team, purse: Purse) -> None:
        """The definition has changed; what was learned stays."""
        if campaign == self.campaign and team is self._team:
            return
        if campaign.ring_seconds != self.campaign.ring_seconds:
            tables = tables_for(campaign.ring_seconds)
            tables.restore(self._any_demand().tables.state())
            for demand in self._demands.values():  # calls that ring now go on ringing
                demand.learn_into(tables)
        if purse is not self._purse:
            for uuid in self._phases.keys() | self._over:
                answered = self._purse.under_way.forget(uuid)
                if answered is not None:
                    purse.under_way.note(uuid, answered)
        self.campaign, self._team, self._purse = campaign, team, purse
        self._pacers = {}

    def demand(self, switch: str) -> Demand:
        """The campaign's calls on `switch`. All switches learn together."""
        if switch not in self._demands:
            first = next(iter(self._demands.values()), None)
            self._demands[switch] = Demand(first.tables if first else tables_for(self.campaign.ring_seconds))
        return self._demands[switch]

    def _any_demand(self) -> Demand:
        return next(iter(self._demands.values()), None) or self.demand("")

    # What the runner asks.

    @property
    def turn(self) -> trio.Lock:
        """To be held from a decision until its calls are placed."""
        return self._team.turn

    def team_calls(self, switch: str) -> tuple[int, int]:
        """Calls on `switch` that ring, and that wait, of all campaigns that share the agents."""
        demands = [pacing.demand(switch) for pacing in self._team.calling()]
        return sum(one.ringing for one in demands), sum(one.waiting for one in demands)

    def windows(self) -> tuple[Answered, ...]:
        """Live answers and abandoned calls in each window that counts, those under way among them."""
        own, group = self._under_way.total, self._purse.under_way.total
        if self._windows is None or self._windows[1] is not own or self._windows[2] is not group:
            added = own, own, group, group
            windows = tuple(one + more for one, more in zip(self.on_record, added, strict=False))
            self._windows = windows, own, group
        return self._windows[0]

    def _count_before_record(self, uuid: str, answered: Answered) -> None:
        self._under_way.note(uuid, answered)
        self._purse.under_way.note(uuid, answered)

    def trouble(self, now_seconds: float) -> str:
        """Why nothing may be risked now; empty when all is well."""
        outcomes = self._outcomes
        while outcomes and outcomes[0][0] < now_seconds - FAILURES_WATCHED_SECONDS:
            self._failed_by_trunk -= outcomes.popleft()[1]
        if len(outcomes) >= FAILURES_JUDGED and 2 * self._failed_by_trunk > len(outcomes):
            return f"trunks would not carry {self._failed_by_trunk} of the last {len(outcomes)} calls"
        return ""

    def _note_outcome(self, now_seconds: float, *, failed_by_trunk: bool) -> None:
        self._outcomes.append((now_seconds, failed_by_trunk))
        self._failed_by_trunk += failed_by_trunk

    def decide(self, switch: str, view: View) -> Decision:
        """What to do on `switch` now."""
        supply = self._team.supply(switch)
        self.dialed = True
        # They learn by looking, whatever the mode: another may be chosen at any moment.
        self.demand(switch).answers(view.now_seconds)
        supply.free_agents(view.now_seconds)
        first = self._goes_first(switch)
        if first:
            return Decision(0, f"the agents are for {first} as long as it has somebody to call", HeldBy.AGENTS)
        decision = self._pacer(switch).decide(view)
        self.hold(switch, decision.held_by)
        self._team.occupancy[switch].saw(view.now_seconds, supply.busy, view.idle_agents)
        return decision

    def may_dial_on(self, switches: Collection[str]) -> None:
        """It has trunks on these `switches`, and they are there; on others it wants no agents."""
        self._held_by = {switch: (self._held_by or {}).get(switch, HeldBy.AGENTS) for switch in switches}

    def hold(self, switch: str, held_by: HeldBy) -> None:
        """What keeps it from more calls on `switch`."""
        self._held_by = {**(self._held_by or {}), switch: held_by}

    def held_on(self, switch: str) -> HeldBy:
        """What keeps it from more calls on `switch`; agents, as far as is known, until it has decided there."""
        return HeldBy.AGENTS if self._held_by is None else self._held_by.get(switch, HeldBy.CHANNELS)

    @property
    def held_by(self) -> HeldBy:
        """What keeps it from more calls, in one word: where it would use agents, if there is such a switch."""
        if self._held_by is None:
            return HeldBy.AGENTS
        reasons = list(self._held_by.values())
        wanting = (one for one in reasons if one not in _WANTS_NO_AGENTS)
        return next(wanting, next(iter(reasons), HeldBy.CHANNELS))

    def _goes_first(self, switch: str) -> str:
        if self.campaign.mode == "broadcast":  # it uses no agents
            return ""
        for other in self._team.campaigns.values():
            if (
                other.running
                and other.campaign.mode != "broadcast"
                and other.campaign.priority > self.campaign.priority
                and other.held_on(switch) not in _WANTS_NO_AGENTS
            ):
                return other.campaign.name
        return ""

    def _pacer(self, switch: str) -> Pacer:
        if switch not in self._pacers:
            self._pacers[switch] = self._make_pacer(switch)
        return self._pacers[switch]

    def _make_pacer(self, switch: str) -> Pacer:
        campaign = self.campaign
        match campaign.mode:
            case "progressive":
                return Progressive()
            case "ratio":
                return Ratio(campaign.calls_per_agent, self.demand(switch), self.budget)
            case "preview":
                return Preview()
            case "broadcast":
                return Broadcast()
            case "predictive":
                return self._predictive(switch)

    def _predictive(self, switch: str) -> Predictive:
        campaign = self.campaign

        def others() -> Sequence[Demand]:
            rest = [pacing for pacing in self._team.calling() if pacing is not self]
            return [pacing.demand(switch) for pacing in rest if pacing.open_here(switch)]

        # A person whose verdict took longest has the least time left.
        listening_seconds = campaign.machine_detection_seconds if campaign.listens_for_machines else 0.0
        return Predictive(
            self._team.supply(switch),
            self.demand(switch),
            self.budget,
            patience_seconds=max(0.1, campaign.connect_seconds - listening_seconds - BRIDGE_SECONDS),
            cancels=campaign.cancel_ringing,
            least_agents=campaign.predictive_least_agents,
            others=others,
        )

    def open_calls(self) -> frozenset[str]:
        """The calls that nobody talks on yet."""
        return frozenset(uuid for uuid, phase in self._phases.items() if phase in _MAY_WANT_AN_AGENT)

    def open_here(self, switch: str) -> int:
        """Calls on `switch` that may still want an agent."""
        demand = self.demand(switch)
        return demand.ringing + demand.waiting

    # What calls do.

    def placed(self, attempt: Attempt) -> None:
        """A call is on its way out."""
        now_seconds = trio.current_time()
        traits = self._traits_of(attempt.lease)
        self._traits[attempt.uuid] = traits
        self._phases[attempt.uuid] = attempt.phase
        if attempt.wants_agent:
            self.demand(attempt.lease.switch).placed(attempt.uuid, now_seconds, self.model.odds(traits))

    def moved(self, attempt: Attempt) -> None:
        """The call is in another phase."""
        uuid, phase, now_seconds = attempt.uuid, attempt.phase, trio.current_time()
        before = self._phases.get(uuid)
        if before is None:
            return
        self._phases[uuid] = phase
        demand = self.demand(attempt.lease.switch)
        if phase in UNDECIDED:
            if phase is Phase.RINGING:
                demand.rings(uuid, now_seconds)
            elif phase is Phase.LISTENING:
                demand.picked_up(uuid)
            return
        if before in UNDECIDED:
            if phase is Phase.CLOSING:
                if before is not Phase.OFFERED:  # nobody was called
                    self._ended_without_a_person(attempt, demand, now_seconds)
                return
            demand.answered(uuid, now_seconds)
            self._learn(uuid, answered=True)
            self._note_outcome(now_seconds, failed_by_trunk=False)
        if phase is Phase.WAITING and before is Phase.CONNECTING:
            demand.waits_again(uuid)
        elif phase in (Phase.CONNECTING, Phase.PLAYING):
            demand.connected(uuid)
        elif phase is Phase.TALKING:
            demand.connected(uuid)
            if attempt.connected_late:
                self.budget.abandoned(bet=self._bets(attempt.lease.switch))
            else:
                self.budget.connected(bet=self._bets(attempt.lease.switch))
            self._count_before_record(uuid, Answered(1, int(attempt.connected_late)))
        elif phase is Phase.CLOSING and before is not Phase.TALKING:
            demand.left(uuid)
            # Answered while our hang-up was on its way: nobody was there for them.
            if attempt.abandoned or attempt.taken_back:
                self._was_abandoned(attempt)

    def _was_abandoned(self, attempt: Attempt) -> None:
        self.budget.abandoned(bet=self._bets(attempt.lease.switch))
        self._count_before_record(attempt.uuid, Answered(1, 1))

    def _bets(self, switch: str) -> bool:
        """Whether answers come of calls that risked something: days without a risk are no reason for a larger one."""
        return self.campaign.mode == "predictive" and self.held_on(switch) is not HeldBy.SAFE_MODE

    def _ended_without_a_person(self, attempt: Attempt, demand: Demand, now_seconds: float) -> None:
        if attempt.was_machine:
            supposed = self.campaign.machine_false_positive_percent / 100
            self.budget.abandoned(supposed, bet=self._bets(attempt.lease.switch))
            self._count_before_record(attempt.uuid, Answered(supposed, supposed))
        if attempt.taken_back:
            demand.withdrawn(attempt.uuid, now_seconds)
            return
        self._note_outcome(now_seconds, failed_by_trunk=attempt.failed_by_trunk)
        if attempt.failed_by_trunk:  # it says nothing of who answers, and when
            demand.withdrawn(attempt.uuid, now_seconds)
            return
        demand.unanswered(attempt.uuid, now_seconds)
        self._learn(attempt.uuid, answered=False)

    def over(self, attempt: Attempt) -> None:
        """The call is over, and on record if it ever went out."""
        demand = self.demand(attempt.lease.switch)
        if self._phases.pop(attempt.uuid, None) in UNDECIDED:  # it never went out, goes over, or its story broke off
            demand.withdrawn(attempt.uuid, trio.current_time())
            if attempt.failed_by_trunk:
                self._note_outcome(trio.current_time(), failed_by_trunk=True)
        demand.left(attempt.uuid)  # should its story have broken off
        # Whoever gave up while an agent's phone rang was not told of: their wait is known from the record.
        if attempt.abandoned_on_record and attempt.uuid not in self._under_way:
            self._was_abandoned(attempt)
        self._traits.pop(attempt.uuid, None)
        self._over.add(attempt.uuid)

    def _learn(self, uuid: str, *, answered: bool) -> None:
        traits = self._traits.get(uuid)
        if traits is not None:
            self.model.learn(traits, answered)

    def _traits_of(self, lease: Lease) -> LeadTraits:
        zones = self.campaign.zones_of(lease.zones)
        local = self._clock.now().astimezone(zone_info(zones[0] if zones else "UTC"))
        return LeadTraits(
            hour=local.hour,
            weekday=local.weekday(),
            attempt_no=lease.attempt_no,
            last_disposition=lease.last_disposition.value if lease.last_disposition else "",
            number_kind=number_kind(lease.number),
            list_name=lease.fields.get("list", "") or str(lease.list_id),
            gateway=lease.gateway,
        )

    # What people see.

    def report(self) -> dict[str, Any]:
        """How the campaign is paced, for status."""
        day, month, *_ = (*self.windows(), Answered())
        percent = percent_of(self._team.occupancy.values())
        busy = sum(one.busy for one in self._team.supplies.values())
        calls = sum(self.open_here(switch) for switch in self._demands) + busy
        left = min(self.budget.limit * one.live - one.abandoned for one in self.windows())
        return {
            "occupancy_percent": None if percent is None else round(percent, 1),
            "abandoned_day": round(day.abandoned, 1),
            "live_answers_day": round(day.live, 1),
            "abandoned_month": round(month.abandoned, 1),
            "live_answers_month": round(month.live, 1),
            "abandon_limit_percent": self.campaign.abandon_limit_percent,
            "agents_busy": busy,
            "calls": calls,
            "risk_percent": round(100 * self.budget.theta, 2),
            "budget_calls": round(self.budget.balance, 1),
            "abandoned_left": max(0, math.floor(left)),
            "held_by": self.held_by.value,
        }

    # What is kept.

    @property
    def changes(self) -> bool:
        """Whether there may be more to count than at the last count, and not only less."""
        return self.running or bool(self._over)

    async def count(self, database: Database) -> None:
        """Reads the windows that the law counts in anew. Raises UnavailableError or OutcomeUnknownError.

        Calls of the group are counted twice until all its campaigns have been, and `forget_counted` is called.
        """
        async with self._counting:  # an older answer must not come after a newer one
            over, now = set(self._over), self._clock.now()
            window = await database.read(lambda session: abandonment_counts.window(session, self.campaign_id, now))
            self.on_record = tuple(
                Answered(one.live_answers + one.supposed, one.abandoned + one.supposed)
                for one in (window.day, window.month, window.group_day, window.group_month)
            )
            self._over -= over
            for uuid in over:  # on record by now
                self._under_way.forget(uuid)
            self._counted |= over
            self._windows = None

    def forget_counted(self) -> None:
        """All campaigns of the group have counted anew."""
        for uuid in self._counted:
            self._purse.under_way.forget(uuid)
        self._counted.clear()

    def state(self) -> PacingState:
        """What is worth keeping."""
        supplies = self._team.supplies.values()
        return PacingState(
            ring=self._any_demand().tables.state(),
            supply=max((one.state() for one in supplies), key=lambda one: one.talks, default=Supply().state()),
            budget=self.budget.state(),
            answers=self.model.state().to_json(),
        )

    def restore(self, this_hour: PacingState, latest: PacingState) -> None:
        """Goes on from what this hour was like, and from who answers as it was known last."""
        self._any_demand().tables.restore(this_hour.ring)
        self.model = latest.answer_model()
        if self._team.learned is None:
            self._team.learned = this_hour.supply
            for supply in self._team.supplies.values():  # conversations that were adopted before this was read
                if not supply.talks:
                    supply.restore(this_hour.supply)


_KINDS: Final = {
    phonenumbers.PhoneNumberType.MOBILE: "mobile",
    phonenumbers.PhoneNumberType.FIXED_LINE: "fixed_line",
    phonenumbers.PhoneNumberType.VOIP: "voip",
}


def number_kind(number: str) -> str:
    """What kind of line the E.164 `number` is, as far as its digits tell."""
    try:
        return _KINDS.get(phonenumbers.number_type(phonenumbers.parse(number)), "unknown")
    except phonenumbers.NumberParseException:
        return "unknown"
