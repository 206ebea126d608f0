"""Leases the next callable leads, each to one daemon, and writes the attempts down before anything goes out.

A lease is taken in one transaction with its attempts: the leads' status is compared and set, so that of two daemons
only one gets a lead, and what is to be dialed is on disk before it is on the wire. It ends with
`store.close_attempt`, or with `return_unsent` when nothing was sent.

Leads that may be called stand in queues, in the order they are served: those a trunk has just failed, call-backs,
and then list by list, by priority and weight, retries and new leads (`turns`). Everybody at the head of a queue is
held to all rules (`rules.callable`) in this very transaction. Whoever a rule forbids is put off to the moment it
allows the call, out of the queue, so that it is looked at once and not every second. Each lease looks at a bounded
number of leads, however long the lists are and whatever the hour.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from math import ceil
from typing import Any, Final

import attrs
from sqlalchemy import bindparam, case, insert, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel, select

from campaigns import attempt_history, suppression_store
from campaigns.attempt_history import Histories
from campaigns.disposition import Disposition
from campaigns.lead import LeadStatus, Queue, numbers_from_json, zones_from_json
from campaigns.leases import Lease, Leased, candidate_of
from campaigns.recycle import History
from campaigns.rules.callable import RuleBook
from campaigns.rules.candidate import Candidate, PastCall
from campaigns.rules.verdict import Verdict
from campaigns.slots import Fit, Slot, Slots, needed_since
from campaigns.tables import RESTING, AttemptRow, LeadRow
from campaigns.trunk import Trunk
from campaigns.turns import Turns

LOOKED_AT_MOST: Final = 1_000  # leads in one lease: some 20 ms of the writer's time when all must be put off
WOKEN_AT_MOST: Final = 1_000  # leads that have rested long enough, put into their queues by one lease
_SPARE: Final = 10  # looked at beyond those wanted, at first: most leads in a queue may be called
_CALLABLE: Final = (LeadStatus.NEW, LeadStatus.WAITING)
_NO_MOMENT_YET: Final = timedelta(days=1)  # rules that never allow it may have been changed by tomorrow
_AGENT_AGAIN: Final = timedelta(seconds=30)  # a call-back whose agent is not idle is looked at this often
_BEYOND_ALL_IDS: Final = 2**62


@attrs.define
class _Row:
    """A lead in a queue, as the lease's query gives it."""

    id: int
    number: str
    zones: str
    region: str | None
    kind: str
    numbers: str
    number_no: int
    account: str | None
    fields: str
    attempts: int
    last_disposition: Disposition | None
    history: str
    callback_at: datetime | None
    callback_agent: str | None
    consent_at: datetime | None
    consent_evidence: str | None


