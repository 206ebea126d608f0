"""Leases: a lead that is one daemon's to call, once; how that ends when nothing was sent, and is found again.

`hopper` makes them, in one transaction with their attempts. A lease ends with `store.close_attempt`, or with
`return_unsent`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import attrs
from sqlalchemy import Connection, case, delete, func, update
from sqlmodel import Session, SQLModel, col, select

from campaigns import suppression_store
from campaigns.called_numbers import NOTHING, called
from campaigns.disposition import REFUSED_BY_TRUNKS, Disposition
from campaigns.lead import WITHDRAWN, LeadNumber, LeadStatus, Queue, numbers_from_json, zones_from_json
from campaigns.recycle import History
from campaigns.rules.callable import RuleBook
from campaigns.rules.candidate import Candidate
from campaigns.tables import AttemptRow, LeadRow

_lead, _shown_day = (SQLModel.metadata.tables[name] for name in ("lead", "caller_id_day"))


@attrs.frozen
class Lease:
    """A lead that is this daemon's to call, once, and the slot it is to be called in."""

    uuid: str
    lead_id: int
    number: str
    gateway: str
    switch: str
    attempt_no: int
    fields: Mapping[str, str]
    last_disposition: Disposition | None = None
    zones: tuple[str, ...] = ()
    region: str | None = None
    kind: str = "unknown"
    numbers: tuple[LeadNumber, ...] = ()  # all of the lead's, when there are several
    number_no: int = 0
    list_id: int = 0
    account: str | None = None
    caller_id: str | None = None  # of the trunk's pool; None leaves it to campaign and gateway
    history: History = attrs.field(factory=History)
    callback_at: datetime | None = None  # promised to the person
    callback_agent: str | None = None  # and by that agent in person

    @property
    def is_owed_an_agent(self) -> bool:
        """Whether it is called only with an agent held for it."""
        abandoned = self.last_disposition is Disposition.ABANDONED  # all that is known of it without a history
        return abandoned or is_owed_an_agent(self.history, self.callback_at)

    @property
    def refused_before(self) -> bool:
        """Whether no trunk would carry the lead's last call either; that it is passed on now does not hide it."""
        if self.last_disposition is Disposition.FAILED_OVER:
            return any(self.history.tries.get(one.value) for one in REFUSED_BY_TRUNKS)
        return self.last_disposition in REFUSED_BY_TRUNKS


@attrs.frozen
class Leased:
    """What came of asking for leads: the leases, how many fitted no slot, and how many each rule has put off.

    `more`: as many leads were looked at as may be in one go, and others are behind them; or another daemon looks just
    now at whom it may call, and nobody may be counted twice. `asleep`: more leads have rested long enough than were
    put into their queues in one go; see `queues.wake`.
    """

    leases: Sequence[Lease] = ()
    unfitted: int = 0
    blocked: Mapping[str, int] = attrs.field(factory=dict)
    more: bool = False
    asleep: bool = False


class LeadFacts(Protocol):
    """What rules want to know of a lead; a LeadRow has it, and so has a lead in a queue."""

    @property
    def number(self) -> str: ...
    @property
    def zones(self) -> str: ...
    @property
    def region(self) -> str | None: ...
    @property
    def account(self) -> str | None: ...
    @property
    def attempts(self) -> int: ...
    @property
    def history(self) -> str: ...
    @property
    def callback_at(self) -> datetime | None: ...
    @property
    def consent_at(self) -> datetime | None: ...
    @property
    def consent_evidence(self) -> str | None: ...


class LeaseFacts(Protocol):
    """What else of a lead is in its lease; a LeadRow has that too."""

    @property
    def kind(self) -> str: ...
    @property
    def numbers(self) -> str: ...
    @property
    def number_no(self) -> int: ...
    @property
    def list_id(self) -> int: ...
    @property
    def fields(self) -> str: ...
    @property
    def last_disposition(self) -> Disposition | None: ...


def is_owed_an_agent(history: History, callback_at: datetime | None) -> bool:
    """Whether a lead is called only with an agent held for it: who was abandoned, or was promised a call."""
    return callback_at is not None or history.abandoned_at is not None


def candidate_of(lead_id: int, lead: LeadFacts) -> Candidate:
    """A lead as rules are told of it."""
    history = History.from_json(lead.history)
    return Candidate(
        lead_id=lead_id,
        number=lead.number,
        zones=zones_from_json(lead.zones),
        region=lead.region,
        account=lead.account,
        attempts=lead.attempts,
        consent_at=lead.consent_at,
        consent_evidence=lead.consent_evidence,
        abandoned_at=history.abandoned_at,
        machine_at=history.machine_at,
        refused_at=history.refused_at,
        callback_at=lead.callback_at,
    )


def lease_of(
    lead: LeadFacts,
    details: LeaseFacts,
    *,
    uuid: str,
    lead_id: int,
    gateway: str,
    switch: str,
    attempt_no: int,
    caller_id: str | None,
    callback_agent: str | None,
    number: str,
    account: str | None,
) -> Lease:
    """A lease of `lead`; `number` and `account` are those of its attempt: the lead may have got others since."""
    return Lease(
        uuid=uuid,
        lead_id=lead_id,
        number=number,
        gateway=gateway,
        switch=switch,
        attempt_no=attempt_no,
        fields=json.loads(details.fields),
        last_disposition=details.last_disposition,
        zones=zones_from_json(lead.zones),
        region=lead.region,
        kind=details.kind,
        numbers=numbers_from_json(details.numbers),
        number_no=details.number_no,
        list_id=details.list_id,
        account=account,
        caller_id=caller_id,
        history=History.from_json(lead.history),
        callback_at=lead.callback_at,
        callback_agent=callback_agent,
    )


