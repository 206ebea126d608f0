"""Do-not-call lists in the database: loaded by the thousand, asked before each call.

An entry is a number or the beginning of numbers, for everybody (`system`), one seller or one campaign, from some
source, for some time or for good. Which entries forbid a number is decided in `rules.suppression`; this only finds
those that may.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

import attrs
from sqlalchemy import bindparam, delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel, col

from campaigns import advisory_locks
from campaigns.advisory_locks import Lock
from campaigns.many import many, one_of
from campaigns.rules import refusal
from campaigns.rules.candidate import SuppressionEntry
from campaigns.rules.refusal import Rest
from campaigns.tables import SuppressionRow
from dialer.errors import InputRefusedError

_PATTERN: Final = re.compile(r"\+[0-9]{1,15}")
_suppression = SQLModel.metadata.tables["suppression"]
_KNOWN: Final = select(_suppression.c.pattern, _suppression.c.is_prefix).where(
    one_of(_suppression.c.pattern, "_patterns"),
    _suppression.c.scope == bindparam("_scope"),
    _suppression.c.scope_name == bindparam("_scope_name"),
)


class Scope(StrEnum):
    """Whose calls an entry forbids. The values are stored: never rename one."""

    SYSTEM = "system"
    SELLER = "seller"
    CAMPAIGN = "campaign"


@attrs.frozen
class NewEntry:
    """What is to be forbidden. Raises InputRefusedError for a pattern that is none."""

    pattern: str = attrs.field()
    is_prefix: bool = False

    @pattern.validator
    def _is_e164(self, _attribute: object, value: str) -> None:
        if not _PATTERN.fullmatch(value):
            raise InputRefusedError(
                f"{value!r} is no number, or beginning of numbers, in E.164, like +12125550100 or +1900"
            )


def scope_of(seller: str | None) -> tuple[Scope, str]:
    """Whose calls somebody means who speaks for themselves: the seller's, or where none is named, everybody's."""
    return (Scope.SYSTEM, "") if seller is None else (Scope.SELLER, seller)


def add_entries(
    session: Session,
    entries: Iterable[NewEntry],
    *,
    scope: Scope,
    scope_name: str,
    source: str,
    added_by: str,
    now: datetime,
    reason: str = "",
    expires_at: datetime | None = None,
) -> int:
    """Forbid `entries`; how many were new.

    One that is there already takes the new source, reason and expiry, unless it forbids the number for longer: to be
    shortened it must be removed first.
    """
    rows = [
        {
            "pattern": entry.pattern,
            "is_prefix": entry.is_prefix,
            "scope": scope.value,
            "scope_name": scope_name,
            "source": source,
            "reason": reason,
            "added_by": added_by,
            "added_at": now,
            "expires_at": expires_at,
        }
        for entry in {(entry.pattern, entry.is_prefix): entry for entry in entries}.values()
    ]
    if not rows:
        return 0
    known = set(
        session.connection().execute(
            _KNOWN,
            {
                "_patterns": many(str(row["pattern"]) for row in rows),
                "_scope": scope.value,
                "_scope_name": scope_name,
            },
        )
    )
    dialect = sqlite if session.connection().dialect.name == "sqlite" else postgresql
    insert: sqlite.Insert | postgresql.Insert = dialect.insert(_suppression)
    changed = {name: insert.excluded[name] for name in ("source", "reason", "added_by", "added_at", "expires_at")}
    statement = insert.on_conflict_do_update(
        index_elements=["pattern", "is_prefix", "scope", "scope_name"],
        set_=changed,
        where=or_(insert.excluded.expires_at.is_(None), _suppression.c.expires_at <= insert.excluded.expires_at),
    )
    session.connection().execute(statement, rows)
    return sum((row["pattern"], row["is_prefix"]) not in known for row in rows)


class Gone(NamedTuple):
    """An entry that was taken away; `lasting` if it would not have ended by itself."""

    pattern: str
    is_prefix: bool
    lasting: bool


def remove_entries(session: Session, entries: Sequence[NewEntry], *, scope: Scope, scope_name: str) -> Sequence[Gone]:
    """Allow what `entries` name again in that scope; those that were forbidden. A prefix is no number, nor it one."""
    numbers = [one.pattern for one in entries if not one.is_prefix]
    prefixes = [one.pattern for one in entries if one.is_prefix]
    pattern, is_prefix = col(SuppressionRow.pattern), col(SuppressionRow.is_prefix)
    gone = session.connection().execute(
        delete(SuppressionRow)
        .where(
            (pattern.in_(numbers) & ~is_prefix) | (pattern.in_(prefixes) & is_prefix),
            col(SuppressionRow.scope) == scope.value,
            col(SuppressionRow.scope_name) == scope_name,
        )
        .returning(col(SuppressionRow.pattern), col(SuppressionRow.is_prefix), col(SuppressionRow.expires_at))
    )
    return [Gone(pattern, is_prefix, expires_at is None) for pattern, is_prefix, expires_at in gone]


def lock_removals(session: Session) -> None:
    """From here to the commit nobody suppresses leads: whoever is about to will see what has been removed."""
    advisory_locks.take(session, Lock.REMOVALS)


def keep_entries(session: Session) -> None:
    """From here to the commit no entry is removed: leads may be suppressed for those that are read now.

    To be called before any lead is locked. It waits; whoever has leads locked asks `may_suppress` instead.
    """
    advisory_locks.take(session, Lock.REMOVALS, shared=True)


def may_suppress(session: Session) -> bool:
    """The same as `keep_entries`, but False where that would have to wait."""
    return advisory_locks.take(session, Lock.REMOVALS, shared=True, wait=False)


def let_rest(session: Session, number: str, rest: Rest, *, attempt: str, now: datetime) -> None:
    """The person called in `attempt` has refused. An entry that forbids the number for as long stays as it is."""
    scope, scope_name = scope_of(rest.seller)
    row = entry_of(session, NewEntry(number), scope, scope_name)
    expires_at = row.expires_at if row is not None else now
    if expires_at is None or expires_at >= rest.until:
        return
    if row is not None and expires_at > now and row.source != refusal.SOURCE:  # it is somebody else's: longer now
        row.expires_at = rest.until
        session.add(row)
        session.flush()
        return
    add_entries(
        session,
        [NewEntry(number)],
        scope=scope,
        scope_name=scope_name,
        source=refusal.SOURCE,
        added_by=refusal.SOURCE,
        now=now,
        reason=_refused_in(attempt),
        expires_at=rest.until,
    )


def rest_no_more(session: Session, number: str, seller: str | None, *, attempt: str) -> Sequence[Gone]:
    """It was no refusal, what was said in `attempt`: its entry goes, if there is one. No lead may be locked yet."""
    scope, scope_name = scope_of(seller)
    row = entry_of(session, NewEntry(number), scope, scope_name)
    if row is None or (row.source, row.reason) != (refusal.SOURCE, _refused_in(attempt)):
        return ()
    lock_removals(session)
    return remove_entries(session, [NewEntry(number)], scope=scope, scope_name=scope_name)


def _refused_in(attempt: str) -> str:
    return f"attempt {attempt}"


def entry_of(session: Session, entry: NewEntry, scope: Scope, scope_name: str) -> SuppressionRow | None:
    """What stands on the list of that scope for exactly that number, or prefix."""
    found = select(SuppressionRow).where(
        col(SuppressionRow.pattern) == entry.pattern,
        col(SuppressionRow.is_prefix).is_(entry.is_prefix),
        col(SuppressionRow.scope) == scope.value,
        col(SuppressionRow.scope_name) == scope_name,
    )
    return session.scalars(found).first()


_COLUMNS = tuple(
    _suppression.c[name] for name in ("pattern", "is_prefix", "scope", "scope_name", "source", "expires_at")
)
_LENGTHS = select(func.length(_suppression.c.pattern)).where(_suppression.c.is_prefix).distinct()
_FOUND = select(*_COLUMNS).where(one_of(_suppression.c.pattern, "_patterns"))


def entries_for(session: Session, numbers: Sequence[str]) -> Mapping[str, Sequence[SuppressionEntry]]:
    """The entries, of any scope and expired ones too, whose pattern is one of `numbers` or a beginning of it."""
    if not numbers:
        return {}
    connection = session.connection()
    lengths = connection.scalars(_LENGTHS).all()
    wanted = list(numbers)
    for length in lengths:
        wanted += {number[:length] for number in numbers}
    exact: defaultdict[str, list[SuppressionEntry]] = defaultdict(list)
    prefixes: defaultdict[str, list[SuppressionEntry]] = defaultdict(list)
    for row in connection.execute(_FOUND, {"_patterns": many(wanted)}).all():
        entry = SuppressionEntry(*row)
        (prefixes if entry.is_prefix else exact)[entry.pattern].append(entry)
    if not prefixes:
        return exact
    found = {
        number: [
            *exact.get(number, ()),
            *(entry for length in lengths for entry in prefixes.get(number[:length], ())),
        ]
        for number in numbers
    }
    return {number: entries for number, entries in found.items() if entries}


def entries(
    session: Session,
    *,
    scope: Scope | None = None,
    scope_name: str | None = None,
    after_id: int = 0,
    limit: int = 1_000,
) -> Sequence[SuppressionRow]:
    """The next `limit` entries after the row `after_id`, in the order they came."""
    query = select(SuppressionRow).where(col(SuppressionRow.id) > after_id)
    if scope is not None:
        query = query.where(col(SuppressionRow.scope) == scope.value)
    if scope_name is not None:
        query = query.where(col(SuppressionRow.scope_name) == scope_name)
    return session.scalars(query.order_by(col(SuppressionRow.id)).limit(limit)).all()


def counts(session: Session) -> Sequence[tuple[str, str, int]]:
    """How many entries each scope has: (scope, its name, entries)."""
    rows = session.connection().execute(
        select(_suppression.c.scope, _suppression.c.scope_name, func.count())
        .group_by(_suppression.c.scope, _suppression.c.scope_name)
        .order_by(_suppression.c.scope, _suppression.c.scope_name)
    )
    return [(scope, name, count) for scope, name, count in rows]