@attrs.frozen
class _Group:
    """Leads of one queue, list and priority: a range of the index."""

    queue: int
    list_id: int
    priority: int


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
) -> Leased:
    """A lead for each of `slots`, or as many as are callable at `now`, in order; the rest of the slots stay unused.

    `trunks` are all that the campaign may use, by name, with or without a slot: a lead that none of them may carry
    is put off, one that only the slots at hand do not fit stays where it is and is counted as unfitted. With
    `in_turn` nobody goes before it: a slot stays unused for it, and the caller asks again with slots of other trunks.
    Call-backs for one agent are leased only while `idle_agents` has them; None stands for all. In preview leads are
    leased to be offered: nothing goes out before `send`.

    Fewer may come than there are when a great many had to be put off: they come next time.
    """
    if not slots:
        return Leased()
    leasing = Leasing(session, book, slots, trunks, node, now, idle_agents, in_turn)
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
        self._looked = 0
        self._calls: dict[int, Sequence[PastCall]] = {}  # to a lead that may be called, to its number and account
        self._unfitted = 0
        self._taken: list[tuple[_Row, Fit]] = []
        self._new_calls: dict[str | tuple[str, str], list[PastCall]] = defaultdict(list)  # by number, by account
        self._put_off: dict[tuple[datetime, str], list[int]] = defaultdict(list)
        self._ended: dict[LeadStatus, list[int]] = defaultdict(list)
        self._blocked: Counter[str] = Counter()
        self._places: dict[tuple[str, str | None], Verdict] = {}

    def find(self) -> None:
        """Looks for leads that may be called, until each slot has one."""
        wake(self._session, self._campaign_id, self._now)
        groups = self._groups()
        for queue in (Queue.URGENT, Queue.CALLBACK):
            for group in groups:
                if group.queue == queue:
                    self._serve(self._callable([group]))
        self._serve_lists([group for group in groups if group.queue in (Queue.RETRY, Queue.NEW)])

    def write(self) -> Leased:
        """Writes down what was found: attempts of leads that got a slot, and until when others are put off."""
        self._write_put_off()
        return Leased(self._write_taken(), self._unfitted, dict(self._blocked))

    # In which order.

    def _groups(self) -> list[_Group]:
        """Every non-empty range of the campaign's queues, those of lists that are not active left out."""
        rows = self._connection.execute(_GROUPS, {"campaign_id": self._campaign_id}).all()
        self._lists = {
            row.id: row
            for row in self._connection.execute(_LISTS_OF, {"_campaign_id": self._campaign_id})
            if row.active
        }
        return [_Group(*row) for row in rows if row.list_id in self._lists]

    def _serve_lists(self, groups: Sequence[_Group]) -> None:
        by_list: dict[int, list[_Group]] = defaultdict(list)
        for group in groups:
            by_list[group.list_id].append(group)
        by_priority: dict[int, list[int]] = defaultdict(list)
        for list_id in by_list:
            by_priority[self._lists[list_id].priority].append(list_id)
        for _, list_ids in sorted(by_priority.items(), reverse=True):
            if not self._slots.left:
                return
            turns = Turns((one, self._lists[one].weight, self._lists[one].credit) for one in sorted(list_ids))
            weights = sum(self._lists[one].weight for one in list_ids)
            offers = {
                list_id: self._callable(self._in_order(by_list[list_id]), self._lists[list_id].weight / weights)
                for list_id in list_ids
            }
            while self._slots.left and (chosen := turns.next()) is not None:
                if self._serve(offers[chosen], 1):
                    turns.take(chosen)
                else:
                    turns.leave(chosen)
            self._keep_credits(turns, list_ids)

    def _in_order(self, groups: Sequence[_Group]) -> list[_Group]:
        """Of one list: retries and new leads as the campaign says, the higher priority first."""
        sign = -1 if self._campaign.new_first else 1
        return sorted(groups, key=lambda group: (sign * group.queue, -group.priority))

    def _keep_credits(self, turns: Turns, list_ids: Sequence[int]) -> None:
        if len(list_ids) > 1:
            changed = [
                {"_id": list_id, "_credit": credit}
                for list_id, credit in turns.credits.items()
                if credit != self._lists[list_id].credit
            ]
            if changed:
                self._connection.execute(_KEEP_CREDIT, changed)

    def _serve(self, offered: Iterator[_Row], most: int | None = None) -> int:
        """Gives slots to leads of `offered`, to `most` at most; how many got one."""
        served = 0
        while self._slots.left and (most is None or served < most):
            row = next(offered, None)
            if row is None:
                break
            served += self._fit(row)
        return served

    def _callable(self, groups: Sequence[_Group], share: float = 1.0) -> Iterator[_Row]:
        """Leads of `groups` that all rules allow, in order; those that are forbidden are noted on the way.

        About a `share` of the slots that are left is likely to be theirs.
        """
        for group in groups:
            newest_first = self._lists[group.list_id].newest_first
            times, after = 1, None
            while self._slots.left and self._looked < LOOKED_AT_MOST:
                wanted = min(times * ceil(self._slots.left * share) + _SPARE, LOOKED_AT_MOST - self._looked)
                rows = self._page(group, newest_first, after, wanted)
                self._looked += len(rows)
                yield from self._allowed(rows)
                if len(rows) < wanted:
                    break
                after = rows[-1].id
                times *= 4  # where many are put off, more are looked at in one go

    def _page(self, group: _Group, newest_first: bool, after: int | None, limit: int) -> list[_Row]:
        values = {
            "_campaign_id": self._campaign_id,
            "_queue": group.queue,
            "_list_id": group.list_id,
            "_priority": group.priority,
            "_after": after if after is not None else (_BEYOND_ALL_IDS if newest_first else 0),
            "_limit": limit,
        }
        query = _NEWEST if newest_first else _OLDEST
        return [_Row(*row) for row in self._connection.execute(query, values)]

    # Who may be called.

    def _allowed(self, rows: Sequence[_Row]) -> Iterator[_Row]:
        candidates = [candidate_of(row.id, row) for row in rows]
        forbidden = suppression_store.entries_for(self._session, [one.number for one in candidates])
        since = self._needed_since()
        histories = attempt_history.of(self._session, candidates, since) if since is not None else Histories()
        for row, candidate in zip(rows, candidates, strict=True):
            calls = [*histories.of(candidate), *self._just_taken(candidate)] if since is not None else ()
            verdict = self._book.verdict(
                candidate,
                calls,
                forbidden.get(candidate.number, ()),
                self._now,
                place=self._place(row, candidate),
            )
            if verdict.allowed:
                verdict = self._agent_verdict(row) or verdict
            if verdict.allowed:
                self._calls[row.id] = calls
                yield row
            else:
                self._note(row, verdict)

    def _just_taken(self, candidate: Candidate) -> Iterable[PastCall]:
        """Calls of this very lease to the candidate's number or account: they count as if they were made already."""
        of_number = self._new_calls.get(candidate.number, ())
        if candidate.account is None:
            return of_number
        of_account = self._new_calls.get(("account", candidate.account), ())
        return [*of_number, *(call for call in of_account if call.number != candidate.number)]

    def _take(self, row: _Row, fit: Fit) -> None:
        self._taken.append((row, fit))
        seller, gateway = self._campaign.seller, fit.slot.gateway
        call = PastCall(self._now, self._campaign_id, seller, row.id, row.number, row.account, gateway)
        self._new_calls[row.number].append(call)
        if row.account is not None:
            self._new_calls["account", row.account].append(call)

    def _needed_since(self) -> datetime | None:
        """How far back calls must be known: as rules ask, and today's where trunks count by the day."""
        moments = self._book.history_since(self._now), needed_since(self._trunks.values(), self._now)
        return min((moment for moment in moments if moment is not None), default=None)

    def _place(self, row: _Row, candidate: Candidate) -> Verdict:
        key = row.zones, row.region
        found = self._places.get(key)
        if found is None:
            found = self._places[key] = self._book.place_verdict(candidate.zones, candidate.region, self._now)
        return found

    def _agent_verdict(self, row: _Row) -> Verdict | None:
        """What forbids a call-back that only one agent is to make; None if nothing does."""
        agent = self._callback_agent(row)
        if agent is None or self._idle_agents is None or agent in self._idle_agents:
            return None
        return Verdict("callback_agent", False, f"promised by {agent}, who is not free", self._now + _AGENT_AGAIN)

    def _callback_agent(self, row: _Row) -> str | None:
        """Whose call-back it is, unless that agent has kept the person waiting for too long."""
        if row.callback_at is None or row.callback_agent is None:
            return None
        patience = timedelta(minutes=self._campaign.callback_patience_minutes)
        return row.callback_agent if self._now < row.callback_at + patience else None

    def _note(self, row: _Row, verdict: Verdict) -> None:
        self._blocked[verdict.rule] += 1
        if verdict.rule == "attempts":  # the manager has lowered it since
            self._ended[LeadStatus.EXHAUSTED].append(row.id)
        elif verdict.rule == "suppressed" and verdict.allowed_at is None:
            self._ended[LeadStatus.SUPPRESSED].append(row.id)
        else:
            self._put_off[verdict.allowed_at or self._now + _NO_MOMENT_YET, verdict.rule].append(row.id)

    def _fit(self, row: _Row) -> bool:
        """Gives `row` a slot; False if there is none for it."""
        failed, calls = History.from_json(row.history).failed_gateways, self._calls.pop(row.id)
        if self._caps_gateways:
            failed += tuple(self._book.full_gateways(candidate_of(row.id, row), calls, self._now))
        to_number = [call for call in calls if call.number == row.number]
        fit = self._slots.fit(row.number, row.region, to_number, failed)
        if isinstance(fit, Fit):
            self._take(row, fit)
            return True
        if fit is None:
            self._unfitted += 1
            if self._in_turn:
                self._slots.left -= 1
        else:
            self._note(row, fit)
        return False

    def _shown(self, day: date) -> Counter[str]:
        numbers = [one.number for trunk in self._trunks.values() for one in trunk.caller_ids]
        rows = self._connection.execute(_SHOWN, {"_day": day, "_numbers": numbers})
        return Counter({row.caller_id: row.calls for row in rows})

    # What is written.

    def _write_put_off(self) -> None:
        for (moment, rule), ids in self._put_off.items():
            values = {"queue": None, "due_at": moment, "put_off_by": rule, "updated_at": self._now}
            _change(self._session, ids, values)
        for status, ids in self._ended.items():
            _change(self._session, ids, {"queue": None, "status": status, "updated_at": self._now})

    def _write_taken(self) -> list[Lease]:
        if not self._taken:
            return []
        values = {
            "status": LeadStatus.DIALING,
            "queue": None,
            "put_off_by": None,
            "attempts": LeadRow.attempts + 1,
            "updated_at": self._now,
        }
        changed = _change(self._session, [row.id for row, *_ in self._taken], values)
        if changed != len(self._taken):  # cannot be while the rows are locked; better no lease than a lead twice
            raise RuntimeError(f"{len(self._taken)} leads were to be leased, and {changed} could be")
        leases = [self._lease_of(*taken) for taken in self._taken]
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

    def _lease_of(self, row: _Row, fit: Fit) -> Lease:
        return Lease(
            uuid=fit.slot.uuid,
            lead_id=row.id,
            number=row.number,
            gateway=fit.slot.gateway,
            switch=fit.slot.switch,
            attempt_no=row.attempts + 1,
            fields=json.loads(row.fields),
            last_disposition=row.last_disposition,
            zones=zones_from_json(row.zones),
            region=row.region,
            kind=row.kind,
            numbers=numbers_from_json(row.numbers),
            number_no=row.number_no,
            account=row.account,
            caller_id=fit.caller_id,
            history=History.from_json(row.history),
            callback_at=row.callback_at,
            callback_agent=self._callback_agent(row),
        )


