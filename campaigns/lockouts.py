"""Numbers that are to be left alone because of a call to them, whichever lead that was for.

Somebody found nobody on the line, or was taken for a machine: the law asks for a rest of the person, who may be in
several lists and campaigns of one seller. Whoever was spoken to since is owed none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import attrs
from sqlalchemy import bindparam, select
from sqlmodel import Session, SQLModel

from campaigns.attempt_history import sellers_of
from campaigns.disposition import Disposition
from campaigns.many import many, one_of
from campaigns.rules.callable import RuleBook
from campaigns.rules.candidate import Candidate
from campaigns.tables import CdrRow

ABANDONED: Final = "abandoned"
MACHINE: Final = "machine"
_LONGEST_CALL: Final = timedelta(hours=1)  # of those that leave anybody alone

_attempt = SQLModel.metadata.tables["attempt"]


def lockout_of(cdr: CdrRow) -> str | None:
    """What the call of `cdr` leaves behind; None for most."""
    if cdr.disposition is Disposition.MACHINE:
        return MACHINE
    # Late, and so abandoned in the statistics of the law, is another thing: an agent has spoken to them.
    left = cdr.disposition is Disposition.ABANDONED or bool(cdr.abandoned)
    return ABANDONED if left and cdr.disposition is not Disposition.BRIDGED else None


@attrs.frozen
class Left:
    """When a number was last left alone, in either way."""

    abandoned_at: datetime | None = None
    machine_at: datetime | None = None

    def told_to(self, candidate: Candidate) -> Candidate:
        """The candidate, with the later of what is known of it and of its number."""
        return attrs.evolve(
            candidate,
            abandoned_at=_later(candidate.abandoned_at, self.abandoned_at),
            machine_at=_later(candidate.machine_at, self.machine_at),
        )


NOT_LEFT: Final = Left()


def left_alone(session: Session, book: RuleBook, numbers: Sequence[str], now: datetime) -> Mapping[str, Left]:
    """Those of `numbers` whose calls by campaigns of the same seller ask for a rest that `book` may want."""
    rest = book.longest_lockout
    if not rest:
        return {}
    values = {"_numbers": many(numbers), "_since": now - rest - _LONGEST_CALL}
    rows = session.connection().execute(_LEFT, values).all()
    if not rows:
        return {}
    spoken = {
        row.number: row.opened_at
        for row in session.connection().execute(_SPOKEN, {**values, "_numbers": many({one.number for one in rows})})
    }
    sellers = sellers_of(session, {row.campaign_id for row in rows})
    found: dict[str, Left] = {}
    for row in rows:  # in their order
        if sellers[row.campaign_id] != book.campaign.seller or spoken.get(row.number, row.opened_at) > row.opened_at:
            continue
        of_number = found.get(row.number, NOT_LEFT)
        found[row.number] = (
            attrs.evolve(of_number, abandoned_at=row.closed_at)
            if row.lockout == ABANDONED
            else attrs.evolve(of_number, machine_at=row.closed_at)
        )
    return found


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((each for each in (one, other) if each is not None), default=None)


_RECENT: Final = one_of(_attempt.c.number, "_numbers"), _attempt.c.opened_at >= bindparam("_since")
_LEFT: Final = (
    select(*(_attempt.c[name] for name in ("number", "campaign_id", "lockout", "opened_at", "closed_at")))
    .where(*_RECENT, _attempt.c.lockout.is_not(None))
    .order_by(_attempt.c.opened_at)
)
_SPOKEN: Final = (
    select(_attempt.c.number, _attempt.c.opened_at).where(*_RECENT, _attempt.c.talked).order_by(_attempt.c.opened_at)
)
