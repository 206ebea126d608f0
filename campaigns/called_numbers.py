"""What calls to a number say of the next one, whichever leads they were for.

Nobody's phone rings twice at once: a number that is being called for one lead is not called for another. And a
number is to be left alone for a while after somebody found nobody on the line, or was taken for a machine: the law
asks for a rest of the person, who may be in several lists and campaigns of one seller. Whoever that seller has spoken
to since is owed none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import attrs
from sqlalchemy import bindparam, or_, select
from sqlmodel import Session, SQLModel

from campaigns.attempt_history import sellers_of
from campaigns.disposition import Disposition
from campaigns.many import many, one_of
from campaigns.rules.callable import RuleBook
from campaigns.rules.candidate import Candidate
from campaigns.rules.verdict import Verdict, forbidden
from campaigns.tables import CdrRow

IN_CALL: Final = "in_call"  # the rule
LONGEST_CALL: Final = timedelta(hours=4)  # one that is open for longer is of a daemon that has not come back
_LONGEST_LEFT: Final = timedelta(hours=1)  # a call that leaves anybody alone
_AGAIN: Final = timedelta(minutes=1)  # a call may end at any moment
ABANDONED: Final = "abandoned"
MACHINE: Final = "machine"


def lockout_of(cdr: CdrRow) -> str | None:
    """What the call of `cdr` asks a rest for; None for most."""
    if cdr.disposition is Disposition.MACHINE:
        return MACHINE
    # Late, and so abandoned in the statistics of the law, is another thing: an agent has spoken to them.
    left = cdr.disposition is Disposition.ABANDONED or bool(cdr.abandoned)
    return ABANDONED if left and cdr.disposition is not Disposition.BRIDGED else None


@attrs.frozen
class OfNumber:
    """Whether a number is being called, or offered to an agent, and when it was last left alone, in either way."""

    in_call: bool = False
    abandoned_at: datetime | None = None
    machine_at: datetime | None = None

    def told_to(self, candidate: Candidate) -> Candidate:
        """The candidate, with the later of what is known of it and of its number."""
        return attrs.evolve(
            candidate,
            abandoned_at=_later(candidate.abandoned_at, self.abandoned_at),
            machine_at=_later(candidate.machine_at, self.machine_at),
        )


NOTHING: Final = OfNumber()


def in_call(number: str, now: datetime) -> Verdict:
    """What forbids a call to `number`, which is being called."""
    return forbidden(IN_CALL, f"{number} is being called for another lead", now + _AGAIN)


def called(session: Session, book: RuleBook, numbers: Sequence[str], now: datetime) -> Mapping[str, OfNumber]:
    """Those of `numbers` that any campaign is calling, or to which `book`'s seller may owe a rest."""
    since = now - max(LONGEST_CALL, book.longest_lockout + _LONGEST_LEFT)
    rows = session.connection().execute(_CALLS, {"_numbers": many(numbers), "_since": since}).all()
    if not rows:
        return {}
    open_since = now - LONGEST_CALL
    found = {row.number: OfNumber(True) for row in rows if row.closed_at is None and row.opened_at > open_since}
    left = _of_seller(session, book, [row for row in rows if row.lockout is not None])
    if left:
        values = {"_numbers": many({row.number for row in left}), "_since": since}
        talks = _of_seller(session, book, session.connection().execute(_TALKS, values).all())
        spoken_at = {row.number: row.opened_at for row in talks}
        for row in left:
            if spoken_at.get(row.number, row.opened_at) <= row.opened_at:
                at = {"abandoned_at" if row.lockout == ABANDONED else "machine_at": row.closed_at}
                found[row.number] = attrs.evolve(found.get(row.number, NOTHING), **at)
    return found


def _of_seller(session: Session, book: RuleBook, rows: Sequence[Any]) -> list[Any]:
    """Those of the calls `rows` that were made for the same seller, the latest last."""
    sellers = sellers_of(session, {row.campaign_id for row in rows})
    mine = [row for row in rows if sellers[row.campaign_id] == book.campaign.seller]
    return sorted(mine, key=lambda row: row.opened_at)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((each for each in (one, other) if each is not None), default=None)


_attempt = SQLModel.metadata.tables["attempt"]
_RECENT: Final = select(
    *(_attempt.c[name] for name in ("number", "campaign_id", "lockout", "opened_at", "closed_at"))
).where(one_of(_attempt.c.number, "_numbers"), _attempt.c.opened_at >= bindparam("_since"))
_CALLS: Final = _RECENT.where(or_(_attempt.c.closed_at.is_(None), _attempt.c.lockout.is_not(None)))
_TALKS: Final = _RECENT.where(_attempt.c.talked)