_lead, _list, _shown_day = (SQLModel.metadata.tables[name] for name in ("lead", "lead_list", "caller_id_day"))

# From range to range of the index, one step each, however many leads are in them. Three questions instead of one
# comparison of three columns, of which SQLite would look up the first and walk through the rest.
_NEXT: Final = "SELECT following.id FROM lead AS following WHERE following.campaign_id = :campaign_id"
_GROUPS: Final = text(
    f"""
    WITH RECURSIVE step(id) AS (
        SELECT (
            SELECT id FROM lead WHERE campaign_id = :campaign_id AND queue IS NOT NULL
            ORDER BY queue, list_id, priority LIMIT 1
        )
        UNION ALL
        SELECT coalesce(
            (
                {_NEXT} AND following.queue = here.queue AND following.list_id = here.list_id
                AND following.priority > here.priority ORDER BY following.priority LIMIT 1
            ),
            (
                {_NEXT} AND following.queue = here.queue AND following.list_id > here.list_id
                ORDER BY following.list_id, following.priority LIMIT 1
            ),
            (
                {_NEXT} AND following.queue > here.queue
                ORDER BY following.queue, following.list_id, following.priority LIMIT 1
            )
        )
        FROM step JOIN lead AS here ON here.id = step.id
    )
    SELECT lead.queue, lead.list_id, lead.priority FROM step JOIN lead ON lead.id = step.id
    """  # noqa: S608 - made of what stands above
)
_LISTS_OF: Final = select(
    *(_list.c[name] for name in ("id", "active", "priority", "weight", "newest_first", "credit"))
).where(_list.c.campaign_id == bindparam("_campaign_id"))
_KEEP_CREDIT: Final = update(_list).where(_list.c.id == bindparam("_id")).values(credit=bindparam("_credit"))
_PAGE: Final = (
    select(*(_lead.c[field.name] for field in attrs.fields(_Row)))
    .where(
        _lead.c.campaign_id == bindparam("_campaign_id"),
        _lead.c.queue == bindparam("_queue"),
        _lead.c.list_id == bindparam("_list_id"),
        _lead.c.priority == bindparam("_priority"),
    )
    .limit(bindparam("_limit"))
    .with_for_update(skip_locked=True)  # PostgreSQL; SQLite's writer is alone from BEGIN IMMEDIATE on
)
_OLDEST: Final = _PAGE.where(_lead.c.id > bindparam("_after")).order_by(_lead.c.id)
_NEWEST: Final = _PAGE.where(_lead.c.id < bindparam("_after")).order_by(_lead.c.id.desc())
_SHOWN: Final = select(_shown_day.c.caller_id, _shown_day.c.calls).where(
    _shown_day.c.day == bindparam("_day"), _shown_day.c.caller_id.in_(bindparam("_numbers", expanding=True))
)
_RESTED: Final = (
    select(_lead.c.id)
    .where(
        _lead.c.campaign_id == bindparam("_campaign_id"),
        text(RESTING),
        _lead.c.due_at <= bindparam("_now"),
    )
    .order_by(_lead.c.due_at, _lead.c.id)
    .limit(bindparam("_limit"))
    .with_for_update(skip_locked=True)
)
# Where a lead waits for its turn, by what is known of it.
_QUEUE_OF: Final = case(
    (_lead.c.callback_at.is_not(None), Queue.CALLBACK.value),
    (_lead.c.status == LeadStatus.WAITING, Queue.RETRY.value),
    else_=Queue.NEW.value,
)