def send(session: Session, uuid: str, book: RuleBook, now: datetime) -> bool:
    """Note that the offered attempt `uuid` is about to be sent; False if it must not be.

    It may have been closed or returned, its lead withdrawn, or a rule may forbid the call by now: then the caller
    returns it.
    """
    attempt = session.get(AttemptRow, uuid, with_for_update=True)
    if attempt is None or attempt.closed_at is not None:
        return False
    entries = suppression_store.entries_for(session, [attempt.number]).get(attempt.number, ())
    lead = session.get_one(LeadRow, attempt.lead_id)
    of_number = called(session, book, [attempt.number], now).get(attempt.number, NOTHING)
    # Of attempts and caps this very one is a part.
    candidate = attrs.evolve(of_number.told_to(candidate_of(attempt.lead_id, lead)), attempts=0)
    if lead.put_off_by == WITHDRAWN or not book.verdict(candidate, (), entries, now).allowed:
        return False
    attempt.offered = False
    session.add(attempt)
    session.flush()
    return True


def return_unsent(session: Session, uuids: Sequence[str], now: datetime) -> int:
    """Undo the leases of attempts that were never sent, as if they had not been taken; how many that were.

    An attempt that has been closed is on record for good, and is passed over.
    """
    connection = session.connection()
    gone = connection.execute(
        delete(AttemptRow)
        .where(col(AttemptRow.uuid).in_(uuids), col(AttemptRow.closed_at).is_(None))
        .returning(col(AttemptRow.lead_id), col(AttemptRow.caller_id), col(AttemptRow.opened_at))
    ).all()
    if gone:
        lead_ids = [row[0] for row in gone]
        withdrawn = _lead.c.put_off_by == WITHDRAWN
        again = case((_lead.c.attempts > 1, LeadStatus.WAITING.value), else_=LeadStatus.NEW.value)
        connection.execute(
            update(_lead)
            .where(_lead.c.id.in_(lead_ids), _lead.c.status == LeadStatus.DIALING)
            .values(
                status=case((withdrawn, LeadStatus.WITHDRAWN.value), else_=again),
                queue=case(
                    (withdrawn, None),
                    (_lead.c.callback_at.is_not(None), Queue.CALLBACK.value),
                    (_lead.c.attempts > 1, Queue.RETRY.value),
                    else_=Queue.NEW.value,
                ),
                put_off_by=None,
                attempts=_lead.c.attempts - 1,
                updated_at=now,
            )
        )
        for _, caller_id, opened_at in gone:
            if caller_id is not None:
                _take_back_shown(connection, caller_id, opened_at)
    return len(gone)


def _take_back_shown(connection: Connection, caller_id: str, opened_at: datetime) -> None:
    """The call of `opened_at` has not shown `caller_id` after all.

    Which day it was counted for depends on where the trunk is at home: the last of those it may have been, since
    nothing is counted for a day to come.
    """
    day = timedelta(days=1)
    mine = _shown_day.c.caller_id == caller_id
    last = select(func.max(_shown_day.c.day)).where(
        mine, _shown_day.c.day.between(opened_at.date() - day, opened_at.date() + day), _shown_day.c.calls > 0
    )
    connection.execute(
        update(_shown_day)
        .where(mine, _shown_day.c.day == last.scalar_subquery())
        .values(calls=_shown_day.c.calls - 1)
    )


@attrs.frozen
class OpenAttempt:
    """An attempt that was begun and not closed, and the lease that it was begun with."""

    row: AttemptRow
    lease: Lease


def open_attempts_of(session: Session, node: str) -> Sequence[OpenAttempt]:
    """The attempts that `node` has begun and not closed, the oldest first."""
    found = session.exec(
        select(AttemptRow, LeadRow)
        .join(LeadRow, col(LeadRow.id) == AttemptRow.lead_id)
        .where(AttemptRow.node == node, col(AttemptRow.closed_at).is_(None))
        .order_by(col(AttemptRow.opened_at), AttemptRow.uuid)
    )
    return [OpenAttempt(attempt, _lease_again(attempt, lead)) for attempt, lead in found]


def left_by_others(session: Session, node: str, opened_before: datetime) -> Mapping[str, int]:
    """How many attempts each other node than `node` has begun before `opened_before` and not closed."""
    found = session.exec(
        select(AttemptRow.node, func.count())
        .where(col(AttemptRow.closed_at).is_(None), AttemptRow.node != node, AttemptRow.opened_at < opened_before)
        .group_by(AttemptRow.node)
        .order_by(AttemptRow.node)
    )
    return dict(found.all())


def _lease_again(attempt: AttemptRow, lead: LeadRow) -> Lease:
    return lease_of(
        lead,
        lead,
        uuid=attempt.uuid,
        lead_id=attempt.lead_id,
        gateway=attempt.gateway,
        switch=attempt.switch,
        attempt_no=attempt.attempt_no,
        caller_id=attempt.caller_id,
        callback_agent=lead.callback_agent,
        number=attempt.number,
        account=attempt.account,
    )
