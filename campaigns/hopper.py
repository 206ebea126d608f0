"""Leases the next callable leads, each to one daemon, and writes the attempts down before anything goes out.

A lease is taken in one transaction with its attempts: the leads' status is compared and set, so that of two daemons
only one gets a lead, and what is to be dialed is on disk before it is on the wire. It ends with
`store.close_attempt`, or with `return_unsent` when nothing was sent.

Leads that may be called stand in queues, in the order they are served: those a trunk has just failed, call-backs,
and then list by list, by priority and weight, retries and new leads (`turns`). Everybody at the head of a queue is
held to all rules (`rules.callable`) in this very transaction. Whoever a rule forbids is put off to the moment it
allows the call, out of the queue, so that it is looked at once and not every second. Each lease looks at a bounded
number of leads, however long the lists are and whatever the hour, and the next goes on behind those that fit no trunk
with room (`passed_by`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from math import ceil
from typing import Any, Final

from sqlalchemy import bindparam, insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel, select

from campaigns import attempt_history, called_numbers, forbidden_leads, queues, suppression_store
from campaigns.attempt_history import Histories
from campaigns.called_numbers import NOTHING, OfNumber, in_call
from campaigns.lead import LeadStatus, Queue, zones_from_json
from campaigns.leases import Lease, Leased, candidate_of, is_owed_an_agent, lease_of
from campaigns.many import many, one_of
from campaigns.passed_by import PassedBy
from campaigns.queues import Group, QueuedLead
from campaigns.recycle import NO_HISTORY, History
from campaigns.rules import refusal, suppression
from campaigns.rules.callable import ATTEMPTS, RuleBook
from campaigns.rules.candidate import PastCall, SuppressionEntry
from campaigns.rules.verdict import Verdict
from campaigns.slots import NOT_FULL, Fit, Slot, Slots, needed_since
from campaigns.tables import AttemptRow
from campaigns.trunk import BLIND_AREA, Trunk
from campaigns.turns import Turns

LOOKED_AT_MOST: Final = 1_000  # leads in one lease: some 20 ms of the writer's time when all must be put off
WORTH_PASSING_BY: Final = 100  # of one look, that fit none of the slots: fewer are looked at again each time
_SPARE: Final = 10  # looked at beyond those wanted, at first: most leads in a queue may be called
_NO_MOMENT_YET: Final = timedelta(days=1)  # rules that never allow it may have been changed by tomorrow
_BY_ENTRIES: Final = frozenset({suppression.RULE, refusal.RULE})
_AGENT_AGAIN: Final = timedelta(seconds=30)  # a call-back whose agent is not idle is looked at this often


def lease(
    session: Session,
    book: RuleBook,
    slots: Sequence[Slot],
    trunks: Mapping[str, Trunk],
    node: str,
    now: datetime,
    *,
    idle_agents: Collection[str] | None = None,
    in_turn: bool = False,
    passed_by: PassedBy | None = None,
) -> Leased:
    """A lead for each of `slots`, or as many as are callable at `now`, in order; the rest of the slots stay unused.

    `trunks` are all that the campaign may use, by name, with or without a slot: a lead that none of them may carry
    is put off, one that only the slots at hand do not fit stays where it is and is counted as unfitted. With
    `in_turn` nobody goes before it: a slot stays unused for it, and the caller asks again with slots of other trunks.
    Call-backs for one agent are leased only while `idle_agents` has them; None stands for all. In preview leads are
    leased to be offered: nothing goes out before `send`.

    Fewer may come than there are when a great many had to be put off, or fitted no slot: the others come next time,
    if the same `passed_by` is given.
    """
    if not slots:
        return Leased()
    leasing = Leasing(session, book, slots, trunks, node, now, idle_agents, in_turn, passed_by)
    leasing.find()
    return leasing.write()


class Leasing:
    """One lease. What it has found out is kept until the end, and written then."""

    def __init__(
        self,
        session: Session,
        book: RuleBook,
        slots: Sequence[Slot],
        trunks: Mapping[str, Trunk],
        node: str,
        now: datetime,
        idle_agents: Collection[str] | None,
        in_turn: bool,
        passed_by: PassedBy | None = None,
    ) -> None:
        self._session = session
        self._connection = session.connection()
        self._book = book
        self._campaign = book.campaign
        self._campaign_id = book.campaign_id
        self._caps_gateways = book.caps_gateways
        self._slots = Slots(slots, trunks, now, self._shown, pooled=self._campaign.caller_id is None)
        self._trunks = trunks
        self._node = node
        self._now = now
        self._idle_agents = idle_agents
        self._in_turn = in_turn
        self._passed_by = passed_by if passed_by is not None and not in_turn else PassedBy()
        away = (name for name, trunk in trunks.items() if trunk.away)
        self._trunks_at_hand = frozenset(slot.gateway for slot in slots), frozenset(away)
        self._since = self._needed_since()
        self._several_switches = len({trunk.switch for trunk in trunks.values()}) > 1
        self._looked = 0
        self._looks_alone = True
        self._asleep = False
        self._unfitted = 0
        self._entries_stay = False  # on do-not-call lists, until this lease is written
        self._agentless = 0  # looked at while there was no idle agent at all whom one could have been held for
        self._calls: dict[int, Sequence[PastCall]] = {}  # to a lead that may be called, where there are any
        self._taken: list[tuple[QueuedLead, Fit]] = []
        self._taken_of: defaultdict[str | tuple[str, str], list[tuple[QueuedLead, Fit]]] = defaultdict(list)
        self._put_off: dict[tuple[datetime, str], list[int]] = defaultdict(list)
        self._exhausted: list[int] = []
        self._stuck: dict[int, Verdict] = {}  # with a number that is not to be called; there may be others
        self._blocked: Counter[str] = Counter()
        self._places: dict[tuple[str, str | None], Verdict] = {}
        self._callback_from: dict[int, datetime] = {}  # what was promised, from when on it was allowed
        self._alike: dict[tuple[str, str | None, int], Verdict] = {}

    def find(self) -> None:
        """Looks for leads that may be called, until each slot has one."""
        if self._since is not None:
            self._looks_alone = attempt_history.look_alone(self._session)
        if not self._looks_alone:
            return
        self._entries_stay = suppression_store.may_suppress(self._session)
        self._asleep = queues.wake(self._connection, self._campaign_id, self._now) >= queues.WOKEN_AT_MOST
        groups = queues.groups_of(self._connection, self._campaign_id)
        first = [group for group in groups if group.queue in (Queue.URGENT, Queue.CALLBACK)]
        for group in sorted(first, key=lambda one: (one.queue, -one.list_priority, -one.priority, one.list_id)):
            self._serve(self._callable([group]))
        self._serve_lists([group for group in groups if group.queue in (Queue.RETRY, Queue.NEW)])

    def write(self) -> Leased:
        """Writes down what was found: attempts of leads that got a slot, and until when others are put off."""
        self._write_put_off()
        more = self._slots.left > 0 and (self._looked >= LOOKED_AT_MOST or not self._looks_alone)
        return Leased(self._write_taken(), self._unfitted, dict(self._blocked), more, self._asleep)

    # In which order.

    def _serve_lists(self, groups: Sequence[Group]) -> None:
        by_priority: defaultdict[int, defaultdict[int, list[Group]]] = defaultdict(lambda: defaultdict(list))
        for group in groups:
            by_priority[group.list_priority][group.list_id].append(group)
        for _, by_list in sorted(by_priority.items(), reverse=True):
            if not self._slots.left:
                return
            self._serve_in_turn({list_id: by_list[list_id] for list_id in sorted(by_list)})

    def _serve_in_turn(self, lists: Mapping[int, Sequence[Group]]) -> None:
        """Gives slots to lists of one priority, by their weights."""
        one_of_each = {list_id: groups[0] for list_id, groups in lists.items()}
        weights = sum(one.weight for one in one_of_each.values())
        turns = Turns((list_id, one.weight, one.credit) for list_id, one in one_of_each.items())
        offers = {
            list_id: self._callable(self._in_order(groups), one_of_each[list_id].weight / weights)
            for list_id, groups in lists.items()
        }
        while self._slots.left and (chosen := turns.next()) is not None:
            lead = next(offers[chosen], None)
            if lead is None:
                turns.leave(chosen)
            elif self._fit(lead):
                turns.take(chosen)
        changed = {
            list_id: credit for list_id, credit in turns.credits.items() if credit != one_of_each[list_id].credit
        }
        queues.keep_credits(self._connection, changed)

    def _in_order(self, groups: Sequence[Group]) -> list[Group]:
        """Of one list: retries and new leads as the campaign says, the higher priority first."""
        sign = -1 if self._campaign.new_first else 1
        return sorted(groups, key=lambda group: (sign * group.queue, -group.priority))

    def _serve(self, offered: Iterator[QueuedLead]) -> None:
        """Gives slots to leads of `offered`, until either is at its end."""
        while self._slots.left and (lead := next(offered, None)) is not None:
            self._fit(lead)

    def _callable(self, groups: Sequence[Group], share: float = 1.0) -> Iterator[QueuedLead]:
        """Leads of `groups` that all rules allow, in order; those that are forbidden are noted on the way.

        About a `share` of the slots that are left is likely to be theirs.
        """
        for group in groups:
            where = group.queue, group.list_id, group.priority, self._trunks_at_hand, self._idle_agents == frozenset()
            times, after = 1, self._passed_by.after(where, self._now)
            while self._slots.left and self._looked < LOOKED_AT_MOST:
                likely = ceil(self._slots.left * share)
                spare = max(likely // 10, min(likely, _SPARE))
                wanted = min(times * (likely + spare), LOOKED_AT_MOST - self._looked)
                found = queues.page(self._connection, self._campaign_id, group, after, wanted)
                self._looked += len(found)
                passed = self._unfitted + self._agentless
                yield from self._allowed(found)
                if len(found) < wanted:
                    break
                after = found[-1].lead_id
                if self._unfitted + self._agentless - passed >= WORTH_PASSING_BY:
                    self._passed_by.note(where, after, self._now)
                times *= 4  # where many are put off, more are looked at in one go

    # Who may be called.

    def _allowed(self, leads: Sequence[QueuedLead]) -> Iterator[QueuedLead]:
        if not leads:
            return
        forbidden = suppression_store.entries_for(self._session, [lead.number for lead in leads])
        histories = attempt_history.of(self._session, leads, self._since) if self._since else Histories()
        called = called_numbers.called(self._session, self._book, [lead.number for lead in leads], self._now)
        for lead in leads:
            if self._lacks_agent(lead):  # it keeps its place, and others go before it
                self._agentless += not self._idle_agents
                continue
            if self._several_switches and self._agent_verdict(lead) is not None:  # who promised it may be on another
                self._agentless += 1
                continue
            calls = self._calls_of(lead, histories)
            of_number = called.get(lead.number, NOTHING)
            verdict = self._verdict(lead, calls, forbidden.get(lead.number, ()), of_number)
            if verdict.allowed and (of_number.in_call or lead.number in self._taken_of):
                verdict = in_call(lead.number, self._now)
            if not verdict.allowed:
                self._note(lead, verdict)
                continue
            if calls:
                self._calls[lead.lead_id] = calls
            yield lead

    def _verdict(
        self, lead: QueuedLead, calls: Sequence[PastCall], entries: Sequence[SuppressionEntry], of_number: OfNumber
    ) -> Verdict:
        told = calls or entries or of_number is not NOTHING
        if told or lead.history != NO_HISTORY or lead.callback_at or lead.consent_at:
            candidate = of_number.told_to(candidate_of(lead.lead_id, lead))
            verdict = self._book.verdict(candidate, calls, entries, self._now, place=self._place(lead))
            return (self._agent_verdict(lead) or verdict) if verdict.allowed else verdict
        # Nothing is known of it but where it is: rules have the same answer for all that are alike.
        key = lead.zones, lead.region, lead.attempts
        found = self._alike.get(key)
        if found is None:
            candidate = candidate_of(lead.lead_id, lead)
            found = self._alike[key] = self._book.verdict(candidate, (), (), self._now, place=self._place(lead))
        return found

    def _calls_of(self, lead: QueuedLead, histories: Histories) -> Sequence[PastCall]:
        """Calls to the lead's number or account; those of this very lease count as if they were made already."""
        if self._since is None:
            return ()
        earlier, just_taken = histories.of(lead), self._taken_of.get(lead.number, ())
        if lead.account is not None:
            of_account = self._taken_of.get(("account", lead.account), ())
            just_taken = [*just_taken, *(taken for taken in of_account if taken[0].number != lead.number)]
        return [*earlier, *(self._call(*taken) for taken in just_taken)] if just_taken else earlier

    def _call(self, lead: QueuedLead, fit: Fit) -> PastCall:
        return PastCall(
            self._now,
            self._campaign_id,
            self._campaign.seller,
            lead.lead_id,
            lead.number,
            lead.account,
            fit.slot.gateway,
        )

    def _take(self, lead: QueuedLead, fit: Fit) -> None:
        taken = lead, fit
        self._taken.append(taken)
        self._taken_of[lead.number].append(taken)
        if lead.account is not None:
            self._taken_of["account", lead.account].append(taken)

    def _needed_since(self) -> datetime | None:
        """How far back calls must be known: as rules ask, and today's where trunks count by the day."""
        moments = self._book.history_since(self._now), needed_since(self._trunks.values(), self._now)
        return min((moment for moment in moments if moment is not None), default=None)

    def _place(self, lead: QueuedLead) -> Verdict:
        key = lead.zones, lead.region
        found = self._places.get(key)
        if found is None:
            zones = zones_from_json(lead.zones)
            found = self._places[key] = self._book.place_verdict(zones, lead.region, self._now)
        return found

    def _lacks_agent(self, lead: QueuedLead) -> bool:
        """Whether it is called only with an agent held for it, and none is idle that others have not got."""
        if self._idle_agents is None or not _is_owed_an_agent(lead) or self._callback_agent(lead) is not None:
            return False
        return sum(map(_is_owed_an_agent, (taken for taken, _ in self._taken))) >= len(self._idle_agents)

    def _agent_verdict(self, lead: QueuedLead) -> Verdict | None:
        """What forbids a call-back that only one agent is to make; None if nothing does."""
        agent = self._callback_agent(lead)
        if agent is None or self._idle_agents is None or agent in self._idle_agents:
            return None
        return Verdict("callback_agent", False, f"promised by {agent}, who is not free", self._now + _AGENT_AGAIN)

    def _callback_agent(self, lead: QueuedLead) -> str | None:
        """Whose call-back it is, unless that agent has kept the person waiting for too long since it was allowed."""
        if lead.callback_at is None or lead.callback_agent is None:
            return None
        patience = timedelta(minutes=self._campaign.callback_patience_minutes)
        waits_since = lead.callback_at
        if self._now >= waits_since + patience:  # else it does not matter, and this takes longer
            waits_since = self._allowed_from(lead, waits_since)
        return lead.callback_agent if self._now < waits_since + patience else None

    def _allowed_from(self, lead: QueuedLead, promised: datetime) -> datetime:
        """The first moment at which the call-back of `lead` might be made."""
        found = self._callback_from.get(lead.lead_id)
        if found is None:
            first = self._book.earliest(candidate_of(lead.lead_id, lead), (), promised)
            found = self._callback_from[lead.lead_id] = first.allowed_at or promised
        return found

    def _note(self, lead: QueuedLead, verdict: Verdict) -> None:
        self._blocked[verdict.rule] += 1
        if verdict.rule in _BY_ENTRIES and not self._entries_stay:
            return  # one is being removed: the lead keeps its place, and the next to look knows what came of it
        if verdict.rule == ATTEMPTS:  # the manager has lowered it since
            self._exhausted.append(lead.lead_id)
        elif verdict.rule in (suppression.RULE, BLIND_AREA):
            self._stuck[lead.lead_id] = verdict
        else:
            self._waits(lead.lead_id, verdict)

    def _waits(self, lead_id: int, verdict: Verdict) -> None:
        self._put_off[verdict.allowed_at or self._now + _NO_MOMENT_YET, verdict.rule].append(lead_id)

    def _fit(self, lead: QueuedLead) -> bool:
        """Gives `lead` a slot; False if there is none for it."""
        calls = self._calls.get(lead.lead_id, ())
        failed = () if lead.history == NO_HISTORY else History.from_json(lead.history).failed_gateways
        full = NOT_FULL
        if calls:
            if self._caps_gateways:
                full = self._book.full_gateways(candidate_of(lead.lead_id, lead), calls, self._now)
            calls = [call for call in calls if call.number == lead.number]
        fit = self._slots.fit(lead.number, lead.region, calls, failed, full)
        if isinstance(fit, Fit):
            self._take(lead, fit)
            return True
        if fit is None:
            self._unfitted += 1
            if self._in_turn:
                self._slots.left -= 1
        else:
            self._note(lead, fit)
        return False

    def _shown(self, day: date) -> Counter[str]:
        return calls_shown(self._session, self._trunks, day)

    # What is written.

    def _write_put_off(self) -> None:
        for lead_id, verdict in forbidden_leads.go_on(
            self._session, self._campaign, self._stuck, self._now, self._slots.may_carry
        ).items():
            self._waits(lead_id, verdict)
        for (moment, rule), ids in self._put_off.items():
            values = {"queue": None, "due_at": moment, "put_off_by": rule, "updated_at": self._now}
            queues.change(self._connection, ids, values)
        # Why it ended: a higher number brings it back, see `store.reconsider`.
        why = {"put_off_by": ATTEMPTS, "updated_at": self._now}
        exhausted = {"queue": None, "status": LeadStatus.EXHAUSTED, **why}
        queues.change(self._connection, self._exhausted, exhausted)

    def _write_taken(self) -> list[Lease]:
        if not self._taken:
            return []
        details = queues.take(self._connection, [lead.lead_id for lead, _ in self._taken], self._now)
        if len(details) != len(self._taken):  # cannot be while the rows are locked; better no lease than a lead twice
            raise RuntimeError(f"{len(self._taken)} leads were to be leased, and {len(details)} could be")
        leases = [
            lease_of(
                lead,
                details[lead.lead_id],
                uuid=fit.slot.uuid,
                lead_id=lead.lead_id,
                gateway=fit.slot.gateway,
                switch=fit.slot.switch,
                attempt_no=lead.attempts + 1,
                caller_id=fit.caller_id,
                callback_agent=self._callback_agent(lead),
                number=lead.number,
                account=lead.account,
            )
            for lead, fit in self._taken
        ]
        self._connection.execute(
            insert(AttemptRow),
            [
                {
                    "uuid": each.uuid,
                    "lead_id": each.lead_id,
                    "campaign_id": self._campaign_id,
                    "number": each.number,
                    "gateway": each.gateway,
                    "switch": each.switch,
                    "node": self._node,
                    "account": each.account,
                    "caller_id": each.caller_id,
                    "attempt_no": each.attempt_no,
                    "counted": True,
                    "answered": False,
                    "talked": False,
                    "offered": self._campaign.mode == "preview",
                    "opened_at": self._now,
                    "closed_at": None,
                }
                for each in leases
            ],
        )
        shown = Counter((fit.caller_id, fit.day) for _, fit in self._taken if fit.caller_id is not None)
        for (caller_id, day), calls in shown.items():
            self._connection.execute(_show(self._session), {"caller_id": caller_id, "day": day, "calls": calls})
        return leases


def calls_shown(session: Session, trunks: Mapping[str, Trunk], day: date) -> Counter[str]:
    """How many calls have shown each number of the pools of `trunks` on `day`."""
    numbers = [one.number for trunk in trunks.values() for one in trunk.caller_ids]
    rows = session.connection().execute(_SHOWN, {"_day": day, "_numbers": many(numbers)})
    return Counter({row.caller_id: row.calls for row in rows})


def _is_owed_an_agent(lead: QueuedLead) -> bool:
    return is_owed_an_agent(History.from_json(lead.history), lead.callback_at)


_shown_day = SQLModel.metadata.tables["caller_id_day"]
_SHOWN: Final = select(_shown_day.c.caller_id, _shown_day.c.calls).where(
    _shown_day.c.day == bindparam("_day"), one_of(_shown_day.c.caller_id, "_numbers")
)


def _show(session: Session) -> Any:
    dialect = sqlite if session.connection().dialect.name == "sqlite" else postgresql
    new: sqlite.Insert | postgresql.Insert = dialect.insert(_shown_day)
    return new.on_conflict_do_update(
        index_elements=["caller_id", "day"], set_={"calls": _shown_day.c.calls + new.excluded.calls}
    )