def wake(session: Session, campaign_row_id: int, now: datetime, limit: int = WOKEN_AT_MOST) -> int:
    """Put leads that have rested until `now` into their queues, those that rested longest first; how many."""
    values = {"_campaign_id": campaign_row_id, "_now": now, "_limit": limit}
    ids = session.connection().scalars(_RESTED, values).all()
    return _change(session, ids, {"queue": _QUEUE_OF, "put_off_by": None, "updated_at": now})


def _change(session: Session, ids: Sequence[int], values: Mapping[str, object]) -> int:
    if not ids:
        return 0
    changed = session.connection().execute(
        update(_lead).where(_lead.c.id.in_(ids), _lead.c.status.in_(_CALLABLE)).values(**values)
    )
    return changed.rowcount


def _show(session: Session) -> Any:
    dialect = sqlite if session.connection().dialect.name == "sqlite" else postgresql
    new: sqlite.Insert | postgresql.Insert = dialect.insert(_shown_day)
    return new.on_conflict_do_update(
        index_elements=["caller_id", "day"], set_={"calls": _shown_day.c.calls + new.excluded.calls}
    )


@attrs.frozen
class Outlook:
    """What a campaign still has to call: whether anybody stands in a queue, and when the next one has rested."""

    queued: bool
    next_due_at: datetime | None
    waits_for: str | None = None  # the rule that put that one off; None: it rests after an attempt


def outlook(session: Session, campaign_row_id: int) -> Outlook:
    """What the campaign has to call, now and next: to say why nothing is dialed."""
    connection = session.connection()
    mine = _lead.c.campaign_id == campaign_row_id
    active = select(_list.c.id).where(_list.c.campaign_id == campaign_row_id, _list.c.active)
    queued = connection.scalar(
        select(_lead.c.id).where(mine, _lead.c.queue.is_not(None), _lead.c.list_id.in_(active)).limit(1)
    )
    resting = connection.execute(
        select(_lead.c.due_at, _lead.c.put_off_by)
        .where(mine, text(RESTING))
        .order_by(_lead.c.due_at, _lead.c.id)
        .limit(1)
    ).first()
    return Outlook(queued is not None, *(resting or (None, None)))
